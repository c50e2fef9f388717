"""Answers of models of texts to questions, and how far each can be trusted."""

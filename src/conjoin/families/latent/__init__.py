"""Families whose rows are explained by a few numbers, or codes, that nobody has seen."""

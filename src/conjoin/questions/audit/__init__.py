"""audit: what a model remembers of its rows, and whom it serves worst."""

"""One HTML file about a model."""

"""A fitted model with all that its answers need, and the folder that it is saved in."""

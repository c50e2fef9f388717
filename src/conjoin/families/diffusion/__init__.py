"""Diffusion: data are made noise step by step, and a network learns the way back."""

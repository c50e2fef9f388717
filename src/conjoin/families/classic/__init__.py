"""The classic generative models that the talk lists."""

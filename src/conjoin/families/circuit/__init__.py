"""Probabilistic circuits: deep mixtures in which every marginal and conditional is one pass."""

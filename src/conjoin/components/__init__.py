"""Univariate pieces that families share: leaves, masses of intervals, typicality."""

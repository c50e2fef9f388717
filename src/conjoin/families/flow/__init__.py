"""Flows: invertible functions that carry the rows to standard noise, and an integer flow for
lattices.
"""

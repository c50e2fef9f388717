"""Molecules as graphs, without rdkit: elements, bonds by distances, strings, orders, measures."""

"""Molecules in space <-> events: graphs with coordinates. No file of this folder needs rdkit, but
where hydrogens are to be placed."""

"""Energies: densities that are known up to their constant."""

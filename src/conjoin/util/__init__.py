"""What any program might need, and no model: energy, files that are written whole."""

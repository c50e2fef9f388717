"""Networks that others have trained, as densities: read from a folder, never from the network."""

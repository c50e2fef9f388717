"""What says of a file or a text that a model made it: signed manifests, sidecars, watermarks."""

"""Tables and images with a name: shipped, at hand, or fetched and checked."""

from conjoin.datasets.images import load_images
from conjoin.datasets.tables import Dataset, load, load_binary, names

__all__ = ["Dataset", "load", "load_binary", "load_images", "names"]

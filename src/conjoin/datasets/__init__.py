"""Tables, images and texts with a name: shipped, at hand, or fetched and checked; points, scenes
and an invented world of texts drawn from a seed."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conjoin.datasets.biographies import Bios, bios
    from conjoin.datasets.concepts import concept_of
    from conjoin.datasets.images import load_images
    from conjoin.datasets.molecules import load_molecules
    from conjoin.datasets.scenes import draw_scenes, judge_scene, scene_of
    from conjoin.datasets.tables import Dataset, load, load_binary, names
    from conjoin.datasets.text import load_texts
    from conjoin.datasets.toys import TOYS, toy

__all__ = [
    "TOYS",
    "Bios",
    "Dataset",
    "bios",
    "concept_of",
    "draw_scenes",
    "judge_scene",
    "load",
    "load_binary",
    "load_images",
    "load_molecules",
    "load_texts",
    "names",
    "scene_of",
    "toy",
]

# of others "tables"
_HOMES = {
    "Bios": "biographies",
    "bios": "biographies",
    "concept_of": "concepts",
    "draw_scenes": "scenes",
    "judge_scene": "scenes",
    "scene_of": "scenes",
    "load_images": "images",
    "load_molecules": "molecules",
    "load_texts": "text",
    "TOYS": "toys",
    "toy": "toys",
}


def __getattr__(name: str) -> Any:
    """Loaded when they are asked for, so that importing the package loads no array library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "tables")
    return getattr(importlib.import_module(f"conjoin.datasets.{home}"), name)

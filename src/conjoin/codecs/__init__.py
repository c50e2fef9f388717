"""Raw data <-> events: one codec for each kind of data. Importing this package loads neither torch
nor pandas.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conjoin.chemistry.graph import Molecule
    from conjoin.codecs.image.codec import ImageCodec
    from conjoin.codecs.image.files import read_images
    from conjoin.codecs.kinds import KINDS, codec_for, codec_from_json, kind_of
    from conjoin.codecs.molecule.reading import read_molecules
    from conjoin.codecs.table import (
        Column,
        Limits,
        Schema,
        TableCodec,
        as_frame,
        inspect,
        read_table,
    )

__all__ = [
    "KINDS",
    "Column",
    "ImageCodec",
    "Limits",
    "Molecule",
    "Schema",
    "TableCodec",
    "as_frame",
    "codec_for",
    "codec_from_json",
    "inspect",
    "kind_of",
    "read_images",
    "read_molecules",
    "read_table",
]

_HOME = {name: "conjoin.codecs.table" for name in __all__} | {
    "ImageCodec": "conjoin.codecs.image.codec",
    "read_images": "conjoin.codecs.image.files",
    "Molecule": "conjoin.chemistry.graph",
    "read_molecules": "conjoin.codecs.molecule.reading",
    **dict.fromkeys(("KINDS", "codec_for", "codec_from_json", "kind_of"), "conjoin.codecs.kinds"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)

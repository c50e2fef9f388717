"""Tables: reading files, inferring what each column means, and the codec to and from events.

``read_table`` makes a DataFrame of a file, ``Chunks`` many of a file that is too large for one,
``inspect`` a Schema of a DataFrame; ``TableCodec.encode`` makes events (B, D) float64 of a
DataFrame, ``TableCodec.decode`` a DataFrame of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conjoin.codecs.table.chunks import Chunks
    from conjoin.codecs.table.codec import TableCodec
    from conjoin.codecs.table.frame import as_frame
    from conjoin.codecs.table.infer import inspect
    from conjoin.codecs.table.read import read_table
    from conjoin.codecs.table.schema import Column, Schema
    from conjoin.codecs.table.stream import Limits

__all__ = [
    "Chunks",
    "Column",
    "Limits",
    "Schema",
    "TableCodec",
    "as_frame",
    "inspect",
    "read_table",
]

_HOME = {
    "Chunks": "chunks",
    "Column": "schema",
    "Limits": "stream",
    "Schema": "schema",
    "TableCodec": "codec",
    "as_frame": "frame",
    "inspect": "infer",
    "read_table": "read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

"""What kinds of data there are. A new kind is one more line in ``KINDS``; it is imported when it is
asked about."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from conjoin.codecs.table.frame import frame_in
from conjoin.codecs.table.native import plain_frame
from conjoin.codecs.table.overrides import named_categories

__all__ = [
    "KINDS",
    "codec_for",
    "codec_from_json",
    "kind_of",
    "kinds",
    "other_columns",
    "thing_beside",
]

# Asked in this order; the table takes what is left.
KINDS: dict[str, str] = {
    "image": "conjoin.codecs.image.codec:ImageCodec",
    "molecule": "conjoin.codecs.molecule.codec:MoleculeCodec",
    "smiles": "conjoin.codecs.smiles.codec:SmilesCodec",
    "text": "conjoin.codecs.text:TextCodec",
    "illustrated": "conjoin.codecs.composite:CompositeCodec",
    "record": "conjoin.codecs.composite:CompositeCodec",
    "sequence": "conjoin.codecs.sequence:SequenceCodec",
    "table": "conjoin.codecs.table.codec:TableCodec",
}


def kinds() -> Iterator[Any]:
    """The class of each kind, in the order in which they are asked."""
    for home in KINDS.values():
        yield _class_at(home)


def _class_at(home: str) -> Any:
    module, name = home.split(":")
    return getattr(importlib.import_module(module), name)


def _opened(raw: Any, types: Any) -> tuple[Any, Path]:
    """The table in a file, and the folder of the file: it is read once, whichever kind it is. A
    file that only one kind reads is left to it."""
    if isinstance(raw, str | Path) and any(kind.opens(raw) for kind in kinds()):
        return raw, Path(raw).parent
    if isinstance(raw, str | Path):
        return frame_in(raw, named_categories(types)), Path(raw).parent
    return plain_frame(raw), Path()


def kind_of(raw: Any, types: Any = None, missing: Any = ()) -> Any:
    """The class of the codec that reads ``raw``. ``types``, ``missing``: what the user says of
    columns."""
    return next(kind for kind in kinds() if kind.claims(raw, types, missing))


def codec_for(raw: Any, *, types: Any = None, missing: Any = (), **options: Any) -> tuple[Any, Any]:
    """A codec for data such as ``raw``, not yet fitted, and ``raw`` as its rows.

    Raises ValueError in one sentence for data that no kind can read."""
    raw, folder = _opened(raw, types)
    kind = kind_of(raw, types, missing)
    raw = kind.in_folder(raw, folder, types, missing)
    return kind.begin(raw, types=types, missing=missing, **options)  # type: ignore[no-any-return]


def codec_from_json(data: Mapping[str, Any]) -> Any:
    """The codec that a model was saved with. ValueError for a kind that is not known here."""
    kind = data.get("kind", "table")
    if kind not in KINDS:
        raise ValueError(
            f"The model reads data of the kind {kind!r}, which is not known here; known are "
            f"{', '.join(KINDS)}."
        )
    return _class_at(KINDS[kind]).from_json(data)


def thing_beside(frame: Any) -> Any:
    """The column of a table that holds things without columns of their own, such as molecules in
    space, beside columns of their properties; None where there is none. ValueError for two."""
    able = [kind for kind in kinds() if kind.stands_beside]
    found = []
    for name, cells in frame.items() if isinstance(frame, pd.DataFrame) else ():
        if cells.dtype == object and cells.notna().any():
            known = cells[cells.notna()].tolist()
            found += [name] if any(kind.claims(known) for kind in able) else []
    if len(found) > 1:
        raise ValueError(
            f"The columns {found[0]!r} and {found[1]!r} both hold molecules in space: give one."
        )
    return found[0] if found else None


def other_columns(raw: Any, types: Any = None, missing: Any = ()) -> list[Any]:
    """Columns of a table that hold data of another kind, such as pictures."""
    found = [name for kind in kinds() for name in kind.columns_in(raw, types, missing)]
    return list(dict.fromkeys(found))

"""Molecules alone <-> events: a list of SMILES strings, or a table of one column of them.

log p of a row is that of the tokens of its string, which has mass: there is no unit to convert.
Answers are frames of that one column. Molecules beside columns are a table's
(``conjoin.codecs.composite``).

Shape letters: B rows, N tokens.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from torch import Tensor

from conjoin.codecs.sequence import Prefix
from conjoin.codecs.smiles.column import Molecules, SmilesColumn
from conjoin.codecs.table import Schema
from conjoin.codecs.table.overrides import missing_of, overrides_of
from conjoin.codecs.table.rows import TableRows, filled
from conjoin.codecs.table.words import field_of
from conjoin.core import Codec, Encoded, Event, Field, Rows, Space, space_of_rows

__all__ = ["SmilesCodec"]

NAME = "smiles"  # of molecules whose list has no name


class SmilesCodec(Codec):
    """``molecules`` reads the strings."""

    kind = "smiles"
    noun = "molecule"
    cells = "tokens"
    plural = "molecules"
    collection = "set of molecules"
    one_answer = True

    def __init__(self, column: SmilesColumn) -> None:
        self.column = column
        self.owner = "SmilesCodec"

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Strings that the user says are SMILES, or that nearly all are."""
        series = _series_of(raw)
        if series is None:
            return False
        asked = _asked(types, series.name)
        if asked:
            return asked.get("type") == SmilesColumn.type
        return SmilesColumn.recognises(series)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        series = _series_of(raw)
        assert series is not None
        types = options.get("types")
        asked = overrides_of(types, [series.name]).get(series.name, {}) if types else {}
        blanks = missing_of(options.get("missing") or (), [series.name]).get(series.name, ())
        column, cells = SmilesColumn.begin(series.name, series, asked, blanks)
        codec = cls(column)
        return codec, codec._framed(cells, series.index)

    def _framed(self, cells: Any, index: Any) -> TableRows:
        return TableRows(pd.DataFrame({self.column.name: pd.Series(cells, index, dtype=object)}))

    def rows(self, raw: Any) -> TableRows:
        if isinstance(raw, TableRows):
            return raw
        if isinstance(raw, pd.DataFrame) and self.column.name in raw:
            cells = list(self.column.cells(raw[self.column.name]))
            frame = raw.copy()
            frame[self.column.name] = pd.Series(cells, raw.index, dtype=object)
            return TableRows(frame)
        series = None if isinstance(raw, pd.DataFrame) else _series_of(raw)
        if series is None:
            raise ValueError(
                f"X must be a list of SMILES strings, or a table with the column "
                f"{self.column.name!r}, as at the fit; got {type(raw).__name__}."
            )
        return self._framed(list(self.column.cells(series)), series.index)

    def fit(self, raw: Any, weight: Any = None) -> Self:
        self.column.fit(self._cells(raw), weight)
        return self

    def broaden(self, raw: Any) -> None:
        self.column.broaden(self._cells(raw))

    @property
    def broadens(self) -> bool:
        return True

    def _cells(self, raw: Any) -> list[Any]:
        return list(self.rows(raw).frame[self.column.name])

    # ------------------------------------------------------------------ raw <-> event

    def encode(self, raw: Any) -> Encoded:
        return self.column.encode(self._cells(raw))

    def evidence(self, given: Mapping[Any, Any]) -> Event:
        """A molecule, or with ``Prefix`` the beginning of its string."""
        name = self.column.name
        if list(given) != [name] or not isinstance(given[name], str):
            raise ValueError(
                f"given of molecules is {{{name!r}: a SMILES string}}, or {{{name!r}: "
                f"Prefix(its beginning)}}; got {dict(given)!r}."
            )
        cell = given[name]
        cells = [cell] if isinstance(cell, Prefix) else list(self.column.cells([cell]))
        encoded = self.column.encode(cells)
        if bool(encoded.unseen.any()):
            raise ValueError(f"given asks for {self.column.unseen_words(cell)}")
        return encoded.event

    def unseen_words(self, name: Any, value: Any) -> str:
        return self.column.unseen_words(value)

    def decode(self, value: Tensor, observed: Tensor | None = None) -> pd.DataFrame:
        cells = self.column.decode(value, observed)
        return pd.DataFrame({self.column.name: pd.Series(cells, dtype=object)})

    def raw(self, rows: Rows) -> pd.DataFrame:
        frame: pd.DataFrame = rows.frame
        return frame

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> TableRows:
        known = observed.all(1)[:, None].numpy()
        return TableRows(filled(rows.frame, self.columns, known, decoded, self.schema))

    # ------------------------------------------------------------------ what was learned

    @property
    def space(self) -> Space:
        block = self.column.block
        cells = [
            dataclasses.replace(variable, name=f"{block.name} {place}")
            for place, variable in enumerate(block.laid.cells(block))
        ]
        return space_of_rows(tuple(cells), (block,))

    @property
    def parts(self) -> tuple[slice, ...]:
        return slice(0, 0), slice(0, self.column.capacity)

    @property
    def structures(self) -> tuple[Molecules, ...]:
        cells = slice(0, self.column.capacity)
        return (Molecules(self.column.name, cells, self.column.vocabulary),)

    @property
    def several_ways(self) -> bool:  # type: ignore[override]
        return self.column.several_ways

    @property
    def schema(self) -> Schema:
        return Schema((self.column.column,))

    @property
    def columns(self) -> list[Any]:
        return [self.column.name]

    @property
    def notices(self) -> list[str]:
        return self.column.notices

    @property
    def size_words(self) -> str:
        return f"molecules of {len(self.column.vocabulary.texts):,} tokens"

    @property
    def inputs(self) -> tuple[str, str]:
        tokens = len(self.column.vocabulary.texts)
        return "molecules", f"{tokens:,} tokens, at most {self.column.capacity} in a molecule"

    def fields(self) -> list[Field]:
        return [field_of(self.column.column)]

    def unlike(self, known: Any, part: int | None = None) -> str:
        if part == 0:
            return f"{self.column.name} has an atom that the fit never saw, or is longer than any"
        return self.column.unlike

    def oddest(self, rows: Rows, encoded: Encoded, nats: Tensor) -> list[str]:
        (molecules,) = self.structures
        return molecules.oddest(encoded.event.value, nats, self._cells(rows))

    # ------------------------------------------------------------------ saving

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "column": self.column.to_json(), "owner": self.owner}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(SmilesColumn.from_json(data["column"]))
        codec.owner = data["owner"]
        return codec


def _series_of(raw: Any) -> pd.Series | None:
    """Strings as one column with a name; None for what is no such thing."""
    if isinstance(raw, pd.DataFrame):
        return raw.iloc[:, 0] if raw.shape[1] == 1 else None
    if isinstance(raw, pd.Series):
        return raw.rename(NAME) if raw.name is None else raw
    if isinstance(raw, str) or (not isinstance(raw, list | tuple) and not _is_array(raw)):
        return None
    return pd.Series(list(raw), name=NAME, dtype=object)


def _is_array(raw: Any) -> bool:
    return getattr(raw, "ndim", None) == 1 and getattr(raw, "dtype", None) is not None


def _asked(types: Any, name: Any) -> dict[str, Any]:
    """What the user says of the strings; nothing where all that is said is of other columns."""
    if not types or (isinstance(types, Mapping) and name not in types):
        return {}
    return overrides_of(types, [name]).get(name, {})

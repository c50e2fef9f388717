"""The rows of a table, as fits and questions hold them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.codecs.table.later import Unread
from conjoin.codecs.table.reading import gaps_of
from conjoin.codecs.table.schema import Schema

__all__ = ["TableRows", "content_hashes", "filled"]

MIN_DISTINCT_ROWS = 50  # in fewer, columns without a repeated value are common


@dataclass(frozen=True)
class TableRows:
    """A checked frame, and which of its cells could not be read. It is not checked again, so it
    must not be changed."""

    frame: pd.DataFrame
    unread: tuple[Unread, ...] = ()

    @property
    def index(self) -> Any:
        return self.frame.index

    @property
    def names(self) -> Sequence[Any]:
        return list(self.frame.columns)

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray | slice) -> Self:
        return type(self)(self.frame.iloc[rows], self._unread_of(rows))

    def _unread_of(self, rows: np.ndarray | slice) -> tuple[Unread, ...]:
        if not self.unread:
            return ()
        cells: dict[int, list[Unread]] = {}
        for cell in self.unread:
            cells.setdefault(cell.place, []).append(cell)
        places = np.arange(len(self))[rows].tolist()
        return tuple(
            cell._replace(place=new)
            for new, old in enumerate(places)
            for cell in cells.get(old, ())
        )

    def hashes(self) -> np.ndarray:
        return content_hashes(self.frame)

    def repeat_by_chance(self) -> bool:
        """Not where each of two columns by itself has another value in all rows that differ, as
        measured numbers have."""
        distinct = len(np.unique(self.hashes()))
        if distinct == len(self) or distinct < MIN_DISTINCT_ROWS:
            return True
        telling = (name for name in self.frame if _different(self.frame[name]) >= distinct)
        return len(list(itertools.islice(telling, 2))) < 2


def _different(series: Any) -> int:
    """How many different cells there are; gaps count as one."""
    plain = not pd.api.types.is_object_dtype(series.dtype)
    return int((series if plain else series.astype(str)).nunique(dropna=False))


def content_hashes(frame: pd.DataFrame) -> np.ndarray:
    """(B,) uint64: equal for equal rows."""
    mixed = [name for name, dtype in frame.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
    return pd.util.hash_pandas_object(
        frame.astype(dict.fromkeys(mixed, str)), index=False
    ).to_numpy()


def filled(
    frame: pd.DataFrame,
    columns: Sequence[Any],
    observed: np.ndarray,
    decoded: pd.DataFrame,
    schema: Schema,
) -> pd.DataFrame:
    """The frame, where missing cells of ``columns`` that are not ``observed`` (B, D) are those of
    ``decoded``. ``schema`` says which words mean missing."""
    out = frame.copy()
    known = {column.name: column for column in schema.columns}
    for place, name in enumerate(columns):
        gap = ~observed[:, place]
        if name in frame:
            cells = frame[name]
            gap &= gaps_of(known[name], cells) if name in known else cells.isna().to_numpy()
        if gap.any():
            out[name] = _patch(frame.get(name), decoded[name], gap, frame.index)
    return out


def _patch(old: pd.Series | None, new: pd.Series, gap: np.ndarray, index: pd.Index) -> pd.Series:
    """The old column with the cells of ``gap`` from the new one; in the new one's dtype once
    nothing is missing."""
    fresh = new.set_axis(index)
    if old is None or gap.all():
        return fresh
    mixed = old.astype(object).where(~gap, fresh.astype(object))
    try:
        return mixed.astype(fresh.dtype)
    except (TypeError, ValueError):
        return mixed.infer_objects()

"""Several tables of the same columns as plain numbers, so that they can be compared cell by cell.

A category is the code of its level, the most frequent first; a date is days; NaN is a missing cell.
Nothing is rounded: what sets a synthetic table apart from a real one must stay to be seen.

Shape letters: B rows, D columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table import inspect
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank, map_distinct, text_of

__all__ = ["Coded", "coded", "some_rows"]

MAX_COLUMNS = 60  # looked at; of more, so many are taken at even steps


@dataclasses.dataclass(frozen=True)
class Coded:
    """``tables``: (B, D) float64 for each frame; ``discrete``: (D,) which columns are codes;
    ``left_out``: columns not compared."""

    names: list[Any]
    discrete: np.ndarray
    tables: list[np.ndarray]
    left_out: list[Any]


def coded(frames: Mapping[str, pd.DataFrame], target: Any = None) -> Coded:
    """The tables as numbers. What a column is, the first of them tells; identifiers and the like
    are left out.

    ValueError names a column that one of the tables lacks, and the target where there is no such
    column."""
    first = next(iter(frames.values()))
    if target is not None and target not in first:
        raise ValueError(
            f"There is no column {target!r} to be the target; the columns are "
            f"{', '.join(map(str, first.columns))}."
        )
    schema = inspect(first, target=target)
    columns = _some(
        [c for c in schema.columns if c.role != "set aside" or c.name == target], target
    )
    for name, frame in frames.items():
        lost = [column.name for column in columns if column.name not in frame]
        if lost:
            raise ValueError(
                f"The {name} table has no column {lost[0]!r}, which the first table has."
            )
    cells = [
        _column(column, [frame[column.name] for frame in frames.values()]) for column in columns
    ]
    names = [column.name for column in columns]
    tables = [np.stack(parts, 1) for parts in zip(*cells, strict=True)]
    left_out = [name for name in first.columns if name not in names]
    return Coded(names, np.array([not column.numeric for column in columns]), tables, left_out)


def _some(columns: list[Column], target: Any) -> list[Column]:
    kept = (
        set(np.linspace(0, len(columns) - 1, MAX_COLUMNS).astype(int))
        if len(columns) > MAX_COLUMNS
        else set(range(len(columns)))
    )
    return [
        column for place, column in enumerate(columns) if place in kept or column.name == target
    ]


def _column(column: Column, parts: Sequence[Any]) -> list[np.ndarray]:
    """The cells of one column, table by table."""
    if column.numeric:
        return [numbers_of(column, blank(part, column.missing))[0] for part in parts]
    texts = [map_distinct(part.astype(object), text_of, None, object) for part in parts]
    others = [np.unique(text[text != None]) for text in texts[1:]]  # noqa: E711 (of each cell)
    levels = pd.Series(np.concatenate([*texts[:1], *others])).value_counts()
    codes = {level: float(code) for code, level in enumerate(levels.index)}
    return [np.array([codes.get(text, np.nan) for text in part]) for part in texts]


def some_rows(frame: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """So many rows by chance, in their order, or all there are."""
    return frame.iloc[np.sort(rng.permutation(len(frame))[:rows])].reset_index(drop=True)

"""Columns of targets: numbers, of which some are only known to lie within bounds, and classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conjoin.codecs.table.frame import check_cells
from conjoin.model.targets import Meant, class_labels

__all__ = ["UNKNOWN", "Limits", "TargetColumn", "limits_in", "read_columns"]

UNKNOWN = "None where it is not known"  # what else a cell of a target may be
_BOUND = re.compile(r"\s*(?P<sign>[<>]=?|≤|≥)\s*(?P<number>\S+)\s*")


@dataclass(frozen=True)
class TargetColumn:
    """One target of B rows.

    Attributes
    ----------
    name
        Of the column.
    values
        (B,) labels, or numbers; of a row that is not known, any of them.
    known
        (B,) bool.
    low, high
        (B,) bounds of a number; infinite where there is none, and for classes None. A row with
        bounds is not ``known``.
    strict
        (B,) bool: whether the bound itself is excluded, which counts for recorded numbers.
    told
        What the user should be told of it.
    """

    name: str
    values: np.ndarray
    known: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    strict: np.ndarray | None = None
    told: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return self.low is not None

    @property
    def censored(self) -> np.ndarray:
        """(B,) bool: rows whose number is not known but has a bound."""
        if self.low is None or self.high is None:
            return np.zeros(len(self.values), dtype=bool)
        return ~self.known & (np.isfinite(self.low) | np.isfinite(self.high))

    def take(self, index: np.ndarray) -> "TargetColumn":
        """The rows at ``index``."""
        parts = (self.values, self.known, self.low, self.high, self.strict)
        taken = (None if part is None else part[index] for part in parts)
        return TargetColumn(self.name, *taken, told=self.told)  # type: ignore[arg-type, misc]


class Limits(NamedTuple):
    """Bounds of numbers that are not known, (B,) each; infinite where there is none."""

    low: np.ndarray
    high: np.ndarray
    strict: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """(B,) where there is one."""
        return np.isfinite(self.low) | np.isfinite(self.high)


def limits_in(cells: np.ndarray, known: np.ndarray) -> Limits | None:
    """What cells such as "<0.1" and ">= 10000" say of a number; None where there are none."""
    found = {
        row: cells[row]
        for row in np.flatnonzero(known).tolist()
        if isinstance(cells[row], str) and _BOUND.fullmatch(cells[row])
    }
    out = Limits(
        np.full(len(cells), -np.inf), np.full(len(cells), np.inf), np.zeros(len(cells), dtype=bool)
    )
    for row, cell in found.items():
        try:
            low, high, strict = _bounds(cell)
        except ValueError:  # what is behind the sign is no number, which is told as of any word
            continue
        if not (np.isnan(low) or np.isnan(high)):
            out.low[row] = low
            out.high[row] = high
            out.strict[row] = strict
    return out if out.rows.any() else None


def read_columns(
    Y: pd.DataFrame, unlabelled: Any = None, meant: Mapping[str, Meant] | None = None
) -> list[TargetColumn]:
    """The targets in a frame, a column each.

    Columns of numbers are numbers; words, booleans and categories are classes. In a column of
    numbers a cell may be a bound, ">10", ">=10", "<5", "<=5", or a pair (low, high) with None where
    it is open.

    Parameters
    ----------
    unlabelled
        A value that means "not known"; NaN, None and NA always do.
    meant
        By the names of targets what else means "not known", and which spellings are one label.

    Raises
    ------
    ValueError
        For a name that stands twice, a column without any value, or a cell that is none of these;
        it names column, row and value.
    TypeError
        For a cell among classes that is no plain value, such as a list.
    """
    said = {} if meant is None else meant
    names = list(map(str, Y.columns))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Y has two columns named {twice!r}: every target needs its own name.")
    return [
        _column(name, Y.iloc[:, i], unlabelled, said.get(name, Meant()))
        for i, name in enumerate(names)
    ]


def _column(name: str, column: pd.Series, unlabelled: Any, meant: Meant) -> TargetColumn:
    if column.dtype == object:
        column = _checked(name, column)
    missing = column.isna()
    if unlabelled is not None:
        missing |= column == unlabelled
    if meant != Meant():
        column = meant.read(column)
        missing |= column.isna()
    known = ~missing.to_numpy(dtype=bool)
    if not known.any():
        raise ValueError(f"The target {name!r} has no value in any row.")
    cells = column.to_numpy(dtype=object)
    if _holds_numbers(column, cells[known]):
        return _numbers(name, cells, known)
    return TargetColumn(name, class_labels(cells, known), known)


def _holds_numbers(column: pd.Series, cells: np.ndarray) -> bool:
    types = pd.api.types
    if types.is_bool_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if types.is_numeric_dtype(column.dtype):
        return True
    return any(_is_amount(cell) for cell in cells) and not any(isinstance(c, bool) for c in cells)


def _is_amount(cell: Any) -> bool:
    """Whether a cell is a number or a bound of one; digits in a word are the name of a class."""
    if isinstance(cell, str):
        return _BOUND.fullmatch(cell) is not None
    return isinstance(cell, int | float | np.number | tuple)


def _checked(name: str, column: pd.Series) -> pd.Series:
    """The column with pairs (low, high) as tuples. TypeError for a cell that is neither a plain
    value nor such a pair."""
    check_cells(f"Target {name!r}", [None if _is_pair(cell) else cell for cell in column], UNKNOWN)
    cells = [tuple(cell) if _is_pair(cell) else cell for cell in column]
    return pd.Series(cells, index=column.index, name=column.name, dtype=object)


def _is_pair(cell: Any) -> bool:
    if not isinstance(cell, tuple | list) or len(cell) != 2:
        return False
    return all(end is None or isinstance(end, int | float | np.number) for end in cell)


def _numbers(name: str, cells: np.ndarray, known: np.ndarray) -> TargetColumn:
    values = np.zeros(len(cells))
    low = np.full(len(cells), -np.inf)
    high = np.full(len(cells), np.inf)
    exact = known.copy()
    strict = np.zeros(len(cells), dtype=bool)
    for row in np.flatnonzero(known):
        try:
            low[row], high[row], strict[row] = _bounds(cells[row])
        except (TypeError, ValueError):
            raise ValueError(
                f"The target {name!r} has {cells[row]!r} in row {row}: a cell is a number, a "
                "bound such as '>10' or '<=5', a pair (low, high) with None where it is open, or "
                "missing."
            ) from None
        exact[row] = low[row] == high[row]
        values[row] = low[row] if exact[row] else 0.0
    if not np.isfinite(values[exact]).all():
        raise ValueError(f"The target {name!r} contains infinity; as a bound, give None.")
    low[exact] = -np.inf
    high[exact] = np.inf
    return TargetColumn(name, values, exact, low, high, strict)


def _bounds(cell: Any) -> tuple[float, float, bool]:
    """Low, high, and whether these are excluded."""
    if isinstance(cell, tuple | list):
        low, high = cell
        ends = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
        if not ends[0] <= ends[1]:
            raise ValueError
        return *ends, False
    found = _BOUND.fullmatch(cell) if isinstance(cell, str) else None
    if found is None:
        return float(cell), float(cell), False
    number = float(found["number"])
    above = found["sign"][0] in ">≥"
    return (number if above else -np.inf), (np.inf if above else number), found["sign"] in "<>"

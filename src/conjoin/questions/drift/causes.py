"""What has changed in a column, in words: its median, the share of a level or of missing cells,
values beyond all others, new values.

Values that the earlier table has not are told even where they are too few for a test: five
impossible ones among hundreds of rows may well be chance to any test that assumes nothing of the
column.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from conjoin.codecs.table import TableCodec
from conjoin.codecs.table.guess import level_cells
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank, text_of
from conjoin.core import Event
from conjoin.questions.drift.tests import end_p_value, gap_p_value, ks_p_value

__all__ = ["new_values", "told"]

Array = NDArray[Any]

MAX_SHOWN_VALUES = 3
MAX_DEVIATIONS = 3.0  # of the number of new values, beyond what rare values make likely
FAR_RANGES = 1.0  # ranges of the earlier values beyond which a number is far from all of them


def told(codec: TableCodec, column: int, a: Event, b: Event, discrete: bool) -> tuple[str, str]:
    """What says most that a column has changed: in the first table, and in the second."""
    sides = [np.where(e.mask[:, column], e.value[:, column], np.nan) for e in (a, b)]
    if all(np.isnan(side).all() for side in sides):
        return "100% missing", "100% missing"
    return (_level_told if discrete else _number_told)(codec, column, *sides)


def _missing_told(a: Array, b: Array) -> tuple[str, str]:
    gaps = [float(np.isnan(side).mean()) for side in (a, b)]
    return f"{gaps[0]:.0%} missing", f"{gaps[1]:.0%} missing"


# ------------------------------------------------------------------------------------------- levels


def _level_told(codec: TableCodec, place: int, a: Array, b: Array) -> tuple[str, str]:
    """The share of the level, or of missing cells, that adds most to chi-square."""
    column = codec.schema.modelled[place] if place < len(codec.columns) else None
    levels = codec.space.variables[place].cardinality
    codes = [np.where(np.isnan(side), levels, side).astype(np.int64) for side in (a, b)]
    shares = np.array([np.bincount(each, minlength=levels + 1) / len(each) for each in codes])
    level = int(((shares[1] - shares[0]) ** 2 / np.maximum(shares.sum(0), 1e-300)).argmax())
    if level == levels:
        return _missing_told(a, b)
    name = ("no", "yes")[level] if column is None else column.level_words(level)
    before, after = (f"{name} {share:.1%}" for share in shares[:, level])
    return before, after + (", a new level" if shares[0, level] == 0 else "")


# ------------------------------------------------------------------------------------------ numbers


def _number_told(codec: TableCodec, place: int, a: Array, b: Array) -> tuple[str, str]:
    """The median; the share of missing cells, or the values beyond all of the other table, where
    they say more."""
    known = [side[~np.isnan(side)] for side in (a, b)]
    if not all(map(len, known)):
        return _missing_told(a, b)
    by_gap = gap_p_value(a, b)
    by_end = end_p_value(*known)
    by_value = ks_p_value(*known)
    if by_gap < min(by_end, by_value):
        return _missing_told(a, b)
    if by_end < by_value:
        return _range_told(codec, place, known[0]), _range_told(codec, place, known[1])
    shown = [_decoded(codec, place, float(np.median(side))) for side in known]
    return f"median {shown[0]}", f"median {shown[1]}"


def _range_told(codec: TableCodec, place: int, side: Array) -> str:
    low, high = (_decoded(codec, place, float(end)) for end in (side.min(), side.max()))
    return f"from {low} to {high}"


def _decoded(codec: TableCodec, place: int, value: float) -> str:
    row = torch.full((1, len(codec.space.variables)), torch.nan, dtype=torch.float64)
    row[0, place] = value
    raw = codec.decode_column(row, place).iloc[0]
    return f"{raw:.4g}" if isinstance(raw, float | np.floating) else str(raw)


# --------------------------------------------------------------------------------------- new values


def new_values(codec: TableCodec, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """A sentence for each column of the second table that has values which the first can't be
    expected to have."""
    sentences = (
        (_odd_numbers if column.numeric else _new_levels)(column, a[column.name], b[column.name])
        for column in codec.schema.modelled
    )
    return [sentence for sentence in sentences if sentence]


def _new_levels(column: Column, a: Any, b: Any) -> str:
    """More rows have new values than the values that occur once in the first table make likely (I.
    J. Good (1953), The population frequencies of species)."""
    texts = [_texts(column, side) for side in (a, b)]
    counts = texts[0].value_counts()
    new = texts[1][~texts[1].isin(counts.index)]
    likely = len(texts[1]) * float((counts == 1).sum()) / max(len(texts[0]), 1)
    if not len(new) or len(new) <= likely + MAX_DEVIATIONS * likely**0.5:
        return ""
    several = new.nunique()
    what = "a value" if several == 1 else f"{several:,} values"
    return (
        f"Column {column.name!r} has {what} that the first table has not: "
        f"{_some(list(dict.fromkeys(new)))}, in {_rows(len(new))}."
    )


def _texts(column: Column, series: Any) -> pd.Series:
    cells, known = level_cells(blank(series, column.missing))
    return pd.Series([text_of(cell) for cell in cells[known]], dtype=object)


def _odd_numbers(column: Column, a: Any, b: Any) -> str:
    """Numbers far beyond those of the first table; negative ones or fractions where it has none."""
    (before, known), (after, there) = (_numbers(column, side) for side in (a, b))
    before = before[known]
    if not len(before) or not there.any():
        return ""
    low = float(before.min())
    high = float(before.max())
    reach = FAR_RANGES * (high - low)
    odd = (after < low - reach) | (after > high + reach)
    if not column.is_date:
        odd |= (after < 0) & (low >= 0)
        odd |= (after != np.rint(after)) & bool((before == np.rint(before)).all())
    odd &= there
    if not odd.any():
        return ""
    shown = _some(list(dict.fromkeys(text_of(cell) for cell in np.asarray(b, dtype=object)[odd])))
    ends = [text_of(np.asarray(a, dtype=object)[known][place]) for place in _ends(before)]
    return (
        f"Column {column.name!r} has values unlike any of the first table ({ends[0]} to "
        f"{ends[1]}): {shown}, in {_rows(int(odd.sum()))}."
    )


def _numbers(column: Column, series: Any) -> tuple[Array, Array]:
    plain = blank(series, column.missing)
    return numbers_of(column, plain)


def _ends(values: Array) -> tuple[int, int]:
    return int(values.argmin()), int(values.argmax())


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _some(values: list[Any]) -> str:
    more = f" and {len(values) - MAX_SHOWN_VALUES:,} more" if len(values) > MAX_SHOWN_VALUES else ""
    return ", ".join(map(str, values[:MAX_SHOWN_VALUES])) + more

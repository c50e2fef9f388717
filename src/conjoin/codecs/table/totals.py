"""Single numbers far beyond a column's others, and lines of totals below a table."""

from typing import Any

import numpy as np

from conjoin.codecs.table.values import Tally, tally, text_of

__all__ = ["far_values", "is_sum", "totals_words"]

MAX_FAR_VALUES = 3  # distinct ones, and rows
_ENDS = tuple(
    (low, few - low) for few in range(1, MAX_FAR_VALUES + 1) for low in range(few + 1)
)  # how many values are left out at either end
MAX_FAR_SHARE = 0.01  # of the rows, where that is more
MIN_FAR_SPANS = 100.0  # widths of the others, further out than which a number is a mistake
MIN_OTHERS = 10  # rows, with
MIN_OTHER_VALUES = 3  # distinct ones at least
_ROUNDING = 1e-9  # of a sum, relatively


def far_values(counts: Tally) -> list[int]:
    """The places of the few numbers that lie hundreds of times beyond the others."""
    values = counts.values
    places = np.arange(len(values))
    for low, high in _ENDS:
        rest = slice(low, len(values) - high)
        rows = float(counts.counts[rest].sum())
        few = counts.observed - rows <= max(MAX_FAR_VALUES, MAX_FAR_SHARE * counts.observed)
        if few and _are_some(values[rest], rows) and _far_off(values, rest):
            return np.delete(places, rest).tolist()
    return []


def _far_off(values: Any, rest: slice) -> bool:
    """Whether all numbers but the ``rest`` lie far beyond these."""
    least, most = values[rest][[0, -1]]
    others = np.delete(values, rest)
    gaps = np.maximum(others - most, least - others)
    return bool((gaps > MIN_FAR_SPANS * (most - least)).all())


def _are_some(rest: Any, rows: float) -> bool:
    return len(rest) >= MIN_OTHER_VALUES and bool(rows >= MIN_OTHERS)


def is_sum(counts: Tally, i: int) -> bool:
    """Whether a number that one row has is the sum of all others, and lies outside of them."""
    value = float(counts.values[i])
    rest = np.delete(counts.values, i)
    rows = np.delete(counts.counts, i)
    if counts.counts[i] != 1 or not _are_some(rest, float(rows[rest != 0].sum())):
        return False
    if bool(max(value - rest[-1], rest[0] - value) <= rest[-1] - rest[0]):
        return False
    size = float(np.abs(rest * rows).sum())
    return abs(float((rest * rows).sum()) - value) <= _ROUNDING * size


def totals_words(frame: Any) -> str:
    """That the last row of a table looks like totals; "" where it does not."""
    for name in frame.select_dtypes("number").columns:
        cells = frame[name].to_numpy(dtype="float64", na_value=np.nan)
        last = cells[-1]
        known = np.isfinite(cells)
        if not known[-1]:
            continue
        counts = tally(cells, known, np.ones(len(cells)))
        if is_sum(counts, int(np.searchsorted(counts.values, last))):
            return (
                f"The last row looks like a line of totals: {name!r} is {text_of(last)} there, the "
                "sum of all other rows. If so, remove it."
            )
    return ""

"""What sheets made for readers have among their rows: headers of further tables, lines of
subtotals, and cells that stand for the rows below them."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.values import quoted, text_of
from conjoin.codecs.table.written import is_empty_word

__all__ = ["sheet_words"]

Array = NDArray[Any]

MIN_NUMBERS_SHARE = 0.9  # of a column's known cells, above which a word in it may be a name
MAX_HEADERS = 3  # rows that look like headers of further tables
MIN_SUBTOTALS = 2
MIN_SUM_SHARE = 0.8  # of the lines of subtotals, that are sums of the rows above
MIN_BLOCKS = 3  # whose first row alone has a cell
MIN_GAPS_SHARE = 0.5
_TOTAL = re.compile(r"(?i)\b(sub-?\s?total|total|sum|summe|(zwischen|gesamt)summe|gesamt)\b")
_PARTS = ("total", "sum", "gesamt")  # of each of these words
_ROUNDING = 1e-9  # of a sum, relatively


def sheet_words(frame: pd.DataFrame) -> list[str]:
    """What looks like it, in sentences; nothing of a plain table."""
    if len(frame) < 2:
        return []
    return [*_headers(frame), *_subtotals(frame), *_merged(frame)]


def _texts(frame: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    """The columns that hold words."""
    for name in frame:
        if frame[name].dtype == object or pd.api.types.is_string_dtype(frame[name].dtype):
            yield name, frame[name]


def _headers(frame: pd.DataFrame) -> list[str]:
    """Of rows all of whose cells are words, also in columns of numbers, and stand nowhere else in
    their columns: then no column is one of plain numbers."""
    texts = dict(_texts(frame))
    if len(texts) < max(2, frame.shape[1]):
        return []
    words = np.ones(len(frame), dtype=bool)
    amounts = 0
    for cells in texts.values():
        known = cells.notna().to_numpy()
        parsed: Any = pd.to_numeric(cells, errors="coerce")
        numbers = parsed.notna().to_numpy()
        amounts += numbers.sum() >= MIN_NUMBERS_SHARE * known.sum() and numbers.any()
        words &= known & ~numbers & ~cells.duplicated(keep=False).to_numpy()
        if not words.any():
            return []
    rows = [row for row in np.flatnonzero(words).tolist() if _are_names(frame.iloc[row])]
    if not amounts or not 0 < len(rows) <= MAX_HEADERS:
        return []
    cells = ", ".join(quoted(cell) for cell in frame.iloc[rows[0]].tolist()[:3])
    return [
        f"Row {rows[0] + 1} of the table looks like the header of another one below it ({cells}): "
        "if it is, put that table into a file of its own."
    ]


def _are_names(row: Any) -> bool:
    """Whether the cells of a row could be the names of columns."""
    cells = row.tolist()
    words = all(cell[:1].isalpha() and not is_empty_word(cell) for cell in cells)
    return words and len(set(cells)) == len(cells)


def _subtotals(frame: pd.DataFrame) -> list[str]:
    """Of rows that are named totals, and whose numbers are the sums of the rows above."""
    amounts = frame.select_dtypes("number").columns
    for name, cells in _texts(frame) if len(amounts) else ():
        places = np.flatnonzero(cells.isin(_totals_among(cells)).to_numpy())
        for amount in amounts if len(places) >= MIN_SUBTOTALS else ():
            values = frame[amount].to_numpy(dtype="float64", na_value=np.nan)
            if _are_sums(values, places):
                first = int(places[0])
                return [
                    f"{len(places):,} rows look like lines of subtotals ({name!r} is "
                    f"{quoted(frame[name].iloc[first])} in row {first + 1}, where {amount!r} is "
                    f"{text_of(values[first])}, the sum of the rows above): they count what other "
                    "rows count; remove them."
                ]
    return []


def _totals_among(cells: Any) -> list[str]:
    """The words of a column that name totals."""
    words = list(map(str, pd.unique(cells.dropna())))
    together = "\n".join(words).lower()  # searched at once: most columns have none
    if not any(part in together for part in _PARTS):
        return []
    return [word for word in words if _TOTAL.search(word)]


def _are_sums(values: Array, places: Array) -> bool:
    """Whether most numbers at ``places`` are the sums of those since the place before."""
    starts = [0, *(places[:-1] + 1).tolist()]
    right = 0
    for start, place in zip(starts, places.tolist(), strict=True):
        above = values[start:place]
        size = float(np.nansum(np.abs(above)))
        near = abs(float(np.nansum(above)) - values[place]) <= _ROUNDING * size
        right += bool(near and np.isfinite(above).sum() > 1 and size > 0)
    return right >= max(MIN_SUBTOTALS, MIN_SUM_SHARE * len(places))


def _merged(frame: pd.DataFrame) -> list[str]:
    """Of columns of words that stand in the first row of each block alone."""
    told = []
    for name, cells in _texts(frame):
        places = np.flatnonzero(cells.notna().to_numpy())
        if len(places) < MIN_BLOCKS or places[0] != 0:
            continue
        sizes = np.diff([*places.tolist(), len(cells)])
        even = sizes[0] > 1 and (sizes[:-1] == sizes[0]).all() and sizes[-1] <= sizes[0]
        if even and len(places) <= (1 - MIN_GAPS_SHARE) * len(cells):
            told.append(
                f"Column {name!r} has a word in one row of {sizes[0]} alone, from the first on, as "
                "cells of a sheet that were merged: if they stand for the rows below them, fill "
                "them in there; until then those rows are missing."
            )
    return told

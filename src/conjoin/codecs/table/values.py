"""Columns as plain arrays: numbers, days, words; and the tally of a column, from which everything
about it is inferred.

A tally is the distinct values, sorted, with the weight of the rows that have each. Because
inference sees nothing else, it cannot depend on the order of the rows, and a row of weight 2 is the
row twice.
"""

import dataclasses
import datetime
import re
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.util.plain import plain_value

__all__ = [
    "FINITE_NUMBER",
    "Tally",
    "blank",
    "dates_in",
    "days",
    "floats",
    "floats_or_bad",
    "iso_rewritten",
    "locate",
    "map_distinct",
    "merged",
    "quoted",
    "read_dates",
    "reading_of",
    "says_century",
    "sort_values",
    "stamps_or_bad",
    "tally",
    "text_of",
    "truth_of",
    "truths_of",
    "up_to",
    "whole_text",
    "without",
    "writing_of",
    "zones_of",
]

Array = NDArray[Any]
Series = Any  # a pandas Series of any cell type

FINITE_NUMBER = "a finite number"
_DAY_US = 86_400_000_000
# a format of dates whose years of two digits lie in the hundred years up to this one; without it
# they lie between 1969 and 2068
_UP_TO = re.compile(r"(?P<form>.*%y.*) up to (?P<year>\d{4})")
MAX_QUOTED_CHARACTERS = 80  # of a cell that a message shows
_quote = reprlib.Repr()
_quote.maxstring = MAX_QUOTED_CHARACTERS
_quote.maxother = MAX_QUOTED_CHARACTERS


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """Distinct values (float64 numbers, or objects) in sorted order, the weight of each, and of the
    missing cells."""

    values: Array
    counts: Array
    missing: float

    @property
    def observed(self) -> float:
        return float(self.counts.sum())

    @property
    def rows(self) -> float:
        return self.observed + self.missing


def tally(values: Array, known: Array, weight: Array) -> Tally:
    """The tally of the cells that are ``known``; all three are (B,)."""
    codes, distinct = pd.factorize(values[known])
    counts = np.bincount(codes, weights=weight[known], minlength=len(distinct))
    order = np.argsort(distinct) if values.dtype != object else sort_values(distinct)
    return Tally(distinct[order], counts[order], float(weight[~known].sum()))


def without(counts: Tally, values: Sequence[float]) -> Tally:
    """The tally of the other numbers."""
    kept = ~np.isin(counts.values, list(values))
    return Tally(counts.values[kept], counts.counts[kept], counts.missing)


def sort_values(values: Any) -> list[int]:
    """The order of ``values`` by size: numbers before words."""
    return sorted(range(len(values)), key=lambda i: (isinstance(values[i], str), values[i]))


def blank(series: Series, missing: Sequence[Any]) -> Series:
    """The column with the cells that equal an entry of ``missing`` emptied; a word matches also as
    the text of a number."""
    if not missing:
        return series
    if pd.api.types.is_numeric_dtype(series.dtype):
        hidden = series.isin([value for value in missing if isinstance(value, int | float)])
    else:
        texts = {text_of(value) for value in missing}
        hidden = pd.Series(
            map_distinct(series, lambda value: text_of(value) in texts, False, bool),
            index=series.index,
        )
    return series.mask(hidden) if hidden.any() else series


def merged(series: Series, merge: Sequence[tuple[str, Any]]) -> Series:
    """The column with the cells whose text is named in ``merge`` as the level that it names."""
    if not merge:
        return series
    levels = dict(merge)
    cells = map_distinct(
        series.astype(object), lambda value: levels.get(text_of(value), value), None, object
    )
    return pd.Series(cells, index=series.index, name=series.name, dtype=object)


def quoted(value: Any) -> str:
    """A cell as a message shows it: long ones are cut in the middle.

    >>> quoted("red"), len(quoted("x" * 1000))
    ("'red'", 80)
    """
    return _quote.repr(plain_value(value))


def text_of(value: Any) -> str:
    """A cell as a file would show it: 1.0 and 1 read the same."""
    return whole_text(value) if isinstance(value, int | float | np.number) else str(value)


def whole_text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if np.isfinite(value) and value == int(value) else repr(float(value))


_ZONE = re.compile(r":\d\d(\.\d+)? ?(Z|UTC|[+-]\d\d:?(\d\d)?)$")
_TRUE_WORDS = {"true", "t", "yes", "y", "1"}
_FALSE_WORDS = {"false", "f", "no", "n", "0"}


def truth_of(value: Any) -> bool | None:
    """What a cell says where it can only be yes or no: True, 1, "TRUE" and "yes" are the same; None
    for anything else."""
    word = text_of(value).strip().lower()
    return True if word in _TRUE_WORDS else False if word in _FALSE_WORDS else None


def truths_of(levels: Sequence[Any]) -> dict[bool, Any]:
    """The level for each truth value, where two levels are yes and no; else nothing."""
    found = {truth_of(level): level for level in levels}
    both = len(levels) == 2 and set(found) == {False, True}
    return {truth: found[truth] for truth in (False, True)} if both else {}


def map_distinct(series: Series, function: Callable[[Any], Any], absent: Any, dtype: Any) -> Array:
    """(B,) ``function`` of each cell, called once per distinct value; ``absent`` where the cell is
    missing."""
    codes, distinct = pd.factorize(series)
    results = np.empty(len(distinct) + 1, dtype=dtype)
    for i, value in enumerate(distinct):
        results[i] = function(value)
    results[-1] = absent  # the code of a missing cell is -1
    return results[codes]


def locate(series: Series, bad: Array, expected: str) -> ValueError:
    row = int(bad.argmax())
    return ValueError(
        f"Column {series.name!r}, row {row}: {quoted(series.iloc[row])} is not {expected}; "
        "correct it, or name it in missing=."
    )


def floats(series: Series) -> tuple[Array, Array]:
    """The cells as float64 (B,) and whether each is known; ValueError names the first word that is
    no number."""
    values, known, bad = floats_or_bad(series)
    if bad.any():
        raise locate(series, bad, FINITE_NUMBER)
    return values, known


def floats_or_bad(series: Series) -> tuple[Array, Array, Array]:
    """As ``floats``, and which cells (B,) are words that are no number."""
    if pd.api.types.is_numeric_dtype(series.dtype) and not isinstance(
        series.dtype, pd.CategoricalDtype
    ):
        values = series.to_numpy(dtype="float64", na_value=np.nan)
        return values, ~np.isnan(values), np.zeros(len(values), dtype=bool)
    known = series.notna().to_numpy()
    values = map_distinct(series, _number, np.nan, "float64")
    return values, known, known & ~np.isfinite(values)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def reading_of(form: str) -> str:
    """How words are read as dates: in a stated format, since guessing one would make a cell depend
    on the rest of its batch."""
    form = _without_year(form).replace("%-", "%")
    return form if form not in ("", "date", "utc") else "ISO8601"


def _without_year(form: str) -> str:
    """The format without the year up to which its years of two digits reach."""
    found = _UP_TO.fullmatch(form)
    return form if found is None else found["form"]


def writing_of(form: str) -> str:
    """How dates are written as words; nothing where they are no words."""
    return _without_year(form) if form not in ("", "date", "utc") else ""


def says_century(form: str) -> bool:
    """Whether a format says up to which year its years of two digits reach."""
    return _UP_TO.fullmatch(form) is not None


def read_dates(words: Series, form: str, zoned: bool = False) -> Series:
    """Words as times, missing where they are none in this format; ``zoned``: in UTC."""
    stamps: Series = pd.to_datetime(words, format=reading_of(form), errors="coerce", utc=zoned)
    found = _UP_TO.fullmatch(form)
    if found is None:
        return stamps
    last = int(found["year"])
    years = stamps.dt.year
    for century in (-100, 100):
        other = (years > last) if century < 0 else (years <= last - 100)
        stamps = stamps.where(~other, stamps + pd.DateOffset(years=century))
    return stamps


def up_to(form: str, year: int) -> str:
    """The format whose years of two digits lie in the hundred years up to ``year``."""
    return f"{_without_year(form)} up to {year}"


def dates_in(form: str) -> str:
    """What a cell of a column of dates should be, in words."""
    return f"a date in the format {reading_of(form)}"


def stamps_or_bad(series: Series, form: str) -> tuple[Series, Array]:
    """The cells as times, and which (B,) are none and not missing."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return series, np.zeros(len(series), dtype=bool)
    reading = reading_of(form)
    # in UTC where a cell has an offset: offsets may differ from row to row
    zoned = reading == "ISO8601" or "%z" in reading
    cells = series.astype(object)
    if reading != "ISO8601" and pd.api.types.is_numeric_dtype(series.dtype):
        cells = pd.Series(map_distinct(series, text_of, None, object), index=series.index)
    stamps = read_dates(cells, form, zoned)
    bad = (series.notna() & stamps.isna()).to_numpy()
    if reading == "ISO8601" or not bad.any():
        return stamps, bad
    late = _iso_stamps(cells, bad)
    late = late if zoned else late.dt.tz_localize(None)
    return stamps.astype(late.dtype).where(~bad, late), bad & late.isna().to_numpy()


# as plain as any date can be, whatever the others of its column are like
_ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?)?")


def _iso_stamps(cells: Series, among: Array) -> Series:
    """The cells ``among`` which are ISO dates, as times in UTC, and nothing elsewhere."""
    is_iso = map_distinct(cells, lambda cell: _is_iso(cell), False, bool)
    words = cells.where(among & is_iso, None)
    stamps = pd.to_datetime(words, format="ISO8601", errors="coerce", utc=True)
    return stamps.astype("datetime64[us, UTC]")


def _is_iso(cell: Any) -> bool:
    return isinstance(cell, str) and _ISO.fullmatch(cell.strip()) is not None


def iso_rewritten(series: Series, form: str) -> Series:
    """The ISO dates (B,) that the format does not read, as it writes them; missing elsewhere."""
    reading = reading_of(form)
    nothing = pd.Series(None, index=series.index, dtype=object)
    if reading == "ISO8601" or pd.api.types.is_datetime64_any_dtype(series.dtype):
        return nothing
    cells = series.astype(object)
    stamps = read_dates(cells, form, "%z" in reading)
    other = (series.notna() & stamps.isna()).to_numpy()
    if not other.any():
        return nothing
    late = _iso_stamps(cells, other)
    words: Series = late.dt.strftime(reading.replace("%z", "+00:00")).astype(object)
    return words.where(late.notna(), None)


def zones_of(series: Series) -> tuple[bool, bool]:
    """Whether cells of a column of dates have a time zone, and whether some have a time of day but
    no zone."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        zoned = series.dt.tz is not None
        return zoned, not zoned and bool((series.dropna().dt.normalize() != series.dropna()).any())
    known = pd.unique(series.dropna())
    zoned_cells = [cell for cell in known if _has_zone(cell)]
    plain = [cell for cell in known if _has_time(cell) and not _has_zone(cell)]
    return bool(zoned_cells), bool(plain)


def _has_zone(cell: Any) -> bool:
    if isinstance(cell, str):
        return _ZONE.search(cell.strip()) is not None
    return getattr(cell, "tzinfo", None) is not None


def _has_time(cell: Any) -> bool:
    return ":" in cell if isinstance(cell, str) else isinstance(cell, datetime.datetime)


def days(series: Series, form: str) -> tuple[Array, Array]:
    """The cells as days since 1970-01-01 UTC, float64 (B,), and whether each is known; ``form``
    reads words."""
    stamps, bad = stamps_or_bad(series, form)
    if bad.any():
        raise locate(series, bad, dates_in(form))
    if stamps.dt.tz is not None:
        stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    known = stamps.notna().to_numpy()
    ticks = stamps.to_numpy().astype("datetime64[us]").astype("int64")
    return np.where(known, ticks / _DAY_US, np.nan), known

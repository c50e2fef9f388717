"""How the words of each column are to be read, decided on all rows of a fit, so that it does not
depend on which of them teach: as dates of a format, as numbers of a way of writing, or as levels.

Where very few cells of a column are not what all others are, they count as missing, and are told.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.calendar_words import usual_calendar
from conjoin.codecs.table.centuries import with_century
from conjoin.codecs.table.clock import usual_times
from conjoin.codecs.table.codes import are_random_digits
from conjoin.codecs.table.doubts import codes_in
from conjoin.codecs.table.forms import Found, find_form, form_from
from conjoin.codecs.table.guess import guess, usual_date_format
from conjoin.codecs.table.lengths import usual_lengths
from conjoin.codecs.table.measure import Code, Precision, precision_of, sentinel_days, single_of
from conjoin.codecs.table.overrides import missing_of, said_of
from conjoin.codecs.table.reading import LEVEL_TYPES, form_of, read_in, usual_decimal
from conjoin.codecs.table.values import (
    FINITE_NUMBER,
    blank,
    dates_in,
    days,
    floats,
    floats_or_bad,
    iso_rewritten,
    map_distinct,
    merged,
    quoted,
    read_dates,
    tally,
    text_of,
)
from conjoin.codecs.table.written import is_empty_word, is_limit, usual_numbers
from conjoin.util.plain import plain_value

__all__ = ["Reading", "Survey", "survey"]

MAX_ODD_SHARE = 0.02  # of the known cells, up to which odd ones count as missing
MAX_SHOWN_LIMITS = 4  # words such as <0.1 that are told of a column
MIN_GOOD_WORDS = 3  # distinct words of a column that are dates, or numbers
_BLOCKS = ("picture", "text", "smiles")
_NUMBERS = ("real", "integer")

JSON = dict[str, Any]
Array = NDArray[Any]
Series = Any


class Reading(NamedTuple):
    """The type of a column, the format of its dates, its way of writing numbers, words that mean
    missing, how its numbers or dates were recorded, whether its digits are random, and cells that
    may mean "none", such as -999."""

    type: str
    format: str = ""
    found: Found | None = None
    missing: tuple[str, ...] = ()
    precision: Precision | None = None
    random_digits: bool = False
    codes: tuple[Code, ...] = ()


class Survey(NamedTuple):
    """The table, in which cells that can't be read are missing; what the user says of each column;
    how columns are read, the decimal mark of the table, what the user should be told, and the first
    such cell of each column, in words."""

    frame: pd.DataFrame
    said: dict[Any, JSON]
    readings: dict[Any, Reading]
    usual: str
    told: tuple[str, ...]
    odd: tuple[str, ...]


class _Clean(NamedTuple):
    """A column whose odd cells are missing; words that mean missing; what is told of both; and the
    first odd cell, in words."""

    series: Series
    missing: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    odd: str = ""


def survey(
    frame: pd.DataFrame,
    types: Any = None,
    missing: Any = (),
    target: Any = None,
    *,
    weight: Any = None,
) -> Survey:
    """How the columns of all rows of a fit are read.

    Parameters
    ----------
    types, missing, target, weight
        As of ``inspect``; rows of weight 0 do not tell how numbers were recorded.

    Raises
    ------
    ValueError
        For cells that are not of the type that the user gave their column, if they are many.
    """
    names = [name.item() if isinstance(name, np.generic) else name for name in frame.columns]
    said = said_of(types, missing, names)
    told = _told_of_absent(frame, names, missing_of(missing, names))
    clean = {
        i: _cleaned(frame.iloc[:, i], said[name])
        for i, name in enumerate(names)
        if name != target and _holds_words(frame.iloc[:, i], said[name])
    }
    if any(one.told for one in clean.values()):
        columns = [clean[i].series if i in clean else frame.iloc[:, i] for i in range(len(names))]
        frame = pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)
    usual = usual_decimal(frame)
    counted = _counted(weight, len(frame))
    readings = {}
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        found = (
            _reading(series, said[name], clean[i], usual)
            if i in clean
            else _of_numbers(series, said[name])
        )
        if found is not None:
            readings[name] = _recorded(series, said[name], found, counted)
    told += [words for one in clean.values() for words in one.told]
    told += [
        _told_of_empty(
            name, "numbers", found.found.missing, _count(frame[name], found.found.missing)
        )
        for name, found in readings.items()
        if found.found is not None and found.found.missing
    ]
    odd = tuple(one.odd for one in clean.values() if one.odd)
    return Survey(frame, said, readings, usual, tuple(told), odd)


def _counted(weight: Any, rows: int) -> Array:
    """(B,) which rows are there; all of them where the weights are no weights, which whoever uses
    them refuses."""
    weights = None if weight is None else np.asarray(weight, dtype="float64").reshape(-1)
    if weights is None or len(weights) != rows or not (weights > 0).any():
        return np.ones(rows, dtype=bool)
    return weights > 0


def _holds_words(series: Series, fields: Mapping[str, Any]) -> bool:
    """Whether it is to be settled how the cells are read: what was said to be levels, or to be set
    aside, is settled."""
    if fields.get("role") == "set aside" or fields.get("type") in (*LEVEL_TYPES, *_BLOCKS):
        return False
    if isinstance(series.dtype, pd.CategoricalDtype):
        return False
    said = fields.get("type") == "date"
    return said or series.dtype == object or pd.api.types.is_string_dtype(series.dtype)


def _told_of_absent(
    frame: pd.DataFrame, names: Sequence[Any], blanks: Mapping[Any, Sequence[Any]]
) -> list[str]:
    """Values that were said to mean missing, and that no column has for which that was said."""
    places = {name: i for i, name in enumerate(names)}
    asked: dict[Any, list[Any]] = {}
    for name, values in blanks.items():
        for value in values:
            asked.setdefault(value, []).append(name)
    told = []
    for value, columns in asked.items():
        if not any(_has(frame.iloc[:, places[name]], value) for name in columns):
            where = f"column {columns[0]!r}" if len(columns) == 1 else f"{len(columns):,} columns"
            told.append(f"No cell of {where} is {value!r}, which was said to mean missing.")
    return told


def _has(series: Series, value: Any) -> bool:
    return bool((blank(series, [value]).isna() & series.notna()).any())


# ----------------------------------------------------------------------------------- how it is read


def _known(raw: Series, fields: JSON, more: Sequence[Any] = ()) -> Series:
    """The column without what means missing, with its spellings merged."""
    missing = (*fields["missing"], *more)
    return merged(blank(raw, missing), tuple(fields.get("merge", {}).items()))


def _of_numbers(raw: Series, fields: JSON) -> Reading | None:
    """How a column of numbers or times is read; None for one of other cells."""
    dtype = raw.dtype
    times = pd.api.types.is_datetime64_any_dtype(dtype)
    numbers = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    if fields.get("role") == "set aside" or not (times or numbers):
        return None
    kind, form = guess(_known(raw, fields), np.ones(len(raw)), False)
    said = fields.get("type", kind)
    return Reading(said, fields.get("format", form if said in (kind, "date") else ""))


def _recorded(raw: Series, fields: JSON, found: Reading, counted: Array) -> Reading:
    """How a column is read, with the steps in which its numbers were recorded. ``counted`` (B,):
    the rows that are there. ValueError for a number that is not whole, where all are said to be."""
    series = _known(raw, fields, found.missing)[counted]
    if found.found is not None:
        series = blank(series, found.found.missing)
        series = pd.Series(read_in(series, found.found.form)[0], index=series.index, name=raw.name)
        found = found._replace(type=fields.get("type") or _kind_of(series))
    elif found.type in _NUMBERS:
        found = found._replace(type=fields.get("type") or _kind_of(series))
    if found.type not in (*_NUMBERS, "date"):
        return found
    values, known = days(series, found.format) if found.type == "date" else floats(series)
    if found.type == "integer" and "type" in fields:
        _refuse_fractions(raw.name, values[known])
    counts = tally(values, known, np.ones(len(values)))
    codes = sentinel_days(counts) if found.type == "date" else codes_in(counts)
    return found._replace(
        precision=precision_of(found.type, counts, fields, single_of(raw)),
        random_digits=found.type == "integer" and are_random_digits(raw.name, counts.values),
        codes=_cells_of(raw[counted], values, codes),
    )


def _cells_of(raw: Series, values: Array, codes: Sequence[float]) -> tuple[Code, ...]:
    """The numbers (B,) that are codes, with the cells that hold them, as ``missing`` lists them."""
    return tuple(
        Code(code, cell if isinstance(cell, str | int | float) else str(cell), int(rows))
        for code in codes
        for cell, rows in raw[values == code].map(plain_value).value_counts().items()
    )


def _kind_of(series: Series) -> str:
    """The type of numbers."""
    return guess(pd.to_numeric(series), np.ones(len(series)), False)[0]


def _refuse_fractions(name: Any, values: Array) -> None:
    bad = values[values != np.rint(values)]
    if len(bad):
        raise ValueError(
            f"Column {name!r} was said to be of type integer, but has the value {bad[0]:g}; "
            "say 'real'."
        )


def _reading(raw: Series, fields: JSON, clean: _Clean, usual: str) -> Reading | None:
    """How a column is read, of which no cell is odd; None for pictures, strings and molecules."""
    series = _known(raw, fields, clean.missing)
    changed = bool(clean.told) or int(series.isna().sum()) > int(raw.isna().sum())
    kind, form = guess(series, np.ones(len(series)), changed)
    if kind in _BLOCKS:
        return None
    said = fields.get("type")
    form = fields.get("format", form if said in (None, "date") else "")
    found = form_of(series, fields, said or kind, usual)
    if found is not None and (said or "parse" in fields):
        read_in(blank(series, found.missing), found.form)
    elif said == "date":
        form = with_century(series, form)
        days(series, form)
    elif said in ("real", "integer"):
        floats(series)
    return Reading(said or kind, form, found, clean.missing)


# ---------------------------------------------------------------------------------------- odd cells


def _cleaned(raw: Series, fields: JSON) -> _Clean:
    """The column without the very few cells that are not what the others are."""
    series = _known(raw, fields)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind.startswith("mixed"):
        return _without_odd_objects(raw, series, fields)
    if kind != "string":
        return _Clean(raw)
    return _without_odd_dates(raw, series, fields) or _without_odd_numbers(raw, series, fields)


def _without_odd_objects(raw: Series, series: Series, fields: JSON) -> _Clean:
    """Of numbers, or of dates, beside words."""
    known = series.dropna()
    numbers = floats_or_bad(series)[2]
    limits = {cell for cell in pd.unique(series[numbers]) if is_limit(cell)}
    if limits:
        return _without_limits(raw, series, fields, limits)
    if _are_few(numbers, series) and not any(isinstance(cell, bool) for cell in known):
        first = _first(raw, numbers, FINITE_NUMBER)
        plain = pd.to_numeric(raw.mask(numbers), errors="coerce")
        return _Clean(plain, (), (_told_of(raw, numbers, first),), first)
    dates = ~series.map(lambda cell: isinstance(cell, datetime.date)).to_numpy(dtype=bool)
    dates &= series.notna().to_numpy()
    if _are_few(dates, series):
        first = _first(raw, dates, "a date")
        plain = raw.mask(dates).infer_objects()
        return _Clean(plain, (), (_told_of(raw, dates, first),), first)
    return _Clean(raw)


def _without_odd_dates(raw: Series, series: Series, fields: JSON) -> _Clean | None:
    """None where the column is no column of dates, or has nothing odd."""
    if "parse" in fields or fields.get("type", "date") != "date":
        return None
    words = list(pd.unique(series.dropna()))
    form = fields.get("format") or usual_date_format(words)
    empty = tuple(word for word in words if is_empty_word(word))
    if not form or len(words) - len(empty) < MIN_GOOD_WORDS:
        return None
    series = blank(series, empty)
    stamps = read_dates(series.astype(object), form, "%z" in form)
    other = (series.notna() & stamps.isna()).to_numpy()
    if not (empty or other.any()) or (other.any() and not _are_few(other, series)):
        return None
    rewritten = iso_rewritten(series, form)
    iso = other & rewritten.notna().to_numpy()
    odd = other & ~iso
    told = [_told_of_empty(raw.name, "dates", empty, _count(raw, empty))] if empty else []
    first = _first(raw, odd, dates_in(form)) if odd.any() else ""
    told += [_told_of(raw, odd, first)] if first else []
    told += [_told_of_iso(raw, iso, rewritten)] if iso.any() else []
    cells = raw.astype(object).mask(odd).where(~iso, rewritten).astype(raw.dtype)
    return _Clean(cells, empty, tuple(told), first)


def _without_odd_numbers(raw: Series, series: Series, fields: JSON) -> _Clean:
    parse = fields.get("parse", "")
    if parse == "words" or fields.get("type", "real") not in ("real", "integer"):
        return _Clean(raw)
    words = list(pd.unique(series.dropna()))
    said = bool(parse) or "type" in fields
    limits = {word for word in words if is_limit(word)}
    numbers = [word for word in words if word not in limits]
    good = _numbers_among(numbers, parse, said)
    if limits and good and (said or find_form([word for word in numbers if word in good])):
        return _without_limits(raw, series, fields, limits)
    odd = ~map_distinct(series, lambda word: word in good or is_empty_word(word), True, bool)
    known = [word for word in words if word in good]
    if not _are_few(odd, series) or not (said or find_form(known)):
        return _Clean(raw)
    first = _first(raw, odd, f"a value like {quoted(known[0])}")
    return _Clean(raw.mask(odd), (), (_told_of(raw, odd, first),), first)


def _without_limits(raw: Series, series: Series, fields: JSON, limits: set[str]) -> _Clean:
    """The column without cells such as <0.1, which tell where a number lies, and not which."""
    gone = map_distinct(series, lambda word: word in limits, False, bool)
    rest = _cleaned(raw.mask(gone).infer_objects(), fields)
    known = quoted(plain_value(series[~gone].dropna().iloc[0]))
    first = _first(raw, gone, f"a value like {known} but a limit of one")
    told = _told_of_limits(first, raw.name, series[gone].value_counts())
    return rest._replace(told=(told, *rest.told), odd=rest.odd or first)


def _numbers_among(words: list[str], parse: Any, said: bool) -> set[str]:
    """The words that are numbers, times, lengths or months, as most are, or as the user says."""
    if isinstance(parse, Mapping):
        form = form_from(parse)
        return {word for word in words if form.read(word) is not None}
    ways = (usual_times, usual_lengths, usual_calendar)
    return max(usual_numbers(words, said), *(way(words) for way in ways), key=len)


def _are_few(odd: Array, series: Series) -> bool:
    return bool(0 < odd.sum() <= MAX_ODD_SHARE * series.notna().sum())


# -------------------------------------------------------------------------------------------- words


def _count(raw: Series, words: Sequence[str]) -> int:
    return int(raw.isin(words).sum())


def _first(raw: Series, odd: Array, expected: str) -> str:
    row = int(odd.argmax())
    return f"Column {raw.name!r}, row {row}: {quoted(raw.iloc[row])} is not {expected}"


def _told_of(raw: Series, odd: Array, first: str) -> str:
    """That odd cells count as missing."""
    more = int(odd.sum()) - 1
    cells = "1 more such cell" if more == 1 else f"{more:,} more such cells"
    others = f"it and {cells} count" if more else "it counts"
    return (
        f"{first}; {others} as missing. To keep the cells as they are, say "
        f"types={{{raw.name!r}: 'category'}}."
    )


def _told_of_limits(first: str, name: Any, counts: Series) -> str:
    """That limits such as <0.1 count as missing, and how often each stands there."""
    if counts.sum() == 1:
        gone = "it counts as missing"
        them = "it"
        place = "its place"
    else:
        shown = [f"{word!r} ({_rows(int(rows))})" for word, rows in counts.items()]
        more = len(shown) - MAX_SHOWN_LIMITS
        rest = _rows(int(counts.iloc[MAX_SHOWN_LIMITS:].sum()))
        shown = shown[:MAX_SHOWN_LIMITS] + ([f"{more:,} more ({rest})"] if more > 0 else [])
        verb = "counts" if len(shown) == 1 else "count"
        gone = f"{', '.join(shown)} {verb} as missing"
        them = "them"
        place = "their place"
    return (
        f"{first}; {gone}, so that nothing is learned of numbers beyond {them}. To have {them} "
        f"count, write a number in {place}, such as half of a lower limit; to keep the cells as "
        f"words, say types={{{name!r}: 'category'}}."
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _told_of_empty(name: Any, what: str, empty: Sequence[str], rows: int) -> str:
    shown = ", ".join(map(repr, empty))
    verb = "counts" if len(empty) == 1 else "count"
    return f"Column {name!r} holds {what}; {shown} {verb} as missing, in {_rows(rows)}."


def _told_of_iso(raw: Series, iso: Array, rewritten: Series) -> str:
    row = int(iso.argmax())
    more = int(iso.sum()) - 1
    others = ", and so is 1 more such cell" if more == 1 else ""
    others = f", and so are {more:,} more such cells" if more > 1 else others
    return (
        f"Column {raw.name!r}, row {row}: {quoted(text_of(raw.iloc[row]))} is written otherwise "
        f"than the other dates, and is read as {rewritten.iloc[row]!r}{others}."
    )

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

from conjoin.codecs.table.clock import learn_clock
from conjoin.codecs.table.forms import Found, find_form, form_from
from conjoin.codecs.table.guess import guess, usual_date_format
from conjoin.codecs.table.overrides import missing_of, overrides_of
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
    text_of,
)
from conjoin.codecs.table.written import is_empty_word, usual_numbers

__all__ = ["Reading", "Survey", "survey"]

MAX_ODD_SHARE = 0.02  # of the known cells, up to which odd ones count as missing
MIN_GOOD_WORDS = 3  # distinct words of a column that are dates, or numbers
_BLOCKS = ("picture", "text", "smiles")

JSON = dict[str, Any]
Array = NDArray[Any]
Series = Any


class Reading(NamedTuple):
    """The type of a column of words, "" for plain numbers whose values decide; the format of its
    dates, its way of writing numbers, and words that mean missing."""

    type: str
    format: str = ""
    found: Found | None = None
    missing: tuple[str, ...] = ()

    def of_rows(self, series: Series, weight: Array) -> tuple[str, str]:
        """(type, format of dates) of some of the rows."""
        return self.type or guess(series, weight, True)[0], self.format


class Survey(NamedTuple):
    """The table, in which cells that can't be read are missing; how its columns are read, the
    decimal mark of the table, what the user should be told, and the first such cell of each
    column, in words."""

    frame: pd.DataFrame
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


def survey(frame: pd.DataFrame, types: Any = None, missing: Any = (), target: Any = None) -> Survey:
    """How the columns of all rows of a fit are read.

    Parameters
    ----------
    types, missing, target
        As of ``inspect``.

    Raises
    ------
    ValueError
        For cells that are not of the type that the user gave their column, if they are many.
    """
    names = [name.item() if isinstance(name, np.generic) else name for name in frame.columns]
    asked = overrides_of(types, names)
    blanks = missing_of(missing, names)
    told = _told_of_absent(frame, names, blanks)
    clean: dict[int, _Clean] = {}
    hidden: dict[int, tuple[Any, ...]] = {}
    for i, name in enumerate(names):
        fields = asked.get(name, {})
        hidden[i] = tuple(dict.fromkeys([*blanks.get(name, ()), *fields.get("missing", ())]))
        if name != target and _holds_words(frame.iloc[:, i], fields):
            clean[i] = _cleaned(frame.iloc[:, i], fields, hidden[i])
    if any(one.told for one in clean.values()):
        columns = [clean[i].series if i in clean else frame.iloc[:, i] for i in range(len(names))]
        frame = pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)
    usual = usual_decimal(frame)
    readings = {}
    for i, one in clean.items():
        fields = asked.get(names[i], {})
        found = _reading(frame.iloc[:, i], fields, (*hidden[i], *one.missing), one, usual)
        if found is not None:
            readings[names[i]] = found
    told += [words for one in clean.values() for words in one.told]
    odd = tuple(one.odd for one in clean.values() if one.odd)
    return Survey(frame, readings, usual, tuple(told), odd)


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


def _reading(
    raw: Series, fields: JSON, hidden: Sequence[Any], clean: _Clean, usual: str
) -> Reading | None:
    """How a column is read, of which no cell is odd; None for pictures, strings and molecules."""
    series = merged(blank(raw, hidden), tuple(fields.get("merge", {}).items()))
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
        days(series, form)
    elif said in ("real", "integer"):
        floats(series)
    numbers = kind in ("real", "integer") or (kind == "boolean" and _are_numbers(series))
    return Reading("" if numbers else kind, form, found, clean.missing)


def _are_numbers(series: Series) -> bool:
    return not floats_or_bad(series)[2].any() and series.dtype != bool


# ---------------------------------------------------------------------------------------- odd cells


def _cleaned(raw: Series, fields: JSON, hidden: Sequence[Any]) -> _Clean:
    """The column without the very few cells that are not what the others are."""
    series = merged(blank(raw, hidden), tuple(fields.get("merge", {}).items()))
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind.startswith("mixed"):
        return _without_odd_objects(raw, series)
    if kind != "string":
        return _Clean(raw)
    return _without_odd_dates(raw, series, fields) or _without_odd_numbers(raw, series, fields)


def _without_odd_objects(raw: Series, series: Series) -> _Clean:
    """Of numbers, or of dates, beside words."""
    known = series.dropna()
    numbers = floats_or_bad(series)[2]
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
    stamps = pd.to_datetime(series.astype(object), format=form, errors="coerce", utc="%z" in form)
    other = (series.notna() & stamps.isna()).to_numpy()
    if not (empty or other.any()) or (other.any() and not _are_few(other, series)):
        return None
    rewritten = iso_rewritten(series, form)
    iso = other & rewritten.notna().to_numpy()
    odd = other & ~iso
    told = [_told_of_empty(raw.name, empty, int(raw.isin(empty).sum()))] if empty else []
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
    good = _numbers_among(words, parse, said)
    odd = ~map_distinct(series, lambda word: word in good or is_empty_word(word), True, bool)
    known = [word for word in words if word in good]
    if not _are_few(odd, series) or not (said or find_form(known)):
        return _Clean(raw)
    first = _first(raw, odd, f"a value like {quoted(known[0])}")
    return _Clean(raw.mask(odd), (), (_told_of(raw, odd, first),), first)


def _numbers_among(words: list[str], parse: Any, said: bool) -> set[str]:
    """The words that are numbers, or times, as most are, or as the user says."""
    if isinstance(parse, Mapping):
        form = form_from(parse)
        return {word for word in words if form.read(word) is not None}
    return usual_numbers(words, said) or {word for word in words if learn_clock([word]) is not None}


def _are_few(odd: Array, series: Series) -> bool:
    return bool(0 < odd.sum() <= MAX_ODD_SHARE * series.notna().sum())


# -------------------------------------------------------------------------------------------- words


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


def _told_of_empty(name: Any, empty: Sequence[str], rows: int) -> str:
    shown = ", ".join(map(repr, empty))
    verb = "counts" if len(empty) == 1 else "count"
    where = "1 row" if rows == 1 else f"{rows:,} rows"
    return f"Column {name!r} holds dates; {shown} {verb} as missing, in {where}."


def _told_of_iso(raw: Series, iso: Array, rewritten: Series) -> str:
    row = int(iso.argmax())
    more = int(iso.sum()) - 1
    others = ", and so is 1 more such cell" if more == 1 else ""
    others = f", and so are {more:,} more such cells" if more > 1 else others
    return (
        f"Column {raw.name!r}, row {row}: {quoted(text_of(raw.iloc[row]))} is written otherwise "
        f"than the other dates, and is read as {rewritten.iloc[row]!r}{others}."
    )

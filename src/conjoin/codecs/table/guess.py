"""The type of a column that the user said nothing about."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.image.pictures import SUFFIXES, Picture
from conjoin.codecs.smiles.chemistry import looks_like_smiles
from conjoin.codecs.table.codes import may_be_place_codes
from conjoin.codecs.table.measure import decimals_of
from conjoin.codecs.table.moments import moment_of
from conjoin.codecs.table.values import floats, map_distinct, tally, zones_of
from conjoin.codecs.table.versions import versions_in

__all__ = [
    "guess",
    "guess_pictures",
    "level_cells",
    "mixed_dates",
    "style_of_dates",
    "style_words",
    "usual_date_format",
]

Array = NDArray[Any]
Series = Any

_YES_NO = ({"yes", "no"}, {"true", "false"}, {"y", "n"}, {"t", "f"})
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y.%m.%d")
_TIMES = (
    "",
    " %H:%M:%S",
    "T%H:%M:%S",
    " %H:%M",
    "T%H:%M",
    " %H:%M:%S.%f",
    "T%H:%M:%S.%f",
    "T%H:%M:%SZ",
    "T%H:%M:%S%z",
    " %H:%M:%S%z",
    "T%H:%M:%S.%f%z",
)
# ways that leave the century open or depend on a language: asked for, never assumed
_STYLES = (
    "%d.%m.%y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d-%m-%y",
    "%y-%m-%d",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d-%B-%Y",
    "%d/%b/%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d %B %Y",
    "%d. %B %Y",
    "%b %d %Y",
    "%B %d %Y",
    "%d %b %y",
    "%b %d, %y",
)
MIN_STYLED = 3  # distinct words that are dates in such a way
MIN_DATE_SHARE = 0.5  # of the distinct words, above which a column of words was meant as dates
MAX_WORDS_TRIED = 500  # in each format of dates, to see which one most words have
MIN_DISTINCT_SHARE = 0.5  # of the cells of a column of molecules
MIN_PICTURE_SHARE = 0.5  # of the known cells, above which a column is one of pictures
_ZERO_PADDED = re.compile(r"0\d+")


def guess(series: Series, weight: Array, changed: bool) -> tuple[str, str]:
    """(type, format of dates). ``changed``: the user named words that mean missing, so what is left
    may be numbers."""
    dtype = series.dtype
    if moment_of(series) is not None:
        return "category", ""
    if isinstance(dtype, pd.CategoricalDtype):
        return ("ordered" if dtype.ordered else "category"), ""
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "date", ""
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean", ""
    if pd.api.types.is_numeric_dtype(dtype):
        return _guess_number(series, weight, str(dtype)), ""
    return _guess_words(series, weight, changed)


def _guess_number(series: Series, weight: Array, dtype: str) -> str:
    counts = tally(*floats(series), weight)
    values = counts.values
    if not len(values):
        return "real"
    if "int" in dtype.lower() and np.abs(values).max() >= 2.0**51:
        # too large for a float to keep apart
        return "category" if series.nunique() <= 64 else "real"
    if may_be_place_codes(series.name, values):
        return "category"
    if decimals_of(values, dtype) != 0:
        return "real"
    two = len(values) == 2 and (set(values) == {0.0, 1.0} or counts.observed >= 10)
    return "boolean" if two else "integer"


def _guess_words(series: Series, weight: Array, changed: bool) -> tuple[str, str]:
    if guess_pictures(series):
        return "picture", ""
    if guess_smiles(series):
        return "smiles", ""
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("boolean", "empty"):
        return ("boolean" if kind == "boolean" else "category"), ""
    if kind in ("date", "datetime", "datetime64"):
        # times with a zone that are still objects have offsets that differ from row to row
        zoned = zones_of(series)[0]
        return "date", "date" if kind == "date" else "utc" if zoned else ""
    distinct = [value for value in pd.unique(series.dropna())]
    if kind != "string":
        return "category", ""
    if len(distinct) == 2 and {word.strip().lower() for word in distinct} in _YES_NO:
        return "boolean", ""
    if changed and _all_numbers(distinct) and versions_in(distinct) is None:
        return _guess_number(
            pd.Series([float(v) for v in series.dropna()], name=series.name),
            weight[series.notna().to_numpy()],
            "float64",
        ), ""
    form = _date_format(distinct)
    return ("date", form) if form else ("category", "")


def guess_pictures(series: Series) -> bool:
    """Whether most of the known cells are paths of pictures, or pictures themselves. The others
    are mistakes then, of which whoever reads the pictures says the row."""
    if series.dtype != object and not pd.api.types.is_string_dtype(series.dtype):
        return False
    words, others = _tallied(series)
    known = len(others) + sum(count for word, count in words.items() if word.strip())
    found = sum(map(_is_picture, others))
    found += sum(count for word, count in words.items() if _is_picture(word))
    return found > MIN_PICTURE_SHARE * known


def guess_smiles(series: Series) -> bool:
    """Whether most of the known cells are molecules as SMILES, rdkit is here to read them, and
    they are no levels that recur, such as a few solvents."""
    if series.dtype != object and not pd.api.types.is_string_dtype(series.dtype):
        return False
    words, others = _tallied(series)
    few = len(words) < MIN_DISTINCT_SHARE * sum(words.values())
    return not others and not few and looks_like_smiles(list(series.dropna()))


def _tallied(series: Series) -> tuple[dict[str, int], list[Any]]:
    """How often each word is among the known cells, and those that are no words. To look at every
    cell of a column of strings takes twenty times longer."""
    if series.dtype != object:
        return series.value_counts().to_dict(), []
    cells = list(series.dropna())
    words = Counter(cell for cell in cells if isinstance(cell, str))
    return words, [cell for cell in cells if not isinstance(cell, str)]


def _is_picture(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower().endswith(SUFFIXES)
    return isinstance(cell, Picture | np.ndarray)


def _all_numbers(words: list[str]) -> bool:
    try:
        return (
            bool(words)
            and bool(np.isfinite([float(word) for word in words]).all())
            and not any(map(_ZERO_PADDED.fullmatch, words))
        )
    except ValueError:
        return False


def _date_format(words: list[str]) -> str:
    """The one format in which every word is a date, or nothing."""
    if not words or not all(_DATE_LIKE.fullmatch(word.strip()) for word in words):
        return ""
    few: Series = pd.Series(words[:20], dtype=object)
    for form in (day + time for time in _TIMES for day in _DAYS):
        if _reads(few, form) and _reads(pd.Series(words, dtype=object), form):
            return form
    return ""


def style_of_dates(words: list[str]) -> str:
    """The way of writing in which every word is a date, among those that are never assumed; or
    nothing."""
    if len(words) < MIN_STYLED or not all(any(map(str.isdigit, word)) for word in words):
        return ""
    few: Series = pd.Series(words[:20], dtype=object)
    for form in _STYLES:
        if _reads(few, form) and _reads(pd.Series(words, dtype=object), form):
            return form
    return ""


def style_words(name: Any, form: str) -> str:
    """How to have words of this way of writing as dates."""
    return f"to have dates, say types={{{name!r}: {{'type': 'date', 'format': {form!r}}}}}"


def _reads(words: Series, form: str) -> bool:
    return bool(_read(words, form).all())


def _read(words: Series, form: str) -> Series:
    """Which words (B,) are dates in a format."""
    dates: Series = pd.to_datetime(words, format=form, errors="coerce", utc="%z" in form)
    return dates.notna()


def usual_date_format(words: list[str]) -> str:
    """The format in which most words that look like dates are dates, where most words look so; or
    nothing."""
    alike = [word for word in words if _DATE_LIKE.fullmatch(word.strip())]
    if not alike or len(alike) < MIN_DATE_SHARE * len(words):
        return ""
    tried: Series = pd.Series(alike[:MAX_WORDS_TRIED], dtype=object)
    found = {day + time: int(_read(tried, day + time).sum()) for time in _TIMES for day in _DAYS}
    best = max(found, key=lambda form: found[form])
    return best if found[best] else ""


def mixed_dates(words: list[str]) -> tuple[str, str] | None:
    """A word that is a date and one that is none in the same format, where most words look like
    dates and no format reads all; None elsewhere."""
    alike = [word for word in words if _DATE_LIKE.fullmatch(word.strip())]
    if not alike or len(alike) < MIN_DATE_SHARE * len(words) or _date_format(words):
        return None
    tried: Series = pd.Series(alike[:MAX_WORDS_TRIED], dtype=object)
    each = [_read(tried, day + time) for time in _TIMES for day in _DAYS]
    best = max(each, key=lambda read: int(read.sum()))
    usual = tried[best].tolist()
    others = [word for word in words if word not in set(usual)]
    return (usual[0], others[0]) if usual and others else None


def level_cells(series: Series) -> tuple[Array, Array]:
    """The cells as plain objects (B,), fit for JSON, and whether each is known."""
    known = series.notna().to_numpy()
    return map_distinct(series, _plain, None, object), known


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float) else str(value)

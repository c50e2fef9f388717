"""The cells of a column as numbers, whichever way they are written."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.codes import is_place_name
from conjoin.codecs.table.forms import Found, find_form, form_from
from conjoin.codecs.table.moments import moment_of
from conjoin.codecs.table.values import (
    FINITE_NUMBER,
    blank,
    dates_in,
    days,
    floats,
    floats_or_bad,
    locate,
    map_distinct,
    stamps_or_bad,
)
from conjoin.codecs.table.written import (
    MAX_ODD_WORDS,
    is_empty_word,
    settled_decimal,
    usual_numbers,
)

__all__ = [
    "IN_WORDS",
    "LEVEL_TYPES",
    "form_of",
    "gaps_of",
    "in_numbers",
    "numbers_of",
    "odd_words",
    "read_in",
    "refuse_unread",
    "target_form",
    "unreadable",
    "usual_decimal",
    "written_cells",
]

LEVEL_TYPES = ("category", "ordered", "boolean")
IN_WORDS = (
    "number",
    "clock",
    "length",
    "calendar",
)  # forms of words; others are of objects such as timedelta
MIN_AMOUNTS = 11  # distinct numbers in words, from which on a target of words is a number
_MANY_WORDS = 500  # distinct words that tell which decimal mark a column has

Array = NDArray[Any]
Series = Any


def numbers_of(column: Any, series: Series) -> tuple[Array, Array]:
    """The cells of a numeric column as float64 (B,), dates as days, and whether each is known;
    ValueError names the first cell that can't be read."""
    if column.type == "date":
        return days(series, column.format)
    return floats(series) if column.parse is None else read_in(series, column.parse)


def in_numbers(column: Any, series: Series) -> Series:
    """A column whose numbers are written in words, such as "$1,200", as numbers, gaps as NaN;
    another column as it is."""
    if column.parse is None or not column.numeric:
        return series
    values, _ = numbers_of(column, blank(series, column.missing))
    return pd.Series(values, series.index, name=series.name)


def read_in(series: Series, form: Any) -> tuple[Array, Array]:
    """As ``numbers_of``, of words that are written in the way ``form``."""
    values, known, bad = _read_or_bad(series, form)
    if bad.any():
        raise locate(series, bad, f"a number ({form.describe()})")
    return values, known


def _read_or_bad(series: Series, form: Any) -> tuple[Array, Array, Array]:
    values = map_distinct(series, lambda cell: _number(form, cell), np.nan, "float64")
    known = ~np.isnan(values)
    bad = series.notna().to_numpy() & ~known
    if bad.any():
        # a word for "missing" is no mistake, whether or not the rows of the fit had it
        bad &= ~map_distinct(series, is_empty_word, True, bool)
    return values, known, bad


def unreadable(column: Any, series: Series) -> tuple[Array, str]:
    """Which cells (B,) of a numeric column are neither missing nor what the column holds, and what
    that is, in words."""
    series = blank(series, column.missing)
    if column.type == "date":
        return stamps_or_bad(series, column.format)[1], dates_in(column.format)
    if column.parse is None:
        return floats_or_bad(series)[2], FINITE_NUMBER
    return _read_or_bad(series, column.parse)[2], f"a number ({column.parse.describe()})"


def refuse_unread(column: Any, asked: Any) -> None:
    """ValueError where a value, or an end of a range, that a numeric column is asked for can't be
    read."""
    ends = list(asked) if isinstance(asked, tuple | list | set) else [asked]
    series: Series = pd.Series(ends, dtype=object).infer_objects()
    bad, expected = unreadable(column, series)
    if bad.any():
        raise ValueError(
            f"given asks for {column.name}={ends[int(bad.argmax())]!r}, which is not {expected}"
            + (", nor one such as 2024-03-31." if column.type == "date" else ".")
        )


def gaps_of(column: Any, series: Series) -> Array:
    """(B,) which cells of a column are missing, those that hold a word for it included."""
    gone: Array = blank(series, column.missing).isna().to_numpy()
    if column.parse is None:
        return gone
    return gone | map_distinct(series, is_empty_word, True, bool)


def _number(form: Any, cell: Any) -> float:
    value = form.read(cell)
    return float("nan") if value is None or not np.isfinite(value) else value


def written_cells(form: Any, raw: Array, dtype: str) -> Series:
    """(B,) numbers as the column writes them, in its dtype."""
    cells = np.empty(len(raw), dtype=object)
    cells[:] = [form.write(value) for value in raw.tolist()]
    return pd.Series(cells).astype(dtype)  # type: ignore[call-overload]


def usual_decimal(frame: Any) -> str:
    """The decimal mark that columns of words show; "" where they show none, where columns differ,
    and of what is no table."""
    if not isinstance(frame, pd.DataFrame):
        return ""
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    shown = {settled_decimal(_distinct_words(column)) for column in columns}
    shown |= {"." for column in columns if _has_fractions(column)}
    shown -= {""}
    return shown.pop() if len(shown) == 1 else ""


def _distinct_words(series: Series) -> list[str]:
    """Some of them; none of a column of other cells."""
    return _all_words(series)[:_MANY_WORDS]


def _all_words(series: Series) -> list[str]:
    """The distinct words of a column; none of one of other cells."""
    if series.dtype != object and not pd.api.types.is_string_dtype(series.dtype):
        return []
    if pd.api.types.infer_dtype(series, skipna=True) != "string":
        return []
    return list(pd.unique(series.dropna().astype(object)))


def _has_fractions(series: Series) -> bool:
    """Whether a column of floats has numbers that are not whole."""
    if not pd.api.types.is_float_dtype(series.dtype):
        return False
    values = series.to_numpy(dtype="float64", na_value=np.nan)
    return bool((values != np.rint(values))[~np.isnan(values)].any())


def form_of(series: Series, asked: dict[str, Any], kind: str, usual: str = "") -> Found | None:
    """How the words of a column stand for numbers; None where they do not, or were said not to.

    ``asked``: what the user says of it. ``kind``: the type that it has otherwise. ``usual``: the
    decimal mark of the table. ValueError where the user says that it holds numbers, and a word is
    none."""
    moment = moment_of(series)
    if moment is not None:
        return None if asked.get("type") in LEVEL_TYPES else Found(moment, (), ())
    parse = asked.get("parse", "")
    if parse and not isinstance(parse, str):
        return Found(form_from(parse), (), ())
    wanted = bool(parse) or asked.get("type") in ("real", "integer")
    if parse == "words" or not (wanted or (kind == "category" and "type" not in asked)):
        return None
    if isinstance(series.dtype, pd.CategoricalDtype) and not wanted:
        return None
    words = [str(word) for word in pd.unique(series.dropna().astype(object))]
    if not wanted and is_place_name(series.name) and any(map(str.isdigit, words)):
        return None
    pointed = usual == "," and any("." in word for word in words)
    if not parse and wanted and not pointed and _plain(words):
        return None
    if not wanted and pd.api.types.infer_dtype(series, skipna=True) != "string":
        return None
    found = find_form(words, parse or ("number" if wanted else ""), usual)
    if found is None and parse:
        raise _no_form(series, words, parse)
    return found


def target_form(
    series: Series, asked: dict[str, Any], wanted: bool, usual: str = ""
) -> Found | None:
    """How the words of a target stand for numbers; None where they are plain numbers or classes.

    ``wanted``: whether a number is asked for; else few distinct amounts are taken as classes."""
    if asked.get("type") in LEVEL_TYPES and not wanted:
        return None
    said = {"type": "real"} if wanted and "parse" not in asked else {}
    found = form_of(series, {**asked, **said}, "category", usual)
    if found is None or found.form.form not in IN_WORDS:
        return None
    if wanted or asked.get("parse"):
        return found
    amounts = {found.form.read(word) for word in pd.unique(series.dropna())} - {None}
    return found if len(amounts) >= MIN_AMOUNTS else None


def odd_words(series: Series) -> list[str]:
    """The few words of a column that stand among amounts; none where they are many, or there are
    few amounts."""
    words = _all_words(series)
    numbers = usual_numbers(words)
    odd = [word for word in words if word not in numbers and not is_empty_word(word)]
    return odd if len(numbers) >= MIN_AMOUNTS and len(odd) <= MAX_ODD_WORDS else []


def _plain(words: list[str]) -> bool:
    try:
        return bool(np.isfinite([float(word) for word in words]).all())
    except ValueError:
        return False


def _no_form(series: Series, words: list[str], said: str) -> ValueError:
    """Which word stands in the way."""
    odd = next(
        (word for word in words if not is_empty_word(word) and find_form([word], said) is None),
        None,
    )
    if odd is None:
        return ValueError(
            f"Column {series.name!r} was said to be {said!r}, but its numbers are not written in "
            f"one way: {', '.join(map(repr, words[:3]))}; write them in one unit, with the same "
            "marks."
        )
    row = int((series.astype(object).astype(str) == odd).to_numpy().argmax())
    return ValueError(
        f"Column {series.name!r}, row {row}: {odd!r} is not a number, but the column was said to "
        f"be {said!r}; correct it, or name it in missing=."
    )

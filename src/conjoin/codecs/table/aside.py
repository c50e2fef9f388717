"""Columns that a model of the table should leave out, each with a reason for the user."""

from typing import Any

import numpy as np

from conjoin.codecs.table.codes import looks_like_identifier
from conjoin.codecs.table.guess import mixed_dates, style_of_dates, style_words
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import Tally, quoted
from conjoin.codecs.table.written import is_empty_word, obstacle

__all__ = ["BESIDE", "reason_to_set_aside"]

# why pictures, strings and molecules are no columns of the table itself
BESIDE = "which a fit reads and models beside the columns"

MIN_DENSE = 100  # distinct whole numbers, among twice as many, that no chance keeps apart
_MOSTLY_DIFFERENT = "nearly every value is different"
_MOMENTS = ("clock", "length", "calendar", "duration", "period", "time of day")
MIN_WORDS_OF_TEXT = 3
MIN_TEXT_SHARE = 0.5  # of the distinct words, that have several words in them


def reason_to_set_aside(
    column: Column, counts: Tally, *, explicit: bool, random_digits: bool = False
) -> str:
    """Why to set the column aside, or nothing; a type that the user gave keeps it, unless there is
    nothing to model. ``random_digits``: whether the digits of its whole numbers are random."""
    if column.type == "picture":
        return f"it holds pictures, {BESIDE}"
    if column.type == "text":
        return f"it holds strings, {BESIDE}"
    if column.type == "smiles":
        return f"it holds molecules (SMILES), {BESIDE}"
    if not column.numeric and not column.levels:
        return "all of its cells are missing"
    if explicit:
        return ""
    if not len(counts.values):
        return "all of its cells are missing"
    if len(counts.values) == 1:
        return _one_value(column, counts)
    if column.type == "real" and "int" in column.dtype.lower():
        return "its whole numbers are beyond 2^51, where a model of numbers cannot keep them apart"
    if random_digits and not column.unit and column.parse is None:
        return (
            "its whole numbers are random digits of one length, like an identifier; if they are "
            f"amounts, say types={{{column.name!r}: 'integer'}}"
        )
    return _identifier(column, counts)


def _one_value(column: Column, counts: Tally) -> str:
    only = f"{counts.values[0]:g}" if column.numeric else quoted(counts.values[0])
    why = f"it has one value only, {only}"
    if not counts.missing:
        return why
    share = counts.missing / counts.rows
    return f"{why}, or none ({share:.1%} of rows); if a gap has a meaning, write a word for it"


def _identifier(column: Column, counts: Tally) -> str:
    rows = counts.observed
    distinct = len(counts.values)
    if counts.rows < 20 or column.type not in ("integer", "category"):
        return ""
    if column.parse is not None and column.parse.form in _MOMENTS:
        return ""  # a time is no identifier, like a date
    unique = bool((counts.counts <= 1).all())
    if column.numeric and unique:
        reach = np.ptp(counts.values)
        if reach == distinct - 1:
            return "its whole numbers count the rows, like an identifier"
        # by chance numbers so close together would hardly all differ: exp(-MIN_DENSE / 4)
        if distinct >= MIN_DENSE and reach < 2 * distinct:
            return "its whole numbers lie close together and none stands twice, like an identifier"
    if distinct >= 0.95 * rows and looks_like_identifier(column.name):
        return "it is named like an identifier, and nearly every value is different"
    return "" if column.numeric else _text(column.name, unique, rows, counts)


def _text(name: Any, unique: bool, rows: float, counts: Tally) -> str:
    distinct = len(counts.values)
    words = [value for value in counts.values if isinstance(value, str)]
    if (
        len(words) >= 0.5 * distinct
        and distinct >= 0.5 * rows
        and np.mean([len(word) for word in words]) > 40
    ):
        return f"it holds free text, mostly different in each row; {_as_text(name)}"
    if not unique and (distinct <= 64 or counts.counts.max() >= 5):
        return ""
    why = "every value is different, like an identifier" if unique else _MOSTLY_DIFFERENT
    style = style_of_dates([word for word in words if not is_empty_word(word)])
    if style:
        return f"its words look like dates ({quoted(words[-1])}); {style_words(name, style)}"
    hindered = obstacle(words, name)
    if hindered:
        return hindered
    dates = mixed_dates(words)
    several = sum(len(word.split()) >= MIN_WORDS_OF_TEXT for word in words)
    if dates is None and (not unique or several >= MIN_TEXT_SHARE * distinct):
        return f"{why}; {_as_text(name)}"
    if dates is None:
        return why
    date, odd = map(quoted, dates)
    return f"its dates ({date}) stand beside what is none in that format ({odd})"


def _as_text(name: Any) -> str:
    return f"to model it as text, say types={{{name!r}: 'text'}}"

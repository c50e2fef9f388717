"""How the cells of a column stand for numbers, where they are no plain numbers: the ways of writing
that are known, what is found in a column's words, and how each is saved.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from conjoin.codecs.table.calendar_words import CalendarWords, learn_calendar
from conjoin.codecs.table.clock import Clock, learn_clock
from conjoin.codecs.table.lengths import Lengths, learn_lengths
from conjoin.codecs.table.moments import Duration, PeriodOf, TimeOfDay
from conjoin.codecs.table.versions import versions_in
from conjoin.codecs.table.written import (
    NAMED_PARSES,
    Written,
    is_empty_word,
    learn_written,
)

__all__ = [
    "FORMS",
    "NAMED_PARSES",
    "Form",
    "Found",
    "find_form",
    "form_from",
    "form_json",
    "is_parse",
]

JSON = dict[str, Any]
Form = Written | Clock | Lengths | CalendarWords | Duration | PeriodOf | TimeOfDay

_KINDS = (Written, Clock, Lengths, CalendarWords, Duration, PeriodOf, TimeOfDay)
FORMS: dict[str, Any] = {each.form: each for each in _KINDS}

_MIN_NUMBERS = 3  # distinct numbers of a column that is taken to hold numbers
# plain whole numbers in words may be codes; so many distinct ones are amounts
_MIN_PLAIN_NUMBERS = 11
_TRIED_WORDS = 20  # of many, which tell at once that a column holds other words


class Found(NamedTuple):
    """A way of writing, the words that stand for a missing cell, and what was assumed."""

    form: Any
    missing: tuple[str, ...]
    assumed: tuple[str, ...]


def find_form(words: Sequence[str], parse: str = "", usual: str = "") -> Found | None:
    """The one way in which every word is a number, but for those that stand for a missing cell;
    None where there is none. ``parse``: what the user said, one of ``NAMED_PARSES``; ``usual``: the
    decimal mark of other columns, "" where that is not known."""
    empty = tuple(word for word in words if is_empty_word(word))
    numbers = [word for word in words if not is_empty_word(word)]
    if parse == "words" or not numbers:
        return None
    if not parse and (len(numbers) < _MIN_NUMBERS or _learn(numbers[:_TRIED_WORDS], "") is None):
        return None
    if not parse and versions_in(numbers) is not None:
        return None
    found = _learn(numbers, parse, usual)
    if found is None or (not parse and _may_be_codes(numbers, found[0])):
        return None
    return Found(found[0], empty, found[1])


def _learn(words: Sequence[str], parse: str, usual: str = "") -> tuple[Any, tuple[str, ...]] | None:
    if parse in ("", "time"):
        found = learn_clock(words)
        if found is not None:
            return found
        other = learn_lengths(words) or learn_calendar(words)
        if other is not None or parse == "time":
            return None if other is None else (other, ())
    written = learn_written(words, "" if parse == "words" else parse, usual)
    return None if written is None else (written.written, written.assumed)


def _may_be_codes(words: Sequence[str], form: Any) -> bool:
    """Whether plain whole numbers are few, or all of one length, as codes are."""
    if any(not word.strip().isdigit() for word in words):
        return False
    lengths = {len(word.strip()) for word in words}
    return len(words) < _MIN_PLAIN_NUMBERS or (len(lengths) == 1 and lengths.pop() > 3)


def is_parse(value: Any) -> bool:
    """Whether a user may say it of how a column is to be read."""
    return value in NAMED_PARSES if isinstance(value, str) else isinstance(value, Mapping)


def form_json(form: Any) -> JSON:
    return {"form": form.form, **dataclasses.asdict(form)}


def form_from(data: Any) -> Any:
    """A form from its JSON; ValueError names what is not known."""
    if data is None or not isinstance(data, Mapping):
        return data
    fields = dict(data)
    kind = fields.pop("form", Written.form)
    if kind not in FORMS:
        raise ValueError(f"{kind!r} is no way of writing; choose from {', '.join(FORMS)}.")
    known = [field.name for field in dataclasses.fields(FORMS[kind])]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(
            f"A way of writing has no {unknown[0]!r}; it has {', '.join(['form', *known])}."
        )
    plain = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    for field in dataclasses.fields(FORMS[kind]):
        value = plain.get(field.name, field.default)
        if type(value) is not type(field.default):
            raise ValueError(
                f"The {field.name!r} of a way of writing must be like {field.default!r}, "
                f"not {value!r}."
            )
    return FORMS[kind](**plain)

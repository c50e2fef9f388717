"""Dates with or without leading zeros, such as 02.10.2016 and 2.10.2016: ``%-d`` in a format stands
for a day of one digit or two, likewise ``%-m``, ``%-H`` and ``%-I``."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from conjoin.codecs.table.values import reading_of

__all__ = ["with_padding", "write_dates"]

Series = Any  # a pandas Series of times

_CODE = re.compile(r"%-?(?P<letter>[A-Za-z%])")
_BARE = re.compile(r"(%-[dmHI])")
_PADDED = "dmHI"


def with_padding(words: Iterable[Any], form: str) -> str:
    """The format of dates, with the digits that are written without leading zeros: where more words
    have one digit than a zero before one.

    >>> with_padding(["2.10.2016", "12.1.2017"], "%d.%m.%Y")
    '%-d.%-m.%Y'
    >>> with_padding(["2.10.2016", "12.01.2017"], "%d.%m.%Y")
    '%-d.%m.%Y'
    """
    pattern = re.compile(_pattern(reading_of(form)))
    bare: Counter[str] = Counter()  # words with one digit, less those with a zero
    for word in words:
        found = pattern.fullmatch(word.strip()) if isinstance(word, str) else None
        for letter, digits in (found.groupdict() if found else {}).items():
            bare[letter] += (len(digits) == 1) - (len(digits) == 2 and digits[0] == "0")
    return _CODE.sub(
        lambda code: f"%-{code['letter']}" if bare[code["letter"]] > 0 else code[0], form
    )


def _pattern(form: str) -> str:
    """A regular expression of the words of a format, with a group for each number that can have a
    leading zero."""
    parts = _CODE.split(form)
    seen: set[str] = set()
    out = re.escape(parts[0])
    for letter, plain in zip(parts[1::2], parts[2::2], strict=True):
        first = letter in _PADDED and letter not in seen
        seen.add(letter)
        out += rf"(?P<{letter}>\d\d?)" if first else ".+?"
        out += re.escape(plain)
    return out


def write_dates(stamps: Series, form: str) -> Series:
    """Times as words, in a format."""
    words = None
    for part in _BARE.split(form):
        if not part:
            continue
        text = stamps.dt.strftime(part.replace("%-", "%")).astype(object)
        if _BARE.fullmatch(part):
            text = text.str.replace(r"^0(?=\d)", "", regex=True)
        words = text if words is None else words + text
    return words

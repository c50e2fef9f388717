"""Lengths of time in words, such as "2h 15m", "1 hour 5 minutes" or "45 min": numbers of their
smallest unit, and how they are written back."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from conjoin.codecs.table.clock import number_or_none

__all__ = ["Lengths", "learn_lengths", "usual_lengths"]

_SECONDS = (86_400, 3_600, 60, 1)
_UNITS = ("d", "h", "min", "s")
_WORDS = (
    ("d", "day", "days"),
    ("h", "hr", "hrs", "hour", "hours"),
    ("m", "min", "mins", "minute", "minutes"),
    ("s", "sec", "secs", "second", "seconds"),
)
_UNIT_OF = {word: place for place, words in enumerate(_WORDS) for word in words}
_PART = re.compile(r"(?P<number>\d{1,6})(?P<gap> ?)(?P<word>[A-Za-z]+)\.?(?P<after>,? ?)")
_ZEROS = ("kept", "leading left out", "left out")  # what becomes of units of which there are none


@dataclasses.dataclass(frozen=True, slots=True)
class Lengths:
    """How lengths are written: ``words`` of the units from the largest to the smallest, each for
    one and for several, ``gap`` between a number and its word, ``between`` two units, ``width``
    digits of all units but the first, and what becomes of ``zeros``."""

    form: ClassVar[str] = "length"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    words: tuple[str, ...] = ("h", "h", "m", "m")
    gap: str = ""
    between: str = " "
    width: int = 1
    zeros: str = "kept"

    def __post_init__(self) -> None:
        places = [_UNIT_OF.get(word.lower(), -1) for word in self.words[::2]]
        pairs = len(self.words) >= 2 and len(self.words) % 2 == 0
        if not pairs or -1 in places or places != sorted(set(places)):
            raise ValueError(
                "The words of lengths of time are those of days, hours, minutes and seconds, in "
                f"this order, each for one and for several; got {self.words!r}."
            )
        if self.zeros not in _ZEROS or self.width not in (1, 2):
            raise ValueError(
                f"Zeros of lengths of time are one of {', '.join(_ZEROS)}, and the width is 1 or "
                f"2; got {self.zeros!r} and {self.width}."
            )

    @property
    def places(self) -> list[int]:
        return [_UNIT_OF[word.lower()] for word in self.words[::2]]

    @property
    def unit(self) -> str:
        return _UNITS[self.places[-1]]

    def read(self, cell: Any) -> float | None:
        """The length in the smallest unit; None for what is none."""
        if not isinstance(cell, str):
            return number_or_none(cell)
        parts = _parts(cell)
        if parts is None:
            return None
        seconds = sum(int(part["number"]) * _SECONDS[_place(part)] for part in parts)
        return seconds / _SECONDS[self.places[-1]]

    def write(self, value: float) -> str:
        left = round(float(value)) * _SECONDS[self.places[-1]]
        counts = []
        for place in self.places:
            count, left = divmod(left, _SECONDS[place])
            counts.append(count)
        first = next((at for at, count in enumerate(counts) if count), len(counts) - 1)
        out: list[str] = []
        for at, count in enumerate(counts):
            leading = at < first and self.zeros != "kept"
            inner = count == 0 and self.zeros == "left out" and (at > first or leading)
            if leading or inner:
                continue
            digits = f"{count:0{self.width if out else 1}d}"
            out.append(digits + self.gap + self.words[2 * at + (count != 1)])
        return self.between.join(out)

    def describe(self) -> str:
        return f"lengths of time, in {self.unit}"


def _place(part: re.Match[str]) -> int:
    return _UNIT_OF[part["word"].lower()]


def _parts(cell: str) -> list[re.Match[str]] | None:
    """The numbers of a length and their units, from the largest; None for what is none."""
    cell = cell.strip()
    parts = list(_PART.finditer(cell))
    if not parts or "".join(part[0] for part in parts) != cell:
        return None
    if any(part["word"].lower() not in _UNIT_OF for part in parts):
        return None
    places = [_place(part) for part in parts]
    return parts if places == sorted(set(places)) else None


def learn_lengths(words: Sequence[str]) -> Lengths | None:
    """The one way in which every word is a length of time of several units, and is written back
    the same; None where there is none."""
    found = [_parts(word) for word in words]
    read = [parts for parts in found if parts is not None]
    if len(read) < len(words) or max(map(len, read), default=0) < 2:
        return None
    every = [part for parts in read for part in parts]
    longest = next(parts for parts in read if len(parts) > 1)
    styles: dict[int, list[str]] = {}
    for part in every:
        pair = styles.setdefault(_place(part), ["", ""])
        pair[int(part["number"]) != 1] = part["word"]
    both = [(one or many, many or one) for _, (one, many) in sorted(styles.items())]
    for zeros in _ZEROS:
        for width in (1, 2):
            form = Lengths(
                words=tuple(word for pair in both for word in pair),
                gap=longest[0]["gap"],
                between=longest[0]["after"],
                width=width,
                zeros=zeros,
            )
            if all(form.write(form.read(word) or 0.0) == word.strip() for word in words):
                return form
    return None


def usual_lengths(words: Sequence[str]) -> set[str]:
    """The words that are lengths, where some are of several units."""
    found = {word: parts for word in words if (parts := _parts(word)) is not None}
    return set(found) if any(len(parts) > 1 for parts in found.values()) else set()

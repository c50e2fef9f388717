"""Months, quarters and weeks in words, such as "2017-10", "Q3 2017" or "2017-W05": numbers counted
from 1970, and how they are written back."""

import calendar
import dataclasses
import datetime
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from conjoin.codecs.table.clock import number_or_none

__all__ = ["CalendarWords", "learn_calendar", "usual_calendar"]

_FIRST_YEAR = 1970
_WEEK_1970 = datetime.date(1970, 1, 1).toordinal() // 7
_PARTS = {
    "%Y": r"(?P<year>[12]\d{3})",
    "%m": r"(?P<month>0[1-9]|1[0-2])",
    "%b": rf"(?P<month>{'|'.join(calendar.month_abbr[1:])})",
    "%B": rf"(?P<month>{'|'.join(calendar.month_name[1:])})",
    "%q": r"(?P<quarter>[1-4])",
    "%V": r"(?P<week>0[1-9]|[1-4]\d|5[0-3])",
}
_STYLES = {
    **dict.fromkeys(("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%b %Y", "%B %Y", "%b-%Y"), "months"),
    **dict.fromkeys(("Q%q %Y", "%Y Q%q", "%Y-Q%q", "%YQ%q", "Q%q/%Y", "Q%q-%Y"), "quarters"),
    **dict.fromkeys(("%Y-W%V", "%YW%V"), "weeks"),
}
_PER_YEAR = {"months": 12, "quarters": 4}


@dataclasses.dataclass(frozen=True, slots=True)
class CalendarWords:
    """Months, quarters or ISO weeks, in a style such as ``%Y-%m``; ``%q`` is a quarter."""

    form: ClassVar[str] = "calendar"

    style: str = "%Y-%m"

    def __post_init__(self) -> None:
        if self.style not in _STYLES:
            raise ValueError(
                f"{self.style!r} is no way of writing months, quarters or weeks; choose from "
                f"{', '.join(_STYLES)}."
            )

    @property
    def unit(self) -> str:
        return _STYLES[self.style]

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Of what can be written: the years 1000 to 2999."""
        if self.unit == "weeks":
            first = datetime.date.fromisocalendar(1000, 1, 1).toordinal() // 7
            last = datetime.date.fromisocalendar(2999, 52, 1).toordinal() // 7
            return float(first - _WEEK_1970), float(last - _WEEK_1970)
        each = _PER_YEAR[self.unit]
        return float((1000 - _FIRST_YEAR) * each), float((3000 - _FIRST_YEAR) * each - 1)

    def read(self, cell: Any) -> float | None:
        """How many months, quarters or weeks after the first of 1970; None for what is none."""
        if not isinstance(cell, str):
            return number_or_none(cell)
        found = _pattern(self.style).fullmatch(cell.strip())
        return None if found is None else self._count(found)

    def _count(self, found: re.Match[str]) -> float | None:
        year = int(found["year"])
        if self.unit == "weeks":
            try:
                monday = datetime.date.fromisocalendar(year, int(found["week"]), 1)
            except ValueError:  # of a week 53 in a year of 52
                return None
            return float(monday.toordinal() // 7 - _WEEK_1970)
        place = int(found["quarter"]) - 1 if self.unit == "quarters" else _month(found["month"])
        return float((year - _FIRST_YEAR) * _PER_YEAR[self.unit] + place)

    def write(self, value: float) -> str:
        count = round(float(value))
        if self.unit == "weeks":
            monday = datetime.date.fromordinal((count + _WEEK_1970) * 7 + 1)
            year, week, _ = monday.isocalendar()
            return self._words(year, {"%V": f"{week:02d}"})
        year, place = divmod(count, _PER_YEAR[self.unit])
        if self.unit == "quarters":
            return self._words(year + _FIRST_YEAR, {"%q": str(place + 1)})
        names = {"%b": calendar.month_abbr[place + 1], "%B": calendar.month_name[place + 1]}
        return self._words(year + _FIRST_YEAR, {"%m": f"{place + 1:02d}", **names})

    def _words(self, year: int, parts: dict[str, str]) -> str:
        out = self.style.replace("%Y", f"{year:04d}")
        for code, text in parts.items():
            out = out.replace(code, text)
        return out

    def describe(self) -> str:
        return f"{self.unit} of a calendar, counted from 1970"


def _month(word: str) -> int:
    """The place of a month in its year, from 0."""
    if word.isdigit():
        return int(word) - 1
    names = calendar.month_abbr if word in calendar.month_abbr else calendar.month_name
    return list(names).index(word) - 1


def _pattern(style: str) -> re.Pattern[str]:
    parts = re.split(r"(%[YmbBqV])", style)
    return re.compile("".join(_PARTS.get(part, re.escape(part)) for part in parts))


def learn_calendar(words: Sequence[str]) -> CalendarWords | None:
    """The one way in which every word is a month, a quarter or a week; None where there is none,
    or the words could be seasons, such as 2009-10 and 2010-11."""
    if not words or not any(map(str.isdigit, words[0])):
        return None
    if all(map(_may_be_season, words)):
        return None
    for style in _STYLES:
        form = CalendarWords(style)
        if all(form.read(word) is not None for word in words):
            return form
    return None


def usual_calendar(words: Sequence[str]) -> set[str]:
    """The words that are months, quarters or weeks in the one way in which most are."""
    found = [
        {word for word in words if form.read(word) is not None}
        for form in map(CalendarWords, _STYLES)
    ]
    return max(found, key=len)


def _may_be_season(word: str) -> bool:
    found = re.fullmatch(r"(\d{4})[-/](\d\d)", word.strip())
    return found is not None and int(found[2]) == (int(found[1]) + 1) % 100

"""Times written as hours and minutes, such as "07:17", "7:17:30" or "7:17 pm": numbers of minutes
or seconds, and how they are written back."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = ["Clock", "learn_clock", "number_or_none", "usual_times"]

_TIME = re.compile(
    r"(?P<hour>\d{1,3}):(?P<minute>[0-5]\d)(:(?P<second>[0-5]\d)(\.(?P<rest>\d{1,6}))?)?"
    r"(?P<gap> ?)(?P<half>[aApP]\.?[mM]\.?)?"
)
_MAX_PLACES = 6
_DAY_MINUTES = 1440
_DAY_SECONDS = 86_400
MAX_LONG_SHARE = 0.02  # of times, up to which those of a day or more are named


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """How times are written: ``width`` digits of hours at least, whether seconds are told and with
    how many ``places``; ``half`` are the words for before and after noon; ``day`` is whether they
    are times of day, below 24 hours."""

    form: ClassVar[str] = "clock"

    width: int = 2
    seconds: bool = False
    places: int = 0
    half: tuple[str, ...] = ()
    day: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.places <= _MAX_PLACES and 1 <= self.width <= 3):
            raise ValueError(
                f"Times have 1 to 3 digits of hours and 0 to {_MAX_PLACES} decimals of seconds, "
                f"not {self.width} and {self.places}."
            )
        if len(self.half) not in (0, 2) or (self.places and not self.seconds):
            raise ValueError(
                "Times have no words for the halves of a day, or two, and decimals of seconds only "
                f"where seconds are told; got half={self.half!r}, places={self.places}."
            )

    @property
    def unit(self) -> str:
        return "s" if self.seconds else "min"

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Of what can be written, in minutes or seconds."""
        if not self.day:
            return 0.0, None
        top = _DAY_SECONDS - 10.0**-self.places if self.seconds else _DAY_MINUTES - 1.0
        return 0.0, round(top, self.places)

    def read(self, cell: Any) -> float | None:
        """Minutes, or seconds where they are told; None for what is no time."""
        if not isinstance(cell, str):
            return number_or_none(cell)
        found = _TIME.fullmatch(cell.strip())
        seconds = None if found is None else _seconds(found)
        if seconds is None:
            return None
        return seconds if self.seconds else seconds / 60

    def write(self, value: float) -> str:
        ticks = round(float(value) * (1 if self.seconds else 60) * 10**self.places)
        whole, rest = divmod(ticks, 10**self.places)
        minutes, second = divmod(whole, 60)
        hour, minute = divmod(minutes, 60)
        half = self.half[hour >= 12] if self.half else ""
        hour = (hour - 1) % 12 + 1 if self.half else hour
        text = f"{hour:0{self.width}d}:{minute:02d}"
        text += f":{second:02d}" if self.seconds else ""
        return text + (f".{rest:0{self.places}d}" if self.places else "") + half

    def describe(self) -> str:
        unit = "seconds" if self.seconds else "minutes"
        return f"times of day, in {unit} after midnight" if self.day else f"durations, in {unit}"


def number_or_none(cell: Any) -> float | None:
    """A cell that is no word as a number; None where it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _seconds(found: re.Match[str]) -> float | None:
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["half"][0] in "pP" else 0)
    second = float(f"{found['second'] or 0}.{found['rest'] or 0}")
    return hour * 3600 + int(found["minute"]) * 60 + second


def learn_clock(words: Sequence[str]) -> tuple[Clock, tuple[str, ...]] | None:
    """The one way in which every word is a time, and what was assumed; None where there is none.
    Times with words for the halves of a day are read beside those of 24 hours, where these show
    themselves by an hour after 12 or of 0; all are written as most are."""
    found = [_TIME.fullmatch(word.strip()) for word in words]
    read = [match for match in found if match is not None and _seconds(match) is not None]
    if not read or len(read) < len(words):
        return None
    plain = [match for match in read if not match["half"]]
    halved = [match for match in read if match["half"]]
    day = all(map(_is_of_day, read))
    if plain and halved and not (day and any(map(_is_of_24_hours, plain))):
        return None
    usual, others = (halved, plain) if len(halved) > len(plain) else (plain, halved)
    hours = [match["hour"] for match in usual]
    clock = Clock(
        width=2 if any(hour[0] == "0" for hour in hours if len(hour) > 1) else min(map(len, hours)),
        seconds=any(match["second"] for match in read),
        places=max(len(match["rest"] or "") for match in read),
        half=_halves(usual),
        day=day,
    )
    told = _told_of_halves(clock, others) if plain and halved else _told_of_long(read)
    return clock, told


def usual_times(words: Sequence[str]) -> set[str]:
    """The words that are times; times of day, where some are told as before or after noon."""
    found = {word: _TIME.fullmatch(word.strip()) for word in words}
    read = {word: match for word, match in found.items() if match and _seconds(match) is not None}
    if any(match["half"] for match in read.values()):
        return {word for word, match in read.items() if _is_of_day(match)}
    return set(read)


def _is_of_24_hours(found: re.Match[str]) -> bool:
    return not 1 <= int(found["hour"]) <= 12


def _is_of_day(found: re.Match[str]) -> bool:
    return (_seconds(found) or 0.0) < _DAY_SECONDS


def _told_of_halves(clock: Clock, others: Sequence[re.Match[str]]) -> tuple[str, ...]:
    """What becomes of times of one clock among those of the other."""
    word = next((each[0] for each in others if _is_of_24_hours(each)), others[0][0])
    usual = "those with AM and PM" if clock.half else "those of 24 hours"
    other = clock.write(clock.read(word) or 0.0)
    return (f"has times such as {word!r} among {usual}; they are read, and written as {other!r}",)


def _told_of_long(read: Sequence[re.Match[str]]) -> tuple[str, ...]:
    """That times are taken as durations for the sake of a few of them."""
    long = [match[0] for match in read if not _is_of_day(match)]
    if not 0 < len(long) <= MAX_LONG_SHARE * len(read):
        return ()
    return (
        f"has times of a day or more, such as {long[0]!r}, so that all are taken as durations; "
        "correct the cell if they are times of day",
    )


def _halves(read: Sequence[re.Match[str]]) -> tuple[str, ...]:
    """The words for before and after noon, as they are written."""
    first = read[0]
    if not first["half"]:
        return ()
    word = first["half"]
    morning, evening = ("A", "P") if word[0].isupper() else ("a", "p")
    return (first["gap"] + morning + word[1:], first["gap"] + evening + word[1:])

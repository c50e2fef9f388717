"""Cells that stand for a number but are objects of their own: lengths of time, periods of a
calendar, and times of day, as numbers and back. (Schemas need no pandas until cells are read.)"""

import dataclasses
import datetime
import math
from typing import Any, ClassVar

__all__ = ["Duration", "PeriodOf", "TimeOfDay", "day_text", "moment_of"]

_DAY_SECONDS = 86_400
_MICRO = 1_000_000  # microseconds of a second
_ORDINAL_1970 = 719_163  # days of the calendar up to 1970-01-01


@dataclasses.dataclass(frozen=True, slots=True)
class Duration:
    """Lengths of time (timedelta), in seconds."""

    form: ClassVar[str] = "duration"
    unit: ClassVar[str] = "s"
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)

    def read(self, cell: Any) -> float | None:
        """Seconds; of a word such as "1 days 02:00:00" too."""
        if isinstance(cell, int | float):
            return float(cell)
        import pandas as pd

        length = pd.to_timedelta(cell, errors="coerce")
        return None if pd.isna(length) else length / pd.Timedelta(seconds=1)

    def write(self, value: float) -> Any:
        import pandas as pd

        return pd.Timedelta(microseconds=round(value * _MICRO))

    def describe(self) -> str:
        return "lengths of time, in seconds"


@dataclasses.dataclass(frozen=True, slots=True)
class PeriodOf:
    """Periods of a calendar, such as months, counted from 1970."""

    form: ClassVar[str] = "period"
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)

    freq: str = "M"

    def read(self, cell: Any) -> float | None:
        """How many periods after the first of 1970; of a word such as "2024-03" too."""
        if isinstance(cell, int | float):
            return float(cell)
        import pandas as pd

        try:
            return float(pd.Period(cell, freq=self.freq).ordinal)
        except (ValueError, TypeError, AttributeError):
            return None

    def write(self, value: float) -> Any:
        import pandas as pd

        return pd.Period(ordinal=round(value), freq=self.freq)

    def describe(self) -> str:
        return f"periods of the frequency {self.freq}"


@dataclasses.dataclass(frozen=True, slots=True)
class TimeOfDay:
    """Times of day (datetime.time), in seconds after midnight."""

    form: ClassVar[str] = "time of day"
    unit: ClassVar[str] = "s"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, _DAY_SECONDS - 1e-6)

    def read(self, cell: Any) -> float | None:
        """Seconds; of a word such as "07:17" too."""
        if isinstance(cell, int | float):
            return float(cell)
        try:
            time = datetime.time.fromisoformat(cell) if isinstance(cell, str) else cell
            return time.hour * 3600 + time.minute * 60 + time.second + time.microsecond / _MICRO
        except (ValueError, AttributeError):
            return None

    def write(self, value: float) -> datetime.time:
        ticks = min(max(round(value * _MICRO), 0), _DAY_SECONDS * _MICRO - 1)
        seconds, micro = divmod(ticks, _MICRO)
        return datetime.time(seconds // 3600, seconds // 60 % 60, seconds % 60, micro)

    def describe(self) -> str:
        return "times of day, in seconds after midnight"


def day_text(value: float) -> str:
    """The date of a number of days since 1970.

    >>> day_text(19737.25)
    '2024-01-15'
    """
    try:
        return str(datetime.date.fromordinal(_ORDINAL_1970 + math.floor(value)))
    except (ValueError, OverflowError):
        return f"{value:g} days after 1970"


def moment_of(series: Any) -> Duration | PeriodOf | TimeOfDay | None:
    """What the cells of a column are, if they are of this kind."""
    import pandas as pd

    if isinstance(series.dtype, pd.PeriodDtype):
        return _periods(series.dtype)
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return Duration()
    if series.dtype != object:
        return None
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("timedelta", "timedelta64"):
        return Duration()
    if kind == "time":
        return TimeOfDay()
    return _periods(pd.PeriodIndex(series.dropna()[:1]).dtype) if kind == "period" else None


def _periods(dtype: Any) -> PeriodOf:
    """Of a dtype such as period[M]."""
    return PeriodOf(str(dtype).removeprefix("period[").removesuffix("]"))

"""Dates with years of two digits: which century is meant, and how to say otherwise."""

import datetime
from typing import Any

from conjoin.codecs.table.values import quoted, read_dates, reading_of, says_century, up_to

__all__ = ["century_words", "with_century"]

Series = Any  # a pandas Series of any cell type

MAX_YEARS_AHEAD = 20  # of plans and due dates, beyond which years to come are taken as past ones
_LAST_OF_CENTURY = 1999
_LAST_READ = 2068  # where nothing else is said


def with_century(series: Series, form: str) -> str:
    """The format of a column of dates, with the year up to which its years of two digits reach, if
    that is this year: where some dates would lie in years to come, and others in the last century,
    or further ahead than ``MAX_YEARS_AHEAD``. A format that says so, or has all digits, stays."""
    if "%y" not in form or says_century(form):
        return form
    years = read_dates(series.astype(object), form).dt.year.dropna()
    now = datetime.date.today().year
    to_come = years[years > now]
    past = (years <= _LAST_OF_CENTURY).any() or (to_come > now + MAX_YEARS_AHEAD).any()
    return up_to(form, now) if len(to_come) and past else form


def century_words(name: Any, series: Series, form: str) -> list[str]:
    """Which years were taken, where the usual reading has years to come, by the cell that lies
    furthest from it, and how to have others."""
    if "%y" not in form:
        return []
    series = series.reset_index(drop=True)
    dates = read_dates(series.astype(object), form).dropna()
    if not len(dates):
        return []
    moved = says_century(form)
    if not moved and dates.dt.year.max() <= datetime.date.today().year:
        return []
    place = _first_moved(series, dates, form) if moved else dates.idxmax()
    last = int(form[-4:]) if moved else _LAST_READ
    other = up_to(form, datetime.date.today().year if last == _LAST_READ else _LAST_READ)
    return [
        f"Column {name!r} has years of two digits, which are taken to lie between {last - 99} and "
        f"{last}: {quoted(series[place])} is {dates[place]:%Y-%m-%d}. For other years, say "
        f"types={{{name!r}: {{'type': 'date', 'format': {other!r}}}}}."
    ]


def _first_moved(series: Series, dates: Series, form: str) -> Any:
    """The index of the first date that the usual reading would give another century."""
    usual = read_dates(series.astype(object), reading_of(form)).reindex(dates.index)
    moved = dates[usual != dates]
    return moved.index[0] if len(moved) else dates.index[0]

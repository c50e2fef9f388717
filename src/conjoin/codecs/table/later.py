"""Rows that come after the fit, as people have them: what can't be read counts as missing, names of
columns are matched as text, times without a zone are told. Nothing of it is silent."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conjoin.codecs.table.cells import Cells
from conjoin.codecs.table.reading import numbers_of, unreadable
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank, iso_rewritten, quoted, zones_of
from conjoin.codecs.table.written import Written

__all__ = [
    "CellWarning",
    "Unread",
    "asked_otherwise",
    "asked_rounded",
    "named_as_at_fit",
    "taken_words",
    "tell_bare",
    "tell_other_dates",
    "tell_truths",
    "tell_unlike",
    "tell_zones",
    "unread_words",
    "without_unreadable",
]

LOOKED_AT_ROWS = 1000  # of a file, for the way in which it is written
MIN_TOLD_CELLS = 10  # of a column: fewer may all be odd by chance
OFF_STEP_SHARE = 0.01  # of a step, from which a number lies between two
_SHOWN = 5  # cells, or columns, that a warning names


class CellWarning(UserWarning):
    """A cell of new rows could not be read, and counts as missing; or was taken for something that
    it may not be. With ``strict=True`` of the estimator, an unreadable cell is an error."""


class Unread(NamedTuple):
    """A cell that could not be read: its row by place and as a warning counts it."""

    place: int
    row: int
    column: Any
    words: str  # "'abc' is not a finite number"


def without_unreadable(
    frame: pd.DataFrame, columns: Sequence[Column], strict: bool
) -> tuple[pd.DataFrame, tuple[Unread, ...]]:
    """The frame with cells that can't be read as missing ones, and what they were; a warning names
    them. ``strict``: ValueError for the first of them instead."""
    found: list[Unread] = []
    emptied: dict[Any, Any] = {}
    for column in columns:
        if not column.numeric or column.role == "set aside" or column.name not in frame.columns:
            continue
        series = frame[column.name]
        bad, expected = unreadable(column, series)
        if bad.any():
            found += _listed(series, bad, column.name, expected)
            emptied[column.name] = series.mask(bad)
    if found and strict:
        raise ValueError(
            f"strict=True: {_in_words(found[0])}; correct it, or leave strict out to have it "
            "counted as missing."
        )
    if not found:
        return frame, ()
    _warn(found)
    cells = [emptied.get(name, frame[name]) for name in frame.columns]
    return pd.concat(cells, axis=1).set_axis(frame.columns, axis=1), tuple(found)


def tell_zones(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """A warning where new times have no time zone and those of the fit had one, or the other way
    round: both are read as UTC."""
    for column in columns:
        if column.type != "date" or not column.modelled or column.name not in frame.columns:
            continue
        zoned, without = zones_of(frame[column.name])
        if zoned != column.zoned and (zoned or without):
            now, then = ("a time zone", "none") if zoned else ("no time zone", "one")
            warnings.warn(
                f"Column {column.name!r} has times with {now}, and had {then} at the fit; what has "
                "no zone is taken for UTC.",
                CellWarning,
                stacklevel=5,
            )


def tell_other_dates(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """A warning for each column in which cells are dates as ISO writes them, and those of the fit
    were written in another way."""
    for column in columns:
        taken = _other_dates(frame, column)
        places: list[int] = [] if taken is None else np.flatnonzero(taken.notna()).tolist()
        if places:
            first = taken.iloc[places[0]]
            warnings.warn(
                _other_words(column, frame[column.name], places, first),
                CellWarning,
                stacklevel=5,
            )


def _other_words(column: Column, series: Any, places: list[int], first: str) -> str:
    others = len(places) - 1
    more = f", and so are {others:,} more cells" if others > 1 else ""
    more = ", and so is 1 more cell" if others == 1 else more
    zoned, plain = zones_of(series.iloc[places])
    # of a column without any zone tell_zones tells it
    zone = "; what has no zone is taken for UTC" if column.zoned and zoned and plain else ""
    return (
        f"Column {column.name!r}, row {_row(series, places[0])}: "
        f"{quoted(series.iloc[places[0]])} is written otherwise than the dates of the fit, and is "
        f"read as {first!r}{more}{zone} (rows are counted from 0)."
    )


def _other_dates(frame: pd.DataFrame, column: Column) -> Any:
    """(B,) dates that the format of the column does not read, as it writes them; None for a column
    that holds no dates, or is not there."""
    if not column.is_date or column.role == "set aside" or column.name not in frame.columns:
        return None
    return iso_rewritten(blank(frame[column.name], column.missing), column.format)


def tell_truths(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """A warning for each column of numbers in which cells are True or False."""
    for column in columns:
        if not _may_hold_truths(frame, column):
            continue
        truths = _truths(frame[column.name])
        if truths.any():
            one = "1 cell is" if truths.sum() == 1 else f"{truths.sum():,} cells are"
            warnings.warn(
                f"Column {column.name!r} holds numbers, and {one} True or False: they are taken "
                "as 1 and 0.",
                CellWarning,
                stacklevel=5,
            )


def _may_hold_truths(frame: pd.DataFrame, column: Column) -> bool:
    """Whether a column of numbers, more than 0 and 1, is in the frame."""
    amount = column.is_amount and column.modelled and column.parse is None
    return amount and column.name in frame.columns and column.range != (0, 1)


def _truths(series: Any) -> np.ndarray:
    """(B,) which cells are True or False."""
    if pd.api.types.is_bool_dtype(series.dtype):
        return np.asarray(series.notna(), dtype=bool)
    if series.dtype != object:
        return np.zeros(len(series), dtype=bool)
    return np.array([isinstance(cell, bool | np.bool_) for cell in series], dtype=bool)


def tell_bare(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """A warning for each column of numbers in words, such as 25.3%, whose cells all come without
    the unit: 0.25 may mean 25 %."""
    for column in columns:
        unit = column.parse.unit if isinstance(column.parse, Written) else ""
        if not unit or not column.modelled or column.name not in frame.columns:
            continue
        cells = blank(frame[column.name].head(LOOKED_AT_ROWS), column.missing).dropna()
        if len(cells) and not any(unit in str(cell) for cell in cells):
            first = quoted(cells.tolist()[0])
            warnings.warn(
                f"Column {column.name!r} has no {unit!r} here, which its cells had at the fit: "
                f"{first} is taken as {first.strip(chr(39))} {unit}.",
                CellWarning,
                stacklevel=5,
            )


def tell_unlike(frame: pd.DataFrame, fitted: Sequence[Cells]) -> None:
    """A warning for each column of which most cells are words that the fit has never seen, or, of
    whole numbers and of numbers in words, lie between the steps of the fit: the file may be written
    in another way. Decimals in finer steps are only measured better."""
    if len(frame) < MIN_TOLD_CELLS:
        return
    head = frame.head(LOOKED_AT_ROWS)
    for cells in fitted:
        column = cells.column
        if column.name not in head.columns:
            continue
        series = head[column.name]
        if column.levels:
            part = cells.encode(series)
            odd = part.unseen
            known = odd | part.observed
            what = f"words that the fit has never seen; it knows {column.choices}"
        elif column.is_amount and _is_coarse(column):
            raw = numbers_of(column, blank(series, column.missing))[0]
            known = np.isfinite(raw)
            odd = _off_step(cells, raw)[0]
            what = f"numbers between the steps of {column.resolution:g} of the fit"
        else:
            continue
        if known.sum() >= MIN_TOLD_CELLS and odd.sum() > known.sum() / 2:
            first = head[column.name].tolist()[int(odd.argmax())]
            warnings.warn(
                f"Column {column.name!r}: {odd.sum():,} of {known.sum():,} cells looked at hold "
                f"{what} ({quoted(first)} is the first). Is it written as "
                "at the fit?",
                CellWarning,
                stacklevel=5,
            )


def _off_step(cells: Cells, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) which numbers lie between two steps of the fit, and what each is taken as."""
    taken = cells.recorded(raw)
    steps = np.abs(np.where(np.isfinite(raw), taken - raw, 0.0)) / cells.column.resolution
    return (steps > OFF_STEP_SHARE) & (steps < 1), taken


def taken_words(frame: pd.DataFrame, fitted: Sequence[Cells]) -> list[str]:
    """Of each row which numbers lie between the steps of the fit, which are True or False, and
    which dates are written otherwise than at the fit, in words; "" for none."""
    words: list[list[str]] = [[] for _ in range(len(frame))]
    for cells in fitted:
        column = cells.column
        dates = _other_dates(frame, column)
        for place in () if dates is None else np.flatnonzero(dates.notna()).tolist():
            cell = quoted(frame[column.name].iloc[place])
            words[place].append(f"{column.name}: {cell} is taken as {dates.iloc[place]!r}")
        if _may_hold_truths(frame, column):
            for place in np.flatnonzero(_truths(frame[column.name])).tolist():
                truth = bool(frame[column.name].iloc[place])
                words[place].append(f"{column.name}: {truth} is taken as {int(truth)}")
        if column.name not in frame.columns or not (column.is_amount and _is_coarse(column)):
            continue
        series = frame[column.name]
        odd, taken = _off_step(cells, numbers_of(column, blank(series, column.missing))[0])
        for place in np.flatnonzero(odd).tolist():
            cell = quoted(series.iloc[[place]].tolist()[0])
            words[place].append(
                f"{column.name}: {cell} lies between the steps of "
                f"{column.resolution:g} and is taken as {taken[place]:g}"
            )
    return ["; ".join(each) for each in words]


def asked_otherwise(column: Column, asked: Any) -> str:
    """That a date, or an end of a range, that is asked for is written otherwise than at the fit; ""
    where none is."""
    ends = [end for end in (asked if isinstance(asked, tuple) else [asked]) if end is not None]
    frame = pd.DataFrame({column.name: pd.Series(ends, dtype=object)})
    taken = None if isinstance(asked, list | set) else _other_dates(frame, column)
    if taken is None or not taken.notna().any():
        return ""
    place = int(taken.notna().to_numpy().argmax())
    return f"Column {column.name!r} is asked for {ends[place]!r}, read as {taken.iloc[place]!r}."


def asked_rounded(cells: Cells, asked: Any) -> str:
    """That a number, or an end of a range, that is asked for lies between the steps of the fit; ""
    where none does."""
    column = cells.column
    if isinstance(asked, list | set) or not column.is_amount or not cells.step:
        return ""
    ends = [end for end in (asked if isinstance(asked, tuple) else [asked]) if end is not None]
    raw = numbers_of(column, pd.Series(ends, dtype=object).infer_objects())[0]
    odd, taken = _off_step(cells, raw)
    if not odd.any():
        return ""
    place = int(odd.argmax())
    return (
        f"Column {column.name!r} is asked for {ends[place]}, which lies between its steps of "
        f"{column.resolution:g} and is taken as {taken[place]:g}."
    )


def _is_coarse(column: Column) -> bool:
    step = column.resolution
    return step is not None and (step >= 1 or column.parse is not None)


def _row(series: Any, place: int) -> int:
    """The row as a warning counts it: of a piece of a table, from the table's first."""
    return int(series.index[place] if isinstance(series.index, pd.RangeIndex) else place)


def _listed(series: Any, bad: Any, name: Any, expected: str) -> list[Unread]:
    return [
        Unread(
            place,
            _row(series, place),
            name,
            f"{quoted(series.iloc[place])} is not {expected}",
        )
        for place in bad.nonzero()[0].tolist()
    ]


def _in_words(cell: Unread) -> str:
    return f"Column {cell.column!r}, row {cell.row}: {cell.words}"


def _warn(found: Sequence[Unread]) -> None:
    shown = "; ".join(map(_in_words, found[:_SHOWN]))
    more = f"; and {len(found) - _SHOWN:,} more cells" if len(found) > _SHOWN else ""
    verb = "counts" if len(found) == 1 else "count"
    warnings.warn(
        f"{shown}{more} (rows are counted from 0). {'It' if len(found) == 1 else 'They'} {verb} as "
        "missing.",
        CellWarning,
        stacklevel=5,
    )


def unread_words(unread: Sequence[Unread], rows: int) -> list[str]:
    """Of each row which cells could not be read, in words; "" for none."""
    words: list[list[str]] = [[] for _ in range(rows)]
    for cell in unread:
        words[cell.place].append(f"{cell.column}: {cell.words} and counts as missing")
    return ["; ".join(each) for each in words]


def named_as_at_fit(frame: pd.DataFrame, names: Sequence[Any]) -> pd.DataFrame:
    """The frame under the names of the fit, where a number is written as text, or text as a number,
    or blanks stand around a name; a warning tells it."""
    given = set(frame.columns)
    texts = {_bare(name): name for name in names}
    if len(texts) < len(names):  # 1 and "1" are two columns
        return frame
    own = set(names)
    other = {
        name: texts[_bare(name)]
        for name in frame.columns
        if name not in own and _bare(name) in texts and texts[_bare(name)] not in given
    }
    if not other or len(set(other.values())) < len(other):  # "a" and " a" are two columns
        return frame
    shown = ", ".join(f"{a!r} as {b!r}" for a, b in list(other.items())[:_SHOWN])
    more = f" and {len(other) - _SHOWN:,} more" if len(other) > _SHOWN else ""
    warnings.warn(
        f"Names of columns are matched as text: {shown}{more}.", CellWarning, stacklevel=5
    )
    return frame.rename(columns=other)


def _bare(name: Any) -> str:
    return str(name).strip()

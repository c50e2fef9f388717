"""What rows tell of a column that do not teach: codes that may mean "missing", such as -999, and
spellings that look like one value. A fit learns nothing else of them.

Of a code that no row has which teaches, and that lies far away, the distance from the others would
say nothing, and would outweigh all else. So it counts as never seen, as an unknown word does.
"""

import dataclasses
from typing import Any, NamedTuple

from numpy.typing import NDArray

from conjoin.codecs.table.doubts import (
    OWN,
    UNTAUGHT,
    code_doubts,
    codes_in,
    sentinel_doubts,
    spelling_doubts,
)
from conjoin.codecs.table.guess import level_cells
from conjoin.codecs.table.measure import sentinel_days
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import Tally, blank, merged, tally, without

__all__ = ["Found", "found_in", "with_later"]

MIN_SPANS_AWAY = 3  # spans of the other numbers, about 18 of their standard deviations

Array = NDArray[Any]
Series = Any


class Found(NamedTuple):
    """What the cells of a column tell: sentences, numbers (dates as days) that may mean "missing",
    and those far away among them that no row has which teaches."""

    doubts: tuple[str, ...] = ()
    codes: tuple[float, ...] = ()
    late: tuple[float, ...] = ()


def found_in(
    column: Column, series: Series, weight: Array, seen: tuple[float, ...] | None = None
) -> Found:
    """What the cells (B,) of a column tell. ``seen``: codes that rows have which teach; None where
    these are the rows."""
    if column.is_block:
        return Found()
    cells = merged(blank(series, column.missing), column.merge)
    if not column.numeric:
        return Found(tuple(spelling_doubts(column.name, tally(*level_cells(cells), weight))))
    counts = tally(*numbers_of(column, cells), weight)
    codes = sentinel_days(counts) if column.is_date else codes_in(counts)
    if seen is None:
        return Found(tuple(_told(column, cells, counts, None)), codes)
    late = tuple(code for code in codes if code not in seen and _is_far(counts, codes, code))
    own = OWN if column.is_date else ""
    then = {code: UNTAUGHT if code in late else own if code in seen else "" for code in codes}
    return Found(tuple(_told(column, cells, counts, then)), codes, late)


def _told(column: Column, cells: Series, counts: Tally, then: dict[float, str] | None) -> list[str]:
    if column.is_date:
        return sentinel_doubts(column.name, cells, column.format, counts, then)
    return code_doubts(column.name, counts, then)


def _is_far(counts: Tally, codes: tuple[float, ...], code: float) -> bool:
    """Whether a code lies beyond the other numbers by many times what these span."""
    rest = without(counts, codes).values
    gap = max(rest[0] - code, code - rest[-1])
    return bool(gap > MIN_SPANS_AWAY * (rest[-1] - rest[0]))


def with_later(column: Column, before: Found, now: Found) -> Column:
    """The column with what all rows tell in place of what those told that teach."""
    kept = [each for each in column.doubts if each not in before.doubts]
    gone = [each for each in before.doubts if each in column.doubts]
    told = now.doubts if gone or set(now.doubts) - set(before.doubts) else ()
    late = now.late if column.numeric else column.held_out
    return dataclasses.replace(column, doubts=(*told, *kept), held_out=late)

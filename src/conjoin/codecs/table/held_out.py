"""What rows tell of a column that do not teach: codes that may mean "missing", such as -999, and
spellings that look like one value. A fit learns nothing else of them.

A code that no row has which teaches has no place in the model: its distance from the others would
say nothing, and would outweigh all else. So it counts as never seen, as an unknown word does.
"""

import dataclasses
from typing import Any, NamedTuple

from numpy.typing import NDArray

from conjoin.codecs.table.doubts import code_doubts, codes_in, sentinel_doubts, spelling_doubts
from conjoin.codecs.table.guess import level_cells
from conjoin.codecs.table.measure import sentinel_days
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank, merged, tally

__all__ = ["Found", "found_in", "with_later"]

Array = NDArray[Any]
Series = Any


class Found(NamedTuple):
    """What the cells of a column tell: sentences, numbers (dates as days) that may mean "missing",
    and those among them that were not seen before."""

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
    late = tuple(code for code in codes if seen is not None and code not in seen)
    told = (
        sentinel_doubts(column.name, cells, column.format, counts, late)
        if column.is_date
        else code_doubts(column.name, counts, late)
    )
    return Found(tuple(told), codes if seen is None else (*seen, *late), late)


def with_later(column: Column, before: Found, now: Found) -> Column:
    """The column with what all rows tell in place of what those told that teach."""
    kept = [each for each in column.doubts if each not in before.doubts]
    gone = [each for each in before.doubts if each in column.doubts]
    told = now.doubts if gone or set(now.doubts) - set(before.doubts) else ()
    late = now.late if column.numeric else column.held_out
    return dataclasses.replace(column, doubts=(*told, *kept), held_out=late)

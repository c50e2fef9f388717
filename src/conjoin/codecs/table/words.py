"""What a table is, in words: a line for each of its columns, and one for all."""

from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.cells import cells_for
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column, Schema
from conjoin.codecs.table.values import blank
from conjoin.core import Field

__all__ = ["beyond_words", "far_words", "field_of", "inputs_of", "outside_words"]

RANGE_SLACK = 0.01  # of the range that was seen: its ends are saved rounded
FAR_RANGES = 1.0  # ranges that were seen, further out than which a number is far away


def beyond_words(column: Column, asked: Any) -> str:
    """What is wrong where a number is asked for, or a range of them, that lies outside of what the
    fit has seen; else ""."""
    low, high = column.range
    if low is None or high is None:
        return ""
    ends = list(asked) if isinstance(asked, tuple) else [asked, asked]
    found = numbers_of(column, pd.Series(ends, dtype=object).infer_objects())[0]
    least, most = (
        open_ if np.isnan(end) else end for end, open_ in zip(found, (-np.inf, np.inf), strict=True)
    )
    slack = RANGE_SLACK * (high - low)
    if any(least <= atom <= most for atom in column.atoms):
        return ""
    if least <= high + slack and most >= low - slack:
        return ""
    value = (
        f"{ends[0]} to {ends[1]}".replace("None", "any") if isinstance(asked, tuple) else str(asked)
    )
    return (
        f"Column {column.name!r} is asked for {value}, but the fit has seen {_seen(column)}: "
        "what is drawn beside it is guessed from far away."
    )


def far_words(column: Column, series: Any) -> str:
    """What is wrong where numbers (B,) of rows lie further outside of what the fit has seen than
    that is wide; else ""."""
    low, high = column.range
    if low is None or high is None:
        return ""
    found, known = numbers_of(column, blank(series, column.missing))
    room = FAR_RANGES * (high - low)
    known = known & ~np.isin(found, column.atoms)
    far = np.flatnonzero(known & ((found < low - room) | (found > high + room)))
    if not len(far):
        return ""
    rows = "1 row has" if len(far) == 1 else f"{len(far):,} rows have"
    return (
        f"Column {column.name!r}: {rows} a value far outside of what the fit has seen, "
        f"{_seen(column)}, such as {series.iloc[far[0]]}: what is filled in beside it is guessed "
        "from far away."
    )


def outside_words(column: Column, series: Any) -> str:
    """Which drawn numbers (B,) of a column that follows from others lie outside of what the fit has
    seen; else ""."""
    low, high = column.range
    if low is None or high is None:
        return ""
    found, known = numbers_of(column, series)
    slack = RANGE_SLACK * (high - low)
    far = np.flatnonzero(known & ((found < low - slack) | (found > high + slack)))
    if not len(far):
        return ""
    return (
        f"Column {column.name!r} follows from others, and in {len(far):,} of {len(found):,} drawn "
        f"rows it lies outside of what the fit has seen, {_seen(column)}: {series.iloc[far[0]]}, "
        "for one. No draw that keeps all ranges was found there."
    )


def _seen(column: Column) -> str:
    low, high = cells_for(column).write(np.array(column.range)).astype(object)
    return f"{low} to {high}"


def field_of(column: Column) -> Field:
    """A column in words; the values of one that was set aside are not told."""
    missing = f"{100 * column.missing_share:.1f} %" if column.missing_share else "–"
    values = column.describe() if column.modelled else "–"
    aside = f"set aside: {column.why}" if column.why else "set aside"
    follows = f"derived: {column.why}" if column.role == "derived" else aside
    role = "modelled" if column.modelled else follows
    return Field(str(column.name), column.type, values, column.unit or "–", missing, role)


def inputs_of(schema: Schema) -> tuple[str, str]:
    """("columns", how many are modelled, what pictures and strings there are, and which were set
    aside)."""
    aside = [str(column.name) for column in schema.columns if column.role == "set aside"]
    derived = [
        f"{column.name} = {column.why}" for column in schema.columns if column.role == "derived"
    ]
    blocks = [
        f", {column.name}: {column.describe()}" for column in schema.modelled if column.is_block
    ]
    words = f"{len(schema.modelled)} modelled{''.join(blocks)}"
    if derived:
        more = ", ..." if len(derived) > 6 else ""
        words += f", {len(derived)} derived: {', '.join(derived[:6])}{more}"
    if aside:
        more = ", ..." if len(aside) > 6 else ""
        words += f", {len(aside)} set aside: {', '.join(aside[:6])}{more}"
    return "columns", words

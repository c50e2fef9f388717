"""Columns that two tables write in different ways, such as "$40,859" and "40.859 USD": read in the
way of each, so that their numbers are compared.

Read together, such a column has no way of writing, and would be set aside or cut into levels.
"""

from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table import TableCodec
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank

__all__ = ["in_numbers"]

_FIRST_DAY = pd.Timestamp(0)  # from which days are counted


def in_numbers(
    a: pd.DataFrame, b: pd.DataFrame, types: Any, missing: Any
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The tables, with each column that is a number or a date in both, but not where they are read
    together, as numbers or dates; and a sentence about each."""
    both = pd.concat([a, b], ignore_index=True)
    whole = TableCodec(types=types, missing=missing).fit(both).schema
    odd = [
        column.name
        for column in whole.columns
        if not _is_number(column) and column.role != "derived" and _has_words(both[column.name])
    ]
    if not odd:
        return a, b, []
    told = []
    schemas = [_schema(frame, odd, types, missing) for frame in (a, b)]
    for name in odd:
        first, second = (schema[name] for schema in schemas)
        if not (_is_number(first) and _is_number(second)) or first.is_date != second.is_date:
            continue
        a, b = (_read(frame, column) for frame, column in ((a, first), (b, second)))
        told.append(
            f"Column {name!r} is not written alike in both tables ({_way(first)}; then "
            f"{_way(second)}): its numbers are compared, whatever their unit."
        )
    return a, b, told


def _is_number(column: Column) -> bool:
    return bool(column.numeric and column.role == "model")


def _has_words(series: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(series.dtype)


def _schema(frame: pd.DataFrame, names: list[Any], types: Any, missing: Any) -> Any:
    """What these columns are in one table alone."""
    return TableCodec(types=_of(types, names), missing=_of(missing, names)).fit(frame[names]).schema


def _of(asked: Any, names: list[Any]) -> Any:
    """What was said of some columns."""
    if not isinstance(asked, dict):
        return asked
    return {name: said for name, said in asked.items() if name in names}


def _read(frame: pd.DataFrame, column: Column) -> pd.DataFrame:
    values, known = numbers_of(column, blank(frame[column.name], column.missing))
    plain: Any = pd.Series(np.where(known, values, np.nan), frame.index)
    if column.is_date:
        plain = _FIRST_DAY + pd.to_timedelta(plain, unit="D")
    frame = frame.copy()
    frame[column.name] = plain  # whose name may be no word
    return frame


def _way(column: Column) -> str:
    if column.is_date:
        return f"dates as {column.format}" if column.format else "dates"
    return "plain numbers" if column.parse is None else str(column.parse.describe())

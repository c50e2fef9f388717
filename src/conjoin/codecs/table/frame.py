"""Anything a user may call a table, as a checked DataFrame: two-dimensional, finite, plain cells,
one name per column.
"""

import datetime
import numbers
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.image.pictures import Picture
from conjoin.codecs.table.kept_text import told_while_read
from conjoin.codecs.table.native import backend_of, to_pandas
from conjoin.codecs.table.read import read_table
from conjoin.codecs.table.values import quoted
from conjoin.core.warnings import ColumnWarning
from conjoin.util.plain import plain_value

__all__ = ["as_frame", "check_cells", "check_names", "from_dict", "is_named"]

Series = Any  # a pandas Series of any cell type

# a bool is a Real, a Timestamp a date
_PLAIN = (
    str,
    numbers.Real,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    np.timedelta64,
    pd.Period,
    np.datetime64,
    Picture,
)
# object cells of one plain kind
_QUICK = {
    "string",
    "boolean",
    "date",
    "time",
    "timedelta",
    "timedelta64",
    "period",
    "datetime",
    "datetime64",
    "empty",
}
_TIMES = (np.datetime64, np.timedelta64)
_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}


def is_named(raw: Any) -> bool:
    """Whether the columns of ``raw`` carry names of their own."""
    return isinstance(raw, pd.DataFrame | Mapping | str | Path) or bool(backend_of(raw))


def as_frame(
    X: Any, columns: Sequence[Any] | None = None, as_written: Sequence[Any] = ()
) -> pd.DataFrame:
    """A DataFrame from a DataFrame, a dict of columns, a 2-D array or list of rows, or the path of
    a file.

    Arrays get the names ``columns``, by default x0, x1, ...; object cells that are all numbers
    become numbers. ``as_written`` is that of ``read_table``. Raises TypeError or ValueError, with
    scikit-learn's wording where it has one, for anything that is no table of plain cells."""
    is_file = isinstance(X, str | Path)
    frame = frame_in(X, as_written) if is_file else _frame(X, columns)
    _check_shape(frame)
    check_names(list(frame.columns))
    if any(isinstance(name, np.generic) for name in frame.columns):
        frame = frame.set_axis(
            pd.Index(list(map(plain_value, frame.columns)), dtype=object), axis=1
        )
    fresh = {i: _plain(frame.iloc[:, i]) for i in range(frame.shape[1])}
    changed = [i for i, series in fresh.items() if series is not None]
    if changed:
        frame = pd.concat(
            [frame.iloc[:, i] if fresh[i] is None else fresh[i] for i in fresh], axis=1
        )
    _check_finite(frame)
    return frame


# ----------------------------------------------------------------------------------- to a DataFrame


def _frame(X: Any, columns: Sequence[Any] | None) -> pd.DataFrame:
    if type(X).__module__.startswith("scipy.sparse"):
        raise TypeError(
            "A sparse matrix was passed, but dense data is required; use X.toarray() to make it "
            "dense."
        )
    if isinstance(X, pd.DataFrame):
        return X
    if isinstance(X, Mapping):
        return from_dict(X)
    if isinstance(X, pd.Series) or np.isscalar(X):
        _refuse_flat(X)
    if isinstance(X, list | tuple):
        return _from_rows(X, columns)
    other = to_pandas(X)
    return _from_array(np.asarray(X), columns) if other is None else other


def frame_in(path: str | Path, as_written: Sequence[Any] = ()) -> pd.DataFrame:
    """The table in a file; a warning for each notice of how it was read. That numbers are kept as
    text is told with what else there is to say of a column."""
    frame, notices = read_table(path, as_written=as_written)
    for text in told_while_read(notices):
        warnings.warn(text, ColumnWarning, stacklevel=3)
    return frame


def from_dict(X: Mapping[Any, Any]) -> pd.DataFrame:
    """A dict of columns as a frame, whose cells are not checked."""
    try:
        return pd.DataFrame(dict(X))
    except ValueError as error:
        raise ValueError(
            f"A dict of columns needs lists of one length, also for a single row ({error})."
        ) from None


def _from_rows(X: Sequence[Any], columns: Sequence[Any] | None) -> pd.DataFrame:
    """Rows keep a type per column: through an array, numbers beside words would all turn into
    words."""
    if not X:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    if not all(isinstance(row, list | tuple | np.ndarray) for row in X):
        _refuse_flat(X)
    lengths = {len(row) for row in X}
    if len(lengths) > 1:
        raise ValueError(
            f"The rows have {min(lengths)} to {max(lengths)} cells; each row needs the same number."
        )
    if _is_deeper(X):
        return _from_array(np.asarray(X), columns)
    return _named(pd.DataFrame([list(row) for row in X]), columns)


def _is_deeper(rows: Sequence[Any]) -> bool:
    """Whether rows are made of rows again, all of one length: an array of three dimensions."""
    if isinstance(rows[0], np.ndarray):
        return rows[0].ndim > 1
    deep = all(isinstance(cell, list | tuple | np.ndarray) for row in rows for cell in row)
    return deep and len({len(cell) for row in rows for cell in row}) == 1


def _from_array(array: NDArray[Any], columns: Sequence[Any] | None) -> pd.DataFrame:
    if array.ndim < 2:
        _refuse_flat(array)
    if array.ndim > 2:
        raise ValueError(
            f"Found array with dim {array.ndim}, while a table has 2: rows and columns."
        )
    if array.dtype.kind == "c":
        raise ValueError(
            "Complex data not supported; pass the real and the imaginary part as two columns."
        )
    return _named(pd.DataFrame(array), columns)


def _refuse_flat(X: Any) -> None:
    raise ValueError(
        f"Expected a 2-D table, got {np.ndim(X)}-D data instead. Reshape your data either using "
        "array.reshape(-1, 1) "
        "if it has a single feature or array.reshape(1, -1) if it is a single sample."
    )


def _named(frame: pd.DataFrame, columns: Sequence[Any] | None) -> pd.DataFrame:
    names = [f"x{i}" for i in range(frame.shape[1])] if columns is None else list(columns)
    if len(names) != frame.shape[1]:
        raise ValueError(f"{len(names)} column names were given for {frame.shape[1]} columns.")
    frame.columns = pd.Index(names, dtype=object)
    return frame


# ------------------------------------------------------------------------------------------- checks


def _check_shape(frame: pd.DataFrame) -> None:
    rows, columns = frame.shape
    if columns == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required."
        )
    if rows == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {columns})) while a minimum of 1 is required."
        )


def check_names(names: list[Any]) -> None:
    """ValueError for a name that is no name of a column, or stands twice."""
    odd = [
        name
        for name in names
        if not isinstance(name, str | int | float | np.integer | np.floating) or name != name
    ]
    if odd:
        raise ValueError(
            f"The column name {odd[0]!r} is neither a string nor a number; rename the column."
        )
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise ValueError(
            f"More than one column is named {', '.join(map(repr, twice))}; rename them so that "
            "each name is there once."
        )


def _plain(series: Series) -> Series | None:
    """The column with its object cells made plain; None where there is nothing to change."""
    kind = getattr(series.dtype, "kind", "O")
    if kind == "c":
        raise ValueError(
            f"Complex data not supported; column {series.name!r} holds complex numbers."
        )
    if isinstance(series.dtype, pd.IntervalDtype):
        raise TypeError(
            f"Column {series.name!r} holds {series.dtype}; argument must be a string or a "
            "number: convert it to one."
        )
    if isinstance(series.dtype, pd.SparseDtype):
        raise TypeError(
            f"Column {series.name!r} is sparse, but dense data is required; use .sparse.to_dense()."
        )
    if isinstance(series.dtype, pd.CategoricalDtype):
        _check_categories(series)
        return None
    if series.dtype != object:
        return None
    bare = _without_numpy(series)
    fresh = _plain_objects(bare)
    return fresh if fresh is not None or bare is series else bare


def _without_numpy(series: Series) -> Series:
    """The object cells as Python's own, in place of numpy's: a message quotes 'a', not
    np.str_('a'). Times and durations have no such twin."""
    kinds = set(map(type, series))
    if not any(issubclass(kind, np.generic) and kind not in _TIMES for kind in kinds):
        return series
    cells = list(map(plain_value, series))
    return pd.Series(cells, index=series.index, name=series.name, dtype=object)


def _plain_objects(series: Series) -> Series | None:
    _check_words(series)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in _QUICK:
        check_cells(f"Column {series.name!r}", series, "leave the column out")
    if kind in _NUMBERS or kind in ("datetime", "datetime64"):
        # Decimal cells and None become floats; a datetime with a time zone keeps it
        fresh: Series = (
            pd.to_numeric(series, errors="coerce") if kind in _NUMBERS else series.infer_objects()
        )
        exact = kind != "integer" or not _changed(series, fresh)
        return fresh if fresh.dtype != object and exact else None
    return None


def _changed(whole: Series, floats: Series) -> bool:
    """Whether floats are other numbers than the whole ones that they stand for, such as 10^20 + 7:
    these stay as they are, and are levels."""
    if floats.dtype.kind != "f":
        return False
    large = whole[floats.abs() >= 2.0**53]
    return any(int(cell) != int(float(cell)) for cell in large)


def check_cells(place: str, cells: Any, otherwise: str) -> None:
    """TypeError names the first cell that is no plain value, such as a list, and what to do.
    ``place``: what holds the cells, such as "Column 'a'". ``otherwise``: what can be done but to
    write plain values."""
    for kind in dict.fromkeys(map(type, cells)):
        if issubclass(kind, complex | np.complexfloating):
            raise ValueError(
                f"Complex data not supported; {place[:1].lower()}{place[1:]} holds complex numbers."
            )
        if not _is_plain(kind):
            row, cell = next((i, cell) for i, cell in enumerate(cells) if type(cell) is kind)
            raise TypeError(_no_plain_cell(place, row, cell, otherwise))


def _is_plain(kind: type) -> bool:
    missing = (type(None), type(pd.NA), type(pd.NaT))
    return issubclass(kind, _PLAIN) or kind in missing or kind.__name__ == "Decimal"


def _no_plain_cell(place: str, row: int, cell: Any, otherwise: str) -> str:
    return (
        f"{place}, row {row}: argument must be a string or a number, not {quoted(cell)} "
        f"({type(cell).__name__}); write one string or number in each cell, or {otherwise}."
    )


def _check_categories(series: Series) -> None:
    """As ``check_cells``: of the first row of a category that is no plain value."""
    place = f"Column {series.name!r}"
    categories = series.cat.categories.astype(object).tolist()
    odd = [code for code, each in enumerate(categories) if not _is_plain(type(each))]
    held = np.flatnonzero(series.cat.codes.isin(odd))
    if len(held):
        row = int(held[0])
        raise TypeError(_no_plain_cell(place, row, series.iloc[row], "leave the column out"))
    check_cells(place, categories, "leave the column out")


def _check_words(series: Series) -> None:
    """ValueError for half a character (a lone surrogate of UTF-16), which no file can hold."""
    row = first_half(series)
    if row is not None:
        raise ValueError(
            f"Column {series.name!r}, row {row}: {quoted(series.iloc[row])} has half a character, "
            "which can't be written to a file: replace it."
        )


def first_half(cells: Iterable[Any]) -> int | None:
    """The first of the cells that is a string with half a character; None where none is."""
    for row, cell in enumerate(cells):
        if (
            isinstance(cell, str)
            and not cell.isascii()
            and any("\ud800" <= letter <= "\udfff" for letter in cell)
        ):
            return row
    return None


def _check_finite(frame: pd.DataFrame) -> None:
    for i, dtype in enumerate(frame.dtypes):
        if getattr(dtype, "kind", "O") != "f":
            continue
        infinite = np.isinf(frame.iloc[:, i].to_numpy(dtype="float64", na_value=np.nan))
        if infinite.any():
            row = int(infinite.argmax())
            raise ValueError(
                f"Column {frame.columns[i]!r}, row {row}, is infinity (inf); a value must be a "
                "finite number, or missing."
            )

"""Data frames of other libraries (polars, Arrow, Modin, cuDF, ...) through narwhals: to pandas, and
results back in the kind that was given."""

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["backend_of", "in_kind", "native_series", "plain_frame", "to_pandas"]

# what has its own way in, so that narwhals need not be loaded for it
_OWN = (pd.DataFrame, pd.Series, np.ndarray, str, bytes, list, tuple, dict, int, float, type(None))


def _as_narwhals(raw: Any) -> Any:
    """A frame or a series of narwhals; None for anything else."""
    if isinstance(raw, _OWN):
        return None
    import narwhals as nw

    try:
        found = nw.from_native(raw, allow_series=True, pass_through=True)
    except TypeError:
        return None
    if isinstance(found, nw.LazyFrame):
        found = found.collect()
    return found if isinstance(found, nw.DataFrame | nw.Series) else None


def to_pandas(raw: Any) -> pd.DataFrame | None:
    """A data frame of any library as one of pandas; None for what is no data frame."""
    found = _as_narwhals(raw)
    if found is None:
        return None
    import narwhals as nw

    if not isinstance(found, nw.DataFrame):
        return None
    # the whole frame at once: of a single column, some libraries lose the time zone
    frame = found.to_pandas().reset_index(drop=True)
    kept = {name: _nullable(found[name]) for name in found.columns}
    return frame.assign(**{name: cells for name, cells in kept.items() if cells is not None})


def plain_frame(raw: Any) -> Any:
    """A data frame of any library as one of pandas; anything else as it is."""
    frame = to_pandas(raw)
    return raw if frame is None else frame


def native_series(raw: Any) -> Any:
    """A column of any library as a pandas Series; anything else as it is."""
    found = _as_narwhals(raw)
    if found is None:
        return raw
    import narwhals as nw

    if not isinstance(found, nw.Series):
        return raw
    kept = _nullable(found)
    plain = found.to_pandas().reset_index(drop=True) if kept is None else kept
    return plain.rename(found.name or None)


def _nullable(column: Any) -> pd.Series | None:
    """Whole numbers and booleans with missing cells in a type of pandas that has room for them;
    None for any other column."""
    if not column.null_count():
        return None
    if column.dtype.is_integer():
        return pd.Series(pd.array(column.to_list(), dtype="Int64"))
    if str(column.dtype) == "Boolean":
        return pd.Series(pd.array(column.to_list(), dtype="boolean"))
    return None


def backend_of(raw: Any) -> str:
    """The library that a data frame comes from; "" for pandas and for what is no data frame."""
    found = _as_narwhals(raw)
    return "" if found is None else str(found.implementation.value)


def in_kind(frame: Any, backend: Any) -> Any:
    """A pandas frame as one of the library ``backend``; anything else as it is."""
    if not backend or not isinstance(frame, pd.DataFrame):
        return frame
    import narwhals as nw

    named: Any = frame.set_axis([str(name) for name in frame], axis=1)
    try:
        import pyarrow as pa

        table = pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)
        return nw.DataFrame.from_arrow(table, backend=backend).to_native()
    except ImportError:
        cells = {name: _listed(named[name]) for name in named}
        return nw.from_dict(cells, backend=backend).to_native()


def _listed(column: pd.Series) -> list[Any]:
    """The cells as plain objects, None where they are missing."""
    gone = column.isna().to_numpy()
    plain = column.astype(object).to_numpy()
    return [None if lost else _plain(cell) for cell, lost in zip(plain, gone, strict=True)]


def _plain(cell: Any) -> Any:
    if isinstance(cell, pd.Timestamp):
        return cell.to_pydatetime()
    if isinstance(cell, pd.Timedelta):
        return cell.to_pytimedelta()
    return cell.item() if isinstance(cell, np.generic) else cell

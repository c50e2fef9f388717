"""Data frames of other libraries (polars, Arrow, Modin, cuDF, ...) through narwhals: to pandas, and
results back in the kind that was given, with the types of columns that pandas does not have."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["Kind", "backend_of", "in_kind", "kind_of", "native_series", "plain_frame", "to_pandas"]

# what has its own way in, so that narwhals need not be loaded for it
_OWN = (pd.DataFrame, pd.Series, np.ndarray, str, bytes, list, tuple, dict, int, float, type(None))


_LOST = ("Date", "Decimal", "Enum")  # types of narwhals that pandas has no room for
_CLOSE = 1e-9  # relative, by which a decimal number may differ from its float


class Kind(NamedTuple):
    """The library of a data frame, "" for pandas and for what is none; and the types of its columns
    that do not outlive the way to pandas, by their names."""

    backend: str = ""
    types: Mapping[str, Any] = {}


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
    frame: pd.DataFrame = _pandas_of(found)
    kept = {name: _nullable(found[name]) for name in found.columns}
    return frame.assign(**{name: cells for name, cells in kept.items() if cells is not None})


def _pandas_of(found: Any) -> Any:
    """A frame or a column of narwhals as one of pandas, with rows counted from 0. ValueError where
    its library needs another for that."""
    try:
        return found.to_pandas().reset_index(drop=True)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Data frames of {found.implementation.value} are read by pyarrow ({error}): pip "
            'install "conjoin[parquet]", or give a frame of pandas.'
        ) from None


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
    plain = _pandas_of(found) if kept is None else kept
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


def kind_of(raw: Any) -> Kind:
    """What gives results back as a data frame was given: see ``in_kind``."""
    found = _as_narwhals(raw)
    if found is None:
        return Kind()
    import narwhals as nw

    types = found.schema if isinstance(found, nw.DataFrame) else {}
    lost = {name: kind for name, kind in types.items() if type(kind).__name__ in _LOST}
    return Kind(str(found.implementation.value), lost)


def in_kind(frame: Any, kind: Kind) -> Any:
    """A pandas frame as one of the library and the column types of ``kind``; anything else as it
    is. A column keeps the type that it has where its values do not fit into the other. Levels of
    the index that have names become columns, and names of several parts are joined."""
    if not kind.backend or not isinstance(frame, pd.DataFrame):
        return frame
    import narwhals as nw

    named = _flat(frame)
    backend: Any = kind.backend
    try:
        import pyarrow as pa

        table = pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)
        out = nw.DataFrame.from_arrow(table, backend=backend)
    except (ImportError, ValueError):  # Arrow raises the latter for cells that it can't hold
        cells = {name: _listed(named[name]) for name in named}
        out = nw.from_dict(cells, backend=backend)
    typed = {
        name: _in_type(out[name], wanted)
        for name, wanted in kind.types.items()
        if name in out.columns and out[name].dtype != wanted
    }
    return out.with_columns(**typed).to_native() if typed else out.to_native()


def _flat(frame: pd.DataFrame) -> Any:
    """A frame without index, whose names are strings."""
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame]
    named = frame.set_axis(pd.Index(names, dtype=object), axis=1)
    for place, level in enumerate(named.index.names):
        if level is not None:
            free = str(level)
            while free in named.columns:
                free += "_"
            named.insert(place, free, named.index.get_level_values(place))
    return named.reset_index(drop=True)


def _in_type(column: Any, wanted: Any) -> Any:
    """A column of narwhals in another type, where that changes no value."""
    known = column.drop_nulls().to_list()
    if type(wanted).__name__ == "Enum" and not set(known) <= set(wanted.categories):
        return column
    cast = column.cast(wanted)
    back = cast.drop_nulls().cast(column.dtype).to_list()
    floats = type(wanted).__name__ == "Decimal"
    same = np.allclose(back, known, rtol=_CLOSE, atol=0.0) if floats else back == known
    return cast if same else column


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

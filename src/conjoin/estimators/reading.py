"""What a user passes to an estimator, as the library takes it: labels, weights, times."""

import numbers
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionDtype
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, column_or_1d

from conjoin.codecs.table.native import native_series
from conjoin.core import Rows
from conjoin.model.censored import TargetColumn, read_columns
from conjoin.model.targets import TARGETS

__all__ = [
    "is_several",
    "read_labels",
    "read_several",
    "read_times",
    "read_weight",
    "seed_of",
]

Labels = tuple[np.ndarray | None, np.ndarray | None, str]


def seed_of(random_state: Any) -> int:
    """A whole number from scikit-learn's ``random_state``."""
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def read_labels(y: Any, rows: int, task: str, unlabelled: Any, owner: str) -> Labels:
    """Labels of so many rows, which of them are known, and the target's name.

    Parameters
    ----------
    task
        "classes" or "number".
    unlabelled
        A label that means "not known"; NaN, None and NA always do.
    owner
        The estimator's class, for messages.

    Raises
    ------
    ValueError
        For labels that are none of the task's.
    """
    if y is None:
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None (JointDensity needs none)."
        )
    name = str(getattr(y, "name", None) or "y")
    labels = column_or_1d(_plain(y), warn=True)
    if len(labels) != rows:
        check_consistent_length(np.empty(rows), labels)
    known = ~pd.isna(labels)
    if unlabelled is not None:
        known &= labels != unlabelled
    return TARGETS[task].read(labels, known), known, name


def _plain(y: Any) -> Any:
    """Labels of a type that has room for missing ones (pandas' Int64 and boolean, Arrow's) as
    objects of a plain type, None where they are missing: through floats, 1 would become 1.0."""
    y = native_series(y)
    if not isinstance(y, pd.Series) or not isinstance(y.dtype, ExtensionDtype):
        return y
    is_bool = pd.api.types.is_bool_dtype(y.dtype)
    if not is_bool and not pd.api.types.is_integer_dtype(y.dtype):
        return y
    kind = bool if is_bool else int
    cells = np.empty(len(y), dtype=object)
    known = y.notna().to_numpy()
    cells[known] = [kind(value) for value in y[known]]
    return cells


def read_weight(weight: Any, rows: int) -> np.ndarray | None:
    """(B,) of each row; None for none."""
    if weight is None:
        return None
    values = np.asarray(weight, dtype=float)
    return np.full(rows, values) if values.ndim == 0 else values


def read_times(time: Any, rows: Rows) -> np.ndarray | None:
    """Times as numbers; ``time`` is a column's name or one value per row, or None."""
    if time is None:
        return None
    named = isinstance(time, str) and time in rows.names
    values = rows.frame[time] if named else pd.Series(time)
    if len(values) != len(rows):
        raise ValueError(
            f"time must name a column ({', '.join(map(str, rows.names))}) or hold one "
            f"value per row, got {time!r}."
        )
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy()
    return pd.to_datetime(values).astype("int64").to_numpy()


def is_several(y: Any) -> bool:
    """Whether y is a frame of several targets."""
    return isinstance(y, pd.DataFrame) and y.shape[1] > 1


def read_several(Y: Any, rows: int, unlabelled: Any = None) -> list[TargetColumn]:
    """The targets of so many rows, from a frame. TypeError for anything else, ValueError for a
    frame of another length."""
    if not isinstance(Y, pd.DataFrame):
        raise TypeError(
            f"A model of several targets takes their labels as a DataFrame, not {type(Y).__name__}."
        )
    if len(Y) != rows:
        raise ValueError(f"Y has {len(Y)} rows, and X has {rows}.")
    return read_columns(Y.reset_index(drop=True), unlabelled)

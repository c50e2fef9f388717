"""What the model says of every point of a plane, and of what lies on it: the numbers behind
PlaneDisplay.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.later import CellWarning
from conjoin.core import Rows
from conjoin.model.calibrate import predictive_of
from conjoin.model.model import Model
from conjoin.questions.decide import decide

__all__ = [
    "Field",
    "checked",
    "codes",
    "ends",
    "evaluate",
    "grid",
    "measure",
    "present",
    "resolution",
]

ROOM = 0.7  # of the points' range, left free on every side


@dataclass
class Field:
    """What the model says of each point of the grid, each (R, R) with the second column down."""

    answer: np.ndarray | None  # (R, R, K) p(y | x), or (R, R) the median of a number
    log_prob: np.ndarray
    verdict: np.ndarray | None


def evaluate(
    model: Model,
    columns: tuple[Any, Any],
    ends: list[tuple[float, float]],
    resolution: int,
    rates: Any,
) -> Field:
    """Ask the model about every point of the grid."""
    frame = grid(model, columns, ends, resolution)
    rows = _unwritten(model, frame)
    encoded = model.encode(rows)
    shape = (resolution, resolution)
    table = (
        None
        if rates is None
        else decide(model, rows, false_alarm=rates[0], max_error=rates[1], explain=False)
    )
    answer: np.ndarray | None = None
    if model.has_classes:
        answer = model.log_proba(encoded, rows).exp().numpy().reshape(*shape, -1)
    elif table is not None and "best_guess" in table:
        answer = table["best_guess"].to_numpy(dtype=float).reshape(shape)
    elif model.has_number:
        answer = model.number.decode(predictive_of(model, encoded).median()).reshape(shape)
    verdict = None if table is None else table["verdict"].to_numpy().reshape(shape)
    return Field(answer, model.log_prob_raw(encoded).reshape(shape), verdict)


def _unwritten(model: Model, frame: pd.DataFrame) -> Rows:
    """The points of a grid as rows; that they lie between the steps of a column is not told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CellWarning)
        return model.rows(frame)


def resolution(model: Model) -> int:
    """Points a side. A number's p(y | x) costs a whole curve at each point, so there are fewer."""
    return 40 if model.has_number else 100


def grid(
    model: Model, columns: tuple[Any, Any], ends: list[tuple[float, float]], resolution: int
) -> pd.DataFrame:
    """Every point of the plane as a row whose other cells are missing."""
    steps = [low + (high - low) * (np.arange(resolution) + 0.5) / resolution for low, high in ends]
    first, second = np.meshgrid(*steps)
    parts = {name: np.full(first.size, np.nan) for name in model.codec.columns}
    return pd.DataFrame(parts | {columns[0]: first.ravel(), columns[1]: second.ravel()})


def ends(model: Model, name: Any, values: pd.Series) -> tuple[float, float]:
    """Of an axis: most of the points, with room around them, within the column's bounds."""
    known = values.dropna().to_numpy(dtype=float)
    low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
    room = ROOM * (high - low if high > low else max(1.0, abs(high)))
    column = model.codec.schema[name]
    least, most = (
        fallback if bound is None else bound
        for bound, fallback in zip(column.bounds, (-np.inf, np.inf), strict=True)
    )
    return float(max(low - room, least)), float(min(high + room, most))


def measure(model: Model, columns: tuple[Any, Any]) -> str:
    """What log p of the two cells counts."""
    kinds = {
        "density" if model.codec.schema[name].resolution is None else "mass per recorded cell"
        for name in columns
    }
    return kinds.pop() if len(kinds) == 1 else "density x mass per cell"


def checked(model: Model, columns: Any) -> tuple[Any, Any]:
    """Two columns of numbers; ValueError names one that is not."""
    for name in columns:
        if name not in model.codec.columns:
            raise ValueError(
                f"columns names {name!r}; the model has {', '.join(map(str, model.codec.columns))}."
            )
        if not model.codec.schema[name].is_amount:
            raise ValueError(
                f"columns names {name!r}, which is no number: a plane needs two columns of numbers."
            )
    first, second = columns
    return first, second


def present(frame: pd.DataFrame, names: Any) -> None:
    """ValueError where a column is absent."""
    for name in names:
        if name not in frame:
            raise ValueError(f"X lacks the column {name!r}, an axis of the plane.")


def codes(model: Model, labels: np.ndarray | None) -> np.ndarray | None:
    """(B,) class codes, -1 where unknown."""
    if labels is None or not model.has_classes:
        return None
    known = {str(name): code for code, name in enumerate(model.classes.labels)}
    return np.array([known.get(str(each), -1) for each in labels])

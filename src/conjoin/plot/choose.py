"""Which columns a figure shows, and at which rates: rules, so that no figure is chosen to look
good.

Columns are judged by rows that the model draws itself, so that no data are needed.
"""

import math
from typing import Any

import numpy as np

from conjoin.model.model import Model

__all__ = ["RATES", "plane_columns", "promised_rates", "telling_columns"]

# the first that the calibration rows support is used
RATES = (
    0.05,
    0.06,
    0.07,
    0.08,
    0.1,
    0.12,
    0.15,
    0.2,
    0.3,
)
DRAWS = 800
MAX_RANK_CORRELATION = 0.8  # rank correlation above which two columns tell the same


def promised_rates(model: Model) -> tuple[float, float] | None:
    """(false_alarm, max_error): the least of ``RATES`` that the calibration rows support; None
    where they support none."""
    if model.calibration is None:
        return None
    alarms = [rate for rate in RATES if _works(model.calibration.check_false_alarm, rate)]
    if not alarms:
        return None
    errors = [rate for rate in RATES if _answers(model, rate, alarms[0])]
    return (alarms[0], errors[0]) if errors else None


def _works(check: Any, *rates: float) -> bool:
    try:
        check(*rates)
    except ValueError:
        return False
    return True


def _answers(model: Model, rate: float, false_alarm: float) -> bool:
    """Whether at this error rate anything at all can be accepted."""
    calibration = model.calibrated
    if model.target is None:
        return True
    if model.has_number:
        return int((calibration.label >= 0).sum()) >= math.ceil(1 / rate - 1e-9) - 1
    try:
        return math.isfinite(calibration.threshold(rate, false_alarm))
    except ValueError:
        return False


def telling_columns(model: Model, n: int, numeric: bool = False) -> list[Any]:
    """Up to ``n`` columns, those first that tell most of y (without a target: of the other
    columns)."""
    modelled = enumerate(model.codec.schema.modelled)
    places = [
        place for place, column in modelled if column.is_amount or not (numeric or column.is_block)
    ]
    if not places:
        return []
    x, y = _draws(model)
    worth = _worth(model, x[:, places], y)
    order = np.argsort(-worth, kind="stable")[:n]
    return [model.codec.columns[places[place]] for place in order]


def plane_columns(model: Model) -> tuple[Any, Any]:
    """Two numeric columns: the most telling, and the most telling of those that do not repeat it.
    ValueError with fewer."""
    ranked = telling_columns(model, len(model.codec.columns), numeric=True)
    if len(ranked) < 2:
        raise ValueError(f"A plane needs two columns of numbers, the model has {len(ranked)}.")
    x, _ = _draws(model)
    likeness = _rank_correlation(x)
    first = model.codec.columns.index(ranked[0])
    fresh = [
        name
        for name in ranked[1:]
        if likeness[first, model.codec.columns.index(name)] < MAX_RANK_CORRELATION
    ]
    return ranked[0], (fresh or ranked[1:])[0]


def _draws(model: Model) -> tuple[np.ndarray, np.ndarray | None]:
    """(S, D) values and (S,) y of the model's own rows."""
    from conjoin.core import stream

    drawn = model.joint.sample(DRAWS, generator=stream(0, "figures"))
    if model.target is None:
        return drawn.value.numpy(), None  # type: ignore[union-attr]
    return drawn.x.value.numpy(), drawn.y.value.numpy()  # type: ignore[union-attr]


def _worth(model: Model, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Mutual information with y; without y the mean rank correlation with the others."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    if y is None:
        likeness = _rank_correlation(x)
        return np.asarray((likeness.sum(1) - 1) / max(1, len(likeness) - 1))
    if model.has_classes:
        return (
            np.asarray(mutual_info_classif(x, y.astype(int), random_state=0))
            if len(np.unique(y)) > 1
            else np.zeros(x.shape[1])
        )
    return np.asarray(mutual_info_regression(x, y, random_state=0))


def _rank_correlation(x: np.ndarray) -> np.ndarray:
    """(D, D), absolute; 0 with a column that does not vary."""
    ranks = x.argsort(0, kind="stable").argsort(0, kind="stable").astype(float)
    ranks[:, np.ptp(x, axis=0) == 0] = 0
    ranks -= ranks.mean(0)
    length = np.sqrt((ranks**2).sum(0))
    unit = ranks / np.where(length > 0, length, 1)
    return np.asarray(np.abs(unit.T @ unit))

"""p(y | x) of rows, without regard to familiarity: log p of each class, or the mean and the
quantiles of a number.

Shape letters: B rows, K classes, Q levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from conjoin.model.calibrate import predictive_of
from conjoin.model.model import Model

__all__ = ["log_proba", "means", "quantiles"]


def log_proba(model: Model, X: Any) -> np.ndarray:
    """(B, K) log p(y | x), nats, of a model of classes."""
    rows = model.rows(X)
    return model.log_proba(model.encode(rows), rows).numpy()


def means(model: Model, X: Any) -> np.ndarray:
    """(B,) the mean of p(y | x), in the unit of y."""
    return model.number.decode(predictive_of(model, model.encode(X)).mean())


def quantiles(model: Model, X: Any, levels: Sequence[float]) -> np.ndarray:
    """(B, Q) quantiles of p(y | x), in the unit of y: such steps as y is recorded in, and none
    below 0 where y never was. ValueError for a level that is no probability."""
    asked = torch.as_tensor(np.atleast_1d(np.asarray(levels, dtype=float)))
    if not ((asked >= 0) & (asked <= 1)).all():
        raise ValueError(f"levels must lie between 0 and 1, got {levels!r}.")
    found = predictive_of(model, model.encode(X))
    each = model.number.drawn(found.quantile(asked.expand(len(found.cdf), -1)))
    least, _ = model.number.range
    return each if least is None or least < 0 else np.maximum(each, 0.0)

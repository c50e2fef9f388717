"""How long predictors are likely to take to learn, measured on a few rows."""

import warnings

import numpy as np
import pandas as pd

from conjoin.predictors.base import Case, Method

__all__ = ["seconds_by_method"]

MEASURED_ROWS = 4000  # at most
MEASURED_CELLS = 400_000  # of them, at most


def seconds_by_method(case: Case, methods: dict[str, Method]) -> dict[str, float]:
    """Seconds that each of the methods is likely to take with all labelled rows of a case."""
    case = case.take(case.rows.y.mask.numpy())
    few = case.take(_few(case))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: method.guess(case, few) for name, method in methods.items()}


def _few(case: Case) -> np.ndarray:
    """(B,) marks of a few rows, as far as there are of all classes in equal numbers."""
    order = np.random.default_rng(case.seed).permutation(case.rows.rows)
    if case.classes is not None:
        y = pd.Series(case.rows.y.value.numpy()[order])
        order = order[np.argsort(y.groupby(y).cumcount().to_numpy(), kind="stable")]
    out = np.zeros(len(order), dtype=bool)
    out[order[: min(MEASURED_ROWS, MEASURED_CELLS // len(case.space.variables))]] = True
    return out

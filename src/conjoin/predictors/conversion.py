"""scikit-learn's fitted estimators as modules that see events and are saved without pickle, each
checked against the original on rows that it was fitted on."""

import inspect
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.predictors.base import Case, Design, Method, Scorer

__all__ = ["checked", "fit_estimator"]

CHECKED_ROWS = 256  # by which a conversion is checked


def fit_estimator(method: Method, estimator: Any, case: Case) -> Scorer:
    """``estimator`` fitted to the labelled rows of a case, as a scorer of ``method``."""
    rows, weight = case.labelled
    design, crossed = case.designs()
    y = rows.y.value.numpy()
    # networks of scikit-learn 1.6 take no sample weights
    able = "sample_weight" in inspect.signature(estimator.fit).parameters
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
        estimator.fit(
            method.table(crossed, rows.x).astype(method.dtype, copy=False),
            y if case.classes is None else y.astype(np.int64),
            **({"sample_weight": weight.numpy()} if able else {}),
        )
    scorer = checked(method, estimator, design, rows.x)
    assert scorer is not None
    return scorer


def checked(method: Method, estimator: Any, design: Design, x: Event) -> Scorer | None:
    """A fitted estimator as a scorer; None where ``method`` has no such kind.

    Raises RuntimeError if the module does not reproduce the estimator on ``x`` (its insides have
    changed)."""
    scorer = method.convert(estimator, design)
    if scorer is None:
        return None
    some = x.take(slice(0, CHECKED_ROWS))
    truth = _truth(estimator, method.table(design, some))
    if not torch.allclose(_comparable(scorer.scores(some)), torch.as_tensor(truth), atol=1e-6):
        raise RuntimeError(
            f"{type(estimator).__name__} of this scikit-learn could not be reproduced; use "
            "another predictor."
        )
    return scorer


def _truth(estimator: Any, table: np.ndarray) -> np.ndarray:
    classifier = "predict_proba" in dir(estimator)
    return np.asarray(
        estimator.predict_proba(table) if classifier else estimator.predict(table)[:, None]
    )


def _comparable(scores: Tensor) -> Tensor:
    return scores if scores.shape[1] == 1 else scores.softmax(1)

r"""evaluate: how good the answers are on labelled rows, as plain numbers.

The expected calibration error is the debiased l2 one: A. Kumar, P. Liang and T. Ma (2019), Verified
uncertainty calibration, equation 8: from each bin's squared gap its own sampling variance is
subtracted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.calibration.conformal import Calibration, rate_interval
from conjoin.core import Rows, Status
from conjoin.model.calibrate import predictive_of
from conjoin.model.model import Model
from conjoin.questions.bits import bits_of
from conjoin.questions.decide import ACCEPT, UNFAMILIAR, decide
from conjoin.questions.unlike import unlike_fit

__all__ = ["debiased_ece", "evaluate", "prediction", "reliability"]

BINS = 15


def evaluate(
    model: Model,
    X: Any,
    y: np.ndarray | None,
    known: np.ndarray | None,
    false_alarm: float = 0.05,
    max_error: Any = 0.05,
) -> dict[str, Any]:
    """Numbers about ``X`` (and labels ``y``, where ``known``): likelihood, prediction, calibration,
    both alarms. A rate has its exact 95 % interval beside it, as NAME_interval; both are None where
    there was no row to count, such as the errors where nothing was accepted."""
    rows = model.rows(X)
    encoded = model.encode(rows)
    log_prob = model.log_prob_raw(encoded)
    out: dict[str, Any] = {
        "rows": len(rows),
        "log_prob": float(np.mean(log_prob)),
        "log_prob_median": float(np.median(log_prob)),
    }
    out["log_prob_status"] = model.status_for(encoded)["log_prob"]
    if model.codec.per_dimension and model.status["log_prob"] is not Status.RELATIVE:
        out["bits_per_dim"] = float(np.mean(bits_of(log_prob, encoded)))
    if y is not None and known is not None and known.any():
        out |= prediction(model, rows, y, known)
    if isinstance(model.calibration, Calibration):
        out |= _promises(model, rows, y, known, false_alarm, max_error)
    return out


def prediction(model: Model, X: Any, y: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """How well y is predicted for the rows of which it is ``known``."""
    all_known = np.ones(int(known.sum()), dtype=bool)
    label = model.target.encode(y[known], all_known).value  # type: ignore[union-attr]
    rows = model.rows(X).take(np.flatnonzero(known))
    encoded = model.encode(rows)
    if model.has_classes:
        return _classes(model, model.log_proba(encoded, rows), label)
    found = predictive_of(model, encoded)
    scale = model.number.scale
    error = found.median() - label
    log_y = model.log_with_label(encoded, label) - model.evidence(encoded)
    return {
        "log_loss": float(-log_y.mean()) - model.number.log_volume,
        "crps": float(found.crps(label).mean()) * scale,
        "mae": float(error.abs().mean()) * scale,
        "rmse": float((found.mean() - label).square().mean().sqrt()) * scale,
    }


def _classes(model: Model, log_proba: torch.Tensor, label: torch.Tensor) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    codes = label.long().numpy()
    proba = log_proba.exp().numpy()
    right = proba.argmax(1) == codes
    out: dict[str, Any] = {
        **_rate("accuracy", int(right.sum()), len(right)),
        "log_loss": float(-log_proba.gather(1, label.long()[:, None]).mean()),
        "ece": debiased_ece(proba.max(1), right),
    }
    if len(np.unique(codes)) == proba.shape[1]:
        scores = proba[:, 1] if proba.shape[1] == 2 else proba / proba.sum(1, keepdims=True)
        out["auc"] = float(roc_auc_score(codes, scores, multi_class="ovr"))
    return out


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Equal-count bins: mean confidence, share right, rows."""
    order = np.argsort(confidence, kind="stable")
    parts = [
        part for part in np.array_split(order, min(bins, max(1, len(order) // 10))) if len(part)
    ]
    return pd.DataFrame(
        [
            {"confidence": confidence[p].mean(), "accuracy": right[p].mean(), "rows": len(p)}
            for p in parts
        ]
    )


def debiased_ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """Root of the mean squared gap between confidence and accuracy, less its sampling variance; 0
    if that is negative."""
    table = reliability(confidence, right.astype(float))
    gap = (table["confidence"] - table["accuracy"]) ** 2
    noise: pd.Series = (
        table["accuracy"] * (1 - table["accuracy"]) / np.maximum(table["rows"] - 1, 1)
    )
    return float(np.sqrt(max(0.0, np.average(gap - noise, weights=table["rows"]))))


def _promises(
    model: Model,
    rows: Rows,
    y: np.ndarray | None,
    known: np.ndarray | None,
    false_alarm: float,
    max_error: Any,
) -> dict[str, Any]:
    """What was asked of the two alarms and what these rows gave; a promise that can't be made is
    left out."""
    try:
        verdicts = decide(model, rows, false_alarm=false_alarm, max_error=max_error, explain=False)
    except ValueError as error:
        return {"promises": str(error)}
    accepted = (verdicts["verdict"] == ACCEPT).to_numpy()
    unfamiliar = (verdicts["verdict"] == UNFAMILIAR).to_numpy()
    out: dict[str, Any] = {
        "false_alarm_asked": false_alarm,
        **_rate("false_alarm_got", int(unfamiliar.sum()), len(rows)),
        **_rate("accepted", int(accepted.sum()), len(rows)),
    }
    words = unlike_fit(model, rows, verdicts, false_alarm, max_error, y, known)
    out |= {"unlike_fit": words} if words else {}
    if not model.has_classes or y is None or known is None:
        return out
    wrong = accepted & known & (verdicts["best_guess"].to_numpy() != y)
    out["error_asked"] = (
        {str(key): value for key, value in max_error.items()}
        if isinstance(max_error, Mapping)
        else max_error
    )
    out |= _rate("error_among_accepted", int(wrong.sum()), int((accepted & known).sum()))
    each = {str(c): known & (y == c) for c in model.classes.labels}
    of_class = {
        label: _rate("", int(wrong[mine].sum()), int(mine.sum()))
        for label, mine in each.items()
        if mine.any()
    }
    out["accepted_wrong_per_class"] = {label: rate[""] for label, rate in of_class.items()}
    out["accepted_wrong_per_class_interval"] = {
        label: rate["_interval"] for label, rate in of_class.items()
    }
    return out


def _rate(name: str, count: int, rows: int) -> dict[str, Any]:
    """A rate and its 95 % interval, as NAME and NAME_interval; None where there are no rows."""
    return {
        name: count / rows if rows else None,
        f"{name}_interval": rate_interval(count, rows),
    }

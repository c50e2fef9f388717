"""What is asked of a model of several targets: of each by itself, and of all together."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.core import Pair, stream
from conjoin.model.calibrate import predictive_of
from conjoin.model.censored import TargetColumn
from conjoin.model.several import SeveralTargets
from conjoin.questions.decide import ACCEPT, AMBIGUOUS, UNFAMILIAR, decide
from conjoin.questions.evaluate import evaluate
from conjoin.questions.ranges import draw_in_range, ends_of, lifted

__all__ = ["decide_all", "evaluate_all", "predict_all", "proba_all", "sample_all"]

SHARED = ("familiarity", "log_prob")  # of x, the same for all targets


def predict_all(model: SeveralTargets, X: Any) -> pd.DataFrame:
    """A column for each target: the most probable class, or the mean of p(y | x)."""
    rows = model.codec.rows(X)
    found: dict[str, Any] = {}
    for name, view in model.views().items():
        encoded = view.encode(rows)
        if view.has_classes:
            found[name] = view.classes.labels[view.log_proba(encoded).argmax(1).numpy()]
        else:
            found[name] = view.number.decode(predictive_of(view, encoded).mean())
    return pd.DataFrame(found, index=rows.index)


def proba_all(model: SeveralTargets, X: Any) -> dict[str, np.ndarray]:
    """(B, K) log p(y | x) of each target that is classes. ValueError where none is."""
    if not model.classes:
        raise ValueError("No target is of classes: predict_quantiles tells the spread of numbers.")
    rows = model.codec.rows(X)
    views = model.views()
    return {name: views[name].log_proba(views[name].encode(rows)).numpy() for name in model.classes}


def decide_all(
    model: SeveralTargets,
    X: Any,
    *,
    false_alarm: float = 0.05,
    max_error: float | None = 0.05,
    max_width: float | None = None,
) -> pd.DataFrame:
    """A verdict for each target and for all together.

    Parameters
    ----------
    false_alarm
        Share of familiar rows that may be called unfamiliar; the alarm is the same for all targets.
    max_error
        Of each target by itself, as in ``decide``; and of all together: the share of rows accepted
        as a whole in which any class is wrong.
    max_width
        Of a number's interval, where that is asked for.

    Returns
    -------
    DataFrame
        Columns (target, field) with the fields of ``decide``, then ("all", "verdict"), ("all",
        "confidence"), ("all", "familiarity"), ("all", "log_prob").

    Raises
    ------
    ValueError
        With the number of calibration rows that is needed, where a rate can't be promised.
    """
    if max_error is not None and not isinstance(max_error, int | float):
        raise TypeError("With several targets, max_error is one rate for each and for all.")
    asked: dict[str, Any] = {"false_alarm": false_alarm, "max_error": max_error}
    rows = model.codec.rows(X)
    views = model.views()
    tables = {
        name: decide(view, rows, max_width=max_width, explain=False, **asked)
        if view.has_number
        else decide(view, rows, explain=False, **asked)
        for name, view in views.items()
    }
    together = _together(model, tables, false_alarm, max_error)
    parts = {name: table.drop(columns=list(SHARED)) for name, table in tables.items()}
    return pd.concat(parts | {"all": together}, axis=1)


def _together(
    model: SeveralTargets,
    tables: dict[str, pd.DataFrame],
    false_alarm: float,
    max_error: float | None,
) -> pd.DataFrame:
    """Accepted where the least confidence of the classes keeps the promise on all of them at once,
    and no interval is too wide."""
    first = next(iter(tables.values()))
    out = first[list(SHARED)].copy()
    doubt = np.zeros(len(out), dtype=bool)
    if model.classes:
        confidence = np.min([tables[name]["confidence"] for name in model.classes], axis=0)
        out.insert(0, "confidence", confidence)
        if max_error is not None:
            doubt |= confidence < model.of_all_classes.threshold(float(max_error), false_alarm)
    for name, table in tables.items():
        if name not in model.classes or max_error is None:
            doubt |= (table["verdict"] == AMBIGUOUS).to_numpy()
    unfamiliar = (first["verdict"] == UNFAMILIAR).to_numpy()
    out.insert(0, "verdict", np.select([unfamiliar, doubt], [UNFAMILIAR, AMBIGUOUS], ACCEPT))
    return out


def evaluate_all(
    model: SeveralTargets,
    X: Any,
    columns: list[TargetColumn] | None,
    false_alarm: float = 0.05,
    max_error: float = 0.05,
) -> dict[str, Any]:
    """Numbers about held-out rows.

    Returns
    -------
    dict
        ``targets``: of each target what ``evaluate`` gives of it; ``all``: ``rows``, ``log_loss``
        (mean of -log p(all that is known of y | x), nats, censored numbers by the mass between
        their bounds) and ``all_right`` (the share of rows whose classes are all right).
    """
    rows = model.codec.rows(X)
    views = model.views()
    if columns is None:
        return {
            "targets": {
                name: evaluate(view, rows, None, None, false_alarm, max_error)
                for name, view in views.items()
            }
        }
    of_each = {
        column.name: evaluate(
            views[column.name], rows, column.values, column.known, false_alarm, max_error
        )
        for column in columns
    }
    encoded = next(iter(views.values())).encode(rows)
    told = np.any([column.known | column.censored for column in columns], axis=0)
    log_prob = model.log_prob(columns, encoded).numpy()
    out: dict[str, Any] = {
        "rows": int(told.sum()),
        "log_loss": -float(log_prob[told].mean()) if told.any() else float("nan"),
    }
    classes = [column for column in columns if not column.is_number]
    known = np.all([column.known for column in classes], axis=0) if classes else told & False
    if known.any():
        guess = predict_all(model, rows)
        right = [guess[column.name].to_numpy() == column.values for column in classes]
        out["all_right"] = float(np.all(right, axis=0)[known].mean())
    return {"targets": of_each, "all": out}


def sample_all(
    model: SeveralTargets, n: int, seed: int = 0, tails: bool = False, even: bool = False
) -> tuple[Any, pd.DataFrame]:
    """``n`` rows of x and of all targets, drawn together."""
    if even:
        raise ValueError("even=True is for models of one target, or of none: leave it out.")
    generator = stream(seed, "sample")
    count = len(model.targets)
    x = model.codec.space.unknown(n)

    def draw(index: torch.Tensor) -> Pair:
        whole = model.density.sample(len(index), generator=generator)
        return Pair(*whole.cut(count))

    of_y = ends_of(model.targets, tails)
    drawn: Pair = draw_in_range(model.codec, draw, x, lifted(model.codec, (), tails), of_y)
    y = {
        target.name: target.drawn(drawn.y.value[:, place])
        for place, target in enumerate(model.targets)
    }
    return model.codec.drawn(drawn.x, generator), pd.DataFrame(y)

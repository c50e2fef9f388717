"""price: what a joint model gives up in p(x) and in p(y | x) against models that learn one of them
alone.

Three fits by one recipe, on the same rows, each with the whole budget; a fifth of the rows is held
out from all of them.

    p(x), p(y | x)    the joint model
    p(x) alone        its family, without labels
    p(y | x) alone    the same network, to which p(x) counts for next to nothing; where none
                      is shared, the best of naive Bayes and the standard predictors
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from conjoin.core import Status
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import fit_model
from conjoin.fitting.split import Rows
from conjoin.model.model import Model
from conjoin.questions.bits import bits_of
from conjoin.questions.compare import held_out, log_label
from conjoin.questions.evaluate import prediction

__all__ = ["Price", "Term", "price"]

DISCRIMINATIVE_ONLY_WEIGHT = 1e4  # weight of -log p(y | x) beside which the loss of p(x) is nothing
# the best predictor where no network is shared
STANDARD = {
    "family": "naive_bayes",
    "predictor": "auto",
    "emphasis": 0.0,
    "precision": "auto",
}


@dataclass(frozen=True)
class Term:
    """Mean log-likelihood of the held-out rows, nats: of the joint model and of the model of this
    term alone. ``loss``: alone less joint, negative for a gain; ``error``: its standard error,
    paired by rows. ``measure``: both as bits per dimension (of pictures), accuracy, or mean
    absolute error."""

    term: str
    joint: float
    alone: float
    loss: float
    error: float
    status: str
    measure: str = ""
    joint_measure: float = np.nan
    alone_measure: float = np.nan

    def words(self) -> str:
        """What it means."""
        if np.isnan(self.error):
            return f"{self.term} is known up to a constant, so that its price is not known."
        if self.loss == self.error == 0:
            return f"{self.term} loses nothing: alone, the same would have been chosen."
        unsure = "" if abs(self.loss) > 2 * self.error else ", which may be nothing"
        return (
            f"{self.term} loses {self.loss:.3f} nats a row (standard error {self.error:.3f}) "
            f"by being learned together{unsure}."
        )


@dataclass(frozen=True)
class Price:
    """``terms``: p(x), then p(y | x)."""

    terms: tuple[Term, ...]
    rows: int

    def frame(self) -> pd.DataFrame:
        """A row for each term."""
        return pd.DataFrame([vars(term) for term in self.terms])

    def to_json(self) -> dict[str, Any]:
        terms = [
            {key: None if value != value else value for key, value in vars(term).items()}
            for term in self.terms
        ]
        return {"rows": self.rows, "terms": terms}

    def words(self) -> list[str]:
        """A sentence for each term."""
        return [term.words() for term in self.terms]

    def __str__(self) -> str:
        return "\n".join([self.frame().to_string(index=False, float_format="%.4f"), *self.words()])


def price(estimator: Any, X: Any, y: Any) -> Price:
    """What the joint model p(x, y) loses beside the models of p(x) and of p(y | x) alone.

    Parameters
    ----------
    estimator : JointClassifier or JointRegressor
        Fitted or not; each of the three fits has its ``max_time``.
    X : DataFrame or array_like
        Rows, of which some are held out to judge.
    y : array_like, shape (n,)
        Classes or numbers.

    Returns
    -------
    Price
        For each term the mean log-likelihood of the held-out rows in nats, joint and alone, and the
        loss with its standard error.

    Raises
    ------
    ValueError
        Without a target, for family='auto' or ``start_from``, or with too few rows.
    """
    if estimator._target_class is None:
        raise ValueError(
            "The price of jointness is that of p(x, y), and JointDensity has no y: use "
            "JointClassifier or JointRegressor."
        )
    if estimator.family == "auto" or estimator.start_from is not None:
        raise ValueError(
            "The price is that of one family from its own start: name one in place of "
            "family='auto', without start_from."
        )
    _, x = estimator._codec(X, y)
    labels = estimator._target_of_fit(y, X, len(x))
    settings = {
        key: getattr(estimator, key)
        for key in (
            "family",
            "predictor",
            "max_time",
            "max_kwh",
            "emphasis",
            "precision",
            "speed",
            "device",
            "verbose",
            "spread",
        )
    }
    options = FitOptions(task=estimator._task, seed=estimator._seed(), calibration=0.0, **settings)
    return _price(estimator._rows(x, labels), options, lambda: estimator._codec(X, y)[0])


def _price(rows: Rows, options: FitOptions, codec: Callable[[], Any]) -> Price:
    fit, held = held_out(rows, options.seed)
    joint = fit_model(fit, replace(options, codec=codec()))
    x = fit_model(
        replace(fit, y=None, known=None),
        replace(options, task="density", predictor=None, emphasis=0.0, codec=codec()),
    )
    config: Any = joint.joint.config
    network = joint.state.predictor == "trunk" and config.density.shared_backbone
    lone: dict[str, Any] = (
        {"family": config.set_params(label_weight=DISCRIMINATIVE_ONLY_WEIGHT)}
        if network
        else STANDARD
    )
    y = fit_model(fit, replace(options, codec=codec(), **lone))
    return Price((_of_rows(joint, x, held), _of_labels(joint, y, held)), len(held.x))


def _of_rows(joint: Model, alone: Model, held: Rows) -> Term:
    """p(x); in bits per dimension too, of pictures."""
    encoded = [model.encode(held.x) for model in (joint, alone)]
    each = [model.log_prob_raw(rows) for model, rows in zip((joint, alone), encoded, strict=True)]
    status = joint.status["log_prob"]
    if Status.RELATIVE in (status, alone.status["log_prob"]):
        return Term("p(x)", np.nan, np.nan, np.nan, np.nan, status.value)
    found = _term("p(x)", each, status.value)
    if not joint.codec.per_dimension:
        return found
    bits = [float(bits_of(*pair).mean()) for pair in zip(each, encoded, strict=True)]
    return replace(
        found, measure="bits per dimension", joint_measure=bits[0], alone_measure=bits[1]
    )


def _of_labels(joint: Model, alone: Model, held: Rows) -> Term:
    """p(y | x) of the labelled rows."""
    assert held.y is not None and held.known is not None
    each = [log_label(model, model.encode(held.x), held)[0][held.known] for model in (joint, alone)]
    found = _term("p(y | x)", each, joint.status["predict_proba"].value)
    assert joint.target is not None
    measure = joint.target.measure
    values = [prediction(model, held.x, held.y, held.known)[measure] for model in (joint, alone)]
    return replace(found, measure=measure, joint_measure=values[0], alone_measure=values[1])


def _term(name: str, each: list[np.ndarray], status: str) -> Term:
    gap = each[1] - each[0]
    return Term(
        name,
        float(each[0].mean()),
        float(each[1].mean()),
        float(gap.mean()),
        float(gap.std() / len(gap) ** 0.5),
        status,
    )

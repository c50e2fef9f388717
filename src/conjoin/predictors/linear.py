"""A linear model of the columns: logistic regression of classes, ridge regression of a number."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Event, Space
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.predictors.base import Case, Design, Folded, Method, Scorer, two_sided
from conjoin.predictors.conversion import checked, fit_estimator
from conjoin.predictors.folds import folds_for
from conjoin.predictors.logistic import by_strength, logistic, logistic_steps
from conjoin.util.budget import seconds_of

__all__ = ["Linear", "LinearMethod"]

# of the solver: steps that are timed, and as many as it usually takes; and strengths that are tried
TIMED_STEPS = (1, 9)
USUAL_STEPS = 60
USUAL_STRENGTHS = 2


class Linear(Scorer):
    """scores = W f(x) + b."""

    kind = "linear"

    def __init__(self, space: Space, shape: tuple[int, int]) -> None:
        super().__init__()
        self.design = Design(space)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[0], dtype=torch.float64), requires_grad=False)

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {"shape": list(self.weight.shape)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.design.matrix(x) @ self.weight.T + self.bias


class LinearMethod(Method):
    """Logistic or ridge regression. Of pixels "auto" leaves propagated labels to a network."""

    scorers = (Linear,)
    folds = True

    def tried(self, case: Case) -> bool:
        return not (case.lent and case.pictures)

    def for_few_labels(self, case: Case) -> bool:
        return case.columns

    def fit(self, case: Case) -> Scorer:
        from sklearn.linear_model import Ridge

        if case.classes is None:
            return fit_estimator(self, Ridge(), case)
        rows, weight = case.labelled
        design, crossed = case.designs()
        codes = rows.y.value.numpy().astype(np.int64)
        fitted = logistic(self.table(crossed, rows.x), codes, weight.numpy())
        scorer = checked(self, fitted, design, rows.x)
        assert scorer is not None
        return scorer

    def guess(self, case: Case, few: Case) -> float:
        """By some steps of the solver, of which every fold takes more for each strength."""
        if case.classes is None:
            return super().guess(case, few)
        design, _ = few.designs()
        table = self.table(design, few.rows.x)
        codes = few.rows.y.value.numpy().astype(np.int64)
        call, more = (
            seconds_of(partial(logistic_steps, table, codes, steps)) for steps in TIMED_STEPS
        )
        step = max(0.0, more - call) / (TIMED_STEPS[1] - TIMED_STEPS[0])
        took = call + USUAL_STEPS * step
        fits = 1 + USUAL_STRENGTHS * folds_for(case.rows.rows, case.fast)
        return took * fits * case.rows.rows / few.rows.rows

    def by_folds(self, case: Case) -> Folded:
        """The strength of logistic regression is the one that does best on held-out folds."""
        if case.classes is None:
            return super().by_folds(case)
        design, crossed = case.designs()
        table = self.table(crossed, case.rows.x)
        codes = case.rows.y.value.numpy().astype(np.int64)
        folds = [(np.flatnonzero(~held), np.flatnonzero(held)) for held in case.parts()]
        fitted, log_p = by_strength(table, codes, case.weight.numpy(), folds)
        scorer = checked(self, fitted, design, case.rows.x)
        assert scorer is not None
        return Folded(scorer, torch.as_tensor(log_p))

    def convert(self, estimator: Any, design: Design) -> Scorer | None:
        from sklearn.linear_model import LogisticRegression, Ridge

        known = isinstance(estimator, LogisticRegression | Ridge)
        return _linear(estimator, design) if known else None


def _linear(estimator: Any, design: Design) -> Linear:
    weight = np.atleast_2d(estimator.coef_)
    bias = np.atleast_1d(estimator.intercept_)
    if len(weight) == 1 and "classes_" in vars(estimator):
        weight = two_sided(weight)
        bias = two_sided(bias)
    linear = Linear(design.space, (weight.shape[0], weight.shape[1]))
    linear.design.load_state_dict(design.state_dict())
    linear.weight.copy_(torch.as_tensor(weight))
    linear.bias.copy_(torch.as_tensor(bias))
    return linear

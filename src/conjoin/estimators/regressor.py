"""JointRegressor: p(x, y) with y a number."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import RegressorMixin

from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.model.calibrate import predictive_of
from conjoin.questions.counterfactual import counterfactual
from conjoin.questions.sample import generate
from conjoin.questions.several import predict_all, sample_all

__all__ = ["JointRegressor"]


class JointRegressor(RegressorMixin, _JointEstimator):
    """A regressor that also knows p(x); it gives the whole p(y | x). Parameters as in
    ``JointClassifier``."""

    _task = "number"

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        calibration: float = 0.2,
        *,
        time: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """As ``JointClassifier.fit``."""
        rows = {"sample_weight": sample_weight, "groups": groups, "time": time}
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        return self._fit(X, y, **rows, **asked)

    def predict(self, X: Any) -> np.ndarray | pd.DataFrame:
        """(B,) the mean of p(y | x); with several targets, a frame of them."""
        several = self._several()
        if several is not None:
            return predict_all(several, X)
        model = self._model()
        return model.number.decode(predictive_of(model, model.encode(X).event).mean())

    def predict_quantiles(self, X: Any, levels: Sequence[float] = (0.05, 0.5, 0.95)) -> np.ndarray:
        """(B, Q) quantiles of p(y | x)."""
        model = self._model()
        asked = torch.as_tensor(np.atleast_1d(np.asarray(levels, dtype=float)))
        if not ((asked >= 0) & (asked <= 1)).all():
            raise ValueError(f"levels must lie between 0 and 1, got {levels!r}.")
        found = predictive_of(model, model.encode(X).event)
        return model.number.decode(found.quantile(asked.expand(len(found.cdf), -1)))

    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        given: Given = None,
        random_state: int = 0,
        where: Where = (),
    ) -> tuple[Any, Any]:
        """(X, y) drawn from the joint, given a y and given columns; ``where`` as of
        ``JointClassifier.sample``."""
        several = self._several()
        if several is not None and y is None and not given and not where:
            return sample_all(several, n_samples, random_state)
        return generate(self._model(), n_samples, y, given, random_state, where)

    def counterfactual(
        self, X: Any, to: Any, keep: Sequence[Any] = (), n: int = 3, random_state: int = 0
    ) -> pd.DataFrame:
        """Small, plausible changes of each row after which the median of y would lie in ``to``, a
        (low, high) range."""
        return counterfactual(self._model(), X, to, keep, n, seed=random_state)

    def evaluate(
        self, X: Any, y: Any = None, *, false_alarm: float = 0.05, max_error: Any = 0.05
    ) -> dict[str, Any]:
        """Likelihood, prediction (log-loss of the density of y, CRPS, errors) and familiarity on
        held-out rows."""
        return self._evaluate(X, y, false_alarm, max_error)

"""JointClassifier: p(x, y) with y one of several classes."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.questions.counterfactual import counterfactual
from conjoin.questions.edit import MAX_PIXELS_AS_COLUMNS, alter_class
from conjoin.questions.sample import generate
from conjoin.questions.several import predict_all, proba_all, sample_all

__all__ = ["JointClassifier"]


class JointClassifier(ClassifierMixin, _JointEstimator):
    """A classifier that also knows p(x).

    ``X`` is a table, or an array of images (n, H, W) or (n, H, W, C) of whole numbers. Parameters:
    ``predictor`` is p(y | x): "auto" (the best of the family's own, "linear", "boosting" and
    "features", of images also "network", by log-loss on held-out rows), "features" (a linear model
    on what the family's network sees), "network" (a small one of its own), "trunk" (that of the
    family, learned together with p(x)), None (the family alone), or any scikit-learn classifier (a
    FrozenEstimator or Pipeline sees your own columns). ``family`` is p(x): a name, an alias, "auto"
    (all are compared on held-out rows, within ``max_time``), a config such as
    ``Circuit(width=32)``, or a Density class. ``max_time`` in seconds, ``max_kwh`` of energy: a fit
    that has used them up ends and keeps its best. ``emphasis``: how much more than its share p(y |
    x) weighs in the loss of families that learn by the gradient; "auto" tries a few on held-out
    rows. ``precision`` of a network of pictures: "float32", "bfloat16", or "auto", the faster one
    by a short timing. ``device``: "auto" (a graphics processor where CUDA finds one, else the
    CPU), "cpu", "cuda" or "cuda:1". ``types``, ``missing``, ``missingness``, ``measure``: as in
    TableCodec.
    ``unlabelled``: a label that means "not known", such as -1; NaN, None and NA always do.
    ``spread``: where most rows have no label, lend them those of the rows about them, if that tells
    labels kept from it as well as logistic regression does; False leaves them to be summed out.
    ``start_from``: a model's folder or a fitted estimator of the same family, in whose columns and
    with whose parameters the fit begins.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    >>> model.decide(X.iloc[:1] * 10, max_error=0.1)["verdict"].item()
    'unfamiliar'
    """

    _task = "classes"

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
        """``groups``: rows of one group never straddle a split. ``calibration``: the share of rows
        held out for the two alarms. ``time``: a column (or values) by which the latest rows
        calibrate. ``checkpoint``: a folder from which ``resume=True`` goes on. ``y`` may be
        a frame of several columns, numbers and classes: one density is fitted over all of them and
        x, by a family that sums out exactly. Its cells may be missing, and a number may be a bound,
        ">10", or a pair (low, high)."""
        rows = {"sample_weight": sample_weight, "groups": groups, "time": time}
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        return self._fit(X, y, **rows, **asked)

    def predict_log_proba(self, X: Any) -> np.ndarray | dict[str, np.ndarray]:
        """(B, K) log p(y | x); with several targets, of each that is classes, by its name."""
        several = self._several()
        if several is not None:
            return proba_all(several, X)
        rows = self._model().rows(X)
        return self._model().log_proba(self._model().encode(rows), rows).numpy()

    def predict_proba(self, X: Any) -> np.ndarray | dict[str, np.ndarray]:
        """(B, K) p(y | x); with several targets, of each that is classes, by its name."""
        found = self.predict_log_proba(X)
        if isinstance(found, dict):
            return {name: np.exp(each) for name, each in found.items()}
        return np.exp(found)

    def predict(self, X: Any) -> np.ndarray | pd.DataFrame:
        """(B,) the most probable class. Without regard to familiarity: that is what ``decide`` is
        for. With several targets, a frame of them."""
        several = self._several()
        if several is not None:
            return predict_all(several, X)
        log_proba: Any = self.predict_log_proba(X)
        return self.classes_[log_proba.argmax(1)]

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """(B, K) log p(x, y), nats, in the raw data's units."""
        rows = self._model().rows(X)
        encoded = self._model().encode(rows)
        joint = self._model().log_joint(encoded, rows)
        return (joint + (encoded.log_unseen + encoded.log_volume)[:, None]).numpy()

    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        given: Given = None,
        random_state: int = 0,
        where: Where = (),
    ) -> tuple[Any, Any]:
        """(X, y) drawn from the joint, given a class and given columns: {column: value, (low, high)
        or [levels]}. ``where``: constraints such as "start <= end"; ``X.attrs["acceptance"]`` is
        the share of drawn rows that kept them. Of several targets all are drawn,
        as a frame; for one of them that is given, see ``for_target``."""
        several = self._several()
        if several is not None and y is None and not given and not where:
            return sample_all(several, n_samples, random_state)
        return generate(self._model(), n_samples, y, given, random_state, where)

    def counterfactual(
        self, X: Any, to: Any = None, keep: Sequence[Any] = (), n: int = 3, random_state: int = 0
    ) -> Any:
        """Small, plausible changes of each row after which the model would answer ``to``: a frame;
        of pictures, an ``Alteration``, where ``to=None`` is the next most probable answer."""
        model = self._model()
        if not model.codec.columnwise and (
            model.pair.proposer.capabilities.edits
            or len(model.codec.columns) > MAX_PIXELS_AS_COLUMNS
        ):
            return alter_class(model, X, to, seed=random_state)
        return counterfactual(model, X, to, keep, n, seed=random_state)

    def evaluate(
        self, X: Any, y: Any = None, *, false_alarm: float = 0.05, max_error: Any = 0.05
    ) -> dict[str, Any]:
        """Likelihood, prediction, calibration and both alarms on held-out rows."""
        return self._evaluate(X, y, false_alarm, max_error)

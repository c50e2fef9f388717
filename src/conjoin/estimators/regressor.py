"""JointRegressor: p(x, y) with y a number."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from conjoin.codecs.table.native import in_kind, kind_of
from conjoin.core.sampling import Sampling, Walk
from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.questions.counterfactual import counterfactual
from conjoin.questions.predict import means, quantiles
from conjoin.questions.several import predict_all

__all__ = ["JointRegressor"]


class JointRegressor(RegressorMixin, _JointEstimator):
    """A regressor that also models p(x); it gives the whole distribution p(y | x).

    Parameters
    ----------
    predictor : str, estimator, list or None, default "auto"
        As of ``JointClassifier``, with scikit-learn's regressors in place of classifiers.
    family, random_state, max_time, max_kwh, emphasis, device, precision, verbose
        As of ``JointClassifier``.
    types, missing, missingness, measure, unlabelled, spread, start_from, speed, strict
        As of ``JointClassifier``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = JointRegressor(family="naive_bayes", predictor=None).fit(X, y)
    >>> model.predict_quantiles(X.iloc[:2]).shape
    (2, 3)
    """

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
        """Fit p(x, y).

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : array_like, shape (n,), or DataFrame
            Numbers; NaN and ``unlabelled`` mean "not known". A frame of several columns as of
            ``JointClassifier.fit``.
        sample_weight, groups, calibration, time, checkpoint, resume
            As of ``JointClassifier.fit``.

        Returns
        -------
        Self
            The fitted estimator.

        Raises
        ------
        ValueError
            For labels, weights or settings that do not fit the rows or each other.
        """
        rows = {"sample_weight": sample_weight, "groups": groups, "time": time}
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        return self._fit(X, y, **rows, **asked)

    def predict(self, X: Any) -> np.ndarray | pd.DataFrame:
        """The mean of p(y | x) for each row.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).

        Returns
        -------
        ndarray, shape (n,), or DataFrame
            Means, in the unit of y. With several targets, a frame with a column for each: the mean
            of a number, or the most probable class.
        """
        several = self._several()
        if several is not None:
            return in_kind(predict_all(several, X), kind_of(X))
        return means(self._model(), X)

    def predict_quantiles(self, X: Any, levels: Sequence[float] = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles of p(y | x).

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        levels : sequence of float, shape (Q,), default (0.05, 0.5, 0.95)
            Probabilities between 0 and 1.

        Returns
        -------
        ndarray, shape (n, Q)
            Quantiles, in the unit of y. A number that is recorded in steps, such as whole numbers,
            has quantiles that are such steps; one that is never negative in the rows of the fit has
            none below 0.

        Raises
        ------
        ValueError
            For a level outside [0, 1], or a model of several targets.
        """
        model = self._model()
        return quantiles(model, X, levels)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the variance of y that ``predict`` explains, as of all of scikit-learn's
        regressors; y may be written in words, and spelt, as at the fit."""
        several = self._several()
        words = np.asarray(y).dtype == object
        if several is None and (words or self._model().number.needs_reading):
            labels = self._read_target(y, len(y))
            assert labels.known is not None and labels.values is not None
            y = np.where(labels.known, labels.values, np.nan)
            if labels.limits is not None:
                return self._score_of_known(X, y, sample_weight)
        return float(super().score(X, y, sample_weight))

    def _score_of_known(self, X: Any, y: np.ndarray, sample_weight: Any) -> float:
        """``score`` of the rows whose number is known; a bound judges nothing."""
        known = ~np.isnan(y)
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(r2_score(y[known], np.asarray(self.predict(X))[known], sample_weight=weight))

    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        given: Given = None,
        random_state: Any = None,
        where: Where = (),
        *,
        tails: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        precision: str = "float32",
        even: bool = False,
        guidance: float | None = None,
        steps: int | None = None,
        candidates: int | None = None,
    ) -> tuple[Any, Any]:
        """Draw rows and their numbers from the joint.

        Parameters
        ----------
        n_samples : int, default 1
            Number of rows.
        y : float, tuple of float or array_like, shape (n_samples,), or dict, optional
            The number of all rows; a range (low, high), None for an open end, in which it is
            drawn; or a list of one number for each row. By default it is drawn. Of several
            properties of molecules in space a dict of some of them by their names.
        given, random_state, where, tails, temperature, top_k, top_p, even
            As of ``JointClassifier.sample``. ``tails`` also opens the range of y, which otherwise
            is that of the fit.
        guidance, steps, candidates
            As of ``JointClassifier.sample``.
        precision : str, default "float32"
            As of ``JointClassifier.sample``.

        Returns
        -------
        X : DataFrame or ndarray
            Rows like those of the fit.
        y : ndarray, shape (n_samples,), or DataFrame
            Their numbers. With several targets, a frame of all of them.

        Raises
        ------
        ValueError
            For an unknown column, or constraints that hardly any row keeps.
        """
        how = Sampling(temperature, top_k, top_p, precision)
        walk = Walk(guidance, steps, candidates)
        return self._sampled(n_samples, y, given, random_state, where, tails, how, even, walk)

    def counterfactual(
        self, X: Any, to: Any, keep: Sequence[Any] = (), n: int = 3, random_state: int = 0
    ) -> pd.DataFrame:
        """Small, plausible changes of each row after which the median of y would lie in ``to``.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows.
        to : tuple of float
            The wanted range (low, high), in the unit of y.
        keep : sequence, default ()
            Columns that must not change.
        n : int, default 3
            Number of options for each row, at most.
        random_state : int, default 0
            Seed of the draws.

        Returns
        -------
        DataFrame
            Changed rows, indexed by (row, option), the smallest change first, with the columns
            ``changed``, ``probability`` and ``familiarity``. In the kind of data frame that ``X``
            is; where there is no index, as in polars, "row" and "option" are columns.

        Raises
        ------
        ValueError
            For a ``to`` that is no range, or an unknown column.
        """
        found = counterfactual(self._model(), X, to, keep, n, seed=random_state)
        return in_kind(found, kind_of(X))

    def evaluate(
        self, X: Any, y: Any = None, *, false_alarm: float = 0.05, max_error: Any = 0.05
    ) -> dict[str, Any]:
        """Likelihood, prediction and familiarity on held-out rows.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : array_like, shape (n,), or DataFrame, optional
            Their numbers. With them, the log-loss of the density of y, the CRPS and the errors are
            evaluated too.
        false_alarm : float, default 0.05
            Share of familiar rows that may be called unfamiliar.
        max_error : float, default 0.05
            Share of the intervals that may miss.

        Returns
        -------
        dict
            Figures by name. With several targets, ``targets`` and ``all`` hold such dicts.
        """
        return self._evaluate(X, y, false_alarm, max_error)

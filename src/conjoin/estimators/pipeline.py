"""JointOutlier and JointImputer: a JointDensity as scikit-learn's pipelines know such things, an
outlier detector and a transformer."""

import abc
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, OutlierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from conjoin.estimators.density import JointDensity

__all__ = ["JointImputer", "JointOutlier"]

TIE = 1e-9  # of a statistic, by which rounding may set equal rows apart


class _OverDensity(BaseEstimator, abc.ABC):
    """What both share: a density with the parameters that a pipeline is likely to set, or one that
    is given whole."""

    def __init__(
        self, family: Any = "circuit", *, density: Any = None, random_state: Any = 0
    ) -> None:
        self.family = family
        self.density = density
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit p(x); rows are held out only where they are ranked.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, with missing cells or without; for an outlier detector most are ordinary.
        y : object, optional
            Ignored.
        sample_weight : float or array_like, shape (n,), optional
            Weights of the rows.

        Returns
        -------
        Self
            The fitted estimator.

        Raises
        ------
        ValueError
            For a parameter out of range.
        """
        asked = self._begin_fit()
        own = JointDensity(family=self.family, random_state=self.random_state)
        given = own if self.density is None else JointDensity(**self.density.get_params(deep=False))
        self.density_ = given.fit(X, sample_weight=sample_weight, **asked)
        self.n_features_in_ = self.density_.n_features_in_
        if "feature_names_in_" in vars(self.density_):
            self.feature_names_in_ = self.density_.feature_names_in_
        return self

    @abc.abstractmethod
    def _begin_fit(self) -> dict[str, Any]:
        """Check the parameters, keep what follows from them, and tell how p(x) is fitted.
        ValueError for a parameter out of range."""

    def _fitted(self) -> JointDensity:
        check_is_fitted(self, "density_")
        return self.density_

    @property
    def notices_(self) -> list[str]:
        """What the fit set aside, pooled, parsed or assumed, one sentence each."""
        return self._fitted().notices_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class JointOutlier(OutlierMixin, _OverDensity):
    """An outlier detector: a row is an outlier if its familiarity is at most ``false_alarm``.

    Familiarity is a p-value among rows that were held out of the fit. So of rows like those of the
    fit at most a share of ``false_alarm`` is called an outlier, on the average; ``decide`` of
    ``JointDensity`` says why a row is one.

    Parameters
    ----------
    family : str, Config or type, default "circuit"
        The model of p(x), as of ``JointDensity``.
    false_alarm : float, default 0.05
        Share of ordinary rows that may be called outliers, above 0 and at most 0.5.
    density : JointDensity, optional
        A density with other settings; then ``family`` and ``random_state`` are those of it.
    random_state : int, RandomState or None, default 0
        Seed of the fit.

    Attributes
    ----------
    density_ : JointDensity
        The fitted density.
    offset_ : float
        log of ``false_alarm``: ``decision_function`` is ``score_samples`` less it.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = JointOutlier(family="naive_bayes").fit(X)
    >>> model.predict([[0.1, 0.2], [30.0, -30.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        family: Any = "circuit",
        *,
        false_alarm: float = 0.05,
        density: Any = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(family, density=density, random_state=random_state)
        self.false_alarm = false_alarm

    def _begin_fit(self) -> dict[str, Any]:
        if not 0 < self.false_alarm <= 0.5:
            raise ValueError(
                f"false_alarm must be above 0 and at most 0.5, got {self.false_alarm!r}."
            )
        self.offset_ = float(np.log(self.false_alarm))
        return {}

    def score_samples(self, X: Any) -> np.ndarray:
        """log of the familiarity of each row; the lower, the less ordinary.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows.

        Returns
        -------
        ndarray, shape (n,)
            Logarithms of p-values; beyond the least of the held-out rows they go on falling with
            the statistic of familiarity, so that rows are told apart there too.
        """
        model = self._fitted()._model()
        encoded = model.encode(X)
        statistic = model.statistic(encoded)
        return self._with_tail(np.log(self._familiarity(encoded, statistic)), statistic)

    def _familiarity(self, encoded: Any, statistic: np.ndarray) -> np.ndarray:
        """Ranks among the held-out rows; where nothing was held out, by the model's own draws."""
        model = self._fitted()._model()
        if model.calibration is not None:
            return model.calibrated.p_value(statistic, encoded.filled.numpy())
        reference = np.sort(self._own_statistics())
        # a row that equals a drawn one ties with it, whatever rows stand beside it
        level = statistic + TIE * (1 + np.abs(statistic))
        return (1 + np.searchsorted(reference, level, side="right")) / (len(reference) + 1)

    def _own_statistics(self) -> np.ndarray:
        model = self._fitted()._model()
        return model.statistic(model.encode(model.codec.decoded(model.bank)))

    def _with_tail(self, log_p: np.ndarray, statistic: np.ndarray) -> np.ndarray:
        """Rows that no held-out row is as odd as differ by their statistic, below all others."""
        least = self._least_statistic()
        with np.errstate(invalid="ignore"):
            beyond = np.where(statistic < least, np.arctan(least - statistic) / np.pi, 0.0)
        return log_p - np.nan_to_num(beyond, nan=0.5)

    def _least_statistic(self) -> float:
        calibration = self._fitted()._model().calibration
        own = self._own_statistics() if calibration is None else calibration.statistic
        finite = own[np.isfinite(own)]
        return float(finite.min()) if len(finite) else 0.0

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples`` less ``offset_``: below 0 for outliers.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows.

        Returns
        -------
        ndarray, shape (n,)
            Above 0 for ordinary rows.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Whether each row is ordinary.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows.

        Returns
        -------
        ndarray, shape (n,)
            1 for ordinary rows, -1 for outliers.
        """
        return np.where(self.decision_function(X) > 0, 1, -1)


class JointImputer(OneToOneFeatureMixin, TransformerMixin, _OverDensity):
    """A transformer that fills missing cells with what the known cells of their row suggest.

    Parameters
    ----------
    family : str, Config or type, default "circuit"
        The model of p(x), as of ``JointDensity``.
    strategy : {"mean", "median", "mode"}, default "mean"
        Of numbers, as in ``JointDensity.impute``.
    density : JointDensity, optional
        A density with other settings; then ``family`` and ``random_state`` are those of it.
    random_state : int, RandomState or None, default 0
        Seed of the fit.

    Attributes
    ----------
    density_ : JointDensity
        The fitted density.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> X[0, 1] = np.nan
    >>> bool(np.isnan(JointImputer(family="naive_bayes").fit_transform(X)).any())
    False
    """

    def __init__(
        self,
        family: Any = "circuit",
        *,
        strategy: Literal["mean", "median", "mode"] = "mean",
        density: Any = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(family, density=density, random_state=random_state)
        self.strategy = strategy

    def _begin_fit(self) -> dict[str, Any]:
        return {"calibration": 0.0}  # nothing is ranked, so no row is held out

    def transform(self, X: Any) -> Any:
        """Fill the missing cells.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows.

        Returns
        -------
        DataFrame or ndarray, shape (n, d)
            ``X`` without missing cells; columns that were set aside stay as they are.
        """
        full = self._fitted().impute(X, strategy=self.strategy)
        return np.asarray(full) if isinstance(X, np.ndarray | list) else full

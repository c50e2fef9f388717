"""JointClassifier: p(x, y) with y one of several classes."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from conjoin.codecs.table.native import in_kind, kind_of
from conjoin.core.sampling import Sampling, Walk
from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.questions.counterfactual import counterfactual
from conjoin.questions.edit import MAX_PIXELS_AS_COLUMNS, alter_class
from conjoin.questions.predict import log_proba
from conjoin.questions.several import predict_all, proba_all

__all__ = ["JointClassifier"]


class JointClassifier(ClassifierMixin, _JointEstimator):
    """A classifier that also models p(x).

    It gives class probabilities p(y | x), and it knows how typical a row is. ``X`` is a table, or
    an array of images (n, H, W) or (n, H, W, C) of whole numbers.

    Parameters
    ----------
    predictor : str, estimator, list or None, default "auto"
        The model of p(y | x):

        - "auto": a pool of "linear", "boosting", "extra_trees" and the family's own (of networks
          also "features", of images also "network"), weighted by what each says of rows that it
          has not seen; where most labels are missing, the best of them alone;
        - "linear", "boosting", "extra_trees": one of them alone;
        - "pool": the pool without the family's own;
        - "features": a linear model on the features of the family's network;
        - "network": a small network of its own;
        - "trunk": the network of the family, trained together with p(x);
        - "fragments": of molecules, the pool on counts of fragments and descriptors;
        - "reader": of molecules, the network that writes them, where it learned to read them;
        - None: the family alone;
        - any scikit-learn classifier; a FrozenEstimator or Pipeline gets the columns of ``X`` as
          they are;
        - a list of these, such as ``["auto", RandomForestClassifier()]``: a pool of all of them
          and of the family's own.
    family : str, Config or type, default "circuit"
        The model of p(x): a name, an alias, a config such as ``Circuit(width=32)``, or a Density
        class. "auto" compares all families on held-out rows, within ``max_time``.
    random_state : int, RandomState or None, default 0
        Seed of the fit.
    max_time : float, optional
        Seconds of the whole fit, without a limit by default. Training ends in time for what comes
        after it and keeps its best weights. What is made smaller or left out for want of time is
        among ``notices_``, and so is a fit that could not be made short enough.
    max_kwh : float, optional
        Energy of the training in kilowatt-hours.
    emphasis : float or "auto", default 0.0
        Extra weight of p(y | x) in the loss of families that are trained by the gradient. "auto"
        tries a few values on held-out rows.
    device : str, default "auto"
        "cpu", "cuda", "cuda:1", or "auto": a graphics processor if CUDA finds one, else the CPU.
    precision : str, default "auto"
        Of networks of pictures: "float32", "bfloat16", or "auto", the faster one by a short timing.
    verbose : bool, default False
        Whether the fit shows its progress and, at its end, what ``conjoin fit`` says of a model.
    types : dict, Schema, str or Path, optional
        Types of columns, as in ``conjoin.inspect``; inferred by default. The name of y may be among
        them: {"y": {"merge": {spelling: label}}} reads spellings of a class as one.
    missing : list or dict, default ()
        Values that mean "missing", for every column of X, or {name: [values]}, the name of y
        among them.
    missingness : {"ignorable", "informative"}, default "ignorable"
        "informative" also models whether a cell is missing.
    measure : {"auto", "density"}, default "auto"
        "density" gives every number a density; "auto" gives recorded numbers the probability mass
        of their rounding interval.
    unlabelled : object, optional
        A label that means "not known", such as -1. NaN, None and NA always do.
    spread : bool, default True
        Whether labels are propagated to nearby unlabelled rows, if most rows have no label and this
        predicts held-out labels as well as logistic regression does. Otherwise, and with False,
        unknown labels are summed out.
    start_from : str, Path or fitted estimator, optional
        A model of the same family. The fit keeps its columns and begins with its parameters; of
        molecules it may be a model of others, with other properties or none.
    speed : {"default", "fast"}, default "default"
        "fast" leaves out what costs the most time for what it gains: a circuit of one tree,
        p(y | x) in three folds and without extra trees, no kernels in the familiarity.
        ``notices_`` says what was left out.
    strict : bool, default False
        Whether ``fit`` refuses tables of which a column would be set aside, pooled, parsed or
        taken for something that it may not be. Otherwise each is a ``UserWarning``, kept in
        ``notices_``.

    Examples
    --------
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
        """Fit p(x, y).

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : array_like, shape (n,), or DataFrame
            Classes. NaN, None, NA and ``unlabelled`` mean that a label is not known. A frame of
            several columns, numbers and classes, is fitted as one density over all of them and x,
            by a family that sums out exactly. Its cells may be missing, and a number may be a
            bound, such as ">10", or a pair (low, high).
        sample_weight : float or array_like, shape (n,), optional
            Weights of the rows, at least 0; 1 by default.
        groups : array_like, shape (n,), optional
            Rows of one group stay in the same part of the split.
        calibration : float, default 0.2
            Share of the rows that is held out for the two alarms, 0 to under 0.9.
        time : str or array_like, shape (n,), optional
            A column, or one value per row: the latest rows calibrate.
        checkpoint : str or Path, optional
            A folder to which the state of the fit is written.
        resume : bool, default False
            Whether the fit goes on from the state in ``checkpoint``.

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

    def predict_log_proba(self, X: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Logarithms of the class probabilities.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).

        Returns
        -------
        ndarray, shape (n, K), or dict
            log p(y | x) in nats, in the order of ``classes_``. With several targets, {name: array}
            for each target that is of classes.

        Raises
        ------
        ValueError
            If there are several targets and none is of classes.
        """
        several = self._several()
        if several is not None:
            return proba_all(several, X)
        return log_proba(self._model(), X)

    def predict_proba(self, X: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Class probabilities.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).

        Returns
        -------
        ndarray, shape (n, K), or dict
            p(y | x), in the order of ``classes_``. With several targets, {name: array} for each
            target that is of classes.

        Raises
        ------
        ValueError
            If there are several targets and none is of classes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
        >>> model.predict_proba(X.iloc[:2]).shape
        (2, 3)
        """
        found = self.predict_log_proba(X)
        if isinstance(found, dict):
            return {name: np.exp(each) for name, each in found.items()}
        return np.exp(found)

    def predict(self, X: Any) -> np.ndarray | pd.DataFrame:
        """The most probable class of each row, however unfamiliar the row is.

        ``decide`` takes familiarity into account.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).

        Returns
        -------
        ndarray, shape (n,), or DataFrame
            Classes. With several targets, a frame with a column for each: its most probable class,
            or the mean of a number.
        """
        several = self._several()
        if several is not None:
            return in_kind(predict_all(several, X), kind_of(X))
        found: Any = self.predict_log_proba(X)
        return self.classes_[found.argmax(1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of right answers, as of all of scikit-learn's classifiers; y may be spelt as at
        the fit."""
        several = self._several()
        if several is None and self._model().classes.needs_reading:
            labels = self._read_target(y, len(y))
            assert labels.known is not None and labels.values is not None
            y = labels.values
            counts = 1.0 if sample_weight is None else np.asarray(sample_weight, dtype=float)
            sample_weight = np.where(labels.known, counts, 0.0)
        return float(super().score(X, y, sample_weight))

    def predict_joint_log_proba(self, X: Any) -> np.ndarray:
        """log p(x, y) for each class.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).

        Returns
        -------
        ndarray, shape (n, K)
            Nats, in the units of the raw data, in the order of ``classes_``.

        Raises
        ------
        ValueError
            If the model has several targets.
        """
        rows = self._model().rows(X)
        encoded = self._model().encode(rows)
        joint = self._model().log_joint(encoded, rows)
        return (joint + (encoded.log_unseen + encoded.log_volume)[:, None]).numpy()

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
        """Draw rows and their classes from the joint.

        Parameters
        ----------
        n_samples : int, default 1
            Number of rows.
        y : object or array_like, shape (n_samples,), optional
            The class of all rows, or of each row. By default it is drawn.
        given : dict, optional
            Conditions on columns: {column: value}, {column: (low, high)} with None for an open end,
            or {column: [levels]}.
        random_state : int, RandomState or None, default None
            Seed of the draws. With None every call gives new rows.
        where : str or sequence of str, default ()
            Constraints that every row keeps, such as "start <= end".
        tails : bool, default False
            Whether numbers may leave the range that the rows of the fit had.
        temperature : float, default 1.0
            Of strings, which are drawn token by token: under 1 the most probable tokens come more
            often than by p. What is drawn so, or with ``top_k`` or ``top_p``, is no draw of p.
        top_k : int, optional
            How many of the most probable tokens may come.
        top_p : float, default 1.0
            The mass of the most probable tokens that may come.
        precision : str, default "float32"
            Of strings: "bfloat16" or "int8" draws faster by a network that is rounded, whose p is
            not the model's; ``X.attrs["status"]`` says so of a frame.
        even : bool, default False
            Whether rows are spread evenly: each is a draw of the model, but of n rows about n p
            have what has probability p, closer than by chance. ``X.attrs["status"]`` says so of a
            frame. A y that a predictor adds is drawn for each row by itself. Of family="forest",
            and of all rows, without y, given and where.
        guidance : float, optional
            Of pictures and others that are drawn out of noise, and of pictures in codes: how much
            what they are told, such as a class or a caption, is exaggerated. By default as the
            family's settings say, in which it is 0. Others than 0 give no draws of p;
            ``X.attrs["status"]`` says so of a frame.
        steps : int, optional
            Of the way from noise. By default as the family's settings say.
        candidates : int, optional
            Of pictures that are drawn from a string: how many are drawn for each row, of which one
            is chosen by how probable the string is given it. Above 1 these are no draws of the
            model, and ``attrs["status"]`` says so.

        Returns
        -------
        X : DataFrame or ndarray
            Rows like those of the fit. With ``where``, ``X.attrs["acceptance"]`` is the share of
            drawn rows that kept the constraints.
        y : ndarray, shape (n_samples,), or DataFrame
            Their classes. With several targets, a frame of all of them; to fix one of them, see
            ``for_target``.

        Raises
        ------
        ValueError
            For an unknown class or column, or constraints that hardly any row keeps.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
        >>> rows, labels = model.sample(3, y=1)
        >>> rows.shape, labels.tolist()
        ((3, 4), [1, 1, 1])
        """
        how = Sampling(temperature, top_k, top_p, precision)
        walk = Walk(guidance, steps, candidates)
        return self._sampled(n_samples, y, given, random_state, where, tails, how, even, walk)

    def counterfactual(
        self, X: Any, to: Any = None, keep: Sequence[Any] = (), n: int = 3, random_state: int = 0
    ) -> Any:
        """Small, plausible changes of each row after which the model would answer ``to``.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        to : object, optional
            The wanted class. None stands for the next most probable class of each row.
        keep : sequence, default ()
            Columns that must not change; of tables only.
        n : int, default 3
            Number of options for each row, at most; of tables only.
        random_state : int, default 0
            Seed of the draws.

        Returns
        -------
        DataFrame or Alteration
            Changed rows, indexed by (row, option), the smallest change first, with the columns
            ``changed``, ``probability`` and ``familiarity``; without ``to`` also ``to``, the class
            that was looked for. In the kind of data frame that ``X`` is; where there is no index,
            as in polars, "row" and "option" are columns. Of pictures, an ``Alteration``.

        Raises
        ------
        ValueError
            For an unknown class or column.
        CapabilityError
            If the family can't edit pictures of this size.
        """
        model = self._model()
        if not model.codec.columnwise and (
            model.pair.proposer.capabilities.edits
            or len(model.codec.columns) > MAX_PIXELS_AS_COLUMNS
        ):
            return alter_class(model, X, to, seed=random_state)
        return in_kind(counterfactual(model, X, to, keep, n, seed=random_state), kind_of(X))

    def evaluate(
        self, X: Any, y: Any = None, *, false_alarm: float = 0.05, max_error: Any = 0.05
    ) -> dict[str, Any]:
        """Likelihood, prediction, calibration and both alarms on held-out rows.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : array_like, shape (n,), or DataFrame, optional
            Their classes. Without them, only likelihood and the alarm of familiarity are evaluated.
        false_alarm : float, default 0.05
            Share of familiar rows that may be called unfamiliar.
        max_error : float or dict, default 0.05
            Share of the accepted answers that may be wrong, or {class: share of that class}.

        Returns
        -------
        dict
            Figures by name. With several targets, ``targets`` and ``all`` hold such dicts.
        """
        return self._evaluate(X, y, false_alarm, max_error)

"""Functions about estimators: families beside each other, and models from their folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.estimators.base import AUTO_SECONDS, estimator_of
from conjoin.estimators.classifier import JointClassifier
from conjoin.estimators.density import JointDensity
from conjoin.estimators.regressor import JointRegressor
from conjoin.families import resolve
from conjoin.model.saving import load_model
from conjoin.model.several import SeveralTargets
from conjoin.model.targets import task_for
from conjoin.questions.compare import Comparison

__all__ = ["compare", "estimator_of", "load"]

Estimator = JointClassifier | JointRegressor | JointDensity


def compare(
    X: Any,
    y: Any = None,
    *,
    families: Sequence[Any] | None = None,
    max_time: float = AUTO_SECONDS,
    max_kwh: float | None = None,
    **params: Any,
) -> Comparison:
    """Every family on the same rows, judged on rows that none of them has seen.

    Parameters
    ----------
    X : DataFrame or array_like
        The rows.
    y : array_like, shape (n,), optional
        Classes or numbers; without it densities are compared.
    families : sequence, optional
        Names, configs or classes; without it all that suit the data.
    max_time : float
        Seconds for all fits.
    max_kwh : float, optional
        Energy for all fits.
    **params
        Parameters of the estimators (random_state, types, missing, ...).

    Returns
    -------
    Comparison
        Print ``.frame()``, read ``.pick`` and ``.why``.

    Raises
    ------
    ValueError
        If there are too few rows to judge by, or no family can be fitted to them.
    """
    task = "density" if y is None else "number" if _is_number(y) else "classes"
    return estimator_of(task)(**params)._compare(X, y, families, max_time, max_kwh)


def _is_number(y: Any) -> bool:
    values = np.asarray(y)
    return values.dtype.kind == "f" and not np.array_equal(
        values[~np.isnan(values)], np.rint(values[~np.isnan(values)])
    )


def load(path: str | Path, family: Any = None, device: str = "auto") -> Estimator:
    """The estimator that was saved in a folder.

    Parameters
    ----------
    path : str or Path
        A folder that ``save`` or ``conjoin fit`` wrote.
    family : type, optional
        The Density class, for a family of your own.
    device : str
        Where it answers, wherever it was fitted: "auto", "cpu", "cuda" or "cuda:1".

    Returns
    -------
    JointClassifier, JointRegressor or JointDensity
        It answers as the saved one did.

    Raises
    ------
    ValueError
        If the folder is no model, is damaged or altered, or is newer than this library.
    """
    model = load_model(path, family, device)
    if isinstance(model, SeveralTargets):
        task = "density" if model.columns else "classes" if model.classes else "number"
    else:
        task = task_for(model.target)
    own = resolve(family) if family is not None else model.card["family"]
    estimator = estimator_of(task)(family=own, device=device)
    estimator._take_model(model)
    names = [column.name for column in model.codec.schema.columns]
    estimator.n_features_in_ = len(names)
    if all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    return estimator

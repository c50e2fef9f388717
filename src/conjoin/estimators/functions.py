"""Functions about estimators: families beside each other, and models from their folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.estimators.base import AUTO_SECONDS
from conjoin.estimators.classifier import JointClassifier
from conjoin.estimators.density import JointDensity
from conjoin.estimators.regressor import JointRegressor
from conjoin.families import resolve
from conjoin.model.saving import load_model
from conjoin.model.targets import Classes, Number
from conjoin.questions.compare import Comparison

__all__ = ["compare", "load"]


def compare(
    X: Any,
    y: Any = None,
    *,
    families: Sequence[Any] | None = None,
    max_time: float = AUTO_SECONDS,
    max_kwh: float | None = None,
    **params: Any,
) -> Comparison:
    """Every family on the same rows, judged on rows that none of them has seen: print ``.frame()``,
    read ``.pick`` and ``.why``.

    ``y`` is None for densities; classes or numbers else. ``params``: as of the estimators
    (random_state, types, missing, ...)."""
    kinds = {"classes": JointClassifier, "number": JointRegressor}
    kind = JointDensity if y is None else kinds["number" if _is_number(y) else "classes"]
    return kind(**params)._compare(X, y, families, max_time, max_kwh)


def _is_number(y: Any) -> bool:
    values = np.asarray(y)
    return values.dtype.kind == "f" and not np.array_equal(
        values[~np.isnan(values)], np.rint(values[~np.isnan(values)])
    )


def load(path: str | Path, family: Any = None) -> JointClassifier | JointRegressor | JointDensity:
    """The estimator saved in the folder ``path``. ``family``: the Density class, for a family of
    your own."""
    model = load_model(path, family)
    kinds = {Classes: JointClassifier, Number: JointRegressor, type(None): JointDensity}
    estimator = kinds[type(model.target)](
        family=resolve(family) if family is not None else model.facts["family"]
    )
    estimator.model_ = model
    estimator.n_features_in_ = len(model.codec.schema.columns)
    names = [column.name for column in model.codec.schema.columns]
    if all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    if isinstance(model.target, Classes):
        estimator.classes_ = model.target.labels
    return estimator

"""p(y | x): one line per predictor, by the name that ``predictor=`` takes.

Each names a ``Method`` (see ``conjoin.predictors.base``): how it is learned, when "auto" tries it,
and the scorers that it leaves in a saved model. Nothing is imported until it is used."""

import importlib
from typing import Any

__all__ = ["PREDICTORS", "choices", "method", "methods", "scorer_class"]

PREDICTORS: dict[str, str] = {
    "linear": "conjoin.predictors.linear:LinearMethod",
    "boosting": "conjoin.predictors.trees:BoostingMethod",
    "extra_trees": "conjoin.predictors.forest:ExtraTreesMethod",
    "network": "conjoin.predictors.network:NetworkMethod",
    "features": "conjoin.predictors.features:FeaturesMethod",
    "trunk": "conjoin.predictors.features:SharedMethod",
    "fragments": "conjoin.predictors.fragments:FragmentsMethod",
    "text_bayes": "conjoin.predictors.texts:TextBayesMethod",
    "text_logistic": "conjoin.predictors.texts:TextLogisticMethod",
    "reader": "conjoin.predictors.reader:ReaderMethod",
    "geometry": "conjoin.predictors.geometry:GeometryMethod",
    "pool": "conjoin.predictors.pool:PoolMethod",
}


def choices() -> tuple[str | None, ...]:
    """What ``predictor=`` takes beside an estimator: None is the family's own p(y | x)."""
    return ("auto", *PREDICTORS, None)


def method(name: str) -> Any:
    """The ``Method`` of that name. ValueError with the choices for an unknown one."""
    if name not in PREDICTORS:
        listed = ", ".join(map(str, choices()))
        raise ValueError(f"predictor must be {listed} or a scikit-learn estimator, got {name!r}.")
    module, _, attribute = PREDICTORS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()


def methods() -> dict[str, Any]:
    """Every method, by its name."""
    return {name: method(name) for name in PREDICTORS}


def scorer_class(kind: str) -> Any:
    """The scorer that is saved under the word ``kind``. KeyError for one that none leaves."""
    found = {scorer.kind: scorer for each in methods().values() for scorer in each.scorers}
    return found[kind]

"""scikit-learn's own checks of one estimator and family, as JSON lines: run without the shape
checks, which cost ten times as much.

    python tests/sklearn_checks.py JointClassifier circuit

They look at shapes, types and habits, so a family is fitted briefly: see TINY. What "auto" does
about p(y | x) is the same for every family, so those that answer quickly and well by their own do.
"""

import dataclasses
import json
import sys
import warnings

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_estimator

import conjoin
from conjoin.families import resolve

TINY = {
    "steps": 30,
    "draws": 8,
    "width": 16,
    "blocks": 1,
    "layers": 2,
    "trees": 2,
    "particles": 16,
    "calls": 8,
    "samples": 2,
    "quadrature": 64,
}
OWN_PREDICTOR = (
    "circuit",
    "linear_discriminant",
    "quadratic_discriminant",
    "factor_analysis",
    "markov_field",
)


def tiny(family: str) -> object:
    config = resolve(family)
    return dataclasses.replace(
        config, **{name: value for name, value in TINY.items() if hasattr(config, name)}
    )


def estimator(kind: str, family: str) -> BaseEstimator:
    made: BaseEstimator = getattr(conjoin, kind)(family=tiny(family))
    if "predictor" in made.get_params() and family in OWN_PREDICTOR:
        made.set_params(predictor=None)
    return made


def main(kind: str, family: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for result in check_estimator(estimator(kind, family), on_fail=None):
        print(
            json.dumps(
                {
                    "check": result["check_name"],
                    "status": result["status"],
                    "error": str(result["exception"] or ""),
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

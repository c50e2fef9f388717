"""Which predictors are weighed beside p(x): all that are quick, on rows that they have not seen."""

import numpy as np
import pandas as pd
import pytest

from conjoin import JointClassifier


def table(rows, seed=0):
    """A smooth rule: boosting on few rows can only overfit it; one rare class has two rows."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(rows, 6)), columns=list("abcdef"))
    y = np.where(X.sum(axis=1) + rng.logistic(size=rows) > 0, "high", "low").astype(object)
    y[:2] = "rare"
    return X, y


ALL = {"family", "linear", "boosting", "extra_trees", "pool"}


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_trust_the_steadier_predictor_most(seed):
    told = JointClassifier(family="naive_bayes").fit(*table(300, seed)).model_.facts["predictor"]
    assert set(told["log_loss"]) == ALL
    assert told["weights"]["linear"] == max(told["weights"].values())


def test_many_rows_weigh_all():
    told = JointClassifier(family="naive_bayes").fit(*table(2500)).model_.facts["predictor"]
    assert set(told["log_loss"]) == ALL
    assert told["weights"]["linear"] == max(told["weights"].values())


def test_numbers_are_weighed_as_well():
    from conjoin import JointRegressor

    X, _ = table(300)
    model = (
        JointRegressor(family="mixture")
        .fit(X, X["a"] * 2 + np.random.default_rng(1).normal(size=300))
        .model_
    )
    told = model.facts["predictor"]
    assert set(told["log_loss"]) == {"family", "pool", "leaves of extra_trees", "mixture"}
    assert told["weights"]["linear"] == max(told["weights"].values())

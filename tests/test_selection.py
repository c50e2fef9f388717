"""Which predictor goes with p(x): few rows must not choose by chance."""

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


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_compare_the_steadier_predictor_alone(seed):
    model = JointClassifier(family="naive_bayes").fit(*table(300, seed)).model_
    assert set(model.facts["predictor"]["log_loss"]) == {"family", "linear"}


def test_many_rows_compare_all():
    model = JointClassifier(family="naive_bayes").fit(*table(2500)).model_
    assert set(model.facts["predictor"]["log_loss"]) == {"family", "linear", "boosting"}


def test_numbers_are_compared_as_well():
    from conjoin import JointRegressor

    X, _ = table(300)
    model = (
        JointRegressor(family="mixture")
        .fit(X, X["a"] * 2 + np.random.default_rng(1).normal(size=300))
        .model_
    )
    assert set(model.facts["predictor"]["log_loss"]) == {"family", "linear"}

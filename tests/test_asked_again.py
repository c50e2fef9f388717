"""Draws without a seed, and counterfactuals: what is asked for by default."""

import numpy as np
import pandas as pd
import pytest

import conjoin


def table(rows=500):
    rng = np.random.default_rng(0)
    a = rng.normal(size=rows)
    return pd.DataFrame({"a": a, "b": a + rng.normal(size=rows)})


@pytest.fixture(scope="module")
def three():
    X = table()
    y = np.select([X["a"] < -0.5, X["a"] > 0.5], ["low", "high"], "mid")
    return conjoin.JointClassifier(family="quadratic_discriminant", predictor=None).fit(X, y), X


def test_draws_without_a_seed_are_new_each_time(three):
    model, X = three
    for each in (
        model,
        conjoin.JointDensity(family="naive_bayes").fit(X),
        conjoin.JointRegressor(family="naive_bayes", predictor=None).fit(X[["a"]], X["b"]),
    ):
        first, second = (each.sample(20)[0] for _ in range(2))
        assert not first.equals(second)
        again = [each.sample(20, random_state=5)[0] for _ in range(2)]
        assert again[0].equals(again[1])


def test_without_a_wish_the_runner_up_is_looked_for(three):
    model, X = three
    rows = X.iloc[:6]
    proba = model.predict_proba(rows)
    second = model.classes_[np.argsort(-proba, 1)[:, 1]]
    found = model.counterfactual(rows, n=1)
    assert found["to"].tolist() == second.tolist()
    changed = found[found["probability"].notna()]
    assert len(changed) >= 4
    assert (model.predict(changed[["a", "b"]].astype(float)) == changed["to"]).all()
    assert "to" not in model.counterfactual(rows, to="high")
    number = conjoin.JointRegressor(family="naive_bayes", predictor=None).fit(X[["a"]], X["b"])
    with pytest.raises(ValueError, match="only a class has a runner-up"):
        number.counterfactual(X[["a"]], to=None)


def test_no_change_is_listed_that_rounds_to_nothing():
    """c hardly varies: drawn anew, it reads as before."""
    X = table()
    X["c"] = 1000.0 + 1e-4 * np.random.default_rng(1).normal(size=len(X))
    y = np.where(X["a"] + X["b"] > 0, "yes", "no")
    model = conjoin.JointClassifier(family="quadratic_discriminant", predictor=None).fit(X, y)
    found = model.counterfactual(X.iloc[:8], n=3)
    words = [change for text in found["changed"] for change in text.split("; ") if "->" in change]
    assert words
    for change in words:
        old, new = change.split(" ", 1)[1].split(" -> ")
        assert old != new, change
    kept = (
        found["c"].astype(float) == X["c"].reindex(found.index.get_level_values("row")).to_numpy()
    )
    assert kept.all()

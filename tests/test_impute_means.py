"""Single imputation: the conditional mean of numbers, the median or the mode on request."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.core import Event
from conjoin.questions.conditionals import are_resolved, conditional_centres


def normals(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=rows)
    return pd.DataFrame({"a": a, "b": 2 * a + rng.normal(size=rows), "c": rng.normal(size=rows)})


def holes(X, share=0.3, seed=1):
    rng = np.random.default_rng(seed)
    hidden = rng.random(X.shape) < share
    hidden[hidden.all(1), 0] = False
    return X.mask(hidden), hidden


def test_means_over_grids_are_those_of_a_dense_integral():
    X = normals()
    model = conjoin.JointDensity(family="factor_analysis", measure="density").fit(X)
    gaps, hidden = holes(X.iloc[:60])
    assert model.status_["impute"] == "exact"
    filled = model.impute(gaps)
    assert filled.where(~hidden).equals(gaps.where(~hidden))
    dense = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    x = model.model_.encode(gaps).event
    cells = [(int(row), int(d)) for row, d in zip(*np.nonzero(hidden), strict=True)]
    found = conditional_centres(model.model_, x, cells)
    for (row, d), mean in zip(cells, found, strict=True):
        value = x.value[[row]].repeat(4001, 1)
        value[:, d] = dense
        known = x.mask[[row]].repeat(4001, 1)
        known[:, d] = True
        mass = model.model_.log_evidence(Event(value, known)).softmax(0)
        assert mean == pytest.approx(float(mass @ dense), abs=0.005)
    # b = 2 a + noise: to half of a deviation at its ends, more exactly in its midst
    alone = [row for row in range(60) if hidden[row].tolist() == [False, True, False]]
    wanted = 2 * gaps["a"].iloc[alone]
    assert filled["b"].iloc[alone].to_numpy() == pytest.approx(wanted.to_numpy(), abs=0.5)


def test_the_mean_is_nearer_than_the_mode_where_the_two_differ():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"wait": rng.exponential(size=1500).round(3), "k": rng.integers(0, 2, 1500)})
    X["k"] = X["k"].map({0: "u", 1: "v"})
    model = conjoin.JointDensity(family=conjoin.Mixture(components=4)).fit(X)
    gaps = X.iloc[:400].assign(wait=np.nan)
    mean, mode = (model.impute(gaps, strategy=each)["wait"] for each in ("mean", "mode"))
    true = X["wait"].iloc[:400]
    assert ((mean - true) ** 2).mean() < 0.9 * ((mode - true) ** 2).mean()
    copies = pd.concat([gaps.iloc[:5]] * 100, ignore_index=True)
    draws = np.mean([each["wait"] for each in model.impute(copies, n_draws=20)], axis=0)
    assert mean.iloc[:5].to_numpy() == pytest.approx(draws.reshape(100, 5).mean(0), abs=0.1)


def test_the_mean_given_a_class_is_that_of_the_class():
    X = normals()
    y = np.where(X["a"] > 0, "plus", "minus")
    model = conjoin.JointClassifier(family="quadratic_discriminant", predictor=None).fit(X, y)
    gaps = X.iloc[:1].assign(a=np.nan, b=np.nan, c=np.nan)
    up = model.impute(gaps, y="plus")["a"].item()
    down = model.impute(gaps, y="minus")["a"].item()
    assert up == pytest.approx(X["a"][X["a"] > 0].mean(), abs=0.1)
    assert down == pytest.approx(X["a"][X["a"] < 0].mean(), abs=0.1)


def test_a_filled_row_does_not_depend_on_its_neighbours():
    X = normals()
    model = conjoin.JointDensity(family=conjoin.Mixture(components=3)).fit(X)
    gaps, _ = holes(X.iloc[:40])
    whole = model.impute(gaps)
    assert model.impute(gaps.iloc[7:9]).to_numpy() == pytest.approx(whole.iloc[7:9].to_numpy())


class Spiked:
    """Stands for a model of one number: half of its mass at the spike 1, half about 0."""

    bank = Event(
        torch.cat([torch.ones(128), torch.linspace(-2, 2, 128)])[:, None].to(torch.float64)
    )

    def __init__(self, width):
        self.codec = self
        self.width = width
        fitted = conjoin.JointDensity(family="naive_bayes", measure="density").fit(
            pd.DataFrame({"a": np.random.default_rng(0).normal(size=80)})
        )
        self.space = fitted.model_.codec.space

    def log_evidence(self, x):
        spike = torch.distributions.Normal(1.0, self.width).log_prob(x.value[:, 0])
        flat = torch.where(x.value[:, 0].abs() <= 2, np.log(0.25), -torch.inf)
        return torch.logaddexp(spike, flat) - np.log(2)


def test_a_spike_that_no_grid_resolves_is_weighed_by_the_marginal():
    model = Spiked(1e-7)
    assert not are_resolved(model, [0])
    x = Event(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.bool))
    assert conditional_centres(model, x, [(0, 0)])[0] == pytest.approx(0.5, abs=0.05)


def test_medians_are_those_of_draws():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"wait": rng.exponential(size=1500).round(3), "n": rng.poisson(4, 1500)})
    for family in ("mixture", "forest"):
        model = conjoin.JointDensity(family=family, random_state=0).fit(X)
        gaps = pd.DataFrame({"wait": [np.nan, 0.5], "n": [3.0, np.nan]})
        median = model.impute(gaps, strategy="median")
        draws = model.impute(gaps, n_draws=400)
        wait = np.median([each["wait"].iloc[0] for each in draws])
        count = np.median([each["n"].iloc[1] for each in draws])
        assert median["wait"].iloc[0] == pytest.approx(wait, abs=0.15)
        assert abs(median["n"].iloc[1] - count) <= 1
        assert median["wait"].iloc[0] < model.impute(gaps)["wait"].iloc[0]  # long waits


def test_another_strategy_is_told_the_choices():
    X = normals(60)
    model = conjoin.JointDensity(family="naive_bayes").fit(X)
    with pytest.raises(ValueError, match="strategy must be one of mean, median, mode, got 'max'"):
        model.impute(X, strategy="max")

"""start_from: a fit of a table that begins where another model is."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.families.flow.coupling import Flow
from conjoin.training.loop import _Run


def rows(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return pd.DataFrame(
        {
            "a": rng.normal(2 * y + shift, 1),
            "b": rng.normal(y, 1),
            "k": np.where(rng.random(n) < 0.4, "u", "v"),
        }
    ), y


@pytest.fixture(scope="module")
def circuit():
    return JointClassifier(None, "circuit").fit(*rows(400))


@pytest.mark.parametrize("family", ["circuit", "naive_bayes", Flow(steps=30)])
def test_a_fit_without_time_is_the_model_that_it_began_from(family, tmp_path):
    X, y = rows(300)
    first = JointClassifier(None, family).fit(X, y)
    again = JointClassifier(
        None,
        "flow" if family == Flow(steps=30) else family,
        max_time=0,
        start_from=first.save(tmp_path / "m"),
    )
    again.fit(X, y)
    assert np.abs(again.score_samples(X) - first.score_samples(X)).mean() < 0.05
    assert again.model_.joint.config == first.model_.joint.config
    assert again.model_.codec.space == first.model_.codec.space
    assert '"start_from"' not in (again.save(tmp_path / "n") / "config.json").read_text(
        encoding="utf-8"
    )


def test_it_learns_what_is_new(circuit):
    X, y = rows(400, seed=2, shift=1.0)
    on = JointClassifier(None, "circuit", start_from=circuit).fit(X, y)
    assert on.score_samples(X).mean() > circuit.score_samples(X).mean() + 0.1
    assert on.model_.facts["started_from"]["rows"] == circuit.model_.facts["rows"]


def test_a_number_keeps_its_units_and_a_file_is_read(tmp_path):
    X, _ = rows(300)
    first = JointRegressor(None, "naive_bayes").fit(X[["a", "k"]], X["b"])
    later = rows(300, seed=3)[0]
    later.to_csv(tmp_path / "t.csv", index=False)
    on = JointRegressor(None, "naive_bayes", start_from=first).fit(later[["a", "k"]], later["b"])
    assert (on.model_.number.shift, on.model_.number.scale) == (
        first.model_.number.shift,
        first.model_.number.scale,
    )
    density = JointDensity(family="mixture").fit(X)
    assert (
        JointDensity(family="mixture", start_from=density).fit_file(tmp_path / "t.csv").score(X)
        > density.score(X) - 0.3
    )


def test_a_clone_keeps_the_fitted_model(circuit):
    copied = clone(JointClassifier(None, "circuit", start_from=circuit))
    assert copied.start_from is circuit and copied.get_params()["start_from"] is circuit


def test_an_interrupted_fit_resumes_with_the_same_bits(tmp_path, monkeypatch):
    X, y = rows(200)
    first = JointClassifier(None, Flow(steps=20)).fit(X, y)
    options = {"predictor": None, "family": Flow(steps=40), "start_from": first}
    whole = JointClassifier(**options).fit(X, y)
    step = _Run.step
    left = [15]

    def broken(run, bar):
        left[0] -= 1
        if left[0] < 0:
            run.save()
            raise OSError("the power is gone")
        step(run, bar)

    monkeypatch.setattr(_Run, "step", broken)
    with pytest.raises(OSError, match="power"):
        JointClassifier(**options).fit(X, y, checkpoint=tmp_path)
    monkeypatch.undo()
    resumed = JointClassifier(**options).fit(X, y, checkpoint=tmp_path, resume=True)
    assert np.array_equal(resumed.score_samples(X), whole.score_samples(X))


def test_what_differs_is_said(circuit):
    X, y = rows(60)
    density = JointDensity(family="circuit").fit(X)
    sweeps = JointDensity(family="dirichlet_process", max_time=0).fit(X)
    level = X.assign(k=["w", *X["k"][1:]])
    for model, asked, words in (
        (
            JointClassifier(None, "circuit", start_from=circuit),
            (X, np.where(y, "x", "z")),
            "has the labels 0, 1, and this fit",
        ),
        (
            JointClassifier(None, "circuit", start_from=density),
            (X, y),
            "has no target, and this fit has the labels 0, 1",
        ),
        (
            JointClassifier(None, "mixture", start_from=circuit),
            (X, y),
            "is of the family 'circuit', and this fit asks for 'mixture'",
        ),
        (JointClassifier(None, "auto", start_from=circuit), (X, y), "compares families"),
        (
            JointClassifier(None, "circuit", start_from=circuit),
            (X[["a"]], y),
            "start_from has the column 'b'",
        ),
        (
            JointClassifier(None, "circuit", start_from=circuit),
            (X.assign(c=1), y),
            "X has the column 'c'",
        ),
        (
            JointClassifier(None, "circuit", start_from=circuit),
            (level, y),
            "'k' has the value 'w', which start_from does not know",
        ),
        (
            JointClassifier(None, "circuit", start_from=circuit, missing=[0]),
            (X, y),
            "missing=.0. can't be set",
        ),
        (JointDensity(family="dirichlet_process", start_from=sweeps), (X,), "Gibbs"),
        (JointClassifier(None, "circuit", start_from="nowhere"), (X, y), "does not exist"),
        (
            JointClassifier(None, "circuit", start_from=circuit),
            (np.zeros((60, 4, 4), "uint8"), y),
            "X holds images",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            model.fit(*asked)
    with pytest.raises(TypeError, match="folder of a saved model"):
        JointClassifier(start_from=conjoin.JointDensity()).fit(X, y)


def test_sizes_that_are_not_the_models_are_refused(circuit):
    trees = len(circuit.model_.joint.density.parents)
    with pytest.raises(
        ValueError, match=f"start_from has trees={trees}, and this fit asks for trees={trees + 1}"
    ):
        JointClassifier(None, conjoin.Circuit(trees=trees + 1), start_from=circuit).fit(*rows(100))


@pytest.mark.parametrize("trees", [0, -2])
def test_a_circuit_of_no_trees_is_refused(trees):
    with pytest.raises(
        ValueError, match=f"trees must be a whole number of at least 1, or None, got {trees}"
    ):
        JointClassifier(None, conjoin.Circuit(trees=trees)).fit(*rows(100))

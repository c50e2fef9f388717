"""A joint whose classes have new shares, against the formulas; the shares themselves against
planted ones; and what is promised.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.calibration.conformal import Calibration
from conjoin.core import Pair, Status, stream
from conjoin.families import resolve
from conjoin.joints.reweighted import Reweighted, log_shares
from conjoin.questions.label_shift import _thinned, adapt, new_shares, standard_errors
from conjoin.testing.conformance import CHECKS, NotApplicable
from conjoin.testing.subjects import Flat, Subject, subject

CHECKED = (
    "normalisation", "samples", "missing_cells", "conditionals", "modes", "regions", "log_joint",
    "log_evidence", "labels_of_draws", "batches", "seeds", "inputs_unchanged",
)  # fmt: skip


def rows(n, share, seed, slope=1.2):
    """Two classes, of which the second has ``share``."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    table = {
        "a": rng.normal(slope * y, 1),
        "b": rng.normal(0.8 * y, 1),
        "c": np.where(rng.random(n) < 0.3 + 0.3 * y, "u", "v"),
    }
    return pd.DataFrame(table), np.where(y == 1, "ill", "well")


@pytest.fixture(scope="module")
def model():
    return JointClassifier(family="naive_bayes", predictor=None).fit(*rows(2000, 0.3, 0))


@pytest.fixture(scope="module")
def adapted(model):
    return model.adapt(rows(2000, 0.8, 1)[0])


# ---------------------------------------------------------------------------------------- the joint


@torch.enable_grad()
def tiny_joint(family, name):
    """The briefly fitted joint of the conformance suite."""
    config = resolve(family)
    wide = {"width": 2} if family == "circuit" else {}  # components that sums over a grid see
    return subject(config.set_params(**wide), name)


@pytest.mark.parametrize("family", ["circuit", "naive_bayes"])
def test_a_reweighted_joint_is_a_density_like_any_other(family):
    found = tiny_joint(family, "joint mixed")
    joint = Reweighted.of(
        found.joint, torch.linspace(-1, 1, found.joint.target.cardinality, dtype=torch.float64)
    )
    for name in CHECKED:
        try:
            CHECKS[name](Subject("reweighted", found.tiny, Flat(joint), found.event))
        except NotApplicable as reason:
            pytest.fail(f"{name}: {reason}")


@torch.no_grad()
def test_every_answer_follows_the_weights():
    found = tiny_joint("circuit", "joint mixed")
    base = found.joint
    x = Flat.pair(found.event).x
    weight = torch.linspace(-1, 1, base.target.cardinality, dtype=torch.float64)
    joint = Reweighted.of(base, weight)
    shares = (log_shares(base) + joint.log_weight).exp()
    assert float(shares.sum()) == pytest.approx(1)
    assert torch.allclose(joint.log_joint(x), base.log_joint(x) + joint.log_weight)
    assert torch.allclose(joint.log_joint(x).softmax(1), (base.log_joint(x) + weight).softmax(1))
    gain = (base.log_joint(x).softmax(1) * joint.log_weight.exp()).sum(1).log()
    assert torch.allclose(joint.log_evidence(x), base.log_evidence(x) + gain)
    drawn = joint.sample(20_000, generator=stream(0)).y.value.long().bincount() / 20_000
    assert torch.allclose(drawn.double(), shares, atol=0.015)


@torch.no_grad()
def test_weights_multiply_and_undo_each_other():
    base = tiny_joint("naive_bayes", "joint mixed").joint
    weight = torch.linspace(-1, 1, base.target.cardinality, dtype=torch.float64)
    back = Reweighted.of(Reweighted.of(base, weight), -weight)
    assert back.base is base
    assert torch.allclose(back.log_weight, torch.zeros_like(weight), atol=1e-9)


@torch.no_grad()
def test_beside_a_predictor_the_weights_are_normalised_by_draws():
    found = tiny_joint("circuit", "hybrid mixed")
    joint = Reweighted.of(
        found.joint, torch.linspace(-1, 1, found.joint.target.cardinality, dtype=torch.float64)
    )
    assert joint.status["log_prob"] is Status.APPROXIMATE
    drawn = joint.sample(20_000, generator=stream(1)).y.value.long().bincount() / 20_000
    assert torch.allclose(
        drawn.double(), (log_shares(found.joint) + joint.log_weight).exp(), atol=0.03
    )
    one = Flat.pair(found.event).x.take(torch.zeros(500, dtype=torch.long)).hide(torch.tensor(True))
    some = (
        joint.sample_conditional(Pair(joint.unknown(500), one), generator=stream(2))
        .y.value.long()
        .bincount()
        / 500
    )
    assert torch.allclose(some.double(), drawn.double(), atol=0.08)


# --------------------------------------------------------------------------------------- the shares


def test_planted_shares_are_found_within_their_standard_errors():
    old = np.array([0.5, 0.3, 0.2])
    planted = np.array([0.2, 0.2, 0.6])
    centres = np.array([0.0, 1.5, 3.0])
    gaps = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(centres[rng.choice(3, 800, p=planted)], 1)
        joint = old * np.exp(-0.5 * (x[:, None] - centres) ** 2)
        proba = joint / joint.sum(1, keepdims=True)
        found = new_shares(proba, old)
        gaps.append((found - planted) / standard_errors(proba, old, found))
    gaps = np.array(gaps)
    assert np.abs(gaps.mean(0)).max() < 0.5
    assert 0.75 < gaps.std(0).mean() < 1.25


def test_the_adapted_model_is_as_good_as_one_that_is_told(model, adapted):
    X, y = rows(2000, 0.8, 2)
    told = model.predict_log_proba(X) + np.log(np.array([0.8, 0.2]) / np.array(adapted.change_.old))
    told -= np.logaddexp.reduce(told, axis=1, keepdims=True)
    ill = y == "ill"

    def loss(log_proba):
        return -np.where(ill, log_proba[:, 0], log_proba[:, 1]).mean()

    assert (
        abs(dict(zip(adapted.change_.labels, adapted.change_.new, strict=True))["ill"] - 0.8) < 0.06
    )
    assert loss(adapted.predict_log_proba(X)) < 1.02 * loss(told)
    assert loss(adapted.predict_log_proba(X)) < 0.8 * loss(model.predict_log_proba(X))
    assert adapted.score(X, y) > model.score(X, y) + 0.05


def test_likelihood_ratio_tells_change_from_none(model):
    changes = [adapt(model.model_, rows(400, 0.3, seed)[0])[1] for seed in range(40, 80)]
    assert np.mean([change.p_value <= 0.05 for change in changes]) <= 0.12
    assert "may be the old ones" in changes[0].words()[0]
    assert adapt(model.model_, rows(1500, 0.7, 7)[0])[1].p_value < 1e-4


def test_more_than_the_shares_is_noticed(model):
    change = model.adapt(rows(1000, 0.5, 3, slope=6)[0]).change_
    assert any("More than the shares has changed" in text for text in change.words())
    assert not any(
        "More than" in text for text in model.adapt(rows(1000, 0.5, 4)[0]).change_.words()
    )


# ------------------------------------------------------------------------------------ the estimator


def test_answers_are_coherent_and_the_old_model_is_untouched(model, adapted):
    X, y = rows(300, 0.8, 5)
    before = model.predict_proba(X)
    joint = adapted.predict_joint_log_proba(X)
    assert np.allclose(np.logaddexp.reduce(joint, axis=1), adapted.score_samples(X))
    assert np.allclose(np.exp(joint - adapted.score_samples(X)[:, None]), adapted.predict_proba(X))
    assert np.array_equal(model.predict_proba(X), before)
    assert (adapted.sample(1000, random_state=0)[1] == "ill").mean() == pytest.approx(0.8, abs=0.07)
    assert (
        adapted.evaluate(X, y, max_error=0.2)["log_loss"]
        < model.evaluate(X, y, max_error=0.2)["log_loss"]
    )


def test_promises_hold_in_the_new_place(adapted):
    X, y = rows(4000, 0.8, 6)
    verdicts = adapted.decide(X, max_error=0.15)
    accepted = (verdicts["verdict"] == "accept").to_numpy()
    assert (verdicts["verdict"] == "unfamiliar").mean() < 0.08
    assert accepted.mean() > 0.3
    assert (verdicts["best_guess"].to_numpy() != y)[accepted].mean() <= 0.16


def test_calibration_rows_are_kept_by_their_weight():
    label = np.repeat([0, 1, -1], [4000, 4000, 100])
    log_proba = np.log(np.tile([0.6, 0.4], (8100, 1)))
    before = Calibration(
        np.zeros(8100), np.zeros(8100, dtype=int), label, np.full(8100, 0.6), log_proba
    )
    after = _thinned(before, np.array([0.5, 2.0]), 0)
    assert np.bincount(after.label) == pytest.approx([1000, 4000], abs=100)
    assert (after.guess == 1).all()
    assert after.confidence == pytest.approx(0.8 / 1.1)
    assert _thinned(Calibration(np.zeros(9)), np.ones(2), 0) is None


def test_save_and_load(adapted, tmp_path):
    X, _ = rows(50, 0.5, 8)
    again = conjoin.load(adapted.save(tmp_path / "m"))
    assert np.array_equal(again.predict_joint_log_proba(X), adapted.predict_joint_log_proba(X))
    assert again.decide(X, max_error=0.2).equals(adapted.decide(X, max_error=0.2))
    assert str(again.change_) == str(adapted.change_)
    assert "adapted to new shares" in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")


def test_a_new_density_of_the_new_place(model, tmp_path):
    X, y = rows(1500, 0.8, 9)
    X = X.assign(a=X["a"] + 0.7 * X["b"])
    both = model.adapt(X, density=True)
    shares = model.adapt(X)
    assert both.score_samples(X).mean() > shares.score_samples(X).mean() + 0.05
    assert np.allclose(both.predict_proba(X), shares.predict_proba(X))
    assert "call calibrate(X, y)" in both.change_.promise
    with pytest.raises(ValueError, match="there are 0"):
        both.decide(X)
    assert both.calibrate(X, y).decide(X, max_error=0.2)["verdict"].eq("accept").any()
    again = conjoin.load(both.save(tmp_path / "m"))
    assert np.array_equal(again.predict_joint_log_proba(X), both.predict_joint_log_proba(X))


def test_a_frozen_classifier_of_ones_own_follows(tmp_path):
    X, y = rows(1200, 0.3, 10)
    forest = RandomForestClassifier(n_estimators=20, min_samples_leaf=20, random_state=0).fit(
        X[["a", "b"]][:500], y[:500]
    )
    model = JointClassifier(predictor=FrozenEstimator(forest), family="naive_bayes").fit(
        X[["a", "b"]][500:], y[500:]
    )
    X, y = rows(800, 0.8, 11)
    adapted = model.adapt(X[["a", "b"]])
    weight = np.array(adapted.change_.new) / np.array(adapted.change_.old)
    expected = forest.predict_proba(X[["a", "b"]]) * weight
    assert np.allclose(
        adapted.predict_proba(X[["a", "b"]]), expected / expected.sum(1, keepdims=True), atol=1e-6
    )


def test_what_can_not_be_adapted():
    X, _ = rows(60, 0.5, 12)
    with pytest.raises(ValueError, match="has no target"):
        JointDensity(family="naive_bayes").fit(X).adapt(X)
    with pytest.raises(ValueError, match="predicts a number"):
        JointRegressor(family="naive_bayes", predictor=None).fit(X, np.arange(60.0)).adapt(X)
    model = JointClassifier(family="naive_bayes", predictor=None).fit(*rows(60, 0.5, 12))
    with pytest.raises(AttributeError, match="was not adapted"):
        _ = model.change_
    assert model.adapt(X).model_.calibration is None

"""From a config to a joint: the weight on p(y | x), a trunk that learns both, unlabelled rows, comparing families."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

import conjoin
from conjoin import JointClassifier, JointDensity, comparing
from conjoin.core import Event, Pair, Space, Variable, stream
from conjoin.families import resolve
from conjoin.joint import ClassConditional, Independent, Monolithic, build_joint

CLASSES = Space((), (Variable("label", "category", cardinality=3),))
REAL = Space((2,), (Variable("a", "real"), Variable("b", "real")))


def iris():
    return load_iris(return_X_y=True, as_frame=True)


def quick(name, **settings):
    return resolve(name).set_params(steps=30, **settings)


def rows(n=60):
    label = torch.arange(n) % 3
    x = label[:, None] + torch.randn(n, 2, generator=stream(0), dtype=torch.float64)
    known = torch.arange(n) % 4 > 0
    return Pair(Event(label.double() * known, known), Event(x))


@pytest.mark.parametrize("kind", [ClassConditional, Monolithic])
def test_emphasis_adds_the_log_loss_of_labelled_rows(kind):
    """-log p(x, y) - e log p(y | x), and nothing for rows without a label."""
    pair = rows()
    config = quick("flow")
    if kind is ClassConditional:
        joint = build_joint(config, CLASSES, REAL, pair, stream(0))
    else:
        space = Space((3,), CLASSES.variables + REAL.variables)
        data = Event(torch.cat([pair.y.value[:, None], pair.x.value], 1))
        joint = Monolithic(config.density.build(space, config, data, stream(0)), CLASSES, REAL)
    assert isinstance(joint, kind)
    with torch.no_grad():
        labelled = pair.take(pair.y.mask)
        plain = joint.losses(labelled, generator=stream(1))
        joint.emphasis = 2.0
        log_joint = joint.log_joint(labelled.x)
        label = log_joint.log_softmax(1).gather(1, labelled.y.value.long()[:, None])[:, 0]
        assert torch.allclose(plain, -log_joint.gather(1, labelled.y.value.long()[:, None])[:, 0])
        assert torch.allclose(joint.losses(labelled, generator=stream(1)), plain - 2 * label)
        if kind is ClassConditional:
            unlabelled = pair.take(~pair.y.mask)
            assert torch.allclose(joint.losses(unlabelled, generator=stream(1)), -joint.log_evidence(unlabelled.x))


def test_an_independent_joint_is_the_product_of_its_parts():
    config = resolve("naive_bayes")
    density = config.density.build(REAL, config, rows().x, stream(0))
    joint = Independent(density, CLASSES)
    with torch.no_grad():
        joint.log_prior.copy_(torch.tensor([0.0, 1.0, 2.0]))
        x = rows().x.take(slice(0, 5))
        assert torch.allclose(joint.log_joint(x).logsumexp(1), density.log_prob(x))
        assert torch.allclose(joint.log_joint(x).softmax(1), joint.log_prior.softmax(0).expand(5, -1))
        pair = joint.sample(300, generator=stream(0))
    assert float((pair.y.value == 2).double().mean()) > 0.5


def test_a_trunk_learns_both_and_is_saved(tmp_path):
    X, y = iris()
    model = JointClassifier(family=resolve("autoregressive").set_params(steps=150), predictor="trunk").fit(X, y)
    assert model.score(X, y) > 0.85
    assert model.status_["predict_proba"] == "exact"
    joint, marginal = model.predict_joint_log_proba(X), model.score_samples(X)
    np.testing.assert_allclose(np.logaddexp.reduce(joint, 1), marginal, atol=1e-8)
    model.save(tmp_path / "trunk")
    assert (conjoin.load(tmp_path / "trunk").predict_proba(X) == model.predict_proba(X)).all()


def test_a_trunk_needs_features_and_classes():
    X, y = iris()
    with pytest.raises(ValueError, match=r"predictor='trunk' needs classes and a family whose network has features; circuit has none"):
        JointClassifier(predictor="trunk").fit(X, y)


def test_features_as_a_predictor(tmp_path):
    X, y = iris()
    model = JointClassifier(family=quick("autoregressive"), predictor="features").fit(X, y)
    assert model.score(X, y) > 0.8
    model.save(tmp_path / "features")
    assert (conjoin.load(tmp_path / "features").predict_proba(X) == model.predict_proba(X)).all()
    with pytest.raises(ValueError, match="needs classes and a family that has features"):
        JointClassifier(predictor="features").fit(X, y)


def test_emphasis_is_refused_where_it_has_no_meaning():
    X, y = iris()
    with pytest.raises(ValueError, match=r"emphasis=1 is for families that learn by the gradient; circuit does not"):
        JointClassifier(emphasis=1.0).fit(X, y)
    with pytest.raises(ValueError, match="emphasis must be 'auto' or a number of at least 0, got -1"):
        JointClassifier(emphasis=-1).fit(X, y)


def test_emphasis_is_chosen_on_held_out_rows_and_reported():
    X, y = (pd.concat([part, part], ignore_index=True) for part in iris())
    X = X + np.random.default_rng(0).normal(0, 0.1, X.shape).round(1)
    model = JointClassifier(family=quick("autoregressive"), predictor=None, emphasis="auto").fit(X, y)
    told = model.model_.facts["emphasis"]
    assert told["chosen"] in (0.0, 0.3, 1.0, 3.0)
    assert {float(each) for each in told["tried"]} == {0.0, 0.3, 1.0, 3.0}


def test_a_lot_of_energy_ends_a_fit():
    X, y = iris()
    model = JointClassifier(family=resolve("autoregressive"), predictor=None, max_kwh=1e-9).fit(X, y)
    assert model.model_.facts["trained"]["stopped"] == "max_kwh of 1e-09 reached"


# ---------------------------------------------------------------------------------------------------- comparing


QUICK = ("naive_bayes", "mixture", "circuit")


def test_compare_ranks_by_the_held_out_joint():
    X, y = iris()
    found = conjoin.compare(X, y, families=[*QUICK, quick("energy")], max_time=60)
    frame = found.frame()
    ranked = frame[frame["joint"].notna()]
    assert found.pick == ranked.iloc[0]["family"]
    assert set(ranked["family"]) == set(QUICK)  # an energy is shown, and not ranked
    assert frame[frame["family"] == "Energy"]["status"].item() == "relative"
    assert np.allclose(ranked["joint"], ranked["log_prob"] - ranked["log_loss"])
    assert frame[["seconds", "kwh", "familiarity", "samples", "ece"]].notna().all().all()
    assert found.pick in found.why and "30 held-out rows" in found.why


def test_compare_a_density_and_a_number():
    X, _ = iris()
    assert conjoin.compare(X, families=QUICK[:2]).pick in QUICK
    found = conjoin.compare(X.iloc[:, :3], X.iloc[:, 3], families=QUICK[1:])
    assert np.isfinite(found.frame()["log_loss"]).all()


def test_a_family_that_fails_is_a_row_with_a_reason(monkeypatch):
    def refusing(rows, request):
        if request.family == "mixture":
            raise ValueError("column 'a' is not to its taste")
        return fit_model(rows, request)

    fit_model = comparing.fit_model
    monkeypatch.setattr(comparing, "fit_model", refusing)
    X, y = iris()
    found = conjoin.compare(X, y, families=["naive_bayes", "mixture"])
    assert [entry.note for entry in found.entries] == ["", "column 'a' is not to its taste"]
    assert found.pick == "naive_bayes"


def test_nothing_is_begun_when_the_budget_is_spent(monkeypatch):
    X, y = iris()
    clock = iter([0.0, 0.0, 0.0, 0.0, *([100.0] * 50)])
    monkeypatch.setattr(comparing.time, "monotonic", lambda: next(clock))
    found = conjoin.compare(X, y, families=["naive_bayes", "mixture"], max_time=60)
    assert [entry.note for entry in found.entries] == ["", "left out: the budget was spent"]


def test_too_few_rows_to_compare():
    with pytest.raises(ValueError, match=r"Comparing families needs 100 rows, there are 30"):
        conjoin.compare(iris()[0].iloc[:30], families=QUICK)


def test_auto_fits_the_pick_on_all_rows(monkeypatch):
    monkeypatch.setattr(comparing, "CANDIDATES", QUICK)
    X, y = iris()
    model = JointClassifier(family="auto", predictor=None).fit(X, y)
    assert model.model_.facts["family"] == model.model_.facts["compared"]["pick"]
    assert JointDensity(family="auto").fit(X).score(X) > -20


def test_a_bound_stands_as_one():
    entry = comparing.Entry("a", "lower bound", joint=-1.0, each=np.zeros(4))
    other = comparing.Entry("b", "exact", joint=-2.0, each=np.zeros(4) - 1)
    found = comparing._picked([other, entry], 4)
    assert found.pick == "a"
    assert "(lower bound)" in found.why and "b is 1.000 behind" in found.why
    with pytest.raises(ValueError, match="No family could be compared: c: broken"):
        comparing._picked([comparing.Entry("c", note="broken")], 4)


def test_rows_reach_every_family_the_same():
    frame = pd.DataFrame({"a": np.arange(200.0)})
    rows = comparing.Rows(frame, np.arange(200), np.ones(200, dtype=bool), None, None, None)
    part = comparing._part(rows, np.array([3, 1]))
    assert part.y.tolist() == [3, 1] and part.frame["a"].tolist() == [3, 1]
    assert dataclasses.replace(part).weight is None

"""From a config to a joint: the weight on p(y | x), a trunk that learns both, unlabelled rows,
comparing families.
"""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, make_moons

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.core import Event, Pair, Space, Variable, stream
from conjoin.families import resolve
from conjoin.fitting import label_propagation
from conjoin.joints.build import build_joint
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.independent import Independent
from conjoin.joints.monolithic import Monolithic
from conjoin.questions import compare as comparing

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
        unlabelled = pair.take(~pair.y.mask)
        own = joint.losses(unlabelled, generator=stream(1))
        if kind is ClassConditional:
            assert torch.allclose(own, -joint.log_evidence(unlabelled.x))
        joint.emphasis = 0.0
        assert torch.allclose(joint.losses(unlabelled, generator=stream(1)), own)


def test_an_independent_joint_is_the_product_of_its_parts():
    config = resolve("naive_bayes")
    density = config.density.build(REAL, config, rows().x, stream(0))
    joint = Independent(density, CLASSES)
    with torch.no_grad():
        joint.log_prior.copy_(torch.tensor([0.0, 1.0, 2.0]))
        x = rows().x.take(slice(0, 5))
        assert torch.allclose(joint.log_joint(x).logsumexp(1), density.log_prob(x))
        assert torch.allclose(
            joint.log_joint(x).softmax(1), joint.log_prior.softmax(0).expand(5, -1)
        )
        labelled = Pair(Event(torch.tensor([0, 1, 2, 1, 0]).double()), x)
        own = joint.log_joint(x).gather(1, labelled.y.value.long()[:, None])[:, 0]
        assert torch.allclose(joint.log_prob(labelled), own)
        assert torch.allclose(joint.losses(labelled), -own)
        pair = joint.sample(300, generator=stream(0))
    assert float((pair.y.value == 2).double().mean()) > 0.5


def test_a_trunk_learns_both_and_is_saved(tmp_path):
    X, y = iris()
    model = JointClassifier(
        family=resolve("autoregressive").set_params(steps=150), predictor="trunk"
    ).fit(X, y)
    assert model.score(X, y) > 0.85
    assert model.status_["predict_proba"] == "exact"
    joint = model.predict_joint_log_proba(X)
    marginal = model.score_samples(X)
    np.testing.assert_allclose(np.logaddexp.reduce(joint, 1), marginal, atol=1e-8)
    model.save(tmp_path / "trunk")
    assert (conjoin.load(tmp_path / "trunk").predict_proba(X) == model.predict_proba(X)).all()


def test_a_trunk_needs_features_and_classes():
    X, y = iris()
    with pytest.raises(
        ValueError,
        match=r"predictor='trunk' needs classes and a family whose network has features; circuit "
        r"has none",
    ):
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
    with pytest.raises(
        ValueError, match=r"emphasis=1 is for families that learn by the gradient; circuit does not"
    ):
        JointClassifier(emphasis=1.0).fit(X, y)
    with pytest.raises(
        ValueError, match="emphasis must be 'auto' or a number of at least 0, got -1"
    ):
        JointClassifier(emphasis=-1).fit(X, y)


def test_emphasis_is_chosen_on_held_out_rows_and_reported():
    X, y = (pd.concat([part, part], ignore_index=True) for part in iris())
    X = X + np.random.default_rng(0).normal(0, 0.1, X.shape).round(1)
    model = JointClassifier(family=quick("autoregressive"), predictor=None, emphasis="auto").fit(
        X, y
    )
    told = model.model_.facts["emphasis"]
    assert told["chosen"] in (0.0, 0.3, 1.0, 3.0)
    assert {float(each) for each in told["tried"]} == {0.0, 0.3, 1.0, 3.0}


def test_a_lot_of_energy_ends_a_fit():
    X, y = iris()
    model = JointClassifier(family=resolve("autoregressive"), predictor=None, max_kwh=1e-9).fit(
        X, y
    )
    assert model.model_.facts["trained"]["stopped"] == "max_kwh of 1e-09 reached"


# --------------------------------------------------------------------------------------- few labels


def crescents(n=300, labels=4):
    """Two crescents that a line can't part, of which a few rows have a label; the rest have -1."""
    X, y = make_moons(n, noise=0.07, random_state=0)
    few = np.full(n, -1)
    for label in (0, 1):
        few[np.flatnonzero(y == label)[:labels]] = label
    return pd.DataFrame(X, columns=["a", "b"]), y, few


def two_lumps():
    """Ten rows on a line: five about 0 and five about 100."""
    return Event(
        torch.tensor([0, 1, 2, 3, 4, 100, 101, 102, 103, 104], dtype=torch.float64)[:, None]
    )


LINE = Space((1,), (Variable("a", "real"),))


def test_spread_labels_solve_their_equation(monkeypatch):
    """F = (1 - a) (I - a S)^-1 Y, normalised, then scaled to the labels' shares of the classes."""
    monkeypatch.setattr(label_propagation, "PROPAGATION_STEPS", 5000)
    graph = label_propagation.Graph.of(rows().x, REAL)
    known = np.arange(60) % 5 == 0
    codes = (np.arange(60) % 3).astype(np.int64)
    labels = np.eye(3)[codes] * known[:, None]
    step = graph.step.toarray()
    assert np.allclose(step, step.T)
    share = np.linalg.solve(np.eye(60) - 0.99 * step, labels)
    share /= share.sum(1, keepdims=True)
    share *= (1 + labels.sum(0)) / share.sum(0)
    assert np.allclose(graph.propagate(codes, known, 3), share / share.sum(1, keepdims=True))


def test_labels_stay_within_their_lump_and_what_none_reaches_has_none(monkeypatch):
    monkeypatch.setattr(label_propagation, "NEIGHBOURS", 2)
    graph = label_propagation.Graph.of(two_lumps(), LINE)
    codes = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    both = graph.propagate(codes, np.isin(np.arange(10), [0, 5]), 2)
    assert np.allclose(both[:5], [1, 0]) and np.allclose(both[5:], [0, 1])
    one = graph.propagate(codes, np.arange(10) == 0, 2)
    assert np.allclose(one[:5], [1, 0]) and (one[5:] == 0).all()


def test_a_graph_does_not_depend_on_the_order_of_rows():
    x = rows().x
    order = torch.randperm(60, generator=stream(2))
    first, second = (
        label_propagation.Graph.of(each, REAL).step.toarray() for each in (x, x.take(order))
    )
    assert np.allclose(first[order][:, order], second)


def test_images_moved_by_a_pixel():
    space = Space(
        (6,),
        tuple(Variable(f"p{i}", "ordered", cardinality=9) for i in range(6)),
        "image",
        (1, 2, 3),
    )
    x = Event(
        torch.tensor([[1.0, 2, 3, 4, 5, 6]], dtype=torch.float64),
        torch.tensor([[True, True, False, True, True, True]]),
    )
    still, right, left, down, up = list(label_propagation.moved(x, space))[:5]
    assert still is x
    moved = [[0, 0, 0, 1, 2, 3], [4, 5, 6, 0, 0, 0], [0, 1, 2, 0, 4, 5], [2, 3, 0, 5, 6, 0]]
    assert np.allclose([each.value[0].numpy() for each in (down, up, right, left)], moved)
    assert (
        down.observed[0].tolist() == [True] * 5 + [False]
        and left.observed[0].tolist() == [True, False] + [True] * 4
    )
    assert len(list(label_propagation.moved(rows().x, REAL))) == 1


def test_an_image_is_near_its_moved_copy():
    space = Space(
        (9,),
        tuple(Variable(f"p{i}", "ordered", cardinality=2) for i in range(9)),
        "image",
        (1, 3, 3),
    )
    value = torch.zeros(3, 9, dtype=torch.float64)
    value[0, [0, 1]] = value[1, [1, 2]] = value[2, [0, 8]] = (
        1  # the second is the first, moved to the right
    )
    versions = [each.value.float() for each in label_propagation.moved(Event(value), space)]
    near, gap = label_propagation._nearest(versions, 2)
    between = {
        (row, int(other)): float(d)
        for row in range(3)
        for other, d in zip(near[row], gap[row], strict=True)
    }
    assert max(between[0, 1], between[1, 0]) < 1e-9 and between[0, 2] > 0.5


def test_rows_with_no_label_are_lent_one():
    X, y, few = crescents()
    model = JointClassifier(family="circuit", unlabelled=-1).fit(X, few)
    told = model.model_.facts["labels"]
    assert (
        told["labelled"] == 8
        and told["spread_to"] > 200
        and told["loss_of_spread"] < told["loss_of_rival"]
    )
    assert model.score(X, y) > 0.97
    twin = JointClassifier(family="circuit", unlabelled=-1, spread=False).fit(X, few)
    assert "labels" not in twin.model_.facts
    assert (twin.predict(X) != y).mean() > 2 * (model.predict(X) != y).mean()


def test_labels_are_not_lent_where_most_rows_have_one_or_lending_misleads():
    X, y, _ = crescents()
    parts = {"fit": Pair(Event(torch.tensor(y).double()), Event(torch.tensor(X.to_numpy())))}
    assert label_propagation.propagate_labels(parts, REAL, 2) == (parts, {})
    noise = torch.randn(300, 2, generator=stream(4), dtype=torch.float64)
    noise[:, 1] *= 100
    label = (
        noise[:, 0] > 0
    ).double()  # an even cloud without clusters, parted by a line through it
    known = torch.arange(300) < 100
    space = Space((2,), (Variable("a", "real"), Variable("b", "real")))
    parts = {"fit": Pair(Event(label, known), Event(noise))}
    same, told = label_propagation.propagate_labels(parts, space, 2)
    assert told["loss_of_spread"] > told["loss_of_rival"] and told["spread_to"] == 0
    assert same is parts


def test_lent_labels_and_straight_lines_are_not_taken_where_boosting_tells_more():
    X = torch.rand(600, 4, generator=stream(5), dtype=torch.float64).numpy() * 2 - 1
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    model = JointClassifier(family="naive_bayes", unlabelled=-1).fit(
        X, np.where(np.arange(600) < 250, y, -1)
    )
    assert (
        model.model_.facts["labels"]["spread_to"] == 0
        and model.model_.facts["predictor"]["chosen"] == "boosting"
    )
    assert model.score(X[250:], y[250:]) > 0.9


def test_one_label_of_a_class_is_no_evidence_for_lending():
    X, y, _ = crescents()
    few = np.full(len(X), -1)
    few[[int(np.flatnonzero(y == 0)[0]), *np.flatnonzero(y == 1)[:3]]] = [0, 1, 1, 1]
    model = JointClassifier(family="naive_bayes", unlabelled=-1).fit(X, few)
    assert (
        model.model_.facts["labels"]["spread_to"] == 0
        and model.model_.facts["predictor"]["chosen"] == "linear"
    )


def test_few_labels_are_not_held_out():
    X, _, few = crescents()
    model = JointClassifier(family="naive_bayes", predictor=None, unlabelled=-1).fit(X, few)
    assert (model.model_.calibration.label < 0).all()
    assert model.model_.calibration.rows > 50
    assert model.decide(X.iloc[:1] * 100, max_error={})["verdict"].item() == "unfamiliar"


@pytest.mark.parametrize("classes", [2, 3])
def test_a_network_as_a_predictor(tmp_path, classes):
    X, y = iris()
    X = X[y < classes]
    y = y[y < classes]
    model = JointClassifier(family="naive_bayes", predictor="network").fit(X, y)
    assert model.score(X, y) > 0.9
    model.save(tmp_path / "network")
    assert (conjoin.load(tmp_path / "network").predict_proba(X) == model.predict_proba(X)).all()


def test_a_network_of_images_sees_where_pixels_are(tmp_path):
    bunch = load_digits(n_class=3)
    X = bunch.images.astype("uint8")
    y = bunch.target
    model = JointClassifier(family="naive_bayes", predictor="network").fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95
    moved = np.roll(X[200:], 1, axis=2)
    assert model.score(moved, y[200:]) > 0.8
    model.save(tmp_path / "network")
    assert (
        conjoin.load(tmp_path / "network").predict_proba(moved) == model.predict_proba(moved)
    ).all()
    again = JointClassifier(family="naive_bayes", predictor="network").fit(X[:200], y[:200])
    assert (again.predict_proba(moved) == model.predict_proba(moved)).all()


def test_a_network_for_a_number():
    X, _ = iris()
    model = JointRegressor(family="naive_bayes", predictor="network").fit(
        X.iloc[:, :3], X.iloc[:, 3]
    )
    assert model.score(X.iloc[:, :3], X.iloc[:, 3]) > 0.8


# ---------------------------------------------------------------------------------------- comparing


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
    # not the clock of other threads
    monkeypatch.setattr(comparing, "time", SimpleNamespace(monotonic=lambda: next(clock)))
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
    assert part.y.tolist() == [3, 1] and part.x["a"].tolist() == [3, 1]
    assert dataclasses.replace(part).weight is None


@pytest.mark.parametrize("predictor", ["trunk", None])
def test_the_loss_of_a_joint_takes_all_its_noise_from_its_generator(predictor):
    """Dropout too: torch's own generator has no say."""
    from conjoin.families.flow.coupling import Flow
    from conjoin.families.latent.vae import VAE
    from conjoin.joints.hybrid import Hybrid
    from conjoin.predictors.classifier import Classifier
    from conjoin.predictors.features import Features

    x = Event(torch.randn(40, 2, generator=stream(0), dtype=torch.float64))
    y = Event((torch.arange(40) % 2).double())
    space = Space((2,), (Variable("a", "real"), Variable("b", "real")))
    target = Space((), (Variable("y", "category", cardinality=2),))
    config = VAE() if predictor else Flow(dropout=0.5)
    if predictor:
        density = config.density.build(space, config, x, stream(0))
        scorer = Features(density, (2, density.features(x).shape[1])).start(x)
        torch.nn.init.normal_(scorer.weight)
        joint = Hybrid(Independent(density, target), Classifier(scorer))
    else:
        joint = build_joint(config, target, space, Pair(y, x), stream(0))
        joint.emphasis = 1.0
        for parameter in joint.parameters():  # layers that start at zero hide what dropout does
            torch.nn.init.normal_(parameter, std=0.1)
    joint.train()
    seen = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        seen.append(joint.losses(Pair(y, x), generator=stream(3)).detach())
    assert torch.equal(*seen)

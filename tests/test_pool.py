"""p(y | x) as a pool: its folds, its members, its weights, and what becomes of it in a model."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import ExtraTreeClassifier

import conjoin
from conjoin import JointClassifier, JointRegressor
from conjoin.components import decision_trees
from conjoin.components.decision_trees import Walks, descend
from conjoin.core import Event, Pair, Space, Variable
from conjoin.predictors import method
from conjoin.predictors.base import Case
from conjoin.predictors.folds import dealt, parts_of
from conjoin.predictors.forest import FLOOR, _forest, _grown, _shrunk
from conjoin.predictors.pool import Heard, heard_by_folds, joined, loss_of, pool_of, pool_of_points
from conjoin.predictors.stacking import (
    class_shares,
    log_linear_weights,
    point_weights,
    prior_share,
    reluctance_of,
    with_prior,
)
from conjoin.training.data import row_hashes, split_rows

ROWS = 300
COLUMNS = ("a", "b", "c")


def numbers(rows=ROWS, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, len(COLUMNS)))


def case_of(table, y, classes=3):
    space = Space((len(COLUMNS),), tuple(Variable(name, "real") for name in COLUMNS))
    pair = Pair(Event(torch.as_tensor(y).double()), Event(torch.as_tensor(table)))
    return Case(space, pair, torch.ones(len(y)).double(), classes, seed=0)


def three_classes(rows=ROWS, seed=0):
    x = numbers(rows, seed)
    noise = np.random.default_rng(seed + 1).normal(size=rows)
    return x, np.digitize(x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * noise, [-0.5, 0.5])


def frame(rows=ROWS, seed=0):
    x, y = three_classes(rows, seed)
    return pd.DataFrame(x, columns=list(COLUMNS)), np.array(["low", "mid", "high"])[y]


@pytest.fixture(scope="module")
def heard():
    x, y = three_classes()
    names = ("linear", "boosting", "extra_trees")
    return heard_by_folds(case_of(x, y), {name: method(name) for name in names})


@pytest.fixture(scope="module")
def fitted():
    return JointClassifier(family="naive_bayes").fit(*frame())


# -------------------------------------------------------------------------------------------- folds


def test_equal_rows_stand_in_one_fold_and_every_class_in_each():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 80, 400)
    y = (hashes % 3).astype(float)
    fold = dealt(y, 3, 0, hashes)
    assert all(len(set(fold[hashes == each])) == 1 for each in set(hashes))
    assert all(set(y[held]) == {0.0, 1.0, 2.0} for held in parts_of(fold))
    order = rng.permutation(400)
    assert (dealt(y[order], 3, 0, hashes[order]) == fold[order]).all()


def test_a_class_of_too_few_rows_always_teaches():
    y = np.array([0.0] * 50 + [1.0] * 3)
    fold = dealt(y, 2, 0)
    assert (fold[:50] >= 0).all() and (fold[50:] == -1).all()
    assert not any(held[50:].any() for held in parts_of(fold))


def test_a_memoriser_is_found_out():
    """Its own rows it knows by heart; the labels are noise, so that nothing can be known."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(numbers(), columns=list(COLUMNS))
    y = rng.integers(0, 2, ROWS).astype(str)
    doubled = pd.concat([X, X], ignore_index=True)
    twice = np.concatenate([y, y])
    model = JointClassifier(["linear", KNeighborsClassifier(1)], family="naive_bayes")
    told = model.fit(doubled, twice).model_.facts["predictor"]
    assert told["log_loss"]["KNeighborsClassifier"] > 3
    assert model.predict_proba(doubled).max() < 0.9


# ------------------------------------------------------------------------------------------ weights


def made_up(rows=500, classes=3, seed=0):
    """(B, M, K) log q of three members, of which one is too sure and one knows nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(rows, classes))
    each = [truth + rng.normal(size=truth.shape), 3 * truth, np.zeros_like(truth)]
    log_q = torch.as_tensor(np.stack(each, 1)).log_softmax(2).numpy()
    p = torch.as_tensor(truth).softmax(1)
    code = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(seed))[:, 0].numpy()
    return log_q, code, rng.uniform(0.5, 2, rows)


def penalised(power, log_q, code, weight):
    scores = torch.as_tensor(np.einsum("m,bmk->bk", power, log_q)).log_softmax(1).numpy()
    return (
        -(weight * scores[np.arange(len(code)), code]).sum() + 0.5 * ((power.sum() - 1) / 0.35) ** 2
    )


def test_the_weights_are_the_least_of_a_convex_loss():
    log_q, code, weight = made_up()
    power = log_linear_weights(log_q, code, weight)
    least = penalised(power, log_q, code, weight)
    assert (power >= 0).all()
    for seed in range(20):
        other = np.abs(power + np.random.default_rng(seed).normal(size=3) * 0.1)
        assert penalised(other, log_q, code, weight) >= least - 1e-3
    for alone in np.eye(3):
        assert penalised(alone, log_q, code, weight) >= least


@pytest.mark.parametrize("rows", [12, 500])
def test_no_change_of_a_weight_lowers_the_convex_loss(rows):
    """With few rows the cost of their sum counts, with many the rows do."""
    log_q, code, weight = made_up(rows)
    power = log_linear_weights(log_q, code, weight)
    steps = 1e-5 * np.eye(3)
    above, below = (
        np.array([penalised(power + sign * step, log_q, code, weight) for step in steps])
        for sign in (1, -1)
    )
    slope = (above - below) / 2e-5
    assert np.abs(slope[power > 0]).max() < 0.01 and (slope > -0.01).all()


def test_a_row_of_weight_three_counts_as_three_rows():
    log_q, code, _ = made_up()
    copies = np.where(code == 0, 3, 1)
    places = np.repeat(np.arange(len(code)), copies)
    many = log_linear_weights(log_q[places], code[places], np.ones(len(places)))
    assert log_linear_weights(log_q, code, copies.astype(float)) == pytest.approx(many, abs=1e-3)


def test_who_costs_more_than_it_gains_stays_out():
    log_q, code, weight = made_up()
    assert log_linear_weights(log_q, code, weight, np.array([0.0, 1e4, 1e4]))[1:].sum() == 0
    error = reluctance_of(log_q, code, weight)
    assert error[0] == 0 and (error[1:] > 0).all()
    same = np.stack([log_q[:, 0], log_q[:, 0]], 1)
    assert reluctance_of(same, code, weight)[1] > 0


def test_the_share_of_the_prior_is_the_best_one():
    log_q, code, weight = made_up()
    prior = class_shares(code, weight, 3)
    own = log_q[np.arange(len(code)), 1, code]
    share = prior_share(own, np.log(prior)[code], weight)

    def gain(at):
        rows = np.logaddexp(np.log1p(-at) + own, np.log(at) + np.log(prior)[code])
        return weight @ rows + np.log(at) + np.log1p(-at)

    assert 0 < share < 1 and prior.sum() == pytest.approx(1)
    assert gain(share) >= max(gain(share * 0.95), gain(share * 1.05)) - 1e-6
    mixed = np.exp(with_prior(log_q[:, 1], share, prior))
    assert np.allclose(mixed.sum(1), 1) and (mixed >= share * prior.min()).all()


def test_points_are_weighted_by_least_squares():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    points = np.stack([y + rng.normal(size=200), y + 2 * rng.normal(size=200)], 1)
    weight = rng.uniform(0.5, 2, 200)
    power = point_weights(points, y, weight)
    grid = np.linspace(0, 1, 1001)
    loss = [weight @ (points @ [at, 1 - at] - y) ** 2 for at in grid]
    assert power.sum() == pytest.approx(1) and (power >= 0).all()
    assert power[0] == pytest.approx(grid[int(np.argmin(loss))], abs=2e-3)


def test_the_pool_is_at_least_as_good_as_each_member(heard):
    pool, log_p = pool_of(heard, 3)
    seen = heard.judged()
    assert seen.all() and sum(pool.weights.values()) == pytest.approx(1)
    prior = pool.prior.numpy()
    code = heard.y.numpy().astype(int)
    for scores in heard.scores.values():
        own = scores.log_softmax(1).numpy()
        share = prior_share(own[np.arange(ROWS), code], np.log(prior)[code], np.ones(ROWS))
        alone = loss_of(torch.as_tensor(with_prior(own, share, prior)), heard.y)
        assert loss_of(log_p, heard.y) <= alone + 1e-6
    assert torch.allclose(log_p.exp().sum(1), torch.ones(ROWS).double())


def test_members_whose_scores_are_not_normalised_are_pooled_the_same(heard):
    pool, log_p = pool_of(heard, 3)
    assert (pool.share > 0).all()
    moved = [heard.scores[name] + 3.0 * place for place, name in enumerate(pool.names, 1)]
    assert torch.allclose(pool._pooled(moved).log_softmax(1), log_p)


def test_a_later_member_joins_where_it_adds(heard):
    pool, log_p = pool_of(heard, 3)
    truth = torch.nn.functional.one_hot(heard.y.long(), 3).double() * 3
    knows = Heard({"new": heard.scorers["linear"]}, {"new": truth}, heard.y, heard.weight)
    better, after = joined(pool, log_p, knows)
    assert "new" in better.names and loss_of(after, heard.y) < loss_of(log_p, heard.y)
    assert sum(better.weights.values()) == pytest.approx(1)
    same, _ = joined(pool, log_p, Heard(knows.scorers, {"new": 0 * truth}, heard.y, heard.weight))
    assert same.names == pool.names


def test_numbers_are_pooled(heard):
    x = numbers()
    y = x[:, 0] + x[:, 1] * x[:, 2]
    names = ("linear", "extra_trees")
    heard = heard_by_folds(case_of(x, y, None), {name: method(name) for name in names})
    pool, points = pool_of_points(heard)
    assert sum(pool.weights.values()) == pytest.approx(1)
    assert all(
        loss_of(points, heard.y) <= loss_of(each, heard.y) + 1e-9 for each in heard.scores.values()
    )


# ------------------------------------------------------------------------------------------ members


def grown(x, y):
    return ExtraTreesClassifier(7, max_features=0.5, random_state=0).fit(x.astype(np.float32), y)


def test_a_forest_without_shrinkage_is_scikit_learns():
    x, y = three_classes()
    trees = grown(x, y)
    case = case_of(x, y)
    design = method("linear").fit(case).design
    forest = _forest([each.tree_ for each in trees.estimators_], 0.0, design, 3)
    new = numbers(seed=5)
    own = trees.predict_proba(new.astype(np.float32)) * (1 - FLOOR) + FLOOR / 3
    assert np.allclose(forest.scores(Event(torch.as_tensor(new))).exp().numpy(), own, atol=1e-6)


def test_compiled_walks_arrive_where_plain_ones_do(monkeypatch):
    x, _ = three_classes()
    x[::7, 1] = np.nan
    design = method("linear").fit(case_of(*three_classes())).design
    forest = _forest([each.tree_ for each in grown(*three_classes()).estimators_], 0.0, design, 3)
    table = torch.as_tensor(x).float()
    parts = (forest.feature, forest.threshold, forest.right, forest.root)
    plain = descend(table, *parts)
    monkeypatch.setattr("conjoin.components.decision_trees.MIN_COMPILED_WALKS", 0)
    assert torch.equal(Walks()(table, *parts), plain)
    forest.right[3] = 3  # a leaf now, what is under it stays
    forest.threshold[3] = -torch.inf
    assert torch.equal(Walks()(table, *parts), descend(table, *parts))


def test_trees_are_compiled_once_enough_walks_were_asked_for(monkeypatch):
    """And again where they changed."""
    design = method("linear").fit(case_of(*three_classes())).design
    forest = _forest([each.tree_ for each in grown(*three_classes()).estimators_], 0.0, design, 3)
    parts = (forest.feature, forest.threshold, forest.right, forest.root)
    table = torch.as_tensor(numbers(seed=5)).float()
    compiled = []
    plain = decision_trees._compiled
    monkeypatch.setattr(
        decision_trees, "_compiled", lambda *trees: compiled.append(1) or plain(*trees)
    )
    monkeypatch.setattr(decision_trees, "MIN_COMPILED_WALKS", 2 * len(table) * len(forest.root))
    walks = Walks()
    found = [walks(table, *parts) for _ in range(4)]
    assert len(compiled) == 1
    assert all(torch.equal(each, descend(table, *parts)) for each in found)
    forest.right[3] = 3  # a leaf now
    forest.threshold[3] = -torch.inf
    found = [walks(table, *parts) for _ in range(2)]
    assert len(compiled) == 2
    assert all(torch.equal(each, descend(table, *parts)) for each in found)


def test_shrinkage_is_the_sum_along_the_path():
    trees = [each.tree_ for each in grown(*three_classes()).estimators_[:2]]
    tree = trees[1]
    found = _shrunk(trees, (0.0, 5.0))[:, trees[0].node_count :]
    assert np.allclose(found[0], tree.value[:, 0])

    def check(node, value):
        assert np.allclose(found[1, node], value)
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                step = (tree.value[child, 0] - tree.value[node, 0]) / (
                    1 + 5.0 / tree.weighted_n_node_samples[node]
                )
                check(child, value + step)

    check(0, tree.value[0, 0])


def test_trees_of_two_classes_say_what_scikit_learns_say():
    """Splits by the variance of 0 and 1 are those by Gini's impurity."""
    x, three = three_classes()
    y = (three > 0).astype(int)
    case = case_of(x, y, classes=2)
    table = x.astype(np.float32)
    weight = np.ones(len(y))
    found = _forest(_grown(case, 5, table, y, weight), 0.0, method("linear").fit(case).design, 2)
    seeds = np.random.default_rng(case.seed).integers(np.iinfo(np.int32).max, size=5)
    own = [
        ExtraTreeClassifier(max_features=0.5, random_state=int(seed)).fit(table, y)
        for seed in seeds
    ]
    new = numbers(seed=5).astype(np.float32)
    mean = np.mean([each.predict_proba(new) for each in own], 0)
    scores = found.scores(Event(torch.as_tensor(new).double())).exp().numpy()
    assert np.allclose(scores, mean * (1 - FLOOR) + FLOOR / 2, atol=1e-6)


def test_boosting_is_the_mean_of_its_folds():
    x, y = three_classes()
    case = case_of(x, y).with_folds()
    boosting = method("boosting")
    folded = boosting.by_folds(case)
    assert not folded.scores.isnan().any()
    own = folded.scorer.scores(case.rows.x).log_softmax(1)
    # four of the five have seen each row
    assert loss_of(own, case.rows.y.value) < loss_of(folded.scores, case.rows.y.value)
    assert torch.equal(boosting.by_folds(case).scorer.scores(case.rows.x).log_softmax(1), own)


@pytest.mark.parametrize("name", ["linear", "boosting", "extra_trees"])
def test_weights_of_rows_count(name):
    x, y = three_classes()
    case = case_of(x, y)
    heavy = torch.where(torch.as_tensor(y) == 0, 9.0, 1.0).double()
    scorer = method(name).by_folds(case.with_folds()).scorer
    other = method(name).by_folds(Case(case.space, case.rows, heavy, 3, 0).with_folds()).scorer
    before, after = (each.scores(case.rows.x).softmax(1)[:, 0].mean() for each in (scorer, other))
    assert after > before + 0.02


# --------------------------------------------------------------------------------------- in a model


def test_a_pool_is_told_and_normalises(fitted, tmp_path):
    told = fitted.model_.facts["predictor"]
    assert told["chosen"] == "pool" and sum(told["weights"].values()) == pytest.approx(1)
    assert {"family", "linear", "boosting", "extra_trees", "pool"} == set(told["log_loss"])
    proba = fitted.predict_proba(frame(seed=3)[0])
    assert np.allclose(proba.sum(1), 1)
    text = (fitted.save(tmp_path / "model") / "README.md").read_text().replace("\\", "")
    assert "pool: weighted by what each says" in text
    assert all(f"{name} {share:.2f}" in text for name, share in told["weights"].items())


def test_a_pool_is_saved_to_the_bit(fitted, tmp_path):
    X, _ = frame(seed=3)
    again = conjoin.load(fitted.save(tmp_path / "model"))
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()
    pd.testing.assert_frame_equal(again.decide(X, max_error=0.2), fitted.decide(X, max_error=0.2))


def test_a_pool_is_the_same_again(fitted):
    X, _ = frame(seed=3)
    again = JointClassifier(family="naive_bayes").fit(*frame())
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()


def test_rows_of_the_calibration_teach_nothing(fitted):
    X, y = frame()
    held = split_rows(row_hashes(X), 0, 0.15, 0.2).calibrate
    assert len(held) == fitted.model_.calibration.rows
    other = y.copy()
    other[held] = "low"
    again = JointClassifier(family="naive_bayes").fit(X, other)
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()


def test_weights_of_the_calibration_teach_nothing():
    X, y = frame()
    held = split_rows(row_hashes(X), 0, 0.15, 0.2).calibrate
    heavy = np.ones(ROWS)
    heavy[held] = 50.0
    plain, other = (
        JointClassifier(["linear", "extra_trees"], "naive_bayes").fit(X, y, sample_weight=weight)
        for weight in (np.ones(ROWS), heavy)
    )
    assert "pool" in other.model_.facts["predictor"]["log_loss"]
    assert (other.predict_proba(X) == plain.predict_proba(X)).all()


def test_an_estimator_of_ones_own_joins_the_pool(tmp_path):
    X, y = frame()
    own = make_pipeline(FunctionTransformer(), KNeighborsClassifier(20))
    model = JointClassifier(["auto", own], family="naive_bayes").fit(X, y)
    told = model.model_.facts["predictor"]
    assert told["asked"] == ["auto", "Pipeline"]
    assert {"linear", "boosting", "extra_trees", "Pipeline"} < set(told["log_loss"])
    if "Pipeline" in told["weights"]:
        with pytest.raises(ValueError, match="Pipeline is your own code"):
            model.save(tmp_path / "model")


def test_named_members_alone_make_a_pool(tmp_path):
    X, y = frame()
    model = JointClassifier(["linear", "extra_trees"], family="naive_bayes").fit(X, y)
    told = model.model_.facts["predictor"]
    assert set(told["weights"]) <= {"linear", "extra_trees", "family"}
    assert "boosting" not in told["log_loss"]
    again = conjoin.load(model.save(tmp_path / "model"))
    assert (again.predict_proba(X) == model.predict_proba(X)).all()


def test_a_family_that_knows_better_joins():
    """Two classes that differ in the spread of twelve columns: no line tells them, and for boosting
    it is a long way."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    X = pd.DataFrame(rng.normal(size=(600, 12)) * np.where(y, 2.0, 1.0)[:, None])
    X.columns = [f"x{i}" for i in range(12)]
    model = JointClassifier(family="naive_bayes").fit(X, y.astype(str))
    told = model.model_.facts["predictor"]
    weight = told["weights"]["family"] if "weights" in told else 1.0
    assert weight > 0.3
    new = rng.normal(size=(400, 12)) * np.where(y[:400], 2.0, 1.0)[:, None]
    assert model.score(pd.DataFrame(new, columns=X.columns), y[:400].astype(str)) > 0.9


def test_a_family_in_the_pool_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    X = pd.DataFrame(
        rng.normal(size=(400, 4)) * np.where(y, 1.8, 1.0)[:, None], columns=list("abcd")
    )
    model = JointClassifier(family="naive_bayes").fit(X, y.astype(str))
    assert "family" in model.model_.facts["predictor"]["weights"]
    again = conjoin.load(model.save(tmp_path / "model"))
    assert (again.predict_proba(X) == model.predict_proba(X)).all()


def test_few_rows_keep_the_familys_own():
    X, y = frame(40)
    told = JointClassifier(family="naive_bayes").fit(X, y).model_.facts["predictor"]
    assert told["chosen"] == "family" and "too few rows" in told["why"]


def test_without_validation_rows_the_family_is_not_weighed_and_that_is_told():
    X, y = frame(90)
    told = JointClassifier(family="naive_bayes").fit(X, y).model_.facts["predictor"]
    assert told["chosen"] == "pool" and "family" not in told["weights"]
    assert "too few validation rows to weigh the family's own" in told["why"]


class InContext(ClassifierMixin, BaseEstimator):
    """The interface of a TabPFN: keyword arguments with a path, frames in, rows kept."""

    def __init__(self, *, model_path="auto", random_state=0):
        self.model_path = model_path
        self.random_state = random_state

    def fit(self, X, y):
        if self.model_path == "auto":
            raise AssertionError("the weights would be fetched")
        assert list(X) == ["a", "b", "c", "word"] and X["word"].isin(["u", "v"]).all()
        self.near_ = KNeighborsClassifier(15).fit(X[["a", "b", "c"]], y)
        self.classes_ = self.near_.classes_
        return self

    def predict_proba(self, X):
        return self.near_.predict_proba(X[["a", "b", "c"]])


def test_what_a_tabpfn_is_asked_by_the_pool(tmp_path):
    X, y = frame()
    X = X.assign(word=np.where(X["a"] > 0, "u", "v"))
    network = make_pipeline(InContext(model_path=tmp_path / "weights.ckpt"))
    model = JointClassifier(predictor=["linear", network], family="naive_bayes").fit(X, y)
    told = model.model_.facts["predictor"]
    assert told["weights"]["Pipeline"] > 0.3  # products of columns are nothing for the linear one
    assert model.score(X, y) > 0.6
    with pytest.raises(ValueError, match="Pipeline"):
        model.save(tmp_path / "model")
    alone = JointClassifier(predictor=network, family="naive_bayes").fit(X, y)
    assert alone.model_.facts["predictor"]["chosen"] == "Pipeline"


def test_a_number_without_validation_rows_is_pooled_of_what_was_judged_by_folds():
    X, _ = three_classes(90)
    y = X[:, 0] + 0.1 * X[:, 1]
    told = (
        JointRegressor(family="naive_bayes", predictor=["linear", "network"])
        .fit(pd.DataFrame(X, columns=list(COLUMNS)), y)
        .model_.facts["predictor"]
    )
    assert set(told["weights"]) == {"linear"}
    assert "too few validation rows to weigh the family's own, network" in told["why"]


def test_a_regressor_has_a_pool_too(tmp_path):
    x = numbers()
    X = pd.DataFrame(x, columns=list(COLUMNS))
    y = x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * np.random.default_rng(1).normal(size=ROWS)
    model = JointRegressor(family="naive_bayes").fit(X, y)
    told = model.model_.facts["predictor"]
    assert told["chosen"] == "pool" and sum(told["weights"].values()) == pytest.approx(1)
    again = conjoin.load(model.save(tmp_path / "model"))
    assert (again.predict(X) == model.predict(X)).all()
    assert model.score(X, y) > 0.6


def test_gaps_that_were_there_at_fit_are_the_pools_business():
    X, y = frame()
    X = X.mask(np.random.default_rng(2).random(X.shape) < 0.1)
    model = JointClassifier(family="naive_bayes").fit(X, y)
    assert model.model_.facts["predictor"]["chosen"] == "pool"
    assert np.allclose(model.predict_proba(X).sum(1), 1)

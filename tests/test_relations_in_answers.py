"""What answers make of relations that they can use in part, and of values that were never seen."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor, drift
from conjoin.codecs.composite import codec_of
from conjoin.model.censored import TargetColumn
from conjoin.model.model import Model

DAY = pd.Timedelta(days=1)


def plans(rows=600, seed=0):
    """A column of booleans that another determines."""
    rng = np.random.default_rng(seed)
    plan = rng.choice(list("abcdef"), rows)
    return pd.DataFrame(
        {"plan": plan, "paid": np.isin(plan, list("abc")), "s": rng.normal(size=rows)}
    )


@pytest.fixture(scope="module")
def of_plans():
    return JointDensity(random_state=0).fit(plans())


@pytest.mark.parametrize("words", [{True: 1, False: 0}, {True: "yes", False: "No"}])
def test_yes_and_no_in_other_words_keep_a_lookup(of_plans, words):
    X = plans().head(4)
    other = X.assign(paid=X["paid"].astype(object).map(words))
    assert np.array_equal(of_plans.score_samples(other), of_plans.score_samples(X))
    assert of_plans.decide(other).equals(of_plans.decide(X))
    wrong = of_plans.decide(X.assign(paid=(~X["paid"]).astype(int)))
    assert (wrong["verdict"] == "unfamiliar").all()
    assert wrong["reason"].str.contains("paid (?:True|False) does not go with plan").all()


@pytest.mark.parametrize("asked", [True, 1, "yes", [1]])
def test_yes_and_no_in_other_words_are_given(of_plans, asked):
    X, _ = of_plans.sample(60, given={"paid": asked}, random_state=1)
    assert X["paid"].all() and X["plan"].isin(list("abc")).all()


def test_drift_names_both_ends_of_a_difference():
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-01-01") + rng.integers(0, 365, 800) * DAY
    stay = rng.integers(0, 10, 800) + 4 * (np.arange(800) >= 400)
    stays = pd.DataFrame({"start": start, "end": start + stay * DAY, "score": rng.normal(size=800)})
    found = drift(stays[:400], stays[400:], family="naive_bayes")
    assert found.columns["column"].tolist() == ["start", "end - start", "score"]
    assert found.drifted and "Column 'end - start': from 0 to 9 -> from 4 to 13" in str(found)
    assert set(found.pairs[["first", "second"]].to_numpy().ravel()) <= {
        "start",
        "end - start",
        "score",
    }


def counts(rows=300):
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    day = pd.Timestamp("2024-01-01") + rng.integers(0, 300, rows) * DAY
    y = rng.poisson(np.exp(1 + 0.5 * x))
    return pd.DataFrame({"x": x, "n": rng.poisson(5, rows), "day": day}), y


@pytest.fixture(scope="module")
def of_counts():
    X, y = counts()
    return JointRegressor(random_state=0, predictor=None).fit(X, y)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": 50.0}, r"'x' is asked for 50.0, but the fit has seen -\d.\d+ to \d"),
        ({"n": (100, None)}, "'n' is asked for 100 to any, but the fit has seen 0 to 11"),
        ({"day": "2030-01-01"}, "'day' is asked for 2030-01-01, but the fit has seen 2024-01-0. "),
    ],
)
def test_given_outside_of_what_was_seen_is_told(of_counts, given, words):
    with pytest.warns(conjoin.ColumnWarning, match=words):
        of_counts.sample(3, given=given)


def test_a_number_y_outside_of_what_was_seen_is_told(of_counts):
    with pytest.warns(conjoin.ColumnWarning, match="'y' is asked for 1000, but the fit has seen"):
        assert (of_counts.sample(3, y=1000.0)[1] == 1000).all()


def test_known_cells_far_outside_are_told_where_others_are_filled(of_counts):
    X = counts()[0].head(3).assign(n=[4, 99, 5], x=np.nan)
    with pytest.warns(conjoin.ColumnWarning, match="'n': 1 row has a value far .* such as 99"):
        of_counts.impute(X)


def test_given_inside_of_what_was_seen_is_no_warning(of_counts):
    X, y = counts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_counts.sample(3, given={"x": float(X["x"].min()), "n": (3, None)}, y=float(np.median(y)))
        of_counts.impute(X.assign(n=X["n"].astype(float).where(X.index > 5)))


def test_whole_numbers_stay_whole_in_targets(of_counts):
    X, y = of_counts.sample(100)
    assert (y == np.round(y)).all() and (X["n"] == X["n"].round()).all()
    assert (of_counts.sample(3, y=2.5)[1] == 2.5).all()  # what is asked for stays


@pytest.mark.slow
def test_whole_numbers_stay_whole_with_a_pool_and_with_several_targets():
    X, y = counts()
    drawn = JointRegressor(random_state=0).fit(X, y).sample(50)[1]
    assert (drawn == np.round(drawn)).all()
    several = JointRegressor(random_state=0).fit(X, pd.DataFrame({"u": y, "v": y + X["n"]}))
    drawn = several.sample(50)[1]
    assert (drawn == drawn.round()).all().all()


def towns(rows=1500):
    """24 towns of unequal shares in 4 lands, each town with a mean score of its own."""
    rng = np.random.default_rng(0)
    town = rng.choice(24, rows, p=rng.dirichlet(np.full(24, 0.8)))
    names = {"town": [f"t{i:02d}" for i in town], "land": [f"l{i % 4}" for i in town]}
    return pd.DataFrame(names | {"score": rng.normal(town % 3, 1)})


def in_its_land(frame):
    return (frame["land"] == "l" + (frame["town"].str[1:].astype(int) % 4).astype(str)).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["circuit", "naive_bayes"])
def test_a_missing_key_is_drawn_by_its_share_given_the_value(family):
    X = towns()
    model = JointDensity(family=family, random_state=0).fit(X)
    drawn = pd.concat(model.impute(X.assign(town=None), n_draws=2))
    assert in_its_land(drawn) and (drawn["land"].to_numpy() == np.tile(X["land"], 2)).all()
    shares = [frame["town"].value_counts(normalize=True) for frame in (X, drawn)]
    # total variation; chance alone gives .02
    assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.06
    assert in_its_land(model.impute(X.assign(town=None)))


def bills(rows=500, seed=0):
    """Three counts and their sum; the first one, and so the sum, is greater where y is 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    parts = {"a": rng.poisson(5 + 6 * y), "b": rng.poisson(20, rows), "c": rng.poisson(8, rows)}
    return pd.DataFrame(parts | {"total": sum(parts.values())}), y


def without_parts(X):
    return X.astype(float).assign(a=np.nan, b=np.nan)


ASKED = pd.DataFrame({"a": np.nan, "b": np.nan, "c": 8, "total": [20, 33, 45]})


def over_all_parts(ask):
    """What is asked of each row of ``ASKED``, of all whole rows that it may be."""
    found = []
    for _, row in ASKED.iterrows():
        a = np.arange(row["total"] - row["c"] + 1)
        b = row["total"] - row["c"] - a
        found.append(ask(pd.DataFrame({"a": a, "b": b, "c": row["c"], "total": row["total"]})))
    return np.array(found)


@pytest.fixture(scope="module")
def of_bills():
    return JointClassifier(family="mixture", predictor=None, random_state=0).fit(*bills())


def test_log_p_of_a_known_sum_of_missing_parts_is_the_sum_over_the_parts(of_bills):
    exact = over_all_parts(lambda rows: np.logaddexp.reduce(of_bills.score_samples(rows)))
    assert np.allclose(of_bills.score_samples(ASKED), exact, atol=0.5)
    unknown = of_bills.score_samples(ASKED.assign(total=np.nan))
    assert (of_bills.score_samples(ASKED) < unknown - 1).all()
    assert np.ptp(unknown) == 0


def test_p_of_y_by_a_known_sum_of_missing_parts(of_bills):
    joint = over_all_parts(lambda rows: np.logaddexp.reduce(of_bills.predict_joint_log_proba(rows)))
    exact = np.exp(joint - np.logaddexp.reduce(joint, 1)[:, None])
    assert np.allclose(of_bills.predict_proba(ASKED), exact, atol=0.06)
    assert exact[2, 1] - exact[0, 1] > 0.5  # the sum says much about y


@pytest.mark.slow
def test_a_number_by_a_known_sum_of_missing_parts():
    X, _ = bills()
    y = X["a"] + np.random.default_rng(1).normal(0, 1, len(X))
    model = JointRegressor(family="mixture", predictor=None, random_state=0).fit(X, y)
    low, _, high = model.predict(ASKED)
    assert high - low > 2
    assert np.ptp(model.predict(ASKED.assign(total=np.nan))) == 0


def test_familiarity_by_a_known_sum_of_missing_parts(of_bills):
    fresh = without_parts(bills(50, seed=7)[0])
    assert (of_bills.decide(fresh, max_error=None)["verdict"] == "unfamiliar").mean() < 0.12
    far = of_bills.decide(ASKED.assign(total=[9, 120, 3]), max_error=None)
    assert (far["verdict"] == "unfamiliar").all()
    assert far["reason"].str.contains("total is unlike what its missing parts add up to").all()


def test_an_answer_by_a_known_sum_does_not_depend_on_its_batch(of_bills):
    every = of_bills.score_samples(ASKED)
    assert np.allclose([of_bills.score_samples(ASKED.iloc[[i]])[0] for i in range(3)], every)


@pytest.mark.slow
def test_parts_are_drawn_given_their_sum(of_bills):
    drawn = pd.concat(of_bills.impute(ASKED, n_draws=20))
    assert (drawn["a"] + drawn["b"] + drawn["c"] == drawn["total"]).all()
    means = drawn.groupby("total")["a"].mean()
    exact = over_all_parts(
        lambda rows: np.average(rows["a"], weights=np.exp(of_bills.score_samples(rows)))
    )
    assert np.allclose(means, exact, atol=2)
    for strategy in ("mean", "mode"):
        filled = of_bills.impute(ASKED, strategy=strategy)
        assert (filled["a"] + filled["b"] + filled["c"] == filled["total"]).all()


def test_the_status_of_answers_by_a_known_sum(of_bills):
    X, y = bills(20)
    assert of_bills.evaluate(X, y)["log_prob_status"] == "exact"
    assert of_bills.evaluate(without_parts(X), y)["log_prob_status"] == "approximate"


def test_a_family_that_cannot_use_a_sum_says_so(of_bills, monkeypatch):
    monkeypatch.setattr(Model, "uses_sums", False)
    with pytest.warns(conjoin.ColumnWarning, match="In 3 rows a sum is known .* is not used"):
        told = of_bills.evaluate(ASKED)
    assert told["log_prob_status"] == "approximate: the total is not used"


@pytest.fixture(scope="module")
def of_flags():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "flag": rng.choice([True, False], 400),
            "lo": rng.uniform(0, 5, 400).round(2),
            "hi": rng.uniform(0, 5, 400).round(2),
            "size": rng.choice(list("SML"), 400),
        }
    )
    frame["total"] = (frame["lo"] + frame["hi"]).round(2)
    return frame, JointDensity(family="naive_bayes", random_state=0).fit(frame)


def test_means_of_parts_leave_levels_what_they_are(of_flags):
    frame, model = of_flags
    gaps = frame.head(8).copy()
    gaps[["lo", "hi", "size"]] = None
    full = model.impute(gaps)
    assert (full["flag"] == gaps["flag"]).all() and full["size"].isin(list("SML")).all()
    np.testing.assert_allclose(full["lo"] + full["hi"], gaps["total"], atol=0.011)


def test_what_follows_from_what_is_given_is_named(of_flags):
    with pytest.raises(ValueError, match=r"from which follows a '.*' that was never"):
        of_flags[1].sample(2, given={"total": 7, "lo": 9})


def test_a_missing_key_beside_a_string_is_confined_to_those_of_its_value():
    X = towns(300).assign(note="a note")
    codec, frame = codec_of(X, {"note": "text"}, ())
    codec.fit(frame)
    rows = codec.rows(frame[:12].assign(town=None))
    event = codec.confined(rows, codec.encode(rows).event)
    place = codec.columns.index("town")
    levels = codec.schema["town"].levels
    for row, land in enumerate(frame["land"][:12]):
        left = {levels[k] for k in event.within.allowed[place][row].nonzero()[:, 0].tolist()}
        known = {town for town in levels if f"l{int(town[1:]) % 4}" == land}
        assert left == known and len(left) < len(levels)
    assert event.within.low.shape == event.value.shape
    assert event.within.low.isinf().all() and event.within.high.isinf().all()


@pytest.fixture(scope="module")
def of_two():
    """Two targets beside three counts and their sum."""
    X, y = bills(300)
    Y = pd.DataFrame({"y": np.where(y, "p", "n"), "z": np.where(X["b"] > 20, "much", "little")})
    return JointClassifier(family="mixture", random_state=0).fit(X, Y).model_


def test_all_targets_together_use_a_known_sum_as_each_does(of_two):
    """log p(y | x) of one known target beside an unknown one is that of the target by itself, and
    p of all pairs of classes add up to 1."""
    view = of_two.view("y")
    encoded = view.encode(ASKED)
    known = np.ones(3, dtype=bool)
    total = torch.zeros(3, dtype=torch.float64)
    for code, label in enumerate("np"):
        y = TargetColumn("y", np.full(3, label), known)
        blank = TargetColumn("z", np.full(3, "much"), ~known)
        alone = of_two.log_prob([y, blank], encoded)
        assert torch.allclose(alone, view.log_proba(encoded)[:, code], atol=1e-9)
        without = of_two.log_prob([y, blank], encoded._replace(sums=()))
        assert (alone - without).abs().max() > 0.05
        for word in ("little", "much"):
            z = TargetColumn("z", np.full(3, word), known)
            total += of_two.log_prob([y, z], encoded).exp()
    assert torch.allclose(total, torch.ones(3, dtype=torch.float64), atol=1e-9)


def test_a_sum_that_is_drawn_outside_of_what_was_seen_is_told():
    """naive_bayes knows nothing of what ties the parts together."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2000, 500)
    X = pd.DataFrame({"a": a, "b": 2000 - a + rng.integers(0, 100, 500)})
    X["total"] = X.sum(axis=1)
    model = JointDensity(family="naive_bayes", random_state=0).fit(X)
    with pytest.warns(conjoin.ColumnWarning, match="'total' follows from others, and in") as told:
        drawn = model.sample(200, given={"a": 1500}, random_state=0)[0]
    outside = (drawn["total"] < X["total"].min()) | (drawn["total"] > X["total"].max())
    assert outside.sum() > 50  # the ends of the range are rounded
    found = int(str(told[-1].message).split(" and in ")[1].split(" of 200 ")[0])
    assert abs(found - outside.sum()) <= 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(50, given={"a": 1500}, tails=True, random_state=0)

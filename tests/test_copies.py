"""Exact copies of rows, and one row that is much more frequent than others."""

import numpy as np
import pandas as pd
import pytest

from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.codecs.table.rows import content_hashes
from conjoin.training.data import count_copies as count_by_hashes
from conjoin.training.data import row_hashes, split_rows


def count_copies(X):
    return count_by_hashes(content_hashes(X))


def measured(rows, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, rows)
    words = rng.choice(list("xyz"), rows)
    return pd.DataFrame({"a": rng.normal(z, 1), "b": rng.normal(-z, 1), "word": words})


@pytest.mark.parametrize("times", [2, 3, 6])
def test_copies_are_on_one_side(times):
    X = pd.concat([measured(100)] * times, ignore_index=True)
    hashes = row_hashes(X)
    split = split_rows(hashes, 0, 0.15, 0.2)
    assert count_copies(X) == 100 * (times - 1)
    assert len(np.unique(hashes)) == 100
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(hashes[split[one]]) & set(hashes[split[other]])


def test_about_equally_many_copies_are_copies_too():
    times = np.random.default_rng(0).integers(6, 9, 100)
    X = measured(100).loc[np.repeat(np.arange(100), times)].reset_index(drop=True)
    assert count_copies(X) == times.sum() - 100
    assert len(np.unique(row_hashes(X))) == 100


def test_rows_that_repeat_by_chance_are_none():
    rng = np.random.default_rng(0)
    few = pd.DataFrame({name: rng.integers(0, 2, 3000) for name in "abcdef"})
    days = pd.DataFrame({"day": rng.integers(0, 365, 3000)})
    cells = pd.DataFrame({"cell": np.arange(1200) % 24})  # as many rows of each
    for X in (few, days, cells, measured(300)):
        assert count_copies(X) == 0
    assert len(np.unique(row_hashes(few))) == 3000


@pytest.mark.parametrize("drawn", ["resampled", "a block twice"])
def test_copies_of_measured_rows_are_on_one_side_however_often(drawn):
    """Else a resampled table promises what no fresh row keeps: its held-out rows taught."""
    rng = np.random.default_rng(1)
    places = rng.integers(0, 400, 800) if drawn == "resampled" else np.r_[0:400, 0:200]
    X = measured(400).iloc[places].reset_index(drop=True)
    y = pd.Series(rng.choice(["u", "v"], 400), name="y").iloc[places].reset_index(drop=True)
    hashes = row_hashes(X)
    different = len(np.unique(places))
    assert len(np.unique(hashes)) == different
    model = JointClassifier(family="naive_bayes", random_state=0).fit(X, y)
    told = f"Of {len(places)} rows {len(places) - different} "
    assert any(words.startswith(told) for words in model.notices_)
    verdict = model.decide(measured(500, 7), max_error=0.3)["verdict"]
    assert (verdict != "accept").all()


def test_measured_rows_with_labels_of_their_own_are_no_copies():
    X = measured(100).iloc[np.random.default_rng(2).integers(0, 100, 300)].reset_index(drop=True)
    y = np.random.default_rng(3).normal(size=300)
    model = JointRegressor(family="naive_bayes", random_state=0).fit(X, y)
    assert not any("exact copies" in words for words in model.notices_)


def test_one_row_that_dominates_is_in_every_part_by_its_share():
    X = pd.concat([measured(900), pd.DataFrame({"a": 0.0, "b": 0.0, "word": "x"}, range(100))])
    hashes = row_hashes(X)
    split = split_rows(hashes, 0, 0.15, 0.2)
    for part in split:
        assert abs((part >= 900).mean() - 0.1) < 0.05
    # every other row, and its copies, are in one part as before
    twice = pd.concat([X, X[:50]])
    hashes = row_hashes(twice)
    assert (hashes[:50] == hashes[1000:]).all() and len(np.unique(hashes)) == 1000
    assert np.array_equal(row_hashes(X)[:900], row_hashes(X[:900]))


def test_copies_are_told_and_calibrate_once():
    X = pd.concat([measured(120)] * 6, ignore_index=True)
    model = JointDensity(family="naive_bayes", random_state=0).fit(X)
    assert model.notices_[0].startswith("Of 720 rows 600 (83%) are exact copies of others: all")
    assert model.model_.calibration.rows == 24
    alone = JointDensity(family="naive_bayes", random_state=0).fit(X[:120])
    assert not any("copies" in words for words in alone.notices_)


@pytest.mark.slow
def test_the_rate_of_false_alarms_holds_on_fresh_rows_beside_copies():
    """Before copies were kept together it was .15 in the mean."""
    rates = []
    for seed in range(8):
        X = pd.concat([measured(200, 2 * seed)] * 6, ignore_index=True)
        model = JointDensity(family="mixture", random_state=0).fit(X).model_
        fresh = measured(1000, 2 * seed + 1)
        rates.append((model.p_value(model.encode(fresh)) <= 0.05).mean())
    assert np.mean(rates) < 0.08  # of 40 distinct calibration rows, chance alone gives .035 a set


def test_rows_of_a_design_that_was_measured_again_are_no_copies():
    X = pd.concat([measured(100)] * 5, ignore_index=True)
    y = np.random.default_rng(1).choice(["no", "yes"], len(X))
    y[:2] = ["no", "yes"]
    model = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    assert "copies" not in model.model_.card
    assert model.model_.calibration.rows == model.model_.card["rows"]["calibrate"] >= 80


def test_a_frequent_row_of_a_copied_table_calibrates_as_often_as_it_stood_there():
    rng = np.random.default_rng(0)
    zero = pd.DataFrame({"a": 0.0, "b": 0.0, "word": "x"}, range(300))
    once = pd.concat([measured(700), zero], ignore_index=True)
    y = np.where(once["a"] > 0, "high", "low")
    y[700:] = rng.choice(["high", "low"], 300)
    twice = pd.concat([once, once], ignore_index=True)
    model = JointClassifier(family="naive_bayes", predictor=None)
    with pytest.warns(UserWarning, match="are exact copies"):
        model.fit(twice, np.concatenate([y, y]))
    held = model.model_.calibration
    # of the three in ten rows that are all alike, half are told wrong, whatever is said
    assert 0.08 < (held.guess != held.label).mean() < 0.25


def test_copies_calibrate_once_with_several_targets_too():
    X = measured(120)
    Y = pd.DataFrame({"sum": (X["a"] + X["b"]).round(1), "word": X.pop("word")})
    Y["sum"] = Y["sum"].astype(object).where(np.arange(120) % 7 > 0, ">1")
    model = JointClassifier(family="mixture", random_state=0)
    with pytest.warns(UserWarning, match="Of 720 rows 600"):
        many = model.fit(pd.concat([X] * 6), pd.concat([Y] * 6)).model_
    held = many.card["rows"]["calibrate"]
    assert held == many.calibrations[0].rows == 24  # a fifth of the rows before the copying
    # the same x with other targets is no copy
    twice = Y.assign(word=np.roll(Y["word"], 1), sum=np.arange(120.0))
    other = JointClassifier(family="mixture", random_state=0).fit(
        pd.concat([X, X]), pd.concat([Y.assign(sum=-1.0 - np.arange(120)), twice])
    )
    assert "copies" not in other.model_.card

"""Targets: draws of a number within what was seen or asked for, and what means "not known"."""

import json

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin import JointClassifier, JointRegressor
from conjoin.cli import run
from conjoin.estimators.reading import mark_unlabelled
from conjoin.fitting.several import _range
from conjoin.model.censored import TargetColumn
from conjoin.model.targets import Number, target_from_json


@pytest.fixture(scope="module")
def prices():
    """Long tails above, none below 0: what a Gaussian goes beyond on both sides."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=400).round(2), "c": rng.choice(list("xyz"), 400)})
    y = (np.exp(rng.normal(size=400) + 0.5 * X["a"]) * 100).round(2).rename("price")
    return X, y


@pytest.fixture(scope="module", params=["mixture", "pool"])
def model(request, prices):
    own = {"predictor": None} if request.param == "mixture" else {}
    return JointRegressor(family="mixture", random_state=0, **own).fit(*prices)


def test_a_drawn_number_stays_within_what_was_seen(model, prices):
    y = prices[1]
    drawn = model.sample(2000, random_state=0)[1]
    assert y.min() <= drawn.min() and drawn.max() <= y.max()
    tails = model.sample(2000, random_state=0, tails=True)[1]
    assert tails.min() < 0  # so there was something to hold
    given = model.sample(500, given={"c": "x"}, random_state=0)[1]
    assert y.min() <= given.min() and given.max() <= y.max()


def test_a_tuple_is_a_range_and_a_list_is_one_number_a_row(model):
    X, y = model.sample(200, y=(100, 200), random_state=0)
    assert len(X) == 200 and ((y >= 100) & (y <= 200)).all() and len(np.unique(y)) > 50
    assert model.sample(2, y=[100, 200], random_state=0)[1].tolist() == [100, 200]
    X, y = model.sample(50, y=(None, 80), where="a > 0", random_state=0)
    assert (y <= 80).all() and (X["a"] > 0).all()


def test_draws_in_a_range_are_those_of_the_joint_that_fall_there(model):
    """p(x | y in a range), against the rows of a long free draw that lie there."""
    X, y = model.sample(20_000, random_state=1)
    there = X["a"][(y >= 200) & (y <= 400)]
    asked = model.sample(3000, y=(200, 400), random_state=2)[0]["a"]
    error = np.hypot(there.std() / len(there) ** 0.5, asked.std() / len(asked) ** 0.5)
    assert abs(there.mean() - asked.mean()) < 4 * error


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ((200, 100), "y is asked to lie from 200 to 100: the first must not exceed the second."),
        ((1e6, 2e6), "keep '1e\\+06 <= price <= 2e\\+06'"),
        (("a", 3), "'a' is no value of 'price', a number."),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is asked for")
def test_a_range_that_makes_no_sense_is_refused(model, y, words):
    with pytest.raises(ValueError, match=words):
        model.sample(10, y=y)


def test_a_target_with_the_name_of_a_column_has_a_range_of_its_own(prices):
    X, y = prices
    model = JointRegressor(family="mixture", predictor=None).fit(X, y.rename("a"))
    assert (model.sample(50, y=(100, 200), random_state=0)[1] >= 100).all()


def test_several_numbers_stay_within_what_was_seen(prices):
    X, y = prices
    Y = pd.DataFrame({"price": y, "kind": X["c"]})
    drawn = JointClassifier(family="mixture").fit(X[["a"]], Y).sample(1000, random_state=0)[1]
    assert y.min() <= drawn["price"].min() and drawn["price"].max() <= y.max()


def test_the_end_of_a_range_is_open_where_numbers_are_censored():
    known = np.array([True, True, False])
    infinite = np.full(3, np.inf)
    low, high = -infinite, infinite.copy()
    low[2] = 9.0
    column = TargetColumn("n", np.array([2.0, 7.0, 0.0]), known, low, high, known)
    assert _range(column) == (2.0, None)
    high[2] = 12.0
    assert _range(TargetColumn("n", column.values, known, low, high, known)) == (2.0, 12.0)


def test_a_number_that_recurs_at_an_end_keeps_its_digits():
    y = np.array([-0.78441482] * 40 + list(np.linspace(0, 9, 200)) + [9.4567891])
    number = Number.fit(y, np.ones(len(y), dtype=bool), "y", np.ones(len(y)))
    assert number.range == (-0.78441482, 9.45)


def test_the_range_is_saved_and_widened_by_more_rows():
    y = np.array([3.0, 5.0, 9.0])
    number = Number.fit(y, np.ones(3, bool), "n", np.ones(3))
    assert Number.from_json(number.to_json()).range == number.range == (3.0, 9.0)
    assert number.widened(np.array([1.0, 4.0])).range == (1.0, 9.0)
    old = {key: value for key, value in number.to_json().items() if key != "range"}
    assert Number.from_json(old).ends == (-np.inf, np.inf)
    assert Number.from_json(old).to_json() == old


def test_the_shell_takes_a_range_of_a_number(prices, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = prices
    X.assign(price=y).to_csv("t.csv", index=False)
    fit = "fit t.csv --target price --family nb --predictor none -q -o m"
    assert run(fit.split()) == 0
    sample = "sample m -n 40 --y 100..200 --seed 1 -o d.csv -q"
    assert run(sample.split()) == 0
    assert pd.read_csv("d.csv")["price"].between(100, 200).all()


# ------------------------------------------------------------------------- what means "not known"


def test_a_saved_model_knows_what_means_that_a_target_is_not_known(prices, tmp_path):
    X, y = prices
    gaps = y.where(np.arange(len(y)) % 4 > 0, -999.0)
    model = JointRegressor(family="nb", predictor=None, unlabelled=-999).fit(X, gaps)
    model.save(tmp_path / "m")
    again = conjoin.load(tmp_path / "m")
    assert again.unlabelled is None and again.model_.target.missing == (-999,)
    found = again.evaluate(X, gaps)
    assert found == model.evaluate(X, gaps) and found["mae"] < 200  # 999 + 170 a fourth of the time
    assert found["mae"] == pytest.approx(again.evaluate(X, y.where(gaps > 0))["mae"])
    Y = pd.DataFrame({"price": gaps, "kind": X["c"]})
    both = JointClassifier(family="mixture", unlabelled=-999).fit(X[["a"]], Y)
    both.save(tmp_path / "both")
    again = conjoin.load(tmp_path / "both")
    assert again.evaluate(X[["a"]], Y)["targets"]["price"]["mae"] < 200


def test_the_shell_remembers_missing_of_a_target(prices, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = prices
    X.assign(price=y.where(np.arange(len(y)) % 4 > 0, -999.0)).to_csv("t.csv", index=False)
    fit = "fit t.csv --target price --family nb --predictor none -q -o m --missing"
    assert run([*fit.split(), "price=-999"]) == 0
    capsys.readouterr()
    evaluate = "evaluate m t.csv --json"
    assert run(evaluate.split()) == 0
    assert json.loads(capsys.readouterr().out)["mae"] < 200


@pytest.mark.parametrize("value", [np.nan, np.inf, None, pd.NA, object()])
def test_only_what_can_be_saved_is_remembered(value):
    target = Number("n", 0.0, 1.0, None)
    mark_unlabelled([target], value)
    assert target.missing == () and "missing" not in target.to_json()
    mark_unlabelled([target], np.int64(-1))
    mark_unlabelled([target], -1)
    assert target_from_json(target.to_json()).missing == (-1,)

"""Numbers of which only a bound is known: how they are read, and what p(y | x) learns of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import truncnorm

from conjoin import JointRegressor
from conjoin.cli.target import task_of
from conjoin.core import stream
from conjoin.fitting.bounded import truncated_draw, truncated_mean
from conjoin.model.censored import limits_in

INFINITY = np.inf
MEAN = np.array([0.0, 0.0, 0.0, 5.0, -3.0, 0.0, 0.0, 0.0])
LOW = np.array([0.0, -1.0, 2.0, 10.0, -INFINITY, -INFINITY, 30.0, -40.0])
HIGH = np.array([INFINITY, 1.0, 3.0, INFINITY, -20.0, 1.0, INFINITY, -30.0])
DEVIATION = 2.0


def parts():
    return (
        torch.tensor(MEAN),
        torch.tensor(DEVIATION, dtype=torch.float64),
        torch.tensor(LOW),
        torch.tensor(HIGH),
    )


def test_the_mean_between_bounds_is_that_of_a_truncated_normal():
    ends = ((each - MEAN) / DEVIATION for each in (LOW, HIGH))
    truth = truncnorm.mean(*ends, MEAN, DEVIATION)
    assert np.allclose(truncated_mean(*parts()).numpy(), truth, atol=1e-6)


def test_draws_between_bounds_have_that_mean_and_stay_inside():
    mean, deviation, low, high = parts()
    many = [each.repeat(4000) for each in (mean, low, high)]
    drawn = truncated_draw(many[0], deviation, many[1], many[2], stream(0, "test"))
    assert bool(((drawn >= many[1]) & (drawn <= many[2])).all())
    drawn = drawn.reshape(4000, -1)
    error = 5 * drawn.std(0) / 4000**0.5
    assert bool(((drawn.mean(0) - truncated_mean(*parts())).abs() < error).all())


def test_cells_tell_bounds():
    cells = np.array(["<0.1", ">= 10000", 3.5, "≤2", "<many", None, "7"], dtype=object)
    known = np.array([cell is not None for cell in cells])
    found = limits_in(cells, known)
    assert found.rows.tolist() == [True, True, False, True, False, False, False]
    assert found.high[0] == 0.1 and found.low[1] == 10000 and found.high[3] == 2
    assert found.strict.tolist()[:4] == [True, False, False, False]
    assert limits_in(np.array(["a", 1], dtype=object), np.ones(2, dtype=bool)) is None


def test_the_shell_takes_bounds_for_a_number():
    y = pd.Series(["<0.1", *map(str, np.linspace(0.2, 9, 40).round(2)), ">10"], name="y")
    task = task_of(y, "auto")
    assert task.name == "number"
    assert "2 rows tell a bound, such as '<0.1'" in task.words
    words = pd.Series(["<0.1", "red", "blue"] * 10, name="y")
    assert task_of(words, "auto").name == "classes"


@pytest.fixture(scope="module")
def linear():
    """y = 2 a + b + noise, told as "> 1" above 1, a third of it; and rows with their truth."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    y = (2 * x[:, 0] + x[:, 1] + 0.5 * rng.normal(size=600)).round(3)
    told = pd.Series([">1" if value > 1 else value for value in y], name="y", dtype=object)
    new = rng.normal(size=(400, 3))
    frames = [pd.DataFrame(each, columns=list("abc")) for each in (x, new)]
    return frames[0], told, frames[1], 2 * new[:, 0] + new[:, 1]


def test_numbers_beyond_a_bound_are_learned(linear):
    X, y, new, truth = linear
    with pytest.warns(UserWarning, match="of 190 of 600 numbers a bound is known, such as '>1'"):
        model = JointRegressor(random_state=0).fit(X, y)
    known = pd.Series(y.where(y.map(lambda cell: not isinstance(cell, str))), dtype=float)
    without = JointRegressor(random_state=0).fit(X, known)
    error, blind = (
        float(np.sqrt(np.mean((each.predict(new) - truth) ** 2))) for each in (model, without)
    )
    assert error < 0.1 < 0.5 < blind
    assert model.model_.target.range[1] is None
    assert model.model_.card["predictor"]["bounded"] > 100


def test_a_bound_judges_nothing(linear):
    X, y, *_ = linear
    with pytest.warns(UserWarning, match="a bound is known"):
        model = JointRegressor(family="nb", random_state=0).fit(X, y)
    known = y.map(lambda cell: not isinstance(cell, str)).to_numpy()
    with pytest.warns(UserWarning, match="these rows count as rows without y"):
        score = model.score(X, y)
    assert score == pytest.approx(model.score(X[known], y[known].astype(float)))


def test_what_nothing_can_be_learned_from_is_told():
    X = pd.DataFrame({"a": np.arange(40.0)})
    with pytest.raises(ValueError, match="has bounds, and no number that is known"):
        JointRegressor().fit(X, pd.Series(["<1"] * 40, name="y"))

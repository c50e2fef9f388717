"""What a joint model gives up in each of its terms against models that learn one alone."""

import json

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.questions.price import Term


def rows(n, seed=0):
    """Two columns that hang together once y is known: naive Bayes pays for p(y | x), and gains
    p(x)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    both = rng.normal(size=n)
    return pd.DataFrame(
        {"a": both + 0.3 * rng.normal(size=n) + y, "b": both + 0.3 * rng.normal(size=n) - y}
    ), y


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("price")


@pytest.fixture(scope="module")
def found():
    return conjoin.price(JointClassifier(predictor=None, family="naive_bayes"), *rows(400))


def test_a_loss_is_what_the_twin_has_more(found):
    x, y = found.terms
    for term in found.terms:
        assert term.loss == pytest.approx(term.alone - term.joint) and term.error > 0
    assert (x.term, y.term, y.measure) == ("p(x)", "p(y | x)", "accuracy")
    assert y.loss > 2 * y.error and y.alone_measure > y.joint_measure
    assert (
        found.to_json()["terms"][0]["measure"] == ""
        and found.to_json()["terms"][0]["joint_measure"] is None
    )
    assert found.rows == 80 and "p(y | x) loses" in str(found)


def test_beside_the_same_predictor_nothing_is_lost():
    X, _ = rows(300)
    number = conjoin.price(
        JointRegressor(predictor="auto", family="naive_bayes"), X[["a"]], X["b"]
    ).terms[1]
    assert (
        number.loss == pytest.approx(0)
        and number.measure == "mae"
        and "loses nothing" in number.words()
    )


def test_pictures_pay_in_bits_and_their_twin_is_the_same_network():
    X = np.random.default_rng(0).integers(0, 9, (120, 8, 8)).astype("uint8")
    y = (X[:, :4].mean((1, 2)) > X[:, 4:].mean((1, 2))).astype(int)
    found = conjoin.price(
        JointClassifier(family=PictureDiffusion(size=0.25, steps=4, batch=16, points=4)), X, y
    )
    assert found.terms[0].measure == "bits per dimension" and found.terms[0].status == "lower bound"
    assert found.terms[0].joint_measure == pytest.approx(-found.terms[0].joint / np.log(2) / 64)


def test_what_has_no_price():
    X, y = rows(200)
    with pytest.raises(ValueError, match="JointDensity has no y"):
        conjoin.price(JointDensity(), X, y)
    with pytest.raises(ValueError, match="needs 100 rows"):
        conjoin.price(JointClassifier(), X[:30], y[:30])
    assert "known up to a constant" in Term("p(x)", *[np.nan] * 4, "relative").words()


def test_the_command_line_tells_it(say, home):
    X, y = rows(300)
    X.assign(y=y).to_csv(home / "t.csv", index=False)
    said = say("compare @t.csv --target y --family naive_bayes --price --json -q").out
    assert [term["term"] for term in json.loads(said)["terms"]] == ["p(x)", "p(y | x)"]
    assert (
        "--price is that of one family"
        in say("compare @t.csv --target y --family circuit --family mixture --price", 2).err
    )
    assert "a model without --target has no y" in say("compare @t.csv --price", 2).err

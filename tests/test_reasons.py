"""The words of reasons: what the other columns suggest, for all rows at once."""

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.codecs.table.schema import Schema
from conjoin.model.model import Model
from conjoin.questions.explain import UNIT_FACTORS


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    a = rng.normal(size=1500)
    X = pd.DataFrame(
        {
            "a": a,
            "b": 2 * a + 0.1 * rng.normal(size=1500),
            "k": np.where(a > 0, "high", "low"),
            "n": np.rint(5 * a).astype(int),
        }
    )
    return conjoin.JointDensity(family=conjoin.Circuit(width=16), max_time=20).fit(X)


@pytest.fixture(scope="module")
def odd():
    a = np.tile([-1.0, 0.2, 1.0], 20)
    return pd.DataFrame(
        {
            "a": a,
            "b": np.where(np.arange(60) % 2, 2 * a, -2 * a - 1.0),
            "k": np.where(np.arange(60) % 5, np.where(a > 0, "high", "low"), "low"),
            "n": np.rint(5 * a).astype(int),
        }
    )


def test_the_suggested_range_holds_what_the_relation_gives(model, odd):
    found = model.decide(odd, false_alarm=0.05)
    reason = found["reason"][2]  # a = 1, b = -3 instead of 2
    assert found["verdict"][2] == "unfamiliar"
    assert "b -3 is surprising, the other columns suggest " in reason
    low, high = map(
        float,
        reason.split("b -3 is surprising, the other columns suggest ")[1]
        .split(";")[0]
        .split(" to "),
    )
    assert low < 2 < high
    assert high - low < 2.5
    # and as draws of the same cell have it
    given = {"a": 1.0, "k": "high", "n": 5}
    drawn = model.sample(2000, given=given, random_state=1)[0]["b"].quantile([0.1, 0.9])
    assert [low, high] == pytest.approx(drawn.tolist(), abs=0.35)


def test_a_suggested_level_is_the_most_probable_one(model):
    row = pd.DataFrame({"a": [1.2], "b": [2.4], "k": ["low"], "n": [6]})
    reason = model.decide(row)["reason"][0]
    assert "k 'low' is surprising, the other columns suggest 'high'" in reason


def test_a_reason_does_not_depend_on_its_neighbours(model, odd):
    whole = model.decide(odd)["reason"].tolist()
    alone = [model.decide(odd.iloc[[row]])["reason"].item() for row in range(6)]
    assert whole[:6] == alone


def test_all_changes_of_units_are_read_at_once(model, odd, monkeypatch):
    codec = type(model.model_.codec)
    own = codec.encode
    calls = []

    def counted(self, raw):
        calls.append(len(raw))
        return own(self, raw)

    rows = odd.copy()
    rows.loc[1, ["a", "b", "k", "n"]] = [17.0, 34.0, "high", 8]  # a = 1.7 and b = 3.4, by ten
    monkeypatch.setattr(codec, "encode", counted)
    whole = model.decide(rows)["reason"].tolist()
    assert calls[0] == len(rows)
    assert len(calls) == 2
    assert calls[1] % len(UNIT_FACTORS) == 0
    assert calls[1] < len(rows) * len(UNIT_FACTORS)  # rows with a number that is far
    assert whole[1].endswith("; a, b x0.1 would fit")
    assert model.decide(rows.iloc[[1]])["reason"].item() == whole[1]


def test_all_rows_are_asked_about_at_once(model, odd, monkeypatch):
    calls = []
    own = Model.log_evidence

    def counted(self, x):
        calls.append(x.rows)
        return own(self, x)

    monkeypatch.setattr(Model, "log_evidence", counted)
    model.decide(odd.iloc[:6])  # some things are worked out once
    counts = []
    for rows in (6, 60):
        calls.clear()
        model.decide(odd.iloc[:rows])
        counts.append(len(calls))
    assert counts[1] <= counts[0] + 3


def test_reasons_can_be_left_out(model, odd, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("no reason was asked for")

    whole = model.decide(odd)
    monkeypatch.setattr("conjoin.questions.decide.reasons", refuse)
    bare = model.decide(odd, reasons=False)
    assert (bare["reason"][bare["verdict"] == "unfamiliar"] == "").all()
    pd.testing.assert_frame_equal(
        bare.drop(columns="reason"), whole.drop(columns="reason"), check_exact=True
    )


def test_a_grid_is_drawn_closer_where_the_others_leave_little_room():
    """b is 2 a to a thousandth of its spread: the range is as narrow, also beyond the draws."""
    from conjoin.core import Event
    from conjoin.questions.conditionals import expected

    class Exact:
        """Stands for a model of (a, b), both standard, b given a normal about .9 a."""

        bank = Event(torch.linspace(-2, 2, 64, dtype=torch.float64)[:, None].repeat(1, 2))

        def __init__(self):
            self.codec = self

        space = (
            conjoin.JointDensity(family="naive_bayes")
            .fit(pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=["a", "b"]))
            .model_.codec.space
        )

        def log_evidence(self, x):
            return -0.5 * ((x.value[:, 1] - 0.9 * x.value[:, 0]) / 0.002) ** 2

        columns = ("a", "b")
        schema = Schema(())

        def settle(self, value):
            return value

        def decode_column(self, value, column):
            return pd.Series(value[:, column].numpy())

    x = Event(torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64))
    for ends, centre in zip(expected(Exact(), x, [(0, 1), (1, 1)]), (0.9, 2.7), strict=True):
        # the middle 80 % of a normal: 1.2816 deviations on either side
        assert ends.tolist() == pytest.approx(
            [centre - 1.2816 * 0.002, centre + 1.2816 * 0.002], abs=0.0006
        )

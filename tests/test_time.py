"""The time that a fit may take: what is left, what is put aside, and what is left out for want of
it."""

import math
import re
import time

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.cli import run
from conjoin.fitting import pipeline
from conjoin.fitting.pooling import Ready
from conjoin.model.words import out_of_time
from conjoin.util import budget as module
from conjoin.util.budget import (
    Budget,
    OutOfTime,
    all_in_time,
    seconds_per_row,
    tell_cut,
    time_left,
    while_time,
)


class Clock:
    """Seconds that pass only where a test says so; the processor is as quick as the clock."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    process_time = monotonic


@pytest.fixture
def clock(monkeypatch):
    own = Clock()
    monkeypatch.setattr(module, "time", own)
    return own


def columns(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    return X, np.where(X.a + X.b > 0, "p", "n")


# ----------------------------------------------------------------------------------------- a budget


def test_what_is_put_aside_is_free_only_for_its_phase(clock):
    budget = Budget(20.0)
    budget.put_aside("calibrating", 4.0)
    budget.put_aside("choosing", 6.0)
    assert budget.left == 20 and budget.free == 10
    clock.now += 5
    assert budget.left == 15 and budget.free == 5
    with budget.phase("choosing"):
        assert budget.free == 11
        clock.now += 12
    assert budget.left == 3 and budget.free == 0
    assert budget.spent == {"choosing": 12.0}
    with budget.phase("calibrating"):
        assert budget.free == 3


def test_without_a_limit_all_is_free(clock):
    budget = Budget()
    budget.put_aside("calibrating", 4.0)
    clock.now += 1e6
    assert budget.left == budget.free == budget.share(0.1) == math.inf
    assert budget.max_time is None and not budget.overrun()
    with budget.within(budget.free):
        assert list(while_time(range(3), "the start")) == [0, 1, 2] and time_left() == math.inf


def test_the_time_counts_from_when_the_fit_was_asked_for(clock):
    assert Budget(20.0, began=92.0).left == 12


def test_steps_are_taken_as_long_as_they_are_likely_to_end_in_time(clock):
    taken = []
    budget = Budget(100.0)
    with budget.within(10.0):
        for step in while_time(range(9), "the start"):
            taken.append(step)
            clock.now += 3
    assert taken == [0, 1, 2]  # a fourth would end after 12 s
    assert budget.cut == ["For want of time the start took 3 of 9 steps."]
    with Budget(100.0).within(0.0):
        assert next(while_time(range(9), "the start")) == 0  # the least that there is


def test_what_is_of_no_use_undone_is_given_up_early(clock):
    done = []

    def steps():
        for step in all_in_time(range(5)):
            done.append(step)
            clock.now += 3

    with Budget(100.0).within(10.0), pytest.raises(OutOfTime):
        steps()
    assert done == [0]  # five would take 15 s
    with Budget(100.0).within(15.0):
        steps()
    assert done == [0, 0, 1, 2, 3, 4]


def test_a_call_costs_what_its_rows_cost_beyond_any_call(clock):
    asked = []

    def work(count):
        asked.append(count)
        clock.now += 1.0 + 0.05 * count

    assert seconds_per_row(work, 1000, 100.0) == pytest.approx(0.05)
    assert asked[0] == 8 and max(asked) <= 512
    asked.clear()
    assert seconds_per_row(work, 1000, 2.0) == pytest.approx(1.4 / 8)  # no time for more rows
    assert asked == [8]
    assert seconds_per_row(work, 0, 2.0) == 0


def test_short_work_is_measured_as_slow_as_the_machine_is(clock, monkeypatch):
    """Half of the time went to other programs, but not while this was measured."""
    monkeypatch.setattr(clock, "process_time", lambda: (clock.now - 100) / 2, raising=False)
    budget = Budget(100.0)
    clock.now += 10
    monkeypatch.setattr(clock, "process_time", lambda: 5 + clock.now - 110, raising=False)
    with budget.within(math.inf):
        assert module.seconds_of(lambda: setattr(clock, "now", clock.now + 1)) == pytest.approx(
            11 / 6
        )


def test_a_fit_that_took_longer_says_where(clock):
    budget = Budget(5.0)
    with budget.phase("start"):
        clock.now += 5.4
    assert not budget.overrun()  # within a tenth
    with budget.phase("calibrating"):
        clock.now += 1.2
    assert budget.overrun() == (
        "The fit took 6.6 s, more than max_time=5: some work can't be cut further (seconds: start "
        "5.4, calibrating 1.2)."
    )


def test_what_is_cut_is_told_once(clock):
    budget = Budget(5.0)
    with budget.within(1.0):
        tell_cut("Less.")
        tell_cut("Less.")
    tell_cut("Nobody hears.")
    assert budget.cut == ["Less."]


# ------------------------------------------------------------------------------- predictors in time


class Member:
    """A predictor that takes some time."""

    def __init__(self, paced=False):
        self.is_paced = paced

    def paced(self, case):
        return self.is_paced


def test_members_of_a_pool_come_by_their_time_and_some_are_left_out(clock):
    told = {"why": "weighted"}
    ready = Ready(Budget(10.0), {"slow": 20.0, "quick": 1.0, "wrong": 2.0}, told)
    methods = {"long": Member(paced=True)} | {name: Member() for name in ready.guessed}
    case = None
    order = ready.in_time(methods, case)
    assert list(order) == ["quick", "wrong", "slow", "long"]

    def learn():
        clock.now += 1
        return "learned"

    def never():
        for _ in all_in_time(range(9)):
            clock.now += 3

    assert ready.learned("quick", methods["quick"], case, learn) == "learned"
    assert ready.learned("wrong", methods["wrong"], case, never) is None
    assert ready.learned("slow", methods["slow"], case, learn) is None
    assert ready.learned("long", methods["long"], case, learn) == "learned"
    ready.tell()
    assert told["why"] == "weighted; left out for want of time: wrong, slow"
    assert ready.budget.cut == ["For want of time p(y | x) was learned without wrong, slow."]


def test_without_a_limit_members_keep_their_order():
    methods = {"b": Member(paced=True), "a": Member()}
    assert list(Ready(Budget(), {}, {}).in_time(methods, None)) == ["b", "a"]


# --------------------------------------------------------------------------------------- whole fits


def test_a_fit_with_a_limit_tells_where_its_time_went():
    X, y = columns()
    model = JointClassifier("linear", "naive_bayes", max_time=60, random_state=0).fit(X, y).model_
    assert {"rows", "start", "training", "what is usual", "p(y | x)", "calibrating"} <= set(
        model.card["seconds"]
    )
    assert sum(model.card["seconds"].values()) < 60
    assert not [each for each in model.notices if "want of time" in each]
    plain = JointClassifier("linear", "naive_bayes", random_state=0).fit(X, y).model_
    assert "seconds" not in plain.card
    assert np.array_equal(plain.calibration.statistic, model.calibration.statistic)


def test_with_no_time_the_least_is_done_and_all_else_told(monkeypatch):
    monkeypatch.setattr(pipeline, "MIN_CALIBRATION_ROWS", 30)
    X, y = columns()
    model = JointClassifier(family="naive_bayes", max_time=1e-3, random_state=0).fit(X, y).model_
    held = round(0.2 * len(X))
    said = " ".join(model.notices)
    assert model.calibration.rows == model.card["rows"]["calibrate"] == 30
    assert f"the model was calibrated on 30 of {held} held-out rows" in said
    assert re.search(r"p\(y \| x\) was learned without [a-z_, ]*boosting", said)
    assert re.search(r"The fit took [\d.]+ s, more than max_time=0.001", said)
    why = model.card["predictor"]["why"]
    assert why.startswith("no predictor fits into the time") and "boosting" in why
    assert model.state.predictor == "family"


@pytest.mark.parametrize("estimator", [JointDensity, JointRegressor])
def test_fits_of_all_kinds_keep_a_limit(estimator):
    X, _ = columns(200)
    y = () if estimator is JointDensity else (X.a + X.b,)
    fitted = estimator(family="mixture", max_time=30, random_state=0).fit(X, *y)
    assert "calibrating" in fitted.model_.card["seconds"]


def test_every_phase_has_a_bar(capsys):
    X, y = columns(200)
    JointClassifier(family="mixture", max_time=30, random_state=0, verbose=True).fit(X, y)
    said = capsys.readouterr().err
    for phase in (
        "splitting rows",
        "reading rows",
        "measuring p(y | x)",
        "starting mixture",
        "fitting mixture",
        "what is usual",
        "learning p(y | x)",
        "calibrating",
    ):
        assert phase in said


@pytest.mark.slow
def test_a_flow_on_pictures_ends_in_time():
    X = np.random.default_rng(0).integers(0, 256, (600, 12, 12)).astype(np.uint8)
    y = np.arange(600) % 3
    JointClassifier(family="naive_bayes", predictor=None).fit(X[:60], y[:60])  # imports
    began = time.monotonic()
    model = JointClassifier(family="flow", max_time=10, random_state=0).fit(X, y).model_
    assert time.monotonic() - began < 11 or "more than max_time" in " ".join(model.notices)
    assert model.card["trained"]["stopped"].startswith("max_time")


def test_counts_of_all_rows_are_not_forgotten_for_want_of_time():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(900, 3)), columns=list("abc"))
    whole = JointDensity(family="forest", random_state=0).fit(X)
    short = JointDensity(family="forest", random_state=0, max_time=0.01).fit(X)
    assert np.array_equal(short.score_samples(X), whole.score_samples(X))


def test_later_questions_repeat_that_the_fit_ran_out_of_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = columns(300)
    X.assign(y=y).to_csv("t.csv", index=False)
    fit = "fit t.csv --target y --family mixture --predictor none -q"
    assert run(f"{fit} -o short --max-time 0.01".split()) == 0
    assert run(f"{fit} -o whole".split()) == 0
    card = conjoin.load("short").model_.card
    assert card["trained"]["stopped"].startswith("max_time")
    capsys.readouterr()
    for line in ("predict {} t.csv", "decide {} t.csv", "evaluate {} t.csv", "sample {} -n 2"):
        for model, told in (("short", True), ("whole", False)):
            assert run(line.format(model).split()) == 0
            said = capsys.readouterr().err
            assert ("note: The fit was cut short (max_time of 0.01 s reached)" in said) == told


def test_what_is_said_of_a_fit_that_was_cut():
    trained = {"stopped": "max_time of 2 s reached", "epochs": 1}
    (words,) = out_of_time({"trained": trained})
    assert words.startswith("The fit was cut short (max_time of 2 s reached) after 1 pass over")
    assert out_of_time({"trained": trained | {"stopped": "all epochs done"}}) == []
    found = out_of_time({"cut": ["One.", "Two.", "Three."]})
    assert found == ["One (and 2 more: see the notices of the model)."]

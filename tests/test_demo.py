"""The demo: how its rows are picked, what its screen says, at a smaller setting."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from conjoin.demos import tables as demo


@pytest.fixture(scope="module")
def scene():
    return demo.prepare(verbose=False, plane=False, family="mixture", predictor="linear")


@pytest.fixture(scope="module")
def cases(scene):
    return demo.ask(scene)


def test_lengths_and_areas_change_their_units_and_nothing_else(scene):
    moved = scene.X / demo.foreign_units(scene.X)
    for name in scene.X:
        factor = 100 if "area" in name else 10 if "radius" in name or "perimeter" in name else 1
        assert moved[name].dropna().to_numpy() == pytest.approx(factor), name


def test_rows_are_picked_by_the_stated_rule(scene):
    rows, labels = demo.pick(scene)
    verdicts = scene.model.decide(scene.X, false_alarm=scene.rates[0], max_error=scene.rates[1])
    assert len(rows) == 6 and list(labels) == ["case", "truth"]
    for place, label in enumerate(scene.model.classes_):
        accepted = verdicts[(verdicts["answer"] == label)]
        here = verdicts[(rows.iloc[place] == scene.X).all(axis=1)]
        assert here["familiarity"].item() == accepted["familiarity"].max()
    borderline = verdicts[(rows.iloc[2] == scene.X).all(axis=1)]
    assert (
        borderline["confidence"].item()
        == verdicts.loc[verdicts["verdict"] != "unfamiliar", "confidence"].min()
    )
    pd.testing.assert_frame_equal(
        rows.iloc[[3]].reset_index(drop=True),
        demo.foreign_units(rows.iloc[[1]]).reset_index(drop=True),
    )
    assert (
        np.sort(rows.iloc[4]).tolist() == np.sort(rows.iloc[0]).tolist()
        and (rows.iloc[4] != rows.iloc[0]).any()
    )
    assert rows.iloc[5].to_numpy() == pytest.approx(demo.FAR * rows.iloc[0].to_numpy())


def test_the_promise_in_one_look(cases):
    assert cases["verdict"].tolist()[:2] == ["accept", "accept"]
    assert cases["verdict"].tolist()[3:] == ["unfamiliar"] * 3
    assert cases["answer"].tolist()[3:] == [""] * 3 and all(cases["reason"][3:])


@pytest.fixture(scope="module")
def found(scene):
    return demo.measure(scene)


def test_the_logistic_regression_is_sure_and_wrong(found):
    assert (
        found["sure"] > 0.9
        and found["right"] < 0.75
        and found["unfamiliar"] > 0.95
        and found["own right"] > 0.85
    )
    assert all(isinstance(sentence, str) and "%" in sentence for sentence in demo.sentences(found))


@pytest.mark.parametrize("width", [80, 112])
def test_the_screen(cases, found, width, tmp_path):
    out = io.StringIO()
    demo.screen(
        Console(file=out, width=width), cases, found, (0.05, 0.08), tmp_path / "report.html"
    )
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines() if "report.html" not in line) <= width
    for words in (
        "ordinary",
        "borderline",
        "unfamiliar",
        "Error rate asked for: 8 %",
        "report.html",
        "conjoin check data.csv --target y",
    ):
        assert words in text
    assert (
        "conjoin fit data.csv --target y" in text and "conjoin decide data-model/ new.csv" in text
    )
    assert "\x1b" not in text


def test_never_100_percent_for_less():
    assert [demo._percent(p) for p in (0.9996, 0.5, 1.0)] == ["99.9 %", "50.0 %", "100 %"]


def test_a_reason_in_brief():
    assert demo.brief("a is far; b is far; a, b x10 would fit") == "a is far; a, b x10 would fit"
    assert demo.brief("a is odd; b is odd") == "a is odd"


def test_main_writes_its_report(scene, cases, found, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(demo, "prepare", lambda plane: scene)
    monkeypatch.setattr(demo, "ask", lambda scene: cases)
    monkeypatch.setattr(demo, "measure", lambda scene: found)
    assert demo.main(["--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "4 row 2 in cm" in text and "logistic regression" in text
    assert "report.html" in capsys.readouterr().out
    assert demo.main(["--no-report", "--out", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()


def test_the_fit_of_a_demo_goes_on_where_it_was_broken_off(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from conjoin.demos.resumed import resumed
    from conjoin.training.checkpoint import Stop

    calls = []

    class Model:
        def fit(self, *data, checkpoint, resume):
            calls.append((data, checkpoint.name, resume))
            checkpoint.mkdir(exist_ok=True)
            if len(calls) == 1:
                raise KeyboardInterrupt
            stopped = Stop.INTERRUPTED if len(calls) == 2 else "as planned"
            self.model_ = SimpleNamespace(card={"trained": {"stopped": stopped}})
            return self

        def save(self, place):
            place.mkdir()

    def begin():
        return Model(), ("rows", "labels")

    assert resumed(tmp_path, 7, begin) is None  # before the first step
    assert resumed(tmp_path, 7, begin) is None  # with a model of too few steps
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-7"]
    assert isinstance(resumed(tmp_path, 7, begin), Model)
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    assert calls == [(("rows", "labels"), "checkpoint-7", True)] * 3
    monkeypatch.setattr("conjoin.load", lambda place: place.name)
    assert resumed(tmp_path, 9, begin) == "model"
    assert len(calls) == 3

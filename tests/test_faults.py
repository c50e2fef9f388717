"""Faults around a fit: killed before its first file, resumed as another one, two at once, links and
folders that are in the way.
"""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin.cli import run
from conjoin.families.classic.mixture import Mixture
from conjoin.fitting import pipeline
from conjoin.fitting.options import FitOptions
from conjoin.fitting.precision import _chosen
from conjoin.training import loop
from conjoin.util.files import locked


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a small table."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.choice(["no", "yes"], 120)
    frame = pd.DataFrame(
        {"a": rng.normal(size=120).round(2) + (y == "yes"), "b": rng.poisson(3, 120)}
    )
    frame.assign(y=y).to_csv("t.csv", index=False)
    return tmp_path


LINE = "fit t.csv --target y --family nb --predictor none -o m"


def said(capsys, line, code=0):
    capsys.readouterr()
    assert run(line.split()) == code, capsys.readouterr()
    return capsys.readouterr().err


def begun(monkeypatch, capsys, line=LINE):
    """A fit that is broken off behind the training, so that its checkpoint stays."""

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "_calibrate", stop)
        said(capsys, line, 130)
    assert os.path.isfile("m.partial/fit.json")


@pytest.mark.parametrize("option", ["", "--resume", "--force", "--resume --force"])
@pytest.mark.parametrize("left", [[], [".new-host-1-0-fit.json"]])
def test_a_fit_killed_before_its_first_file_is_begun_again(here, capsys, option, left):
    os.mkdir("m.partial")
    for name in left:
        open(f"m.partial/{name}", "w").close()
    said(capsys, f"{LINE} {option}")
    assert sorted(os.listdir()) == ["m", "t.csv"]


def test_a_folder_of_something_else_is_left_alone(here, capsys):
    os.mkdir("m.partial")
    open("m.partial/thesis.txt", "w").close()
    assert "m.partial exists and is no folder of checkpoints" in said(capsys, f"{LINE} --force", 2)
    assert os.listdir("m.partial") == ["thesis.txt"]


@pytest.mark.parametrize(
    "change",
    ["--seed 1", "--predictor auto", "--calibration 0.3", "--family mixture", "--emphasis 0.5"],
)
def test_a_fit_resumed_with_other_options_is_refused(here, capsys, monkeypatch, change):
    begun(monkeypatch, capsys)
    words = LINE.replace(" --predictor none", "") if "predictor" in change else LINE
    assert "begun with another table or other options" in said(
        capsys, f"{words} {change} --resume", 2
    )
    assert os.path.isfile("m.partial/fit.json")


def test_a_fit_resumed_with_renamed_columns_is_refused(here, capsys, monkeypatch):
    begun(monkeypatch, capsys)
    pd.read_csv("t.csv").rename(columns={"a": "b", "b": "a"}).to_csv("t.csv", index=False)
    assert "begun with another table" in said(capsys, f"{LINE} --resume", 2)


def test_a_limit_of_time_may_change_when_a_fit_goes_on(here, capsys, monkeypatch):
    begun(monkeypatch, capsys)
    said(capsys, f"{LINE} --resume --max-time 100")
    assert sorted(os.listdir()) == ["m", "t.csv"]


def test_an_unfinished_fit_is_not_discarded_without_a_word(here, capsys, monkeypatch):
    begun(monkeypatch, capsys)
    assert "unfinished fit in m.partial is discarded; --resume would" in said(capsys, LINE)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00"])
def test_a_damaged_mark_is_named(here, capsys, monkeypatch, text):
    begun(monkeypatch, capsys)
    with open("m.partial/fit.json", "w") as file:
        file.write(text)
    assert "fit.json is damaged" in said(capsys, f"{LINE} --resume", 2)
    said(capsys, LINE)


def test_of_two_fits_to_one_output_the_second_is_refused(here, capsys):
    os.mkdir("m.partial")
    child = os.fork()
    if child == 0:  # the other fit
        with locked(here / "m.partial"):
            open("held", "w").close()
            while os.path.exists("held"):
                pass
        os._exit(0)
    while not os.path.exists("held"):
        pass
    assert "m.partial is being written by another process" in said(capsys, LINE, 2)
    os.remove("held")
    os.waitpid(child, 0)
    said(capsys, LINE)


def test_an_output_that_is_a_link_stays_a_link(here, capsys):
    os.symlink("elsewhere/model", "m")
    said(capsys, LINE)
    assert os.path.islink("m")
    assert os.path.isfile("elsewhere/model/config.json")
    said(capsys, f"{LINE} --force")
    assert os.path.islink("m")
    assert os.listdir("elsewhere") == ["model"]
    os.symlink("round", "round")
    assert "round is a link that leads back" in said(capsys, f"{LINE}2 -o round", 2)


def test_an_output_that_cannot_be_written_is_refused_before_the_fit(here, capsys, monkeypatch):
    def fit(*arguments, **options):
        raise AssertionError("the fit began")

    monkeypatch.setattr(conjoin.JointClassifier, "fit", fit)
    assert "t.csv is no folder" in said(capsys, f"{LINE} -o t.csv/m", 2)
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # a read-only disk
    assert "can't be written to" in said(capsys, LINE, 2)
    assert os.listdir() == ["t.csv"]


def test_an_output_folder_that_goes_during_the_fit_is_made_again(here, capsys, monkeypatch):
    begin = loop._Run.finish

    def finish(self):
        begin(self)
        shutil.rmtree("sub")

    monkeypatch.setattr(loop._Run, "finish", finish)
    said(capsys, LINE.replace("-o m", "-o sub/m"))
    assert os.path.isfile("sub/m/config.json")


# ----------------------------------------------------------------------------------- from Python


def frame(seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.normal(size=(150, 3)), columns=["a", "b", "c"])


@pytest.mark.parametrize(
    ("X", "changes", "words"),
    [
        (frame(1), {}, "began with the rows"),
        (frame().rename(columns={"a": "z"}), {}, None),
        (frame(), {"random_state": 1}, "belongs to another fit"),
        (frame(), {"family": Mixture(components=3)}, "belongs to another fit"),
        (frame(), {"family": "naive_bayes"}, "belongs to another fit"),
        (frame(), {"max_time": 100}, None),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, X, changes, words):
    asked = {"family": Mixture(components=2), "random_state": 0}
    conjoin.JointDensity(**asked).fit(frame(), checkpoint=tmp_path)
    model = conjoin.JointDensity(**asked | changes)
    if words is None:
        model.fit(X, checkpoint=tmp_path, resume=True)
        return
    with pytest.raises(ValueError, match=words):
        model.fit(X, checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    model = conjoin.JointDensity(family="mixture").fit(frame(), checkpoint=tmp_path)
    (file,) = tmp_path.rglob("checkpoint.safetensors")
    data = file.read_bytes()
    file.write_bytes({"cut": data[:-5], "noise": b"\x07" + data[1:], "empty": b""}[damage])
    with pytest.raises(ValueError, match="is damaged"):
        model.fit(frame(), checkpoint=tmp_path, resume=True)


def test_a_precision_that_was_half_written_is_named(tmp_path):
    options = FitOptions(task="density", checkpoint=tmp_path, resume=True)
    for text in ("", json.dumps("float1")):
        (tmp_path / "precision.json").write_text(text)
        with pytest.raises(ValueError, match=r"precision.json is damaged"):
            _chosen(options)

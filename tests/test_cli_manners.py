"""The command line's manners: help, slips of the pen, words that are safe to show and to paste."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conjoin.cli import run
from conjoin.cli.verbs import VERBS
from conjoin.cli.voice import visible
from conjoin.cli.words import in_shell
from conjoin.families import reset, resolve


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manners")
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    frame = pd.DataFrame(
        {
            "case id": [f"u{i:03d}" for i in range(400)],
            "a": a,
            "b": a + rng.normal(size=400),
            "word": rng.choice(["=1+1", "-x", "plain"], 400),
            "kind": np.where(a + 0.3 * rng.normal(size=400) > 0, "yes", "no"),
        }
    )
    frame.to_csv(folder / "t a.csv", index=False)
    frame.to_csv(folder / "t.csv", index=False)
    line = f"fit {folder}/t.csv --target kind --family nb --predictor none -q -o {folder}/m"
    assert run(line.split()) == 0
    return folder


def test_every_verb_has_examples_and_a_group_and_fits_80_columns(capsys):
    for name, verb in VERBS.items():
        assert run([name, "-h"]) == 0
        out = capsys.readouterr().out
        for example in verb.examples:
            assert example.split()[0] == name
            assert f"conjoin {example}"[:60] in out
        assert max(map(len, out.splitlines())) <= 80
    assert run(["-h"]) == 0
    out = capsys.readouterr().out
    assert all(f"─ {verb.group} ─" in out for verb in VERBS.values())


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("fit @t.csv --target kinds", "kind"),
        ("fit @t.csv --target kind --family circut", "circuit"),
        ("fit @t.csv --target kind --family circuit:widht=3", "width"),
        ("fit @t.csv --target kind --groups worde", "word"),
        ("sample @m --given wrd=plain", "word"),
        ("sample @m --y yess", "yes"),
        ("decide @m @t.csv --keep caseid", "case id"),
        ("evaluate @m @t.csv --target kinde", "kind"),
    ],
)
def test_slips_get_a_question(say, line, meant):
    assert f"Did you mean {meant!r}?" in say(line, 2).err


def test_a_family_with_settings():
    assert resolve("circuit:width=8").width == 8
    assert resolve("mixture:components=3") == resolve("mixture").set_params(components=3)
    with pytest.raises(ValueError, match="'depth' is no setting of 'circuit'"):
        resolve("circuit:depth=3")
    with pytest.raises(ValueError, match="circuit:width=wide: width takes a whole number or None"):
        resolve("circuit:width=wide")


def test_settings_within_a_setting():
    found = resolve("multimodal:strings.reading=0.3,strings.steps=500,columns=mixture")
    assert found.strings == {"reading": 0.3, "steps": 500}
    assert found.columns == "mixture"
    again = reset(found, "multimodal:strings.steps=7")
    assert again.strings == {"reading": 0.3, "steps": 7}
    assert reset(found, "multimodal") is found
    with pytest.raises(ValueError, match=r"strings has no setting 'readng'.*'reading'"):
        resolve("multimodal:strings.readng=0.3")
    with pytest.raises(ValueError, match="reading takes a number"):
        resolve("multimodal:strings.reading=much")
    with pytest.raises(ValueError, match=r"'columns\.a' is no setting"):
        resolve("multimodal:columns.a=1")
    with pytest.raises(ValueError, match="strings takes settings of its own"):
        resolve("multimodal:strings=5")
    words = "give family=Multimodal(strings={'reading': 0.3}), or choose another."
    assert in_shell(words) == ("give --family multimodal:strings.reading=0.3, or choose another.")


def test_next_commands_can_be_pasted(say, home):
    said = say("check @t.csv -q")
    assert run(["check", str(home / "t a.csv"), "--target", "kind"]) == 0
    assert said.out == ""


def test_paths_with_blanks_are_quoted(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["check", str(home / "t a.csv"), "--target", "kind"]) == 0
    out = capsys.readouterr().out
    assert f"'{home}/t a.csv'" in out
    assert "--schema 't a-schema.json'" in out
    assert json.loads((tmp_path / "t a-schema.json").read_text())["target"] == "kind"


def test_traceback_on_request(say, home):
    assert "Traceback" not in say("info no-model", 2).err
    err = say("info no-model --traceback", 2).err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("conjoin: ")


def test_commands_to_the_terminal_are_shown_and_not_sent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a\x1b[31m": rng.normal(size=60), "b": rng.choice(["x\x1b]0;t", "y"], 60)}
    )
    frame["c\x9b2J"] = 1
    pytest.importorskip("pyarrow")
    frame.to_parquet("t.parquet")
    for line in ("check t.parquet", "check t.parquet --json", "fit t.parquet --target nope"):
        run(line.split())
        found = capsys.readouterr()
        text = found.out + found.err
        assert "\x1b" not in text, line
        assert "\x9b" not in text
    assert visible("a\x1bb\tc") == "a\\x1bb\tc"
    run(["check", "t.parquet", "--json", "--force"])
    assert json.loads(capsys.readouterr().out)["columns"][0]["name"] == "a\x1b[31m"


def test_verdicts_carry_the_row_the_id_and_what_is_kept(say, home):
    out = say("decide @m @t.csv --max-error none --keep word -o - -q").out
    table = pd.read_csv(io.StringIO(out))
    frame = pd.read_csv(home / "t.csv")
    assert table.columns[:3].tolist() == ["row", "case id", "word"]
    assert table["row"].tolist() == list(range(1, 401))
    assert (table["case id"] == frame["case id"]).all()
    assert (table["word"] == frame["word"]).all()
    chunks = say("decide @m @t.csv --max-error none --chunk-rows 150 -o - -q").out
    again = pd.read_csv(io.StringIO(chunks))
    assert again["row"].tolist() == list(range(1, 401))
    assert (again["case id"] == frame["case id"]).all()
    assert (again["verdict"] == table["verdict"]).all()


def test_formulas_in_a_text_file_are_told(say):
    err = say("decide @m @t.csv --max-error none --keep word -o v.csv").err
    assert "Cells begin with =, +, - or @" in err
    assert "of 'word'" in err
    pytest.importorskip("pyarrow")
    assert (
        "Cells begin" not in say("decide @m @t.csv --max-error none --keep word -o v.parquet").err
    )


def test_utf8_whatever_the_locale(home, tmp_path):
    pd.DataFrame({"größe": np.arange(60) % 7, "名": np.arange(60) % 5}).to_csv(
        tmp_path / "u.csv", index=False
    )
    done = subprocess.run(
        [sys.executable, "-m", "conjoin", "check", "u.csv"],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode("utf-8")
    assert "größe" in out
    assert "名" in out


def test_samples_without_a_seed_say_which_it_was(say):
    first = say("sample @m -n 5")
    assert "--seed" in first.err
    seed = first.err.split("--seed ")[1].split()[0]
    assert say(f"sample @m -n 5 --seed {seed}").out == first.out
    assert say("sample @m -n 5").out != first.out
    assert "--seed" not in say("sample @m -n 5 -o -").err
    assert say("sample @m -n 5 -o - -q").err == ""


def test_quality_without_held_out_rows_says_what_it_is(say, home):
    pd.read_csv(home / "t.csv")[["a", "b"]].to_csv("real.csv", index=False)
    found = say("quality real.csv real.csv")
    assert "nan" not in found.out
    assert "No column tells them apart." in " ".join(found.out.split())
    assert "Without --holdout" in " ".join(found.out.split())


def test_the_beginning_of_a_string_can_be_given():
    from conjoin.cli.words import given_of
    from conjoin.codecs.sequence import Prefix
    from conjoin.codecs.table.schema import Column, Schema

    schema = Schema((Column("note", "text"),))
    found = given_of(["note=wo..."], schema)["note"]
    assert isinstance(found, Prefix)
    assert found == "wo"
    assert not isinstance(given_of(["note=wo"], schema)["note"], Prefix)


def test_fit_speaks_before_the_libraries_are_there(home, tmp_path):
    code = (
        "import sys, conjoin.cli.learn as learn, conjoin.cli.voice as voice\n"
        "note = voice.Voice.note\n"
        "def first(self, *texts):\n"
        "    note(self, *texts)\n"
        "    assert 'torch' not in sys.modules\n"
        "    sys.exit(0)\n"
        "voice.Voice.note = first\n"
        "from conjoin.cli import run\n"
        f"run(['fit', {str(home / 't.csv')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: Fitting a model of ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "impute @m @t.csv --alternatives 3",
            "This model was asked for alternatives of a string, but declares no string. Use a "
            "model without --target, fitted to a table with a column of strings.",
        ),
        ("impute @m @t.csv --y maybe", "maybe"),
        ("sample @m --y maybe", "maybe"),
        ("sample @m --given nothing=1", "nothing"),
        ("sample @m --strip way.png", "--strip is for models of pictures without a target"),
        ("counterfactual @m @t.csv --to maybe", "maybe"),
        ("evaluate @m @t.csv --max-error none=0.1", "none"),
    ],
)
def test_what_is_refused_anyway_is_refused_before_any_note(say, monkeypatch, line, told):
    monkeypatch.setattr("conjoin.model.words.out_of_time", lambda facts: ["a very long note"])
    err = say(line, code=2).err
    assert told in err
    assert "a very long note" not in err
    assert "Density" not in err
    assert err.count("\n") == 1


def test_classes_of_python_are_no_words_of_a_shell():
    assert in_shell("Use JointDensity.") == "Use a model without --target."
    assert in_shell("among the columns of a JointDensity, whose") == (
        "among the columns of a model without --target, whose"
    )
    assert in_shell("no number: it; for classes use JointClassifier.") == (
        "no number: it; for classes say --task classes."
    )
    code = "JointRegressor().fit(molecules, y), conjoin.JointDensity.load"
    assert in_shell(code) == code


def test_a_column_is_given_once():
    from conjoin.cli.words import given_of
    from conjoin.codecs.table.schema import Column, Schema

    schema = Schema((Column("a", "category", levels=("x", "y")),))
    with pytest.raises(ValueError, match="--given names the column 'a' twice"):
        given_of(["a=x", "a=y"], schema)

"""The command line: its frozen options, what goes where, and each verb on small tables."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from conjoin.cli import app, run
from conjoin.cli.voice import Voice
from conjoin.cli.words import grouped, in_shell, schema_file
from conjoin.training import loop

LIMITS = ["--max-bytes", "--max-columns", "--max-ratio"]
TELL = ["--json", "--quiet", "-q"]
OUT = ["--force", "--out", "-o"]
CLUSTER = ["--ray", "--workers"]
OPTIONS = {
    "check": [*LIMITS, *TELL, "--force", "--missing", "--schema", "--target"],
    "fit": [
        *LIMITS, *TELL, *OUT, "--calibration", "--chunk-rows", "--device", "--emphasis", "--family",
        "--groups", "--levels",
        "--max-kwh", "--max-time", "--missing", "--missingness", "--part", "--precision",
        "--predictor", "--range", "--resize", "--resume", "--schema", "--seed", "--shard",
        "--size", "--skip-broken", "--speed", "--start-from", "--target",
        "--task", "--time", "--types", "--unlabelled",
    ],
    "compare": [
        *LIMITS, *TELL, "--family", "--max-kwh", "--max-time", "--missing", "--price", "--seed",
        "--target", "--task",
    ],
    "predict": [
        *LIMITS, *TELL, *OUT, *CLUSTER, "--device", "--chunk-rows", "--part", "--skip-broken",
    ],
    "decide": [
        *LIMITS, *TELL, *OUT, *CLUSTER, "--device", "--chunk-rows", "--energy", "--false-alarm",
        "--keep",
        "--log", "--max-error", "--max-width", "--part", "--reasons", "--skip-broken",
    ],
    "sample": [
        *TELL, *OUT, *CLUSTER, "--candidates", "--chunk-rows", "--device", "--even", "--given",
        "--guidance", "--mark", "--precision", "--seed", "--steps", "--strip", "--tails",
        "--temperature",
        "--top-k", "--top-p", "--where", "--y", "-n",
    ],
    "impute": [
        *LIMITS, *TELL, *OUT, "--alternatives", "--device", "--draws", "--given", "--hide",
        "--mark", "--mask", "--part",
        "--seed", "--skip-broken", "--strategy", "--tails", "--y",
    ],
    "counterfactual": [
        *LIMITS, *TELL, *OUT, "--device", "--keep", "--mark", "--part", "--seed", "--skip-broken",
        "--to", "-n",
    ],
    "evaluate": [
        *LIMITS, *TELL, "--device", "--false-alarm", "--max-error", "--part", "--skip-broken",
        "--target",
    ],
    "design": [
        *TELL, *OUT, "--device", "--how", "--keep", "--mark", "--method", "--proposals",
        "--reference", "--seed", "--want", "-n",
    ],
    "quality": [*LIMITS, *TELL, "--holdout", "--rows", "--seed", "--target"],
    "audit": [
        *LIMITS, *TELL, *OUT, "--by", "--canaries", "--card", "--device", "--false-alarm",
        "--holdout", "--max-error", "--seed", "--shadows",
    ],
    "adapt": [*LIMITS, *TELL, *OUT, "--device", "--density", "--max-time", "--part", "--seed"],
    "distil": [*LIMITS, *TELL, *OUT, "--device", "--max-time", "--part", "--seed", "--steps"],
    "drift": [*LIMITS, *TELL, "--family", "--level", "--seed", "--missing", "--max-time"],
    "report": [
        *LIMITS, *OUT, "--device", "--false-alarm", "--mark", "--max-error", "--part", "--quiet",
        "--show-rows", "--skip-broken", "--target", "-q",
    ],
    "info": ["--json"],
    "verify": ["--json", "--key", "--model"],
    "serve": [
        "--capacity", "--chat-template", "--device", "--host", "--key", "--max-rows",
        "--max-waiting", "--name", "--port", "--precision", "--prompts", "--quiet", "--watermark",
        "-q",
    ],
    "chat": [
        "--abstain", "--capacity", "--chat-template", "--device", "--false-alarm",
        "--max-risk", "--max-tokens", "--precision", "--prompts", "--quiet", "--seed", "--system",
        "--temperature", "--top-p", "-q",
    ],
    "calibrate": [
        *TELL, "--capacity", "--chat-template", "--device", "--draws", "--force", "--max-tokens",
        "--out", "-o",
    ],
    "answer": [*TELL, *OUT, "--device", "--false-alarm", "--max-risk"],
    "families": ["--json"],
    "test-family": ["--json", "--only"],
}  # fmt: skip


def test_the_options_are_these():
    import typer

    group = typer.main.get_command(app)
    found = {}
    for verb, command in group.commands.items():
        options = [
            option
            for each in command.params
            if each.param_type_name == "option"
            for option in each.opts
        ]
        found[verb] = sorted(option for option in options if option != "--help")
    assert found == {verb: sorted(options) for verb, options in OPTIONS.items()}
    assert [option for each in group.params for option in each.opts] == [
        "--version",
        "--traceback",
        "--install-completion",
        "--show-completion",
    ]


# -------------------------------------------------------------------------------- tables and models


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with tables and three small models, fitted by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    tumours = X.iloc[:, :5].assign(
        site=rng.choice(["left", "right"], len(X)), diagnosis=y.map({0: "malignant", 1: "benign"})
    )
    tumours.iloc[::50, 1] = np.nan
    tumours.iloc[:450].to_csv(folder / "tumours.csv", index=False)
    tumours.iloc[450:].to_csv(folder / "new.csv", index=False)
    load_diabetes(as_frame=True, scaled=False).frame.round(2).to_csv(
        folder / "diabetes.csv", index=False
    )
    load_iris(as_frame=True).frame.to_csv(folder / "iris.csv", index=False)
    for command in ("tumours.csv --target diagnosis", "diabetes.csv --target target", "iris.csv"):
        assert (
            run(
                [
                    "fit",
                    *f"{folder}/{command}".split(),
                    "--family",
                    "nb",
                    "-q",
                    "-o",
                    f"{folder}/{command.split('.')[0]}-model",
                ]
            )
            == 0
        )
    return folder


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    """An empty working directory beside the tables."""
    monkeypatch.chdir(tmp_path)
    for entry in home.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def said(capsys, line, code=0):
    """(stdout, stderr) of one command line, which must end with ``code``."""
    capsys.readouterr()
    assert run(line.split()) == code, capsys.readouterr()
    return capsys.readouterr()


def test_version_and_help(capsys):
    assert said(capsys, "--version").out.startswith("conjoin 0.")
    assert "counterfactual" in said(capsys, "").out
    for verb in OPTIONS:
        assert said(capsys, f"{verb} --help").out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fitt", "Did you mean 'fit'"),
        ("fit", "Missing argument"),
        ("fit a.csv --targt y", "--target"),
        ("fit no.csv --target y", "no.csv does not exist"),
        ("sample no-model -n 0", "Invalid value for '-n'"),
        ("decide no-model new.csv", "no-model does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(here, capsys, line, words):
    found = said(capsys, line, 2)
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert found.err.startswith("conjoin: ")
    assert words in found.err


def test_check_writes_a_schema_once(here, capsys):
    found = said(capsys, "check tumours.csv --target diagnosis")
    assert "450 rows, 7 columns. The target 'diagnosis' has 2 classes" in found.out
    assert "2.0%" in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    schema = json.loads((here / "tumours-schema.json").read_text())
    assert [column["name"] for column in schema["columns"]][-1] == "diagnosis"
    said(capsys, "check tumours.csv --target diagnosis")  # the same again is no harm
    (here / "tumours-schema.json").write_text(json.dumps(schema | {"notices": ["edited"]}))
    assert "--force" in said(capsys, "check tumours.csv --target diagnosis", 2).err
    assert "edited" in (here / "tumours-schema.json").read_text()
    assert (
        json.loads(said(capsys, "check tumours.csv --target diagnosis --force --json").out)[
            "target"
        ]
        == "diagnosis"
    )


def test_an_edited_schema_is_used(here, capsys):
    said(capsys, "check iris.csv --target target --schema s.json -q")
    schema = json.loads((here / "s.json").read_text())
    schema["columns"][0]["type"] = "category"
    (here / "s.json").write_text(json.dumps(schema))
    said(
        capsys, "fit iris.csv --target target --schema s.json --family nb --predictor none -o m -q"
    )
    columns = json.loads((here / "m" / "config.json").read_text())["codec"]["schema"]["columns"]
    assert columns[0]["type"] == "category"


def test_fit_tells_what_it_did(here, capsys):
    found = said(capsys, "fit tumours.csv --target diagnosis --family nb -o m")
    assert "The target 'diagnosis' has 2 classes" in found.err
    for words in (
        "to calibrate",
        "naive_bayes",
        "log-loss",
        "kWh",
        "The model lies in m",
        "conjoin decide m new.csv",
    ):
        assert words in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    assert sorted(path.name for path in here.iterdir() if not path.is_symlink()) == ["m"]
    assert said(capsys, "fit tumours.csv --target diagnosis --family nb -o m", 2).err.endswith(
        "overwrite it with --force.\n"
    )
    quiet = said(capsys, "fit tumours.csv --target diagnosis --family nb -o m --force -q --json")
    assert quiet.err == ""
    assert json.loads(quiet.out)["promises"]["calibration_rows"] > 60


@pytest.mark.parametrize(
    ("line", "task"),
    [
        ("--target target", "classes"),
        ("--target target --task number", "number"),
        ("--target sepal_length", "number"),
        ("--target target --task density", "density"),
        ("", "density"),
    ],
)
def test_the_task_is_said(here, capsys, line, task):
    frame = pd.read_csv("iris.csv").rename(columns={"sepal length (cm)": "sepal_length"})
    frame.to_csv("flowers.csv", index=False)
    found = said(capsys, f"fit flowers.csv {line} --family nb --predictor none -q --json")
    assert json.loads(found.out)["task"] == task


def test_labels_of_a_column_with_gaps_stay_whole(here, capsys):
    frame = pd.read_csv("iris.csv")
    frame.loc[::10, "target"] = np.nan
    frame.to_csv("gaps.csv", index=False)
    said(capsys, "fit gaps.csv --target target --family nb -q")
    table = pd.read_csv(io.StringIO(said(capsys, "predict gaps-model gaps.csv -o -").out))
    assert list(table.columns) == ["target", "p(0)", "p(1)", "p(2)"]
    assert json.loads(said(capsys, "evaluate gaps-model gaps.csv --json").out)["accuracy"] > 0.9


def test_groups_times_and_unlabelled(here, capsys):
    frame = pd.read_csv("iris.csv").sample(frac=1, random_state=0)
    frame.assign(plant=np.arange(150) // 5, day=pd.date_range("2024-01-01", periods=150)).to_csv(
        "days.csv", index=False
    )
    options = (
        "--target target --groups plant --time day --unlabelled 2 --family nb --predictor "
        "none --json"
    )
    found = said(capsys, f"fit days.csv {options}")
    facts = json.loads(found.out)
    assert "plant" not in facts["columns"]
    assert "day" not in facts["columns"]
    assert "'day' (time) is not modelled" in found.err
    assert json.loads((here / "days-model" / "config.json").read_text())["target"]["labels"] == [
        0,
        1,
    ]


def test_the_answers_in_every_form(here, capsys):
    said(capsys, "predict tumours-model new.csv -o p.csv")
    said(capsys, "predict tumours-model new.csv -o p.parquet")
    table = pd.read_csv("p.csv")
    assert list(table.columns) == ["diagnosis", "p(benign)", "p(malignant)"]
    pd.testing.assert_frame_equal(table, pd.read_parquet("p.parquet"), check_dtype=False)
    assert json.loads(said(capsys, "predict tumours-model new.csv --json").out)["rows"] == 119
    assert "The first 20 of 119 rows" in said(capsys, "predict tumours-model new.csv").out
    assert "exists" in said(capsys, "predict tumours-model new.csv -o p.csv", 2).err
    assert "--json" in said(capsys, "predict tumours-model new.csv -o - --json", 2).err
    pd.read_csv("new.csv").to_parquet("new.parquet")
    assert (
        said(capsys, "predict tumours-model new.parquet -o -").out == (here / "p.csv").read_text()
    )
    assert list(
        pd.read_csv(
            io.StringIO(said(capsys, "predict diabetes-model diabetes.csv -o -").out)
        ).columns
    ) == ["mean", "low", "high"]


def test_decide(here, capsys):
    line = "decide tumours-model new.csv --max-error .2"
    found = said(capsys, f"{line} --log audit.jsonl")
    assert "accept" in found.out
    assert "unfamiliar (" in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    assert len((here / "audit.jsonl").read_text().splitlines()) == 119
    each = json.loads(
        said(
            capsys,
            "decide tumours-model new.csv --max-error malignant=.1 --max-error benign=.2 --json",
        ).out
    )
    assert each["max_error"] == {"malignant": 0.1, "benign": 0.2}
    assert sum(each["counts"].values()) == 119
    wide = json.loads(said(capsys, "decide diabetes-model diabetes.csv --max-width 1 --json").out)
    assert wide["counts"]["accept"] == 0
    assert "verdict" in said(capsys, "decide iris-model iris.csv").out
    for options in (
        "tumours-model new.csv --max-width 3",
        "iris-model iris.csv --max-error .1",
        "tumours-model new.csv --max-error benign",
    ):
        assert said(capsys, f"decide {options}", 2).out == ""
    assert (
        "needs 999 calibration rows"
        in said(capsys, "decide tumours-model new.csv --false-alarm .001", 2).err
    )


def test_what_no_confidence_can_keep_is_said_once(here, capsys):
    rng = np.random.default_rng(1)
    pd.DataFrame({"a": rng.normal(size=400), "y": rng.choice(["n", "p"], 400)}).to_csv(
        "noise.csv", index=False
    )
    said(capsys, "fit noise.csv --target y --family nb --predictor none -q")
    out = said(capsys, "decide noise-model noise.csv").out
    assert out.count("No confidence is high enough") == 1
    assert "keeps the asked" not in out


def test_sample(here, capsys):
    line = "sample tumours-model -n 30 --y malignant --given site=left --given mean"
    capsys.readouterr()
    assert run([*line.split()[:-1], "mean radius=15..20", "-o", "-"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(table) == 30
    assert set(table["site"]) == {"left"}
    assert set(table["diagnosis"]) == {"malignant"}
    assert table["mean radius"].between(15, 20).all()
    assert (
        said(capsys, "sample tumours-model -n 30 --given site=left,right --seed 3 -o -").out.count(
            "\n"
        )
        == 31
    )
    assert "never seen" in said(capsys, "sample tumours-model --given site=middle", 2).err
    assert "COLUMN=VALUE" in said(capsys, "sample tumours-model --given place=left", 2).err
    assert "no class" in said(capsys, "sample tumours-model --y maybe", 2).err
    assert (
        len(json.loads(said(capsys, "sample diabetes-model -n 3 --y 150 --json").out)["table"]) == 3
    )
    assert said(capsys, "sample iris-model -n 2 -o -").out.count("\n") == 3
    assert (
        "--missingness informative"
        in said(capsys, "sample tumours-model -n 2 -o drawn.csv --force").out
    )
    narrow = said(capsys, "sample tumours-model -n 2 --y malignant").out
    assert narrow.count("malignant") == 2
    assert max(map(len, narrow.splitlines())) <= 80


def test_impute(here, capsys):
    found = said(capsys, "impute tumours-model new.csv")
    assert "3 cells filled in 3 of 119 rows." in found.out
    said(capsys, "impute tumours-model new.csv -o full.csv -q")
    assert not pd.read_csv("full.csv").isna().any().any()
    several = pd.read_csv(
        io.StringIO(said(capsys, "impute tumours-model new.csv --draws 2 --seed 1 -o -").out)
    )
    pd.read_csv("new.csv").assign(draw=1, row=2).to_csv("own.csv", index=False)
    assert "a column 'draw'" in said(capsys, "impute tumours-model own.csv --draws 2", 2).err
    assert (
        "a column 'row'" in said(capsys, "counterfactual tumours-model own.csv --to benign", 2).err
    )
    assert several["draw"].value_counts().to_dict() == {1: 119, 2: 119}


def test_counterfactual(here, capsys):
    pd.read_csv("new.csv").query("diagnosis == 'malignant'").head(2).to_csv("two.csv", index=False)
    found = said(capsys, "counterfactual tumours-model two.csv --to benign --keep site -n 2")
    assert "->" in found.out
    table = pd.read_csv(
        io.StringIO(said(capsys, "counterfactual tumours-model two.csv --to benign -n 2 -o -").out)
    )
    assert list(table["row"].unique()) == [1, 2]
    # the label of the file is not that of the changed row
    assert "diagnosis" not in table and set(table["diagnosis before"]) == {"malignant"}
    assert (
        "a range such as"
        in said(capsys, "counterfactual diabetes-model diabetes.csv --to 7", 2).err
    )
    assert "no target" in said(capsys, "counterfactual iris-model iris.csv --to 7", 2).err


def test_evaluate_report_info(here, capsys):
    assert json.loads(said(capsys, "evaluate tumours-model new.csv --json").out)["accuracy"] > 0.8
    assert "accuracy" in said(capsys, "evaluate tumours-model new.csv").out
    assert "CRPS" in said(capsys, "evaluate diabetes-model diabetes.csv").out
    assert "log p(x)" in said(capsys, "evaluate iris-model iris.csv").out
    unlabelled = pd.read_csv("new.csv").drop(columns="diagnosis")
    unlabelled.to_csv("x.csv", index=False)
    assert "--target names another" in said(capsys, "evaluate tumours-model x.csv").err
    assert (
        "no column 'nothing'"
        in said(capsys, "evaluate tumours-model x.csv --target nothing", 2).err
    )
    assert "calibrate" in said(capsys, "info tumours-model").out
    for verb, words in (("info", "'' names no folder"), ("verify", "'' names no file")):
        assert run([verb, ""]) == 2
        assert words in capsys.readouterr().err
    assert json.loads(said(capsys, "info tumours-model --json").out)["target"] == "diagnosis"


def test_report(here, capsys, monkeypatch):
    from conjoin.estimators import base

    seen = []

    def write(self, path, X=None, y=None, *, show_rows=False, false_alarm=None, max_error=None):
        seen.append((X is None, y is None, show_rows, false_alarm, max_error))
        path.write_text("<html>")

    monkeypatch.setattr(base._JointEstimator, "report", write)
    assert said(capsys, "report tumours-model").out == "The report lies in report.html.\n"
    rates = "--false-alarm .1 --max-error .2"
    said(capsys, f"report tumours-model new.csv -o two.html --show-rows -q {rates}")
    assert seen == [(True, True, False, None, None), (False, False, True, 0.1, 0.2)]
    assert sorted(path.name for path in here.glob("*.html")) == ["report.html", "two.html"]
    assert "exists" in said(capsys, "report tumours-model", 2).err
    assert (
        "name one after the model"
        in said(capsys, "report tumours-model -o three.html --show-rows", 2).err
    )


# ---------------------------------------------------------------------------------------- long fits


def test_an_interrupted_fit_is_saved_and_goes_on(here, capsys, monkeypatch):
    line = "fit diabetes.csv --target target --predictor none -o m"
    keep = loop._Run.step

    def step(self, bar):
        if self.trained.epochs == 6:
            raise KeyboardInterrupt
        return keep(self, bar)

    monkeypatch.setattr(loop._Run, "step", step)
    assert "--resume --force goes on from m.partial" in said(capsys, line).err
    assert (here / "m" / "config.json").exists()
    monkeypatch.setattr(loop._Run, "step", keep)
    assert (
        "another table or other options" in said(capsys, f"{line} --resume --force --seed 1", 2).err
    )
    resumed = json.loads(said(capsys, f"{line} --resume --force --json -q").out)
    assert not (here / "m.partial").exists()
    whole = json.loads(said(capsys, f"{line}2 --json -q").out)
    assert resumed["trained"]["epochs"] == whole["trained"]["epochs"] > 6
    assert resumed["trained"]["best"] == pytest.approx(whole["trained"]["best"])


def test_max_time_and_nothing_to_resume(here, capsys):
    found = said(capsys, "fit diabetes.csv --target target --max-time 0.001 --resume --json -o m")
    assert "max_time" in json.loads(found.out)["trained"]["stopped"]
    assert "no m.partial to resume" in found.err


def test_an_interruption_outside_the_training_saves_nothing(here, capsys, monkeypatch):
    from conjoin.fitting import pipeline as fitting

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_calibrate", stop)
    found = said(capsys, "fit iris.csv --target target -o m", 130)
    assert "--resume goes on from m.partial" in found.err
    assert [path.name for path in here.glob("m*")] == ["m.partial"]


# ----------------------------------------------------------------------------------------- families


def test_families(capsys):
    assert "naive_bayes" in said(capsys, "families").out
    assert "circuit" in json.loads(said(capsys, "families --json").out)


def test_test_family(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_family.py").write_text(
        "from conjoin.families.classic.naive_bayes import NaiveBayesDensity as Mine\n"
    )
    (tmp_path / "broken_family.py").write_text("x = 1\nimport nothing_of_this_name\n")
    assert "0 failed" in said(capsys, "test-family mine_family.py:Mine --only normalisation").out
    assert json.loads(said(capsys, "test-family nb --only normalisation --json").out)["failed"] == 0
    assert "broken_family.py, line 2" in said(capsys, "test-family broken_family.py:Mine", 2).err
    assert "has no 'Yours'" in said(capsys, "test-family mine_family.py:Yours", 2).err
    assert "no file" in said(capsys, "test-family none.py:Yours", 2).err
    assert "no family" in said(capsys, "test-family nothing", 2).err


def test_a_family_that_fails_gives_exit_code_1(monkeypatch, capsys):
    from conjoin.testing import conformance

    failed = [conformance.Result("normalisation", "reals", False, 0.1, "sums to 2")]
    monkeypatch.setattr(conformance, "check_family", lambda family, only=None: failed)
    assert "sums to 2" in said(capsys, "test-family nb", 1).out


# ---------------------------------------------------------------------------------- pipes and words


def conjoin(line, folder, **options):
    command = f'"{sys.executable}" -m conjoin {line}'
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
        **options,
    )


def test_a_pipe(here):
    done = conjoin(
        f'predict tumours-model - -o - < new.csv | "{sys.executable}" -m conjoin check - '
        "--schema s.json",
        here,
    )
    assert done.returncode == 0, done.stderr
    assert "119 rows, 3 columns" in done.stdout
    closed = conjoin("sample tumours-model -n 20000 -o - | head -1", here)
    assert closed.stdout.startswith("mean radius,")
    assert "carries no mark" in closed.stderr and closed.stderr.count("\n") == 1


def test_a_target_that_stays_empty_is_told(here, capsys):
    rows = pd.read_csv("tumours.csv").head(4)
    rows.assign(diagnosis=None).to_csv("x.csv", index=False)
    assert "4 rows lack 'diagnosis'" in said(capsys, "impute tumours-model x.csv -o full.csv").err
    assert pd.read_csv("full.csv")["diagnosis"].isna().all()


def test_notes_are_said_once(here, capsys):
    pd.read_csv("new.csv").drop(columns=["site", "diagnosis"]).to_csv("x.csv", index=False)
    for line in (
        "predict tumours-model x.csv",
        "decide tumours-model x.csv --max-error .2",
        "evaluate tumours-model x.csv",
    ):
        assert said(capsys, line).err.count("lacks the column 'site'") == 1


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        (
            "if it means missing, say missing={'a b': [-9]}.",
            "if it means missing, say --missing 'a b=-9'.",
        ),
        ("say missing={'a': ['?', 'NA']}.", "say --missing 'a=?' --missing 'a=NA'."),
        (
            "say types={'a': 'category'}.",
            "set its type to 'category' in the schema that `conjoin check` writes, and give it "
            "with --schema.",
        ),
        ("overwrite it with force=True.", "overwrite it with --force."),
    ],
)
def test_remedies_are_in_the_words_of_the_shell(python, shell):
    schema_file.set(("", False))  # which a command of another test may have named
    assert in_shell(python) == shell


def test_the_doubts_of_real_columns_are_translated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 60, 200),
            "word": rng.choice(["a", "b", "?"], 200),
            "code": rng.integers(0, 4, 200),
        }
    )
    frame.loc[:9, "age"] = -999
    frame.assign(code2=frame["code"]).to_csv("t.csv", index=False)
    out = " ".join(said(capsys, "check t.csv").out.split())
    assert "say --missing 'age=-999'" in out
    assert "say --missing 'word=?'" in out
    assert "Likewise 'code2'." in out
    assert "={" not in out
    found = json.loads(
        said(capsys, "check t.csv --missing age=-999 --missing ? --force --json").out
    )
    assert found["columns"][0]["missing_share"] == 0.05
    assert found["columns"][1]["levels"] == ["a", "b"]


def test_sentences_are_grouped():
    assert grouped(["Column 'a' is 1.5.", "Column 'b' is -2.", "Other."]) == [
        "Column 'a' is 1.5. Likewise 'b'.",
        "Other.",
    ]


def test_json_and_the_table_do_not_share_standard_output():
    with pytest.raises(ValueError, match="not both"):
        Voice(as_json=True, taken=True)

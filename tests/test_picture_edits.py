"""Pictures altered, completed and followed to another place on the command line; a fit that begins
from a model of pictures.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_picture_diffusion import SMALL, spots

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.codecs.image.codec import ImageCodec
from conjoin.training.progress import time_words

pillow = pytest.importorskip("PIL.Image")


def size_of(path):
    with pillow.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def fitted():
    X, y = spots(500)
    return JointClassifier(family=SMALL.set_params(steps=250), random_state=0).fit(
        X, np.where(y, "spot", "plain")
    )


@pytest.fixture(scope="module")
def home(fitted, tmp_path_factory):
    """The model, six pictures in a folder, a mask, and a model that can't edit."""
    folder = tmp_path_factory.mktemp("edits")
    fitted.save(folder / "model")
    X, y = spots(6, seed=5)
    for row, (image, label) in enumerate(zip(X, y, strict=True)):
        path = folder / "new" / ("plain", "spot")[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image).save(path)
    mask = np.zeros((16, 16), "uint8")
    mask[3:9, 4:7] = 255
    pillow.fromarray(mask).save(folder / "mask.png")
    JointClassifier(None, "naive_bayes").fit(spots(60)[0], spots(60)[1]).save(
        folder / "plain-model"
    )
    return folder


# ----------------------------------------------------------------------------------- counterfactual


def test_a_panel_arrays_and_a_table_of_counterfactuals(say, fitted):
    said = json.loads(say("counterfactual @model @new/spot -o panel.png --json -q").out)
    assert (
        size_of("panel.png")[0] > 300
        and said["out"] == "panel.png"
        and said["rows"] == len(said["table"])
    )
    assert {row["before"] for row in said["table"]} <= {"plain", "spot"} and all(
        row["before"] != row["to"] for row in said["table"]
    )
    say("counterfactual @model @new/spot --to plain -o c.npz -q")
    with np.load("c.npz") as found:
        assert np.array_equal(found["difference"], found["altered"].astype(int) - found["original"])
        assert (fitted.predict(found["altered"][found["found"]]) == "plain").all()
    say("counterfactual @model @new --to plain -o c.csv -q")
    assert list(pd.read_csv("c.csv")) == [
        "file",
        "before",
        "to",
        "found",
        "probability",
        "familiarity",
        "changed",
        "changed_by_a_tenth",
        "already",
    ]


def test_pictures_that_are_answered_so_already_stay_as_they_are(say, fitted):
    X, _ = spots(8, seed=5)
    answers = fitted.predict(X)
    found = fitted.counterfactual(X, to="plain")
    assert np.array_equal(found.already, answers == "plain") and 0 < found.already.mean() < 1
    kept = found.already
    assert np.array_equal(found.altered[kept], X[kept]) and not found.found[kept].any()
    assert not found.changed[kept].any() and not found.share[kept].any()
    proba = fitted.predict_proba(X)[:, list(fitted.classes_).index("plain")]
    assert np.allclose(found.probability[kept], proba[kept])
    said = say("counterfactual @model @new/plain --to plain")
    assert "2 of 2 pictures are answered so already; they stay as they are" in said.err
    assert "already" in said.out
    table = json.loads(say("counterfactual @model @new --to plain --json -q").out)["table"]
    assert {row["already"] for row in table} == {True, False}
    say("counterfactual @model @new/plain --to plain -o same.png")


def test_a_change_leaves_the_rest_untouched_to_the_bit(fitted):
    X, y = spots(12, seed=7)
    found = fitted.counterfactual(X[y == 1][:4])
    moved = found.difference != 0
    assert found.changed == pytest.approx(moved.mean((1, 2)))
    assert found.share == pytest.approx((np.abs(found.difference) > 25.5).mean((1, 2)))
    # what is not changed is most of the picture, not a veil of small differences over all of it
    assert (found.changed[found.found] < 0.5).all() and found.found.any()


def test_a_folder_has_one_panel_for_each_picture(say):
    assert "p(to)" in say("counterfactual @model @new/plain -o c/").out
    assert sorted(Path("c").iterdir())[0].name.startswith("000-")
    assert "exists" in say("counterfactual @model @new/plain -o c/", 2).err


# ------------------------------------------------------------------------------------------- impute


def test_completions_come_best_first_and_keep_what_is_known(say, fitted, home):
    say("impute @model @new --hide ..:8.. --draws 3 -o i.npz -q")
    with np.load("i.npz") as found:
        original = found["original"]
        completed = found["completed"]
        log_prob = found["log_prob"]
        assert found["hidden"][:, 8:].all() and not found["hidden"][:, :8].any()
    assert completed.shape == (6, 3, 16, 16) and (np.diff(log_prob, axis=1) <= 0).all()
    assert (completed[:, :, :, :8] == original[:, None, :, :8]).all() and (
        completed[:, 0] != completed[:, 1]
    ).any()
    assert np.allclose(log_prob[:, 0], fitted.score_samples(completed[:, 0]))
    say("impute @model @new --mask @mask.png --draws 2 --y spot -o sheet.png -q")
    assert size_of("sheet.png") == (4 * 64 + 3 * 2, 6 * 64 + 5 * 2)
    say("impute @model @new --hide top --mask @mask.png -o each/ -q")
    assert len(list(Path("each").iterdir())) == 6
    say("impute @plain-model @new --hide 2..4:.. --draws 2 -o i.csv -q")
    assert pd.read_csv("i.csv")["rank"].tolist() == [1, 2] * 6


def test_a_sheet_works_out_what_it_shows(say, fitted, home, monkeypatch):
    monkeypatch.setattr("conjoin.cli.edits.MAX_SHEET_ROWS", 2)
    monkeypatch.setattr("conjoin.cli.edits.MAX_PICTURES", 1)
    asked = []
    whole = type(fitted).completions

    def counted(self, X, *options):
        asked.append(len(X))
        return whole(self, X, *options)

    monkeypatch.setattr(type(fitted), "completions", counted)
    said = say("impute @model @new --hide top --draws 2 -o sheet.png")
    assert "shows the first 2 of 6 pictures, and only these are worked out" in said.err
    assert "completing pictures" in said.err and asked == [2]
    assert size_of("sheet.png") == (4 * 64 + 3 * 2, 2 * 64 + 2)
    say("impute @model @new --hide top --draws 2 -o all.npz -q")
    with np.load("all.npz") as found:
        assert len(found["completed"]) == 6
    said = say("counterfactual @model @new/spot --to plain -o panel.png --json")
    assert "The panel shows the first 1 of" in said.err
    assert len(json.loads(said.out)["table"]) == 1


def test_a_fit_that_did_few_of_its_steps_says_so_wherever_it_draws(say, home, tmp_path):
    X, y = spots(150, seed=1)
    family = SMALL.set_params(steps=5000)
    short = JointClassifier(family=family, random_state=0, max_time=0.5).fit(X, y)
    trained = short.model_.card["trained"]
    assert trained["planned"] == 5000 and trained["steps"] < 1000
    words = short.model_.card["notices"][-1]
    assert words.startswith(f"The fit did {trained['steps']:,} of its 5,000 planned steps (")
    needed = trained["seconds"] / trained["steps"] * 5000
    assert f"All take about {time_words(needed)}: give it more with max_time=..." in words
    short.save(tmp_path / "short")
    shell = "may be little more than noise"
    assert "give it more with --max-time" in say("sample short -n 2 -o a.npz").err
    assert shell in say("impute short @new --hide top -o b.csv").err
    assert shell in say("counterfactual short @new/spot --to 0 -o c.csv").err
    short.report(tmp_path / "r.html")
    assert shell in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert shell not in say("sample @model -n 2 -o d.npz").err


def test_a_fit_says_after_its_first_steps_how_long_it_takes(capsys, monkeypatch):
    monkeypatch.setattr("conjoin.training.loop.MIN_TIMED_SECONDS", 0.0)
    monkeypatch.setattr("conjoin.training.loop.MIN_TIMED_STEPS", 1)
    monkeypatch.setattr("conjoin.training.loop.MIN_TOLD_SECONDS", 0.0)
    X, y = spots(60, seed=1)
    family = SMALL.set_params(steps=5000)
    JointClassifier(family=family, max_time=0.5, verbose=True).fit(X, y)
    said = " ".join(capsys.readouterr().err.split())
    told = (
        r"Pictures of 16 x 16 pixels: all 5,000 steps take about .* here, in \d+\.\d GiB of "
        r"memory; max_time of .* s ends it after"
    )
    assert re.search(told, said)


def test_pictures_beyond_a_fit_are_refused_with_a_way_out():
    X = np.zeros((3, 256, 256), np.uint8)
    with pytest.raises(ValueError, match=r"256 x 256 pixels, 65,536 numbers .*from_pretrained"):
        JointDensity(family=SMALL).fit(X)
    assert ImageCodec.of(X[:, :128]).too_large == ""


def test_completions_of_tables_are_ranked_too():
    X = pd.DataFrame({"a": np.arange(80) % 4, "b": np.arange(80) % 4 + np.arange(80) % 3})
    model = JointClassifier(None, "naive_bayes").fit(X, np.arange(80) % 2)
    gaps = X.astype(float).head(5).mask(np.eye(5, 2, dtype=bool))
    filled, log_prob = model.completions(gaps, 4)
    assert (
        len(filled) == 4
        and (np.diff(log_prob, axis=0) <= 0).all()
        and filled[0].index.equals(gaps.index)
    )
    assert np.allclose(log_prob, [model.score_samples(each) for each in filled])
    filled, log_prob = model.completions(gaps, 4, y=1)
    assert np.allclose(log_prob[0], model.predict_joint_log_proba(filled[0])[:, 1])
    with pytest.raises(ValueError, match="at least 1"):
        model.completions(gaps, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("counterfactual @plain-model @new -o p.png", "no edits"),
        ("counterfactual @model @new --to cat", "no class 'cat'; choose from plain, spot"),
        ("counterfactual @model @new -o p.jpg", "one of .png, .npz"),
        ("counterfactual @model @new --keep a", "--keep is about tables"),
        ("counterfactual @model t.csv", "X has none of the columns"),
        ("counterfactual @table-model @new", "model is of a table"),
        ("counterfactual @model @new -n 7", "-n is about tables"),
        ("impute @model @new --hide top -o c.tsv", "c.tsv"),
        ("impute @model @new -o p.png", "--hide or --mask must say"),
        (
            "impute @model @new --hide middle -o p.png",
            "takes top, bottom, left, right, or rows and columns",
        ),
        ("impute @model @new --hide 20..:.. -o p.png", "no pixel lies in"),
        ("impute @model @new --mask @new/spot -o p.png", "--mask must be one picture of 16 x 16"),
        ("impute @model t.csv --hide top", "--hide is about pictures"),
        ("adapt @model t.csv --part test -o m", "--part is about pictures"),
        (
            "fit t.csv -o m --start-from @model",
            "start_from has the column 'pixel 0,0', which X has not",
        ),
    ],
)
def test_what_cannot_be_meant_is_said(line, words, say, home):
    Path("t.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    if "table-model" in line:
        JointClassifier(None, "naive_bayes").fit(
            pd.DataFrame({"a": np.arange(60) % 7}), np.arange(60) % 2
        ).save(home / "table-model")
    assert re.search(words, say(line, 2).err)


# -------------------------------------------------------------------------------------------- adapt


def test_pictures_lead_a_model_to_another_place_without_drawing_any(say, fitted, monkeypatch):
    for module in ("conjoin.joints.reweighted", "conjoin.questions.label_shift"):
        monkeypatch.setattr(f"{module}.log_shares", None)  # which draws
    said = json.loads(say("adapt @model @new -o there --json -q").out)
    assert said["rows"] == 6 and conjoin.load("there").model_.facts["adapted"]["rows"] == 6
    X, y = spots(300, seed=8)
    found = fitted.adapt(X[np.r_[np.flatnonzero(y == 1)[:20], np.flatnonzero(y == 0)]])
    assert found.change_.new[0] > 0.75
    assert fitted.model_.facts["shares"] @ np.exp(
        found.model_.joint.log_weight.numpy()
    ) == pytest.approx(1)


# --------------------------------------------------------------------------------------- start_from


def test_a_fit_goes_on_from_a_model_also_with_other_labels(say, fitted, home):
    X, y = spots(200, seed=3)
    still = SMALL.set_params(steps=1, rate=1e-7)
    same = JointClassifier(family=still, start_from=home / "model").fit(
        X, np.where(y, "spot", "plain")
    )
    assert np.allclose(same.score_samples(X[:9]), fitted.score_samples(X[:9]), rtol=1e-3)
    assert np.allclose(same.predict_proba(X), fitted.predict_proba(X), atol=0.05)
    other = JointClassifier(family=still, start_from=fitted).fit(
        X, np.where(y, "spot", np.where(X[:, 0, 0] > 90, "bright", "dark"))
    )
    assert np.allclose(other.score_samples(X[:9]), fitted.score_samples(X[:9]), rtol=1e-3)
    assert other.classes_.tolist() == ["bright", "dark", "spot"]
    assert np.corrcoef(other.predict_proba(X)[:, 2], fitted.predict_proba(X)[:, 1])[0, 1] > 0.95
    alone = JointDensity(family=still, start_from=fitted).fit(X)
    told = JointClassifier(family=still, start_from=alone).fit(X, y)
    assert np.allclose(told.score_samples(X[:9]), alone.score_samples(X[:9]), rtol=1e-3)
    with pytest.raises(ValueError, match=r"another size: its settings are size=0\.25"):
        JointClassifier(family=still.set_params(size=0.5), start_from=fitted).fit(X, y)
    say("fit @new -o again --start-from @model --max-time 1 -q")
    assert conjoin.load("again").model_.facts["started_from"]["rows"] == fitted.model_.facts["rows"]

"""The command line with pictures: a folder in, answers by file name, drawn pictures out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import conjoin
from conjoin.cli import run

pillow = pytest.importorskip("PIL.Image")


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(array).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Digits as pictures of 256 greys: a split folder, the same in an .npz, and models of both."""
    folder = tmp_path_factory.mktemp("pictures")
    X, y = load_digits(return_X_y=True)
    X = (X[y < 3].reshape(-1, 8, 8) * 15).astype("uint8")
    y = y[y < 3]
    arrays = {}
    for part, rows in (("train", slice(0, 300)), ("test", slice(300, 400))):
        for row, (image, label) in enumerate(zip(X[rows], y[rows], strict=True)):
            picture(
                folder / "split" / part / ("zero", "one", "two")[label] / f"{row:03d}.png", image
            )
        arrays |= {f"{part}_images": X[rows], f"{part}_labels": y[rows][:, None]}
    np.savez(folder / "digits.npz", **arrays)
    np.savez(folder / "plain.npz", images=X[:300])
    for data, out in (
        ("split", "folder-model"),
        ("digits.npz", "npz-model"),
        ("plain.npz", "density-model"),
    ):
        assert (
            run(
                [
                    "fit",
                    f"{folder}/{data}",
                    "-o",
                    f"{folder}/{out}",
                    "--family",
                    "nb",
                    "--predictor",
                    "none",
                    "-q",
                ]
            )
            == 0
        )
    return folder


def test_a_folder_becomes_a_model_with_its_labels(say, home):
    said = say("fit @split/train -o model --family nb --predictor none --size 6")
    assert (
        "300 pictures of 6 x 6 pixels, 3 labels" in said.err
        and "6 x 6 pixels, grey, 256 levels each" in said.out
    )
    assert "conjoin decide model new/" in said.out
    model = conjoin.load("model")
    assert model.model_.codec.kind == "image" and model.classes_.tolist() == ["one", "two", "zero"]
    assert model.model_.target.name == "label" and model.model_.facts["pictures"] == {
        "size": [6, 6]
    }
    # scaled as at the fit
    table = json.loads(say("predict model @split/test --json -q").out)["table"]
    assert len(table) == 100 and table[0]["file"] == "one/000.png"


def test_parts_are_chosen_and_said(say, home):
    said = say("fit @digits.npz -o model --family nb --predictor none")
    assert "the part 'train' is taken (--part)" in said.err and conjoin.load(
        "model"
    ).classes_.tolist() == [0, 1, 2]
    found = json.loads(say("evaluate @npz-model @digits.npz --json").out)
    assert found["rows"] == 100 and found["accuracy"] > 0.9 and 0 < found["bits_per_dim"] < 8
    assert json.loads(say("evaluate @npz-model @digits.npz --part train --json").out)["rows"] == 300


def test_answers_begin_with_the_file(say, home):
    say("predict @folder-model @split --part test -o p.csv")
    say("decide @folder-model @split/test -o d.csv --max-error .2")
    p = pd.read_csv("p.csv")
    d = pd.read_csv("d.csv")
    assert p.columns[:2].tolist() == ["file", "label"] and d.columns[0] == "file" and "verdict" in d
    assert (p["label"] == p["file"].str.split("/").str[1]).mean() > 0.9
    one = json.loads(say("predict @folder-model @split/test/one/000.png --json").out)["table"]
    assert one[0]["file"] == "000.png" and one[0]["label"] == p["label"][0]
    assert "test/one/000.png" in say("decide @folder-model @split --max-error .2").out
    assert (
        json.loads(say("predict @npz-model @digits.npz --json").out)["table"][3]["file"]
        == "test_images[3]"
    )


def test_drawn_pictures_in_a_folder_can_be_learned_from_again(say, home):
    say("sample @folder-model -n 60 --seed 0 -o out/")
    found = conjoin.read_images("out")
    assert found.images.shape == (60, 8, 8) and set(found.labels) == {"zero", "one", "two"}
    again = conjoin.load(home / "folder-model").sample(60, random_state=0)
    order = np.argsort([int(name.split("/")[1][:3]) for name in found.names])
    assert np.array_equal(found.images[order], again[0]) and (found.labels[order] == again[1]).all()
    assert "exists" in say("sample @folder-model -n 3 -o out", 2).err
    say("sample @folder-model -n 3 --y two -o out/ --force")
    assert sorted(conjoin.read_images("out").names) == ["two/000.png", "two/001.png", "two/002.png"]


def test_a_folder_of_other_things_is_not_overwritten(say, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    assert "holds 'notes.txt'" in say("sample @folder-model -n 3 -o mine --force", 2).err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_drawn_pictures_as_arrays_a_sheet_and_a_table(say, home):
    say("sample @npz-model -n 5 --y 1 -o out.npz")
    found = conjoin.read_images("out.npz")
    assert found.images.shape == (5, 8, 8) and found.labels.tolist() == [1] * 5
    assert json.loads(say("sample @density-model -n 7 -o out.png --json").out) == {
        "rows": 7,
        "out": "out.png",
        "mark": {"embedded": 1, "marked": True, "sidecars": [], "signed": True},
    }
    assert conjoin.read_images("out.png").images.shape == (1, 3 * 64 + 2 * 2, 3 * 64 + 2 * 2)
    say("sample @npz-model -n 4 -o out.csv")
    assert pd.read_csv("out.csv").shape == (4, 65)
    assert "-o FOLDER/" in say("sample @npz-model -n 4", 2).err
    assert "one of .png, .npz" in say("sample @npz-model -o out.jpg", 2).err
    assert "no folder" in say("sample @npz-model -o nowhere/out", 2).err


def test_few_levels_are_stretched_to_be_seen(say, home):
    images = load_digits().images[:100].astype("uint8")
    np.savez("few.npz", images=images)
    say("fit few.npz -o few --family nb --levels 17 -q")
    assert "are shown as 0 to 255" in say("sample few -n 9 -o out").err
    assert conjoin.read_images("out").images.max() == 255
    say("sample few -n 9 -o out.npz")
    assert conjoin.read_images("out.npz").images.max() <= 16


def test_a_report_about_pictures(say, home, tmp_path):
    say("report @folder-model @split/test -o r.html --show-rows")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (
        "Pictures that the model draws, beside real ones" in text
        and "pixels: 8 x 8" in text
        and "pixel 3,4" not in text
    )
    say("report @density-model -o d.html")


def test_unlabelled_folders_and_single_labels_are_densities(say, home):
    said = say("fit @split/train/two -o model --family nb")
    assert (
        "No labels: p(x) of the pictures is modelled." in said.err
        and conjoin.load("model").model_.target is None
    )
    picture(home / "alone" / "same" / "0.png", np.zeros((4, 4), "uint8"))
    for row in range(40):
        picture(
            home / "alone" / "same" / f"{row}.png",
            np.random.default_rng(row).integers(0, 256, (4, 4)).astype("uint8"),
        )
    assert "Every picture has the label 'same'" in say("fit @alone -o again --family nb").err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fit @split --target label", "--target is about tables, and .*split holds pictures"),
        ("fit @split --schema s.json", "--schema is about tables"),
        ("fit @split --chunk-rows 5", "--chunk-rows is about tables"),
        ("fit @split --size big", "--size is a number of pixels such as 28"),
        ("fit @plain.npz --task classes", "--task classes needs labels"),
        ("fit t.csv --levels 28", "--levels is about pictures, and t.csv is a table"),
        ("predict @folder-model t.csv --skip-broken", "--skip-broken is about pictures"),
        ("fit @split --groups patient", "--groups of pictures is 'folder'"),
        ("fit @split --groups folder", "lies in no folder below that of its label"),
        ("fit @split --range 3", "--range is a lower and a higher value such as 0..4095"),
        ("fit @split --resize crop", "resize must be one of cut, pad, stretch"),
        ("fit t.csv --size 28", "--size is about pictures, and t.csv is a table"),
        ("predict @folder-model t.csv --part test", "--part is about pictures"),
        ("evaluate @folder-model t.csv --part test", "--part is about pictures"),
        ("evaluate @folder-model @split --target label", "--target is about tables"),
        ("check @split", "this command is about tables"),
        ("decide @folder-model @digits.npz --part dev", "has no part 'dev'"),
        ("sample @folder-model -o out --where a<=b", "--where is about the columns of tables"),
        ("predict @folder-model big.png", "images of 9 x 9, but .* is expecting images of 8 x 8"),
    ],
)
def test_what_cannot_be_meant_is_said(line, words, say, tmp_path):
    import re

    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    picture(tmp_path / "big.png", np.zeros((9, 9), "uint8"))
    assert re.search(words, say(line, 2).err)


def test_pictures_are_not_for_a_model_of_tables(say, tmp_path):
    pd.DataFrame({"a": np.arange(60) % 7, "b": np.arange(60) % 5}).to_csv("t.csv", index=False)
    say("fit t.csv -o table --family nb -q")
    assert "this model is of a table" in say("decide table @split/test", 2).err


def small(seed):
    """A picture of 6 x 6 pixels of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, (6, 6)).astype("uint16")


def test_the_range_of_the_fit_is_that_of_every_question(say):
    for row in range(40):
        folder = ("dark", "light")[row % 2]
        values = small(row) // (4 if row % 2 == 0 else 1)
        picture(Path("deep") / folder / f"{row:02d}.png", values)
    said = say("fit deep -o model --family nb --predictor none")
    assert "40 of 40 pictures have 16 bits a pixel or more" in said.err
    assert "--range 0..4095 reads others so" in said.err
    kept = conjoin.load("model").model_.state.pictures
    assert kept == {"size": None, "range": [0, 4095]}
    picture(Path("new") / "a.png", small(0) // 4)  # by itself it would be read by 0 to 1023
    say("predict model new -o one.csv")
    say("predict model deep/dark -o all.csv")
    one, every = pd.read_csv("one.csv"), pd.read_csv("all.csv")
    assert one.drop(columns="file").equals(every.drop(columns="file").iloc[:1])
    picture(Path("other") / "a.png", np.full((6, 6), 60000, "uint16"))
    assert "1 of 1 pictures have values beyond that range" in say("predict model other").err
    say("fit deep -o asked --family nb --predictor none --range 0..65535")
    kept = conjoin.load("asked").model_.state.pictures
    assert kept == {"size": None, "range": [0, 65535], "overrules": True}


def test_folders_between_labels_and_pictures_are_groups(say):
    rng = np.random.default_rng(0)
    for patient in range(60):
        label = ("well", "ill")[patient % 2]
        for row in range(3):
            pixels = rng.integers(0, 100 + 100 * (patient % 2), (4, 4)).astype("uint8")
            picture(Path("scans") / label / f"p{patient}" / f"{row}.png", pixels)
    assert "--groups folder keeps them together" in say("fit scans -o a --family nb").err
    said = say("fit scans -o b --family nb --groups folder")
    assert "60 groups, by the folder below that of the label." in said.err
    counts = conjoin.load("b").model_.card["rows"]
    assert counts["calibrate"] % 3 == 0 and counts["choose"] % 3 == 0


def test_broken_files_are_skipped_where_that_is_asked_for(say, home):
    for row in range(30):
        pixels = np.random.default_rng(row).integers(0, 256, (4, 4)).astype("uint8")
        picture(Path("some") / f"{row:02d}.png", pixels)
    (Path("some") / "99.png").write_bytes(b"no picture")
    said = say("fit some -o model --family nb", 2)
    assert "leave out such files with --skip-broken" in said.err
    assert "99.png was skipped" in say("fit some -o model --family nb --skip-broken").err
    assert json.loads(say("evaluate model some --skip-broken --json").out)["rows"] == 30


def test_how_pictures_of_other_proportions_get_their_size_is_kept(say):
    for row in range(30):
        pixels = np.random.default_rng(row).integers(0, 256, (4, 8)).astype("uint8")
        picture(Path("wide") / f"{row:02d}.png", pixels)
    said = say("fit wide -o cut --family nb --size 4")
    assert "30 of 30 pictures have other proportions than 4 x 4 and were cut" in said.err
    assert "--resize pad and --resize stretch keep all" in said.err
    assert "proportions" not in say("fit wide -o padded --family nb --size 4 --resize pad").err
    kept = conjoin.load("padded").model_.state.pictures
    assert kept == {"size": [4, 4], "resize": "pad"}
    assert "proportions" not in say("evaluate padded wide").err


def test_pictures_in_colour_are_turned_into_grey_with_a_word(say, home):
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype("uint8")
    picture(Path("mixed") / "a.png", colours)
    picture(Path("mixed") / "b.png", colours[..., 0])
    said = say("predict @folder-model mixed")
    assert "1 of 2 pictures are in colour and were turned into grey, which the model" in said.err

"""A table of pictures and what they show, and nothing else: p(picture, caption)."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import conjoin
from conjoin.cli import run
from conjoin.codecs.composite import CompositeCodec
from conjoin.core.warnings import ColumnWarning
from conjoin.datasets import draw_scenes
from conjoin.families.multimodal import Multimodal

COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 220)}


def shown(n, seed=0):
    """Pictures of one colour all over, with their captions."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(COLOURS), n)
    noise = rng.integers(-9, 10, (n, 8, 8, 3))
    pictures = np.array([COLOURS[name] for name in names])[:, None, None] + noise
    words = rng.choice(["wall", "sheet", "cloth", "door", "sky", "sea", "hat", "car"], (n, 2))
    captions = [f"{name} {' and '.join(pair)}" for name, pair in zip(names, words, strict=True)]
    return list(pictures.astype(np.uint8)), captions


@pytest.fixture(scope="module")
def table():
    pictures, captions = shown(240)
    return pd.DataFrame({"picture": pd.Series(pictures, dtype=object), "caption": captions})


@pytest.fixture(scope="module")
def fitted(table):
    with pytest.warns(ColumnWarning, match="'caption' holds free text beside pictures and is mod"):
        return conjoin.JointDensity(
            family=Multimodal(
                # rates at which 150 steps are enough for colours all over
                pictures={
                    "size": 0.25,
                    "steps": 150,
                    "batch": 32,
                    "axes": 8,
                    "rate": 2e-3,
                    "matrix_rate": 0.02,
                },
                strings={"width": 32, "blocks": 1, "steps": 150},
            ),
            random_state=0,
        ).fit(table)


def test_captions_are_read_off_pictures(fitted):
    pictures, captions = shown(40, seed=1)
    asked = pd.DataFrame({"picture": pd.Series(pictures, dtype=object)}).assign(caption=None)
    told = fitted.impute(asked)["caption"].tolist()
    right = [caption.split()[0] in words for caption, words in zip(captions, told, strict=True)]
    assert np.mean(right) >= 0.9


def test_a_caption_of_another_picture_is_less_probable(fitted):
    pictures, captions = shown(40, seed=2)
    column = pd.Series(pictures, dtype=object)
    other = [
        caption.replace("red", "x").replace("blue", "red").replace("x", "blue")
        for caption in captions
    ]
    right = fitted.score_samples(pd.DataFrame({"picture": column, "caption": captions}))
    wrong = fitted.score_samples(pd.DataFrame({"picture": column, "caption": other}))
    assert np.mean(right > wrong) >= 0.9


def test_both_are_drawn_and_saved(fitted, tmp_path):
    drawn, _ = fitted.sample(4, random_state=0)
    assert list(drawn) == ["picture", "caption"]
    assert not drawn.isna().to_numpy().any()
    again = conjoin.load(fitted.save(tmp_path / "model"))
    pictures, captions = shown(5, seed=3)
    new = pd.DataFrame({"picture": pd.Series(pictures, dtype=object), "caption": captions})
    assert np.allclose(again.score_samples(new), fitted.score_samples(new))
    assert again.decide(new)["verdict"].isin(["accept", "unfamiliar"]).all()


def test_only_free_text_beside_pictures_alone_is_taken_as_text(table):
    def kinds(frame, types=None):
        return CompositeCodec.begin(frame, types=types)[0].names

    labels = table.assign(caption=np.resize(["cat", "dog"], len(table)))
    assert kinds(table) == ["picture", "caption"]
    assert kinds(labels) == ["picture"]
    assert kinds(table.assign(age=np.arange(len(table)))) == ["picture"]
    assert kinds(table, {"caption": "category"}) == ["picture"]


def test_pictures_of_a_file_alone_are_still_refused(tmp_path):
    found = draw_scenes(3, side=16)
    for place, picture in enumerate(found.pictures):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    frame = pd.DataFrame({"picture": [str(tmp_path / f"{place}.png") for place in range(3)]})
    with pytest.raises(ValueError, match="There is no column beside 'picture'"):
        conjoin.JointDensity().fit(frame)


def test_pictures_are_drawn_from_a_caption_onto_one_sheet(fitted, tmp_path, capsys):
    saved = str(fitted.save(tmp_path / "model"))
    out = str(tmp_path / "sheet.png")
    asked = ["sample", saved, "--given", "caption=red wall and sea", "-n", "4", "-o", out]
    assert run([*asked, "--seed", "0"]) == 0
    assert capsys.readouterr().err.count("red wall and sea") == 4
    sheet = np.asarray(Image.open(out)).astype(int)
    assert sheet.shape[:2] == (130, 130)  # two by two of 64, and what is between
    assert np.mean(sheet[..., 0] > sheet[..., 2] + 50) > 0.5  # red
    assert run([*asked[:3], "caption=pink wall and sea", "-o", out, "--force"]) == 2
    assert "pink" in capsys.readouterr().err


def test_a_sheet_is_of_one_column_of_pictures(table, tmp_path, capsys):
    plain = conjoin.JointDensity(family="mixture").fit(pd.DataFrame({"x": np.arange(50.0)}))
    saved = str(plain.save(tmp_path / "plain"))
    assert run(["sample", saved, "-o", str(tmp_path / "sheet.png")]) == 2
    assert "0 columns of pictures" in capsys.readouterr().err

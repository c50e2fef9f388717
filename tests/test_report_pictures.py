"""The report of a model of pictures, the way of a draw from noise, and the demo on chest X-rays,
all of them tiny.
"""

import base64
import io
import re
import webbrowser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, datasets
from conjoin.core import CapabilityError, Event, stream
from conjoin.demos import images as demo_images
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.families.multimodal import Multimodal
from conjoin.joints import reweighted as reweighting
from conjoin.report import pairs, pictures, sections
from conjoin.report.synthetic import synthetic_rows
from conjoin.training import loop

TINY = PictureDiffusion(
    size=0.25, steps=40, batch=32, rate=4e-3, points=2, sampling_steps=6, repeats=1
)


def chests(rows, seed=0, side=16):
    """Dark pictures, half of them with a bright middle."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    X = 60 + random.normal(0, 5, (rows, side, side))
    X[:, side // 4 : -(side // 4), side // 4 : -(side // 4)] += 100 * y[:, None, None]
    return X.round().astype("uint8"), np.where(y == 1, "pneumonia", "normal")


@pytest.fixture(scope="module")
def fitted():
    return JointClassifier(family=TINY, random_state=0).fit(*chests(400))


@pytest.fixture(scope="module")
def written(fitted, tmp_path_factory):
    """The pages with and without real pictures."""
    folder = tmp_path_factory.mktemp("report")
    (X, y) = chests(90, seed=1)
    return {
        shown: fitted.report(folder / f"{shown}.html", X, y, show_rows=shown).read_text(
            encoding="utf-8"
        )
        for shown in (False, True)
    }


def test_every_section_of_pictures_is_there(written):
    text = written[False]
    assert re.findall('<section[^>]* id="([a-z]+)"', text) == [
        *(
            "first",
            "prediction",
            "likelihood",
            "promises",
            "samples",
            "way",
            "imputation",
            "counterfactual",
        ),
        *("predictor", "energy", "limits", "columns"),
    ]
    for words in (
        "normal, drawn",
        "step 0",
        "step 6",
        "painted in",
        "of the pixels",
        "bits per pixel",
        "from pictures of 16 x 16 pixels",
    ):
        assert words in text
    assert (
        text.count("<img") == 2 * pictures.PICTURES_PER_CLASS + 7 + 3 * 5 + 4 * 3
        and text.count("<svg") == 3
    )
    assert len(text) < 500_000 and "<script" not in text


def test_real_pictures_are_shown_where_they_may_be(fitted, written):
    real = {pictures._shown(fitted.model_.codec, image) for image in chests(90, seed=1)[0]}
    found = {
        shown: real & set(re.findall('src="([^"]*)"', text)) for shown, text in written.items()
    }
    assert not found[False] and "No real picture stands in this report" in written[False]
    assert len(found[True]) >= 2 * pictures.PICTURES_PER_CLASS and "normal, real" in written[True]
    assert all(
        uri.startswith("data:image/png")
        for text in written.values()
        for uri in re.findall('src="([^"]*)"', text)
    )


def test_of_many_pictures_some_are_asked_about(fitted, monkeypatch):
    monkeypatch.setattr(sections, "MAX_ASKED_PICTURES", 30)
    X, y = chests(50, seed=2)
    found = sections.Answers(fitted, X, y)
    assert (found.count, found.sampled) == ("30 pictures", " (drawn at random from 50)")
    assert found.figures["accuracy"] == pytest.approx(
        (fitted.predict(found.rows) == found.y).mean()
    )


def test_what_a_family_cannot_do_is_said_in_a_line(tmp_path):
    X, y = chests(300, side=8)
    text = (
        JointClassifier(None, family="naive_bayes")
        .fit(X // 16, y)
        .report(tmp_path / "r.html")
        .read_text(encoding="utf-8")
    )
    assert (
        "another way than out of noise" in text
        and "can&#39;t alter pictures" in text
        and "painted in" in text
    )
    text = (
        JointDensity(family="naive_bayes")
        .fit(X // 16)
        .report(tmp_path / "d.html", X[:20] // 16, show_rows=True)
        .read_text(encoding="utf-8")
    )
    assert 'id="counterfactual"' not in text and ">real<" in text


def test_a_png_holds_its_picture():
    pillow = pytest.importorskip("PIL.Image")
    for shape in ((7, 5, 1), (4, 9, 3), (3, 3, 4)):
        picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        data = base64.b64decode(pictures.png(picture).split(",")[1])
        assert np.array_equal(np.asarray(pillow.open(io.BytesIO(data))).reshape(shape), picture)
    assert pillow.open(
        io.BytesIO(base64.b64decode(pictures.png(np.zeros((200, 100, 1), np.uint8)).split(",")[1]))
    ).size == (25, 50)


# ------------------------------------------------------------------------------- the way from noise


def test_a_draw_unfolds_to_what_is_drawn(fitted):
    density = fitted.model_.density_of_x
    code = Event(torch.tensor([0.0, 1.0]))
    states = density.unfold(2, code, generator=stream(5))
    assert states.shape == (7, 2, 256)
    assert torch.equal(states[-1], density.sample(2, code, generator=stream(5)).value)
    rough = [
        state.unflatten(1, (16, 16)).diff(dim=2).abs().mean() for state in (states[0], states[-1])
    ]
    assert rough[0] > 1.1 * rough[1]
    with pytest.raises(CapabilityError, match="unfolds"):
        JointDensity(family="naive_bayes").fit(chests(60)[0] // 16).model_.joint.unfold(1)


# ----------------------------------------------------------------------------------------- the demo


@pytest.fixture
def demo(monkeypatch, tmp_path, capsys):
    """Run the demo on tiny pictures; its exit code and what it says."""
    (X, y) = chests(300)
    # another place: brighter, and half of the answers are others
    (X_test, y_test) = chests(60, seed=1)
    X_test = X_test + 40
    y_test[::2] = y_test[1::2]
    (X_val, y_val) = chests(60, seed=2)
    X_val[:3] = X[:3]
    data = SimpleNamespace(
        x_train=X,
        y_train=y == "pneumonia",
        x_val=X_val,
        y_val=y_val == "pneumonia",
        x_test=X_test,
        y_test=y_test == "pneumonia",
        origin="here",
        licence="none",
    )
    monkeypatch.setattr(datasets, "load_images", lambda name: data)
    monkeypatch.setattr(demo_images, "FAMILY", TINY)
    monkeypatch.setattr(reweighting, "DRAWS_FOR_CLASS_SHARES", 64)
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("a browser was opened"))

    def run():
        code = demo_images.main(["--out", str(tmp_path / "out"), "--seconds", "20"])
        return code, capsys.readouterr().out, tmp_path / "out"

    return run


@pytest.mark.slow
def test_the_demo_is_interrupted_and_resumed(demo, monkeypatch):
    step = loop._Run.step

    def interrupted(self, bar):
        if self.trained.epochs == 3:
            raise KeyboardInterrupt
        step(self, bar)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "step", interrupted)
        code, said, out = demo()
    assert (
        code == 130
        and "The same command goes on" in said
        and any(out.glob("checkpoint-*"))
        and not (out / "model").exists()
    )
    code, said, out = demo()
    trained = conjoin.load(out / "model").model_.facts["trained"]
    assert code == 0 and trained["steps"] == 40 and not any(out.glob("checkpoint-*"))
    for words in (
        "57 like them held out (3 that are copies of the former are left out)",
        "Like those of the fit, held out: of 57 pictures",
        "are answered rightly",
        "Called unfamiliar: 100 % of noise",
        "Another place, the public test pictures: of 60",
        "adapt, given the test pictures",
        "no medical device",
    ):
        assert words in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "no medical device" in page
    assert "<h1>These pictures are not like those of the fit; the promises are void.</h1>" in page
    monkeypatch.setattr(
        JointClassifier, "fit", lambda *args, **settings: pytest.fail("it was fitted again")
    )
    assert demo()[0] == 0


def test_the_demo_shows_both_promises_and_names_another_place(fitted):
    X, y = chests(60, seed=1)
    like, strange = demo_images._alarms(fitted, demo_images.Pictures(X, y))
    assert like.endswith("Both promises hold, up to chance.") and "100 % of noise" in strange
    (there,) = demo_images._elsewhere(fitted, demo_images.Pictures(X + 60, y))
    assert re.search("them: .* of 60 pictures are called unfamiliar", there)
    assert "These pictures are not like those of the fit, and the promises are void" in there


def test_without_the_pictures_the_demo_says_so(monkeypatch, capsys):
    def missing(name):
        raise ValueError("They cannot be fetched.")

    monkeypatch.setattr(datasets, "load_images", missing)
    assert demo_images.main([]) == 2
    assert (
        capsys.readouterr().err
        == "The demo needs the pictures of PneumoniaMNIST. They cannot be fetched.\n"
    )


# ------------------------------------------------------------------- pictures beside other columns


def captioned(rows, seed=0):
    """Dark and bright pictures that a caption tells, and a number."""
    random = np.random.default_rng(seed)
    bright = random.integers(0, 2, rows)
    noise = random.integers(-30, 31, (rows, 8, 8, 1))
    images = (128 + 60 * (2 * bright - 1)[:, None, None, None] + noise).astype(np.uint8)
    places = random.choice(["wall", "sheet", "cloth", "door", "sky", "sea"], (rows, 2))
    captions = [
        f"{'bright' if each else 'dark'} {' and '.join(two)}"
        for each, two in zip(bright, places, strict=True)
    ]
    cells = {"picture": pd.Series(list(images), dtype=object), "caption": captions}
    return pd.DataFrame(cells | {"age": random.normal(50, 9, rows)})


@pytest.fixture(scope="module")
def pair():
    """A model of captioned pictures beside a number, and rows that it has not seen."""
    tiny = {"family": "picture_tokens", "size": 0.125, "blocks": 1, "steps": 6, "batch": 16}
    family = Multimodal(
        columns="mixture",
        pictures={**tiny, "code_levels": (4, 4)},
        strings={"width": 16, "blocks": 1},
        precision="float32",
    )
    types = {"caption": {"type": "text", "format": "words"}}
    model = JointDensity(family=family, types=types, random_state=0)
    return model.fit(captioned(160)), captioned(90, 1)


@pytest.mark.parametrize("shown", [False, True])
def test_pictures_beside_columns_are_shown_and_read(pair, shown, tmp_path):
    model, rows = pair
    text = model.report(tmp_path / "page.html", rows, show_rows=shown).read_text(encoding="utf-8")
    assert 'id="pairs"' in text and "What the model reads off these pictures: caption" in text
    assert text.count('src="data:image/png') == pairs.SHOWN_PICTURES * (3 if shown else 2)
    assert ("No real picture stands in this report" in text) is not shown
    assert "as these measures are of columns alone" in text
    assert "more column" not in text


def test_rows_of_pictures_and_words_alone_are_not_judged_as_columns():
    codec = SimpleNamespace(blocks=(SimpleNamespace(name="picture"), SimpleNamespace(name="note")))
    found = SimpleNamespace(
        rows=SimpleNamespace(frame=captioned(4)[["picture"]]),
        labelled=False,
        model=SimpleNamespace(codec=codec, target=None),
    )
    drawn = SimpleNamespace(sample=lambda n, random_state: (captioned(2)[["picture"]], None))
    with pytest.raises(ValueError, match="there are none beside picture, note"):
        synthetic_rows(drawn, found)

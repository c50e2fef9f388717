"""The precision of networks of pictures: timed, kept with the model, and overruled."""

import json

import numpy as np
import pytest
import torch
from test_picture_diffusion import SMALL, space, spots
from test_picture_diffusion import rows as event_of

import conjoin
from conjoin import JointClassifier, JointDensity, load
from conjoin.core import stream
from conjoin.families import resolve
from conjoin.families.diffusion.picture import PictureDensity
from conjoin.families.illustrated import Illustrated
from conjoin.fitting import precision as fitting_precision
from conjoin.fitting.options import FitOptions
from conjoin.fitting.precision import settle_precision
from conjoin.joints.base import describe_family
from conjoin.model import saving
from conjoin.nets import precision
from conjoin.nets.precision import PRECISIONS, computing_in, fastest

QUICK = SMALL.set_params(steps=3, points=2, sampling_steps=2)


@pytest.fixture
def found(monkeypatch):
    """Let the timing find what is asked for."""

    def find(word):
        monkeypatch.setattr(precision, "fastest", lambda: word)
        monkeypatch.setattr(fitting_precision, "fastest", lambda device: word)

    return find


def timed(monkeypatch, bfloat16):
    """What is chosen where a step takes 1 s in float32 and so many in bfloat16."""
    seconds = {"float32": 1.0, "bfloat16": bfloat16}
    monkeypatch.setattr(precision, "_seconds", lambda trial, word, device: seconds[word])
    return fastest.__wrapped__()


def test_the_faster_one_is_chosen_and_a_draw_goes_to_float32(monkeypatch):
    assert [timed(monkeypatch, each) for each in (0.5, 0.79, 0.85, 1.0, 3.0)] == [
        "bfloat16",
        "bfloat16",
        "float32",
        "float32",
        "float32",
    ]


def test_the_timing_is_short_kept_and_draws_no_random_number():
    before = torch.random.get_rng_state()
    fastest.cache_clear()
    assert fastest() in PRECISIONS and fastest() is fastest()
    assert torch.equal(before, torch.random.get_rng_state())
    assert fastest.cache_info().misses == 1


def test_a_network_computes_in_its_precision():
    x = torch.ones(1, 8)
    with computing_in("bfloat16"):
        assert (x @ x.T).dtype == torch.bfloat16
    with computing_in("float32"):
        assert (x @ x.T).dtype == torch.float32


@pytest.mark.parametrize("word", PRECISIONS)
def test_a_density_takes_what_the_timing_finds_and_keeps_it(found, word):
    found(word)
    density = PictureDensity.build(space(), QUICK, event_of(spots(20)[0]), stream(0))
    assert density.config.precision == density.core.precision == word
    assert Illustrated().in_precision("auto").precision == word
    other = {"float32": "bfloat16", "bfloat16": "float32"}[word]
    assert density.config.in_precision("auto").precision == word
    assert density.config.in_precision(other).precision == other


def test_a_saved_model_answers_as_it_was_fitted(found, tmp_path):
    X, y = spots(40)
    found("float32")
    model = JointClassifier(family=QUICK, precision="auto").fit(X, y)
    low = JointClassifier(family=QUICK, precision="bfloat16").fit(X, y)
    kept = model.score_samples(X[:4])
    paths = model.save(tmp_path / "one"), low.save(tmp_path / "two")
    found("bfloat16")
    again = [load(path) for path in paths]
    assert np.array_equal(again[0].score_samples(X[:4]), kept)
    assert np.array_equal(again[1].score_samples(X[:4]), low.score_samples(X[:4]))
    assert not np.array_equal(kept, low.score_samples(X[:4]))
    chosen = [each.model_.facts["settings"]["precision"] for each in again]
    assert chosen == ["float32", "bfloat16"]


def test_a_folder_without_the_word_is_of_a_model_in_bfloat16(found):
    found("float32")
    density = PictureDensity.build(space(), QUICK, event_of(spots(20)[0]), stream(0))
    described = describe_family(density)
    assert described["settings"].pop("precision") == "float32"
    assert saving._family(described, space(), None, None).core.precision == "bfloat16"


def test_a_fit_that_goes_on_keeps_the_precision_that_it_began_with(found, tmp_path):
    config = resolve("picture_diffusion")
    first, later = (
        FitOptions(task="density", checkpoint=tmp_path / "kept", resume=resume)
        for resume in (False, True)
    )
    found("bfloat16")
    assert settle_precision(config, later).precision == "bfloat16"  # nothing to resume
    found("float32")
    assert settle_precision(config, later).precision == "bfloat16"
    assert settle_precision(config, first).precision == "float32"
    assert json.loads((tmp_path / "kept" / "precision.json").read_text("utf-8")) == "float32"
    folder = tmp_path / "kept"
    asked = FitOptions(task="density", checkpoint=folder, resume=True, precision="bfloat16")
    assert settle_precision(config, asked).precision == "bfloat16"


@pytest.mark.parametrize(
    ("family", "word", "sentence"),
    [
        ("circuit", "float32", "precision='float32' is for networks of pictures; Circuit has one"),
        ("circuit", "half", "precision must be one of auto, float32, bfloat16, got 'half'"),
        (QUICK.set_params(precision="half"), "auto", "auto, float32, bfloat16, got 'half'"),
        ("auto", "bfloat16", "name a family, or leave precision at 'auto', got 'bfloat16'"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(family, word, sentence):
    with pytest.raises(ValueError, match=sentence):
        JointDensity(family=family, precision=word).fit(spots(40)[0])


def test_the_command_line_passes_it_on(say, found, tmp_path):
    found("bfloat16")
    pillow = pytest.importorskip("PIL.Image")
    X, y = spots(24)
    for row, (image, label) in enumerate(zip(X, y, strict=True)):
        path = tmp_path / "in" / ("plain", "spot")[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image).save(path)
    say("fit in -o m --family diffusion --max-time 0.01 --precision float32 -q")
    assert conjoin.load("m").model_.facts["settings"]["precision"] == "float32"
    assert "auto, float32, bfloat16, got 'half'" in say("fit in -o n --precision half -q", 2).err


@pytest.fixture
def home(tmp_path):
    return tmp_path

"""The model folders of all releases load and answer; those of today's format as on the day they
were written."""

import json
from pathlib import Path

import numpy as np
import pytest
from make_fixtures import FOLDER, MADE, answers, machine, read_rows
from sklearn.datasets import load_iris

import conjoin
from conjoin.families import FAMILIES

# families of rows, which FORMAT 2 can express
OF_ROWS = [name for name, family in FAMILIES.items() if "vector" in family.layouts]

FOLDERS = sorted((Path(__file__).parent / "fixtures").glob("model-*"))
# whose networks count in 16 or 32 bits
SINGLE = ("picture_diffusion", "picture_tokens", "latent_diffusion", "cascade", "illustrated")
# relative to the largest answer, on another kind of machine
TIGHT = 1e-6
LOOSE = 0.05
DRAWN = (
    "sample",
    "verdict",
)  # of single-precision networks these may turn over at another rounding


def test_there_is_a_folder_for_this_release():
    assert f"model-{conjoin.__version__}" in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_still_answers(folder):
    model = conjoin.load(folder)
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    assert model.score(X, names) > 0.9
    table = model.decide(X * 10, max_error=0.1)
    assert (table["verdict"] == "unfamiliar").all()


# ------------------------------------------------------------------------------- one of each family


def test_every_family_has_a_folder():
    assert set(MADE) == set(OF_ROWS) == {folder.name for folder in FOLDER.iterdir()}


@pytest.mark.parametrize("family", OF_ROWS)
def test_a_loaded_model_gives_the_answers_that_it_gave(family):
    folder = FOLDER / family
    model = conjoin.load(folder)
    then = dict(np.load(folder / "answers.npz"))
    now = answers(model, read_rows(folder))
    same = json.loads((folder / "meta.json").read_text()) == machine()
    assert now.keys() == then.keys()
    for name, value in now.items():
        if same:
            assert value.dtype == then[name].dtype and value.tobytes() == then[name].tobytes(), name
        else:
            alike(value, then[name], name, family)


def alike(value, then, name, family):
    """As far as another processor, or another release of torch, can be held to it."""
    assert value.shape == then.shape, name
    if family in SINGLE and name.startswith(DRAWN):
        return
    if value.dtype.kind in "US":
        assert np.array_equal(value, then), name
        return
    tolerance = LOOSE if family in SINGLE else TIGHT
    scale = max(1.0, float(np.nanmax(np.abs(then), initial=0)))
    atol = 0.2 if family in SINGLE and name == "familiarity" else tolerance * scale
    assert np.allclose(value, then, rtol=tolerance, atol=atol, equal_nan=True), name


@pytest.mark.parametrize("family", OF_ROWS)
def test_a_loaded_model_is_saved_byte_for_byte(family, tmp_path):
    written = conjoin.load(FOLDER / family).save(tmp_path / "model")
    for name in ("config.json", "weights.safetensors"):
        assert (written / name).read_bytes() == (FOLDER / family / name).read_bytes(), name

"""The model folders of all releases load and answer."""

from pathlib import Path

import pytest
from sklearn.datasets import load_iris

import conjoin

FOLDERS = sorted((Path(__file__).parent / "fixtures").glob("model-*"))


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

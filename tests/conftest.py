"""What every test shares: shape checks, one thread, no display, and where the data lie.

Shapes and types of annotated calls are checked here only, so jaxtyping must be imported before
conjoin (conjoin/core/shapes.py).
"""

import gc
import os
import tempfile

os.environ.setdefault("MPLBACKEND", "Agg")
# the key by which tests sign, and what they note down, are not those of whoever runs them
_SETTINGS = tempfile.TemporaryDirectory(prefix="conjoin-settings-")
os.environ["CONJOIN_CONFIG"] = _SETTINGS.name
# Thousands of tests are collected, and live to the end: the collector of garbage need not look at
# them again and again (pytest_collection_finish).
gc.disable()

import jaxtyping
import shape_checks

# not the surface: there a wrong type is the user's mistake, and conjoin answers it itself
INNER = (
    "core",
    "components",
    "codecs",
    "families",
    "joints",
    "predictors",
    "training",
    "calibration",
    "model.predictive",
)
jaxtyping.jaxtyped = shape_checks.jaxtyped  # what the hook writes above every function
jaxtyping.install_import_hook([f"conjoin.{module}" for module in INNER], "shape_checks.check")

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# planted bugs are looked for by all tests of a file
LONG = (
    set()
    if "CONJOIN_LONG_TESTS" in os.environ
    else set((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").splitlines()[1:])
)


def pytest_configure(config):
    """Tests of other things fit tables with doubtful columns: what a fit says of them is tested in
    test_said.py, and no error elsewhere."""
    config.addinivalue_line("filterwarnings", "ignore::conjoin.estimators.notices.ColumnWarning")


@pytest.fixture(autouse=True)
def _the_same_draws():
    """``sample()`` without a seed draws new rows by numpy's generator: in tests the same ones."""
    np.random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that slow.txt lists are slow, as those that are marked so where they stand."""
    for item in items:
        if item.nodeid in LONG:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets that are not shipped; a test that asks for it is skipped where it is
    absent."""
    folder = os.environ.get("CONJOIN_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the folder of data sets that CONJOIN_DATA names")
    return Path(folder)


@pytest.fixture
def say(home, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; its answer. ``@`` stands for the folder ``home`` of
    the module."""
    from conjoin.cli import run

    monkeypatch.chdir(tmp_path)

    def run_it(line, code=0):
        capsys.readouterr()
        words = [word.replace("@", f"{home}/") for word in line.split()]
        assert run(words) == code, capsys.readouterr()
        return capsys.readouterr()

    return run_it


@pytest.fixture(scope="session")
def people():
    """Who is ill, by age and town: a model of a table that pages are served of."""
    import pandas as pd

    from conjoin import JointClassifier

    rng = np.random.default_rng(0)
    ill = rng.random(300) < 0.4
    X = pd.DataFrame(
        {"age": rng.normal(40 + 20 * ill, 6).round(), "town": rng.choice(list("AB"), 300)}
    )
    y = pd.Series(np.where(ill, "ill", "well"), name="state")
    return JointClassifier(family="naive_bayes", predictor=None).fit(X, y, calibration=0.4)

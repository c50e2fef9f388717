"""Saved models that were altered, their hashes made good again: one sentence names the file."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import conjoin
from conjoin.model.saving import _digest

FIXTURES = Path(__file__).parent / "fixtures" / "models-format2"


@pytest.fixture
def altered(tmp_path):
    """A folder of a family, after ``change`` of its config and tensors."""

    def alter(family, change):
        place = tmp_path / family
        shutil.copytree(FIXTURES / family, place)
        config = json.loads((place / "config.json").read_text())
        tensors = load_file(place / "weights.safetensors")
        change(config, tensors)
        save_file(tensors, place / "weights.safetensors")
        weights = (place / "weights.safetensors").read_bytes()
        config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        config["config_sha256"] = _digest(config)
        (place / "config.json").write_text(json.dumps(config))
        return place

    return alter


def no_family(config, tensors):
    del config["facts"]["family"]


def a_mass_above_one(config, tensors):
    config["codec"]["scales"][0]["eps"] = 7


def a_mass_beyond_floats(config, tensors):
    config["codec"]["scales"][0]["eps"] = 10**30


def no_draws(config, tensors):
    config["joint"]["settings"]["draws"] = 0


def a_feature_that_is_no_column(config, tensors):
    tensors["joint.columns.1.feature"][0] = 10**6


def a_circle_of_nodes(config, tensors):
    tensors["joint.columns.1.right"][2] = 0


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("picture_diffusion", no_family),
        ("mixture", a_mass_above_one),
        ("mixture", a_mass_beyond_floats),
        ("forest", no_draws),
        ("forest", a_feature_that_is_no_column),
        ("forest", a_circle_of_nodes),
    ],
)
def test_an_altered_model_is_refused(altered, family, change):
    with pytest.raises(ValueError, match=f"{family}/config.json is damaged"):
        conjoin.load(altered(family, change))


def test_an_unaltered_one_is_not(altered):
    assert conjoin.load(altered("forest", lambda config, tensors: None))


def test_log_p_that_is_no_number_is_no_answer(altered):
    from make_fixtures import read_rows

    def far_away(config, tensors):
        tensors["joint.density.layers.0.net.first.weight"][0, 0] = 1e300

    model = conjoin.load(altered("integer_flow", far_away))
    with torch.no_grad(), pytest.raises(ValueError, match="answer is no number"):
        model.score_samples(read_rows(FIXTURES / "integer_flow"))

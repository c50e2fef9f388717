"""Pictures are kept as bytes: a density is built from them, and a fit made, without a copy of all
of them as numbers; and where they are few, the bits are those of such a copy."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conjoin.codecs.kinds import codec_for
from conjoin.components import leaves
from conjoin.core import Event, Pair, Space, Variable, as_float, stream
from conjoin.families import deep, resolve
from conjoin.families.circuit import structure
from conjoin.families.diffusion import picture
from conjoin.joints.build import build_joint
from conjoin.training import feed
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

ROWS = 90
SIDE = 8
FAMILIES = {
    "circuit": {"width": 3},
    "vae": {"width": 8, "steps": 2, "components": 4, "particles": 2},
    "flow": {"width": 8, "layers": 1, "steps": 2},
    "pixel_cnn": {"width": 8, "blocks": 1, "steps": 2},
    "picture_diffusion": {"size": 0.125, "precision": "float32", "steps": 2, "points": 2},
}
CLASSES = Space((), (Variable("label", "category", cardinality=3),))


def pictures():
    X = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE)).astype(np.uint8)
    codec, rows = codec_for(X)
    codec.fit(rows)
    return codec.space, codec.encode(rows).event


def config_of(family):
    return resolve(family).set_params(**FAMILIES[family])


class Largest(TorchDispatchMode):
    """The most cells of a tensor of float64 that has a row for each picture."""

    def __init__(self):
        super().__init__()
        self.cells = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor) and each.dtype == torch.float64 and each.dim():
                owned = each.untyped_storage().nbytes() // each.element_size()
                if len(each) == ROWS:
                    self.cells = max(self.cells, min(owned, each.numel()))
        return out


@pytest.fixture
def few_at_once(monkeypatch):
    """As if the pictures were many."""
    monkeypatch.setattr(deep, "STARTING_CELLS", 20 * SIDE**2)
    monkeypatch.setattr(deep, "PROPOSAL_ROWS", 20)
    monkeypatch.setattr(structure, "MAX_TOTAL_LEVELS", 1000)
    monkeypatch.setattr(structure, "MAX_ROWS_IF_WIDE", 20)
    monkeypatch.setattr(leaves, "BYTE_ROWS", 20)
    monkeypatch.setattr(picture, "COUNTED_ROWS", 20)
    monkeypatch.setattr(feed, "BYTES_AT_ONCE", 20 * SIDE**2)


@pytest.mark.parametrize("family", FAMILIES)
def test_few_pictures_as_bytes_build_the_density_of_the_same_numbers(family):
    space, event = pictures()
    assert event.value.dtype == torch.uint8
    config = config_of(family)
    each = [
        config.density.build(space, config, rows, stream(0)).state_dict()
        for rows in (event, as_float(event))
    ]
    for key, value in each[0].items():
        assert torch.equal(value, each[1][key]), key


@pytest.mark.parametrize("family", FAMILIES)
def test_no_fit_casts_all_pictures_at_once(family, few_at_once):
    space, event = pictures()
    config = config_of(family)
    with Largest() as seen:
        density = config.density.build(space, config, event, stream(0))
        plan = Plan(steps=2, epochs=1, batch=20)
        train(density, event, torch.ones(ROWS).double(), event, plan, Progress())
    assert density.takes_bytes
    assert seen.cells < event.value.numel()


def test_a_class_beside_pictures_is_a_byte_too(few_at_once):
    space, event = pictures()
    y = Event((torch.arange(ROWS) % 3).double())
    with Largest() as seen:
        build_joint(config_of("circuit"), CLASSES, space, Pair(y, event), stream(0))
    assert seen.cells < event.value.numel()


def test_validation_pictures_are_judged_in_parts_that_hold_each_once(few_at_once):
    _, event = pictures()
    parts = feed.in_parts(Pair(Event(torch.arange(ROWS).double()), event))
    assert len(parts) > 1
    assert torch.equal(torch.cat([part.y.value for part in parts]), torch.arange(ROWS).double())
    whole = as_float(event)
    assert feed.in_parts(whole)[0] is whole

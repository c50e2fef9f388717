"""Draws of strings by a network that is rounded to fewer bits."""

import numpy as np
import pandas as pd
import pytest
import torch

from conjoin import JointClassifier, JointDensity
from conjoin.core import Record, Status, stream
from conjoin.core.sampling import Sampling, sampling_with
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.multimodal import Multimodal
from conjoin.nets import rounded_products
from conjoin.nets.decoder import Decoder
from conjoin.nets.decoder_rows import ManyRows
from conjoin.nets.rounded_products import product_by

LARGEST_ERROR = {"float32": 1e-6, "bfloat16": 0.005, "int8": 0.015}


def learned_net():
    torch.manual_seed(0)
    net = Decoder(20, 5, 0, 64, 2, 0.0)
    with torch.no_grad():
        for parameter in net.parameters():  # the last layers begin at zero
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("AB"), 6)) for _ in range(60)]
    return JointDensity(family=Sequence(width=16, blocks=1, steps=5), random_state=0).fit(words)


@pytest.fixture(scope="module")
def molecules():
    rng = np.random.default_rng(0)
    chains = [f"C{''.join(rng.choice(list('CNO'), 5))}" for _ in range(60)]
    family = Multimodal(strings={"width": 16, "blocks": 1, "steps": 5})
    smiles = pd.DataFrame({"smiles": list(dict.fromkeys(chains))})
    return JointDensity(family=family, types={"smiles": "smiles"}, random_state=0).fit(smiles)


@pytest.mark.parametrize("precision", list(LARGEST_ERROR))
@pytest.mark.parametrize("kernel", [True, False])
def test_products_err_by_what_the_numbers_are_rounded_to(precision, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(rounded_products, "_multiplies_whole", lambda: False)
    x, weight = torch.randn(9, 48, generator=stream(0)), torch.randn(48, 32, generator=stream(1))
    product = product_by(weight, precision)
    known = x @ weight
    assert (product(x) - known).norm() <= LARGEST_ERROR[precision] * known.norm()
    assert torch.allclose(product.added(known, x), known + product(x), atol=0.1)


def test_whole_numbers_are_multiplied_rightly():
    x = torch.tensor([[127.0, -127.0], [2.0, 1.0], [0.0, 0.0]])
    weight = torch.tensor([[127.0, 0.5], [-127.0, 0.25]])
    found = product_by(weight, "int8")(x)
    # columns in units of 1 and .5 / 127: .25 is 63.5 of these, which is rounded to 64
    known = torch.tensor([[32258.0, 127 * (0.5 - 64 * 0.5 / 127)], [0.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(found[0], known[0], rtol=1e-5)
    assert found[2].tolist() == [0.0, 0.0]


def test_a_row_does_not_depend_on_the_others():
    x, weight = torch.randn(5, 48, generator=stream(0)), torch.randn(48, 32, generator=stream(1))
    product = product_by(weight, "int8")
    others = torch.cat([x[:1], 100 * x[1:]])
    assert torch.equal(product(x)[0], product(others)[0])


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_the_next_token_is_about_that_of_the_network(precision):
    net = learned_net()
    told = torch.zeros(12, 0)
    tokens = torch.randint(0, 5, (8, 12), generator=stream(2))
    many, whole = ManyRows(net, precision), ManyRows(net)
    cache = state = None
    for place in range(8):
        last = None if place == 0 else tokens[place - 1]
        ours, cache = many.step(last, told, cache)
        known, state = whole.step(last, told, state)
        known = known.log_softmax(1)
        apart = (known.exp() * (known - ours.log_softmax(1))).sum(1)
        assert 0 < apart.mean() < 0.005


def test_draws_of_a_rounded_network_say_so(molecules):
    plain, _ = molecules.sample(50, random_state=0)
    drawn, _ = molecules.sample(50, random_state=0, precision="int8")
    assert "rounded to int8" in drawn.attrs["status"]
    assert "rounded" not in plain.attrs.get("status", "")
    again, _ = molecules.sample(50, random_state=0, precision="int8")
    assert drawn.equals(again)


def test_a_list_of_strings_is_drawn_by_a_rounded_network(model):
    drawn, _ = model.sample(20, random_state=0, precision="bfloat16")
    assert set("".join(drawn)) <= set("AB")


def test_a_density_says_that_its_draws_are_approximate(model):
    density = next(p for p in model.model_.joint.modules() if isinstance(p, SequenceDensity))
    asked = density.space.unknown(4)
    assert density.complete(asked, Record(), generator=stream(0)).status is Status.EXACT
    with sampling_with(Sampling(precision="bfloat16")):
        found = density.complete(asked, Record(), generator=stream(0))
    assert found.status is Status.APPROXIMATE


def test_other_precisions_and_families_are_refused(model):
    with pytest.raises(ValueError, match="must be one of float32, bfloat16, int8, got 'int4'"):
        model.sample(1, precision="int4")
    X, y = pd.DataFrame({"a": np.arange(40.0)}), np.arange(40) % 2
    table = JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    with pytest.raises(ValueError, match="precision='int8' is for families whose network draws"):
        table.sample(1, precision="int8")
    old = Sequence(width=16, blocks=1, network="absolute", steps=1)
    density = SequenceDensity.build(
        model.model_.density_of_x.space, old, model.model_.density_of_x.space.unknown(2), stream(0)
    )
    with (
        sampling_with(Sampling(precision="int8")),
        pytest.raises(ValueError, match="network='absolute': leave it out"),
    ):
        density.sample(2, generator=stream(0))

"""A category of many levels reaches networks as one: the order of its levels means nothing."""

import json

import pytest
import torch

from conjoin.core import Event, Space, Variable, stream
from conjoin.families import deep
from conjoin.families.autoregressive.causal import Causal
from conjoin.families.autoregressive.masked import Masked
from conjoin.families.diffusion.absorbing import AbsorbingDiffusion
from conjoin.families.diffusion.gaussian import Diffusion
from conjoin.families.energy import joint_energy
from conjoin.families.energy.joint_energy import Energy
from conjoin.families.flow.coupling import Flow
from conjoin.families.flow.integer import IntegerFlow
from conjoin.families.latent.vae import VAE
from conjoin.nets.inputs import EMBEDDED, Inputs
from conjoin.predictors.convolutional import Convolutional
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

LEVELS = 100
COLOUR = Variable("colour", "category", cardinality=LEVELS)
CLASS = Variable("class", "category", cardinality=2)
CONFIGS = (
    Causal(),
    Masked(),
    AbsorbingDiffusion(),
    AbsorbingDiffusion(process="multinomial"),
    Diffusion(),
    Energy(),
    Flow(),
    IntegerFlow(),
    VAE(),
)


def rows(count, seed, names):
    """(class, colour): nine in ten of the colours at even places are of class 1, one in ten of the
    others; ``names`` are the codes of the places."""
    noise = stream(seed)
    place = torch.randint(LEVELS, (count,), generator=noise)
    flip = torch.rand(count, generator=noise) < 0.1
    return Event(torch.stack([((place % 2 == 0) ^ flip).double(), names[place].double()], 1))


def accuracy(config, names, first):
    """On new rows, of a fit in which the column ``first`` comes first."""
    fit = rows(1500, 0, names)
    new = rows(2000, 1, names)
    order = [first, 1 - first]
    space = Space((2,), tuple((CLASS, COLOUR)[d] for d in order))
    ones = torch.ones(fit.rows, dtype=torch.float64)
    fit = Event(fit.value[:, order])
    density = config.density.build(space, config, fit, stream(0), weight=ones)
    train(density, fit, ones, None, Plan(), Progress())
    with torch.no_grad():
        each = []
        for code in range(2):
            asked = torch.stack([torch.full((new.rows,), float(code)).double(), new.value[:, 1]], 1)
            each.append(density.log_prob(Event(asked[:, order])))
    return float((torch.stack(each, 1).argmax(1) == new.value[:, 0]).double().mean())


FITTED = ((Energy(steps=200), 0), (Masked(orders=1, steps=200), 1))


@pytest.mark.parametrize(("config", "first"), FITTED)
def test_the_names_of_levels_do_not_matter(config, first, monkeypatch):
    """.9 is the best that can be. As a number, neighbours of opposite classes are one blur."""
    sorted_names = torch.arange(LEVELS)
    other_names = torch.randperm(LEVELS, generator=stream(5))
    found = accuracy(config, sorted_names, first)
    assert found > 0.87
    assert accuracy(config, other_names, first) == pytest.approx(found, abs=0.02)
    for module in (deep, joint_energy):
        monkeypatch.setattr(module, "embedding_mark", lambda variables: {})
    assert accuracy(config, sorted_names, first) < found - 0.1


def built(config, seed=0):
    numbers = torch.randn(60, 1, generator=stream(seed)).double()
    event = Event(torch.cat([rows(60, seed, torch.arange(LEVELS)).value, numbers], 1))
    columns = (CLASS, COLOUR, Variable("mass", "real"))
    process = vars(config).get("process", "absorbing")
    if process == "multinomial":
        event, columns = Event(event.value[:, :2]), columns[:2]
    space = Space((len(columns),), columns)
    return config.density.build(space, config, event, stream(seed)), event


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("marked", [True, False])
def test_structure_says_how_levels_are_read(config, marked, monkeypatch):
    """A density without the mark, as those saved by earlier versions, has the inputs of its day."""
    if not marked:
        for module in (deep, joint_energy):
            monkeypatch.setattr(module, "embedding_mark", lambda variables: {})
    density, event = built(config)
    assert (EMBEDDED in density.structure) == marked
    assert any("tables" in key for key in density.state_dict()) == marked
    monkeypatch.undo()
    structure = json.loads(json.dumps(density.structure))
    again = type(density)(density.space, config, structure)
    again.load_state_dict(density.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval().log_prob(event), density.eval().log_prob(event))


def test_tables_learn():
    density, event = built(Masked())
    density.train()
    density.loss(event, generator=stream(0)).backward()
    (table,) = density.inputs.tables
    assert table.shape == (LEVELS, 16)
    # all outputs start at zero, so that only the direct path passes a gradient on, and it is zero
    torch.nn.init.ones_(density.net.direct.weight)
    density.loss(event, generator=stream(0)).backward()
    assert table.grad.abs().sum() > 0


def test_few_levels_and_ordered_levels_have_no_table():
    few = Variable("few", "category", cardinality=64)
    grey = Variable("grey", "ordered", cardinality=256)
    inputs = Inputs((few, grey, COLOUR))
    assert len(inputs.tables) == 1
    assert inputs.size == 65 + 13 + 17
    seen = inputs(torch.zeros(1, 3).double(), torch.tensor([[True, True, False]]))
    assert not seen[0, inputs.owner == 2].any()


def test_beside_pictures_the_mark_is_in_the_shapes():
    pixels = (Variable("grey", "ordered", cardinality=256),) * 64
    space = Space((65,), (COLOUR, *pixels), "image", (1, 8, 8))
    assert Convolutional(space, 2).shapes == {"outputs": 2}
    network = Convolutional(space, 2, embedded=True)
    assert network.shapes == {"outputs": 2, EMBEDDED: True}
    Convolutional(space, **network.shapes).load_state_dict(network.state_dict())

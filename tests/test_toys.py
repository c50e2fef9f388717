"""Points of the plane: what defaults take where columns are few, and how near the true density the
quick families come (benchmarks/toys.py measures all).
"""

import numpy as np
import pytest

from conjoin import JointDensity
from conjoin.core import Space, Variable
from conjoin.datasets import toy
from conjoin.families.autoregressive.forest import ForestChain
from conjoin.families.autoregressive.masked import Masked
from conjoin.families.circuit.latent_tree import default_width
from conjoin.families.diffusion.gaussian import Diffusion
from conjoin.families.energy.joint_energy import Energy
from conjoin.families.energy.rbm import Boltzmann
from conjoin.families.flow.continuous import FlowMatching

RADII = (1.0, 0.45)
SPREAD = 0.05
ANGLES = 2000


def numbers(columns):
    return Space((columns,), tuple(Variable(f"x{d}", "real") for d in range(columns)))


def codes(columns):
    return Space(
        (columns,), tuple(Variable(f"x{d}", "category", cardinality=2) for d in range(columns))
    )


def test_few_columns_of_numbers_get_more_of_what_is_cheap_there():
    assert default_width(numbers(3), 1400) == 60
    assert default_width(numbers(4), 1400) == default_width(codes(3), 1400) == 15
    assert default_width(numbers(2), 10) == 5
    assert ForestChain().size(3)[::2] == (48, 64)
    assert ForestChain().size(4)[::2] == (12, 32)
    assert ForestChain(trees=5, groups=6).size(2)[::2] == (5, 6)
    assert Boltzmann().pieces_of(3) == 32
    assert Boltzmann().pieces_of(4) == 10
    assert Boltzmann(pieces=7).pieces_of(2) == 7


@pytest.mark.parametrize(
    ("family", "steps", "usual"),
    [
        (Masked, 600, 200),
        (Boltzmann, 1000, 300),
        (Diffusion, 3000, 1000),
        (FlowMatching, 3000, 1500),
        (Energy, 3000, 300),
    ],
)
def test_few_columns_of_numbers_get_more_steps_unless_told(family, steps, usual):
    def planned(config, space):
        return config.suited(space).recipe(200).steps

    assert planned(family(), numbers(3)) == steps
    assert planned(family(), numbers(4)) == planned(family(), codes(3)) == usual
    assert planned(family(steps=5), numbers(2)) == 5
    assert planned(family(min_steps=usual + 100), numbers(2)) == usual + 100
    assert family().suited(numbers(2)).recipe(10**6).steps == family().recipe(10**6).steps


def test_few_columns_of_numbers_get_other_settings_where_none_were_asked_for():
    assert Diffusion().suited(numbers(3)).parametrisation == "v"
    assert Diffusion(parametrisation="score").suited(numbers(3)).parametrisation == "score"
    assert Energy().suited(numbers(2)).dropout == 0
    assert Energy().suited(numbers(4)).dropout is Energy().suited(codes(2)).dropout is None


def log_rings(points):
    """log p of the toy: two circles, each the mean of Gaussians around it."""
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    out = 0.0
    for radius in RADII:
        circle = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        squares = ((points[:, None] - circle) ** 2).sum(-1)
        near = np.exp(-0.5 * squares / SPREAD**2).mean(1) / (2 * np.pi * SPREAD**2)
        out = out + near / len(RADII)
    return np.log(out)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["circuit", "boltzmann"])
def test_quick_families_follow_rings(family):
    """The best family is .03 from the truth, and .15 from that is asked."""
    fresh = toy("rings", 1000, 10_007)
    model = JointDensity(family=family, measure="density", random_state=7)
    found = model.fit(toy("rings", 2000, 7)).score_samples(fresh)
    assert (log_rings(fresh.to_numpy()) - found).mean() < 0.18

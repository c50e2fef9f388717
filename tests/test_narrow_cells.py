"""Numbers in narrow cells: powers say the same as exact masses and moments."""

import pytest
import torch

from conjoin.components.intervals import log_mass, moments_inside
from conjoin.components.leaves import LeafLayer
from conjoin.components.narrow_cells import (
    MAX_DEVIATIONS,
    log_masses,
    narrow_columns,
    powers,
    sums_of_moments,
)
from conjoin.core import Event, Variable, stream

MEAN = torch.tensor([[0.0, 0.4]], dtype=torch.float64)
LOG_SCALE = torch.tensor([[0.0, 0.5]], dtype=torch.float64)


def edges(value, width):
    z = (value[:, None] - MEAN) / LOG_SCALE.exp()
    half = width / 2 / LOG_SCALE.exp()
    return z - half, z + half


@pytest.mark.parametrize(("reach", "bound"), [(2.0, 1e-3), (5.0, 2e-2)])
def test_masses_by_powers_are_within_their_bound(reach, bound):
    width = torch.tensor([MAX_DEVIATIONS], dtype=torch.float64)
    value = torch.linspace(-reach, reach, 41).double()
    found = log_masses(powers(value), [41], MEAN, LOG_SCALE, width)
    assert float((found - log_mass(*edges(value, width)))[:, 0].abs().max()) < bound


def test_the_error_falls_with_the_fourth_power_of_the_width():
    value = torch.linspace(-3, 3, 13).double()
    errors = []
    for width in (torch.tensor([0.4]).double(), torch.tensor([0.2]).double()):
        found = log_masses(powers(value), [13], MEAN, LOG_SCALE, width)
        errors.append((found - log_mass(*edges(value, width))).abs().max())
    assert 12 < float(errors[0] / errors[1]) < 20


def test_moments_by_powers_are_those_of_a_truncated_normal():
    width = torch.tensor([0.1], dtype=torch.float64)
    value = torch.tensor([-1.2, 0.3, 2.0], dtype=torch.float64)
    share = torch.tensor([[0.2, 0.8], [1.0, 0.0], [0.4, 0.6]], dtype=torch.float64)
    found = sums_of_moments(powers(value), [3], share, MEAN, LOG_SCALE, width)[0]
    low, high = edges(value, width)
    first, second = moments_inside(low, high, log_mass(low, high))
    scale = LOG_SCALE.exp()
    once = MEAN + scale * first
    twice = MEAN**2 + 2 * MEAN * scale * first + scale**2 * second
    exact = torch.stack([share, share * once, share * twice], -1).sum(0)
    assert torch.allclose(found, exact, atol=1e-5)


def test_points_are_exact():
    width = torch.zeros(1, dtype=torch.float64)
    value = torch.tensor([-1.2, 0.3], dtype=torch.float64)
    own = torch.distributions.Normal(MEAN, LOG_SCALE.exp()).log_prob(value[:, None])
    assert torch.allclose(log_masses(powers(value), [2], MEAN, LOG_SCALE, width), own)


def test_coarse_cells_and_far_numbers_are_no_narrow_ones():
    log_scale = torch.zeros(3, 2).double()
    reach = torch.tensor([1.0, 1.0, 1e6], dtype=torch.float64)
    width = torch.tensor([0.1, 1.0, 0.1], dtype=torch.float64)
    assert narrow_columns(reach, log_scale, width).tolist() == [True, False, False]


def test_a_table_by_series_agrees_with_the_exact_one():
    """Narrow cells, coarse ones, atoms, bounds, points and missing cells beside levels."""
    variables = (
        Variable("narrow", "real", resolution=0.01, bounds=(0.0, 3.0), atoms=(1.0,)),
        Variable("coarse", "integer", resolution=1.0),
        Variable("point", "real"),
        Variable("level", "category", cardinality=3),
    )
    leaves = LeafLayer(variables, 4)
    generator = stream(0)
    value = torch.rand(60, 4, generator=generator, dtype=torch.float64) * 3
    value[:, 0] = (value[:, 0] * 100).round() / 100
    value[:20, 0] = torch.tensor([0.0, 1.0, 3.0, 2.99]).double().repeat(5)
    value[:, 1] = value[:, 1].round()
    value[:, 3] = value[:, 3].floor()
    event = Event(value, torch.rand(60, 4, generator=generator) < 0.9)
    leaves.start(value, event.mask, torch.ones(60, dtype=torch.float64))
    share = torch.rand(60, 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        leaves.mean.add_(torch.randn(3, 4, generator=generator).double() * 0.3)
        series = leaves.table(event, by_series=True)
        exact = leaves.table(event)
        assert series.narrow is not None and 0 < len(series.narrow.exact) < len(value)
        assert torch.allclose(series.log_prob, exact.log_prob, atol=1e-6)
        found = leaves.statistics_of(series, series.shares(share))
        plain = leaves.statistics_of(exact, exact.shares(share))
    assert found.keys() == plain.keys()
    assert all(torch.allclose(found[key], plain[key], atol=1e-5) for key in plain)

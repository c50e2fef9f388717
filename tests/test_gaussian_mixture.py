"""The mixture of Gaussians with full covariances: densities, marginals, boxes and conditionals
against scipy's normal distribution; numbers with a bound; which columns are jointly Gaussian.
"""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from conjoin.core import Event, Region, Space, Status, Variable, stream
from conjoin.families.classic.gaussian_mixture import (
    GaussianMixture,
    GaussianMixtureDensity,
    gaussian_columns,
)

NUMBERS = Space((3,), tuple(Variable(name, "real") for name in "abc"))


def correlated(count=200):
    noise = torch.randn(count, 3, generator=stream(0), dtype=torch.float64)
    mix = torch.tensor([[1.0, 0.8, 0.0], [0.0, 0.6, 0.5], [0.0, 0.0, 1.0]]).double()
    return Event(2 + 3 * noise @ mix)


def built(space=NUMBERS, data=None, **settings):
    data = correlated() if data is None else data
    config = GaussianMixture(**settings)
    density = GaussianMixtureDensity.build(space, config, data, stream(0))
    for _ in range(3):
        density.maximise(density.statistics(data))
    return density


def law(density, component):
    """The mean and the covariance of a component, in the units of the columns."""
    scale = density.scale
    mean = (density.centre + scale * density.mean[component]).detach().numpy()
    covariance = density._covariance()[component] * scale[:, None] * scale
    return mean, covariance.detach().numpy()


def test_log_p_and_marginals_are_those_of_normal_distributions():
    density = built(components=2)
    rows = correlated(20)
    weight = density.log_weight.softmax(0).detach().numpy()
    for seen in ([0, 1, 2], [0, 2], [1]):
        mask = torch.zeros(3, dtype=torch.bool)
        mask[seen] = True
        wanted = 0.0
        for k in range(2):
            mean, covariance = law(density, k)
            part = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
            wanted = wanted + weight[k] * part.pdf(rows.value[:, seen].numpy())
        with torch.no_grad():
            found = density.log_prob(rows.hide(~mask))
        assert np.allclose(found.numpy(), np.log(wanted), atol=1e-9)


def test_draws_of_missing_numbers_follow_the_known_ones():
    density = built(components=1)
    mean, covariance = law(density, 0)
    row = Event(torch.tensor([[4.0, 0.0, 0.0]]).double().repeat(4000, 1))
    drawn = density.sample_conditional(
        row.hide(torch.tensor([False, True, True])), generator=stream(3)
    )
    gain = covariance[1:, 0] / covariance[0, 0]
    wanted = mean[1:] + gain * (4.0 - mean[0])
    left = covariance[1:, 1:] - np.outer(gain, covariance[0, 1:])
    assert np.allclose(drawn.value[:, 1:].mean(0).numpy(), wanted, atol=0.2)
    assert np.allclose(np.cov(drawn.value[:, 1:].T.numpy()), left, rtol=0.1, atol=0.3)


def test_one_number_in_a_box_is_exact_and_two_are_close():
    density = built(components=1)
    mean, covariance = law(density, 0)
    row = Event(torch.zeros(1, 3).double(), torch.zeros(1, 3, dtype=torch.bool))
    infinite = torch.full((3,), torch.inf).double()
    high = infinite.clone()
    high[0] = 3.0
    one = row._replace(within=Region(-infinite, high))
    two = row._replace(within=Region(-infinite, torch.where(torch.arange(3) < 2, 3.0, infinite)))
    with torch.no_grad():
        alone = float(density.log_prob(one).exp())
        both = float(density.log_prob(two).exp())
    first = multivariate_normal(mean[:1], covariance[:1, :1])
    pair = multivariate_normal(mean[:2], covariance[:2, :2])
    assert alone == pytest.approx(first.cdf([3.0]), abs=1e-9)
    assert both == pytest.approx(pair.cdf([3.0, 3.0]), abs=5e-3)
    assert density.status_of(one) is Status.EXACT
    assert density.status_of(two) is Status.APPROXIMATE
    drawn = density.sample_conditional(
        two.take(torch.zeros(500, dtype=torch.long)), generator=stream(0)
    ).value
    assert bool((drawn[:, :2] <= 3.0).all())


def test_a_number_with_a_bound_has_all_of_its_mass_inside():
    skewed = torch.rand(300, 2, generator=stream(1), dtype=torch.float64).square() + 0.02
    variables = tuple(Variable(name, "real", resolution=0.01, bounds=(0.0, None)) for name in "ab")
    space = Space((2,), variables)
    density = built(space, Event((skewed * 100).round() / 100), components=4)
    assert density.structure["gaussian"] == [0, 1]
    assert bool((density.side == 1).all())
    grid = torch.arange(0, 400).double() / 100
    cells = Event(torch.stack([grid, grid], 1)).hide(torch.tensor([False, True]))
    with torch.no_grad():
        assert float(density.log_prob(cells).exp().sum()) == pytest.approx(1.0, abs=5e-3)
    assert float(density.sample(500, generator=stream(2)).value.min()) >= 0.0


def test_atoms_coarse_cells_and_many_patterns_of_gaps_are_left_to_independent_leaves():
    space = Space(
        (4,),
        (
            Variable("plain", "real"),
            Variable("spiked", "real", resolution=0.001, atoms=(0.0,)),
            Variable("coarse", "integer", resolution=1.0),
            Variable("code", "category", cardinality=2),
        ),
    )
    value = torch.randn(100, 4, generator=stream(0), dtype=torch.float64)
    value[:, 3] = value[:, 3] > 0
    weight = torch.ones(100, dtype=torch.float64)
    assert gaussian_columns(space, Event(value), weight) == [0]
    wide = Space((12,), tuple(Variable(f"x{d}", "real") for d in range(12)))
    mask = torch.rand(400, 12, generator=stream(0)) > 0.4
    many = Event(torch.randn(400, 12, generator=stream(0), dtype=torch.float64), mask)
    kept = gaussian_columns(wide, many, torch.ones(400, dtype=torch.float64))
    assert 0 < len(kept) < 12
    assert len(mask[:, kept].unique(dim=0)) <= 64


def test_the_statistics_know_log_p_of_rows_with_gaps():
    density = built(components=3)
    mask = torch.rand(200, 3, generator=stream(4)) > 0.2
    rows = Event(correlated().value, mask)
    with torch.no_grad():
        found = density.statistics(rows)["log_prob"]
        assert float(found) == pytest.approx(float(density.log_prob(rows).sum()), rel=1e-9)


def test_expectation_maximisation_gains_with_gaps():
    mask = torch.rand(200, 3, generator=stream(4)) > 0.2
    rows = Event(correlated().value, mask)
    density = built(data=rows, components=3, shrinkage=1e-6)
    before = float(density.statistics(rows)["log_prob"])
    for _ in range(5):
        density.maximise(density.statistics(rows))
    assert float(density.statistics(rows)["log_prob"]) >= before - 1e-6

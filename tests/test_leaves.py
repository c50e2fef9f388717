"""Leaves against mpmath, scipy and numerical integration: interval masses far out, cells and
bounds, atoms, moments, regions.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from conjoin.components.intervals import log_mass, log_sinhc, moments_inside
from conjoin.components.leaves import NARROW_DEVIATIONS, Lattice, LeafLayer, _Cells
from conjoin.core import Event, Region, Variable, stream

INF = math.inf


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def exact_log_mass(low, high):
    """log(Phi(high) - Phi(low)) with fifty digits beyond what the smaller tail needs."""
    with mpmath.workdps(60 + int(max(abs(x) for x in (low, high, 0) if math.isfinite(x)) ** 2)):
        lower, upper = sorted((mpmath.mpf(low), mpmath.mpf(high)))
        return float(mpmath.log(mpmath.ncdf(upper) - mpmath.ncdf(lower)))


ENDS = [
    (-1, 2),
    (0, 1e-3),
    (3, 4),
    (-9, -8.5),
    (8.5, 9),
    (-40, -39),
    (31, 31.5),
    (37, INF),
    (-INF, -37),
    (-INF, 0.5),
    (1, INF),
    (-5, 30),
]


@pytest.mark.parametrize(("low", "high"), ENDS)
def test_log_mass_agrees_with_sixty_digits(low, high):
    got = float(log_mass(doubles(low), doubles(high)))
    assert got == pytest.approx(exact_log_mass(low, high), rel=1e-9, abs=1e-12)


def test_log_mass_of_the_whole_line_and_of_nothing():
    assert float(log_mass(doubles(-INF), doubles(INF))) == 0
    assert float(log_mass(doubles(2.0), doubles(2.0))) == -INF


@given(st.floats(-35, 35), st.floats(1e-2, 10))
def test_log_mass_is_symmetric_and_grows_with_the_interval(low, width):
    low, high = doubles(low), doubles(low + width)
    assert torch.allclose(log_mass(low, high), log_mass(-high, -low), rtol=1e-12)
    assert log_mass(low, high) <= log_mass(low - 0.1, high)
    assert log_mass(low, high) < log_mass(low - 0.1, high + 0.1)


def test_log_mass_gradient():
    low = doubles(-1.0, 2.0, -12.0, 0.1, -33.0)
    high = doubles(0.5, 9.0, -11.0, 0.2, -32.0)
    assert torch.autograd.gradcheck(
        log_mass, (low.requires_grad_(), high.requires_grad_()), eps=1e-6, atol=1e-5
    )
    half = doubles(0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: log_mass(doubles(-INF), b), (half,))


def test_log_sinhc_is_smooth_where_its_series_takes_over():
    x = doubles(0.0, 1e-6, 5e-3, 0.00999, 0.01001, 1.0, 300.0)
    exact = [0.0, *(float(mpmath.log(mpmath.sinh(v) / v)) for v in x[1:].tolist())]
    assert torch.allclose(log_sinhc(x), doubles(*exact), atol=1e-9)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 2.0), (0.5, 0.7), (3.0, INF), (-INF, -1.0), (-8.0, -6.0), (-INF, INF)]
)
def test_truncated_moments_against_integration(low, high):
    edges = (doubles(low), doubles(high))
    first, second = moments_inside(*edges, log_mass(*edges))

    def density(power):
        return integrate.quad(lambda z: z**power * stats.norm.pdf(z), low, high, epsabs=1e-14)[0]

    assert float(first) == pytest.approx(density(1) / density(0), abs=1e-8)
    assert float(second) == pytest.approx(density(2) / density(0), abs=1e-8)


def test_truncated_moments_stay_inside_in_the_far_tails():
    low = doubles(50.0, -1e4, 200.0)
    high = doubles(51.0, -9e3, INF)
    first, second = moments_inside(low, high, log_mass(low, high))
    assert bool(((first >= low) & (first <= high)).all())
    assert bool((second >= first**2).all())


# --------------------------------------------------------------------------------------- one column


def layer(variable, mean=(0.0,), scale=(1.0,), atoms=None, smoothing=1.0):
    leaves = LeafLayer((variable,), len(mean), smoothing)
    with torch.no_grad():
        leaves.mean.copy_(doubles(*mean)[None])
        leaves.log_scale.copy_(doubles(*scale).log()[None])
        if atoms is not None:
            leaves.atom_logits.copy_(doubles(*atoms).log().expand_as(leaves.atom_logits))
    return leaves


def log_prob(leaves, values):
    value = doubles(*values)[:, None]
    with torch.no_grad():
        return leaves.log_prob(value, torch.ones_like(value, dtype=torch.bool))[:, 0]


def test_a_point_has_the_normal_density():
    leaves = layer(Variable("x", "real"), (1.0, -2.0), (0.5, 3.0))
    values = np.array([-1.0, 0.0, 4.0])
    target = np.stack(
        [stats.norm.logpdf(values, 1.0, 0.5), stats.norm.logpdf(values, -2.0, 3.0)], 1
    )
    assert np.allclose(log_prob(leaves, values), target)


@pytest.mark.parametrize("scale", [0.05, 0.7, 20.0, 900.0, 1e5])
def test_a_cell_has_the_mass_between_its_edges_wide_or_narrow(scale):
    leaves = layer(Variable("x", "integer", resolution=1.0), (0.3,), (scale,))
    for value in (0.0, 1.0, round(2 * scale)):
        low = (value - 0.5 - 0.3) / scale
        high = (value + 0.5 - 0.3) / scale
        assert float(log_prob(leaves, [value])) == pytest.approx(
            exact_log_mass(low, high), abs=1e-7
        )


def test_narrow_cells_meet_wide_ones():
    """At NARROW the midpoint series and the interval mass agree to its stated error."""
    at, below = (
        layer(Variable("x", "real", resolution=NARROW_DEVIATIONS * f), (0.0,), (1.0,))
        for f in (1.0001, 0.9999)
    )
    assert torch.allclose(
        log_prob(at, [0.9]) - math.log(1.0001), log_prob(below, [0.9]) - math.log(0.9999), atol=1e-6
    )


@pytest.mark.parametrize("scale", [0.2, 2.0, 50.0])
@pytest.mark.parametrize("atoms", [(), (0.0,), (0.0, 3.0)])
@pytest.mark.parametrize("bounds", [(0.0, 6.0), (None, 6.0), (0.0, None)])
def test_cells_sum_to_one_and_stop_at_the_bounds(scale, atoms, bounds):
    variable = Variable("x", "integer", resolution=1.0, bounds=bounds, atoms=atoms)
    share = (*[0.2] * len(atoms), 1 - 0.2 * len(atoms)) if atoms else None
    leaves = layer(variable, (2.0, -1.0), (scale, scale), share)
    low = 0 if bounds[0] is not None else -1000
    high = 6 if bounds[1] is not None else 1000
    masses = log_prob(leaves, range(low, high + 1)).exp().sum(0)
    assert torch.allclose(masses, torch.ones(2).double(), atol=1e-9)
    outside = [v for v, bound in zip((-1, 7), bounds, strict=True) if bound is not None]
    assert bool((log_prob(leaves, outside) == -INF).all())


def test_an_atom_is_a_spike_on_top_of_its_cell():
    variable = Variable("x", "integer", resolution=1.0, atoms=(0.0,))
    plain = layer(Variable("x", "integer", resolution=1.0), (1.0,), (2.0,))
    spiked = layer(variable, (1.0,), (2.0,), (0.3, 0.7))
    at, off = log_prob(plain, [0.0, 1.0])[:, 0].exp().tolist()
    assert log_prob(spiked, [0.0, 1.0])[:, 0].exp().tolist() == pytest.approx(
        [0.3 + 0.7 * at, 0.7 * off]
    )


def test_levels_of_a_shorter_code_list_are_impossible():
    leaves = LeafLayer(
        (Variable("a", "category", cardinality=2), Variable("b", "category", cardinality=4)), 1
    )
    assert leaves.log_levels()[0, 0].exp().tolist() == pytest.approx([0.5, 0.5, 0, 0])


# ----------------------------------------------------------------------------------------- lattices


def test_snap():
    lattice = Lattice(
        [
            Variable("p", "real", resolution=0.5, origin=0.25, bounds=(0.25, 4.25)),
            Variable("q", "real"),
        ]
    )
    out = lattice.snap(doubles(1.4, 1.4)[None])
    assert out[0].tolist() == [1.25, 1.4]
    assert lattice.snap(doubles(-9, 0)[None])[0, 0] == 0.25
    assert lattice.snap(doubles(99, 0)[None])[0, 0] == 4.25


@given(st.floats(-50, 50), st.sampled_from([0.1, 0.5, 1.0, 7.0]), st.floats(-3, 3))
def test_snap_is_idempotent_and_nearest(value, width, origin):
    lattice = Lattice([Variable("p", "real", resolution=width, origin=origin)])
    once = lattice.snap(doubles(value)[None])
    assert torch.allclose(lattice.snap(once), once)
    assert abs(float(once) - value) <= width / 2 + 1e-9


# ----------------------------------------------------------------------------------------- learning


def fit(leaves, rows, rounds=1):
    value = doubles(*rows)[:, None]
    mask = torch.ones_like(value, dtype=torch.bool)
    for _ in range(rounds):
        leaves.maximise(
            leaves.statistics(value, mask, 1e8 * torch.ones(*value.shape, leaves.states).double())
        )
    return leaves


def test_the_maximiser_of_points_is_mean_and_deviation():
    leaves = fit(layer(Variable("x", "real")).requires_grad_(False), [1.0, 2.0, 6.0])
    assert float(leaves.mean) == pytest.approx(3.0, abs=1e-6)
    assert float(leaves.log_scale.exp()) == pytest.approx(np.std([1, 2, 6]), abs=1e-5)


def test_the_maximiser_of_cells_is_that_of_the_interval_likelihood():
    rows = [0.0, 1.0, 1.0, 2.0, 3.0]

    def edges(x, m, s):
        return np.log(stats.norm.cdf((x + 0.5 - m) / s) - stats.norm.cdf((x - 0.5 - m) / s))

    leaves = fit(layer(Variable("x", "integer", resolution=1.0)).requires_grad_(False), rows, 200)
    mean = float(leaves.mean)
    scale = float(leaves.log_scale.exp())
    best = edges(np.array(rows), mean, scale).sum()
    for other in [
        (mean + 0.02, scale),
        (mean - 0.02, scale),
        (mean, scale * 1.02),
        (mean, scale / 1.02),
    ]:
        assert edges(np.array(rows), *other).sum() < best


def test_a_state_starts_with_smoothing_rows_of_the_marginal():
    """The maximiser with priors, in numbers: levels, mean and variance."""
    leaves = LeafLayer(
        (Variable("c", "category", cardinality=3), Variable("x", "real")), 1, smoothing=2.0
    )
    with torch.no_grad():
        leaves.level_prior.copy_(doubles([0.5, 0.3, 0.2]))
        leaves.mean_prior.fill_(10.0)
        leaves.variance_prior.fill_(4.0)
        leaves.maximise(
            {
                "levels": doubles([[[1, 0, 2]]]).reshape(1, 1, 3),
                "number": doubles([[2.0, 6.0, 20.0]]),
            }
        )
        assert leaves.log_levels().exp().flatten().tolist() == pytest.approx(
            [2 / 5, 0.6 / 5, 2.4 / 5]
        )
        mean = (6 + 0.02 * 10) / 2.02
        assert float(leaves.mean) == pytest.approx(mean)
        assert float(leaves.log_scale.exp() ** 2) == pytest.approx(
            (20 - 12 * mean + 2 * mean**2 + 2 * 4) / (2 + 2)
        )


def test_an_unseen_level_keeps_some_probability():
    leaves = LeafLayer((Variable("c", "category", cardinality=3),), 2)
    leaves.start(doubles([0.0], [1.0]), torch.ones(2, 1, dtype=torch.bool), doubles(1, 1))
    with torch.no_grad():
        leaves.maximise({"levels": torch.zeros(1, 2, 3, dtype=torch.float64)})
        assert torch.allclose(leaves.log_levels().exp(), doubles(0.4, 0.4, 0.2).expand(1, 2, 3))


def test_moments_of_narrow_cells_are_those_of_the_series():
    leaves = layer(Variable("x", "real", resolution=1e-3), (0.2,), (1.0,))
    with torch.no_grad():
        cells = _Cells.distinct(doubles(0.5)[:, None])
        first, second = leaves._moments(cells, leaves._log_density(cells))
    assert float(first) == pytest.approx(0.5, abs=1e-6)
    assert float(second - first**2) == pytest.approx(1e-6 / 12, abs=1e-8)


def test_an_atom_takes_its_share_of_its_cell():
    """Statistics split a value on an atom by the posterior of spike against continuous part."""
    leaves = layer(
        Variable("x", "integer", resolution=1.0, atoms=(0.0,)), (1.0,), (2.0,), (0.3, 0.7)
    )
    value = doubles(0.0, 0.0, 2.0)[:, None]
    with torch.no_grad():
        out = leaves.statistics(value, value > -1, torch.ones(3, 1, 1).double())
    continuous = 0.7 * math.exp(exact_log_mass(-0.75, -0.25))
    spike = 0.3 / (0.3 + continuous)
    assert out["atoms"][0, 0].tolist() == pytest.approx([2 * spike, 3 - 2 * spike])
    assert float(out["number"][0, 0, 0]) == pytest.approx(3 - 2 * spike)


def test_start_gives_every_state_the_marginal_of_the_column():
    leaves = LeafLayer((Variable("c", "category", cardinality=2), Variable("x", "real")), 3)
    value = torch.stack([doubles(0, 1, 1, 0), doubles(1, 2, 3, 50)], 1)
    mask = torch.tensor([[True, True]] * 3 + [[True, False]])
    leaves.start(value, mask, doubles(1, 1, 2, 1))
    assert leaves.mean.flatten().tolist() == pytest.approx([2.25] * 3)
    assert leaves.mean_prior.tolist() == pytest.approx([2.25])
    assert leaves.variance_prior.tolist() == pytest.approx([0.1 * 0.6875])
    assert leaves.level_prior[0].tolist() == pytest.approx([3 / 7, 4 / 7])


# -------------------------------------------------------------------------------- regions and modes


def region(low, high, allowed=None):
    return Region(doubles(low), doubles(high), {} if allowed is None else {0: allowed})


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 3.0), (-INF, 2.0), (2.5, INF), (-1.0, 99.0), (0.0, 0.0), (0.6, 1.4)]
)
def test_region_of_a_lattice_is_the_sum_of_its_cells(low, high):
    variable = Variable("x", "integer", resolution=1.0, bounds=(0.0, 6.0), atoms=(0.0, 3.0))
    leaves = layer(variable, (2.0, 5.0), (1.5, 4.0), (0.1, 0.3, 0.6))
    inside = [v for v in range(7) if low <= v <= high]
    target = log_prob(leaves, inside).exp().sum(0)
    with torch.no_grad():
        got = leaves.log_region(region(low, high))[0].exp()
    assert torch.allclose(got, target, atol=1e-9)


def test_region_of_points_and_of_codes():
    leaves = layer(Variable("x", "real"), (1.0,), (2.0,))
    with torch.no_grad():
        assert float(leaves.log_region(region(0.0, 4.0))) == pytest.approx(
            exact_log_mass(-0.5, 1.5)
        )
        codes = LeafLayer((Variable("c", "category", cardinality=4),), 1)
        allowed = torch.tensor([True, False, True, True])
        assert float(codes.log_region(region(-INF, 2.0, allowed)).exp()) == pytest.approx(0.5)
        assert float(codes.log_region(region(-INF, INF))) == 0


def test_log_event_adds_the_region_of_missing_cells_only():
    leaves = layer(Variable("x", "real"), (0.0,), (1.0,))
    event = Event(
        doubles(5.0, 0.0)[:, None], torch.tensor([[True], [False]]), within=region(0.0, INF)
    )
    with torch.no_grad():
        assert leaves.log_event(event).flatten().tolist() == pytest.approx(
            [stats.norm.logpdf(5), math.log(0.5)]
        )


@pytest.mark.parametrize(
    ("low", "high"), [(6.0, 8.0), (-INF, -9.0), (-0.5, 0.5), (37.5, 38.0), (-INF, INF)]
)
def test_draws_in_a_region_follow_the_truncated_normal(low, high):
    leaves = layer(Variable("x", "real"), (0.0,), (1.0,))
    drawn = leaves.sample(
        torch.zeros(2000, 1, dtype=torch.long), stream(0), region(low, high)
    ).numpy()[:, 0]
    assert ((drawn >= low) & (drawn <= high)).all()
    if max(abs(low), abs(high)) < 30 or not np.isfinite([low, high]).all():
        assert stats.kstest(drawn, stats.truncnorm(low, high).cdf).pvalue > 1e-3


@pytest.mark.parametrize("scale", [0.5, 30.0])
@pytest.mark.parametrize("mean", [-3.0, 2.2, 9.0])
@pytest.mark.parametrize("atoms", [(0.05, 0.95), (0.6, 0.4)])
def test_the_mode_is_the_recorded_mean_or_a_cell_that_holds_more_than_half(scale, mean, atoms):
    leaves = layer(
        Variable("x", "integer", resolution=1.0, bounds=(0.0, 6.0), atoms=(4.0,)),
        (mean,),
        (scale,),
        atoms,
    )
    with torch.no_grad():
        mass = log_prob(leaves, range(7))[:, 0].exp()
        likeliest = int(mass.argmax())
        expected = likeliest if mass[likeliest] > 0.5 else min(max(round(mean), 0), 6)
        assert leaves.modes().item() == expected


def ordered_layer(levels=6, states=2):
    variable = Variable("grade", "ordered", cardinality=levels)
    leaves = LeafLayer((variable,), states).requires_grad_(False)
    leaves.start(
        torch.arange(levels).double()[:, None],
        torch.ones(levels, 1, dtype=torch.bool),
        torch.ones(levels).double(),
    )
    return leaves


def test_near_levels_lend_counts_to_an_ordered_one():
    """Never seen, but between two that were: likelier than a level as rare and far away; unordered
    levels know no nearness."""
    counts = torch.zeros(1, 2, 6, dtype=torch.float64)
    counts[0, 0, [0, 2]] = 20.0
    counts[0, 1, 5] = 40.0
    leaves = ordered_layer()
    leaves.maximise({"levels": counts})
    first = leaves.log_levels().exp()[0, 0]
    assert first[1] > 2 * first[5]
    plain = LeafLayer((Variable("grade", "category", cardinality=6),), 2).requires_grad_(False)
    plain.start(
        torch.arange(6.0).double()[:, None],
        torch.ones(6, 1, dtype=torch.bool),
        torch.ones(6).double(),
    )
    plain.maximise({"levels": counts})
    assert torch.isclose(*plain.log_levels().exp()[0, 0, [1, 5]])


def test_the_strength_of_the_loan_is_the_one_of_highest_evidence():
    """At the fixed point the Dirichlet-multinomial evidence is stationary: against a fine grid of
    strengths."""
    counts = stream(0)
    counts = torch.poisson(
        30 * torch.rand(1, 3, 6, generator=counts, dtype=torch.float64) ** 3, generator=counts
    )
    leaves = ordered_layer(states=3)
    for _ in range(200):
        leaves.maximise({"levels": counts})
    level = torch.arange(6)
    kernel = 0.5 ** (level[:, None] - level).abs().double()
    mean = counts[0] @ (kernel / kernel.sum(1, keepdim=True)) + 1 / 6
    mean = mean / mean.sum(1, keepdim=True)

    def evidence(strength):
        prior = strength * mean
        ratio = torch.lgamma(counts[0] + prior).sum() - torch.lgamma(prior).sum()
        return float(
            ratio
            - (torch.lgamma(counts[0].sum(1) + strength) - torch.lgamma(doubles(strength))).sum()
        )

    grid = np.geomspace(0.1, 999, 400)
    best = grid[np.argmax([evidence(float(s)) for s in grid])]
    assert 0.2 < best < 900
    assert float(leaves.strength) == pytest.approx(best, rel=0.03)

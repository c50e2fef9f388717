"""The two nonparametric families: their samplers against exact posteriors, planted structure, and
their predictive densities.
"""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import adjusted_rand_score

from conjoin.core import Event, Space, Variable, stream
from conjoin.families.classic import dirichlet_process, indian_buffet
from conjoin.families.classic.conjugate import Counts, Items, Predictive, Prior, log_marginal
from conjoin.families.classic.dirichlet_process import (
    DirichletProcess,
    DirichletProcessDensity,
    Restaurant,
)
from conjoin.families.classic.indian_buffet import (
    Buffet,
    IndianBuffet,
    IndianBuffetDensity,
    _without_tail,
    draw_utilities,
    log_wins,
)
from conjoin.families.classic.posterior import (
    Copies,
    ProductLayer,
    StudentLayer,
    _student_quantile,
    student_log_mass,
)

# ------------------------------------------------------------------------------------------ helpers


def partitions(n):
    """Every partition of n items, as the tuple of its clusters' numbers in the order of
    appearance."""
    if n == 0:
        yield ()
        return
    for head in partitions(n - 1):
        yield from ((*head, k) for k in range(max(head, default=-1) + 2))


def named(cluster):
    """The clusters' numbers in the order of appearance."""
    order = {}
    return tuple(order.setdefault(int(k), len(order)) for k in cluster)


def log_crp(partition, alpha):
    sizes = np.array(list(Counter(partition).values()))
    return (
        len(sizes) * np.log(alpha)
        + gammaln(sizes).sum()
        + gammaln(alpha)
        - gammaln(alpha + len(partition))
    )


def exact(n, log_cluster, alpha=None):
    """p(partition | rows) by enumeration; ``log_cluster`` gives log p(items) of a tuple of items.
    Without alpha, over its prior."""
    grid = np.linspace(1e-3, 25, 4000) if alpha is None else np.array([alpha])
    weight = np.exp(-grid) if alpha is None else np.ones(1)
    out = {}
    for partition in partitions(n):
        clusters = [tuple(i for i in range(n) if partition[i] == k) for k in set(partition)]
        prior = (weight * np.exp([log_crp(partition, a) for a in grid])).sum()
        out[partition] = math.log(prior) + sum(map(log_cluster, clusters))
    top = max(out.values())
    total = sum(math.exp(value - top) for value in out.values())
    return {partition: math.exp(value - top) / total for partition, value in out.items()}


def apart(draws, truth):
    """Total variation between draws and a table."""
    found = Counter(draws)
    return 0.5 * sum(abs(found[key] / len(draws) - p) for key, p in truth.items())


def some_items(missing=True):
    codes = np.array([[0], [1], [0], [0], [1]])
    numbers = np.array([[-1.0], [0.9], [-0.7], [0.4], [1.1]])
    present = np.ones((5, 1), dtype=bool)
    if missing:
        codes[3] = -1
        present[4] = False
        numbers[4] = 0.0
    return Items(codes, numbers, present, np.ones(5)), Prior(
        np.array([[0.4, 0.6]]), np.array([0.3])
    )


def log_cluster_of(items, prior):
    def log_cluster(members):
        part = items.take(np.array(members))
        return float(
            log_marginal(Counts.of(part, np.zeros(len(members), dtype=int), 1, prior), prior)[0]
        )

    return log_cluster


def space_of(*variables):
    return Space((len(variables),), variables)


def fitted(density, data, sweeps, seed=0, weight=None):
    for index in range(sweeps):
        density.sweep(data, weight=weight, generator=stream(seed, "sweep", index))
    return density


def clusters_table(seed, rows=400, clusters=4):
    """Clusters in five numbers (one of them rounded) and four categories, a tenth of the cells
    missing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, clusters, rows)
    mean = 1.8 * rng.normal(size=(clusters, 5))
    numbers = mean[truth] + 0.6 * rng.normal(size=(rows, 5))
    numbers[:, 4] = numbers[:, 4].round()
    theta = rng.dirichlet(0.4 * np.ones(4), size=(clusters, 4))
    codes = [[rng.choice(4, p=theta[k, d]) for d in range(4)] for k in truth]
    variables = [Variable(f"x{d}", "real") for d in range(4)] + [
        Variable("n", "integer", resolution=1.0)
    ]
    variables += [Variable(f"c{d}", "category", cardinality=4) for d in range(4)]
    value = torch.tensor(np.concatenate([numbers, codes], 1))
    return space_of(*variables), Event(value, torch.tensor(rng.random(value.shape) > 0.1)), truth


# --------------------------------------------------------------------------------- conjugate pieces


@pytest.mark.parametrize("missing", [True, False])
def test_predictive_is_the_ratio_of_marginals(missing):
    items, prior = some_items(missing)
    where = np.array([0, 1, 0, 1, -1])
    counts = Counts.of(items, where, 2, prior)
    got = Predictive(counts, prior).log_prob(items.take(np.array([4])))[0]
    for k in range(2):
        joined = Counts.of(items, np.where(where < 0, k, where), 2, prior)
        assert got[k] == pytest.approx(
            log_marginal(joined, prior)[k] - log_marginal(counts, prior)[k], abs=1e-12
        )


def test_marginal_of_numbers_is_the_integral_over_mean_and_variance():
    prior = Prior(np.zeros((0, 1)), np.array([0.3]))
    x = np.array([0.4, -0.2, 1.1])
    items = Items(np.zeros((3, 0), dtype=int), x[:, None], np.ones((3, 1), dtype=bool), np.ones(3))
    got = log_marginal(Counts.of(items, np.zeros(3, dtype=int), 1, prior), prior)[0]
    log_variance = np.linspace(-6, 8, 400)
    mean = np.linspace(-40, 40, 4001)[:, None]
    sigma = np.exp(log_variance / 2)
    inverse_gamma = 2 * math.log(0.3) - gammaln(2) - 2 * log_variance - 0.3 / np.exp(log_variance)
    total = (
        norm.logpdf(mean, 0, sigma / math.sqrt(0.1))
        + inverse_gamma
        + sum(norm.logpdf(v, mean, sigma) for v in x)
    )
    area = (log_variance[1] - log_variance[0]) * (mean[1, 0] - mean[0, 0])
    assert got == pytest.approx(math.log(np.exp(total).sum() * area), abs=1e-4)


def test_counts_follow_items_in_and_out():
    items, prior = some_items()
    counts = Counts.of(items, np.array([0, 0, 0, 1, 1]), 2, prior)
    counts.move(items, 2, 0, -1.0)
    counts.move(items, 2, 1, 1.0)
    again = Counts.of(items, np.array([0, 0, 1, 1, 1]), 2, prior)
    for name in ("rows", "levels", "moments"):
        np.testing.assert_allclose(getattr(counts, name), getattr(again, name), atol=1e-12)


def test_copies_of_weighted_rows():
    copies = Copies.of(torch.tensor([1.0, 3.0, 2.5, 0.5]).double())
    assert copies.row.tolist() == [0, 1, 1, 1, 2, 2, 2, 3]
    torch.testing.assert_close(
        copies.weight, torch.tensor([1, 1, 1, 1, 5 / 6, 5 / 6, 5 / 6, 0.5]).double()
    )
    heavy = Copies.of(torch.full((4,), 1e9).double())
    assert len(heavy.row) <= 100_004
    assert float(heavy.weight.sum()) == pytest.approx(4e9)


# -------------------------------------------------------------------------------------- Student's t


def test_mass_of_students_t():
    low = torch.tensor([-1.0, 2.0, -math.inf, 3.0, -50.0]).double()
    high = torch.tensor([0.5, 2.001, -4.0, math.inf, -40.0]).double()
    freedom = torch.tensor([4.0, 7.5, 31.0, 4.0, 12.0]).double()
    a = low.numpy()
    b = high.numpy()
    nu = freedom.numpy()
    mass = np.where(
        a > 0, student.sf(a, nu) - student.sf(b, nu), student.cdf(b, nu) - student.cdf(a, nu)
    )
    np.testing.assert_allclose(
        student_log_mass(low, high, freedom).numpy(), np.log(mass), rtol=1e-9
    )
    low.requires_grad_(), high.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: student_log_mass(a, b, freedom)[[0, 1, 4]], (low, high)
    )


def test_quantiles_of_students_t():
    """Each on its own side of the middle, which draws alone would not show: they are symmetric."""
    share = torch.tensor([1e-12, 0.02, 0.4, 0.5, 0.7, 0.999]).double()
    freedom = torch.tensor([3.0, 4.0, 7.5, 31.0, 4.0, 12.0]).double()
    np.testing.assert_allclose(
        _student_quantile(share, freedom).numpy(),
        student.ppf(share.numpy(), freedom.numpy()),
        rtol=1e-8,
        atol=1e-12,
    )


def test_layer_of_students_t_matches_scipy_and_its_draws():
    variables = (
        Variable("a", "real"),
        Variable("b", "integer", resolution=1.0, bounds=(0.0, None)),
    )
    layer = StudentLayer(variables, 2)
    with torch.no_grad():
        layer.freedom.copy_(torch.tensor([[5.0, 9.0], [4.0, 30.0]]))
        layer.mean.copy_(torch.tensor([[0.0, 1.0], [0.5, 4.0]]))
        layer.log_scale.copy_(torch.tensor([[0.2, -0.5], [0.3, 0.1]]))
    value = torch.tensor([[0.3, 0.0], [-2.0, 3.0]]).double()
    got = layer.log_prob(value, torch.ones(2, 2, dtype=torch.bool)).detach().numpy()
    mean = layer.mean.detach().numpy()
    scale = layer.log_scale.detach().exp().numpy()
    nu = layer.freedom.numpy()
    np.testing.assert_allclose(
        got[:, 0], student.logpdf(value[:, :1].numpy(), nu[0], mean[0], scale[0]), rtol=1e-9
    )
    np.testing.assert_allclose(got[0, 1], student.logcdf(0.5, nu[1], mean[1], scale[1]), rtol=1e-8)
    cell = student.cdf(3.5, nu[1], mean[1], scale[1]) - student.cdf(2.5, nu[1], mean[1], scale[1])
    np.testing.assert_allclose(got[1, 1], np.log(cell), rtol=1e-8)
    draws = layer.sample(torch.zeros(20000, 2, dtype=torch.long), stream(0))
    assert float((draws[:, 1] == 3).double().mean()) == pytest.approx(
        math.exp(got[1, 1, 0]), abs=0.01
    )
    assert float((draws[:, 0] < 1).double().mean()) == pytest.approx(
        student.cdf(1, 5.0, 0.0, math.exp(0.2)), abs=0.015
    )


def test_the_cell_of_a_bound_has_all_that_lies_beyond_also_where_cells_are_narrow():
    column = Variable("a", "real", resolution=0.001, bounds=(0.0, 2.0))
    layer = StudentLayer((column,), 1)
    with torch.no_grad():
        layer.freedom.fill_(4.0)
        layer.mean.fill_(0.5)
        layer.log_scale.fill_(0.0)
    value = torch.tensor([[0.0], [2.0], [1.0]]).double()
    got = layer.log_prob(value, torch.ones(3, 1, dtype=torch.bool)).detach().numpy()[:, 0, 0]
    mass = [student.cdf(-0.4995, 4), student.sf(1.4995, 4), 0.001 * student.pdf(0.5, 4)]
    np.testing.assert_allclose(got, np.log(mass), rtol=1e-6)


def test_rows_add_up_their_cells():
    space, data, _ = clusters_table(0, rows=30)
    layer = ProductLayer(space.variables, 3)
    layer.start(space.check(data).value, data.mask, torch.ones(30).double())
    event = space.check(data)
    torch.testing.assert_close(
        layer.log_rows(event), layer.log_prob(event.value, event.mask).sum(1)
    )


def test_what_lies_behind_a_recorded_number():
    """Inside its cell, beyond a bound in the cell of the bound, and a spike as often as its share
    of the cell."""
    layer = ProductLayer(
        (Variable("n", "integer", resolution=1.0, bounds=(0.0, 5.0), atoms=(2.0,)),), 1
    )
    with torch.no_grad():
        layer.mean.fill_(1.5)
        layer.atom_logits.copy_(torch.tensor([[[0.3, 0.7]]]).log())
    for recorded, low, high in (
        (0.0, -math.inf, 0.5),
        (1.0, 0.5, 1.5),
        (5.0, 4.5, math.inf),
        (2.0, 1.5, 2.5),
    ):
        value = torch.full((4000, 1), recorded).double()
        number, part = layer.draw_parts(
            value, torch.zeros(4000, dtype=torch.long), stream(int(recorded))
        )
        assert float(number.min()) >= low and float(number.max()) <= high
        mass = norm.cdf(high, 1.5) - norm.cdf(low, 1.5)
        share = 0.3 / (0.3 + 0.7 * mass) if recorded == 2 else 0.0
        assert float((part == 0).double().mean()) == pytest.approx(share, abs=0.03)
        assert float(number.mean()) == pytest.approx(
            1.5 + (norm.pdf(low, 1.5) - norm.pdf(high, 1.5)) / mass, abs=0.05
        )


# ---------------------------------------------------------------- the exact posterior of partitions


@pytest.mark.parametrize("move", ["scan", "split_or_merge"])
def test_moves_visit_partitions_as_often_as_they_are_probable(move):
    items, prior = some_items()
    truth = exact(5, log_cluster_of(items, prior), alpha=0.8)
    assert sum(truth.values()) == pytest.approx(1) and len(truth) == 52
    rng = np.random.default_rng(1)
    restaurant = Restaurant(items, np.zeros(5, dtype=int), 5, prior, 0.8)
    draws = []
    for _ in range(2500):
        if move == "scan":
            restaurant.scan(rng.permutation(5), rng)
        else:
            for _ in range(2):
                restaurant.split_or_merge(rng)
        draws.append(named(restaurant.cluster))
    assert apart(draws, truth) < 0.08


def number_cluster(cells, prior):
    """log p(items) of a cluster of recorded numbers by quadrature over mean and variance: ``cells``
    gives (low, high, is_spike)."""
    log_variance = np.linspace(-7, 8, 300)
    mean = np.linspace(-25, 25, 2001)[:, None]
    sigma = np.exp(log_variance / 2)
    rate = prior.rate[0]
    base = (
        2 * math.log(rate)
        - log_variance * 2
        - rate / np.exp(log_variance)
        + norm.logpdf(mean, 0, sigma / math.sqrt(prior.trust))
    )
    inside = [norm.cdf(high, mean, sigma) - norm.cdf(low, mean, sigma) for low, high, _ in cells]
    area = (log_variance[1] - log_variance[0]) * (mean[1, 0] - mean[0, 0])

    def log_cluster(members):
        """A cell with an atom is a spike or a rounded number: sum over both for each of its
        items."""
        total = 0.0
        for spikes in itertools.product(
            *[(False, True) if cells[i][2] else (False,) for i in members]
        ):
            count = sum(spikes)
            n = len(members)
            parts = (
                gammaln(0.5 + count) + gammaln(0.5 + n - count) - 2 * gammaln(0.5) - gammaln(1 + n)
            )
            mass = np.exp(base)
            for i, spike in zip(members, spikes, strict=True):
                mass = mass if spike else mass * inside[i]
            total += math.exp(parts) * mass.sum() * area
        return math.log(total)

    return log_cluster


def test_sweeps_with_rounding_bounds_and_spikes_visit_partitions_as_often_as_they_are_probable(
    monkeypatch,
):
    """Four recorded numbers: two in one cell, one at a bound, one on an atom."""
    monkeypatch.setattr(dirichlet_process, "PROPOSALS_PER_SWEEP", 1)
    space = space_of(Variable("n", "integer", resolution=1.0, bounds=(0.0, None), atoms=(2.0,)))
    data = Event(torch.tensor([[0.0], [1.0], [2.0], [4.0]]).double())
    density = DirichletProcessDensity.build(space, DirichletProcess(samples=1), data, stream(0))
    middle = float(density.leaves.mean_prior)
    cells = [(-math.inf, 0.5, False), (0.5, 1.5, False), (1.5, 2.5, True), (3.5, 4.5, False)]
    cells = [(low - middle, high - middle, spike) for low, high, spike in cells]
    truth = exact(4, number_cluster(cells, density._prior()))
    draws = []
    for index in range(700):
        density.sweep(data, generator=stream(2, index))
        draws.append(named(density.latent["cluster"]))
    assert apart(draws, truth) < 0.08


# ------------------------------------------------------------------- Dirichlet process: the density


def test_predictive_of_one_sample_is_the_ratio_of_joint_probabilities():
    """p(row | partition, rows) by hand: every cluster and a new one, each the ratio of two marginal
    likelihoods."""
    space, data, _ = clusters_table(3, rows=25)
    data = space.check(data)
    # the rounded column has no closed form
    data = data._replace(observed=data.mask & (torch.arange(9) != 4))
    density = fitted(
        DirichletProcessDensity.build(space, DirichletProcess(samples=1), data, stream(0)), data, 3
    )
    restaurant = density._restaurant(data, Copies.of(torch.ones(25).double()))
    prior = restaurant.prior
    alpha = float(density.alpha)
    some = restaurant.items.take(np.array([7]))
    both = Items(*(np.concatenate([a, b]) for a, b in zip(restaurant.items, some, strict=True)))
    free = int(np.flatnonzero(restaurant.members == 0)[0])
    total = []
    for k in [*np.flatnonzero(restaurant.members), free]:
        joined = Counts.of(both, np.append(restaurant.cluster, k), density.most, prior)
        gain = log_marginal(joined, prior)[k] - log_marginal(restaurant.counts, prior)[k]
        total.append(math.log((restaurant.counts.rows[k] or alpha) / (25 + alpha)) + gain)
    with torch.no_grad():
        got = float(density.log_prob(data.take(torch.tensor([7]))))
    assert got == pytest.approx(np.logaddexp.reduce(total), abs=1e-9)


def test_only_the_last_half_of_the_sweeps_counts():
    space, data, _ = clusters_table(0, rows=30)
    density = DirichletProcessDensity.build(space, DirichletProcess(samples=3), data, stream(0))
    live = []
    for index in range(7):
        density.sweep(data, generator=stream(0, index))
        weight = density.log_weight.reshape(3, -1).exp().sum(1)
        live.append((weight > 0).nonzero()[:, 0].tolist())
        torch.testing.assert_close(
            weight[live[-1]], torch.full((len(live[-1]),), 1 / len(live[-1])).double()
        )
    assert live == [[0], [1], [1, 2], [0, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("family", [DirichletProcess(), IndianBuffet(most=3, samples=2)])
def test_a_checkpoint_goes_on_bit_for_bit(family):
    space, data, _ = clusters_table(1, rows=40)
    build = family.density.build
    whole = fitted(build(space, family, data, stream(0)), data, 6)
    half = fitted(build(space, family, data, stream(0)), data, 3)
    again = build(space, family, data, stream(9))
    again.load_state_dict({key: value.clone() for key, value in half.state_dict().items()})
    again._restore_sweep({key: value.clone() for key, value in half._sweep_state().items()})
    for index in range(3, 6):
        again.sweep(data, generator=stream(0, "sweep", index))
    assert all(
        torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items()
    )


def test_nothing_of_a_row_is_saved():
    """The number of saved numbers does not grow with the rows."""
    for family in (DirichletProcess(most=5), IndianBuffet(most=2)):
        sizes = []
        for rows in (60, 300):
            space, data, _ = clusters_table(1, rows=rows)
            density = fitted(family.density.build(space, family, data, stream(0)), data, 1)
            sizes.append(sum(value.numel() for value in density.state_dict().values()))
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_clusters_are_found(seed):
    space, data, truth = clusters_table(seed, rows=250)
    data = space.check(data)
    density = fitted(
        DirichletProcessDensity.build(space, DirichletProcess(), data, stream(seed)), data, 20, seed
    )
    found = density.features(data).argmax(1)
    assert adjusted_rand_score(truth, found) > 0.9


def test_one_cluster_stays_one():
    noise = torch.randn(200, 4, generator=stream(0), dtype=torch.float64)
    space = space_of(*[Variable(f"x{d}", "real") for d in range(4)])
    density = fitted(
        DirichletProcessDensity.build(space, DirichletProcess(), Event(noise), stream(0)),
        Event(noise),
        40,
    )
    sizes = np.bincount(density.latent["cluster"].numpy())
    assert sizes.max() > 190


# ------------------------------------------------------------------------------------ Indian buffet


def test_probability_that_a_utility_wins():
    mean = torch.tensor(
        [[0.3, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [9.0, 0.0, -3.0, 1.0]]
    ).double()
    drawn = (mean + torch.randn(400_000, 3, 4, generator=stream(0), dtype=torch.float64)).argmax(-1)
    share = torch.stack([(drawn == c).double().mean(0) for c in range(4)], 1)
    torch.testing.assert_close(log_wins(mean).exp(), share, atol=3e-3, rtol=0)
    two = torch.tensor([[0.7, -4.5]]).double()  # in closed form: a difference with variance 2
    np.testing.assert_allclose(
        log_wins(two)[0].exp().numpy(), [norm.cdf(5.2 / 2**0.5), norm.cdf(-5.2 / 2**0.5)], rtol=1e-5
    )


def test_utilities_given_the_winner():
    mean = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 0.0]]).double()
    n = 20_000
    for pattern, code in ((0, 1), (1, 2)):
        free = mean[pattern] + torch.randn(20 * n, 3, generator=stream(1), dtype=torch.float64)
        wanted = free[free.argmax(1) == code]
        drawn = draw_utilities(mean, torch.full((n,), pattern), torch.full((n,), code), stream(2))
        assert bool((drawn.argmax(1) == code).all())
        torch.testing.assert_close(drawn.mean(0), wanted.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(drawn.std(0), wanted.std(0), atol=0.05, rtol=0)


def some_buffet(n=6, features=2, seed=0, alpha=1.0):
    noise = torch.Generator().manual_seed(seed)
    z = (torch.rand(n, features, generator=noise) < 0.5).double()
    y = torch.randn(n, 3, generator=noise, dtype=torch.float64)
    known = torch.ones(n, 3).double()
    known[1, 0] = known[2, 2] = 0.0
    noise_variance = torch.tensor([0.4, 0.7, 1.0]).double()
    spread = torch.tensor([1.0, 1.0, 1.5]).double()
    return Buffet(y * known, known, torch.ones(n).double(), noise_variance, spread, z, alpha)


def test_evidence_is_the_marginal_of_a_normal():
    buffet = some_buffet()
    design = torch.cat([torch.ones(6, 1).double(), buffet.z], 1)
    total = 0.0
    for f in range(3):
        seen = buffet.known[:, f] > 0
        covariance = (
            buffet.noise[f] * torch.eye(int(seen.sum()))
            + buffet.spread[f] ** 2 * design[seen] @ design[seen].T
        )
        normal = torch.distributions.MultivariateNormal(
            torch.zeros(int(seen.sum())).double(), covariance
        )
        total += float(normal.log_prob(buffet.y[seen, f]))
    assert buffet.fit(buffet.z).evidence == pytest.approx(total, abs=1e-9)


def test_coefficients_are_drawn_from_their_posterior():
    fit = (buffet := some_buffet()).fit(buffet.z)
    draws = torch.stack([fit.draw(stream(index)) for index in range(4000)])
    torch.testing.assert_close(draws.mean(0), fit.mean, atol=0.06, rtol=0)
    covariance = torch.cholesky_inverse(fit.root)
    torch.testing.assert_close(
        draws.var(0), covariance.diagonal(dim1=1, dim2=2), atol=0.06, rtol=0.06
    )
    design = torch.tensor([[1.0, 0.0, 1.0]]).double()
    torch.testing.assert_close(
        fit.variance(design)[:, 0], torch.einsum("i,fij,j->f", design[0], covariance, design[0])
    )


def test_prior_of_features_is_the_integral_over_their_shares():
    buffet = some_buffet(alpha=1.7)
    pi = np.linspace(0, 1, 200_001)[1:-1]
    total = 0.0
    for column in buffet.z.T.numpy():
        held = column.sum()
        share = 1.7 / 2
        total += math.log(
            (share * pi ** (share - 1 + held) * (1 - pi) ** (6 - held)).sum() * (pi[1] - pi[0])
        )
    assert buffet.log_prior(buffet.z) == pytest.approx(total, abs=5e-3)


def test_moves_of_features_visit_matrices_as_often_as_they_are_probable():
    """All 64 matrices of 3 items and 2 features."""
    buffet = some_buffet(n=3)
    draws = []
    matrices = [
        torch.tensor(bits).double().reshape(3, 2) for bits in itertools.product((0, 1), repeat=6)
    ]
    score = np.array([buffet.fit(z).evidence + buffet.log_prior(z) for z in matrices])
    weight = np.exp(score - score.max())
    truth = {
        tuple(z.flatten().tolist()): float(w)
        for z, w in zip(matrices, weight / weight.sum(), strict=True)
    }
    rng = np.random.default_rng(0)
    for _ in range(700):
        buffet = buffet.move(rng)
        draws.append(tuple(buffet.z.flatten().tolist()))
    assert apart(draws, truth) < 0.15  # expected of as many independent draws: 0.09


def test_sweeps_visit_features_as_often_as_they_are_probable(monkeypatch):
    """Four real numbers, at most two features: enumeration, with variance and alpha summed over
    their priors."""
    monkeypatch.setattr(indian_buffet, "MOVES_PER_ROUND", 1)
    data = Event(torch.tensor([[-1.0], [-0.9], [0.8], [1.3]]).double())
    density = IndianBuffetDensity.build(
        space_of(Variable("x", "real")), IndianBuffet(most=2), data, stream(0)
    )
    unit = (data.value - density.leaves.mean_prior) / density.leaves.variance_prior.sqrt()
    variance = np.exp(np.linspace(-5, 5, 120))
    alphas = np.linspace(0.02, 12, 60)
    ig = 2 * math.log(0.2) - 2 * np.log(variance) - 0.2 / variance  # of log variance
    truth = Counter()
    for bits in itertools.product((0, 1), repeat=8):
        z = torch.tensor(bits).double().reshape(4, 2)
        design = torch.cat([torch.ones(4, 1).double(), z], 1)
        covariance = (
            torch.eye(4).double() * torch.as_tensor(variance)[:, None, None] + design @ design.T
        )
        normal = torch.distributions.MultivariateNormal(torch.zeros(4).double(), covariance)
        likelihood = (normal.log_prob(unit[:, 0]).numpy() + ig).astype(float)
        shares = alphas[:, None] / 2
        held = z.sum(0).numpy()
        prior = (
            gammaln(held + shares) + gammaln(5 - held) - gammaln(5 + shares) + np.log(shares)
        ).sum(1) - alphas
        truth[described(z)] += float(np.exp(likelihood).sum() * np.exp(prior).sum())
    truth = {key: value / sum(truth.values()) for key, value in truth.items()}
    draws = []
    seen = Buffet.move

    def move(buffet, rng):
        after = seen(buffet, rng)
        draws.append(described(after.z))
        return after

    monkeypatch.setattr(Buffet, "move", move)
    fitted(density, data, 900)
    assert apart(draws, truth) < 0.1


def described(z):
    """How many rows each feature has, in order: what labels do not change."""
    return tuple(sorted(z.sum(0).long().tolist())), bool(z[0].equal(z[1])), bool(z[1].equal(z[2]))


def features_table(seed, rows=250):
    """Three features in five numbers (one of them rounded) and four categories, a tenth of the
    cells missing."""
    rng = np.random.default_rng(seed)
    z = (rng.random((rows, 3)) < [0.5, 0.4, 0.3]).astype(float)
    numbers = (
        z @ (1.5 * rng.normal(size=(3, 5))) + 0.5 * rng.normal(size=(rows, 5)) + rng.normal(size=5)
    )
    numbers[:, 4] = numbers[:, 4].round()
    utilities = np.einsum("nk,kcl->ncl", z, 2 * rng.normal(size=(3, 4, 3))) + rng.normal(
        size=(rows, 4, 3)
    )
    variables = [Variable(f"x{d}", "real") for d in range(4)] + [
        Variable("n", "integer", resolution=1.0)
    ]
    variables += [Variable(f"c{d}", "category", cardinality=3) for d in range(4)]
    value = torch.tensor(np.concatenate([numbers, utilities.argmax(-1)], 1))
    return space_of(*variables), Event(value, torch.tensor(rng.random(value.shape) > 0.1)), z


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_features_are_found(seed):
    space, data, truth = features_table(seed)
    data = space.check(data)
    density = fitted(
        IndianBuffetDensity.build(space, IndianBuffet(most=5, samples=2), data, stream(seed)),
        data,
        8,
        seed,
    )
    has = density.features(data).numpy() > 0.5
    agree = np.array(
        [[(truth[:, i] == has[:, j]).mean() for j in range(has.shape[1])] for i in range(3)]
    )
    # a feature or its absence: both say the same
    rows, columns = linear_sum_assignment(-np.maximum(agree, 1 - agree))
    assert np.maximum(agree, 1 - agree)[rows, columns].min() > 0.9


def test_the_least_probable_patterns_are_left_out():
    log_weight = torch.tensor([0.5, 0.3, 0.2 - 3e-7, 2e-7, 1e-7]).double().log()
    kept = _without_tail(log_weight)
    assert torch.isfinite(kept).tolist() == [True, True, True, False, False]
    assert float(kept.exp().sum()) == pytest.approx(1)

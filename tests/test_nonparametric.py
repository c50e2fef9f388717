"""The two nonparametric families: their samplers against exact posteriors, planted structure, and their predictive densities."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import adjusted_rand_score

from conjoin.core import Event, Space, Variable, stream
from conjoin.families.classic.conjugate import Counts, Items, Predictive, Prior, log_marginal
from conjoin.families.classic.dirichlet_process import DirichletProcess, DirichletProcessDensity, Restaurant
from conjoin.families.classic.posterior import Copies, ProductLayer, StudentLayer, student_log_mass

# ------------------------------------------------------------------------------------------------------------ helpers


def partitions(n):
    """Every partition of n items, as the tuple of its clusters' numbers in the order of appearance."""
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
    return len(sizes) * np.log(alpha) + gammaln(sizes).sum() + gammaln(alpha) - gammaln(alpha + len(partition))


def exact(n, log_cluster, alpha=None):
    """p(partition | rows) by enumeration; ``log_cluster`` gives log p(items) of a tuple of items. Without alpha, over its prior."""
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
        codes[3], present[4], numbers[4] = -1, False, 0.0
    return Items(codes, numbers, present, np.ones(5)), Prior(np.array([[0.4, 0.6]]), np.array([0.3]))


def log_cluster_of(items, prior):
    def log_cluster(members):
        part = items.take(np.array(members))
        return float(log_marginal(Counts.of(part, np.zeros(len(members), dtype=int), 1, prior), prior)[0])

    return log_cluster


def space_of(*variables):
    return Space((len(variables),), variables)


def fitted(density, data, sweeps, seed=0, weight=None):
    for index in range(sweeps):
        density.sweep(data, weight=weight, generator=stream(seed, "sweep", index))
    return density


def clusters_table(seed, rows=400, clusters=4):
    """Clusters in five numbers (one of them rounded) and four categories, a tenth of the cells missing."""
    rng = np.random.default_rng(seed)
    truth, mean = rng.integers(0, clusters, rows), 1.8 * rng.normal(size=(clusters, 5))
    numbers = mean[truth] + 0.6 * rng.normal(size=(rows, 5))
    numbers[:, 4] = numbers[:, 4].round()
    theta = rng.dirichlet(0.4 * np.ones(4), size=(clusters, 4))
    codes = [[rng.choice(4, p=theta[k, d]) for d in range(4)] for k in truth]
    variables = [Variable(f"x{d}", "real") for d in range(4)] + [Variable("n", "integer", resolution=1.0)]
    variables += [Variable(f"c{d}", "category", cardinality=4) for d in range(4)]
    value = torch.tensor(np.concatenate([numbers, codes], 1))
    return space_of(*variables), Event(value, torch.tensor(rng.random(value.shape) > 0.1)), truth


# ---------------------------------------------------------------------------------------------------- conjugate pieces


def test_predictive_is_the_ratio_of_marginals():
    items, prior = some_items()
    where = np.array([0, 1, 0, 1, -1])
    counts = Counts.of(items, where, 2, prior)
    got = Predictive(counts, prior).log_prob(items.take(np.array([4])))[0]
    for k in range(2):
        joined = Counts.of(items, np.where(where < 0, k, where), 2, prior)
        assert got[k] == pytest.approx(log_marginal(joined, prior)[k] - log_marginal(counts, prior)[k], abs=1e-12)


def test_marginal_of_numbers_is_the_integral_over_mean_and_variance():
    prior = Prior(np.zeros((0, 1)), np.array([0.3]))
    x = np.array([0.4, -0.2, 1.1])
    items = Items(np.zeros((3, 0), dtype=int), x[:, None], np.ones((3, 1), dtype=bool), np.ones(3))
    got = log_marginal(Counts.of(items, np.zeros(3, dtype=int), 1, prior), prior)[0]
    log_variance = np.linspace(-6, 8, 400)
    mean = np.linspace(-40, 40, 4001)[:, None]
    sigma = np.exp(log_variance / 2)
    inverse_gamma = 2 * math.log(0.3) - gammaln(2) - 2 * log_variance - 0.3 / np.exp(log_variance)
    total = norm.logpdf(mean, 0, sigma / math.sqrt(0.1)) + inverse_gamma + sum(norm.logpdf(v, mean, sigma) for v in x)
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
    torch.testing.assert_close(copies.weight, torch.tensor([1, 1, 1, 1, 5 / 6, 5 / 6, 5 / 6, 0.5]).double())
    heavy = Copies.of(torch.full((4,), 1e9).double())
    assert len(heavy.row) <= 100_004
    assert float(heavy.weight.sum()) == pytest.approx(4e9)


# ------------------------------------------------------------------------------------------------- Student's t


def test_mass_of_students_t():
    low, high = torch.tensor([-1.0, 2.0, -math.inf, 3.0, -50.0]).double(), torch.tensor([0.5, 2.001, -4.0, math.inf, -40.0]).double()
    freedom = torch.tensor([4.0, 7.5, 31.0, 4.0, 12.0]).double()
    a, b, nu = low.numpy(), high.numpy(), freedom.numpy()
    mass = np.where(a > 0, student.sf(a, nu) - student.sf(b, nu), student.cdf(b, nu) - student.cdf(a, nu))
    np.testing.assert_allclose(student_log_mass(low, high, freedom).numpy(), np.log(mass), rtol=1e-9)
    low.requires_grad_(), high.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: student_log_mass(a, b, freedom)[[0, 1, 4]], (low, high))


def test_layer_of_students_t_matches_scipy_and_its_draws():
    variables = (Variable("a", "real"), Variable("b", "integer", resolution=1.0, bounds=(0.0, None)))
    layer = StudentLayer(variables, 2)
    with torch.no_grad():
        layer.freedom.copy_(torch.tensor([[5.0, 9.0], [4.0, 30.0]]))
        layer.mean.copy_(torch.tensor([[0.0, 1.0], [0.5, 4.0]]))
        layer.log_scale.copy_(torch.tensor([[0.2, -0.5], [0.3, 0.1]]))
    value = torch.tensor([[0.3, 0.0], [-2.0, 3.0]]).double()
    got = layer.log_prob(value, torch.ones(2, 2, dtype=torch.bool)).detach().numpy()
    mean, scale, nu = layer.mean.detach().numpy(), layer.log_scale.detach().exp().numpy(), layer.freedom.numpy()
    np.testing.assert_allclose(got[:, 0], student.logpdf(value[:, :1].numpy(), nu[0], mean[0], scale[0]), rtol=1e-9)
    np.testing.assert_allclose(got[0, 1], student.logcdf(0.5, nu[1], mean[1], scale[1]), rtol=1e-8)
    cell = student.cdf(3.5, nu[1], mean[1], scale[1]) - student.cdf(2.5, nu[1], mean[1], scale[1])
    np.testing.assert_allclose(got[1, 1], np.log(cell), rtol=1e-8)
    draws = layer.sample(torch.zeros(20000, 2, dtype=torch.long), stream(0))
    assert float((draws[:, 1] == 3).double().mean()) == pytest.approx(math.exp(got[1, 1, 0]), abs=0.01)
    assert float((draws[:, 0] < 1).double().mean()) == pytest.approx(student.cdf(1, 5.0, 0.0, math.exp(0.2)), abs=0.015)


def test_rows_add_up_their_cells():
    space, data, _ = clusters_table(0, rows=30)
    layer = ProductLayer(space.variables, 3)
    layer.start(space.check(data).value, data.mask, torch.ones(30).double())
    event = space.check(data)
    torch.testing.assert_close(layer.log_rows(event), layer.log_prob(event.value, event.mask).sum(1))


def test_what_lies_behind_a_recorded_number():
    """Inside its cell, beyond a bound in the cell of the bound, and a spike as often as its share of the cell."""
    layer = ProductLayer((Variable("n", "integer", resolution=1.0, bounds=(0.0, 5.0), atoms=(2.0,)),), 1)
    with torch.no_grad():
        layer.mean.fill_(1.5)
        layer.atom_logits.copy_(torch.tensor([[[0.3, 0.7]]]).log())
    for recorded, low, high in ((0.0, -math.inf, 0.5), (1.0, 0.5, 1.5), (5.0, 4.5, math.inf), (2.0, 1.5, 2.5)):
        value = torch.full((4000, 1), recorded).double()
        number, part = layer.draw_parts(value, torch.zeros(4000, dtype=torch.long), stream(int(recorded)))
        assert float(number.min()) >= low and float(number.max()) <= high
        mass = norm.cdf(high, 1.5) - norm.cdf(low, 1.5)
        share = 0.3 / (0.3 + 0.7 * mass) if recorded == 2 else 0.0
        assert float((part == 0).double().mean()) == pytest.approx(share, abs=0.03)
        assert float(number.mean()) == pytest.approx(1.5 + (norm.pdf(low, 1.5) - norm.pdf(high, 1.5)) / mass, abs=0.05)


# ---------------------------------------------------------------------------------------- the exact posterior of partitions


@pytest.mark.parametrize("move", ["scan", "split_or_merge"])
def test_moves_visit_partitions_as_often_as_they_are_probable(move):
    items, prior = some_items()
    truth = exact(5, log_cluster_of(items, prior), alpha=0.8)
    assert sum(truth.values()) == pytest.approx(1) and len(truth) == 52
    rng, restaurant, draws = np.random.default_rng(1), Restaurant(items, np.zeros(5, dtype=int), 5, prior, 0.8), []
    for _ in range(2500):
        if move == "scan":
            restaurant.scan(rng.permutation(5), rng)
        else:
            for _ in range(2):
                restaurant.split_or_merge(rng)
        draws.append(named(restaurant.cluster))
    assert apart(draws, truth) < 0.08


def number_cluster(cells, prior):
    """log p(items) of a cluster of recorded numbers by quadrature over mean and variance: ``cells`` gives (low, high, is_spike)."""
    log_variance, mean = np.linspace(-7, 8, 300), np.linspace(-25, 25, 2001)[:, None]
    sigma = np.exp(log_variance / 2)
    rate = prior.rate[0]
    base = 2 * math.log(rate) - log_variance * 2 - rate / np.exp(log_variance) + norm.logpdf(mean, 0, sigma / math.sqrt(prior.trust))
    inside = [norm.cdf(high, mean, sigma) - norm.cdf(low, mean, sigma) for low, high, _ in cells]
    area = (log_variance[1] - log_variance[0]) * (mean[1, 0] - mean[0, 0])

    def log_cluster(members):
        """A cell with an atom is a spike or a rounded number: sum over both for each of its items."""
        total = 0.0
        for spikes in itertools.product(*[(False, True) if cells[i][2] else (False,) for i in members]):
            count, n = sum(spikes), len(members)
            parts = gammaln(0.5 + count) + gammaln(0.5 + n - count) - 2 * gammaln(0.5) - gammaln(1 + n)
            mass = np.exp(base)
            for i, spike in zip(members, spikes, strict=True):
                mass = mass if spike else mass * inside[i]
            total += math.exp(parts) * mass.sum() * area
        return math.log(total)

    return log_cluster


def test_sweeps_with_rounding_bounds_and_spikes_visit_partitions_as_often_as_they_are_probable():
    """Four recorded numbers: two in one cell, one at a bound, one on an atom."""
    space = space_of(Variable("n", "integer", resolution=1.0, bounds=(0.0, None), atoms=(2.0,)))
    data = Event(torch.tensor([[0.0], [1.0], [2.0], [4.0]]).double())
    density = DirichletProcessDensity.build(space, DirichletProcess(samples=1), data, stream(0))
    middle = float(density.leaves.mean_prior)
    cells = [(-math.inf, 0.5, False), (0.5, 1.5, False), (1.5, 2.5, True), (3.5, 4.5, False)]
    cells = [(low - middle, high - middle, spike) for low, high, spike in cells]
    truth = exact(4, number_cluster(cells, density._prior()))
    draws = []
    for index in range(1500):
        density.sweep(data, generator=stream(2, index))
        draws.append(named(density.latent["cluster"]))
    assert apart(draws, truth) < 0.07

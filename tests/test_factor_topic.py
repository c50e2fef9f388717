"""Factor analysis, probabilistic PCA and latent Dirichlet allocation against dense formulas,
enumeration and planted truth.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from conjoin import JointClassifier, JointDensity
from conjoin.core import Event, Space, Variable, categorical, stream
from conjoin.families import name_of, resolve
from conjoin.families.classic import topic
from conjoin.families.classic.counts import CountLayer, is_count
from conjoin.families.classic.factor import Factor, FactorDensity, default_factors
from conjoin.families.classic.topic import (
    Topic,
    TopicDensity,
    dirichlet_points,
    distinct_values,
    tilted,
)
from conjoin.testing.spaces import CLASSES


def reals(count):
    return Space((count,), tuple(Variable(f"x{d}", "real") for d in range(count)))


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def holes(shape, share, seed=5):
    return torch.rand(shape, generator=stream(seed), dtype=torch.float64) > share


def trained(kind, space, config, data, rounds, **context):
    """A density after some rounds of EM, and the mean log_prob before the last one."""
    model = kind.build(space, config, data, stream(0), **context)
    value = math.nan
    for _ in range(rounds):
        statistics = model.statistics(data, context.get("context"))
        value = float(statistics["log_prob"]) / data.rows
        model.maximise(statistics)
    return model, value


def planted(rows=1500, columns=6, factors=2, noise=None):
    """Numbers moved by factors, and the covariance that they have."""
    generator = stream(3)
    loading = torch.randn(columns, factors, generator=generator, dtype=torch.float64)
    noise = torch.linspace(0.1, 0.6, columns, dtype=torch.float64) if noise is None else noise
    hidden = torch.randn(rows, factors, generator=generator, dtype=torch.float64)
    own = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return 3 + hidden @ loading.T + own * noise.sqrt(), loading @ loading.T + torch.diag(noise)


# ------------------------------------------------------------------------------------------ factors


def dense(model, k=0):
    """The covariance that the factors stand for."""
    with torch.no_grad():
        return model._loadings()[k] @ model._loadings()[k].T + torch.diag(model._noise()[k])


def two_classes(config, rows=120):
    data, _ = planted(rows, 5)
    label = Event((torch.arange(rows) % 2).double())
    event = Event(data + label.value[:, None], holes(data.shape, 0.2))
    return (
        trained(FactorDensity, reals(5), config, event, 5, context=label, context_space=CLASSES)[0],
        event,
        label,
    )


CONFIGS = [Factor(2), Factor(2, "shared"), Factor(2, tie=True), Factor(2, "shared", tie=True)]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_log_prob_is_that_of_the_dense_gaussian(config):
    model, event, _ = two_classes(config)
    each = model.log_contexts(event.take(slice(0, 20))).detach()
    for row, k in itertools.product(range(20), range(2)):
        seen = event.mask[row]
        normal = torch.distributions.MultivariateNormal(
            model.mean[k, seen].detach(), dense(model, k)[seen][:, seen]
        )
        assert each[row, k].item() == pytest.approx(
            normal.log_prob(event.value[row, seen]).item(), abs=1e-8
        )


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_missing_numbers_follow_the_dense_conditional(config):
    model, event, _ = two_classes(config)
    known = torch.tensor([True, False, True, False, True])
    covariance = dense(model, 1)
    mean = model.mean[1].detach()
    row = event.value[0]
    gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, ~known])
    centre = mean[~known] + (row[known] - mean[known]) @ gain
    left = covariance[~known][:, ~known] - covariance[~known][:, known] @ gain
    one = Event(torch.ones(1).double())
    best = model.mode(Event(row[None], known[None]), one).value[0]
    assert torch.allclose(best[~known], centre, atol=1e-8)
    rows = Event(row.expand(20000, -1), known.expand(20000, -1))
    drawn = model.sample_conditional(
        rows, Event(torch.ones(20000).double()), generator=stream(1)
    ).value[:, ~known]
    assert torch.allclose(drawn.mean(0), centre, atol=0.05)
    assert torch.allclose(torch.cov(drawn.T), left, atol=0.06)


def test_features_are_the_posterior_means_of_the_factors():
    data, _ = planted(50, 4)
    model, _ = trained(FactorDensity, reals(4), Factor(2), Event(data), 5)
    with torch.no_grad():
        regression = model.loading[0].T @ torch.linalg.inv(dense(model))
        expected = (data - model.mean[0]) @ regression.T
        assert torch.allclose(model.features(Event(data)), expected, atol=1e-8)


@pytest.mark.parametrize("noise", ["own", "shared"])
def test_noise_is_set_to_the_closed_form_of_what_was_scattered(noise):
    """Of a variance with its floor counted once: what the floor holds already is not added."""
    data, _ = planted(50, 3)
    model = FactorDensity.build(reals(3), Factor(1, noise), Event(data), stream(0))
    model.variance_prior.fill_(1e4)  # so that the floor is 1 for each column
    wanted = torch.full((1, 3), 2.5).double()
    with torch.no_grad():
        model._set_noise(torch.full((1, 3), 20.0).double(), 20 * wanted)
    torch.testing.assert_close(model._noise().detach(), wanted, rtol=1e-4, atol=0)


def test_factor_analysis_recovers_a_planted_covariance_from_incomplete_rows():
    """The covariance is that of the rows before cells were hidden, the noise what was planted."""
    data, _ = planted(columns=12)
    model, _ = trained(FactorDensity, reals(12), Factor(2), Event(data, holes(data.shape, 0.3)), 60)
    complete = torch.cov(data.T)
    scale = complete.diagonal().sqrt()
    assert float(((dense(model) - complete) / (scale[:, None] * scale)).abs().max()) < 0.06
    assert torch.allclose(model.mean[0].detach(), torch.full((12,), 3.0).double(), atol=0.15)
    assert torch.allclose(
        model._noise()[0].detach(), torch.linspace(0.1, 0.6, 12).double(), atol=0.1
    )


def test_probabilistic_pca_is_the_closed_form_on_complete_rows():
    """Tipping and Bishop (1999), equations 7 and 8."""
    data, _ = planted(noise=torch.full((6,), 0.3).double())
    model, _ = trained(FactorDensity, reals(6), Factor(2, "shared", shrinkage=0.0), Event(data), 60)
    power, axes = torch.linalg.eigh(torch.cov(data.T, correction=0))
    rest = power[:-2].mean()
    best = axes[:, -2:] @ torch.diag(power[-2:] - rest) @ axes[:, -2:].T + rest * torch.eye(6)
    assert torch.allclose(dense(model), best, atol=2e-3)
    assert torch.allclose(model.mean[0].detach(), data.mean(0), atol=1e-3)


def penalty(model):
    """What the prior rows take from the log-likelihood (that of the means is too weak to
    matter)."""
    noise = model._noise()
    loading = model._loadings()
    return (
        0.5
        * model.config.shrinkage
        * (noise.log() + (model.variance_prior + loading.square().sum(-1)) / noise).sum()
    )


@pytest.mark.parametrize(
    "config", [Factor(2), Factor(2, "shared"), Factor(3, shrinkage=20.0)], ids=str
)
def test_each_round_raises_the_penalised_likelihood(config):
    data, _ = planted(80, 5)
    space = Space((5,), (*reals(4).variables, Variable("years", "integer", resolution=0.5)))
    data[:, 4] = (data[:, 4] * 2).round() / 2
    event = Event(data, holes(data.shape, 0.25))
    model = FactorDensity.build(space, config, event, stream(0))
    last = -math.inf
    with torch.no_grad():
        for _ in range(40):
            found = model.statistics(event)
            value = float(found["log_prob"] - penalty(model))
            assert value >= last - 1e-3
            last = value
            model.maximise(found)
    assert float(model._noise()[0, 4].detach()) >= (0.6 * 0.5) ** 2


def test_tied_classes_are_pooled_by_their_precision():
    """One class is all noise: W is learned from the other."""
    data, _ = planted(800, 6)
    label = Event((torch.arange(800) % 2).double())
    noisy = data + 6 * label.value[:, None] * torch.randn(
        data.shape, generator=stream(8), dtype=torch.float64
    )
    model, _ = trained(
        FactorDensity,
        reals(6),
        Factor(2, tie=True),
        Event(noisy),
        60,
        context=label,
        context_space=CLASSES,
    )
    found = dense(model)
    scale = torch.cov(data[::2].T).diagonal().sqrt()
    assert model.loading.shape == (1, 6, 2)
    assert float(((found - torch.cov(data[::2].T)) / (scale[:, None] * scale)).abs().max()) < 0.1
    assert torch.allclose(
        (model._noise()[1] - model._noise()[0]).detach(), torch.full((6,), 36.0).double(), rtol=0.15
    )


def test_weak_noise_does_not_hold_the_mean_back():
    """The mean of complete rows is their average after a single round, however small Psi is."""
    data, _ = planted(200, 4, noise=torch.full((4,), 1e-3).double())
    model, _ = trained(FactorDensity, reals(4), Factor(2), Event(data), 1)
    assert torch.allclose(model.mean[0].detach(), data.mean(0), atol=1e-3)
    with torch.no_grad():
        model.mean += model._loadings().sum(-1)  # where all rows lie on one side of it
        model.maximise(model.statistics(Event(data)))
    assert torch.allclose(model.mean[0].detach(), data.mean(0), atol=1e-3)


def test_recorded_numbers_are_drawn_on_their_lattice():
    space = Space((2,), (Variable("a", "real"), Variable("b", "real", resolution=0.5, origin=0.25)))
    data, _ = planted(200, 2)
    data[:, 1] = (data[:, 1] * 2).floor() / 2 + 0.25
    model, _ = trained(FactorDensity, space, Factor(1), Event(data), 5)
    drawn = model.sample(4000, generator=stream(0)).value
    assert torch.equal((drawn[:, 1] - 0.25) % 0.5, torch.zeros(4000).double())
    assert drawn[:, 1].var().item() == pytest.approx(dense(model)[1, 1].item(), rel=0.1)
    assert (model.mode(Event(data).hide(torch.tensor([False, True]))).value[:, 1] - 0.25).remainder(
        0.5
    ).abs().max() == 0


def test_many_columns_cost_no_square_of_them():
    data, truth = planted(400, 300, 3)
    model, value = trained(FactorDensity, reals(300), Factor(3), Event(data), 30)
    best = (
        torch.distributions.MultivariateNormal(torch.full((300,), 3.0).double(), truth)
        .log_prob(data)
        .mean()
    )
    assert value == pytest.approx(best.item(), abs=6)
    assert sum(parameter.numel() for parameter in model.parameters()) == 300 * 5


@pytest.mark.parametrize("noise", ["own", "shared"])
def test_degenerate_tables(noise):
    cases = {
        "one row": torch.tensor([[1.0, 2.0, 3.0]]),
        "a constant column": torch.tensor([[1.0, 2.0, 5.0], [0.0, 1.0, 5.0], [0.5, 0.0, 5.0]]),
        "more factors than rows": torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0]]),
    }
    for name, value in cases.items():
        model, _ = trained(FactorDensity, reals(3), Factor(3, noise), Event(value.double()), 10)
        assert torch.isfinite(model.log_prob(Event(value.double()))).all(), name
        assert torch.isfinite(model.sample(5, generator=stream(0)).value).all(), name


def test_a_class_without_rows_keeps_the_columns_marginals():
    data, _ = planted(60, 3)
    three = Space((), (Variable("y", "category", cardinality=3),))
    label = Event((torch.arange(60) % 2).double())
    model, _ = trained(
        FactorDensity, reals(3), Factor(1), Event(data), 5, context=label, context_space=three
    )
    with torch.no_grad():
        assert torch.allclose(model.mean[2], model.mean_prior)
        assert torch.allclose(dense(model, 2).diagonal(), model.variance_prior, rtol=1e-3)


def test_categories_alone_need_no_factor():
    codes = Space((1,), (Variable("colour", "category", cardinality=2),))
    data = Event(torch.tensor([[0.0], [1.0], [1.0]]).double())
    model, _ = trained(FactorDensity, codes, Factor(), data, 2)
    assert not model.capabilities.features
    assert model.log_prob(
        Event(torch.tensor([[0.0], [1.0]]).double())
    ).exp().sum().item() == pytest.approx(1)


def test_settings_of_factors():
    assert name_of(resolve("pca")) == "ppca"
    assert name_of(resolve("fa")) == "factor_analysis"
    assert [default_factors(0, 1), default_factors(400, 9), default_factors(10**6, 784)] == [
        1,
        5,
        32,
    ]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        FactorDensity.build(reals(2), Factor(0), Event(torch.zeros(2, 2).double()), stream(0))


# ------------------------------------------------------------------------------------------- topics

BINARY = Space((4,), tuple(Variable(name, "category", cardinality=2) for name in "abcd"))


def with_parameters(space, config, topics, **named):
    model = TopicDensity(space, config, {"topics": topics})
    with torch.no_grad():
        for name, value in named.items():
            dict(model.named_parameters())[name.replace("__", ".")].copy_(value)
    return model


def of_codes(alpha, points=256):
    """Two topics over four binary columns."""
    levels = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8]],
            [[0.5, 0.5], [0.7, 0.3]],
            [[0.1, 0.9], [0.6, 0.4]],
            [[0.8, 0.2], [0.05, 0.95]],
        ]
    )
    return with_parameters(
        BINARY,
        Topic(2, points),
        2,
        leaves__logits=levels.log(),
        log_alpha=torch.tensor(alpha).log(),
    )


def every_code():
    return torch.cartesian_prod(*[torch.arange(2.0)] * 4).double()


def polya(alpha, topics):
    """p(z): the Dirichlet integral of a product of shares (L. Devroye (1986), Non-uniform random
    variate generation, XI.4)."""
    counts = [topics.count(k) for k in range(len(alpha))]
    total = math.lgamma(sum(alpha)) - math.lgamma(sum(alpha) + len(topics))
    return math.exp(
        total + sum(math.lgamma(a + n) - math.lgamma(a) for a, n in zip(alpha, counts, strict=True))
    )


def exact_integral(model, alpha, value):
    """p(x) with the integral done exactly: a sum over the topics of all cells."""
    leaf = model.leaves.log_prob(value, torch.ones_like(value, dtype=torch.bool)).detach().exp()
    total = torch.zeros(len(value)).double()
    for topics in itertools.product(range(2), repeat=4):
        total += polya(alpha, topics) * leaf[:, range(4), topics].prod(1)
    return total


def test_log_prob_is_the_sum_over_points_and_topics():
    model = of_codes([0.4, 1.5], points=8)
    value = every_code()
    leaf = model.leaves.log_prob(value, torch.ones_like(value, dtype=torch.bool)).exp()
    weight = model._log_weight().exp()
    total = sum(weight[s] * (leaf @ model.theta[s]).prod(1) for s in range(8))
    assert torch.allclose(model.log_prob(Event(value)).exp(), total)
    assert total.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("alpha", [[0.15, 0.15], [0.5, 0.5], [0.4, 1.5], [3.0, 3.0]], ids=str)
def test_the_quadrature_comes_near_the_dirichlet_integral(alpha):
    value = every_code()
    errors = []
    for points in (64, 256, 4096):
        model = of_codes(alpha, points)
        errors.append(
            float(
                (model.log_prob(Event(value)).detach() - exact_integral(model, alpha, value).log())
                .abs()
                .max()
            )
        )
    assert errors[1] < 0.06
    assert errors[2] < 0.01


def test_points_are_always_the_same_and_cover_sparse_and_even_rows():
    first = dirichlet_points(3, 128)
    again = dirichlet_points(3, 128)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.allclose(first.theta.sum(1), torch.ones(128).double())
    top = first.theta.max(1).values
    assert top.max() > 0.999
    assert top.min() < 0.45
    assert first.length.mean().item() == pytest.approx(1, abs=0.05)


def test_the_moments_of_theta_are_those_of_its_dirichlet():
    points = dirichlet_points(3, 4096)
    alpha = torch.tensor([0.3, 0.6, 1.2, 2.0]).double()
    weight = (points.statistic @ alpha + points.log_base).softmax(0)
    mean = alpha[:3] / alpha[:3].sum()
    assert torch.allclose(weight @ points.theta, mean, atol=0.01)
    variance = mean * (1 - mean) / (1 + alpha[:3].sum())
    assert torch.allclose(
        weight @ points.theta.square() - (weight @ points.theta) ** 2, variance, atol=0.01
    )


def test_tilting_finds_the_alpha_that_made_the_weights():
    points = dirichlet_points(3, 256)
    alpha = torch.tensor([0.2, 0.7, 1.5, 2.0]).double()
    share = (points.statistic @ alpha + points.log_base).softmax(0)
    found = tilted(points.statistic, points.log_base, share, torch.zeros(4).double())
    assert torch.allclose(found.exp(), alpha, atol=1e-4)


def test_distinct_values_are_the_table():
    value = torch.tensor([[1.0, 5.0], [2.0, 0.0], [1.0, 7.0], [0.0, 5.0]]).double()
    mask = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    table, place = distinct_values(Event(value, mask))
    assert table.value.shape == (3, 2)
    assert torch.equal(table.mask.flatten()[place], mask)
    assert torch.equal(table.value.flatten()[place][mask], value[mask])


def memberships(rows, topics, seed):
    return torch.as_tensor(np.random.default_rng(seed).dirichlet([0.4] * topics, rows))


def best_match(found, truth):
    """Columns of ``found`` in the order of ``truth``, and the least of their correlations."""
    size = truth.shape[1]
    each = torch.corrcoef(torch.cat([found, truth], 1).T)[:size, size:]
    order = max(
        itertools.permutations(range(size)),
        key=lambda p: min(float(each[p[i], i]) for i in range(size)),
    )
    return list(order), min(float(each[order[i], i]) for i in range(size))


def document_counts(rows=300, words=20, topics=3):
    beta = torch.as_tensor(np.random.default_rng(0).dirichlet([0.2] * words, topics))
    theta = memberships(rows, topics, 1)
    return torch.poisson(60 * theta @ beta, generator=stream(1)), beta, theta


def word_space(words, **fields):
    fields = {"resolution": 1.0, "bounds": (0.0, None)} | fields
    return Space((words,), tuple(Variable(f"w{d}", "integer", **fields) for d in range(words)))


def test_topics_of_words_are_recovered():
    counts, beta, theta = document_counts()
    model, _ = trained(
        TopicDensity,
        word_space(20),
        Topic(3, words=True),
        Event(counts, holes(counts.shape, 0.05)),
        50,
    )
    order, least = best_match(model.words.log_rate.detach().exp(), beta.T)
    assert least > 0.95
    each = torch.corrcoef(
        torch.cat([model.features(Event(counts)).detach()[:, order], theta], 1).T
    )[:3, 3:]
    assert each.diagonal().min() > 0.9


def test_topics_of_cells_are_recovered():
    levels = torch.as_tensor(np.random.default_rng(2).dirichlet([0.3] * 4, (3, 30)))  # (K, D, L)
    theta = memberships(600, 3, 1)
    which = categorical(theta.log()[:, None].expand(-1, 30, -1), stream(1))
    value = categorical(levels.log()[which, torch.arange(30)], stream(2)).double()
    space = Space((30,), tuple(Variable(f"x{d}", "category", cardinality=4) for d in range(30)))
    model, _ = trained(TopicDensity, space, Topic(3), Event(value, holes(value.shape, 0.05)), 60)
    found = model.leaves.log_levels().detach().exp().transpose(1, 2).flatten(0, 1)
    order, least = best_match(found, levels.permute(1, 2, 0).flatten(0, 1))
    assert least > 0.95
    each = torch.corrcoef(torch.cat([model.features(Event(value)).detach()[:, order], theta], 1).T)[
        :3, 3:
    ]
    assert each.diagonal().min() > 0.88
    assert 0.1 < float(model.log_alpha.detach().exp().mean()) < 0.7


def test_blocks_of_rows_change_nothing(monkeypatch):
    space = Space(
        (3,),
        (
            *reals(1).variables,
            Variable("c", "category", cardinality=3),
            Variable("n", "integer", resolution=1.0),
        ),
    )
    noise = stream(0)
    value = torch.stack(
        [
            torch.randn(50, generator=noise),
            torch.randint(0, 3, (50,), generator=noise),
            torch.arange(50) % 7,
        ],
        1,
    ).double()
    event = Event(value, holes(value.shape, 0.1))
    model, _ = trained(TopicDensity, space, Topic(2, 32), event, 2)
    whole = (
        model.log_prob(event).detach(),
        model.statistics(event, weight=torch.arange(50).double()),
    )
    monkeypatch.setattr(topic, "MAX_NUMBERS_AT_ONCE", 600)
    assert len(list(model._blocks(event))) > 4
    assert torch.allclose(model.log_prob(event).detach(), whole[0], atol=1e-10)
    for key, part in model.statistics(event, weight=torch.arange(50).double()).items():
        assert torch.allclose(part, whole[1][key], atol=1e-8), key


# -------------------------------------------------------------------------------------------- words


def of_words(**settings):
    """Two count columns (in units of half a count, from -1 up) and a category."""
    space = Space(
        (3,),
        (
            *word_space(2, resolution=0.5, bounds=(-1.0, None)).variables,
            Variable("c", "category", cardinality=2),
        ),
    )
    rates = doubles([4.0, 0.5], [0.3, 2.0]).log()
    levels = doubles([[0.9, 0.1], [0.2, 0.8]]).log()
    return with_parameters(
        space, Topic(2, 64, words=True, **settings), 2, words__log_rate=rates, leaves__logits=levels
    )


def test_bags_of_words_sum_to_one_and_marginals_are_sums():
    model = of_words()
    counts = torch.arange(60).double() / 2 - 1
    grid = torch.cartesian_prod(counts, counts, torch.arange(2.0).double())
    log_prob = model.log_prob(Event(grid)).detach()
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-6)
    one = grid[:, 0] == 0.5
    known = Event(torch.tensor([[0.5, 0.0, 0.0]]).double(), torch.tensor([[True, False, False]]))
    assert model.log_prob(known).item() == pytest.approx(
        log_prob[one].logsumexp(0).item(), abs=1e-6
    )
    assert model.log_prob(Event(torch.tensor([[-1.5, 0.0, 0.0]]).double())).item() == -math.inf


def test_given_its_topics_a_count_is_poisson():
    model = of_words()
    value = torch.tensor([[1.0, 0.5, 1.0]]).double()  # 4 and 3 words
    theta = model.theta
    words = doubles(4.0, 3.0)
    total = 0.0
    for s, weight in enumerate(model._log_weight().detach().exp()):
        rates = model.length[s] * (theta[s] @ doubles([4.0, 0.3], [0.5, 2.0]))
        given = torch.distributions.Poisson(rates).log_prob(words).sum().exp()
        total += weight * given * (theta[s] @ doubles(0.1, 0.8))
    assert model.log_prob(Event(value)).item() == pytest.approx(math.log(total), abs=1e-8)


def test_draws_of_words_follow_log_prob():
    model = of_words()
    known = Event(torch.tensor([[0.0, 0.5, 0.0]]).double(), torch.tensor([[False, True, False]]))
    grid = torch.cartesian_prod(
        torch.arange(40).double() / 2 - 1, torch.tensor([0.5]).double(), torch.arange(2.0).double()
    )
    share = (model.log_prob(Event(grid)).detach() - model.log_prob(known).detach()).exp()
    drawn = model.sample_conditional(
        known.take(torch.zeros(8000, dtype=torch.long)), generator=stream(2)
    ).value
    assert torch.allclose(drawn.mean(0), share @ grid, atol=0.06)
    best = model.mode(known).value
    assert model.log_prob(Event(best)) > model.log_prob(Event(drawn[:200])).median()


def test_em_with_words_climbs_and_comes_to_rest():
    counts, _, _ = document_counts(60, 4, 2)
    counts = (counts * torch.linspace(0.1, 2.5, 60)[:, None]).round()  # documents of many lengths
    event = Event(counts, holes(counts.shape, 0.1))
    weight = torch.full((60,), 1e7).double()
    model = TopicDensity.build(
        word_space(4), Topic(2, 64, words=True), event, stream(0), weight=weight
    )
    last = -math.inf
    for _ in range(600):
        found = model.statistics(event, weight=weight)
        value = float(found["log_prob"]) / float(weight.sum())
        assert value >= last - 1e-7
        if value < last + 1e-11:
            break
        last = value
        model.maximise(found)
    model.loss(event, weight=weight).backward()
    for name, parameter in model.named_parameters():
        assert float(parameter.grad.abs().max()) < 3e-3, name


def test_a_count_as_first_variable_is_tried_like_any_other():
    model = of_words()
    event = Event(torch.tensor([[0.0, 0.5, 1.0], [0.0, -1.0, 0.0]]).double())
    candidates = torch.tensor([-1.0, 0.0, 3.0]).double()
    each = [
        model.log_prob(Event(torch.cat([c.expand(2, 1), event.value[:, 1:]], 1)))
        for c in candidates
    ]
    assert torch.allclose(model.log_target(event, candidates), torch.stack(each, 1))


def test_counts_are_those_without_an_end():
    assert is_count(Variable("n", "integer", resolution=1.0, bounds=(0.0, None)))
    assert not is_count(Variable("n", "integer", resolution=1.0, bounds=(0.0, 9.0)))
    assert not is_count(Variable("n", "integer", resolution=1.0))
    layer = CountLayer((Variable("n", "integer", resolution=0.5, bounds=(-1.0, None)),), 1)
    assert layer.value(layer.counts(torch.tensor([[0.5]]).double())).item() == 0.5
    assert not of_words().capabilities.regions


def test_topics_predict_a_class_of_documents():
    counts, _, theta = document_counts(500)
    y = theta.argmax(1).numpy()
    X = pd.DataFrame(counts.numpy().astype(int))
    model = JointClassifier(family=Topic(3, words=True), predictor=None, random_state=0).fit(
        X[:350], y[:350]
    )
    assert model.score(X[350:], y[350:]) > 0.8
    assert model.score(X[350:], y[350:]) > np.bincount(y[350:]).max() / 150 + 0.2


@pytest.mark.parametrize("words", [False, True])
def test_small_tables_have_topics_too(words):
    frame = pd.DataFrame(
        {"n": [0, 3, 1, 7, 2], "x": [0.1, 0.5, 0.25, 1.75, np.nan], "c": ["a", "b", "a", "b", "a"]}
    )
    for rows in (2, 5):
        model = JointDensity(family=Topic(words=words)).fit(frame[:rows])
        assert np.isfinite(model.score_samples(frame[:rows])).all()


def test_settings_of_topics():
    for name in ("topic", "lda_topics", "latent_dirichlet"):
        assert name_of(resolve(name)) == "topic"
    empty = Event(torch.zeros(2, 4).double())
    with pytest.raises(ValueError, match="topics must be at least 1, got 0"):
        TopicDensity.build(BINARY, Topic(0), empty, stream(0))
    with pytest.raises(ValueError, match="at least 1 point, got 0"):
        TopicDensity.build(BINARY, Topic(quadrature=0), empty, stream(0))

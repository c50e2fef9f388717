"""Diffusion: the formulas against closed forms and sums, samplers against their flow, planted
structure, refusals.
"""

import itertools
import math

import pytest
import torch

from conjoin.core import CapabilityError, Event, Likelihood, Pair, Region, Space, Variable, stream
from conjoin.families.diffusion.absorbing import AbsorbingDensity, AbsorbingDiffusion, orders
from conjoin.families.diffusion.gaussian import Diffusion, DiffusionDensity
from conjoin.families.diffusion.mixed import Mixed, Noise
from conjoin.families.diffusion.multinomial import Multinomial
from conjoin.families.diffusion.network import CellNetwork, drop_class, guided
from conjoin.families.diffusion.numbers import MIN_LOG_RATIO, Numbers, alpha_sigma
from conjoin.families.diffusion.samplers import ancestral, ddim, flow_log_prob, paint, times
from conjoin.joints.class_conditional import ClassConditional
from conjoin.nets.body import ContextEmbedding, time_features
from conjoin.nets.convolution import Convolution
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

CODES = Space(
    (3,),
    (
        Variable("a", "category", cardinality=2),
        Variable("b", "category", cardinality=3),
        Variable("c", "ordered", cardinality=3),
    ),
)
REALS = Space((2,), (Variable("x", "real"), Variable("y", "real")))
COUNT = Variable("count", "integer", resolution=1.0, bounds=(0.0, 6.0), atoms=(0.0,))
MIXED = Space((3,), (Variable("group", "category", cardinality=2), Variable("x", "real"), COUNT))
CLASSES = Space((), (Variable("label", "category", cardinality=2),))
GRID = Space(
    (16,),
    tuple(Variable(f"pixel {i}", "ordered", cardinality=3) for i in range(16)),
    "image",
    (1, 4, 4),
)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def learn(density, data, steps):
    with torch.enable_grad():
        train(density, data, torch.ones(data.rows).double(), None, Plan(steps=steps), Progress())


def rows_of(space, n=200, seed=0):
    noise = stream(seed, "rows")
    latent = torch.randn(n, 1, generator=noise, dtype=torch.float64)
    value = latent + 0.5 * torch.randn(n, space.shape[0], generator=noise, dtype=torch.float64)
    for d, variable in enumerate(space.variables):
        if variable.discrete:
            value[:, d] = (
                (value[:, d] + variable.cardinality / 2).round().clamp(0, variable.cardinality - 1)
            )
        elif variable.resolution:
            value[:, d] = (2 * value[:, d] + 1).round().clamp(*variable.bounds)
    return Event(value)


def built(space, config, shaken=0.4, **context):
    """A density whose network is not at rest."""
    density = config.density.build(space, config, rows_of(space), stream(0, "build"), **context)
    noise = stream(1, "shake")
    with torch.no_grad():
        for name, parameter in density.named_parameters():
            if "companion" not in name:
                parameter.add_(
                    shaken
                    * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                    / parameter.shape[-1] ** 0.5
                )
    return density


def every(space):
    return torch.cartesian_prod(*(torch.arange(v.cardinality).double() for v in space.variables))


def fitted(space, config, data, steps):
    density = config.density.build(space, config, data, stream(0, "build"))
    learn(density, data, steps)
    return density


# ---------------------------------------------------------------------------------------- absorbing


def test_orders_are_permutations_in_blocks_and_the_second_is_the_first_reversed():
    ranks = orders(5, 64)
    assert ranks.shape == (2, 5)
    assert all(sorted(rank.tolist()) == [0, 1, 2, 3, 4] for rank in ranks)
    assert torch.equal(ranks[1], 4 - ranks[0])
    few = orders(10, 4)
    assert few.shape == (1, 10) and few.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("calls", [64, 2], ids=["cell by cell", "in blocks"])
def test_unveiling_sums_to_one(calls):
    density = built(CODES, AbsorbingDiffusion(calls=calls))
    log_prob = density.log_prob(Event(every(CODES)))
    assert float(log_prob.logsumexp(0)) == pytest.approx(0, abs=1e-9)
    assert float(log_prob.std()) > 0.1


def test_unveiling_is_the_mean_over_its_orders_of_products_of_conditionals():
    density = built(CODES, AbsorbingDiffusion())
    core = density.core
    value = every(CODES)[4:5]
    each = []
    for rank in core.ranks:
        known = torch.zeros(1, 3, dtype=torch.bool)
        total = 0.0
        for d in rank.argsort().tolist():
            cells = core.heads.log_prob(
                core.params(core.encode(value), known, None),
                value,
                torch.ones(1, 3, dtype=torch.bool),
            )
            total = total + float(cells[0, d])
            known = known.clone()
            known[0, d] = True
        each.append(total)
    expected = math.log(sum(math.exp(part) for part in each) / len(each))
    assert float(density.log_prob(Event(value))) == pytest.approx(expected, abs=1e-9)


def test_the_objective_is_the_mean_over_all_orders():
    """E. Hoogeboom et al. (2022), equation 5: one random step, weighed, is unbiased for the mean of
    log p(x | order)."""
    density = built(CODES, AbsorbingDiffusion())
    core = density.core
    value = every(CODES)[7:8]
    inputs = core.encode(value)
    known = torch.ones(1, 3, dtype=torch.bool)
    all_orders = [torch.tensor(order) for order in itertools.permutations(range(3))]
    exact = (
        sum(
            float(core.heads.log_prob(core._in_turn(inputs, rank, None), value, known).sum())
            for rank in all_orders
        )
        / 6
    )
    drawn = core.bound(value.expand(6000, -1), None, stream(3))
    assert float(drawn.mean()) == pytest.approx(
        exact, abs=4 * float(drawn.std()) / 6000**0.5 + 1e-3
    )


def test_draws_of_unveiling_follow_its_probabilities():
    density = built(CODES, AbsorbingDiffusion(calls=2))
    draws = density.sample(6000, generator=stream(2)).value
    cells = every(CODES)
    where = draws @ torch.tensor([9.0, 3.0, 1.0]).double()
    share = torch.bincount(where.long(), minlength=len(cells)) / len(draws)
    assert float((share - density.log_prob(Event(cells)).exp()).abs().max()) < 0.02


def test_repainting_draws_from_the_conditional():
    """Where one cell is missing the network's own conditional is drawn; known cells stay."""
    density = built(CODES, AbsorbingDiffusion())
    event = Event(
        every(CODES)[5:6].expand(4000, -1), torch.tensor([[True, False, True]]).expand(4000, -1)
    )
    painted = density.repaint(event, generator=stream(1)).value
    assert torch.equal(painted[:, [0, 2]], event.value[:, [0, 2]])
    known = torch.arange(18)[:, None] % 3 != torch.arange(3)  # each row lacks another cell
    some = density.repaint(Event(every(CODES), known), generator=stream(2)).value
    assert torch.equal(some[known], every(CODES)[known])
    core = density.core
    logits = core.heads._level_logits(
        core.params(core.encode(event.value[:1]), event.mask[:1], None)[:, 1], 1
    )
    share = torch.bincount(painted[:, 1].long(), minlength=3) / 4000
    assert float((share - logits.softmax(-1)[0]).abs().max()) < 0.03


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_a_planted_copy_is_learned_in_either_direction():
    noise = stream(5)
    first = torch.randint(3, (300,), generator=noise).double()
    data = Event(torch.stack([(first > 0).double(), first, first], 1))
    density = fitted(CODES, AbsorbingDiffusion(), data, 200)
    assert float(density.log_prob(data).mean()) == pytest.approx(-math.log(3), abs=0.15)
    draws = density.sample(300, generator=stream(1)).value
    assert float((draws[:, 1] == draws[:, 2]).double().mean()) > 0.9
    asked = Event(data.value[:60], torch.tensor([[False, False, True]]).expand(60, -1))
    painted = density.repaint(asked, generator=stream(2)).value
    assert float((painted[:, 1] == asked.value[:, 2]).double().mean()) > 0.9


# -------------------------------------------------------------------------------------- multinomial


def test_multinomial_posterior_is_bayes_rule():
    """q(x_(t-1) | x_t, x_0) q(x_t | x_0) = q(x_t | x_(t-1)) q(x_(t-1) | x_0), by enumeration."""
    core = built(CODES, AbsorbingDiffusion(process="multinomial", calls=5)).core
    levels = 3
    step = 3
    clean = 2
    before = 1 - 2 / 5
    kept = 1 - 3 / 5
    stays = kept / before
    for at in range(levels):
        prior = torch.tensor([before * (j == clean) + (1 - before) / levels for j in range(levels)])
        likelihood = torch.tensor([stays * (j == at) + (1 - stays) / levels for j in range(levels)])
        expected = prior * likelihood / (prior * likelihood).sum()
        value = torch.tensor([[0.0, at, 0.0]]).double()
        known = torch.nn.functional.one_hot(torch.tensor([[0, clean, 0]]), 3).double()
        got = core.log_before(value, known, torch.tensor([step]))[0, 1].exp()
        assert torch.allclose(got, expected.double(), atol=1e-9)


def test_multinomial_bound_is_below_its_probabilities_and_draws_agree():
    """The expectation over x_t by enumeration: uniforms of 1 and (x_t + 1/2) / L make any x_t out
    of any x_0."""
    density = built(CODES, AbsorbingDiffusion(process="multinomial", calls=8))
    assert (
        density.capabilities.likelihood is Likelihood.LOWER_BOUND
        and density.capabilities.stochastic
    )
    core = density.core
    cells = every(CODES)
    clean = cells.repeat_interleave(18, 0)
    at = cells.repeat(18, 1)
    noise = torch.stack([torch.ones_like(at), (at + 0.5) / core.levels], -1)
    mean = torch.zeros(18).double()
    with torch.no_grad():
        for step in range(1, 9):
            kept = 1 - step / 8
            share = (kept * (at == clean) + (1 - kept) / core.levels).prod(1)
            divergence = core.divergence(clean, torch.full((324,), step), noise, None)
            mean -= (share * divergence).reshape(18, 18).sum(1)
        drawn = torch.stack([core.log_prob(cells, None, stream(seed)) for seed in range(30)]).mean(
            0
        )
    assert torch.allclose(drawn, mean, atol=0.6)
    mean = mean.exp()
    assert 0.5 < float(mean.sum()) <= 1
    draws = density.sample(5000, generator=stream(2)).value
    share = (
        torch.bincount((draws @ torch.tensor([9.0, 3.0, 1.0]).double()).long(), minlength=18) / 5000
    )
    assert bool((mean < share + 0.03).all())


def test_multinomial_steps_are_unbiased_for_the_whole():
    core = built(CODES, AbsorbingDiffusion(process="multinomial", calls=6)).core
    value = every(CODES)[3:4]
    whole = torch.stack([core.log_prob(value, None, stream(seed)) for seed in range(60)]).mean()
    drawn = core.bound(value.expand(3000, -1), None, stream(9))
    assert float(drawn.mean()) == pytest.approx(
        float(whole), abs=4 * float(drawn.std()) / 3000**0.5 + 0.1
    )


@pytest.mark.parametrize(
    "config", [AbsorbingDiffusion(process="multinomial"), Diffusion(process="multinomial")]
)
def test_multinomial_refuses_numbers_by_name(config):
    with pytest.raises(ValueError, match="'x' is a number"):
        config.density.build(MIXED, config, rows_of(MIXED), stream(0))


# ------------------------------------------------------------------------------------------ numbers


def test_signal_and_noise_preserve_the_variance():
    ratio = torch.linspace(-8, 12, 9).double()
    alpha, sigma = alpha_sigma(ratio)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(9).double())
    assert torch.allclose((alpha / sigma).log() * 2, ratio)


def test_columns_become_gaussian_and_come_back_with_their_slope():
    noise = torch.randn(2000, 2, generator=stream(0), dtype=torch.float64)
    value = torch.stack([(1.2 * noise[:, 0]).exp(), 5 + 3 * noise[:, 1]], 1)
    numbers = Numbers(REALS.variables)
    numbers.start(value, torch.ones_like(value, dtype=torch.bool), torch.ones(2000).double())
    c = numbers(value)
    assert torch.allclose(numbers.inverse(c), value, rtol=1e-9, atol=1e-9)
    assert float((c.mean(0).abs() + (c.std(0) - 1).abs()).max()) < 0.05
    # the log-normal column had a skewness of about 10
    assert float(((c - c.mean(0)) ** 3).mean(0).abs().max()) < 0.5
    slope = ((numbers(value + 1e-6) - numbers(value - 1e-6)) / 2e-6).log()
    log_normal = -0.5 * (c**2 + math.log(2 * math.pi))
    assert torch.allclose(numbers.log_base(value), log_normal + slope, atol=1e-5)


@pytest.mark.parametrize("place", [-4.0, 0.3, 4.0])
def test_cells_and_atoms_sum_to_one_within_the_bounds(place):
    """What z_0 says lies beyond a bound belongs to the cell of the bound."""
    numbers = Numbers((COUNT,))
    data = rows_of(MIXED).value[:, 2:]
    numbers.start(data, torch.ones_like(data, dtype=torch.bool), torch.ones(len(data)).double())
    value = torch.arange(-3, 12).double()[:, None]
    params = 0.5 * torch.randn(1, 1, numbers.outputs, generator=stream(0), dtype=torch.float64)
    log_prob = numbers.log_cells(
        value, torch.full_like(value, place), params.expand(len(value), -1, -1)
    )[:, 0]
    assert float(log_prob.logsumexp(0)) == pytest.approx(0, abs=1e-9)
    assert bool((log_prob[:3] == -math.inf).all() and (log_prob[10:] == -math.inf).all())
    draws = numbers.decode(
        torch.full((4000, 1), place).double(), params.expand(4000, -1, -1), stream(1)
    )
    share = torch.bincount(draws[:, 0].long(), minlength=7) / 4000
    assert float((share - log_prob[3:10].exp()).abs().max()) < 0.03


# ----------------------------------------------------------------------------- the bound of numbers


def test_a_network_at_rest_is_the_gaussian():
    density = DiffusionDensity.build(REALS, Diffusion(), rows_of(REALS), stream(0))
    value = rows_of(REALS, 20, 1).value
    base = density.core.numbers.log_base(value).sum(1)
    assert torch.allclose(density.log_prob(Event(value)), base, atol=1e-9)
    assert torch.allclose(density.flow_log_prob(Event(value), steps=4), base, atol=1e-9)


class Known(Mixed):
    """The optimal network of one standardised column that is really N(mean, scale^2)."""

    mean = 0.8
    scale = 0.5

    def outputs(self, time, z, codes, known, label):
        alpha, sigma = alpha_sigma(self.numbers.log_ratio(time))
        variance = alpha**2 * self.scale**2 + sigma**2
        score = -(z - alpha * self.mean) / variance
        return ((-sigma * (score + z)) / alpha)[..., None], z.new_zeros(len(z), 0, 1)


def known_core():
    space = Space((1,), (Variable("x", "real"),))
    core = Known(space, Diffusion(), ContextEmbedding(0, 0), embedded=True)
    core.numbers.sigma.fill_(1.0 / 1000)  # delta = 1000: c = x, but for a part in a million
    return core


def test_the_bound_is_tight_for_the_optimal_network():
    """The continuous-time bound of a Gaussian's own denoiser is the Gaussian's log-density, up to
    the ends of the integral."""
    core = known_core()
    value = torch.linspace(-0.5, 2, 7).double()[:, None]
    exact = torch.distributions.Normal(0.8, 0.5).log_prob(value)[:, 0]
    noise = Noise.of_numbers(6000, 1, 0, stream(4))
    got = core._mean(core.gain, value, None, noise) + core.numbers.log_base(value).sum(1)
    assert torch.allclose(got, exact, atol=0.03)
    # at t = 1 it begins from N(0, 1)
    assert torch.allclose(flow_log_prob(core, value, None, 200), exact, atol=0.06)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun"])
def test_samplers_reach_the_target(sampler):
    drawn = paint(known_core(), 4000, None, stream(1), steps=60, sampler=sampler)
    assert drawn.calls == (119 if sampler == "heun" else 60)
    assert float(drawn.value.mean()) == pytest.approx(0.8, abs=0.04)
    assert float(drawn.value.std()) == pytest.approx(0.5, abs=0.03)


def test_heun_needs_fewer_steps_than_ddim():
    """From the same noise: the distance from a path of very many steps (the last draw adds the same
    noise to all)."""
    core = known_core()
    path = {
        (s, n): paint(core, 400, None, stream(1), steps=n, sampler=s).value
        for s, n in (("ddim", 12), ("heun", 12), ("heun", 400))
    }
    far = {
        sampler: float((path[sampler, 12] - path["heun", 400]).abs().mean())
        for sampler in ("ddim", "heun")
    }
    assert far["heun"] < 0.5 * far["ddim"]


def test_an_unknown_sampler_names_the_choices():
    with pytest.raises(ValueError, match="ancestral, ddim, heun"):
        paint(known_core(), 1, None, None, steps=2, sampler="euler")


def test_ancestral_steps_keep_the_forward_marginal():
    """If v is the truth, z_s is alpha_s x + sigma_s noise (D. Kingma et al. (2021), equation
    25)."""
    noise = stream(0)
    at = torch.tensor(-1.0).double()
    to = torch.tensor(1.5).double()
    (alpha, sigma) = alpha_sigma(at)
    (alpha_to, sigma_to) = alpha_sigma(to)
    eps, fresh = torch.randn(2, 20000, generator=noise, dtype=torch.float64)
    z = alpha * 1.3 + sigma * eps
    v = alpha * eps - sigma * 1.3
    out = ancestral(z, v, at, to, fresh)
    assert float(out.mean()) == pytest.approx(float(alpha_to * 1.3), abs=0.02)
    assert float(out.std()) == pytest.approx(float(sigma_to), abs=0.02)
    assert torch.allclose(ddim(z, v, at, to), alpha_to * 1.3 + sigma_to * eps)


def test_noise_fills_every_slice_and_comes_in_pairs():
    noise = Noise.of_codes(24, 2, 3, stream(0))
    assert noise.time.shape == (24,) and torch.equal(noise.eps[:12], -noise.eps[12:])
    places = (noise.time[:12].reshape(4, 3) * 4).long().sort(0).values
    assert torch.equal(places, torch.arange(4)[:, None].expand(-1, 3))
    gone = (~noise.known).sum(1).reshape(2, 4, 3).sort(-1).values
    assert torch.equal(gone, torch.tensor([1, 2, 3]).expand(2, 4, 3))


@pytest.mark.parametrize("parametrisation", ["score", "v", "noise"])
def test_the_bound_sums_to_at_most_one_in_every_parametrisation(parametrisation):
    space = Space((1,), (Variable("x", "real"),))
    density = fitted(
        space, Diffusion(parametrisation=parametrisation, points=64), rows_of(space), 60
    )
    grid = torch.arange(-8, 8, 0.1).double()[:, None]
    bound = torch.stack(
        [density.log_prob(Event(grid), generator=stream(seed)) for seed in range(4)]
    ).mean(0)
    assert 0.5 < float(bound.exp().sum() * 0.1) < 1.005
    assert float(density.flow_log_prob(Event(grid), steps=40).exp().sum() * 0.1) == pytest.approx(
        1, abs=0.02
    )


def test_the_bound_with_codes_cells_and_atoms_sums_to_at_most_one():
    density = built(MIXED, Diffusion(points=48), 0.2)
    axes = [
        torch.arange(2).double(),
        torch.arange(-6, 6, 0.25).double(),
        torch.arange(0, 7).double(),
    ]
    grid = torch.cartesian_prod(*axes)
    bound = torch.stack(
        [density.log_prob(Event(grid), generator=stream(seed)) for seed in range(2)]
    ).mean(0)
    assert 0.3 < float(bound.exp().sum() * 0.25) < 1.01
    assert float(density.log_prob(Event(torch.tensor([[0.0, 0.0, 7.0]]).double()))) == -math.inf


class Ring(Mixed):
    """The optimal network of two columns that are really a ring of sixteen narrow Gaussians."""

    scale = 0.12

    @property
    def centres(self):
        angle = torch.arange(16).double() * (2 * math.pi / 16)
        return math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)

    def outputs(self, time, z, codes, known, label):
        alpha, sigma = alpha_sigma(self.numbers.log_ratio(time))
        variance = alpha**2 * self.scale**2 + sigma**2
        apart = z[:, None] - alpha[:, None] * self.centres
        share = (-0.5 * (apart**2 / variance[:, None]).sum(2)).softmax(1)
        score = -(share[..., None] * apart).sum(1) / variance
        return ((-sigma * (score + z)) / alpha)[..., None], z.new_zeros(len(z), 0, 1)

    def truth(self, c):
        apart = ((c[:, None] - self.centres) ** 2).sum(2) / self.scale**2
        return (-0.5 * apart).logsumexp(1) - math.log(16 * 2 * math.pi * self.scale**2)


def ring_core(**settings):
    core = Ring(REALS, Diffusion(**settings), ContextEmbedding(0, 0), embedded=True)
    core.numbers.start(
        rows_of(REALS).value,
        torch.ones(200, 2, dtype=torch.bool),
        torch.ones(200, dtype=torch.float64),
    )
    for name, value in (("xi", 0.0), ("delta", 1e3), ("mu", 0.0), ("sigma", 1e-3)):
        getattr(core.numbers, name).fill_(value)  # c = x
    return core


def test_the_bound_of_a_sharp_density_of_two_numbers_has_little_noise():
    """Two numbers, and structure as narrow as a tenth of their spread: 24 calls with lengths of the
    noise by chance were off by half a nat in the mean over all rows."""
    core = ring_core()
    at = stream(1)
    rows = core.centres.repeat(4, 1) + core.scale * torch.randn(64, 2, generator=at).double()
    bounds = torch.stack([core.log_prob(rows, None, stream(seed)) for seed in range(12)])
    truth = core.truth(rows)
    assert float((bounds.mean(0) - truth).mean()) == pytest.approx(0, abs=0.08)
    assert float(bounds.mean(1).std()) < 0.15


@pytest.mark.parametrize("numbers", [1, 2, 5])
def test_the_rule_for_the_noise_of_numbers_sums_polynomials_exactly(numbers):
    noise = Noise.of_numbers(256, numbers, 0, stream(numbers), even=True)
    assert noise.eps.shape == (256, numbers) and torch.equal(noise.eps[:128], -noise.eps[128:])
    share = noise.weight / noise.weight.sum()
    square = (noise.eps**2).sum(1)
    assert float(noise.weight.mean()) == pytest.approx(1, abs=1e-2)
    assert float((share * square).sum()) == pytest.approx(numbers, abs=1e-9)
    assert float((share * square**2).sum()) == pytest.approx(numbers * (numbers + 2), abs=1e-9)
    assert float((noise.weight * noise.time).mean()) == pytest.approx(0.5, abs=1e-2)


def test_few_numbers_get_more_calls_and_those_that_are_asked_for_are_kept():
    def calls(space, config):
        return built(space, config).core._points

    many = Space((9,), tuple(Variable(f"x{d}", "real") for d in range(9)))
    assert calls(REALS, Diffusion()) == 128 and calls(many, Diffusion()) == 32
    assert calls(REALS, Diffusion(points=24)) == 24


def test_a_model_from_before_the_rule_keeps_its_noise():
    """Its structure names no rule: answers of saved models stay as they were."""
    density = built(REALS, Diffusion(points=24))
    old = {key: value for key, value in density.structure.items() if key != "even"}
    again = DiffusionDensity(REALS, Diffusion(points=24), old)
    again.load_state_dict(density.state_dict())
    assert density.core.even and not again.core.even
    assert torch.equal(
        again.core._seen(torch.ones(1).double(), *_row_of_zeros())[1][:, :16],
        time_features(torch.ones(1).double(), 16),
    )


def _row_of_zeros():
    codes = torch.zeros(1, 0).double()
    return torch.zeros(1, 2).double(), codes, codes.bool(), None


def test_row_by_row_noise_is_unbiased_for_the_shared():
    core = built(MIXED, Diffusion(points=600), 0.2).core
    value = rows_of(MIXED, 1, 3).value
    shared = torch.stack([core.log_prob(value, None, stream(seed)) for seed in range(3)]).mean()
    drawn = core.bound(value.expand(6000, -1), None, stream(9))
    assert float(drawn.mean()) == pytest.approx(
        float(shared), abs=4 * float(drawn.std()) / 6000**0.5 + 0.05
    )


def test_a_planted_dependence_is_learned():
    data = rows_of(MIXED, 400)
    density = fitted(MIXED, Diffusion(), data, 300)
    rest = DiffusionDensity.build(MIXED, Diffusion(), data, stream(0))
    assert float(density.log_prob(data).mean()) > float(rest.log_prob(data).mean()) + 0.2
    for sampler in ("ancestral", "ddim", "heun"):
        draws = density.draw(500, sampler=sampler, generator=stream(1)).value
        MIXED.check(Event(draws))
        assert float(torch.corrcoef(draws.T)[1, 2]) == pytest.approx(
            float(torch.corrcoef(data.value.T)[1, 2]), abs=0.15
        )
    row = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 6.0]]).double().repeat_interleave(150, 0)
    painted = density.repaint(
        Event(row, torch.tensor([[False, False, True]]).expand(300, -1)), generator=stream(2)
    ).value
    assert torch.equal(painted[:, 2], row[:, 2])
    assert float(painted[150:, 1].mean() - painted[:150, 1].mean()) > 0.7


def test_only_densities_have_a_flow_and_whole_rows():
    with pytest.raises(CapabilityError, match="flow"):
        built(MIXED, Diffusion()).flow_log_prob(rows_of(MIXED, 3))
    with pytest.raises(ValueError, match="complete rows"):
        built(REALS, Diffusion()).flow_log_prob(
            Event(torch.zeros(1, 2).double(), torch.tensor([[True, False]]))
        )


def test_without_numbers_diffusion_is_unveiling():
    density = built(CODES, Diffusion())
    assert (
        density.capabilities.likelihood is Likelihood.EXACT and not density.capabilities.stochastic
    )
    assert float(density.log_prob(Event(every(CODES))).logsumexp(0)) == pytest.approx(0, abs=1e-9)
    assert density.draw(3, generator=stream(0)).calls == 6
    event = Event(every(CODES)[:4], torch.tensor([[True, False, False]]).expand(4, -1))
    assert torch.equal(density.repaint(event, generator=stream(0)).value[:, 0], event.value[:, 0])


# ---------------------------------------------------------------------------------- classes, images


def test_guidance_extrapolates_and_classes_are_withheld():
    given = torch.tensor([2.0])
    free = torch.tensor([1.0])
    assert float(guided(given, free, 1.5)) == 3.5 and float(guided(given, None, 1.5)) == 2.0
    code = torch.zeros(5000).double()
    dropped = drop_class(code, ContextEmbedding(2, 4), stream(0))
    assert float((dropped == 2).double().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(drop_class(code, ContextEmbedding(2, 4), None), code)


@pytest.mark.parametrize("config", [Diffusion, AbsorbingDiffusion])
def test_guided_draws_exaggerate_their_class(config):
    noise = stream(0)
    label = (torch.arange(1200) % 2).double()
    shift = torch.stack([2 * label - 1, torch.zeros(1200).double()], 1)
    space = REALS
    data = Event(shift + torch.randn(1200, 2, generator=noise, dtype=torch.float64))
    density = config().density.build(
        space, config(), data, stream(0), context=Event(label), context_space=CLASSES
    )
    learn(ClassConditional(density, CLASSES), Pair(Event(label), data), 400)
    ones = Event(torch.ones(500).double())
    plain = density.sample(500, ones, generator=stream(1)).value[:, 0].mean()
    density.core.guidance = 2.0
    density.core.config = config(guidance=2.0)
    assert float(plain) == pytest.approx(1, abs=0.5)
    assert (
        float(density.sample(500, ones, generator=stream(1)).value[:, 0].mean())
        > float(plain) + 0.15
    )


def test_images_use_their_grid():
    density = built(GRID, AbsorbingDiffusion(width=8, blocks=1, calls=16))
    assert isinstance(density.core.net.body, Convolution)
    value = rows_of(GRID, 6).value
    assert density.log_prob(Event(value)).shape == (6,)
    assert density.sample(3, generator=stream(0)).value.shape == (3, 16)
    assert density.features(Event(value)).shape == (6, 8)
    known = torch.ones(1, 16, dtype=torch.bool)
    far = value.clone()
    far[:, 15] = 2 - far[:, 15].clamp(0, 1)
    params = [density.core.params(density.core.encode(v), known, None) for v in (value, far)]
    moved = (params[0] - params[1]).abs().amax((0, 2)).reshape(4, 4)
    assert float(moved[3, 3]) > 0 and float(moved[0, 0]) < float(moved[3, 3])


def test_channels_come_before_pixels():
    """Two channels that are moved apart: the outputs of each cell stand where its variable does."""
    space = Space(
        (8,),
        tuple(Variable(f"p{i}", "ordered", cardinality=2) for i in range(8)),
        "image",
        (2, 2, 2),
    )
    net = CellNetwork(space, 8 * 3, 1, 2, 4, 1, 0.0)
    torch.nn.init.zeros_(net.body.last.weight)
    with torch.no_grad():
        net.body.last.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    out = net(torch.zeros(1, 24).double(), torch.ones(1, 1).double())
    assert out[0, :4].tolist() == [[1.0, 2.0]] * 4 and out[0, 4:].tolist() == [[3.0, 4.0]] * 4


def test_regions_and_missing_cells_are_answered_by_the_companion():
    density = built(REALS, Diffusion())
    box = Region(
        torch.tensor([0.0, -torch.inf]).double(), torch.tensor([torch.inf, torch.inf]).double()
    )
    event = Event(torch.zeros(5, 2).double(), torch.zeros(5, 2, dtype=torch.bool), within=box)
    assert bool((density.sample_conditional(event, generator=stream(0)).value[:, 0] >= 0).all())
    assert times(2) == [1.0, 0.5, 0.0] and MIN_LOG_RATIO < 0


def test_a_bound_that_reads_its_noise_from_a_seed_is_the_same_twice():
    density = built(MIXED, Diffusion())
    rows = rows_of(MIXED, 9)
    first = density.log_prob(rows)
    assert torch.equal(first, density.log_prob(rows))
    single = torch.cat([density.log_prob(rows.take(slice(i, i + 1))) for i in range(9)])
    assert torch.allclose(first, single, atol=1e-9)
    assert not torch.equal(first, density.log_prob(rows, generator=stream(5)))
    assert isinstance(
        AbsorbingDensity.build(
            CODES, AbsorbingDiffusion(process="multinomial"), rows_of(CODES), stream(0)
        ).core,
        Multinomial,
    )


def test_numbers_follow_the_code_that_is_already_drawn():
    """The network has to have seen noisy numbers beside a code that is known: else draws mix the
    sides."""
    side = (torch.arange(400) % 2).double()
    value = torch.stack(
        [side, 6 * side - 3 + 0.3 * torch.randn(400, generator=stream(1), dtype=torch.float64)], 1
    )
    space = Space((2,), (Variable("side", "category", cardinality=2), Variable("x", "real")))
    density = Diffusion(steps=400).density.build(
        space, Diffusion(steps=400), Event(value), stream(0)
    )
    with torch.enable_grad():
        train(density, Event(value), torch.ones(400).double(), None, Plan(), Progress())
    drawn = density.sample(400, generator=stream(2)).value
    wrong = ((drawn[:, 1] > 0) != (drawn[:, 0] > 0.5)).double().mean()
    assert float(wrong) < 0.05

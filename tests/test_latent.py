"""Latent-variable families: bounds against sums over z, priors that integrate to one, words found
exactly, planted structure.
"""

import itertools
import math

import pytest
import torch

from conjoin.core import Event, Space, Variable, seeded, stream
from conjoin.families.latent.discrete import VQVAE, likeliest
from conjoin.families.latent.levels import Flat, Ladder
from conjoin.families.latent.priors import PRIORS, StandardPrior, VampPrior, gaussian, log_normal
from conjoin.families.latent.vae import VAE, sobol_normal
from conjoin.testing.spaces import CLASSES
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

CODES = Space(
    (4,),
    tuple(
        Variable(name, "category", cardinality=levels)
        for name, levels in zip("abcd", (2, 3, 2, 2), strict=True)
    ),
)
EVERY = torch.tensor(list(itertools.product(range(2), range(3), range(2), range(2)))).double()
IMAGE = Space(
    (6,),
    tuple(Variable(f"pixel {i}", "ordered", cardinality=5) for i in range(6)),
    "image",
    (1, 2, 3),
)


def shaken(network, size=0.3):
    """Weights away from where they start."""
    noise = stream(0, "shake")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(
                    size * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                )
    return network.eval().requires_grad_(False)


def rows(n=200):
    """Two hidden kinds of row, each with its own codes, a tenth of them wrong."""
    noise = stream(1, "rows")
    kind = torch.randint(0, 2, (n, 1), generator=noise)
    wrong = torch.rand(n, 4, generator=noise) < 0.1
    return torch.where(wrong, 1 - kind, kind).double()


def built(config, space=CODES, value=None, classes=False):
    value = rows() if value is None else value
    more = {"context": Event(value[:, 0]), "context_space": CLASSES} if classes else {}
    return config.density.build(space, config, Event(value), stream(0), **more)


def fitted(config, space=CODES, value=None):
    density = built(config, space, value)
    data = Event(rows() if value is None else value)
    train(density, data, torch.ones(data.rows).double(), None, Plan(), Progress())
    return density


# ------------------------------------------------------------------------------------------- priors


def encoder(u):
    return 0.3 * torch.stack([u.sum(1), u[:, 0], u[:, 1], -u.sum(1)], 1)


@pytest.mark.parametrize("name", PRIORS)
def test_priors_integrate_to_one_and_their_draws_follow_them(name):
    with seeded(stream(0)):
        prior = shaken(PRIORS[name](2, 5, 3))
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[None]
    mass = prior.log_prob(grid, lambda u: gaussian(encoder(u))).exp() * 0.1**2
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)
    drawn = prior.draw(20_000, lambda u: gaussian(encoder(u)), stream(2))
    for d in range(2):
        assert float(drawn[:, d].mean()) == pytest.approx(
            float((mass[0] * grid[0, :, d]).sum()), abs=0.06
        )
        assert float(drawn[:, d].square().mean()) == pytest.approx(
            float((mass[0] * grid[0, :, d] ** 2).sum()), rel=0.08
        )


def test_mixtures_are_sums_of_gaussians():
    with seeded(stream(0)):
        prior = shaken(VampPrior(2, 4, 3))
    z = torch.randn(3, 5, 2, generator=stream(3), dtype=torch.float64)
    mean, scale = gaussian(encoder(prior.pseudo))
    each = torch.stack(
        [log_normal(z, mean[k], scale[k]) + prior.logits.log_softmax(0)[k] for k in range(4)], -1
    )
    torch.testing.assert_close(
        prior.log_prob(z, lambda u: gaussian(encoder(u))), each.logsumexp(-1)
    )


def test_no_row_is_stored_in_the_pseudo_inputs():
    seen = torch.randint(0, 2, (50, 6), generator=stream(4)).double()
    prior = VampPrior(2, 20, 6)
    prior._start(seen, stream(5))
    pseudo = prior.pseudo.detach()
    apart = (pseudo[:, None] - seen).abs().amax(2)
    assert float(apart.min()) > 0.02
    assert float((pseudo - seen.mean(0)).abs().max()) < 1.5  # yet they are made of rows


# ------------------------------------------------------------------------------------------- levels


def log_prior(level, z):
    if isinstance(level, Flat):
        return level.prior.log_prob(z, None)
    return level.prior.log_prob(z[..., :1], None) + log_normal(
        z[..., 1:], *gaussian(level.down(z[..., :1]))
    )


@pytest.mark.parametrize("name", ["flat", "ladder"])
def test_q_integrates_to_one_and_its_draws_follow_it(name):
    """q = p / (p / q), by a sum over a grid."""
    with seeded(stream(0)):
        level = shaken(Flat(StandardPrior(2)) if name == "flat" else Ladder(StandardPrior(1), 1, 8))
    params = 0.3 * torch.randn(1, 2 * level.size, generator=stream(6), dtype=torch.float64)
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[None]
    mass = (log_prior(level, grid) - level.log_ratio(params, grid, None)).exp()[0] * 0.1**2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)
    z = level.place(params, torch.randn(1, 20_000, 2, generator=stream(7), dtype=torch.float64))[0]
    torch.testing.assert_close(z.mean(0), mass @ grid[0], atol=0.04, rtol=0)
    torch.testing.assert_close(z.T @ z / len(z), (mass * grid[0].T) @ grid[0], atol=0.06, rtol=0)


def test_the_ladder_weighs_its_levels_by_precision():
    level = shaken(Ladder(StandardPrior(1), 1, 8))
    params = torch.tensor([[0.4, 0.1, 2.0, -0.5]]).double()
    z = level.place(params, torch.zeros(1, 1, 2).double())[0, 0]
    (own, _) = gaussian(params[:, 2:])
    (expected, spread) = gaussian(level.down(z[None, :1]))
    own_spread = gaussian(params[:, 2:])[1]
    weight = own_spread**-2 / (own_spread**-2 + spread**-2)
    assert float(z[0]) == pytest.approx(0.4)
    assert float(z[1]) == pytest.approx(float(weight * own + (1 - weight) * expected))
    assert level.mean(params)[0].tolist() == pytest.approx(z.tolist())
    aside = level.place(params, torch.tensor([[[0.0, 1.0]]]).double())[0, 0] - z
    assert float(aside[1]) == pytest.approx(float((own_spread**-2 + spread**-2) ** -0.5))


# ---------------------------------------------------------------------------------------- the bound


def test_sobol_noise_is_normal_for_every_row_and_apart_for_neighbours():
    value = torch.linspace(0, 0.1, 5, dtype=torch.float64)[:, None].expand(-1, 3)
    many = torch.cat([sobol_normal(value, 16, 2, stream(seed)) for seed in range(300)], 1)
    assert many.mean(1).abs().max() < 0.06
    assert (many.std(1) - 1).abs().max() < 0.06
    one = sobol_normal(value, 16, 2, stream(0))
    assert (one[0] - one[1]).abs().max() > 0.1
    # whatever the batch
    torch.testing.assert_close(sobol_normal(value[2:3], 16, 2, stream(0))[0], one[2])


@pytest.mark.parametrize(
    "config", [VAE(latent=2), VAE(latent=1, levels=2), VAE(latent=2, prior="flow")]
)
def test_the_bound_tends_to_the_integral_over_z(config):
    """log E_p(z)[p(x | z)] by brute force."""
    density = shaken(built(config), 0.15)
    z = density.level.draw(120_000, density.encoder, stream(8))
    value = EVERY[::6]
    truth = density._log_given(value, None, z.expand(len(value), -1, -1)).logsumexp(1) - math.log(
        len(z)
    )
    few = []
    many = []
    for seed in range(6):
        density.particles = 1
        few.append(density.log_prob(Event(value), generator=stream(seed)))
        density.particles = 4096
        many.append(density.log_prob(Event(value), generator=stream(seed)))
    torch.testing.assert_close(torch.stack(many).mean(0), truth, atol=0.04, rtol=0)
    assert (torch.stack(few).mean(0) < truth + 0.05).all()
    assert torch.stack(few).mean() < torch.stack(many).mean()


def test_the_loss_is_minus_the_evidence_lower_bound():
    density = shaken(built(VAE(latent=2, prior="standard")), 0.15)
    noise = torch.randn(24, 1, 2, generator=stream(9), dtype=torch.float64)
    mean, scale = gaussian(density.encoder(density._seen(Event(EVERY), None)))
    z = mean[:, None] + scale[:, None] * noise
    log_q = torch.distributions.Normal(mean[:, None], scale[:, None]).log_prob(z).sum(-1)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    bound = density._log_given(EVERY, None, z) + log_p - log_q
    torch.testing.assert_close(density._objective(EVERY, None, stream(9)), -bound[:, 0])
    density.train()
    density.structure["warm_up"] = 4.0  # the first of four steps: the prior counts a quarter
    density.unseen = 0.0
    for block in [*density.encoder.modules(), *density.decoder.modules()]:
        block.eval()  # no dropout
    quarter = density._log_given(EVERY, None, z) + 0.25 * (log_p - log_q)
    torch.testing.assert_close(density._objective(EVERY, None, stream(9)), -quarter[:, 0])


def test_a_share_of_the_draws_keeps_the_weights_bounded():
    """Where q sits far away from the posterior the bound is still of the right size, for one draw
    in eight is the prior's."""
    density = shaken(built(VAE(latent=2, prior="standard", particles=800)), 0.15)
    before = density.log_prob(Event(EVERY))
    with torch.no_grad():
        density.encoder.last[1].bias.copy_(torch.tensor([30.0, 30.0, -3.0, -3.0]).double())
    assert (density.log_prob(Event(EVERY)) - before).abs().max() < 0.5


def test_the_prior_gains_its_weight_in_the_fit_alone():
    density = built(VAE(steps=100, warm_up=0.5))
    assert density._prior_weight() == 1.0
    density.train()
    assert [density._prior_weight() for _ in range(60)][::10] == pytest.approx(
        [0.02, 0.22, 0.42, 0.62, 0.82, 1.0]
    )


def test_the_encoder_misses_cells_in_the_fit_alone():
    density = built(VAE(hidden=0.5))
    value = rows()
    assert density._corrupted(value, stream(0)).mask.all()
    density.train()
    assert 0.4 < float(density._corrupted(value, stream(0)).mask.double().mean()) < 0.6


def test_one_draw_and_many_rows_fit_into_memory(monkeypatch):
    density = shaken(built(VAE(latent=2)))
    whole = density.log_prob(Event(EVERY))
    monkeypatch.setattr("conjoin.families.latent.autoencoder.MAX_CELLS", 2000)
    torch.testing.assert_close(density.log_prob(Event(EVERY)), whole)


def test_classes_reach_encoder_and_decoder():
    density = shaken(built(VAE(latent=2), classes=True))
    first, second = (Event(torch.full((24,), float(k)).double()) for k in range(2))
    assert (
        density.log_prob(Event(EVERY), first) - density.log_prob(Event(EVERY), second)
    ).abs().max() > 0.01
    assert not torch.equal(
        density._seen(Event(EVERY), first.value), density._seen(Event(EVERY), second.value)
    )


def test_pixels_share_their_curves():
    value = torch.randint(0, 5, (40, 6), generator=stream(1)).double()
    density = built(VAE(rank=3), IMAGE, value)
    assert density.curves.shape == (3, 5)
    params = shaken(density)._decode(
        torch.randn(7, density.level.size, generator=stream(2), dtype=torch.float64), None
    )
    assert int(torch.linalg.matrix_rank(params.reshape(-1, 5))) == 3
    assert built(VAE()).curves is None


@pytest.mark.parametrize("setting", [{"prior": "cauchy"}, {"levels": 3}])
def test_unknown_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        VAE(**setting)


# -------------------------------------------------------------------------------------------- words


def test_likeliest_words_are_those_of_all_words():
    score = torch.randn(5, 3, 4, generator=stream(10), dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)
    total = score[:, torch.arange(3), every].sum(-1)
    best = total.topk(9, 1).indices
    assert torch.equal(likeliest(score, 9), every[best])


def test_the_bound_of_all_words_is_the_likelihood_and_sums_to_one():
    density = shaken(built(VQVAE(groups=2, levels=3, beam=9)))
    words = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    hot = density._hot(words)[None]
    assert float(density._log_prior(hot).exp().sum()) == pytest.approx(1)
    given = density._log_given(EVERY, None, density._vector(hot).expand(24, -1, -1))
    exact = (given + density._log_prior(hot)).logsumexp(1)
    torch.testing.assert_close(density.log_prob(Event(EVERY)), exact)
    assert float(exact.exp().sum()) == pytest.approx(1)
    narrow = shaken(built(VQVAE(groups=2, levels=3, beam=2))).log_prob(Event(EVERY))
    assert (narrow < exact).all()


@pytest.mark.parametrize("classes", [False, True])
def test_few_words_are_summed_over_and_q_alone_learns_from_the_posterior(classes):
    density = shaken(
        built(VQVAE(groups=1, levels=5, beam=5, dropout=0.0, hidden=0.0), CODES, classes=classes)
    )
    event = Event(EVERY)
    code = Event(EVERY[:, 0]) if classes else None
    hot = density._hot(torch.arange(5)[:, None])[None]
    label = None if code is None else code.value
    given = density._log_given(EVERY, label, density._vector(hot).expand(24, -1, -1))
    posterior = (given + density._log_prior(hot)).softmax(1)
    log_q = density._log_code(event, label)[:, 0]
    excess = (posterior * (posterior.log() - log_q)).sum(1).mean()
    assert float(excess) > 1e-3
    density.requires_grad_(True)
    log_p = density.log_prob(event, code).mean()
    loss = density.loss(event, code)
    torch.testing.assert_close(loss, excess - log_p)
    loss.backward()
    decoder = [parameter.grad.clone() for parameter in density.decoder.parameters()]
    density.zero_grad()
    (-log_p).backward()
    for own, exact in zip(decoder, density.decoder.parameters(), strict=True):
        torch.testing.assert_close(own, exact.grad)
    assert not built(VQVAE(groups=4)).listed


def test_words_are_drawn_from_their_prior():
    density = shaken(built(VQVAE(groups=2, levels=3)), 1.0)
    words = density.words(20_000, stream(11))
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    share = (words[:, None] == every).all(2).double().mean(0)
    torch.testing.assert_close(
        share, density._log_prior(density._hot(every)[None])[0].exp(), atol=0.012, rtol=0
    )


def test_a_relaxed_word_is_hard_and_has_a_gradient():
    density = built(VQVAE(groups=2, levels=3))
    log_code = (
        torch.zeros(4000, 2, 3, dtype=torch.float64)
        .add(torch.tensor([0.0, 1.0, 2.0]))
        .log_softmax(-1)
        .requires_grad_()
    )
    hot = density._relaxed(log_code, stream(12))
    torch.testing.assert_close(hot.detach().round(), hot.detach())
    torch.testing.assert_close(
        hot.detach().mean((0, 1)), log_code.detach().exp()[0, 0], atol=0.02, rtol=0
    )
    (hot * torch.tensor([1.0, 0.0, 0.0])).sum().backward()
    assert (log_code.grad[..., 0] > 0).any()


# -------------------------------------------------------------------------------- planted structure


def test_two_kinds_of_row_are_found():
    value = rows()
    ones = value.sum(1)
    kinds = [math.log(0.9) * right + math.log(0.1) * (4 - right) for right in (ones, 4 - ones)]
    truth = torch.logaddexp(*kinds) - math.log(2)
    density = fitted(VAE(steps=250)).requires_grad_(False)
    assert float(density.log_prob(Event(value)).mean()) > float(truth.mean()) - 0.1
    features = density.features(Event(value))
    gap = features[ones == 4].mean(0) - features[ones == 0].mean(0)
    assert float(gap.abs().max()) > 0.5
    assert density.active_units(Event(value)) >= 1
    assert density.notices(Event(value)) == []


def test_a_collapse_is_said():
    density = built(VAE())  # the encoder starts at zero: it says the same of every row
    assert density.active_units(Event(rows())) == 0
    assert "collapsed" in density.notices(Event(rows()))[0]
    words = built(VQVAE(groups=3))
    with torch.no_grad():
        words.encoder.last[1].weight.zero_()
    assert "collapsed" in words.notices(Event(rows()))[0]


def test_perplexity_counts_the_levels_in_use():
    density = built(VQVAE(groups=1, levels=4))
    with torch.no_grad():
        density.encoder.last[1].weight.zero_()
        density.encoder.last[1].bias.zero_()
        density.codebook.fill_(50.0)
        density.codebook[:, :2] = 1.0  # two codes as near as each other, two far away
    assert density.perplexity(Event(rows())).tolist() == pytest.approx([2.0])


def test_perplexity_is_that_of_all_rows_where_each_is_sure(monkeypatch):
    density = built(VQVAE(groups=1, levels=4))
    share = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]).double()[:, None]
    monkeypatch.setattr(density, "_log_code", lambda data, code: share.log())
    assert density.perplexity(Event(rows(2))).tolist() == pytest.approx([2.0])

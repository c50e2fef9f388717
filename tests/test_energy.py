"""Energies: what they know without their constant, the constant itself, and that every move of
every chain keeps its target.
"""

import dataclasses
import itertools
import math

import pytest
import torch

from conjoin.core import Event, Region, Space, Variable, stream
from conjoin.families.energy.annealing import sandwich
from conjoin.families.energy.joint_energy import Energy, EnergyDensity
from conjoin.families.energy.rbm import Boltzmann, BoltzmannDensity
from conjoin.families.energy.units import Units
from conjoin.nets.logits import Pixels
from conjoin.testing.checks_mass import pearson
from conjoin.testing.conformance import NotApplicable, run_case
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

COLUMNS = (
    Variable("y", "category", cardinality=2),
    Variable("a", "category", cardinality=3),
    Variable("b", "ordered", cardinality=4),
)
CODES = Space((3,), COLUMNS)
REALS = Space((2,), (Variable("u", "real"), Variable("v", "real")))


def table(space):
    """Every row of a space of codes."""
    levels = [range(variable.cardinality) for variable in space.variables]
    return torch.tensor(list(itertools.product(*levels)), dtype=torch.float64)


def rows_of_codes(count=300):
    """b leans to 3 where y and a agree: no single column tells."""
    noise = stream(0, "rows")
    y = torch.randint(0, 2, (count,), generator=noise)
    a = torch.randint(0, 3, (count,), generator=noise)
    b = torch.where(
        (y == a) & (torch.rand(count, generator=noise) < 0.9),
        3,
        torch.randint(0, 4, (count,), generator=noise),
    )
    return torch.stack([y, a, b], 1).double()


def fit(density, value, steps, mask=None):
    density_fit = Event(value, mask)
    train(
        density, density_fit, torch.ones(len(value)).double(), None, Plan(steps=steps), Progress()
    )
    return density


def shaken(density, size=0.7):
    """The density with parameters far from any start."""
    noise = stream(3, "shake")
    with torch.no_grad():
        for parameter in density.parameters():
            if parameter.requires_grad:
                parameter.add_(
                    size * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                )
    return density


@pytest.fixture(scope="module")
def energy():
    config = Energy(width=16, dropout=0.0, draws=16, rate=1e-2, emphasis=1.0)
    return fit(
        EnergyDensity.build(CODES, config, Event(rows_of_codes()), stream(0)), rows_of_codes(), 150
    )


def machine(hidden, space=CODES, rows=None, **settings):
    rows = rows_of_codes() if rows is None else rows
    return BoltzmannDensity.build(
        space, Boltzmann(hidden=hidden, **settings), Event(rows), stream(0)
    )


def follows(drawn, log_mass, space=CODES):
    """Pearson's p-value of rows of codes against unnormalised log-masses of the whole table."""
    place = (drawn[:, None] == table(space)).all(2).double().argmax(1)
    return pearson(
        torch.bincount(place, minlength=len(log_mass)).double(), log_mass.softmax(0) * len(drawn)
    )


# ------------------------------------------------------------------------------------ the annealing


def test_annealing_there_and_back_brackets_a_known_constant():
    """From N(0, 1) to N(1, 1/9) in one dimension, up to exp(0.3): log Z = 0.3 - log 3."""

    def moments(beta):
        precision = 1 + 8 * beta
        return 9 * beta / precision, precision**-0.5

    def log_ratio(x, before, after):
        return (after - before) * (0.3 - 4.5 * (x - 1) ** 2 + 0.5 * x**2)

    def move(x, beta, generator):
        mean, scale = moments(beta)
        return mean + scale * torch.randn(x.shape, generator=generator, dtype=torch.float64)

    found = sandwich(
        log_ratio,
        move,
        lambda beta, noise: move(torch.zeros(2000).double(), beta, noise),
        40,
        stream(1),
    )
    assert abs(found.estimate - (0.3 - math.log(3))) < 4 * found.standard_error
    assert abs(found.reverse - (0.3 - math.log(3))) < 4 * found.standard_error
    assert 1e-3 < found.standard_error < 0.05
    coarse = [
        sandwich(
            log_ratio,
            move,
            lambda beta, noise: move(torch.zeros(5).double(), beta, noise),
            2,
            stream(s),
        )
        for s in range(60)
    ]
    low, high = (
        sum(getattr(p, end) for p in coarse) / len(coarse) for end in ("estimate", "reverse")
    )
    assert low < 0.27 - math.log(3) < 0.33 - math.log(3) < high


# --------------------------------------------------------------------------- the energy-based joint


def test_an_energy_starts_as_its_mixture():
    density = EnergyDensity.build(CODES, Energy(), Event(rows_of_codes()), stream(0))
    rows = rows_of_codes(20)
    own = density.companion.log_prob(Event(rows[:, 1:]))
    assert torch.allclose(
        density.log_prob(Event(rows).hide(torch.tensor([True, False, False]))), own
    )
    assert torch.allclose(density.log_prob(Event(rows)), own - math.log(2))


def test_contrast_recovers_the_rows_distribution(energy):
    value = rows_of_codes()
    with torch.no_grad():
        log_prob = energy.log_prob(Event(table(CODES)))
    counts = (value[:, None] == table(CODES)).all(2).double().mean(0)
    assert 0.5 * float((log_prob.softmax(0) - counts).abs().sum()) < 0.06
    assert abs(float(log_prob.logsumexp(0))) < 0.1  # nearly normalised by itself


def test_logits_are_all_that_decides_y(energy):
    rows = rows_of_codes(10)
    with torch.no_grad():
        each = energy.log_target(Event(rows), torch.arange(2))
        assert torch.allclose(each.log_softmax(1), energy._logits(rows[:, 1:]).log_softmax(1))
        assert torch.allclose(
            energy.log_target(Event(rows), torch.tensor([1.0, 0.0])), each.flip(1)
        )
        assert torch.allclose(
            energy.log_prob(Event(rows).hide(torch.tensor([True, False, False]))), each.logsumexp(1)
        )


def test_a_region_of_y_leaves_out_the_other_classes(energy):
    box = Region(
        torch.tensor([-math.inf] * 3).double(),
        torch.tensor([math.inf] * 3).double(),
        {0: torch.tensor([False, True])},
    )
    event = Event(rows_of_codes(6)).hide(torch.tensor([True, False, False]))._replace(within=box)
    with torch.no_grad():
        assert torch.allclose(
            energy.log_prob(event), energy.log_target(event, torch.arange(2))[:, 1]
        )
    assert (energy.sample_conditional(event, generator=stream(0)).value[:, 0] == 1).all()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_metropolis_moves_keep_the_tempered_energy(energy, beta):
    x_table = table(Space((2,), CODES.variables[1:]))
    with torch.no_grad():
        free = torch.zeros(4000, 2).double()
        log_mass = energy.companion.log_prob(Event(x_table)) + beta * energy._logits(
            x_table
        ).logsumexp(1)
        x = x_table[torch.multinomial(log_mass.exp(), 4000, replacement=True, generator=stream(5))]
        walk = (x, energy._score(x, free))
        noise = stream(6)
        for _ in range(12):
            walk = energy._move(
                walk, Event(x, torch.zeros_like(x, dtype=torch.bool)), free, beta, noise
            )
        assert not torch.equal(walk[0], x)
        assert torch.allclose(walk[1], energy._score(walk[0], free))
    assert follows(walk[0], log_mass, Space((2,), CODES.variables[1:])) > 1e-3


def test_the_constant_agrees_with_the_sum(energy):
    with torch.no_grad():
        exact = float(energy.log_prob(Event(table(CODES))).logsumexp(0))
    found = energy.log_partition(draws=500, steps=20, generator=stream(0))
    assert abs(found.estimate - exact) < 4 * found.standard_error + 0.01
    assert abs(found.reverse - exact) < 0.1
    assert 0 < found.standard_error < 0.1


def test_emphasis_weighs_the_cross_entropy(energy):
    event = Event(rows_of_codes(20))
    with torch.no_grad():
        light = energy.losses(event, generator=stream(1))
        heavy = None
        energy.config = dataclasses.replace(energy.config, emphasis=3.0)
        heavy = energy.losses(event, generator=stream(1))
        unlabelled = energy.losses(
            event.hide(torch.tensor([True, False, False])), generator=stream(1)
        )
        energy.config = dataclasses.replace(energy.config, emphasis=1.0)
        cross = (
            -energy._logits(event.value[:, 1:])
            .log_softmax(1)
            .gather(1, event.value[:, :1].long())[:, 0]
        )
    assert torch.allclose(heavy - light, 2 * cross)
    assert torch.allclose(light - unlabelled, cross)


def test_pixels_are_read_from_the_grid():
    pixels = tuple(Variable(f"p{i}", "ordered", cardinality=5) for i in range(36))
    value = torch.randint(0, 5, (40, 37), generator=stream(0)).double()
    value[:, 0] = value[:, 0] % 2
    space = Space((37,), (Variable("y", "category", cardinality=2), *pixels), "vector", (1, 6, 6))
    density = fit(EnergyDensity.build(space, Energy(width=16), Event(value), stream(0)), value, 5)
    assert isinstance(density.net, Pixels)
    assert float(density.net._seen(value[:, 1:]).abs().max()) == 1.0
    assert density.features(Event(value)).shape == (40, 16)
    plain = Space((37,), space.variables)
    assert not isinstance(EnergyDensity.build(plain, Energy(), Event(value), stream(0)).net, Pixels)


def test_langevin_takes_real_numbers_and_learns_them():
    noise = stream(2)
    angle = 2 * math.pi * torch.rand(400, generator=noise, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1) * 1.4 + 0.1 * torch.randn(
        400, 2, generator=noise, dtype=torch.float64
    )
    density = fit(
        EnergyDensity.build(REALS, Energy(method="sgld", width=16, walk=5), Event(ring), stream(0)),
        ring,
        30,
    )
    assert bool(torch.isfinite(density.log_prob(Event(ring))).all())
    assert bool(torch.isfinite(density.replay).all())
    with pytest.raises(ValueError, match="'a' has mass"):
        EnergyDensity.build(CODES, Energy(method="sgld"), Event(rows_of_codes()), stream(0))
    with pytest.raises(ValueError, match="method must be"):
        EnergyDensity.build(CODES, Energy(method="magic"), Event(rows_of_codes()), stream(0))


def test_langevin_steps_follow_the_density():
    """From far away, many steps without any learned energy end in the mixture's own spread."""
    value = torch.randn(300, 2, generator=stream(0), dtype=torch.float64)
    density = EnergyDensity.build(REALS, Energy(method="sgld"), Event(value), stream(0))
    x = torch.full((500, 2), 3.0, dtype=torch.float64)
    for step in range(120):
        x = density._langevin(x, stream(step))
    own = density.companion.sample(2000, generator=stream(1)).value
    assert torch.allclose(x.mean(0), own.mean(0), atol=0.25)
    assert torch.allclose(x.std(0), own.std(0), rtol=0.2)


def test_a_diverged_energy_is_an_infinite_loss(energy):
    sound = torch.tensor([1.0]).double()
    gone = torch.tensor([1e6]).double()
    assert float(energy._contrast(sound, sound)) == pytest.approx(0.02)
    assert float(energy._contrast(torch.tensor([2.0]).double(), sound)) == pytest.approx(-1 + 0.05)
    assert float(energy._contrast(sound, gone)) == math.inf


def test_chains_learn_what_contrast_learns():
    config = Energy(method="chains", width=16, dropout=0.0, walk=2, rate=1e-2, emphasis=1.0)
    density = fit(
        EnergyDensity.build(CODES, config, Event(rows_of_codes()), stream(0)), rows_of_codes(), 100
    )
    counts = (rows_of_codes()[:, None] == table(CODES)).all(2).double().mean(0)
    with torch.no_grad():
        share = density.log_prob(Event(table(CODES))).softmax(0)
    assert 0.5 * float((share - counts).abs().sum()) < 0.08


# ---------------------------------------------------------------------------- the Boltzmann machine


def brute(density, value):
    """log sum_h exp(energy), written out: the sum over columns of a and h W, and b.h."""
    states = torch.tensor(
        list(itertools.product((0.0, 1.0), repeat=len(density.hidden))), dtype=torch.float64
    )
    column = torch.arange(value.shape[1])
    code = value.long()
    bias = density.visible[column, code].sum(1)
    field = density.weight[:, column, code].sum(2)  # (J, B)
    return (bias[:, None] + (states @ (field + density.hidden[:, None])).T).logsumexp(1)


@pytest.mark.parametrize("hidden", [3, 13])
def test_every_state_of_the_hidden_units_is_summed(hidden):
    density = shaken(machine(hidden))
    rows = rows_of_codes(7)
    with torch.no_grad():
        constant = density._log_z() if density.exact else 0.0
        assert torch.allclose(density.log_prob(Event(rows)), brute(density, rows) - constant)
        if density.exact:
            assert float(constant) == pytest.approx(
                float(brute(density, table(CODES)).logsumexp(0))
            )


def test_the_annealed_constant_of_a_machine_is_the_exact_one():
    density = shaken(machine(4))
    found = density.log_partition(draws=400, steps=60, generator=stream(0))
    with torch.no_grad():
        exact = float(density._log_z())
    assert abs(found.estimate - exact) < 4 * found.standard_error + 0.01
    assert abs(found.reverse - exact) < 0.15
    assert found.standard_error < 0.1


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_gibbs_steps_keep_the_tempered_machine(beta):
    density = shaken(machine(3))
    with torch.no_grad():
        codes = table(CODES).long()
        log_mass = density._bias_of(codes) + torch.nn.functional.softplus(
            beta * density._field(codes)
        ).sum(1)
        start = codes[
            torch.multinomial(log_mass.softmax(0), 4000, replacement=True, generator=stream(5))
        ]
        drawn = density._gibbs(
            start, torch.zeros(1, *density.visible.shape).double(), 3, stream(6), beta
        )
    assert follows(drawn.double(), log_mass) > 1e-3


def test_many_units_estimate_missing_cells_without_bias():
    density = shaken(machine(13))
    row = rows_of_codes(1)
    with torch.no_grad():
        for mask in (torch.tensor([True, False, True]), torch.tensor([False, True, False])):
            agree = ((table(CODES) == row) | ~mask).all(1)
            target = density.log_prob(Event(table(CODES)))[agree].logsumexp(0)
            event = Event(row.expand(50, -1), mask.expand(50, -1))
            ratio = torch.stack(
                [
                    (density.log_prob(event, generator=stream(seed))[0] - target).exp()
                    for seed in range(100)
                ]
            )
            assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / 10 + 1e-6


def test_the_pseudo_likelihood_is_that_of_the_conditionals():
    density = shaken(machine(13))
    rows = rows_of_codes(1)
    with torch.no_grad():
        joint = density.log_prob(Event(table(CODES)))
        values = []
        for d in range(3):
            same = (table(CODES) == rows)[:, torch.arange(3) != d].all(1)
            values.append(-3 * float(density.log_prob(Event(rows)) - joint[same].logsumexp(0)))
        found = density._pseudo(rows.long().expand(60, -1), stream(0))
    assert {round(value, 8) for value in found.tolist()} == {round(value, 8) for value in values}


def test_persistent_chains_raise_the_likelihood():
    density = machine(13, rate=0.1, walk=2)
    value = rows_of_codes()

    def mean():
        with torch.no_grad():
            log_z = density.log_prob(Event(table(CODES))).logsumexp(0)
            return float((density.log_prob(Event(value)) - log_z).mean())

    before = mean()
    fit(density, value, 300)
    empirical = (value[:, None] == table(CODES)).all(2).double().mean(0)
    entropy = float(torch.special.entr(empirical).sum())
    assert mean() > before + 0.6 * (-entropy - before)


def test_exact_learning_finds_what_no_single_column_shows():
    density = machine(6, rate=0.1)
    value = rows_of_codes()
    fit(density, value, 300)
    empirical = (value[:, None] == table(CODES)).all(2).double().mean(0)
    with torch.no_grad():
        share = density.log_prob(Event(table(CODES))).exp()
    assert float(share.sum()) == pytest.approx(1)
    assert 0.5 * float((share - empirical).abs().sum()) < 0.1


def test_targets_inside_a_region_and_with_missing_cells():
    density = shaken(machine(4))
    low = torch.tensor([0.0, -math.inf, 1.0]).double()
    high = torch.tensor([0.0, math.inf, 2.0]).double()
    box = Region(low, high, {1: torch.tensor([True, False, True])})
    event = Event(rows_of_codes(4), torch.tensor([True, True, False]).expand(4, -1), within=box)
    with torch.no_grad():
        each = density.log_target(event, torch.arange(2.0))
        inside = torch.tensor(
            [[y, float(row[1]), b] for row in event.value for y in (0, 1) for b in (1, 2)]
        ).double()
        inside = density.log_prob(Event(inside))
    assert torch.allclose(each, inside.reshape(4, 2, 2).logsumexp(2))


def test_the_halves_of_a_number_beside_a_category_add_up():
    units = Units((Variable("a", "category", cardinality=2), Variable("x", "real")), pieces=3)
    value = torch.randn(200, 2, generator=stream(0)).double()
    value[:, 0] = (value[:, 0] > 0).double()
    units.start(Event(value), torch.ones(200).double())
    anything = torch.full((2,), math.inf).double()
    middle = torch.tensor([math.inf, 0.2]).double()
    nothing = Event(torch.zeros(1, 2).double(), torch.zeros(1, 2, dtype=torch.bool))
    low, high = (
        units.log_prob(nothing._replace(within=box))[0, 1].exp()
        for box in (Region(-anything, middle), Region(middle * torch.tensor([-1, 1]), anything))
    )
    assert (low > 0).all() and (high > 0).all()
    torch.testing.assert_close(low + high, torch.ones_like(low))


def test_pieces_of_a_number_make_up_its_column():
    value = torch.cat(
        [
            torch.randn(500, 1, generator=stream(0)) * 0.3 - 2,
            torch.randn(500, 1, generator=stream(1)) + 1,
        ]
    ).double()
    units = Units((Variable("x", "real"),), pieces=6)
    share = units.start(Event(value), torch.ones(1000).double())
    grid = torch.linspace(-6, 6, 1201).double()[:, None]
    density = (share + units.log_prob(Event(grid))).logsumexp(2)[:, 0].exp()
    assert float(density.sum() * 0.01) == pytest.approx(1, abs=1e-3)
    assert float(density[(grid < -1).flatten()].sum() * 0.01) == pytest.approx(0.51, abs=0.04)


def test_a_machine_without_units_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        machine(0)


WIDE = [
    "samples",
    "conditionals",
    "regions",
    "modes",
    "targets",
    "saving",
    "batches",
    "features",
    "gradients",
    "seeds",
]


@pytest.mark.parametrize("check", WIDE)
@pytest.mark.parametrize(
    "config",
    [Boltzmann(hidden=13), Energy(method="chains", width=8, walk=2, draws=8)],
    ids=["machine", "chains"],
)
def test_what_is_no_default_passes_too(config, check):
    try:
        run_case(config, "mixed", check)
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
def test_digits():
    """The book's split, ten seeds: no divergence, a finite constant, and on the average at most 6 %
    of the test rows wrong."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = torch.cat([torch.tensor(y)[:, None].double(), torch.tensor(x)], 1)
    pixels = tuple(Variable(f"p{i}", "ordered", cardinality=17) for i in range(64))
    space = Space((65,), (Variable("y", "category", cardinality=10), *pixels), "vector", (1, 8, 8))
    wrong = []
    for seed in range(10):
        density = EnergyDensity.build(space, Energy(), Event(rows[:1000]), stream(seed, "build"))
        trained = train(
            density,
            Event(rows[:1000]),
            torch.ones(1000).double(),
            Event(rows[1000:1350]),
            Plan(seed=seed),
            Progress(),
        )
        with torch.no_grad():
            guess = density.log_target(Event(rows[1350:]), torch.arange(10)).argmax(1)
        wrong.append(float((guess != rows[1350:, 0]).double().mean()))
        assert trained.setbacks == 0
        assert all(
            map(math.isfinite, density.log_partition(draws=64, steps=30, generator=stream(seed)))
        )
    assert sum(wrong) / len(wrong) <= 0.06

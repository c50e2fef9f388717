"""Flows: inverses, slopes, masses, solvers and translations against brute force."""

import math

import pytest
import torch

from conjoin.core import Event, Likelihood, Pair, Space, Variable, stream
from conjoin.families.flow.continuous import FlowMatching, MatchedDensity, Velocity, runge_kutta
from conjoin.families.flow.coupling import Flow, FlowDensity, FlowNet
from conjoin.families.flow.integer import IntegerDensity, IntegerFlow
from conjoin.families.flow.parts import smooth_columns
from conjoin.families.flow.spline import BOUND, MIN_BIN_SHARE, inverse_spline, parameters, spline
from conjoin.joints.class_conditional import ClassConditional
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

REAL = Space((2,), (Variable("a", "real"), Variable("b", "real")))


def shaken(module, by=0.3, seed=0):
    """A start hides mistakes: away from it, and asked, not trained."""
    noise = stream(seed, "shake")
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(
                    by * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                )
    return module.eval()


def ring(rows, seed=0):
    noise = stream(seed, "ring")
    angle = 2 * math.pi * torch.rand(rows, generator=noise, dtype=torch.float64)
    radius = 1.5 + 0.1 * torch.randn(rows, generator=noise, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def fit(config, space, rows, **context):
    density = config.density.build(space, config, Event(rows), stream(0, "build"), **context)
    train(density, Event(rows), torch.ones(len(rows)).double(), None, Plan(), Progress())
    return density


# ------------------------------------------------------------------------------------------ splines


@pytest.fixture
def bent():
    noise = stream(0, "bent")
    params = 2 * torch.randn(parameters(5), 3, 400, generator=noise, dtype=torch.float64)
    x = 3 * torch.randn(3, 400, generator=noise, dtype=torch.float64)
    return x, params


def test_a_spline_and_its_inverse_undo_each_other(bent):
    x, params = bent
    y, slope = spline(x, params)
    back, again = inverse_spline(y, params)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(again, slope, atol=1e-6)
    assert (x.abs() > BOUND).any()
    assert torch.equal(y[x.abs() > BOUND], x[x.abs() > BOUND])


def test_the_slope_of_a_spline_is_its_derivative(bent):
    x, params = bent
    x = x.requires_grad_()
    y, slope = spline(x, params)
    assert torch.allclose(torch.autograd.grad(y.sum(), x)[0].log(), slope, atol=1e-9)


def test_a_spline_rises_and_is_continuous_with_its_slope():
    params = 3 * torch.randn(parameters(4), 1, generator=stream(1), dtype=torch.float64).expand(
        -1, 200_001
    )
    x = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    y, slope = spline(x, params)
    assert (y.diff() > 0).all()
    assert slope.diff().abs().max() < 0.1
    assert abs(float(y[0] + 6)) < 1e-12 and abs(float(y[-1] - 6)) < 1e-12


def test_no_parameter_makes_an_infinite_density():
    params = 1e6 * torch.randn(parameters(8), 1, generator=stream(2), dtype=torch.float64).expand(
        -1, 1001
    )
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    y, slope = spline(x, params)
    assert torch.isfinite(y).all() and torch.isfinite(slope).all()
    assert (y.diff() >= -1e-9).all()
    thin = torch.zeros(parameters(8), 1, dtype=torch.float64)
    # the narrowest first bin, the rise in the second
    thin[0] = -1e6
    thin[9] = 1e6
    _, slope = spline(torch.tensor([-5 + 10 * MIN_BIN_SHARE / 2]).double(), thin)
    assert torch.isfinite(slope).all()


# ---------------------------------------------------------------------------------------- couplings


@pytest.mark.parametrize("size", [1, 2, 5])
def test_log_det_is_that_of_the_jacobian(size):
    net = shaken(FlowNet(size, 2, layers=3, width=8, blocks=1, bins=4))
    x = torch.randn(4, size, generator=stream(3), dtype=torch.float64)
    seen = torch.randn(4, 2, generator=stream(4), dtype=torch.float64)
    z, log_det = net.forward_map(x, seen)
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda at, row=row: net.forward_map(at[None], seen[row : row + 1])[0][0], x[row]
        )
        assert torch.allclose(torch.linalg.slogdet(jacobian)[1], log_det[row], atol=1e-8)
    assert torch.allclose(net.inverse_map(z, seen), x, atol=1e-7)


def test_the_network_sees_no_number_beyond_its_reach():
    net = shaken(FlowNet(3, 0, layers=2, width=8, blocks=1, bins=4), 1.0)
    far = torch.tensor([[1e6, -1e6, 1e6], [-1e30, 0.0, 1e3]], dtype=torch.float64)
    assert torch.isfinite(net(far, far[:, :0])).all()
    for _, coupling in net.layers:
        edge = torch.full((coupling.size, 1), 2 * BOUND, dtype=torch.float64)
        assert torch.equal(
            coupling._bends(1e30 * edge, far[:1, :0]), coupling._bends(edge, far[:1, :0])
        )


def test_a_flow_integrates_to_one_and_has_no_expected_score():
    density = fit(Flow(steps=150, width=16, layers=2, bins=4), REAL, ring(300))
    axis = torch.linspace(-4, 4, 641, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    log_prob = density.log_prob(Event(points))
    weight = log_prob.detach().exp() * cell
    assert abs(float(weight.sum()) - 1) < 2e-3
    for gradient in torch.autograd.grad((weight * log_prob).sum(), list(density.flow.parameters())):
        assert gradient.abs().max() < 2e-2


def test_a_flow_recovers_a_ring():
    density = fit(Flow(steps=400, width=32), REAL, ring(1500))
    with torch.no_grad():
        got = float(density.log_prob(Event(ring(500, seed=1))).mean())
    true = -math.log(2 * math.pi * 1.5) - 0.5 * math.log(2 * math.pi * 0.01) - 0.5
    assert true - 0.35 < got < true + 0.1
    drawn = density.sample(500, generator=stream(0)).value.norm(dim=1)
    assert abs(float(drawn.mean()) - 1.5) < 0.05
    assert float((drawn - 1.5).abs().mean()) < 0.25


def test_the_class_moves_the_flow():
    label = Event((torch.arange(400) % 2).double())
    rows = (
        torch.randn(400, 2, generator=stream(5), dtype=torch.float64) * 0.3
        + 2 * label.value[:, None]
        - 1
    )
    classes = Space((), (Variable("y", "category", cardinality=2),))
    density = FlowDensity.build(
        REAL, Flow(steps=1), Event(rows), stream(0), context=label, context_space=classes
    )
    train(
        ClassConditional(density, classes),
        Pair(label, Event(rows)),
        torch.ones(400).double(),
        None,
        Plan(steps=150),
        Progress(),
    )
    drawn = density.sample(200, Event(torch.ones(200).double()), generator=stream(1)).value
    assert (drawn.mean(0) > 0.6).all()


# -------------------------------------------------------------------------------------------- parts


def test_which_columns_flow():
    columns = (
        Variable("colour", "category", cardinality=3),
        Variable("fine", "real", resolution=0.01),
        Variable("coarse", "integer", resolution=1.0),
        Variable("spiked", "real", resolution=0.01, atoms=(0.0,)),
        Variable("density", "real"),
        Variable("level", "ordered", cardinality=17),
    )
    rows = torch.randn(50, 6, generator=stream(0), dtype=torch.float64)
    assert smooth_columns(Space((6,), columns), Event(rows), torch.ones(50).double()) == [1, 4]
    picture = Space((6,), (Variable("pixel", "ordered", cardinality=17),) * 6, "image", (1, 2, 3))
    assert smooth_columns(picture, Event(rows), torch.ones(50).double()) == list(range(6))


@pytest.fixture(scope="module")
def fine():
    """A shaken flow over cells of a tenth."""
    space = Space(
        (2,),
        (Variable("a", "real", resolution=0.1, origin=0.03), Variable("b", "real", resolution=0.1)),
    )
    rows = (ring(200) / 0.1).round() * 0.1 + torch.tensor([0.03, 0.0])
    return shaken(
        FlowDensity.build(space, Flow(width=8, layers=2), Event(rows), stream(0)), 0.1
    ), rows


def test_recorded_cells_are_a_bound_of_their_mass(fine):
    density, rows = fine
    assert density.capabilities.likelihood is Likelihood.LOWER_BOUND
    cells = rows[:5]
    inside = (torch.arange(40) + 0.5) / 40 - 0.5
    points = (cells[:, None] + 0.1 * torch.cartesian_prod(inside, inside).double()).flatten(0, 1)
    z = (points - density.mean) / density.scale
    with torch.no_grad():
        at = density.flow(z, z[:, :0]) - density.scale.log().sum()
        mass = at.reshape(5, -1).exp().mean(1) * 0.01
        bounds = torch.stack(
            [density.log_prob(Event(cells), generator=stream(seed)) for seed in range(200)]
        )
    assert torch.allclose(bounds.exp().mean(0), mass, rtol=0.03)
    assert (bounds.mean(0) <= mass.log() + 0.01).all()


def test_all_rows_are_looked_at_in_the_same_places_of_their_cells(fine):
    density, rows = fine
    with torch.no_grad():
        whole = density.log_prob(Event(rows))
        single = torch.cat([density.log_prob(Event(row[None])) for row in rows[:20]])
    assert torch.allclose(single, whole[:20], atol=1e-9)


def test_draws_of_cells_lie_on_the_lattice(fine):
    density, _ = fine
    drawn = density.sample(100, generator=stream(2)).value
    steps = (drawn - torch.tensor([0.03, 0.0]).double()) / 0.1
    assert torch.allclose(steps, steps.round(), atol=1e-6)
    assert len(drawn[:, 0].unique()) > 10


# --------------------------------------------------------------------------------------- continuous


def test_the_solver_is_of_order_four():
    found = [
        float(runge_kutta(lambda x, t: x * math.cos(t), torch.ones(1).double(), 0.0, 2.0, steps))
        for steps in (8, 16)
    ]
    errors = [abs(value - math.exp(math.sin(2.0))) for value in found]
    assert 12 < errors[0] / errors[1] < 24


def test_the_trace_is_that_of_the_jacobian():
    net = shaken(Velocity(3, 2, width=8, blocks=2, blur=0.1))
    x = torch.randn(4, 3, generator=stream(3), dtype=torch.float64)
    seen = torch.randn(4, 2, generator=stream(4), dtype=torch.float64)
    velocity, trace = net.with_trace(x, 0.3, seen, torch.eye(3, dtype=torch.float64))
    time = torch.full((4,), 0.3, dtype=torch.float64)
    assert torch.allclose(velocity, net(x, time, seen), atol=1e-12)
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda at, row=row: net(at[None], time[:1], seen[row : row + 1])[0], x[row]
        )
        assert torch.allclose(jacobian.trace(), trace[row], atol=1e-9)
    sign = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double() / 8**0.5
    # the mean over all signs is exact
    assert torch.allclose(net.with_trace(x, 0.3, seen, sign)[1], trace, atol=1e-9)


def test_before_training_it_is_a_normal_distribution():
    rows = ring(100)
    density = MatchedDensity.build(REAL, FlowMatching(blur=1e-3, solver=20), Event(rows), stream(0))
    true = (
        torch.distributions.Normal(rows.mean(0), rows.std(0, unbiased=False)).log_prob(rows).sum(1)
    )
    with torch.no_grad():
        assert torch.allclose(density.log_prob(Event(rows)), true, atol=2e-3)


@pytest.fixture(scope="module")
def matched():
    return fit(FlowMatching(steps=500, width=32), REAL, ring(1000))


def test_a_continuous_flow_learns_a_ring_and_integrates_to_one(matched):
    axis = torch.linspace(-3, 3, 61, dtype=torch.float64)
    with torch.no_grad():
        total = matched.log_prob(Event(torch.cartesian_prod(axis, axis))).logsumexp(0).exp() * 0.01
        got = float(matched.log_prob(Event(ring(300, seed=1))).mean())
    assert abs(float(total) - 1) < 0.01
    assert got > -1.6  # the ring itself: -1.36; a normal distribution: -2.9
    drawn = matched.sample(500, generator=stream(0)).value.norm(dim=1)
    assert abs(float(drawn.mean()) - 1.5) < 0.1


def test_the_solvers_error_is_stated(matched):
    rows = ring(50, seed=2)
    halving, spread = matched.solver_error(Event(rows))
    matched.solver_error(Event(rows[:0]))
    with torch.no_grad():
        z = (rows - matched.mean) / matched.scale
        fine = matched._solve(z, z[:, :0], 64, torch.eye(2).double())
        off = (
            matched._solve(z, z[:, :0], matched.config.solver, torch.eye(2).double()) - fine
        ).abs()
    assert matched.capabilities.likelihood is Likelihood.APPROXIMATE
    assert float(off.max()) > 1e-6  # so log p is not exact, to either side
    assert float(halving.median()) < 0.05
    assert float(off.mean()) < 2 * float(halving.mean()) + 1e-3
    assert torch.equal(spread, torch.zeros(50).double())


def test_where_nothing_is_solved_log_p_is_exact():
    space = Space((2,), tuple(Variable(name, "category", cardinality=2) for name in "ab"))
    rows = torch.randint(2, (40, 2), generator=stream(0)).double()
    density = MatchedDensity.build(space, FlowMatching(width=8), Event(rows), stream(0))
    assert density.capabilities.likelihood is Likelihood.EXACT
    every = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double()
    with torch.no_grad():
        total = float(density.log_prob(Event(every)).exp().sum())
    assert total == pytest.approx(1, abs=1e-9)


def test_many_numbers_have_an_estimated_trace():
    space = Space((40,), tuple(Variable(f"x{d}", "real") for d in range(40)))
    rows = torch.randn(60, 40, generator=stream(0), dtype=torch.float64)
    density = shaken(
        MatchedDensity.build(space, FlowMatching(width=8, solver=4), Event(rows), stream(0)), 0.1
    )
    assert density.capabilities.likelihood is Likelihood.LOWER_BOUND
    halving, spread = density.solver_error(Event(rows[:4]))
    assert (spread > 0).all() and (spread < 5).all() and torch.isfinite(halving).all()
    z = density._standardise(rows[:4], torch.tensor(0.5))
    exact = density._solve(z, z[:, :0], 4, torch.eye(40).double())
    many = torch.stack(
        [density._solve(z, z[:, :0], 4, density._probes(stream(seed))) for seed in range(60)]
    )
    error = many.std(0) / 60**0.5
    assert ((many.mean(0) - exact).abs() < 5 * error).all()


# ----------------------------------------------------------------------------------------- integers

LATTICE = Space(
    (4,),
    (
        Variable("colour", "category", cardinality=2),
        Variable("level", "ordered", cardinality=5),
        Variable("count", "integer", resolution=1.0),
        Variable("size", "ordered", cardinality=3),
    ),
)


@pytest.fixture(scope="module")
def moved():
    noise = stream(0, "lattice")
    base = torch.randint(0, 3, (200, 1), generator=noise).double()
    rows = torch.cat(
        [base % 2, base + torch.randint(0, 3, (200, 1), generator=noise), 3 * base, base], 1
    )
    return shaken(
        IntegerDensity.build(LATTICE, IntegerFlow(width=8), Event(rows), stream(0)), 0.5
    ), rows


def test_translations_are_bijections(moved):
    density, _ = moved
    axes = [torch.arange(n).double() for n in (2, 5, 9, 3)]
    rows = torch.cartesian_prod(*axes)
    own = density.context(len(rows), None)
    z = density.to_base(rows, own)
    assert not torch.equal(z, rows)
    assert len(z.unique(dim=0)) == len(rows)
    assert torch.equal(density.from_base(z, own), rows)
    assert torch.equal(z, z.round())
    assert torch.equal(z[:, 0], rows[:, 0])
    assert ((z[:, 1] >= 0) & (z[:, 1] <= 4) & (z[:, 3] >= 0) & (z[:, 3] <= 2)).all()


def test_an_integer_flow_sums_to_one(moved):
    density, _ = moved
    rows = torch.cartesian_prod(
        torch.arange(2.0), torch.arange(5.0), torch.arange(-300.0, 301.0), torch.arange(3.0)
    ).double()
    with torch.no_grad():
        assert abs(float(density.log_prob(Event(rows)).exp().sum()) - 1) < 1e-4


def test_a_gradient_passes_the_rounding(moved):
    density, rows = moved
    density.loss(Event(rows)).backward()
    for layer in density.layers:
        assert all(float(p.grad.abs().max()) > 0 for p in layer.net.parameters())
    density.zero_grad()


def test_translations_alone_bring_an_independent_base_closer():
    """y = x + 7 for a base that can't look: what the translation learns it saves."""
    noise = stream(1, "shift")
    x = torch.randint(0, 40, (600, 1), generator=noise).double()
    rows = torch.cat([x, x + torch.randint(0, 2, (600, 1), generator=noise)], 1)
    space = Space(
        (2,), (Variable("x", "integer", resolution=1.0), Variable("y", "integer", resolution=1.0))
    )
    density = fit(IntegerFlow(steps=300, width=32, dropout=0.0), space, rows)
    own = density.context(600, None)
    z = density.to_base(rows, own)
    assert (z[:, 0] - z[:, 1] - (x[:, 0] - rows[:, 1])).abs().max() > 0  # something moves
    with torch.no_grad():
        assert float(density.log_prob(Event(rows)).mean()) > -math.log(40) - math.log(2) - 0.6

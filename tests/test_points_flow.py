"""Clouds of points that turn with their noise: networks, the flow, its density, its draws."""

import itertools
import math

import pytest
import torch

from conjoin.core import (
    Block,
    CapabilityError,
    Edit,
    Event,
    Record,
    RecordSpace,
    Status,
    Variable,
    stream,
)
from conjoin.families.diffusion.cloud_flow import CloudFlow, Springs, levels_of_noise, turned
from conjoin.families.diffusion.point_counts import PointCounts
from conjoin.families.diffusion.points import PointsFlow, PointsFlowDensity
from conjoin.nets.equivariant import CloudNet, CloudReader, EquivariantNet, PlainNet, Told
from conjoin.nets.molecular_graph import MolecularGraph, graph_block
from conjoin.nets.precision import computing_in
from conjoin.testing.fitted import again

SMALL = {
    "width": 8,
    "pair_width": 4,
    "heads": 2,
    "layers": (1, 2),
    "precision": "float32",
    "rate": 1e-2,
}
# so that log p is smooth on a grid
SMOOTH = {**SMALL, "details": (0.5,), "blur": 0.05}
SYMBOLS = ("H", "O")
WATER = MolecularGraph.of(["O", "H", "H"], [(0, 1, 1), (0, 2, 1)], symbols=SYMBOLS)
PEROXIDE = MolecularGraph.of(
    ["O", "O", "H", "H"], [(0, 1, 1), (0, 2, 1), (1, 3, 1)], symbols=SYMBOLS
)
LEVELS = 11
ATOM = Variable("atom", "category", LEVELS)
AXES = tuple(Variable(axis, "real") for axis in "xyz")
CLOUD = Block("molecule", "points", (4, 4), (ATOM, *AXES), centred=True)
GRAPHS = RecordSpace((graph_block(4, SYMBOLS),))


def codes_of(graph):
    """(1, 1, 4, 4) in the block of four places."""
    more = 4 - graph.bonds.shape[1]
    return torch.nn.functional.pad(graph.to_codes(), (0, more, 0, more))


def told_of(graphs):
    return GRAPHS.check(Record(graph=Event(torch.cat([codes_of(graph) for graph in graphs]))))


def clouds(rows=12):
    """Water and peroxide, each about one shape, turned at random."""
    noise = stream(0, "clouds")
    water = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0], [0.0, 0.0, 0.0]])
    other = torch.tensor([[0.7, 0.0, 0.0], [-0.7, 0.0, 0.0], [0.9, 0.9, 0.3], [-0.9, 0.5, -0.8]])
    value = torch.zeros(rows, 4, 4, dtype=torch.float64)
    there = torch.ones(rows, 4, dtype=torch.bool)
    for row in range(rows):
        shape, graph = ((water, WATER), (other, PEROXIDE))[row % 2]
        shape = shape.double() + 0.03 * torch.randn(4, 3, generator=noise, dtype=torch.float64)
        value[row, :, 1:] = shape @ turn(noise)
        value[row, :, 0] = codes_of(graph)[0, 0].diagonal()
        there[row, 3] = row % 2 == 1
    cells = torch.ones_like(value, dtype=torch.bool)
    event = CLOUD.check(Event(value * there[..., None], cells, there))
    return event, told_of([(WATER, PEROXIDE)[row % 2] for row in range(rows)])


def turn(generator, mirrored=False):
    """An orthogonal matrix."""
    found = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    found = found * torch.linalg.det(found)
    return found * torch.tensor([1.0, 1.0, -1.0]) if mirrored else found


@pytest.fixture(scope="module")
def fitted():
    """A flow of two molecules, given their graphs, after some steps."""
    event, told = clouds()
    density = PointsFlowDensity.build(
        CLOUD, PointsFlow(**SMALL), event, stream(0), context=told, context_space=GRAPHS
    )
    optimiser = torch.optim.Adam(density.parameters(), lr=1e-2)
    density.train()
    for step in range(150):
        optimiser.zero_grad()
        density.loss(event, told, generator=stream(step, "fit")).backward()
        optimiser.step()
    return density.eval(), event, told


def moved(event, matrix, shift=0.0):
    value = event.value.clone()
    value[..., 1:] = value[..., 1:] @ matrix + shift
    return event._replace(value=value)


# ------------------------------------------------------------------------------------------ graphs


def test_a_graph_is_read_as_it_was_written():
    graph = MolecularGraph.of(["C", "N", "H"], [(0, 1, 4), (0, 2, 1)], charges=[-1, 2, 0])
    block = graph_block(3)
    found = MolecularGraph.from_codes(block.check(Event(graph.to_codes())).value)
    for name in ("elements", "bonds", "charges", "present"):
        assert torch.equal(getattr(graph, name), getattr(found, name)), name
    with pytest.raises(ValueError, match="charge 3"):
        MolecularGraph.of(["C"], [], charges=[3]).to_codes()
    with pytest.raises(ValueError, match="'Q' is not among"):
        MolecularGraph.of(["Q"], [])
    with pytest.raises(ValueError, match="at most 51 elements"):
        graph_block(3, [str(each) for each in range(52)])


def test_paths_are_the_shortest_and_what_is_apart_is_farther_than_all():
    chain = MolecularGraph.of(["C"] * 8, [(n, n + 1, 1) for n in range(6)])
    lengths = chain.path_lengths(4)[0]
    for one, other in itertools.product(range(8), repeat=2):
        apart = abs(one - other)
        wanted = 5 if 7 in (one, other) and one != other else min(apart, 5)
        assert lengths[one, other] == wanted


def test_walks_that_never_turn_back_count_rings():
    for size in (3, 4, 5, 6):
        ring = MolecularGraph.of(["C"] * size, [(n, (n + 1) % size, 1) for n in range(size)])
        walks = ring.ring_walks()[0, 0, 1].expm1().round().long().tolist()
        # from an atom to its neighbour: the long way round, and round again
        assert walks == [int(steps % size in (size - 1, 1)) for steps in range(2, 8)]
    tree = MolecularGraph.of(["C"] * 4, [(0, 1, 1), (1, 2, 1), (1, 3, 1)])
    assert tree.ring_walks()[0, 0, 1].abs().max() == 0


def test_a_permuted_graph_has_permuted_features():
    order = torch.tensor([[2, 0, 3, 1]])
    other = PEROXIDE.permuted(order)
    rows = order[0]
    assert torch.equal(other.path_lengths()[0], PEROXIDE.path_lengths()[0][rows][:, rows])
    assert torch.equal(other.laplacian()[0], PEROXIDE.laplacian()[0][rows][:, rows])
    assert torch.equal(other.to_codes()[0, 0], PEROXIDE.to_codes()[0, 0][rows][:, rows])


# ---------------------------------------------------------------------------------------- networks


def asked(net, x, present, order=None, dtype=torch.float64):
    """The clean cloud of random features, which go with the points."""
    noise = stream(5, "features")
    count = x.shape[1]
    points = torch.randn(len(x), count, 3, generator=noise, dtype=torch.float64)
    pairs = torch.randn(len(x), count, count, 2, generator=noise, dtype=torch.float64)
    pairs = pairs + pairs.transpose(1, 2)
    if order is not None:
        points, pairs = points[:, order], pairs[:, order][:, :, order]
    blank = torch.zeros(len(x), 0, dtype=torch.float64)
    told = net.tell(points, pairs, blank, present)
    share = torch.full((len(x),), 0.3, dtype=dtype)
    return net.compute(x.to(dtype), share, told)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("recycles", [False, True])
def test_the_network_turns_with_the_cloud(mirrored, recycles):
    torch.manual_seed(0)
    net = EquivariantNet(3, 2, 0, 8, 4, 2, (1, 2), recycles)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    present = torch.ones(2, 5, dtype=torch.bool)
    matrix = turn(stream(1), mirrored)
    found = asked(net, x, present)
    assert (found - x).abs().max() > 0.01
    turned_first = asked(net, x @ matrix + 2.5, present)
    assert torch.allclose(turned_first, found @ matrix + 2.5, atol=1e-10)


@pytest.mark.parametrize("kind", [EquivariantNet, PlainNet])
def test_the_network_keeps_no_order_and_sees_no_absent_point(kind):
    torch.manual_seed(0)
    net = kind(3, 2, 0, 8, 4, 2, (1, 2))
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    present = torch.ones(2, 5, dtype=torch.bool)
    order = torch.tensor([3, 1, 4, 0, 2])
    found = asked(net, x, present)
    assert torch.allclose(asked(net, x[:, order], present, order), found[:, order], atol=1e-10)
    fewer = present & (torch.arange(5) < 4)
    one = x * fewer[..., None]
    other = x.where(fewer[..., None], torch.tensor(7.0).double())
    a, b = (asked(net, each, fewer)[:, :4] for each in (one, other))
    assert torch.allclose(a, b, atol=1e-10)
    assert not torch.allclose(a, found[:, :4], atol=1e-6)


def test_places_are_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    net = EquivariantNet(3, 2, 0, 8, 4, 2, (1, 2)).float()
    x = torch.randn(2, 5, 3)
    present = torch.ones(2, 5, dtype=torch.bool)
    plain = asked(net, x, present, dtype=torch.float32)
    with computing_in("bfloat16"):
        rough = asked(net, x, present, dtype=torch.float32)
        far = asked(net, x + 300.0, present, dtype=torch.float32) - 300.0
    assert rough.dtype == torch.float32
    assert (rough - plain).abs().max() < 0.05
    assert (rough - far).abs().max() < 0.02  # bfloat16 has steps of 2 there


# ------------------------------------------------------------------------------------ springs, flow


def test_springs_are_the_gaussian_of_their_precision():
    """Beside the determinant of the precision in an orthonormal basis of mean zero."""
    laplacian = WATER.laplacian().double()
    stiffness, anchor = torch.tensor([2.0]).double(), torch.tensor([0.3]).double()
    springs = Springs.of(laplacian, stiffness, anchor, WATER.present)
    basis = torch.linalg.qr(torch.eye(3).double()[:, :2] - 1 / 3)[0]
    precision = basis.T @ (2.0 * laplacian[0]) @ basis + 0.3 * torch.eye(2).double()
    x = torch.randn(1, 3, 3, generator=stream(0), dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), precision_matrix=precision
    )
    assert torch.allclose(springs.log_prob(x), normal.log_prob((basis.T @ x[0]).T).sum())
    many = Springs.of(
        laplacian.expand(20_000, 3, 3),
        stiffness.expand(20_000),
        anchor.expand(20_000),
        WATER.present.expand(20_000, 3),
    )
    drawn = many.draw(torch.randn(20_000, 3, 3, generator=stream(1), dtype=torch.float64))
    assert drawn.mean(1).abs().max() < 1e-12
    found = torch.cov((basis.T @ drawn).transpose(1, 2).flatten(0, 1).T)
    assert torch.allclose(found, precision.inverse(), atol=0.03)


class Still(CloudNet):
    """Says that the clean cloud is always the same, about the mean of what it sees."""

    def __init__(self, clean):
        super().__init__(1, 1, 0, 8, 4, 2, 1)
        self.clean = clean

    def pairs_of(self, told):
        return []

    def compute(self, x, noise, told, pairs=None):
        return self.clean.to(x) + x.mean(1, keepdim=True)


def known_flow(clean, blur=0.1, solver=24):
    present = torch.ones(1, 3, dtype=torch.bool)
    told = Told(torch.zeros(1), torch.zeros(1), torch.zeros(1), present)
    springs = Springs.of(
        WATER.laplacian().double(), torch.ones(1).double(), torch.ones(1).double(), present
    )
    return CloudFlow(Still(clean), blur, 10, solver), told, springs


def test_a_flow_to_one_cloud_is_that_cloud_with_the_blur():
    """log p is that of noise of the width of the blur about the cloud; draws are its draws."""
    clean = torch.randn(1, 3, 3, generator=stream(0), dtype=torch.float64)
    clean = clean - clean.mean(1, keepdim=True)
    flow, told, springs = known_flow(clean)
    noise = torch.randn(1, 3, 3, generator=stream(1), dtype=torch.float64)
    near = clean + 0.1 * springs.draw(noise)
    scaled = springs.log_prob((near - clean) / 0.1) - 6 * math.log(0.1)
    assert torch.allclose(flow.log_prob(near, told, springs), scaled, atol=1e-3)
    assert torch.allclose(flow.draw(told, springs, noise), near, atol=1e-9)


def test_a_step_is_exact_where_the_endpoint_is_linear_in_the_root_of_the_noise():
    """By quadrature of x_s' = s'/s x_s + s'/(1 - b) int D / u^2 du."""
    flow = known_flow(torch.zeros(1, 3, 3))[0]
    start, slope, x = torch.randn(3, 1, 3, 3, generator=stream(2), dtype=torch.float64)
    level, then = 0.4, 0.15

    def endpoint(share):
        return start + slope * math.sqrt(share)

    edges = torch.linspace(then, level, 20_001, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    mass = edges.diff() / middle**2
    whole = start * mass.sum() + slope * (mass * middle.sqrt()).sum()
    exact = then / level * x + then / (1 - flow.blur) * whole
    for one, other in ((0.4, 0.9), (0.15, 0.4)):  # a step ahead, and its correction
        known = ((one, endpoint(one)), (other, endpoint(other)))
        assert torch.allclose(flow._moved(x, level, then, *known), exact, atol=1e-6)
    still = then / level * x + (1 - then / level) / (1 - flow.blur) * start
    assert torch.allclose(flow._moved(x, level, then, (0.4, start), None), still)


def test_corrected_steps_come_nearer_to_many_steps_than_extrapolated_ones(fitted):
    density, _, told = fitted
    flow = density.flow
    lengths = {}
    for sampler, steps in (("corrected", 200), ("corrected", 10), ("extrapolated", 10)):
        flow.steps = steps
        flow.sampler = sampler
        drawn = density.sample(64, told.take(torch.zeros(64).long()), generator=stream(5))
        lengths[sampler, steps] = (drawn.value[:, 0, -3:] - drawn.value[:, 1, -3:]).norm(dim=1)
    flow.steps = 10
    flow.sampler = "corrected"
    fine = lengths["corrected", 200]
    near, far = ((lengths[each, 10] - fine).abs().mean() for each in ("corrected", "extrapolated"))
    assert near < far


def test_settings_of_earlier_versions_mean_the_sampler_of_theirs():
    assert PointsFlow.implied == PointsFlow.unwritten == {"sampler": "extrapolated"}
    with pytest.raises(ValueError, match="sampler must be one of corrected, extrapolated, got 'x'"):
        PointsFlow(sampler="x")


def test_more_steps_of_the_solver_change_nothing_once_there_are_enough(fitted):
    density, event, told = fitted
    coarse = density.log_prob(event, told)
    density.flow.solver = 2 * PointsFlow().solver
    fine = density.log_prob(event, told)
    density.flow.solver = PointsFlow().solver
    assert (coarse - fine).abs().max() < 0.05


def test_log_p_and_draws_are_declared_to_have_the_error_of_a_solver(fitted):
    """As it has: fewer steps are another number, which lies to no one side."""
    density, event, told = fitted
    fine = density.log_prob(event, told)
    density.flow.solver = 4
    off = density.log_prob(event, told) - fine
    density.flow.solver = PointsFlow().solver
    assert off.abs().max() > 1e-3
    assert density.status_of(event) is Status.APPROXIMATE
    assert density.status_of_draws is Status.APPROXIMATE


def test_levels_of_noise_go_from_all_to_the_blur():
    levels = levels_of_noise(10, 0.003)
    assert levels[0] == 1.0
    assert levels[-1] == pytest.approx(0.003)
    assert levels == sorted(levels, reverse=True)


def test_a_cloud_is_turned_and_mirrored_onto_its_noise():
    x = torch.randn(1, 5, 3, generator=stream(0), dtype=torch.float64)
    matrix = turn(stream(1), mirrored=True)
    assert torch.allclose(turned(x @ matrix, x), x, atol=1e-10)


# ------------------------------------------------------------------------------------- the density


def test_three_points_of_a_line_sum_to_one_whatever_their_codes():
    """By brute force: a plane of free directions, both codes of each point, every count."""
    block = Block(
        "cloud",
        "points",
        (3, 2),
        (Variable("kind", "category", 2), Variable("x", "real")),
        centred=True,
    )
    noise = stream(0, "line")
    value = torch.zeros(24, 3, 2, dtype=torch.float64)
    value[..., 0] = (torch.rand(24, 3, generator=noise) < 0.4).double()
    value[..., 1] = torch.randn(24, 3, generator=noise, dtype=torch.float64)
    there = torch.arange(3) < torch.randint(1, 4, (24, 1), generator=noise)
    cells = torch.ones_like(value, dtype=torch.bool)
    event = block.check(Event(value * there[..., None], cells, there))
    density = PointsFlowDensity.build(block, PointsFlow(**SMOOTH), event, stream(0))
    optimiser = torch.optim.Adam(density.parameters(), lr=1e-2)
    for step in range(30):
        optimiser.zero_grad()
        density.loss(event, generator=stream(step)).backward()
        optimiser.step()
    step = 0.3
    grid = torch.arange(-6, 6.01, step, dtype=torch.float64)
    basis = torch.linalg.qr(torch.eye(3).double()[:, :2] - 1 / 3)[0]
    plane = torch.cartesian_prod(grid, grid) @ basis.T
    line = torch.stack([grid, -grid, 0 * grid], 1) / 2**0.5
    total = 0.0
    for count, places in ((0, torch.zeros(1, 3)), (1, torch.zeros(1, 3)), (2, line), (3, plane)):
        for kinds in itertools.product((0.0, 1.0), repeat=count):
            rows = torch.zeros(len(places), 3, 2, dtype=torch.float64)
            rows[:, :count, 0] = torch.tensor(kinds, dtype=torch.float64)
            rows[..., 1] = places
            told = (torch.arange(3) < count).expand(len(places), 3)
            seen = Event(rows, torch.ones_like(rows, dtype=torch.bool), told)
            weight = step ** max(count - 1, 0)
            total += float(density.log_prob(seen).exp().sum()) * weight
    assert total == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_log_p_is_the_same_of_a_molecule_turned_mirrored_and_moved(fitted, mirrored):
    density, event, told = fitted
    other = moved(event, turn(stream(3), mirrored), 4.0)
    assert torch.allclose(density.log_prob(event, told), density.log_prob(other, told), atol=1e-5)


def test_log_p_is_the_same_in_another_order_of_the_atoms(fitted):
    density, event, told = fitted
    order = torch.tensor([3, 1, 0, 2])
    rows = torch.arange(event.rows) % 2 == 1  # peroxides
    part = event.take(rows)
    codes = told["graph"].value[rows]
    shuffled = codes[:, :, order][:, :, :, order]
    other = part.map(lambda each: each[:, order])
    found = density.log_prob(other, Record(graph=Event(shuffled)))
    assert torch.allclose(found, density.log_prob(part, told.take(rows)), atol=1e-5)


def test_given_a_graph_its_atoms_are_certain_and_others_impossible(fitted):
    density, event, told = fitted
    assert torch.isfinite(density.log_prob(event, told)).all()
    swapped = told.take(torch.arange(event.rows) ^ 1)
    assert density.log_prob(event, swapped).isneginf().all()
    more = MolecularGraph.of(["O", "H", "H", "H"], [(0, 1, 1), (0, 2, 1)], symbols=SYMBOLS)
    water = event.take(slice(0, 1))
    alone = density.log_prob(water, told_of([more]))
    assert alone.isneginf().all()  # also where rows are as narrow as the molecule
    drawn = density.sample(event.rows, told, generator=stream(0))
    assert torch.equal(drawn.value[..., 0], event.value[..., 0])
    assert torch.equal(drawn.known, event.known)


def test_without_a_graph_the_same_network_draws_molecules_of_the_counts_of_the_fit(fitted):
    density, event, _ = fitted
    drawn = density.sample(40, generator=stream(0))
    seen = {tuple(sorted(row.tolist())) for row in event.value[..., 0]}
    share = sum(tuple(sorted(row.tolist())) in seen for row in drawn.value[..., 0]) / 40
    assert share > 0.7
    assert torch.isfinite(density.log_prob(drawn)).all()


def test_a_mixed_batch_answers_as_its_rows_alone(fitted):
    density, event, told = fitted
    known = torch.arange(event.rows)[:, None, None, None] % 3 > 0
    mixed = Record(graph=told["graph"].hide(~known))
    whole = density.log_prob(event, mixed)
    for row in range(4):
        one = slice(row, row + 1)
        alone = density.log_prob(event.take(one), mixed.take(one))
        assert torch.allclose(alone, whole[one], atol=1e-8)
    free = density.log_prob(event.take(slice(0, 1)))
    assert torch.allclose(free, whole[:1], atol=1e-8)


def test_a_graph_that_is_known_in_part_is_refused(fitted):
    density, event, told = fitted
    cells = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    cells[..., 0, 1] = True
    with pytest.raises(CapabilityError, match="part of a graph"):
        density.log_prob(event, Record(graph=told["graph"].hide(cells)))


def test_bonds_come_out_as_long_as_they_are_after_some_steps(fitted):
    density, event, told = fitted

    def bonds(event):
        apart = event.value[:, 0, 1:] - event.value[:, 1, 1:]
        return apart.norm(dim=1)

    drawn = density.sample(event.rows, told, generator=stream(0))
    assert (bonds(drawn) - bonds(event)).abs().mean() < 0.35


@pytest.mark.parametrize("noise", [0.5, 50.0])
def test_an_edit_keeps_the_atoms_that_it_is_told_to_keep(fitted, noise):
    density, event, told = fitted
    where = torch.zeros(event.value.shape, dtype=torch.bool)
    where[:, 2] = True
    how = Edit(noise, torch.ones(event.rows), where, generator=stream(0))
    out = density.edit(event, told, how=how)

    def apart(event, one, other):
        return (event.value[:, one, 1:] - event.value[:, other, 1:]).norm(dim=1)

    assert torch.allclose(apart(out, 0, 1), apart(event, 0, 1), atol=1e-6)
    assert (apart(out, 0, 2) - apart(event, 0, 2)).abs().max() > 1e-3
    assert torch.equal(out.value[..., 0], event.value[..., 0])
    none = density.edit(event, told, how=how._replace(noise=0.0))
    assert torch.allclose(none.value, event.value, atol=1e-12)
    with pytest.raises(CapabilityError, match="exaggerates"):
        density.edit(event, told, how=how._replace(strength=how.strength * 3))


def test_a_loaded_flow_answers_to_the_bit(fitted):
    density, event, told = fitted
    other = again(density)
    other.load_state_dict(density.state_dict())
    assert torch.equal(other.log_prob(event, told), density.log_prob(event, told))
    drawn = [
        each.sample(4, told.take(slice(0, 4)), generator=stream(0)) for each in (density, other)
    ]
    assert torch.equal(drawn[0].value, drawn[1].value)


def test_the_plain_body_gives_a_density_too():
    event, told = clouds()
    config = PointsFlow(**SMALL, body="plain", prior="gaussian", align=False)
    density = PointsFlowDensity.build(
        CLOUD, config, event, stream(0), context=told, context_space=GRAPHS
    )
    density.loss(event, told, generator=stream(0)).backward()
    assert torch.isfinite(density.log_prob(event, told)).all()
    drawn = density.sample(event.rows, told, generator=stream(0))
    assert torch.isfinite(drawn.value).all()


def test_spaces_and_settings_that_make_no_sense_are_refused():
    loose = Block("cloud", "points", (2, 3), AXES)
    with pytest.raises(ValueError, match="up to a translation"):
        PointsFlowDensity(loose, PointsFlow(**SMALL))
    codes = tuple(Variable(f"code {place}", "category", 30) for place in range(3))
    wide = Block("cloud", "points", (2, 6), (*codes, *AXES), centred=True)
    with pytest.raises(ValueError, match="tell bonds as a graph"):
        PointsFlowDensity(wide, PointsFlow(**SMALL))
    other = Block("cloud", "points", (4, 4), (Variable("kind", "category", 3), *AXES), True)
    with pytest.raises(ValueError, match="one code of 11 levels"):
        PointsFlowDensity(other, PointsFlow(**SMALL), context_space=GRAPHS)
    for name, value in (("body", "round"), ("prior", "flat"), ("blur", 1.5)):
        with pytest.raises(ValueError, match=name):
            PointsFlow(**{name: value})
    with pytest.raises(ValueError, match="multiple of heads"):
        PointsFlow(width=10, heads=4)


# ------------------------------------------------------------------------------------------ counts


def test_codes_sum_to_one_and_are_drawn_so():
    counts = torch.tensor([[2, 0], [1, 1], [1, 1], [0, 3], [0, 0]])
    table = PointCounts.table(counts)
    model = PointCounts(3, 2, 0, table).start(counts, torch.ones(5).double())
    told = torch.zeros(1, 0).double()
    log_p = {}
    for size in range(4):
        for codes in itertools.product((0, 1), repeat=size):
            code = torch.tensor([[*codes, *(0,) * (3 - size)]])
            present = torch.arange(3)[None] < size
            log_p[codes] = float(model.log_prob(code, present, told))
    assert sum(math.exp(each) for each in log_p.values()) == pytest.approx(1.0)
    assert log_p[0, 1] == pytest.approx(log_p[1, 0])
    code, present = model.draw(told.expand(6000, -1), stream(0))
    for codes, each in log_p.items():
        own = torch.tensor([*codes, *(0,) * (3 - len(codes))])
        same = (code == own).all(1) & (present.sum(1) == len(codes))
        assert float(same.double().mean()) == pytest.approx(math.exp(each), abs=0.025)


# ------------------------------------------------------------------------- what is read of a cloud


@pytest.mark.parametrize("mirrored", [False, True])
def test_numbers_read_of_a_cloud_do_not_turn_with_it(fitted, mirrored):
    density, event, told = fitted
    torch.manual_seed(0)
    reader = CloudReader(density.flow.net, 2)

    def read(event):
        rows = density._rows_of(event, told)
        noise = torch.full((event.rows,), density.config.blur, dtype=torch.float64)
        return reader(rows.x, *density._inputs(rows), rows.told, rows.present, noise)

    found = read(event)
    assert found.shape == (event.rows, 2)
    assert torch.allclose(read(moved(event, turn(stream(3), mirrored), 4.0)), found, atol=1e-8)
    squeezed = event._replace(value=event.value * torch.tensor([1.0, 0.8, 0.8, 0.8]))
    assert not torch.allclose(read(CLOUD.check(squeezed)), found, atol=1e-4)


@pytest.mark.parametrize("settings", [{"solver": 0}, {"sampling_steps": 0}, {"repeats": 0}])
def test_counts_of_steps_are_whole_and_at_least_one(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be a whole number from 1"):
        PointsFlow(**settings)

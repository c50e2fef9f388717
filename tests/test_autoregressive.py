"""Autoregressive families: what each output may see, sums over small spaces, steps and caches,
orders and scans, planted structure.
"""

import itertools
import math

import pytest
import torch

from conjoin.core import Event, Space, Variable, stream
from conjoin.families.autoregressive.causal import SHIFTS, Causal, cells_before, scans_of
from conjoin.families.autoregressive.masked import Masked, orders_of
from conjoin.nets.causal import CausalNet
from conjoin.nets.heads import Heads
from conjoin.nets.masked import MaskedNet
from conjoin.testing.spaces import CLASSES
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

CODES = Space(
    (3,),
    tuple(
        Variable(name, "category", cardinality=levels)
        for name, levels in (("a", 2), ("b", 3), ("c", 2))
    ),
)
EVERY = torch.tensor(list(itertools.product(range(2), range(3), range(2)))).double()
IMAGE = Space(
    (12,),
    tuple(Variable(f"pixel {i}", "ordered", cardinality=3) for i in range(12)),
    "image",
    (1, 3, 4),
)
CONFIGS = [Masked(orders=3), Causal(scans=1), Causal(scans=2)]


def label(config):
    return (
        f"{type(config).__name__} {config.orders if isinstance(config, Masked) else config.scans}"
    )


def shaken(network, noise=0):
    """Weights away from zero, so that outputs depend on all that they may see."""
    generator = stream(noise, "shake")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(
                    0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
    return network.eval().requires_grad_(False)


def built(config, space=CODES, rows=None, classes=False):
    """A density with random weights."""
    generator = stream(1, "rows")
    levels = torch.tensor([variable.cardinality for variable in space.variables])
    if rows is None:
        rows = (
            torch.rand(40, len(levels), generator=generator, dtype=torch.float64) * levels
        ).floor()
    more = (
        {"context": Event((rows[:, 0] > 0).double()), "context_space": CLASSES} if classes else {}
    )
    return shaken(config.density.build(space, config, Event(rows), stream(0), **more))


def sees(function, inputs):
    """(K, T, I) whether output t of order k moves with input i, by differences."""
    base = function(inputs)
    moved = []
    for i in range(inputs.shape[1]):
        nudged = inputs.clone()
        nudged[:, i] += 1.0
        moved.append((function(nudged) - base).abs().amax((-1, 1)) > 1e-12)
    return torch.stack(moved, -1)


# ------------------------------------------------------------------------------------ who sees whom


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_masked_output_sees_exactly_what_comes_before_it(size):
    orders = torch.stack([torch.randperm(size, generator=stream(k)) for k in range(3)])
    rank = orders.argsort(1)
    owner = torch.cat([torch.tensor([-1]), torch.arange(size).repeat_interleave(2)])
    net = shaken(MaskedNet(owner, rank, 4, 16))
    seen = sees(net, torch.randn(7, 1 + 2 * size, generator=stream(3), dtype=torch.float64))
    before = rank[:, owner[1:]][:, None] < rank[:, :, None]
    assert torch.equal(seen[:, :, 1:], before)
    assert bool(seen[:, :, 0].all()), "all outputs see the context"


def test_the_hidden_layers_alone_carry_what_is_seen():
    """Without the direct map from inputs to outputs the masks of the hidden layers show: neither
    too much nor too little."""
    rank = torch.tensor([[2, 0, 1, 3]])
    owner = torch.arange(4)
    net = shaken(MaskedNet(owner, rank, 2, 16))
    with torch.no_grad():
        net.direct.weight.zero_()
    seen = sees(net, torch.randn(7, 4, generator=stream(3), dtype=torch.float64))
    assert torch.equal(seen[0], rank[0][None] < rank[0][:, None])


def test_one_column_of_one_order_is_that_part_of_the_whole():
    net = shaken(MaskedNet(torch.arange(4), torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2]]), 2, 16))
    x = torch.randn(5, 4, generator=stream(3), dtype=torch.float64)
    whole = net(x)
    for k, d in itertools.product(range(2), range(4)):
        assert torch.allclose(net.column(x, k, d), whole[k, :, d])
    assert net.features(x).shape == (5, 4 + 32)


@pytest.mark.parametrize("shared", [True, False])
def test_a_causal_output_sees_exactly_what_comes_before_it(shared):
    net = shaken(CausalNet(torch.arange(5)[:, None] - 1, 2, 3, 1, 16, 2, 0.1, shared))
    cells = torch.randn(4, 5, 2, generator=stream(3), dtype=torch.float64)
    context = torch.zeros(4, 1).double()
    base = net(cells, context)
    for place in range(5):
        nudged = cells.clone()
        nudged[:, place] += 1.0
        moved = (net(nudged, context) - base).abs().amax((0, 2)) > 1e-12
        assert moved.tolist() == [t > place for t in range(5)]
    assert bool(((net(cells, context + 1) - base).abs() > 1e-9).all()), (
        "all outputs see the context"
    )


@pytest.mark.parametrize("shared", [True, False])
def test_steps_with_a_cache_give_what_one_pass_gives(shared):
    net = shaken(CausalNet(cells_before(IMAGE, 0), 2, 3, 1, 16, 2, 0.1, shared))
    cells = torch.randn(4, 12, 2, generator=stream(3), dtype=torch.float64)
    context = torch.ones(4, 1).double()
    whole = net(cells, context)
    cache = None
    for place in range(12):
        out, cache = net.step(
            torch.where(torch.arange(12)[:, None] < place, cells, 0.0), context, cache
        )
        assert torch.allclose(out, whole[:, place], atol=1e-12)


def test_a_token_that_would_look_ahead_is_refused():
    with pytest.raises(AssertionError, match="look back"):
        CausalNet(torch.arange(5)[:, None], 2, 3, 0, 16, 1, 0.0, True)


# ------------------------------------------------------------------------------------ probabilities


@pytest.mark.parametrize("config", CONFIGS, ids=label)
@pytest.mark.parametrize("classes", [False, True])
def test_probabilities_sum_to_one_whatever_the_weights(config, classes):
    density = built(config, classes=classes)
    contexts = (
        [Event(torch.full((len(EVERY),), float(k)).double()) for k in range(2)]
        if classes
        else [None]
    )
    tables = [density.log_prob(Event(EVERY), context).exp() for context in contexts]
    assert all(abs(float(table.sum()) - 1) < 1e-9 for table in tables)
    assert all(float((table - tables[0]).abs().max()) > 1e-3 for table in tables[1:]), (
        "the class changes nothing"
    )


@pytest.mark.parametrize("config", CONFIGS, ids=label)
def test_draws_follow_the_probabilities(config):
    density = built(config)
    draws = density.sample(3000, generator=stream(2)).value
    index = (draws @ torch.tensor([6.0, 2.0, 1.0]).double()).long()
    share = torch.bincount(index, minlength=12) / len(draws)
    expected = density.log_prob(Event(EVERY)).exp()
    assert bool(((share - expected).abs() < 5 * (expected / len(draws)).sqrt() + 1e-3).all())


@pytest.mark.parametrize("config", [Masked(orders=3), Causal(scans=2)], ids=label)
def test_a_mixture_is_the_mean_of_its_parts_and_each_part_a_probability(config):
    density = built(config)
    whole = density.log_prob(Event(EVERY)).exp()
    if isinstance(config, Masked):
        each = density._each(EVERY, torch.ones_like(EVERY, dtype=torch.bool), None).exp()
    else:
        each = density._each(
            EVERY, torch.ones_like(EVERY, dtype=torch.bool), density._told(len(EVERY), None)
        ).exp()
    assert torch.allclose(each.sum(0), torch.ones(each.shape[1]).double())
    assert torch.allclose(each.mean(1), whole)
    assert float((each[:, 0] - each[:, 1]).abs().max()) > 1e-3


@pytest.mark.parametrize("config", [Masked(orders=2), Causal(scans=2)], ids=label)
def test_each_part_is_a_product_along_its_own_order(config):
    """p(first variable) of a part is what its network says with nothing before it: the same in all
    rows with that value."""
    order = [1, 2, 0]  # not its own inverse: an order and the ranks in it are different lists
    structure = built(config).structure | {
        "orders": [[0, 1, 2], order],
        "scans": [[0, 1, 2], order],
    }
    density = shaken(type(built(config))(CODES, config, structure))
    if isinstance(config, Masked):
        each = density._each(EVERY, torch.ones_like(EVERY, dtype=torch.bool), None).exp()[:, -1]
        params = density.net.column(
            density._seen(EVERY[:1], torch.zeros(1, 3, dtype=torch.bool), None),
            len(density.orders) - 1,
            order[0],
        )
    else:
        told = density._told(1, None)
        each = density._each(
            EVERY, torch.ones_like(EVERY, dtype=torch.bool), density._told(len(EVERY), None)
        ).exp()[:, -1]
        params = density.nets[-1].step(
            density._cells(EVERY[:1], torch.zeros(1, 3, dtype=torch.bool))[:, order], told
        )[0]
    levels = density.heads.log_levels_of(order[0], params)[0].exp()
    for level in range(CODES.variables[order[0]].cardinality):
        assert math.isclose(
            float(each[EVERY[:, order[0]] == level].sum()), float(levels[level]), rel_tol=1e-9
        )


def test_a_step_gives_the_enumerated_probabilities_of_the_next_level():
    density = built(Causal(scans=1))
    table = density.log_prob(Event(EVERY)).exp()
    state = None
    row = torch.tensor([1.0, 2.0, 0.0]).double()
    for d in (1, 2):
        state, log_next = density.step(state, row[None, d - 1])
        agree = (EVERY[:, :d] == row[:d]).all(1)
        mass = torch.zeros(3).double().index_add(0, EVERY[agree, d].long(), table[agree])
        assert torch.allclose(log_next[0].exp(), mass / mass.sum())


def test_the_steps_through_an_image_multiply_to_its_probability():
    density = built(Causal(scans=1), IMAGE)
    rows = (torch.rand(3, 12, generator=stream(4), dtype=torch.float64) * 3).floor()
    nothing = density._cells(torch.zeros(3, 12).double(), torch.zeros(3, 12, dtype=torch.bool))
    log_next = density.heads.log_levels_of(
        0, density.nets[0].step(nothing, density._told(3, None))[0]
    )
    state = None
    total = torch.zeros(3).double()
    for d in range(12):
        total += log_next.gather(1, rows[:, d : d + 1].long())[:, 0]
        if d < 11:
            state, log_next = density.step(state, rows[:, d])
    assert torch.allclose(total, density.log_prob(Event(rows)))


def test_only_codes_in_one_scan_can_be_stepped():
    assert built(Causal(scans=1)).capabilities.step
    assert not built(Causal(scans=2)).capabilities.step
    number = Space((2,), (Variable("a", "category", cardinality=2), Variable("x", "real")))
    rows = torch.tensor([[0.0, 0.1], [1.0, 0.7], [0.0, -0.4]]).double()
    assert (
        not Causal(scans=1)
        .density.build(number, Causal(scans=1), Event(rows), stream(0))
        .capabilities.step
    )


@pytest.mark.parametrize("config", [Masked(orders=2), Causal(scans=1)], ids=label)
def test_features_see_what_is_known_and_nothing_else(config):
    density = built(config)
    known = torch.tensor([True, False, True]).expand(4, -1)
    rows = EVERY[:4].clone()
    other = EVERY[:4].clone()
    other[:, 1] = 2 - other[:, 1]
    first, second = (density.features(Event(value, known)) for value in (rows, other))
    assert torch.equal(first, second)
    assert bool((density.features(Event(rows)) != density.features(Event(other))).any())
    zero = torch.where(known, rows, 0.0)
    assert bool((density.features(Event(zero)) != density.features(Event(zero, known))).any()), (
        "missing is not zero"
    )


# ---------------------------------------------------------------------------- orders, scans, images


@pytest.mark.parametrize(("size", "many", "found"), [(1, 4, 1), (2, 4, 2), (3, 3, 3), (6, 5, 5)])
def test_orders_are_different_permutations(size, many, found):
    orders = orders_of(size, many)
    assert len(orders) == found == len({tuple(order) for order in orders})
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert orders[0] == list(range(size))


def test_scans_of_an_image_go_along_rows_and_columns():
    rows, columns, back, up = scans_of(IMAGE, 4)
    assert rows == list(range(12))
    assert columns == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert back == rows[::-1]
    assert up == columns[::-1]


@pytest.mark.parametrize("scan", range(4))
def test_a_token_is_made_of_neighbours_in_the_image(scan):
    order = scans_of(IMAGE, 4)[scan]
    before = cells_before(IMAGE, scan)
    for place, cells in enumerate(before.tolist()):
        here = divmod(order[place], 4)
        found = {divmod(order[cell], 4) for cell in cells if cell >= 0}
        assert all(cell < place for cell in cells)
        assert all(max(abs(here[0] - y), abs(here[1] - x)) == 1 for y, x in found)
        earlier = {divmod(pixel, 4) for pixel in order[:place]}
        near = {(y, x) for y, x in earlier if max(abs(here[0] - y), abs(here[1] - x)) == 1}
        assert found == near


def test_a_shift_moves_the_image_and_repeats_its_edge():
    density = built(Causal(), IMAGE)
    image = torch.arange(12.0).double()
    moved = density._shifted(image.expand(len(SHIFTS), -1), torch.arange(len(SHIFTS))).reshape(
        -1, 3, 4
    )
    assert torch.equal(moved[0], image.reshape(3, 4))
    down_left = SHIFTS.index((1, -1))
    assert moved[down_left].tolist() == [[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]]


def test_answers_are_for_images_that_are_not_shifted():
    """Training moves images only when it trains, and tells the network so; every other answer is
    told the shift of zero."""
    density = built(Causal(shift=1.0), IMAGE)
    rows = (torch.rand(5, 12, generator=stream(4), dtype=torch.float64) * 3).floor()
    assert torch.allclose(
        density.loss(Event(rows), generator=stream(0)), -density.log_prob(Event(rows)).mean()
    )
    assert torch.equal(density._told(5, None), density.shift[0].expand(5, -1))
    assert torch.equal(density._told(5, None, torch.arange(5)), density.shift[:5])
    density.train()
    assert not torch.allclose(
        density.loss(Event(rows), generator=stream(0)), -density.log_prob(Event(rows)).mean()
    )


def test_the_levels_of_an_image_are_also_numbers():
    density = built(Causal(), IMAGE)
    cells = density._cells(
        torch.tensor([[0.0, 1.0, 2.0] * 4]).double(), torch.ones(1, 12, dtype=torch.bool)
    )
    assert cells[0, :3, -1].tolist() == [0.0, 0.5, 1.0]
    assert cells.shape == (1, 12, 5)  # three levels, a flag, the number


# ----------------------------------------------------------------------------------------- training


def test_some_rows_are_trained_with_cells_hidden():
    density = built(Masked(hide=0.4))
    shown = density._shown(torch.zeros(4000, 3).double(), stream(0))
    whole = float(shown.all(1).double().mean())
    # of a uniform share of hidden cells one row in D + 1 keeps all
    assert abs(whole - (0.6 + 0.4 / 4)) < 0.03
    assert abs(float(shown.double().mean()) - 0.8) < 0.02
    assert bool(built(Masked(hide=0.0))._shown(torch.zeros(50, 3).double(), stream(0)).all())


def test_the_loss_in_training_is_the_mean_over_orders_of_their_own():
    density = built(Masked(orders=3, dropout=0.0))
    each = density._each(EVERY, torch.ones_like(EVERY, dtype=torch.bool), None)
    assert torch.allclose(density.loss(Event(EVERY)), -density.log_prob(Event(EVERY)).mean())
    density.train()
    assert torch.allclose(density.loss(Event(EVERY)), -each.mean())


@pytest.mark.parametrize(
    "config",
    [Masked(steps=120, rate=1e-2, dropout=0.1), Causal(steps=120, rate=1e-2, scans=1, dropout=0.1)],
    ids=label,
)
def test_a_fit_finds_an_exclusive_or(config):
    """No two columns of c = a xor b are dependent: a tree or a linear map sees nothing. All of log
    4 nats are within reach."""
    space = Space((3,), tuple(Variable(name, "category", cardinality=2) for name in "abc"))
    rows = Event(
        torch.tensor(
            [[a, b, (a + b) % 2] for a, b in itertools.product(range(2), repeat=2)]
        ).double()
    )
    weight = torch.full((4,), 50.0).double()
    density = config.density.build(space, config, rows, stream(0), weight=weight)
    train(density, rows, weight, None, Plan(), Progress())
    log_prob = density.log_prob(rows).detach()
    assert bool((log_prob > -math.log(4) - 0.3).all()), log_prob


def test_every_order_is_another_and_all_are_found():
    for size, many, found in ((1, 4, 1), (2, 4, 2), (3, 6, 6), (3, 9, 6), (20, 5, 5)):
        orders = orders_of(size, many)
        assert len({tuple(order) for order in orders}) == len(orders) == found


def test_a_number_beside_an_image_is_no_pixel():
    """The grid is that of x alone: y comes before the pixels."""
    from conjoin.core import Pair
    from conjoin.joints.build import build_joint

    x = Event((torch.rand(30, 4, generator=stream(0)) * 3).floor().double())
    pixels = Space(
        (4,),
        tuple(Variable(f"p{d}", "ordered", cardinality=3) for d in range(4)),
        "image",
        (1, 2, 2),
    )
    joint = build_joint(
        Causal(),
        Space((), (Variable("y", "real"),)),
        pixels,
        Pair(Event(x.value.sum(1)), x),
        stream(0),
    )
    assert bool(joint.log_prob(Pair(Event(x.value.sum(1)), x)).isfinite().all())


@torch.no_grad()
def test_cells_of_a_number_sum_to_one_wherever_its_components_lie():
    """The first cell and the last have all that lies beyond them."""
    number = Variable("n", "integer", resolution=1.0, bounds=(0.0, 4.0))
    heads = Heads([number])
    params = 3 * torch.randn(20, 1, heads.width, generator=stream(0), dtype=torch.float64)
    cells = torch.arange(5.0).double()[:, None, None].expand(5, 20, 1)
    known = torch.ones(20, 1, dtype=torch.bool)
    mass = torch.stack([heads.log_prob(params, cell, known)[:, 0] for cell in cells])
    assert torch.allclose(mass.exp().sum(0), torch.ones(20).double(), atol=1e-10)

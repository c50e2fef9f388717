"""The chain of forests: trees walked as scikit-learn walks them, priors of nodes by hand, the basis
of numbers, steps of groups, gaps, sums over small spaces, planted structure.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.tree import ExtraTreeClassifier

import conjoin
from conjoin import JointDensity, JointRegressor
from conjoin.components.decision_trees import descend, inner_layers, node_columns, roots_of
from conjoin.components.leaves import LeafLayer
from conjoin.components.multinomial import Indicators, _edges, _slots, fitted, pool_powers
from conjoin.components.number_basis import MAX_CLASSES, Basis
from conjoin.components.number_steps import StepLayer, Steps
from conjoin.core import Event, Space, Status, Variable, stream
from conjoin.core.sampling import even_points, spread_evenly
from conjoin.families.autoregressive.forest import (
    FOLDS,
    KINDS,
    STRENGTHS_ROWS,
    Conditional,
    ForestChain,
    ForestChainDensity,
    _is_beginning,
    _mixed,
)
from conjoin.testing.spaces import CLASSES

CODES = Space(
    (3,),
    tuple(
        Variable(name, "category", cardinality=levels)
        for name, levels in (("a", 2), ("b", 3), ("c", 2))
    ),
)
EVERY = torch.tensor(list(itertools.product(range(2), range(3), range(2)))).double()
SMALL = ForestChain(trees=6, min_rows=1, groups=8, draws=4)


def rows_of(count=200, seed=0):
    """b is anything, a is a coin, c tells whether a and b are both odd or both even, nine times in
    ten."""
    noise = np.random.default_rng(seed)
    a = noise.integers(0, 2, count)
    b = noise.integers(0, 3, count)
    c = np.where(noise.random(count) < 0.9, (a + b) % 2, noise.integers(0, 2, count))
    return torch.tensor(np.stack([a, b, c], 1)).double()


def built(rows=None, config=SMALL, mask=None, space=CODES, **context):
    rows = rows_of() if rows is None else rows
    return ForestChainDensity.build(space, config, Event(rows, mask), stream(0), **context)


def weights_of(density, rows, mask=None):
    """What the last column's states weigh."""
    mask = torch.ones_like(rows, dtype=torch.bool) if mask is None else mask
    told = density._told(rows, mask, None).before(2)
    return density.columns[2].log_weights(told).exp().detach()


def density_of_codes():
    return built()


@pytest.fixture(scope="module")
def codes():
    return density_of_codes()


# ------------------------------------------------------------------------------------------- trees


def trees_of(count=3, rows=80):
    noise = np.random.default_rng(1)
    table = noise.normal(size=(rows, 3)).astype(np.float32)
    y = (table[:, 0] + table[:, 1] > 0).astype(int) + (table[:, 2] > 1)
    fits = [ExtraTreeClassifier(random_state=seed).fit(table, y) for seed in range(count)]
    return [fit.tree_ for fit in fits], table


def numbered():
    trees, table = trees_of()
    parts = [node_columns(tree, start) for tree, start in zip(trees, roots_of(trees), strict=True)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    tensors = {name: torch.as_tensor(column) for name, column in columns.items()}
    return trees, table, tensors, torch.as_tensor(roots_of(trees))


def test_rows_arrive_where_scikit_learn_says():
    trees, table, tensors, root = numbered()
    found = descend(torch.as_tensor(table), **tensors, root=root)
    own = np.stack(
        [tree.apply(table) + start for tree, start in zip(trees, root.tolist(), strict=True)], 1
    )
    assert (found.numpy() == own).all()
    assert descend(torch.zeros(0, 3), **tensors, root=root).shape == (0, 3)


def test_inner_layers_hold_every_node_that_has_children_once():
    trees, _, tensors, root = numbered()
    layers = torch.cat(inner_layers(tensors["right"], root))
    inner = np.concatenate([tree.children_left >= 0 for tree in trees])
    assert sorted(layers.tolist()) == np.flatnonzero(inner).tolist()


def stump():
    """One split at 0.5 of one feature; 3 of state 0 on the left, 1 of each on the right."""
    out = Conditional(Variable("a", "category", cardinality=2), 3, 1, 2)
    out.threshold[0] = 0.5
    out.right.copy_(torch.tensor([2, 1, 2]))
    counts = torch.tensor([[0.0, 0.0], [3.0, 0.0], [1.0, 1.0]]).double()
    out.set_marginal(counts.sum(0))
    return out, counts


def test_a_node_starts_with_rows_like_its_parent():
    conditional, counts = stump()
    marginal = np.array([4.5, 1.5]) / 6  # with one row of prior
    assert np.allclose(conditional.marginal.detach().softmax(0), marginal)
    root = (np.array([4, 1]) + 2 * marginal) / (5 + 2)
    left = (np.array([3, 0]) + 2 * root) / (3 + 2)
    right = (np.array([1, 1]) + 2 * root) / (2 + 2)
    layers = conditional.layers()
    totals = conditional.totals(counts, layers)
    assert totals.tolist() == [[4, 1], [3, 0], [1, 1]]
    found = conditional.shrunk(totals, 2.0, layers).detach().numpy()
    assert np.allclose(found, [root, left, right])


def test_leaves_are_the_blend_of_all_strengths():
    conditional, counts = stump()
    blend = torch.zeros(len(KINDS), len(STRENGTHS_ROWS)).double()
    blend[0, :2] = torch.tensor([0.25, 0.75])
    conditional.blend.copy_(blend)
    conditional.maximise(counts)
    layers = conditional.layers()
    totals = conditional.totals(counts, layers)
    each = [conditional.shrunk(totals, strength, layers) for strength in STRENGTHS_ROWS[:2]]
    expected = (0.25 * each[0] + 0.75 * each[1]).detach()
    assert torch.allclose(conditional.leaf.double(), expected, atol=1e-6)


def test_kinds_weigh_by_their_share(codes):
    """Leaves add up to one over the trees, however many there are of each kind."""
    row = torch.tensor([[0.0, 2.0, 0.0]]).double()
    assert torch.allclose(weights_of(codes, row).sum(1), torch.ones(1).double(), atol=1e-6)
    odd = built(config=ForestChain(trees=3, min_rows=1, draws=4))
    assert torch.allclose(weights_of(odd, row).sum(1), torch.ones(1).double(), atol=1e-6)
    leaves = odd.columns[2].leaf.sum(1)[odd.columns[2].root.long()]
    assert torch.allclose(leaves.mean(), torch.ones(()), atol=1e-6)


def test_the_pool_of_experts_takes_the_best():
    good = torch.full((50, 1), -0.1).double()
    log_p = torch.cat([good, good - 3], 1)
    assert _mixed(log_p, torch.ones(50).double())[0] > 0.95
    half = torch.tensor([[0.0, -9.0], [-9.0, 0.0]]).double().repeat(50, 1)
    assert torch.allclose(_mixed(half, torch.ones(100).double()), torch.tensor([0.5, 0.5]).double())
    heavy = torch.where(torch.arange(100) % 2 == 0, 9.0, 1.0).double()
    assert _mixed(half, heavy)[0] == pytest.approx(0.9, abs=0.01)


def test_noise_is_left_to_the_marginal():
    """What hangs on nothing gets the column's own shares, not those of small leaves."""
    noise = np.random.default_rng(5)
    rows = torch.tensor(noise.integers(0, 2, (300, 3))).double()
    density = built(rows)
    part = weights_of(density, EVERY)
    assert (part[:, 1] - rows[:, 2].mean()).abs().max() < 0.12
    for column in density.columns[1:]:
        weak_to_strong = column.blend.sum(0)
        assert weak_to_strong[-1] > 1.3 * weak_to_strong[0]


# ---------------------------------------------------------------------------------------- the basis


def test_few_values_are_classes_of_their_own():
    value = np.repeat(np.arange(float(MAX_CLASSES)), 3)
    basis = Basis.of(value, np.ones(len(value)), 1.0, 32)
    assert basis.mean[:-1].tolist() == list(range(MAX_CLASSES))
    assert (basis.deviation[:-1] < 0.1).all() and basis.deviation[-1] > 10


def test_values_that_recur_have_their_own_component():
    smooth = np.round(np.random.default_rng(0).normal(0, 50, 300))
    value = np.concatenate([smooth, np.full(90, 7.0)])
    basis = Basis.of(value, np.ones(len(value)), 1.0, 16)
    narrow = basis.mean[basis.deviation < 0.1]
    assert 7.0 in narrow.tolist() and len(narrow) < 12
    assert len(basis.mean) - len(narrow) == 17
    points = Basis.of(value, np.ones(len(value)), 0.0, 16)
    assert (points.deviation > 0.1).all(), "a point has no cell that it could fill"


def test_weights_are_rows_of_the_basis():
    value = np.round(np.random.default_rng(2).normal(0, 30, 80))
    weight = 1.0 + (np.arange(80) % 3 == 0)
    twice = np.repeat(value, weight.astype(int))
    one, other = (
        Basis.of(part, w, 1.0, 8) for part, w in ((value, weight), (twice, np.ones(len(twice))))
    )
    assert len(one.mean) == len(other.mean)
    assert np.allclose(one.mean, other.mean, atol=4.0)


def test_a_column_without_a_value_has_the_wide_component_alone():
    basis = Basis.of(np.zeros(0), np.zeros(0), 1.0, 8)
    assert basis.mean.tolist() == [0.0] and basis.deviation.tolist() == [3.0]


# --------------------------------------------------------------------------------------- the steps


def recorded(rows=900, seed=0):
    """Whole numbers from 0 on, of which 40 stands out."""
    rng = np.random.default_rng(seed)
    value = np.floor(rng.gamma(4.0, 8.0, rows))
    return np.where(rng.random(rows) < 0.2, 40.0, value)


def layer_of(value, groups=8, width=1.0):
    found = Steps.of(value, np.ones(len(value)), 0.0, width, groups)
    variable = Variable("n", "integer", resolution=width, bounds=(0.0, None))
    layer = StepLayer(variable, len(found.low), found.states)
    layer.start(found)
    return found, layer


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_every_value_between_the_ends_belongs_to_one_state(scale):
    value = np.floor(recorded() * scale + (np.arange(900) % 7) * (scale > 1))
    found, layer = layer_of(value)
    cell = torch.arange(float(value.max()) + 1)[:, None].double()
    log_p = layer.log_prob(cell, torch.ones_like(cell, dtype=torch.bool))[:, 0]
    low = int(value.min())
    assert (log_p[low:, :-1].isfinite().sum(1) == 1).all()
    assert torch.allclose(log_p[:, :-1].exp().sum(0), torch.ones(found.states - 1).double())
    assert (np.bincount(found.owner, found.mass) - 1 < 1e-9).all()


def test_steps_keep_the_shape_of_the_marginal():
    """The mass of each value is its share of the rows, up to a row of prior in each group; normal
    distributions gave some values half of it."""
    value = recorded(5000)
    found, layer = layer_of(value)
    state_of = torch.as_tensor(found.owner)
    cells, rows = np.unique(value, return_counts=True)
    cell = torch.tensor(cells)[:, None]
    log_p = layer.log_prob(cell, torch.ones_like(cell, dtype=torch.bool))[:, 0, :-1]
    own = log_p.argmax(1)
    total = torch.zeros(found.states - 1).double().index_add_(0, own, torch.tensor(rows).double())
    mass = total[own] * log_p.amax(1).exp()
    often = torch.tensor(rows >= 30)
    assert torch.allclose(mass[often], torch.tensor(rows).double()[often], rtol=0.05)
    assert len(state_of.unique()) == found.states - 1
    assert (own == own[cells == 40.0]).sum() == 1  # a state of its own


def test_draws_of_a_state_follow_its_steps_and_rise_with_their_point():
    value = recorded()
    found, layer = layer_of(value)
    state = found.owner.max()
    point = ((torch.arange(4000) + 0.5) / 4000).double()[:, None]
    drawn = layer.sample(torch.full((4000, 1), int(state)), stream(0), point=point)
    assert (drawn[1:] >= drawn[:-1]).all()
    cell = torch.arange(float(value.max()) + 1)[:, None].double()
    p = layer.log_prob(cell, torch.ones_like(cell, dtype=torch.bool))[:, 0, int(state)].exp()
    share = torch.bincount(drawn[:, 0].long(), minlength=len(p)).double() / 4000
    assert (share - p).abs().max() < 2 / 4000
    free = layer.sample(torch.full((500, 1), int(state)), stream(1))
    assert (p[free[:, 0].long()] > 0).all()


def test_models_of_before_have_normal_distributions():
    variable = Variable("n", "integer", resolution=1.0)
    before = Conditional(variable, 1, 1, 5, 0)
    assert isinstance(before.components, LeafLayer)
    assert before.shape == [1, 1, 5, 0, 0]
    after = Conditional(variable, 1, 1, 5, 0, 3)
    assert isinstance(after.components, StepLayer)


@pytest.mark.parametrize("name", ["low", "high", "owner"])
def test_steps_that_were_altered_are_found(name):
    layer = layer_of(recorded())[1]
    assert layer.sound
    getattr(layer, name)[3] = 1 << 40
    assert not layer.sound


# ------------------------------------------------------------------------------------- the density


@torch.no_grad()
def test_beginnings_are_exact(codes):
    """log p of first columns is the sum over the last ones, and says so."""
    log_p = codes.log_prob(Event(EVERY))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    for known in (1, 2):
        mask = (torch.arange(3) < known).expand_as(EVERY)
        event = Event(EVERY, mask)
        same = (EVERY[:, None, :known] == EVERY[None, :, :known]).all(2)
        target = torch.where(same, log_p, -torch.inf).logsumexp(1)
        assert torch.allclose(codes.log_prob(event), target, atol=1e-5)
        assert codes.status_of(event) is Status.EXACT
    others = Event(EVERY, (torch.arange(3) != 1).expand_as(EVERY))
    assert codes.status_of(others) is Status.LOWER_BOUND
    mixed = Event(EVERY, torch.stack([torch.arange(3) < 2, torch.arange(3) != 1] * 6))
    alone = [codes.log_prob(mixed.take(slice(row, row + 1))) for row in range(12)]
    assert torch.allclose(torch.cat(alone), codes.log_prob(mixed), atol=1e-9)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_number_y_is_summed_out_exactly_only_at_the_end_of_the_chain(reverse):
    noise = np.random.default_rng(0)
    y = noise.normal(size=300)
    frame = pd.DataFrame({"a": y + 0.3 * noise.normal(size=300), "b": (y > 0).astype(str)})
    family = ForestChain(trees=6, min_rows=5, groups=8, draws=16, reverse=reverse)
    model = JointRegressor(family=family, predictor=None, random_state=0).fit(frame, y).model_
    x = model.encode(frame.iloc[:20]).event
    own = model.pair.log_evidence(x)
    values = torch.linspace(-9, 9, 6001).double()
    whole = model.pair.log_joint(x, values).logsumexp(1) + np.log(18 / 6000)
    exact = bool(torch.allclose(own, whole, atol=1e-3))
    assert exact is reverse
    assert model.status["log_prob"] is (Status.EXACT if reverse else Status.LOWER_BOUND)
    assert model.status["predict_proba"] is Status.EXACT  # p(y, x) is, for every y


def test_a_beginning_has_no_hole():
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]]).bool()
    event = Event(torch.zeros(5, 3).double(), mask)
    assert _is_beginning(event).tolist() == [True, False, True, True, False]


@torch.no_grad()
def test_planted_structure_is_found(codes):
    log_p = codes.log_prob(Event(EVERY))
    agrees = (EVERY[:, 0] + EVERY[:, 1]) % 2 == EVERY[:, 2]
    share = float(log_p[agrees].exp().sum())
    assert share == pytest.approx(0.95, abs=0.05)
    drawn = codes.sample(1000, generator=stream(3)).value
    kept = float(((drawn[:, 0] + drawn[:, 1]) % 2 == drawn[:, 2]).double().mean())
    assert kept == pytest.approx(share, abs=0.04)


@torch.no_grad()
def test_a_gap_is_a_state_of_an_earlier_column():
    """In training a is missing where c is 1, but for one row, so that c is no flag of a: rows that
    lack a are told apart by that."""
    rows = rows_of()
    mask = torch.ones_like(rows, dtype=torch.bool)
    mask[:, 0] = rows[:, 2] == 0
    mask[rows[:, 2].argmax(), 0] = True
    density = built(rows * mask, mask=mask)
    known = torch.tensor([[False, True, True], [True, True, True]])
    weights = weights_of(density, torch.zeros(2, 3).double(), known)
    assert weights[0, 1] > 0.9
    assert weights[1, 1] < 0.1


def with_flag():
    """c says in which rows a is missing; where it is, b is 2 four times in five."""
    noise = np.random.default_rng(4)
    c = noise.integers(0, 2, 400)
    a = noise.integers(0, 2, 400)
    b = np.where(c == 0, a, np.where(noise.random(400) < 0.8, 2, 0))
    rows = torch.tensor(np.stack([a * (1 - c), b, c], 1)).double()
    mask = torch.ones_like(rows, dtype=torch.bool)
    mask[:, 0] = rows[:, 2] == 0
    return built(rows, mask=mask)


@torch.no_grad()
def test_flags_come_first_and_hide_what_they_say_is_missing():
    density = with_flag()
    assert density.order == [2, 0, 1]
    assert density.flag == [-1, 0, -1]
    log_p = density.log_prob(Event(EVERY))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    gap = EVERY[:, 2] == 1
    mask = torch.ones_like(EVERY, dtype=torch.bool)
    mask[:, 0] = ~gap
    event = Event(EVERY, mask)
    assert density.status_of(event) is Status.EXACT
    same = (EVERY[:, None, 1:] == EVERY[None, :, 1:]).all(2)
    summed = torch.where(same, log_p, -torch.inf).logsumexp(1)
    assert torch.allclose(density.log_prob(event)[gap], summed[gap], atol=1e-5)
    assert torch.allclose(density.log_prob(event)[~gap], log_p[~gap], atol=1e-9)
    hidden = mask.clone()
    hidden[:, 0] = False
    assert density.status_of(Event(EVERY, hidden)) is Status.LOWER_BOUND


@torch.no_grad()
@pytest.mark.parametrize("even", [False, True])
def test_drawn_rows_have_gaps(even):
    with spread_evenly(even):
        drawn = with_flag().sample(2000, generator=stream(1)).value
    gap = drawn[:, 2] == 1
    assert float(gap.double().mean()) == pytest.approx(0.5, abs=0.07)
    assert float((drawn[gap, 1] == 2).double().mean()) == pytest.approx(0.8, abs=0.07)
    assert float((drawn[~gap, 1] == drawn[~gap, 0]).double().mean()) > 0.93


# ------------------------------------------------------------------------------ the regressions


def test_a_regression_is_where_its_gradient_is_nil():
    noise = np.random.default_rng(3)
    x = torch.tensor(noise.normal(size=(60, 3))).float()
    log_states = torch.tensor(noise.normal(size=(60, 4))).float()
    weight = torch.tensor(noise.uniform(0.5, 2, 60)).double()
    found = fitted(x, log_states, weight, 0.5)
    slope = found.slope.double().requires_grad_()
    offset = found.offset.double().requires_grad_()
    log_p = (x.double() @ slope + offset).log_softmax(1) + log_states
    loss = -(weight * log_p.logsumexp(1)).sum() + slope.square().sum() / (2 * 0.5)
    loss.backward()
    assert slope.grad.abs().max() < 0.05 * float(weight.sum()) ** 0.5
    assert offset.grad.abs().max() < 0.05 * float(weight.sum()) ** 0.5


def test_a_pool_of_powers_takes_the_expert_that_knows():
    """Of two experts one knows; where each knows half by itself, both count whole."""
    state = torch.arange(400) % 2
    log_states = torch.eye(2).log()[state]
    knows = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log()
    right = torch.where(torch.arange(400) % 10 < 8, state, 1 - state)
    other = torch.where(torch.arange(400) // 10 % 10 < 8, state, 1 - state)
    guess = torch.full((400, 2), 0.5).log()
    weight = torch.ones(400).double()
    powers = pool_powers([knows[right], guess], log_states, weight)
    assert float(powers[0]) == pytest.approx(1.0, abs=0.1)
    both = pool_powers([knows[right], knows[other]], log_states, weight)
    assert both.tolist() == pytest.approx([1.0, 1.0], abs=0.1)


def test_indicators_tell_gaps_levels_and_bins():
    space = Space((2,), (Variable("a", "category", cardinality=3), Variable("x", "real")))
    value = torch.stack([torch.arange(90) % 3, torch.arange(90)], 1).double().repeat(9, 1)
    mask = torch.ones_like(value, dtype=torch.bool)
    coded = Indicators.of(space, 2, Event(value))
    mask[1] = False
    out = coded(value[:3], mask[:3], torch.tensor([1.0, -1.0, 0.0]))
    size = coded.sizes[1]
    assert coded.sizes == [3, 9] and coded.starts == [2, 6, 6 + size + 2]
    assert out[:, :2].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert out[:, 2:6].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert out[0, 6] == 1 and out[1, 6 + size] == 1 and out[1, 6:].sum() == 1
    assert out[0, -1] == pytest.approx(float(-44.5 / value[:, 1].std(correction=0)), abs=1e-5)
    few = torch.tensor([0.1, 0.1, 0.3, 0.3, 0.7]).double()
    assert torch.allclose(_edges(few, 8), torch.tensor([0.2, 0.5]).double())
    many = _slots(torch.tensor([4.0, 4.0, 2.0]), 5, 3)
    assert many[4] == 0 and many[2] == 1 and set(many[[0, 1, 3]].tolist()) == {2}


# ------------------------------------------------------------------------------ even draws


def test_even_points_are_uniform_each_and_apart_in_order():
    order = torch.randperm(64, generator=stream(0))
    points = torch.stack([even_points(order, stream(seed)) for seed in range(400)])
    assert (points[:, order[:8]] * 8).long().sort(1).values.eq(torch.arange(8)).all()
    assert float((points.mean(0) - 0.5).abs().max()) < 0.08
    assert float(((points**2).mean(0) - 1 / 3).abs().max()) < 0.08


@torch.no_grad()
def test_even_rows_have_the_law_of_the_model_and_vary_less(codes):
    """Over many batches each row comes as often as p says; within a batch, nearer to n p."""
    share = codes.log_prob(Event(EVERY)).exp()
    counts = {False: [], True: []}
    for even, found in counts.items():
        for seed in range(40):
            with spread_evenly(even):
                drawn = codes.sample(64, generator=stream(seed)).value
            code = (drawn * torch.tensor([6.0, 2.0, 1.0]).double()).sum(1).long()
            found.append(torch.bincount(code, minlength=12).double())
    even = torch.stack(counts[True])
    error = (share * (1 - share) / (40 * 64)).sqrt()
    assert bool(((even.mean(0) / 64 - share).abs() < 4 * error).all())
    spread = {key: torch.stack(found).var(0).sum() for key, found in counts.items()}
    assert spread[True] < 0.3 * spread[False]


def test_even_numbers_lie_under_their_own_distribution():
    value = torch.tensor(np.random.default_rng(0).normal(size=(300, 1))).double()
    space = Space((1,), (Variable("x", "real"),))
    density = built(value, space=space)
    with spread_evenly():
        drawn = density.sample(256, generator=stream(0)).value[:, 0].sort().values
    grid = torch.linspace(-8, 8, 4001).double()[:, None]
    below = density.log_prob(Event(grid)).exp().cumsum(0).detach() * 16 / 4000
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        at = grid[int((below < level).sum()), 0]
        assert float((drawn <= at).double().mean()) == pytest.approx(level, abs=0.03)


def test_even_draws_are_told_and_refused_where_they_are_not():
    frame = pd.DataFrame({"a": np.arange(80) % 2, "b": np.arange(80) % 3})
    model = JointDensity(family="forest:trees=2,draws=2", random_state=0).fit(frame)
    drawn, _ = model.sample(30, random_state=0, even=True)
    assert drawn.attrs["status"].startswith("exact; rows of one batch are spread evenly")
    with pytest.raises(ValueError, match="given= asks for a part"):
        model.sample(3, given={"a": 1}, even=True)
    with pytest.raises(ValueError, match="where= asks for a part"):
        model.sample(3, where="a <= b", even=True)
    other = JointDensity(family="naive_bayes", random_state=0).fit(frame)
    with pytest.raises(ValueError, match=r"this model \(naive_bayes\) does not"):
        other.sample(3, even=True)


@torch.no_grad()
def test_classes_are_told_to_every_column():
    rows = rows_of()
    label = rows[:, 2]
    x = Space((2,), CODES.variables[:2])
    density = built(rows[:, :2], space=x, context=Event(label), context_space=CLASSES)
    every = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0)).double()
    for code in (0.0, 1.0):
        log_p = density.log_prob(Event(every), Event(torch.full((6,), code).double()))
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
        odd = (every.sum(1) % 2) == code
        assert float(log_p[odd].exp().sum()) > 0.85


@torch.no_grad()
def test_counting_once_more_changes_nothing(codes):
    """Codes are counted, not guessed: the statistics of the rows of the fit are those of build."""
    rows = Event(rows_of())
    before = codes.log_prob(Event(EVERY))
    codes.maximise(codes.statistics(rows))
    assert torch.allclose(codes.log_prob(Event(EVERY)), before, atol=1e-5)


def test_a_fold_is_seen_by_the_trees_of_the_others():
    kept = [set(range(FOLDS)) - {index // len(KINDS) % FOLDS} for index in range(6)]
    assert set.union(*kept) == set(range(FOLDS))


@pytest.mark.parametrize("name", ["trees", "min_rows", "groups", "draws"])
def test_settings_that_make_no_sense_are_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        built(config=ForestChain(**{name: 0}))


def test_one_line_reaches_a_result_that_is_saved(tmp_path):
    noise = np.random.default_rng(0)
    city = noise.choice(["Ulm", "Bonn", "Kiel"], 150)
    rent = np.round(10 + 5 * (city == "Ulm") + noise.normal(size=150), 1)
    frame = pd.DataFrame({"city": city, "rooms": noise.integers(1, 5, 150), "rent": rent})
    model = JointDensity(family="forest:trees=4,draws=4", random_state=0).fit(frame)
    scores = model.score_samples(frame)
    assert np.isfinite(scores).all()
    strange = frame.assign(rent=15.0, city="Bonn")
    assert model.score(strange) < model.score(frame)
    again = conjoin.load(model.save(tmp_path / "model"))
    assert np.array_equal(again.score_samples(frame), scores)
    drawn, _ = model.sample(40, random_state=1)
    assert set(drawn["city"]) <= {"Ulm", "Bonn", "Kiel"}
    assert drawn.equals(again.sample(40, random_state=1)[0])

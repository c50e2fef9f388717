"""The circuit's quick passes: against log-space, against gradients, where numbers underflow, and
against enumeration.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from conjoin import JointClassifier
from conjoin.components import narrow_cells
from conjoin.core import Event, Region, Space, Variable, categorical, stream
from conjoin.families import resolve
from conjoin.families.circuit import passes
from conjoin.families.circuit.passes import Leaves
from conjoin.families.circuit.structure import _near, chow_liu_tree
from conjoin.families.circuit.windows import counts_by_window
from conjoin.training.learners import ExpectationMaximisation

MIXED = (
    Variable("colour", "category", cardinality=3),
    Variable("mass", "real"),
    Variable("age", "integer", resolution=1.0, bounds=(0.0, None), atoms=(0.0,)),
    Variable("size", "ordered", cardinality=4),
    Variable("sex", "category", cardinality=2),
    Variable("height", "real", resolution=0.1),
)


def rows(n, seed=0):
    """Rows in which all columns follow one hidden number."""
    hidden = torch.randn(n, generator=stream(seed, "hidden"), dtype=torch.float64)
    noise = 0.5 * torch.randn(n, 6, generator=stream(seed, "noise"), dtype=torch.float64)
    moved = hidden[:, None] + noise
    colour = (moved[:, 0] > 0.4).double() + (moved[:, 0] > 1)
    size = (2 + moved[:, 3]).round().clamp(0, 3)
    sex = (moved[:, 4] > 0).double()
    return torch.stack(
        [
            colour,
            moved[:, 1],
            (5 * moved[:, 2]).round().clamp_min(0),
            size,
            sex,
            (10 * moved[:, 5]).round() / 10,
        ],
        1,
    )


def fitted(variables=MIXED, value=None, width=4, trees=1):
    value = rows(300) if value is None else value
    space = Space((len(variables),), variables)
    config = dataclasses.replace(resolve("circuit"), width=width, trees=trees)
    model = config.density.build(space, config, Event(value), stream(0))
    for _ in range(3):
        model.maximise(model.statistics(Event(value)))
    return model


def some(n=40, missing=0.4, within=None):
    value = rows(n, seed=1)
    return Event(value, torch.rand(value.shape, generator=stream(2)) >= missing, within)


def in_log_space(model, event):
    return model._tops(model._leaf(event)).logsumexp(1)


@pytest.mark.parametrize("trees", [1, 3])
@pytest.mark.parametrize(
    "within",
    [
        None,
        Region(
            torch.full((6,), -torch.inf).double(), torch.tensor([1, 0.3, 4, 2, 1, 0.5]).double()
        ),
    ],
)
def test_the_pass_in_linear_space_is_that_in_log_space(within, trees):
    model = fitted(trees=trees)
    event = some(within=within)
    with torch.no_grad():
        assert torch.allclose(model.log_prob(event), in_log_space(model, event), rtol=0, atol=1e-10)


def test_columns_that_nothing_is_known_of_are_skipped_and_change_nothing():
    model = fitted(trees=2)
    event = some(missing=0.0)
    hidden = event.hide(torch.tensor([True, False, True, True, False, True]))
    table = model.leaves.table(hidden)
    nodes = model._tree(1).active(Leaves.of(table, slice(4, 8), torch.float64))
    assert len(nodes) < 6
    with torch.no_grad():
        assert torch.allclose(model.log_prob(hidden), in_log_space(model, hidden), atol=1e-10)


def test_rows_that_underflow_are_asked_in_log_space():
    """States that hardly ever change, and columns that call for different ones, each by thousands
    of nats."""
    model = fitted()
    value = rows(5, seed=3)
    value[:, 1] = 300.0
    value[:, 5] = -300.0
    with torch.no_grad():
        model.edge_logits.copy_(-690.0 * (1 - torch.eye(4)).expand_as(model.edge_logits))
        model.leaves.mean.copy_(
            torch.tensor([-300.0, 300.0, 0.0, 1.0]).expand_as(model.leaves.mean)
        )
        table = model.leaves.table(Event(value))
        up = model._tree(0).up(
            Leaves.of(table, slice(4), torch.float64), table.place, model.orders[0]
        )
        assert not up.sound.any()
        far = model.log_prob(Event(value))
        assert far.isfinite().all()
        assert torch.allclose(far, in_log_space(model, Event(value)), rtol=1e-10)
        known = torch.tensor([[True] * 4 + [False, True]] * 5)
        assert (
            model.sample_conditional(Event(value, known), generator=stream(0))
            .value.isfinite()
            .all()
        )


def test_walks_in_log_space_follow_the_same_posterior():
    """Known cells at the far end of the tree move every state."""
    model = fitted()
    row = rows(1, seed=8)
    event = Event(
        row.expand(20_000, -1),
        torch.tensor([[False, False, False, True, True, True]]).expand(20_000, -1),
    )
    generator = stream(9)
    with torch.no_grad():
        walked = model._walk(
            model._beliefs(model._leaf(event), 0), 0, lambda logits: categorical(logits, generator)
        )
        table = model.leaves.table(event)
        tree = model._tree(0, torch.float32)
        leaves = Leaves.of(table, slice(4), torch.float32)
        drawn = tree.draw(
            tree.up(leaves, table.place, tree.active(leaves), keep=True), 20_000, stream(10)
        )
    for walk, draw in zip(walked.T, drawn.T, strict=True):
        assert torch.allclose(
            torch.bincount(walk, minlength=4) / 20_000,
            torch.bincount(draw, minlength=4) / 20_000,
            atol=0.02,
        )


@pytest.mark.parametrize(("series", "error"), [(0.0, 1e-9), (narrow_cells.MAX_DEVIATIONS, 1e-5)])
def test_expected_counts_are_gradients(monkeypatch, series, error):
    """Those of exact masses, and nearly those by the series of narrow cells."""
    monkeypatch.setattr(narrow_cells, "MAX_DEVIATIONS", series)
    model = fitted()
    event = some()
    weight = torch.rand(40, generator=stream(4)).double()
    found = model.statistics(event, weight=weight)
    total = (weight * in_log_space(model, event)).sum()
    edge, root = torch.autograd.grad(total, [model.edge_logits, model.root_logits])
    counts = found["edge"]
    assert torch.allclose(
        edge, counts - counts.sum(-1, keepdim=True) * model.edge_logits.softmax(-1), atol=error
    )
    assert torch.allclose(
        root, found["root"] - weight.sum() * model.root_logits.softmax(0), atol=error
    )
    assert float(found["log_prob"]) == pytest.approx(float(total.detach()))


def test_several_trees_are_their_mean():
    """Each counts all rows by itself, its links are its own, and together they are no worse than on
    average."""
    model = fitted(trees=3)
    event = some(missing=0.2)
    weight = torch.rand(40, generator=stream(4)).double()
    with torch.no_grad():
        each = model._quick(event)
        assert torch.allclose(
            model.root_logits.softmax(0).unflatten(0, (3, 4)).sum(1),
            torch.full((3,), 1 / 3).double(),
        )
        assert torch.allclose(model.log_prob(event), each.logsumexp(0))
        assert model.log_prob(event).mean() >= (each.mean(1) + np.log(3)).mean()
        found = model.statistics(event, weight=weight)["root"].unflatten(0, (3, 4)).sum(1)
    assert torch.allclose(found, weight.sum().expand(3))
    assert len({str(parents) for parents in model.parents}) > 1


def test_the_tree_that_a_row_is_completed_by_is_the_one_that_explains_it():
    """Two trees that disagree: a known cell tells them apart, and the other follows."""
    binary = tuple(Variable(name, "category", cardinality=2) for name in "ab")
    model = fitted(
        binary, torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double().repeat(20, 1), width=1, trees=2
    )
    with torch.no_grad():
        model.leaves.logits.copy_(
            torch.tensor([[3.0, -3.0], [-3.0, 3.0]]).double().expand(2, -1, -1)
        )
    known = Event(
        torch.tensor([[0.0, 0], [1, 0]]).double().repeat(200, 1),
        torch.tensor([[True, False]]).expand(400, -1),
    )
    drawn = model.sample_conditional(known, generator=stream(1)).value
    assert (drawn[:, 0] == drawn[:, 1]).double().mean() > 0.95
    assert torch.equal(model.mode(known).value[:, 0], model.mode(known).value[:, 1])


@pytest.mark.parametrize("trees", [1, 3])
def test_draws_given_known_cells_follow_the_posterior(trees):
    binary = tuple(Variable(name, "category", cardinality=2) for name in "abcde")
    value = (
        torch.rand(200, 1, generator=stream(5)) + 0.3 * torch.randn(200, 5, generator=stream(6))
        > 0.5
    ).double()
    model = fitted(binary, value, width=3, trees=trees)
    known = torch.tensor([True, False, False, True, False])
    event = Event(
        torch.tensor([[1.0, 0, 0, 0, 0]]).double().expand(40_000, -1), known.expand(40_000, -1)
    )
    drawn = model.sample_conditional(event, generator=stream(7)).value
    combinations = torch.tensor(
        [[1.0, a, b, 0, c] for a, b, c in itertools.product((0, 1), repeat=3)]
    ).double()
    with torch.no_grad():
        expected = (
            model.log_prob(Event(combinations)) - model.log_prob(event.take(slice(0, 1)))
        ).exp()
    share = torch.stack([(drawn == row).all(1).double().mean() for row in combinations])
    assert float(expected.sum()) == pytest.approx(1)
    assert torch.allclose(share, expected, atol=0.012)


def test_the_tree_of_a_wide_event_is_that_of_its_neighbours():
    """More levels than are told apart: blocks of variables, greys taken together, still the chain
    that made the rows."""
    rng = np.random.default_rng(0)
    size = 300
    steps = rng.integers(-6, 7, (400, size)).cumsum(1) + 128
    x = torch.from_numpy(steps.clip(0, 255)).double()
    variables = tuple(Variable(str(d), "ordered", cardinality=256) for d in range(size))
    parents = chow_liu_tree(Event(x), variables, torch.ones(400, dtype=torch.float64))
    assert (
        np.mean([abs(parent - child) <= 3 for child, parent in enumerate(parents) if parent >= 0])
        > 0.95
    )


# ----------------------------------------------------------------------------------------- pictures


def test_parts_that_rows_share_change_nothing(monkeypatch):
    """Worked out once or for each row: log p, expected counts, and draws to the bit."""
    model = fitted(trees=2)
    event = some(200, missing=0.1)
    weight = torch.rand(200, generator=stream(4)).double()
    event = Event(
        event.value.index_copy(1, torch.tensor([1, 5]), event.value[:, [1, 5]].round()), event.mask
    )

    def answers():
        with torch.no_grad():
            drawn = model.sample_conditional(event, generator=stream(3)).value
            return {"log p": model.log_prob(event), "draws": drawn} | model.statistics(
                event, weight=weight
            )

    each = answers()
    tree = model._tree(0)
    table = model.leaves.table(event)
    monkeypatch.setattr(passes, "MIN_SHARED_STATES", 1)
    parts = tree.parts(table.place, table.start, tree.order)
    assert all(
        part.of_row is None or part.number == len(torch.unique(part.of_row))
        for part in parts.values()
    )
    assert (
        min(part.number for part in parts.values())
        < 10
        < max(part.number for part in parts.values())
    )
    for name, value in answers().items():
        assert torch.allclose(value, each[name], rtol=1e-10, atol=1e-10), name


def pictures(n=80, side=17):
    """Two kinds, one bright on the left and one on the right, with grains."""
    kind = torch.arange(n) % 2
    bright = (torch.arange(side) < side // 2)[None, None] == (kind == 0)[:, None, None]
    grain = torch.randint(0, 20, (n, side, side), generator=stream(1))
    return (200 * bright.expand(-1, side, -1) + grain).numpy().astype("uint8"), kind.numpy()


def picture_space(side=17):
    return Space(
        (side * side,),
        tuple(Variable(str(d), "ordered", cardinality=256) for d in range(side * side)),
        "image",
        (1, side, side),
    )


def test_pairs_of_near_pixels_are_all_of_them():
    place = torch.arange(2, 26).reshape(2, 3, 4)
    at = {int(place[cell]): cell for cell in itertools.product(range(2), range(3), range(4))}
    near = {
        (i, j)
        for i, j in itertools.combinations(at, 2)
        if max(abs(at[i][1] - at[j][1]), abs(at[i][2] - at[j][2])) <= 2
    }
    pairs = [tuple(sorted(pair)) for pair in _near((2, 3, 4), 26).tolist()]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == near | {
        (first, other) for first in (0, 1) for other in range(first + 1, 26)
    }


def test_counts_of_a_start_by_windows_agree_with_each_other():
    value = torch.from_numpy(pictures()[0].reshape(80, -1)).double()
    weight = torch.rand(80, generator=stream(2)).double()
    event = Event(value, torch.rand(value.shape, generator=stream(3)) > 0.1)
    space = picture_space()
    parents = chow_liu_tree(event, space.variables, weight, space.grid)
    assert all(
        max(abs(a // 17 - b // 17), abs(a % 17 - b % 17)) <= 2
        for a, b in enumerate(parents)
        if b >= 0
    )
    order = fitted_order(parents)
    found = counts_by_window(event, space, weight, 4, parents, order, stream(0))
    for place, node in enumerate(order[1:]):
        above = (
            found["root"]
            if parents[node] == 0
            else found["edge"][order[1:].index(parents[node])].sum(0)
        )
        assert torch.allclose(found["edge"][place].sum(1), above)
    assert torch.allclose(found["levels"].sum((1, 2)), (weight[:, None] * event.mask).sum(0))


def fitted_order(parents):
    order = [0]
    for node in order:
        order += [other for other, parent in enumerate(parents) if parent == node]
    return order


def test_circuits_of_pictures_go_on_from_their_start_and_tell_kinds_apart():
    X, y = pictures()
    config = resolve("circuit").suited(picture_space())
    model = config.density.build(
        picture_space(), config, Event(torch.from_numpy(X.reshape(80, -1)).double()), stream(0)
    )
    learner = ExpectationMaximisation(model)
    begun = model.begun
    learner.begin()
    assert config.batch == 4096
    assert learner.running is begun
    assert not model.begun
    few = np.where(np.arange(80) < 40, y, -1)
    joint = JointClassifier(
        family="circuit", predictor=None, unlabelled=-1, spread=False, max_time=2.0
    ).fit(X, few, calibration=0.0)
    assert (joint.predict(X) == y).mean() > 0.95
    assert 2 < joint.bits_per_dim(X).mean() < 6

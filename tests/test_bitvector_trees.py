"""Where rows arrive in small trees: bit vectors say the same as walks."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from conjoin.components.bitvector_trees import MAX_LEAVES, Nodes, arrivals, bitvectors, values_at
from conjoin.core import Event, Space, Variable
from conjoin.predictors.base import Design
from conjoin.predictors.trees import Trees, _trees


def boosted(classes, leaves, gaps, rows=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).round(1)
    if gaps:
        x[rng.random(x.shape) < 0.2] = np.nan
    y = np.nansum(x, 1) + rng.normal(size=rows)
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    y = np.digitize(y, [-1, 1]) if classes else y
    fitted = kind(max_iter=20, max_leaf_nodes=leaves, min_samples_leaf=3).fit(x, y)
    space = Space((), tuple(Variable(name, "real") for name in "abcd"))
    return _trees(fitted, Design(space)), fitted, x


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("leaves", [2, 7, MAX_LEAVES])
@pytest.mark.parametrize("gaps", [True, False])
def test_marks_and_walks_arrive_at_the_same_leaves(classes, leaves, gaps):
    trees, fitted, x = boosted(classes, leaves, gaps)
    table = torch.as_tensor(x)
    nodes = Nodes(trees.feature, trees.threshold, trees.missing_left, trees.branches)
    assert torch.equal(arrivals(table, nodes), trees._walk(table))
    said = trees.of_table(table).numpy()
    told = fitted._raw_predict(x)
    assert np.allclose(said if classes else said[:, :1], told)


def test_some_trees_may_be_a_root_alone():
    trees, _, x = boosted(False, 5, True)
    both = Nodes(
        *(torch.cat([each, each]) for each in (trees.feature, trees.threshold)),
        *(torch.cat([each, each]) for each in (trees.missing_left, trees.branches)),
    )
    alone = trees.branches.shape[0]
    both.branches[alone:] = torch.arange(both.branches.shape[1])[None, :, None]
    found = arrivals(torch.as_tensor(x), both)
    count = both.feature.shape[1]
    assert torch.equal(found[:, :alone], trees._walk(torch.as_tensor(x)))
    assert (found[:, alone:] == count * torch.arange(alone, 2 * alone)).all()


def test_trees_of_a_root_alone():
    space = Space((), (Variable("a", "real"),))
    trees = Trees(space, (3, 1), 1, 0)
    trees.leaf.copy_(torch.tensor([[1.0], [2.0], [4.0]]))
    table = torch.zeros(200, 1, dtype=torch.float64)
    assert (trees.of_table(table) == 7).all() and len(trees.of_table(table)) == 200


def test_many_rows_are_done_in_blocks(monkeypatch):
    trees, _, x = boosted(False, 9, True)
    table = torch.as_tensor(x)
    whole = trees.of_table(table)
    monkeypatch.setattr("conjoin.components.bitvector_trees.BLOCK_CELLS", 500)
    assert torch.equal(trees.of_table(table), whole)
    assert torch.allclose(torch.cat([trees.of_table(row) for row in table.split(1)]), whole)


def test_equal_thresholds_of_one_tree_count_each():
    """Two nodes of one tree may ask the same of different rows."""
    feature = torch.tensor([[0, 1, 1, 0, 0, 0, 0]])
    threshold = torch.tensor([[0.0, 1.0, 1.0, 0, 0, 0, 0]], dtype=torch.float64)
    branches = torch.tensor([[[1, 2], [3, 4], [5, 6], [3, 3], [4, 4], [5, 5], [6, 6]]])
    nodes = Nodes(feature, threshold, torch.zeros(1, 7, dtype=torch.bool), branches)
    table = torch.tensor([[-1.0, 0], [-1, 2], [1, 0], [1, 2]], dtype=torch.float64)
    assert arrivals(table, nodes).flatten().tolist() == [3, 4, 5, 6]


def of_words(levels=(2, 5, 9), rows=600):
    """Trees of a number and of categories, of which some rows have no level; the rows."""
    rng = np.random.default_rng(3)
    codes = np.stack([rng.integers(count, size=rows) for count in levels], 1)
    value = np.column_stack([rng.normal(size=rows).round(1), codes])
    known = rng.random(value.shape) < 0.9
    words = [
        Variable(f"c{place}", "category", cardinality=count) for place, count in enumerate(levels)
    ]
    space = Space((4,), (Variable("a", "real"), *words))
    x = Event(torch.as_tensor(value), torch.as_tensor(known))
    design = Design(space).fit(x)
    table = design.matrix(x, missing=torch.nan)
    y = value[:, 0] + (codes[:, 2] % 3) * known[:, 3] - (codes[:, 1] == 2) * known[:, 2]
    kind = HistGradientBoostingRegressor(max_iter=25, max_leaf_nodes=20, min_samples_leaf=3)
    return _trees(kind.fit(table.numpy(), y), design), table


def test_levels_of_a_category_are_one_look_up():
    trees, table = of_words()
    assert trees.design.indicators == [(1, 2), (3, 5), (8, 9)]
    gaps = table.isnan().any(0).tolist()
    bits = bitvectors(trees._nodes, gaps, trees.design.indicators)
    assert [(column.first, column.levels) for column in bits.columns if column.levels] == [
        each for each in trees.design.indicators if (trees.feature >= each[0]).any()
    ]
    count = trees.feature.shape[1]
    roots = torch.arange(len(trees.feature)) * count
    found = torch.cat(list(values_at(table, bits, bits.leaf, roots)))
    assert torch.equal(found, trees._walk(table))


def test_indicators_that_are_asked_otherwise_are_plain_columns():
    """A question that no level answers as all others do."""
    trees, table = of_words()
    own = (trees.feature == 5) & (trees.branches[..., 0] != torch.arange(trees.feature.shape[1]))
    assert own.any()
    trees.threshold[own] = -0.5
    bits = bitvectors(trees._nodes, table.isnan().any(0).tolist(), trees.design.indicators)
    assert (3, 5) not in [(column.first, column.levels) for column in bits.columns]
    assert torch.equal(
        trees.of_table(table), torch.cat([trees.of_table(row) for row in table.split(9)])
    )


def test_marks_are_kept_until_the_trees_change(monkeypatch):
    trees, table = of_words()
    made = []
    plain = Trees._made
    monkeypatch.setattr(Trees, "_made", lambda *asked: made.append(1) or plain(*asked))
    first = trees.of_table(table)
    assert torch.equal(trees.of_table(table[:100]), first[:100]) and len(made) == 1
    trees.leaf.mul_(2)
    assert torch.allclose(trees.of_table(table) - trees.base, 2 * (first - trees.base))
    assert len(made) == 2
    trees.of_table(table.nan_to_num(0.0))
    assert len(made) == 3  # other columns have gaps

r"""Extremely randomised trees, whose leaves lean on the nodes above them.

    value(leaf) = mean(root) + sum_{nodes of its path} (mean(node) - mean(parent)) / (1 + l / n)

with n the rows of the parent.

Trees are grown without bootstrap until their leaves are pure (P. Geurts, D. Ernst, L. Wehenkel
(2006), Extremely randomized trees), then shrunk by the strength l, which is chosen by
cross-validation on the very same trees (A. Agarwal et al. (2022), Hierarchical shrinkage, equation
2).

Shape letters: B rows, F features, K classes, N nodes of all trees, T trees, L strengths.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.components.decision_trees import (
    BLOCK_ROWS,
    Walks,
    node_columns,
    roots_of,
    write_nodes,
)
from conjoin.core import Event, Space
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float, Int
from conjoin.predictors.base import Case, Design, Folded, Method, Scorer, Spread
from conjoin.predictors.folds import folds_for
from conjoin.predictors.leaves import Leaves, spread_of_leaves
from conjoin.util.budget import all_in_time, seconds_of

__all__ = ["TREES_A_FOLD", "ExtraTreesMethod", "Forest"]

STRENGTHS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of shrinkage, in rows
FLOOR = 1e-3  # share of equal probabilities in what a forest of classes says
TREES = 100  # at most
TREES_A_FOLD = 25  # at most
MIN_TREES = 10
TIMED_TREES = 2  # by which is known how long one takes
MAX_NODES = 400_000  # of a forest, by which a folder stays small
MAX_LEAVES = 4_000  # of a tree, about
MAX_SHRUNK_CELLS = 4_000_000  # nodes times strengths times outputs that are shrunk at once
AMPLE_CELLS = 200_000  # of a table from which on trees are fewer


class Forest(Scorer):
    """The mean of trees: log p of the classes, or a number. Nodes are numbered through all trees,
    depth first, so that a left child is the next node."""

    kind = "forest"

    feature: Tensor
    threshold: Tensor
    right: Tensor
    leaf: Tensor
    root: Tensor

    def __init__(self, space: Space, shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.design = Design(space)
        self._walks = Walks()
        nodes, trees = shape
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(nodes, dtype=torch.float32))
        self.register_buffer("right", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("leaf", torch.zeros((nodes, outputs), dtype=torch.float32))
        self.register_buffer("root", torch.zeros(trees, dtype=torch.int32))

    @property
    def shapes(self) -> dict[str, Any]:
        return {"shape": [len(self.feature), len(self.root)], "outputs": self.leaf.shape[1]}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        table = self.design.matrix(x).float()
        nodes = self._walks(table, self.feature, self.threshold, self.right, self.root)
        mean = torch.cat([self._mean(block) for block in nodes.split(BLOCK_ROWS)])
        return mean if mean.shape[1] == 1 else _log_p(mean)

    def _mean(self, node: Int[Tensor, "b T"]) -> Float[Tensor, "b K"]:
        """Of the leaves."""
        leaf = self.leaf.index_select(0, node.flatten())
        return leaf.double().unflatten(0, node.shape).mean(1)


class ExtraTreesMethod(Method):
    """scikit-learn's extra trees. "auto" tries them where most rows have a label of their own, and
    the fit need not be fast. ``trees_a_fold``: as many, however many cells a table has; None: fewer
    for large ones."""

    scorers = (Forest, Leaves)
    folds = True

    def __init__(self, trees_a_fold: int | None = None) -> None:
        self.trees_a_fold = trees_a_fold

    def tried(self, case: Case) -> bool:
        own = bool(case.rows.y.mask.double().mean() >= 0.5)
        return own and not case.lent and not case.fast

    def fit(self, case: Case) -> Scorer:
        return self.by_folds(case.with_folds()).scorer

    def guess(self, case: Case, few: Case) -> float:
        """By some trees."""
        table = few.designs()[0].matrix(few.rows.x).numpy().astype(np.float32)
        y = few.rows.y.value.numpy()
        y = y if case.classes is None else y.astype(np.int64)
        grown = partial(_grown, few, TIMED_TREES, table, y, few.weight.numpy())
        grown()  # what is done but once
        each = seconds_of(grown) / TIMED_TREES
        share = case.rows.rows / few.rows.rows
        count = self.trees_a_fold or _trees_a_fold(table.size * share)
        trees = count * (folds_for(case.rows.rows) + TREES // TREES_A_FOLD)
        return each * trees * share

    def by_folds(self, case: Case) -> Folded:
        design, crossed = case.designs()
        table = crossed.matrix(case.rows.x).numpy().astype(np.float32)
        y = case.rows.y.value.numpy()
        y = y if case.classes is None else y.astype(np.int64)
        weight = case.weight.numpy()
        count = self.trees_a_fold or _trees_a_fold(table.size)
        out = np.full((len(STRENGTHS), len(y), _outputs(case.classes)), np.nan)
        for held in all_in_time(case.parts()):
            trees = _grown(case, count, table[~held], y[~held], weight[~held])
            out[:, held] = _mean_of_leaves(trees, table[held])
        out = _for_each_class(out, case.classes)
        best = _best(out, y, weight, case.classes)
        final = _grown(case, count * TREES // TREES_A_FOLD, table, y, weight)
        scores = torch.as_tensor(out[best])
        scores = scores if case.classes is None else _log_p(scores)
        return Folded(_forest(final, STRENGTHS[best], design, case.classes), scores)

    def spread(self, case: Case, width: float) -> Spread | None:
        return spread_of_leaves(case, width)


def _trees_a_fold(cells: float) -> int:
    """Of a table of so many cells."""
    return max(MIN_TREES, min(TREES_A_FOLD, int(TREES_A_FOLD * AMPLE_CELLS / cells)))


def _outputs(classes: int | None) -> int:
    """Numbers in a node: of two classes the share of the second alone."""
    return 1 if classes is None or classes == 2 else classes


def _for_each_class(value: np.ndarray, classes: int | None) -> np.ndarray:
    """(..., K) from (..., ``_outputs``)."""
    return np.concatenate([1 - value, value], -1) if classes == 2 else value


def _grown(case: Case, count: int, table: Any, y: np.ndarray, weight: np.ndarray) -> list[Any]:
    """scikit-learn's trees of these rows, as many as ``MAX_NODES`` allows. Two classes are numbers
    0 and 1, whose variance is half of Gini's impurity: the same splits in less time. One estimator
    is fitted again and again, as what a forest does about its trees takes longer than growing
    small ones."""
    from sklearn import config_context
    from sklearn.tree import ExtraTreeClassifier, ExtraTreeRegressor

    numbers = case.classes is None or case.classes == 2
    kind = ExtraTreeRegressor if numbers else ExtraTreeClassifier
    estimator = kind(
        max_features=1.0 if case.classes is None else 0.5,
        min_samples_leaf=-(-len(y) // MAX_LEAVES),
    )
    table = np.ascontiguousarray(table)
    y = y.astype(np.float64) if numbers else y
    seeds = np.random.default_rng(case.seed).integers(np.iinfo(np.int32).max, size=count)
    trees: list[Any] = []
    nodes = 0
    with config_context(skip_parameter_validation=True, assume_finite=True):
        for seed in seeds.tolist():
            estimator.random_state = seed
            tree = estimator.fit(table, y, sample_weight=weight, check_input=False).tree_
            nodes += tree.node_count
            if trees and nodes > MAX_NODES:
                break
            trees.append(tree)
    return trees


def _mean_of_leaves(trees: list[Any], table: np.ndarray) -> np.ndarray:
    """(L, B, ``_outputs``) of shrunk leaves, a few trees at a time."""
    cells = len(STRENGTHS) * trees[0].value.shape[2] * max(tree.node_count for tree in trees)
    step = max(1, MAX_SHRUNK_CELLS // cells)
    total: Any = 0.0
    for start in range(0, len(trees), step):
        some = trees[start : start + step]
        value = _shrunk(some, STRENGTHS).swapaxes(0, 1)
        for root, tree in zip(roots_of(some), some, strict=True):
            total = total + value[root + tree.apply(table)]
    return np.asarray(total / len(trees)).swapaxes(0, 1)


def _shrunk(trees: list[Any], strengths: tuple[float, ...]) -> np.ndarray:
    """(L, N, ``_outputs``) the value of each node, from the roots down."""
    roots = roots_of(trees)
    sizes = [tree.node_count for tree in trees]
    first = np.repeat(roots, sizes)
    mean = np.concatenate([tree.value[:, 0, :] for tree in trees])
    rows = np.concatenate([tree.weighted_n_node_samples for tree in trees])
    inner = np.concatenate([tree.children_left for tree in trees]) >= 0
    left = np.concatenate([tree.children_left for tree in trees]) + first
    right = np.concatenate([tree.children_right for tree in trees]) + first
    # node by node, so that what is looked up lies together
    out = np.repeat(mean[roots][:, None], len(strengths), 1).repeat(sizes, 0)
    layer = np.array(roots)
    while len(layer := layer[inner[layer]]):
        less = 1 + np.array(strengths)[:, None] / rows[layer][:, None, None]
        both = (left[layer], right[layer])
        for child in both:
            out[child] = out[layer] + (mean[child] - mean[layer])[:, None] / less
        layer = np.concatenate(both)
    return out.swapaxes(0, 1)


def _log_p(mean: Tensor) -> Tensor:
    """Of mean probabilities, none of them 0."""
    return (mean * (1 - FLOOR) + FLOOR / mean.shape[-1]).log()


def _best(out: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int | None) -> int:
    """Which strength does best on rows that are held out, (L, B, K); the middle one where none
    is."""
    seen = ~np.isnan(out[0, :, 0])
    if not seen.any():
        return len(STRENGTHS) // 2
    rows = out[:, seen]
    loss = (
        (rows[..., 0] - y[seen]) ** 2
        if classes is None
        else -_log_p(torch.as_tensor(rows)).numpy()[:, np.arange(seen.sum()), y[seen]]
    )
    return int((loss @ weight[seen]).argmin())


def _forest(trees: list[Any], strength: float, design: Design, classes: int | None) -> Forest:
    nodes = sum(tree.node_count for tree in trees)
    forest = Forest(design.space, (nodes, len(trees)), classes or 1)
    forest.design.load_state_dict(design.state_dict())
    roots = roots_of(trees)
    forest.root.copy_(torch.as_tensor(roots))
    leaf = _for_each_class(_shrunk(trees, (strength,))[0], classes)
    for root, tree in zip(roots, trees, strict=True):
        columns = node_columns(tree, root) | {"leaf": leaf[root : root + tree.node_count]}
        write_nodes(forest, root, columns)
    return forest

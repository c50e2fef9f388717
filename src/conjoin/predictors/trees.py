"""Gradient boosting of regression trees."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.components.bitvector_trees import MAX_LEAVES, Bitvectors, Nodes, bitvectors, values_at
from conjoin.core import Event, Pair, Space
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float, Int
from conjoin.predictors.base import Case, Design, Folded, Method, Scorer
from conjoin.predictors.conversion import checked, fit_estimator
from conjoin.predictors.folds import folds_for
from conjoin.util.budget import all_in_time, seconds_of
from conjoin.util.memo import TensorMemo

__all__ = ["BoostingMethod", "Trees"]

BLOCK_ROWS = 256  # that walk down all trees together
MIN_ROWS = 100  # with a label, from which on "auto" has a use for it
FOLD_ROUNDS = 300  # boosting rounds of a fold, at most
PATIENCE_ROUNDS = 10  # without gain on the held-out fold, after which a fold stops
FOLD_RATE = 0.1  # of learning
LEAF_ROWS = 10  # at least
TIMED_TREES = 6  # by which is known how long a round takes
USUAL_ROUNDS = 80  # of a fold
MIN_LEAVES = 6  # of a tree, where rows are few; where they are many, as many as there are bits
MIN_BITVECTOR_ROWS = 64  # from which on bit vectors are worth their making


class Trees(Scorer):
    """Sum of regression trees. Every tree is walked at once, one depth a step."""

    kind = "trees"

    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    branches: Tensor
    leaf: Tensor
    base: Tensor

    def __init__(self, space: Space, shape: tuple[int, int], outputs: int, depth: int) -> None:
        super().__init__()
        self.design = Design(space)
        self.outputs = outputs
        self.depth = depth
        self._bits = TensorMemo[tuple[Bitvectors, Tensor]]()
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("branches", torch.zeros(*shape, 2, dtype=torch.long))
        self.register_buffer("leaf", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("base", torch.zeros(outputs, dtype=torch.float64))

    @property
    def shapes(self) -> dict[str, Any]:
        return {"shape": list(self.feature.shape), "outputs": self.outputs, "depth": self.depth}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self.of_table(self.design.matrix(x, missing=torch.nan))

    def of_table(self, table: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """The scores of rows as the design shows them."""
        return self.base + torch.cat([each.sum(1) for each in self._blocks(table)])

    @on_device
    def contributions(self, x: Event) -> Float[Tensor, "B I K"]:
        """What each boosting iteration adds."""
        return torch.cat(list(self._blocks(self.design.matrix(x, missing=torch.nan))))

    def _blocks(self, table: Float[Tensor, "B F"]) -> Iterator[Float[Tensor, "b I K"]]:
        """What each boosting iteration adds, for a block of rows after the other, so that they stay
        in the processor's cache."""
        for values in self._values(table):
            yield values.reshape(len(values), -1, self.outputs)

    def _values(self, table: Float[Tensor, "B F"]) -> Iterator[Float[Tensor, "b T"]]:
        """Of the leaves where rows arrive: by bit vectors where trees are small and rows many."""
        if len(table) >= MIN_BITVECTOR_ROWS and self.feature.shape[1] < 2 * MAX_LEAVES:
            gaps = tuple(table.isnan().any(0).tolist())
            parts = [*self._nodes, self.leaf]
            bits, of_leaf = self._bits.of(parts, partial(self._made, gaps), gaps)
            yield from values_at(table, bits, of_leaf, self.leaf[:, 0])
        else:
            for block in table.split(BLOCK_ROWS):
                yield self.leaf.take(self._walk(block))

    @property
    def _nodes(self) -> Nodes:
        return Nodes(self.feature, self.threshold, self.missing_left, self.branches)

    def _made(self, gaps: tuple[bool, ...]) -> tuple[Bitvectors, Tensor]:
        """The bit vectors, and the values of the leaves as they name them."""
        bits = bitvectors(self._nodes, gaps, self.design.indicators)
        return bits, self.leaf.take(bits.leaf)

    def _walk(self, table: Float[Tensor, "b F"]) -> Int[Tensor, "b T"]:
        """The leaves where rows arrive, all trees one depth a step."""
        trees, nodes = self.feature.shape
        root = torch.arange(trees) * nodes
        children = (self.branches + root[:, None, None]).flatten()
        node = root.expand(len(table), -1)
        gaps = bool(table.isnan().any())
        for _ in range(self.depth):
            value = table.gather(1, self.feature.take(node))
            left = value <= self.threshold.take(node)
            if gaps:
                left |= value.isnan() & self.missing_left.take(node)
            node = children.take(2 * node + (~left).long())
        return node

    def keep(self, iterations: int) -> "Trees":
        """The first ``iterations`` boosting rounds."""
        kept = iterations * self.outputs
        smaller = Trees(self.design.space, (kept, self.feature.shape[1]), self.outputs, self.depth)
        state = self.state_dict()
        whole = ("base", "design.")
        smaller.load_state_dict(
            {key: value if key.startswith(whole) else value[:kept] for key, value in state.items()}
        )
        return smaller

    @torch.no_grad()
    def tuned(self, held: Pair, classes: bool) -> "Trees":
        """As many boosting rounds as do best on held-out rows."""
        if not held.rows:
            return self
        scores = self.base + self.contributions(held.x).cumsum(1)  # (B, I, K)
        if classes:
            loss = (
                -scores.log_softmax(-1)
                .gather(2, held.y.value.long()[:, None, None].expand(-1, scores.shape[1], 1))
                .mean((0, 2))
            )
        else:
            loss = (scores[..., 0] - held.y.value[:, None]).square().mean(0)
        return self.keep(int(loss.argmin()) + 1)


class BoostingMethod(Method):
    """scikit-learn's histogram gradient boosting. Of pixels "auto" leaves propagated labels to a
    network."""

    scorers = (Trees,)
    folds = True

    def tried(self, case: Case) -> bool:
        enough = int(case.rows.y.mask.sum()) >= MIN_ROWS
        return enough and not (case.lent and case.pictures)

    def guess(self, case: Case, few: Case) -> float:
        """By some boosting rounds."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        classes = case.classes is not None
        boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        rounds = max(1, TIMED_TREES // (case.classes or 1))
        y = few.rows.y.value.numpy().astype(np.int64 if classes else np.float64)
        table = self.table(few.designs()[0], few.rows.x)
        some = boosting(max_iter=rounds, early_stopping=False, min_samples_leaf=LEAF_ROWS)
        each = seconds_of(partial(some.fit, table, y)) / rounds
        share = case.rows.rows / few.rows.rows
        return each * USUAL_ROUNDS * folds_for(case.rows.rows, case.fast) * share

    def by_folds(self, case: Case) -> Folded:
        """One fit for each fold, stopped by it. All are cut where the folds together do best: were
        each cut at its own best round, its held-out rows would flatter it. Their mean is the
        scorer."""
        design, crossed = case.designs()
        table = self.table(crossed, case.rows.x)
        fits = [self._stopped(case, table, held) for held in all_in_time(case.parts())]
        if not fits:
            return super().by_folds(case)
        rounds = _best_round([each.validation_score_ for each in fits], case)
        out = torch.full((case.rows.rows, case.classes or 1), torch.nan, dtype=torch.float64)
        found = []
        for fitted, held in zip(fits, case.parts(), strict=True):
            trees = checked(self, fitted, design, case.rows.x.take(torch.as_tensor(~held)))
            assert isinstance(trees, Trees)
            found.append(trees.keep(min(rounds, fitted.n_iter_)))
            out[torch.as_tensor(held)] = found[-1].of_table(torch.as_tensor(table[held]))
        return Folded(_mean(found), out)

    def _stopped(self, case: Case, table: np.ndarray, held: np.ndarray) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        classes = case.classes is not None
        boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        y = case.rows.y.value.numpy().astype(np.int64 if classes else np.float64)
        return boosting(
            max_iter=FOLD_ROUNDS,
            learning_rate=FOLD_RATE,
            max_leaf_nodes=int(np.clip(len(y) ** 0.5 / 5, MIN_LEAVES, MAX_LEAVES)),
            min_samples_leaf=LEAF_ROWS,
            early_stopping=True,
            n_iter_no_change=PATIENCE_ROUNDS,
            random_state=case.seed,
        ).fit(
            table[~held],
            y[~held],
            **_weights(case.weight.numpy(), held),
            X_val=table[held],
            y_val=y[held],
        )

    def fit(self, case: Case) -> Scorer:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        classes = case.classes is not None
        boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        estimator = boosting(
            max_iter=200, learning_rate=0.08, early_stopping=False, random_state=case.seed
        )
        return fit_estimator(self, estimator, case)

    def convert(self, estimator: Any, design: Design) -> Scorer | None:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kinds = HistGradientBoostingClassifier | HistGradientBoostingRegressor
        return _trees(estimator, design) if isinstance(estimator, kinds) else None

    def table(self, design: Design, x: Event) -> np.ndarray:
        """Missing numbers are NaN."""
        return design.matrix(x, torch.nan).numpy()


def _weights(weight: np.ndarray, held: np.ndarray) -> dict[str, np.ndarray]:
    """Nothing where all are equal: scikit-learn bins weighted rows a hundred times slower."""
    if (weight == weight[0]).all():
        return {}
    return {"sample_weight": weight[~held], "sample_weight_val": weight[held]}


def _best_round(curves: list[Any], case: Case) -> int:
    """At which the folds together have the least loss, weighted by their rows; a fold that stopped
    before keeps its last value."""
    longest = max(map(len, curves))
    rows = [case.weight.numpy()[held].sum() for held in case.parts()]
    whole = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves]
    return max(1, int(np.argmax(np.average(whole, axis=0, weights=rows))))


def _mean(found: list[Trees]) -> Trees:
    """One scorer whose scores are the mean of those of several."""
    first = found[0]
    nodes = max(each.feature.shape[1] for each in found)
    count = sum(len(each.feature) for each in found)
    depth = max(each.depth for each in found)
    out = Trees(first.design.space, (count, nodes), first.outputs, depth)
    out.design.load_state_dict(first.design.state_dict())
    out.base.copy_(torch.stack([each.base for each in found]).mean(0))
    start = 0
    for each in found:
        trees, own = each.feature.shape
        place = (slice(start, start + trees), slice(0, own))
        for name in ("feature", "threshold", "missing_left", "branches"):
            getattr(out, name)[place] = getattr(each, name)
        out.leaf[place] = each.leaf / len(found)
        start += trees
    return out


def _trees(estimator: Any, design: Design) -> Trees:
    rounds = [[tree.nodes for tree in each] for each in estimator._predictors]
    binary = len(rounds[0]) == 1 and "classes_" in vars(estimator)
    flat = [
        tree
        for each in rounds
        for tree in ([np.zeros(1, dtype=each[0].dtype), *each] if binary else each)
    ]
    size = max(len(tree) for tree in flat)
    outputs = 2 if binary else len(rounds[0])
    trees = Trees(
        design.space, (len(flat), size), outputs, int(max(tree["depth"].max() for tree in flat))
    )
    trees.design.load_state_dict(design.state_dict())
    _write_trees(trees, flat)
    base = np.ravel(estimator._baseline_prediction)
    trees.base.copy_(torch.as_tensor(np.concatenate([[0.0], base]) if binary else base))
    return trees


def _write_trees(trees: Trees, flat: list[np.ndarray]) -> None:
    """Nodes of all trees at once. A leaf is its own child, so that every walk may take the same
    number of steps."""
    sizes = np.array([len(tree) for tree in flat])
    nodes = np.concatenate(flat)
    tree = np.repeat(np.arange(len(flat)), sizes)
    own = np.arange(len(nodes)) - np.repeat(sizes.cumsum() - sizes, sizes)
    leaf = (nodes["is_leaf"] == 1) | (np.repeat(sizes, sizes) == 1)
    place = (torch.as_tensor(tree), torch.as_tensor(own))
    inner = {
        "feature": np.where(leaf, 0, nodes["feature_idx"]),
        "threshold": np.where(leaf, 0.0, nodes["num_threshold"]),
        "missing_left": nodes["missing_go_to_left"] == 1,
        "leaf": nodes["value"],
    }
    for name, column in inner.items():
        buffer = getattr(trees, name)
        buffer[place] = torch.as_tensor(np.ascontiguousarray(column)).to(buffer.dtype)
    children = [np.where(leaf, own, nodes["left"]), np.where(leaf, own, nodes["right"])]
    trees.branches[place] = torch.as_tensor(np.stack(children, 1).astype(np.int64))

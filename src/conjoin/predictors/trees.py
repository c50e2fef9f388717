"""Gradient boosting of regression trees."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Pair, Space
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.predictors.base import Case, Design, Method, Scorer
from conjoin.predictors.conversion import fit_estimator

__all__ = ["BoostingMethod", "Trees"]

BLOCK_ROWS = 256  # that walk down all trees together


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
        return self.base + self.contributions(x).sum(1)

    @on_device
    def contributions(self, x: Event) -> Float[Tensor, "B I K"]:
        """What each boosting iteration adds. A block of rows at a time stays in the processor's
        cache."""
        table = self.design.matrix(x, missing=torch.nan)
        trees, nodes = self.feature.shape
        root = torch.arange(trees) * nodes
        children = (self.branches + root[:, None, None]).flatten()
        parts = [self._walk(block, root, children) for block in table.split(BLOCK_ROWS)]
        return torch.cat(parts).reshape(x.rows, -1, self.outputs)

    def _walk(
        self, table: Float[Tensor, "b F"], root: Tensor, children: Tensor
    ) -> Float[Tensor, "b T"]:
        """The leaves' values; nodes are numbered through all trees."""
        node = root.expand(len(table), -1)
        gaps = bool(table.isnan().any())
        for _ in range(self.depth):
            value = table.gather(1, self.feature.take(node))
            left = value <= self.threshold.take(node)
            if gaps:
                left |= value.isnan() & self.missing_left.take(node)
            node = children.take(2 * node + (~left).long())
        return self.leaf.take(node)

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
    stable = True

    def tried(self, case: Case) -> bool:
        return not (case.lent and case.pictures)

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
    for index, nodes in enumerate(flat):
        _write_tree(trees, index, nodes)
    base = np.ravel(estimator._baseline_prediction)
    trees.base.copy_(torch.as_tensor(np.concatenate([[0.0], base]) if binary else base))
    return trees


def _write_tree(trees: Trees, index: int, nodes: np.ndarray) -> None:
    """A leaf is its own child, so that every walk may take the same number of steps."""
    own = np.arange(len(nodes))
    leaf = (nodes["is_leaf"] == 1) | (len(nodes) == 1)
    inner = {
        "feature": np.where(leaf, 0, nodes["feature_idx"]),
        "threshold": np.where(leaf, 0.0, nodes["num_threshold"]),
        "missing_left": nodes["missing_go_to_left"] == 1,
        "leaf": nodes["value"],
    }
    for name, column in inner.items():
        getattr(trees, name)[index, : len(nodes)] = torch.as_tensor(
            np.ascontiguousarray(column)
        ).to(getattr(trees, name).dtype)
    children = np.stack(
        [np.where(leaf, own, nodes["left"]), np.where(leaf, own, nodes["right"])], 1
    )
    trees.branches[index, : len(nodes)] = torch.as_tensor(children.astype(np.int64))

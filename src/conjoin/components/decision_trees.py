"""Decision trees as columns of tensors, so that they are saved without pickle and walked together.

The nodes of several trees are numbered through all of them, each tree depth first: a left child is
the node after its parent, and a leaf is its own right child.

Shape letters: B rows, F features, N nodes of all trees, T trees.

>>> feature = torch.zeros(3, dtype=torch.int32)  # one split, at 0.5
>>> threshold = torch.tensor([0.5, -torch.inf, -torch.inf])
>>> right = torch.tensor([2, 1, 2], dtype=torch.int32)
>>> root = torch.zeros(1, dtype=torch.int32)
>>> descend(torch.tensor([[0.0], [1.0]]), feature, threshold, right, root).tolist()
[[1], [2]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core.shapes import Float, Int
from conjoin.util.memo import TensorMemo

__all__ = ["Walks", "descend", "inner_layers", "node_columns", "roots_of", "write_nodes"]

BLOCK_ROWS = 512  # that walk down all trees together
MIN_COMPILED_WALKS = 50_000  # rows times trees after which scikit-learn's trees are worth making


@dataclass
class _WalkState:
    """How many walks down some trees were asked for so far, and their compiled form, once made."""

    walks: int = 0
    compiled: list[Any] | None = None


class Walks:
    """``descend`` down the same trees, batch after batch. From ``MIN_COMPILED_WALKS`` walks on they
    are kept in the form of scikit-learn's, whose walks are compiled."""

    def __init__(self) -> None:
        self._states = TensorMemo[_WalkState]()

    def __call__(
        self,
        table: Float[Tensor, "B F"],
        feature: Int[Tensor, " N"],
        threshold: Float[Tensor, " N"],
        right: Int[Tensor, " N"],
        root: Int[Tensor, " T"],
    ) -> Int[Tensor, "B T"]:
        state = self._states.of((feature, threshold, right, root), _WalkState)
        state.walks += len(table) * len(root)
        if state.walks < MIN_COMPILED_WALKS or not root.is_cpu:
            blocks = table.split(BLOCK_ROWS)  # which stay in the cache
            return torch.cat([descend(each, feature, threshold, right, root) for each in blocks])
        if state.compiled is None:
            state.compiled = _compiled(feature, threshold, right, root)
        return _walked(table.numpy(), state.compiled, root.numpy())


def _walked(table: np.ndarray, trees: list[Any], root: np.ndarray) -> Int[Tensor, "B T"]:
    """In the order of one tree's leaves, as rows that are alike go the same ways."""
    order = trees[0].apply(table).argsort(kind="stable")
    rows = table[order]
    starts = root.astype(np.int64).tolist()
    ends = [start + tree.apply(rows) for start, tree in zip(starts, trees, strict=True)]
    out = np.empty((len(table), len(trees)), dtype=np.int64)
    out[order] = np.stack(ends).T
    return torch.as_tensor(out)


def _compiled(feature: Tensor, threshold: Tensor, right: Tensor, root: Tensor) -> list[Any]:
    """The trees in the form that scikit-learn saves its own in."""
    from sklearn.tree._tree import NODE_DTYPE, Tree

    starts = root.numpy().astype(np.int64)
    sizes = np.diff(starts, append=len(feature))
    first = np.repeat(starts, sizes)
    own = np.arange(len(feature))
    inner = right.numpy() != own
    nodes = np.zeros(len(feature), NODE_DTYPE)
    nodes["left_child"] = np.where(inner, own + 1 - first, -1)
    nodes["right_child"] = np.where(inner, right.numpy() - first, -1)
    nodes["feature"] = feature.numpy()
    nodes["threshold"] = threshold.numpy()
    one = np.ones(1, dtype=np.intp)
    columns = int(feature.max()) + 1
    trees = []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        tree = Tree(columns, one, 1)
        part = nodes[start : start + size]
        value = np.zeros((size, 1, 1))
        tree.__setstate__({"max_depth": 1, "node_count": size, "nodes": part, "values": value})
        trees.append(tree)
    return trees


def descend(
    table: Float[Tensor, "B F"],
    feature: Int[Tensor, " N"],
    threshold: Float[Tensor, " N"],
    right: Int[Tensor, " N"],
    root: Int[Tensor, " T"],
) -> Int[Tensor, "B T"]:
    """The leaf of each tree where each row arrives; a row that has arrived in a tree walks no
    further there."""
    feature = feature.long()
    right = right.long()
    cells = table.reshape(-1)
    node = root.long().repeat(len(table))
    first = (torch.arange(len(table)) * table.shape[1]).repeat_interleave(len(root))
    walking = torch.arange(len(node))
    at = node.clone()
    while len(walking):
        value = cells.index_select(0, first + feature.index_select(0, at))
        left = value <= threshold.index_select(0, at)
        after = torch.where(left, at + 1, right.index_select(0, at))
        node[walking] = after
        goes = (after != at).nonzero()[:, 0]
        at = after.index_select(0, goes)
        first = first.index_select(0, goes)
        walking = walking.index_select(0, goes)
    return node.reshape(len(table), len(root))


def inner_layers(right: Int[Tensor, " N"], root: Int[Tensor, " T"]) -> list[Int[Tensor, " M"]]:
    """The nodes that have children, by their depth."""
    right = right.long()
    layer = root.long()
    out = []
    while len(layer := layer[right[layer] != layer]):
        out.append(layer)
        layer = torch.cat([layer + 1, right[layer]])
    return out


def roots_of(trees: list[Any]) -> list[int]:
    """The first node of each of scikit-learn's trees, where all of them are numbered through."""
    counts = np.array([tree.node_count for tree in trees])
    found: list[int] = (np.cumsum(counts) - counts).tolist()
    return found


def node_columns(tree: Any, start: int) -> dict[str, np.ndarray]:
    """``feature``, ``threshold`` and ``right`` of the nodes of one of scikit-learn's trees, which
    are numbered from ``start``. The threshold of a leaf is under every number."""
    inner = tree.children_left >= 0
    own = np.arange(tree.node_count)
    assert (tree.children_left[inner] == own[inner] + 1).all()
    # features are float32: the largest of them at most the threshold decides alike
    near = tree.threshold.astype(np.float32)
    below = np.where(near > tree.threshold, np.nextafter(near, np.float32(-np.inf)), near)
    return {
        "feature": np.where(inner, tree.feature, 0),
        "threshold": np.where(inner, below, -np.inf),
        "right": start + np.where(inner, tree.children_right, own),
    }


def write_nodes(holder: Any, start: int, columns: Mapping[str, np.ndarray]) -> None:
    """Write the columns of a tree's nodes, the first of which is ``start``, into the tensors of
    ``holder`` that have their names."""
    for name, column in columns.items():
        own: Tensor = getattr(holder, name)
        own[start : start + len(column)] = torch.as_tensor(np.ascontiguousarray(column)).to(own)

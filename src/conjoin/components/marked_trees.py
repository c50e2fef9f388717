"""Where rows arrive in many small trees, by marks in place of walks.

Each inner node whose question a row answers with "right" strikes out the leaves on its left; the
first leaf that is left is where the row arrives. The order of the nodes does not matter, so that
all trees and many rows are done with a few operations on whole arrays (C. Lucchese et al. (2015),
QuickScorer, section 3).

Shape letters: B rows, F features, N nodes of a tree, T trees.

>>> column = torch.zeros(1, 3, dtype=torch.long)
>>> branches = torch.tensor([[[1, 2], [1, 1], [2, 2]]])  # a root and two leaves
>>> nodes = Nodes(column, torch.full((1, 3), 0.5), column.bool(), branches)
>>> arrivals(torch.tensor([[0.0], [1.0]]), nodes).tolist()
[[1], [2]]
"""

from typing import NamedTuple

import torch
from torch import Tensor

from conjoin.core.shapes import Bool, Float, Int

__all__ = ["MAX_LEAVES", "Nodes", "arrivals"]

MAX_LEAVES = 31  # of a tree: one bit each of a number of 32 bits with a sign
BLOCK_CELLS = 1 << 18  # rows times trees that are done at once, so that they stay in the cache
MANTISSA_BITS = 23  # of a float32
EXPONENT_BIAS = 127


class Nodes(NamedTuple):
    """Nodes of trees, the root first; a leaf is its own child. The left child is for values of at
    most the threshold, and where ``missing_left`` for missing ones (NaN)."""

    feature: Int[Tensor, "T N"]
    threshold: Float[Tensor, "T N"]
    missing_left: Bool[Tensor, "T N"]
    branches: Int[Tensor, "T N 2"]


class _Questions(NamedTuple):
    """The inner nodes of all trees, one of each tree in each of S slots; where a tree has fewer, a
    question that everything answers with "left"."""

    column: Int[Tensor, "S T"]
    threshold: Float[Tensor, "S T"]
    kept: Int[Tensor, "S T"]  # the leaves that are left if the answer is "right"


def arrivals(table: Float[Tensor, "B F"], nodes: Nodes) -> Int[Tensor, "B T"]:
    """The leaf of each tree, which has ``MAX_LEAVES`` at most, where each row arrives."""
    trees = len(nodes.feature)
    questions, leaf = _marked(nodes, table.shape[1])
    rows = max(1, BLOCK_CELLS // max(trees, 1))
    parts = [leaf.take(_first_left(block, questions).T) for block in table.split(rows)]
    return torch.cat(parts)


def _first_left(table: Float[Tensor, "b F"], questions: _Questions) -> Int[Tensor, "T b"]:
    """The place of the first leaf that is left, among those of all trees."""
    low = torch.where(table.isnan(), -torch.inf, table)  # missing cells go left
    seen = torch.cat([table, low], 1).T.contiguous()
    trees = questions.column.shape[1]
    left = torch.full((trees, len(table)), (1 << MAX_LEAVES) - 1, dtype=torch.int32)
    every = torch.tensor(-1, dtype=torch.int32)
    for column, threshold, kept in zip(*questions, strict=True):
        goes_left = seen.index_select(0, column) <= threshold[:, None]
        left &= torch.where(goes_left, every, kept[:, None])
    lowest = (left & -left).float()  # a power of two, whose exponent is the place
    place = (lowest.view(torch.int32) >> MANTISSA_BITS) - EXPONENT_BIAS
    return place.long() + MAX_LEAVES * torch.arange(trees)[:, None]


def _marked(nodes: Nodes, columns: int) -> tuple[_Questions, Int[Tensor, " L"]]:
    """The questions, and the leaf of each place of each tree; ``columns`` of a table are followed
    by the same with missing cells under every number."""
    trees, count = nodes.feature.shape
    root = torch.arange(trees) * count
    children = (nodes.branches + root[:, None, None]).reshape(-1, 2)
    layers = _layers(children, root)
    under, first = _leaves_under(children, layers)
    inner = torch.cat(layers).sort().values
    tree = inner // count
    slot = torch.arange(len(inner)) - torch.searchsorted(tree, tree)
    shape = (int(torch.bincount(tree, minlength=1).max()), trees)
    column = torch.zeros(shape, dtype=torch.long)
    threshold = torch.full(shape, torch.inf, dtype=nodes.threshold.dtype)
    kept = torch.full(shape, -1, dtype=torch.int32)
    missing_left = nodes.missing_left.flatten()[inner]
    column[slot, tree] = nodes.feature.flatten()[inner].long() + columns * missing_left
    threshold[slot, tree] = nodes.threshold.flatten()[inner]
    kept[slot, tree] = (~(((1 << under[children[inner, 0]]) - 1) << first[inner])).int()
    leaf = torch.zeros(trees * MAX_LEAVES, dtype=torch.long)
    ends = torch.cat([root, children[inner].flatten()])
    ends = ends[children[ends, 0] == ends]
    leaf[first[ends] + MAX_LEAVES * (ends // count)] = ends
    return _Questions(column, threshold, kept), leaf


def _layers(children: Int[Tensor, "M 2"], root: Int[Tensor, " T"]) -> list[Int[Tensor, " m"]]:
    """The inner nodes by their depth."""
    layer = root
    out = []
    while len(layer := layer[children[layer, 0] != layer]):
        out.append(layer)
        layer = children[layer].flatten()
    return out or [root[:0]]


def _leaves_under(
    children: Int[Tensor, "M 2"], layers: list[Int[Tensor, " m"]]
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """How many leaves are under each node, and how many of its tree stand before them."""
    under = torch.ones(len(children), dtype=torch.long)
    for layer in reversed(layers):
        under[layer] = under[children[layer]].sum(1)
    first = torch.zeros(len(children), dtype=torch.long)
    for layer in layers:
        left, right = children[layer].unbind(1)
        first[left] = first[layer]
        first[right] = first[layer] + under[left]
    return under, first

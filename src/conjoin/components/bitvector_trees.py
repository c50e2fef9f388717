"""Where rows arrive in many small trees, by bit vectors in place of walks.

Each inner node whose question a row answers with "right" strikes out the leaves on its left; the
first leaf that is left is where the row arrives (C. Lucchese et al. (2015), QuickScorer, section
3). The order of the nodes does not matter, so that what all questions about one column strike out
in all trees is one look-up by the value's place among their thresholds.

Shape letters: A trees of more than a root, B rows, F features, N nodes of a tree, T trees.

>>> column = torch.zeros(1, 3, dtype=torch.long)
>>> branches = torch.tensor([[[1, 2], [1, 1], [2, 2]]])  # a root and two leaves
>>> nodes = Nodes(column, torch.full((1, 3), 0.5), column.bool(), branches)
>>> arrivals(torch.tensor([[0.0], [1.0]]), nodes).tolist()
[[1], [2]]
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from conjoin.core.shapes import Bool, Float, Int

__all__ = ["MAX_LEAVES", "Bitvectors", "Nodes", "arrivals", "bitvectors", "values_at"]

MAX_LEAVES = 31  # of a tree: one bit each of a number of 32 bits with a sign
BLOCK_CELLS = 1 << 17  # rows times trees that are done at once, so that they stay in the cache
DENSE = 3  # a column that one in so many trees asks about is looked up for all of them
MANTISSA_BITS = 23  # of a float32
EXPONENT_BIAS = 127


class Nodes(NamedTuple):
    """Nodes of trees, the root first; a leaf is its own child. The left child is for values of at
    most the threshold, and where ``missing_left`` for missing ones (NaN)."""

    feature: Int[Tensor, "T N"]
    threshold: Float[Tensor, "T N"]
    missing_left: Bool[Tensor, "T N"]
    branches: Int[Tensor, "T N 2"]


class _Column(NamedTuple):
    """What the questions about one column, or about the indicators of one category, strike out, in
    all trees at once."""

    first: int  # the column, or the first of the indicators
    levels: int  # of a category, each with an indicator; 0: a number
    edges: Float[Tensor, " E"]  # thresholds of a number, ascending
    trees: Int[Tensor, " t"] | None  # that ask about it; None: so many that all are listed
    kept: Int[Tensor, "M t"]  # leaves left, by the place of a value


class Bitvectors(NamedTuple):
    """Trees of more than a root, and the leaf of each place of each of them."""

    trees: Int[Tensor, " A"]
    columns: list[_Column]
    leaf: Int[Tensor, " L"]


def arrivals(table: Float[Tensor, "B F"], nodes: Nodes) -> Int[Tensor, "B T"]:
    """The leaf of each tree, which has ``MAX_LEAVES`` at most, where each row arrives."""
    trees, count = nodes.feature.shape
    bits = bitvectors(nodes, table.isnan().any(0).tolist())
    roots = torch.arange(trees) * count
    blocks = list(values_at(table, bits, bits.leaf, roots))
    return torch.cat(blocks) if blocks else roots.expand(len(table), -1)


def values_at(
    table: Float[Tensor, "B F"], bits: Bitvectors, of_leaf: Tensor, of_root: Tensor
) -> Iterator[Tensor]:
    """(b, T) for a block of rows after the other, what ``of_leaf`` has of the leaf where each row
    arrives, in the order of ``bits.leaf``; ``of_root`` (T,) of trees that are a root alone."""
    places = [_places(table, column) for column in bits.columns]
    step = max(1, BLOCK_CELLS // max(1, len(bits.trees)))
    starts = range(0, len(table), step)
    for at in starts:
        rows = min(step, len(table) - at)
        out = of_root.expand(rows, -1)
        if len(bits.trees):
            left = _first_left(bits, [each[at : at + step] for each in places])
            found = of_leaf.take(left)
            out = found if len(bits.trees) == len(of_root) else _put(out, bits.trees, found)
        yield out


def _put(out: Tensor, trees: Int[Tensor, " A"], found: Tensor) -> Tensor:
    """``out`` with the columns that are found; every other column where they are so."""
    every = trees[1] - trees[0] if len(trees) > 1 else 1
    if torch.equal(trees, torch.arange(int(trees[0]), out.shape[1], int(every))):
        out = out.clone()
        out[:, int(trees[0]) :: int(every)] = found
        return out
    return out.index_copy(1, trees, found)


def _places(table: Float[Tensor, "B F"], column: _Column) -> Int[Tensor, " B"]:
    """Of a number: how many of the edges it is above; one more where it is missing. Of a category:
    the place of its level among the indicators, from 1; 0 where it has none."""
    if column.levels:
        numbers = torch.arange(1, column.levels + 1, dtype=table.dtype)
        return (table[:, column.first : column.first + column.levels] @ numbers).long()
    value = table[:, column.first].contiguous()
    above = torch.searchsorted(column.edges, value)
    return torch.where(value.isnan(), len(column.edges) + 1, above)


def _first_left(bits: Bitvectors, places: list[Int[Tensor, " b"]]) -> Int[Tensor, "b A"]:
    """The place of the first leaf that is left, among those of all trees."""
    whole = (1 << MAX_LEAVES) - 1
    left = torch.full((len(places[0]), len(bits.trees)), whole, dtype=torch.int32)
    each = list(zip(bits.columns, places, strict=True))
    for column, place in each:
        if column.trees is None:
            left &= column.kept.index_select(0, place)
    some = [(column, place) for column, place in each if column.trees is not None]
    if some:
        by_tree = left.T.contiguous()
        for column, place in some:
            assert column.trees is not None
            kept = by_tree.index_select(0, column.trees) & _kept(column, place)
            by_tree.index_copy_(0, column.trees, kept)
        left = by_tree.T
    lowest = (left & -left).float()  # a power of two, whose exponent is the place
    exponent = (lowest.view(torch.int32) >> MANTISSA_BITS) - EXPONENT_BIAS
    return exponent.long() + MAX_LEAVES * torch.arange(left.shape[1])


def _kept(column: _Column, place: Int[Tensor, " b"]) -> Int[Tensor, "t b"]:
    if len(column.kept) == 2:  # one question: quicker than a look-up
        below, above = column.kept[..., None]
        return torch.where(place.bool(), above, below)
    return column.kept.index_select(0, place).T


def bitvectors(
    nodes: Nodes, gaps: Sequence[bool], indicators: Sequence[tuple[int, int]] = ()
) -> Bitvectors:
    """``gaps``: in which columns of the table a cell is missing. ``indicators``: the first column
    and the number of those of which at most one is 1 and the others are 0, as the levels of a
    category have them."""
    some = (nodes.branches[:, 0, 0] != 0).nonzero()[:, 0]
    feature, threshold, missing_left, branches = (each[some] for each in nodes)
    trees, count = feature.shape
    root = torch.arange(trees) * count
    children = (branches + root[:, None, None]).reshape(-1, 2)
    layers = _layers(children, root)
    under, first = _leaves_under(children, layers)
    inner = torch.cat(layers).sort().values
    tree = inner // count
    leaf = torch.zeros(trees * MAX_LEAVES, dtype=torch.long)
    ends = children[inner].flatten()
    ends = ends[children[ends, 0] == ends]
    own = some[ends // count] * nodes.feature.shape[1] + ends % count
    leaf[first[ends] + MAX_LEAVES * (ends // count)] = own
    kept = (~(((1 << under[children[inner, 0]]) - 1) << first[inner])).int()
    asked = feature.flatten()[inner].long()
    value = threshold.flatten()[inner]
    stays = missing_left.flatten()[inner]
    by_column = asked.argsort(stable=True).split(
        torch.bincount(asked, minlength=len(gaps)).tolist()
    )
    columns = []
    grouped = set()
    for start, size in indicators:
        own = torch.cat(by_column[start : start + size])
        if len(own) and bool(((value[own] >= 0) & (value[own] < 1)).all()):
            level = asked[own] - start
            columns.append(_category(start, size, level, tree[own], kept[own], trees))
            grouped |= set(range(start, start + size))
    for index, own in enumerate(by_column):
        if len(own) and index not in grouped:
            struck = torch.where(stays[own], -1, kept[own]) if gaps[index] else None
            columns.append(_column(index, value[own], tree[own], kept[own], struck, trees))
    return Bitvectors(some, columns, leaf)


def _category(
    start: int,
    size: int,
    level: Int[Tensor, " Q"],
    tree: Int[Tensor, " Q"],
    kept: Int[Tensor, " Q"],
    count: int,
) -> _Column:
    """Of all questions about its indicators: only that of a row's own level sends it right."""
    trees, place = _listed(tree, count)
    width = count if trees is None else len(trees)
    table = _struck(level + 1, place, kept, (size + 1, width))
    return _Column(start, size, torch.zeros(0), trees, table)


def _listed(
    tree: Int[Tensor, " Q"], count: int
) -> tuple[Int[Tensor, " t"] | None, Int[Tensor, " Q"]]:
    """The trees that ask, None where they are so many of the ``count`` that all are listed; and the
    place among them of the tree of each question."""
    trees, place = tree.unique(return_inverse=True)
    return (None, tree) if DENSE * len(trees) > count else (trees, place)


def _column(
    index: int,
    threshold: Float[Tensor, " Q"],
    tree: Int[Tensor, " Q"],
    kept: Int[Tensor, " Q"],
    if_missing: Int[Tensor, " Q"] | None,
    count: int,
) -> _Column:
    """Of all questions about it. ``if_missing``: the leaves left of a missing cell, if any is."""
    edges, edge = threshold.unique(return_inverse=True)
    trees, place = _listed(tree, count)
    width = count if trees is None else len(trees)
    table = _struck(edge + 1, place, kept, (len(edges) + 1, width))
    step = 1
    while step < len(table):  # what is left by all questions up to each row
        table[step:] = table[step:] & table[:-step]
        step *= 2
    if if_missing is not None:
        last = _struck(torch.zeros_like(edge), place, if_missing, (1, width))
        table = torch.cat([table, last])
    return _Column(index, 0, edges, trees, table)


def _struck(
    row: Int[Tensor, " Q"],
    place: Int[Tensor, " Q"],
    kept: Int[Tensor, " Q"],
    shape: tuple[int, int],
) -> Int[Tensor, "M t"]:
    """What is left by the questions of each row."""
    out = torch.full(shape, -1, dtype=torch.int32)
    cells = out.view(-1)
    at = row * shape[1] + place
    while len(at):  # of the questions of one cell, the first
        ranked, order = at.sort(stable=True)
        fresh = torch.ones_like(ranked, dtype=torch.bool)
        fresh[1:] = ranked[1:] != ranked[:-1]
        now = order[fresh]
        cells[at[now]] &= kept[now]
        at = at[order[~fresh]]
        kept = kept[order[~fresh]]
    return out


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

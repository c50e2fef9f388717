r"""p(y | x) of a number by the leaves of trees: what y was in the rows that share a leaf with x.

    p(y | x) = sum_k p(k | x) u_k(y)
    p(k | x) = (1 - e) mean_{trees} n_{leaf, k} / n_leaf + e p(k)

k counts bins of y, and u_k spreads evenly over one. Bins hold about equally many rows; a value that
recurs often has one of its own. N. Meinshausen (2006), Quantile regression forests, equation 5,
with extremely randomised trees, and with bins in place of rows: a leaf keeps the numbers of the
bins of its rows alone.

Shape letters: B rows, K bins, N nodes of all trees, R rows of all leaves, T trees.
"""

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
from conjoin.core import Event, Space, categorical
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float, Int
from conjoin.joints.hybrid import Predictor
from conjoin.predictors.base import Case, Design, Scorer, Spread
from conjoin.predictors.stacking import class_shares, prior_share
from conjoin.util.budget import all_in_time

__all__ = ["Binned", "Leaves", "spread_of_leaves"]

BINS = 64  # of y at most
LEAF_ROWS = (2, 5, 10, 20, 40)  # at least: the folds choose
MAX_LEAVES = 4_000  # of a tree, about
STEPS = 9  # of the distribution function of y that trees split by
TREES = 50
TREES_A_FOLD = 20
NOWHERE = -690.0  # log p of a number beyond all bins: about the least that exp can tell from 0


class Leaves(Scorer):
    """log p of the bins of y. Nodes are numbered through all trees, as ``Forest`` has them; the
    rows of a leaf follow each other."""

    kind = "leaves"

    feature: Tensor
    threshold: Tensor
    right: Tensor
    root: Tensor
    start: Tensor
    rows: Tensor
    bin: Tensor
    marginal: Tensor
    share: Tensor

    def __init__(self, space: Space, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.design = Design(space)
        self._walks = Walks()
        nodes, trees, rows = shape
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(nodes, dtype=torch.float32))
        self.register_buffer("right", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("root", torch.zeros(trees, dtype=torch.int32))
        self.register_buffer("start", torch.zeros(nodes, dtype=torch.int32))  # of a node's rows
        self.register_buffer("rows", torch.zeros(nodes, dtype=torch.int32))  # how many
        self.register_buffer("bin", torch.zeros(rows, dtype=torch.uint8))
        self.register_buffer("marginal", torch.full((outputs,), 1 / outputs, dtype=torch.float64))
        self.register_buffer("share", torch.tensor(0.5, dtype=torch.float64))  # e, of the marginal

    @property
    def shapes(self) -> dict[str, Any]:
        shape = [len(self.feature), len(self.root), len(self.bin)]
        return {"shape": shape, "outputs": len(self.marginal)}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.design.covers(x)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        shares = self.shares(self.design.matrix(x).float())
        return ((1 - self.share) * shares + self.share * self.marginal).log()

    def stop(self, rows: int) -> None:
        """Make leaves of the nodes of which a child has fewer rows."""
        own = torch.arange(len(self.right))
        right = self.right.long()
        inner = right != own
        left = (own + 1).clamp_max(len(own) - 1)
        small = inner & ((self.rows[left] < rows) | (self.rows[right] < rows))
        self.right[small] = own[small].to(self.right.dtype)
        self.threshold[small] = -torch.inf

    def shares(self, table: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Of the bins among the rows of the leaves, each tree counted once."""
        nodes = self._walks(table, self.feature, self.threshold, self.right, self.root)
        return torch.cat([self._shares(block) for block in nodes.split(BLOCK_ROWS)])

    def _shares(self, node: Int[Tensor, "b T"]) -> Float[Tensor, "b K"]:
        count = self.rows[node].long().flatten()
        row = torch.arange(len(node)).repeat_interleave(node.shape[1])
        place = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
        bins = self.bin[place + self.start[node].long().flatten().repeat_interleave(count)].long()
        cells = row.repeat_interleave(count) * len(self.marginal) + bins
        weight = (1 / count.double()).repeat_interleave(count) / node.shape[1]
        out = torch.zeros(len(node) * len(self.marginal), dtype=torch.float64)
        return out.index_add(0, cells, weight).reshape(len(node), -1)


class Binned(Predictor):
    """p(y | x) for numbers, from log p of bins of y. With a recorded precision ``width`` the value
    is a cell's mass, else a density."""

    edges: Tensor

    def __init__(self, scorer: Scorer, bins: int, width: float = 0.0) -> None:
        super().__init__()
        self.scorer = scorer
        self.width = width
        self.register_buffer("edges", torch.arange(bins + 1, dtype=torch.float64))

    @on_device
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.log_prob_of(self.scorer.scores(x), y)

    def log_prob_of(
        self, log_p: Float[Tensor, "B K"], y: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B C"]:
        """Of C candidates, where log p of the bins is known."""
        if not self.width:
            inside = (y >= self.edges[0]) & (y < self.edges[-1])
            place = self.bin_of(y)
            return torch.where(
                inside, log_p.gather(1, place) - self.edges.diff().log()[place], NOWHERE
            )
        below = torch.nn.functional.pad(log_p.exp().cumsum(1), (1, 0))
        ends = [self._cdf(below, y + half) for half in (self.width / 2, -self.width / 2)]
        return (ends[0] - ends[1]).clamp_min(1e-300).log()

    def _cdf(self, below: Float[Tensor, "B E"], y: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Linear between the edges of the bins, where it is ``below``."""
        place = self.bin_of(y)
        low = self.edges[place]
        share = ((y - low) / (self.edges[place + 1] - low)).clamp(0, 1)
        return torch.lerp(below.gather(1, place), below.gather(1, place + 1), share)

    def bin_of(self, y: Tensor) -> Tensor:
        """Numbers beyond all bins count to the nearest."""
        last = len(self.edges) - 2
        return (torch.searchsorted(self.edges, y.contiguous(), right=True) - 1).clamp(0, last)

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.scorer.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        log_p = self.scorer.scores(x)
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        if generator is None:
            return log_p.exp() @ middle / log_p.exp().sum(1)
        pick = categorical(log_p, generator)
        along = torch.rand(x.rows, generator=generator, dtype=torch.float64) - 0.5
        return middle[pick] + along * self.edges.diff()[pick]

    def describe(self) -> dict[str, Any]:
        bins = {"bins": len(self.edges) - 1, "width": self.width}
        return self.scorer.describe() | {"binned": bins}


def spread_of_leaves(case: Case, width: float) -> Spread | None:
    """Learned fold by fold from the labelled rows; None where no fold holds a row out, or all y are
    the same."""
    if len(case.rows.y.value.unique()) < 2:
        return None
    design, crossed = case.designs()
    table = crossed.matrix(case.rows.x).numpy().astype(np.float32)
    y = case.rows.y.value
    weight = case.weight.numpy()
    edges = _edges(y.numpy(), width)
    bins = len(edges) - 1
    kept = Binned(Leaves(case.space, (0, 0, 0), bins), bins, width)
    kept.edges.copy_(torch.as_tensor(edges))
    code = kept.bin_of(y).numpy()
    learned = (table, y.numpy(), code, weight)
    least = -(-len(y) // MAX_LEAVES)
    sizes = [rows for rows in LEAF_ROWS if rows >= least] or [least]
    shares = torch.full((len(sizes), len(y), bins), torch.nan, dtype=torch.float64)
    for held in all_in_time(case.parts()):
        own = tuple(each[~held] for each in learned)
        leaves = _leaves(case, TREES_A_FOLD, sizes[0], design, own, bins)
        for place, rows in enumerate(sizes):
            leaves.stop(rows)
            shares[place, torch.as_tensor(held)] = leaves.shares(torch.as_tensor(table[held]))
    judged = ~shares[0, :, 0].isnan()
    if not judged.any():
        return None
    marginal = torch.as_tensor(class_shares(code, weight, bins))
    log_p, share, rows = _best(shares, judged.numpy(), marginal, code, weight, sizes)
    kept.scorer = _leaves(case, TREES, rows, design, learned, bins)
    kept.scorer.marginal.copy_(marginal)
    kept.scorer.share.fill_(share)
    return Spread(kept, kept.log_prob_of(log_p, y[:, None])[:, 0])


def _best(
    shares: Tensor,
    judged: np.ndarray,
    marginal: Tensor,
    code: np.ndarray,
    weight: np.ndarray,
    sizes: list[int],
) -> tuple[Tensor, float, int]:
    """(B, K) log p of the bins, the share of the marginal and the least rows of a leaf that do best
    by (L, B, K) shares of rows that the trees have not seen."""
    found = []
    for each, rows in zip(shares, sizes, strict=True):
        own = each.numpy()[judged, code[judged]]
        prior = marginal.log().numpy()[code[judged]]
        share = prior_share(np.log(own.clip(1e-300)), prior, weight[judged])
        log_p = ((1 - share) * each + share * marginal).log()
        gain = float(weight[judged] @ log_p.numpy()[judged, code[judged]])
        found.append((gain, log_p, share, rows))
    return max(found, key=lambda each: each[0])[1:]


def _edges(y: np.ndarray, width: float) -> np.ndarray:
    """Bins of about equally many rows, between the numbers that occur; a number of more than two
    bins' rows lies in one alone."""
    values, counts = np.unique(y, return_counts=True)
    half = width / 2 or _half_gap(values)
    ends = np.concatenate([[values[0] - half], (values[1:] + values[:-1]) / 2, [values[-1] + half]])
    if len(values) > BINS:
        steps = np.floor(BINS * np.cumsum(counts) / counts.sum() - 1e-9)
        ends = ends[np.concatenate([[True], np.diff(steps) > 0, [True]])]
    if not width:
        return np.asarray(ends)
    between = np.concatenate([values[:-1] + half, values[1:] - half, [ends[0], ends[-1]]])
    near = between[np.abs(between[None] - ends[:, None]).argmin(1)]  # where a cell ends
    return np.unique(near)


def _half_gap(values: np.ndarray) -> float:
    """Half of a usual step between numbers."""
    return float(np.median(np.diff(values))) / 2 if len(values) > 1 else 0.5


def _below(y: np.ndarray) -> np.ndarray:
    """(B, ``STEPS``) whether y is at most each of some of its quantiles. Trees that split by the
    variance of these look at the whole distribution, not at its mean alone: their loss is a Brier
    score, and those add up to the continuous ranked probability score."""
    levels = np.arange(1, STEPS + 1) / (STEPS + 1)
    steps = np.unique(np.quantile(y, levels, method="lower"))
    below = (y[:, None] <= steps[steps < y.max()]).astype(float)
    return below if below.shape[1] > 1 else y


def _leaves(
    case: Case, count: int, rows: int, design: Design, learned: tuple[np.ndarray, ...], bins: int
) -> Leaves:
    """Trees of at least ``rows`` a leaf, of what is ``learned``: (table, y, bin, weight)."""
    from sklearn.ensemble import ExtraTreesRegressor

    table, y, code, weight = learned
    grown = ExtraTreesRegressor(
        count, max_features=1.0, min_samples_leaf=rows, random_state=case.seed
    ).fit(table, _below(y), sample_weight=weight)
    trees = [each.tree_ for each in grown.estimators_]
    out = Leaves(case.space, (sum(tree.node_count for tree in trees), count, count * len(y)), bins)
    out.design.load_state_dict(design.state_dict())
    roots = roots_of(trees)
    out.root.copy_(torch.as_tensor(roots))
    for number, (root, tree) in enumerate(zip(roots, trees, strict=True)):
        leaf = tree.apply(table)
        ended = np.bincount(leaf, minlength=tree.node_count)
        first = number * len(y)
        columns = node_columns(tree, root) | {
            "start": first
            + ended.cumsum()
            - ended,  # depth first: what lies under a node follows it
            "rows": tree.n_node_samples,
        }
        write_nodes(out, root, columns)
        sorted_bins = code[leaf.argsort(kind="stable")].astype(np.uint8)
        out.bin[first : first + len(y)] = torch.as_tensor(sorted_bins)
    return out

r"""Labels for rows that have none, where most have none: spread along a graph that joins each row
to the rows nearest to it.

    F = lim_t F_t,      F_{t+1} = a S F_t + (1 - a) Y,      S = D^(-1/2) W D^(-1/2)
    p(k | row) ~ q_k G_k / sum_rows G_k,      G_k = F_k / sum_k F_k

D. Zhou et al. (2004), Learning with local and global consistency, section 2, with their a = .99.
The iteration stops after ``PROPAGATION_STEPS`` steps: rows that no label has reached by then stay
unlabelled. Rows near each other in a dense part of p(x) get the same label. Few labels are enough
where classes are clusters; elsewhere the method misleads. So it is used only if it predicts
held-out labels better than logistic regression and boosting do; for tables, by more than a standard
error. If it predicts more than one in ten of an image's held-out labels wrong, it must also be
better than a network that is fitted to those labels. q are the shares of the classes among the
labels (X. Zhu, Z. Ghahramani and J. Lafferty (2003), Semi-supervised learning using Gaussian fields
and harmonic functions, section 4). W_ij = exp(-4 d_ij / d_i), d_ij the squared distance of
standardised columns (on their principal axes, where there are many) and d_i that of the last
neighbour. Of images, d is the least over small moves of one of the two (by a pixel, turned,
slanted): such moves keep the label.

Shape letters: B rows, M moves, C candidates and N neighbours of a row, A axes, K classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from conjoin.core import Event, Pair, Space, as_float, stream
from conjoin.core.event import concatenated, slices
from conjoin.nets.pictures import pictured
from conjoin.predictors.base import Design
from conjoin.predictors.convolutional import fit_convolutional
from conjoin.predictors.logistic import Folds, folds_of, rival

__all__ = ["Graph", "mostly_unlabelled", "moved", "propagate_labels"]

JSON = dict[str, Any]
PROPAGATION_WEIGHT = 0.99  # a: the weight of a row's neighbours against its own label
PROPAGATION_STEPS = 50
NEIGHBOURS = 10  # of each row
MAX_PAIRS = (
    4_000_000  # of rows, the nearest as they are, among which those nearest after a move are sought
)
MIN_CANDIDATES = 40  # of a row, at least
MAX_PRINCIPAL_AXES = 50  # of a table, among which distances are measured
MAX_GRAPH_ROWS = 60_000  # rows of a graph; further rows stay unlabelled
BLOCK_ROWS = 250  # rows whose distances are computed at once
DOUBTFUL_ERROR_RATE = (
    0.1  # share of an image's kept labels told wrong, from which a network is asked as well
)
# kept labels by which it is judged, and of how many folds at most, as it takes a while to learn
JUDGED_LABELS = 100
MAX_FOLDS = 2
TEMPERATURES = (1.0, 1.5, 2.0, 3.0)  # its temperatures
ADDED_SHARE = 0.02  # what is added to the share of a class, where it is judged by its log,
POWERS = (
    1,
    2,
    4,
    8,
    16,
    # after all shares were raised to the best of these: how flat they are says nothing of which is
    # the largest
)
SIDES = ((1, 0, 0, 0), (-1, 0, 0, 0), (0, 1, 0, 0), (0, -1, 0, 0))
# right, down, turn, slant of an image
MOVES = (
    *SIDES,
    (0, 0, 0.2, 0),
    (0, 0, -0.2, 0),
    (0, 0, 0, 0.25),
    (0, 0, 0, -0.25),
)


def mostly_unlabelled(known: Any) -> bool:
    """Whether there are labels, but for fewer than half of the rows."""
    return bool(0 < known.sum() < 0.5 * len(known))


def propagate_labels(
    parts: dict[str, Pair], space: Space, classes: int
) -> tuple[dict[str, Pair], JSON]:
    """The same rows with the labels that the others lend them, and facts for the model card; as
    they are, and no facts, where most rows have a label, or none has."""
    if not mostly_unlabelled(torch.cat([part.y.mask for part in parts.values()])):
        return parts, {}
    whole = _joined([part._replace(x=as_float(part.x)) for part in parts.values()])
    kept = (
        torch.cat([whole.y.mask.nonzero()[:, 0], (~whole.y.mask).nonzero()[:, 0]])[:MAX_GRAPH_ROWS]
        .sort()
        .values
    )
    rows = whole.take(kept)
    graph = Graph.of(rows.x, space)
    told = {"labelled": int(rows.y.mask.sum()), "spread_to": 0} | _tried(
        graph, rows, space, classes
    )
    if told["sure"] < (0 if _of_pictures(space) else 1):
        return parts, told
    share = graph.propagate(rows.y.value.long().numpy(), rows.y.mask.numpy(), classes)
    reached = torch.from_numpy(share.sum(1) > 0) & ~rows.y.mask
    value = whole.y.value.clone()
    mask = whole.y.mask.clone()
    value[kept[reached]] = torch.from_numpy(share.argmax(1)).double()[reached]
    mask[kept[reached]] = True
    ends = np.cumsum([0, *(part.rows for part in parts.values())])
    labels = [Event(value[start:end], mask[start:end]) for start, end in pairwise(ends)]
    told["spread_to"] = int(reached.sum())
    return {
        name: Pair(y, part.x) for (name, part), y in zip(parts.items(), labels, strict=True)
    }, told


def _joined(parts: list[Pair]) -> Pair:
    y = concatenated([part.y for part in parts])
    return Pair(y, concatenated([part.x for part in parts]))


def _tried(graph: "Graph", rows: Pair, space: Space, classes: int) -> JSON:
    """-log p of labels that were kept from it, a fold at a time, by propagation and by its rival;
    and by how much the former is the lower, in standard errors."""
    known = rows.y.mask.nonzero()[:, 0].numpy()
    codes = rows.y.value.long().numpy()
    folds = folds_of(codes[known])
    if not folds:
        return {"sure": -1.0}
    table = Design(space).fit(rows.x).matrix(rows.x.take(torch.from_numpy(known))).numpy()
    share = np.empty((len(known), classes))
    for learn, held in folds:
        seen = np.zeros(rows.rows, dtype=bool)
        seen[known[learn]] = True
        share[held] = graph.propagate(codes, seen, classes)[known[held]]
    sharper = [_normalised(share**power)[np.arange(len(known)), codes[known]] for power in POWERS]
    by_spread = max(
        (np.log((own + ADDED_SHARE) / (1 + classes * ADDED_SHARE)) for own in sharper), key=np.sum
    )
    by_rival = rival(table, codes[known], folds)
    wrong = share.argmax(1) != codes[known]
    told: JSON = {
        "loss_of_spread": -float(by_spread.mean()),
        "loss_of_rival": -float(by_rival.mean()),
        "sure": _sure(by_spread - by_rival),
    }
    if _of_pictures(space) and told["sure"] >= 0 and wrong.mean() > DOUBTFUL_ERROR_RATE:
        some = folds[: min(MAX_FOLDS, math.ceil(JUDGED_LABELS / len(folds[0][1])))]
        held = np.concatenate([each for _, each in some])
        by_network = _by_network(rows.take(torch.from_numpy(known)), some, space, classes)
        told |= {
            "loss_of_spread": -float(by_spread[held].mean()),
            "loss_of_rival": -float(by_network.mean()),
            "rival": "network",
        }
        told["sure"] = _sure(by_spread[held] - by_network)
    return told | {"error_of_spread": float(wrong.mean())}


def _sure(gain: np.ndarray) -> float:
    """By how many standard errors a gain in log p is above nothing."""
    return float(gain.mean() / max(gain.std() / len(gain) ** 0.5, 1e-12))


def _by_network(labelled: Pair, folds: Folds, space: Space, classes: int) -> np.ndarray:
    """log p of the labels of the folds by a network that learned from the others, at the
    temperature that does best."""
    each = []
    for learn, held in folds:
        rows, judged = (labelled.take(torch.from_numpy(part)) for part in (learn, held))
        network = fit_convolutional(
            space, rows, torch.ones(rows.rows, dtype=torch.float64), classes, stream(0, "rival")
        )
        with torch.no_grad():
            scores = torch.stack(
                [(network.scores(judged.x) / heat).log_softmax(1) for heat in TEMPERATURES]
            )
        each.append(scores[:, torch.arange(judged.rows), judged.y.value.long()])
    return np.asarray(max(torch.cat(each, 1).numpy(), key=np.sum))


# ---------------------------------------------------------------------------------------- the graph


@dataclass(frozen=True)
class Graph:
    """``step``: S, a sparse (B, B) matrix."""

    step: Any

    @classmethod
    def of(cls, x: Event, space: Space) -> "Graph":
        """Each row beside its nearest."""
        table = _axes(x, space)
        versions = [table(each) for each in moved(x, space)]
        near, gap = _nearest(versions, min(max(MIN_CANDIDATES, MAX_PAIRS // x.rows), x.rows - 1))
        few = np.argsort(gap, axis=1, kind="stable")[:, :NEIGHBOURS]
        near = np.take_along_axis(near, few, 1)
        gap = np.take_along_axis(gap, few, 1)
        weight = np.exp(-4 * gap / np.maximum(gap[:, -1:], 1e-12))
        first = np.repeat(np.arange(x.rows), near.shape[1])
        one_way = sparse.csr_matrix((weight.ravel(), (first, near.ravel())), (x.rows, x.rows))
        both = one_way.maximum(one_way.T)
        root = sparse.diags(np.maximum(np.asarray(both.sum(1)).ravel(), 1e-300) ** -0.5)
        return cls((root @ both @ root).tocsr())

    def propagate(self, codes: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
        """(B, K) p(class) of every row, by the labels ``codes`` of the rows that are ``known``;
        zero where none reaches."""
        labels = np.zeros((len(codes), classes))
        labels[np.flatnonzero(known), codes[known]] = 1
        share = self._walked(labels, PROPAGATION_WEIGHT)
        return _normalised(share * (1 + labels.sum(0)) / np.maximum(share.sum(0), 1e-300))

    def smooth(self, share: Tensor, reach: float) -> Tensor:
        """(B, K) p(class) of every row, from its own and those of the rows about it."""
        return torch.from_numpy(self._walked(share.numpy(), reach))

    def _walked(self, own: np.ndarray, reach: float) -> np.ndarray:
        """F after so many ``PROPAGATION_STEPS``, from Y; rows sum to one."""
        share = own
        for _ in range(PROPAGATION_STEPS):
            share = reach * (self.step @ share) + (1 - reach) * own
        return _normalised(share)


def _normalised(share: np.ndarray) -> np.ndarray:
    """Rows that sum to one, but for those of zeros."""
    return share / np.maximum(share.sum(1, keepdims=True), 1e-300)


def moved(x: Event, space: Space) -> Iterator[Event]:
    """The rows, and if they are images the same in each of the ``MOVES``; what comes in is zero."""
    yield x
    seen = pictured(space)
    if seen is None or not seen.alone:
        return
    for move in MOVES:
        gone = None if x.observed is None else _warped((~x.observed).double(), seen.shape, *move)
        yield Event(_warped(x.value, seen.shape, *move), None if gone is None else gone < 0.5)


def _of_pictures(space: Space) -> bool:
    """Whether the rows are pictures and nothing else."""
    seen = pictured(space)
    return seen is not None and seen.alone


def _warped(
    cells: Tensor, shape: tuple[int, ...], right: float, down: float, turn: float, slant: float
) -> Tensor:
    """Pixels from where an affine map takes them, between pixels by linear interpolation. ``right``
    and ``down`` in pixels."""
    grid = cells.double().unflatten(1, shape)
    height, width = shape[-2:]
    cos = math.cos(turn)
    sin = math.sin(turn)
    tall = height / width
    there = [[cos, (slant - sin) * tall, -2 * right / width], [sin / tall, cos, -2 * down / height]]
    places = torch.nn.functional.affine_grid(
        torch.tensor([there], dtype=grid.dtype), [1, *grid.shape[1:]], align_corners=False
    )
    places = places.expand(len(cells), *places.shape[1:])
    return torch.nn.functional.grid_sample(grid, places, align_corners=False).flatten(1)


def _axes(x: Event, space: Space) -> Callable[[Event], Tensor]:
    """What turns rows into (B, A) float32: columns of the same spread (an image's as they are),
    missing cells at the mean, on as many principal axes of the rows ``x``."""
    design = Design(space)
    table = design.matrix(x, torch.nan).numpy()
    table[:, np.isnan(table).all(0)] = 0.0
    mean = torch.from_numpy(np.nanmean(table, axis=0))
    scale = torch.ones((), dtype=torch.float64)
    if not _of_pictures(space):
        discrete = torch.tensor(
            [v.discrete for v in space.variables for _ in range(v.cardinality if v.discrete else 1)]
        )
        scale = torch.where(
            discrete, 1.0, torch.from_numpy(np.nanstd(table, axis=0)).clamp_min(1e-9)
        )

    def plain(event: Event) -> Tensor:
        return ((design.matrix(event, torch.nan) - mean) / scale).nan_to_num(0.0).float()

    if len(mean) <= MAX_PRINCIPAL_AXES:
        return plain
    centred = plain(x)
    _, axes = torch.linalg.eigh((centred.T @ centred).double())
    axes = axes[:, -MAX_PRINCIPAL_AXES:].float()
    return lambda event: plain(event) @ axes


def _nearest(versions: list[Tensor], count: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, C) the rows nearest to each as they are, and their squared distances, each the least over
    the versions of the former."""
    still = versions[0].numpy()
    square = np.square(still).sum(1)
    near = np.empty((len(still), count), dtype=np.int64)
    gap = np.empty((len(still), count))
    for block in slices(len(still), BLOCK_ROWS):
        apart = square[None] - 2 * still[block] @ still.T
        own = np.arange(len(apart))
        apart[own, block.start + own] = np.inf
        near[block] = np.argpartition(apart, count - 1, axis=1)[:, :count]
        there = still[near[block]]
        each = [np.square(version[block].numpy()[:, None] - there).sum(2) for version in versions]
        gap[block] = np.min(each, 0)
    return near, gap

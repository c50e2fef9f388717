r"""Rows with a wanted y, where log p(x) knows nothing of y: draws of p(x), chosen by p(y | x).

    p(x | y) = p(x) p(y | x) / p(y)

Draws of p(x) are proposals for all rows of a block at once, and each row takes one by its weight
p(y | x) (D. Rubin (1987), A noniterative sampling/importance resampling alternative), without
replacement as long as a tenth of its weight is left (A. Gelman et al. (2013), Bayesian data
analysis, section 10.4): so rows of one call are different, and approximate. More proposals are
drawn until the rows can be, and each is chosen from enough of them, or there are ``MAX_PER_ROW``
for each. The blocks keep the weights of rows and proposals small: ``BLOCK_ROWS`` rows have 34 MB.

Shape letters: B rows, M proposals, K candidates.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core import Event, Pair, categorical
from conjoin.core.shapes import Float
from conjoin.core.warnings import ColumnWarning
from conjoin.joints.base import Joint

__all__ = ["Chosen", "chosen_by", "log_labels"]

FIRST_PER_ROW = 8  # proposals for each row of the first round
MAX_PER_ROW = 64
MIN_PROPOSALS = 64
MIN_MAX_PROPOSALS = 1024
BLOCK_ROWS = 256  # that share their proposals, at most
MIN_EFFECTIVE = 10.0  # proposals that a row is chosen from, on average, before drawing ends
RARE_EFFECTIVE = 2.0  # under which the user is told
ENOUGH = 0.9  # share of the rows that would be different ones if they were drawn independently
LEFT = 0.1  # of a row's weight, below which a proposal may be taken again


class Chosen(NamedTuple):
    """Rows (B,) of x; the effective number of proposals that each was chosen from, on average; and
    how many proposals there were."""

    x: Event
    effective: float
    proposals: int


def chosen_by(
    weigh: Callable[[Event, slice], Float[Tensor, "B M"]],
    draw: Callable[[int], Event],
    stacked: Callable[[list[Event]], Event],
    rows: int,
    generator: torch.Generator | None,
) -> Chosen:
    """``weigh`` gives log p(y | x) of each y of a block of rows for some proposals, ``draw`` so
    many of these, ``stacked`` puts parts of them below one another. A ColumnWarning tells where
    hardly any proposal counts."""
    if not rows:
        return Chosen(draw(1).take(torch.zeros(0, dtype=torch.int64)), 0.0, 0)
    blocks = [
        _chosen(weigh, draw, stacked, slice(start, min(start + BLOCK_ROWS, rows)), generator)
        for start in range(0, rows, BLOCK_ROWS)
    ]
    effective = sum(block.effective * block.x.rows for block in blocks) / rows
    proposals = sum(block.proposals for block in blocks)
    if effective < RARE_EFFECTIVE:
        warnings.warn(
            f"What is asked is rare: each row was chosen among {blocks[0].proposals:,} draws, "
            f"{effective:.1f} of which count, so that rows are as near to it as these are, and may "
            "repeat.",
            ColumnWarning,
            stacklevel=6,
        )
    return Chosen(stacked([block.x for block in blocks]), effective, proposals)


def _chosen(
    weigh: Callable[[Event, slice], Float[Tensor, "B M"]],
    draw: Callable[[int], Event],
    stacked: Callable[[list[Event]], Event],
    block: slice,
    generator: torch.Generator | None,
) -> Chosen:
    rows = block.stop - block.start
    count = max(MIN_PROPOSALS, FIRST_PER_ROW * rows)
    most = max(MIN_MAX_PROPOSALS, MAX_PER_ROW * rows)
    parts: list[Event] = []
    weights: list[Tensor] = []
    total = 0
    while True:
        parts.append(draw(count))
        weights.append(weigh(parts[-1], block))
        total += count
        log_weight = torch.cat(weights, 1)
        share = log_weight.softmax(1)
        effective = float((1 / share.square().sum(1)).mean())
        different = float(share.sum(0).clamp_max(1).sum()) >= ENOUGH * rows
        if total >= most or (different and effective >= MIN_EFFECTIVE):
            break
        count = min(total, most - total)
    place = _without_replacement(log_weight, generator)
    return Chosen(stacked(parts).take(place), effective, total)


def _without_replacement(
    log_weight: Float[Tensor, "B M"], generator: torch.Generator | None
) -> Tensor:
    """(B,) the proposal of each row."""
    rows, proposals = log_weight.shape
    share = log_weight.softmax(1)
    free = torch.ones(proposals, dtype=torch.bool)
    out = torch.zeros(rows, dtype=torch.int64)
    for row in torch.randperm(rows, generator=generator).tolist():
        open_ = free if float(share[row][free].sum()) >= LEFT else torch.ones_like(free)
        logits = log_weight[row].masked_fill(~open_, -torch.inf)
        out[row] = categorical(logits, generator)
        free[out[row]] = False
    return out


def log_labels(
    base: Joint, predictor: Any, x: Event, candidates: Float[Tensor, " K"]
) -> Float[Tensor, "B K"]:
    """log p(y | x) of candidates by a ``predictor``, where it covers the row, else by a base that
    knows nothing of x; without log p(x)."""
    first = torch.zeros(len(candidates), dtype=torch.int64)
    own = base.log_label_given(Pair(Event(candidates), x.take(first)))[None]
    if predictor is None:
        return own.expand(x.rows, -1)
    found = predictor.log_prob(x, candidates.expand(x.rows, -1))
    return torch.where(predictor.covers(x)[:, None], found, own)

r"""Self-training: p(y | x) for a place where x looks different, from rows without labels.

    1. levels     l -> F_old^-1(F_new(l)), F_old^-1(1 - F_new(l)) or as they are: of each channel of
       pictures
    2. features   h -> m_old + s_old (h - m_new) / s_new
    3. answers    P = (1 - a) sum_t a^t S^t softmax(W h + b),   S a graph of near rows
    4. p(x) and p(y | x) are trained further on the new rows and the most certain of these answers,
       the same share of every class; then once more

1: the levels with the most mutual information H(mean_x p) - mean_x H(p) of y and x (J. Bridle, A.
Heading and D. MacKay (1992), Unsupervised classifiers, mutual information and phantom targets,
section 2), where F_old is that of the model's own draws. 2: Y. Li et al. (2016), Revisiting batch
normalization for practical domain adaptation, section 3. 3: D. Zhou et al. (2004), Learning with
local and global consistency, section 2. 4: Y. Zou et al. (2018), Unsupervised domain adaptation for
semantic segmentation via class-balanced self-training, section 4. No step uses a label of
the new rows, and nothing guarantees that the answers are right.

Shape letters: B rows, D cells of x, L levels, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, as_float
from conjoin.core.shapes import Float
from conjoin.fitting.label_propagation import MAX_GRAPH_ROWS, Graph
from conjoin.model.model import Model
from conjoin.nets.pictures import pictured

__all__ = ["MIN_CERTAINTY", "Answers", "answers", "matched", "most_certain", "mutual_information"]

PROPAGATION_WEIGHT = 0.7  # a of label_propagation: the weight of a row's neighbours
TEACHING_SHARE = 0.7  # part of each class that teaches

MIN_CERTAINTY = 0.5  # certainty under which no answer is followed


@dataclass(frozen=True)
class Answers:
    """(B, K) p(y | x) of new rows, and how much it tells of y: its mutual information as a part of
    the entropy of y, 0 to 1."""

    share: Float[Tensor, "B K"]
    certainty: float


@torch.no_grad()
def answers(model: Model, x: Event) -> Answers:
    """What p(y | x), on the features of the network that learned p(x), makes of new pictures ``x``,
    once they look as the old ones did."""
    x = as_float(x)
    joint: Any = model.unweighted
    each = [
        (joint.predictor.scorer.aligned(Event(levels)) / joint.predictor.temperature).softmax(1)
        for levels in _levels(model, x.value)
    ]
    best = max(each, key=mutual_information)
    entropy = float(_entropy(best.mean(0)))
    share = (
        Graph.of(x, model.codec.space).smooth(best, PROPAGATION_WEIGHT)
        if x.rows <= MAX_GRAPH_ROWS
        else best
    )
    return Answers(share, float(mutual_information(best)) / max(entropy, 1e-12))


def _levels(model: Model, value: Float[Tensor, "B D"]) -> list[Tensor]:
    """As they are, and matched to those that the model draws, in their order and in the opposite
    one."""
    seen = pictured(model.codec.space)
    channels = 1 if seen is None else seen.shape[0]
    drawn, new = (rows.unflatten(1, (channels, -1)) for rows in (model.bank.value, value))
    pairs = [(drawn[:, channel], new[:, channel]) for channel in range(channels)]
    return [value] + [
        torch.stack([matched(*pair, turned) for pair in pairs], 1).flatten(1)
        for turned in (False, True)
    ]


def matched(old: Tensor, new: Tensor, turned: bool = False) -> Tensor:
    """``new`` with every level where the shares of the levels of ``old`` have it; ``turned``: the
    darkest become the brightest.

    >>> matched(torch.tensor([0.0, 0, 1, 9]), torch.tensor([5.0, 5, 6, 7]))
    tensor([0., 0., 1., 9.])
    """
    count = int(max(old.max(), new.max())) + 1
    before, here = (
        torch.bincount(rows.flatten().long(), minlength=count).double() / rows.numel()
        for rows in (old, new)
    )
    middle = here.cumsum(0) - here / 2
    place = torch.searchsorted(before.cumsum(0), 1 - middle if turned else middle).clamp(
        max=count - 1
    )
    return place[new.long()].to(new.dtype)


def mutual_information(share: Float[Tensor, "B K"]) -> Tensor:
    """Of y and x, nats."""
    return _entropy(share.mean(0)) - _entropy(share).mean()


def _entropy(share: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
    return -torch.special.xlogy(share, share).sum(-1)


def most_certain(share: Float[Tensor, "B K"], part: float = TEACHING_SHARE) -> np.ndarray:
    """(B,) which rows are among the surest ``part`` of those with their answer."""
    sure, guess = share.max(1)
    known = np.zeros(len(share), dtype=bool)
    for label in guess.unique():
        rows = (guess == label).nonzero()[:, 0]
        order = sure[rows].argsort(descending=True, stable=True)
        known[rows[order[: int(np.ceil(part * len(rows)))]].numpy()] = True
    return known

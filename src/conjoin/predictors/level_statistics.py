r"""What the levels of a category of many say about y, as a few numbers in place of an indicator of
each level.

    s_l = f((n_l m_l + a m) / (n_l + a)) - f(m),    a = within / between

n_l rows of the level l have the mean m_l, all rows the mean m; ``within`` is the variance of y in a
level, ``between`` that of the levels' true means, by the moments (H. Buhlmann (1967), Experience
rating and credibility). A level of which hardly any row is known says nothing, and so do all where
their means differ by chance alone. Of classes y is the indicator of each and f its log-odds, of a
number f is the identity.

What a predictor learns from must not hold the row's own label: there s comes from the other folds
(D. Micci-Barreca (2001), A preprocessing scheme for high-cardinality categorical attributes).

Shape letters: B rows, L levels, T targets: one for each class, one alone of two classes or of a
number.
"""

import torch
from torch import Tensor

from conjoin.core.random import stream
from conjoin.core.shapes import Float, Int

__all__ = ["crossed_statistics", "level_statistics", "targets_of"]

FOLDS = 5
MIN_PRIOR_ROWS = 1.0  # that a level's mean is at least shrunk by
MAX_PRIOR_ROWS = 1e6  # where levels do not differ beyond chance
MIN_SHARE = 1e-6  # of a class, where its log-odds are told


def targets_of(y: Float[Tensor, " B"], classes: int | None) -> Float[Tensor, "B T"]:
    """The indicators of the classes (``classes`` of them), or the number itself."""
    if classes is None:
        return y[:, None].double()
    if classes <= 2:
        return (y == 1).double()[:, None]
    return torch.nn.functional.one_hot(y.long(), classes).double()


def level_statistics(
    codes: Int[Tensor, " B"],
    targets: Float[Tensor, "B T"],
    weight: Float[Tensor, " B"],
    levels: int,
    shares: bool,
) -> Float[Tensor, "L T"]:
    """s of each level, 0 where nothing is known. ``shares``: whether the targets are indicators of
    classes."""
    rows = targets.new_zeros(levels).index_add_(0, codes, weight)
    sums = targets.new_zeros(levels, targets.shape[1]).index_add_(
        0, codes, weight[:, None] * targets
    )
    total = rows.sum().clamp_min(1e-300)
    mean = sums.sum(0) / total
    prior = _prior_rows(targets, weight, rows, sums, mean)
    shrunk = (sums + prior * mean) / (rows[:, None] + prior)
    return _log_odds(shrunk) - _log_odds(mean) if shares else shrunk - mean


def _prior_rows(
    targets: Float[Tensor, "B T"],
    weight: Float[Tensor, " B"],
    rows: Float[Tensor, " L"],
    sums: Float[Tensor, "L T"],
    mean: Float[Tensor, " T"],
) -> float:
    """a: how many rows of the whole a level's mean is mixed with."""
    total = float(rows.sum())
    seen = int((rows > 0).sum())
    means = sums / rows.clamp_min(1e-300)[:, None]
    square = float((weight[:, None] * targets.square()).sum())
    inside = square - float((sums * means).sum())
    within = max(inside, 0.0) / max(total - seen, 1.0)
    apart = float((rows[:, None] * (means - mean).square()).sum()) - (seen - 1) * within
    between = apart / max(total - float(rows.square().sum()) / max(total, 1e-300), 1e-300)
    if total <= seen or between <= 0:
        return MAX_PRIOR_ROWS
    return min(max(within / between, MIN_PRIOR_ROWS), MAX_PRIOR_ROWS)


def _log_odds(share: Tensor) -> Tensor:
    return share.clamp(MIN_SHARE, 1 - MIN_SHARE).logit()


def crossed_statistics(
    codes: Int[Tensor, " B"],
    targets: Float[Tensor, "B T"],
    weight: Float[Tensor, " B"],
    levels: int,
    shares: bool,
    seed: int,
) -> Float[Tensor, "B T"]:
    """s of each row's level, as the rows of the other folds tell it."""
    fold = torch.randperm(len(codes), generator=stream(seed, "levels")) % FOLDS
    out = torch.zeros_like(targets)
    for number in range(FOLDS):
        learn = fold != number
        told = level_statistics(codes[learn], targets[learn], weight[learn], levels, shares)
        out[~learn] = told[codes[~learn]]
    return out

"""Normal distributions that together cover the recorded values of one number: a basis whose weights
a classifier can predict.

    p(x) = sum_k w_k N(x; m_k, s_k^2), k a value that recurs, a group of values, or all of them

A value that recurs far more often than those beside it has a component of its own, so narrow that
all of it lies in the value's cell; so has every value of a number that takes few. The rest is cut
into groups of equally many rows, each with a component about as wide as the group (the width of
kernels: B. W. Silverman (1986), Density estimation for statistics and data analysis, section 2.6).
The last component is three times as wide as the column, for values that lie elsewhere.

Shape letters: B rows, K components, U values that recur.

>>> few = Basis.of(np.array([0.0, 1.0, 1.0, 2.0]), np.ones(4), width=1.0, groups=32)
>>> few.mean.tolist()
[0.0, 1.0, 2.0, 1.0]
"""

from typing import NamedTuple, Self

import numpy as np

from conjoin.core.shapes import Float

__all__ = ["ROWS_PER_GROUP", "WIDE", "Basis", "moments", "recurring"]

MAX_CLASSES = 20  # distinct values of a number up to which each is a class of its own
ROWS_PER_GROUP = 10  # at least
MIN_RECURRING_ROWS = 3  # of a value that has a component of its own
MIN_RECURRING_RATIO = 3.0  # to the mean of the cells beside it
NARROW_CELLS = 0.05  # standard deviation of a component that is one value, in cells
MIN_CELLS = 0.3  # and of the others at least
GROUP_SHARE = 0.5  # standard deviation of a group's component, in widths of the group
MIN_POINT_SHARE = 1.5  # times the column's deviation, over the root of the rows: of points at least
WIDE = 3.0  # deviations of the column


class Basis(NamedTuple):
    """Means and standard deviations of the components; the last is the wide one."""

    mean: Float[np.ndarray, " K"]
    deviation: Float[np.ndarray, " K"]

    @property
    def states(self) -> int:
        return len(self.mean)

    @classmethod
    def of(
        cls,
        value: Float[np.ndarray, " B"],
        weight: Float[np.ndarray, " B"],
        width: float,
        groups: int,
    ) -> Self:
        """From the values of a column and their weights; ``width`` of a cell, 0 for points."""
        mean, spread = moments(value, weight)
        own = recurring(value, weight, width, groups) if width else np.zeros(0)
        rest = ~np.isin(value, own)
        centre, deviation = _groups(value[rest], weight[rest], width, groups)
        return cls(
            np.concatenate([own, centre, [mean]]),
            np.concatenate([np.full(len(own), NARROW_CELLS * width), deviation, [WIDE * spread]]),
        )


def moments(value: Float[np.ndarray, " B"], weight: Float[np.ndarray, " B"]) -> tuple[float, float]:
    """Mean and standard deviation; 0 and 1 without rows, and no deviation of 0."""
    if not weight.sum():
        return 0.0, 1.0
    mean = float(np.average(value, weights=weight))
    spread = float(np.average((value - mean) ** 2, weights=weight) ** 0.5)
    return mean, spread or 1.0


def recurring(
    value: Float[np.ndarray, " B"], weight: Float[np.ndarray, " B"], width: float, groups: int
) -> Float[np.ndarray, " U"]:
    """The values with a component of their own."""
    found, place = np.unique(value, return_inverse=True)
    if len(found) <= MAX_CLASSES:
        return found
    rows = np.bincount(place, weight)
    before = np.concatenate([[0.0], rows.cumsum()])
    beside = before[-1] / groups  # rows on either side that a value is compared with
    low = np.searchsorted(before, before[:-1] - beside, side="right") - 1
    high = np.searchsorted(before, before[1:] + beside).clip(max=len(found))
    low = low.clip(min=0)
    others = before[high] - before[low] - rows
    cells = np.maximum((found[high - 1] - found[low]) / width, 1.0)
    often = (rows >= MIN_RECURRING_ROWS) & (rows > MIN_RECURRING_RATIO * others / cells)
    return np.asarray(found[often])


def _groups(
    value: np.ndarray, weight: np.ndarray, width: float, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and deviations of groups of equally many rows."""
    count = int(min(groups, -(-weight.sum() // ROWS_PER_GROUP)))
    if not count or not len(value):
        return np.zeros(0), np.zeros(0)
    order = value.argsort(kind="stable")
    level = (weight[order].cumsum() - 0.5 * weight[order]) / weight.sum()
    ask = np.linspace(0.0, 1.0, 2 * count + 1)
    at = np.interp(ask, level, value[order])
    spread = moments(value, weight)[1]
    least = MIN_CELLS * width or MIN_POINT_SHARE * spread / float(weight.sum()) ** 0.5
    return at[1::2], np.maximum(GROUP_SHARE * np.diff(at[::2]), least)

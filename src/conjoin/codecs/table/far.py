"""Numbers and dates that stand for "none", such as -999 or 9999-12-31: a model has them beside the
others of the range.

Where they are, thousands of steps would lie between, and every mean and deviation would tell of
these alone. So each has the next step beyond the range in its place, and others that lie out there
make room for it. Each keeps a place of its own, and steps keep their width.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conjoin.codecs.table.schema import Column

__all__ = ["FarCodes", "far_codes"]

Array = NDArray[Any]


class FarCodes(NamedTuple):
    """The codes ``below`` and ``above`` the range from ``low`` to ``high`` (of dates in days), from
    the nearest to the furthest."""

    below: Array
    above: Array
    low: float
    high: float
    step: float

    @property
    def ends(self) -> tuple[float, float]:
        """From the least place to the greatest."""
        return self.low - len(self.below) * self.step, self.high + len(self.above) * self.step

    def near(self, raw: Array) -> Array:
        """The places (B,) of numbers, or of dates."""
        first, last = self.ends
        near = np.where(raw > self.high + 0.5 * self.step, raw + (last - self.high), raw)
        near = np.where(raw < self.low - 0.5 * self.step, raw - (self.low - first), near)
        for atoms, start, way in self._sides:
            for i, atom in enumerate(atoms, 1):
                near = np.where(np.abs(raw - atom) < 0.5 * self.step, start + way * i, near)
        return near

    def raw(self, near: Array) -> Array:
        """The numbers, or dates, (B,) of places."""
        first, last = self.ends
        raw = np.where(near > last + 0.5 * self.step, near - (last - self.high), near)
        raw = np.where(near < first - 0.5 * self.step, near + (self.low - first), raw)
        for atoms, start, way in self._sides:
            for i, atom in enumerate(atoms, 1):
                raw = np.where(np.abs(near - start - way * i) <= 0.5 * self.step, atom, raw)
        return raw

    def settle(self, near: Array) -> Array:
        """The nearest places (B,) of the range, but for those that stand for a code outside."""
        first, last = self.ends
        outside = (near < self.low - 0.5 * self.step) & (near >= first - 0.5 * self.step)
        outside |= (near > self.high + 0.5 * self.step) & (near <= last + 0.5 * self.step)
        return np.where(outside, near, np.clip(near, self.low, self.high))

    @property
    def _sides(self) -> tuple[tuple[Array, float, float], tuple[Array, float, float]]:
        return (self.below, self.low, -self.step), (self.above, self.high, self.step)


def far_codes(column: Column) -> FarCodes | None:
    """Of a column whose spikes lie outside of its range; None where none does."""
    low, high = column.range
    step = column.precision or column.resolution
    if low is None or high is None or not step:
        return None
    first = np.ceil((low - column.offset) / step) * step + column.offset
    last = np.floor((high - column.offset) / step) * step + column.offset
    atoms = np.array(sorted(column.atoms))
    below = atoms[atoms < min(low, first - 0.5 * step)][::-1]
    above = atoms[atoms > max(high, last + 0.5 * step)]
    return FarCodes(below, above, first, last, step) if len(below) or len(above) else None

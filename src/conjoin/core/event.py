"""Events and the spaces they live in: all that a family ever sees of the data.

An event is a block of rows with a mask that says which cells are known; a region is a box that
unknown cells lie in. A space names the variables, how they are measured, and how they are laid out.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Edit", "Event", "Pair", "Region", "after_one", "but_first", "slices"]


class Region(NamedTuple):
    """A box that missing cells are known to lie in: ``low <= value <= high`` and, for a category,
    an allowed set."""

    low: Tensor  # (D,), -inf where open
    high: Tensor  # (D,), +inf where open
    allowed: dict[int, Tensor] = {}  # noqa: RUF012 (a NamedTuple default, never written to): variable -> (cardinality,) bool

    @property
    def constrained(self) -> Tensor:
        """(D,) bool: the variables that the region says something about."""
        cells = torch.isfinite(self.low) | torch.isfinite(self.high)
        for variable in self.allowed:
            cells = cells.index_fill(0, torch.tensor([variable]), True)
        return cells


def slices(rows: int, size: int) -> list[slice]:
    """Rows in parts of ``size``; one empty part where there are none."""
    return [slice(start, start + size) for start in range(0, rows, size)] or [slice(0, 0)]


def after_one(region: Region | None) -> Region | None:
    """The region of x as one of (y, x): y is free."""
    if region is None:
        return None
    free = torch.tensor([torch.inf], dtype=region.low.dtype)
    return Region(
        torch.cat([-free, region.low]),
        torch.cat([free, region.high]),
        {d + 1: keep for d, keep in region.allowed.items()},
    )


def but_first(region: Region | None) -> Region | None:
    """The region of (y, x) as one of x."""
    if region is None:
        return None
    return Region(
        region.low[1:], region.high[1:], {d - 1: keep for d, keep in region.allowed.items() if d}
    )


class Event(NamedTuple):
    """What is known of B rows; a context is one too. A cell is known, missing, or (missing but)
    inside a region."""

    value: Tensor  # (B, *shape); categories are codes 0..K-1, tables float64
    observed: Tensor | None = None  # (B, *shape) bool; False = missing: not known
    present: Tensor | None = None  # (B, *shape) bool; False = padding: known to be absent
    within: Region | None = None  # a box that the missing cells of every row are known to lie in

    @property
    def mask(self) -> Tensor:
        """Which cells are known, as a boolean tensor of the value's shape."""
        return (
            torch.ones_like(self.value, dtype=torch.bool)
            if self.observed is None
            else self.observed
        )

    @property
    def rows(self) -> int:
        return self.value.shape[0]

    def take(self, index: Tensor | slice) -> "Event":
        """The rows at ``index``."""
        observed = None if self.observed is None else self.observed[index]
        return Event(
            self.value[index],
            observed,
            None if self.present is None else self.present[index],
            self.within,
        )

    def cut(self, width: int) -> tuple["Event", "Event"]:
        """The first ``width`` variables of rows (B, D), with what the region says of them; and the
        others, without a region."""
        box = self.within
        mask = self.mask
        within = (
            None
            if box is None
            else Region(
                box.low[:width],
                box.high[:width],
                {d: a for d, a in box.allowed.items() if d < width},
            )
        )
        return Event(self.value[:, :width], mask[:, :width], within=within), Event(
            self.value[:, width:], mask[:, width:]
        )

    def hide(self, cells: Tensor) -> "Event":
        """The same rows with ``cells`` (broadcastable bool) treated as missing."""
        return self._replace(observed=self.mask & ~cells)


class Pair(NamedTuple):
    """The event of a joint model: labels (or a number) y beside x."""

    y: Event
    x: Event

    @property
    def rows(self) -> int:
        return self.x.rows

    def take(self, index: Tensor | slice) -> "Pair":
        return Pair(self.y.take(index), self.x.take(index))


class Edit(NamedTuple):
    """How rows are changed towards a context: they are carried up to ``noise`` (in standard
    deviations of a cell) and come back under the context, which is exaggerated by ``strength``.
    Cells outside of ``where`` stay as they are. On the way back, what the rows are taken to be
    moves by ``lead`` of it, in standard deviations of a cell. With a ``generator`` the noise is
    drawn, the same for all rows; without one the rows follow the flow that knows no context."""

    noise: float
    strength: Tensor  # (B,)
    where: Tensor | None = None  # (B, D) bool
    lead: Callable[[Tensor], Tensor] | None = None  # (B, D) -> (B, D)
    generator: torch.Generator | None = None

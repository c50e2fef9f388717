"""Events and the spaces they live in: all that a family ever sees of the data.

An event is a block of rows with a mask that says which cells are known; a region is a box that unknown cells lie in.
A space names the variables, how they are measured, and how they are laid out.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Edit", "Event", "Pair", "PairSpace", "Region", "Space", "Variable", "after_one", "but_first", "slices"]


class Region(NamedTuple):
    """A box that missing cells are known to lie in: ``low <= value <= high`` and, for a category, an allowed set."""

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
    return Region(torch.cat([-free, region.low]), torch.cat([free, region.high]), {d + 1: keep for d, keep in region.allowed.items()})


def but_first(region: Region | None) -> Region | None:
    """The region of (y, x) as one of x."""
    if region is None:
        return None
    return Region(region.low[1:], region.high[1:], {d - 1: keep for d, keep in region.allowed.items() if d})


class Event(NamedTuple):
    """What is known of B rows; a context is one too. A cell is known, missing, or (missing but) inside a region."""

    value: Tensor  # (B, *shape); categories are codes 0..K-1, tables float64
    observed: Tensor | None = None  # (B, *shape) bool; False = missing: not known
    present: Tensor | None = None  # (B, *shape) bool; False = padding: known to be absent
    within: Region | None = None  # a box that the missing cells of every row are known to lie in

    @property
    def mask(self) -> Tensor:
        """Which cells are known, as a boolean tensor of the value's shape."""
        return torch.ones_like(self.value, dtype=torch.bool) if self.observed is None else self.observed

    @property
    def rows(self) -> int:
        return self.value.shape[0]

    def take(self, index: Tensor | slice) -> "Event":
        """The rows at ``index``."""
        observed = None if self.observed is None else self.observed[index]
        return Event(self.value[index], observed, None if self.present is None else self.present[index], self.within)

    def cut(self, width: int) -> tuple["Event", "Event"]:
        """The first ``width`` variables of rows (B, D), with what the region says of them; and the others, without a region."""
        box, mask = self.within, self.mask
        within = None if box is None else Region(box.low[:width], box.high[:width], {d: a for d, a in box.allowed.items() if d < width})
        return Event(self.value[:, :width], mask[:, :width], within=within), Event(self.value[:, width:], mask[:, width:])

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
    """How rows are changed towards a context: they are carried up to ``noise`` (in standard deviations of a cell) and come back under the
    context, which is exaggerated by ``strength``. Cells outside of ``where`` stay as they are. On the way back, what the rows are taken
    to be moves by ``lead`` of it, in standard deviations of a cell. With a ``generator`` the noise is drawn, the same for all rows; without
    one the rows follow the flow that knows no context."""

    noise: float
    strength: Tensor  # (B,)
    where: Tensor | None = None  # (B, D) bool
    lead: Callable[[Tensor], Tensor] | None = None  # (B, D) -> (B, D)
    generator: torch.Generator | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One column. ``resolution`` is its recorded precision: with it a value is a cell that has probability mass,
    without it a point that has a density. Numbers are in the event's units."""

    name: str
    kind: Literal["real", "integer", "category", "ordered"]
    cardinality: int = 0
    resolution: float | None = None
    atoms: tuple[float, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    origin: float = 0.0  # one value of the lattice that resolution spans
    unit: str = ""

    def __post_init__(self) -> None:
        if self.discrete and self.cardinality < 1:
            raise ValueError(f"{self.name!r} is a {self.kind} variable and needs a cardinality of at least 1.")
        if (self.atoms or self.bounds != (None, None)) and not self.discrete and self.resolution is None:
            raise ValueError(f"{self.name!r} has atoms or bounds, so its cells need mass: give it a resolution.")

    @property
    def discrete(self) -> bool:
        """Whether values are codes of a finite set."""
        return self.kind in ("category", "ordered")

    @property
    def has_mass(self) -> bool:
        """Whether a value has probability mass rather than density."""
        return self.discrete or self.resolution is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """All that a family knows of the data."""

    shape: tuple[int, ...]
    variables: tuple[Variable, ...]
    layout: Literal["vector", "image", "sequence", "point_cloud"] = "vector"
    grid: tuple[int, int, int] | None = None  # (channels, height, width) of an image: the last C H W variables, in this order

    @property
    def pixels(self) -> int:
        """How many of the variables, the last ones, are the pixels of a picture."""
        return 0 if self.grid is None else math.prod(self.grid)

    def check(self, event: Event) -> Event:
        """The event with missing cells zeroed; ValueError names the variable of the first impossible cell."""
        if tuple(event.value.shape[1:]) != self.shape:
            raise ValueError(f"Expected rows of shape {self.shape}, got {tuple(event.value.shape[1:])}.")
        mask = event.mask
        if mask.shape != event.value.shape:
            raise ValueError(f"observed has shape {tuple(mask.shape)}, value {tuple(event.value.shape)}: they must agree.")
        value = torch.where(mask, event.value, torch.zeros_like(event.value))
        value = value.double()
        if not torch.isfinite(value).all():
            raise ValueError(f"{self._name(~torch.isfinite(value))!r} has a value that is not finite; mark missing cells in observed.")
        codes = torch.tensor([v.cardinality if v.discrete else 0 for v in self.variables])
        cells = value.reshape(value.shape[0], math.prod(self.shape))
        wrong = (codes > 0) & ((cells < 0) | (cells >= codes) | (cells != cells.round()))
        if wrong.any():
            name, code = self._name(wrong), cells[wrong][0].item()
            top = self._variable(wrong).cardinality - 1
            raise ValueError(f"{name!r} has the code {code:g}; its codes are whole numbers from 0 to {top}.")
        return event._replace(value=value, observed=None if event.observed is None else mask)

    def _variable(self, wrong: Tensor) -> Variable:
        column = int(wrong.reshape(wrong.shape[0], math.prod(self.shape)).any(0).nonzero()[0])
        return self.variables[column if len(self.variables) > 1 else 0]  # one entry may stand for all positions

    def _name(self, wrong: Tensor) -> str:
        return self._variable(wrong).name


@dataclasses.dataclass(frozen=True, slots=True)
class PairSpace:
    """The space of a joint's events."""

    y: Space
    x: Space

    def check(self, event: Pair) -> Pair:
        if event.y.rows != event.x.rows:
            raise ValueError(f"y has {event.y.rows} rows, x has {event.x.rows}: they must agree.")
        return Pair(self.y.check(event.y), self.x.check(event.x))

"""The space that events live in: what a variable is, how it is measured, and how variables are laid
out."""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from conjoin.core.event import Event, Pair

__all__ = ["PairSpace", "Space", "Variable"]


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One column. ``resolution`` is its recorded precision: with it a value is a cell that has
    probability mass, without it a point that has a density. Numbers are in the event's units."""

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
            raise ValueError(
                f"{self.name!r} is a {self.kind} variable and needs a cardinality of at least 1."
            )
        if (
            (self.atoms or self.bounds != (None, None))
            and not self.discrete
            and self.resolution is None
        ):
            raise ValueError(
                f"{self.name!r} has atoms or bounds, so its cells need mass: give it a resolution."
            )

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
    grid: tuple[int, int, int] | None = (
        None  # (channels, height, width) of an image: the last C H W variables, in this order
    )

    @property
    def pixels(self) -> int:
        """How many of the variables, the last ones, are the pixels of a picture."""
        return 0 if self.grid is None else math.prod(self.grid)

    def check(self, event: Event) -> Event:
        """The event with missing cells zeroed; ValueError names the variable of the first
        impossible cell."""
        if tuple(event.value.shape[1:]) != self.shape:
            raise ValueError(
                f"Expected rows of shape {self.shape}, got {tuple(event.value.shape[1:])}."
            )
        mask = event.mask
        if mask.shape != event.value.shape:
            raise ValueError(
                f"observed has shape {tuple(mask.shape)}, value {tuple(event.value.shape)}: they "
                "must agree."
            )
        value = torch.where(mask, event.value, torch.zeros_like(event.value))
        value = value.double()
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{self._name(~torch.isfinite(value))!r} has a value that is not finite; mark "
                "missing cells in observed."
            )
        codes = torch.tensor([v.cardinality if v.discrete else 0 for v in self.variables])
        cells = value.reshape(value.shape[0], math.prod(self.shape))
        wrong = (codes > 0) & ((cells < 0) | (cells >= codes) | (cells != cells.round()))
        if wrong.any():
            name = self._name(wrong)
            code = cells[wrong][0].item()
            top = self._variable(wrong).cardinality - 1
            raise ValueError(
                f"{name!r} has the code {code:g}; its codes are whole numbers from 0 to {top}."
            )
        return event._replace(value=value, observed=None if event.observed is None else mask)

    def _variable(self, wrong: Tensor) -> Variable:
        column = int(wrong.reshape(wrong.shape[0], math.prod(self.shape)).any(0).nonzero()[0])
        return self.variables[
            column if len(self.variables) > 1 else 0
        ]  # one entry may stand for all positions

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

"""Tiny spaces on which every probability can be summed by brute force.

A column becomes an axis of points with a weight: codes and lattice cells count 1 (they have mass),
real numbers count the step of a fine grid (the trapezoid rule, whose error falls exponentially for
smooth tails: L. Trefethen and J. Weideman (2014), The exponentially convergent trapezoidal rule,
section 5). Lattices reach far beyond the data and beyond their bounds, so that a density that leaks
past a bound still has to sum to one.

Shape letters: G points of the enumeration, D variables, A points of one axis.
"""

import itertools
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Region, Space, Variable

__all__ = ["CLASSES", "ROWS", "Axis", "Tiny", "product", "tiny", "tiny_names"]

ROWS = 96
STEPS = 4  # grid points of a real axis per standard deviation
REACH = 6.5  # how many standard deviations beyond the data an axis goes
CLASSES = Space((), (Variable("label", "category", cardinality=2),))
Part = tuple[Tensor, Tensor]  # points (A,) and their log-weights (A,)


@dataclass(frozen=True)
class Axis:
    """All values of one variable that matter, and how to cut them into bins."""

    variable: Variable
    points: Tensor
    data: Tensor

    @property
    def whole(self) -> Part:
        step = 0.0 if self.variable.has_mass else float((self.points[1] - self.points[0]).log())
        return self.points, torch.full_like(self.points, step)

    def inside(self, low: float, high: float, allowed: Tensor | None = None) -> Part:
        """The part of the axis in [low, high]: a filter for masses, quadrature for densities."""
        if not self.variable.has_mass and np.isfinite([low, high]).any():
            return self._quadrature(
                max(low, float(self.points[0])), min(high, float(self.points[-1]))
            )
        keep = (self.points >= low) & (self.points <= high)
        if allowed is not None:
            keep &= allowed[self.points.long()]
        points, log_weight = self.whole
        return points[keep], log_weight[keep]

    def _quadrature(self, low: float, high: float) -> Part:
        """Two nodes between any two neighbouring cuts, so that no piece lies across the edge of a
        bin."""
        middles = (self.points[1:] + self.points[:-1]) / 2
        cuts = torch.cat(
            [torch.tensor([low]), middles[(middles > low) & (middles < high)], torch.tensor([high])]
        )
        nodes, weights = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(2))
        half = cuts.diff()[:, None] / 2
        return (cuts[:-1, None] + half * (nodes + 1)).flatten(), (half * weights).flatten().log()

    def edges(self, bins: int) -> Tensor:
        """Cuts between grid points, near the quantiles of the data; a lattice with few values is
        cut between all of them."""
        middles = (self.points[1:] + self.points[:-1]) / 2
        low, high = (
            bound if bound is not None else sign * np.inf
            for bound, sign in zip(self.variable.bounds, (-1, 1), strict=True)
        )
        # what leaks past a bound counts for the cell at the bound
        middles = middles[(middles > low) & (middles < high)]
        if self.variable.discrete or len(middles) < bins:
            return middles
        quantiles = torch.quantile(
            self.data, torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
        )
        return middles[torch.searchsorted(middles, quantiles).clamp_max(len(middles) - 1).unique()]

    def bin(self, value: Tensor, bins: int) -> Tensor:
        return torch.bucketize(value.contiguous(), self.edges(bins))


def product(parts: list[Part]) -> tuple[Tensor, Tensor]:
    """(G, D) every combination of the parts' points, and the (G,) sums of their log-weights."""
    points = torch.cartesian_prod(*(part[0] for part in parts)).reshape(-1, len(parts))
    weights = torch.cartesian_prod(*(part[1] for part in parts)).reshape(-1, len(parts))
    return points, weights.sum(1)


def _axis(variable: Variable, data: Tensor) -> Axis:
    if variable.discrete:
        return Axis(variable, torch.arange(variable.cardinality, dtype=torch.float64), data)
    spread = float(data.std())
    width = variable.resolution
    low = float(data.min()) - REACH * spread
    high = float(data.max()) + REACH * spread
    if width is None:
        return Axis(variable, torch.arange(low, high, spread / STEPS, dtype=torch.float64), data)
    first = round((low - variable.origin) / width)
    last = round((high - variable.origin) / width)
    return Axis(
        variable, variable.origin + width * torch.arange(first, last + 1, dtype=torch.float64), data
    )


@dataclass(frozen=True)
class Tiny:
    """A space, complete rows in it, a mask with some cells missing, and a label that goes with the
    rows."""

    name: str
    space: Space
    rows: Tensor
    mask: Tensor
    label: Tensor
    axes: tuple[Axis, ...] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.axes)

    def patterns(self, least: int = 0) -> list[Tensor]:
        """Every mask over the variables with at least one missing and at least ``least`` known."""
        masks = [torch.tensor(bits) for bits in itertools.product((True, False), repeat=self.size)]
        return [mask for mask in masks if not mask.all() and mask.sum() >= least]

    def box(self, free: tuple[int, ...] = ()) -> Region:
        """A region that cuts every axis but the ``free`` ones: sets, open and closed intervals."""
        low = torch.full((self.size,), -torch.inf).double()
        high = torch.full((self.size,), torch.inf).double()
        allowed = {}
        for d, axis in enumerate(self.axes):
            if d in free:
                continue
            if axis.variable.discrete:
                allowed[d] = torch.arange(axis.variable.cardinality) != 1
            elif axis.variable.has_mass:
                low[d] = torch.quantile(axis.data, 0.3)
                high[d] = torch.quantile(axis.data, 0.8)
            else:
                low[d] = torch.quantile(axis.data, 0.25) + 0.01
                high[d] = torch.inf if d % 2 else torch.quantile(axis.data, 0.9)
        return Region(low, high, allowed)

    def within(self, region: Region, mask: Tensor, row: Tensor) -> list[Part]:
        """The parts of an enumeration: known cells at their value, the others anywhere in the
        region."""
        parts = []
        for d, axis in enumerate(self.axes):
            known = (row[d : d + 1], torch.zeros(1, dtype=torch.float64))
            parts.append(
                known
                if mask[d]
                else axis.inside(float(region.low[d]), float(region.high[d]), region.allowed.get(d))
            )
        return parts

    def anywhere(self, mask: Tensor, row: Tensor) -> list[Part]:
        """As ``within``, of everything."""
        return [
            (row[d : d + 1], torch.zeros(1).double()) if mask[d] else axis.whole
            for d, axis in enumerate(self.axes)
        ]


def _columns(
    name: str, latent: np.ndarray, noise: np.random.Generator
) -> tuple[tuple[Variable, ...], list[np.ndarray]]:
    shared = noise.normal(size=len(latent))
    own = noise.normal(size=(3, len(latent)))
    category = np.where(noise.random(len(latent)) < 0.7, latent, noise.integers(0, 3, len(latent)))
    if name == "discrete":
        count = np.where(
            noise.random(len(latent)) < 0.2, 0, np.clip(np.round(latent + 1.2 + own[0]), 0, 4)
        )
        sold = np.where(noise.random(len(latent)) < 0.9, category > 0, category == 0).astype(float)
        # its tree: colour - count, and colour - sold - size
        size = np.where(noise.random(len(latent)) < 0.85, sold, 1 - sold)
        codes = [
            Variable(*column)
            for column in (
                ("colour", "category", 3),
                ("size", "ordered", 2),
                ("sold", "category", 2),
            )
        ]
        integer = Variable("count", "integer", resolution=1.0, bounds=(0.0, 4.0), atoms=(0.0,))
        return (*codes[:2], integer, codes[2]), [category, size, count, sold]
    real, lattice = (
        Variable("mass", "real"),
        Variable("height", "real", resolution=0.5, origin=0.25),
    )
    if name == "mixed":
        height = np.round(latent + 0.7 * shared + 0.3 * own[1]) / 2 + 0.25
        return (Variable("group", "category", cardinality=3), real, lattice), [
            category,
            0.8 * latent + 0.6 * shared,
            height,
        ]
    if name == "numbers":
        years = np.round(0.8 * latent + shared + 0.5 * own[1])
        columns = [shared + 0.4 * own[0], 0.7 * shared + 0.5 * latent + 0.5 * own[2], years]
        return (
            Variable("length", "real"),
            Variable("weight", "real"),
            Variable("years", "integer", resolution=1.0),
        ), columns
    return (real,), [1.5 * latent + 0.5 * own[0]]


def tiny_names() -> list[str]:
    return ["discrete", "mixed", "numbers", "single"]


@cache
def tiny(name: str) -> Tiny:
    """The tiny space ``name``; the same rows every time."""
    noise = np.random.default_rng(7)
    latent = noise.integers(0, 3, ROWS)
    variables, columns = _columns(name, latent, noise)
    rows = torch.tensor(np.stack(columns, 1)).double()
    mask = torch.tensor(noise.random(rows.shape) > 0.12)
    label = torch.tensor((latent + 0.7 * noise.normal(size=ROWS) > 1).astype(float))
    axes = tuple(_axis(variable, rows[:, d]) for d, variable in enumerate(variables))
    return Tiny(name, Space((len(variables),), variables), rows, mask, label, axes)


def masked(rows: Tensor, mask: Tensor) -> Event:
    """The rows with one mask for all of them."""
    return Event(rows, mask.expand_as(rows))

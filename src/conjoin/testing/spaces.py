"""Tiny spaces on which every probability can be summed by brute force.

A column becomes an axis of points with a weight: codes and lattice cells count 1 (they have mass),
real numbers count the step of a fine grid (the trapezoid rule, whose error falls exponentially for
smooth tails: L. Trefethen and J. Weideman (2014), The exponentially convergent trapezoidal rule,
section 5). Lattices reach far beyond the data and beyond their bounds, so that a density that leaks
past a bound still has to sum to one.

A picture has few pixels of few levels, so that all pictures can be listed; it is not square, so
that rows and columns of pixels can't be mixed up unseen. What a space holds is its ``layout``:

    vector         columns of a table
    image          the pixels of a picture, and nothing else
    vector image   columns, and the picture that goes with them

A new layout is a line in ``_MAKERS``: what makes its variables and its rows from a hidden group.

Shape letters: G points of the enumeration, D variables, A points of one axis.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Region, Space, Variable

__all__ = ["ALL_PATTERNS_UP_TO", "CLASSES", "ROWS", "Axis", "Tiny", "product", "tiny", "tiny_names"]

ROWS = 96
STEPS = 4  # grid points of a real axis per standard deviation
ALL_PATTERNS_UP_TO = 4  # variables; of more, a few missingness patterns stand for all
AXIS_MARGIN_DEVIATIONS = 6.5  # how many standard deviations beyond the data an axis goes
CLASSES = Space((), (Variable("label", "category", cardinality=2),))
Part = tuple[Tensor, Tensor]  # points (A,) and their log-weights (A,)
Columns = tuple[tuple[Variable, ...], list[np.ndarray]]  # variables, and the (B,) values of each


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
    low = float(data.min()) - AXIS_MARGIN_DEVIATIONS * spread
    high = float(data.max()) + AXIS_MARGIN_DEVIATIONS * spread
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

    @property
    def columns(self) -> int:
        """How many of the variables, the first ones, are columns."""
        return self.space.columns

    def patterns(self, least: int = 0) -> list[Tensor]:
        """Masks over the variables with at least one missing and at least ``least`` known: all of
        them where the variables are few."""
        if self.size <= ALL_PATTERNS_UP_TO:
            every = itertools.product((True, False), repeat=self.size)
            masks = [torch.tensor(bits) for bits in every]
        else:
            masks = _some_patterns(self.size, self.columns)
        return [mask for mask in masks if not mask.all() and mask.sum() >= least]

    def scrambled(self) -> Tensor:
        """(B, D) the rows with each column in another order: the same values, without what ties
        them together."""
        noise = np.random.default_rng(11)
        columns = [column[torch.tensor(noise.permutation(ROWS))] for column in self.rows.T]
        return torch.stack(columns, 1)

    def box(self, free: tuple[int, ...] = ()) -> Region:
        """A region that cuts every axis but the ``free`` ones: sets, open and closed intervals."""
        low = torch.full((self.size,), -torch.inf).double()
        high = torch.full((self.size,), torch.inf).double()
        allowed = {}
        for d, axis in enumerate(self.axes):
            if d in free or 0 < self.columns <= d:  # of a picture beside columns nothing is said
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


def _some_patterns(size: int, columns: int) -> list[Tensor]:
    """Of one block: its last variable missing, every other one, all but the first, all. Of columns
    and a picture, which is known or missing as a whole: each of them, either with one column more,
    all. The first of these masks is a prefix."""
    place = torch.arange(size)
    picture = place >= columns
    if columns in (0, size):
        masks = [place < size - 1, place % 2 == 0, place < 1]
    else:
        masks = [~picture, picture, picture | (place < 1), place == columns - 1]
    masks += [place < 0]
    kept: dict[tuple[bool, ...], Tensor] = {tuple(mask.tolist()): mask for mask in masks}
    return list(kept.values())


def _columns(name: str, latent: np.ndarray, noise: np.random.Generator) -> Columns:
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


def _pixels(
    grid: tuple[int, int, int], levels: int, latent: np.ndarray, noise: np.random.Generator
) -> Columns:
    """Pictures that a group makes lighter from left to right, with pixels of chance."""
    places = list(itertools.product(*(range(side) for side in grid)))
    across = np.array([column / max(grid[2] - 1, 1) for _, _, column in places])
    channel = np.array([first % 2 for first, _, _ in places])
    light = np.where(channel, 2 - latent[:, None], latent[:, None]) / 2  # in each pixel, 0 to 1
    light = 0.7 * light + 0.3 * across
    chance = noise.random(light.shape) < 0.2
    drawn = np.where(chance, noise.random(light.shape), light)
    level = np.clip(np.floor(drawn * levels), 0, levels - 1)
    names = [f"pixel {c},{row},{column}" for c, row, column in places]
    variables = tuple(Variable(name, "ordered", cardinality=levels) for name in names)
    return variables, list(level.T)


def _image(name: str, latent: np.ndarray, noise: np.random.Generator) -> Columns:
    return _pixels(*PICTURES[name], latent, noise)


def _columns_and_image(name: str, latent: np.ndarray, noise: np.random.Generator) -> Columns:
    """A class, a size, and a picture; the group is seen in all three."""
    variables, pixels = _image(name, latent, noise)
    kind = np.where(noise.random(len(latent)) < 0.85, latent > 0, latent == 0).astype(float)
    size = np.where(noise.random(len(latent)) < 0.8, latent, noise.integers(0, 3, len(latent)))
    columns = (
        Variable("kind", "category", cardinality=2),
        Variable("size", "ordered", cardinality=3),
    )
    return (*columns, *variables), [kind, size.astype(float), *pixels]


PICTURES = {  # channels, height and width, and how many levels a pixel has
    "image": ((1, 2, 3), 3),
    "channels": ((2, 2, 2), 2),
    "columns and image": ((1, 2, 2), 3),
}
_MAKERS: dict[str, Callable[[str, np.ndarray, np.random.Generator], Columns]] = {
    "discrete": _columns,
    "mixed": _columns,
    "numbers": _columns,
    "single": _columns,
    "image": _image,
    "channels": _image,
    "columns and image": _columns_and_image,
}


def tiny_names() -> list[str]:
    """The tiny spaces, of every layout."""
    return list(_MAKERS)


def _space(name: str, variables: tuple[Variable, ...]) -> Space:
    shape = (len(variables),)
    if name not in PICTURES:
        return Space(shape, variables)
    grid, _ = PICTURES[name]
    alone = len(variables) == math.prod(grid)
    return Space(shape, variables, "image" if alone else "vector", grid)


@cache
def tiny(name: str) -> Tiny:
    """The tiny space ``name``; the same rows every time."""
    noise = np.random.default_rng(7)
    latent = noise.integers(0, 3, ROWS)
    variables, columns = _MAKERS[name](name, latent, noise)
    rows = torch.tensor(np.stack(columns, 1)).double()
    mask = torch.tensor(noise.random(rows.shape) > 0.12)
    columns_of_row = _space(name, variables).columns
    if columns_of_row:
        mask[:, columns_of_row:] = mask[:, -1:]  # a picture is known or missing as a whole
    label = torch.tensor((latent + 0.7 * noise.normal(size=ROWS) > 1).astype(float))
    axes = tuple(_axis(variable, rows[:, d]) for d, variable in enumerate(variables))
    return Tiny(name, _space(name, variables), rows, mask, label, axes)


def masked(rows: Tensor, mask: Tensor) -> Event:
    """The rows with one mask for all of them."""
    return Event(rows, mask.expand_as(rows))

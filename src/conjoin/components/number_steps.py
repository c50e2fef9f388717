r"""Histograms inside groups of values: states of a number that is recorded on a lattice.

    p(x | k) = sum_j q_kj [low_j <= x <= high_j] / cells_j,  j over the steps of state k

A value that recurs far more often than those beside it is a state of its own, and so is every value
of a number that takes few (conjoin.components.number_basis). All cells between the least and the
greatest value are divided among groups of equally many rows; a group is cut into steps of one cell
where it has no more cells than rows, else of ``ROWS_PER_STEP`` rows, with a mass q each. So every
value of the range belongs to one state, the marginal keeps its shape whatever stands between two
values, and no normal distribution smears one value over the next. The last state is a wide normal
distribution, for values that lie elsewhere.

Shape letters: B rows, K states, J steps.

>>> value = np.repeat(np.arange(40.0), np.arange(1, 41))
>>> found = Steps.of(value, np.ones(len(value)), 0.0, 1.0, groups=4)
>>> bool((np.diff(found.low) == 1).all()), int(found.owner.max()) + 1
(True, 4)
"""

import dataclasses
import math
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.components.leaves import LeafLayer
from conjoin.components.number_basis import ROWS_PER_GROUP, WIDE, moments, recurring
from conjoin.core import Variable
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["StepLayer", "Steps"]

ROWS_PER_STEP = 25.0
PRIOR_ROWS = 1.0  # of each group, shared by its cells


class Steps(NamedTuple):
    """In the order of their cells, which are numbered from the lattice's origin; and the mean and
    standard deviation of the wide state."""

    low: Int[np.ndarray, " J"]
    high: Int[np.ndarray, " J"]  # the last cell
    owner: Int[np.ndarray, " J"]  # the state
    mass: Float[np.ndarray, " J"]  # of the step in its state
    mean: float
    deviation: float

    @classmethod
    def of(
        cls,
        value: Float[np.ndarray, " B"],
        weight: Float[np.ndarray, " B"],
        origin: float,
        width: float,
        groups: int,
    ) -> Self:
        """From the values of a column and their weights; ``width`` of a cell, which is not 0."""
        mean, spread = moments(value, weight)
        own = np.rint((recurring(value, weight, width, groups) - origin) / width).astype(np.int64)
        cell, place = np.unique(
            np.rint((value - origin) / width).astype(np.int64), return_inverse=True
        )
        rows = np.bincount(place, weight, minlength=len(cell))
        rest = ~np.isin(cell, own)
        parts = [np.stack([own, own, np.arange(len(own)), np.ones(len(own))])]
        if rest.any():
            ends = int(cell[0]), int(cell[-1])
            parts += _grouped(cell[rest], rows[rest], ends, own, groups)
        table = np.concatenate(parts, 1)
        table = table[:, table[0].argsort(kind="stable")]
        low, high, owner = table[:3].astype(np.int64)
        return cls(low, high, owner, table[3], mean, WIDE * spread)

    @property
    def states(self) -> int:
        """With the wide one."""
        return int(self.owner.max(initial=-1)) + 2


def _grouped(
    cell: np.ndarray, rows: np.ndarray, ends: tuple[int, int], own: np.ndarray, groups: int
) -> list[np.ndarray]:
    """Of each group its steps: first and last cell, state, mass."""
    count = int(max(1, min(groups, -(-rows.sum() // ROWS_PER_GROUP))))
    group = _shared(rows, count)
    out = []
    low = ends[0]
    labels = np.unique(group)
    for state, label in enumerate(labels, start=len(own)):
        mine = group == label
        after = cell[group > label]
        high = ends[1] if label == labels[-1] else int((cell[mine][-1] + after[0]) // 2)
        first, last, mass = _cut(cell[mine], rows[mine], low, high)
        first, last, mass = _without(own, first, last, mass)
        out.append(np.stack([first, last, np.full(len(first), state), mass / mass.sum()]))
        low = high + 1
    return out


def _shared(rows: np.ndarray, count: int) -> np.ndarray:
    """The place of each value among so many parts of equally many rows."""
    middle = rows.cumsum() - 0.5 * rows
    return np.minimum((count * middle / rows.sum()).astype(np.int64), count - 1)


def _cut(
    cell: np.ndarray, rows: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps from one cell to another, and their mass."""
    cells = high - low + 1
    if cells <= rows.sum():
        first = np.arange(low, high + 1)
        mass = np.full(cells, PRIOR_ROWS / cells)
        mass[cell - low] += rows
        return first, first, mass
    part = _shared(rows, max(1, int(rows.sum() / ROWS_PER_STEP)))
    new = np.flatnonzero(np.diff(part)) + 1
    first = np.concatenate([[low], (cell[new - 1] + cell[new]) // 2 + 1])
    last = np.append(first[1:] - 1, high)
    return first, last, np.add.reduceat(rows, np.concatenate([[0], new]))


def _without(
    own: np.ndarray, first: np.ndarray, last: np.ndarray, mass: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps without the cells that are states of their own."""
    inside = own[(own >= first[0]) & (own <= last[-1])]
    step = np.searchsorted(first, inside, side="right") - 1
    parts = np.arange(len(first)).repeat(1 + np.bincount(step, minlength=len(first)))
    new_first = np.sort(np.concatenate([first, inside + 1]))
    new_last = np.sort(np.concatenate([last, inside - 1]))
    kept = new_first <= new_last
    cells = np.where(kept, new_last - new_first + 1, 0)
    whole = np.bincount(parts, cells)[parts]
    share = mass[parts] * cells / np.maximum(whole, 1)
    return new_first[kept], new_last[kept], share[kept]


class StepLayer(nn.Module):
    """K states of one number, as a ``LeafLayer`` of one variable would have them."""

    low: Tensor
    high: Tensor
    owner: Tensor
    log_mass: Tensor

    def __init__(self, variable: Variable, steps: int, states: int) -> None:
        super().__init__()
        self.states = states
        self.origin = variable.origin
        self.width = float(variable.resolution or 1.0)
        self.register_buffer("low", torch.arange(steps))
        self.register_buffer("high", torch.arange(steps))
        self.register_buffer("owner", torch.zeros(steps, dtype=torch.int64))
        self.register_buffer("log_mass", torch.zeros(steps, dtype=torch.float64))
        self.wide = LeafLayer((dataclasses.replace(variable, atoms=()),), 1)

    @torch.no_grad()
    def start(self, found: Steps) -> None:
        """Take the steps over."""
        for name in ("low", "high", "owner"):
            getattr(self, name).copy_(torch.as_tensor(getattr(found, name)))
        self.log_mass.copy_(torch.as_tensor(found.mass).log())
        self.wide.mean.fill_(found.mean)
        self.wide.log_scale.fill_(math.log(found.deviation))

    @property
    def sound(self) -> bool:
        """Whether the steps stand in order, and each belongs to a state; altered ones may not."""
        apart = bool((self.low[1:] > self.high[:-1]).all()) and bool((self.high >= self.low).all())
        return apart and bool(((self.owner >= 0) & (self.owner < self.states - 1)).all())

    @property
    def mean(self) -> Float[Tensor, "1 K"]:
        """Of each state."""
        centre = self.origin + self.width * (self.low + self.high).double() / 2
        out = torch.zeros(self.states, dtype=torch.float64)
        out.index_add_(0, self.owner, self.log_mass.exp() * centre)
        out[-1] = self.wide.mean[0, 0]
        return out[None]

    def log_prob(
        self, value: Float[Tensor, "B 1"], observed: Bool[Tensor, "B 1"]
    ) -> Float[Tensor, "B 1 K"]:
        """Nats of each value under each state; 0 where missing."""
        cell = torch.round((value[:, 0] - self.origin) / self.width).long()
        step = torch.searchsorted(self.low, cell, right=True) - 1
        some = ((step >= 0) & (cell <= self.high[step])).nonzero()[:, 0]
        out = value.new_full((len(value), self.states), -math.inf)
        step = step[some]
        cells = (self.high[step] - self.low[step] + 1).double()
        out[some, self.owner[step]] = self.log_mass[step] - cells.log()
        out[:, -1] = self.wide.log_prob(value, torch.ones_like(observed))[:, 0, 0]
        return torch.where(observed[:, :, None], out[:, None], 0.0)

    def sample(
        self,
        states: Int[Tensor, "B 1"],
        generator: torch.Generator | None,
        point: Float[Tensor, "B 1"] | None = None,
    ) -> Float[Tensor, "B 1"]:
        """One value of each state; ``point``: its mass under the value, else drawn."""
        out = self.wide.sample(torch.zeros_like(states), generator, point=point)
        if point is None:
            point = torch.rand(states.shape, generator=generator, dtype=torch.float64)
        rows = (states[:, 0] < self.states - 1).nonzero()[:, 0]
        order = self.owner.argsort(stable=True)
        ends = self.log_mass.exp()[order].cumsum(0)  # those of state k lie between k and k + 1
        at = states[rows, 0] + point[rows, 0]
        place = torch.searchsorted(ends, at, right=True)
        first = torch.searchsorted(self.owner[order], states[rows, 0].contiguous())
        last = torch.searchsorted(self.owner[order], states[rows, 0].contiguous(), right=True) - 1
        place = torch.minimum(torch.maximum(place, first), last)
        step = order[place]
        inside = 1 - (ends[place] - at) / self.log_mass.exp()[step].clamp_min(1e-300)
        cells = self.high[step] - self.low[step] + 1
        cell = self.low[step] + (inside.clamp(0, 1) * cells).long().minimum(cells - 1)
        out[rows, 0] = self.origin + self.width * cell.double()
        return out

"""How the cells of a block are laid out: as a vector, an image, a sequence, or points.

Everything that depends on a layout stands here, in one object each. A new kind of data on one of
these layouts touches nothing outside its own files.

Shape letters: B rows, D variables, C channels, H rows and W columns of pixels, N positions,
F features of a position, K ways.
"""

import abc
import itertools
import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from conjoin.core.event import Event

if TYPE_CHECKING:
    from conjoin.core.block import Block, Variable

__all__ = ["LAYOUTS", "Layout"]


class Layout(abc.ABC):
    """What a block's cells need to know about how they lie together."""

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype]
    axes: ClassVar[int]  # of a row's value
    ragged: ClassVar[bool] = False  # rows have as many positions as they need

    def fits(self, shape: tuple[int, ...], capacity: tuple[int, ...]) -> bool:
        """Whether rows of this shape may stand in a block of that shape."""
        return shape == capacity

    @abc.abstractmethod
    def unknown(self, block: "Block", rows: int) -> Event:
        """So many rows of which nothing is known."""

    def canonical(self, block: "Block", event: Event) -> Event:
        """The event in the one form that stands for all that say the same. ValueError where it says
        what can't be."""
        if event.present is not None:
            raise ValueError(f"Block {block.name!r}: {self.name} blocks have no absent positions.")
        return event

    @abc.abstractmethod
    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        """The variable of each cell of a row; of fixed size alone."""

    def ways(self, block: "Block", event: Event) -> float:
        """In how many ways the open cells of a row can be filled; infinite where a number is open.
        The rows of the event know the same cells."""
        open_ = self._open(block, event)
        return math.prod(v.cardinality if v.discrete else math.inf for v in open_.values())

    def fillings(self, block: "Block", event: Event) -> Event:
        """(K rows) every way to fill the open cells of rows that know the same cells; known cells
        hold zero."""
        open_ = self._open(block, event)
        levels = [torch.arange(variable.cardinality) for variable in open_.values()]
        points = torch.cartesian_prod(*levels).reshape(-1, len(open_))
        row = torch.zeros(len(points), math.prod(block.shape)).to(self.dtype)
        row = row.index_copy(1, torch.tensor(list(open_)), points.to(self.dtype))
        return Event(row.unflatten(1, block.shape))

    def every(self, block: "Block") -> Event:
        """Every value that a row of a block of codes can have."""
        return self.fillings(block, self.unknown(block, 1))

    def filled(self, event: Event, ways: Event) -> tuple[Event, Tensor]:
        """The rows with their open cells taken from ``ways``, and which ways (B,) agree with what
        is known."""
        value = torch.where(event.mask, event.value, ways.value)
        return Event(value), torch.ones(event.rows, dtype=torch.bool)

    def stacked(self, events: list[Event]) -> Event:
        """Complete rows below one another."""
        return Event(torch.cat([event.value for event in events]))

    def _open(self, block: "Block", event: Event) -> "dict[int, Variable]":
        """The cells that are not known: where they are in the row, and their variables."""
        known = event.mask[0].flatten().tolist()
        return {
            place: variable for place, variable in enumerate(self.cells(block)) if not known[place]
        }


class Vector(Layout):
    """One position with D features: the columns of a table."""

    name = "vector"
    dtype = torch.float64
    axes = 1

    def unknown(self, block: "Block", rows: int) -> Event:
        nothing = torch.zeros(rows, *block.shape, dtype=torch.bool)
        return Event(nothing.to(self.dtype), nothing)

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        return block.variables


class Image(Vector):
    """C H W pixels of one variable; at most 256 levels."""

    name = "image"
    dtype = torch.uint8
    axes = 3

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        return block.variables * math.prod(block.shape)


class Sequence(Layout):
    """At most N tokens of one variable, then the end."""

    name = "sequence"
    dtype = torch.int64
    axes = 1
    ragged = True

    def fits(self, shape: tuple[int, ...], capacity: tuple[int, ...]) -> bool:
        same = len(shape) == len(capacity) and shape[1:] == capacity[1:]
        return same and shape[0] <= capacity[0]

    def unknown(self, block: "Block", rows: int) -> Event:
        nothing = torch.zeros(rows, *block.shape, dtype=torch.bool)
        return Event(nothing.to(self.dtype), nothing, nothing)

    def canonical(self, block: "Block", event: Event) -> Event:
        """Narrowed to the longest row of which a token or an open place is left."""
        present = self._present(event)
        event = event._replace(present=present, observed=event.mask)
        absent = self._positions(event.mask) & ~present
        needed = (~absent).any(0).nonzero()
        width = max(1, int(needed.max()) + 1 if len(needed) else 0)
        event = event.map(lambda part: part[:, :width])
        self._refuse_gaps(block, event)
        return event

    def _present(self, event: Event) -> Tensor:
        """Where nothing was said, a known cell is there, and of others it is not known."""
        return self._positions(event.mask) if event.present is None else event.present

    def _positions(self, cells: Tensor) -> Tensor:
        """(B, N) of cells: whether all of a position are meant."""
        return cells

    def _refuse_gaps(self, block: "Block", event: Event) -> None:
        there = event.there
        ended = event.mask & ~there
        if (there[:, 1:] & ended[:, :-1]).any():
            raise ValueError(f"Block {block.name!r}: a token stands behind the end.")

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        raise ValueError(f"Block {block.name!r} has rows of any length: no fixed cells.")

    def ways(self, block: "Block", event: Event) -> float:
        levels = block.variables[0].cardinality
        return float(sum(levels**length for length in range(block.shape[0] + 1)))

    def fillings(self, block: "Block", event: Event) -> Event:
        return self.every(block)

    def every(self, block: "Block") -> Event:
        """Every string, the shortest first."""
        levels = range(block.variables[0].cardinality)
        capacity = block.shape[0]
        rows = [
            (*tokens, *(-1,) * (capacity - length))
            for length in range(capacity + 1)
            for tokens in itertools.product(levels, repeat=length)
        ]
        value = torch.tensor(rows, dtype=self.dtype)
        return Event(value.clamp_min(0), torch.ones_like(value, dtype=torch.bool), value >= 0)

    def filled(self, event: Event, ways: Event) -> tuple[Event, Tensor]:
        """A way agrees where it has the known tokens, an end where one is known, and a token where
        one is known to exist."""
        width = event.value.shape[1]
        value = ways.value[:, :width]
        there = ways.there[:, :width]
        same = ((event.value == value) | ~event.there) & (event.there == there)
        exists = event.there & ~event.mask
        fits = (same | ~event.mask) & (there | ~exists)
        agree = fits.flatten(1).all(1)
        if width < ways.value.shape[1]:  # what was cut off was known to be absent in every row
            agree = agree & ~ways.there[:, width:].flatten(1).any(1)
        return ways, agree

    def stacked(self, events: list[Event]) -> Event:
        width = max(event.value.shape[1] for event in events)
        value = torch.cat([_padded(event.value, width) for event in events])
        there = [_padded(self._present(event), width) for event in events]
        return Event(value, torch.ones_like(value, dtype=torch.bool), torch.cat(there))


class Points(Sequence):
    """At most N points of F features each; neither their order nor their place may matter."""

    name = "points"
    dtype = torch.float64
    axes = 2

    def unknown(self, block: "Block", rows: int) -> Event:
        nothing = torch.zeros(rows, *block.shape, dtype=torch.bool)
        return Event(nothing.to(self.dtype), nothing, nothing[..., 0])

    def canonical(self, block: "Block", event: Event) -> Event:
        event = super().canonical(block, event)
        if not block.centred:
            return event
        return event._replace(value=self._centre(block, event))

    def _centre(self, block: "Block", event: Event) -> Tensor:
        """The numbers of complete rows, moved so that each has the mean zero over the points."""
        numbers = torch.tensor([not variable.discrete for variable in block.variables])
        free = event.known & numbers
        value = torch.where(event.known, event.value, torch.zeros_like(event.value)).to(self.dtype)
        mean = (value * free).sum(1, keepdim=True) / free.sum(1, keepdim=True).clamp_min(1)
        return torch.where(free, value - mean, value)

    def _positions(self, cells: Tensor) -> Tensor:
        return cells.all(2)

    def _refuse_gaps(self, block: "Block", event: Event) -> None:
        """Points have no order: padding may stand anywhere."""

    def ways(self, block: "Block", event: Event) -> float:
        if not all(variable.discrete for variable in block.variables):
            return math.inf
        levels = math.prod(variable.cardinality for variable in block.variables)
        return float(sum(levels**count for count in range(block.shape[0] + 1)))

    def every(self, block: "Block") -> Event:
        """Every tuple of points, the fewest first; of codes alone."""
        each = list(itertools.product(*(range(v.cardinality) for v in block.variables)))
        blank = (0,) * block.shape[1]
        capacity = block.shape[0]
        rows = [
            (points + (blank,) * (capacity - count), count)
            for count in range(capacity + 1)
            for points in itertools.product(each, repeat=count)
        ]
        value = torch.tensor([points for points, _ in rows], dtype=self.dtype)
        count = torch.tensor([count for _, count in rows])
        there = torch.arange(capacity) < count[:, None]
        return Event(value, torch.ones_like(value, dtype=torch.bool), there)


def _padded(part: Tensor, width: int) -> Tensor:
    """(B, n, ...) as (B, width, ...), with zeros behind."""
    after = part.new_zeros(len(part), width - part.shape[1], *part.shape[2:])
    return torch.cat([part, after], 1)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (Vector(), Image(), Sequence(), Points())
}

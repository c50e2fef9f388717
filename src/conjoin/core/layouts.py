"""How the cells of a block are laid out: as a vector, an image, a sequence, or points.

Everything that depends on a layout stands here, in one object each. A new kind of data on one of
these layouts touches nothing outside its own files.

Shape letters: B rows, D variables, C channels, H rows and W columns of pixels, N positions,
F features of a position, K ways.
"""

import abc
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor, nn

from conjoin.core.event import Event

if TYPE_CHECKING:
    from conjoin.core.block import Block, Variable

__all__ = ["LAYOUTS", "Layout", "NotFlatError"]

MAX_LOG_WAYS = 40.0  # log of a number of ways, beyond which they are as good as infinite


class NotFlatError(ValueError):
    """No flat row says what is known of a block."""


class Layout(abc.ABC):
    """What a block's cells need to know about how they lie together."""

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype]
    axes: ClassVar[int]  # of a row's value
    ragged: ClassVar[bool]  # whether rows have as many positions as they need
    columnar: ClassVar[bool] = False  # whether its variables are columns, told one by one
    unordered: ClassVar[bool] = False  # whether the order of its positions means nothing

    @final
    def unknown(self, block: "Block", rows: int) -> Event:
        """So many rows of which nothing is known."""
        nothing = torch.zeros(rows, *block.shape, dtype=torch.bool)
        present = nothing[..., 0] if nothing.dim() > 2 else nothing
        return Event(nothing.to(self.dtype), nothing, present if self.ragged else None)

    @abc.abstractmethod
    def fits(self, shape: tuple[int, ...], capacity: tuple[int, ...]) -> bool:
        """Whether rows of this shape may stand in a block of that shape."""

    @abc.abstractmethod
    def canonical(self, block: "Block", event: Event) -> Event:
        """The event in the one form that stands for all that say the same. ValueError where it says
        what can't be."""

    @abc.abstractmethod
    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        """The variable of each cell of a flat row; ValueError where there is no such row."""

    @abc.abstractmethod
    def flattened(self, block: "Block", event: Event) -> tuple[Tensor, Tensor]:
        """(B, M) float64 and (B, M) bool: the cells of checked rows, and which are known."""

    @abc.abstractmethod
    def restored(self, block: "Block", value: Tensor, mask: Tensor) -> Event:
        """The rows that ``flattened`` made such cells of."""

    @abc.abstractmethod
    def ways(self, block: "Block", event: Event) -> float:
        """In how many ways the open cells of a row can be filled; infinite where a number is open.
        The rows of the event know the same cells."""

    @abc.abstractmethod
    def fillings(self, block: "Block", event: Event) -> Event:
        """(K rows) every way to fill the open cells of rows that know the same cells; known cells
        hold zero."""

    @abc.abstractmethod
    def filled(self, event: Event, ways: Event) -> tuple[Event, Tensor]:
        """The rows with their open cells taken from ``ways``, and which ways (B,) agree with what
        is known."""

    @abc.abstractmethod
    def stacked(self, events: list[Event]) -> Event:
        """Complete rows below one another."""

    @final
    def every(self, block: "Block") -> Event:
        """Every value that a row of a block of codes can have."""
        return self.fillings(block, self.unknown(block, 1))


class _Fixed(Layout):
    """Rows that all have the same cells."""

    ragged = False

    def fits(self, shape: tuple[int, ...], capacity: tuple[int, ...]) -> bool:
        return shape == capacity

    def flattened(self, block: "Block", event: Event) -> tuple[Tensor, Tensor]:
        return event.value.flatten(1).double(), event.mask.flatten(1)

    def restored(self, block: "Block", value: Tensor, mask: Tensor) -> Event:
        shape = (-1, *block.shape)
        return Event(value.reshape(shape).to(self.dtype), mask.reshape(shape))

    def canonical(self, block: "Block", event: Event) -> Event:
        if event.present is not None:
            raise ValueError(f"Block {block.name!r}: {self.name} blocks have no absent positions.")
        return event

    def ways(self, block: "Block", event: Event) -> float:
        open_ = self._open(block, event)
        levels = [v.cardinality if v.discrete else math.inf for v in open_.values()]
        return _counted(sum(math.log(level) for level in levels), lambda: math.prod(levels))

    def fillings(self, block: "Block", event: Event) -> Event:
        open_ = self._open(block, event)
        levels = [torch.arange(variable.cardinality) for variable in open_.values()]
        points = torch.cartesian_prod(*levels).reshape(-1, len(open_))
        row = torch.zeros(len(points), math.prod(block.shape)).to(self.dtype)
        row = row.index_copy(1, torch.tensor(list(open_)), points.to(self.dtype))
        return Event(row.reshape(-1, *block.shape))

    def filled(self, event: Event, ways: Event) -> tuple[Event, Tensor]:
        value = torch.where(event.mask, event.value, ways.value)
        if event.within is None:
            return Event(value), torch.ones(event.rows, dtype=torch.bool)
        inside = event.within.holds(value.flatten(1)) | event.mask.flatten(1)
        return Event(value), inside.all(1)

    def stacked(self, events: list[Event]) -> Event:
        return Event(torch.cat([event.value for event in events]))

    def _open(self, block: "Block", event: Event) -> "dict[int, Variable]":
        """The cells that are not known: where they are in the row, and their variables."""
        known = event.mask[0].flatten().tolist()
        cells = enumerate(self.cells(block))
        return {place: variable for place, variable in cells if not known[place]}


class Vector(_Fixed):
    """One position with D features: the columns of a table."""

    name = "vector"
    dtype = torch.float64
    axes = 1
    columnar = True

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        return block.variables


class Image(_Fixed):
    """C H W pixels of one variable; at most 256 levels."""

    name = "image"
    dtype = torch.uint8
    axes = 3

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        return block.variables * math.prod(block.shape)


class _Ragged(Layout):
    """Rows of at most N positions, the rest of which is absent."""

    ragged = True

    def fits(self, shape: tuple[int, ...], capacity: tuple[int, ...]) -> bool:
        same = len(shape) == len(capacity) and shape[1:] == capacity[1:]
        return same and shape[0] <= capacity[0]

    def canonical(self, block: "Block", event: Event) -> Event:
        """Narrowed to the last position that is there, or open, in any row. Behind an open one the
        end stays to be seen: else a row known to be short would look like one of any length."""
        event = event._replace(present=self._present(event), observed=event.mask)
        absent = self._positions(event.mask) & ~self._present(event)
        needed = (~absent).any(0).nonzero()
        width = max(1, int(needed.max()) + 1 if len(needed) else 0)
        event = event.map(lambda part: part[:, :width])
        if width < block.shape[0] and not bool(self._positions(event.mask)[:, -1:].all()):
            event = _ended(event, self._present(event))
        return self._settled(block, event)

    def filled(self, event: Event, ways: Event) -> tuple[Event, Tensor]:
        """A way agrees where it has the known values, an end where one is known, and a value where
        one is known to exist."""
        width = event.value.shape[1]
        there = ways.there[:, :width]
        same = ((event.value == ways.value[:, :width]) | ~event.there) & (event.there == there)
        exists = event.there & ~event.mask
        fits = (same | ~event.mask) & (there | ~exists)
        # what was cut off was known to be absent in every row
        longer = ways.there[:, width:].flatten(1).any(1)
        return ways, fits.flatten(1).all(1) & ~longer

    def stacked(self, events: list[Event]) -> Event:
        width = max(event.value.shape[1] for event in events)
        value = torch.cat([_padded(event.value, width) for event in events])
        there = [_padded(self._present(event), width) for event in events]
        return Event(value, torch.ones_like(value, dtype=torch.bool), torch.cat(there))

    def _present(self, event: Event) -> Tensor:
        """Where nothing was said, a known position is there, and of others it is not known."""
        return self._positions(event.mask) if event.present is None else event.present

    @abc.abstractmethod
    def _positions(self, cells: Tensor) -> Tensor:
        """(B, N) of cells: whether all of a position are meant."""

    @abc.abstractmethod
    def _settled(self, block: "Block", event: Event) -> Event:
        """The narrowed event, checked and brought to its place."""


class Sequence(_Ragged):
    """At most N tokens of one variable, then the end."""

    name = "sequence"
    dtype = torch.int64
    axes = 1

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        """One variable for each of N positions, whose last code says that there is none."""
        token = block.variables[0]
        return (replace(token, cardinality=token.cardinality + 1),) * block.shape[0]

    def flattened(self, block: "Block", event: Event) -> tuple[Tensor, Tensor]:
        """Absent positions have the code V. NotFlatError if a position is known to exist while its
        token is unknown: no code stands for that."""
        if (event.there & ~event.mask).any():
            raise NotFlatError(
                f"Block {block.name!r}: a flat row can't say that a position exists whose token "
                "is not known."
            )
        capacity = block.shape[0]
        absent = block.variables[0].cardinality
        value = torch.where(event.mask & ~event.there, absent, event.value).double()
        pad = (0, capacity - value.shape[1])  # what was cut off is known to be absent
        value = nn.functional.pad(value, pad, value=float(absent))
        return value, nn.functional.pad(event.mask, pad, value=True)

    def restored(self, block: "Block", value: Tensor, mask: Tensor) -> Event:
        absent = block.variables[0].cardinality
        there = mask & (value < absent)
        return Event(torch.where(there, value, 0.0).to(self.dtype), mask, there)

    def ways(self, block: "Block", event: Event) -> float:
        levels = block.variables[0].cardinality
        capacity = block.shape[0]
        log_most = capacity * math.log(levels) + math.log(capacity + 1)
        return _counted(log_most, lambda: sum(levels**each for each in range(capacity + 1)))

    def fillings(self, block: "Block", event: Event) -> Event:
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

    def _positions(self, cells: Tensor) -> Tensor:
        return cells

    def _settled(self, block: "Block", event: Event) -> Event:
        ended = event.mask & ~event.there
        if (event.there[:, 1:] & ended[:, :-1]).any():
            raise ValueError(f"Block {block.name!r}: a token stands behind the end.")
        return event


class Points(_Ragged):
    """At most N points of F features each; neither their order nor their place may matter."""

    name = "points"
    dtype = torch.float64
    axes = 2
    unordered = True

    def cells(self, block: "Block") -> "tuple[Variable, ...]":
        raise ValueError(f"Block {block.name!r} has points, which are no part of a flat row.")

    def flattened(self, block: "Block", event: Event) -> tuple[Tensor, Tensor]:
        raise ValueError(f"Block {block.name!r} has points, which are no part of a flat row.")

    def restored(self, block: "Block", value: Tensor, mask: Tensor) -> Event:
        raise ValueError(f"Block {block.name!r} has points, which are no part of a flat row.")

    def ways(self, block: "Block", event: Event) -> float:
        if not all(variable.discrete for variable in block.variables):
            return math.inf
        levels = math.prod(variable.cardinality for variable in block.variables)
        capacity = block.shape[0]
        log_most = capacity * math.log(levels) + math.log(capacity + 1)
        return _counted(log_most, lambda: sum(levels**each for each in range(capacity + 1)))

    def fillings(self, block: "Block", event: Event) -> Event:
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

    def _positions(self, cells: Tensor) -> Tensor:
        return cells.all(2)

    def _settled(self, block: "Block", event: Event) -> Event:
        """The numbers moved so that each has the mean zero over the points, where they are told up
        to a translation."""
        if not block.centred:
            return event
        numbers = torch.tensor([not variable.discrete for variable in block.variables])
        free = event.known & numbers
        value = torch.where(event.known, event.value, torch.zeros_like(event.value)).to(self.dtype)
        mean = (value * free).sum(1, keepdim=True) / free.sum(1, keepdim=True).clamp_min(1)
        return event._replace(value=torch.where(free, value - mean, value))


def _ended(event: Event, present: Tensor) -> Event:
    """The same rows, with one position more that is known to be absent."""
    width = event.value.shape[1] + 1
    last = (torch.arange(width) == width - 1).reshape(-1, *(1,) * (event.value.dim() - 2))
    observed = _padded(event.mask, width) | last
    return Event(_padded(event.value, width), observed, _padded(present, width))


def _counted(log_most: float, count: Callable[[], float]) -> float:
    """A number of ways, infinite where it is beyond all listing: a float can't hold it."""
    return float(count()) if log_most < MAX_LOG_WAYS else math.inf


def _padded(part: Tensor, width: int) -> Tensor:
    """(B, n, ...) as (B, width, ...), with zeros behind."""
    after = part.new_zeros(len(part), width - part.shape[1], *part.shape[2:])
    return torch.cat([part, after], 1)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (Vector(), Image(), Sequence(), Points())
}

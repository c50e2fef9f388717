"""What is known of some rows: events of one block, and records of several.

An event holds the values of B rows with masks that say which cells are known. A region says where
cells lie that are not known. A record names several events of the same rows.

Shape letters: B rows, D variables, N positions, F features of one position.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Edit",
    "Event",
    "Pair",
    "Record",
    "Region",
    "after_one",
    "but_first",
    "chosen",
    "concatenated",
    "joined",
    "slices",
]


class Region(NamedTuple):
    """Where missing cells lie: ``low <= value <= high`` and, for a category, an allowed set.

    Edges (D,) hold for every row. Edges (B, D) hold for each row by itself: a censored cell.
    """

    low: Tensor  # (D,) or (B, D); -inf where open
    high: Tensor  # (D,) or (B, D); +inf where open
    # variable -> (cardinality,) bool, or (B, cardinality) where the edges are those of each row
    allowed: dict[int, Tensor] = {}  # noqa: RUF012 (a NamedTuple default, never written to)

    @property
    def per_row(self) -> bool:
        """Whether each row has edges of its own."""
        return self.low.dim() > 1

    @property
    def constrained(self) -> Tensor:
        """(D,) or (B, D) bool: the variables that the region says something about."""
        cells = torch.isfinite(self.low) | torch.isfinite(self.high)
        for variable in self.allowed:
            cells = cells.index_fill(-1, torch.tensor([variable]), True)
        return cells

    def holds(self, value: Tensor) -> Tensor:
        """(B, D) bool: which values (B, D) lie where the region says."""
        inside = (value >= self.low) & (value <= self.high)
        for variable, keep in self.allowed.items():
            code = value[:, variable].long()
            found = keep.gather(1, code[:, None])[:, 0] if self.per_row else keep[code]
            inside = inside & (found[:, None] | (torch.arange(value.shape[1]) != variable))
        return inside

    def take(self, index: Tensor | slice) -> "Region":
        """The region of the rows at ``index``."""
        if not self.per_row:
            return self
        allowed = {d: keep[index] for d, keep in self.allowed.items()}
        return Region(self.low[index], self.high[index], allowed)

    def cut(self, width: int) -> tuple["Region", "Region"]:
        """What is said of the first ``width`` variables, and of the others."""
        before = {d: keep for d, keep in self.allowed.items() if d < width}
        after = {d - width: keep for d, keep in self.allowed.items() if d >= width}
        return (
            Region(self.low[..., :width], self.high[..., :width], before),
            Region(self.low[..., width:], self.high[..., width:], after),
        )

    def first(self) -> "Region":
        """The region of the first row, as one for all."""
        return Region(self.low[0], self.high[0], {d: keep[0] for d, keep in self.allowed.items()})


def slices(rows: int, size: int) -> list[slice]:
    """Rows in parts of ``size``; one empty part where there are none."""
    return [slice(start, start + size) for start in range(0, rows, size)] or [slice(0, 0)]


def joined(each: "Sequence[Event]") -> "Event":
    """Whole strings of several lengths as one event."""
    width = max(event.value.shape[1] for event in each)
    padded = []
    for event in each:
        more = (0, width - event.value.shape[1])
        value = torch.nn.functional.pad(event.value, more)
        there = torch.nn.functional.pad(event.there, more)
        padded.append(Event(value, torch.ones_like(there), there))
    return concatenated(padded)


def after_one(region: Region | None) -> Region | None:
    """The region of x as one of (y, x): y is free."""
    if region is None:
        return None
    free = torch.full((*region.low.shape[:-1], 1), torch.inf, dtype=region.low.dtype)
    return Region(
        torch.cat([-free, region.low], -1),
        torch.cat([free, region.high], -1),
        {d + 1: keep for d, keep in region.allowed.items()},
    )


def but_first(region: Region | None) -> Region | None:
    """The region of (y, x) as one of x."""
    return None if region is None else region.cut(1)[1]


class Event(NamedTuple):
    """What is known of B rows of one block; a context is one too.

    A position is in one of four states:

    ========  =======  ==========================================
    observed  present  meaning
    ========  =======  ==========================================
    True      True     its value is known
    True      False    it is known to be absent (padding, the end)
    False     True     it exists, its value is unknown
    False     False    nothing is known, not even whether it exists
    ========  =======  ==========================================

    Blocks of fixed size have no absent positions: there ``present`` is None.
    """

    value: Tensor  # (B, *shape); categories are codes 0..K-1
    observed: Tensor | None = None  # (B, *shape) bool
    present: Tensor | None = None  # (B, N) bool, of each position; sequences and points only
    within: Region | None = None  # where missing cells lie

    @property
    def mask(self) -> Tensor:
        """Which cells are told, as a boolean tensor of the value's shape."""
        if self.observed is not None:
            return self.observed
        return torch.ones_like(self.value, dtype=torch.bool)

    @property
    def there(self) -> Tensor:
        """``present`` in the value's shape."""
        if self.present is None:
            return torch.ones_like(self.value, dtype=torch.bool)
        ones = (1,) * (self.value.dim() - self.present.dim())
        return self.present.reshape(*self.present.shape, *ones).expand(self.value.shape)

    @property
    def known(self) -> Tensor:
        """Which cells have a known value, as a boolean tensor of the value's shape."""
        return self.mask if self.present is None else self.mask & self.there

    @property
    def complete(self) -> Tensor:
        """(B,) bool: nothing of the row is open."""
        return _cells(self.mask).all(1)

    @property
    def unobserved(self) -> Tensor:
        """(B,) bool: nothing is known of the row: no cell, no length, no region."""
        told = self.mask if self.present is None else self.mask | self.there
        free = ~_cells(told).any(1)
        if self.within is None:
            return free
        cells = self.within.constrained.expand(self.rows, -1)
        return free & ~cells.any(1)

    @property
    def rows(self) -> int:
        return self.value.shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Event":
        """The event with ``change`` done to each of its tensors of rows; the region stays."""
        observed = None if self.observed is None else change(self.observed)
        present = None if self.present is None else change(self.present)
        return Event(change(self.value), observed, present, self.within)

    def take(self, index: Tensor | slice) -> "Event":
        """The rows at ``index``."""
        within = None if self.within is None else self.within.take(index)
        return self.map(lambda part: part[index])._replace(within=within)

    def cut(self, width: int) -> tuple["Event", "Event"]:
        """The first ``width`` variables of rows (B, D), with what the region says of them; and the
        others, without a region."""
        mask = self.mask
        within = None if self.within is None else self.within.cut(width)[0]
        return (
            Event(self.value[:, :width], mask[:, :width], within=within),
            Event(self.value[:, width:], mask[:, width:]),
        )

    def hide(self, cells: Tensor) -> "Event":
        """The same rows with ``cells`` (broadcastable bool) not known; neither is whether positions
        exist whose cells are all hidden."""
        observed = self.mask & ~cells
        if self.present is None:
            return self._replace(observed=observed)
        gone = _cells(cells.expand(self.value.shape), self.present.dim()).all(-1)
        return self._replace(observed=observed, present=self.present & ~gone)


def _cells(part: Tensor, axes: int = 1) -> Tensor:
    """(B, C) of what is said of rows, or (B, N, C) of their positions; also where there is no
    row."""
    lead = part.shape[:axes]
    return part.reshape(*lead, math.prod(part.shape[axes:]))


def concatenated(each: Sequence[Event]) -> Event:
    """The rows of one event after those of another; their regions are left out."""
    value = torch.cat([event.value for event in each])
    mask = torch.cat([event.mask for event in each])
    present = [event.present for event in each if event.present is not None]
    return Event(value, mask, torch.cat(present) if present else None)


def chosen(each: Sequence[Event], which: Tensor) -> Event:
    """Complete rows: of each row that of the events whose number is in ``which`` (B,), with what it
    says of absent positions."""
    rows = torch.arange(len(which))
    value = torch.stack([event.value for event in each], 1)[rows, which]
    present = [event.present for event in each if event.present is not None]
    return Event(value, present=torch.stack(present, 1)[rows, which] if present else None)


class Pair(NamedTuple):
    """The event of a joint model: labels (or a number) y beside x."""

    y: Event
    x: Any  # an Event, or a Record where x has several blocks

    @property
    def rows(self) -> int:
        return int(self.x.rows)

    def take(self, index: Tensor | slice) -> "Pair":
        return Pair(self.y.take(index), self.x.take(index))


class Record(Mapping[str, Event]):
    """Named events of the same rows: all that is known of them.

    Parameters
    ----------
    parts, more
        An event for each block, by its name.

    Raises
    ------
    ValueError
        If the events have different numbers of rows.

    Examples
    --------
    >>> record = Record(mass=Event(torch.zeros(3, 1)), age=Event(torch.ones(3, 1)))
    >>> record.rows, list(record.take(slice(0, 2)).only(["age"]))
    (3, ['age'])
    """

    def __init__(self, parts: Mapping[str, Event] | None = None, **more: Event) -> None:
        self._parts = {**(parts or {}), **more}
        counts = {name: event.rows for name, event in self._parts.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {rows}" for name, rows in counts.items())
            raise ValueError(f"The blocks of a record have different numbers of rows: {told}.")

    def __getitem__(self, name: str) -> Event:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def rows(self) -> int:
        """How many rows; 0 where there is no block."""
        return next((event.rows for event in self._parts.values()), 0)

    def take(self, index: Tensor | slice) -> "Record":
        """The rows at ``index``."""
        return Record({name: event.take(index) for name, event in self.items()})

    def only(self, names: Iterable[str]) -> "Record":
        """The blocks of these names, as far as they are there."""
        return Record({name: self[name] for name in names if name in self._parts})

    def updated(self, parts: Mapping[str, Event]) -> "Record":
        """The record with some blocks in place of its own, or beside them."""
        return Record({**self._parts, **parts})


class Edit(NamedTuple):
    """How rows are changed towards a context: they are carried up to ``noise`` (in standard
    deviations of a cell) and come back under the context, which is exaggerated by ``strength``.

    Cells outside of ``where`` stay as they are. On the way back, what the rows are taken to be
    moves by ``lead`` of it, in standard deviations of a cell. With a ``generator`` the noise is
    drawn, the same for all rows; without one the rows follow the flow that knows no context.
    """

    noise: float
    strength: Tensor  # (B,)
    where: Tensor | None = None  # (B, D) bool
    lead: Callable[[Tensor], Tensor] | None = None  # (B, D) -> (B, D)
    generator: torch.Generator | None = None

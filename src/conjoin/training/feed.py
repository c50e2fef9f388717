"""Where the rows of each step come from: from memory, or from a table that is read again for every
pass.

The rows of step t are a function of (seed, t) alone, so a fit that was broken off goes on with the
same bits.
"""

import abc
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Event, Pair, Record, stream
from conjoin.core.event import slices
from conjoin.training import ranks
from conjoin.training.learners import Batch, Pass, Piece

__all__ = ["Feed", "Held", "Passes", "Shuffled", "in_parts"]

AT_ONCE = 4096  # rows whose statistics are worked out together
# cells of pictures kept as bytes that are judged together: a density may hold hundreds of numbers
# for each; and the least rows
BYTES_AT_ONCE = 1 << 17
MIN_ROWS_AT_ONCE = 32

Read = Callable[[int, int, int], Iterator[Event | Pair | Record]]
"""``read(epoch, rank, world)``: every ``world``-th row of a table from the ``rank``-th on, in
pieces; the order of the pieces may depend on the epoch.
"""


class Feed(abc.ABC):
    """``rows`` of an epoch, cut into ``parts`` batches."""

    rows: int

    @abc.abstractmethod
    def parts(self, batch: int) -> int:
        """How many batches of about ``batch`` rows an epoch has."""

    @abc.abstractmethod
    def batch(self, step: int, parts: int) -> Batch | Pass:
        """The rows of step ``step``, counted from the beginning of the fit."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """What tells these rows from others, as far as that can be said without reading a file."""


class Held(Feed):
    """Rows in memory, in a new order for every epoch."""

    def __init__(self, fit: Event | Pair | Record, weight: Tensor, seed: int) -> None:
        self.fit = fit
        self.weight = weight
        self.seed = seed
        self.rows = fit.rows
        self.epoch = -1
        self.order = torch.empty(0, dtype=torch.long)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for values in (*_tensors(self.fit), self.weight):
            digest.update(values.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.rows} rows, {digest.hexdigest()[:16]}"

    def parts(self, batch: int) -> int:
        return max(1, round(self.rows / batch))

    def batch(self, step: int, parts: int) -> Batch:
        total = float(self.weight.sum())
        if parts == 1:
            return Batch(self.fit, self.weight, total)
        epoch, part = divmod(step, parts)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = torch.randperm(self.rows, generator=stream(self.seed, "epoch", epoch))
        index = self.order.tensor_split(parts)[part]
        return Batch(self.fit.take(index), self.weight[index], total)


def _tensors(rows: Event | Pair | Record) -> Iterator[Tensor]:
    """What is known of the rows, and where."""
    if isinstance(rows, Pair):
        yield from _tensors(rows.y)
        yield from _tensors(rows.x)
    elif isinstance(rows, Record):
        for event in rows.values():
            yield from _tensors(event)
    else:
        yield rows.value
        yield rows.mask


class Passes(Feed):
    """All rows in every step: sufficient statistics are added up piece by piece, whatever the order
    of the table."""

    def __init__(self, read: Read, rows: int) -> None:
        self.read = read
        self.rows = rows

    def fingerprint(self) -> str:
        return f"{self.rows} rows"

    def parts(self, batch: int) -> int:
        return 1

    def batch(self, step: int, parts: int) -> Pass:
        return Pass(self._pieces, float(self.rows))

    def _pieces(self) -> Iterator[Piece]:
        for rows in self.read(0, ranks.rank(), ranks.world()):
            for part in slices(rows.rows, AT_ONCE):
                piece = rows.take(part)
                yield piece, torch.ones(piece.rows, dtype=torch.float64)


class Shuffled(Feed):
    """Mini-batches of a table: its pieces one after the other, the rows of each in a new order."""

    def __init__(self, read: Read, rows: int, seed: int) -> None:
        self.read = read
        self.rows = rows
        self.seed = seed
        self.next = -1  # the step that ``cut`` goes on with
        self.cut: Iterator[Event | Pair | Record] = iter(())

    def fingerprint(self) -> str:
        return f"{self.rows} rows"

    def parts(self, batch: int) -> int:
        return max(1, round(self.rows / batch))

    def batch(self, step: int, parts: int) -> Batch:
        epoch, part = divmod(step, parts)
        if step != self.next or part == 0:
            self.cut = self._cut(epoch, parts)
            for _ in range(part):
                next(self.cut)
        self.next = step + 1
        rows = next(self.cut)
        return Batch(rows, torch.ones(rows.rows, dtype=torch.float64), float(self.rows))

    def _cut(self, epoch: int, parts: int) -> Iterator[Event | Pair | Record]:
        """The batches of an epoch, which differ by at most one row."""
        least, more = divmod(self.rows, parts)
        sizes = iter([least + 1] * more + [least] * (parts - more))
        rest: Any = None
        size = next(sizes)
        for number, piece in enumerate(self.read(epoch, 0, 1)):
            piece = piece.take(
                torch.randperm(piece.rows, generator=stream(self.seed, "piece", epoch, number))
            )
            rest = piece if rest is None else _join(rest, piece)
            while rest.rows >= size:
                yield rest.take(slice(0, size))
                rest = rest.take(slice(size, None))
                size = next(sizes, self.rows)


def _join(first: Any, second: Any) -> Any:
    """The rows of one after those of the other."""
    if isinstance(first, Pair):
        return Pair(_join(first.y, second.y), _join(first.x, second.x))
    return Event(torch.cat([first.value, second.value]), torch.cat([first.mask, second.mask]))


def in_parts(rows: Any) -> list[Any]:
    """Rows as they are, but pictures that are kept as bytes in parts, so that few are cast at
    once."""
    x = rows.x if isinstance(rows, Pair) else rows
    if not isinstance(x, Event) or x.value.dtype != torch.uint8:
        return [rows]
    most = max(MIN_ROWS_AT_ONCE, BYTES_AT_ONCE // max(1, x.value[:1].numel()))
    return [rows.take(part) for part in slices(rows.rows, most)]

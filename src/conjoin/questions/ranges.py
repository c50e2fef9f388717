"""Draws that stay where the rows of the fit were: between the least and the greatest value of each
column, and on its only values where it has few.

Rows that leave the ranges are drawn again, so that draws come from p(x | x in the ranges); what
still lies outside after several rounds is mirrored at the end that it left. log p(x) is that of the
model itself, whose tails are open.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Codec, Event, Pair

__all__ = ["draw_in_range", "lifted", "settled"]

MAX_DRAWN = 4  # times as many rows as are wanted, at most


def draw_in_range(
    codec: Codec,
    draw: Callable[[Tensor], Any],
    known: Event,
    open_places: Collection[int] = (),
) -> Any:
    """What ``draw`` makes of the rows at some places, an Event or a Pair, with every drawn cell in
    its range.

    ``known``: the cells that are not drawn. ``open_places``: variables whose range is lifted."""
    rows = known.rows
    drawn = draw(torch.arange(rows))
    if codec.ranges is None or not rows:
        return drawn
    left = _outside(codec, drawn, known, open_places).nonzero()[:, 0]
    total = rows
    while len(left) and total + len(left) <= MAX_DRAWN * rows:
        drawn = _replaced(drawn, left, draw(left))
        total += len(left)
        left = left[_outside(codec, _take(drawn, left), known.take(left), open_places)]
    mirrored = _mirrored(codec, _x(drawn))
    return _with_x(drawn, settled(codec, mirrored, known, open_places, _x(drawn)))


def settled(
    codec: Codec,
    event: Event,
    known: Event,
    open_places: Collection[int] = (),
    as_drawn: Event | None = None,
) -> Event:
    """The event with each cell that is not ``known`` at the nearest value that may be drawn; cells
    that are known, or whose range is lifted, are those of ``as_drawn``, by default of the event."""
    if codec.ranges is None:
        return event
    fixed = known.mask.clone()
    fixed[:, list(open_places)] = True
    plain = event if as_drawn is None else as_drawn
    return event._replace(value=torch.where(fixed, plain.value, codec.settle(event.value)))


def _mirrored(codec: Codec, event: Event) -> Event:
    """The event with values that left their range mirrored at its end, where the range has ends;
    put there, they would pile up."""
    low, high = codec.ranges  # type: ignore[misc]
    value = event.value
    value = torch.where(value < low, 2 * low - value, value)
    return event._replace(value=torch.where(value > high, 2 * high - value, value))


def lifted(codec: Codec, given: Collection[Any], tails: bool) -> list[int]:
    """Variables whose range is not kept: all of them with ``tails``, else those of the columns that
    the user asks for a range of."""
    if tails:
        return list(range(len(codec.space.variables)))
    return [place for place, name in enumerate(codec.columns) if name in given]


def _outside(codec: Codec, drawn: Any, known: Event, open_places: Collection[int]) -> Tensor:
    """(B,) whether a drawn cell, or a drawn y, has left its range."""
    low, high = codec.ranges  # type: ignore[misc]
    value = _x(drawn).value
    far = (value < low - _slack(low)) | (value > high + _slack(high))
    far &= ~known.mask
    far[:, list(open_places)] = False
    closed = len(open_places) < value.shape[1]  # tails are wanted where all are open
    return far.any(1) | codec.beyond(value) if closed else far.any(1)


def _slack(end: Tensor) -> Tensor:
    """What rounding may add."""
    return torch.where(end.isfinite(), 1e-9 * (1 + end.abs()), torch.zeros_like(end))


def _x(drawn: Any) -> Event:
    event: Event = drawn.x if isinstance(drawn, Pair) else drawn
    return event


def _with_x(drawn: Any, x: Event) -> Any:
    return drawn._replace(x=x) if isinstance(drawn, Pair) else x


def _take(drawn: Any, index: Tensor) -> Any:
    if isinstance(drawn, Pair):
        return Pair(drawn.y.take(index), drawn.x.take(index))
    return drawn.take(index)


def _replaced(drawn: Any, index: Tensor, fresh: Any) -> Any:
    """The draws, with the rows at ``index`` from ``fresh``."""
    if isinstance(drawn, Pair):
        return Pair(_put(drawn.y, index, fresh.y), _put(drawn.x, index, fresh.x))
    return _put(drawn, index, fresh)


def _put(old: Event, index: Tensor, fresh: Event) -> Event:
    value = old.value.index_copy(0, index, fresh.value)
    present = old.present
    if present is not None and fresh.present is not None:
        present = present.index_copy(0, index, fresh.present)
    return old._replace(value=value, present=present)

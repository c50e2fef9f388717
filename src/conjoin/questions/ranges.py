"""Draws that stay where the rows of the fit were: between the least and the greatest value of each
column and of a number y, and on its only values where a column has few.

Rows that leave the ranges are drawn again, so that draws come from p(x | x in the ranges); what
still lies outside after several rounds is mirrored at the end that it left. log p(x) is that of the
model itself, whose tails are open.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Codec, Event, Pair

__all__ = ["Ends", "draw_in_range", "ends_of", "lifted", "settled"]

Ends = tuple[Tensor, Tensor]  # the least and the greatest y, () or (k,), in event units

MAX_DRAWN = 4  # times as many rows as are wanted, at most


def draw_in_range(
    codec: Codec,
    draw: Callable[[Tensor], Any],
    known: Event,
    open_places: Collection[int] = (),
    of_y: Ends | None = None,
) -> Any:
    """What ``draw`` makes of the rows at some places, an Event or a Pair, with every drawn cell in
    its range.

    ``known``: the cells that are not drawn. ``open_places``: variables whose range is lifted.
    ``of_y``: the range of y in a Pair, None where it is open or y is not drawn."""
    rows = known.rows
    drawn = draw(torch.arange(rows))
    if not rows or (codec.ranges is None and of_y is None):
        return drawn

    def outside(some: Any, of: Event) -> Tensor:
        return _outside(codec, some, of, open_places) | _beyond(some, of_y)

    left = outside(drawn, known).nonzero()[:, 0]
    total = rows
    while len(left) and total + len(left) <= MAX_DRAWN * rows:
        drawn = _replaced(drawn, left, draw(left))
        total += len(left)
        left = left[outside(_take(drawn, left), known.take(left))]
    drawn = drawn if of_y is None else drawn._replace(y=_within(drawn.y, of_y))
    if codec.ranges is None:
        return drawn
    mirrored = _mirrored(codec, _x(drawn))
    return _with_x(drawn, settled(codec, mirrored, known, open_places, _x(drawn)))


def ends_of(targets: Sequence[Any], tails: bool) -> Ends | None:
    """The ranges (k,) of targets, from the least to the greatest value of the fit; None with
    ``tails``, or where nothing is known of any."""
    ends = torch.tensor([target.ends for target in targets], dtype=torch.float64)
    return None if tails or ends.isinf().all() else (ends[:, 0], ends[:, 1])


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
    return event._replace(value=_reflected(event.value, *codec.ranges))  # type: ignore[misc]


def _reflected(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    value = torch.where(value < low, 2 * low - value, value)
    return torch.where(value > high, 2 * high - value, value)


def _within(y: Event, ends: Ends) -> Event:
    """y with values that left their range mirrored at its end, those far outside put there."""
    return y._replace(value=_reflected(y.value, *ends).clamp(*ends))


def _beyond(drawn: Any, ends: Ends | None) -> Tensor:
    """(B,) whether a drawn y has left its range."""
    if ends is None:
        return torch.zeros(_x(drawn).rows, dtype=torch.bool)
    low, high = ends
    value = drawn.y.value
    far = (value < low - _slack(low)) | (value > high + _slack(high))
    left: Tensor = far.reshape(len(far), -1).any(1)
    return left


def lifted(codec: Codec, given: Collection[Any], tails: bool) -> list[int]:
    """Variables whose range is not kept: all of them with ``tails``, else those of the columns that
    the user asks for a range of."""
    if tails:
        return list(range(len(codec.space.variables)))
    return [place for place, name in enumerate(codec.columns) if name in given]


def _outside(codec: Codec, drawn: Any, known: Event, open_places: Collection[int]) -> Tensor:
    """(B,) whether a drawn cell of x has left its range."""
    if codec.ranges is None:
        return torch.zeros(known.rows, dtype=torch.bool)
    low, high = codec.ranges
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

"""How often a network is called for a batch, where several processes must call it equally often.

Layers that are shared out over processes are put together for each call, by all processes at once:
one that calls them less often than another would wait for ever.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["agreed", "as_often"]

T = TypeVar("T")

# the largest of the numbers that the processes say; None where there is one process
_LARGEST: ContextVar[Callable[[int], int] | None] = ContextVar("largest", default=None)


@contextlib.contextmanager
def agreed(largest: Callable[[int], int]) -> Iterator[None]:
    """Inside, ``as_often`` repeats itself as often as the process that has most parts."""
    token = _LARGEST.set(largest)
    try:
        yield
    finally:
        _LARGEST.reset(token)


def as_often(parts: Iterable[T]) -> Iterator[T]:
    """The parts, of which there is one at least; the last one again and again, until all processes
    have had equally many. Its result is to be written, not added.

    >>> with agreed(lambda count: 4):
    ...     list(as_often("ab"))
    ['a', 'b', 'b', 'b']
    >>> list(as_often("ab"))
    ['a', 'b']
    """
    largest = _LARGEST.get()
    if largest is None:
        yield from parts
        return
    listed = list(parts)
    yield from listed
    yield from [listed[-1]] * (largest(len(listed)) - len(listed))

r"""Strings that can be cut into tokens in several ways, summed where a density is able to.

``log_prob`` of a string is that of its tokens. Inside ``summed_over`` densities that declare
``sums_ways`` add up all ways to cut the string that these tokens write.

A lattice has a place behind each piece of the string, and edges that each write one token: of each
place j from 1 on the edges that end there, as (i, code).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

__all__ = ["Edges", "summed_over", "ways_of_tokens"]

Edges = Sequence[Sequence[tuple[int, int]]]
WaysOf = Callable[[tuple[int, ...]], Edges]
_WAYS: ContextVar[WaysOf | None] = ContextVar("ways", default=None)


def ways_of_tokens() -> WaysOf | None:
    """What gives the lattice of the string that some tokens write; None where log p is that of the
    tokens."""
    return _WAYS.get()


@contextlib.contextmanager
def summed_over(ways: WaysOf) -> Iterator[None]:
    """log p is that of all ways inside."""
    token = _WAYS.set(ways)
    try:
        yield
    finally:
        _WAYS.reset(token)

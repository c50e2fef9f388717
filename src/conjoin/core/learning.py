"""How much of a fit is done, for densities whose parts learn one after the other."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["learning_at", "share_done"]

_DONE: ContextVar[float | None] = ContextVar("done", default=None)


@contextlib.contextmanager
def learning_at(progress: float | None) -> Iterator[None]:
    """Inside, ``share_done`` is ``progress``, from 0 to 1."""
    token = _DONE.set(progress)
    try:
        yield
    finally:
        _DONE.reset(token)


def share_done() -> float | None:
    """How much of the fit is done; None outside of one, and in one whose end is not known, where
    all parts learn at once.

    >>> with learning_at(0.25):
    ...     share_done()
    0.25
    """
    return _DONE.get()

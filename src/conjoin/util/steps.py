"""Work that is done a piece at a time, so that whoever does it can turn to something else in
between.

>>> def counted():
...     yield
...     return 3
>>> work = Work(counted())
>>> work.advance(0.0), work.done
(None, False)
>>> work.advance(1.0), work.done, work.found
(None, True, 3)
>>> finished(counted())
3
"""

import time
from collections.abc import Generator
from typing import Generic, TypeVar

__all__ = ["Steps", "Work", "finished"]

T = TypeVar("T")
Steps = Generator[None, None, T]  # work that rests at each yield, and returns what it has found


def finished(steps: Steps[T]) -> T:
    """What the work finds, without a rest."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


class Work(Generic[T]):
    """``steps``, some at a time; ``found`` once they are ``done``."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.done = False
        self.found: T | None = None

    def advance(self, seconds: float) -> None:
        """Go on for about so many seconds, at least by one step."""
        until = time.monotonic() + seconds
        while not self.done:
            try:
                next(self._steps)
            except StopIteration as end:
                self.done = True
                self.found = end.value
            if time.monotonic() >= until:
                break

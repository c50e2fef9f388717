"""One model, one thread that asks it, and a bounded queue before it.

A request has a place from when its body was read until it is answered. Where all places are taken,
the next one is told when to come again. Answers that are written token by token take turns, a few
hundredths of a second each, so that a short one need not wait for a long one. A request whose
client has left is cancelled, which frees its place; a call that has begun ends first.
"""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from conjoin.serving.limits import Limits

__all__ = ["Busy", "Gate"]

T = TypeVar("T")


class Busy(Exception):
    """All places are taken."""


class Gate:
    """``limits``: how many places there are."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        self._worker = ThreadPoolExecutor(1, "model")

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, as long as the block takes.

        Raises
        ------
        Busy
            If there is none.
        """
        if self.inside >= self.limits.waiting:
            raise Busy
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def ask(self, call: Callable[[], T]) -> tuple[T, list[str]]:
        """What a call answers in the model's thread, and the notes that it gave."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, _noted, call)

    def close(self) -> None:
        """Answer what has begun, and no more."""
        self._worker.shutdown(wait=True, cancel_futures=True)


def _noted(call: Callable[[], T]) -> tuple[T, list[str]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        answer = call()
    own = [each for each in found if issubclass(each.category, UserWarning)]
    return answer, list(dict.fromkeys(" ".join(str(each.message).split()) for each in own))

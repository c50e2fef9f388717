"""Seconds for a piece of work with several phases: what is left of them, and what is put aside for
the phases that come later.

    budget = Budget(20.0)
    budget.put_aside("calibrating", 2.0)
    with budget.phase("training"):
        train(max_time=budget.free)
    with budget.phase("calibrating"):
        calibrate()

Whoever works inside ``budget.within(seconds)`` may ask how much of that is left, whatever stands
between: ``while_time`` takes as many of its steps as are likely to end in time.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

__all__ = [
    "MEASURE_TIME_SHARE",
    "Budget",
    "OutOfTime",
    "all_in_time",
    "seconds_of",
    "seconds_per_row",
    "tell_cut",
    "time_left",
    "while_time",
]

Step = TypeVar("Step")

OVERRUN_SHARE = 0.1  # of the limit, above which a fit says that it took longer
MEASURE_TIME_SHARE = 0.02  # of the limit, that a measurement may take
PROBE_ROWS = 8  # that a measurement begins with, and then goes on with four times as many
PROBE_GROWTH = 4
MIN_PROBE_RATIO = 4  # times what the first rows took, from which on a call's own time hardly counts


class OutOfTime(Exception):
    """Work that is of no use unless it is done to the end would not end in time."""


class Budget:
    """Seconds in all, counted from ``began``; None: no limit."""

    def __init__(self, seconds: float | None = None, began: float | None = None) -> None:
        """``began``: on the clock of ``time.monotonic``; None: now."""
        self.seconds = seconds
        self.spent: dict[str, float] = {}  # seconds, by phase
        self.cut: list[str] = []  # what was left out or made smaller for want of time
        self._began = time.monotonic() if began is None else began
        self._seen = (time.monotonic(), time.process_time())
        self._aside: dict[str, float] = {}

    @property
    def bounded(self) -> bool:
        """Whether there is a limit."""
        return self.seconds is not None

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds, at least 0; infinite without a limit."""
        return math.inf if self.seconds is None else max(0.0, self.seconds - self.elapsed)

    @property
    def free(self) -> float:
        """Seconds that are left and not put aside for other phases."""
        return max(0.0, self.left - sum(self._aside.values()))

    @property
    def max_time(self) -> float | None:
        """``free``, or None without a limit."""
        return self.free if self.bounded else None

    @property
    def slowness(self) -> float:
        """Seconds that pass for each second of the processor, at least 1: more where other programs
        run beside."""
        wall, busy = self._seen
        return max(1.0, (time.monotonic() - wall) / max(time.process_time() - busy, 1e-3))

    def share(self, part: float) -> float:
        """This part of all seconds."""
        return math.inf if self.seconds is None else part * self.seconds

    def put_aside(self, phase: str, seconds: float) -> None:
        """Keep seconds for a later phase; no other may have them."""
        if self.bounded:
            self._aside[phase] = seconds

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase may have what was put aside for it; how long it takes is kept."""
        self._aside.pop(name, None)
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - began

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is done inside should end within ``seconds``, if there is a limit."""
        ends = time.monotonic() + seconds if self.bounded else math.inf
        token = _RUNNING.set((self, ends))
        try:
            yield
        finally:
            _RUNNING.reset(token)

    def overrun(self) -> str:
        """That all took longer than it should, by the phases that could not be cut; nothing where
        it did not."""
        if self.seconds is None or self.elapsed <= (1 + OVERRUN_SHARE) * self.seconds:
            return ""
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.spent.items())
        return (
            f"The fit took {self.elapsed:.1f} s, more than max_time={self.seconds:g}: some work "
            f"can't be cut further (seconds: {phases})."
        )


_RUNNING: ContextVar[tuple[Budget, float] | None] = ContextVar("running", default=None)


def time_left() -> float:
    """Seconds that the work around has left; infinite where nothing bounds it."""
    running = _RUNNING.get()
    return math.inf if running is None else max(0.0, running[1] - time.monotonic())


def tell_cut(sentence: str) -> None:
    """What was left out for want of time, for the notices of the fit."""
    running = _RUNNING.get()
    if running is not None and sentence not in running[0].cut:
        running[0].cut.append(sentence)


def while_time(steps: Sequence[Step], work: str) -> Iterator[Step]:
    """The first of the steps, and of the others as many as are likely to end in time, if each takes
    as long as the one before. Where some are left out that is told as of ``work``."""
    before = time.monotonic()
    for place, step in enumerate(steps):
        now = time.monotonic()
        if place and now - before > time_left():
            tell_cut(f"For want of time {work} took {place:,} of {len(steps):,} steps.")
            return
        before = now
        yield step


def all_in_time(steps: Sequence[Step]) -> Iterator[Step]:
    """All of the steps, each of which takes about as long as the others.

    Raises
    ------
    OutOfTime
        Where, by those that are done, the rest would not end in time.
    """
    began = time.monotonic()
    for done, step in enumerate(steps):
        each = (time.monotonic() - began) / max(done, 1)
        if done and each * (len(steps) - done) > time_left():
            raise OutOfTime
        yield step


def seconds_of(work: Callable[[], object]) -> float:
    """How long some work takes. Short work on one core, on a machine that is busy with other
    programs, is measured by the processor's time and the slowness of all work so far."""
    began = time.monotonic()
    busy = time.process_time()
    work()
    busy = time.process_time() - busy
    took = time.monotonic() - began
    running = _RUNNING.get()
    return took if running is None or busy > took else busy * running[0].slowness


def seconds_per_row(work: Callable[[int], object], rows: int, limit: float) -> float:
    """How long ``work(n)`` takes for each of n rows, of ``rows`` at most, beyond what any call
    takes: by ever more rows, as long as the last took less than half of ``limit`` seconds."""
    few = count = min(rows, PROBE_ROWS)
    if not count:
        return 0.0
    first = took = seconds_of(partial(work, count))
    while count < rows and took < MIN_PROBE_RATIO * first and took < limit / 2:
        count = min(rows, PROBE_GROWTH * count)
        took = seconds_of(partial(work, count))
    return (took - first) / (count - few) if took > first else took / count

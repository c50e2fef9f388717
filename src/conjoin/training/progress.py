"""What the person at the keyboard sees while it runs: one line a phase, with the time left."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Bar", "Progress", "time_words"]


def time_words(seconds: float) -> str:
    """A time as people say it.

    >>> time_words(50), time_words(1000), time_words(7000)
    ('50 seconds', '17 minutes', '1.9 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


class Bar:
    """One phase's line; silent without a display."""

    def __init__(self, display: Any = None, task: Any = None) -> None:
        self._display = display
        self._task = task

    def update(self, done: int, note: str = "") -> None:
        if self._display is not None:
            self._display.update(self._task, completed=done, note=note)

    def say(self, text: str) -> None:
        """A sentence above the line, which stays."""
        if self._display is not None:
            self._display.console.print(text, markup=False, highlight=False)


class Progress:
    """Phases of a long run, shown through rich on standard error when ``verbose``."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def say(self, text: str) -> None:
        """A line beside the phases."""
        if self.verbose:
            sys.stderr.write(f"\n{text}\n")
            sys.stderr.flush()

    @contextlib.contextmanager
    def phase(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        if not self.verbose:
            yield Bar()
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(24),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with RichProgress(*columns, console=Console(file=sys.stderr)) as display:
            task = display.add_task(label, total=total, completed=done, note="")
            yield Bar(display, task)
            display.update(task, total=display.tasks[task].completed)

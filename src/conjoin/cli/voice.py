"""What is said where: the answer on standard output, everything else on standard error."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from conjoin.cli.words import in_shell

__all__ = ["MAX_SHOWN_ROWS", "Voice", "frame_table", "plain_table", "visible"]

MAX_SHOWN_ROWS = 20  # rows of a table on the screen
GAP_BLANKS = 3  # blanks between columns
_STYLES = {"accept": "green", "ambiguous": "yellow", "unfamiliar": "red"}


# control characters, among them those that begin commands to a terminal, and marks that turn the
# direction of writing
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNSEEN_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """What a terminal would obey is shown, not sent.

    >>> visible("a\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Voice:
    """``taken``: the table itself goes to standard output, so nothing else may."""

    def __init__(self, quiet: bool = False, as_json: bool = False, taken: bool = False) -> None:
        if as_json and taken:
            raise ValueError(
                "Standard output takes a table (-o -) or a JSON object (--json), not both."
            )
        self.quiet = quiet
        self.as_json = as_json
        self.taken = taken
        self.more: Callable[[], dict[str, Any]] = dict  # beside every answer for a program

    def note(self, *texts: str) -> None:
        """Something to know, on standard error."""
        if not self.quiet:
            for text in texts:
                sys.stderr.write(f"note: {visible(in_shell(text))}\n")
                sys.stderr.flush()

    def tell(self, *parts: Any) -> None:
        """Tables and sentences for a person; nothing where a program listens."""
        if self.as_json or (self.taken and self.quiet):
            return
        from rich.console import Console

        console = Console(
            file=sys.stderr if self.taken else sys.stdout,
            markup=False,
            highlight=False,
            emoji=False,
        )
        for part in parts:
            console.print(visible(part) if isinstance(part, str) else part)

    def aside(self, *parts: Any) -> None:
        """As ``tell``, for what is no answer but company."""
        if not self.quiet:
            self.tell(*parts)

    def path(self, text: str) -> None:
        """A line that must not be broken, so that it can be copied."""
        if not self.quiet and not self.as_json:
            (sys.stderr if self.taken else sys.stdout).write(f"{visible(text)}\n")

    def json(self, answer: Any) -> None:
        """The answer for a program."""
        if self.as_json:
            whole = {**answer, **self.more()} if isinstance(answer, dict) else answer
            text = json.dumps(_plain(whole), ensure_ascii=False, allow_nan=False)
            escaped = _UNSEEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
            sys.stdout.write(f"{escaped}\n")


def _plain(value: Any) -> Any:
    """JSON types only; not-a-number and infinite become null, as a missing cell."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < float("inf") else None
    fresh = value.item() if "item" in dir(value) else str(value)
    return _plain(fresh) if isinstance(fresh, str | int | float | bool) else str(value)


def plain_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", fold: Sequence[str] = ()
) -> Any:
    """A rich table; the columns ``fold`` take what width is left, the others stay on one line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        title=visible(title) or None,
        title_justify="left",
        pad_edge=False,
        show_header=any(head),
    )
    for name in head:
        table.add_column(visible(name), no_wrap=name not in fold, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell), style=_STYLES.get(cell, "")) for cell in row))
    return table


def frame_table(
    frame: Any, width: int, rows: int = MAX_SHOWN_ROWS, fold: Sequence[str] = ()
) -> Any:
    """The first rows of a frame, with as many columns as ``width`` holds, the last one among them.

    Rows are numbered from 1, unless the frame says itself which row each is about."""
    cells = {str(name): [shown(value) for value in frame[name].iloc[:rows]] for name in frame}
    kept = _fitting(
        {
            name: max(map(len, [name, *column]))
            for name, column in cells.items()
            if name not in fold
        },
        width - GAP_BLANKS - len("row"),
    )
    names = [name for name in cells if name in kept or name in fold]
    if len(names) < len(cells):
        names.insert(len(names) - 1, "...")
        cells["..."] = ["..."] * min(rows, len(frame))
    if "row" not in names:
        cells["row"] = [str(place) for place in range(1, min(rows, len(frame)) + 1)]
        names = ["row", *names]
    return plain_table(names, zip(*(cells[name] for name in names), strict=True), fold=fold)


def _fitting(widths: dict[str, int], space: int) -> set[str]:
    """The names that fit beside the last one."""
    *first, last = widths
    kept = {last}
    left = space - widths[last] - 2 * GAP_BLANKS - len("...")
    for name in first:
        left -= widths[name] + GAP_BLANKS
        if left < 0:
            break
        kept.add(name)
    return kept


def shown(value: Any) -> str:
    """A cell as a person reads it."""
    if value is None or value != value:
        return ""
    return (
        f"{value:.4g}"
        if isinstance(value, float) or type(value).__name__.startswith("float")
        else str(value)
    )

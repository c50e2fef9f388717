"""Cells of a text table that pandas would change without a word: zeros at the start of codes, whole
numbers that no float tells apart, and words such as nan, which become missing.

Every line is searched once; the cells of a row are looked at where it holds such a piece.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["EMPTY", "KeptText"]

# what pandas and numpy write for a missing cell; other words are never guessed
EMPTY = (
    "",
    "nan",
    "NaN",
    "NaT",
    "<NA>",
)
_ZERO_PADDED = re.compile(r"0\d+")
_LONG = re.compile(r"-?\d{16,}")  # 2^53, up to which a float holds each whole number, has 16 digits
MAX_SHOWN_COLUMNS = 3


class KeptText:
    """What is seen of the cells while the rows are read, one after another."""

    def __init__(self, header: Sequence[str], separator: str) -> None:
        self.header = header
        self.padded: dict[str, None] = {}  # columns with numbers that start with 0
        self.long: dict[str, None] = {}  # columns with whole numbers that a float would change
        self._empty: Counter[tuple[Any, str]] = Counter()  # (column, word)
        edge = f'["{re.escape(separator)}]'
        words = "|".join(map(re.escape, filter(None, EMPTY)))
        piece = rf"(?:0\d+|-?\d{{16,}}|{words})"
        self._piece = re.compile(rf"{edge} ?{piece}(?={edge}|\s*$)")
        self._before = separator  # of a line, so that its first cell is like the others
        self._found = False

    def lines(self, text: Iterable[str]) -> Iterator[str]:
        """The lines as they are."""
        for line in text:
            self._found = self._found or self._piece.search(self._before + line) is not None
            yield line

    def look(self, row: Sequence[str]) -> None:
        """At the cells of a row, where one of its lines holds something."""
        if not self._found:
            return
        self._found = False
        for name, cell in zip(self.header, row, strict=False):
            if cell in EMPTY:
                self._empty[name, cell] += bool(cell)
            elif _ZERO_PADDED.fullmatch(cell):
                self.padded[name] = None
            elif _LONG.fullmatch(cell) and int(float(cell)) != int(cell):
                self.long[name] = None

    @property
    def told(self) -> list[str]:
        """What becomes of such cells, in sentences."""
        return [
            *(
                f"Column {name!r} has numbers that start with 0; they are kept as text."
                for name in self.padded
            ),
            *(
                f"Column {name!r} has whole numbers of so many digits that a model of numbers "
                "cannot keep them apart; they are kept as text."
                for name in self.long
                if name not in self.padded
            ),
            *empty_words(self._empty),
        ]


def empty_words(found: Counter[tuple[Any, str]]) -> list[str]:
    """That words count as missing, and in how many cells. ``found``: how often each (column,
    word) stands in the file."""
    found = +found
    if not found:
        return []
    words = ", ".join(map(repr, dict.fromkeys(word for _, word in found)))
    columns: Counter[Any] = Counter()
    for (name, _), count in found.items():
        columns[name] += count
    shown = [f"{count:,} of column {name!r}" for name, count in columns.items()]
    rest = len(shown) - MAX_SHOWN_COLUMNS
    if rest > 0:
        left = sum(list(columns.values())[MAX_SHOWN_COLUMNS:])
        shown = [*shown[:MAX_SHOWN_COLUMNS], f"{left:,} of {rest:,} more columns"]
    return [f"Cells that read {words} count as missing: {', '.join(shown)}."]

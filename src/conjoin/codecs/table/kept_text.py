"""Cells of a text table that pandas would change without a word: zeros at the start of codes, whole
numbers that no float tells apart, versions such as 1.10, and words such as nan, which become
missing.

Every line is searched once; the cells of a row are looked at where it holds such a piece, and those
of columns that may hold versions in each row.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from conjoin.codecs.table.versions import MAX_VERSIONS, versions_in

__all__ = [
    "EMPTY",
    "KeptNotice",
    "KeptText",
    "empty_words",
    "is_long",
    "is_padded",
    "told_while_read",
]

# what pandas and numpy write for a missing cell; other words are never guessed
EMPTY = (
    "",
    "nan",
    "NaN",
    "NaT",
    "<NA>",
)
_ZERO_PADDED = re.compile(r"0\d+")
_POINTED = re.compile(r"\d+\.\d+")
_LONG = re.compile(r"-?\d{16,}")  # 2^53, up to which a float holds each whole number, has 16 digits
MAX_SHOWN_COLUMNS = 3


def is_padded(cell: str) -> bool:
    """Whether it is a number that starts with 0, such as 00501."""
    return _ZERO_PADDED.fullmatch(cell) is not None


def is_long(cell: str) -> bool:
    """Whether it is a whole number that a float would change."""
    return _LONG.fullmatch(cell) is not None and int(float(cell)) != int(cell)


class KeptNotice(str):
    """That the numbers of a column are kept as text, which the schema tells as well where the
    column is modelled so."""

    __slots__ = ()


def told_while_read(notices: Iterable[str]) -> list[str]:
    """The notices without those that the schema tells as well."""
    return [text for text in notices if not isinstance(text, KeptNotice)]


class KeptText:
    """What is seen of the cells while the rows are read, one after another."""

    def __init__(self, header: Sequence[str], separator: str) -> None:
        self.header = header
        self.padded: dict[str, None] = {}  # columns with numbers that start with 0
        self.long: dict[str, None] = {}  # columns with whole numbers that a float would change
        self._few: dict[int, set[str]] = {i: set() for i in range(len(header))}  # distinct cells
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
        if self._few:
            self._keep_few(row)
        if not self._found:
            return
        self._found = False
        for name, cell in zip(self.header, row, strict=False):
            if cell in EMPTY:
                self._empty[name, cell] += bool(cell)
            elif is_padded(cell):
                self.padded[name] = None
            elif is_long(cell):
                self.long[name] = None

    def _keep_few(self, row: Sequence[str]) -> None:
        """The cells of columns that hold few numbers with a point, and nothing else."""
        for i in [i for i, seen in self._few.items() if row[i] not in seen and row[i] not in EMPTY]:
            seen = self._few[i]
            seen.add(row[i])
            if len(seen) > MAX_VERSIONS or _POINTED.fullmatch(row[i]) is None:
                del self._few[i]

    @property
    def versions(self) -> dict[str, tuple[str, str]]:
        """Columns of numbers such as 1.10 beside 1.9, with two of them."""
        found = {self.header[i]: versions_in(sorted(seen)) for i, seen in self._few.items()}
        return {name: pair for name, pair in found.items() if pair is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are to be read as text."""
        return tuple(dict.fromkeys([*self.padded, *self.long, *self.versions]))

    @property
    def told(self) -> list[str]:
        """What becomes of such cells, in sentences."""
        return [
            *(
                KeptNotice(f"Column {name!r} has numbers that start with 0; they are kept as text.")
                for name in self.padded
            ),
            *(
                KeptNotice(
                    f"Column {name!r} has whole numbers of so many digits that a model of numbers "
                    "cannot keep them apart; they are kept as text."
                )
                for name in self.long
                if name not in self.padded
            ),
            *(
                KeptNotice(
                    f"Column {name!r} has {longer} beside {other}, as versions are written; they "
                    f"are kept as text. To have numbers, say types={{{name!r}: 'real'}}."
                )
                for name, (longer, other) in self.versions.items()
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

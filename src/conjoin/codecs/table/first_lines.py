"""What the first lines of a text table look like where they are not a header and rows: a row where
the header should be, units below the header, columns that blanks keep apart.
"""

import itertools
import re
from collections.abc import Sequence

from conjoin.codecs.table.values import quoted
from conjoin.codecs.table.written import is_empty_word

__all__ = ["blanks_words", "looks_like_row", "row_words", "told_separator", "units_words"]

_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?\s*")
_GROUPED_BY_BLANKS = re.compile(r"\d{1,3}( \d{3})*")
_SAID = re.compile(r"\ufeff?sep=(.)\s*", re.IGNORECASE)
MIN_NAMES_IN_STEPS = 3  # numbers in even steps that are names, such as 0, 1, 2 or years
MIN_RISING_NAMES = 5  # numbers that are names where each exceeds the one before
MIN_ROWS_BELOW = 3  # from which on a column is known to hold numbers
_SHOWN = 5  # cells of a line that a message names

Cells = Sequence[str]


def told_separator(line: str) -> str:
    """The separator that a first line such as "sep=;" tells, as Excel writes it; "" for none."""
    found = _SAID.fullmatch(line)
    return "" if found is None else found[1]


def looks_like_row(header: Cells, rows: Sequence[Cells]) -> bool:
    """Whether most names of columns are numbers, or values of their own column, as where a file has
    no header. Numbers in even steps, and many that rise, may be names: 0, 1, 2 or years."""
    rows = [row for row in rows if row != header]
    names = [name.strip() for name in header]
    named = [i for i, name in enumerate(names) if name]
    numbers = [i for i in named if _NUMBER.fullmatch(names[i])]
    own = [i for i in named if any(i < len(row) and row[i].strip() == names[i] for row in rows)]
    if 2 * len(own) > len(named):
        return True
    return 2 * len({*numbers, *own}) > len(named) and not _are_names([names[i] for i in numbers])


def _are_names(numbers: Sequence[str]) -> bool:
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        return False
    steps = [b - a for a, b in itertools.pairwise(values)]
    even = len(values) >= MIN_NAMES_IN_STEPS and len(set(steps)) == 1 and steps[0] != 0
    return even or (len(values) >= MIN_RISING_NAMES and min(steps) > 0)


def row_words(line: int, header: Cells) -> str:
    """That the header may be a row."""
    return (
        f"line {line} ({_shown(header)}) looks like a row and is taken as the header; if it is a "
        "row, add a line with the names of the columns above it."
    )


def units_words(line: int, header: Cells, rows: Sequence[Cells]) -> str:
    """That the line below the header holds units, where it does; else ""."""
    if not rows or len(rows[0]) != len(header) or len(rows) <= MIN_ROWS_BELOW:
        return ""
    first, *below = rows
    below = [row for row in below if len(row) == len(header)]  # others are told by their line
    numeric = [i for i in range(len(header)) if _are_numbers([row[i] for row in below])]
    units = [i for i in numeric if first[i].strip() and not is_empty_word(first[i])]
    alone = sum(bool(cell.strip()) for cell in first) == 1
    if any(map(_NUMBER.fullmatch, first)) or len(units) < (1 if alone else 2):
        return ""
    if any(any(map(str.isdigit, first[i][:1])) for i in units):
        return ""
    name = header[units[0]].strip()
    return (
        f"line {line} ({_shown(first)}) looks like units below the header; remove it, or write "
        f"them into the names, such as {f'{name} ({first[units[0]].strip()})'!r}."
    )


def _are_numbers(cells: Cells) -> bool:
    known = [cell for cell in cells if cell.strip() and not is_empty_word(cell)]
    return len(known) >= MIN_ROWS_BELOW and all(map(_NUMBER.fullmatch, known))


def blanks_words(lines: Cells) -> str:
    """That blanks keep the columns of these lines apart, where they do; else ""."""
    header, *rows = [line.split() for line in lines if line.strip()] or [[]]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return ""
    width = len(rows[0])
    if len(header) not in (width, width - 1):
        return ""
    cells = [[cell.strip("\"'") for cell in row] for row in rows]
    if all(_GROUPED_BY_BLANKS.fullmatch(" ".join(row)) for row in cells):
        return ""  # one column of numbers such as 12 500
    numeric = sum(all(_NUMBER.fullmatch(row[i]) for row in cells) for i in range(width))
    if 2 * numeric < width:
        return ""
    return (
        f"looks like {width} columns with blanks between them; save it with commas, such as by "
        r"pandas.read_csv(path, sep=r'\s+').to_csv(...)."
    )


def _shown(cells: Cells) -> str:
    more = ", ..." if len(cells) > _SHOWN else ""
    return ", ".join(map(quoted, cells[:_SHOWN])) + more

"""One column that was split into flags, one for each of its levels, as models elsewhere want it."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["flags_notices"]

MIN_FLAGS = 3
MIN_ROWS = 30
MIN_MARKED_SHARE = 0.5  # of the rows, where the flag of one level was left out
_END = re.compile(r"[_\-.=: ]+[^_\-.=: ]+$")  # of a name such as city_Rome


def flags_notices(cells: Mapping[Any, Any]) -> list[str]:
    """A sentence for each group of columns of 0 and 1, by plain ``cells`` (B,), of which at most
    one is 1 in every row, and whose names begin alike."""
    groups: dict[str, dict[Any, Any]] = defaultdict(dict)
    for name, values in cells.items():
        start = _END.sub("", str(name))
        flag = None if start == str(name) or len(values) < MIN_ROWS else _flag(values)
        if flag is not None:
            groups[start][name] = flag
    return [words for flags in groups.values() if (words := _told(flags))]


def _flag(values: Any) -> Any:
    """(B,) numbers 0 and 1; None where others, or gaps, are among the cells."""
    known = {"0": 0, "1": 1, "False": 0, "True": 1}
    if values.dtype != object:
        return values if np.isin(values, (0.0, 1.0)).all() else None
    different = set(values.tolist())
    return np.array([known[word] for word in values]) if different <= set(known) else None


def _told(flags: Mapping[Any, Any]) -> str:
    names = list(flags)
    if len(names) < MIN_FLAGS:
        return ""
    marked = np.sum(list(flags.values()), axis=0)
    if marked.max() != 1 or marked.mean() < MIN_MARKED_SHARE:
        return ""
    how = "exactly one" if marked.min() == 1 else "at most one"
    return (
        f"Columns {names[0]!r} to {names[-1]!r} ({len(names)}) look like one column of levels that "
        f"was split into flags: in every row {how} is 1. Drawn rows may have none or several: give "
        "one column of words in their place, as pandas.from_dummies does."
    )

"""Names that look like numbers, such as the versions 1.9 and 1.10."""

import re
from collections.abc import Sequence

__all__ = ["MAX_VERSIONS", "versions_in"]

_VERSION = re.compile(r"\d+\.\d{1,3}")
MAX_VERSIONS = 64  # distinct numbers of a column that may be versions


def versions_in(words: Sequence[str]) -> tuple[str, str] | None:
    """Two of these distinct words, such as 1.10 and 1.9, where all are numbers with a point and
    some end with a zero that shorter ones don't need, as versions do: read as numbers, 1.10 would
    be 1.1. None elsewhere, as of prices, which all have as many decimals."""
    if not 2 <= len(words) <= MAX_VERSIONS or not all(map(_VERSION.fullmatch, words)):
        return None
    places = [len(word.partition(".")[2]) for word in words]
    shortest = words[places.index(min(places))]
    padded = [word for word, size in zip(words, places, strict=True) if size > min(places)]
    zeros = [word for word in padded if word.endswith("0")]
    if not zeros:
        return None
    same = [word for word in zeros if word.rstrip("0") in words]
    longer = (same or zeros)[0]
    return longer, longer.rstrip("0") if same else shortest

"""Names that were probably meant."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["did_you_mean"]

LEAST_LIKENESS = 0.6  # of two names, from 0 to 1, for one to be a slip of the other


def did_you_mean(name: Any, choices: Iterable[Any]) -> str:
    """A question with the nearest of the choices, and a blank before it; "" where none is near.

    >>> did_you_mean("circut", ["circuit", "flow"])
    " Did you mean 'circuit'?"
    >>> did_you_mean("xyz", ["circuit", "flow"])
    ''
    """
    lower = {str(choice).lower(): choice for choice in choices}
    found = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=LEAST_LIKENESS)
    return f" Did you mean {str(lower[found[0]])!r}?" if found else ""

"""Values without numpy's types: a message quotes 'a' and 3, not np.str_('a') and np.int64(3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain_value"]

_TIMES = (np.datetime64, np.timedelta64)  # Python has no twin of nanoseconds


def plain_value(value: Any) -> Any:
    """A value, or those of a list, tuple, set or dict, as Python's own where they are numpy's.

    >>> plain_value({np.str_("a"): (np.int64(3), None)})
    {'a': (3, None)}
    """
    if isinstance(value, np.generic) and not isinstance(value, _TIMES):
        return value.item()
    if type(value) in (list, set, tuple):
        return type(value)(map(plain_value, value))
    if type(value) is dict or (isinstance(value, Mapping) and not isinstance(value, dict)):
        return {plain_value(key): plain_value(entry) for key, entry in value.items()}
    return value

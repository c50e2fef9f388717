"""alternatives: the most probable strings in place of a missing one, with their probabilities, and
how much probability is left for all others. A beam finds them (``Density.alternatives``): each
probability is exact, and whether there is a more probable string that it did not find is not known.

Shape letters: B rows, K alternatives of each.
"""

from typing import Any

import numpy as np
import pandas as pd

from conjoin.core import CapabilityError
from conjoin.core.event import Event
from conjoin.model.model import Model

__all__ = ["alternatives", "refuse_without_strings"]

ADDED = ("row", "probability", "left")  # columns of the answer


def alternatives(model: Model, X: Any, count: int = 5) -> pd.DataFrame:
    """A row for each alternative, the most probable first: ``row`` of X, the strings, the
    ``probability`` of the one that was missing given what is known, and what is ``left`` for all
    strings that are not among those listed so far. Rows of X without a missing string have none.

    Raises
    ------
    CapabilityError
        If the model writes no strings, or a row lacks several.
    ValueError
        If no row lacks a string, or ``count`` is less than 1.
    """
    names = refuse_without_strings(model, count)
    frame = model.rows(X).frame.copy()
    for name in names:
        if name not in frame:
            frame[name] = pd.Series([None] * len(frame), frame.index, dtype=object)
    rows = model.rows(frame)
    lacks = frame[names].isna().to_numpy().any(1)
    if not lacks.any():
        raise ValueError(f"No row lacks {' or '.join(map(repr, names))}: there is nothing to tell.")
    places = lacks.nonzero()[0]
    event: Event = model.encode(rows.take(places)).event
    found, log_p = model.joint.alternatives(event, count)
    probability = log_p.exp().numpy()
    told = model.codec.decoded(found)[names]
    answer = pd.DataFrame(
        {
            "row": np.repeat(frame.index[places], count),
            **{name: told[name].tolist() for name in names},
            "probability": probability.ravel(),
            "left": (1 - probability.cumsum(1)).clip(0.0).ravel(),
        }
    )
    return answer[answer["probability"] > 0].reset_index(drop=True)


def refuse_without_strings(model: Model, count: int) -> list[Any]:
    """The columns of strings; before any row is read, an error where there are none, where the
    answer has a column of that name, or where ``count`` is less than 1."""
    if count < 1:
        raise ValueError(f"The number of alternatives must be at least 1, got {count!r}.")
    texts = [column.name for column in model.codec.schema.modelled if column.type == "text"]
    if not texts or model.target is not None:
        raise CapabilityError(
            type(model.density_of_x).__name__,
            "alternatives of a string",
            "no string" if not texts else "a target beside it",
            "Use JointDensity, fitted to a table with a column of strings.",
        )
    taken = [name for name in texts if name in ADDED]
    if taken:
        raise ValueError(
            f"The table has a column {taken[0]!r}, which is also a column of the answer: rename it."
        )
    return texts

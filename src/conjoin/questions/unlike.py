r"""Whether rows keep the promises of ``decide``, up to chance, or are not like those of the fit.

    wrong answers        ~ Binomial(rows, rate)
    unfamiliar rows      ~ BetaBinomial(rows, k, n + 1 - k),   k = floor(rate (n + 1))

of rows that are like the n held-out ones. The threshold on errors is an upper bound, so that each
answer is wrong with at most its rate. The threshold on familiarity is the k-th least of n held-out
values, and the share of new rows under it is Beta(k, n + 1 - k) (S. Wilks (1941), Determination of
sample sizes for setting tolerance limits, section 2); so are the values of a number that lie
outside their interval, whose level is a rank as well.

Shape letters: B rows.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import betabinom, binom

from conjoin.model.model import Model
from conjoin.questions.decide import ACCEPT, UNFAMILIAR

__all__ = ["headline", "unlike_fit"]

# probability of so many broken promises where they hold, below which it is told that they do not
UNLIKE_LEVEL = 0.01
LEAST_SHOWN_CHANCE = 1e-12


class _Count(NamedTuple):
    """``bad`` of ``many`` rows, where at most ``rate`` was promised; the probability of so many or
    more where the promise holds, and the words for it."""

    bad: int
    many: int
    rate: float
    chance: float
    what: str  # "accepted answers are wrong"
    promise: str = "were promised"

    def words(self) -> str:
        chance = (
            f"p < {LEAST_SHOWN_CHANCE:.0g}"
            if self.chance < LEAST_SHOWN_CHANCE
            else f"p = {self.chance:.1g}"
        )
        return (
            f"{self.bad:,} of {self.many:,} {self.what} ({self.bad / self.many:.1%}), where at "
            f"most {self.rate:.1%} {self.promise} (by chance: {chance})"
        )


def unlike_fit(
    model: Model,
    X: Any,
    table: pd.DataFrame,
    false_alarm: float,
    max_error: Any,
    y: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> str:
    """That rows are not like those of the fit, and what to do.

    Parameters
    ----------
    model
        Calibrated.
    X
        B rows.
    table
        What ``decide`` says of them at these rates.
    false_alarm, max_error
        The rates, as ``decide`` takes them.
    y, known
        (B,) labels, and which of them are known; None where none is.

    Returns
    -------
    str
        A sentence, where more answers are wrong or more rows unfamiliar than were promised, beyond
        chance; else nothing.
    """
    counts = [] if y is None or known is None else _errors(model, table, y, known, max_error)
    counts += [_alarms(model, X, table, false_alarm)]
    broken = [each for each in counts if each.chance < UNLIKE_LEVEL / len(counts)]
    if not broken:
        return ""
    labelled = "" if model.target is None else "labelled "
    return (
        f"These {model.codec.noun}s are not like those of the fit, and the promises are void for "
        f"them: {'; '.join(each.words() for each in broken)}. Calibrate anew with {labelled}ones "
        "from this place, or let such ones into the fit."
    )


def headline(model: Model) -> str:
    """The same in a few words."""
    return f"These {model.codec.noun}s are not like those of the fit; the promises are void."


def _alarms(model: Model, X: Any, table: pd.DataFrame, rate: float) -> _Count:
    """How many rows are unfamiliar, whether they are labelled or not."""
    calibration = model.calibrated
    peers = calibration.rows
    if calibration.missingness is not None and len(table):
        peers = calibration.least_peers(model.encode(model.rows(X)).filled.numpy())
    bad = int((table["verdict"] == UNFAMILIAR).sum())
    many = len(table)
    chance = _beyond_rank(bad, many, rate, peers)
    like = "of those like the fit would be"
    return _Count(bad, many, rate, chance, f"{model.codec.noun}s are called unfamiliar", like)


def _errors(
    model: Model, table: pd.DataFrame, y: np.ndarray, known: np.ndarray, max_error: Any
) -> list[_Count]:
    """How many answers are wrong of each promise that was made."""
    if max_error is None:
        return []
    if model.has_number:
        return [_outside(model, table, y, known, float(max_error))]
    if not model.has_classes:
        return []
    answered = (table["verdict"] == ACCEPT).to_numpy() & known
    wrong = answered & (table["best_guess"].to_numpy() != y)
    if not isinstance(max_error, Mapping):
        return [_count(wrong, answered, float(max_error), "accepted answers are wrong")]
    each = [(label, known & (y == label), float(rate)) for label, rate in max_error.items()]
    return [
        _count(wrong & mine, mine, rate, f"rows of {label} are wrong") for label, mine, rate in each
    ]


def _count(wrong: np.ndarray, of: np.ndarray, rate: float, what: str) -> _Count:
    bad = int(wrong.sum())
    many = int(of.sum())
    return _Count(bad, many, rate, _at_least(bad, many, rate), what)


def _outside(
    model: Model, table: pd.DataFrame, y: np.ndarray, known: np.ndarray, rate: float
) -> _Count:
    """Numbers that lie outside their interval."""
    low, high = (table[end].to_numpy()[known] for end in ("low", "high"))
    bad = int(((y[known] < low) | (y[known] > high)).sum())
    many = int(known.sum())
    held = int((model.calibrated.label >= 0).sum())
    chance = _beyond_rank(bad, many, rate, held)
    return _Count(bad, many, rate, chance, "values lie outside their interval")


def _at_least(bad: int, many: int, rate: float) -> float:
    """The probability of so many errors or more, if each answer is wrong with this rate."""
    return float(binom.sf(bad - 1, many, rate)) if many else 1.0


def _beyond_rank(bad: int, many: int, rate: float, held: int) -> float:
    """The probability of so many rows or more beyond a threshold that is a rank among ``held``
    others like them."""
    place = math.floor(rate * (held + 1) + 1e-9)
    if not bad or not place:
        return 1.0
    return float(betabinom.sf(bad - 1, many, place, held + 1 - place))

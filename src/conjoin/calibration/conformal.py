r"""Knowing what it does not know: the statistic of familiarity, conformal p-values, and a bound on
errors.

Two alarms are kept apart.

* *unfamiliar*: the rank of a row's statistic among held-out rows. The statistic of a table is the
  least of several readings (conjoin.calibration.readings), log p(x) first, each standardised by
  what the model expects of a row with the same cells missing. p = (1 + #{held-out <= s}) / (n + 1)
  is at most alpha with probability at most alpha for a row like those held out, on the average over
  calibration sets (V. Vovk, A. Gammerman and G. Shafer (2005), Algorithmic learning in a random
  world, proposition 2.8). A row is ranked among the held-out rows that lack the same cells (the
  same, section 4.5, with patterns of missing cells as its categories): that holds for each pattern
  by itself where enough rows have it, and about so where others must stand in, see
  ``MissingnessPatterns``.
* *ambiguous*: the confidence is under the least threshold at which the Clopper-Pearson upper bound
  (C. Clopper and E. Pearson (1934), The use of confidence or fiducial limits) on the error among
  accepted held-out rows keeps the promise. The 5 % that the bound may fail are shared among the
  doublings of the rows, since as many thresholds are all but independent.

Shape letters: B rows, D variables, N held-out rows, K classes, S sampled rows of the bank, P
coordinates of a row.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "Calibration",
    "MissingnessPatterns",
    "clopper_pearson",
    "rate_interval",
    "rows_for_error",
    "rows_for_false_alarm",
]

CONFIDENCE = 0.95

MIN_PATTERN_ROWS = 19  # rows that lack the same cells, for a rank among them to mean something

AMPLE_PATTERN_ROWS = 99  # such rows, for a rank among them to mean much

ALL_PATTERNS = -2  # in place of a pattern: whatever cells a row lacks


def clopper_pearson(errors: np.ndarray, rows: np.ndarray, looks: int = 1) -> np.ndarray:
    """Exact upper bound of a rate of which ``errors`` were seen in ``rows``: it fails 5 % of the
    time in all ``looks``.

    >>> round(float(clopper_pearson(np.array(0), np.array(59))), 3)
    0.05
    """
    from scipy.special import betaincinv

    level = 1 - (1 - CONFIDENCE) / looks
    bound = betaincinv(errors + 1, np.maximum(rows - errors, 1e-9), level)
    return np.where(errors >= rows, 1.0, bound)


def rate_interval(count: int, rows: int) -> list[float] | None:
    """[low, high] of a rate that was seen ``count`` times in ``rows``: the exact 95 % interval of
    Clopper and Pearson; None where there are no rows.

    >>> [round(end, 3) for end in rate_interval(2, 40)]
    [0.006, 0.169]
    """
    from scipy.special import betaincinv

    if rows == 0:
        return None
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(count, rows - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, rows - count, 1 - tail)) if count < rows else 1.0
    return [low, high]


def rows_for_error(rate: float) -> int:
    """Labelled rows that a promised error rate needs, even if none of them is wrong.

    >>> rows_for_error(0.05)
    59
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate))


def rows_for_false_alarm(rate: float) -> int:
    """Held-out rows that a false-alarm rate needs.

    >>> rows_for_false_alarm(0.01)
    99
    """
    return math.ceil(1 / rate - 1e-9) - 1


def _looks(rows: int, rate: float) -> int:
    """How many doublings of the least number of rows fit into ``rows``, plus one."""
    return 1 + max(0, math.floor(math.log2(max(rows, 1) / rows_for_error(rate))))


@dataclass
class MissingnessPatterns:
    """Which cells the held-out rows lack: the statistic of a row spreads otherwise where other
    cells are missing. A row is ranked among those that lack the same, if they are
    ``AMPLE_PATTERN_ROWS``; else among all that can be made to lack it, if their statistic was
    worked out, which is exact where cells are missing by chance; else among those that lack the
    same, if they are ``MIN_PATTERN_ROWS``; else among all rows."""

    patterns: np.ndarray  # (G, D) the cells that have a value, also one that was never seen before
    own: np.ndarray  # (N,) the pattern of each row; -1 where it is a rare one
    # (N, G) the statistic of each row with no more known than this; NaN where it lacks more, or was
    # not worked out
    hidden: np.ndarray

    def of(self, filled: np.ndarray) -> np.ndarray:
        """(B,) the patterns of rows of which these cells have a value."""
        out = np.full(len(filled), -1)
        for code, pattern in enumerate(self.patterns):
            out[(filled == pattern).all(1)] = code
        return out

    def take(self, rows: np.ndarray) -> "MissingnessPatterns":
        return MissingnessPatterns(self.patterns, self.own[rows], self.hidden[rows])


@dataclass
class Calibration:
    """What is kept of the held-out rows: numbers about them, never the rows."""

    statistic: np.ndarray  # (N,) of familiarity
    # (N,) best guess
    guess: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    # (N,) true class; -1 unlabelled
    label: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    # (N,) p(best guess | x), or the interval's level
    confidence: np.ndarray = field(default_factory=lambda: np.empty(0))
    log_proba: np.ndarray | None = (
        None  # (N, K) log p(y | x): what the confidence becomes where classes have other shares
    )
    missingness: MissingnessPatterns | None = None  # where cells of some rows are missing

    def __post_init__(self) -> None:
        self._ordered: dict[int, np.ndarray] = {}
        if not len(self.label):  # rows without labels serve the first alarm only
            self.label = np.full(self.rows, -1)
            self.guess = np.zeros(self.rows, dtype=np.int64)
            self.confidence = np.zeros(self.rows)

    @property
    def rows(self) -> int:
        return len(self.statistic)

    def p_value(self, statistic: np.ndarray, filled: np.ndarray | None = None) -> np.ndarray:
        """Conformal p-value of each row: small means less familiar than the held-out rows. What has
        no number (NaN) is the least familiar. ``filled`` (B, D): the cells that have a value;
        without it rows are ranked among all."""
        known = self.missingness
        pattern = ALL_PATTERNS if known is None or filled is None else known.of(filled)
        return self._rank(statistic, pattern)

    @cached_property
    def held_out_p_values(self) -> np.ndarray:
        """(N,) p-values of the held-out rows themselves."""
        return self._rank(
            self.statistic, ALL_PATTERNS if self.missingness is None else self.missingness.own
        )

    def _rank(self, statistic: np.ndarray, pattern: np.ndarray | int) -> np.ndarray:
        """What cannot be (-inf) is ranked among all rows, the most there are."""
        statistic = _least_where_none(statistic)
        pattern = np.where(np.isneginf(statistic), ALL_PATTERNS, pattern)
        out = np.empty(len(statistic))
        for code in np.unique(pattern).tolist():
            rows = pattern == code
            others = self._peers(code)
            out[rows] = (1 + np.searchsorted(others, statistic[rows], side="right")) / (
                len(others) + 1
            )
        return out

    def least_peers(self, filled: np.ndarray) -> int:
        """The fewest held-out rows among which any of these rows is ranked, by the cells (B, D)
        that have a value."""
        if self.missingness is None or not len(filled):
            return self.rows
        codes = np.unique(self.missingness.of(filled)).tolist()
        return min(len(self._peers(code)) for code in codes)

    def _peers(self, code: int) -> np.ndarray:
        """The statistics among which rows of this pattern are ranked, in order."""
        if code not in self._ordered:
            every = _least_where_none(self.statistic)
            choices = [(every, 0)]
            if self.missingness is not None and code != ALL_PATTERNS:
                same = every[self.missingness.own == code]
                hidden = self.missingness.hidden[:, code] if code >= 0 else np.empty(0)
                choices = [
                    (same, AMPLE_PATTERN_ROWS),
                    (hidden[~np.isnan(hidden)], MIN_PATTERN_ROWS),
                    (same, MIN_PATTERN_ROWS),
                    *choices,
                ]
            self._ordered[code] = np.sort(
                next(some for some, least in choices if len(some) >= least)
            )
        return self._ordered[code]

    def check_false_alarm(self, rate: float) -> None:
        """ValueError with the number of rows needed where ``rate`` can't be promised."""
        if not 0 < rate < 1:
            raise ValueError(f"false_alarm must lie between 0 and 1, got {rate}.")
        needed = rows_for_false_alarm(rate)
        if self.rows < needed:
            raise ValueError(
                f"A false-alarm rate of {rate:g} needs {needed} calibration rows, there are "
                f"{self.rows}: "
                "ask for a larger rate, fit with more rows, or call calibrate(X, y) with "
                "held-out ones."
            )

    def threshold(self, max_error: float, false_alarm: float) -> float:
        """Least confidence to accept, so that at most ``max_error`` of the accepted are wrong; inf
        where none will do."""
        familiar = (self.held_out_p_values > false_alarm) & (self.label >= 0)
        self._check_error(max_error, int((self.label >= 0).sum()), "labelled calibration rows")
        wrong = self.guess[familiar] != self.label[familiar]
        return self.least_confidence(self.confidence[familiar], wrong, max_error)

    def class_threshold(self, code: int, name: Any, max_error: float, false_alarm: float) -> float:
        """Least confidence to accept another answer than class ``code``, so that at most
        ``max_error`` of that class are accepted with a wrong answer."""
        mine = self.label == code
        self._check_error(max_error, int(mine.sum()), f"calibration rows of class {name!r}")
        risky = mine & (self.held_out_p_values > false_alarm) & (self.guess != code)
        order = np.sort(self.confidence[risky])[::-1]
        rows = int(mine.sum())
        bounds = clopper_pearson(
            np.arange(len(order) + 1), np.full(len(order) + 1, rows), _looks(rows, max_error)
        )
        # how many wrong acceptances the bound still permits
        allowed = int((bounds <= max_error).sum()) - 1
        return -math.inf if allowed >= len(order) else float(np.nextafter(order[allowed], math.inf))

    @staticmethod
    def _check_error(rate: float, rows: int, what: str) -> None:
        if not 0 < rate < 1:
            raise ValueError(f"max_error must lie between 0 and 1, got {rate}.")
        if rows < rows_for_error(rate):
            raise ValueError(
                f"An error promise of {rate:g} needs {rows_for_error(rate)} {what}, there are "
                f"{rows}: "
                "ask for a larger rate, fit with more rows, or call calibrate(X, y) with "
                "held-out ones."
            )

    @staticmethod
    def least_confidence(confidence: np.ndarray, wrong: np.ndarray, max_error: float) -> float:
        """Least confidence of held-out answers from which on at most ``max_error`` of them are
        wrong, by the bound; inf where none will do."""
        order = np.argsort(-confidence, kind="stable")
        ranked = confidence[order]
        bound = clopper_pearson(
            np.cumsum(wrong[order]), np.arange(1, len(order) + 1), _looks(len(order), max_error)
        )
        ends = np.append(ranked[1:] < ranked[:-1], True)  # a threshold can't part equal confidences
        good = np.flatnonzero((bound <= max_error) & ends)
        return float(ranked[good[-1]]) if len(good) else math.inf


def _least_where_none(statistic: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(statistic), -np.inf, statistic)

r"""drift: whether two tables come from the same source; which columns differ, which pairs hang
together in another way, how sure.

* each column: Kolmogorov and Smirnov's test of numbers, and how many of one table lie beyond all
  of the other at an end; chi-square of levels (missing cells are a level);
* each column given the others: log p(x_d | x_-d) = log p(x) - log p(x_-d) under a density of the
  one table, its held-out rows beside the rows of the other;
* each pair: Pearson's chi-square against the log-linear model without three-way interaction, in
  which columns and tables are free but the odds ratios of the pair are the same in both tables (M.
  W. Birch (1963), Maximum likelihood in three-way contingency tables), numbers in thirds;
* whole rows: the density's statistic of familiarity, held-out rows beside the rows of the other
  table.

p-values are corrected for their number within each of the four (S. Holm (1979), A simple
sequentially rejective multiple test procedure), and the verdict is four times the least.

Shape letters: A, B rows of the tables, D columns, L levels.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chi2, chi2_contingency, ks_2samp

from conjoin.core import Event

__all__ = [
    "column_tests",
    "end_p_value",
    "gap_p_value",
    "holm",
    "ks_p_value",
    "pair_tests",
]

Array = NDArray[Any]

LEVELS_PER_COLUMN = 3  # into which a column is cut for the tests of pairs
MIN_LEVEL_COUNT = 5.0  # least expected count of a level
MIN_CELL_COUNT = 1.0  # least expected count of a cell of a pair
FITTING_ROUNDS = 100  # of iterative proportional fitting


def holm(p_values: Array) -> Array:
    """p-values corrected for their number: those under a level are all wrong with at most that
    probability.

    >>> holm(np.array([0.01, 0.5, 0.03])).tolist()
    [0.03, 0.5, 0.06]
    """
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    out = np.empty(len(p_values))
    out[order] = np.minimum(stepped, 1.0)
    return out


def ks_p_value(a: Array, b: Array) -> float:
    """Of Kolmogorov and Smirnov's two-sample test; 1 where a side has no values. What is no number
    is the least."""
    if not len(a) or not len(b):
        return 1.0
    least = -np.finfo(float).max
    a, b = (np.nan_to_num(values, nan=least, neginf=least) for values in (a, b))
    return float(ks_2samp(a, b, method="asymp").pvalue)


# ------------------------------------------------------------------------------------------ columns


def column_tests(a: Event, b: Event, discrete: list[bool]) -> Array:
    """(D,) p-value of each column, not yet corrected."""
    return np.array(
        [
            (_levels if levels else _numbers)(_cells(a, d), _cells(b, d))
            for d, levels in enumerate(discrete)
        ]
    )


def _cells(event: Event, column: int) -> Array:
    """The values of one column, NaN where missing."""
    return np.where(event.mask[:, column], event.value[:, column], np.nan)


def _numbers(a: Array, b: Array) -> float:
    """Of the values that are known and, where some are not, of how many."""
    known = [values[~np.isnan(values)] for values in (a, b)]
    values = min(1.0, 2 * min(ks_p_value(*known), end_p_value(*known)))
    if all(len(side) == len(values_) for side, values_ in zip((a, b), known, strict=True)):
        return values
    return min(1.0, 2 * min(values, gap_p_value(a, b)))


def gap_p_value(a: Array, b: Array) -> float:
    """That as many cells are missing (NaN) in the one as in the other."""
    gone = [np.isnan(values).sum() for values in (a, b)]
    return _chi_square(np.array([[gone[0], len(a) - gone[0]], [gone[1], len(b) - gone[1]]]))


def end_p_value(a: Array, b: Array) -> float:
    """Of the number of values of one sample beyond all of the other, at either end; 1 where a side
    has no values.

    Where both have one source, the k greatest of all n values are of the sample b alone with the
    probability C(b, k) / C(n, k). Four such runs are looked at.

    >>> round(end_p_value(np.arange(90.0), np.array([*np.arange(80.0), *[999.0] * 10])), 4)
    0.003
    """
    if not len(a) or not len(b):
        return 1.0
    runs = []
    for one, other in ((a, b), (b, a)):
        many = np.array([(one > other.max()).sum(), (one < other.min()).sum()])
        runs.append(_log_binomial(len(one), many) - _log_binomial(len(a) + len(b), many))
    return float(min(1.0, 4 * np.exp(np.min(runs))))


def _log_binomial(n: int, k: Array) -> Array:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _levels(a: Array, b: Array) -> float:
    top = int(np.nanmax(np.concatenate([a, b, [0.0]]))) + 1
    codes = [np.where(np.isnan(values), top, values).astype(np.int64) for values in (a, b)]
    return _chi_square(np.array([np.bincount(each, minlength=top + 1) for each in codes]))


def _chi_square(counts: Array) -> float:
    """That two rows of counts have the same shares; levels that are too rare to say are put
    together."""
    share = counts.sum(1).min() / counts.sum()
    rare = counts.sum(0) * share < MIN_LEVEL_COUNT
    merged = np.concatenate([counts[:, ~rare], counts[:, rare].sum(1, keepdims=True)], 1)
    merged = merged[:, merged.sum(0) > 0]
    return 1.0 if merged.shape[1] < 2 else float(chi2_contingency(merged, correction=False).pvalue)


# -------------------------------------------------------------------------------------------- pairs


def pair_tests(a: Event, b: Event, discrete: list[bool]) -> pd.DataFrame:
    """``first`` and ``second`` (places of columns), ``p_value`` (not yet corrected), dependence
    ``before`` and ``after``."""
    cut = [
        _cut(np.concatenate([_cells(a, d), _cells(b, d)]), levels)
        for d, levels in enumerate(discrete)
    ]
    hot = np.stack(cut, 1).reshape(len(a.value) + len(b.value), -1)  # (A + B, D L)
    first, second = np.triu_indices(len(discrete), 1)
    # (P, L, L, 2)
    counts = np.stack(
        [_pairs(hot[: a.rows], first, second), _pairs(hot[a.rows :], first, second)], -1
    )
    p_values = _three_way(counts)
    before, after = (_dependence(counts[..., side], first, second, discrete) for side in (0, 1))
    return pd.DataFrame(
        {"first": first, "second": second, "p_value": p_values, "before": before, "after": after}
    )


def _cut(values: Array, levels: bool) -> Array:
    """(A + B, L) indicators of the thirds of a number, or of the two commonest levels and the rest;
    zero where missing."""
    known = ~np.isnan(values)
    if levels:
        codes, counts = np.unique(values[known], return_counts=True)
        order = codes[np.argsort(-counts, kind="stable")][: LEVELS_PER_COLUMN - 1]
        place = (
            np.select([values == code for code in order], range(len(order)), len(order))
            if len(order)
            else np.zeros(len(values))
        )
    else:
        edges = (
            np.quantile(values[known], np.arange(1, LEVELS_PER_COLUMN) / LEVELS_PER_COLUMN)
            if known.any()
            else np.zeros(LEVELS_PER_COLUMN - 1)
        )
        place = np.searchsorted(edges, values, side="left")  # ties fall into one third
    return np.eye(LEVELS_PER_COLUMN)[np.asarray(place, dtype=np.int64)] * known[:, None]


def _pairs(hot: Array, first: Array, second: Array) -> Array:
    """(P, L, L) counts of each pair."""
    columns = hot.shape[1] // LEVELS_PER_COLUMN
    table = (hot.T @ hot).reshape(columns, LEVELS_PER_COLUMN, columns, LEVELS_PER_COLUMN)
    return np.asarray(table[first, :, second, :])


def _three_way(counts: Array) -> Array:
    """(P,) that the odds ratios are those of the other table, by iterative proportional fitting."""
    fitted = np.ones_like(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(FITTING_ROUNDS):
            for axis in (3, 2, 1):
                fitted = fitted * np.nan_to_num(
                    counts.sum(axis, keepdims=True) / fitted.sum(axis, keepdims=True)
                )
        statistic = np.nan_to_num((counts - fitted) ** 2 / fitted).sum((1, 2, 3))
    rows, columns = ((counts.sum((axis, 3)) > 0).sum(1) for axis in (2, 1))
    freedom = (rows - 1) * (columns - 1)
    possible = (counts.sum((2, 3)) > 0)[:, :, None, None] & (counts.sum((1, 3)) > 0)[
        :, None, :, None
    ]
    enough = np.where(possible, fitted, np.inf).min((1, 2, 3)) >= MIN_CELL_COUNT
    return np.asarray(
        np.where((freedom > 0) & enough, chi2.sf(statistic, np.maximum(freedom, 1)), 1.0)
    )


def _dependence(counts: Array, first: Array, second: Array, discrete: list[bool]) -> Array:
    """(P,) the correlation of thirds of two numbers, else Cramer's V."""
    total = np.maximum(counts.sum((1, 2)), 1.0)
    joint = counts / total[:, None, None]
    rows = joint.sum(2)
    columns = joint.sum(1)
    expected = rows[:, :, None] * columns[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.nan_to_num((joint - expected) ** 2 / expected).sum((1, 2))
    sizes = np.minimum((rows > 0).sum(1), (columns > 0).sum(1)) - 1
    cramer = np.sqrt(square / np.maximum(sizes, 1))
    place = np.arange(LEVELS_PER_COLUMN) - 1.0
    means = rows @ place, columns @ place
    spread = np.sqrt((rows @ place**2 - means[0] ** 2) * (columns @ place**2 - means[1] ** 2))
    slope = np.einsum("pij,i,j->p", joint, place, place) - means[0] * means[1]
    ordered = ~np.asarray(discrete)[first] & ~np.asarray(discrete)[second]
    return np.asarray(np.where(ordered, slope / np.maximum(spread, 1e-12), cramer))

r"""Logistic regression whose strength follows the number of labels: with few, it is found by
cross-validation.

    C = argmin_C  - sum_rows log p_C(y | x; fitted to the other folds) + (ln C)^2 / (2 s^2)

with s = ``PRIOR_DEVIATION``, leans on scikit-learn's default, C = 1, as a normal prior of ln C
would; the search walks away from there while it gains. The fit itself is scikit-learn's.

Shape letters: B rows, F features, K classes.
"""

import warnings
from typing import Any

import numpy as np

from conjoin.util.budget import all_in_time, while_time

__all__ = ["Folds", "by_strength", "folds_of", "held_out", "logistic", "logistic_steps", "rival"]

Folds = list[tuple[np.ndarray, np.ndarray]]
Table = Any  # (B, F) of numpy, or a sparse matrix of scipy

STRONGER_PENALTIES = (0.3, 0.1, 0.03)  # values of C below 1
WEAKER_PENALTIES = (3.0, 10.0)  # values of C above 1
PRIOR_DEVIATION = 1.0  # standard deviation of ln C, before any row is seen
FOLDS = 5
MIN_PROBABILITY = 1e-9  # p of a class, where it is judged by its log
AMPLE_ROWS = 1000  # rows from which on C hardly matters and is not searched for
MIN_BOOSTING_ROWS = 100  # rows from which on boosting has something to go by
MAX_BOOSTING_CELLS = (
    200_000  # of a table up to which boosting is quick, and times classes the search
)
MAX_SEARCHED_CELLS = 500_000  # of a table up to which C is searched for
FOLD_FIT_STEPS = 300  # solver iterations of a cross-validation fit
BOOSTING_ROUNDS = 40  # trees of a cross-validation fit


def folds_of(codes: np.ndarray, seed: int = 0) -> Folds:
    """Rows to learn from and rows held out, every class in each; none where some class has but one
    row."""
    from sklearn.model_selection import StratifiedKFold

    least = int(np.unique(codes, return_counts=True)[1].min(initial=len(codes)))
    if least < 2 or len(np.unique(codes)) < 2:
        return []
    return list(
        StratifiedKFold(min(FOLDS, least), shuffle=True, random_state=seed).split(codes, codes)
    )


def logistic(table: Table, codes: np.ndarray, weight: np.ndarray | None = None) -> Any:
    """Fitted to (B, F) features and (B,) codes; ``weight`` (B,) counts each row."""
    weight = np.ones(len(codes)) if weight is None else weight
    return _of(_strength(table, codes, weight)).fit(table, codes, sample_weight=weight)


def logistic_steps(table: Table, codes: np.ndarray, steps: int) -> Any:
    """As ``logistic``, after so many steps of the solver."""
    return _of(1.0, steps).fit(table, codes)


def rival(table: np.ndarray, codes: np.ndarray, folds: Folds) -> np.ndarray:
    """(B,) log p of each row's code from the other folds, by what tells them best: logistic
    regression, or boosting of enough rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    weight = np.ones(len(codes))
    models = [_of(_strength(table, codes, weight))]
    if len(codes) >= MIN_BOOSTING_ROWS and table.size <= MAX_BOOSTING_CELLS:
        models.append(
            HistGradientBoostingClassifier(
                max_iter=BOOSTING_ROUNDS, early_stopping=False, random_state=0
            )
        )
    return max((held_out(model, table, codes, weight, folds) for model in models), key=np.sum)


def held_out(
    model: Any, table: Table, codes: np.ndarray, weight: np.ndarray, folds: Folds
) -> np.ndarray:
    """(B,) log p of the code of each row by what the other folds tell."""
    each = _by_folds([model] * len(folds), table, codes, weight, folds)
    own = np.searchsorted(np.unique(codes), codes)
    return np.asarray(each[np.arange(len(codes)), own])


def by_strength(
    table: Table, codes: np.ndarray, weight: np.ndarray, folds: Folds
) -> tuple[Any, np.ndarray]:
    """The fit of the strength that does best on held-out folds, and (B, K) log p of each row by the
    other folds; NaN for rows that no fold holds out. K counts the codes that occur."""
    strength, log_p = _searched(table, codes, weight, folds)
    return _of(strength).fit(table, codes, sample_weight=weight), log_p


def _by_folds(
    models: list[Any], table: Table, codes: np.ndarray, weight: np.ndarray, folds: Folds
) -> np.ndarray:
    """(B, K) log p of each code that occurs, by what the other folds tell the model of the fold."""
    from sklearn.exceptions import ConvergenceWarning

    known = np.unique(codes)
    out = np.full((len(codes), len(known)), np.nan)
    for model, (learn, judged) in zip(models, all_in_time(folds), strict=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(table[learn], codes[learn], sample_weight=weight[learn])
        proba = np.zeros((len(judged), len(known)))
        proba[:, np.searchsorted(known, model.classes_)] = model.predict_proba(table[judged])
        out[judged] = np.log(np.maximum(proba, MIN_PROBABILITY))
    return out


def _of(strength: float, steps: int = 2000) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=steps)


def _strength(table: Table, codes: np.ndarray, weight: np.ndarray) -> float:
    """C, where rows are few."""
    quick = len(codes) < AMPLE_ROWS and table.size * len(np.unique(codes)) <= MAX_BOOSTING_CELLS
    folds = folds_of(codes) if quick else []
    return _searched(table, codes, weight, folds)[0] if folds else 1.0


def _searched(
    table: Table, codes: np.ndarray, weight: np.ndarray, folds: Folds
) -> tuple[float, np.ndarray]:
    """C, walking away from 1 while that gains, and log p by the folds as of ``_by_folds``."""
    own = np.searchsorted(np.unique(codes), codes)
    # each goes on from where it was for the strength before
    models = [_of(1.0, FOLD_FIT_STEPS).set_params(warm_start=True) for _ in folds]

    def judged(c: float) -> tuple[float, np.ndarray]:
        for model in models:
            model.set_params(C=c)
        log_p = _by_folds(models, table, codes, weight, folds)
        seen = ~np.isnan(log_p[:, 0])
        gain = (weight[seen] * log_p[np.flatnonzero(seen), own[seen]]).sum()
        return 0.5 * (np.log(c) / PRIOR_DEVIATION) ** 2 - float(gain), log_p

    best = 1.0
    least, log_p = judged(1.0)
    ways = (STRONGER_PENALTIES, WEAKER_PENALTIES) if table.size <= MAX_SEARCHED_CELLS else ()
    for way in ways:
        for c in while_time(way, "the search for the penalty of logistic regression"):
            found, each = judged(c)
            if found >= least:
                break
            best = c
            least = found
            log_p = each
        if best != 1.0:
            break
    return best, log_p

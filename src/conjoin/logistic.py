r"""Logistic regression whose strength follows the number of labels: with few, it is found by cross-validation.

    C = argmin_C  - sum_rows log p_C(y | x; fitted to the other folds) + (ln C)^2 / (2 WIDE^2)

leans on scikit-learn's default, C = 1, as a normal prior of ln C would. The fit itself is scikit-learn's.

Shape letters: B rows, F features, K classes.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

__all__ = ["folds_of", "held_out", "logistic", "strength"]

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
WIDE = 1.0  # standard deviation of ln C, before any row is seen
FOLDS = 5
LEAST = 1e-9  # p of a class, where it is judged by its log
MANY = 1000  # rows from which on it hardly matters


def folds_of(codes: np.ndarray, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows held out, every class in each; none where some class has but one row."""
    least = int(np.unique(codes, return_counts=True)[1].min(initial=len(codes)))
    if least < 2 or len(np.unique(codes)) < 2:
        return []
    return list(StratifiedKFold(min(FOLDS, least), shuffle=True, random_state=seed).split(codes, codes))


def logistic(table: np.ndarray, codes: np.ndarray, weight: np.ndarray | None = None) -> LogisticRegression:
    """Fitted to (B, F) features and (B,) codes."""
    return LogisticRegression(C=strength(table, codes, weight), max_iter=2000).fit(table, codes, sample_weight=weight)


def held_out(table: np.ndarray, codes: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], c: float) -> np.ndarray:
    """(B,) log p of the code of each row by what the other folds tell."""
    out = np.empty(len(codes))
    for learn, judged in folds:
        model = LogisticRegression(C=c, max_iter=2000).fit(table[learn], codes[learn])
        own = np.searchsorted(model.classes_, codes[judged])
        out[judged] = np.log(np.maximum(model.predict_proba(table[judged])[np.arange(len(judged)), own], LEAST))
    return out


def strength(table: np.ndarray, codes: np.ndarray, weight: np.ndarray | None = None) -> float:
    """C, found by cross-validation where rows are few."""
    folds = folds_of(codes) if len(codes) < MANY else []
    if not folds:
        return 1.0
    weight = np.ones(len(codes)) if weight is None else weight
    loss = [0.5 * (np.log(c) / WIDE) ** 2 - float((weight * held_out(table, codes, folds, c)).sum()) for c in STRENGTHS]
    return STRENGTHS[int(np.argmin(loss))]

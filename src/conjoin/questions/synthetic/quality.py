"""quality: how good synthetic rows are as rows, judged on real rows that they were not made from,
beside two controls.

    c2st      min(1, 2 (1 - AUC)) of boosting that tells real rows from synthetic ones,
              cross-validated: 1 where it can't
    mi_error  sum_ij w_ij |I_ij - I'_ij|, w_ij = I_ij / sum I: nats, over pairs of columns
    shape     1 - mean over columns of sup |F - F'| (numbers) or of total variation (categories)
    trend     1 - mean over pairs of |r - r'| / 2 (two numbers) or of total variation of the pair's
              table
    use       AUC (one class against the others, the mean; R2 of a number) on the real rows of
              boosting trained on the synthetic ones

I is the mutual information of a pair, numbers in ten bins of equal count, I' that of the synthetic
rows; the bins of ``trend`` have equal width. ``shape`` and ``trend`` are defined as SDMetrics
defines its column shapes and column pair trends. D. Lopez-Paz and M. Oquab (2017), Revisiting
classifier two-sample tests, section 3, for the first.

The controls say what the figures can be: other real rows (as good as it gets with so many rows) and
the same rows with every column shuffled for itself (right columns, no dependence). All three have
as many rows.

Shape letters: B rows, D columns.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import mutual_info_score, r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from conjoin.questions.synthetic.copies import CopyCheck, copy_check
from conjoin.questions.synthetic.tables import Coded, coded, some_rows

__all__ = ["MEASURES", "Quality", "quality", "two_sample"]

# compared at most, and at least
MAX_ROWS = 5000
MIN_ROWS = 40
BINS = 10
MAX_CODES = 250  # that boosting can tell apart; rarer levels are one
MEASURES = {
    "c2st": "whether boosting can tell the rows from real ones: 1 if it can't, 0 if it always can",
    "mi_error": "error of the mutual information of pairs of columns, in nats: 0 is perfect",
    "shape": "single columns: 1 is perfect",
    "trend": "pairs of columns: 1 is perfect",
    "use": "what boosting trained on the rows is worth on real ones",
}


@dataclasses.dataclass(frozen=True)
class Quality:
    """``table``: the measures of the synthetic rows and both controls. ``tells``: (column, AUC lost
    where it is shuffled)."""

    table: pd.DataFrame
    tells: list[tuple[Any, float]]
    rows: int
    use: str  # what the last measure is of
    left_out: list[Any]
    copies: CopyCheck | None = None

    def to_json(self) -> dict[str, Any]:
        out = {
            "rows": self.rows,
            "use": self.use,
            "table": self.table.to_dict("index"),
            "tells": dict(self.tells),
        }
        return out | {
            "left_out": self.left_out,
            "copies": None if self.copies is None else self.copies.to_json(),
        }


def quality(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    holdout: pd.DataFrame | None = None,
    target: Any = None,
    *,
    rows: int = MAX_ROWS,
    random_state: int = 0,
) -> Quality:
    """Judge synthetic rows by real rows that they were not made from.

    Two controls stand beside them: other real rows, and the same with every column shuffled for
    itself.

    Parameters
    ----------
    real : DataFrame
        The rows that the synthetic ones were made from.
    synthetic : DataFrame
        The rows to judge.
    holdout : DataFrame, optional
        Real rows that they were not made from. Without them the real rows are halved: one half
        judges, the other is the control, and copies are not looked for.
    target : hashable, optional
        A column to be predicted, for the measure "use".
    rows : int, default 5000
        Rows of each table that are compared, at most.
    random_state : int, default 0
        Which of them, and the seed of boosting.

    Returns
    -------
    Quality
        The measures of ``MEASURES`` for the synthetic rows and both controls, the columns that tell
        them from real ones, and the check for copies.

    Raises
    ------
    ValueError
        If there are fewer than 40 rows of a kind.

    References
    ----------
    D. Lopez-Paz and M. Oquab (2017), Revisiting classifier two-sample tests, section 3.
    """
    rng = np.random.default_rng(random_state)
    copies = (
        None if holdout is None else copy_check(real, synthetic, holdout, random_state=random_state)
    )
    if holdout is None:
        order = rng.permutation(len(real))
        holdout, real = (real.iloc[half] for half in np.array_split(order, 2))
    count = min(rows, *map(len, (real, synthetic, holdout)))
    if count < MIN_ROWS:
        raise ValueError(
            f"Judging synthetic rows needs {MIN_ROWS} rows of each kind (without held-out ones "
            f"twice as many real), got {count}."
        )
    judge, made, copy = (some_rows(frame, count, rng) for frame in (holdout, synthetic, real))
    table = coded({"real": judge, "synthetic": made, "other real": copy}, target)
    shuffled = rng.permuted(table.tables[2], axis=0)
    rivals = {
        "synthetic": table.tables[1],
        "real copy": table.tables[2],
        "independent columns": shuffled,
    }
    measured = {
        name: _measures(table, rival, target, random_state) for name, rival in rivals.items()
    }
    _, lost = two_sample(
        table.tables[0], table.tables[1], table.discrete, random_state, explain=True
    )
    tells = [(table.names[d], float(lost[d])) for d in np.argsort(-lost)]
    out = pd.DataFrame.from_dict(measured, orient="index")
    return Quality(out, tells, count, _use_words(table, target), table.left_out, copies)


def _measures(table: Coded, rival: np.ndarray, target: Any, seed: int) -> dict[str, float]:
    real = table.tables[0]
    discrete = table.discrete
    c2st, _ = two_sample(real, rival, discrete, seed)
    out = {
        "c2st": c2st,
        "mi_error": _mi_error(real, rival, discrete),
        "shape": _shape(real, rival, discrete),
    }
    out["trend"] = _trend(real, rival, discrete)
    return (
        out
        if target is None
        else out | {"use": _use(rival, real, discrete, table.names.index(target), seed)}
    )


def _use_words(table: Coded, target: Any) -> str:
    if target is None:
        return ""
    return f"{'AUC' if table.discrete[table.names.index(target)] else 'R2'} of {target}"


# ----------------------------------------------------------------------------------------- boosting


def _boosting(kind: Any, discrete: np.ndarray, seed: int, **settings: Any) -> Any:
    return kind(
        categorical_features=discrete if discrete.any() else None, random_state=seed, **settings
    )


def _capped(table: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """With the rarest levels as one, where there are more than boosting can tell apart."""
    return np.where(discrete, np.fmin(table, MAX_CODES), table)


def two_sample(
    real: np.ndarray,
    made: np.ndarray,
    discrete: np.ndarray,
    seed: int,
    *,
    folds: int = 3,
    explain: bool = False,
    **settings: Any,
) -> tuple[float, np.ndarray]:
    """min(1, 2 (1 - AUC)), and (D,) by how much the AUC falls where a column of the rows judged is
    shuffled (0 unless asked)."""
    X = _capped(np.concatenate([real, made]), discrete)
    label = np.repeat([1, 0], [len(real), len(made)])
    proba = np.empty(len(X))
    lost = np.zeros(X.shape[1])
    rng = np.random.default_rng(seed)
    for fit, judged in StratifiedKFold(folds, shuffle=True, random_state=seed).split(X, label):
        model = _boosting(HistGradientBoostingClassifier, discrete, seed, **settings).fit(
            X[fit], label[fit]
        )
        proba[judged] = model.predict_proba(X[judged])[:, 1]
        whole = roc_auc_score(label[judged], proba[judged])
        for d in range(X.shape[1]) if explain else ():
            other = X[judged].copy()
            other[:, d] = rng.permutation(other[:, d])
            lost[d] += (
                whole - roc_auc_score(label[judged], model.predict_proba(other)[:, 1])
            ) / folds
    return float(np.clip(2 * (1 - roc_auc_score(label, proba)), 0, 1)), lost


def _use(
    train: np.ndarray, test: np.ndarray, discrete: np.ndarray, target: int, seed: int
) -> float:
    """AUC or R2 on ``test``; NaN where ``train`` or ``test`` has but one class."""
    train, test = (part[~np.isnan(part[:, target])] for part in (train, test))
    rest = np.arange(len(discrete)) != target
    X, X_test = (_capped(part[:, rest], discrete[rest]) for part in (train, test))
    y = train[:, target]
    y_test = test[:, target]
    if not discrete[target]:
        model = _boosting(HistGradientBoostingRegressor, discrete[rest], seed).fit(X, y)
        return float(r2_score(y_test, model.predict(X_test)))
    if min(len(np.unique(y)), len(np.unique(y_test))) < 2:
        return float("nan")
    model = _boosting(HistGradientBoostingClassifier, discrete[rest], seed).fit(X, y)
    proba = dict(zip(model.classes_, model.predict_proba(X_test).T, strict=True))
    nothing = np.zeros(len(y_test))  # of a class that was not there to be learned
    return float(
        np.mean([roc_auc_score(y_test == c, proba.get(c, nothing)) for c in np.unique(y_test)])
    )


# -------------------------------------------------------------------------------- columns and pairs


def _edges(real: np.ndarray, discrete: np.ndarray, equal_width: bool) -> list[np.ndarray]:
    """The inner edges of each column's bins, from the real rows; none of a category."""
    steps = np.linspace(0, 1, BINS + 1)[1:-1]
    out = []
    for d in range(real.shape[1]):
        values = real[~np.isnan(real[:, d]), d]
        if discrete[d] or not len(values):
            out.append(np.empty(0))
        else:
            low = values.min()
            high = values.max()
            out.append(
                low + (high - low) * steps if equal_width else np.unique(np.quantile(values, steps))
            )
    return out


def _binned(table: np.ndarray, discrete: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """(B, D) bins as whole numbers; what is missing is a bin of its own."""
    out = np.zeros(table.shape, dtype=np.int64)
    for d, edge in enumerate(edges):
        place = np.nan_to_num(table[:, d]) if discrete[d] else np.searchsorted(edge, table[:, d])
        out[:, d] = np.where(np.isnan(table[:, d]), -1, place) + 1
    return out


def _mi_error(real: np.ndarray, made: np.ndarray, discrete: np.ndarray) -> float:
    edges = _edges(real, discrete, equal_width=False)
    one, other = (_binned(part, discrete, edges) for part in (real, made))
    pairs = list(itertools.combinations(range(real.shape[1]), 2))
    own, theirs = (
        np.array([mutual_info_score(part[:, i], part[:, j]) for i, j in pairs])
        for part in (one, other)
    )
    return float(np.average(np.abs(own - theirs), weights=own)) if own.sum() > 0 else float("nan")


def _variation(one: np.ndarray, other: np.ndarray) -> float:
    """Half the L1 distance of the shares of whole numbers (B,)."""
    size = int(max(one.max(), other.max())) + 1
    shares = [np.bincount(part, minlength=size) / len(part) for part in (one, other)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _shape(real: np.ndarray, made: np.ndarray, discrete: np.ndarray) -> float:
    codes = [_binned(part, discrete, [np.empty(0)] * len(discrete)) for part in (real, made)]
    gaps = [
        _variation(codes[0][:, d], codes[1][:, d])
        if discrete[d]
        else _kolmogorov(real[:, d], made[:, d])
        for d in range(len(discrete))
    ]
    return 1 - float(np.mean(gaps))


def _kolmogorov(one: np.ndarray, other: np.ndarray) -> float:
    """sup |F - F'| of the cells that are known; 1 where only one of the columns knows any."""
    one, other = (np.sort(part[~np.isnan(part)]) for part in (one, other))
    if not len(one) or not len(other):
        return float(len(one) != len(other))
    at = np.concatenate([one, other])
    return float(
        np.abs(
            np.searchsorted(one, at, "right") / len(one)
            - np.searchsorted(other, at, "right") / len(other)
        ).max()
    )


def _trend(real: np.ndarray, made: np.ndarray, discrete: np.ndarray) -> float:
    edges = _edges(real, discrete, equal_width=True)
    one, other = (_binned(part, discrete, edges) for part in (real, made))
    size = int(max(one.max(), other.max())) + 1
    # of the rows where both are known
    r, r_made = (np.asarray(pd.DataFrame(part).corr()) for part in (real, made))
    gaps = [
        _variation(one[:, i] * size + one[:, j], other[:, i] * size + other[:, j])
        if discrete[i] or discrete[j]
        else abs(r[i, j] - r_made[i, j]) / 2
        for i, j in itertools.combinations(range(len(discrete)), 2)
    ]
    return 1 - float(np.nanmean(gaps)) if len(gaps) and not np.isnan(gaps).all() else float("nan")

"""Cross-validation folds: rows of one content, or of one group, stand in one fold, and every fold
has its share of every class.

Shape letters: B rows.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["dealt", "few_rows_of_classes", "folds_for", "parts_of"]

FOLDS = 5
FOLDS_OF_MANY = 3
MANY_ROWS = 10_000  # from which on fewer folds tell as much


@contextmanager
def few_rows_of_classes() -> Iterator[None]:
    """Without scikit-learn's warning about few rows of each of many classes, which a fold may
    have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")
        yield


def folds_for(rows: int, fast: bool = False) -> int:
    """How many folds so many rows are dealt to; few where the fit is to be fast."""
    return FOLDS if rows < MANY_ROWS and not fast else FOLDS_OF_MANY


def dealt(
    y: np.ndarray,
    classes: int | None,
    seed: int,
    hashes: np.ndarray | None = None,
    fast: bool = False,
) -> np.ndarray:
    """(B,) the fold of each row; -1 for those of a class that has fewer sets than there are folds,
    which always teach.

    Sets of equal ``hashes`` (B,) are shuffled by the seed, sorted by y (that of their first row)
    and dealt out in turn. Without hashes each row is a set of its own. The order of the rows does
    not matter where hashes are given."""
    hashes = np.arange(len(y)) if hashes is None else hashes
    distinct, first, where = np.unique(hashes, return_index=True, return_inverse=True)
    value = y[first] if classes is not None else y[first].argsort().argsort()
    shuffled = np.random.default_rng(seed).permutation(len(distinct))
    order = shuffled[value[shuffled].argsort(kind="stable")]
    folds = folds_for(len(y), fast)
    fold = np.empty(len(distinct), dtype=np.int64)
    fold[order] = np.arange(len(distinct)) % folds
    out = fold[where]
    if classes is not None:
        sets = np.bincount(value.astype(np.int64), minlength=classes)
        out[sets[y.astype(np.int64)] < folds] = -1
    return out


def parts_of(fold: np.ndarray) -> list[np.ndarray]:
    """(B,) marks of the rows that are held out, fold by fold."""
    return [fold == number for number in range(int(fold.max(initial=-1)) + 1)]

"""copy_check: whether synthetic rows lie nearer to the training rows than rows do that the model
has never seen.

    d(a, b) = mean over columns of min(1, |a_d - b_d|)

after J. Gower (1971), A general coefficient of similarity: a number stands for its rank among the
training rows, from 0 to 1 (J. Podani (1999) ranks so too), a category for 0 or 1, same or other;
a missing cell is at distance 1 from a known one and at 0 from another missing one. A model that has
learned the distribution draws rows that are as near to the training rows as held-out rows are. A
model that has memorised rows draws nearer ones. This is a test for copies only: no distance is a
guarantee of privacy. Rows can be revealed without being copied, and a single rare value may
identify a person. Only differential privacy bounds what any reader can learn.

Shape letters: B rows, D columns.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from conjoin.core.event import slices
from conjoin.questions.synthetic.tables import coded, some_rows

__all__ = ["CAUTION", "CopyCheck", "copy_check", "nearest", "ranked"]

CAUTION = "A distance is no guarantee of privacy: rows can be told of without being copied."
CHUNK_ROWS = 64  # rows whose distances to all others are held at once


@dataclasses.dataclass(frozen=True)
class CopyCheck:
    """``synthetic`` and ``holdout``: (B,) distances to the nearest training row. Shares are from 0
    to 1."""

    synthetic: np.ndarray
    holdout: np.ndarray
    # synthetic rows nearer to a training row than to a held-out one, of as many each: .5 without
    # copying
    nearer_train: float

    @property
    def copies(self) -> tuple[float, float]:
        """Shares of synthetic and of held-out rows that equal a training row: a table of few values
        has such anyway."""
        return float((self.synthetic == 0).mean()), float((self.holdout == 0).mean())

    @property
    def nearer(self) -> float:
        """How often a synthetic row lies nearer to the training rows than a held-out one does, ties
        by half: .5 without copying."""
        ranks = np.sort(self.holdout)
        above = len(ranks) - np.searchsorted(ranks, self.synthetic, side="right")
        ties = np.searchsorted(ranks, self.synthetic, side="right") - np.searchsorted(
            ranks, self.synthetic, side="left"
        )
        return float((above + ties / 2).mean() / len(ranks))

    @property
    def too_near(self) -> float:
        """Share of synthetic rows nearer than 95 % of the held-out rows: at most about .05 without
        copying."""
        return float((self.synthetic < np.quantile(self.holdout, 0.05)).mean())

    def frame(self) -> pd.DataFrame:
        """Exact copies and quantiles of the distance, of both."""
        columns = {"synthetic": self.synthetic, "held-out": self.holdout}
        rows = {
            name: [(d == 0).mean(), *np.quantile(d, (0.05, 0.5))] for name, d in columns.items()
        }
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=["exact copies", "nearest 5 %", "median distance"]
        )

    def to_json(self) -> dict[str, Any]:
        shares = {
            "nearer": self.nearer,
            "nearer_train": self.nearer_train,
            "too_near": self.too_near,
        }
        return shares | {"distances": self.frame().to_dict("index"), "caution": CAUTION}


def copy_check(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    holdout: pd.DataFrame,
    *,
    rows: int = 2000,
    random_state: int = 0,
) -> CopyCheck:
    """Whether synthetic rows lie nearer to the training rows than new real rows do.

    Columns of levels are compared by equality, numbers by their ranks among the training rows; a
    distance is the mean over columns, from 0 to 1.

    Parameters
    ----------
    real : DataFrame
        The training rows.
    synthetic : DataFrame
        Rows that were made from them.
    holdout : DataFrame
        Real rows that they were not made from.
    rows : int, default 2000
        Synthetic and held-out rows that are compared, at most.
    random_state : int, default 0
        Which of them.

    Returns
    -------
    CopyCheck
        Distances to the nearest training row, and the shares of copies.

    Raises
    ------
    ValueError
        If a table lacks a column of ``real``, or has no rows.

    References
    ----------
    J. Gower (1971), A general coefficient of similarity and some of its properties.
    """
    rng = np.random.default_rng(random_state)
    frames = {
        "real": real,
        "synthetic": some_rows(synthetic, rows, rng),
        "holdout": some_rows(holdout, rows, rng),
    }
    for name, frame in frames.items():
        if not len(frame):
            raise ValueError(f"The {name} table has no rows, so there is nothing to compare.")
    table = coded(frames)
    train, made, held = (ranked(part, table.tables[0], table.discrete) for part in table.tables)
    some, others = (
        part[rng.permutation(len(part))[: min(len(train), len(held))]] for part in (train, held)
    )
    gap = nearest(made, some) - nearest(made, others)
    return CopyCheck(
        nearest(made, train), nearest(held, train), float((gap < 0).mean() + (gap == 0).mean() / 2)
    )


def ranked(table: np.ndarray, train: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """(B, D) with numbers as mid-ranks among the training rows; what is missing lies beyond all
    else."""
    out = np.full(table.shape, -9.0, dtype=np.float32)
    for d in range(table.shape[1]):
        known = ~np.isnan(table[:, d])
        values = table[known, d]
        if not discrete[d]:
            seen = np.sort(train[~np.isnan(train[:, d]), d])
            sides = [np.searchsorted(seen, values, side=side) for side in ("left", "right")]
            values = (sides[0] + sides[1]) / max(1, 2 * len(seen))
        out[known, d] = values
    return out


def nearest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(B,) the distance of each row to the nearest of the others."""
    out = np.empty(len(rows))
    columns = np.ascontiguousarray(others.T)
    for place in slices(len(rows), CHUNK_ROWS):
        part = rows[place]
        total = np.zeros((len(part), len(others)), dtype=np.float32)
        for mine, theirs in zip(part.T, columns, strict=True):
            gap = np.subtract(mine[:, None], theirs[None])
            total += np.minimum(np.abs(gap, out=gap), 1.0, out=gap)
        out[place] = total.min(1) / rows.shape[1]
    return out

"""Rows that somebody planted among the training rows: whether the model knows them better than
their like, which were not planted.

Exposure in bits as in ``questions.synthetic.canaries``, by log p(x) of the model that there is:
nothing is fitted. The like are rows that were made in the same way and left out; where there are
none, rows whose every cell is drawn from its own column, which is how such rows are best made.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from conjoin.questions.synthetic.canaries import NO_MEMORY, exposure, strange_rows

__all__ = ["PLANTED", "Planted", "planted"]

PLANTED = "planted"  # the column that says which rows were planted, and which were left out
REFERENCES = 1_000
MAX_P_VALUE = 0.01


@dataclasses.dataclass(frozen=True)
class Planted:
    """``bits``: mean exposure, 1.44 without memory, at most ``most``; ``gap``: nats between the
    medians; ``p_value``: of planted rows that are so much likelier, were there no memory.
    ``own_references``: whether the rows beside them were made in the same way and left out; where
    not, the p-value holds only for planted rows whose cells were drawn from their columns."""

    bits: float
    most: float
    gap: float
    p_value: float
    canaries: int
    references: int
    own_references: bool

    @property
    def remembered(self) -> bool | None:
        """None without references of their own: rows may be likely for other reasons."""
        return self.p_value <= MAX_P_VALUE if self.own_references else None

    def to_json(self) -> dict[str, Any]:
        told = {"no_memory_bits": NO_MEMORY, "remembered": self.remembered}
        return dataclasses.asdict(self) | told


def planted(estimator: Any, canaries: pd.DataFrame, X: Any, rng: np.random.Generator) -> Planted:
    """Whether the model remembers ``canaries``; with a column "planted" those that were not are
    their like, else rows made of the cells of ``X``.

    Raises
    ------
    ValueError
        If no row was planted, or if strings come without their like.
    """
    there = np.ones(len(canaries), dtype=bool)
    frame = canaries
    own = PLANTED in canaries
    if own:
        said = canaries[PLANTED].astype(str).str.strip().str.lower()
        there = said.isin(("1", "true", "yes", "1.0")).to_numpy()
        frame = canaries.drop(columns=PLANTED)
    if not there.any() or (there.all() and own):
        raise ValueError(
            f"{int(there.sum()):,} of {len(there):,} canaries were planted by the column "
            f"{PLANTED!r}: it must say yes of some and no of others."
        )
    columns = estimator.model_.codec.columnwise
    if not own and not columns:
        raise ValueError(
            f"Canaries that are strings need their like: a column {PLANTED!r} that says yes of "
            "those that were planted and no of others that were made in the same way."
        )
    asked = frame if columns else [str(cell) for cell in frame.iloc[:, 0]]
    score = np.asarray(estimator.score_samples(asked), dtype=float)
    if own:
        known = score[there]
        others = score[~there]
    else:
        known = score
        like = strange_rows(X, None, REFERENCES, rng)[0]
        others = np.asarray(estimator.score_samples(like), dtype=float)
    bits = exposure(known, others)
    test = mannwhitneyu(known, others, alternative="greater")
    gap = float(np.median(known) - np.median(others))
    most = float(np.log2(1 + len(others)))
    return Planted(float(bits.mean()), most, gap, float(test.pvalue), len(known), len(others), own)

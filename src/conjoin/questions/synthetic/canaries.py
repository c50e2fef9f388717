"""canary_audit: whether a fit remembers single rows. Plant some, fit, and ask how much better it
knows them than their like.

    exposure = log2(1 + N) - log2 rank        bits

of N. Carlini, C. Liu, U. Erlingsson, J. Kos and D. Song (2019), The Secret Sharer, definition 4:
``rank`` is the place of a planted row among itself and N reference rows of the same kind that were
not planted, the likeliest first. Rows are made unlike any other by drawing each cell from its own
column: every value is real, the combination is not. Planted and reference rows are interchangeable
but for the planting, so what sets them apart is memory. Without any, a rank is uniform and the
exposure 1 / ln 2 = 1.44 bits on average; where every planted row is the first, log2(1 + N).

The audit sees what it plants: rows of this kind, so often repeated, by the likelihood and the draws
of one fit. A low exposure is no proof that no row can be got out by other means. Rows that a fit
holds out for itself are audited as held out.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.base import clone

from conjoin.codecs.table.native import plain_frame
from conjoin.questions.synthetic.copies import nearest, ranked
from conjoin.questions.synthetic.tables import coded

__all__ = ["NO_MEMORY", "CanaryAudit", "canary_audit", "exposure", "strange_rows"]

NO_MEMORY = 1 / math.log(2)  # bits: the mean of -log2 of a uniform rank


@dataclasses.dataclass(frozen=True)
class CanaryAudit:
    """``scored``: (K,) bits of exposure by log p(x); ``drawn``: by how near the draws come.
    ``most``: the bits of a perfect memory."""

    scored: np.ndarray
    drawn: np.ndarray
    most: float
    # planted rows, and reference rows per planted one, that the draws hold exactly
    made: tuple[int, int]
    gap: float  # nats by which planted rows are likelier than reference rows, of the medians
    p_value: float  # of as many planted rows among the likeliest tenth, were there no memory

    def to_json(self) -> dict[str, Any]:
        bits = {"scored_bits": float(self.scored.mean()), "drawn_bits": float(self.drawn.mean())}
        facts = {
            "no_memory_bits": NO_MEMORY,
            "most_bits": self.most,
            "gap_nats": self.gap,
            "p_value": self.p_value,
        }
        return (
            bits
            | facts
            | {"made": self.made[0], "made_by_chance": self.made[1], "canaries": len(self.scored)}
        )


def canary_audit(
    estimator: Any,
    X: pd.DataFrame,
    y: Any = None,
    *,
    canaries: int = 20,
    repeats: int = 1,
    references: int = 1000,
    random_state: int = 0,
) -> CanaryAudit:
    """Plant unusual rows, fit a clone of an estimator, and see whether it remembers them.

    Parameters
    ----------
    estimator : estimator
        A JointClassifier, JointRegressor or JointDensity, fitted or not; it is cloned.
    X : DataFrame
        The rows to fit to.
    y : array_like, shape (n,), optional
        Labels, where the estimator takes any; those of the canaries are drawn like every other
        cell.
    canaries : int, default 20
        Unusual rows that are planted.
    repeats : int, default 1
        How often each is planted.
    references : int, default 1000
        Unusual rows that are not planted, among which the canaries are ranked.
    random_state : int, default 0
        Which rows, and the seed of the draws: as many as were fitted to.

    Returns
    -------
    CanaryAudit
        Exposure of each canary in bits, by log p(x) and by the draws; 1.44 bits without memory.

    Raises
    ------
    ValueError
        If canaries, repeats or references are under 1.

    References
    ----------
    N. Carlini, C. Liu, U. Erlingsson, J. Kos and D. Song (2019), The secret sharer, definition 4.
    """
    for name, count in (("canaries", canaries), ("repeats", repeats), ("references", references)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")
    rng = np.random.default_rng(random_state)
    strange, labels = strange_rows(X, y, canaries + references, rng)
    planted = np.repeat(np.arange(canaries), repeats)
    order = rng.permutation(len(X) + len(planted))
    table = (
        pd.concat([X, strange.iloc[planted]], ignore_index=True).iloc[order].reset_index(drop=True)
    )
    model = clone(estimator)
    model.fit(table) if labels is None else model.fit(table, _labels(y, labels[planted])[order])
    score = np.asarray(model.score_samples(strange), dtype=float)
    drawn = plain_frame(model.sample(len(table), random_state=random_state)[0])
    distance = _distances(X, strange, drawn)
    top = int((score[:canaries] > np.quantile(score[canaries:], 0.9)).sum())
    return CanaryAudit(
        exposure(score[:canaries], score[canaries:]),
        exposure(-distance[:canaries], -distance[canaries:]),
        math.log2(1 + references),
        (
            int((distance[:canaries] == 0).sum()),
            round(canaries * float((distance[canaries:] == 0).mean())),
        ),
        float(np.median(score[:canaries]) - np.median(score[canaries:])),
        float(binomtest(top, canaries, 0.1, alternative="greater").pvalue),
    )


def strange_rows(
    X: pd.DataFrame, y: Any, count: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, Any]:
    """Rows whose every cell is drawn from its own column, and labels likewise."""
    columns = {name: X[name].iloc[rng.integers(len(X), size=count)].array for name in X}
    return pd.DataFrame(columns), None if y is None else np.asarray(y)[
        rng.integers(len(X), size=count)
    ]


def _labels(y: Any, more: np.ndarray) -> pd.Series:
    return pd.Series(np.concatenate([np.asarray(y), more]), name=getattr(y, "name", None))


def _distances(X: pd.DataFrame, strange: pd.DataFrame, drawn: pd.DataFrame) -> np.ndarray:
    """(B,) how near the nearest draw comes to each strange row."""
    names = [name for name in X if name in drawn]  # a model leaves identifiers out
    table = coded({"real": X[names], "planted": strange, "drawn": drawn})
    _, rows, draws = (ranked(part, table.tables[0], table.discrete) for part in table.tables)
    return nearest(rows, draws)


def exposure(planted: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(K,) bits; rows that tie with a planted one stand before it by half."""
    above = (references[None] > planted[:, None]).sum(1) + (
        references[None] == planted[:, None]
    ).sum(1) / 2
    return np.asarray(math.log2(1 + len(references)) - np.log2(1 + above))

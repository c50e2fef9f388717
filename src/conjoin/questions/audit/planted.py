"""Rows that somebody planted among the training rows: whether the model knows them better than
their like, which were not planted.

Exposure in bits as in ``questions.synthetic.canaries``, by log p(x) of the model that there is:
nothing is fitted. The like are rows that were made in the same way and left out; where there are
none, rows whose every cell is drawn from its own column, which is how such rows are best made.
log p(x) of rows that lack a cell is of fewer cells, and greater. So columns that are not known in
every canary are left out of all rows that are compared.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from conjoin.model.contents import reads_columns_alone
from conjoin.questions.synthetic.canaries import NO_MEMORY, exposure, strange_rows

__all__ = ["PLANTED", "Planted", "planted"]

YES = ("1", "true", "yes", "1.0")
NO = ("0", "false", "no", "0.0")
PLANTED = "planted"  # the column that says which rows were planted, and which were left out
REFERENCES = 1_000
MAX_P_VALUE = 0.01


@dataclasses.dataclass(frozen=True)
class Planted:
    """``bits``: mean exposure, 1.44 without memory, at most ``most``; ``gap``: nats between the
    medians; ``p_value``: of planted rows that are so much likelier, were there no memory.
    ``own_references``: whether the rows beside them were made in the same way and left out; where
    not, the p-value holds only for planted rows whose cells were drawn from their columns.
    ``unasked``: columns that were left out, as a canary lacks them."""

    bits: float
    most: float
    gap: float
    p_value: float
    canaries: int
    references: int
    own_references: bool
    unasked: tuple[str, ...] = ()

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
        If no row was planted, or it is not said which, if strings come without their like, or if no
        column is known in every canary.
    """
    there = np.ones(len(canaries), dtype=bool)
    frame = canaries
    own = PLANTED in canaries
    if own:
        said = canaries[PLANTED].astype(str).str.strip().str.lower()
        there = said.isin(YES).to_numpy()
        odd = ~there & ~said.isin(NO).to_numpy()
        if odd.any():
            row = int(odd.argmax())
            raise ValueError(
                f"The column {PLANTED!r} of the canaries says {canaries[PLANTED].iloc[row]!r} in "
                f"row {row + 1}; it takes yes or no."
            )
        frame = canaries.drop(columns=PLANTED)
    if not there.any() or (there.all() and own):
        raise ValueError(
            f"{int(there.sum()):,} of {len(there):,} canaries were planted by the column "
            f"{PLANTED!r}: it must say yes of some and no of others."
        )
    codec = estimator.model_.codec
    if not own and not codec.columnwise:
        raise ValueError(
            f"Canaries that are strings need their like: a column {PLANTED!r} that says yes of "
            "those that were planted and no of others that were made in the same way."
        )
    gaps = _gaps(codec, frame) if codec.columnwise else []
    asked = _without(frame, gaps) if codec.columnwise else _strings(codec, frame)
    score = np.asarray(estimator.score_samples(asked), dtype=float)
    if own:
        known = score[there]
        others = score[~there]
    else:
        known = score
        like = _without(strange_rows(X, None, REFERENCES, rng)[0], gaps)
        others = np.asarray(estimator.score_samples(like), dtype=float)
    bits = exposure(known, others)
    test = mannwhitneyu(known, others, alternative="greater")
    gap = float(np.median(known) - np.median(others))
    most = float(np.log2(1 + len(others)))
    return Planted(
        float(bits.mean()),
        most,
        gap,
        float(test.pvalue),
        len(known),
        len(others),
        own,
        tuple(map(str, gaps)),
    )


def _gaps(codec: Any, frame: pd.DataFrame) -> list[Any]:
    """The columns that the model reads and that are not known in every row; ValueError where that
    is all of them."""
    rows = codec.rows(frame)
    absent = set(codec.missing_columns(rows))
    gaps = [name for name in codec.columns if name in absent or _has_gap(frame, name)]
    if reads_columns_alone(codec):
        filled = codec.encode(rows).filled.all(0).tolist()
        # flags of missing cells, which have no column, come last
        cells = zip(codec.columns, filled, strict=False)
        gaps = [name for name, all_known in cells if name in gaps or not all_known]
    if len(gaps) == len(codec.columns):
        raise ValueError(
            "No column that the model reads is known in every canary, so nothing of them can be "
            f"compared: each of {', '.join(map(str, gaps))} is missing in some."
        )
    return gaps


def _has_gap(frame: pd.DataFrame, name: Any) -> bool:
    return name in frame and bool(frame[name].isna().any())


def _without(frame: pd.DataFrame, gaps: list[Any]) -> pd.DataFrame:
    """The rows, of which nothing is known in these columns."""
    out = frame.copy()
    for name in gaps:
        out[name] = np.nan
    return out


def _strings(codec: Any, frame: pd.DataFrame) -> list[str]:
    """The canaries that are strings; ValueError where one is missing."""
    if len(codec.columns) != 1:
        raise ValueError(
            f"Canaries are rows of columns or strings, and {codec.plural} are neither."
        )
    (name,) = codec.columns
    if name not in frame and frame.shape[1] != 1:
        raise ValueError(
            f"The canaries have no column {name!r}, which the model reads; they have "
            f"{', '.join(map(str, frame))}."
        )
    cells = frame[name] if name in frame else frame.iloc[:, 0]
    missing = np.flatnonzero(cells.isna())
    if len(missing):
        raise ValueError(
            f"{len(missing):,} of {len(cells):,} canaries have no {name!r}, the first of them "
            f"number {missing[0] + 1:,}: leave them out."
        )
    return [str(cell) for cell in cells]

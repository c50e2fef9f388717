"""Which tables an audit is given: whether one is that of the fit, and whether the rows that the
model is said never to have seen stand in it.

Equal rows may be so by chance, as those of a few columns of few levels are. The share of training
rows that equal another one says how often: a new row of the same source equals a training row as
often. More than that, by Fisher's exact test, is no chance: the held-out rows are then those of the
fit. What is told of strangers would be told of members, and give an all-clear.

Of rows that may be equal by chance, membership is asked of those alone that equal no (other)
training row. Members and strangers are then still alike where nothing is remembered: of a content
that occurs c times among all rows, each of which is a training row with probability q, there are c
q members and c (1 - q) strangers, of which c q (1 - q)^(c - 1) and c (1 - q)^c are left: the same
share of both.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from conjoin.model.contents import are_of_fit, contents

__all__ = ["Overlap", "Tables", "tables_of"]

MAX_P_VALUE = 0.001  # at which held-out rows stand in the training table by no chance
MAX_SHARE = 0.5  # of the held-out rows that may


@dataclasses.dataclass(frozen=True)
class Overlap:
    """``equal``: of the held-out ``rows``, those that equal a training row; ``by_chance``: how many
    would; ``p_value``: of so many."""

    rows: int
    equal: int
    by_chance: float
    p_value: float

    @property
    def known(self) -> bool:
        """Whether they are rows of the fit, and equal by no chance."""
        return self.p_value <= MAX_P_VALUE

    @property
    def share(self) -> float:
        """Of the held-out rows, those that are rows of the fit."""
        rest = self.rows - self.by_chance
        return (self.equal - self.by_chance) / rest if self.known and rest > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"known": self.known}


@dataclasses.dataclass(frozen=True)
class Tables:
    """``of_fit``: whether the training table is that of the fit, None where that is not recorded;
    ``overlap``: None without held-out rows.

    ``alone``: (n,) training rows that equal no other one; ``new``: (m,) held-out rows that equal
    none of them; ``unknown``: (m,) those that may be asked about as rows that the model has never
    seen."""

    of_fit: bool | None
    overlap: Overlap | None
    alone: np.ndarray
    new: np.ndarray
    unknown: np.ndarray

    def to_json(self) -> dict[str, Any]:
        overlap = None if self.overlap is None else self.overlap.to_json()
        return {"rows_of_fit": self.of_fit, "overlap": overlap}

    def words(self) -> list[str]:
        """What a reader must know of them before all else; nothing where all is well."""
        said = []
        if self.of_fit is False:
            said.append(
                "Training rows: the table given is not that of the fit, by its digest. What is "
                "told of training rows is told of its rows, which the model may never have seen."
            )
        elif self.of_fit is None:
            said.append(
                "Training rows: whether the table given is that of the fit is not recorded in this "
                "model; what follows takes it for that."
            )
        if self.overlap is None:
            return said
        if not self.alone.all():
            repeats = int((~self.alone).sum())
            said.append(
                f"Training rows: {repeats:,} of {len(self.alone):,} equal another one: membership "
                "is not asked of them."
            )
        if self.overlap.equal:
            said.append(_of_overlap(self.overlap))
        return said


def _of_overlap(found: Overlap) -> str:
    counted = f"Held-out rows: {found.equal:,} of {found.rows:,} equal a training row"
    if found.known:
        return (
            f"{counted}, where chance would make about {found.by_chance:.3g}: the model has seen "
            "them, so they are left out."
        )
    return (
        f"{counted}, as chance would make about {found.by_chance:.3g}: membership is not asked of "
        "them."
    )


def tables_of(model: Any, X: Any, y: Any, X_held: Any, y_held: Any) -> Tables:
    """What the tables are.

    Raises
    ------
    ValueError
        If a table lacks a column of the fit, or most of the held-out rows are training rows, beyond
        chance.
    """
    for what, table in (("training table", X), ("held-out rows", X_held)):
        _refuse_without_columns(model, what, table)
    rows = model.rows(X)
    of_fit = are_of_fit(model.codec, rows, model.facts)
    own = contents(model.codec, rows)
    alone = ~pd.Series(own).duplicated(keep=False).to_numpy()
    if X_held is None:
        none = np.zeros(0, dtype=bool)
        return Tables(of_fit, None, alone, none, none)
    held = contents(model.codec, model.rows(X_held))
    new = ~np.isin(held, own)
    if y is not None and y_held is not None:
        own = _with_labels(own, y)
        held = _with_labels(held, y_held)
    seen = np.isin(held, own)
    overlap = _overlap(own, seen)
    if overlap.share > MAX_SHARE:
        raise ValueError(
            f"{overlap.equal:,} of the {overlap.rows:,} held-out rows stand in the training table, "
            f"where chance would make about {overlap.by_chance:.3g}: what a model remembers shows "
            "beside rows that it has never seen. Give such rows as X_held=..., or none."
        )
    return Tables(of_fit, overlap, alone, new, ~seen if overlap.known else np.ones(len(held), bool))


def _refuse_without_columns(model: Any, what: str, table: Any) -> None:
    """ValueError where rows of fewer cells would be held against whole ones."""
    absent = [] if table is None else model.codec.missing_columns(model.codec.rows(table))
    if absent:
        raise ValueError(
            f"The {what} lack{'s' if what.endswith('table') else ''} {', '.join(map(repr, absent))}"
            ": rows of fewer cells can't be held against those of the fit. Give all columns of "
            f"the fit: {', '.join(map(str, model.codec.columns))}."
        )


def _overlap(own: np.ndarray, seen: np.ndarray) -> Overlap:
    equal = int(seen.sum())
    repeats = int(pd.Series(own).duplicated(keep=False).sum())
    table = [[equal, len(seen) - equal], [repeats, len(own) - repeats]]
    chance = repeats / max(1, len(own))
    found: Any = fisher_exact(table, alternative="greater")
    return Overlap(len(seen), equal, chance * len(seen), float(found.pvalue))


def _with_labels(hashes: np.ndarray, y: Any) -> np.ndarray:
    """(B,) uint64 of rows with their labels; 1 and 1.0 are one label."""
    cells = y if isinstance(y, pd.Series) else pd.Series(np.asarray(y))
    number = pd.to_numeric(cells.astype(object), errors="coerce")
    said = cells.astype(str).where(number.isna(), number.astype(float).map("{:.9g}".format))
    both = pd.DataFrame({"x": hashes, "y": said.to_numpy()})
    return np.asarray(pd.util.hash_pandas_object(both, index=False))

"""The rows of a fit, and their three parts.

Rows are split by a seeded hash of their content and never reused: fit; choose (early stopping,
temperature, predictor); calibrate (conformal ranks, error bounds). Where the calibration part would
be too small for a false-alarm rate of .05, none is taken from the fit."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from conjoin.calibration.conformal import rows_for_error, rows_for_false_alarm
from conjoin.fitting.label_propagation import mostly_unlabelled
from conjoin.fitting.options import FitOptions
from conjoin.predictors.classifier import MIN_COMPARISON_ROWS
from conjoin.training.data import (
    Split,
    count_copies,
    row_hashes,
    split_rows,
    times_copied,
    without_copies,
)

__all__ = [
    "Rows",
    "calibration_rows",
    "conflicts_words",
    "copies_among",
    "copies_words",
    "split_of",
    "weighted",
    "whole_hashes",
]

VALIDATION_SHARE = 0.15
MAX_RELABELLED_SHARE = 0.05  # of copied rows, that have another label than before
MIN_VALIDATION_ROWS = 20  # with fewer the model is not chosen by them


def whole_hashes(rows: "Rows") -> np.ndarray:
    """(B,) uint64: equal for equal rows with equal labels. Rows of a design that was measured
    several times are no copies, since their labels differ."""
    hashes = np.asarray(rows.x.hashes())
    if rows.y is None or rows.known is None:
        return hashes
    label = pd.Series(np.asarray(rows.y, dtype=object)).astype(str).where(rows.known, "")
    both = pd.DataFrame({"x": hashes, "y": label, "known": rows.known})
    return pd.util.hash_pandas_object(both, index=False).to_numpy()


def calibration_rows(rows: "Rows", split: Split) -> np.ndarray:
    """The places of the held-out rows; of copies as many as there were rows before the copying."""
    hashes = whole_hashes(rows)
    times = times_copied(hashes, _repeat_by_chance(rows, hashes))
    return split.calibrate[without_copies(hashes[split.calibrate], times)]


def copies_among(rows: "Rows") -> int:
    """How many rows are copies of others; none where the user named groups."""
    if rows.groups is not None:
        return 0
    hashes = whole_hashes(rows)
    return count_copies(hashes, _repeat_by_chance(rows, hashes))


def _repeat_by_chance(rows: "Rows", hashes: np.ndarray) -> bool:
    """Whether equal rows, by their (B,) hashes with labels, may be so by chance, or are measured
    again: then rows that are equal but for the label are many."""
    different = len(np.unique(hashes))
    if different == len(hashes) or rows.x.repeat_by_chance():
        return True
    alike = len(np.unique(np.asarray(rows.x.hashes())))
    return different > (1 + MAX_RELABELLED_SHARE) * alike


@dataclass(frozen=True)
class Rows:
    """What the user brought: rows of x, as a codec's ``rows`` holds them. ``y`` is None for a
    density; ``known`` marks labelled rows. ``form``: how y writes numbers in words; ``told``: what
    the user should be told of y; ``low``, ``high``, ``strict``: (B,) bounds of a number that is not
    known (``conjoin.model.censored``), None where no number has any."""

    x: Any
    y: np.ndarray | None = None
    known: np.ndarray | None = None
    weight: np.ndarray | None = None
    groups: Any = None
    latest: np.ndarray | None = None
    name: str = "y"
    form: Any = None
    told: tuple[str, ...] = ()
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    strict: np.ndarray | None = None

    def bounds_at(self, places: np.ndarray) -> tuple[Any, Any, Any]:
        """Low, high and strict of some rows, None each where no number has bounds."""
        if self.low is None or self.high is None or self.strict is None:
            return None, None, None
        return self.low[places], self.high[places], self.strict[places]


def copies_words(rows: int, copies: int) -> str:
    """What a fit makes of exact copies, of which so many stand beside the row that they repeat."""
    return (
        f"Of {rows:,} rows {copies:,} ({copies / rows:.0%}) are exact copies of others: all copies "
        "of a row are on one side of the split, and the held-out ones count once, so that promises "
        f"rest on fewer rows; the density takes all {rows:,} for as many cases, and is too sure. "
        "Fit without copies, or say by groups= which rows belong together."
    )


def conflicts_words(rows: "Rows") -> list[str]:
    """That rows of equal content have different labels, where the kind of data expects one."""
    if rows.y is None or rows.known is None:
        return []
    known = np.asarray(rows.known, dtype=bool)
    labels = pd.Series(np.asarray(rows.y, dtype=object)[known])
    counts = labels.groupby(np.asarray(rows.x.hashes())[known]).nunique()
    several = int((counts > 1).sum())
    if not several:
        return []
    return [
        f"{several:,} {'rows stand' if several > 1 else 'row stands'} in the data several times "
        f"with different values of {rows.name!r}, which all teach: mend them, or keep one of each."
    ]


def weighted(rows: Rows) -> Rows:
    """Rows of weight 0 do not exist."""
    count = len(rows.x)
    weight = np.ones(count) if rows.weight is None else np.asarray(rows.weight, dtype=float)
    if weight.shape != (count,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"sample_weight must be {count} finite numbers of at least 0.")
    if rows.groups is not None and len(rows.groups) != count:
        raise ValueError(f"groups has {len(rows.groups)} entries for {count} rows.")
    keep = np.flatnonzero(weight > 0)
    if not len(keep):
        raise ValueError("sample_weight is zero for every row: nothing is left to fit.")
    known = np.ones(count, dtype=bool) if rows.known is None else rows.known

    def part(value: Any) -> Any:
        return (
            None
            if value is None
            else np.asarray(value, dtype=object if value is rows.groups else None)[keep]
        )

    return replace(
        rows,
        x=rows.x if len(keep) == count else rows.x.take(keep),
        y=part(rows.y),
        known=known[keep],
        weight=weight[keep],
        groups=part(rows.groups),
        latest=part(rows.latest),
        low=part(rows.low),
        high=part(rows.high),
        strict=part(rows.strict),
    )


def split_of(rows: Rows, options: FitOptions) -> Split:
    """Which rows teach, which choose, which calibrate. ValueError for a share that is none."""
    if options.stream is not None:
        return (
            _every_class(options.stream.split, rows)
            if options.has_classes
            else options.stream.split
        )
    count = len(rows.x)
    if not 0 <= options.calibration < 0.9:
        raise ValueError(
            f"calibration must be a share from 0 to under 0.9, got {options.calibration}."
        )
    most = (
        1.0
        if options.codec is None or options.codec.most_held is None
        else options.codec.most_held / max(count, 1)
    )
    held = (
        min(options.calibration, most)
        if count * options.calibration >= rows_for_false_alarm(0.05)
        else 0.0
    )
    chosen = (
        min(VALIDATION_SHARE, most)
        if count * VALIDATION_SHARE * (1 - held) >= MIN_VALIDATION_ROWS
        else 0.0
    )
    split = split_rows(row_hashes(rows.x, rows.groups), options.seed, chosen, held, rows.latest)
    return _every_class(_labels_teach(split, rows, options), rows) if options.has_classes else split


def _labels_teach(split: Split, rows: Rows, options: FitOptions) -> Split:
    """The split; where labels are few, and too few of them are held out to promise anything about
    errors, or to choose by, those teach."""
    known = rows.known
    assert known is not None
    if not options.spread or not mostly_unlabelled(known):
        return split
    least = {"choose": MIN_COMPARISON_ROWS, "calibrate": rows_for_error(0.05)}
    few = [part for part in least if known[getattr(split, part)].sum() < least[part]]
    teach = np.concatenate(
        [split.fit, *(getattr(split, part)[known[getattr(split, part)]] for part in few)]
    )
    return split._replace(
        fit=np.sort(teach),
        **{part: getattr(split, part)[~known[getattr(split, part)]] for part in few},
    )


def _every_class(split: Split, rows: Rows) -> Split:
    """The split, with the held-out rows of any class that the fit would otherwise never see."""
    assert rows.y is not None and rows.known is not None
    seen = set(rows.y[split.fit][rows.known[split.fit]].tolist())
    lost = rows.known & ~np.isin(rows.y, list(seen))
    fit = np.sort(np.concatenate([split.fit, np.flatnonzero(lost)]))
    return Split(fit, *(part[~lost[part]] for part in (split.choose, split.calibrate)))

"""Fill the calibration from held-out rows: numbers about the rows, never the rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.calibration.conformal import Calibration, MissingnessPatterns
from conjoin.calibration.familiarity import (
    MIN_REFERENCE_ROWS,
    FamiliarityOfBlocks,
    LeastFamiliarPart,
)
from conjoin.core import Encoded, Event, Rows, as_float, stream
from conjoin.core.event import slices
from conjoin.core.shapes import Bool
from conjoin.model.model import CHUNK_ROWS, Model
from conjoin.model.predictive import Predictive, predictive

__all__ = ["calibrate", "predictive_of", "teach"]

PREDICTED_ROWS = 1024  # at once
MAX_KEPT_PATTERNS = 8  # patterns of missing cells that are kept


def calibrate(
    model: Model,
    X: Any,
    y: np.ndarray | None,
    known: np.ndarray | None,
    done: Callable[[int], None] = lambda rows: None,
) -> Calibration:
    """The calibration of ``model`` on rows that it has not seen. ``known`` marks labelled rows;
    ``done`` is told how many rows are. Where nothing has told the model what is typical, as where
    others have trained it, half of the rows do."""
    rows = model.rows(X)
    if model.ranks_blocks and not any(model.state.blocks or ()):
        rows = _without_taught(model, rows)
    encoded = model.encode(rows)
    statistic = _statistic(model, encoded, done)
    missingness = _missingness(model, encoded)
    if model.target is None or y is None or known is None:
        return Calibration(statistic, missingness=missingness)
    label = model.target.encode(y, known)
    if model.has_classes:
        log_proba = model.log_proba(encoded, rows)
        confidence, guess = log_proba.exp().max(1)
        codes = torch.where(label.mask, label.value, -1.0).long()
        return Calibration(
            statistic,
            guess.numpy(),
            codes.numpy(),
            confidence.numpy(),
            log_proba.numpy(),
            missingness,
        )
    level = predictive_of(model, encoded).level(label.value)
    marks = torch.where(label.mask, 0, -1)
    return Calibration(
        statistic,
        np.zeros(len(statistic), dtype=np.int64),
        marks.numpy(),
        (level - 0.5).abs().numpy(),
        missingness=missingness,
    )


def teach(model: Model, rows: Rows) -> None:
    """Let rows say what is typical, of a model that has not learned it from a fit; ValueError where
    they are too few to rank blocks by."""
    if model.ranks_blocks and len(rows) < MIN_REFERENCE_ROWS:
        raise ValueError(
            f"{2 * MIN_REFERENCE_ROWS} rows are needed, half of which say what is typical; these "
            f"are {len(rows)} for that half."
        )
    encoded = model.encode(rows)
    model.fit_typicality(encoded.event)
    if model.ranks_blocks:
        model.rank_blocks(encoded)


def _without_taught(model: Model, rows: Rows) -> Rows:
    """Half of the rows, after the other half has said what is typical."""
    order = torch.randperm(len(rows), generator=stream(model.state.seed, "typical")).numpy()
    teach(model, rows.take(np.sort(order[: len(rows) // 2])))
    return rows.take(np.sort(order[len(rows) // 2 :]))


def _statistic(model: Model, encoded: Encoded, done: Callable[[int], None]) -> np.ndarray:
    """(B,) of familiarity, some rows at a time."""
    parts = []
    for part in slices(encoded.event.rows, CHUNK_ROWS):
        parts.append(model.statistic(encoded.take(part)))
        done(min(part.stop, encoded.event.rows))
    return np.concatenate(parts)


def _missingness(model: Model, encoded: Encoded) -> MissingnessPatterns | None:
    """The usual patterns of missing cells: those of the rows, most frequent first, and where there
    are several blocks each of the later ones alone and left out. None where there is but one
    pattern. What rows would be with less known is worked out where that is exact and takes one
    look; not where columns of their own say that cells are missing."""
    filled = encoded.filled
    found, counts = torch.unique(filled, dim=0, return_counts=True)
    patterns = found[counts.argsort(descending=True, stable=True)[:MAX_KEPT_PATTERNS]]
    blocks = [_cells_in(part, filled.shape[1]) for part in model.codec.parts[1:]]
    usual = [pattern for block in blocks for pattern in (block, ~block)]
    if usual:
        others = [each for each in patterns if not any(each.equal(one) for one in usual)]
        patterns = torch.stack([*usual, *others])
    if len(patterns) < 2:
        return None
    hidden = np.full((len(filled), len(patterns)), np.nan)
    exact = model.density_of_x.capabilities.missing == "exact" and not model.codec.flagged
    if exact or isinstance(model.familiarity, LeastFamiliarPart | FamiliarityOfBlocks):
        for code, pattern in enumerate(patterns):
            hidden[:, code] = _with_no_more(model, encoded, pattern)
    missingness = MissingnessPatterns(patterns.numpy(), np.empty(0), hidden)
    return replace(missingness, own=missingness.of(filled.numpy()))


def _cells_in(part: slice, width: int) -> Bool[Tensor, " D"]:
    cells = torch.zeros(width, dtype=torch.bool)
    cells[part] = True
    return cells


def _with_no_more(model: Model, encoded: Encoded, pattern: Bool[Tensor, " D"]) -> np.ndarray:
    """(N,) the statistic of rows with only these cells known; NaN of those that lack more, or of
    which a value that is hidden now was never seen: the statistic counts it."""
    known = encoded.event.mask | encoded.unseen
    rows = (known | ~pattern).all(1) & ~(encoded.unseen & ~pattern).any(1)
    out = np.full(len(rows), np.nan)
    some = encoded.take(rows)
    less = Event(some.event.value, some.event.mask & pattern)
    statistic = model.statistic(some._replace(event=less, sums=()))
    out[rows.numpy()] = np.where(np.isnan(statistic), -np.inf, statistic)
    return out


def predictive_of(model: Model, encoded: Encoded) -> Predictive:
    """p(y | x) of a regressor, on the grid that was kept at fit."""
    assert model.has_number and model.state.grid is not None
    grid = torch.tensor(model.state.grid, dtype=torch.float64)

    def cdf(x: Event) -> Tensor:
        with torch.no_grad():
            parts = [as_float(x.take(part)) for part in slices(x.rows, PREDICTED_ROWS)]
            found = (predictive(model.pair, part, grid, model.state.direct) for part in parts)
            return torch.cat([each.cdf for each in found])

    return Predictive(grid, model.by_sums(encoded, cdf(encoded.event), cdf))

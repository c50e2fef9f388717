"""Fill the calibration from held-out rows: numbers about the rows, never the rows."""

from typing import Any

import numpy as np
import torch

from conjoin.calibration import ENOUGH, Beside, Calibration, Gaps
from conjoin.core import Encoded, Event
from conjoin.model import Model
from conjoin.predictive import Predictive, predictive
from conjoin.targets import Classes, Number

__all__ = ["calibrate", "predictive_of"]

PATTERNS = 8  # of missing cells that are kept, the most frequent ones


def calibrate(model: Model, frame: Any, y: np.ndarray | None, known: np.ndarray | None) -> Calibration:
    """The calibration of ``model`` on rows that it has not seen. ``known`` marks labelled rows."""
    encoded = model.encode(frame)
    statistic = model.statistic(encoded)
    gaps = _gaps(model, encoded)
    if model.target is None or y is None or known is None:
        return Calibration(statistic, gaps=gaps)
    label = model.target.encode(y, known)
    if isinstance(model.target, Classes):
        log_proba = model.log_proba(encoded, frame)
        confidence, guess = log_proba.exp().max(1)
        codes = torch.where(label.mask, label.value, -1.0).long()
        return Calibration(statistic, guess.numpy(), codes.numpy(), confidence.numpy(), log_proba.numpy(), gaps)
    level = predictive_of(model, encoded.event).level(label.value)
    marks = torch.where(label.mask, 0, -1)
    return Calibration(statistic, np.zeros(len(statistic), dtype=np.int64), marks.numpy(), (level - 0.5).abs().numpy(), gaps=gaps)


def _gaps(model: Model, encoded: Encoded) -> Gaps | None:
    """The usual patterns of missing cells: those of the rows, most frequent first, and of a table with pictures either without the other.
    None where there is but one."""
    mask, space = encoded.event.mask, model.codec.space
    found, counts = torch.unique(mask, dim=0, return_counts=True)
    patterns = found[counts.argsort(descending=True, stable=True)[:PATTERNS]]
    if 0 < space.pixels < len(space.variables):
        picture = torch.arange(mask.shape[1]) >= mask.shape[1] - space.pixels
        patterns = torch.stack([picture, ~picture, *(each for each in patterns if not (each.equal(picture) or each.equal(~picture)))])
    if len(patterns) < 2:
        return None
    gaps = Gaps(patterns.numpy(), np.empty(0), np.full((len(mask), len(patterns)), np.nan))
    gaps.own = gaps.of(mask.numpy())
    cheap = model.joint.capabilities.missing == "exact" or isinstance(model.familiarity, Beside)
    for code, pattern in enumerate(patterns):
        if cheap and (gaps.own == code).sum() < ENOUGH:
            rows = (mask | ~pattern).all(1) & ~(encoded.unseen & ~pattern).any(1)
            less = Event(encoded.event.value[rows], pattern.expand(int(rows.sum()), -1))
            statistic = model.statistic(Encoded(less, encoded.unseen[rows], encoded.log_unseen[rows], encoded.log_volume[rows]))
            gaps.hidden[rows.numpy(), code] = np.nan_to_num(statistic, nan=-np.inf, neginf=-np.inf, posinf=np.inf)
    return gaps


def predictive_of(model: Model, x: Event) -> Predictive:
    """p(y | x) of a regressor, on the grid that was kept at fit."""
    assert isinstance(model.target, Number)
    grid = torch.tensor(model.facts["grid"], dtype=torch.float64)
    parts = [slice(start, start + 1024) for start in range(0, max(x.rows, 1), 1024)]
    with torch.no_grad():
        every = [predictive(model.pair, x.take(part), grid) for part in parts]
    return Predictive(grid, torch.cat([each.cdf for each in every]))

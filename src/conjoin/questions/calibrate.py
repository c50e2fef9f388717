"""Fill the calibration from held-out rows: numbers about the rows, never the rows."""

from typing import Any

import numpy as np
import torch

from conjoin.calibration import Calibration
from conjoin.core import Event
from conjoin.model import Model
from conjoin.predictive import Predictive, predictive
from conjoin.targets import Classes, Number

__all__ = ["calibrate", "predictive_of"]


def calibrate(model: Model, frame: Any, y: np.ndarray | None, known: np.ndarray | None) -> Calibration:
    """The calibration of ``model`` on rows that it has not seen. ``known`` marks labelled rows."""
    encoded = model.encode(frame)
    statistic = model.statistic(encoded)
    if model.target is None or y is None or known is None:
        return Calibration(statistic)
    label = model.target.encode(y, known)
    if isinstance(model.target, Classes):
        log_proba = model.log_proba(encoded, frame)
        confidence, guess = log_proba.exp().max(1)
        codes = torch.where(label.mask, label.value, -1.0).long()
        return Calibration(statistic, guess.numpy(), codes.numpy(), confidence.numpy(), log_proba.numpy())
    level = predictive_of(model, encoded.event).level(label.value)
    marks = torch.where(label.mask, 0, -1)
    return Calibration(statistic, np.zeros(len(statistic), dtype=np.int64), marks.numpy(), (level - 0.5).abs().numpy())


def predictive_of(model: Model, x: Event) -> Predictive:
    """p(y | x) of a regressor, on the grid that was kept at fit."""
    assert isinstance(model.target, Number)
    grid = torch.tensor(model.facts["grid"], dtype=torch.float64)
    parts = [slice(start, start + 1024) for start in range(0, max(x.rows, 1), 1024)]
    with torch.no_grad():
        every = [predictive(model.pair, x.take(part), grid) for part in parts]
    return Predictive(grid, torch.cat([each.cdf for each in every]))

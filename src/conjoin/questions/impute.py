"""impute: fill missing cells with their most probable values, or with draws from p(missing | observed)."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.core import Event, Pair, stream
from conjoin.model import Model

__all__ = ["impute"]


def impute(model: Model, X: Any, n_draws: int | None = None, seed: int = 0) -> pd.DataFrame | list[pd.DataFrame]:
    """The frame with its missing cells filled; with ``n_draws``, a list of so many completed frames.

    Only missing cells of modelled columns change. Draws come from the exact conditional where the model has it.
    """
    if n_draws is not None and n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, got {n_draws}.")
    frame = model.frame(X)
    event = model.encode(frame).event
    if n_draws is None:
        return _filled(model, frame, event, _mode(model, event))
    generator = stream(seed, "impute")
    return [_filled(model, frame, event, _draw(model, event, generator)) for _ in range(n_draws)]


def _mode(model: Model, x: Event) -> Event:
    if model.target is None:
        return model.joint.mode(x)  # type: ignore[no-any-return]
    return model.pair.mode(Pair(model.pair.unknown(x.rows), x)).x  # type: ignore[no-any-return]


def _draw(model: Model, x: Event, generator: torch.Generator) -> Event:
    if model.target is None:
        return model.joint.sample_conditional(x, generator=generator)  # type: ignore[no-any-return]
    return model.pair.sample_conditional(Pair(model.pair.unknown(x.rows), x), generator=generator).x  # type: ignore[no-any-return]


def _filled(model: Model, frame: pd.DataFrame, x: Event, full: Event) -> pd.DataFrame:
    decoded = model.codec.decode(full.value)
    out = frame.copy()
    for place, name in enumerate(model.codec.columns):
        gap = ~x.mask[:, place].numpy() & (frame[name].isna().to_numpy() if name in frame else True)
        if gap.any():
            out[name] = _patch(frame.get(name), decoded[name], gap, frame.index)
    return out


def _patch(old: pd.Series | None, new: pd.Series, gap: np.ndarray, index: pd.Index) -> pd.Series:
    """The old column with the cells of ``gap`` from the new one; in the new one's dtype once nothing is missing."""
    fresh = new.set_axis(index)
    if old is None or gap.all():
        return fresh
    mixed = old.astype(object).where(~gap, fresh.astype(object))
    try:
        return mixed.astype(fresh.dtype)
    except (TypeError, ValueError):
        return mixed.infer_objects()

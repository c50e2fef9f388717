"""impute: fill missing cells with their most probable values, or with draws from p(missing |
observed), given y or not.

``completions`` puts several draws of each row in the order of their likelihood: what is known of a
row is the same in all of them, so log p(x) ranks them as log p(missing | observed) does.
"""

import numbers
from typing import Any

import numpy as np
import torch

from conjoin.core import CapabilityError, Event, Pair, Rows, stream
from conjoin.model.model import Model
from conjoin.model.targets import Classes
from conjoin.questions.ranges import draw_in_range, lifted, settled

__all__ = ["completions", "impute"]


def impute(
    model: Model,
    X: Any,
    n_draws: int | None = None,
    seed: int = 0,
    y: Any = None,
    tails: bool = False,
) -> Any:
    """X with its missing cells filled; with ``n_draws``, a list of so many completions.

    Only missing cells of modelled columns change. They get values between the least and the
    greatest of the fit, unless ``tails``. Draws come from the exact conditional where the
    model has it. ``y``: the class, or the number, that every row is taken to have."""
    _check_draws(n_draws)
    rows = model.rows(X)
    filled = _filled(model, rows, n_draws, seed, y, tails)
    raw = [model.codec.raw(each) for each in filled]
    return raw[0] if n_draws is None else raw


def _filled(
    model: Model, rows: Rows, n_draws: int | None, seed: int, y: Any, tails: bool = False
) -> list[Rows]:
    """The most probable completion, or so many drawn ones. Rare values that share a level are drawn
    by their frequency in either."""
    event = model.encode(rows).event
    known = (
        event if model.target is None and y is None else Pair(_given(model, y, event.rows), event)
    )
    open_places = lifted(model.codec, (), tails)
    generator = stream(seed, "impute")
    if n_draws is None:
        full = [settled(model.codec, _x(model.joint.mode(known)), event, open_places)]
    else:

        def draw(index: torch.Tensor) -> Any:
            return model.joint.sample_conditional(_some(known, index), generator=generator)

        full = [_x(draw_in_range(model.codec, draw, event, open_places)) for _ in range(n_draws)]
    drawn = model.codec.drawn
    return [model.codec.fill(rows, event.mask, drawn(each, generator)) for each in full]


def _some(known: Any, index: torch.Tensor) -> Any:
    """The rows at ``index``."""
    if isinstance(known, Pair):
        return Pair(known.y.take(index), known.x.take(index))
    return known.take(index)


def completions(
    model: Model, X: Any, n_draws: int | None = 8, seed: int = 0, y: Any = None
) -> tuple[list[Any], np.ndarray]:
    """So many completions of X (None: the most probable one), each row's best first, and (n_draws,
    B) log p of every completed row, nats in the raw data's units: log p(x), or log p(x, y) where
    ``y`` is given."""
    given = model.rows(X)
    _check_draws(n_draws)
    rows = len(given)
    many = n_draws or 1
    every = given.take(np.tile(np.arange(rows), many))
    full = _filled(model, every, None if n_draws is None else 1, seed, y)[0]
    log_prob = _log_prob(model, full, y).reshape(many, rows)
    order = (-log_prob).argsort(0, kind="stable")
    ranked = [model.codec.raw(full.take(rank * rows + np.arange(rows))) for rank in order]
    return ranked, np.take_along_axis(log_prob, order, 0)


def _check_draws(n_draws: int | None) -> None:
    if n_draws is not None and n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, got {n_draws}.")


def _log_prob(model: Model, full: Rows, y: Any) -> np.ndarray:
    """(B,) of completed rows, and of their y where it is given."""
    encoded = model.encode(full)
    if y is None:
        return model.log_prob_raw(encoded)
    if isinstance(model.target, Classes):
        joint = model.log_joint(encoded, full)[:, model.target.code(y)]
    else:
        with torch.no_grad():
            joint = (
                model.pair.log_joint(encoded.event, _given(model, y, 1).value)[:, 0]
                + model.number.log_volume
            )
    return (joint + encoded.log_unseen + encoded.log_volume).numpy()


def _given(model: Model, y: Any, rows: int) -> Event:
    """``y`` as that of every row; not known where it is None."""
    if y is None:
        return model.pair.unknown(rows)
    if model.target is None:
        raise CapabilityError(
            "JointDensity",
            "completions given y",
            "no target",
            "Use JointClassifier or JointRegressor.",
        )
    if isinstance(model.target, Classes):
        return Event(torch.full((rows,), float(model.target.code(y)), dtype=torch.float64))
    if not isinstance(y, numbers.Real) or not np.isfinite(float(y)):
        raise ValueError(
            f"y must be one number, the {model.target.name!r} that every row is taken to have, "
            f"got {y!r}."
        )
    return model.target.encode(np.full(rows, float(y)), np.ones(rows, dtype=bool))


def _x(full: Any) -> Event:
    event: Event = full.x if isinstance(full, Pair) else full
    return event

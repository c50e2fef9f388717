"""A student that draws in few calls of a network what the model draws in many."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from conjoin.core import Event, Pair, categorical, stream
from conjoin.joints.shared_backbone import LabelConditioned
from conjoin.model.model import Model
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

__all__ = ["distil"]

DRAWN_ROWS = 2048  # rows that the model draws to teach from, where none are given
MAX_ROWS = 8192  # rows that are learned from
# rows by which the best weights are known; rows without which nothing is learned
HELD_OUT_ROWS = 256
MIN_ROWS = 16
# of the gradient, for a student of one call; one of several takes fewer steps
STEPS = 200
BATCH_ROWS = 128
LEARNING_RATE = 5e-4
MAX_CALLS = 64  # calls of a draw, at most


def distil(
    model: Model,
    calls: int,
    X: Any = None,
    *,
    max_time: float | None = None,
    seed: int = 0,
    verbose: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Model:
    """A model that draws in ``calls`` calls of its network what ``model`` draws in many.

    Parameters
    ----------
    calls
        From 1 to 64.
    X
        Rows to learn from; None: draws of the model.
    max_time
        Seconds of training; None for no limit.
    seed, verbose, checkpoint, resume
        As of a fit.

    Raises
    ------
    ValueError
        For a number of calls out of range, or fewer than 16 whole rows.
    CapabilityError
        For a family whose draws can't be distilled.
    """
    if not isinstance(calls, int) or isinstance(calls, bool) or not 1 <= calls <= MAX_CALLS:
        raise ValueError(f"steps must be a whole number from 1 to {MAX_CALLS}, got {calls!r}.")
    plan = Plan(
        seed=seed,
        batch=BATCH_ROWS,
        steps=max(1, STEPS // calls),
        rate=LEARNING_RATE,
        max_time=max_time,
        checkpoint=checkpoint,
        resume=resume,
    )
    x = None if X is None else model.encode(X).event
    return _distilled(model, calls, x, plan, Progress(verbose))


def _distilled(model: Model, steps: int, x: Event | None, plan: Plan, progress: Progress) -> Model:
    out = copy.deepcopy(model)
    density = out.density_of_x
    density.distil(steps)
    pair = _taught(model, x, plan.seed)
    some = min(HELD_OUT_ROWS, pair.rows // 4)
    fit = pair.take(slice(some, None))
    held = pair.take(slice(0, some))
    learner: Any
    parts: tuple[Any, Any]
    words = f"distilling into {steps} step{'s' if steps > 1 else ''}"
    if density.context_space is None:
        learner = density
        parts = (fit.x, held.x)
    else:
        learner = LabelConditioned(density, density.context_space)
        parts = (fit, held)
        learner.log_prior.requires_grad_(False)
    trained = train(
        learner, parts[0], torch.ones(fit.rows).double(), parts[1], plan, progress, words
    )
    density.requires_grad_(True)
    told = {
        key: value
        for key, value in asdict(trained).items()
        if key in ("steps", "seconds", "stopped")
    }
    out.card["distilled"] = {"calls": steps, "rows": pair.rows, "drawn": x is None} | told
    return out


@torch.no_grad()
def _taught(model: Model, x: Event | None, seed: int) -> Pair:
    """Rows to learn from, and the classes that the model takes them to be of."""
    if x is None:
        drawn = model.unweighted.sample(DRAWN_ROWS, generator=stream(seed, "distil"))
        return (
            drawn
            if isinstance(drawn, Pair)
            else Pair(Event(torch.zeros(DRAWN_ROWS).double()), drawn)
        )
    x = x.take(x.mask.all(1))
    if x.rows < MIN_ROWS:
        raise ValueError(
            f"distil learns from at least {MIN_ROWS} whole rows, got {x.rows}: give more, or none, "
            "and it draws its own."
        )
    x = x.take(torch.randperm(x.rows, generator=stream(seed, "rows"))[:MAX_ROWS])
    if model.target is None:
        return Pair(Event(torch.zeros(x.rows).double()), x)
    return Pair(
        Event(categorical(model.pair.log_posterior(x), stream(seed, "classes")).double()), x
    )

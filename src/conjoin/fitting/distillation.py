"""distil, as the estimators offer it: a student that draws in few calls of a network what the model
draws in many.
"""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch

from conjoin.core import Event, Pair, categorical, stream
from conjoin.joints.shared_backbone import Told
from conjoin.model.model import Model
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

__all__ = ["Distillable"]

DRAWN_ROWS = 2048  # rows that the model draws to teach from, where none are given
MAX_ROWS = 8192  # rows that are learned from
# rows by which the best weights are known; rows without which nothing is learned
HELD_OUT_ROWS = 256
MIN_ROWS = 16
# of the gradient, for a student of one call; one of several takes fewer steps
STEPS = 200
BATCH = 128
RATE = 5e-4
MAX_CALLS = 64  # calls of a draw, at most


class Distillable:
    """A fitted estimator whose draws can be learned anew, in few calls of a network."""

    model_: Model

    def distil(
        self,
        steps: int = 1,
        X: Any = None,
        *,
        max_time: float | None = None,
        random_state: int = 0,
        verbose: bool = False,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """A new fitted model that draws in so many calls of its network, ``steps``, by a student
        which learns that from this one, on the rows ``X``, or else on draws of this model. All
        other answers stay what they are. ``max_time`` in seconds; ``checkpoint``: a folder from
        which ``resume=True`` goes on."""
        model: Model = self._model()  # type: ignore[attr-defined]
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_CALLS:
            raise ValueError(f"steps must be a whole number from 1 to {MAX_CALLS}, got {steps!r}.")
        folder = None if checkpoint is None else Path(checkpoint)
        plan = Plan(
            random_state,
            batch=BATCH,
            steps=max(1, STEPS // steps),
            rate=RATE,
            max_time=max_time,
            checkpoint=folder,
            resume=resume,
        )
        out = copy.copy(self)
        out.model_ = _distilled(
            model, steps, None if X is None else model.encode(X).event, plan, Progress(verbose)
        )
        return out


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
        learner = Told(density, density.context_space)
        parts = (fit, held)
        learner.log_prior.requires_grad_(False)
    trained = train(
        learner, parts[0], torch.ones(fit.rows).double(), parts[1], plan, progress, words
    )
    density.requires_grad_(True)
    facts = {
        key: value
        for key, value in asdict(trained).items()
        if key in ("steps", "seconds", "stopped")
    }
    out.facts["distilled"] = {"calls": steps, "rows": pair.rows, "drawn": x is None} | facts
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

"""The one training loop: batches, progress, early stopping on choose-rows, checkpoints, and a way back from bad steps."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conjoin.core import Density, Event, Pair, stream
from conjoin.training.learners import Batch, Learner, learner_for
from conjoin.training.progress import Progress

__all__ = ["Plan", "Trained", "train"]


@dataclass(frozen=True)
class Plan:
    """When to stop and what to write. Times are seconds, sizes rows."""

    seed: int = 0
    epochs: int = 60
    batch: int = 1024
    patience: int = 6
    tolerance: float = 1e-3  # nats per row that count as better
    max_time: float | None = None
    checkpoint: Path | None = None
    resume: bool = False
    every: int = 200  # steps between checkpoints


@dataclass
class Trained:
    """What the loop did: kept in the model's config, shown in the report."""

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    best: float = math.inf  # nats per row on choose-rows (fit-rows where there are none)
    best_epoch: int = 0
    stopped: str = ""
    history: list[tuple[int, float, float]] = field(default_factory=list)  # epoch, fit, choose


def train(
    density: Density,
    fit: Event | Pair,
    weight: Tensor,
    choose: Event | Pair | None,
    plan: Plan,
    progress: Progress,
    label: str = "fit",
) -> Trained:
    """Train in place and leave the best weights in the density.

    Ctrl-C stops and keeps the best so far. A loss that is not finite stops the fit at the last good weights.
    """
    run = _Run(density, fit, weight, choose, plan)
    if plan.resume:
        run.load()
    with progress.phase(label, plan.epochs, run.trained.epochs) as bar:
        try:
            for epoch in range(run.trained.epochs, plan.epochs):
                bar.update(epoch + 1, f"{-run.trained.best:.3f} nats" if math.isfinite(run.trained.best) else "")
                if run.stopped(epoch):
                    break
            else:
                run.trained.stopped = run.trained.stopped or "all epochs done"
        except KeyboardInterrupt:
            run.trained.stopped = "interrupted: the best weights so far are kept"
    run.keep_best()
    return run.trained


class _Run:
    """The state of one fit."""

    def __init__(self, density: Density, fit: Event | Pair, weight: Tensor, choose: Event | Pair | None, plan: Plan) -> None:
        self.density, self.fit, self.weight, self.choose, self.plan = density, fit, weight, choose, plan
        self.learner: Learner = learner_for(density)
        self.trained = Trained()
        self.best = _copy(density)
        self.saved = 0  # the step of the last checkpoint
        self.started = time.monotonic()

    def stopped(self, epoch: int) -> bool:
        """Run one epoch; whether the fit is over."""
        objective = self._epoch(epoch)
        if not math.isfinite(objective):
            self.trained.stopped = "the loss was not finite: the last good weights are kept"
            return True
        held = self._held_out()
        self.trained.epochs = epoch + 1
        self.trained.history.append((epoch + 1, objective, objective if held is None else held))
        self._remember(epoch + 1, objective if held is None else held)
        if self.plan.checkpoint is not None and (self.trained.steps - self.saved >= self.plan.every or epoch % 5 == 4):
            self.save()
        if self._out_of_time():
            self.trained.stopped = f"max_time of {self.plan.max_time:g} s reached"
        elif epoch + 1 - self.trained.best_epoch >= self.plan.patience:
            self.trained.stopped = "no better for a while"
        return bool(self.trained.stopped)

    def _epoch(self, epoch: int) -> float:
        total, mass = 0.0, 0.0
        for batch in self._batches(epoch):
            generator = stream(self.plan.seed, "step", self.trained.steps)
            objective = self.learner.step(batch, generator)
            if not math.isfinite(objective):
                return objective
            total, mass = total + objective * float(batch.weight.sum()), mass + float(batch.weight.sum())
            self.trained.steps += 1
            if self._out_of_time():
                break
        return total / mass

    def _batches(self, epoch: int) -> Iterator[Batch]:
        rows, total = self.fit.rows, float(self.weight.sum())
        if rows <= self.plan.batch:
            yield Batch(self.fit, self.weight, total)
            return
        order = torch.randperm(rows, generator=stream(self.plan.seed, "epoch", epoch))
        for index in order.split(math.ceil(rows / round(rows / self.plan.batch))):
            yield Batch(self.fit.take(index), self.weight[index], total)

    def _held_out(self) -> float | None:
        if self.choose is None or not self.choose.rows:
            return None
        with torch.no_grad():
            generator = stream(self.plan.seed, "choose")
            return float(self.density.loss(self.choose, generator=generator))

    def _remember(self, epoch: int, held: float) -> None:
        """A little better keeps the weights; only clearly better resets the patience."""
        if held < self.trained.best:
            self.best = _copy(self.density)
            if held < self.trained.best - self.plan.tolerance:
                self.trained.best_epoch = epoch
            self.trained.best = held

    def _out_of_time(self) -> bool:
        return self.plan.max_time is not None and time.monotonic() - self.started > self.plan.max_time

    def keep_best(self) -> None:
        self.density.load_state_dict(self.best)
        self.trained.seconds = time.monotonic() - self.started

    # ------------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Weights, best weights, learner and counters, under a temporary name first."""
        folder, self.saved = self.plan.checkpoint, self.trained.steps
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"now": _copy(self.density), "best": self.best, "learner": self.learner.state()}
        tensors = {f"{part}/{key}": value.contiguous().clone() for part, named in parts.items() for key, value in named.items()}
        partial = folder / "checkpoint.tmp"
        save_file(tensors, partial, metadata={"trained": json.dumps(asdict(self.trained))})
        partial.replace(folder / "checkpoint.safetensors")

    def load(self) -> None:
        """Go on from the checkpoint, if there is one."""
        file = None if self.plan.checkpoint is None else self.plan.checkpoint / "checkpoint.safetensors"
        if file is None or not file.exists():
            return
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            trained = json.loads(opened.metadata()["trained"])
        history = [(epoch, fit, held) for epoch, fit, held in trained.pop("history")]
        self.trained = Trained(**trained | {"stopped": "", "history": history})
        self.saved = self.trained.steps
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "learner": {}}
        for key, value in load_file(file).items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        self.density.load_state_dict(parts["now"])
        self.best = parts["best"]
        self.learner.restore(parts["learner"])


def _copy(density: Density) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in density.state_dict().items()}

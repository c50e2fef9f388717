"""The one training loop: batches, progress, early stopping on validation rows, checkpoints, and a
way back from bad steps.

A fit is a sequence of steps. The rows of step t, its noise and its learning rate are functions of
(seed, t) alone, so a fit that was killed and resumed ends with the same bits as one that was not.
Steps are gathered into rounds: an epoch where the density learns by expectation-maximisation or by
sweeps, a fortieth of the planned steps where it follows a gradient. After each round the averaged
weights are judged on validation rows. With ``max_time`` the learning rate follows the clock as
well, and no two fits need be alike.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Pair, Recipe, Record, stream
from conjoin.training import ranks
from conjoin.training.checkpoint import Stop, Trained, read_checkpoint, write_checkpoint
from conjoin.training.feed import Feed, Held, in_parts
from conjoin.training.learners import FALLING_SHARE, Learner, Pass, Piece, learner_for
from conjoin.training.progress import Bar, Progress, time_words
from conjoin.util.budget import MEASURE_TIME_SHARE, seconds_per_row, tell_cut
from conjoin.util.energy import Meter
from conjoin.util.memory import peak_memory

__all__ = ["Diverged", "Plan", "Trained", "train", "train_from"]

INTERRUPTION = "Finishing with what was learned. Ctrl-C again stops at once."
ROUNDS_PER_FIT = 40  # of a fit by the gradient
# passes over the rows; with mini-batches fewer than the maximum, but at least so many steps
MAX_EPOCHS = 60
MIN_EPOCHS = 4
MIN_STEPS = 130
MIN_FAST_STEPS = 65  # of a fit that is to be fast
MIN_BEGUN_EPOCHS = 30  # where a density begins with statistics of all rows, which it leaves slowly
MAX_SETBACKS = 3  # times that a fit may go back to its last good weights
# steps, and seconds, of a fit after which it says how long all of its steps take
MIN_TIMED_STEPS = 5
MIN_TIMED_SECONDS = 2.0
GIBIBYTE = 1 << 30
MIN_TOLD_SECONDS = 30.0  # of a whole fit, from which on this is said
# of max_time, that one step and one look at the validation rows may take; the least rows of each
STEP_TIME_SHARE = 0.1
LOOK_TIME_SHARE = 0.1
MIN_ROWS_IN_TIME = 64
# of the rows of a round by the gradient, as many validation rows judge it: more choose no better
LOOK_ROWS_SHARE = 0.1
MIN_LOOK_ROWS = 2_000
MIN_STEP_ROWS = 512  # of a step of expectation-maximisation that is cut for want of time
MAX_LOSS_RATIO = 1e3  # times the best objective so far: a loss beyond that is no longer learning


class Diverged(ValueError):
    """The loss was not finite, or exploded, again and again."""


@dataclass(frozen=True)
class Plan:
    """When to stop and what to write. Times are seconds, sizes rows. ``epochs``: rounds at most.
    ``batch``, ``steps`` (of the gradient) and ``rate`` stand in for the density's own recipe.
    ``limit``: what the user asked for, of which ``max_time`` is the training's part. ``fast``:
    expectation-maximisation by mini-batches takes half of its steps."""

    seed: int = 0
    epochs: int | None = None
    batch: int | None = None
    steps: int | None = None
    rate: float | None = None
    patience: int = 6
    tolerance: float = 1e-3  # nats per row that count as better
    max_time: float | None = None
    limit: float | None = None
    max_kwh: float | None = None
    checkpoint: Path | None = None
    resume: bool = False
    every: float = 20.0  # seconds between checkpoints
    subject: str = ""  # what the rows are, in words
    fast: bool = False


def train(
    density: Density,
    fit: Event | Pair | Record,
    weight: Tensor,
    choose: Event | Pair | Record | None,
    plan: Plan,
    progress: Progress,
    label: str = "fit",
) -> Trained:
    """Train in place and leave the best weights in the density. See ``train_from``."""
    return train_from(density, Held(fit, weight, plan.seed), choose, plan, progress, label)


def train_from(
    density: Density,
    feed: Feed,
    choose: Event | Pair | Record | None,
    plan: Plan,
    progress: Progress,
    label: str = "fit",
) -> Trained:
    """Train in place on the rows that ``feed`` gives and leave the best weights in the density.

    Ctrl-C stops and keeps the best so far. A loss that is not finite, or explodes, sends the fit
    back to its last good weights with a smaller step, three times at most; then Diverged says so,
    and the density holds the last good weights. Where a density has members, these are trained one
    after the other. A density that follows the gradient, and none of whose parameters may move,
    stays as it is."""
    if density._members():
        return _train_members(density, feed, choose, plan, progress, label)
    if _is_ready(density):
        return Trained(best=_judged(density, choose, plan), stopped=Stop.READY)
    if ranks.sharding() and plan.checkpoint is not None:
        progress.say("Layers are shared out over processes: such a fit writes no checkpoints.")
        plan = dataclasses.replace(plan, checkpoint=None, resume=False)
    with ranks.sharded(density) as model:
        return _trained(model, feed, choose, plan, progress, label)


def _trained(
    density: Density,
    feed: Feed,
    choose: Event | Pair | Record | None,
    plan: Plan,
    progress: Progress,
    label: str,
) -> Trained:
    """All steps of one density, in place."""
    run = _Run(density, feed, choose, plan)
    if plan.resume:
        run.load()
    if not run.resumed:
        run.learner.begin()
    with progress.phase(label, run.rounds, run.trained.epochs) as bar:
        try:
            while not run.trained.stopped:
                run.step(bar)
        except KeyboardInterrupt:
            progress.say(INTERRUPTION)
            run.interrupt()
        finally:
            run.finish()
    return run.trained


def _train_members(
    density: Density,
    feed: Feed,
    choose: Event | Pair | Record | None,
    plan: Plan,
    progress: Progress,
    label: str,
) -> Trained:
    """Each member by itself, with an equal share of the time that is left; then what each counts.
    Once a fit was broken off, the members that follow stay as they were built."""
    out = Trained()
    members = density._members()
    seconds = []
    for place, (name, member) in enumerate(members.items()):
        rest = len(members) - place
        left = None if plan.max_time is None else max(0.0, plan.max_time - out.seconds) / rest
        folder = None if plan.checkpoint is None else plan.checkpoint / name.replace(" ", "-")
        own = dataclasses.replace(plan, max_time=left, checkpoint=folder)
        done = train_from(member, feed, choose, own, progress, f"{label}: {name}")
        seconds.append(done.seconds)
        out.epochs += done.epochs
        out.steps += done.steps
        out.seconds += done.seconds
        out.setbacks += done.setbacks
        out.notes += done.notes
        out.stopped = done.stopped
        if done.interrupted:
            break
    with torch.no_grad():
        out.members = density._weigh_members(choose)
        held = None if choose is None or not choose.rows else density.loss(choose)
    for each, took in zip(out.members, seconds, strict=False):
        each["seconds"] += took
    out.best = math.inf if held is None else float(held)
    return out


def _is_ready(density: Density) -> bool:
    """Whether there is nothing to be learned."""
    able = density.capabilities
    parameters = list(density.parameters())
    fixed = bool(parameters) and not any(each.requires_grad for each in parameters)
    return fixed and not able.statistics and not able.sweeps


@torch.no_grad()
def _judged(density: Density, choose: Event | Pair | Record | None, plan: Plan) -> float:
    """The mean loss of validation rows, nats; 0 where there are none."""
    if choose is None or not choose.rows:
        return 0.0
    noise = stream(plan.seed, "choose")
    losses = [
        float(density.loss(part, generator=noise)) * (part.rows / choose.rows)
        for part in in_parts(choose)
    ]
    return sum(losses)


def _some_of(choose: Any, most: float, seed: int) -> Any:
    """Validation rows for the look at the end of each round."""
    least = max(MIN_LOOK_ROWS, round(most))
    return choose if choose is None or choose.rows <= least else _drawn(choose, least, seed)


def _drawn(choose: Any, count: int, seed: int) -> Any:
    """So many of the validation rows, by chance."""
    noise = stream(seed, "validation rows")
    return choose.take(torch.randperm(choose.rows, generator=noise)[:count])


class _Run:
    """The state of one fit."""

    def __init__(
        self, density: Density, feed: Feed, choose: Event | Pair | Record | None, plan: Plan
    ) -> None:
        self.density = density
        self.feed = feed
        self.choose = choose
        self.plan = plan
        self.saved = self.started = time.monotonic()
        self.before = 0.0  # seconds that were spent before a resumed fit was broken off
        recipe: Recipe = (
            density.config.recipe(feed.rows) if density.config is not None else Recipe()
        )
        able = density.capabilities
        self.by_gradient = not (able.statistics or able.sweeps)
        steps = plan.steps or (recipe.steps if self.by_gradient else None)
        asked = plan.batch or recipe.batch
        # where passes are counted, a step of few rows would forget the others
        batch = asked if recipe.epochs else self._batch_in_time(asked)
        self.parts = 1 if able.sweeps else feed.parts(batch)  # batches of an epoch
        self.planned = steps if steps and self.by_gradient else None
        # steps of a round
        self.length = (
            max(1, math.ceil(self.planned / ROUNDS_PER_FIT)) if self.planned else self.parts
        )
        self.rounds = self._rounds(recipe.epochs)
        if self.planned:
            self.choose = _some_of(choose, LOOK_ROWS_SHARE * self.length * batch, plan.seed)
        # the round from which on the steps of expectation-maximisation by mini-batches get smaller
        self.by_parts = able.statistics and self.parts > 1 and not density.begun
        self.falling = round((1 - FALLING_SHARE) * self.rounds) if self.by_parts else 0
        self.learner: Learner = learner_for(
            density,
            dataclasses.replace(
                recipe, steps=self.planned, batch=batch, rate=plan.rate or recipe.rate, epochs=None
            ),
        )
        self.trained = Trained(planned=self.planned or 0)
        self.begun = {} if plan.checkpoint is None else self._begun(asked)
        self.resumed = False
        self.timed = False  # whether it was said how long the fit takes
        self.stage = 0  # of the learner, as this round began
        # of the objective and the weight, in this round
        self.total = 0.0
        self.mass = 0.0
        self.best = _copy(density)
        # seconds that the last step and the last look at the validation rows took
        self.pace = 0.0
        self.look = self._look_in_time()
        if density.begun and (held := self._held_out()) is not None:
            self.trained.best = held  # a start that is worth keeping
        self.good = (_copy(density), self.learner.state())
        self.at = self._seconds()  # when the step began
        self.meter = Meter().__enter__() if plan.max_kwh is not None else None

    def _begun(self, batch: int) -> dict[str, str]:
        """What the steps are a function of, for the checkpoint: {what: its value}."""
        return {
            "the family": type(self.density).__name__,
            "the settings": repr(self.density.config),
            "the seed": str(self.plan.seed),
            "steps": str(self.planned),
            "batches of": str(batch),
            "the rows": self.feed.fingerprint(),
        }

    def _batch_in_time(self, batch: int) -> int:
        """Rows of a step that adds up statistics: fewer, where it would take much of the time, but
        not so few that the model forgets what it knew of the others."""
        few = self.feed.parts(MIN_STEP_ROWS)
        if self.plan.max_time is None or self.by_gradient or few < 2:
            return batch
        first: Any = self.feed.batch(0, few)
        each = self._measured(
            lambda count: self.density.statistics(
                first.rows.take(slice(0, count)), weight=first.weight[:count]
            ),
            min(first.rows.rows, MIN_ROWS_IN_TIME),
        )
        return min(batch, max(MIN_STEP_ROWS, self._rows_in_time(each, STEP_TIME_SHARE)))

    def _look_in_time(self) -> float:
        """Seconds of one look at the validation rows; where it would take much of the time, only
        some of them are looked at."""
        choose = self.choose
        if self.plan.max_time is None or choose is None or not choose.rows:
            return 0.0
        each = self._measured(
            lambda count: self.density.loss(
                choose.take(slice(0, count)), generator=stream(self.plan.seed, "choose")
            ),
            choose.rows,
        )
        most = self._rows_in_time(each, LOOK_TIME_SHARE)
        if most < choose.rows:
            tell_cut(
                f"For want of time the training was judged by {most:,} of {choose.rows:,} "
                "validation rows."
            )
            self.choose = _drawn(choose, most, self.plan.seed)
        return each * min(most, choose.rows)

    @torch.no_grad()
    def _measured(self, work: Any, rows: int) -> float:
        """Seconds per row."""
        assert self.plan.max_time is not None
        return seconds_per_row(work, rows, MEASURE_TIME_SHARE * self.plan.max_time)

    def _rows_in_time(self, each: float, share: float) -> int:
        """How many rows of ``each`` seconds take this share of the time."""
        assert self.plan.max_time is not None
        found = ranks.first(share * self.plan.max_time / max(each, 1e-9))
        return max(MIN_ROWS_IN_TIME, int(found))

    def _rounds(self, epochs: int | None) -> int:
        """At most; mini-batches of expectation-maximisation need fewer passes than whole ones."""
        if self.planned:
            return math.ceil(self.planned / self.length)
        least = MIN_BEGUN_EPOCHS if self.density.begun else MIN_EPOCHS
        steps = MIN_FAST_STEPS if self.plan.fast else MIN_STEPS
        return (
            self.plan.epochs or epochs or min(MAX_EPOCHS, max(least, math.ceil(steps / self.parts)))
        )

    # ------------------------------------------------------------------ steps

    def step(self, bar: Bar) -> None:
        """Take one step, and do what a full round asks for; ``trained.stopped`` says why it was the
        last one."""
        if self.trained.steps % self.length == 0:
            self.stage = self._stage()
        batch = self.feed.batch(self.trained.steps, self.parts)
        # ranks see other rows, and so need other noise
        own = (ranks.rank(),) if ranks.rank() else ()
        objective = self.learner.step(
            batch, stream(self.plan.seed, "step", self.trained.steps, *own), self._progress()
        )
        if not self._sound(objective):
            self._go_back()
            return
        mass = batch.mass
        self.total = self.total + objective * mass
        self.mass = self.mass + mass
        self.trained.steps += 1
        now = self._seconds()
        self._say_time(bar, now)
        spent = self._spent(now)
        if self.trained.steps % self.length == 0 or self.trained.steps == self.planned or spent:
            self._end_round(bar)
            self.trained.stopped = spent or self._enough()
            self.look = self._seconds() - now
        self.at = now + self.look if self.trained.steps % self.length == 0 else now
        if self.plan.checkpoint is not None and time.monotonic() - self.saved >= self.plan.every:
            self.save()

    def _say_time(self, bar: Bar, seconds: float) -> None:
        """After the first steps: how long all of them take, in how much memory, and how many the
        time allows."""
        steps = self.trained.steps
        early = steps < MIN_TIMED_STEPS or seconds < MIN_TIMED_SECONDS
        if self.timed or self.planned is None or early:
            return
        self.timed = True
        needed = seconds / steps * self.planned
        if needed < MIN_TOLD_SECONDS:
            return
        subject = f"{self.plan.subject}: all" if self.plan.subject else "all"
        text = (
            f"{subject} {self.planned:,} steps take about {time_words(needed)} here, in "
            f"{peak_memory() / GIBIBYTE:.1f} GiB of memory"
        )
        if self.plan.max_time is not None and self.plan.max_time < needed:
            share = self.plan.max_time / needed
            text += f"; max_time of {self._limit:g} s ends it after about {share:.0%} of them"
        bar.say(f"{text[0].upper()}{text[1:]}.")

    def _progress(self) -> float:
        """How much of the planned steps is done; of the time, where that is more."""
        done = self._progress_at(self.trained.steps)
        if self.plan.max_time is None:
            return done
        return max(done, ranks.first(self._seconds()) / max(self.plan.max_time, 1e-9))

    def _stage(self) -> int:
        """Of the learner, now."""
        return self.learner.stage(self._progress()) if self.learner.in_stages else 0

    def _progress_at(self, steps: int) -> float:
        """By steps alone."""
        return steps / (self.planned or self.rounds * self.length)

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def _end_round(self, bar: Bar) -> None:
        objective = self.total / self.mass
        self.total = 0.0
        self.mass = 0.0
        with self.learner.averaged():
            held = self._held_out()
            judged = objective if held is None else held
            self.trained.epochs += 1
            self.trained.history.append((self.trained.epochs, objective, judged))
            kept = math.isfinite(judged) and self._remember(judged)
            if self._stage() != self.stage:
                self._begin_stage()
        # only a gradient's weights differ from their running mean
        now = self.best if kept and not self.by_gradient else _copy(self.density)
        self.good = (now, self.learner.state())
        bar.update(
            self.trained.epochs,
            f"{-self.trained.best:.3f} nats" if math.isfinite(self.trained.best) else "",
        )

    def _begin_stage(self) -> None:
        """Other parts learn from now on: no earlier loss is one of them."""
        self.best = _copy(self.density)
        self.trained.best = math.inf
        self.trained.best_epoch = self.trained.epochs

    def _held_out(self) -> float | None:
        if self.choose is None or not self.choose.rows:
            return None
        return _judged(self.density, self.choose, self.plan)

    def _remember(self, held: float) -> bool:
        """A little better keeps the weights; only clearly better resets the patience. Whether they
        were kept."""
        better = held < self.trained.best
        if better:
            self.best = _copy(self.density)
            if held < self.trained.best - self.plan.tolerance:
                self.trained.best_epoch = self.trained.epochs
            self.trained.best = held
        return better

    # ------------------------------------------------------------------ ends

    @property
    def _limit(self) -> float:
        """Seconds, as the user gave them."""
        return (self.plan.max_time if self.plan.limit is None else self.plan.limit) or 0.0

    def _spent(self, now: float) -> str:
        """Why nothing is left to spend; empty while there is. The time is spent where another step
        and what ends a round would not end in it."""
        self.pace = now - self.at
        ends = now + self.pace + self.look
        if self.plan.max_time is not None and ranks.first(ends) > self.plan.max_time:
            return f"max_time of {self._limit:g} s reached"
        if self.meter is not None and ranks.first(self.meter.energy.kwh) > (
            self.plan.max_kwh or 0.0
        ):
            return f"max_kwh of {self.plan.max_kwh:g} reached"
        return ""

    def _enough(self) -> str:
        """Why more rounds would not help; empty while they may. A fit by the gradient gets better
        to the end of its schedule: there only what has not improved for a third of it is given
        up. Mini-batches of expectation-maximisation gain once more where their steps get smaller:
        what has not improved before counts from there on."""
        if self.trained.epochs >= self.rounds:
            return Stop.EPOCHS
        if self._stage() < self.learner.stage(1.0):
            return ""  # parts are left that have not begun
        patience = max(self.plan.patience, self.rounds // 3) if self.planned else self.plan.patience
        patience = max(patience, 20) if self.density.capabilities.sweeps else patience
        since = max(self.trained.best_epoch, self.falling)
        stale = self.trained.epochs - since >= patience
        return Stop.NO_BETTER if stale else ""

    def _sound(self, objective: float) -> bool:
        best = self.trained.best if math.isfinite(self.trained.best) else objective
        return math.isfinite(objective) and objective < best + MAX_LOSS_RATIO * max(1.0, abs(best))

    def _go_back(self) -> None:
        """To the last good weights, with smaller steps; Diverged once that has not helped often
        enough."""
        weights, state = self.good
        self.density.load_state_dict(weights)
        self.trained.setbacks += 1
        if state:
            self.learner.restore(state)
        if not self.by_gradient:
            self.trained.stopped = Stop.NOT_FINITE
            return
        if self.trained.setbacks > MAX_SETBACKS:
            raise Diverged(
                f"The loss of {type(self.density).__name__} was not finite or exploded "
                f"{self.trained.setbacks} times, last at "
                f"step {self.trained.steps + 1}, with ever smaller steps: lower the rate "
                "(family__rate), or check the columns for "
                "impossible values."
            )
        for _ in range(self.trained.setbacks):
            self.learner.shrink()
        self.trained.steps = self.trained.epochs * self.length
        self.total = 0.0
        self.mass = 0.0

    def interrupt(self) -> None:
        """The step that was broken off may have left anything behind: the state to go on from is
        that of the last full round."""
        weights, state = self.good
        self.density.load_state_dict(weights)
        if state:
            self.learner.restore(state)
        self.trained.steps = self.trained.epochs * self.length
        self.total = 0.0
        self.mass = 0.0
        self.trained.stopped = Stop.INTERRUPTED

    def finish(self) -> None:
        if self.plan.checkpoint is not None and self.trained.epochs:
            self.save()  # so that what comes after the training may be broken off too
        self.learner.end()
        self.density.load_state_dict(self.best)
        if self.by_parts and self.trained.stopped in (Stop.EPOCHS, Stop.NO_BETTER):
            self._step_of_all_rows()
        self.trained.seconds = self._seconds()
        if self.meter is not None:
            self.meter.__exit__(None, None, None)

    def _step_of_all_rows(self) -> None:
        """From the best weights, where the time allows it."""
        most = self.plan.max_time
        if most is not None and most < ranks.first(self._seconds() + self.parts * self.pace):
            return
        before = self.best

        def pieces() -> Iterator[Piece]:
            for part in range(self.parts):
                yield from self.feed.batch(part, self.parts).pieces()

        everything = Pass(pieces, self.feed.batch(0, self.parts).total)
        objective = self.learner.step(everything, stream(self.plan.seed, "all rows"))
        held = self._held_out()
        judged = objective if held is None else held
        if self._sound(judged):
            self.trained.best = judged
        else:
            self.density.load_state_dict(before)

    # ------------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """All that the rest of the fit depends on. A full disk keeps the last checkpoint, and the
        fit goes on."""
        if ranks.rank():
            return
        assert self.plan.checkpoint is not None
        self.trained.seconds = self._seconds()
        parts = {"now": _copy(self.density), "best": self.best, "learner": self.learner.state()}
        parts |= {"good": self.good[0], "good_learner": self.good[1]}
        sums = (self.total, self.mass)
        note = write_checkpoint(self.plan.checkpoint, parts, self.trained, sums, self.begun)
        if note and note not in self.trained.notes:
            self.trained.notes.append(note)
        self.saved = time.monotonic()

    def load(self) -> None:
        """Go on from the checkpoint, if there is one."""
        folder = self.plan.checkpoint
        found = None if folder is None else read_checkpoint(folder, self.begun)
        if found is None:
            return
        parts, self.trained, (self.total, self.mass) = found
        self.trained.planned = self.planned or 0
        self.before = self.trained.seconds
        self.at = self._seconds()
        self.learner.begin()
        try:
            self.density.load_state_dict(parts["now"])
            self.learner.restore(parts["learner"])
        except (LookupError, RuntimeError) as error:
            raise ValueError(
                f"The checkpoint in {folder} belongs to another fit ({str(error)[:200]}): fit "
                "without resuming."
            ) from None
        self.best = parts["best"]
        self.good = (parts["good"], parts["good_learner"])
        self.resumed = True
        begun = self.trained.steps - self.trained.steps % self.length
        if begun < self.trained.steps:
            self.stage = self.learner.stage(self._progress_at(begun))
        # a full round was the last thing: it may have been the last one
        if self.trained.epochs and not self.mass:
            self.trained.stopped = self._enough()


def _copy(density: Density) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in density.state_dict().items()}

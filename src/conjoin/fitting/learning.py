"""From a config and rows to a trained density or joint: which kind of joint, how much weight on p(y
| x), and the fit itself.

With ``emphasis="auto"`` the joint is trained once for each of a few weights, and the one with the
least log-loss on validation rows is kept, among those whose log p(x, y) there is within a standard
error of the best.

Where the rows are a sample of a table that is read in chunks, a density with sufficient statistics
is trained on the sample first, then by passes over the whole table; one that follows a gradient
takes its mini-batches from the whole table at once.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Pair, Space, as_float, stream
from conjoin.core.device import choose_device
from conjoin.families import name_of
from conjoin.fitting.foresight import Later
from conjoin.fitting.options import FitOptions
from conjoin.joints.base import Joint, flat_row
from conjoin.joints.build import build_joint
from conjoin.joints.hybrid import Hybrid
from conjoin.joints.independent import Independent
from conjoin.joints.shared_backbone import LabelConditioned, SharedBackbone
from conjoin.model.targets import Target
from conjoin.predictors import method as method_of
from conjoin.predictors.classifier import Classifier
from conjoin.predictors.features import Features
from conjoin.training.feed import Passes, Read, Shuffled
from conjoin.training.loop import Plan, Trained, train, train_from
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget
from conjoin.util.energy import Meter

__all__ = ["EMPHASES", "Learning", "shares_backbone"]

EMPHASES = (0.0, 0.3, 1.0, 3.0)  # that "auto" tries
# at most, for a part of the density that is fitted before the rest
FIRST_STAGE_TIME_SHARE = 0.25
START_TIME_SHARE = 0.2  # of all time, for the start of a density from the rows


@dataclass(frozen=True, kw_only=True)
class Learning:
    """All that one fit needs. ``event``: distinct rows of (y, x) and their ``weight``; ``options``:
    see FitOptions; ``budget``: the time that there is, some of it put aside for what comes
    ``later``."""

    config: Any
    options: FitOptions
    target: Target | None
    space: Space
    event: Pair
    weight: Tensor
    choose: Pair
    budget: Budget = field(default_factory=Budget)
    later: Later | None = None
    read: Read | None = None  # all rows of the table that the event is a sample of
    subject: str = ""  # what the rows are, in words

    def joint(self, progress: Progress) -> tuple[Density, Trained, dict[str, Any]]:
        """The trained density or joint, how the fit went, and facts for the model card."""
        emphasis = self.options.emphasis
        if emphasis != "auto":
            return (
                *self._fitted(self._checked(emphasis), progress),
                {"emphasis": {"chosen": emphasis}} if emphasis else {},
            )
        if not self._has_classes or not self.choose.y.mask.any():
            return (*self._fitted(0.0, progress), {})
        tried = {
            each: self._fitted(self._checked(each), progress, len(EMPHASES) - place)
            for place, each in enumerate(EMPHASES)
        }
        return self._best(tried)

    def _checked(self, emphasis: Any) -> float:
        if not isinstance(emphasis, int | float) or emphasis < 0:
            raise ValueError(
                f"emphasis must be 'auto' or a number of at least 0, got {emphasis!r}."
            )
        return float(emphasis)

    def _best(
        self, tried: dict[float, tuple[Density, Trained]]
    ) -> tuple[Density, Trained, dict[str, Any]]:
        known = self.choose.take(self.choose.y.mask)
        with torch.no_grad():
            log_joint = {each: joint.log_prob(known) for each, (joint, _) in tried.items()}
            evidence = {
                each: joint.log_evidence(known.x)  # type: ignore[operator]
                for each, (joint, _) in tried.items()
            }
        top = max(log_joint, key=lambda each: float(log_joint[each].mean()))
        gaps = {each: log_joint[top] - value for each, value in log_joint.items()}
        near = [
            each
            for each, gap in gaps.items()
            if float(gap.mean()) <= float(gap.std()) / len(gap) ** 0.5 + 1e-12
        ]
        losses = {each: float((evidence[each] - log_joint[each]).mean()) for each in tried}
        chosen = min(near, key=lambda each: losses[each])
        table = {
            str(each): {"log_prob": float(evidence[each].mean()), "log_loss": losses[each]}
            for each in tried
        }
        return (*tried[chosen], {"emphasis": {"chosen": chosen, "tried": table}})

    def _fitted(
        self, emphasis: float, progress: Progress, fits: int = 1
    ) -> tuple[Density, Trained]:
        """``fits``: among how many, this one included, the time that is left is shared."""
        options = self.options
        budget = self.budget
        name = name_of(self.config)
        most = min(budget.share(START_TIME_SHARE), budget.free) / fits
        with progress.phase(f"starting {name}", 1) as bar, budget.phase("start"):
            with budget.within(most):
                joint, parts = self._built()
            bar.update(1)
        joint.to(choose_device(options.device))
        with budget.phase("measuring"):
            if self.later is not None:
                self.later.put_aside(joint)
        able = joint.capabilities
        if emphasis and (able.statistics or able.sweeps):
            raise ValueError(
                f"emphasis={emphasis:g} is for families that learn by the gradient; "
                f"{name} does not: "
                "leave it at 0, or give p(y | x) to a predictor."
            )
        if self.target is not None:
            joint.emphasis = emphasis  # type: ignore[assignment]
        folder = (
            options.checkpoint
            if options.checkpoint is None or options.emphasis != "auto"
            else options.checkpoint / f"{emphasis:g}"
        )
        plan = Plan(
            seed=options.seed,
            max_time=budget.free / fits if budget.bounded else None,
            limit=budget.seconds,
            max_kwh=options.max_kwh,
            checkpoint=folder,
            resume=options.resume,
            subject=self.subject,
            fast=options.fast,
        )
        with budget.phase("training"), budget.within(budget.free / fits):
            return joint, self._trained(joint, parts, plan, progress)

    def _trained(
        self, joint: Density, parts: tuple[Any, Any], plan: Plan, progress: Progress
    ) -> Trained:
        (rows, choose) = parts
        label = f"fitting {name_of(self.config)}"
        able = joint.capabilities
        plan, first = self._fit_first_part(joint, parts, plan, progress)
        if first.interrupted:
            return first
        if self.read is not None and not able.statistics and not able.sweeps:
            return train_from(
                joint,
                Shuffled(self.read, self.options.stream.rows, plan.seed),
                choose,
                plan,
                progress,
                label,
            )
        trained = train(joint, rows, self.weight, choose, plan, progress, label)
        if self.read is None or able.sweeps or trained.interrupted:
            return trained
        left = None if plan.max_time is None else max(0.0, plan.max_time - trained.seconds)
        folder = None if plan.checkpoint is None else plan.checkpoint / "passes"
        whole = replace(
            plan, epochs=self.options.stream.passes, patience=1, max_time=left, checkpoint=folder
        )
        return train_from(
            joint,
            Passes(self.read, self.options.stream.rows),
            choose,
            whole,
            progress,
            "passes over all rows",
        )

    def _fit_first_part(
        self, joint: Density, parts: tuple[Any, Any], plan: Plan, progress: Progress
    ) -> tuple[Plan, Trained]:
        """Where a density has a part that is fitted before the rest, fit that; what is left of the
        plan, and how that went."""
        first = joint._first_stage()
        if first is None:
            return plan, Trained()
        width = first.space.shape[0]
        rows, choose = (
            (part if self.target is None else flat_row(part)).cut(width)[0] for part in parts
        )
        share = None if plan.max_time is None else FIRST_STAGE_TIME_SHARE * plan.max_time
        folder = None if plan.checkpoint is None else plan.checkpoint / "first"
        before = replace(plan, max_time=share, checkpoint=folder)
        with Meter() as meter:
            done = train(
                first,
                rows,
                self.weight,
                choose,
                before,
                progress,
                f"fitting {name_of(first.config)} of the columns",
            )
        left = None if plan.max_time is None else max(0.0, plan.max_time - done.seconds)
        kwh = None if plan.max_kwh is None else max(0.0, plan.max_kwh - meter.energy.kwh)
        return replace(plan, max_time=left, max_kwh=kwh), done

    def _built(self) -> tuple[Density, tuple[Any, Any]]:
        rng = stream(self.options.seed, "build")
        start = self.options.start
        build = self.config.density.build if start is None else partial(start.build, self.target)
        packed = start is None and self.config.density.takes_bytes
        x = self.event.x if packed else as_float(self.event.x)
        if self.target is None:
            density: Density = build(self.space, self.config, x, rng, weight=self.weight)
            return density, (self.event.x, self.choose.x)
        joint: Joint
        if shares_backbone(self.config, self.options.predictor, self.target):
            joint = self._with_shared_backbone(rng, build, x)
        else:
            pair = self.event._replace(x=x)
            joint = build_joint(
                self.config, self.target.space, self.space, pair, rng, self.weight, build
            )
        if start is not None:
            start.finish(joint, self.target)
        return joint, (self.event, self.choose)

    @property
    def _has_classes(self) -> bool:
        return self.target is not None and self.target.discrete

    def _with_shared_backbone(self, rng: torch.Generator, build: Any, x: Event) -> Hybrid:
        """p(x) and, on its features, p(y | x): one network learns both."""
        assert self.target is not None
        told = (
            {"context": self.event.y, "context_space": self.target.space}
            if self.config.density.shared_backbone
            else {}
        )
        density: Density = build(self.space, self.config, x, rng, weight=self.weight, **told)
        able = density.capabilities
        labels = self.target.labels
        if not able.features or able.statistics or able.sweeps or labels is None:
            raise ValueError(
                "predictor='trunk' needs classes and a family whose network has features; "
                f"{name_of(self.config)} "
                f"{'predicts a number here' if able.features else 'has none'}: choose "
                "transformer, diffusion or vae."
            )
        some = Event(as_float(x.take(slice(0, 1000))).value)
        with torch.no_grad():
            width = density.features(some.take(slice(0, 1))).shape[1]
        scorer = Features(density, (len(labels), width)).start(some)
        if told:
            return SharedBackbone(LabelConditioned(density, self.target.space), Classifier(scorer))
        return Hybrid(Independent(density, self.target.space), Classifier(scorer))


def shares_backbone(config: Any, asked: Any, target: Target | None) -> bool:
    """Whether p(y | x) stands on the network of p(x): where it is ``asked`` for, and where a family
    for pictures has classes."""
    if not isinstance(asked, str):
        return False
    if asked == "auto":
        return bool(config.density.shared_backbone) and target is not None and target.discrete
    return bool(method_of(asked).shared)

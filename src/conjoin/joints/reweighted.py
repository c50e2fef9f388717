r"""A joint model under label shift: the classes have other shares, and p(x | y) is unchanged.

    p_new(x, y) = p(x, y) w(y),
    w(y) proportional to p_new(y) / p(y), so that sum_y p(y) w(y) = 1
    p_new(y | x) ~ p(y | x) w(y),    p_new(x) = p(x) sum_y p(y | x) w(y)

M. Saerens, P. Latinne and C. Decaestecker (2002), Adjusting the outputs of a classifier to new a
priori probabilities, section 2. One weight per class changes all answers consistently, because they
come from the same p_new(x, y). Nats.

Shape letters: B rows, K classes.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Edit, Event, Pair, Status, categorical, stream
from conjoin.core.event import chosen
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint, Rebuild, of_pairs
from conjoin.joints.hybrid import Predictor

__all__ = ["Posterior", "Reweighted", "log_shares"]

DRAWS_FOR_CLASS_SHARES = 1024  # from which p(y) is estimated if a joint can't sum out x
PROPOSALS_PER_ROW = 32  # draws per row of which one is chosen
MAX_DRAWS_AT_ONCE = 65_536  # draws at once of those that are thinned


def log_shares(joint: Joint, seed: int = 0) -> Float[Tensor, " K"]:
    """log p(y): exact where x can be summed out, else the mean of p(y | x) over draws of x."""
    width = joint.space.x.shape[0]
    with torch.no_grad():
        if joint.capabilities.missing == "exact":
            nothing = Event(
                torch.zeros(1, width, dtype=torch.float64), torch.zeros(1, width, dtype=torch.bool)
            )
            return joint.log_joint(nothing)[0].log_softmax(0)
        x = joint.sample(DRAWS_FOR_CLASS_SHARES, generator=stream(seed, "shares")).x
        return joint.log_posterior(x).logsumexp(0) - math.log(DRAWS_FOR_CLASS_SHARES)


class Reweighted(Joint):
    """``base`` with a weight for each class. ``log_weight`` is a buffer, so that it is saved with
    the base. Not to be trained: the weights are normalised once."""

    kind = "reweighted"
    log_weight: Tensor

    def __init__(self, base: Joint) -> None:
        super().__init__(base.space, base.config)
        self.base = base
        self.register_buffer(
            "log_weight", torch.zeros(base.target.cardinality, dtype=torch.float64)
        )

    @classmethod
    def of(
        cls,
        joint: Joint,
        log_weight: Float[Tensor, " K"],
        seed: int = 0,
        shares: Float[Tensor, " K"] | None = None,
    ) -> "Reweighted":
        """``joint`` weighted, once more if it already is; the weights need not be normalised.
        ``shares``: log p(y) before any weights, where it is known."""
        base, before = (
            (joint.base, joint.log_weight)
            if isinstance(joint, Reweighted)
            else (joint, torch.zeros_like(log_weight))
        )
        out = cls(base)
        total = before + log_weight
        known = log_shares(base, seed) if shares is None else shares
        out.log_weight.copy_(total - (known + total).logsumexp(0))
        return out.eval()

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "base": self.base.describe()}

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> "Reweighted":
        return cls(rebuild.joint(described["base"])).eval()

    @property
    def density_of_x(self) -> Density:
        return self.base.density_of_x

    @property
    def family_density(self) -> Density:
        return self.base.family_density

    def about(self, x: Event) -> Event | Pair:
        return self.base.about(x)

    @property
    def unweighted(self) -> Joint:
        return self.base

    def weighted(self, log_joint: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return log_joint + self.log_weight.to(log_joint.device)

    @property
    def separate_predictor(self) -> Predictor | None:
        return self.base.separate_predictor

    @property
    def label_prior(self) -> Tensor | None:
        return self.base.label_prior

    @property
    def capabilities(self) -> Capabilities:
        # its draws are chosen from those of the base, which undoes their order
        return dataclasses.replace(of_pairs(self, self.base.capabilities), even=False)

    @property
    def status(self) -> dict[str, Status]:
        """The base's; log p(x) is approximate where p(y), by which the weights are normalised,
        comes from labels or draws."""
        known = self.base.capabilities.missing == "exact"
        own = self.base.status
        return (
            own
            if known or own["log_prob"] is not Status.EXACT
            else own | {"log_prob": Status.APPROXIMATE}
        )

    @property
    def proposer(self) -> Joint:
        return self.base.proposer

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        known = event.y.mask
        if known.all():
            return (
                self.base.log_prob(event, generator=generator)
                + self.log_weight[event.y.value.long()]
            )
        evidence = self.base.log_joint(event.x) + self.log_weight
        if not known.any():
            return evidence.logsumexp(1)
        labelled = (
            self.base.log_prob(event, generator=generator) + self.log_weight[event.y.value.long()]
        )
        return torch.where(known, labelled, evidence.logsumexp(1))

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.base.log_joint(x, candidates) + self.log_weight[candidates.long()]

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        """Draws of the base, each kept with probability w(y) / max w: exact wherever those are."""
        accept = (self.log_weight - self.log_weight.max()).exp()
        kept: list[Pair] = []
        while (missing := n - sum(pair.rows for pair in kept)) > 0 or not kept:
            size = min(
                MAX_DRAWS_AT_ONCE,
                math.ceil(1.2 * missing * float(self.log_weight.max().exp())) + 16,
            )
            drawn: Pair = self.base.sample(size, generator=generator)
            keep = (
                torch.rand(size, generator=generator, dtype=torch.float64)
                < accept[drawn.y.value.long()]
            )
            kept.append(drawn.take(keep))
        x = torch.cat([pair.x.value for pair in kept])
        y = torch.cat([pair.y.value for pair in kept])
        return Pair(Event(y[:n]), Event(x[:n]))

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        return (self.base.log_posterior(x) + self.log_weight).log_softmax(1)

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        """A known label leaves the base's draws as they are. Else the label is drawn by p_new(y |
        what is known of x) before the rest; where the base's own conditionals are not exact, one of
        ``PROPOSALS_PER_ROW`` of its draws is chosen by w(y)."""
        if event.y.mask.all():
            out: Pair = self.base.sample_conditional(event, generator=generator)
            return out
        if self.base.capabilities.conditionals == "any":
            drawn = categorical(self.base.log_joint(event.x) + self.log_weight, generator).double()
            return self._sample_conditional(
                event._replace(y=Event(torch.where(event.y.mask, event.y.value, drawn))),
                None,
                generator,
            )
        many = event.take(torch.arange(event.rows).repeat_interleave(PROPOSALS_PER_ROW))
        out = self.base.sample_conditional(many, generator=generator)
        weight = self.log_weight[out.y.value.long()].reshape(event.rows, PROPOSALS_PER_ROW)
        return out.take(
            torch.arange(event.rows) * PROPOSALS_PER_ROW + categorical(weight, generator)
        )

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        """The best over the classes of the base's modes where those are exact; else its mode, with
        the best label there."""
        if self.base.capabilities.mode != "exact":
            x = self.base.mode(event).x
            best = (self.base.log_joint(x) + self.log_weight).argmax(1).double()
            return Pair(Event(torch.where(event.y.mask, event.y.value, best)), x)
        modes = [self.base.mode(Pair(y, event.x)).x for y in self.candidates(event.rows)]
        each = [Event(mode.value, present=mode.present) for mode in modes]
        joint = torch.stack(
            [self._log_joint(x, torch.tensor([k]))[:, 0] for k, x in enumerate(each)], 1
        )
        y = torch.where(event.y.mask, event.y.value, joint.argmax(1).double())
        return Pair(Event(y), chosen(each, y.long()))

    def _features(self, event: Pair) -> Tensor:
        return self.base.features(event)

    def _edit(self, event: Pair, context: Event | None, how: Edit) -> Pair:
        """Towards a label: p(x | y) is the base's."""
        out: Pair = self.base.edit(event, how=how)
        return out


class Posterior(Predictor):
    """p(y | x) of a whole joint model, to stand beside another p(x)."""

    kind = "posterior"  # the word under which it is saved

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint

    def describe(self) -> dict[str, Any]:
        return {"scorer": self.kind, "joint": self.joint.describe()}

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> "Posterior":
        """From what ``describe`` gave."""
        return cls(rebuild.joint(described["joint"]))

    def _log_proba(self, x: Event) -> Float[Tensor, "B K"]:
        return self.joint.log_joint(x).log_softmax(1)

    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self._log_proba(x).gather(1, y.long())

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Every row: what missing cells mean is the joint's own business."""
        return torch.ones(x.rows, dtype=torch.bool)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        log_proba = self._log_proba(x)
        return (
            log_proba.argmax(1) if generator is None else categorical(log_proba, generator)
        ).double()

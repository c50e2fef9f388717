"""p(y) p(x | y): a density of x for each class."""

from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core import (
    CapabilityError,
    Density,
    Edit,
    Event,
    Likelihood,
    Pair,
    Space,
    Status,
    categorical,
    seeded,
    stream,
)
from conjoin.core.event import chosen
from conjoin.core.random import draw_seed
from conjoin.core.sampling import categories
from conjoin.core.shapes import Float
from conjoin.joints.base import Rebuild, WithLabelPrior, _label_loss, trust

__all__ = ["ClassConditional"]


class ClassConditional(WithLabelPrior):
    """p(y) p(x | y). Needs a normalised density: an unknown constant per class would decide the
    class."""

    kind = "class_conditional"

    def __init__(self, density: Density, y_space: Space, smoothing: float = 1.0) -> None:
        super().__init__(density, y_space)
        if density.capabilities.likelihood is Likelihood.UNNORMALIZED:
            raise CapabilityError(
                type(density).__name__,
                "class-conditional densities",
                "an unnormalised likelihood",
                "Use Hybrid.",
            )
        self.smoothing = smoothing

    @property
    def status(self) -> dict[str, Status]:
        exact = trust(self.density)
        return {
            "log_prob": exact,
            "predict_proba": exact if exact is Status.EXACT else Status.APPROXIMATE,
            "sample": exact,
        }

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> Self:
        return cls(rebuild.density(described["density"], rebuild.x, rebuild.y), rebuild.y)

    def _classes(self, x: Event, generator: torch.Generator | None = None) -> Float[Tensor, "B K"]:
        """log p(x, k); where log p(x | k) is an estimate, all classes are given the same noise, so
        that it cancels."""
        able = self.density.capabilities
        if generator is None or not (able.stochastic or able.missing == "bound"):
            return self.log_prior.log_softmax(0) + self.density.log_contexts(x)
        return self._alike(x, generator)

    def _alike(self, x: Event, generator: torch.Generator) -> Float[Tensor, "B K"]:
        """log p(x, k), with the same noise and the same dropout for every class."""
        seed = draw_seed(generator)
        each = []
        for code in self.candidates(x.rows):
            with seeded(stream(seed)):
                each.append(self.density.log_prob(x, code, generator=stream(seed)))
        return self.log_prior.log_softmax(0) + torch.stack(each, 1)

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        joint = self._classes(event.x, generator)
        labelled = joint.gather(1, event.y.value.long()[:, None])[:, 0]
        return torch.where(event.y.mask, labelled, joint.logsumexp(1))

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self._classes(x)[:, candidates.long()]

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = Event(categories(self.log_prior.expand(n, -1), generator).double())
        return Pair(y, self.density.sample(n, y, generator=generator))

    def _label(self, event: Pair, drawn: Tensor) -> Event:
        return Event(torch.where(event.y.mask, event.y.value, drawn.double()))

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        y = event.y
        if not y.mask.all() or self.density.capabilities.missing != "none":
            y = self._label(event, categorical(self._classes(event.x), generator))
        return Pair(y, self.density.sample_conditional(event.x, y, generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        """The best of the classes' own modes: exact where theirs are."""
        modes = [self.density.mode(event.x, y) for y in self.candidates(event.rows)]
        filled = [Event(mode.value, present=mode.present) for mode in modes]
        joint = torch.stack([self._classes(x)[:, k] for k, x in enumerate(filled)], 1)
        y = self._label(event, joint.argmax(1))
        return Pair(y, chosen(filled, y.value.long()))

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Labelled rows under their own class alone; unlabelled ones summed over classes, or
        without a class where the density learns by a surrogate, which does not add up to a
        probability."""
        known = event.y.mask
        out = torch.zeros(event.rows, dtype=torch.float64)
        if known.any():
            labelled = self._labelled_losses(event.take(known), generator)
            out = out.index_copy(0, known.nonzero()[:, 0], labelled)
        if not known.all():
            x = event.x.take(~known)
            adds_up = self.density.capabilities.objective == "likelihood"
            losses = (
                -self._by_class(x, generator).logsumexp(1)
                if adds_up
                else self.density.losses(x, generator=generator)
            )
            out = out.index_copy(0, (~known).nonzero()[:, 0], losses)
        return out

    def _labelled_losses(
        self, event: Pair, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out = (
            self.density.losses(event.x, event.y, generator=generator)
            - self.log_prior.log_softmax(0)[event.y.value.long()]
        )
        if not self.emphasis:
            return out
        return out + self.emphasis * _label_loss(
            self._alike(event.x, generator or stream(0, "classes")), event.y
        )

    def _by_class(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, "B K"]:
        """log p(k) less the loss of x under class k."""
        each = [
            self.density.losses(x, code, generator=generator) for code in self.candidates(x.rows)
        ]
        return self.log_prior.log_softmax(0) - torch.stack(each, 1)

    def _edit(self, event: Pair, context: Event | None, how: Edit) -> Pair:
        return Pair(event.y, self.density.edit(event.x, event.y, how=how))

    def _statistics(self, event: Pair, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        """An unlabelled row counts for every class, by p(y | x)."""
        classes = self.target.cardinality
        total = (weight * self._log_prob(event, None, None)).sum()
        hot = torch.nn.functional.one_hot(event.y.value.long(), classes).double()
        share = weight[:, None] * torch.where(
            event.y.mask[:, None], hot, self._classes(event.x).softmax(1)
        )
        rows, labels = share.nonzero(as_tuple=True)
        out = self.density.statistics(
            event.x.take(rows), Event(labels.double()), weight=share[rows, labels]
        )
        return {f"x.{key}": value for key, value in out.items()} | {
            "prior": share.sum(0),
            "log_prob": total,
        }

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.log_prior.copy_((statistics["prior"] + self.smoothing).log().log_softmax(0))
        self.density.maximise(
            {key[2:]: value for key, value in statistics.items() if key.startswith("x.")}
        )

"""p(y) p(x): the base of a predictor that has all to say about y."""

from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core import Event, Pair, Space, Status, categorical
from conjoin.core.shapes import Float
from conjoin.joints.base import Rebuild, WithLabelPrior, trust

__all__ = ["Independent"]


class Independent(WithLabelPrior):
    """p(y) p(x): the base of a predictor that has all to say about y."""

    kind = "independent"
    ignores_label = True

    @property
    def status(self) -> dict[str, Status]:
        return {
            "log_prob": trust(self.density),
            "predict_proba": Status.EXACT,
            "sample": trust(self.density),
        }

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> Self:
        return cls(
            rebuild.density(described["density"], rebuild.x, cls._context(rebuild)), rebuild.y
        )

    @classmethod
    def _context(cls, rebuild: Rebuild) -> Space | None:
        """What the density is told."""
        return None

    def _log_label(self, y: Event) -> Float[Tensor, " B"]:
        return torch.where(y.mask, self.log_prior.log_softmax(0)[y.value.long()], 0.0)

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.log_prob(event.x, generator=generator) + self._log_label(event.y)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.density.log_prob(x)[:, None] + self.log_prior.log_softmax(0)[candidates.long()]

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.losses(event.x, generator=generator) - self._log_label(event.y)

    def _labels(self, y: Event, generator: torch.Generator | None) -> Event:
        drawn = categorical(self.log_prior.expand(y.rows, -1), generator).double()
        return Event(torch.where(y.mask, y.value, drawn))

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return Pair(
            self._labels(self.unknown(n), generator), self.density.sample(n, generator=generator)
        )

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        return Pair(
            self._labels(event.y, generator),
            self.density.sample_conditional(event.x, generator=generator),
        )

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        best = torch.where(event.y.mask, event.y.value, self.log_prior.argmax().double())
        return Pair(Event(best), self.density.mode(event.x))

    def _fit_typicality(self, event: Pair) -> None:
        self.density.fit_typicality(event.x)

    def _typicality(self, event: Pair) -> Float[Tensor, " B"]:
        return self.density.typicality(event.x)

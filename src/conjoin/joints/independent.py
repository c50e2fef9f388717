"""p(y) p(x): the base of a predictor that has all to say about y."""

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core import (
    Capabilities,
    Density,
    Event,
    Pair,
    PairSpace,
    Space,
    Status,
    categorical,
)
from conjoin.core.shapes import Float
from conjoin.joints.base import (
    Joint,
    Rebuild,
    WithLabelPrior,
    describe_family,
    of_pairs,
    trust,
)

__all__ = ["Independent", "IndependentNumber", "column_of"]


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

    def _log_label_given(self, event: Pair) -> Float[Tensor, " B"]:
        """Without log p(x) where that is slow; elsewhere to the bit what older models said."""
        if not self.density.read_by_network:
            return super()._log_label_given(event)
        return self._log_label(event.y)

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        if not self.density.read_by_network:
            return super()._log_posterior(x)
        return self.log_prior.log_softmax(0).expand(x.rows, -1)

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


def column_of(y_space: Space) -> Space:
    """The space of a number y as a row of one column."""
    return replace(y_space, shape=(1,), layout="vector")


class IndependentNumber(Joint):
    """p(y) p(x) of a number y, whose density ``prior`` is one of rows of one column."""

    kind = "independent_number"
    ignores_label = True

    def __init__(self, density: Density, prior: Density, y_space: Space) -> None:
        super().__init__(PairSpace(y_space, density.space), density.config)
        self.density = density
        self.prior = prior.requires_grad_(False)

    @property
    def capabilities(self) -> Capabilities:
        return of_pairs(self, self.density.capabilities)

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        return {
            "log_prob": trust(self.density),
            "predict_proba": Status.EXACT,
            "sample": trust(self.density),
        }

    def describe(self) -> dict[str, Any]:
        density, prior = map(describe_family, (self.density, self.prior))
        return {"kind": self.kind, "density": density, "prior": prior}

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> Self:
        density = rebuild.density(described["density"], rebuild.x, None)
        prior = rebuild.density(described["prior"], column_of(rebuild.y), None)
        return cls(density, prior, rebuild.y)

    @property
    def density_of_x(self) -> Density:
        return self.density

    @property
    def family_density(self) -> Density:
        return self.density

    def _log_label(self, y: Event) -> Float[Tensor, " B"]:
        row = Event(y.value[:, None], y.mask[:, None])
        return torch.where(y.mask, self.prior.log_prob(row), 0.0)

    def _log_label_given(self, event: Pair) -> Float[Tensor, " B"]:
        return self._log_label(event.y)

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.log_prob(event.x, generator=generator) + self._log_label(event.y)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        prior = self.prior.log_prob(Event(candidates.reshape(-1, 1))).reshape(candidates.shape)
        return self.density.log_prob(x)[:, None] + prior

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.losses(event.x, generator=generator) - self._log_label(event.y)

    def _labels(self, y: Event, generator: torch.Generator | None) -> Event:
        drawn = self.prior.sample(y.rows, generator=generator).value[:, 0]
        return Event(torch.where(y.mask, y.value, drawn))

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = self._labels(self.unknown(n), generator)
        return Pair(y, self.density.sample(n, generator=generator))

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        y = self._labels(event.y, generator)
        return Pair(y, self.density.sample_conditional(event.x, generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        row = Event(event.y.value[:, None], event.y.mask[:, None])
        return Pair(Event(self.prior.mode(row).value[:, 0]), self.density.mode(event.x))

    def _fit_typicality(self, event: Pair) -> None:
        self.density.fit_typicality(event.x)

    def _typicality(self, event: Pair) -> Float[Tensor, " B"]:
        return self.density.typicality(event.x)

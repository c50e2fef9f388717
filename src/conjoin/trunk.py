r"""One network that learns p(x) and p(y | x) together, and that is told y for part of the rows, so that it can draw x given y.

    loss = loss of x, told y  -  w log p(y | features of x),      w = ``label_weight`` (1 + ``emphasis``)

The joint model is p(x) p(y | x): p(x) without a class, p(y | x) from what the network sees in x (W. Grathwohl et al. (2020), Your
classifier is secretly an energy based model, section 1; T. Deja, T. Trzcinski and J. Tomczak (2023), Learning data representations
with joint diffusion models, equation 9). Draws given y come from the network that was told y: approximate, as nothing forces both
readings to agree. Nats.

Shape letters: B rows, K classes.
"""

import torch
from torch import Tensor

from conjoin._shapes import Float
from conjoin.core import Event, Pair, seeded, stream
from conjoin.joint import Hybrid, Independent

__all__ = ["Told", "Trunk"]


class Told(Independent):
    """p(y) p(x), whose density is told y where it is known: in its fit, and for draws given y."""

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self.density.losses(event.x, event.y, generator=generator) - self._log_label(event.y)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = self._labels(self.unknown(n), generator)
        return Pair(y, self.density.sample(n, y, generator=generator))

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        x = self.density.sample_conditional(event.x, event.y, generator=generator)
        return Pair(self._labels(event.y, generator), x)

    def _edit(self, event: Pair, context: Event | None, noise: float, strength: Tensor) -> Pair:
        return Pair(event.y, self.density.edit(event.x, event.y, noise=noise, strength=strength))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        best = torch.where(event.y.mask, event.y.value, self.log_prior.argmax().double())
        return Pair(Event(best), self.density.mode(event.x, event.y))


class Trunk(Hybrid):
    """p(x) p(y | x) of one network. ``base`` is a ``Told``; the predictor stands on the features of its density."""

    def _losses(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        with seeded(generator or stream(0, "label")):
            label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        known = event.y.mask & self.predictor.covers(event.x)
        weight = self.config.label_weight * (1 + self.emphasis)
        return self.base.losses(event, generator=generator) - torch.where(known, weight * label, 0.0)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self.base.sample(n, generator=generator)

    def _sample_conditional(self, event: Pair, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self._with_label(event, self.base.sample_conditional(event, generator=generator).x, generator)

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        return self._with_label(event, self.base.mode(event).x, None)

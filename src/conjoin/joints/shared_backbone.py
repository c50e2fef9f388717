r"""One network that learns p(x) and p(y | x) together. In training it is conditioned on y for part
of the rows, so that it can draw x given y.

    loss = loss of x given y  -  w log p(y | features of x),
    w = ``label_weight`` (1 + ``emphasis``)

The joint model is p(x) p(y | x): p(x) without a class, p(y | x) from the network's features of x
(W. Grathwohl et al. (2020), Your classifier is secretly an energy based model, section 1; T. Deja,
T. Trzcinski and J. Tomczak (2023), Learning data representations with joint diffusion models,
equation 9). Draws given y come from the network conditioned on y. They are approximate, because
nothing forces this conditional to agree with p(x) p(y | x). Nats.

Shape letters: B rows, K classes.
"""

import math

import torch
from torch import Tensor

from conjoin.core import Edit, Event, Pair, Space, categorical, seeded, stream
from conjoin.core.shapes import Float
from conjoin.joints.base import Rebuild
from conjoin.joints.hybrid import Hybrid
from conjoin.joints.independent import Independent

__all__ = ["LabelConditioned", "SharedBackbone"]

# of a picture of which a part is missing, by which its class is guessed
COMPLETIONS_PER_PICTURE = 4


class LabelConditioned(Independent):
    """p(y) p(x), whose density is told y where it is known: in its fit, and for draws given y."""

    kind = "told"

    @classmethod
    def _context(cls, rebuild: Rebuild) -> Space | None:
        return rebuild.y

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.losses(event.x, event.y, generator=generator) - self._log_label(event.y)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        y = self._labels(self.unknown(n), generator)
        return Pair(y, self.density.sample(n, y, generator=generator))

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        x = self.density.sample_conditional(event.x, event.y, generator=generator)
        return Pair(self._labels(event.y, generator), x)

    def _edit(self, event: Pair, context: Event | None, how: Edit) -> Pair:
        return Pair(event.y, self.density.edit(event.x, event.y, how=how))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        best = torch.where(event.y.mask, event.y.value, self.log_prior.argmax().double())
        return Pair(Event(best), self.density.mode(event.x, event.y))


class SharedBackbone(Hybrid):
    """p(x) p(y | x) of one network. ``base`` is a ``LabelConditioned``; the predictor stands on the
    features of its density."""

    kind = "trunk"
    base: LabelConditioned

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        with seeded(generator or stream(0, "label")):
            label = self.predictor.log_prob(event.x, event.y.value[:, None])[:, 0]
        known = event.y.mask & self.predictor.covers(event.x)
        weight = self.config.label_weight * (1 + self.emphasis)
        return self.base.losses(event, generator=generator) - torch.where(
            known, weight * label, 0.0
        )

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        drawn: Pair = self.base.sample(n, generator=generator)
        return drawn

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        """Where parts of x are missing, p(y | x) is its mean over completions of x, which are the
        same in every batch."""
        whole = self.predictor.covers(x)
        out = x.value.new_zeros(x.rows, self.target.cardinality)
        if whole.any():
            out[whole] = Hybrid._log_posterior(self, x.take(whole))
        for row in (~whole).nonzero()[:, 0].tolist():
            out[row] = self._averaged(x.take(slice(row, row + 1)), stream(0, "completions"))[0]
        return out

    def _averaged(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, "B K"]:
        """log of the mean of p(y | x) over a few completions."""
        many = x.take(torch.arange(x.rows).repeat_interleave(COMPLETIONS_PER_PICTURE))
        drawn: Pair = self.base.sample_conditional(
            Pair(self.unknown(many.rows), many), generator=generator
        )
        each = Hybrid._log_posterior(self, Event(drawn.x.value))
        return each.view(x.rows, COMPLETIONS_PER_PICTURE, -1).logsumexp(1) - math.log(
            COMPLETIONS_PER_PICTURE
        )

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        """A y that is not known is drawn before x, by the mean of p(y | x) over completions."""
        posterior = self.base.log_prior.log_softmax(0).expand(event.x.rows, -1).clone()
        unsure = event.x.mask.any(1) & ~event.y.mask
        if unsure.any():
            posterior[unsure] = self._averaged(event.x.take(unsure), generator)
        y = _where_unknown(event.y, categorical(posterior, generator).double())
        drawn: Pair = self.base.sample_conditional(Pair(y, event.x), generator=generator)
        return drawn

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        best = self.base.log_prior.argmax().double().expand(event.x.rows).clone()
        unsure = event.x.mask.any(1) & ~event.y.mask
        if unsure.any():
            best[unsure] = self._log_posterior(event.x.take(unsure)).argmax(1).double()
        found: Pair = self.base.mode(Pair(_where_unknown(event.y, best), event.x))
        return found


def _where_unknown(y: Event, value: Float[Tensor, " B"]) -> Event:
    """y with a value where it has none."""
    return Event(torch.where(y.mask, y.value, value))

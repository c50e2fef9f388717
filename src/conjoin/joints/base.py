r"""Joint models p(x, y), made of densities and predictors. Each is itself a density, over the pair
(y, x).

    Monolithic         p(y, x)         one density in which y is a variable like any other
    ClassConditional   p(y) p(x | y)   a density of x for each class
    Independent        p(y) p(x)       a density of x without y: the features of a predictor
    Hybrid             p(x) p(y | x)   any density of x beside any predictor, also your own

Where a joint learns by the gradient, ``emphasis`` e adds e times -log p(y | x) to the loss of a
labelled row, which is then -log p(x) - (1 + e) log p(y | x) (G. Bouchard and B. Triggs (2004), The
tradeoff between generative and discriminative classifiers).

What each quantity is worth follows from the parts: see ``Capabilities`` of each class. A y that is
not known is summed out, so unlabelled rows teach p(x). All values are in nats.

Shape letters: B rows, D columns of x, K classes or candidate values of y.
"""

import abc
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from conjoin.core import (
    Density,
    Event,
    Likelihood,
    Pair,
    PairSpace,
    Space,
    Status,
    Variable,
)
from conjoin.core.shapes import Float

__all__ = ["Joint", "flat_space", "trust"]


class Joint(Density):
    """A density over ``Pair(y, x)`` that can also say log p(x, y) for every candidate y at once."""

    space: PairSpace
    emphasis: float = 0.0  # on p(y | x), beyond its share in p(x, y)

    @property
    def target(self) -> Variable:
        return self.space.y.variables[0]

    @final
    def log_joint(self, x: Event, candidates: Tensor | None = None) -> Float[Tensor, "B K"]:
        """log p(x, y) for each candidate y (default: every class). The entry of every decision."""
        if candidates is None:
            if not self.target.discrete:
                raise ValueError(f"{self.target.name!r} is a number: name the candidate values.")
            candidates = torch.arange(self.target.cardinality, dtype=torch.float64)
        return self._log_joint(self.space.x.check(x), candidates)

    @final
    def log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        """log p(y | x) for every class, without log p(x) where that is not needed."""
        return self._log_posterior(self.space.x.check(x))

    @abc.abstractmethod
    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]: ...

    def _log_posterior(self, x: Event) -> Float[Tensor, "B K"]:
        return self._log_joint(
            x, torch.arange(self.target.cardinality, dtype=torch.float64)
        ).log_softmax(1)

    @final
    def candidates(self, rows: int) -> list[Event]:
        """Every class in turn, as the y of so many rows."""
        return [
            Event(torch.full((rows,), float(k), dtype=torch.float64))
            for k in range(self.target.cardinality)
        ]

    @final
    def log_evidence(self, x: Event) -> Float[Tensor, " B"]:
        """log p(x): y is missing."""
        return self.log_prob(Pair(self.unknown(x.rows), x))

    @final
    def unknown(self, rows: int) -> Event:
        """A y that is missing in every row."""
        return Event(torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool))

    @property
    @abc.abstractmethod
    def proposer(self) -> "Joint":
        """The joint whose draws of x given y are cheap and plausible, though they need not be quite
        this one's."""

    @property
    @abc.abstractmethod
    def status(self) -> dict[str, Status]:
        """How far ``log_prob`` (of x), ``predict_proba`` (y given x) and ``sample`` (x given y) can
        be trusted."""


def trust(density: Density) -> Status:
    """What ``log_prob`` of a density is worth."""
    return {
        Likelihood.EXACT: Status.EXACT,
        Likelihood.LOWER_BOUND: Status.LOWER_BOUND,
        Likelihood.UNNORMALIZED: Status.RELATIVE,
    }[density.capabilities.likelihood]


def flat_space(y: Space, x: Space) -> Space:
    """The space of a monolithic joint: y's variable before those of x (the pixels, if x is an
    image, are the last ones)."""
    variables = y.variables + x.variables
    return replace(x, shape=(1 + x.shape[0],), variables=variables, layout="vector")


def _label_loss(log_joint: Float[Tensor, "B K"], y: Event) -> Float[Tensor, " B"]:
    """-log p(y | x) of labelled rows, 0 of the others."""
    return torch.where(
        y.mask, -log_joint.log_softmax(1).gather(1, y.value.long()[:, None])[:, 0], 0.0
    )

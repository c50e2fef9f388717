r"""Naive Bayes: columns are independent given the class.

    p(x | y) = prod_d p(x_d | y)

M. Maron (1961), Automatic indexing: an experimental inquiry, equation 5. Without a class it is the
product of the columns' marginals. Missing cells drop out of the product; one pass over the rows is
the whole fit. Nats.

Shape letters: B rows, D variables, K classes.

>>> from conjoin.core import Event, Space, Variable
>>> space = Space((1,), (Variable("mass", "real"),))
>>> classes = Space((), (Variable("y", "category", cardinality=2),))
>>> data = Event(torch.tensor([[0.1], [0.9], [1.1]]).double())
>>> y = Event(torch.tensor([0.0, 1.0, 1.0]).double())
>>> model = NaiveBayesDensity.build(
...     space, NaiveBayes(), data, torch.Generator(), context=y, context_space=classes
... )
>>> model.maximise(model.statistics(data, y))
>>> bool(model.log_prob(data, y)[1] > model.log_prob(data, Event(1 - y.value))[1])
True
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.components.leaves import LeafLayer
from conjoin.core import Capabilities, Config, Density, Event, Likelihood, Space
from conjoin.core.shapes import Float, Int

__all__ = ["NaiveBayes", "NaiveBayesDensity"]


@dataclass(frozen=True)
class NaiveBayes(Config):
    """Settings of naive Bayes.

    Parameters
    ----------
    smoothing : float, default 1.0
        Rows of prior, of the column's marginal, that each class starts with.
    """

    smoothing: float = 1.0


class NaiveBayesDensity(Density):
    """p(x | class), or a product of marginals where there is no class."""

    config_class = NaiveBayes
    bounded = True
    many_levels = True
    conditional = True

    def __init__(
        self,
        space: Space,
        config: NaiveBayes,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        classes = context_space.variables[0].cardinality if context_space else 1
        self.leaves = LeafLayer(space.variables, classes, config.smoothing)

    @classmethod
    def build(
        cls,
        space: Space,
        config: NaiveBayes,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        density = cls(space, config, context_space=context_space)
        density.leaves.start(
            data.value,
            data.mask,
            torch.ones(data.rows, dtype=torch.float64) if weight is None else weight,
        )
        return density

    @property
    def capabilities(self) -> Capabilities:
        plain = not any(v.atoms or v.bounds != (None, None) for v in self.space.variables)
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="exact" if plain else "approximate",  # see LeafLayer.modes
            statistics=True,
        )

    def _state(self, rows: int, context: Event | None) -> Int[Tensor, " B"]:
        return torch.zeros(rows, dtype=torch.long) if context is None else context.value.long()

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._log_contexts(event).gather(1, self._state(event.rows, context)[:, None])[:, 0]

    def _log_contexts(self, event: Event) -> Float[Tensor, "B K"]:
        return self.leaves.log_event(event).sum(1)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        states = self._state(n, context)[:, None].expand(-1, len(self.space.variables))
        return Event(self.leaves.sample(states, generator))

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        states = self._state(event.rows, context)[:, None].expand_as(event.value)
        return Event(
            torch.where(
                event.mask, event.value, self.leaves.sample(states, generator, event.within)
            )
        )

    def _mode(self, event: Event, context: Event | None) -> Event:
        return Event(
            torch.where(
                event.mask, event.value, self.leaves.modes().T[self._state(event.rows, context)]
            )
        )

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        state = torch.nn.functional.one_hot(
            self._state(event.rows, context), self.leaves.states
        ).double()
        share = (weight[:, None] * state)[:, None].expand(-1, event.value.shape[1], -1)
        total = (weight * self._log_prob(event, context, None)).sum()
        return self.leaves.statistics(event.value, event.mask, share) | {"log_prob": total}

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.leaves.maximise(statistics)

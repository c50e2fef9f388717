r"""What the classic families with Gaussian numbers share: categories independent given the class,
numbers jointly Gaussian.

    p(x | y) = N(x_numbers; mu_y, Sigma_y) prod_{d categorical} p(x_d | y)

A number recorded to a precision w is a lattice point with mass w N(x): the sum over the lattice is
one (Poisson summation: within 0.2 % once sigma >= 0.6 w, which a floor ensures). A draw is snapped
to the lattice, which adds w^2 / 12 to its variance (W. Sheppard (1898), On the calculation of the
most probable values of frequency-constants). Nats. What Sigma_y looks like, and how it is learned,
is the families' own business: they write the hooks below.

Shape letters: B rows, D variables, N numeric, K classes, P missing patterns.

>>> rows, patterns = missing_patterns(torch.tensor([[True, False], [True, True], [True, False]]))
>>> rows.tolist(), patterns.tolist()
([0, 1, 0], [[True, False], [True, True]])
"""

import abc
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from conjoin.components.leaves import Lattice, LeafLayer
from conjoin.core import Capabilities, Density, Event, Likelihood, Space
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["MIN_CELL_DEVIATION", "GaussianClasses", "missing_patterns"]

# of a cell's width: the least standard deviation for which lattice masses sum to one
MIN_CELL_DEVIATION = 0.6


def missing_patterns(mask: Bool[Tensor, "B N"]) -> tuple[Int[Tensor, " B"], Bool[Tensor, "P N"]]:
    """Which of the distinct patterns each row has, and the patterns (True: known)."""
    if mask.all():
        return torch.zeros(len(mask), dtype=torch.long), mask[:1]
    patterns, which = torch.unique(mask, dim=0, return_inverse=True)
    return which, patterns


class GaussianClasses(Density):
    """Gaussian numbers, independent categories, given the class (one class where there is no
    context)."""

    conditional = True
    numeric: Tensor
    category: Tensor
    mean_prior: Tensor
    variance_prior: Tensor
    mean: nn.Parameter  # (K, N), where there are numbers

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.classes = context_space.variables[0].cardinality if context_space else 1
        numbers = [i for i, v in enumerate(space.variables) if not v.discrete]
        categories = [i for i, v in enumerate(space.variables) if v.discrete]
        self.register_buffer("numeric", torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.register_buffer(
            "category", torch.tensor(categories, dtype=torch.long), persistent=False
        )
        self.lattice = Lattice([space.variables[i] for i in numbers])
        self.leaves = LeafLayer([space.variables[i] for i in categories], self.classes)
        self.register_buffer("mean_prior", torch.zeros(len(numbers), dtype=torch.float64))
        self.register_buffer("variance_prior", torch.ones(len(numbers), dtype=torch.float64))
        if numbers:
            self.mean = nn.Parameter(torch.zeros(self.classes, len(numbers), dtype=torch.float64))

    def _start(self, data: Event, weight: Float[Tensor, " B"]) -> Self:
        """Set the priors from the columns' marginals, and every class to them."""
        self.leaves.start(data.value[:, self.category], data.mask[:, self.category], weight)
        if len(self.numeric):
            value = data.value[:, self.numeric]
            mass = weight[:, None] * data.mask[:, self.numeric]
            count = mass.sum(0).clamp_min(1e-300)
            self.mean_prior.copy_((mass * value).sum(0) / count)
            variance = (mass * (value - self.mean_prior) ** 2).sum(0) / count
            self.variance_prior.copy_(torch.where(variance > 0, variance, 1.0))
            with torch.no_grad():
                self.mean.copy_(self.mean_prior.expand_as(self.mean))
        return self

    @property
    def capabilities(self) -> Capabilities:
        # the mean, rounded, need not be the best cell
        rounded = len(self.numeric) > 1 and bool((self.lattice.width > 0).any())
        mode: Literal["exact", "approximate"] = "approximate" if rounded else "exact"
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            mode=mode,
            statistics=True,
        )

    @property
    def _floor(self) -> Float[Tensor, " N"]:
        """The least variance of each number, given everything else."""
        return (MIN_CELL_DEVIATION * self.lattice.width).square().clamp_min(1e-12)

    # ------------------------------------------------------------------ what a family writes

    @abc.abstractmethod
    def _log_numbers(
        self, value: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B K"]:
        """Nats of the known numbers under each class."""

    @abc.abstractmethod
    def _fill(
        self, value: Tensor, mask: Tensor, state: Int[Tensor, " B"], noise: Float[Tensor, "B _"]
    ) -> Float[Tensor, "B N"]:
        """Missing numbers at their conditional mean, plus what standard normal ``noise`` makes of
        their conditional covariance."""

    @abc.abstractmethod
    def _moments(
        self, value: Tensor, mask: Tensor, state: Int[Tensor, " B"], weight: Float[Tensor, " B"]
    ) -> dict[str, Tensor]:
        """Additive statistics of the numbers."""

    @property
    def _noise_columns(self) -> int:
        """How many standard normals a draw takes."""
        return len(self.numeric)

    # ------------------------------------------------------------------ hooks

    def _state(self, rows: int, context: Event | None) -> Int[Tensor, " B"]:
        return torch.zeros(rows, dtype=torch.long) if context is None else context.value.long()

    def _log_contexts(self, event: Event) -> Float[Tensor, "B K"]:
        total = torch.zeros(event.rows, self.classes, dtype=torch.float64)
        if len(self.category):
            total = total + self.leaves.log_prob(
                event.value[:, self.category], event.mask[:, self.category]
            ).sum(1)
        if len(self.numeric) and event.rows:
            total = total + self._log_numbers(
                event.value[:, self.numeric], event.mask[:, self.numeric]
            )
        return total

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._log_contexts(event).gather(1, self._state(event.rows, context)[:, None])[:, 0]

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), context, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        state = self._state(event.rows, context)
        codes = self.leaves.sample(state[:, None].expand(-1, len(self.category)), generator)
        noise = torch.randn(
            event.rows, self._noise_columns, generator=generator, dtype=torch.float64
        )
        return self._filled(event, state, codes, noise)

    def _mode(self, event: Event, context: Event | None) -> Event:
        state = self._state(event.rows, context)
        noise = torch.zeros(event.rows, self._noise_columns, dtype=torch.float64)
        return self._filled(event, state, self.leaves.modes().T[state], noise)

    def _filled(
        self, event: Event, state: Tensor, codes: Float[Tensor, "B C"], noise: Float[Tensor, "B _"]
    ) -> Event:
        """The event with its missing categories set to ``codes`` and its missing numbers made of
        ``noise``."""
        value = torch.zeros_like(event.value)
        value[:, self.category] = codes
        if len(self.numeric):
            numbers = self._fill(
                event.value[:, self.numeric], event.mask[:, self.numeric], state, noise
            )
            value[:, self.numeric] = self.lattice.snap(numbers)
        return Event(torch.where(event.mask, event.value, value))

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        state = self._state(event.rows, context)
        share = torch.nn.functional.one_hot(state, self.classes).double() * weight[:, None]
        share = share[:, None].expand(-1, len(self.category), -1)
        out = self.leaves.statistics(
            event.value[:, self.category], event.mask[:, self.category], share
        )
        out["log_prob"] = (weight * self._log_prob(event, context, None)).sum()
        if len(self.numeric):
            out |= self._moments(
                event.value[:, self.numeric], event.mask[:, self.numeric], state, weight
            )
        return out

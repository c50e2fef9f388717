r"""Clouds of points, each for itself: a baseline for whatever knows how points hang together.

    log p(x) = log p(n) + sum_{i = 1..n} sum_c log p(c_i) + log N(z_1, ..., z_n; 0, s^2)

n is the number of points, c_i the codes of a point (an element), z_i its numbers (a place). Where
numbers are told up to a translation the Gaussian is that of the n - 1 free directions, in an
orthonormal basis of the space of mean zero (E. Hoogeboom et al. (2022), Equivariant diffusion for
molecule generation in 3D, section 3.1). log p is that of the tuple in its order: neither the order
nor, about the mean, the place changes it. A count that was never seen has the share of one row
among all. In nats.

Shape letters: B rows, N capacity, F features of a point, K classes of the context.

>>> from conjoin.core import Block, Variable
>>> one = Variable("x", "real")
>>> space = Block("cloud", "points", (2, 1), (one,), centred=True)
>>> data = Event(torch.tensor([[[0.0], [2.0]], [[1.0], [5.0]]]))
>>> density = PointCloudDensity.build(space, PointCloud(), data, torch.Generator())
>>> moved = Event(torch.tensor([[[7.0], [5.0]]]))
>>> bool(density.log_prob(moved) == density.log_prob(data)[:1])
True
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.chemistry.atoms import symbols_of
from conjoin.core import Block, Capabilities, Config, Density, Event, Record, categorical
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float
from conjoin.families import resolve

__all__ = ["PointCloud", "PointCloudDensity"]


@dataclass(frozen=True)
class PointCloud(Config):
    """Settings of the baseline.

    Parameters
    ----------
    smoothing
        Rows that are added to each count and each code before shares are taken.
    """

    smoothing: float = 1.0

    def suited(self, space: Any) -> Config:
        """Atoms with their bonds have a family of their own."""
        found: Config = resolve("molecules") if symbols_of(space) else self
        return found


class PointCloudDensity(Density):
    """p(n), p(code) and one standard deviation for each number; from counts and moments."""

    config_class = PointCloud
    flat = False

    def __init__(
        self,
        space: Block,
        config: PointCloud,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        capacity = space.shape[0]
        self.codes = [d for d, variable in enumerate(space.variables) if variable.discrete]
        self.numbers = [d for d, variable in enumerate(space.variables) if not variable.discrete]
        self.count = nn.Parameter(torch.zeros(capacity + 1, dtype=torch.float64))
        self.shares = nn.ParameterList(
            torch.zeros(space.variables[d].cardinality, dtype=torch.float64) for d in self.codes
        )
        self.log_scale = nn.Parameter(torch.zeros(len(self.numbers), dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Block,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """Everything is learned by ``maximise``."""
        density = cls(space, config)
        density.maximise(density.statistics(data, weight=weight))
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        moved = {"translation"} if self.space.centred else set()
        return Capabilities(statistics=True, invariances=frozenset({"permutation", *moved}))

    def _free(self, count: Tensor) -> Tensor:
        """(B,) directions in which numbers can move."""
        return (count - 1).clamp_min(0) if self.space.centred else count

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        there = event.known.all(2)
        count = there.sum(1)
        out = self.count.log_softmax(0)[count]
        for d, shares in zip(self.codes, self.shares, strict=True):
            cell = shares.log_softmax(0)[event.value[..., d].long()]
            out = out + torch.where(there, cell, 0.0).sum(1)
        square = (event.value[..., self.numbers] * there[..., None]).square().sum(1)
        gauss = -0.5 * square * (-2 * self.log_scale).exp()
        free = self._free(count)[:, None] * (self.log_scale + 0.5 * LOG_2PI)
        return out + (gauss - free).sum(1)

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        capacity = self.space.shape[0]
        count = categorical(self.count.expand(n, -1), generator)
        there = torch.arange(capacity) < count[:, None]
        value = torch.zeros(n, capacity, len(self.space.variables), dtype=torch.float64)
        for d, shares in zip(self.codes, self.shares, strict=True):
            value[..., d] = categorical(shares.expand(n, capacity, -1), generator).double()
        size = (n, capacity, len(self.numbers))
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        value[..., self.numbers] = noise * self.log_scale.exp()
        cells = there[..., None].expand(value.shape)
        event = Event(value * cells, torch.ones_like(cells), there)
        drawn: Event = self.space.check(event)
        return drawn

    def _statistics(self, event: Event, context: Record, weight: Tensor) -> dict[str, Tensor]:
        there = event.known.all(2)
        count = there.sum(1)
        levels = len(self.count)
        square = (event.value[..., self.numbers] * there[..., None]).square().sum(1)
        mass = (weight[:, None] * there).flatten()
        codes = {
            f"code.{d}": torch.bincount(
                event.value[..., d].long().flatten(),
                weights=mass,
                minlength=self.space.variables[d].cardinality,
            )
            for d in self.codes
        }
        return codes | {
            "count": torch.bincount(count, weights=weight, minlength=levels),
            "square": (weight[:, None] * square).sum(0),
            "free": (weight * self._free(count)).sum()[None],
            "log_prob": (weight * self._log_prob(event, context, None)).sum(),
        }

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """One row in all for counts that were never seen; nothing is learned of an empty cloud's
        places."""
        prior = self.config.smoothing
        self.count.copy_((statistics["count"] + prior / len(self.count)).log())
        for d, shares in zip(self.codes, self.shares, strict=True):
            shares.copy_((statistics[f"code.{d}"] + prior / len(shares)).log())
        variance = (statistics["square"] + 1e-6) / (statistics["free"] + 1e-6)
        self.log_scale.copy_(0.5 * variance.log())

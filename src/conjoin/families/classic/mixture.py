r"""Mixture of mixed-type columns (latent class analysis).

    p(x) = sum_k pi_k prod_d p(x_d | k)

Expectation-maximisation: A. Dempster, N. Laird and D. Rubin (1977), Maximum likelihood from
incomplete data via the EM algorithm, section 4.3. Missing cells drop out of the product, so every
marginal and conditional is exact. Nats.

Shape letters: B rows, D variables, K components.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> MixtureDensity.build(space, Mixture(components=2), data, stream(0)).log_prob(data).shape
torch.Size([4])
"""

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.components.leaves import LeafLayer, LeafTable
from conjoin.core import (
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Space,
    Variable,
    categorical,
    stream,
)
from conjoin.core.shapes import Float

__all__ = ["Mixture", "MixtureDensity", "cluster", "counted"]

MIN_DISTINCT_SHARE = 0.5  # share of distinct rows from which a repeat counts as the same case

# levels of a category that has an indicator of each, and the directions that stand for more
MAX_LEVELS = 65
DIRECTIONS = 16
MAX_INDICATORS = 8192  # indicator columns; instead of more, ordered levels are numbers


@dataclass(frozen=True)
class Mixture(Config):
    """Settings of the mixture of independent columns.

    Parameters
    ----------
    components : int or None, default None
        Components; None takes them from the number of rows.
    smoothing : float, default 1.0
        Rows of prior for each component.
    """

    components: int | None = None
    smoothing: float = 1.0


class MixtureDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Mixture
    bounded = True
    many_levels = True

    def __init__(
        self,
        space: Space,
        config: Mixture,
        structure: dict[str, int] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        components = self.structure["components"]
        self.log_weight = nn.Parameter(torch.zeros(components, dtype=torch.float64))
        self.leaves = LeafLayer(space.variables, components, config.smoothing)

    @classmethod
    def build(
        cls,
        space: Space,
        config: Mixture,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        components = min(config.components or default_states(counted(data, weight)), data.rows)
        density = cls(space, config, {"components": components})
        density.leaves.start(data.value, data.mask, weight)
        share = weight[:, None] * cluster(data, space.variables, weight, components, generator)
        density.maximise(density._counts(density.leaves.table(data, by_series=True), share))
        return density

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="approximate",
            statistics=True,
        )

    def _joint(self, event: Event) -> Float[Tensor, "B K"]:
        """log p(what is known, k)."""
        return self.log_weight.log_softmax(0) + self.leaves.table(event).total()

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._joint(event).logsumexp(1)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        component = categorical(self.log_weight.expand(n, -1), generator)
        return Event(
            self.leaves.sample(component[:, None].expand(-1, len(self.space.variables)), generator)
        )

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        component = categorical(self._joint(event), generator)
        drawn = self.leaves.sample(
            component[:, None].expand_as(event.value), generator, event.within
        )
        return Event(torch.where(event.mask, event.value, drawn))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the components' own modes."""
        filled = torch.where(event.mask, event.value, self.leaves.modes().T[:, None])  # (K, B, D)
        log_prob = torch.stack([self._log_prob(Event(value), None, None) for value in filled])
        return Event(filled[log_prob.argmax(0), torch.arange(event.rows)])

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        table = self.leaves.table(event, by_series=True)
        joint = self.log_weight.log_softmax(0) + table.total()
        log_prob = joint.logsumexp(1)
        share = weight[:, None] * (joint - log_prob[:, None]).exp()
        return self._counts(table, share) | {"log_prob": (weight * log_prob).sum()}

    def _counts(self, table: LeafTable, share: Float[Tensor, "B K"]) -> dict[str, Tensor]:
        return self.leaves.statistics_of(table, table.shares(share)) | {"component": share.sum(0)}

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        smoothing = self.config.smoothing / len(self.log_weight)
        self.log_weight.copy_((statistics["component"] + smoothing).log().log_softmax(0))
        self.leaves.maximise(statistics)


def default_states(rows: int) -> int:
    """About one state for every thirty rows, between 1 and 32. ``rows``: see ``counted``."""
    return max(1, min(32, rows // 30))


def counted(data: Event, weight: Float[Tensor, " B"]) -> int:
    """How many rows there are to learn from: the distinct ones, as a row that occurs twice tells no
    more than once. Where most rows are repeats, as in tables of a few columns of few levels, a
    repeat is a case of its own, and all count."""
    total = round(float(weight.sum()))
    return data.rows if data.rows >= MIN_DISTINCT_SHARE * total else total


def cluster(
    event: Event,
    variables: tuple[Variable, ...],
    weight: Tensor,
    groups: int,
    generator: torch.Generator,
) -> Float[Tensor, "B K"]:
    """(B, K) a first assignment of rows to components: k-means on standardised numbers (many
    ordered levels too) and indicator columns."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    table = _features(event, variables, weight)
    rng = torch.randperm(event.rows, generator=generator)[:4096].sort().values.numpy()
    seed = int(torch.randint(0, 2**31 - 1, (), generator=generator))
    if groups == 1:
        return torch.ones(event.rows, 1, dtype=torch.float64)
    means = KMeans(groups, n_init=1, random_state=seed, max_iter=30)
    with warnings.catch_warnings():  # with fewer distinct rows than groups some stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(table[rng], sample_weight=weight.numpy()[rng])
    return torch.nn.functional.one_hot(
        torch.as_tensor(means.predict(table)).long(), groups
    ).double()


def _features(event: Event, variables: tuple[Variable, ...], weight: Tensor) -> np.ndarray:
    mass = weight[:, None] * event.mask
    mean = (mass * event.value).sum(0) / mass.sum(0).clamp_min(1e-300)
    scale = (
        ((mass * (event.value - mean) ** 2).sum(0) / mass.sum(0).clamp_min(1e-300))
        .sqrt()
        .clamp_min(1e-12)
    )
    columns = []
    wide = sum(variable.cardinality for variable in variables if variable.discrete) > MAX_INDICATORS
    for index, variable in enumerate(variables):
        seen = event.mask[:, index]
        if variable.kind == "category" and variable.cardinality > MAX_LEVELS:
            codes = event.value[:, index].long()
            columns.append(_directions(variable.cardinality)[codes] * seen[:, None])
        elif variable.discrete and not (wide and variable.kind == "ordered"):
            codes = event.value[:, index].long()
            columns.append(
                torch.nn.functional.one_hot(codes, variable.cardinality).double() * seen[:, None]
            )
        else:
            columns.append(
                torch.where(seen, (event.value[:, index] - mean[index]) / scale[index], 0.0).clamp(
                    -3, 3
                )[:, None]
            )
    return torch.cat(columns, 1).numpy()


def _directions(levels: int) -> Float[Tensor, "L 16"]:
    """A direction for each of many levels, at random and about as far from each other as indicators
    are (W. B. Johnson and J. Lindenstrauss (1984), Extensions of Lipschitz mappings)."""
    noise = torch.randn(levels, DIRECTIONS, generator=stream(0, "levels"), dtype=torch.float64)
    return noise / noise.norm(dim=1, keepdim=True)

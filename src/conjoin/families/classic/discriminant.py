r"""Linear and quadratic discriminant: a Gaussian for the numbers of each class, its categories
independent.

    p(x | y) = N(x_numbers; mu_y, Sigma_y) prod_{d categorical} p(x_d | y),
    Sigma_y = Sigma for the linear one

R. Fisher (1936), The use of multiple measurements in taxonomic problems; missing cells by the
expectation-maximisation of D. Rubin and R. Little (2002), Statistical analysis with missing data,
section 11.2. A number recorded to a precision w is a lattice point with mass w N(x): the sum over
the lattice is one (Poisson summation: within 0.2 % once sigma >= 0.6 w, which the covariance's
floor ensures). Nats. The marginal and the conditional of a Gaussian are Gaussian, so both are
exact.

Shape letters: B rows, D variables, N numeric, K classes, O observed numbers of one missing pattern,
M missing ones.

>>> from conjoin.core import Event, Space, Variable
>>> space = Space((2,), (Variable("height", "real"), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0.0, 0.1], [1.0, 0.9], [2.0, 2.2], [0.5, 0.4]]).double())
>>> model = DiscriminantDensity.build(space, Discriminant(), data, torch.Generator())
>>> model.maximise(model.statistics(data))
>>> known = Event(torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[True, False]]))
>>> bool(model.mode(known).value[0, 1] > 1)
True
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from conjoin.core import Config, Event, Space
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.classic.gaussian import GaussianClasses, missing_patterns

__all__ = ["Discriminant", "DiscriminantDensity"]


@dataclass(frozen=True)
class Discriminant(Config):
    """Settings of the discriminant analysis.

    Parameters
    ----------
    covariance : {"shared", "own"}, default "own"
        One covariance for all classes ("shared", linear) or one for each ("own", quadratic).
    shrinkage : float, default 1.0
        Rows with independent columns that each covariance starts with, for each column.
    """

    covariance: Literal["shared", "own"] = "own"
    shrinkage: float = 1.0


class DiscriminantDensity(GaussianClasses):
    """Gaussian numbers, independent categories, given the class."""

    config_class = Discriminant

    def __init__(
        self,
        space: Space,
        config: Discriminant,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        size = len(self.numeric)
        if size:
            covariances = 1 if config.covariance == "shared" else self.classes
            # Cholesky
            self.factor = nn.Parameter(
                torch.eye(size, dtype=torch.float64).repeat(covariances, 1, 1)
            )

    @classmethod
    def build(
        cls,
        space: Space,
        config: Discriminant,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Every class starts as independent columns with their own means and variances."""
        density = cls(space, config, context_space=context_space)
        density._start(
            data, torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        )
        if len(density.numeric):
            with torch.no_grad():
                density.factor.copy_(
                    torch.diag(density.variance_prior.sqrt()).expand_as(density.factor)
                )
        return density

    # ------------------------------------------------------------------ the Gaussian block

    def _covariance(self) -> Float[Tensor, "K N N"]:
        lower = self.factor.tril()
        return (lower @ lower.transpose(1, 2) + torch.diag(self._floor)).expand(
            self.classes, -1, -1
        )

    def _above_floor(self, covariance: Float[Tensor, "K N N"]) -> Float[Tensor, "K N N"]:
        """What of the best covariance lies above the floor: the eigenvalues of the lattice columns
        given the others, in units of the floor, are cut off at one (M. Tipping and C. Bishop
        (1999), Probabilistic PCA, appendix A)."""
        grid = (self.lattice.width > 0).nonzero()[:, 0]
        point = (self.lattice.width == 0).nonzero()[:, 0]
        cross = covariance[:, point][:, :, grid]
        explained = cross.transpose(1, 2) @ torch.linalg.solve(
            covariance[:, point][:, :, point], cross
        )
        unit = self._floor[grid].sqrt()
        value, vector = torch.linalg.eigh(
            (covariance[:, grid][:, :, grid] - explained) / (unit[:, None] * unit)
        )
        above = (
            vector
            @ ((value - 1).clamp_min(0)[..., None] * vector.transpose(1, 2))
            * (unit[:, None] * unit)
        )
        out = covariance.clone()
        out[:, grid[:, None], grid] = explained + above
        return out

    def _patterns(self, mask: Bool[Tensor, "B N"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows, observed and missing columns of each missing pattern."""
        which, patterns = missing_patterns(mask)
        for index, pattern in enumerate(patterns):
            yield (
                (which == index).nonzero()[:, 0],
                pattern.nonzero()[:, 0],
                (~pattern).nonzero()[:, 0],
            )

    def _log_numbers(
        self, value: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B K"]:
        covariance = self._covariance()
        volume = torch.where(self.lattice.width > 0, self.lattice.width, 1.0).log()
        parts = []
        order = []
        for rows, seen, _ in self._patterns(mask):
            factor = torch.linalg.cholesky(covariance[:, seen][:, :, seen])  # (K, O, O)
            apart = value[rows][:, seen] - self.mean[:, None, seen]  # (K, B, O)
            z = torch.linalg.solve_triangular(factor, apart.transpose(1, 2), upper=False)
            log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
            parts.append(
                (-0.5 * (z.square().sum(1) + len(seen) * LOG_2PI) - log_det[:, None]).T
                + volume[seen].sum()
            )
            order.append(rows)
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _complete(
        self, value: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"], state: Int[Tensor, " B"]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Per pattern and class: rows, their numbers with missing ones at the conditional mean, and
        its covariance."""
        covariance = self._covariance()
        for rows, seen, gone in self._patterns(mask):
            for k in state[rows].unique().tolist():
                mine = rows[state[rows] == k]
                full = value[mine].clone()
                # (O, M)
                gain = torch.linalg.solve(
                    covariance[k][seen][:, seen], covariance[k][seen][:, gone]
                )
                full[:, gone] = self.mean[k, gone] + (full[:, seen] - self.mean[k, seen]) @ gain
                left = covariance[k][gone][:, gone] - covariance[k][gone][:, seen] @ gain
                yield mine, torch.tensor(k), full, gone, left

    # ------------------------------------------------------------------ hooks

    def _fill(
        self, value: Tensor, mask: Tensor, state: Int[Tensor, " B"], noise: Float[Tensor, "B _"]
    ) -> Float[Tensor, "B N"]:
        out = value.clone()
        for rows, _, full, gone, left in self._complete(value, mask, state):
            # what snapping to the lattice will add
            rounding = self.lattice.width[gone].square() / 12
            factor = torch.linalg.cholesky(
                left - torch.diag(rounding) + 1e-12 * torch.eye(len(gone))
            )
            full[:, gone] += noise[rows][:, gone] @ factor.T
            out[rows] = full
        return out

    def _moments(
        self, value: Tensor, mask: Tensor, state: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        size = value.shape[1]
        count = torch.zeros(self.classes, dtype=torch.float64).index_add(0, state, weight)
        first = torch.zeros(self.classes, size, dtype=torch.float64)
        second = torch.zeros(self.classes, size, size, dtype=torch.float64)
        for rows, k, full, gone, left in self._complete(value, mask, state):
            w = weight[rows]
            first[k] += w @ full
            second[k] += (w[:, None] * full).T @ full
            second[k][gone[:, None], gone] += w.sum() * left
        return {"count": count, "first": first, "second": second}

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.leaves.maximise(statistics)
        if not len(self.numeric):
            return
        count = statistics["count"]
        mean = (statistics["first"] + 1e-2 * self.mean_prior) / (count + 1e-2)[:, None]
        cross = statistics["first"][:, :, None] * mean[:, None]
        scatter = (
            statistics["second"]
            - cross
            - cross.transpose(1, 2)
            + count[:, None, None] * mean[:, :, None] * mean[:, None]
        )
        if self.config.covariance == "shared":
            scatter = scatter.sum(0, keepdim=True)
            count = count.sum(0, keepdim=True)
        prior = self.config.shrinkage * 0.1 * len(self.numeric)
        covariance = (scatter + prior * torch.diag(self.variance_prior)) / (count + prior)[
            :, None, None
        ]
        self.mean.copy_(mean)
        above = self._above_floor(covariance)
        jitter = 1e-10 * torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
        self.factor.copy_(torch.linalg.cholesky(above + jitter))

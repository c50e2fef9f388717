r"""Factor analysis and probabilistic PCA: numbers that are moved by a few hidden factors, its
categories independent.

    x_numbers = W_y z + mu_y + e,      z ~ N(0, I),   e ~ N(0, Psi_y)
    Psi diagonal; sigma^2 I for probabilistic PCA
    p(x | y) = N(x_numbers; mu_y, W_y W_y' + Psi_y) prod_{d categorical} p(x_d | y)

Expectation-maximisation: D. Rubin and D. Thayer (1982), EM algorithms for ML factor analysis,
section 2; probabilistic PCA: M. Tipping and C. Bishop (1999), Probabilistic principal component
analysis, section 3. Only z is filled in, never x: given z the columns are independent, so that each
column is a regression on z over the rows in which it is known, and missing cells are exact. All
inverses are of q x q matrices (M. Woodbury (1950), Inverting modified matrices): with P = Psi^-1
over the known columns and M = I + W' P W,

    z | x ~ N(M^-1 W' P (x - mu), M^-1),    log|W W' + Psi| = log|Psi| + log|M|,
    (W W' + Psi)^-1 = P - P W M^-1 W' P

The variance of e has a floor: what a recorded number's rounding asks for (see ``gaussian``), and a
ten-thousandth of the column's own variance; probabilistic PCA adds it to sigma^2. Nats. Marginals
and conditionals of a Gaussian are Gaussian, so all are exact.

Shape letters: B rows, D variables, N numeric, q factors, K classes, P missing patterns.

>>> from conjoin.core import Event, Space, Variable
>>> space = Space((3,), tuple(Variable(name, "real") for name in "abc"))
>>> hidden = torch.linspace(-1, 1, 9).double()
>>> data = Event(torch.stack([hidden, 2 * hidden, -hidden], 1) + 0.1 * torch.eye(9, 3))
>>> model = FactorDensity.build(space, Factor(factors=1), data, torch.Generator())
>>> for _ in range(20):
...     model.maximise(model.statistics(data))
>>> known = Event(torch.tensor([[1.0, 0.0, 0.0]]).double(), torch.tensor([[True, False, False]]))
>>> bool(model.mode(known).value[0, 1] > 1), tuple(model.features(known).shape)
(True, (1, 1))
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Config, Event, Space
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.classic.gaussian import GaussianClasses, missing_patterns

__all__ = ["Factor", "FactorDensity"]

MIN_NOISE = 1e-4  # of a column's variance
PRIOR_ROWS = 1e-2  # rows of prior that each mean starts with
# steps of the maximisation over a shared noise, which has a closed form only where there is no
# floor
SHARED_NOISE_STEPS = 200


@dataclass(frozen=True)
class Factor(Config):
    """Settings of the factor analysis.

    Parameters
    ----------
    factors : int or None, default None
        Hidden numbers; None takes them from the numbers of rows and columns.
    noise : {"own", "shared"}, default "own"
        A variance for each column ("own", factor analysis) or one for all ("shared",
        probabilistic PCA, whose columns should be in comparable units).
    tie : bool, default False
        Whether all classes share the loadings W; means and noise stay their own.
    shrinkage : float, default 1.0
        Rows of independent columns that each class starts with.
    """

    factors: int | None = None
    noise: Literal["own", "shared"] = "own"
    tie: bool = False
    shrinkage: float = 1.0


class _Known(NamedTuple):
    """The known numbers of B rows."""

    x: Tensor  # (B, N) less their prior means; 0 where missing
    known: Tensor  # (B, N) 1 or 0
    which: Tensor  # (B,) the row's missing pattern
    patterns: Tensor  # (P, N) 1 or 0


class _Posterior(NamedTuple):
    """p(z | the known numbers, class) of B rows."""

    mean: Tensor  # (B, q)
    pull: Tensor  # (B, q) W' P (x - mu)
    precision: Tensor  # (P, q, q) Cholesky factor of M, for each pattern


class FactorDensity(GaussianClasses):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Factor

    def __init__(
        self,
        space: Space,
        config: Factor,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        size = len(self.numeric)
        factors = self.structure["factors"]
        if size:
            columns = size if config.noise == "own" else 1
            # W
            self.loading = nn.Parameter(
                torch.zeros(1 if config.tie else self.classes, size, factors, dtype=torch.float64)
            )
            # log of Psi, less the floor
            self.log_noise = nn.Parameter(torch.zeros(self.classes, columns, dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Space,
        config: Factor,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Starts from the principal axes of the rows within their classes."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        classes = context_space.variables[0].cardinality if context_space else 1
        numbers = sum(not v.discrete for v in space.variables)
        wanted = (
            default_factors(data.rows // classes, numbers)
            if config.factors is None
            else config.factors
        )
        if wanted < 1:
            raise ValueError(f"factors must be at least 1, got {config.factors}.")
        density = cls(space, config, {"factors": min(wanted, numbers)}, context_space)._start(
            data, weight
        )
        if numbers:
            label = (
                torch.where(context.mask, context.value, -1.0).long()
                if context
                else torch.zeros(data.rows, dtype=torch.long)
            )
            density._start_axes(
                data.value[:, density.numeric],
                weight[:, None] * data.mask[:, density.numeric],
                label,
            )
        return density

    def _start_axes(
        self, value: Float[Tensor, "B N"], weight: Float[Tensor, "B N"], label: Int[Tensor, " B"]
    ) -> None:
        """W = U (L - s I)^(1/2), with U and L the leading principal axes in units of the columns,
        and s the mean of the other eigenvalues (Tipping and Bishop (1999), equations 7 and 8)."""
        scale = self.variance_prior.sqrt()
        factors = self.loading.shape[-1]
        apart = torch.where(weight > 0, (value - self.mean_prior) / scale, 0.0)
        for k in label.unique():
            mine = label == k
            apart[mine] -= (weight[mine] * apart[mine]).sum(0) / weight[mine].sum(0).clamp_min(
                1e-300
            )
        apart = apart * weight.sqrt()
        power, axes = torch.linalg.eigh(apart.T @ apart / weight.sum(0).max().clamp_min(1e-300))
        rest = power[:-factors].mean() if factors < len(power) else torch.zeros(()).double()
        rest, strength = rest.clamp_min(0.05), (power[-factors:] - rest).clamp_min(0.01)
        with torch.no_grad():
            self.loading.copy_(scale[:, None] * axes[:, -factors:] * strength.sqrt())
            noise = (rest * self.variance_prior).log()
            self.log_noise.copy_(noise if self.config.noise == "own" else noise.mean())

    @property
    def capabilities(self) -> Capabilities:
        numbers = bool(len(self.numeric))
        return dataclasses.replace(
            super().capabilities,
            features=numbers and self.context_space is None,
            differentiable=True,
        )

    # ------------------------------------------------------------------ the Gaussian block

    @property
    def _floor(self) -> Float[Tensor, " N"]:
        return torch.maximum(super()._floor, MIN_NOISE * self.variance_prior)

    @property
    def _noise_columns(self) -> int:
        """One for each number's e, and one for each factor."""
        return len(self.numeric) + self.structure["factors"] if len(self.numeric) else 0

    def _noise(self) -> Float[Tensor, "K N"]:
        """The diagonal of Psi."""
        return self._floor + self.log_noise.exp()

    def _loadings(self) -> Float[Tensor, "K N q"]:
        return self.loading.expand(self.classes, -1, -1)

    def _known(self, value: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> _Known:
        which, patterns = missing_patterns(mask)
        return _Known(
            torch.where(mask, value - self.mean_prior, 0.0), mask.double(), which, patterns.double()
        )

    def _posterior(self, rows: _Known, k: int) -> _Posterior:
        """p(z | x, y = k)."""
        precision = 1 / self._noise()[k]
        loading = self._loadings()[k]
        weighted = precision[:, None] * loading
        size = loading.shape[1]
        inner = (rows.patterns @ (weighted[:, :, None] * loading[:, None]).flatten(1)).unflatten(
            1, (size, size)
        )
        factor = torch.linalg.cholesky(torch.eye(size, dtype=torch.float64) + inner)
        pull = rows.x @ weighted - rows.known @ (
            (self.mean[k] - self.mean_prior)[:, None] * weighted
        )
        mean = (torch.cholesky_inverse(factor)[rows.which] @ pull[..., None])[..., 0]
        return _Posterior(mean, pull, factor)

    def _log_numbers(
        self, value: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B K"]:
        rows = self._known(value, mask)
        noise = self._noise()
        centre = self.mean - self.mean_prior
        volume = torch.where(self.lattice.width > 0, self.lattice.width, 1.0).log()
        far = (
            rows.x.square() @ (1 / noise).T
            - rows.x @ (2 * centre / noise).T
            + rows.known @ (centre.square() / noise).T
        )
        scale = rows.known @ (volume - 0.5 * (noise.log() + LOG_2PI)).T
        return scale - 0.5 * (
            far - torch.stack([self._explained(rows, k) for k in range(self.classes)], 1)
        )

    def _explained(self, rows: _Known, k: int) -> Float[Tensor, " B"]:
        """How much nearer the factors bring a row, (x - mu)' P W M^-1 W' P (x - mu), less
        log|M|."""
        posterior = self._posterior(rows, k)
        log_det = 2 * posterior.precision.diagonal(dim1=1, dim2=2).log().sum(1)
        return (posterior.pull * posterior.mean).sum(1) - log_det[rows.which]

    def _fill(
        self, value: Tensor, mask: Tensor, state: Int[Tensor, " B"], noise: Float[Tensor, "B _"]
    ) -> Float[Tensor, "B N"]:
        out = value.clone()
        spread = (
            self._noise() - self.lattice.width.square() / 12
        ).sqrt()  # snapping to the lattice will add the rest
        for k in state.unique().tolist():
            mine = (state == k).nonzero()[:, 0]
            rows = self._known(value[mine], mask[mine])
            posterior = self._posterior(rows, k)
            loading = self._loadings()[k]
            own, hidden = noise[mine].split(list(loading.shape), 1)
            # M = L L': L'^-1 noise has the covariance M^-1
            root = torch.linalg.inv(posterior.precision)[rows.which]
            z = posterior.mean + (root.transpose(1, 2) @ hidden[..., None])[..., 0]
            out[mine] = self.mean[k] + z @ loading.T + spread[k] * own
        return torch.where(mask, value, out)

    # ------------------------------------------------------------------ learning

    def _moments(
        self, value: Tensor, mask: Tensor, state: Int[Tensor, " B"], weight: Float[Tensor, " B"]
    ) -> dict[str, Tensor]:
        """Per class, of z: 1, E z, E z z'. Per class and column, over the rows in which it is
        known: 1, x, x^2, E z, x E z, E z z'. (x is less its prior mean.)"""
        parts = []
        for k in range(self.classes):
            mine = ((state == k) & (weight > 0)).nonzero()[:, 0]
            parts.append(self._class_moments(self._known(value[mine], mask[mine]), weight[mine], k))
        return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}

    def _class_moments(
        self, rows: _Known, weight: Float[Tensor, " B"], k: int
    ) -> dict[str, Tensor]:
        posterior = self._posterior(rows, k)
        z = posterior.mean
        mass = weight[:, None] * rows.known
        size = posterior.mean.shape[1]
        square = (
            z[:, :, None] * z[:, None] + torch.cholesky_inverse(posterior.precision)[rows.which]
        ).flatten(1)
        return {
            "rows": weight.sum(),
            "centre": weight @ z,
            "spread": (weight @ square).unflatten(0, (size, size)),
            "count": mass.sum(0),
            "first": (mass * rows.x).sum(0),
            "second": (mass * rows.x.square()).sum(0),
            "z": mass.T @ z,
            "cross": (mass * rows.x).T @ z,
            "square": (mass.T @ square).unflatten(1, (size, size)),
        }

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """Each column's regression on z, with the intercept taken out first; W, then Psi given W
        (with ``tie`` they are maximised one after the other: X. Meng and D. Rubin (1993), Maximum
        likelihood estimation via the ECM algorithm)."""
        self.leaves.maximise(statistics)
        if not len(self.numeric):
            return
        count, first, second, z, cross, square = (
            statistics[key] for key in ("count", "first", "second", "z", "cross", "square")
        )
        rows = (count + PRIOR_ROWS)[..., None]
        square = square - z[..., None] * z[..., None, :] / rows[..., None] + self._ridge()
        cross = cross - z * first[..., None] / rows
        self.loading.copy_(self._regression(square, cross))
        loading = self._loadings()
        scatter = (
            second
            - first.square() / rows[..., 0]
            + (loading * ((square @ loading[..., None])[..., 0] - 2 * cross)).sum(-1)
        )
        prior = self.config.shrinkage
        self._set_noise(count + prior, scatter.clamp_min(0) + prior * self.variance_prior)
        centre = statistics["centre"] / statistics["rows"].clamp_min(1e-300)[:, None]
        intercept = (first - (loading * z).sum(-1)) / rows[..., 0]
        self.mean.copy_(self.mean_prior + intercept + (loading @ centre[..., None])[..., 0])
        self.loading.copy_(
            self.loading @ self._root(statistics["rows"], statistics["spread"], centre)
        )

    def _root(
        self,
        rows: Float[Tensor, " K"],
        spread: Float[Tensor, "K q q"],
        centre: Float[Tensor, "K q"],
    ) -> Float[Tensor, "_ q q"]:
        """R^(1/2) of the best z ~ N(centre, R). That z is standard is imposed by moving its mean
        into mu and this root into W: else both would crawl where Psi is small (C. Liu, D. Rubin and
        Y. Wu (1998), Parameter expansion to accelerate EM, section 4). With S the scatter of z and
        G = W' Psi^-1 W, a prior that draws W to zero asks for r R G R + n R = S."""
        scatter = spread - rows[:, None, None] * centre[..., None] * centre[:, None]
        loading = self._loadings()
        pull = self._ridge() @ loading.transpose(1, 2) @ (loading / self._noise()[..., None])
        if self.config.tie:
            rows, scatter, pull = (part.sum(0, keepdim=True) for part in (rows, scatter, pull))
        lower = torch.linalg.cholesky(scatter + 1e-9 * torch.eye(scatter.shape[1]).double())
        power, axes = torch.linalg.eigh(lower.transpose(1, 2) @ pull @ lower)
        count = rows[:, None].clamp_min(1e-9)
        half = (
            lower
            @ axes
            * (2 / (count + (count.square() + 4 * power.clamp_min(0)).sqrt())).sqrt()[:, None]
        )
        value, vector = torch.linalg.eigh(half @ half.transpose(1, 2))
        return vector @ (value.clamp_min(0).sqrt()[..., None] * vector.transpose(1, 2))

    def _ridge(self) -> Float[Tensor, "q q"]:
        """Rows of prior in which z explains nothing: W starts at zero."""
        return (self.config.shrinkage + 1e-9) * torch.eye(
            self.structure["factors"], dtype=torch.float64
        )

    def _regression(
        self, square: Float[Tensor, "K N q q"], cross: Float[Tensor, "K N q"]
    ) -> Float[Tensor, "_ N q"]:
        if self.config.tie:  # classes pool their rows, by the precision of each
            precision = 1 / self._noise()[..., None]
            square = (square * precision[..., None]).sum(0, keepdim=True)
            cross = (cross * precision).sum(0, keepdim=True)
        return torch.cholesky_solve(cross[..., None], torch.linalg.cholesky(square))[..., 0]

    def _set_noise(self, count: Float[Tensor, "K N"], scatter: Float[Tensor, "K N"]) -> None:
        """The maximiser of -1/2 sum_d (count_d log psi_d + scatter_d / psi_d). For one variance s
        above floors f it is climbed by EM, with the part of e that s accounts for as what is
        missing: E[e_s^2] = (s / (s + f))^2 e^2 + s f / (s + f)."""
        tiny = 1e-9 * self._floor
        if self.config.noise == "own":
            self.log_noise.copy_((scatter / count - self._floor).maximum(tiny).log())
            return
        level = self.log_noise.exp()
        for _ in range(SHARED_NOISE_STEPS):
            share = level / (level + self._floor)
            level = (share.square() * scatter + count * share * self._floor).sum(
                1, keepdim=True
            ) / count.sum(1, keepdim=True)
        self.log_noise.copy_(level.maximum(tiny.min()).log())

    # ------------------------------------------------------------------ what the factors say

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        """E[z | x], class by class."""
        rows = self._known(event.value[:, self.numeric], event.mask[:, self.numeric])
        return torch.cat([self._posterior(rows, k).mean for k in range(self.classes)], 1)


def default_factors(rows: int, columns: int) -> int:
    """Half as many as there are columns, at most 32, and fewer where a class has few rows."""
    return max(1, min(32, math.isqrt(max(rows, 0)) // 2, (columns + 1) // 2))

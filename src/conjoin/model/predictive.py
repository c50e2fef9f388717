r"""The whole distribution of a number y given x, from any joint model: log p, quantiles, draws,
CRPS.

Evaluated on a grid of candidate values and normalised there; between grid points the distribution
function is linear, so quantiles are approximate to the grid's step while ``Joint.log_prob`` stays
what the model says.

CRPS(F, y) = integral (F(t) - [t >= y])^2 dt: T. Gneiting and A. Raftery (2007), Strictly proper
scoring rules, equation 20.

Shape letters: B rows, G grid points, Q quantile levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.core.shapes import Float
from conjoin.joints.base import Joint

__all__ = ["Predictive", "grid_for", "predictive"]


@dataclass(frozen=True)
class Predictive:
    """p(y | x) of B rows, as the distribution function on a grid (event units)."""

    points: Float[Tensor, " G"]
    cdf: Float[Tensor, "B G"]

    def quantile(self, levels: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """Linear interpolation between grid points."""
        right = torch.searchsorted(self.cdf, levels.contiguous()).clamp(1, len(self.points) - 1)
        low = self.cdf.gather(1, right - 1)
        high = self.cdf.gather(1, right)
        share = ((levels - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
        return torch.lerp(self.points[right - 1], self.points[right], share)

    def level(self, y: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """F(y | x): uniform if the model is right."""
        right = torch.searchsorted(self.points, y.contiguous()).clamp(1, len(self.points) - 1)
        share = (
            (y - self.points[right - 1]) / (self.points[right] - self.points[right - 1])
        ).clamp(0, 1)
        return torch.lerp(
            self.cdf.gather(1, right[:, None] - 1)[:, 0],
            self.cdf.gather(1, right[:, None])[:, 0],
            share,
        )

    def between(self, low: Float[Tensor, " B"], high: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The mass between two ends, which may be infinite."""
        return self.level(high) - self.level(low)

    def within(
        self, low: Float[Tensor, " B"], high: Float[Tensor, " B"], share: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q"]:
        """Where such shares of the mass between two ends lie below."""
        least = self.level(low)[:, None]
        return self.quantile(least + (self.level(high)[:, None] - least) * share)

    def mean(self) -> Float[Tensor, " B"]:
        middle = (self.points[1:] + self.points[:-1]) / 2
        return (self.cdf.diff(dim=1) * middle).sum(1)

    def median(self) -> Float[Tensor, " B"]:
        return self.quantile(torch.full((len(self.cdf), 1), 0.5, dtype=self.cdf.dtype))[:, 0]

    def crps(self, y: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Event units; smaller is better."""
        step = (self.points[None] >= y[:, None]).to(self.cdf)
        inside = torch.trapezoid((self.cdf - step).square(), self.points, dim=1)
        return inside + (y - self.points[-1]).clamp_min(0) + (self.points[0] - y).clamp_min(0)

    def sample(self, n: int, generator: torch.Generator | None) -> Float[Tensor, "B n"]:
        return self.quantile(
            torch.rand(len(self.cdf), n, generator=generator, dtype=self.cdf.dtype)
        )


def grid_for(joint: Joint, y: Event, points: int = 257) -> Float[Tensor, " G"]:
    """Candidate values: quantiles of the known y, thinned, between ends that leave room beyond
    them; those of a recorded precision lie where y can lie."""
    known = y.value[y.mask]
    width = joint.target.resolution or 0.0
    origin = joint.target.origin if width else 0.0
    low = float(known.min())
    high = float(known.max())
    room = max(0.25 * (high - low), 3 * width, 1e-3)
    even = torch.linspace(low - room, high + room, points, dtype=torch.float64)
    grid = torch.cat([even, known.quantile(torch.linspace(0, 1, points // 2, dtype=torch.float64))])
    step = (high - low + 2 * room) / (4 * points)
    step = max(1, round(step / width)) * width if width else step
    return torch.unique(torch.round((grid - origin) / step)) * step + origin


def predictive(
    joint: Joint, x: Event, grid: Float[Tensor, " G"], direct: bool = False
) -> Predictive:
    """p(y | x) of a joint whose y is a number; ``direct``: without log p(x), which cancels, in rows
    that a predictor beside p(x) covers."""
    predictor = joint.separate_predictor if direct else None
    if predictor is None:
        log_density = joint.log_joint(x, grid)
    else:
        log_density = predictor.log_prob(x, grid.expand(x.rows, -1))
        left = (~predictor.covers(x)).nonzero()[:, 0]
        if len(left):
            found = joint.log_joint(x.take(left), grid)
            log_density = log_density.index_copy(0, left, found)
    density = (log_density - log_density.amax(1, keepdim=True)).exp()
    mass = torch.cumulative_trapezoid(density, grid, dim=1)
    cdf = torch.nn.functional.pad(mass, (1, 0))
    return Predictive(grid, cdf / cdf[:, -1:].clamp_min(1e-300))

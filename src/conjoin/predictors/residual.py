"""p(y | x) of numbers: a point, and around it the distribution of its held-out errors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.components.intervals import log_mass
from conjoin.core import Event, Pair, categorical
from conjoin.core.constants import LOG_2PI
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.hybrid import Predictor
from conjoin.predictors.base import Scorer

__all__ = ["Residual"]

TAIL_WIDTHS = (1.0, 3.0, 10.0)  # widths, in deviations, of the wide components of errors
TAIL_WEIGHT = 0.01
MIN_TABLE_CANDIDATES = 32  # candidates from which a table is quicker
KEPT_QUANTILES = 64  # of the held-out errors that are kept
MAX_BINS = 10  # of the point prediction, by which those errors are scaled
MIN_BIN_ROWS = 40  # held-out rows of each such bin


class Residual(Predictor):
    """p(y | x) for numbers: a point f(x) and the smoothed distribution of held-out errors around
    it.

    Errors are measured in units of s(f), their mean size where the point is about f, so that a
    predictor may be surer of small numbers than of large ones; a little of the weight lies on wide
    components, for errors never met. With a recorded precision ``width`` the value is a cell's
    mass, else a density."""

    residuals: Tensor
    bandwidth: Tensor
    log_weight: Tensor
    knots: Tensor
    sizes: Tensor

    def __init__(self, scorer: Scorer, count: int, bins: int, width: float = 0.0) -> None:
        super().__init__()
        self.scorer = scorer
        self.width = width
        self.register_buffer("residuals", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("bandwidth", torch.ones(count, dtype=torch.float64))
        weight = torch.full(
            (count,),
            (1 - len(TAIL_WIDTHS) * TAIL_WEIGHT) / (count - len(TAIL_WIDTHS)),
            dtype=torch.float64,
        )
        weight[-len(TAIL_WIDTHS) :] = TAIL_WEIGHT
        self.register_buffer("log_weight", weight.log(), persistent=False)
        self.register_buffer("knots", torch.arange(bins, dtype=torch.float64))  # values of f
        self.register_buffer("sizes", torch.ones(bins, dtype=torch.float64))  # s(f) there

    @on_device
    def fit(self, point: Tensor, y: Tensor) -> "Residual":
        """Mean error by bins of the point, then quantiles of the scaled errors, smoothed by
        Silverman's rule (B. Silverman (1986), Density estimation, equation 3.31)."""
        errors = y - point
        order = point.argsort()
        for place, rows in enumerate(order.tensor_split(len(self.knots))):
            self.knots[place] = point[rows].mean()
            self.sizes[place] = (
                errors[rows].abs().mean().clamp_min(1e-3 * errors.abs().mean() + 1e-9)
            )
        scaled = errors / self._size(point)
        kernels = len(self.residuals) - len(TAIL_WIDTHS)
        self.residuals[:kernels] = scaled.quantile(
            (torch.arange(kernels, dtype=torch.float64) + 0.5) / kernels
        )
        self.residuals[kernels:] = scaled.median()
        deviation = float(scaled.std(unbiased=False)) or 1.0
        spread = min(
            deviation, float(scaled.quantile(0.75) - scaled.quantile(0.25)) / 1.34 or deviation
        )
        self.bandwidth[:kernels] = max(0.9 * spread * len(errors) ** -0.2, 1e-3)
        self.bandwidth[kernels:] = deviation * torch.tensor(TAIL_WIDTHS, dtype=torch.float64)
        return self

    def _size(self, point: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """s(f), linear between the knots and constant beyond them."""
        if len(self.knots) == 1:
            return self.sizes.expand(len(point))
        right = torch.searchsorted(self.knots, point.contiguous()).clamp(1, len(self.knots) - 1)
        low = self.knots[right - 1]
        high = self.knots[right]
        share = ((point - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return torch.lerp(self.sizes[right - 1], self.sizes[right], share)

    @on_device
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.log_prob_about(self.scorer.scores(x), y)

    @on_device
    def log_prob_about(
        self, point: Float[Tensor, "B 1"], y: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B K"]:
        """log p of candidates, where f(x) is ``point``."""
        size = self._size(point[:, 0])[:, None]
        error = (y - point) / size
        half = self.width / 2 / size
        if y.shape[1] > MIN_TABLE_CANDIDATES and not torch.is_grad_enabled():
            return self._log_prob_by_table(error, half) - (0.0 if self.width else size.log())
        if self.width:
            apart = error[..., None] - self.residuals
            parts = log_mass(
                (apart - half[..., None]) / self.bandwidth,
                (apart + half[..., None]) / self.bandwidth,
            )
            return (parts + self.log_weight).logsumexp(-1)
        return self._log_density(error) - size.log()

    def _log_density(self, error: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Of a scaled error."""
        z = (error[..., None] - self.residuals) / self.bandwidth
        return (self.log_weight - 0.5 * (z.square() + LOG_2PI) - self.bandwidth.log()).logsumexp(-1)

    def _log_prob_by_table(
        self, error: Float[Tensor, "B K"], half: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B K"]:
        """The same to about 1e-3, for many candidates: the mixture is tabulated once and
        interpolated."""
        knots = 1e-2 * torch.sinh(
            torch.linspace(-12, 12, 4001, dtype=torch.float64)
        )  # dense near zero, up to 800
        density = self._log_density(knots)

        def look_up(at: Tensor, table: Tensor) -> Tensor:
            places, grid, values = (each.cpu().numpy() for each in (at, knots, table))
            return torch.as_tensor(np.interp(places, grid, values))

        if not self.width:
            return look_up(error, density)
        cdf = (
            torch.special.ndtr((knots[:, None] - self.residuals) / self.bandwidth)
            @ self.log_weight.exp()
        )
        mass = look_up(error + half, cdf) - look_up(error - half, cdf)
        return torch.where(
            mass > 1e-9, mass.clamp_min(1e-300).log(), look_up(error, density) + (2 * half).log()
        )

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self.scorer.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        point = self.scorer.scores(x)[:, 0]
        if generator is None:
            return point + self._size(point) * self.residuals.median()
        pick = categorical(self.log_weight.expand(x.rows, -1), generator)
        noise = self.bandwidth[pick] * torch.randn(x.rows, generator=generator, dtype=torch.float64)
        return point + self._size(point) * (self.residuals[pick] + noise)

    @classmethod
    def calibrated(cls, scorer: Scorer, held: Pair, width: float) -> "Residual":
        """With the errors of rows that the scorer has not seen."""
        with torch.no_grad():
            return cls.around(scorer, scorer.scores(held.x)[:, 0], held.y.value, width)

    @classmethod
    def around(cls, scorer: Scorer, point: Tensor, y: Tensor, width: float) -> "Residual":
        """With the errors of (B,) points, told of rows that the scorer has not seen."""
        bins = max(1, min(MAX_BINS, len(y) // MIN_BIN_ROWS))
        return cls(scorer, KEPT_QUANTILES, bins, width).fit(point, y)

    def describe(self) -> dict[str, Any]:
        residual = {
            "count": len(self.residuals),
            "bins": len(self.knots),
            "width": self.width,
        }
        return self.scorer.describe() | {"residual": residual}

r"""How typical a row is by several readings of it at once: the least of their standings, each under
a Gaussian of its own.

    t_i(x) = -|L_i^-1 (r_i(x) - mu_i)|^2,
    typicality(x) = min_i (t_i(x) - median_i) / (median_i - quantile_i(.05))

r_i are readings of a row, such as the features of a network or the errors of a denoiser, rotated to
their principal axes and scaled to variance 1 (K. Lee et al. (2018), A simple unified framework for
detecting out-of-distribution samples, equation 2, with one Gaussian for all classes). log p(x)
itself is no such measure for pictures: simple ones are more probable than typical ones (E.
Nalisnick et al. (2019), Do deep generative models know what they don't know?, section 3). A row
counts as foreign by its worst reading. No unit.

Shape letters: B rows, P numbers of a reading, K axes kept.

>>> from conjoin.core import stream
>>> readings = [torch.randn(500, 4, generator=stream(0), dtype=torch.float64)]
>>> typicality = Typicality((4,), (4,)).fit(readings)
>>> bool(typicality([readings[0] + 9]).max() < typicality(readings).median())
True
"""

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float

__all__ = ["KEPT_AXES", "MIN_TYPICALITY_ROWS", "Typicality"]

MIN_TYPICALITY_ROWS = 8  # fewer can't tell what is typical
KEPT_AXES = 48  # principal axes of a reading that tells of hidden states, by which rows are usual
SHRINKAGE = 1e-2  # of a covariance towards a multiple of the identity
LOW_QUANTILE = 0.05  # of the statistic, whose distance to the median is its spread
MIN_SCALE = 1e-6  # deviation of a number of a reading, at least
ROUNDING = 1e-5  # of a number, as a share of it


class _Reading(nn.Module):
    """A Gaussian on the principal axes of one reading, and what is usual under it."""

    centre: Tensor
    scale: Tensor
    axes: Tensor
    mean: Tensor
    whiten: Tensor
    usual: Tensor

    def __init__(self, size: int, kept: int) -> None:
        super().__init__()
        shapes = {
            "centre": (size,),
            "scale": (size,),
            "axes": (size, kept),
            "mean": (kept,),
            "whiten": (kept, kept),
            "usual": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape, dtype=torch.float64))

    def forward(self, reading: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """0 for a row like all others, where a reading was the same of all."""
        raw = self._raw(reading)
        out = (raw - self.usual[0]) / (self.usual[0] - self.usual[1]).clamp_min(1e-9)
        if bool((self.scale > MIN_SCALE).any()):
            return out
        near = (reading - self.centre).abs() <= ROUNDING * (1 + self.centre.abs())
        return out.masked_fill(near.all(1), 0.0)

    def _raw(self, reading: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        along = ((reading - self.centre) / self.scale) @ self.axes
        return -((along - self.mean) @ self.whiten).square().sum(1)

    def fit(self, reading: Float[Tensor, "B P"]) -> None:
        """Axes and the Gaussian from two thirds of the rows, what is usual from the last third."""
        learn = reading[: 2 * len(reading) // 3]
        judge = reading[2 * len(reading) // 3 :]
        self.centre.copy_(learn.mean(0))
        self.scale.copy_(learn.std(0, unbiased=False).clamp_min(MIN_SCALE))
        _, _, rotation = torch.linalg.svd((learn - self.centre) / self.scale, full_matrices=False)
        kept = min(self.axes.shape[1], len(rotation))
        self.axes.zero_()[:, :kept] = rotation[:kept].T
        along = ((learn - self.centre) / self.scale) @ self.axes
        spread = torch.cov(along.T).reshape(len(self.mean), -1)
        spread = spread + SHRINKAGE * spread.diagonal().mean().clamp_min(1e-9) * torch.eye(
            len(spread), dtype=torch.float64
        )
        self.mean.copy_(along.mean(0))
        self.whiten.copy_(torch.linalg.inv(torch.linalg.cholesky(spread)).T)
        raw = self._raw(judge)
        self.usual.copy_(torch.stack([raw.median(), raw.quantile(LOW_QUANTILE)]))


class Typicality(nn.Module):
    """Readings of ``sizes`` P, of whose principal axes ``kept`` K are used."""

    def __init__(self, sizes: tuple[int, ...], kept: tuple[int, ...]) -> None:
        super().__init__()
        self.readings = nn.ModuleList(
            _Reading(size, min(size, axes)) for size, axes in zip(sizes, kept, strict=True)
        )

    @torch.no_grad()
    def fit(self, readings: list[Tensor]) -> "Typicality":
        """From readings (B, P) of the same rows."""
        for part, reading in zip(self.readings, readings, strict=True):
            part.fit(reading)  # type: ignore[operator]
        return self

    def forward(self, readings: list[Tensor]) -> Float[Tensor, " B"]:
        """(B,): 0 for the middle of the rows of the fit, under -1 for one in twenty of them, by any
        reading."""
        return torch.stack(
            [part(reading) for part, reading in zip(self.readings, readings, strict=True)], 1
        ).amin(1)

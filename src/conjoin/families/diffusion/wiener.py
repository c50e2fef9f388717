r"""Noise taken off by the pixels' means and covariances alone, which a network then corrects.

    x ~ N(m, C),  C = U diag(l) U^T + r (1 - U U^T),   z = x + s e
    E[x | z] = m + C (C + s^2)^-1 (z - m)
             = m + r / (r + s^2) (z - m) + U (l / (l + s^2) - r / (r + s^2)) U^T (z - m)
    E |x - E[x | z]|^2 / D = (sum_k l_k s^2 / (l_k + s^2) + (D - R) r s^2 / (r + s^2)) / D

N. Wiener (1949), Extrapolation, interpolation, and smoothing of stationary time series, chapter 3;
m, U, l and r are those of M. Tipping and C. Bishop (1999), Probabilistic principal component
analysis, equation 8. Of pictures whose class is told m is the class's own, and goes on learning.
Few pictures tell no covariance: then C = 1 and m = 0, under which this is the preconditioning of T.
Karras et al. (2022), Elucidating the design space of diffusion-based generative models, table 1.
Sums are in float64, so that an answer in float32 does not depend on its batch. No nats here:
``picture`` makes them.

Shape letters: B rows, D = C H W pixels, R principal axes, K classes.

>>> plain = Wiener((1, 2, 2), 1, 0)
>>> z = torch.full((1, 1, 2, 2), 3.0)
>>> plain.estimate(z, torch.ones(1), None).unique().item(), plain.error(torch.ones(1)).item()
(1.5, 0.5)
"""

import math

import torch
from torch import Tensor, nn

from conjoin.core.random import stream
from conjoin.core.shapes import Float

__all__ = ["Wiener", "axes_of"]

MIN_ROWS = 256  # of which means and covariances are taken; of fewer pictures none
ROWS_PER_AXIS = 8  # at least
MAX_AXIS_NUMBERS = 1 << 20  # R D, at most
PRIOR_ROWS = 16  # pictures of no class, as which the mean of a class begins
# pixels or rows, up to which all axes are found to keep the first ones; a share of the axes that is
# kept, up to which the first ones alone are sought among more
MAX_WHOLE = 2048
MAX_SOUGHT_SHARE = 0.25
MORE_AXES = 1.25  # times as many directions as axes are sought
POWERS = 6  # by which what is far from the first axes is made small


def axes_of(grid: tuple[int, int, int], most: int) -> int:
    """How many principal axes of such pictures are kept."""
    if most < 0:
        raise ValueError(f"axes must be at least 0, got {most!r}.")
    pixels = math.prod(grid)
    return min(most, pixels - 1, MAX_AXIS_NUMBERS // pixels)


class Wiener(nn.Module):
    """The Gaussian of pictures on a ``grid`` (C, H, W), with so many principal axes; standard until
    ``start``. ``offsets``: how far the means of the classes, and last of none, are from that of
    all."""

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, grid: tuple[int, int, int], axes: int, classes: int) -> None:
        super().__init__()
        pixels = math.prod(grid)
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("axes", torch.zeros(pixels, axes))
        self.register_buffer("variances", torch.ones(axes))
        self.register_buffer("rest", torch.ones(()))
        self.offsets = nn.Parameter(torch.zeros(classes + 1, pixels)) if classes else None

    @torch.no_grad()
    def start(
        self, pictures: Float[Tensor, "B C H W"], code: Float[Tensor, " B"] | None, least: float
    ) -> None:
        """By pictures and their classes, unless they are few. ``least``: the smallest variance."""
        x = pictures.double().flatten(1)
        rows, pixels = x.shape
        if rows < MIN_ROWS:
            return
        known = min(len(self.variances), rows // ROWS_PER_AXIS)
        mean = x.mean(0)
        variances, axes = _principal(x - mean, known)
        rest = ((x - mean).square().sum() / rows - variances.sum()) / (pixels - known)
        rest = rest.clamp_min(least)
        self.mean.copy_(mean)
        self.rest.copy_(rest)
        # axes that the rows are too few for are as the rest
        self.variances.copy_(rest.expand_as(self.variances))
        self.variances[:known] = variances.clamp_min(rest).to(self.variances)
        self.axes[:, :known] = axes.to(self.axes)
        if self.offsets is None or code is None:
            return
        for each in range(len(self.offsets) - 1):
            own = x[code == each] - mean
            self.offsets[each] = own.sum(0) / (len(own) + PRIOR_ROWS)

    def estimate(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]:
        """E[x | z], or where classes are told E[x | z, class]."""
        apart, variance, mean = self._apart(z, s, code)
        rest = self.rest.double() / (self.rest + variance)
        more = self.variances.double() / (self.variances + variance) - rest
        axes = self.axes.double()
        out = mean + rest * apart + (more * (apart @ axes)) @ axes.T
        return _as_pictures(out, z)

    def evened(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """``estimate``, and the same with each axis k weighed by how much of it shines through the
        noise, l_k / (l_k + s^2), and not by how much it varies; that of variance 1."""
        apart, variance, mean = self._apart(z, s, code)
        axes = self.axes.double()
        spread = self.variances.double() + variance
        gain = self.variances.double() / spread
        even = gain / spread.sqrt()
        rest_spread = self.rest.double() + variance
        rest = self.rest.double() / rest_spread
        rest_even = rest / rest_spread.sqrt()
        along = apart @ axes
        more = torch.cat([(gain - rest) * along, (even - rest_even) * along]) @ axes.T
        others = len(self.mean) - len(self.variances)
        total = gain.square().sum(1, keepdim=True) + others * rest.square()
        shown = (rest_even * apart + more[len(z) :]) / (total / len(self.mean)).sqrt()
        return _as_pictures(mean + rest * apart + more[: len(z)], z), _as_pictures(shown, z)

    def _apart(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"], Tensor]:
        """z less the mean of the pictures, the variance of the noise, and that mean."""
        mean = self.mean.double()
        if self.offsets is not None and code is not None:
            mean = mean + self.offsets[code.long()].double()
        return z.double().flatten(1) - mean, s.double()[:, None].square(), mean

    def error(self, s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The mean squared error of a pixel of that estimate, were the pictures Gaussian."""
        variance = s.double()[:, None].square()
        others = len(self.mean) - len(self.variances)
        along = (self.variances * variance / (self.variances + variance)).sum(1)
        rest = (self.rest * variance / (self.rest + variance))[:, 0]
        return ((along + others * rest) / len(self.mean)).float()


def _as_pictures(
    numbers: Float[Tensor, "B D"], like: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B C H W"]:
    return numbers.view(like.shape).to(like.dtype).contiguous(memory_format=torch.channels_last)


def _principal(
    apart: Float[Tensor, "B D"], axes: int
) -> tuple[Float[Tensor, " R"], Float[Tensor, "D R"]]:
    """The largest variances and their directions: by the covariances of pixels, or where there are
    fewer rows by the products of rows."""
    rows, pixels = apart.shape
    few = rows < pixels
    square = apart @ apart.T if few else apart.T @ apart
    whole = len(square) <= MAX_WHOLE or axes > MAX_SOUGHT_SHARE * len(square)
    values, vectors = torch.linalg.eigh(square) if whole else _sought(square, axes)
    top = values[-axes:].flip(0).clamp_min(0)
    vectors = vectors[:, -axes:].flip(1)
    if few:
        vectors = apart.T @ vectors / top.sqrt().clamp_min(1e-12)
    return top / rows, vectors


def _sought(
    square: Float[Tensor, "N N"], axes: int
) -> tuple[Float[Tensor, " S"], Float[Tensor, "N S"]]:
    """The largest eigenvalues, rising, and their vectors, S of them, at least as many as ``axes``:
    by subspace iteration from a fixed beginning (N. Halko, P. Martinsson and J. Tropp (2011),
    Finding structure with randomness, algorithm 4.4). The first are right to many digits, the last
    to few, as those that follow them are about as large."""
    size = int(MORE_AXES * axes)
    basis = torch.randn(len(square), size, generator=stream(0, "axes"), dtype=square.dtype)
    for _ in range(POWERS):
        basis = torch.linalg.qr(square @ basis)[0]
    values, turned = torch.linalg.eigh(basis.T @ square @ basis)
    return values, basis @ turned

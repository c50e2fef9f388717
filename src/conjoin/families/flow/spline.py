r"""The monotone rational-quadratic spline: an invertible function of one number, as flexible as its
bins are many.

    x in [x_k, x_k+1],   t = (x - x_k) / w,   s = h / w
    y       = y_k + h (s t^2 + d_k t (1 - t)) / c,             c = s + (d_k + d_k+1 - 2 s) t (1 - t)
    dy / dx = s^2 (d_k+1 t^2 + 2 s t (1 - t) + d_k (1 - t)^2) / c^2

for a bin of width w and height h with the slopes d at its ends; outside of [-B, B] it is the
identity. J. Gregory and R. Delbourgo (1982); as a flow C. Durkan, A. Bekasov, I. Murray and G.
Papamakarios (2019), Neural spline flows, equations 4 to 8. Widths, heights and slopes have a floor,
so that no parameter makes an infinite density. Logarithms of slopes are in nats.

The parameters of all numbers lie along the *first* axis, so that the inner loops run over rows.

Shape letters: P = 3 K - 1 parameters of K bins, N the numbers' own shape.

>>> x = torch.linspace(-6, 6, 5, dtype=torch.float64)
>>> spline(x, torch.zeros(23, 5, dtype=torch.float64))[0].tolist()
[-6.0, -3.0, 0.0, 3.0, 6.0]
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from conjoin.core.shapes import Float, Int

__all__ = ["inverse_spline", "parameters", "spline"]

MIN_BIN_SHARE = 1e-3  # least share of a bin in the width and in the height, and least slope
UNIT = math.log(math.expm1(1 - MIN_BIN_SHARE))  # softplus of it, and the floor, make the slope 1
BOUND = 5.0  # the spline bends within [-BOUND, BOUND]


def parameters(bins: int) -> int:
    """How many parameters a spline of so many bins has: widths, heights, and the slopes between
    bins."""
    return 3 * bins - 1


class _Bin(NamedTuple):
    """The bin that each number falls in."""

    left: Tensor  # x_k
    width: Tensor  # w
    bottom: Tensor  # y_k
    height: Tensor  # h
    first: Tensor  # d_k
    last: Tensor  # d_k+1


def spline(
    x: Float[Tensor, "*N"], params: Float[Tensor, "P *N"], bound: float = BOUND
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """y, and log dy / dx."""
    inside = x.clamp(-bound, bound)
    at = _bin(inside, params, bound, along=0)
    t = ((inside - at.left) / at.width).clamp(0, 1)
    y, log_slope = _rational(t, at)
    within = x.abs() < bound
    return torch.where(within, y, x), torch.where(within, log_slope, 0.0)


def inverse_spline(
    y: Float[Tensor, "*N"], params: Float[Tensor, "P *N"], bound: float = BOUND
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """x, and log dy / dx there: the root of a quadratic, in the form that does not cancel
    (equations 6 to 8)."""
    inside = y.clamp(-bound, bound)
    at = _bin(inside, params, bound, along=1)
    s = at.height / at.width
    rise = inside - at.bottom
    bend = at.first + at.last - 2 * s
    a = at.height * (s - at.first) + rise * bend
    b = at.height * at.first - rise * bend
    c = -s * rise
    root = (b * b - 4 * a * c).clamp_min(0).sqrt()
    t = (-2 * c / (b + root)).clamp(0, 1)
    within = y.abs() < bound
    log_slope = torch.where(within, _rational(t, at)[1], 0.0)
    return torch.where(within, at.left + t * at.width, y), log_slope


def _rational(t: Float[Tensor, "*N"], at: _Bin) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """y and log dy / dx at the share t of a bin."""
    s = at.height / at.width
    both = t * (1 - t)
    below = s + (at.first + at.last - 2 * s) * both
    y = at.bottom + at.height * (s * t * t + at.first * both) / below
    above = at.last * t * t + 2 * s * both + at.first * (1 - t) ** 2
    return y, 2 * (s / below).log() + above.log()


def _bin(z: Float[Tensor, "*N"], params: Float[Tensor, "P *N"], bound: float, along: int) -> _Bin:
    """Knots from the parameters, and the bin of z among those of x (``along`` 0) or of y (``along``
    1)."""
    bins = (len(params) + 1) // 3
    knots = [_knots(part, bound) for part in (params[:bins], params[bins : 2 * bins])]
    slopes = pad_first(MIN_BIN_SHARE + softplus(params[2 * bins :] + UNIT))
    k = (z >= knots[along][1:-1]).sum(0, keepdim=True)
    (left, right), (bottom, top), (first, last) = (_around(ends, k) for ends in (*knots, slopes))
    return _Bin(left, right - left, bottom, top - bottom, first, last)


def pad_first(slopes: Float[Tensor, "K *N"]) -> Float[Tensor, "K2 *N"]:
    """With the slopes 1 at both ends, where the identity goes on."""
    return pad(slopes, (0, 0) * (slopes.ndim - 1) + (1, 1), value=1.0)


def _knots(shares: Float[Tensor, "K *N"], bound: float) -> Float[Tensor, "K1 *N"]:
    """Ends of bins between -bound and bound."""
    share = MIN_BIN_SHARE + (1 - MIN_BIN_SHARE * len(shares)) * shares.softmax(0)
    inner = -bound + 2 * bound * share[:-1].cumsum(0)
    none = (0, 0) * (shares.ndim - 1)
    return pad(pad(inner, (*none, 1, 0), value=-bound), (*none, 0, 1), value=bound)


def _around(
    ends: Float[Tensor, "K1 *N"], k: Int[Tensor, "1 *N"]
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    return ends.gather(0, k)[0], ends.gather(0, k + 1)[0]

"""Masses and moments of a standard normal inside an interval, in nats, without cancellation or
underflow.

The moments are those of a truncated normal (N. Johnson, S. Kotz and N. Balakrishnan (1994),
Continuous univariate distributions 1, section 13.10).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.special import log_ndtr

from conjoin.core.constants import LOG_2PI

__all__ = ["log_mass", "log_normal", "log_sinhc", "moments_inside", "normal_cdf"]


class _LogMass(torch.autograd.Function):
    """log(Phi(high) - Phi(low)) without cancellation or underflow, with its exact derivative."""

    @staticmethod
    def forward(ctx: Any, low: Tensor, high: Tensor) -> Tensor:
        upper = low + high > 0  # by symmetry, work in the lower tail
        a = torch.where(upper, -high, low)
        b = torch.where(upper, -low, high)
        mass = (normal_cdf(b) - normal_cdf(a)).log()
        far = b < -30
        if far.any():
            log_b = log_ndtr(b[far])
            mass[far] = log_b + torch.log1p(-(log_ndtr(a[far]) - log_b).exp())
        ctx.save_for_backward(low, high, mass)
        return mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        low, high, mass = ctx.saved_tensors
        return -grads[0] * (log_normal(low) - mass).exp(), grads[0] * (
            log_normal(high) - mass
        ).exp()


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log of a standard normal's mass between ``low`` and ``high`` (either may be infinite);
    differentiable."""
    low, high = torch.broadcast_tensors(low, high)
    return _LogMass.apply(low, high)  # type: ignore[no-any-return, no-untyped-call]


def normal_cdf(z: Tensor) -> Tensor:
    """Phi(z), to full relative precision in the lower tail (where 1 + erf would cancel)."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * z)


def log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z * z + LOG_2PI)


def log_sinhc(x: Tensor) -> Tensor:
    """log(sinh(x) / x) for x >= 0: what a narrow cell's mass exceeds its midpoint density by."""
    safe = x.clamp_min(1e-2)
    return torch.where(
        x > 1e-2, safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe), x * x / 6
    )


def moments_inside(low: Tensor, high: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """E[z], E[z^2] of a standard normal known to lie in [low, high], of this log-mass."""
    at_low = (log_normal(low) - mass).exp()
    at_high = (log_normal(high) - mass).exp()
    first = torch.minimum(torch.maximum(at_low - at_high, low), high)
    edge = torch.where(at_low > 0, low * at_low, at_low) - torch.where(
        at_high > 0, high * at_high, at_high
    )
    return first, torch.maximum(1 + edge, first * first)

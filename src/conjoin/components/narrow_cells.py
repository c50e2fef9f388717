r"""Numbers in cells that are narrow beside the states' deviations: masses and moments by powers.

    log mass(x) = log w + log N(x; mu, sigma^2) + w^2 (z^2 - 1) / (24 sigma^2) + O((w / sigma)^4)
    E[x' | cell] = x - c (x - mu),    E[x'^2 | cell] = x^2 + w^2 / 12 - 2 c x (x - mu)

with z = (x - mu) / sigma and c = w^2 / (12 sigma^2), the corrections of W. Sheppard (1898), On the
calculation of the most probable values of frequency-constants. The logarithm is a polynomial in x,
so that those of all states are one product of matrices; and sums over rows of the moments follow
from the sums of 1, x and x^2 alone. Expectation-maximisation takes its steps by these; answers take
the exact masses (``conjoin.components.intervals``).

Shape letters: P distinct numbers, those of each column side by side, N columns, K states.

>>> x = torch.tensor([0.3], dtype=torch.float64)
>>> state = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
>>> log_masses(powers(x), [1], state, torch.zeros_like(state), torch.tensor([0.1])).exp()
tensor([[0.0381, 0.0312]], dtype=torch.float64)
"""

import torch
from torch import Tensor

from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Bool, Float

__all__ = ["log_masses", "narrow_columns", "powers", "sums_of_moments"]

# of a cell's width, where the error is under .02 nats five deviations off, and .001 two off
MAX_DEVIATIONS = 0.4
# deviations between a number and the centre, up to which squares keep seven digits
MAX_DISTANCE = 1e4


def powers(offset: Float[Tensor, " P"]) -> Float[Tensor, "P 3"]:
    """Of the numbers' offsets from the centre of their column."""
    return torch.stack([torch.ones_like(offset), offset, offset.square()], 1)


def narrow_columns(
    reach: Float[Tensor, " N"], log_scale: Float[Tensor, "N K"], width: Float[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Where the series holds for every state. ``reach``: the largest offset of a number."""
    least = log_scale.amin(1).exp()
    return (width <= MAX_DEVIATIONS * least) & (reach <= MAX_DISTANCE * least)


def log_masses(
    power: Float[Tensor, "P 3"],
    sizes: list[int],
    mean: Float[Tensor, "N K"],
    log_scale: Float[Tensor, "N K"],
    width: Float[Tensor, " N"],
) -> Float[Tensor, "P K"]:
    """Nats of the cells under each state, or of the density where the width is 0. ``sizes``: how
    many numbers each column has; ``mean``: from the centre of the column."""
    variance = (2 * log_scale).exp()
    rounding = width[:, None].square() / 12
    shrunk = rounding / variance
    square = (1 - shrunk) / (2 * variance)
    size = torch.where(width > 0, width, 1.0).log()[:, None] - log_scale - 0.5 * LOG_2PI
    first = size - shrunk / 2 - square * mean.square()
    factor = torch.stack([first, 2 * square * mean, -square], 1)
    parts = [rows @ own for rows, own in zip(power.split(sizes), factor, strict=True)]
    return torch.cat(parts)


def sums_of_moments(
    power: Float[Tensor, "P 3"],
    sizes: list[int],
    share: Float[Tensor, "P K"],
    mean: Float[Tensor, "N K"],
    log_scale: Float[Tensor, "N K"],
    width: Float[Tensor, " N"],
) -> Float[Tensor, "N K 3"]:
    """The sums over the numbers of ``share``, and of it times E[x' | cell] and E[x'^2 | cell], from
    the centre of the column as ``mean``."""
    columns = zip(power.split(sizes), share.split(sizes), strict=True)
    raw = torch.stack([rows.T @ own for rows, own in columns])
    count, first, second = raw.unbind(1)
    rounding = width[:, None].square() / 12
    shrunk = rounding * (-2 * log_scale).exp()
    return torch.stack(
        [
            count,
            first - shrunk * (first - mean * count),
            second + rounding * count - 2 * shrunk * (second - mean * first),
        ],
        -1,
    )

r"""Particles of several rows at once: how many of them count, and which go on.

    1 / sum_k w_k^2,    w = softmax(log weights)

Log weights are in nats. A. Kong (1992), A note on importance sampling using standardized weights;
A. Doucet, N. de Freitas and N. Gordon (2001), Sequential Monte Carlo methods in practice, section
1.3.

Shape letters: B rows, K particles of a row.

>>> log_weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, -50.0, -50.0]]).double()
>>> degenerate(log_weight).tolist()
[False, True]
"""

import torch
from torch import Tensor

from conjoin.core.random import resampled
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["degenerate", "survivors"]

LEAST_EFFECTIVE_SHARE = 0.5  # of the particles of a row, below which they are resampled


def degenerate(log_weight: Float[Tensor, "B K"]) -> Bool[Tensor, " B"]:
    """Rows whose effective number of particles is less than half of them."""
    effective = (-(2 * log_weight.log_softmax(1)).logsumexp(1)).exp()
    return effective < LEAST_EFFECTIVE_SHARE * log_weight.shape[1]


def survivors(
    log_weight: Float[Tensor, "B K"],
    poor: Bool[Tensor, " B"],
    generator: torch.Generator | None,
) -> Int[Tensor, " N"]:
    """The particle of all rows that each goes on from: of ``poor`` rows by systematic resampling,
    of others itself."""
    rows, count = log_weight.shape
    picked = resampled(log_weight.softmax(1), count, generator)
    own = torch.where(poor[:, None], picked, torch.arange(count))
    return (own + count * torch.arange(rows)[:, None]).flatten()

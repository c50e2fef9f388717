r"""The constant of an energy: annealed importance sampling there and back.

    p_b(x) prop. to exp(l_b(x)),   0 = b_0 < ... < b_T = 1,
    log w = sum_t [l_{b_t}(x_{t-1}) - l_{b_{t-1}}(x_{t-1})]

x_0 is a draw of p_0, and x_t comes from x_{t-1} by moves that keep p_{b_t}. Then E[w] = Z_1 / Z_0
(R. Neal (2001), Annealed importance sampling, equations 3-11), so that the log of the mean weight
is below log Z_1 / Z_0 on the average. The same walk the other way, from a draw of p_1, has E[1 / w]
= Z_0 / Z_1, and minus the log of that mean is above on the average (R. Grosse, Z. Ghahramani and R.
Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo, section 3). That
takes exact draws of p_1: here they come from chains, and a mode that no chain found is missing from
both walks, whose agreement is then no proof. The lower end of this sandwich flatters a model: with
it -log p(x) of test rows comes out too small, with the reverse estimate too large. So report both.
Values in nats.

Shape letters: N walkers, T steps, D variables.

>>> from conjoin.core import stream
>>> ratio = lambda x, before, after: -1.5 * (after - before) * x[:, 0] ** 2
>>> def move(x, beta, generator):  # from N(0, 1) to N(0, 1/4): log Z = -log 2
...     return torch.randn(x.shape, generator=generator, dtype=x.dtype) / (1 + 3 * beta) ** 0.5
>>> walkers = lambda beta, generator: move(torch.zeros(500, 1).double(), beta, generator)
>>> partition = sandwich(ratio, move, walkers, 50, stream(0))
>>> abs(partition.estimate + math.log(2)) < 4 * partition.standard_error
True
>>> partition.reverse - partition.estimate < 0.1
True
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core.shapes import Float

__all__ = ["Partition", "anneal", "sandwich"]

LogRatio = Callable[[Any, float, float], Tensor]  # N walkers, b, b' -> (N,) l_b'(x) - l_b(x)
Move = Callable[[Any, float, torch.Generator | None], Any]  # keeps p_b
Start = Callable[[float, torch.Generator | None], Any]  # b -> N walkers, draws of p_b


class Partition(NamedTuple):
    """log Z_1 / Z_0: too low on the average, its standard error, and the walk back: too high on the
    average if its chains found every mode."""

    estimate: float
    standard_error: float
    reverse: float


def anneal(
    walkers: Any,
    log_ratio: LogRatio,
    move: Move,
    betas: list[float],
    generator: torch.Generator | None,
) -> Float[Tensor, " N"]:
    """Walk along ``betas``; the logs of the walkers' weights."""
    log_weight = torch.zeros((), dtype=torch.float64)
    for before, after in itertools.pairwise(betas):
        log_weight = log_weight + log_ratio(walkers, before, after)
        walkers = move(walkers, after, generator)
    return log_weight


@torch.no_grad()
def sandwich(
    log_ratio: LogRatio, move: Move, start: Start, steps: int, generator: torch.Generator | None
) -> Partition:
    """Both walks between b = 0 and b = 1; ``start`` draws from either end."""
    # small steps first, where the weights vary most
    betas = [(step / steps) ** 2 for step in range(steps + 1)]
    there = anneal(start(0.0, generator), log_ratio, move, betas, generator)
    back = anneal(start(1.0, generator), log_ratio, move, betas[::-1], generator)
    return Partition(_log_mean(there), _relative_error(there), -_log_mean(back))


def _log_mean(log_weight: Float[Tensor, " N"]) -> float:
    return float(log_weight.logsumexp(0)) - math.log(len(log_weight))


def _relative_error(log_weight: Float[Tensor, " N"]) -> float:
    """Standard error of the log of the mean weight, by the delta method."""
    weight = (log_weight - log_weight.max()).exp()
    return float(weight.std() / weight.mean()) / math.sqrt(len(weight))

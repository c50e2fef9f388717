r"""Strings of p(x | W), by Markov chains that draw the ends of strings anew.

    c ~ uniform on 0, ..., n,      x' = x_1, ..., x_c, then drawn from q(. | x_1, ..., x_c),

    accepted with min(1, w(x') (n + 1) / (w(x) (n' + 1))),      w(x) = (p(x) p(W | x) / q(x))^b

q(x) = p(x | y) is the network that is told a y of the wish. The beginning of both strings is the
same, and q of an old and a new end is what the two moves between them are drawn by: it cancels,
and what is left are the weights, and how many cuts a string has (W. Hastings (1970), Monte Carlo
sampling methods using Markov chains; N. Goodman et al. (2008), A rational analysis of rule-based
concept learning, for moves that generate a part anew). Each cut by itself leaves q(x) w(x) as it
is, and c = 0 reaches every string: with b = 1 chains come to p(x) p(W | x) as they go on.

They begin as draws of q, b = 0, and b grows to 1 as fast as half of them stay effective: those that
are far from the wish are replaced by copies of those that are near, which the moves then part
(P. Del Moral, A. Doucet and A. Jasra (2006), Sequential Monte Carlo samplers, section 3.3).

Shape letters: B chains, N capacity, M strings.

>>> round(_next_power(torch.tensor([0.0, -1.0, -2.0, -torch.inf]), 0.0), 2)
1.0
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core import Density, Event
from conjoin.core.event import joined
from conjoin.core.random import resampled
from conjoin.core.shapes import Float, Int

__all__ = ["Redrawn", "redrawn"]

LEAST_EFFECTIVE_SHARE = 0.5  # of the chains that may be as wanted, which a step of b leaves
HALVINGS = 30  # of the interval in which the next b is looked for


class Redrawn(NamedTuple):
    """What the chains saw.

    Attributes
    ----------
    strings, log_wish
        All that were proposed, those where the chains began first, and (M,) log p(W | x).
    last
        (B,) where each chain is at the end: its row of ``strings``.
    tokens
        (M,) how many were drawn for each, an end as one.
    """

    strings: Event
    log_wish: Tensor
    last: Tensor
    tokens: Tensor


@torch.no_grad()
def redrawn(
    density: Density,
    start: Event,
    told: Any,
    log_wish: Callable[[Event], Tensor],
    chains: int,
    tokens: int,
    generator: torch.Generator | None,
) -> Redrawn:
    """Chains that go on for at least one round, and for as many as about so many tokens let.

    Parameters
    ----------
    density
        Of strings, whose beginnings it continues.
    start
        Draws of what it is told, at some of which the chains begin.
    told
        A context of one row.
    log_wish
        (B,) log p(W | x) of strings; -inf where one is none.
    chains
        How many there are.
    tokens
        How many may be drawn, behind those of the start; the last round may take a few more.
    generator
        Of the draws.
    """
    none = density.space.unknown(0)  # as wide as the capacity
    strings = joined((start, none))
    wish, weight = _weighed(density, strings, told, log_wish)
    at = torch.arange(start.rows)
    power = 0.0
    drawn = strings.there.sum(1) + 1
    most = tokens + int(drawn.sum())
    round_tokens = 0
    while int(drawn.sum()) + round_tokens <= most:
        after = _next_power(weight[at], power)
        at = at[_kept(weight[at], after - power, chains, generator)]
        power = after
        now = strings.take(at)
        length = now.there.sum(1)
        cut = (torch.rand(chains, generator=generator) * (length + 1)).long()
        begun = now.hide(torch.arange(now.value.shape[1]) >= cut[:, None])
        context = told.take(torch.zeros(chains, dtype=torch.int64))
        new = joined((density.sample_conditional(begun, context, generator=generator), none))
        more = new.there.sum(1)
        found = _weighed(density, new, told, log_wish)
        ratio = power * (found[1] - weight[at]) + torch.log((length + 1) / (more + 1))
        point = torch.rand(chains, generator=generator, dtype=torch.float64).log()
        moves = torch.isneginf(weight[at]) | (point < ratio)
        at = torch.where(moves, len(weight) + torch.arange(chains), at)
        strings = joined((strings, new))
        wish = torch.cat([wish, found[0]])
        weight = torch.cat([weight, found[1]])
        drawn = torch.cat([drawn, more + 1 - cut])
        round_tokens = int((more + 1 - cut).sum())
    at = at[_kept(weight[at], 1.0 - power, chains, generator)]  # where there was no time for it
    return Redrawn(strings, wish, at, drawn)


def _weighed(
    density: Density, strings: Event, told: Any, log_wish: Callable[[Event], Tensor]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """log p(W | x), and log of the whole weight."""
    wish = log_wish(strings)
    context = told.take(torch.zeros(len(wish), dtype=torch.int64))
    return wish, wish + density.log_prob(strings) - density.log_prob(strings, context)


def _next_power(weight: Float[Tensor, " B"], power: float) -> float:
    """The greatest b up to 1 whose weights leave enough of the chains effective."""
    some = weight[torch.isfinite(weight)]
    if not len(some):
        return power
    low = power
    high = 1.0
    for trial in range(HALVINGS):
        middle = high if trial == 0 else (low + high) / 2
        share = ((middle - power) * some).softmax(0)
        if 1 / float(share.square().sum()) >= LEAST_EFFECTIVE_SHARE * len(some):
            low = middle
        else:
            high = middle
    return low


def _kept(
    weight: Float[Tensor, " B"], step: float, chains: int, generator: torch.Generator | None
) -> Int[Tensor, " K"]:
    """Which go on as chains, some of them more than once, where b has grown by ``step``."""
    if len(weight) == chains and not step:
        return torch.arange(chains)
    finite = torch.isfinite(weight)
    log_share = torch.where(finite, step * weight, -torch.inf if finite.any() else 0.0)
    return resampled(log_share.softmax(0), chains, generator)

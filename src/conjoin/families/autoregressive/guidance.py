r"""Strings that are drawn towards a wish, by what their network reads from the beginnings.

    x_t ~ p(x_t | x_<t),      w_t = p(W | x_1, ..., x_t) / p(W | x_1, ..., x_{t-1})

A particle filter: beginnings that are read as likely to end as wanted are kept and copied, others
are dropped, so the strings come from p(x) p(W | x) / p(W) as their number grows, where p(W | x) is
what is read from the whole string (A. Lew et al. (2023), Sequential Monte Carlo steering of large
language models; A. Doucet and A. Johansen (2011), A tutorial on particle filtering and smoothing,
section 3.5). Copies of one beginning are no independent draws. log p in nats.

Shape letters: B rows, T positions.

>>> _as_far(torch.tensor([[0], [0]]), torch.tensor([False, True])).mask.tolist()
[[True, False], [True, True]]
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, categorical
from conjoin.core.random import resampled
from conjoin.core.shapes import Int

__all__ = ["guided"]

LEAST_EFFECTIVE_SHARE = 0.5  # of the particles, under which they are drawn anew


def guided(
    density: Density,
    rows: int,
    context: Any,
    log_wish: Callable[[Event], Tensor],
    generator: torch.Generator | None,
) -> tuple[Event, int]:
    """Strings of a density that declares ``step``.

    Parameters
    ----------
    density
        Of strings.
    rows
        How many.
    context
        What it is told.
    log_wish
        (B,) log p(W | x) of strings, and of beginnings, whose last position is unknown.
    generator
        Of the draws.

    Returns
    -------
    Event
        Strings of equal weight, some of them copies.
    int
        How many tokens were drawn, an end as one.
    """
    end = density.space.variables[0].cardinality
    state = density._begin(rows, context)
    token: Tensor | None = None
    ended = torch.zeros(rows, dtype=torch.bool)
    strings = torch.zeros(rows, 0, dtype=torch.int64)  # -1 where a string has ended
    log_weight = torch.zeros(rows, dtype=torch.float64)
    before = torch.zeros(rows, dtype=torch.float64)
    places = density.space.shape[0]
    tokens = 0
    for place in range(places):
        state, log_p = density._step(state, token)
        token = categorical(log_p, generator)
        tokens += int((~ended).sum())
        ended = ended | (token == end)
        token = torch.where(ended, 0, token)
        strings = torch.cat([strings, torch.where(ended, -1, token)[:, None]], 1)
        whole = ended | (place == places - 1)  # behind the last position the end is certain
        now = log_wish(_as_far(strings, whole))
        log_weight = log_weight + now - before
        before = now
        share = log_weight.softmax(0)
        if bool(whole.all()) or 1 / float(share.square().sum()) < LEAST_EFFECTIVE_SHARE * rows:
            kept = resampled(share, rows, generator)
            state = state.take(kept)
            token, ended, strings, before = (each[kept] for each in (token, ended, strings, before))
            log_weight = torch.zeros_like(log_weight)
        if bool(ended.all()):
            break
    there = torch.ones_like(strings, dtype=torch.bool)
    return Event(strings.clamp_min(0), there, strings >= 0), tokens


def _as_far(strings: Int[Tensor, "B T"], whole: Tensor) -> Event:
    """Strings, and beginnings with an unknown position behind them."""
    more = torch.full((len(strings), 1), -1)
    strings = torch.cat([strings, more], 1)
    known = torch.ones_like(strings, dtype=torch.bool)
    known[:, -1] = whole
    return Event(strings.clamp_min(0), known, strings >= 0)

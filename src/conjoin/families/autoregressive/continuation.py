r"""Strings continued token by token: what is known, then what is chosen, until each row has ended.

    x_t ~ p(x_t | x_1, ..., x_{t-1})

The chain rule, drawn in its order (C. Shannon (1948), A mathematical theory of communication,
section 3). log p of the next token is in nats.

Shape letters: B rows, T positions, V tokens; the code V is the end.

>>> _known_or_chosen(Event(torch.tensor([[1]])), 0, torch.tensor([0]), 2).tolist()
[1]
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, categorical
from conjoin.core.sampling import sampling
from conjoin.core.shapes import Bool, Int

__all__ = [
    "Choose",
    "about_equally_long",
    "continued",
    "gumbel",
    "inversion",
    "likeliest",
    "targets_of",
]

# (b,) tokens of the rows that go on from (b, V + 1) log p of the next, which rows of all they are,
# and how many there are in all
Choose = Callable[[Tensor, Tensor, int], Tensor]

MAX_LEFT_SHARE = 0.75  # of the rows of a batch, under which those that have ended leave it
# rows that a network sees in one call are about equally long: the longest has at most so many
# times the tokens of the shortest, and a few more
MAX_LENGTH_RATIO = 1.25
LENGTH_SLACK = 8


def targets_of(
    event: Event, tokens: int, capacity: int
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Each known token and the first known end (code V), and where they are. After as many tokens
    as fit the end is certain, and none is left."""
    ended = torch.zeros(event.rows, 1, dtype=torch.bool)
    there = torch.cat([event.there, ended], 1)
    known = torch.cat([event.mask, event.mask.all(1, keepdim=True)], 1)
    end = torch.full((event.rows, 1), tokens)
    target = torch.where(there, torch.cat([event.value, end], 1), tokens)
    before = torch.cat([ended, ~there[:, :-1]], 1).cummax(1).values
    fits = torch.arange(target.shape[1]) < capacity
    return target, known & ~before & fits


def about_equally_long(
    valid: Bool[Tensor, "B T"], most: int
) -> Iterator[tuple[Int[Tensor, " b"], int]]:
    """Rows for one call of a network, and how many positions the longest of them has. ``valid``:
    the positions that count; ``most``: how many of all rows together are seen at once."""
    length = (valid.long() * torch.arange(1, valid.shape[1] + 1)).amax(1).clamp_min(1)
    order = length.argsort(descending=True, stable=True)
    sizes = length[order].tolist()
    first = 0
    while first < len(sizes):
        least = sizes[first] / MAX_LENGTH_RATIO - LENGTH_SLACK
        last = next((row for row in range(first, len(sizes)) if sizes[row] < least), len(sizes))
        last = min(last, first + max(1, most // sizes[first]))
        yield order[first:last], sizes[first]
        first = last


def gumbel(generator: torch.Generator | None) -> Choose:
    """A draw by the Gumbel-max rule, one random number for each token of each row of all."""

    def choose(log_p: Tensor, going: Tensor, rows: int) -> Tensor:
        if len(going) == rows:
            return categorical(sampling().of(log_p), generator)
        every = torch.zeros(rows, log_p.shape[1], dtype=log_p.dtype).index_copy(0, going, log_p)
        return categorical(sampling().of(every), generator)[going]

    return choose


def inversion(generator: torch.Generator | None) -> Choose:
    """A draw by one random number for each row of all: the first token up to which the sum of p is
    more (L. Devroye (1986), Non-uniform random variate generation, section 3.2.1)."""

    def choose(log_p: Tensor, going: Tensor, rows: int) -> Tensor:
        point = torch.rand(rows, generator=generator, dtype=torch.float64)[going]
        ends = sampling().of(log_p).exp().cumsum(1, dtype=torch.float64)
        return torch.searchsorted(ends, point[:, None] * ends[:, -1:], right=True)[:, 0]

    return choose


def likeliest(log_p: Tensor, going: Tensor, rows: int) -> Tensor:
    """The most probable token."""
    return log_p.argmax(1)


def continued(
    density: Density,
    event: Event,
    state: Any,
    choose: Choose,
    first: int = 0,
) -> Event:
    """The rows of a density of strings that declares ``step``, from its ``state``, which can
    ``take`` rows: that at the beginning, or where the ``first`` tokens of all rows are known, the
    state that has seen all of them but the last.

    Rows that have ended leave the batch once they are many; ``choose`` is told of how many rows
    there were, so that noise is that of all rows."""
    tokens = density.space.variables[0].cardinality
    token: Tensor | None = event.value[:, first - 1] if first else None
    ended = torch.zeros(event.rows, dtype=torch.bool)
    going = torch.arange(event.rows)  # rows of the state
    columns = list(event.value[:, :first].unbind(1))
    for place in range(first, density.space.shape[0]):
        state, log_p = density._step(state, None if token is None else token[going])
        chosen = torch.zeros(event.rows, dtype=torch.int64)
        chosen[going] = choose(log_p, going, event.rows)
        token = _known_or_chosen(event, place, chosen, tokens)
        ended = ended | (token == tokens)
        if bool(ended.all()):
            break
        token = torch.where(ended, 0, token)
        columns.append(torch.where(ended, -1, token))
        left = (~ended[going]).nonzero()[:, 0]
        if len(left) <= MAX_LEFT_SHARE * len(going):
            state = state.take(left)
            going = going[left]
    if not columns:
        columns = [torch.full((event.rows,), -1)]
    value = torch.stack(columns, 1)
    return Event(value.clamp_min(0), torch.ones_like(value, dtype=torch.bool), value >= 0)


def _known_or_chosen(
    event: Event, place: int, chosen: Int[Tensor, " B"], tokens: int
) -> Int[Tensor, " B"]:
    """The token at a place: the known one, the end where that is known, else what was chosen.
    Behind the last column of the event every position is absent."""
    if place >= event.value.shape[1]:
        return torch.full_like(chosen, tokens)
    known = torch.where(event.there[:, place], event.value[:, place], tokens)
    return torch.where(event.mask[:, place], known, chosen)

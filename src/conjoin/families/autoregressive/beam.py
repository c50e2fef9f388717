r"""The most probable strings of a density that goes token by token, found by a beam.

    argmax_x log p(x_1, ..., x_n, end | c)

At each place the ``width`` most probable beginnings of each row go on (B. Lowerre (1976), The Harpy
speech recognition system, chapter 2). Each log p is exact; whether there is a more probable string
that no beam led to is not known. log p never rises on the way, so the search ends when no beginning
can come before the strings found. In nats.

Shape letters: B rows, K strings of each, W beginnings of each, S and T positions, V tokens.

>>> from conjoin.core import Block, Event, Variable, stream
>>> from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
>>> letters = Block("word", "sequence", (3,), (Variable("letter", "category", 2),))
>>> density = SequenceDensity.build(letters, Sequence(width=8, blocks=1), letters.unknown(1),
...     stream(0))
>>> found, log_p = most_probable(density, 1, 15, width=15)
>>> bool((density.log_prob(found) - log_p[0]).abs().max() < 1e-9)
True
>>> round(float(log_p.exp().sum()), 9)
1.0
"""

from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event
from conjoin.core.device import on_device
from conjoin.core.shapes import Float, Int

__all__ = ["most_probable"]

MAX_STRINGS = 1_000  # of one row


@torch.no_grad()
@on_device
def most_probable(
    density: Density, rows: int, count: int, context: Any = None, width: int | None = None
) -> tuple[Event, Float[Tensor, "B K"]]:
    """The most probable strings of each row that a beam finds, and log p of each.

    Parameters
    ----------
    density
        Of strings; it declares ``step``.
    rows
        How many.
    count
        K, strings of each row.
    context
        What each row is told.
    width
        W, beginnings that go on; None: K and three more.

    Returns
    -------
    Event
        B K strings, those of the first row first, the most probable first. Where there are fewer
        strings than K the last are empty.
    log_p
        (B, K) nats; -inf where there are fewer strings.

    Raises
    ------
    ValueError
        If ``count`` is less than 1 or more than ``MAX_STRINGS``.
    """
    if not 1 <= count <= MAX_STRINGS:
        raise ValueError(f"count must lie between 1 and {MAX_STRINGS}, got {count!r}.")
    width = count + 3 if width is None else width
    end = density.space.variables[0].cardinality
    state = density.begin(rows, context)
    live = torch.zeros(rows, 1, dtype=torch.float64)
    strings = torch.zeros(rows, 1, 0, dtype=torch.int64)  # -1 where a string has ended
    best = torch.full((rows, count), -torch.inf, dtype=torch.float64)
    found = torch.full((rows, count, 0), -1)
    token: Tensor | None = None
    for _ in range(density.space.shape[0] + 1):
        state, log_p = density.step(state, token)
        total = live[..., None] + log_p.reshape(*live.shape, -1)
        best, found = _merged(best, found, total[..., end], strings)
        live, chosen = total[..., :end].flatten(1).topk(min(width, live.shape[1] * end), 1)
        if bool((live[:, 0] <= best[:, -1]).all()):
            break
        place = chosen // end
        each = torch.arange(rows)[:, None]
        state = state.take((each * strings.shape[1] + place).flatten())
        token = (chosen % end).flatten()
        strings = torch.cat([strings[each, place], (chosen % end)[..., None]], 2)
    value = found.flatten(0, 1)
    value = torch.nn.functional.pad(value, (0, int(not value.shape[1])), value=-1)
    known = torch.ones_like(value, dtype=torch.bool)
    return Event(value.clamp_min(0), known, value >= 0), best


def _merged(
    best: Float[Tensor, "B K"],
    found: Int[Tensor, "B K S"],
    ended: Float[Tensor, "B W"],
    strings: Int[Tensor, "B W T"],
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K T"]]:
    """The most probable strings of those found so far and of those that end now, all as long."""
    longer = torch.nn.functional.pad(found, (0, strings.shape[2] - found.shape[2]), value=-1)
    log_p, place = torch.cat([best, ended], 1).topk(best.shape[1], 1)
    each = torch.arange(len(best))[:, None]
    return log_p, torch.cat([longer, strings], 1)[each, place]

r"""Rows of which a sum is known while several of its parts are missing.

With a the missing parts but one, and b the one that is left, which a and the sum determine,

    p(known, sum) = p(known) E_a[p(b | known, a)] / |d sum / d b|,    a from p(a | known).

So each row is completed several times, and log p of the row, with a class or without, is that of
its completions, weighed (importance sampling). Of parts on a lattice those draws of a count for
which b lies on its lattice and within its bounds.

Shape letters: R such rows, S completions of each, D variables.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from conjoin.core import Event, OpenSum, stream
from conjoin.core.shapes import Bool, Float

__all__ = ["COMPLETIONS_PER_ROW", "Completions", "completed"]

COMPLETIONS_PER_ROW = 64
LOG_UNREACHED = -13.8  # nats, of a sum that no completion makes up: a millionth


class Completions(NamedTuple):
    """``rows`` (R,) are the places of the rows; ``event`` their completions, S of one row after the
    other, in which cells of no sum stay missing; ``log_prob`` is theirs. log p of a row is the log
    of the sum over its completions of p(completion) exp(``log_weight``)."""

    rows: Tensor
    event: Event
    log_weight: Float[Tensor, "R S"]
    log_prob: Float[Tensor, " RS"]

    @property
    def reached(self) -> Bool[Tensor, " R"]:
        """Whether some completion makes up the sums."""
        return self.log_weight.isfinite().any(1)

    def total(self, each: Tensor) -> Tensor:
        """(R, ...) log of the weighed sum over completions of what has these logs (R * S, ...)."""
        shape = (*self.log_weight.shape, *each.shape[1:])
        weight = self.log_weight.reshape(*self.log_weight.shape, *(1 for _ in each.shape[1:]))
        return (each.reshape(shape) + weight).logsumexp(1)

    def replacing(self, plain: Tensor, each: Tensor) -> Tensor:
        """log p (B, ...) of all rows, ``plain`` without the sums, with that of these rows by their
        completions, which have these logs (R * S, ...)."""
        lost = plain[self.rows] + LOG_UNREACHED
        reached = self.reached.reshape(-1, *(1 for _ in plain.shape[1:]))
        return plain.index_copy(0, self.rows, torch.where(reached, self.total(each), lost))

    def share(self, log_prob: Tensor | None = None) -> Float[Tensor, "R S"]:
        """What share each completion has, by its own log p, or by another one (R * S,); equal ones
        where none is reached."""
        each = self.log_prob if log_prob is None else log_prob
        log_share = each.reshape(self.log_weight.shape) + self.log_weight
        lost = ~self.reached
        return log_share.masked_fill(lost[:, None], 0.0).softmax(1)


def completed(
    x: Event,
    sums: Sequence[OpenSum],
    variables: Sequence[object],
    draw: Callable[[Event, torch.Generator], Tensor],
    log_proposal: Callable[[Event], Tensor],
    log_prob: Callable[[Event], Tensor],
    seed: int,
) -> Completions | None:
    """The completions of the rows of ``x`` of which sums are known; None where there are none.

    ``draw``: values (B, D) of rows of which cells are missing, by the generator's noise.
    ``log_proposal``: log p of the density that draws; ``log_prob``: of the one that answers. Each
    row has the same noise, whatever its batch."""
    if not sums:
        return None
    rows = torch.stack([one.open for one in sums]).any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    size = COMPLETIONS_PER_ROW
    many = rows.repeat_interleave(size)
    known = x.take(many)
    parts = [known.take(slice(at, at + size)) for at in range(0, len(many), size)]
    drawn = torch.cat([draw(part, stream(seed, "sum")) for part in parts])
    value = known.value.clone()
    free = known.mask.clone()  # the parts that are drawn
    whole = known.mask.clone()  # and those that follow
    weight = torch.zeros(len(many), dtype=torch.float64)
    for one in (each.take(many) for each in sums):
        open_ = one.weight.ne(0)
        last = one.weight.abs().argmax(1)
        place = torch.nn.functional.one_hot(last, value.shape[1]).bool() & open_
        value = torch.where(open_, drawn, value)
        part, fits = _follows(one, value, open_ & ~place, last, variables)
        value = torch.where(place & fits[:, None], part[:, None], value)
        free |= open_ & ~place
        whole |= open_
        there = open_.any(1)
        weight = torch.where(there, weight - one.log_slope[last], weight)
        weight = weight.masked_fill(there & ~fits, -torch.inf)
    before = log_proposal(x.take(rows)).repeat_interleave(size)
    weight = weight + before - log_proposal(Event(value, free)) - math.log(size)
    event = Event(value, whole)
    return Completions(rows, event, weight.reshape(len(rows), size), log_prob(event))


def _follows(
    one: OpenSum, value: Tensor, drawn: Tensor, last: Tensor, variables: Sequence[object]
) -> tuple[Tensor, Tensor]:
    """(B,) the last part, by the sum and the ``drawn`` ones (B, D), and whether it can be that."""
    lead = one.weight.gather(1, last[:, None])[:, 0]
    rest = one.rest - torch.where(drawn, one.weight * value, 0.0).sum(1)
    exact = rest / torch.where(lead == 0, 1.0, lead)
    step = one.step[last]
    size = torch.where(step > 0, step, 1.0)
    origin = one.origin[last]
    rounded = torch.where(step > 0, ((exact - origin) / size).round() * size + origin, exact)
    low, high = _bounds(variables)
    near = (lead * (rounded - exact)).abs() <= one.slack + 1e-9 * one.rest.abs()
    slack = 1e-9 * (1 + rounded.abs())
    return rounded, near & (rounded >= low[last] - slack) & (rounded <= high[last] + slack)


def _bounds(variables: Sequence[object]) -> tuple[Tensor, Tensor]:
    ends = [getattr(variable, "bounds", (None, None)) for variable in variables]
    low = [-torch.inf if end is None else end for end, _ in ends]
    high = [torch.inf if end is None else end for _, end in ends]
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)

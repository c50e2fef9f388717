r"""Multinomial logistic regression of a latent state on columns that are coded as indicators.

    log p(k | x) = log softmax_k(b + W^T f(x)),
    loss(W, b) = - sum_n c_n log sum_k p(k | x_n) p(v_n | k) + |W|^2 / (2 C)

f(x) holds an indicator of each level of a category; of each bin of equally many rows of a number,
beside its standardised value; and for each column one of its gap, where all others are 0. Where the
value v tells its state (a category) this is the usual regression with a ridge penalty (S. le Cessie
and J. van Houwelingen (1992), Ridge estimators in logistic regression); where it does not (a number
under overlapping components) the state is summed out, as in mixtures of experts with fixed experts
(R. Jacobs et al. (1991), Adaptive mixtures of local experts, equation 1.3). Minimised by L-BFGS.

Several experts' log p(k | x) are joined by a product of powers (C. Genest and J. Zidek (1986),
Combining probability distributions: the logarithmic pool), ``pool_powers``.

Shape letters: B rows, D columns, F indicators, K states, E experts, L levels of all categories.

>>> log_states = torch.eye(2).log().repeat(20, 1)
>>> x = torch.eye(2).repeat(20, 1)
>>> slope, offset = fitted(x, log_states, torch.ones(40), 1.0)
>>> bool(((x @ slope + offset).argmax(1) == x.argmax(1)).all())
True
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from conjoin.core import Event, Space
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["Indicators", "Regression", "fitted", "pool_powers"]

MAX_BINS = 16  # of a number
ROWS_PER_BIN = 100  # at least, but for the first two
MAX_LEVELS = 64  # of a category that have an indicator of their own; the others share one
MAX_INDICATORS = 600  # of all columns; where there would be more, each column has fewer
MIN_PROBABILITY = 1e-30  # of a state, so that single precision holds its logarithm
MAX_DEVIATIONS = 5.0  # from the mean, at which a standardised number is cut
MAX_STEPS = 20  # of L-BFGS
HISTORY = 10  # steps that L-BFGS remembers
POOL_STEPS = 30
TOLERANCE = 1e-5  # relative, of the loss, at which L-BFGS ends
PRIOR_ROWS = 1.0  # of the belief that experts weigh alike, for the powers of a pool


class Indicators(nn.Module):
    """f(x): of the class first, if there is one, then of each column in turn, so that what is told
    of the first columns stands in the first indicators."""

    edges: Tensor
    centre: Tensor
    spread: Tensor
    slot: Tensor

    def __init__(self, space: Space, classes: int, sizes: list[int]) -> None:
        """``sizes``: indicators of each column's levels, or bins."""
        super().__init__()
        columns = len(space.variables)
        self.classes = classes
        self.sizes = sizes
        self.levels = [v.cardinality if v.discrete else 0 for v in space.variables]
        # with a gap's, and the value itself of a number
        widths = [n + 1 + int(not v.discrete) for n, v in zip(sizes, space.variables, strict=True)]
        self.starts = [classes + sum(widths[:d]) for d in range(columns + 1)]
        self.register_buffer("edges", torch.zeros(columns, MAX_BINS - 1, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("slot", torch.zeros(sum(self.levels), dtype=torch.int32))

    @classmethod
    def of(cls, space: Space, classes: int, data: Event) -> Self:
        """Levels and quantiles of the rows."""
        most = _levels_in_all(space)
        slots = [torch.zeros(0, dtype=torch.int32) for _ in space.variables]
        edges = [torch.zeros(0).double() for _ in space.variables]
        for d, variable in enumerate(space.variables):
            known = data.value[data.mask[:, d], d]
            if variable.discrete:
                slots[d] = _slots(known, variable.cardinality, most)
            elif len(known):
                edges[d] = _edges(known, min(MAX_BINS, most, 1 + len(known) // ROWS_PER_BIN))
        sizes = [
            int(slot.max()) + 1 if len(slot) else len(edge) + 1
            for slot, edge in zip(slots, edges, strict=True)
        ]
        out = cls(space, classes, sizes)
        out.slot.copy_(torch.cat(slots))
        for d, edge in enumerate(edges):
            out.edges[d, : len(edge)] = edge
            out._standardise(d, data.value[data.mask[:, d], d])
        return out

    def _standardise(self, d: int, known: Float[Tensor, " B"]) -> None:
        if not self.levels[d] and len(known):
            self.centre[d] = known.mean()
            self.spread[d] = known.std(correction=0) or 1.0

    @property
    def width(self) -> int:
        return self.starts[-1]

    def forward(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"], code: Tensor | None
    ) -> Float[Tensor, "B F"]:
        out = torch.zeros(len(value), self.width)
        if self.classes and code is not None:
            known = (code >= 0).nonzero()[:, 0]
            out[known, code[known].long()] = 1.0
        for d in range(len(self.sizes)):
            self.write(out, d, value[:, d], mask[:, d])
        return out

    def write(
        self,
        out: Float[Tensor, "B F"],
        d: int,
        value: Float[Tensor, " B"],
        mask: Bool[Tensor, " B"],
    ) -> None:
        """Set the indicators of one column."""
        start = self.starts[d]
        size = self.sizes[d]
        out[:, start : self.starts[d + 1]] = 0.0
        place = torch.where(mask, self._place(d, value), size)  # a gap's is behind the others
        out[torch.arange(len(out)), start + place] = 1.0
        if not self.levels[d]:
            standard = ((value - self.centre[d]) / self.spread[d]).clamp(
                -MAX_DEVIATIONS, MAX_DEVIATIONS
            )
            out[:, start + size + 1] = torch.where(mask, standard, 0.0).float()

    def _place(self, d: int, value: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        if not self.levels[d]:
            edges = self.edges[d, : self.sizes[d] - 1]
            return torch.bucketize(value.contiguous(), edges, right=True)
        first = sum(self.levels[:d])
        return self.slot[first + value.long().clamp(0, self.levels[d] - 1)].long()


def _levels_in_all(space: Space) -> int:
    """Indicators of a column, at most, by which all of them are few enough."""
    sizes = [v.cardinality if v.discrete else MAX_BINS for v in space.variables]
    most = MAX_LEVELS
    while most > 2 and sum(min(size, most) for size in sizes) > MAX_INDICATORS:
        most -= 1
    return most


def _slots(known: Float[Tensor, " B"], levels: int, most: int) -> Int[Tensor, " L"]:
    """Where each level has its indicator; rare ones share the last."""
    if levels <= most:
        return torch.arange(levels, dtype=torch.int32)
    rows = torch.bincount(known.long(), minlength=levels)
    rank = torch.empty(levels, dtype=torch.int32)
    rank[rows.argsort(descending=True, stable=True)] = torch.arange(levels, dtype=torch.int32)
    return rank.clamp_max(most - 1)


def _edges(known: Float[Tensor, " B"], bins: int) -> Float[Tensor, " Q"]:
    """Between bins of equally many rows, in the middle of two values, so that rounding moves none
    to another bin; fewer where values recur."""
    at = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    found = known.unique()
    first = known.sort().values[(at * (len(known) - 1)).ceil().long()].unique()
    place = torch.searchsorted(found, first)
    place = place[place > 0]
    return 0.5 * (found[place - 1] + found[place])


class Regression(NamedTuple):
    """W and b."""

    slope: Float[Tensor, "F K"]
    offset: Float[Tensor, " K"]

    def log_prob(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """In the precision of ``x``."""
        return torch.addmm(self.offset.to(x), x, self.slope.to(x)).log_softmax(1)


@torch.no_grad()
def fitted(
    x: Float[Tensor, "B F"],
    log_states: Float[Tensor, "B K"],
    weight: Float[Tensor, " B"],
    strength: float,
    start: Regression | None = None,
) -> Regression:
    """The regression that minimises the loss; ``log_states`` is log p(v | k), ``strength`` C."""
    shape = (x.shape[1] + 1, log_states.shape[1])
    begun = torch.zeros(shape)
    if start is not None:
        begun[:-1] = start.slope
        begun[-1] = start.offset
    total = float(weight.sum())
    share = (weight / total)[:, None].float()
    penalty = 1 / (strength * total)
    # up to a factor for each row, on which the minimum does not depend
    likelihood = (log_states - log_states.amax(1, keepdim=True)).exp()

    def loss(at: Tensor) -> tuple[float, Tensor]:
        at = at.float().reshape(shape)
        slope = at[:-1]
        weights = torch.addmm(at[-1], x, slope).softmax(1).clamp_min_(MIN_PROBABILITY)
        given = weights * likelihood
        joint = given.sum(1, keepdim=True)
        error = weights.sub_(given.div_(joint)).mul_(share)
        gradient = torch.cat([x.T @ error + penalty * slope, error.sum(0)[None]])
        own = -(share * joint.log()).sum(dtype=torch.float64)
        return float(own) + 0.5 * penalty * float(slope.square().sum()), gradient

    found = _minimum(loss, begun, MAX_STEPS).float().reshape(shape)
    return Regression(found[:-1], found[-1])


def _minimum(
    loss: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, steps: int
) -> Float[Tensor, " P"]:
    """Where L-BFGS arrives; ``loss`` gives its value and its gradient."""

    def flat(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(torch.as_tensor(at))
        return value, gradient.reshape(-1).double().numpy()

    options = {"maxiter": steps, "maxcor": HISTORY, "ftol": TOLERANCE}
    begun = start.reshape(-1).double().numpy()
    done = minimize(flat, begun, jac=True, method="L-BFGS-B", options=options)
    return torch.as_tensor(done.x)


@torch.no_grad()
def pool_powers(
    experts: list[Float[Tensor, "B K"]],
    log_states: Float[Tensor, "B K"],
    weight: Float[Tensor, " B"],
) -> Float[Tensor, " E"]:
    """The powers of the experts' p(k | x), none under 0, that give rows the greatest log p(v)."""
    log_p = torch.stack(experts).double()
    share = (weight / weight.sum()).double()
    even = 1 / len(experts)
    prior = PRIOR_ROWS / float(weight.sum())
    start = torch.full((len(experts),), even, dtype=torch.float64)

    def loss(powers: Tensor) -> tuple[float, Tensor]:
        each = powers.abs()
        logits = torch.einsum("e,ebk->bk", each, log_p)
        given = logits + log_states
        error = (logits.softmax(1) - given.softmax(1)) * share[:, None]
        gradient = torch.einsum("bk,ebk->e", error, log_p) + prior * (each - even)
        own = (share * (logits.logsumexp(1) - given.logsumexp(1))).sum()
        value = own + 0.5 * prior * (each - even).square().sum()
        return float(value), gradient * powers.sign()

    return _minimum(loss, start, POOL_STEPS).abs()

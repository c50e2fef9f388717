r"""Numbers y of which only bounds are known, as p(y | x) learns from them.

    y = w . z(x) + s e,    e ~ N(0, 1),    z(x) the numbers of a row

is fitted by the likelihood of the known numbers and of the mass between the bounds (J. Tobin
(1958), Estimation of relationships for limited dependent variables), with ridge on w, by
expectation-maximisation. The members of a pool then learn, in place of a number between bounds,

    y* = E[y | l <= y <= h, x]

(J. Buckley and I. James (1979), Linear regression with censored data). What they err by, and their
weights, are judged on known numbers and on draws from the same distribution in place of y*: by
known numbers alone a member would win that keeps within the bounds.

Shape letters: B rows, N of them between bounds, F numbers of a row.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Pair, stream
from conjoin.core.event import concatenated
from conjoin.core.shapes import Float
from conjoin.fitting.split import Rows
from conjoin.model.targets import Target
from conjoin.predictors.base import Case
from conjoin.predictors.folds import dealt
from conjoin.training.data import row_hashes

__all__ = [
    "Bounded",
    "bounded_among",
    "completed",
    "open_beyond_bounds",
    "truncated_draw",
    "truncated_mean",
]

ROUNDS = 500  # of expectation-maximisation, at most
SETTLED = 1e-4  # deviations that no number moves by any more
STRENGTHS = tuple(10.0 ** np.arange(-1, 6.5, 0.5))  # of ridge, on standardised numbers


@dataclass(frozen=True)
class Bounded:
    """Rows whose number lies between ``low`` and ``high`` (N,), event units. ``case`` holds them
    with their folds; its y are not known. ``given``: they and the known rows, as the user gave
    them."""

    case: Case
    low: Float[Tensor, " N"]
    high: Float[Tensor, " N"]
    given: Any

    @property
    def edge(self) -> Float[Tensor, " N"]:
        """The middle of bounds that are both known, else the one that is."""
        return _edges(self.low, self.high)

    def before(self, taught: Case, y: Float[Tensor, " N"]) -> Case:
        """These rows with such numbers, then the known rows."""
        pairs = (self.case.rows, taught.rows)
        own = Event(y, torch.ones_like(y, dtype=torch.bool))
        assert taught.fold is not None and self.case.fold is not None
        return replace(
            taught,
            rows=Pair(concatenated([own, taught.rows.y]), concatenated([x for _, x in pairs])),
            weight=torch.cat([self.case.weight, taught.weight]),
            given=self.given,
            fold=np.concatenate([self.case.fold, taught.fold]),
        )


def bounded_among(
    case: Case, choose: Pair, rows: Rows, places: np.ndarray, target: Target
) -> Bounded | None:
    """Those of the rows of the fit and of the validation, at ``places`` among all ``rows``, whose
    number has a bound; None where there are none."""
    found = target.bounds(*rows.bounds_at(places))
    if found is None:
        return None
    low, high = found
    y = concatenated([case.rows.y, choose.y])
    some = ~y.mask & (low.isfinite() | high.isfinite())
    if not some.any():
        return None
    assert rows.weight is not None
    x = concatenated([case.rows.x, choose.x])
    whole = replace(case, rows=Pair(y, x), weight=torch.tensor(rows.weight[places]), fold=None)
    kept = some.numpy()
    own = replace(whole, given=None).take(kept)
    given = rows.x.take(np.concatenate([places[kept], places[y.mask.numpy()]]))
    hashes = row_hashes(rows.x, rows.groups)[places[kept]]
    edge = _edges(low[some], high[some])
    fold = dealt(edge.numpy(), None, case.seed, hashes, case.fast)
    return Bounded(replace(own, fold=fold), low[some], high[some], given)


def completed(
    table: np.ndarray, taught: Case, bounded: Bounded
) -> tuple[Case, Float[Tensor, " B"]]:
    """The rows between bounds with y*, then the known rows, as a case to learn from; and the (B,) y
    by which to judge. ``table`` (B, F): the numbers of those rows."""
    count = len(bounded.low)
    mean, deviation = _tobit(table, taught, bounded)
    there = (mean[:count], deviation, bounded.low, bounded.high)
    drawn = truncated_draw(*there, stream(taught.seed, "bounds"))
    case = bounded.before(taught, truncated_mean(*there))
    return case, torch.cat([drawn, taught.rows.y.value])


def _tobit(table: np.ndarray, taught: Case, bounded: Bounded) -> tuple[Float[Tensor, " B"], Tensor]:
    """w . z(x) of all rows, and s."""
    from sklearn.linear_model import RidgeCV

    count = len(bounded.low)
    known = taught.rows.y.value
    weight = torch.cat([bounded.case.weight, taught.weight])
    z = torch.as_tensor(table)
    z = (z - z.mean(0)) / z.std(0, unbiased=False).clamp_min(1e-9)
    first = RidgeCV(STRENGTHS).fit(z[count:].numpy(), known.numpy(), taught.weight.numpy())
    z = torch.cat([torch.ones(len(z), 1, dtype=z.dtype), z], 1)
    penalty = torch.full((z.shape[1],), float(first.alpha_), dtype=z.dtype)
    penalty[0] = 0.0
    weighted = weight[:, None] * z
    root = torch.linalg.cholesky(z.T @ weighted + penalty.diag() + 1e-9 * torch.eye(len(penalty)))
    freedom = torch.cholesky_solve(weighted.T, root).T.mul(z).sum()  # that the fit takes
    left = (weight.sum() - freedom).clamp_min(1.0)
    mean = torch.as_tensor(first.predict(z[:, 1:].numpy()))
    deviation = ((known - mean[count:]).square() @ taught.weight / left).sqrt()
    for _ in range(ROUNDS):
        cut = _Cut.of(mean[:count], deviation, bounded.low, bounded.high)
        y = torch.cat([truncated_mean(mean[:count], deviation, bounded.low, bounded.high), known])
        new = z @ torch.cholesky_solve((weighted.T @ y)[:, None], root)[:, 0]
        moved = (new - mean).abs().max() / deviation
        # of numbers between bounds: the spread within them, and how far their mean is off
        within = deviation.square() * cut.variance
        squares = torch.cat([within, torch.zeros_like(known)]) + (y - new).square()
        mean = new
        deviation = (squares @ weight / left).sqrt().clamp_min(1e-9)
        if moved < SETTLED:
            break
    return mean, deviation


def open_beyond_bounds(target: Target, rows: Rows, places: np.ndarray) -> None:
    """The range of a number is open where one of the rows at ``places`` is known to lie beyond a
    bound."""
    low, high, _ = rows.bounds_at(places)
    if low is None:
        return
    some = np.isfinite(low) | np.isfinite(high)
    number: Any = target
    least, most = number.range
    number.range = (
        None if np.isinf(low[some]).any() else least,
        None if np.isinf(high[some]).any() else most,
    )


def truncated_mean(
    mean: Float[Tensor, " N"],
    deviation: Tensor,
    low: Float[Tensor, " N"],
    high: Float[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Of normal distributions cut off at ``low`` and ``high``.

    >>> zero, end = torch.zeros(1), torch.tensor([torch.inf])
    >>> round(float(truncated_mean(zero, torch.tensor(1.0), zero, end)), 4)  # sqrt(2 / pi)
    0.7979
    """
    cut = _Cut.of(mean, deviation, low, high)
    return cut.back(cut.first)


def truncated_draw(
    mean: Float[Tensor, " N"],
    deviation: Tensor,
    low: Float[Tensor, " N"],
    high: Float[Tensor, " N"],
    generator: torch.Generator,
) -> Float[Tensor, " N"]:
    """A draw from each of the same distributions, by the inverse of the distribution function."""
    from scipy.special import ndtri_exp

    cut = _Cut.of(mean, deviation, low, high)
    share = torch.rand(len(mean), generator=generator, dtype=torch.float64).clamp_min(1e-300)
    level = torch.logaddexp(torch.special.log_ndtr(cut.low), cut.log_mass + share.log())
    return cut.back(torch.as_tensor(ndtri_exp(level.clamp(max=0.0).numpy())))


@dataclass(frozen=True)
class _Cut:
    """Ends in deviations from the mean, in the lower tail where both are in one: there digits are.
    ``log_mass`` lies between them."""

    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor
    flipped: Tensor
    log_mass: Tensor

    @classmethod
    def of(cls, mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> "_Cut":
        least = (low - mean) / deviation
        most = (high - mean) / deviation
        flipped = least > 0
        a = torch.where(flipped, -most, least)
        b = torch.where(flipped, -least, most)
        upper = torch.special.log_ndtr(b)
        share = (torch.special.log_ndtr(a) - upper).exp().clamp(max=1 - 1e-12)
        return cls(mean, deviation, a, b, flipped, upper + torch.log1p(-share))

    @property
    def first(self) -> Tensor:
        """The mean between the ends, in deviations."""
        ends = [(-0.5 * end.square() - self.log_mass).exp() for end in (self.low, self.high)]
        z = (ends[0] - ends[1]) / (2 * torch.pi) ** 0.5
        return torch.minimum(torch.maximum(z, self.low), self.high)

    @property
    def variance(self) -> Tensor:
        """Between the ends, in squares of the deviation."""
        ends = [
            (end * (-0.5 * end.square() - self.log_mass).exp()).nan_to_num(0.0)
            for end in (self.low, self.high)
        ]
        second = 1 + (ends[0] - ends[1]) / (2 * torch.pi) ** 0.5
        return (second - self.first.square()).clamp(0.0, 1.0)

    def back(self, z: Tensor) -> Tensor:
        """In the units of the mean."""
        inside = torch.minimum(torch.maximum(z, self.low), self.high)
        return self.mean + self.deviation * torch.where(self.flipped, -inside, inside)


def _edges(low: Tensor, high: Tensor) -> Tensor:
    """(N,) the middle of bounds that are both known, else the one that is."""
    first = torch.where(low.isfinite(), low, high)
    return (first + torch.where(high.isfinite(), high, first)) / 2

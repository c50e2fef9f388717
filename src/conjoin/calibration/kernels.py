r"""Kernels about centres: a reading of a row that is sharp where numbers hang together.

    log p(x) = log sum_c w_c prod_i N(x_i; m_ci, h^2),  i over the coordinates that are known

The centres m_c are the means of clusters of at least ``MIN_CENTRE_ROWS`` rows (k-means), so that no
single row is kept; one width h for all coordinates is chosen by the likelihood of validation rows
(E. Parzen (1962), On estimation of a probability density function and mode, with means in the place
of rows). Categories are indicators. Numbers are in their standard deviations, or normal scores of
their ranks, which no single far value stretches. Unit: nats up to a constant.

Shape letters: B rows, D variables, P coordinates, C centres, Q quantiles.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Event, Variable
from conjoin.core.shapes import Bool, Float

__all__ = ["MAX_COORDINATES", "KernelReading"]

MAX_COORDINATES = 256  # of a row: with more, distances tell little and take long
MAX_LEARNING_ROWS = 8192  # rows that centres are the means of
MAX_CENTRES = 1000
ROWS_PER_CENTRE = 3
MIN_CENTRE_ROWS = 2  # a centre of one row would be that row
ITERATIONS = 10  # of k-means
WIDTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 1.0, 1.4)  # of a kernel, that are tried
MAX_QUANTILES = 512  # of a column, by which ranks are found
MAX_DEVIATIONS = 5.0  # at which a number is cut
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class KernelReading:
    """Kernels about centres, for rows of these variables."""

    variables: tuple[Variable, ...]
    by_rank: bool
    knots: Float[Tensor, "D Q"]  # quantiles of each column; or its mean and deviation
    centre: Float[Tensor, "C P"]
    log_weight: Float[Tensor, " C"]
    width: Float[Tensor, ""]

    @classmethod
    def of(
        cls,
        variables: tuple[Variable, ...],
        rows: Event,
        judging: Event,
        by_rank: bool,
        generator: np.random.Generator,
    ) -> Self:
        """From rows of the fit; ``judging``: validation rows, by which the width is chosen."""
        some = torch.as_tensor(generator.permutation(rows.rows)[:MAX_LEARNING_ROWS])
        rows = rows.take(some)
        knots = _knots(variables, rows, by_rank)
        nothing = torch.zeros(0, dtype=torch.float64)
        start = cls(variables, by_rank, knots, nothing[:, None], nothing, torch.tensor(1.0))
        known = rows.mask[:, start.owner]
        coded = start.coded(rows.value)
        mean = torch.where(known, coded, 0.0).sum(0) / known.sum(0).clamp_min(1)
        filled = torch.where(known, coded, mean)
        centre, log_weight = _centres(filled, int(generator.integers(1 << 31)))
        seen = judging.mask[:, start.owner]
        apart = _squares(start.coded(judging.value), seen, centre)
        fits = [_log_kernels(apart, log_weight, h) - seen.sum(1) * np.log(h) for h in WIDTHS]
        best = int(torch.stack([each.mean() for each in fits]).argmax())
        width = torch.tensor(WIDTHS[best], dtype=torch.float64)
        return cls(variables, by_rank, knots, centre, log_weight, width)

    @property
    def owner(self) -> Tensor:
        """(P,) the variable of each coordinate."""
        widths = [each.cardinality if each.nominal else 1 for each in self.variables]
        return torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))

    def coded(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B P"]:
        """The coordinates of rows; those of cells that are not known mean nothing."""
        parts = [
            nn.functional.one_hot(value[:, d].long(), variable.cardinality).double()
            if variable.nominal
            else self._score(value[:, d].contiguous(), self.knots[d])[:, None]
            for d, variable in enumerate(self.variables)
        ]
        return torch.cat(parts, 1)

    def _score(self, value: Float[Tensor, " B"], knots: Float[Tensor, " Q"]) -> Tensor:
        """Deviations from the mean, or the normal score of the rank."""
        if not self.by_rank:
            scaled = ((value - knots[0]) / knots[1]).nan_to_num()
            return scaled.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        below = torch.searchsorted(knots, value)
        not_above = torch.searchsorted(knots, value, right=True)
        rank = (below + not_above).double() / 2
        return torch.special.ndtri((rank + 0.5) / (len(knots) + 1))

    def __call__(
        self, value: Float[Tensor, "B D"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, " B"]:
        """Rows that all have this pattern's cells; further cells are of other blocks."""
        columns = len(self.variables)
        known = pattern[:columns][self.owner]
        parts = []
        for part in value[:, :columns].split(ROWS_AT_ONCE):
            coded = self.coded(part)
            apart = _squares(coded, known.expand_as(coded), self.centre)
            parts.append(_log_kernels(apart, self.log_weight, float(self.width)))
        return torch.cat(parts)

    def expected(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"], width: float
    ) -> Float[Tensor, "B P"]:
        """The mean of the centres, each by its kernel at the known coordinates of a row."""
        parts = []
        for part, known in zip(value.split(ROWS_AT_ONCE), mask.split(ROWS_AT_ONCE), strict=True):
            apart = _squares(self.coded(part), known[:, self.owner], self.centre)
            share = (self.log_weight - apart / (2 * width**2)).softmax(1)
            parts.append(share @ self.centre)
        return torch.cat(parts)

    def to_tensors(self) -> dict[str, Tensor]:
        """What is saved; the inverse of ``from_tensors``."""
        names = ("knots", "centre", "log_weight", "width")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_tensors(
        cls, variables: tuple[Variable, ...], by_rank: bool, stored: dict[str, Tensor]
    ) -> Self:
        """ValueError where the tensors are not those of such columns."""
        found = cls(variables, by_rank, **stored)
        shapes = (len(found.knots), found.centre.shape[1:], found.log_weight.shape)
        if shapes != (len(variables), found.owner.shape, found.centre.shape[:1]):
            raise ValueError("the centres of familiarity do not go with the columns")
        return found


def _knots(variables: tuple[Variable, ...], rows: Event, by_rank: bool) -> Float[Tensor, "D Q"]:
    count = min(MAX_QUANTILES, max(rows.rows, 2)) if by_rank else 2
    share = torch.linspace(0, 1, count, dtype=torch.float64)
    out = torch.zeros(len(variables), count, dtype=torch.float64)
    for d, variable in enumerate(variables):
        known = rows.value[rows.mask[:, d], d]
        if variable.nominal or not len(known):
            continue
        if by_rank:
            out[d] = known.quantile(share, interpolation="nearest")
            continue
        deviation = known.std(unbiased=False)
        # a number that never varied tells nothing here
        none = float(torch.finfo(torch.float64).max)
        out[d] = torch.stack([known.mean(), deviation if deviation > 1e-9 else deviation + none])
    return out


def _centres(coded: Float[Tensor, "B P"], seed: int) -> tuple[Tensor, Tensor]:
    """The means of clusters and their log-shares. Clusters of too few rows are given up: their rows
    go to the nearest of the others."""
    from sklearn.cluster import KMeans

    table = coded.numpy()
    distinct = len(np.unique(table, axis=0))  # copies are no reason for more centres
    count = max(1, min(MAX_CENTRES, distinct // ROWS_PER_CENTRE))
    found: Any = KMeans(count, init="random", n_init=1, max_iter=ITERATIONS, random_state=seed)
    label = torch.as_tensor(found.fit(table).labels_).long()
    rows = torch.bincount(label, minlength=count)
    kept = (rows >= min(MIN_CENTRE_ROWS, len(coded))).nonzero()[:, 0]
    if not len(kept):
        kept = torch.zeros(1, dtype=torch.long)
    centre = torch.as_tensor(found.cluster_centers_).double()[kept]
    nearest = _squares(coded, torch.ones_like(coded, dtype=torch.bool), centre).argmin(1)
    share = torch.zeros(len(kept), dtype=torch.float64)
    share.index_add_(0, nearest, torch.ones(len(coded), dtype=torch.float64))
    mean = torch.zeros_like(centre).index_add_(0, nearest, coded)
    settled = share >= min(MIN_CENTRE_ROWS, len(coded))
    mean = mean[settled] / share[settled, None]
    return mean, (share[settled] / share[settled].sum()).log()


def _squares(
    coded: Float[Tensor, "B P"], known: Bool[Tensor, "B P"], centre: Float[Tensor, "C P"]
) -> Float[Tensor, "B C"]:
    """Squared distances over the coordinates that are known."""
    own = torch.where(known, coded, 0.0)
    squares = own.square().sum(1, keepdim=True) + known.double() @ centre.T.square()
    return (squares - 2 * own @ centre.T).clamp_min(0.0)


def _log_kernels(
    apart: Float[Tensor, "B C"], log_weight: Float[Tensor, " C"], width: float
) -> Float[Tensor, " B"]:
    return (log_weight - apart / (2 * width**2)).logsumexp(1)

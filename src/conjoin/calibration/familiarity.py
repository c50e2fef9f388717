"""The statistic of familiarity: how typical a row is, by one reading of it or by several."""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core import Event, Space
from conjoin.core.shapes import Bool, Float

__all__ = [
    "Familiarity",
    "FamiliarityOfBlocks",
    "GaussianReading",
    "LeastFamiliarPart",
    "OwnFamiliarity",
    "make_room",
    "reference_of",
]

# rows by which ranks are found; the draws of a model that has learned little are worse than few
MIN_REFERENCE_ROWS = 20
MAX_REFERENCE_ROWS = 512  # quantiles of more are kept
TAIL_SHARE = 0.1  # of the reference, whose spread says how fast ranks fall beyond its least

ADDED_VARIANCE = (
    0.3  # variance that is added in every direction, of numbers whose own variance is 1
)

# standard deviations at which a number is cut: of a column that is nearly always 0, the draws
# hardly know the deviation
MAX_DEVIATIONS = 5.0

ROWS_AT_ONCE = 2048  # rows that are coded at once

MAX_PATTERNS = 16  # of missing cells, whose axes are kept
MAX_KEPT_PATTERNS = 4_096  # of missing cells, for which the mean and spread of draws are kept

# by which the sum of two standardised readings falls short of zero in one ordinary row of twenty,
# about
ORDINARY_SHORTFALL = 2.8


class GaussianReading:
    """The second reading of a row: its log-density under a Gaussian about the model's own draws,
    numbers in their standard deviations and categories as indicators, whose covariance is widened
    by ``ADDED_VARIANCE`` in every direction. The model's own log p is finer; where its detail is
    chance, this still tells what lies outside of everything (K. Lee et al. (2018), A simple unified
    framework for detecting out-of-distribution samples, equation 2, with one Gaussian)."""

    def __init__(self, space: Space, bank: Event) -> None:
        """``space``: of the columns, the first variables of a row. ``bank``: S draws, all cells
        known."""
        self.variables = space.variables
        drawn = bank.value[:, : len(self.variables)]
        self.middle = drawn.mean(0)
        deviation = drawn.std(0)
        # a number that never varied tells nothing here
        self.spread = torch.where(deviation > 1e-9, deviation, torch.inf)
        self.coded = self._code(drawn, torch.ones(len(self.variables), dtype=torch.bool))
        widths = [variable.cardinality if variable.nominal else 1 for variable in self.variables]
        # the variable of each coordinate
        self.owner = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        self._axes: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}

    def _code(
        self, value: Float[Tensor, "B D"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, "B p"]:
        """The coordinates of the known cells."""
        scaled = (
            ((value - self.middle) / self.spread)
            .nan_to_num()
            .clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        )
        return torch.cat(
            [
                nn.functional.one_hot(value[:, d].long(), variable.cardinality).double()
                if variable.nominal
                else scaled[:, d, None]
                for d, variable in enumerate(self.variables)
                if pattern[d]
            ]
            or [value[:, :0]],
            1,
        )

    def of_bank(self, pattern: Bool[Tensor, " D"]) -> Float[Tensor, " S"]:
        """The draws themselves, with this pattern's cells."""
        pattern = pattern[: len(self.variables)]
        return self._log_density(self.coded[:, pattern[self.owner]], pattern)

    def __call__(
        self, value: Float[Tensor, "B D"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, " B"]:
        """Rows that all have this pattern's cells; nats up to a constant."""
        width = len(self.variables)
        pattern = pattern[:width]
        return torch.cat(
            [
                self._log_density(self._code(part, pattern), pattern)
                for part in value[:, :width].split(ROWS_AT_ONCE)
            ]
        )

    def _log_density(
        self, coded: Float[Tensor, "B p"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, " B"]:
        """By the principal axes of the draws, of which there are no more than draws; across them
        the variance is ``ADDED_VARIANCE``."""
        key = pattern.numpy().tobytes()
        if key not in self._axes:
            if len(self._axes) >= MAX_PATTERNS:
                self._axes.clear()
            drawn = self.coded[:, pattern[self.owner]]
            _, scale, axes = torch.linalg.svd(
                (drawn - drawn.mean(0)) / (len(drawn) - 1) ** 0.5, full_matrices=False
            )
            self._axes[key] = (
                drawn.mean(0),
                axes.T,
                1 / (scale.square() + ADDED_VARIANCE) - 1 / ADDED_VARIANCE,
            )
        centre, axes, gain = self._axes[key]
        apart = coded - centre
        return -0.5 * ((apart @ axes).square() @ gain + apart.square().sum(1) / ADDED_VARIANCE)


class Familiarity:
    """The statistic: log p of what is known and, with a ``gaussian``, its second reading, each
    standardised by the model's own draws with the same cells missing, and added.

    A fixed function of one row (the draws are fixed), so that no answer depends on the batch it
    came in."""

    def __init__(
        self, log_prob: Any, bank: Event, sketch: Event, gaussian: GaussianReading | None = None
    ) -> None:
        """``sketch``: the draws that stand for the bank where cells are missing."""
        self.log_prob = log_prob
        self.bank = bank
        self.sketch = sketch
        self.gaussian = gaussian
        self._typical: dict[bytes, tuple[float, float, float, float]] = {}

    @property
    def name(self) -> str:
        """For the model card."""
        return (
            "log p(x)"
            + ("" if self.gaussian is None else " and a Gaussian's")
            + ", unit-free, standardised per missing pattern"
        )

    def statistic(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """``extra`` is the codec's log-mass of cells that were never seen."""
        raw = self.log_prob(x) + extra
        out = torch.empty_like(raw)
        (patterns, which) = torch.unique(x.mask, dim=0, return_inverse=True)
        for place, pattern in enumerate(patterns):
            rows = (which == place).nonzero()[:, 0]
            (mean, deviation, middle, spread) = self._of(pattern)
            out[rows] = (raw[rows] - mean) / deviation
            if self.gaussian is not None:
                out[rows] += (self.gaussian(x.value[rows], pattern) - middle) / spread
        return out

    def _of(self, pattern: Tensor) -> tuple[float, float, float, float]:
        """Mean and deviation over the bank, with this pattern's cells: of log p, and of the
        Gaussian."""
        key = pattern.numpy().tobytes()
        if key not in self._typical:
            value = (self.bank if pattern.all() else self.sketch).value
            drawn = self.log_prob(Event(value, pattern.expand_as(value)))
            second = (
                torch.zeros(2, dtype=torch.float64)
                if self.gaussian is None
                else self.gaussian.of_bank(pattern)
            )
            make_room(self._typical)
            self._typical[key] = (*_usual(drawn), *_usual(second))
        return self._typical[key]


def make_room(kept: dict[bytes, Any]) -> None:
    """For one pattern more: the one that was met first goes where they are many."""
    if len(kept) >= MAX_KEPT_PATTERNS:
        del kept[next(iter(kept))]


def _usual(drawn: Float[Tensor, " S"]) -> tuple[float, float]:
    return float(drawn.mean()), float(drawn.std().clamp_min(1e-6))


class OwnFamiliarity:
    """The statistic that a density has of its own, for data where log p(x) is no measure of what is
    typical: pictures."""

    name = "the least typical of the model's own readings of a row"

    def __init__(self, typicality: Any) -> None:
        self.typicality = typicality

    def statistic(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """``extra`` is the codec's log-mass of cells that were never seen."""
        out: Tensor = self.typicality(x) + extra
        return out.masked_fill(x.unobserved & (extra == 0), torch.inf)  # nothing is known of them


class LeastFamiliarPart:
    """Of columns and a picture that goes with them the lesser statistic, each on a scale on which 1
    is what one ordinary row in twenty falls short by; of a row without a picture, that of its
    columns."""

    name = (
        "the lesser of two: of the columns, log p(x) and a Gaussian's; of the picture, the "
        "least typical reading of it"
    )

    def __init__(self, columns: Familiarity, picture: OwnFamiliarity, last: int) -> None:
        self.columns = columns
        self.picture = picture
        self.last = last  # cells of a row, which are the picture's

    def statistic(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """``extra`` is the codec's log-mass of cells that were never seen."""
        after = torch.arange(x.value.shape[1]) >= x.value.shape[1] - self.last
        out = self.columns.statistic(x.hide(after), extra) / ORDINARY_SHORTFALL
        seen = x.mask[:, after].all(1)
        if seen.any():
            out[seen] = torch.minimum(
                out[seen], self.picture.statistic(x.take(seen), torch.zeros(int(seen.sum())))
            )
        return out


class FamiliarityOfBlocks:
    """Of rows of several blocks one statistic: each block has a statistic of its own, which is
    ranked among the validation rows; of the least rank u of the k known blocks it is
    log(1 - (1 - u)^k), as if the blocks were independent (Z. Sidak (1967), Rectangular confidence
    regions for the means of multivariate normal distributions). Ranked once more among the
    calibration rows it is valid however the blocks depend on one another, as it is a fixed
    function of the row."""

    name = "the least familiar block, by its rank among validation rows"

    def __init__(
        self,
        columns: Any,
        typicality: Any,
        width: int,
        reference: Any = None,
        between: bool = False,
    ) -> None:
        """``columns``: the statistic of the columns, see ``Familiarity``; None where there is none.
        ``typicality``: (B, N) of the blocks behind the ``width`` columns, NaN where one is not
        known. ``reference``: of each block, columns first, the statistic on validation rows, in
        order. ``between``: whether a rank says where between two of them a row lies; without it
        rows have equal ranks there, and an alarm may call fewer than it is allowed to."""
        self.between = between
        self.columns = columns
        self.typicality = typicality
        self.width = width
        self.reference = [torch.tensor(each, dtype=torch.float64) for each in reference or ()]

    def statistics(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, "B N"]:
        """That of each block, columns first; NaN where nothing is known of it."""
        columns = torch.full_like(extra, torch.nan)
        if self.width:
            behind = torch.arange(x.value.shape[1]) >= self.width
            told = x.mask[:, : self.width].any(1) | (extra < 0)
            columns = self.columns.statistic(x.hide(behind), extra).masked_fill(~told, torch.nan)
        return torch.cat([columns[:, None], self.typicality(x)], 1)

    def ranks(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, "B N"]:
        """u of each block, above 0 and at most 1; 1 where nothing is known of it."""
        own = self.statistics(x, extra)
        pairs = zip(own.T, self.reference, strict=True)
        each = [_rank(value, reference, self.between) for value, reference in pairs]
        ranks = torch.stack(each, 1)
        if not self.width:  # no columns tell what was never seen
            ranks[:, 0] = extra.exp().clamp(1e-300, 1.0)
            own[:, 0] = 0.0
        return ranks.masked_fill(own.isnan(), 1.0)

    def statistic(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """``extra`` is the codec's log-mass of cells that were never seen."""
        ranks = self.ranks(x, extra)
        known = (ranks < 1).sum(1).clamp_min(1)
        least = ranks.amin(1)
        return torch.log(-torch.expm1(known * torch.log1p(-least)))

    def least(self, x: Event, extra: Float[Tensor, " B"]) -> Tensor:
        """(B,) the block of the least rank."""
        return self.ranks(x, extra).argmin(1)


def reference_of(statistics: Float[Tensor, "B N"]) -> tuple[tuple[float, ...], ...]:
    """The known statistics of each block, in order; quantiles, where they are many."""
    found = []
    for column in statistics.T:
        known = column[column.isfinite()].sort().values
        if len(known) > MAX_REFERENCE_ROWS:
            known = known.quantile(torch.linspace(0, 1, MAX_REFERENCE_ROWS, dtype=known.dtype))
        found.append(tuple(known.tolist()))
    return tuple(found)


def _rank(
    value: Float[Tensor, " B"], reference: Float[Tensor, " R"], between: bool
) -> Float[Tensor, " B"]:
    """The share of the reference, and the row itself, that is no more familiar, interpolated
    ``between`` two of them. Below its least one the rank falls on exponentially, so that what is
    stranger still has a lesser one."""
    rows = len(reference)
    if not rows:
        return torch.ones_like(value)
    asked = value.nan_to_num(torch.inf)
    below = torch.searchsorted(reference, asked, right=True)
    rank = (1 + below) / (rows + 1)
    if between:
        low = reference[(below - 1).clamp_min(0)]
        gap = reference[below.clamp_max(rows - 1)] - low
        inside = (below > 0) & (below < rows)
        share = torch.where(inside, (asked - low) / gap.clamp_min(1e-300), 0.0)
        rank = rank + share.clamp(0, 1) / (rows + 1)
    tail = (reference.quantile(TAIL_SHARE) - reference[0]).clamp_min(1e-9)
    beyond = ((value - reference[0]) / tail).clamp(max=0.0).nan_to_num(0.0, neginf=-700.0)
    return (rank * beyond.clamp_min(-700.0).exp()).clamp(1e-300, 1 - 1e-12)

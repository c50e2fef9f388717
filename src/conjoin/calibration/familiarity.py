"""The statistic of familiarity: how typical a row is, by one reading of it or by several."""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core import Event, Space
from conjoin.core.shapes import Bool, Float

__all__ = ["Familiarity", "GaussianReading", "LeastFamiliarPart", "OwnFamiliarity"]

ADDED_VARIANCE = (
    0.3  # variance that is added in every direction, of numbers whose own variance is 1
)

# standard deviations at which a number is cut: of a column that is nearly always 0, the draws
# hardly know the deviation
MAX_DEVIATIONS = 5.0

ROWS_AT_ONCE = 2048  # rows that are coded at once

MAX_PATTERNS = 16  # of missing cells, whose axes are kept

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
        """``bank``: S draws, all cells known."""
        self.variables = space.variables
        self.middle = bank.value.mean(0)
        deviation = bank.value.std(0)
        # a number that never varied tells nothing here
        self.spread = torch.where(deviation > 1e-9, deviation, torch.inf)
        self.coded = self._code(bank.value, torch.ones(len(self.variables), dtype=torch.bool))
        widths = [
            variable.cardinality if variable.kind == "category" else 1
            for variable in self.variables
        ]
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
                if variable.kind == "category"
                else scaled[:, d, None]
                for d, variable in enumerate(self.variables)
                if pattern[d]
            ]
            or [value[:, :0]],
            1,
        )

    def of_bank(self, pattern: Bool[Tensor, " D"]) -> Float[Tensor, " S"]:
        """The draws themselves, with this pattern's cells."""
        return self._log_density(self.coded[:, pattern[self.owner]], pattern)

    def __call__(
        self, value: Float[Tensor, "B D"], pattern: Bool[Tensor, " D"]
    ) -> Float[Tensor, " B"]:
        """Rows that all have this pattern's cells; nats up to a constant."""
        return torch.cat(
            [
                self._log_density(self._code(part, pattern), pattern)
                for part in value.split(ROWS_AT_ONCE)
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
            self._typical[key] = (*_usual(drawn), *_usual(second))
        return self._typical[key]


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
        return out


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

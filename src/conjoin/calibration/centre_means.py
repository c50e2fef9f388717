r"""What centres of rows say of missing cells, beside a density, where held-out cells show that it
helps.

    (1 - a_d) E_p(x_d | known) + a_d sum_c r_c m_cd,        a_d = a or 0
    r_c ~ w_c prod_i N(x_i; m_ci, h^2),  i over the coordinates that are known

E_p is the density's own mean, m_c the means of clusters (``conjoin.calibration.kernels``; E.
Nadaraya (1964), On estimating regression, with means in the place of rows). So a point is that of a
mixture, and no row is kept. A category counts by its indicators: what is mixed are probabilities.

Cells of validation rows are hidden at random; the share a and the width h, for all columns, are
those with the least squared error there, of each column in parts of the density's own. Unless that
is two standard errors less, and in columns where it is not less, a_d is 0. The density's means are
those of a few draws, whose known noise is taken off.

Shape letters: B rows, D variables, P coordinates, R copies of rows, S draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from conjoin.calibration.kernels import WIDTHS, KernelReading
from conjoin.core import Event, Variable
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["CentreMeans", "learn_centre_means"]

HIDDEN_SHARE = 0.3  # of the known cells of a validation row
JUDGED_ROWS = 1024  # validation rows at most, or copies of fewer that are hidden in several ways
MAX_COPIES = 8
DRAWS = 4  # of the density, for each copy
STANDARD_ERRORS = 2.0  # of a gain that is more than chance


@dataclass(frozen=True)
class CentreMeans:
    """Means about centres, and how much they count in each column.

    Attributes
    ----------
    kernel
        The centres.
    width
        Of all kernels, deviations.
    share
        Of each column; 0 where the density's own mean stands alone.
    """

    kernel: KernelReading
    width: Float[Tensor, ""]
    share: Float[Tensor, " D"]

    @property
    def columns(self) -> list[int]:
        """Those that are mixed."""
        return self.share.nonzero()[:, 0].tolist()

    def expected(self, x: Event, column: int) -> Float[Tensor, " B"] | Float[Tensor, "B K"]:
        """The mean of a number, in the event's units, or the probabilities of each level."""
        found = self.kernel.expected(x.value, x.mask, float(self.width))
        own = found[:, self.kernel.owner == column]
        if self.kernel.variables[column].nominal:
            return own
        mean, deviation = self.kernel.knots[column]
        return mean + deviation * own[:, 0]

    def to_tensors(self) -> dict[str, Tensor]:
        """What is saved; the inverse of ``from_tensors``."""
        return self.kernel.to_tensors() | {"mean_width": self.width, "shares": self.share}

    @classmethod
    def from_tensors(cls, variables: tuple[Variable, ...], stored: dict[str, Tensor]) -> Self:
        """ValueError where the tensors do not go with the columns."""
        others = dict(stored)
        width = others.pop("mean_width")
        share = others.pop("shares")
        if share.shape != (len(variables),) or width.ndim:
            raise ValueError("the shares of centres do not go with the columns")
        return cls(KernelReading.from_tensors(variables, False, others), width, share)


def learn_centre_means(
    kernel: KernelReading,
    validation: Event,
    sample: Callable[[Event], Event],
    generator: np.random.Generator,
) -> CentreMeans | None:
    """From hidden cells of validation rows; None where centres do not help. ``kernel``: of rows of
    the fit, in deviations. ``sample``: one draw of the density for each row, its missing cells
    given the others."""
    row, hidden, x = _hidden(validation, generator)
    truth = kernel.coded(validation.value)[row]
    drawn = torch.stack([kernel.coded(sample(x).value) for _ in range(DRAWS)])
    error = truth - drawn.mean(0)
    noise = drawn.var(0) / DRAWS
    mixed = [not each.discrete or each.nominal for each in kernel.variables]
    judged = hidden & torch.tensor(mixed)
    best = _Gain(0.0, torch.zeros(len(mixed), dtype=torch.float64), 0.0)
    width = WIDTHS[0]
    for h in WIDTHS:
        apart = kernel.expected(x.value, x.mask, h) - drawn.mean(0)
        found = _gain(*_products(error, apart, noise, judged, kernel.owner), row)
        if found.total > best.total:
            best = found
            width = h
    if not best.is_sure:
        return None
    share = best.share * (best.of_columns > 0).double()
    return CentreMeans(kernel, torch.tensor(width, dtype=torch.float64), share)


def _hidden(
    validation: Event, generator: np.random.Generator
) -> tuple[Int[Tensor, " R"], Bool[Tensor, "R D"], Event]:
    """Copies of validation rows with some of their cells hidden: of which row each is, what is
    hidden, and what is left."""
    count = min(validation.rows, JUDGED_ROWS)
    some = torch.as_tensor(generator.permutation(validation.rows)[:count])
    row = some.repeat(min(MAX_COPIES, math.ceil(JUDGED_ROWS / count)))
    known = validation.mask[row]
    hidden = known & torch.as_tensor(generator.random(tuple(known.shape)) < HIDDEN_SHARE)
    return row, hidden, Event(validation.value[row], known & ~hidden)


class _Gain(NamedTuple):
    """How much less the squared error is with this share of the centres, in the sum and of each
    column, in parts of the column's own; and the deviation of the sum by chance."""

    share: float
    of_columns: Float[Tensor, " D"]
    chance: float

    @property
    def total(self) -> float:
        return float(self.of_columns.sum())

    @property
    def is_sure(self) -> bool:
        return self.total > STANDARD_ERRORS * self.chance


def _products(
    error: Float[Tensor, "R P"],
    apart: Float[Tensor, "R P"],
    noise: Float[Tensor, "R P"],
    judged: Bool[Tensor, "R D"],
    owner: Int[Tensor, " P"],
) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R D"]]:
    """Of each judged cell the error of the density's mean times the way from there to that of the
    centres, and the square of this way, in parts of the squared errors of the column.

    ``noise``: the variance of a mean of draws, which makes errors, products and squares too large
    by as much."""
    each = torch.zeros(3, *judged.shape, dtype=torch.float64)
    parts = torch.stack([error * error, error * apart, apart * apart]) - noise
    each.index_add_(2, owner, parts)
    each = torch.where(judged, each, 0.0)
    own = each[0].sum(0)
    scale = torch.where(own > 0, 1 / own.clamp_min(1e-300), 0.0)
    return each[1] * scale, each[2] * scale


def _gain(
    product: Float[Tensor, "R D"], square: Float[Tensor, "R D"], row: Int[Tensor, " R"]
) -> _Gain:
    """With the share of the least squared error. All cells of a row, in all of its copies, count as
    one."""
    whole = float(square.sum())
    share = min(max(float(product.sum()) / whole, 0.0), 1.0) if whole > 0 else 0.0
    gain = 2 * share * product - share**2 * square
    _, place = row.unique(return_inverse=True)
    of_rows = torch.zeros(int(place.max()) + 1, dtype=torch.float64)
    of_rows.index_add_(0, place, gain.sum(1))
    chance = float(of_rows.std()) * len(of_rows) ** 0.5 if len(of_rows) > 1 else math.inf
    return _Gain(share, gain.sum(0), chance)

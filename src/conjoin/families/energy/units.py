r"""The softmax unit of a column: a category's value itself, or which of a few overlapping pieces a
number comes from.

    p_d(x_d | c) = [x_d = c]   (category, level),        p_d(x_d | c) = leaf_c(x_d)   (number)

The pieces are those of a mixture of the column alone, fitted by expectation-maximisation and then
left as they are (A. Dempster, N. Laird and D. Rubin (1977), section 4.3). Log-probabilities in
nats.

Shape letters: B rows, D variables (N numbers), C states of a unit (padded to the most).

>>> from conjoin.core import Event, Variable
>>> colour = Variable("colour", "category", cardinality=3)
>>> units = Units((colour, Variable("mass", "real")), pieces=4)
>>> units.log_prob(Event(torch.tensor([[1.0, 0.3]]).double()))[0, 0].tolist()
[-inf, 0.0, -inf, -inf]
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from conjoin.components.leaves import LeafLayer
from conjoin.core import Event, Region, Variable
from conjoin.core.constants import MAX_FEW_COLUMNS
from conjoin.core.shapes import Float, Int

__all__ = ["Units"]

EM_PASSES = 12  # of expectation-maximisation
EM_PASSES_OF_FEW = 4  # of few columns: more would widen the pieces until they overlap


class Units(nn.Module):
    """What links the columns' units to the values in the cells."""

    legal: Tensor
    category: Tensor
    numeric: Tensor

    def __init__(self, variables: Sequence[Variable], pieces: int) -> None:
        super().__init__()
        sizes = [v.cardinality if v.discrete else pieces for v in variables]
        legal = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        self.register_buffer("legal", legal, persistent=False)
        for name, discrete in (("category", True), ("numeric", False)):
            these = [d for d, v in enumerate(variables) if v.discrete == discrete]
            self.register_buffer(name, torch.tensor(these, dtype=torch.long), persistent=False)
        self.leaves = LeafLayer(
            [v for v in variables if not v.discrete], pieces, 1.0
        ).requires_grad_(False)

    def start(self, data: Event, weight: Float[Tensor, " B"]) -> Float[Tensor, "D C"]:
        """Fit the pieces; the log-shares of all units' states."""
        counts = torch.where(self.legal, 0.5, 0.0).double()
        mass = weight[:, None] * data.mask
        for d in self.category.tolist():
            counts[d] += torch.zeros(counts.shape[1], dtype=torch.float64).index_add(
                0, data.value[:, d].long(), mass[:, d]
            )
        if len(self.numeric):
            numbers = self._numbers(data)
            counts[self.numeric, : self.leaves.states] += self._start_pieces(
                numbers.value, numbers.mask, weight
            )
        return torch.where(
            self.legal, (counts / counts.sum(1, keepdim=True)).clamp_min(1e-30).log(), 0.0
        )

    def _start_pieces(self, value: Tensor, known: Tensor, weight: Tensor) -> Float[Tensor, "N C"]:
        """Expectation-maximisation of each column by itself, from slices of equal weight."""
        leaves = self.leaves
        states = self.leaves.states
        leaves.start(value, known, weight)
        rank = torch.zeros_like(value)
        # where each cell stands in its column, 0 to 1; equal cells stand together
        for n in range(value.shape[1]):
            order = torch.where(known[:, n], value[:, n], math.inf)
            distinct, place = order.unique(return_inverse=True)
            below = (
                torch.zeros(len(distinct), dtype=torch.float64)
                .index_add(0, place, weight * known[:, n])
                .cumsum(0)
            )
            rank[:, n] = ((below[place] - 0.5 * weight) / below[-1].clamp_min(1e-300)).clamp(
                0, 1 - 1e-9
            )
        share = torch.nn.functional.one_hot(
            (rank * states).long().clamp(0, states - 1), states
        ).double()
        few = len(self.legal) <= MAX_FEW_COLUMNS
        for _ in range(EM_PASSES_OF_FEW if few else EM_PASSES):
            share = share * (weight[:, None] * known)[..., None]
            counts = share.sum(0) + 0.5
            leaves.maximise(leaves.statistics(value, known, share))
            share = (counts.log() + leaves.log_prob(value, known)).softmax(2)
        return share.mul((weight[:, None] * known)[..., None]).sum(0)

    # ------------------------------------------------------------------ cells and units

    def log_prob(self, event: Event) -> Float[Tensor, "B D C"]:
        """log p(cell | state): of a missing cell 0, or the log-mass of the region that it lies
        in."""
        leaf = torch.zeros(event.rows, *self.legal.shape, dtype=torch.float64)
        code = torch.arange(self.legal.shape[1])
        for d in self.category.tolist():
            known = event.mask[:, d, None]
            may = torch.where(
                known, event.value[:, d, None] == code, self._allowed(d, event.within)
            )
            leaf[:, d] = torch.where(may, 0.0, -math.inf)
        if len(self.numeric):
            leaf[:, self.numeric, : self.leaves.states] = self.leaves.log_event(
                self._numbers(event)
            )
        return leaf.masked_fill(~self.legal, -math.inf)

    def _allowed(self, d: int, region: Region | None) -> Tensor:
        """(C,) the codes of a category inside the region."""
        code = torch.arange(self.legal.shape[1])
        keep = self.legal[d]
        if region is None:
            return keep
        keep = keep & (code >= region.low[d]) & (code <= region.high[d])
        if d in region.allowed:
            keep[: len(region.allowed[d])] &= region.allowed[d]
        return keep

    def _numbers(self, event: Event) -> Event:
        within = event.within and Region(
            event.within.low[self.numeric], event.within.high[self.numeric]
        )
        return Event(event.value[:, self.numeric], event.mask[:, self.numeric], within=within)

    @staticmethod
    def open_first(region: Region) -> Region:
        """The region, silent about the first column."""
        first = torch.arange(len(region.low)) == 0
        low = region.low.masked_fill(first, -math.inf)
        high = region.high.masked_fill(first, math.inf)
        return Region(low, high, {d: keep for d, keep in region.allowed.items() if d})

    def sample(
        self, codes: Int[Tensor, "B D"], generator: torch.Generator | None, region: Region | None
    ) -> Float[Tensor, "B D"]:
        """A cell of each unit's state, inside the region."""
        value = codes.double()
        if len(self.numeric):
            within = region and Region(region.low[self.numeric], region.high[self.numeric])
            value[:, self.numeric] = self.leaves.sample(codes[:, self.numeric], generator, within)
        return value

    def modes(self, codes: Int[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The most probable cell of each unit's state."""
        value = codes.double()
        if len(self.numeric):
            value[..., self.numeric] = self.leaves.modes()[
                torch.arange(len(self.numeric)), codes[..., self.numeric]
            ]
        return value

r"""Univariate distributions p(x_d | z = k) for every variable d and every state k of a latent
variable.

One layer serves naive Bayes, mixtures and circuits: they differ only in how states are tied
together.

    category        p(x = c | k) = theta_kc
    number, point   p(x | k) = N(x; mu_k, sigma_k^2)  (a density)
    number, cell    p(x | k) = Phi((x + w/2 - mu_k) / sigma_k) - Phi((x - w/2 - mu_k) / sigma_k)
                    (a mass)
    with atoms      p(x | k) = sum_a pi_ka [x = a] + pi_k0 p(x | k, continuous)

A recorded number with precision w is a cell [x - w/2, x + w/2], so that rounding is part of the
model; the cells at a bound reach to infinity, so that masses still sum to one. All values are in
nats. The maximisation step is the exact one for rounded data: the expected first two moments of the
number inside its cell (a truncated normal; Johnson, Kotz and Balakrishnan (1994), Continuous
Univariate Distributions 1, section 13.10).

Levels are smoothed by a prior of ``smoothing`` rows, distributed as the column's own marginal. The
prior of ordered levels is a kernel estimate instead: each state's counts, spread from level i to
level j with the weight 2^-|i - j| (M. Wang and J. van Ryzin (1981), A class of smooth estimators
for discrete distributions). For L > 32 levels the weight is 2^-(32 |i - j| / L). The strength of
this prior, in rows, is learned for each column by maximising the evidence of the counts (T. Minka
(2000), Estimating a Dirichlet distribution, equation 83).

Shape letters: B rows, D variables (C categorical, N numeric), K states, L levels, A atoms, P = A +
1 parts.

>>> from conjoin.core import Variable
>>> colour = Variable("colour", "category", cardinality=2)
>>> layer = LeafLayer((colour, Variable("age", "integer", resolution=1.0)), states=3)
>>> layer.log_prob(torch.tensor([[1.0, 40.0]]).double(), torch.tensor([[True, False]])).shape
torch.Size([1, 2, 3])
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.special import ndtri

from conjoin.components.intervals import log_mass, log_normal, log_sinhc, moments_inside, normal_cdf
from conjoin.components.narrow_cells import (
    log_masses,
    narrow_columns,
    powers,
    sums_of_moments,
)
from conjoin.core import Event, Region, Variable, categorical
from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["Lattice", "LeafLayer", "LeafTable"]

MIN_LOG_PROB_NATS = -1e100  # nats of a value so far away that its square overflows
STRENGTH_BOUNDS_ROWS = (0.05, 1000.0)  # rows: bounds of a learned prior
# levels up to which the kernel's weight halves from one level to the next
MAX_NEIGHBOUR_LEVELS = 32
# counts, at most, from which the strength of priors is learned; of more, every n-th state's
MAX_COUNTS = 1 << 22
MAX_MASSES_AT_ONCE = 1 << 16  # of cells under states
BYTE_ROWS = 2048  # of pictures kept as bytes, that are counted at once
# cells narrower than this many standard deviations take the midpoint series, whose error is less
# than a 24th of its square
NARROW_DEVIATIONS = 1e-3


def _stronger(
    strength: Float[Tensor, " O"], mean: Float[Tensor, "O K L"], counts: Float[Tensor, "O K L"]
) -> Float[Tensor, " O"]:
    """One step of the fixed point for the strength of Dirichlet priors with these means, K of them
    alike."""
    prior = (strength[:, None, None] * mean).clamp_min(1e-12)
    gain = (mean * (torch.digamma(counts + prior) - torch.digamma(prior))).sum((1, 2))
    loss = (
        torch.digamma(counts.sum(2) + strength[:, None]) - torch.digamma(strength)[:, None]
    ).sum(1)
    return (strength * gain / loss.clamp_min(1e-12)).clamp(*STRENGTH_BOUNDS_ROWS)


class Lattice(nn.Module):
    """How N numbers are recorded: the width of a cell (0 = a point), one value of the lattice, and
    the bounds."""

    width: Tensor
    origin: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, numbers: Sequence[Variable]) -> None:
        super().__init__()
        columns = {
            "width": [v.resolution or 0.0 for v in numbers],
            "origin": [v.origin for v in numbers],
            "low": [-math.inf if v.bounds[0] is None else v.bounds[0] for v in numbers],
            "high": [math.inf if v.bounds[1] is None else v.bounds[1] for v in numbers],
        }
        for name, column in columns.items():
            self.register_buffer(name, torch.tensor(column, dtype=torch.float64), persistent=False)

    def snap(self, value: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        """The recorded value: on the lattice and inside the bounds."""
        width = torch.where(self.width > 0, self.width, 1.0)
        recorded = self.origin + width * torch.round((value - self.origin) / width)
        return torch.where(
            self.width > 0, torch.minimum(torch.maximum(recorded, self.low), self.high), value
        )


class _Cells(NamedTuple):
    """Distinct numbers of each column, so that a value that recurs is evaluated once."""

    column: Tensor  # (P,)
    value: Tensor  # (P,)
    place: Tensor  # (B, N): where each cell of the table stands among the P

    @classmethod
    def distinct(cls, table: Float[Tensor, "B N"]) -> "_Cells":
        ranked, order = table.sort(0)
        fresh = torch.ones_like(ranked, dtype=torch.bool)
        fresh[1:] = ranked[1:] != ranked[:-1]
        number = fresh.T.flatten().cumsum(0) - 1  # column by column
        place = torch.empty_like(order).scatter_(
            0, order, number.reshape(table.shape[1], len(table)).T
        )
        return cls(fresh.T.nonzero()[:, 0], ranked.T[fresh.T], place)

    @classmethod
    def every(cls, table: Float[Tensor, "N K"]) -> "_Cells":
        """K values of each column, none merged."""
        places = torch.arange(table.numel()).reshape(table.shape)
        return cls(
            torch.arange(len(table)).repeat_interleave(table.shape[1]), table.flatten(), places
        )

    def take(self, index: Int[Tensor, " Q"] | slice) -> "_Cells":
        return _Cells(self.column[index], self.value[index], self.place)


class _Narrow(NamedTuple):
    """Numbers in narrow cells, whose masses and moments follow from powers, beside those that need
    the exact ones: of columns with coarse cells, on atoms, at and beyond bounds."""

    power: Tensor  # (P, 3): zeros where exact
    sizes: list[int]  # how many of the P each column has
    exact: Tensor  # (E,): which of the P


class LeafTable(NamedTuple):
    """The distinct cells of many rows: P of them, those of each variable side by side, the cell
    that is not known last."""

    log_prob: Float[Tensor, "P K"]  # nats
    place: Int[Tensor, "B D"]  # which of them each cell is
    start: list[int]  # the first of each variable, and P
    known: list[bool]  # whether anything is known of a variable in any row
    numbers: "_Cells"
    # nats of the continuous parts, bounds aside: of all numbers, or of those that are taken exactly
    log_density: Float[Tensor, "Q K"]
    narrow: _Narrow | None = None  # where numbers in narrow cells were taken by the series

    def total(self) -> Float[Tensor, "B K"]:
        """Nats of each row under each state, where all variables share one."""
        return nn.functional.embedding_bag(self.place, self.log_prob, mode="sum")

    def shares(self, share: Float[Tensor, "B K"]) -> Float[Tensor, "P K"]:
        """How much of each distinct cell belongs to each state, where all variables of a row share
        one."""
        out = torch.zeros_like(self.log_prob)
        for column in self.place.T.contiguous():
            out.index_add_(0, column, share)
        return out


class LeafLayer(nn.Module):
    """D variables with K states each. Parameters are set by ``start`` and ``maximise``, or by
    gradients."""

    category: Tensor  # indices of the C categorical variables
    numeric: Tensor  # indices of the N numeric ones
    legal: Tensor
    atoms: Tensor
    ordered: Tensor  # places among the C of those whose levels have an order
    strength: Tensor
    level_prior: Tensor
    mean_prior: Tensor
    variance_prior: Tensor

    def __init__(self, variables: Sequence[Variable], states: int, smoothing: float = 1.0) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.states = states
        self.smoothing = smoothing
        discrete = [v for v in variables if v.discrete]
        numbers = [v for v in variables if not v.discrete]
        levels = max((v.cardinality for v in discrete), default=1)
        spikes = max((len(v.atoms) for v in numbers), default=0)

        def constant(name: str, value: Any, dtype: torch.dtype = torch.float64) -> None:
            self.register_buffer(name, torch.as_tensor(value, dtype=dtype), persistent=False)

        constant("category", [i for i, v in enumerate(variables) if v.discrete], torch.long)
        constant("numeric", [i for i, v in enumerate(variables) if not v.discrete], torch.long)
        constant(
            "legal",
            [[level < v.cardinality for level in range(levels)] for v in discrete],
            torch.bool,
        )
        self.lattice = Lattice(numbers)
        constant("atoms", [[*v.atoms, *[math.nan] * (spikes - len(v.atoms))] for v in numbers])
        self.legal = self.legal.reshape(len(discrete), levels)
        self.atoms = self.atoms.reshape(len(numbers), spikes)
        self.register_buffer("level_prior", (self.legal / self.legal.sum(1, keepdim=True)).double())
        constant("ordered", [i for i, v in enumerate(discrete) if not v.nominal], torch.long)
        self.register_buffer(
            "strength", torch.full((len(self.ordered),), float(smoothing), dtype=torch.float64)
        )
        self.register_buffer("mean_prior", torch.zeros(len(numbers), dtype=torch.float64))
        self.register_buffer("variance_prior", torch.ones(len(numbers), dtype=torch.float64))
        self.logits = nn.Parameter(torch.zeros(len(discrete), states, levels, dtype=torch.float64))
        self.mean = nn.Parameter(torch.zeros(len(numbers), states, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(len(numbers), states, dtype=torch.float64))
        self.atom_logits = nn.Parameter(
            torch.zeros(len(numbers), states, spikes + 1, dtype=torch.float64)
        )
        self.atom_logits.requires_grad_(spikes > 0)  # a single continuous part: its weight is one
        self._drop_empty()

    def _drop_empty(self) -> None:
        """A parameter without elements can learn nothing: keep it out of ``named_parameters``."""
        for name, parameter in list(self.named_parameters()):
            if not parameter.numel() or not parameter.requires_grad:
                delattr(self, name)
                self.register_buffer(name, parameter.detach(), persistent=False)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Models of 0.1.0 were saved without strengths."""
        state.setdefault(f"{prefix}strength", self.strength)
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def join(self, layers: Sequence["LeafLayer"]) -> None:
        """Take the states of several layers, side by side; what they share comes from the first."""
        own = dict(self.named_parameters())
        for name, shared in layers[0].state_dict().items():
            getattr(self, name).copy_(
                torch.cat([getattr(layer, name) for layer in layers], 1) if name in own else shared
            )

    # ------------------------------------------------------------------ log p(x_d | k)

    def log_levels(self) -> Float[Tensor, "C K L"]:
        """log theta; impossible levels have -inf."""
        return self.logits.masked_fill(~self.legal[:, None], -math.inf).log_softmax(-1)

    def log_atoms(self) -> Float[Tensor, "N K _"]:
        """log pi, the continuous part last; padding has -inf."""
        padding = torch.cat(
            [self.atoms.isnan(), torch.zeros(len(self.numeric), 1, dtype=torch.bool)], 1
        )
        return self.atom_logits.masked_fill(padding[:, None], -math.inf).log_softmax(-1)

    def log_prob(
        self, value: Float[Tensor, "B D"], observed: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B D K"]:
        """Nats of each cell under each state; 0 where missing."""
        parts = value.new_zeros(*value.shape, self.states)
        if len(self.category):
            codes = value[:, self.category].long()
            parts = parts.index_copy(
                1,
                self.category,
                self.log_levels().transpose(1, 2)[torch.arange(len(self.category)), codes],
            )
        if len(self.numeric):
            cells = _Cells.distinct(value[:, self.numeric])
            parts = parts.index_copy(1, self.numeric, self._log_number(cells)[cells.place])
        return torch.where(observed[..., None], parts, torch.zeros_like(parts))

    def log_event(self, event: Event) -> Float[Tensor, "B D K"]:
        """``log_prob`` of what is known: a missing cell counts the log-mass of the region that it
        lies in, if any."""
        leaf = self.log_prob(event.value, event.mask)
        return (
            leaf
            if event.within is None
            else leaf + torch.where(event.mask[..., None], 0.0, self.log_region(event.within))
        )

    def table(self, event: Event, by_series: bool = False) -> LeafTable:
        """The same, each distinct cell once: every level, every number, and for each variable what
        is not known. ``by_series``: numbers in narrow cells up to the error of a series, which is
        many times as fast and good enough for a step of expectation-maximisation."""
        numbers = _Cells.distinct(event.value[:, self.numeric])
        sizes = torch.bincount(numbers.column, minlength=len(self.numeric)).tolist()
        narrow = self._narrow(numbers, sizes) if by_series and sizes else None
        exact = numbers if narrow is None else numbers.take(narrow.exact)
        log_density = self._log_density(exact)
        log_number = self._with_atoms(exact, self._within_bounds(exact, log_density))
        if narrow is not None:
            log_number = self._log_series(narrow).index_copy(0, narrow.exact, log_number)
        first = torch.tensor([0, *sizes[:-1]][: len(sizes)], dtype=torch.long).cumsum(0)
        number_places = iter((numbers.place - first).T)
        log_numbers = iter(log_number.split(sizes))
        log_levels = iter(self.log_levels().transpose(1, 2))
        unknown = (
            torch.zeros(len(self.variables), self.states).double()
            if event.within is None
            else self.log_region(event.within)
        )
        parts: list[Tensor] = []
        place = torch.empty_like(event.value, dtype=torch.long)
        start = [0]
        for index, variable in enumerate(self.variables):
            own = (
                next(log_levels)[: variable.cardinality] if variable.discrete else next(log_numbers)
            )
            at = event.value[:, index].long() if variable.discrete else next(number_places)
            place[:, index] = start[-1] + torch.where(event.mask[:, index], at, len(own))
            parts += [own, unknown[index : index + 1]]
            start.append(start[-1] + len(own) + 1)
        known = (
            event.mask.any(0)
            if event.within is None
            else event.mask.any(0) | event.within.constrained
        )
        return LeafTable(
            torch.cat(parts), place, start, known.tolist(), numbers, log_density, narrow
        )

    def _narrow(self, cells: "_Cells", sizes: list[int]) -> "_Narrow":
        lattice = self.lattice
        offset = cells.value - self.mean_prior[cells.column]
        reach = torch.stack([own.abs().amax() for own in offset.split(sizes)])
        columns = narrow_columns(reach, self.log_scale, lattice.width)
        quarter = 0.25 * lattice.width[cells.column]
        at_bound = (cells.value < lattice.low[cells.column] + quarter) | (
            cells.value > lattice.high[cells.column] - quarter
        )
        exact = ~columns[cells.column] | at_bound | self._on_atom(cells).any(1)
        power = powers(offset).masked_fill_(exact[:, None], 0.0)
        return _Narrow(power, sizes, exact.nonzero()[:, 0])

    def _from_centre(self) -> Float[Tensor, "N K"]:
        """The means, from where powers of numbers are taken."""
        return self.mean - self.mean_prior[:, None]

    def _log_series(self, narrow: "_Narrow") -> Float[Tensor, "P K"]:
        """Nats of the numbers off the atoms and bounds."""
        out = log_masses(
            narrow.power, narrow.sizes, self._from_centre(), self.log_scale, self.lattice.width
        )
        if not self.atoms.shape[1]:
            return out
        return out + self.log_atoms()[..., -1].repeat_interleave(torch.tensor(narrow.sizes), 0)

    def _log_number(self, cells: "_Cells") -> Float[Tensor, "P K"]:
        return self._with_atoms(cells, self._log_continuous(cells))

    def _with_atoms(
        self, cells: "_Cells", continuous: Float[Tensor, "P K"]
    ) -> Float[Tensor, "P K"]:
        if not self.atoms.shape[1]:
            return continuous
        log_atoms = self.log_atoms()
        out = log_atoms[..., -1][cells.column] + continuous
        on = self._on_atom(cells)
        some = on.any(1).nonzero()[:, 0]  # few: the others have no spike to add
        spikes = log_atoms[..., :-1][cells.column[some]]
        spike = torch.where(on[some, None], spikes, -math.inf).amax(-1)
        return out.index_copy(0, some, torch.logaddexp(spike, out[some]))

    def _log_atom_parts(self, cells: "_Cells") -> tuple[Float[Tensor, "P K"], Float[Tensor, "P K"]]:
        """The log-weight of the atom that each value sits on (-inf if none), and of the continuous
        part."""
        log_atoms = self.log_atoms()[cells.column]
        on = self._on_atom(cells)[:, None]  # (P, 1, A)
        return torch.where(on, log_atoms[..., :-1], -math.inf).amax(-1), log_atoms[..., -1]

    def _on_atom(self, cells: "_Cells") -> Bool[Tensor, "P A"]:
        return (cells.value[:, None] - self.atoms[cells.column]).abs() <= 0.5 * self.lattice.width[
            cells.column, None
        ]

    def _log_continuous(self, cells: "_Cells") -> Float[Tensor, "P K"]:
        return self._within_bounds(cells, self._log_density(cells))

    def _within_bounds(
        self, cells: "_Cells", log_density: Float[Tensor, "P K"]
    ) -> Float[Tensor, "P K"]:
        """-inf outside of them."""
        lattice = self.lattice
        step = lattice.width[cells.column]
        outside = (cells.value < lattice.low[cells.column] - 0.25 * step) | (
            cells.value > lattice.high[cells.column] + 0.25 * step
        )
        return log_density.masked_fill(outside[:, None], -math.inf)

    def _log_density(self, cells: "_Cells") -> Float[Tensor, "P K"]:
        """log p of the continuous part, whatever the bounds: a density, or the mass of a cell. Some
        cells after the other, so that they stay in the processor's cache."""
        some = max(1, MAX_MASSES_AT_ONCE // self.states)
        parts = slices(len(cells.value), some)
        return torch.cat([self._log_density_of(cells.take(part)) for part in parts])

    def _log_density_of(self, cells: "_Cells") -> Float[Tensor, "P K"]:
        z, width = self._standardise(cells)
        is_wide = self._wide()[cells.column]
        wide = is_wide.nonzero()[:, 0]
        low, high = self._edges(cells.take(wide), z[wide], width[wide])
        result = log_mass(low, high)
        if len(wide) < len(z):
            rest = (~is_wide).nonzero()[:, 0]
            step = self.lattice.width[cells.column[rest]]
            size = torch.where(step > 0, step, 1.0).log()[:, None]
            size = size - self.log_scale[cells.column[rest]]
            series = size + log_normal(z[rest]) + log_sinhc(z[rest].abs() * width[rest] / 2)
            result = z.index_copy(0, wide, result).index_copy(0, rest, series)
        # beyond the reach of float64, still a number
        return result.nan_to_num(nan=MIN_LOG_PROB_NATS, neginf=MIN_LOG_PROB_NATS)

    def _standardise(self, cells: "_Cells") -> tuple[Float[Tensor, "P K"], Float[Tensor, "P K"]]:
        scale = self.log_scale.exp()[cells.column]
        return (cells.value[:, None] - self.mean[cells.column]) / scale, self.lattice.width[
            cells.column, None
        ] / scale

    def _wide(self) -> Bool[Tensor, " N"]:
        """Columns whose cells need the exact interval mass: not narrow everywhere, or with a
        bound."""
        coarse = (self.lattice.width[:, None] > NARROW_DEVIATIONS * self.log_scale.exp()).any(1)
        return (self.lattice.width > 0) & (
            coarse | self.lattice.low.isfinite() | self.lattice.high.isfinite()
        )

    def _edges(
        self, cells: "_Cells", z: Float[Tensor, "P K"], width: Float[Tensor, "P K"]
    ) -> tuple[Tensor, Tensor]:
        """Standardised edges of each value's cell; the cells at a bound reach to infinity."""
        step = self.lattice.width[cells.column]
        first = (cells.value < self.lattice.low[cells.column] + 0.25 * step)[:, None]
        last = (cells.value > self.lattice.high[cells.column] - 0.25 * step)[:, None]
        low = torch.where(first, -math.inf, z - width / 2)
        return low, torch.where(
            last, math.inf, torch.maximum(z + width / 2, low + 1e-12 * z.abs().clamp_min(1.0))
        )

    # ----------------------------------------------------------------- expectation and maximisation

    def statistics(
        self,
        value: Tensor,
        observed: Bool[Tensor, "B D"],
        share: Float[Tensor, "B D K"],
    ) -> dict[str, Tensor]:
        """Expected counts, given ``share``: how much of each cell belongs to each state (0 where
        missing)."""
        share = share if bool(observed.all()) else share * observed[..., None]
        out = {}
        if len(self.category):
            # no copy of what is large
            own = slice(None) if len(self.category) == value.shape[1] else self.category
            out["levels"] = self._level_counts(value[:, own].long(), share[:, own])
        if len(self.numeric):
            cells = _Cells.distinct(value[:, self.numeric])
            own = share[:, self.numeric].flatten(0, 1)
            merged = share.new_zeros(len(cells.value), self.states).index_add_(
                0, cells.place.flatten(), own
            )
            out |= self._number_statistics(cells, merged, self._log_density(cells))
        return out

    def _level_counts(
        self, codes: Int[Tensor, "B C"], share: Float[Tensor, "B C K"]
    ) -> Float[Tensor, "C K L"]:
        levels = self.legal.shape[1]
        slot = (torch.arange(len(self.category)) * levels + codes).flatten()
        # states that are all alike are counted once
        own = (share if share.stride(2) else share[..., :1]).flatten(0, 1)
        counts = own.new_zeros(len(self.category) * levels, own.shape[1]).index_add_(0, slot, own)
        return counts.expand(-1, self.states).reshape(-1, levels, self.states).transpose(1, 2)

    def statistics_of(self, table: LeafTable, share: Float[Tensor, "P K"]) -> dict[str, Tensor]:
        """The same, given how much of each distinct cell belongs to each state."""
        out = {}
        own = [share[first : last - 1] for first, last in pairwise(table.start)]
        if len(self.category):
            levels = [own[index] for index in self.category.tolist()]
            out["levels"] = torch.stack(
                [nn.functional.pad(each.T, (0, self.legal.shape[1] - len(each))) for each in levels]
            )
        if len(self.numeric):
            numbers = torch.cat([own[index] for index in self.numeric.tolist()])
            if table.narrow is None:
                out |= self._number_statistics(table.numbers, numbers, table.log_density)
            else:
                out |= self._series_statistics(table, table.narrow, numbers)
        return out

    def _series_statistics(
        self, table: LeafTable, narrow: "_Narrow", share: Float[Tensor, "P K"]
    ) -> dict[str, Tensor]:
        """By sums of powers, but for the cells that need the exact moments."""
        out = self._number_statistics(
            table.numbers.take(narrow.exact), share[narrow.exact], table.log_density
        )
        moments = sums_of_moments(
            narrow.power,
            narrow.sizes,
            share,
            self._from_centre(),
            self.log_scale,
            self.lattice.width,
        )
        count, first, second = moments.unbind(-1)
        centre = self.mean_prior[:, None]
        whole = [
            count,
            first + centre * count,
            second + 2 * centre * first + centre**2 * count,
        ]
        out["number"] = out["number"] + torch.stack(whole, -1)
        if "atoms" in out:
            out["atoms"][..., -1] += count
        return out

    def _number_statistics(
        self, cells: "_Cells", share: Float[Tensor, "P K"], log_density: Float[Tensor, "P K"]
    ) -> dict[str, Tensor]:
        out = {}
        if self.atoms.shape[1]:
            spike, rest = self._log_atom_parts(cells)
            continuous = self._within_bounds(cells, log_density)
            from_rest = torch.sigmoid(rest + continuous - spike)  # 1 off the atoms
            on = self._on_atom(cells).to(share)
            atoms = self._by_column(cells, (share * (1 - from_rest))[..., None] * on[:, None])
            share = share * from_rest
            out["atoms"] = torch.cat([atoms, self._by_column(cells, share)[..., None]], -1)
        first, second = self._moments(cells, log_density)
        out["number"] = self._by_column(
            cells, torch.stack([share, share * first, share * second], -1)
        )
        return out

    def _by_column(
        self, cells: "_Cells", parts: Float[Tensor, "P K *Q"]
    ) -> Float[Tensor, "N K *Q"]:
        return parts.new_zeros(len(self.numeric), *parts.shape[1:]).index_add_(
            0, cells.column, parts
        )

    def _moments(
        self, cells: "_Cells", log_density: Float[Tensor, "P K"]
    ) -> tuple[Float[Tensor, "P K"], Float[Tensor, "P K"]]:
        """E[x | cell, k] and E[x^2 | cell, k] of the unrounded number. That of a wide cell is its
        log-mass."""
        z, width = self._standardise(cells)
        first = z
        second = z * z + width * width / 12
        wide = self._wide()[cells.column].nonzero()[:, 0]
        if len(wide):
            low, high = self._edges(cells.take(wide), z[wide], width[wide])
            exact = moments_inside(low, high, log_density[wide])
            # series again, state by state
            narrow = (width[wide] <= NARROW_DEVIATIONS) & low.isfinite() & high.isfinite()
            first = first.index_copy(0, wide, torch.where(narrow, first[wide], exact[0]))
            second = second.index_copy(0, wide, torch.where(narrow, second[wide], exact[1]))
        mean = self.mean[cells.column]
        scale = self.log_scale.exp()[cells.column]
        return mean + scale * first, mean**2 + 2 * mean * scale * first + scale**2 * second

    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """Maximum a posteriori: every state starts with ``smoothing`` rows of the column's own
        marginal."""
        if "levels" in statistics:
            counts = statistics["levels"]
            lent = (self.smoothing * self.level_prior[:, None]).expand_as(counts)
            if len(self.ordered) == len(counts):
                lent = self._from_neighbours(counts)
            elif len(self.ordered):
                lent = lent.index_copy(0, self.ordered, self._from_neighbours(counts[self.ordered]))
            self.logits.copy_((counts + lent).log_().clamp_min_(-1e30))
        if "atoms" in statistics:
            self.atom_logits.copy_(
                torch.log(statistics["atoms"] + self.smoothing / (1 + self.atoms.shape[1]))
            )
        if "number" in statistics:
            count, first, second = statistics["number"].unbind(-1)
            weak = 1e-2 * self.smoothing
            mean = (first + weak * self.mean_prior[:, None]) / (count + weak)
            spread = second - 2 * mean * first + mean**2 * count
            variance = (spread.clamp_min(0) + self.smoothing * self.variance_prior[:, None]) / (
                count + self.smoothing
            )
            self.mean.copy_(mean)
            self.log_scale.copy_(0.5 * variance.clamp_min(1e-12).log())

    def _from_neighbours(self, counts: Float[Tensor, "O K L"]) -> Float[Tensor, "O K L"]:
        """Rows that ordered levels start with: ``strength``, which is learned here, times a kernel
        estimate."""
        level = torch.arange(counts.shape[2])
        legal = self.legal[self.ordered, None]
        legal = legal[:1] if (legal == legal[:1]).all() else legal  # pixels share one kernel
        kernel = (
            0.5
            ** (
                (level[:, None] - level).abs().double()
                / (legal.sum(2, keepdim=True) / MAX_NEIGHBOUR_LEVELS).clamp_min(1)
            )
            * legal
        )
        mean = (
            counts @ (kernel / kernel.sum(2, keepdim=True))
            + self.smoothing * self.level_prior[self.ordered, None]
        )
        mean.div_(mean.sum(2, keepdim=True).clamp_min(1e-300))  # large, of pictures: in place
        some = slice(None, None, math.ceil(counts.numel() / MAX_COUNTS))
        for _ in range(3):
            self.strength.copy_(_stronger(self.strength, mean[:, some], counts[:, some]))
        return mean.mul_(self.strength[:, None, None])

    def start(
        self,
        value: Tensor,
        observed: Bool[Tensor, "B D"],
        weight: Float[Tensor, " B"],
    ) -> None:
        """Set priors from the columns' marginals, and every state to them."""
        with torch.no_grad():
            share, statistics = self._marginals(value, observed, weight)
            if "levels" in statistics:
                counts = statistics["levels"].sum(1) + self.legal
                self.level_prior.copy_(counts / counts.sum(1, keepdim=True))
            if "number" in statistics:
                x = value[:, self.numeric]
                w = share[:, self.numeric, 0] * self.states
                count = w.sum(0).clamp_min(1e-300)
                self.mean_prior.copy_((w * x).sum(0) / count)
                variance = (w * (x - self.mean_prior) ** 2).sum(0) / count
                typical = torch.where(variance > 0, variance, torch.ones_like(variance))
                self.mean.copy_(self.mean_prior[:, None].expand_as(self.mean))
                self.log_scale.copy_(0.5 * typical.log()[:, None].expand_as(self.log_scale))
                # narrower than the column: states specialise
                self.variance_prior.copy_(0.1 * typical)
            self.maximise(
                self.statistics(value, torch.ones_like(observed), share)
                if len(self.numeric)
                else statistics
            )
            self.strength.fill_(self.smoothing)  # states that are all alike say nothing of it

    def _marginals(
        self, value: Tensor, observed: Bool[Tensor, "B D"], weight: Float[Tensor, " B"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The share of each cell that a state has at the start, and the statistics. Of pictures
        that are kept as bytes, which are codes, some rows at a time."""
        whole = value.is_floating_point()
        total: dict[str, Tensor] = {}
        for part in [slice(None)] if whole else slices(len(value), BYTE_ROWS):
            share = weight[part, None] * observed[part] / self.states
            share = share[..., None].expand(-1, -1, self.states)
            found = self.statistics(value[part], torch.ones_like(observed[part]), share)
            total = {key: each + total[key] if total else each for key, each in found.items()}
        return share, total

    # ------------------------------------------------------------------ sampling

    @torch.no_grad()
    def sample(
        self,
        states: Int[Tensor, "B D"],
        generator: torch.Generator | None,
        region: Region | None = None,
        point: Float[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B D"]:
        """One value per cell, given each cell's state; with a region, from the part of the leaf
        inside it. ``point``: the masses of the numbers' leaves under their values, else drawn."""
        value = torch.zeros(states.shape, dtype=torch.float64)
        if len(self.category):
            share = (self.log_levels() + self._allowed(region)).softmax(-1)
            total = share.cumsum(-1)[torch.arange(len(self.category)), states[:, self.category]]
            # above 0: no level without mass
            uniform = 1 - torch.rand(*total.shape[:2], 1, generator=generator, dtype=torch.float64)
            code = torch.searchsorted(total, uniform * total[..., -1:])[..., 0]
            value[:, self.category] = torch.minimum(code, self.legal.sum(1) - 1).double()
        if len(self.numeric):
            value[:, self.numeric] = self._sample_number(
                states[:, self.numeric], generator, region, point
            )
        return value

    def _sample_number(
        self,
        states: Int[Tensor, "B N"],
        generator: torch.Generator | None,
        region: Region | None,
        point: Float[Tensor, "B N"] | None,
    ) -> Float[Tensor, "B N"]:
        column = torch.arange(len(self.numeric))
        mean = self.mean[column, states]
        scale = self.log_scale[column, states].exp()
        box = self._box(region)
        low = (box[0] - mean) / scale
        high = (box[1] - mean) / scale
        flip = low + high > 0
        a = torch.where(flip, -high, low)
        b = torch.where(flip, -low, high)
        uniform = _under(flip, generator, point)
        below = normal_cdf(a)
        z = ndtri(below + (normal_cdf(b) - below) * uniform)
        z = torch.where(torch.isfinite(z), z, torch.where(b < 0, b, torch.zeros_like(b)))
        z = torch.minimum(torch.maximum(z, a), b)
        value = self.lattice.snap(mean + scale * torch.where(flip, -z, z))
        return self._replace_by_atoms(value, states, generator, region)

    def _replace_by_atoms(
        self,
        value: Tensor,
        states: Tensor,
        generator: torch.Generator | None,
        region: Region | None,
    ) -> Tensor:
        if not self.atoms.shape[1]:
            return value
        column = torch.arange(len(self.numeric))
        logits = self.log_atoms() + (0.0 if region is None else self._log_parts_inside(region))
        part = categorical(logits[column, states], generator)
        padded = torch.cat([self.atoms, torch.full((len(column), 1), math.nan)], 1)
        return torch.where(part < self.atoms.shape[1], padded[column, part], value)

    @torch.no_grad()
    def modes(self) -> Float[Tensor, "D K"]:
        """The most probable value of each leaf."""
        out = torch.zeros(len(self.variables), self.states, dtype=torch.float64)
        if len(self.category):
            out[self.category] = self.log_levels().argmax(-1).double()
        if len(self.numeric):
            out[self.numeric] = self._modes_of_numbers()
        return out

    def _modes_of_numbers(self) -> Float[Tensor, "N K"]:
        """The recorded mean; an atom, or a cell at a bound, where it holds more than half of the
        leaf. (By mass alone a small spike would outdo any cell of a finely recorded number, and
        nobody would call it the likely value.)"""
        mean = self.lattice.snap(self.mean.T).T
        # (N, 2+A), some of them not there
        fixed = torch.cat([self.lattice.low[:, None], self.lattice.high[:, None], self.atoms], 1)
        # (N, K, 2+A)
        fixed = torch.where(fixed.isfinite()[:, None], fixed[:, None], mean[..., None])
        candidates = torch.cat([mean[..., None], fixed], -1)
        # (N, K, 2+A+1, K)
        at = self._log_number(_Cells.every(candidates.flatten(1))).unflatten(0, candidates.shape)
        # each state at its own candidates
        log_prob = torch.diagonal(at, dim1=1, dim2=3).transpose(1, 2)
        most, place = log_prob.max(-1, keepdim=True)
        return torch.where(most > math.log(0.5), candidates.gather(-1, place), mean[..., None])[
            ..., 0
        ]

    # ------------------------------------------------------------------ regions

    def log_region(self, region: Region) -> Float[Tensor, "D K"]:
        """log of each leaf's mass inside the region; 0 for variables that it leaves open."""
        out = torch.zeros(len(self.variables), self.states, dtype=torch.float64)
        if len(self.category):
            out[self.category] = torch.logsumexp(self.log_levels() + self._allowed(region), -1)
        if len(self.numeric):
            out[self.numeric] = torch.logsumexp(
                self.log_atoms() + self._log_parts_inside(region), -1
            )
        return torch.where(region.constrained[:, None], out, torch.zeros_like(out))

    def _allowed(self, region: Region | None) -> Float[Tensor, "C 1 L"]:
        """0 for the levels inside the region, -inf for the others."""
        keep = self.legal.clone()
        if region is not None:
            code = torch.arange(keep.shape[1])
            keep &= (code >= region.low[self.category, None]) & (
                code <= region.high[self.category, None]
            )
            for position, variable in enumerate(self.category.tolist()):
                if variable in region.allowed:
                    keep[position, : len(region.allowed[variable])] &= region.allowed[variable]
        return torch.where(keep, 0.0, -math.inf).double()[:, None]

    def _box(self, region: Region | None) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Edges of the unrounded number: a box holds a cell if it holds the cell's recorded
        value."""
        if region is None:
            return torch.full_like(self.lattice.low, -math.inf), torch.full_like(
                self.lattice.high, math.inf
            )
        step = torch.where(self.lattice.width > 0, self.lattice.width, 1.0)
        low = region.low[self.numeric]
        high = region.high[self.numeric]
        first = self.lattice.origin + step * (
            torch.ceil((low - self.lattice.origin) / step - 1e-6) - 0.5
        )
        last = self.lattice.origin + step * (
            torch.floor((high - self.lattice.origin) / step + 1e-6) + 0.5
        )
        low = torch.where(
            low <= self.lattice.low, -math.inf, torch.where(self.lattice.width > 0, first, low)
        )
        return low, torch.where(
            high >= self.lattice.high, math.inf, torch.where(self.lattice.width > 0, last, high)
        )

    def _log_parts_inside(self, region: Region) -> Float[Tensor, "N K P"]:
        """log of the share of each atom (0 or -inf) and of the continuous part that lies inside."""
        low, high = (edge[:, None] for edge in self._box(region))
        scale = self.log_scale.exp()
        continuous = log_mass((low - self.mean) / scale, (high - self.mean) / scale)
        atoms = torch.where((self.atoms >= low) & (self.atoms <= high), 0.0, -math.inf)
        return torch.cat([atoms[:, None].expand(-1, self.states, -1), continuous[..., None]], -1)


def _under(
    flip: Bool[Tensor, "B N"], generator: torch.Generator | None, point: Tensor | None
) -> Float[Tensor, "B N"]:
    """The mass under each value, of mirrored leaves from above: ``point``, else drawn."""
    if point is None:
        return torch.rand(flip.shape, generator=generator, dtype=torch.float64)
    return torch.where(flip, 1 - point, point)

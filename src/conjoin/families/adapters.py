r"""Bins: a family of codes serves columns of any kind, exactly.

    p(x) = P(c(x)) prod_d g_d(x_d) / G_d(c_d),        G_d(c) = mass of g_d in bin c

g_d is the column's own marginal: a mixture of a few Gaussians for numbers (per recorded cell where
they have a resolution), shares of levels for categories. Edges of bins lie on edges of recorded
cells, at quantiles of the rows (equal frequency: J. Dougherty, R. Kohavi and M. Sahami (1995),
Supervised and unsupervised discretization of continuous features); an atom is a bin of its own, the
outermost bins reach to infinity. So masses sum to one and bins add nothing but piecewise steps.

With ``soft`` a column that has a density is not cut: its code is the component of its mixture,
which x only hints at,

    p(x) = sum_c P(c) prod_d N(x_d; mu_dc, sigma_dc^2),

and p(x) is smooth. Families that can sum over codes take it; ``log_codes`` serves both. All values
are in nats.

Shape letters: B rows, D variables (C discrete, N numeric), L codes of a variable, V levels of a
discrete one, K components.

>>> from conjoin.core import Event, Variable
>>> column = (Variable("age", "integer", resolution=1.0),)
>>> rows, weight = Event(torch.arange(60.0).double()[:, None]), torch.ones(60).double()
>>> bins = Bins(column, plan_bins(column, rows, weight, bins=3))
>>> bins.start(rows, weight)
>>> bins.codes(rows).value[[0, 19, 20, 59], 0].tolist()
[0.0, 0.0, 1.0, 2.0]
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.special import ndtri

from conjoin.components.intervals import log_mass
from conjoin.components.leaves import LeafLayer
from conjoin.core import Event, Region, Space, Variable, categorical
from conjoin.core.shapes import Float, Int

__all__ = ["Bins", "default_bins", "plan_bins"]

JSON = dict[str, Any]
# bins of a number
MIN_BINS = 3
MAX_BINS = 12
MAX_LEVELS = 64  # levels of a category that keep a code of their own; rarer ones share the last
EM_ROUNDS = 5  # of EM for the marginals
MAX_ROWS = 20_000  # that the marginals are fitted to


def default_bins(rows: int) -> int:
    """How many bins so many distinct rows can fill, also three columns at a time: 3 up to 300 rows,
    6 for 1,500, 12 from 12,000."""
    return max(MIN_BINS, min(MAX_BINS, round(0.5 * rows ** (1 / 3))))


# ------------------------------------------------------------------------------ where the edges lie


def plan_bins(
    variables: Sequence[Variable],
    data: Event,
    weight: Tensor,
    *,
    bins: int | None = None,
    soft: bool = False,
) -> JSON:
    """How each column is coded, as JSON: the code of each level, the edges of the bins, or the
    number of components."""
    bins = bins or default_bins(data.rows)
    columns = []
    for d, variable in enumerate(variables):
        seen = data.mask[:, d]
        columns.append(_plan_column(variable, data.value[seen, d], weight[seen], bins, soft))
    return {"columns": columns, "components": bins}


def _plan_column(variable: Variable, value: Tensor, weight: Tensor, bins: int, soft: bool) -> JSON:
    if variable.kind == "category":
        return {"levels": _common_levels(variable.cardinality, value, weight)}
    if variable.kind == "ordered":
        last = (
            [k for k, _ in _quantiles(value, weight, bins)]
            if variable.cardinality > MAX_BINS
            else range(variable.cardinality - 1)
        )
        return {
            "levels": torch.bucketize(
                torch.arange(variable.cardinality), torch.tensor(list(last))
            ).tolist()
        }
    if variable.resolution is not None:
        return {"edges": _lattice_edges(variable, variable.resolution, value, weight, bins)}
    return (
        {"components": bins}
        if soft
        else {"edges": [(low + high) / 2 for low, high in _quantiles(value, weight, bins)]}
    )


def _common_levels(cardinality: int, value: Tensor, weight: Tensor) -> list[int]:
    """Every level is its own code; where there are too many, the rarest share the last one."""
    if cardinality <= MAX_LEVELS:
        return list(range(cardinality))
    count = torch.zeros(cardinality, dtype=torch.float64).index_add(0, value.long(), weight)
    common = count.argsort(descending=True, stable=True)[: MAX_LEVELS - 1].sort().values
    return (
        torch.full((cardinality,), MAX_LEVELS - 1)
        .index_copy(0, common, torch.arange(len(common)))
        .tolist()
    )


def _quantiles(value: Tensor, weight: Tensor, bins: int) -> list[tuple[float, float]]:
    """Neighbouring distinct values between which a quantile of the rows lies."""
    distinct, place = value.unique(return_inverse=True)
    if len(distinct) < 2:
        return []
    share = torch.zeros(len(distinct), dtype=torch.float64).index_add(0, place, weight).cumsum(0)
    wanted = torch.arange(1, bins, dtype=torch.float64) / bins
    last = torch.searchsorted(share / share[-1], wanted - 1e-9).unique()
    return [
        (float(distinct[i]), float(distinct[i + 1])) for i in last.tolist() if i + 1 < len(distinct)
    ]


def _lattice_edges(
    variable: Variable, width: float, value: Tensor, weight: Tensor, bins: int
) -> list[float]:
    """Edges half a cell above the last recorded value of each bin, and on both sides of each
    atom."""

    def cell(number: float) -> int:
        return round((number - variable.origin) / width)

    low, high = (None if bound is None else cell(bound) for bound in variable.bounds)
    atoms = {cell(atom) for atom in variable.atoms}
    around = {a - 1 for a in atoms if a != low} | {a for a in atoms if a != high}
    cells = torch.round((value - variable.origin) / width)
    free = ~torch.isin(cells, torch.tensor(sorted(atoms), dtype=torch.float64))
    cuts = [(int(k), int(m)) for k, m in _quantiles(cells[free], weight[free], bins)]
    # an atom separates these already
    between = {k for k, m in cuts if not any(k <= edge < m for edge in around)}
    return [variable.origin + width * (edge + 0.5) for edge in sorted(around | between)]


# ----------------------------------------------------------------------------------------- the bins


class Bins(nn.Module):
    """Values <-> codes of every column, and p(value | code). Nothing in it learns by gradients:
    ``start`` sets it once."""

    category: Tensor  # indices of the C discrete variables
    numeric: Tensor  # indices of the N numeric ones
    soft: Tensor
    level_code: Tensor
    cuts: Tensor
    legal: Tensor
    log_share: Tensor
    log_weight: Tensor

    def __init__(self, variables: Sequence[Variable], plan: JSON) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.plan = plan
        columns = plan["columns"]
        self.levels = tuple(_count(column) for column in columns)
        kinds = [variable.discrete for variable in variables]
        codes = [column["levels"] for column in columns if "levels" in column]
        numbers = [column for column, discrete in zip(columns, kinds, strict=True) if not discrete]
        width = max((len(code) for code in codes), default=1)
        edges = max((len(column.get("edges", [])) for column in numbers), default=0)
        self._constant(
            "category", [d for d, discrete in enumerate(kinds) if discrete], (-1,), torch.long
        )
        self._constant(
            "numeric", [d for d, discrete in enumerate(kinds) if not discrete], (-1,), torch.long
        )
        self._constant("soft", ["components" in column for column in numbers], (-1,), torch.bool)
        self._constant(
            "level_code",
            [code + [-1] * (width - len(code)) for code in codes],
            (-1, width),
            torch.long,
        )
        cuts = [
            [-math.inf, *(e := column.get("edges", [])), *[math.inf] * (edges - len(e) + 1)]
            for column in numbers
        ]
        self._constant("cuts", cuts, (len(numbers), edges + 2), torch.float64)
        legal = [[code < count for code in range(max(self.levels))] for count in self.levels]
        self._constant("legal", legal, (len(columns), -1), torch.bool)
        plain = [dataclasses.replace(v, atoms=()) for v in variables if not v.discrete]
        self.leaves = LeafLayer(plain, plan["components"]).requires_grad_(False)
        self.register_buffer("log_share", torch.zeros(self.level_code.shape, dtype=torch.float64))
        self.register_buffer(
            "log_weight", torch.zeros(len(numbers), plan["components"], dtype=torch.float64)
        )

    def _constant(self, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.register_buffer(
            name, torch.tensor(value, dtype=dtype).reshape(shape), persistent=False
        )

    @property
    def space(self) -> Space:
        """Where the codes live: one category per column."""
        names = [variable.name for variable in self.variables]
        columns = [
            Variable(name, "category", cardinality=count)
            for name, count in zip(names, self.levels, strict=True)
        ]
        return Space((len(columns),), tuple(columns))

    @property
    def hidden(self) -> Tensor:
        """(D,) bool: columns whose code is never known for certain."""
        return torch.zeros(len(self.variables), dtype=torch.bool).index_copy(
            0, self.numeric, self.soft
        )

    # ------------------------------------------------------------------ the marginals

    @torch.no_grad()
    def start(self, data: Event, weight: Float[Tensor, " B"]) -> None:
        """Set the marginals of all columns: shares of levels, and a mixture for each number by a
        few rounds of EM."""
        if len(self.category):
            self._start_levels(data, weight)
        if len(self.numeric):
            part = slice(None, None, max(1, data.rows // MAX_ROWS))
            value = data.value[part][:, self.numeric]
            mask = data.mask[part][:, self.numeric]
            self._start_numbers(value, mask & ~self._on_atom(value), weight[part])

    def _start_levels(self, data: Event, weight: Tensor) -> None:
        """log of each level's share of its code, with half a row more for each."""
        count = torch.zeros_like(self.log_share)
        for row, d in enumerate(self.category.tolist()):
            count[row].index_add_(0, data.value[:, d].long(), weight * data.mask[:, d])
        count = torch.where(self.level_code >= 0, count + 0.5, 0.0)
        of_code = torch.zeros(len(count), max(self.levels), dtype=torch.float64)
        of_code = of_code.scatter_add(1, self.level_code.clamp_min(0), count)
        self.log_share.copy_((count / of_code.gather(1, self.level_code.clamp_min(0))).log())

    def _start_numbers(self, value: Tensor, mask: Tensor, weight: Tensor) -> None:
        components = self.log_weight.shape[1]
        self.leaves.start(value, mask, weight)
        group = torch.zeros(value.shape, dtype=torch.long)
        for column in range(value.shape[1]):
            seen = mask[:, column]
            last = [low for low, _ in _quantiles(value[seen, column], weight[seen], components)]
            group[:, column] = torch.bucketize(
                value[:, column].contiguous(), torch.tensor(last, dtype=torch.float64)
            )
        floor = self._narrowest(value, mask, weight).log()[:, None]
        share = torch.nn.functional.one_hot(group, components).double()
        for _ in range(EM_ROUNDS):
            share = share * weight[:, None, None] * mask[..., None]
            self.leaves.maximise(self.leaves.statistics(value, mask, share))
            self.leaves.log_scale.copy_(torch.maximum(self.leaves.log_scale, floor))
            self.log_weight.copy_((share.sum(0) + 1 / components).log().log_softmax(1))
            share = (self.log_weight + self.leaves.log_prob(value, mask)).softmax(2)

    def _narrowest(self, value: Tensor, mask: Tensor, weight: Tensor) -> Float[Tensor, " N"]:
        """How narrow a soft code may be: the bandwidth of a kernel estimate (B. Silverman (1986),
        Density estimation, equation 3.31), so that a handful of rows makes no spike. 0 for hard
        bins, whose edges already say how finely to look."""
        out = torch.zeros(value.shape[1], dtype=torch.float64)
        for column in self.soft.nonzero()[:, 0].tolist():
            x = value[mask[:, column], column]
            w = weight[mask[:, column]]
            spread = float(self.leaves.variance_prior[column] * 10) ** 0.5
            quartiles = [low for low, _ in _quantiles(x, w, 4)]
            middle = (quartiles[-1] - quartiles[0]) / 1.34 if len(quartiles) == 3 else spread
            out[column] = 0.9 * min(spread, middle) * max(float(w.sum()), 1.0) ** -0.2
        return out

    def _on_atom(self, value: Float[Tensor, "B N"]) -> Tensor:
        """(B, N) bool."""
        numbers = [v for v in self.variables if not v.discrete]
        apart = [
            (value[:, n, None] - torch.tensor(v.atoms, dtype=torch.float64)).abs()
            for n, v in enumerate(numbers)
        ]
        return torch.stack(
            [
                (far < 0.5 * (v.resolution or 0.0)).any(1)
                for far, v in zip(apart, numbers, strict=True)
            ],
            1,
        )

    # ------------------------------------------------------------------ values -> codes

    def codes(self, event: Event) -> Event:
        """The (B, D) code of every cell (soft columns: the likeliest component); missing stays
        missing, as 0."""
        code = torch.zeros(event.value.shape, dtype=torch.long)
        if len(self.category):
            code[:, self.category] = self.level_code[
                torch.arange(len(self.category)), event.value[:, self.category].long()
            ]
        if len(self.numeric):
            value = event.value[:, self.numeric]
            hard = (value[..., None] >= self.cuts[:, 1:-1]).sum(-1)
            code[:, self.numeric] = (
                torch.where(self.soft, self._components(event).argmax(2), hard)
                if self.soft.any()
                else hard
            )
        return Event((code * event.mask).double(), event.observed)

    def _components(self, event: Event) -> Float[Tensor, "B N K"]:
        """log p(component, number)."""
        return self.log_weight + self.leaves.log_prob(
            event.value[:, self.numeric], event.mask[:, self.numeric]
        )

    def log_within(self, event: Event) -> Float[Tensor, "B D"]:
        """log g / G of every observed cell: what a value is worth inside its code; 0 where missing,
        and in soft columns."""
        out = torch.zeros(event.value.shape, dtype=torch.float64)
        if len(self.category):
            out[:, self.category] = self.log_share[
                torch.arange(len(self.category)), event.value[:, self.category].long()
            ]
        if len(self.numeric) and not self.soft.all():
            code = self.codes(event).value[:, self.numeric].long().clamp_max(self.cuts.shape[1] - 2)
            bins = self._log_bins(self._everything())[torch.arange(len(self.numeric)), code]
            out[:, self.numeric] = torch.where(
                self.soft, 0.0, self._components(event).logsumexp(2) - bins
            )
        return torch.where(event.mask, out, 0.0)

    def log_codes(self, event: Event) -> Float[Tensor, "B D L"]:
        """log p(what is known of each cell | code): its value, the region that it lies in, or
        nothing (0)."""
        hot = torch.nn.functional.one_hot(self.codes(event).value.long(), max(self.levels)).bool()
        known = torch.where(hot, self.log_within(event)[..., None], -math.inf)
        if self.soft.any():
            leaf = self.leaves.log_prob(event.value[:, self.numeric], event.mask[:, self.numeric])[
                :, self.soft
            ]
            known[:, self.numeric[self.soft], : leaf.shape[2]] = leaf
        free = (
            torch.zeros(self.legal.shape, dtype=torch.float64)
            if event.within is None
            else self.log_region(event.within)
        )
        return torch.where(event.mask[..., None], known, free).masked_fill(~self.legal, -math.inf)

    # ------------------------------------------------------------------ regions

    def log_region(self, region: Region) -> Float[Tensor, "D L"]:
        """log of the share of each code that lies inside the region; 0 for variables that it leaves
        open."""
        out = torch.full(self.legal.shape, -math.inf, dtype=torch.float64)
        if len(self.category):
            inside = (self.log_share + self._allowed(region)).exp()
            of_code = torch.zeros(len(inside), out.shape[1], dtype=torch.float64)
            out[self.category] = of_code.scatter_add(1, self.level_code.clamp_min(0), inside).log()
        if len(self.numeric):
            low, high = self._box(region)
            hard = self._log_bins((low, high)) - self._log_bins(self._everything())
            soft = log_mass(*self._standard(low[:, None], torch.maximum(low, high)[:, None]))
            spare = out.shape[1] + hard.shape[1] + soft.shape[1]  # wide enough for both, then cut
            soft, hard = (
                nn.functional.pad(part, (0, spare - part.shape[1]), value=-math.inf)
                for part in (soft, hard)
            )
            out[self.numeric] = torch.where(self.soft[:, None], soft, hard)[:, : out.shape[1]]
        return torch.where(region.constrained[:, None], out, 0.0).masked_fill(
            ~self.legal, -math.inf
        )

    def _everything(self) -> tuple[Tensor, Tensor]:
        whole = torch.full((len(self.numeric),), math.inf, dtype=torch.float64)
        return -whole, whole

    def _box(self, region: Region | None) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Edges of the unrounded numbers that the region holds."""
        if region is None:
            return self._everything()
        return self.leaves._box(Region(region.low[self.numeric], region.high[self.numeric]))

    def _log_bins(
        self, box: tuple[Float[Tensor, " N"], Float[Tensor, " N"]]
    ) -> Float[Tensor, "N _"]:
        """log of g's mass in the part of each bin inside the box."""
        low = torch.maximum(self.cuts[:, :-1], box[0][:, None])
        high = torch.minimum(self.cuts[:, 1:], box[1][:, None])
        empty = low >= high
        low = torch.where(empty, 0.0, low)[..., None]
        high = torch.where(empty, 1.0, high)[..., None]
        mean = self.leaves.mean[:, None]
        scale = self.leaves.log_scale.exp()[:, None]
        mass = (
            self.log_weight[:, None] + log_mass((low - mean) / scale, (high - mean) / scale)
        ).logsumexp(2)
        return mass.masked_fill(empty, -math.inf)

    def _standard(
        self, low: Float[Tensor, "*B N #K"], high: Float[Tensor, "*B N #K"]
    ) -> tuple[Tensor, Tensor]:
        """An interval in standard deviations of each component."""
        scale = self.leaves.log_scale.exp()
        return (low - self.leaves.mean) / scale, (high - self.leaves.mean) / scale

    def _allowed(self, region: Region | None) -> Float[Tensor, "C V"]:
        """0 for the levels inside the region, -inf for the others."""
        keep = self.level_code >= 0
        if region is not None:
            level = torch.arange(keep.shape[1])
            keep = (
                keep
                & (level >= region.low[self.category, None])
                & (level <= region.high[self.category, None])
            )
            for row, d in enumerate(self.category.tolist()):
                if d in region.allowed:
                    keep[row, : len(region.allowed[d])] &= region.allowed[d]
        return torch.where(keep, 0.0, -math.inf).double()

    # ------------------------------------------------------------------ codes -> values

    @torch.no_grad()
    def sample(
        self,
        codes: Int[Tensor, "B D"],
        generator: torch.Generator | None,
        region: Region | None = None,
    ) -> Float[Tensor, "B D"]:
        """A value for every code, drawn from the marginal inside its bin (and the region)."""
        value = torch.zeros(codes.shape, dtype=torch.float64)
        if len(self.category):
            mine = self.level_code == codes[:, self.category, None]
            logits = torch.where(mine, self.log_share + self._allowed(region), -math.inf)
            value[:, self.category] = categorical(logits, generator).double()
        if len(self.numeric):
            value[:, self.numeric] = self._sample_numbers(
                codes[:, self.numeric], generator, self._box(region)
            )
        return value

    def _interval(
        self, codes: Int[Tensor, "*B N"]
    ) -> tuple[Float[Tensor, "*B N"], Float[Tensor, "*B N"]]:
        """The edges of each number's bin; of a soft code all numbers."""
        column = torch.arange(len(self.numeric))
        code = codes.clamp_max(self.cuts.shape[1] - 2)
        low = self.cuts[column, code]
        high = self.cuts[column, code + 1]
        return torch.where(self.soft, -math.inf, low), torch.where(self.soft, math.inf, high)

    def _sample_numbers(
        self, codes: Tensor, generator: torch.Generator | None, box: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "B N"]:
        low, high = self._interval(codes)
        low = torch.maximum(low, box[0])
        high = torch.maximum(torch.minimum(high, box[1]), low)
        edges = self._standard(low[..., None], high[..., None])
        component = torch.where(
            self.soft, codes, categorical(self.log_weight + log_mass(*edges), generator)
        )
        column = torch.arange(len(self.numeric))
        a, b = (edge.gather(2, component[..., None])[..., 0] for edge in edges)
        mean = self.leaves.mean[column, component]
        scale = self.leaves.log_scale[column, component].exp()
        return self.leaves.lattice.snap(mean + scale * _truncated(a, b, generator))

    @torch.no_grad()
    def peaks(self) -> tuple[Float[Tensor, "D L"], Float[Tensor, "D L"]]:
        """The likeliest value of each code (numbers: the best of the components' means, moved into
        the bin), and its log p."""
        value = torch.zeros(self.legal.shape, dtype=torch.float64)
        for code in range(value.shape[1]):
            if len(self.category):
                value[self.category, code] = (
                    torch.where(self.level_code == code, self.log_share, -math.inf)
                    .argmax(1)
                    .double()
                )
            if len(self.numeric):
                value[self.numeric, code] = self._peak_numbers(
                    torch.full((len(self.numeric),), code)
                )
        at = [
            self.log_codes(Event(column[None]))[0, :, code] for code, column in enumerate(value.T)
        ]
        return value, torch.stack(at, 1)

    def _peak_numbers(self, codes: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """One value for each number's code."""
        low, high = self._interval(codes)
        lattice = self.leaves.lattice
        column = torch.arange(len(self.numeric))
        inner = torch.where(
            lattice.width > 0, lattice.width / 2, (high - low).nan_to_num(posinf=0.0) * 1e-6
        )
        # (K, N)
        middle = torch.minimum(torch.maximum(self.leaves.mean.T, low + inner), high - inner)
        candidates = lattice.snap(middle)
        seen = torch.ones(candidates.shape, dtype=torch.bool)
        height = (self.log_weight + self.leaves.log_prob(candidates, seen)).logsumexp(2)
        best = candidates[height.argmax(0), column]
        own = self.leaves.mean[column, codes.clamp_max(self.leaves.mean.shape[1] - 1)]
        return torch.where(self.soft, own, best)


def _count(column: JSON) -> int:
    """Codes of a column."""
    if "levels" in column:
        return int(max(column["levels"])) + 1
    return int(column["components"]) if "components" in column else len(column["edges"]) + 1


def _truncated(
    low: Float[Tensor, "B N"], high: Float[Tensor, "B N"], generator: torch.Generator | None
) -> Float[Tensor, "B N"]:
    """Standard normals known to lie in [low, high], by the inverse of the distribution function in
    the lower tail."""
    flip = low + high > 0
    a = torch.where(flip, -high, low)
    b = torch.where(flip, -low, high)
    below, above = (0.5 * torch.erfc(-math.sqrt(0.5) * edge) for edge in (a, b))
    uniform = torch.rand(low.shape, generator=generator, dtype=torch.float64)
    z = ndtri(below + (above - below) * uniform)
    z = torch.minimum(torch.maximum(torch.where(z.isfinite(), z, torch.where(b < 0, b, 0.0)), a), b)
    return torch.where(flip, -z, z)

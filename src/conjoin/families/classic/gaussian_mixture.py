r"""Mixture of Gaussians with full covariances, for numbers that hang together.

    p(x) = sum_k pi_k N(g(x_numbers); mu_k, Sigma_k) prod_n |g_n'(x_n)| prod_{d other} p(x_d | k)
    Sigma_k = (S_k + nu S) / (n_k + nu),      S = sum_k S_k / sum_k n_k

Expectation-maximisation as in A. Dempster, N. Laird and D. Rubin (1977), section 4.3. S_k is the
scatter about mu_k of the n_k rows of a component, S the pooled covariance within components: each
starts with nu rows that are shaped like the others (J. Friedman (1989), Regularized discriminant
analysis, equation 10), so that there may be one component for a few rows. Numbers that come
as points or in fine cells, and without atoms, are jointly Gaussian; a cell of width w has the mass
w N(x), and a variance has a floor that makes these masses sum to one (see
``conjoin.families.classic.gaussian``). All other columns are independent within a component
(``conjoin.components.leaves``). A number with a bound is stretched near it,

    g(x) = b + u + s log(1 - exp(-u / s)),       u = x - b,

which is x far from the bound b and runs to minus infinity at it. A part of a Gaussian is Gaussian:
marginals and conditionals are exact. That several missing numbers lie in a box at once is summed up
by separation of variables over fixed points (A. Genz (1992), Numerical computation of multivariate
normal probabilities, section 3), and approximate. Values are in nats.

Shape letters: B rows, D variables, N jointly Gaussian numbers, O other variables, K components, G
missing numbers, S points.

>>> from conjoin.core import Variable, stream
>>> space = Space((2,), (Variable("a", "real"), Variable("b", "real")))
>>> data = Event(torch.randn(60, 2, generator=stream(0), dtype=torch.float64))
>>> model = GaussianMixtureDensity.build(space, GaussianMixture(components=2), data, stream(0))
>>> known = torch.tensor([[True, False]])
>>> alone = model.log_prob(Event(torch.zeros(1, 2).double(), known))
>>> bool(alone > model.log_prob(Event(torch.zeros(1, 2).double())))
True
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.special import ndtri

from conjoin.components.intervals import log_mass, normal_cdf
from conjoin.components.leaves import Lattice, LeafLayer
from conjoin.core import (
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Recipe,
    Region,
    Space,
    Status,
    Variable,
    categorical,
)
from conjoin.core.constants import LOG_2PI
from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.classic.gaussian import MIN_CELL_DEVIATION, missing_patterns
from conjoin.families.classic.mixture import cluster, counted

__all__ = ["GaussianMixture", "GaussianMixtureDensity", "gaussian_columns"]

MAX_COMPONENTS = 256
EM_PASSES = 60
MAX_ROWS_AT_ONCE = 4096  # of a step of expectation-maximisation
MAX_CELL_DEVIATIONS = 0.2  # a cell wider than this many deviations is no point of a Gaussian
FAR_DEVIATIONS = 6.0  # of a bound from the mean: nothing of the column comes near it
STRETCH_DEVIATIONS = 0.3  # s, of a column's deviation
MAX_PATTERNS = 64  # of missing Gaussian cells in the rows of a fit
MIN_VARIANCE = 1e-6  # of a column's own
BLOCK_CELLS = 1 << 22  # rows times components times numbers, at once
BOX_POINTS = 128  # where several numbers lie in a box
BOX_DRAWS = 32  # of which one is chosen there
MODE_CANDIDATES = 8  # components whose own modes compete


@dataclass(frozen=True)
class GaussianMixture(Config):
    """Settings of the mixture of Gaussians.

    Parameters
    ----------
    components : int or None, default None
        Components; None takes them from the rows and the Gaussian columns, at most 256.
    shrinkage : float or None, default None
        Rows of the pooled covariance that each component starts with; None: one for each Gaussian
        column.
    smoothing : float, default 1.0
        Rows of prior for the columns that are not jointly Gaussian.
    rows_per_column : float, default 3.0
        Rows of a component, for each Gaussian column and one more, where their number is not given.
    """

    components: int | None = None
    shrinkage: float | None = None
    smoothing: float = 1.0
    rows_per_column: float = 3.0

    def recipe(self, rows: int) -> Recipe:
        """All rows in one step, where they are few."""
        return Recipe(batch=min(max(rows, 1), MAX_ROWS_AT_ONCE), epochs=EM_PASSES)


def gaussian_columns(space: Space, data: Event, weight: Float[Tensor, " B"]) -> list[int]:
    """The numbers that are jointly Gaussian: points or fine cells, without atoms, with no row in
    the cell at a bound and no more than one bound near. Of those with gaps only so many that their
    gaps form few patterns."""
    found = []
    for d, variable in enumerate(space.variables):
        seen = data.mask[:, d] & (weight > 0)
        if not variable.discrete and _is_plain(variable, data.value[seen, d]):
            found.append(d)
    gaps = (~data.mask).double().sum(0)
    while found and len(missing_patterns(data.mask[:, found])[1]) > MAX_PATTERNS:
        found.remove(max(found, key=lambda d: float(gaps[d])))
    return found


def _is_plain(variable: Variable, value: Float[Tensor, " B"]) -> bool:
    if variable.atoms or len(value) < 2:
        return False
    spread = float(value.std())
    width = variable.resolution or 0.0
    if not spread > 0 or width >= MAX_CELL_DEVIATIONS * spread:
        return False
    low, high = variable.bounds
    at_edge = (low is not None and bool((value < low + width).any())) or (
        high is not None and bool((value > high - width).any())
    )
    return not at_edge and len(_near_bounds(variable, float(value.mean()), spread)) < 2


def _near_bounds(variable: Variable, mean: float, spread: float) -> list[tuple[float, float]]:
    """(side, edge) of each bound that the column comes near: 1 for a lower one, -1 for an upper."""
    half = 0.5 * (variable.resolution or 0.0)
    low, high = variable.bounds
    edges = [(1.0, low - half)] if low is not None else []
    edges += [(-1.0, high + half)] if high is not None else []
    return [(s, edge) for s, edge in edges if abs(mean - edge) < FAR_DEVIATIONS * spread]


class _Pattern(NamedTuple):
    """Rows in which the same Gaussian cells are known."""

    rows: Int[Tensor, " B"]
    seen: Int[Tensor, " n"]
    gone: Int[Tensor, " G"]


class GaussianMixtureDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = GaussianMixture
    bounded = True
    numeric: Tensor
    other: Tensor
    side: Tensor
    edge: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        space: Space,
        config: GaussianMixture,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        components = self.structure["components"]
        numeric = self.structure["gaussian"]
        other = [d for d in range(len(space.variables)) if d not in numeric]
        size = len(numeric)
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.long), persistent=False)
        self.register_buffer("other", torch.tensor(other, dtype=torch.long), persistent=False)
        self.lattice = Lattice([space.variables[d] for d in numeric])
        self.leaves = LeafLayer([space.variables[d] for d in other], components, config.smoothing)
        for name, value in (("side", 0.0), ("edge", 0.0), ("centre", 0.0), ("scale", 1.0)):
            self.register_buffer(name, torch.full((size,), value, dtype=torch.float64))
        self.log_weight = nn.Parameter(torch.zeros(components, dtype=torch.float64))
        if size:
            self.mean = nn.Parameter(torch.zeros(components, size, dtype=torch.float64))
            eye = torch.eye(size, dtype=torch.float64)
            self.factor = nn.Parameter(eye.repeat(components, 1, 1))

    @classmethod
    def build(
        cls,
        space: Space,
        config: GaussianMixture,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Components start as k-means finds them."""
        asked = config.components
        if asked is not None and asked < 1:
            raise ValueError(f"components must be at least 1, got {asked!r}.")
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        columns = gaussian_columns(space, data, weight)
        each = config.rows_per_column * (1 + len(columns))
        usual = min(MAX_COMPONENTS, round(counted(data, weight) / each))
        components = max(1, min(asked or usual, data.rows))
        density = cls(space, config, {"components": components, "gaussian": columns})
        density._start(data, weight)
        share = weight[:, None] * cluster(data, space.variables, weight, components, generator)
        with torch.no_grad():
            density._maximise(density._counts(data, share))
        return density.eval()

    def _start(self, data: Event, weight: Float[Tensor, " B"]) -> None:
        """Units of the columns, and every component like all rows."""
        other = data.value[:, self.other]
        if len(self.other):
            self.leaves.start(other, data.mask[:, self.other], weight)
        for place, d in enumerate(self.numeric.tolist()):
            seen = data.mask[:, d] & (weight > 0)
            value = data.value[seen, d]
            spread = float(value.std())
            near = _near_bounds(self.space.variables[d], float(value.mean()), spread)
            self.scale[place] = spread
            if near:
                self.side[place], self.edge[place] = near[0]
            self.centre[place] = float(value.mean())

    @property
    def capabilities(self) -> Capabilities:
        cells = bool((self.lattice.width > 0).any())
        return Capabilities(
            Likelihood.EXACT,
            objective="surrogate" if cells else "likelihood",
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="approximate",
            statistics=True,
        )

    # ------------------------------------------------------------------ numbers as Gaussian ones

    @property
    def _width(self) -> Float[Tensor, " N"]:
        """Of cells, in standard deviations of the column."""
        return self.lattice.width / self.scale

    @property
    def _floor(self) -> Float[Tensor, " N"]:
        return (MIN_CELL_DEVIATION * self._width).square() + MIN_VARIANCE

    def _covariance(self) -> Float[Tensor, "K N N"]:
        lower = self.factor.tril()
        return lower @ lower.transpose(1, 2) + torch.diag(self._floor)

    def _stretched(
        self, value: Float[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
        """g(x) in standard units, and log of its slope with the width of a cell; -inf, where a
        value is out of bounds."""
        step = STRETCH_DEVIATIONS * self.scale
        bent = self.side != 0
        apart = torch.where(bent, self.side * (value - self.edge), step)
        inside = apart > 0
        ratio = torch.where(inside, apart, step) / step
        log_part = torch.log(-torch.expm1(-ratio))
        y = torch.where(bent, value + self.side * step * log_part, value)
        size = torch.where(self.lattice.width > 0, self.lattice.width, 1.0).log()
        slope = torch.where(bent, -log_part, 0.0) + size - self.scale.log()
        return (y - self.centre) / self.scale, torch.where(inside, slope, -math.inf)

    def _recorded(self, z: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        """The inverse of ``_stretched``, on the lattice."""
        step = STRETCH_DEVIATIONS * self.scale
        y = self.centre + self.scale * z
        bent = self.edge + self.side * step * softplus(self.side * (y - self.edge) / step)
        return self.lattice.snap(torch.where(self.side != 0, bent, y))

    def _patterns(self, mask: Bool[Tensor, "B N"]) -> Iterator[_Pattern]:
        which, patterns = missing_patterns(mask)
        most = max(1, BLOCK_CELLS // max(1, self.mean.numel()))
        for index, pattern in enumerate(patterns):
            rows = (which == index).nonzero()[:, 0]
            seen = pattern.nonzero()[:, 0]
            gone = (~pattern).nonzero()[:, 0]
            for part in slices(len(rows), most):
                yield _Pattern(rows[part], seen, gone)

    # ------------------------------------------------------------------ log p

    def _joint(self, event: Event, quick: bool = False) -> Float[Tensor, "B K"]:
        """log p(what is known, k); ``quick`` is in one product of matrices, and loses digits where
        a row is far from everything."""
        total = self.log_weight.log_softmax(0).expand(event.rows, -1)
        if len(self.other):
            total = total + self.leaves.table(self._others(event)).total()
        if len(self.numeric) and event.rows:
            total = total + self._log_numbers(event, quick)
        return total

    def _others(self, event: Event) -> Event:
        """The columns that are not jointly Gaussian."""
        place = {d: index for index, d in enumerate(self.other.tolist())}
        region = event.within
        if region is not None:
            allowed = {place[d]: keep for d, keep in region.allowed.items() if d in place}
            region = Region(region.low[self.other], region.high[self.other], allowed)
        mask = event.mask[:, self.other]
        return Event(event.value[:, self.other], mask, within=region)

    def _log_numbers(self, event: Event, quick: bool) -> Float[Tensor, "B K"]:
        mask = event.mask[:, self.numeric]
        z, slope = self._stretched(event.value[:, self.numeric])
        covariance = self._covariance()
        box = self._box(event.within)
        parts = []
        order = []
        for pattern in self._patterns(mask):
            known = z[pattern.rows][:, pattern.seen]
            ask = self._quick_log_normal if quick and not len(pattern.gone) else self._log_normal
            each = ask(known, pattern.seen, covariance)
            if box is not None:
                inside = self._inside(known, pattern, covariance, box)
                each = each if inside is None else each + inside
            parts.append(each + slope[pattern.rows][:, pattern.seen].sum(1, keepdim=True))
            order.append(pattern.rows)
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _log_normal(
        self,
        z: Float[Tensor, "B n"],
        seen: Int[Tensor, " n"],
        covariance: Float[Tensor, "K N N"],
    ) -> Float[Tensor, "B K"]:
        if not len(seen):
            return z.new_zeros(len(z), len(covariance))
        inverse = _inverse_factor(covariance[:, seen][:, :, seen])
        middle = inverse @ self.mean[:, seen, None]
        white = torch.matmul(z, inverse.transpose(1, 2)) - middle.transpose(1, 2)  # (K, B, n)
        log_det = inverse.diagonal(dim1=1, dim2=2).log().sum(1)
        return (-0.5 * (white.square().sum(2) + len(seen) * LOG_2PI) + log_det[:, None]).T

    def _quick_log_normal(
        self,
        z: Float[Tensor, "B N"],
        seen: Int[Tensor, " N"],
        covariance: Float[Tensor, "K N N"],
    ) -> Float[Tensor, "B K"]:
        """The same of all numbers, as a linear function of products of them."""
        inverse = _inverse_factor(covariance)
        precision = inverse.transpose(1, 2) @ inverse
        pull = (precision @ self.mean[..., None])[..., 0]
        log_det = inverse.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = log_det - 0.5 * ((pull * self.mean).sum(1) + len(seen) * LOG_2PI)
        row, column = torch.triu_indices(len(seen), len(seen))
        twice = torch.where(row == column, 0.5, 1.0)
        products = -precision[:, row, column] * twice
        return _products(z) @ torch.cat([products, pull, constant[:, None]], 1).T

    def _given(
        self, z: Float[Tensor, "B n"], pattern: _Pattern, covariance: Float[Tensor, "K N N"]
    ) -> tuple[Float[Tensor, "K B G"], Float[Tensor, "K G G"]]:
        """Means and covariances of the missing numbers, given the known ones."""
        seen = pattern.seen
        gone = pattern.gone
        left = covariance[:, gone][:, :, gone]
        mean = self.mean[:, None, gone]
        if not len(seen):
            return mean.expand(-1, len(z), -1), left
        cross = covariance[:, seen][:, :, gone]
        gain = torch.linalg.solve(covariance[:, seen][:, :, seen], cross)  # (K, n, G)
        apart = z - self.mean[:, None, seen]
        return mean + apart @ gain, left - cross.transpose(1, 2) @ gain

    # ------------------------------------------------------------------ boxes

    def _box(self, region: Region | None) -> tuple[Tensor, Tensor] | None:
        """Edges of the Gaussian numbers (N,), in standard units; None where none is confined. A box
        holds a cell if it holds the cell's recorded value."""
        if region is None or not bool(region.constrained[self.numeric].any()):
            return None
        lattice = self.lattice
        step = torch.where(lattice.width > 0, lattice.width, 1.0)
        low = region.low[self.numeric]
        high = region.high[self.numeric]
        first = lattice.origin + step * (torch.ceil((low - lattice.origin) / step - 1e-6) - 0.5)
        last = lattice.origin + step * (torch.floor((high - lattice.origin) / step + 1e-6) + 0.5)
        low = torch.where(lattice.width > 0, first, low)
        high = torch.where(lattice.width > 0, last, high)
        return self._edge_of(low, -math.inf), self._edge_of(high, math.inf)

    def _edge_of(self, value: Float[Tensor, " N"], end: float) -> Float[Tensor, " N"]:
        """An edge in standard units; beyond a bound all that lies on its side."""
        z, slope = self._stretched(value.nan_to_num(posinf=0.0, neginf=0.0)[None])
        beyond = torch.where(self.side > 0, -math.inf, math.inf).double()
        inside = torch.where(slope[0] == -math.inf, beyond, z[0])
        return torch.where(value.isfinite(), inside, torch.where(value > 0, math.inf, -math.inf))

    def _inside(
        self,
        z: Float[Tensor, "B n"],
        pattern: _Pattern,
        covariance: Float[Tensor, "K N N"],
        box: tuple[Tensor, Tensor],
    ) -> Float[Tensor, "B K"] | None:
        """log of the mass of the box, given the known numbers; None where it confines no missing
        one."""
        low, high = (edge[pattern.gone] for edge in box)
        kept = (low.isfinite() | high.isfinite()).nonzero()[:, 0]
        if not len(kept):
            return None
        mean, left = self._given(z, pattern._replace(gone=pattern.gone[kept]), covariance)
        factor = torch.linalg.cholesky(left)[:, None, None]  # (K, 1, 1, G, G)
        points = _points(BOX_POINTS if len(kept) > 1 else 1, len(kept))
        found = _separated(mean[:, :, None], factor, low[kept], high[kept], points)[1]
        return (found.logsumexp(2) - math.log(found.shape[2])).T

    # ------------------------------------------------------------------ hooks

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._joint(event).logsumexp(1)

    def _confined(self, event: Event) -> bool:
        """Whether several missing numbers of a row lie in a box at once."""
        box = self._box(event.within)
        if box is None:
            return False
        closed = box[0].isfinite() | box[1].isfinite()
        return bool(((~event.mask[:, self.numeric] & closed).sum(1) > 1).any())

    def _status_of(self, event: Event) -> Status:
        return Status.APPROXIMATE if self._confined(event) else Status.EXACT

    def _draw_open(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> tuple[Event, Status, None]:
        return self._sample_conditional(event, context, generator), self._status_of(event), None

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        state = categorical(self._joint(event), generator)
        value = torch.zeros_like(event.value)
        if len(self.other):
            own = self._others(event)
            states = state[:, None].expand_as(own.value)
            value[:, self.other] = self.leaves.sample(states, generator, own.within)
        if len(self.numeric):
            value[:, self.numeric] = self._drawn(event, state, generator)
        return Event(torch.where(event.mask, event.value, value))

    def _drawn(
        self, event: Event, state: Int[Tensor, " B"], generator: torch.Generator | None
    ) -> Float[Tensor, "B N"]:
        """The missing numbers, given each row's component and what is known."""
        z = self._stretched(event.value[:, self.numeric])[0]
        out = z.clone()
        covariance = self._covariance()
        rounding = torch.diag(self._width.square() / 12)  # that snapping to the lattice adds
        box = self._box(event.within)
        for pattern in self._patterns(event.mask[:, self.numeric]):
            if not len(pattern.gone) or not len(pattern.rows):
                continue
            rows = torch.arange(len(pattern.rows))
            own = state[pattern.rows]
            used, place = own.unique(return_inverse=True)
            known = z[pattern.rows][:, pattern.seen]
            mean, left = self._given(known, pattern, covariance)
            mean = mean[own, rows]
            less = left if box is not None else left - rounding[pattern.gone][:, pattern.gone]
            factor = torch.linalg.cholesky(less[used])[place]
            out[pattern.rows[:, None], pattern.gone] = _draw(
                mean, factor, pattern.gone, box, generator
            )
        return self._recorded(out)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the modes of the components that say most of each row."""
        joint = self._joint(event)
        some = joint.topk(min(MODE_CANDIDATES, joint.shape[1]), 1).indices
        found = torch.stack([self._mode_of(event, state) for state in some.T])
        log_p = torch.stack([self._log_prob(Event(value), None, None) for value in found])
        return Event(found[log_p.argmax(0), torch.arange(event.rows)])

    def _mode_of(self, event: Event, state: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Missing cells at the mode of one component for each row."""
        value = event.value.clone()
        if len(self.other):
            value[:, self.other] = self.leaves.modes().T[state]
        if len(self.numeric):
            z = self._stretched(event.value[:, self.numeric])[0]
            covariance = self._covariance()
            for pattern in self._patterns(event.mask[:, self.numeric]):
                if len(pattern.gone) and len(pattern.rows):
                    known = z[pattern.rows][:, pattern.seen]
                    mean = self._given(known, pattern, covariance)[0]
                    rows = torch.arange(len(pattern.rows))
                    z[pattern.rows[:, None], pattern.gone] = mean[state[pattern.rows], rows]
            value[:, self.numeric] = self._recorded(z)
        return torch.where(event.mask, event.value, value)

    # ------------------------------------------------------------------ learning

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        joint = self._joint(event, quick=True)
        log_prob = joint.logsumexp(1)
        share = weight[:, None] * (joint - log_prob[:, None]).exp()
        return self._counts(event, share) | {"log_prob": (weight * log_prob).sum()}

    def _counts(self, event: Event, share: Float[Tensor, "B K"]) -> dict[str, Tensor]:
        out = {"component": share.sum(0)}
        if len(self.other):
            table = self.leaves.table(self._others(event))
            out |= self.leaves.statistics_of(table, table.shares(share))
        if len(self.numeric):
            out |= self._moments(event, share)
        return out

    def _moments(self, event: Event, share: Float[Tensor, "B K"]) -> dict[str, Tensor]:
        """Expected first and second moments of the numbers, by component."""
        z = self._stretched(event.value[:, self.numeric])[0]
        covariance = self._covariance()
        first = torch.zeros_like(self.mean)
        second = torch.zeros_like(self.factor)
        row, column = torch.triu_indices(z.shape[1], z.shape[1])
        for pattern in self._patterns(event.mask[:, self.numeric]):
            own = z[pattern.rows]
            part = share[pattern.rows].T  # (K, B)
            gone = pattern.gone
            if not len(gone):
                found = part @ _products(own)
                first += found[:, row.shape[0] : -1]
                second[:, row, column] += found[:, : row.shape[0]]
                second[:, column, row] = second[:, row, column]  # products are the same both ways
                continue
            mean, left = self._given(own[:, pattern.seen], pattern, covariance)
            full = own.expand(len(part), -1, -1).clone()
            full[:, :, gone] = mean
            second[:, gone[:, None], gone] += part.sum(1)[:, None, None] * left
            first += (part[:, None] @ full)[:, 0]
            second += (part[..., None] * full).transpose(1, 2) @ full
        return {"first": first, "second": second}

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        count = statistics["component"]
        self.log_weight.copy_((count + 1 / len(count)).log().log_softmax(0))
        if len(self.other):
            self.leaves.maximise(statistics)
        if not len(self.numeric):
            return
        weak = 1e-2
        mean = statistics["first"] / (count + weak)[:, None]
        cross = statistics["first"][:, :, None] * mean[:, None]
        scatter = (
            statistics["second"]
            - cross
            - cross.transpose(1, 2)
            + count[:, None, None] * mean[:, :, None] * mean[:, None]
        )
        pooled = scatter.sum(0) / count.sum()
        asked = self.config.shrinkage
        strength = float(len(self.numeric)) if asked is None else asked
        covariance = (scatter + strength * pooled) / (count + strength)[:, None, None]
        jitter = MIN_VARIANCE * torch.eye(len(self.numeric), dtype=torch.float64)
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance + jitter))


def _inverse_factor(covariance: Float[Tensor, "K n n"]) -> Float[Tensor, "K n n"]:
    """The inverse of the Cholesky factor."""
    factor = torch.linalg.cholesky(covariance)
    eye = torch.eye(factor.shape[1], dtype=factor.dtype).expand_as(factor)
    return torch.linalg.solve_triangular(factor, eye, upper=False)


def _products(z: Float[Tensor, "B N"]) -> Float[Tensor, "B P"]:
    """Products of two numbers each, the numbers, and one."""
    row, column = torch.triu_indices(z.shape[1], z.shape[1])
    return torch.cat([z[:, row] * z[:, column], z, torch.ones_like(z[:, :1])], 1)


# ------------------------------------------------------------------------------------------- boxes


def _points(number: int, size: int) -> Float[Tensor, "S G"]:
    """Points of the unit cube that lie evenly: multiples of the roots of primes (R. Richtmyer
    (1951)). One point is the middle, which is exact for a single number."""
    primes = torch.tensor(_primes(size), dtype=torch.float64).sqrt()
    return ((torch.arange(number).double()[:, None] + 0.5) * primes) % 1.0


def _primes(count: int) -> Sequence[int]:
    out: list[int] = []
    number = 2
    while len(out) < count:
        if all(number % prime for prime in out):
            out.append(number)
        number += 1
    return out


def _separated(
    mean: Tensor, factor: Tensor, low: Tensor, high: Tensor, points: Float[Tensor, "*S G"]
) -> tuple[Tensor, Tensor]:
    """Standard normals (..., G) whose image ``mean + factor e`` lies in the box, one number after
    the other, at ``points`` of the mass that is left; and the log of that mass."""
    drawn: list[Tensor] = []
    total = torch.zeros((), dtype=torch.float64)
    for g in range(points.shape[-1]):
        middle = mean[..., g]
        for h, earlier in enumerate(drawn):
            middle = middle + factor[..., g, h] * earlier
        scale = factor[..., g, g]
        a = (low[g] - middle) / scale
        b = (high[g] - middle) / scale
        total = total + log_mass(a, b)
        drawn.append(_between(a, b, points[..., g]))
    return torch.stack(torch.broadcast_tensors(*drawn), -1), total


def _between(a: Tensor, b: Tensor, point: Tensor) -> Tensor:
    """The standard normal below which a share ``point`` of the mass between a and b lies."""
    flip = a + b > 0  # by symmetry, work in the lower tail
    low = torch.where(flip, -b, a)
    high = torch.where(flip, -a, b)
    share = torch.where(flip, 1 - point, point)
    below = normal_cdf(low)
    z = ndtri(below + (normal_cdf(high) - below) * share)
    z = torch.where(z.isfinite(), z, torch.where(high.isfinite(), high, 0.0))
    z = torch.minimum(torch.maximum(z, low), high)
    return torch.where(flip, -z, z)


def _draw(
    mean: Float[Tensor, "B G"],
    factor: Float[Tensor, "B G G"],
    gone: Int[Tensor, " G"],
    box: tuple[Tensor, Tensor] | None,
    generator: torch.Generator | None,
) -> Float[Tensor, "B G"]:
    """Missing numbers, one draw for each row; of several in a box one of ``BOX_DRAWS`` by its
    weight."""
    shape = mean.shape
    if box is None:
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return mean + (factor @ noise[..., None])[..., 0]
    low, high = (edge[gone] for edge in box)
    several = int((low.isfinite() | high.isfinite()).sum()) > 1
    draws = BOX_DRAWS if several else 1
    point = torch.rand(shape[0], draws, shape[1], generator=generator, dtype=torch.float64)
    noise, log_p = _separated(mean[:, None], factor[:, None], low, high, point)
    chosen = categorical(log_p.expand(shape[0], draws), generator)
    own = noise[torch.arange(shape[0]), chosen]
    return mean + (factor @ own[..., None])[..., 0]

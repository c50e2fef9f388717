r"""The predictive density of a Bayesian model that was learned by Gibbs sampling: a mixture over
samples and states.

    p(x) = 1/S sum_s sum_k w_sk prod_d p(x_d | s, k)

S samples of the posterior, each a mixture of K states whose columns are independent: the
Monte-Carlo form of the posterior predictive (A. Gelfand and A. Smith (1990), Sampling-based
approaches to calculating marginal densities, equation 2.8). The sum is a density in its own right,
so log p(x) in nats, its marginals, conditionals and regions are exact. The samples are those of the
last half of the sweeps, at most S of them.

Shape letters: B rows, D variables (C categorical, N numeric), M = S K states in all, P distinct
cells, A atoms.

>>> from conjoin.core import Variable
>>> layer = StudentLayer((Variable("mass", "real"),), states=2)
>>> layer.freedom.fill_(1.0)[0, 0].item()  # with one degree of freedom: Cauchy's distribution
1.0
>>> round(layer.log_rows(Event(torch.zeros(1, 1).double())).exp()[0, 0].item() * math.pi, 6)
1.0
"""

import copy
import math
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from scipy.special import betainc, betaincinv
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from conjoin.components.intervals import log_mass
from conjoin.components.leaves import (
    MIN_LOG_PROB_NATS,
    NARROW_DEVIATIONS,
    LeafLayer,
    _Cells,
    _under,
)
from conjoin.core import Capabilities, Density, Event, Likelihood, Region, categorical
from conjoin.core.constants import LOG_2PI
from conjoin.core.event import slices
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float, Int

__all__ = [
    "Copies",
    "PosteriorMixture",
    "ProductLayer",
    "StudentLayer",
    "known_parts",
    "numpy_stream",
    "student_log_mass",
    "truncated_normal",
]

CHUNK_ROWS = 4096  # rows that are evaluated at a time
MODE_STATES = 16  # most responsible states whose modes compete for a row's
UNDERFLOW = 1e-200  # a sum of products below this is summed once more, in logarithms
# what a layer holds of every state, on axis 1
PER_STATE = (
    "logits",
    "mean",
    "log_scale",
    "atom_logits",
    "freedom",
)
MAX_COPIES = 100_000  # rows counted one by one; beyond that, copies of a row sit together


def numpy_stream(generator: torch.Generator) -> np.random.Generator:
    """A generator of numpy that is a function of torch's."""
    return np.random.default_rng(draw_seed(generator))


class Copies(NamedTuple):
    """Rows with weights as single items: a row of weight 3 is three items, a row of weight 2.5
    three of weight 5/6."""

    row: Int[Tensor, " I"]
    weight: Float[Tensor, " I"]

    @classmethod
    def of(cls, weight: Float[Tensor, " B"]) -> Self:
        times = (
            torch.ceil(weight * min(1.0, MAX_COPIES / float(weight.sum())) - 1e-9)
            .clamp_min(1)
            .long()
        )
        return cls(
            torch.arange(len(weight)).repeat_interleave(times),
            (weight / times).repeat_interleave(times),
        )


# ------------------------------------------------------------------------------------------- leaves


class ProductLayer(LeafLayer):
    """A LeafLayer for many states, which are alternatives for the row as a whole."""

    def only(self, states: Int[Tensor, " U"]) -> Self:
        """A layer of these states alone; it shares all else with this one."""
        part = copy.copy(self)
        part.states = len(states)
        for group in ("_parameters", "_buffers"):
            named = {
                name: value[:, states] if name in PER_STATE else value
                for name, value in getattr(self, group).items()
            }
            part.__dict__[group] = named
        return part

    def log_rows(self, event: Event) -> Float[Tensor, "B K"]:
        """sum_d log p(x_d | k) of what is known. Each distinct cell is evaluated once, and a row
        adds up its cells."""
        columns = len(self.variables)
        table = [
            torch.zeros(columns, self.states).double()
            if event.within is None
            else self.log_region(event.within)
        ]
        place = torch.arange(columns).repeat(event.rows, 1)  # of a missing cell: its region
        if len(self.category):
            levels = self.log_levels().transpose(1, 2)
            known = (
                columns
                + torch.arange(len(self.category)) * levels.shape[1]
                + event.value[:, self.category].long()
            )
            place[:, self.category] = torch.where(
                event.mask[:, self.category], known, place[:, self.category]
            )
            table.append(levels.flatten(0, 1).clamp_min(MIN_LOG_PROB_NATS))
        if len(self.numeric):
            cells = _Cells.distinct(event.value[:, self.numeric])
            known = sum(map(len, table)) + cells.place
            place[:, self.numeric] = torch.where(
                event.mask[:, self.numeric], known, place[:, self.numeric]
            )
            table.append(self._log_number(cells))
        return (
            embedding_bag(place, torch.cat(table), mode="sum")
            if event.rows
            else torch.zeros(0, self.states).double()
        )

    def _log_continuous(self, cells: _Cells) -> Float[Tensor, "P K"]:
        """Points are spared what only cells need."""
        is_cell = self.lattice.width[cells.column] > 0
        points = cells.take((~is_cell).nonzero()[:, 0])
        z, _ = self._standardise(points)
        density = torch.addcmul(-0.5 * LOG_2PI - self.log_scale[points.column], z, z, value=-0.5)
        density = density.nan_to_num(nan=MIN_LOG_PROB_NATS, neginf=MIN_LOG_PROB_NATS)
        if not is_cell.any():
            return density
        rest = super()._log_continuous(cells.take(is_cell.nonzero()[:, 0]))
        out = density.new_empty(len(is_cell), self.states)
        return out.masked_scatter(is_cell[:, None], rest).masked_scatter(~is_cell[:, None], density)

    @torch.no_grad()
    def draw_parts(
        self, value: Float[Tensor, "B D"], state: Int[Tensor, " B"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B N"], Int[Tensor, "B N"]]:
        """What lies behind the recorded numbers, given each row's state: the unrounded number, and
        the part of the leaf that it comes from (an atom's index, or A for the continuous part).
        Anything may stand where a cell is missing."""
        numbers = value[:, self.numeric]
        column = torch.arange(len(self.numeric))
        cells = _Cells(
            column.repeat(len(value)),
            numbers.flatten(),
            torch.arange(numbers.numel()).reshape(numbers.shape),
        )
        pick = state[:, None].expand(numbers.shape)
        mean = self.mean[column, pick]
        scale = self.log_scale[column, pick].exp()
        own = ((numbers - mean) / scale).reshape(-1, 1)
        low, high = (
            edge.reshape(numbers.shape)
            for edge in self._edges(cells, own, (self.lattice.width / scale).reshape(-1, 1))
        )
        exact = torch.where(
            self.lattice.width > 0, mean + scale * truncated_normal(low, high, generator), numbers
        )
        return exact, self._draw_part(cells, pick, low, high, generator)

    def _draw_part(
        self, cells: _Cells, pick: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Int[Tensor, "B N"]:
        atoms = self.atoms.shape[1]
        if not atoms:
            return torch.zeros_like(pick)
        on = self._on_atom(cells).reshape(*pick.shape, atoms)
        log_atoms = self.log_atoms()[torch.arange(pick.shape[1]), pick]
        rest = (log_atoms[..., -1] + log_mass(low, high))[..., None]
        return categorical(
            torch.cat(
                [
                    torch.where(on, log_atoms[..., :-1], -math.inf),
                    rest.clamp_min(MIN_LOG_PROB_NATS),
                ],
                -1,
            ),
            generator,
        )

    def _modes_of_numbers(self) -> Float[Tensor, "N K"]:
        """The recorded mean; an atom where it holds more than half of the leaf. (A bound that does
        so holds the mean, too.)"""
        mean = self.lattice.snap(self.mean.T).T
        if not self.atoms.shape[1]:
            return mean
        share, place = self.log_atoms()[..., :-1].max(-1)
        return torch.where(share > math.log(0.5), self.atoms.gather(1, place), mean)


def truncated_normal(low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws inside [low, high], by the inverse of the distribution function in the
    lower tail."""
    flip = low + high > 0
    a = torch.where(flip, -high, low)
    b = torch.where(flip, -low, high)
    below = torch.special.ndtr(a)
    above = torch.special.ndtr(b)
    z = torch.special.ndtri(
        below + (above - below) * torch.rand(low.shape, generator=generator, dtype=torch.float64)
    )
    z = torch.where(torch.isfinite(z), z, torch.where(b < 0, b, torch.zeros_like(b)))
    z = torch.minimum(torch.maximum(z, a), b)
    return torch.where(flip, -z, z)


class StudentLayer(ProductLayer):
    """Numbers follow Student's t in place of the normal: the predictive distribution of a normal
    with unknown mean and variance.

    p(x | k) = Gamma((nu + 1) / 2) / (Gamma(nu / 2) sqrt(nu pi) sigma) (1 + z^2 / nu)^(-(nu + 1) /
    2),  z = (x - mu) / sigma"""

    freedom: Tensor

    def __init__(self, variables: Any, states: int, smoothing: float = 1.0) -> None:
        super().__init__(variables, states, smoothing)
        self.register_buffer("freedom", torch.ones(len(self.numeric), states, dtype=torch.float64))

    def _log_continuous(self, cells: _Cells) -> Float[Tensor, "P K"]:
        z, width = self._standardise(cells)
        step = self.lattice.width[cells.column]
        freedom = self.freedom[cells.column]
        result = (
            torch.where(step > 0, step, 1.0).log()[:, None]
            - self.log_scale[cells.column]
            + _student_log_density(z, freedom)
        )
        low = self.lattice.low[cells.column]
        high = self.lattice.high[cells.column]
        edge = (cells.value < low + 0.25 * step) | (cells.value > high - 0.25 * step)
        wide = ((step > 0) & (edge | (width > NARROW_DEVIATIONS).any(1))).nonzero()[:, 0]
        if len(wide):
            exact = student_log_mass(
                *self._edges(cells.take(wide), z[wide], width[wide]), freedom[wide]
            )
            # too far out for a difference of masses
            exact = torch.where(torch.isfinite(exact), exact, result[wide])
            result = result.index_copy(0, wide, exact)
        outside = (cells.value < low - 0.25 * step) | (cells.value > high + 0.25 * step)
        return result.nan_to_num(nan=MIN_LOG_PROB_NATS, neginf=MIN_LOG_PROB_NATS).masked_fill(
            outside[:, None], -math.inf
        )

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
        freedom = self.freedom[column, states]
        low, high = ((edge - mean) / scale for edge in self._box(region))
        flip = low + high > 0
        a = torch.where(flip, -high, low)
        b = torch.where(flip, -low, high)
        below = _student_cdf(a, freedom)
        above = _student_cdf(b, freedom)
        uniform = _under(flip, generator, point)
        z = _student_quantile(below + (above - below) * uniform, freedom)
        z = torch.minimum(
            torch.maximum(torch.where(torch.isfinite(z), z, torch.where(b < 0, b, 0.0)), a), b
        )
        return self._replace_by_atoms(
            self.lattice.snap(mean + scale * torch.where(flip, -z, z)), states, generator, region
        )

    def _log_parts_inside(self, region: Region) -> Float[Tensor, "N K P"]:
        low, high = (edge[:, None] for edge in self._box(region))
        scale = self.log_scale.exp()
        continuous = student_log_mass(
            (low - self.mean) / scale, (high - self.mean) / scale, self.freedom
        )
        atoms = torch.where((self.atoms >= low) & (self.atoms <= high), 0.0, -math.inf)
        return torch.cat([atoms[:, None].expand(-1, self.states, -1), continuous[..., None]], -1)


def _student_log_density(z: Tensor, freedom: Tensor) -> Tensor:
    constant = (
        torch.lgamma((freedom + 1) / 2)
        - torch.lgamma(freedom / 2)
        - 0.5 * (freedom * math.pi).log()
    )
    return constant - (freedom + 1) / 2 * torch.log1p(z * z / freedom)


def _student_cdf(z: Tensor, freedom: Tensor) -> Tensor:
    """P(T <= z), to full relative precision in the lower tail."""
    point, nu = (part.detach().cpu().numpy() for part in torch.broadcast_tensors(z, freedom))
    tail = 0.5 * betainc(nu / 2, 0.5, nu / (nu + point * point))
    return torch.as_tensor(np.where(point > 0, 1 - tail, tail))


def _student_quantile(p: Tensor, freedom: Tensor) -> Tensor:
    """The inverse of ``_student_cdf``."""
    share = p.cpu().numpy()
    nu = freedom.cpu().numpy()
    with np.errstate(divide="ignore"):
        z = -np.sqrt(nu * (1 / betaincinv(nu / 2, 0.5, 2 * np.minimum(share, 1 - share)) - 1))
    return torch.as_tensor(np.where(share > 0.5, -z, z))


class _StudentLogMass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, low: Tensor, high: Tensor, freedom: Tensor) -> Tensor:
        upper = low + high > 0  # by symmetry, work in the lower tail
        a = torch.where(upper, -high, low)
        b = torch.where(upper, -low, high)
        mass = (_student_cdf(b, freedom) - _student_cdf(a, freedom)).log()
        ctx.save_for_backward(low, high, freedom, mass)
        return mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        low, high, freedom, mass = ctx.saved_tensors
        at_low, at_high = (
            (_student_log_density(edge, freedom) - mass).exp() for edge in (low, high)
        )
        return -grads[0] * at_low, grads[0] * at_high, None


def student_log_mass(low: Tensor, high: Tensor, freedom: Tensor) -> Tensor:
    """log of the mass of Student's t between ``low`` and ``high`` (either may be infinite);
    differentiable in both."""
    low, high, freedom = torch.broadcast_tensors(low, high, freedom)
    return _StudentLogMass.apply(low, high, freedom)  # type: ignore[no-any-return, no-untyped-call]


# -------------------------------------------------------------------------------------- the density


class PosteriorMixture(Density):
    """Everything that is asked of such a density; a family adds the sweep, which puts one sample
    after the other into ``keep``."""

    bounded = True
    leaves: ProductLayer
    log_sample: Tensor
    sweeps: Tensor

    def _hold(self, leaves: ProductLayer, samples: int) -> None:
        """Room for ``samples`` samples; to begin with the first one counts alone. Only sweeps set
        the leaves; the gradient of a joint's own objective reaches the weights alone."""
        self.leaves = leaves.requires_grad_(False)
        self.samples = samples
        self.states = leaves.states // samples
        weight = torch.full((leaves.states,), -math.inf, dtype=torch.float64)
        weight[: self.states] = -math.log(self.states)
        self.log_weight = nn.Parameter(weight)
        # log w_sk of every slot
        self.register_buffer("log_sample", weight.reshape(samples, self.states).clone())
        self.register_buffer("sweeps", torch.zeros((), dtype=torch.long))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="approximate",
            sweeps=True,
            features=True,
        )

    # ------------------------------------------------------------------ samples of the posterior

    def _slot(self) -> slice:
        """The states of the newest sample."""
        first = int((self.sweeps - 1).clamp_min(0) % self.samples) * self.states
        return slice(first, first + self.states)

    def _responsibilities(self, event: Event) -> Float[Tensor, "B K"]:
        """p(state | what is known) by the newest sample."""
        slot = self._slot()
        leaves = self.leaves.only(torch.arange(slot.start, slot.stop))
        return torch.cat(
            [
                (self.log_sample.flatten()[slot] + leaves.log_rows(part)).softmax(1)
                for part in _parts(event)
            ]
        )

    def _keep(self, log_weight: Float[Tensor, " K"], parameters: dict[str, Tensor]) -> None:
        """A new sample of the posterior: it takes the place of the oldest. ``parameters`` of the
        leaves have K states on axis 1."""
        self.sweeps += 1
        slot = self._slot()
        count = int(self.sweeps)
        for name, value in parameters.items():
            getattr(self.leaves, name)[:, slot] = value
        self.log_sample[(count - 1) % self.samples] = log_weight
        recent = min(self.samples, (count + 1) // 2)
        live = [(count - 1 - back) % self.samples for back in range(recent)]
        self.log_weight.fill_(-math.inf).reshape(self.samples, -1)[live] = self.log_sample[
            live
        ] - math.log(recent)

    # ------------------------------------------------------------------ hooks

    def _live(self) -> tuple[Float[Tensor, " U"], ProductLayer]:
        """log-weights and leaves of the states that have any weight."""
        states = torch.isfinite(self.log_weight).nonzero()[:, 0]
        return self.log_weight.log_softmax(0)[states], self.leaves.only(states)

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        log_weight, leaves = self._live()
        return torch.cat(
            [(log_weight + leaves.log_rows(part)).logsumexp(1) for part in _parts(event)]
        )

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The columns are independent given the state: sum the other ones up once, then try each
        candidate."""
        hidden = torch.arange(event.value.shape[1]) == 0
        probe = torch.zeros(len(candidates), event.value.shape[1], dtype=torch.float64)
        probe[:, 0] = candidates
        log_weight, leaves = self._live()
        leaf = leaves.log_rows(Event(probe, hidden.expand(probe.shape)))
        return torch.cat(
            [
                _log_products(log_weight + leaves.log_rows(part), leaf)
                for part in _parts(event.hide(hidden))
            ]
        )

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        log_weight, leaves = self._live()
        state = torch.cat(
            [_draw_state(part, log_weight, leaves, generator) for part in _parts(event)]
        )
        drawn = leaves.sample(state[:, None].expand(event.value.shape), generator, event.within)
        return Event(torch.where(event.mask, event.value, drawn))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the modes of the most responsible states."""
        log_weight, leaves = self._live()
        modes = leaves.modes().T
        filled = event.value.clone()
        best = torch.full((event.rows,), -math.inf, dtype=torch.float64)
        rivals = [
            (log_weight + leaves.log_rows(part)).topk(min(MODE_STATES, leaves.states), 1).indices
            for part in _parts(event)
        ]
        for state in torch.cat(rivals).T:
            value = torch.where(event.mask, event.value, modes[state])
            log_prob = self._log_prob(Event(value), None, None)
            better = log_prob > best
            filled[better] = value[better]
            best = torch.maximum(log_prob, best)
        return Event(filled)


def _parts(event: Event) -> list[Event]:
    """A few rows at a time."""
    return [event.take(part) for part in slices(event.rows, CHUNK_ROWS)]


def _draw_state(
    event: Event,
    log_weight: Float[Tensor, " U"],
    leaves: ProductLayer,
    generator: torch.Generator | None,
) -> Int[Tensor, " B"]:
    """By the distribution function over states, worked out once for equal rows; those of all rows
    stand behind each other."""
    distinct, where = torch.unique(
        torch.cat([event.value, event.mask.double()], 1), dim=0, return_inverse=True
    )
    value, mask = distinct.chunk(2, 1)
    cumulative = (
        (log_weight + leaves.log_rows(Event(value, mask > 0, within=event.within)))
        .softmax(1)
        .cumsum(1)
    )
    behind = (cumulative / cumulative[:, -1:] + torch.arange(len(distinct))[:, None]).flatten()
    uniform = torch.rand(event.rows, generator=generator, dtype=torch.float64)
    place = torch.searchsorted(behind, where + uniform, right=True) - where * leaves.states
    return place.clamp(0, leaves.states - 1)


def _log_products(
    first: Float[Tensor, "B M"], second: Float[Tensor, "K M"]
) -> Float[Tensor, "B K"]:
    """log sum_m exp(first + second), as a product of matrices; pairs whose every product underflows
    are summed in logarithms."""
    low = first.amax(1, keepdim=True)
    high = second.amax(1, keepdim=True).clamp_min(MIN_LOG_PROB_NATS)
    product = (first - low).exp() @ (second - high).exp().T
    result = low + high.T + product.clamp_min(1e-300).log()
    rows, columns = (product < UNDERFLOW).nonzero(as_tuple=True)
    for part in torch.arange(len(rows)).split(CHUNK_ROWS):
        result[rows[part], columns[part]] = (first[rows[part]] + second[columns[part]]).logsumexp(1)
    return result


def known_parts(
    leaves: LeafLayer, event: Event, part: Int[Tensor, "B N"]
) -> tuple[Int[Tensor, "B C"], Bool[Tensor, "B N"]]:
    """Codes of all that has levels (categories, then the parts of numbers with atoms; -1 where
    missing), and which numbers are known and come from the continuous part."""
    codes = torch.where(event.mask[:, leaves.category], event.value[:, leaves.category].long(), -1)
    seen = event.mask[:, leaves.numeric]
    atoms = leaves.atoms.shape[1]
    if not atoms:
        return codes, seen
    return torch.cat([codes, torch.where(seen, part, -1)], 1), seen & (part == atoms)

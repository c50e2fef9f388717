r"""Univariate distributions whose parameters a network gives: the last layer of autoregressive
models and of decoders.

    category        p(x = c) = softmax(eta)_c
    number, point   p(x) = sum_k w_k s((x - m_k) / s_k) / s_k,     s(z) = logistic density
    number, cell    P(x) = sum_k w_k [sigma((x + h - m_k) / s_k) - sigma((x - h - m_k) / s_k)],
                    h half a cell
    with atoms      p(x) = sum_a pi_a [x = a] + pi_0 p(x, continuous)

T. Salimans et al. (2017), PixelCNN++, equation 2; the cells at a bound reach to infinity, so that
masses sum to one. The difference of two sigmoids is sigma(b) sigma(-a) (1 - exp(a - b)): no
cancellation, no underflow, at any distance. Nats. All parameters at zero give the columns' own
marginals, roughly: ``start`` sets them as the base from which the network departs.

Shape letters: B rows, D variables, W parameters of a variable (padded to the widest), C components,
A atoms, L levels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from conjoin.components.leaves import Lattice
from conjoin.core import Variable, categorical
from conjoin.core.shapes import Bool, Float

__all__ = ["Heads", "as_number"]

MAX_CATEGORICAL_LEVELS = (
    64  # levels that get a parameter each; ordered codes of more are read as a lattice of numbers
)
MIN_SCALE = 1e-3  # of a column's spread: the least scale of a component


def as_number(variable: Variable) -> Variable:
    """Ordered levels as whole numbers 0..L-1; numbers as they are."""
    if not variable.discrete:
        return variable
    return Variable(
        variable.name, "integer", resolution=1.0, bounds=(0.0, variable.cardinality - 1.0)
    )


class Heads(nn.Module):
    """``width`` parameters per variable and row make a distribution of each cell."""

    category: Tensor
    numeric: Tensor
    legal: Tensor
    atoms: Tensor
    log_levels: Tensor
    base: Tensor
    spread: Tensor
    log_atoms: Tensor

    def __init__(self, variables: Sequence[Variable], components: int = 8) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.components = components
        codes = [
            v.discrete and (v.kind == "category" or v.cardinality <= MAX_CATEGORICAL_LEVELS)
            for v in variables
        ]
        discrete = [v for v, is_code in zip(variables, codes, strict=True) if is_code]
        numbers = [as_number(v) for v, is_code in zip(variables, codes, strict=True) if not is_code]
        levels = max((v.cardinality for v in discrete), default=1)
        spikes = max((len(v.atoms) for v in numbers), default=0)
        self.lattice = Lattice(numbers)

        def constant(name: str, value: Tensor, persistent: bool = False) -> None:
            self.register_buffer(name, value, persistent=persistent)

        constant(
            "category",
            torch.tensor([d for d, is_code in enumerate(codes) if is_code], dtype=torch.long),
        )
        constant(
            "numeric",
            torch.tensor([d for d, is_code in enumerate(codes) if not is_code], dtype=torch.long),
        )
        legal = [[level < v.cardinality for level in range(levels)] for v in discrete]
        constant("legal", torch.tensor(legal, dtype=torch.bool).reshape(len(discrete), levels))
        atoms = [[*v.atoms, *[math.nan] * (spikes - len(v.atoms))] for v in numbers]
        constant("atoms", torch.tensor(atoms, dtype=torch.float64).reshape(len(numbers), spikes))
        constant("log_levels", torch.zeros(self.legal.shape, dtype=torch.float64), True)
        even = (
            torch.linspace(-1.5, 1.5, components, dtype=torch.float64)
            if components > 1
            else torch.zeros(1, dtype=torch.float64)
        )
        constant("base", even.repeat(len(numbers), 1), True)  # means of the components
        constant("spread", torch.ones(len(numbers), dtype=torch.float64), True)
        constant("log_atoms", torch.zeros(len(numbers), spikes + 1, dtype=torch.float64), True)
        self.width = max(
            levels if discrete else 0,
            3 * components + (spikes + 1 if spikes else 0) if numbers else 0,
        )

    # ---------------------------------------------------------------- where the network starts from

    @torch.no_grad()
    def start(
        self,
        value: Float[Tensor, "B D"],
        observed: Bool[Tensor, "B D"],
        weight: Float[Tensor, " B"],
    ) -> "Heads":
        """Shares of the levels and atoms, and quantiles of the numbers, of the rows."""
        mass = weight[:, None] * observed
        for place, d in enumerate(self.category.tolist()):
            counts = torch.zeros(self.legal.shape[1], dtype=torch.float64).index_add(
                0, value[:, d].long(), mass[:, d]
            )
            self.log_levels[place] = (
                (counts + 0.5) / (counts.sum() + 0.5 * self.legal[place].sum())
            ).log()
        for place, d in enumerate(self.numeric.tolist()):
            known = value[mass[:, d] > 0, d]
            if len(known):
                self._start_number(place, known, mass[mass[:, d] > 0, d])
        return self

    def _start_number(
        self, place: int, known: Float[Tensor, " b"], mass: Float[Tensor, " b"]
    ) -> None:
        on = (known[:, None] - self.atoms[place]).abs() <= 0.5 * self.lattice.width[place]
        counts = torch.cat([(mass[:, None] * on).sum(0), (mass * ~on.any(1)).sum()[None]])
        self.log_atoms[place] = ((counts + 0.5) / (counts + 0.5).sum()).log()
        free = known[~on.any(1)] if (~on.any(1)).any() else known
        levels = (torch.arange(self.components, dtype=torch.float64) + 0.5) / self.components
        self.base[place] = torch.quantile(free[:100_000], levels)
        spread = float(free.std(unbiased=False)) if len(free) > 1 else 0.0
        self.spread[place] = max(spread, float(self.lattice.width[place]) / 2) or 1.0

    # ------------------------------------------------------------------ log p

    def log_prob(
        self,
        params: Float[Tensor, "B D W"],
        value: Float[Tensor, "B D"],
        observed: Bool[Tensor, "B D"],
    ) -> Float[Tensor, "B D"]:
        """Nats of each cell; 0 where missing."""
        out = torch.zeros_like(value)
        if len(self.category):
            logits = self._level_logits(params[:, self.category], slice(None))
            cells = logits.log_softmax(-1).gather(-1, value[:, self.category].long()[..., None])[
                ..., 0
            ]
            out = out.index_copy(1, self.category, cells)
        if len(self.numeric):
            out = out.index_copy(
                1, self.numeric, self._log_number(params[:, self.numeric], value[:, self.numeric])
            )
        return torch.where(observed, out, torch.zeros_like(out))

    def moved(
        self,
        params: Float[Tensor, "B D W"],
        by: Float[Tensor, "B D"],
        wider: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B D W"]:
        """The parameters with all components of each number moved, and their scales multiplied by
        exp(``wider``); categories as they are."""
        if not len(self.numeric):
            return params
        shift = torch.zeros_like(params)
        means = slice(self.components, 2 * self.components)
        shift[:, self.numeric, means] = (by[:, self.numeric] / self.spread)[..., None]
        if wider is not None:
            scales = slice(2 * self.components, 3 * self.components)
            shift[:, self.numeric, scales] = wider[:, self.numeric][..., None]
        return params + shift

    def mean_of(self, d: int, params: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
        """Of variable ``d``, a number."""
        place = int((self.numeric == d).nonzero())
        log_weight, mean, _ = self._parts(params, place)
        middle = (log_weight.exp() * mean).sum(-1)
        if not self.atoms.shape[1]:
            return middle
        share = self._log_atoms(params, place).exp()
        return (share[:, :-1] * self.atoms[place].nan_to_num()).sum(1) + share[:, -1] * middle

    def mass_between(
        self, d: int, params: Float[Tensor, "B W"], low: float, high: float
    ) -> Float[Tensor, " B"]:
        """Of variable ``d``, a number: the probability that it lies between two values."""
        place = int((self.numeric == d).nonzero())
        log_weight, mean, scale = self._parts(params, place)
        above, below = (torch.sigmoid((end - mean) / scale) for end in (high, low))
        inside = (log_weight.exp() * (above - below)).sum(-1)
        if not self.atoms.shape[1]:
            return inside
        share = self._log_atoms(params, place).exp()
        held = (self.atoms[place] >= low) & (self.atoms[place] <= high)
        return (share[:, :-1] * held).sum(1) + share[:, -1] * inside

    def log_levels_of(self, d: int, params: Float[Tensor, "B W"]) -> Float[Tensor, "B L"]:
        """log-probabilities of the levels of variable ``d``, a code; -inf where it has no such
        level."""
        return self._level_logits(params, int((self.category == d).nonzero())).log_softmax(-1)

    def _level_logits(
        self, params: Float[Tensor, "*B W"], place: slice | int
    ) -> Float[Tensor, "*B L"]:
        logits = self.log_levels[place] + params[..., : self.legal.shape[1]]
        return logits.masked_fill(~self.legal[place], -math.inf)

    def _parts(
        self, params: Float[Tensor, "*B W"], place: slice | int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """log w, m and s of the components."""
        weight, mean, scale = (
            params[..., : 3 * self.components].unflatten(-1, (3, self.components)).unbind(-2)
        )
        spread = self.spread[place][..., None]
        scales = spread * (
            MIN_SCALE + torch.exp((scale - math.log(self.components / 2)).clamp(-9, 9))
        )
        return weight.log_softmax(-1), self.base[place] + spread * mean, scales

    def _log_number(
        self, params: Float[Tensor, "B N W"], value: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        log_weight, mean, scale = self._parts(params, slice(None))
        continuous = (log_weight + self._log_component(value, mean, scale)).logsumexp(-1)
        outside = (value < self.lattice.low - 0.25 * self.lattice.width) | (
            value > self.lattice.high + 0.25 * self.lattice.width
        )
        continuous = continuous.masked_fill(outside, -math.inf)
        if not self.atoms.shape[1]:
            return continuous
        log_atoms = self._log_atoms(params, slice(None))
        on = (value[..., None] - self.atoms).abs() <= 0.5 * self.lattice.width[:, None]
        spike = torch.where(on, log_atoms[..., :-1], -math.inf)
        return torch.cat([spike, (log_atoms[..., -1] + continuous)[..., None]], -1).logsumexp(-1)

    def _log_atoms(
        self, params: Float[Tensor, "*B W"], place: slice | int
    ) -> Float[Tensor, "*B P"]:
        padding = torch.nn.functional.pad(self.atoms[place].isnan(), (0, 1))
        logits = (
            self.log_atoms[place]
            + params[..., 3 * self.components : 3 * self.components + self.atoms.shape[1] + 1]
        )
        return logits.masked_fill(padding, -math.inf).log_softmax(-1)

    def _log_component(
        self,
        value: Float[Tensor, "B N"],
        mean: Float[Tensor, "B N C"],
        scale: Float[Tensor, "B N C"],
    ) -> Float[Tensor, "B N C"]:
        z = (value[..., None] - mean) / scale
        width = self.lattice.width[:, None]
        low = z - 0.5 * width / scale
        high = z + 0.5 * width / scale
        first = (value < self.lattice.low + 0.25 * self.lattice.width)[..., None]
        last = (value > self.lattice.high - 0.25 * self.lattice.width)[..., None]
        below = torch.where(last, 0.0, logsigmoid(high))
        above = torch.where(first, 0.0, logsigmoid(-low))
        inside = torch.log(-torch.expm1(-torch.where(width > 0, width / scale, 1.0)))
        cell = below + above + torch.where(first | last, 0.0, inside)
        point = logsigmoid(z) + logsigmoid(-z) - scale.log()
        return torch.where(width > 0, cell, point)

    # ------------------------------------------------------------------ draws

    def sample(
        self, params: Float[Tensor, "B D W"], generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """One value per cell."""
        return torch.stack(
            [self.sample_column(d, params[:, d], generator) for d in range(len(self.variables))], 1
        )

    @torch.no_grad()
    def sample_column(
        self, d: int, params: Float[Tensor, "B W"], generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """One value per row of variable ``d``."""
        if bool((self.category == d).any()):
            return categorical(
                self._level_logits(params, int((self.category == d).nonzero())), generator
            ).double()
        place = int((self.numeric == d).nonzero())
        log_weight, mean, scale = self._parts(params, place)
        chosen = categorical(log_weight, generator)[:, None]
        uniform = torch.rand(len(params), generator=generator, dtype=torch.float64).clamp(
            1e-15, 1 - 1e-15
        )
        value = mean.gather(1, chosen)[:, 0] + scale.gather(1, chosen)[:, 0] * torch.logit(uniform)
        value = self._snap(place, value)
        if not self.atoms.shape[1]:
            return value
        part = categorical(self._log_atoms(params, place), generator)
        return torch.where(
            part < self.atoms.shape[1],
            torch.nn.functional.pad(self.atoms[place], (0, 1))[part],
            value,
        )

    def _snap(self, place: int, value: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        row = torch.zeros(len(value), len(self.numeric), dtype=torch.float64)
        row[:, place] = value
        return self.lattice.snap(row)[:, place]

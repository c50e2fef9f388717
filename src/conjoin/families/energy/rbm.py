r"""The restricted Boltzmann machine, on columns of every kind: binary hidden units, and one softmax
unit for each column.

    p(x) = 1/Z sum_h exp(b.h) prod_d S_d(h, x_d),
    S_d(h, x_d) = sum_c exp(a_dc + sum_j h_j W_jdc) p_d(x_d | c)

P. Smolensky (1986), Information processing in dynamical systems: foundations of harmony theory;
softmax units: R. Salakhutdinov, A. Mnih and G. Hinton (2007), Restricted Boltzmann machines for
collaborative filtering, equation 1. The unit of a category or a level is its value; that of a
number says which of a few overlapping pieces the number comes from, so that recorded cells, spikes
and bounds have their exact mass. A first column that is a class makes it the classification RBM (H.
Larochelle and Y. Bengio (2008), equation 2).

Up to ``MAX_EXACT_HIDDEN`` hidden units, every sum over h is computed: likelihood, marginals,
conditionals and p(y | x) are then exact, and it is trained by their gradient. With more it is
trained by persistent contrastive divergence (T. Tieleman (2008), Training restricted Boltzmann
machines using approximations to the likelihood gradient, section 3), log_prob is relative, and
``log_partition`` is annealed (R. Salakhutdinov and I. Murray (2008), On the quantitative analysis
of deep belief networks, equations 14-17). The sum over h of one row is then estimated with draws
from its mean field r:

    log p(x) Z = log mean_s exp(b.h_s) prod_d S_d(h_s, x_d) / r(h_s),     h_s ~ r

For complete rows of categories r is the exact posterior of h, every weight is the same, and the
value is the free energy. To print -log p of test rows, add both ends of ``log_partition``: the
estimate flatters the model, the reverse does not. Nats.

Shape letters: B rows, D variables (N numbers), J hidden units, H states of them, C states of a
column's unit (padded), S draws.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> BoltzmannDensity.build(space, Boltzmann(), data, stream(0)).capabilities.marginals
'any'
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from conjoin.core import (
    Capabilities,
    Density,
    Event,
    Likelihood,
    Space,
    categorical,
    seeded,
    stream,
)
from conjoin.core.constants import MAX_FEW_COLUMNS
from conjoin.core.event import slices
from conjoin.core.shapes import Float, Int
from conjoin.families.deep import PatientConfig
from conjoin.families.energy.annealing import Partition, sandwich
from conjoin.families.energy.units import Units

__all__ = ["Boltzmann", "BoltzmannDensity"]

MAX_EXACT_HIDDEN = 12  # hidden units whose states are all summed over
MAX_CELLS = 1 << 23  # numbers that a sum over h may hold at once
PIECES = 10  # of the density of a number
PIECES_OF_FEW = 32  # of few columns, which are cheap
CHAINS = 512  # of persistent contrastive divergence
BURN_IN_STEPS = 100  # Gibbs steps before a draw
MODE_CANDIDATES = 16  # states of h whose best rows compete for the mode


@dataclass(frozen=True)
class Boltzmann(PatientConfig):
    """Settings of the restricted Boltzmann machine.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 128
        Rows of a step.
    rate : float, default 0.05
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.001
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    hidden : int, default 8
        Hidden binary units.
    pieces : int or None, default None
        Pieces of the density of a number; None: 10, and 32 of up to three columns.
    walk : int, default 5
        Gibbs steps of the chains between two gradients.
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None: 300, and 1,000 of up to three columns.
    """

    hidden: int = 8
    pieces: int | None = None
    walk: int = 5
    rate: float = 5e-2
    decay: float = 1e-3

    passes: ClassVar[tuple[int, int, int]] = (40, 300, 3000)
    of_few: ClassVar[dict[str, Any]] = {"min_steps": 1000}

    def pieces_of(self, columns: int) -> int:
        """Pieces of the density of a number in a table of so many columns."""
        few = columns <= MAX_FEW_COLUMNS
        return (PIECES_OF_FEW if few else PIECES) if self.pieces is None else self.pieces


class BoltzmannDensity(Density):
    """Exact in everything for few hidden units, relative for many."""

    config_class = Boltzmann
    bounded: ClassVar[bool] = True
    states: Tensor
    chains: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        pieces = config.pieces_of(len(space.variables))
        if config.hidden < 1 or pieces < 1:
            raise ValueError(
                f"hidden and pieces must be at least 1, got {config.hidden} and {pieces}."
            )
        self.units = Units(space.variables, pieces)
        shape = self.units.legal.shape
        self.visible = nn.Parameter(torch.zeros(shape, dtype=torch.float64))  # a
        self.hidden = nn.Parameter(torch.zeros(config.hidden, dtype=torch.float64))  # b
        # W
        self.weight = nn.Parameter(0.3 * torch.randn(config.hidden, *shape, dtype=torch.float64))
        self.exact = config.hidden <= MAX_EXACT_HIDDEN
        if self.exact:
            bits = torch.arange(2**config.hidden)[:, None] >> torch.arange(config.hidden)
            self.register_buffer("states", (bits % 2).double(), persistent=False)  # (H, J)
        else:
            self.register_buffer("chains", torch.zeros(CHAINS, shape[0], dtype=torch.long))

    @classmethod
    def build(
        cls,
        space: Space,
        config: Boltzmann,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Columns start independent, each with its own marginal."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        with seeded(generator):
            density = cls(space, config, context_space=context_space)
        with torch.no_grad():
            density.visible.copy_(density.units.start(data, weight))
        if not density.exact:
            density.chains.copy_(categorical(density._biases().expand(CHAINS, -1, -1), generator))
        return density

    @property
    def capabilities(self) -> Capabilities:
        if self.exact:
            return Capabilities(
                missing="exact",
                marginals="any",
                conditionals="any",
                regions=True,
                mode="approximate",
                features=True,
            )
        return Capabilities(
            Likelihood.UNNORMALIZED,
            objective="surrogate",
            missing="bound",
            conditionals="approximate",
            regions=True,
            mode="approximate",
            features=True,
        )

    # ------------------------------------------------------------------ sums

    def _biases(self) -> Float[Tensor, "D C"]:
        return torch.where(self.units.legal, self.visible, -math.inf)

    def _inputs(self, h: Float[Tensor, "*S J"]) -> Float[Tensor, "*S D C"]:
        """What a column's unit hears: a + h W."""
        return self._biases() + torch.tensordot(h, self.weight, 1)

    def _log_hidden(self, leaf: Float[Tensor, "B D C"]) -> Float[Tensor, "B H"]:
        """log of the term of each state of h, summed over the columns' units."""
        heard = self._inputs(self.states)
        most = heard.amax(2, keepdim=True).detach()
        peak = leaf.amax(2, keepdim=True).detach()
        shifted = leaf - peak.masked_fill(peak == -math.inf, 0.0)  # a cell that cannot be
        product = shifted.exp().transpose(0, 1) @ (heard - most).exp().permute(1, 2, 0)  # (D, B, H)
        return (
            self.states @ self.hidden
            + product.clamp_min(1e-300).log().sum(0)
            + most.sum((1, 2))
            + peak.sum((1, 2))[:, None]
        )

    def _log_z(self) -> Float[Tensor, ""]:
        return (
            self.states @ self.hidden + self._inputs(self.states).logsumexp(2).sum(1)
        ).logsumexp(0)

    def _in_chunks(self, rows: int, each: int) -> list[slice]:
        """Parts of the rows, so small that ``each`` number of a row fits."""
        return slices(rows, max(1, MAX_CELLS // each))

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        size = event.value.shape[1]
        if self.exact:
            parts = self._in_chunks(event.rows, size * len(self.states))
            every = [
                self._log_hidden(self.units.log_prob(event.take(part))).logsumexp(1)
                for part in parts
            ]
            return torch.cat(every) - self._log_z()
        if not len(self.units.numeric) and event.mask.all():
            return -self._free_energy(event.value.long())
        parts = self._in_chunks(event.rows, self.config.draws * self.visible.numel())
        uniform = torch.rand(
            self.config.draws,
            len(self.hidden),
            generator=generator or stream(0, "hidden"),
            dtype=torch.float64,
        )
        return torch.cat(
            [self._estimate(self.units.log_prob(event.take(part)), uniform) for part in parts]
        )

    def _estimate(
        self, leaf: Float[Tensor, "B D C"], uniform: Float[Tensor, "S J"]
    ) -> Float[Tensor, " B"]:
        """log of the sum over h, by importance sampling from the mean field; all rows share the
        noise."""
        field = self._mean_field(leaf)[:, None]
        h = (uniform < field.sigmoid()).double().detach()  # (B, S, J)
        proposal = logsigmoid((2 * h - 1) * field).sum(2)
        joint = h @ self.hidden + (self._inputs(h) + leaf[:, None]).logsumexp(3).sum(2)
        return (joint - proposal).logsumexp(1) - math.log(len(uniform))

    def _mean_field(self, leaf: Float[Tensor, "B D C"], rounds: int = 4) -> Float[Tensor, "B J"]:
        """The logits of h: exact at once where every column's unit is known."""
        share = (self._biases() + leaf).softmax(2)
        for _ in range(rounds):
            field = self.hidden + torch.tensordot(share, self.weight, [[1, 2], [1, 2]])
            share = (self._inputs(field.sigmoid()) + leaf).softmax(2)
        return field

    def _field(self, codes: Int[Tensor, "B D"]) -> Float[Tensor, "B J"]:
        """The logits of h, given every column's unit."""
        every = self.weight.permute(1, 2, 0)[torch.arange(codes.shape[1]), codes]  # (B, D, J)
        return self.hidden + every.sum(1)

    def _bias_of(self, codes: Int[Tensor, "B D"]) -> Float[Tensor, " B"]:
        return self.visible[torch.arange(codes.shape[1]), codes].sum(1)

    def _free_energy(self, codes: Int[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """F = -log of the sum over h, in closed form."""
        return -self._bias_of(codes) - softplus(self._field(codes)).sum(1)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """Exactly: the first column's part is added for all candidates at once."""
        if not self.exact:
            return super()._log_target(event, candidates)
        first = torch.arange(event.value.shape[1]) == 0
        size = len(candidates) * len(self.states)
        many = Event(
            torch.zeros(len(candidates), len(first), dtype=torch.float64),
            first.expand(len(candidates), -1),
        )
        many.value[:, 0] = candidates
        # of all other columns, to be taken off again
        nothing = self._log_hidden(torch.zeros_like(self.visible)[None])
        column = self._log_hidden(self.units.log_prob(many._replace(within=None))) - nothing
        rest = event.hide(first)
        if rest.within is not None:
            rest = rest._replace(within=self.units.open_first(rest.within))
        parts = self._in_chunks(event.rows, max(size, len(first) * len(self.states)))
        each = [
            (self._log_hidden(self.units.log_prob(rest.take(part)))[:, None] + column).logsumexp(2)
            for part in parts
        ]
        return torch.cat(each) - self._log_z()

    # ------------------------------------------------------------------ learning by chains

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Exact: -log p. Else the value is the negative log pseudo-likelihood (J. Besag (1975)) of
        one column of each row, for the eye and for stopping; its gradient is replaced by that of
        the chains."""
        if self.exact:
            return -self._log_prob(event, None, generator)
        noise = generator or stream(0, "loss")
        with torch.no_grad():
            leaf = self.units.log_prob(event)
            codes = self._gibbs(
                categorical(self._biases() + leaf, noise), leaf, self.config.walk, noise
            )
            judged = self._pseudo(codes, noise)
            fake = self._advance(event.rows, noise)
        slope = self._free_energy(codes) - self._free_energy(fake)
        return judged + slope - slope.detach()

    def _advance(self, rows: int, generator: torch.Generator) -> Int[Tensor, "B D"]:
        """Chains that outlive the step, a few Gibbs steps further on."""
        chains = self._gibbs(
            self.chains, torch.zeros_like(self.visible), self.config.walk, generator
        )
        if self.training:
            self.chains.copy_(chains)
        return chains[torch.randperm(CHAINS, generator=generator)[torch.arange(rows) % CHAINS]]

    def _pseudo(self, codes: Int[Tensor, "B D"], generator: torch.Generator) -> Float[Tensor, " B"]:
        """-D log p(c_d | the others) for a column d of each row."""
        row = torch.arange(len(codes))
        size = codes.shape[1]
        d = torch.randint(0, size, (len(codes),), generator=generator)
        own = self.weight.permute(1, 2, 0)[d]  # (B, C, J)
        field = self._field(codes)[:, None] - own[row, codes[row, d]][:, None] + own
        logits = self._biases()[d] + softplus(field).sum(2)
        return -size * logits.log_softmax(1)[row, codes[row, d]]

    def _gibbs(
        self,
        codes: Int[Tensor, "B D"],
        leaf: Float[Tensor, "*B D C"],
        steps: int,
        generator: torch.Generator | None,
        beta: float = 1.0,
    ) -> Int[Tensor, "B D"]:
        """Hidden units given the columns', then all columns' given the hidden ones (G. Hinton
        (2002), section 2)."""
        for _ in range(steps):
            on = (
                torch.rand(len(codes), len(self.hidden), generator=generator, dtype=torch.float64)
                < (beta * self._field(codes)).sigmoid()
            )
            codes = categorical(
                self._biases() + beta * torch.tensordot(on.double(), self.weight, 1) + leaf,
                generator,
            )
        return codes

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        nothing = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(nothing, nothing > 0), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        each = event.value.shape[1] * len(self.states) if self.exact else self.visible.numel()
        parts = [event.take(part) for part in self._in_chunks(event.rows, each)]
        drawn = torch.cat(
            [
                self.units.sample(self._codes(part, generator), generator, event.within)
                for part in parts
            ]
        )
        return Event(torch.where(event.mask, event.value, drawn))

    def _codes(self, event: Event, generator: torch.Generator | None) -> Int[Tensor, "B D"]:
        """The columns' units, given what is known: exactly, or at the end of a Gibbs chain."""
        leaf = self.units.log_prob(event)
        if not self.exact:
            return self._gibbs(
                categorical(self._biases() + leaf, generator), leaf, BURN_IN_STEPS, generator
            )
        h = self.states[categorical(self._log_hidden(leaf), generator)]
        return categorical(self._inputs(h) + leaf, generator)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the rows that a few likely states of h would make."""
        leaf = self.units.log_prob(event)
        if self.exact:
            # (B, M, J)
            h = self.states[
                self._log_hidden(leaf).topk(min(MODE_CANDIDATES, len(self.states)), 1).indices
            ]
        else:
            uniform = torch.rand(
                MODE_CANDIDATES, len(self.hidden), generator=stream(0, "mode"), dtype=torch.float64
            )
            h = (uniform < self._mean_field(leaf)[:, None].sigmoid()).double()
        codes = (self._inputs(h) + leaf[:, None]).argmax(3)
        value = torch.where(event.mask[:, None], event.value[:, None], self.units.modes(codes))
        log_prob = self._log_prob(Event(value.flatten(0, 1)), None, None).reshape(codes.shape[:2])
        return Event(value[torch.arange(event.rows), log_prob.argmax(1)])

    def _features(self, event: Event) -> Float[Tensor, "B J"]:
        """P(h_j = 1 | x)."""
        leaf = self.units.log_prob(event)
        return (
            self._log_hidden(leaf).softmax(1) @ self.states
            if self.exact
            else self._mean_field(leaf).sigmoid()
        )

    # ------------------------------------------------------------------ the constant

    @torch.no_grad()
    def log_partition(
        self, draws: int = 256, steps: int = 200, generator: torch.Generator | None = None
    ) -> Partition:
        """log Z by annealing from independent columns to the machine, and back from its own draws:
        see ``annealing``."""
        free = torch.zeros_like(self.visible)
        biases = self._biases().expand(draws, -1, -1)

        def log_ratio(codes: Tensor, before: float, after: float) -> Tensor:
            field = self._field(codes)
            return (softplus(after * field) - softplus(before * field)).sum(1)

        def move(codes: Tensor, beta: float, noise: torch.Generator | None) -> Tensor:
            return self._gibbs(codes, free, 1, noise, beta)

        def start(beta: float, noise: torch.Generator | None) -> Tensor:
            codes = categorical(biases, noise)
            return self._gibbs(codes, free, max(BURN_IN_STEPS, steps), noise) if beta else codes

        base = float(self._biases().logsumexp(1).sum()) + len(self.hidden) * math.log(2)
        found = sandwich(log_ratio, move, start, steps, generator or stream(0, "partition"))
        return Partition(found.estimate + base, found.standard_error, found.reverse + base)

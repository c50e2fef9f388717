r"""An energy-based joint model: a classifier's logits that also say how plausible x is, as a tilt
of a mixture.

    log p(x, y) = log q(x) + f_y(x) - log Z,     p(y | x) = softmax_y f_y(x),
    log p(x) = log q(x) + log sum_y exp f_y(x) - log Z

W. Grathwohl et al. (2020), Your classifier is secretly an energy based model, equations 4-7: the
constant cancels from p(y | x). q is a mixture fitted to the same rows, so that f has to learn only
what the mixture misses, in any kind of column. It is learned without a Markov chain, by telling
rows from draws of q (M. Gutmann and A. Hyvarinen (2012), Noise-contrastive estimation of
unnormalized statistical models, equations 8-10) beside the classifier's own cross-entropy:

    loss = -log sigma(F(x)) - log(1 - sigma(F(x'))) - emphasis log p(y | x),
    F(x) = log sum_y exp f_y(x),   x' ~ q

Its optimum has log Z = 0, so that values come close to nats of a normalised density, though
``log_partition`` alone says how close. ``method="sgld"`` follows the likelihood with Langevin
chains and a replay buffer instead (Y. Du and I. Mordatch (2019), Implicit generation and modeling
with energy based models, algorithm 1), for columns of real numbers only.

Draws: the mixture proposes, F chooses (D. Rubin (1987), sampling/importance resampling), and
Metropolis moves that draw a block of cells anew from q given the others repair the rest: such a
proposal is reversible for q, so it is accepted with min(1, exp(F(x') - F(x))), whatever the columns
are (W. Hastings (1970), equation 8).

Where the first variable is a category or a level, it is y; else there is one logit for the whole
row. To print -log p of test rows, subtract from the mean of ``log_prob`` both ends of
``log_partition``: the estimate flatters the model, the reverse does not.

Shape letters: B rows, D variables without y, K classes (1 without y), S draws for a row with
missing cells.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("label", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> density = EnergyDensity.build(space, Energy(), data, stream(0))
>>> without_label = data.hide(torch.tensor([True, False]))
>>> summed = density.log_target(data, torch.arange(3)).logsumexp(1)
>>> bool(torch.allclose(summed, density.log_prob(without_label)))
True
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from conjoin.core import (
    Capabilities,
    Density,
    Event,
    Likelihood,
    Region,
    Space,
    categorical,
    seeded,
    stream,
)
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.families.classic.mixture import Mixture, MixtureDensity, default_states
from conjoin.families.deep import PatientConfig
from conjoin.families.energy.annealing import Partition, sandwich
from conjoin.nets.inputs import EMBEDDED, embedding_mark
from conjoin.nets.logits import logits

__all__ = ["Energy", "EnergyDensity"]

CHUNK_ROWS = 8192  # rows that the network sees at once
# of expectation-maximisation for the mixture, and the rows that it is fitted to
EM_PASSES = 8
PROPOSAL_ROWS = 5000
# passes where they cost little, by cells times components; there the prior is chosen by every
# seventh row, which the others have not seen
MANY_EM_PASSES = 40
MAX_CELL_COMPONENTS = 1 << 20
JUDGING_ROWS = 7
# the replay buffer, and the share of its chains that start anew
REPLAY_CHAINS = 512
RESTART_SHARE = 0.05
# for each component of q: it proposes draws, so too wide is better than too narrow, unless rows
# that it has not seen say otherwise
PRIOR_ROWS = 10.0
NARROW_PRIOR_ROWS = 1.0
Walk = tuple[Tensor, Tensor]  # rows (B, D) of a Markov chain, and F (B,) of them
DROPOUT = 0.2
MAX_LOGIT_NATS = 1e4  # nats: a logit beyond this has diverged


@dataclass(frozen=True)
class Energy(PatientConfig):
    """Settings of the joint energy model.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 128
        Rows of a step.
    rate : float, default 0.002
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    width : int, default 128
        Hidden units of a layer.
    blocks : int, default 2
        Residual blocks of the network.
    dropout : float or None, default None
        Share of hidden units left out in a training step; None: 0.2, and none with up to three
        columns of which one is a number.
    emphasis : float, default 4.0
        Weight of the cross-entropy of y beside the loss of x.
    moves : int, default 8
        Metropolis moves of a draw.
    method : str, default "noise"
        How the energy is learned: against noise ("noise"), by persistent Metropolis chains
        ("chains"), or by Langevin dynamics ("sgld", real numbers only).
    walk : int, default 20
        Steps of a chain between two gradients.
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None takes them from the number of rows, and at
        least 3,000 with up to three columns of which one is a number.
    """

    width: int = 128
    blocks: int = 2
    dropout: float | None = None
    emphasis: float = 4.0
    moves: int = 8
    # or "chains" (draws of Gibbs and Metropolis moves from a replay buffer), "sgld" (of Langevin
    # moves)
    method: str = "noise"
    walk: int = 20

    of_few: ClassVar[dict[str, Any]] = {"min_steps": 3000, "dropout": 0.0}


class EnergyDensity(Density):
    """log_prob is relative, p(y | x) exact; missing cells of x are a bound by draws of the
    mixture."""

    config_class = Energy
    bounded: ClassVar[bool] = True
    replay: Tensor

    def __init__(
        self,
        space: Space,
        config: Energy,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        first = space.variables[0]
        size = len(space.variables)
        self.labelled = first.discrete and size > 1
        self.classes = first.cardinality if self.labelled else 1
        self.x_space = space.without_first() if self.labelled else space
        if config.method not in ("noise", "chains", "sgld"):
            raise ValueError(f"method must be 'noise', 'chains' or 'sgld', got {config.method!r}.")
        if config.method == "sgld":
            self._refuse_mass()
        components = self.structure["companion"]
        companion = MixtureDensity(
            self.x_space, Mixture(components, PRIOR_ROWS), {"components": components}
        )
        self.companion = companion.requires_grad_(False)
        self.net = logits(
            self.x_space,
            self.classes,
            config.width,
            config.blocks,
            DROPOUT if config.dropout is None else config.dropout,
            EMBEDDED in self.structure,
        )
        if config.method != "noise":
            self.register_buffer(
                "replay", torch.zeros(REPLAY_CHAINS, self.x_space.shape[0], dtype=torch.float64)
            )

    def _refuse_mass(self) -> None:
        """Langevin's moves are of real numbers."""
        for variable in self.x_space.variables:
            if variable.has_mass:
                raise ValueError(
                    f"method='sgld' takes real numbers only, but {variable.name!r} has mass; use "
                    "method='noise'."
                )

    @classmethod
    def build(
        cls,
        space: Space,
        config: Energy,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """The mixture by expectation-maximisation; the logits start as those of p = q with even
        classes."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        some = torch.randperm(data.rows, generator=generator)[:PROPOSAL_ROWS].sort().values
        with seeded(generator):
            density = cls(
                space,
                config,
                {"companion": min(default_states(len(some)), len(some))}
                | embedding_mark(space.variables),
                context_space,
            )
        part = density._x(data.take(some))
        mixture = _tilted(density.x_space, density.companion.config, part, weight[some], generator)
        density.companion.load_state_dict(mixture.state_dict())
        density.net.start(part)
        if config.method != "noise":
            density.replay.copy_(density.companion.sample(REPLAY_CHAINS, generator=generator).value)
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.UNNORMALIZED,
            objective="surrogate",
            missing="bound",
            conditionals="approximate",
            regions=True,
            mode="approximate",
            features=True,
        )

    # ------------------------------------------------------------------ y and x

    def _x(self, event: Event) -> Event:
        """The row without y."""
        if not self.labelled:
            return event
        box = event.within
        if box is not None:
            box = Region(
                box.low[1:], box.high[1:], {d - 1: keep for d, keep in box.allowed.items() if d}
            )
        return Event(event.value[:, 1:], event.mask[:, 1:], within=box)

    def _possible(self, event: Event) -> Float[Tensor, "B K"]:
        """0 for the y that a row may have, -inf for the others."""
        if not self.labelled:
            return torch.zeros(event.rows, 1, dtype=torch.float64)
        code = torch.arange(self.classes)
        may = (code == event.value[:, :1]) | ~event.mask[:, :1]
        if event.within is not None:
            inside = (code >= event.within.low[0]) & (code <= event.within.high[0])
            inside = inside & event.within.allowed.get(0, torch.ones_like(inside))
            may = may & (inside | event.mask[:, :1])
        return torch.where(may, 0.0, -math.inf).double()

    def _row(self, y: Float[Tensor, " B"], x: Float[Tensor, "B D"]) -> Event:
        return Event(torch.cat([y[:, None], x], 1) if self.labelled else x)

    # ------------------------------------------------------------------ log p

    def _logits(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """f_y(x) of complete rows."""
        parts = [self.net(part) for part in x.split(CHUNK_ROWS)] if len(x) else [self.net(x)]
        return torch.cat(parts) - math.log(self.classes)

    def _log_each(self, event: Event, generator: torch.Generator | None) -> Float[Tensor, "B K"]:
        """log q(x_o) + log E_q[exp f_y(x) | x_o]: the log of p(x_o, y) Z for each y."""
        x = self._x(event)
        tilt = event.value.new_zeros(event.rows, self.classes)
        whole = x.mask.all(1).nonzero()[:, 0]
        part = (~x.mask.all(1)).nonzero()[:, 0]
        if len(whole):
            tilt = tilt.index_copy(0, whole, self._logits(x.value[whole]))
        if len(part):
            value = self._completions(x.take(part), generator or stream(0, "missing"))  # (B, S, D)
            each = self._logits(value.flatten(0, 1)).unflatten(0, value.shape[:2])
            tilt = tilt.index_copy(0, part, each.logsumexp(1) - math.log(value.shape[1]))
        return self.companion.log_prob(x)[:, None] + tilt

    @torch.no_grad()
    def _completions(self, x: Event, generator: torch.Generator) -> Float[Tensor, "B S D"]:
        """S rows with the missing cells drawn from q, whose noise all rows share: one table of
        draws of each component, and evenly spaced uniforms by which each row picks its
        components."""
        draws = self.config.draws
        states = self.companion.leaves.states
        every = torch.arange(states).repeat(draws)[:, None].expand(-1, x.value.shape[1])
        table = self.companion.leaves.sample(every, generator, x.within).unflatten(
            0, (draws, states)
        )
        uniform = (
            torch.arange(draws) + torch.rand((), generator=generator, dtype=torch.float64)
        ) / draws
        share = self.companion._joint(x).softmax(1).cumsum(1)
        # (B, S)
        chosen = torch.searchsorted(share, uniform.expand(x.rows, -1).contiguous()).clamp_max(
            states - 1
        )
        drawn = table[torch.randperm(draws, generator=generator), chosen]
        return torch.where(x.mask[:, None], x.value[:, None], drawn)

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return (self._log_each(event, generator) + self._possible(event)).logsumexp(1)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        if not self.labelled:
            return super()._log_target(event, candidates)
        return self._log_each(event, None)[:, candidates.long()]

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        return self.net.features(
            self._x(self._sample_conditional(event, None, stream(0, "features"))).value
        )

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        noise = generator or stream(0, "loss")
        x = self._x(event)
        value = (
            x.value if x.mask.all() else self.companion.sample_conditional(x, generator=noise).value
        )
        chains = self.config.method != "noise" and self.training
        fake = (
            self._advance(noise, event.rows)
            if chains
            else self.companion.sample(event.rows, generator=noise).value
        )
        with seeded(noise):  # dropout takes no other generator
            own, other = self._logits(torch.cat([value, fake])).split(event.rows)
        real = own.logsumexp(1)
        false = other.logsumexp(1)
        generative = self._contrast(real, false) if chains else softplus(-real) + softplus(false)
        return generative - self.config.emphasis * (
            own.log_softmax(1) + self._possible(event)
        ).logsumexp(1)

    def _contrast(
        self, real: Float[Tensor, " B"], false: Float[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The gradient of -log p, with a pull of both energies to zero; infinite where they have
        diverged."""
        gone = (real.detach().abs() > MAX_LOGIT_NATS) | (false.detach().abs() > MAX_LOGIT_NATS)
        return torch.where(gone, math.inf, false - real + 0.01 * (real**2 + false**2))

    def _advance(self, generator: torch.Generator, rows: int) -> Float[Tensor, "B D"]:
        """Chains of the replay buffer, some of them started anew, moved by Langevin's steps
        (algorithm 1)."""
        index = torch.randperm(REPLAY_CHAINS, generator=generator)[
            torch.arange(rows) % REPLAY_CHAINS
        ]
        x = self.replay[index]
        fresh = self.companion.sample(rows, generator=generator).value
        x = torch.where(
            torch.rand(rows, 1, generator=generator, dtype=torch.float64) < RESTART_SHARE, fresh, x
        )
        self.net.eval()
        x = self._walk(x, generator)
        self.net.train()
        self.replay[index] = x
        return x

    @torch.no_grad()
    def _walk(self, x: Float[Tensor, "B D"], generator: torch.Generator) -> Float[Tensor, "B D"]:
        """Steps of each chain: Langevin's, or Metropolis moves."""
        if self.config.method == "sgld":
            for _ in range(self.config.walk):
                x = self._langevin(x, generator)
            return x
        nothing = Event(x, torch.zeros_like(x, dtype=torch.bool))
        free = x.new_zeros(len(x), self.classes)
        walk = (x, self._score(x, free))
        for _ in range(self.config.walk):
            walk = self._move(walk, nothing, free, 1.0, generator)
        return walk[0]

    def _langevin(
        self, x: Float[Tensor, "B D"], generator: torch.Generator, step: float = 0.05
    ) -> Float[Tensor, "B D"]:
        """x + (a / 2) d log p / dx + sqrt(a) noise, a = ``step``; a slope so steep that it would
        leap is cut."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_prob = self.companion.log_prob(Event(x)) + self._logits(x).logsumexp(1)
            slope = torch.autograd.grad(log_prob.sum(), x)[0].clamp(-1 / step, 1 / step)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return x.detach() + 0.5 * step * slope + math.sqrt(step) * noise

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self._unknown(n), None, generator)

    def _unknown(self, rows: int) -> Event:
        """Rows of which nothing is known."""
        nothing = torch.zeros(rows, len(self.space.variables), dtype=torch.float64)
        return Event(nothing, nothing > 0)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """The mixture proposes and F chooses, Metropolis moves refine, and y is drawn from its
        softmax."""
        drawn = [
            self._draw(event.take(part), generator)
            for part in slices(event.rows, CHUNK_ROWS // self.config.draws)
        ]
        return Event(torch.where(event.mask, event.value, torch.cat(drawn)))

    def _draw(self, event: Event, generator: torch.Generator | None) -> Float[Tensor, "B C"]:
        draws = self.config.draws
        x = self._x(event)
        possible = self._possible(event)
        many = x.take(torch.arange(event.rows).repeat_interleave(draws))
        proposed = self.companion.sample_conditional(many, generator=generator).value
        weight = (
            (self._logits(proposed).unflatten(0, (-1, draws)) + possible[:, None]).logsumexp(2)
            if event.rows
            else possible
        )
        chosen = proposed.unflatten(0, (event.rows, draws))[
            torch.arange(event.rows), categorical(weight, generator)
        ]
        walk = (chosen, self._score(chosen, possible))
        for _ in range(self.config.moves):
            walk = self._move(walk, x, possible, 1.0, generator)
        chosen = walk[0]
        return self._row(
            categorical(self._logits(chosen) + possible, generator).double(), chosen
        ).value

    def _move(
        self,
        walk: Walk,
        x: Event,
        possible: Float[Tensor, "B K"],
        beta: float,
        generator: torch.Generator | None,
    ) -> Walk:
        """One Metropolis move that keeps q(x) exp(beta F(x)): a block of the free cells is drawn
        anew from q given the others. Blocks of all sizes, from about one cell to all of them, are
        equally likely on the scale of logarithms."""
        value, score = walk
        rows, size = value.shape
        share = float(size) ** -torch.rand(rows, 1, generator=generator, dtype=torch.float64)
        block = (torch.rand(rows, size, generator=generator, dtype=torch.float64) < share) & ~x.mask
        proposed = self.companion.sample_conditional(
            x._replace(value=value, observed=~block), generator=generator
        ).value
        after = self._score(proposed, possible)
        accepted = torch.rand(rows, generator=generator, dtype=torch.float64).log() < beta * (
            after - score
        )
        return torch.where(accepted[:, None], proposed, value), torch.where(accepted, after, score)

    def _score(
        self, x: Float[Tensor, "B D"], possible: Float[Tensor, "B K"]
    ) -> Float[Tensor, " B"]:
        """F(x), over the y that a row may have."""
        return (self._logits(x) + possible).logsumexp(1)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the mixture's own mode and of S draws, the same draws for every row."""
        x = self._x(event)
        possible = self._possible(event)
        # (B, S + 1, D)
        value = torch.cat(
            [self.companion.mode(x).value[:, None], self._completions(x, stream(0, "mode"))], 1
        )
        every = self.companion.log_prob(Event(value.flatten(0, 1)))[:, None] + self._logits(
            value.flatten(0, 1)
        )
        best = (every.unflatten(0, value.shape[:2]) + possible[:, None]).flatten(1).argmax(1)
        chosen = value[torch.arange(event.rows), best // self.classes]
        return Event(
            torch.where(
                event.mask, event.value, self._row((best % self.classes).double(), chosen).value
            )
        )

    # ------------------------------------------------------------------ the constant

    @torch.no_grad()
    def log_partition(
        self, draws: int = 256, steps: int = 200, generator: torch.Generator | None = None
    ) -> Partition:
        """log Z by annealing from the mixture to the energy, and back from draws of the energy: see
        ``annealing``."""
        free = torch.zeros(draws, self.classes, dtype=torch.float64)
        nothing = self._x(self._unknown(draws))

        def log_ratio(walk: Walk, before: float, after: float) -> Tensor:
            return (after - before) * walk[1]

        def move(walk: Walk, beta: float, noise: torch.Generator | None) -> Walk:
            return self._move(walk, nothing, free, beta, noise)

        def start(beta: float, noise: torch.Generator | None) -> Walk:
            x = (
                self.companion.sample(draws, generator=noise).value
                if beta == 0
                else self._x(self._sample(draws, None, noise)).value
            )
            walk = (x, self._score(x, free))
            for _ in range(steps if beta else 0):
                walk = move(walk, beta, noise)
            return walk

        return sandwich(log_ratio, move, start, steps, generator or stream(0, "partition"))


def _tilted(
    space: Space, config: Mixture, data: Event, weight: Float[Tensor, " B"], generator: Any
) -> MixtureDensity:
    """q, by expectation-maximisation. The logits tilt it, and on few rows they learn little beyond
    it: where that costs little, q takes many passes, by the prior that does better on some rows
    left out."""
    if data.value.numel() * (config.components or 1) > MAX_CELL_COMPONENTS:
        return _by_passes(space, config, data, weight, generator, EM_PASSES)
    held = torch.arange(data.rows) % JUDGING_ROWS == 0
    narrow = replace(config, smoothing=NARROW_PRIOR_ROWS)
    gains = []
    for each in (config, narrow) if bool((~held).any()) else ():
        taught = (data.take(~held), weight[~held])
        fitted = _by_passes(space, each, *taught, generator, MANY_EM_PASSES)
        with torch.no_grad():
            gains.append(float((weight[held] * fitted.log_prob(data.take(held))).sum()))
    best = narrow if gains and gains[1] > gains[0] else config
    return _by_passes(space, best, data, weight, generator, MANY_EM_PASSES)


def _by_passes(
    space: Space,
    config: Mixture,
    data: Event,
    weight: Float[Tensor, " B"],
    generator: Any,
    passes: int,
) -> MixtureDensity:
    mixture = MixtureDensity.build(space, config, data, generator, weight=weight)
    for _ in range(passes):
        mixture.maximise(mixture.statistics(data, weight=weight))
    return mixture

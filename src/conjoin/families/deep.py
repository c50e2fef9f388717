r"""What the deep families share: a network models complete rows, and a mixture q, the proposal,
completes rows with missing cells.

    log p(x_o) = log E_q [ p(x_o, x_m) / q(x_m | x_o) ],
    x_m ~ q, a mixture fitted to the same rows and classes

With S draws the mean inside the logarithm is unbiased, so its logarithm is a lower bound on the
average (Y. Burda, R. Grosse and R. Salakhutdinov (2016), Importance weighted autoencoders, equation
8). The bound is tighter, the closer q is to the true conditional. (It needs log p of complete rows,
or the log of an unbiased estimate of p; if the log itself is noisy, the result is an
approximation.) The same weights choose among the draws when missing cells are filled (D. Rubin
(1987), sampling/importance resampling). So a family that only has log p of complete rows answers
every question, and declares which answers are bounds. All values in nats.

A family of networks writes four hooks: ``_start`` (what depends on the data), ``_whole`` (log p of
complete rows), ``_draw`` (new rows), and, where it is trained by something else than -log p,
``_objective``. A family without a network writes ``_whole`` and ``_draw`` of a ``ProposalDensity``
and its own ``build``.

Shape letters: B rows, D variables, S draws for a row with missing cells, K components of the
proposal.

>>> Recipe(steps=100).steps
100
"""

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from conjoin.core import (
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Recipe,
    Space,
    as_float,
    categorical,
    seeded,
    stream,
)
from conjoin.core.constants import MAX_FEW_COLUMNS
from conjoin.core.event import after_one, slices
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Float
from conjoin.families.classic.mixture import Mixture, MixtureDensity, default_states
from conjoin.nets.body import ContextEmbedding
from conjoin.nets.inputs import EMBEDDED, embedding_mark
from conjoin.util.budget import while_time

__all__ = [
    "DeepConfig",
    "DeepDensity",
    "PatientConfig",
    "ProposalDensity",
    "proposal_of",
    "starting_rows",
]

MAX_CELLS = 1 << 16  # of whole rows that a network sees at once, and no more rows than CHUNK_ROWS
CHUNK_ROWS = 4096
EM_PASSES = 8  # of expectation-maximisation for the proposal
PROPOSAL_ROWS = 5000  # rows that the proposal is fitted to
STARTING_CELLS = 1 << 22  # of pictures, by which scales and the like are known
# times as many draws of which a mode is the best: the companion may hardly reach where this density
# is highest
MODE_CANDIDATES = 3


@dataclass(frozen=True)
class DeepConfig(Config):
    """Settings that every family of networks has.

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
    """

    steps: int | None = None
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-2
    draws: int = 32

    # epochs, and the least and most steps, where ``steps`` is None
    passes: ClassVar[tuple[int, int, int]] = (
        40,
        300,
        4000,
    )

    def recipe(self, rows: int) -> Recipe:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, or None, got {self.steps!r}.")
        epochs, least, most = self.passes
        steps = (
            max(least, min(most, epochs * rows // self.batch)) if self.steps is None else self.steps
        )
        return Recipe(steps=steps, batch=self.batch, rate=self.rate, decay=self.decay)


@dataclass(frozen=True)
class PatientConfig(DeepConfig):
    """Settings of a family that takes more steps on few columns of numbers, where they are cheap
    and curves between the numbers need them; ``of_few`` may have other settings for these too.

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
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None takes them from the number of columns.
    """

    min_steps: int | None = None

    unwritten: ClassVar[dict[str, Any]] = {"min_steps": None}
    # what stands in for settings that are None where columns are few and one is a number
    of_few: ClassVar[dict[str, Any]]

    def recipe(self, rows: int) -> Recipe:
        planned = super().recipe(rows)
        if self.steps is not None or self.min_steps is None:
            return planned
        return dataclasses.replace(planned, steps=max(planned.steps or 0, self.min_steps))

    def suited(self, space: Space) -> Config:
        if len(space.variables) > MAX_FEW_COLUMNS or all(v.discrete for v in space.variables):
            return self
        left_open = {
            name: each for name, each in self.of_few.items() if getattr(self, name) is None
        }
        return dataclasses.replace(self, **left_open)


class ProposalDensity(Density):
    """Complete rows by ``_whole`` and ``_draw``; missing cells and regions by the companion, as a
    bound."""

    conditional = True
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT  # of complete rows

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        if config.draws < 1:
            raise ValueError(f"draws must be at least 1, got {config.draws!r}.")
        components = self.structure["companion"]
        self.companion = MixtureDensity(
            _with_class(space, context_space), Mixture(components), {"components": components}
        )
        self.companion.requires_grad_(False)
        self.classes = context_space.variables[0].cardinality if context_space else 0

    # ------------------------------------------------------------------ hooks of a family

    @abc.abstractmethod
    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """log p of complete rows (or a bound, or log p up to a constant: ``likelihood``), given the
        classes' codes (B,) or none."""

    @abc.abstractmethod
    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """n rows."""

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """What each complete row adds to the loss."""
        return -self._whole(value, code, generator)

    # ------------------------------------------------------------------ what follows from them

    @property
    def capabilities(self) -> Capabilities:
        return self._able()

    @final
    def _able(self, **more: Any) -> Capabilities:
        """What the companion makes possible, and ``more``."""
        own = Capabilities(
            self.likelihood,
            missing="bound",
            conditionals="approximate",
            regions=True,
            mode="approximate",
        )
        return dataclasses.replace(own, **more)

    @final
    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        code = None if context is None else context.value
        gone = ~event.mask.all(1)
        seed = _seed(generator)  # the same for a row, whatever stands beside it
        if not gone.any():
            return self._in_chunks(event.value, code, _stream(seed))
        out = event.value.new_zeros(event.rows)
        whole = (~gone).nonzero()[:, 0]
        part = gone.nonzero()[:, 0]
        if len(whole):
            out = out.index_copy(
                0,
                whole,
                self._in_chunks(
                    event.value[whole], None if code is None else code[whole], _stream(seed)
                ),
            )
        return out.index_copy(
            0,
            part,
            self._log_part(event.take(part), None if code is None else code[part], _stream(seed)),
        )

    # ------------------------------------------------------------------ the companion

    def _known(self, event: Event, code: Tensor | None) -> Event:
        """The event as the companion sees it: the class, if there are any, is its first cell."""
        return _rows(event, code, self.classes > 0)

    def _fill(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """One draw of the missing cells for each row, with noise of its own."""
        drawn = self.companion.sample_conditional(
            self._known(event, code), generator=generator
        ).value
        return drawn[:, 1:] if self.classes else drawn

    def _in_chunks(
        self, value: Tensor, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Every chunk with the same noise, so that an answer does not depend on the rows beside
        it."""
        seed = _seed(generator)
        parts = _parts(len(value), value.shape[1])
        return torch.cat(
            [
                self._whole(value[part], None if code is None else code[part], _stream(seed))
                for part in parts
            ]
        )

    def _log_part(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """log of the mean importance weight over S draws, whose noise all rows share; -inf where a
        known cell is out of bounds."""
        codes = None if code is None else code.repeat_interleave(self.config.draws)
        value = self._completions(
            event, code, self.config.draws, generator or stream(0, "missing")
        ).flatten(0, 1)  # (B S, D)
        # q(x_m | x_o) = q(x_m, x_o) / q(x_o)
        known = self.companion.log_prob(self._known(event, code))
        weight = self._in_chunks(value, codes, generator) - self.companion.log_prob(
            self._known(Event(value), codes)
        )
        mean = known + weight.reshape(event.rows, -1).logsumexp(1) - math.log(self.config.draws)
        if event.within is None and self.capabilities.likelihood is not Likelihood.UNNORMALIZED:
            # that nothing is known of a row is certain
            mean = torch.where(event.mask.any(1), mean, 0.0)
        return torch.where(known.isneginf(), -math.inf, mean)

    @torch.no_grad()
    def _completions(
        self, event: Event, code: Tensor | None, draws: int, generator: torch.Generator
    ) -> Float[Tensor, "B S D"]:
        """S rows with the missing cells drawn from the companion. All rows use the same noise: one
        table of draws from each component, and one sorted set of uniforms by which each row picks
        its components."""
        states = self.companion.leaves.states
        known = self._known(event, code)
        every = torch.arange(states).repeat(draws)[:, None].expand(-1, known.value.shape[1])
        table = self.companion.leaves.sample(every, generator, known.within).reshape(
            draws, states, -1
        )
        uniform = (
            torch.arange(draws) + torch.rand((), generator=generator, dtype=torch.float64)
        ) / draws
        share = self.companion._joint(known).softmax(1).cumsum(1)
        # (B, S)
        chosen = torch.searchsorted(share, uniform.expand(event.rows, -1).contiguous()).clamp_max(
            states - 1
        )
        drawn = table[torch.randperm(draws, generator=generator), chosen, int(self.classes > 0) :]
        return torch.where(event.mask[:, None], event.value[:, None], drawn)

    @final
    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Missing cells are drawn anew in each step: the objective is the expectation over q, a
        bound up to the entropy of q."""
        noise = generator or stream(0, "loss")
        code = None if context is None else context.value
        value = event.value if event.mask.all() else self._fill(event, code, noise)
        with seeded(noise):  # dropout takes no other generator
            return self._objective(value, code, noise)

    @final
    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        code = None if context is None else context.value
        parts = _parts(n, len(self.space.variables))
        return Event(
            torch.cat(
                [
                    self._draw(len(range(n)[p]), None if code is None else code[p], generator)
                    for p in parts
                ]
            )
        )

    @final
    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """The companion proposes, this density chooses."""
        many, codes = self._repeated(event, None if context is None else context.value)
        proposed = self._fill(many, codes, generator)
        weight = self._in_chunks(proposed, codes, None) - self.companion.log_prob(
            self._known(Event(proposed), codes)
        )
        chosen = categorical(weight.reshape(event.rows, -1), generator)
        return Event(
            proposed.reshape(event.rows, self.config.draws, -1)[torch.arange(event.rows), chosen]
        )

    def _repeated(self, event: Event, code: Tensor | None) -> tuple[Event, Tensor | None]:
        """Each row, and its class, once for each draw."""
        draws = self.config.draws
        return event.take(
            torch.arange(event.rows).repeat_interleave(draws)
        ), None if code is None else code.repeat_interleave(draws)

    @final
    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of the companion's own mode and of 3 S draws, the same draws for every row."""
        code = None if context is None else context.value
        guess = self.companion.mode(self._known(event, code)).value[
            :, None, int(self.classes > 0) :
        ]
        drawn = self._completions(
            event, code, MODE_CANDIDATES * self.config.draws, stream(0, "mode")
        )
        value = torch.cat([guess, drawn], 1)  # (B, 3 S + 1, D)
        codes = None if code is None else code.repeat_interleave(value.shape[1])
        best = self._in_chunks(value.flatten(0, 1), codes, None).reshape(event.rows, -1).argmax(1)
        return Event(value[torch.arange(event.rows), best])


class DeepDensity(ProposalDensity):
    """A network of complete rows: what it is built from, beside the proposal."""

    takes_bytes = True

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.embedded = EMBEDDED in self.structure

    @classmethod
    def build(
        cls,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """The companion by expectation-maximisation, then the network and what ``_start`` reads off
        the rows."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        companion = proposal_of(space, data, weight, context, context_space, generator)
        structure = (
            {"companion": companion.structure["components"]}
            | embedding_mark(space.variables)
            | cls._structure(space, config, data, weight)
        )
        with seeded(generator):
            density = cls(space, config, structure, context_space)
        density.companion.load_state_dict(companion.state_dict())
        with torch.no_grad():
            density._start(*starting_rows(data, weight), generator)
        return density.eval()

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """What the shape of the network depends on beyond space and config; JSON."""
        return {}

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        """Scales, knots and biases from the rows. Missing cells hold zero."""

    @final
    def embedding(self, width: int) -> ContextEmbedding:
        return ContextEmbedding(self.classes, width)


def proposal_of(
    space: Space,
    data: Event,
    weight: Tensor,
    context: Event | None,
    context_space: Space | None,
    generator: torch.Generator,
) -> MixtureDensity:
    """The mixture that proposes, fitted to at most ``PROPOSAL_ROWS`` of the rows and their
    classes."""
    some = torch.randperm(data.rows, generator=generator)[:PROPOSAL_ROWS].sort().values
    code = None if context is None else context.value[some]
    part = _rows(as_float(data.take(some)), code, context_space is not None)
    mass = weight[some]
    wide = _with_class(space, context_space)
    companion = MixtureDensity.build(
        wide, Mixture(default_states(len(some))), part, generator, weight=mass
    )
    for _ in while_time(range(EM_PASSES), "the mixture that fills in missing cells"):
        companion.maximise(companion.statistics(part, weight=mass))
    return companion


def starting_rows(data: Event, weight: Tensor) -> tuple[Event, Tensor]:
    """The rows, and their weights, by which scales and the like are known: of a table all. Of
    pictures that are kept as bytes only some are cast: rows are in an order of their hashes, so
    that the first are as good as any."""
    if data.value.is_floating_point():
        return data, weight
    some = slice(0, max(1, STARTING_CELLS // data.value.shape[1]))
    return as_float(data.take(some)), weight[some]


def _parts(rows: int, columns: int) -> list[slice]:
    """Rows that the network sees together."""
    return slices(rows, max(1, min(CHUNK_ROWS, MAX_CELLS // max(columns, 1))))


def _seed(generator: torch.Generator | None) -> int | None:
    return None if generator is None else draw_seed(generator)


def _stream(seed: int | None) -> torch.Generator | None:
    return None if seed is None else stream(seed)


def _with_class(space: Space, context: Space | None) -> Space:
    """The space of (class, x)."""
    return (
        space
        if context is None
        else Space((1 + space.shape[0],), context.variables + space.variables)
    )


def _rows(event: Event, code: Tensor | None, classes: bool) -> Event:
    """(class, x): the class missing where there is no code."""
    if not classes:
        return event
    known = torch.full((event.rows, 1), code is not None)
    first = (
        torch.zeros(event.rows, 1, dtype=torch.float64) if code is None else code[:, None].double()
    )
    return Event(
        torch.cat([first, event.value], 1),
        torch.cat([known, event.mask], 1),
        within=after_one(event.within),
    )

r"""Strings, token by token, with an end: one transformer whose weights all positions share.

    log p(x_1, ..., x_n | c) = sum_{t = 1..n} log p(x_t | x_<t, c) + log p(end | x_1, ..., x_n, c)

C. Shannon (1951), Prediction and entropy of printed English, sections 1 and 2, with the transformer
of A. Radford et al. (2018), Improving language understanding by generative pre-training. After N
tokens, the capacity, the end is certain: so all strings sum to one. Of a string whose beginning is
known, log p is that of the beginning, and the rest is drawn token by token: both are exact. The
context c is any record; a network learns what it means that nothing is known of it. In nats.

Shape letters: B rows, N capacity, T positions of the longest row, V tokens.

>>> from conjoin.core import Block, Variable
>>> letters = Block("word", "sequence", (4,), (Variable("letter", "category", 2),))
>>> words = Event(torch.tensor([[0, 1], [1, 1]]))
>>> density = SequenceDensity.build(letters, Sequence(width=8, blocks=1), words, stream(0))
>>> every = letters.laid.every(letters)
>>> bool((density.log_prob(every).logsumexp(0)).abs() < 1e-9)
True
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.components.typicality import Typicality
from conjoin.core import (
    Block,
    Capabilities,
    Config,
    Density,
    Event,
    Recipe,
    Record,
    categorical,
    seeded,
    stream,
)
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.families.autoregressive.continuation import continued, targets_of
from conjoin.nets.encoders import RecordEncoder
from conjoin.nets.sequence import SequenceNet

__all__ = ["Sequence", "SequenceDensity"]

MAX_TOKENS_AT_ONCE = 1 << 15  # that the network sees in one call
KEPT_AXES = 48  # principal axes of the features, by which typical strings are known
MIN_TYPICALITY_ROWS = 8  # fewer can't tell what is typical
WITHHELD_SHARE = 0.1  # of the rows of a step, whose context is not told


@dataclass(frozen=True)
class Sequence(Config):
    """Settings of the model of strings.

    Parameters
    ----------
    width
        Of the hidden layers; the size of the network.
    blocks
        Layers of the transformer.
    dropout
        Share of hidden units that are left out in a step.
    steps
        Of the gradient; None: 30 passes over the rows, at least 300 and at most 3,000 steps.
    batch
        Rows of a step.
    rate
        Learning rate at the start; it falls to zero.
    decay
        Weight decay.
    """

    width: int = 64
    blocks: int = 2
    dropout: float = 0.0
    steps: int | None = None
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2

    def recipe(self, rows: int) -> Recipe:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, or None, got {self.steps!r}.")
        planned = max(300, min(3000, 30 * rows // self.batch))
        steps = planned if self.steps is None else self.steps
        return Recipe(steps=steps, batch=self.batch, rate=self.rate, decay=self.decay)


@dataclasses.dataclass(frozen=True)
class _State:
    """What a continuation needs: how many tokens there are, their keys and values, the context."""

    place: int
    cache: Any
    context: Tensor


class SequenceDensity(Density):
    """Exact log p of strings and of their beginnings, exact continuations, a key-value cache."""

    config_class = Sequence
    flat = False
    bounded = True
    conditional = True

    def __init__(
        self,
        space: Block,
        config: Sequence,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.tokens = space.variables[0].cardinality
        self.capacity = space.shape[0]
        self.encoder = RecordEncoder(self.context_space)
        self.net = SequenceNet(
            self.capacity,
            self.tokens,
            self.encoder.size,
            config.width,
            config.blocks,
            config.dropout,
        )
        self.typical = Typicality((config.width, 2), (min(config.width, KEPT_AXES), 2))

    @classmethod
    def build(
        cls,
        space: Block,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """Scales of the context come from the rows."""
        with seeded(generator):
            density = cls(space, config, context_space=context_space)
        density.encoder.start(density._conditioned(context, data.rows))
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            marginals="prefix",
            conditionals="prefix",
            null_context="learned",
            mode="approximate",
            features=True,
            typical=True,
            step=True,
        )

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        told = self.encoder(context, event.rows)
        rows = max(1, MAX_TOKENS_AT_ONCE // (event.value.shape[1] + 1))
        parts = [self._log_part(event.take(p), told[p]) for p in slices(event.rows, rows)]
        return torch.cat(parts)

    def _log_part(self, event: Event, told: Tensor) -> Float[Tensor, " B"]:
        """Each known token, and the first known end; what follows the end is certain."""
        log_p = self._log_next(self.net(event.value, told))
        target, valid = targets_of(event, self.tokens, self.capacity)
        cell = log_p.gather(2, target[..., None])[..., 0]
        return torch.where(valid, cell, 0.0).sum(1)

    def _log_next(self, logits: Float[Tensor, "B T V1"]) -> Float[Tensor, "B T V1"]:
        """Normalised; at the capacity the end is certain."""
        return self._bounded(logits, logits.shape[1] > self.capacity).log_softmax(2)

    def _bounded(self, logits: Tensor, full: bool) -> Tensor:
        """Logits of the last position, where no token fits any more, leave the end alone."""
        if not full:
            return logits
        tokens = torch.arange(self.tokens + 1) < self.tokens
        last = logits[:, -1:].masked_fill(tokens, -torch.inf)
        return torch.cat([logits[:, :-1], last], 1)

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """-log p; the context is withheld at times, so that the network knows what to say without
        one (J. Ho and T. Salimans (2022), Classifier-free diffusion guidance, algorithm 1)."""
        noise = generator or stream(0, "loss")
        told = self.encoder(self._withheld(context, event.rows, noise), event.rows)
        with seeded(noise):  # dropout takes no other generator
            return -self._log_part(event, told)

    def _withheld(self, context: Record, rows: int, generator: torch.Generator) -> Record:
        if not self.context_space.blocks:
            return context
        gone = torch.rand(rows, generator=generator) < WITHHELD_SHARE
        hidden = {
            name: event.hide(gone.reshape(-1, *(1,) * (event.value.dim() - 1)))
            for name, event in context.items()
        }
        return Record(hidden)

    # ------------------------------------------------------------------ draws

    def _begin(self, rows: int, context: Record) -> _State:
        return _State(0, None, self.encoder(context, rows))

    def _step(self, state: _State, token: Tensor | None) -> tuple[_State, Float[Tensor, "B V1"]]:
        logits, cache = self.net.step(token, state.context, state.cache)
        log_p = self._bounded(logits[:, None], state.place == self.capacity).log_softmax(2)[:, 0]
        return _State(state.place + 1, cache, state.context), log_p

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Event:
        """What is known, then token by token until each row has ended."""
        return continued(self, event, context, lambda log_p: categorical(log_p, generator))

    def _mode(self, event: Event, context: Any) -> Event:
        """What is known, then the most probable token at each place."""
        return continued(self, event, context, lambda log_p: log_p.argmax(1))

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        """The mean over positions of the last hidden layer."""
        return self._seen(event)[0]

    def _seen(self, event: Event) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B 2"]]:
        """Features without a context; the mean surprise of a token (nats), and log(1 + length)."""
        nothing = self.context_space.check(Record(), event.rows)
        told = self.encoder(nothing, event.rows)
        hidden = self.net.features(event.value, told)
        there = torch.cat([torch.ones(event.rows, 1), event.known.double()], 1)[..., None]
        length = event.known.sum(1).double()
        surprise = -self._log_prob(event, nothing, None) / (length + 1)
        plain = torch.stack([surprise, (length + 1).log()], 1)
        return (hidden * there).sum(1) / there.sum(1), plain

    def _fit_typicality(self, event: Event) -> None:
        complete = event.take(event.complete.nonzero()[:, 0])
        if complete.rows >= MIN_TYPICALITY_ROWS:
            self.typical.fit(list(self._seen(complete)))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """By the features and by the surprise of a token: the sum over tokens alone would call
        long strings foreign."""
        out: Tensor = self.typical(list(self._seen(event)))
        return out

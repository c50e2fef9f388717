r"""Strings by a network and by counts, mixed token by token.

    p(x_t | x_<t, c) = w p_network(x_t | x_<t, c) + (1 - w) p_counts(x_t | x_<t, c)

w depends on how sure the network is and on how many tokens before x_t the counts have seen
together, both of which are known before x_t is: so every string has mass and all strings sum to
one (F. Jelinek and R. Mercer (1980), Interpolated estimation of Markov source parameters from
sparse data). A network knows what texts are about, counts know their words by heart. One string of
``HELD_OUT``, chosen by its content, teaches w alone, so that w is learned on strings that neither
has seen. In nats.

Shape letters: B rows, N capacity, T positions, V tokens.

>>> from conjoin.core import Block, Variable, stream
>>> letters = Block("word", "sequence", (4,), (Variable("letter", "category", 2),))
>>> words = Event(torch.tensor([[0, 1], [1, 1]]))
>>> config = TextMixture(width=8, blocks=1)
>>> density = TextMixtureDensity.build(letters, config, words, stream(0))
>>> every = letters.laid.every(letters)
>>> bool((density.log_prob(every).logsumexp(0)).abs() < 1e-9)
True
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.core import Block, Capabilities, Event, Record, RecordSpace, seeded
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.autoregressive.continuation import targets_of
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.classic.ngram import Ngram, NgramDensity, tells_one_class

__all__ = ["TextMixture", "TextMixtureDensity"]

HELD_OUT = 20
MIN_ROWS = 100  # with fewer none is held out, and both weigh the same
STEPS_OF_P = (0.3, 0.5, 0.7, 0.9)  # of the network's most probable token: where w changes
GAIN = 10.0  # of the logits of w, so that the rate of the network suits them
PRIMES = (1_000_003, 7_919)  # of the content of a string


@dataclass(frozen=True)
class TextMixture(Sequence):
    """Settings of the network, those of ``Sequence``, and of the counts.

    Parameters
    ----------
    order
        Tokens of the longest context that is counted, as of ``Ngram``.
    """

    order: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network != "rotary":
            raise ValueError(f"network of a mixture must be 'rotary', got {self.network!r}.")


@dataclass(frozen=True)
class _State:
    """Those of both."""

    network: Any
    counts: Any

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        return type(self)(self.network.take(rows), self.counts.take(rows))


class TextMixtureDensity(SequenceDensity):
    """Exact log p of strings and of their beginnings, and exact continuations."""

    config_class = TextMixture

    def __init__(
        self,
        space: Block,
        config: TextMixture,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.structure.setdefault("held_out", False)
        counted = self.structure.setdefault("counts", {})
        told = _counted_space(self.context_space)
        self.counts = NgramDensity(space, Ngram(config.order), counted, told)
        self.counts.requires_grad_(False)
        cells = (len(STEPS_OF_P) + 1, self.counts.orders)
        learned = bool(self.structure["held_out"])
        self.mixing = nn.Parameter(torch.zeros(cells, dtype=torch.float64), requires_grad=learned)

    @classmethod
    def _before_learning(
        cls,
        space: Block,
        config: Any,
        data: Event,
        generator: torch.Generator,
        weight: Tensor | None,
        context: Any,
        context_space: Any,
    ) -> Self:
        """The counts of all rows but those held out."""
        kept = torch.arange(data.rows)
        held_out = data.rows >= MIN_ROWS
        if held_out:
            kept = (~_held(space.check(data))).nonzero()[:, 0]
        counts = NgramDensity.build(
            space,
            Ngram(config.order),
            data.take(kept),
            generator,
            weight=None if weight is None else weight[kept],
            context=None if context is None else _counted(context.take(kept), context_space),
            context_space=_counted_space(context_space),
        )
        structure = {"held_out": held_out, "counts": counts.structure}
        with seeded(generator):
            density = cls(space, config, structure, context_space)
        density.counts = counts.requires_grad_(False)
        return density

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, objective="surrogate")

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        target, valid = targets_of(event, self.tokens, self.capacity)
        told = self.encoder(context, event.rows)
        about = _counted(context, self.context_space)
        counted, depth = self.counts.tokens_of(event, about)
        total = torch.zeros(event.rows, dtype=torch.float64)
        for rows, places in self._parts(valid):
            near = slice(0, places)
            with torch.no_grad():
                log_next = self._log_next(self.net(event.value[rows, : places - 1], told[rows]))
            own = log_next.gather(2, target[rows, near, None])[..., 0]
            mixed = self._mixed(own, counted[rows, near], log_next.amax(2), depth[rows, near])
            total = total.index_add(0, rows, torch.where(valid[rows, near], mixed, 0.0).sum(1))
        return total

    def _mixed(self, network: Tensor, counts: Tensor, top: Tensor, depth: Tensor) -> Tensor:
        """log p by both, where log p of the network's most probable token is ``top``."""
        edges = torch.tensor(STEPS_OF_P, dtype=torch.float64)
        logit = GAIN * self.mixing[torch.bucketize(top.exp(), edges), depth]
        first = nn.functional.logsigmoid(logit)
        second = nn.functional.logsigmoid(-logit)
        while first.dim() < network.dim():
            first = first[..., None]
            second = second[..., None]
        return torch.logaddexp(network + first, counts + second)

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """-log p of the network; of strings that are held out that of the mixture, which moves w
        alone."""
        losses = super()._losses(event, context, generator)
        if not self.structure["held_out"]:
            return losses
        held = _held(event)
        some = held.nonzero()[:, 0]
        mixed = -self._log_prob(event.take(some), context.take(some), None)
        return torch.where(held, 0.0, losses).index_add(0, some, mixed)

    # ------------------------------------------------------------------ draws

    def _begin(self, rows: int, context: Record) -> Any:
        about = _counted(context, self.context_space)
        return _State(super()._begin(rows, context), self.counts._begin(rows, about))

    def _stepped_by(self, net: Any, state: Any) -> Any:
        return dataclasses.replace(state, network=super()._stepped_by(net, state.network))

    def _step(self, state: Any, token: Tensor | None) -> tuple[Any, Float[Tensor, "B V1"]]:
        network, first = super()._step(state.network, token)
        counts, second = self.counts._step(state.counts, token)
        depth = self.counts.depth_of(counts)
        return _State(network, counts), self._mixed(first, second, first.amax(1), depth)


def _counted_space(space: Any) -> Any:
    """What the counts are told: one class, or nothing."""
    if not isinstance(space, RecordSpace):  # a class, as a joint model gives it
        return space
    return space if space.blocks and tells_one_class(space) else RecordSpace()


def _counted(context: Any, space: Any) -> Any:
    if not isinstance(context, Record):
        return context
    return Record({name: context[name] for name in _counted_space(space).names})


def _held(event: Event) -> Bool[Tensor, " B"]:
    """Which strings teach the weights of the mixture: by their known tokens, whoever asks."""
    place = torch.arange(1, event.value.shape[1] + 1)
    content = torch.where(event.known, (event.value + 1) * (place * PRIMES[1] % PRIMES[0]), 0)
    return content.sum(1) % PRIMES[0] % HELD_OUT == 0

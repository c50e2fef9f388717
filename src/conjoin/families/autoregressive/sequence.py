r"""Strings, token by token, with an end: one transformer whose weights all positions share.

    log p(x_1, ..., x_n | c) = sum_{t = 1..n} log p(x_t | x_<t, c) + log p(end | x_1, ..., x_n, c)

C. Shannon (1951), Prediction and entropy of printed English, sections 1 and 2, with the transformer
of ``conjoin.nets.decoder``, whose matrices are moved by Muon (``conjoin.nets.muon``). After N
tokens, the capacity, the end is certain: so all strings sum to one. Of a string whose beginning is
known, log p is that of the beginning, and the rest is drawn token by token: both are exact. The
context c is any record; a network learns what it means that nothing is known of it. A picture is
told place by place, and each token attends to all of its places. In nats.

With ``reading`` the same network also reads strings in both directions: some rows of each step
teach it to tell hidden tokens, and columns of the context from the string
(``conjoin.families.autoregressive.reading``).

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conjoin.components.typicality import KEPT_AXES, MIN_TYPICALITY_ROWS, Typicality
from conjoin.core import (
    Block,
    Capabilities,
    Config,
    Density,
    Event,
    Recipe,
    Record,
    seeded,
    stream,
)
from conjoin.core.event import joined, slices
from conjoin.core.rounds import as_often
from conjoin.core.sampling import sampling
from conjoin.core.shapes import Float, Int
from conjoin.families.autoregressive.continuation import (
    Choose,
    about_equally_long,
    continued,
    gumbel,
    inversion,
    likeliest,
    targets_of,
)
from conjoin.families.autoregressive.reading import HIDDEN_SHARE, Reading, Seen, shown
from conjoin.families.diffusion.picture import withheld
from conjoin.nets.decoder import Decoder
from conjoin.nets.decoder_rows import ManyRows
from conjoin.nets.decoder_steps import MAX_ROWS
from conjoin.nets.encoders import PLACE_WIDTH, RecordEncoder
from conjoin.nets.precision import computing_in, settled
from conjoin.nets.sequence import SequenceNet

__all__ = ["Sequence", "SequenceDensity"]

MAX_TOKENS_AT_ONCE = 1 << 15  # that the network sees in one call
PLACE_SHARE = 4  # by which that is divided where places of pictures stand before the tokens
MAX_LENGTH = 1 << 14  # tokens of a string that the network learns from
MAX_TYPICALITY_ROWS = 20_000  # about as many tell it: axes and means of more are hardly others
COLUMN_WEIGHT = 4.0  # of a nat of a column, beside one of the tokens of a string that is read
WITHHELD_SHARE = 0.1  # of the rows of a step, whose context is not told
# width and layers, by millions of parameters without those of the tokens
SIZES = {1: (128, 5), 8: (256, 10), 50: (512, 16)}
NETWORKS = {"rotary": Decoder, "absolute": SequenceNet}
DRAWINGS: dict[str, Callable[[torch.Generator | None], Choose]] = {
    "inversion": inversion,
    "gumbel": gumbel,
}
# rows that are drawn side by side: as many as have keys and values of so many bytes
MAX_KEPT_BYTES = 1 << 26
MIN_DRAWN_ROWS = 64
MAX_DRAWN_ROWS = 512
PICTURES_TOLD = ("places", "mean")
STRINGS_TOLD = ("state", "places")


@dataclass(frozen=True)
class Sequence(Config):
    """Settings of the model of strings.

    Parameters
    ----------
    width
        Of the hidden layers.
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
    size
        Millions of parameters: 1, 8 or 50. It stands for a width and a number of layers; None:
        those of ``width`` and ``blocks``.
    matrix_rate
        Learning rate of the matrices between hidden units, which Muon moves; None: they are moved
        like all others, by AdamW at ``rate``.
    network
        "rotary", or "absolute", the network of models that were saved by versions before it.
    precision
        Numbers of the steps of learning: "float32", "bfloat16", or "auto" for the faster one on the
        machine of the fit. Answers are computed in float64.
    drawing
        How a token is drawn: "inversion", by one random number, or "gumbel", by one for each token
        that could come, as models that were saved by versions before it do. Both draw by p.
    reading
        Share of the rows of a step that the network reads in both directions, to tell hidden tokens
        and the columns beside the string; the others teach it to write. 0: it only writes.
    pictures
        How a picture of the context is told: by "places", to which each token attends, or as the
        "mean" over them, as by models that were saved by versions before it, and by the "absolute"
        network always.
    hidden
        Share of the written tokens that the network does not see in a step of the fit, so that it
        learns to look at what it is told beside them. Answers see all.
    told_strings
        How another string of the context is told: by the "state" of a recurrent network at its
        end, or by "places", to which each token attends, with network="rotary".
    """

    width: int = 64
    blocks: int = 2
    dropout: float = 0.0
    steps: int | None = None
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2
    size: int | None = None
    matrix_rate: float | None = 0.02
    network: str = "rotary"
    precision: str = "auto"
    drawing: str = "inversion"
    reading: float = 0.0
    pictures: str = "places"
    hidden: float = 0.0
    told_strings: str = "state"

    implied: ClassVar[dict[str, Any]] = {
        "size": None,
        "matrix_rate": None,
        "network": "absolute",
        "precision": "float32",
        "drawing": "gumbel",
        "reading": 0.0,
        "pictures": "mean",
        "hidden": 0.0,
        "told_strings": "state",
    }
    unwritten: ClassVar[dict[str, Any]] = {
        "reading": 0.0,
        "pictures": "mean",
        "hidden": 0.0,
        "told_strings": "state",
    }

    def __post_init__(self) -> None:
        if self.size is not None and self.size not in SIZES:
            known = ", ".join(map(str, SIZES))
            raise ValueError(f"size must be one of {known} (millions) or None, got {self.size!r}.")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}.")
        if self.drawing not in DRAWINGS:
            raise ValueError(f"drawing must be one of {', '.join(DRAWINGS)}, got {self.drawing!r}.")
        if self.pictures not in PICTURES_TOLD:
            known = ", ".join(PICTURES_TOLD)
            raise ValueError(f"pictures must be one of {known}, got {self.pictures!r}.")
        if self.told_strings not in STRINGS_TOLD:
            known = ", ".join(STRINGS_TOLD)
            raise ValueError(f"told_strings must be one of {known}, got {self.told_strings!r}.")
        if self.told_strings != "state" and self.network != "rotary":
            raise ValueError(
                f"told_strings={self.told_strings!r} needs network='rotary', got {self.network!r}."
            )
        if not 0 <= self.reading < 1:
            raise ValueError(f"reading must be at least 0 and less than 1, got {self.reading!r}.")
        if not 0 <= self.hidden < 1:
            raise ValueError(f"hidden must be at least 0 and less than 1, got {self.hidden!r}.")
        if self.hidden and self.network != "rotary":
            raise ValueError(
                f"hidden={self.hidden!r} needs network='rotary', got {self.network!r}."
            )
        if self.hidden and self.reading:
            raise ValueError(
                f"hidden={self.hidden!r} is for strings that are only written: leave it out, or "
                f"reading={self.reading!r}."
            )
        if self.reading and self.network != "rotary":
            raise ValueError(
                f"reading={self.reading!r} needs network='rotary', got {self.network!r}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Width and layers."""
        return (self.width, self.blocks) if self.size is None else SIZES[self.size]

    def in_precision(self, precision: str) -> Self:
        return dataclasses.replace(self, precision=settled(self.precision, precision))

    def recipe(self, rows: int) -> Recipe:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, or None, got {self.steps!r}.")
        planned = max(300, min(3000, 30 * rows // self.batch))
        return Recipe(
            steps=planned if self.steps is None else self.steps,
            batch=self.batch,
            rate=self.rate,
            decay=self.decay,
            matrix_rate=self.matrix_rate,
            linear=self.network == "rotary",
        )


@dataclasses.dataclass(frozen=True)
class _State:
    """What a continuation needs: how many tokens there are, their keys and values, the context,
    the network."""

    place: int
    cache: Any
    context: Tensor
    net: Any

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        cache = None if self.cache is None else _taken(self.cache, rows)
        return dataclasses.replace(self, cache=cache, context=self.context[rows])


def _taken(cache: Any, rows: Int[Tensor, " b"]) -> Any:
    """Some rows of the keys and values of either network."""
    if isinstance(cache, list):
        return [(key[rows], value[rows]) for key, value in cache]
    return cache.take(rows)


class SequenceDensity(Density):
    """Exact log p of strings and of their beginnings, exact continuations, a key-value cache."""

    config_class = Sequence
    flat = False
    bounded = True
    conditional = True
    rounds_draws = True

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
        asked = {"image": config.pictures, "sequence": config.told_strings}
        by_place = [layout for layout, how in asked.items() if how == "places"]
        self.encoder = RecordEncoder(
            self.context_space, by_place if config.network == "rotary" else ()
        )
        width, blocks = config.shape
        more: dict[str, Any] = {"reads": True} if config.reading else {}
        if self.encoder.places:
            more |= {"places": self.encoder.places, "place_width": PLACE_WIDTH}
        self.net: Any = NETWORKS[config.network](
            self.capacity, self.tokens, self.encoder.size, width, blocks, config.dropout, **more
        )
        told = _columns_of(self.context_space)
        self.read_block = told.name if told is not None and config.reading else None
        if told is not None and config.reading:
            self.reading = Reading(told.variables, self.tokens, width)
        self.typical = Typicality((width, 2), (min(width, KEPT_AXES), 2))

    @property
    def shardable(self) -> list[nn.Module]:
        return [] if self.config.reading else list(self.net.blocks)

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
        """Scales of the context come from the rows. ValueError for strings that are too long."""
        longest = int(data.known.sum(1).max()) if data.rows else 0
        if longest > MAX_LENGTH:
            raise ValueError(
                f"The longest string of the fit has {longest:,} tokens, and attention over more "
                f"than {MAX_LENGTH:,} takes too long: cut long strings into parts, or take "
                "family='ngram'."
            )
        asked = (weight, context, context_space)
        density = cls._before_learning(space, config, data, generator, *asked)
        told = density._conditioned(context, data.rows)
        density.encoder.start(told)
        if density.read_block is not None:
            mass = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
            density.reading.start(data, told[density.read_block], mass)
        return density.eval()

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
        """The network as it begins."""
        with seeded(generator):
            return cls(space, config, context_space=context_space)

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

    @torch.no_grad()
    def go_on_from(self, other: Density) -> bool:
        """All of the network but what it is told; tokens that are new begin as the unknown one."""
        if not isinstance(other, SequenceDensity):
            return False
        if self.config.shape != other.config.shape or self.config.network != other.config.network:
            width, blocks = other.config.shape
            raise ValueError(
                f"start_from is a model of another size: its strings have width={width}, "
                f"blocks={blocks} and network={other.config.network!r}."
            )
        if self.tokens < other.tokens:
            return False
        before = other.net.state_dict()
        for name, value in self.net.state_dict().items():
            if name.startswith("told."):
                value.zero_()
            elif name in before:
                _grow(value, before[name])
        return True

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._log_p(event, self.encoder(context, event.rows))

    def _log_p(
        self, event: Event, told: Tensor, written: Tensor | None = None
    ) -> Float[Tensor, " B"]:
        """Each known token, and the first known end; what follows the end is certain. ``written``:
        what the network sees of the tokens, if that is not all."""
        seen = event.value if written is None else written
        target, valid = targets_of(event, self.tokens, self.capacity)
        total = torch.zeros(event.rows, dtype=torch.float64)
        for rows, places in as_often(self._parts(valid)):
            precision = self.config.precision if self.training else "float32"
            with computing_in("float32" if precision == "auto" else precision):
                logits = self.net(seen[rows, : places - 1], told[rows])
            near = slice(0, places)
            cell = self._log_next(logits).gather(2, target[rows, near, None])[..., 0]
            total = total.index_put((rows,), torch.where(valid[rows, near], cell, 0.0).sum(1))
        return total

    def _parts(self, valid: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Rows that are about equally long, and how many positions the longest of them has;
        ``valid``: the positions that count. The network of earlier versions sees rows as it did
        then, in their order and all as long as the longest may be."""
        if self.config.network == "absolute":
            places = valid.shape[1]
            for part in slices(len(valid), max(1, MAX_TOKENS_AT_ONCE // places)):
                yield torch.arange(len(valid))[part], places
            return
        most = MAX_TOKENS_AT_ONCE // (PLACE_SHARE if self.encoder.places else 1)
        yield from about_equally_long(valid, most)

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
        if self.read_block is not None:
            return self._losses_of_both(event, context, noise)
        told = self.encoder(self._withheld(context, event.rows, noise), event.rows)
        written = self._partly_hidden(event, noise)
        with seeded(noise):  # dropout takes no other generator
            return -self._log_p(event, told, written)

    def _partly_hidden(self, event: Event, generator: torch.Generator) -> Tensor | None:
        """The tokens as the network sees them in the fit: some are as the start is, so that it
        looks at what it is told beside them (S. Bowman et al. (2016), Generating sentences from a
        continuous space, section 3.1)."""
        if not self.config.hidden:
            return None
        gone = torch.rand(event.value.shape, generator=generator) < self.config.hidden
        return event.value.masked_fill(gone, self.tokens)

    def _losses_of_both(
        self, event: Event, context: Record, noise: torch.Generator
    ) -> Float[Tensor, " B"]:
        """-log p of the rows that are written, and of those that are read what their hidden tokens
        and the columns that are not told cost."""
        reads = torch.rand(event.rows, generator=noise) < self.config.reading
        out = torch.zeros(event.rows, dtype=torch.float64)
        assert self.read_block is not None
        columns = context[self.read_block]
        some = columns.hide(withheld(columns.mask.shape, noise))
        told = context.updated({self.read_block: some})
        if not reads.all():
            rows = (~reads).nonzero()[:, 0]
            with seeded(noise):
                found = -self._log_p(event.take(rows), self.encoder(told.take(rows), len(rows)))
            out = out.index_add(0, rows, found)
        if reads.any():
            rows = reads.nonzero()[:, 0]
            found = self._losses_of_reading(event.take(rows), context.take(rows), noise)
            out = out.index_add(0, rows, found)
        return out

    def _losses_of_reading(
        self, event: Event, context: Record, noise: torch.Generator
    ) -> Float[Tensor, " B"]:
        """Hidden tokens count as much as if all of the string were hidden."""
        assert self.read_block is not None
        columns = context[self.read_block]
        asked = torch.rand(columns.mask.shape, generator=noise) < HIDDEN_SHARE
        told = context.updated({self.read_block: columns.hide(asked)})
        seen = self.reading.cut(shown(event), noise)
        with seeded(noise):
            params, tokens = self._read(seen, self.encoder(told, event.rows))
        times = seen.there.sum(1) / seen.hidden.sum(1).clamp_min(1)
        cells = self.reading.heads.log_prob(params, columns.value, columns.mask & asked)
        return -times * tokens - COLUMN_WEIGHT * cells.sum(1)

    def _read(self, seen: Seen, told: Tensor) -> tuple[Float[Tensor, "B C W"], Float[Tensor, " B"]]:
        """Parameters of the distribution of each column, and log p of the hidden tokens."""
        width = self.config.shape[0]
        mean = torch.zeros(len(told), width, dtype=torch.float64)
        tokens = torch.zeros(len(told), dtype=torch.float64)
        for rows, places in self._parts(seen.there):
            part = seen.take(rows, places)
            precision = self.config.precision if self.training else "float32"
            with computing_in("float32" if precision == "auto" else precision):
                hidden, logits = self.net.read(part, told[rows])
            log_p = logits.log_softmax(2).gather(2, part.token[..., None])[..., 0]
            tokens = tokens.index_put((rows,), torch.where(part.hidden, log_p, 0.0).sum(1))
            mean = mean.index_put((rows,), hidden)
        return self.reading.params(seen, mean), tokens

    def columns_read(self, event: Event, context: Record) -> Float[Tensor, "B C W"]:
        """Parameters of the distribution of each column of the context, from strings or from their
        beginnings, and from the columns that are told; see ``reading.heads``."""
        with torch.no_grad():
            return self._read(shown(event), self.encoder(context, event.rows))[0]

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
        return _State(0, None, self.encoder(context, rows), self.net)

    def _begin_draws(self, rows: int, context: Record, net: Any = None) -> Any:
        """As ``_begin``, but for the network, which is a copy in float32: twice as fast. It rounds
        log p of a token by about 1e-6 nats."""
        return self._stepped_by(net or self._drawing_net(rows), self._begin(rows, context))

    def _stepped_by(self, net: Any, state: Any) -> Any:
        """A state that another copy of the network goes on from."""
        return dataclasses.replace(state, net=net)

    def _drawing_net(self, rows: int) -> Any:
        if sampling().rounds:
            return self._rounded_net(sampling().precision)
        if self.config.network == "absolute":
            return self.net
        return ManyRows(self.net) if self._in_parts(rows) else self.net.single()

    def _rounded_net(self, precision: str) -> Any:
        """A copy whose products have fewer bits."""
        on_cpu = self.net.embed.weight.device.type == "cpu"
        if self.config.network != "rotary" or self.encoder.places or not on_cpu:
            raise ValueError(
                f"precision={precision!r} draws by a copy of the network for CPUs, which knows "
                "neither places of pictures nor network='absolute': leave it out."
            )
        return ManyRows(self.net, precision)

    def _in_parts(self, rows: int) -> bool:
        """Whether rows are many, which are drawn some at a time by steps that are made for it; they
        know of no places."""
        able = self.config.network == "rotary" and self.config.drawing == "inversion"
        able &= not self.encoder.places
        if sampling().rounds:
            return True
        return able and rows > MAX_ROWS and self.net.embed.weight.device.type == "cpu"

    def _step(self, state: _State, token: Tensor | None) -> tuple[_State, Float[Tensor, "B V1"]]:
        logits, cache = state.net.step(token, state.context, state.cache)
        log_p = self._bounded(logits[:, None], state.place == self.capacity).log_softmax(2)[:, 0]
        return dataclasses.replace(state, place=state.place + 1, cache=cache), log_p

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Event:
        """What is known, then token by token until each row has ended."""
        how = "inversion" if sampling().rounds else self.config.drawing
        choose = DRAWINGS[how](generator)
        net = self._drawing_net(event.rows)
        most = self._rows_at_once() if self._in_parts(event.rows) else max(1, event.rows)
        drawn = []
        for part in slices(event.rows, most):
            some = event.take(part)
            state = self._begin_draws(some.rows, context.take(part), net)
            drawn.append(continued(self, some, state, choose))
        return joined(drawn)

    def _rows_at_once(self) -> int:
        width, blocks = self.config.shape
        each = 8 * blocks * width * self.capacity
        return min(MAX_DRAWN_ROWS, max(MIN_DRAWN_ROWS, MAX_KEPT_BYTES // each))

    def _mode(self, event: Event, context: Any) -> Event:
        """What is known, then the most probable token at each place."""
        state = self._begin_draws(event.rows, context)
        return continued(self, event, state, likeliest)

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        """The mean over positions of the last hidden layer."""
        return self._seen(event)[0]

    def _seen(self, event: Event) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B 2"]]:
        """Features without a context; the mean surprise of a token (nats), and log(1 + length)."""
        told = self._told_nothing(event.rows)
        length = event.known.sum(1).double()
        log_p, mean = self._log_p_and_mean(event, told)
        plain = torch.stack([-log_p / (length + 1), (length + 1).log()], 1)
        return mean, plain

    def _told_nothing(self, rows: int) -> Tensor:
        """What is told of a context of which nothing is known: of all rows the same."""
        told: Tensor = self.encoder(self.context_space.check(Record(), 1), 1)
        return told.expand(rows, *told.shape[1:])

    def _log_p_and_mean(
        self, event: Event, told: Tensor
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B F"]]:
        """``_log_p`` and ``_mean_hidden``, by one look where both see the same positions."""
        target, valid = targets_of(event, self.tokens, self.capacity)
        there = torch.cat([torch.ones(event.rows, 1).bool(), event.known], 1)
        if self.config.network == "absolute" or not torch.equal(valid, there):
            return self._log_p(event, told), self._mean_hidden(event, told)
        total = torch.zeros(event.rows, dtype=torch.float64)
        mean = torch.zeros(event.rows, self.config.shape[0], dtype=torch.float64)
        for rows, places in self._parts(valid):
            near = slice(0, places)
            hidden = self.net.features(event.value[rows, : places - 1], told[rows])
            log_next = self._log_next(self.net.logits(hidden))
            cell = log_next.gather(2, target[rows, near, None])[..., 0]
            seen = valid[rows, near]
            total[rows] = torch.where(seen, cell, 0.0).sum(1)
            counted = seen.double()[..., None]
            mean[rows] = (hidden * counted).sum(1) / counted.sum(1)
        return total, mean

    def _mean_hidden(self, event: Event, told: Tensor) -> Float[Tensor, "B F"]:
        """Of the last hidden layer, over the start and each known token."""
        there = torch.cat([torch.ones(event.rows, 1).bool(), event.known], 1)
        out = torch.zeros(event.rows, self.config.shape[0], dtype=torch.float64)
        for rows, places in self._parts(there):
            hidden = self.net.features(event.value[rows, : places - 1], told[rows])
            counted = there[rows, :places].double()[..., None]
            out[rows] = (hidden * counted).sum(1) / counted.sum(1)
        return out

    def _features_at(self, event: Event, places: Int[Tensor, "B P"]) -> Float[Tensor, "B P F"]:
        """The last hidden layer at the last token of each beginning, without a context."""
        told = self._told_nothing(event.rows)
        out = torch.zeros(*places.shape, self.config.shape[0], dtype=torch.float64)
        some = torch.arange(self.capacity + 1) <= places.amax(1, keepdim=True)
        for rows, count in self._parts(some):
            hidden = self.net.features(event.value[rows, : count - 1], told[rows])
            out[rows] = hidden[torch.arange(len(rows))[:, None], places[rows]].double()
        return out

    def _fit_typicality(self, event: Event) -> None:
        rows = event.complete.nonzero()[:, 0]
        if len(rows) >= MIN_TYPICALITY_ROWS:
            every = max(1, len(rows) // MAX_TYPICALITY_ROWS)
            self.typical.fit(list(self._seen(event.take(rows[::every]))))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """By the features and by the surprise of a token: the sum over tokens alone would call
        long strings foreign."""
        out: Tensor = self.typical(list(self._seen(event)))
        return out


def _columns_of(context_space: Any) -> Block | None:
    """The first block of columns of a context."""
    found = [block for block in context_space.blocks if block.layout == "vector"]
    return found[0] if found else None


def _grow(into: Tensor, value: Tensor) -> None:
    """Copy the rows of tokens; new ones stand before the last two, which are the unknown token and
    the start or end, and begin as the unknown one. Of other weights all is copied."""
    if into.shape == value.shape:
        into.copy_(value)
        return
    first = len(value) - 2
    into[:first] = value[:first]
    into[first:-2] = value[first]
    into[-2:] = value[-2:]

r"""Strings of a pretrained network's own tokens: what a density of them does with what the network
tells of the next token.

    log p(x_1, ..., x_n | c) = sum_{t = 1..n} log p(x_t | s, x_<t, c)
                               + log sum_{e in E} p(e | s, x_1, ..., x_n, c)

C. Shannon (1951), Prediction and entropy of printed English, sections 1 and 2. s is the token that
begins a text and E are those that end one: several ends count as one, and have no probability
inside of a string. After N tokens, the capacity, the end is certain. In nats.

Shape letters: B rows, N capacity, T positions of the longest row, V tokens, U logits.

>>> MAX_LOGITS_AT_ONCE > MAX_DOUBLES_AT_ONCE
True
"""

import abc
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Record, seeded, stream
from conjoin.core.shapes import Float, Int
from conjoin.families.autoregressive.continuation import (
    about_equally_long,
    gumbel,
    likeliest,
    targets_of,
)

__all__ = ["StringsOfNetwork"]

MAX_LOGITS_AT_ONCE = 1 << 25  # that the network makes in one call
MAX_DOUBLES_AT_ONCE = 1 << 23  # of them, that are normalised in float64 at once
PROBED_TOKENS = 8  # by which it is seen whether a network is causal
PROBE_TOLERANCE = 1e-2  # of logits that a token behind may not change, relative


class StringsOfNetwork(Density):
    """``structure`` holds the ``size`` U of the vocabulary, its ``ends`` and its ``start``."""

    flat = False
    bounded = True

    ends: Tensor
    ends_inside: Tensor

    @abc.abstractmethod
    def _told_of(self, context: Record, rows: int) -> Tensor:
        """(B, ...) what the network is told of each row."""

    @abc.abstractmethod
    def _logits(self, tokens: Int[Tensor, "b T"], told: Tensor) -> Float[Tensor, "b T U"]:
        """What the network tells of the token behind each."""

    @abc.abstractmethod
    def _continued(self, event: Event, context: Record, choose: Any) -> Event:
        """What is known, then tokens as ``choose`` says, of their log p."""

    def _take_tokens(self, most: Any) -> None:
        """Ends, and how long strings may be; ``most``: positions of the network, if it tells them.
        ValueError where the strings' tokens are not the network's, or too many of them."""
        self.tokens = self.space.variables[0].cardinality
        self.capacity = self.space.shape[0]
        size = self.structure["size"]
        beyond = set(range(self.tokens, size)) - set(self.structure["ends"])
        if self.tokens > size or beyond:
            raise ValueError(
                f"Strings are made of {self.tokens:,} tokens where the network of "
                f"{self.config.folder!r} has {size:,}: read them by its own tokenizer, with "
                "types={'text': {'type': 'text', 'format': 'tokenizer FOLDER'}}."
            )
        if isinstance(most, int) and 0 < most < self.capacity:
            raise ValueError(
                f"Strings may have up to {self.capacity:,} tokens, and the network of "
                f"{self.config.folder!r} sees at most {most:,}: cut them into shorter ones."
            )
        ends = torch.tensor(self.structure["ends"])
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("ends_inside", ends[ends < self.tokens], persistent=False)

    @torch.no_grad()
    def _refuse_seeing_ahead(self, told: Tensor) -> None:
        """The last token may change nothing of what is ``told`` before it, of one row."""
        size = self.structure["size"]
        count = min(PROBED_TOKENS, self.capacity)
        if size < 2 or count < 2:
            return
        first = torch.randint(size, (1, count), generator=stream(0, "probe"))
        other = first.clone()
        other[:, -1] = (other[:, -1] + 1) % size
        one, two = (self._logits(each, told) for each in (first, other))
        if one.shape[-1] != size:
            raise ValueError(
                f"The network in {self.config.folder!r} tells {one.shape[-1]:,} tokens, its "
                f"config.json {size:,}."
            )
        apart = (one[:, :-1] - two[:, :-1]).abs().max()
        if not bool(apart <= PROBE_TOLERANCE * (1 + one.abs().max())):  # also where it is no number
            raise ValueError(
                f"The network in {self.config.folder!r} is no causal language model: what it tells "
                "of a token depends on those behind it."
            )

    def notices(self, event: Event) -> list[str]:
        """What strings as long as may be stand for."""
        return [
            f"Strings may have up to {self.capacity:,} tokens: what the network gives to longer "
            "ones is given to their first tokens."
        ]

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Each known token, and the first known end; what follows the end is certain."""
        return self._log_given(event, self._told_of(context, event.rows))

    def _log_given(self, event: Event, told: Tensor) -> Float[Tensor, " B"]:
        """log p of rows given what the network is told of them."""
        target, valid = targets_of(event, self.tokens, self.capacity)
        total = torch.zeros(event.rows, dtype=torch.float64)
        for rows, places in about_equally_long(valid, self._most_at_once):
            logits = self._logits(self._inputs(event, rows, places), told[rows])
            cells = self._log_of(logits, target[rows, :places])
            known = torch.where(valid[rows, :places], cells, 0.0)
            total = total.index_put((rows,), known.sum(1))
        return total

    @property
    def _most_at_once(self) -> int:
        """Positions that the network sees in one call."""
        return max(1, MAX_LOGITS_AT_ONCE // int(self.structure["size"]))

    def _inputs(self, event: Event, rows: Tensor, places: int) -> Int[Tensor, "b T"]:
        """The token that begins a text, then all but the last of those that are told."""
        return torch.cat([self._start(len(rows)), event.value[rows, : places - 1]], 1)

    def _start(self, rows: int) -> Int[Tensor, "b 1"]:
        return torch.full((rows, 1), int(self.structure["start"]))

    def _log_of(
        self, logits: Float[Tensor, "b T U"], target: Int[Tensor, "b T"]
    ) -> Float[Tensor, "b T"]:
        """log p of the token at each place, some places at a time."""
        places = max(1, MAX_DOUBLES_AT_ONCE // (len(logits) * logits.shape[2]))
        parts = zip(logits.split(places, 1), target.split(places, 1), strict=True)
        each = [self._log_next(part).gather(2, code[..., None])[..., 0] for part, code in parts]
        return torch.cat(each, 1)

    def _log_next(self, logits: Float[Tensor, "b T U"]) -> Float[Tensor, "b T V1"]:
        """log p of each code and, last, of the end."""
        log_p = logits.double().log_softmax(2)
        end = log_p.index_select(2, self.ends).logsumexp(2, keepdim=True)
        inside = log_p[..., : self.tokens].index_fill(2, self.ends_inside, -torch.inf)
        return torch.cat([inside, end], 2)

    def _certain_end(self, rows: int) -> Float[Tensor, "B V1"]:
        """log p of what follows the last token that a string may have."""
        certain = torch.full((rows, self.tokens + 1), -torch.inf, dtype=torch.float64)
        certain[:, -1] = 0.0
        return certain

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        with seeded(generator or stream(0, "loss")):  # dropout takes no other generator
            return -self._log_prob(event, context, None)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Event:
        """What is known, then token by token until each row has ended."""
        return self._continued(event, context, gumbel(generator))

    def _mode(self, event: Event, context: Any) -> Event:
        """What is known, then the most probable token at each place."""
        return self._continued(event, context, likeliest)

"""What densities of causal language models share: steps with a memory, continuations, readings.

    log p(x_1, ..., x_n) = sum_{t = 1..n} log p(x_t | s, x_<t)
                           + log sum_{e in E} p(e | s, x_1, ..., x_n)

C. Shannon (1951), Prediction and entropy of printed English, sections 1 and 2. In nats.

Shape letters: B rows, T positions of the longest row, V tokens, W width.

>>> issubclass(CausalStrings, TypicalByReadings)
True
"""

import abc
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core import Capabilities, Event, Record, Resumable
from conjoin.core.shapes import Float, Int
from conjoin.families.autoregressive.continuation import about_equally_long, continued, targets_of
from conjoin.families.pretrained.strings import StringsOfNetwork
from conjoin.families.pretrained.typical import TypicalByReadings

__all__ = ["CausalStrings", "StringState"]


@dataclass(frozen=True)
class StringState(Resumable):
    """What a continuation needs: the tokens so far, the first one included, of which ``seen`` are
    in the network's memory."""

    tokens: Tensor  # (B, 1 + n)
    seen: int
    cache: Any

    @property
    def place(self) -> int:
        """How many tokens of the string there are."""
        return self.tokens.shape[1] - 1

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows; a state of the same rows is the same one."""
        if torch.equal(rows, torch.arange(len(self.tokens), device=rows.device)):
            return self
        cache = None if self.cache is None else self._rows_of_cache(rows)
        return replace(self, tokens=self.tokens[rows], cache=cache)

    @abc.abstractmethod
    def _rows_of_cache(self, rows: Int[Tensor, " b"]) -> Any:
        """The memory of some of the rows."""


class CausalStrings(StringsOfNetwork, TypicalByReadings):
    """Exact log p of strings and of their beginnings, exact continuations."""

    width: int
    state_class: type[Any]  # of states

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            marginals="prefix",
            conditionals="prefix",
            mode="approximate",
            features=True,
            typical=True,
            step=True,
        )

    @abc.abstractmethod
    def _advanced(self, state: Any, *, every: bool) -> tuple[Any, Tensor]:
        """The state that has seen all of its tokens, and the logits of what follows: of the last
        one, or of ``every`` new one."""

    @abc.abstractmethod
    def _hidden_and_logits(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        """The last hidden layer, and the logits of what follows each."""

    @abc.abstractmethod
    def _layers(self, tokens: Int[Tensor, "b T"]) -> tuple[Tensor, Tensor]:
        """A hidden layer in the middle, and the last one."""

    def _takes_several(self, state: Any) -> bool:
        """Whether the network goes on from its memory by several tokens in one call."""
        return True

    def _told_of(self, context: Record, rows: int) -> Tensor:
        """Nothing."""
        return torch.zeros(rows, 0)

    # ------------------------------------------------------------------ draws

    def _begin(self, rows: int, context: Record) -> StringState:
        return self.state_class(self._start(rows), 0, None)

    def _step(self, state: Any, token: Tensor | None) -> tuple[Any, Float[Tensor, "B V1"]]:
        if token is not None:
            state = replace(state, tokens=torch.cat([state.tokens, token[:, None]], 1))
        if state.place >= self.capacity:
            return state, self._certain_end(len(state.tokens))
        state, logits = self._advanced(state, every=False)
        return state, self._log_next(logits[:, -1:])[:, 0]

    def _follow(
        self, state: Any, log_next: Tensor, tokens: Int[Tensor, "B T"]
    ) -> tuple[Any, Tensor, Float[Tensor, "B T"]]:
        """Many tokens in one call; the last by a step, which knows where strings must end."""
        told = []
        for part in tokens[:, :-1].split(max(1, self._most_at_once // len(tokens)), 1):
            if not part.shape[1]:
                continue
            told.append(log_next.gather(1, part[:, :1]))
            if not self._takes_several(state):  # seen anew from the first one on
                state = replace(state, seen=0, cache=None)
            state = replace(state, tokens=torch.cat([state.tokens, part], 1))
            state, logits = self._advanced(state, every=True)
            logits = logits[:, -part.shape[1] :]
            if part.shape[1] > 1:
                told.append(self._log_of(logits[:, :-1], part[:, 1:]))
            log_next = self._log_next(logits[:, -1:])[:, 0]
        told.append(log_next.gather(1, tokens[:, -1:]))
        state, log_next = self._step(state, tokens[:, -1])
        return state, log_next, torch.cat(told, 1)

    def _continued(self, event: Event, context: Record, choose: Any) -> Event:
        """The beginning that all rows have is seen in one call."""
        if not event.rows:  # networks take no empty batch
            return Event(event.value, torch.ones_like(event.mask), event.present)
        common = int(event.known.all(0).long().cumprod(0).sum())
        if common < 2:
            return continued(self, event, self._begin(event.rows, context), choose)
        tokens = torch.cat([self._start(event.rows), event.value[:, : common - 1]], 1)
        state, _ = self._advanced(self.state_class(tokens, 0, None), every=False)
        return continued(self, event, state, choose, common)

    # ------------------------------------------------------------------ features

    def _features(self, event: Event) -> Float[Tensor, "B W"]:
        """The mean over positions of the last hidden layer."""
        return self._seen(event)[0]

    def _seen(self, event: Event) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B 2"]]:
        """Features, and the mean surprise of a token (nats) with log(1 + length)."""
        target, valid = targets_of(event, self.tokens, self.capacity)
        length = event.known.sum(1)
        features = torch.zeros(event.rows, self.width, dtype=torch.float64)
        surprise = torch.zeros(event.rows, dtype=torch.float64)
        some = torch.arange(valid.shape[1]) < length[:, None] + 1  # the first token, and each known
        for rows, places in about_equally_long(some, self._most_at_once):
            inputs = self._inputs(event, rows, places)
            hidden, logits = self._hidden_and_logits(inputs)
            counted = some[rows, :places].double()[..., None]
            features[rows] = (hidden.double() * counted).sum(1) / counted.sum(1)
            cells = self._log_of(logits, target[rows, :places])
            surprise[rows] = -torch.where(valid[rows, :places], cells, 0.0).sum(1)
        plain = torch.stack([surprise / (length + 1), (length + 1.0).log()], 1)
        return features, plain

    def _features_at(self, event: Event, places: Int[Tensor, "B P"]) -> Float[Tensor, "B P F"]:
        """A hidden layer in the middle and the last one, at the last token of each beginning."""
        out = torch.zeros(*places.shape, 2 * self.width, dtype=torch.float64)
        some = torch.arange(self.capacity + 1) <= places.amax(1, keepdim=True)
        for rows, count in about_equally_long(some, self._most_at_once):
            layers = torch.cat(self._layers(self._inputs(event, rows, count)), 2).double()
            out[rows] = layers[torch.arange(len(rows))[:, None], places[rows]]
        return out

    def _readings_of(self, event: Event) -> list[Tensor]:
        """The features, and the surprise of a token with the length."""
        return list(self._seen(event))

    def _untaught(self, readings: list[Tensor]) -> Float[Tensor, " B"]:
        """By how little a token surprises."""
        return -readings[1][:, 0]

"""What a model has read is read once: the next turn of a conversation begins with all turns before
it, so the keys and values of the longest beginning that a text shares with an earlier one serve
again.

States of a density that are ``Resumable`` are kept, those asked about last, up to so many bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Resumable

__all__ = ["Prefixes"]

MAX_BYTES = 1 << 28  # of all states that are kept
MIN_SHARED = 4  # tokens, below which nothing is gained


@dataclass(frozen=True)
class _Held:
    """A text that was read: its codes, log p of each, and the state behind them."""

    codes: tuple[int, ...]
    told: tuple[float, ...]
    state: Resumable

    def shared(self, codes: Sequence[int]) -> int:
        """How many codes the two begin with alike."""
        pairs = zip(self.codes, codes, strict=False)
        return next(
            (place for place, (one, two) in enumerate(pairs) if one != two),
            min(len(self.codes), len(codes)),
        )


class Prefixes:
    """The texts that a density has read.

    Parameters
    ----------
    density
        Of strings, drawn token by token.
    most_bytes
        Of memory that states may take; 0 keeps none.
    """

    def __init__(self, density: Density, most_bytes: int = MAX_BYTES) -> None:
        self._density = density
        self._most = most_bytes
        self._held: list[_Held] = []  # the one asked about last is the last
        self.reused = 0  # tokens that were not read again

    def read(self, codes: Sequence[int]) -> tuple[Any, Tensor, list[float]]:
        """The state behind a text, log p of each next token, and log p of each of its own."""
        density = self._density
        found = max(self._held, key=lambda held: held.shared(codes), default=None)
        count = 0 if found is None else found.shared(codes)
        told: list[float] = []
        if found is None or count < MIN_SHARED:
            count = 0
            state, log_next = density.step(density.begin(1))
        else:
            token = torch.tensor([codes[count - 1]])
            state, log_next = density.step(found.state.cut(count - 1), token)
            told = list(found.told[:count])
            self.reused += count
        if count < len(codes):
            rest = torch.tensor([list(codes[count:])])
            state, log_next, new = density.follow(state, log_next, rest)
            told += new[0].tolist()
        self.keep(codes, told, state)
        return state, log_next, told

    def keep(self, codes: Sequence[int], told: Sequence[float], state: Any) -> None:
        """Remember as much of a text as the state has seen, in place of those that it begins
        with."""
        if not self._most or not isinstance(state, Resumable) or state.place < MIN_SHARED:
            return
        new = _Held(tuple(codes[: state.place]), tuple(told[: state.place]), state)
        others = [held for held in self._held if held.shared(new.codes) < len(held.codes)]
        self._held = [*others, new]
        while self._held and sum(held.state.bytes for held in self._held) > self._most:
            self._held.pop(0)

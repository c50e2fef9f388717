"""A causal transformer over tokens whose weights all positions share.

    h_t = transformer(start, x_1, ..., x_(t-1); c),      log p(x_t = v | x_<t, c) = (R h_t)_v

A. Radford et al. (2018), Improving language understanding by generative pre-training. The context c
stands beside each token. Keys and values of earlier positions are kept, so that one more token
costs one position.

Shape letters: B rows, T positions, C of the context, V tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float, Int
from conjoin.nets.body import Body
from conjoin.nets.transformer import Transformer

__all__ = ["SequenceNet"]


class SequenceNet(Body):
    """(B, T) tokens and (B, C) -> (B, T + 1, V + 1) logits of each next token; the last is the
    end."""

    def __init__(
        self, positions: int, tokens: int, context: int, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed = nn.Embedding(tokens + 1, width)  # the last one: the start
        self.trunk = Transformer(
            positions + 1, width + context, tokens + 1, width, blocks, dropout=dropout
        )
        self.double()

    @property
    def blocks(self) -> nn.ModuleList:
        return self.trunk.blocks

    def compute(
        self, token: Int[Tensor, "B T"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T1 V1"]:
        return self.trunk.compute(self._inputs(self._started(token), context))

    def features(
        self, token: Int[Tensor, "B T"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T1 H"]:
        """What each position has learned to see, float64."""
        (context,) = self.cast(context)
        return self.trunk.hidden(self._inputs(self._started(token), context)).double()

    def step(
        self, token: Int[Tensor, " B"] | None, context: Float[Tensor, "B C"], cache: Any
    ) -> tuple[Float[Tensor, "B V1"], Any]:
        """Logits of the next token, given the last one (None at the start) and the cache."""
        rows = len(context)
        start = torch.full((rows,), self.tokens)
        (context,) = self.cast(context)
        inputs = self._inputs((start if token is None else token)[:, None], context)
        return self.trunk.step(inputs[:, 0], cache)

    def _started(self, token: Int[Tensor, "B T"]) -> Int[Tensor, "B T1"]:
        start = torch.full((len(token), 1), self.tokens)
        return torch.cat([start, token], 1)

    def _inputs(
        self, token: Int[Tensor, "B T"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T I"]:
        beside = context[:, None].expand(-1, token.shape[1], -1)
        return torch.cat([self.embed(token), beside], 2)

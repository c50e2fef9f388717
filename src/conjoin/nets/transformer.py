"""A small transformer over the variables of a row or the pixels of an image: causal, or seeing both
ways.

    h <- h + attention(layernorm(h)),   h <- h + mlp(layernorm(h))

A. Vaswani et al. (2017), Attention is all you need; layer norms first as in R. Xiong et al. (2020),
On layer normalization in the transformer architecture. A causal body can be stepped: the keys and
values of earlier positions are kept, so that one more position costs one position.

Shape letters: B rows, T positions, I inputs of a position, H width, O outputs, N heads.
"""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.nets.body import Body

__all__ = ["Block", "Transformer"]

Cache = list[tuple[Tensor, Tensor]]  # keys and values (B, N, t, H / N) of each block


class Block(nn.Module):
    """Attention over the positions, then a network of each; ``attend`` gives the keys and values
    too."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.before = nn.LayerNorm(width)
        self.between = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(
        self, h: Tensor, causal: bool, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        seen, both = self.attend(self.before(h), causal, past)
        h = h + seen
        return h + self.mlp(self.between(h)), both

    def attend(
        self, h: Tensor, causal: bool, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            key = torch.cat([past[0], key], 2)
            value = torch.cat([past[1], value], 2)
        rate = self.dropout if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=rate, is_causal=causal and past is None
        )
        return self.out(seen.transpose(1, 2).flatten(2)), (key, value)


class Transformer(Body):
    """(B, T, I) -> (B, T, O). The last layer starts at zero."""

    def __init__(
        self,
        positions: int,
        inputs: int,
        outputs: int,
        width: int,
        blocks: int,
        heads: int = 4,
        causal: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.first = nn.Linear(inputs, width)
        self.position = nn.Parameter(0.02 * torch.randn(positions, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.double()

    def hidden(self, x: Tensor) -> Tensor:
        """(B, T, H) after the last block."""
        h = self.first(x) + self.position[: x.shape[1]]
        for block in self.blocks:
            h, _ = block(h, self.causal)
        out: Tensor = self.norm(h)
        return out

    def compute(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T O"]:
        out: Tensor = self.last(self.hidden(x))
        return out

    def features(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T H"]:
        """What the body has learned to see, float64."""
        return self.hidden(*self.cast(x)).double()

    def step(
        self, x: Float[Tensor, "B I"], cache: Any = None
    ) -> tuple[Float[Tensor, "B O"], Cache]:
        """The output at the next position, given its input and the cache of those before it (None
        at the first)."""
        place = 0 if cache is None else cache[0][0].shape[2]
        h = (self.first(*self.cast(x)) + self.position[place])[:, None]
        kept = []
        for index, block in enumerate(self.blocks):
            h, both = block(h, self.causal, None if cache is None else cache[index])
            kept.append(both)
        return self.last(self.norm(h))[:, 0].double(), kept

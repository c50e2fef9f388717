"""A transformer that predicts each variable from those before it, with a way to look at near cells
directly.

    h_t = transformer_t(token_1, ..., token_t),
    token_t = E_t [cells right before t, above t, ...],    out_t = R_t h_t

A. Radford et al. (2018), Improving language understanding by generative pre-training: a decoder
alone. Where all variables are alike (pixels), E and R are shared by all positions; where they are
not (columns of a table), each position has its own.

Shape letters: B rows, D variables in the order of the scan, N cells of a token, I inputs of a cell,
C of the context, H width, W outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float, Int
from conjoin.nets.body import Body
from conjoin.nets.transformer import Transformer

__all__ = ["CausalNet"]


class CausalNet(Body):
    """(B, D, I) and (B, C) -> (B, D, W). ``before`` (D, N): the cells that make the token of each
    position, all of them earlier; -1 for none, where a learned ``edge`` stands. Outputs start at
    zero."""

    before: Tensor

    def __init__(
        self,
        before: Int[Tensor, "D N"],
        inputs: int,
        outputs: int,
        context: int,
        width: int,
        blocks: int,
        drop: float,
        shared: bool,
    ) -> None:
        super().__init__()
        size, near = before.shape
        assert bool((before < torch.arange(size)[:, None]).all()), "a token may look back only"
        self.register_buffer("before", before % (size + 1), persistent=False)
        groups = 1 if shared else size
        self.embed = nn.Parameter(torch.randn(groups, near * inputs, width) / near**0.5)
        self.edge = nn.Parameter(0.1 * torch.randn(inputs))
        self.trunk = Transformer(
            size,
            width + context,
            outputs if shared else width,
            width,
            blocks,
            causal=True,
            dropout=drop,
        )
        self.read = None if shared else nn.Parameter(torch.randn(size, width, outputs) / width**0.5)
        self.double()

    def compute(
        self, cells: Float[Tensor, "B D I"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B D W"]:
        return self._read(self.trunk.compute(self._tokens(cells, context)), slice(None))

    def features(
        self, cells: Float[Tensor, "B D I"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B H"]:
        """The mean over positions of the last hidden layer, and the last cell, which no position
        sees; float64."""
        hidden = self.trunk.hidden(self._tokens(*self.cast(cells, context))).mean(1)
        return torch.cat([hidden.double(), cells[:, -1]], 1)

    def step(
        self, cells: Float[Tensor, "B D I"], context: Float[Tensor, "B C"], cache: Any = None
    ) -> tuple[Float[Tensor, "B W"], Any]:
        """The outputs at the next position, given the cells so far (later ones are not looked at)
        and the cache (None at first)."""
        place = 0 if cache is None else cache[0][0].shape[2]
        cells, context = self.cast(cells, context)
        out, cache = self.trunk.step(
            self._tokens(cells, context, slice(place, place + 1))[:, 0], cache
        )
        return self._read(out[:, None], slice(place, place + 1))[:, 0].double(), cache

    def _tokens(
        self,
        cells: Float[Tensor, "B D I"],
        context: Float[Tensor, "B C"],
        part: slice = slice(None),
    ) -> Float[Tensor, "B d J"]:
        padded = torch.cat([cells, self.edge.expand(len(cells), 1, -1)], 1)
        near = padded[:, self.before[part]].flatten(2)  # (B, d, N I)
        weight = self.embed[part] if len(self.embed) > 1 else self.embed
        embedded = (near.transpose(0, 1) @ weight).transpose(0, 1)
        return torch.cat([embedded, context[:, None].expand(-1, embedded.shape[1], -1)], 2)

    def _read(self, h: Tensor, part: slice) -> Tensor:
        if self.read is None:
            return h
        return (h.transpose(0, 1) @ self.read[part].to(h)).transpose(0, 1)

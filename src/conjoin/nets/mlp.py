"""A residual multilayer perceptron: the plain body for rows of a table.

    h <- h + W2 gelu(W1 layernorm(h)),   out = W h
    (K. He et al. (2016), Identity mappings in deep residual networks)

Shape letters: B rows, I inputs, H width, O outputs.
"""

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.nets.body import Body

__all__ = ["Mlp"]


class Mlp(Body):
    """``blocks`` residual blocks of ``width``; ``zero``: the last layer starts at zero, so that the
    output does."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        blocks: int = 2,
        dropout: float = 0.0,
        zero: bool = True,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(width, width),
            )
            for _ in range(blocks)
        )
        out = nn.Linear(width, outputs)
        self.last = nn.Sequential(nn.LayerNorm(width), out)
        if zero:
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
        self.double()

    def hidden(self, x: Tensor) -> Tensor:
        """(B, H) the last hidden layer."""
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return h

    def compute(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        out: Tensor = self.last(self.hidden(x))
        return out

    def features(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B H"]:
        """What the body has learned to see in each row, float64."""
        return self.hidden(*self.cast(x)).to(torch.float64)

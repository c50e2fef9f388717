"""A residual convolutional network that keeps the grid: one vector in and one vector out for each
pixel.

    h <- h + conv(gelu(conv(layernorm(h)))),   out = W layernorm(h)

K. He et al. (2016), Identity mappings in deep residual networks, section 2, with norms over the
channels of a pixel. A learned map added to the first layer says where on the grid a pixel is; every
other block looks twice as far (dilation 2).

Shape letters: B rows, T pixels, I inputs and O outputs of a pixel, H width.
"""

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.nets.body import Body

__all__ = ["Convolution"]


class _Block(nn.Module):
    def __init__(self, width: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv2d(width, width, 3, padding=reach, dilation=reach)
        self.drop = nn.Dropout2d(dropout)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(self.drop(nn.functional.gelu(self.first(self.norm(h)))))
        return out


class Convolution(Body):
    """(B, T, I) -> (B, T, O) on a grid of ``size`` = (height, width). The last layer starts at
    zero."""

    def __init__(
        self,
        size: tuple[int, int],
        inputs: int,
        outputs: int,
        width: int,
        blocks: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(width, *size))
        self.blocks = nn.ModuleList(
            _Block(width, 1 + index % 2, dropout) for index in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.double()

    def hidden(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T H"]:
        """After the last block."""
        h = self.first(x.transpose(1, 2).unflatten(2, self.size)) + self.position
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.norm(h.flatten(2).transpose(1, 2))
        return out

    def compute(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T O"]:
        out: Tensor = self.last(self.hidden(x))
        return out

    def features(self, x: Float[Tensor, "B T I"]) -> Float[Tensor, "B T H"]:
        """What the body has learned to see, float64."""
        return self.hidden(*self.cast(x)).double()

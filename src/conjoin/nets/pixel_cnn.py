r"""A gated PixelCNN: convolutions that see only what is above and left of a pixel.

    v_l = v_(l-1) + gate(W_2x3 f(v_(l-1)) + e),                    rows above only
    h_l = h_(l-1) + gate(W_1x2 f(h_(l-1)) + U f(v_l) + e'),
    and the pixels to the left;  gate(a, b) = a sigma(b),  f an elu

A. van den Oord et al. (2016), Conditional image generation with PixelCNN decoders, equations 1 and
2, with residual blocks on both paths and dilations 1, 2, 4 (F. Yu and V. Koltun (2016), Multi-scale
context aggregation). e and e' are embeddings of the class. A channel is conditioned on the channels
before it of the same pixel. ``draw`` goes pixel by pixel and caches activations.

Shape letters: B rows, C channels, H and W sides, F features, T conditioning numbers, P parameters
of a pixel's channel.

>>> net = PixelCnn(1, 0, 5, width=8, blocks=2)
>>> net(torch.zeros(2, 1, 6, 4).double(), torch.zeros(2, 0).double()).shape
torch.Size([2, 24, 5])
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu, pad

from conjoin.core.shapes import Float
from conjoin.nets.body import Body

__all__ = ["PixelCnn"]

DILATIONS = (1, 2, 4)


def _gated(u: Tensor) -> Tensor:
    a, b = u.chunk(2, 1)
    return a * b.sigmoid()


class PixelCnn(Body):
    """Images (B, C, H, W) and numbers (B, T) to (B, C H W, P), the channels one after the other."""

    def __init__(
        self, channels: int, told: int, outputs: int, width: int, blocks: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.holes = [DILATIONS[block % len(DILATIONS)] for block in range(blocks)]
        self.above = nn.Conv2d(channels + 1, width, (1, 3), padding=(0, 1))
        self.left = nn.Conv2d(channels + 1, width, 1)
        self.down = nn.ModuleList(
            nn.Conv2d(width, 2 * width, (2, 3), padding=(0, hole), dilation=hole)
            for hole in self.holes
        )
        self.along = nn.ModuleList(
            nn.Conv2d(width, 2 * width, (1, 2), dilation=hole) for hole in self.holes
        )
        self.across = nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in self.holes)
        self.told = (
            nn.ModuleList(nn.Linear(told, 4 * width, bias=False) for _ in self.holes)
            if told
            else None
        )
        self.drop = nn.Dropout(dropout)
        self.mix = nn.ModuleList(
            nn.Conv2d(width + before, 2 * width, 1) for before in range(channels)
        )
        self.last = nn.ModuleList(nn.Conv2d(2 * width, outputs, 1) for _ in range(channels))
        for weight in self.last.parameters():
            nn.init.zeros_(weight)
        self.double()

    def compute(
        self, x: Float[Tensor, "B C H W"], told: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B D P"]:
        h = self._seen(x, told)
        each = [self._of_channel(h, x[:, :channel], channel) for channel in range(x.shape[1])]
        return torch.stack(each, 1).flatten(3).transpose(2, 3).flatten(1, 2)

    def features(
        self, x: Float[Tensor, "B C H W"], told: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B F"]:
        """The mean over the pixels of what is seen before each of them."""
        return self._seen(*self.cast(x, told)).mean((2, 3)).double()

    def _seen(self, x: Tensor, told: Tensor) -> Float[Tensor, "B F H W"]:
        marked = _marked(x)
        v = self.above(pad(marked, (0, 0, 1, 0))[:, :, :-1])
        h = self.left(pad(marked, (1, 0))[..., :-1])
        for block, hole in enumerate(self.holes):
            above, before = self._heard(block, told)
            v = v + _gated(self.drop(self.down[block](pad(elu(v), (0, 0, hole, 0)))) + above)
            u = self.along[block](pad(elu(h), (hole, 0)))
            h = h + _gated(self.drop(u + self.across[block](elu(v))) + before)
        return elu(h)

    def _heard(self, block: int, told: Tensor) -> tuple[Any, Any]:
        return (
            (0.0, 0.0)
            if self.told is None
            else self.told[block](told)[:, :, None, None].chunk(2, 1)
        )

    def _of_channel(self, h: Tensor, before: Tensor, channel: int) -> Tensor:
        """(B, P, H, W) of a channel, where the channels before it are known."""
        out: Tensor = self.last[channel](elu(self.mix[channel](torch.cat([h, before], 1))))
        return out

    @torch.no_grad()
    def draw(
        self,
        shape: tuple[int, int, int, int],
        told: Float[Tensor, "B T"],
        pick: Callable[[int, Tensor], Tensor],
    ) -> Float[Tensor, "B C H W"]:
        """New images, pixel by pixel: ``pick(d, parameters)`` (B, P) to (B,), the number of
        variable d as the network sees it."""
        (told,) = self.cast(told)
        (rows, channels, height, width) = shape
        x = torch.zeros(shape, dtype=told.dtype)
        heard = [self._heard(block, told) for block in range(len(self.holes))]
        # elu(v_l)
        kept = [x.new_zeros(rows, self.left.out_channels, height, width) for _ in self.holes]
        for row in range(height):
            v = self.above(
                _marked(x[:, :, row - 1 : row])
                if row
                else x.new_zeros(rows, channels + 1, 1, width)
            )
            below = []
            for block, hole in enumerate(self.holes):
                kept[block][:, :, row] = elu(v)[:, :, 0]
                pair = torch.stack(
                    [
                        kept[block][:, :, row - hole]
                        if row >= hole
                        else torch.zeros_like(v[:, :, 0]),
                        kept[block][:, :, row],
                    ],
                    2,
                )
                layer: Any = self.down[block]
                u = conv2d(pair, layer.weight, layer.bias, padding=(0, hole), dilation=(1, hole))
                v = v + _gated(u + heard[block][0])
                below.append(self.across[block](elu(v)))
            self._draw_row(x, row, below, [each for _, each in heard], pick)
        return x.double()

    def _draw_row(
        self,
        x: Tensor,
        row: int,
        below: list[Tensor],
        heard: list[Any],
        pick: Callable[[int, Tensor], Tensor],
    ) -> None:
        """One row of x, in place; ``below`` is U v_l + bias of each block."""
        _, channels, height, width = x.shape
        # elu(h_l)
        kept = [x.new_zeros(len(x), self.left.out_channels, 1, width) for _ in self.holes]
        for column in range(width):
            h = self.left(
                _marked(x[:, :, row : row + 1, column - 1 : column])
                if column
                else x.new_zeros(len(x), channels + 1, 1, 1)
            )
            for block, hole in enumerate(self.holes):
                kept[block][..., column] = elu(h)[..., 0]
                before = (
                    kept[block][..., column - hole]
                    if column >= hole
                    else torch.zeros_like(h[..., 0])
                )
                layer: Any = self.along[block]
                u = conv2d(
                    torch.stack([before, kept[block][..., column]], 3), layer.weight, layer.bias
                )
                h = h + _gated(u + below[block][..., column : column + 1] + heard[block])
            seen = elu(h)
            for channel in range(channels):
                params = self._of_channel(
                    seen, x[:, :channel, row : row + 1, column : column + 1], channel
                )[:, :, 0, 0]
                place = (channel * height + row) * width + column
                x[:, channel, row, column] = pick(place, params.double()).to(x.dtype)


def _marked(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B G H W"]:
    """With a channel of ones, by which the network knows the edge."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)

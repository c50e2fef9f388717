r"""A U-Net for pictures that is lean on a CPU: pixels are folded into channels, and all but its
edges runs in bfloat16 where that is faster.

    h_0 = conv(unshuffle(x)),   h_(l+1) = down(block(h_l, e)),   u_l = block([up(u_(l+1)), h_l], e),
    out = shuffle(conv(u_0))
    block(h, e) = h + conv(silu(norm(conv(silu(norm(h)))) (1 + a(e)) + b(e)))

O. Ronneberger, P. Fischer and T. Brox (2015), U-Net, figure 1; blocks and their modulation by the
noise level and the class as in P. Dhariwal and A. Nichol (2021), Diffusion models beat GANs on
image synthesis, section 3.1; pixels into channels as in W. Shi et al. (2016), Real-time single
image super-resolution, section 3.2. Norms are over the channels of a pixel. Parameters stay
float32.

Shape letters: B rows, C channels, H and W sides, E embedding, F features.

>>> net = Unet(1, (28, 28), 10, size=0.25)
>>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), None).shape
torch.Size([2, 1, 28, 28])
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.nets.conditioned import EMBEDDING_WIDTH, Conditioned
from conjoin.nets.decoder import HiddenConvolution

__all__ = ["ChannelNorm", "ResidualBlock", "Unet"]

BASE_CHANNELS = 64  # channels of the first level where ``size`` is 1
MAX_LOWEST_SIDE_PIXELS = 8  # pixels a side at the lowest level, at most


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a pixel; the layout stays channels-last."""

    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.layer_norm(
            h.permute(0, 2, 3, 1),
            self.normalized_shape,
            self.weight.to(h.dtype),
            self.bias.to(h.dtype),
            self.eps,
        ).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two convolutions, beside what goes in; the embedding scales and shifts what is between."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.first = HiddenConvolution(before, after, 3, padding=1)
        self.second = HiddenConvolution(after, after, 3, padding=1)
        self.norms = nn.ModuleList([ChannelNorm(before), ChannelNorm(after)])
        self.modulation = nn.Linear(EMBEDDING_WIDTH, 2 * after)
        self.drop = nn.Dropout(dropout)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        inner = (
            self.norms[1](self.first(nn.functional.silu(self.norms[0](h)))) * (1 + scale) + shift
        )
        out: Tensor = self.skip(h) + self.second(self.drop(nn.functional.silu(inner)))
        return out


class Unet(Conditioned):
    """``size`` scales the channels, ``blocks`` is their number at each level."""

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        classes: int,
        size: float = 1.0,
        blocks: int = 1,
        dropout: float = 0.0,
        told: int = 0,
        shown: int | None = None,
    ) -> None:
        super().__init__(classes, told)
        side = max(sides)
        self.patch = 1 if side < 16 else 2 if side <= 40 else 4 if side <= 96 else 8
        levels = max(1, math.ceil(math.log2(side / self.patch / MAX_LOWEST_SIDE_PIXELS)) + 1)
        multiple = self.patch * 2 ** (levels - 1)
        self.sides = sides
        self.padding = [-each % multiple for each in sides]
        widths = [
            max(8, round(BASE_CHANNELS * size / 8) * 8) * min(2**level, 4)
            for level in range(levels)
        ]
        counts = [blocks] * (levels - 1) + [blocks + 1]
        self.width = 2 * sum(widths)  # numbers of ``features``
        self.stem = nn.Conv2d((shown or channels) * self.patch**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, width, dropout) for _ in range(count))
            for width, count in zip(widths, counts, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(width * (2 if index == 0 else 1), width, dropout)
                for index in range(blocks)
            )
            for width in widths[:-1]
        )
        self.norm = ChannelNorm(widths[0])
        self.last = nn.Conv2d(widths[0], channels * self.patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]:
        embedding = self.embedding(noise, code)
        levels = self._encode(x, embedding)
        h = levels.pop()
        for level in range(len(levels) - 1, -1, -1):
            h = torch.cat(
                [nn.functional.interpolate(self.up[level](h), scale_factor=2), levels[level]], 1
            )
            for block in self.decoder[level]:  # type: ignore[attr-defined]
                h = block(h, embedding)
        out = nn.functional.pixel_shuffle(self.last(nn.functional.silu(self.norm(h))), self.patch)
        return out[..., : self.sides[0], : self.sides[1]].float()

    def _maps(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Of the encoder."""
        return [h.flatten(2).transpose(1, 2) for h in self._encode(x, embedding)]

    def _encode(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """The last state of every level."""
        x = (
            nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
            if any(self.padding)
            else x
        )
        h = self.stem(
            nn.functional.pixel_unshuffle(x, self.patch).contiguous(
                memory_format=torch.channels_last
            )
        )
        levels = []
        for level, blocks in enumerate(self.encoder):
            h = self.down[level - 1](h) if level else h
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            levels.append(h)
        return levels

r"""An autoencoder of pictures: few numbers at few places, and what each pixel may be given these.

    m = E(x),     p(x | z) = prod_d P(x_d | D(z)_d),
    P(k) = (1 - e) (s((k + 1/2 - a) / b) - s((k - 1/2 - a) / b)) + e / L

E and D are convolutions; pixels of a patch are channels of one place. P is a logistic distribution,
cut into grey levels, of which the first and the last take the tails (T. Salimans et al. (2017),
PixelCNN++, equation 2), with a little of an even one beside it, so that no level is impossible. s
is the logistic function. All in nats.

Shape letters: B rows, C channels, H and W sides, Z channels of a place, h and w sides of places.

>>> net = PictureAutoencoder((3, 64, 64), levels=256, channels=8, size=0.25)
>>> net.grid
(8, 8, 8)
>>> net.encode(torch.zeros(2, 3, 64, 64)).shape
torch.Size([2, 8, 8, 8])
"""

import math

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Bool, Float
from conjoin.nets.precision import computing_in
from conjoin.nets.unet import ChannelNorm

__all__ = ["PictureAutoencoder", "places_per_side"]

BASE_CHANNELS = 64  # where ``size`` is 1
EVEN_SHARE = 1e-3  # e: of the even distribution of a pixel
START_SCALE = 0.15  # b of a pixel as learning begins, where all levels span 2
MIN_SCALE = 1e-3


def places_per_side(side: int) -> int:
    """Pixels of a side for one place: 8 from 48 pixels on, 4 from 24, 2 from 12, else 1.

    >>> [places_per_side(side) for side in (64, 32, 16, 8)]
    [8, 4, 2, 1]
    """
    return 8 if side >= 48 else 4 if side >= 24 else 2 if side >= 12 else 1


class _Block(nn.Module):
    """Two convolutions beside what goes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([ChannelNorm(width), ChannelNorm(width)])
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.first(nn.functional.silu(self.norms[0](h)))
        out: Tensor = h + self.second(nn.functional.silu(self.norms[1](inner)))
        return out


class PictureAutoencoder(nn.Module):
    """Of pictures of grey levels 0 .. levels - 1; ``channels`` of a place, ``size`` scales the
    hidden ones."""

    def __init__(
        self,
        pixels: tuple[int, int, int],
        levels: int,
        channels: int,
        size: float = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.levels = levels
        self.precision = precision
        whole = places_per_side(max(pixels[1:]))
        self.lower = 2 if whole > 1 else 1
        self.patch = whole // self.lower
        self.padding = [-each % whole for each in pixels[1:]]
        height, wide = ((side + more) // whole for side, more in self._sides())
        self.grid = (channels, height, wide)
        width = max(16, round(BASE_CHANNELS * size / 8) * 8)
        narrow = max(16, width // 2) if self.lower > 1 else width
        self.encoder = nn.Sequential(
            nn.Conv2d(pixels[0] * self.patch**2, narrow, 3, padding=1),
            _Block(narrow),
            nn.PixelUnshuffle(self.lower),
            nn.Conv2d(narrow * self.lower**2, width, 1),
            _Block(width),
            ChannelNorm(width),
            nn.SiLU(),
            nn.Conv2d(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            _Block(width),
            _Block(width),
            nn.Conv2d(width, narrow * self.lower**2, 1),
            nn.PixelShuffle(self.lower),
            _Block(narrow),
            ChannelNorm(narrow),
            nn.SiLU(),
            nn.Conv2d(narrow, 2 * pixels[0] * self.patch**2, 3, padding=1),
            nn.PixelShuffle(self.patch),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _sides(self) -> list[tuple[int, int]]:
        return list(zip(self.pixels[1:], self.padding, strict=True))

    def encode(self, value: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z h w"]:
        """m of grey levels."""
        x = 2 * value.float() / max(self.levels - 1, 1) - 1
        if any(self.padding):
            x = nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        x = nn.functional.pixel_unshuffle(x, self.patch)
        with computing_in(self.precision, x.device.type):
            out: Tensor = self.encoder(x.contiguous(memory_format=torch.channels_last))
        return out.float()

    def decode(
        self, z: Float[Tensor, "B Z h w"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        """a and b of each pixel, in grey levels."""
        with computing_in(self.precision, z.device.type):
            out = self.decoder(z.contiguous(memory_format=torch.channels_last))
        height, width = self.pixels[1:]
        place, raw = out[..., :height, :width].float().chunk(2, 1)
        half = max(self.levels - 1, 1) / 2
        scale = (raw + math.log(START_SCALE)).clamp(math.log(MIN_SCALE), 3.0).exp()
        return (place + 1) * half, scale * half

    def log_prob(
        self, value: Float[Tensor, "B C H W"], z: Float[Tensor, "B Z h w"]
    ) -> Float[Tensor, "B C H W"]:
        """log P of each pixel, float64."""
        place, scale = (each.double() for each in self.decode(z))
        value = value.double()
        below = (value - 0.5 - place) / scale
        above = below + 1 / scale
        rest = torch.log(-torch.expm1(-1 / scale))
        log_below = nn.functional.logsigmoid(-below).where(value > 0, 0.0)
        log_above = nn.functional.logsigmoid(above).where(value < self.levels - 1, 0.0)
        inner = (value > 0) & (value < self.levels - 1)
        log_p = log_below + log_above + rest.where(inner, 0.0)
        even = torch.full_like(log_p, math.log(EVEN_SHARE / self.levels))
        return torch.logaddexp(log_p + math.log1p(-EVEN_SHARE), even)

    def draw(
        self, z: Float[Tensor, "B Z h w"], generator: torch.Generator | None
    ) -> Float[Tensor, "B C H W"]:
        """Grey levels of p(x | z)."""
        place, scale = (each.double() for each in self.decode(z))
        chance = torch.rand(place.shape, generator=generator, dtype=torch.float64)
        other = torch.rand(place.shape, generator=generator, dtype=torch.float64)
        chance = chance.clamp(1e-12, 1 - 1e-12)
        drawn = (place + scale * (chance.log() - torch.log1p(-chance))).round()
        drawn = drawn.clamp(0, self.levels - 1)
        even = (other / EVEN_SHARE * self.levels).floor()  # where other lies under the even share
        return torch.where(other < EVEN_SHARE, even, drawn)

    def error(
        self,
        value: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        z: Float[Tensor, "B Z h w"],
    ) -> Float[Tensor, " B"]:
        """-log P, the mean over the known pixels."""
        log_p = self.log_prob(value, z) * mask
        return -log_p.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)

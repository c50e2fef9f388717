r"""An autoencoder of pictures whose latents are codes: one of a thousand at each place, and which
of few colours each pixel has given all of them.

    k_i = code of E(patch i),     p(x | k) = prod_d sum_c w_dc(k) prod_j P(x_dj | c),
    P(l | c) = (1 - e) (F((l + 1/2 - c) / v) - F((l - 1/2 - c) / v)) + e / L

E sees one patch alone, so that the code of a patch that is known is known too, and a flat ground
has one code wherever it is; D, which says the weights w, sees all codes around. The d numbers of
E(x) are rounded to few levels each, and a code is one of their combinations: E learns as if it were
not rounded (F. Mentzer et al. (2024), Finite scalar quantization, equation 1; A. van den Oord, O.
Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning). Colours c, and the
deviations v around them, are those of the pixels of the fit
(``conjoin.components.palette``). F is the normal distribution function; the first and the
last level take the tails. All in nats.

Shape letters: B rows, C channels, H and W sides, L grey levels, K colours, Z numbers of a place, h
and w sides of places.

>>> net = PictureCodes((3, 32, 32), levels=256, code_levels=(8, 5, 5, 5), colours=4)
>>> net.grid, net.count
((8, 8), 1000)
>>> code = net.codes(torch.zeros(2, 3, 32, 32))
>>> code.shape, net.log_prob(torch.zeros(2, 3, 32, 32), net.vectors(code)).shape
(torch.Size([2, 8, 8]), torch.Size([2, 32, 32]))
"""

import math

import torch
from torch import Tensor, nn

from conjoin.components.palette import Palette
from conjoin.core import categorical
from conjoin.core.shapes import Bool, Float, Int
from conjoin.nets.body import Body
from conjoin.nets.decoder import HiddenConvolution
from conjoin.nets.picture_autoencoder import places_per_side
from conjoin.nets.precision import computing_in
from conjoin.nets.surprise import pixel_surprise
from conjoin.nets.unet import ChannelNorm
from conjoin.util.memo import TensorMemo

__all__ = ["PictureCodes"]

BASE_CHANNELS = 128  # of a place in the decoder, where ``size`` is 1; the encoder has twice as many
EVEN_SHARE = 1e-5  # e: of the even distribution of a cell; a draw shows few of them
AROUND = 3  # places a side, of which one code alone is decoded
CODES_AT_ONCE = 256  # that are decoded so
LEAST_SHARE = 1e-300  # of a pixel, below which nothing tells codes apart
EDGE = 1e-3  # by which the numbers stay below half of their levels


class _Residual(nn.Module):
    """Two layers beside what goes in; ``sides`` of their kernels."""

    def __init__(self, width: int, sides: int) -> None:
        super().__init__()
        self.net = nn.Sequential()
        for _ in range(2):
            last = HiddenConvolution(width, width, sides, padding=sides // 2)
            self.net.extend([ChannelNorm(width), nn.SiLU(), last])
        nn.init.zeros_(last.weight)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.net(h)
        return out


class _Encoder(Body):
    """(B, C, H, W) -> (B, Z, h, w), each place by its own patch."""

    def __init__(self, channels: int, patch: int, width: int, numbers: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, patch, stride=patch),
            _Residual(width, 1),
            _Residual(width, 1),
            ChannelNorm(width),
            nn.Conv2d(width, numbers, 1),
        )
        self.double()

    def compute(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z h w"]:
        out: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return out


class _Decoder(Body):
    """(B, Z, h, w) -> (B, K, H, W)."""

    def __init__(self, numbers: int, patch: int, width: int, colours: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(numbers, width, 3, padding=1), _Residual(width, 3), _Residual(width, 3)
        )
        fine = width
        if patch > 1:
            fine = max(16, width // 2)
            self.net.extend([nn.Conv2d(width, 4 * fine, 1), nn.PixelShuffle(2), _Residual(fine, 3)])
        left = max(1, patch // 2)
        last = nn.Conv2d(fine, colours * left**2, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.net.extend([ChannelNorm(fine), nn.SiLU(), last, nn.PixelShuffle(left)])
        self.double()

    def compute(self, z: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B K H W"]:
        out: Tensor = self.net(z.contiguous(memory_format=torch.channels_last))
        return out


class PictureCodes(nn.Module):
    """Of pictures of grey levels 0 .. levels - 1. ``code_levels``: how many levels each number of a
    place has; ``size`` scales the hidden channels; ``precision``: of the steps of learning."""

    def __init__(
        self,
        pixels: tuple[int, int, int],
        levels: int,
        code_levels: tuple[int, ...],
        colours: int,
        size: float = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.levels = levels
        self.precision = precision
        self.patch = places_per_side(max(pixels[1:]))
        self.padding = [-each % self.patch for each in pixels[1:]]
        high, wide = (
            (side + more) // self.patch for side, more in zip(pixels[1:], self.padding, strict=True)
        )
        self.grid = (high, wide)
        self.code_levels = code_levels
        self.count = math.prod(code_levels)
        width = max(16, round(BASE_CHANNELS * size / 8) * 8)
        self.encoder = _Encoder(pixels[0], self.patch, 2 * width, len(code_levels))
        self.decoder = _Decoder(len(code_levels), self.patch, width, colours)
        self.palette = Palette(colours, pixels[0])
        self._memo = TensorMemo[Tensor]()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start(self, value: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B C H W"]) -> None:
        """Colours, by pixels that are known in all channels; without any, grey."""
        pixels = value.movedim(1, -1)[mask.all(1)].double()
        if not len(pixels):
            pixels = torch.full((1, self.pixels[0]), (self.levels - 1) / 2, dtype=torch.float64)
        least = (2 / max(self.levels - 1, 1)) ** 2
        self.palette.start(self._scaled(pixels)[..., None, None], least)

    def _scaled(self, value: Tensor) -> Tensor:
        return 2 * value.double() / max(self.levels - 1, 1) - 1

    # ------------------------------------------------------------------ codes

    def quantised(
        self, value: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B Z h w"], Int[Tensor, "B h w"]]:
        """The vectors of the patches, with the gradient of what was not rounded; their codes."""
        x = self._scaled(value)
        if any(self.padding):
            x = nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        # never in bfloat16: what is learned of codes must be of those that answers are of
        e = self.encoder(x)
        count, half, offset = self._levels_as(e)
        e = (e + (offset / half).atanh()).tanh() * half - offset
        whole = e.round()
        place = (whole + count.div(2, rounding_mode="floor")).long()
        steps = torch.tensor([math.prod(self.code_levels[:i]) for i in range(len(count))])
        code = (place * steps[:, None, None]).sum(1)
        return (e + (whole - e).detach()) / half, code

    def _levels_as(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each number how many levels it has, about half of that, and by how much an even
        number of them is off the middle."""
        count = torch.tensor(self.code_levels).to(like)[:, None, None]
        half = (count - 1) * (1 + EDGE) / 2
        return count, half, torch.where(count % 2 == 0, 0.5, 0.0).to(like)

    def codes(self, value: Float[Tensor, "B C H W"]) -> Int[Tensor, "B h w"]:
        return self.quantised(value)[1]

    def vectors(self, code: Int[Tensor, "B h w"]) -> Float[Tensor, "B Z h w"]:
        """Those of codes."""
        numbers = []
        for count in self.code_levels:
            numbers.append(code % count - count // 2)
            code = code.div(count, rounding_mode="floor")
        whole = torch.stack(numbers, 1).double()
        return whole / self._levels_as(whole)[1]

    def known(self, mask: Bool[Tensor, "B C H W"]) -> Bool[Tensor, "B h w"]:
        """Places of which every pixel is known."""
        every = mask.all(1, keepdim=True).double()
        every = nn.functional.pad(every, (0, self.padding[1], 0, self.padding[0]), value=1.0)
        return nn.functional.avg_pool2d(every, self.patch)[:, 0] > 1 - 1e-6

    # ------------------------------------------------------------------ pixels

    def _log_weights(self, z: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B K H W"]:
        """``_whole_weights`` of the pixels of the picture."""
        return self._whole_weights(z)[..., : self.pixels[1], : self.pixels[2]]

    def _whole_weights(self, z: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B K H W"]:
        """ln w, float64."""
        logits = self.decoder(z)
        return (logits + self.palette.log_share.to(logits)[:, None, None]).log_softmax(1)

    def _log_levels(self) -> Float[Tensor, "K C L"]:
        """ln P of each level of each channel given each colour."""
        place, deviation = self._colours()
        level = torch.arange(self.levels, dtype=torch.float64)
        ends = torch.cat([level[:1] - torch.inf, level[1:] - 0.5, level[:1] + torch.inf])
        below = torch.special.ndtr((ends - place[..., None]) / deviation[:, None, None])
        inner = below.diff(dim=-1) * (1 - EVEN_SHARE)
        return (inner + EVEN_SHARE / self.levels).log()

    def _colours(self) -> tuple[Float[Tensor, "K C"], Float[Tensor, " K"]]:
        """The middle of each colour and the deviation around it, in grey levels."""
        half = max(self.levels - 1, 1) / 2
        middle = (self.palette.colours.double() + 1) * half
        return middle, self.palette.variance.double().sqrt() * half

    def log_prob(
        self,
        value: Float[Tensor, "B C H W"],
        z: Float[Tensor, "B Z h w"],
        mask: Bool[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B H W"]:
        """log P of each pixel given the vectors of all places, as ``_log_weights``; of its known
        channels alone, where ``mask`` tells them."""
        weight = self._log_weights(z)
        return (weight + self._log_own(value, weight, mask).transpose(0, 1)).logsumexp(1)

    def _log_own(
        self,
        value: Float[Tensor, "B C H W"],
        like: Tensor,
        mask: Bool[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "K B H W"]:
        """log P of the known channels of each pixel given each colour, in the precision of
        ``like``."""
        each = self._log_levels().to(like)
        level = value.long()
        out = like.new_zeros(len(each), *level[:, 0].shape)
        for c in range(self.pixels[0]):
            own = each[:, c][:, level[:, c]]
            out = out + (own if mask is None else own.masked_fill(~mask[:, c], 0.0))
        return out

    def error(
        self,
        value: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        z: Float[Tensor, "B Z h w"],
    ) -> Float[Tensor, " B"]:
        """-log P of what is known, the mean over the pixels of which anything is."""
        total = self._surprise(value, mask, z).flatten(1).sum(1).double()
        return total / mask.any(1).flatten(1).sum(1).clamp_min(1)

    def _surprise(
        self,
        value: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        z: Float[Tensor, "B Z h w"],
    ) -> Float[Tensor, "B H W"]:
        """-``log_prob``, float32."""
        with computing_in(self.precision if self.training else "float32", z.device.type):
            logits = self.decoder.compute(*self.decoder.cast(z))
        logits = logits[..., : self.pixels[1], : self.pixels[2]]
        each, level, known = (
            part.movedim(1, -1).flatten(0, 2) for part in (logits, value.long(), mask)
        )
        own = self._log_levels()
        out = pixel_surprise(each, self.palette.log_share, own, level, known)
        return out.view(len(value), *self.pixels[1:])

    def evidence(
        self, value: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B C H W"]
    ) -> Float[Tensor, "B M V"]:
        """How well each code goes with what is known of each of M places, as if it stood at the
        places around as well: log P of that, nats. The code of a patch that is wholly known goes
        with it at least as well as any other."""
        own = self._log_own(value, self.palette.log_share.double(), mask)
        most = own.amax(0)
        patches = self._patches((own - most).exp().transpose(0, 1), 1.0)  # (B, K, M, p)
        weight = self._alone()
        out = self._patches(most[:, None])[:, 0].sum(2)[..., None].repeat(1, 1, self.count)
        for pixel in range(patches.shape[3]):
            told = torch.einsum("vk,bkm->bmv", weight[..., pixel], patches[..., pixel])
            out += told.clamp_min(LEAST_SHARE).log_()
        code = self.codes(value).flatten(1)[..., None]
        whole = self.known(mask).flatten(1)[..., None]
        at_least = torch.where(whole, out.amax(2, keepdim=True), out.gather(2, code))
        return out.scatter(2, code, at_least)

    def _patches(
        self, x: Float[Tensor, "B C H W"], outside: float = 0.0
    ) -> Float[Tensor, "B C M p"]:
        """The pixels of each place; ``outside``: those beyond the picture."""
        x = nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), value=outside)
        x = x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return x.transpose(3, 4).flatten(4).flatten(2, 3)

    def _alone(self) -> Float[Tensor, "V K p"]:
        """w of the pixels of a patch amid patches of the same code, the same for all questions."""
        parts = [*self.decoder.parameters(), *self.palette.buffers()]
        return self._memo.of(parts, self._decoded_alone)

    def _decoded_alone(self) -> Float[Tensor, "V K p"]:
        every = torch.arange(self.count)[:, None, None]
        high, wide = (min(AROUND, side) for side in self.grid)
        rows = slice(high // 2 * self.patch, (high // 2 + 1) * self.patch)
        columns = slice(wide // 2 * self.patch, (wide // 2 + 1) * self.patch)
        each = [
            self._whole_weights(self.vectors(part.expand(-1, high, wide)))[:, :, rows, columns]
            for part in every.split(CODES_AT_ONCE)
        ]
        return torch.cat(each).flatten(2).exp()

    def middle(self, z: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        """The likeliest colour of each pixel, as grey levels."""
        return self._levels_of(self._log_weights(z).argmax(1), None)

    def draw(
        self, z: Float[Tensor, "B Z h w"], generator: torch.Generator | None
    ) -> Float[Tensor, "B C H W"]:
        """Grey levels of p(x | z)."""
        colour = categorical(self._log_weights(z).movedim(1, -1), generator)
        return self._levels_of(colour, generator or torch.default_generator)

    def _levels_of(
        self, colour: Int[Tensor, "B H W"], generator: torch.Generator | None
    ) -> Float[Tensor, "B C H W"]:
        """Of pixels with these colours: drawn, or without a generator the middle ones."""
        middle, deviation = self._colours()
        place = middle[colour].movedim(-1, 1)
        if generator is None:
            return place.round().clamp(0, self.levels - 1)
        noise = torch.randn(place.shape, generator=generator, dtype=torch.float64)
        drawn = (place + deviation[colour][:, None] * noise).round().clamp(0, self.levels - 1)
        chance = torch.rand(place.shape, generator=generator, dtype=torch.float64)
        even = (chance / EVEN_SHARE * self.levels).floor()  # where chance is under the even share
        return torch.where(chance < EVEN_SHARE, even, drawn)

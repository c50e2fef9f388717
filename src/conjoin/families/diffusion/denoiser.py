r"""What a picture looked like before noise was added: a network under the preconditioning of EDM.

    D(z; s) = G(z; s) + c_out F(c_in z, G(z; s); ln s),
    c_out^2 = E |G - x|^2 / D under the Gaussian,  c_in = 1 / sqrt(s^2 + 1)
    loss = E |D(x + s e; s) - x|^2 / c_out^2,      ln s ~ N(c, 1.2^2)

With a palette of K colours (``palette``) the network answers K numbers more of each pixel, from
which the weights w of the colours come, and

    D(z; s) = E_w[x | z] + (E_w Var[x | z, colour])^(1/2) F,    loss = l + E |D - x|^2 / c_out^2.

G is what the means and covariances of the pixels say (``wiener``), so that the network
learns only what they do not. Without principal axes they are standard: G = z / (s^2 + 1) and c_out
= s / sqrt( s^2 + 1), and F is given c_in z alone, as in T. Karras et al. (2022), Elucidating the
design space of diffusion-based generative models, table 1. Asked for (``even_axes``), F is given in
place of G what G says with each axis weighed by how much of it shines through the noise. A picture
is shifted and scaled by what its data have on the average. One share of the noise levels is spread
evenly instead, so that the bound, which asks at every level, does not ask where nothing was
learned. The centre c is -.5 where details are what is hard; a picture that is told by words is laid
out at noises in which details have drowned, so there c is greater (E. Hoogeboom, J. Heek and T.
Salimans (2023), Simple diffusion, section 3.1, on noise that many pixels alike shine through). No
nats here: ``picture`` makes them.

Shape letters: B rows, C channels, H and W sides, D = C H W pixels, F features.

>>> from conjoin.families.diffusion.picture import PictureDiffusion
>>> net = Denoiser((1, 8, 8), 17, 0, PictureDiffusion(size=0.25))
>>> net(torch.zeros(2, 1, 8, 8), torch.ones(2), None).shape
torch.Size([2, 1, 8, 8])
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from conjoin.components.palette import Palette
from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float
from conjoin.families.diffusion.wiener import Wiener, axes_of
from conjoin.nets.conditioned import Conditioned
from conjoin.nets.patches import Patches
from conjoin.nets.precision import computing_in
from conjoin.nets.unet import Unet
from conjoin.nets.worded import LOWER, Worded

__all__ = ["BODIES", "Denoiser"]

BODIES: dict[str, Callable[..., Conditioned]] = {"unet": Unet, "transformer": Patches}

DEVIATION = 1.2  # of ln s in the fit
EVEN_SHARE = 0.1  # share of the fit's noise levels that are spread evenly
MAX_NOISE = 40.0  # the largest s
WITHHELD_SHARE = 0.2  # share of the fit in which the class is not told
MAX_PALETTE = 256  # colours
MAX_WEIGHTS = 1 << 23  # weights of colours that are worked out at once
CLEAN_NOISE = 0.01  # the s at which a picture counts as clean


class _ByColours(NamedTuple):
    """ln of the weights of the colours, and D."""

    log_weight: Float[Tensor, "B P K"]
    clean: Float[Tensor, "B C H W"]


class Denoiser(nn.Module):
    """Pictures as grey levels 0 .. levels - 1 on a ``grid`` (C, H, W), and the network that takes
    noise off them."""

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        grid: tuple[int, int, int],
        levels: int,
        classes: int,
        config: Any,
        told: int = 0,
        words: tuple[int, ...] | None = None,
        lower: int = LOWER,
        beside: Any = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.levels = levels
        self.classes = classes
        self.precision = config.precision
        self.last_noise = config.last_noise
        self.noise_centre = config.noise_centre
        axes = axes_of(grid, config.axes)
        self.gaussian: Any = Wiener(grid, axes, classes) if axes else beside
        self.evens = config.even_axes and axes > 0
        shown = (1 if self.gaussian is None else 2) * grid[0]
        if not isinstance(config.palette, int) or not 0 <= config.palette <= MAX_PALETTE:
            raise ValueError(
                f"palette must be a whole number of colours, at most {MAX_PALETTE:,}, got "
                f"{config.palette!r}."
            )
        self.palette = Palette(config.palette, grid[0]) if config.palette else None
        answers = grid[0] + config.palette
        dials = (config.size, config.blocks, config.dropout)
        self.net: Conditioned = (
            BODIES[config.body](answers, grid[1:], classes, *dials, told, shown)
            if words is None
            else Worded(
                answers, grid[1:], told, words, *dials, shown, lower, wide=bool(config.palette)
            )
        )
        self.register_buffer("centre", torch.zeros(grid[0], 1, 1))
        self.register_buffer("scale", torch.ones(1))

    def start(self, value: Float[Tensor, "B D"]) -> None:
        """The mean of each channel and the deviation of all pixels."""
        pictures = self._numbers(value)
        self.centre.copy_(pictures.mean((0, 2, 3))[:, None, None])
        self.scale.copy_((pictures - self.centre).square().mean().sqrt().clamp_min(1e-3))

    def correlate(self, value: Float[Tensor, "B D"], code: Tensor | None) -> None:
        """After ``start``: the covariances of pixels in whole pictures, and the means of the
        classes."""
        # no variance is below that of rounding to a grey level, a twelfth of its square
        least = self.least**2 / 3
        if self.gaussian is not None:
            self.gaussian.start(self.pictures(value), code, least)
        if self.palette is not None and len(value):
            self.palette.start(self.pictures(value), least)

    @property
    def tells(self) -> bool:
        """Whether the network is told anything beside the picture."""
        return self.net.is_told

    def take_vectors(self, vectors: Float[Tensor, "V F"]) -> None:
        """The fixed vector of each word that pictures are told in."""
        assert isinstance(self.net, Worded)
        self.net.take_vectors(vectors)

    @property
    def least(self) -> float:
        """The smallest s."""
        return self.least_levels / float(self.scale)

    @property
    def least_levels(self) -> float:
        """The same in grey levels: half a level, or ``last_noise`` deviations where that is
        less."""
        return self._least()

    def _least(self) -> float:
        return 0.5 if self.last_noise is None else min(0.5, self.last_noise * float(self.scale))

    def pictures(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """Grey levels to numbers of mean 0 and variance 1."""
        out = (self._numbers(value).float() - self.centre) / self.scale
        return out.contiguous(memory_format=torch.channels_last)

    def values(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The nearest grey levels."""
        return self._values(pictures.float() * self.scale + self.centre)

    def _numbers(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """What is scaled: the grey levels."""
        return value.unflatten(1, self.grid)

    def _values(self, numbers: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The grey levels of what was scaled."""
        return numbers.round().clamp(0, self.levels - 1).flatten(1).double()

    def forward(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]:
        """D(z; s)."""
        if self.palette is not None:
            pixels = math.prod(self.grid[1:]) * len(self.palette.colours)
            parts = slices(len(z), max(1, MAX_WEIGHTS // pixels))
            each = [
                self._by_colours(z[part], s[part], None if code is None else code[part]).clean
                for part in parts
            ]
            return torch.cat(each)
        s = s[:, None, None, None]
        total = (s**2 + 1).sqrt()
        log_s = s.flatten().log()
        if self.gaussian is not None:
            guess, shown = self._guessed(z, s.flatten(), code)
            with computing_in(self.precision, self.scale.device.type):
                more = self.net(shown, log_s, self._heard(code))
            return guess + self._out(s.flatten()).sqrt()[:, None, None, None] * more
        with computing_in(self.precision, self.scale.device.type):
            out: Tensor = z / total**2 + s / total * self.net(z / total, log_s, code)
        return out

    def _by_colours(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> "_ByColours":
        assert self.palette is not None
        shown = (
            z / (s**2 + 1).sqrt()[:, None, None, None]
            if self.gaussian is None
            else self._guessed(z, s, code)[1]
        )
        with computing_in(self.precision, self.scale.device.type):
            out = self.net(shown, s.log(), self._heard(code))
        more, logits = out.float().split((self.grid[0], len(self.palette.colours)), 1)
        log_weight = self.palette.log_weights(logits, z, s)
        mean, deviation = self.palette.mean(log_weight, z, s)
        return _ByColours(log_weight, mean + deviation * more)

    def _guessed(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the Gaussian makes of pictures under noise, and what the network is shown."""
        scaled = z / (s**2 + 1).sqrt()[:, None, None, None]
        if self.evens:
            guess, even = self.gaussian.evened(z, s, code)
            return guess, _side_by_side(scaled, even)
        guess = self.gaussian.estimate(z, s, code)
        return guess, _side_by_side(scaled, guess)

    def _heard(self, code: Tensor | None) -> Tensor | None:
        """What the network hears of what is told."""
        return code

    @final
    def untold(self, code: Tensor | None) -> Tensor | None:
        """What is told where draws are to be as if nothing were."""
        return self._untold(code)

    def _untold(self, code: Tensor | None) -> Tensor | None:
        return None

    def _out(self, s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """c_out^2."""
        return s**2 / (s**2 + 1) if self.gaussian is None else self.gaussian.error(s)

    def _clean(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given of pictures that count as clean, and the log of their noise."""
        s = torch.full((len(pictures),), CLEAN_NOISE)
        if self.evens:
            return self._guessed(pictures, s, None)[1], s.log()
        scaled = pictures / (CLEAN_NOISE**2 + 1) ** 0.5
        shown = scaled if self.gaussian is None else _side_by_side(scaled, pictures)
        return shown, s.log()

    def features(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """What the encoder sees of clean pictures."""
        with computing_in(self.precision, self.scale.device.type):
            return self.net.features(*self._clean(pictures))

    def maps(self, pictures: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The same, (B, P, F) at each place of every level, and on the whole; and the pictures."""
        with computing_in(self.precision, self.scale.device.type):
            places = [each.float() for each in self.net.maps(*self._clean(pictures))]
        return [
            pictures.flatten(1)[:, None],
            *places,
            *(each.mean(1, keepdim=True) for each in places),
        ]

    def loss(
        self,
        pictures: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        code: Tensor | None,
        generator: torch.Generator,
    ) -> Float[Tensor, " B"]:
        """The mean over the known pixels of the weighted squared error, at one noise level for each
        picture."""
        rows = len(pictures)
        pictures = pictures * mask
        stratified = (
            torch.randperm(rows, generator=generator) + torch.rand(rows, generator=generator)
        ) / max(rows, 1)
        log_s = (
            self.noise_centre
            + DEVIATION * torch.special.ndtri(stratified.double().clamp(1e-6, 1 - 1e-6)).float()
        )
        even = math.log(self.least) + torch.rand(rows, generator=generator) * math.log(
            MAX_NOISE / self.least
        )
        s = (
            torch.where(torch.rand(rows, generator=generator) < EVEN_SHARE, even, log_s)
            .exp()
            .clamp(self.least, MAX_NOISE)
        )
        noise = torch.randn(pictures.shape, generator=generator)
        z = pictures + s[:, None, None, None] * noise
        told = self.sometimes(code, generator)
        if self.palette is None:
            return self._error(self(z, s, told) - pictures, mask, s)
        found = self._by_colours(z, s, told)
        choice = self.palette.loss(found.log_weight, pictures, mask, s)
        return choice + self._error(found.clean - pictures, mask, s)

    def _error(
        self, error: Tensor, mask: Bool[Tensor, "B C H W"], s: Float[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """The mean square of the known pixels, over c_out^2."""
        total = (error * mask).square().flatten(1).sum(1)
        return total / mask.flatten(1).sum(1).clamp_min(1) / self._out(s)

    def sometimes(self, code: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """The classes, one in five withheld (J. Ho and T. Salimans (2022), Classifier-free
        diffusion guidance, algorithm 1)."""
        return code if code is None or not self.classes else self._sometimes(code, generator)

    def _sometimes(self, code: Tensor, generator: torch.Generator) -> Tensor:
        return torch.where(
            torch.rand(len(code), generator=generator) < WITHHELD_SHARE, float(self.classes), code
        )


def _side_by_side(one: Tensor, other: Tensor) -> Float[Tensor, "B C H W"]:
    """Two pictures as the channels of one."""
    return torch.cat([one, other], 1).contiguous(memory_format=torch.channels_last)

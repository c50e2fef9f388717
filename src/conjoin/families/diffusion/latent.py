r"""Diffusion in the latent space of an autoencoder of pictures: a picture is a few numbers at few
places, and these drown in noise.

    q(z_s | x) = N(E(x), s^2 I),   s from s_0 to s_most
    log p(x) >= E log P(x | z_{s_0}) - KL(q(z_most | x) || N(0, s_most^2 + 1))
                - int E |E(x) - D(z; s)|^2 / s^2 d ln s

R. Rombach et al. (2022), High-resolution image synthesis with latent diffusion models, with the
bound of D. Kingma et al. (2021), Variational diffusion models, equations 11 to 18, whose data are
E(x). The noise s_0 that the decoder sees is that at which the diffusion begins, so that the
autoencoder's evidence lower bound and the bound of its prior are one bound, of log p of the
discrete picture, in nats. Both learn in one fit: the autoencoder, from a share of the rows of a
step, by

    -E log P(x | z_0) + sum_j (E(x)_j^2 + s_0^2 - 1 - ln s_0^2) / 2

(D. Kingma and M. Welling (2014), Auto-encoding variational Bayes, equation 10, with one noise for
all), and the diffusion on what the encoder says by then, whose means and scale are kept as running
means. No gradient of the diffusion reaches the encoder. Known pixels are put back into what the
decoder shows of each step, and encoded again, where parts are painted in.

Shape letters: B rows, D = C H W pixels, Z channels, h and w sides of places.

>>> from conjoin.core import Space, Variable
>>> space = Space((64,), (Variable("pixel", "ordered", cardinality=256),) * 64, "image", (1, 8, 8))
>>> data = Event(torch.randint(256, (20, 64), generator=stream(0)).double())
>>> density = LatentDensity.build(space, LatentDiffusion(size=0.25), data, stream(0))
>>> density.core.grid, density.log_prob(data).shape
((8, 8, 8), torch.Size([20]))
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from conjoin.core import Capabilities, Event, seeded, stream
from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float
from conjoin.families.diffusion.denoiser import Denoiser
from conjoin.families.diffusion.painter import Painter
from conjoin.families.diffusion.picture import (
    CHUNK_PICTURES,
    PictureDensity,
    PictureDiffusion,
    by_few_known,
    greys,
)
from conjoin.nets.picture_autoencoder import PictureAutoencoder
from conjoin.nets.worded import LOWER

__all__ = ["LatentDensity", "LatentDiffusion"]

RUNNING = 0.02  # of the means and the scale of latents, that a step replaces
CANDIDATES = 64  # draws, of which one is chosen
FEW_PLACES = 4  # a side, up to which all places attend to each other
REBUILT_ROWS = 256  # of which the error of the autoencoder is told, at most


@dataclass(frozen=True)
class LatentDiffusion(PictureDiffusion):
    """Settings of the diffusion in latent space; those that are not named here are
    ``PictureDiffusion``'s.

    Parameters
    ----------
    channels : int, default 8
        Numbers of a place. A place is 8 pixels a side in pictures of 48 and more, 4 from 24 on, 2
        from 12 on, else one.
    latent_noise : float, default 0.1
        The noise s_0 of the numbers that the decoder sees.
    taught : float, default 0.25
        Share of the rows of a step from which the autoencoder learns.
    """

    axes: int = 0
    last_noise: float | None = None
    channels: int = 8
    latent_noise: float = 0.1
    taught: float = 0.25

    suggests_latents: ClassVar[bool] = False
    worded: ClassVar[Mapping[str, Any]] = {"noise_centre": 0.0, "palette": 0}

    def __post_init__(self) -> None:
        if self.axes:
            raise ValueError(f"axes={self.axes!r} is for pixels: latents have none, leave it out.")
        if self.palette:
            raise ValueError(
                f"palette={self.palette!r} is for pixels: latents have no colours, leave it out."
            )
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels!r}.")
        if not 0 < self.latent_noise < 1:
            raise ValueError(f"latent_noise must lie between 0 and 1, got {self.latent_noise!r}.")
        if not 0 < self.taught <= 1:
            raise ValueError(f"taught must be above 0 and at most 1, got {self.taught!r}.")


class _LatentDenoiser(Denoiser):
    """Takes noise off what the autoencoder says of pictures; ``pixels`` is their grid."""

    def __init__(
        self,
        pixels: tuple[int, int, int],
        levels: int,
        classes: int,
        config: LatentDiffusion,
        told: int,
        words: tuple[int, ...] | None,
    ) -> None:
        autoencoder = PictureAutoencoder(
            pixels, levels, config.channels, config.size, config.precision
        )
        grid = autoencoder.grid
        lower = 1 if max(grid[1:]) <= FEW_PLACES else LOWER
        super().__init__(grid, levels, classes, config, told, words, lower)
        self.pixels = pixels
        self.latent_noise = config.latent_noise
        self.autoencoder = autoencoder

    def _least(self) -> float:
        return self.latent_noise

    def _numbers(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B Z h w"]:
        return self.autoencoder.encode(value.unflatten(1, self.pixels))

    def _values(self, numbers: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B D"]:
        """The middle of p(pixel | z)."""
        place, _ = self.autoencoder.decode(numbers)
        return place.round().clamp(0, self.levels - 1).flatten(1).double()

    def drawn(
        self, pictures: Float[Tensor, "B Z h w"], generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """Grey levels of p(x | z)."""
        return self.autoencoder.draw(self.unscaled(pictures), generator).flatten(1)

    def unscaled(self, pictures: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B Z h w"]:
        return pictures.float() * self.scale + self.centre

    def follow(self, numbers: Float[Tensor, "B Z h w"]) -> None:
        """Their means and their scale, as running means."""
        self.centre.lerp_(numbers.mean((0, 2, 3))[:, None, None], RUNNING)
        apart = (numbers - self.centre).square().mean().sqrt().clamp_min(1e-3)
        self.scale.lerp_(apart[None], RUNNING)


class LatentDensity(PictureDensity):
    """log p is a bound by Monte Carlo, of the autoencoder and of the diffusion of its latents."""

    config_class = LatentDiffusion
    shared_backbone = False
    core: _LatentDenoiser
    plain_numbers: ClassVar[int] = PictureDensity.plain_numbers + 1

    @classmethod
    def _core(
        cls,
        grid: tuple[int, int, int],
        levels: int,
        classes: int,
        config: Any,
        told: int,
        words: tuple[int, ...] | None,
    ) -> _LatentDenoiser:
        return _LatentDenoiser(grid, levels, classes, config, told, words)

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, edits=False, unfolds=False, distils=False)

    def _count(self, value: Tensor) -> None:
        """The decoder tells the shares of the levels."""

    # ------------------------------------------------------------------ the bound

    def _log_levels(
        self, value: Float[Tensor, "B D"], x: Tensor, noise: Float[Tensor, "Z h w"]
    ) -> Float[Tensor, " B"]:
        """log P(x | z) at the noise that the decoder sees."""
        z = self.core.unscaled(x + self.core.least * noise)
        pictures = value.unflatten(1, self.core.pixels)
        return self.core.autoencoder.log_prob(pictures, z).flatten(1).sum(1)

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Nats of a pixel and of its share of the latents, of the rows that teach the autoencoder;
        and the mean weighted squared error of a latent, of all rows."""
        noise = generator or stream(0, "loss")
        value = torch.where(event.mask, event.value, (self.core.levels - 1) / 2)
        rows = torch.randperm(event.rows, generator=noise)
        rows = rows[: math.ceil(self.config.taught * event.rows)].sort().values
        mask = event.mask[rows].unflatten(1, self.core.pixels)
        taught = self._taught(value[rows], mask, noise)
        with torch.no_grad():
            numbers = self.core._numbers(value)
            if self.training:
                self.core.follow(numbers)
            pictures = (numbers - self.core.centre) / self.core.scale
        if context is not None and self.inputs is not None:
            context = self._partly_told(context, noise)
        code = self._code(context)
        known = torch.ones_like(pictures, dtype=torch.bool)
        with seeded(noise):
            losses = self.core.loss(pictures, known, code, noise).double()
        share = event.rows / max(len(rows), 1)
        return losses.index_add(0, rows, share * taught)

    def _taught(
        self, value: Float[Tensor, "b D"], mask: Bool[Tensor, "b C H W"], noise: torch.Generator
    ) -> Float[Tensor, " b"]:
        pictures = value.unflatten(1, self.core.pixels)
        numbers = self.core.autoencoder.encode(pictures)
        least = self.core.latent_noise
        z = numbers + least * torch.randn(numbers.shape, generator=noise)
        error = self.core.autoencoder.error(pictures, mask, z)
        kl = 0.5 * (numbers.square() + least**2 - 1 - 2 * math.log(least)).flatten(1).sum(1)
        return error + kl.double() / value.shape[1]

    # ------------------------------------------------------------------ the autoencoder

    @torch.no_grad()
    def rebuilt(self, event: Event) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Of whole pictures that are encoded, and decoded from latents with the noise of the fit:
        the mean squared error of a pixel, as grey levels squared, and -log P of a pixel, nats."""
        pictures = event.value.unflatten(1, self.core.pixels)
        errors = []
        nats = []
        for part in slices(event.rows, CHUNK_PICTURES):
            numbers = self.core.autoencoder.encode(pictures[part])
            noise = torch.randn(self.core.grid, generator=stream(0, "rebuilt"))
            z = numbers + self.core.latent_noise * noise
            place, _ = self.core.autoencoder.decode(z)
            shown = place.round().clamp(0, self.core.levels - 1)
            errors.append((shown.double() - pictures[part]).square().flatten(1).mean(1))
            known = torch.ones_like(pictures[part], dtype=torch.bool)
            nats.append(self.core.autoencoder.error(pictures[part], known, z))
        return torch.cat(errors), torch.cat(nats).double()

    def notices(self, event: Event) -> list[str]:
        """How well pictures come back from their latents."""
        whole = event.take(event.mask.all(1)).take(slice(0, REBUILT_ROWS))
        if not whole.rows:
            return []
        error, nats = self.rebuilt(whole)
        channels, high, wide = self.core.grid
        return [
            f"Pictures that are rebuilt from their latents ({high} x {wide} places of {channels} "
            f"numbers) are {float(error.mean()) ** 0.5:.1f} of {self.core.levels} grey levels off "
            f"(root mean square), and a pixel takes {float(nats.mean()) / math.log(2):.2f} bits "
            f"given them, in {whole.rows:,} rows of the fit."
        ]

    # ------------------------------------------------------------------ familiarity

    def _plainly(self, value: Float[Tensor, "B D"], x: Tensor) -> Float[Tensor, "B P"]:
        """Greys of the pixels, and how well the decoder shows the picture."""
        pixels = value.unflatten(1, self.core.pixels)
        shown = self.core.autoencoder.error(
            pixels, torch.ones_like(pixels, dtype=torch.bool), self.core.unscaled(x)
        )
        spread = max(self.core.levels - 1, 1) / 2
        return torch.cat([greys((pixels.float() - spread) / spread), shown.float()[:, None]], 1)

    # ------------------------------------------------------------------ draws

    def _pixels(self, drawn: Tensor, generator: torch.Generator | None) -> Float[Tensor, "B D"]:
        """Each pixel is drawn given the latents."""
        return self.core.drawn(drawn, generator)

    def _filled(
        self, painter: Painter, event: Event, steps: int, repeats: int
    ) -> Float[Tensor, "b D"]:
        """Rows of which few pixels are known choose among draws, the others are led."""
        whole = painter.code

        def told(rows: Tensor) -> Event:
            painter.code = None if whole is None else whole[rows]
            return event.take(rows)

        out = by_few_known(
            event,
            lambda rows: self._chosen(painter, told(rows)),
            lambda rows: self._led(painter, told(rows), steps, repeats),
        )
        painter.code = whole
        return out

    def _led(
        self, painter: Painter, event: Event, steps: int, repeats: int
    ) -> Float[Tensor, "b D"]:
        """What is known stands in the picture that is decoded at each step, and is encoded."""

        def put_back(clean: Tensor) -> Tensor:
            shown = self.core.autoencoder.decode(self.core.unscaled(clean))[0].flatten(1)
            return self.core.pictures(torch.where(event.mask, event.value.to(shown), shown))

        return self._pixels(painter.lead(event.rows, steps, repeats, put_back), painter.generator)

    def _chosen(self, painter: Painter, event: Event) -> Float[Tensor, "b D"]:
        """One of ``CANDIDATES`` draws of the latents for each row, by how probable its known pixels
        are given them: sampling importance resampling (D. Rubin (1988), Using the SIR algorithm to
        simulate posterior distributions)."""
        code = None if painter.code is None else painter.code.repeat_interleave(CANDIDATES, 0)
        artist, levels = self._painter(code, painter.generator)
        z = artist.from_noise(event.rows * CANDIDATES, levels)
        known = event.map(lambda part: part.repeat_interleave(CANDIDATES, 0))
        pictures = known.value.unflatten(1, self.core.pixels)
        log_p = self.core.autoencoder.log_prob(pictures, self.core.unscaled(z)).flatten(1)
        told = torch.where(known.mask, log_p, 0.0).sum(1).unflatten(0, (event.rows, CANDIDATES))
        uniform = torch.rand(told.shape, generator=painter.generator, dtype=torch.float64)
        place = (told - (-uniform.clamp_min(1e-300).log()).log()).argmax(1)
        chosen = z.unflatten(0, (event.rows, CANDIDATES))[torch.arange(event.rows), place]
        return self._pixels(chosen, painter.generator)

r"""A diffusion model of pictures that others have trained, as a density with a bound.

    log p(x) >= E_q[ log p(x | z_1) - sum_{i = 2..S} KL(q(z_{i-1} | z_i, x) || p(z_{i-1} | z_i)) ]
                - KL(q(z_S | x) || N(0, 1))

J. Ho, A. Jain and P. Abbeel (2020), Denoising diffusion probabilistic models, equations 5, 7, 10
and 13, with any pipeline of the package diffusers that has a UNet2DModel and no context. q adds
noise as the folder's scheduler says; p(z_{i-1} | z_i) is the Gaussian that the network's idea of x
leads to, with the scheduler's variance. The last step is to whole levels of a pixel: the mass of
its Gaussian between the edges of a level, of which the outermost reach to infinity (equation 13).
S of the scheduler's noise levels are kept, by ``steps``; draws take the same S steps, so that the
bound is one of what is drawn. Some of the terms stand for all, each with its share (D. Kingma et
al. (2021), Variational diffusion models, section 4): the mean of the value is a lower bound. In
nats.

Known pixels of a picture come back as they are; the others are drawn beside them (A. Lugmayr et al.
(2022), RePaint, section 4.1), which is approximate.

The weights are those of a local folder, in safetensors; nothing is downloaded and no code of the
folder is run. A saved model holds them.

Shape letters: B rows, C channels, H rows and W columns of pixels, D = C H W, S steps, P readings.

>>> DiffusersPicture(steps=50).recipe(1000).steps is None
True
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conjoin.core import (
    Capabilities,
    Config,
    Event,
    Likelihood,
    Recipe,
    Space,
    seeded,
    stream,
)
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.families.pretrained.noise import (
    DTYPES,
    LOG_OFFSET,
    PROFILE_PLACES,
    NoiseSteps,
    check_settings,
    log_level,
    noise_told,
)
from conjoin.families.pretrained.typical import TypicalByReadings
from conjoin.nets.pretrained import fresh_part, loaded_part, refuse_many_parts
from conjoin.util.pretrained import checked_folder, read_json

__all__ = ["DiffusersPicture", "DiffusersPictureDensity", "greys", "grid_in", "side_of"]

NETWORK = "UNet2DModel"
CHUNK_PICTURES = 64  # that the network sees at once
TILES_PER_SIDE = 2
KEPT_AXES = 8


@dataclass(frozen=True)
class DiffusersPicture(Config):
    """Settings of a pretrained diffusion model of pictures.

    Parameters
    ----------
    folder
        Of a pipeline: model_index.json, unet/ and scheduler/.
    steps
        From noise to a picture, in draws and in the bound; None: all of the scheduler.
    points
        Terms of the bound that stand for all of them, beside the last step; None: all.
    tune
        Steps of the gradient by which the weights move to the rows of a fit; 0: none.
    rate
        Learning rate of these steps at the start.
    batch
        Rows of a step.
    dtype
        Numbers of the network: "float32" or "float64".
    """

    folder: str = ""
    steps: int | None = 100
    points: int | None = 16
    tune: int = 0
    rate: float = 1e-4
    batch: int = 16
    dtype: str = "float32"

    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self)

    def recipe(self, rows: int) -> Recipe:
        return Recipe(steps=self.tune or None, batch=self.batch, rate=self.rate, linear=True)


class DiffusersPictureDensity(TypicalByReadings):
    """A bound of log p, draws by all steps, and pictures painted in."""

    config_class = DiffusersPicture
    bounded = True

    def __init__(
        self,
        space: Space,
        config: DiffusersPicture,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        network: nn.Module | None = None,
    ) -> None:
        if space.grid is None or space.columns:
            raise ValueError("A pretrained diffusion model takes pictures, and no columns beside.")
        super().__init__(space, config, structure or _described(config), context_space)
        self.grid = space.grid
        self.levels = space.variables[0].cardinality
        self._refuse_unfit()
        self.net: Any = _fresh(self.structure["unet"], config.dtype) if network is None else network
        self.net.requires_grad_(config.tune > 0)
        self.noise = NoiseSteps(self.structure, config.steps)
        tiles = TILES_PER_SIDE**2 * len(PROFILE_PLACES)
        sizes = (len(PROFILE_PLACES), tiles, 4)
        self._take_readings(sizes, (len(PROFILE_PLACES), KEPT_AXES, 4))

    def _refuse_unfit(self) -> None:
        told = self.structure["unet"]
        channels, height, width = self.grid
        if told.get("in_channels", 3) != channels or self.levels < 2:
            raise ValueError(
                f"The network of {self.config.folder!r} takes pictures of "
                f"{told.get('in_channels', 3)} channels, these have {channels}."
            )
        side = side_of(told)
        if side and side != [height, width]:
            raise ValueError(
                f"The network of {self.config.folder!r} takes pictures of {side[0]} x {side[1]} "
                f"pixels, these have {height} x {width}: bring them to that size."
            )

    @classmethod
    def build(
        cls,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """With the weights of the folder."""
        told = _described(config)
        if space.grid is None or space.columns:
            raise ValueError("A pretrained diffusion model takes pictures, and no columns beside.")
        path = Path(config.folder).expanduser() / "unet"
        network = loaded_part(NETWORK, path, told["unet"], DTYPES[config.dtype])
        return cls(space, config, told, context_space, network=network).eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=True,
            conditionals="approximate",
            mode="approximate",
            typical=True,
        )

    # ------------------------------------------------------------------ the network

    def _pictures(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """Levels as numbers from -1 to 1."""
        return (2 * value.double() / (self.levels - 1) - 1).unflatten(1, self.grid)

    def _levels(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The nearest level of each pixel."""
        return ((x.flatten(1) + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)

    def _told(self, z: Tensor, place: Tensor) -> Float[Tensor, "B C H W"]:
        dtype = DTYPES[self.config.dtype]
        out: Tensor = self.net(z.to(dtype), place.expand(len(z)), return_dict=False)[0]
        return out.double()

    def _clean(self, z: Float[Tensor, "B C H W"], index: int) -> Float[Tensor, "B C H W"]:
        """The network's idea of the picture behind the noise."""
        return self.noise.clean(self._told(z, self.noise.place[index]), z, index)

    # ------------------------------------------------------------------ the bound

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        noise = generator or stream(0, "bound")
        terms = self.noise.terms(self.config.points, noise)
        drawn = torch.randn(len(terms) + 1, *self.grid, generator=noise, dtype=torch.float64)
        parts = slices(event.rows, CHUNK_PICTURES) if event.rows else ()
        each = [self._bound(event.value[part], terms, drawn) for part in parts]
        return torch.cat([torch.zeros(0, dtype=torch.float64), *each])

    def _bound(
        self, value: Float[Tensor, "B D"], terms: list[tuple[int, float]], drawn: Tensor
    ) -> Float[Tensor, " B"]:
        """The same noise for all rows."""
        x = self._pictures(value)
        clean = self._clean(self.noise.noisy(x, 0, drawn[0]), 0)
        total = self._log_level(value, clean) - self.noise.prior(x)
        for (index, weight), noise in zip(terms, drawn[1:], strict=True):
            clean = self._clean(self.noise.noisy(x, index, noise), index)
            total = total - weight * self.noise.divergence(x - clean, index)
        return total

    def _log_level(
        self, value: Float[Tensor, "B D"], clean: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, " B"]:
        """log of the mass of each level under the last step's Gaussian."""
        apart = (self._pictures(value) - clean).flatten(1)
        return log_level(value, apart, self.noise.deviation[0], self.levels)

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The mean squared error of what the network tells, at a noise level drawn for each row."""
        noise = generator or stream(0, "loss")
        x = self._pictures(event.value)
        place = torch.randint(len(self.noise.share), (len(x),), generator=noise)
        eps = torch.randn(x.shape, generator=noise, dtype=torch.float64)
        kept = self.noise.share[place][:, None, None, None]
        z = kept.sqrt() * x + (1 - kept).sqrt() * eps
        wanted = self.noise.wanted(x, eps, kept)
        with seeded(noise):  # dropout takes no other generator
            told = self._told(z, place)
        return (told - wanted).square().flatten(1).mean(1)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        return self._sample_conditional(self.space.unknown(n), context, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        if not event.rows or bool(event.mask.all()):
            return Event(event.value)
        parts = slices(event.rows, CHUNK_PICTURES)
        return Event(torch.cat([self._painted(event.take(part), generator) for part in parts]))

    def _painted(self, event: Event, generator: torch.Generator | None) -> Float[Tensor, "b D"]:
        """From noise by all steps; known pixels are at each step as noisy as it is."""
        x = self._pictures(event.value)
        mask = event.mask.unflatten(1, self.grid)

        def noise() -> Tensor:
            return torch.randn(x.shape, generator=generator, dtype=torch.float64)

        z = noise()
        for index in reversed(range(len(self.noise))):
            if bool(mask.any()):
                z = torch.where(mask, self.noise.noisy(x, index, noise()), z)
            z = self.noise.before(z, self._clean(z, index), index, noise())
        return torch.where(event.mask, event.value, self._levels(z))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """One completion of each row by itself, so that none depends on the others."""
        rows = [event.take(slice(row, row + 1)) for row in range(event.rows)]
        each = [self._sample_conditional(row, None, stream(0, "mode")).value for row in rows]
        return Event(torch.cat([event.value[:0], *each]))

    # ------------------------------------------------------------------ familiarity

    def _readings_of(self, event: Event) -> list[Tensor]:
        """The log of the errors of the network's idea of a picture at several noises, everywhere
        and by tiles; the mean and the spread of its greys, and how much neighbours differ. Missing
        pixels are painted in first."""
        value = (event if bool(event.mask.all()) else self._mode(event, None)).value
        found: list[list[Tensor]] = [[], [], []]
        for part in slices(len(value), CHUNK_PICTURES):
            x = self._pictures(value[part])
            errors = list(self._errors(x))
            whole = torch.stack([error.mean((1, 2, 3)) for error in errors], 1)
            tiles = [
                nn.functional.adaptive_avg_pool2d(error.mean(1, keepdim=True), TILES_PER_SIDE)
                for error in errors
            ]
            found[0].append((whole + LOG_OFFSET).log())
            found[1].append((torch.cat([tile.flatten(1) for tile in tiles], 1) + LOG_OFFSET).log())
            found[2].append(greys(x))
        return [torch.cat(each) for each in found]

    def _errors(self, x: Float[Tensor, "B C H W"]) -> Iterator[Tensor]:
        for index, noise in self.noise.profile(self.grid):
            yield (x - self._clean(self.noise.noisy(x, index, noise), index)).square()

    def _untaught(self, readings: list[Tensor]) -> Float[Tensor, " B"]:
        """How small the errors are."""
        return -readings[0].mean(1)


def greys(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
    """(B, 4): mean, deviation, and the log of the mean difference of neighbours across and down."""
    flat = x.flatten(1)
    each = [flat.mean(1), flat.std(1, unbiased=False)]
    for axis in (3, 2):
        apart = x.diff(dim=axis).abs().flatten(1) if x.shape[axis] > 1 else torch.zeros(len(x), 1)
        each.append((apart.mean(1) + LOG_OFFSET).log())
    return torch.stack([part.double() for part in each], 1)


# ------------------------------------------------------------------ the folder


def side_of(told: dict[str, Any]) -> list[int]:
    """Height and width of a network's pictures; nothing where its config tells no size."""
    side = told.get("sample_size") or []
    return [side, side] if isinstance(side, int) else list(side)


def grid_in(folder: str | Path) -> tuple[int, int, int]:
    """Channels, height and width of the pictures of a folder's network; ValueError where it tells
    no size."""
    told = _described(DiffusersPicture(folder=str(folder)))["unet"]
    side = side_of(told)
    if not side:
        raise ValueError(
            f"{folder}: unet/config.json tells no sample_size, how large pictures are."
        )
    return int(told.get("in_channels", 3)), int(side[0]), int(side[1])


def _described(config: DiffusersPicture) -> dict[str, Any]:
    """What is saved of the folder: the network's config, and what the scheduler says of noise."""
    path = checked_folder(config.folder)
    index = path / "model_index.json"
    parts = read_json(index) if index.is_file() else {}
    found = parts.get("unet", (None, None))[1], parts.get("vae"), parts.get("text_encoder")
    if found != (NETWORK, None, None):
        raise ValueError(
            f"{path} is no pipeline of a {NETWORK} alone, without a context and without a latent "
            f"space: its model_index.json names {parts.get('_class_name', 'nothing')!r}."
        )
    unet = read_json(path / "unet" / "config.json")
    refuse_many_parts(path / "unet", unet)
    if unet.get("num_class_embeds") or unet.get("class_embed_type"):
        raise ValueError(f"The network in {path} is told classes, which is not supported.")
    told = {key: value for key, value in unet.items() if not key.startswith("_name")}
    return {
        "unet": told,
        **noise_told(path, read_json(path / "scheduler" / "scheduler_config.json")),
    }


def _fresh(told: dict[str, Any], dtype: str) -> nn.Module:
    """The network before it is given its weights."""
    return fresh_part(NETWORK, told, DTYPES[dtype], "network")

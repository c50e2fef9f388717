r"""Diffusion on pictures: grey levels drown in Gaussian noise, a lean network takes it away, and
its features tell classes apart.

    log p(x) >= E log P(x | z_least) - KL(q(z_most | x) || N(0, s_most^2 + 1))
                - int E |x - D(z; s)|^2 / s^2 d ln s

D. Kingma et al. (2021), Variational diffusion models, equations 11 to 18, in continuous time and
for noise that is added without shrinking the picture, z = x + s e; the integral runs from half a
grey level to a noise in which nothing is seen. P(x | z) weighs the grey levels of each pixel by
their shares in the rows of the fit. The bound is that of the discrete picture, in nats; its noise
is the same for all rows. ``denoiser`` has the network, ``painter`` the ways back from noise,
``student`` the shortest ones. What is told beside a picture is a class, columns, or columns and a
string, to whose tokens the network attends (``conjoin.nets.worded``).

Shape letters: B rows, D = C H W pixels, L grey levels, S network calls, F features, T conditioning
numbers.

>>> from conjoin.core import Variable
>>> space = Space((64,), (Variable("pixel", "ordered", cardinality=256),) * 64, "image", (1, 8, 8))
>>> data = Event(torch.randint(256, (20, 64), generator=stream(0)).double())
>>> density = PictureDensity.build(space, PictureDiffusion(size=0.25), data, stream(0))
>>> density.draw(2, steps=4).calls
4
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from conjoin.components.typicality import Typicality
from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Edit,
    Event,
    Likelihood,
    Recipe,
    Space,
    Status,
    seeded,
    stream,
)
from conjoin.core.device import on_device
from conjoin.core.event import slices
from conjoin.core.sampling import walk
from conjoin.core.shapes import Float, Int
from conjoin.families.deep import starting_rows
from conjoin.families.diffusion.denoiser import BODIES, MAX_NOISE, WITHHELD_SHARE, Denoiser
from conjoin.families.diffusion.painter import Painter
from conjoin.families.diffusion.samplers import Drawn
from conjoin.families.diffusion.student import Student
from conjoin.nets.inputs import EMBEDDED, Inputs, embedding_mark
from conjoin.nets.precision import settled
from conjoin.nets.text_encoder import TextEncoder
from conjoin.nets.worded import UNKNOWN_WORD

__all__ = [
    "MAX_WORDS",
    "MIN_LATENT_SIDE",
    "PictureDensity",
    "PictureDiffusion",
    "greys",
    "recipe_of",
    "withheld",
    "words_of",
]

COUNTED_ROWS = 1024  # whose grey levels are counted at once
FEW_KNOWN_PIXELS = 16  # of a row, by which whole draws are chosen
CHUNK_PICTURES = 256  # pictures that the network sees at once
MAX_LEVEL_BYTES = 1 << 28  # of pixels times grey levels, that are weighed at once
REACH_DEVIATIONS = 44.0  # of the smallest noise: there a normal density is exp(-700) of its peak
PICTURES_SEEN_BOUNDS = (100_000, 900_000)  # pictures in a fit, at least and at most
# the running mean of the weights: over this share of the steps, and no more than this memory
AVERAGED_SHARE = 0.1
MAX_MEMORY = 0.998
PROFILE_NOISES = (0.03, 0.08, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0)  # noises at which errors are read
TILES_PER_SIDE = 4
LOG_OFFSET = 1e-4  # added to an error before its log
GREY_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # quantiles of a picture's grey levels
AXES_PER_READING = (384, 8, 48, 9)  # principal axes of each reading
TYPICAL_ROWS = 6000  # rows by which typical ones are known
EDITING_STEPS = 8  # of an edit: once to noise and twice, with guidance, back
DISTILLED = "distilled"  # in ``structure``: network calls of a draw by the student
VECTORS = "word_vectors"  # in ``structure``: of how many numbers the fixed vector of a word is
WORDS = "words"  # in ``structure``: the network attends to the string of its context
MIN_LATENT_SIDE = 64  # pixels of a side, from which on latents are suggested
MAX_WORDS = 128  # tokens of a string, at most, that a network of pictures attends to
UNTOLD_SHARE = 0.15  # of the fit, in which no word is told
# of pictures that are told in words: most of the noise in which they are laid out is learned from
WORDED: Mapping[str, Any] = {
    "noise_centre": 0.9,
    "even_axes": True,
    "palette": 48,
    "dropout": 0.0,
}
# rates and rows of a step then, of pictures that are told by their colours and of others
COLOURED: Mapping[str, Any] = {"matrix_rate": 0.02, "rate": 3e-3, "batch": 32}
PLAIN: Mapping[str, Any] = {"matrix_rate": 0.004, "rate": 1e-3, "batch": 48}
MAX_LEVEL_SHARES = 1 << 20  # shares of grey levels that are kept pixel by pixel, at most


@dataclass(frozen=True)
class PictureDiffusion(Config):
    """Settings of the diffusion of pictures.

    Parameters
    ----------
    size : float, default 1.0
        Factor on the network's channels: one dial for small and for large machines.
    blocks : int, default 1
        Blocks at each level of a U-Net; times six, the layers of a transformer.
    dropout : float, default 0.1
        Share of hidden units left out in a training step.
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 128
        Rows of a step.
    rate : float, default 0.002
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    points : int, default 16
        Calls of the network for the bound of a row.
    sampler : str, default "multistep"
        How pictures are drawn: "multistep", "ddim" or "ancestral".
    sampling_steps : int, default 20
        Steps of the sampler.
    guidance : float, default 0.0
        How much draws of a class exaggerate it; they are draws of p(x | class) only at 0.
    repeats : int, default 4
        How often each step is taken when a part is painted in.
    label_weight : float, default 0.1
        Weight of -log p(y | x), in nats, beside the mean squared error of a pixel.
    precision : {"auto", "bfloat16", "float32"}, default "auto"
        Numbers of the network: "auto" is the faster of both on the machine of the fit, and the
        model keeps it. In bfloat16 an answer about a row is the same to the bit in every batch, in
        float32 up to rounding.
    body : str, default "unet"
        The network: "unet", or "transformer", one of patches.
    axes : int, default 384
        Principal axes, at most, of the Gaussian of the pixels that the network corrects: fewer of
        large or of few pictures. 0 takes pixels to be independent.
    last_noise : float or None, default 0.3
        The noise under which a pixel's level is told, in deviations of the pixels, unless half a
        grey level is less: with few levels that is so much that pixels would be drawn as if each
        stood alone. None: half a grey level always.
    noise_centre : float, default -0.5
        Mean of the log of the noise in the fit. At -0.5 most steps teach details; at 1 most teach
        what stands where.
    matrix_rate : float or None, default None
        Learning rate of the matrices that attend to words, which Muon moves; None: they are moved
        like all others.
    even_axes : bool, default False
        Whether the network is shown what the Gaussian makes of a picture with each principal axis
        weighed by how much of it shines through the noise, and not by how much it varies: where
        most of what varies is a background of one colour, things before it are seen better. With
        ``axes=0`` there is nothing to weigh.
    palette : int, default 0
        Colours, at most, among which the network tells that of each pixel, from which it then
        differs by little. Pictures with flat parts, as drawings and maps have, are learned in a
        fraction of the steps; a step takes longer, the more so the larger the pictures are. 0:
        every pixel is told as a number.
    text_encoder : str or None, default None
        Folder of a frozen encoder of texts, such as all-MiniLM-L6-v2: what it makes of each word by
        itself stands in place of a vector that is learned. The model keeps these vectors, and needs
        the folder no more.
    """

    size: float = 1.0
    blocks: int = 1
    dropout: float = 0.1
    steps: int | None = None
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-2
    points: int = 16
    sampler: str = "multistep"
    sampling_steps: int = 20
    guidance: float = 0.0
    repeats: int = 4
    label_weight: float = 0.1
    precision: str = "auto"
    body: str = "unet"
    axes: int = 384
    last_noise: float | None = 0.3
    noise_centre: float = -0.5
    matrix_rate: float | None = None
    even_axes: bool = False
    palette: int = 0
    text_encoder: str | None = None

    implied: ClassVar[dict[str, Any]] = {
        "precision": "bfloat16",
        "axes": 0,
        "last_noise": None,
        "noise_centre": -0.5,
        "matrix_rate": None,
        "even_axes": False,
        "palette": 0,
        "text_encoder": None,
    }
    suggests_latents: ClassVar[bool] = True
    # where pictures are told in words, beside the settings that all kinds have then
    worded: ClassVar[Mapping[str, Any]] = {}
    # beside other settings of a model that was saved by an earlier version
    unnamed: ClassVar[Mapping[str, Any]] = {"axes": 0}
    unwritten: ClassVar[dict[str, Any]] = {
        "axes": 0,
        "last_noise": None,
        "noise_centre": -0.5,
        "matrix_rate": None,
        "even_axes": False,
        "palette": 0,
        "text_encoder": None,
    }

    @classmethod
    def today(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked for, and what models of earlier versions have otherwise."""
        return {"axes": cls.axes, **asked}

    @classmethod
    def beside_words(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """``today`` of pictures that are told in words."""
        return cls._beside_words(asked)

    @classmethod
    def _beside_words(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = {**WORDED, **cls.worded, **cls.today(asked)}
        return {**(COLOURED if found["palette"] else PLAIN), **found}

    @classmethod
    def learns_fast(cls, settings: Mapping[str, Any]) -> bool:
        """Whether the rates of pictures are higher than those of captions may be."""
        return cls._learns_fast(settings)

    @classmethod
    def _learns_fast(cls, settings: Mapping[str, Any]) -> bool:
        return bool(settings["palette"])

    def advice(self, space: Space) -> list[str]:
        """Latents, of large pictures."""
        grid = space.grid
        if not self.suggests_latents or grid is None or max(grid[1:]) < MIN_LATENT_SIDE:
            return []
        return [
            f"The pictures have {grid[1]} x {grid[2]} pixels: family='latent_diffusion' models few "
            "numbers of each instead, and learns and draws in about half of the time."
        ]

    def in_precision(self, precision: str) -> Self:
        return dataclasses.replace(self, precision=settled(self.precision, precision))

    def recipe(self, rows: int) -> Recipe:
        return recipe_of(self, rows)


def recipe_of(config: Any, rows: int) -> Recipe:
    """Of pictures: as many of them as the config says, or as the rows are worth; a running mean
    over the last of the steps."""
    if config.steps is not None and config.steps < 1:
        raise ValueError(f"steps must be at least 1, or None, got {config.steps!r}.")
    least, most = PICTURES_SEEN_BOUNDS
    planned = max(least, min(most, 30 * rows)) // config.batch
    steps = planned if config.steps is None else config.steps
    return Recipe(
        steps=steps,
        batch=config.batch,
        rate=config.rate,
        decay=config.decay,
        memory=min(MAX_MEMORY, max(0.0, 1 - 1 / (AVERAGED_SHARE * steps))),
        matrix_rate=config.matrix_rate,
    )


def _structure(context_space: Space | None, vectors: Tensor | None) -> dict[str, Any]:
    """What the network's shape depends on beyond the spaces and the config; ``vectors``: those of
    the words that are told, where they are fixed."""
    if context_space is None or not context_space.shape:
        return {}
    words = words_of(context_space)
    columns = context_space.variables[: context_space.columns if words else None]
    known = {} if vectors is None else {VECTORS: vectors.shape[1]}
    return dict(embedding_mark(columns)) | ({WORDS: True} if words else {}) | known


def _vectors_of(folder: str | None, context_space: Space | None) -> Tensor | None:
    """(V, F) what a frozen encoder of texts makes of each word that pictures are told in.
    ValueError where they are told in none."""
    if folder is None:
        return None
    words = None if context_space is None else words_of(context_space)
    pieces = () if words is None else words.variables[0].pieces
    if not pieces:
        raise ValueError(
            f"text_encoder={folder!r} is for pictures told in a string of at most {MAX_WORDS} "
            "words or characters: leave it out, or say types={...: {'type': 'text', 'format': "
            "'words'}}."
        )
    return TextEncoder(folder).vectors(pieces)


def words_of(context_space: Space) -> Block | None:
    """The string that a network attends to: the only block behind the columns, if it is short."""
    found = context_space.blocks
    short = len(found) == 1 and found[0].ragged and found[0].shape[0] <= MAX_WORDS
    return found[0] if short else None


class PictureDensity(Density):
    """log p is a bound by Monte Carlo, whose noise all rows share. What the network was told of a
    class it keeps for draws. The context may also be columns (B, C) that go with the picture, any
    of them missing, and the cells of a string behind them."""

    config_class = PictureDiffusion
    bounded = True
    conditional = True
    takes_columns = True
    takes_bytes = True
    shared_backbone = True
    walks = True
    guides = True
    plain_numbers: ClassVar[int] = len(GREY_QUANTILES) + 2  # of the last reading of a picture
    shares: Tensor

    def __init__(
        self,
        space: Space,
        config: PictureDiffusion,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        if space.grid is None:
            raise ValueError(
                "A diffusion of pictures needs a grid of pixels, which a table has not; choose "
                "family='diffusion'."
            )
        if len(space.variables) > math.prod(space.grid):
            raise ValueError(
                "A diffusion of pictures tells classes apart and predicts no number: choose "
                "another family, or classes of it."
            )
        if config.body not in BODIES:
            raise ValueError(f"body must be one of {', '.join(BODIES)}, got {config.body!r}.")
        levels = max(variable.cardinality for variable in space.variables)
        told = () if context_space is None else context_space.variables
        words: tuple[int, ...] | None = None
        if context_space is not None and WORDS in self.structure:
            block = context_space.blocks[0]
            words = (block.shape[0], block.variables[0].cardinality)
            words += (self.structure[VECTORS],) if VECTORS in self.structure else ()
            told = told[: context_space.columns]
        self.told_columns = len(told)
        self.inputs = (
            Inputs(told, EMBEDDED in self.structure)
            if context_space is not None and context_space.shape
            else None
        )
        classes = told[0].cardinality if told and self.inputs is None else 0
        told_numbers = self.inputs.size if self.inputs else 0
        self.core = self._core(space.grid, levels, classes, config, told_numbers, words)
        pixels = len(space.variables) if len(space.variables) * levels <= MAX_LEVEL_SHARES else 1
        cells = len(PROFILE_NOISES) * TILES_PER_SIDE**2 * self.core.grid[0]
        self.typical = Typicality(
            (self.core.net.width, len(PROFILE_NOISES), cells, self.plain_numbers),
            AXES_PER_READING,
        )
        # log p of each level, pixel by pixel
        self.register_buffer("shares", torch.zeros(pixels, levels))
        self.student = (
            Student(self.core, self.structure[DISTILLED]) if DISTILLED in self.structure else None
        )

    @classmethod
    def _core(
        cls,
        grid: tuple[int, int, int],
        levels: int,
        classes: int,
        config: Any,
        told: int,
        words: tuple[int, ...] | None,
    ) -> Denoiser:
        return Denoiser(grid, levels, classes, config, told, words)

    @classmethod
    def build(
        cls,
        space: Space,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Scales, covariances and the shares of grey levels come from the rows."""
        vectors = _vectors_of(config.text_encoder, context_space)
        with seeded(generator):
            density = cls(space, config, _structure(context_space, vectors), context_space)
        if vectors is not None:
            density.core.take_vectors(vectors)
        ones = torch.ones(data.rows, dtype=torch.float64)
        first = starting_rows(data, ones)[0]
        whole = first.mask.all(1)
        told = None if context is None or density.inputs is not None else density._code(context)
        with torch.no_grad():
            density.core.start(first.value)
        density.core.correlate(
            first.value[whole], None if told is None else told[: first.rows][whole]
        )
        density._count(data.value)
        if density.inputs is not None and context is not None:
            columns = context.cut(density.told_columns)[0]
            density.inputs.start(columns.value, columns.mask)
        return density.eval()

    def _count(self, value: Tensor) -> None:
        """The shares of the levels: of each pixel, leaning on those of all pixels."""
        levels = self.shares.shape[1]
        parts = value.split(COUNTED_ROWS)
        everywhere = _counts((part.flatten().long() for part in parts), levels).double() + 1
        everywhere /= everywhere.sum()
        counts = everywhere.expand(len(self.shares), -1) * math.sqrt(len(value) + 1)
        if len(self.shares) > 1:
            first = levels * torch.arange(value.shape[1])
            places = ((part.long() + first).flatten() for part in parts)
            found = _counts(places, self.shares.numel()).double()
            counts = counts + found.unflatten(0, self.shares.shape)
        self.shares.copy_((counts / counts.sum(1, keepdim=True)).log())

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=True,
            conditionals="approximate",
            mode="approximate",
            null_context="learned",
            features=True,
            typical=True,
            edits=True,
            unfolds=True,
            distils=True,
        )

    @property
    def is_told(self) -> bool:
        return self.core.tells

    @property
    def status_of_draws(self) -> Status:
        """Guided ones are no draws of p."""
        guided = self.core.tells and self._guidance(None) != 0
        return Status.APPROXIMATE if guided else super().status_of_draws

    def _code(self, context: Event | None) -> Tensor | None:
        """(B,) classes as the network knows them: those that are missing are one more. (B, T) of
        columns."""
        if context is None or self.inputs is None:
            return (
                None
                if context is None
                else torch.where(context.mask, context.value, float(self.core.classes))
            )
        return self._told_numbers(context)

    def _told_numbers(self, context: Event) -> Tensor:
        """(B, T) of columns, and of the words behind them."""
        assert self.inputs is not None
        columns, words = context.cut(self.told_columns)
        told = self.inputs(columns.value, columns.mask)
        return torch.cat([told, words.value.where(words.mask, UNKNOWN_WORD)], 1).float()

    def _partly_told(self, context: Event, generator: torch.Generator) -> Event:
        """The context with random columns hidden, and at times all words."""
        columns, words = context.cut(self.told_columns)
        gone = [withheld(columns.value.shape, generator)]
        if words.value.shape[1]:
            untold = torch.rand(context.rows, 1, generator=generator) < UNTOLD_SHARE
            gone.append(untold.expand(words.value.shape))
        return context.hide(torch.cat(gone, 1))

    # ------------------------------------------------------------------ the bound

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        noise = self._noise(generator or stream(0, "bound"))
        code = self._code(context)
        each = [
            self._bound(event.value[part], None if code is None else code[part], *noise)
            for part in slices(event.rows, CHUNK_PICTURES)
        ]
        return torch.cat(each)

    def _noise(
        self, generator: torch.Generator
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S C H W"]]:
        """Levels all over, one in each of S slices; the same noise for all rows."""
        points = self.config.points
        place = (torch.arange(points) + torch.rand(points, generator=generator)) / points
        log_s = math.log(self.core.least) + place * math.log(MAX_NOISE / self.core.least)
        return log_s.exp(), torch.randn(points, *self.core.grid, generator=generator)

    def _bound(
        self, value: Tensor, code: Tensor | None, levels: Tensor, noise: Tensor
    ) -> Float[Tensor, " B"]:
        x = self.core.pictures(value)
        total = torch.zeros(len(x), dtype=torch.float64)
        for s, eps in zip(levels, noise, strict=True):
            clean = self.core(x + s * eps, s.expand(len(x)), code)
            total += (x - clean).double().square().flatten(1).sum(1) / float(s) ** 2
        integral = total * (math.log(MAX_NOISE / self.core.least) / len(levels))
        variance = MAX_NOISE**2 + 1
        prior = 0.5 * (
            x.double().square().flatten(1) / variance
            + MAX_NOISE**2 / variance
            - 1
            - math.log(MAX_NOISE**2 / variance)
        ).sum(1)
        return self._log_levels(value, x, noise[0]) - prior - integral

    def _log_levels(
        self, value: Float[Tensor, "B D"], x: Tensor, noise: Float[Tensor, "C H W"]
    ) -> Float[Tensor, " B"]:
        """log P(x | z) at the smallest noise: no more than half a grey level."""
        near = self._near_levels()
        each = 4 * 8 * value.shape[1] * len(near)
        parts = slices(len(value), max(1, MAX_LEVEL_BYTES // each))
        return torch.cat([self._near_log_levels(value[part], noise, near) for part in parts])

    def _near_levels(self) -> Int[Tensor, " N"]:
        """From a level, those that have a share in the sum: others are as far as
        ``REACH_DEVIATIONS`` from z, so that double precision has nothing of them."""
        reach = min(math.ceil(REACH_DEVIATIONS * self.core.least_levels), self.shares.shape[1] - 1)
        return torch.arange(-reach, reach + 1)

    def _near_log_levels(
        self, value: Float[Tensor, "b D"], noise: Float[Tensor, "C H W"], near: Int[Tensor, " N"]
    ) -> Float[Tensor, " b"]:
        levels = self.shares.shape[1]
        deviation = self.core.least_levels
        apart = deviation * noise.double().flatten()[:, None] - near  # (D, N) in grey levels
        at = value.long()[:, :, None] + near
        pixel = torch.arange(value.shape[1] if len(self.shares) > 1 else 1)
        share = self.shares[pixel[:, None], at.clamp(0, levels - 1)]
        log_weight = share - apart.square() / (2 * deviation**2)
        log_weight = log_weight.masked_fill((at < 0) | (at >= levels), -torch.inf)
        return (log_weight[:, :, len(near) // 2] - log_weight.logsumexp(2)).sum(1)

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The mean weighted squared error of a pixel; classes that are "none" are given as their
        number."""
        noise = generator or stream(0, "loss")
        pictures = self.core.pictures(event.value)
        mask = event.mask.unflatten(1, self.core.grid)
        if self.student is not None:
            return self.student.loss(self.core, pictures, self._code(context), noise).double()
        code = self._code(
            context if context is None or self.inputs is None else self._partly_told(context, noise)
        )
        with seeded(noise):
            return self.core.loss(pictures, mask, code, noise).double()

    def _distil(self, calls: int) -> None:
        self.requires_grad_(False)
        self.structure = self.structure | {DISTILLED: calls}
        self.student = Student(self.core, calls)

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        x = self.core.pictures(event.value)
        return torch.cat(
            [self.core.features(x[part]) for part in slices(len(x), CHUNK_PICTURES)]
        ).double()

    # ------------------------------------------------------------------ familiarity

    def _readings(self, value: Float[Tensor, "B D"]) -> list[Tensor]:
        """What the encoder sees of a picture, the log of its denoising errors at several noises,
        everywhere and by tiles, and its greys: their quantiles, and how much neighbours differ
        across and down."""
        noise = torch.randn(len(PROFILE_NOISES), *self.core.grid, generator=stream(0, "profile"))
        each = []
        for start in range(0, len(value), CHUNK_PICTURES):
            x = self.core.pictures(value[start : start + CHUNK_PICTURES])
            errors = [
                (x - self.core(x + s * eps, torch.full((len(x),), s), None)).square() / s**2
                for s, eps in zip(PROFILE_NOISES, noise, strict=True)
            ]
            whole = torch.stack([error.mean((1, 2, 3)) for error in errors], 1)
            tiles = torch.cat(
                [
                    nn.functional.adaptive_avg_pool2d(error, TILES_PER_SIDE).flatten(1)
                    for error in errors
                ],
                1,
            )
            each.append(
                (
                    self.core.features(x),
                    (whole + LOG_OFFSET).log(),
                    (tiles + LOG_OFFSET).log(),
                    self._plainly(value[start : start + CHUNK_PICTURES], x),
                )
            )
        return [torch.cat(parts).double() for parts in zip(*each, strict=True)]

    def _plainly(self, value: Float[Tensor, "B D"], x: Tensor) -> Float[Tensor, "B P"]:
        """What needs no network of a picture."""
        return greys(x)

    def _fit_typicality(self, event: Event) -> None:
        complete = event.value[event.mask.all(1)]
        if len(complete):
            self.typical.fit(self._readings(complete[:TYPICAL_ROWS]))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """Missing pixels are painted in first."""
        if not event.rows:
            return torch.zeros(0, dtype=torch.float64)
        out: Tensor = self.typical(
            self._readings(event.value if event.mask.all() else self._mode(event, None).value)
        )
        return out

    # ------------------------------------------------------------------ draws

    @final
    @torch.no_grad()
    def draw(
        self,
        n: int,
        context: Event | None = None,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Drawn:
        """n pictures, and the network calls that each took. A sampler ("multistep", "ddim" or
        "ancestral") or a number of steps that is asked for is taken by the network itself, all else
        by its student, if it was distilled."""
        code = self._code(context)
        found = [self._pixels(torch.zeros(0, *self.core.grid), generator)]
        calls = 0
        for part in slices(n, CHUNK_PICTURES) if n else ():
            painter, levels = self._painter(
                None if code is None else code[part],
                generator,
                sampler,
                steps,
                guidance,
            )
            drawn = painter.from_noise(len(range(n)[part]), levels)
            found.append(self._pixels(drawn, generator))
            calls = painter.calls
        return Drawn(torch.cat(found), calls)

    def _pixels(self, drawn: Tensor, generator: torch.Generator | None) -> Float[Tensor, "B D"]:
        """The grey levels of what came out of noise."""
        return self.core.values(drawn)

    def _guidance(self, asked: float | None) -> float:
        """As asked, else as the draws around it are asked for, else as the settings say."""
        told = walk().guidance if asked is None else asked
        own: float = self.config.guidance
        return own if told is None else told

    def _painter(
        self,
        code: Tensor | None,
        generator: torch.Generator | None,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> tuple[Painter, list[float]]:
        """Who makes new pictures, and by way of which noise levels."""
        strength = self._guidance(guidance)
        steps = walk().steps if steps is None else steps
        if self.student is not None and sampler is None and steps is None:
            return Painter(
                self.student.core, code, "ddim", generator, strength
            ), self.student.levels
        painter = Painter(self.core, code, sampler or self.config.sampler, generator, strength)
        return painter, painter.levels(steps or self.config.sampling_steps)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        return Event(self.draw(n, context, generator=generator).value)

    def _unfold(
        self, n: int, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, "S B D"]:
        """Each state scaled as a picture is: z / sqrt(s^2 + 1)."""
        painter, levels = self._painter(self._code(context), generator)
        each = list(painter.path(n, levels))
        *before, (last, _) = each
        states = [self.core.values(z / (s**2 + 1) ** 0.5) for z, s in before]
        return torch.stack([*states, self._pixels(last, generator)])

    @on_device
    def unfold_given(
        self, event: Event, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "S B D"]:
        """Of pictures of which nothing is known."""
        if bool(event.mask.any()):
            raise CapabilityError(
                type(self).__name__,
                "the way from noise to a picture that is known in part",
                "that to pictures of which nothing is known",
            )
        with torch.no_grad():
            return self._unfold(event.rows, self._conditioned(context, event.rows), generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """Missing pixels painted in; pictures of which nothing is known are drawn."""
        code = self._code(context)
        each = [
            self._painted(event.take(part), None if code is None else code[part], generator)
            for part in slices(event.rows, CHUNK_PICTURES)
        ]
        return Event(torch.cat(each))

    def _painted(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "b D"]:
        steps = walk().steps or self.config.sampling_steps
        repeats = self.config.repeats
        if event.mask.all():
            return event.value
        if not event.mask.any():
            artist, levels = self._painter(code, generator)
            return self._pixels(artist.from_noise(event.rows, levels), generator)
        painter = Painter(self.core, code, "ancestral", generator, self._guidance(None))
        filled = self._filled(painter, event, steps, repeats)
        return torch.where(event.mask, event.value, filled)

    def _filled(
        self, painter: Painter, event: Event, steps: int, repeats: int
    ) -> Float[Tensor, "b D"]:
        """Pictures whose missing pixels are painted in; the others may have moved."""
        known = self.core.pictures(event.value)
        mask = event.mask.unflatten(1, self.core.grid)
        code = painter.code
        told = code is not None and bool((code < self.core.classes).all())
        filled = (
            painter.fill(known, mask, steps, repeats)
            if told
            else painter.follow(known, mask, steps)
        )
        return self.core.values(filled)

    def _edit(self, event: Event, context: Event | None, how: Edit) -> Event:
        painter = Painter(
            self.core,
            self._code(context),
            "ddim",
            how.generator,
            how.strength.float()[:, None, None, None],
        )
        where = None if how.where is None else how.where.unflatten(1, self.core.grid)
        push = how.lead
        lead = (
            None
            if push is None
            else lambda clean: push(self.core.values(clean)).float().unflatten(1, self.core.grid)
        )
        return Event(
            self.core.values(
                painter.edit(self.core.pictures(event.value), how.noise, EDITING_STEPS, where, lead)
            )
        )

    def _mode(self, event: Event, context: Event | None) -> Event:
        """One completion of each row by itself, so that none depends on the others."""
        rows = [
            self._likely(event.take(slice(row, row + 1)), row_of(context, row))
            for row in range(event.rows)
        ]
        return Event(torch.cat([event.value[:0], *rows]))

    def _likely(self, event: Event, context: Event | None) -> Float[Tensor, "1 D"]:
        """A row completed with the same noise as any other; where no pixel is known, the walk
        without noise that starts at the mean of the noise, zero."""
        noise = stream(0, "mode")
        if event.mask.any():
            return self._sample_conditional(event, context, noise).value
        artist, levels = self._painter(self._code(context), noise, "multistep")
        return self.core.values(artist.from_noise(1, levels, 0.0))


def _counts(parts: Iterable[Tensor], size: int) -> Tensor:
    """(size,) how often each code occurs in all parts."""
    total = torch.zeros(size, dtype=torch.long)
    for part in parts:
        total += torch.bincount(part, minlength=size)
    return total


def withheld(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """(B, C) bool: cells of a context that are not told in the fit, so that any may be missing: of
    one row in five all of them, of one in five each by the toss of a coin."""
    whole, some, coin = (
        torch.rand(size, generator=generator) for size in ((shape[0], 1), (shape[0], 1), shape)
    )
    return (whole < WITHHELD_SHARE) | (some < WITHHELD_SHARE) & (coin < 0.5)


def row_of(context: Event | None, row: int) -> Event | None:
    """One row of what is told, if anything is."""
    return None if context is None else context.take(slice(row, row + 1))


def by_few_known(
    event: Event, chosen: Callable[[Tensor], Tensor], led: Callable[[Tensor], Tensor]
) -> Float[Tensor, "B D"]:
    """Pictures of which few pixels are known, filled by ``chosen``, and the others by ``led``;
    both are given the places of their rows."""
    count = event.mask.sum(1)
    few = (count > 0) & (count <= FEW_KNOWN_PIXELS)
    value = torch.empty_like(event.value)
    for some, fill in ((few, chosen), (~few, led)):
        rows = some.nonzero()[:, 0]
        if len(rows):
            value[rows] = fill(rows).to(value)
    return value


def greys(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
    """Quantiles of the greys of pictures, and how much neighbours differ across and down."""
    levels = torch.quantile(x.flatten(1), torch.tensor(GREY_QUANTILES), dim=1).T
    across, down = (_difference_of_neighbours(x, dim) for dim in (3, 2))
    return torch.cat(
        [levels, (across + LOG_OFFSET).log()[:, None], (down + LOG_OFFSET).log()[:, None]], 1
    )


def _difference_of_neighbours(x: Float[Tensor, "B C H W"], dim: int) -> Float[Tensor, " B"]:
    """The mean absolute difference along an axis; 0 where the axis has one pixel."""
    if x.shape[dim] == 1:
        return x.new_zeros(len(x))
    return x.diff(dim=dim).abs().mean((1, 2, 3))

r"""Pictures as few codes, written one after the other: an autoencoder makes one of a thousand codes
of each patch, and a transformer writes these row by row, told of classes, columns and words.

    log p(x | c) >= log P(x | k) + sum_i log p(k_i | k_<i, c),     k = code(x)

A. van den Oord, O. Vinyals and K. Kavukcuoglu (2017), Neural discrete representation learning, with
the prior of A. Ramesh et al. (2021), Zero-shot text-to-image generation, section 2. The bound is
that of the discrete picture, in nats, and has no noise: of all words of codes it adds up the one
that the encoder says. ``conjoin.nets.picture_codes`` has the autoencoder, ``sequence`` the
transformer, to whose tokens the words of the context are places. In a fit the autoencoder learns
first, by -log P(x | k), and then the transformer, from codes that stay as they are.

Draws may exaggerate what they are told, by s: code by code from

    ln q(k_i | k_<i, c) = (1 + s) ln p(k_i | k_<i, c) - s ln p(k_i | k_<i) + const

(J. Ho and T. Salimans (2022), Classifier-free diffusion guidance, equation 6, of codes as in H.
Chang et al. (2023), Muse). Those are no draws of p.

What is known of a picture in part is met by sequential Monte Carlo: each row has several particles,
whose codes are drawn by p and by how well each alone goes with what is known of its patch; they
count by how probable that was, are resampled where few of them count, and in the end one of them is
drawn, by log P of all that is known (A. Doucet, N. de Freitas and N. Gordon (2001), Sequential
Monte Carlo methods in practice, section 1.3; P. Guarniero, A. Johansen and A. Lee (2017), The
iterated auxiliary particle filter, on functions that look ahead).

Shape letters: B rows, D = C H W pixels, M places, V codes, K particles of a row, F features.

>>> from conjoin.core import Space, Variable, stream
>>> space = Space((64,), (Variable("pixel", "ordered", cardinality=256),) * 64, "image", (1, 8, 8))
>>> data = Event(torch.randint(256, (20, 64), generator=stream(0)).double())
>>> density = PictureTokensDensity.build(space, PictureTokens(size=0.125), data, stream(0))
>>> density.coder.grid, density.log_prob(data).shape
((8, 8), torch.Size([20]))
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from conjoin.components.typicality import MIN_TYPICALITY_ROWS, Typicality
from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Likelihood,
    Recipe,
    Record,
    RecordSpace,
    Space,
    Status,
    Variable,
    categorical,
    seeded,
    stream,
)
from conjoin.core.device import on_device
from conjoin.core.event import slices
from conjoin.core.learning import share_done
from conjoin.core.random import chosen_rows
from conjoin.core.sampling import walk
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.autoregressive.particles import degenerate, survivors
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.deep import starting_rows
from conjoin.families.diffusion.picture import (
    TILES_PER_SIDE,
    TYPICAL_ROWS,
    greys,
    recipe_of,
    row_of,
    withheld,
    words_of,
)
from conjoin.nets.picture_codes import PictureCodes
from conjoin.nets.precision import computing_in, settled
from conjoin.nets.surprise import token_surprise

__all__ = ["PictureTokens", "PictureTokensDensity"]

BASE_WIDTH = 128  # of the transformer, where ``size`` is 1
MIN_WIDTH = 16
MAX_PICTURES = 256  # that the networks see at once, and no more than have colours in so many bytes
MAX_COLOUR_BYTES = 1 << 29
MAX_FILLED_BYTES = 1 << 29  # of what is known in part, and weighed at once
# where places are few, and particles cost little: at most so many of a row, and so many pairs of
# places of all of them
MORE_PARTICLES = 64
PARTICLE_PAIRS = 1 << 12
MODE_DRAWS = 8  # of a picture, of which the most probable one is its mode
CODED_PIXELS = 1 << 16  # of a step, from which the autoencoder learns: 64 pictures of 32 x 32
GREYS = 9  # numbers that ``greys`` makes of a picture
KEPT_AXES = (96, 48, 16, 9)  # principal axes of each reading
MIN_LEVELS = 3  # of a number of a code: with two the encoder begins where it learns nothing
MAX_CODES = 1 << 14
MAX_COLOURS = 256
MAX_PARTICLES = 1024
REBUILT_ROWS = 256  # of which the error of the autoencoder is told, at most


@dataclass(frozen=True)
class PictureTokens(Config):
    """Settings of pictures that are written code by code.

    Parameters
    ----------
    size : float, default 1.0
        Factor on the widths of the networks.
    blocks : int, default 4
        Layers of the transformer.
    dropout : float, default 0.0
        Share of its hidden units left out in a training step.
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 64
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay, for each unit of the learning rate.
    matrix_rate : float or None, default 0.02
        Learning rate of matrices between hidden units, which Muon moves; None: they are moved like
        all others.
    code_levels : tuple of int, default (8, 5, 5, 5)
        Levels of each number of a place, of which a code is a combination: 1,000 codes. A place is
        8 pixels a side in pictures of 48 and more, 4 from 24 on, 2 from 12 on, else one.
    colours : int, default 48
        Colours, at most, among which the decoder tells that of each pixel.
    coding : float, default 0.25
        Share of the fit in which the autoencoder learns; the transformer learns in the rest.
    particles : int, default 16
        Particles of each row, at least, where a picture is known in part.
    precision : {"auto", "bfloat16", "float32"}, default "auto"
        Numbers of the steps of learning: "auto" is the faster of both on the machine of the fit.
        Answers are computed in float64.
    """

    size: float = 1.0
    blocks: int = 4
    dropout: float = 0.0
    steps: int | None = None
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2
    matrix_rate: float | None = 0.02
    code_levels: tuple[int, ...] | list[int] = (8, 5, 5, 5)
    colours: int = 48
    coding: float = 0.25
    particles: int = 16
    precision: str = "auto"

    # beside other settings of a model that was saved by an earlier version
    unnamed: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        levels = self.code_levels
        if not isinstance(levels, tuple | list):
            raise ValueError(f"code_levels must be a tuple of whole numbers, got {levels!r}.")
        if not levels or not all(isinstance(each, int) and each >= MIN_LEVELS for each in levels):
            raise ValueError(
                f"code_levels must be whole numbers of at least {MIN_LEVELS}, one at least, got "
                f"{levels!r}."
            )
        if math.prod(levels) > MAX_CODES:
            raise ValueError(
                f"code_levels={levels!r} are {math.prod(levels):,} codes, more than "
                f"{MAX_CODES:,}: take fewer."
            )
        for name, most in (("colours", MAX_COLOURS), ("particles", MAX_PARTICLES)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(
                    f"{name} must be a whole number from 1 to {most:,}, got {value!r}."
                )
        if not isinstance(self.coding, int | float) or not 0 < self.coding < 1:
            raise ValueError(f"coding must lie between 0 and 1, got {self.coding!r}.")
        object.__setattr__(self, "code_levels", tuple(levels))

    def in_precision(self, precision: str) -> Self:
        return dataclasses.replace(self, precision=settled(self.precision, precision))

    def recipe(self, rows: int) -> Recipe:
        return recipe_of(self, rows)

    @classmethod
    def today(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked for: models of earlier versions have nothing else."""
        return dict(asked)

    @classmethod
    def beside_words(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """``today`` of pictures that are told in words."""
        return cls.today(asked)

    @classmethod
    def learns_fast(cls, settings: Mapping[str, Any]) -> bool:
        """Whether the rates of pictures are higher than those of captions may be."""
        return True


@dataclass(frozen=True)
class _Pair:
    """What the continuation of codes needs that are told something, and of the same ones told
    nothing."""

    told: Any
    untold: Any
    strength: float

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        return dataclasses.replace(self, told=self.told.take(rows), untold=self.untold.take(rows))


class CodeWriter(SequenceDensity):
    """p(codes | context): strings that all have as many codes as there are places. Draws exaggerate
    the context by the guidance of ``sampling.walk``."""

    guides = True

    @property
    def is_told(self) -> bool:
        return bool(self.context_space.blocks)

    def _begin_draws(self, rows: int, context: Record, net: Any = None) -> Any:
        net = net or self._drawing_net(rows)
        told = super()._begin_draws(rows, context, net)
        strength = walk().guidance
        if not strength or not self.is_told:
            return told
        nothing = self.context_space.check(Record(), rows)
        return _Pair(told, super()._begin_draws(rows, nothing, net), strength)

    def _step(self, state: Any, token: Tensor | None) -> tuple[Any, Float[Tensor, "B V1"]]:
        if not isinstance(state, _Pair):
            return super()._step(state, token)
        told, log_p = super()._step(state.told, token)
        untold, log_base = super()._step(state.untold, token)
        more = state.strength * (log_p - log_base)
        led = torch.where(log_p.isfinite(), log_p + more, log_p).log_softmax(1)
        return dataclasses.replace(state, told=told, untold=untold), led

    def _bounded(self, logits: Tensor, full: bool) -> Tensor:
        """None ends before the last place, and at that all do."""
        end = torch.arange(self.tokens + 1) == self.tokens
        before = logits[:, :-1] if full else logits
        before = before.masked_fill(end, -torch.inf)
        return torch.cat([before, super()._bounded(logits, full)[:, -1:]], 1) if full else before

    def _log_p(
        self, event: Event, told: Tensor, written: Tensor | None = None
    ) -> Float[Tensor, " B"]:
        """In a step of learning in float32: all rows are as long, and codes are many."""
        if not self.training:
            return super()._log_p(event, told, written)
        with computing_in(self.config.precision):
            logits = self.net.compute(event.value[:, :-1], *self.net.cast(told))
        lost = token_surprise(logits.flatten(0, 1), event.value.flatten(), self.tokens)
        return -torch.where(event.mask, lost.view_as(event.value), 0.0).sum(1).double()

    def told_at(
        self, codes: Int[Tensor, "B M"], context: Record
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B F"]]:
        """log p of each code given those before it, and the mean hidden layer over them."""
        hidden = self.net.features(codes, self.encoder(context, len(codes)))
        log_p = self._log_next(self.net.logits(hidden))[:, :-1]
        return log_p.gather(2, codes[..., None])[..., 0], hidden.mean(1)


class PictureTokensDensity(Density):
    """log p is a lower bound without noise. The context may be a class, or columns (B, C), any of
    them missing, and the cells of a string behind them."""

    config_class = PictureTokens
    bounded = True
    conditional = True
    takes_columns = True
    takes_bytes = True
    guides = True

    def __init__(
        self,
        space: Space,
        config: PictureTokens,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        if space.grid is None or math.prod(space.grid) != len(space.variables):
            raise ValueError(
                "Pictures that are written code by code need a grid of pixels, and no column "
                "beside it: choose another family."
            )
        self.levels = max(variable.cardinality for variable in space.variables)
        self.told_columns = 0 if context_space is None else _columns_in(context_space)
        colours = min(config.colours, self.levels ** space.grid[0])
        self.coder = PictureCodes(
            space.grid,
            self.levels,
            tuple(config.code_levels),
            colours,
            config.size,
            config.precision,
        )
        self.places = math.prod(self.coder.grid)
        self.writer = CodeWriter(
            Block(
                "codes",
                "sequence",
                (self.places,),
                (Variable("code", "category", self.coder.count),),
            ),
            Sequence(
                width=max(MIN_WIDTH, round(BASE_WIDTH * config.size / MIN_WIDTH) * MIN_WIDTH),
                blocks=config.blocks,
                dropout=config.dropout,
                precision=config.precision,
                drawing="gumbel",
                told_strings="places",
            ),
            context_space=_record_space(context_space),
        )
        width = self.writer.config.shape[0]
        self.typical = Typicality((width, self.places, TILES_PER_SIDE**2, GREYS), KEPT_AXES)

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
        """Colours and the scales of columns come from the rows."""
        with seeded(generator):
            density = cls(space, config, context_space=context_space)
        first = starting_rows(data, torch.ones(data.rows, dtype=torch.float64))[0]
        density.coder.start(density._pictures(first.value), density._pictures(first.mask))
        density.writer.encoder.start(density._record(context, data.rows))
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.LOWER_BOUND,
            objective="surrogate",
            conditionals="approximate",
            mode="approximate",
            null_context="learned",
            features=True,
            typical=True,
        )

    @property
    def is_told(self) -> bool:
        return self.writer.is_told

    @property
    def status_of_draws(self) -> Status:
        """Guided ones are no draws of p."""
        guided = self.is_told and bool(walk().guidance)
        return Status.APPROXIMATE if guided else super().status_of_draws

    # ------------------------------------------------------------------ pictures, codes, contexts

    def _pictures(self, value: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        return value.unflatten(1, self.coder.pixels)

    def _record(self, context: Event | None, rows: int) -> Record:
        """What the transformer is told."""
        space = self.writer.context_space
        if context is None or not space.blocks:
            return space.check(Record(), rows)
        value, mask = (_as_columns(part) for part in (context.value, context.mask))
        columns, *words = space.blocks
        near = slice(0, self.told_columns)
        told = {columns.name: Event(value[:, near], mask[:, near])}
        for block in words:
            cells = slice(self.told_columns, None)
            told[block.name] = block.laid.restored(block, value[:, cells], mask[:, cells])
        return space.check(Record(told), rows)

    # ------------------------------------------------------------------ the bound

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        record = self._record(context, event.rows)
        each = [torch.zeros(0, dtype=torch.float64)]
        for part in slices(event.rows, self._at_once):
            pictures = self._pictures(event.value[part])
            codes = self.coder.codes(pictures)
            pixels = self.coder.log_prob(pictures, self.coder.vectors(codes)).flatten(1).sum(1)
            told = record.take(torch.arange(event.rows)[part])
            written = self.writer._log_prob(Event(codes.flatten(1)), told, None)
            each.append(pixels + written)
        return torch.cat(each)

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """-log P of a pixel given the codes, and -log p of a code. In a fit the autoencoder learns
        first, and then the transformer, from codes that stay."""
        noise = generator or stream(0, "loss")
        value = torch.where(event.mask, event.value, (self.levels - 1) / 2)
        pictures = self._pictures(value)
        mask = self._pictures(event.mask)
        done = share_done()
        first = done is not None and done < self.config.coding
        out = torch.zeros(event.rows, dtype=torch.float64)
        if first or done is None:
            out = out + self._coder_losses(pictures, mask, noise)
        if not first:
            with torch.no_grad():
                codes = self.coder.codes(pictures).flatten(1)
            known = self.coder.known(mask).flatten(1)
            told = self._record(self._partly_told(context, noise), event.rows)
            out = out + self.writer._losses(Event(codes, known), told, noise) / self.places
        return out

    def _coder_losses(
        self,
        pictures: Float[Tensor, "B C H W"],
        mask: Bool[Tensor, "B C H W"],
        generator: torch.Generator,
    ) -> Float[Tensor, " B"]:
        """-log P of a pixel; in a step of learning of as many rows as have ``CODED_PIXELS``, which
        stand for all of them: what patches look like is learned by more steps, not by more rows."""
        rows = len(pictures)
        most = max(1, CODED_PIXELS // math.prod(self.coder.pixels[1:]))
        if not self.training or rows <= most:
            return self._errors(pictures, mask)
        some = chosen_rows(rows, most, generator)
        out = torch.zeros(rows, dtype=torch.float64)
        return out.index_add(0, some, self._errors(pictures[some], mask[some]) * (rows / most))

    def _errors(
        self, pictures: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B C H W"]
    ) -> Float[Tensor, " B"]:
        """-log P of a pixel given the codes; in a step of learning of all rows at once."""
        rows = len(pictures)
        each = [
            self.coder.error(pictures[part], mask[part], self.coder.quantised(pictures[part])[0])
            for part in slices(rows, max(1, rows) if self.training else self._at_once)
        ]
        return torch.cat(each)

    @property
    def stages(self) -> Mapping[str, tuple[float, float]]:
        share = self.config.coding
        return {"coder": (0.0, share), "writer": (share, 1.0)}

    def _partly_told(self, context: Event | None, generator: torch.Generator) -> Event | None:
        """The context with random columns hidden; the writer hides all of it at times."""
        if context is None or not self.told_columns:
            return context
        whole = _as_columns(context.mask)
        gone = withheld(whole[:, : self.told_columns].shape, generator)
        gone = nn.functional.pad(gone, (0, whole.shape[1] - self.told_columns))
        return context.hide(gone.reshape(context.mask.shape))

    @torch.no_grad()
    def rebuilt(self, event: Event) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Of whole pictures that are encoded and decoded: the mean squared error of a cell, as grey
        levels squared, and -log P of a pixel, nats."""
        errors = []
        nats = []
        for part in slices(event.rows, self._at_once):
            pictures = self._pictures(event.value[part])
            z = self.coder.quantised(pictures)[0]
            errors.append((self.coder.middle(z) - pictures).square().flatten(1).mean(1))
            known = torch.ones_like(pictures, dtype=torch.bool)
            nats.append(self.coder.error(pictures, known, z))
        return torch.cat(errors), torch.cat(nats)

    def notices(self, event: Event) -> list[str]:
        """How well pictures come back from their codes."""
        whole = event.take(event.mask.all(1)).take(slice(0, REBUILT_ROWS))
        if not whole.rows:
            return []
        error, nats = self.rebuilt(whole)
        high, wide = self.coder.grid
        return [
            f"Pictures that are rebuilt from their codes ({high} x {wide} places, "
            f"{self.coder.count:,} codes) are {float(error.mean()) ** 0.5:.1f} of {self.levels} "
            f"grey levels off (root mean square), and a pixel takes "
            f"{float(nats.mean()) / math.log(2):.2f} bits given them, in {whole.rows:,} rows of "
            "the fit."
        ]

    # ------------------------------------------------------------------ familiarity

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        if not event.rows:
            return torch.zeros(0, self.writer.config.shape[0], dtype=torch.float64)
        return self._readings(event.value)[0]

    def _readings(self, value: Float[Tensor, "B D"]) -> list[Tensor]:
        """What the transformer sees of a picture, how surprising each code is, how well the decoder
        shows each tile, and the greys."""
        each = []
        for part in slices(len(value), self._at_once):
            pictures = self._pictures(value[part])
            codes = self.coder.codes(pictures)
            told = self._record(None, len(codes))
            log_p, hidden = self.writer.told_at(codes.flatten(1), told)
            shown = -self.coder.log_prob(pictures, self.coder.vectors(codes))
            tiles = nn.functional.adaptive_avg_pool2d(shown[:, None], TILES_PER_SIDE).flatten(1)
            half = max(self.levels - 1, 1) / 2
            each.append((hidden, log_p, tiles, greys((pictures.float() - half) / half).double()))
        return [torch.cat(parts) for parts in zip(*each, strict=True)]

    def _fit_typicality(self, event: Event) -> None:
        complete = event.value[event.mask.all(1)]
        if len(complete) >= MIN_TYPICALITY_ROWS:
            self.typical.fit(self._readings(complete[:TYPICAL_ROWS]))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """Missing pixels are filled in first."""
        if not event.rows:
            return torch.zeros(0, dtype=torch.float64)
        out: Tensor = self.typical(
            self._readings(event.value if event.mask.all() else self._mode(event, None).value)
        )
        return out

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        each = [torch.zeros(0, len(self.space.variables), dtype=torch.float64)]
        for part in slices(n, self._at_once) if n else ():
            some = None if context is None else context.take(part)
            z = self._drawn(len(range(n)[part]), some, generator)
            each.append(self.coder.draw(z, generator).flatten(1))
        return Event(torch.cat(each))

    @on_device
    def unfold_given(
        self, event: Event, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "S B D"]:
        """Pictures of which nothing is known as they are written, row of places by row; what is not
        written yet is grey."""
        if bool(event.mask.any()):
            raise CapabilityError(
                type(self).__name__,
                "the way to a picture that is known in part",
                "that to pictures of which nothing is known",
            )
        with torch.no_grad():
            told = self._conditioned(context, event.rows)
            drawn = self._pictures(self._sample(event.rows, told, generator).value)
        row = torch.arange(drawn.shape[2]) // self.coder.patch
        grey = torch.full_like(drawn, float((self.levels - 1) // 2))
        states = [
            torch.where((row < written)[:, None], drawn, grey).flatten(1)
            for written in range(self.coder.grid[0] + 1)
        ]
        return torch.stack(states)

    def _drawn(
        self, rows: int, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B Z h w"]:
        """Vectors of codes that are written anew."""
        nothing = self.writer.space.unknown(rows)
        told = self._record(context, rows)
        codes = self.writer._sample_conditional(nothing, told, generator).value
        return self.coder.vectors(codes.unflatten(1, self.coder.grid))

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """Pictures that are known in part are gone on with; others are drawn."""

        def told(rows: Tensor) -> Event | None:
            return None if context is None else context.take(rows)

        none = (~event.mask.any(1)).nonzero()[:, 0]
        some = (event.mask.any(1) & ~event.mask.all(1)).nonzero()[:, 0]
        out = event.value.clone()
        out[none] = self._sample(len(none), told(none), generator).value
        for part in some.split(self._filled_at_once) if len(some) else ():
            out[part] = self._filled(event.take(part), told(part), generator)
        return Event(torch.where(event.mask, event.value, out))

    @property
    def _at_once(self) -> int:
        """Pictures whose pixels are asked about at once: of each colour some numbers are kept."""
        each = 8 * 6 * len(self.coder.palette.colours) * math.prod(self.coder.pixels[1:])
        return max(1, min(MAX_PICTURES, MAX_COLOUR_BYTES // each))

    @property
    def _particles(self) -> int:
        """Of a row."""
        more = min(MORE_PARTICLES, PARTICLE_PAIRS // self.places**2)
        return max(self.config.particles, more)

    @property
    def _filled_at_once(self) -> int:
        """Pictures."""
        colours = len(self.coder.palette.colours)
        weights = 3 * self._particles * colours * math.prod(self.coder.pixels[1:])
        return max(1, MAX_FILLED_BYTES // (8 * (weights + self.places * self.coder.count)))

    def _filled(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, "b D"]:
        """By sequential Monte Carlo: each code is drawn by p and by how well it goes with what is
        known of its patch, which the weights of the particles take back in the end."""
        rows = event.rows
        count = self._particles
        every = torch.arange(rows).repeat_interleave(count)
        pictures = self._pictures(event.value)
        evidence = self.coder.evidence(pictures, self._pictures(event.mask))
        told = self._record(None if context is None else context.take(every), len(every))
        state = self.writer._begin_draws(len(every), told)
        log_weight = torch.zeros(rows, count, dtype=torch.float64)
        lent = torch.zeros(len(every), dtype=torch.float64)
        codes = torch.zeros(len(every), 0, dtype=torch.long)
        for place in range(self.places):
            state, log_p = self.writer._step(state, codes[:, -1] if place else None)
            own = evidence[every, place]
            log_own = log_p[:, : self.coder.count] + own
            token = categorical(log_own, generator)
            codes = torch.cat([codes, token[:, None]], 1)
            lent = lent + own.gather(1, token[:, None])[:, 0]
            log_weight = log_weight + log_own.logsumexp(1).view(rows, count)
            poor = degenerate(log_weight)
            if bool(poor.any()):
                again = survivors(log_weight, poor, generator)
                state = state.take(again)
                codes = codes[again]
                lent = lent[again]
                log_weight = log_weight.where(~poor[:, None], 0.0)
        z = self.coder.vectors(codes.unflatten(1, self.coder.grid))
        log_weight = log_weight + (self._log_known(event.take(every), z) - lent).view(rows, count)
        chosen = z.unflatten(0, (rows, count))[
            torch.arange(rows), categorical(log_weight, generator)
        ]
        return self.coder.draw(chosen, generator).flatten(1)

    def _log_known(self, event: Event, z: Float[Tensor, "B Z h w"]) -> Float[Tensor, " B"]:
        """log P of what is known, given vectors."""
        value, mask = (self._pictures(part) for part in (event.value, event.mask))
        return self.coder.log_prob(value, z, mask).flatten(1).sum(1)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """Row by row with the same noise, so that none depends on the others. The most probable
        code at each place would leave pictures empty, as any one place is most often ground."""
        value = event.value.clone()
        some = (~event.mask.all(1)).nonzero()[:, 0]
        for row in some.tolist():
            one = event.take(slice(row, row + 1))
            value[row] = self._likely(one, row_of(context, row))
        return Event(torch.where(event.mask, event.value, value))

    def _likely(self, event: Event, context: Event | None) -> Float[Tensor, " D"]:
        """The most probable one of ``MODE_DRAWS`` completions of a row."""
        every = torch.zeros(MODE_DRAWS, dtype=torch.long)
        told = None if context is None else context.take(every)
        drawn = self._sample_conditional(event.take(every), told, stream(0, "mode"))
        return drawn.value[self._log_prob(Event(drawn.value), told, None).argmax()]


def _as_columns(cells: Tensor) -> Tensor:
    """(B, C) of (B,), or as they are."""
    return cells if cells.dim() > 1 else cells[:, None]


def _columns_in(space: Space) -> int:
    """How many variables of a context are columns."""
    return space.columns if words_of(space) is not None else len(space.variables)


def _record_space(space: Space | None) -> RecordSpace:
    """The blocks of a context: its columns, and the string behind them."""
    if space is None:
        return RecordSpace()
    words = words_of(space)
    variables = space.variables[: _columns_in(space)]
    columns = Block("columns", "vector", (len(variables),), variables)
    return RecordSpace((columns,) if words is None else (columns, words))

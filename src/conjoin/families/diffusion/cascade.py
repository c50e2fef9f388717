r"""Pictures in two stages: a small one first, then the picture given the small one.

    log p(x) >= log p(l(x)) + log p(x | l(x)),     l(x) = round(means of 2 x 2 pixels)

J. Ho et al. (2022), Cascaded diffusion models for high fidelity image generation; the small picture
stands beside the noisy one, enlarged, as in C. Saharia et al. (2021), Image super-resolution via
iterative refinement. l is a function of x, so p(x) = p(x, l(x)). The second stage does not know
that its pictures must have the means that it was told: a draw of it may have others, and what it
spends on these is missing from the sum. So the sum is a lower bound of log p(x) of the pictures
that are drawn in two stages, even where both stages are exact; each is a bound of its own
(``conjoin.families.diffusion.picture``). In nats, of the discrete picture.

The small picture comes out of noise as well, or is written in codes
(``conjoin.families.autoregressive.picture_tokens``), which learn what stands where from far fewer
pictures. The second stage only sharpens what it is told, and can learn from fewer rows of each
step.

The network of the second stage corrects a Gaussian about the enlarged picture u,

    G(z; s) = (z / s^2 + u / v) / (1 / s^2 + 1 / v),     c_out^2 = 1 / (1 / s^2 + 1 / v),

where v is the mean of (x - u)^2 in the rows of the fit.

Shape letters: B rows, D = C H W pixels, P pixels of the small picture, T numbers that are told.

>>> from conjoin.core import Variable
>>> space = Space((64,), (Variable("pixel", "ordered", cardinality=256),) * 64, "image", (1, 8, 8))
>>> data = Event(torch.randint(256, (20, 64), generator=stream(0)).double())
>>> density = CascadeDensity.build(space, Cascade(size=0.25, axes=0), data, stream(0))
>>> small = density.small(data)
>>> parts = density.base.log_prob(small) + density.upper._log_prob(data, small, None)
>>> bool((density.log_prob(data) == parts).all())
True
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from conjoin.core import (
    Capabilities,
    CapabilityError,
    Density,
    Event,
    Likelihood,
    Space,
    Status,
    seeded,
    stream,
)
from conjoin.core.capabilities import worst
from conjoin.core.device import on_device
from conjoin.core.event import slices
from conjoin.core.random import chosen_rows
from conjoin.core.shapes import Float
from conjoin.families import check_settings
from conjoin.families.autoregressive.picture_tokens import PictureTokens
from conjoin.families.diffusion.denoiser import WITHHELD_SHARE, Denoiser
from conjoin.families.diffusion.painter import Painter
from conjoin.families.diffusion.picture import (
    COLOURED,
    PictureDensity,
    PictureDiffusion,
    by_few_known,
    row_of,
)

__all__ = ["Cascade", "CascadeDensity"]

TIMES = 2  # by which the second stage enlarges
CHUNK_PICTURES = 1024  # that are made smaller at once


@dataclass(frozen=True)
class Cascade(PictureDiffusion):
    """Settings of pictures in two stages; those that are not named here are ``PictureDiffusion``'s,
    for both stages, but for ``axes`` and ``palette``, which the first one has alone. Where that is
    written in codes they are the second one's, and both have ``size`` and those that ``codes``
    names.

    Parameters
    ----------
    upper : mapping or None, default None
        Settings of the second stage that differ: ``size``, ``blocks``, ``dropout``, ``points``,
        ``sampler``, ``sampling_steps``, ``guidance``, ``repeats``, ``body`` or ``noise_centre``.
    codes : mapping or None, default None
        Settings of ``PictureTokens`` for the first stage, {} for its own, but for ``steps``,
        ``batch``, ``rate``, ``decay``, ``matrix_rate`` and ``precision``, which both stages share,
        and ``size``, which is the cascade's unless it is named here. None: the first stage is a
        diffusion too.
    upper_share : float, default 1.0
        Share of the rows of a step of the fit from which the second stage learns; they stand for
        all of them.
    """

    upper: Mapping[str, Any] | None = None
    codes: Mapping[str, Any] | None = None
    upper_share: float = 1.0

    implied: ClassVar[dict[str, Any]] = {
        **PictureDiffusion.implied,
        "codes": None,
        "upper_share": 1.0,
    }
    unwritten: ClassVar[dict[str, Any]] = {
        **PictureDiffusion.unwritten,
        "codes": None,
        "upper_share": 1.0,
    }
    suggests_latents: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("upper", "codes"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise ValueError(f"{name} must be a mapping of settings, or None, got {value!r}.")
        if not isinstance(self.upper_share, int | float) or not 0 < self.upper_share <= 1:
            raise ValueError(
                f"upper_share must be above 0 and at most 1, got {self.upper_share!r}."
            )
        if self.codes is not None:
            self._check_codes(self.codes)
        wrong = [name for name in self.upper or {} if name not in UPPER_SETTINGS]
        if wrong:
            raise ValueError(
                f"upper has no setting {wrong[0]!r} of its own; choose from "
                f"{', '.join(UPPER_SETTINGS)}."
            )

    def __hash__(self) -> int:  # settings are mappings, which have none
        return hash(repr(self))

    def _check_codes(self, codes: Mapping[str, Any]) -> None:
        for name in SHARED_SETTINGS:
            if name in codes:
                raise ValueError(
                    f"codes={{{name!r}: ...}} is a setting of both stages: give it to the cascade."
                )
        check_settings(PictureTokens(), "codes", codes)
        PictureTokens(**codes)
        for name in ("text_encoder", "palette", "even_axes", "guidance"):
            if getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is for a first stage out of noise: leave it "
                    "out, or say codes=None."
                )

    @classmethod
    def _beside_words(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The first stage is written in codes, unless a setting is of another one."""
        codes = asked.get("codes", None if OF_NOISE & set(asked) else {})
        if codes is None:
            return super()._beside_words(asked)
        upper = {**UPPER_OF_CODES, **(asked.get("upper") or {})}
        return super()._beside_words({**IN_CODES, **asked, "codes": codes, "upper": upper})

    @classmethod
    def _learns_fast(cls, settings: Mapping[str, Any]) -> bool:
        return settings.get("codes") is not None or super()._learns_fast(settings)

    @property
    def _of_stages(self) -> PictureDiffusion:
        """What both stages have."""
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(PictureDiffusion)}
        return PictureDiffusion(**own)

    @property
    def of_base(self) -> PictureDiffusion | PictureTokens:
        """The config of the small picture."""
        if self.codes is None:
            return self._of_stages
        shared = {name: getattr(self, name) for name in SHARED_SETTINGS}
        return PictureTokens(**{"size": self.size, **self.codes, **shared})

    @property
    def of_upper(self) -> PictureDiffusion:
        """The config of the picture given the small one."""
        return dataclasses.replace(self._of_stages, axes=0, palette=0, **(self.upper or {}))


SHARED_SETTINGS = ("steps", "batch", "rate", "decay", "matrix_rate", "precision")
# settings of a first stage of noise
OF_NOISE = frozenset({"axes", "even_axes", "guidance", "palette", "text_encoder"})
# beside words: the second stage learns details alone, and from fewer rows
IN_CODES: Mapping[str, Any] = {
    **COLOURED,
    "palette": 0,
    "even_axes": False,
    "upper_share": 0.25,
    "batch": 64,
}
UPPER_OF_CODES: Mapping[str, Any] = {"noise_centre": PictureDiffusion.noise_centre}
UPPER_SETTINGS = (
    "size",
    "blocks",
    "dropout",
    "points",
    "sampler",
    "sampling_steps",
    "guidance",
    "repeats",
    "body",
    "noise_centre",
)


class _Beside(nn.Module):
    """The Gaussian about the enlarged picture: the last P of the numbers that are told."""

    variance: Tensor

    def __init__(self, small: tuple[int, int, int]) -> None:
        super().__init__()
        self.small = small
        self.register_buffer("variance", torch.ones(1))

    def start(self, pictures: Float[Tensor, "B C H W"], code: Tensor | None, least: float) -> None:
        """v of whole pictures, at least ``least``."""
        coarse = nn.functional.avg_pool2d(pictures, TIMES)
        apart = (pictures - _enlarged(coarse)).square().mean()
        self.variance.copy_(apart.clamp_min(least))

    def estimate(
        self, z: Float[Tensor, "B C H W"], s: Float[Tensor, " B"], code: Tensor
    ) -> Float[Tensor, "B C H W"]:
        """G."""
        told = _enlarged(code[:, -math.prod(self.small) :].unflatten(1, self.small).to(z))
        weight = (self.variance / (self.variance + s**2))[:, None, None, None]
        return weight * z + (1 - weight) * told

    def error(self, s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """c_out^2."""
        return self.variance * s**2 / (self.variance + s**2)


class _Enlarger(Denoiser):
    """Takes noise off pictures of which a small one is told, behind all else that is."""

    def __init__(
        self,
        grid: tuple[int, int, int],
        levels: int,
        classes: int,
        config: Any,
        told: int,
        words: tuple[int, ...] | None,
    ) -> None:
        small = _small_grid(grid)
        super().__init__(grid, levels, classes, config, told, words, beside=_Beside(small))
        self.told_pixels = math.prod(small)

    def _heard(self, code: Tensor | None) -> Tensor | None:
        """What is told beside the small picture; None where that is hidden."""
        if code is None:
            return None
        told = code[:, : -self.told_pixels]
        if not told.shape[1] or bool(told.isnan().any()):
            return None
        return told[:, 0] if self.classes else told

    def _untold(self, code: Tensor | None) -> Tensor | None:
        if code is None:
            return None
        hidden = torch.full_like(code[:, : -self.told_pixels], torch.nan)
        return torch.cat([hidden, code[:, -self.told_pixels :]], 1)

    def _sometimes(self, code: Tensor, generator: torch.Generator) -> Tensor:
        gone = torch.rand(len(code), generator=generator) < WITHHELD_SHARE
        told = torch.where(gone, float(self.classes), code[:, 0])
        return torch.cat([told[:, None], code[:, 1:]], 1)


Fill = Callable[[Event, Event | None, torch.Generator | None], Tensor]
MODE_DRAWS = 16  # beside the modes of the stages, of which the most probable is taken
MODE_REPEATS = 4  # bounds whose mean compares them
CANDIDATES = 32  # draws, of which one is chosen


class _Upper(PictureDensity):
    """p(x | small picture, context); its contexts have the pixels of the small picture last."""

    shared_backbone = False

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
        return _Enlarger(grid, levels, classes, config, told, words)

    def _code(self, context: Event | None) -> Tensor | None:
        assert context is not None
        own, small = self._own_context(context)
        grid = _small_grid(self.core.grid)
        pixels = (small.value.float().unflatten(1, grid) - self.core.centre) / self.core.scale
        told = [pixels.flatten(1)]
        if self.inputs is not None:
            told.insert(0, self._told_numbers(own))
        elif self.core.classes:
            told.insert(0, own.value.where(own.mask, float(self.core.classes)).float())
        return torch.cat(told, 1)

    def _own_context(self, context: Event) -> tuple[Event, Event]:
        return context.cut(context.value.shape[1] - math.prod(_small_grid(self.core.grid)))

    def _partly_told(self, context: Event, generator: torch.Generator) -> Event:
        own, small = self._own_context(context)
        return _joined(super()._partly_told(own, generator), small.value)

    def _filled(
        self, painter: Painter, event: Event, steps: int, repeats: int
    ) -> Float[Tensor, "b D"]:
        known = self.core.pictures(event.value)
        mask = event.mask.unflatten(1, self.core.grid)
        return self.core.values(painter.fill(known, mask, steps, repeats))


class CascadeDensity(Density):
    """``base`` is p(small picture | context), ``upper`` p(picture | small picture, context)."""

    config_class = Cascade
    bounded = True
    conditional = True
    takes_columns = True
    takes_bytes = True
    walks = True
    guides = True

    def __init__(
        self,
        space: Space,
        config: Cascade,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        small = _small_space(space)
        base = type(config.of_base).density
        self.base = base(
            small, config.of_base, structure if base is PictureDensity else None, context_space
        )
        self.upper = _Upper(space, config.of_upper, structure, context_space)

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
        config = config.in_precision("auto")
        less = _lowered(data, _grid_of(space))
        known: dict[str, Any] = {"weight": weight, "context_space": context_space}
        base = type(config.of_base).density.build(
            _small_space(space), config.of_base, less, generator, context=context, **known
        )
        # of the context alone scales of columns are known
        told = context if context_space is not None and context_space.shape else None
        upper = _Upper.build(space, config.of_upper, data, generator, context=told, **known)
        with seeded(stream(0, "replaced")):  # the stages are put in below
            out = cls(space, config, upper.structure, context_space)
        out.base = base
        out.upper = upper
        return out.eval()

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
        )

    @property
    def is_told(self) -> bool:
        return self.base.is_told

    @property
    def status_of_draws(self) -> Status:
        return worst(self.base.status_of_draws, self.upper.status_of_draws)

    @final
    def small(self, event: Event) -> Event:
        """l(x): the means of 2 x 2 pixels, rounded; known where all four are."""
        return _lowered(event, _grid_of(self.space))

    def _told(self, context: Event | None, small: Event) -> Event:
        return _joined(context, small.value)

    # ------------------------------------------------------------------ log p and learning

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        small = self.small(event)
        first = self.base._log_prob(small, context, generator)
        return first + self.upper._log_prob(event, self._told(context, small), generator)

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        small = self.small(event)
        first = self.base._losses(small, context, generator)
        share = self.config.upper_share if self.training else 1.0
        some = chosen_rows(event.rows, max(1, round(share * event.rows)), generator)
        told = self._told(context, small).take(some)
        second = self.upper._losses(event.take(some), told, generator)
        return first.index_add(0, some, second * (event.rows / max(1, len(some))))

    def notices(self, event: Event) -> list[str]:
        """Of the first stage."""
        return self.base.notices(self.small(event))

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        return self.base._features(self.small(event))

    def _fit_typicality(self, event: Event) -> None:
        self.base._fit_typicality(self.small(event))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """Of the small picture."""
        return self.base._typicality(self.small(event))

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        small = self.base._sample(n, context, generator)
        return self.upper._sample(n, self._told(context, small), generator)

    @on_device
    def unfold_given(
        self, event: Event, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "S B D"]:
        """Of pictures of which nothing is known: the small one on its way, enlarged, then the
        whole one."""
        if bool(event.mask.any()):
            raise CapabilityError(
                type(self).__name__,
                "the way from noise to a picture that is known in part",
                "that to pictures of which nothing is known",
            )
        grid = _small_grid(_grid_of(self.space))
        with torch.no_grad():
            told = self._conditioned(context, event.rows)
            first = self.base.unfold_given(self.small(event), told, generator=generator)
            whole = self._told(told, Event(first[-1]))
            second = self.upper._unfold(event.rows, whole, generator)
        shown = [_enlarged(state.unflatten(1, grid)).flatten(1) for state in first]
        return torch.cat([torch.stack(shown), second])

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """Known pixels lead the second stage, and those that fill a pixel of the small picture also
        the first; rows of which few pixels are known choose among whole draws."""

        def filled(rows: Tensor, fill: Fill) -> Tensor:
            told = None if context is None else context.take(rows)
            return fill(event.take(rows), told, generator)

        return Event(
            by_few_known(
                event,
                lambda rows: filled(rows, self._chosen),
                lambda rows: filled(rows, self._led),
            )
        )

    def _led(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, "b D"]:
        small = self.base._sample_conditional(self.small(event), context, generator)
        return self.upper._sample_conditional(event, self._told(context, small), generator).value

    def _chosen(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, "b D"]:
        """The small picture of that of ``CANDIDATES`` draws which is nearest to the known pixels,
        and the draw itself where it has them (approximate Bayesian computation, by rejection: J.
        Pritchard et al. (1999), Population growth of human Y chromosomes)."""
        rows = torch.arange(event.rows).repeat_interleave(CANDIDATES)
        told = None if context is None else context.take(rows)
        small = self.base._sample(len(rows), told, generator)
        whole = self.upper._sample(len(rows), self._told(told, small), generator).value
        known = event.take(rows)
        apart = torch.where(known.mask, (whole - known.value).abs(), 0.0).sum(1)
        nearest = apart.unflatten(0, (event.rows, CANDIDATES)).argmin(1)
        place = torch.arange(event.rows) * CANDIDATES + nearest
        led = self._told(context, small.take(place))
        filled = self.upper._sample_conditional(event, led, generator).value
        return torch.where((apart[place] == 0)[:, None], whole[place].to(filled), filled)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """Of the modes of the stages and some draws, the most probable; each row by itself."""
        rows = [
            self._likeliest(event.take(slice(row, row + 1)), row_of(context, row))
            for row in range(event.rows)
        ]
        return Event(torch.cat([event.value[:0], *rows]))

    def _likeliest(self, event: Event, context: Event | None) -> Float[Tensor, "1 D"]:
        small = self.base._mode(self.small(event), context)
        led = self.upper._mode(event, self._told(context, small)).value
        rows = torch.zeros(MODE_DRAWS, dtype=torch.long)
        told = None if context is None else context.take(rows)
        draws = self._sample_conditional(event.take(rows), told, stream(0, "mode")).value
        ways = torch.cat([led, draws.to(led)])
        told = None if context is None else context.take(torch.zeros(len(ways), dtype=torch.long))
        log_p = torch.stack(
            [
                self._log_prob(Event(ways), told, stream(0, "mode", str(again)))
                for again in range(MODE_REPEATS)
            ]
        ).mean(0)
        return ways[log_p.argmax()][None]


def _grid_of(space: Space) -> tuple[int, int, int]:
    if space.columns:
        raise ValueError("A cascade takes pictures, and no columns beside: take 'illustrated'.")
    if space.grid is None or space.grid[1] % TIMES or space.grid[2] % TIMES:
        raise ValueError(
            "A cascade is of pictures whose height and width are even"
            + ("." if space.grid is None else f", not {space.grid[1]} x {space.grid[2]}.")
            + " Choose family='picture_diffusion', or another size."
        )
    return space.grid


def _small_grid(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    return grid[0], grid[1] // TIMES, grid[2] // TIMES


def _small_space(space: Space) -> Space:
    grid = _small_grid(_grid_of(space))
    cells = math.prod(grid)
    if len(space.variables) != TIMES**2 * cells:
        raise ValueError("A cascade is of pictures alone, without a number beside them.")
    return Space((cells,), space.variables[:cells], space.layout, grid)


def _enlarged(pictures: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    return nn.functional.interpolate(pictures, scale_factor=TIMES, mode="nearest")


def _lowered(event: Event, grid: tuple[int, int, int]) -> Event:
    """The small pictures; where a pixel is missing, of the known ones. Bytes stay bytes."""
    parts = [_few_lowered(event.take(part), grid) for part in slices(event.rows, CHUNK_PICTURES)]
    if not parts:
        nothing = torch.zeros(0, math.prod(_small_grid(grid)))
        return Event(nothing.double())
    return Event(
        torch.cat([part.value for part in parts]), torch.cat([part.mask for part in parts])
    )


def _few_lowered(event: Event, grid: tuple[int, int, int]) -> Event:
    value = event.value.double().unflatten(1, grid)
    mask = event.mask.unflatten(1, grid).double()
    known = nn.functional.avg_pool2d(mask, TIMES)
    total = nn.functional.avg_pool2d(torch.where(mask > 0, value, 0.0), TIMES)
    means = (total / known.clamp_min(0.1)).round()
    kept = torch.float64 if event.value.is_floating_point() else event.value.dtype
    return Event(means.flatten(1).to(kept), (known == 1).flatten(1))


def _joined(context: Event | None, small: Float[Tensor, "B P"]) -> Event:
    """The context, with the pixels of the small picture last."""
    if context is None:
        return Event(small)
    value = context.value.reshape(len(small), -1)
    mask = context.mask.reshape(len(small), -1)
    return Event(
        torch.cat([value.double(), small.double()], 1),
        torch.cat([mask, torch.ones_like(small, dtype=torch.bool)], 1),
    )

r"""Columns, and the picture that goes with them: the columns first, then the picture, which is told
of them.

    log p(c, v) = log p(c) + log p(v | c),
    log p(c_-1, v) = log p(c_-1) + log sum_k p(c_1 = k | c_-1) p(v | k, c_-1)

p(c) is any family for tables that sums over missing cells exactly, p(v | c) the diffusion of
pictures: the chain rule, of one density that is exact and one that is a bound (D. Kingma et al.
(2021), Variational diffusion models, equation 11). Where the picture is missing log p(c) is exact,
as a picture of which nothing is known adds nothing. The first variable (y, in a joint model) is
summed out where it is missing, a number over a few of its quantiles. Other missing cells are not
told to the picture: any are withheld at times in the fit (J. Ho and T. Salimans (2022),
Classifier-free diffusion guidance, algorithm 1). Missing cells beside a picture are chosen among
draws of p(c) by what the picture says of each (D. Rubin (1987), A noniterative sampling/importance
resampling alternative). Nats.

Shape letters: B rows, D columns, P pixels, K candidates.

>>> from conjoin.core import Space, Variable
>>> grey = (Variable("grey", "ordered", cardinality=256),) * 64
>>> space = Space((65,), (Variable("mass", "real"), *grey), "vector", (1, 8, 8))
>>> pixels = torch.randint(256, (40, 64), generator=stream(0))
>>> rows = torch.cat([torch.arange(40)[:, None], pixels], 1).double()
>>> config = Illustrated(size=0.25, points=4)
>>> density = IllustratedDensity.build(space, config, Event(rows), stream(0))
>>> without = Event(rows).hide(torch.arange(65) > 0)
>>> bool((density.log_prob(without) == density.first.log_prob(Event(rows[:, :1]))).all())
True
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core import (
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Likelihood,
    Region,
    Space,
    categorical,
    seeded,
    stream,
)
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float
from conjoin.families import FAMILIES, name_of, resolve
from conjoin.families.diffusion.picture import PictureDensity, PictureDiffusion

__all__ = ["Illustrated", "IllustratedDensity"]

PROPOSALS = 8  # completions of the columns among which a picture chooses
KNOTS = 9  # values of a number at which a picture is asked; between them its word is interpolated


@dataclass(frozen=True)
class Illustrated(PictureDiffusion):
    """Settings of columns with a picture; those that are not named here are ``PictureDiffusion``'s.

    Parameters
    ----------
    columns : str, default "circuit"
        Family of the columns: one that sums over missing cells.
    settings : mapping or None, default None
        Settings of that family.
    """

    columns: str = "circuit"
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        kind = self.of_columns.density
        if kind.conditional or not kind.bounded or FAMILIES[name_of(self.of_columns)].pictures:
            raise ValueError(
                f"columns={self.columns!r} can't stand before a picture; choose from circuit, "
                "mixture, bayes_net."
            )

    @property
    def of_columns(self) -> Config:
        config: Config = type(resolve(self.columns))(
            **(self.settings or resolve(self.columns).get_params())
        )
        return config


def _split(space: Space) -> tuple[Space, Space]:
    """The space of the columns, and that of the pixels."""
    columns = len(space.variables) - space.pixels
    if space.grid is None or columns < 1:
        raise ValueError(
            "family='illustrated' is for tables of which one column holds pictures; for pictures "
            "alone take 'diffusion'."
        )
    before = space.variables[:columns]
    after = space.variables[columns:]
    return Space((columns,), before), Space((space.pixels,), after, "image", space.grid)


class IllustratedDensity(Density):
    """``first`` is p(c), fitted before the rest; ``picture`` is p(v | c)."""

    config_class = Illustrated
    bounded = True
    points: Tensor

    def __init__(
        self,
        space: Space,
        config: Illustrated,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ):
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        before, pixels = _split(space)
        self.first = config.of_columns.density(before, config.of_columns, self.structure["first"])
        self.picture = PictureDensity(pixels, config, context_space=before)
        self.width = len(before.variables)
        levels = before.variables[0].cardinality
        # of the first variable: levels, or quantiles
        self.register_buffer("points", torch.arange(levels or KNOTS, dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Space,
        config: Illustrated,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """The columns' density from all rows, that of the pictures from the rows that have one."""
        before, pixels = _split(space)
        columns, picture = data.cut(len(before.variables))
        seen = picture.mask.all(1)
        if not seen.any():
            raise ValueError(
                "None of the rows of the fit has a picture: leave the column out, or give more "
                "rows."
            )
        first = config.of_columns.density.build(
            before, config.of_columns, columns, generator, weight=weight
        )
        if first.capabilities.missing != "exact":
            raise ValueError(
                f"columns={config.columns!r} can't leave missing cells out exactly; choose "
                "circuit, mixture or bayes_net."
            )
        with seeded(stream(0, "replaced")):  # both parts are put in below
            out = cls(space, config, {"first": first.structure})
        out.first = first
        if not before.variables[0].discrete:
            out.points.copy_(
                columns.value[columns.mask[:, 0], 0].quantile(
                    (torch.arange(KNOTS).double() + 0.5) / KNOTS
                )
            )
        out.picture = PictureDensity.build(
            pixels,
            config,
            picture.take(seen),
            generator,
            context=columns.take(seen),
            context_space=before,
        )
        return out.eval()

    def _beginning(self) -> Density:
        return self.first

    @property
    def capabilities(self) -> Capabilities:
        able = self.first.capabilities
        return Capabilities(
            Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=True,
            missing="approximate",
            conditionals="approximate",
            regions=able.regions,
            mode="none" if able.mode == "none" else "approximate",
            typical=True,
        )

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        columns, picture = event.cut(self.width)
        out = self.first.log_prob(columns, generator=generator)
        open_ = picture.mask.any(1) & ~columns.mask[:, 0]
        if open_.any():
            # a copy, as the noise of the other rows must not depend on whether there are such rows
            noise = None if generator is None else generator.clone_state()
            summed = self._summed(columns.take(open_), picture.take(open_), noise)
            out = out.index_add(0, open_.nonzero()[:, 0], summed)
            picture = picture.hide(open_[:, None])
        return out + self._seen(columns, picture, generator)

    def _summed(
        self, columns: Event, picture: Event, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """log sum_k p(k | c) p(v | c, k) over the first variable, which is missing; with the same
        noise for every k. Quantiles q_k of a number have equal mass: they are weighted by p(q_k |
        c) / p(q_k)."""
        log_weight = self.first.log_target(columns, self.points)
        if not self.space.variables[0].discrete:
            nothing = Event(columns.value[:1], torch.zeros_like(columns.mask[:1]))
            log_weight = log_weight - self.first.log_target(nothing, self.points)
        points, inside = _in_region(self.points, columns.within)
        log_weight = log_weight.masked_fill(~inside, -torch.inf).log_softmax(1)
        seed = None if generator is None else draw_seed(generator)
        each = [
            self._seen(_with_first(columns, point), picture, None if seed is None else stream(seed))
            for point in points
        ]
        return (log_weight + torch.stack(each, 1)).logsumexp(1)

    def _seen(
        self, columns: Event, picture: Event, generator: torch.Generator | None = None
    ) -> Float[Tensor, " B"]:
        """log p(v | c); 0 where there is no picture."""
        seen = picture.mask.any(1)
        if not picture.mask[seen].all():
            raise CapabilityError(
                "Illustrated", "log p of a part of a picture", "pictures that are whole or missing"
            )
        out = torch.zeros(len(seen), dtype=torch.float64)
        if seen.any():
            told = columns.take(seen)._replace(within=None)
            out = out.index_copy(
                0,
                seen.nonzero()[:, 0],
                self.picture.log_prob(picture.take(seen), told, generator=generator),
            )
        return out

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The picture is asked at a few of many numbers, which are in order."""
        columns, picture = event.cut(self.width)
        asked = len(candidates) if self.space.variables[0].discrete else min(KNOTS, len(candidates))
        knots = torch.linspace(0, len(candidates) - 1, asked).round().long()
        each = [self._seen(_with_first(columns, candidates[k]), picture) for k in knots.tolist()]
        return self.first.log_target(columns, candidates) + _between(
            candidates[knots].double(), torch.stack(each, 1), candidates.double()
        )

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Of the picture alone: the columns' density has been fitted before."""
        columns, picture = event.cut(self.width)
        seen = picture.mask.any(1)
        rows = (seen if seen.any() else ~seen).nonzero()[:, 0]  # without a pixel the loss is zero
        losses = self.picture.losses(picture.take(rows), columns.take(rows), generator=generator)
        return torch.zeros(len(seen), dtype=torch.float64).index_copy(0, rows, losses)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        columns = self.first.sample(n, generator=generator)
        return _join(columns, self.picture.sample(n, columns, generator=generator))

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        columns, picture = event.cut(self.width)
        full = self.first.sample_conditional(columns, generator=generator)
        choose = picture.mask.all(1) & ~columns.mask.all(1)
        if choose.any():
            many = _repeated(columns.take(choose), PROPOSALS)
            drawn = Event(self.first.sample_conditional(many, generator=generator).value)
            score = self._seen(
                drawn, _repeated(picture.take(choose), PROPOSALS), generator
            ).unflatten(0, (-1, PROPOSALS))
            full = _put(full, choose, _picked(drawn.value, categorical(score, generator)))
        return _join(full, self.picture.sample_conditional(picture, full, generator=generator))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """Beside a picture the likeliest of the columns' own mode and of draws of them; then the
        picture, where it is missing."""
        columns, picture = event.cut(self.width)
        full = Event(self.first.mode(columns).value)
        for row in (picture.mask.all(1) & ~columns.mask.all(1)).nonzero()[:, 0].tolist():
            many = _repeated(columns.take(slice(row, row + 1)), PROPOSALS - 1)
            own = full.value[row : row + 1]
            drawn = Event(
                torch.cat(
                    [own, self.first.sample_conditional(many, generator=stream(0, "mode")).value]
                )
            )
            score = self.first.log_prob(drawn) + self._seen(
                drawn, _repeated(picture.take(slice(row, row + 1)), PROPOSALS)
            )
            full.value[row] = drawn.value[score.argmax()]
        return _join(full, self.picture.mode(picture, full))

    # ------------------------------------------------------------------ familiarity

    def _remember(self, event: Event) -> None:
        _, picture = event.cut(self.width)
        self.picture.remember(picture.take(picture.mask.all(1)))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """Of the picture alone: how familiar the columns are is read off log p(c)."""
        return self.picture.typicality(event.cut(self.width)[1])

    def notices(self, event: Any) -> list[str]:
        return self.first.notices(event.cut(self.width)[0])


def _join(columns: Event, picture: Event) -> Event:
    return Event(torch.cat([columns.value, picture.value], 1))


def _with_first(columns: Event, value: Tensor) -> Event:
    """The columns with their first variable at one value."""
    first = torch.arange(columns.value.shape[1]) == 0
    return Event(torch.where(first, value, columns.value), columns.mask | first)


def _in_region(
    points: Float[Tensor, " K"], region: Region | None
) -> tuple[Float[Tensor, " K"], Bool[Tensor, " K"]]:
    """Values of the first variable, and which of them the region allows; where it allows none, all
    moved to its nearest edge."""
    if region is None:
        return points, torch.ones_like(points, dtype=torch.bool)
    low = region.low[0]
    high = region.high[0]
    inside = (points >= low) & (points <= high)
    if 0 in region.allowed:
        inside &= region.allowed[0]
    return (points, inside) if inside.any() else (points.clamp(low, high), ~inside)


def _repeated(event: Event, times: int) -> Event:
    return event.take(torch.arange(event.rows).repeat_interleave(times))


def _picked(value: Float[Tensor, "N D"], which: Tensor) -> Float[Tensor, "B D"]:
    """Of each row's candidates the one that was chosen."""
    return value.unflatten(0, (len(which), -1))[torch.arange(len(which)), which]


def _put(event: Event, rows: Bool[Tensor, " B"], value: Tensor) -> Event:
    return Event(event.value.index_copy(0, rows.nonzero()[:, 0], value))


def _between(
    knots: Float[Tensor, " N"], value: Float[Tensor, "B N"], at: Float[Tensor, " K"]
) -> Float[Tensor, "B K"]:
    """Linear between the knots."""
    if len(knots) == len(at):
        return value
    right = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    share = ((at - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    return torch.lerp(value[:, right - 1], value[:, right], share)

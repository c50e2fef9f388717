r"""Columns with pictures and strings. The columns come first, then each picture given the columns,
then each string given the columns, the pictures and the strings before it; or, of pictures with one
short string, such as a caption, the string first and then each picture given its words.

    log p(c, v_1, ..., v_n) = log p(c) + sum_i log p(v_i | c, ...),
    log p(c_-1, v) = log p(c_-1) + log sum_k p(c_1 = k | c_-1) prod_i p(v_i | k, c_-1, ...)

This is the chain rule of ``conjoin.families.chain``, for rows of a table. p(c) is any family for
tables that sums over missing cells exactly, p(v | c) of a picture its diffusion, a bound (D. Kingma
et al. (2021), Variational diffusion models, equation 11), of a string the exact causal transformer.
If pictures and strings are missing, log p(c) is exact, because an unknown block contributes no
factor. A missing first variable (y, in a joint model) is summed out, a number over a few of its
quantiles. Later blocks are not conditioned on other missing cells: in the fit, random cells are
withheld from them (J. Ho and T. Salimans (2022), Classifier-free diffusion guidance, algorithm 1).
Missing cells beside a known picture or string are chosen among draws of p(c), weighted by the
likelihood of the picture or string given each draw (D. Rubin (1987), A noniterative
sampling/importance resampling alternative). Nats.

With ``strings_first`` there are two networks, p(picture | c, string) and p(string | c, pictures),
each of which also knows what to say where the other block is not told. log p(picture, string) is
log p(string) + log p(picture | string). A string that is missing beside a picture is drawn by the
second network, which Bayes' rule would give as p(string) p(picture | string) only if both networks
were perfect: such draws are approximate, and so is log p of a picture without its string, which is
what the first network says where no word is told (S. Bao et al. (2023), One transformer fits all
distributions in multi-modal diffusion at scale, section 3).

Shape letters: B rows, C columns, P cells of the blocks behind them, K candidates.

>>> from conjoin.core import Block, Flat, Record, RecordSpace, Variable
>>> mass = Block("columns", "vector", (1,), (Variable("mass", "real"),))
>>> note = Block("note", "sequence", (4,), (Variable("letter", "category", 3),))
>>> flat = Flat(RecordSpace((mass, note)))
>>> codes = torch.randint(3, (40, 4), generator=stream(0))
>>> rows = flat.join(Record(columns=Event(torch.arange(40)[:, None]), note=Event(codes)))
>>> config = Multimodal().suited(flat.space)
>>> density = MultimodalDensity.build(flat.space, config, rows, stream(0))
>>> without = rows.hide(torch.arange(5) > 0)
>>> alone = density.first.log_prob(Event(rows.value[:, :1]))
>>> bool((density.log_prob(without) == alone).all())
True
"""

import abc
import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Flat,
    Likelihood,
    Recipe,
    Record,
    RecordSpace,
    Region,
    Space,
    Status,
    Variable,
    categorical,
    seeded,
    stream,
)
from conjoin.core.capabilities import status_of, worst
from conjoin.core.device import on_device
from conjoin.core.random import chosen_rows, draw_seed
from conjoin.core.sampling import walk
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families import check_settings, resolve
from conjoin.families.autoregressive.beam import most_probable
from conjoin.families.autoregressive.guidance import guided
from conjoin.families.autoregressive.picture_tokens import PictureTokens
from conjoin.families.autoregressive.sequence import SequenceDensity
from conjoin.families.diffusion.picture import (
    MAX_WORDS,
    MIN_LATENT_SIDE,
    PictureDiffusion,
    withheld,
)

__all__ = [
    "ColumnReader",
    "ColumnsAndBlocks",
    "Multimodal",
    "MultimodalDensity",
    "Writer",
    "check_columns",
    "config_of_columns",
]

PictureConfig = PictureDiffusion | PictureTokens
PROPOSALS = 8  # completions of the columns among which pictures and strings choose
ENOUGH_FOR_NETWORK = 20_000  # rows, from which on counts add nothing to the network of strings
MIN_KNOWN_ROWS = 8  # with a picture or string: fewer can't tell what is typical
# values of a numeric target at which log p of the other blocks is computed; the rest are
# interpolated
TARGET_KNOTS = 9
CAPTION_PACE = 0.25  # of the high rates of pictures that are codes or told by their colours
CAPTION_SHARE = 0.5  # of the rows of a step, of which captions are learned beside pictures
PICTURE_FAMILIES = ("picture_diffusion", "picture_tokens", "latent_diffusion", "cascade")
CAPTIONS: Mapping[str, Any] = {"width": 96, "blocks": 3}  # the strings beside them
HIDDEN_WORDS = 0.2  # share of the written words of a caption, in a step of the fit
SWEEPS = 3  # over a picture that is known in part, and what is missing beside it
MAX_CANDIDATES_AT_ONCE = 256  # pictures, of which some are chosen
MIN_WISH_MASS = 1e-12  # that is read of a wish: less tells beginnings apart no better


def _kind_of_pictures(family: str | None) -> type[PictureConfig]:
    """The class of the config of pictures. ValueError for a family that can't be told what stands
    beside them."""
    if family is not None and family not in PICTURE_FAMILIES:
        raise ValueError(
            f"pictures={{'family': {family!r}}} must be one of {', '.join(PICTURE_FAMILIES)}."
        )
    return PictureDiffusion if family is None else type(resolve(family))


def _check_pictures(asked: Mapping[str, Any]) -> None:
    """ValueError for a setting that no picture has; without a family they may be those of either
    that stands in where none is named."""
    settings = dict(asked)
    family = settings.pop("family", None)
    if family is None and not _are_of(PictureDiffusion, settings):
        check_settings(PictureTokens(), "pictures", settings)
        PictureTokens(**settings)
    else:
        check_settings(_kind_of_pictures(family)(), "pictures", settings)
        _kind_of_pictures(family)(**{"axes": 0, **settings} if family is None else settings)


def _are_of(kind: type[PictureConfig], settings: Collection[str]) -> bool:
    """Whether a config has all of these settings."""
    return set(settings) <= {field.name for field in dataclasses.fields(kind)}


def config_of_columns(columns: str, settings: Mapping[str, Any] | None) -> Config:
    """The config of the family of the columns."""
    config: Config = type(resolve(columns))(**(settings or resolve(columns).get_params()))
    return config


def check_columns(columns: str, config: Config) -> None:
    """ValueError for a family that can't stand before pictures and strings."""
    kind = config.density
    if kind.conditional or not kind.bounded or kind.takes_blocks:
        raise ValueError(
            f"columns={columns!r} can't stand before a picture or a string; choose from circuit, "
            "mixture, bayes_net."
        )


@dataclass(frozen=True)
class Multimodal(Config):
    """Settings of columns with pictures and strings.

    Parameters
    ----------
    columns : str, default "circuit"
        Family of the columns: one that sums over missing cells.
    settings : mapping or None, default None
        Settings of that family.
    pictures : mapping or None, default None
        Settings of every picture: with ``family`` "picture_diffusion", "picture_tokens",
        "latent_diffusion" or "cascade" of that family. Without it they are those of
        ``PictureTokens`` where a string stands before the pictures and all of them are its
        settings, else of ``PictureDiffusion``; filled in where there is a picture.
    strings : mapping or None, default None
        Settings of every string: those of ``Sequence``, or with ``family`` "text_mixture" or
        "ngram" of that family; filled in where there is one.
    precision : {"auto", "bfloat16", "float32"} or None, default None
        Numbers of the networks of pictures; None where there is none.
    strings_first : bool or None, default None
        Whether the string stands before the pictures, so that they are drawn from its words. None:
        where there is one string of at most 128 tokens.
    caption_pace : float or None, default None
        Of the learning rates of pictures, at which a string before them learns to tell them. None:
        a quarter of the high rates that pictures written in codes or told by their colours have
        where ``pictures`` names none, else all of it.
    """

    columns: str = "circuit"
    settings: Mapping[str, Any] | None = None
    pictures: Mapping[str, Any] | None = None
    strings: Mapping[str, Any] | None = None
    precision: str | None = None
    strings_first: bool | None = None
    caption_pace: float | None = None

    implied: ClassVar[dict[str, Any]] = {"strings_first": False, "caption_pace": 1.0}
    unwritten: ClassVar[dict[str, Any]] = {"strings_first": False, "caption_pace": 1.0}

    def __post_init__(self) -> None:
        check_columns(self.columns, self.of_columns)
        pace = 1.0 if self.caption_pace is None else self.caption_pace
        if not isinstance(pace, int | float) or not pace > 0:
            raise ValueError(f"caption_pace must be above 0, got {self.caption_pace!r}.")
        asked = dict(self.strings or {})
        check_settings(resolve(asked.pop("family", "sequence")), "strings", asked)
        for name in ("pictures", "strings", "settings"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise ValueError(
                    f"{name} must be a mapping of settings, such as {{'steps': 100}}, or None, got "
                    f"{value!r}."
                )
        _check_pictures(self.pictures or {})
        shared = sorted({"rate", "batch", "decay"} & set(self.strings or {}))
        if shared and self.pictures is not None:
            raise ValueError(
                f"strings={{{shared[0]!r}: ...}} can't differ from that of pictures, as both learn "
                "in one fit: give it to pictures."
            )

    def __hash__(self) -> int:  # settings are mappings, which have none
        return hash(repr(self))

    @property
    def takes_class_alone(self) -> bool:
        asked: Config = resolve((self.strings or {}).get("family", "sequence"))
        return asked.takes_class_alone

    @property
    def of_columns(self) -> Config:
        return config_of_columns(self.columns, self.settings)

    @property
    def of_strings(self) -> Config:
        """The config of every string; settings that are not named are those of a model that was
        saved by an earlier version."""
        asked = dict(self.strings or {})
        kind = type(resolve(asked.pop("family", "sequence")))
        before = kind.implied
        if "network" in asked:
            before = {name: before[name] for name in ("drawing", *kind.unwritten)}
        return kind(**{**before, **asked})

    def of(self, block: Block) -> Config:
        """The config of a block behind the columns."""
        if block.ragged:
            strings = self.of_strings
            return strings if self.precision is None else strings.in_precision(self.precision)
        return self.of_pictures.in_precision(self.precision or "auto")

    @property
    def of_pictures(self) -> PictureConfig:
        """The config of every picture; settings that are not named are those of a model that was
        saved by an earlier version."""
        asked = dict(self.pictures or {})
        kind = _kind_of_pictures(asked.pop("family", None))
        return kind(**{**kind.unnamed, **asked})

    def suited(self, space: Space) -> Config:
        ragged = {block.ragged for block in space.behind}
        first = self._has_strings_first(space)
        asked = dict(self.pictures or {})
        if first and "family" not in asked and _are_of(PictureTokens, asked):
            asked["family"] = "picture_tokens"
        kind = _kind_of_pictures(asked.get("family"))
        pictures = kind.beside_words(asked) if first else kind.today(asked)
        own_rates = {"rate", "matrix_rate"} & set(asked)
        fast = first and kind.learns_fast(pictures) and not own_rates
        strings = {**self._of_today(first, False in ragged), **(self.strings or {})}
        return dataclasses.replace(
            self,
            pictures=pictures if False in ragged or self.pictures is not None else None,
            strings=strings if True in ragged or self.strings is not None else None,
            precision=self.precision or ("auto" if False in ragged else None),
            strings_first=first,
            caption_pace=self.caption_pace or (CAPTION_PACE if fast else 1.0),
        )

    def _of_today(self, first: bool, beside_pictures: bool) -> dict[str, Any]:
        """Settings of strings that are others in models which were saved by an earlier version, and
        those of captions."""
        kind = type(resolve((self.strings or {}).get("family", "sequence")))
        if "network" not in kind.implied:  # of counts
            return {}
        names = ["drawing", "network", *(["pictures"] if beside_pictures else [])]
        today = {name: getattr(kind, name) for name in names}
        if not first:
            return today
        asked = {**today, **(self.strings or {})}
        only_written = asked["network"] == "rotary" and not asked.get("reading")
        return today | dict(CAPTIONS) | ({"hidden": HIDDEN_WORDS} if only_written else {})

    def advice(self, space: Space) -> list[str]:
        """Latents, of large pictures."""
        sides = [block.shape[1:] for block in space.behind if not block.ragged]
        large = [side for side in sides if max(side) >= MIN_LATENT_SIDE]
        drawn = self.of_pictures
        if not large or not isinstance(drawn, PictureDiffusion) or not drawn.suggests_latents:
            return []
        high, wide = large[0]
        price = (
            "learns in a fifth of the time and draws in a ninth"
            if drawn.palette
            else "learns and draws in about half of the time"
        )
        return [
            f"There are pictures of {high} x {wide} pixels: with family=Multimodal(pictures="
            "{'family': 'latent_diffusion'}) few numbers of each are modelled instead, and it "
            f"{price}."
        ]

    def for_rows(self, rows: int) -> Config:
        """Strings of few rows by counts as well, where no picture tells of them: a network alone
        needs more."""
        if self.strings is None or self.pictures is not None or "family" in self.strings:
            return self
        family = "text_mixture" if rows < ENOUGH_FOR_NETWORK else "sequence"
        return dataclasses.replace(self, strings={"family": family, **self.strings})

    def _has_strings_first(self, space: Space) -> bool:
        """ValueError where it is asked for and can't be."""
        strings = [block for block in space.behind if block.ragged]
        able = (
            len(strings) == 1
            and len(strings) < len(space.behind)
            and strings[0].shape[0] <= MAX_WORDS
        )
        if self.strings_first and not able:
            raise ValueError(
                f"strings_first=True is for pictures beside one string of at most {MAX_WORDS} "
                "tokens: leave it out."
            )
        return able if self.strings_first is None else self.strings_first

    def in_precision(self, precision: str) -> Config:
        if self.precision is None:
            return super().in_precision(precision)
        asked = self.precision if precision == "auto" else precision
        settled = PictureDiffusion().in_precision(asked).precision
        return dataclasses.replace(self, precision=settled)

    def recipe(self, rows: int) -> Recipe:
        """That of the pictures, or where there is none of the strings; with as many steps as either
        needs."""
        configs = [
            *([] if self.pictures is None else [self.of_pictures]),
            *([] if self.strings is None else [self.of_strings]),
        ]
        recipes = [config.recipe(rows) for config in configs] or [Recipe()]
        steps = [recipe.steps for recipe in recipes if recipe.steps is not None]
        return dataclasses.replace(recipes[0], steps=max(steps, default=None))


@dataclass(frozen=True)
class Part:
    """A block behind the columns: its cells among those behind them, and its density's name."""

    block: Block
    cells: slice
    name: str


# the cells of a block of rows, told of the columns and of what is known of the blocks
Cells = Callable[[Part, Event, Event], Tensor]


class ColumnsAndBlocks(Density):
    """``first`` is p(c), fitted before the rest; each of ``parts`` is p(v | c, ...)."""

    config_class: ClassVar[Any]
    bounded = True
    takes_blocks = True
    points: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ):
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        self.width = space.columns
        blocks = self.blocks_of(space)
        columns = _columns_of(space)
        self.first = config.of_columns.density(columns, config.of_columns, self.structure["first"])
        self.parts = _parts(blocks, self.names_of(blocks))
        structures = self.structure.get("parts", {})
        for part, told in zip(self.parts, _told(blocks, columns, config), strict=True):
            own = config.of(part.block)
            kind = own.density
            spaces = _spaces(kind, part.block, told)
            density = kind(spaces[0], own, structures.get(part.name), spaces[1])
            self.add_module(part.name, density)
        levels = columns.variables[0].cardinality
        # of the first variable: levels, or quantiles
        self.register_buffer("points", torch.arange(levels or TARGET_KNOTS, dtype=torch.float64))

    @classmethod
    @abc.abstractmethod
    def blocks_of(cls, space: Space) -> tuple[Block, ...]:
        """The blocks behind the columns; ValueError where there are none, or no columns."""

    @classmethod
    @abc.abstractmethod
    def names_of(cls, blocks: Sequence[Block]) -> list[str]:
        """What the densities of the blocks are called among the weights."""

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
        """The columns' density from all rows, that of each block from the rows that have one."""
        blocks = cls.blocks_of(space)
        parts = _parts(blocks, cls.names_of(blocks))
        columns, behind = _parted(data, space.columns)
        before = _columns_of(space)
        for part in parts:
            known = int(_whole(behind, part).sum())
            if known < MIN_KNOWN_ROWS:
                raise ValueError(
                    f"{known} of the rows of the fit have a value of {part.block.name!r}, equal "
                    f"rows counted once, and {MIN_KNOWN_ROWS} are needed: leave the column out, or "
                    "give more rows."
                )
        first = config.of_columns.density.build(
            before, config.of_columns, columns, generator, weight=weight
        )
        if first.capabilities.missing != "exact":
            raise ValueError(
                f"columns={config.columns!r} can't leave missing cells out exactly; choose "
                "circuit, mixture or bayes_net."
            )
        built = {
            part.name: _built(config.of(part.block), part, told, columns, behind, generator)
            for part, told in zip(parts, _told(blocks, before, config), strict=True)
        }
        structures = {name: density.structure for name, density in built.items()}
        kept = {name: structure for name, structure in structures.items() if structure}
        with seeded(stream(0, "replaced")):  # the parts are put in below
            structure = {"first": first.structure} | ({"parts": kept} if kept else {})
            out = cls(space, config, structure)
        out.first = first
        for name, density in built.items():
            out.add_module(name, density)
        if not before.variables[0].discrete:
            levels = (torch.arange(TARGET_KNOTS).double() + 0.5) / TARGET_KNOTS
            out.points.copy_(columns.value[columns.mask[:, 0], 0].quantile(levels))
        return out.eval()

    @property
    def sums_ways(self) -> bool:  # type: ignore[override]
        return all(self.density_of(part).sums_ways for part in self._strings)

    def _first_stage(self) -> Density | None:
        return self.first if self.width else None

    def density_of(self, part: Part) -> Density:
        density = getattr(self, part.name)
        assert isinstance(density, Density)
        return density

    @property
    def capabilities(self) -> Capabilities:
        able = self.first.capabilities
        each = [self.density_of(part).capabilities for part in self.parts]
        exact = all(one.likelihood is Likelihood.EXACT for one in each)
        return Capabilities(
            Likelihood.EXACT if exact else Likelihood.LOWER_BOUND,
            objective="surrogate",
            stochastic=any(one.stochastic for one in each),
            missing="approximate",
            conditionals="approximate",
            regions=able.regions,
            mode="none" if able.mode == "none" else "approximate",
            typical=all(one.typical for one in each),
        )

    @property
    def is_told(self) -> bool:
        return any(self.density_of(part).is_told for part in self.parts)

    @property
    def chooses(self) -> bool:  # type: ignore[override]
        return bool(self.config.strings_first)

    @property
    def status_of_draws(self) -> Status:
        each = [self.density_of(part).status_of_draws for part in self.parts]
        chosen = [Status.APPROXIMATE] if self.chooses and walk().chosen else []
        return worst(super().status_of_draws, *each, *chosen)

    # ------------------------------------------------------------------ the parts of a row

    def _event(self, behind: Event, part: Part) -> Event:
        """A block of the rows, as its density takes it."""
        return _event_of(self.density_of(part).flat, behind, part)

    def _context(self, columns: Event, behind: Event, part: Part) -> Any:
        """What the density of a block is told: a family of rows the columns, others also the
        blocks before."""
        columns = columns._replace(within=None)
        before = self._before(part)
        if self.density_of(part).flat:
            return columns if not before else _join(columns, _cells_of(behind, before[0]))
        blocks = {each.block.name: _restored(behind, each) for each in before}
        return Record({COLUMNS: columns, **blocks})

    def _before(self, part: Part) -> list[Part]:
        """The other parts that the density of a block can be told."""
        if self.config.strings_first:
            return [each for each in self.parts if each.block.ragged != part.block.ragged]
        return [] if self.density_of(part).flat else self.parts[: self.parts.index(part)]

    @property
    def _in_order(self) -> list[Part]:
        """The parts as they follow each other in log p and in draws."""
        if not self.config.strings_first:
            return self.parts
        return sorted(self.parts, key=lambda part: not part.block.ragged)

    def _as_in_order(self, behind: Event, part: Part) -> Event:
        """The rows without the blocks that follow ``part``, which its density could be told."""
        if not (self.config.strings_first and part.block.ragged):
            return behind
        mask = behind.mask.clone()
        for each in self._before(part):
            mask[:, each.cells] = False
        return Event(behind.value, mask)

    def _cells(self, event: Event, part: Part) -> Float[Tensor, "B P"]:
        """The cells of complete rows of a block."""
        if self.density_of(part).flat:
            return event.value
        return part.block.laid.flattened(part.block, part.block.check(event))[0]

    def _told(self, behind: Event) -> Event:
        """The rows with pictures that are known in part set to unknown: their density has no log p
        of a part."""
        mask = behind.mask.clone()
        for part in self.parts:
            if self.density_of(part).flat:
                mask[~mask[:, part.cells].all(1), part.cells] = False
        return Event(behind.value, mask)

    def _cut(self, event: Event) -> tuple[Event, Event]:
        """The columns, and what is behind them; CapabilityError for a region there."""
        if event.within is not None and event.within.constrained[..., self.width :].any():
            raise CapabilityError(
                type(self.config).__name__, "a part of a picture or string within bounds", "none"
            )
        return _parted(event, self.width)

    def _put_together(self, columns: Event, behind: Event) -> Event:
        """The rows; a table without columns has none of the constant that stands for them."""
        return _join(columns, behind) if self.width else Event(behind.value, behind.mask)

    def _noises(
        self, generator: torch.Generator | None
    ) -> list[tuple[Part, torch.Generator | None]]:
        """Each part with a generator of its own: how many numbers one part draws does not change
        the noise of the others."""
        if generator is None or len(self.parts) == 1:
            return [(part, generator) for part in self.parts]
        seeds = [draw_seed(generator) for _ in self.parts]
        return [(part, stream(seed)) for part, seed in zip(self.parts, seeds, strict=True)]

    # ------------------------------------------------------------------ log p

    def _status_of(self, event: Event) -> Status:
        """A first variable that is open beside a picture or string is summed: a number over a few
        of its quantiles. Other open columns are not told there."""
        columns, behind = self._cut(event)
        own = worst(status_of(self.capabilities.likelihood), *self._statuses(behind))
        beside = behind.mask.any(1)
        summed = self.space.variables[0].discrete
        open_ = ~columns.mask[:, 1:].all(1) | (~columns.mask[:, 0] & (not summed))
        earlier = self._skipped(behind)
        rough = bool(((open_ & beside) | earlier).any())
        return worst(own, Status.APPROXIMATE) if rough else own

    def _skipped(self, behind: Event) -> Bool[Tensor, " B"]:
        """Rows in which a block is missing that one which is known is told of. Pictures are told of
        no other picture where the string is first."""
        out = torch.zeros(behind.rows, dtype=torch.bool)
        if self.config.strings_first:
            string, *pictures = self._in_order
            gone = ~behind.mask[:, string.cells].all(1)
            known = [behind.mask[:, each.cells].any(1) for each in pictures]
            return gone & torch.stack(known).any(0)
        for part, later in itertools.pairwise(self.parts):
            gone = ~behind.mask[:, part.cells].all(1)
            out = out | (gone & behind.mask[:, later.cells.start :].any(1))
        return out

    def _statuses(self, behind: Event) -> Iterator[Status]:
        """What log p of each block is worth; refused as log p of it is."""
        for part in self.parts:
            some = behind.take(behind.mask[:, part.cells].any(1))
            self._refuse_in_part(part, some.mask[:, part.cells])
            if some.rows:
                yield self.density_of(part).status_of(self._event(some, part))

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        columns, behind = self._cut(event)
        out = self.first.log_prob(columns, generator=generator)
        open_ = behind.mask.any(1) & ~columns.mask[:, 0]
        if open_.any():
            # a copy, as the noise of the other rows must not depend on whether there are such rows
            noise = None if generator is None else generator.clone_state()
            summed = self._summed(columns.take(open_), behind.take(open_), noise)
            out = out.index_add(0, open_.nonzero()[:, 0], summed)
            behind = behind.hide(open_[:, None])
        return out + self._seen(columns, behind, generator)

    def _summed(
        self, columns: Event, behind: Event, generator: torch.Generator | None
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
            self._seen(_with_first(columns, point), behind, None if seed is None else stream(seed))
            for point in points
        ]
        return (log_weight + torch.stack(each, 1)).logsumexp(1)

    def _seen(
        self, columns: Event, behind: Event, generator: torch.Generator | None = None
    ) -> Float[Tensor, " B"]:
        """log p(v | c); 0 where nothing is known of a block."""
        each = [
            self._seen_of(part, columns, self._as_in_order(behind, part), noise)
            for part, noise in self._noises(generator)
        ]
        return torch.stack(each).sum(0)

    def _seen_of(
        self, part: Part, columns: Event, behind: Event, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        mask = behind.mask[:, part.cells]
        seen = mask.any(1)
        density = self.density_of(part)
        self._refuse_in_part(part, mask[seen])
        out = torch.zeros(len(seen), dtype=torch.float64)
        if seen.any():
            rows = behind.take(seen)
            told = self._context(columns.take(seen), rows, part)
            found = density.log_prob(self._event(rows, part), told, generator=generator)
            out = out.index_copy(0, seen.nonzero()[:, 0], found)
        return out

    def _refuse_in_part(self, part: Part, known: Bool[Tensor, "B P"]) -> None:
        """CapabilityError for a picture that is known in part."""
        if self.density_of(part).flat and not known.all():
            raise CapabilityError(
                type(self.config).__name__,
                "log p of a part of a picture",
                "pictures that are whole or missing",
                "Fill it in first, by impute.",
            )

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The blocks are asked at a few of many numbers, which are in order."""
        columns, behind = self._cut(event)
        candidates, order = candidates.sort()
        asked = (
            len(candidates)
            if self.space.variables[0].discrete
            else min(TARGET_KNOTS, len(candidates))
        )
        knots = torch.linspace(0, len(candidates) - 1, asked).round().long()
        each = [self._seen(_with_first(columns, candidates[k]), behind) for k in knots.tolist()]
        found = self.first.log_target(columns, candidates) + _between(
            candidates[knots].double(), torch.stack(each, 1), candidates.double()
        )
        return found[:, order.argsort()]

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Of the blocks alone: the columns' density has been fitted before."""
        columns, behind = self._cut(event)
        out = torch.zeros(event.rows, dtype=torch.float64)
        for part, noise in self._noises(generator):
            seen = behind.mask[:, part.cells].any(1)
            rows = (seen if seen.any() else ~seen).nonzero()[:, 0]  # with no cell the loss is zero
            some = self._learned_from(part, rows, noise)
            losses = self._losses_of(part, columns, behind, some, noise)
            out = out.index_add(0, some, losses * (len(rows) / len(some)))
        return out

    def _learned_from(
        self, part: Part, rows: Tensor, generator: torch.Generator | None
    ) -> Int[Tensor, " b"]:
        """Those of the rows that a part learns from: of captions a share, as they are learned in
        far fewer steps than pictures."""
        if not (self.config.strings_first and part.block.ragged):
            return rows
        count = math.ceil(CAPTION_SHARE * len(rows))
        return rows[chosen_rows(len(rows), count, generator or stream(0, "captions"))]

    def _losses_of(
        self,
        part: Part,
        columns: Event,
        behind: Event,
        rows: Tensor,
        generator: torch.Generator | None,
    ) -> Float[Tensor, " B"]:
        density = self.density_of(part)
        columns = columns.take(rows)
        behind = behind.take(rows)
        if not density.flat:  # pictures withhold columns by themselves, and so does who reads them
            noise = generator or stream(0, "withheld")
            if not _reads(density):
                columns = columns.hide(withheld(columns.value.shape, noise))
            told = self._context(columns, self._without_some(behind, part, noise), part)
        else:
            told = self._context(columns, behind, part)
        return density.losses(self._event(behind, part), told, generator=generator)

    def _without_some(self, behind: Event, part: Part, generator: torch.Generator) -> Event:
        """The rows with random blocks before ``part`` hidden, so that the density learns what to
        answer where they are missing."""
        before = self._before(part)
        if not before or self.config.strings_first:  # then both densities do so themselves
            return behind
        gone = withheld(torch.Size((behind.rows, len(before))), generator)
        mask = behind.mask.clone()
        for place, each in enumerate(before):
            mask[gone[:, place], each.cells] = False
        return Event(behind.value, mask)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        columns = self.first.sample(n, generator=generator)
        nothing = torch.zeros(n, len(self.space.variables) - self.width, dtype=torch.bool)
        behind = Event(nothing.double(), nothing)
        for part in self._in_order:
            told = self._context(columns, behind, part)
            drawn = self.density_of(part).sample(n, told, generator=generator)
            behind = _filled(behind, part, self._cells(drawn, part))
        return self._put_together(columns, behind)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        def drawn(part: Part, columns: Event, behind: Event) -> Float[Tensor, "b P"]:
            return self._drawn_part(part, columns, behind, generator)

        def whole(event: Event) -> Event:
            return self._in_turn(*self._with_columns(event, generator), drawn)

        return whole(self._with_whole_pictures(event, drawn, whole))

    def _in_turn(self, columns: Event, behind: Event, cells: Cells) -> Event:
        """The rows with each part told of those before."""
        for part in self._in_order:
            behind = _filled(behind, part, cells(part, columns, behind))
        return self._put_together(columns, behind)

    def _with_whole_pictures(
        self, event: Event, cells: Cells, complete: Callable[[Event], Event]
    ) -> Event:
        """Where other cells are missing beside a picture of which a part is known: the picture is
        completed from its part and what is known beside it; then the other cells, told of the whole
        picture, and the picture, told of them, in turn, as in a Gibbs sampler whose conditionals
        are learned apart (D. Heckerman et al. (2000), Dependency networks, section 2.2). The other
        cells stay as they were asked for."""
        pictures = [part for part in self.parts if self.density_of(part).flat]
        open_ = [_begun(event.mask[:, self._place_of(part)]) for part in pictures]
        pixels = torch.zeros_like(event.mask)
        for part, rows in zip(pictures, open_, strict=True):
            pixels[:, self._place_of(part)] = rows[:, None]
        rows = (pixels.any(1) & ~(event.mask | pixels).all(1)).nonzero()[:, 0]
        if not len(rows):
            return event
        asked = event.take(rows)
        pixels = pixels[rows]

        def completed(told: Event) -> Event:
            """As asked for, but with whole pictures."""
            columns, behind = _parted(told, self.width)
            for part, begun in zip(pictures, open_, strict=True):
                some = begun[rows].nonzero()[:, 0]
                if len(some):
                    found = cells(part, columns.take(some), behind.take(some))
                    behind = _filled(behind, part, found, some)
            value = torch.where(pixels, self._put_together(columns, behind).value, asked.value)
            return asked._replace(value=value, observed=asked.mask | pixels)

        whole = completed(self._without_begun_strings(asked))
        for _ in range(SWEEPS):
            full = complete(whole)
            value = torch.where(pixels, asked.value, full.value)
            whole = completed(Event(value, torch.where(pixels, asked.mask, True)))
        return event._replace(
            value=event.value.index_copy(0, rows, whole.value.to(event.value)),
            observed=event.mask.index_copy(0, rows, whole.mask),
        )

    def _place_of(self, part: Part) -> slice:
        """The cells of a block among those of a row."""
        return slice(part.cells.start + self.width, part.cells.stop + self.width)

    def _without_begun_strings(self, event: Event) -> Event:
        """Strings of which the beginning is known as if nothing were."""
        mask = event.mask.clone()
        for part in self._strings:
            cells = self._place_of(part)
            mask[~mask[:, cells].all(1), cells] = False
        return Event(event.value, mask)

    def _drawn_part(
        self, part: Part, columns: Event, behind: Event, generator: torch.Generator | None
    ) -> Float[Tensor, "B P"]:
        """The cells of a block whose missing ones are drawn; of pictures that are drawn from a
        string one among several, where that is asked for."""
        count = walk().candidates or 1
        if count == 1 or not self.chooses or part.block.ragged:
            told = self._context(columns, behind, part)
            drawn = self.density_of(part).sample_conditional(
                self._event(behind, part), told, generator=generator
            )
            return self._cells(drawn, part)
        out = behind.value[:, part.cells].clone()
        missing = (~_whole(behind, part)).nonzero()[:, 0]
        for rows in missing.split(max(1, MAX_CANDIDATES_AT_ONCE // count)) if len(missing) else ():
            some = columns.take(rows), behind.take(rows)
            out[rows] = self._chosen_part(part, *some, count, generator)
        return out

    def _chosen_part(
        self,
        part: Part,
        columns: Event,
        behind: Event,
        count: int,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "b P"]:
        """Of ``count`` draws of each row one, by log p of its string given each: a draw of
        p(picture | string) p(string | picture), as by D. Rubin (1988)."""
        many = _repeated(columns, count)
        known = _repeated(behind, count)
        told = self._context(many, known, part)
        drawn = self.density_of(part).sample_conditional(
            self._event(known, part), told, generator=generator
        )
        cells = self._cells(drawn, part)
        shown = _filled(known, part, cells)
        string = next(each for each in self.parts if each.block.ragged)
        score = self._seen_of(string, many, shown, None).unflatten(0, (-1, count))
        return _picked(cells, categorical(score, generator))

    def _with_columns(self, event: Event, generator: torch.Generator | None) -> tuple[Event, Event]:
        """The columns, drawn where they are missing, and the blocks as they are known then."""
        columns, behind = self._cut(event)
        full = self.first.sample_conditional(columns, generator=generator)
        told = self._told(behind)
        choose = (told.mask.any(1) & ~columns.mask.all(1)) | self._before_known(told)
        if choose.any():
            many = _repeated(columns.take(choose), PROPOSALS)
            drawn = Event(self.first.sample_conditional(many, generator=generator).value)
            known = _repeated(told.take(choose), PROPOSALS)
            proposed = self._proposed(drawn, known, generator)
            score = self._scored(drawn, proposed, known, generator).unflatten(0, (-1, PROPOSALS))
            chosen = categorical(score, generator)
            full = _put(full, choose, _picked(drawn.value, chosen))
            behind = self._with_chosen(behind, choose, proposed, chosen)
        return full, behind

    @on_device
    def unfold_given(
        self, event: Event, context: Any = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "S B D"]:
        """Of rows whose only picture is missing: what it goes through, beside all else."""
        flat = [part for part in self.parts if self.density_of(part).flat]
        if len(flat) != 1 or bool(event.cut(self.width)[1].mask[:, flat[0].cells].any()):
            raise CapabilityError(
                type(self.config).__name__,
                "the way from noise to rows",
                "that to the only picture of rows, where nothing of it is known",
            )
        with torch.no_grad():
            full, behind = self._with_columns(self._checked(event), generator)
            states: Tensor | None = None
            for part in self._in_order:
                told_of = self._context(full, behind, part)
                density = self.density_of(part)
                if part is flat[0]:
                    own = self._event(behind, part)
                    states = density.unfold_given(own, told_of, generator=generator)
                    behind = _filled(behind, part, states[-1])
                    continue
                drawn = density.sample_conditional(
                    self._event(behind, part), told_of, generator=generator
                )
                behind = _filled(behind, part, self._cells(drawn, part))
        assert states is not None
        each = [self._put_together(full, _filled(behind, flat[0], state)) for state in states]
        return torch.stack([state.value for state in each])

    def _before_known(self, behind: Event) -> Bool[Tensor, " B"]:
        """Rows in which a string is missing before a block that is known, which its density can't
        be told."""
        found = torch.zeros(behind.rows, dtype=torch.bool)
        if self.config.strings_first:
            return found
        for part in self._strings:
            gone = ~behind.mask[:, part.cells].all(1)
            found = found | (gone & behind.mask[:, part.cells.stop :].any(1))
        return found

    @property
    def _strings(self) -> list[Part]:
        return [part for part in self.parts if not self.density_of(part).flat]

    def _proposed(self, columns: Event, behind: Event, generator: torch.Generator | None) -> Event:
        """The rows with their missing strings drawn in turn; pictures stay as they are, as a draw
        of one costs too much."""
        for part in self._strings:
            told = self._context(columns, behind, part)
            drawn = self.density_of(part).sample_conditional(
                self._event(behind, part), told, generator=generator
            )
            behind = _filled(behind, part, self._cells(drawn, part))
        return behind

    def _scored(
        self,
        columns: Event,
        proposed: Event,
        known: Event,
        generator: torch.Generator | None,
    ) -> Float[Tensor, " B"]:
        """log p of the known blocks, each given the columns and the blocks before it as they were
        proposed: what the proposals are weighed by. Where the string is first, one that is missing
        was drawn from the pictures, which therefore are not told of it."""
        if self.config.strings_first:
            return self._seen(columns, known, generator)
        out = torch.zeros(columns.rows, dtype=torch.float64)
        for part, noise in self._noises(generator):
            mask = torch.zeros_like(known.mask)
            mask[:, part.cells] = known.mask[:, part.cells]
            mask[:, : part.cells.start] = proposed.mask[:, : part.cells.start]
            rows = Event(proposed.value, mask)
            out = out + self._seen_of(part, columns, rows, noise)
        return out

    def _with_chosen(
        self,
        behind: Event,
        rows: Bool[Tensor, " B"],
        proposed: Event,
        chosen: Tensor,
    ) -> Event:
        """The rows with the strings of the proposals that were chosen."""
        value = behind.value.clone()
        mask = behind.mask.clone()
        picked = _picked(proposed.value, chosen)
        for part in self._strings:
            value[rows.nonzero()[:, 0], part.cells] = picked[:, part.cells]
            mask[rows, part.cells] = True
        return Event(value, mask)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """Beside a picture or a string the likeliest of the columns' own mode and of draws of them;
        then what is missing behind them, given those: of a string token by token."""

        def likeliest(part: Part, columns: Event, behind: Event) -> Float[Tensor, "b P"]:
            told_of = self._context(columns, behind, part)
            found = self.density_of(part).mode(self._event(behind, part), told_of)
            return self._cells(found, part)

        def whole(event: Event) -> Event:
            return self._in_turn(*self._with_likely_columns(event), likeliest)

        return whole(self._with_whole_pictures(event, likeliest, whole))

    def _with_likely_columns(self, event: Event) -> tuple[Event, Event]:
        """The columns, and the blocks as they are known."""
        columns, behind = self._cut(event)
        full = Event(self.first.mode(columns).value)
        told = self._told(behind)
        for row in (told.mask.any(1) & ~columns.mask.all(1)).nonzero()[:, 0].tolist():
            many = _repeated(columns.take(slice(row, row + 1)), PROPOSALS - 1)
            own = full.value[row : row + 1]
            drawn = self.first.sample_conditional(many, generator=stream(0, "mode")).value
            drawn = Event(torch.cat([own, drawn]))
            score = self.first.log_prob(drawn) + self._seen(
                drawn, _repeated(told.take(slice(row, row + 1)), PROPOSALS)
            )
            full.value[row] = drawn.value[score.argmax()]
        return full, behind

    def alternatives(self, event: Event, count: int) -> tuple[Event, Float[Tensor, "B K"]]:
        """The most probable strings that a beam finds in place of the one that each row lacks: B K
        rows, and log p of each string given the columns and the blocks that its density is told
        (nats), exact. CapabilityError where a row lacks none or several, or where a block that is
        told of the string is known."""
        columns, behind = self._cut(event)
        for part in self.parts:
            some = behind.mask[:, part.cells]
            self._refuse_in_part(part, some[some.any(1)])
        gone = torch.zeros(event.rows, len(self._strings), dtype=torch.bool)
        for place, part in enumerate(self._strings):
            gone[:, place] = ~behind.mask[:, part.cells].any(1)
        if bool((gone.sum(1) != 1).any()) or bool(self._before_known(behind).any()):
            raise CapabilityError(
                type(self.config).__name__,
                "the most probable strings of rows that lack none or several, or a string that a "
                "known one was told of",
                "those of rows that lack one string, the last of them",
            )
        several = _repeated(behind, count)
        log_p = torch.empty(event.rows, count, dtype=torch.float64)
        for place, part in enumerate(self._strings):
            rows = gone[:, place].nonzero()[:, 0]
            if not len(rows):
                continue
            told = self._context(columns.take(rows), behind.take(rows), part)
            found, log_p[rows] = most_probable(self.density_of(part), len(rows), count, told)
            at = (rows[:, None] * count + torch.arange(count)).flatten()
            cells = self._cells(found, part)
            several.value[at[:, None], torch.arange(part.cells.start, part.cells.stop)] = cells
            several.mask[at, part.cells] = True
        return self._put_together(_repeated(columns, count), several), log_p

    def go_on_from(self, other: Density) -> bool:
        if not isinstance(other, ColumnsAndBlocks):
            return False
        known = {part.block.name: part for part in other.parts}
        if set(known) != {part.block.name for part in self.parts}:
            return False
        each = [
            self.density_of(part).go_on_from(other.density_of(known[part.block.name]))
            for part in self.parts
        ]
        return all(each)

    def writer_of(self, targets: int) -> "Writer | None":
        """Of the only string, where all columns are targets."""
        strings = len(self.parts) == 1 and bool(self._strings)
        return Writer(self) if strings and self.width == targets else None

    def string_in(self, x: Event, cells: slice) -> tuple[Density, Event, Any] | None:
        rows, left = _with_targets(x, self.space)
        columns, behind = _parted(rows, self.width)
        start = cells.start + left - self.width
        for part in self._strings:
            if part.cells.start == start:
                told = self._context(columns, behind, part)
                return self.density_of(part), self._event(behind, part), told
        return None

    # ------------------------------------------------------------------ columns read off a string

    def reader_of(self, column: int = 0) -> "ColumnReader | None":
        """By the last string whose network reads."""
        read = [part for part in self.parts if _reads(self.density_of(part))]
        return ColumnReader(self, read[-1], column) if read and self.width else None

    # ------------------------------------------------------------------ familiarity

    def _fit_typicality(self, event: Event) -> None:
        _, behind = _parted(event, self.width)
        for part in self.parts:
            rows = behind.take(_whole(behind, part))
            self.density_of(part).fit_typicality(self._event(rows, part))

    def _typicality_of_blocks(self, event: Event) -> Float[Tensor, "B N"]:
        """Of each block its own statistic; then of each block how well it goes with the columns,
        and a string that stands before pictures with these: log p(v | c) - log p(v), which is known
        of strings alone."""
        columns, behind = _parted(event, self.width)
        out = torch.full((event.rows, 2 * len(self.parts)), torch.nan, dtype=torch.float64)
        for place, part in enumerate(self.parts):
            rows = _whole(behind, part).nonzero()[:, 0]
            if len(rows):
                some = behind.take(rows)
                found = self.density_of(part).typicality(self._event(some, part))
                out[rows, place] = found.double()
                beside = self.width or self.config.strings_first
                if beside and not self.density_of(part).flat:
                    out[rows, len(self.parts) + place] = self._agreement(
                        part, columns.take(rows), some
                    )
        return out

    def _agreement(self, part: Part, columns: Event, behind: Event) -> Float[Tensor, " B"]:
        """log p(v | c) - log p(v) of a string, without the blocks before it, but for the pictures
        that it stands before; NaN where nothing is known beside it."""
        mask = torch.zeros_like(behind.mask)
        mask[:, part.cells] = behind.mask[:, part.cells]
        alone = Event(behind.value, mask)
        nothing = Event(columns.value, torch.zeros_like(columns.mask))
        known = columns.mask.any(1) if self.width else torch.zeros(behind.rows, dtype=torch.bool)
        seen = alone
        if self.config.strings_first:
            seen = self._told(behind)
            for each in self._before(part):
                known = known | seen.mask[:, each.cells].all(1)
        told = self._seen_of(part, columns, seen, None)
        gain = told - self._seen_of(part, nothing, alone, None)
        return gain.where(known, torch.nan)

    def notices(self, event: Any) -> list[str]:
        """Of the columns, and of each block by the rows that have one."""
        columns, behind = _parted(event, self.width)
        out = self.first.notices(columns)
        for part in self.parts:
            rows = behind.take(_whole(behind, part))
            out += self.density_of(part).notices(self._event(rows, part))
        return out


class MultimodalDensity(ColumnsAndBlocks):
    """Of any number of pictures and strings."""

    config_class = Multimodal

    @classmethod
    def blocks_of(cls, space: Space) -> tuple[Block, ...]:
        if not space.behind:
            raise ValueError(
                "family='multimodal' is for tables of which some columns hold strings or pictures: "
                "say which by types."
            )
        return space.behind

    @classmethod
    def names_of(cls, blocks: Sequence[Block]) -> list[str]:
        return [f"part{place}" for place in range(len(blocks))]

    @property
    def paces(self) -> Mapping[str, float]:
        """Captions learn at lower rates than the pictures beside them: at the same high rates their
        loss stops falling early."""
        if not self.config.strings_first:
            return {}
        return {part.name: self.config.caption_pace for part in self.parts if part.block.ragged}

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """Of the least typical block, 0 where none is known: how familiar the columns are is read
        off log p(c)."""
        each = self._typicality_of_blocks(event)[:, : len(self.parts)]
        least = each.nan_to_num(torch.inf).amin(1)
        return least.where(least < torch.inf, 0.0)


@dataclass(frozen=True)
class ColumnReader:
    """p(a column | the string ``part``, what is known beside it), by the network of the string."""

    whole: ColumnsAndBlocks
    part: Part
    column: int

    @property
    def network(self) -> SequenceDensity:
        found = self.whole.density_of(self.part)
        assert isinstance(found, SequenceDensity)
        return found

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Rows whose string is known; of ``x`` the first columns may be left out."""
        return self._parted(x)[1].mask[:, self.part.cells].all(1)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        """log p of the levels of the column, or the mean of a number."""
        params = self.params(x)
        heads = self.network.reading.heads
        if self.whole.space.variables[self.column].discrete:
            return heads.log_levels_of(self.column, params)
        return heads.mean_of(self.column, params)[:, None]

    def params(self, x: Event) -> Float[Tensor, "B W"]:
        """Of the distribution of the column."""
        columns, behind = self._parted(x)
        columns = columns.hide(torch.arange(self.whole.width) == self.column)
        told = self.whole._context(columns, behind, self.part)
        strings = self.whole._event(behind, self.part)
        return self.network.columns_read(strings, told)[:, self.column]

    def _parted(self, x: Event) -> tuple[Event, Event]:
        return _parted(_with_targets(x, self.whole.space)[0], self.whole.width)


@dataclass(frozen=True)
class Writer:
    """The density of the only string of rows without other columns than targets, as it writes where
    nothing is told."""

    whole: ColumnsAndBlocks

    @property
    def density(self) -> Density:
        return self.whole.density_of(self.whole.parts[0])

    @property
    def network(self) -> SequenceDensity:
        """The density, where it learns by steps of the gradient; ValueError where it counts."""
        if not isinstance(self.density, SequenceDensity):
            raise ValueError(
                "method='tuned' needs strings that a network writes, family='sequence': choose "
                "method='redrawn'."
            )
        return self.density

    def rows(self, strings: Event) -> Event:
        """The cells of strings as rows behind the targets."""
        block = self.whole.parts[0].block
        value, mask = block.laid.flattened(block, block.check(strings))
        return Event(value, mask)

    def told(self, values: Mapping[int, float]) -> Any:
        """What the density is told where some columns are known, for one row."""
        width = self.whole.width
        nothing = torch.zeros(1, width, dtype=torch.bool)
        columns = Event(nothing.double(), nothing)
        for column, value in values.items():
            columns.value[:, column] = value
            columns.mask[:, column] = True
        behind = Event(torch.zeros(1, 0))
        return self.whole._context(columns, behind, self.whole.parts[0])

    def towards(
        self, rows: int, wanted: Sequence[tuple[int, float, float]], noise: torch.Generator
    ) -> tuple[Event, int]:
        """Strings drawn towards columns that lie between two numbers, (column, low, high), a class
        as its code; and how many tokens were drawn. ValueError for a network that does not read."""
        if not _reads(self.density):
            raise ValueError(
                "method='guided' needs a network that reads strings: fit with "
                "family=Multimodal(strings={'reading': 0.3}), or choose another method."
            )
        network = self.network

        def log_wish(strings: Event) -> Tensor:
            told = network.context_space.check(Record(), strings.rows)
            params = network.columns_read(strings, told)
            return torch.stack([self._log_mass(params, *each) for each in wanted]).sum(0)

        told = network.context_space.check(Record(), rows)
        with torch.no_grad():
            strings, tokens = guided(network, rows, told, log_wish, noise)
        return self.rows(strings), tokens

    def _log_mass(self, params: Tensor, column: int, low: float, high: float) -> Tensor:
        heads = self.network.reading.heads
        own = params[:, column]
        if self.whole.space.variables[column].discrete:
            return heads.log_levels_of(column, own)[:, int(low)]
        return heads.mass_between(column, own, low, high).clamp_min(MIN_WISH_MASS).log()


def _reads(density: Density) -> bool:
    return isinstance(density, SequenceDensity) and density.read_block is not None


COLUMNS = "columns"  # the block of the columns, in the record that a string is told


def _columns_of(space: Space) -> Space:
    """The space of the columns; of none it is that of a constant, whose only level has p = 1."""
    if not space.columns:
        return Space((1,), (Variable("constant", "category", cardinality=1),))
    return Space((space.columns,), space.variables[: space.columns])


def _with_targets(x: Event, space: Space) -> tuple[Event, int]:
    """Rows with the first columns missing that ``x`` leaves out, and how many these are."""
    left = len(space.variables) - x.value.shape[1]
    value = torch.nn.functional.pad(x.value, (left, 0))
    return Event(value, torch.nn.functional.pad(x.mask, (left, 0))), left


def _parted(event: Event, width: int) -> tuple[Event, Event]:
    """The columns, and what is behind them; where there are no columns, a constant."""
    columns, behind = event.cut(width)
    return (columns, behind) if width else (Event(event.value.new_zeros(event.rows, 1)), behind)


def _parts(blocks: Sequence[Block], names: Sequence[str]) -> list[Part]:
    """Where each block stands among the cells behind the columns."""
    parts = []
    start = 0
    for block, name in zip(blocks, names, strict=True):
        stop = start + len(block.laid.cells(block))
        parts.append(Part(block, slice(start, stop), name))
        start = stop
    return parts


def _told(blocks: Sequence[Block], columns: Space, config: Any) -> Iterator[RecordSpace]:
    """The blocks that each block can be told: the columns, and the blocks before it; with
    ``strings_first`` pictures the string, and the string pictures."""
    vector = Block(COLUMNS, "vector", columns.shape, columns.variables)
    for place, block in enumerate(blocks):
        if config.strings_first:
            before = [each for each in blocks if each.ragged != block.ragged]
        else:
            before = list(blocks[:place]) if block.ragged else []
        yield RecordSpace((vector, *before))


def _spaces(kind: type[Density], block: Block, told: RecordSpace) -> tuple[Any, Any]:
    """The space of a block's density, and that of its context, as its kind has them."""
    if not kind.flat:
        return block, told
    own = Flat(RecordSpace((block,))).space
    if told.blocks[-1].ragged:
        return own, Flat(told).space
    columns = told.blocks[0]
    return own, Space(columns.shape, columns.variables)


def _restored(behind: Event, part: Part) -> Event:
    """A block of the rows."""
    value = behind.value[:, part.cells]
    return part.block.laid.restored(part.block, value, behind.mask[:, part.cells])


def _event_of(flat: bool, behind: Event, part: Part) -> Event:
    """A block of the rows: its cells for a density of rows, else an event of the block."""
    if flat:
        return Event(behind.value[:, part.cells], behind.mask[:, part.cells])
    return part.block.check(_restored(behind, part))


def _begun(known: Bool[Tensor, "B P"]) -> Bool[Tensor, " B"]:
    """The rows of which some cells are known, but not all."""
    return known.any(1) & ~known.all(1)


def _whole(behind: Event, part: Part) -> Bool[Tensor, " B"]:
    """The rows of which a block is known."""
    return behind.mask[:, part.cells].all(1)


def _built(
    config: Config,
    part: Part,
    told: RecordSpace,
    columns: Event,
    behind: Event,
    generator: torch.Generator,
) -> Density:
    """The density of a block, from the rows that have one."""
    rows = _whole(behind, part)
    kind = config.density
    space, context_space = _spaces(kind, part.block, told)
    columns = columns.take(rows)
    event = _event_of(kind.flat, behind.take(rows), part)
    context: Any
    if kind.flat:
        cells = len(context_space.variables) - columns.value.shape[1]
        nothing = torch.zeros(columns.rows, cells, dtype=torch.bool)  # words set no scale
        context = _join(columns, Event(nothing.double(), nothing)) if cells else columns
    else:
        context = context_space.check(Record({COLUMNS: columns}), columns.rows)
    built: Density = kind.build(
        space, config, event, generator, context=context, context_space=context_space
    )
    return built


def _join(columns: Event, behind: Event) -> Event:
    mask = torch.cat([columns.mask, behind.mask], 1)
    return Event(torch.cat([columns.value, behind.value], 1), None if bool(mask.all()) else mask)


def _cells_of(behind: Event, part: Part) -> Event:
    """The cells of one block of the rows."""
    return Event(behind.value[:, part.cells], behind.mask[:, part.cells])


def _filled(
    behind: Event, part: Part, cells: Float[Tensor, "b P"], rows: Int[Tensor, " b"] | None = None
) -> Event:
    """The rows with one block known, in all of them or in some ``rows``."""
    some = slice(None) if rows is None else rows
    value = behind.value.clone()
    mask = behind.mask.clone()
    value[some, part.cells] = cells.to(value)
    mask[some, part.cells] = True
    return Event(value, mask)


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
    gap = (knots[right] - knots[right - 1]).clamp_min(1e-300)
    share = ((at - knots[right - 1]) / gap).clamp(0, 1)
    return torch.lerp(value[:, right - 1], value[:, right], share)

r"""Rows of a picture and a text, of which one is told to the other: p(text | picture), or p(picture
| text).

    log p(a | b)

A pretrained network that captions pictures says nothing of how probable a picture is, and one that
draws what a text says nothing of texts. So log p of a row is that of one block given the other: by
the chain rule (C. Shannon (1948), A mathematical theory of communication, section 6) one of the two
terms of log p(a, b) = log p(b) + log p(a | b). What
is told has a familiarity all the same, by what the network sees in it, and so has what is modelled
given that (``conjoin.components.typicality``): both are ranked. In nats.

Shape letters: B rows, K alternatives.

>>> ConditionalPair(settings={"folder": "blip"}).of.folder
'blip'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.components.typicality import KEPT_AXES, MIN_TYPICALITY_ROWS, Typicality
from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Flat,
    Record,
    RecordSpace,
    Space,
    Status,
)
from conjoin.core.shapes import Float
from conjoin.families import FAMILIES, resolve
from conjoin.families.autoregressive.beam import most_probable

__all__ = ["ConditionalPair", "ConditionalPairDensity"]


@dataclass(frozen=True)
class ConditionalPair(Config):
    """Settings of one block given another.

    Parameters
    ----------
    family
        Of the block that is modelled: "transformers_caption" or "diffusers_text_to_image".
    settings
        Of that family.
    """

    family: str = "transformers_caption"
    settings: Mapping[str, Any] | None = None

    def __hash__(self) -> int:  # settings are mappings, which have none
        return hash(repr(self))

    @property
    def of(self) -> Any:
        """The config of the block that is modelled."""
        return type(resolve(self.family))(**(self.settings or {}))


class ConditionalPairDensity(Density):
    """``part`` is p(a | b)."""

    config_class = ConditionalPair
    bounded = True
    takes_blocks = True

    knows_typical: Tensor

    def __init__(
        self,
        space: Space,
        config: ConditionalPair,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
        *,
        part: Any = None,
    ) -> None:
        own, told = _blocks(space, config)
        own_config = config.of
        kind = own_config.density
        if part is None:
            part = kind(own, own_config, structure, RecordSpace((told,)))
        super().__init__(space, config, part.structure, context_space)
        self.own = own.name
        self.told = told.name
        self.rows = Flat(RecordSpace(space.behind))
        self.part: Any = part
        sizes = part.reading_sizes
        kept = [tuple(min(size, KEPT_AXES) for size in each) for each in sizes]
        self.typical_told = Typicality(sizes[0], kept[0])
        self.typical_own = Typicality(sizes[1], kept[1])
        self.register_buffer("knows_typical", torch.zeros((), dtype=torch.bool))

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
        """With the weights of the folder that the settings name."""
        own, told = _blocks(space, config)
        own_config = config.of
        known = RecordSpace((told,))
        part = own_config.density.build(
            own, own_config, own.unknown(0), generator, context_space=known
        )
        return cls(space, config, part=part).eval()

    @property
    def capabilities(self) -> Capabilities:
        able = self.part.capabilities
        return Capabilities(
            able.likelihood,
            objective="surrogate",
            stochastic=able.stochastic,
            missing="approximate",
            conditionals="approximate",
            mode=able.mode,
            typical=True,
        )

    @property
    def status_of_draws(self) -> Status:
        status: Status = self.part.status_of_draws
        return status

    def notices(self, event: Event) -> list[str]:
        words = (
            f"log p of a row is that of {self.own!r} given {self.told!r}: the folder says nothing "
            f"of how probable {self.told!r} is."
        )
        return [words, *self.part.notices(self.space.unknown(0))]

    # ------------------------------------------------------------------ the two blocks

    def _split(self, event: Event) -> tuple[Event, Record]:
        """What is modelled, and what is told."""
        record = self.rows.split(event)
        return record[self.own], record.only([self.told])

    def _joined_rows(self, own: Event, told: Record) -> Event:
        return self.rows.join(Record({self.own: own}).updated(told))

    def _refuse_untold(self, told: Record) -> None:
        """CapabilityError where the network must be told what is not known."""
        known = bool(told[self.told].complete.all())
        if not known and self.part.capabilities.null_context == "none":
            raise CapabilityError(
                type(self).__name__,
                f"{self.own!r} where {self.told!r} is not known",
                f"p({self.own} | {self.told})",
                f"Give {self.told!r}.",
            )

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """0 of rows of which nothing is known of what is modelled."""
        own, told = self._split(event)
        rows = (~own.unobserved).nonzero()[:, 0]
        out = torch.zeros(event.rows, dtype=torch.float64)
        if not len(rows):
            return out
        told = told.take(rows)
        self._refuse_untold(told)
        found = self.part.log_prob(own.take(rows), told, generator=generator)
        return out.index_copy(0, rows, found)

    def _losses(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        own, told = self._split(event)
        out: Tensor = self.part.losses(own, told, generator=generator)
        return out

    def _status_of(self, event: Event) -> Status:
        own, _ = self._split(event)
        status: Status = self.part.status_of(own.take(~own.unobserved))
        return status

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Any, generator: torch.Generator | None) -> Event:
        return self._draw_open(self.space.unknown(n), context, generator)[0]

    def _sample_conditional(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Event:
        return self._draw_open(event, context, generator)[0]

    def _draw_open(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> tuple[Event, Status, Tensor | None]:
        own, told = self._told_whole(event)
        drawn = self.part.complete(own, told, generator=generator)
        return self._joined_rows(drawn.event, told), drawn.status, None

    def _mode(self, event: Event, context: Any) -> Event:
        own, told = self._told_whole(event)
        return self._joined_rows(self.part.mode(own, told), told)

    def _told_whole(self, event: Event) -> tuple[Event, Record]:
        """What is modelled, and what is told, all of it known: where nothing is, and the network
        may be told nothing, the empty text stands there. CapabilityError where it would have to be
        drawn."""
        own, told = self._split(event)
        self._refuse_untold(told)
        known = told[self.told]
        gone = known.unobserved
        if bool((gone & own.known.flatten(1).any(1)).any()):
            raise CapabilityError(
                type(self).__name__,
                f"{self.told!r} given {self.own!r}",
                f"p({self.own} | {self.told})",
                f"Another network is needed for p({self.told} | {self.own}).",
            )
        if bool(gone.any()):
            known = known._replace(observed=known.mask | gone[:, None])
        return own, Record({self.told: known})

    def alternatives(self, event: Event, count: int) -> tuple[Event, Float[Tensor, "B K"]]:
        """The most probable strings that a beam finds for what is told of each row, and log p of
        each, exact (nats): B K rows, those of the first row first. CapabilityError where what is
        modelled is no string."""
        _, told = self._split(event)
        self._refuse_untold(told)
        found, log_p = most_probable(self.part, event.rows, count, told)
        rows = torch.arange(event.rows).repeat_interleave(count)
        return self._joined_rows(found, told.take(rows)), log_p

    # ------------------------------------------------------------------ familiarity

    def _fit_typicality(self, event: Event) -> None:
        own, told = self._split(event.take(event.complete.nonzero()[:, 0]))
        if own.rows >= MIN_TYPICALITY_ROWS:
            self.typical_told.fit(self.part.told_readings(told[self.told]))
            self.typical_own.fit(self.part.own_readings(own, told[self.told]))
            self.knows_typical.fill_(True)

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """The lesser of the two."""
        return self._typicality_of_blocks(event).nan_to_num(torch.inf).amin(1)

    def _typicality_of_blocks(self, event: Event) -> Float[Tensor, "B 2"]:
        """Of each block in the order of the row; NaN where nothing is known of it, or where it is
        modelled and the other is not known."""
        own, told = self._split(event)
        known = told[self.told]
        whole = known.complete
        found = {
            self.told: self._of_known(whole, lambda rows: self._of_told(known.take(rows))),
            self.own: self._of_known(
                whole & own.complete, lambda rows: self._of_own(own.take(rows), known.take(rows))
            ),
        }
        return torch.stack([found[block.name] for block in self.space.behind], 1)

    def _of_known(self, known: Tensor, ask: Any) -> Float[Tensor, " B"]:
        rows = known.nonzero()[:, 0]
        out = torch.full((len(known),), torch.nan, dtype=torch.float64)
        return out.index_copy(0, rows, ask(rows)) if len(rows) else out

    def _of_told(self, told: Event) -> Tensor:
        """One value for all where no rows have said what is typical."""
        if not bool(self.knows_typical):
            return torch.zeros(told.rows, dtype=torch.float64)
        out: Tensor = self.typical_told(self.part.told_readings(told))
        return out

    def _of_own(self, own: Event, told: Event) -> Tensor:
        """How little it surprises where no rows have said what is typical."""
        readings = self.part.own_readings(own, told)
        if not bool(self.knows_typical):
            return -readings[0].mean(1)
        out: Tensor = self.typical_own(readings)
        return out


def _blocks(space: Space, config: ConditionalPair) -> tuple[Block, Block]:
    """The block that is modelled, and the one that is told."""
    layouts = FAMILIES[config.family].layouts
    blocks = space.behind
    own = [block for block in blocks if block.layout in layouts]
    told = [block for block in blocks if block.layout not in layouts]
    if space.columns or len(own) != 1 or len(told) != 1:
        raise ValueError(
            f"family={config.family!r} is of a picture and a text, and no other column: "
            "conjoin.from_pretrained makes such rows."
        )
    return own[0], told[0]

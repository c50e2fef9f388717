"""What the checks look at where rows are blocks or records: a briefly fitted density, alone, given
a class, or given a record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from conjoin.core import (
    Block,
    CapabilityError,
    Density,
    Event,
    Flat,
    Pair,
    Record,
    RecordSpace,
    Variable,
    stream,
)
from conjoin.joints.class_conditional import ClassConditional
from conjoin.testing.block_spaces import TinyBlocks, agreeing, block_names
from conjoin.testing.fitted import Fitted, NotTaken, again, class_of, fitted, weights_of
from conjoin.testing.spaces import CLASSES

__all__ = ["BLOCK_BUILDERS", "TOLD", "BlockSubject", "told_rows"]

STEPS = 60  # of the gradient, where a density learns under records
RATE = 1e-2
MAX_NATS_BELOW_MODE = 35.0  # nats below the most probable row, beyond which rows are left out
# contexts of a density that is conditioned on records: a category, a number and a string
TOLD = RecordSpace(
    (
        Block("told", "vector", (2,), (Variable("flag", "category", 2), Variable("dose", "real"))),
        Block("note", "sequence", (2,), (Variable("letter", "category", 2),)),
    )
)
TOLD_PICTURE = RecordSpace(
    (Block("picture", "image", (1, 4, 4), (Variable("grey", "ordered", 2),)),)
)


@dataclass
class BlockSubject(Fitted):
    """A density over the blocks of a ``TinyBlocks``."""

    form: ClassVar[str] = "blocks"

    tiny: TinyBlocks
    _log_mass: Tensor | None = field(default=None, repr=False)

    @property
    def complete(self) -> Any:
        return self.tiny.rows

    @property
    def told_to_build(self) -> Any:
        """The rows that it was fitted to, as ``build`` takes them: records, or joined to rows."""
        flat = self.density.rows_of
        return self.event if flat is None else flat.join(self.event)

    @property
    def joint(self) -> None:
        return None

    @property
    def beginning(self) -> Density | None:
        return self.density._first_stage()

    @property
    def log_mass(self) -> Tensor:
        """(G,) of every row of the space, under the one context."""
        if self._log_mass is None:
            self._log_mass = self.log_prob(self.tiny.every) + self.tiny.log_weight
        return self._log_mass

    @property
    def likely(self) -> tuple[Any, Tensor]:
        keep = (self.log_mass > self.log_mass.max() - MAX_NATS_BELOW_MODE).nonzero()[:, 0]
        return self.tiny.every.take(keep), self.log_mass[keep].exp()

    def context(self, rows: int) -> Any:
        if self.contexts is None:
            return None
        if isinstance(self.contexts, Event):
            return class_of(rows)
        return self.contexts.take(torch.zeros(rows, dtype=torch.long))

    def truth(self, event: Any) -> Tensor:
        """(B,) log of the sum over all rows that agree with what is known."""
        return self.summed(event, agreeing(self.tiny.space, event, self.tiny.every))

    def summed(self, event: Any, agree: Tensor) -> Tensor:
        """(B,) log of the sum over the rows of the list (B, G) that agree; of known numbers it is
        the density."""
        mass = torch.where(agree, self.log_mass, -torch.inf).logsumexp(1)
        return mass - self.tiny.log_known(event)

    def completed(self, event: Any, seed: int = 0) -> Any:
        """``complete`` of the density, under the one context."""
        noise = stream(seed, "conditional")
        return self.density.complete(event, self.context(event.rows), generator=noise)


def _built(config: Any, space: TinyBlocks, **context: Any) -> tuple[Density, Any]:
    """The density, and the rows to fit: some of them known in part where the family takes that."""
    if config.density.flat and not config.density.takes_blocks:
        raise NotTaken("it models rows of numbers, not blocks")

    def build(data: Any) -> Density:
        if config.density.flat:
            return _of_rows(config, space, data)
        try:
            return config.density.build(
                space.space,
                config,
                data,
                stream(0, "build"),
                weight=weights_of(data.rows),
                **context,
            )
        except (CapabilityError, ValueError) as refusal:
            raise NotTaken(str(refusal)) from refusal

    density = build(space.rows)
    if density.capabilities.missing == "none":
        return density, space.rows
    return build(space.gaps), space.gaps


def _of_rows(config: Any, space: TinyBlocks, data: Any) -> Density:
    """A density of the rows that the blocks are joined to, for questions about records."""
    try:
        flat = Flat(space.space)
        return config.density.build(
            flat.space,
            config.suited(flat.space),
            flat.join(data),
            stream(0, "build"),
            weight=weights_of(data.rows),
        ).over(flat)
    except (CapabilityError, ValueError) as refusal:
        raise NotTaken(str(refusal)) from refusal


def _alone(config: Any, space: TinyBlocks) -> BlockSubject:
    density, data = _built(config, space)
    fitted(density, data, weights_of(data.rows))
    return BlockSubject(space.name, space, density, data, rebuild=lambda: again(density))


def _given_class(config: Any, space: TinyBlocks) -> BlockSubject:
    _conditional(config)
    label = Event(space.label)
    density, data = _built(config, space, context=label, context_space=CLASSES)
    fitted(ClassConditional(density, CLASSES), Pair(label, data), weights_of(data.rows))
    name = f"{space.name} given class"
    return BlockSubject(name, space, density, data, label, lambda: again(density))


def _given_record(config: Any, space: TinyBlocks) -> BlockSubject:
    return _given(config, space, told_rows(space.label), TOLD, "record")


def _given_picture(config: Any, space: TinyBlocks) -> BlockSubject:
    return _given(config, space, told_pictures(space.label), TOLD_PICTURE, "picture")


def _given_strings(config: Any, space: TinyBlocks) -> BlockSubject:
    told = told_rows(space.label).only(["note"])
    note = told["note"]
    whole = note.complete[:, None]
    told = Record(note=note.hide(~whole))
    return _given(config, space, told, RecordSpace(TOLD.blocks[1:]), "strings")


def _given(
    config: Any, space: TinyBlocks, told: Record, told_space: RecordSpace, word: str
) -> BlockSubject:
    """Under the records ``told``."""
    _conditional(config)
    density, data = _built(config, space, context=told, context_space=told_space)
    optimiser = torch.optim.Adam(density.parameters(), lr=RATE)
    density.train()
    for step in range(STEPS):
        optimiser.zero_grad()
        density.loss(data, told, generator=stream(step, "fit")).backward()
        optimiser.step()
    name = f"{space.name} given {word}"
    return BlockSubject(name, space, density.eval(), data, told, lambda: again(density))


def _conditional(config: Any) -> None:
    if not config.density.conditional:
        raise NotTaken("it does not model p(x | context)")


def told_rows(label: Tensor) -> Record:
    """A record that goes with each label; the first is known as a whole, others in part, or not at
    all."""
    rows = len(label)
    noise = stream(0, "told")
    dose = label - 0.5 + 0.5 * torch.randn(rows, generator=noise, dtype=torch.float64)
    known = torch.rand(rows, 2, generator=noise) > 0.2
    known[0] = True
    note = torch.stack([label.long(), torch.randint(2, (rows,), generator=noise)], 1)
    length = torch.randint(3, (rows,), generator=noise)
    length[0] = 2
    there = torch.arange(2) < length[:, None]
    told = (torch.rand(rows, 1, generator=noise) > 0.2).expand(rows, 2).clone()
    told[0] = True
    return TOLD.check(
        Record(
            told=Event(torch.stack([label, dose], 1), known),
            note=Event(note, told, there & told),
        )
    )


def told_pictures(label: Tensor) -> Record:
    """A picture that goes with each label: light, or dark."""
    noise = torch.rand(len(label), *TOLD_PICTURE.blocks[0].shape, generator=stream(0, "told"))
    pixels = (noise < 0.25 + 0.5 * label[:, None, None, None]).byte()
    return TOLD_PICTURE.check(Record(picture=Event(pixels)))


Builder = Callable[[Any, TinyBlocks], BlockSubject]
BLOCK_BUILDERS: dict[str, tuple[Builder, str]] = {
    **{name: (_alone, name) for name in block_names()},
    "strings given class": (_given_class, "strings"),
    "strings given record": (_given_record, "strings"),
    "strings given picture": (_given_picture, "strings"),
    "picture given strings": (_given_strings, "picture"),
    "points given class": (_given_class, "points"),
    "centred points given class": (_given_class, "centred points"),
}

"""What the checks look at: a briefly fitted density on a tiny space, alone, given a class, or
inside a joint model.

``Flat`` presents a joint over (y, x) as a density over one row, so that joints pass the same checks
as densities.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from conjoin.core import (
    Capabilities,
    CapabilityError,
    Density,
    Event,
    Pair,
    Recipe,
    Space,
    categorical,
    stream,
)
from conjoin.core.event import but_first
from conjoin.joints.base import Joint, Rebuild, flat_space
from conjoin.joints.build import build_joint
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.testing.block_spaces import TinyBlocks, tiny_blocks
from conjoin.testing.block_subjects import BLOCK_BUILDERS
from conjoin.testing.fitted import Fitted, NotTaken, again, class_of, fitted, weights_of
from conjoin.testing.spaces import CLASSES, Tiny, product, tiny, tiny_names
from conjoin.training.learners import Batch, Gradient

__all__ = [
    "REFERENCE_DRAWS",
    "Flat",
    "LinearPredictor",
    "NotTaken",
    "Subject",
    "again",
    "subject",
    "subject_names",
    "tiny_of",
]

REFERENCE_DRAWS = 12_000  # draws that stand for the density itself where no table can
MAX_NATS_BELOW_MODE = 35.0  # nats below the most probable row, beyond which rows are left out
# nats below the most probable point, beyond which a point is not asked again with other noise: ten
# thousand of them have a share of 1e-7
ASKED_ONCE_NATS = 25.0


class Flat(Density):
    """A joint over Pair(y, x) as a density over the row (y, x)."""

    def __init__(self, joint: Joint) -> None:
        super().__init__(flat_space(joint.space.y, joint.space.x), joint.config)
        self.joint = joint

    @property
    def capabilities(self) -> Capabilities:
        return self.joint.capabilities

    @staticmethod
    def pair(event: Event) -> Pair:
        mask = event.mask
        return Pair(
            Event(event.value[:, 0], mask[:, 0]),
            Event(event.value[:, 1:], mask[:, 1:], within=but_first(event.within)),
        )

    @staticmethod
    def row(pair: Pair) -> Event:
        return Event(torch.cat([pair.y.value[:, None], pair.x.value], 1))

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.joint.log_prob(self.pair(event), generator=generator)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        return self.row(self.joint.sample(n, generator=generator))

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.joint.losses(self.pair(event), generator=generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        return self.row(self.joint.sample_conditional(self.pair(event), generator=generator))

    def _mode(self, event: Event, context: Event | None) -> Event:
        return self.row(self.joint.mode(self.pair(event)))

    def _features(self, event: Event) -> Tensor:
        return self.joint.features(self.pair(event))

    def _fit_typicality(self, event: Event) -> None:
        self.joint.fit_typicality(self.pair(event))

    def _typicality(self, event: Event) -> Tensor:
        return self.joint.typicality(self.pair(event))

    def _sweep(
        self, event: Event, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        return self.joint.sweep(self.pair(event), weight=weight, generator=generator)

    def _sweep_state(self) -> dict[str, Tensor]:
        return self.joint._sweep_state()

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        self.joint._restore_sweep(state)

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        return self.joint.statistics(self.pair(event), weight=weight)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.joint.maximise(statistics)


class LinearPredictor(Predictor):
    """p(y | x) from a linear layer: softmax for classes, a Gaussian for a number."""

    def __init__(self, y: Space, x: Space, generator: torch.Generator) -> None:
        super().__init__()
        self.classes = y.variables[0].cardinality if y.variables[0].discrete else 0
        start = torch.randn(
            x.shape[0], max(self.classes, 1), generator=generator, dtype=torch.float64
        )
        self.slope = nn.Parameter(0.3 * start)
        self.offset = nn.Parameter(torch.zeros(max(self.classes, 1), dtype=torch.float64))
        if not self.classes:
            self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def _linear(self, x: Event) -> Tensor:
        return torch.where(x.mask, x.value, 0.0) @ self.slope + self.offset

    def log_prob(self, x: Event, y: Tensor) -> Tensor:
        if self.classes:
            return self._linear(x).log_softmax(1).gather(1, y.long())
        return torch.distributions.Normal(self._linear(x), self.log_scale.exp()).log_prob(y)

    def covers(self, x: Event) -> Tensor:
        return torch.ones(x.rows, dtype=torch.bool)

    def draw(self, x: Event, generator: torch.Generator | None) -> Tensor:
        if self.classes:
            return (
                self._linear(x).argmax(1).double()
                if generator is None
                else categorical(self._linear(x), generator).double()
            )
        mean = self._linear(x)[:, 0]
        noise = (
            0.0
            if generator is None
            else torch.randn(x.rows, generator=generator, dtype=torch.float64)
        )
        return mean + self.log_scale.exp() * noise


@dataclass
class Enumeration:
    """Every point of a box, and its log-mass under the density."""

    points: Tensor  # (G, D)
    log_mass: Tensor  # (G,)


@dataclass
class Subject(Fitted):
    """A density over the rows of a ``Tiny``."""

    form: ClassVar[str] = "rows"

    tiny: Tiny
    event: Event
    contexts: Event | None = None
    _table: Enumeration | None = field(default=None, repr=False)
    _tables: Tensor | None = field(default=None, repr=False)
    _draws: Tensor | None = field(default=None, repr=False)

    @property
    def complete(self) -> Event:
        return Event(self.tiny.rows)

    @property
    def joint(self) -> Joint | None:
        return self.density.joint if isinstance(self.density, Flat) else None

    @property
    def beginning(self) -> Density | None:
        return (self.density if self.joint is None else self.joint)._first_stage()

    @property
    def free(self) -> tuple[int, ...]:
        """Variables that a region cannot speak of: the y of a joint."""
        return () if self.joint is None else (0,)

    def context(self, rows: int) -> Event | None:
        return None if self.contexts is None else class_of(rows)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, D) draws under the one context."""
        out: Tensor = self.drawn(n, seed).value
        return out

    def sample_conditional(self, event: Event, seed: int = 0) -> Event:
        return self.density.sample_conditional(
            event, self.context(event.rows), generator=stream(seed, "conditional")
        )

    def mode(self, event: Event) -> Event:
        return self.density.mode(event, self.context(event.rows))

    def enumerate(self, parts: list[tuple[Tensor, Tensor]]) -> Enumeration:
        points, log_weight = product(parts)
        return Enumeration(points, self.log_prob(Event(points)) + log_weight)

    @property
    def table(self) -> Enumeration:
        """The whole space."""
        if self._table is None:
            self._table = self.enumerate([axis.whole for axis in self.tiny.axes])
        return self._table

    def tables(self, seeds: int) -> Tensor:
        """(seeds, G) the log-mass of the whole space again and again, each time with other noise.
        Points that are out of the question keep their value. Made once for all checks."""
        if self._tables is None or len(self._tables) < seeds:
            log_mass = self.table.log_mass
            asked = ~(log_mass < log_mass.max() - ASKED_ONCE_NATS)
            log_weight = product([axis.whole for axis in self.tiny.axes])[1][asked]
            several = log_mass.repeat(seeds, 1)
            several[:, asked] = self.estimates(Event(self.table.points[asked]), seeds) + log_weight
            self._tables = several
        return self._tables[:seeds]

    @property
    def likely(self) -> tuple[Event, Tensor]:
        keep = self.table.log_mass > self.table.log_mass.max() - MAX_NATS_BELOW_MODE
        return Event(self.table.points[keep]), self.table.log_mass[keep].exp()

    @property
    def many(self) -> Tensor:
        """(REFERENCE_DRAWS, D) draws, made once."""
        if self._draws is None:
            self._draws = self.sample(REFERENCE_DRAWS, seed=5)
        return self._draws

    def _again(self, density: Density) -> Density:
        return _once_more(density)


# ----------------------------------------------------------------------------------------- building


def _built(config: Any, space: Tiny, **context: Any) -> tuple[Density, Event]:
    """The density, and the rows to fit: some cells missing where the family takes that."""

    def build(data: Event) -> Density:
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

    if not config.density.flat:
        raise NotTaken("it models blocks, not rows of numbers")
    data = Event(space.rows)
    density = build(data)
    if density.capabilities.missing == "none":
        return density, data
    data = Event(space.rows, space.mask)
    return build(data), data


def _once_more(density: Density) -> Density:
    """As ``again``, also of a joint."""
    return Flat(_rejoin(density.joint)) if isinstance(density, Flat) else again(density)


def _alone(config: Any, space: Tiny) -> Subject:
    density, data = _built(config, space)
    fitted(density, data, weights_of(data.rows))
    return Subject(space.name, space, density, data, rebuild=lambda: _once_more(density))


def _given_class(config: Any, space: Tiny) -> Subject:
    if not config.density.conditional:
        raise NotTaken("it does not model p(x | context)")
    label = Event(space.label)
    density, data = _built(config, space, context=label, context_space=CLASSES)
    fitted(ClassConditional(density, CLASSES), Pair(label, data), weights_of(data.rows))
    return Subject(
        f"{space.name} given class",
        space,
        density,
        data,
        label,
        rebuild=lambda: _once_more(density),
    )


def _joint_of(config: Any, space: Tiny) -> tuple[Joint, Event]:
    y = Space((), space.space.variables[:1])
    x = space.space.without_first()
    data = Event(space.rows, space.mask)
    if not _takes_missing(config, space):
        data = Event(space.rows)
    try:
        return build_joint(
            config, y, x, Flat.pair(data), stream(0, "build"), weights_of(data.rows)
        ), data
    except (CapabilityError, ValueError) as refusal:
        raise NotTaken(str(refusal)) from refusal


def _takes_missing(config: Any, space: Tiny) -> bool:
    return _built(config, space)[0].capabilities.missing != "none"


def _rejoin(joint: Joint) -> Joint:
    """The same joint of densities that have not learned yet."""
    y = joint.space.y
    x = joint.space.x
    rebuild = Rebuild(
        y,
        x,
        joint=lambda _: _rejoin(joint.proposer),
        density=lambda *_: again(joint.family_density),
        predictor=lambda *_: LinearPredictor(y, x, stream(1)),
    )
    parts: dict[str, Any] = dict.fromkeys(("density", "base", "predictor"))
    return type(joint).restore(parts, rebuild)


def _joined(config: Any, space: Tiny) -> Subject:
    joint, data = _joint_of(config, space)
    fitted(joint, Flat.pair(data), weights_of(data.rows))
    return Subject(
        f"joint {space.name}", space, Flat(joint), data, rebuild=lambda: Flat(_rejoin(joint))
    )


def _hybrid(config: Any, space: Tiny) -> Subject:
    base, data = _joint_of(config, space)
    fitted(base, Flat.pair(data), weights_of(data.rows))
    joint = Hybrid(base, LinearPredictor(base.space.y, base.space.x, stream(0, "predictor")))
    learner = Gradient(joint, Recipe(rate=0.05))
    weight = weights_of(data.rows)
    for index in range(30):
        learner.step(Batch(Flat.pair(data), weight, float(weight.sum())), stream(index))
    return Subject(
        f"hybrid {space.name}", space, Flat(joint), data, rebuild=lambda: Flat(_rejoin(joint))
    )


_BUILDERS: dict[str, tuple[Callable[[Any, Tiny], Subject], str]] = {
    **{name: (_alone, name) for name in tiny_names()},
    "mixed given class": (_given_class, "mixed"),
    "image given class": (_given_class, "image"),
    "joint mixed": (_joined, "mixed"),
    "joint numbers": (_joined, "numbers"),
    "joint columns and image": (_joined, "columns and image"),
    "hybrid mixed": (_hybrid, "mixed"),
    "hybrid numbers": (_hybrid, "numbers"),
}


def subject_names() -> list[str]:
    return [*_BUILDERS, *BLOCK_BUILDERS]


def tiny_of(name: str) -> Tiny | TinyBlocks:
    """The tiny space on which the subject ``name`` stands."""
    return tiny_blocks(BLOCK_BUILDERS[name][1]) if name in BLOCK_BUILDERS else _rows_of(name)


def _rows_of(name: str) -> Tiny:
    return tiny(_BUILDERS[name][1])


@cache
def subject(config: Any, name: str) -> Fitted:
    """The fitted density of ``config`` on the space ``name``; built once. Raises NotTaken."""
    if name in BLOCK_BUILDERS:
        build, space = BLOCK_BUILDERS[name]
        return build(config, tiny_blocks(space))
    return _BUILDERS[name][0](config, _rows_of(name))

"""What the checks look at, whatever its rows are: a briefly fitted density, and how it was made."""

import abc
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Event, stream
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

__all__ = ["CONTEXT", "Fitted", "NotTaken", "again", "class_of", "fitted", "weights_of"]

NOISY_NATS = 0.3  # nats
CONTEXT = 1  # the class that a conditional density is looked at under


class NotTaken(Exception):
    """The family does not take this space; the message says why."""


@dataclass
class Fitted(abc.ABC):
    """One fitted density and all that a check needs to know of it. Checks that move parameters take
    a ``fresh`` copy."""

    form: ClassVar[str]  # "rows" or "blocks": the form of the checks

    name: str
    tiny: Any
    density: Density
    event: Any  # the rows that it was fitted to
    contexts: Any = None  # their classes, or the records that they were told
    rebuild: Callable[[], Density] = field(
        default=lambda: None,  # type: ignore[assignment,return-value]
        repr=False,
    )
    _noise: float | None = field(default=None, repr=False)

    @property
    @abc.abstractmethod
    def complete(self) -> Any:
        """The rows of the tiny space, nothing missing."""

    @property
    @abc.abstractmethod
    def likely(self) -> tuple[Any, Tensor]:
        """All rows of the space that are not out of the question, and the probability of each."""

    @abc.abstractmethod
    def context(self, rows: int) -> Any:
        """The one context that is looked at, for so many rows; None where there is none."""

    @property
    @abc.abstractmethod
    def beginning(self) -> Density | None:
        """The part that is fitted before the rest, and learns nothing with it."""

    @property
    @abc.abstractmethod
    def joint(self) -> Any:
        """The joint that the density stands for; None where it is none."""

    @property
    def can(self) -> Capabilities:
        return self.density.capabilities

    @property
    def learned(self) -> Any:
        """The rows that it was fitted to; complete ones where missing cells cost it exactness."""
        return self.event if self.can.missing in ("exact", "none") else self.complete

    @property
    def tolerance(self) -> float:
        return 5e-3

    @property
    def rounding(self) -> float:
        """How far two answers to the same question may be apart, relatively: a network that answers
        in float32 rounds in another way in another batch."""
        single = any(weight.dtype == torch.float32 for weight in self.density.parameters())
        return 1e-4 if single else 1e-9

    @property
    def noise(self) -> float:
        """The standard deviation of log_prob of a row from one generator to the next, nats."""
        if self._noise is None:
            rows = self.complete.take(slice(0, 16))
            each = self.estimates(rows, 8) if self.can.stochastic else torch.zeros(2, 1)
            self._noise = float(each.std(0).nan_to_num(0.0).median())
        return self._noise

    @property
    def noisy(self) -> bool:
        """Whether log_prob of one generator says little of a row: then only the mean over many of
        them is a lower bound, and the exponential of one is no estimate of p."""
        return self.noise > NOISY_NATS

    def log_prob(self, event: Any, seed: int = 0) -> Tensor:
        """Under the one context that is looked at, with the same noise every time."""
        with torch.no_grad():
            return self.density.log_prob(
                event, self.context(event.rows), generator=stream(seed, "log_prob")
            )

    def estimates(self, event: Any, seeds: int = 40) -> Tensor:
        """(seeds, B) log_prob again and again, each time with other noise."""
        return torch.stack([self.log_prob(event, seed) for seed in range(1, seeds + 1)])

    def drawn(self, n: int, seed: int = 0) -> Any:
        """n draws under the one context."""
        return self.density.sample(n, self.context(n), generator=stream(seed, "sample"))

    def fresh(self) -> Self:
        copied = copy.deepcopy(self.density)
        return type(self)(
            self.name, self.tiny, copied, self.event, self.contexts, lambda: self._again(copied)
        )

    def _again(self, density: Density) -> Density:
        """What saving.py does: a density before its weights."""
        return again(density)


def again(density: Density) -> Density:
    """What saving.py does: a density from its config and structure, before its weights."""
    structure = json.loads(json.dumps(density.structure))
    out = type(density)(density.space, density.config, structure, density.context_space).eval()
    return out if density.rows_of is None else out.over(density.rows_of)


def fitted(density: Density, data: Any, weight: Tensor, epochs: int = 6) -> None:
    """A brief fit: a few rounds of EM, and ten times as many sweeps or steps of the gradient."""
    able = density.capabilities
    epochs = epochs if able.statistics else 10 * epochs
    train(
        density,
        data,
        weight,
        None,
        Plan(epochs=epochs, steps=None if able.sweeps else epochs, patience=epochs),
        Progress(),
    )


def weights_of(rows: int) -> Tensor:
    """Every fifth row counts twice."""
    return 1.0 + (torch.arange(rows) % 5 == 0).double()


def class_of(rows: int, code: int = CONTEXT) -> Event:
    """The same class for so many rows."""
    return Event(torch.full((rows,), float(code), dtype=torch.float64))

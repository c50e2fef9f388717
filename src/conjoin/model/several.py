r"""A fitted model of several targets: one density over (y_1, ..., y_k, x), and for each target the
ordinary model p(y_j, x) in which the others are summed out.

All of them share p(x), and so the alarm on familiarity. What is asked of all targets together is
asked of the whole density, or promised by a calibration of all answers at once.

Shape letters: B rows, D columns of x.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.calibration.conformal import Calibration
from conjoin.core import Density, Encoded, Event, Region, Space
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.joints.base import flat_space
from conjoin.joints.marginal import Marginal
from conjoin.joints.monolithic import Monolithic
from conjoin.model.censored import TargetColumn
from conjoin.model.model import CHUNK_ROWS, Model, notices_of
from conjoin.model.state import State
from conjoin.model.sums import Completions
from conjoin.model.targets import Target

__all__ = ["SeveralTargets", "encode_targets", "rows_of", "space_of"]


def space_of(targets: tuple[Target, ...], x: Space) -> Space:
    """The space of a row (y_1, ..., y_k, x)."""
    space = x
    for target in reversed(targets):
        space = flat_space(target.space, space)
    return space


def encode_targets(targets: tuple[Target, ...], columns: list[TargetColumn]) -> Event:
    """(B, k) events of the targets, censored numbers within their bounds."""
    each = [
        target.encode(column.values, column.known)
        for target, column in zip(targets, columns, strict=True)
    ]
    value = torch.stack([event.value for event in each], 1)
    mask = torch.stack([event.mask for event in each], 1)
    bounds = [_bounds(target, column) for target, column in zip(targets, columns, strict=True)]
    low = torch.stack([low for low, _ in bounds], 1)
    high = torch.stack([high for _, high in bounds], 1)
    bounded = bool((torch.isfinite(low) | torch.isfinite(high)).any())
    return Event(value, mask, within=Region(low, high) if bounded else None)


def _bounds(target: Target, column: TargetColumn) -> tuple[Tensor, Tensor]:
    """In event units; infinite where nothing is censored."""
    found = target.bounds(column.low, column.high, column.strict)
    free = torch.full((len(column.values),), torch.inf, dtype=torch.float64)
    return (-free, free) if found is None else found


def rows_of(y: Event, x: Event) -> Event:
    """Targets and x as one row."""
    value = torch.cat([y.value.to(x.value), x.value], 1)
    mask = torch.cat([y.mask, x.mask], 1)
    if y.within is None:
        return Event(value, mask)
    free = torch.full(x.value.shape, torch.inf, dtype=torch.float64)
    low = torch.cat([y.within.low, -free], 1)
    return Event(value, mask, within=Region(low, torch.cat([y.within.high, free], 1)))


@dataclass
class SeveralTargets:
    """``density`` is over (y_1, ..., y_k, x). ``states`` and ``calibrations``: one of each
    target, the latter none where no rows were held out."""

    codec: Any
    density: Density
    targets: tuple[Target, ...]
    states: tuple[State, ...]
    calibrations: tuple[Calibration, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the fit and of the columns, one sentence each."""
        return notices_of(self)

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.targets]

    def view(self, name: str) -> Model:
        """The ordinary model of one target, the others summed out. ValueError with the choices for
        an unknown one."""
        if name not in self.names:
            raise ValueError(f"There is no target {name!r}; choose from {', '.join(self.names)}.")
        place = self.names.index(name)
        target = self.targets[place]
        x = self.codec.space
        marginal = Marginal(self.density, place, flat_space(target.space, x))
        joint = Monolithic(marginal, target.space, x).eval()
        calibration = self.calibrations[place] if self.calibrations else None
        return Model(self.codec, joint, target, calibration, self.states[place], self.card)

    def views(self) -> dict[str, Model]:
        """The model of each target; they share what is worked out once for x."""
        models = {name: self.view(name) for name in self.names}
        first = next(iter(models.values()))
        for model in models.values():
            model.__dict__["familiarity"] = first.familiarity
        return models

    def log_prob(self, columns: list[TargetColumn], encoded: Encoded) -> Float[Tensor, " B"]:
        """log p(y_1, ..., y_k | x) of what is known of the targets, nats, in their raw units: of a
        censored number the mass between its bounds, of a missing one nothing. A known sum of which
        parts are missing is used as by the models of single targets."""
        y = encode_targets(self.targets, columns)
        nothing = Event(torch.zeros_like(y.value), torch.zeros_like(y.mask))
        completions = self.view(self.names[0]).completions(encoded)
        both, alone = (self._beside(each, encoded.event, completions) for each in (y, nothing))
        volume = torch.zeros(encoded.event.rows, dtype=torch.float64)
        for target, column in zip(self.targets, columns, strict=True):
            if target.log_volume:
                volume += torch.tensor(column.known) * target.log_volume
        return both - alone + volume

    def _beside(self, y: Event, x: Event, completions: Completions | None) -> Float[Tensor, " B"]:
        """log p(y, x) of what is known; of rows with known sums by their completions."""
        plain = self._asked(y, x)
        if completions is None:
            return plain
        many = completions.rows.repeat_interleave(completions.log_weight.shape[1])
        return completions.replacing(plain, self._asked(y.take(many), completions.event))

    def _asked(self, y: Event, x: Event) -> Tensor:
        with torch.no_grad():
            parts = slices(x.rows, CHUNK_ROWS)
            each = (rows_of(y.take(part), x.take(part)) for part in parts)
            return torch.cat([self.density.log_prob(rows) for rows in each])

    @property
    def classes(self) -> list[str]:
        """The names of the targets that are classes."""
        return [target.name for target in self.targets if target.discrete]

    @property
    def of_all_classes(self) -> Calibration:
        """Of all classes as one answer, right where each of them is, whose confidence is the least
        of theirs. ValueError where nothing was held out."""
        if not self.calibrations:
            _ = next(iter(self.views().values())).calibrated  # which says how many are needed
        parts = [
            each
            for each, target in zip(self.calibrations, self.targets, strict=True)
            if target.discrete
        ]
        known = np.all([each.label >= 0 for each in parts], axis=0)
        right = np.all([each.guess == each.label for each in parts], axis=0)
        confidence = np.min([each.confidence for each in parts], axis=0)
        label = np.where(known, np.where(right, 0, 1), -1)
        guess = np.zeros(len(known), dtype=np.int64)
        first = parts[0]
        return Calibration(first.statistic, guess, label, confidence, missingness=first.missingness)

r"""A fitted model of several targets: one density over (y_1, ..., y_k, x), and for each target the
ordinary model p(y_j, x) in which the others are summed out.

Of molecules each target may have a predictor beside the density: given the molecule the targets are
then independent of each other. Rows that are no rows of numbers, such as molecules in space, have a
density p(x) alone, and for each target p(y_j) beside it: p(x) p(y_1 | x) ... p(y_k | x).

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
from conjoin.core import Density, Encoded, Event, Pair, Region, Space
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.joints.base import Joint, flat_space
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.marginal import Marginal
from conjoin.joints.monolithic import Monolithic
from conjoin.model.censored import TargetColumn
from conjoin.model.model import CHUNK_ROWS, Model, notices_of
from conjoin.model.predictive import predictive
from conjoin.model.state import State
from conjoin.model.sums import Completions
from conjoin.model.targets import Target

MIN_MASS = 1e-12  # between two bounds, as the distribution function is known to no more digits

__all__ = ["MIN_MASS", "SeveralTargets", "encode_targets", "rows_of", "space_of"]


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
    target, the latter none where no rows were held out. ``predictors``: of each target p(y_j | x),
    or None where it is the density's own; none at all of most models. ``bases``: of each target
    p(y_j) p(x), where ``density`` is p(x) alone. ``columns``: the names of the table in which rows
    and targets stood side by side; none where targets were given by themselves."""

    codec: Any
    density: Density
    targets: tuple[Target, ...]
    states: tuple[State, ...]
    calibrations: tuple[Calibration, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)
    predictors: tuple[Predictor | None, ...] = ()
    bases: tuple[Joint, ...] = ()
    columns: tuple[Any, ...] = ()

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the fit and of the columns, one sentence each."""
        return notices_of(self)

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.targets]

    @property
    def thing(self) -> Any:
        """The name of the column, beside those of the targets, that holds what has no columns."""
        return next(name for name in self.columns if str(name) not in self.names)

    @property
    def alone(self) -> Model:
        """The model of p(x), where that is a density of its own."""
        calibration = self.calibrations[0] if self.calibrations else None
        return Model(self.codec, self.density, None, calibration, self.states[0], self.card)

    def view(self, name: str) -> Model:
        """The ordinary model of one target, the others summed out. ValueError with the choices for
        an unknown one."""
        if name not in self.names:
            raise ValueError(f"There is no target {name!r}; choose from {', '.join(self.names)}.")
        place = self.names.index(name)
        target = self.targets[place]
        joint: Any = self.bases[place] if self.bases else self._marginal(place)
        predictor = self.predictors[place] if self.predictors else None
        joint = joint if predictor is None else Hybrid(joint, predictor).eval()
        calibration = self.calibrations[place] if self.calibrations else None
        return Model(self.codec, joint, target, calibration, self.states[place], self.card)

    def _marginal(self, place: int) -> Monolithic:
        """p(y_j, x), in which the density sums the other targets out."""
        space = self.targets[place].space
        x = self.codec.space
        marginal = Marginal(self.density, place, flat_space(space, x))
        return Monolithic(marginal, space, x).eval()

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
        if self.bases or any(predictor is not None for predictor in self.predictors):
            return self._log_prob_by_predictors(columns, encoded.event)
        y = encode_targets(self.targets, columns)
        nothing = Event(torch.zeros_like(y.value), torch.zeros_like(y.mask))
        completions = self.view(self.names[0]).completions(encoded)
        both, alone = (self._beside(each, encoded.event, completions) for each in (y, nothing))
        return both - alone + self._volume(columns)

    def _volume(self, columns: list[TargetColumn]) -> Float[Tensor, " B"]:
        """What turns log p of known targets into that in raw units."""
        volume = torch.zeros(len(columns[0].values), dtype=torch.float64)
        for target, column in zip(self.targets, columns, strict=True):
            if target.log_volume:
                volume += torch.tensor(column.known) * target.log_volume
        return volume

    def _log_prob_by_predictors(self, columns: list[TargetColumn], x: Event) -> Float[Tensor, " B"]:
        """The sum over the targets, which are independent given x."""
        out = self._volume(columns)
        for target, column in zip(self.targets, columns, strict=True):
            view = self.view(target.name)
            y = encode_targets((target,), [column])
            own = Event(y.value[:, 0], y.mask[:, 0])
            with torch.no_grad():
                out += view.pair.log_label_given(Pair(own, x))
                if y.within is not None:
                    out += self._log_between(view, x, y)
        return out

    def _log_between(self, view: Model, x: Event, y: Event) -> Float[Tensor, " B"]:
        """log of the mass between the bounds of censored numbers, 0 in other rows."""
        assert y.within is not None and view.state.grid is not None
        grid = torch.tensor(view.state.grid, dtype=torch.float64)
        found = predictive(view.pair, x, grid, view.state.direct)
        mass = found.between(*(end[:, 0] for end in y.within[:2])).clamp_min(MIN_MASS)
        bounded = ~y.mask[:, 0] & y.within.constrained[..., 0]
        return torch.where(bounded, mass.log(), 0.0)

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

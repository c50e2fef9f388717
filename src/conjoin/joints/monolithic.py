"""p(y, x) as one density, in which y is a variable like any other."""

from typing import Any

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Event, Pair, PairSpace, Space, Status
from conjoin.core.shapes import Float
from conjoin.joints.base import (
    Joint,
    Rebuild,
    _label_loss,
    describe_family,
    flat_row,
    flat_space,
    of_pairs,
    trust,
)

__all__ = ["Monolithic"]


class Monolithic(Joint):
    """p(y, x) as one density over the row (y, x): exact wherever that density is."""

    kind = "monolithic"

    def __init__(self, density: Density, y_space: Space, x_space: Space) -> None:
        super().__init__(PairSpace(y_space, x_space), density.config)
        self.density = density
        self.begun = density.begun
        density.begun = {}

    @property
    def capabilities(self) -> Capabilities:
        return of_pairs(self, self.density.capabilities)

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        row = torch.zeros(1, *self.density.space.shape, dtype=torch.float64)
        without_y = self.density.status_of(Event(row, torch.arange(row.shape[1])[None] > 0))
        # beside blocks p(y, x) of a number y is asked at a few of its values
        own = without_y if self.density.takes_blocks else trust(self.density)
        # bounds differ, a constant cancels
        ratio = {
            Status.LOWER_BOUND: Status.APPROXIMATE,
            Status.RELATIVE: Status.EXACT,
        }
        drawn = (
            own
            if self.density.capabilities.conditionals in ("any", "prefix")
            else Status.APPROXIMATE
        )
        return {"log_prob": without_y, "predict_proba": ratio.get(own, own), "sample": drawn}

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "density": describe_family(self.density)}

    @classmethod
    def restore(cls, described: dict[str, Any], rebuild: Rebuild) -> "Monolithic":
        space = flat_space(rebuild.y, rebuild.x)
        density = rebuild.density(described["density"], space, None)
        return cls(density, rebuild.y, rebuild.x)

    @property
    def density_of_x(self) -> Density:
        return self

    @property
    def family_density(self) -> Density:
        return self.density

    def about(self, x: Event) -> Pair:
        return Pair(self.unknown(x.rows), x)

    def reader_of(self, column: int = 0) -> Any:
        return self.density.reader_of(column)

    def _first_stage(self) -> Density | None:
        return self.density._first_stage()

    def _members(self) -> dict[str, Density]:
        """Each beside y as this one is."""
        parts = self.density._members().items()
        return {name: Monolithic(each, self.space.y, self.space.x) for name, each in parts}

    def _weigh_members(self, choose: Pair | None) -> list[dict[str, Any]]:
        return self.density._weigh_members(None if choose is None else flat_row(choose))

    def _pair(self, row: Event) -> Pair:
        return Pair(Event(row.value[:, 0]), Event(row.value[:, 1:]))

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.log_prob(flat_row(event), generator=generator)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.density.log_target(flat_row(Pair(self.unknown(x.rows), x)), candidates)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self._pair(self.density.sample(n, generator=generator))

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        return self._pair(self.density.sample_conditional(flat_row(event), generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        return self._pair(self.density.mode(flat_row(event)))

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out = self.density.losses(flat_row(event), generator=generator)
        if not self.emphasis or not self.target.discrete:
            return out
        rows = [flat_row(Pair(y, event.x)) for y in self.candidates(event.rows)]
        each = torch.stack([self.density.losses(row, generator=generator) for row in rows], 1)
        return out + self.emphasis * _label_loss(-each, event.y)

    def _statistics(self, event: Pair, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        return self.density.statistics(flat_row(event), weight=weight)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.density.maximise(statistics)

    def _sweep(
        self, event: Pair, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        return self.density.sweep(flat_row(event), weight=weight, generator=generator)

    def _sweep_state(self) -> dict[str, Tensor]:
        return self.density._sweep_state()

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        self.density._restore_sweep(state)

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(flat_row(event))

    def _fit_typicality(self, event: Pair) -> None:
        self.density.fit_typicality(flat_row(event))

    def _typicality(self, event: Pair) -> Float[Tensor, " B"]:
        return self.density.typicality(flat_row(event))

    def _typicality_of_blocks(self, event: Pair) -> Float[Tensor, "B N"]:
        return self.density.typicality_of_blocks(flat_row(event))

"""p(y, x) as one density, in which y is a variable like any other."""

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Event, Pair, PairSpace, Space, Status
from conjoin.core.event import after_one
from conjoin.core.shapes import Float
from conjoin.joints.base import Joint, _label_loss, trust

__all__ = ["Monolithic"]


class Monolithic(Joint):
    """p(y, x) as one density over the row (y, x): exact wherever that density is."""

    def __init__(self, density: Density, y_space: Space, x_space: Space) -> None:
        super().__init__(PairSpace(y_space, x_space), density.config)
        self.density = density
        self.begun = density.begun
        density.begun = {}

    @property
    def capabilities(self) -> Capabilities:
        return self.density.capabilities

    @property
    def proposer(self) -> Joint:
        return self

    @property
    def status(self) -> dict[str, Status]:
        own = trust(self.density)
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
        return {"log_prob": own, "predict_proba": ratio.get(own, own), "sample": drawn}

    def _row(self, pair: Pair) -> Event:
        value = torch.cat([pair.y.value[:, None].to(pair.x.value), pair.x.value], 1)
        return Event(
            value,
            torch.cat([pair.y.mask[:, None], pair.x.mask], 1),
            within=after_one(pair.x.within),
        )

    def _pair(self, row: Event) -> Pair:
        return Pair(Event(row.value[:, 0]), Event(row.value[:, 1:]))

    def _log_prob(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.density.log_prob(self._row(event), generator=generator)

    def _log_joint(self, x: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        return self.density.log_target(self._row(Pair(self.unknown(x.rows), x)), candidates)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Pair:
        return self._pair(self.density.sample(n, generator=generator))

    def _sample_conditional(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Pair:
        return self._pair(self.density.sample_conditional(self._row(event), generator=generator))

    def _mode(self, event: Pair, context: Event | None) -> Pair:
        return self._pair(self.density.mode(self._row(event)))

    def _losses(
        self, event: Pair, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out = self.density.losses(self._row(event), generator=generator)
        if not self.emphasis or not self.target.discrete:
            return out
        rows = [self._row(Pair(y, event.x)) for y in self.candidates(event.rows)]
        each = torch.stack([self.density.losses(row, generator=generator) for row in rows], 1)
        return out + self.emphasis * _label_loss(-each, event.y)

    def _statistics(self, event: Pair, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        return self.density.statistics(self._row(event), weight=weight)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.density.maximise(statistics)

    def _sweep(
        self, event: Pair, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        return self.density.sweep(self._row(event), weight=weight, generator=generator)

    def _sweep_state(self) -> dict[str, Tensor]:
        return self.density._sweep_state()

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        self.density._restore_sweep(state)

    def _features(self, event: Pair) -> Tensor:
        return self.density.features(self._row(event))

    def _remember(self, event: Pair) -> None:
        self.density.remember(self._row(event))

    def _typicality(self, event: Pair) -> Float[Tensor, " B"]:
        return self.density.typicality(self._row(event))

r"""One of several targets beside x: the others are summed out of a density over (y_1, ..., y_k, x).

    p(y_j, x) = sum over all other y of p(y_1, ..., y_k, x)

which the density itself answers, where its marginals are exact: cells that are missing are summed
out. So each target has an ordinary joint model of its own, and all of them are of one p(x). Nats.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Event, Region, Space, Status
from conjoin.core.shapes import Float

__all__ = ["Marginal"]


class Marginal(Density):
    """p(y_j, x) of ``whole``, over the flat ``space`` of the target of that ``column`` and x.

    ``whole`` is no part of it: it has its weights, and one of them serves all targets.
    """

    takes_blocks = True  # so that a joint asks what log p of such rows is worth

    def __init__(self, whole: Density, column: int, space: Space) -> None:
        super().__init__(space, whole.config)
        self._whole = (whole,)
        self.column = column
        # strings are looked at for each candidate, times each value of the targets summed out
        self.slow_candidates = whole.takes_blocks
        self.width = len(whole.space.variables)
        first = self.width - len(space.variables) + 1
        self.place = torch.tensor([column, *range(first, self.width)])

    @property
    def whole(self) -> Density:
        return self._whole[0]

    @property
    def capabilities(self) -> Capabilities:
        own = self.whole.capabilities
        return replace(
            own,
            mode="none" if own.mode == "none" else "approximate",
            statistics=False,
            sweeps=False,
            features=False,
            typical=own.typical and bool(self.space.blocks),
            edits=False,
            unfolds=False,
            distils=False,
            step=False,
        )

    def string_in(self, x: Event, cells: slice) -> Any:
        return self.whole.string_in(x, cells)

    def _wide(self, event: Event) -> Event:
        """The rows with the other targets missing."""
        shape = (event.rows, self.width)
        value = event.value.new_zeros(shape).index_copy(1, self.place, event.value)
        mask = torch.zeros(shape, dtype=torch.bool).index_copy(1, self.place, event.mask)
        return Event(value, mask, within=self._wide_region(event.within))

    def _wide_region(self, region: Region | None) -> Region | None:
        if region is None:
            return None
        free = torch.full((*region.low.shape[:-1], self.width), torch.inf, dtype=region.low.dtype)
        allowed = {int(self.place[d]): keep for d, keep in region.allowed.items()}
        return Region(
            (-free).index_copy(-1, self.place, region.low),
            free.index_copy(-1, self.place, region.high),
            allowed,
        )

    def _narrow(self, event: Event) -> Event:
        return Event(event.value[:, self.place])

    def _status_of(self, event: Event) -> Status:
        return self.whole.status_of(self._wide(event))

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.whole.log_prob(self._wide(event), generator=generator)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        if self.column:
            return super()._log_target(event, candidates)
        return self.whole.log_target(self._wide(event), candidates)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        return self._narrow(self.whole.sample(n, generator=generator))

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        return self._narrow(self.whole.sample_conditional(self._wide(event), generator=generator))

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        return self.whole.typicality(self._wide(event))

    def _typicality_of_blocks(self, event: Event) -> Float[Tensor, "B N"]:
        return self.whole.typicality_of_blocks(self._wide(event))

    def _fit_typicality(self, event: Event) -> None:
        self.whole.fit_typicality(self._wide(event))

    def reader_of(self, column: int = 0) -> Any:
        return None if column else self.whole.reader_of(self.column)

    def _mode(self, event: Event, context: Event | None) -> Event:
        return self._narrow(self.whole.mode(self._wide(event)))

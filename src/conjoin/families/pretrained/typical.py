r"""What a density of a pretrained network knows of typical rows: readings of them, ranked together.

    typicality(x) = min_i (t_i(x) - median_i) / (median_i - quantile_i(.05))

t_i is a Gaussian of reading i (``conjoin.components.typicality``; K. Lee et al. (2018), A simple
unified framework for detecting out-of-distribution samples, equation 2). The network has learned
from other rows than those that are familiar to whoever asks: these say what is typical, and until
they have, a plain statistic stands in. It has no unit: log p, in nats, is no such measure.

Shape letters: B rows.

>>> sorted(TypicalByReadings.__abstractmethods__ - Density.__abstractmethods__)
['_readings_of', '_untaught']
"""

import abc

import torch
from torch import Tensor

from conjoin.components.typicality import MIN_TYPICALITY_ROWS, Typicality
from conjoin.core import Density, Event
from conjoin.core.shapes import Float

__all__ = ["TypicalByReadings"]


class TypicalByReadings(Density):
    """A density that declares ``typical``, by readings of a row."""

    knows_typical: Tensor

    def _take_readings(self, sizes: tuple[int, ...], kept: tuple[int, ...]) -> None:
        """Room for what typical rows say: sizes of the readings, and of how many of their principal
        axes each is judged."""
        self.typical = Typicality(sizes, kept)
        self.register_buffer("knows_typical", torch.zeros((), dtype=torch.bool))

    @abc.abstractmethod
    def _readings_of(self, event: Event) -> list[Tensor]:
        """The readings of rows, each (B, its size)."""

    @abc.abstractmethod
    def _untaught(self, readings: list[Tensor]) -> Float[Tensor, " B"]:
        """What stands for typicality where no rows have said what is typical."""

    def _fit_typicality(self, event: Event) -> None:
        complete = event.take(event.complete.nonzero()[:, 0])
        if complete.rows >= MIN_TYPICALITY_ROWS:
            self.typical.fit(self._readings_of(complete))
            self.knows_typical.fill_(True)

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        if not event.rows:  # networks take no empty batch
            return torch.zeros(0, dtype=torch.float64)
        readings = self._readings_of(event)
        out: Tensor = (
            self.typical(readings) if bool(self.knows_typical) else self._untaught(readings)
        )
        return out

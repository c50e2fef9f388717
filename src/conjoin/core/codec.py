"""The contract between raw data and events."""

from typing import Any, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor

from conjoin.core.block import Space
from conjoin.core.event import Event

__all__ = ["Codec", "Encoded", "Raw"]

Raw = TypeVar("Raw")


class Encoded(NamedTuple):
    """What a codec makes of B raw rows.

    Two terms per row go with the event, because both depend on cells that it no longer shows: log
    p(x) in raw units is ``log_prob(event) + log_unseen + log_volume``; the unit-free statistic of
    familiarity leaves ``log_volume`` out."""

    event: Event
    unseen: (
        Tensor  # (B, D) bool: a value outside what was seen at fit; its cell is masked in the event
    )
    log_unseen: Tensor  # (B,) log eps for each unseen cell, log(1 - eps) for each other
    log_volume: Tensor  # (B,) log |d event / d raw| over the observed density cells

    @property
    def filled(self) -> Tensor:
        """(B, D) bool: the cells that have a value, also one that was never seen."""
        return self.event.mask | self.unseen


class Codec(Protocol[Raw]):
    """Raw data <-> events. It owns units and values that were never seen."""

    @property
    def space(self) -> Space: ...
    def fit(self, raw: Raw, weight: Any = None) -> Self: ...
    def encode(self, raw: Raw) -> Encoded: ...
    def decode(self, value: Tensor, observed: Tensor | None = None) -> Raw: ...

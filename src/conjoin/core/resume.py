"""States of a continuation that can go back, so that what two texts begin with is read once."""

import abc
from typing import Self

__all__ = ["Resumable"]


class Resumable(abc.ABC):
    """A state of ``Density.step`` behind a string, from which the states behind all of its
    beginnings can be had. A state that is none goes forward alone."""

    @property
    @abc.abstractmethod
    def place(self) -> int:
        """How many tokens of the string there are."""

    @property
    @abc.abstractmethod
    def bytes(self) -> int:
        """That its memory takes."""

    @abc.abstractmethod
    def cut(self, place: int) -> Self:
        """The state behind the first ``place`` tokens of the string."""

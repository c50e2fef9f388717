r"""How a next token is chosen where a density draws token by token: by its own p, or more narrowly.

    p'(v) ~ p(v)^(1 / T) on the K most probable tokens, of these on the fewest that have mass P

Temperature: D. Ackley, G. Hinton and T. Sejnowski (1985), A learning algorithm for Boltzmann
machines; the K most probable: A. Fan, M. Lewis and Y. Dauphin (2018), Hierarchical neural story
generation, section 5.2; the nucleus P: A. Holtzman et al. (2020), The curious case of neural text
degeneration, section 3.1. What is drawn so is no draw of p, and its status says so.

Shape letters: B rows, V tokens and the end.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from conjoin.core.shapes import Float

__all__ = ["BY_P", "Sampling", "sampling", "sampling_with"]


@dataclass(frozen=True)
class Sampling:
    """Settings of a draw, by default those that leave p as it is.

    Parameters
    ----------
    temperature
        Above 0; under 1 the most probable tokens come more often than by p.
    top_k
        How many tokens may come; None: all.
    top_p
        The mass of the tokens that may come, above 0 and at most 1.

    Examples
    --------
    >>> log_p = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> Sampling(top_k=2).of(log_p).exp().tolist()
    [[0.625, 0.375, 0.0]]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number above 0, got {self.temperature!r}.")
        if self.top_k is not None and (self.top_k != int(self.top_k) or self.top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, got {self.top_k!r}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}.")

    @property
    def plain(self) -> bool:
        """Whether draws are draws of p."""
        return self == Sampling()

    def of(self, log_p: Float[torch.Tensor, "B V"]) -> Float[torch.Tensor, "B V"]:
        """log p' of the next token from its log p."""
        if self.plain:
            return log_p
        tempered = (log_p / self.temperature).log_softmax(1)
        ordered, place = tempered.sort(dim=1, descending=True, stable=True)
        rank = torch.arange(ordered.shape[1])
        few = ordered.shape[1] if self.top_k is None else self.top_k
        ordered = ordered.masked_fill(rank >= few, -torch.inf).log_softmax(1)
        before = ordered.exp().cumsum(1) - ordered.exp()
        outside = (before >= self.top_p) & (rank > 0)
        ordered = ordered.masked_fill(outside, -torch.inf).log_softmax(1)
        return torch.empty_like(tempered).scatter(1, place, ordered)


BY_P = Sampling()  # draws of p itself
_HOW: ContextVar[Sampling] = ContextVar("sampling", default=BY_P)


def sampling() -> Sampling:
    """How tokens are chosen here: as ``sampling_with`` around it says, else by p."""
    return _HOW.get()


@contextlib.contextmanager
def sampling_with(how: Sampling) -> Iterator[None]:
    """Densities that draw token by token choose inside as ``how`` says."""
    token = _HOW.set(dataclasses.replace(how))
    try:
        yield
    finally:
        _HOW.reset(token)

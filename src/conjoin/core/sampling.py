r"""How rows are drawn: tokens by their own p, or more narrowly; rows of a batch each by itself, or
spread evenly; rows that come out of noise in fewer steps; pictures with more of what they are told;
pictures that are chosen among several by how well they go with their words.

    p'(v) ~ p(v)^(1 / T) on the K most probable tokens, of these on the fewest that have mass P

Temperature: D. Ackley, G. Hinton and T. Sejnowski (1985), A learning algorithm for Boltzmann
machines; the K most probable: A. Fan, M. Lewis and Y. Dauphin (2018), Hierarchical neural story
generation, section 5.2; the nucleus P: A. Holtzman et al. (2020), The curious case of neural text
degeneration, section 3.1. What is drawn so is no draw of p, and its status says so.

Rows that are spread evenly have the law p each, but are not independent: where n rows choose among
the same states, each state comes about n p times. Each step of a chain orders the rows by what they
have drawn so far and gives them the points of a low-discrepancy sequence, turned by one random
angle, in that order (P. L'Ecuyer, C. Lecot and B. Tuffin (2008), A randomized quasi-Monte Carlo
simulation method for Markov chains, section 3). Neighbours in the order are alike, and get points
that lie far apart.

Shape letters: B rows, V tokens and the end, K states.
"""

import contextlib
import dataclasses
import numbers
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from conjoin.core.random import categorical
from conjoin.core.shapes import Float, Int

__all__ = [
    "AS_FITTED",
    "BY_P",
    "DRAWN_IN",
    "Sampling",
    "Walk",
    "categories",
    "even_points",
    "inverted",
    "is_even",
    "sampling",
    "sampling_with",
    "spread_evenly",
    "walk",
    "walking",
]

MAX_CANDIDATES = 1000
DRAWN_IN = ("float32", "bfloat16", "int8")  # precisions of draws of strings


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
    precision
        Of the products of the network: "float32", or for faster draws of a network that is rounded
        "bfloat16" or "int8".

    Examples
    --------
    >>> log_p = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> Sampling(top_k=2).of(log_p).exp().tolist()
    [[0.625, 0.375, 0.0]]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number above 0, got {self.temperature!r}.")
        if self.top_k is not None and (self.top_k != int(self.top_k) or self.top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, got {self.top_k!r}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}.")
        if self.precision not in DRAWN_IN:
            known = ", ".join(DRAWN_IN)
            raise ValueError(f"precision must be one of {known}, got {self.precision!r}.")

    @property
    def plain(self) -> bool:
        """Whether draws are draws of p."""
        return self == Sampling()

    @property
    def rounds(self) -> bool:
        """Whether the network is rounded."""
        return self.precision != "float32"

    @property
    def chooses_by_p(self) -> bool:
        """Whether each token is drawn by the p that the network tells."""
        return dataclasses.replace(self, precision="float32").plain

    def of(self, log_p: Float[torch.Tensor, "B V"]) -> Float[torch.Tensor, "B V"]:
        """log p' of the next token from its log p."""
        if self.chooses_by_p:
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


@dataclass(frozen=True)
class Walk:
    """Settings of a draw that goes from noise to a row, is told something, or is chosen among
    several; None: as the family's settings say.

    Parameters
    ----------
    guidance
        How much what is told is exaggerated (J. Ho and T. Salimans (2022), Classifier-free
        diffusion guidance, equation 6); such draws are draws of p only at 0.
    steps
        Of the way from noise.
    candidates
        Pictures that are drawn from a string for each row, of which one is drawn in proportion to
        p(string | picture); such draws are draws of p only at 1.
    """

    guidance: float | None = None
    steps: int | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        number = self.guidance is None or isinstance(self.guidance, int | float)
        if not number or not 0 <= (self.guidance or 0) < float("inf"):
            raise ValueError(f"guidance must be a number of at least 0, got {self.guidance!r}.")
        if self.steps is not None and (self.steps != int(self.steps) or self.steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1, got {self.steps!r}.")
        count = self.candidates
        if count is not None and not (
            isinstance(count, numbers.Integral) and 1 <= count <= MAX_CANDIDATES
        ):
            raise ValueError(
                f"candidates must be a whole number from 1 to {MAX_CANDIDATES:,}, got {count!r}."
            )

    @property
    def plain(self) -> bool:
        """Whether draws are as the family's settings say."""
        return self == Walk()

    @property
    def chosen(self) -> bool:
        """Whether each draw is chosen among several."""
        return self.candidates is not None and self.candidates > 1


BY_P = Sampling()  # draws of p itself
AS_FITTED = Walk()  # draws as the family's settings say
_HOW: ContextVar[Sampling] = ContextVar("sampling", default=BY_P)
_WALK: ContextVar[Walk] = ContextVar("walk", default=AS_FITTED)
_EVEN: ContextVar[bool] = ContextVar("even", default=False)


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


def walk() -> Walk:
    """How draws go from noise to rows here: as ``walking`` around it says, else as fitted."""
    return _WALK.get()


@contextlib.contextmanager
def walking(how: Walk) -> Iterator[None]:
    """Densities that declare ``walks``, ``guides`` or ``chooses`` draw inside as ``how`` says."""
    token = _WALK.set(how)
    try:
        yield
    finally:
        _WALK.reset(token)


def is_even() -> bool:
    """Whether rows that are drawn together are to be spread evenly."""
    return _EVEN.get()


@contextlib.contextmanager
def spread_evenly(wanted: bool = True) -> Iterator[None]:
    """Densities that declare ``even`` spread the rows of one call evenly inside."""
    token = _EVEN.set(wanted)
    try:
        yield
    finally:
        _EVEN.reset(token)


def even_points(
    order: Int[torch.Tensor, " B"], generator: torch.Generator | None
) -> Float[torch.Tensor, " B"]:
    """A point of [0, 1) for each row, each uniform by itself, of which those that follow each other
    in ``order``, the rows from the first to the last, lie far apart (J. van der Corput's sequence).

    Examples
    --------
    >>> points = even_points(torch.arange(8), torch.Generator().manual_seed(0))
    >>> (points * 8).long().sort().values.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    index = torch.arange(len(order))
    point = torch.zeros(len(order), dtype=torch.float64)
    digit = 0.5
    while bool(index.any()):
        point += digit * (index % 2)
        index = index // 2
        digit /= 2
    turned = (point + torch.rand((), generator=generator, dtype=torch.float64)) % 1.0
    return torch.empty_like(turned).index_copy_(0, order, turned)


def inverted(
    share: Float[torch.Tensor, "B K"], point: Float[torch.Tensor, " B"]
) -> tuple[Int[torch.Tensor, " B"], Float[torch.Tensor, " B"]]:
    """The state in which each row's point lies, where states stand side by side as wide as their
    shares, and where in it the point lies, from 0 to 1.

    Examples
    --------
    >>> state, place = inverted(torch.tensor([[0.25, 0.75]] * 2), torch.tensor([0.125, 0.625]))
    >>> state.tolist(), place.tolist()
    ([0, 1], [0.5, 0.5])
    """
    ends = share.cumsum(1)
    ends = ends / ends[:, -1:]
    state = torch.searchsorted(ends, point[:, None].contiguous(), right=True)[:, 0]
    state = state.clamp_max(share.shape[1] - 1)
    each = torch.arange(len(state))
    high = ends[each, state]
    low = torch.where(state > 0, ends[each, (state - 1).clamp_min(0)], 0.0)
    return state, ((point - low) / (high - low).clamp_min(1e-300)).clamp(0.0, 1.0)


def categories(
    log_p: Float[torch.Tensor, "B K"], generator: torch.Generator | None
) -> Int[torch.Tensor, " B"]:
    """A category of each row; spread evenly, in a random order of the rows, where that is asked
    for."""
    if not is_even():
        return categorical(log_p, generator)
    order = torch.randperm(len(log_p), generator=generator)
    return inverted(log_p.softmax(1), even_points(order, generator))[0]

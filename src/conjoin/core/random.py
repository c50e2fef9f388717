"""Noise as a function of a seed and a name, never of the batch that a row came in."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["categorical", "chosen_rows", "draw_seed", "resampled", "seeded", "stream"]


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A generator that is a function of (seed, names) alone: the same answer on every rank and
    after a resume."""
    digest = hashlib.sha256(repr((int(seed), *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % (1 << 63))


def draw_seed(generator: torch.Generator) -> int:
    """A seed that the generator draws: for noise that several calls, or several rows, share."""
    return int(torch.randint(0, 1 << 62, (), generator=generator))


@contextlib.contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Run code that can only use the global generator (initialisation, dropout); it is restored
    afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(generator))
        yield


def categorical(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw an index from the last axis of ``logits`` (need not be normalised) by the Gumbel-max
    rule."""
    uniform = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits)
    return (logits - torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))).argmax(-1)


def chosen_rows(rows: int, count: int, generator: torch.Generator | None) -> Tensor:
    """(count,) different ones of so many rows, in their order; all of them without a draw.

    >>> chosen_rows(3, 5, stream(0)).tolist()
    [0, 1, 2]
    """
    if count >= rows:
        return torch.arange(rows)
    return torch.randperm(rows, generator=generator)[:count].sort().values


def resampled(share: Tensor, rows: int, generator: torch.Generator | None) -> Tensor:
    """(*, rows) places in ``share`` (*, B), each about as often as its share: systematic resampling
    (G. Kitagawa (1996), Monte Carlo filter and smoother, appendix A.1).

    >>> share = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64)
    >>> resampled(share, 4, torch.Generator()).tolist()
    [0, 1, 1, 1]
    """
    start = torch.rand(*share.shape[:-1], 1, generator=generator, dtype=torch.float64)
    at = (torch.arange(rows) + start) / rows
    return torch.searchsorted(share.cumsum(-1), at).clamp_max(share.shape[-1] - 1)

r"""A start for a latent tree over pictures: what a latent variable stands for is the look of the
window about its pixel.

    z_d = argmin_k sum_j w_dj (x_j - c_dkj)^2,      w_dj = exp(-|d - j|^2 / 2)
    (j within three pixels of d)

k-means in each window by itself, then counts: where all states are known, the parameters of a
circuit are shares (A. Liu, H. Zhang and G. Van den Broeck (2023), Scaling up probabilistic circuits
by latent variable distillation, section 4). Expectation-maximisation goes on from there, by nats of
log p. From one mixture of whole pictures, whose component all latent variables start as, it takes
many passes to get as far.

Shape letters: B rows, D variables, K states, L levels, C channels, H x W pixels, F cells of a
window.

>>> from conjoin.core import stream
>>> windows = Windows(torch.tensor([[0.0, 0, 9, 9], [9, 9, 0, 0]]).repeat(3, 1), (1, 2, 2))
>>> (windows.states(2, stream(0))[:, 0] != windows.states(2, stream(0))[:, 1]).all().item()
True
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from conjoin.core import Event, Space, as_float, stream
from conjoin.core.shapes import Float, Int
from conjoin.util.budget import seconds_of, time_left

__all__ = ["Windows", "counts_by_window", "windows_in_time"]

WINDOW_RADIUS_PIXELS = 3  # pixels to each side
MAX_CENTRE_ROWS = 4096  # rows that the centres are fitted to
KMEANS_ROUNDS = 5
TIMED_ROWS = 512  # by which is known how long a window takes
MIN_STARTING_ROWS = 512
COUNTING = 1.5  # times what the windows take, counts included


def windows_in_time(event: Event, space: Space, width: int) -> int:
    """How many rows the start is likely to get through in the time that there is: all of them
    where nothing bounds it."""
    if math.isinf(time_left()):
        return event.rows
    assert space.grid is not None
    pixels = event.value[:TIMED_ROWS, -math.prod(space.grid) :]
    windows = Windows(pixels, space.grid)
    _, height, across = space.grid
    window = windows.about(height // 2, across // 2)
    took = seconds_of(lambda: _nearest(window, _centres(window, width, stream(0, "timed"))))
    each = COUNTING * height * across * took / len(pixels)
    return min(event.rows, max(MIN_STARTING_ROWS, int(time_left() / each)))


def counts_by_window(
    event: Event,
    space: Space,
    weight: Float[Tensor, " B"],
    width: int,
    parents: list[int],
    order: list[int],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Counts of the root's states, of transitions (nodes in order) and of levels, as
    ``CircuitDensity`` takes them. All variables are discrete; those before the pixels (a label)
    have the states of the pixel that they hang from, or that hangs from them."""
    assert space.grid is not None
    before = len(space.variables) - math.prod(space.grid)
    pixels = _filled(event)[:, before:]
    states = pad(Windows(pixels, space.grid).states(width, generator), (0, 0, before, 0))
    for node in range(before):
        near = [parents[node], *(other for other, parent in enumerate(parents) if parent == node)]
        states[node] = states[next((other for other in near if other >= before), before)]
    levels = max(variable.cardinality for variable in space.variables)

    def table(first: Tensor, second: Tensor, by: Tensor, size: int) -> Tensor:
        return torch.bincount(first.long() * size + second.long(), by, width * size).reshape(
            width, size
        )

    edge = [table(states[parents[node]], states[node], weight, width) for node in order[1:]]
    leaf = [
        table(states[node], event.value[:, node], weight * event.mask[:, node], levels)
        for node in range(len(order))
    ]
    return {
        "root": torch.bincount(states[order[0]].long(), weight, width),
        "edge": torch.stack(edge),
        "levels": torch.stack(leaf),
    }


def _filled(event: Event) -> Tensor:
    """The values, and the mean of the column where a cell is missing: bytes stay bytes where none
    is."""
    if event.mask.all():
        return event.value
    event = as_float(event)
    mean = (event.value * event.mask).sum(0) / event.mask.sum(0).clamp_min(1)
    return torch.where(event.mask, event.value, mean).float()


class Windows:
    """Pixels with a margin of zeros, cut out about each of them."""

    def __init__(self, pixels: Tensor, grid: tuple[int, int, int]) -> None:
        self.grid = grid
        across = torch.arange(-WINDOW_RADIUS_PIXELS, WINDOW_RADIUS_PIXELS + 1) ** 2
        self.padded = pad(pixels.unflatten(1, grid), [WINDOW_RADIUS_PIXELS] * 4)
        self.root_weight = (-(across[:, None] + across) / 4).exp()

    def about(self, row: int, column: int) -> Float[Tensor, "B F"]:
        side = 2 * WINDOW_RADIUS_PIXELS + 1
        window = self.padded[:, :, row : row + side, column : column + side].float()
        return (window * self.root_weight).flatten(1)

    def states(self, width: int, generator: torch.Generator) -> Int[Tensor, "D B"]:
        """The window of each pixel, by the nearest of its centres; channels have it in common."""
        channels, height, across = self.grid
        out = torch.empty(channels, height * across, len(self.padded), dtype=torch.int16)
        some = torch.randperm(len(self.padded), generator=generator)[:MAX_CENTRE_ROWS]
        for at in range(height * across):
            window = self.about(*divmod(at, across))
            out[:, at] = _nearest(window, _centres(window[some], width, generator))
        return out.flatten(0, 1)


def _centres(
    window: Float[Tensor, "B F"], width: int, generator: torch.Generator
) -> Float[Tensor, "_ F"]:
    """At most ``width``, by k-means (S. Lloyd (1982), Least squares quantization in PCM) from
    windows that differ."""
    _, number = (window @ torch.rand(window.shape[1], generator=generator)).unique(
        return_inverse=True
    )
    first = number.new_empty(int(number.max()) + 1).scatter_(0, number, torch.arange(len(window)))
    centres = window[first[torch.randperm(len(first), generator=generator)[:width]]]
    for _ in range(KMEANS_ROUNDS):
        near = _nearest(window, centres)
        count = torch.bincount(near, minlength=len(centres))[:, None]
        centres = torch.where(
            count > 0,
            torch.zeros_like(centres).index_add_(0, near, window) / count.clamp_min(1),
            centres,
        )
    return centres


def _nearest(window: Float[Tensor, "B F"], centres: Float[Tensor, "_ F"]) -> Int[Tensor, " B"]:
    return torch.addmm(centres.square().sum(1), window, centres.T, alpha=-2).argmin(1)

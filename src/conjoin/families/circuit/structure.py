r"""The Chow-Liu tree: the tree-shaped distribution closest to the data.

    argmax over trees of  sum over edges (i, j) of  I(x_i; x_j)
    (in nats; a maximum spanning tree)

C. Chow and C. Liu (1968), Approximating discrete probability distributions with dependence trees,
equations 8 to 12. Numbers are cut into eight bins for this purpose only; a pair of cells counts
where both are observed.

Shape letters: B rows, D variables, L levels, M pairs.

>>> from conjoin.core import Event, Variable
>>> copy = torch.arange(8.0).double() % 2
>>> x = torch.stack([copy, torch.tensor([0, 0, 1, 1, 0, 0, 1, 1.]).double(), copy], 1)
>>> binary = tuple(Variable(name, "category", cardinality=2) for name in "abc")
>>> chow_liu_tree(Event(x), binary, torch.ones(8, dtype=torch.float64))[2]
0
"""

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event, Variable, as_float
from conjoin.core.event import slices
from conjoin.core.shapes import Float, Int

__all__ = ["chow_liu_tree", "mutual_information", "wide"]

Grid = tuple[int, int, int] | None
BINS = 8
MAX_LEVELS = 32  # levels of a variable that are told apart
# levels of all variables together; of more (an image of 256 greys), neighbours are taken together
MAX_TOTAL_LEVELS = 8192
MAX_ROWS_IF_WIDE = 5000  # rows that tell the tree of such a wide event
MAX_LINK_PIXELS = 2  # rows and columns between pixels that may be linked
PAIRS_AT_ONCE = 1 << 24  # pairs of levels that are counted at once


def chow_liu_tree(
    event: Event, variables: tuple[Variable, ...], weight: Tensor, grid: Grid = None
) -> list[int]:
    """The parent of each variable; the root is variable 0 and has parent -1. In a wide event whose
    last variables are pixels of a ``grid``, links of near pixels alone are considered."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    size = len(variables)
    if size == 1:
        return [-1]
    if grid is not None and wide(variables):
        first, second = _near(grid, size).unbind(1)
        information = _information_of_pairs(event, variables, weight, first, second)
        cost: Any = coo_array(
            ((information.max() - information + 1.0).numpy(), (first.numpy(), second.numpy())),
            (size, size),
        ).tocsr()
    else:
        whole = mutual_information(event, variables, weight).numpy()
        cost = whole.max() - whole + 1.0  # positive, so that no edge counts as absent
        np.fill_diagonal(cost, 0)
    _, parents = breadth_first_order(minimum_spanning_tree(cost), 0, directed=False)
    return [-1, *(int(parent) for parent in parents[1:])]


def wide(variables: tuple[Variable, ...]) -> bool:
    """Whether there are more levels than are all told apart."""
    return _size(variables) > MAX_TOTAL_LEVELS


def _near(grid: tuple[int, int, int], size: int) -> Int[Tensor, "M 2"]:
    """Pairs of pixels at most ``MAX_LINK_PIXELS`` rows and columns apart, of whatever channels;
    variables before the pixels with all others."""
    place = torch.arange(size - math.prod(grid), size).reshape(grid)
    channels, height, width = grid
    pairs = [
        torch.cartesian_prod(torch.tensor([first]), torch.arange(first + 1, size))
        for first in range(size - place.numel())
    ]
    for down, right in itertools.product(
        range(min(MAX_LINK_PIXELS, height - 1) + 1),
        range(-min(MAX_LINK_PIXELS, width - 1), min(MAX_LINK_PIXELS, width - 1) + 1),
    ):
        here = place[:, : height - down, max(0, -right) : width - max(0, right)]
        there = place[:, down:, max(0, right) : width - max(0, -right)]
        for one, other in itertools.product(range(channels), range(channels)):
            if (down, right, other) > (0, 0, one):
                pairs.append(torch.stack([here[one].flatten(), there[other].flatten()], 1))
    return torch.cat(pairs)


def _information_of_pairs(
    event: Event, variables: tuple[Variable, ...], weight: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """(M,) nats of some pairs of variables."""
    # rows are in an order of their hashes: the first are as good as any
    event = as_float(event.take(slice(0, MAX_ROWS_IF_WIDE)))
    weight = weight[:MAX_ROWS_IF_WIDE]
    codes, levels = _discretise(event, variables, weight, MAX_LEVELS)
    out = []
    for some in torch.arange(len(first)).split(
        max(1, PAIRS_AT_ONCE // (len(codes) + levels * levels))
    ):
        one = first[some]
        other = second[some]
        slot = (torch.arange(len(some)) * levels + codes[:, one]) * levels + codes[:, other]
        mass = weight[:, None] * (event.mask[:, one] & event.mask[:, other])
        counts = torch.bincount(slot.flatten(), mass.flatten(), len(some) * levels * levels)
        out.append(_in_tables(counts.reshape(-1, levels, levels)))
    return torch.cat(out)


def mutual_information(event: Event, variables: tuple[Variable, ...], weight: Tensor) -> Tensor:
    """(D, D) nats, from weighted counts with a little smoothing."""
    most = MAX_LEVELS
    if wide(variables):  # rows are in an order of their hashes: the first are as good as any
        event = event.take(slice(0, MAX_ROWS_IF_WIDE))
        weight = weight[:MAX_ROWS_IF_WIDE]
        most = min(MAX_LEVELS, max(4, MAX_TOTAL_LEVELS // len(variables)))
    event = as_float(event)
    codes, levels = _discretise(event, variables, weight, most)
    hot = torch.nn.functional.one_hot(codes, levels).double() * event.mask[..., None]
    rows, size = codes.shape
    flat = hot.reshape(rows, -1)
    weighted = (flat * weight[:, None]).T
    step = max(1, PAIRS_AT_ONCE // (size * levels * levels))
    return torch.cat(
        [
            _information(weighted[part.start * levels : part.stop * levels] @ flat, levels)
            for part in slices(size, step)
        ]
    )


def _information(counts: Tensor, levels: int) -> Tensor:
    """(some variables, D) nats, from the (L some, L D) counts of their levels."""
    # (some, D, L, L)
    joint = counts.reshape(len(counts) // levels, levels, -1, levels).transpose(1, 2)
    return _in_tables(joint)


def _in_tables(joint: Float[Tensor, "*M L L"]) -> Float[Tensor, "*M"]:
    """Nats, from counts of pairs of levels."""
    joint = joint + 1e-3
    joint = joint / joint.sum((-2, -1), keepdim=True)
    independent = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    return (joint * (joint.log() - independent.log())).sum((-2, -1))


def _size(variables: tuple[Variable, ...]) -> int:
    """Levels of all variables together, as far as they are told apart."""
    return sum(
        min(variable.cardinality, MAX_LEVELS) if variable.discrete else BINS
        for variable in variables
    )


def _discretise(
    event: Event, variables: tuple[Variable, ...], weight: Tensor, most: int
) -> tuple[Tensor, int]:
    """Codes of each cell, and the number of levels, at most ``most``. Bins are normal quantiles of
    the standardised column."""
    edges = torch.distributions.Normal(0.0, 1.0).icdf(torch.arange(1, BINS) / BINS).double()
    mass = weight[:, None] * event.mask
    mean = (mass * event.value).sum(0) / mass.sum(0).clamp_min(1e-300)
    deviation = ((mass * (event.value - mean) ** 2).sum(0) / mass.sum(0).clamp_min(1e-300)).sqrt()
    z = (event.value - mean) / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    codes = torch.bucketize(z.contiguous(), edges)
    for column, variable in enumerate(variables):
        if variable.discrete:
            shared = math.ceil(variable.cardinality / most)  # long code lists share levels
            codes[:, column] = event.value[:, column].long() // shared
    return codes, int(codes.max()) + 1

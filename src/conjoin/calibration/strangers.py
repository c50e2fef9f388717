"""Rows made strange on purpose, by which readings of familiarity are judged.

Each kind is made of validation rows and keeps their missing cells: ``shuffled``, every column by
itself; ``replaced``, one cell of each row from another row; ``between``, numbers on the way from
one row to another, moved to the nearest value that the column takes, and categories of either.
"""

import numpy as np
import torch

from conjoin.core import Event, Variable
from conjoin.core.shapes import Float, Int

__all__ = ["pseudo_strangers", "shuffled"]

WAY = (0.3, 0.7)  # from one row to the other, at least and at most


def pseudo_strangers(
    variables: tuple[Variable, ...], rows: Event, generator: np.random.Generator
) -> dict[str, Event]:
    """As many rows of each kind as there are ``rows``, by its name."""
    return {
        "shuffled": shuffled(rows, generator),
        "replaced": _replaced(rows, generator),
        "between": _between(variables, rows, generator),
    }


def _known(rows: Event, column: int) -> Int[torch.Tensor, " K"]:
    return rows.mask[:, column].nonzero()[:, 0]


def shuffled(rows: Event, generator: np.random.Generator) -> Event:
    """The rows with the known cells of every column in an order of their own."""
    value = rows.value.clone()
    for d in range(value.shape[1]):
        known = _known(rows, d)
        value[known, d] = value[known[torch.as_tensor(generator.permutation(len(known)))], d]
    return Event(value, rows.mask)


def _replaced(rows: Event, generator: np.random.Generator) -> Event:
    """The column is drawn for each row among those that are known of it."""
    value = rows.value.clone()
    lot = torch.as_tensor(generator.random(value.shape)).masked_fill(~rows.mask, -1.0)
    column = lot.argmax(1)
    for d in range(value.shape[1]):
        known = _known(rows, d)
        mine = ((column == d) & rows.mask[:, d]).nonzero()[:, 0]
        if len(mine):
            other = known[torch.as_tensor(generator.integers(len(known), size=len(mine)))]
            value[mine, d] = rows.value[other, d]
    return Event(value, rows.mask)


def _between(variables: tuple[Variable, ...], rows: Event, generator: np.random.Generator) -> Event:
    other = torch.as_tensor(generator.permutation(rows.rows))
    partner = torch.where(rows.mask[other], rows.value[other], rows.value)
    way = torch.as_tensor(generator.uniform(*WAY, size=(rows.rows, 1)))
    value = (1 - way) * rows.value + way * partner
    first = torch.as_tensor(generator.random(value.shape) < 0.5)
    either = torch.where(first, rows.value, partner)
    for d, variable in enumerate(variables):
        if variable.nominal:
            value[:, d] = either[:, d]
        elif len(_known(rows, d)):
            value[:, d] = _nearest(value[:, d], rows.value[_known(rows, d), d].unique())
    return Event(value, rows.mask)


def _nearest(
    value: Float[torch.Tensor, " B"], grid: Float[torch.Tensor, " K"]
) -> Float[torch.Tensor, " B"]:
    """The nearest of the values in order."""
    above = torch.searchsorted(grid, value.contiguous()).clamp(max=len(grid) - 1)
    below = (above - 1).clamp_min(0)
    return torch.where(value - grid[below] < grid[above] - value, grid[below], grid[above])

"""What the other cells of a row suggest for one of its cells: p(x_d | the others) up to its
constant, over values of the column.

All rows are asked about at once, and an answer depends on its own row alone: nothing is drawn. A
category is asked about level by level. A number is asked about on a grid over what the model draws
for the column, which is drawn closer about the middle 80 % until that holds enough of its points.

Shape letters: J cells to explain, G values of a grid, D columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.core import Event
from conjoin.model.model import Model

__all__ = ["expected"]

GRID_POINTS = 24  # values of a number that are asked about at once
MIN_POINTS_WITHIN = 8  # of them within the middle 80 %, for its ends to be read off
MAX_ROUNDS = 4  # each draws the grid closer
BEYOND_THE_DRAWS = (0.125, 0.5, 1.0)  # steps beyond what was drawn, in parts of its range
LOW_LEVEL, HIGH_LEVEL = 0.1, 0.9
MAX_LEVELS = 128  # levels of a category that are asked about


def expected(model: Model, x: Event, cells: Sequence[tuple[int, int]]) -> list[pd.Series]:
    """For each cell (row of ``x``, column) the level that is most probable given the other cells of
    its row, or the two ends of the middle 80 % of a number, as the table writes them."""
    variables = model.codec.space.variables
    found: dict[int, np.ndarray] = {}
    levels = [place for place, (_, d) in enumerate(cells) if variables[d].discrete]
    numbers = [place for place, (_, d) in enumerate(cells) if not variables[d].discrete]
    found |= _levels(model, x, cells, levels)
    found |= _ends(model, x, cells, numbers)
    return _decoded(model, cells, found)


def _log_prob(
    model: Model, x: Event, cells: Sequence[tuple[int, int]], grids: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """log p(x) of the row of each cell with each value of its grid in place, nats."""
    if not grids:
        return {}
    sizes = [len(grid) for grid in grids.values()]
    rows = torch.tensor([cells[place][0] for place in grids]).repeat_interleave(torch.tensor(sizes))
    columns = torch.tensor([cells[place][1] for place in grids])
    columns = columns.repeat_interleave(torch.tensor(sizes))
    value = x.value[rows]  # a copy
    value[torch.arange(len(rows)), columns] = torch.tensor(np.concatenate(list(grids.values())))
    known = x.mask[rows]
    known[torch.arange(len(rows)), columns] = True
    each = np.split(model.log_evidence(Event(value, known)).numpy(), np.cumsum(sizes)[:-1])
    return dict(zip(grids, each, strict=True))


def _levels(
    model: Model, x: Event, cells: Sequence[tuple[int, int]], places: list[int]
) -> dict[int, np.ndarray]:
    """The code of the most probable level of each."""
    columns = sorted({cells[place][1] for place in places})
    codes = {d: _some_levels(model, d) for d in columns}
    grids = {place: codes[cells[place][1]] for place in places}
    log_prob = _log_prob(model, x, cells, grids)
    return {place: grids[place][[log_prob[place].argmax()]] for place in places}


def _some_levels(model: Model, column: int) -> np.ndarray:
    """Its codes; of very many, those that the model draws."""
    count = model.codec.space.variables[column].cardinality
    if count <= MAX_LEVELS:
        return np.arange(count, dtype=float)
    drawn, counts = np.unique(model.bank.value[:, column].numpy(), return_counts=True)
    return np.asarray(drawn[np.argsort(-counts, kind="stable")[:MAX_LEVELS]], dtype=float)


def _ends(
    model: Model, x: Event, cells: Sequence[tuple[int, int]], places: list[int]
) -> dict[int, np.ndarray]:
    """Both ends of the middle 80 % of each number."""
    variables = model.codec.space.variables
    first = {d: _first_grid(model, d) for d in {cells[place][1] for place in places}}
    grids = {place: first[cells[place][1]] for place in places}
    found: dict[int, np.ndarray] = {}
    for _ in range(MAX_ROUNDS):
        closer = {}
        for place, log_prob in _log_prob(model, x, cells, grids).items():
            variable = variables[cells[place][1]]
            share = _shares(log_prob, grids[place], variable)
            found[place], within = _middle(grids[place], share)
            fresh = _between(*within, variable)
            if len(grids[place][_inside(grids[place], within)]) < MIN_POINTS_WITHIN + 2:
                closer[place] = fresh
        grids = {place: grid for place, grid in closer.items() if len(grid) > 2}
    return found


def _inside(grid: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    return np.asarray((grid >= ends[0]) & (grid <= ends[1]))


def _first_grid(model: Model, column: int) -> np.ndarray:
    """Values that the model draws, and some beyond."""
    variable = model.codec.space.variables[column]
    drawn = model.bank.value[:, column].numpy()
    low, high = drawn.min(), drawn.max()
    steps = np.array(BEYOND_THE_DRAWS) * max(high - low, variable.resolution or 1e-6)
    inner = np.quantile(drawn, np.linspace(0, 1, GRID_POINTS))
    every = np.concatenate([low - steps, inner, high + steps, variable.atoms])
    return _kept(every, variable)


def _between(low: float, high: float, variable: Any) -> np.ndarray:
    return _kept(np.linspace(low, high, GRID_POINTS), variable)


def _kept(values: np.ndarray, variable: Any) -> np.ndarray:
    """The values in order, each once, on the column's lattice and within its bounds."""
    low, high = variable.bounds
    values = np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)
    if variable.resolution:
        steps = np.rint((values - variable.origin) / variable.resolution)
        on_lattice = variable.origin + steps * variable.resolution
        values = np.where(np.isin(values, variable.atoms), values, on_lattice)
    return np.unique(values)


def _shares(log_prob: np.ndarray, grid: np.ndarray, variable: Any) -> np.ndarray:
    """The mass that each value of a grid stands for: its density times the way to its neighbours,
    or the mass of its cell times the number of cells."""
    unit = variable.resolution or 1.0
    width = np.gradient(grid) if len(grid) > 1 else np.array([unit])
    width = np.where(np.isin(grid, variable.atoms), unit, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        mass = np.exp(log_prob - log_prob.max()) * width
    mass = np.nan_to_num(mass)
    return mass / mass.sum() if mass.sum() > 0 else np.full(len(grid), 1 / len(grid))


def _middle(grid: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The ends of the middle 80 %, and the values of the grid next to them on either side."""
    reached = np.cumsum(share)
    first = int(np.searchsorted(reached, LOW_LEVEL))
    last = min(int(np.searchsorted(reached, HIGH_LEVEL)), len(grid) - 1)
    outer = float(grid[max(first - 1, 0)]), float(grid[min(last + 1, len(grid) - 1)])
    return grid[[first, last]], outer


def _decoded(
    model: Model, cells: Sequence[tuple[int, int]], found: dict[int, np.ndarray]
) -> list[pd.Series]:
    """The values of each cell as the table writes them, one call for each column."""
    out: dict[int, pd.Series] = {}
    for column in sorted({d for _, d in cells}):
        places = [place for place, (_, d) in enumerate(cells) if d == column]
        sizes = [len(found[place]) for place in places]
        value = model.bank.value[:1].repeat(sum(sizes), 1)
        value[:, column] = torch.tensor(np.concatenate([found[place] for place in places]))
        words = model.codec.decode_column(value, column)
        starts = np.cumsum([0, *sizes])
        for place, start, size in zip(places, starts, sizes, strict=False):
            out[place] = words.iloc[start : start + size]
    return [out[place] for place in range(len(cells))]

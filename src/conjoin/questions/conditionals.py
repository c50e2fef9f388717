"""p(x_d | the others) of single cells, up to its constant, over values of the column: what the
other cells suggest for one, and the conditional mean or median of a number.

All rows are asked about at once, and an answer depends on its own row alone: no row is drawn for.
A category is asked about level by level, a number on a grid: on its lattice where that is short;
else by the trapezoidal rule, on points that lie as densely as the model's own draws of the column,
and closer where the mass is narrow. Where that rule does not give the column's own p(x_d) a mass of
1, for it has spikes, each draw of the bank is weighed by p(x_d, others) / p(x_d) instead.

Shape letters: J cells, G values of a grid, B rows, D columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.model.model import Model

__all__ = [
    "MAX_LEVELS",
    "Cells",
    "are_resolved",
    "conditional_centres",
    "expected",
    "level_shares",
]

Cells = Sequence[tuple[int, int]]  # (row, column) of each
LogProb = Callable[[Event, Tensor], Tensor]  # of rows, and of which given rows these are copies
MAX_ROUNDS = 4  # each draws the grid closer
MAX_LATTICE_VALUES = 256  # up to which a number is asked about at each value of its lattice
MAX_MASS_ERROR = 0.02  # of the marginal by the trapezoidal rule, for the rule to be used
MIN_EFFECTIVE_DRAWS = 16  # of the bank, for its weighed draws to stand for a conditional
MAX_LEVELS = 128  # levels of a category that are asked about
MAX_GRID_CELLS = 1 << 22  # numbers held at once, of the rows that are asked about


class _Grid(NamedTuple):
    """Values (G,) and the log of what multiplies p there; ``drawn``: whether they are the bank's
    draws."""

    values: np.ndarray
    log_weight: np.ndarray
    drawn: bool = False


@dataclass(frozen=True)
class _Fineness:
    """Points of a grid, between which quantiles its mass is looked for, and the greatest share of
    it that one point may stand for."""

    points: int
    low: float
    high: float
    most: float


MIDDLE = _Fineness(points=24, low=0.1, high=0.9, most=0.15)
WHOLE = _Fineness(points=128, low=0.002, high=0.998, most=0.06)


def expected(model: Model, x: Event, cells: Cells) -> list[pd.Series]:
    """For each cell (row of ``x``, column) the level that is most probable given the other cells of
    its row, or the two ends of the middle 80 % of a number, as the table writes them."""
    variables = model.codec.space.variables
    found: dict[int, np.ndarray] = {}
    levels = [place for place, (_, d) in enumerate(cells) if variables[d].discrete]
    numbers = [place for place, (_, d) in enumerate(cells) if not variables[d].discrete]
    found |= _levels(model, x, cells, levels)
    asked = {cells[place][1] for place in numbers}
    first = {d: _trapezoid(_first_values(model, d, MIDDLE), variables[d]) for d in asked}
    shares = _over_grids(model, x, cells, numbers, first, MIDDLE, _evidence(model))
    for place, (values, share) in shares.items():
        found[place] = _middle(values, share, MIDDLE)[0]
    return _decoded(model, cells, found)


def conditional_centres(
    model: Model,
    x: Event,
    cells: Cells,
    log_prob: LogProb | None = None,
    median: bool = False,
) -> np.ndarray:
    """(J,) the mean, or the median, of each number given the known cells of its row, in the event's
    units.

    ``log_prob``: of rows; that of x by default."""
    variables = model.codec.space.variables
    asked = log_prob or _evidence(model)
    out = np.empty(len(cells))
    first = {d: _resolving_grid(model, d) for d in {d for _, d in cells}}
    step = max(1, MAX_GRID_CELLS // (WHOLE.points * x.value.shape[1]))
    for start in range(0, len(cells), step):
        some = list(range(start, min(start + step, len(cells))))
        found = _over_grids(model, x, cells, some, first, WHOLE, asked)
        for place, (values, share) in found.items():
            variable = variables[cells[place][1]]
            out[place] = _median(values, share, variable) if median else values @ share
    return out


def level_shares(
    model: Model, x: Event, rows: Tensor, column: int, log_prob: LogProb | None = None
) -> Tensor:
    """(B, K) p of each level of a category given the known cells of each of these rows.

    ``log_prob``: of rows; that of x by default."""
    asked = log_prob or _evidence(model)
    levels = np.arange(model.codec.space.variables[column].cardinality, dtype=float)
    cells = [(row, column) for row in rows.tolist()]
    step = max(1, MAX_GRID_CELLS // (len(levels) * x.value.shape[1]))
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(cells), step):
        some = range(start, min(start + step, len(cells)))
        found |= _log_prob(x, cells, dict.fromkeys(some, levels), asked)
    return torch.tensor(np.stack([_shares(each) for each in found.values()]))


def _median(values: np.ndarray, share: np.ndarray, variable: Any) -> float:
    """Of values on a lattice the first at which half of the mass is reached; else between two."""
    reached = np.cumsum(share)
    if variable.has_mass:
        return float(values[min(int(np.searchsorted(reached, 0.5)), len(values) - 1)])
    return float(np.interp(0.5, reached - share / 2, values))


def are_resolved(model: Model, columns: Sequence[int]) -> bool:
    """Whether the grids of these numbers resolve p(x_d): means over them are then exact, as far as
    log p is."""
    return not any(_resolving_grid(model, d).drawn for d in columns)


def _evidence(model: Model) -> LogProb:
    def log_prob(x: Event, rows: Tensor) -> Tensor:
        return model.log_evidence(x)

    return log_prob


def _log_prob(
    x: Event, cells: Cells, grids: dict[int, np.ndarray], log_prob: LogProb
) -> dict[int, np.ndarray]:
    """log p(x) of the row of each cell with each value of its grid in place, nats."""
    if not grids:
        return {}
    sizes = torch.tensor([len(grid) for grid in grids.values()])
    rows = torch.tensor([cells[place][0] for place in grids]).repeat_interleave(sizes)
    columns = torch.tensor([cells[place][1] for place in grids]).repeat_interleave(sizes)
    each = torch.arange(len(rows))
    value = x.value[rows]  # a copy
    value[each, columns] = torch.tensor(np.concatenate(list(grids.values())))
    known = x.mask[rows]
    known[each, columns] = True
    found = log_prob(Event(value, known), rows).numpy()
    parts = np.split(found, np.cumsum(sizes.numpy())[:-1])
    return dict(zip(grids, parts, strict=True))


def _levels(model: Model, x: Event, cells: Cells, places: list[int]) -> dict[int, np.ndarray]:
    """The code of the most probable level of each."""
    columns = sorted({cells[place][1] for place in places})
    codes = {d: _some_levels(model, d) for d in columns}
    grids = {place: codes[cells[place][1]] for place in places}
    log_prob = _log_prob(x, cells, grids, _evidence(model))
    return {place: grids[place][[log_prob[place].argmax()]] for place in places}


def _some_levels(model: Model, column: int) -> np.ndarray:
    """Its codes; of very many, those that the model draws."""
    count = model.codec.space.variables[column].cardinality
    if count <= MAX_LEVELS:
        return np.arange(count, dtype=float)
    drawn, counts = np.unique(model.bank.value[:, column].numpy(), return_counts=True)
    return np.asarray(drawn[np.argsort(-counts, kind="stable")[:MAX_LEVELS]], dtype=float)


def _over_grids(
    model: Model,
    x: Event,
    cells: Cells,
    places: list[int],
    first: dict[int, _Grid],
    fine: _Fineness,
    log_prob: LogProb,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The values of the last grid of each number, and the share of the mass that each stands for.
    ``first``: of each column."""
    variables = model.codec.space.variables
    grids = {place: first[cells[place][1]] for place in places}
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for _ in range(MAX_ROUNDS):
        values = {place: grid.values for place, grid in grids.items()}
        closer = {}
        for place, each in _log_prob(x, cells, values, log_prob).items():
            grid = grids[place]
            share = _shares(each + grid.log_weight)
            found[place] = grid.values, share
            variable = variables[cells[place][1]]
            if not _is_fine(grid, share, variable, fine):
                fresh = _between(grid.values, share, variable, fine)
                if len(fresh.values) > 2 and not np.array_equal(fresh.values, grid.values):
                    closer[place] = fresh
        grids = closer
    return found


def _is_fine(grid: _Grid, share: np.ndarray, variable: Any, fine: _Fineness) -> bool:
    """Whether no point stands for much of the mass, but for cells that have it by themselves."""
    if grid.drawn:
        return bool(1 / np.square(share).sum() >= MIN_EFFECTIVE_DRAWS)
    cell = (grid.log_weight == 0) if variable.has_mass else np.zeros(len(share), dtype=bool)
    return bool(share[~cell].max(initial=0.0) <= fine.most)


def _resolving_grid(model: Model, column: int) -> _Grid:
    """By the trapezoidal rule, if the column's marginal has the mass 1 by it; else the draws of the
    bank, each weighed by the marginal."""
    variable = model.codec.space.variables[column]
    plain = _trapezoid(_first_values(model, column, WHOLE), variable)
    mass = np.exp(_log_marginal(model, column, plain.values) + plain.log_weight).sum()
    if abs(mass - 1) <= MAX_MASS_ERROR:
        return plain
    drawn = np.sort(model.bank.value[:, column].numpy())
    return _Grid(drawn, -_log_marginal(model, column, drawn), drawn=True)


def _log_marginal(model: Model, column: int, values: np.ndarray) -> np.ndarray:
    """(G,) log p(x_d) at these values."""
    value = torch.zeros(len(values), len(model.codec.space.variables), dtype=torch.float64)
    value[:, column] = torch.tensor(values)
    known = torch.zeros_like(value, dtype=torch.bool)
    known[:, column] = True
    return np.asarray(model.log_evidence(Event(value, known)).numpy())


def _first_values(model: Model, column: int, fine: _Fineness) -> np.ndarray:
    """Values that the model draws, and some beyond; or the whole lattice where it is short."""
    variable = model.codec.space.variables[column]
    drawn = model.bank.value[:, column].numpy()
    low = drawn.min()
    high = drawn.max()
    spread = max(high - low, variable.resolution or 1e-6)
    ends = (low - spread, high + spread)
    if variable.resolution and 3 * spread / variable.resolution <= MAX_LATTICE_VALUES:
        every = np.arange(ends[0], ends[1] + variable.resolution, variable.resolution)
        return _kept(np.concatenate([every, variable.atoms]), variable)
    even = np.linspace(low - spread / 2, high + spread / 2, fine.points // 2)
    inner = np.quantile(drawn, np.linspace(0, 1, fine.points))
    return _kept(np.concatenate([ends, even, inner, variable.atoms]), variable)


def _between(values: np.ndarray, share: np.ndarray, variable: Any, fine: _Fineness) -> _Grid:
    """The points where the mass is, and as many more at equal steps."""
    low, high = _middle(values, share, fine)[1]
    old = values[(values >= low) & (values <= high)]
    fresh = np.concatenate([np.linspace(low, high, fine.points), old])
    return _trapezoid(_kept(fresh, variable), variable)


def _kept(values: np.ndarray, variable: Any) -> np.ndarray:
    """The values in order, each once, on the column's lattice and within its bounds."""
    low, high = variable.bounds
    values = np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)
    if variable.resolution:
        steps = np.rint((values - variable.origin) / variable.resolution)
        on_lattice = variable.origin + steps * variable.resolution
        values = np.where(np.isin(values, variable.atoms), values, on_lattice)
    return np.unique(values)


def _trapezoid(values: np.ndarray, variable: Any) -> _Grid:
    """Each value counts for its density times the way to its neighbours, or for the mass of its
    cell times the number of cells that it stands for."""
    unit = variable.resolution or 1.0
    if len(values) == 1:
        return _Grid(values, np.zeros(1))
    way = np.diff(values)
    width = np.concatenate([[way[0]], (way[1:] + way[:-1]) / 2, [way[-1]]])
    width = np.where(np.isin(values, variable.atoms), unit, width)
    return _Grid(values, np.log(width / unit))


def _shares(log_mass: np.ndarray) -> np.ndarray:
    """Parts of 1; equal ones where nothing has mass."""
    if not np.isfinite(log_mass.max()):
        return np.full(len(log_mass), 1 / len(log_mass))
    mass = np.exp(log_mass - log_mass.max())
    return np.asarray(mass / mass.sum())


def _middle(
    grid: np.ndarray, share: np.ndarray, fine: _Fineness
) -> tuple[np.ndarray, tuple[float, float]]:
    """The ends of the middle, and the values of the grid next to them on either side."""
    reached = np.cumsum(share)
    first = int(np.searchsorted(reached, fine.low))
    last = min(int(np.searchsorted(reached, fine.high)), len(grid) - 1)
    outer = float(grid[max(first - 1, 0)]), float(grid[min(last + 1, len(grid) - 1)])
    return grid[[first, last]], outer


def _decoded(model: Model, cells: Cells, found: dict[int, np.ndarray]) -> list[pd.Series]:
    """The values of each cell as the table writes them, one call for each column."""
    out: dict[int, pd.Series] = {}
    for column in sorted({d for _, d in cells}):
        places = [place for place, (_, d) in enumerate(cells) if d == column]
        sizes = [len(found[place]) for place in places]
        value = model.bank.value[:1].repeat(sum(sizes), 1)
        value[:, column] = torch.tensor(np.concatenate([found[place] for place in places]))
        words = model.codec.decode_column(model.codec.settle(value), column)
        pool = model.codec.schema.with_pool(model.codec.columns[column])
        if pool is not None:
            codes = value[:, column].long().tolist()
            words = pd.Series(
                [pool.one_of(code) or cell for code, cell in zip(codes, words, strict=True)]
            )
        starts = np.cumsum([0, *sizes])
        for place, start, size in zip(places, starts, sizes, strict=False):
            out[place] = words.iloc[start : start + size]
    return [out[place] for place in range(len(cells))]

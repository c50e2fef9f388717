"""Values that recur, such as 0, and families that have no probability of their own for them."""

from typing import Any

from torch import Tensor

from conjoin.core import Event, Pair
from conjoin.core.random import stream
from conjoin.model.model import Model

__all__ = ["spread_point_masses"]

MIN_SHARE = 0.1  # of the rows with one value, from which on its draws are looked at
MAX_DIFFERENCE = 0.15  # between the shares of rows and of draws; five deviations of the latter
DRAWS = 256


def spread_point_masses(model: Model, x: Event) -> list[str]:
    """Columns of which one value recurs in the rows ``x`` of the fit, and hardly in draws, or in
    far more; a sentence each."""
    places = list(_frequent(model, x))
    if not places:
        return []
    generator = stream(model.state.seed, "point masses")
    drawn: Any = model.unweighted.sample(DRAWS, generator=generator)
    rows = drawn.x if isinstance(drawn, Pair) else drawn
    value = rows.value.double().cpu()
    found = []
    for place, atom, share in places:
        drew = _share(_kept(model, value, place), model, place, atom)
        if abs(drew - share) > MAX_DIFFERENCE:
            found.append(_sentence(model, place, atom, share, drew))
    return found


def _kept(model: Model, value: Tensor, place: int) -> Tensor:
    """Draws (B, D) of one variable as a user gets them: within its range, since others are drawn
    again, and on its lattice."""
    settled = model.codec.settle(value)[:, place]
    ranges = model.codec.ranges
    if ranges is None:
        return settled
    half = 0.5 * (model.codec.space.variables[place].resolution or 0.0)
    low, high = (end[place] for end in ranges)
    inside = (value[:, place] >= low - half) & (value[:, place] <= high + half)
    return settled[inside] if inside.any() else settled


def _frequent(model: Model, x: Event) -> Any:
    """(place, number of the atom, share of the known rows) of values that many rows share."""
    for place in range(min(model.codec.columnwise, len(model.codec.columns))):
        known = x.value[x.mask[:, place], place]
        atoms = model.codec.space.variables[place].atoms
        for atom in range(len(atoms) if len(known) else 0):
            share = _share(known, model, place, atom)
            if share >= MIN_SHARE:
                yield place, atom, share


def _share(values: Tensor, model: Model, place: int, atom: int) -> float:
    """Of ``values`` (B,), in event units, that are this atom."""
    variable = model.codec.space.variables[place]
    near = (values - variable.atoms[atom]).abs() <= 0.5 * (variable.resolution or 0.0)
    return float(near.double().mean())


def _sentence(model: Model, place: int, atom: int, share: float, drew: float) -> str:
    name = model.codec.columns[place]
    column = next((each for each in model.codec.schema.columns if each.name == name), None)
    value = f"{column.atoms[atom]:g}" if column is not None and column.atoms else "one value"
    family = model.card.get("family", "this family")
    return (
        f"Column {name!r} is {value} in {share:.0%} of the rows and in {drew:.0%} of the draws: "
        f"{family} has no probability of its own for single values. Choose circuit or mixture "
        "where these matter."
    )

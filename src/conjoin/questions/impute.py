"""impute: fill missing cells with one value each, or with draws from p(missing | observed), given y
or not. One value is the mean (``"mean"``) or the median (``"median"``) of a number and the most
probable level of a category, or the most probable completion of all of them together (``"mode"``).
Where held-out cells of the fit have shown that it helps, a mean, and the probability of a level, is
mixed with that about centres of rows (``conjoin.calibration.centre_means``). Draws and log p are
the density's alone.

``completions`` puts several draws of each row in the order of their likelihood: what is known of a
row is the same in all of them, so log p(x) ranks them as log p(missing | observed) does.
"""

import numbers
import warnings
from typing import Any

import numpy as np
import torch

from conjoin.calibration.centre_means import CentreMeans
from conjoin.core import CapabilityError, Event, Pair, Rows, Status, stream
from conjoin.core.event import slices
from conjoin.core.warnings import ColumnWarning
from conjoin.model.model import CHUNK_ROWS, Model
from conjoin.questions.conditionals import (
    MAX_LEVELS,
    are_resolved,
    conditional_centres,
    level_shares,
)
from conjoin.questions.ranges import draw_in_range, lifted, settled

__all__ = ["STRATEGIES", "check_draws", "completions", "impute", "status_of_means"]


STRATEGIES = ("mean", "median", "mode")
DRAWS_PER_CENTRE = 100  # of a number whose mean is not worked out: to a tenth of the spread


def impute(
    model: Model,
    X: Any,
    n_draws: int | None = None,
    seed: int = 0,
    y: Any = None,
    strategy: str = "mean",
    tails: bool = False,
) -> Any:
    """X with its missing cells filled; with ``n_draws``, a list of so many completions.

    Only missing cells of modelled columns change. They get values between the least and the
    greatest of the fit, unless ``tails``. Draws come from the exact conditional where the model has
    it; so do means, see ``status_of_means``. ``y``: the class, or the number, that every row is
    taken to have."""
    check_draws(n_draws)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    rows = model.rows(X)
    for words in model.codec.far_away(rows):
        warnings.warn(words, ColumnWarning, stacklevel=3)
    filled = _filled(model, rows, n_draws, seed, y, strategy, tails)
    raw = [model.codec.raw(each) for each in filled]
    return raw[0] if n_draws is None else raw


def status_of_means(model: Model, y: Any = None) -> dict[str, Status]:
    """What the conditional means of numbers are worth, as "impute": exact where log p of incomplete
    rows is, and a grid resolves each column; else they are means of weighed draws. Where centres of
    rows are mixed in they are no means of the density's, so approximate. Nothing where there are no
    columns."""
    if not model.codec.columnwise:
        return {}
    numbers = _numbers(model)
    mixed = _centre_means(model, y) is not None
    exact = not mixed and _is_exact(model, y) and are_resolved(model, numbers)
    return {"impute": Status.EXACT if exact else Status.APPROXIMATE}


def _is_exact(model: Model, y: Any) -> bool:
    joint = model.density_of_x if y is None else model.pair
    return joint.capabilities.missing == "exact"


def _centre_means(model: Model, y: Any) -> CentreMeans | None:
    """Those that are mixed in: they know neither y nor other shares of the classes."""
    return model.centre_means if y is None and model.state.adapted is None else None


def _numbers(model: Model) -> list[int]:
    """The columns that have a mean."""
    variables = model.codec.space.variables[: model.codec.columnwise]
    return [d for d, variable in enumerate(variables) if not variable.discrete]


def _filled(
    model: Model,
    rows: Rows,
    n_draws: int | None,
    seed: int,
    y: Any,
    strategy: str = "mode",
    tails: bool = False,
) -> list[Rows]:
    """One completion, or so many drawn ones. Rare values that share a level are drawn by their
    frequency in either."""
    encoded = model.encode(rows)
    event = encoded.event
    label = None if model.target is None and y is None else _given(model, y, event.rows)
    own = None if y is None or label is None else label.value
    open_places = lifted(model.codec, (), tails)
    generator = stream(seed, "impute")

    def told(noise: torch.Generator | None) -> Any:
        """What is known, with parts of known sums, and the values that others may have."""
        x = model.with_parts(encoded, noise, own, strategy != "mode")
        confined = noise is not None and model.joint.capabilities.regions
        x = model.codec.confined(rows, x) if confined else x
        return x if label is None else Pair(label, x)

    if n_draws is None:
        known = told(None)
        best = _x(model.joint.mode(known))
        if strategy != "mode":
            best = _with_centres(model, _x(known), known, best, seed, y, strategy == "median")
        means = _centre_means(model, y) if strategy == "mean" else None
        if means is not None:
            best = _with_shares(model, means, _x(known), best)
        if strategy != "mode" and model.state.cellwise and _is_exact(model, y):
            best = _with_levels(model, means, _x(known), best, y)
        full = [settled(model.codec, best, event, open_places)]
    else:
        fixed = None if encoded.sums else told(generator)

        def draw(index: torch.Tensor) -> Any:
            known = told(generator) if fixed is None else fixed
            return model.joint.sample_conditional(_some(known, index), generator=generator)

        full = [_x(draw_in_range(model.codec, draw, event, open_places)) for _ in range(n_draws)]
    drawn = model.codec.drawn
    noise = None if n_draws is None else generator
    fill = model.codec.fill_drawn
    return [fill(rows, event.mask, drawn(each, generator), noise) for each in full]


def _some(known: Any, index: torch.Tensor) -> Any:
    """The rows at ``index``."""
    if isinstance(known, Pair):
        return Pair(known.y.take(index), known.x.take(index))
    return known.take(index)


def _with_centres(
    model: Model, event: Event, known: Any, full: Event, seed: int, y: Any, median: bool
) -> Event:
    """The completion, with the conditional mean or median of each missing number in its place."""
    cells = [
        (row, d) for d in _numbers(model) for row in (~event.mask[:, d]).nonzero()[:, 0].tolist()
    ]
    if not cells:
        return full
    if _is_exact(model, y):
        log_prob = None if y is None else _log_prob_given(model, y)
        centres = conditional_centres(model, event, cells, log_prob, median)
    else:
        centres = _centres_of_draws(model, known, cells, seed, median)
    value = full.value.clone()
    rows, columns = (torch.tensor(part) for part in zip(*cells, strict=True))
    value[rows, columns] = torch.as_tensor(centres, dtype=value.dtype)
    return full._replace(value=value)


def _with_shares(model: Model, means: CentreMeans, event: Event, full: Event) -> Event:
    """The completion, in which centres of rows have their share in missing numbers."""
    value = full.value.clone()
    for d in set(means.columns) & set(_numbers(model)):
        rows = (~event.mask[:, d]).nonzero()[:, 0]
        if len(rows):
            found = means.expected(event.take(rows), d)
            value[rows, d] += means.share[d] * (found - value[rows, d])
    return full._replace(value=value)


def _with_levels(
    model: Model, means: CentreMeans | None, event: Event, full: Event, y: Any
) -> Event:
    """The completion, with the most probable level of each missing category by itself, by the
    density, or by it and centres of rows."""
    value = full.value.clone()
    log_prob = None if y is None else _log_prob_given(model, y)
    for d, variable in enumerate(model.codec.space.variables[: model.codec.columnwise]):
        rows = (~event.mask[:, d]).nonzero()[:, 0]
        if not len(rows) or not variable.nominal or variable.cardinality > MAX_LEVELS:
            continue
        level = level_shares(model, event, rows, d, log_prob)
        if means is not None and means.share[d] > 0:
            level += means.share[d] * (means.expected(event.take(rows), d) - level)
        value[rows, d] = level.argmax(1).to(value)
    return full._replace(value=value)


def _log_prob_given(model: Model, y: Any) -> Any:
    """log p(x, y) of rows of one y."""

    def log_prob(x: Event, rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            parts = slices(x.rows, CHUNK_ROWS)
            given = [Pair(_given(model, y, x.take(part).rows), x.take(part)) for part in parts]
            return torch.cat([model.pair.log_prob(each) for each in given])

    return log_prob


def _centres_of_draws(model: Model, known: Any, cells: Any, seed: int, median: bool) -> np.ndarray:
    generator = stream(seed, "impute")
    rows, columns = (torch.tensor(part) for part in zip(*cells, strict=True))
    each = np.empty((DRAWS_PER_CENTRE, len(cells)))
    for place in range(DRAWS_PER_CENTRE):
        drawn = _x(model.joint.sample_conditional(known, generator=generator))
        each[place] = drawn.value[rows, columns]
    return np.median(each, axis=0) if median else each.mean(0)


def completions(
    model: Model, X: Any, n_draws: int | None = 8, seed: int = 0, y: Any = None
) -> tuple[list[Any], np.ndarray]:
    """So many completions of X (None: the most probable one), each row's best first, and (n_draws,
    B) log p of every completed row, nats in the raw data's units: log p(x), or log p(x, y) where
    ``y`` is given."""
    given = model.rows(X)
    check_draws(n_draws)
    rows = len(given)
    many = n_draws or 1
    every = given.take(np.tile(np.arange(rows), many))
    full = _filled(model, every, None if n_draws is None else 1, seed, y)[0]
    log_prob = _log_prob(model, full, y).reshape(many, rows)
    order = (-log_prob).argsort(0, kind="stable")
    ranked = [model.codec.raw(full.take(rank * rows + np.arange(rows))) for rank in order]
    return ranked, np.take_along_axis(log_prob, order, 0)


def check_draws(n_draws: int | None) -> None:
    """ValueError for fewer than one draw; None asks for none."""
    if n_draws is not None and n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, got {n_draws}.")


def _log_prob(model: Model, full: Rows, y: Any) -> np.ndarray:
    """(B,) of completed rows, and of their y where it is given."""
    encoded = model.encode(full)
    if y is None:
        return model.log_prob_raw(encoded)
    if model.has_classes:
        joint = model.log_joint(encoded, full)[:, model.classes.code(y)]
    else:
        with torch.no_grad():
            joint = (
                model.pair.log_joint(encoded.event, _given(model, y, 1).value)[:, 0]
                + model.number.log_volume
            )
    return (joint + encoded.log_unseen + encoded.log_volume).numpy()


def _given(model: Model, y: Any, rows: int) -> Event:
    """``y`` as that of every row; not known where it is None."""
    if y is None:
        return model.pair.unknown(rows)
    if model.target is None:
        raise CapabilityError(
            "JointDensity",
            "completions given y",
            "no target",
            "Use JointClassifier or JointRegressor.",
        )
    number = isinstance(y, numbers.Real) and np.isfinite(float(y))
    if not (model.target.discrete or number):
        raise ValueError(
            f"y must be one number, the {model.target.name!r} that every row is taken to have, "
            f"got {y!r}."
        )
    return model.target.encode_asked(np.full(rows, y))


def _x(full: Any) -> Event:
    event: Event = full.x if isinstance(full, Pair) else full
    return event

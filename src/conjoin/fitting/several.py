r"""A fit of several targets at once: one density over (y_1, ..., y_k, x).

Cells of y that are missing are summed out, as those of x are. A number that is only known to lie
within bounds counts by the mass there. Its gradient, and the step of expectation-maximisation, are
those of the complete row averaged over the unknown number given all else that is known:

    grad log p(y in [a, b], x) = E[ grad log p(y, x) | y in [a, b], x ]

(R. Fisher's identity); the average is taken by one draw in every step (G. Celeux and J. Diebolt
(1985), The SEM algorithm), after a first fit with such numbers at their bounds.
"""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.table.reading import target_form
from conjoin.core import Density, Event, Pair, Space, stream
from conjoin.families import name_of, resolve, suited
from conjoin.fitting.foresight import CALIBRATING, CHOOSING, USUAL, Later
from conjoin.fitting.learning import Learning
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import card_of, tell_time
from conjoin.fitting.precision import settle_precision
from conjoin.fitting.selection import choose_predictor, foresee_predictors
from conjoin.fitting.split import (
    Rows,
    calibration_rows,
    copies_among,
    copies_words,
    split_of,
    weighted,
)
from conjoin.joints.build import beside
from conjoin.model.calibrate import calibrate
from conjoin.model.censored import TargetColumn
from conjoin.model.predictive import grid_for
from conjoin.model.several import SeveralTargets, encode_targets, rows_of, space_of
from conjoin.model.state import State
from conjoin.model.targets import Classes, Number, Target, seen_range
from conjoin.training.data import Split, canonical
from conjoin.training.feed import Feed, Held
from conjoin.training.learners import Batch
from conjoin.training.loop import Plan, Trained, train_from
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget
from conjoin.util.energy import Meter

__all__ = ["ABLE", "Drawn", "calibrate_several", "fit_several"]

# families whose marginals are exact, in which the targets depend on x and on each other, and that
# know the mass between two bounds
ABLE = ("circuit", "mixture", "bayes_net", "markov_field", "topic")
BOUNDS = "numbers between bounds"  # a phase of the fit
OTHERS = "p(y | x) of the other targets"
CENSORED_ROUNDS = 30  # of drawing the numbers between their bounds anew, at most


def fit_several(rows: Rows, columns: list[TargetColumn], options: FitOptions) -> SeveralTargets:
    """A calibrated model of several targets.

    Parameters
    ----------
    rows
        As of a density; ``y`` is not read.
    columns
        The targets, of the same rows.
    options
        ``task`` is "density"; ``emphasis`` has no meaning here, and ``predictor`` and ``start``
        have one for molecules alone.

    Raises
    ------
    ValueError
        For a family without exact marginals, or data that can't be learned from.
    """
    config = resolve(options.family)
    _refuse(config, columns_beside=False)
    count = len(rows.x)
    rows = weighted(replace(rows, y=np.arange(count), known=np.ones(count, dtype=bool)))
    assert rows.y is not None and rows.weight is not None
    columns = [column.take(rows.y.astype(int)) for column in columns]
    rows = replace(rows, y=_answers(columns))
    budget = Budget(options.max_time, options.began)
    progress = Progress(options.verbose)
    with Meter() as meter, budget.within(math.inf):
        with budget.phase("rows"):
            split = split_of(rows, options)
        model = _learn(rows, columns, split, options, config, progress, budget)
        _calibrate(model, rows, columns, split, progress, budget)
    model.card["energy"] = meter.energy.to_json()
    tell_time(model.card, budget)
    return model


def _refuse(config: Any, columns_beside: bool) -> None:
    """``columns_beside``: whether the targets are known to stand beside columns, as a network of
    things without columns can't read them."""
    name = name_of(config)
    density = config.density
    reads = density.read_by_network and not columns_beside
    if name not in ABLE and not density.takes_blocks and not reads:
        raise ValueError(
            f"Several targets need a family that sums the others out exactly, and {name} does "
            f"not: choose one of {', '.join(ABLE)}, or fit each target by itself."
        )


def _learn(
    rows: Rows,
    columns: list[TargetColumn],
    split: Split,
    options: FitOptions,
    config: Any,
    progress: Progress,
    budget: Budget,
) -> SeveralTargets:
    assert rows.weight is not None
    codec = options.codec
    weight = rows.weight[split.fit]
    words = [each for column in columns for each in column.told]
    if options.start is None:
        codec.bounded = config.density.bounded
        codec.many_levels = config.density.many_levels
        codec.fit(rows.x.take(split.fit), weight=weight)
        codec.recount(rows.x, weight=rows.weight)
    else:
        codec.broaden(rows.x.take(split.fit))
    options.refuse_doubts([*codec.notices, *words])
    _refuse(config, columns_beside=codec.space.flat)
    if not codec.space.flat and not suited(config, codec.space).density.read_by_network:
        raise ValueError(
            f"Several targets stand beside columns, and {codec.plural} have none: fit each target "
            "by itself."
        )
    if codec.space.flat and codec.space.blocks and not codec.structures:
        raise ValueError(
            "Several targets beside columns of text, or of several pictures, are not there yet: "
            "fit each target by itself."
        )
    targets = tuple(_target(column, split.fit, rows.weight) for column in columns)
    if not codec.space.flat:
        return _learn_beside(rows, columns, targets, split, options, config, progress, budget)
    space = space_of(targets, codec.space)
    fit, choose = (
        _events(rows, columns, part, codec, targets) for part in (split.fit, split.choose)
    )
    start, mass = canonical(_as_pair(_at_bounds(fit)), torch.tensor(weight))
    learning = Learning(
        config=_config_for(config, space, options, len(split.fit)),
        options=replace(options, emphasis=0.0, predictor=None),
        target=None,
        space=space,
        event=start,
        weight=mass,
        choose=_as_pair(_at_bounds(choose)),
        budget=budget,
        later=Later(
            budget=budget,
            target=None,
            rows=start.x,
            y=start.y,
            calibrated=len(targets) * len(split.calibrate),
            judged=0,
        ),
    )
    drawn_anew = fit.within is not None and not codec.structures
    if drawn_anew:
        budget.put_aside(BOUNDS, budget.free / 2)
    density, trained, _ = learning.joint(progress)
    if drawn_anew:
        with budget.phase(BOUNDS):
            trained = _with_bounds(
                density, fit, choose, torch.tensor(weight), options, progress, budget
            )
    card = _card(rows, columns, split, options, config, trained)
    states = tuple(State(seed=options.seed, cellwise=True, direct=True) for _ in targets)
    model = SeveralTargets(codec, density.eval(), targets, states, card=card)
    model.states = tuple(
        _state(model, target, fit.value[:, place], fit.mask[:, place], torch.tensor(weight))
        for place, target in enumerate(targets)
    )
    if codec.structures:
        _learn_molecules(model, rows, columns, fit, choose, split, options, progress, budget)
    return model


def _card(
    rows: Rows,
    columns: list[TargetColumn],
    split: Split,
    options: FitOptions,
    config: Any,
    trained: Trained,
) -> dict[str, Any]:
    copies = copies_among(rows)
    told = [copies_words(len(rows.x), copies)] if copies else []
    told += [each for column in columns for each in column.told]
    card = card_of(rows, split, options, config) | {
        "trained": asdict(trained),
        "notices": [*told, *(each for one in columns for each in _amounts_as_classes(one))],
    }
    return card | ({"copies": copies} if copies else {})


def _config_for(config: Any, space: Space, options: FitOptions, rows: int) -> Any:
    """As of such rows, and as many."""
    found = suited(config, space)
    return found if options.start is not None else found.for_rows(rows)


def _answers(columns: list[TargetColumn]) -> np.ndarray:
    """(B,) of each row a number for what is known of all targets: equal where that is equal."""
    frame = pd.DataFrame(index=range(len(columns[0].values)))
    for place, column in enumerate(columns):
        told = pd.Series(column.values, dtype=object).astype(str).where(column.known, "")
        frame[f"{place}"] = told
        if column.low is not None and column.high is not None:
            frame[f"{place} low"] = np.where(column.censored, column.low, 0.0)
            frame[f"{place} high"] = np.where(column.censored, column.high, 0.0)
    return pd.util.hash_pandas_object(frame, index=False).to_numpy()


def _learn_molecules(
    model: SeveralTargets,
    rows: Rows,
    columns: list[TargetColumn],
    fit: Event,
    choose: Event,
    split: Split,
    options: FitOptions,
    progress: Progress,
    budget: Budget,
) -> None:
    """What is typical of the molecules, and a predictor for each target: given the molecule, the
    targets are modelled as independent."""
    count = len(model.targets)
    if fit.within is not None:
        model.card["notices"].append(
            "Numbers between bounds stand at their bounds in p(molecule | properties); p(property "
            "| molecule) learns the mean of what it expects between them."
        )
    if model.density.capabilities.typical:
        model.density.fit_typicality(fit._replace(within=None))
        view = model.view(model.names[0])
        if view.ranks_blocks:
            held = rows.x.take(split.choose)
            view.rank_blocks(model.codec.encode(held) if len(held) else None)
            own = view.state
            model.states = tuple(
                replace(state, blocks=own.blocks, between=own.between) for state in model.states
            )
    of_fit, of_choose = (each.cut(count)[1]._replace(within=None) for each in (fit, choose))
    data = {"fit": (fit, of_fit), "choose": (choose, of_choose)}
    _learn_predictors(model, rows, columns, data, split, options, progress, budget)


def _learn_predictors(
    model: SeveralTargets,
    rows: Rows,
    columns: list[TargetColumn],
    data: dict[str, tuple[Event, Event]],
    split: Split,
    options: FitOptions,
    progress: Progress,
    budget: Budget,
) -> None:
    """A predictor for each target, which have equal parts of the time; ``data``: the targets, as
    the first columns of rows, beside events of x."""
    found = []
    told = {}
    for place, name in enumerate(model.names):
        view = model.view(name)
        view.card = dict(model.card)
        pairs = {
            part: Pair(Event(y.value[:, place], y.mask[:, place]), x)
            for part, (y, x) in data.items()
        }
        column = columns[place]
        own_rows = replace(rows, low=column.low, high=column.high, strict=column.strict)
        after = len(columns) - place - 1
        budget.put_aside(OTHERS, 0.0)
        budget.put_aside(OTHERS, budget.free * after / (after + 1) if budget.bounded else 0.0)
        choose_predictor(view, options, pairs, own_rows, split, progress, budget, {})
        found.append(view.pair.separate_predictor)
        told[name] = view.card["predictor"]
        own = replace(model.states[place], predictor=view.state.predictor, grid=view.state.grid)
        model.states = (*model.states[:place], own, *model.states[place + 1 :])
    model.predictors = tuple(found)
    model.card["predictors"] = told


def _learn_beside(
    rows: Rows,
    columns: list[TargetColumn],
    targets: tuple[Target, ...],
    split: Split,
    options: FitOptions,
    config: Any,
    progress: Progress,
    budget: Budget,
) -> SeveralTargets:
    """p(x), and beside it p(y_j) of each target and what its network reads of x."""
    assert rows.weight is not None
    codec = options.codec
    weight = torch.tensor(rows.weight[split.fit])
    y = {
        part: encode_targets(targets, [column.take(getattr(split, part)) for column in columns])
        for part in ("fit", "choose")
    }
    x = {
        part: codec.encode(rows.x.take(places)).event if len(places) else codec.space.unknown(0)
        for part, places in (("fit", split.fit), ("choose", split.choose))
    }
    config = settle_precision(_config_for(config, codec.space, options, len(split.fit)), options)
    first = Event(y["fit"].value[:, 0], y["fit"].mask[:, 0])
    choosing = foresee_predictors(
        options,
        codec,
        targets[0],
        {"fit": Pair(first, x["fit"])},
        rows,
        split,
        budget,
        config,
    )
    density, trained = _learn_x(x, weight, split, options, config, progress, budget, choosing)
    each = (
        Event(y["fit"].value[:, place], y["fit"].mask[:, place]) for place in range(len(targets))
    )
    bases = tuple(
        beside(density, target.space, own, weight)
        for target, own in zip(targets, each, strict=True)
    )
    states = tuple(State(seed=options.seed, cellwise=True, direct=True) for _ in targets)
    card = _card(rows, columns, split, options, config, trained)
    model = SeveralTargets(codec, density.eval(), targets, states, card=card)
    model.bases = tuple(base.eval() for base in bases)
    model.states = tuple(
        _state(model, target, y["fit"].value[:, place], y["fit"].mask[:, place], weight)
        for place, target in enumerate(targets)
    )
    with budget.phase(USUAL):
        density.fit_typicality(x["fit"])
    if y["fit"].within is not None:
        card["notices"].append(
            "Numbers of which only a bound is known teach p(property | molecule) nothing."
        )
    data = {part: (y[part], x[part]) for part in ("fit", "choose")}
    with budget.phase(CHOOSING):
        _learn_predictors(model, rows, columns, data, split, options, progress, budget)
    return model


def _learn_x(
    x: dict[str, Event],
    weight: Tensor,
    split: Split,
    options: FitOptions,
    config: Any,
    progress: Progress,
    budget: Budget,
    choosing: dict[str, float],
) -> tuple[Density, Trained]:
    """p(x) alone; ``choosing``: seconds that predictors take later."""
    start, mass = canonical(_as_pair(x["fit"]), weight)
    learning = Learning(
        config=config,
        options=replace(options, emphasis=0.0, predictor=None),
        target=None,
        space=options.codec.space,
        event=start,
        weight=mass,
        choose=_as_pair(x["choose"]),
        budget=budget,
        later=Later(
            budget=budget,
            target=None,
            rows=start.x,
            y=start.y,
            calibrated=len(split.calibrate),
            judged=0,
            choosing=choosing,
        ),
    )
    density, trained, _ = learning.joint(progress)
    return density, trained


def _target(column: TargetColumn, fit: np.ndarray, weight: np.ndarray) -> Target:
    """Classes of all labels; a number in units of those that the fit knows, bounds among them."""
    if not column.is_number:
        return Classes.fit(column.values, column.known, column.name)
    part = column.take(fit)
    values = np.where(part.known, part.values, _edge(part))
    known = part.known | part.censored
    units = Number.fit(values, known, column.name, weight[fit])
    if part.known.any():
        units.resolution = Number.fit(part.values, part.known, "", weight[fit]).resolution
    units.range = _range(part)
    return units


def _range(column: TargetColumn) -> tuple[float | None, float | None]:
    """Between which numbers the known and the censored ones may lie; None for an open end."""
    assert column.low is not None and column.high is not None
    low = column.low[column.censored]
    high = column.high[column.censored]
    every = np.concatenate([column.values[column.known].astype(float), low, high])
    finite = seen_range(every[np.isfinite(every)])
    return None if np.isinf(low).any() else finite[0], None if np.isinf(high).any() else finite[1]


def _edge(column: TargetColumn) -> np.ndarray:
    """(B,) the middle of bounds that are both known, else the one that is; 0 where none is."""
    assert column.low is not None and column.high is not None
    low = np.where(np.isfinite(column.low), column.low, column.high)
    high = np.where(np.isfinite(column.high), column.high, column.low)
    bounded = np.isfinite(low) & np.isfinite(high)
    return (np.where(bounded, low, 0.0) + np.where(bounded, high, 0.0)) / 2


def _events(
    rows: Rows, columns: list[TargetColumn], part: np.ndarray, codec: Any, targets: Any
) -> Event:
    width = codec.space.shape[0]
    y = encode_targets(targets, [column.take(part) for column in columns])
    if not len(part):
        nothing = torch.zeros(0, width, dtype=torch.float64)
        return rows_of(y, Event(nothing, nothing.bool()))
    return rows_of(y, codec.encode(rows.x.take(part)).event)


def _as_pair(event: Event) -> Pair:
    """As the fit of a density takes it."""
    zero = torch.zeros(event.rows, dtype=torch.float64)
    return Pair(Event(zero, zero.bool()), event)


def _at_bounds(event: Event) -> Event:
    """Censored numbers at their bounds, between two in the middle: where a fit may begin."""
    if event.within is None:
        return event
    low = torch.where(torch.isfinite(event.within.low), event.within.low, event.within.high)
    high = torch.where(torch.isfinite(event.within.high), event.within.high, low)
    bounded = ~event.mask & event.within.constrained
    value = torch.where(bounded, (low + high) / 2, event.value)
    return Event(value, event.mask | bounded)


# ----------------------------------------------------------------------------------- between bounds


class Drawn(Feed):
    """Rows in memory, whose censored numbers are drawn anew for every step, within their bounds,
    given all else that is known of the row."""

    def __init__(self, density: Density, fit: Event, weight: Tensor, seed: int) -> None:
        self.density = density
        self.held = Held(fit, weight, seed)
        self.rows = self.held.rows
        self.seed = seed

    def fingerprint(self) -> str:
        return self.held.fingerprint()

    def parts(self, batch: int) -> int:
        return self.held.parts(batch)

    def batch(self, step: int, parts: int) -> Batch:
        batch = self.held.batch(step, parts)
        event: Any = batch.rows
        assert event.within is not None
        bounded = ~event.mask & event.within.constrained
        some = bounded.any(1).nonzero()[:, 0]
        value = event.value.clone()
        if len(some):
            noise = stream(self.seed, "censored", step)
            with torch.no_grad():
                drawn = self.density.sample_conditional(event.take(some), generator=noise).value
            value[some] = torch.where(bounded[some], drawn, value[some])
        return replace(batch, rows=Event(value, event.mask | bounded))


def _amounts_as_classes(column: TargetColumn) -> list[str]:
    """That words which read as numbers are classes."""
    if column.is_number or column.values.dtype.kind not in "OU":
        return []
    series = pd.Series(column.values, dtype=object).where(column.known).rename(column.name)
    found = target_form(series, {}, False, "")
    if found is None:
        return []
    return [
        f"Target {column.name!r} has {series.nunique():,} classes that read as numbers "
        f"({found.form.describe()}): of several targets give such a one as plain numbers."
    ]


def _with_bounds(
    density: Density,
    fit: Event,
    choose: Event,
    weight: Tensor,
    options: FitOptions,
    progress: Progress,
    budget: Budget,
) -> Trained:
    folder = None if options.checkpoint is None else options.checkpoint / "bounds"
    plan = Plan(
        seed=options.seed,
        epochs=CENSORED_ROUNDS,
        max_time=budget.max_time,
        limit=budget.seconds,
        checkpoint=folder,
        resume=options.resume,
    )
    feed = Drawn(density, fit, weight, options.seed)
    return train_from(density, feed, choose, plan, progress, BOUNDS)


# -------------------------------------------------------------------------------------- calibration


def _state(
    model: SeveralTargets, target: Target, value: Tensor, mask: Tensor, weight: Tensor
) -> State:
    state = State(seed=model.states[0].seed, predictor="family", direct=True)
    if target.labels is None:
        grid = grid_for(model.view(target.name).pair, Event(value, mask))
        return replace(state, grid=tuple(grid.tolist()))
    counts = torch.bincount(value[mask].long(), weights=weight[mask], minlength=len(target.labels))
    return replace(state, shares=tuple((counts / counts.sum()).tolist()))


def _calibrate(
    model: SeveralTargets,
    rows: Rows,
    columns: list[TargetColumn],
    split: Split,
    progress: Progress,
    budget: Budget,
) -> None:
    part = calibration_rows(rows, split) if model.card.get("copies") else split.calibrate
    model.card["rows"]["calibrate"] = len(part)
    if not len(part):
        return
    held = [column.take(part) for column in columns]
    with progress.phase("calibrating on held-out rows", 1) as bar, budget.phase(CALIBRATING):
        calibrate_several(model, rows.x.take(part), held)
        bar.update(1)


def calibrate_several(model: SeveralTargets, x: Any, columns: list[TargetColumn]) -> None:
    """Calibrate every target, and all together, on rows that the model has not seen. A censored
    number counts as not known."""
    views = model.views()
    model.calibrations = tuple(
        calibrate(view, x, column.values, column.known)
        for view, column in zip(views.values(), columns, strict=True)
    )

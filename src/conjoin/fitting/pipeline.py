"""From a frame and a target to a fitted model: split, encode, train, choose the predictor,
calibrate."""

import hashlib
import math
import platform
import warnings
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from conjoin.calibration.conformal import Calibration
from conjoin.codecs.table import TableCodec
from conjoin.core import Event, Pair, as_float
from conjoin.core.device import choose_device
from conjoin.core.warnings import ColumnWarning
from conjoin.families import FAMILIES, name_of, refuse_columns_beside_class, resolve, suited
from conjoin.fitting.bounded import open_beyond_bounds
from conjoin.fitting.fast import left_out, replaced, simpler
from conjoin.fitting.foresight import (
    CALIBRATING,
    CHOOSING,
    JUDGING_TIME_SHARE,
    USUAL,
    USUAL_TIME_SHARE,
    Later,
    rows_in_time,
)
from conjoin.fitting.label_propagation import propagate_labels
from conjoin.fitting.leakage import deciding_columns
from conjoin.fitting.learning import Learning, shares_backbone
from conjoin.fitting.options import FitOptions
from conjoin.fitting.point_masses import spread_point_masses
from conjoin.fitting.precision import settle_precision
from conjoin.fitting.selection import (
    calibrate_shared_backbone,
    choose_predictor,
    foresee_predictors,
    refuse_without_columns,
    wrong_of,
)
from conjoin.fitting.split import (
    Rows,
    calibration_rows,
    conflicts_words,
    copies_among,
    copies_words,
    split_of,
    weighted,
)
from conjoin.model.calibrate import calibrate
from conjoin.model.contents import read_of
from conjoin.model.model import Model
from conjoin.model.predictive import grid_for
from conjoin.model.state import State
from conjoin.model.targets import Target
from conjoin.model.words import unfinished
from conjoin.training.data import Split, canonical, row_hashes
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget
from conjoin.util.energy import Meter

__all__ = ["card_of", "fit_model", "refit", "tell_time"]

PRIOR_ROWS = 1000  # by which p(y) is known where labels are missing
# whatever it takes: rows to rank among, to choose p(y | x) by, and by which a statistic
# of familiarity is known
MIN_CALIBRATION_ROWS = 200
MIN_VALIDATION_ROWS = 200
MIN_TYPICAL_ROWS = 200


def fit_model(rows: Rows, options: FitOptions) -> Model:
    """A calibrated model. Raises ValueError with one sentence for data that can't be learned
    from."""
    config = resolve(options.family)
    choose_device(options.device)
    progress = Progress(options.verbose)
    budget = Budget(options.max_time, options.began)
    rows = weighted(rows)
    with Meter() as meter, budget.within(math.inf):
        with progress.phase("splitting rows", 1) as bar, budget.phase("rows"):
            split = split_of(rows, options)
            bar.update(1)
        model = _learn(rows, split, options, config, progress, budget)
        _calibrate(model, rows, split, progress, budget)
    model.card["energy"] = meter.energy.to_json()
    if options.stream is None:  # of a table that is read in chunks a sample is at hand
        model.card |= read_of(model.codec, rows.x)
    tell_time(model.card, budget)
    return model


def tell_time(card: dict[str, Any], budget: Budget) -> None:
    """What was left out for want of time, and that a fit took longer than it should."""
    if budget.bounded:
        card["seconds"] = {name: round(seconds, 3) for name, seconds in budget.spent.items()}
        card |= {"cut": list(budget.cut)} if budget.cut else {}
        overrun = budget.overrun()
        card["notices"] = [*([overrun] if overrun else []), *budget.cut, *card["notices"]]


def refit(rows: Rows, options: FitOptions, model: Model) -> tuple[Any, dict[str, Pair], Split]:
    """p(x), or where the options is for classes the joint, of its family on new rows, in the
    columns, units and classes of a model; the rows that it has learned from, and how they were
    split."""
    rows = weighted(rows)
    assert rows.weight is not None
    split = split_of(rows, options)
    target = None if options.target_class is None else model.target
    data = {
        part: _events(rows, getattr(split, part), model.codec, target) for part in ("fit", "choose")
    }
    event, weight = canonical(data["fit"], torch.tensor(rows.weight[split.fit]))
    learning = Learning(
        config=options.family,
        options=options,
        target=target,
        space=model.codec.space,
        event=event,
        weight=weight,
        choose=data["choose"],
        budget=Budget(options.max_time, options.began),
    )
    return learning.joint(Progress(options.verbose))[0], data, split


def _target(rows: Rows, fit: np.ndarray, options: FitOptions) -> Target | None:
    """What y is; a number keeps the units of the model that the fit begins from."""
    asked = options.target_class
    if asked is None:
        return None
    assert rows.y is not None and rows.known is not None and rows.weight is not None
    if asked.discrete:  # every label counts, also of rows that do not teach
        return asked.fit(rows.y, rows.known, rows.name, rows.weight)
    if options.start is not None and options.start.model.has_number:
        number: Target = options.start.model.number.widened(rows.y[fit][rows.known[fit]])
        return number
    found = asked.fit(rows.y[fit], rows.known[fit], rows.name, rows.weight[fit], rows.form)
    open_beyond_bounds(found, rows, fit)
    return found


def _codec_of(rows: Rows, split: Split, options: FitOptions, config: Any) -> Any:
    """What reads the rows, fitted to those that teach."""
    codec = options.codec or TableCodec()
    assert rows.weight is not None
    entry = FAMILIES.get(name_of(config))
    if codec.too_large and (entry is None or not entry.needs):
        raise ValueError(codec.too_large)
    if options.start is None:
        codec.bounded = config.density.bounded
        codec.many_levels = config.density.many_levels
        codec.fit(rows.x.take(split.fit), weight=rows.weight[split.fit])
        # which of the rare values that share a level comes how often enters no calibration
        codec.recount(rows.x, weight=rows.weight)
        options.refuse_doubts([*codec.notices, *rows.told])
    else:
        codec.broaden(rows.x.take(split.fit))
    refuse_without_columns(codec, options.predictor)
    refuse_columns_beside_class(config, codec.space, options.target_class is not None)
    return codec


def _suited(config: Any, codec: Any, options: FitOptions) -> Any:
    """The config that such rows, and a fit like this, ask for."""
    stands_in = suited(config, codec.space)
    number = options.target_class is not None and not options.has_classes
    config = config if stands_in.alone and number else stands_in
    return settle_precision(simpler(config, options), options)


def _advise(config: Any, codec: Any, options: FitOptions) -> None:
    """A warning, before the work, where another family would do better."""
    if options.start is None and codec.space.flat:
        for words in config.advice(codec.space):
            warnings.warn(words, ColumnWarning, stacklevel=6)


def _later(
    budget: Budget, target: Target | None, fit: Pair, split: Split, choosing: dict[str, float]
) -> Later:
    """What comes after the training."""
    return Later(
        budget=budget,
        target=target,
        rows=fit.x,
        y=fit.y,
        calibrated=len(split.calibrate),
        judged=len(split.choose) if choosing else 0,
        choosing=choosing,
    )


def _learn(
    rows: Rows, split: Split, options: FitOptions, config: Any, progress: Progress, budget: Budget
) -> Model:
    assert rows.weight is not None
    with progress.phase("reading rows", 2) as bar, budget.phase("rows"):
        codec = _codec_of(rows, split, options, config)
        bar.update(1)
        target = _target(rows, split.fit, options)
        if len(rows.x) == 1:
            raise ValueError(
                "There is one row to learn from (n_samples = 1), of which no spread is known: "
                "give 2."
            )
        data = {
            part: _events(rows, getattr(split, part), codec, target) for part in ("fit", "choose")
        }
        bar.update(2)
    asked = config
    config = _suited(asked, codec, options)
    config = config if options.start is not None else config.for_rows(len(split.fit))
    _advise(config, codec, options)
    propagated: dict[str, Any] = {}
    labels = None if target is None else target.labels
    if options.spread and codec.space.flat and labels is not None:
        data, propagated = propagate_labels(data, codec.space, len(labels))
    event, weight = canonical(data["fit"], torch.tensor(rows.weight[split.fit]))
    choosing: dict[str, float] = {}
    if budget.bounded and not shares_backbone(config, options.predictor, target):
        with progress.phase("measuring p(y | x)", 1) as bar, budget.phase("measuring"):
            choosing = foresee_predictors(options, codec, target, data, rows, split, budget, config)
            bar.update(1)
    later = _later(budget, target, data["fit"], split, choosing)
    read = None if options.stream is None else options.stream.reader(codec, target)
    learning = Learning(
        config=config,
        options=options,
        target=target,
        space=codec.space,
        event=event,
        weight=weight,
        choose=data["choose"],
        budget=budget,
        later=later,
        read=read,
        subject=codec.x_words,
    )
    joint: Any
    joint, trained, weighed = learning.joint(progress)
    card = card_of(rows, split, options, config) | {"trained": asdict(trained)} | weighed
    card |= {"labels": propagated} if propagated else {}
    state = State(seed=options.seed, cellwise=True, direct=True)
    model = Model(codec, joint, target, state=state, card=card)
    if model.density_of_x.capabilities.typical:
        with progress.phase("what is typical", 1) as bar, budget.phase(USUAL):
            _fit_typicality(model, data["fit"].x, budget)
            bar.update(1)
    copies = copies_among(rows)
    model.card |= {"copies": copies} if copies else {}
    told = [copies_words(len(rows.x), copies)] if copies else []
    told += _exchanged(rows, asked, config, codec, options)
    model.card["notices"] = _all_notices(model, data["fit"], (*told, *rows.told))
    if model.has_number:
        grid = tuple(grid_for(joint, data["fit"].y).tolist())
        model.state = replace(model.state, grid=grid)
    if model.ranks_blocks:
        with progress.phase("what is usual of each part", 1) as bar, budget.phase(USUAL):
            _rank_blocks(model, rows.x.take(split.choose), budget)
            bar.update(1)
    if target is not None:
        with budget.phase(CHOOSING):
            _choose(
                model, rows, split, data, options, progress, wrong_of(propagated), budget, choosing
            )
    if model.has_classes:
        shares = _shares(model, data["fit"], torch.tensor(rows.weight[split.fit]))
        model.state = replace(model.state, shares=tuple(shares.tolist()))
    with progress.phase("what is unlike the rest", 1) as bar, budget.phase(USUAL):
        model.learn_readings(data["fit"].x, None if options.fast else data["choose"].x)
        bar.update(1)
    return model


def _exchanged(rows: Rows, asked: Any, config: Any, codec: Any, options: FitOptions) -> list[str]:
    """What a reader must know of rows that conflict, and of what was asked for and not taken."""
    told = conflicts_words(rows) if codec.one_answer else []
    return [
        *told,
        *replaced(asked, config, codec, options),
        *left_out(asked, config, codec, options),
    ]


def _in_time(model: Model, x: Event, budget: Budget, least: int, what: str, rows: str) -> Any:
    """The places of as many rows as there is time to ask for their typicality, at least ``least``;
    None for all. Fewer are told: ``what`` was learned from them, out of so many ``rows``."""
    most = rows_in_time(
        budget,
        min(budget.free, budget.share(USUAL_TIME_SHARE)),
        lambda count: model.typicality(as_float(x.take(slice(0, count)))),
        x.rows,
        least,
    )
    if most >= x.rows:
        return None
    budget.cut.append(
        f"For want of time what is {what} was learned from {most:,} of {x.rows:,} {rows}."
    )
    some = np.random.default_rng(model.state.seed).permutation(x.rows)[:most]
    return torch.as_tensor(np.sort(some))


def _fit_typicality(model: Model, x: Event, budget: Budget) -> None:
    """The density's own statistic of familiarity, from as many rows as there is time for."""
    some = _in_time(model, x, budget, MIN_TYPICAL_ROWS, "typical", "rows")
    model.fit_typicality(x if some is None else x.take(some))


@torch.no_grad()
def _rank_blocks(model: Model, held: Any, budget: Budget) -> None:
    """What is usual of each block, by as many validation rows as there is time for."""
    if not len(held):
        model.rank_blocks(None)
        return
    encoded = model.codec.encode(held)
    least = MIN_VALIDATION_ROWS
    words = ("usual of each part of a row", "validation rows")
    some = _in_time(model, encoded.event, budget, least, *words)
    model.rank_blocks(encoded if some is None else encoded.take(some))


def _choose(
    model: Model,
    rows: Rows,
    split: Split,
    data: dict[str, Pair],
    options: FitOptions,
    progress: Progress,
    wrong: float,
    budget: Budget,
    guessed: dict[str, float],
) -> None:
    """What gives p(y | x); a share ``wrong`` of the labels may be wrong."""
    if model.pair.separate_predictor is not None:
        calibrate_shared_backbone(model, options.predictor, data, wrong)
        return
    data, split = _judging_in_time(model, data, split, budget, options.seed)
    try:
        choose_predictor(model, options, data, rows, split, progress, budget, guessed)
    except KeyboardInterrupt:
        model.card["predictor"]["why"] = "interrupted: the family's own p(y | x) is kept"


@torch.no_grad()
def _judging_in_time(
    model: Model, data: dict[str, Pair], split: Split, budget: Budget, seed: int
) -> tuple[dict[str, Pair], Split]:
    """As many validation rows as there is time for to weigh p(y | x) by."""
    choose = data["choose"]
    seconds = min(budget.free, budget.share(JUDGING_TIME_SHARE))
    most = rows_in_time(
        budget,
        seconds,
        lambda count: _own_word(model, choose.take(slice(0, count))),
        choose.rows,
        MIN_VALIDATION_ROWS,
    )
    if most == choose.rows:
        return data, split
    budget.cut.append(
        f"For want of time p(y | x) was chosen by {most:,} of {choose.rows:,} validation rows."
    )
    some = np.sort(np.random.default_rng(seed).permutation(choose.rows)[:most])
    few = choose.take(torch.as_tensor(some))
    return data | {"choose": few}, split._replace(choose=split.choose[some])


def _own_word(model: Model, rows: Pair) -> torch.Tensor:
    """What the family says of y, or must say of x for that."""
    x = as_float(rows.x)
    if model.has_classes:
        return model.pair.log_posterior(x)
    if model.pair.ignores_label:
        return model.pair.log_label_given(rows._replace(x=x))
    return model.pair.log_evidence(x)


def _shares(model: Model, fit: Pair, weight: torch.Tensor) -> torch.Tensor:
    """(K,) p(y) as p(y | x) has learned it: the shares of the labels, or its mean over some rows
    where labels are missing."""
    classes = len(model.classes.labels)
    if fit.y.mask.all():
        counts = torch.bincount(fit.y.value.long(), weights=weight, minlength=classes)
        return counts / counts.sum()
    with torch.no_grad():
        return model.pair.log_posterior(fit.x.take(slice(0, PRIOR_ROWS))).exp().mean(0)


def _all_notices(model: Model, data: Pair, told: tuple[str, ...]) -> list[str]:
    """What the user should be told of the fit, the most harmful first; ``told``: of the target."""
    short = unfinished(model.facts)
    target = model.target
    known = (
        [] if target is None else deciding_columns(model.codec, data, target.discrete, target.name)
    )
    # draws of a fit that was cut short are noise
    spread = [] if short else spread_point_masses(model, data.x)
    return [*([short] if short else []), *known, *told, *_notices(model, data), *spread]


def _notices(model: Model, data: Pair) -> list[str]:
    """What a density of x has to say about itself after the fit: that a latent space has collapsed,
    for example."""
    return model.density_of_x.notices(as_float(data.x.take(slice(0, 1000))))


def _events(rows: Rows, part: np.ndarray, codec: Any, target: Target | None) -> Pair:
    x = codec.encode(rows.x.take(part)).event if len(part) else codec.space.unknown(0)
    if target is None:
        return Pair(Event(torch.zeros(x.rows).double(), torch.zeros(x.rows, dtype=torch.bool)), x)
    assert rows.y is not None and rows.known is not None
    return Pair(target.encode(rows.y[part], rows.known[part]), x)


def _calibrate(model: Model, rows: Rows, split: Split, progress: Progress, budget: Budget) -> None:
    """On the held-out rows, or as many of them, drawn at random, as there is time for."""
    held = calibration_rows(rows, split) if model.card.get("copies") else split.calibrate
    model.card["rows"]["calibrate"] = len(held)
    held = np.random.default_rng(model.state.seed).permutation(held)
    if not len(held):
        return

    def calibrated(part: np.ndarray, done: Any = lambda rows: None) -> Calibration:
        y = None if rows.y is None else rows.y[part]
        known = None if rows.known is None else rows.known[part]
        return calibrate(model, rows.x.take(part), y, known, done)

    with progress.phase("what is usual", 1) as bar, budget.phase(USUAL):
        calibrated(held[:1])  # the model, which is whole by now, draws what rows are compared with
        bar.update(1)
    with budget.phase(CALIBRATING):
        most = rows_in_time(
            budget,
            budget.left,
            lambda count: calibrated(held[:count]),
            len(held),
            MIN_CALIBRATION_ROWS,
        )
        if most < len(held):
            budget.cut.append(
                f"For want of time the model was calibrated on {most:,} of {len(held):,} held-out "
                "rows."
            )
            model.card["rows"]["calibrate"] = most
        with progress.phase("calibrating on held-out rows", most) as bar:
            model.calibration = calibrated(np.sort(held[:most]), bar.update)
            bar.update(most)


def card_of(rows: Rows, split: Split, options: FitOptions, config: Any) -> dict[str, Any]:
    """What the model card tells of the fit."""
    from conjoin import __version__

    hashes = row_hashes(rows.x)
    streamed = options.stream
    taught = len(split.fit) if streamed is None else streamed.rows
    more = {} if streamed is None else {"streamed": streamed.facts()}
    more |= {} if options.start is None else options.start.facts()
    more |= {"speed": options.speed} if options.fast else {}
    return {
        "task": options.task,
        "family": name_of(config),
        "settings": config.get_params(),
        "rows": {"fit": taught, "choose": len(split.choose), "calibrate": len(split.calibrate)},
        "data_sha256": hashlib.sha256(np.sort(hashes).tobytes()).hexdigest(),
        "split_sha256": hashlib.sha256(np.sort(hashes[split.fit]).tobytes()).hexdigest(),
        "versions": {
            "conjoin": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
    } | more

"""From a frame and a target to a fitted model: split, encode, train, choose the predictor,
calibrate."""

import hashlib
import platform
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from conjoin.codecs.table import TableCodec
from conjoin.core import Event, Pair, as_float
from conjoin.core.device import choose_device
from conjoin.families import name_of, resolve, suited
from conjoin.fitting.label_propagation import propagate_labels
from conjoin.fitting.leakage import deciding_columns
from conjoin.fitting.learning import Learning
from conjoin.fitting.options import FitOptions
from conjoin.fitting.point_masses import spread_point_masses
from conjoin.fitting.precision import settle_precision
from conjoin.fitting.selection import (
    calibrate_shared_backbone,
    choose_predictor,
    refuse_without_columns,
    wrong_of,
)
from conjoin.fitting.split import Rows, split_of, weighted
from conjoin.model.calibrate import calibrate
from conjoin.model.model import Model
from conjoin.model.predictive import grid_for
from conjoin.model.state import State
from conjoin.model.targets import Classes, Number, Target
from conjoin.model.words import unfinished
from conjoin.training.data import Split, canonical, row_hashes
from conjoin.training.progress import Progress
from conjoin.util.energy import Meter

__all__ = ["card_of", "fit_model", "refit"]

PRIOR_ROWS = 1000  # by which p(y) is known where labels are missing


def fit_model(rows: Rows, options: FitOptions) -> Model:
    """A calibrated model. Raises ValueError with one sentence for data that can't be learned
    from."""
    config = resolve(options.family)
    choose_device(options.device)
    progress = Progress(options.verbose)
    rows = weighted(rows)
    with Meter() as meter:
        split = split_of(rows, options)
        model = _learn(rows, split, options, config, progress)
        _calibrate(model, rows, split, progress)
    model.card["energy"] = meter.energy.to_json()
    return model


def refit(rows: Rows, options: FitOptions, model: Model) -> tuple[Any, dict[str, Pair], Split]:
    """p(x), or where the options is for classes the joint, of its family on new rows, in the
    columns, units and classes of a model; the rows that it has learned from, and how they were
    split."""
    rows = weighted(rows)
    assert rows.weight is not None
    split = split_of(rows, options)
    target = None if options.task == "density" else model.target
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
        max_time=options.max_time,
    )
    return learning.joint(Progress(options.verbose))[0], data, split


def _target(rows: Rows, fit: np.ndarray, options: FitOptions) -> Target | None:
    """What y is; a number keeps the units of the model that the fit begins from."""
    if options.task == "density":
        return None
    assert rows.y is not None and rows.known is not None and rows.weight is not None
    if options.task == "classes":
        return Classes.fit(rows.y, rows.known, rows.name)
    if options.start is not None and isinstance(options.start.model.target, Number):
        return options.start.model.target
    return Number.fit(rows.y[fit], rows.known[fit], rows.name, rows.weight[fit], rows.form)


def _learn(rows: Rows, split: Split, options: FitOptions, config: Any, progress: Progress) -> Model:
    began = time.monotonic()
    codec = options.codec or TableCodec()
    assert rows.weight is not None
    if options.start is None:
        codec.bounded = config.density.bounded
        codec.many_levels = config.density.many_levels
        codec.fit(rows.x.take(split.fit), weight=rows.weight[split.fit])
        options.refuse_doubts([*codec.notices, *rows.told])
        # which of the rare values that share a level comes how often enters no calibration
        codec.recount(rows.x, weight=rows.weight)
    refuse_without_columns(codec, options.predictor)
    stands_in = suited(config, codec.space)
    config = config if stands_in.alone and options.task == "number" else stands_in
    config = config if options.stream is None else config.streamed()
    config = settle_precision(config, options)
    target = _target(rows, split.fit, options)
    if len(rows.x) == 1:
        raise ValueError(
            "There is one row to learn from (n_samples = 1), of which no spread is known: give 2."
        )
    data = {part: _events(rows, getattr(split, part), codec, target) for part in ("fit", "choose")}
    propagated: dict[str, Any] = {}
    if options.spread and codec.space.flat and isinstance(target, Classes):
        data, propagated = propagate_labels(data, codec.space, len(target.labels))
    event, weight = canonical(data["fit"], torch.tensor(rows.weight[split.fit]))
    left = (
        None
        if options.max_time is None
        else max(0.0, options.max_time - (time.monotonic() - began))
    )
    read = None if options.stream is None else options.stream.reader(codec, target)
    learning = Learning(
        config=config,
        options=options,
        target=target,
        space=codec.space,
        event=event,
        weight=weight,
        choose=data["choose"],
        max_time=left,
        read=read,
    )
    joint: Any
    joint, trained, weighed = learning.joint(progress)
    card = card_of(rows, split, options, config) | {"trained": asdict(trained)} | weighed
    card |= {"labels": propagated} if propagated else {}
    model = Model(codec, joint, target, state=State(seed=options.seed), card=card)
    model.fit_typicality(data["fit"].x)
    model.card["notices"] = _all_notices(model, data["fit"], rows.told)
    if isinstance(target, Number):
        grid = tuple(grid_for(joint, data["fit"].y).tolist())
        model.state = replace(model.state, grid=grid)
    if model.ranks_blocks:
        held = rows.x.take(split.choose)
        model.rank_blocks(codec.encode(held) if len(held) else None)
    if target is not None:
        _choose(model, rows, split, data, options, progress, wrong_of(propagated))
    if isinstance(target, Classes):
        shares = _shares(model, data["fit"], torch.tensor(rows.weight[split.fit]))
        model.state = replace(model.state, shares=tuple(shares.tolist()))
    return model


def _choose(
    model: Model,
    rows: Rows,
    split: Split,
    data: dict[str, Pair],
    options: FitOptions,
    progress: Progress,
    wrong: float,
) -> None:
    """What gives p(y | x); a share ``wrong`` of the labels may be wrong."""
    if model.pair.separate_predictor is not None:
        calibrate_shared_backbone(model, options.predictor, data, wrong)
        return
    choose = data["choose"]
    data = data | {"choose": choose._replace(x=as_float(choose.x))}
    try:
        choose_predictor(model, options, data, rows, split, progress)
    except KeyboardInterrupt:
        model.card["predictor"]["why"] = "interrupted: the family's own p(y | x) is kept"


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
        []
        if target is None
        else deciding_columns(model.codec, data, isinstance(target, Classes), target.name)
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


def _calibrate(model: Model, rows: Rows, split: Split, progress: Progress) -> None:
    if not len(split.calibrate):
        return
    with progress.phase("calibrating on held-out rows", 1) as bar:
        part = split.calibrate
        y = None if rows.y is None else rows.y[part]
        known = None if rows.known is None else rows.known[part]
        model.calibration = calibrate(model, rows.x.take(part), y, known)
        bar.update(1)


def card_of(rows: Rows, split: Split, options: FitOptions, config: Any) -> dict[str, Any]:
    """What the model card tells of the fit."""
    from conjoin import __version__

    hashes = row_hashes(rows.x)
    streamed = options.stream
    taught = len(split.fit) if streamed is None else streamed.rows
    more = {} if streamed is None else {"streamed": streamed.facts()}
    more |= {} if options.start is None else options.start.facts()
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

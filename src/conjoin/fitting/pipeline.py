"""From a frame and a target to a fitted model: split, encode, train, choose the predictor,
calibrate.

Rows are split three ways by a seeded hash of their content and never reused: fit; choose (early
stopping, temperature, predictor); calibrate (conformal ranks, error bounds). Where the calibration
part would be too small for a false-alarm rate of .05, none is taken from the fit.
"""

import hashlib
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conjoin.calibration.conformal import rows_for_error, rows_for_false_alarm
from conjoin.codecs.table import TableCodec
from conjoin.core import Event, Pair, as_float
from conjoin.families import name_of, resolve, suited
from conjoin.fitting.label_propagation import mostly_unlabelled, spread_labels
from conjoin.fitting.learning import Learning
from conjoin.fitting.precision import settle_precision
from conjoin.fitting.selection import (
    MIN_COMPARISON_ROWS,
    choose_predictor,
    refuse_without_columns,
    use_trunk,
    wrong_of,
)
from conjoin.joints.base import Joint
from conjoin.joints.hybrid import Hybrid
from conjoin.joints.monolithic import Monolithic
from conjoin.model.calibrate import calibrate
from conjoin.model.model import READINGS, Model
from conjoin.model.predictive import grid_for
from conjoin.model.targets import Classes, Number, Target
from conjoin.training.data import Split, canonical, row_hashes, split_rows
from conjoin.training.progress import Progress
from conjoin.util.energy import Meter

__all__ = ["Request", "Rows", "fit_model", "refit"]

VALIDATION_SHARE = 0.15
PRIOR_ROWS = 1000  # rows by which p(y) is known where labels are missing
MIN_VALIDATION_ROWS = 20  # rows; with fewer the model is not chosen by them


@dataclass(frozen=True)
class Rows:
    """What the user brought: rows of x, as a codec's ``rows`` holds them. ``y`` is None for a
    density; ``known`` marks labelled rows."""

    x: Any
    y: np.ndarray | None = None
    known: np.ndarray | None = None
    weight: np.ndarray | None = None
    groups: Any = None
    latest: np.ndarray | None = None
    name: str = "y"


@dataclass(frozen=True)
class Request:
    """How to fit. ``task`` is classes, number or density; ``spread``: whether labels are lent to
    rows that have none; ``stream``: the whole table, of which the rows are a sample (see
    streaming.Stream); ``start``: the model to begin from (see starting.Start)."""

    task: str
    family: Any = "circuit"
    predictor: Any = "auto"
    codec: Any = None  # None: that of a table
    seed: int = 0
    max_time: float | None = None
    max_kwh: float | None = None
    emphasis: Any = 0.0
    calibration: float = 0.2
    checkpoint: Path | None = None
    resume: bool = False
    verbose: bool = False
    spread: bool = True
    stream: Any = None
    start: Any = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, unit in (("max_time", "seconds"), ("max_kwh", "kilowatt-hours")):
            value = getattr(self, name)
            if value is not None and not (
                isinstance(value, int | float | np.number) and value >= 0
            ):
                raise ValueError(
                    f"{name} must be a number of {unit} (at least 0) or None, got {value!r}."
                )


def fit_model(rows: Rows, request: Request) -> Model:
    """A calibrated model. Raises ValueError with one sentence for data that can't be learned
    from."""
    config = resolve(request.family)
    progress = Progress(request.verbose)
    rows = _weighted(rows)
    with Meter() as meter:
        split = _split(rows, request)
        model = _learn(rows, split, request, config, progress)
        _calibrate(model, rows, split, progress)
    model.facts["energy"] = meter.energy.to_json()
    return model


def refit(rows: Rows, request: Request, model: Model) -> tuple[Any, dict[str, Pair], Split]:
    """p(x), or where the request is for classes the joint, of its family on new rows, in the
    columns, units and classes of a model; the rows that it has learned from, and how they were
    split."""
    rows = _weighted(rows)
    assert rows.weight is not None
    split = _split(rows, request)
    target = None if request.task == "density" else model.target
    data = {
        part: _events(rows, getattr(split, part), model.codec, target) for part in ("fit", "choose")
    }
    event, weight = canonical(data["fit"], torch.tensor(rows.weight[split.fit]))
    learning = Learning(
        request.family,
        request,
        target,
        model.codec.space,
        event,
        weight,
        data["choose"],
        request.max_time,
    )
    return learning.joint(Progress(request.verbose))[0], data, split


def _weighted(rows: Rows) -> Rows:
    """Rows of weight 0 do not exist."""
    count = len(rows.x)
    weight = np.ones(count) if rows.weight is None else np.asarray(rows.weight, dtype=float)
    if weight.shape != (count,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"sample_weight must be {count} finite numbers of at least 0.")
    if rows.groups is not None and len(rows.groups) != count:
        raise ValueError(f"groups has {len(rows.groups)} entries for {count} rows.")
    keep = np.flatnonzero(weight > 0)
    if not len(keep):
        raise ValueError("sample_weight is zero for every row: nothing is left to fit.")
    known = np.ones(count, dtype=bool) if rows.known is None else rows.known

    def part(value: Any) -> Any:
        return (
            None
            if value is None
            else np.asarray(value, dtype=object if value is rows.groups else None)[keep]
        )

    return replace(
        rows,
        x=rows.x if len(keep) == count else rows.x.take(keep),
        y=part(rows.y),
        known=known[keep],
        weight=weight[keep],
        groups=part(rows.groups),
        latest=part(rows.latest),
    )


def _split(rows: Rows, request: Request) -> Split:
    if request.stream is not None:
        return (
            _every_class(request.stream.split, rows)
            if request.task == "classes"
            else request.stream.split
        )
    count = len(rows.x)
    if not 0 <= request.calibration < 0.9:
        raise ValueError(
            f"calibration must be a share from 0 to under 0.9, got {request.calibration}."
        )
    most = (
        1.0
        if request.codec is None or request.codec.most_held is None
        else request.codec.most_held / max(count, 1)
    )
    held = (
        min(request.calibration, most)
        if count * request.calibration >= rows_for_false_alarm(0.05)
        else 0.0
    )
    chosen = (
        min(VALIDATION_SHARE, most)
        if count * VALIDATION_SHARE * (1 - held) >= MIN_VALIDATION_ROWS
        else 0.0
    )
    split = split_rows(row_hashes(rows.x, rows.groups), request.seed, chosen, held, rows.latest)
    return (
        _every_class(_labels_teach(split, rows, request), rows)
        if request.task == "classes"
        else split
    )


def _labels_teach(split: Split, rows: Rows, request: Request) -> Split:
    """The split; where labels are few, and too few of them are held out to promise anything about
    errors, or to choose by, those teach."""
    known = rows.known
    assert known is not None
    if not request.spread or not mostly_unlabelled(known):
        return split
    least = {"choose": MIN_COMPARISON_ROWS, "calibrate": rows_for_error(0.05)}
    few = [part for part in least if known[getattr(split, part)].sum() < least[part]]
    teach = np.concatenate(
        [split.fit, *(getattr(split, part)[known[getattr(split, part)]] for part in few)]
    )
    return split._replace(
        fit=np.sort(teach),
        **{part: getattr(split, part)[~known[getattr(split, part)]] for part in few},
    )


def _every_class(split: Split, rows: Rows) -> Split:
    """The split, with the held-out rows of any class that the fit would otherwise never see."""
    assert rows.y is not None and rows.known is not None
    seen = set(rows.y[split.fit][rows.known[split.fit]].tolist())
    lost = rows.known & ~np.isin(rows.y, list(seen))
    fit = np.sort(np.concatenate([split.fit, np.flatnonzero(lost)]))
    return Split(fit, *(part[~lost[part]] for part in (split.choose, split.calibrate)))


def _target(rows: Rows, fit: np.ndarray, request: Request) -> Target | None:
    """What y is; a number keeps the units of the model that the fit begins from."""
    if request.task == "density":
        return None
    assert rows.y is not None and rows.known is not None and rows.weight is not None
    if request.task == "classes":
        return Classes.fit(rows.y, rows.known, rows.name)
    if request.start is not None and isinstance(request.start.model.target, Number):
        return request.start.model.target
    return Number.fit(rows.y[fit], rows.known[fit], rows.name, rows.weight[fit])


def _learn(rows: Rows, split: Split, request: Request, config: Any, progress: Progress) -> Model:
    started = time.monotonic()
    codec = request.codec or TableCodec()
    assert rows.weight is not None
    if request.start is None:
        codec.bounded = config.density.bounded
        codec.fit(rows.x.take(split.fit), weight=rows.weight[split.fit])
    refuse_without_columns(codec, request.predictor)
    stands_in = suited(config, codec.space)
    config = config if stands_in.alone and request.task == "number" else stands_in
    config = config if request.stream is None else config.streamed()
    config = settle_precision(config, request)
    target = _target(rows, split.fit, request)
    data = {part: _events(rows, getattr(split, part), codec, target) for part in ("fit", "choose")}
    lent: dict[str, Any] = {}
    if request.spread and codec.space.flat and isinstance(target, Classes):
        data, lent = spread_labels(data, codec.space, len(target.labels))
    event, weight = canonical(data["fit"], torch.tensor(rows.weight[split.fit]))
    left = (
        None
        if request.max_time is None
        else max(0.0, request.max_time - (time.monotonic() - started))
    )
    read = None if request.stream is None else request.stream.reader(codec, target)
    learning = Learning(
        config, request, target, codec.space, event, weight, data["choose"], left, read
    )
    joint: Any
    joint, trained, weighed = learning.joint(progress)
    facts = (
        _facts(rows, split, request, config)
        | {"trained": asdict(trained)}
        | weighed
        | ({"labels": lent} if lent else {})
    )
    model = Model(codec, joint, target, facts=facts)
    model.remember(data["fit"].x)
    model.facts["notices"] = _notices(model, data["fit"])
    if isinstance(target, Number):
        model.facts["grid"] = grid_for(joint, data["fit"].y).tolist()
    if isinstance(joint, Hybrid):
        model.facts["predictor"] = use_trunk(joint, request.predictor, data, wrong_of(lent))
    elif isinstance(joint, Joint):
        weight_fit = torch.tensor(rows.weight[split.fit])
        try:
            choose_predictor(
                model,
                request.predictor,
                {part: pair._replace(x=as_float(pair.x)) for part, pair in data.items()},
                weight_fit,
                rows.x.take(split.fit),
                progress,
                request.seed,
            )
        except KeyboardInterrupt:
            model.facts["predictor"]["why"] = "interrupted: the family's own p(y | x) is kept"
    if isinstance(target, Classes):
        model.facts["shares"] = _shares(
            model, data["fit"], torch.tensor(rows.weight[split.fit])
        ).tolist()
    return model


def _shares(model: Model, fit: Pair, weight: torch.Tensor) -> torch.Tensor:
    """(K,) p(y) as p(y | x) has learned it: the shares of the labels, or its mean over some rows
    where labels are missing."""
    classes = len(model.classes.labels)
    if fit.y.mask.all():
        counts = torch.bincount(fit.y.value.long(), weights=weight, minlength=classes)
        return counts / counts.sum()
    with torch.no_grad():
        return model.pair.log_posterior(fit.x.take(slice(0, PRIOR_ROWS))).exp().mean(0)


def _notices(model: Model, data: Pair) -> list[str]:
    """What a density of x has to say about itself after the fit: that a latent space has collapsed,
    for example."""
    density = model.density_of_x
    return (
        []
        if isinstance(density, Monolithic)
        else density.notices(as_float(data.x.take(slice(0, 1000))))
    )


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


def _facts(rows: Rows, split: Split, request: Request, config: Any) -> dict[str, Any]:
    """What the model card tells of the fit."""
    from conjoin import __version__

    hashes = row_hashes(rows.x)
    streamed = request.stream
    taught = len(split.fit) if streamed is None else streamed.rows
    more = {} if streamed is None else {"streamed": streamed.facts()}
    more |= {} if request.start is None else request.start.facts()
    return {
        "task": request.task,
        "family": name_of(config),
        "settings": config.get_params(),
        "seed": request.seed,
        "readings": READINGS,
        "rows": {"fit": taught, "choose": len(split.choose), "calibrate": len(split.calibrate)},
        "data_sha256": hashlib.sha256(np.sort(hashes).tobytes()).hexdigest(),
        "split_sha256": hashlib.sha256(np.sort(hashes[split.fit]).tobytes()).hexdigest(),
        "versions": {
            "conjoin": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
    } | more

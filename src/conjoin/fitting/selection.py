"""Which p(y | x) goes with p(x): a pool, the family's own, a standard predictor, or one of the
user's.

By default p(y | x) is a pool (``conjoin.predictors.pool``): a linear model, gradient boosting and
extra trees are learned and judged fold by fold on all rows but those of the calibration, and their
weights are fitted to what they say of rows that they have not seen. What can't be learned fold by
fold, the family's own p(y | x) above all, is judged on the validation rows, and joins where that
gains more than a standard error. Without validation rows the family keeps its own.

Where most labels are missing or were propagated, one is chosen instead: the family's own, a linear
model (for images, a network), by their log-loss on validation rows.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Codec, Pair, Status, as_float
from conjoin.fitting.label_propagation import mostly_unlabelled
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pooling import Ready, pooled
from conjoin.fitting.split import Rows
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.model.model import Model
from conjoin.model.targets import Target
from conjoin.predictors import method as method_of
from conjoin.predictors import methods
from conjoin.predictors.base import Case, Method, Scorer
from conjoin.predictors.classifier import (
    MIN_COMPARISON_ROWS,
    Classifier,
    best_temperature,
    temperature_of,
)
from conjoin.predictors.external import OwnMethod
from conjoin.predictors.folds import dealt
from conjoin.predictors.pool import heard_by_folds, loss_of
from conjoin.predictors.residual import Residual
from conjoin.predictors.timing import seconds_by_method
from conjoin.training.data import Split, row_hashes
from conjoin.training.progress import Progress
from conjoin.util.budget import Budget

__all__ = [
    "calibrate_shared_backbone",
    "choose_predictor",
    "foresee_predictors",
    "refuse_without_columns",
    "wrong_of",
]

# labelled validation rows under which the standard predictors are compared on rows of the fit first
AMPLE_VALIDATION_ROWS = 200
MAX_CELLS_BEHIND = 256  # pixels and characters behind columns that standard predictors read
MIN_POOL_ROWS = 50  # labelled rows from which on folds tell predictors apart
STANDARDISING_ROWS = 1000  # rows by which the features of a trained network are standardised
WITHOUT_COLUMNS = "the standard predictors read columns, and there are none"


def choose_predictor(
    model: Model,
    options: FitOptions,
    data: dict[str, Pair],
    rows: Rows,
    split: Split,
    progress: Progress,
    budget: Budget,
    guessed: dict[str, float],
) -> None:
    """Put the chosen predictor beside the model's p(x); the state says which, the card why, and
    the log-loss of each. ``guessed``: of ``foresee_predictors``."""
    asked = _for_what_ignores_labels(model, options.predictor)
    told: dict[str, Any] = {"asked": _asked(options.predictor)}
    model.state = replace(model.state, predictor="family")
    model.card["predictor"] = told
    if asked is None:
        return
    told["why"] = _without_columns(model.codec, asked)
    if not told["why"]:
        options = replace(options, predictor=asked)
        _choose(model, options, data, rows, split, progress, budget, guessed, told)
    if model.state.predictor == "family":
        _temper_family(model, data["choose"], told)


def _choose(
    model: Model,
    options: FitOptions,
    data: dict[str, Pair],
    rows: Rows,
    split: Split,
    progress: Progress,
    budget: Budget,
    guessed: dict[str, float],
    told: dict[str, Any],
) -> None:
    """A pool, or the best alone, of what can read the rows."""
    asked = options.predictor
    case = _case(model, data["fit"], rows, split, options)
    auto = _is_auto(asked)
    bounded = _between_bounds(rows, split)
    if auto and not model.codec.space.flat and not _candidates(case, few=False):
        told["why"] = WITHOUT_COLUMNS
        return
    unlabelled = mostly_unlabelled(data["fit"].y.mask | bounded)
    lent = case.lent or unlabelled
    few = int(data["choose"].y.mask.sum()) < MIN_COMPARISON_ROWS
    learns = unlabelled and model.has_classes
    labelled = int(bounded.sum())
    labelled += sum(int(data[part].y.mask.sum()) for part in ("fit", "choose"))
    if auto and (few and not learns if lent else labelled < MIN_POOL_ROWS):
        told["why"] = "too few rows to compare predictors: the family's own p(y | x) is used"
    elif isinstance(asked, list | tuple) or (auto and not lent):
        names = list(asked) if isinstance(asked, list | tuple) else ["auto"]
        named = _named(model.codec, model.target, names, case)
        ready = Ready(budget, guessed, told)
        pooled(model, ready.in_time(named, case), data, case, rows, split, progress, ready)
        ready.tell()
    else:
        names = [asked] if not auto else _candidates(case, few)
        named = _named(model.codec, model.target, names, case)
        choose = data["choose"]
        data = data | {"choose": choose._replace(x=as_float(choose.x))}
        _choose_one(model, named, data, case, told, auto, few, progress, budget)
    if bool(bounded.any()) and "bounded" not in told:
        told["why"] += "; numbers of which only a bound is known taught it nothing"


def _between_bounds(rows: Rows, split: Split) -> Tensor:
    """(B,) the rows of the fit of whose number a bound is known."""
    low, high, _ = rows.bounds_at(split.fit)
    if low is None:
        return torch.zeros(len(split.fit), dtype=torch.bool)
    return torch.as_tensor(np.isfinite(low) | np.isfinite(high))


def foresee_predictors(
    options: FitOptions,
    codec: Codec,
    target: Target | None,
    data: dict[str, Pair],
    rows: Rows,
    split: Split,
    budget: Budget,
    config: Any = None,
) -> dict[str, float]:
    """Seconds that each of the predictors is likely to take, measured on a few rows; nothing where
    no time is set or none of them is learned beside p(x)."""
    asked = options.predictor
    if _is_auto(asked) and config is not None and config.density.read_by_network:
        asked = "geometry"
    if not budget.bounded or target is None or asked is None or _without_columns(codec, asked):
        return {}
    assert rows.weight is not None
    fit = data["fit"]
    classes = target.space.variables[0].cardinality if target.discrete else None
    weight = torch.tensor(rows.weight[split.fit])
    given = rows.x.take(split.fit)
    case = Case(
        codec.space,
        fit,
        weight,
        classes,
        options.seed,
        given=given,
        structures=codec.structures,
        wording=codec.wording,
        fast=options.fast,
    )
    if int(fit.y.mask.sum()) < MIN_POOL_ROWS:
        return {}
    named = _named(codec, target, list(asked) if isinstance(asked, list | tuple) else [asked], case)
    quick = {name: each for name, each in named.items() if not each.paced(case)}
    found = seconds_by_method(case, quick)
    paced = {
        name: budget.share(each.time_share) for name, each in named.items() if name not in quick
    }
    return found | paced


def _asked(predictor: Any) -> Any:
    if isinstance(predictor, list | tuple):
        return [_asked(each) for each in predictor]
    return predictor if isinstance(predictor, str) else type(predictor).__name__


def _for_what_ignores_labels(model: Model, asked: Any) -> Any:
    """What "auto" stands for where p(x) of rows without columns knows nothing of y: a network that
    begins as its own, or its features, if it has some."""
    pair = model.pair
    if _is_auto(asked) and pair.ignores_label and pair.density_of_x.read_by_network:
        return "geometry"
    can = pair.ignores_label and pair.source_of_features is not None
    return "features" if _is_auto(asked) and can and not model.codec.space.flat else asked


def _reads_features(asked: Any) -> bool:
    """Whether a predictor stands on the features of a fitted density, whatever its rows are."""
    if not isinstance(asked, str) or _is_auto(asked):
        return False
    found = method_of(asked)
    return not found.shared and all(scorer.on_features for scorer in found.scorers)


def _without_columns(codec: Codec, asked: Any) -> str:
    """Why no predictor that reads columns or texts can be had; nothing where one can."""
    if not codec.space.flat:
        if _reads_features(asked):
            return ""
        return WITHOUT_COLUMNS if codec.wording is None else ""
    behind = sum(math.prod(block.shape) for block in codec.space.blocks)
    if _is_auto(asked) and not codec.structures and behind > MAX_CELLS_BEHIND:
        return (
            f"the standard predictors would read {behind:,} pixels and characters one by one: the "
            "family's own p(y | x) is used"
        )
    return ""


def _temper_family(model: Model, choose: Pair, told: dict[str, Any]) -> None:
    """The temperature of the family's own p(y | x) of strings, by validation rows: characters of
    one text are no independent evidence, so that it is too sure of long ones. Only where that gains
    more than a standard error, since without it the whole joint model agrees."""
    held = choose.take(choose.y.mask)
    if model.codec.space.flat or not model.has_classes or held.rows < MIN_COMPARISON_ROWS:
        return
    gain, prior = model.log_gain(held.x)
    temperature = temperature_of(gain, held.y.value, prior=prior)
    if temperature <= 1:
        return
    own = held.y.value.long()[:, None]
    before, after = (
        (gain / each + prior).log_softmax(1).gather(1, own)[:, 0] for each in (1.0, temperature)
    )
    better = after - before
    if float(better.mean()) <= float(better.std()) / held.rows**0.5:
        return
    model.state = replace(model.state, temperature=temperature)
    told["why"] += f"; its certainty is that of the validation rows (temperature {temperature:.2f})"


def _named(codec: Codec, target: Target | None, asked: list[Any], case: Case) -> dict[str, Method]:
    """What is asked for, by name; "auto" stands for all that is tried."""
    out: dict[str, Method] = {}
    for each in asked:
        if _is_auto(each):
            out |= {name: method_of(name) for name in _candidates(case, few=False)}
        elif isinstance(each, str):
            out[each] = method_of(each)
        else:
            own = type(each).__name__
            name = own if own not in out else f"{own} {len(out) + 1}"
            out[name] = OwnMethod(each, codec, target)
    return out


def _choose_one(
    model: Model,
    methods: dict[str, Method],
    data: dict[str, Pair],
    case: Case,
    told: dict[str, Any],
    auto: bool,
    few: bool,
    progress: Progress,
    budget: Budget,
) -> None:
    """The best alone; what was asked for by name, or the only one, without a comparison, whatever
    time it takes."""
    scorers: dict[str, Scorer] = {}
    with progress.phase("choosing p(y | x)", len(methods)) as bar:
        if auto:
            methods, told["folds"] = _steadiest(methods, case, data["choose"])
        for done, (label, method) in enumerate(methods.items()):
            with budget.within(budget.free if method.paced(case) else math.inf):
                scorers[label] = method.fit(case)
            bar.update(done + 1, label)
    _keep_best(model, scorers, data, told, free=auto and not few)
    if auto and few:
        told["why"] = "few rows have a label: a predictor that needs few learns from all of them"
    if told.get("folds"):
        each = ", ".join(f"{name} {loss:.3f}" for name, loss in told["folds"].items())
        told["why"] += (
            "; as validation rows are few, the standard ones were compared by cross-validation "
            f"first ({each})"
        )


def _steadiest(
    methods: dict[str, Method], case: Case, choose: Pair
) -> tuple[dict[str, Method], dict[str, float]]:
    """Where validation rows are few, the best alone of what is learned fold by fold, on the rows of
    the fit; and the loss there of each."""
    rivals = {name: method for name, method in methods.items() if method.folds}
    if len(rivals) < 2 or int(choose.y.mask.sum()) >= AMPLE_VALIDATION_ROWS:
        return methods, {}
    heard = heard_by_folds(case, rivals)
    heard = heard.take(heard.judged())
    if not len(heard.y):
        return methods, {}
    loss = {name: loss_of(each, heard.y) for name, each in heard.scores.items()}
    best = min(loss, key=loss.__getitem__)
    kept = {name: each for name, each in methods.items() if name == best or name not in rivals}
    return kept, loss


def refuse_without_columns(codec: Codec, predictor: Any) -> None:
    """ValueError where a predictor is asked for that reads columns, and the data have none."""
    asked = predictor if isinstance(predictor, list | tuple) else [predictor]
    readable = [
        each is None or _is_auto(each) or _reads_texts(codec, each) or _reads_features(each)
        for each in asked
    ]
    if not codec.space.flat and not all(readable):
        raise ValueError(
            f"predictor={predictor!r} reads columns, and {codec.plural} have none: leave it "
            "at 'auto' or None; p(y | x) is then the family's own."
        )


def calibrate_shared_backbone(
    model: Model, asked: Any, data: dict[str, Pair], wrong: float = 0.0
) -> None:
    """Calibrate a predictor that was learned together with p(x), on validation rows of which a
    share may be ``wrong``; state and card say so."""
    choose = data["choose"]
    predictor: Any = model.pair.separate_predictor
    head = predictor.features_head
    held = choose.take(choose.y.mask & choose.x.mask.all(1))
    held = held._replace(x=as_float(held.x))
    if head is not None:
        head.settle(as_float(data["fit"].x.take(slice(0, STANDARDISING_ROWS))))
        if held.rows >= MIN_COMPARISON_ROWS:
            predictor.temperature.fill_(best_temperature(head, held, wrong))
    why = "as asked" if asked == "trunk" else "one network learned p(x) and p(y | x) together"
    model.state = replace(model.state, predictor="trunk")
    model.card["predictor"] = {"asked": asked, "why": why}


def _reads_texts(codec: Codec, predictor: Any) -> bool:
    """Whether that is a predictor of texts, and the data are some."""
    known = isinstance(predictor, str) and predictor in methods()
    return known and codec.wording is not None and method_of(predictor).reads_texts


def _is_auto(predictor: Any) -> bool:
    return isinstance(predictor, str) and predictor == "auto"


def _case(model: Model, fit: Pair, rows: Rows, split: Split, options: FitOptions) -> Case:
    classes = len(model.classes.labels) if model.has_classes else None
    source = None if classes is None else model.pair.source_of_features
    assert rows.weight is not None
    known = fit.y.mask.numpy()
    fold = np.full(fit.rows, -1)
    hashes = row_hashes(rows.x, rows.groups)[split.fit][known]
    told = fit.y.value.numpy()[known]
    fold[known] = dealt(told, classes, options.seed, hashes, options.fast)
    return Case(
        model.codec.space,
        fit,
        torch.tensor(rows.weight[split.fit]),
        classes,
        options.seed,
        source,
        _labels_propagated(model),
        rows.x.take(split.fit),
        fold,
        model.codec.structures,
        model.codec.wording,
        options.fast,
        model.pair,
    )


def _candidates(case: Case, few: bool) -> list[str]:
    """What "auto" tries; with few labels, what needs few; of molecules, what reads them."""
    known = methods().items()
    return [
        name
        for name, method in known
        if method.suits(case) and (method.for_few_labels(case) if few else method.tried(case))
    ]


def wrong_of(propagated: dict[str, Any]) -> float:
    """The share of lent labels that is likely to be wrong; 0 where none were lent."""
    return float(propagated["error_of_spread"]) if propagated.get("spread_to") else 0.0


def _labels_propagated(model: Model) -> bool:
    """Whether rows without a label were lent one: see ``conjoin.fitting.label_propagation``."""
    return bool(model.card.get("labels", {}).get("spread_to"))


def _calibrated(model: Model, scorer: Scorer, held: Pair, wrong: float = 0.0) -> Predictor:
    """p(y | x) from a scorer and labelled rows that it has not seen, of which a share may be
    ``wrong``. The user's own classifier keeps its own word."""
    scorer = scorer.tuned(held, model.has_classes)
    if model.has_classes:
        return Classifier.calibrated(scorer, held, wrong)
    return Residual.calibrated(scorer, held, model.pair.target.resolution or 0.0)


def _keep_best(
    model: Model,
    scorers: dict[str, Scorer],
    data: dict[str, Pair],
    told: dict[str, Any],
    free: bool,
) -> None:
    """The least log-loss; the family's own p(y | x) unless it is beaten by more than a standard
    error (of row by row differences), since only with its own is the whole joint model exact. Where
    most rows have no label, it must win by as much instead, since it learned mostly from those.
    Simply the least where that error says little: see ``_unsure``."""
    held = data["choose"].take(data["choose"].y.mask)
    losses = _losses(model, scorers, held)
    told["log_loss"] = {name: float(loss.mean()) for name, loss in losses.items()}
    name = min(scorers, key=lambda each: told["log_loss"].get(each, 0.0))
    told["why"] = "as asked"
    if free:
        gain = losses["family"] - losses[name]
        error = float(gain.std()) / len(gain) ** 0.5
        few = mostly_unlabelled(data["fit"].y.mask)
        if float(gain.mean()) <= (0.0 if _unsure(model) else -error if few else error):
            won = (
                "the family's own p(y | x) beats the others"
                if few
                else "no predictor beats the family's own p(y | x)"
            )
            told["why"] = (
                f"on validation rows {won} by more than a standard error ({error:.3f} nats)"
            )
            return
        told["why"] = (
            f"on validation rows its log-loss is {float(gain.mean()):.3f} nats less than the "
            f"family's own (standard error {error:.3f})"
        )
        told["why"] += (
            "; most labels there were lent by the rows about them"
            if _labels_propagated(model)
            else ""
        )
    model.state = replace(model.state, predictor=name)
    fit = data["fit"].take(data["fit"].y.mask)
    # errors must be had from somewhere
    by = held if held.rows or model.has_classes else fit
    model.joint = Hybrid(
        model.pair, _calibrated(model, scorers[name], by, wrong_of(model.card.get("labels", {})))
    )


def _unsure(model: Model) -> bool:
    """Where labels were mostly lent, a few wrong loans cost much; and beside a picture the family's
    own word may be the difference of two bounds."""
    bounds = len(model.codec.parts) > 1 and model.pair.status["predict_proba"] is Status.APPROXIMATE
    return _labels_propagated(model) or bounds


@torch.no_grad()
def _losses(model: Model, scorers: dict[str, Scorer], held: Pair) -> dict[str, Tensor]:
    """-log p(y | x) of held-out rows, nats: a scorer is calibrated on one half of them and judged
    on the other."""
    if held.rows < MIN_COMPARISON_ROWS:
        return {}
    halves = [held.take(slice(start, None, 2)) for start in (0, 1)]
    base = model.pair
    own = [
        -base.log_label_given(half)
        if base.ignores_label
        else base.log_evidence(half.x) - base.log_prob(half)
        for half in halves
    ]
    losses = {"family": torch.cat(own)}
    for name, scorer in scorers.items():
        judged = [
            (_calibrated(model, scorer, other), half)
            for half, other in zip(halves, halves[::-1], strict=True)
        ]
        losses[name] = torch.cat(
            [-each.log_prob(half.x, half.y.value[:, None])[:, 0] for each, half in judged]
        )
    return losses

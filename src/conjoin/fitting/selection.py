"""Which p(y | x) goes with p(x): the family's own, a standard predictor, or one of the user's.

By default the family's own p(y | x), a linear model and gradient boosting are compared by their
log-loss on validation rows; a predictor is taken where it is better by more than a standard error.
Without validation rows the family keeps its own, and where they are few, the linear model and
boosting are first compared on the rows of the fit, so that only one of them can win by chance.
If few rows have a label, a linear model (for images, a network) is fitted to all of them. For
images, and if labels were propagated to unlabelled rows, a small network is tried too: it is
flexible enough for propagated labels. For images it is convolutional and trained on moved copies.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Codec, Pair, Rows, Status, as_float
from conjoin.fitting.label_propagation import mostly_unlabelled
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.model.model import Model
from conjoin.model.targets import Classes
from conjoin.predictors import method as method_of
from conjoin.predictors import methods
from conjoin.predictors.base import Case, Scorer
from conjoin.predictors.classifier import MIN_COMPARISON_ROWS, Classifier, best_temperature
from conjoin.predictors.external import fit_own
from conjoin.predictors.residual import Residual
from conjoin.training.progress import Progress

__all__ = ["calibrate_shared_backbone", "choose_predictor", "refuse_without_columns", "wrong_of"]

# labelled validation rows under which the standard predictors are compared on rows of the fit first
AMPLE_VALIDATION_ROWS = 200
FOLDS = 3  # of these rows
MAX_CELLS_BEHIND = 256  # pixels and characters behind columns that standard predictors read
STANDARDISING_ROWS = 1000  # rows by which the features of a trained network are standardised


def choose_predictor(
    model: Model,
    predictor: Any,
    data: dict[str, Pair],
    weight: Tensor,
    rows: Rows,
    progress: Progress,
    seed: int,
) -> None:
    """Put the chosen predictor beside the model's p(x); the state says which, the card why, and
    the log-loss of each."""
    told: dict[str, Any] = {
        "asked": predictor if isinstance(predictor, str) else type(predictor).__name__,
    }
    model.state = replace(model.state, predictor="family")
    model.card["predictor"] = told
    why = ""
    if predictor is None:
        return
    if not model.codec.space.flat:
        told["why"] = "the standard predictors read columns, and there are none"
        return
    behind = sum(math.prod(block.shape) for block in model.codec.space.blocks)
    if predictor == "auto" and behind > MAX_CELLS_BEHIND:
        told["why"] = (
            f"the standard predictors would read {behind:,} pixels and characters one by one: the "
            "family's own p(y | x) is used"
        )
        return
    case = _case(model, data["fit"], weight, seed)
    names = _candidates(case) if predictor == "auto" else [predictor]
    if predictor == "auto" and int(data["choose"].y.mask.sum()) < MIN_COMPARISON_ROWS:
        if not isinstance(model.target, Classes) or not mostly_unlabelled(data["fit"].y.mask):
            told["why"] = "too few rows to compare predictors: the family's own p(y | x) is used"
            return
        names = [name for name, method in methods().items() if method.for_few_labels(case)]
        why = "few rows have a label: a predictor that needs few learns from all of them"
    scorers: dict[str, Scorer] = {}
    with progress.phase("choosing p(y | x)", len(names)) as bar:
        if predictor == "auto":
            names, told["folds"] = _steadiest(model, names, case, data["choose"])
        for done, name in enumerate(names):
            label = name if isinstance(name, str) else type(name).__name__
            scorers[label] = _scorer(model, name, case, rows)
            bar.update(done + 1, label)
    _keep_best(model, scorers, data, told, free=predictor == "auto" and not why)
    told["why"] = why or told["why"]
    if told.get("folds"):
        each = ", ".join(f"{name} {loss:.3f}" for name, loss in told["folds"].items())
        told["why"] += (
            "; as validation rows are few, the standard ones were compared by cross-validation "
            f"first ({each})"
        )


def refuse_without_columns(codec: Codec, predictor: Any) -> None:
    """ValueError where a predictor is asked for that reads columns, and the data have none."""
    if not codec.space.flat and predictor not in ("auto", None):
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


def _case(model: Model, fit: Pair, weight: Tensor, seed: int) -> Case:
    classes = len(model.target.labels) if isinstance(model.target, Classes) else None
    source = None if classes is None else model.pair.source_of_features
    return Case(model.codec.space, fit, weight, classes, seed, source, _labels_propagated(model))


def _candidates(case: Case) -> list[str]:
    """What "auto" tries."""
    return [name for name, method in methods().items() if method.tried(case)]


def _steadiest(
    model: Model, names: list[str], case: Case, choose: Pair
) -> tuple[list[str], dict[str, float]]:
    """Where validation rows are few, the best alone of the linear model and boosting, by
    cross-validation on the rows of the fit; and the log-loss there of each."""
    rivals = [name for name in names if method_of(name).stable]
    held = choose.take(choose.y.mask)
    if len(rivals) < 2 or held.rows >= AMPLE_VALIDATION_ROWS:
        return names, {}
    fit, weight = case.labelled
    fold = torch.empty(fit.rows, dtype=torch.long)
    fold[fit.y.value.argsort(stable=True)] = (
        torch.arange(fit.rows) % FOLDS
    )  # every class in every fold
    _, place, count = fit.y.value.unique(return_inverse=True, return_counts=True)
    always = (
        count[place] < FOLDS
        if isinstance(model.target, Classes)
        else torch.zeros(fit.rows, dtype=torch.bool)
    )
    if always.all():
        return names, {}
    loss = dict.fromkeys(rivals, 0.0)
    for name in rivals:
        for number in range(FOLDS):
            learn = (fold != number) | always
            judged = fit.take((fold == number) & ~always)
            part = replace(case, rows=fit.take(learn), weight=weight[learn])
            scorer = _calibrated(model, method_of(name).fit(part), held)
            with torch.no_grad():
                loss[name] -= float(scorer.log_prob(judged.x, judged.y.value[:, None]).sum()) / int(
                    (~always).sum()
                )
    best = min(rivals, key=loss.__getitem__)
    return [name for name in names if name == best or name not in rivals], loss


def wrong_of(propagated: dict[str, Any]) -> float:
    """The share of lent labels that is likely to be wrong; 0 where none were lent."""
    return float(propagated["error_of_spread"]) if propagated.get("spread_to") else 0.0


def _labels_propagated(model: Model) -> bool:
    """Whether rows without a label were lent one: see ``conjoin.fitting.label_propagation``."""
    return bool(model.card.get("labels", {}).get("spread_to"))


def _scorer(model: Model, predictor: Any, case: Case, given: Rows) -> Scorer:
    if isinstance(predictor, str):
        scorer: Scorer = method_of(predictor).fit(case)
        return scorer
    return fit_own(predictor, model.codec, model.target, case.rows, given)


def _calibrated(model: Model, scorer: Scorer, held: Pair, wrong: float = 0.0) -> Predictor:
    """p(y | x) from a scorer and labelled rows that it has not seen, of which a share may be
    ``wrong``. The user's own classifier keeps its own word."""
    classes = isinstance(model.target, Classes)
    scorer = scorer.tuned(held, classes)
    if classes:
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
    by = (
        held if held.rows or isinstance(model.target, Classes) else fit
    )  # errors must be had from somewhere
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
    losses = {
        "family": torch.cat([base.log_evidence(half.x) - base.log_prob(half) for half in halves])
    }
    for name, scorer in scorers.items():
        judged = [
            (_calibrated(model, scorer, other), half)
            for half, other in zip(halves, halves[::-1], strict=True)
        ]
        losses[name] = torch.cat(
            [-each.log_prob(half.x, half.y.value[:, None])[:, 0] for each, half in judged]
        )
    return losses

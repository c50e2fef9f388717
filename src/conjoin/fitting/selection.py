"""Which p(y | x) goes with p(x): the family's own, a standard predictor, or one of the user's.

By default the family's own p(y | x), a linear model and gradient boosting are compared by their
log-loss on choose-rows; a predictor is taken where it is better by more than a standard error.
Without choose-rows the family keeps its own, and where they are few, the linear model and boosting
are first compared on the rows of the fit, so that only one of them can win by chance. Where few
rows have a label, all of those teach a linear model (of images a network). Where labels were lent
to rows that had none, and for images, a small network is tried too: it can follow such labels, and
of images it is convolutional and sees moved copies.
"""

import inspect
import warnings
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from conjoin.core import Codec, Density, Event, Pair, Rows, Status, as_float, stream
from conjoin.fitting.label_propagation import mostly_unlabelled
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.independent import Independent
from conjoin.model.model import Model
from conjoin.model.targets import Classes, Number
from conjoin.nets.pictures import pictured
from conjoin.predictors.convolutional import fit_convolutional
from conjoin.predictors.logistic import logistic
from conjoin.predictors.scorers import (
    Classifier,
    Design,
    External,
    Features,
    Residual,
    Scorer,
    Trees,
    convert,
)
from conjoin.training.progress import Progress

__all__ = [
    "MIN_COMPARISON_ROWS",
    "PREDICTORS",
    "choose_predictor",
    "refuse_without_columns",
    "use_trunk",
    "wrong_of",
]

PREDICTORS = ("auto", "linear", "boosting", "network", "features", "trunk", None)
MIN_COMPARISON_ROWS = 20  # labelled choose-rows by which predictors can be compared
# labelled choose-rows under which the standard predictors are compared on rows of the fit first
FEW_VALIDATION_ROWS = 200
FOLDS = 3  # of these rows
RESIDUALS = 64  # quantiles kept of a regressor's held-out errors
ABSENT = -30.0  # the logit of a class without a complete row
TEMPERATURE_DEVIATION = (
    0.35  # standard deviation of the log of a temperature, before any row is seen
)
BINS = 10  # bins of the point, by which those errors are scaled
HIDDEN = 256  # units of a network
NETWORK_ROWS = 200_000  # rows that it sees in its fit, each as often as there are epochs
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
    """Put the chosen predictor beside the model's p(x); facts["predictor"] says which, and the
    log-loss of each."""
    facts: dict[str, Any] = {
        "chosen": "family",
        "asked": predictor if isinstance(predictor, str) else type(predictor).__name__,
    }
    model.facts["predictor"] = facts
    why = ""
    if predictor is None or predictor == "trunk":  # the trunk was learned together with p(x)
        facts |= {"chosen": "trunk", "why": "as asked"} if predictor == "trunk" else {}
        return
    if isinstance(predictor, str) and predictor not in PREDICTORS:
        choices = ", ".join(map(str, PREDICTORS))
        raise ValueError(
            f"predictor must be {choices} or a scikit-learn estimator, got {predictor!r}."
        )
    if not model.codec.space.flat:
        facts["why"] = "the standard predictors read columns, and there are none"
        return
    names = _candidates(model) if predictor == "auto" else [predictor]
    if predictor == "auto" and int(data["choose"].y.mask.sum()) < MIN_COMPARISON_ROWS:
        if not isinstance(model.target, Classes) or not mostly_unlabelled(data["fit"].y.mask):
            facts["why"] = "too few rows to compare predictors: the family's own p(y | x) is used"
            return
        names = ["linear"] if model.codec.columnwise else ["network"]
        why = "few rows have a label: a predictor that needs few learns from all of them"
    scorers: dict[str, Scorer] = {}
    with progress.phase("choosing p(y | x)", len(names)) as bar:
        if predictor == "auto":
            names, facts["folds"] = _steadiest(model, names, data, weight, seed)
        for done, name in enumerate(names):
            label = name if isinstance(name, str) else type(name).__name__
            scorers[label] = _scorer(model, name, data["fit"], weight, rows, seed)
            bar.update(done + 1, label)
    _keep_best(model, scorers, data, facts, free=predictor == "auto" and not why)
    facts["why"] = why or facts["why"]
    if facts.get("folds"):
        each = ", ".join(f"{name} {loss:.3f}" for name, loss in facts["folds"].items())
        facts["why"] += (
            "; as choose-rows are few, the standard ones were compared by cross-validation "
            f"first ({each})"
        )


def refuse_without_columns(codec: Codec, predictor: Any) -> None:
    """ValueError where a predictor is asked for that reads columns, and the data have none."""
    if not codec.space.flat and predictor not in ("auto", None):
        raise ValueError(
            f"predictor={predictor!r} reads columns, and {codec.plural} have none: leave it "
            "at 'auto' or None; p(y | x) is then the family's own."
        )


def use_trunk(
    joint: Hybrid, asked: Any, data: dict[str, Pair], wrong: float = 0.0
) -> dict[str, Any]:
    """Calibrate a predictor that was learned together with p(x), on choose-rows of which a share
    may be ``wrong``; facts for the card."""
    choose = data["choose"]
    predictor = joint.predictor
    held = choose.take(choose.y.mask & choose.x.mask.all(1))
    held = held._replace(x=as_float(held.x))
    if isinstance(predictor, Classifier) and isinstance(predictor.scorer, Features):
        predictor.scorer.settle(as_float(data["fit"].x.take(slice(0, STANDARDISING_ROWS))))
        if held.rows >= MIN_COMPARISON_ROWS:
            predictor.temperature.fill_(_temperature(predictor.scorer, held, wrong))
    why = "as asked" if asked == "trunk" else "one network learned p(x) and p(y | x) together"
    return {"chosen": "trunk", "asked": asked, "why": why}


def _candidates(model: Model) -> list[str]:
    """What "auto" tries. Of pixels, only a network learns that small moves keep the label: there,
    lent labels go to it alone."""
    lent = _lent(model)
    image = pictured(model.codec.space) is not None
    plain = not (lent and image)
    names = {
        "linear": plain,
        "network": lent or image,
        "boosting": plain,
        "features": _source(model) is not None,
    }
    return [name for name, tried in names.items() if tried]


def _steadiest(
    model: Model, names: list[str], data: dict[str, Pair], weight: Tensor, seed: int
) -> tuple[list[str], dict[str, float]]:
    """Where choose-rows are few, the better alone of the linear model and boosting, by
    cross-validation on the rows of the fit; and the log-loss there of each."""
    rivals = [name for name in names if name in ("linear", "boosting")]
    held = data["choose"].take(data["choose"].y.mask)
    if len(rivals) < 2 or held.rows >= FEW_VALIDATION_ROWS:
        return names, {}
    known = data["fit"].y.mask
    fit = data["fit"].take(known)
    weight = weight[known]
    fold = torch.empty(fit.rows, dtype=torch.long)
    # every class in every fold
    fold[fit.y.value.argsort(stable=True)] = torch.arange(fit.rows) % FOLDS
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
            scorer = _calibrated(
                model, _standard(model, name, fit.take(learn), weight[learn], seed), held
            )
            with torch.no_grad():
                loss[name] -= float(scorer.log_prob(judged.x, judged.y.value[:, None]).sum()) / int(
                    (~always).sum()
                )
    best = min(rivals, key=loss.__getitem__)
    return [name for name in names if name == best or name not in rivals], loss


def wrong_of(lent: dict[str, Any]) -> float:
    """The share of lent labels that is likely to be wrong; 0 where none were lent."""
    return float(lent["error_of_spread"]) if lent.get("spread_to") else 0.0


def _lent(model: Model) -> bool:
    """Whether rows without a label were lent one: see ``conjoin.fitting.label_propagation``."""
    return bool(model.facts.get("labels", {}).get("spread_to"))


def _scorer(
    model: Model, predictor: Any, fit: Pair, weight: Tensor, given: Rows, seed: int
) -> Scorer:
    if predictor == "features":
        return _on_features(model, fit, weight)
    if isinstance(predictor, str):
        return _standard(model, predictor, fit, weight, seed)
    return _own(model, predictor, fit, given)


def _calibrated(model: Model, scorer: Scorer, held: Pair, wrong: float = 0.0) -> Predictor:
    """p(y | x) from a scorer and labelled rows that it has not seen, of which a share may be
    ``wrong``. The user's own classifier keeps its own word."""
    classes = isinstance(model.target, Classes)
    if isinstance(scorer, Trees) and held.rows:
        scorer = _shorten(scorer, held, classes)
    if classes:
        return Classifier(
            scorer,
            1.0
            if isinstance(scorer, External) or held.rows < MIN_COMPARISON_ROWS
            else _temperature(scorer, held, wrong),
        )
    residual = Residual(
        scorer, RESIDUALS, max(1, min(BINS, held.rows // 40)), model.pair.target.resolution or 0.0
    )
    with torch.no_grad():
        return residual.fit(scorer.scores(held.x)[:, 0], held.y.value)


def _standard(model: Model, name: str, fit: Pair, weight: Tensor, seed: int) -> Scorer:
    labelled = fit.take(fit.y.mask)
    weight = weight[fit.y.mask]
    classes = (
        model.target.space.variables[0].cardinality if isinstance(model.target, Classes) else None
    )
    if name == "network" and pictured(model.codec.space) is not None:
        return fit_convolutional(
            model.codec.space, labelled, weight, classes, stream(seed, "network")
        )
    design = Design(model.codec.space).fit(labelled.x)
    table = _table(design, name, labelled.x)
    y = labelled.y.value.numpy()
    if name == "linear" and classes is not None:
        return _converted(logistic(table, y.astype(np.int64), weight.numpy()), design, labelled)
    estimator = _estimator(name, classes is not None, seed, len(table))
    # networks of scikit-learn 1.6 can't be told weights
    able = "sample_weight" in inspect.signature(estimator.fit).parameters
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
        estimator.fit(
            table,
            y if classes is None else y.astype(np.int64),
            **({"sample_weight": weight.numpy()} if able else {}),
        )
    return _converted(estimator, design, labelled)


def _converted(estimator: Any, design: Design, labelled: Pair) -> Scorer:
    scorer = convert(estimator, design, labelled.x.take(slice(0, 256)))
    assert scorer is not None
    return scorer


def _table(design: Design, name: str, x: Event) -> np.ndarray:
    """Rows as the estimator sees them: missing numbers are NaN for trees, and networks learn in
    float32."""
    table = design.matrix(x, torch.nan if name == "boosting" else 0.0).numpy()
    return table.astype(np.float32) if name == "network" else table


def _source(model: Model) -> Density | None:
    """The density whose features a classifier of x can stand on."""
    if not isinstance(model.joint, ClassConditional | Independent) or not isinstance(
        model.target, Classes
    ):
        return None
    density: Density = model.joint.density
    return density if density.capabilities.features else None


def _on_features(model: Model, fit: Pair, weight: Tensor) -> Scorer:
    """Logistic regression on what the density has learned to see."""
    from sklearn.linear_model import LogisticRegression

    density = _source(model)
    if density is None:
        raise ValueError(
            "predictor='features' needs classes and a family that has features, which "
            f"{type(model.pair).__name__} here has not."
        )
    keep = fit.y.mask & fit.x.mask.all(1)
    rows = fit.take(keep)
    with torch.no_grad():
        width = density.features(rows.x.take(slice(0, 1))).shape[1]
        scorer = Features(density, (model.classes.space.variables[0].cardinality, width)).start(
            rows.x
        )
        table = scorer.features(rows.x).numpy()
        linear = LogisticRegression(max_iter=2000, C=0.1).fit(
            table, rows.y.value.numpy().astype(np.int64), sample_weight=weight[keep].numpy()
        )
        scorer.weight[torch.as_tensor(linear.classes_)] = torch.as_tensor(_all_rows(linear.coef_))
        scorer.bias.fill_(ABSENT)[torch.as_tensor(linear.classes_)] = torch.as_tensor(
            _all_rows(linear.intercept_[:, None])[:, 0]
        )
    return scorer.requires_grad_(False)


def _all_rows(rows: np.ndarray) -> np.ndarray:
    """A binary classifier has one row of logits, for the second class."""
    return np.concatenate([np.zeros_like(rows), rows]) if len(rows) == 1 else rows


def _estimator(name: str, classes: bool, seed: int, rows: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if name == "linear":
        return Ridge()
    if name == "network":
        network = MLPClassifier if classes else MLPRegressor
        return network(
            hidden_layer_sizes=(HIDDEN,),
            learning_rate_init=2e-3,
            max_iter=max(3, min(200, NETWORK_ROWS // rows)),
            random_state=seed,
        )
    boosting = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return boosting(max_iter=200, learning_rate=0.08, early_stopping=False, random_state=seed)


def _shorten(trees: Trees, held: Pair, classes: bool) -> Trees:
    """As many boosting rounds as do best on held-out rows."""
    with torch.no_grad():
        scores = trees.base + trees.contributions(held.x).cumsum(1)  # (B, I, K)
        if classes:
            loss = (
                -scores.log_softmax(-1)
                .gather(2, held.y.value.long()[:, None, None].expand(-1, scores.shape[1], 1))
                .mean((0, 2))
            )
        else:
            loss = (scores[..., 0] - held.y.value[:, None]).square().mean(0)
    return trees.keep(int(loss.argmin()) + 1)


def _own(model: Model, estimator: Any, fit: Pair, given: Rows) -> Scorer:
    """The user's estimator. Frozen estimators and pipelines see the user's own columns, others see
    numbers."""
    from sklearn.base import clone
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline

    classes = model.target.labels if isinstance(model.target, Classes) else None
    asked = "predict" if classes is None else "predict_proba"
    if getattr(estimator, asked, None) is None:
        raise ValueError(
            f"predictor={type(estimator).__name__} has no {asked}: p(y | x) can't be had from it."
        )
    first = given.take(slice(0, 1)).frame.iloc[0]
    if isinstance(estimator, FrozenEstimator):
        return External(_in_event_units(estimator, model), classes, model.codec, first)
    labelled = fit.y.mask.numpy()
    assert model.target is not None
    y = model.target.decode(fit.y.value[fit.y.mask])
    if isinstance(estimator, Pipeline):
        fitted = clone(estimator).fit(given.frame[labelled], y)
        return External(_in_event_units(fitted, model), classes, model.codec, first)
    rows = fit.take(fit.y.mask)
    design = Design(model.codec.space).fit(rows.x)
    codes = rows.y.value.numpy().astype(np.int64) if classes is not None else rows.y.value.numpy()
    fitted = clone(estimator).fit(design.matrix(rows.x).numpy(), codes)
    return convert(fitted, design, rows.x.take(slice(0, 256))) or External(
        _OnDesign(fitted, design, classes), classes
    )


class _OnDesign:
    """An estimator fitted on design matrices and codes, seen as one of events and labels."""

    def __init__(self, estimator: Any, design: Design, classes: np.ndarray | None) -> None:
        self.estimator = estimator
        self.design = design
        self.classes_ = None if classes is None else classes[estimator.classes_]

    def predict(self, x: Event) -> np.ndarray:
        return np.asarray(self.estimator.predict(self.design.matrix(x).numpy()))

    def predict_proba(self, x: Event) -> np.ndarray:
        return np.asarray(self.estimator.predict_proba(self.design.matrix(x).numpy()))


class _Standardised:
    """A user's regressor, its numbers in event units."""

    def __init__(self, estimator: Any, number: Number) -> None:
        self.estimator = estimator
        self.number = number

    def predict(self, frame: Any) -> np.ndarray:
        return (
            np.asarray(self.estimator.predict(frame), dtype=float) - self.number.shift
        ) / self.number.scale


def _in_event_units(estimator: Any, model: Model) -> Any:
    return _Standardised(estimator, model.target) if isinstance(model.target, Number) else estimator


def _temperature(scorer: Scorer, held: Pair, wrong: float = 0.0) -> float:
    """The temperature with the least log-loss on held-out rows, leaning on 1: a few rows that
    happen to be all right would ask for boundless certainty. A share ``wrong`` of the labels is
    taken to be of any other class."""
    with torch.no_grad():
        scores = scorer.scores(held.x)
        label = held.y.value.long()[:, None]
    others = wrong / max(scores.shape[1] - 1, 1)
    target = torch.full_like(scores, others).scatter(1, label, 1 - wrong)

    def loss(log_temperature: float) -> float:
        fit = -float((target * (scores / np.exp(log_temperature)).log_softmax(1)).sum())
        return fit + 0.5 * (log_temperature / TEMPERATURE_DEVIATION) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-1.5, 2.5), method="bounded").x))


def _keep_best(
    model: Model,
    scorers: dict[str, Scorer],
    data: dict[str, Pair],
    facts: dict[str, Any],
    free: bool,
) -> None:
    """The least log-loss; the family's own p(y | x) unless it is beaten by more than a standard
    error (of row by row differences), since only with its own is the whole joint model exact. Where
    most rows have no label, it must win by as much instead, since it learned mostly from those.
    Simply the least where that error says little: see ``_unsure``."""
    held = data["choose"].take(data["choose"].y.mask)
    losses = _losses(model, scorers, held)
    facts["log_loss"] = {name: float(loss.mean()) for name, loss in losses.items()}
    name = min(scorers, key=lambda each: facts["log_loss"].get(each, 0.0))
    facts["why"] = "as asked"
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
            facts["why"] = f"on choose-rows {won} by more than a standard error ({error:.3f} nats)"
            return
        facts["why"] = (
            f"on choose-rows its log-loss is {float(gain.mean()):.3f} nats less than the "
            f"family's own (standard error {error:.3f})"
        )
        facts["why"] += (
            "; most labels there were lent by the rows about them" if _lent(model) else ""
        )
    facts["chosen"] = name
    fit = data["fit"].take(data["fit"].y.mask)
    # errors must be had from somewhere
    by = held if held.rows or isinstance(model.target, Classes) else fit
    model.joint = Hybrid(
        model.pair, _calibrated(model, scorers[name], by, wrong_of(model.facts.get("labels", {})))
    )


def _unsure(model: Model) -> bool:
    """Where labels were mostly lent, a few wrong loans cost much; and beside a picture the family's
    own word may be the difference of two bounds."""
    bounds = len(model.codec.parts) > 1 and model.pair.status["predict_proba"] is Status.APPROXIMATE
    return _lent(model) or bounds


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

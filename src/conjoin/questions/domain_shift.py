"""A model in another place: new shares of the classes and, if asked, a new p(x), from rows without
labels."""

from dataclasses import asdict, replace
from typing import Any

from conjoin.core import Density, Event, Pair
from conjoin.core import Rows as CodecRows
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import refit
from conjoin.fitting.selection import calibrate_shared_backbone
from conjoin.fitting.self_training import MIN_CERTAINTY, Answers, answers, most_certain
from conjoin.fitting.split import Rows
from conjoin.fitting.warm_start import Start
from conjoin.joints.hybrid import Hybrid
from conjoin.joints.independent import Independent
from conjoin.joints.reweighted import Posterior
from conjoin.model.calibrate import calibrate
from conjoin.model.model import Model
from conjoin.questions.label_shift import MIN_SHARES_P_VALUE, Change, adapt, after_self_training
from conjoin.training.data import Split

__all__ = ["adapt_to", "change_of"]

REFITTED = (
    "p(x) was fitted anew on {fit:,} of the new rows; {held} false alarms, and nothing bounds "
    "errors: "
    "call calibrate(X, y) with labelled rows of the new place."
)
SELF_TRAINING_ROUNDS = 2
NOT_FOLLOWED = (
    "p(y | x) did not follow, as its answers on the new rows tell too little ({unsure:.0%} of "
    "what certain ones would): label some rows "
    "and fit with start_from. "
)


def adapt_to(
    model: Model, X: Any, *, density: bool = False, max_time: float | None = None, seed: int = 0
) -> Model:
    """A model for the place that the rows ``X`` come from, in which the classes have other shares.

    Parameters
    ----------
    X
        Rows without labels.
    density
        Whether p(x) is fitted anew on ``X``; p(x | y) is no longer kept then.
    max_time
        Seconds for that fit; None for no limit.
    seed
        Of every draw.

    Raises
    ------
    ValueError
        For a model whose target is no class.
    """
    if not model.has_classes:
        what = (
            "has no target" if model.target is None else f"predicts a number, {model.target.name!r}"
        )
        raise ValueError(
            f"adapt finds new shares of classes, and this model {what}: fit again on rows of "
            "the new place."
        )
    fresh, change = adapt(model, X, seed)
    if density:
        change = _moved(fresh, model, X, change, max_time, seed)
    fresh.state = replace(fresh.state, adapted=tuple(change.new))
    fresh.card["adapted"] = asdict(change)
    return fresh


def change_of(model: Model) -> Change:
    """What the last ``adapt_to`` found. AttributeError for a model that was not adapted."""
    found = model.card.get("adapted")
    if found is None:
        raise AttributeError(
            "This model was not adapted: call adapt(X) with rows of the new place."
        )
    kept: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
    }
    return Change(**kept)


def _moved(
    fresh: Model, model: Model, X: Any, change: Change, max_time: float | None, seed: int
) -> Change:
    """Give ``fresh`` a p(x) of the new rows, beside p(y | x) in the new shares or one that has
    followed; what has changed then."""
    rows = fresh.rows(X)
    options = FitOptions(
        task="density",
        family=model.pair.config,
        predictor=None,
        codec=model.codec,
        seed=seed,
        max_time=max_time,
        spread=False,
    )
    encoded = model.encode(rows)
    found = _found(model, encoded.event, change)
    if found is not None and found.certainty >= MIN_CERTAINTY:
        fit, split = _follow(
            fresh,
            model,
            rows,
            encoded.event,
            found,
            replace(options, task="classes", predictor="trunk"),
        )
        change = after_self_training(change, fresh.log_proba(encoded), model.log_proba(encoded))
        found = None
    else:
        start = Start(model, elsewhere=True) if model.density_of_x.shared_backbone else None
        density, data, split = refit(Rows(rows), replace(options, start=start), model)
        fresh.joint = _beside(density, fresh, change)
        fit = data["fit"]
    fresh.fit_typicality(fit.x)
    held = model.encode(rows.take(split.choose)).event if len(split.choose) else None
    fresh.learn_readings(fit.x, held)
    # of the joint as it is now, should it be adapted again
    fresh.state = replace(fresh.state, shares=tuple(change.new))
    fresh.calibration = (
        calibrate(fresh, rows.take(split.calibrate), None, None) if len(split.calibrate) else None
    )
    return replace(change, promise=_promise(split, None if found is None else found.certainty))


def _follow(
    fresh: Model, model: Model, given: CodecRows, x: Event, found: Answers, options: FitOptions
) -> tuple[Pair, Split]:
    """Refine the network by self-training on its most certain answers, in several rounds.

    Returns the rows that it learned from, and their split."""
    now = model
    part = None if options.max_time is None else options.max_time / SELF_TRAINING_ROUNDS
    for left in reversed(range(SELF_TRAINING_ROUNDS)):
        sure = most_certain(found.share)
        rows = Rows(given, model.classes.labels[found.share.argmax(1)], sure)
        joint, data, split = refit(
            rows, replace(options, start=Start(now, elsewhere=True), max_time=part), model
        )
        fresh.joint = joint.eval()
        calibrate_shared_backbone(fresh, "trunk", data, 1 - float(found.share.amax(1)[sure].mean()))
        if left:
            now = replace(model, joint=joint)
            found = answers(now, x)
    return data["fit"], split


def _found(model: Model, x: Event, change: Change) -> Answers | None:
    """What p(y | x) may follow: answers on the new rows, where more than the shares has changed and
    one network of pictures has learned p(x) and p(y | x)."""
    if (
        model.pair.unweighted.shared_head is None
        or not model.density_of_x.shared_backbone
        or change.misfit is None
        or change.misfit >= MIN_SHARES_P_VALUE
    ):
        return None
    return answers(model, x)


def _beside(density: Density, model: Model, change: Change) -> Hybrid:
    """A new p(x) beside p(y | x) of a model."""
    base = Independent(density, model.classes.space)
    base.log_prior.data.copy_(base.log_prior.new_tensor(change.new).clamp_min(1e-12).log())
    return Hybrid(base, Posterior(model.pair)).eval()


def _promise(split: Split, unsure: float | None) -> str:
    """What became of the promises; ``unsure``: how certain answers are that p(y | x) did not
    follow."""
    held = (
        f"{len(split.calibrate):,} others bound"
        if len(split.calibrate)
        else "there were too few to bound"
    )
    lost = "" if unsure is None else NOT_FOLLOWED.format(unsure=unsure)
    return lost + REFITTED.format(fit=len(split.fit), held=held)

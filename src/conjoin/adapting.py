"""adapt, as the estimators offer it: new shares of the classes and, if asked, a new p(x), from rows without labels."""

import copy
from dataclasses import asdict, replace
from typing import Any, Self

from conjoin.fitting import Request, Rows, refit_density
from conjoin.joint import Hybrid, Independent
from conjoin.model import Model
from conjoin.questions.adapt import Change, adapt
from conjoin.questions.calibrate import calibrate
from conjoin.reweighting import Posterior
from conjoin.targets import Classes

__all__ = ["Adaptable"]

REFITTED = (
    "p(x) was fitted anew on {fit:,} of the new rows; {held} false alarms, and nothing bounds errors: "
    "call calibrate(X, y) with labelled rows of the new place."
)


class Adaptable:
    """A fitted estimator that can follow its classes to a new place."""

    model_: Model

    def adapt(self, X: Any, *, density: bool = False, max_time: float | None = None, random_state: int = 0) -> Self:
        """A new fitted model for the place that the rows ``X`` come from, in which the classes have other shares, found from these
        rows without labels; p(x | y) is taken to be the same, and ``change_`` says what has changed and whether that fits. With
        ``density=True`` p(x) is fitted anew on ``X`` (within ``max_time`` seconds), and p(x | y) is no longer kept."""
        model: Model = self._model()  # type: ignore[attr-defined]
        if not isinstance(model.target, Classes):
            what = "has no target" if model.target is None else f"predicts a number, {model.target.name!r}"
            raise ValueError(f"adapt finds new shares of classes, and this model {what}: fit again on rows of the new place.")
        fresh, change = adapt(model, X, random_state)
        if density:
            change = replace(change, promise=_refit(fresh, X, change, max_time, random_state))
        fresh.facts["adapted"] = asdict(change)
        out = copy.copy(self)
        out.model_ = fresh
        return out

    @property
    def change_(self) -> Change:
        """What the last ``adapt`` found; print it, or read its ``frame()``. AttributeError for a model that was not adapted."""
        found = self._model().facts.get("adapted")  # type: ignore[attr-defined]
        if found is None:
            raise AttributeError("This model was not adapted: call adapt(X) with rows of the new place.")
        kept: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        return Change(**kept)


def _refit(model: Model, X: Any, change: Change, max_time: float | None, seed: int) -> str:
    """Put a p(x) of the new rows beside p(y | x) under the new shares; what that does to the promises."""
    frame = model.frame(X).reset_index(drop=True)
    request = Request("density", model.pair.config, None, None, seed, max_time)
    density, split = refit_density(Rows(frame), request, model.codec)
    base = Independent(density, model.classes.space)
    base.log_prior.data.copy_(base.log_prior.new_tensor(change.new).clamp_min(1e-12).log())
    model.joint = Hybrid(base, Posterior(model.pair)).eval()
    model.facts["shares"] = list(change.new)  # of the joint as it is now, should it be adapted again
    model.calibration = calibrate(model, frame.iloc[split.calibrate], None, None) if len(split.calibrate) else None
    held = f"{len(split.calibrate):,} others bound" if len(split.calibrate) else "there were too few to bound"
    return REFITTED.format(fit=len(split.fit), held=held)

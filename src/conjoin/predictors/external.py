"""p(y | x) by a scikit-learn estimator of the user's own."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.core.shapes import Bool, Float
from conjoin.predictors import methods
from conjoin.predictors.base import Case, Design, Labels, Method, Scorer
from conjoin.predictors.conversion import checked

__all__ = ["External", "OwnMethod"]


class External(Scorer):
    """A scikit-learn estimator of the user's own. Not saved: it may run any code.

    With a codec it sees frames (the user's own where there are any, else decoded from events),
    without one it sees events."""

    kind = "external"
    tempered = False

    def __init__(
        self, estimator: Any, classes: Any = None, codec: Any = None, template: Any = None
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self.classes = classes
        self.codec = codec
        # one row of the user's frame: its columns, and values for those that are not modelled
        self.template = template

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """The user's estimator is asked whatever is missing: what it makes of that is its own
        word."""
        return torch.ones(x.rows, dtype=torch.bool)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        if self.codec is None:
            return self.scores_of(x)
        frame = self.codec.rows(self.codec.decode(x.value, x.mask)).frame
        others = {
            name: [self.template[name]] * x.rows
            for name in self.template.index
            if name not in frame
        }
        return self.scores_of(
            frame.join(pd.DataFrame(others, index=frame.index)) if others else frame
        )

    @property
    def shapes(self) -> dict[str, Any]:
        raise ValueError(
            f"The predictor {self.name} is your own code, which a model folder never holds: "
            "save it yourself, save this model with predictor=None, or use predictor='auto'."
        )

    def scores_of_frame(self, frame: Any, x: Event) -> Float[Tensor, "B K"] | None:
        return None if self.codec is None else self.scores_of(frame)

    @property
    def name(self) -> str:
        """The class of the user's estimator, whatever it is wrapped in."""
        inner = self.estimator
        while "estimator" in vars(inner):
            inner = inner.estimator
        return type(inner).__name__

    def scores_of(self, rows: Any) -> Float[Tensor, "B K"]:
        """Log-probabilities in the order of the model's classes, or the predicted number in event
        units."""
        if self.codec is not None:
            rows = rows.reindex(
                columns=self.template.index
            )  # as at fit; a column that is absent is missing
        if self.classes is None:
            return torch.as_tensor(np.asarray(self.estimator.predict(rows), dtype=float))[:, None]
        proba = np.asarray(self.estimator.predict_proba(rows), dtype=float)
        own = list(self.estimator.classes_)
        missing = [label for label in self.classes if label not in own]
        if missing:
            raise ValueError(
                f"The predictor knows the classes {own}, but the target has {missing[0]!r}; fit "
                "it on all classes."
            )
        ordered = torch.as_tensor(proba[:, [own.index(label) for label in self.classes]])
        return ordered.clamp_min(1e-12).log()


class OwnMethod(Method):
    """A scikit-learn estimator of the user's own.

    Frozen estimators and pipelines see the user's own columns, others see numbers, and are written
    down as modules where that can be done. ``target``: what y is; its ``labels``, if it has any,
    are the classes."""

    def __init__(self, estimator: Any, codec: Any, target: Any) -> None:
        self.estimator = estimator
        self.codec = codec
        self.target = target
        self.folds = not self.frozen
        asked = "predict" if target.labels is None else "predict_proba"
        if getattr(estimator, asked, None) is None:
            raise ValueError(
                f"predictor={type(estimator).__name__} has no {asked}: p(y | x) can't be had from "
                "it."
            )

    @property
    def frozen(self) -> bool:
        """Whether it was fitted before, nobody knows to which rows."""
        from sklearn.frozen import FrozenEstimator

        return isinstance(self.estimator, FrozenEstimator)

    def fit(self, case: Case) -> Scorer:
        """Fitted to the labelled rows, or as it is."""
        from sklearn.base import clone
        from sklearn.pipeline import Pipeline

        assert case.given is not None
        classes = self.target.labels
        first = case.given.take(slice(0, 1)).frame.iloc[0]
        if self.frozen:
            own = _in_event_units(self.estimator, self.target)
            return External(own, classes, self.codec, first)
        labelled = case.take(case.rows.y.mask.numpy())
        assert labelled.given is not None
        y = labelled.rows.y.value
        if isinstance(self.estimator, Pipeline):
            fitted = clone(self.estimator).fit(labelled.given.frame, self.target.decode(y))
            return External(_in_event_units(fitted, self.target), classes, self.codec, first)
        x = labelled.rows.x
        count = None if classes is None else len(classes)
        labels = Labels(y, torch.ones(len(y), dtype=torch.float64), count)
        design = Design(self.codec.space).fit(x, labels)
        codes = y.numpy().astype(np.int64) if classes is not None else y.numpy()
        fitted = clone(self.estimator).fit(design.crossed(x, labels).matrix(x).numpy(), codes)
        found = (checked(method, fitted, design, x) for method in methods().values())
        alone = External(_OnDesign(fitted, design, classes), classes)
        return next((scorer for scorer in found if scorer is not None), alone)


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

    def __init__(self, estimator: Any, number: Any) -> None:
        self.estimator = estimator
        self.number = number

    def predict(self, frame: Any) -> np.ndarray:
        return (
            np.asarray(self.estimator.predict(frame), dtype=float) - self.number.shift
        ) / self.number.scale


def _in_event_units(estimator: Any, target: Any) -> Any:
    return _Standardised(estimator, target) if target.labels is None else estimator

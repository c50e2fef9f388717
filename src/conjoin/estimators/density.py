"""JointDensity: p(x) alone."""

from typing import Any, Self

from sklearn.base import DensityMixin

from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.questions.sample import generate

__all__ = ["JointDensity"]


class JointDensity(DensityMixin, _JointEstimator):
    """p(x) alone: familiarity, imputation, new rows. Parameters as in ``JointClassifier``
    (``predictor`` is not used)."""

    _task = "density"

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        calibration: float = 0.2,
        *,
        time: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """As ``JointClassifier.fit``; ``y`` is ignored."""
        rows = {"sample_weight": sample_weight, "groups": groups, "time": time}
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        return self._fit(X, None, **rows, **asked)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log p(x) in nats, in the raw data's units."""
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, given: Given = None, random_state: int = 0, where: Where = ()
    ) -> tuple[Any, None]:
        """(X, None): rows drawn from p(x), given columns; ``where`` as of
        ``JointClassifier.sample``."""
        return generate(self._model(), n_samples, None, given, random_state, where)[0], None

    def evaluate(self, X: Any, y: Any = None, *, false_alarm: float = 0.05) -> dict[str, Any]:
        """Likelihood and familiarity on held-out rows."""
        return self._evaluate(X, None, false_alarm, 0.05)

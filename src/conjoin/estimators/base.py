"""The scikit-learn surface: JointClassifier, JointRegressor, JointDensity.

Methods that scikit-learn knows return bare arrays; how far they can be trusted stands in
``status_``.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from conjoin.codecs.kinds import codec_for
from conjoin.core import Codec, Config
from conjoin.core import Rows as CodecRows
from conjoin.estimators.imputing import Imputes
from conjoin.families import resolve
from conjoin.fitting.distillation import Distillable
from conjoin.fitting.pipeline import Request, Rows, fit_model
from conjoin.fitting.stream import FitsFiles
from conjoin.fitting.warm_start import Start
from conjoin.model.calibrate import calibrate
from conjoin.model.model import Model
from conjoin.model.saving import save_model
from conjoin.model.targets import Classes, class_labels
from conjoin.questions.bits import bits_per_dim
from conjoin.questions.compare import Comparison, compare_families
from conjoin.questions.decide import decide
from conjoin.questions.domain_shift import Adaptable
from conjoin.questions.evaluate import evaluate

__all__ = ["AUTO_SECONDS", "Given", "Where"]

Given = Mapping[Any, Any] | None
Where = str | Sequence[str]
AUTO_SECONDS = (
    300.0  # that family="auto" takes for its comparison and the fit, where max_time says nothing
)


class _JointEstimator(Adaptable, Distillable, FitsFiles, Imputes, BaseEstimator):
    """What the three estimators share. Parameters are described in ``JointClassifier``."""

    _task = "density"

    def __init__(
        self,
        predictor: Any = "auto",
        family: Any = "circuit",
        *,
        random_state: Any = 0,
        max_time: float | None = None,
        max_kwh: float | None = None,
        emphasis: Any = 0.0,
        device: str = "auto",
        precision: str = "auto",
        verbose: bool = False,
        types: Any = None,
        missing: Any = (),
        missingness: Literal["ignorable", "informative"] = "ignorable",
        measure: Literal["auto", "density"] = "auto",
        unlabelled: Any = None,
        spread: bool = True,
        start_from: Any = None,
    ) -> None:
        self.predictor = predictor
        self.family = family
        self.random_state = random_state
        self.max_time = max_time
        self.max_kwh = max_kwh
        self.emphasis = emphasis
        self.device = device
        self.precision = precision
        self.verbose = verbose
        self.types = types
        self.missing = missing
        self.missingness = missingness
        self.measure = measure
        self.unlabelled = unlabelled
        self.spread = spread
        self.start_from = start_from

    def set_params(self, **params: Any) -> Self:
        """As scikit-learn's; ``family__width=8`` changes one setting of the family (configs are
        frozen, so it is replaced)."""
        settings = {
            key.removeprefix("family__"): params.pop(key)
            for key in list(params)
            if key.startswith("family__")
        }
        super().set_params(**params)
        if settings:
            self.family = resolve(self.family).set_params(**settings)
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            params |= {f"family__{key}": value for key, value in self._settings().items()}
            if "get_params" in dir(self.predictor) and not isinstance(self.predictor, type):
                params |= {
                    f"predictor__{key}": value for key, value in self.predictor.get_params().items()
                }
        return params

    def _settings(self) -> dict[str, Any]:
        """The family's settings; none where ``family`` is not (yet) one."""
        try:
            config: Config = resolve(self.family)
        except (TypeError, ValueError):
            return {}
        return config.get_params()

    def __sklearn_clone__(self) -> Self:
        """As scikit-learn's, but the model to start from stays fitted."""
        out: Self = super().__sklearn_clone__()
        out.start_from = self.start_from
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    # ------------------------------------------------------------------ fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        weight: Any,
        groups: Any,
        calibration: float,
        time: Any,
        checkpoint: Any,
        resume: bool,
        stream: Any = None,
    ) -> Self:
        if self.device not in ("auto", "cpu"):
            raise ValueError(
                "device must be 'auto' or 'cpu' (the families of this version run on the CPU), "
                f"got {self.device!r}."
            )
        start = Start.of(self.start_from)
        codec, x = self._codec(X) if start is None else start.read(X, self)
        if stream is not None and not codec.streams:
            raise ValueError(
                "A table with pictures is read at once, not in chunks: give fewer rows, or leave "
                "the pictures out."
            )
        target, known, name = self._read_target(y, len(x))
        rows = Rows(
            x,
            target,
            known,
            self._read_weight(weight, len(x)),
            groups,
            self._read_time(time, x),
            name,
        )
        request = Request(
            self._task,
            self.family if start is None else start.config(self.family),
            self.predictor if self._task != "density" else None,
            codec,
            self._seed(),
            self.max_time,
            self.max_kwh,
            self.emphasis,
            calibration,
            None if checkpoint is None else Path(checkpoint),
            resume,
            self.verbose,
            self.spread and stream is None,
            stream,
            start,
            self.precision,
        )
        self._adopt(
            self._automatic(rows, request, X)
            if self.family == "auto"
            else fit_model(rows, request),
            x,
            X,
        )
        return self

    def _compare(
        self, X: Any, y: Any, families: Sequence[Any] | None, max_time: float, max_kwh: float | None
    ) -> Comparison:
        _, x = self._codec(X)
        target, known, name = self._read_target(y, len(x))
        rows = Rows(x, target, known, None, None, None, name)
        request = Request(self._task, seed=self._seed(), verbose=self.verbose)
        return compare_families(
            rows, request, lambda: self._codec(X)[0], families, max_time, max_kwh
        )

    def _automatic(self, rows: Rows, request: Request, X: Any) -> Model:
        """Compare the families in half of the time, then fit the best on all rows."""
        if self.precision != "auto":
            raise ValueError(
                "family='auto' compares each family in its fastest precision: name a family, or "
                f"leave precision at 'auto', got {self.precision!r}."
            )
        budget = AUTO_SECONDS if self.max_time is None else self.max_time
        found = compare_families(
            rows,
            replace(request, stream=None),
            lambda: self._codec(X)[0],
            None,
            budget / 2,
            self.max_kwh,
        )
        left = budget / 2 if self.max_time is not None else None
        model = fit_model(
            rows, replace(request, family=found.pick, codec=self._codec(X)[0], max_time=left)
        )
        model.facts["compared"] = found.to_json()
        return model

    def _codec(self, X: Any) -> tuple[Codec, CodecRows]:
        """What reads X, and X as its rows."""
        options = {
            name: getattr(self, name) for name in ("types", "missing", "missingness", "measure")
        }
        codec, rows = codec_for(X, **options)
        codec.owner = type(self).__name__
        return codec, rows

    def _adopt(self, model: Model, rows: CodecRows, raw: Any) -> None:
        """The fitted attributes."""
        self.model_ = model
        self.n_features_in_ = len(rows.names)
        if isinstance(raw, pd.DataFrame) and all(isinstance(name, str) for name in raw.columns):
            self.feature_names_in_ = np.array(raw.columns, dtype=object)
        if isinstance(model.target, Classes):
            self.classes_ = model.target.labels

    def _seed(self) -> int:
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _read_target(self, y: Any, rows: int) -> tuple[Any, Any, str]:
        """Labels, which of them are known, and the target's name."""
        if self._task == "density":
            return None, None, ""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None "
                "(JointDensity needs none)."
            )
        name = str(getattr(y, "name", None) or "y")
        labels = column_or_1d(y, warn=True)
        if len(labels) != rows:
            check_consistent_length(np.empty(rows), labels)
        known = ~pd.isna(labels)
        if self.unlabelled is not None:
            known &= labels != self.unlabelled
        return (*self._check_target(labels, known), name)

    def _check_target(self, labels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._task == "classes":
            return class_labels(labels, known), known
        numbers = pd.to_numeric(pd.Series(labels).where(known), errors="coerce")
        words = numbers.isna().to_numpy() & known
        if words.any():
            raise ValueError(
                f"The target has the value {labels[words][0]!r}, which is no number; for classes "
                "use JointClassifier."
            )
        values = numbers.to_numpy(dtype=float, na_value=np.nan)
        if np.isinf(values).any():
            raise ValueError(
                f"Input y contains infinity or a value too large for {values.dtype!r}."
            )
        return np.where(known, values, 0.0), known

    def _read_weight(self, weight: Any, rows: int) -> Any:
        if weight is None:
            return None
        values = np.asarray(weight, dtype=float)
        return np.full(rows, values) if values.ndim == 0 else values

    def _read_time(self, time: Any, rows: CodecRows) -> Any:
        """Times as numbers; ``time`` is a column's name or one value per row."""
        if time is None:
            return None
        named = isinstance(time, str) and time in rows.names
        values = rows.frame[time] if named else pd.Series(time)
        if len(values) != len(rows):
            raise ValueError(
                f"time must name a column ({', '.join(map(str, rows.names))}) or hold one "
                f"value per row, got {time!r}."
            )
        return (
            pd.to_datetime(values).astype("int64").to_numpy()
            if not pd.api.types.is_numeric_dtype(values)
            else values.to_numpy()
        )

    # ------------------------------------------------------------------ what every model answers

    def _model(self) -> Model:
        check_is_fitted(self, "model_")
        return self.model_

    @property
    def status_(self) -> dict[str, str]:
        """How far ``score_samples`` (log_prob), ``predict_proba`` and ``sample`` can be trusted:
        exact, a bound, ..."""
        return {question: status.value for question, status in self._model().status.items()}

    def score_samples(self, X: Any) -> np.ndarray:
        """(B,) log p(x) in nats, in the raw data's units: density of unrounded columns, mass of
        recorded cells."""
        return self._model().log_prob_raw(self._model().encode(X))

    def bits_per_dim(self, X: Any) -> np.ndarray:
        """(n,) -log2 p(x) per pixel of images (n, H, W) or (n, H, W, C); an upper bound where log
        p(x) is a lower one."""
        return bits_per_dim(self._model(), X)

    def decide(
        self,
        X: Any,
        *,
        false_alarm: float = 0.05,
        max_error: Any = 0.05,
        max_width: float | None = None,
        log: Any = None,
    ) -> pd.DataFrame:
        """A verdict per row: accept, ambiguous or unfamiliar, with the answer, the numbers behind
        it and the reason."""
        return decide(
            self._model(),
            X,
            false_alarm=false_alarm,
            max_error=max_error,
            max_width=max_width,
            log=log,
        )

    def calibrate(self, X: Any, y: Any = None) -> Self:
        """Put held-out rows in place of the calibration rows: rows that the model was not fitted
        on."""
        model = self._model()
        rows = model.rows(X)
        if y is None or self._task == "density":
            model.calibration = calibrate(model, rows, None, None)
        else:
            labels, known, _ = self._read_target(y, len(rows))
            model.calibration = calibrate(model, rows, labels, known)
        return self

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the model's folder; ``conjoin.load`` reads it."""
        return save_model(self._model(), path, force=force)

    def report(
        self, path: str | Path, X: Any = None, y: Any = None, *, show_rows: bool = False
    ) -> Path:
        """One HTML file about the model and, if given, held-out rows ``X`` with labels ``y``."""
        from conjoin.report import write_report

        return write_report(self, path, X, y, show_rows=show_rows)

    def _evaluate(self, X: Any, y: Any, false_alarm: float, max_error: Any) -> dict[str, Any]:
        rows = self._model().rows(X)
        if y is None:
            return evaluate(self._model(), rows, None, None, false_alarm, max_error)
        labels, known, _ = self._read_target(y, len(rows))
        return evaluate(self._model(), rows, labels, known, false_alarm, max_error)

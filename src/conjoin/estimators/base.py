"""The scikit-learn surface: JointClassifier, JointRegressor, JointDensity.

Methods that scikit-learn knows return bare arrays; how far they can be trusted stands in
``status_``."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from conjoin.codecs.kinds import codec_for
from conjoin.codecs.table.chunks import CHUNK_ROWS
from conjoin.codecs.table.native import Kind, in_kind, kind_of, plain_frame
from conjoin.codecs.table.overrides import missing_of, without_target
from conjoin.codecs.table.reading import usual_decimal
from conjoin.core import Codec, Config
from conjoin.core import Rows as CodecRows
from conjoin.core.device import choose_device
from conjoin.core.sampling import Sampling, Walk
from conjoin.estimators.notices import tell
from conjoin.estimators.reading import (
    Labels,
    is_several,
    mark_unlabelled,
    meant_by,
    read_labels,
    read_several,
    read_times,
    read_weight,
    refuse_columns_beside,
    seed_of,
    split_by,
)
from conjoin.families import refuse_class_alone, resolve
from conjoin.fitting.distillation import distil
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import fit_model
from conjoin.fitting.several import calibrate_several, fit_several
from conjoin.fitting.split import Rows
from conjoin.fitting.stream import MAX_PASSES, SAMPLE_ROWS, Stream, file_stream
from conjoin.fitting.warm_start import Start
from conjoin.model.calibrate import calibrate
from conjoin.model.censored import TargetColumn
from conjoin.model.model import Model
from conjoin.model.saving import save_model
from conjoin.model.several import SeveralTargets
from conjoin.model.targets import TARGETS, Meant, Target, task_for
from conjoin.questions.all_ways import log_prob_of_all_ways
from conjoin.questions.alternatives import alternatives
from conjoin.questions.answers.asking import calibrated, settings_of
from conjoin.questions.answers.meaning import Entails
from conjoin.questions.answers.prompts import continues_texts
from conjoin.questions.bits import bits_per_dim
from conjoin.questions.compare import Comparison, compare_families
from conjoin.questions.decide import decide
from conjoin.questions.design import design
from conjoin.questions.domain_shift import adapt_to, change_of
from conjoin.questions.evaluate import evaluate
from conjoin.questions.impute import completions, impute, status_of_means
from conjoin.questions.label_shift import Change
from conjoin.questions.sample import generate
from conjoin.questions.several import decide_all, evaluate_all, sample_all
from conjoin.questions.side_by_side import (
    impute_table,
    log_prob_of_table,
    parts_of_table,
    things_in,
)

__all__ = ["AUTO_SECONDS", "Given", "Where", "estimator_of"]

Given = Mapping[Any, Any] | None
Where = str | Sequence[str]
AUTO_SECONDS = (
    300.0  # that family="auto" takes for its comparison and the fit, where max_time says nothing
)


class _JointEstimator(BaseEstimator):
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
        speed: str = "default",
        strict: bool = False,
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
        self.speed = speed
        self.strict = strict

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as scikit-learn's estimators do.

        Parameters
        ----------
        **params
            Values by the parameters' names. ``family__width=8`` changes one setting of the family:
            configs are frozen, so the config is replaced.

        Returns
        -------
        Self
            This estimator.

        Raises
        ------
        ValueError
            For an unknown parameter or setting.
        """
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
        """The parameters, as scikit-learn's estimators give them.

        Parameters
        ----------
        deep : bool, default True
            Whether the settings of the family and of the predictor are included, as
            ``family__width``.

        Returns
        -------
        dict
            Values by name.
        """
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
        *,
        sample_weight: Any = None,
        groups: Any = None,
        time: Any = None,
        stream: Stream | None = None,
        **asked: Any,
    ) -> Self:
        """``asked``: fields of ``FitOptions`` that are no parameter of the estimator."""
        asked.setdefault("began", monotonic())
        choose_device(self.device)
        self.kind_ = kind_of(X)
        X = plain_frame(X)
        y = plain_frame(y)
        self._refuse_family_beside(X, y)
        if self._target_class is not None and is_several(y):
            rows_of_fit = {"sample_weight": sample_weight, "groups": groups, "time": time}
            return self._fit_several(X, y, stream=stream, **rows_of_fit, **asked)
        start = Start.of(self.start_from)
        codec, x = self._codec(X, y, sample_weight) if start is None else start.read(X, self)
        if stream is not None and not codec.streams:
            raise ValueError(
                "A table with pictures is read at once, not in chunks: give fewer rows, or leave "
                "the pictures out."
            )
        if stream is not None:
            said = self._meant_of(stream.label)
            stream = replace(stream, blanks=stream.blanks or said.missing, merge=said.merge)
        labels = self._target_of_fit(y, X, len(x), start)
        if stream is not None and labels.limits is not None:
            raise ValueError(
                f"The target {labels.name!r} has bounds, which can't be read in chunks: give fewer "
                "rows, or leave such cells empty."
            )
        weight = read_weight(sample_weight, len(x))
        rows = self._rows(x, labels, weight, groups, read_times(time, x))
        spread = self.spread and stream is None
        options = replace(
            self._options(**asked), codec=codec, stream=stream, start=start, spread=spread
        )
        if start is not None:
            options = replace(options, family=start.config(self.family))
        automatic = self.family == "auto"
        model = self._automatic(rows, options, X, y) if automatic else fit_model(rows, options)
        by = groups if stream is None else stream.deal.groups
        model.card |= split_by(x.names, by, time)
        self._adopt(model, x, X)
        return self

    def _refuse_family_beside(self, X: Any, y: Any) -> None:
        """ValueError, before X is read, for a family that can't stand beside such a y, or beside y
        and further columns."""
        target = self._target_class
        if target is None or (isinstance(self.family, str) and self.family == "auto"):
            return
        if is_several(y):
            refuse_class_alone(resolve(self.family), "y is several columns")
        elif not target.discrete:
            refuse_class_alone(resolve(self.family), "y is a number")
        elif isinstance(X, pd.DataFrame) and X.shape[1] > 1 and not _all_numbers(X):
            family = resolve(self.family)
            if not family.density.flat:  # of strings alone, so that one column is a string
                refuse_class_alone(family, f"x has {X.shape[1]} columns beside the classes")

    def _fit_several(
        self,
        X: Any,
        Y: pd.DataFrame,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        time: Any = None,
        stream: Any = None,
        **asked: Any,
    ) -> Self:
        """One density over all columns of ``Y`` and x."""
        start = Start.of(self.start_from)
        codec, x = self._codec(X, Y, sample_weight) if start is None else start.read(X, self)
        self._refuse_for_several(stream, bool(codec.structures))
        meant = {str(name): self._meant_of(name) for name in Y.columns}
        columns = read_several(Y, len(x), self.unlabelled, meant)
        weight = read_weight(sample_weight, len(x))
        rows = Rows(x, weight=weight, groups=groups, latest=read_times(time, x))
        options = replace(
            self._options(**asked),
            task="density",
            predictor=self.predictor,
            codec=codec,
            start=start,
        )
        if start is not None:
            options = replace(options, family=start.config(self.family))
        model = fit_several(rows, columns, options)
        model.card |= split_by(x.names, groups, time)
        self._adopt(model, x, X)
        return self

    def _fit_side_by_side(self, X: pd.DataFrame, thing: Any, **asked: Any) -> Self:
        """p(thing) and p(property | thing) of the other columns."""
        asked.setdefault("began", monotonic())
        choose_device(self.device)
        if X.shape[1] == 1:
            return self._fit(X[thing].tolist(), None, **asked)
        refuse_columns_beside(X.drop(columns=thing))
        self.kind_ = Kind()
        cells = X[thing].astype(object)
        things = cells.where(cells.notna(), None).tolist()
        self._fit_several(things, X.drop(columns=thing).reset_index(drop=True), **asked)
        several = self._several()
        assert several is not None
        several.columns = tuple(X.columns)
        self.n_features_in_ = X.shape[1]
        return self

    def _refuse_for_several(self, stream: Any, molecules: bool) -> None:
        """ValueError for settings that have no meaning with several targets; of ``molecules`` each
        target has a predictor, and a fit may begin from another model of strings."""
        named = not isinstance(self.predictor, str) or self.predictor != "auto"
        refused = {
            "predictor": named and self.predictor is not None and not molecules,
            "start_from": self.start_from is not None and not molecules,
            "family": isinstance(self.family, str) and self.family == "auto",
            "emphasis": self.emphasis != 0,
            "speed": self.speed != "default",
        }
        wrong = next((name for name, is_set in refused.items() if is_set), None)
        if wrong is not None or stream is not None:
            what = f"{wrong}={getattr(self, wrong)!r}" if wrong else "A table read in chunks"
            raise ValueError(
                f"{what} is for one target: with several, p(y | x) is the family's own. Leave it "
                "out, or fit each target by itself."
            )

    def _several(self) -> SeveralTargets | None:
        """The model, where it has several targets."""
        check_is_fitted(self, "model_")
        return self.model_ if isinstance(self.model_, SeveralTargets) else None

    def for_target(self, name: str) -> "_JointEstimator":
        """A fitted estimator of one of several targets, with the others summed out.

        It answers all that a model of one target answers.

        Parameters
        ----------
        name : str
            The target: a column of the frame that ``fit`` was given.

        Returns
        -------
        JointClassifier or JointRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            For an unknown name, or a model of one target.
        """
        several = self._several()
        if several is None:
            raise ValueError("This model has one target: ask it directly.")
        model = several.view(name)
        out = estimator_of(task_for(model.target))(**self.get_params(deep=False))
        for attribute in ("n_features_in_", "feature_names_in_"):
            if attribute in vars(self):
                setattr(out, attribute, getattr(self, attribute))
        out._take_model(model)
        return out

    @property
    def _target_class(self) -> type[Target] | None:
        """What y is; None where p(x) alone is modelled."""
        return TARGETS.get(self._task)

    def _options(self, **asked: Any) -> FitOptions:
        """The estimator's parameters and what a call asks for, under the names of a fit."""
        checkpoint = asked.pop("checkpoint", None)
        return FitOptions(
            task=self._task,
            family=self.family,
            predictor=None if self._target_class is None else self.predictor,
            seed=self._seed(),
            max_time=self.max_time,
            max_kwh=self.max_kwh,
            emphasis=self.emphasis,
            precision=self.precision,
            device=self.device,
            verbose=self.verbose,
            spread=self.spread,
            speed=self.speed,
            strict=self.strict,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            **asked,
        )

    def fit_file(
        self,
        path: Any,
        target: Any = None,
        *,
        groups: Any = None,
        calibration: float = 0.2,
        chunk_rows: int = CHUNK_ROWS,
        sample_rows: int = SAMPLE_ROWS,
        passes: int = MAX_PASSES,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """Fit to a file that is read in chunks, so that memory does not grow with it.

        A sample of the rows gives the structure and the start. Passes over all rows give the
        parameters.

        Parameters
        ----------
        path : str or Path
            A CSV, JSON or Parquet file.
        target : str, optional
            The column y. JointDensity needs none.
        groups : str, optional
            The column of the groups: rows of one group stay in the same part of the split.
        calibration : float, default 0.2
            Share of the rows that is held out for the two alarms, 0 to under 0.9.
        chunk_rows : int, default 65,536
            Rows that are read at once.
        sample_rows : int, default 100,000
            Rows of the sample.
        passes : int, default 10
            Passes over all rows, at most.
        checkpoint : str or Path, optional
            A folder to which the state of the fit is written.
        resume : bool, default False
            Whether the fit goes on from the state in ``checkpoint``.

        Returns
        -------
        Self
            The fitted estimator.

        Raises
        ------
        ValueError
            For a file, column or setting that can't be fitted in chunks.
        """
        with file_stream(
            path,
            target,
            supervised=self._target_class is not None,
            seed=self._seed(),
            groups=groups,
            calibration=calibration,
            chunk_rows=chunk_rows,
            sample_rows=sample_rows,
            passes=passes,
            unlabelled=self.unlabelled,
        ) as (X, y, stream):
            return self.fit_stream(
                X, y, stream, calibration=calibration, checkpoint=checkpoint, resume=resume
            )

    def fit_stream(
        self,
        X: Any,
        y: Any,
        stream: Stream,
        *,
        calibration: float = 0.2,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """Fit to all rows of a stream.

        Parameters
        ----------
        X : DataFrame
            The stream's sample.
        y : array_like, shape (n,), or None
            The labels of the sample.
        stream : Stream
            All rows: see ``conjoin.fitting.stream.file_stream``.
        calibration, checkpoint, resume
            As of ``fit_file``.

        Returns
        -------
        Self
            The fitted estimator.

        Raises
        ------
        ValueError
            For rows that can't be read in chunks, such as pictures.
        """
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        return self._fit(X, y, stream=stream, **asked)

    def _compare(
        self, X: Any, y: Any, families: Sequence[Any] | None, max_time: float, max_kwh: float | None
    ) -> Comparison:
        _, x = self._codec(X, y)
        rows = self._rows(x, self._target_of_fit(y, X, len(x)))
        options = FitOptions(task=self._task, seed=self._seed(), verbose=self.verbose)
        return compare_families(
            rows, options, lambda: self._codec(X, y)[0], families, max_time, max_kwh
        )

    def _automatic(self, rows: Rows, options: FitOptions, X: Any, y: Any) -> Model:
        """Compare the families in half of the time, then fit the best on all rows."""
        if self.precision != "auto":
            raise ValueError(
                "family='auto' compares each family in its fastest precision: name a family, or "
                f"leave precision at 'auto', got {self.precision!r}."
            )
        budget = AUTO_SECONDS if self.max_time is None else self.max_time
        found = compare_families(
            rows,
            replace(options, stream=None, strict=False, began=None),
            lambda: self._codec(X, y)[0],
            None,
            budget / 2,
            self.max_kwh,
        )
        model = fit_model(rows, replace(options, family=found.pick, codec=self._codec(X, y)[0]))
        model.card["compared"] = found.to_json()
        return model

    def _codec(self, X: Any, y: Any = None, sample_weight: Any = None) -> tuple[Codec, CodecRows]:
        """What reads X, and X as its rows. ``types`` may also speak of y."""
        options = {
            name: getattr(self, name) for name in ("types", "missing", "missingness", "measure")
        }
        columns = list(X.columns) if isinstance(X, pd.DataFrame) else []
        names = (
            list(y.columns) if isinstance(y, pd.DataFrame) else [getattr(y, "name", None) or "y"]
        )
        for name in names:
            options["types"] = without_target(options["types"], name, columns)
            options["missing"] = without_target(options["missing"], name, columns)
        codec, rows = codec_for(X, **options)
        codec.owner = type(self).__name__
        codec.strict = self.strict
        return codec, codec.surveyed(rows, read_weight(sample_weight, len(rows)))

    def _adopt(self, model: Model | SeveralTargets, rows: CodecRows, raw: Any) -> None:
        """The fitted attributes."""
        self.n_features_in_ = len(rows.names)
        if isinstance(raw, pd.DataFrame) and all(isinstance(name, str) for name in raw.columns):
            self.feature_names_in_ = np.array(raw.columns, dtype=object)
        targets = model.targets if isinstance(model, SeveralTargets) else (model.target,)
        own = [each for each in targets if each is not None]
        mark_unlabelled(own, self.unlabelled)
        for target in own:
            said = self._meant_of(target.name)
            for value in said.missing:
                mark_unlabelled([target], value)
            target.merge = target.merge or said.merge
        self._take_model(model)
        tell(model, self.verbose)

    def _take_model(self, model: Model | SeveralTargets) -> None:
        """The model, and the classes that it tells: of several targets, by their names."""
        self.model_ = model
        if isinstance(model, SeveralTargets):
            each = (target for target in model.targets if target.discrete)
            labels: Any = {target.name: target.labels for target in each}
            self.classes_ = labels
        elif model.has_classes:
            self.classes_ = model.classes.labels

    def _with(self, model: Model) -> Self:
        """This estimator with another fitted model."""
        out = copy.copy(self)
        out.model_ = model
        return out

    def _seed(self) -> int:
        return seed_of(self.random_state)

    def _read_target(self, y: Any, rows: int) -> Labels:
        """Labels of rows that a fitted model is asked about, in the form of the fit."""
        model = vars(self).get("model_")
        target = model.target if isinstance(model, Model) else None
        if target is None:
            return self._labels(y, rows, None, learned=True)
        return self._labels(y, rows, target.form, learned=True, meant=target.meant)

    def _several_labels(self, Y: Any, rows: int) -> list[TargetColumn]:
        """Targets of rows that a fitted model of several is asked about."""
        model: Any = self.model_
        meant = {target.name: target.meant for target in model.targets}
        return read_several(Y, rows, self.unlabelled, meant, learned=True)

    def _several_rows(
        self, several: SeveralTargets, X: Any, y: Any
    ) -> tuple[Any, list[TargetColumn]]:
        """Rows with their targets, which are columns of the table where it was fitted so."""
        if not several.columns:
            rows = several.codec.rows(X)
            return rows, self._several_labels(y, len(rows))
        if y is not None:
            raise ValueError(
                f"{', '.join(several.names)} are columns of this model's table: leave y out."
            )
        return parts_of_table(several, X)

    def _target_of_fit(self, y: Any, X: Any, rows: int, start: Start | None = None) -> Labels:
        """Labels of a fit, whose way of writing is learned, or that of the model to begin from."""
        if start is not None and start.model.target is not None:
            target = start.model.target
            meant = target.meant._replace(merge=target.merge or self._meant_of(target.name).merge)
            return self._labels(y, rows, target.form, learned=True, meant=meant)
        name = getattr(y, "name", None) or "y"
        return self._labels(y, rows, None, usual_decimal(X), meant=self._meant_of(name))

    def _meant_of(self, name: Any) -> Meant:
        """What ``missing`` and ``types`` say of the cells of a target of this name."""
        said = self.missing
        named = isinstance(said, Mapping) and name in said
        blanks = missing_of({name: said[name]}, [name])[name] if named else ()
        return meant_by(self.types, name, blanks)

    def _labels(
        self,
        y: Any,
        rows: int,
        form: Any,
        usual: str = "",
        learned: bool = False,
        meant: Meant = Meant(),  # noqa: B008 (frozen)
    ) -> Labels:
        if self._target_class is None:
            return Labels(None, None, "")
        owner = type(self).__name__
        return read_labels(
            y, rows, self._task, self.unlabelled, owner, form, self.types, usual, learned, meant
        )

    @staticmethod
    def _rows(
        x: Any, labels: Labels, weight: Any = None, groups: Any = None, latest: Any = None
    ) -> Rows:
        """The rows of a fit."""
        values, known, name, form, told, limits = labels
        bounds = {} if limits is None else limits._asdict()
        return Rows(x, values, known, weight, groups, latest, name, form, told, **bounds)

    # ------------------------------------------------------------------ what every model answers

    def _sampled(
        self,
        count: int,
        y: Any,
        given: Any,
        random_state: Any,
        where: Any,
        tails: bool,
        how: Sampling,
        even: bool,
        walk: Walk,
    ) -> tuple[Any, Any]:
        """Drawn rows and their y; all targets of several, where nothing else is asked for."""
        several = self._several()
        plain = not where and how.plain and walk.plain
        seed = seed_of(random_state)
        if several is not None and plain and (several.bases or (y is None and not given)):
            rows, targets = sample_all(several, count, seed, tails, even, y, given)
            return self._given_back(rows), self._given_back(targets)
        model = self._model()
        X, labels = generate(model, count, y, given, seed, where, tails, how, even, walk)
        return self._given_back(X), labels

    def _model(self) -> Model:
        several = self._several()
        if several is not None:
            names = ", ".join(map(repr, several.names))
            raise ValueError(
                f"This model has several targets ({names}), and this is asked of one: "
                "for_target(name) gives its model."
            )
        return self.model_  # type: ignore[return-value]

    def _of_x(self) -> Model:
        """A model for questions about x alone."""
        several = self._several()
        return self._model() if several is None else several.view(several.names[0])

    @property
    def notices_(self) -> list[str]:
        """What the fit set aside, pooled, parsed or assumed.

        Returns
        -------
        list of str
            One sentence each; ``fit`` warns of each (``conjoin.ColumnWarning``).
        """
        check_is_fitted(self, "model_")
        return self.model_.notices  # type: ignore[no-any-return]

    @property
    def status_(self) -> dict[str, str]:
        """What the answers are worth.

        Returns
        -------
        dict
            For "log_prob" (``score_samples``), "predict_proba", "sample" and "impute" (the means of
            numbers): "exact", a bound, "approximate" or "relative".
        """
        several = self._several()
        model = self._of_x() if several is None or not several.columns else several.alone
        every = {**model.status, **status_of_means(model)}
        return {question: status.value for question, status in every.items()}

    def score_samples(self, X: Any, *, exact: bool = False) -> np.ndarray:
        """log p(x) of each row.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        exact : bool, default False
            Whether log p of a molecule's string is summed over all ways to cut it into tokens, in
            place of the one that the merges make. A warning says of how many strings there are too
            many ways, so that the sum is estimated.

        Returns
        -------
        ndarray, shape (n,)
            Nats, in the units of the raw data: the density of columns that are not rounded, and the
            probability mass of the rounding intervals of the others.
        """
        several = self._several()
        if several is not None and several.columns:
            if exact:
                raise ValueError("exact=True is for molecules as strings: leave it out.")
            return log_prob_of_table(several, X)
        model = self._of_x()
        return log_prob_of_all_ways(model, X) if exact else model.log_prob_raw(model.encode(X))

    def bits_per_dim(self, X: Any) -> np.ndarray:
        """Bits per pixel of images.

        Parameters
        ----------
        X : array_like, shape (n, H, W) or (n, H, W, C)
            Images.

        Returns
        -------
        ndarray, shape (n,)
            -log2 p(x) for each known pixel. It is an upper bound if log p(x) is a lower bound.

        Raises
        ------
        ValueError
            For a model of tables, or a family whose log p(x) is known up to a constant only.
        """
        return bits_per_dim(self._model(), X)

    def decide(
        self,
        X: Any,
        *,
        false_alarm: float = 0.05,
        max_error: Any = 0.05,
        max_width: float | None = None,
        log: Any = None,
        reasons: bool = True,
    ) -> pd.DataFrame:
        """A verdict for each row: accept, ambiguous or unfamiliar.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        false_alarm : float, default 0.05
            Share of familiar rows that may be called unfamiliar.
        max_error : float, dict or None, default 0.05
            Share of the accepted answers that may be wrong, or {class: share of that class that may
            be accepted with a wrong answer}. For a number, the share of intervals that may miss.
            None: nothing is promised about errors; every familiar row gets its best guess.
        max_width : float, optional
            Width of a number's interval, in the unit of y, above which a row is ambiguous.
        log : str or Path, optional
            A file to which one JSON line per row is appended; for a model of one target.
        reasons : bool, default True
            Whether a sentence says what makes a row unfamiliar, which takes most of the time.

        Returns
        -------
        DataFrame
            For each row the verdict, the answer if it is accepted, the figures behind it and the
            reason. With several targets, columns (target, field) for each and ("all", field) for
            all together. In the kind of data frame that ``X`` is; where names have one part only,
            as in polars, they are "target field".

        Raises
        ------
        ValueError
            If a rate can't be promised; the message names the number of calibration rows needed.
        TypeError
            For a ``max_error`` by class where the model has a number or several targets.
        """
        several = self._several()
        if several is not None and not several.columns:
            table = decide_all(
                several, X, false_alarm=false_alarm, max_error=max_error, max_width=max_width
            )
            return in_kind(table, kind_of(X))
        table = decide(
            self._model() if several is None else several.alone,
            X if several is None else things_in(several, X),
            false_alarm=false_alarm,
            max_error=max_error,
            max_width=max_width,
            log=log,
            explain=reasons,
        )
        return in_kind(table, kind_of(X))

    def design(
        self,
        n_samples: int = 100,
        *,
        wanted: Mapping[str, Any] | None = None,
        keep: str | None = None,
        reference: Any = None,
        how: str = "best",
        method: str | None = None,
        proposals: int | None = None,
        random_state: Any = 0,
        **wishes: Any,
    ) -> pd.DataFrame:
        """New molecules whose properties are as wanted.

        Parameters
        ----------
        n_samples : int, default 100
            How many molecules, at most.
        wanted : dict, optional
            What is wanted, where the name of a property is no word of Python.
        keep : str, optional
            A part that each must contain, as SMILES or SMARTS.
        reference : sequence of str, optional
            Known molecules as SMILES, by which novelty and the nearest one are told.
        how : {"best", "draw"}, default "best"
            The most probable ones, or draws from p(molecule | wish): where the chains of "redrawn"
            ended; where these are too few, and with other methods, by resampling plain draws.
        method : {"redrawn", "prompted", "guided", "tuned"}, optional
            How half of the proposals are made; the others are plain draws. "redrawn", the default
            where no columns stand beside the molecules: Markov chains draw the ends of strings anew
            and come to p(molecule | wish). "prompted", the default elsewhere: the wish is told to
            the network. "guided": the network reads from the beginnings of strings how they
            will end, and goes on with those that are likely to be as wanted; it needs
            ``family=Multimodal(strings={"reading": 0.3})``. "tuned": a copy of the network learns
            from its own draws, held near to the model as it was fitted.
        proposals : int, optional
            How many molecules are drawn to choose from; by default 10 for each that is wanted, and
            16 with ``how="draw"``.
        random_state : int, RandomState, Generator or None, default 0
            Seed of the draws.
        **wishes : float, tuple or label
            Of each property a value, a range (low, high) with None for an open end, or a class.

        Returns
        -------
        DataFrame
            A row for each: the molecule, ``p_wish`` = p(wish | molecule), predicted properties with
            the ends of their 90 % intervals, ``familiarity``, ``sa`` (synthetic accessibility, 1
            easy to 10 hard) and, by ``reference``, ``novel``, ``nearest`` and ``similarity``.
            ``attrs`` tells the shares of valid proposals, and in ``acceptance["drawn"]`` which
            share of plain draws would be as wanted; in ``tokens`` how many tokens each way drew,
            and in ``wanted_per_1000_tokens`` how many different molecules as wanted are expected
            for a thousand of them.

        Raises
        ------
        ValueError
            For an unknown property, a wish far from the data, or a model without molecules.
        """
        several = self._several()
        return design(
            self._model() if several is None else several,
            n_samples,
            {**(wanted or {}), **wishes},
            keep=keep,
            reference=reference,
            how=how,
            method=method,
            proposals=proposals,
            seed=seed_of(random_state),
        )

    def calibrate(
        self,
        X: Any,
        y: Any = None,
        *,
        draws: int = 8,
        max_tokens: int = 32,
        template: str | None = None,
        entails: Entails | None = None,
    ) -> Self:
        """Replace the calibration rows by rows that the model was not fitted to.

        A model of texts takes questions and their answers too: then ``answer`` says which of its
        own answers can be trusted. Half of the questions teach the score of an answer, the other
        half bounds its risk.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C). Of a model of texts also questions,
            with their answers as ``y``.
        y : array_like, shape (n,), or DataFrame, optional
            Their labels. Without them, nothing bounds the errors. To a question its right answer,
            a list of several that are right, or None where none is.
        draws : int, default 8
            Answers that are drawn to each question, beside the most probable one.
        max_tokens : int, default 32
            Of an answer.
        template : str, optional
            How a question reads as a prompt, as a chat template in jinja2; by default that of the
            pretrained model, else the question as it is.
        entails : callable, optional
            ``entails(question, one, other)``: whether one answer says what the other says, asked
            where they differ in normal form. ``answer`` then needs it too.

        Returns
        -------
        Self
            This estimator, with other alarms.

        Raises
        ------
        ValueError
            For too few questions, or questions to a model that is none of texts.
        """
        several = self._several()
        if several is not None:
            calibrate_several(several, *self._several_rows(several, X, y))
            return self
        model = self._model()
        if y is not None and continues_texts(model):
            settings = settings_of(model, draws, max_tokens, template, entails)
            lesson = calibrated(model, list(X), list(y), settings, entails)
            model.answers = lesson.known
            day = datetime.now(UTC).date().isoformat()
            model.card = {**model.card, "questions": {**lesson.told, "date": day}}
            return self
        if y is not None and self._target_class is None:
            raise ValueError(
                "This model has no target, so y is nothing that it knows, and only a model of "
                "texts alone, token by token, answers questions: leave y out to calibrate by rows."
            )
        rows = model.rows(X)
        if y is None:
            model.calibration = calibrate(model, rows, None, None)
        else:
            labels, known, *_ = self._read_target(y, len(rows))
            model.calibration = calibrate(model, rows, labels, known)
        return self

    def impute(
        self,
        X: Any,
        n_draws: int | None = None,
        random_state: int = 0,
        y: Any = None,
        *,
        strategy: Literal["mean", "median", "mode"] = "mean",
        tails: bool = False,
    ) -> Any:
        """Fill missing cells.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C). Pixels that are NaN, in a table also
            masked ones, are missing.
        n_draws : int, optional
            Number of drawn completions. By default, missing cells get one value each.
        random_state : int, default 0
            Seed of the draws.
        y : object, optional
            The class, or the number, that every row is taken to have. By default it is unknown.
        strategy : {"mean", "median", "mode"}, default "mean"
            The one value of a missing number: its mean or its median given the known cells, or its
            value in the most probable completion of the row. A category has its most probable level
            given the known cells, with "mode" and where log p of incomplete rows is not exact that
            of the completion, as pixels and strings have always. So "mode" fills the cells of a row
            together, the others each by itself. Where cells that were hidden from
            the fit have shown that it helps, a mean, and the probabilities of levels, are mixed
            with those about centres of rows: then ``status_["impute"]``, which says what means are
            worth, is "approximate". Draws and log p are the density's alone.
        tails : bool, default False
            Whether numbers may leave the range that the rows of the fit had.

        Returns
        -------
        DataFrame or ndarray, or list
            ``X`` without missing cells; with ``n_draws``, a list of such completions. Of a missing
            string, ``alternatives`` tells the most probable ones with their probabilities.

        Raises
        ------
        ValueError
            For an ``n_draws`` under 1, another ``strategy``, or a ``y`` that the target can't have;
            a table with molecules in space has neither ``y`` nor another strategy than "mean".
        """
        several = self._several()
        if several is not None and several.columns:
            return impute_table(several, X, n_draws, random_state, y, strategy, tails)
        full = impute(self._model(), plain_frame(X), n_draws, random_state, y, strategy, tails)
        kind = kind_of(X)
        if n_draws is None:
            return in_kind(full, kind)
        return [in_kind(each, kind) for each in full]

    def completions(
        self, X: Any, n_draws: int | None = 8, random_state: int = 0, y: Any = None
    ) -> tuple[list[Any], np.ndarray]:
        """Completions of rows with missing cells, with their log-probabilities.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        n_draws : int or None, default 8
            Number of drawn completions. None: the most probable one alone.
        random_state, y
            As of ``impute``.

        Returns
        -------
        completed : list
            Completions of ``X``, the most probable one of each row first.
        log_prob : ndarray, shape (n_draws, n)
            log p(x) of the completed rows, or log p(x, y) with ``y``; nats, in the units of the raw
            data.

        Raises
        ------
        ValueError
            For an ``n_draws`` under 1, or a ``y`` that the target can't have.
        """
        kind = kind_of(X)
        several, log_prob = completions(self._model(), plain_frame(X), n_draws, random_state, y)
        return [in_kind(each, kind) for each in several], log_prob

    def alternatives(self, X: Any, count: int = 5) -> pd.DataFrame:
        """The most probable strings in place of a missing one, such as the caption of a picture.

        Parameters
        ----------
        X : DataFrame
            Rows, some of which lack one string.
        count : int, default 5
            How many strings of each row.

        Returns
        -------
        DataFrame
            The most probable first: ``row`` of X, the columns of strings, the exact
            ``probability`` of each given what is known of the row, and the probability ``left``
            for all strings that are not listed so far. A beam finds them, which may miss one.

        Raises
        ------
        CapabilityError
            If the model writes no strings, has a target, or a row lacks several strings.
        ValueError
            If no row lacks a string, or ``count`` is less than 1.
        """
        return alternatives(self._model(), plain_frame(X), count)

    def _given_back(self, X: Any) -> Any:
        """Drawn rows in the kind of data frame that the fit was given."""
        return in_kind(X, vars(self).get("kind_", Kind()))

    def adapt(
        self, X: Any, *, density: bool = False, max_time: float | None = None, random_state: int = 0
    ) -> Self:
        """Adapt to a place where the classes have other shares, without labels.

        p(x | y) is taken to be the same there; ``change_`` says what has changed, and whether this
        assumption fits.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        density : bool, default False
            Whether p(x) is fitted anew to ``X``; p(x | y) is then no longer kept. If one network of
            pictures has learned p(x) and p(y | x), and more than the shares has changed, p(y | x)
            is refined by self-training on ``X``.
        max_time : float, optional
            Seconds of that fit.
        random_state : int, default 0
            Seed.

        Returns
        -------
        Self
            A new fitted estimator; this one stays as it is.

        Raises
        ------
        ValueError
            If the target is not of classes.
        """
        model = adapt_to(self._model(), X, density=density, max_time=max_time, seed=random_state)
        return self._with(model)

    @property
    def change_(self) -> Change:
        """What the last ``adapt`` found.

        Returns
        -------
        Change
            Print it, or read its ``frame()``.

        Raises
        ------
        AttributeError
            If the model was not adapted.
        """
        return change_of(self._model())

    def distil(
        self,
        steps: int = 1,
        X: Any = None,
        *,
        max_time: float | None = None,
        random_state: int = 0,
        verbose: bool = False,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """Train a student that draws in a few calls of its network.

        All other answers stay as they are.

        Parameters
        ----------
        steps : int, default 1
            Calls of the network per draw, 1 to 64.
        X : DataFrame or array_like, shape (n, d), optional
            Rows to learn from, at least 16 whole ones. By default, draws of this model.
        max_time : float, optional
            Seconds of training, without a limit by default.
        random_state : int, default 0
            Seed of the training.
        verbose : bool, default False
            Whether progress is shown.
        checkpoint : str or Path, optional
            A folder to which the state of the training is written.
        resume : bool, default False
            Whether the training goes on from the state in ``checkpoint``.

        Returns
        -------
        Self
            A new fitted estimator; this one stays as it is.

        Raises
        ------
        ValueError
            For a number of steps out of range, or too few rows.
        CapabilityError
            If the family's draws can't be distilled.
        """
        folder = None if checkpoint is None else Path(checkpoint)
        model = distil(
            self._model(),
            steps,
            X,
            max_time=max_time,
            seed=random_state,
            verbose=verbose,
            checkpoint=folder,
            resume=resume,
        )
        return self._with(model)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the model's folder; ``conjoin.load`` reads it.

        Parameters
        ----------
        path : str or Path
            The folder.
        force : bool, default False
            Whether an existing folder may be replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            If the folder exists and ``force`` is False.
        ValueError
            If the model can't be saved.
        """
        check_is_fitted(self, "model_")
        return save_model(self.model_, path, force=force)

    def report(
        self,
        path: str | Path,
        X: Any = None,
        y: Any = None,
        *,
        show_rows: bool = False,
        false_alarm: float | None = None,
        max_error: Any = None,
    ) -> Path:
        """Write one HTML file about the model and, if given, held-out rows.

        Parameters
        ----------
        path : str or Path
            The file.
        X : DataFrame or array_like, shape (n, d), optional
            Rows, or images, that the model was not fitted to.
        y : array_like, shape (n,), or DataFrame, optional
            Their labels.
        show_rows : bool, default False
            Whether single rows or pictures may appear, among them those not accepted, with reasons.
        false_alarm, max_error : optional
            The rates of the verdicts, as ``decide`` takes them. Default: the least that the
            calibration rows support, from 5 % on.

        Returns
        -------
        Path
            The file.
        """
        from conjoin.report import write_report
        from conjoin.report.several import write_several

        rates = {"false_alarm": false_alarm, "max_error": max_error}
        if self._several() is not None:
            return write_several(self, path, X, y, show_rows=show_rows, **rates)
        return write_report(self, path, X, y, show_rows=show_rows, **rates)

    def _evaluate(self, X: Any, y: Any, false_alarm: float, max_error: Any) -> dict[str, Any]:
        several = self._several()
        if several is not None:
            if y is None and not several.columns:
                return evaluate_all(several, several.codec.rows(X), None, false_alarm, max_error)
            rows, columns = self._several_rows(several, X, y)
            return evaluate_all(several, rows, columns, false_alarm, max_error)
        rows = self._model().rows(X)
        if y is None:
            return evaluate(self._model(), rows, None, None, false_alarm, max_error)
        labels, known, *_ = self._read_target(y, len(rows))
        return evaluate(self._model(), rows, labels, known, false_alarm, max_error)


def _all_numbers(frame: pd.DataFrame) -> bool:
    return all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes)


def estimator_of(task: str) -> Any:
    """The class of estimators for "classes", a "number" or a "density"."""
    return {kind._task: kind for kind in _JointEstimator.__subclasses__()}[task]

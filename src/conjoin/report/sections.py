"""What the report says, section by section, as plain values for the template."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from conjoin.calibration.conformal import rate_interval
from conjoin.core import CapabilityError, Field, Rows
from conjoin.model.model import Model
from conjoin.model.words import (
    MEANING,
    cell,
    energy_words,
    measures,
    number,
    percent,
    plural,
    support,
)
from conjoin.plot.choose import promised_rates, telling_columns
from conjoin.questions.bits import bits_of
from conjoin.questions.decide import decide
from conjoin.questions.evaluate import prediction
from conjoin.questions.unlike import unlike_fit
from conjoin.report.examples import drawn_rows
from conjoin.util.energy import Energy, Meter

__all__ = [
    "Answers",
    "attempt",
    "energy",
    "likelihood",
    "predictor",
    "promises",
    "quality",
    "row_table",
    "sample_rows",
    "schema_table",
    "seen",
    "unlike",
    "verdict_counts",
]

SHOWN_ROWS = 5
SHOWN_COLUMNS = 6
DRAWN_PICTURES = 64
MAX_ASKED_PICTURES = 300  # pictures asked about, where each answer takes many calls of a network
VERDICTS = ("accept", "ambiguous", "unfamiliar")


class Answers:
    """What the model answers for the rows asked about, evaluated once. Empty where there are none;
    a sample of pictures where each answer takes many calls of a network."""

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        false_alarm: float | None = None,
        max_error: Any = None,
    ) -> None:
        self.model: Model = estimator.model_
        self.rates = _rates(self.model, false_alarm, max_error)
        self.raised = max_error is None
        self.refused = ""
        self.guess: np.ndarray | None = None
        self.rows: Rows | None = None if X is None else self.model.rows(X)
        self.given = 0 if self.rows is None else len(self.rows)
        self.labelled = False
        self.figures: dict[str, Any] = {}
        self.table: pd.DataFrame | None = None
        self.energy: Energy | None = None
        if self.rows is not None:
            self._ask(estimator, y)

    def _ask(self, estimator: Any, y: Any) -> None:
        assert self.rows is not None
        rows = self._asked()
        target = self.model.target
        self.rows = self.rows.take(rows)
        if target is not None and y is not None:
            labels, known, *_ = estimator._read_target(y, self.given)
            self.y = labels[rows]
            self.known = known[rows]
            self.labelled = bool(self.known.any())
        with Meter() as meter:
            if self.rates is not None:
                self.table, self.refused = attempt(self._decide, self.rows)
            self.log_prob = (
                estimator.score_samples(self.rows)
                if self.table is None
                else self.table["log_prob"].to_numpy()
            )
        self.energy = meter.energy
        if target is not None and self.labelled:
            self.figures = prediction(self.model, self.rows, self.y, self.known)
            if "accuracy" in self.figures:
                self._guess()

    @property
    def asked(self) -> dict[str, Any]:
        """The rates, as ``decide`` takes them."""
        assert self.rates is not None
        return {"false_alarm": self.rates[0], "max_error": self.rates[1]}

    def _decide(self, rows: Rows) -> pd.DataFrame:
        return decide(self.model, rows, explain=False, **self.asked)

    def _guess(self) -> None:
        """The best guess of each row, and its probability."""
        assert self.rows is not None
        if self.table is not None:
            self.guess = self.table["best_guess"].to_numpy()
            self.confidence = self.table["confidence"].to_numpy()
            return
        proba, code = self.model.log_proba(self.model.encode(self.rows), self.rows).exp().max(1)
        self.guess = self.model.classes.decode(code)
        self.confidence = proba.numpy()

    def _asked(self) -> Any:
        """Which of the rows are asked about: all, or some pictures where log p(x) of each takes
        many calls of a network."""
        if (
            self.given <= MAX_ASKED_PICTURES
            or self.model.codec.columnwise
            or not self.model.density_of_x.capabilities.stochastic
        ):
            return slice(None)
        return sample_rows(self.given)

    @property
    def count(self) -> str:
        """How many rows are asked about, in words."""
        return plural(0 if self.rows is None else len(self.rows), self.model.codec.noun)

    @property
    def sampled(self) -> str:
        """Where not all that were given are asked about: of how many."""
        return (
            ""
            if self.rows is None or len(self.rows) == self.given
            else f" (drawn at random from {self.given:,})"
        )


def _rates(model: Model, false_alarm: float | None, max_error: Any) -> tuple[float, Any] | None:
    """The rates asked; where none are, the least that the calibration rows support."""
    least = promised_rates(model)
    if false_alarm is None and max_error is None:
        return least
    if model.calibration is None:
        return None
    usual = least or (0.05, 0.05)
    return (
        usual[0] if false_alarm is None else false_alarm,
        usual[1] if max_error is None else max_error,
    )


def sample_rows(count: int) -> np.ndarray:
    """Which of so many pictures are asked about, where not all are: always the same."""
    return np.sort(
        np.random.default_rng(0).choice(count, min(MAX_ASKED_PICTURES, count), replace=False)
    )


def unlike(found: Answers) -> str:
    """That the rows asked about are not like those of the fit, where their errors, or their
    familiarity, say so."""
    if found.table is None:
        return ""
    labels = {"y": found.y, "known": found.known} if found.labelled else {}
    assert found.rates is not None
    return unlike_fit(found.model, found.rows, found.table, *found.rates, **labels)


def quality(found: Answers) -> dict[str, Any]:
    """Metrics as (name, value, meaning), and where they come from; the calibration rows stand in
    where no labels were given."""
    figures = found.figures
    model = found.model
    if found.labelled:
        rows = int(found.known.sum())
        count = plural(rows, f"labelled {model.codec.noun}")
        metrics = (
            _class_metrics(figures, rows)
            if "accuracy" in figures
            else _number_metrics(figures, model)
        )
        return {
            "source": f"{count} that were given for this report",
            "metrics": metrics,
        }
    calibration = model.calibration
    if calibration is None or not model.has_classes or not (calibration.label >= 0).any():
        return {"source": "", "metrics": []}
    known = calibration.label >= 0
    right = (calibration.guess == calibration.label)[known]
    words = (
        f"{right.sum():,} of {len(right):,} best guesses are right, if every row must be answered",
    )
    count = plural(len(right), f"labelled {model.codec.noun}")
    return {
        "source": f"{count} that were held out at the fit",
        "metrics": [("Accuracy", percent(right.mean()), *words)],
    }


def _class_metrics(figures: dict[str, Any], rows: int) -> list[tuple[str, str, str]]:
    right = round(figures["accuracy"] * rows)
    out = [
        (
            "Accuracy",
            percent(figures["accuracy"]),
            f"{right:,} of {rows:,} best guesses are right, if every row must be answered",
        )
    ]
    if "auc" in figures:
        out.append(
            (
                "AUC",
                number(figures["auc"]),
                "how well the classes are put in order; 0.5 is chance, 1 is perfect",
            )
        )
    out.append(
        (
            "Log-loss",
            f"{number(figures['log_loss'])} nats",
            "−log p of the true class, the mean; 0 is perfect",
        )
    )
    out.append(
        (
            "Calibration error",
            number(figures["ece"]),
            "between confidence and share right, debiased; 0 is the least that can be seen",
        )
    )
    return out


def _number_metrics(figures: dict[str, Any], model: Model) -> list[tuple[str, str, str]]:
    unit = f"in units of {model.target.name}"  # type: ignore[union-attr]
    return [
        ("Mean absolute error", f"{figures['mae']:.4g}", f"of the median, {unit}"),
        ("Root mean squared error", f"{figures['rmse']:.4g}", f"of the mean, {unit}"),
        ("CRPS", f"{figures['crps']:.4g}", f"of the whole p(y | x), {unit}; smaller is better"),
        (
            "Log-loss",
            f"{number(figures['log_loss'])} nats",
            "−log p(y | x) of the true value, the mean; smaller is better",
        ),
    ]


def likelihood(found: Answers, estimator: Any) -> dict[str, Any]:
    """log p(x) with its unit, measure and status."""
    model = found.model
    status = found.model.status["log_prob"].value
    drawn = (
        None
        if found.rows is not None
        else drawn_rows(estimator, 256 if model.codec.columnwise else DRAWN_PICTURES)
    )
    values = found.log_prob if drawn is None else estimator.score_samples(drawn)
    bits = None
    if model.codec.per_dimension and status != "relative":
        bits = number(
            float(bits_of(values, model.encode(found.rows if drawn is None else drawn)).mean()), 2
        )
    return {
        "mean": f"{values.mean():.2f}",
        "bits": bits,
        "range": f"{np.quantile(values, 0.05):.1f} to {np.quantile(values, 0.95):.1f}",
        "source": f"the {found.count} asked about{found.sampled}"
        if drawn is None
        else f"{plural(len(values), model.codec.noun)} that the model draws",
        "measure": measures(model),
        "status": status,
        "meaning": MEANING[status],
        "statistic": model.familiarity.name,
    }


def verdict_counts(found: Answers) -> list[tuple[str, int, str]]:
    if found.table is None:
        return []
    counts = found.table["verdict"].value_counts()
    return [
        (name, int(counts.get(name, 0)), percent(counts.get(name, 0) / max(1, len(found.table)), 0))
        for name in VERDICTS
    ]


def promises(found: Answers) -> dict[str, Any]:
    """Rates asked and got: (what, asked, got, 95 % interval, rows)."""
    out: dict[str, Any] = {
        "support": support(found.model),
        "rows": [],
        "raised": "",
        "why": found.refused or _unmeasured(found),
    }
    if found.rates is None or found.table is None:
        return out
    rows = len(found.table)
    unfamiliar = int((found.table["verdict"] == "unfamiliar").sum())
    out["rows"].append(
        (
            f"{found.model.codec.noun.capitalize()}s called unfamiliar",
            f"at most {percent(found.rates[0], 0)}",
            *seen(unfamiliar, rows),
        )
    )
    if found.labelled:
        out["rows"] += _error_rows(found)
    if found.model.target is not None and found.raised and found.rates[1] > 0.05:
        least = f"the least at which anything is accepted is {percent(found.rates[1], 0)}"
        out["raised"] = (
            f"The calibration rows do not support an error rate of 5 %; {least}, and that is "
            "asked here."
        )
    return out


def _unmeasured(found: Answers) -> str:
    """Why no rate was measured."""
    noun = found.model.codec.noun
    if found.rows is None:
        return f"that needs {noun}s which the model has not seen."
    return "that needs more calibration rows than were held out at the fit."


def seen(count: int, rows: int) -> tuple[str, str, str]:
    """A share, its exact 95 % interval (Clopper and Pearson), and what it was counted on."""
    ends = rate_interval(count, rows)
    if ends is None:
        return "none", "", "0 of 0"
    return percent(count / rows), " to ".join(map(percent, ends)), f"{count:,} of {rows:,}"


def _error_rows(found: Answers) -> list[tuple[str, str, str, str, str]]:
    table = found.table
    assert found.rates is not None
    limits = found.rates[1]
    each = limits if isinstance(limits, Mapping) else {}
    asked = "for each class" if each else f"at most {percent(limits, 0)}"
    assert table is not None and found.model.target is not None
    if found.model.has_number:
        inside = table["low"].to_numpy()[found.known] <= found.y[found.known]
        inside &= found.y[found.known] <= table["high"].to_numpy()[found.known]
        return [
            (
                "Values outside their interval",
                asked,
                *seen(int((~inside).sum()), len(inside)),
            )
        ]
    accepted = (table["verdict"] == "accept").to_numpy() & found.known
    wrong = accepted & (table["best_guess"].to_numpy() != found.y)
    out = [
        (
            "Accepted answers that are wrong",
            asked,
            *seen(int(wrong.sum()), int(accepted.sum())),
        )
    ]
    for name in found.model.classes.labels[:20]:
        mine = found.known & (found.y == name)
        if mine.any():
            out.append(
                (
                    f"{name}: accepted with a wrong answer",
                    f"at most {percent(each[name], 0)}" if name in each else "not asked",
                    *seen(int(wrong[mine].sum()), int(mine.sum())),
                )
            )
    return out


def predictor(model: Model) -> dict[str, Any] | None:
    """How p(y | x) was chosen: (candidate, log-loss, chosen)."""
    facts = model.facts.get("predictor")
    if facts is None:
        return None
    losses = [
        (name, number(loss), name == facts["chosen"])
        for name, loss in sorted(facts.get("log_loss", {}).items(), key=lambda each: each[1])
    ]
    return {
        "chosen": facts["chosen"],
        "why": facts.get("why", ""),
        "losses": losses,
        "rows": model.facts["rows"]["choose"],
    }


def energy(found: Answers) -> list[tuple[str, str, str]]:
    facts = found.model.facts.get("energy", {})
    out = [("Fitting", *energy_words(facts))]
    if found.energy is not None and found.table is not None:
        out.append(
            (
                f"Deciding on {plural(len(found.table), found.model.codec.noun)}",
                *energy_words(found.energy.to_json()),
            )
        )
    return out


def schema_table(model: Model) -> list[Field]:
    """A line for each column, or one for all pixels. Values of columns that were set aside are not
    shown."""
    return model.codec.fields()


def row_table(estimator: Any, real: pd.DataFrame | None) -> dict[str, Any]:
    """Some rows that the model draws; beside as many real ones where they may be shown."""
    model = estimator.model_
    strings = [c.name for c in model.codec.schema.modelled if c.is_text]
    names = [*telling_columns(model, SHOWN_COLUMNS), *strings]
    drawn = drawn_rows(estimator, SHOWN_ROWS)
    parts = (
        [("drawn", drawn)] if real is None else [("real", real.iloc[:SHOWN_ROWS]), ("drawn", drawn)]
    )
    rows = [
        (kind, [cell(row.get(name)) for name in names])
        for kind, part in parts
        for _, row in part.iterrows()
    ]
    return {
        "columns": list(map(str, names)),
        "rows": rows,
        "left": len(model.codec.columns) - len(names),
    }


def attempt(build: Any, *arguments: Any) -> tuple[Any, str]:
    """(result, "") or (None, why): a section that this model can't fill says so, and the report
    goes on."""
    try:
        return build(*arguments), ""
    except (ValueError, CapabilityError) as error:
        return None, str(error)

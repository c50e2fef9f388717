"""predict, decide, impute, sample, counterfactual and score of rows, as JSON."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter
from pydantic import Field, create_model

from conjoin.codecs.sequence import Prefix
from conjoin.core import Status
from conjoin.core.capabilities import worst
from conjoin.model.model import Model
from conjoin.questions.decide import ACCEPT
from conjoin.questions.impute import status_of_means
from conjoin.questions.predict import log_proba, means, quantiles
from conjoin.serving.asking import asked
from conjoin.serving.gate import Gate
from conjoin.serving.limits import Limits
from conjoin.serving.metrics import Metrics
from conjoin.serving.row_bodies import Beginning, Body, Given, Range, Rates, rows_type
from conjoin.util.energy import Energy, Tally
from conjoin.util.plain import plain_value

__all__ = ["RowAnswers", "RowApi", "row_routes"]

Strategy = Literal["mean", "median", "mode"]
MAX_SEED = 2**31
INFINITE = "Infinity"  # log p of what has no density, or none at all
QUANTILES = (0.05, 0.95)  # of a number, beside its mean


class RowAnswers(Body):
    """``rows``: one object for each row, in their order, where null is missing and numbers may be
    "Infinity" or "-Infinity"; ``notes``: what was assumed."""

    rows: list[dict[str, Any]]
    status: str | None = Field(None, description="exact, lower bound, approximate or relative")
    seed: int | None = Field(None, description="draws the same again")
    notes: list[str] = Field([], description="what was assumed")
    energy: dict[str, Any] | None = Field(None, description="joules of the answer, and of a row")


class RowApi:
    """The questions about rows of one model; ``estimator`` answers them."""

    def __init__(self, estimator: Any, limits: Limits, gate: Gate, metrics: Metrics) -> None:
        self.estimator = estimator
        self.model: Model = estimator.model_
        self.limits = limits
        self.gate = gate
        self.metrics = metrics

    async def ask(self, body: Any, call: Callable[[], dict[str, Any]]) -> RowAnswers:
        """Answered in the model's thread; what the library refuses names the field."""
        scarce = "There is not enough memory for this: send fewer rows."
        tally = Tally()

        def tallied() -> dict[str, Any]:
            with tally:
                return call()

        found, notes = await asked(self.gate, tallied, body, scarce, "rows")
        self.metrics.rows.inc(len(found["rows"]))
        return RowAnswers(**found, notes=notes, energy=self._spent(found["rows"], tally.energy))

    def _spent(self, rows: list[dict[str, Any]], energy: Energy) -> dict[str, Any]:
        """Of all rows, of each, and where there are verdicts of each that was accepted."""
        self.metrics.spent(energy.joules)
        verdicts = Counter(row["verdict"] for row in rows if "verdict" in row)
        for verdict, count in verdicts.items():
            self.metrics.answered(str(verdict), count)
        accepted = {"accepted": verdicts[ACCEPT]} if verdicts else {}
        return energy.told(row=len(rows), **accepted)

    def raw(self, rows: list[Any]) -> Any:
        """What estimators take: a frame of the columns that any row has, of all where none has
        any, or strings."""
        if not self.model.codec.columnwise:
            return rows
        names = {str(column.name): column.name for column in self.model.codec.schema.columns}
        there = [name for name in names if any(name in row for row in rows)] or list(names)
        cells = {names[name]: [row.get(name) for row in rows] for name in there}
        return pd.DataFrame(cells, index=pd.RangeIndex(len(rows)))

    # ------------------------------------------------------------------ answers

    def predict(self, rows: list[Any]) -> dict[str, Any]:
        """Each class with its probability, or the mean of a number and a 90 % interval."""
        model = self.model
        X = self.raw(rows)
        status = self._status(X, "predict_proba")
        if model.has_classes:
            labels = [plain_value(label) for label in model.classes.labels]
            proba = np.exp(log_proba(model, X))
            answers = [
                {
                    "answer": labels[int(row.argmax())],
                    "proba": dict(zip(map(str, labels), row.tolist(), strict=True)),
                }
                for row in proba
            ]
            return {"rows": answers, "status": status}
        low, high = quantiles(model, X, QUANTILES).T
        table = pd.DataFrame({"answer": means(model, X), "low": low, "high": high})
        return {"rows": records(table), "status": status}

    def decide(self, rows: list[Any], rates: Rates) -> dict[str, Any]:
        asked = {} if self.model.target is None else {"max_error": self._errors(rates.max_error)}
        if rates.max_width is not None and not self.model.has_number:
            raise ValueError("max_width is of a number's interval; this model predicts none.")
        X = self.raw(rows)
        table = self.estimator.decide(
            X,
            false_alarm=rates.false_alarm,
            max_width=rates.max_width,
            reasons=rates.reasons,
            **asked,
        )
        return {"rows": records(table), "status": self._status(X, "log_prob")}

    def score(self, rows: list[Any]) -> dict[str, Any]:
        model = self.model
        encoded = model.encode(self.raw(rows))
        table = pd.DataFrame({"log_prob": model.log_prob_raw(encoded)})
        if model.calibration is not None:
            table["familiarity"] = model.p_value(encoded)
        return {"rows": records(table), "status": model.status_for(encoded)["log_prob"]}

    def impute(self, body: Any) -> dict[str, Any]:
        self._bounded("draws", body.draws or 1, body.rows)
        X = self.raw(body.rows)
        y = self._label(body.y, "y")
        full = self.estimator.impute(
            X,
            body.draws,
            body.seed,
            y,
            strategy=body.strategy,
            tails=body.tails,
        )
        status = self._status(X, "sample")
        if body.draws is None:
            mean = status_of_means(self.model, y).get("impute")
            found = status if mean is None else mean.value
            return {"rows": self._framed(full), "status": found}
        each = [self._framed(one) for one in full]
        rows = [{"draw": place + 1, **row} for place, one in enumerate(each) for row in one]
        return {"rows": rows, "status": status, "seed": body.seed}

    def sample(self, body: Any) -> dict[str, Any]:
        seed = secrets.randbelow(MAX_SEED) if body.seed is None else body.seed
        asked: dict[str, Any] = {"where": body.where, "tails": body.tails}
        asked |= {"temperature": body.temperature, "top_p": body.top_p}
        if body.y is not None:
            asked["y"] = self._wanted(body.y, "y")
        names = {str(name): name for name in self._askable()}
        given = {names.get(name, name): _asked(value) for name, value in body.given.items()}
        X, y = self.estimator.sample(body.n, given=given, random_state=seed, **asked)
        rows = self._framed(X)
        if y is not None and self.model.target is not None:
            name = str(self.model.target.name)
            rows = [
                {**row, name: _cell(label)} for row, label in zip(rows, y.tolist(), strict=True)
            ]
        status = self._status_of_draws(bool(body.given))
        return {"rows": rows, "status": status, "seed": seed}

    def counterfactual(self, body: Any) -> dict[str, Any]:
        self._bounded("n", body.n, body.rows)
        to = None if body.to is None else self._wanted(body.to, "to")
        if to is None and self.model.has_number:
            raise ValueError("to is missing: for a number it is {low, high}.")
        found = self.estimator.counterfactual(
            self.raw(body.rows), to, body.keep, body.n, body.seed
        ).reset_index()
        status = self._status_of_draws(True)
        return {"rows": records(found), "status": status, "seed": body.seed}

    def _bounded(self, name: str, times: int, rows: list[Any]) -> None:
        """ValueError where more rows would be made than a request may ask for."""
        if times * len(rows) > self.limits.rows:
            raise ValueError(f"{name} times rows may be at most {self.limits.rows:,}.")

    # ------------------------------------------------------------------ what answers are worth

    def _status(self, X: Any, question: str) -> str:
        """Of the rows as they were sent, before anything is filled in."""
        return self.model.status_for(self.model.encode(X))[question]

    def _status_of_draws(self, given: bool) -> str:
        """Of new rows, of which cells may be ``given``."""
        own = self.model.status["sample"]
        able = self.model.joint.capabilities.conditionals
        exact = able == "any" or (able == "prefix" and not self.model.codec.columnwise)
        return (own if exact or not given else worst(own, Status.APPROXIMATE)).value

    # ------------------------------------------------------------------ words to values

    def _askable(self) -> list[Any]:
        """Columns that a draw can be given."""
        return [column.name for column in self.model.codec.schema.drawn]

    def _framed(self, X: Any) -> list[dict[str, Any]]:
        codec = self.model.codec
        return records(X if codec.columnwise else self.model.rows(X).frame)

    def _label(self, value: Any, name: str) -> Any:
        """A class by how it is written, or a number; None stays."""
        target: Any = self.model.target
        if value is None:
            return None
        if isinstance(value, Range | Beginning | list):
            raise ValueError(f"{name} must be one value.")
        if target is None:
            raise ValueError(f"{name} asks for a target, which this model does not have.")
        if not target.discrete:
            return target.asked(value)
        labels = {str(label): label for label in target.labels}
        if str(value) not in labels:
            shown = ", ".join(list(labels)[:20])
            raise ValueError(f"{name}={value!r} is none of the classes {shown}.")
        return labels[str(value)]

    def _wanted(self, value: Any, name: str) -> Any:
        """As ``_label``; of a number also a range, as a tuple."""
        if isinstance(value, Range):
            if not self.model.has_number:
                raise ValueError(f"{name} is a range, and this model predicts no number.")
            return value.low, value.high
        return self._label(value, name)

    def _errors(self, rate: Any) -> Any:
        if not isinstance(rate, Mapping):
            return rate
        if not self.model.has_classes:
            raise ValueError("max_error by class needs a model with classes.")
        return {self._label(label, "max_error"): each for label, each in rate.items()}


def row_routes(api: RowApi) -> APIRouter:
    """Of those questions that the model can answer."""
    router = APIRouter(tags=["rows"])
    limits = api.limits
    rows: Any = (rows_type(api.model, limits), ...)
    seed: Any = (int, Field(0, ge=0, lt=MAX_SEED))
    plain: Any = create_model("Rows", __base__=Body, rows=rows)
    rated: Any = create_model("RowsToDecide", __base__=Rates, rows=rows)
    filled: Any = create_model(
        "RowsToFill",
        __base__=Body,
        rows=rows,
        draws=(int | None, Field(None, ge=1, le=1_000, description="null: one value each")),
        strategy=(Strategy, Field("mean")),
        y=(Given, None),
        tails=(bool, False),
        seed=seed,
    )
    drawn: Any = create_model(
        "RowsToDraw",
        __base__=Body,
        n=(int, Field(1, ge=1, le=limits.rows)),
        y=(Given, None),
        given=(dict[str, Given], Field({}, description="column: value, {low, high} or [levels]")),
        where=(list[str], Field([], max_length=100, description="such as 'start <= end'")),
        tails=(bool, False),
        temperature=(float, Field(1.0, gt=0, le=100, description="of strings")),
        top_p=(float, Field(1.0, gt=0, le=1, description="of strings")),
        seed=(int | None, Field(None, ge=0, lt=MAX_SEED, description="null: new each time")),
    )
    changed: Any = create_model(
        "RowsToChange",
        __base__=Body,
        rows=rows,
        to=(Given, Field(None, description="null: runner-up")),
        keep=(list[str], Field([], description="columns that must not change")),
        n=(int, Field(3, ge=1, le=20)),
        seed=seed,
    )

    @router.post("/score", summary="log p(x), and how familiar each row is")
    async def score(body: plain) -> RowAnswers:
        return await api.ask(body, lambda: api.score(body.rows))

    @router.post("/decide", summary="Accept an answer, or say why not")
    async def decide(body: rated) -> RowAnswers:
        return await api.ask(body, lambda: api.decide(body.rows, body))

    @router.post("/impute", summary="Fill in what is missing")
    async def impute(body: filled) -> RowAnswers:
        return await api.ask(body, lambda: api.impute(body))

    @router.post("/sample", summary="New rows")
    async def sample(body: drawn) -> RowAnswers:
        return await api.ask(body, lambda: api.sample(body))

    if api.model.target is None:
        return router

    @router.post("/predict", summary="p(y | x), without regard to familiarity")
    async def predict(body: plain) -> RowAnswers:
        return await api.ask(body, lambda: api.predict(body.rows))

    if api.model.codec.columnwise:

        @router.post("/counterfactual", summary="Small changes after which the answer is another")
        async def counterfactual(body: changed) -> RowAnswers:
            return await api.ask(body, lambda: api.counterfactual(body))

    return router


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as objects; what is missing is null, what is infinite "Infinity" or "-Infinity"."""
    names = [str(name) for name in table.columns]
    columns = [[_cell(value) for value in table[name].tolist()] for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _cell(value: Any) -> Any:
    """A cell in JSON's types, which have no infinite numbers: these are told in words."""
    value = plain_value(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if np.isinf(value):
            return INFINITE if value > 0 else f"-{INFINITE}"
        return None if np.isnan(value) else value
    return None if pd.isna(value) else str(value)


def _asked(value: Any) -> Any:
    """A condition as ``sample`` takes it."""
    if isinstance(value, Range):
        return value.low, value.high
    return Prefix(value.prefix) if isinstance(value, Beginning) else value

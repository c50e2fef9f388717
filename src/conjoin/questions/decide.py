"""decide: accept an answer, or say which of the two alarms stands against it.

unfamiliar   the conformal p-value of the row's familiarity is at most ``false_alarm`` ambiguous
p(y | x) is too flat to keep the promise on errors (or the interval is too wide) accept
neither
"""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.calibration.conformal import rows_for_error, rows_for_false_alarm
from conjoin.core import Encoded, Rows
from conjoin.model.calibrate import predictive_of
from conjoin.model.model import Model
from conjoin.questions.explain import reasons

__all__ = ["NO_THRESHOLD", "decide"]

ACCEPT = "accept"
AMBIGUOUS = "ambiguous"
UNFAMILIAR = "unfamiliar"
EMPTY_SHARE = 0.9  # of the cells of a row that are missing, from which on too little is known
NO_THRESHOLD = ": no confidence keeps the asked error rate on the calibration rows"


def decide(
    model: Model,
    X: Any,
    *,
    false_alarm: float = 0.05,
    max_error: float | Mapping[Any, float] | None = 0.05,
    max_width: float | None = None,
    log: str | Path | None = None,
    explain: bool = True,
) -> pd.DataFrame:
    """One row of verdicts per row of ``X``.

    ``false_alarm``: share of rows like those held out that may be called unfamiliar. ``max_error``:
    share of the accepted answers that may be wrong, or {class: share of that class that may be
    accepted with a wrong answer}; None promises nothing about errors, and every familiar row gets
    its best guess. ``max_width``: of a regressor's interval. ``log``: a file to which one JSON line
    per row is appended. ``explain``: whether reasons say what makes a row unfamiliar.
    ``attrs["no_threshold"]`` of the table counts the rows that are ambiguous because no confidence
    keeps the asked rate. A row of which nearly all cells are missing is ambiguous, whatever its
    confidence. Raises ValueError with the number of calibration rows needed where a rate can't be
    promised. The reason of a row also names cells that could not be read and count as missing."""
    _refuse_width_alone(max_error, max_width)
    rows = model.rows(X)
    encoded = model.encode(rows)
    _refuse_few_rows(model, false_alarm, max_error)
    table = pd.DataFrame(index=rows.index)
    familiarity = model.p_value(encoded)
    unfamiliar = familiarity <= false_alarm
    hopeless = np.zeros(len(rows), dtype=bool)
    if model.has_classes:
        doubt, hopeless = _classes(model, table, encoded, rows, max_error, false_alarm)
    elif model.has_number:
        doubt = _number(model, table, encoded, max_error, max_width)
    else:
        doubt = np.full(len(rows), "", dtype=object)
    table["familiarity"] = familiarity
    table["log_prob"] = model.log_prob_raw(encoded)
    empty = _nearly_empty(model, encoded)
    doubt = np.where([bool(text) for text in empty], empty, doubt)
    hopeless &= np.array([not text for text in empty], dtype=bool)
    ambiguous = np.array([bool(text) for text in doubt], dtype=bool)
    table["verdict"] = np.select([unfamiliar, ambiguous], [UNFAMILIAR, AMBIGUOUS], ACCEPT)
    table["reason"] = np.where(unfamiliar, "", doubt)
    table.attrs["no_threshold"] = int((hopeless & ~unfamiliar).sum())
    if explain and unfamiliar.any():
        places = np.flatnonzero(unfamiliar)
        words = table["reason"].to_numpy(dtype=object, copy=True)
        words[places] = reasons(model, rows, encoded, places, false_alarm)
        table["reason"] = words
    _tell_unread(table, model.codec.unread(rows))
    _hide_answers(table)
    if log is not None:
        _append(Path(log), model, rows.frame, table)
    return table


def _refuse_width_alone(max_error: Any, max_width: float | None) -> None:
    if max_error is None and max_width is not None:
        raise ValueError(
            "max_width is of the interval that keeps max_error: give both, or neither."
        )


def _refuse_few_rows(model: Model, false_alarm: float, max_error: Any) -> None:
    """ValueError in terms of the rates that are asked, where nothing was held out, or too little
    for the false alarms."""
    if model.calibration is None:
        errors = model.target is not None and isinstance(max_error, int | float)
        needed = [
            f"a false-alarm rate of {false_alarm:g} needs {rows_for_false_alarm(false_alarm)}"
        ]
        needed += (
            [f"an error rate of {max_error:g} needs {_rows_for(model, max_error)} labelled ones"]
            if errors
            else []
        )
        raise ValueError(
            f"This model has no calibration rows ({', '.join(needed)}): fit with more rows, or "
            "call calibrate(X, y) with held-out ones."
        )
    model.calibrated.check_false_alarm(false_alarm)


def _nearly_empty(model: Model, encoded: Encoded) -> np.ndarray:
    """(B,) words for rows of which at least ``EMPTY_SHARE`` of the cells are missing, and every
    picture and string beside them, else ""."""
    codec = model.codec
    filled = encoded.filled
    filled = filled.reshape(*filled.shape[:2], math.prod(filled.shape[2:])).any(2)  # of a position
    beside = [filled[:, part].any(1) for part in codec.parts[1:]]
    count = len(codec.columns) - len(beside)
    missing = count - filled[:, :count].sum(1).numpy()
    empty = missing >= EMPTY_SHARE * count
    for known in beside:
        empty &= ~known.numpy()
    what = "columns" if codec.columnwise else codec.cells
    words = [
        f"{gone:,} of {count:,} {what} are missing: too little is known"
        if count
        else f"the {codec.noun} is not known"
        for gone in missing
    ]
    return np.where(empty, words, "").astype(object)


def _tell_unread(table: pd.DataFrame, unread: list[str]) -> None:
    """What could not be read, behind the reasons; also of rows that were accepted."""
    if any(unread):
        both = zip(table["reason"], unread, strict=True)
        table["reason"] = ["; ".join(filter(None, pair)) for pair in both]


def _hide_answers(table: pd.DataFrame) -> None:
    """An answer stands only where it was accepted."""
    if "answer" in table:
        table["answer"] = table["answer"].astype(object).where(table["verdict"] == ACCEPT, None)


def _classes(
    model: Model,
    table: pd.DataFrame,
    encoded: Encoded,
    rows: Rows,
    max_error: float | Mapping[Any, float] | None,
    false_alarm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill in answers; words of doubt per row, empty where the answer may be accepted, and whether
    no confidence would do."""
    proba = model.log_proba(encoded, rows).exp()
    confidence, guess = (part.numpy() for part in proba.max(1))
    table["answer"] = table["best_guess"] = model.classes.decode(torch.tensor(guess))
    table["confidence"] = confidence
    if max_error is None:
        return np.full(len(guess), "", dtype=object), np.zeros(len(guess), dtype=bool)
    needed = _thresholds(model, max_error, false_alarm)[guess]
    doubt = np.full(len(guess), "", dtype=object)
    for row in np.flatnonzero(~(confidence >= needed)):
        doubt[row] = _doubt(model, proba[row].numpy(), needed[row])
    return doubt, np.isposinf(needed)


def _thresholds(
    model: Model, max_error: float | Mapping[Any, float], false_alarm: float
) -> np.ndarray:
    """(K,) the least confidence at which each class may be answered."""
    classes = model.classes
    if not isinstance(max_error, Mapping):
        return np.full(
            len(classes.labels), model.calibrated.threshold(float(max_error), false_alarm)
        )
    least = np.full(len(classes.labels), -np.inf)
    for label, rate in max_error.items():
        code = classes.code(label)
        bound = model.calibrated.class_threshold(code, label, rate, false_alarm)
        others = np.arange(len(least)) != code
        least[others] = np.maximum(least[others], bound)
    return least


def _doubt(model: Model, proba: np.ndarray, needed: float) -> str:
    """Of a row whose confidence is too low: between which two classes it is."""
    order = np.argsort(-proba)
    digits = (
        next((d for d in range(2, 12) if round(proba[order[0]], d) < round(needed, d)), 12)
        if np.isfinite(needed)
        else 2
    )
    first, second = (f"{model.classes.labels[k]} {proba[k]:.{digits}f}" for k in order[:2])
    if np.isinf(needed):
        return f"{first}, {second}{NO_THRESHOLD}"
    return f"{first}, {second}: an answer needs {needed:.{digits}f}"


def _number(
    model: Model, table: pd.DataFrame, encoded: Encoded, max_error: Any, max_width: float | None
) -> np.ndarray:
    """Intervals that hold 1 - max_error of the held-out values, at the level that conformal ranks
    give them (V. Chernozhukov, K. Wuthrich and Y. Zhu (2021), Distributional conformal prediction,
    algorithm 1)."""
    found = predictive_of(model, encoded)
    if max_error is None:
        table["answer"] = table["best_guess"] = model.number.decode(found.median())
        return np.full(encoded.event.rows, "", dtype=object)
    if not isinstance(max_error, int | float):
        raise TypeError(
            "For a number, max_error is one rate: the share of intervals that may miss."
        )
    half = _half_level(model, float(max_error))
    levels = torch.tensor([[0.5, 0.5 - half, 0.5 + half]], dtype=torch.float64).expand(
        encoded.event.rows, -1
    )
    median, low, high = (model.number.decode(part) for part in found.quantile(levels.clamp(0, 1)).T)
    table["answer"] = table["best_guess"] = median
    table["low"] = low
    table["high"] = high
    wide = (high - low) > (np.inf if max_width is None else max_width)
    return np.where(
        wide, [f"the interval is {width:g} wide, more than {max_width}" for width in high - low], ""
    ).astype(object)


def _rows_for(model: Model, max_error: float) -> int:
    """Labelled calibration rows that an error rate needs: of a number it is a rank."""
    of = rows_for_error if model.has_classes else rows_for_false_alarm
    return of(max_error)


def _half_level(model: Model, rate: float) -> float:
    calibration = model.calibrated
    scores = np.sort(calibration.confidence[calibration.label >= 0])
    needed = rows_for_false_alarm(rate)
    if len(scores) < needed:
        raise ValueError(
            f"Intervals that miss at most {rate:g} need {needed} labelled calibration rows, "
            f"there are {len(scores)}."
        )
    return float(scores[min(len(scores), int(np.ceil((1 - rate) * (len(scores) + 1)))) - 1])


def _append(path: Path, model: Model, frame: pd.DataFrame, table: pd.DataFrame) -> None:
    """One JSON line per row: when, which model, which row (by hash), which verdict."""
    from conjoin.model.saving import model_hash

    model_id = model_hash(model)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a", encoding="utf-8") as file:
        for (_, row), (_, verdict) in zip(frame.iterrows(), table.iterrows(), strict=True):
            digest = hashlib.sha256(
                row.to_json(date_format="iso", default_handler=str).encode()
            ).hexdigest()
            answer = {
                key: None if pd.isna(value) else value
                for key, value in verdict.items()
                if key != "reason"
            }
            # no reason: its words hold values of the row
            entry = {
                "time": now,
                "model": model_id,
                "row": digest,
                **answer,
            }
            file.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")

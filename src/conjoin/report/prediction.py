"""How well y is predicted: the confusion matrix, what each column tells of y, and the rows that
were not answered."""

from typing import Any

import numpy as np
import pandas as pd

from conjoin.core import Rows
from conjoin.model.model import Model
from conjoin.model.words import cell, number, percent, plural
from conjoin.plot.choose import telling_columns
from conjoin.questions.decide import ACCEPT, UNFAMILIAR, decide
from conjoin.questions.evaluate import prediction
from conjoin.report.sections import Answers

__all__ = ["column_worth", "confusion", "flagged_rows"]

MAX_CLASSES = 10  # in the confusion matrix: those with most rows
MAX_COLUMNS = 12  # that are hidden one at a time
MAX_HIDDEN_ROWS = 200  # labelled rows of which cells are hidden
MAX_FLAGGED_ROWS = 20


def confusion(found: Answers) -> dict[str, Any] | None:
    """Counts of (true class, best guess); ``None`` without labels or classes."""
    if not found.labelled or found.guess is None:
        return None
    true = pd.Series(found.y[found.known]).astype(str).to_numpy()
    guess = pd.Series(found.guess[found.known]).astype(str).to_numpy()
    table = pd.crosstab(true, guess)
    names = pd.Series(np.concatenate([true, guess])).value_counts().index
    shown = [name for name in map(str, found.model.classes.labels) if name in set(names)]
    most = set(names[:MAX_CLASSES])
    shown = [name for name in shown if name in most]
    table = table.reindex(index=shown, columns=shown, fill_value=0)
    left = len(names) - len(shown)
    return {
        "classes": shown,
        "rows": list(zip(shown, table.to_numpy().tolist(), strict=True)),
        "left": f"{left:,} class{'es' if left > 1 else ''}" if left else "",
    }


def column_worth(found: Answers) -> dict[str, Any] | None:
    """Log-loss with each column hidden, and with each column alone: (column, rise, fall) in nats a
    row. ``None`` without labels, or with one column."""
    model = found.model
    if not found.labelled or found.rows is None or len(model.codec.columns) < 2:
        return None
    places = np.flatnonzero(found.known & _familiar(found))
    if not len(places):
        return None
    if len(places) > MAX_HIDDEN_ROWS:
        drawn = np.random.default_rng(0).choice(len(places), MAX_HIDDEN_ROWS, replace=False)
        places = places[np.sort(drawn)]
    frame = found.rows.take(places).frame
    y = found.y[places]
    names = [name for name in telling_columns(model, MAX_COLUMNS) if name in frame]
    whole = _log_loss(model, frame, y)
    nothing = _log_loss(model, _hidden(frame, list(frame)), y)
    rows = []
    for name in names:
        without = _log_loss(model, _hidden(frame, [name]), y)
        alone = _log_loss(model, _hidden(frame, [each for each in frame if each != name]), y)
        rows.append((str(name), without - whole, nothing - alone))
    rows.sort(key=lambda row: -row[1])
    return {
        "rows": [(name, number(rise), number(fall)) for name, rise, fall in rows],
        "whole": number(whole),
        "nothing": number(nothing),
        "count": plural(len(places), f"labelled {model.codec.noun}"),
        "familiar": not _familiar(found).all(),
        "left": len(model.codec.columns) - len(names),
    }


def _familiar(found: Answers) -> np.ndarray:
    """Rows that are not called unfamiliar: one far from all data can outweigh every other."""
    if found.table is None:
        return np.ones(len(found.known), dtype=bool)
    return np.asarray(found.table["verdict"] != UNFAMILIAR)


def _log_loss(model: Model, frame: pd.DataFrame, y: np.ndarray) -> float:
    known = np.ones(len(y), dtype=bool)
    return float(prediction(model, model.rows(frame), y, known)["log_loss"])


def _hidden(frame: pd.DataFrame, names: list[Any]) -> pd.DataFrame:
    """The frame with no cell of these columns known."""
    out = frame.copy()
    for name in names:
        out[name] = pd.Series([None] * len(out), index=out.index, dtype=object)
    return out


def flagged_rows(found: Answers, real: Rows | None) -> dict[str, Any] | None:
    """The rows that were not accepted, with their reasons; the unfamiliar first. ``None`` where
    real rows may not be shown or no verdicts were given."""
    if real is None or found.table is None or found.rows is None:
        return None
    verdict = found.table["verdict"].to_numpy()
    places = np.flatnonzero(verdict != ACCEPT)
    order = np.argsort(found.table["familiarity"].to_numpy()[places], kind="stable")
    shown = places[order][:MAX_FLAGGED_ROWS]
    if not len(shown):
        return {"columns": [], "rows": [], "left": 0}
    table = decide(found.model, found.rows.take(shown), **found.asked)
    names = [name for name in ("best_guess", "confidence") if name in table]
    rows = [
        (int(place) + 1, str(row["verdict"]), [cell(row[name]) for name in names], row["reason"])
        for place, (_, row) in zip(shown, table.iterrows(), strict=True)
    ]
    return {
        "columns": [name.replace("_", " ") for name in names],
        "rows": rows,
        "left": len(places) - len(shown),
        "share": percent(len(places) / len(verdict)),
    }

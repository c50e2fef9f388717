"""Gather the sections, fill the template, write the file whole or not at all."""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conjoin.core import Rows
from conjoin.model.words import draws_words, limits, purpose, task_words, unfinished
from conjoin.plot.choose import telling_columns
from conjoin.questions.unlike import headline
from conjoin.report import figures
from conjoin.report.kinds import sections_of
from conjoin.report.prediction import column_worth, confusion, flagged_rows
from conjoin.report.sections import (
    Answers,
    attempt,
    energy,
    likelihood,
    predictor,
    promises,
    quality,
    schema_table,
    unlike,
    verdict_counts,
)
from conjoin.util.files import write_text

__all__ = ["template", "today", "write_report", "write_whole"]

CONTENTS = {
    "prediction": "How well it predicts",
    "likelihood": "What it has seen",
    "promises": "Rates asked and got",
    "flagged": "Rows not accepted",
    "samples": "What it draws",
    "pairs": "Pictures",
    "surprise": "Least familiar strings",
    "strange": "Least familiar molecules",
    "way": "From noise to a picture",
    "synthetic": "Synthetic rows",
    "imputation": "Filling in",
    "counterfactual": "What would change the answer",
    "predictor": "How p(y | x) was chosen",
    "energy": "Energy",
    "limits": "Limits",
    "columns": "Columns",
}
# those that every kind of data has; the others are named by ``conjoin.report.kinds``
OF_EVERY_KIND = {
    "prediction",
    "likelihood",
    "promises",
    "flagged",
    "predictor",
    "energy",
    "limits",
    "columns",
}


def write_report(
    estimator: Any,
    path: str | Path,
    X: Any = None,
    y: Any = None,
    *,
    show_rows: bool = False,
    false_alarm: float | None = None,
    max_error: Any = None,
    cases: pd.DataFrame | None = None,
    plane: Any = None,
    notes: Any = (),
) -> Path:
    """One self-contained HTML file about a fitted estimator and, if given, rows ``X`` that it has
    not seen, with labels ``y``.

    Real rows, or pictures, appear only with ``show_rows``; else figures show aggregates, and
    examples are what the model drew. ``false_alarm``, ``max_error``: as ``decide`` takes them; by
    default the least that the calibration rows support. ``cases``: a table for the first screen,
    one row a case, with a column ``verdict``. ``plane``: a PlaneDisplay for the figure there, in
    place of the estimator's own. ``notes``: sentences below the cases."""
    estimator._model()
    with warnings.catch_warnings():
        # said once already, by whoever read the rows
        warnings.filterwarnings("ignore", message="X lacks the column")
        found = Answers(estimator, X, y, false_alarm, max_error)
        text = _page(estimator, found, y, show_rows, cases, plane, list(notes))
    return write_whole(Path(path), text)


def write_whole(target: Path, text: str) -> Path:
    """The file whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, text)
    return target


def _page(
    estimator: Any,
    found: Answers,
    y: Any,
    show_rows: bool,
    cases: Any,
    plane: Any,
    notes: list[str],
) -> str:
    real = found.rows if show_rows else None
    parts = (
        _first(found, cases, notes)
        | _body(estimator, found, real)
        | _drawings(estimator, found, y, real, plane)
    )
    return template("report.html.j2").render(**parts, contents=_contents(parts))


def _as_written(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Cells in words; what is markup already, such as a picture, stays so."""
    return {
        str(name): cell if isinstance(cell, Markup) else str(cell) for name, cell in row.items()
    }


def _contents(parts: dict[str, Any]) -> list[tuple[str, str]]:
    """(id, words) of the sections that the page has."""
    shown = {
        "prediction": parts["has_target"],
        "flagged": parts["flagged"],
        "predictor": parts["predictor"] and parts["has_target"],
        "counterfactual": parts["has_target"],
    }
    there = OF_EVERY_KIND | set(parts["sections"])
    return [
        (name, words) for name, words in CONTENTS.items() if name in there and shown.get(name, True)
    ]


def today() -> str:
    """The day in words, in UTC."""
    return datetime.now(UTC).strftime("%d %B %Y")


def template(name: str) -> Any:
    """A page of the report, to be filled in."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _first(found: Answers, cases: pd.DataFrame | None, notes: list[str]) -> dict[str, Any]:
    model = found.model
    facts = found.model.facts
    rows = facts["rows"]
    odd = unlike(found)
    return {
        "title": "no target" if model.target is None else str(model.target.name),
        "purpose": purpose(model),
        "headline": headline(model) if odd else "",
        "unlike": odd,
        "unfinished": unfinished(facts),
        "day": today(),
        "cases": None
        if cases is None
        else {
            "columns": list(map(str, cases.columns)),
            "rows": [_as_written(row) for row in cases.to_dict("records")],
        },
        "notes": notes,
        "summary": [
            ("Target", task_words(model)),
            (
                "Rows",
                f"{rows['fit']:,} to fit, {rows['choose']:,} to choose by, {rows['calibrate']:,} "
                "to calibrate on",
            ),
            ("p(x)", str(facts["family"])),
            *(
                []
                if model.target is None
                else [("p(y | x)", str(facts.get("predictor", {}).get("chosen", "family")))]
            ),
            *([("draws", draws_words(facts))] if "distilled" in facts else []),
            (
                "Asked about",
                f"no {model.codec.noun}s"
                if found.rows is None
                else found.count + (", with labels" if found.labelled else "") + found.sampled,
            ),
        ],
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "data_sha256": facts["data_sha256"],
    }


def _body(estimator: Any, found: Answers, real: Rows | None) -> dict[str, Any]:
    model = found.model
    return sections_of(model.codec)(estimator, found, real) | {
        "asked_about": found.rows is not None,
        "has_target": model.target is not None,
        "quality": quality(found),
        "confusion": confusion(found),
        **_worth(found),
        "flagged": flagged_rows(found, real) if model.codec.columnwise else None,
        "likelihood": likelihood(found, estimator),
        "verdicts": verdict_counts(found),
        "promises": promises(found),
        "predictor": predictor(model),
        "energy": energy(found),
        "schema": schema_table(model),
        "notices": model.notices,
        "limits": limits(model),
        "show_rows": real is not None,
        "cells": model.codec.cells if not model.codec.columnwise else "columns",
        "columnwise": bool(model.codec.columnwise),
        "noun": model.codec.noun,
        "sampled": bool(found.sampled),
    }


def _drawings(
    estimator: Any, found: Answers, y: Any, real: Rows | None, plane: Any
) -> dict[str, Any]:
    """The figures, None where one can't be drawn."""
    out: dict[str, Any] = dict.fromkeys(
        ("plane", "plane_shown", "reliability", "coverage", "residuals", "familiarity", "samples")
    )
    out["no_figures"] = figures.why_no_figures()
    out["no_plane"] = ""
    if out["no_figures"]:
        return out
    if found.rows is not None and found.labelled:
        out |= _of_labels(estimator, found)
    if found.model.calibration is not None:
        out["familiarity"] = figures.familiarity_figure(
            estimator, found.rows, found.rates[0] if found.rates else 0.05
        )
    if not found.model.codec.columnwise:
        return out
    drawn, out["no_plane"] = attempt(
        figures.plane_figure,
        estimator,
        real,
        y if real is not None else None,
        plane,
        _of_plane(found),
    )
    if drawn is not None:
        out["plane"], out["plane_shown"] = drawn
    columns = [
        name
        for name in telling_columns(found.model, 9)
        if found.rows is None or name in found.rows.names
    ]
    if columns:
        out["samples"] = figures.samples_figure(estimator, found.rows, columns)
    return out


def _of_plane(found: Answers) -> Any:
    """The rates of the plane's verdicts: those asked, where they are two numbers."""
    return None if found.rates is None or isinstance(found.rates[1], Mapping) else found.rates


def _worth(found: Answers) -> dict[str, Any]:
    """What each column tells of y, or why that is not known."""
    if not found.model.codec.columnwise:
        return {"worth": None, "no_worth": ""}
    worth, why = attempt(column_worth, found)
    return {"worth": worth, "no_worth": why}


def _of_labels(estimator: Any, found: Answers) -> dict[str, Any]:
    """The figures about rows of which y is known."""
    assert found.rows is not None
    known = np.flatnonzero(found.known)
    rows = found.rows.take(known)
    y = found.y[known]
    out: dict[str, Any] = {"reliability": figures.reliability_figure(estimator, rows, y)}
    if found.guess is None:
        return out | {"residuals": figures.residuals_figure(estimator, rows, y)}
    accepted = None if found.table is None else (found.table["verdict"] == "accept").to_numpy()
    return out | {
        "coverage": figures.coverage_figure(
            found.confidence[known],
            found.guess[known] == y,
            None if accepted is None else accepted[known],
        )
    }

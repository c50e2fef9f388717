"""One HTML file about a model of several targets: what was seen of all together, then the report of
each target."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from conjoin.model.censored import read_columns
from conjoin.report.write import template, today, write_report, write_whole

__all__ = ["write_several"]

WORDS = {
    "rows": "rows with any label",
    "log_loss": "log-loss of all that is known of y given x, nats a row",
    "all_right": "share of rows whose classes are all right",
}


def write_several(
    estimator: Any,
    path: str | Path,
    X: Any = None,
    Y: Any = None,
    *,
    show_rows: bool = False,
    false_alarm: float | None = None,
    max_error: Any = None,
) -> Path:
    """One self-contained file about a fitted estimator of several targets and, if given, rows ``X``
    that it has not seen, with their targets ``Y``; as ``write_report`` for each. A number between
    bounds counts as not known there."""
    names = estimator.model_.names
    labels: dict[str, Any] = {}
    if Y is not None:
        meant = {target.name: target.meant for target in estimator.model_.targets}
        for column in read_columns(Y.reset_index(drop=True), estimator.unlabelled, meant):
            labels[column.name] = pd.Series(column.values, name=column.name).where(column.known)
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            one = Path(folder) / "one.html"
            of_one = estimator.for_target(name)
            write_report(
                of_one,
                one,
                X,
                labels.get(name),
                show_rows=show_rows,
                false_alarm=false_alarm,
                max_error=max_error,
            )
            sections.append((name, one.read_text(encoding="utf-8")))
    page = template("several.html.j2").render(
        title=f"A model of {', '.join(names)}",
        day=today(),
        together=_together(estimator, X, Y),
        targets=sections,
    )
    return write_whole(Path(path), page)


def _together(estimator: Any, X: Any, Y: Any) -> list[tuple[str, str]]:
    """What was seen of all targets on the rows; nothing where there are none with labels."""
    if X is None or Y is None:
        return []
    found = estimator.evaluate(X, Y)["all"]
    return [(WORDS[name], f"{value:.4g}") for name, value in found.items()]

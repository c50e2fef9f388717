"""One HTML file about a model of several targets: what was seen of all together, then the report of
each target."""

import html
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from conjoin.model.censored import read_columns
from conjoin.report.write import write_report, write_whole

__all__ = ["write_several"]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 1.5rem; }}
iframe {{ width: 100%; height: 85vh; border: 1px solid #999; }}
td, th {{ text-align: left; padding: 0.15rem 0.75rem 0.15rem 0; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>One density over all targets and the columns; for each target the others are summed out.</p>
<h2>All targets together</h2>
{together}
{targets}
</body>
</html>
"""
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
            inner = html.escape(one.read_text(encoding="utf-8"), quote=True)
            title = html.escape(name)
            frame = f'<iframe title="{title}" srcdoc="{inner}"></iframe>'
            sections.append(f"<h2>{title}</h2>\n{frame}")
    title = html.escape(f"A model of {', '.join(names)}")
    together = _together(estimator, X, Y)
    page = PAGE.format(title=title, together=together, targets="\n".join(sections))
    return write_whole(Path(path), page)


def _together(estimator: Any, X: Any, Y: Any) -> str:
    """What was seen of all targets on the rows."""
    if X is None or Y is None:
        return "<p>No rows with labels were given.</p>"
    found = estimator.evaluate(X, Y)["all"]
    rows = [f"<tr><th>{WORDS[name]}</th><td>{value:.4g}</td></tr>" for name, value in found.items()]
    return f"<table>{''.join(rows)}</table>"

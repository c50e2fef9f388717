"""The report's figures as inline SVG. Their ink takes the page's colour, so that they follow light
and dark.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conjoin.plot import (
    CoverageDisplay,
    FamiliarityDisplay,
    PlaneDisplay,
    ReliabilityDisplay,
    ResidualsDisplay,
    SamplesDisplay,
)
from conjoin.plot.style import CLASSES, INK, MUTED, RULE

__all__ = [
    "Drawing",
    "coverage_figure",
    "familiarity_figure",
    "plane_figure",
    "reliability_figure",
    "residuals_figure",
    "samples_figure",
    "why_no_figures",
]

PAGE = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_IDS = re.compile(
    r' id="(?:figure|patch|axes|matplotlib|text|line2d|xtick|ytick|legend|PathCollection'
    r'|FillBetween)[\w.]*"'
)
LINES = {CLASSES[0]: "var(--accent)"}  # where a colour stands for no region of an image
OPTIONS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A drawing and the numbers behind it, for those who read numbers rather than lines."""

    svg: Markup
    heads: list[str]
    rows: list[list[str]]

    @classmethod
    def of(cls, svg: Markup, table: pd.DataFrame) -> "Drawing":
        rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
        return cls(svg, list(map(str, table)), rows)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def why_no_figures() -> str:
    """A sentence where matplotlib is absent, else nothing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return 'Figures are left out: they need matplotlib, pip install "conjoin[plot]".'
    return ""


def _svg(
    name: str, shape: tuple[int, int], size: tuple[float, float], draw: Callable[[np.ndarray], Any]
) -> Drawing:
    """Draw on new axes, without pyplot. ``draw`` returns the display."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(OPTIONS | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        display = draw(figure.subplots(*shape, squeeze=False).ravel())
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = Markup(_for_page(out.getvalue(), {} if name == "plane" else LINES))
    return Drawing.of(svg, display.table)


def _for_page(svg: str, lines: dict[str, str]) -> str:
    """The <svg> element alone, its size left to the page, its ids its own, its ink the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = _IDS.sub("", svg)
    for colour, own in (PAGE | lines).items():
        svg = svg.replace(colour, own)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)


def plane_figure(
    estimator: Any, X: Any, y: Any, plane: PlaneDisplay | None, rates: Any = None
) -> tuple[Drawing, PlaneDisplay]:
    """The talk's figure; ``plane`` is one that was prepared, else the estimator's own. ValueError
    where there is no plane."""
    shown = plane if plane is not None else PlaneDisplay.evaluate(estimator, X, y, rates=rates)
    panels = len(shown.panels)
    return _svg("plane", (1, panels), (3.4 * panels + 0.2, 4.0), shown.plot), shown


def reliability_figure(estimator: Any, X: Any, y: Any) -> Drawing:
    return _svg(
        "reliability",
        (1, 1),
        (5.0, 4.0),
        lambda axes: ReliabilityDisplay.from_estimator(estimator, X, y, ax=axes[0]),
    )


def familiarity_figure(estimator: Any, X: Any, false_alarm: float) -> Drawing:
    draw = FamiliarityDisplay.from_estimator
    return _svg(
        "familiarity",
        (1, 1),
        (6.8, 3.2),
        lambda axes: draw(estimator, X, false_alarm=false_alarm, ax=axes[0]),
    )


def coverage_figure(
    confidence: np.ndarray, right: np.ndarray, accepted: np.ndarray | None
) -> Drawing:
    shown = CoverageDisplay(confidence, right, accepted)
    return _svg("coverage", (1, 1), (5.0, 3.6), lambda axes: shown.plot(axes[0]))


def residuals_figure(estimator: Any, X: Any, y: Any) -> Drawing:
    draw = ResidualsDisplay.from_estimator
    return _svg("residuals", (1, 2), (8.0, 3.6), lambda axes: draw(estimator, X, y, ax=axes))


def samples_figure(estimator: Any, X: Any, columns: list[Any]) -> Drawing:
    rows = -(-len(columns) // 3)
    across = min(3, len(columns))
    draw = SamplesDisplay.from_estimator
    return _svg(
        "samples",
        (rows, across),
        (8.4, 0.8 + 1.7 * rows),
        lambda axes: draw(estimator, X, columns=columns, ax=axes),
    )

"""Rows that the model draws, judged on the held-out rows that the report is about."""

from typing import Any

import pandas as pd

from conjoin.codecs.table.native import plain_frame
from conjoin.model.words import number
from conjoin.questions.synthetic.quality import MEASURES, quality
from conjoin.report.sections import Answers

__all__ = ["synthetic_rows"]

MAX_ROWS = 2000  # drawn, and judged on, at most
SEED = 1
NAMES = {"c2st": "c2st", "mi_error": "MI error", "shape": "shape", "trend": "trend", "use": "use"}


def synthetic_rows(estimator: Any, found: Answers) -> dict[str, Any] | None:
    """The table of measures, None without held-out rows; ValueError where they are too few."""
    if found.rows is None:
        return None
    frame, target = _with_target(found, found.rows.frame)
    drawn, y = estimator.sample(min(MAX_ROWS, len(frame) // 2), random_state=SEED)
    drawn = plain_frame(drawn)
    drawn = pd.DataFrame(drawn) if target is None else drawn.assign(**{target: y})
    left_out = _no_columns(found.model.codec)
    shared = [name for name in frame if name in drawn and name not in left_out]
    if not set(shared) - {target}:
        raise ValueError(
            "Synthetic rows are judged by their columns, and there are none beside "
            f"{', '.join(map(str, left_out)) or 'the target'}."
        )
    judged = quality(frame[shared], drawn, None, target, rows=MAX_ROWS, random_state=SEED)
    measures = list(judged.table.columns)
    return {
        "heads": [judged.use if name == "use" else NAMES[name] for name in measures],
        "rows": [
            (name, [number(value) for value in judged.table.loc[name]])
            for name in judged.table.index
        ],
        "meanings": [
            (NAMES[name] if name != "use" else judged.use, MEASURES[name]) for name in measures
        ],
        "tells": [str(name) for name, lost in judged.tells[:3] if lost > 0.01],
        "count": judged.rows,
        "left_out": list(map(str, left_out)),
    }


def _no_columns(codec: Any) -> list[Any]:
    """Pictures, strings and molecules, which stand beside the columns of a table."""
    return [block.name for block in getattr(codec, "blocks", ())]


def _with_target(found: Answers, frame: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """The held-out rows with their labels, where there are any and no column has that name."""
    name = "" if found.model.target is None else str(found.model.target.name)
    if not found.labelled or name in frame:
        return frame, None
    return frame.assign(**{name: found.y})[found.known].reset_index(drop=True), name

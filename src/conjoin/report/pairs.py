"""The report's pictures that stand beside columns and strings: drawn with all else, and what the
model reads off them.
"""

from typing import Any

import pandas as pd

from conjoin.codecs.image.pictures import pixels_in
from conjoin.core import Rows
from conjoin.model.words import cell
from conjoin.plot.choose import telling_columns
from conjoin.questions.decide import decide
from conjoin.report.examples import drawn_rows
from conjoin.report.pictures import Strip, Tile, png
from conjoin.report.sections import Answers, attempt

__all__ = ["beside_pictures", "picture_names"]

SHOWN_PICTURES = 8
SHOWN_COLUMNS = 3  # beside each


def picture_names(codec: Any) -> list[Any]:
    """The columns of pictures among those of a table."""
    return list(getattr(codec, "pictures", ()))


def beside_pictures(estimator: Any, found: Answers, real: pd.DataFrame | None) -> list[Strip]:
    """For each column of pictures some rows that the model draws, and what it reads off their
    pictures where strings stand beside them; the same of real rows where they may be
    shown."""
    codec = estimator.model_.codec
    strings = [column.name for column in codec.schema.modelled if column.is_text]
    drawn = drawn_rows(estimator, SHOWN_PICTURES)
    strips = []
    for name in picture_names(codec):
        title = f"{name}, drawn with all that stands beside it"
        strips.append(Strip(title, _tiles(estimator, found, drawn, name, strings)))
        if not strings:
            continue
        title = f"What the model reads off these pictures: {', '.join(map(str, strings))}"
        strips.append(_strip_read(title, estimator, drawn, name, strings))
        if real is not None:
            title = f"What it reads off real ones: {', '.join(map(str, strings))}"
            some = real.iloc[:SHOWN_PICTURES].reset_index(drop=True)
            strips.append(_strip_read(title, estimator, some, name, strings))
    return strips


def _tiles(
    estimator: Any, found: Answers, drawn: pd.DataFrame, name: Any, strings: list[Any]
) -> list[Tile]:
    """Pictures with what was drawn beside them, and what ``decide`` says of the row."""
    model = estimator.model_
    columns = telling_columns(model, SHOWN_COLUMNS)
    verdicts = [""] * len(drawn)
    if found.rates is not None and not found.refused:
        rows: Rows = model.rows(drawn)
        verdicts = decide(model, rows, explain=False, **found.asked)["verdict"].tolist()
    tiles = []
    for (_, row), verdict in zip(drawn.iterrows(), verdicts, strict=True):
        words = [
            *(str(row[each]) for each in strings),
            *(f"{each} {cell(row[each])}" for each in columns if each in row),
        ]
        tiles.append(Tile(_shown(row[name]), ", ".join(words), str(verdict)))
    return tiles


def _strip_read(
    title: str, estimator: Any, frame: pd.DataFrame, name: Any, strings: list[Any]
) -> Strip:
    """``_read``, or why nothing can be read."""
    tiles, why = attempt(_read, estimator, frame, name, strings)
    return Strip(title, tiles) if tiles else Strip(f"{title}: {why}", [])


def _read(estimator: Any, frame: pd.DataFrame, name: Any, strings: list[Any]) -> list[Tile]:
    """Pictures with the most probable strings beside them, given all else of their rows."""
    holed = frame.copy()
    holed[strings] = None
    told = estimator.impute(holed)
    return [
        Tile(_shown(picture), ", ".join(str(told[each].iloc[place]) for each in strings))
        for place, picture in enumerate(frame[name])
    ]


def _shown(picture: Any) -> str:
    """The data URI of a cell; "" where it is no picture."""
    pixels = pixels_in(picture)
    return "" if pixels is None else png(pixels)

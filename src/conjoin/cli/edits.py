"""counterfactual and impute of pictures: altered ones, and completions of hidden parts, as tables,
figures, folders and arrays.
"""

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conjoin.cli.ask import answers
from conjoin.cli.output import TABLES
from conjoin.cli.pictures import (
    named,
    only_pictures,
    read_asked,
    reading_of,
    shown_as,
    write_arrays,
    write_sheet,
)
from conjoin.cli.voice import Voice
from conjoin.codecs.image.colours import pillow
from conjoin.codecs.image.pictures import Picture, in_part, pictures_in, stacked
from conjoin.codecs.image.rows import PictureRows
from conjoin.core.event import slices
from conjoin.core.warnings import ColumnWarning
from conjoin.plot.alterations import MAX_PICTURES, AlterationDisplay
from conjoin.plot.style import pyplot
from conjoin.questions.edit import PICTURES_AT_ONCE, Alteration, alter_class
from conjoin.training.progress import Progress
from conjoin.util.files import new_file, new_folder

__all__ = [
    "alter_pictures",
    "complete_pictures",
    "complete_table",
    "filled_sheet",
    "hidden_part",
    "hide_in_table",
    "of_sheet",
]

MAX_SHEET_ROWS = 20  # pictures on one sheet of completions, at most
TABLE_ROWS_AT_ONCE = 8  # whose pictures are filled in between two moves of the bar
UNKNOWN_GREY = 128  # that stands on a sheet for pixels that are not known
MIN_HIDING_GREY = 128  # the least grey of a mask that hides
# H and W: half of the height and width
HALVES = {
    "top": "..H:..",
    "bottom": "H..:..",
    "left": "..:..W",
    "right": "..:W..",
}


# ----------------------------------------------------------------------------------- counterfactual


def alter_pictures(
    estimator: Any, rows: PictureRows, to: Any, seed: int, out: str | None, voice: Voice
) -> None:
    """A small plausible change of each picture after which the answer is ``to``: a figure, one for
    each, arrays, or a table."""
    parts = []
    if out is not None and not out.endswith((*TABLES, ".npz", "-")):
        pyplot()  # before the work, if it is not there
    rows = _shown_on(rows, MAX_PICTURES, "panel", out, voice)
    with Progress(not voice.quiet).phase("altering pictures", len(rows)) as bar:
        for part in slices(len(rows), PICTURES_AT_ONCE):
            parts.append(alter_class(estimator.model_, rows.take(part), to, seed=seed))
            bar.update(min(part.stop, len(rows)))
    found = Alteration.joined(parts)
    told = {
        name: getattr(found, name)
        for name in ("before", "to", "found", "probability", "familiarity")
    }
    shares = {"changed": found.changed, "changed_by_a_tenth": found.share}
    table = named(pd.DataFrame({**told, **shares, "already": found.already}), rows)
    _say_already(found, voice)
    if _told(table, out, voice, _short):
        return
    assert out is not None
    if out.endswith(".npz"):
        write_arrays(
            out, names=np.array(rows.index, dtype=str), difference=found.difference, **vars(found)
        )
    elif out.endswith(".png"):
        with new_file(out) as partial:
            _panel(found, partial)
    else:
        with new_folder(Path(out)) as folder:
            for row, name in enumerate(_flat(rows)):
                _panel(found.take(slice(row, row + 1)), folder / f"{name}.png")
    voice.path(f"{int(found.found.sum()):,} of {len(rows):,} pictures could be altered: {out}")


def _say_already(found: Alteration, voice: Voice) -> None:
    count = int(found.already.sum())
    if count:
        voice.note(
            f"{count:,} of {len(found.already):,} pictures are answered so already; they stay as "
            "they are."
        )


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """As it fits on a screen."""
    heads = {
        "probability": "p(to)",
        "familiarity": "familiar",
        "changed_by_a_tenth": "by > a tenth",
    }
    screen = table.drop(columns="already").rename(columns=heads)
    yes = np.where(table["found"], "yes", "no")
    return screen.assign(
        found=np.where(table["already"], "already", yes),
        familiar=table["familiarity"].map("{:.3f}".format),
        changed=table["changed"].map("{:.1%}".format),
        **{
            "p(to)": table["probability"].map("{:.3f}".format),
            "by > a tenth": table["changed_by_a_tenth"].map("{:.1%}".format),
        },
    )


def _panel(found: Alteration, path: Path) -> None:
    figure = AlterationDisplay(found).plot().figure_
    figure.savefig(path, format="png", dpi=150)
    pyplot().close(figure)


# ------------------------------------------------------------------------------------------- impute


def complete_pictures(
    estimator: Any,
    rows: PictureRows,
    hidden: np.ndarray,
    draws: int | None,
    seed: int,
    y: Any,
    out: str | None,
    voice: Voice,
) -> None:
    """Completions of the ``hidden`` (H, W) part of every picture, the most probable first: a sheet,
    a folder, arrays, or a table. Of a sheet, those that it shows."""
    codec = estimator.model_.codec
    rows = _shown_on(rows, MAX_SHEET_ROWS, "sheet", out, voice)
    images = codec.images(rows)  # (n, H, W[, C])
    gaps = images.astype(float)
    gaps[:, hidden] = np.nan
    full, log_prob = _completions(estimator, gaps, draws, seed, y, voice)
    # (n, draws, H, W[, C])
    completed = np.stack(full, 1).astype(np.uint8)
    ranks = np.tile(np.arange(1, len(full) + 1), len(rows))
    table = named(
        pd.DataFrame({"rank": ranks, "log_prob": log_prob.T.ravel()}),
        rows.take(np.arange(len(ranks)) // len(full)),
    )
    if _told(table, out, voice):
        voice.note("-o FOLDER/, NAME.png and NAME.npz keep the completed pictures.")
        return
    assert out is not None
    if out.endswith(".npz"):
        names = np.array(rows.index, dtype=str)
        write_arrays(
            out,
            names=names,
            original=images,
            hidden=hidden,
            completed=completed,
            log_prob=log_prob.T,
        )
    elif out.endswith(".png"):
        place = hidden if images.ndim == 3 else hidden[..., None]
        blank = np.where(place, codec.levels // 2, images).astype(np.uint8)
        every = np.concatenate([images[:, None], blank[:, None], completed], 1)
        shown = shown_as(every.reshape(-1, *images.shape[1:]), codec.levels, voice)
        write_sheet(shown, out, every.shape[1])
    else:
        shown = shown_as(completed.reshape(-1, *images.shape[1:]), codec.levels, voice)
        with new_folder(Path(out)) as folder:
            for image, name, rank in zip(
                shown, np.repeat(_flat(rows), len(full)), ranks, strict=True
            ):
                pillow().Image.fromarray(image).save(folder / f"{name}-{rank}.png")
    voice.path(
        f"{len(full):,} completion{'s' if len(full) > 1 else ''} of {len(rows):,} pictures: {out}"
    )


def of_sheet(frame: pd.DataFrame, out: str | None, voice: Voice) -> pd.DataFrame:
    """The rows of a table that are worked out: all, or of a sheet those that it shows."""
    return frame[: len(_shown_on(frame, MAX_SHEET_ROWS, "sheet", out, voice))]


def _shown_on(rows: Any, most: int, what: str, out: str | None, voice: Voice) -> Any:
    """The pictures that are worked out: all, or of one figure those that it shows."""
    if out is None or not out.endswith(".png") or len(rows) <= most:
        return rows
    voice.note(
        f"The {what} shows the first {most} of {len(rows):,} pictures, and only these are worked "
        "out; -o FOLDER/, -o NAME.npz and -o NAME.csv do all."
    )
    return rows.take(slice(0, most))


def _completions(
    estimator: Any, gaps: np.ndarray, draws: int | None, seed: int, y: Any, voice: Voice
) -> tuple[list[np.ndarray], np.ndarray]:
    """``estimator.completions``, some pictures at a time, each time with other noise, and a bar."""
    parts = []
    with Progress(not voice.quiet).phase("completing pictures", len(gaps)) as bar:
        for place, part in enumerate(slices(len(gaps), PICTURES_AT_ONCE)):
            parts.append(estimator.completions(gaps[part], draws, seed + place, y))
            bar.update(min(part.stop, len(gaps)))
    full = [np.concatenate(each) for each in zip(*(found for found, _ in parts), strict=True)]
    return full, np.concatenate([log_prob for _, log_prob in parts], 1)


def hidden_part(estimator: Any, hide: str | None, mask: str | None, voice: Voice) -> np.ndarray:
    """(H, W) what is hidden: the part that is named, and what is white in the mask."""
    return _hidden(estimator, estimator.model_.codec.size, hide, mask, voice)


def _hidden(
    estimator: Any, size: tuple[int, int], hide: str | None, mask: str | None, voice: Voice
) -> np.ndarray:
    out = np.zeros(size, dtype=bool)
    if hide is not None:
        out[_rectangle(hide, *size)] = True
    if mask is not None:
        wanted = dataclasses.replace(
            reading_of(estimator.model_, "grey", None, None, voice), by_model=False, range=None
        )
        found = read_asked(mask, wanted, (), voice).pictures.images
        if found.shape != (1, *size):
            other = f"{len(found)} of {found.shape[1]} x {found.shape[2]}"
            raise ValueError(
                f"--mask must be one picture of {size[0]} x {size[1]} pixels, and {mask} has "
                f"{other}."
            )
        out |= found[0] >= MIN_HIDING_GREY
    if not out.any():
        what = "nothing is white in" if mask is not None else "no pixel lies in"
        raise ValueError(
            f"Nothing is hidden: {what} {mask or hide}."
            if mask or hide
            else "--hide or --mask must say what is hidden."
        )
    return out


def hide_in_table(
    estimator: Any, frame: pd.DataFrame, hide: str | None, mask: str | None, voice: Voice
) -> pd.DataFrame:
    """The rows without a part of the pictures in their only column of pictures."""
    codec = estimator.model_.codec
    name = only_pictures(
        codec,
        "--hide is about pictures, and so is --mask: this model is of a table with {} of them.",
    )
    cells = pictures_in(codec.rows(frame).frame[name]) if name in frame else []
    known = [cell for cell in cells if cell is not None]
    if not known:
        raise ValueError(f"No row has a picture in {name!r} of which a part could be hidden.")
    hidden = _hidden(estimator, known[0].size, hide, mask, voice)
    left = [None if cell is None else cell.hide(hidden) for cell in cells]
    frame = frame.copy()
    frame[name] = pd.Series(left, frame.index, dtype=object)
    return frame


def complete_table(
    estimator: Any, frame: pd.DataFrame, seed: int, voice: Voice, n_draws: int | None, **asked: Any
) -> Any:
    """``estimator.impute`` of rows with pictures that are known in part, some rows at a time, each
    time with other noise, and a bar."""
    model = estimator.model_
    for words in model.codec.far_away(model.rows(frame)):  # with the numbers of all rows
        warnings.warn(words, ColumnWarning, stacklevel=2)
    parts = []
    with (
        warnings.catch_warnings(),
        Progress(not voice.quiet).phase("completing pictures", len(frame)) as bar,
    ):
        warnings.simplefilter("ignore", ColumnWarning)
        for place, part in enumerate(slices(len(frame), TABLE_ROWS_AT_ONCE)):
            rows = frame.iloc[part]
            full = estimator.impute(rows, n_draws=n_draws, random_state=seed + place, **asked)
            parts.append([full] if n_draws is None else full)
            bar.update(min(part.stop, len(frame)))
    several = [pd.concat(each) for each in zip(*parts, strict=True)]
    return several[0] if n_draws is None else several


def filled_sheet(codec: Any, frame: pd.DataFrame, several: list[pd.DataFrame], out: str) -> None:
    """The pictures of a table on one sheet, a row of it on a line: where parts were hidden the
    picture and what was left of it, then what fills it in."""
    name = only_pictures(codec, "A sheet is of one column of pictures, and the table has {}.")
    filled = [stacked(pictures_in(each[name])) for each in several]
    given = pictures_in(frame[name]) if name in frame else []
    if in_part(given).any():
        like = filled[0][0]
        before = [np.stack([_tile(cell, like, whole) for cell in given]) for whole in (True, False)]
        filled = [*before, *filled]
    every = np.stack(filled, 1)
    write_sheet(every.reshape(-1, *every.shape[2:]), out, every.shape[1])


def _tile(cell: Picture | None, like: np.ndarray, whole: bool) -> np.ndarray:
    """A picture, or what is known of it."""
    if cell is None:
        return np.full_like(like, UNKNOWN_GREY)
    return cell.shown(None if whole else UNKNOWN_GREY)


def _rectangle(text: str, height: int, width: int) -> tuple[slice, slice]:
    """``top``, or rows and columns such as 8..16:..12."""
    plain = HALVES.get(text, text).replace("H", str(height // 2)).replace("W", str(width // 2))
    found = re.fullmatch(r"(\d*)\.\.(\d*):(\d*)\.\.(\d*)", plain)
    if found is None:
        raise ValueError(
            f"--hide takes {', '.join(HALVES)}, or rows and columns such as 8..16:..12, not "
            f"{text!r}."
        )
    ends = [int(end) if end else None for end in found.groups()]
    return slice(*ends[:2]), slice(*ends[2:])


# ---------------------------------------------------------------------------------- what both write


def _told(
    table: pd.DataFrame, out: str | None, voice: Voice, display: Any = lambda table: table
) -> bool:
    """The table to its file, or to the screen; whether that is all, since ``out`` is no place for
    pictures."""
    if out is None or out == "-" or out.endswith(TABLES):
        answers([table], out, voice, display)
        return True
    answers([table], None, voice, display, more=lambda: {"out": out})
    return False


def _flat(rows: PictureRows) -> list[str]:
    """A name for a file of each picture, by its number and its own name."""
    stems = [
        re.sub(r"[^\w-]+", "-", str(Path(name).with_suffix(""))).strip("-") for name in rows.index
    ]
    return [f"{row:03d}-{stem}" for row, stem in enumerate(stems)]

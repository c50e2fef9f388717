"""Pictures in and out of the command line: read as a model expects them, drawn into files.

Rows of pictures are frames of pixels whose index, named ``file``, says which picture each is: so
every verb takes them.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conjoin.cli.files import FileOptions
from conjoin.cli.kinds import writer_of
from conjoin.cli.output import claim_pictures, stem
from conjoin.cli.voice import Voice
from conjoin.codecs.image.colours import pillow
from conjoin.codecs.image.files import Found, is_pictures, parts_of, read_pictures
from conjoin.codecs.image.pictures import SUFFIXES, pictures_in, stacked
from conjoin.codecs.image.rows import PictureRows
from conjoin.codecs.image.wanted import OF_CHANNELS, Wanted, range_of, size_of
from conjoin.codecs.kinds import other_columns
from conjoin.codecs.table.schema import Column, Schema
from conjoin.codecs.table.values import text_of
from conjoin.util.files import new_file, new_folder

__all__ = [
    "HOW_TO_LABEL",
    "LABEL",
    "NOT_ASKED",
    "PLURAL",
    "as_table",
    "asked_rows",
    "claim_beside",
    "claim_drawn",
    "claims",
    "claims_sheet",
    "content_of",
    "named",
    "only_pictures",
    "placed",
    "read_asked",
    "reading_of",
    "refuse_onto_inputs",
    "refuse_parts",
    "sheet_of",
    "shown_as",
    "sized",
    "states_of",
    "take_labels",
    "to_fit",
    "write_arrays",
    "write_drawn",
    "write_sheet",
]  # fmt: skip

PLURAL = "pictures"  # what its files hold
NOT_ASKED = ("target", "schema", "missing", "time", "chunk_rows")  # options of tables
HOW_TO_LABEL = "put the pictures in sub-folders by label, or labels into the .npz"
FILE = "file"
LABEL = "label"
FOLDER = "folder"  # --groups of pictures
# pixels: the least height of a picture on a sheet, and what lies between two
TILE_PIXELS = 64
GAP_PIXELS = 2


class _Fit(NamedTuple):
    """What a fit needs: arrays of images, labels or None, how pictures are read (kept with the
    model), and groups or None."""

    x: np.ndarray
    labels: "pd.Series[Any] | None"
    reading: dict[str, Any]
    groups: "pd.Series[Any] | None"


# ------------------------------------------------------------------------------------------ reading


def to_fit(path: str, asked: FileOptions, kept: dict[str, Any], voice: Voice) -> _Fit:
    """Pictures to learn from: those of the training part, where there are parts. ``kept``: how a
    model that the fit begins from reads its pictures."""
    wanted = _to_fit(asked, kept, voice)
    found = read_asked(path, wanted, ("train",), voice)
    images, labels, _ = found.pictures
    known = None if labels is None else pd.Series(labels, name=LABEL)
    groups = _groups(found, asked.groups, voice)
    if known is not None and known.nunique() == 1:
        voice.note(
            f"Every picture has the label {known[0]!r}, so that there is nothing to predict: "
            "p(x) is modelled."
        )
        known = None
    shape = " x ".join(map(str, images.shape[1:]))
    voice.note(
        f"{len(images):,} pictures of {shape} "
        f"pixels{'' if known is None else f', {known.nunique():,} labels'}."
    )
    return _Fit(images, known, _kept(wanted, found), groups)


def _to_fit(asked: FileOptions, kept: dict[str, Any], voice: Voice) -> Wanted:
    """How the pictures of a fit are read: as asked, else as by the model that it begins from."""
    size = kept.get("size") if asked.size is None else size_of(asked.size, "--size")
    ends = kept.get("range") if asked.range is None else range_of(asked.range, "--range")
    asked_for = asked.range is not None or kept.get("overrules", False)
    return Wanted(
        size,
        None,
        asked.part,
        verbose=not voice.quiet,
        range=ends,
        resize=asked.resize or kept.get("resize", "cut"),
        skip_broken=asked.skip_broken,
        windows=not asked_for,
        **_limits(asked.max_bytes),
    )


def _kept(wanted: Wanted, found: Found) -> dict[str, Any]:
    """How the pictures of the model are to be read, as it is stored."""
    more = {
        "range": None if found.range is None else list(found.range),
        "overrules": found.range is not None and not wanted.windows,
        "resize": None if wanted.resize == "cut" else wanted.resize,
    }
    size = None if wanted.size is None else list(wanted.size)
    return {"size": size} | {name: value for name, value in more.items() if value}


def _groups(found: Found, asked: str | None, voice: Voice) -> "pd.Series[Any] | None":
    """What each picture belongs to, where that was asked for; else a word, where it can be."""
    pictures = found.pictures
    if asked is None:
        if pictures.grouped:
            voice.note(
                "Some pictures lie in folders below that of their label: if these are what "
                "pictures belong to, such as patients, --groups folder keeps them together."
            )
        return None
    if asked != FOLDER:
        raise ValueError(f"--groups of pictures is {FOLDER!r}, for label/group/picture.")
    groups = pd.Series(pictures.groups, name=FOLDER)
    voice.note(f"{groups.nunique():,} groups, by the folder below that of the label.")
    return groups


def claims(path: str) -> bool:
    """Whether pictures lie there."""
    return is_pictures(path)


def claim_drawn(out: str | None, force: bool) -> None:
    """An error where drawn pictures could not be written in the end."""
    claim_pictures(out, force)


def content_of(pictures: Any) -> None:
    """None: pictures are told by their pixels and their labels."""


def refuse_parts(path: str) -> None:
    """Pictures may have hidden parts."""


def asked_rows(
    model: Any,
    path: str,
    part: str | None,
    max_bytes: int | None,
    voice: Voice,
    skip_broken: bool = False,
) -> tuple[PictureRows, Any]:
    """(rows of pictures, labels or None) as the model expects them: in its channels, and read as
    at the fit."""
    codec = model.codec
    if writer_of(codec) is None:
        raise ValueError(
            f"{path} holds pictures, and this model is of a table: give a CSV or Parquet file."
        )
    mode = OF_CHANNELS.get(codec.channels)
    wanted = reading_of(model, mode, part, max_bytes, voice, skip_broken)
    found = read_asked(path, wanted, ("test", "val", "train"), voice).pictures
    return codec.rows(found.images).called(found.names, FILE), found.labels


def as_table(codec: Any, path: str) -> pd.DataFrame:
    """Files of pictures as rows of a table that has one column of them, in which all else is
    missing. ValueError where the table has none, or several columns of pictures."""
    name = only_pictures(
        codec,
        f"{path} holds pictures, and this model is of a table with {{}} of pictures: give a CSV or "
        "Parquet file.",
    )
    found = Path(path)
    files = sorted(found.iterdir()) if found.is_dir() else [found]
    files = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not files:
        raise ValueError(
            f"{path} has no files of pictures ({', '.join(SUFFIXES)}), as rows of this table are "
            "made of: give such files, or a CSV or Parquet file with their paths."
        )
    return pd.DataFrame({name: [str(file) for file in files]}, dtype=object)


def only_pictures(codec: Any, words: str) -> Any:
    """The only column of pictures of a table; ValueError in these ``words``, with the number of
    columns at {}, where there are none or several."""
    names = [column.name for column in codec.schema.modelled if column.is_picture]
    if len(names) != 1:
        raise ValueError(words.format(f"{len(names)} columns"))
    return names[0]


def reading_of(
    model: Any,
    mode: str | None,
    part: str | None,
    max_bytes: int | None,
    voice: Voice,
    skip_broken: bool = False,
) -> Wanted:
    """How the pictures of a model are read: cut and scaled if its fit was told --size, and values
    of more than 8 bits by the range of the fit."""
    kept = model.state.pictures or {}
    return Wanted(
        kept.get("size"),
        mode,
        part,
        verbose=not voice.quiet,
        range=kept.get("range"),
        resize=kept.get("resize", "cut"),
        skip_broken=skip_broken,
        windows=not kept.get("overrules", False),
        by_model=True,
        **_limits(max_bytes),
    )


def _limits(max_bytes: int | None) -> dict[str, Any]:
    return {} if max_bytes is None else {"max_bytes": max_bytes}


def read_asked(path: str, wanted: Wanted, prefer: tuple[str, ...], voice: Voice) -> Found:
    """The pictures; of the first of the parts ``prefer`` that there is, where there are parts and
    none was asked for."""
    part = wanted.part or _first_part(path, prefer)
    if part != wanted.part:
        voice.note(f"{path} is split into parts; the part {part!r} is taken (--part).")
    found = read_pictures(path, dataclasses.replace(wanted, part=part))
    voice.note(*found.words)
    return found


def _first_part(path: str, prefer: tuple[str, ...]) -> str | None:
    return next((part for part in prefer if part in parts_of(path)), None)


def take_labels(target: Any, found: Any, name: str | None, voice: Voice) -> Any:
    """Labels of pictures in the types that the model knows, or None; said where they are
    missing."""
    from conjoin.cli.target import labels

    if name is not None:
        raise ValueError(
            "--target is about tables; the labels of pictures are the names of their folders, or "
            "lie in the .npz."
        )
    if target is None:
        return None
    if found is None:
        voice.note(
            "The pictures have no labels (sub-folders, or labels in the .npz), so only what "
            "needs none is shown."
        )
        return None
    return labels(pd.Series(found, name=target.name), target)


def named(table: pd.DataFrame, rows: Any) -> pd.DataFrame:
    """Answers about pictures, with the names of the files as their first column; about a table, as
    they are."""
    if rows.index.name != FILE:
        return table
    files = pd.DataFrame({FILE: rows.index})
    return pd.concat([files, table.reset_index(drop=True)], axis=1)


def sized(types: Schema | None, x: pd.DataFrame, missing: Any, size: str, path: str) -> Schema:
    """The schema, where the columns of pictures have the size that was asked for."""
    names = other_columns(x, types, missing)
    if not names:
        raise ValueError(
            f"--size is about pictures, and {path} is a table without a column of them."
        )
    others = (
        [] if types is None else [column for column in types.columns if column.name not in names]
    )
    return Schema((*others, *(Column(name, "picture", format=size) for name in names)))


# ------------------------------------------------------------------------------------------ writing


def claim_beside(codec: Any, out: str | None, force: bool) -> None:
    """ValueError or FileExistsError, before any work is done, where the pictures of a table could
    not be written in the end."""
    pictured = any(column.is_picture for column in codec.schema.modelled)
    if not pictured or out is None:
        return
    if out == "-":
        raise ValueError(
            "The pictures of this table need a folder beside it: -o NAME.csv, not standard output."
        )
    folder = _beside(out)
    if folder.exists() and not (
        force and folder.is_dir() and all(file.suffix == ".png" for file in folder.iterdir())
    ):
        raise FileExistsError(
            f"{folder}, where the pictures would go, exists: choose another name, or overwrite "
            "pictures with --force."
        )


def refuse_onto_inputs(codec: Any, frame: pd.DataFrame, out: str | None) -> None:
    """ValueError where the pictures of an answer would replace those that are read for it."""
    if out is None or out == "-" or out.endswith(".png"):
        return
    folder = _beside(out).resolve()
    for column in codec.schema.modelled:
        cells = frame[column.name] if column.is_picture and column.name in frame else ()
        for cell in cells:
            if isinstance(cell, str) and Path(cell).resolve().parent == folder:
                raise ValueError(
                    f"{_beside(out)}, where the pictures would go, holds {cell}, which is read for "
                    "them: choose another name."
                )


def claims_sheet(codec: Any, out: str | None) -> bool:
    """Whether the drawn pictures of a table are asked for on one sheet. ValueError where the table
    has none, or several columns of them."""
    if out is None or not out.endswith(".png"):
        return False
    only_pictures(
        codec,
        f"A sheet such as {out} holds the pictures of one column, and this table has {{}} of "
        "pictures: -o NAME.csv.",
    )
    return True


def sheet_of(table: pd.DataFrame, out: str) -> pd.DataFrame:
    """The pictures of a table's only column of pictures, written on one sheet; the other
    columns."""
    name = next(name for name in table if any(pictures_in(table[name])))
    write_sheet(stacked(pictures_in(table[name])), out)
    return table.drop(columns=name)


def states_of(states: list[Any], most: int) -> np.ndarray:
    """The pictures of rows at each of several states, at most ``most`` of them: all states of the
    first, then those of the next."""
    each = [_pictures_of(state) for state in states]
    by_row = np.stack(each, 1)[:most]
    return by_row.reshape(-1, *by_row.shape[2:])


def _pictures_of(rows: Any) -> np.ndarray:
    """Images as they are, or those of the only column of pictures of a table."""
    if not isinstance(rows, pd.DataFrame):
        return np.asarray(rows, dtype=np.uint8)
    name = next(name for name in rows if any(pictures_in(rows[name])))
    return stacked(pictures_in(rows[name]))


def placed(table: pd.DataFrame, out: str | None) -> pd.DataFrame:
    """The table with paths in place of pictures: those that are of no file are written into a
    folder beside the table."""
    held = {name: cells for name in table if any(cells := pictures_in(table[name]))}
    new = [cell for cells in held.values() for cell in cells if cell is not None and not cell.path]
    width = max(3, len(str(len(new))))
    paths = {
        id(cell): str(cell) if out is None else f"{_beside(out).name}/{row:0{width}d}.png"
        for row, cell in enumerate(new)
    }
    if new and out is not None:
        with new_folder(_beside(out)) as folder:
            for cell in new:
                cell.save(folder / Path(paths[id(cell)]).name)
    home = "." if out is None else Path(out).parent

    def path(cell: Any) -> Any:
        return (
            None
            if cell is None
            else paths.get(id(cell)) or Path(os.path.relpath(cell.path, home)).as_posix()
        )

    table = table.copy()
    for name, cells in held.items():
        table[name] = [path(cell) for cell in cells]
    return table


def _beside(out: str) -> Path:
    """The folder of the pictures of a table."""
    return Path(out).parent / f"{stem(out)}-pictures"


def write_drawn(images: np.ndarray, labels: Any, codec: Any, out: str, voice: Voice) -> int:
    """By the name: arrays (.npz), one sheet (.png), or a folder of files, in sub-folders by
    label. Returns how many pictures they are."""
    if out.endswith(".npz"):
        write_arrays(
            out, images=images, **({} if labels is None else {"labels": np.array(list(labels))})
        )
        return len(images)
    shown = shown_as(images, codec.levels, voice)
    if out.endswith(".png"):
        write_sheet(shown, out)
        return len(images)
    with new_folder(Path(out)) as folder:
        width = max(3, len(str(len(shown) - 1)))
        for row, image in enumerate(shown):
            home = folder if labels is None else folder / _folder_name(labels[row])
            home.mkdir(exist_ok=True)
            pillow().Image.fromarray(image).save(home / f"{row:0{width}d}.png")
    return len(images)


def write_arrays(out: str, **arrays: np.ndarray) -> None:
    """An .npz of these names."""
    with new_file(out) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def write_sheet(images: np.ndarray, out: str, across: int | None = None) -> None:
    """8-bit pictures on one .png."""
    with new_file(out) as partial:
        pillow().Image.fromarray(_sheet(images, across)).save(partial, "png")


def shown_as(images: np.ndarray, levels: int, voice: Voice) -> np.ndarray:
    """8-bit pictures that can be looked at."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.shape[3:] not in ((), (3,), (4,)):
        raise ValueError(
            f"Pictures of {images.shape[3]} channels cannot be written as .png: -o NAME.npz "
            "holds them."
        )
    if levels == 256:
        return np.ascontiguousarray(images)
    voice.note(
        f"The pixels 0 to {levels - 1} of this model are shown as 0 to 255; -o NAME.npz keeps "
        "them as they are."
    )
    return np.rint(images * (255 / max(1, levels - 1))).astype(np.uint8)


def _sheet(images: np.ndarray, across: int | None = None) -> np.ndarray:
    """All pictures on one, row by row (of ``across``), enlarged by a whole number where they are
    small."""
    zoom = max(1, TILE_PIXELS // images.shape[1])
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    across = across or math.ceil(math.sqrt(len(images)))
    high = images.shape[1] + GAP_PIXELS
    wide = images.shape[2] + GAP_PIXELS
    out = np.full(
        (
            math.ceil(len(images) / across) * high - GAP_PIXELS,
            across * wide - GAP_PIXELS,
            *images.shape[3:],
        ),
        255,
        dtype=np.uint8,
    )
    for place, image in enumerate(images):
        row, column = divmod(place, across)
        out[
            row * high : row * high + high - GAP_PIXELS,
            column * wide : column * wide + wide - GAP_PIXELS,
        ] = image
    return out


def _folder_name(label: Any) -> str:
    """A label as the name of a folder."""
    return (
        "".join(
            "-" if character in '/\\:*?"<>|' else character for character in text_of(label)
        ).strip(". ")
        or "-"
    )

"""Tables of which one column holds pictures <-> events: the columns, then the pixels of the
picture, all in one row.

    log p(row) = log_prob(event) + log_unseen + log_volume
        (of the columns; a pixel has mass)

A cell is the path of a file, a ``Picture``, or an array of grey levels 0 to 255; an empty one is a
missing picture. Files are read when the table is made a frame, whose cells are then pictures. All
have one size, or are cut about their centre and scaled to the ``format`` that the column was said
to have, such as "28x28" (height x width).

Shape letters: B rows, D columns, P = C H W pixels.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.image.codec import ImageCodec
from conjoin.codecs.image.colours import pillow
from conjoin.codecs.image.decoding import (
    OF_CHANNELS,
    Wanted,
    check_total,
    pixels_of,
    read_files,
    size_of,
)
from conjoin.codecs.image.pictures import SUFFIXES, Picture
from conjoin.codecs.table import Column, Schema, TableCodec, as_frame, read_table
from conjoin.codecs.table.frame import from_dict, is_named
from conjoin.codecs.table.guess import guess_pictures
from conjoin.codecs.table.overrides import missing_of, overrides_of
from conjoin.codecs.table.rows import TableRows, filled
from conjoin.codecs.table.values import text_of
from conjoin.codecs.table.words import field_of, inputs_of
from conjoin.core import Codec, Encoded, Event, Field, Rows, Space, Variable

__all__ = ["IllustratedCodec", "below", "codec_of", "in_folder", "picture_columns"]

JSON = dict[str, Any]
Blanks = Mapping[Any, Sequence[Any]]  # column -> words that mean missing
LEVELS = 256  # of a pixel
MAX_PICTURE_CELLS = 1 << 16  # pixels of a picture, its channels counted


def picture_columns(raw: Any, types: Any = None, missing: Any = ()) -> Blanks:
    """The columns of a frame that hold pictures, by what the user says, else by their cells; with
    the words that mean missing there."""
    if not isinstance(raw, pd.DataFrame):
        return {}
    names = list(raw.columns)
    asked = overrides_of(types, names)
    blanks = missing_of(missing, names)
    words = {name: blanks.get(name, ()) for name in names}
    return {
        name: words[name]
        for name in names
        if _is_picture(raw[name], asked.get(name, {}), words[name])
    }


def _is_picture(series: Any, asked: JSON, blanks: Any) -> bool:
    if "type" in asked or asked.get("role") == "set aside":
        return bool(asked.get("type") == "picture")
    if not isinstance(series, pd.Series) or pd.api.types.is_numeric_dtype(series.dtype):
        return False
    return guess_pictures(
        pd.Series(list(_cells(series, blanks)), dtype=object) if blanks else series
    )


def in_folder(
    frame: pd.DataFrame, folder: str | Path, types: Any = None, missing: Any = ()
) -> pd.DataFrame:
    """A table whose relative paths of pictures are those below a folder.

    Parameters
    ----------
    frame : DataFrame
        The table.
    folder : str or Path
        Where the pictures lie.
    types : dict, Schema, str or Path, optional
        Types of columns, as in the fit.
    missing : list or dict, optional
        Values that mean missing, as in the fit; they are left as they are.

    Returns
    -------
    DataFrame
        A copy, if any path was changed.

    Examples
    --------
    >>> table = pd.DataFrame({"scan": ["a.png", "?"], "age": [3, 4]})
    >>> in_folder(table, "scans", missing="?")["scan"].tolist()
    ['scans/a.png', '?']
    """
    return below(frame, folder, picture_columns(frame, types, missing))


def below(frame: pd.DataFrame, folder: str | Path, pictures: Blanks) -> pd.DataFrame:
    """As ``in_folder``, of the columns ``pictures``, whose words that mean missing are left as they
    are."""
    for name in pictures.keys() & set(frame.columns) if Path(folder) != Path() else ():
        pairs = zip(frame[name], _cells(frame[name], pictures[name]), strict=True)
        frame = _with(
            frame,
            name,
            [str(Path(folder) / cell) if isinstance(cell, str) else raw for raw, cell in pairs],
        )
    return frame


def _with(frame: pd.DataFrame, name: Any, cells: Sequence[Any]) -> pd.DataFrame:
    """The frame with one column of these cells; its name may be a number."""
    frame = frame.copy()
    frame[name] = pd.Series(cells, frame.index, dtype=object)
    return frame


def codec_of(raw: Any, types: Any, missing: Any, **options: Any) -> tuple[Any, pd.DataFrame]:
    """What reads a table, and the table as a frame."""
    raw, home = _opened(raw)
    pictures = picture_columns(raw, types, missing)
    names = list(pictures)
    if not names:
        return TableCodec(types, missing, **options), as_frame(raw)
    if len(names) > 1:
        raise ValueError(
            f"The columns {', '.join(map(repr, names))} hold pictures, and one can be modelled: "
            "leave the others out, or say "
            f"types={{{names[1]!r}: {{'role': 'set aside'}}}}."
        )
    return _Reading(below(raw, home, pictures), names[0], types, missing).codec(options)


def _opened(raw: Any) -> tuple[Any, Path]:
    """A file's table, or that of a dict, as a frame; and the folder in which its pictures lie."""
    if isinstance(raw, str | Path):
        return read_table(raw)[0], Path(raw).parent
    return from_dict(raw) if type(raw) is dict else raw, Path()


class IllustratedCodec(Codec):
    """``table`` reads the columns, ``image`` says what the pictures of the column ``name`` are;
    ``size`` (H, W) to which they are cut and scaled, or None."""

    kind = "illustrated"
    most_held = ImageCodec.most_held

    def __init__(
        self,
        table: TableCodec,
        image: ImageCodec,
        name: Any,
        size: tuple[int, int] | None = None,
        blanks: Any = (),
    ) -> None:
        self.table = table
        self.image = image
        self.name = name
        self.size = size
        self.blanks = tuple(blanks)
        self.missing_share = 0.0

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Tables in which a column holds pictures."""
        raw, _ = _opened(raw)
        return bool(picture_columns(raw, types, missing))

    @classmethod
    def columns_in(cls, raw: Any, types: Any = None, missing: Any = ()) -> list[Any]:
        return list(picture_columns(raw, types, missing))

    @classmethod
    def in_folder(cls, raw: Any, folder: str | Path, types: Any = None, missing: Any = ()) -> Any:
        return in_folder(raw, folder, types, missing)

    def located(self, raw: Any, folder: str | Path) -> Any:
        return below(raw, folder, self._blanks)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        codec, frame = codec_of(
            raw, options.pop("types", None), options.pop("missing", ()), **options
        )
        return codec, TableRows(frame)

    @property
    def _blanks(self) -> Blanks:
        """The column of pictures, with the words that mean missing there."""
        return {self.name: self.blanks}

    @property
    def bounded(self) -> bool:
        return self.table.bounded

    @bounded.setter
    def bounded(self, value: bool) -> None:
        self.table.bounded = value

    @property
    def owner(self) -> str:
        """Who an error about the number of features speaks of."""
        return self.table.owner

    @owner.setter
    def owner(self, name: str) -> None:
        self.table.owner = name

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the schema, scales and levels of the columns; what the pictures are is known."""
        frame = self.frame(raw)
        self.table.fit(TableRows(frame.drop(columns=self.name)), weight)
        counts = np.ones(len(frame)) if weight is None else np.asarray(weight, dtype=float)
        self.missing_share = float(np.average(frame[self.name].isna(), weights=counts))
        return self

    # ------------------------------------------------------------------ what was learned

    @property
    def schema(self) -> Schema:
        """That of the table; the column of pictures is its last."""
        height, width = self.image.grid[1:]
        own = Column(
            self.name,
            "picture",
            missing_share=self.missing_share,
            format=f"{height}x{width}",
            dtype="object",
        )
        return dataclasses.replace(self.table.schema, columns=(*self.table.schema.columns, own))

    @property
    def columns(self) -> list[Any]:
        """Names of the modelled columns in event order. The last is that of the picture, whose
        pixels go on beyond."""
        return [*self.table.columns, self.name]

    @property
    def notices(self) -> list[str]:
        return self.table.notices

    @property
    def space(self) -> Space:
        variables = (*self.table.space.variables, *self._pixel_variables)
        return Space((len(variables),), variables, "vector", self.image.grid)

    @functools.cached_property
    def _pixel_variables(self) -> tuple[Variable, ...]:
        return tuple(
            dataclasses.replace(each, name=f"{self.name} {each.name}")
            for each in self.image.space.variables
        )

    @property
    def gaps(self) -> list[Any]:
        """Columns that had missing cells, which the model does not draw."""
        return self.table.gaps

    @property
    def columnwise(self) -> int:
        return self.table.columnwise

    @property
    def parts(self) -> tuple[slice, ...]:
        return slice(0, self.columnwise), slice(self.columnwise, len(self.space.variables))

    @property
    def size_words(self) -> str:
        return f"{len(self.columns):,} columns"

    @property
    def inputs(self) -> tuple[str, str]:
        return inputs_of(self.schema)

    def fields(self) -> list[Field]:
        return [field_of(column) for column in self.schema.columns]

    def unlike(self, known: Sequence[bool]) -> str:
        if known[-1]:
            return "the picture is unlike those held out, or does not go with the columns"
        return self.table.unlike(known)

    # ------------------------------------------------------------------ raw <-> event

    def rows(self, raw: Any) -> TableRows:
        """``raw`` as checked rows, whose cells in the column of pictures are pictures, or None."""
        return raw if isinstance(raw, TableRows) else TableRows(self.frame(raw))

    def frame(self, raw: Any) -> pd.DataFrame:
        """``raw`` as a checked frame, whose cells in the column of pictures are pictures, or
        None."""
        if isinstance(raw, TableRows):
            return raw.frame
        raw, home = _opened(raw)
        if not isinstance(raw, pd.DataFrame) or not is_named(raw):
            raise TypeError(
                f"The pictures of this model are those of the column {self.name!r}: give a table "
                "with names of its columns."
            )
        raw = below(raw, home, self._blanks)
        rest = raw.drop(columns=self.name, errors="ignore")
        checked = self._columns_of(rest)
        if self.name not in raw:
            return checked
        return _with(checked, self.name, list(self._pictures(raw[self.name])))[[*raw.columns]]

    def _columns_of(self, rest: pd.DataFrame) -> pd.DataFrame:
        if not rest.shape[1]:
            return rest
        return self.table.frame(rest) if self.table._schema else as_frame(rest)

    def _pictures(self, series: Any) -> Iterator[Picture | None]:
        channels, height, width = self.image.grid
        wanted = Wanted(self.size, OF_CHANNELS[channels])
        for row, cell in enumerate(_cells(series, self.blanks)):
            picture = _open(cell, wanted, self.name, row)
            if picture is not None and picture.pixels.shape[:2] != (height, width):
                raise ValueError(_other_size(self.name, row, picture, (height, width)))
            yield (
                picture
                if picture is None
                else Picture(_in_channels(picture.pixels, channels), picture.path)
            )

    def encode(self, raw: Any) -> Encoded:
        """Events (B, D + P); a missing picture is a row of missing pixels."""
        frame = self.frame(raw)
        rest = frame.drop(columns=self.name, errors="ignore")
        rest = rest if rest.shape[1] else rest.reindex(columns=self.table.columns)
        encoded = self.table.encode(TableRows(rest))
        value, known = self._pixels(frame)
        mask = known[:, None].repeat(1, value.shape[1])
        event = Event(
            torch.cat([encoded.event.value, value], 1), torch.cat([encoded.event.mask, mask], 1)
        )
        unseen = torch.cat([encoded.unseen, torch.zeros_like(mask)], 1)
        return encoded._replace(event=event, unseen=unseen)

    def _pixels(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """(B, P) grey levels, in the order of channels, rows, columns; and (B,) whether there is a
        picture."""
        known = (
            frame[self.name].notna().to_numpy()
            if self.name in frame
            else np.zeros(len(frame), dtype=bool)
        )
        value = np.zeros((len(frame), *self.image.grid))
        if known.any():
            stack = np.stack([picture.pixels for picture in frame[self.name][known]])
            value[known] = np.moveaxis(stack, 3, 1) if stack.ndim == 4 else stack[:, None]
        return torch.from_numpy(value.reshape(len(frame), -1)), torch.tensor(known)

    def decode(self, value: Tensor, observed: Tensor | None = None) -> pd.DataFrame:
        """The rows (B, D + P) as a frame; a picture of which a pixel is not ``observed`` is
        missing."""
        width = value.shape[1] - self.space.pixels
        frame = self.table.decode(
            value[:, :width], None if observed is None else observed[:, :width]
        )
        known = (
            np.ones(len(value), dtype=bool)
            if observed is None
            else observed[:, width:].all(1).numpy()
        )
        stack = (
            value[:, width:]
            .detach()
            .numpy()
            .round()
            .astype("uint8")
            .reshape(len(value), *self.image.grid)
        )
        images = np.moveaxis(stack, 1, 3) if self.image.grid[0] > 1 else stack[:, 0]
        cells = [
            Picture(image) if seen else None for image, seen in zip(images, known, strict=True)
        ]
        return _with(frame, self.name, cells)

    def decode_column(self, value: Tensor, place: int) -> Any:
        if place < self.columnwise:
            return self.table.decode_column(value[:, : self.columnwise], place)
        return super().decode_column(value, place)

    def raw(self, rows: Rows) -> pd.DataFrame:
        frame: pd.DataFrame = rows.frame
        return frame

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> TableRows:
        return TableRows(filled(rows.frame, self.columns, observed.numpy(), decoded))

    # ------------------------------------------------------------------ saving

    def to_json(self) -> JSON:
        kept = {
            "kind": self.kind,
            "name": self.name,
            "size": self.size,
            "blanks": list(self.blanks),
            "missing_share": self.missing_share,
        }
        return {**kept, "table": self.table.to_json(), "image": self.image.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        size = None if data["size"] is None else tuple(data["size"])
        codec = cls(
            TableCodec.from_json(data["table"]),
            ImageCodec.from_json(data["image"]),
            data["name"],
            size,
            data["blanks"],
        )
        codec.missing_share = data["missing_share"]
        return codec


# -------------------------------------------------------------------------------- the first reading


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A table that is to be fitted, its column of pictures, and what the user said of the
    columns."""

    raw: pd.DataFrame
    name: Any
    types: Any
    missing: Any

    def codec(self, options: JSON) -> tuple[IllustratedCodec, pd.DataFrame]:
        """What reads such tables, by the size and the channels of the pictures that are there; and
        the frame."""
        if options.get("missingness") == "informative":
            raise ValueError(
                "missingness='informative' is not for tables with pictures: add a column that "
                "says what is missing."
            )
        if self.raw.shape[1] == 1:
            raise ValueError(
                f"There is no column beside the pictures of {self.name!r}: put them into folders "
                "that are their labels."
            )
        names = list(self.raw.columns)
        types = overrides_of(self.types, names)
        missing = missing_of(self.missing, names)
        form = types.pop(self.name, {}).get("format")
        blanks = missing.pop(self.name, ())
        size = size_of(form, f"Column {self.name!r}: the format of pictures") if form else None
        pictures = self._read(Wanted(size), blanks)
        shapes = [picture.pixels.shape for picture in pictures if picture is not None]
        channels = max((shape[2] if len(shape) == 3 else 1) for shape in shapes)
        grid = (channels, *shapes[0][:2])
        _refuse_large(self.name, grid)
        table = TableCodec(types, missing, **options)
        codec = IllustratedCodec(
            table, ImageCodec(grid, LEVELS, channels > 1), self.name, size, blanks
        )
        return codec, codec.frame(_with(self.raw, self.name, pictures))

    def _read(self, wanted: Wanted, blanks: Any) -> list[Picture | None]:
        """The pictures, all of one size."""
        out: list[Picture | None] = []
        first: Picture | None = None
        for row, cell in enumerate(_cells(self.raw[self.name], blanks)):
            picture = _open(cell, wanted, self.name, row)
            if picture is not None and first is None:
                check_total(len(self.raw), picture.pixels, wanted)
            first = first or picture
            if (
                picture is not None
                and first is not None
                and picture.pixels.shape[:2] != first.pixels.shape[:2]
            ):
                raise ValueError(_other_size(self.name, row, picture, first.pixels.shape[:2]))
            out.append(picture)
        if first is None:
            raise ValueError(f"Column {self.name!r} has no picture at all: leave it out.")
        return out


def _cells(series: Any, blanks: Any) -> Iterator[Any]:
    """The cells; None where missing."""
    words = {text_of(word) for word in blanks}
    for cell in series:
        empty = (
            not cell.strip()
            if isinstance(cell, str)
            else cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)
        )
        yield (
            None
            if empty or (isinstance(cell, str | int | float) and text_of(cell) in words)
            else cell
        )


def _open(cell: Any, wanted: Wanted, name: Any, row: int) -> Picture | None:
    """The picture of a cell; ValueError names column, row and path."""
    if cell is None or isinstance(cell, Picture):
        return cell
    where = f"Column {name!r}, row {row}"
    if isinstance(cell, np.ndarray):
        if (
            cell.dtype != np.uint8
            or cell.ndim not in (2, 3)
            or (cell.ndim == 3 and cell.shape[2] not in OF_CHANNELS)
        ):
            raise ValueError(
                f"{where}: an array of pixels is uint8, (H, W) or (H, W, C), got {cell.dtype} "
                f"{cell.shape}."
            )
        return Picture(cell)
    if not isinstance(cell, str | Path):
        raise ValueError(f"{where}: {cell!r} is no path of a picture ({', '.join(SUFFIXES)}).")
    if not Path(cell).is_file():
        raise ValueError(
            f"{where}: there is no file {cell}; paths are relative to the folder of the table (a "
            "frame's to the working directory). "
            f"If the column holds no pictures, say types={{{name!r}: 'category'}}."
        )
    try:
        return Picture(read_files([Path(cell)], wanted)[0][0], str(cell))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """The pixels as they would be read from a file in so many channels."""
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    if (pixels.shape[2] if pixels.ndim == 3 else 1) == channels:
        return pixels
    return pixels_of(
        pillow().Image.fromarray(np.ascontiguousarray(pixels)), Wanted(mode=OF_CHANNELS[channels])
    )[0]


def _other_size(name: Any, row: int, picture: Picture, wanted: tuple[int, ...]) -> str:
    high, wide = picture.pixels.shape[:2]
    return (
        f"Column {name!r}, row {row}: {picture.path or 'the picture'} has {high} x {wide} pixels "
        "(height x width), where the first has "
        f"{wanted[0]} x {wanted[1]}: say types={{{name!r}: {{'type': 'picture', 'format': "
        f"'{wanted[0]}x{wanted[1]}'}}}} in the fit, and all are cut and scaled."
    )


def _refuse_large(name: Any, grid: tuple[int, ...]) -> None:
    if int(np.prod(grid)) > MAX_PICTURE_CELLS:
        shape = " x ".join(map(str, grid[1:]))
        raise ValueError(
            f"Column {name!r} has pictures of {shape} pixels and {grid[0]} channels, and the "
            f"limit is {MAX_PICTURE_CELLS:,} numbers a picture: say "
            "types={{name!r}: {'type': 'picture', 'format': '64x64'}}, and they "
            "are cut and scaled."
        )

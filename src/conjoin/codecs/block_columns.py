"""Columns of a table whose cells are no plain values but data of another kind: pictures, strings.

Each such column is a block of its own in a row of the table (see ``conjoin.codecs.composite``). It
reads its cells, and turns them into the cells of the block and back.

Shape letters: B rows, P cells of the block.
"""

import abc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.image.codec import ImageCodec
from conjoin.codecs.image.colours import pillow
from conjoin.codecs.image.decoding import IN_FOLDERS, check_total, pixels_of, ranged, read_file
from conjoin.codecs.image.pictures import SUFFIXES, Picture, in_part
from conjoin.codecs.image.tally import Tally
from conjoin.codecs.image.wanted import OF_CHANNELS, Wanted, size_of
from conjoin.codecs.sequence import ONE_WAY, SHOWN_CHARACTERS, Prefix, SequenceCodec
from conjoin.codecs.table import Column
from conjoin.codecs.table.values import text_of
from conjoin.codecs.text import TextCodec
from conjoin.codecs.tokens import Words, read_format
from conjoin.core import Block, Encoded, Event, Variable

__all__ = ["BlockColumn", "PictureColumn", "StringColumn", "known_cells"]

JSON = dict[str, Any]
PIXEL_LEVELS = 256  # of a pixel
MAX_PICTURE_CELLS = 1 << 16  # pixels of a picture, its channels counted
MAX_STRING_CELLS = 1 << 12  # characters of a string


class BlockColumn(abc.ABC):
    """``name`` of the column, and ``blanks``, the words that mean missing there."""

    type: ClassVar[str]  # the schema's word for it

    def __init__(self, name: Any, blanks: Any = ()) -> None:
        self.name = name
        self.blanks = tuple(blanks)
        self.missing_share = 0.0

    @classmethod
    @abc.abstractmethod
    def begin(cls, name: Any, series: Any, asked: JSON, blanks: Any) -> tuple[Self, list[Any]]:
        """The column of a table that is to be fitted, and its cells. ``asked``: what the user says
        of it."""

    @abc.abstractmethod
    def cells(self, series: Any) -> Iterator[Any]:
        """The checked cells; None where one is missing. ValueError names column and row."""

    @classmethod
    def recognises(cls, series: Any) -> bool:
        """Whether a column of which the user says nothing is one of these."""
        return False

    def fit(self, cells: Sequence[Any], weight: Any) -> None:
        """Learn what the cells of the fit are like; ``weight`` (B,) counts each row."""
        missing = [cell is None for cell in cells]
        self.missing_share = float(np.average(missing, weights=weight))

    @property
    @abc.abstractmethod
    def block(self) -> Block:
        """The space of the cells."""

    @abc.abstractmethod
    def encode(self, cells: Sequence[Any]) -> Encoded:
        """Rows (B, P)."""

    @abc.abstractmethod
    def decode(self, value: Tensor, observed: Tensor | None) -> list[Any]:
        """The cells of rows (B, P); None where one is not ``observed`` whole."""

    @abc.abstractmethod
    def known_in_part(self, cells: Sequence[Any]) -> np.ndarray:
        """(B,) which cells are completed where missing ones are filled in."""

    def unread(self, cells: Sequence[Any]) -> list[str]:
        """Of each cell, what of it can't be read."""
        return [""] * len(cells)

    def far_away(self, cells: Sequence[Any]) -> list[str]:
        """What the model can't know of the cells, where others are filled in beside them."""
        return []

    def unseen_words(self, value: Any) -> str:
        """Why a cell can't be asked for that was never seen, in a sentence."""
        return ""

    @property
    @abc.abstractmethod
    def column(self) -> Column:
        """Its line in the schema."""

    @property
    def unlike(self) -> str:
        """Why a row is unfamiliar, where this cell is the least familiar of it."""
        return f"{self.name} is unlike those held out"

    @property
    def disagrees(self) -> str:
        """Why a row is unfamiliar, where this cell does not go with its columns."""
        return f"{self.name} does not go with the other columns"

    @property
    def several_ways(self) -> bool:
        """Whether a cell can be written in several ways, of which log p counts one."""
        return False

    def structure(self, cells: slice) -> Any:
        """How the block's ``cells`` of a row read as a thing of its own structure; None where they
        write none."""
        return None

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the column."""
        return []

    @abc.abstractmethod
    def to_json(self) -> JSON:
        """All that was learned."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A fitted column."""


def known_cells(series: Any, blanks: Any, *, empty: bool = True) -> Iterator[Any]:
    """The cells; None where missing. ``empty``: whether an empty string is."""
    words = {text_of(word) for word in blanks}
    for cell in series:
        gone = (
            empty and not cell.strip()
            if isinstance(cell, str)
            else cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)
        )
        yield (
            None
            if gone or (isinstance(cell, str | int | float) and text_of(cell) in words)
            else cell
        )


# ----------------------------------------------------------------------------------------- pictures


class PictureColumn(BlockColumn):
    """A cell is the path of a file, a ``Picture``, or an array of grey levels 0 to 255, of which
    those that are not known are masked, or NaN.

    All have one size, or are cut about their centre and scaled to ``size`` (H, W). ``range``: the
    values that become 0 to 255, where some pictures of the fit have more than 8 bits. ``said``:
    what was done to the pictures of the fit."""

    type = "picture"

    def __init__(
        self,
        name: Any,
        image: ImageCodec,
        size: tuple[int, int] | None = None,
        blanks: Any = (),
        range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(name, blanks)
        self.image = image
        self.size = size
        self.range = range
        self.said: list[str] = []

    @classmethod
    def begin(cls, name: Any, series: Any, asked: JSON, blanks: Any) -> tuple[Self, list[Any]]:
        """By the size and the channels of the pictures that are there."""
        form = asked.get("format")
        size = size_of(form, f"Column {name!r}: the format of pictures") if form else None
        wanted = ranged(_files(series, blanks), Wanted(size))
        tally = Tally()
        pictures = _read(name, series, wanted, blanks, tally)
        _refuse_in_part(name, pictures)
        shapes = [picture.pixels.shape for picture in pictures if picture is not None]
        channels = max((shape[2] if len(shape) == 3 else 1) for shape in shapes)
        grid = (channels, *shapes[0][:2])
        _refuse_large(name, grid)
        image = ImageCodec(grid, PIXEL_LEVELS, channels > 1)
        column = cls(name, image, size, blanks, wanted.range if tally.deep else None)
        column.said = [f"Column {name!r}: {words}" for words in tally.words(wanted)]
        return column, list(column.cells(pictures))

    def cells(self, series: Any) -> Iterator[Picture | None]:
        channels, height, width = self.image.grid
        wanted = Wanted(self.size, OF_CHANNELS[channels], range=self.range, by_model=True)
        tally = Tally()
        for row, cell in enumerate(known_cells(series, self.blanks)):
            picture = _open(cell, wanted, self.name, row, tally)
            if picture is not None and picture.pixels.shape[:2] != (height, width):
                high, wide = picture.pixels.shape[:2]
                raise ValueError(
                    f"Column {self.name!r}, row {row}: {picture.path or 'the picture'} has {high} "
                    f"x {wide} pixels (height x width), and those of the model have {height} x "
                    f"{width}: scale it."
                )
            yield picture if picture is None else _in_channels(picture, channels, tally)
        for words in tally.words(wanted):
            warnings.warn(f"Column {self.name!r}: {words}", UserWarning, stacklevel=2)

    @property
    def notices(self) -> list[str]:
        return self.said

    @property
    def block(self) -> Block:
        grey = Variable(str(self.name), "ordered", cardinality=PIXEL_LEVELS)
        return Block(str(self.name), "image", self.image.grid, (grey,))

    def encode(self, cells: Sequence[Any]) -> Encoded:
        """Grey levels, in the order of channels, rows, columns."""
        value = np.zeros((len(cells), *self.image.grid))
        known = np.zeros(value.shape, dtype=bool)
        for row, picture in enumerate(cells):
            if picture is not None:
                value[row] = _channels_first(picture.pixels)
                known[row] = True if picture.known is None else _channels_first(picture.known)
        shape = (len(cells), int(np.prod(self.image.grid)))
        flat = torch.from_numpy(np.where(known, value, 0).reshape(shape))
        mask = torch.from_numpy(known.reshape(shape))
        nothing = torch.zeros(len(flat), dtype=torch.float64)
        return Encoded(Event(flat, mask), torch.zeros_like(mask), nothing, nothing)

    def known_in_part(self, cells: Sequence[Any]) -> np.ndarray:
        return in_part(cells)

    def decode(self, value: Tensor, observed: Tensor | None) -> list[Picture | None]:
        stack = value.detach().numpy().round().astype("uint8").reshape(-1, *self.image.grid)
        images = np.moveaxis(stack, 1, 3) if self.image.grid[0] > 1 else stack[:, 0]
        known = _whole(value, observed)
        return [Picture(image) if seen else None for image, seen in zip(images, known, strict=True)]

    @property
    def column(self) -> Column:
        height, width = self.image.grid[1:]
        form = f"{height}x{width}"
        share = self.missing_share
        return Column(self.name, self.type, missing_share=share, format=form, dtype="object")

    @property
    def unlike(self) -> str:
        return f"the picture {self.name} is unlike those held out"

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "size": self.size,
            "blanks": list(self.blanks),
            "missing_share": self.missing_share,
            "image": self.image.to_json(),
            **({} if self.range is None else {"range": list(self.range)}),
            **({"said": self.said} if self.said else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        size = None if data["size"] is None else tuple(data["size"])
        ends = None if data.get("range") is None else tuple(data["range"])
        image = ImageCodec.from_json(data["image"])
        column = cls(data["name"], image, size, data["blanks"], ends)
        column.missing_share = data["missing_share"]
        column.said = list(data.get("said", ()))
        return column


def _files(series: Any, blanks: Any) -> list[Path]:
    """The files that the cells name."""
    cells = [cell for cell in known_cells(series, blanks) if isinstance(cell, str | Path)]
    return [Path(cell) for cell in cells if Path(cell).is_file()]


def _whole(value: Tensor, observed: Tensor | None) -> np.ndarray:
    """(B,) whether every cell is observed."""
    if observed is None:
        return np.ones(len(value), dtype=bool)
    return np.asarray(observed.all(1).numpy())


def _read(
    name: Any, series: Any, wanted: Wanted, blanks: Any, tally: Tally
) -> list[Picture | None]:
    """The pictures, all of one size."""
    out: list[Picture | None] = []
    first: Picture | None = None
    for row, cell in enumerate(known_cells(series, blanks)):
        picture = _open(cell, wanted, name, row, tally)
        if picture is not None and first is None:
            check_total(len(series), picture.pixels, wanted)
        first = first or picture
        if (
            picture is not None
            and first is not None
            and picture.pixels.shape[:2] != first.pixels.shape[:2]
        ):
            raise ValueError(_other_size(name, row, picture, first.pixels.shape[:2]))
        out.append(picture)
    if first is None:
        raise ValueError(f"Column {name!r} has no picture at all: leave it out.")
    return out


def _open(cell: Any, wanted: Wanted, name: Any, row: int, tally: Tally) -> Picture | None:
    """The picture of a cell; ValueError names column, row and path."""
    if cell is None or isinstance(cell, Picture):
        return cell
    where = f"Column {name!r}, row {row}"
    if isinstance(cell, np.ndarray):
        return _of_array(cell, where)
    if not isinstance(cell, str | Path):
        shown = repr(cell)[:SHOWN_CHARACTERS]
        raise ValueError(f"{where}: {shown} is no path of a picture ({', '.join(SUFFIXES)}).")
    if not Path(cell).is_file():
        raise ValueError(
            f"{where}: there is no file {cell}; paths are relative to the folder of the table (a "
            "frame's to the working directory). "
            f"If the column holds no pictures, say types={{{name!r}: 'category'}}."
        )
    try:
        return Picture(read_file(Path(cell), wanted, tally), str(cell))
    except ValueError as error:
        words = str(error).replace(IN_FOLDERS, ": replace it, or empty the cell.")
        raise ValueError(f"{where}: {words}") from None


def _of_array(cell: np.ndarray, where: str) -> Picture | None:
    """Of whole numbers, masked or NaN where they are not known."""
    shaped = cell.ndim == 2 or (cell.ndim == 3 and cell.shape[2] in OF_CHANNELS)
    known = ~np.ma.getmaskarray(cell)
    raw = np.ma.getdata(cell)
    if raw.dtype.kind == "f":
        known = known & ~np.isnan(raw)
    if not shaped or raw.dtype.kind not in "uif":
        raise ValueError(
            f"{where}: an array of pixels is (H, W) or (H, W, C), of whole numbers from 0 to 255, "
            f"masked or NaN where they are not known; got {cell.dtype} {cell.shape}."
        )
    wrong = known & ((raw != np.rint(raw)) | (raw < 0) | (raw >= PIXEL_LEVELS))
    if wrong.any():
        raise ValueError(
            f"{where}: pixels are whole numbers from 0 to {PIXEL_LEVELS - 1}, got {raw[wrong][0]}."
        )
    if raw.dtype != np.uint8 and np.max(raw, where=known, initial=0) == 1:
        raise ValueError(
            f"{where}: no pixel is above 1, where white is {PIXEL_LEVELS - 1}: scale the numbers, "
            "or give them as uint8 if they are as dark."
        )
    if not known.any():
        return None
    pixels = np.where(known, raw, 0).astype(np.uint8)
    return Picture(pixels, known=known)


def _in_channels(picture: Picture, channels: int, tally: Tally) -> Picture:
    """The picture as it would be read from a file in so many channels, of which each is known
    where all were."""
    pixels = _without_axis(picture.pixels)
    known = None if picture.known is None else _without_axis(picture.known)
    if (pixels.shape[2] if pixels.ndim == 3 else 1) == channels:
        return Picture(pixels, picture.path, known)
    tally.files += 1
    wanted = Wanted(mode=OF_CHANNELS[channels], by_model=True)
    found = pixels_of(pillow().Image.fromarray(np.ascontiguousarray(pixels)), wanted, tally)
    if known is None:
        return Picture(found, picture.path)
    gone = ~known if known.ndim == 2 else (~known).any(2)
    return Picture(found).hide(np.asarray(gone))


def _without_axis(pixels: np.ndarray) -> np.ndarray:
    """(H, W) of (H, W, 1); others as they are."""
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) of (H, W) or (H, W, C)."""
    return np.moveaxis(pixels, 2, 0) if pixels.ndim == 3 else pixels[None]


def _refuse_in_part(name: Any, pictures: Sequence[Picture | None]) -> None:
    found = in_part(pictures).nonzero()[0]
    if len(found):
        raise ValueError(
            f"Column {name!r}, row {found[0]}: only a part of the picture is known, and a fit "
            "learns from pictures that are whole or missing: fill it in, or leave it out."
        )


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
            f"types={{{name!r}: {{'type': 'picture', 'format': '64x64'}}}}, and they "
            "are cut and scaled."
        )


# ------------------------------------------------------------------------------------------ strings


class StringColumn(BlockColumn):
    """A cell is a string of characters, bytes or merged bytes; an empty one is a string too."""

    type = "text"

    def __init__(self, name: Any, strings: SequenceCodec, blanks: Any = ()) -> None:
        super().__init__(name, blanks)
        self.strings = strings

    @classmethod
    def begin(cls, name: Any, series: Any, asked: JSON, blanks: Any) -> tuple[Self, list[Any]]:
        strings = TextCodec()
        strings.format = asked.get("format") or strings.format
        read_format(strings.format, f"Column {name!r}")
        column = cls(name, strings, blanks)
        return column, list(column.cells(series))

    def cells(self, series: Any) -> Iterator[str | None]:
        for row, cell in enumerate(known_cells(series, self.blanks, empty=False)):
            if cell is not None and not isinstance(cell, str):
                raise ValueError(
                    f"Column {self.name!r}, row {row}: {cell!r} is no string, as its type 'text' "
                    "wants; turn the column into strings, or give it another type."
                )
            yield cell

    def fit(self, cells: Sequence[Any], weight: Any) -> None:
        super().fit(cells, weight)
        if all(cell is None for cell in cells):
            raise ValueError(f"Column {self.name!r} has no string at all: leave it out.")
        self.strings.fit(list(cells))
        if self.strings.capacity > MAX_STRING_CELLS:
            longest = max(len(cell) for cell in cells if cell is not None)
            raise ValueError(
                f"Column {self.name!r} has a string of {longest:,} characters, and strings beside "
                f"columns may have {int(MAX_STRING_CELLS / 1.25):,} {self.strings.tokens.word}: "
                "shorten them, or leave the column out."
            )

    @property
    def block(self) -> Block:
        own = self.strings.space
        return Block(str(self.name), own.layout, own.shape, own.variables)

    def encode(self, cells: Sequence[Any]) -> Encoded:
        """Codes of the characters, and the code behind them where a string has ended."""
        encoded = self.strings.encode(list(cells))
        event = encoded.event
        begun = torch.from_numpy(self.known_in_part(cells))
        event = event._replace(observed=event.mask & (event.there | ~begun[:, None]))
        value, mask = self.block.laid.flattened(self.block, event)
        return encoded._replace(event=Event(value, mask))

    def decode(self, value: Tensor, observed: Tensor | None) -> list[str | None]:
        known = _whole(value, observed)
        event = self.block.laid.restored(
            self.block, value, torch.ones_like(value, dtype=torch.bool)
        )
        strings = self.strings.decoded(event)
        return [string if seen else None for string, seen in zip(strings, known, strict=True)]

    @property
    def column(self) -> Column:
        share = self.missing_share
        names = self.strings.characters
        made_of = Words.format if self.strings.tokens.format == Words.format else ""
        return Column(
            self.name,
            self.type,
            levels=names,
            missing_share=share,
            dtype="object",
            format=made_of,
        )

    @property
    def unlike(self) -> str:
        return f"the string {self.name} is unlike those held out"

    def known_in_part(self, cells: Sequence[Any]) -> np.ndarray:
        return np.array([isinstance(cell, Prefix) for cell in cells], dtype=bool)

    def _unseen(self, cells: Sequence[Any]) -> list[int]:
        """The rows whose string can't be read to its end."""
        rows: list[int] = self.strings.encode(list(cells)).unseen.any(1).nonzero()[:, 0].tolist()
        return rows

    def unread(self, cells: Sequence[Any]) -> list[str]:
        """Of words; where a character was never seen, the reason tells it."""
        out = [""] * len(cells)
        for row in self._unseen(cells) if self.strings.tokens.format == Words.format else ():
            out[row] = f"{self.name} can't be read to the end: {self.strings.odd_words(cells[row])}"
        return out

    def far_away(self, cells: Sequence[Any]) -> list[str]:
        rows = self._unseen(cells)
        if not rows:
            return []
        some = "A string" if len(rows) == 1 else f"{len(rows):,} strings"
        first = f"row {rows[0]}: {self.strings.unread_words(cells[rows[0]])}"
        return [
            f"{some} of {self.name!r} can't be read to the end ({first}): what is filled in beside "
            "it follows from what stands before alone."
        ]

    def unseen_words(self, value: Any) -> str:
        return self.strings.unseen_words(f"{self.name}=", value)

    @property
    def notices(self) -> list[str]:
        told = [
            f"Column {self.name!r} holds {self.strings.size_words}; they may have up to "
            f"{self.strings.capacity} of them."
        ]
        return [*told, f"Column {self.name!r}: {ONE_WAY}"] if self.several_ways else told

    @property
    def several_ways(self) -> bool:
        return self.strings.several_ways

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "blanks": list(self.blanks),
            "missing_share": self.missing_share,
            "strings": self.strings.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        column = cls(data["name"], TextCodec.from_json(data["strings"]), data["blanks"])
        column.missing_share = data["missing_share"]
        return column

"""Small images <-> events: every pixel is an ordered variable with a fixed set of grey levels, and
has probability mass.

An array (n, H, W) or (n, H, W, C) of whole numbers becomes rows of C H W pixels in that order
(channels, rows, columns), and a space with ``grid`` (C, H, W), so that a family for tables can
model it and a family for images can see it. Since the levels are fixed (0..L-1, whatever was seen),
log p is that of the discrete image, and bits per dimension are -log2 p / (C H W).

Shape letters: n images, H rows, W columns, C channels, D = C H W pixels, L levels.
"""

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.image.rows import PictureRows
from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Codec, Encoded, Event, Field, Rows, Space, Variable

__all__ = ["ImageCodec"]

JSON = dict[str, Any]
PIXEL_LEVELS = 256  # levels of an 8-bit pixel
COLOUR_CHANNELS = (3, 4)  # of a picture in colour
MAX_CODED_LEVELS = 64  # up to so many levels count as they are (scikit-learn's digits have 17)


class ImageCodec(Codec):
    """``grid`` (C, H, W) and ``levels``: how many values a pixel can take; both are read off the
    array at hand."""

    kind = "image"
    noun = "picture"
    cells = "pixels"
    plural = "images"
    collection = "set of pictures"
    per_dimension = True
    # pictures that are held out to choose by, and to calibrate by: each is asked of a network many
    # times
    most_held = 3000

    def __init__(
        self, grid: tuple[int, int, int], levels: int, channels_last: bool = False
    ) -> None:
        self.grid = grid
        self.levels = levels
        self.channels_last = channels_last
        self.owner = "ImageCodec"

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Arrays of pictures, (n, H, W) or (n, H, W, C), rather than tables."""
        return isinstance(raw, np.ndarray) and raw.ndim in (3, 4)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        _mention_shape(raw)
        codec = cls.of(raw)
        return codec, codec.rows(raw)

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """A codec for images such as these. ValueError for what are no whole numbers from 0 to
        255."""
        last = images.ndim == 4
        channels = images.shape[3] if last else 1
        top = int(np.nan_to_num(_checked(images, PIXEL_LEVELS)).max(initial=1))
        return cls(
            (channels, images.shape[1], images.shape[2]),
            top + 1 if top < MAX_CODED_LEVELS else PIXEL_LEVELS,
            last,
        )

    @functools.cached_property
    def columns(self) -> list[str]:
        """Names of the pixels, in event order."""
        channels, height, width = self.grid
        names = [f"pixel {row},{column}" for row in range(height) for column in range(width)]
        return (
            names
            if channels == 1
            else [f"{name},{channel}" for channel in range(channels) for name in names]
        )

    @functools.cached_property
    def schema(self) -> Schema:
        return Schema(
            tuple(
                Column(name, "ordered", levels=tuple(range(self.levels))) for name in self.columns
            )
        )

    @property
    def notices(self) -> list[str]:
        opaque = (
            "the fourth is modelled as it is; if it is opacity, conjoin.on_background lays "
            "the images on a colour first"
        )
        return [f"The images have four channels: {opaque}."] if self.grid[0] == 4 else []

    @functools.cached_property
    def space(self) -> Space:
        variables = tuple(
            Variable(name, "ordered", cardinality=self.levels) for name in self.columns
        )
        return Space((len(variables),), variables, "image", self.grid)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.grid[1:]

    @property
    def channels(self) -> int:
        return self.grid[0]

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Nothing is learned: the levels are fixed."""
        return self

    @property
    def size_words(self) -> str:
        channels, height, width = self.grid
        more = f" and {channels} channels" if channels > 1 else ""
        return f"{height} x {width} pixels{more}"

    @property
    def x_words(self) -> str:
        return f"pictures of {self.size_words}"

    @property
    def inputs(self) -> tuple[str, str]:
        channels, height, width = self.grid
        colours = "grey" if channels == 1 else f"{channels} channels"
        return "images", f"{height} x {width} pixels, {colours}, {self.levels} levels each"

    def fields(self) -> list[Field]:
        """All pixels in one line."""
        channels, height, width = self.grid
        name = f"pixels: {height} x {width}" + (f", {channels} channels" if channels > 1 else "")
        return [Field(name, "ordered", f"0 to {self.levels - 1}", "–", "–", "modelled")]

    def unlike(self, known: Any, part: int | None = None) -> str:
        return "the image as a whole is unlike those held out"

    # ------------------------------------------------------------------ raw -> event

    def rows(self, raw: Any) -> PictureRows:
        """Pictures as bytes; a frame with one column per pixel is read too. ValueError for another
        size."""
        if isinstance(raw, PictureRows):
            return raw
        if isinstance(raw, pd.DataFrame):
            return self._from_frame(raw)
        images = np.asarray(raw)
        channels, height, width = self.grid
        wanted = (height, width, channels) if self.channels_last else (height, width)
        # greys with or without their one channel
        if channels == 1 and images.shape[1:] in (
            (height, width),
            (height, width, 1),
        ):
            images = images.reshape(len(images), *wanted)
        if images.shape[1:] != wanted:
            sizes = " x ".join(map(str, images.shape[1:])) or "single numbers"
            raise ValueError(
                f"X has images of {sizes}, but {self.owner} is expecting images of "
                f"{' x '.join(map(str, wanted))}."
            )
        images = np.moveaxis(images, 3, 1) if self.channels_last else images[:, None]
        return self._rows(images, pd.RangeIndex(len(images)))

    def _from_frame(self, frame: pd.DataFrame) -> PictureRows:
        names = [name for name in frame.columns if name in set(self.columns)]
        whole = (
            frame if list(frame.columns) == self.columns else frame.reindex(columns=self.columns)
        )
        cells = whole.to_numpy()
        cells = cells.astype("float64") if cells.dtype == object else cells
        rows = self._rows(cells.reshape(len(frame), *self.grid), frame.index)
        return dataclasses.replace(rows, names=names)

    def _rows(self, images: np.ndarray, index: Any) -> PictureRows:
        """Rows of pictures (n, C, H, W), in which NaN is a missing pixel."""
        images = _checked(images, self.levels)
        known = None
        if images.dtype != np.uint8:
            known = ~np.isnan(images)
            images = np.where(known, images, 0).astype("uint8")
        return PictureRows(images, known, self.columns, self.columns, index)

    def frame(self, raw: Any) -> pd.DataFrame:
        """Pictures as a frame with one column per pixel."""
        return self.rows(raw).frame

    def encode(self, raw: Any) -> Encoded:
        """Events (n, D) uint8: grey levels as codes; NaN is missing."""
        rows = self.rows(raw)
        value = torch.from_numpy(np.ascontiguousarray(rows.pixels).reshape(len(rows), -1))
        known = None if rows.known is None else torch.from_numpy(rows.known.reshape(len(rows), -1))
        nothing = torch.zeros(len(rows), dtype=torch.float64)
        unseen = torch.zeros(1, 1, dtype=torch.bool).expand(value.shape)
        return Encoded(Event(value, known), unseen, nothing, nothing.clone())

    def decode(self, value: Tensor, observed: Tensor | None = None) -> np.ndarray:
        """Pictures as arrays in the shape that was given at fit: uint8, or float64 with NaN where a
        pixel is not ``observed``."""
        values = value.detach().numpy()
        if observed is None or bool(observed.all()):
            cells = values.round().astype("uint8")
        else:
            cells = np.where(observed.numpy(), values, np.nan)
        return self._arranged(cells.reshape(len(cells), *self.grid))

    def raw(self, rows: Rows) -> np.ndarray:
        return self.images(rows)

    def images(self, raw: Any) -> np.ndarray:
        """Rows as arrays in the shape that was given at fit; NaN is a missing pixel."""
        rows = self.rows(raw)
        if rows.known is None:
            return self._arranged(rows.pixels)
        return self._arranged(np.where(rows.known, rows.pixels, np.nan))

    def _arranged(self, pixels: np.ndarray) -> np.ndarray:
        return np.moveaxis(pixels, 1, 3) if self.channels_last else pixels[:, 0]

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> PictureRows:
        old = self.rows(rows)
        new = self.rows(decoded)
        if old.known is None:
            return old
        pixels = np.where(old.known, old.pixels, new.pixels)
        return dataclasses.replace(old, pixels=pixels, known=new.known, names=old.columns)

    def to_json(self) -> JSON:
        return {
            "kind": self.kind,
            "grid": list(self.grid),
            "levels": self.levels,
            "channels_last": self.channels_last,
            "owner": self.owner,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(tuple(data["grid"]), data["levels"], data["channels_last"])
        codec.owner = data["owner"]
        return codec


def _mention_shape(images: np.ndarray) -> None:
    """Say what an array is taken for, where it might be meant otherwise: ValueError where it looks
    as much like something else as like pictures, a warning where it is not uint8."""
    if images.ndim != 3:
        return
    count, height, width = images.shape
    if width in COLOUR_CHANNELS and height != width:
        raise ValueError(
            f"X has the shape ({count}, {height}, {width}), and {width} may be pixels or channels: "
            f"give X[..., None] for pictures of {height} x {width} pixels, X[:, None] for pictures "
            f"of 1 x {height} pixels and {width} channels, or X.reshape({count}, -1) for a table."
        )
    if images.dtype.kind == "i":
        warnings.warn(
            f"X, whole numbers ({images.dtype}) of the shape {images.shape}, is taken for "
            f"{count:,} pictures of {height} x {width} grey pixels: give X.astype('uint8') if it "
            f"is, or X.reshape({count}, -1) for a table.",
            UserWarning,
            stacklevel=6,
        )


def _checked(images: np.ndarray, levels: int) -> np.ndarray:
    """The images, if their pixels are whole numbers from 0 to levels - 1 (or NaN)."""
    if images.dtype.kind not in "buif":
        raise ValueError(f"Images are arrays of whole numbers (uint8), got {images.dtype}.")
    if images.dtype == np.uint8 and (
        levels == PIXEL_LEVELS or not images.size or images.max() < levels
    ):
        return images
    known = images[~np.isnan(images)] if images.dtype.kind == "f" else images
    wrong = known[(known != np.rint(known)) | (known < 0) | (known >= levels)]
    if len(wrong):
        hint = (
            "; images between 0 and 1 are multiplied by 255 and rounded first"
            if 0 < wrong.flat[0] < 1
            else ""
        )
        raise ValueError(
            f"A pixel is {wrong.flat[0]:g}; pixels are whole numbers from 0 to {levels - 1}{hint}."
        )
    return images if len(known) < images.size else images.astype("uint8")

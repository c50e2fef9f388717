"""Small images <-> events: every pixel is an ordered variable with a fixed set of grey levels, and
has probability mass.

An array (n, H, W), (n, H, W, C) or (n, C, H, W) of whole numbers becomes rows of C H W pixels in
that order (channels, rows, columns), and a space with ``grid`` (C, H, W), so that a family for
tables can model it and a family for images can see it. Bytes have 256 levels, whatever was seen,
unless fewer are asked for: so log p is that of the discrete image, and bits per dimension are
-log2 p / (C H W). A pixel beyond the levels is one that was never seen.

Shape letters: n images, H rows, W columns, C channels, D = C H W pixels, L levels.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.image.rows import PictureRows
from conjoin.codecs.image.stacks import (
    COLOUR_CHANNELS,
    Stack,
    array_of,
    asked_of,
    is_stack,
    stack_of,
)
from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Codec, Encoded, Event, Field, Rows, Space, Variable

__all__ = ["ImageCodec"]

JSON = dict[str, Any]
PIXEL_LEVELS = 256  # levels of an 8-bit pixel
# of whole numbers that are no bytes, up to so many levels count as they are (scikit-learn's digits,
# which are floats, have 17)
MAX_CODED_LEVELS = 64
MAX_FIT_CELLS = 1 << 16  # numbers of a picture, from which on no fit is begun: 256 x 256 greys
UNSEEN_MASS = 1e-6  # probability of a pixel beyond the levels


class ImageCodec(Codec):
    """``grid`` (C, H, W) and ``levels``: how many values a pixel can take. ``channels_last``:
    whether arrays have an axis of channels; greys need none. ``said``: what the array was taken
    for, where that may be wrong."""

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
        self,
        grid: tuple[int, int, int],
        levels: int,
        channels_last: bool = False,
        said: Sequence[str] = (),
    ) -> None:
        self.grid = grid
        self.levels = levels
        self.channels_last = channels_last
        self.said = list(said)
        self.owner = "ImageCodec"

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Arrays of pictures, (n, H, W) or (n, H, W, C), rather than tables; tensors and lists of
        them too."""
        return is_stack(raw)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        asked = asked_of(options.get("types"))
        stack = stack_of(raw, asked.get("channels"))
        _mention_shape(stack.images)
        codec = cls._begun(stack, asked.get("levels"))
        return codec, codec._of_images(stack.images)

    @classmethod
    def of(cls, images: Any, levels: int | None = None) -> Self:
        """A codec for images such as these. ``levels``: of a pixel, at most 256; None for 256 of
        bytes. ValueError for what are no whole numbers from 0 to 255."""
        return cls._begun(stack_of(images), levels)

    @classmethod
    def _begun(cls, stack: Stack, asked: int | None) -> Self:
        images = stack.images
        last = images.ndim == 4
        channels = images.shape[3] if last else 1
        levels, words = _levels_of(_checked(images, asked or PIXEL_LEVELS), images.dtype, asked)
        return cls(
            (channels, images.shape[1], images.shape[2]),
            levels,
            last,
            [*stack.words, *words],
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
        four = [f"The images have four channels: {opaque}."] if self.grid[0] == 4 else []
        return [*self.said, *four]

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
    def too_large(self) -> str:
        cells = math.prod(self.grid)
        if cells < MAX_FIT_CELLS:
            return ""
        return (
            f"The pictures have {self.size_words}, {cells:,} numbers each, of which a fit on one "
            f"machine can't learn p(x) (the limit is {MAX_FIT_CELLS:,}): scale them down, as "
            "conjoin.read_images(..., size=(64, 64)) does, or take a network that others have "
            "trained, by conjoin.from_pretrained."
        )

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
        return self._of_images(self._with_channels_last(array_of(raw)))

    def _with_channels_last(self, images: np.ndarray) -> np.ndarray:
        """Pictures whose channels stand first are turned, if nothing else can be meant."""
        channels, height, width = self.grid
        first = images.shape[1:] == (channels, height, width) != (height, width, channels)
        return np.moveaxis(images, 1, 3) if self.channels_last and first else images

    def _of_images(self, images: np.ndarray) -> PictureRows:
        """Rows of pictures (n, H, W) or (n, H, W, C)."""
        channels, height, width = self.grid
        wanted = (height, width, channels) if self.channels_last else (height, width)
        # greys with or without their one channel
        if channels == 1 and images.shape[1:] in (
            (height, width),
            (height, width, 1),
        ):
            images = images.reshape(len(images), *wanted)
        if images.shape[1:] != wanted:
            raise ValueError(self._other_shape(images.shape, wanted))
        images = np.moveaxis(images, 3, 1) if self.channels_last else images[:, None]
        return self._rows(images, pd.RangeIndex(len(images)))

    def _other_shape(self, found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
        """What to do about pictures of another shape, in one sentence."""
        sizes = " x ".join(map(str, found[1:])) or "single numbers"
        text = (
            f"X has images of {sizes}, but {self.owner} is expecting images of "
            f"{' x '.join(map(str, wanted))}"
        )
        channels, height, width = self.grid
        if found in (wanted, (channels, height, width), (height, width)):
            return f"{text}: if X is one picture, give X[None]."
        if channels == 1 and found[1:3] == (height, width) and found[3:] in ((3,), (4,)):
            return (
                f"{text}: the model knows grey pictures, so turn these into grey ones first "
                "(conjoin.read_images(..., mode='grey') reads files so)."
            )
        if channels == 3 and found[1:] in ((height, width), (height, width, 1)):
            return f"{text}: of grey pictures give three equal channels, np.stack([X] * 3, -1)."
        return f"{text}."

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
        """Rows of pictures (n, C, H, W), in which NaN is a missing pixel. Pixels beyond the levels
        are kept: they were never seen."""
        images = _checked(images, PIXEL_LEVELS)
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
        if self.levels < PIXEL_LEVELS and bool((value >= self.levels).any()):
            return _beyond(value, known, self.levels)
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
            **({"said": self.said} if self.said else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        grid = tuple(data["grid"])
        codec = cls(grid, data["levels"], data["channels_last"], data.get("said", ()))
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


def _levels_of(
    images: np.ndarray, dtype: np.dtype[Any], asked: int | None
) -> tuple[int, list[str]]:
    """How many levels a pixel has: as asked, 256 of bytes, two of what is true or false. Of other
    whole numbers those up to the largest where these are few, which is said."""
    if asked is not None:
        return int(asked), []
    if dtype == np.uint8:
        return PIXEL_LEVELS, []
    top = int(np.nan_to_num(images).max(initial=1))
    if dtype.kind == "b" or top >= MAX_CODED_LEVELS:
        return (2 if dtype.kind == "b" else PIXEL_LEVELS), []
    words = (
        f"The pixels ({dtype}) go from 0 to {top}, so they are taken to have {top + 1} levels; "
        "types={'levels': 256} says otherwise, and bytes (uint8) have 256."
    )
    return top + 1, [words]


def _beyond(value: Tensor, known: Tensor | None, levels: int) -> Encoded:
    """Events of pictures of which some pixels lie beyond the levels: these were never seen. They
    count as the last level, and as improbable beside it, so that a picture stays whole and is not
    ranked among pictures that lack pixels."""
    unseen = value >= levels
    unseen = unseen if known is None else unseen & known
    log_unseen = unseen.sum(1).double() * math.log(UNSEEN_MASS)
    event = Event(value.clamp_max(levels - 1), known)
    return Encoded(event, unseen, log_unseen, torch.zeros_like(log_unseen))


def _checked(images: np.ndarray, levels: int) -> np.ndarray:
    """The images, if their pixels are whole numbers from 0 to levels - 1 (or NaN)."""
    if images.dtype.kind not in "buif":
        raise ValueError(f"Images are arrays of whole numbers (uint8), got {images.dtype}.")
    if images.dtype == np.uint8 and (
        levels == PIXEL_LEVELS or not images.size or images.max() < levels
    ):
        return images
    missing = np.isnan(images) if images.dtype.kind == "f" else np.zeros(images.shape, dtype=bool)
    wrong = ~missing & ((images != np.rint(images)) | (images < 0) | (images >= levels))
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise ValueError(_no_pixel(images, images[place], place[0], levels))
    return images if missing.any() else images.astype("uint8")


def _no_pixel(images: np.ndarray, pixel: Any, row: int, levels: int) -> str:
    """What is wrong with a pixel, and what brings all of them to bytes, in one sentence."""
    low = float(np.nanmin(images))
    high = float(np.nanmax(images))
    hint = f"; those of X go from {low:g} to {high:g}"
    if not np.isfinite([low, high]).all():
        hint = "; NaN is a missing pixel, and infinity is none"
    elif low >= 0 and high <= 1:
        hint = (
            "; images between 0 and 1 are multiplied by 255 and rounded first: "
            "np.rint(255 * X).astype('uint8')"
        )
    elif low >= -1 and high <= 1:
        hint += ": give np.rint(127.5 * (X + 1)).astype('uint8')"
    elif low >= 0 and high >= levels and levels == PIXEL_LEVELS:
        hint += f": bring them to bytes, such as np.rint(X * (255 / {high:g})).astype('uint8')"
    elif low < 0:
        hint += ": shift and scale them to bytes first, and new pictures by the same numbers"
    return (
        f"A pixel is {float(pixel):g}; pixels are whole numbers from 0 to {levels - 1}{hint} "
        f"(picture {row})."
    )

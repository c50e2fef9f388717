"""Small images <-> events: every pixel is an ordered variable with a fixed set of grey levels, and
has probability mass.

An array (n, H, W) or (n, H, W, C) of whole numbers becomes rows of C H W pixels in that order
(channels, rows, columns), and a space with ``grid`` (C, H, W), so that a family for tables can
model it and a family for images can see it. Since the levels are fixed (0..L-1, whatever was seen),
log p is that of the discrete image, and bits per dimension are -log2 p / (C H W).

Shape letters: n images, H rows, W columns, C channels, D = C H W pixels, L levels.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Encoded, Event, Space, Variable

__all__ = ["ImageCodec", "is_images"]

JSON = dict[str, Any]
FULL = 256  # levels of an 8-bit pixel
FEW = 64  # up to so many levels count as they are (scikit-learn's digits have 17)


def is_images(raw: Any) -> bool:
    """Whether ``raw`` is an array of images rather than a table."""
    return isinstance(raw, np.ndarray) and raw.ndim in (3, 4)


class ImageCodec:
    """``grid`` (C, H, W) and ``levels``: how many values a pixel can take; both are read off the
    array at hand."""

    kind = "image"
    flagged = False
    # pictures that are held out to choose by, and to calibrate by: each is asked of a network many
    # times
    most_held = 3000

    def __init__(
        self, grid: tuple[int, int, int], levels: int, channels_last: bool = False
    ) -> None:
        self.grid = grid
        self.levels = levels
        self.channels_last = channels_last
        self.bounded = True
        self.owner = "ImageCodec"

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """A codec for images such as these. ValueError for what are no whole numbers from 0 to
        255."""
        last = images.ndim == 4
        channels = images.shape[3] if last else 1
        top = int(np.nan_to_num(_checked(images, FULL)).max(initial=1))
        return cls(
            (channels, images.shape[1], images.shape[2]), top + 1 if top < FEW else FULL, last
        )

    @property
    def columns(self) -> list[str]:
        """Names of the pixels, in event order."""
        channels, height, width = self.grid
        names = [f"pixel {row},{column}" for row in range(height) for column in range(width)]
        return (
            names
            if channels == 1
            else [f"{name},{channel}" for channel in range(channels) for name in names]
        )

    @property
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

    @property
    def space(self) -> Space:
        variables = tuple(
            Variable(name, "ordered", cardinality=self.levels) for name in self.columns
        )
        return Space((len(variables),), variables, "image", self.grid)

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Nothing is learned: the levels are fixed."""
        return self

    def missing_columns(self, raw: Any) -> list[Any]:
        frame = self.frame(raw)
        return [name for name in self.columns if name not in frame.columns]

    def frame(self, raw: Any) -> pd.DataFrame:
        """Images as a frame with one column per pixel; such a frame passes through. ValueError for
        another size."""
        if isinstance(raw, pd.DataFrame):
            return raw
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
        images = _checked(images, self.levels)
        rows = np.moveaxis(images, 3, 1) if self.channels_last else images
        return pd.DataFrame(
            rows.reshape(len(rows), len(self.columns)), columns=pd.Index(self.columns)
        )

    def encode(self, raw: Any) -> Encoded:
        """Events (n, D): grey levels as codes; NaN is missing."""
        frame = self.frame(raw)
        frame = (
            frame if list(frame.columns) == self.columns else frame.reindex(columns=self.columns)
        )
        values = np.ascontiguousarray(frame.to_numpy(dtype="float64"))
        values = (
            values
            if values.flags.writeable and not np.shares_memory(values, frame.to_numpy())
            else values.copy()
        )
        known = ~np.isnan(values)
        values[~known] = 0.0
        nothing = torch.zeros(len(values), dtype=torch.float64)
        event = Event(torch.from_numpy(values), torch.from_numpy(known))
        return Encoded(
            event, torch.zeros_like(event.value, dtype=torch.bool), nothing, nothing.clone()
        )

    def decode(self, value: Tensor, observed: Tensor | None = None) -> pd.DataFrame:
        """A frame with one column per pixel."""
        values = value.detach().numpy()
        if observed is None or bool(observed.all()):
            cells = values.round().astype("uint8")
        else:
            cells = np.where(observed.numpy(), values, np.nan)
        return pd.DataFrame(cells, columns=pd.Index(self.columns))

    def images(self, frame: pd.DataFrame) -> np.ndarray:
        """The frame of pixels as an array in the shape that was given at fit."""
        rows = frame[self.columns].to_numpy().reshape(len(frame), *self.grid)
        return np.moveaxis(rows, 1, 3) if self.channels_last else rows[:, 0]

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


def _checked(images: np.ndarray, levels: int) -> np.ndarray:
    """The images, if their pixels are whole numbers from 0 to levels - 1 (or NaN)."""
    if images.dtype.kind not in "buif":
        raise ValueError(f"Images are arrays of whole numbers (uint8), got {images.dtype}.")
    if images.dtype == np.uint8 and (levels == FULL or not images.size or images.max() < levels):
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

"""What pictures are once they are read: arrays of pixels with their labels, and one picture of a
row.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conjoin.codecs.image.colours import pillow

__all__ = ["SUFFIXES", "Picture", "Pictures", "pictures_in"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


PARTS = {
    name: part
    for part, names in {
        "train": "train training",
        "val": "val valid validation",
        "test": "test testing",
    }.items()
    for name in names.split()
}


class Pictures(NamedTuple):
    """What ``read_images`` found: one label (or None for all) and one name for each picture."""

    images: np.ndarray  # uint8, (n, H, W) of greys or (n, H, W, C)
    labels: np.ndarray | None  # (n,)
    names: list[str]  # paths below the folder; key[row] of an .npz


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """``pixels`` uint8 (H, W) or (H, W, C), and the ``path`` of the file that they are of, if any.
    Its text names its content."""

    pixels: np.ndarray
    path: str = ""

    def save(self, path: str | Path) -> None:
        """Write it as a file, in the format of its suffix."""
        pillow().Image.fromarray(np.ascontiguousarray(self.pixels)).save(path)

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.pixels.shape))
        return (
            f"picture of {sides} "
            f"({hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()[:16]})"
        )

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        return hash(str(self))


def pictures_in(cells: Iterable[Any]) -> list[Picture | None]:
    """The cells of a column that are pictures; None for the others."""
    return [cell if isinstance(cell, Picture) else None for cell in cells]

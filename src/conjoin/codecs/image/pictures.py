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

__all__ = ["SUFFIXES", "Picture", "Pictures", "in_part", "pictures_in", "pixels_in", "stacked"]

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".gif",
    ".webp",
    ".pgm",
    ".ppm",
    ".pbm",
    ".pnm",
    ".npy",
    ".dcm",
    ".dicom",
)


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

    @property
    def groups(self) -> np.ndarray:
        """(n,) what each picture belongs to, such as its patient: the name of the folder between
        that of the label and the picture, label/patient/picture. ValueError where there is none.
        """
        found = [_middle(name, self.labels, row) for row, name in enumerate(self.names)]
        lone = [name for name, group in zip(self.names, found, strict=True) if not group]
        if lone:
            raise ValueError(
                f"{lone[0]} lies in no folder below that of its label, which would be its group: "
                "put pictures into label/group/picture."
            )
        return np.array(found)

    @property
    def grouped(self) -> bool:
        """Whether some pictures lie in a folder below that of their label."""
        rows = enumerate(self.names)
        return any(_middle(name, self.labels, row) for row, name in rows)


def _middle(name: str, labels: Any, row: int) -> str:
    """The folder below that of the label, where there is one."""
    folders = name.split("/")[:-1]
    if labels is None or str(labels[row]) not in folders:
        return ""
    place = folders.index(str(labels[row])) + 1
    return folders[place] if place < len(folders) else ""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """``pixels`` uint8 (H, W) or (H, W, C), and the ``path`` of the file that they are of, if any.
    ``known``: which of the pixels are, of their shape; None where all are. Its text names its
    content."""

    pixels: np.ndarray
    path: str = ""
    known: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Where all are known, nothing is said of it."""
        if self.known is not None:
            known = self.known[..., None] if self.known.ndim < self.pixels.ndim else self.known
            whole = np.broadcast_to(known, self.pixels.shape)
            object.__setattr__(self, "known", None if known.all() else whole)

    def hide(self, hidden: np.ndarray) -> "Picture":
        """The picture without what is ``hidden`` (H, W). It has no path: it is not what its file
        holds."""
        place = ~hidden if self.pixels.ndim == 2 else ~hidden[:, :, None]
        return Picture(self.pixels, known=place if self.known is None else place & self.known)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        high, wide = self.pixels.shape[:2]
        return high, wide

    def shown(self, grey: int | None = None) -> np.ndarray:
        """The pixels, those that are not known in one ``grey``; without it as they were."""
        if grey is None or self.known is None:
            return self.pixels
        return np.where(self.known, self.pixels, grey).astype(np.uint8)

    def save(self, path: str | Path) -> None:
        """Write it as a file, in the format of its suffix."""
        pillow().Image.fromarray(np.ascontiguousarray(self.pixels)).save(path)

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.pixels.shape))
        content = np.ascontiguousarray(self.pixels)
        part = ""
        if self.known is not None:
            content = np.stack([np.where(self.known, content, 0), self.known])
            part = f"{self.known.mean():.0%} known, "
        return f"picture of {sides} ({part}{hashlib.sha256(content.tobytes()).hexdigest()[:16]})"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return False
        own, others = (np.asarray(cell.known is None or cell.known) for cell in (self, other))
        return np.array_equal(own, others) and np.array_equal(self.shown(0), other.shown(0))

    def __hash__(self) -> int:
        return hash(str(self))


def stacked(pictures: Iterable[Picture | None]) -> np.ndarray:
    """uint8 (n, H, W) or (n, H, W, C) of those that there are; they must be of one size."""
    return np.stack([picture.pixels for picture in pictures if picture is not None])


def pixels_in(cell: Any) -> np.ndarray | None:
    """The pixels (H, W, C) of a cell that is a picture; None of another."""
    if not isinstance(cell, Picture):
        return None
    return cell.pixels if cell.pixels.ndim == 3 else cell.pixels[:, :, None]


def in_part(cells: Iterable[Any]) -> np.ndarray:
    """(B,) which cells are pictures of which only a part is known."""
    return np.array([isinstance(cell, Picture) and cell.known is not None for cell in cells], bool)


def pictures_in(cells: Iterable[Any]) -> list[Picture | None]:
    """The cells of a column that are pictures; None for the others."""
    return [cell if isinstance(cell, Picture) else None for cell in cells]

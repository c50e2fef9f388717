"""The rows of an array of pictures, as fits and questions hold them: bytes, from the file to the
network.

Shape letters: n pictures, H rows, W columns, C channels, D = C H W pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

__all__ = ["PictureRows", "byte_hashes"]


@dataclass(frozen=True)
class PictureRows:
    """``pixels`` uint8 (n, C, H, W); ``known`` of the same shape, None where no pixel is missing
    (a missing pixel is 0); ``columns``: the names of all D pixels; ``names``: those that are
    there."""

    pixels: np.ndarray
    known: np.ndarray | None
    columns: Sequence[Any]
    names: Sequence[Any]
    index: Any

    @property
    def frame(self) -> pd.DataFrame:
        flat = self.pixels.reshape(len(self), len(self.columns))
        if self.known is not None:
            flat = np.where(self.known.reshape(flat.shape), flat, np.nan)
        return pd.DataFrame(flat, self.index, pd.Index(self.columns))[list(self.names)]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: np.ndarray | slice) -> Self:
        known = None if self.known is None else self.known[rows]
        return type(self)(self.pixels[rows], known, self.columns, self.names, self.index[rows])

    def called(self, names: Sequence[str], what: str) -> Self:
        """The same rows, each with a name; ``what`` the names are."""
        index = pd.Index(names, name=what)
        return type(self)(self.pixels, self.known, self.columns, self.names, index)

    def hashes(self) -> np.ndarray:
        return byte_hashes(self.pixels, self.known)

    def repeat_by_chance(self) -> bool:
        return True


def byte_hashes(pixels: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """(n,) uint64 by the bytes of each picture, and by which pixels are missing where some are.

    >>> first, again, other = byte_hashes(np.array([[1, 2], [1, 2], [2, 1]], dtype="uint8"))
    >>> bool(first == again), bool(first == other)
    (True, False)
    """
    out = np.empty(len(pixels), dtype=np.uint64)
    for row, picture in enumerate(pixels):
        digest = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=8)
        if known is not None and not known[row].all():
            digest.update(np.packbits(known[row]).data)
        out[row] = int.from_bytes(digest.digest(), "little")
    return out

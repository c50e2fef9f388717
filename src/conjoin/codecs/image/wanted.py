"""How pictures are to be read from files: what a user asks for, checked.

Shape letters: H rows, W columns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjoin.codecs.image.colours import colour_of

__all__ = ["MAX_BYTES", "MAX_PIXELS", "OF_CHANNELS", "RESIZES", "Wanted", "range_of", "size_of"]

MODES = {"grey": "grey", "gray": "grey", "l": "grey", "rgb": "rgb", "rgba": "rgba"}
OF_CHANNELS = {1: "grey", 3: "rgb", 4: "rgba"}
# how a picture of other proportions gets the size that is wanted
RESIZES = ("cut", "pad", "stretch")
MAX_PIXELS = 16_000_000  # of one file
MAX_BYTES = 2_000_000_000  # of all pictures in memory

_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")
Range = tuple[float, float] | tuple[str, str]


@dataclass(frozen=True)
class Wanted:
    """How pictures are to be read; ValueError for what cannot be meant. ``range``: values, or
    percentiles such as ("1%", "99%"), that become 0 to 255 where pictures have more than 8 bits.
    ``windows``: whether the window in a DICOM file goes before the range. ``by_model``: whether
    the mode is a model's rather than the user's, so that a change of colours is news."""

    size: Any = None
    mode: str | None = None
    part: str | None = None
    background: Any = "white"
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    verbose: bool = False
    range: Any = None
    resize: str = "cut"
    skip_broken: bool = False
    windows: bool = True
    by_model: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size(self.size))
        object.__setattr__(self, "background", colour_of(self.background))
        object.__setattr__(self, "range", None if self.range is None else range_of(self.range))
        if self.mode is not None and str(self.mode).lower() not in MODES:
            raise ValueError(
                "mode must be 'grey', 'rgb', 'rgba' or None (grey if all pictures are), got "
                f"{self.mode!r}."
            )
        object.__setattr__(
            self, "mode", None if self.mode is None else MODES[str(self.mode).lower()]
        )
        if self.resize not in RESIZES:
            raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {self.resize!r}.")


def _size(size: Any) -> tuple[int, int] | None:
    """(height, width) of what a user says is the size."""
    if size is None:
        return None
    both = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(both) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in both):
        raise ValueError(f"size must be a number of pixels, or (height, width), got {size!r}.")
    return int(both[0]), int(both[1])


def size_of(text: str, what: str) -> tuple[int, int]:
    """(height, width) of a size that is typed; an error names ``what`` was typed.

    >>> size_of("28", "size"), size_of("28x32", "size")
    ((28, 28), (28, 32))
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise ValueError(
            f"{what} is a number of pixels such as 28, or HEIGHTxWIDTH such as 28x32, not {text!r}."
        )
    return int(numbers[0]), int(numbers[-1])


def range_of(asked: Any, what: str = "range") -> Range:
    """(low, high), as numbers or as percentiles, of a pair or of what is typed.

    >>> range_of((0, 4095)), range_of("1%..99%")
    ((0.0, 4095.0), ('1%', '99%'))
    """
    try:
        both = asked.split("..") if isinstance(asked, str) else list(asked)
        if len(both) == 2 and all(_PERCENT.fullmatch(str(end).strip()) for end in both):
            low, high = (share_of(str(end)) for end in both)
            if low < high <= 100:
                return str(both[0]).strip(), str(both[1]).strip()
        elif len(both) == 2 and float(both[0]) < float(both[1]) < np.inf:
            return float(both[0]), float(both[1])
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"{what} is a lower and a higher value such as 0..4095, (0, 4095) in Python, or two "
        f"percentiles such as 1%..99%, not {asked!r}."
    )


def share_of(percentile: str) -> float:
    """The number in "99.5%"."""
    return float(percentile.strip().removesuffix("%"))

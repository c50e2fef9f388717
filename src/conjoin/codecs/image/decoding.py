"""Files of pictures to arrays, by pillow: what is wanted of them, the limits, and what is said of a
broken one.

Shape letters: n pictures, H rows, W columns, C channels.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.codecs.image.colours import colour_of, on_background, pillow

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "OF_CHANNELS",
    "Wanted",
    "check_total",
    "formed",
    "pixels_of",
    "read_files",
    "size_of",
]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MODES = {"grey": "grey", "gray": "grey", "l": "grey", "rgb": "rgb", "rgba": "rgba"}
OF_CHANNELS = {1: "grey", 3: "rgb", 4: "rgba"}
PILLOW = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
MAX_PIXELS = 16_000_000  # of one file
MAX_BYTES = 2_000_000_000  # of all pictures in memory
MIN_FILES_FOR_PROGRESS = 200  # files from which a bar shows how far the reading is


@dataclass(frozen=True)
class Wanted:
    """How pictures are to be read; ValueError for what cannot be meant."""

    size: Any = None
    mode: str | None = None
    part: str | None = None
    background: Any = "white"
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    verbose: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _size(self.size))
        object.__setattr__(self, "background", colour_of(self.background))
        if self.mode is not None and str(self.mode).lower() not in MODES:
            raise ValueError(
                "mode must be 'grey', 'rgb', 'rgba' or None (grey if all pictures are), got "
                f"{self.mode!r}."
            )
        object.__setattr__(
            self, "mode", None if self.mode is None else MODES[str(self.mode).lower()]
        )


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


def read_files(files: Sequence[Path], wanted: Wanted) -> tuple[np.ndarray, list[str]]:
    """Pictures of one size, grey or coloured alike; and what is to be said of them."""
    arrays: list[np.ndarray] = []
    deep = 0
    for file in _watched(files, wanted.verbose):
        array, scaled = _read_file(file, wanted)
        deep += scaled
        check_total(len(files), array, wanted)
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            (high, wide) = array.shape[:2]
            (rows, columns) = arrays[0].shape[:2]
            raise ValueError(
                f"{file} has {high} x {wide} pixels (height x width), where {files[0]} has "
                f"{rows} x {columns}: "
                f"give all one size, such as size={rows}, to which they are cut "
                "and scaled."
            )
        arrays.append(array)
    words = (
        f"{deep:,} of {len(files):,} pictures have 16 bits a pixel and were scaled down to "
        "8: values from 0 to 65535 became 0 to 255."
    )
    return _alike(arrays), [words] if deep else []


def _watched(files: Sequence[Path], verbose: bool) -> Iterator[Path]:
    """The files, with a bar where they are many and somebody looks."""
    if not verbose or len(files) < MIN_FILES_FOR_PROGRESS or not sys.stderr.isatty():
        yield from files
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        yield from display.track(files, description="reading pictures")


def check_total(count: int, array: np.ndarray, wanted: Wanted) -> None:
    """ValueError where so many pictures like this one would not fit into memory."""
    size = count * array.nbytes
    if size > wanted.max_bytes:
        shape = " x ".join(map(str, array.shape))
        raise ValueError(
            f"{count:,} pictures of {shape} pixels take {size / 1e9:.3g} GB of memory, and the "
            f"limit is {wanted.max_bytes / 1e9:.3g} GB: "
            "read them smaller with size=..., or raise max_bytes=...."
        )


def _alike(arrays: list[np.ndarray]) -> np.ndarray:
    """One array; beside coloured pictures a grey one has three equal channels."""
    if len({array.ndim for array in arrays}) == 1:
        return np.stack(arrays)
    return np.stack(
        [array if array.ndim == 3 else np.repeat(array[:, :, None], 3, 2) for array in arrays]
    )


def _read_file(file: Path, wanted: Wanted) -> tuple[np.ndarray, bool]:
    """(H, W) or (H, W, C) uint8, and whether it was scaled down from 16 bits. ValueError names a
    broken file."""
    image = pillow().Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = image.open(file, formats=FORMATS)
    except image.DecompressionBombError:
        raise ValueError(_too_large(file, "far too many", wanted)) from None
    except Exception as error:
        raise ValueError(_broken(file, error)) from None
    with opened as picture:
        if picture.width * picture.height > wanted.max_pixels:
            raise ValueError(_too_large(file, f"{picture.height:,} x {picture.width:,}", wanted))
        try:
            return pixels_of(picture, wanted)
        except Exception as error:  # a decoder may stumble over anything in a damaged file
            raise ValueError(_broken(file, error)) from None


def _too_large(file: Path, pixels: str, wanted: Wanted) -> str:
    return (
        f"{file} has {pixels} pixels, and the limit is {wanted.max_pixels:,} a file: scale it "
        "down, or raise max_pixels=."
    )


def _broken(file: Path, error: Exception) -> str:
    words = str(error).replace(f" {str(file)!r}", " it") or type(error).__name__
    return f"{file} is broken, or no picture ({words}): replace it, or take it out of the folder."


def pixels_of(picture: Any, wanted: Wanted) -> tuple[np.ndarray, bool]:
    """The pixels of an opened picture's first frame, upright; grey where all of its channels are
    equal."""
    pil = pillow()
    deep = picture.mode.startswith("I")
    picture = pil.ImageOps.exif_transpose(picture)
    if deep:
        picture = pil.Image.fromarray(
            ((np.asarray(picture).astype(np.int64) + 128) // 257).astype(np.uint8)
        )
    clear = picture.has_transparency_data
    picture = picture.convert(
        "RGBA" if clear or wanted.mode == "rgba" else "L" if picture.mode in ("1", "L") else "RGB"
    )
    if clear and wanted.mode != "rgba":
        picture = pil.Image.fromarray(on_background(np.asarray(picture), wanted.background))
    array = formed(picture, wanted)
    if wanted.mode is not None:
        return array, deep
    grey = array.ndim == 3 and (array == array[:, :, :1]).all()
    return array[:, :, 0] if grey else array, deep


def formed(picture: Any, wanted: Wanted) -> np.ndarray:
    """The pixels of a picture, cut about its centre and scaled to the size, in the mode, as far as
    these are wanted."""
    if wanted.size is not None and picture.size != wanted.size[::-1]:
        pil = pillow()
        picture = pil.ImageOps.fit(picture, wanted.size[::-1], method=pil.Image.Resampling.LANCZOS)
    return np.array(picture if wanted.mode is None else picture.convert(PILLOW[wanted.mode]))

"""Files of pictures to arrays, by pillow, numpy and pydicom: the limits, what is done to a picture,
and what is said of a broken one.

Shape letters: n pictures, H rows, W columns, C channels.
"""

import dataclasses
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conjoin.codecs.image.colours import on_background, pillow
from conjoin.codecs.image.dicom import is_dicom, pydicom, read_dicom
from conjoin.codecs.image.tally import Tally
from conjoin.codecs.image.wanted import Wanted, share_of

__all__ = [
    "Read",
    "check_total",
    "formed",
    "pixels_of",
    "ranged",
    "read_file",
    "read_files",
    "scaled",
    "values_range",
]

# what can be done about a broken file among others
IN_FOLDERS = (
    ": replace it, take it out of the folder, or leave out such files with skip_broken=True."
)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
PILLOW = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
MIN_FILES_FOR_PROGRESS = 200  # files from which a bar shows how far the reading is
MAX_SAMPLED_VALUES = 10_000  # of a picture, that percentiles are taken of
# in pillow's word for how a file stores its pixels: 16 bits for each channel. Of portable maps that
# word is the largest value.
DEEP_RAW = ";16"


class Read(NamedTuple):
    """Pictures of one size, grey or coloured alike; which of the files they are of; what is to be
    said; and the values that become 0 to 255, where some have more than 8 bits."""

    images: np.ndarray
    kept: list[int]
    words: list[str]
    range: tuple[float, float] | None


class _Opened(NamedTuple):
    """A picture of pillow, or the values (H, W) of one of more than 8 bits; ``window``: of these,
    what is shown by the file's own word; ``negative``: whether low values are white."""

    picture: Any = None
    values: Any = None
    window: tuple[float, float] | None = None
    negative: bool = False


def read_files(files: Sequence[Path], wanted: Wanted) -> Read:
    """The pictures, in their order. ValueError names a file that is broken, unless these are to be
    skipped."""
    tally = Tally()
    wanted = ranged(files, wanted)
    arrays: list[np.ndarray] = []
    kept: list[int] = []
    for place, file in enumerate(_watched(files, wanted.verbose)):
        array = _read_or_skip(file, wanted, tally)
        if array is None:
            continue
        check_total(len(files), array, wanted)
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise ValueError(_other_size(file, array, files[kept[0]], arrays[0]))
        arrays.append(array)
        kept.append(place)
    if not arrays:
        raise ValueError(f"Every file is broken, such as {tally.broken[0]}.")
    return Read(_alike(arrays), kept, tally.words(wanted), wanted.range)


def _read_or_skip(file: Path, wanted: Wanted, tally: Tally) -> np.ndarray | None:
    try:
        return read_file(file, wanted, tally)
    except Broken:
        if not wanted.skip_broken:
            raise
        tally.broken.append(file.name)
        return None


def _other_size(file: Path, array: np.ndarray, first: Path, other: np.ndarray) -> str:
    (high, wide) = array.shape[:2]
    (rows, columns) = other.shape[:2]
    return (
        f"{file} has {high} x {wide} pixels (height x width), where {first} has {rows} x {columns}:"
        f" give all one size, such as size={rows}, to which they are cut and scaled."
    )


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


# --------------------------------------------------------------------------------- more than 8 bits


def ranged(files: Sequence[Path], wanted: Wanted) -> Wanted:
    """How to read, with its range in numbers: where some of the files have more than 8 bits and
    none was given, from 0 to the largest number of as many bits as their largest value has; where
    percentiles were asked for, those of all pictures together."""
    given = wanted.range
    if given is not None and not isinstance(given[0], str):
        return wanted
    found = [each for file in files if (each := _deep_values(file, wanted)) is not None]
    if not found:
        return dataclasses.replace(wanted, range=None)
    return dataclasses.replace(wanted, range=values_range(np.concatenate(found), given))


def values_range(values: np.ndarray, asked: tuple[str, str] | None) -> tuple[float, float]:
    """What of the values becomes 0 to 255."""
    low = float(values.min())
    high = float(values.max())
    if asked is not None:
        low, high = (float(np.percentile(values, share_of(each))) for each in asked)
    elif low >= 0 and high == np.rint(high):
        low = 0.0
        high = float(2 ** max(8, int(high).bit_length()) - 1)
    return (low, high) if low < high else (low, low + 1)


def _deep_values(file: Path, wanted: Wanted) -> np.ndarray | None:
    """Some of a picture's values, the least and the largest among them; None where it has 8 bits,
    a window of its own, or is broken."""
    try:
        found = _opened(file, wanted, only_deep=True)
    except Broken:
        return None  # said when it is read
    values = found.values
    if values is None or not values.size or found.window is not None:
        return None
    flat = np.asarray(values, dtype=np.float64).ravel()
    step = -(-flat.size // MAX_SAMPLED_VALUES)
    return np.concatenate([flat[::step], [flat.min(), flat.max()]])


def scaled(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """The values as bytes: from the lower of the ends, 0, to the higher, 255."""
    low, high = ends
    share = (np.asarray(values, dtype=np.float64) - low) * (255 / (high - low))
    out: np.ndarray = np.rint(share.clip(0, 255)).astype(np.uint8)
    return out


# ----------------------------------------------------------------------------------------- one file


class Broken(ValueError):
    """A file that is broken, or no picture that can be read."""


def read_file(file: Path, wanted: Wanted, tally: Tally) -> np.ndarray:
    """(H, W) or (H, W, C) uint8. ``wanted`` has its range in numbers. ``Broken`` names the file."""
    found = _opened(file, wanted)
    try:
        picture = found.picture
        if picture is None:
            picture = pillow().Image.fromarray(_in_bytes(found, wanted, tally))
        with picture:
            pixels = pixels_of(picture, wanted, tally)
        tally.shallow += found.picture is not None
        tally.files += 1
        return pixels
    except Exception as error:  # a decoder may stumble over anything in a damaged file
        raise Broken(_broken(file, error)) from None


def _in_bytes(found: _Opened, wanted: Wanted, tally: Tally) -> np.ndarray:
    """A picture of more than 8 bits as bytes."""
    values = found.values
    if found.window is not None:
        tally.windows += 1
        out = scaled(values, found.window)
    else:
        ends = wanted.range or values_range(values, None)
        tally.deep += 1
        tally.top = max(tally.top, float(values.max()))
        tally.clipped += bool(values.min() < ends[0] or values.max() > ends[1])
        out = scaled(values, ends)
    return 255 - out if found.negative else out


def _opened(file: Path, wanted: Wanted, only_deep: bool = False) -> _Opened:
    """The picture in a file. ``only_deep``: one of 8 bits need not be unpacked."""
    dicom = is_dicom(file)
    if dicom:
        pydicom()  # what is missing here is no fault of the file
    try:
        if dicom:
            return _of_dicom(file, wanted)
        if file.suffix.lower() == ".npy":
            return _of_array(file, wanted)
    except Exception as error:
        raise Broken(_broken(file, error)) from None
    picture = _of_pillow(file, wanted)
    if picture.mode[0] not in "IF":
        if only_deep:
            picture.close()
        return _Opened(picture)
    try:
        with picture:
            return _Opened(values=np.asarray(pillow().ImageOps.exif_transpose(picture)))
    except Exception as error:
        raise Broken(_broken(file, error)) from None


def _of_pillow(file: Path, wanted: Wanted) -> Any:
    image = pillow().Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = image.open(file, formats=FORMATS)
    except image.DecompressionBombError:
        raise ValueError(_too_large(file, "far too many", wanted)) from None
    except Exception as error:
        raise Broken(_broken(file, error)) from None
    if opened.width * opened.height > wanted.max_pixels:
        opened.close()
        raise ValueError(_too_large(file, f"{opened.height:,} x {opened.width:,}", wanted))
    return opened


def _of_dicom(file: Path, wanted: Wanted) -> _Opened:
    scan = read_dicom(file, wanted.max_pixels)
    if scan.values.ndim == 3:
        return _Opened(pillow().Image.fromarray(scan.values))
    window = scan.window if wanted.windows else None
    return _Opened(values=scan.values, window=window, negative=scan.negative)


def _of_array(file: Path, wanted: Wanted) -> _Opened:
    """The picture in a .npy, (H, W) or (H, W, C) of whole numbers."""
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)  # nothing is unpacked yet
    channels = mapped.shape[2:]
    if mapped.ndim not in (2, 3) or 0 in mapped.shape or channels not in ((), (1,), (3,), (4,)):
        raise ValueError(
            f"an array of the shape {mapped.shape}, where a picture is (height, width) or (height, "
            "width, channels) of 1, 3 or 4 channels"
        )
    if mapped.shape[0] * mapped.shape[1] > wanted.max_pixels:
        raise ValueError(f"an array of more than {wanted.max_pixels:,} pixels, which is the limit")
    array = np.array(mapped[..., 0] if channels == (1,) else mapped)
    if array.dtype.kind in "bui" and array.min() >= 0 and array.max() <= 255:
        return _Opened(pillow().Image.fromarray(array.astype(np.uint8)))
    if array.ndim == 2 and array.dtype.kind in "ui":
        return _Opened(values=array)
    raise ValueError(f"an array of {array.dtype}, where pixels are whole numbers from 0 to 255")


def _too_large(file: Path, pixels: str, wanted: Wanted) -> str:
    return (
        f"{file} has {pixels} pixels, and the limit is {wanted.max_pixels:,} a file: scale it "
        "down, or raise max_pixels=."
    )


def _broken(file: Path, error: Exception) -> str:
    words = str(error).rstrip(".").replace(f" {str(file)!r}", " it") or type(error).__name__
    return f"{file} is broken, or no picture ({words}){IN_FOLDERS}"


def pixels_of(picture: Any, wanted: Wanted, tally: Tally) -> np.ndarray:
    """The pixels of an opened picture's first frame, upright; grey where all of its channels are
    equal."""
    pil = pillow()
    tally.films += getattr(picture, "n_frames", 1) > 1
    tally.deep_colours += _lost_bits(picture)
    picture = pil.ImageOps.exif_transpose(picture)
    clear = picture.has_transparency_data
    picture = picture.convert(
        "RGBA" if clear or wanted.mode == "rgba" else "L" if picture.mode in ("1", "L") else "RGB"
    )
    if clear and wanted.mode != "rgba":
        pixels = np.asarray(picture)
        tally.clear += int(pixels[..., 3].min()) < 255
        picture = pil.Image.fromarray(on_background(pixels, wanted.background))
    if wanted.mode == "grey" and wanted.by_model and picture.mode != "L":
        pixels = np.asarray(picture)
        tally.coloured += bool((pixels[..., :3] != pixels[..., :1]).any())
    array = formed(picture, wanted, tally)
    if wanted.mode is not None:
        return array
    grey = array.ndim == 3 and (array == array[:, :, :1]).all()
    return array[:, :, 0] if grey else array


def _lost_bits(picture: Any) -> bool:
    """Whether the file has more than the 8 bits that pillow gives of each channel."""
    stored = [part for tile in getattr(picture, "tile", ()) for part in np.atleast_1d(tile[3])]
    largest = [int(part) for part in map(str, stored) if part.isdecimal()]
    return any(DEEP_RAW in str(part) for part in stored) or max(largest, default=0) > 255


def formed(picture: Any, wanted: Wanted, tally: Tally) -> np.ndarray:
    """The pixels of a picture in the size and in the mode, as far as these are wanted: cut about
    its centre, padded or stretched, and scaled."""
    if wanted.size is not None and picture.size != wanted.size[::-1]:
        picture = _resized(picture, wanted, tally)
    return np.array(picture if wanted.mode is None else picture.convert(PILLOW[wanted.mode]))


def _resized(picture: Any, wanted: Wanted, tally: Tally) -> Any:
    pil = pillow()
    high, wide = wanted.size
    method = pil.Image.Resampling.LANCZOS
    if wanted.resize == "stretch":
        return picture.resize((wide, high), method)
    if wanted.resize == "pad":
        colour = wanted.background if picture.mode != "L" else _grey(wanted.background)
        return pil.ImageOps.pad(picture, (wide, high), method=method, color=colour)
    scale = max(wide / picture.width, high / picture.height)
    lost = 1 - (wide * high) / (scale * picture.width * scale * picture.height)
    if round(lost * max(picture.size), 6) >= 1:  # at least a line of pixels
        tally.cut += 1
        tally.most_cut = max(tally.most_cut, lost)
    return pil.ImageOps.fit(picture, (wide, high), method=method)


def _grey(colour: tuple[int, int, int]) -> int:
    """As pillow turns colours into grey (ITU-R 601-2)."""
    red, green, blue = colour
    return (299 * red + 587 * green + 114 * blue) // 1000

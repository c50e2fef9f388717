"""Pictures from disk as arrays of 8-bit pixels: one file, a folder whose sub-folders are labels, or an .npz of arrays.

What is read is exact: no pixel is changed unless a size is asked for, a background shows through, or a file has 16 bits a
pixel (which is said). The order is that of the sorted paths. Files are read by pillow, of the extra ``conjoin[image]``.

Shape letters: n pictures, H rows, W columns, C channels (3: red, green, blue; 4: and opacity).
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "SUFFIXES",
    "Pictures",
    "Wanted",
    "colour_of",
    "is_pictures",
    "on_background",
    "parts_of",
    "pillow",
    "read_images",
    "read_pictures",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
OTHERS = (".tif", ".tiff", ".heic", ".avif", ".jp2", ".svg", ".dcm")  # pictures too, which are not read
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MODES = {"grey": "grey", "gray": "grey", "l": "grey", "rgb": "rgb", "rgba": "rgba"}
PARTS = {
    name: part
    for part, names in {"train": "train training", "val": "val valid validation", "test": "test testing"}.items()
    for name in names.split()
}
MAX_PIXELS = 16_000_000  # of one file
MAX_BYTES = 2_000_000_000  # of all pictures in memory
MANY = 200  # files from which a bar shows how far the reading is
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}


class Pictures(NamedTuple):
    """What ``read_images`` found: one label (or None for all) and one name for each picture."""

    images: np.ndarray  # uint8, (n, H, W) of greys or (n, H, W, C)
    labels: np.ndarray | None  # (n,)
    names: list[str]  # paths below the folder; key[row] of an .npz


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
            raise ValueError(f"mode must be 'grey', 'rgb', 'rgba' or None (grey if all pictures are), got {self.mode!r}.")
        object.__setattr__(self, "mode", None if self.mode is None else MODES[str(self.mode).lower()])


def read_images(
    path: str | Path,
    size: Any = None,
    mode: str | None = None,
    part: str | None = None,
    *,
    background: Any = "white",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    verbose: bool = True,
) -> Pictures:
    """(images, labels, names) of a picture, a folder of pictures (its sub-folders are the labels) or an .npz.

    ``images`` is uint8, (n, H, W) if every picture is grey, else (n, H, W, 3). ``size``: pixels, (height, width) or one number for
    both, to which pictures are cut about their centre and scaled; without it all must have one size. ``mode``: 'grey', 'rgb', or
    'rgba', which keeps the opacity; else transparent pictures are laid on the colour ``background``, a name, '#rrggbb' or three
    numbers. ``part``: 'train', 'val' or 'test' of an .npz (``train_images`` or ``x_train``, ...) or of a folder that is split so.
    ``max_pixels`` of one file and ``max_bytes`` of all pixels guard against what memory cannot hold. ``verbose``: a bar, where
    files are many and the screen is a terminal.
    """
    found, notices = read_pictures(path, Wanted(size, mode, part, background, max_pixels, max_bytes, verbose))
    for text in notices:
        warnings.warn(text, UserWarning, stacklevel=2)
    return found


def read_pictures(path: str | Path, wanted: Wanted) -> tuple[Pictures, list[str]]:
    """As ``read_images``, with what is to be said of the reading."""
    place = Path(path)
    if not place.exists():
        raise ValueError(f"{place} does not exist; pictures are read from a folder, a file ({', '.join(SUFFIXES)}) or an .npz.")
    if place.suffix.lower() == ".npz":
        from conjoin.codecs.packed import read_packed

        return read_packed(place, wanted)
    if place.is_dir():
        return _read_folder(place, wanted)
    if place.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{place} is no picture that can be read; pictures are {', '.join(SUFFIXES)}, or arrays in an .npz.")
    if wanted.part is not None:
        raise ValueError(f"{place} is one picture; part={wanted.part!r} is of a folder or an .npz.")
    images, notices = _read_files([place], wanted)
    return Pictures(images, None, [place.name]), notices


def is_pictures(path: str | Path) -> bool:
    """Whether a path leads to pictures rather than to a table: a folder, an .npz, or a file with the suffix of a picture."""
    return Path(path).suffix.lower() in (".npz", *SUFFIXES) or Path(path).is_dir()


def _size(size: Any) -> tuple[int, int] | None:
    """(height, width) of what a user says is the size."""
    if size is None:
        return None
    both = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(both) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in both):
        raise ValueError(f"size must be a number of pixels, or (height, width), got {size!r}.")
    return int(both[0]), int(both[1])


# ---------------------------------------------------------------------------------------------------- colours


def colour_of(background: Any) -> tuple[int, int, int]:
    """(red, green, blue) of a colour's name, '#rrggbb' or three numbers from 0 to 255.

    >>> colour_of("white"), colour_of((0, 128, 255))
    ((255, 255, 255), (0, 128, 255))
    """
    if isinstance(background, str) and background in COLOURS:
        return COLOURS[background]
    try:
        rgb = pillow().ImageColor.getrgb(background) if isinstance(background, str) else tuple(map(int, background))
    except (ValueError, TypeError):
        rgb = ()
    if len(rgb) != 3 or not all(0 <= n <= 255 for n in rgb):
        raise ValueError(f"background must be a colour such as 'white', '#ff8000' or (255, 128, 0), got {background!r}.")
    return rgb[0], rgb[1], rgb[2]


def on_background(images: np.ndarray, background: Any = "white") -> np.ndarray:
    """Pictures with opacity (..., 4), uint8, as they look on a colour: (..., 3), uint8.

    >>> on_background(np.array([0, 0, 0, 0], dtype="uint8")).tolist(), on_background(np.array([9, 8, 7, 255], dtype="uint8")).tolist()
    ([255, 255, 255], [9, 8, 7])
    """
    if images.shape[-1] != 4 or images.dtype != np.uint8:
        raise ValueError(f"Pictures with opacity are uint8 arrays (..., 4), got {images.dtype} {images.shape}.")
    colour = np.array(colour_of(background), dtype=np.uint16)
    opacity = images[..., 3:].astype(np.uint16)
    return ((images[..., :3] * opacity + colour * (255 - opacity) + 127) // 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------- folders


def _read_folder(path: Path, wanted: Wanted) -> tuple[Pictures, list[str]]:
    home = _home(path, wanted.part)
    mine, groups = _pictures_in(home, deep=False), {sub.name: _pictures_in(sub) for sub in _folders(home)}
    groups = {name: files for name, files in groups.items() if files}
    if mine and groups:
        first, other = mine[0].name, next(iter(groups))
        raise ValueError(f"{home} holds {first!r} beside the sub-folder {other!r}: put each picture in the sub-folder of its label.")
    if not mine and not groups:
        raise ValueError(f"{home} holds no pictures; read are {', '.join(SUFFIXES)}, in it or in sub-folders that are their labels.")
    files = mine or [file for each in groups.values() for file in each]
    labels = np.array([name for name, each in groups.items() for _ in each]) if groups else None
    images, notices = _read_files(files, wanted)
    return Pictures(images, labels, [file.relative_to(path).as_posix() for file in files]), [*notices, *_left_out(home)]


def parts_of(path: str | Path) -> dict[str, Any]:
    """{'train', 'val', 'test': where it lies} of a folder or an .npz that is split so; nothing of any other."""
    place = Path(path)
    if place.suffix.lower() == ".npz":
        from conjoin.codecs.packed import parts_in

        return parts_in(place) if place.is_file() else {}
    folders = _folders(place) if place.is_dir() else []
    parts = {PARTS[sub.name.lower()]: sub for sub in folders if sub.name.lower() in PARTS}
    return parts if "train" in parts and len(parts) == len(folders) else {}


def _home(path: Path, part: str | None) -> Path:
    """The folder itself, or the one of its sub-folders that is the part."""
    parts = parts_of(path)
    if part is None:
        if parts:
            raise ValueError(f"{path} is split into parts: say part= (--part) {' or '.join(parts)}.")
        return path
    found = parts.get(PARTS.get(part.lower(), ""))
    if found is None:
        raise ValueError(f"{path} has no part {part!r}; {'its parts are ' + ', '.join(parts) if parts else 'it is not split into parts'}.")
    return Path(found)


def _folders(path: Path) -> list[Path]:
    return sorted(sub for sub in path.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__")))


def _pictures_in(folder: Path, deep: bool = True) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file())


def _left_out(folder: Path) -> list[str]:
    others = sorted(file.name for file in folder.rglob("*") if file.suffix.lower() in OTHERS)
    several = f"{others[0]} and {len(others) - 1:,} more were" if len(others) > 1 else f"{others[0]} was" if others else ""
    return [f"{several} left out: pictures that are read are {', '.join(SUFFIXES)}."] if others else []


# ---------------------------------------------------------------------------------------------------- files


def pillow() -> Any:
    """The modules of pillow; ValueError says how to install it."""
    try:
        import PIL.Image
        import PIL.ImageColor
        import PIL.ImageOps
    except ImportError:
        raise ValueError('Pictures need pillow: pip install "conjoin[image]".') from None
    return PIL


def _read_files(files: Sequence[Path], wanted: Wanted) -> tuple[np.ndarray, list[str]]:
    """Pictures of one size, grey or coloured alike; and what is to be said of them."""
    arrays: list[np.ndarray] = []
    deep = 0
    for file in _watched(files, wanted.verbose):
        array, scaled = _read_file(file, wanted)
        deep += scaled
        _check_total(len(files), array, wanted)
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            (high, wide), (rows, columns) = array.shape[:2], arrays[0].shape[:2]
            raise ValueError(
                f"{file} has {high} x {wide} pixels (height x width), where {files[0]} has {rows} x {columns}: "
                f"give all one size, such as size={rows} (--size {rows}), to which they are cut and scaled."
            )
        arrays.append(array)
    words = f"{deep:,} of {len(files):,} pictures have 16 bits a pixel and were scaled down to 8: values from 0 to 65535 became 0 to 255."
    return _alike(arrays), [words] if deep else []


def _watched(files: Sequence[Path], verbose: bool) -> Iterator[Path]:
    """The files, with a bar where they are many and somebody looks."""
    if not verbose or len(files) < MANY or not sys.stderr.isatty():
        yield from files
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        yield from display.track(files, description="reading pictures")


def _check_total(count: int, array: np.ndarray, wanted: Wanted) -> None:
    size = count * array.nbytes
    if size > wanted.max_bytes:
        shape = " x ".join(map(str, array.shape))
        raise ValueError(
            f"{count:,} pictures of {shape} pixels take {size / 1e9:.3g} GB of memory, and the limit is {wanted.max_bytes / 1e9:.3g} GB: "
            "read them smaller with size= (--size), or raise max_bytes= (--max-bytes)."
        )


def _alike(arrays: list[np.ndarray]) -> np.ndarray:
    """One array; beside coloured pictures a grey one has three equal channels."""
    if len({array.ndim for array in arrays}) == 1:
        return np.stack(arrays)
    return np.stack([array if array.ndim == 3 else np.repeat(array[:, :, None], 3, 2) for array in arrays])


def _read_file(file: Path, wanted: Wanted) -> tuple[np.ndarray, bool]:
    """(H, W) or (H, W, C) uint8, and whether it was scaled down from 16 bits. ValueError names a broken file."""
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
    return f"{file} has {pixels} pixels, and the limit is {wanted.max_pixels:,} a file: scale it down, or raise max_pixels=."


def _broken(file: Path, error: Exception) -> str:
    words = str(error).replace(f" {str(file)!r}", " it") or type(error).__name__
    return f"{file} is broken, or no picture ({words}): replace it, or take it out of the folder."


def pixels_of(picture: Any, wanted: Wanted) -> tuple[np.ndarray, bool]:
    """The pixels of an opened picture's first frame, upright; grey where all of its channels are equal."""
    pil, deep = pillow(), picture.mode.startswith("I")
    picture = pil.ImageOps.exif_transpose(picture)
    if deep:
        picture = pil.Image.fromarray(((np.asarray(picture).astype(np.int64) + 128) // 257).astype(np.uint8))
    clear = picture.has_transparency_data
    picture = picture.convert("RGBA" if clear or wanted.mode == "rgba" else "L" if picture.mode in ("1", "L") else "RGB")
    if clear and wanted.mode != "rgba":
        picture = pil.Image.fromarray(on_background(np.asarray(picture), wanted.background))
    if wanted.size is not None and picture.size != wanted.size[::-1]:
        picture = pil.ImageOps.fit(picture, wanted.size[::-1], method=pil.Image.Resampling.LANCZOS)
    if wanted.mode is not None:
        return np.array(picture.convert({"grey": "L", "rgb": "RGB", "rgba": "RGBA"}[wanted.mode])), deep
    array = np.array(picture)
    grey = array.ndim == 3 and (array == array[:, :, :1]).all()
    return array[:, :, 0] if grey else array, deep

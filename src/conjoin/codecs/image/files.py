"""Pictures from disk as arrays of 8-bit pixels: one file, a folder whose sub-folders are labels, or
an .npz of arrays.

What is read is exact: no pixel is changed unless a size is asked for, a background shows through,
or a file has 16 bits a pixel (which is said). The order is that of the sorted paths. Files are read
by pillow, of the extra ``conjoin[image]``.

Shape letters: n pictures, H rows, W columns, C channels (3: red, green, blue; 4: and opacity).
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.codecs.image.decoding import MAX_BYTES, MAX_PIXELS, Wanted, read_files
from conjoin.codecs.image.packed import parts_in, read_packed
from conjoin.codecs.image.pictures import PARTS, SUFFIXES, Pictures

__all__ = ["is_pictures", "parts_of", "read_images", "read_pictures"]

# pictures too, which are not read
OTHERS = (
    ".tif",
    ".tiff",
    ".heic",
    ".avif",
    ".jp2",
    ".svg",
    ".dcm",
)


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
    """Pictures from a file, a folder or an .npz.

    Parameters
    ----------
    path : str or Path
        One picture, a folder of pictures (the names of its sub-folders are the labels), or an .npz
        of
        arrays.
    size : int or (int, int), optional
        Pixels, of both sides or (height, width), to which pictures are cut about their centre and
        scaled. Without it all must have one size.
    mode : {"grey", "rgb", "rgba"}, optional
        Channels; "rgba" keeps the opacity. Without it: grey if every picture is, else "rgb".
    part : {"train", "val", "test"}, optional
        Part of an .npz (``train_images`` or ``x_train``, ...) or of a folder that is split so.
    background : str or (int, int, int), default "white"
        Colour beneath transparent pictures: a name, '#rrggbb' or three numbers from 0 to 255.
    max_pixels : int
        Pixels of one file at most, against what memory can't hold.
    max_bytes : int
        Bytes of all pixels at most, likewise.
    verbose : bool, default True
        Whether to show a bar, where files are many and the screen is a terminal.

    Returns
    -------
    Pictures
        (images, labels, names): uint8 (n, H, W) if every picture is grey, else (n, H, W, C); the
        labels (n,) or None; the names of the files.

    Raises
    ------
    ValueError
        If nothing can be read there, sizes differ, or a limit is passed; it names the file.

    Warns
    -----
    UserWarning
        What was done to the pictures, or left out.
    """
    found, notices = read_pictures(
        path, Wanted(size, mode, part, background, max_pixels, max_bytes, verbose)
    )
    for text in notices:
        warnings.warn(text, UserWarning, stacklevel=2)
    return found


def read_pictures(path: str | Path, wanted: Wanted) -> tuple[Pictures, list[str]]:
    """As ``read_images``, with what is to be said of the reading."""
    place = Path(path)
    if not place.exists():
        raise ValueError(
            f"{place} does not exist; pictures are read from a folder, a file "
            f"({', '.join(SUFFIXES)}) or an .npz."
        )
    if not place.is_dir() and not place.is_file():
        raise ValueError(
            f"{place} is a pipe or a device; pictures are read from a folder or a file."
        )
    if place.suffix.lower() == ".npz":
        return read_packed(place, wanted)
    if place.is_dir():
        return _read_folder(place, wanted)
    if place.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{place} is no picture that can be read; pictures are {', '.join(SUFFIXES)}, or "
            "arrays in an .npz."
        )
    if wanted.part is not None:
        raise ValueError(f"{place} is one picture; part={wanted.part!r} is of a folder or an .npz.")
    images, notices = read_files([place], wanted)
    return Pictures(images, None, [place.name]), notices


def is_pictures(path: str | Path) -> bool:
    """Whether a path leads to pictures rather than to a table: a folder, an .npz, or a file with
    the suffix of a picture."""
    return Path(path).suffix.lower() in (".npz", *SUFFIXES) or Path(path).is_dir()


# ------------------------------------------------------------------------------------------ folders


def _read_folder(path: Path, wanted: Wanted) -> tuple[Pictures, list[str]]:
    home = _home(path, wanted.part)
    mine = _pictures_in(home, deep=False)
    groups = {sub.name: _pictures_in(sub) for sub in _folders(home)}
    groups = {name: files for name, files in groups.items() if files}
    if mine and groups:
        first = mine[0].name
        other = next(iter(groups))
        raise ValueError(
            f"{home} holds {first!r} beside the sub-folder {other!r}: put each picture in the "
            "sub-folder of its label."
        )
    if not mine and not groups:
        raise ValueError(
            f"{home} holds no pictures; read are {', '.join(SUFFIXES)}, in it or in sub-folders "
            "that are their labels."
        )
    files = mine or [file for each in groups.values() for file in each]
    labels = np.array([name for name, each in groups.items() for _ in each]) if groups else None
    images, notices = read_files(files, wanted)
    return Pictures(images, labels, [file.relative_to(path).as_posix() for file in files]), [
        *notices,
        *_left_out(home),
    ]


def parts_of(path: str | Path) -> dict[str, Any]:
    """{'train', 'val', 'test': where it lies} of a folder or an .npz that is split so; nothing of
    any other."""
    place = Path(path)
    if place.suffix.lower() == ".npz":
        return parts_in(place) if place.is_file() else {}
    folders = _folders(place) if place.is_dir() else []
    parts = {PARTS[sub.name.lower()]: sub for sub in folders if sub.name.lower() in PARTS}
    return parts if "train" in parts and len(parts) == len(folders) else {}


def _home(path: Path, part: str | None) -> Path:
    """The folder itself, or the one of its sub-folders that is the part."""
    parts = parts_of(path)
    if part is None:
        if parts:
            raise ValueError(
                f"{path} is split into parts: say which with part=..., {' or '.join(parts)}."
            )
        return path
    found = parts.get(PARTS.get(part.lower(), ""))
    if found is None:
        raise ValueError(
            f"{path} has no part {part!r}; "
            f"{'its parts are ' + ', '.join(parts) if parts else 'it is not split into parts'}."
        )
    return Path(found)


def _folders(path: Path) -> list[Path]:
    return sorted(
        sub for sub in path.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__"))
    )


def _pictures_in(folder: Path, deep: bool = True) -> list[Path]:
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        file
        for file in found
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _left_out(folder: Path) -> list[str]:
    others = sorted(file.name for file in folder.rglob("*") if file.suffix.lower() in OTHERS)
    several = (
        f"{others[0]} and {len(others) - 1:,} more were"
        if len(others) > 1
        else f"{others[0]} was"
        if others
        else ""
    )
    return (
        [f"{several} left out: pictures that are read are {', '.join(SUFFIXES)}."] if others else []
    )

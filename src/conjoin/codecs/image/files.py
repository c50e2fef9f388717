"""Pictures from disk as arrays of 8-bit pixels: one file, a folder whose sub-folders are labels, or
an .npz of arrays.

What is read is exact: no pixel is changed unless a size is asked for, a background shows through,
or a file has more than 8 bits a pixel; what is changed is said. The order is that of the sorted
paths. Files are read by pillow, of the extra ``conjoin[image]``, and DICOM by pydicom, of
``conjoin[dicom]``.

Shape letters: n pictures, H rows, W columns, C channels (3: red, green, blue; 4: and opacity).
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conjoin.codecs.image.decoding import read_files
from conjoin.codecs.image.dicom import is_dicom
from conjoin.codecs.image.listing import Listing, folders_of, listed
from conjoin.codecs.image.packed import parts_in, read_array, read_packed
from conjoin.codecs.image.pictures import PARTS, SUFFIXES, Pictures
from conjoin.codecs.image.wanted import MAX_BYTES, MAX_PIXELS, Wanted

__all__ = ["Found", "is_pictures", "parts_of", "read_images", "read_pictures"]


class Found(NamedTuple):
    """Pictures; what is to be said of the reading; and the values that became 0 to 255, where some
    had more than 8 bits."""

    pictures: Pictures
    words: list[str]
    range: tuple[float, float] | None = None


def read_images(
    path: str | Path,
    size: Any = None,
    mode: str | None = None,
    part: str | None = None,
    *,
    background: Any = "white",
    range: Any = None,
    resize: str = "cut",
    skip_broken: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    verbose: bool = True,
) -> Pictures:
    """Pictures from a file, a folder, an .npz or an .npy.

    Parameters
    ----------
    path : str or Path
        One picture, a folder of pictures (the names of its sub-folders are the labels), or an .npz
        or .npy of arrays.
    size : int or (int, int), optional
        Pixels, of both sides or (height, width), to which pictures are cut about their centre and
        scaled. Without it all must have one size.
    mode : {"grey", "rgb", "rgba"}, optional
        Channels; "rgba" keeps the opacity. Without it: grey if every picture is, else "rgb".
    part : {"train", "val", "test"}, optional
        Part of an .npz (``train_images`` or ``x_train``, ...) or of a folder that is split so.
    background : str or (int, int, int), default "white"
        Colour beneath transparent pictures: a name, '#rrggbb' or three numbers from 0 to 255.
    range : (float, float) or (str, str), optional
        Values that become 0 to 255 where pictures have more than 8 bits, or percentiles of all
        values such as ("1%", "99%"). Without it: from 0 to the largest number of as many bits as
        the largest value has, so 0 to 4095 of 12 bits; of DICOM the window in the file.
    resize : {"cut", "pad", "stretch"}, default "cut"
        What ``size`` does to pictures of other proportions: they are cut about their centre, padded
        with the background, or stretched.
    skip_broken : bool, default False
        Whether files that are broken are left out, rather than an error.
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
        labels (n,) or None; the names of the files. ``groups`` are the folders between labels and
        pictures.

    Raises
    ------
    ValueError
        If nothing can be read there, sizes differ, or a limit is passed; it names the file.

    Warns
    -----
    UserWarning
        What was done to the pictures, or left out.
    """
    wanted = Wanted(
        size,
        mode,
        part,
        background,
        max_pixels,
        max_bytes,
        verbose,
        range=range,
        resize=resize,
        skip_broken=skip_broken,
        windows=range is None,
    )
    found = read_pictures(path, wanted)
    for text in found.words:
        warnings.warn(text, UserWarning, stacklevel=2)
    return found.pictures


def read_pictures(path: str | Path, wanted: Wanted) -> Found:
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
        return Found(*read_packed(place, wanted))
    if place.is_dir():
        return _read_folder(place, wanted)
    if place.suffix.lower() not in SUFFIXES and not is_dicom(place):
        raise ValueError(
            f"{place} is no picture that can be read; pictures are {', '.join(SUFFIXES)}, or "
            "arrays in an .npz."
        )
    if wanted.part is not None:
        raise ValueError(f"{place} is one picture; part={wanted.part!r} is of a folder or an .npz.")
    if place.suffix.lower() == ".npy":
        several = read_array(place, wanted)
        if several is not None:
            return Found(*several)
    found = read_files([place], wanted)
    words = [*found.words, *_taken_for_one(place)]
    return Found(Pictures(found.images, None, [place.name]), words, found.range)


def _taken_for_one(place: Path) -> list[str]:
    """That an array of three axes is one picture in colour, where it may be several."""
    if place.suffix.lower() != ".npy":
        return []
    shape = np.load(place, mmap_mode="r", allow_pickle=False).shape
    if len(shape) < 3:
        return []
    words = f"one picture of {shape[0]} x {shape[1]} pixels and {shape[2]} channels"
    return [f"{place.name} has the shape {shape}, and is taken for {words}."]


def is_pictures(path: str | Path) -> bool:
    """Whether a path leads to pictures rather than to a table: a folder, an .npz, a file with the
    suffix of a picture, or DICOM without a suffix."""
    place = Path(path)
    known = place.suffix.lower() in (".npz", *SUFFIXES)
    return known or place.is_dir() or is_dicom(place)


# ------------------------------------------------------------------------------------------ folders


def _read_folder(path: Path, wanted: Wanted) -> Found:
    home = _home(path, wanted.part)
    inside = listed(home)
    if inside.mine and inside.groups:
        first = inside.mine[0].name
        other = next(iter(inside.groups))
        raise ValueError(
            f"{home} holds {first!r} beside the sub-folder {other!r}: put each picture in the "
            "sub-folder of its label."
        )
    if not inside.mine and not inside.groups:
        raise ValueError(_no_pictures(home, inside))
    files = inside.mine or [file for each in inside.groups.values() for file in each]
    found = read_files(files, wanted)
    labels = (
        np.array([name for name, each in inside.groups.items() for _ in each])[found.kept]
        if inside.groups
        else None
    )
    names = [files[place].relative_to(path).as_posix() for place in found.kept]
    pictures = Pictures(found.images, labels, names)
    return Found(pictures, [*found.words, *inside.words, *_lost(labels, inside)], found.range)


def _no_pictures(home: Path, inside: Listing) -> str:
    other = f"; it has {inside.kinds}" if inside.kinds else ""
    hint = inside.words[0].partition("; ")[2] if inside.words else ""
    more = f" {hint}" if hint else ""
    return (
        f"{home} holds no pictures; read are {', '.join(SUFFIXES)}, in it or in sub-folders "
        f"that are their labels{other}.{more}"
    )


def _lost(labels: np.ndarray | None, inside: Listing) -> list[str]:
    """Labels of which every picture was skipped."""
    gone = [] if labels is None else sorted(inside.groups.keys() - set(labels.tolist()))
    return (
        [f"Every picture of {', '.join(gone)} is broken, so that it is no label."] if gone else []
    )


def parts_of(path: str | Path) -> dict[str, Any]:
    """{'train', 'val', 'test': where it lies} of a folder or an .npz that is split so; nothing of
    any other."""
    place = Path(path)
    if place.suffix.lower() == ".npz":
        return parts_in(place) if place.is_file() else {}
    folders = folders_of(place) if place.is_dir() else []
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

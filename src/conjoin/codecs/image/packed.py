"""Arrays of pictures in an .npz: MedMNIST's ``train_images``, Keras' ``x_train``, or ``images``
beside ``labels``.

The sizes in an archive's header are checked before anything is unpacked: a small file can expand to
more than fits into memory.
"""

import dataclasses
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.codecs.image.colours import on_background, pillow
from conjoin.codecs.image.decoding import formed, scaled, values_range
from conjoin.codecs.image.pictures import PARTS, Pictures
from conjoin.codecs.image.tally import Tally
from conjoin.codecs.image.wanted import Wanted
from conjoin.core.event import slices

__all__ = ["parts_in", "read_array", "read_packed"]

# (images, labels) of a part
SPLIT = (
    ("{}_images", "{}_labels"),
    ("x_{}", "y_{}"),
    ("X_{}", "y_{}"),
)
WHOLE = (("images", "labels"), ("images", "label"), ("x", "y"), ("X", "y"), ("arr_0", "arr_1"))
_NAMES = {name for keys in WHOLE for name in keys}
_NAMES |= {key.format(part) for keys in SPLIT for key in keys for part in PARTS}
_UNREAD: tuple[tuple[int, ...], np.dtype[Any]] = ((), np.dtype(np.uint8))
MAX_LABEL_BYTES = 4_000  # of one label: a thousand characters
MAX_SHOWN_KEYS = 12  # names of an archive's arrays in a message
MAX_SHOWN = 200  # characters of what another library says of a damaged file
ROWS_AT_ONCE = 256  # pictures whose numbers are looked at together
KNOWN = (
    "images and labels, x and y, or by parts train_images and train_labels, x_train and "
    "y_train, ..."
)


Ends = tuple[float, float] | None


def read_packed(path: Path, wanted: Wanted) -> tuple[Pictures, list[str], Ends]:
    """The pictures of one part of the archive (or of all of it, where it has no parts), their
    labels; what is to be said; and the values that became 0 to 255, where some had more than 8
    bits."""
    shapes = _shapes(path)
    pixels, names = _keys(path, shapes, wanted.part)
    _check_labels(path, names, shapes)
    size = sum(_bytes_of(*shapes[key]) for key in (pixels, names) if key in shapes)
    if size > wanted.max_bytes:
        raise ValueError(
            f"{path}: {pixels} and labels take {size / 1e9:.3g} GB of memory, and the limit is "
            f"{wanted.max_bytes / 1e9:.3g} GB: "
            "raise max_bytes=..., or save fewer pictures."
        )
    images, words, ends = _read(path, pixels, _load(path, pixels), wanted)
    labels = _labels(path, names, _load(path, names), len(images)) if names in shapes else None
    own = [f"{pixels}[{row}]" for row in range(len(images))]
    return Pictures(images, labels, own), words, ends


def read_array(path: Path, wanted: Wanted) -> tuple[Pictures, list[str], Ends] | None:
    """The pictures of an .npy, (n, H, W) or (n, H, W, C), as ``read_packed`` has them; None where
    it is one picture, (H, W) or (H, W, C) in colour."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}): get the file again.") from None
    if mapped.ndim < 3 or (mapped.ndim == 3 and mapped.shape[2] in (3, 4)):
        return None
    if mapped.nbytes > wanted.max_bytes:
        raise ValueError(
            f"{path} takes {mapped.nbytes / 1e9:.3g} GB of memory, and the limit is "
            f"{wanted.max_bytes / 1e9:.3g} GB: raise max_bytes=..., or save fewer pictures."
        )
    images, words, ends = _read(path, path.name, np.array(mapped), wanted)
    own = [f"{path.name}[{row}]" for row in range(len(images))]
    return Pictures(images, None, own), words, ends


def _read(
    path: Path, key: str, raw: np.ndarray, wanted: Wanted
) -> tuple[np.ndarray, list[str], Ends]:
    tally = Tally(files=len(raw) if raw.ndim else 0)
    images, ends = _whole_numbers(path, key, raw, wanted, tally)
    if ends is None and wanted.range is not None and not isinstance(wanted.range[0], str):
        tally.shallow = len(raw)
        ends = wanted.range
    images, said = _formed(images, f"{path}: {key}", wanted, tally)
    read = dataclasses.replace(wanted, range=ends)
    return images, [*tally.words(read), *said], ends


def parts_in(path: Path) -> dict[str, tuple[str, str]]:
    """{part: (key of the images, key of the labels)} of an archive that is split into parts."""
    return _parts(_shapes(path))


# ------------------------------------------------------------------------- what lies in the archive


def _shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """{key: (shape, dtype)} by the headers, which must agree with the sizes of the members. Of a
    key that is no name of pictures or labels the header is not read."""
    found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                if key not in _NAMES:
                    found[key] = _UNREAD
                    continue
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                if dtype.hasobject or _bytes_of(shape, dtype) > member.file_size:
                    raise ValueError(f"{member.filename} is not what it says it is")
                found[key] = (shape, dtype)
    except Exception as error:  # a damaged archive may fail in any of the modules that unpack it
        raise ValueError(
            f"{path} cannot be read ({str(error)[:MAX_SHOWN]}): it is broken, or no .npz of plain "
            "arrays."
        ) from None
    return found


def _bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Of an array, without the overflow of whole numbers of 64 bits."""
    return math.prod(map(int, shape)) * dtype.itemsize


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers: Mapping[Any, Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"an array of the unknown format {version}")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def _load(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[key])
    except Exception as error:
        raise ValueError(f"{path}: {key} cannot be read ({error}): get the file again.") from None


def _parts(shapes: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    pairs = [
        (name, images.format(name), labels.format(name))
        for images, labels in SPLIT
        for name in PARTS
    ]
    return {PARTS[name]: (images, labels) for name, images, labels in pairs if images in shapes}


def _keys(path: Path, shapes: Mapping[str, Any], part: str | None) -> tuple[str, str]:
    """The names of the images and of the labels of the part; ValueError says what there is."""
    parts = {
        PARTS[name]: (images.format(name), labels.format(name))
        for images, labels in SPLIT
        for name in PARTS
        if images.format(name) in shapes
    }
    if parts:
        asked = None if part is None else PARTS.get(part.lower())
        if asked not in parts:
            words = (
                "is split into parts: say which with part=...,"
                if part is None
                else f"has no part {part!r}: choose"
            )
            raise ValueError(
                f"{path} {words} {' or '.join(sorted(parts, key=list(PARTS.values()).index))}."
            )
        return parts[asked]
    candidates = [keys for keys in WHOLE if keys[0] in shapes]
    if not candidates:
        raise ValueError(
            f"{path} has no pictures under a name that is known: it has "
            f"{_listed(shapes)}, and known are {KNOWN}."
        )
    if part is not None:
        raise ValueError(f"{path} has no part {part!r}: it is not split into parts.")
    return next((keys for keys in candidates if keys[1] in shapes), candidates[0])


def _listed(shapes: Mapping[str, Any]) -> str:
    names = [name[:40] for name in shapes]
    more = len(names) - MAX_SHOWN_KEYS
    first = ", ".join(names[:MAX_SHOWN_KEYS]) or "nothing"
    return first + (f" and {more:,} more" if more > 0 else "")


# ----------------------------------------------------------------------------- what the arrays mean


def _whole_numbers(
    path: Path, key: str, images: np.ndarray, wanted: Wanted, tally: Tally
) -> tuple[np.ndarray, Ends]:
    """uint8 (n, H, W) or (n, H, W, C), and the range that these were brought from; ValueError for
    any other array."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{path}: {key} has the shape {images.shape}; pictures are (n, height, width) or (n, "
            "height, width, channels)."
        )
    if images.dtype == np.uint8:
        return images, None
    ranged = images.dtype.itemsize == 2 or wanted.range is not None
    if ranged and images.dtype.kind in "ui" and images.max() > 255:
        return _ranged(images, wanted, tally)
    if images.dtype.kind not in "buif" or not all(
        _are_bytes(images[part]) for part in slices(len(images), ROWS_AT_ONCE)
    ):
        raise ValueError(
            f"{path}: {key} is of {images.dtype}; pixels are whole numbers from 0 to 255 "
            "(uint8): multiply and round first."
        )
    return images.astype(np.uint8), None


def _ranged(images: np.ndarray, wanted: Wanted, tally: Tally) -> tuple[np.ndarray, Ends]:
    """Pictures of more than 8 bits as bytes."""
    numbers = wanted.range is not None and not isinstance(wanted.range[0], str)
    ends = wanted.range if numbers else values_range(images, wanted.range)
    flat = images.reshape(len(images), -1)
    tally.deep = len(images)
    tally.top = float(images.max())
    tally.clipped = int(((flat.min(1) < ends[0]) | (flat.max(1) > ends[1])).sum())
    return np.stack([scaled(each, ends) for each in images]), ends


def _are_bytes(images: np.ndarray) -> bool:
    return bool(((images >= 0) & (images <= 255) & (images == np.rint(images))).all())


def _formed(
    images: np.ndarray, what: str, wanted: Wanted, tally: Tally
) -> tuple[np.ndarray, list[str]]:
    """The pictures in the mode and the size that were asked for; opacity is laid on the background,
    and this is said."""
    notices: list[str] = []
    images = images[..., 0] if images.shape[3:] == (1,) else images
    if images.shape[3:] == (4,) and wanted.mode != "rgba":
        notices.append(
            f"{what} has four channels, taken as colours and opacity and laid on a background; "
            "mode='rgba' keeps them."
        )
        images = on_background(images, wanted.background)
    if wanted.mode == "grey" and wanted.by_model and images.ndim == 4:
        unlike = (images != images[..., :1]).reshape(len(images), -1).any(1)
        tally.coloured = int(unlike.sum())
    if wanted.size not in (None, images.shape[1:3]) or wanted.mode not in (None, _mode(images)):
        if images.shape[3:] not in ((), (3,), (4,)):
            raise ValueError(
                f"{what} has {images.shape[3]} channels; pictures of 1, 3 or 4 can be scaled or "
                "change their mode."
            )
        made = pillow().Image.fromarray
        images = np.stack([formed(made(each), wanted, tally) for each in images])
    return images, notices


def _mode(images: np.ndarray) -> str:
    return {(): "grey", (3,): "rgb", (4,): "rgba"}.get(images.shape[3:], "")


def _check_labels(path: Path, key: str, shapes: Mapping[str, Any]) -> None:
    """ValueError, before anything is read, where there is not one label a picture."""
    if key not in shapes:
        return
    shape, dtype = shapes[key]
    if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
        raise ValueError(
            f"{path}: {key} has the shape {shape}; there is one label a picture: (n,) or (n, 1)."
        )
    if dtype.kind not in "buifUSM" or dtype.itemsize > MAX_LABEL_BYTES:
        raise ValueError(
            f"{path}: {key} is of {dtype!s:.80}; labels are numbers, or words of at most "
            f"{MAX_LABEL_BYTES // 4:,} characters."
        )


def _labels(path: Path, key: str, labels: np.ndarray, count: int) -> np.ndarray:
    """(n,) one label a picture."""
    flat = labels.reshape(-1)
    if len(flat) != count:
        raise ValueError(f"{path}: {key} has {len(flat):,} labels for {count:,} pictures.")
    return flat

"""What may be given as pictures in memory: arrays, tensors and lists, brought to arrays (n, H, W)
or (n, H, W, C).

Shape letters: n pictures, H rows, W columns, C channels.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Stack", "array_of", "asked_of", "is_stack", "stack_of"]

COLOUR_CHANNELS = (3, 4)  # of a picture in colour
PLAIN_CHANNELS = (1, 3, 4)  # of pictures as people have them
MAX_CHANNELS = 16  # up to so many, an axis shorter than the sides is taken for channels
MAX_LEVELS = 256  # of a pixel
CHANNELS = ("first", "last")


class Stack(NamedTuple):
    """``images`` (n, H, W) or (n, H, W, C), and what is to be said of the reading."""

    images: np.ndarray
    words: list[str]


def asked_of(types: Any) -> dict[str, Any]:
    """What the user says of an array of pictures: ``levels`` and ``channels``, both optional.
    ValueError for anything else."""
    if types is None or (isinstance(types, Mapping) and not types):
        return {}
    if not isinstance(types, Mapping) or set(types) - {"levels", "channels"}:
        raise ValueError(
            "types of an array of pictures may say how many grey levels a pixel has and where the "
            f"channels stand, such as {{'levels': 256, 'channels': 'last'}}, got {types!r}."
        )
    levels = types.get("levels")
    if levels is not None and not (
        isinstance(levels, int | np.integer) and 2 <= levels <= MAX_LEVELS
    ):
        raise ValueError(f"levels must be a whole number from 2 to {MAX_LEVELS}, got {levels!r}.")
    if types.get("channels", "last") not in CHANNELS:
        raise ValueError(f"channels must be 'first' or 'last', got {types['channels']!r}.")
    return dict(types)


def is_stack(raw: Any) -> bool:
    """Whether ``raw`` is a set of pictures in memory: an array or tensor of three axes or more, or
    a list of arrays, of pillow's images or of nested lists."""
    if isinstance(raw, list | tuple):
        return bool(raw) and _is_picture(raw[0])
    return _axes(raw) >= 3


def _is_picture(item: Any) -> bool:
    if isinstance(item, list | tuple):
        inner = item[0] if item else None
        return isinstance(inner, list | tuple) and bool(inner) and not isinstance(inner[0], str)
    return _axes(item) >= 2 or _of_pillow(item)


def _axes(raw: Any) -> int:
    axes = getattr(raw, "ndim", 0)
    return axes if isinstance(axes, int) and "__array__" in dir(raw) else 0


def _of_pillow(item: Any) -> bool:
    return type(item).__module__.partition(".")[0] == "PIL"


def array_of(raw: Any) -> np.ndarray:
    """The pictures as one array. ValueError for a list of pictures of several shapes."""
    if not isinstance(raw, list | tuple):
        return _plain(raw)
    try:
        items = [_plain(item) for item in raw]
    except ValueError:
        raise ValueError(
            "X is a list of pictures whose rows have different lengths: every picture is an array "
            "of numbers, (H, W) or (H, W, C)."
        ) from None
    for place, item in enumerate(items):
        if item.shape != items[0].shape:
            raise ValueError(
                f"X is a list of pictures of different shapes: the first has {_by(items[0])}, and "
                f"picture {place} has {_by(item)}; bring them to one size and the same channels "
                "(conjoin.read_images(folder, size=...) does so for files)."
            )
    return np.stack(items)


def _plain(raw: Any) -> np.ndarray:
    """An array; a tensor is taken from its device."""
    if isinstance(raw, np.ndarray):
        return raw
    if "detach" in dir(raw):  # a tensor of torch
        raw = raw.detach().cpu()
        raw = raw.float() if raw.is_floating_point() and raw.element_size() < 4 else raw
    return np.asarray(raw)


def stack_of(raw: Any, channels: str | None = None) -> Stack:
    """Pictures in memory as (n, H, W) or (n, H, W, C). ``channels``: "first", "last", or None for
    what the shape says. ValueError in one sentence for what may be something else."""
    images = array_of(raw)
    if images.ndim == 4:
        return _of_four(images, channels)
    if images.ndim != 3:
        raise ValueError(
            f"X has the shape {images.shape}; pictures are (n, height, width) or (n, height, "
            "width, channels). Volumes and films are not modelled: give slices, such as X[:, k], "
            "as pictures."
        )
    return Stack(images, [])


def _of_four(images: np.ndarray, channels: str | None) -> Stack:
    if channels == "last":
        return Stack(images, [])
    if channels == "first":
        return Stack(_turned(images), [])
    first, *sides, last = images.shape[1:]
    if last in PLAIN_CHANNELS:
        return Stack(images, _unsure(images) if first in PLAIN_CHANNELS else [])
    if first in PLAIN_CHANNELS and first < min(*sides, last):
        return Stack(_turned(images), [_first_words(images)])
    if last <= MAX_CHANNELS and last < min(first, *sides):
        return Stack(images, [_channel_words(images)])
    raise ValueError(
        f"X has the shape {images.shape}, and neither axis 1 ({first}) nor the last ({last}) looks "
        "like channels: volumes are not modelled, so give slices, such as X[:, k]; if these are "
        "pictures of many channels, say types={'channels': 'last'} or 'first'."
    )


def _turned(images: np.ndarray) -> np.ndarray:
    """Channels last. ValueError where it could not be told later which of the axes they are."""
    if len(set(images.shape[1:])) == 1:
        raise ValueError(
            f"X has the shape {images.shape}, of which every axis may be the channels: give them "
            "last, np.moveaxis(X, 1, 3)."
        )
    return np.moveaxis(images, 1, 3)


def _first_words(images: np.ndarray) -> str:
    first, high, wide = images.shape[1:]
    return (
        f"X has the shape {images.shape}, and is taken for pictures of {high} x {wide} pixels "
        f"with their {first} channels first (answers have them last); types={{'channels': 'last'}} "
        "says otherwise."
    )


def _channel_words(images: np.ndarray) -> str:
    high, wide, last = images.shape[1:]
    return (
        f"X has the shape {images.shape}, and is taken for pictures of {high} x {wide} pixels and "
        f"{last} channels; of volumes give slices, such as X[..., k]."
    )


def _unsure(images: np.ndarray) -> list[str]:
    high, wide, last = images.shape[1:]
    return [
        f"X has the shape {images.shape}, and is taken for pictures of {high} x {wide} pixels "
        f"with their {last} channels last; types={{'channels': 'first'}} says otherwise."
    ]


def _by(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape)) or "a single number"

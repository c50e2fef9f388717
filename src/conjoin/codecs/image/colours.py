"""Colours beneath pictures that are not opaque; and pillow, which is imported when it is needed."""

from typing import Any

import numpy as np

__all__ = ["colour_of", "on_background", "pillow"]

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}


def pillow() -> Any:
    """The modules of pillow; ValueError says how to install it."""
    try:
        import PIL.Image
        import PIL.ImageColor
        import PIL.ImageOps
    except ImportError:
        raise ValueError('Pictures need pillow: pip install "conjoin[image]".') from None
    return PIL


def colour_of(background: Any) -> tuple[int, int, int]:
    """(red, green, blue) of a colour's name, '#rrggbb' or three numbers from 0 to 255.

    >>> colour_of("white"), colour_of((0, 128, 255))
    ((255, 255, 255), (0, 128, 255))
    """
    if isinstance(background, str) and background in COLOURS:
        return COLOURS[background]
    try:
        rgb = (
            pillow().ImageColor.getrgb(background)
            if isinstance(background, str)
            else tuple(map(int, background))
        )
    except (ValueError, TypeError):
        rgb = ()
    if len(rgb) != 3 or not all(0 <= n <= 255 for n in rgb):
        raise ValueError(
            "background must be a colour such as 'white', '#ff8000' or (255, 128, 0), got "
            f"{background!r}."
        )
    return rgb[0], rgb[1], rgb[2]


def on_background(images: np.ndarray, background: Any = "white") -> np.ndarray:
    """Pictures with opacity as they look on a colour.

    Parameters
    ----------
    images : ndarray, shape (..., 4), uint8
        Red, green, blue and opacity, 0 to 255.
    background : str or (int, int, int), default "white"
        A name, '#rrggbb' or three numbers from 0 to 255.

    Returns
    -------
    ndarray, shape (..., 3), uint8

    Raises
    ------
    ValueError
        If the pictures have no opacity, or the colour is unknown.

    Examples
    --------
    >>> on_background(np.array([[0, 0, 0, 0], [9, 8, 7, 255]], dtype="uint8")).tolist()
    [[255, 255, 255], [9, 8, 7]]
    """
    if images.shape[-1] != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"Pictures with opacity are uint8 arrays (..., 4), got {images.dtype} {images.shape}."
        )
    colour = np.array(colour_of(background), dtype=np.uint16)
    opacity = images[..., 3:].astype(np.uint16)
    return ((images[..., :3] * opacity + colour * (255 - opacity) + 127) // 255).astype(np.uint8)

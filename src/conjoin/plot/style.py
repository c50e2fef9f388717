"""The figures' palette, and the few things that every figure does alike.

Blue and orange come first: every common kind of colour blindness tells them apart.
"""

from typing import Any

import numpy as np

__all__ = [
    "CLASSES",
    "INK",
    "MUTED",
    "RULE",
    "VERDICTS",
    "calm",
    "class_colour",
    "label",
    "new_axes",
    "pyplot",
    "tint",
]

INK = "#24313f"
MUTED = "#6f7b88"
RULE = "#cfd6dd"
CLASSES = ("#2f6c9f", "#d07f2c", "#4f9d8f", "#8c6bb1", "#b5526b", "#7a8b3c", "#9c7a5b", "#56677a")
VERDICTS = {"accept": "#4f9d8f", "ambiguous": "#f1dc9a", "unfamiliar": "#c3c9d0"}


def pyplot() -> Any:
    """matplotlib.pyplot; ImportError with the line that installs it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('Figures need matplotlib: pip install "conjoin[plot]".') from None
    return plt


def new_axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.0, 4.2)) -> np.ndarray:
    """A new figure's axes, (rows * columns,)."""
    _, axes = pyplot().subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return np.asarray(axes.ravel())


def calm(ax: Any, grid: bool = False) -> None:
    """Two thin axes, small ticks, no box."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(RULE)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8.5, length=3)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.title.set_color(INK)
    if grid:
        ax.grid(color=RULE, linewidth=0.5)
        ax.set_axisbelow(True)


def label(name: Any, unit: str = "", longest: int = 40) -> str:
    """A column's name as text on an axis: dollar signs are no formula, and long names are cut."""
    text = str(name)
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return (f"{text} ({unit})" if unit else text).replace("$", r"\$")


def class_colour(code: int) -> str:
    return CLASSES[code % len(CLASSES)]


def tint(colour: str, strength: Any) -> np.ndarray:
    """(..., 3) from white, at strength 0, to the colour, at 1."""
    full = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    share = np.asarray(strength, dtype=float)[..., None]
    return np.asarray(1 - share * (1 - full))

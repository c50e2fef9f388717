"""Points of the plane whose density one can see: what models of numbers learn from few rows.

Every toy is a function of a number of rows and a generator, about two units wide. No library is
needed for them but numpy, so that examples, benchmarks and tests draw the same points.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TOYS", "toy"]

Points = np.ndarray[Any, np.dtype[np.float64]]  # (rows, 2)
Draw = Callable[[int, np.random.Generator], Points]

MOONS_SPREAD = 0.08
RINGS_SPREAD = 0.05
INNER_RADIUS = 0.45
PETALS = 5
BLOBS = 8
BLOBS_SPREAD = 0.12
SPIRAL_TURNS = 1.5
SPIRAL_SPREAD = 0.06
SQUARES = 4  # a side of the board, which is as wide


def toy(name: str, rows: int = 600, seed: int = 0) -> "pd.DataFrame":
    """Points of a toy.

    Parameters
    ----------
    name : {"moons", "petals", "rings", "checkerboard", "spirals", "blobs"}
        Which one.
    rows : int, default 600
        How many points.
    seed : int, default 0
        Of the points: the same seed gives the same ones.

    Returns
    -------
    pandas.DataFrame
        Columns ``a`` and ``b``.

    Raises
    ------
    ValueError
        If there is no such toy, or no rows are asked for.

    Examples
    --------
    >>> toy("moons", rows=3).shape
    (3, 2)
    """
    import pandas as pd

    if name not in TOYS:
        raise ValueError(f"There is no toy {name!r}; choose from {', '.join(TOYS)}.")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows!r}.")
    return pd.DataFrame(TOYS[name](rows, np.random.default_rng(seed)), columns=["a", "b"])


def _polar(radius: Any, angle: Any) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _moons(rows: int, rng: np.random.Generator) -> Points:
    upper = rng.integers(0, 2, rows) == 0
    arc = _polar(1.0, rng.uniform(0, np.pi, rows))
    points = np.where(upper[:, None], arc, np.array([1.0, 0.5]) - arc)
    return points + MOONS_SPREAD * rng.normal(size=(rows, 2))


def _petals(rows: int, rng: np.random.Generator) -> Points:
    turn = rng.integers(0, PETALS, rows) * 2 * np.pi / PETALS
    along = np.abs(rng.normal(0.8, 0.45, rows))
    return _polar(along, turn + 0.6 * along + 0.12 * rng.normal(size=rows))


def _rings(rows: int, rng: np.random.Generator) -> Points:
    radius = np.where(rng.integers(0, 2, rows) == 0, 1.0, INNER_RADIUS)
    circle = _polar(radius, rng.uniform(0, 2 * np.pi, rows))
    return circle + RINGS_SPREAD * rng.normal(size=(rows, 2))


def _checkerboard(rows: int, rng: np.random.Generator) -> Points:
    across = rng.integers(0, SQUARES, rows)
    down = 2 * rng.integers(0, SQUARES // 2, rows) + across % 2
    corner = np.stack([across, down], 1) - SQUARES / 2
    return corner + rng.uniform(size=(rows, 2))


def _spirals(rows: int, rng: np.random.Generator) -> Points:
    angle = 2 * np.pi * SPIRAL_TURNS * np.sqrt(rng.uniform(size=rows))
    arm = np.pi * rng.integers(0, 2, rows)
    points = _polar(angle / (np.pi * SPIRAL_TURNS), angle + arm)
    return points + SPIRAL_SPREAD * rng.normal(size=(rows, 2))


def _blobs(rows: int, rng: np.random.Generator) -> Points:
    centre = _polar(1.0, rng.integers(0, BLOBS, rows) * 2 * np.pi / BLOBS)
    return centre + BLOBS_SPREAD * rng.normal(size=(rows, 2))


TOYS: dict[str, Draw] = {
    "moons": _moons,
    "petals": _petals,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "spirals": _spirals,
    "blobs": _blobs,
}

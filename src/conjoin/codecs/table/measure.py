"""How numbers were recorded: decimals, the step of their lattice, spikes, bounds, and the unit in a
column's name.

All are functions of a tally, in raw units.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conjoin.codecs.table.values import Tally

__all__ = [
    "atoms_of",
    "bounds_of",
    "day_step",
    "decimals_of",
    "decimals_of_step",
    "step_of",
    "unit_of",
]

Array = NDArray[Any]

_MAX_DIGITS = 6  # decimal places that are tried
_MAX_ATOMS = 16
_MIN_ATOM_ROWS = 40
_STEPS = (1000, 500, 250, 100, 50, 25, 10, 5)
_DAY_MS = 86_400_000
_DAY_STEPS = (_DAY_MS, 3_600_000, 60_000, 1_000, 1)  # day, hour, minute, second, millisecond
_UNITS = (
    "mm cm m km kg g mg ug lb lbs oz ms s sec min hours days years usd eur gbp pct percent "
    "celsius kwh kw w v hz ml l ppm mmhg bpm"
)
_SUFFIX = re.compile(rf"[_\s]({'|'.join(_UNITS.split())})$", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[]\s*([^()\[\]\s]{1,10})\s*[)\]]\s*$")


def decimals_of(values: Array, dtype: str) -> int | None:
    """The fewest decimals (at most 6) at which every value equals its rounding in ``dtype``; None
    for full precision."""
    kind = np.dtype(dtype) if dtype in ("float32", "float16") else np.dtype("float64")
    top = float(np.abs(values).max(initial=0.0))
    spacing = float(np.spacing(kind.type(top))) if top < np.finfo(kind).max else np.inf
    for digits in range(_MAX_DIGITS + 1):
        if 10.0**-digits < (2 if digits == 0 else 8) * spacing:
            return None  # at this size every float is a multiple of the step: it says nothing
        rounded = np.round(values, digits)
        if kind != np.dtype("float64"):
            same = rounded.astype(kind) == values.astype(kind)
        else:
            same = np.abs(rounded - values) <= 4 * np.spacing(np.abs(values))
        if same.all():
            return digits
    return None


def step_of(tally: Tally, decimals: int) -> float:
    """The step of the lattice that the values lie on: 10^-decimals, or a clear multiple of it such
    as 5 or 100."""
    unit = 10.0**-decimals
    if tally.observed < 30 or len(tally.values) < 5:
        return unit
    common = int(np.gcd.reduce(np.rint(tally.values * 10.0**decimals).astype("int64")))
    times = next((step for step in _STEPS if common and common % step == 0), 1)
    return float(np.round(times * unit, decimals))


def decimals_of_step(step: float) -> int | None:
    """How many decimals the multiples of ``step`` have; None for a step such as 1/3."""
    return decimals_of(np.array([step]), "float64")


def day_step(values: Array) -> float | None:
    """The coarsest of day, hour, minute, second and millisecond (in days) at which all times were
    recorded."""
    ticks = values * _DAY_MS
    whole = np.rint(ticks)
    if np.abs(ticks - whole).max(initial=0.0) > 2e-3:
        return None
    return next(step / _DAY_MS for step in _DAY_STEPS if not (whole % step).any())


def atoms_of(tally: Tally) -> tuple[float, ...]:
    """At most ``_MAX_ATOMS`` values that are far more frequent than their neighbours.

    A value counts if it fills a tenth of the rows, or ``_MIN_ATOM_ROWS`` rows of a long column."""
    if len(tally.values) <= 20:
        return ()
    share = tally.counts / tally.observed
    least = min(0.1, max(0.005, _MIN_ATOM_ROWS / tally.observed))
    spikes = [i for i in np.flatnonzero(share >= least) if _stands_out(share, int(i))]
    best = sorted(spikes, key=lambda i: (-share[i], i))[:_MAX_ATOMS]
    return tuple(float(tally.values[i]) for i in sorted(best))


def _stands_out(share: Array, i: int) -> bool:
    around = np.concatenate([share[max(0, i - 4) : i], share[i + 1 : i + 5]])
    next_to = np.concatenate([share[max(0, i - 1) : i], share[i + 1 : i + 2]])
    return bool(share[i] > 4 * around.mean() and share[i] > 2 * next_to.max())


def bounds_of(tally: Tally, rows: float) -> tuple[float | None, float | None]:
    """(0, None) where at least ten rows are all at or above 0."""
    return (
        (0.0, None) if rows >= 10 and len(tally.values) and tally.values[0] >= 0 else (None, None)
    )


def unit_of(name: Any) -> str:
    """The unit that a column's name ends with: ``mean radius (mm)``, ``weight [kg]``,
    ``height_cm``."""
    found = _BRACKETS.search(str(name)) or _SUFFIX.search(str(name))
    return found.group(1) if found else ""

"""How numbers were recorded: decimals, the step of their lattice, spikes, bounds, and the unit in a
column's name.

All are functions of a tally, in raw units.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conjoin.codecs.table.values import Tally

__all__ = [
    "Code",
    "Precision",
    "atoms_of",
    "bounds_of",
    "day_step",
    "decimals_of",
    "decimals_of_step",
    "fine_step",
    "fraction_of",
    "precision_of",
    "range_of",
    "recurring",
    "sentinel_days",
    "single_of",
    "step_of",
    "unit_of",
]

Array = NDArray[Any]

_MAX_DIGITS = 6  # decimal places that are tried
_MAX_ATOMS = 16
_MIN_ATOM_ROWS = 40
_MAX_ONLY_ATOMS = 64  # distinct values of a column that has no others
_MIN_ONLY_ROWS = 5  # rows of each of them, on average
MIN_ROWS_OF_END = 3  # rows with the least or greatest value, from which on it is no single one's
_MIN_SPIKE_ROWS = 5  # rows that share one number in full precision, none of which is chance
_MIN_SPIKE_SHARE = 0.01  # of the rows
_SPARSE = 3  # times as many cells as distinct values: a lattice that is mostly empty
_ROUNDING = 1e-6  # steps, by which a division may be off
_FINE = 1e-5  # of the spread: the step at which numbers in full precision get mass
_MIN_STEP_ODDS = 500  # to one, against a step by chance
_FRACTIONS = (3, 6, 7, 9, 12, 15, 24, 30, 36, 45, 48, 60, 72, 90, 144, 180, 360, 720, 1440, 3600)
_DAY_MS = 86_400_000
# days that programs write for "none", "since ever" or "for ever"
_SENTINEL_DATES = (
    "0001-01-01 1753-01-01 1899-12-30 1899-12-31 1900-01-01 1901-01-01 1970-01-01 "
    "2099-12-31 2100-01-01 2199-12-31 2262-04-11 2999-12-31 3000-01-01 9999-01-01 9999-12-31"
)
_SENTINEL_DAYS = np.array(_SENTINEL_DATES.split(), dtype="datetime64[D]").astype("int64")
_MIN_RECURRING_SENTINELS = 3  # rows of a date that may mean "none" and lies near the others
_MIN_SENTINEL_GAP = 20  # usual spacings of the other dates, between these and such a date
_DAY_STEPS = (_DAY_MS, 3_600_000, 60_000, 1_000, 1)  # day, hour, minute, second, millisecond
_UNITS = (
    "mm cm m km kg g mg ug lb lbs oz ms s sec min hours days years usd eur gbp pct percent "
    "celsius kwh kw w v hz ml l ppm mmhg bpm"
)
MAX_NOISE_SHARE = 0.5  # of the distinct numbers, that arithmetic may have spoilt
_NOISE = 1e-9  # of a step: what sums and differences of decimals are off by
_SUFFIX = re.compile(rf"[_\s]({'|'.join(_UNITS.split())})$", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[]\s*([^()\[\]\s]{1,10})\s*[)\]]\s*$")


def single_of(series: Any) -> str:
    """The dtype in whose precision numbers were recorded."""
    return str(series.dtype) if str(series.dtype) in ("float32", "float16") else "float64"


class Code(NamedTuple):
    """A number, or a date in days, that may mean "none", the cell that holds it, and how often it
    stands there."""

    number: float
    cell: Any
    rows: int


class Precision(NamedTuple):
    """Decimals, the step of the lattice and one value of it; None and None for full precision."""

    decimals: int | None
    step: float | None
    offset: float


def precision_of(kind: str, counts: Tally, asked: Mapping[str, Any], dtype: str) -> Precision:
    """How a column of the type ``kind`` was recorded, where ``asked`` does not say it."""
    given = asked.get("precision", asked.get("resolution"))
    if given == 0:
        return Precision(None, None, 0.0)
    if given is not None:
        decimals = asked.get("decimals", decimals_of_step(float(given)))
        return Precision(None if kind == "date" else decimals, float(given), 0.0)
    if kind == "date":
        return Precision(None, day_step(counts.values), 0.0)
    decimals = (
        asked.get("decimals", decimals_of(counts.values, dtype)) if len(counts.values) else None
    )
    if decimals is None and kind == "integer":
        decimals = 0
    if decimals is None:
        return Precision(None, fraction_of(counts), 0.0)
    return Precision(decimals, *step_of(counts, int(decimals)))


def decimals_of(values: Array, dtype: str) -> int | None:
    """The fewest decimals (at most 6) at which every value equals its rounding in ``dtype``, but
    for what arithmetic leaves behind in few of them, such as 5e-17 for 0; None for full
    precision."""
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
            off = np.abs(rounded - values)
            same = off <= 4 * np.spacing(np.abs(values))
            left = ~same & (off <= _NOISE * 10.0**-digits)
            # where most are far below the step, they are small numbers and nothing else
            same |= left & (left.sum() <= MAX_NOISE_SHARE * len(values))
        if same.all():
            return digits
    return None


def step_of(tally: Tally, decimals: int) -> tuple[float, float]:
    """The step of the lattice that the values lie on, and one value of it: 10^-decimals, or a clear
    multiple of it such as 2, 12 or 100, of which 0 need be none."""
    unit = 10.0**-decimals
    if tally.observed < 30 or len(tally.values) < 3:
        return unit, 0.0
    cells = np.rint(tally.values * 10.0**decimals).astype("int64")
    times = int(np.gcd.reduce(np.diff(cells)))
    if times < 2 or not _is_clear(times, cells, tally):
        return unit, 0.0
    offset = int(cells[0]) % times
    return float(np.round(times * unit, decimals)), float(np.round(offset * unit, decimals))


def _is_clear(times: int, cells: Array, tally: Tally) -> bool:
    """Whether a common factor of the differences is no chance: it is unlikely by the number of
    distinct values, or they fill their lattice."""
    unlikely = len(cells) >= 5 and (len(cells) - 1) * np.log(times) > np.log(_MIN_STEP_ODDS)
    full = len(cells) >= 0.5 * ((int(cells[-1]) - int(cells[0])) // times + 1)
    return bool(unlikely or (full and tally.observed >= 10 * len(cells)))


def fraction_of(tally: Tally) -> float | None:
    """The step of numbers in full precision that are whole multiples of a third, a twelfth, ...;
    None where there is none."""
    values = tally.values
    if tally.observed < 30 or len(values) < 5 or np.abs(values).max() > 1e6:
        return None
    for parts in _FRACTIONS:
        cells = values * parts
        # distinct numbers are at least a step apart
        few = len(cells) - 1.5 <= np.ptp(cells) <= 100 * len(cells) - 1
        if few and np.abs(cells - np.rint(cells)).max() <= 1e-9 * max(1.0, np.abs(cells).max()):
            return 1.0 / parts
    return None


def fine_step(tally: Tally, atoms: tuple[float, ...]) -> float:
    """A step far below the spread of numbers in full precision, so that these have mass as well as
    their spikes; a power of ten."""
    free = ~np.isin(tally.values, atoms)
    values = tally.values[free] if free.sum() > 1 else tally.values
    size = float(np.abs(values).max()) or 1.0
    spread = float(np.std(values / size)) * size if len(values) > 1 else size
    gaps = np.diff(np.array(sorted(atoms)))
    spread = min([spread, *gaps.tolist()]) if len(gaps) and free.sum() < 2 else spread
    return float(10.0 ** np.floor(np.log10(_FINE * spread))) if spread > 0 else _FINE


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


def recurring(tally: Tally, step: float | None) -> tuple[tuple[float, ...], bool]:
    """The spikes of a column, and whether it has no other values.

    ``step``: of its lattice; None for full precision, of which a value that recurs is a spike."""
    if _only_few_values(tally, step):
        return tuple(map(float, tally.values)), True
    return (atoms_of(tally) if step is not None else _spikes(tally)), False


def _only_few_values(tally: Tally, step: float | None) -> bool:
    """Whether the same few values recur, far from filling their lattice: powers of two, prices."""
    distinct = len(tally.values)
    if not 2 <= distinct <= _MAX_ONLY_ATOMS or tally.observed < _MIN_ONLY_ROWS * distinct:
        return False
    often = tally.counts >= 3
    if tally.counts[often].sum() < 0.95 * tally.observed or often.sum() < 0.6 * distinct:
        return False
    if step is None:
        return True
    gaps = np.diff(tally.values) / step
    return distinct >= 3 and float(np.median(gaps)) >= _SPARSE and bool(gaps.max() > 2 * gaps.min())


def _spikes(tally: Tally) -> tuple[float, ...]:
    """Values in full precision that far more rows share than chance would let them."""
    if not len(tally.values):
        return ()
    least = max(_MIN_SPIKE_ROWS, _MIN_SPIKE_SHARE * tally.observed, 5 * np.median(tally.counts))
    found = np.flatnonzero(tally.counts >= min(least, max(_MIN_ATOM_ROWS, 0.001 * tally.observed)))
    found = found[tally.counts[found] >= 5 * np.median(tally.counts)]
    best = sorted(found, key=lambda i: (-tally.counts[i], i))[:_MAX_ATOMS]
    return tuple(float(tally.values[i]) for i in sorted(best))


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


def sentinel_days(tally: Tally) -> tuple[float, ...]:
    """The times, in days since 1970, that likely mean "none": on a day such as 9999-12-31 or
    1900-01-01, beyond all others and far from them."""
    marked = np.isin(np.floor(tally.values), _SENTINEL_DAYS)
    rest = tally.values[~marked]
    if not marked.any() or len(rest) < 2:
        return ()
    found = [i for i in np.flatnonzero(marked) if _is_apart(tally, int(i), rest)]
    return tuple(float(tally.values[i]) for i in found)


def _is_apart(tally: Tally, i: int, rest: Array) -> bool:
    """Whether a date lies beyond the ``rest`` by half of their span, or recurs and lies beyond them
    by many of their usual spacings."""
    gap = max(rest[0] - tally.values[i], tally.values[i] - rest[-1])
    if gap > 0.5 * (rest[-1] - rest[0]):
        return True
    spacing = float(np.median(np.diff(rest)))
    return bool(tally.counts[i] >= _MIN_RECURRING_SENTINELS and gap > _MIN_SENTINEL_GAP * spacing)


def bounds_of(tally: Tally, offset: float = 0.0) -> tuple[float | None, float | None]:
    """(0, None) where at least ten rows are all at or above 0; ``offset``, the least value of the
    lattice above 0, in place of 0."""
    if tally.observed < 10 or not len(tally.values) or tally.values[0] < 0:
        return None, None
    return offset, None


def range_of(tally: Tally) -> tuple[float | None, float | None]:
    """From the least value to the greatest. An end that few rows have is rounded inwards to a power
    of ten of about a thousandth of what lies between, so that the full precision of no single row
    is saved; one that several rows have is kept, as it recurs and must be drawn.

    >>> range_of(Tally(np.array([0.1234, 7.0, 99.4567]), np.ones(3), 0.0))
    (0.13, 99.45)
    >>> range_of(Tally(np.array([0.1234, 7.0, 99.4567]), np.array([40.0, 1.0, 1.0]), 0.0))
    (0.1234, 99.45)
    """
    if not len(tally.values):
        return None, None
    low = float(tally.values[0])
    high = float(tally.values[-1])
    if high / 1000 - low / 1000 < np.finfo(np.float64).tiny:
        return low, high
    digits = -math.floor(math.log10(high / 1000 - low / 1000))
    step = 10.0**-digits
    first = math.ceil(low / step - _ROUNDING)
    last = math.floor(high / step + _ROUNDING)
    recurs = tally.counts >= MIN_ROWS_OF_END
    return (
        low if recurs[0] else round(first * step, max(digits, 0)),
        high if recurs[-1] else round(last * step, max(digits, 0)),
    )


def unit_of(name: Any) -> str:
    """The unit that a column's name ends with: ``mean radius (mm)``, ``weight [kg]``,
    ``height_cm``."""
    found = _BRACKETS.search(str(name)) or _SUFFIX.search(str(name))
    return found.group(1) if found else ""

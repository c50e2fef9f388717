"""One column to event cells and back.

Numbers: event = (raw - shift) / scale, so that a density in event units needs log |d event / d raw|
= -log scale. Levels: event = code 0..K-1; a rare value that shares its level with others has the
level's probability times its own share of the level's rows. A value outside what was seen at fit
has the probability ``eps``, learned at fit.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.far import FarCodes, far_codes
from conjoin.codecs.table.guess import level_cells
from conjoin.codecs.table.padding import write_dates
from conjoin.codecs.table.reading import numbers_of, written_cells
from conjoin.codecs.table.schema import RARE, Column
from conjoin.codecs.table.values import (
    Tally,
    blank,
    map_distinct,
    merged,
    tally,
    text_of,
    truth_of,
    truths_of,
    writing_of,
)
from conjoin.core import Variable

__all__ = ["Cells", "Encoding", "cells_for", "fit_cells", "recounted", "with_late_codes"]

Array = NDArray[Any]
Series = Any
JSON = dict[str, Any]

_DAY_US = 86_400_000_000
UNSEEN_MASS = 1e-6  # of numbers beyond the bounds, and of codes that no row had which taught


class Encoding(NamedTuple):
    """Arrays (B,): event values (0 where not observed), which cells are observed, which hold an
    unseen value; and log p of the cell given its event value, 0 where that is None."""

    value: Array
    observed: Array
    unseen: Array
    log_share: Array | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Cells(abc.ABC):
    """How one column is encoded."""

    column: Column
    shift: float = 0.0
    scale: float = 1.0
    eps: float = 0.0

    def __post_init__(self) -> None:
        """A saved model may have been altered."""
        told = (self.shift, self.scale, self.eps)
        numbers = all(isinstance(value, int | float) and abs(value) < math.inf for value in told)
        if not (numbers and self.scale > 0 and 0 <= self.eps <= 1):
            raise ValueError(
                f"the scales of column {self.column.name!r} are {told!r:.100}: a shift, a width "
                "above 0 and a probability belong there"
            )

    @property
    @abc.abstractmethod
    def variable(self) -> Variable: ...

    @abc.abstractmethod
    def encode(self, series: Series) -> Encoding: ...

    @abc.abstractmethod
    def _decode(self, value: Array, known: Array) -> Series: ...

    def decode(self, value: Array, known: Array) -> Series:
        """The raw column of event values (B,), missing where not ``known``."""
        series = self._decode(np.where(known, value, 0.0), known)
        return series if known.all() else series.mask(~known)

    @abc.abstractmethod
    def encode_plain(self, cells: Array) -> Encoding:
        """As ``encode``, of plain cells (B,): numbers with NaN, or texts with None, if missing."""

    @abc.abstractmethod
    def recorded(self, cells: Array) -> Array:
        """Plain cells, rounded as the column was recorded."""

    @abc.abstractmethod
    def write(self, cells: Array) -> Series:
        """The raw column of plain cells (B,)."""

    @property
    def step(self) -> float:
        """Of the lattice that numbers were recorded on, in event units; 0 where there is none."""
        column = self.column
        if column.resolution is None or column.precision == 0:
            return 0.0
        decimals = 0.0 if column.decimals is None else 10.0**-column.decimals
        return (column.precision or decimals) / self.scale

    @property
    @abc.abstractmethod
    def range(self) -> tuple[float, float]:
        """Where draws stay, in event units."""

    @abc.abstractmethod
    def settle(self, value: Array) -> Array:
        """The nearest values (B,) that may be drawn, in event units."""

    @property
    def pools(self) -> bool:
        """Whether some raw values share an event value, so that decoding one takes a draw."""
        return bool(self.column.pooled_counts)

    def draw(self, value: Array, known: Array, uniform: Array, asked: Sequence[Any] = ()) -> Series:
        """As ``decode``; where raw values share an event value, one of them by its frequency, as
        the numbers ``uniform`` (B,) between 0 and 1 say; one that is ``asked`` for, if any are."""
        return self._draw(value, known, uniform, asked) if self.pools else self.decode(value, known)

    def _draw(self, value: Array, known: Array, uniform: Array, asked: Sequence[Any]) -> Series:
        return self.decode(value, known)

    def to_json(self) -> JSON:
        return {"shift": self.shift, "scale": self.scale, "eps": self.eps}


# ------------------------------------------------------------------------------------------ numbers


class _Numbers(Cells):
    @property
    def variable(self) -> Variable:
        column = self.column
        size = self.scale
        low, high = (
            None if bound is None else (bound - self.shift) / size for bound in column.bounds
        )
        return Variable(
            str(column.name),
            "integer" if column.type == "integer" else "real",
            resolution=None if column.resolution is None else column.resolution / size,
            atoms=tuple(self._event(np.array(column.atoms)).tolist()),
            bounds=(low, high),
            origin=(column.offset - self.shift) / size,
            unit=column.unit,
        )

    def _read(self, series: Series) -> tuple[Array, Array]:
        return numbers_of(self.column, series)

    def encode(self, series: Series) -> Encoding:
        return self.encode_plain(self._read(blank(series, self.column.missing))[0])

    def encode_plain(self, cells: Array) -> Encoding:
        known = ~np.isnan(cells)
        raw = np.where(known, cells, self.shift)
        raw = self._round(raw) if self.column.resolution is not None else raw
        unseen = known & (_outside(raw, self.column.bounds) | self._is_late(raw))
        observed = known & ~unseen
        return Encoding(np.where(observed, self._event(raw), 0.0), observed, unseen)

    def _is_late(self, raw: Array) -> Array:
        """(B,) which numbers are codes that only rows had which did not teach."""
        codes = np.array(self.column.held_out, dtype="float64")
        return np.isin(raw, self._round(codes)) if len(codes) else np.zeros(len(raw), dtype=bool)

    def _event(self, raw: Array) -> Array:
        near = raw if self._far is None else self._far.near(raw)
        return (near - self.shift) / self.scale

    def _unrounded(self, value: Array) -> Array:
        near = value * self.scale + self.shift
        return near if self._far is None else self._far.raw(near)

    @property
    def _far(self) -> FarCodes | None:
        return far_codes(self.column) if self.column.atoms else None

    def _round(self, raw: Array) -> Array:
        """To the lattice at which the column was recorded."""
        column = self.column
        if column.precision:
            steps = np.rint((raw - column.offset) / column.precision)
            raw = steps * column.precision + column.offset
        elif column.precision is not None and column.atoms:
            return self._on_atoms(raw, 0.5 * (column.resolution or 0.0))
        return raw if column.decimals is None else np.round(raw, column.decimals)

    def recorded(self, cells: Array) -> Array:
        return self._raw(self._event(cells))

    def write(self, cells: Array) -> Series:
        return self.decode(self._event(cells), ~np.isnan(cells))

    def _on_atoms(self, raw: Array, reach: float) -> Array:
        """Exactly the nearest spike, for numbers that are no further from it than ``reach``."""
        atoms = np.array(sorted(self.column.atoms))
        nearest = atoms[np.searchsorted((atoms[1:] + atoms[:-1]) / 2, raw)]
        return np.where(np.abs(raw - nearest) <= reach, nearest, raw)

    @property
    def range(self) -> tuple[float, float]:
        low, high = self.column.range if self._far is None else self._far.ends
        return (
            -np.inf if low is None else (low - self.shift) / self.scale,
            np.inf if high is None else (high - self.shift) / self.scale,
        )

    def settle(self, value: Array) -> Array:
        if self._far is not None:
            near = self._far.settle(value * self.scale + self.shift)
            return self._event(self._round(self._far.raw(near)))
        raw = self._round(np.clip(value, *self.range) * self.scale + self.shift)
        raw = self._on_atoms(raw, np.inf) if self.column.only_atoms else raw
        return (raw - self.shift) / self.scale

    def _raw(self, value: Array) -> Array:
        return np.clip(self._round(self._unrounded(value)), *self.column.bounds) + 0.0

    def _decode(self, value: Array, known: Array) -> Series:
        return _as_dtype(self._raw(value), known, self.column)


class _Written(_Numbers):
    """Numbers in words, which are written back as they came."""

    def _decode(self, value: Array, known: Array) -> Series:
        return written_cells(self.column.parse, self._raw(value), self.column.dtype)


class _Dates(_Numbers):
    def _decode(self, value: Array, known: Array) -> Series:
        step = self.column.precision or 1 / _DAY_US
        ticks = np.rint(self._unrounded(value) / step).astype("int64")
        stamps: Series = pd.Series((ticks * round(step * _DAY_US)).astype("datetime64[us]"))
        form = writing_of(self.column.format).replace("%z", "+00:00")
        if self.column.format == "date":
            return stamps.dt.date.astype(object)
        if self.column.format == "utc":
            return stamps.dt.tz_localize("UTC")
        if form:
            return write_dates(stamps, form).astype(self.column.dtype)
        if not self.column.dtype.startswith("datetime64"):
            return stamps
        zoned = "," in self.column.dtype
        return (stamps.dt.tz_localize("UTC") if zoned else stamps).astype(self.column.dtype)


def _outside(raw: Array, bounds: tuple[float | None, float | None]) -> Array:
    low, high = bounds
    return (raw < (-np.inf if low is None else low)) | (raw > (np.inf if high is None else high))


# ------------------------------------------------------------------------------------------- levels


class _Levels(Cells):
    @property
    def range(self) -> tuple[float, float]:
        return -np.inf, np.inf

    def settle(self, value: Array) -> Array:
        return value

    @property
    def variable(self) -> Variable:
        kind: Literal["ordered", "category"] = (
            "ordered" if self.column.type == "ordered" else "category"
        )
        return Variable(
            str(self.column.name), kind, cardinality=len(self.column.levels), unit=self.column.unit
        )

    def encode(self, series: Series) -> Encoding:
        column = self.column
        codes = {text_of(level): code for code, level in enumerate(column.levels)}
        if column.pooled:
            codes |= dict.fromkeys(map(text_of, column.pooled), codes[RARE])
        truths: dict[bool | None, int] = {
            truth: codes[text_of(level)] for truth, level in truths_of(column.levels).items()
        }
        cells, known = level_cells(merged(blank(series, column.missing), column.merge))
        # by text, so that 1, 1.0 and "1" agree whatever type the rest of the batch gave their
        # column
        code = map_distinct(
            pd.Series(cells, dtype=object),
            # where a column can only be yes or no, it may say so in any words
            lambda value: codes.get(text_of(value), truths.get(truth_of(value), -1)),
            -1,
            "int64",
        )
        observed = known & (code >= 0)
        return Encoding(
            np.where(observed, code, 0).astype("float64"),
            observed,
            known & (code < 0),
            self._log_share(cells) if self.pools else None,
        )

    def _log_share(self, cells: Array) -> Array:
        """log p of a rare value among those that share its level; 0 of any other value."""
        counts = np.asarray(self.column.pooled_counts)
        logs = np.log(counts / counts.sum())
        share = dict(zip(map(text_of, self.column.pooled), logs.tolist(), strict=True))
        return map_distinct(
            pd.Series(cells, dtype=object),
            lambda value: share.get(text_of(value), 0.0),
            0.0,
            "float64",
        )

    def encode_plain(self, cells: Array) -> Encoding:
        return self.encode(pd.Series(cells, dtype=object))

    def recorded(self, cells: Array) -> Array:
        return cells

    def write(self, cells: Array) -> Series:
        column = self.column
        levels = {text_of(level): level for level in (*column.levels, *column.pooled)}
        raw = map_distinct(
            pd.Series(cells, dtype=object),
            lambda text: levels.get(text, text),
            column.levels[0],  # where it is missing, until it is masked
            object,
        )
        known = np.asarray(pd.notna(cells))
        series = _as_dtype(raw, known, column)
        return series if known.all() else series.mask(~known)

    def _decode(self, value: Array, known: Array) -> Series:
        raw = self._raw(value)[0]
        return _as_dtype(raw, known, self.column)

    def _raw(self, value: Array) -> tuple[Array, Array]:
        """The raw values, the commonest of those that share a level, and which cells are such."""
        column = self.column
        raw = [
            column.pooled[0] if column.pooled and level == RARE else level
            for level in column.levels
        ]
        codes = np.clip(np.rint(value), 0, len(raw) - 1).astype("int64")
        table = np.empty(len(raw), dtype=object)
        table[:] = raw
        shared = bool(column.pooled) & (codes == _place(column.levels, RARE))
        return table[codes], shared

    def _draw(self, value: Array, known: Array, uniform: Array, asked: Sequence[Any]) -> Series:
        raw, shared = self._raw(np.where(known, value, 0.0))
        members = np.empty(len(self.column.rare), dtype=object)
        members[:] = self.column.rare
        total = np.cumsum(self._wanted(asked))
        place = np.searchsorted(total, uniform[shared] * total[-1], side="right")
        raw[shared] = members[np.minimum(place, len(members) - 1)]
        series = _as_dtype(raw, known, self.column)
        return series if known.all() else series.mask(~known)

    def _wanted(self, asked: Sequence[Any]) -> Array:
        """How often each rare value counts: those ``asked`` for alone, where some are named."""
        held_out = [1.0] * len(self.column.held_out)
        counts = np.array([*self.column.pooled_counts, *held_out])
        texts = set(map(text_of, asked))
        named = np.array([text_of(member) in texts for member in self.column.rare])
        if named.any():
            return np.where(named, counts, 0.0)
        counts[len(self.column.pooled) :] = 0.0  # what counts as never seen is not drawn
        return counts


def _place(levels: Sequence[Any], level: str) -> int:
    """The code of a level; -1 where there is none such."""
    return next((code for code, each in enumerate(levels) if each == level), -1)


# ------------------------------------------------------------------------------------------- dtypes


def _as_dtype(raw: Array, known: Array, column: Column) -> Series:
    """The cells in the dtype that the column had at fit; whole numbers with missing cells become
    float64, booleans object."""
    dtype: Any = column.dtype
    if dtype.startswith(("category[", "ordered[")):
        return pd.Series(raw).astype(_categorical(column))
    plain = np.dtype(dtype) if dtype in _PLAIN else None
    if plain is not None and plain.kind in "iu" and column.numeric:
        info = np.iinfo(plain)
        raw = np.clip(
            raw, float(info.min), np.nextafter(float(info.max), 0) if info.bits == 64 else info.max
        )
    if plain is not None and plain.kind in "iub" and not known.all():
        dtype = "float64" if plain.kind in "iu" else "object"
    return pd.Series(raw).astype(dtype)


_PLAIN = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"bool"}


def _categorical(column: Column) -> pd.CategoricalDtype:
    ordered, _, inner = column.dtype.rstrip("]").partition("[")
    return pd.CategoricalDtype(
        pd.Index(list(column.categories), dtype=inner), ordered=ordered == "ordered"
    )


# -------------------------------------------------------------------------------------- making them


def cells_for(column: Column, **scales: float) -> Cells:
    return _kind_of(column)(column, **scales)


def _kind_of(column: Column) -> type[Cells]:
    if column.type == "date":
        return _Dates
    if not column.numeric:
        return _Levels
    return _Numbers if column.parse is None else _Written


def fit_cells(column: Column, counts: Tally) -> Cells:
    """The cells of a column with shift, scale and eps learned from its tally."""
    if not column.numeric:
        return cells_for(column, eps=_unseen_mass(counts))
    inside = ~_outside(counts.values, column.bounds)
    if column.is_date:  # a date that stands for "none" would stretch the scale by millennia
        usual = inside & ~np.isin(counts.values, column.atoms)
        inside = usual if usual.any() else inside
    shift, scale = _moments(counts.values[inside], counts.counts[inside])
    return cells_for(
        column, shift=shift, scale=scale, eps=0.0 if column.bounds == (None, None) else UNSEEN_MASS
    )


def with_late_codes(cells: Cells, column: Column) -> Cells:
    """The cells of a column of numbers, some of whose codes only rows have that did not teach."""
    if not column.held_out:
        return cells
    return dataclasses.replace(cells, column=column, eps=max(cells.eps, UNSEEN_MASS))


def recounted(cells: Cells, series: Series, weight: Array) -> Cells:
    """The cells, whose rare values count as often as they occur in this column; values that it
    alone has are kept apart."""
    column = cells.column
    series = merged(blank(series, column.missing), column.merge)
    found = tally(*level_cells(series), weight)
    rows = dict(zip(map(text_of, found.values.tolist()), found.counts.tolist(), strict=True))
    counts = [
        max(rows.get(text_of(value), 0.0), before)
        for value, before in zip(column.pooled, column.pooled_counts, strict=True)
    ]
    known = set(map(text_of, (*column.levels, *column.pooled)))
    late = tuple(value for value in found.values.tolist() if text_of(value) not in known)
    new = dataclasses.replace(column, pooled_counts=tuple(counts), held_out=late)
    return dataclasses.replace(cells, column=new)


def _unseen_mass(counts: Tally) -> float:
    """Good and Turing: the mass of what was never seen is about the share of what was seen once;
    kept within (0, 1/2]."""
    once = float(counts.counts[counts.counts <= 1].sum())
    return min(0.5, (once + 1) / (counts.observed + 2))


def _moments(values: Array, weight: Array) -> tuple[float, float]:
    """Weighted mean and standard deviation; 1 in place of a deviation that is nothing but
    rounding."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else 0.0), 1.0
    top = float(np.abs(values).max())
    unit = values / top
    share = weight / weight.sum()
    mean = float((share * unit).sum())
    deviation = float(np.sqrt((share * (unit - mean) ** 2).sum()))
    return mean * top, deviation * top if deviation > 8 * np.finfo("float64").eps else 1.0

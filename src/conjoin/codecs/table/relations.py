"""Exact relations between columns: what they say, which rows break them, and the cells that follow
from others.

    linear       y = c_0 + sum_j c_j x_j, up to the rounding of y: gross = 1.2 net, total = a + b
    difference   end = start + d, where d varies far less than start: stays of a few days
    lookup       a column that has one value for each value of another: city and country

A linear relation makes p(y | x) a point mass, so y leaves the space of the density: p(x, y) =
p(x) 1[y = f(x)]. A difference changes coordinates: (start, end) -> (start, d), whose Jacobian is 1.
A lookup leaves both columns in the space, so that each tells of the other where one is missing;
what is decoded keeps to it.

A row that breaks a relation has the probability of the rows of the fit that did: (broken + 1) /
(rows + 2), as values that were never seen have theirs. A row that lacks a cell breaks nothing.

Columns are *plain* here: numbers float64 (dates are days), NaN where missing, or texts of levels,
None where missing. Shape letters: B rows.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.guess import level_cells
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import Column
from conjoin.codecs.table.values import blank, map_distinct, merged, text_of, truth_of, truths_of

__all__ = [
    "Difference",
    "Linear",
    "Lookup",
    "Relation",
    "Relations",
    "Settling",
    "Solved",
    "derived",
    "plain",
]

JSON = dict[str, Any]
Array = NDArray[Any]
Name = Any
Plain = dict[Name, Array]
Record = Callable[[Name, Array], Array]  # numbers of a column as it was recorded


class Settling(NamedTuple):
    """By what filled cells are made to keep relations: ``drawn``, the rows as a density completed
    them; ``record(name, numbers)``, which rounds as a column was recorded; ``uniform`` (B,),
    numbers between 0 and 1 by which one of several keys is drawn, None for the most frequent;
    ``rows_of(name)``, how often each value of a column of levels was seen, by its text."""

    drawn: Plain
    record: Record
    uniform: Array | None = None
    rows_of: Callable[[Name], Mapping[str, float]] = lambda name: {}


LEAST_ROWS = 1e-6  # that a key counts of which no number of rows is known
FLOAT_ROUNDING = 1e-9  # of the size of the terms, by which sums of float64 may differ


def plain(column: Column, series: Any) -> Array:
    """The cells of a column (B,): numbers with NaN, or texts with None, where missing."""
    series = blank(series, column.missing)
    if column.numeric:
        return numbers_of(column, series)[0]
    return in_own_words(column, texts(level_cells(merged(series, column.merge))[0]))


def texts(cells: Any) -> Array:
    """(B,) cells as texts; None where missing."""
    return map_distinct(pd.Series(cells, dtype=object), text_of, None, object)


def in_own_words(column: Column, cells: Array) -> Array:
    """(B,) texts of levels as the column of the fit has them: where it can only be yes or no, 1,
    "TRUE" and "yes" are the same."""
    truths = {truth: text_of(level) for truth, level in truths_of(column.levels).items()}
    if not truths:
        return cells
    known = set(truths.values())

    def own(text: str) -> str:
        truth = truth_of(text)
        return text if text in known or truth is None else truths[truth]

    return map_distinct(pd.Series(cells, dtype=object), own, None, object)


def missing(cells: Array) -> Array:
    """(B,) bool."""
    return np.asarray(pd.isna(cells))


@dataclasses.dataclass(frozen=True)
class Relation(abc.ABC):
    """``name`` follows from the columns ``of``; ``broken`` of the ``rows`` of the fit in which all
    are known break it."""

    name: Name
    of: tuple[Name, ...]
    rows: int = 0
    broken: int = 0

    kind: ClassVar[str]

    @property
    def names(self) -> tuple[Name, ...]:
        return (self.name, *self.of)

    @property
    @abc.abstractmethod
    def sound(self) -> bool:
        """Whether its parts fit together."""

    @property
    @abc.abstractmethod
    def rule(self) -> str:
        """What ``name`` is, in words: ``1.2 times net``."""

    @abc.abstractmethod
    def holds(self, cells: Plain) -> Array:
        """(B,) bool; where a cell is missing it means nothing."""

    @abc.abstractmethod
    def usual(self, cells: Plain) -> Array:
        """(B,) bool: where it holds as it did in nearly all rows of the fit."""

    @abc.abstractmethod
    def value(self, cells: Plain) -> Array:
        """(B,) what ``name`` is by the other columns; missing where they don't say."""

    @abc.abstractmethod
    def solve(self, cells: Plain) -> dict[Name, tuple[Array, float]]:
        """Of each column that the others determine: its cells (B,), and log |d name / d column|
        where it follows from ``name``."""

    @abc.abstractmethod
    def settle(self, cells: Plain, filled: Plain, how: Settling) -> Plain:
        """The columns that change so that ``filled`` cells (B,) keep the relation with known
        ones."""

    @abc.abstractmethod
    def reached(self, known: set[Name]) -> set[Name]:
        """The columns that follow where these are known."""

    @abc.abstractmethod
    def why(self, cells: Plain, row: int) -> str:
        """What is wrong with a row that breaks it."""

    @property
    @abc.abstractmethod
    def needed(self) -> str:
        """Which columns must be told for rows to be drawn."""

    def checked(self, cells: Plain) -> tuple[Array, Array]:
        """(B,) whether all cells are known, and whether the row then breaks the relation."""
        known = ~np.logical_or.reduce([missing(cells[name]) for name in self.names])
        with np.errstate(all="ignore"):  # of numbers too large to be added
            return known, known & ~self.holds(cells)

    def counted(self, cells: Plain, weight: Array) -> Self:
        """With the numbers of rows, each ``weight`` (B,), that it was seen in and that break it."""
        known, breaks = (round(float(weight[which].sum())) for which in self.checked(cells))
        return dataclasses.replace(self, rows=known, broken=breaks)

    @property
    def eps(self) -> float:
        """The probability of a row that breaks it."""
        return (self.broken + 1) / (self.rows + 2)

    @property
    def notice(self) -> str:
        """What is assumed, and how to switch it off."""
        seen = (
            f"all {self.rows:,}" if not self.broken else f"all but {self.broken:,} of {self.rows:,}"
        )
        return (
            f"Column {self.name!r} is {self.rule} in {seen} rows looked at: answers "
            "keep to it, and a row that breaks it is unfamiliar. If that is wrong, say "
            f"types={{{self.name!r}: {{'relation': 'none'}}}}."
        )

    def to_json(self) -> JSON:
        names = [field.name for field in dataclasses.fields(self)]
        return {"kind": self.kind} | {name: _json(getattr(self, name)) for name in names}


def _json(value: Any) -> Any:
    if isinstance(value, Column):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def _added(constant: float, terms: list[Array]) -> Array:
    return np.asarray(constant + np.sum(terms, axis=0))


@dataclasses.dataclass(frozen=True)
class Linear(Relation):
    """y = constant + sum of factors times columns, within ``tolerance`` (half a step of y)."""

    factors: tuple[float, ...] = ()
    constant: float = 0.0
    tolerance: float = 0.0
    rounding: float = FLOAT_ROUNDING

    kind = "linear"

    @property
    def sound(self) -> bool:
        numbers = np.array([*self.factors, self.constant, self.tolerance, self.rounding])
        some = bool(self.factors) and len(self.factors) == len(self.of)
        return some and bool(np.isfinite(numbers).all()) and 0.0 not in self.factors

    @property
    def rule(self) -> str:
        if len(self.of) == 1 and not self.constant:
            only = self.factors[0]
            return f"equal to {self.of[0]}" if only == 1 else f"{only:.10g} times {self.of[0]}"
        signs = [" - " if factor < 0 else " + " for factor in self.factors]
        terms = [
            str(name) if abs(factor) == 1 else f"{abs(factor):.10g} {name}"
            for name, factor in zip(self.of, self.factors, strict=True)
        ]
        words = "".join(sign + term for sign, term in zip(signs, terms, strict=True))
        words = words.removeprefix(" + ").replace(" - ", "-", words.startswith(" - "))
        end = f" {'-' if self.constant < 0 else '+'} {abs(self.constant):.10g}"
        return words + (end if self.constant else "")

    @property
    def needed(self) -> str:
        return f"all but one of {', '.join(map(repr, self.names))}"

    def why(self, cells: Plain, row: int) -> str:
        return f"{self.name} is not {self.rule}"

    def value(self, cells: Plain) -> Array:
        terms = zip(self.of, self.factors, strict=True)
        return _added(self.constant, [factor * cells[name] for name, factor in terms])

    def open_parts(self, cells: Plain) -> Array:
        """(B, J) bool: the missing columns of a known y, where they are several."""
        gaps = np.stack([missing(cells[name]) for name in self.of], 1)
        several = (gaps.sum(1) > 1) & ~missing(cells[self.name])
        return np.asarray(gaps & several[:, None])

    def rest(self, cells: Plain) -> tuple[Array, Array]:
        """(B,) what the missing columns of y add up to, and by how much they may miss it."""
        known = {name: np.nan_to_num(cells[name]) for name in self.names}
        slack = self.tolerance * (1 + 1e-6) + self.rounding * self._size(known)
        return known[self.name] - self.value(known), slack + self.rounding * abs(known[self.name])

    def reached(self, known: set[Name]) -> set[Name]:
        lost = set(self.names) - known
        return lost if len(lost) == 1 else set()

    def _size(self, cells: Plain) -> Array:
        terms = zip(self.of, self.factors, strict=True)
        return _added(abs(self.constant), [np.abs(factor * cells[name]) for name, factor in terms])

    def holds(self, cells: Plain) -> Array:
        slack = self.tolerance * (1 + 1e-6) + self.rounding * self._size(cells)
        return np.asarray(np.abs(cells[self.name] - self.value(cells)) <= slack)

    def solve(self, cells: Plain) -> dict[Name, tuple[Array, float]]:
        """Each column by all others."""
        rest = cells[self.name] - self.value(cells)
        found = {self.name: (self.value(cells), 0.0)}
        for name, factor in zip(self.of, self.factors, strict=True):
            others = cells[self.name] - self.value(cells | {name: np.zeros(len(rest))})
            found[name] = (others / factor, float(np.log(abs(factor))))
        return found

    def usual(self, cells: Plain) -> Array:
        return self.holds(cells)

    def settle(self, cells: Plain, filled: Plain, how: Settling) -> Plain:
        """The filled parts of a known y change in proportion, so that they make it up; the last of
        them is what is left. Where that can't be, it makes up for all."""
        record = how.record
        parts = [name for name in self.of if filled[name].any()]
        wrong = ~filled[self.name] & ~self.holds(cells)
        if not parts or not wrong.any():
            value = record(self.name, self.value(cells))
            return {self.name: np.where(filled[self.name], value, cells[self.name])}
        factors = dict(zip(self.of, self.factors, strict=True))
        whole = sum(np.where(filled[name], factors[name] * cells[name], 0.0) for name in parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = (whole + cells[self.name] - self.value(cells)) / whole
        times = np.where(np.isfinite(times) & (times >= 0), times, 1.0)
        out: Plain = {}
        for name in parts:
            scaled = record(name, cells[name] * times)
            out[name] = np.where(wrong & filled[name], scaled, cells[name])
        for name in parts:
            last = wrong & filled[name]
            last &= ~np.logical_or.reduce(
                [filled[other] for other in parts[parts.index(name) + 1 :]], initial=False
            )
            rest = self.solve(cells | out)[name][0]
            out[name] = np.where(last, record(name, rest), out[name])
        return out


@dataclasses.dataclass(frozen=True)
class Difference(Relation):
    """end = start + d with ``low`` <= d <= ``high`` in the rows of the fit, and ``typical`` the
    median. ``ordered``: a smaller d breaks it, such as an end before the start. ``column``: what d
    means, as a schema has it."""

    low: float = 0.0
    high: float = 0.0
    typical: float = 0.0
    ordered: bool = True
    unit: str = ""
    column: Any = None

    kind = "difference"

    @property
    def sound(self) -> bool:
        numbers = np.array([self.low, self.high, self.typical])
        whole = len(self.of) == 1 and self.column.name == self.name
        return whole and bool(np.isfinite(numbers).all()) and self.low <= self.high

    @property
    def start(self) -> Name:
        return self.of[0]

    @property
    def needed(self) -> str:
        return f"both {self.start!r} and {self.name!r}"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    @property
    def rule(self) -> str:
        return f"{self.start} + {self.low:.10g} to {self.high:.10g}{self._unit}"

    def apart(self, cells: Plain) -> Array:
        """(B,) d."""
        return np.asarray(cells[self.name] - cells[self.start])

    def value(self, cells: Plain) -> Array:
        """``cells`` hold d in place of the end."""
        return np.asarray(cells[self.start] + np.clip(cells[self.name], self.low, self.high))

    def holds(self, cells: Plain) -> Array:
        slack = FLOAT_ROUNDING * np.abs(cells[self.start])
        return np.asarray((self.apart(cells) >= self.low - slack) | (not self.ordered))

    def usual(self, cells: Plain) -> Array:
        apart = self.apart(cells)
        return np.asarray((apart >= self.low) & (apart <= self.high))

    def why(self, cells: Plain, row: int) -> str:
        apart = self.apart(cells)[row]
        how = f"{abs(apart):.10g}{self._unit} {'before' if apart < 0 else 'after'} {self.start}"
        return f"{self.name} is {how}" + (f", under {self.low:.10g}" if self.low else "")

    def reached(self, known: set[Name]) -> set[Name]:
        return set()

    def solve(self, cells: Plain) -> dict[Name, tuple[Array, float]]:
        """A missing start is as long before the end as usual."""
        return {self.start: (cells[self.name] - self.typical, 0.0)}

    def settle(self, cells: Plain, filled: Plain, how: Settling) -> Plain:
        """The start is as long before a known end as was drawn."""
        open_ = filled[self.start] & ~filled[self.name]
        start = cells[self.name] - self.apart(how.drawn)
        return {self.start: np.where(open_, start, cells[self.start])}


@dataclasses.dataclass(frozen=True)
class Lookup(Relation):
    """``values[i]`` goes with ``keys[i]`` of the column that it follows from, the most frequent key
    first."""

    keys: tuple[Any, ...] = ()
    values: tuple[Any, ...] = ()

    kind = "lookup"

    @property
    def sound(self) -> bool:
        return len(self.of) == 1 and len(self.keys) == len(self.values)

    @functools.cached_property
    def _value_of(self) -> dict[str, Any]:
        return {text_of(key): value for key, value in zip(self.keys, self.values, strict=True)}

    @functools.cached_property
    def _keys_of(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for key, value in zip(self.keys, self.values, strict=True):
            found.setdefault(text_of(value), []).append(key)
        return found

    def keys_of(self, values: Collection[str]) -> list[Any]:
        """The keys that go with one of these values, which are texts."""
        return [key for text in values for key in self._keys_of.get(text, [])]

    @property
    def rule(self) -> str:
        return f"determined by {self.of[0]} ({len(self.keys):,} values)"

    @property
    def needed(self) -> str:
        return repr(self.of[0])

    def value(self, cells: Plain) -> Array:
        return _mapped(cells[self.of[0]], self._value_of)

    def holds(self, cells: Plain) -> Array:
        """A key that the fit has not seen breaks nothing."""
        wanted = texts(self.value(cells))
        return np.asarray(missing(wanted) | (wanted == texts(cells[self.name])))

    def reached(self, known: set[Name]) -> set[Name]:
        base = self.of[0]
        back = {base} if self.name in known and len(self._keys_of) == len(self.keys) else set()
        return back | ({self.name} if base in known else set())

    def why(self, cells: Plain, row: int) -> str:
        key = text_of(cells[self.of[0]][row])
        return (
            f"{self.name} {text_of(cells[self.name][row])} does not go with {self.of[0]} {key}, "
            f"of which it is {text_of(self._value_of[key])}"
        )

    def solve(self, cells: Plain) -> dict[Name, tuple[Array, float]]:
        """Also a missing key, where one only has the value."""
        only = {text: keys[0] for text, keys in self._keys_of.items() if len(keys) == 1}
        back = _mapped(cells[self.name], only)
        return {self.name: (self.value(cells), 0.0), self.of[0]: (back, 0.0)}

    def usual(self, cells: Plain) -> Array:
        return self.holds(cells)

    def settle(self, cells: Plain, filled: Plain, how: Settling) -> Plain:
        """A filled key that does not go with a known value gives way to one that does, by how often
        each of these was seen."""
        base = self.of[0]
        wrong = filled[base] & ~filled[self.name] & ~self.holds(cells)
        out = cells[base].copy()
        rows = how.rows_of(base)
        for row in np.flatnonzero(wrong):
            keys = self._keys_of.get(text_of(cells[self.name][row]))
            if keys:
                out[row] = keys[
                    _place(keys, rows, None if how.uniform is None else how.uniform[row])
                ]
        return {base: out}


def _place(keys: Sequence[Any], rows: Mapping[str, float], uniform: float | None) -> int:
    """Which of the keys, the most frequent one first, is drawn by a number between 0 and 1."""
    if uniform is None:
        return 0
    total = np.cumsum([rows.get(text_of(key), 0.0) or LEAST_ROWS for key in keys])
    return min(int(np.searchsorted(total, uniform * total[-1], side="right")), len(keys) - 1)


def _mapped(cells: Array, table: Mapping[str, Any]) -> Array:
    """(B,) the table's value for each cell; None where it has none."""
    return map_distinct(
        pd.Series(cells, dtype=object), lambda cell: table.get(text_of(cell)), None, object
    )


KINDS: dict[str, type[Relation]] = {kind.kind: kind for kind in (Linear, Difference, Lookup)}


class Solved(NamedTuple):
    """``cells`` with what follows from others put in (``where``, (B,) of each column), and d in
    place of the ends of differences; ``breaks`` (B,); ``log_mass`` (B,): log p of keeping or
    breaking what could be checked; ``slopes``: see ``Relation.solve``, by column."""

    cells: Plain
    where: Plain
    breaks: Array
    log_mass: Array
    slopes: dict[Name, Array]


class Relations:
    """Those of one table. ``columns``: what each of its columns means."""

    def __init__(self, relations: Iterable[Relation], columns: Iterable[Column]) -> None:
        order = (Difference, Lookup, Linear)  # in which columns are worked out
        self.each = tuple(sorted(relations, key=lambda one: order.index(type(one))))
        self.columns = {column.name: column for column in columns}
        self.names = tuple(dict.fromkeys(name for one in self.each for name in one.names))

    @classmethod
    def from_json(
        cls,
        data: Iterable[Mapping[str, Any]],
        columns: Iterable[Column],
        measured: Callable[[Column], Column] = lambda column: column,
    ) -> Self:
        """``measured``: what becomes of the column that a difference is. ValueError for a relation
        of a kind, or of columns, that are not there."""
        found = cls([_from_json(each, measured) for each in data], columns)
        lost = [name for name in found.names if name not in found.columns]
        if lost:
            raise ValueError(f"A relation names the column {lost[0]!r}, which is not there.")
        return found

    def to_json(self) -> tuple[JSON, ...]:
        return tuple(one.to_json() for one in self.each)

    def variable(self, column: Column) -> Column:
        """What is modelled at the place of a column: itself, or a difference."""
        one = self.differences.get(column.name)
        return column if one is None else one.column

    def __bool__(self) -> bool:
        return bool(self.each)

    @property
    def differences(self) -> dict[Name, Difference]:
        return {one.name: one for one in self.each if isinstance(one, Difference)}

    @property
    def derived_levels(self) -> set[Name]:
        """The columns that lookups determine."""
        return {one.name for one in self.each if isinstance(one, Lookup)}

    @property
    def sums(self) -> list[Linear]:
        """Those of several columns."""
        return [one for one in self.each if isinstance(one, Linear) and len(one.of) > 1]

    @property
    def derived(self) -> dict[Name, Relation]:
        """The columns that leave the space of the density."""
        return {one.name: one for one in self.each if isinstance(one, Linear)}

    def behind(self, name: Name) -> list[Name]:
        """The columns of the space that must stay as they are for this one to stay."""
        found = [] if name in self.derived else [name]
        for one in self.each:
            if one.name == name:
                found += [base for other in one.of for base in self.behind(other)]
        return list(dict.fromkeys(found))

    def after(self, names: Iterable[Name]) -> list[Name]:
        """The columns that may change when these do."""
        moved = list(names)
        for one in self.each:
            if one.name not in moved and set(one.of) & set(moved):
                moved.append(one.name)
        return [name for name in moved if name not in names]

    def read(self, frame: pd.DataFrame) -> Plain:
        """The columns of the relations, plain; those that the frame lacks are missing."""
        return {name: self._read(frame, self.columns[name]) for name in self.names}

    def _read(self, frame: pd.DataFrame, column: Column) -> Array:
        if column.name in frame:
            return plain(column, frame[column.name])
        nothing = np.full(len(frame), np.nan)
        return nothing if column.numeric else nothing.astype(object)

    def typed(self, name: Name, cells: Array) -> Array:
        """Cells that a relation gave, as plain ones of the column."""
        if self.columns[name].numeric:
            numbers = np.asarray(pd.to_numeric(pd.Series(cells), errors="coerce"), dtype="float64")
            return np.where(np.isfinite(numbers), numbers, np.nan)
        return texts(cells)

    def solve(self, cells: Plain) -> Solved:
        """What follows from what is known of rows, and which of them break a relation."""
        rows = len(next(iter(cells.values())))
        found = Solved(dict(cells), {}, np.zeros(rows, dtype=bool), np.zeros(rows), {})
        for one in self.each:
            known, wrong = one.checked(cells)
            found.breaks[wrong] = True
            found.log_mass[known] += np.where(wrong[known], np.log(one.eps), np.log1p(-one.eps))
        exact = [one for one in self.each if not isinstance(one, Difference)]
        for one in (*exact, *exact):  # twice, as one may follow from another
            self._put(found, one)
        ends = self.differences.values()
        apart = {
            one.name: np.where(one.holds(found.cells), one.apart(found.cells), np.nan)
            for one in ends
        }
        for one in ends:
            self._put(found, one)
        found.cells.update(apart)
        return found

    def _put(self, found: Solved, one: Relation) -> None:
        with np.errstate(all="ignore"):
            followed = one.solve(found.cells)
        for name, (cells, slope) in followed.items():
            cells = self.typed(name, cells)
            new = missing(found.cells[name]) & ~missing(cells)
            if new.any():
                found.cells[name] = np.where(new, cells, found.cells[name])
                found.where[name] = new | found.where.get(name, False)
                found.slopes[name] = found.slopes.get(name, 0.0) + np.where(new, slope, 0.0)

    def why(self, cells: Plain) -> list[str]:
        """What is wrong with each row; "" where it breaks nothing."""
        said: list[list[str]] = [[] for _ in next(iter(cells.values()))]
        for one in self.each:
            for row in np.flatnonzero(one.checked(cells)[1]):
                said[row].append(one.why(cells, int(row)))
        return ["; ".join(parts) for parts in said]

    def decide(
        self,
        frame: pd.DataFrame,
        record: Record,
        held: Collection[Name] = (),
        uniform: Array | None = None,
    ) -> Plain:
        """The columns that follow from others, of decoded rows (which hold d for ends), as they are
        recorded. Where a column is ``held``, the one that it follows from gives way; ``uniform``:
        see ``Settling``."""
        cells = {name: self._read(frame, self.variable(self.columns[name])) for name in self.names}
        found = self._give_way(cells, set(held), uniform)
        for one in self.each:
            values = self.typed(one.name, one.value(cells))
            if isinstance(one, Lookup):
                values = np.where(missing(values), cells[one.name], values)
            elif not missing(values).all():
                values = np.where(missing(values), np.nan, record(one.name, values))
            cells[one.name] = found[one.name] = values
        return found

    def _give_way(self, cells: Plain, held: set[Name], uniform: Array | None) -> Plain:
        found: Plain = {}
        for one in reversed(self.each):
            if isinstance(one, Lookup) and one.name in held:
                base = one.of[0]
                free = {one.name: np.zeros(1, dtype=bool), base: ~missing(cells[one.name])}
                how = Settling(cells, lambda name, numbers: numbers, uniform, self.rows_of)
                values = one.settle(cells, free, how)[base]
                cells[base] = found[base] = self.typed(base, values)
                held.add(base)
        return found

    def implied(self, given: Mapping[Name, Any]) -> dict[Name, Any]:
        """What is given, and for each determined column that is asked for the keys that go with it.
        ValueError where what is asked never goes together."""
        asked = {name: self._in_own_words(name, value) for name, value in given.items()}
        for one in self.each:
            levels = [name for name in one.names if not self.columns[name].numeric]
            # of one value each ``unaskable`` says whether they go together
            both = all(isinstance(asked.get(name), str) for name in one.names)
            if isinstance(one, Lookup) and one.name in asked and len(levels) == 2 and not both:
                keys = one.keys_of(_listed_texts(asked[one.name]))
                asked[one.of[0]] = _both(one, keys, asked)
        return asked

    def _in_own_words(self, name: Name, asked: Any) -> Any:
        """What is asked of a column that is part of a lookup, in the words of the fit."""
        column = self.columns.get(name)
        if column is None or name not in self.names or isinstance(asked, tuple):
            return asked
        words = truths_of(column.levels)
        known = set(map(text_of, words.values()))

        def own(value: Any) -> Any:
            truth = truth_of(value)
            return words[truth] if truth in words and text_of(value) not in known else value

        return type(asked)(map(own, asked)) if isinstance(asked, list | set) else own(asked)

    def unaskable(self, given: Mapping[Name, Any]) -> str:
        """Why conditions on columns can't be met exactly, in a sentence; "" where they can."""
        ranges = {name for name, value in given.items() if isinstance(value, tuple | list | set)}
        points = {name: value for name, value in given.items() if name not in ranges}
        cells = self.read(pd.DataFrame([points])) if points else None
        wrong = "" if cells is None else self.why(cells)[0]
        if wrong:
            return f"given contradicts what holds of all rows: {wrong}."
        solved = {} if cells is None else self.solve(cells).cells
        for name in given:
            one = {**self.derived, **self.differences}.get(name)
            if one is not None and (
                {name, *one.of} & ranges
                or any(missing(solved[each])[0] for each in (name, *one.of))
            ):
                return (
                    f"given asks for {name!r}, which is {one.rule}: give values of {one.needed}, "
                    f"or a condition such as where={f'{name} <= ...'!r}."
                )
        return ""

    def reached(self, names: Iterable[Name]) -> set[Name]:
        """These columns, and those that follow from them."""
        known = set(names)
        for one in (*self.each, *self.each):
            known.update(one.reached(known))
        return known

    def rows_of(self, name: Name) -> dict[str, float]:
        """How often each value of a column of levels was seen, by its text."""
        column = self.columns[name]
        pairs = zip(column.levels, column.counts, strict=False)
        pooled = zip(column.pooled, column.pooled_counts, strict=False)
        return {text_of(value): rows for value, rows in (*pairs, *pooled)}

    def keys_left(self, cells: Plain) -> dict[Name, list[frozenset[str] | None]]:
        """Of each missing key of a lookup, whose value is known, the keys that go with it, as
        texts; None where any may be."""
        left: dict[Name, list[frozenset[str] | None]] = {}
        lookups = [one for one in self.each if isinstance(one, Lookup)]
        for one in (*lookups, *lookups):  # twice, as the value may itself be one that is left
            base = one.of[0]
            open_ = np.flatnonzero(missing(cells[base]))
            found = left.setdefault(base, [None] * len(cells[base]))
            for row in open_:
                value = cells[one.name][row]
                values = left.get(one.name, found)[row] if pd.isna(value) else {text_of(value)}
                if values and (one.name in left or not pd.isna(value)):
                    keys = frozenset(map(text_of, one.keys_of(values)))
                    before = found[row]
                    found[row] = keys if before is None else keys & before or before
        return {name: each for name, each in left.items() if any(each)}

    def settle(self, cells: Plain, filled: Plain, how: Settling) -> Plain:
        """The columns that change so that ``filled`` cells (B,) keep the relations with known
        ones."""
        changed: Plain = {}
        how = how._replace(rows_of=self.rows_of)
        for one in self.each:
            for name, values in one.settle(cells, filled, how).items():
                changed[name] = values
                cells[name] = self.typed(name, values)
        return changed


def _listed_texts(value: Any) -> set[str]:
    return set(map(text_of, value if isinstance(value, list | set | tuple) else [value]))


def _both(one: Lookup, keys: list[Any], asked: Mapping[Name, Any]) -> Any:
    """Those of the keys that are asked for as well."""
    base = one.of[0]
    if base in asked:
        wanted = _listed_texts(asked[base])
        keys = [key for key in keys if text_of(key) in wanted]
    if not keys:
        raise ValueError(
            f"given asks for {one.name!r} {asked[one.name]!r}"
            + (f" and {base!r} {asked[base]!r}, which never go together" if base in asked else "")
            + f": {one.name} is {one.rule}."
        )
    return keys[0] if len(keys) == 1 else keys


def derived(columns: Iterable[Column], relations: Iterable[Relation]) -> list[Column]:
    """The columns, of which those that follow from others have that role."""
    rules = {one.name: one.rule for one in relations if isinstance(one, Linear)}
    return [
        dataclasses.replace(column, role="derived", why=rules[column.name])
        if column.name in rules
        else column
        for column in columns
    ]


def _from_json(data: Mapping[str, Any], measured: Callable[[Column], Column]) -> Relation:
    fields = dict(data)
    kind = KINDS.get(fields.pop("kind", ""))
    if kind is None:
        raise ValueError(f"A relation is of the kind {', '.join(KINDS)}, not {data.get('kind')!r}.")
    if fields.get("column") is not None:
        fields["column"] = measured(Column.from_json(fields["column"]))
    typed: Any = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    try:
        found = kind(**typed)
        sound = found.sound
    except (TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(
            f"The relation of {data.get('name')!r} is damaged: its parts do not fit together."
        )
    return found

"""Inequalities that every drawn row must keep, of two columns or of a column and a constant: ``age
>= years_employed``.

    p(x | g, c) = p(x | g) [c(x)] / P(c | g)        g what ``given`` says, c the constraints

An inequality of a column and a constant narrows ``given`` to a range, so that hardly any draw is
rejected. The other constraints are kept by rejection sampling: rows are drawn given g, and those
that break c are drawn again (J. von Neumann (1951), Various techniques used in connection with
random digits). The result is as exact as the draws given g. The share of rows kept estimates
P(c | g) and is reported. A missing cell breaks no constraint.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.schema import RARE, Column
from conjoin.codecs.table.values import map_distinct, text_of
from conjoin.model.model import Model

__all__ = ["Among", "Between", "Constraint", "Draw", "keep_drawing", "narrowed", "read_constraints"]

# the least share of rows kept, judged once so many rows were drawn
MIN_KEPT_SHARE = 1e-3  # of the drawn rows, under which the constraints are refused
MAX_VAIN_DRAWS = 10_000  # draws without one that keeps the constraints
MIN_DRAWS_AT_ONCE = 8192  # rows drawn at once, where fewer are wanted
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}

# x and y (or None) of the wanted rows that have these numbers
Draw = Callable[[np.ndarray], tuple[pd.DataFrame, Any]]


@dataclasses.dataclass(frozen=True)
class Constraint:
    """``left`` is compared with the column ``right``, or with ``constant``: a number, days, or the
    code of a level."""

    text: str
    left: Column
    sign: str
    right: Column | None = None
    constant: float = np.nan

    def kept(self, frame: pd.DataFrame, y: Any = None) -> np.ndarray:
        """(B,) whether each row keeps it."""
        codes = _codes(self.left, self.right or self.left)
        one = _numbers(self.left, frame[self.left.name], codes)
        other = (
            self.constant
            if self.right is None
            else _numbers(self.right, frame[self.right.name], codes)
        )
        return np.asarray(COMPARE[self.sign](one, other) | np.isnan(one) | np.isnan(other))


@dataclasses.dataclass(frozen=True)
class Among:
    """The column ``name`` has one of the ``values``, which are texts."""

    text: str
    name: Any
    values: frozenset[str]

    def kept(self, frame: pd.DataFrame, y: Any = None) -> np.ndarray:
        """(B,) whether each row keeps it."""
        return map_distinct(
            frame[self.name].astype(object),
            lambda value: text_of(value) in self.values,
            True,
            "bool",
        )


@dataclasses.dataclass(frozen=True)
class Between:
    """A number y lies from ``low`` to ``high``; it may have the name of a column."""

    text: str
    low: float
    high: float

    def kept(self, frame: pd.DataFrame, y: Any = None) -> np.ndarray:
        """(B,) whether each row keeps it."""
        return np.asarray((y >= self.low) & (y <= self.high))


def _codes(*columns: Column) -> dict[str, int]:
    """Every level of the columns, by its text, in order."""
    levels = dict.fromkeys(
        text_of(level) for column in columns for level in (*column.levels, *column.rare)
    )
    return {level: code for code, level in enumerate(levels)}


def _numbers(column: Column, series: Any, codes: dict[str, int]) -> np.ndarray:
    """(B,) the cells as numbers that can be compared; NaN where missing."""
    if column.numeric:
        return numbers_of(column, series)[0]
    return map_distinct(
        series.astype(object), lambda level: codes.get(text_of(level), np.nan), np.nan, "float64"
    )


# ------------------------------------------------------------------------------------------ reading


def read_constraints(model: Model, where: str | Sequence[str]) -> list[Constraint]:
    """The constraints in words such as ``"start <= end"``; ValueError names what can't be read or
    compared."""
    columns = {str(column.name): column for column in model.codec.schema.drawn}
    if model.target is not None:
        levels = () if model.target.labels is None else tuple(model.target.labels)
        columns.setdefault(
            model.target.name,
            Column(model.target.name, "category" if levels else "real", levels=levels),
        )
    return [_read(text, columns) for text in ([where] if isinstance(where, str) else where)]


def _read(text: str, columns: dict[str, Column]) -> Constraint:
    splits = [
        (text[: m.start()].strip(), m[0], text[m.end() :].strip())
        for m in re.finditer("<=|>=|==|<|>", text)
    ]
    named = sorted(splits, key=lambda split: -sum(side in columns for side in (split[0], split[2])))
    left, sign, right = named[0] if named else ("", "", "")
    if left not in columns:
        left, sign, right = right, MIRRORED.get(sign, ""), left
    if left not in columns or not right:
        known = ", ".join(columns)
        raise ValueError(
            f"where takes COLUMN {'|'.join(COMPARE)} COLUMN or CONSTANT, not {text!r}; the "
            f"columns are {known}."
        )
    one = columns[left]
    other = columns.get(right)
    _check_order(text, sign, one, other)
    return (
        Constraint(text, one, sign, other)
        if other
        else Constraint(text, one, sign, constant=_constant(text, one, right))
    )


def _check_order(text: str, sign: str, one: Column, other: Column | None) -> None:
    """ValueError where the two sides can't be compared so."""
    for column in (one, other or one):
        if sign != "==" and not column.has_order:
            raise ValueError(
                f"where asks for {text!r}, but {column.name!r} ({column.type}) has no order: "
                "only == can compare it."
            )
    kinds = [(column.is_date, column.numeric) for column in (one, other or one)]
    ranked = sign != "==" and other is not None and not one.numeric and one.levels != other.levels
    if kinds[0] != kinds[1] or ranked:
        other = other or one
        raise ValueError(
            f"where asks for {text!r}, but {one.name!r} ({one.type}) and {other.name!r} "
            f"({other.type}) can't be compared."
        )


def _constant(text: str, column: Column, word: str) -> float:
    """A constant as a number that can be compared with the cells of ``column``."""
    quoted = not column.numeric or column.is_date or column.parse is not None
    word = word.strip("'\"") if quoted else word
    codes = _codes(column)
    try:
        value = float(_numbers(column, pd.Series([word], dtype=object, name=column.name), codes)[0])
    except ValueError:
        value = np.nan
    if np.isnan(value):
        wanted = (
            f"one of {', '.join(codes)}" if codes else "a date" if column.is_date else "a number"
        )
        raise ValueError(f"where asks for {text!r}, but {word!r} is neither a column nor {wanted}.")
    return value


# ------------------------------------------------------------------------------------------- ranges


def narrowed(
    model: Model, given: dict[Any, Any], constraints: Sequence[Constraint]
) -> dict[Any, Any]:
    """``given`` with the ranges and levels that constraints of a column and a constant leave."""
    for each in constraints:
        column = each.left
        name = each.left.name
        # the range of what follows from other columns is not that of a variable
        plain = name in model.codec.columns and not model.codec.unaskable({name: (None, None)})
        if each.right is not None or not plain:
            continue
        asked = given.get(name, (None, None) if column.numeric else None)
        if not column.numeric and asked is None:
            given = given | {name: _levels_kept(each)}
        elif column.numeric and isinstance(asked, tuple) and len(asked) == 2:
            given = given | {name: _narrower(each, asked)}
    return given


def _levels_kept(each: Constraint) -> list[Any]:
    codes = _codes(each.left)
    kept = [
        level
        for level in _values(each.left)
        if COMPARE[each.sign](codes[text_of(level)], each.constant)
    ]
    if not kept:
        raise ValueError(
            f"No level of {each.left.name!r} keeps {each.text!r}: it has {each.left.choices}."
        )
    return kept


def _values(column: Column) -> list[Any]:
    """The values that a cell can have, rare ones too."""
    alone = [level for level in column.levels if not column.pooled or level != RARE]
    return [*alone, *column.rare]


def _narrower(each: Constraint, asked: tuple[Any, Any]) -> tuple[Any, Any]:
    """The part of the range ``asked`` that keeps the constraint, or a cell more where the constant
    is between two."""
    column = each.left
    end = _end(each)
    low, high = (
        None if old is None else float(_numbers(column, pd.Series([old], name=column.name), {})[0])
        for old in asked
    )
    if each.sign != "<" and each.sign != "<=":
        low = end if low is None else max(low, end)
    if each.sign != ">" and each.sign != ">=":
        high = end if high is None else min(high, end)
    return _raw(column, low), _raw(column, high)


def _end(each: Constraint) -> float:
    """The constant; where it may not be reached and values are recorded in steps, the step before
    it."""
    step = each.left.precision
    value = each.constant
    if (
        each.sign not in ("<", ">")
        or each.left.resolution is None
        or not step
        or not np.isclose(value / step, np.rint(value / step))
    ):
        return value
    return value + (step if each.sign == ">" else -step)


def _raw(column: Column, value: float | None) -> Any:
    return (
        value if value is None or not column.is_date else pd.Timestamp(0) + pd.Timedelta(days=value)
    )


# ---------------------------------------------------------------------------------------- rejection


def keep_drawing(
    draw: Draw, constraints: Sequence[Constraint | Among | Between], n: int, target: str | None
) -> tuple[pd.DataFrame, Any]:
    """``n`` rows (one at least) that keep every constraint, and their y; the frame's
    ``attrs["acceptance"]`` is the share kept.

    Each round draws several candidates for every row that is still missing. Their number follows
    from the share of candidates kept so far. The first that keeps the constraints is taken.
    ValueError where fewer than ``MIN_KEPT_SHARE`` of the rows keep them."""
    frames = []
    labels = []
    places = []
    left = np.arange(n)
    drawn = 0
    kept = 0
    vain = 0
    while len(left):
        copies = int(
            np.clip(
                np.rint(1.5 * (drawn + 2) / (kept + 1)), 1, max(1, MIN_DRAWS_AT_ONCE // len(left))
            )
        )
        rows = np.repeat(left, copies)
        x, y = draw(rows)
        table = x if target is None or target in x else x.assign(**{target: y})
        good = np.logical_and.reduce([each.kept(table, y) for each in constraints])
        drawn = drawn + len(rows)
        kept = kept + int(good.sum())
        vain = 0 if good.any() else vain + len(rows)
        if vain >= MAX_VAIN_DRAWS or (drawn >= MAX_VAIN_DRAWS and kept < MIN_KEPT_SHARE * drawn):
            raise ValueError(_hopeless(constraints, drawn, kept))
        found, first = np.unique(rows[good], return_index=True)
        take = np.flatnonzero(good)[first]
        frames.append(x.iloc[take])
        labels.append(found if y is None else y[take])
        places.append(found)
        left = np.setdiff1d(left, found)
    order = np.argsort(np.concatenate(places))
    X = pd.concat([frame for frame in frames if len(frame)]).iloc[order].reset_index(drop=True)
    X.attrs["acceptance"] = kept / drawn
    return X, None if target is None else np.concatenate(labels)[order]


def _hopeless(constraints: Sequence[Constraint | Among | Between], drawn: int, kept: int) -> str:
    wish = ", ".join(repr(each.text) for each in constraints)
    return (
        f"Of {drawn:,} rows drawn only {kept:,} keep {wish}, under the floor of 1 in "
        f"{round(1 / MIN_KEPT_SHARE):,}: "
        "say more in given, such as a range of the columns compared, or ask for less."
    )

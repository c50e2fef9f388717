"""Relations between columns, found in the rows of a fit.

Linear ones are sought by least squares on a sample: of each pair of columns that go together, and
of each column on those before it that don't depend on one another (modified Gram-Schmidt). The
coefficients are rounded to fractions of small denominators and the relation is checked on all rows.
Differences are sought among dates and among whole numbers, lookups among levels. All but
``MAX_BROKEN_SHARE`` of the rows in which the cells are known must keep a relation, and there must
be too many for chance.

Shape letters: B rows, M rows of the sample, D columns.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.overrides import NO_RELATION
from conjoin.codecs.table.relations import (
    FLOAT_ROUNDING,
    Difference,
    Linear,
    Lookup,
    Plain,
    Relation,
    missing,
)
from conjoin.codecs.table.schema import Column

__all__ = ["find_relations", "relations_of"]

Array = NDArray[Any]
Name = Any

MAX_COLUMNS = 300  # of one kind, the first of them, among which relations are sought
MAX_BROKEN_SHARE = 1e-3  # of the rows; one row of MIN_ROWS_FOR_ONE may always break a relation
MIN_ROWS_FOR_ONE = 200  # rows
MIN_ROWS = 30  # in which all cells of a relation are known
MIN_VALUES = 5  # distinct ones, of a number that follows from others
MAX_TERMS = 8  # columns that a number follows from
MAX_STATED_BROKEN_SHARE = 0.1  # of the rows, that may break what a user states
SAMPLE_ROWS = 256  # rows by which pairs are judged
MIN_CORRELATION = 0.999  # of a pair that may be linear
MAX_STEP_SHARE = 0.1  # of a standard deviation: numbers that are recorded more coarsely are exact
MAX_REST_SHARE = 0.05  # of a standard deviation, that is left of a sum
MIN_TERM_SHARE = 5e-3  # of the deviation of a sum, under which a column has no part in it
LARGEST_SIZE = 1e100  # of numbers, whose squares can be added
LEAST_SIZE = 1e-100
NO_REST = 1e-9  # of a standard deviation, under which nothing is left of a sum
MIN_SAMPLE_SHARE = 0.98  # of a sample, that must keep a relation before all rows are asked
MAX_PAIRS = 1000  # that are fitted
DENOMINATORS = (1, 2, 5, 10, 12, 60, 100, 1000, 10_000, 100_000)
MAX_SUM_DENOMINATOR = 1000  # of the coefficients of several columns
SINGLE_ROUNDING = 1e-6  # as FLOAT_ROUNDING, of columns in float32
MAX_SPREAD_SHARE = 0.2  # of the spread of the start, which a difference may have
MAX_SPREAD_SHARE_OF_NUMBERS = 0.02  # the same of whole numbers, which often go together
MAX_DATES = 30  # columns
SCREEN_ROWS = 1000  # by which lookups are judged at first
MIN_AGREEING_SHARE = 0.97  # of them
MAX_LEVELS = 5_000  # that a lookup has
MAX_NUMBER_LEVELS = 64  # distinct numbers that may go with levels
MIN_EVIDENCE_NATS = 60.0  # by which a lookup must be unlikely among independent columns
MIN_MINORITY_ROWS = 20  # that don't have the commonest value


def relations_of(
    cells: Plain, columns: Sequence[Column], stated: Mapping[Name, Any]
) -> tuple[list[Relation], list[str]]:
    """The relations that a user states, and those found among columns of which nothing is said;
    and what was not searched. ``stated``: {column: factors of others | another column | "none"}.

    Raises ValueError for a statement that the rows contradict."""
    named = {column.name: column for column in columns}
    told = [
        _stated(cells, named, name, says)
        for name, says in stated.items()
        if name in named and says != NO_RELATION
    ]
    _refuse_circles(told)
    taken = {name for one in told for name in one.names} | set(stated)
    free = [one for one in columns if one.name not in taken and not one.is_block]
    return [*told, *find_relations(cells, free)], unsearched(free)


def _stated(cells: Plain, columns: Mapping[Name, Column], name: Name, says: Any) -> Relation:
    factors = says if isinstance(says, Mapping) else {says: 1.0}
    bases = [base for base in factors if base != ""]
    for base in bases:
        if base not in columns or base == name:
            raise ValueError(
                f"Column {name!r} is said to follow from {base!r}, which is not another column "
                f"that is modelled; say {{column: factor}}, the name of a column, or "
                f"{NO_RELATION!r}."
            )
    numeric = [columns[each].numeric for each in (name, *bases)]
    if isinstance(says, Mapping) and not (all(numeric) and bases):
        raise ValueError(f"Column {name!r} is said to be a sum: all of its columns are numbers.")
    if isinstance(says, Mapping):
        one: Relation | None = linear_of(cells, columns, name, says)
    else:
        one = (
            difference_of(cells, columns, says, name)
            if all(numeric)
            else lookup_of(cells, says, name)
        )
    if one is None or one.rows < 1 or one.broken > MAX_STATED_BROKEN_SHARE * one.rows:
        broken = "no row tells" if one is None else f"{one.broken:,} of {one.rows:,} rows break it"
        raise ValueError(f"Column {name!r} is said to follow from {bases}, but {broken}.")
    return one


def _refuse_circles(told: Sequence[Relation]) -> None:
    names = {one.name for one in told}
    for one in told:
        both = [base for base in one.of if base in names]
        if both and not isinstance(one, Lookup):
            raise ValueError(
                f"Column {one.name!r} is said to follow from {both[0]!r}, which is itself said to "
                "follow from others: state it by those."
            )


def find_relations(cells: Plain, columns: Sequence[Column]) -> list[Relation]:
    """The relations between plain columns (B,) of a table."""
    with np.errstate(all="ignore"):  # of numbers beyond what can be squared
        return _found(cells, columns)


def _found(cells: Plain, columns: Sequence[Column]) -> list[Relation]:
    numbers = {column.name: column for column in columns if column.numeric}
    linear = _linear(cells, dict(itertools.islice(numbers.items(), MAX_COLUMNS)))
    gone = {one.name for one in linear}
    apart = _differences(cells, [one for name, one in numbers.items() if name not in gone])
    gone |= {one.name for one in apart}
    return [*linear, *apart, *_lookups(cells, [c for c in columns if c.name not in gone])]


def unsearched(columns: Sequence[Column]) -> list[str]:
    """What was not looked for, in sentences."""
    numbers = sum(column.numeric for column in columns)
    most = max(numbers, len(columns) - numbers)
    return [
        f"Relations between columns were looked for among the first {MAX_COLUMNS} columns of "
        f"numbers and the first {MAX_COLUMNS} of levels only."
    ] * (most > MAX_COLUMNS)


def enough(rows: int, broken: int) -> bool:
    """Whether so few rows break a relation that it is one."""
    return broken <= max(int(MAX_BROKEN_SHARE * rows), int(rows >= MIN_ROWS_FOR_ONE))


# ------------------------------------------------------------------------------------------- linear


def _linear(cells: Plain, columns: Mapping[Name, Column]) -> list[Linear]:
    varied = [name for name in columns if _varies(cells[name])]
    found: list[Linear] = []
    for name, of in itertools.chain(_pairs(cells, varied), _sums(cells, varied, found)):
        if {one.name for one in found}.isdisjoint((name, *of)):
            bases = {base for one in found for base in one.of}
            relation = _fitted(cells, columns, name, of, bases)
            found += [] if relation is None else [relation]
    return found


def _varies(cells: Array) -> bool:
    known = cells[~missing(cells)]
    if not len(known) or not LEAST_SIZE < np.abs(known).max() < LARGEST_SIZE:
        return False
    return len(np.unique(known[:SAMPLE_ROWS])) >= MIN_VALUES or len(np.unique(known)) >= MIN_VALUES


def _pairs(cells: Plain, names: Sequence[Name]) -> Iterator[tuple[Name, tuple[Name, ...]]]:
    """Pairs that are nearly linear in a sample, the closest first."""
    if len(names) < 2:
        return
    table = np.stack([cells[name] for name in names], 1)
    table = table[_sample(np.arange(len(table)), SAMPLE_ROWS, 0)]
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = (table - np.nanmean(table, 0)) / np.nanstd(table, 0)
    value = np.where(known & np.isfinite(scaled), scaled, 0.0)
    mask = known.astype("float64")
    rows = np.maximum(mask.T @ mask, 1.0)
    mean = value.T @ mask / rows
    spread = (value**2).T @ mask / rows - mean**2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (value.T @ value / rows - mean * mean.T) / np.sqrt(spread * spread.T)
    near = np.argwhere(np.triu(np.abs(found) > MIN_CORRELATION, 1) & (rows >= MIN_ROWS / 2))
    order = np.argsort(-np.abs(found[tuple(near.T)]).round(9), kind="stable")[:MAX_PAIRS]
    yield from ((names[second], (names[first],)) for first, second in near[order])


def _sample(rows: Array, most: int, seed: int) -> Array:
    """So many of the rows, at most."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _sums(
    cells: Plain, names: Sequence[Name], found: list[Linear]
) -> Iterator[tuple[Name, tuple[Name, ...]]]:
    """Columns that nearly follow from columns before them, in two samples: a row that breaks a sum
    may spoil one. ``found`` tells which of them were taken."""
    for seed in range(2):
        left = [name for name in names if name not in {one.name for one in found}]
        left, rows = _complete(cells, left)
        if len(left) < 3:
            return
        some = _sample(rows, 4 * len(left) + 120, seed)
        table = np.stack([cells[name][some] for name in left], 1)
        spread = table.std(0)
        table = (table - table.mean(0)) / np.where(spread > 0, spread, 1.0)
        yield from _dependent(table, left, found)


def _complete(cells: Plain, names: list[Name]) -> tuple[list[Name], Array]:
    """The columns, without those that lack most cells, and the rows that are complete in them."""
    gaps = {name: missing(cells[name]) for name in names}
    names = sorted(names, key=lambda name: gaps[name].sum())
    while len(names) > 2:
        rows = np.flatnonzero(~np.logical_or.reduce([gaps[name] for name in names]))
        if len(rows) >= max(MIN_ROWS, 2 * len(names) + 20):
            return [name for name in cells if name in set(names)], rows
        names = names[:-1] if gaps[names[-1]].any() else []
    return [], np.zeros(0, dtype="int64")


def _dependent(
    table: Array, names: list[Name], found: list[Linear]
) -> Iterator[tuple[Name, tuple[Name, ...]]]:
    """Columns of ``table`` (M, D), standardised, of which little is left beside those before."""
    basis = [0]
    axes = np.linalg.qr(table[:, basis])[0]
    for place in range(1, len(names)):
        column = table[:, place]
        rest = column - axes @ (axes.T @ column)
        rest -= axes @ (axes.T @ rest)
        if rest.std() <= MAX_REST_SHARE:
            # the axes span what the basis does, so this is least squares
            share = np.linalg.solve(axes.T @ table[:, basis], axes.T @ column)
            of = [at for at, part in zip(basis, share, strict=True) if abs(part) > MIN_TERM_SHARE]
            before = len(found)
            if 2 <= len(of) <= MAX_TERMS:
                yield names[place], tuple(names[at] for at in of)
            if len(found) > before:  # one of them follows from the others, which span the same
                basis = [at for at in (*basis, place) if names[at] != found[-1].name]
                continue
        length = float(np.linalg.norm(rest))
        if length > NO_REST * len(table) ** 0.5:
            basis.append(place)
            axes = np.concatenate([axes, rest[:, None] / length], 1)


def _fitted(
    cells: Plain,
    columns: Mapping[Name, Column],
    name: Name,
    of: tuple[Name, ...],
    bases: set[Name],
) -> Linear | None:
    """The relation between these columns, as a rule for that one of them for which all rows keep
    it: preferably a sum without minus, or the larger of two. ``bases`` may not be worked out."""
    names = (name, *of)
    rows = np.flatnonzero(~np.logical_or.reduce([missing(cells[each]) for each in names]))
    if len(rows) < MIN_ROWS + 10 * (len(of) - 1):
        return None
    some = rows[_sample(np.arange(len(rows)), SAMPLE_ROWS, 0)]
    table = np.stack([cells[each][some] for each in names], 1)
    half = np.array([_half_step(cells[each][rows], columns[each]) for each in names])
    rounding = max(_rounding(columns[each]) for each in names)
    for weights, constant in _candidates(table):
        off = np.abs(table @ weights - constant)
        slack = (half * np.abs(weights)).max() + rounding * np.abs(table * weights).sum(1)
        if (off <= slack * (1 + 1e-6)).mean() < MIN_SAMPLE_SHARE:
            continue
        for place in _orders(weights, names, bases):
            rule = _rule(names, weights, constant, place, half[place], rounding).counted(cells)
            if enough(rule.rows, rule.broken):
                return rule
    return None


def _half_step(known: Array, column: Column) -> float:
    """By which a rounded number may be off; nothing where its steps are wide beside its spread, as
    chance would then be enough."""
    step = column.precision or 0.0
    return step / 2 if step <= MAX_STEP_SHARE * known.std() else 0.0


def _rounding(column: Column) -> float:
    return SINGLE_ROUNDING if column.dtype in ("float32", "float16") else FLOAT_ROUNDING


def _candidates(table: Array) -> Iterator[tuple[Array, float]]:
    """Weights (1, -factors) and constants with weights . row = constant, the simplest first.
    ``table`` (M, 1 + k): the column that follows, and the others."""
    middle = table.mean(0)
    factors = np.linalg.lstsq(table[:, 1:] - middle[1:], table[:, 0] - middle[0], rcond=None)[0]
    for most in DENOMINATORS:
        if len(factors) > 1 and most > MAX_SUM_DENOMINATOR:
            return
        simple = np.array([_fraction(factor, most) for factor in factors])
        if (simple != 0).all():
            weights = np.concatenate([[1.0], -simple])
            rest = float(np.median(table @ weights))
            yield weights, 0.0
            yield weights, _fraction(rest, most)
    if len(factors) == 1:
        ratio = float(table[:, 0] @ table[:, 1] / max(table[:, 1] @ table[:, 1], 1e-300))
        yield np.array([1.0, -ratio]), 0.0
        yield np.array([1.0, -factors[0]]), float(middle @ [1.0, -factors[0]])


def _fraction(value: float, most: int) -> float:
    if not np.isfinite(value):
        return 0.0
    return float(Fraction(float(value)).limit_denominator(most))


def _orders(weights: Array, names: Sequence[Name], bases: set[Name]) -> list[int]:
    """The columns that may follow from the others, the best first."""

    def minus(place: int) -> int:
        return int((np.delete(-weights / weights[place], place) < 0).sum())

    def small(place: int) -> bool:
        return len(names) == 2 and bool(abs(weights[place]) > abs(weights).min() * (1 + 1e-9))

    places = [place for place, name in enumerate(names) if name not in bases]
    return sorted(places, key=lambda place: (minus(place), small(place)))


def _rule(
    names: Sequence[Name],
    weights: Array,
    constant: float,
    place: int,
    half: float,
    rounding: float,
) -> Linear:
    others = [at for at in range(len(names)) if at != place]
    return Linear(
        names[place],
        tuple(names[at] for at in others),
        factors=tuple(float(-weights[at] / weights[place]) for at in others),
        constant=float(constant / weights[place]) + 0.0,
        tolerance=float(half),
        rounding=rounding,
    )


def linear_of(
    cells: Plain, columns: Mapping[Name, Column], name: Name, factors: Mapping[Name, float]
) -> Linear:
    """The relation that a user states, whose constant is under the name ""."""
    named = {base: float(factor) for base, factor in factors.items() if base != ""}
    return Linear(
        name,
        tuple(named),
        factors=tuple(named.values()),
        constant=float(factors.get("", 0.0)),
        tolerance=(columns[name].precision or 0.0) / 2,
        rounding=max(_rounding(columns[each]) for each in (name, *named)),
    ).counted(cells)


# -------------------------------------------------------------------------------------- differences


def _differences(cells: Plain, columns: Sequence[Column]) -> list[Difference]:
    dates = [column.name for column in columns if column.type == "date"][:MAX_DATES]
    whole = [column.name for column in columns if column.type == "integer"][:MAX_DATES]
    tried = [
        (_spread_share(cells, *pair), pair, most)
        for names, most in ((dates, MAX_SPREAD_SHARE), (whole, MAX_SPREAD_SHARE_OF_NUMBERS))
        for pair in itertools.combinations(names, 2)
    ]
    named = {column.name: column for column in columns}
    found: list[Difference] = []
    for share, pair, most in sorted(tried, key=lambda each: each[0]):
        one = difference_of(cells, named, *pair) if share <= most else None
        ends = {each.name for each in found}
        starts = {each.start for each in found}
        if one and one.ordered and not ends & {one.name, one.start} and one.name not in starts:
            found.append(one)
    return found


def _spread_share(cells: Plain, first: Name, second: Name) -> float:
    """Of the difference beside the first column: the middle nine tenths of each."""
    apart = cells[second] - cells[first]
    known = ~np.isnan(apart)
    if known.sum() < MIN_ROWS:
        return np.inf
    widths = [np.diff(np.quantile(each[known], (0.05, 0.95)))[0] for each in (apart, cells[first])]
    return float(widths[0] / widths[1]) if widths[1] > 0 else np.inf


def difference_of(
    cells: Plain, columns: Mapping[Name, Column], first: Name, second: Name
) -> Difference | None:
    """Second less first, or the other way round where that is never negative; None where no row
    tells."""
    apart = cells[second] - cells[first]
    known = apart[~np.isnan(apart)]
    if not len(known):
        return None
    ordered = enough(len(known), int((known < 0).sum()))
    if not ordered and enough(len(known), int((known > 0).sum())):
        return difference_of(cells, columns, second, first)
    inside = known[known >= 0] if ordered else known
    low = float(inside.min())
    recurs = int((inside == low).sum()) >= MIN_VALUES
    return Difference(
        second,
        (first,),
        low=low if recurs or not ordered else 0.0,
        high=float(inside.max()),
        typical=float(np.quantile(inside, 0.5, method="nearest")),
        ordered=ordered,
        unit="days" if columns[second].type == "date" else columns[second].unit,
    ).counted(cells)


# ------------------------------------------------------------------------------------------ lookups


def _lookups(cells: Plain, columns: Sequence[Column]) -> list[Lookup]:
    """For each column that others determine the one of these with the fewest values; of two that
    determine one another the first."""
    levels = _with_levels(cells, columns)
    codes = {column.name: pd.factorize(cells[column.name])[0] for column in levels}
    counts = {name: int(code.max(initial=-1)) + 1 for name, code in codes.items()}
    names = list(codes)
    best: dict[Name, tuple[int, Lookup]] = {}
    for base, name in _screened(names, codes):
        later = counts[base] > counts[name] or names.index(base) < names.index(name)
        known = name in best and best[name][0] <= counts[base]
        if known or not later or counts[base] < counts[name]:
            continue
        if _evident(codes[base], codes[name], counts[base]):
            best[name] = counts[base], lookup_of(cells, base, name)
    return [one for _, one in sorted(best.values(), key=lambda each: -each[0])]


def _with_levels(cells: Plain, columns: Sequence[Column]) -> Iterator[Column]:
    levels = [column for column in columns if not column.numeric][:MAX_COLUMNS]
    numbers = [column for column in columns if column.numeric and column.type != "date"]
    for column in (*levels, *numbers[:MAX_COLUMNS]):
        known = cells[column.name][~missing(cells[column.name])]
        most = MAX_NUMBER_LEVELS if column.numeric else MAX_LEVELS
        few = len(pd.unique(known[:SCREEN_ROWS])) <= most and len(pd.unique(known)) <= most
        if few and len(known) >= MIN_ROWS:
            yield column


def _screened(names: list[Name], codes: Mapping[Name, Array]) -> Iterator[tuple[Name, Name]]:
    """Pairs of which in a sample nearly every row agrees with the first of its base's value."""
    if len(names) < 2:
        return
    table = np.stack([codes[name] for name in names], 1)
    table = table[_sample(np.arange(len(table)), SCREEN_ROWS, 0)]
    for place, base in enumerate(names):
        rows = table[table[:, place] >= 0]
        if not len(rows):
            continue
        _, first, which = np.unique(rows[:, place], return_index=True, return_inverse=True)
        model = rows[first[which.reshape(-1)]]
        agrees = ((rows == model) | (rows < 0) | (model < 0)).mean(0) >= MIN_AGREEING_SHARE
        yield from ((base, names[at]) for at in np.flatnonzero(agrees) if at != place)


def _evident(base: Array, code: Array, count: int) -> bool:
    """Whether one determines the other by more than chance. Rows after the first of each value of
    the base agree among independent columns with the probability sum_v p_v^2. The commonest of
    several values of the base is left out of that: it may be where both are nothing."""
    known = (base >= 0) & (code >= 0)
    base = base[known]
    code = code[known]
    if len(base) < MIN_ROWS:
        return False
    width = int(code.max()) + 1
    pair, times = np.unique(base.astype("int64") * width + code, return_counts=True)
    most = np.zeros(count, dtype="int64")
    np.maximum.at(most, pair // width, times)
    broken = len(base) - int(most.sum())
    minority = len(base) - int(np.bincount(code).max())
    if not enough(len(base), broken) or minority < MIN_MINORITY_ROWS * max(1, broken):
        return False
    sizes = np.bincount(base, minlength=count)
    rest = base != sizes.argmax() if (sizes > 0).sum() > 2 else np.ones(len(base), dtype=bool)
    agreeing = int(rest.sum()) - len(np.unique(base[rest]))
    shares = np.bincount(code[rest]) / rest.sum()
    return bool(-agreeing * np.log((shares**2).sum()) >= MIN_EVIDENCE_NATS)


def lookup_of(cells: Plain, base: Name, name: Name) -> Lookup:
    """The commonest value for each value of the base."""
    frame = pd.DataFrame({"key": cells[base], "value": cells[name]}).dropna()
    pairs = frame.groupby(["key", "value"], sort=False).size()
    pairs = pairs.sort_values(ascending=False, kind="stable").reset_index()
    pairs = pairs.drop_duplicates("key")
    found = Lookup(
        name, (base,), keys=tuple(pairs["key"].tolist()), values=tuple(pairs["value"].tolist())
    )
    return found.counted(cells)

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
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.measure import Code
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
from conjoin.codecs.table.values import text_of

__all__ = ["Related", "find_relations", "related_without_codes", "relations_of"]

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
MIN_TERM_ERRORS = 20.0  # times the largest error of a sum, that a term must vary by
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
    cells: Plain, weight: Array, columns: Sequence[Column], stated: Mapping[Name, Any]
) -> tuple[list[Relation], list[str]]:
    """The relations that a user states, and those found among columns of which nothing is said;
    and what was not searched. ``stated``: {column: factors of others | another column | "none"}.

    Raises ValueError for a statement that the rows contradict."""
    rows = _distinct(cells, weight)
    named = {column.name: column for column in columns}
    told = [
        _stated(rows, named, name, says)
        for name, says in stated.items()
        if name in named and says != NO_RELATION
    ]
    _refuse_circles(told)
    taken = {name for one in told for name in one.names} | set(stated)
    free = [one for one in columns if one.name not in taken and not one.is_block]
    return [*told, *find_relations(rows, free)], unsearched(rows.cells, free)


class Related(NamedTuple):
    """Relations; the plain columns, in which codes such as -999 are missing where they count as
    that; the cells that do, by column; and sentences."""

    relations: list[Relation]
    cells: Plain
    missing: dict[Name, tuple[Any, ...]]
    told: list[str]


def related_without_codes(
    cells: Plain,
    weight: Array,
    columns: Sequence[Column],
    stated: Mapping[Name, Any],
    codes: Mapping[Name, Sequence[Code]],
) -> Related:
    """As ``relations_of``, of rows without cells that may mean "none", such as -999. In the columns
    of an exact relation of numbers these count as missing, unless a row with one keeps to it.

    ``codes``: those of columns."""
    coded = {
        name: np.isin(cells[name], [code.number for code in found])
        for name, found in codes.items()
        if name in cells
    }
    without = {name: np.where(where, np.nan, cells[name]) for name, where in coded.items()}
    relations, told = relations_of(cells | without, weight, columns, stated)
    exact = [one for one in relations if not isinstance(one, Lookup)]
    gone = {
        name: one
        for one in exact
        for name in one.names
        if name in coded and not any(_keeps(each, name, cells, coded) for each in exact)
    }
    changed = cells | {name: without[name] for name in gone}
    counted = [
        one if isinstance(one, Lookup) else one.counted(changed, weight) for one in relations
    ]
    missing = {name: tuple(code.cell for code in codes[name]) for name in gone}
    return Related(
        counted, changed, missing, [*told, *(_told(name, codes[name], gone[name]) for name in gone)]
    )


def _keeps(one: Relation, name: Name, cells: Plain, coded: Mapping[Name, Array]) -> bool:
    """Whether a row keeps a relation in which this column alone has a code: then it is a number."""
    if name not in one.names:
        return False
    others = [coded[other] for other in one.names if other != name and other in coded]
    alone = coded[name] & ~np.logical_or.reduce(others, initial=False)
    with np.errstate(all="ignore"):  # of numbers too large to be added
        return bool((alone & one.checked(cells)[0] & one.usual(cells)).any())


def _told(name: Name, codes: Sequence[Code], one: Relation) -> str:
    shown = ", ".join(text_of(code.cell) for code in codes)
    rows = sum(code.rows for code in codes)
    return (
        f"Column {name!r} is {shown} in {rows:,} row{'s' if rows > 1 else ''}, which does not go "
        f"with what holds of the others, that {one.name!r} is {one.rule}: it counts as missing. If "
        f"it is a number, say types={{{one.name!r}: {{'relation': 'none'}}}}."
    )


class Sample(NamedTuple):
    """Distinct rows, in an order that does not depend on theirs in the table, and how many rows
    each stands for."""

    cells: Plain
    weight: Array


def _distinct(cells: Plain, weight: Array) -> Sample:
    if not cells:
        return Sample(cells, weight)
    frame = pd.DataFrame(dict(enumerate(cells.values())))
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    total = np.bincount(which.reshape(-1), weights=weight)
    return Sample({name: values[first] for name, values in cells.items()}, total)


def _stated(rows: Sample, columns: Mapping[Name, Column], name: Name, says: Any) -> Relation:
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
        one: Relation | None = linear_of(rows, columns, name, says)
    else:
        one = (
            difference_of(rows, columns, says, name)
            if all(numeric)
            else lookup_of(rows, says, name)
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


def find_relations(rows: Sample, columns: Sequence[Column]) -> list[Relation]:
    """The relations between plain columns (B,) of a table."""
    with np.errstate(all="ignore"):  # of numbers beyond what can be squared
        return _found(rows, columns)


def _found(rows: Sample, columns: Sequence[Column]) -> list[Relation]:
    numbers = {column.name: column for column in columns if column.numeric}
    linear = _linear(rows, dict(itertools.islice(numbers.items(), MAX_COLUMNS)))
    gone = {one.name for one in linear}
    apart = _differences(rows, [one for name, one in numbers.items() if name not in gone])
    gone |= {one.name for one in apart}
    return [*linear, *apart, *_lookups(rows, [c for c in columns if c.name not in gone])]


def unsearched(cells: Plain, columns: Sequence[Column]) -> list[str]:
    """What was not looked for, in sentences."""
    numbers = [column.name for column in columns if column.numeric]
    told = []
    if max(len(numbers), len(columns) - len(numbers)) > MAX_COLUMNS:
        told.append(
            f"Relations between columns were looked for among the first {MAX_COLUMNS} columns of "
            f"numbers and the first {MAX_COLUMNS} of levels only."
        )
    numbers = numbers[:MAX_COLUMNS]
    left = len(_complete(cells, numbers)[0])
    many = len(numbers) > 2 and len(cells[numbers[0]]) >= 4 * _rows_needed(len(numbers))
    if many and left < len(numbers):
        told.append(
            f"Sums of columns were looked for among {left} of {len(numbers)} columns of numbers "
            "only: too few rows have no missing cell in all of them."
        )
    return told


def _rows_needed(columns: int) -> int:
    """Complete rows by which sums of so many columns can be looked for."""
    return max(MIN_ROWS, 2 * columns + 20)


def enough(rows: float, broken: float) -> bool:
    """Whether so few rows break a relation that it is one."""
    return bool(broken <= max(int(MAX_BROKEN_SHARE * rows), int(rows >= MIN_ROWS_FOR_ONE)))


# ------------------------------------------------------------------------------------------- linear


def _linear(rows: Sample, columns: Mapping[Name, Column]) -> list[Linear]:
    cells = rows.cells
    varied = [name for name in columns if _varies(cells[name])]
    found: list[Linear] = []
    for name, of in itertools.chain(_pairs(cells, varied), _sums(cells, varied, found)):
        if {one.name for one in found}.isdisjoint((name, *of)):
            bases = {base for one in found for base in one.of}
            relation = _fitted(rows, columns, name, of, bases)
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
    table = _some(table, SAMPLE_ROWS)
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


def _some(rows: Array, most: int, last: bool = False) -> Array:
    """The first so many rows, or the last; their order is one by chance (see ``_distinct``)."""
    return rows[-most:] if last else rows[:most]


def _sums(
    cells: Plain, names: Sequence[Name], found: list[Linear]
) -> Iterator[tuple[Name, tuple[Name, ...]]]:
    """Columns that nearly follow from columns before them, in two samples: a row that breaks a sum
    may spoil one. ``found`` tells which of them were taken."""
    for last in (False, True):
        left = [name for name in names if name not in {one.name for one in found}]
        left, rows = _complete(cells, left)
        if len(left) < 3:
            return
        some = _some(rows, 4 * len(left) + 120, last)
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
        if len(rows) >= _rows_needed(len(names)):
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
    sample: Sample,
    columns: Mapping[Name, Column],
    name: Name,
    of: tuple[Name, ...],
    bases: set[Name],
) -> Linear | None:
    """The relation between these columns, as a rule for that one of them for which all rows keep
    it: preferably a sum without minus, or the larger of two. ``bases`` may not be worked out."""
    names = (name, *of)
    cells = sample.cells
    rows = np.flatnonzero(~np.logical_or.reduce([missing(cells[each]) for each in names]))
    if len(rows) < MIN_ROWS + 10 * (len(of) - 1):
        return None
    some = _some(rows, SAMPLE_ROWS)
    table = np.stack([cells[each][some] for each in names], 1)
    half = np.array([_half_step(cells[each][rows], columns[each]) for each in names])
    rounding = max(_rounding(columns[each]) for each in names)
    for weights, constant in _candidates(table):
        off = np.abs(table @ weights - constant)
        slack = (half * np.abs(weights)).max() + rounding * np.abs(table * weights).sum(1)
        kept = off <= slack * (1 + 1e-6)
        if kept.mean() < MIN_SAMPLE_SHARE:
            continue
        # a term within the rounding has no part in it, and could not be worked out from the others
        part = np.abs(weights) * table.std(0)
        noise = float(off[kept].max()) - rounding * float(np.abs(table * weights).sum(1).max())
        if len(of) > 1 and part.min() < MIN_TERM_ERRORS * noise:
            continue
        for place in _orders(weights, names, bases):
            rule = _rule(names, weights, constant, place, half[place], rounding).counted(*sample)
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
        alone = len(factors) == 1
        simple = np.array([(_fraction if alone else _decimal)(each, most) for each in factors])
        if (simple != 0).all():
            weights = np.concatenate([[1.0], -simple])
            rest = float(np.median(table @ weights))
            yield weights, 0.0
            yield weights, (_fraction if alone else _decimal)(rest, most)
    if len(factors) == 1:
        ratio = float(table[:, 0] @ table[:, 1] / max(table[:, 1] @ table[:, 1], 1e-300))
        yield np.array([1.0, -ratio]), 0.0
        yield np.array([1.0, -factors[0]]), float(middle @ [1.0, -factors[0]])


def _fraction(value: float, most: int) -> float:
    if not np.isfinite(value):
        return 0.0
    return float(Fraction(float(value)).limit_denominator(most))


def _decimal(value: float, denominator: int) -> float:
    """A sum that holds by chance, within the rounding of its columns, has factors such as 1/849: of
    several columns those are taken that people write."""
    return round(value * denominator) / denominator if np.isfinite(value) else 0.0


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
    rows: Sample, columns: Mapping[Name, Column], name: Name, factors: Mapping[Name, float]
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
    ).counted(*rows)


# -------------------------------------------------------------------------------------- differences


def _differences(rows: Sample, columns: Sequence[Column]) -> list[Difference]:
    dates = [column.name for column in columns if column.type == "date"][:MAX_DATES]
    whole = [column.name for column in columns if column.type == "integer"][:MAX_DATES]
    tried = [
        (_spread_share(rows.cells, *pair), pair, most)
        for names, most in ((dates, MAX_SPREAD_SHARE), (whole, MAX_SPREAD_SHARE_OF_NUMBERS))
        for pair in itertools.combinations(names, 2)
    ]
    named = {column.name: column for column in columns}
    found: list[Difference] = []
    for share, pair, most in sorted(tried, key=lambda each: each[0]):
        one = difference_of(rows, named, *pair) if share <= most else None
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
    rows: Sample, columns: Mapping[Name, Column], first: Name, second: Name
) -> Difference | None:
    """Second less first, or the other way round where that is never negative; None where no row
    tells."""
    apart = rows.cells[second] - rows.cells[first]
    weight = rows.weight[~np.isnan(apart)]
    known = apart[~np.isnan(apart)]
    if not len(known):
        return None
    ordered = enough(weight.sum(), weight[known < 0].sum())
    if not ordered and enough(weight.sum(), weight[known > 0].sum()):
        return difference_of(rows, columns, second, first)
    kept = (known >= 0) | (not ordered)
    low = float(known[kept].min())
    recurs = weight[known == low].sum() >= MIN_VALUES
    return Difference(
        second,
        (first,),
        low=low if recurs or not ordered else 0.0,
        high=float(known[kept].max()),
        typical=_median(known[kept], weight[kept]),
        ordered=ordered,
        unit="days" if columns[second].type == "date" else columns[second].unit,
    ).counted(*rows)


def _median(values: Array, weight: Array) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


# ------------------------------------------------------------------------------------------ lookups


def _lookups(rows: Sample, columns: Sequence[Column]) -> list[Lookup]:
    """For each column that others determine the one of these with the fewest values; of two that
    determine one another the first."""
    cells = rows.cells
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
        if _evident(codes[base], codes[name], rows.weight):
            best[name] = counts[base], lookup_of(rows, base, name)
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
    table = _some(table, SCREEN_ROWS)
    for place, base in enumerate(names):
        rows = table[table[:, place] >= 0]
        if not len(rows):
            continue
        _, first, which = np.unique(rows[:, place], return_index=True, return_inverse=True)
        model = rows[first[which.reshape(-1)]]
        agrees = ((rows == model) | (rows < 0) | (model < 0)).mean(0) >= MIN_AGREEING_SHARE
        yield from ((base, names[at]) for at in np.flatnonzero(agrees) if at != place)


def _evident(base: Array, code: Array, weight: Array) -> bool:
    """Whether one determines the other by more than chance. Rows after the first of each value of
    the base agree among independent columns with the probability sum_v p_v^2. The commonest of
    several values of the base is left out of that: it may be where both are nothing."""
    known = (base >= 0) & (code >= 0)
    if not known.any():
        return False
    counts = np.zeros((int(base.max()) + 1, 2))  # of each value: rows, and those that agree
    width = int(code.max()) + 1
    pair, which = np.unique(base[known].astype("int64") * width + code[known], return_inverse=True)
    times = np.bincount(which.reshape(-1), weights=weight[known])
    np.add.at(counts[:, 0], pair // width, times)
    np.maximum.at(counts[:, 1], pair // width, times)
    rows, agree = counts.sum(0)
    shares = np.bincount(pair % width, weights=times, minlength=width)
    minority = rows - shares.max()
    if not enough(rows, rows - agree) or minority < MIN_MINORITY_ROWS * max(1.0, rows - agree):
        return False
    if (counts[:, 0] > 0).sum() > 2:
        left = pair // width != counts[:, 0].argmax()
        rows -= counts[:, 0].max()
        shares = np.bincount(pair[left] % width, weights=times[left], minlength=width)
    values = len(np.unique(pair // width))
    collision = ((shares / max(rows, 1.0)) ** 2).sum()
    return bool(-(rows - values) * np.log(collision) >= MIN_EVIDENCE_NATS)


def lookup_of(rows: Sample, base: Name, name: Name) -> Lookup:
    """The commonest value for each value of the base."""
    cells, weight = rows
    frame = pd.DataFrame({"key": cells[base], "value": cells[name], "rows": weight}).dropna()
    total = frame.groupby(["key", "value"])["rows"].sum()
    ordered = total.sort_values(ascending=False, kind="stable").reset_index()
    pairs = ordered.drop_duplicates("key")
    found = Lookup(
        name, (base,), keys=tuple(pairs["key"].tolist()), values=tuple(pairs["value"].tolist())
    )
    return found.counted(*rows)

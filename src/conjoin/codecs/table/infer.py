"""From a table to its schema: the type of each column, how it was recorded, what is doubtful, and
what is set aside.

Rules look only at tallies (see ``values``), so the order of rows is immaterial and a weight of 2 is
the row twice.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conjoin.codecs.table.aside import BESIDE, reason_to_set_aside
from conjoin.codecs.table.centuries import century_words
from conjoin.codecs.table.codes import is_place_name
from conjoin.codecs.table.doubts import (
    codes_in,
    date_doubts,
    number_doubts,
    sentinel_doubts,
    shown_merges,
    word_doubts,
    zone_doubts,
    zone_notices,
)
from conjoin.codecs.table.flags import flags_notices
from conjoin.codecs.table.forms import Found
from conjoin.codecs.table.frame import as_frame
from conjoin.codecs.table.guess import guess, level_cells
from conjoin.codecs.table.measure import (
    bounds_of,
    fine_step,
    precision_of,
    range_of,
    recurring,
    sentinel_days,
    single_of,
    unit_of,
)
from conjoin.codecs.table.overrides import named_categories
from conjoin.codecs.table.padding import with_padding
from conjoin.codecs.table.reading import (
    IN_WORDS,
    form_of,
    read_in,
    target_form,
)
from conjoin.codecs.table.relation_search import related_without_codes
from conjoin.codecs.table.relations import Difference, Relation, derived, plain
from conjoin.codecs.table.schema import RARE, Column, Schema
from conjoin.codecs.table.survey import Reading, Survey, survey
from conjoin.codecs.table.values import (
    Tally,
    blank,
    days,
    floats,
    merged,
    quoted,
    says_century,
    sort_values,
    tally,
    text_of,
    without,
    zones_of,
)

__all__ = ["Examined", "assumptions", "counted", "examine", "inspect", "most_levels"]

JSON = dict[str, Any]
Values = tuple[float, ...]
Array = NDArray[Any]
Series = Any

LARGEST_WHOLE = 2**51  # of the numbers that are kept apart, and their steps
_FEW_LEVELS = 64  # of a category, up to which all are kept, however rare
MAX_LEVELS = 2048  # of a category; the rest are pooled as one rare level
MAX_COSTLY_LEVELS = 1024  # the same, for families that have an indicator of each level
MAX_INDICATORS = 1 << 25  # rows times levels of a category, so that fits keep in time
_MIN_LEVEL_ROWS = 5  # rows of a level, under which it is pooled as well
# of a number that likely means "none", from which on it has a probability of its own
MIN_CODE_ROWS = 3
_UNSEEN_ROWS = 0.5  # that a listed rare value counts which no row has


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A schema and the tallies that it was inferred from, by column name."""

    schema: Schema
    tallies: dict[Any, Tally]


def inspect(
    df: Any, target: Any = None, types: Any = None, missing: Any = (), *, weight: Any = None
) -> Schema:
    """What each column of a table means.

    Parameters
    ----------
    df : DataFrame
        The table.
    target : hashable, optional
        The column to be predicted: its levels are never pooled.
    types : dict, Schema, str or Path, optional
        Overrides: {name: type}, {name: {field: value}}, a schema, or the path of a saved one. The
        field "relation" says what a column follows from: {column: factor, ...} with "" for a
        constant, the name of a column, or "none". A schema states all relations itself.
    missing : list or dict, optional
        Values that mean missing, for every column or {name: [values]}.
    weight : array_like, shape (n,), optional
        How often each row counts.

    Returns
    -------
    Schema
        For each column its type, recorded precision, spikes, bounds, levels, and what is doubtful.

    Raises
    ------
    ValueError
        If an override does not fit the column that it names.

    Examples
    --------
    >>> schema = inspect(pd.DataFrame({"age": [31, 40, 52], "sex": ["m", "f", "f"]}))
    >>> [(column.name, column.type) for column in schema.columns]
    [('age', 'integer'), ('sex', 'category')]
    """
    surveyed = survey(
        as_frame(df, as_written=named_categories(types)), types, missing, target, weight=weight
    )
    rows, weights = counted(surveyed.frame, weight)
    found = examine(rows, weights, target=target, surveyed=surveyed)
    return found.schema


def counted(frame: pd.DataFrame, weight: Any) -> tuple[pd.DataFrame, Array]:
    """The rows of positive weight and their weights; weights below one on average are scaled up to
    count rows."""
    if weight is None:
        return frame, np.ones(len(frame))
    weights = np.asarray(weight, dtype="float64").reshape(-1)
    if len(weights) != len(frame):
        raise ValueError(
            f"weight has {len(weights)} entries for {len(frame)} rows; give one number per row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        row = int((~np.isfinite(weights) | (weights < 0)).argmax())
        raise ValueError(f"weight[{row}] is {weights[row]:g}; weights are finite and at least 0.")
    if not weights.any():
        raise ValueError("Every weight is 0; at least one row must count.")
    kept = weights > 0
    frame, weights = (frame, weights) if kept.all() else (frame[kept], weights[kept])
    return frame, weights * max(1.0, len(weights) / float(weights.sum()))


def examine(
    frame: pd.DataFrame,
    weight: Array,
    *,
    target: Any = None,
    most_levels: int = MAX_LEVELS,
    surveyed: Survey,
) -> Examined:
    """The schema of rows that each count ``weight`` (positive), with its tallies; a category keeps
    ``most_levels`` at most. ``surveyed``: how all rows are read of which these are some."""
    names = [plain_name(name) for name in frame.columns]
    if target is not None and target not in names:
        raise ValueError(
            f"There is no column {target!r} to be the target; the columns are "
            f"{', '.join(map(str, names))}."
        )
    asked = {
        name: {
            **surveyed.said[name],
            "most_levels": most_levels,
            "usual": surveyed.usual,
            "reading": surveyed.readings.get(name),
        }
        for name in names
    }
    columns = []
    tallies = {}
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        column, tallies[name] = _column(name, series, weight, asked[name], name == target)
        columns.append(column)
    columns = _rescue(columns, target)
    dates = [column.name for column in columns if column.type == "date" and column.modelled]
    unzoned = zone_notices({name: zones_of(frame[name]) for name in dates})
    others = [column for column in columns if column.modelled and column.name != target]
    cells = {column.name: plain(column, frame[column.name]) for column in others}
    said = surveyed.said.items()
    stated = {name: fields["relation"] for name, fields in said if "relation" in fields}
    codes = {name: one.codes for name, one in surveyed.readings.items() if one.codes}
    related = related_without_codes(cells, weight, others, stated, codes)
    for name, gone in related.missing.items():
        again = {**asked[name], "missing": (*asked[name]["missing"], *gone)}
        column, tallies[name] = _column(name, frame[name], weight, again, False)
        columns = [column if each.name == name else each for each in columns]
    cells = related.cells
    relations = [_with_apart(one, cells, weight, columns, tallies) for one in related.relations]
    columns = derived(columns, relations)
    found = (*flags_notices(cells), *related.told, *(one.notice for one in relations))
    notices = (*surveyed.told, *unzoned, *_notices(columns), *found)
    told = tuple(one.to_json() for one in relations)
    return Examined(Schema(tuple(columns), target, notices, told), tallies)


def _with_apart(
    one: Relation,
    cells: dict[Any, Array],
    weight: Array,
    columns: Sequence[Column],
    tallies: dict[Any, Tally],
) -> Relation:
    """A difference with what it means, as a column of its own, whose tally takes the place of the
    end's."""
    if not isinstance(one, Difference):
        return one
    apart = np.where(one.holds(cells), one.apart(cells), np.nan)
    whole = bool((apart == np.rint(apart))[~np.isnan(apart)].all())
    asked = {"type": "integer" if whole else "real", "role": "model", "missing": ()}
    asked["unit"] = one.unit
    column, tallies[one.name] = _column(one.name, pd.Series(apart), weight, asked, False)
    end = next(each for each in columns if each.name == one.name)
    column = dataclasses.replace(column, missing=end.missing, missing_share=end.missing_share)
    return dataclasses.replace(one, column=column)


def plain_name(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def _rescue(columns: list[Column], target: Any) -> list[Column]:
    """Something must be left to model: numbers that were set aside come back when they are all
    there is."""
    beside = any(BESIDE in column.why for column in columns)
    if beside or not columns or any(c.modelled and c.name != target for c in columns):
        return columns  # none at all: what is modelled lies beside the table
    back = [
        column.numeric
        and column.why.startswith(("it has one value", "its whole numbers", "it is named"))
        for column in columns
    ]
    if not any(back) and not any(column.modelled for column in columns):
        reasons = "; ".join(f"{column.name!r}: {column.why}" for column in columns[:3])
        raise ValueError(
            f"No column is left to model ({reasons}); say types={{name: 'category'}} to keep one."
        )
    return [
        dataclasses.replace(c, role="model", why="") if kept else c
        for c, kept in zip(columns, back, strict=True)
    ]


def _notices(columns: Sequence[Column]) -> list[str]:
    aside = [column for column in columns if column.role == "set aside"]
    notices = [f"Column {column.name!r} is set aside: {column.why}." for column in aside]
    notices += [
        f"Column {column.name!r}: {shown_merges(column.merge)}."
        for column in columns
        if column.merge and column.role != "set aside"
    ]
    notices += [_measure_notice(column) for column in columns if _measure_notice(column)]
    notices += [
        f"Column {column.name!r} has times with offsets from UTC; they are given back in UTC."
        for column in columns
        if column.role != "set aside" and (column.format == "utc" or "%z" in column.format)
    ]
    read = [column for column in columns if column.parse is not None]
    notices += [
        _words_notice(column)
        if column.parse.form in IN_WORDS
        else f"Column {column.name!r} holds {column.parse.describe()}."
        for column in read
    ]
    return notices + [
        f"Column {c.name!r} has {len(c.levels) - 1 + len(c.pooled)} distinct values; "
        f"{len(c.pooled)} rare ones share the level {RARE!r} and are drawn by their frequency."
        for c in columns
        if c.modelled and c.pooled
    ]


def _measure_notice(column: Column) -> str:
    """What is assumed of the values that a number can have."""
    if not (column.modelled and column.numeric and column.resolution is not None):
        return ""
    shown = ", ".join(f"{atom:g}" for atom in column.atoms[:3])
    if column.only_atoms:
        return (
            f"Column {column.name!r} has only {len(column.atoms)} values ({shown}, ...); no others "
            f"are drawn. If there are others, say types={{{column.name!r}: {{'only_atoms': False, "
            "'atoms': []}}."
        )
    if column.precision == 0 and column.atoms and column.type != "date":
        return (
            f"Column {column.name!r} is exactly {shown} again and again, but otherwise in full "
            "precision: each such value has a probability of its own, and the others count in "
            f"steps of {column.resolution:g}. For a density without spikes, say "
            f"types={{{column.name!r}: {{'resolution': None}}}}."
        )
    plain = column.decimals is None or np.isclose(column.resolution, 10.0**-column.decimals)
    if column.type == "date" or (plain and column.decimals is not None):
        return ""
    start = f" from {column.offset:g}" if column.offset else ""
    return (
        f"Column {column.name!r} is recorded in steps of {column.resolution:g}{start}; no other "
        f"values are drawn. For another step, say types={{{column.name!r}: {{'resolution': ...}}}}."
    )


def _words_notice(column: Column) -> str:
    """How numbers in words are read, and how to say otherwise."""
    return (
        f"Column {column.name!r} holds numbers written in words ({column.parse.describe()}). "
        "They are modelled as numbers and written back in this way; to keep them as words, say "
        f"types={{{column.name!r}: {{'parse': 'words'}}}}."
    )


# --------------------------------------------------------------------------------------- one column


def _column(
    name: Any, raw: Series, weight: Array, asked: JSON, is_target: bool
) -> tuple[Column, Tally]:
    pairs = tuple(asked.get("merge", {}).items())
    reading: Reading | None = asked.get("reading")
    if reading is not None:
        asked = {**asked, "missing": tuple(dict.fromkeys([*asked["missing"], *reading.missing]))}
    series = merged(blank(raw, asked["missing"]), pairs)
    was_words = not pd.api.types.is_numeric_dtype(raw.dtype)
    changed = bool(asked["missing"]) and int(series.isna().sum()) > int(raw.isna().sum())
    if reading is None:
        kind, form = _type(series, weight, asked, changed)
        found = _form(series, asked, kind, is_target)
    else:
        kind = asked.get("type", reading.type)
        form = reading.format
        found = reading.found
    if found is not None:
        asked = {**asked, "missing": tuple(dict.fromkeys([*asked["missing"], *found.missing]))}
        series = _in_numbers(blank(series, asked["missing"]), found.form)
        if reading is None:
            kind = asked.get("type") or guess(series, weight, changed)[0]
    counts = _tally(series, weight, kind, form)
    fields: JSON = {
        "name": name,
        "type": kind,
        "dtype": _dtype(raw, was_words and kind in ("real", "integer") and found is None),
        "format": form,
        "parse": None if found is None else found.form,
        "merge": pairs,
    }
    fields["missing"] = asked["missing"]
    fields["missing_share"] = counts.missing / counts.rows
    fields |= _categories(raw)
    asked = asked if found is None else _of_form(asked, found)
    numeric = kind in ("real", "integer", "date")
    fields |= (
        _measure(name, kind, counts, asked, single_of(raw))
        if numeric
        else _levels(name, kind, counts, asked, series, is_target)
    )
    if found is not None:
        fields["doubts"] = (*fields["doubts"], *assumptions(name, found))
    if kind == "date":
        order = [] if "format" in asked else date_doubts(name, form, counts)
        none = sentinel_doubts(name, series, form, counts)
        said = says_century(asked.get("format", ""))
        century = [] if said else century_words(name, series, form)
        fields["doubts"] = (*none, *order, *century, *zone_doubts(name, series))
        fields["format"] = with_padding(pd.unique(series.dropna().astype(object)), form)
    column = Column.from_json(fields)
    why = asked.get("why", "") or "you asked for it" if asked.get("role") == "set aside" else ""
    if asked.get("role") is None and not is_target:
        explicit = "type" in asked or "parse" in asked
        random_digits = reading is not None and reading.random_digits
        why = reason_to_set_aside(column, counts, explicit=explicit, random_digits=random_digits)
    if why:  # its values are nobody's business: names and notes would end up in the saved model
        column = dataclasses.replace(
            column,
            role="set aside",
            why=why,
            doubts=(),
            levels=(),
            counts=(),
            pooled=(),
            pooled_counts=(),
            held_out=(),
            categories=(),
        )
    return column, counts


def _form(series: Series, asked: JSON, kind: str, is_target: bool) -> Found | None:
    """How the words of a column, or of a target, stand for numbers."""
    usual = asked.get("usual", "")
    if not is_target:
        return form_of(series, asked, kind, usual)
    return target_form(series, asked, False, usual) if kind == "category" else None


def _in_numbers(series: Series, form: Any) -> Series:
    """The column of words as numbers, missing where nothing is known."""
    return pd.Series(read_in(series, form)[0], index=series.index, name=series.name)


def _of_form(asked: JSON, found: Found) -> JSON:
    """What the way of writing says of a column, where the user says nothing."""
    low, high = found.form.bounds
    bounds = {} if low is None and high is None else {"bounds": (low, high)}
    unit = {"unit": found.form.unit} if found.form.unit else {}
    return {**unit, **bounds, **asked}


def assumptions(name: Any, found: Found) -> list[str]:
    """What was assumed of a column's way of writing, one sentence each."""
    return [
        f"Column {name!r} {sentence.replace('say ', f'say types={{{name!r}: {{', 1)}"
        + ("}}." if "say " in sentence else ".")
        for sentence in found.assumed
    ]


def _type(series: Series, weight: Array, asked: JSON, changed: bool) -> tuple[str, str]:
    kind, form = guess(series, weight, changed)
    if "type" not in asked or asked["type"] == kind:
        return kind, asked.get("format", form)
    return asked["type"], asked.get("format", form if asked["type"] == "date" else "")


def _tally(series: Series, weight: Array, kind: str, form: str) -> Tally:
    if kind == "date":
        return tally(*days(series, form), weight)
    if kind not in ("real", "integer"):
        return tally(*level_cells(series), weight)
    return tally(*floats(series), weight)


def _dtype(raw: Series, reads_words: bool) -> str:
    if isinstance(raw.dtype, pd.CategoricalDtype):
        return f"{'ordered' if raw.dtype.ordered else 'category'}[{raw.dtype.categories.dtype}]"
    return "float64" if reads_words else str(raw.dtype)


def _categories(raw: Series) -> JSON:
    if not isinstance(raw.dtype, pd.CategoricalDtype):
        return {}
    return {"categories": tuple(plain_name(value) for value in raw.dtype.categories)}


# ------------------------------------------------------------------------------------------ numbers


def _measure(name: Any, kind: str, counts: Tally, asked: JSON, dtype: str) -> JSON:
    """Precision and all that rests on it; a resolution of None leaves no room for spikes or
    bounds."""
    fields: JSON = {"unit": asked.get("unit", unit_of(name))}
    reading: Reading | None = asked.get("reading")
    surveyed = None if reading is None else reading.precision
    decimals, step, offset = surveyed or precision_of(kind, counts, asked, dtype)
    atoms, only, codes = _recurring(kind, counts, step)
    atoms = tuple(asked.get("atoms", atoms))
    fields |= {"decimals": decimals, "precision": step, "offset": asked.get("offset", offset)}
    fields["resolution"] = asked.get("resolution", step)
    if fields["resolution"] is None and "resolution" not in asked and _needs_mass(atoms, asked):
        fields["resolution"] = fine_step(counts, atoms)
    if fields["resolution"] is not None and step is None:
        fields["precision"] = 0.0
    if fields["resolution"] is not None:
        fields["atoms"] = atoms
        fields["only_atoms"] = bool(asked.get("only_atoms", only and "atoms" not in asked))
        fields["bounds"] = (None, None) if kind == "date" else bounds_of(counts, fields["offset"])
    usual = without(counts, codes) if "atoms" not in asked else counts
    fields["range"] = (None, None) if asked.get("tails") else range_of(usual)
    fields |= {key: tuple(asked[key]) for key in ("atoms", "bounds", "range") if key in asked}
    if kind != "date":
        fields["doubts"] = tuple(number_doubts(name, counts, counts.rows, decimals == 0))
    return fields


def _recurring(kind: str, counts: Tally, step: float | None) -> tuple[Values, bool, Values]:
    """The values with a probability of their own, whether there are no others, and which of them
    likely mean "none"."""
    if kind == "date":
        days = sentinel_days(counts)
        return days, False, days
    atoms, only = recurring(counts, step)
    if only:
        return atoms, only, ()
    rows = dict(zip(counts.values.tolist(), counts.counts.tolist(), strict=True))
    codes = tuple(code for code in codes_in(counts) if rows[code] >= MIN_CODE_ROWS)
    return tuple(sorted({*atoms, *codes})), only, codes


def _needs_mass(atoms: Sequence[float], asked: JSON) -> bool:
    """Whether numbers in full precision have spikes or bounds, which a density has no room for."""
    return bool(atoms) or any(end is not None for end in asked.get("bounds", ()))


# ------------------------------------------------------------------------------------------- levels


def _levels(
    name: Any, kind: str, counts: Tally, asked: JSON, series: Series, is_target: bool
) -> JSON:
    weights = dict(zip(counts.values.tolist(), counts.counts.tolist(), strict=True))
    doubts = word_doubts(name, counts)
    if "type" not in asked and kind == "category":
        doubts += _whole_numbers(name, weights)
    pooled: list[Any] = list(asked.get("pooled", ()))
    if asked.get("levels"):
        levels = list(asked["levels"])
        levels += [RARE] if pooled and RARE not in levels else []
        doubts += _unlisted(name, weights, [*levels, *pooled])
    else:
        levels, pooled = (
            _pool(weights, asked.get("most_levels", MAX_LEVELS))
            if len(weights) > _FEW_LEVELS and kind == "category" and not is_target
            else (list(weights), [])
        )
        levels, order = _ordered(series, levels) if kind == "ordered" else (levels, "")
        doubts += [order] if order else []
    if kind == "boolean" and len(levels) > 2:
        raise ValueError(
            f"Column {name!r} was said to be boolean, but has {len(levels)} values, such as "
            f"{quoted(levels[2])}; say 'category'."
        )
    texts = {text_of(value): weight for value, weight in weights.items()}
    shares = [texts.get(text_of(level), 0.0) for level in levels]
    if pooled and RARE in levels:
        shares[levels.index(RARE)] = float(sum(texts.get(text_of(value), 0.0) for value in pooled))
    pooled_counts = [max(texts.get(text_of(value), 0.0), _UNSEEN_ROWS) for value in pooled]
    return {
        "levels": levels,
        "counts": shares,
        "pooled": pooled,
        "pooled_counts": pooled_counts,
        "doubts": doubts,
        "unit": asked.get("unit", ""),
    }


def most_levels(rows: float, many: bool) -> int:
    """How many levels of a category are kept. ``many``: whether they cost little."""
    most = MAX_LEVELS if many else MAX_COSTLY_LEVELS
    return int(min(most, max(_FEW_LEVELS, MAX_INDICATORS / max(rows, 1.0))))


def _pool(weights: Mapping[Any, float], most: int) -> tuple[list[Any], list[Any]]:
    """The frequent levels, in order, and the rest, most frequent first."""
    values = list(weights)
    by_count = sorted(range(len(values)), key=lambda i: (-weights[values[i]], i))
    kept = sorted(
        i for i in by_count[:most] if weights[values[i]] >= _MIN_LEVEL_ROWS and values[i] != RARE
    )
    chosen = set(kept)
    rare = [i for i in by_count if i not in chosen]
    if not rare:
        return values, []
    return [*(values[i] for i in kept), RARE], [values[i] for i in rare]


def _ordered(series: Series, levels: list[Any]) -> tuple[list[Any], str]:
    if isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.ordered:
        seen = set(levels)
        return [value for value in map(plain_name, series.dtype.categories) if value in seen], ""
    levels = [levels[i] for i in sort_values(levels)]
    return (
        levels,
        f"Column {series.name!r} is ordered as {', '.join(map(str, levels[:5]))}; if that is "
        "wrong, list its levels in types=.",
    )


def _whole_numbers(name: Any, weights: Mapping[Any, float]) -> list[str]:
    """That whole numbers are taken as names."""
    count = len(weights)
    numbers = [value for value in weights if isinstance(value, int | float)]
    if numbers and is_place_name(name):
        return [
            f"Column {name!r} is named like postal codes: its {count:,} whole numbers are taken as "
            f"categories. If they are amounts, say types={{{name!r}: 'integer'}}."
        ]
    if any(isinstance(value, int) and abs(value) >= LARGEST_WHOLE for value in numbers):
        return [
            f"Column {name!r} has whole numbers beyond 2^51, which a model of numbers cannot keep "
            f"apart: its {count:,} values are taken as categories."
        ]
    return []


def _unlisted(name: Any, weights: Mapping[Any, float], levels: Sequence[Any]) -> list[str]:
    listed = {text_of(level) for level in levels}
    other = [value for value in weights if text_of(value) not in listed]
    if not other:
        return []
    rows = sum(weights[value] for value in other)
    return [
        f"Column {name!r} has {rows:g} rows whose value is not among its levels, such as "
        f"{quoted(other[0])}; they count as unseen."
    ]

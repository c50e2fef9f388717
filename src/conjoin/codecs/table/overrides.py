"""What the user says about columns: types, fields of a column, an edited schema, and values that
mean missing.
"""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.codecs.table.forms import NAMED_PARSES, form_json, is_parse
from conjoin.codecs.table.schema import ROLES, TYPES, Column, Schema
from conjoin.codecs.table.values import text_of
from conjoin.util.plain import plain_value

__all__ = [
    "NO_RELATION",
    "missing_of",
    "named_categories",
    "of_target",
    "overrides_of",
    "reopened",
    "said_of",
    "without_target",
]

JSON = dict[str, Any]

_FIELDS = (
    "type",
    "levels",
    "pooled",
    "resolution",
    "decimals",
    "precision",
    "atoms",
    "bounds",
    "unit",
    "missing",
    "format",
    "parse",
    "offset",
    "range",
    "tails",
    "only_atoms",
    "role",
    "why",
    "relation",
    "merge",
)
REOPENED = "nothing"  # what a column was found to be that is to be read anew
_AMOUNTS = ("real", "integer")
_LEVELS = (str, numbers.Real, np.bool_)
NO_RELATION = "none"  # of a column that takes part in none, unless another column states one
_NUMERIC = (
    "resolution",
    "decimals",
    "precision",
    "atoms",
    "bounds",
    "offset",
    "range",
    "only_atoms",
)


def overrides_of(types: Any, names: Sequence[Any]) -> dict[Any, JSON]:
    """{column: {field: value}} from {column: type}, {column: {field: value}}, a Schema, or the path
    of a saved schema."""
    types = plain_value(types)
    if types is None:
        return {}
    if isinstance(types, str | Path):
        types = Schema.load(types)
    if isinstance(types, Schema):
        # the target of the schema may have been taken off before
        columns = [
            column
            for column in types.columns
            if column.name in names or column.name != types.target
        ]
        stated = {data["name"]: stated_relation(data) for data in types.relations}
        types = {
            column.name: _from_column(column) | {"relation": stated.get(column.name, NO_RELATION)}
            for column in columns
        }
    if not isinstance(types, Mapping):
        raise TypeError(
            "types must be a dict from column to type, a Schema or the path of one, not "
            f"{type(types).__name__}."
        )
    return {_known(name, names): _fields(name, value) for name, value in types.items()}


def said_of(types: Any, missing: Any, names: Sequence[Any]) -> dict[Any, JSON]:
    """What the user says of every column: {column: {field: value}}, with all values that mean
    missing there in "missing". ``types`` and ``missing`` are as of ``inspect``."""
    blanks = missing_of(missing, names)
    asked = overrides_of(reopened(types, blanks), names)
    return {name: _with_blanks(asked.get(name, {}), blanks.get(name, ())) for name in names}


def reopened(types: Any, blanks: Mapping[Any, Sequence[Any]]) -> Any:
    """``types``; in a schema, columns that were found to hold words, of which some are now said to
    mean missing, are left open again."""
    types = plain_value(types)
    types = Schema.load(types) if isinstance(types, str | Path) else types
    if not isinstance(types, Schema):
        return types
    columns = [
        dataclasses.replace(column, found=REOPENED)
        if _is_reopened(column, blanks.get(column.name, ()))
        else column
        for column in types.columns
    ]
    return dataclasses.replace(types, columns=tuple(columns))


def _is_reopened(column: Column, blanks: Sequence[Any]) -> bool:
    """Whether a category that nobody edited had one of these words, or may have had it, as its
    levels are not kept where it is set aside."""
    if not blanks or column.type != "category" or column.edited or not column.found:
        return False
    texts = {text_of(value) for value in (*column.levels, *column.pooled)}
    aside = column.role == "set aside" and bool(column.why)
    return aside or any(text_of(value) in texts for value in blanks)


def _with_blanks(fields: JSON, blanks: Sequence[Any]) -> JSON:
    return {**fields, "missing": tuple(dict.fromkeys([*blanks, *fields.get("missing", ())]))}


def named_categories(types: Any) -> tuple[Any, ...]:
    """The columns that the user says are categories, whose cells are kept as a file has them."""
    types = plain_value(types)
    if isinstance(types, str | Path):
        types = Schema.load(types)
    if isinstance(types, Schema):
        return tuple(column.name for column in types.columns if column.holds_words)
    said = types.items() if isinstance(types, Mapping) else ()
    return tuple(
        name
        for name, each in said
        if (each.get("type") if isinstance(each, Mapping) else each) == "category"
    )


def of_target(types: Any, name: Any) -> JSON:
    """What the user says of a target by this name: {field: value}, nothing where nothing is
    said."""
    types = plain_value(types)
    if isinstance(types, str | Path):
        types = Schema.load(types)
    if isinstance(types, Schema):
        found = [column for column in types.columns if str(column.name) == name]
        return _from_column(found[0]) if found else {}
    if not isinstance(types, Mapping) or name not in types:
        return {}
    return _fields(name, types[name])


def without_target(types: Any, name: Any, names: Sequence[Any]) -> Any:
    """``types`` for the columns of x alone, where a dict also names the target."""
    if isinstance(types, Mapping) and name in types and name not in names:
        return {key: value for key, value in types.items() if key != name}
    return types


def _known(name: Any, names: Sequence[Any]) -> Any:
    if name not in names:
        raise ValueError(
            f"There is no column {name!r}; the columns are {', '.join(map(str, names))}."
        )
    return name


def _fields(name: Any, value: Any) -> JSON:
    fields = {"type": value} if isinstance(value, str) else value
    if not isinstance(fields, Mapping):
        raise TypeError(
            f"Column {name!r}: give a type ({', '.join(TYPES)}) or a dict of fields, not {value!r}."
        )
    for key, choices in (("type", TYPES), ("role", ROLES[:2])):
        if key in fields and fields[key] not in choices:
            raise ValueError(
                f"Column {name!r}: {fields[key]!r} is no {key}; choose from {', '.join(choices)}."
            )
    if not is_parse(fields.get("parse", "words")) and fields["parse"] is not None:
        raise ValueError(
            f"Column {name!r}: {fields['parse']!r} is no way to parse; choose from "
            f"{', '.join(NAMED_PARSES)}, or give its fields as a dict."
        )
    if not isinstance(fields.get("merge", {}), Mapping):
        raise ValueError(
            f"Column {name!r}: merge is {{spelling: level}}, such as {{'berlin': 'Berlin'}}, not "
            f"{fields['merge']!r}."
        )
    merge: Any = fields.get("merge", {})
    odd = next((level for level in merge.values() if not isinstance(level, _LEVELS)), None)
    if odd is not None:
        raise TypeError(
            f"Column {name!r}: merge names the level {odd!r}, which is neither a string nor a "
            "number; give one of them."
        )
    unknown = [key for key in fields if key not in _FIELDS]
    if unknown:
        raise ValueError(
            f"Column {name!r} has no field {unknown[0]!r} to set; choose from {', '.join(_FIELDS)}."
        )
    return dict(fields)


def _of_edited(column: Column) -> JSON:
    """The fields of a column whose type or format the user has changed: those that were found for
    the former type are left out, and a column that was set aside for it is modelled."""
    former, _, form = column.found.partition(":")
    aside = column.role == "set aside" and not column.why
    fields: JSON = {"type": column.type, "role": "set aside" if aside else "model"}
    fields |= {"missing": column.missing}
    fields |= {"unit": column.unit} if column.unit else {}
    fields |= {"merge": dict(column.merge)} if column.merge else {}
    if column.format and (column.is_date or column.format != form):
        fields["format"] = column.format
    if not column.numeric:
        levels = {key: getattr(column, key) for key in ("levels", "pooled")}
        return fields | ({} if column.is_block or not column.levels else levels)
    if former in _AMOUNTS and column.type in _AMOUNTS:
        return fields | _measured(column)
    if former in _AMOUNTS or "date" in (former, column.type):
        return fields
    bare = Column(name=column.name, type=column.type)
    changed = {key: getattr(column, key) for key in _NUMERIC}
    return fields | {key: each for key, each in changed.items() if each != getattr(bare, key)}


def _measured(column: Column) -> JSON:
    """How the numbers of a column were recorded, and how they are written."""
    kept = {key: getattr(column, key) for key in _NUMERIC}
    kept["precision"] = column.resolution if column.precision is None else column.precision
    return kept | ({} if column.parse is None else {"parse": form_json(column.parse)})


def _from_column(column: Column) -> JSON:
    """The fields that still mean something: a type edited from numbers to levels, or back, leaves
    the others behind."""
    if column.found == REOPENED:
        kept = {"unit": column.unit} if column.unit else {}
        return kept | {"missing": column.missing, "merge": dict(column.merge)}
    if column.edited and not isinstance(column.parse, str):
        return _of_edited(column)
    fields: JSON = {
        "type": column.type,
        "role": "set aside" if column.role == "set aside" else "model",
        "why": column.why if column.role == "set aside" else "",
        "missing": column.missing,
    }
    fields |= {"unit": column.unit} if column.unit else {}
    fields |= {"merge": dict(column.merge)} if column.merge else {}
    if column.type in ("picture", "smiles"):
        return fields | ({"format": column.format} if column.format else {})
    if column.type == "text":
        return fields
    if not column.numeric and not isinstance(column.parse, str):
        gone = {text for text, level in column.merge if text_of(level) != text}
        # spellings that were merged after the schema was made are no levels of their own any more
        levels, pooled = (
            tuple(value for value in values if text_of(value) not in gone)
            for values in (column.levels, column.pooled)
        )
        return fields | ({"levels": levels, "pooled": pooled} if levels else {})
    if isinstance(column.parse, str):  # edited: what was measured of another reading is void
        return {key: value for key, value in fields.items() if key != "type"} | {
            "parse": column.parse
        }
    form = {"format": column.format} if column.format else {}
    if column.levels:
        return fields | (form if column.is_date else {})
    return fields | _measured(column) | form


def missing_of(missing: Any, names: Sequence[Any]) -> dict[Any, tuple[Any, ...]]:
    """{column: values that mean missing} from a list for every column, or a dict of lists."""
    missing = plain_value(missing)
    if isinstance(missing, Mapping):
        return {_known(name, names): _listed(values) for name, values in missing.items()}
    values = _listed(missing)
    return {name: values for name in names} if values else {}


def _listed(values: Any) -> tuple[Any, ...]:
    plain = (values,) if isinstance(values, str | int | float) else tuple(values or ())
    wrong = [value for value in plain if not isinstance(value, str | int | float)]
    if wrong:
        raise TypeError(f"missing lists words and numbers that mean missing, not {wrong[0]!r}.")
    return plain


def stated_relation(data: Mapping[str, Any]) -> Any:
    """A saved relation as a user states it: {column: factor}, or the name of a column."""
    if data.get("kind") != "linear":
        return data["of"][0]
    return dict(zip(data["of"], data["factors"], strict=True)) | {"": data.get("constant", 0.0)}

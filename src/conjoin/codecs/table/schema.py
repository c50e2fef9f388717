"""What each column of a table means: its type, recorded precision, spikes, bounds, levels, and what
is doubtful.

A schema is aggregates only, never a row. It can be saved, edited by hand, and given back as
``types=``.
"""

import dataclasses
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from conjoin.codecs.table.forms import NAMED_PARSES, form_from, form_json
from conjoin.codecs.table.moments import day_text
from conjoin.util.files import write_text

__all__ = ["RARE", "ROLES", "TYPES", "Column", "Schema"]

JSON = dict[str, Any]
Name = str | int | float

TYPES = ("real", "integer", "category", "ordered", "boolean", "date", "picture", "text", "smiles")
ROLES = ("model", "set aside", "derived")  # derived: follows from others, see relations.py
MAX_CHOICES = 24  # levels that a message lists
RARE = "(rare)"  # the level that rare values share
_SHOWN_ATOMS = 8
_LISTS = (
    "levels",
    "counts",
    "pooled",
    "pooled_counts",
    "held_out",
    "atoms",
    "bounds",
    "missing",
    "categories",
    "doubts",
    "range",
)
# what earlier releases did not have is written where it says something
_NEW: JSON = {
    "offset": 0.0,
    "range": [None, None],
    "only_atoms": False,
    "pooled_counts": [],
    "held_out": [],
    "merge": {},
    "found": "",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, in raw units (dates in days).

    ``precision`` is the step at which the values were recorded, and rounds decoded numbers;
    ``resolution`` is the measure: with it a cell has probability mass, with None a density.
    ``precision`` is 0 for numbers in full precision that have spikes: their ``resolution`` is then
    a small one, so that spikes and other values both have mass. ``offset`` is one value of the
    lattice. ``bounds`` are what a value can be: beyond them a cell counts as never seen. ``range``
    is where draws stay, by default between the least and the greatest value of the fit; None
    leaves the tail open. ``only_atoms``: there are no values but the spikes.
    ``pooled`` are the rare values that share the level "(rare)", most frequent first;
    ``pooled_counts`` are the rows of each, which models of earlier versions do not have.
    ``held_out`` are values that only rows have which did not teach, of numbers (days of dates)
    codes such as -999 alone: they count as never seen, and levels can be asked for as one of the
    rare ones."""

    name: Name
    type: str
    levels: tuple[Any, ...] = ()
    resolution: float | None = None
    decimals: int | None = None
    atoms: tuple[float, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    unit: str = ""
    missing_share: float = 0.0
    doubts: tuple[str, ...] = ()
    role: str = "model"
    why: str = ""
    counts: tuple[float, ...] = ()
    pooled: tuple[Any, ...] = ()
    precision: float | None = None
    missing: tuple[Any, ...] = ()
    dtype: str = "float64"
    categories: tuple[Any, ...] = ()
    format: str = ""
    # how its numbers are written in words, if they are; see forms.FORMS
    parse: Any = None
    offset: float = 0.0
    range: tuple[float | None, float | None] = (None, None)
    only_atoms: bool = False
    pooled_counts: tuple[float, ...] = ()
    held_out: tuple[Any, ...] = ()
    # (text of a cell, the level that it is read as), of spellings that are one value
    merge: tuple[tuple[str, Any], ...] = ()
    # the type and format that the other fields were found for, in a schema that is to be edited
    found: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        for field in _LISTS:
            object.__setattr__(self, field, tuple(getattr(self, field)))
        object.__setattr__(self, "parse", form_from(self.parse))
        if isinstance(self.parse, str):  # an edited schema may say how to read a column
            _choose(self.name, "parse", self.parse, NAMED_PARSES)
        _choose(self.name, "type", self.type, TYPES)
        _choose(self.name, "role", self.role, ROLES)
        for field in ("bounds", "range"):
            _check_ends(self.name, field, getattr(self, field))
        if self.resolution is not None and not self.resolution > 0:
            raise ValueError(
                f"Column {self.name!r}: resolution {self.resolution!r} must be above 0, or null "
                "for a density."
            )
        if self.numeric and self.resolution is None and (self.atoms or self.bounds != (None, None)):
            raise ValueError(
                f"Column {self.name!r} has atoms or bounds, so its cells need mass: give it a "
                "resolution too."
            )

    @property
    def taken_as(self) -> str:
        """Its type and the format of its dates, as ``found`` has them."""
        return f"{self.type}:{self.format}" if self.format else self.type

    @property
    def edited(self) -> bool:
        """Whether its type or format is another than its other fields were found for."""
        return self.found not in ("", self.taken_as)

    @property
    def numeric(self) -> bool:
        """Whether values are numbers (dates are days), not codes of levels."""
        return self.type in ("real", "integer", "date")

    @property
    def is_date(self) -> bool:
        """Whether values are dates, which are days for a model."""
        return self.type == "date"

    @property
    def is_amount(self) -> bool:
        """Whether values are numbers that are no dates."""
        return self.type in ("real", "integer")

    @property
    def has_order(self) -> bool:
        """Whether one value is less than another."""
        return self.numeric or self.type == "ordered"

    @property
    def is_picture(self) -> bool:
        return self.type == "picture"

    @property
    def is_text(self) -> bool:
        return self.type == "text"

    @property
    def zoned(self) -> bool:
        """Whether dates had a time zone at the fit."""
        return self.format == "utc" or self.format.endswith(("Z", "%z")) or "," in self.dtype

    @property
    def is_block(self) -> bool:
        """Whether a cell is a whole of many parts, such as a picture or a string."""
        return self.type in ("picture", "text", "smiles")

    @property
    def modelled(self) -> bool:
        return self.role == "model"

    @property
    def pool_words(self) -> str:
        """What the rare values are called that share a level; "" where there are none."""
        count = len(self.pooled)
        return f"{count:,} rare value{'s together' if count > 1 else ''}" if count else ""

    @property
    def holds_words(self) -> bool:
        """Whether it is a category whose levels, as far as they are listed, are words."""
        words = all(isinstance(level, str) for level in self.levels)
        return self.type == "category" and words

    def level_words(self, code: int) -> str:
        """What a level is called; the pool has no value of its own."""
        level = self.levels[code]
        return self.pool_words if self.pooled and level == RARE else str(level)

    def one_of(self, code: int) -> str:
        """What a cell of this code is, in words, where rare values share the level; else ""."""
        shared = self.pooled and self.levels[code] == RARE
        return f"one of {len(self.pooled):,} rare values" if shared else ""

    @property
    def rare(self) -> tuple[Any, ...]:
        """Every value that can be asked for as one of those that share a level."""
        return (*self.pooled, *self.held_out) if self.pooled_counts else self.pooled

    @property
    def choices(self) -> str:
        """The levels that can be asked for, in words."""
        words = [self.level_words(code) for code in range(len(self.levels))]
        pool = self.pool_words
        alone = [word for word in words if word != pool]
        several = f"one of {len(self.pooled):,} rare values" if pool else ""
        shown = ", ".join(alone[:MAX_CHOICES])
        shown += f", ... ({len(alone):,} in all)" if len(alone) > MAX_CHOICES else ""
        return shown + (f" or {several}" if alone and pool else several)

    def density(self) -> Self:
        """The same column with a density in place of mass, if it is numeric."""
        return (
            dataclasses.replace(
                self,
                resolution=None,
                atoms=(),
                bounds=(None, None),
                only_atoms=False,
                precision=self.precision or None,
            )
            if self.numeric
            else self
        )

    def to_json(self) -> JSON:
        plain = {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            for value in (getattr(self, field.name),)
        }
        parse = plain.pop("parse")
        plain["merge"] = dict(self.merge)
        for key, default in _NEW.items():
            if plain[key] == default:
                del plain[key]
        if parse is None:
            return plain
        return plain | {"parse": parse if isinstance(parse, str) else form_json(parse)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """ValueError names an unknown field and lists those there are."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ValueError(
                f"Column {data.get('name')!r} has no field {unknown[0]!r}; its fields are "
                f"{', '.join(known)}."
            )
        if not {"name", "type"} <= set(data):
            raise ValueError(
                "A column needs a name and a type, got only "
                f"{', '.join(sorted(data)) or 'nothing'}."
            )
        plain: JSON = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        if isinstance(plain.get("merge"), Mapping):
            plain["merge"] = tuple(plain["merge"].items())
        return cls(**plain)

    def describe(self) -> str:
        """What its values are, in a few words."""
        if self.type == "picture":
            return f"pictures of {self.format} pixels" if self.format else "pictures"
        if self.type == "text":
            made_of = self.format or "characters"
            return f"strings of {len(self.levels)} {made_of}" if self.levels else "strings"
        if self.type == "smiles":
            return f"molecules of {len(self.levels)} tokens" if self.levels else "molecules"
        if not self.numeric:
            return self._describe_levels()
        parts = [
            "density"
            if self.resolution is None
            else "spikes"
            if self.only_atoms
            else f"steps of {self.resolution:.6g}{' days' if self.type == 'date' else ''}"
        ]
        parts += [] if self.parse is None else [f"written in words: {_words_of(self.parse)}"]
        parts += [f"from {self.bounds[0]:g}"] if self.bounds[0] is not None else []
        parts += [f"to {self.bounds[1]:g}"] if self.bounds[1] is not None else []
        say = day_text if self.is_date else "{:g}".format
        shown = ", ".join(say(atom) for atom in self.atoms[:_SHOWN_ATOMS])
        shown += ", ..." if len(self.atoms) > _SHOWN_ATOMS else ""
        parts += [f"spike at {shown}"] if self.atoms else []
        return ", ".join(parts)

    def _describe_levels(self) -> str:
        """How many levels there are, the first of them, and how many values share one."""
        alone = [level for level in self.levels if not self.pooled or level != RARE]
        shown = ", ".join(map(str, alone[:4])) + (", ..." if len(alone) > 4 else "")
        if not alone:
            return self.pool_words or "0 levels: "
        pool = f" and {self.pool_words}" if self.pooled else ""
        return f"{len(alone)} level{'' if len(alone) == 1 else 's'}: {shown}{pool}"


def _words_of(parse: Any) -> str:
    return parse if isinstance(parse, str) else str(parse.describe())


def _check_ends(name: Name, field: str, ends: Any) -> None:
    known = [end for end in ends if end is not None]
    numbers = all(isinstance(end, int | float) and end == end for end in known)
    if len(ends) != 2 or not numbers or (len(known) == 2 and known[0] > known[1]):
        raise ValueError(
            f"Column {name!r}: {field} are two numbers, low and high, either may be null; got "
            f"{list(ends)}."
        )


def _choose(name: Name, field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"Column {name!r}: {value!r} is no {field}; choose from {', '.join(choices)}."
        )


def _relation(data: Any) -> JSON:
    if not isinstance(data, Mapping) or not {"kind", "name", "of"} <= set(data) or not data["of"]:
        raise ValueError(
            f"A relation needs a kind, the name of a column and the names of others, got {data!r}."
        )
    return dict(data)


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table in their order, the target if there is one, what was set aside and
    ``assumed``, and the relations between columns, as ``Relation.to_json`` gives them."""

    columns: tuple[Column, ...]
    target: Name | None = None
    assumed: tuple[str, ...] = ()
    relations: tuple[JSON, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "assumed", tuple(self.assumed))
        object.__setattr__(self, "relations", tuple(self.relations))

    @property
    def notices(self) -> tuple[str, ...]:
        """All that a user should be told: what is doubtful, what was set aside and assumed."""
        return (*self.doubts, *self.assumed)

    def __getitem__(self, name: Name) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def with_pool(self, name: Name) -> Column | None:
        """The modelled column of this name, if rare values share one of its levels; else None."""
        found = (each for each in self.modelled if each.name == name and each.pooled)
        return next(found, None)

    @property
    def modelled(self) -> tuple[Column, ...]:
        """The columns that take part, in order."""
        return tuple(column for column in self.columns if column.modelled)

    @property
    def drawn(self) -> tuple[Column, ...]:
        """The columns of drawn rows: those modelled, and those that follow from them."""
        return tuple(column for column in self.columns if column.role != "set aside")

    @property
    def doubts(self) -> list[str]:
        """Every doubtful thing in the modelled columns, one sentence each."""
        return [doubt for column in self.columns for doubt in column.doubts]

    def to_json(self) -> JSON:
        return {
            "target": self.target,
            "columns": [column.to_json() for column in self.columns],
            "notices": list(self.assumed),
            **({"relations": list(self.relations)} if self.relations else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if "columns" not in data:
            raise ValueError(
                "A schema needs the entry 'columns': a list of columns, each with a name and a "
                "type."
            )
        return cls(
            tuple(Column.from_json(column) for column in data["columns"]),
            data.get("target"),
            tuple(data.get("notices", ())),
            tuple(map(_relation, data.get("relations", ()))),
        )

    @property
    def text(self) -> str:
        """As JSON that can be edited: each column tells what it was taken for."""
        columns = [
            dataclasses.replace(column, found=column.found or column.taken_as)
            for column in self.columns
        ]
        data = dataclasses.replace(self, columns=tuple(columns)).to_json()
        return json.dumps(data, indent=1, ensure_ascii=True) + "\n"

    def save(self, path: str | Path) -> None:
        """Write as JSON, so that a crash leaves no half file."""
        write_text(path, self.text)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """ValueError where the file is missing or is no schema."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(
                f"Cannot read the schema {str(path)!r}: {error.strerror or error}."
            ) from None
        except ValueError as error:
            raise ValueError(f"The schema {str(path)!r} is not valid JSON: {error}.") from None
        if not isinstance(data, dict):
            raise ValueError(
                f"The schema {str(path)!r} must be a JSON object with the entry 'columns'."
            )
        return cls.from_json(data)

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("column", "type", "values", "unit", "missing", "role")
        return [head, *(self._row(column) for column in self.columns)]

    def _row(self, column: Column) -> tuple[str, ...]:
        missing = f"{column.missing_share:.1%}" if column.missing_share else ""
        role = "target" if column.name == self.target else column.role
        return (str(column.name), column.type, column.describe(), column.unit, missing, role)

    def __str__(self) -> str:
        rows = self._rows()
        width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(size) for cell, size in zip(row, width, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                lines[0],
                "-" * len(lines[0]),
                *lines[1:],
                *(f"! {text}" for text in (*self.assumed, *self.doubts)),
            ]
        )

    def _repr_html_(self) -> str:
        head, *rows = [[html.escape(cell) for cell in row] for row in self._rows()]
        table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in (*self.assumed, *self.doubts))
        titles = "".join(f"<th>{cell}</th>" for cell in head)
        return (
            f"<table><thead><tr>{titles}</tr></thead><tbody>{table}</tbody></table><ul>{notes}</ul>"
        )

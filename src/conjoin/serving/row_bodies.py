"""What the questions about rows take and answer, as types of a model's own columns."""

from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from conjoin.model.model import Model
from conjoin.serving.limits import Limits
from conjoin.util.near import did_you_mean

__all__ = ["Beginning", "Body", "Given", "Range", "Rates", "rows_type"]

MAX_WHOLE = 2**63  # of whole numbers: larger ones are no cells
MAX_LEVELS = 50  # that the schema lists
MAX_CELL_CHARACTERS = 100_000


class Body(BaseModel):
    """Unknown fields, and numbers that are none, are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


def _checked(value: Any) -> Any:
    """A cell; ValueError for what none can be."""
    if isinstance(value, str):
        if len(value) > MAX_CELL_CHARACTERS:
            raise ValueError(f"has more than {MAX_CELL_CHARACTERS:,} characters")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise ValueError("holds half of a character")
        return value
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"is {value}; what is missing is null")
    if isinstance(value, int) and not -MAX_WHOLE <= value < MAX_WHOLE:
        raise ValueError("is a whole number of more than 64 bits")
    if value is not None and not isinstance(value, bool | int | float):
        what = "a list" if isinstance(value, list) else "an object"
        raise ValueError(f"holds {what}, and cells hold one value")
    return value


CELL = {"type": ["string", "number", "boolean", "null"]}
Cell = Annotated[Any, PlainValidator(_checked), WithJsonSchema(CELL)]


class Range(Body):
    """From ``low`` to ``high``; an end that is left out is open."""

    low: Cell = None
    high: Cell = None


class Beginning(Body):
    """The beginning of a string, which is to be continued."""

    prefix: str


def _condition(value: Any) -> Any:
    """A condition by its form."""
    if isinstance(value, dict):
        kind = Beginning if "prefix" in value else Range
        unknown = [name for name in value if name not in kind.model_fields]
        if unknown:
            raise ValueError(f"has {unknown[0][:100]!r}: a range is {{low, high}}")
        return kind.model_validate(value)
    return [_checked(each) for each in value] if isinstance(value, list) else _checked(value)


CONDITION = {
    "description": "a value, {low, high}, [levels], or {prefix} of a string",
    "type": ["string", "number", "boolean", "object", "array"],
}
Given = Annotated[Any, PlainValidator(_condition), WithJsonSchema(CONDITION)]


class Rates(Body):
    """What the verdicts of ``decide`` promise."""

    false_alarm: float = Field(0.05, gt=0, lt=1, description="Of familiar rows.")
    max_error: float | dict[str, float] | None = Field(
        0.05, description="Of accepted answers, or {class: rate}; null promises nothing."
    )
    max_width: float | None = Field(None, description="Of a number's interval.")
    reasons: bool = Field(True, description="Whether a sentence says what is unfamiliar.")


TEXT = {"type": ["string", "null"]}


def _text(value: Any) -> Any:
    """A text; null is one that is not known."""
    if value is not None and not isinstance(value, str):
        raise ValueError("a row is a string, or null")
    return _checked(value)


def rows_type(model: Model, limits: Limits) -> Any:
    """The type of a list of rows: objects by the names of columns, or strings."""
    size = Field(min_length=1, max_length=limits.rows)
    if not model.codec.columnwise:
        return Annotated[list[Annotated[Any, PlainValidator(_text), WithJsonSchema(TEXT)]], size]
    named = {str(column.name): column for column in model.codec.schema.columns}
    own = {str(model.target.name)} if model.target is not None else set()

    def known(row: Any) -> Any:
        if not isinstance(row, dict):
            raise ValueError("a row is an object, {column: cell}")
        for name, cell in row.items():
            if name not in named and name not in own:
                raise ValueError(
                    f"the column {_checked(name)[:100]!r} is none of the model's."
                    f"{did_you_mean(name, named)}"
                )
            try:
                _checked(cell)
            except ValueError as error:
                raise ValueError(f"the column {name!r} {error}") from None
        return row

    shape = {
        "type": "object",
        "title": "Row",
        "properties": {name: _described(column) for name, column in named.items()},
        "additionalProperties": False,
    }
    row = Annotated[Any, PlainValidator(known), WithJsonSchema(shape)]
    return Annotated[list[row], size]


def _described(column: Any) -> dict[str, Any]:
    """JSON schema of a column's cells; null is a missing one."""
    kind = ["number", "string", "null"] if column.numeric else ["string", "number", "boolean"]
    out: dict[str, Any] = {"type": list(dict.fromkeys([*kind, "null"]))}
    words = f"{column.type}{f', {column.unit}' if column.unit else ''}"
    levels = [str(level) for level in column.levels][:MAX_LEVELS]
    if levels and not column.numeric:
        words += f": {', '.join(levels)}{', ...' if len(column.levels) > len(levels) else ''}"
    return {**out, "description": words}

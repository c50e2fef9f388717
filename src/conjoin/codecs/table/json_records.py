"""Tables in JSON: one record a line (JSON lines), or an array of records."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from conjoin.codecs.table.stream import Source

__all__ = ["is_json", "read_json"]

_BEGINS = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{\]"\d-])')
_REMEDY = "give one flat record a line (JSON lines), an array of such records, or a CSV"

JSON = dict[str, Any]


def is_json(text: str) -> bool:
    """Whether a file begins as records in JSON do, and as no header of a CSV does."""
    if _BEGINS.match(text) is None:
        return False
    first = text.lstrip("\ufeff \t\r\n").split("\n", 1)[0].strip()
    try:
        return isinstance(json.loads(first), dict | list)
    except ValueError:
        # a record, or an array, over several lines
        return re.fullmatch(r'[\[{][\s\[{]*("[^"]*"\s*:.*)?', first) is not None


def read_json(source: Source, encoding: str) -> tuple[pd.DataFrame, list[str]]:
    """The records of a file as a table, and how it was read. Keys are columns in the order in which
    they come; a key that a record does not have, and null, are missing cells.

    ValueError, one sentence, for what is no list of flat records."""
    with source.open() as stream, io.TextIOWrapper(stream, encoding=encoding) as wrapped:
        text = wrapped.read()
    places = list(_records(source, text))
    if not places:
        raise ValueError(f"{source.name} is JSON without records.")
    _refuse_columns(source, [record for _, record in places])
    names = list(dict.fromkeys(name for _, record in places for name in record))
    for where, record in places:
        _refuse_nested(source, where, record)
    frame = pd.DataFrame.from_records([record for _, record in places], columns=names)
    rows = "1 record is the row" if len(places) == 1 else f"{len(places):,} records are the rows"
    told = f"{source.name} is JSON; its {rows}."
    fewer = sum(len(record) < len(names) for _, record in places)
    if fewer:
        told += f" {fewer:,} of them lack a key of others, and count as missing there."
    return frame, [told]


def _records(source: Source, text: str) -> Iterator[tuple[str, JSON]]:
    """Each record with its place, as a message names it."""
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        yield from _of_array(source, text)
        return
    lines = text.split("\n")
    if len([line for line in lines if line.strip()]) > 1 and not _is_whole(lines):
        whole = _parsed(source, text, "")
        yield "record 1", _record(source, "record 1", whole)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"line {number}"
            yield where, _record(source, where, _parsed(source, line, where))


def _is_whole(lines: Sequence[str]) -> bool:
    """Whether the first line that says something is JSON by itself."""
    first = next(line for line in lines if line.strip())
    try:
        json.loads(first.lstrip("\ufeff"))
    except ValueError:
        return False
    return True


def _of_array(source: Source, text: str) -> Iterator[tuple[str, JSON]]:
    found = _parsed(source, text, "")
    for number, record in enumerate(found, start=1):
        where = f"record {number:,}"
        yield where, _record(source, where, record)


def _parsed(source: Source, text: str, where: str) -> Any:
    try:
        return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_with_own_keys)
    except json.JSONDecodeError as error:
        line = where or f"line {error.lineno}"
        raise ValueError(
            f"{source.name} begins as JSON, but {line} is none ({error.msg}, column "
            f"{error.colno}); {_REMEDY}."
        ) from None
    except _TwiceError as error:
        raise ValueError(
            f"{source.name} is JSON, and a record{f' ({where})' if where else ''} has the key "
            f"{error.args[0]!r} twice; give each its own name."
        ) from None
    except RecursionError:
        raise ValueError(f"{source.name} is JSON that is nested too deeply; {_REMEDY}.") from None


class _TwiceError(Exception):
    """A key that stands twice in a record."""


def _with_own_keys(pairs: Sequence[tuple[str, Any]]) -> JSON:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return record


def _record(source: Source, where: str, found: Any) -> JSON:
    if isinstance(found, dict):
        return found
    kind = {list: "an array", str: "a string", type(None): "null", bool: "a truth value"}
    raise ValueError(
        f"{source.name} is JSON, and {where} is no record but {kind.get(type(found), 'a number')}; "
        f"{_REMEDY}."
    )


def _refuse_columns(source: Source, records: Sequence[JSON]) -> None:
    """ValueError for columns by their names, as pandas writes them by default."""
    cells = list(records[0].values())
    if len(records) == 1 and cells and all(isinstance(cell, dict | list) for cell in cells):
        raise ValueError(
            f"{source.name} is JSON by columns, not by records (pandas writes records by "
            f"to_json(orient='records')): {_REMEDY}."
        )


def _refuse_nested(source: Source, where: str, record: JSON) -> None:
    for name, cell in record.items():
        if isinstance(cell, dict | list):
            what = "a record" if isinstance(cell, dict) else "an array"
            raise ValueError(
                f"{source.name} is JSON, and {name!r} of {where} is no single value but {what}: "
                "spread it over columns of its own (pandas.json_normalize does), or leave it out."
            )

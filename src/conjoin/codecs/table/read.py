"""Files to DataFrames: separator, decimal mark and encoding are found out and said; what cannot be
read is one clear sentence.
"""

import codecs
import csv
import dataclasses
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from conjoin.codecs.table.stream import Limits, Source

__all__ = [
    "Limits",
    "check_header",
    "check_rows",
    "csv_options",
    "examine_text",
    "notices_of",
    "parquet_reader",
    "read_table",
]

# what pandas and numpy write for a missing cell; other words are never guessed
_EMPTY = [
    "",
    "nan",
    "NaN",
    "NaT",
    "<NA>",
]
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d+\s*")
_ZERO_PADDED = re.compile(r"0\d+")
_SAMPLE_ROWS = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class _Dialect:
    """How a text table is written."""

    encoding: str
    separator: str
    spaced: bool  # a space follows each separator
    decimal: str
    # columns of codes such as 00501, whose zeros are kept by reading them as text
    padded: tuple[str, ...]


def read_table(
    path: str | Path,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> tuple[pd.DataFrame, list[str]]:
    """The table in a CSV (comma, tab, semicolon or bar; .gz, .bz2, .xz; ``-`` is stdin) or Parquet
    file, with notices.

    Empty cells are missing; every other word stays as it is. ValueError, one sentence, for a file
    that is missing, empty, binary, ragged, without rows, with duplicate column names, or beyond
    ``limits``."""
    with Source(path, limits) as source:
        return _read(source)


def _read(source: Source) -> tuple[pd.DataFrame, list[str]]:
    if source.magic.startswith(b"PAR1"):
        return _read_parquet(source), []
    if source.magic.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{source.name} is a zip archive or an Excel file; unpack it, or save the sheet as CSV."
        )
    dialect, header = examine_text(source)
    notices = notices_of(source, dialect)
    if check_rows(source, dialect, header) == 0:
        raise ValueError(f"{source.name} has a header but no rows.")
    return _parse(source, dialect, header), notices


# -------------------------------------------------------------------------------- how it is written


def examine_text(source: Source) -> tuple[_Dialect, list[str]]:
    with source.open() as stream:
        head = stream.read(1 << 18)
        # a header may be longer than that
        head += stream.readline(1 << 24) if b"\n" not in head else b""
    if not head.strip():
        raise ValueError(f"{source.name} is empty: it has no header and no rows.")
    encoding = _encoding(source, head)
    text = head.decode(encoding, errors="ignore")
    _refuse_binary(source, text)
    lines = text.splitlines()
    lines = lines[:-1] if len(head) >= 1 << 18 and len(lines) > 1 else lines
    try:
        separator = _separator(lines[:100])
        spaced = _spaced(lines[:100], separator)
        header, *rows = [
            row
            for row in csv.reader(
                lines[: _SAMPLE_ROWS + 1], delimiter=separator, skipinitialspace=spaced
            )
            if row
        ]
    except csv.Error as error:
        raise ValueError(f"{source.name} cannot be read as a table: {error}.") from None
    check_header(source, header)
    decimal = "," if separator != "," and _decimal_comma(rows) else "."
    return _Dialect(encoding, separator, spaced, decimal, _padded(header, rows)), header


def _encoding(source: Source, head: bytes) -> str:
    marked = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    return marked or next(
        (name for name in ("utf-8", "cp1252") if _decodes(source, name)), "latin-1"
    )


def _decodes(source: Source, encoding: str) -> bool:
    """Whether the whole file does: it may turn out otherwise after megabytes of plain ASCII."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with source.open() as stream:
            while chunk := stream.read(1 << 18):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _refuse_binary(source: Source, text: str) -> None:
    control = sum(text.count(chr(code)) for code in range(32) if chr(code) not in "\t\n\r\f\v\x1a")
    if "\0" in text or control > 0.01 * len(text):
        raise ValueError(
            f"{source.name} is binary, not a text table; give a CSV (also .gz) or a Parquet file."
        )


def _separator(lines: list[str]) -> str:
    """The separator that splits every line into as many fields as the header; the one with most
    fields wins."""

    def fields(separator: str) -> tuple[bool, int]:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:  # what another separator would make one huge field of
            return False, 0
        usual = Counter(counts[1:]).most_common(1)[0][0] if len(counts) > 1 else counts[0]
        return counts[0] > 1 and usual == counts[0], counts[0]

    return max(_SEPARATORS, key=fields)


def _spaced(lines: list[str], separator: str) -> bool:
    cells = [cell for line in lines[1:] for cell in line.split(separator)[1:]]
    return bool(cells) and all(cell.startswith(" ") for cell in cells)


def _decimal_comma(rows: list[list[str]]) -> bool:
    cells = [cell for row in rows for cell in row]
    return any(map(_DECIMAL_COMMA.fullmatch, cells)) and not any(
        map(_DECIMAL_POINT.fullmatch, cells)
    )


def _padded(header: list[str], rows: list[list[str]]) -> tuple[str, ...]:
    return tuple(
        name
        for i, name in enumerate(header)
        if any(_ZERO_PADDED.fullmatch(row[i]) for row in rows if i < len(row))
    )


def notices_of(source: Source, dialect: _Dialect) -> list[str]:
    notices = []
    if dialect.separator != ",":
        notices.append(f"{source.name} separates its columns by {_SEPARATORS[dialect.separator]}.")
    if dialect.decimal == ",":
        notices.append(f"{source.name} writes decimals with a comma.")
    if dialect.encoding != "utf-8":
        notices.append(f"{source.name} is encoded as {dialect.encoding}.")
    notices += [
        f"Column {name!r} has numbers that start with 0; they are kept as text."
        for name in dialect.padded
    ]
    return notices


# ------------------------------------------------------------------------------------ what it holds


def check_header(source: Source, header: list[str]) -> None:
    limit = source.limits.columns
    if len(header) > limit:
        raise ValueError(
            f"{source.name} has {len(header):,} columns, more than the limit of {limit:,}; "
            "raise it with Limits(columns=...)."
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source.name} has more than one column named {', '.join(map(repr, twice))}; give "
            "each its own name."
        )


def check_rows(source: Source, dialect: _Dialect, header: list[str]) -> int:
    """How many rows there are; ValueError names the first line with too many or too few fields."""
    with (
        source.open() as stream,
        io.TextIOWrapper(stream, encoding=dialect.encoding, newline="") as text,
    ):
        reader = csv.reader(text, delimiter=dialect.separator, skipinitialspace=dialect.spaced)
        rows = -1
        width = len(header)
        try:
            for row in reader:
                if len(row) != width and row:
                    raise ValueError(
                        f"{source.name}, line {reader.line_num}, has {len(row)} fields where the "
                        f"header has {width}."
                    )
                rows += bool(row)
        except csv.Error as error:
            raise ValueError(
                f"{source.name}, line {reader.line_num}, cannot be read: {error}."
            ) from None
    return rows


def csv_options(dialect: _Dialect, header: list[str]) -> dict[str, Any]:
    return {
        "sep": dialect.separator,
        "decimal": dialect.decimal,
        "encoding": dialect.encoding,
        "skipinitialspace": dialect.spaced,
        "dtype": dict.fromkeys(dialect.padded, str),
        "names": header,
        "header": 0,
        "index_col": False,
        "keep_default_na": False,
        "na_values": _EMPTY,
        "low_memory": False,
    }


def _parse(source: Source, dialect: _Dialect, header: list[str]) -> pd.DataFrame:
    try:
        with source.open() as stream:
            frame: pd.DataFrame = pd.read_csv(stream, **csv_options(dialect, header))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{source.name} cannot be read as a table: {error}.") from None
    return frame


def parquet_reader(source: Source) -> tuple[Any, Any]:
    """pyarrow and its Parquet reader."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            f'{source.name} is a Parquet file, which needs pyarrow: pip install "conjoin[parquet]".'
        ) from None
    return pa, pq


def _read_parquet(source: Source) -> pd.DataFrame:
    pa, pq = parquet_reader(source)
    with source.open_raw() as raw:
        try:
            file = pq.ParquetFile(raw)
            meta = file.metadata
            check_header(source, list(file.schema_arrow.names))
            packed = raw.seek(0, io.SEEK_END)
            # run lengths and dictionaries make even "uncompressed" pages small, so count eight
            # bytes a cell
            source.check_size(meta.num_rows * meta.num_columns * 8)
            source.check_ratio(meta.num_rows * meta.num_columns * 8, packed)
            frame: pd.DataFrame = file.read().to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"{source.name} is a broken Parquet file ({str(error).splitlines()[0]})."
            ) from None
    if len(frame) == 0:
        raise ValueError(f"{source.name} has columns but no rows.")
    return frame

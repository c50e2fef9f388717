"""Files to DataFrames: separator, decimal mark and encoding are found out and said; what cannot be
read is one clear sentence.
"""

import codecs
import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from conjoin.codecs.table.first_lines import (
    blanks_words,
    looks_like_row,
    row_words,
    told_separator,
    units_words,
)
from conjoin.codecs.table.json_records import is_json, read_json
from conjoin.codecs.table.kept_text import EMPTY, KeptText, empty_words
from conjoin.codecs.table.sheets import sheet_words
from conjoin.codecs.table.stream import Limits, Source
from conjoin.codecs.table.totals import totals_words
from conjoin.codecs.table.values import text_of

__all__ = [
    "Limits",
    "broken_parquet",
    "check_columns",
    "check_header",
    "check_rows",
    "check_words",
    "csv_options",
    "examine_text",
    "notices_of",
    "parquet_reader",
    "read_records",
    "read_table",
]

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d+\s*")
_GROUPED_BY_POINTS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+\s*")
_POWER = re.compile(r"\d+[eE]\d+")
MAX_POWERS = 30  # distinct numbers such as 1E5 of a column, which may be names
_NO_POINT = re.compile(r"\s*[-+]?\d*\s*")
_HEAD_BYTES = 1 << 18  # that tell how a text is written
_SAMPLE_ROWS = 1_000
_SIZED_ROWS = 1 << 16  # rows of a Parquet file whose words are measured at once
MIN_TITLED_COLUMNS = 3  # of a table, from which on a line of one cell above it is a title
_WIDE_SHARE = 0.7  # of the characters of a UTF-16 text, at least, whose upper byte is 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Dialect:
    """How a text table is written."""

    encoding: str
    separator: str
    spaced: bool  # a space follows each separator
    decimal: str
    # columns such as 2.725 in a file with decimal commas: read as text, so that the codec, which
    # sees all columns, decides what the point means, and tells it
    pointed: tuple[str, ...] = ()
    skipped: int = 0  # lines above the header that tell the separator
    doubt: str = ""  # that the header may be a row
    powers: tuple[str, ...] = ()  # sentences about numbers such as 1E5


class Checked(NamedTuple):
    """The rows of a text table, the columns that are to be read as text, and what the user should
    be told of its lines and cells."""

    rows: int
    text: tuple[str, ...]
    told: tuple[str, ...]


def read_table(
    path: str | Path,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    as_written: Sequence[Any] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """The table in a CSV (comma, tab, semicolon or bar), in JSON (one flat record a line, or an
    array of them; both also .gz, .bz2, .xz; ``-`` is stdin), or in a Parquet file, with notices.

    Empty cells are missing; every other word stays as it is. The cells of the columns
    ``as_written`` are text where numbers would be written otherwise (1.10 as 1.1). ValueError, one
    sentence, for a file that is missing, empty, binary, ragged, without rows, with duplicate column
    names, or beyond ``limits``."""
    with Source(path, limits) as source:
        return _read(source, as_written)


def _read(source: Source, as_written: Sequence[Any]) -> tuple[pd.DataFrame, list[str]]:
    if source.magic.startswith(b"PAR1"):
        return _read_parquet(source), []
    if source.magic.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"{source.name} is a zip archive or an Excel file; unpack it, or save the sheet as CSV."
        )
    records = read_records(source)
    if records is not None:
        return records
    dialect, header = examine_text(source)
    checked = check_rows(source, dialect, header)
    if checked.rows == 0:
        raise ValueError(f"{source.name} has a header but no rows.")
    notices = [*notices_of(source, dialect), *checked.told]
    frame = _parse(source, dialect, header, checked)
    frame = _with_texts(source, dialect, header, checked, frame, as_written)
    totals = totals_words(frame)
    looks = [*([totals] if totals else []), *sheet_words(frame)]
    return frame, [*notices, *(f"{source.name}: {text}" for text in looks)]


# -------------------------------------------------------------------------------- how it is written


def _head(source: Source) -> bytes:
    """The first bytes: a header at least."""
    with source.open() as stream:
        head = stream.read(_HEAD_BYTES)
        # a header may be longer than that
        return head + (stream.readline(1 << 24) if b"\n" not in head else b"")


def read_records(source: Source) -> tuple[pd.DataFrame, list[str]] | None:
    """The table in a file of JSON, with notices; None for any other text."""
    head = _head(source)
    if head.removeprefix(codecs.BOM_UTF8).lstrip(b"\0 \t\r\n\xff\xfe")[:1] not in (b"{", b"["):
        return None
    encoding = _encoding(source, head)
    if not is_json(head.decode(encoding, errors="ignore")):
        return None
    frame, notices = read_json(source, encoding)
    check_header(source, list(frame.columns))
    gone = frame.isin(EMPTY)
    found = Counter(
        (name, cell) for name in frame for cell in frame[name][gone[name]].tolist() if cell
    )
    return frame.mask(gone), [*notices, *empty_words(found)]


def examine_text(source: Source) -> tuple[_Dialect, list[str]]:
    head = _head(source)
    encoding = _encoding(source, head)
    text = head.decode(encoding, errors="ignore")
    if not text.strip():
        raise ValueError(f"{source.name} is empty: it has no header and no rows.")
    _refuse_binary(source, text)
    lines = text.splitlines()
    lines = lines[:-1] if len(head) >= _HEAD_BYTES and len(lines) > 1 else lines
    told = told_separator(lines[0])
    lines = lines[1:] if told else lines
    if told and (told not in _SEPARATORS or not lines):
        raise ValueError(
            f"{source.name} begins with {'sep=' + told!r}, and no table follows whose columns are "
            f"separated by {' or '.join(_SEPARATORS.values())}."
        )
    try:
        separator = told or _separator(lines[:100])
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
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows[:100]):
        _refuse_titles(source, lines[:100])
    first = 1 + bool(told) + next(i for i, line in enumerate(lines) if line.strip())
    _refuse_blanks(source, header, lines[:100])
    doubt = row_words(first, header) if looks_like_row(header, rows) else ""
    if doubt and len(set(header)) < len(header):
        raise ValueError(f"{source.name}: {doubt}")
    check_header(source, header)
    units = units_words(first + 1, header, rows)
    if units:
        raise ValueError(f"{source.name}: {units}")
    decimal = "," if separator != "," and _decimal_comma(rows) else "."
    pointed = tuple(_pointed(header, rows))
    skipped = int(bool(told))
    powers = tuple(_told_of_powers(header, rows))
    dialect = _Dialect(encoding, separator, spaced, decimal, pointed, skipped, doubt, powers)
    return dialect, header


def _refuse_blanks(source: Source, header: list[str], lines: list[str]) -> None:
    """ValueError where blanks keep the columns apart."""
    words = blanks_words(lines) if len(header) == 1 else ""
    if words:
        raise ValueError(f"{source.name} {words}")


def _encoding(source: Source, head: bytes) -> str:
    """The encoding of the whole file. ValueError for one that breaks the encoding that its first
    bytes claim."""
    marked = next((name for bom, name in _BOMS if head.startswith(bom)), None) or _wide(head)
    if marked is None:
        possible = ("utf-8", "cp1252", "latin-1")
        return next(name for name in possible if _fault(source, name) is None)
    fault = _fault(source, marked)
    if fault is not None:
        raise ValueError(
            f"{source.name} begins as {marked}, but can't be read as that ({fault}): save it again "
            "as UTF-8."
        )
    return marked


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: of plain text nearly every second byte is 0."""
    even = head[0::2].count(0)
    odd = head[1::2].count(0)
    most = len(head) // 2
    if odd > _WIDE_SHARE * most and even < (1 - _WIDE_SHARE) * most:
        return "utf-16-le"
    if even > _WIDE_SHARE * most and odd < (1 - _WIDE_SHARE) * most:
        return "utf-16-be"
    return None


def _fault(source: Source, encoding: str) -> str | None:
    """Why the whole file can't be decoded, None where it can: it may turn out otherwise after
    megabytes of plain ASCII. ValueError where a byte of 0 stands in a text: its cell would be
    cut there, or not, as each reader likes."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        with source.open() as stream:
            while chunk := stream.read(1 << 18):
                text = decoder.decode(chunk)
                if "\0" in text:
                    line += text.count("\n", 0, text.index("\0"))
                    raise ValueError(_binary(source, f"line {line} has a byte of 0"))
                line += text.count("\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error.reason
    return None


def _binary(source: Source, why: str) -> str:
    return (
        f"{source.name} is binary or damaged, not a text table ({why}); give a CSV (also .gz) or a "
        "Parquet file."
    )


def _refuse_binary(source: Source, text: str) -> None:
    control = sum(text.count(chr(code)) for code in range(32) if chr(code) not in "\t\n\r\f\v\x1a")
    if control > 0.01 * len(text):
        raise ValueError(_binary(source, "it has control characters"))


def _refuse_titles(source: Source, lines: list[str]) -> None:
    """ValueError where lines of a single cell stand above the header."""
    found = [_titles(lines, separator) for separator in _SEPARATORS]
    if any(above == [] for above in found):
        return  # a header is there, whatever other separators would make of it
    some = [above for above in found if above]
    if some:
        *titles, (line, _) = min(some, key=len)
        first, words = next(
            ((at, cell) for at, row in titles for cell in row if cell.strip()), (1, "")
        )
        above = "line 1" if line == 2 else f"lines 1 to {line - 1}"
        raise ValueError(
            f"{source.name}: line {first} looks like a title ({words!r}), and line {line} like the "
            f"header; remove {above}."
        )


def _titles(lines: list[str], separator: str) -> list[tuple[int, list[str]]] | None:
    """The rows down to the first full one, each with its line, where single cells stand above it;
    nothing where none does; None where the lines are no table with this separator."""
    reader = csv.reader(lines, delimiter=separator)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error:  # what another separator would make one huge field of
        return None
    start = _first_whole([row for _, row in rows])
    return None if start is None else rows[: start + 1] if start else []


def _first_whole(rows: list[list[str]]) -> int | None:
    """How many rows of a single cell stand above the first full one, where all below are as wide as
    this, at least three cells; None where they are not."""
    if len(rows) < 2 or len(rows[-1]) < 2:
        return None
    width = len(rows[-1])
    start = next((i for i, row in enumerate(rows) if not _is_title(row, width)), len(rows))
    below = rows[start:]
    if len(below) < 2 or any(len(row) != width for row in below):
        return None
    return start if not start or all(cell.strip() for cell in below[0]) else None


def _is_title(row: list[str], width: int) -> bool:
    if width < MIN_TITLED_COLUMNS:
        return False
    return len(row) in (1, width) and sum(bool(cell.strip()) for cell in row) <= 1


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


def _pointed(header: list[str], rows: list[list[str]]) -> list[str]:
    """Columns whose points could all group thousands, where another column has decimal commas."""
    columns = {name: [row[i] for row in rows if i < len(row)] for i, name in enumerate(header)}
    if not any(_DECIMAL_COMMA.fullmatch(cell) for cells in columns.values() for cell in cells):
        return []
    return [name for name, cells in columns.items() if _may_be_grouped(cells)]


def _may_be_grouped(cells: list[str]) -> bool:
    grouped = [cell for cell in cells if _GROUPED_BY_POINTS.fullmatch(cell)]
    rest = [cell for cell in cells if cell not in EMPTY and not _NO_POINT.fullmatch(cell)]
    return bool(grouped) and len(rest) == len(grouped)


def _told_of_powers(header: list[str], rows: list[list[str]]) -> list[str]:
    """Of columns of few numbers, which may be names: all are written as 1E5."""
    columns = {
        name: list(dict.fromkeys(row[i] for row in rows if i < len(row) and row[i]))
        for i, name in enumerate(header)
    }
    return [
        f"Column {name!r} has {cells[0]}, which is read as the number {float(cells[0]):.15g}. If "
        f"it is a name, write another letter before it (x{cells[0]})."
        for name, cells in columns.items()
        if cells and len(cells) <= MAX_POWERS and all(map(_POWER.fullmatch, cells))
    ]


def notices_of(source: Source, dialect: _Dialect) -> list[str]:
    notices = [f"{source.name}: {dialect.doubt}"] if dialect.doubt else []
    if dialect.separator != ",":
        notices.append(f"{source.name} separates its columns by {_SEPARATORS[dialect.separator]}.")
    if dialect.decimal == ",":
        notices.append(f"{source.name} writes decimals with a comma.")
    if dialect.encoding != "utf-8":
        notices.append(f"{source.name} is encoded as {dialect.encoding}.")
    return [*notices, *dialect.powers]


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


def check_rows(source: Source, dialect: _Dialect, header: list[str]) -> Checked:
    """How many rows there are; ValueError names the first line with too many or too few fields, and
    one that repeats the header."""
    with (
        source.open() as stream,
        io.TextIOWrapper(stream, encoding=dialect.encoding, newline="") as text,
    ):
        for _ in range(dialect.skipped):
            next(text)
        kept = KeptText(header, dialect.separator)
        lines = kept.lines(text)
        reader = csv.reader(lines, delimiter=dialect.separator, skipinitialspace=dialect.spaced)
        rows = -1
        blank: list[int] = []  # lines among the rows
        waiting: list[int] = []  # lines after the last row so far
        try:
            for row in reader:
                line = reader.line_num + dialect.skipped
                if not row:
                    waiting += [line] if rows >= 0 else []
                    continue
                _check_row(source, line, row, header, rows >= 0 and not dialect.doubt)
                blank += waiting
                waiting = []
                rows += 1
                if rows:
                    kept.look(row)
        except csv.Error as error:
            line = reader.line_num + dialect.skipped
            raise ValueError(f"{source.name}, line {line}, cannot be read: {error}.") from None
    told = (*kept.told, *_told_of_blank(source, blank))
    return Checked(rows, kept.names, told)


def _check_row(source: Source, line: int, row: list[str], header: list[str], below: bool) -> None:
    """``below``: whether it stands below the header, which is no row."""
    if len(row) != len(header):
        raise ValueError(
            f"{source.name}, line {line}, has {len(row)} fields where the header has {len(header)}."
        )
    if below and row == header and len(row) > 1:
        raise ValueError(
            f"{source.name}, line {line}, repeats the header, as where tables were put one below "
            "the other; remove it."
        )


def _told_of_blank(source: Source, lines: list[int]) -> tuple[str, ...]:
    if not lines:
        return ()
    if len(lines) == 1:
        return (f"{source.name}: line {lines[0]} is blank, and is no row.",)
    return (
        f"{source.name}: {len(lines):,} lines are blank, and are no rows (line {lines[0]} is the "
        "first).",
    )


def csv_options(dialect: _Dialect, header: list[str], checked: Checked) -> dict[str, Any]:
    return {
        "sep": dialect.separator,
        "decimal": dialect.decimal,
        "encoding": dialect.encoding,
        "skipinitialspace": dialect.spaced,
        "dtype": dict.fromkeys((*checked.text, *dialect.pointed), str),
        "names": header,
        "header": 0,
        "skiprows": dialect.skipped,
        "index_col": False,
        "keep_default_na": False,
        "na_values": list(EMPTY),
        "low_memory": False,
    }


def _parse(source: Source, dialect: _Dialect, header: list[str], checked: Checked) -> pd.DataFrame:
    try:
        with source.open() as stream:
            frame: pd.DataFrame = pd.read_csv(stream, **csv_options(dialect, header, checked))
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{source.name} cannot be read as a table: {error}.") from None
    return frame


def _with_texts(
    source: Source,
    dialect: _Dialect,
    header: list[str],
    checked: Checked,
    frame: pd.DataFrame,
    names: Sequence[Any],
) -> pd.DataFrame:
    """The frame with the cells of these columns as they are written, where numbers would be written
    otherwise."""
    numbers = [
        name for name in header if name in names and pd.api.types.is_numeric_dtype(frame[name])
    ]
    if not numbers:
        return frame
    texts = _parse(source, dialect, header, checked._replace(text=(*checked.text, *numbers)))
    changed = {
        name: texts[name]
        for name in numbers
        if set(texts[name].dropna()) != set(map(text_of, frame[name].dropna()))
    }
    return frame.assign(**changed)


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


def check_columns(source: Source, file: Any) -> None:
    """ValueError where a Parquet file has too many columns, two of one name, or one whose cells
    are no single values."""
    import pyarrow as pa

    check_header(source, list(file.schema_arrow.names))
    for field in file.schema_arrow:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind):
            raise ValueError(
                f"{source.name}: a cell of column {field.name!r} is no single value but "
                f"{kind!s:.80}: spread it over columns of its own, or leave it out."
            )


def _check_packed(source: Source, meta: Any, packed: int) -> None:
    """ValueError where the file is too large once unpacked, as far as its footer tells."""
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    pages = sum(group.total_byte_size for group in groups)
    # run lengths and dictionaries make even "uncompressed" pages small, so count eight bytes a cell
    size = max(pages, meta.num_rows * meta.num_columns * 8)
    source.check_size(size)
    source.check_ratio(size, packed)


def check_words(source: Source, raw: Any, rows: int) -> None:
    """ValueError where the words of ``rows`` rows, which are read at once, would take too many
    bytes: a Parquet file may hold a word once for many rows."""
    pa, pq = parquet_reader(source)
    schema = pq.read_schema(raw)
    words = [field.name for field in schema if _is_words(pa, field.type)]
    if not words:
        return
    raw.seek(0)
    file = pq.ParquetFile(raw, read_dictionary=words)
    held = 0
    total = 0
    for batch in file.iter_batches(min(rows, _SIZED_ROWS), columns=words):
        if held + len(batch) > rows:
            held = 0
            total = 0
        held += len(batch)
        total += sum(_bytes_of(column) for column in batch.columns)
        source.check_size(total)


def _is_words(pa: Any, kind: Any) -> bool:
    kinds = pa.types
    return any(
        test(kind)
        for test in (
            kinds.is_string,
            kinds.is_large_string,
            kinds.is_binary,
            kinds.is_large_binary,
        )
    )


def _bytes_of(column: Any) -> int:
    """Bytes of the words of a column, each counted as often as it stands there."""
    import pyarrow.compute as pc

    if "dictionary" not in dir(column):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices).cast("int64")).as_py() or 0)


def _read_parquet(source: Source) -> pd.DataFrame:
    pa, pq = parquet_reader(source)
    with source.open_raw() as raw:
        try:
            file = pq.ParquetFile(raw)
            check_columns(source, file)
            packed = raw.seek(0, io.SEEK_END)
            _check_packed(source, file.metadata, packed)
            check_words(source, raw, max(1, file.metadata.num_rows))
            frame: pd.DataFrame = file.read().to_pandas()
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise broken_parquet(source, error) from None
    if len(frame) == 0:
        raise ValueError(f"{source.name} has columns but no rows.")
    return frame


def broken_parquet(source: Source, error: Exception) -> ValueError:
    """The error for a Parquet file that pyarrow can't read."""
    why = next(iter(str(error).splitlines()), "no reason given")
    return ValueError(f"{source.name} is a broken Parquet file ({why}).")

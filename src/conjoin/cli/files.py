"""Tables and models in and out of files: notices said, nothing overwritten unasked, nothing left half-written."""

import contextlib
import gzip
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjoin.cli.voice import Voice
from conjoin.codecs.pictures import SUFFIXES, is_pictures

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TABLES",
    "at_once",
    "beside",
    "chunked",
    "claim",
    "claim_pictures",
    "draft",
    "frames_of",
    "limits_of",
    "load_model",
    "read",
    "refuse_for_tables",
    "rows_of",
    "stem",
    "write",
]

TABLES = (".csv", ".csv.gz", ".parquet")  # that pictures are written to, as what they can be beside pictures
_WRITTEN = (".csv", ".csv.gz", ".tsv", ".parquet")
_PACKED = (".gz", ".bz2", ".xz")
_PIECE = 4096  # pictures that are asked about at once
_CELLS = 20_000_000  # of a table that is still read at once


def limits_of(max_bytes: int | None, max_ratio: float | None, max_columns: int | None) -> Any:
    from conjoin.codecs.table import Limits

    given: dict[str, Any] = {"bytes": max_bytes, "ratio": max_ratio, "columns": max_columns}
    return Limits(**{key: value for key, value in given.items() if value is not None})


def read(path: str, limits: Any, voice: Voice, codec: Any = None) -> "pd.DataFrame":
    """The table in a file, as the codec of a model is to see it; how it was read is said."""
    from conjoin.codecs.table import read_table

    if is_pictures(path):
        what = "is a directory" if Path(path).is_dir() else "holds pictures"
        raise ValueError(f"{path} {what}, and this command is about tables: give a CSV or Parquet file.")
    frame, notices = read_table(path, limits=limits)
    voice.note(*notices)
    return frame if codec is None else _for_model(frame, path, codec)


def _for_model(frame: "pd.DataFrame", path: str, codec: Any) -> "pd.DataFrame":
    """The frame of a file, where relative paths in the model's column of pictures are below the folder of the file."""
    from conjoin.codecs.illustrated import below, pictures_of

    return below(frame, Path(path).parent, pictures_of(codec))


def beside(frame: "pd.DataFrame", path: str, types: Any, missing: Any) -> "pd.DataFrame":
    """The frame of a file that is to be fitted, where relative paths of pictures are below the folder of the file."""
    from conjoin.codecs.illustrated import in_folder

    return in_folder(frame, Path(path).parent, types, missing)


def chunked(path: str, limits: Any, chunk_rows: int | None) -> Any:
    """The table in chunks where that was asked for, or where it is large; else None."""
    from conjoin.codecs.table import Chunks
    from conjoin.codecs.table.chunks import CHUNK_ROWS, cells_of

    if chunk_rows is None and (path == "-" or cells_of(path) <= _CELLS):
        return None
    return Chunks(path, CHUNK_ROWS if chunk_rows is None else chunk_rows, limits)


def frames_of(path: str, limits: Any, chunk_rows: int | None, voice: Voice, codec: Any) -> "Iterator[pd.DataFrame]":
    """The table in a file as the codec of a model is to see it, at once or in chunks."""
    table = chunked(path, limits, chunk_rows)
    if table is None:
        yield read(path, limits, voice, codec)
        return
    with table:
        voice.note(*table.notices)
        yield from (_for_model(frame, path, codec) for frame in table.read())


def refuse_for_tables(path: str, given: dict[str, Any]) -> None:
    """ValueError for the first option that is given, where all are about pictures and ``path`` is a table."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} is about pictures, and {path} is a table.")


def at_once(estimator: Any, path: str, limits: Any, part: str | None, voice: Voice) -> "pd.DataFrame":
    """The whole table, or all pictures as the model expects them."""
    if is_pictures(path):
        from conjoin.cli.pictures import frame_of

        return frame_of(estimator, path, part, limits.bytes, voice)[0]
    refuse_for_tables(path, {"--part": part})
    return read(path, limits, voice, estimator.model_.codec)


def rows_of(estimator: Any, path: str, limits: Any, chunk_rows: int | None, part: str | None, voice: Voice) -> "Iterator[pd.DataFrame]":
    """The rows of a table, or pictures as the model expects them, at once or in pieces."""
    if not is_pictures(path):
        refuse_for_tables(path, {"--part": part})
        yield from frames_of(path, limits, chunk_rows, voice, estimator.model_.codec)
        return
    frame = at_once(estimator, path, limits, part, voice)
    for start in range(0, len(frame), _PIECE):
        yield frame.iloc[start : start + _PIECE]


def load_model(path: str) -> Any:
    """The estimator in a model's folder."""
    from conjoin.estimators import load

    return load(path)


def stem(path: str) -> str:
    """What a model of this file is called.

    >>> stem("data/stock.2024.csv.gz"), stem("-")
    ('stock.2024', 'stdin')
    """
    name = "stdin" if path == "-" else Path(path).name
    for suffix in (*_PACKED, ".csv", ".tsv", ".txt", ".parquet", ".npz", *SUFFIXES):
        name = name.removesuffix(suffix) or name
    return name


def claim(path: str | None, force: bool, suffixes: tuple[str, ...] = _WRITTEN) -> None:
    """ValueError or FileExistsError, before any work is done, where the output could not be written in the end."""
    if path is None or path == "-":
        return
    if not path.endswith(suffixes):
        raise ValueError(f"{path} is written by its suffix, which must be one of {', '.join(suffixes)}.")
    if Path(path).is_dir():
        raise FileExistsError(f"{path} is a folder: choose another name.")
    if Path(path).exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or overwrite it with --force.")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {Path(path).parent}.")


def claim_pictures(out: str | None, force: bool) -> None:
    """ValueError or FileExistsError, before any work is done, where drawn pictures could not be written in the end."""
    if out is None or out == "-":
        raise ValueError("Drawn pictures need a place: -o FOLDER/ for one file each, -o NAME.png for a sheet, -o NAME.npz for arrays.")
    if Path(out).suffix and not out.endswith("/") and not Path(out).is_dir():
        claim(out, force, (".png", ".npz", *TABLES))
        return
    place = Path(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        if not force:
            raise FileExistsError(f"{out} exists: choose another name, or overwrite it with --force.")
        others = [file.name for file in place.rglob("*") if file.is_file() and file.suffix != ".png"] if place.is_dir() else [place.name]
        if others:
            raise FileExistsError(f"{out} holds {others[0]!r}, which is no drawn picture: it is not overwritten.")
    if not place.parent.is_dir():
        raise ValueError(f"{out} cannot be written: there is no folder {place.parent}.")


@contextlib.contextmanager
def draft(path: str) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it in the end, or removed if there is none."""
    partial = Path(path).with_name(f".{os.getpid()}-{Path(path).name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(tables: "Iterable[pd.DataFrame]", path: str, alike: dict[str, str] | None = None) -> None:
    """The rows of all tables, by suffix; ``-`` is CSV on standard output. ``alike``: {column: one of the same type}, for a
    Parquet column of which the first table may know no value."""
    if path == "-":
        _write_text(tables, sys.stdout, ",")
        return
    with draft(path) as partial:
        if path.endswith(".parquet"):
            _write_parquet(tables, partial, alike or {})
            return
        opener: Any = gzip.open if path.endswith(".gz") else open
        with opener(partial, "wt", encoding="utf-8", newline="") as file:
            _write_text(tables, file, "\t" if ".tsv" in path else ",")


def _write_text(tables: "Iterable[pd.DataFrame]", file: Any, separator: str) -> None:
    for number, table in enumerate(tables):
        table.to_csv(file, index=False, sep=separator, header=number == 0, lineterminator="\n")


def _write_parquet(tables: "Iterable[pd.DataFrame]", path: Path, alike: dict[str, str]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError('Parquet needs pyarrow: pip install "conjoin[parquet]".') from None
    with contextlib.ExitStack() as stack:
        schema = writer = None
        for table in tables:
            rows = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
            if writer is None:
                schema = rows.schema
                for name, other in alike.items():
                    if name in schema.names:
                        schema = schema.set(schema.get_field_index(name), schema.field(other).with_name(name))
                rows = rows.cast(schema)
                writer = stack.enter_context(pq.ParquetWriter(path, schema))
            writer.write_table(rows)

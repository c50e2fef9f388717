"""What the command line writes: claimed first, under a draft name until it is whole."""

import contextlib
import gzip
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjoin.codecs.image.pictures import SUFFIXES
from conjoin.util.files import new_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "Text", "claim", "claim_pictures", "is_text", "stem", "text_of", "write"]

# what pictures can be written to, as what they can be beside pictures
TABLES = (".csv", ".csv.gz", ".parquet")
_PACKED = (".gz", ".bz2", ".xz")
_WRITTEN = (".csv", ".csv.gz", ".tsv", ".parquet")
_READ = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Text:
    """Rows as a text file has them. ``formulas``: how many cells of each column a spreadsheet would
    take for formulas."""

    content: str
    rows: int
    formulas: dict[str, int]

    def __len__(self) -> int:
        return self.rows


def stem(path: str) -> str:
    """What a model of this file is called.

    >>> stem("data/stock.2024.csv.gz"), stem("-")
    ('stock.2024', 'stdin')
    """
    name = "stdin" if path == "-" else Path(path).name
    for suffix in (*_PACKED, *_READ, ".npz", ".sdf", ".mol", ".xyz", *SUFFIXES):
        name = name.removesuffix(suffix) or name
    return name


def claim(path: str | None, force: bool, suffixes: tuple[str, ...] = _WRITTEN) -> None:
    """ValueError or FileExistsError, before any work is done, where the output could not be written
    in the end."""
    if path is None or path == "-":
        return
    if not path.endswith(suffixes):
        raise ValueError(
            f"{path} is written by its suffix, which must be one of {', '.join(suffixes)}."
        )
    if Path(path).is_dir():
        raise FileExistsError(f"{path} is a folder: choose another name.")
    if Path(path).exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or overwrite it with --force.")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {Path(path).parent}.")


def claim_pictures(out: str | None, force: bool) -> None:
    """ValueError or FileExistsError, before any work is done, where drawn pictures could not be
    written in the end."""
    if out is None or out == "-":
        raise ValueError(
            "Drawn pictures need a place: -o FOLDER/ for one file each, -o NAME.png for a sheet, "
            "-o NAME.npz for arrays."
        )
    if Path(out).suffix and not out.endswith("/") and not Path(out).is_dir():
        claim(out, force, (".png", ".npz", *TABLES))
        return
    place = Path(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        if not force:
            raise FileExistsError(
                f"{out} exists: choose another name, or overwrite it with --force."
            )
        others = (
            [file.name for file in place.rglob("*") if file.is_file() and file.suffix != ".png"]
            if place.is_dir()
            else [place.name]
        )
        if others:
            raise FileExistsError(
                f"{out} holds {others[0]!r}, which is no drawn picture: it is not overwritten."
            )
    if not place.parent.is_dir():
        raise ValueError(f"{out} cannot be written: there is no folder {place.parent}.")


def is_text(path: str) -> bool:
    """Whether the tables of ``write`` may come as ``Text``."""
    return not path.endswith(".parquet")


def text_of(table: "pd.DataFrame", path: str, header: bool) -> str:
    """The rows as ``write`` writes them to a text file."""
    text = io.StringIO(newline="")
    _write_table(table, text, path, header)
    return text.getvalue()


def write(
    tables: "Iterable[pd.DataFrame | Text]", path: str, alike: dict[str, str] | None = None
) -> None:
    """The rows of all tables, by suffix; ``-`` is CSV on standard output. ``alike``: {column: one
    of the same type}, for a Parquet column of which the first table may know no value."""
    if path == "-":
        _write_text(tables, sys.stdout, path)
        return
    with new_file(path) as partial:
        if path.endswith(".parquet"):
            _write_parquet(tables, partial, alike or {})  # type: ignore[arg-type]
            return
        opener: Any = gzip.open if path.endswith(".gz") else open
        with opener(partial, "wt", encoding="utf-8", newline="") as file:
            _write_text(tables, file, path)


def _write_text(tables: "Iterable[pd.DataFrame | Text]", file: Any, path: str) -> None:
    for number, table in enumerate(tables):
        if isinstance(table, Text):
            file.write(table.content)
        else:
            _write_table(table, file, path, header=number == 0)


def _write_table(table: "pd.DataFrame", file: Any, path: str, header: bool) -> None:
    separator = "\t" if ".tsv" in path else ","
    table.to_csv(file, index=False, sep=separator, header=header, lineterminator="\n")


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
                        schema = schema.set(
                            schema.get_field_index(name), schema.field(other).with_name(name)
                        )
                rows = rows.cast(schema)
                writer = stack.enter_context(pq.ParquetWriter(path, schema))
            writer.write_table(rows)

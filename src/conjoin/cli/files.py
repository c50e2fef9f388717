"""Tables and models in and out of files: notices said, nothing overwritten unasked, nothing left half-written."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjoin.cli.voice import Voice

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["claim", "draft", "limits_of", "load_model", "read", "stem", "write"]

_WRITTEN = (".csv", ".csv.gz", ".tsv", ".parquet")
_PACKED = (".gz", ".bz2", ".xz")


def limits_of(max_bytes: int | None, max_ratio: float | None, max_columns: int | None) -> Any:
    from conjoin.codecs.table import Limits

    given: dict[str, Any] = {"bytes": max_bytes, "ratio": max_ratio, "columns": max_columns}
    return Limits(**{key: value for key, value in given.items() if value is not None})


def read(path: str, limits: Any, voice: Voice) -> "pd.DataFrame":
    """The table in a file; how it was read is said."""
    from conjoin.codecs.table import read_table

    frame, notices = read_table(path, limits=limits)
    voice.note(*notices)
    return frame


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
    for suffix in (*_PACKED, ".csv", ".tsv", ".txt", ".parquet"):
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


@contextlib.contextmanager
def draft(path: str) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it in the end, or removed if there is none."""
    partial = Path(path).with_name(f".{os.getpid()}-{Path(path).name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(frame: "pd.DataFrame", path: str) -> None:
    """By suffix; ``-`` is CSV on standard output."""
    if path == "-":
        frame.to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    with draft(path) as partial:
        if path.endswith(".parquet"):
            _write_parquet(frame, partial)
        else:
            packing: Any = "gzip" if path.endswith(".gz") else None
            frame.to_csv(partial, index=False, sep="\t" if ".tsv" in path else ",", compression=packing, lineterminator="\n")


def _write_parquet(frame: "pd.DataFrame", path: Path) -> None:
    try:
        frame.to_parquet(path, index=False)
    except ImportError:
        raise ValueError('Parquet needs pyarrow: pip install "conjoin[parquet]".') from None

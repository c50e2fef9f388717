"""A table in a file, some rows at a time: for tables that do not fit into memory, and for answers
about them.
"""

import copy
import dataclasses
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.codecs.table.kept_text import told_while_read
from conjoin.codecs.table.read import (
    broken_parquet,
    check_columns,
    check_rows,
    check_words,
    csv_options,
    examine_text,
    notices_of,
    parquet_reader,
    read_records,
)
from conjoin.codecs.table.stream import Limits, Source
from conjoin.codecs.table.values import text_of

__all__ = ["CHUNK_ROWS", "Chunks", "cells_of"]

CHUNK_ROWS = 1 << 16
WINDOW_ROW_GROUPS = 8  # row groups that a shuffled chunk is drawn from
BYTES_PER_CELL = 6  # bytes of a cell in a text table, about


class Chunks:
    """The rows of a CSV, JSON or Parquet file, ``rows`` at a time, as frames whose index numbers
    the rows of the file; a context. JSON is read at once.

    ``count`` rows in all. They can be read again and again. The number of bytes is unlimited unless
    ``limits`` says otherwise. ``as_written`` is that of ``read_table``."""

    def __init__(
        self,
        path: str | Path,
        rows: int = CHUNK_ROWS,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        as_written: Sequence[Any] = (),
    ) -> None:
        if rows < 1:
            raise ValueError(f"chunk_rows must be at least 1 row, got {rows}.")
        whole = limits.bytes == Limits().bytes
        self.rows = rows
        self._as_written = as_written
        self.source = Source(
            path, dataclasses.replace(limits, bytes=sys.maxsize) if whole else limits
        )
        self._at_once = limits  # of what is in memory at a time
        self.count = 0
        self.notices = list[str]()
        self._text: dict[str, Any] = {}  # how a text table is read
        self._records: pd.DataFrame | None = None  # those of JSON
        self._starts: list[int] = []  # the first row of each row group

    def __enter__(self) -> Self:
        self.source.__enter__()
        try:
            if self.source.magic.startswith(b"PAR1"):
                self._open_parquet()
            else:
                self._open_text()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.source.__exit__()

    def read(self, seed: int | None = None) -> Iterator[pd.DataFrame]:
        """All chunks. With a ``seed`` row groups come in another order, and a chunk has rows of
        several; text stays as it is."""
        if self._records is not None:
            frame = self._records
            return (frame[at : at + self.rows] for at in range(0, len(frame), self.rows))
        if not self._text:
            return self._gathered(
                self._parquet(None if seed is None else np.random.default_rng(seed))
            )
        return self._csv()

    # ------------------------------------------------------------------ Parquet

    def _open_parquet(self) -> None:
        pa, pq = parquet_reader(self.source)
        try:
            with self.source.open_raw() as raw:
                file = pq.ParquetFile(raw)
                check_columns(self.source, file)
                sizes = [
                    file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)
                ]
                check_words(self._in_memory(), raw, self.rows)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise broken_parquet(self.source, error) from None
        self.count = sum(sizes)
        self._starts = [sum(sizes[:group]) for group in range(len(sizes))]
        if not self.count:
            raise ValueError(f"{self.source.name} has columns but no rows.")

    def _parquet(self, rng: np.random.Generator | None) -> Iterator[pd.DataFrame]:
        """Pieces of the row groups in their order, or of several at once in a drawn order."""
        pa, pq = parquet_reader(self.source)
        order = (
            range(len(self._starts)) if rng is None else rng.permutation(len(self._starts)).tolist()
        )
        width = 1 if rng is None else WINDOW_ROW_GROUPS
        try:
            with self.source.open_raw() as raw:
                file = pq.ParquetFile(raw)
                waiting = deque(self._group(file, group, -(-self.rows // width)) for group in order)
                window = deque(waiting.popleft() for _ in range(min(width, len(waiting))))
                while window:
                    group = window.popleft()
                    piece = next(group, None)
                    if piece is not None:
                        yield piece
                        window.append(group)
                    elif waiting:
                        window.append(waiting.popleft())
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise broken_parquet(self.source, error) from None

    def _group(self, file: Any, group: int, rows: int) -> Iterator[pd.DataFrame]:
        start = self._starts[group]
        for batch in file.iter_batches(rows, row_groups=[group]):
            yield batch.to_pandas().set_axis(pd.RangeIndex(start, start + len(batch)), axis=0)
            start += len(batch)

    def _gathered(self, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Small pieces put together to chunks."""
        held: list[pd.DataFrame] = []
        for piece in pieces:
            if held and sum(map(len, held)) + len(piece) > self.rows:
                yield pd.concat(held)
                held = []
            held.append(piece)
        yield pd.concat(held)

    def _in_memory(self) -> Source:
        """The source under the limits of what is in memory at a time."""
        piece = copy.copy(self.source)
        piece.limits = self._at_once
        return piece

    # ------------------------------------------------------------------ text

    def _open_text(self) -> None:
        """A column that holds words anywhere is read as words everywhere, as it would be at
        once."""
        records = read_records(self._in_memory())
        if records is not None:
            self._records, self.notices = records
            self.count = len(self._records)
            return
        dialect, header = examine_text(self.source)
        checked = check_rows(self.source, dialect, header)
        self.notices = [*notices_of(self.source, dialect), *told_while_read(checked.told)]
        self.count = checked.rows
        if self.count < 1:
            raise ValueError(f"{self.source.name} has a header but no rows.")
        self._text = csv_options(dialect, header, checked)
        words = {
            name
            for chunk in self._csv()
            for name in chunk
            if pd.api.types.is_string_dtype(chunk[name])
        }
        self._text["dtype"] = dict.fromkeys(words, str) | self._text["dtype"]
        kept = self._rewritten([name for name in header if name in self._as_written])
        self._text["dtype"] = dict.fromkeys(kept, str) | self._text["dtype"]

    def _rewritten(self, names: Sequence[str]) -> set[str]:
        """Which of these columns numbers would write otherwise than the file does."""
        names = [name for name in names if name not in self._text["dtype"]]
        if not names:
            return set()
        options = {**self._text, "usecols": names}
        texts = {**options, "dtype": dict.fromkeys(names, str)}
        return {
            name
            for plain, text in zip(self._csv(options), self._csv(texts), strict=True)
            for name in names
            if set(text[name].dropna()) != set(map(text_of, plain[name].dropna()))
        }

    def _csv(self, options: dict[str, Any] | None = None) -> Iterator[pd.DataFrame]:
        try:
            with (
                self.source.open() as stream,
                pd.read_csv(stream, chunksize=self.rows, **(options or self._text)) as reader,
            ):
                yield from reader
        except pd.errors.ParserError as error:
            raise ValueError(f"{self.source.name} cannot be read as a table: {error}.") from None


def cells_of(path: str | Path) -> int:
    """About how many cells the table in a file has; 0 where that would take reading it (an archive,
    standard input)."""
    try:
        if not Path(path).is_file():  # a pipe can be read once only
            return 0
        with Path(path).open("rb") as file:
            magic = file.read(4)
        if magic != b"PAR1":
            return (
                0
                if magic[:3] in (b"\x1f\x8b\x08", b"BZh", b"\xfd7z")
                else os.path.getsize(path) // BYTES_PER_CELL
            )
        import pyarrow.parquet as pq

        meta = pq.read_metadata(path)
        return int(meta.num_rows * meta.num_columns)
    except (OSError, ImportError, ValueError):
        return 0

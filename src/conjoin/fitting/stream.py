"""A fit on a table that need not fit into memory: a sample of it to begin with, all of it to learn
from.

One pass deals the rows out by a seeded hash of their content and draws the sample. All held-out
rows are in it (their share shrinks as the table grows, so that they stay as many as those of a
table of ``sample`` rows), of the others a uniform sample, kept by least random keys (S. Efraimidis
and P. Spirakis (2006), Weighted random sampling with a reservoir, for equal weights), and whatever
row holds a value that a column has not had, or its largest or smallest number, so that no level is
lost.

From the sample come codec, structure, starting parameters, the predictor and the calibration. Then
every row that is not held out teaches: sufficient statistics are added up over the whole table in
each pass; a gradient takes its mini-batches from it. Memory does not grow with the table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from conjoin.calibration.conformal import rows_for_false_alarm
from conjoin.codecs.table import Chunks
from conjoin.codecs.table.chunks import CHUNK_ROWS
from conjoin.codecs.table.rows import content_hashes
from conjoin.codecs.table.values import blank, map_distinct, merged, text_of
from conjoin.core import Event, Pair
from conjoin.model.targets import Target
from conjoin.training.data import MIN_DISTINCT_SHARE, Split, are_copies, group_hashes
from conjoin.training.feed import Read

__all__ = ["MAX_PASSES", "SAMPLE_ROWS", "Stream", "draw", "file_stream"]

SAMPLE_ROWS = 100_000  # rows
MAX_PASSES = 10  # over the table, at most
MAX_CHECKED_VALUES = 100  # values beyond which a column has no levels to be lost
FIT, CHOOSE, CALIBRATE = range(3)


@dataclass(frozen=True)
class Deal:
    """Which part a row belongs to: a function of its content (or of its group, or place) and of the
    seed alone."""

    seed: int
    choose: float
    calibrate: float
    groups: Any = None
    by_place: bool = False  # where most rows are repeats, equality means nothing

    def parts(self, frame: pd.DataFrame) -> np.ndarray:
        """(B,) FIT, CHOOSE or CALIBRATE."""
        key = np.random.default_rng(self.seed).integers(1 << 63, dtype=np.uint64)
        place = pd.util.hash_array(self._hashes(frame) ^ key) / 2.0**64
        return np.select(
            [place < self.calibrate, place >= 1 - self.choose], [CALIBRATE, CHOOSE], FIT
        )

    def _hashes(self, frame: pd.DataFrame) -> np.ndarray:
        if self.groups is not None:
            return group_hashes(frame[self.groups])
        return (
            frame.index.to_numpy().astype(np.uint64)
            if self.by_place
            else content_hashes(_plain(frame))
        )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers as floats: whether one is missing from a chunk must not change the hash of the
    others."""
    return frame.astype(
        {
            name: "float64"
            for name, dtype in frame.dtypes.items()
            if pd.api.types.is_integer_dtype(dtype)
        }
    )


@dataclass(frozen=True)
class Stream:
    """A table, how its rows are dealt out, and its sample: ``frame`` with its ``split``; ``rows``
    teach, all in all."""

    chunks: Chunks
    deal: Deal
    frame: pd.DataFrame
    split: Split
    rows: int
    passes: int = MAX_PASSES
    label: Any = None  # the target's column
    unlabelled: Any = None
    blanks: tuple[Any, ...] = ()  # values of the target that mean missing
    # (text of a cell of the target, the label that it is read as)
    merge: tuple[tuple[str, Any], ...] = ()

    def reader(self, codec: Any, target: Target | None) -> Read:
        """What teaches, encoded: ``read(epoch, rank, world)``."""

        def read(epoch: int, rank: int, world: int) -> Iterator[Event | Pair]:
            for frame in self.chunks.read(self.deal.seed + epoch):
                teaches = self.deal.parts(frame) == FIT
                # the sample tells how cells are read: what then can't be read counts as missing
                part = codec.rows(frame).frame[teaches].iloc[rank::world]
                if len(part):
                    x = codec.encode(part).event
                    yield x if target is None else Pair(self._labels(part[self.label], target), x)

        return read

    def _labels(self, column: Any, target: Target) -> Event:
        y = merged(blank(column, self.blanks), self.merge)
        known = y.notna().to_numpy() & (
            True if self.unlabelled is None else (y != self.unlabelled).to_numpy()
        )
        labels = target.labels
        if labels is None:
            values, read = target.parsed(y.where(known))
            return target.encode(np.where(known & read, values, 0.0), known & read)
        codes = {text_of(label): code for code, label in enumerate(labels)}
        places = map_distinct(y, lambda value: codes.get(text_of(value), -1), 0, "int64")
        if (places[known] < 0).any():
            raise ValueError(
                f"The target {self.label!r} has the class {y[known & (places < 0)].iloc[0]!r}, "
                "of which the sample has no row: "
                "take a larger one (sample_rows)."
            )
        return target.encode(labels[places], known)

    def facts(self) -> dict[str, int]:
        """For the model card."""
        return {
            "rows": self.chunks.count,
            "sample": len(self.frame),
            "chunk_rows": self.chunks.rows,
        }


# --------------------------------------------------------------------------------------- the sample


def draw(
    chunks: Chunks,
    seed: int,
    calibration: float = 0.2,
    choose: float = 0.15,
    groups: Any = None,
    rows: int = SAMPLE_ROWS,
) -> Stream:
    """The stream of a table, with a sample of about ``rows`` rows."""
    deal = _deal(chunks, seed, calibration, choose, groups, rows)
    sample = _Sample(round(rows * (1 - calibration - choose * (1 - calibration))), seed)
    teach = 0
    for frame in chunks.read():
        parts = deal.parts(frame)
        sample.add(frame, parts)
        teach += int((parts == FIT).sum())
    frame = sample.frame()
    parts = deal.parts(frame)
    split = Split(*(np.flatnonzero(parts == part) for part in (FIT, CHOOSE, CALIBRATE)))
    return Stream(chunks, deal, frame.reset_index(drop=True), split, teach)


def _deal(
    chunks: Chunks, seed: int, calibration: float, choose: float, groups: Any, rows: int
) -> Deal:
    if not 0 <= calibration < 0.9:
        raise ValueError(f"calibration must be a share from 0 to under 0.9, got {calibration}.")
    some = min(chunks.count, rows)
    held = calibration if some * calibration >= rows_for_false_alarm(0.05) else 0.0
    head = next(chunks.read()).head(10_000)
    if groups is not None and groups not in head:
        raise ValueError(
            f"There is no column {groups!r} of groups; the columns are "
            f"{', '.join(map(str, head.columns))}."
        )
    counts = np.unique(content_hashes(_plain(head)), return_counts=True)[1]
    repeats = len(counts) < MIN_DISTINCT_SHARE * len(head) and not are_copies(counts)
    part = some / chunks.count
    return Deal(seed, choose * (1 - held) * part, held * part, groups, repeats)


@dataclass
class _Sample:
    """A uniform sample of ``size`` rows that teach, beside rows that must be in it."""

    size: int
    seed: int
    bar: float = 1.0  # no row with a key above it can be among the least
    frames: list[pd.DataFrame] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    # the values of each column; None for many
    seen: dict[Any, set[Any] | None] = field(default_factory=dict)
    range: dict[Any, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 1])

    def add(self, frame: pd.DataFrame, parts: np.ndarray) -> None:
        key = self.rng.random(len(frame))
        key[(parts != FIT) | self._fresh(frame)] = -1.0
        self.frames.append(frame[key < self.bar])
        self.keys.append(key[key < self.bar])
        if sum(int((key >= 0).sum()) for key in self.keys) > 2 * self.size:
            self._shrink()

    def frame(self) -> pd.DataFrame:
        """The sample, in the order of the table."""
        self._shrink()
        return self.frames[0].sort_index()

    def _shrink(self) -> None:
        frame = pd.concat(self.frames)
        key = np.concatenate(self.keys)
        drawn = key[key >= 0]
        if len(drawn) > self.size:
            self.bar = float(np.partition(drawn, self.size)[self.size])
        self.frames = [frame[key < self.bar]]
        self.keys = [key[key < self.bar]]

    def _fresh(self, frame: pd.DataFrame) -> np.ndarray:
        """(B,) whether a cell of the row is the first with its value, or beyond all numbers so
        far."""
        fresh = np.zeros(len(frame), dtype=bool)
        for name in frame:
            column = frame[name]
            fresh |= self._first(name, column)
            if pd.api.types.is_numeric_dtype(column.dtype) and column.notna().any():
                fresh |= self._beyond(name, column.to_numpy(dtype="float64", na_value=np.nan))
        return fresh

    def _first(self, name: Any, column: Any) -> np.ndarray:
        seen = self.seen.setdefault(name, set())
        if seen is None:
            return np.zeros(len(column), dtype=bool)
        fresh = set(column.dropna().unique()) - seen
        self.seen[name] = seen | fresh if len(seen) + len(fresh) <= MAX_CHECKED_VALUES else None
        return (
            (column.isin(fresh) & ~column.duplicated()).to_numpy()
            if self.seen[name] is not None
            else np.zeros(len(column), dtype=bool)
        )

    def _beyond(self, name: Any, values: np.ndarray) -> np.ndarray:
        low, high = self.range.get(name, (np.inf, -np.inf))
        least = float(np.nanmin(values))
        most = float(np.nanmax(values))
        self.range[name] = min(low, least), max(high, most)
        fresh = np.zeros(len(values), dtype=bool)
        fresh[
            [int(np.nanargmin(values))] * (least < low)
            + [int(np.nanargmax(values))] * (most > high)
        ] = True
        return fresh


# ------------------------------------------------------------------------------------------ a file


@contextmanager
def file_stream(
    path: Any,
    target: Any = None,
    *,
    supervised: bool,
    seed: int = 0,
    groups: Any = None,
    calibration: float = 0.2,
    chunk_rows: int = CHUNK_ROWS,
    sample_rows: int = SAMPLE_ROWS,
    passes: int = MAX_PASSES,
    unlabelled: Any = None,
) -> Iterator[tuple[pd.DataFrame, pd.Series | None, Stream]]:
    """The sample of a CSV or Parquet file, its target, and the stream of all of its rows, as long
    as the file is open.

    Parameters
    ----------
    target, groups
        Names of columns, or None.
    supervised
        Whether there is to be a target.
    calibration
        Share of the rows held out for the alarms.
    chunk_rows, sample_rows
        Rows read at once, and rows that the start is fitted to.
    passes
        Over all rows, at most.
    unlabelled
        A label that means "not known".

    Raises
    ------
    ValueError
        For a column that is not there.
    """
    with Chunks(path, chunk_rows) as chunks:
        stream = draw(chunks, seed, calibration, groups=groups, rows=sample_rows)
        absent = target is not None and target not in stream.frame
        if absent or (target is not None) != supervised:
            raise ValueError(
                f"target={target!r} is no column to predict; the columns are "
                f"{', '.join(map(str, stream.frame))}."
            )
        aside = [name for name in (target, groups) if name is not None]
        y = None if target is None else stream.frame[target]
        stream = replace(stream, passes=passes, label=target, unlabelled=unlabelled)
        yield stream.frame.drop(columns=aside), y, stream

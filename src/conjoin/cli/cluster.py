"""--ray: the questions of a command, answered by the workers of a Ray cluster."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from conjoin.cli.files import note_elsewhere, rows_of
from conjoin.cli.voice import Voice
from conjoin.util.energy import Energy

__all__ = ["UNIQUE", "Cluster", "Table", "all_rows", "cluster_of", "numbered", "pieces_of"]

# that a model evaluates at once: pieces are whole numbers of them, since the last bit of an answer
# may depend on its place among the rows that are evaluated with it
BLOCK_ROWS = 4096
# of a piece, at most. A piece costs up to .2 s whatever its rows, so that large ones pay as long as
# all workers have work
PIECE_ROWS = 32_768
PIECE_CELLS = 1 << 20
PIECES_OF_WORKER = 2  # at least, where there are enough rows
UNIQUE = "unique"  # of a piece's attrs: columns without equal cells in all that was read first


@dataclass(frozen=True)
class Table:
    """The rows that a command is about, and how they are read."""

    path: str
    limits: Any
    chunk_rows: int | None
    part: str | None
    voice: Voice
    skip_broken: bool


@dataclass(frozen=True)
class Loaded:
    """A saved model without the surface of an estimator, whose imports take as long as all of the
    rest."""

    model_: Any


def loaded(folder: Path) -> Loaded:
    """The model in a folder, for one processor."""
    from conjoin.model.saving import load_model

    return Loaded(load_model(folder, device="cpu"))


@dataclass(frozen=True)
class Cluster:
    """The cluster at an address, and how many of its processors are to answer; None: all.
    ``voice`` says what is waited for. ``spent``: what its answers took."""

    address: str
    workers: int | None
    voice: Voice
    spent: list[Energy] = field(default_factory=list)

    def answers(
        self, model: str, read: Callable[[Any], Iterator[Any]], ask: Callable[[Any, Any], Any]
    ) -> Iterator[Any]:
        """``ask(estimator, piece)`` of each piece that ``read(estimator)`` gives, in order."""
        from conjoin.serving.cluster import answered, joined

        with joined(self.address, self.workers, self.voice.note) as workers:
            yield from self._noted(answered(model, read, ask, workers))

    def answers_about(
        self, model: str, table: Table, ask: Callable[[Any, Any], Any]
    ) -> Iterator[Any]:
        """``ask(loaded, (first, rows))`` of each piece of a table, in order; ``loaded.model_`` is
        the model, and ``first`` the number of the piece's first row, from 1 on."""
        from conjoin.serving.cluster import answered, joined

        with joined(self.address, self.workers, self.voice.note) as workers:
            read = partial(_numbered_pieces, table, workers)
            yield from self._noted(answered(model, read, ask, workers, loaded))

    def _noted(self, answers: Iterator[tuple[Any, Energy | None]]) -> Iterator[Any]:
        """The answers alone; what they took is noted down."""
        for answer, energy in answers:
            if energy is not None:
                self.spent.append(energy)
                note_elsewhere(energy)
            yield answer


def cluster_of(
    ray: str | None,
    workers: int | None,
    voice: Voice,
    device: str = "auto",
    data: str | None = None,
) -> Cluster | None:
    """The cluster that is asked for; None: this process answers. ValueError for options that do
    not go together."""
    if ray is None:
        if workers is not None:
            raise ValueError(
                "--workers is how many processes of a cluster answer: give --ray beside it."
            )
        return None
    if device not in ("auto", "cpu"):
        raise ValueError(
            f"--device {device} can't be asked beside --ray, whose workers have one processor each."
        )
    if data == "-":
        raise ValueError(
            "Standard input can't be read by another process, as --ray does: name a file."
        )
    return Cluster(ray, workers, voice)


def all_rows(table: Table, model: Any) -> Iterator[Any]:
    """The rows as one process reads them: at once, or in chunks."""
    asked = {each.name: getattr(table, each.name) for each in dataclasses.fields(table)}
    return rows_of(model, **asked)


def numbered(pieces: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Each piece and the number of its first row, from 1 on."""
    first = 1
    for rows in pieces:
        yield first, rows
        first += len(rows)


def _numbered_pieces(table: Table, workers: int, asked: Any) -> Iterator[tuple[int, Any]]:
    return numbered(pieces_of(table, asked, workers))


def _parts(rows: int, columns: int, workers: int) -> list[slice]:
    """Of rows that are read at once: as few pieces as the limits allow, of about equal sizes, and
    equally many for each worker."""
    blocks = -(-rows // BLOCK_ROWS)
    cells = BLOCK_ROWS * max(columns, 1)
    most = max(1, min(PIECE_ROWS // BLOCK_ROWS, PIECE_CELLS // cells))  # blocks of a piece
    rounds = max(PIECES_OF_WORKER, -(-blocks // (most * workers)))
    count = max(1, min(blocks, rounds * workers))
    ends = [blocks * part // count * BLOCK_ROWS for part in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def pieces_of(table: Table, estimator: Any, workers: int = 1) -> Iterator[Any]:
    """The rows, in pieces of ``chunk_rows``, or in ``_parts``."""
    import pandas as pd

    from conjoin.core.event import slices

    unique: list[Any] | None = None  # of the rows that are read first, as one process sees them
    columns = estimator.model_.codec.schema.columns
    aside = {str(column.name) for column in columns if not column.modelled}
    for rows in all_rows(table, estimator.model_):
        asked = table.chunk_rows
        if not isinstance(rows, pd.DataFrame):
            yield from (rows.take(part) for part in slices(len(rows), asked or BLOCK_ROWS))
            continue
        if unique is None:
            unique = [name for name in rows if str(name) in aside and rows[name].is_unique]
        rows.attrs[UNIQUE] = unique
        parts = slices(len(rows), asked) if asked else _parts(*rows.shape, workers)
        yield from (rows.iloc[part] for part in parts)

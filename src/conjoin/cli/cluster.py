"""--ray: the questions of a command, answered by the workers of a Ray cluster."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from conjoin.cli.files import note_elsewhere, rows_of
from conjoin.cli.voice import Voice
from conjoin.util.energy import Energy

__all__ = ["UNIQUE", "Cluster", "Table", "all_rows", "cluster_of", "pieces_of"]

PIECE_ROWS = 4096  # of a table that is read at once; a model evaluates so many at once
UNIQUE = "unique"  # of a piece's attrs: columns without equal cells in all that was read with it


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
class Cluster:
    """The cluster at an address, and how many of its processors are to answer; None: all.
    ``spent``: what its answers took."""

    address: str
    workers: int | None
    spent: list[Energy] = field(default_factory=list)

    def answers(
        self, model: str, read: Callable[[Any], Iterator[Any]], ask: Callable[[Any, Any], Any]
    ) -> Iterator[Any]:
        """``ask(estimator, piece)`` of each piece that ``read(estimator)`` gives, in order."""
        from conjoin.serving.cluster import answered, joined

        with joined(self.address, self.workers) as workers:
            for answer, energy in answered(model, read, ask, workers):
                if energy is not None:
                    self.spent.append(energy)
                    note_elsewhere(energy)
                yield answer


def cluster_of(
    ray: str | None, workers: int | None, device: str = "auto", data: str | None = None
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
    return Cluster(ray, workers)


def all_rows(table: Table, model: Any) -> Iterator[Any]:
    """The rows as one process reads them: at once, or in chunks."""
    asked = {each.name: getattr(table, each.name) for each in dataclasses.fields(table)}
    return rows_of(model, **asked)


def pieces_of(table: Table, estimator: Any) -> Iterator[Any]:
    """The rows, in pieces of ``chunk_rows`` or of ``PIECE_ROWS``."""
    import pandas as pd

    from conjoin.core.event import slices

    most = table.chunk_rows or PIECE_ROWS
    columns = estimator.model_.codec.schema.columns
    aside = {str(column.name) for column in columns if not column.modelled}
    for rows in all_rows(table, estimator.model_):
        if not isinstance(rows, pd.DataFrame):
            yield from (rows.take(part) for part in slices(len(rows), most))
            continue
        rows.attrs[UNIQUE] = [name for name in rows if str(name) in aside and rows[name].is_unique]
        yield from (rows.iloc[part] for part in slices(len(rows), most))

"""Tables and models in and out of files: notices said, nothing overwritten unasked, nothing left
half-written.
"""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from conjoin.cli.kinds import reader_of
from conjoin.cli.voice import Voice

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FileOptions",
    "asked_models",
    "at_once",
    "beside",
    "chunked",
    "frames_of",
    "limits_of",
    "load_model",
    "model_of",
    "note_asked",
    "note_elsewhere",
    "read",
    "refuse_for_tables",
    "rows_of",
    "say_unfinished",
    "spent_elsewhere",
]

# folders of the models that a command asks, to which its energy is noted down
asked_models: ContextVar[list[str]] = ContextVar("asked_models")
# energy that other processes took to answer a command
spent_elsewhere: ContextVar[list[Any]] = ContextVar("spent_elsewhere")
_PICTURES_AT_ONCE = 4096  # pictures that are asked about at once
_MAX_CELLS_AT_ONCE = 20_000_000  # of a table that is still read at once


class FileOptions(NamedTuple):
    """The options of a fit that are about files of pictures or molecules, as typed; all but
    ``max_bytes``, ``skip_broken`` and ``target`` are of pictures."""

    size: str | None = None
    part: str | None = None
    max_bytes: int | None = None
    range: str | None = None
    resize: str | None = None
    skip_broken: bool = False
    groups: str | None = None
    target: str | None = None


def limits_of(max_bytes: int | None, max_ratio: float | None, max_columns: int | None) -> Any:
    from conjoin.codecs.table import Limits

    given: dict[str, Any] = {"bytes": max_bytes, "ratio": max_ratio, "columns": max_columns}
    return Limits(**{key: value for key, value in given.items() if value is not None})


def read(
    path: str, limits: Any, voice: Voice, codec: Any = None, as_written: Sequence[Any] = ()
) -> "pd.DataFrame":
    """The table in a file, as the codec of a model is to see it; how it was read is said, but for
    numbers that are kept as text, which whoever models them tells. ``as_written`` is that of
    ``read_table``, where there is no codec."""
    from conjoin.codecs.table import read_table
    from conjoin.codecs.table.kept_text import told_while_read

    reader = reader_of(path)
    if reader is not None:
        what = "is a directory" if Path(path).is_dir() else f"holds {reader.PLURAL}"
        raise ValueError(
            f"{path} {what}, and this command is about tables: give a CSV or Parquet file."
        )
    as_written = as_written if codec is None else codec.as_written
    frame, notices = read_table(path, limits=limits, as_written=as_written)
    voice.note(*told_while_read(notices))
    return frame if codec is None else _for_model(frame, path, codec)


def _for_model(frame: "pd.DataFrame", path: str, codec: Any) -> "pd.DataFrame":
    """The frame of a file, where relative paths in the model's column of pictures are below the
    folder of the file."""
    located: pd.DataFrame = codec.located(frame, Path(path).parent)
    return located


def beside(frame: "pd.DataFrame", path: str, types: Any, missing: Any) -> "pd.DataFrame":
    """The frame of a file that is to be fitted, where relative paths of pictures are below the
    folder of the file."""
    from conjoin.codecs.kinds import kind_of

    kind = kind_of(frame, types, missing)
    placed: pd.DataFrame = kind.in_folder(frame, Path(path).parent, types, missing)
    return placed


def chunked(path: str, limits: Any, chunk_rows: int | None, as_written: Sequence[Any] = ()) -> Any:
    """The table in chunks where that was asked for, or where it is large; else None."""
    from conjoin.codecs.table import Chunks
    from conjoin.codecs.table.chunks import CHUNK_ROWS, cells_of

    if chunk_rows is None and (path == "-" or cells_of(path) <= _MAX_CELLS_AT_ONCE):
        return None
    return Chunks(path, CHUNK_ROWS if chunk_rows is None else chunk_rows, limits, as_written)


def frames_of(
    path: str, limits: Any, chunk_rows: int | None, voice: Voice, codec: Any
) -> "Iterator[pd.DataFrame]":
    """The table in a file as the codec of a model is to see it, at once or in chunks."""
    table = chunked(path, limits, chunk_rows, codec.as_written)
    if table is None:
        yield read(path, limits, voice, codec)
        return
    with table:
        voice.note(*table.notices)
        yield from (_for_model(frame, path, codec) for frame in table.read())


def refuse_for_tables(path: str, given: dict[str, Any]) -> None:
    """ValueError for the first option that is given, where all are about pictures and ``path`` is a
    table."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} is about pictures, and {path} is a table.")


def at_once(
    model: Any,
    path: str,
    limits: Any,
    part: str | None,
    voice: Voice,
    skip_broken: bool = False,
) -> Any:
    """The whole table, or all pictures as the model expects them."""
    reader = reader_of(path)
    if reader is not None:
        return reader.asked_rows(model, path, part, limits.bytes, voice, skip_broken)[0]
    refuse_for_tables(path, {"--part": part, "--skip-broken": skip_broken or None})
    return read(path, limits, voice, model.codec)


def rows_of(
    model: Any,
    path: str,
    limits: Any,
    chunk_rows: int | None,
    part: str | None,
    voice: Voice,
    skip_broken: bool = False,
) -> Iterator[Any]:
    """The rows of a table, or pictures as the model expects them, at once or in pieces."""
    if reader_of(path) is None:
        refuse_for_tables(path, {"--part": part, "--skip-broken": skip_broken or None})
        yield from frames_of(path, limits, chunk_rows, voice, model.codec)
        return
    from conjoin.core.event import slices

    rows = at_once(model, path, limits, part, voice, skip_broken)
    yield from (rows.take(part) for part in slices(len(rows), _PICTURES_AT_ONCE))


def load_model(path: str, device: str = "auto") -> Any:
    """The estimator in a model's folder, on ``device``. ValueError for one of several
    targets, about which no command asks."""
    from conjoin.estimators import load

    found = load(path, device=device)
    note_asked(path)
    _refuse_several(found.model_, path)
    return found


def model_of(path: str, device: str = "auto") -> Any:
    """The model in a folder, on ``device``, without the surface of an estimator, whose imports
    take as long as all of the rest. ValueError as of ``load_model``."""
    from conjoin.model.saving import load_model as load

    found = load(path, device=device)
    note_asked(path)
    _refuse_several(found, path)
    return found


def note_asked(path: str) -> None:
    """That the command asks the model in a folder, to which its energy is noted down."""
    models = asked_models.get(None)
    if models is not None:  # a verb that is called as a function has no command around it
        models.append(path)


def note_elsewhere(energy: Any) -> None:
    """What another process took to answer the command."""
    spent = spent_elsewhere.get(None)
    if spent is not None:
        spent.append(energy)


def say_unfinished(model: Any, voice: Voice) -> None:
    """Where the fit ran out of time, every answer is worth less, whether or not it was told."""
    from conjoin.model.words import out_of_time

    voice.note(*out_of_time(model.facts))


def _refuse_several(model: Any, path: str) -> None:
    from conjoin.model.several import SeveralTargets

    if isinstance(model, SeveralTargets):
        raise ValueError(
            f"{path} predicts several targets ({', '.join(model.names)}), and commands are "
            "about one: use it in Python, conjoin.load(folder)."
        )

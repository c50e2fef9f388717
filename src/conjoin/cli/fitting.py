"""``conjoin fit``: the table is read and split into x, y, groups and times; the model is fitted,
saved, and described.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conjoin.cli.files import FileOptions, beside, chunked, load_model, read
from conjoin.cli.kinds import reader_of
from conjoin.cli.output import stem
from conjoin.cli.pictures import sized
from conjoin.cli.target import Task, take_target, task_of
from conjoin.cli.voice import Voice, plain_table
from conjoin.cli.words import grouped, in_shell, missing_of, schema_file
from conjoin.codecs.smiles.column import broken_rows
from conjoin.codecs.table import Schema
from conjoin.codecs.table.overrides import named_categories, of_target, reopened
from conjoin.codecs.table.reading import usual_decimal
from conjoin.codecs.table.values import merged
from conjoin.estimators.functions import estimator_of
from conjoin.estimators.notices import told_elsewhere
from conjoin.families import resolve
from conjoin.fitting.options import SPEEDS
from conjoin.fitting.stream import Stream, draw
from conjoin.model.saving import model_hash, refuse_overwrite
from conjoin.predictors import choices
from conjoin.questions.summary import RATE, describe, facts_of, useful_rate
from conjoin.training.checkpoint import Stop
from conjoin.training.ranks import rank, wait
from conjoin.util.files import locked, resolved, write_text
from conjoin.util.near import did_you_mean

__all__ = ["FitCommand", "fit_table"]

PREDICTORS = {str(name).lower(): name for name in choices()}  # as typed: none is None
MAX_SHOWN_DOUBTS = 5  # doubts on the screen
MARK = "fit.json"  # in a folder of checkpoints: what the fit was begun with


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitCommand:
    """The options of ``conjoin fit``, as typed."""

    data: str
    target: str | None
    out: str
    task: str
    family: str | None
    predictor: str
    schema: str | None
    missing: list[str] | None
    missingness: Any
    unlabelled: str | None
    groups: str | None
    time: str | None
    calibration: float
    seed: int
    max_time: float | None
    max_kwh: float | None
    emphasis: str
    resume: bool
    force: bool
    verbose: bool
    chunk_rows: int | None = None
    size: str | None = None
    part: str | None = None
    range: str | None = None
    resize: str | None = None
    levels: int | None = None
    skip_broken: bool = False
    start_from: Any = None  # a model's folder; once the fit has begun, the estimator in it
    precision: str = "auto"
    speed: str = "default"
    device: str = "auto"
    types: list[str] | None = None


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The table, taken apart; or pictures (an array), with how they are to be read later."""

    x: Any
    y: pd.Series | None
    task: Task
    types: Any  # a Schema, or {column: fields}
    missing: dict[Any, list[Any]]
    groups: pd.Series | None
    time: pd.Series | None
    reading: dict[str, Any] | None = None
    target_missing: tuple[Any, ...] = ()  # values of y that mean that it is not known
    content: bytes | None = None  # a digest of rows that are neither a table nor pictures


def fit_table(asked: FitCommand, limits: Any, voice: Voice) -> None:
    """Fit and save; every mistake that can be seen before the fit is seen before the fit."""
    _claim(asked)
    _check(asked)
    advised = asked.schema or f"{stem(asked.data)}-schema.json"
    schema_file.set((advised, Path(advised).exists()))
    if asked.start_from is not None:
        asked = dataclasses.replace(asked, start_from=load_model(asked.start_from, asked.device))
    asked = dataclasses.replace(asked, family=_family(asked))
    reader = reader_of(asked.data)
    if reader is not None:
        _refuse(asked, reader.NOT_ASKED, "tables", f"holds {reader.PLURAL}")
        _fit(asked, _pictures(reader, asked, limits, voice), None, voice)
        return
    _refuse(asked, PICTURES_ONLY, "pictures")
    words = _categories(asked)
    table = chunked(asked.data, limits, asked.chunk_rows, words)
    if table is None:
        frame = _without_broken(asked, read(asked.data, limits, voice, None, words), voice)
        _fit(asked, _take_apart(asked, frame), None, voice)
        return
    _refuse(asked, ("skip_broken",), "pictures")
    if asked.time is not None:
        raise ValueError(
            "--time needs the whole table at once, and this one is read in chunks: give fewer "
            "rows, or no --time."
        )
    with table:
        stream = draw(table, asked.seed, asked.calibration, groups=asked.groups)
        voice.note(
            *table.notices,
            f"{table.count:,} rows are read {table.rows:,} at a time; {len(stream.frame):,} of "
            "them are the start.",
        )
        _fit(asked, _take_apart(asked, stream.frame), stream, voice)


def _fit(asked: FitCommand, parts: _Parts, stream: Stream | None, voice: Voice) -> None:
    """``stream``: the whole table, of which the parts are a sample."""
    voice.note(parts.task.words)
    estimator = _estimator(asked, parts)
    with _checkpoints(asked, parts, voice) as folder, told_elsewhere():
        options: dict[str, Any] = {
            "calibration": asked.calibration,
            "checkpoint": folder,
            "resume": asked.resume,
        }
        if stream is not None:
            whole = dataclasses.replace(
                stream,
                label=asked.target,
                unlabelled=estimator.unlabelled,
                blanks=_blanks(asked, stream.frame),
            )
            estimator.fit_stream(parts.x, parts.y, whole, **options)
        else:
            extra = {} if parts.y is None else {"y": parts.y}
            estimator.fit(parts.x, **extra, groups=parts.groups, time=parts.time, **options)
        if estimator.model_.target is not None:
            known = estimator.model_.target.missing
            estimator.model_.target.missing = (*known, *parts.target_missing)
        if parts.reading is not None:
            model = estimator.model_
            model.state = dataclasses.replace(model.state, pictures=parts.reading)
        if rank() == 0:
            estimator.save(asked.out, force=asked.force)
    _leave(folder, estimator.model_, voice)
    _tell(asked, parts, estimator.model_, voice)


def _blanks(asked: FitCommand, frame: pd.DataFrame) -> tuple[Any, ...]:
    """Values of the target that mean missing."""
    return tuple(missing_of(asked.missing, list(frame.columns)).get(asked.target, ()))


def _leave(folder: Path, model: Any, voice: Voice) -> None:
    """Checkpoints stay where a fit was interrupted."""
    interrupted = model.card["trained"]["stopped"] == Stop.INTERRUPTED
    if interrupted and any(folder.rglob("checkpoint.safetensors")):
        voice.note(f"The fit was interrupted; --resume --force goes on from {folder}.")
    elif rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)  # somebody else may have removed it


def _claim(asked: FitCommand) -> None:
    """ValueError or FileExistsError where the model could not be written in the end."""
    refuse_overwrite(Path(asked.out), asked.force)
    place = resolved(asked.out).parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "can't be written to" if place.is_dir() else "is no folder"
        raise ValueError(f"{asked.out} can't be written: {place} {what}.")


def _check(asked: FitCommand) -> None:
    if asked.family not in (None, "auto"):
        resolve(asked.family)
    if asked.predictor not in PREDICTORS:
        raise ValueError(
            f"--predictor must be one of {', '.join(PREDICTORS)}, not {asked.predictor!r}."
            f"{did_you_mean(asked.predictor, PREDICTORS)}"
        )
    if (
        asked.target is None
        and asked.task not in ("auto", "density")
        and reader_of(asked.data) is None
    ):
        raise ValueError(f"--task {asked.task} needs a --target: the column to predict.")
    if asked.speed not in SPEEDS:
        raise ValueError(
            f"--speed must be one of {', '.join(SPEEDS)}, not {asked.speed!r}."
            f"{did_you_mean(asked.speed, SPEEDS)}"
        )
    if asked.max_time is not None and not asked.max_time > 0:
        raise ValueError(f"--max-time must be above 0 seconds, not {asked.max_time:g}.")


# ----------------------------------------------------------------------------------------- pictures

PICTURES_ONLY = ("part", "range", "resize", "levels")


def _refuse(
    asked: FitCommand, names: tuple[str, ...], about: str, holds: str = "is a table"
) -> None:
    given = [name for name in names if getattr(asked, name)]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} is about {about}, and {asked.data} {holds}."
        )


def _kept_of_start(asked: FitCommand) -> dict[str, Any]:
    """How the model that the fit begins from reads its pictures."""
    return {} if asked.start_from is None else asked.start_from.model_.state.pictures or {}


def _pictures(reader: Any, asked: FitCommand, limits: Any, voice: Voice) -> _Parts:
    """Pictures and their labels: the names of the sub-folders, or what lies beside them in an
    .npz."""
    given = FileOptions(
        asked.size,
        asked.part,
        limits.bytes,
        asked.range,
        asked.resize,
        asked.skip_broken,
        asked.groups,
        asked.target,
    )
    found = reader.to_fit(asked.data, given, _kept_of_start(asked), voice)
    if found.labels is None or asked.task == "density":
        if asked.task not in ("auto", "density"):
            raise ValueError(f"--task {asked.task} needs labels: {reader.HOW_TO_LABEL}.")
        return _Parts(
            found.x,
            None,
            Task("density", f"No labels: p(x) of the {reader.PLURAL} is modelled."),
            None,
            {},
            found.groups,
            None,
            found.reading,
            content=reader.content_of(found.x),
        )
    # whole numbers beside pictures are codes
    said = {} if found.labels.dtype.kind == "f" else {"type": "category"}
    task = task_of(_known(found.labels, asked.unlabelled), asked.task, said)
    y = task.in_its_type(found.labels)
    content = None if found.reading is not None else reader.content_of(found.x)
    return _Parts(found.x, y, task, None, {}, found.groups, None, found.reading, content=content)


# ---------------------------------------------------------------------------------------- the table


def _without_broken(asked: FitCommand, frame: pd.DataFrame, voice: Voice) -> pd.DataFrame:
    """The rows without those whose molecules can't be read, where that was asked for."""
    if not asked.skip_broken:
        return frame
    schema = None if asked.schema is None else Schema.load(asked.schema)
    found = broken_rows(frame, schema, missing_of(asked.missing, list(frame.columns)))
    if found is None:
        _refuse(asked, ("skip_broken",), "pictures")
        return frame
    gone, told = found
    if gone.any():
        voice.note(*told, f"{int(gone.sum()):,} of {len(frame):,} rows are left out.")
    return frame[~gone].reset_index(drop=True)


def _take_apart(asked: FitCommand, frame: pd.DataFrame) -> _Parts:
    missing = missing_of(asked.missing, list(frame.columns))
    schema = None if asked.schema is None else Schema.load(asked.schema)
    schema = reopened(schema, missing)
    x, y = (frame, None) if asked.target is None else take_target(frame, asked.target, missing)
    task = (
        Task("density", "No --target: p(x) of all columns is modelled.")
        if y is None
        else _task(asked, y, schema, usual_decimal(frame))
    )
    asides = {
        option: _column(frame, option, name, asked)
        for option, name in (("groups", asked.groups), ("time", asked.time))
        if name
    }
    x = x.drop(columns=[column.name for column in asides.values()])
    of_target = tuple(missing.get(asked.target, ()))
    missing = {name: values for name, values in missing.items() if name in x.columns}
    task = task._replace(
        words=" ".join(
            [
                task.words,
                *(f"Column {c.name!r} ({option}) is not modelled." for option, c in asides.items()),
            ]
        )
    )
    types: Any = None if schema is None else _types(schema, frame, x, asked.target)
    if asked.types:
        types = _said_types(asked, x)
    if asked.size is not None:
        types = sized(types, x, missing, asked.size, asked.data)
    x = beside(x, asked.data, types, missing)
    y = task.in_its_type(y) if task.supervised else None
    return _Parts(
        x, y, task, types, missing, asides.get("groups"), asides.get("time"), None, of_target
    )


def _task(asked: FitCommand, y: pd.Series, schema: Schema | None, usual: str) -> Task:
    said = of_target(schema, asked.target)
    y = merged(y, tuple(said.get("merge", {}).items()))
    return task_of(_known(y, asked.unlabelled), asked.task, said, usual)


def _known(y: pd.Series, unlabelled: str | None) -> pd.Series:
    if unlabelled is None:
        return y
    value = _unlabelled(y, unlabelled)
    if value is None:
        raise ValueError(f"--unlabelled {unlabelled}: no row of {y.name!r} has this value.")
    return y.mask(y == value)


def _unlabelled(y: pd.Series, text: str) -> Any:
    """The value that is typed so, in the column's own type; None where there is none."""
    from conjoin.codecs.table.values import text_of

    return next((value for value in y.dropna().unique() if text_of(value) == text), None)


def _column(frame: pd.DataFrame, option: str, name: str, asked: FitCommand) -> pd.Series:
    if name not in frame.columns or name == asked.target:
        others = [str(column) for column in frame.columns if column != asked.target]
        raise ValueError(
            f"--{option} names the column {name!r}; choose from {', '.join(others)}."
            f"{did_you_mean(name, others)}"
        )
    column = frame[name]
    if column.isna().any():
        raise ValueError(
            f"--{option}: column {name!r} is missing in row {int(column.isna().argmax()) + 1}; "
            "every row needs a value."
        )
    return (
        column
        if option == "groups" or pd.api.types.is_numeric_dtype(column.dtype)
        else _times(column)
    )


def _times(column: pd.Series) -> pd.Series:
    try:
        return pd.to_datetime(column, format="ISO8601", utc=True)
    except ValueError:
        first = f"column {column.name!r} has {column.iloc[0]!r}"
        raise ValueError(
            f"--time: {first}; times are numbers, or dates such as 2024-05-31."
        ) from None


def _types(schema: Schema, frame: pd.DataFrame, x: pd.DataFrame, target: Any) -> Schema:
    """The schema without the columns that are neither x nor y; one that the table does not have
    stays, and is an error."""
    kept = [
        column
        for column in schema.columns
        if column.name in x.columns
        or column.name not in frame.columns
        or (column.name == target and (column.parse is not None or column.merge))
    ]
    return dataclasses.replace(schema, columns=tuple(kept), target=target)


def _said_types(asked: FitCommand, x: pd.DataFrame) -> dict[Any, dict[str, str]]:
    """{column: fields} of what ``--types`` says of columns of x; ValueError for other columns."""
    if asked.schema is not None or asked.size is not None:
        other = "--schema" if asked.schema is not None else "--size"
        raise ValueError(f"--types and {other} both say what columns hold: give one of them.")
    said = {}
    for text in asked.types or ():
        name, _, words = text.rpartition("=")
        kind, _, form = words.partition(":")
        columns = [column for column in x.columns if str(column) == name]
        if not columns or not kind:
            raise ValueError(
                f"--types takes COLUMN=TYPE, not {text!r}; the columns are "
                f"{', '.join(map(str, x.columns))}."
            )
        said[columns[0]] = {"type": kind, **({"format": form} if form else {})}
    return said


def _categories(asked: FitCommand) -> tuple[Any, ...]:
    """The columns that are said to be categories, with --schema or --types."""
    schema = () if asked.schema is None else named_categories(asked.schema)
    said = [text.rpartition("=") for text in asked.types or ()]
    return (*schema, *(name for name, _, kind in said if kind == "category"))


def _emphasis(text: str) -> Any:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise ValueError(
            f"--emphasis must be auto or a number of at least 0, not {text!r}."
        ) from None


def _estimator(asked: FitCommand, parts: _Parts) -> Any:
    unlabelled = (
        None
        if asked.unlabelled is None or parts.y is None
        else _unlabelled(parts.y, asked.unlabelled)
    )
    return estimator_of(parts.task.name)(
        predictor=PREDICTORS[asked.predictor],
        family=asked.family,
        random_state=asked.seed,
        max_time=asked.max_time,
        max_kwh=asked.max_kwh,
        emphasis=_emphasis(asked.emphasis),
        precision=asked.precision,
        speed=asked.speed,
        device=asked.device,
        verbose=asked.verbose,
        types=parts.types if asked.levels is None else {"levels": asked.levels},
        missing=parts.missing,
        missingness=asked.missingness,
        unlabelled=unlabelled,
        start_from=asked.start_from,
    )


def _family(asked: FitCommand) -> str:
    """The family that was asked for; else that of the model to start from, else the default."""
    if asked.family is not None or asked.start_from is None:
        return asked.family or "circuit"
    return str(asked.start_from.model_.card["family"])


# -------------------------------------------------------------------------------------- checkpoints


@contextlib.contextmanager
def _checkpoints(asked: FitCommand, parts: _Parts, voice: Voice) -> Iterator[Path]:
    """The folder ``<out>.partial``, held against other fits; a fit on bad input, or one that is
    broken off before its first checkpoint, leaves none."""
    folder = Path(f"{asked.out.rstrip('/')}.partial")
    with contextlib.ExitStack() as stack:
        if rank() == 0:
            _refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            _open_folder(folder, _fingerprint(asked, parts), asked.resume, voice)
        wait()
        try:
            yield folder
        except BaseException as error:
            _tidy(folder, error, voice)
            raise


def _tidy(folder: Path, error: BaseException, voice: Voice) -> None:
    """After a fit that failed: its checkpoints stay where there are any to go on from."""
    if rank():
        return
    useless = isinstance(error, ValueError | TypeError)
    if useless or not any(folder.rglob("checkpoint.safetensors")):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        voice.note(f"Nothing was saved; --resume goes on from {folder}.")


def _refuse_foreign(folder: Path) -> None:
    """FileExistsError where ``folder`` holds something else than a fit. One that was killed before
    it wrote its first file leaves nothing in it, or a draft of that file."""
    if not os.path.lexists(folder) or (folder / MARK).is_file():
        return
    if not folder.is_dir() or any(not entry.name.startswith(".new-") for entry in folder.iterdir()):
        raise FileExistsError(
            f"{folder} exists and is no folder of checkpoints: move it away, or choose another -o."
        )


def _open_folder(folder: Path, mark: str, resume: bool, voice: Voice) -> None:
    file = folder / MARK
    begun = _mark_of(file) if resume else None
    if begun == mark:
        return
    if begun is not None:
        raise ValueError(
            f"{folder} was begun with another table or other options: repeat those, or fit "
            "without --resume."
        )
    if resume:
        voice.note(f"There is no {folder} to resume; the fit starts at the beginning.")
    elif any(folder.rglob("checkpoint.safetensors")):
        voice.note(f"The unfinished fit in {folder} is discarded; --resume would have gone on.")
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_text(file, json.dumps({"fingerprint": mark}))


def _mark_of(file: Path) -> Any:
    """The fingerprint of the fit that was begun; None where none was."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))["fingerprint"]
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}): fit without --resume.") from None


def _fingerprint(asked: FitCommand, parts: _Parts) -> str:
    """Of the table and of every option that the training depends on."""
    options = [
        asked.chunk_rows,
        asked.family,
        asked.target,
        asked.predictor,
        asked.emphasis,
        asked.missingness,
        asked.seed,
        asked.calibration,
        asked.groups,
        asked.time,
        asked.unlabelled,
        parts.task.name,
        *([] if asked.start_from is None else [model_hash(asked.start_from.model_)]),
        *([] if asked.precision == "auto" else [asked.precision]),
        *([] if asked.speed == "default" else [asked.speed]),
        *([] if asked.levels is None else [asked.levels]),
    ]
    words = json.dumps(
        [
            *options,
            sorted(map(str, parts.missing.items())),
            asked.types or (None if parts.types is None else parts.types.to_json()),
        ]
    )
    return hashlib.sha256(_content(parts) + words.encode()).hexdigest()


def _content(parts: _Parts) -> bytes:
    """A digest of all rows, in their order."""
    if parts.content is not None:
        return parts.content
    if parts.reading is not None:
        labels = "" if parts.y is None else "\n".join(map(str, parts.y))
        return hashlib.sha256(parts.x.tobytes()).digest() + labels.encode()
    table = parts.x if parts.y is None else pd.concat([parts.x, parts.y], axis=1)
    mixed = [name for name, dtype in table.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
    hashes = pd.util.hash_pandas_object(table.astype(dict.fromkeys(mixed, str)), index=False)
    return np.asarray(hashes).tobytes() + "\n".join(map(str, table.columns)).encode()


# ---------------------------------------------------------------------------------- the last screen


def _tell(asked: FitCommand, parts: _Parts, model: Any, voice: Voice) -> None:
    voice.aside(plain_table(["", ""], describe(model), fold=("",)))
    doubts = grouped(model.notices)
    if doubts:
        voice.aside("Worth a look:", *(f"! {in_shell(text)}" for text in doubts[:MAX_SHOWN_DOUBTS]))
        if len(doubts) > MAX_SHOWN_DOUBTS:
            voice.aside(
                f"... and {len(doubts) - MAX_SHOWN_DOUBTS} more: conjoin info "
                f"{shlex.quote(asked.out)}"
            )
    rows = "new.csv" if parts.reading is None else "new/"
    rows = "new.sdf" if parts.content is not None else rows
    next_steps = _next(asked.out, useful_rate(model), rows)
    voice.path(f"The model lies in {asked.out}. Next:\n{next_steps}")
    voice.json({"model": asked.out, **facts_of(model)})


def _next(out: str, rate: float | None, rows: str) -> str:
    out = shlex.quote(out)
    asked = "" if rate in (None, RATE) else f" --max-error {rate:g}"
    first = [] if rate is None else [f"  conjoin decide {out} {rows}{asked}"]
    return "\n".join([*first, f"  conjoin report {out} -o report.html", f"  conjoin info {out}"])

"""check and fit: from a table to a schema, and to a model."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import limits_of, read
from conjoin.cli.output import claim, stem
from conjoin.cli.target import take_target, task_of
from conjoin.cli.voice import Voice, plain_table
from conjoin.cli.words import grouped, in_shell, missing_of, schema_file

__all__ = ["check", "fit"]


def check(
    data: opt.Data,
    target: opt.Target = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            help="Where the schema goes (default <name>-schema.json).",
            show_default=False,
        ),
    ] = None,
    missing: opt.Missing = None,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
) -> None:
    """Say what each column means and what is doubtful; write it to an editable
    <name>-schema.json."""
    voice = Voice(quiet, as_json)
    schema = f"{stem(data)}-schema.json" if schema is None else schema
    schema_file.set((schema, True))
    frame = read(data, limits_of(max_bytes, max_ratio, max_columns), voice)
    from conjoin.codecs.table import inspect
    from conjoin.codecs.table.reading import usual_decimal

    blanks = missing_of(missing, list(frame.columns))
    y = None if target is None else take_target(frame, target, blanks)[1]
    task = None if y is None else task_of(y, "auto", usual=usual_decimal(frame))
    found = inspect(frame, target=target, missing=blanks)
    voice.aside(
        f"{len(frame):,} rows, {len(frame.columns):,} columns"
        + ("" if task is None else f". {task.words}")
    )
    voice.aside(
        _columns(found),
        *(
            f"! {in_shell(text)}"
            for text in grouped(
                (
                    *_copies(frame),
                    *_captions(frame, blanks),
                    *_deciding(frame, found, task),
                    *_of_target(y, task),
                    *found.assumed,
                    *found.doubts,
                )
            )
        ),
    )
    _write_schema(found, schema, force)
    voice.json(found.to_json())
    wanted = [] if target is None else ["--target", target]
    command = shlex.join(["conjoin", "fit", data, *wanted, "--schema", schema])
    voice.path(f"Written to {schema}. Edit it where it is wrong, then:\n  {command}")


def _copies(frame: Any) -> list[str]:
    """That rows are copies of others, and what that does to promises."""
    from conjoin.codecs.table.rows import TableRows
    from conjoin.fitting.split import copies_words
    from conjoin.training.data import count_copies

    rows = TableRows(frame)
    copies = count_copies(rows.hashes(), rows.repeat_by_chance())
    return [copies_words(len(frame), copies)] if copies else []


def _captions(frame: Any, blanks: Any) -> list[str]:
    """Sentences beside pictures, which a schema calls categories."""
    from conjoin.codecs.composite import captions_in

    return [
        f"Column {name!r} holds free text beside pictures: a fit without a schema models it as "
        "text, and one with the schema that is written here as a category; there say type 'text' "
        "to have it as text."
        for name in captions_in(frame, blanks)
    ]


def _of_target(y: Any, task: Any) -> list[str]:
    """What there is to say of the labels."""
    from conjoin.estimators.reading import minus_one

    return [] if y is None else minus_one(y.name, y, y.notna().to_numpy(), task.discrete)


def _deciding(frame: Any, found: Any, task: Any) -> list[str]:
    """Columns that alone tell the target."""
    from conjoin.fitting.leakage import deciding_in

    if (
        task is None
        or not task.supervised
        or not any(column.modelled for column in found.columns if column.name != found.target)
    ):
        return []
    return deciding_in(frame, found, task.discrete)


def _columns(found: Any) -> Any:
    rows = []
    for column in found.columns:
        role = (
            "target"
            if column.name == found.target
            else column.type
            if column.modelled
            else f"{column.type}, {column.role}"
        )
        values = column.describe() + (f" [{column.unit}]" if column.unit else "")
        rows.append(
            (
                str(column.name),
                role,
                values,
                f"{column.missing_share:.1%}" if column.missing_share else "",
            )
        )
    return plain_table(
        ["column", "type", "values [unit]", "missing"],
        rows,
        fold=("column", "type", "values [unit]"),
    )


def _write_schema(found: Any, path: str, force: bool) -> None:
    """A schema that is there already may have been edited; where it is the same, nothing is to be
    done."""
    if Path(path).is_file() and not force:
        if Path(path).read_text(encoding="utf-8", errors="replace") == found.text:
            return
        raise FileExistsError(
            f"{path} exists, and differs: name another file with --schema, or overwrite it with "
            "--force."
        )
    claim(path, force, (".json",))
    found.save(path)


def fit(
    data: opt.Rows,
    target: opt.Target = None,
    out: opt.ModelOut = None,
    task: opt.Task = "auto",
    family: opt.Family = None,
    predictor: opt.Predictor = "auto",
    schema: opt.Schema = None,
    types: opt.Types = None,
    missing: opt.Missing = None,
    missingness: opt.Missingness = "ignorable",
    unlabelled: opt.Unlabelled = None,
    groups: opt.Groups = None,
    time: opt.Time = None,
    calibration: opt.Calibration = 0.2,
    seed: opt.Seed = 0,
    max_time: opt.MaxTime = None,
    max_kwh: opt.MaxKwh = None,
    emphasis: opt.Emphasis = "0",
    precision: opt.Precision = "auto",
    speed: opt.Speed = "default",
    device: opt.Device = "auto",
    resume: opt.Resume = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    chunk_rows: opt.ChunkRows = None,
    size: opt.Size = None,
    part: opt.PartOfFit = None,
    grey_range: opt.GreyRange = None,
    resize: opt.Resize = None,
    levels: opt.Levels = None,
    skip_broken: opt.SkipBroken = False,
    start_from: opt.StartFrom = None,
    shard: opt.Shard = False,
) -> None:
    """Fit a joint model of a table or of pictures; without labels it models p(x) alone."""
    _say_begun(data, quiet or as_json)
    from conjoin.cli.fitting import FitCommand, fit_table
    from conjoin.training.ranks import rank, together

    with together(shard):
        voice = Voice(quiet or rank() > 0, as_json and not rank())  # of several one speaks
        asked = FitCommand(
            data=data,
            target=target,
            out=out or f"{stem(data)}-model",
            task=task,
            family=family,
            predictor=predictor,
            schema=schema,
            types=types,
            missing=missing,
            missingness=missingness,
            unlabelled=unlabelled,
            groups=groups,
            time=time,
            calibration=calibration,
            seed=seed,
            max_time=max_time,
            max_kwh=max_kwh,
            emphasis=emphasis,
            precision=precision,
            speed=speed,
            device=device,
            resume=resume,
            force=force,
            verbose=not voice.quiet,
            chunk_rows=chunk_rows,
            size=size,
            part=part,
            range=grey_range,
            resize=resize,
            levels=levels,
            skip_broken=skip_broken,
            start_from=start_from,
        )
        fit_table(asked, limits_of(max_bytes, max_ratio, max_columns), voice)


def _say_begun(data: str, quiet: bool) -> None:
    """Before the libraries are loaded, which takes seconds."""
    if Path(data).exists() and not quiet:
        Voice().note(f"Fitting a model of {data}.")

"""adapt, distil, drift: a model for another place, or one that draws faster; a table of another
time.
"""

from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import at_once, limits_of, load_model, read
from conjoin.cli.voice import MAX_SHOWN_ROWS, Voice, plain_table, shown
from conjoin.cli.words import in_shell, missing_of

__all__ = ["adapt", "distil", "drift"]


def adapt(
    model: opt.ModelFolder,
    data: opt.Rows,
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="The folder of the adapted model.", show_default=False),
    ],
    density: Annotated[
        bool,
        typer.Option("--density", help="Learn p(x) anew here; of pictures, p(y | x) can follow."),
    ] = False,
    max_time: Annotated[
        float | None, typer.Option("--max-time", help="Seconds for --density.", show_default=False)
    ] = None,
    seed: opt.Seed = 0,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
) -> None:
    """Follow the classes to a place where their shares differ, by rows of it that have no
    labels."""
    from pathlib import Path

    from conjoin.model.saving import refuse_overwrite

    voice = Voice(quiet, as_json)
    refuse_overwrite(Path(out), force)
    estimator = load_model(model, device)
    frame = at_once(
        estimator.model_, data, limits_of(max_bytes, max_ratio, max_columns), part, voice
    )
    adapted = estimator.adapt(frame, density=density, max_time=max_time, random_state=seed)
    adapted.save(out, force=force)
    change = adapted.change_
    voice.tell(_shares(change.frame()), *map(in_shell, change.words()))
    voice.path(f"The model lies in {out}.")
    voice.json({"model": out, **vars(change)})


def distil(
    model: opt.ModelFolder,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Pictures to learn from; without any, the model's own draws.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="The folder of the new model.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    steps: Annotated[
        int, typer.Option("--steps", help="Calls of its network that a draw may take.")
    ] = 1,
    max_time: Annotated[
        float | None, typer.Option("--max-time", help="Seconds.", show_default=False)
    ] = None,
    seed: opt.Seed = 0,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
) -> None:
    """Learn to draw in few steps what the model draws in many; it answers all else as before."""
    from pathlib import Path

    from conjoin.model.saving import refuse_overwrite

    voice = Voice(quiet, as_json)
    refuse_overwrite(Path(out), force)
    estimator = load_model(model, device)
    rows = (
        None
        if data is None
        else at_once(
            estimator.model_, data, limits_of(max_bytes, max_ratio, max_columns), part, voice
        )
    )
    quick = estimator.distil(steps, rows, max_time=max_time, random_state=seed, verbose=not quiet)
    quick.save(out, force=force)
    voice.path(f"The model lies in {out}.")
    voice.json({"model": out, **quick.model_.card["distilled"]})


def _shares(frame: Any) -> Any:
    digits = {"old share": 3, "new share": 3, "standard error": 4, "weight": 2}
    rows = [
        [str(row["class"]), *(f"{row[name]:.{places}f}" for name, places in digits.items())]
        for _, row in frame.iterrows()
    ]
    return plain_table(list(frame.columns), rows, fold=("class",))


def drift(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The table as it was: CSV or Parquet.", show_default=False
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B", help="The new one; if it is a stream, in its order.", show_default=False
        ),
    ],
    family: Annotated[
        str, typer.Option("--family", help="The density of A that judges whole rows.")
    ] = "circuit",
    level: Annotated[
        float,
        typer.Option("--level", help="How often there may be alarm where nothing has changed."),
    ] = 0.05,
    missing: opt.Missing = None,
    max_time: Annotated[
        float | None,
        typer.Option("--max-time", help="Seconds for the density.", show_default=False),
    ] = None,
    seed: opt.Seed = 0,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
) -> None:
    """Whether B comes from the source of A: which columns and pairs have changed, since which row,
    how sure."""
    from conjoin.questions.drift.tables import drift as compared

    voice = Voice(quiet, as_json)
    limits = limits_of(max_bytes, max_ratio, max_columns)
    tables = [read(path, limits, voice) for path in (a, b)]
    blanks = missing_of(missing, list(tables[0].columns))
    found = compared(
        *tables, family=family, level=level, missing=blanks, max_time=max_time, random_state=seed
    )
    voice.tell(_column_table(found.columns), *map(in_shell, found.words()))
    voice.json(found.to_json())


def _column_table(columns: Any) -> Any:
    table = columns.sort_values("p_value")[:MAX_SHOWN_ROWS]
    rows = [
        [str(row.column), row.before, row.after, shown(row.p_value), shown(row.p_given_others)]
        for row in table.itertuples(index=False)
    ]
    return plain_table(
        ["column", "in A", "in B", "p", "p given others"], rows, fold=("column", "in A", "in B")
    )

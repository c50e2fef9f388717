"""audit: what a model remembers of its rows, whom it serves worst, what it cost."""

from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import limits_of, load_model, read
from conjoin.cli.output import claim
from conjoin.cli.target import labels
from conjoin.cli.voice import Voice

__all__ = ["audit"]


TableOfFit = Annotated[
    str, typer.Argument(metavar="DATA", help="The table of the fit.", show_default=False)
]
Holdout = Annotated[
    str | None,
    typer.Option(
        "--holdout",
        metavar="DATA",
        help="Rows that the model has never seen.",
        show_default=False,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        "--by", metavar="COLUMN", help="Groups to tell apart. Repeatable.", show_default=False
    ),
]
Canaries = Annotated[
    str | None,
    typer.Option(
        "--canaries",
        metavar="DATA",
        help="Rows that were planted in the table of the fit; a column `planted` may say which "
        "were, and which were left out.",
        show_default=False,
    ),
]
Shadows = Annotated[
    int,
    typer.Option("--shadows", help="Models fitted to halves of all rows, an even number.", min=0),
]
OneMaxError = Annotated[
    float, typer.Option("--max-error", help="Share of accepted answers that may be wrong.")
]
Card = Annotated[
    bool, typer.Option("--card/--no-card", help="Write what was found into the model's card.")
]
Page = Annotated[
    str | None, typer.Option("--out", "-o", help="An HTML file about it.", show_default=False)
]


def audit(
    model: opt.ModelFolder,
    data: TableOfFit,
    holdout: Holdout = None,
    by: By = None,
    canaries: Canaries = None,
    shadows: Shadows = 4,
    false_alarm: opt.FalseAlarm = 0.05,
    max_error: OneMaxError = 0.05,
    card: Card = True,
    seed: opt.Seed = 0,
    out: Page = None,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
) -> None:
    """What a model remembers of its training rows, whom it serves worst, and what it cost."""
    voice = Voice(quiet, as_json)
    claim(out, force, (".html", ".htm"))
    limits = limits_of(max_bytes, max_ratio, max_columns)
    estimator = load_model(model, device)
    codec = estimator.model_.codec
    target = estimator.model_.target
    X, y = _parts(read(data, limits, voice, codec), target, codec, data, voice)
    held: Any = (None, None)
    if holdout is not None:
        held = _parts(read(holdout, limits, voice, codec), target, codec, holdout, voice)
    planted = None if canaries is None else read(canaries, limits, voice, codec)
    if planted is not None and target is not None:
        planted = planted.drop(columns=str(target.name), errors="ignore")
    from conjoin.questions.audit.run import audit as judge

    found = judge(
        estimator,
        X,
        y,
        X_held=held[0],
        y_held=held[1],
        by=tuple(by or ()),
        canaries=planted,
        shadows=shadows,
        false_alarm=false_alarm,
        max_error=max_error,
        random_state=seed,
        verbose=not quiet,
    )
    _tell(found, Path(model).expanduser(), out, card, voice)


def _tell(found: Any, folder: Path, out: str | None, card: bool, voice: Voice) -> None:
    """What was found: on the screen, on a page, in the model's card."""
    voice.tell(*found.words())
    if out is not None:
        from conjoin.report.audit import write_audit

        write_audit(found, folder.resolve().name, out)
        voice.path(f"The audit lies in {out}.")
    if card:
        _write_card(folder, found.words(), voice)
    voice.json(found.to_json())


def _parts(frame: Any, target: Any, codec: Any, path: str, voice: Voice) -> tuple[Any, Any]:
    """(x, y or None); strings as a list, without rows that have none."""
    y = None
    if target is not None and str(target.name) in frame:
        y = labels(frame[str(target.name)], target)
        frame = frame.drop(columns=str(target.name))
    if codec.columnwise:
        return frame, y
    (column,) = (column.name for column in codec.schema.modelled)
    if column not in frame:
        raise ValueError(f"There is no column {column!r}, which the model reads.")
    there = frame[column].notna()
    if not there.all():
        gone = int((~there).sum())
        voice.note(f"{gone:,} of {len(there):,} rows of {path} have no {column!r}: left out.")
    if y is not None:
        y = y[there].reset_index(drop=True)
    return [str(cell) for cell in frame[column][there]], y


def _write_card(folder: Path, words: list[str], voice: Voice) -> None:
    """The section of the card, which replaces that of an earlier audit."""
    from conjoin.model.card import with_audit
    from conjoin.util.files import write_text

    file = folder / "README.md"
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    write_text(file, with_audit(old, words))
    voice.note(f"The model's card, {file}, tells it too (--no-card leaves it out).")

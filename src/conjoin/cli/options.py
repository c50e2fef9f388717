"""Arguments and options that several verbs share: one name, one meaning, one line of help."""

from typing import Annotated, Any

import typer

__all__ = [
    "ChunkRows", "Data", "Draws", "FalseAlarm", "Force", "Json", "MaxBytes", "MaxColumns", "MaxError", "MaxRatio", "Missing", "ModelFolder",
    "Out", "Part", "Quiet", "Rows", "Seed", "Target",
]  # fmt: skip


def _limit(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Limits on the table", show_default=False)


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="CSV (also .gz) or Parquet file; - is standard input.",
        show_default=False,
    ),
]
Rows = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="CSV (also .gz) or Parquet file, - is standard input; or pictures: a folder, a file "
        "or an .npz.",
        show_default=False,
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="train|val|test",
        help="Of pictures that are split into parts (default: test).",
        show_default=False,
    ),
]
ModelFolder = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder that `conjoin fit` wrote.", show_default=False),
]
Target = Annotated[
    str | None, typer.Option("--target", help="The column to predict.", show_default=False)
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="Where the whole answer goes: .csv, .csv.gz or .parquet; - is standard output. "
        "Pictures: a folder, .png or .npz.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")]
Json = Annotated[
    bool, typer.Option("--json", help="The answer as one JSON object on standard output.")
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same answer.")]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        metavar="[COLUMN=]VALUE",
        help="A value that means missing. Repeatable.",
        show_default=False,
    ),
]
FalseAlarm = Annotated[
    float,
    typer.Option("--false-alarm", help="Share of ordinary rows that may be called unfamiliar."),
]
MaxError = Annotated[
    list[str] | None,
    typer.Option(
        "--max-error",
        metavar="RATE|LABEL=RATE",
        help="Share of accepted answers that may be wrong (default 0.05), or, repeatable, of the "
        "rows of a class.",
        show_default=False,
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws",
        help="Fill in by so many random draws, not by the most probable value.",
        show_default=False,
    ),
]
MaxBytes = Annotated[int | None, _limit("Bytes of a table once unpacked (default 2 GB).")]
MaxRatio = Annotated[float | None, _limit("Bytes unpacked per byte of an archive (default 100).")]
MaxColumns = Annotated[int | None, _limit("Columns (default 2000).")]
ChunkRows = Annotated[
    int | None, _limit("Read the table so many rows at a time (a large one is read so anyway).")
]

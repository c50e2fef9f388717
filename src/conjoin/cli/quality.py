"""quality: synthetic rows beside real ones, with controls that say what the figures can be."""

import math
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import limits_of, read
from conjoin.cli.voice import Voice, plain_table

__all__ = ["quality"]

LEAST_TELLING_AUC = 0.01  # that is lost without a column: less says nothing
REAL = "The table that the synthetic rows were made from: CSV (also .gz) or Parquet."


def quality(
    real: Annotated[str, typer.Argument(metavar="REAL", help=REAL, show_default=False)],
    synthetic: Annotated[
        str, typer.Argument(metavar="SYNTHETIC", help="The synthetic table.", show_default=False)
    ],
    holdout: Annotated[
        str | None,
        typer.Option(
            "--holdout",
            metavar="DATA",
            help="Real rows that nothing was made from.",
            show_default=False,
        ),
    ] = None,
    target: opt.Target = None,
    rows: Annotated[int, typer.Option("--rows", help="Of each table, at most.", min=1)] = 5000,
    seed: opt.Seed = 0,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
) -> None:
    """How good synthetic rows are: told from real ones, columns, pairs, use, and (with --holdout)
    copies."""
    voice = Voice(quiet, as_json)
    limits = limits_of(max_bytes, max_ratio, max_columns)
    train = read(real, limits, voice)
    made = read(synthetic, limits, voice)
    held = None if holdout is None else read(holdout, limits, voice)
    from conjoin.questions.synthetic.quality import quality as judge

    found = judge(train, made, held, target, rows=rows, random_state=seed)
    voice.tell(_measures(found), *([] if found.copies is None else [_copies(found.copies)]))
    voice.aside(_words(found))
    voice.json(found.to_json())


def _measures(found: Any) -> Any:
    heads = {
        "c2st": "c2st",
        "mi_error": "MI error",
        "shape": "shape",
        "trend": "trend",
        "use": found.use,
    }
    names = [name for name in heads if name in found.table]
    cells = [
        [str(row), *(_digits(found.table.at[row, name]) for name in names)]
        for row in found.table.index
    ]
    return plain_table(["", *(heads[name] for name in names)], cells, fold=("",))


def _digits(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def _copies(copies: Any) -> Any:
    table = copies.frame()
    cells = [[str(row), *(f"{value:.4f}" for value in table.loc[row])] for row in table.index]
    return plain_table(["to the nearest training row", *table.columns], cells, fold=("",))


def _words(found: Any) -> str:
    from conjoin.questions.synthetic.copies import CAUTION

    least = max(LEAST_TELLING_AUC, 1 / math.sqrt(found.rows))  # about twice the error of an AUC
    told_apart = found.table.at["synthetic", "c2st"] < 1 - 2 * least  # 2 (1 - AUC)
    named = [(name, lost) for name, lost in found.tells[:3] if told_apart and lost >= least]
    telling = ", ".join(f"{name} ({lost:.3f})" for name, lost in named)
    tells = f"What tells most (AUC): {telling}." if telling else "No column tells them apart."
    words = f"{found.rows:,} rows of each. c2st, shape and trend are 1 at best, MI error 0. {tells}"
    if found.copies is None:
        return (
            f"{words} Without --holdout one half of the real rows judges and the other is the "
            "control, and copies are not looked for."
        )
    copies = found.copies
    near = (
        "A synthetic row is nearer to the training rows than a held-out one in "
        f"{copies.nearer:.0%} of pairs (50 % without copying)"
    )
    return (
        f"{words} {near}, and nearer to a training row than to a held-out one in "
        f"{copies.nearer_train:.0%} (50 %). {CAUTION}"
    )

"""compare: the families side by side on one table."""

import shlex
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.files import beside, limits_of, read
from conjoin.cli.kinds import reader_of
from conjoin.cli.target import TASKS, Task, take_target, task_of
from conjoin.cli.voice import Voice, plain_table
from conjoin.cli.words import in_shell, missing_of

__all__ = ["compare"]

WORDS = (
    "Nats per held-out row, in the table's own units; ≥ marks a lower bound, and what is "
    "relative is not ranked. ece: calibration "
    "error. fam.: AUROC of these rows against the same cells shuffled. like: how like the draws "
    "are to them, 1 at best."
)


def compare(
    data: opt.Data,
    target: opt.Target = None,
    task: Annotated[
        str, typer.Option("--task", metavar="|".join(TASKS), help="What the target is.")
    ] = "auto",
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family", help="Only this one; repeatable. Default: sixteen.", show_default=False
        ),
    ] = None,
    max_time: Annotated[
        float, typer.Option("--max-time", help="Seconds for the whole table.")
    ] = 300.0,
    max_kwh: Annotated[
        float | None,
        typer.Option("--max-kwh", help="Energy for the whole table.", show_default=False),
    ] = None,
    price: Annotated[
        bool,
        typer.Option(
            "--price", help="Instead: what p(x) and p(y | x) of one family lose by each other."
        ),
    ] = False,
    missing: opt.Missing = None,
    seed: opt.Seed = 0,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
) -> None:
    """Fit every family within a budget, judge them on held-out rows, and pick one."""
    voice = Voice(quiet, as_json)
    from conjoin.codecs.table.reading import usual_decimal
    from conjoin.families import resolve

    for name in family or []:
        resolve(name)
    if not max_time > 0:
        raise ValueError(f"--max-time must be above 0 seconds, not {max_time:g}.")
    x, y, blanks = _rows(
        data, target, missing, price, limits_of(max_bytes, max_ratio, max_columns), voice
    )
    task_found = Task("density", "") if y is None else task_of(y, task, usual=usual_decimal(x))
    if y is not None:
        voice.note(task_found.words)
    kind = task_found.name
    y = task_found.in_its_type(y)
    settings = {"random_state": seed, "missing": blanks, "verbose": not quiet}
    if price:
        _price(kind, x, y, settings | {"max_time": max_time / 3, "max_kwh": max_kwh}, family, voice)
        return
    found = _estimator(kind, settings)._compare(x, y, family or None, max_time, max_kwh)
    voice.tell(_table(found.frame()), in_shell(f"Pick: {found.why}"), *_left_out(found))
    voice.aside(WORDS)
    wanted = [] if target is None else ["--target", target]
    command = shlex.join(["conjoin", "fit", data, *wanted, "--family", found.pick])
    voice.path(f"Next:\n  {command}")
    voice.json(found.to_json())


def _rows(
    data: str, target: str | None, missing: Any, price: bool, limits: Any, voice: Voice
) -> tuple[Any, Any, dict[Any, Any]]:
    """x, y and the words for missing cells, of a table; of pictures too, where the price is asked
    for."""
    reader = reader_of(data) if price else None
    if reader is not None:
        found = reader.to_fit(data, None, None, limits.bytes, voice)
        return found.x, found.labels, {}
    frame = read(data, limits, voice)
    blanks = missing_of(missing, list(frame.columns))
    x, y = (frame, None) if target is None else take_target(frame, target, blanks)
    blanks = {name: values for name, values in blanks.items() if name in x.columns}
    return beside(x, data, None, blanks), y, blanks


def _estimator(kind: str, settings: dict[str, Any]) -> Any:
    from conjoin.estimators.functions import estimator_of

    return estimator_of(kind)(**settings)


def _price(
    kind: str, x: Any, y: Any, settings: dict[str, Any], family: list[str] | None, voice: Voice
) -> None:
    """Tell what jointness costs."""
    from conjoin.questions.price import price

    if len(family or []) > 1:
        raise ValueError(
            f"--price is that of one family, and these are {len(family or [])}: name one."
        )
    found = price(_estimator(kind, settings | {"family": (family or ["circuit"])[0]}), x, y)
    rows = []
    for term in found.terms:
        loss = "" if term.error != term.error else f"{term.loss:.3f} ±{term.error:.3f}"
        rows.append([f"log {term.term}", _digits(term.joint, 3), _digits(term.alone, 3), loss])
        if term.measure:
            rows.append(
                [term.measure, _digits(term.joint_measure, 3), _digits(term.alone_measure, 3), ""]
            )
    voice.tell(plain_table(["", "joint", "alone", "loses"], rows), *map(in_shell, found.words()))
    voice.aside(
        f"Nats for each of {found.rows:,} held-out rows. Three fits, each with a third of the time."
    )
    voice.json(found.to_json())


def _table(frame: Any) -> Any:
    heads = ["family", "log p(x)", "log-loss", "log p(x, y)", "ece", "fam.", "like", "s", "Wh"]
    rows = [
        (
            row.family,
            _likelihood(row),
            *(
                _digits(value, places)
                for value, places in (
                    (row.log_loss, 3),
                    (row.joint, 2),
                    (row.ece, 3),
                    (row.familiarity, 2),
                    (row.samples, 2),
                )
            ),
            f"{row.seconds:.0f}",
            f"{1000 * row.kwh:.3f}",
        )
        for row in frame[frame["status"] != ""].itertuples()
    ]
    return _narrow(heads, rows)


def _narrow(heads: list[str], rows: list[tuple[str, ...]]) -> Any:
    """Ten columns in 80 characters: numbers to the right, long names folded."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, collapse_padding=True)
    for head in heads:
        table.add_column(
            head,
            justify="left" if head == "family" else "right",
            no_wrap=head != "family",
            overflow="fold",
            min_width=13 if head == "family" else None,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _likelihood(row: Any) -> str:
    if row.status == "relative":
        return "relative"
    return f"{'≥ ' if row.status == 'lower bound' else ''}{row.log_prob:.2f} ±{row.error:.2f}"


def _digits(value: float, places: int) -> str:
    return "" if value != value else f"{value:.{places}f}"


def _left_out(found: Any) -> list[str]:
    return [in_shell(f"{entry.family}: {entry.note}") for entry in found.entries if entry.note]

"""predict, decide, evaluate, report, info: questions about rows, and about the model."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from conjoin.cli import options as opt
from conjoin.cli.cluster import UNIQUE, Cluster, Loaded, Table, all_rows, cluster_of, numbered
from conjoin.cli.files import (
    asked_models,
    limits_of,
    load_model,
    model_of,
    read,
    refuse_for_tables,
    say_unfinished,
)
from conjoin.cli.kinds import reader_of
from conjoin.cli.marks import marked
from conjoin.cli.output import Text, claim, is_text, text_of, write
from conjoin.cli.target import labels
from conjoin.cli.voice import MAX_SHOWN_ROWS, Voice, frame_table, plain_table, shown
from conjoin.cli.words import grouped, in_shell, max_error_of
from conjoin.util.energy import Energy, Tally
from conjoin.util.files import new_file
from conjoin.util.near import did_you_mean

FILE = "file"  # the name of the index of pictures

__all__ = ["answer", "answers", "decide", "evaluate", "info", "predict", "report"]


def predict(
    model: opt.ModelFolder,
    data: opt.Rows,
    out: opt.Out = None,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    chunk_rows: opt.ChunkRows = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> None:
    """Labels and their probabilities, or the mean and a 90 % interval. Without regard to
    familiarity: see decide."""
    voice = Voice(quiet, as_json, out == "-")
    cluster = cluster_of(ray, workers, voice, device, data)
    claim(out, force)
    found = model_of(model, device)
    _refuse_without_target(found)
    say_unfinished(found, voice)
    limits = limits_of(max_bytes, max_ratio, max_columns)
    rows = Table(data, limits, chunk_rows, part, voice, skip_broken)
    tables: Iterable[Any]
    if cluster is None:
        tables = (_predicted(found, each, out) for each in all_rows(rows, found))
    else:
        tables = cluster.answers_about(model, rows, partial(_predicted_there, out=out))
    answers(tables, out, voice)


def _refuse_without_target(model: Any) -> None:
    if model.target is None:
        raise ValueError(
            "This model has no target, so there is nothing to predict: ask decide, impute or "
            "sample."
        )


def _predicted(model: Any, rows: Any, out: str | None) -> Any:
    """The answer about some rows, as it is written."""
    return _named(_as_written(_predictions(model, rows), model.target, out), rows)


def _predicted_there(loaded: Loaded, piece: tuple[int, Any], out: str | None) -> Any:
    """As ``_predicted``, in a worker of a cluster."""
    first, rows = piece
    return _ready(_predicted(loaded.model_, rows, out), out, first)


def _ready(table: Any, out: str | None, first: int) -> Any:
    """The answer whose first row has this number, as text where the file is one: its writer, one
    process for all workers, has nothing left to do."""
    if out is None or not is_text(out):
        return table
    return Text(text_of(table, out, header=first == 1), len(table), formulas_of(table))


NUMBERS = ("answer", "best_guess", "mean", "low", "high")  # columns of answers about a number


def _as_written(table: Any, target: Any, out: str | None) -> Any:
    """In a file, a number is written as the target's column writes it; on the screen it stays."""
    if target is None or target.form is None or out is None:
        return table
    names = [name for name in NUMBERS if name in table]
    cells = {name: target.write(table[name].to_numpy(dtype=float)) for name in names}
    return table.assign(**cells)


def _named(table: Any, frame: Any) -> Any:
    """Answers about pictures begin with the name of the file."""
    from conjoin.cli.pictures import named

    return named(table, frame)


def _predictions(model: Any, frame: Any) -> Any:
    """One row of predictions per row."""
    import numpy as np
    import pandas as pd

    from conjoin.questions.predict import log_proba, means, quantiles

    if model.has_classes:
        proba = np.exp(log_proba(model, frame))
        table = pd.DataFrame({str(model.target.name): model.target.labels[proba.argmax(1)]})
        return table.assign(
            **{f"p({label})": proba[:, code] for code, label in enumerate(model.target.labels)}
        )
    low, high = quantiles(model, frame, (0.05, 0.95)).T
    return pd.DataFrame({"mean": means(model, frame), "low": low, "high": high})


def answer(
    table: Any,
    out: str | None,
    voice: Voice,
    display: Any = None,
    fold: tuple[str, ...] = (),
    **more: Any,
) -> None:
    """A table to its file, or its first rows to the screen; as JSON, its rows unless they went to a
    file."""
    answers(
        [table], out, voice, lambda head: head if display is None else display, fold, lambda: more
    )


def answers(
    tables: Iterable[Any],
    out: str | None,
    voice: Voice,
    display: Callable[[Any], Any] = lambda head: head,
    fold: tuple[str, ...] = (),
    more: Callable[[], dict[str, Any]] = dict,
    alike: dict[str, str] | None = None,
) -> None:
    """As ``answer``, of a table that comes in pieces. ``more`` is asked once all have come."""
    seen = Seen(tables, keep=voice.as_json and out is None)
    if out is not None:
        formulas = Formulas(seen)
        write(formulas, out, alike)
        voice.note(*formulas.words(out))
        if out != "-":
            voice.path(f"{seen.rows:,} rows written to {out}.")
    else:
        deque(seen, maxlen=0)
        screen = display(seen.head)
        count = seen.rows if len(seen.head) < seen.rows else len(screen)
        rest = (
            f"The first {MAX_SHOWN_ROWS} of {count:,} rows; -o FILE writes all."
            if count > MAX_SHOWN_ROWS
            else ""
        )
        voice.tell(frame_table(screen, _width(), fold=fold), *([rest] if rest else []))
    voice.json({"rows": seen.rows, **more(), **({"out": out} if out else {"table": seen.records})})


class Formulas:
    """The pieces of a table, as they go by: which columns have words that a spreadsheet would take
    for formulas."""

    def __init__(self, tables: Iterable[Any]) -> None:
        self.tables = tables
        self.found: dict[str, int] = {}

    def __iter__(self) -> Iterator[Any]:
        for table in self.tables:
            found = table.formulas if isinstance(table, Text) else formulas_of(table)
            for name, count in found.items():
                self.found[name] = self.found.get(name, 0) + count
            yield table

    def words(self, out: str) -> list[str]:
        """A sentence about a text file; nothing about Parquet, whose cells have types, and about
        standard output, which a program reads."""
        if not self.found or out == "-" or out.endswith(".parquet"):
            return []
        cells = ", ".join(f"{count:,} of {name!r}" for name, count in self.found.items())
        return [
            f"Cells begin with =, +, - or @ ({cells}): a spreadsheet would run them as formulas. "
            "They are written as they are, so that the file reads back the same: import such "
            "columns as text, or write .parquet."
        ]


def formulas_of(table: Any) -> dict[str, int]:
    """Of each column that has any, how many words begin as formulas do, and are no numbers."""
    counts = {str(name): formula_cells(table[name]) for name in table}
    return {name: count for name, count in counts.items() if count}


def formula_cells(cells: Any) -> int:
    """How many words of a column begin as formulas do, and are no numbers."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(cells.dtype) or not (
        pd.api.types.is_object_dtype(cells.dtype) or pd.api.types.is_string_dtype(cells.dtype)
    ):
        return 0
    words = cells.dropna().astype(str)
    words = words[words.str.startswith(("=", "+", "-", "@", "\t", "\r")).astype(bool)]
    return int(pd.to_numeric(words, errors="coerce").isna().sum())


class Seen:
    """The pieces of a table, as they go by: how many rows they had, the first piece, and all rows
    where ``keep`` says so."""

    def __init__(self, tables: Iterable[Any], keep: bool) -> None:
        self.tables = tables
        self.keep = keep
        self.rows = 0
        self.head = list[Any]()
        self.records = list[Any]()

    def __iter__(self) -> Iterator[Any]:
        for table in self.tables:
            self.head = self.head if self.rows else table
            self.rows += len(table)
            self.records += table.to_dict("records") if self.keep else []
            yield table


def _width() -> int:
    from rich.console import Console

    return Console().width


def decide(
    model: opt.ModelFolder,
    data: opt.Rows,
    out: opt.Out = None,
    false_alarm: opt.FalseAlarm = 0.05,
    max_error: opt.MaxError = None,
    max_width: opt.MaxWidth = None,
    keep: opt.KeepColumns = None,
    reasons: opt.Reasons = True,
    log: opt.Log = None,
    energy: opt.SayEnergy = False,
    force: opt.Force = False,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    chunk_rows: opt.ChunkRows = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> None:
    """Accept an answer, or say why not: ambiguous, or unlike anything that the model has seen."""
    voice = Voice(quiet, as_json, out == "-")
    cluster = cluster_of(ray, workers, voice, device, data)
    claim(out, force)
    _claim_log(log)
    found = model_of(model, device)
    target = found.target
    errors = max_error_of(max_error, target)
    _refuse_unused(target, max_error, max_width)
    say_unfinished(found, voice)
    asked = (
        {"false_alarm": false_alarm, "max_error": errors}
        if target is not None
        else {"false_alarm": false_alarm}
    )
    wishes = {"false_alarm": false_alarm, "max_error": errors, "max_width": max_width}
    wishes |= {"log": log, "explain": reasons}
    limits = limits_of(max_bytes, max_ratio, max_columns)
    rows = Table(data, limits, chunk_rows, part, voice, skip_broken)
    tally = dict.fromkeys(("accept", "ambiguous", "unfamiliar"), 0)
    hopeless: list[int] = []  # rows for which no confidence will do
    spent = Tally()

    def took() -> dict[str, Any]:
        parts = [spent.energy] if cluster is None else cluster.spent
        return _told_energy(sum(parts[1:], start=parts[0]), tally)

    def verdicts() -> Iterator[Any]:
        parts = (
            _verdicts(found, rows, wishes, Kept(found.codec, keep or []), out, spent)
            if cluster is None
            else _verdicts_there(cluster, model, rows, wishes, keep or [], out)
        )
        for part in parts:
            for verdict, count in part.counts.items():
                tally[verdict] += count
            hopeless.append(part.hopeless)
            yield part.table

    answers(
        verdicts(),
        out,
        voice,
        _for_the_screen,
        ("reason",),
        lambda: {"counts": tally, **asked, **({"energy": took()} if energy else {})},
        {"answer": "best_guess"},
    )
    _say_counts(tally, sum(hopeless), voice)
    if energy:
        voice.aside(_energy_words(took()))


def _claim_log(path: str | None) -> None:
    """OSError, before any work is done, where the log could not be written in the end."""
    if path is None:
        return
    log = Path(path)
    new = not log.exists()
    if new or log.is_file() or log.is_dir():  # a pipe would end for who reads it
        log.open("a", encoding="utf-8").close()
    if new:
        log.unlink()


class Verdicts(NamedTuple):
    """Those on some rows as they are written, how often each came, of how many rows no confidence
    will do, and the lines of the log that are still to be written."""

    table: Any
    counts: dict[str, int]
    hopeless: int
    lines: str = ""


def _verdicts(
    model: Any,
    rows: Table,
    wishes: dict[str, Any],
    kept: "Kept",
    out: str | None,
    spent: Tally,
) -> Iterator[Verdicts]:
    """The verdicts on some rows at a time."""
    from conjoin.questions.decide import decide as verdicts_on

    for first, frame in numbered(all_rows(rows, model)):
        with spent:
            table = verdicts_on(model, frame, **wishes)
        yield _beside(model, table, frame, kept, first, out)


def _beside(
    model: Any, table: Any, frame: Any, kept: "Kept", first: int, out: str | None
) -> Verdicts:
    """Verdicts beside what names their rows, of which ``first`` is the number of the first."""
    counts = {str(name): int(n) for name, n in table["verdict"].value_counts().items()}
    written = _named(_as_written(table, model.target, out), frame)
    return Verdicts(kept.beside(written, frame, first), counts, table.attrs["no_threshold"])


def _verdicts_there(
    cluster: Cluster,
    model: str,
    rows: Table,
    wishes: dict[str, Any],
    keep: list[str],
    out: str | None,
) -> Iterator[Verdicts]:
    """As ``_verdicts``, by the workers of a cluster; the log is written here, in order."""
    ask = partial(_verdicts_on, wishes=wishes, keep=keep, out=out)
    for part in cluster.answers_about(model, rows, ask):
        if part.lines:
            with Path(wishes["log"]).open("a", encoding="utf-8") as file:
                file.write(part.lines)
        yield part


def _verdicts_on(
    loaded: Loaded,
    piece: tuple[int, Any],
    wishes: dict[str, Any],
    keep: list[str],
    out: str | None,
) -> Verdicts:
    """The verdicts on one piece, in a worker."""
    import pandas as pd

    from conjoin.questions.decide import decide as verdicts_on

    first, rows = piece
    model = loaded.model_
    with tempfile.TemporaryDirectory() as folder:
        log = None if wishes["log"] is None else Path(folder) / "log"
        table = verdicts_on(model, rows, **{**wishes, "log": log})
        lines = "" if log is None else log.read_text(encoding="utf-8")
    # of other data than tables nothing but their names goes beside the verdicts
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(index=rows.index)
    part = _beside(model, table, frame, Kept(model.codec, keep), first, out)
    return part._replace(table=_ready(part.table, out, first), lines=lines)


def _say_counts(tally: dict[str, int], hopeless: int, voice: Voice) -> None:
    """How often each verdict came."""
    if hopeless:
        voice.aside(
            "No confidence is high enough to keep the asked error rate on the calibration rows: "
            "ask for a larger --max-error."
        )
    voice.aside(
        ", ".join(
            f"{count:,} {verdict} ({count / sum(tally.values()):.0%})"
            for verdict, count in tally.items()
        )
    )


def _told_energy(spent: Energy, tally: dict[str, int]) -> dict[str, Any]:
    """Of the verdicts, without what reading the model and the table took."""
    rows = sum(tally.values())
    return spent.told(row=rows, accepted=tally["accept"])


def _energy_words(told: dict[str, Any]) -> str:
    each = told["joules_per_accepted"]
    of_each = "none was accepted" if each is None else f"{each:.2g} J for each accepted answer"
    return (
        f"Energy: {told['joules']:.2g} J ({told['low']:.2g} to {told['high']:.2g}, "
        f"{told['method']}), {told['joules_per_row']:.2g} J a row, {of_each}."
    )


class Kept:
    """What stands beside the verdicts, so that they can be joined to the table: the number of the
    row, columns that name the rows, and columns that are asked for."""

    def __init__(self, codec: Any, asked: list[str]) -> None:
        self.codec = codec
        self.asked = asked
        self.names: list[Any] | None = None

    def beside(self, table: Any, frame: Any, first: int) -> Any:
        """The answers about one piece of the table, whose first row has this number; which columns
        name rows is known from the first piece."""
        import pandas as pd

        if self.names is None:
            self.names = self._names(table, frame)
        # pictures are named by their file
        own = {} if "file" in table else {"row": range(first, first + len(table))}
        own |= {name: frame[name].to_numpy() for name in self.names}
        return pd.concat([pd.DataFrame(own), table.reset_index(drop=True)], axis=1)

    def _names(self, table: Any, frame: Any) -> list[Any]:
        columns = [] if frame.index.name == FILE else list(frame.columns)
        for name in self.asked:
            if name not in columns:
                raise ValueError(
                    f"--keep names the column {name!r}; the columns are "
                    f"{', '.join(map(str, columns))}.{did_you_mean(name, columns)}"
                )
            if name in ("row", *table):
                raise ValueError(
                    f"--keep {name}: the answer has a column of that name; rename it in the table."
                )
        # names that are numbers at the fit are text in a file
        aside = {str(column.name) for column in self.codec.schema.columns if not column.modelled}
        naming = [
            name
            for name in columns
            if str(name) in aside
            and name not in ("row", *table, *self.asked)
            and (name in frame.attrs[UNIQUE] if UNIQUE in frame.attrs else frame[name].is_unique)
        ]
        return [*naming, *self.asked]


def _refuse_unused(target: Any, max_error: Any, max_width: Any) -> None:
    if max_width is not None and (target is None or target.discrete):
        raise ValueError("--max-width is of the interval of a number; this model predicts none.")
    if max_error and max_error != ["none"] and target is None:
        raise ValueError(
            "--max-error is about answers; this model has no target, so it gives none."
        )


def _for_the_screen(table: Any) -> Any:
    """Verdict first, then what speaks for it, the reason last; an accepted answer is the best
    guess."""
    from conjoin.questions.decide import NO_THRESHOLD

    names = {
        "row": "row",
        "file": "file",
        "verdict": "verdict",
        "best_guess": "guess",
        "low": "low",
        "high": "high",
        "confidence": "sure",
        "familiarity": "familiar",
    }
    screen = table[[name for name in names if name in table]].rename(columns=names)
    for name in {"sure", "familiar"} & set(screen):
        screen[name] = screen[name].map("{:.3f}".format)
    return screen.assign(reason=[text.replace(NO_THRESHOLD, "") for text in table["reason"]])


def evaluate(
    model: opt.ModelFolder,
    data: opt.Rows,
    target: opt.Target = None,
    false_alarm: opt.FalseAlarm = 0.05,
    max_error: opt.MaxError = None,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
) -> None:
    """How good the answers are on rows that the model has not seen."""
    voice = Voice(quiet, as_json)
    estimator = load_model(model, device)
    errors = max_error_of(max_error, estimator.model_.target)
    say_unfinished(estimator.model_, voice)
    limits = limits_of(max_bytes, max_ratio, max_columns)
    X, y = _labelled(estimator, data, limits, target, part, voice, skip_broken)
    rates = (
        {"false_alarm": false_alarm}
        if estimator.model_.target is None
        else {"false_alarm": false_alarm, "max_error": errors}
    )
    found = estimator.evaluate(X, y, **rates)
    voice.tell(*([f"! {found['unlike_fit']}", ""] if "unlike_fit" in found else []))
    voice.tell(plain_table(["", "", ""], _figures(found), fold=("",)))
    voice.json(found)


def _labelled(
    estimator: Any,
    data: str,
    limits: Any,
    name: str | None,
    part: str | None,
    voice: Voice,
    skip_broken: bool,
) -> tuple[Any, Any]:
    """x and its labels, of a table or of pictures."""
    reader = reader_of(data)
    if reader is not None:
        rows, found = reader.asked_rows(
            estimator.model_, data, part, limits.bytes, voice, skip_broken
        )
        return rows, reader.take_labels(estimator.model_.target, found, name, voice)
    refuse_for_tables(data, {"--part": part, "--skip-broken": skip_broken or None})
    return _take_labels(
        estimator.model_.target, read(data, limits, voice, estimator.model_.codec), name, voice
    )


def _take_labels(model_target: Any, frame: Any, name: str | None, voice: Voice) -> tuple[Any, Any]:
    """x and its labels, in the types that the model knows; labels may be absent unless they were
    asked for."""
    if model_target is None:
        if name is not None:
            raise ValueError("This model has no target, so --target has no meaning here.")
        return frame, None
    wanted = name or model_target.name
    if wanted in frame.columns:
        return frame.drop(columns=wanted), labels(frame[wanted], model_target)
    if name is not None:
        raise ValueError(
            f"There is no column {name!r} to be the target; the columns are "
            f"{', '.join(map(str, frame.columns))}.{did_you_mean(name, frame.columns)}"
        )
    voice.note(
        f"There is no column {wanted!r} (--target names another), so only what needs no labels "
        "is shown."
    )
    return frame, None


_FIGURES = {
    "rows": ("rows", ""),
    "log_prob": ("log p(x)", "mean of the rows, nats, in the table's own units"),
    "log_prob_median": ("", "median of the rows: one odd row does not move it"),
    "bits_per_dim": ("bits per dimension", "of the images; 8 are the pixels as they are"),
    "accuracy": ("accuracy", "if every row is answered"),
    "log_loss": ("log-loss", "nats per row; smaller is better"),
    "auc": ("AUC", "1 ranks perfectly, .5 is chance"),
    "ece": ("calibration error", "between confidence and accuracy, debiased"),
    "crps": ("CRPS", "in the target's units; smaller is better"),
    "mae": ("mean absolute error", "of the median"),
    "rmse": ("root mean squared error", "of the mean"),
    "false_alarm_asked": ("false alarms asked", ""),
    "false_alarm_got": ("false alarms got", "rows called unfamiliar, were all of them ordinary"),
    "accepted": ("accepted", "share of rows that are answered"),
    "error_asked": ("errors asked", ""),
    "error_among_accepted": (
        "errors got",
        "wrong among the accepted; none where nothing was accepted",
    ),
}


def _figures(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, figure and words of each; a rate has its 95 % interval in parentheses."""
    lines = [
        (name, _figure(found[key], found.get(f"{key}_interval")), words)
        for key, (name, words) in _FIGURES.items()
        if key in found and not (key == "error_asked" and found[key] is None)
    ]
    ends = found.get("accepted_wrong_per_class_interval", {})
    lines += [
        (
            f"  of {label}",
            _figure(share, ends.get(label)),
            "share of the class that is accepted with a wrong answer",
        )
        for label, share in found.get("accepted_wrong_per_class", {}).items()
    ]
    return lines + ([("promises", "", found["promises"])] if "promises" in found else [])


def _figure(value: Any, interval: Any = None) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{label} {rate:g}" for label, rate in value.items())
    if value is None:
        return "none"
    ends = "" if interval is None else f" ({shown(interval[0])} to {shown(interval[1])})"
    return f"{shown(value)}{ends}"


def report(
    model: opt.ModelFolder,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Rows, or pictures, that the model has not seen.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="The HTML file.")] = "report.html",
    target: opt.Target = None,
    show_rows: Annotated[
        bool, typer.Option("--show-rows", help="Show real rows, or pictures, in the report.")
    ] = False,
    false_alarm: Annotated[
        float | None,
        typer.Option(
            "--false-alarm",
            help="Share of ordinary rows that may be called unfamiliar (default: the least that "
            "the calibration rows support, from .05 on).",
            show_default=False,
        ),
    ] = None,
    max_error: opt.MaxError = None,
    force: opt.Force = False,
    mark: opt.Mark = True,
    device: opt.Device = "auto",
    quiet: opt.Quiet = False,
    max_bytes: opt.MaxBytes = None,
    max_ratio: opt.MaxRatio = None,
    max_columns: opt.MaxColumns = None,
    part: opt.Part = None,
    skip_broken: opt.SkipBroken = False,
) -> None:
    """One HTML file about the model, and about the rows of a table, or pictures, if they are
    given."""
    voice = Voice(quiet)
    claim(out, force, (".html", ".htm"))
    estimator = load_model(model, device)
    errors = None if max_error is None else max_error_of(max_error, estimator.model_.target)
    _refuse_unused(estimator.model_.target, max_error, None)
    X = y = None
    if data is not None:
        limits = limits_of(max_bytes, max_ratio, max_columns)
        X, y = _labelled(estimator, data, limits, target, part, voice, skip_broken)
    elif target is not None or show_rows or part is not None:
        raise ValueError(
            "--target, --part and --show-rows are about a table or pictures: name one after the "
            "model."
        )
    told = marked(voice, "report", model, estimator.model_, out, mark, partly=True)
    with told, new_file(out) as partial:
        estimator.report(
            partial, X, y, show_rows=show_rows, false_alarm=false_alarm, max_error=errors
        )
    voice.path(f"The report lies in {out}.")


def info(model: opt.ModelFolder, as_json: opt.Json = False) -> None:
    """What a model was fitted on, what was chosen, what it can promise, what it cost."""
    voice = Voice(as_json=as_json)
    fitted = model_of(model)
    asked_models.get([]).clear()  # to look at a model asks it nothing
    from conjoin.model.saving import model_hash
    from conjoin.questions.summary import describe, facts_of
    from conjoin.util.energy_record import asked_of

    digest = model_hash(fitted)
    asked = asked_of(model)
    versions = ", ".join(f"{name} {version}" for name, version in fitted.facts["versions"].items())
    voice.tell(
        plain_table(
            ["", ""],
            [
                *describe(fitted),
                *_spent(fitted, asked),
                ("made with", versions),
                ("hash", digest[:16]),
            ],
            fold=("",),
        )
    )
    notices = grouped(fitted.notices)
    if notices:
        voice.tell("Worth a look:", *(f"! {in_shell(text)}" for text in notices))
    told = {} if asked is None else {"energy_asked": asked.to_json()}
    voice.json({"model": model, "hash": digest, **facts_of(fitted), **told})


def _spent(fitted: Any, asked: Any) -> list[tuple[str, str]]:
    """Energy of questions by this user, and of these and the fit."""
    if asked is None:
        return []
    from conjoin.util.energy import Energy

    runs = "1 command" if asked.runs == 1 else f"{asked.runs:,} commands"
    lines = [("asked since", f"{asked.energy}, in {runs} of this user")]
    facts = {k: v for k, v in fitted.facts.get("energy", {}).items() if k != "brain_days"}
    if facts:
        lines.append(("energy in all", str(Energy(**facts) + asked.energy)))
    return lines

"""The verbs, and the end of every command: its exit code, and one sentence for what went wrong."""

import codecs
import contextlib
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from conjoin.cli import (
    answering,
    ask,
    audit,
    catalogue,
    compare,
    design,
    draw,
    learn,
    quality,
    serving,
    shift,
    verify,
)
from conjoin.cli.files import asked_models, spent_elsewhere
from conjoin.cli.voice import visible
from conjoin.cli.words import in_shell, schema_file
from conjoin.serving.cluster import LOCAL, OF_A_MODEL
from conjoin.util.energy import Tally
from conjoin.util.energy_record import note_down

__all__ = ["VERBS", "app", "main", "run"]

LEARN = "Learn"
ASK = "Ask"
MAKE = "Make and change rows"
SERVE = "Serve"
COMPARE = "Other places, other families"


class Verb(NamedTuple):
    """``examples``: command lines, without the first word."""

    function: Any
    group: str
    examples: tuple[str, ...]


VERBS: dict[str, Verb] = {
    "check": Verb(
        learn.check,
        LEARN,
        ("check data.csv --target price", "check data.csv --missing 'age=-999'"),
    ),
    "fit": Verb(
        learn.fit,
        LEARN,
        (
            "fit data.csv --target price",
            "fit data.csv --target kind --family circuit:width=64 -o my-model",
            "fit pictures/ --size 64 --max-time 600",
        ),
    ),
    "compare": Verb(
        compare.compare,
        LEARN,
        ("compare data.csv --target kind --max-time 600", "compare data.csv --family circuit"),
    ),
    "predict": Verb(ask.predict, ASK, ("predict my-model new.csv -o answers.csv",)),
    "decide": Verb(
        ask.decide,
        ASK,
        (
            "decide my-model new.csv --max-error .02",
            "decide my-model new.csv --max-error none --keep name -o verdicts.csv",
        ),
    ),
    "sample": Verb(
        draw.sample,
        MAKE,
        (
            "sample my-model -n 1000 -o made.csv",
            "sample my-model --y ill --given age=40..60 --where 'start <= end'",
        ),
    ),
    "impute": Verb(
        draw.impute,
        MAKE,
        ("impute my-model gaps.csv -o full.csv", "impute my-model gaps.csv --draws 5"),
    ),
    "counterfactual": Verb(
        draw.counterfactual,
        MAKE,
        ("counterfactual my-model new.csv --to healthy --keep age",),
    ),
    "design": Verb(
        design.design,
        MAKE,
        (
            "design my-model --want 'logD=2.5' -n 100 -o new.csv",
            "design my-model --want 'pIC50=7..' --keep c1ccccc1 --reference data.csv",
        ),
    ),
    "verify": Verb(verify.verify, MAKE, ("verify made.csv", "verify sheet.png --json")),
    "evaluate": Verb(ask.evaluate, ASK, ("evaluate my-model test.csv --max-error .02",)),
    "quality": Verb(
        quality.quality, COMPARE, ("quality train.csv made.csv --holdout test.csv --target kind",)
    ),
    "audit": Verb(
        audit.audit,
        COMPARE,
        (
            "audit my-model train.csv --holdout test.csv --by sex -o audit.html",
            "audit my-model train.csv --canaries planted.csv",
        ),
    ),
    "adapt": Verb(shift.adapt, COMPARE, ("adapt my-model elsewhere.csv -o elsewhere-model",)),
    "distil": Verb(shift.distil, COMPARE, ("distil pictures-model --steps 4 -o quick-model",)),
    "drift": Verb(shift.drift, COMPARE, ("drift last-year.csv this-year.csv",)),
    "report": Verb(ask.report, ASK, ("report my-model test.csv -o report.html",)),
    "info": Verb(ask.info, ASK, ("info my-model", "info my-model --json")),
    "serve": Verb(
        serving.serve,
        SERVE,
        ("serve my-model --port 8000", "serve texts-model --prompts familiar.txt"),
    ),
    "chat": Verb(serving.chat, SERVE, ("chat texts-model --temperature 0",)),
    "calibrate": Verb(
        answering.calibrate,
        SERVE,
        ("calibrate texts-model questions.csv -o calibrated-model",),
    ),
    "answer": Verb(
        answering.answer,
        SERVE,
        (
            "answer calibrated-model 'Where was Ada born?'",
            "answer calibrated-model questions.csv --max-risk .05 -o answers.csv",
        ),
    ),
    "families": Verb(catalogue.families, COMPARE, ("families",)),
    "test-family": Verb(catalogue.conformance, COMPARE, ("test-family mine.py:MyFlow",)),
}
BAD_INPUT = 2
INTERRUPTED = 130
TRACEBACK = "--traceback"
RAY = "--ray"
# what stands behind --ray, and is no model or table
ADDRESS = re.compile(r"auto|local|ray://.+|[^/\\]+:\d+")
MAX_SENTENCE_CHARACTERS = 4_000  # of an error
# the base of every usage error, which typer does not export
_Usage: Any = typer.BadParameter.__mro__[1]

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    context_settings=_HELP,
    pretty_exceptions_enable=False,
    help="Joint models p(x, y) of a table: predict, and know what you do not know.",
    epilog="Start with: conjoin check data.csv --target y",
)


def _show_version(asked: bool) -> None:
    if asked:
        from conjoin import __version__

        typer.echo(f"conjoin {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
    traced: Annotated[
        bool,
        typer.Option("--traceback", help="Show where in the code an error arose; at any place."),
    ] = False,
) -> None:
    """What stands before the verb."""


def _epilog(examples: tuple[str, ...]) -> str:
    """A paragraph for each, so that none is run into another."""
    lines = [f"conjoin {example}" for example in examples]
    return "\n\n".join([f"Example{'s' if len(lines) > 1 else ''}:", *lines])


for _name, _verb in VERBS.items():
    app.command(
        _name,
        context_settings=_HELP,
        rich_help_panel=_verb.group,
        epilog=_epilog(_verb.examples),
    )(_verb.function)


def main() -> None:
    """Run the command line of this process, and end it."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    traced = TRACEBACK in given
    given = _with_address([word for word in given if word != TRACEBACK])
    _speak_utf8()
    named = schema_file.set(("", False))
    models = asked_models.set([])
    elsewhere = spent_elsewhere.set([])
    tally = Tally()
    try:
        with _notes(), tally:
            _refuse_no_address(given)
            code = app(args=given or ["--help"], prog_name="conjoin", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
    except BrokenPipeError:  # whoever read our output has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _sorry("interrupted.", INTERRUPTED)
    except _Usage as error:
        command = error.ctx.command_path if error.ctx else "conjoin"
        return _sorry(f"{error.format_message()} See: {command} --help")
    except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
        if traced:
            traceback.print_exc()
        return _sorry(in_shell(_sentence(error)))
    except MemoryError:
        return _sorry("there is not enough memory for this: give fewer rows or columns.")
    finally:
        _note_energy(tally)
        spent_elsewhere.reset(elsewhere)
        asked_models.reset(models)
        schema_file.reset(named)


def _with_address(given: Sequence[str]) -> list[str]:
    """The command line, where ``--ray`` without an address stands for a cluster of this machine."""
    out: list[str] = []
    for place, word in enumerate(given):
        out.append(word)
        following = given[place + 1] if place + 1 < len(given) else ""
        if word == RAY and not ADDRESS.fullmatch(following):
            out.append(LOCAL)
    return out


def _refuse_no_address(given: Sequence[str]) -> None:
    """ValueError where what stands behind ``--ray`` is no address, and no file or folder either: a
    host without its port would be read as the model."""
    alone = [RAY, LOCAL]
    for place in range(len(given) - 2):
        word = given[place + 2]
        if list(given[place : place + 2]) != alone or word.startswith("-"):
            continue
        if not Path(word).expanduser().exists():
            raise ValueError(
                f"--ray {word}: {word!r} is no address of a cluster (auto, or host:port, such as "
                "10.0.0.1:6379), and there is no model or table of that name."
            )


def _note_energy(tally: Tally) -> None:
    """Of a command that asked models, for what `info` says of them."""
    energy = sum(spent_elsewhere.get(), start=tally.energy)
    for folder in asked_models.get():
        note_down(folder, energy.shared(len(asked_models.get())))


def _speak_utf8() -> None:
    """Names and levels are written as they are, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and _codec(stream.encoding) != "utf-8":
            stream.reconfigure(encoding="utf-8")


def _codec(encoding: str) -> str:
    return codecs.lookup(encoding).name


def _sentence(error: Exception) -> str:
    if isinstance(error, NotImplementedError):  # of a CapabilityError, from a worker too
        return getattr(error, OF_A_MODEL, str(error))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input/output'}: {error.strerror}."
    return str(error)


def _sorry(text: str, code: int = BAD_INPUT) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        sys.stderr.write(f"conjoin: {visible(' '.join(_cut(text).split()))}\n")
    return code


def _cut(text: str) -> str:
    """A sentence without the middle of what is far too long to be read."""
    half = MAX_SENTENCE_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} ... {text[-half:]}"


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Warnings become notes on standard error, each once."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        plain = category is UserWarning or category.__module__.startswith("conjoin.")
        if text not in seen:
            seen.add(text)
            sys.stderr.write(
                f"note: {visible(in_shell(text if plain else f'{category.__name__}: {text}'))}\n"
            )

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield

"""The verbs, and the end of every command: its exit code, and one sentence for what went wrong."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from conjoin.cli import ask, catalogue, compare, draw, learn, quality, shift
from conjoin.cli.words import in_shell

__all__ = ["VERBS", "app", "main", "run"]

VERBS: dict[str, Any] = {
    "check": learn.check,
    "fit": learn.fit,
    "compare": compare.compare,
    "predict": ask.predict,
    "decide": ask.decide,
    "sample": draw.sample,
    "impute": draw.impute,
    "counterfactual": draw.counterfactual,
    "evaluate": ask.evaluate,
    "quality": quality.quality,
    "adapt": shift.adapt,
    "distil": shift.distil,
    "drift": shift.drift,
    "report": ask.report,
    "info": ask.info,
    "families": catalogue.families,
    "test-family": catalogue.conformance,
}
BAD_INPUT = 2
INTERRUPTED = 130
MAX_SENTENCE_CHARACTERS = 4_000  # of an error
# the base of every usage error, which typer does not export
_Usage: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
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
) -> None:
    """What stands before the verb."""


for _verb, _function in VERBS.items():
    app.command(_verb)(_function)


def main() -> None:
    """Run the command line of this process, and end it."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _notes():
            code = app(args=given or ["--help"], prog_name="conjoin", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
    except BrokenPipeError:  # whoever read our output has had enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _Usage as error:
        command = error.ctx.command_path if error.ctx else "conjoin"
        return _sorry(f"{error.format_message()} See: {command} --help")
    except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
        return _sorry(in_shell(_sentence(error)))
    except MemoryError:
        return _sorry("there is not enough memory for this: give fewer rows or columns.")
    except (KeyboardInterrupt, typer.Abort):
        return _sorry("interrupted.", INTERRUPTED)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input/output'}: {error.strerror}."
    return str(error)


def _sorry(text: str, code: int = BAD_INPUT) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        sys.stderr.write(f"conjoin: {' '.join(_cut(text).split())}\n")
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
        if text not in seen:
            seen.add(text)
            sys.stderr.write(
                f"note: {text if category is UserWarning else f'{category.__name__}: {text}'}\n"
            )

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield

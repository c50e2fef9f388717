"""families and test-family: list the families, and check one against its declared capabilities."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli import options as opt
from conjoin.cli.voice import Voice, plain_table

__all__ = ["conformance", "families"]


def families(as_json: opt.Json = False) -> None:
    """The ways to model p(x)."""
    from conjoin.families import FAMILIES, names

    voice = Voice(as_json=as_json)
    others = [
        name for name, stands_for in names().items() if name == stands_for and name not in FAMILIES
    ]
    rows = [
        (name, family.map, family.summary, list(family.aliases))
        for name, family in FAMILIES.items()
    ]
    rows += [(name, "installed", "registered by another package", []) for name in others]
    words = [
        (name, kind, what + (f" (also called {', '.join(called)})" if called else ""))
        for name, kind, what, called in rows
    ]
    voice.tell(plain_table(["family", "kind", "what it is"], words, fold=("what it is",)))
    voice.json(
        {
            name: {"kind": kind, "summary": what, "aliases": called}
            for name, kind, what, called in rows
        }
    )


def conformance(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:CLASS",
            help="Your Density (or its config), or a name.",
            show_default=False,
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CHECK", help="Only this check. Repeatable.", show_default=False
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Hold a family to the contract: the conformance table, and exit code 1 if a check fails."""
    voice = Voice(as_json=as_json)
    found = _find(family)
    from conjoin.testing.conformance import check_family, results_table

    results = check_family(found, only=only)
    failed = [result for result in results if not result.passed]
    if not as_json:
        from rich.console import Console

        Console().print(results_table(results))
    lines = [
        {
            "check": r.check,
            "space": r.space,
            "passed": r.passed,
            "seconds": r.seconds,
            "detail": r.detail,
        }
        for r in results
    ]
    voice.json({"family": family, "checks": len(results), "failed": len(failed), "results": lines})
    if failed:
        raise typer.Exit(1)


def _find(text: str) -> Any:
    """The class that ``file.py:Class`` or ``module:Class`` names, or a registered family's
    config."""
    from conjoin.families import resolve

    where, colon, name = text.rpartition(":")
    if not colon:
        return resolve(text)
    module = _import(where)
    if name not in vars(module):
        raise ValueError(
            f"{where} has no {name!r}; it has "
            f"{', '.join(key for key in vars(module) if not key.startswith('_'))}."
        )
    found = vars(module)[name]
    return resolve(found() if isinstance(found, type) and "density" in vars(found) else found)


def _import(where: str) -> Any:
    """A module by its file or by its name; what goes wrong inside it is said with its line."""
    import importlib.util
    import traceback

    path = Path(where)
    if where.endswith(".py") and not path.is_file():
        raise ValueError(
            f"There is no file {where}; name it as in conjoin test-family mine.py:MyFlow."
        )
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next(
            (frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()),
            None,
        )
        place = where if line is None else f"{where}, line {line}"
        raise ValueError(f"{place} cannot be imported: {type(error).__name__}: {error}.") from error
    return module

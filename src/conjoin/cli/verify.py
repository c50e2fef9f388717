"""verify: what made a file, whether it was changed since, whether a text carries a watermark."""

from typing import Annotated

import typer

from conjoin.cli import options as opt
from conjoin.cli.voice import Voice

__all__ = ["verify"]

FAILED = 1


def verify(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="What a model may have made.", show_default=False),
    ],
    as_json: opt.Json = False,
) -> int:
    """Say what made a file, and whether it was changed since. Exit code 0: valid; 1: changed, or
    not marked; 2: it can't be told."""
    voice = Voice(as_json=as_json)
    from conjoin.marking.verify import VALID
    from conjoin.marking.verify import verify as check

    found = check(file)
    voice.path(found.words)
    voice.json({"file": file, **found.to_json()})
    return 0 if found.state == VALID else FAILED

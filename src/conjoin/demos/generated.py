"""What a demo writes is marked as generated, and it is said how."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conjoin.cli.marks import told_of
from conjoin.marking.marks import Marks
from conjoin.marking.origin import Origin
from conjoin.model.saving import model_hash

__all__ = ["generated"]


@contextlib.contextmanager
def generated(estimator: Any, verb: str, path: Path, seed: int | None = None) -> Iterator[None]:
    """Mark ``path``, which is written inside of the block, as what the estimator made.

    ``verb``: what it was asked; a "report" is the model's only in part."""
    origin = Origin(verb, "of a demo", model_hash(estimator.model_), seed, verb == "report")
    with Marks(origin) as marks:
        yield
    print(*told_of(marks, str(path)), sep="\n", file=sys.stderr)

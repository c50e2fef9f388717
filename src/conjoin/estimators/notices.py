"""What a fit tells of its columns: which were set aside, pooled, parsed or taken for something, and
how the fit went.

In Python each notice is a warning, and with ``verbose`` the fit ends with a summary. The command
line has its own words for both and asks for silence (``told_elsewhere``).
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from conjoin.core.warnings import ColumnWarning
from conjoin.model.several import SeveralTargets
from conjoin.questions.summary import describe

__all__ = ["ColumnWarning", "tell", "told_elsewhere"]

_silent: ContextVar[bool] = ContextVar("_silent", default=False)
FRAMES_TO_THE_USER = 5  # behind tell, _adopt, _fit and fit


@contextlib.contextmanager
def told_elsewhere() -> Iterator[None]:
    """Within, fits neither warn nor summarise: whoever asks does it."""
    before = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(before)


def tell(model: Any, verbose: bool) -> None:
    """One warning for each notice of a fitted model; with ``verbose`` its summary on standard
    error."""
    if _silent.get():
        return
    for text in model.notices:
        warnings.warn(text, ColumnWarning, stacklevel=FRAMES_TO_THE_USER)
    if verbose:
        _summarise(model)


def _summarise(model: Any) -> None:
    several = model.views().values() if isinstance(model, SeveralTargets) else [model]
    for each in several:
        lines = describe(each)
        width = max(len(name) for name, _ in lines)
        text = "\n".join(f"{name:<{width}}  {words}" for name, words in lines)
        sys.stderr.write(f"{text}\n\n")

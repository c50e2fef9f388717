"""One call of the model for a request: what it refuses names the field, and its place is logged."""

import re
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from conjoin.serving.gate import Gate
from conjoin.serving.refusals import LOG, Refusal

__all__ = ["asked", "field_of"]

T = TypeVar("T")
REFUSALS = (ValueError, TypeError, NotImplementedError, OverflowError)
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # torch's words


async def asked(
    gate: Gate, call: Callable[[], T], body: Any, scarce: str, costly: str
) -> tuple[T, list[str]]:
    """What a call answers in the model's thread, and its notes.

    Parameters
    ----------
    gate
        Before the model.
    call
        What is asked.
    body
        Of the request.
    scarce, costly
        What is said where memory does not do, and the field that asks for most of it.

    Raises
    ------
    Refusal
        If the library refuses, or there is not enough memory. The log has where it was raised, so
        that a mistake of the library is not taken for one of its client.
    """
    try:
        return await gate.ask(call)
    except REFUSALS as error:
        _log_place(error)
        raise Refusal(str(error), field_of(str(error), body)) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _lacks_memory(error):
            raise
        _log_place(error)
        raise Refusal(scarce, costly) from None


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether torch found too little memory; on the CPU only its words say so."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(each in words for each in NO_MEMORY)


def _log_place(error: BaseException) -> None:
    """One line, which holds nothing of what was asked."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    LOG.info("refused: %s at %s:%s", type(error).__name__, place.filename, place.lineno)


def field_of(words: str, body: Any) -> str:
    """The field of the body that a sentence is about: the one that it begins with, else the one
    that it names first, else the rows."""
    fields = type(body).model_fields
    begins = re.match(r"[a-z_]+(\.\d+)?(\.[a-z_]+)?(?=[ =:])", words)
    if begins is not None and begins[0].split(".")[0] in fields:
        return begins[0]
    plain = words.replace("-", "_")
    places = {name: re.search(rf"\b{name}\b", plain) for name in fields if len(name) > 2}
    named = sorted((found.start(), name) for name, found in places.items() if found is not None)
    return named[0][1] if named else "rows" if "rows" in fields else next(iter(fields))

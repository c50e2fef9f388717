"""The model of a demo, which an earlier call may have fitted, or begun."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["resumed"]


def resumed(folder: Path, rows: int, begin: Callable[[], tuple[Any, tuple[Any, ...]]]) -> Any:
    """The model of an earlier call, or one that is fitted now, from where an earlier call with as
    many rows was broken off; None if this one is.

    ``begin`` gives an estimator, and what it is fitted to."""
    import conjoin
    from conjoin.training.checkpoint import Stop

    saved = folder / "model"
    checkpoint = folder / f"checkpoint-{rows}"  # other rows are another fit
    if saved.exists():
        return conjoin.load(saved)
    model, data = begin()
    try:
        model.fit(*data, checkpoint=checkpoint, resume=True)
    except KeyboardInterrupt:
        return None
    if model.model_.card["trained"]["stopped"] == Stop.INTERRUPTED:
        return None
    model.save(saved)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return model

"""Checkpoints of a fit: one safetensors file that is replaced in one step."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from conjoin.util.files import write_bytes

__all__ = ["Stop", "Trained", "read_checkpoint", "write_checkpoint"]

NAME = "checkpoint.safetensors"
Parts = dict[str, dict[str, Tensor]]
Begun = dict[str, str]  # what a fit began with: {what the user calls it: what it was}


class Stop(StrEnum):
    """Why a fit ended, as stored in a model's folder and on its card.

    If a limit was reached, its amount is stored instead: see ``Plan``."""

    EPOCHS = "all epochs done"
    NO_BETTER = "no better for a while"
    NOT_FINITE = "the loss was not finite: the last good weights are kept"
    READY = "there was nothing to learn: all parameters are fixed"
    INTERRUPTED = "interrupted: the best weights so far are kept"


@dataclass
class Trained:
    """What the loop did: kept in the model's config, shown in the report."""

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    best: float = math.inf  # nats per row on validation rows (fit-rows where there are none)
    best_epoch: int = 0
    stopped: str = ""  # a ``Stop``, or a sentence with the limit that was reached
    history: list[tuple[int, float, float]] = field(default_factory=list)  # epoch, fit, choose
    setbacks: int = 0  # times that the fit went back to its last good weights
    notes: list[str] = field(default_factory=list)
    planned: int = 0  # steps of the gradient; 0 where it learns otherwise
    # of a mixture of families: what each is called, took, reached on validation rows, and counts
    members: list[dict[str, Any]] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        """Whether somebody broke the fit off."""
        return self.stopped == Stop.INTERRUPTED


def write_checkpoint(
    folder: Path, parts: Parts, trained: Trained, sums: tuple[float, float], begun: Begun
) -> str:
    """Write the file; where the disk is full, a sentence about the one that stays, and nothing is
    lost but the newest steps."""
    tensors = {
        f"{part}/{key}": value.detach().cpu().contiguous().clone()
        for part, named in parts.items()
        for key, value in named.items()
    }
    tensors["sums"] = torch.tensor(sums, dtype=torch.float64)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        said = {"trained": json.dumps(asdict(trained)), "begun": json.dumps(begun)}
        write_bytes(folder / NAME, save(tensors, metadata=said))
    except OSError as error:
        kept = "the last one stays" if (folder / NAME).exists() else "there is none yet"
        note = (
            f"No checkpoint could be written to {folder} ({error.strerror}); {kept}, and the "
            "fit goes on."
        )
        sys.stderr.write(f"note: {note}\n")
        return note
    return ""


def read_checkpoint(
    folder: Path, begun: Begun
) -> tuple[Parts, Trained, tuple[float, float]] | None:
    """The parts, counters and running sums of the last checkpoint; None where there is none.

    Raises
    ------
    ValueError
        For a damaged one, or one of a fit that began with something else than ``begun``.
    """
    file = folder / NAME
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            said = opened.metadata()
        earlier: Begun = json.loads(said.get("begun", "{}"))
        trained = _trained(json.loads(said["trained"]))
        parts, sums = _sorted(load_file(file))
    except (SafetensorError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}): fit without resuming.") from None
    _refuse_others(folder, earlier, begun)
    return parts, trained, sums


def _trained(said: dict[str, Any]) -> Trained:
    history = [(epoch, fit, held) for epoch, fit, held in said.pop("history")]
    return Trained(**said | {"stopped": "", "history": history})


def _sorted(tensors: dict[str, Tensor]) -> tuple[Parts, tuple[float, float]]:
    first, second = tensors.pop("sums").tolist()
    parts: Parts = {"now": {}, "best": {}, "learner": {}, "good": {}, "good_learner": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    return parts, (first, second)


def _refuse_others(folder: Path, earlier: Begun, begun: Begun) -> None:
    """ValueError where a fit is to go on with something else than it began with. Checkpoints of
    earlier versions don't say what that was."""
    for what, value in earlier.items():
        now = begun.get(what, "nothing")
        if now != value:
            raise ValueError(
                f"The checkpoint in {folder} belongs to another fit: it began with {what} "
                f"{value:.80}, and this one has {now:.80}: repeat that, or fit without resuming."
            )

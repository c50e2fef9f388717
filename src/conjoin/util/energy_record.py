"""Energy that asking a model has taken, summed up for this user: no time, no question, no name.

One line for each command in the folder of settings (``energy.jsonl``): the hash of the model's
config, kWh and its interval. ``CONJOIN_ENERGY=off`` in the environment leaves it out.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.util.energy import Energy
from conjoin.util.settings import append_private, config_folder

__all__ = ["RunEnergy", "asked_of", "note_down"]

FILE = "energy.jsonl"
OFF = "off"


@dataclass(frozen=True)
class RunEnergy:
    """``energy`` of all ``runs`` that were noted down."""

    energy: Energy
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {"runs": self.runs, **self.energy.to_json()}


def _hash_of(folder: str | Path) -> str | None:
    """What a model's folder says that its config is; None of other folders."""
    try:
        found = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return str(found["config_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_down(folder: str | Path, energy: Energy) -> bool:
    """Add the energy of one run that asked the model in a folder; whether that could be done."""
    model = _hash_of(folder)
    if model is None or os.environ.get("CONJOIN_ENERGY") == OFF:
        return False
    numbers = (energy.kwh, energy.low, energy.high, energy.seconds, energy.cpu_seconds)
    line = json.dumps({"model": model, "method": energy.method, "numbers": numbers})
    try:
        append_private(config_folder() / FILE, [line])
    except (OSError, RuntimeError):  # a folder that can't be written counts nothing, as info says
        return False
    return True


def asked_of(folder: str | Path) -> RunEnergy | None:
    """All that was noted down of the model in a folder; None where nothing was."""
    model = _hash_of(folder)
    try:
        lines = (config_folder() / FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None
    runs = [_energy_in(line) for line in lines if model is not None and model in line]
    known = [energy for energy in runs if energy is not None]
    if not known:
        return None
    total = known[0]
    for each in known[1:]:
        total += each
    return RunEnergy(total, len(known))


def _energy_in(line: str) -> Energy | None:
    """None for a line that was cut, as by a full disk."""
    try:
        found = json.loads(line)
        kwh, low, high, seconds, cpu_seconds = map(float, found["numbers"])
        return Energy(kwh, low, high, str(found["method"]), seconds, cpu_seconds)
    except (ValueError, KeyError, TypeError):
        return None

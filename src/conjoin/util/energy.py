"""Energy of a block of code, in kWh and in days of a human brain.

    with Meter() as meter:
        fit()
    meter.energy
    # 0.0021 kWh (CPU time x 12 W per core, 0.0007 to 0.0042), 0.42 % of a brain's day

    with Tally() as tally:  # as often as there are pieces of work, from some milliseconds on
        answer()
    tally.energy

The processor is read from its own counters (RAPL) where the system lets us, a GPU that this process
has used from NVIDIA's (the extra ``energy``); else energy is CPU time times a stated power per busy
core. The method is always named.

12 W per core is the default of the Green Algorithms calculator (Lannelongue, Grealey and Inouye
2021, Advanced Science 8, 2100707); the interval is the range of its table, from 3.8 W in a server
of many cores to 23.8 W in an old desktop. Counters count whatever ran on the machine in that time,
and are good to some 5 %.
"""

import contextlib
import dataclasses
import functools
import os
import re
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

__all__ = ["BRAIN_KWH_PER_DAY", "WATTS_PER_CORE", "Energy", "Meter", "Tally"]

BRAIN_KWH_PER_DAY = 0.5
WATTS_PER_CORE = (12.0, 4.0, 24.0)  # taken, low, high
COUNTER_ERROR = 0.05
JOULES_PER_KWH = 3.6e6
BRAIN_WATTS = BRAIN_KWH_PER_DAY * JOULES_PER_KWH / 86400  # 20.8
POWERCAP = "/sys/class/powercap"
GPU = "GPU counters"
POLL_SECONDS = 30.0  # a RAPL counter of 65 kJ wraps after 160 s at 400 W


@dataclasses.dataclass(frozen=True, slots=True)
class Energy:
    """kWh with an interval, and how they were found.

    >>> how = "CPU time x 12 W per core"
    >>> fit = Energy(0.002, 0.001, 0.004, how, seconds=400.0, cpu_seconds=600.0)
    >>> print(fit + fit)
    0.004 kWh (CPU time x 12 W per core, 0.002 to 0.008), 0.8 % of a brain's day
    """

    kwh: float
    low: float
    high: float
    method: str
    seconds: float
    cpu_seconds: float

    @property
    def brain_days(self) -> float:
        """How many days a human brain runs on it, at 0.5 kWh a day."""
        return self.kwh / BRAIN_KWH_PER_DAY

    @property
    def joules(self) -> float:
        return self.kwh * JOULES_PER_KWH

    def told(self, **times: float) -> dict[str, Any]:
        """In joules, for an answer; ``times``: so many of what the energy was spent on, such as
        tokens=40, of which each has its share (None where there is none).

        >>> how = "CPU time x 12 W per core"
        >>> Energy(1e-5, 5e-6, 2e-5, how, 3.0, 3.0).told(token=18)["joules_per_token"]
        2.0
        """
        shares = {
            f"joules_per_{name}": self.joules / count if count else None
            for name, count in times.items()
        }
        return {
            "joules": self.joules,
            "low": self.low * JOULES_PER_KWH,
            "high": self.high * JOULES_PER_KWH,
            **shares,
            "brain_seconds": self.joules / BRAIN_WATTS,
            "method": self.method,
        }

    def shared(self, count: int) -> "Energy":
        """What each of ``count`` answers that were worked out together took."""
        numbers = (self.kwh, self.low, self.high, self.seconds, self.cpu_seconds)
        kwh, low, high, seconds, cpu_seconds = (number / max(count, 1) for number in numbers)
        return Energy(kwh, low, high, self.method, seconds, cpu_seconds)

    def __add__(self, other: "Energy") -> "Energy":
        methods = dict.fromkeys((*self.method.split("; "), *other.method.split("; ")))
        kwh = self.kwh + other.kwh
        low = self.low + other.low
        high = self.high + other.high
        return Energy(
            kwh,
            low,
            high,
            "; ".join(methods),
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
        )

    def __str__(self) -> str:
        days = (
            f"{_plain(self.brain_days)} brain days"
            if self.brain_days >= 1
            else f"{_plain(100 * self.brain_days)} % of a brain's day"
        )
        return (
            f"{_plain(self.kwh)} kWh ({self.method}, {_plain(self.low)} to "
            f"{_plain(self.high)}), {days}"
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"brain_days": self.brain_days}


class Meter:
    """Context manager: ``energy`` is the energy so far, and after the block the energy of the
    block."""

    def __init__(self, powercap: str | Path = POWERCAP) -> None:
        self._counters = [Counter(zone) for zone in rapl_zones(Path(powercap))]
        self._energy: Energy | None = None

    def __enter__(self) -> Self:
        self._energy = None
        self._start = time.perf_counter()
        self._cpu_start = _cpu_seconds()
        for counter in self._counters:
            counter.start()
        self._gpu_start = gpu_joules()
        self._done = threading.Event()
        if self._counters:
            threading.Thread(target=self._poll, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._energy = self._measure()

    @property
    def energy(self) -> Energy:
        return self._energy or self._measure()

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            for counter in self._counters:
                counter.update()

    def _measure(self) -> Energy:
        seconds = time.perf_counter() - self._start
        cpu_seconds = _cpu_seconds() - self._cpu_start
        energy = self._processor(seconds, cpu_seconds)
        if self._gpu_start is not None and _uses_gpu():
            energy += _counted((gpu_joules() or self._gpu_start) - self._gpu_start, GPU, 0.0, 0.0)
        return energy

    def _processor(self, seconds: float, cpu_seconds: float) -> Energy:
        return _processor(_read(self._counters), seconds, cpu_seconds)


class Tally:
    """Energy of pieces of work, added up: a context manager that is entered once for each.

    It starts no thread and reads a few files, so that it may stand around some milliseconds of
    work. A piece takes less than the minutes in which a counter wraps twice."""

    def __init__(self, powercap: str | Path = POWERCAP) -> None:
        self._counters = [Counter(zone) for zone in _zones(str(powercap))]
        self._counted: float | None = 0.0  # joules; None once a counter can't be read
        self._gpu: float | None = None
        self._seconds = 0.0
        self._cpu_seconds = 0.0

    def __enter__(self) -> Self:
        for counter in self._counters:
            counter.start()
        self._gpu_start = gpu_joules() if _uses_gpu() else None
        self._start = time.perf_counter()
        self._cpu_start = time.process_time()  # finer than the ticks of os.times
        return self

    def __exit__(self, *exception: object) -> None:
        self._seconds += time.perf_counter() - self._start
        self._cpu_seconds += time.process_time() - self._cpu_start
        joules = _read(self._counters)
        known = joules is not None and self._counted is not None
        self._counted = self._counted + joules if known else None  # type: ignore[operator]
        if self._gpu_start is not None:
            self._gpu = (self._gpu or 0.0) + (gpu_joules() or self._gpu_start) - self._gpu_start

    @property
    def energy(self) -> Energy:
        """Of all pieces so far."""
        energy = _processor(self._counted, self._seconds, self._cpu_seconds)
        return energy if self._gpu is None else energy + _counted(self._gpu, GPU, 0.0, 0.0)


@functools.cache
def _zones(powercap: str) -> list[Path]:
    """Those of this machine, which stay as they are."""
    return rapl_zones(Path(powercap))


def _read(counters: "list[Counter]") -> float | None:
    """Joules since the counters were started; None where one can't be read, or there is none."""
    joules = [counter.update() for counter in counters]
    return None if not joules or None in joules else sum(filter(None, joules))


def _processor(joules: float | None, seconds: float, cpu_seconds: float) -> Energy:
    """By counters where they tell anything, else by CPU time."""
    if joules:
        return _counted(joules, "processor counters, all programs", seconds, cpu_seconds)
    taken, low, high = (watts * cpu_seconds / JOULES_PER_KWH for watts in WATTS_PER_CORE)
    method = f"CPU time x {WATTS_PER_CORE[0]:g} W per core"
    return Energy(taken, low, high, method, seconds, cpu_seconds)


class Counter:
    """One RAPL zone: joules since ``start``, over wraps; None once the zone can't be read."""

    def __init__(self, zone: Path) -> None:
        self.zone = zone
        self._range = (_number(zone / "max_energy_range_uj") or 0) + 1
        self._lock = threading.Lock()

    def start(self) -> None:
        self._joules = 0.0
        self._last = _number(self.zone / "energy_uj")

    def update(self) -> float | None:
        with self._lock:
            now = _number(self.zone / "energy_uj")
            if now is None or self._last is None:
                self._last = None
                return None
            self._joules += (
                (now - self._last) if now >= self._last else (now - self._last) % self._range
            ) / 1e6
            self._last = now
            return self._joules


def rapl_zones(powercap: Path) -> list[Path]:
    """Processor packages and their memory: cores are part of a package, and ``psys`` holds them all
    again."""
    zones = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
    names = {zone: _text(zone / "name") for zone in zones}
    packages = [
        zone
        for zone in zones
        if re.fullmatch(r"intel-rapl:\d+", zone.name) and names[zone].startswith("package")
    ]
    memory = [
        zone
        for zone in zones
        if re.fullmatch(r"intel-rapl:\d+:\d+", zone.name) and names[zone] == "dram"
    ]
    return (
        [zone for zone in packages + memory if _number(zone / "energy_uj") is not None]
        if packages
        else []
    )


def gpu_joules() -> float | None:
    """Joules that this machine's NVIDIA GPUs have used since their driver was loaded; None where
    that is not known."""
    try:
        import pynvml
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return (
            sum(
                pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index))
                for index in _gpus(pynvml)
            )
            / 1e3
        )
    return None


def _gpus(pynvml: Any) -> list[int]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return (
        [int(index) for index in visible]
        if all(index.isdigit() for index in visible)
        else list(range(pynvml.nvmlDeviceGetCount()))
    )


def _uses_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _counted(joules: float, method: str, seconds: float, cpu_seconds: float) -> Energy:
    kwh = joules / JOULES_PER_KWH
    return Energy(
        kwh, kwh * (1 - COUNTER_ERROR), kwh * (1 + COUNTER_ERROR), method, seconds, cpu_seconds
    )


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _plain(number: float) -> str:
    """Two significant digits, without an exponent."""
    return format(Decimal(f"{number:.2g}"), "f")

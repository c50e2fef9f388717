"""How to fit: every setting from the surface to the end, by its name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.model.targets import TARGETS, Target

__all__ = ["SPEEDS", "FitOptions"]

SPEEDS = ("default", "fast")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What a fit is asked for, beside its rows.

    Attributes
    ----------
    task
        "classes", "number" or "density".
    family
        How p(x) is modelled: a name, a config, or a Density class.
    predictor
        What gives p(y | x): "auto", a name of ``PREDICTORS``, an estimator, a list of these for a
        pool, or None for the family's own.
    codec
        What reads the rows; None: that of a table.
    seed
        Of every draw.
    max_time, max_kwh
        Seconds that the whole fit may take, and kilowatt-hours after which the training ends; None
        for no limit.
    began
        When the fit was asked for, on the clock of ``time.monotonic``; None: when it begins.
    emphasis
        Extra weight of p(y | x) in the loss of a network, or "auto".
    precision
        Of networks: "auto", or a name of ``conjoin.nets.precision.PRECISIONS``.
    device
        Where it computes: see ``conjoin.core.device.choose_device``.
    calibration
        Share of the rows that is held out for the two alarms, 0 to under 0.9.
    checkpoint, resume
        A folder to write the state of the fit to, and whether to go on from what lies there.
    verbose
        Whether progress is shown.
    spread
        Whether labels are propagated to rows that have none.
    stream
        The whole table, of which the rows are a sample: see ``conjoin.fitting.stream``.
    start
        The model to begin from: see ``conjoin.fitting.warm_start``.
    speed
        "default", or "fast": see ``conjoin.fitting.fast``.
    strict
        Whether a column that is set aside, pooled, parsed or doubtful ends the fit.

    Raises
    ------
    ValueError
        For a limit that is no number of at least 0, and an unknown speed.
    """

    task: str
    family: Any = "circuit"
    predictor: Any = "auto"
    codec: Any = None
    seed: int = 0
    max_time: float | None = None
    began: float | None = None
    max_kwh: float | None = None
    emphasis: Any = 0.0
    precision: str = "auto"
    device: str = "cpu"
    calibration: float = 0.2
    checkpoint: Path | None = None
    resume: bool = False
    verbose: bool = False
    spread: bool = True
    stream: Any = None
    start: Any = None
    speed: str = "default"
    strict: bool = False

    def __post_init__(self) -> None:
        if self.speed not in SPEEDS:
            raise ValueError(f"speed must be one of {', '.join(SPEEDS)}, got {self.speed!r}.")
        for name, unit in (("max_time", "seconds"), ("max_kwh", "kilowatt-hours")):
            value = getattr(self, name)
            number = isinstance(value, int | float | np.number)
            if value is not None and not (number and value >= 0):
                raise ValueError(
                    f"{name} must be a number of {unit} (at least 0) or None, got {value!r}."
                )

    @property
    def fast(self) -> bool:
        """Whether what costs the most time for what it gains is left out."""
        return self.speed == "fast"

    @property
    def target_class(self) -> type[Target] | None:
        """What y is to be; None where p(x) alone is modelled."""
        return TARGETS.get(self.task)

    @property
    def has_classes(self) -> bool:
        """Whether y is to be one of several labels."""
        return self.target_class is not None and self.target_class.discrete

    def refuse_doubts(self, notices: list[str]) -> None:
        """ValueError that repeats what there is to say about the columns, where the fit is
        strict."""
        if self.strict and notices:
            raise ValueError(
                f"strict=True, and there is something to say about the columns: "
                f"{' '.join(notices)} Say types= or missing=, leave the columns out, or fit with "
                "strict=False."
            )

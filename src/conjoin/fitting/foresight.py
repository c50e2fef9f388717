"""What comes after the training, how long it is likely to take, and how much of it there is time
for.

What is measured is the work itself on a few rows: draws, answers and scores of the density before
it has learned anything, which cost what they cost later. So much is put aside while the density
trains; what is done in the end is measured once more when its turn comes.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from conjoin.core import Density, Event, as_float, stream
from conjoin.joints.base import Joint
from conjoin.model.model import BANK_ROWS
from conjoin.model.predictive import grid_for, predictive
from conjoin.model.targets import Target
from conjoin.util.budget import MEASURE_TIME_SHARE, Budget, seconds_per_row

__all__ = [
    "CALIBRATING",
    "CHOOSING",
    "USUAL",
    "Later",
    "rows_in_time",
]

USUAL = "what is usual"
CHOOSING = "p(y | x)"
CALIBRATING = "calibrating"

# of all time, that a phase may have put aside
CALIBRATION_TIME_SHARE = 0.2
CHOICE_TIME_SHARE = 0.2
JUDGING_TIME_SHARE = 0.05
USUAL_TIME_SHARE = 0.1
MAX_LATER_SHARE = 0.5  # of what is left when the training begins
SAFETY = 1.2  # times what was measured
MAX_MEASURED_ROWS = 512
MEASURED_DRAWS = 16


@dataclass(frozen=True)
class Later:
    """What is still to be done after a density has been built.

    Attributes
    ----------
    budget
        Of the whole fit.
    target
        What y is; None for p(x) alone.
    rows
        Events of x, as those that will be asked about.
    y
        Events of y; of a number they tell its range.
    calibrated, judged
        Rows that are asked about for the calibration, and to weigh predictors.
    choosing
        Seconds that the predictors beside the family's own are likely to take.
    """

    budget: Budget
    target: Target | None
    rows: Event
    y: Event
    calibrated: int
    judged: int
    choosing: dict[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def put_aside(self, density: Density) -> None:
        """Time for what comes after the training of ``density``."""
        budget = self.budget
        if not budget.bounded or not self.rows.rows:
            return
        usual = SAFETY * self._usual(density)
        answering = SAFETY * self._each(lambda x: self._asked(density, x))
        calibration = min(self.calibrated * answering, budget.share(CALIBRATION_TIME_SHARE))
        weighing = min(self.judged * answering, budget.share(JUDGING_TIME_SHARE))
        learning = min(sum(self.choosing.values()), budget.share(CHOICE_TIME_SHARE))
        aside = {USUAL: usual, CALIBRATING: calibration, CHOOSING: weighing + SAFETY * learning}
        # whatever comes later, the training has its part
        less = min(1.0, MAX_LATER_SHARE * budget.left / max(sum(aside.values()), 1e-9))
        for phase, seconds in aside.items():
            budget.put_aside(phase, less * seconds)

    def _each(self, work: Any) -> float:
        """Seconds per row."""
        return seconds_per_row(
            lambda count: work(as_float(self.rows.take(slice(0, count)))),
            min(self.rows.rows, MAX_MEASURED_ROWS),
            self.budget.share(MEASURE_TIME_SHARE),
        )

    def _asked(self, density: Density, x: Event) -> None:
        """What the calibration asks of rows."""
        self._familiarity(density, x)
        if self.target is None:
            return
        joint: Joint = density  # type: ignore[assignment]
        if not self.target.discrete:
            predictive(joint, x, grid_for(joint, self.y), direct=True)
        else:
            joint.log_posterior(x)

    def _familiarity(self, density: Density, x: Event) -> None:
        """What the statistic of familiarity is read off."""
        if self.target is None:
            density.typicality(x) if density.capabilities.typical else density.log_prob(x)
            return
        joint: Joint = density  # type: ignore[assignment]
        of_x = joint.density_of_x
        of_x.typicality(joint.about(x)) if of_x.capabilities.typical else joint.log_evidence(x)

    def _usual(self, density: Density) -> float:
        """Seconds by which a model knows what is typical: by draws of its own, or by rows of the
        fit where the density has a statistic of its own."""
        scoring = self._each(lambda x: self._familiarity(density, x))
        joint: Joint = density  # type: ignore[assignment]
        of_x = density if self.target is None else joint.density_of_x
        if of_x.capabilities.typical:
            return self.budget.share(USUAL_TIME_SHARE)
        drawing = seconds_per_row(
            lambda count: density.sample(count, generator=stream(0, "foresight")),
            MEASURED_DRAWS,
            self.budget.share(MEASURE_TIME_SHARE),
        )
        return BANK_ROWS * (drawing + scoring)


def rows_in_time(budget: Budget, seconds: float, work: Any, rows: int, least: int) -> int:
    """How many of ``rows`` some work on each of them is likely to end with within ``seconds``, at
    least ``least``; ``work(n)`` is measured on a few."""
    if not budget.bounded or rows <= least:
        return rows
    limit = budget.share(MEASURE_TIME_SHARE)
    each = seconds_per_row(work, min(rows, MAX_MEASURED_ROWS), limit)
    return min(rows, max(least, int(seconds / (SAFETY * max(each, 1e-9)))))

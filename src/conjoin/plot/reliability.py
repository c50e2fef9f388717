"""ReliabilityDisplay: does it happen as often as it is said?"""

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import binom

from conjoin.model.calibrate import predictive_of
from conjoin.plot.style import CLASSES, INK, MUTED, calm, new_axes
from conjoin.questions.evaluate import debiased_ece, reliability

__all__ = ["ReliabilityDisplay"]

LEVELS = np.linspace(0.05, 0.95, 19)
BAND = 0.9  # probability that a point lies in the band, if what is said holds


class ReliabilityDisplay:
    """Said against seen. ``table`` has the columns said, seen and rows; ``error`` is the debiased
    expected calibration error.

    A classifier's points are bins of equal size of the confidence in its best guess; a regressor's
    are quantile levels, with the share of values below each. The band holds nine in ten of the
    points where things happen just as often as they are said to: J. Bröcker and L. Smith (2007),
    Increasing the reliability of reliability diagrams."""

    def __init__(
        self, table: pd.DataFrame, *, error: float | None = None, number: bool = False
    ) -> None:
        self.table = table
        self.error = error
        self.number = number

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, bins: int = 10, ax: Any = None
    ) -> Self:
        """Rows without a label are left out."""
        model = estimator.model_
        rows = model.rows(X)
        labels, known, *_ = estimator._read_target(y, len(rows))
        if not known.any():
            raise ValueError("A reliability plot needs rows with labels, and y has none.")
        part = rows.take(np.flatnonzero(known))
        code = model.target.encode(labels[known], np.ones(int(known.sum()), dtype=bool)).value
        encoded = model.encode(part)
        if model.has_number:
            return cls(
                _levels(predictive_of(model, encoded).level(code).numpy()), number=True
            ).plot(ax)
        confidence, guess = (each.numpy() for each in model.log_proba(encoded, part).exp().max(1))
        right = guess == code.numpy()
        table = reliability(confidence, right, bins).set_axis(["said", "seen", "rows"], axis=1)
        return cls(table, error=debiased_ece(confidence, right)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        self.ax_ = ax = new_axes()[0] if ax is None else ax
        self.figure_ = ax.figure
        ends = self._ends()
        ax.plot(
            ends,
            ends,
            color=MUTED,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label="as often as said",
            zorder=1,
        )
        size = (
            30 if self.number else 14 + 110 * self.table["rows"] / max(1, self.table["rows"].max())
        )
        ax.plot(
            self.table["said"],
            self.table["seen"],
            color=CLASSES[0],
            linewidth=1,
            alpha=0.6,
            zorder=2,
        )
        ax.scatter(
            self.table["said"],
            self.table["seen"],
            s=size,
            color=CLASSES[0],
            edgecolor="white",
            linewidth=0.6,
            zorder=3,
            label=self._words(),
        )
        low, high = self.band
        ax.fill_between(
            self.table["said"],
            low,
            high,
            color=MUTED,
            alpha=0.18,
            linewidth=0,
            label="90 % band, were all as said",
        )
        self._axes(ax)
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")
        return self

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the band, of shape (points,) each."""
        rows = self.table["rows"].to_numpy()
        low, high = binom.interval(BAND, rows, self.table["said"].clip(0, 1))
        return low / rows, high / rows

    def _ends(self) -> list[float]:
        least = (
            0.0 if self.number else float(min(self.table["said"].min(), self.table["seen"].min()))
        )
        return [max(0.0, np.floor(least * 10 - 0.5) / 10), 1.0]

    def _words(self) -> str:
        if self.number:
            return f"{int(self.table['rows'].iloc[0])} rows"
        return f"debiased calibration error {self.error:.3f}" if self.error is not None else "bins"

    def _axes(self, ax: Any) -> None:
        ax.set_xlabel(
            "quantile level of p(y | x)" if self.number else "confidence in the best guess"
        )
        ax.set_ylabel(
            "share of values below it" if self.number else "share of best guesses that are right"
        )
        least = self._ends()[0]
        room = 0.03 * (1 - least)
        ax.set(xlim=(least - room, 1 + room), ylim=(least - room, 1 + room), aspect="equal")
        calm(ax, grid=True)


def _levels(level: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"said": LEVELS, "seen": [(level <= each).mean() for each in LEVELS], "rows": len(level)}
    )

"""ResidualsDisplay: what was predicted of a number, against what it was."""

from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.model.calibrate import predictive_of
from conjoin.plot.style import CLASSES, INK, MUTED, calm, label, new_axes

__all__ = ["ResidualsDisplay"]

GROUPS = 10  # of rows alike in their prediction
BINS = 30


class ResidualsDisplay:
    """Groups of equal size by the predicted mean, and the histogram of what is left over. No single
    row is shown. ``table`` has the columns predicted, low, middle and high (a tenth, half and nine
    tenths of the group's values lie below them) and rows."""

    def __init__(self, predicted: np.ndarray, value: np.ndarray, name: str = "y") -> None:
        order = np.argsort(predicted, kind="stable")
        parts = [part for part in np.array_split(order, GROUPS) if len(part)]
        self.table = pd.DataFrame(
            [
                {
                    "predicted": predicted[part].mean(),
                    "low": np.quantile(value[part], 0.1),
                    "middle": np.median(value[part]),
                    "high": np.quantile(value[part], 0.9),
                    "rows": len(part),
                }
                for part in parts
            ]
        )
        self.residual = value - predicted
        self.name = name

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, ax: Any = None) -> Self:
        """``ax``: two axes. Rows without a value of y are left out."""
        model = estimator.model_
        rows = model.rows(X)
        values, known, *_ = estimator._read_target(y, len(rows))
        part = rows.take(np.flatnonzero(known))
        mean = predictive_of(model, model.encode(part)).mean()
        predicted = np.asarray(model.target.decode(mean), dtype=float)
        return cls(predicted, values[known].astype(float), str(model.target.name)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        self.axes_ = new_axes(1, 2, (8.0, 3.6)) if ax is None else np.ravel(ax)
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        self._groups(self.axes_[0])
        self._histogram(self.axes_[1])
        return self

    def _groups(self, ax: Any) -> None:
        table = self.table
        ends = [table["predicted"].min(), table["predicted"].max()]
        ax.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="as predicted")
        ax.vlines(
            table["predicted"],
            table["low"],
            table["high"],
            color=CLASSES[0],
            alpha=0.5,
            linewidth=2,
            label="middle 80 % of a tenth of the rows",
        )
        ax.scatter(table["predicted"], table["middle"], s=24, color=CLASSES[0], zorder=3)
        ax.set_xlabel(f"predicted mean of {label(self.name, longest=24)}")
        ax.set_ylabel("value")
        calm(ax, grid=True)
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")

    def _histogram(self, ax: Any) -> None:
        low, high = np.quantile(self.residual, [0.01, 0.99])
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        inside = np.clip(self.residual, edges[0], edges[-1])
        weights = np.full(len(inside), 1 / max(1, len(inside)))
        ax.hist(inside, bins=edges, weights=weights, color=CLASSES[0], alpha=0.55)
        ax.axvline(0, color=MUTED, linewidth=1)
        ax.set_xlabel("value less predicted mean")
        ax.set_yticks([])
        calm(ax)
        ax.spines["left"].set_visible(False)

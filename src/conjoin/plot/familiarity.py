"""FamiliarityDisplay: how familiar rows are, beside the rows that were held out for comparison."""

from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.plot.style import CLASSES, INK, MUTED, calm, new_axes

__all__ = ["FamiliarityDisplay"]

BINS = 28
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class FamiliarityDisplay:
    """Histograms of the statistic of familiarity: held-out rows, and the rows asked about.
    ``limit`` is where the alarm begins, ``name`` what the statistic is."""

    def __init__(
        self,
        held_out: np.ndarray,
        statistic: np.ndarray | None = None,
        *,
        false_alarm: float = 0.05,
        name: str = "statistic of familiarity",
    ) -> None:
        self.name = name
        self.held_out = np.sort(held_out)
        self.statistic = statistic
        self.false_alarm = false_alarm
        place = int(np.floor(false_alarm * (len(held_out) + 1) + 1e-9))
        self.limit = float(self.held_out[place - 1]) if place >= 1 else None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        false_alarm: float = 0.05,
        ax: Any = None,
    ) -> Self:
        """``y`` is not used."""
        model = estimator.model_
        statistic = None if X is None else model.statistic(model.encode(X))
        display = cls(
            model.calibrated.statistic,
            statistic,
            false_alarm=false_alarm,
            name=model.familiarity.name,
        )
        # the alarm begins elsewhere for each pattern of missing cells
        if model.calibrated.missingness is not None:
            display.limit = None
        return display.plot(ax)

    @property
    def table(self) -> pd.DataFrame:
        """Quantiles of the statistic, among the rows held out and those asked about."""
        parts = {"held out": self.held_out}
        if self.statistic is not None:
            parts["asked about"] = self.statistic
        return pd.DataFrame(
            {"quantile": QUANTILES}
            | {name: np.quantile(values, QUANTILES) for name, values in parts.items()}
        )

    def plot(self, ax: Any = None) -> Self:
        self.ax_ = ax = new_axes(size=(6.4, 3.4))[0] if ax is None else ax
        self.figure_ = ax.figure
        edges = self._edges()
        self._draw(
            ax,
            self.held_out,
            edges,
            f"held out at the fit ({len(self.held_out)} rows)",
            color=MUTED,
            alpha=0.35,
            histtype="stepfilled",
        )
        if self.statistic is not None:
            text = f"asked about ({len(self.statistic)} rows)"
            self._draw(
                ax, self.statistic, edges, text, color=CLASSES[0], histtype="step", linewidth=1.8
            )
        if self.limit is not None:
            ax.axvline(
                self.limit,
                color=CLASSES[1],
                linewidth=1.4,
                label=f"unfamiliar to the left ({self.false_alarm:.0%} asked)",
            )
        ax.set_xlabel(f"familiarity: {self.name}")
        ax.set_ylabel("share of rows")
        calm(ax)
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left")
        return self

    def _edges(self) -> np.ndarray:
        """Bins over the held-out rows and most of the others; what lies farther out falls into the
        first bin."""
        every = (
            self.held_out
            if self.statistic is None
            else np.concatenate([self.held_out, np.quantile(self.statistic, [0.02, 1.0])])
        )
        low = max(every.min(), self.held_out.min() - 4 * max(1.0, np.ptp(self.held_out)))
        high = every.max()
        room = 0.05 * max(high - low, 1e-6)
        return np.linspace(low - room, high + room, BINS + 1)

    @staticmethod
    def _draw(ax: Any, values: np.ndarray, edges: np.ndarray, text: str, **style: Any) -> None:
        inside = np.clip(values, edges[0], edges[-1])
        ax.hist(
            inside,
            bins=edges,
            weights=np.full(len(inside), 1 / max(1, len(inside))),
            label=text,
            **style,
        )

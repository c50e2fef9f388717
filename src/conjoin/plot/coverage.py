"""CoverageDisplay: how often the answers are right, against the share of rows that are answered."""

from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.plot.style import CLASSES, INK, calm, new_axes

__all__ = ["CoverageDisplay"]

SHARES = np.linspace(0.1, 1, 10)  # of the rows, at which the table tells the accuracy
FEWEST_ROWS = 10  # with which the curve begins: fewer say nothing


class CoverageDisplay:
    """Rows answered from the surest on: selective prediction.

    ``coverage`` and ``accuracy`` are the ends of the curve's steps, shapes (n,): the share of rows
    answered, and the share of those that are right. Rows of equal confidence are answered together.
    One minus the accuracy is the risk of Y. Geifman and R. El-Yaniv (2017), Selective
    classification for deep neural networks, section 2. ``accepted``: the (coverage, accuracy) of
    the rows that were accepted, if there are any.
    """

    def __init__(
        self, confidence: np.ndarray, right: np.ndarray, accepted: np.ndarray | None = None
    ) -> None:
        order = np.argsort(-confidence, kind="stable")
        answered = np.arange(1, len(order) + 1)
        last = np.append(np.diff(confidence[order]) != 0, True)
        share = np.cumsum(right[order]) / answered
        self.coverage = answered[last] / max(1, len(order))
        self.accuracy = share[last]
        self.accepted = (
            (float(accepted.mean()), float(right[accepted].mean()))
            if accepted is not None and accepted.any()
            else None
        )
        self._rows = len(order)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, ax: Any = None) -> Self:
        """Rows without a label are left out."""
        model = estimator.model_
        rows = model.rows(X)
        labels, known, *_ = estimator._read_target(y, len(rows))
        part = rows.take(np.flatnonzero(known))
        confidence, guess = model.log_proba(model.encode(part), part).exp().max(1)
        code = model.target.encode(labels[known], np.ones(int(known.sum()), dtype=bool)).value
        return cls(confidence.numpy(), guess.numpy() == code.numpy()).plot(ax)

    @property
    def table(self) -> pd.DataFrame:
        """The accuracy at tenths of the rows."""
        places = np.searchsorted(self.coverage, SHARES - 1e-9)
        return pd.DataFrame({"share answered": SHARES, "share right": self.accuracy[places]})

    def plot(self, ax: Any = None) -> Self:
        self.ax_ = ax = new_axes()[0] if ax is None else ax
        self.figure_ = ax.figure
        shown = self.coverage * self._rows >= min(FEWEST_ROWS, self._rows)
        ax.plot(
            self.coverage[shown],
            self.accuracy[shown],
            color=CLASSES[0],
            linewidth=1.6,
            label="the surest answers first",
        )
        if self.accepted is not None:
            ax.scatter(
                *self.accepted,
                s=42,
                color=CLASSES[1],
                edgecolor="white",
                zorder=3,
                label="accepted",
            )
        least = min(self.accuracy[shown].min(), *(self.accepted or (1.0, 1.0))[1:])
        ax.set(xlim=(0, 1.02), ylim=(max(0.0, least - 0.1 * (1 - least) - 0.01), 1.005))
        ax.set_xlabel("share of rows answered")
        ax.set_ylabel("share of those that are right")
        calm(ax, grid=True)
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left")
        return self

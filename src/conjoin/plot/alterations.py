"""AlterationDisplay: pictures, what they would have to look like for another answer, and where the
two differ.
"""

from typing import Any, Self

import numpy as np

from conjoin.plot.style import CLASSES, INK, MUTED, new_axes, tint

__all__ = ["AlterationDisplay"]

MAX_PICTURES = 8  # pictures side by side
# of the range of grey levels, under which the largest difference is not shown at full strength
SLIGHT = 0.25
MAX_RAW_LEVELS = 64  # grey levels, under which pictures are shown by the range that they have


class AlterationDisplay:
    """Three rows: the originals, the altered ones, and the difference (orange: brighter, blue:
    darker), with the answers above and p(wanted), familiarity and the shares of pixels that
    changed at all, and by over a tenth, below. ``alteration`` is what ``counterfactual`` gives for
    pictures."""

    def __init__(self, alteration: Any) -> None:
        self.alteration = alteration

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, to: Any, y: Any = None, *, ax: Any = None
    ) -> Self:
        """``to``: the wanted class. ``y`` is not used."""
        return cls(estimator.counterfactual(X, to)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """``ax``: three rows of as many axes as there are pictures, at most eight."""
        found = self.alteration
        count = min(MAX_PICTURES, len(found.original))
        self.axes_ = new_axes(3, count, (0.6 + 1.5 * count, 5.0)) if ax is None else np.ravel(ax)
        self.ax_ = self.axes_[0]
        self.figure_ = self.axes_[0].figure
        for place in range(count):
            self._column(place, [self.axes_[row * count + place] for row in range(3)])
        for row, text in enumerate(("as it is", "altered", "difference")):
            self.axes_[row * count].set_ylabel(text, color=MUTED, fontsize=9)
        return self

    def _column(self, place: int, axes: list[Any]) -> None:
        found = self.alteration
        for ax in axes:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        top = (
            255
            if found.original.max() >= MAX_RAW_LEVELS
            else max(1, found.original.max(), found.altered.max())
        )
        for ax, picture in zip(axes, (found.original[place], found.altered[place]), strict=False):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=top)
        axes[2].imshow(_two_sided(found.difference[place], SLIGHT * top))
        axes[0].set_title(str(found.before[place]), color=INK, fontsize=9)
        if found.found[place]:
            axes[1].set_title(
                f"{found.to[place]} {found.probability[place]:.2f}", color=INK, fontsize=9
            )
            axes[2].set_xlabel(
                f"familiarity {found.familiarity[place]:.2f}\n{found.changed[place]:.0%} changed, "
                f"{found.share[place]:.0%} much",
                color=MUTED,
                fontsize=8,
            )
        else:
            already = f"{found.to[place]} already"
            words = already if found.already[place] else "none plausible"
            axes[1].set_title(words, color=MUTED, fontsize=9)


def _two_sided(difference: np.ndarray, slight: float) -> np.ndarray:
    """(H, W, 3) white where nothing changed, orange where it became brighter, blue where darker."""
    change = difference.mean(-1) if difference.ndim == 3 else difference
    size = np.abs(change) / max(slight, np.abs(change).max())
    return np.asarray(
        np.where((change > 0)[..., None], tint(CLASSES[1], size), tint(CLASSES[0], size))
    )

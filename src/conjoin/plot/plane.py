"""PlaneDisplay: three panels over one plane. What the classifier says everywhere, where there are
data, and our verdicts.

A classifier divides the whole plane; p(x) says on how little of it there was anything to learn
from. Columns other than the two on the axes are unknown: the model integrates them out where it
can.
"""

from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.codecs.table.native import plain_frame
from conjoin.codecs.table.reading import numbers_of
from conjoin.codecs.table.values import blank
from conjoin.model.model import Model
from conjoin.plot import field
from conjoin.plot.choose import plane_columns, promised_rates
from conjoin.plot.style import (
    CLASSES,
    INK,
    MUTED,
    VERDICTS,
    calm,
    class_colour,
    label,
    new_axes,
    tint,
)

__all__ = ["PlaneDisplay"]

POINTS = 350
MAX_DEPTH_NATS = 14.0  # nats below the best that are still told apart


class PlaneDisplay:
    """``columns`` are the axes; ``ends`` = (low, high) of each; ``points`` a frame of the two
    columns, ``codes`` their classes."""

    def __init__(
        self,
        model: Model,
        columns: tuple[Any, Any],
        points: pd.DataFrame,
        codes: np.ndarray | None,
        source: str,
        **options: Any,
    ) -> None:
        self.columns = columns
        self.codes = codes
        self.source = source
        schema = model.codec.schema
        cells = {name: blank(points[name], schema[name].missing) for name in columns}
        self.points = pd.DataFrame(
            {name: numbers_of(schema[name], cells[name])[0] for name in columns}
        )
        self.alone = len(model.codec.columns) == 2  # nothing is unknown
        self.classes = list(map(str, model.classes.labels)) if model.has_classes else []
        self.target = "" if model.target is None else model.target.name
        self.units = {name: model.codec.schema[name].unit for name in columns}
        self.measure = field.measure(model, columns)
        self.rates = options.get("rates") or promised_rates(model)
        self.ends = [field.ends(model, name, self.points[name]) for name in columns]
        self._field = field.evaluate(
            model,
            columns,
            self.ends,
            options.get("resolution") or field.resolution(model),
            self.rates,
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any = None, y: Any = None, *, ax: Any = None, **options: Any
    ) -> Self:
        """As ``evaluate``, and drawn. ``ax``: as many axes as panels (three; two without a target;
        one fewer without verdicts)."""
        return cls.evaluate(estimator, X, y, **options).plot(ax)

    @classmethod
    def evaluate(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        columns: Any = None,
        resolution: int | None = None,
        rates: Any = None,
        source: str = "",
    ) -> Self:
        """Evaluate the plane and draw nothing yet. The points are the rows of ``X`` (``source``
        says which), without ``X`` rows that the model draws. ``columns``: two of them. ``rates``:
        (false_alarm, max_error) of the verdicts."""
        model = estimator.model_
        names = plane_columns(model) if columns is None else field.checked(model, columns)
        if X is None:
            frame, labels = estimator.sample(POINTS, random_state=0)
            frame = plain_frame(frame)
            source = "rows that the model draws"
            codes = field.codes(model, labels)
        else:
            frame = model.rows(X).take(slice(0, POINTS)).frame
            field.present(frame, names)
            codes = field.codes(model, None if y is None else np.asarray(y)[:POINTS])
        return cls(
            model,
            names,
            frame[list(names)],
            codes,
            source or "the rows asked about",
            resolution=resolution,
            rates=rates,
        )

    @property
    def panels(self) -> list[str]:
        found = ["answer"] * (self._field.answer is not None) + ["log_prob"]
        return found + ["verdict"] * (self._field.verdict is not None)

    @property
    def table(self) -> pd.DataFrame:
        """How much of the plane has each verdict; without verdicts, quantiles of log p(x)."""
        if self._field.verdict is None:
            levels = (0.05, 0.5, 0.95)
            values = np.quantile(self._field.log_prob[np.isfinite(self._field.log_prob)], levels)
            return pd.DataFrame({"quantile over the plane": levels, "log p(x)": values})
        names, counts = np.unique(self._field.verdict, return_counts=True)
        return pd.DataFrame({"verdict": names, "share of the plane": counts / counts.sum()})

    def plot(self, ax: Any = None) -> Self:
        panels = self.panels
        self.axes_ = (
            new_axes(1, len(panels), (3.5 * len(panels) + 0.3, 4.0)) if ax is None else np.ravel(ax)
        )
        self.ax_ = self.axes_[0]
        self.figure_ = self.axes_[0].figure
        draw = {"answer": self._answer, "log_prob": self._log_prob, "verdict": self._verdict}
        for panel, each in zip(panels, self.axes_, strict=True):
            draw[panel](each)
            self._scatter(each)
            self._frame(each, first=each is self.ax_)
        return self

    # ------------------------------------------------------------------ panels

    def _answer(self, ax: Any) -> None:
        assert self._field.answer is not None
        answer = self._field.answer
        ax.set_title(
            f"p({label(self.target, longest=16)} | x): an answer everywhere",
            fontsize=9.5,
            loc="left",
        )
        if not self.classes:
            self._bar(
                ax, self._image(ax, answer, cmap="cividis"), f"median of {label(self.target)}"
            )
        elif len(self.classes) == 2:
            image = self._image(
                ax, answer[..., 1], cmap=_between(CLASSES[0], CLASSES[1]), vmin=0, vmax=1
            )
            self._bar(ax, image, f"p({label(self.classes[1], longest=20)} | x)")
        else:
            self._image(ax, _mixed(answer))
            self._legend(
                ax, [(class_colour(code), name) for code, name in enumerate(self.classes[:8])]
            )

    def _log_prob(self, ax: Any) -> None:
        log_prob = self._field.log_prob
        ax.set_title("log p(x): where there is something to know", fontsize=9.5, loc="left")
        shown = np.maximum(log_prob, log_prob.max() - MAX_DEPTH_NATS)
        image = self._image(ax, shown, cmap=_between("#f7f8f9", "#f7f8f9", "#1f4e6e"))
        self._bar(
            ax,
            image,
            f"log p(x), nats ({self.measure})",
            extend="min" if log_prob.min() < shown.min() else "neither",
        )

    def _verdict(self, ax: Any) -> None:
        assert self._field.verdict is not None
        verdict = self._field.verdict
        words = "an answer where it is deserved" if self.target else "what it has seen the like of"
        ax.set_title(f"verdicts: {words}", fontsize=9.5, loc="left")
        colours = np.ones((*verdict.shape, 3))
        for name in ("ambiguous", "unfamiliar"):
            colours[verdict == name] = tint(VERDICTS[name], 1.0)
        keys = self._accepted(colours, verdict == "accept")
        self._image(ax, colours)
        self._legend(
            ax,
            [
                *keys,
                *(
                    (VERDICTS[name], name)
                    for name in ("ambiguous", "unfamiliar")
                    if (verdict == name).any()
                ),
            ],
        )

    def _accepted(self, colours: np.ndarray, accepted: np.ndarray) -> list[tuple[str, str]]:
        """Colour the accepted region by its answer; the legend's entries."""
        if not self.classes or self._field.answer is None:
            colours[accepted] = tint(VERDICTS["accept"], 0.6)
            return [(VERDICTS["accept"], "familiar")]
        guess = self._field.answer.argmax(-1)
        there = [code for code in range(len(self.classes)) if (accepted & (guess == code)).any()]
        for code in there:
            colours[accepted & (guess == code)] = tint(class_colour(code), 0.6)
        return [(class_colour(code), label(self.classes[code], longest=18)) for code in there[:8]]

    # ------------------------------------------------------------------ pieces

    def _image(self, ax: Any, values: np.ndarray, **style: Any) -> Any:
        extent = (*self.ends[0], *self.ends[1])
        return ax.imshow(
            values, origin="lower", extent=extent, aspect="auto", interpolation="nearest", **style
        )

    def _bar(self, ax: Any, image: Any, text: str, extend: str = "neither") -> None:
        bar = ax.figure.colorbar(
            image, ax=ax, location="bottom", shrink=0.9, aspect=28, pad=0.02, extend=extend
        )
        bar.set_label(text, fontsize=8.5, color=INK)
        bar.ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=2)
        bar.outline.set_visible(False)

    def _legend(self, ax: Any, keys: list[tuple[str, str]]) -> None:
        from matplotlib.patches import Patch

        handles = [
            Patch(
                facecolor=tuple(
                    tint(
                        colour,
                        0.6
                        if colour not in (VERDICTS["ambiguous"], VERDICTS["unfamiliar"])
                        else 1.0,
                    )
                ),
                label=name,
            )
            for colour, name in keys
        ]
        style = {
            "frameon": False,
            "fontsize": 8.5,
            "labelcolor": INK,
            "columnspacing": 1.2,
            "handlelength": 1.2,
        }
        legend = ax.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(-0.03, -0.17), ncols=2, **style
        )
        legend.set_in_layout(False)  # it lies where the other panels have their colour bars

    def _scatter(self, ax: Any) -> None:
        first, second = (self.points[name].to_numpy(dtype=float) for name in self.columns)
        colour = (
            INK
            if self.codes is None or not self.classes
            else [class_colour(code) if code >= 0 else MUTED for code in self.codes]
        )
        ax.scatter(first, second, s=7, c=colour, edgecolor="white", linewidth=0.35)
        ax.set_xlim(self.ends[0])
        ax.set_ylim(self.ends[1])

    def _frame(self, ax: Any, first: bool) -> None:
        ax.set_xlabel(label(self.columns[0], self.units[self.columns[0]]), fontsize=9)
        if first:
            ax.set_ylabel(label(self.columns[1], self.units[self.columns[1]]), fontsize=9)
        calm(ax)
        if not first:
            ax.tick_params(labelleft=False)


def _between(*colours: str) -> Any:
    """A colour map from the first to the last through white (two colours) or evenly (three)."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = [colours[0], "#f7f8f9", colours[1]] if len(colours) == 2 else list(colours[1:])
    return LinearSegmentedColormap.from_list("conjoin", ends)


def _mixed(answer: np.ndarray) -> np.ndarray:
    """(R, R, 3): the colour of the likeliest class, fainter the less sure."""
    guess = answer.argmax(-1)
    sure = answer.max(-1)
    floor = 1 / answer.shape[-1]
    strength = 0.15 + 0.7 * (sure - floor) / (1 - floor)
    out = np.ones((*guess.shape, 3))
    for code in range(answer.shape[-1]):
        here = guess == code
        out[here] = tint(class_colour(code), strength[here])
    return out

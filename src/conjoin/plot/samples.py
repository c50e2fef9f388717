"""SamplesDisplay: each column of the rows that the model draws, beside the same column of real
rows.

Histograms only: no row is shown.
"""

from typing import Any, Self

import numpy as np
import pandas as pd

from conjoin.codecs.table.native import plain_frame
from conjoin.codecs.table.reading import in_numbers
from conjoin.plot.choose import telling_columns
from conjoin.plot.style import CLASSES, INK, MUTED, calm, label, new_axes

__all__ = ["SamplesDisplay"]

BINS = 20
LEVELS = 6
EPOCH = pd.Timestamp(0)


class SamplesDisplay:
    """``drawn`` and ``real`` (or None) are frames; ``units`` gives a column's unit."""

    def __init__(
        self,
        drawn: pd.DataFrame,
        real: pd.DataFrame | None = None,
        *,
        units: dict[Any, str] | None = None,
    ) -> None:
        self.drawn = drawn
        self.real = real
        self.units = units or {}

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        columns: Any = None,
        n_samples: int = 2000,
        random_state: int = 0,
        ax: Any = None,
    ) -> Self:
        """``columns``: by default the nine that tell most. ``ax``: as many axes as columns. ``y``
        is not used."""
        model = estimator.model_
        drawn = plain_frame(estimator.sample(n_samples, random_state=random_state)[0])
        real = None if X is None else model.rows(X).frame
        names = telling_columns(model, 9) if columns is None else list(columns)
        if real is not None:
            names = [name for name in names if name in real]
        units = {name: model.codec.schema[name].unit for name in names}
        dates = [name for name in names if model.codec.schema[name].is_date]
        written = [model.codec.schema[name] for name in names]
        shown = [
            None if each is None else _dated(_in_numbers(each[names], written), dates)
            for each in (drawn, real)
        ]
        return cls(*shown, units=units).plot(ax)  # type: ignore[arg-type]

    @property
    def table(self) -> pd.DataFrame:
        """Each column in words: the middle and the middle 80 % of numbers and dates, the commonest
        values of others."""
        parts = {"drawn": self.drawn} | ({} if self.real is None else {"real": self.real})
        return pd.DataFrame(
            {"column": list(map(str, self.drawn))}
            | {name: [_words(part[each]) for each in self.drawn] for name, part in parts.items()}
        )

    def plot(self, ax: Any = None) -> Self:
        names = list(self.drawn)
        rows = -(-len(names) // 3)
        self.axes_ = (
            new_axes(rows, min(3, len(names)), (8.4, 1.0 + 1.9 * rows))
            if ax is None
            else np.ravel(ax)
        )
        self.ax_ = self.axes_[0]
        self.figure_ = self.axes_[0].figure
        for name, each in zip(names, self.axes_, strict=False):
            self._column(each, name)
        for each in self.axes_[len(names) :]:
            each.set_visible(False)
        handles, texts = self.ax_.get_legend_handles_labels()
        self.figure_.legend(
            handles,
            texts,
            loc="outside upper left",
            ncols=2,
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
        )
        return self

    def _column(self, ax: Any, name: Any) -> None:
        drawn = _numbers(self.drawn[name])
        real = None if self.real is None else _numbers(self.real[name])
        if drawn is None or (self.real is not None and real is None):
            self._levels(ax, name)
        else:
            self._numbers(ax, drawn, real)
            if pd.api.types.is_datetime64_any_dtype(self.drawn[name]):
                _date_axis(ax)
        ax.set_xlabel(label(name, self.units.get(name, "")), fontsize=8.5)
        ax.set_yticks([])
        calm(ax)
        ax.spines["left"].set_visible(False)

    def _numbers(self, ax: Any, drawn: np.ndarray, real: np.ndarray | None) -> None:
        every = drawn if real is None else np.concatenate([drawn, real])
        low, high = np.quantile(every, [0.01, 0.99]) if len(every) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        parts = (
            []
            if real is None
            else [(real, "real rows", {"color": MUTED, "alpha": 0.35, "histtype": "stepfilled"})]
        )
        for values, text, style in [
            *parts,
            (
                drawn,
                "rows that the model draws",
                {"color": CLASSES[0], "histtype": "step", "linewidth": 1.5},
            ),
        ]:
            inside = np.clip(values, edges[0], edges[-1])
            ax.hist(
                inside,
                bins=edges,
                weights=np.full(len(inside), 1 / max(1, len(inside))),
                label=text,
                **style,
            )

    def _levels(self, ax: Any, name: Any) -> None:
        drawn = self.drawn[name].astype(str).value_counts(normalize=True)
        real = (
            None
            if self.real is None
            else self.real[name].dropna().astype(str).value_counts(normalize=True)
        )
        levels = list(
            (drawn if real is None else real.add(drawn, fill_value=0))
            .sort_values(ascending=False)
            .index[:LEVELS]
        )
        places = np.arange(len(levels))
        if real is not None:
            ax.bar(
                places - 0.2,
                real.reindex(levels, fill_value=0),
                0.38,
                color=MUTED,
                alpha=0.35,
                label="real rows",
            )
        shift = 0.0 if real is None else 0.2
        ax.bar(
            places + shift,
            drawn.reindex(levels, fill_value=0),
            0.38,
            color="none",
            edgecolor=CLASSES[0],
            linewidth=1.5,
            label="rows that the model draws",
        )
        ax.set_xticks(
            places,
            [label(level, longest=9) for level in levels],
            rotation=30 if len(levels) > 3 else 0,
        )


def _numbers(column: pd.Series) -> np.ndarray | None:
    """Known values as floats (dates as days since 1970); None where they are no numbers."""
    known = column.dropna()
    if pd.api.types.is_bool_dtype(known):
        return None
    if pd.api.types.is_datetime64_any_dtype(known):
        return np.asarray((known - EPOCH) / pd.Timedelta(days=1), dtype=float)
    if pd.api.types.is_numeric_dtype(known):
        values = known.to_numpy(dtype=float)
        return np.asarray(values[np.isfinite(values)])
    return None


def _in_numbers(frame: pd.DataFrame, columns: list[Any]) -> pd.DataFrame:
    out = frame.copy()
    for each in columns:
        out[each.name] = in_numbers(each, frame[each.name])
    return out


def _dated(frame: pd.DataFrame, names: list[Any]) -> pd.DataFrame:
    """The frame with these columns as times without a zone."""
    times = {
        name: pd.to_datetime(frame[name], errors="coerce", utc=True, format="mixed").dt.tz_localize(
            None
        )
        for name in names
    }
    return frame.assign(**times)


def _date_axis(ax: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    ax.xaxis_date()
    where = AutoDateLocator(minticks=2, maxticks=5)
    ax.xaxis.set_major_locator(where)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(where))


def _words(column: pd.Series) -> str:
    known = column.dropna()
    if known.empty:
        return "nothing known"
    if pd.api.types.is_datetime64_any_dtype(known):
        low, middle, high = (f"{known.quantile(level):%Y-%m-%d}" for level in (0.1, 0.5, 0.9))
        return f"{middle} ({low} to {high})"
    values = _numbers(known)
    if values is not None and len(values):
        low, middle, high = (f"{each:.4g}" for each in np.quantile(values, [0.1, 0.5, 0.9]))
        return f"{middle} ({low} to {high})"
    shares = known.astype(str).value_counts(normalize=True)[:LEVELS]
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())

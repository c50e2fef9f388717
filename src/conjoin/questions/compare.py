"""compare: every family on the same rows, within a budget of time or energy, in one honest table.

A fifth of the rows is held out from every fit; on these rows each family is asked what they are
worth to it. The pick is the family with the greatest mean log p(x, y) there (log p(x) without a
target); how far the next one is behind stands beside it, with the standard error of paired
differences. A lower bound stands as a bound: where it still wins, it wins honestly. What is known
only up to a constant is shown, and not ranked.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.core import Rows as CodecRows
from conjoin.core import Status
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import fit_model
from conjoin.fitting.split import Rows
from conjoin.model.model import Model
from conjoin.questions.evaluate import debiased_ece
from conjoin.questions.sample import generate
from conjoin.questions.synthetic.quality import two_sample
from conjoin.training.data import row_hashes, split_rows
from conjoin.training.progress import Progress

__all__ = ["CANDIDATES", "Comparison", "Entry", "compare_families", "held_out", "log_label"]

CANDIDATES = (
    "naive_bayes",
    "mixture",
    "circuit",
    "quadratic_discriminant",
    "factor_analysis",
    "bayes_net",
    "markov_field",
    "topic",
    "dirichlet_process",
    "autoregressive",
    "transformer",
    "flow",
    "vae",
    "diffusion",
    "absorbing_diffusion",
    "energy",
)
# share of rows held out; at least and at most so many are asked about
HELD_OUT_SHARE = 0.2
MIN_HELD_OUT_ROWS = 20
MAX_HELD_OUT_ROWS = 500
SHUFFLED_ROWS = 200  # rows that are shuffled
MIN_SECONDS = 5.0  # seconds under which a family is not begun


@dataclass
class Entry:
    """One row of the table. ``each`` is (B,) log p(x, y) of the held-out rows, nats, in raw units;
    None where not ranked."""

    family: str
    status: str = ""
    log_prob: float = np.nan  # mean log p(x)
    error: float = np.nan  # its standard error
    log_loss: float = np.nan
    joint: float = np.nan  # mean log p(x, y)
    ece: float = np.nan
    familiarity: float = np.nan  # AUROC of held-out rows against the same cells shuffled
    # 2 (1 - AUC) of a classifier that tells draws from held-out rows: 1 is perfect
    samples: float = np.nan
    seconds: float = np.nan
    kwh: float = np.nan
    note: str = ""
    each: np.ndarray | None = field(default=None, repr=False)


@dataclass
class Comparison:
    """``pick`` is the family to take, ``why`` in one sentence."""

    entries: list[Entry]
    pick: str
    why: str
    rows: int

    def frame(self) -> pd.DataFrame:
        """The table, the best first."""
        table = pd.DataFrame(
            [
                {key: value for key, value in vars(entry).items() if key != "each"}
                for entry in self.entries
            ]
        )
        return table.sort_values("joint", ascending=False, ignore_index=True)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {key: None if value != value else value for key, value in row.items()}
            for row in self.frame().to_dict("records")
        ]
        return {"pick": self.pick, "why": self.why, "rows": self.rows, "table": rows}


def compare_families(
    rows: Rows,
    options: FitOptions,
    codec: Callable[[], Any],
    families: Sequence[Any] | None,
    max_time: float,
    max_kwh: float | None = None,
) -> Comparison:
    """Fit each of ``families`` (None: all that stand for themselves) and judge them. ``codec``
    makes a fresh codec.

    ValueError where there are too few rows to hold any out, or where no family could be fitted.
    """
    fit, held = held_out(rows, options.seed)
    names = list(CANDIDATES if families is None else families)
    entries = []
    ends = time.monotonic() + max_time
    spent = 0.0
    with Progress(options.verbose).phase("comparing families", len(names)) as bar:
        for place, name in enumerate(names):
            bar.update(place, str(name))
            left = ends - time.monotonic()
            if left < MIN_SECONDS or (max_kwh is not None and spent > max_kwh):
                entries.append(Entry(str(name), note="left out: the budget was spent"))
                continue
            share = left / (len(names) - place)
            entries.append(
                _entry(
                    name,
                    fit,
                    held,
                    replace(options, codec=codec(), max_time=share / 2, verbose=False),
                )
            )
            spent += 0.0 if np.isnan(entries[-1].kwh) else entries[-1].kwh
    return _picked(entries, len(held.x))


def held_out(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Rows to fit, and those of the fifth that is kept from all fits that are asked about;
    ValueError where these are too few."""
    split = split_rows(row_hashes(rows.x, rows.groups), seed + 1, 0.0, HELD_OUT_SHARE)
    if len(split.calibrate) < MIN_HELD_OUT_ROWS:
        needed = round(MIN_HELD_OUT_ROWS / HELD_OUT_SHARE)
        raise ValueError(
            f"Comparing families needs {needed} rows, there are {len(rows.x)}: "
            "name the family yourself."
        )
    return _part(rows, split.fit), _part(
        rows, np.random.default_rng(seed).permutation(split.calibrate)[:MAX_HELD_OUT_ROWS]
    )


def _part(rows: Rows, index: np.ndarray) -> Rows:
    def take(value: Any) -> Any:
        return (
            None
            if value is None
            else np.asarray(value, dtype=object if value is rows.groups else None)[index]
        )

    parts = {
        name: take(getattr(rows, name)) for name in ("y", "known", "weight", "groups", "latest")
    }
    return replace(rows, x=rows.x.take(index), **parts)


def _entry(name: Any, fit: Rows, held: Rows, options: FitOptions) -> Entry:
    started = time.monotonic()
    entry = Entry(name if isinstance(name, str) else type(name).__name__)
    try:
        model = fit_model(
            fit, replace(options, family=name, predictor=None, calibration=0.0, checkpoint=None)
        )
        _judge(entry, model, held, options.seed)
        entry.kwh = model.card["energy"]["kwh"]
    except (ValueError, NotImplementedError) as error:
        entry.note = str(error)
    entry.seconds = time.monotonic() - started
    return entry


# ------------------------------------------------------------------------------------------ judging


def _judge(entry: Entry, model: Model, held: Rows, seed: int) -> None:
    encoded = model.encode(held.x)
    log_prob = model.log_prob_raw(encoded)
    status = model.status_of(encoded)["log_prob"]
    entry.status = status.value
    entry.log_prob = float(log_prob.mean())
    entry.error = float(log_prob.std() / len(log_prob) ** 0.5)
    label, entry.log_loss, entry.ece = log_label(model, encoded, held)
    each = log_prob + label
    entry.familiarity = _familiarity(model, held.x, seed)
    entry.samples = _likeness(model, held.x, seed)
    if status is not Status.RELATIVE:
        entry.each = each
        entry.joint = float(each.mean())


def log_label(model: Model, encoded: Any, held: Rows) -> tuple[np.ndarray, float, float]:
    """(B,) log p(y | x) of the labelled rows, 0 of the others; the log-loss, and the calibration
    error of classes."""
    out = np.zeros(len(held.x))
    ece = np.nan
    if held.y is None or held.known is None or not held.known.any() or model.target is None:
        return out, np.nan, np.nan
    known = torch.as_tensor(held.known)
    label = model.target.encode(held.y, held.known).value
    if model.has_classes:
        log_proba = model.log_proba(encoded)
        out[held.known] = log_proba.gather(1, label.long()[:, None])[known, 0].numpy()
        right = log_proba.argmax(1) == label.long()
        ece = debiased_ece(log_proba.exp().amax(1)[known].numpy(), right[known].numpy())
    else:
        from conjoin.model.calibrate import predictive_of

        found = predictive_of(model, encoded)
        density = found.cdf.diff(dim=1) / found.points.diff()
        place = torch.searchsorted(found.points, label).clamp(1, len(found.points) - 1) - 1
        width = model.number.space.variables[0].resolution or 1.0
        value = (density.gather(1, place[:, None])[:, 0] * width).clamp_min(
            1e-12
        ).log() + model.number.log_volume
        out[held.known] = value[known].numpy()
    return out, -float(out[held.known].mean()), ece


def _familiarity(model: Model, rows: CodecRows, seed: int) -> float:
    """How well the statistic tells held-out rows from rows whose cells were shuffled within their
    columns."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    frame = rows.take(slice(0, SHUFFLED_ROWS)).frame.reset_index(drop=True)
    shuffled = pd.DataFrame(
        {name: frame[name].iloc[rng.permutation(len(frame))].to_numpy() for name in frame}
    ).astype(frame.dtypes)
    scores = [
        np.nan_to_num(model.statistic(model.encode(part)), neginf=-1e12)
        for part in (frame, shuffled)
    ]
    return float(roc_auc_score(np.repeat([1, 0], len(frame)), np.concatenate(scores)))


def _likeness(model: Model, rows: CodecRows, seed: int) -> float:
    """2 (1 - AUC) of gradient boosting that tells draws from held-out rows (two folds): 1 where it
    can't.

    D. Lopez-Paz and M. Oquab (2017), Revisiting classifier two-sample tests, section 3."""
    events = [model.encode(part).event for part in (rows, generate(model, len(rows), seed=seed)[0])]
    real, made = (np.where(event.mask, event.value, np.nan) for event in events)
    return two_sample(real, made, np.zeros(real.shape[1], dtype=bool), seed, folds=2, max_iter=60)[
        0
    ]


# ------------------------------------------------------------------------------------------ picking


def _picked(entries: list[Entry], rows: int) -> Comparison:
    ranked = sorted(
        (entry for entry in entries if entry.each is not None), key=lambda entry: -entry.joint
    )
    if not ranked:
        raise ValueError(
            "No family could be compared: "
            + "; ".join(f"{entry.family}: {entry.note}" for entry in entries[:3])
        )
    best = ranked[0]
    why = (
        f"on {rows} held-out rows its mean log p(x, y) is the greatest, {best.joint:.3f} nats "
        f"({best.status})"
    )
    if len(ranked) > 1:
        gap, error = _gap(best, ranked[1])
        why += f"; {ranked[1].family} is {gap:.3f} behind (paired standard error {error:.3f})"
    return Comparison(entries, best.family, f"{best.family}: {why}.", rows)


def _gap(best: Entry, other: Entry) -> tuple[float, float]:
    """Mean and standard error of the paired differences."""
    assert best.each is not None and other.each is not None
    gaps = best.each - other.each
    return float(gaps.mean()), float(gaps.std() / len(gaps) ** 0.5)

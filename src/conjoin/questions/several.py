"""What is asked of a model of several targets: of each by itself, and of all together."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.core import Event, Pair, stream
from conjoin.core.warnings import ColumnWarning
from conjoin.joints.resampling import chosen_by, log_labels
from conjoin.model.calibrate import predictive_of
from conjoin.model.censored import TargetColumn
from conjoin.model.model import Model
from conjoin.model.several import MIN_MASS, SeveralTargets
from conjoin.questions.decide import ACCEPT, AMBIGUOUS, UNFAMILIAR, decide
from conjoin.questions.evaluate import evaluate
from conjoin.questions.ranges import draw_in_range, ends_of, lifted
from conjoin.questions.wishes import FAR_SHARE, Wish, about, refuse_far_wishes, wishes_of
from conjoin.util.plain import plain_value

__all__ = ["decide_all", "drawn_targets", "evaluate_all", "predict_all", "proba_all", "sample_all"]

SHARED = ("familiarity", "log_prob")  # of x, the same for all targets


def predict_all(model: SeveralTargets, X: Any) -> pd.DataFrame:
    """A column for each target: the most probable class, or the mean of p(y | x)."""
    rows = model.codec.rows(X)
    found: dict[str, Any] = {}
    for name, view in model.views().items():
        encoded = view.encode(rows)
        if view.has_classes:
            found[name] = view.classes.labels[view.log_proba(encoded).argmax(1).numpy()]
        else:
            found[name] = view.number.decode(predictive_of(view, encoded).mean())
    return pd.DataFrame(found, index=rows.index)


def proba_all(model: SeveralTargets, X: Any) -> dict[str, np.ndarray]:
    """(B, K) log p(y | x) of each target that is classes. ValueError where none is."""
    if not model.classes:
        raise ValueError("No target is of classes: predict_quantiles tells the spread of numbers.")
    rows = model.codec.rows(X)
    views = model.views()
    return {name: views[name].log_proba(views[name].encode(rows)).numpy() for name in model.classes}


def decide_all(
    model: SeveralTargets,
    X: Any,
    *,
    false_alarm: float = 0.05,
    max_error: float | None = 0.05,
    max_width: float | None = None,
) -> pd.DataFrame:
    """A verdict for each target and for all together.

    Parameters
    ----------
    false_alarm
        Share of familiar rows that may be called unfamiliar; the alarm is the same for all targets.
    max_error
        Of each target by itself, as in ``decide``; and of all together: the share of rows accepted
        as a whole in which any class is wrong.
    max_width
        Of a number's interval, where that is asked for.

    Returns
    -------
    DataFrame
        Columns (target, field) with the fields of ``decide``, then ("all", "verdict"), ("all",
        "confidence"), ("all", "familiarity"), ("all", "log_prob").

    Raises
    ------
    ValueError
        With the number of calibration rows that is needed, where a rate can't be promised.
    """
    if max_error is not None and not isinstance(max_error, int | float):
        raise TypeError("With several targets, max_error is one rate for each and for all.")
    asked: dict[str, Any] = {"false_alarm": false_alarm, "max_error": max_error}
    rows = model.codec.rows(X)
    views = model.views()
    tables = {
        name: decide(view, rows, max_width=max_width, explain=False, **asked)
        if view.has_number
        else decide(view, rows, explain=False, **asked)
        for name, view in views.items()
    }
    together = _together(model, tables, false_alarm, max_error)
    parts = {name: table.drop(columns=list(SHARED)) for name, table in tables.items()}
    return pd.concat(parts | {"all": together}, axis=1)


def _together(
    model: SeveralTargets,
    tables: dict[str, pd.DataFrame],
    false_alarm: float,
    max_error: float | None,
) -> pd.DataFrame:
    """Accepted where the least confidence of the classes keeps the promise on all of them at once,
    and no interval is too wide."""
    first = next(iter(tables.values()))
    out = first[list(SHARED)].copy()
    doubt = np.zeros(len(out), dtype=bool)
    if model.classes:
        confidence = np.min([tables[name]["confidence"] for name in model.classes], axis=0)
        out.insert(0, "confidence", confidence)
        if max_error is not None:
            doubt |= confidence < model.of_all_classes.threshold(float(max_error), false_alarm)
    for name, table in tables.items():
        if name not in model.classes or max_error is None:
            doubt |= (table["verdict"] == AMBIGUOUS).to_numpy()
    unfamiliar = (first["verdict"] == UNFAMILIAR).to_numpy()
    out.insert(0, "verdict", np.select([unfamiliar, doubt], [UNFAMILIAR, AMBIGUOUS], ACCEPT))
    return out


def evaluate_all(
    model: SeveralTargets,
    X: Any,
    columns: list[TargetColumn] | None,
    false_alarm: float = 0.05,
    max_error: float = 0.05,
) -> dict[str, Any]:
    """Numbers about held-out rows.

    Returns
    -------
    dict
        ``targets``: of each target what ``evaluate`` gives of it; ``all``: ``rows``, ``log_loss``
        (mean of -log p(all that is known of y | x), nats, censored numbers by the mass between
        their bounds) and ``all_right`` (the share of rows whose classes are all right).
    """
    rows = model.codec.rows(X)
    views = model.views()
    if columns is None:
        return {
            "targets": {
                name: evaluate(view, rows, None, None, false_alarm, max_error)
                for name, view in views.items()
            }
        }
    of_each = {
        column.name: evaluate(
            views[column.name], rows, column.values, column.known, false_alarm, max_error
        )
        for column in columns
    }
    encoded = next(iter(views.values())).encode(rows)
    told = np.any([column.known | column.censored for column in columns], axis=0)
    log_prob = model.log_prob(columns, encoded).numpy()
    out: dict[str, Any] = {
        "rows": int(told.sum()),
        "log_loss": -float(log_prob[told].mean()) if told.any() else float("nan"),
    }
    classes = [column for column in columns if not column.is_number]
    known = np.all([column.known for column in classes], axis=0) if classes else told & False
    if known.any():
        guess = predict_all(model, rows)
        right = [guess[column.name].to_numpy() == column.values for column in classes]
        out["all_right"] = float(np.all(right, axis=0)[known].mean())
    return {"targets": of_each, "all": out}


def sample_all(
    model: SeveralTargets,
    n: int,
    seed: int = 0,
    tails: bool = False,
    even: bool = False,
    y: Mapping[str, Any] | None = None,
    given: Mapping[Any, Any] | None = None,
) -> tuple[Any, pd.DataFrame]:
    """``n`` rows of x and of all targets, drawn together. Of molecules in space ``y`` has a value,
    a range (low, high) with None for an open end, or a value for each row, of some targets, and
    ``given`` what is known of x; the frame's ``attrs`` tell among how many proposals rows were
    chosen, and their effective number for each row."""
    if even:
        raise ValueError("even=True is for models of one target, or of none: leave it out.")
    generator = stream(seed, "sample")
    if model.bases:
        wishes = {} if y is None else y
        return _sample_beside(model, n, generator, tails, wishes, given or {})
    count = len(model.targets)
    x = model.codec.space.unknown(n)

    def draw(index: torch.Tensor) -> Pair:
        whole = model.density.sample(len(index), generator=generator)
        return Pair(*whole.cut(count))

    of_y = ends_of(model.targets, tails)
    drawn: Pair = draw_in_range(model.codec, draw, x, lifted(model.codec, (), tails), of_y)
    found = {
        target.name: target.drawn(drawn.y.value[:, place])
        for place, target in enumerate(model.targets)
    }
    return model.codec.drawn(drawn.x, generator), pd.DataFrame(found)


# ------------------------------------------------------------------ beside molecules in space


def _sample_beside(
    model: SeveralTargets,
    n: int,
    generator: torch.Generator,
    tails: bool,
    y: Mapping[str, Any],
    given: Mapping[Any, Any],
) -> tuple[Any, pd.DataFrame]:
    """Draws of p(x) and of each p(y_j | x); where targets are wished for, x is chosen among many
    by the probability of the wishes."""
    if not isinstance(y, Mapping):
        raise ValueError(
            f"y of several targets is a dict of {', '.join(model.names)}, such as "
            f"{{{model.names[0]!r}: (low, high)}}; got {y!r}."
        )
    known = model.codec.evidence(given) if given else None
    wishes = [_Wish.read(model, name, wish, n) for name, wish in y.items()]

    def draw(count: int) -> Event:
        density = model.density
        if known is None:
            free: Event = density.sample(count, generator=generator)
            return free
        row = known.take(torch.zeros(count, dtype=torch.int64))
        drawn: Event = density.sample_conditional(row, generator=generator)
        return drawn

    def weigh(x: Event, rows: slice) -> torch.Tensor:
        with torch.no_grad():
            each = [wish.log_weight(x, rows) for wish in wishes]
        return torch.stack(each).sum(0)

    told: dict[str, Any] = {}
    if wishes:
        stacked = model.codec.space.laid.stacked
        chosen = chosen_by(weigh, draw, stacked, n, generator)
        x = chosen.x
        told = {"proposals": chosen.proposals, "effective": chosen.effective}
        _refuse_what_no_draw_has(wishes, x)
    else:
        x = draw(n)
    asked = {wish.name: wish for wish in wishes}
    ends = ends_of(model.targets, tails)
    with torch.no_grad():
        each = {
            target.name: _target_of(model, place, x, asked.get(target.name), ends, generator)
            for place, target in enumerate(model.targets)
        }
    frame = pd.DataFrame(each)
    frame.attrs.update(told)
    return model.codec.drawn(x, generator), frame


def _target_of(
    model: SeveralTargets,
    place: int,
    x: Event,
    wish: "_Wish | None",
    ends: Any,
    generator: torch.Generator,
) -> np.ndarray:
    """(B,) one target of drawn rows: as asked, in the range that is asked for, or drawn."""
    target: Any = model.targets[place]
    if wish is not None and wish.range is not None:
        return np.asarray(target.decode(wish.draw(x, generator)))
    value = _drawn_target(model, place, x, generator)
    if ends is not None and not target.discrete:
        value = value.clamp(ends[0][place], ends[1][place])
    drawn = np.asarray(target.drawn(value))
    if wish is None:
        return drawn
    return np.where(wish.known.numpy(), np.asarray(target.decode(wish.value)), drawn)


def drawn_targets(
    model: SeveralTargets, X: Any, generator: torch.Generator, tails: bool = False
) -> pd.DataFrame:
    """Targets of molecules in space, drawn given each molecule, in the ranges of the fit unless
    ``tails``."""
    x = model.alone.encode(X).event
    ends = ends_of(model.targets, tails)
    with torch.no_grad():
        each = {
            target.name: _target_of(model, place, x, None, ends, generator)
            for place, target in enumerate(model.targets)
        }
    return pd.DataFrame(each)


def _drawn_target(
    model: SeveralTargets, place: int, x: Event, generator: torch.Generator
) -> torch.Tensor:
    """(B,) one target of each row, in event units: the predictor's word, or p(y_j) of rows that it
    does not cover."""
    base = model.bases[place]
    predictor = model.predictors[place] if model.predictors else None
    covered = torch.zeros(x.rows, dtype=torch.bool) if predictor is None else predictor.covers(x)
    out = torch.zeros(x.rows, dtype=torch.float64)
    if predictor is not None:
        out = predictor.draw(x, generator).double()
    left = (~covered).nonzero()[:, 0]
    if len(left):
        own = Pair(base.unknown(len(left)), x.take(left))
        out = out.index_copy(0, left, base.sample_conditional(own, generator=generator).y.value)
    return out


@dataclass(frozen=True)
class _Wish:
    """What is asked of one target: ``range``, of all rows, or ``value`` (B,), in event units, of
    the rows in which one is asked for (``known``)."""

    view: Model
    range: Wish | None
    value: torch.Tensor
    known: torch.Tensor

    @classmethod
    def read(cls, model: SeveralTargets, name: str, wish: Any, rows: int) -> "_Wish":
        """ValueError for an unknown target, or a wish that it can't have, or that hardly anything
        of the data is near."""
        view = model.view(name)
        target: Any = view.target
        wish = plain_value(wish)
        known = torch.ones(rows, dtype=torch.bool)
        value = torch.zeros(rows, dtype=torch.float64)
        if isinstance(wish, tuple):
            return cls(view, _range(model, name, wish), value, known)
        values = np.full(rows, wish) if np.ndim(wish) == 0 else np.asarray(wish)
        if values.shape != (rows,):
            raise ValueError(
                f"{name!r} has {len(values)} values for {rows} rows; give one value, a range "
                "(low, high), or one value for each row."
            )
        known = torch.as_tensor(~pd.isna(values))
        if known.any():
            value[known] = target.encode_asked(values[known.numpy()]).value
        if not value.isfinite().all():
            raise ValueError(f"{name!r} is asked to be infinite: give finite numbers.")
        return cls(view, None, value, known)

    @property
    def name(self) -> str:
        return str(self.view.pair.target.name)

    def log_weight(self, x: Event, rows: slice) -> torch.Tensor:
        """(B, M) log p(wish of each of these rows | x) of M rows."""
        known = self.known[rows]
        if self.range is not None:
            return self.range.log_mass(x).expand(len(known), -1)
        values, place = torch.unique(self.value[rows], return_inverse=True)
        pair: Any = self.view.pair
        predictor = pair.separate_predictor
        base = pair if predictor is None else pair.base
        found = log_labels(base, predictor, x, values).T[place]
        return torch.where(known[:, None], found, 0.0)

    def draw(self, x: Event, generator: torch.Generator) -> torch.Tensor:
        """(B,) the target of the rows: drawn within the range."""
        assert self.range is not None
        at = torch.rand(x.rows, generator=generator, dtype=torch.float64)
        drawn = about(self.view, x).within(*self.range.ends(x.rows), at[:, None])[:, 0]
        return drawn.clamp(self.range.low, self.range.high)


def _range(model: SeveralTargets, name: str, ends: tuple[Any, ...]) -> Wish:
    target: Any = model.view(name).target
    if target.discrete:
        raise ValueError(
            f"{name!r} is asked to be {ends!r}, which is a range, and it has classes: give one of "
            f"{', '.join(map(str, target.labels))}, or a list of one for each row."
        )
    if any(end is not None and np.isnan(target.asked(end)) for end in ends):
        raise ValueError(
            f"{name!r} is asked to lie in {ends!r}: an end is a number, or None where it is open."
        )
    (wish,) = wishes_of(model, {name: ends})
    if wish.share < FAR_SHARE:
        refuse_far_wishes([wish])
    return wish


def _refuse_what_no_draw_has(wishes: list[_Wish], x: Event) -> None:
    """ValueError for a range in which the target of a drawn row can't lie, a ColumnWarning where it
    hardly can."""
    for wish in wishes:
        if wish.range is None:
            continue
        mass = wish.range.log_mass(x).exp()
        words = f"p({wish.name} in the range that is asked for | molecule)"
        if (mass <= MIN_MASS * 1.01).any():
            raise ValueError(
                f"No draw has what is asked of {wish.name!r}: {words} is 0 even of the best. Ask "
                "for a wider range, or leave out what else is given."
            )
        if mass.mean() < FAR_SHARE:
            warnings.warn(
                f"{words} is {float(mass.mean()):.1g} on average of the rows: they are not as "
                "asked, their values are drawn from the tail that is.",
                ColumnWarning,
                stacklevel=5,
            )

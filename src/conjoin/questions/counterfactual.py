"""counterfactual: the smallest plausible change of a row after which the model would answer
otherwise.

Columns are freed one by one, the most helpful first. A freed column is drawn from p(x_free | the
rest, y = wanted), so every proposal is plausible given what stays. Kept are those that the model
itself answers as wanted and finds familiar.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.core import Event, Pair, Rows, as_float, stream
from conjoin.model.calibrate import predictive_of
from conjoin.model.model import Model
from conjoin.questions.ranges import settled

__all__ = ["counterfactual"]

DRAWS_PER_SET = 12  # proposals for each set of freed columns
MAX_CHANGED_COLUMNS = 6  # columns that may change
NONE_FOUND = "no plausible change found"
ALREADY = "already answered so"


@dataclass(frozen=True)
class _Wish:
    """The wanted answer: a class code, or a range of the number in event units."""

    low: float
    high: float

    @property
    def event_value(self) -> float:
        return (self.low + self.high) / 2


def counterfactual(
    model: Model,
    X: Any,
    to: Any,
    keep: Sequence[Any] = (),
    n: int = 3,
    familiarity: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Up to ``n`` changed copies of each row that would be answered ``to``, the smallest first.

    ``to``: a class, or for a number a (low, high) range; None for the runner-up among the classes
    of each row, which then stands in the column ``to``. ``keep``: columns that must not change.
    Returns the columns of ``X`` with ``changed`` (words), ``probability`` (of ``to``) and
    ``familiarity`` (conformal p-value, above ``familiarity``), indexed by (row, option). A row for
    which there is none, or that has the answer already, has one option 0, unchanged, that says so.
    """
    rows = model.rows(X)
    frame = rows.frame
    columns = model.codec.columns
    keep = [keep] if isinstance(keep, str) else list(keep)
    known = [*columns, *model.codec.after(columns)]
    for name in keep:
        if name not in known:
            raise ValueError(
                f"keep names the column {name!r}; the model has {', '.join(map(str, known))}."
            )
    keep = [base for name in keep for base in model.codec.behind(name)]
    encoded = model.encode(rows)
    wishes = _wishes(model, encoded, rows, to)
    # pictures and strings stay as they are
    kept = {*keep, *columns[model.codec.columnwise or len(columns) :]}
    free = [place for place, name in enumerate(columns) if name not in kept]
    event = as_float(encoded.event)
    parts = []
    already = np.zeros(len(frame), dtype=bool)  # a runner-up is never the answer
    if to is not None:
        already = _reached(model, encoded, rows, _wish(model, to))[1]
    for row in range(len(frame)):
        asked = _Asked(wishes[row], event.take(slice(row, row + 1)), frame.iloc[row])
        rng = stream(seed, "counterfactual")
        found = [] if already[row] else _search(model, asked, free, n, familiarity, rng)
        why = ALREADY if already[row] else NONE_FOUND
        table = _table(model, frame.iloc[row : row + 1], asked.x, found, why)
        if to is None:
            table = table.assign(to=model.classes.labels[int(wishes[row].low)])
        parts.append(table)
    return pd.concat(parts, keys=frame.index, names=["row", "option"]) if parts else frame.iloc[:0]


@dataclass(frozen=True)
class _Asked:
    """One row: the wish, its event and its cells as they were given."""

    wish: _Wish
    x: Event
    raw: "pd.Series[Any]"


def _wishes(model: Model, encoded: Any, rows: Rows, to: Any) -> list[_Wish]:
    """One for each row."""
    if to is not None:
        return [_wish(model, to)] * len(rows)
    if not model.has_classes:
        raise ValueError("For a number, to= is a range (low, high); only a class has a runner-up.")
    order = (-model.log_proba(encoded, rows)).argsort(dim=1, stable=True)
    return [_Wish(float(code), float(code)) for code in order[:, 1].tolist()]


def _wish(model: Model, to: Any) -> _Wish:
    assert model.target is not None
    return _Wish(*model.target.wanted(to))


@dataclass
class _Proposals:
    """Candidates of one search: values (P, D), how likely each gets the wish, how familiar it is,
    whether it will do."""

    value: Tensor
    probability: np.ndarray
    familiarity: np.ndarray
    good: np.ndarray


def _search(
    model: Model,
    asked: _Asked,
    free: list[int],
    n: int,
    least: float,
    generator: torch.Generator,
) -> list[tuple[Tensor, float, float]]:
    """Grow the set of freed columns until some proposal will do; then the closest of those, with
    different columns."""
    freed: list[int] = []
    for _ in range(min(MAX_CHANGED_COLUMNS, len(free))):
        rest = [column for column in free if column not in freed]
        found = _propose(model, asked, [[*freed, column] for column in rest], least, generator)
        if found.good.any():
            return _closest(asked.x, found, n)
        promise = found.probability + np.minimum(found.familiarity, least)
        freed.append(rest[int(promise.reshape(len(rest), DRAWS_PER_SET).max(1).argmax())])
    return _closest(asked.x, _propose(model, asked, [free], least, generator), n)


def _propose(
    model: Model,
    asked: _Asked,
    freed: list[list[int]],
    least: float,
    generator: torch.Generator,
) -> _Proposals:
    """``DRAWS_PER_SET`` proposals for each set of freed columns."""
    x = asked.x
    hidden = torch.zeros(len(freed), x.value.shape[1], dtype=torch.bool)
    for place, columns in enumerate(freed):
        hidden[place, columns] = True
    hidden = hidden.repeat_interleave(DRAWS_PER_SET, 0)
    rows = x.take(torch.zeros(len(hidden), dtype=torch.long)).hide(hidden)
    y = Event(torch.full((len(hidden),), asked.wish.event_value, dtype=torch.float64))
    drawn: Pair = model.pair.proposer.sample_conditional(Pair(y, rows), generator=generator)
    # what the user would type in, rounded as recorded
    full = settled(model.codec, drawn.x, rows)
    raw = _without_trifles(model, model.codec.decode(full.value, x.mask | hidden), asked.raw)
    encoded = model.encode(raw)
    familiar = model.p_value(encoded)
    probability, reached = _reached(model, encoded, raw, asked.wish)
    return _Proposals(
        as_float(encoded.event).value, probability, familiar, reached & (familiar > least)
    )


def _without_trifles(model: Model, drawn: Any, old: "pd.Series[Any]") -> Rows:
    """The proposals, where cells that read the same as before are what they were: what is listed as
    a change is one."""
    rows = model.rows(drawn)
    frame = rows.frame
    numbers = [
        name
        for name in model.codec.columns
        if name in frame and pd.api.types.is_float_dtype(frame[name].dtype)
    ]
    same = {
        name: (frame[name] != old[name]) & (frame[name].map(_shown) == _shown(old[name]))
        for name in numbers
        if isinstance(old.get(name), float | np.floating)
    }
    if not any(each.any() for each in same.values()):
        return rows
    frame = frame.copy()
    for name, each in same.items():
        frame[name] = frame[name].mask(each, old[name])
    return model.rows(frame)


def _reached(model: Model, encoded: Any, raw: Rows, wish: _Wish) -> tuple[np.ndarray, np.ndarray]:
    """How likely each proposal has the wanted y, and whether that is the answer."""
    if model.has_classes:
        proba = model.log_proba(encoded, raw).exp()
        code = int(wish.low)
        return proba[:, code].numpy(), (proba.argmax(1) == code).numpy()
    found = predictive_of(model, encoded)
    ends = torch.tensor([wish.low, wish.high], dtype=torch.float64)[:, None].expand(
        -1, encoded.event.rows
    )
    median = found.median()
    return (found.level(ends[1]) - found.level(ends[0])).numpy(), (
        (median >= wish.low) & (median <= wish.high)
    ).numpy()


def _closest(x: Event, found: _Proposals, n: int) -> list[tuple[Tensor, float, float]]:
    """The nearest good proposals; each set of changed columns counts once until all sets have had
    their turn."""
    distinct = {tuple(option[2].tolist()): option for option in _options(x, found)}
    options = sorted(distinct.values(), key=lambda option: option[0])
    first: dict[tuple[int, ...], Any] = {}
    rest = []
    for option in options:
        if option[1] in first:
            rest.append(option)
        else:
            first[option[1]] = option
    chosen = [*first.values(), *rest][:n]
    return [(value, probability, familiarity) for _, _, value, probability, familiarity in chosen]


def _options(
    x: Event, found: _Proposals
) -> Iterator[tuple[float, tuple[int, ...], Tensor, float, float]]:
    for place in np.flatnonzero(found.good):
        apart = (found.value[place] - x.value[0]) * x.mask[0]
        moved = tuple(apart.nonzero()[:, 0].tolist())
        if moved:
            size = len(moved) + float(apart.abs().clamp_max(3).sum()) / 3
            yield (
                size,
                moved,
                found.value[place],
                float(found.probability[place]),
                float(found.familiarity[place]),
            )


def _table(
    model: Model, row: pd.DataFrame, x: Event, found: list[tuple[Tensor, float, float]], why: str
) -> pd.DataFrame:
    if not found:
        return row.assign(changed=why, probability=np.nan, familiarity=np.nan).reset_index(
            drop=True
        )
    values = torch.stack([value for value, _, _ in found])
    decoded = model.rows(model.codec.decode(values)).frame
    old = row.iloc[0]
    out = pd.concat([row] * len(found), ignore_index=True).astype(object)
    words = []
    for option in range(len(found)):
        moved = [
            place
            for place in range(len(model.codec.columns))
            if values[option, place] != x.value[0, place]
        ]
        names = [model.codec.columns[place] for place in moved]
        names += [
            name
            for name in model.codec.after(names)
            if name in old and pd.notna(old[name]) and decoded[name].iloc[option] != old[name]
        ]
        for name in names:
            out.loc[option, name] = decoded[name].iloc[option]
        words.append(
            "; ".join(
                f"{name} {_shown(old.get(name))} -> {_shown(decoded[name].iloc[option])}"
                f"{_shared(model, name, values[option])}"
                for name in names
            )
        )
    out = out.astype(
        {name: row[name].dtype for name in row if not out[name].isna().any()}, errors="ignore"
    )
    return out.assign(
        changed=words, probability=[p for _, p, _ in found], familiarity=[f for _, _, f in found]
    )


def _shared(model: Model, name: Any, values: Tensor) -> str:
    """That a value stands for many, where rare ones share its level."""
    column = model.codec.schema.with_pool(name)
    if column is None:
        return ""
    words = column.one_of(int(values[model.codec.columns.index(name)]))
    return f" ({words})" if words else ""


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

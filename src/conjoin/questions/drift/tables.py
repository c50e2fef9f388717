"""drift: two tables beside each other, and the second row by row: what has changed, and how sure
that is.

A density of one half of the first table judges the other half and the second table: see
``questions.drift`` for the tests and ``questions.betting`` for the running one. Columns, and cuts
of them, are read from both tables together, which favours neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.codecs.kinds import other_columns
from conjoin.codecs.table import TableCodec, as_frame
from conjoin.codecs.table.rows import TableRows
from conjoin.core import Event
from conjoin.fitting.options import FitOptions
from conjoin.fitting.pipeline import fit_model
from conjoin.fitting.split import Rows
from conjoin.model.model import Model
from conjoin.questions.drift.betting import conformal_ranks, simple_jumper
from conjoin.questions.drift.causes import new_values, told
from conjoin.questions.drift.tests import column_tests, holm, ks_p_value, pair_tests
from conjoin.questions.drift.writing import in_numbers

__all__ = ["Drift", "Running", "drift"]

MIN_ROWS = 20  # rows of either table
VERDICT_PARTS = 4  # of the verdict: columns, columns given the others, pairs, whole rows
JUDGED_ROWS = 1000  # rows of each side that are judged given the other columns
MAX_PAIRED_COLUMNS = 100  # columns whose pairs are tested
MAX_NAMED_CHANGES = 8  # changes listed in the text
ROW = "whole row"


@dataclass(frozen=True)
class Running:
    """The second table in order. ``p_value`` holds whenever one stops; ``row`` (from 1) is the
    first at which it is at most the level, None if it never is; ``what`` is the column whose
    capital is the greatest then, or the whole row where no column has won any; ``log_capital`` the
    log of the greatest capital, weighed by its share, after each row."""

    p_value: float
    row: int | None
    what: str
    log_capital: tuple[float, ...]


@dataclass(frozen=True)
class Drift:
    """``p_value`` is the verdict: at most ``level`` with that probability where nothing has
    changed. The p-values in ``columns`` and ``pairs`` are corrected for their number."""

    p_value: float
    level: float
    columns: pd.DataFrame  # column, before, after, p_value, p_given_others
    pairs: pd.DataFrame  # first, second, before, after, p_value
    row_p_value: float
    running: Running
    rows: tuple[int, int]
    notices: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        return self.p_value <= self.level

    def words(self) -> list[str]:
        """What has changed, a sentence each."""
        how = "differ" if self.drifted else "may well come from the same source"
        out = [
            f"The tables {how} (p = {self.p_value:.2g}, {self.rows[0]:,} and {self.rows[1]:,} "
            f"rows, level {self.level:g})."
        ]
        out += self._columns() + self._pairs() + self._given() if self.drifted else []
        if self.running.row is None:
            out.append(
                "In the order of its rows the second table gives no alarm (p = "
                f"{self.running.p_value:.2g} whenever one stops)."
            )
        else:
            what = ROW if self.running.what == ROW else f"column {self.running.what!r}"
            out.append(
                f"In the order of its rows the alarm comes at row {self.running.row:,}, by the "
                f"{what}."
            )
        return [*out, *self.notices]

    def _columns(self) -> list[str]:
        changed = self.columns[self.columns["p_value"] <= self.level / VERDICT_PARTS].sort_values(
            "p_value"
        )
        return [
            f"Column {row.column!r}: {row.before} -> {row.after} (p = {row.p_value:.2g})."
            for row in changed[:MAX_NAMED_CHANGES].itertuples()
        ]

    def _pairs(self) -> list[str]:
        changed = self.pairs[self.pairs["p_value"] <= self.level / VERDICT_PARTS].sort_values(
            "p_value"
        )
        return [
            f"Columns {row.first!r} and {row.second!r} hang together in another way: "
            f"{row.before:.2f} -> {row.after:.2f} (p = {row.p_value:.2g})."
            for row in changed[:MAX_NAMED_CHANGES].itertuples()
        ]

    def _given(self) -> list[str]:
        given = self.columns[
            self.columns["p_given_others"] <= self.level / VERDICT_PARTS
        ].sort_values("p_given_others")
        names = ", ".join(repr(name) for name in given["column"][:MAX_NAMED_CHANGES])
        return (
            [f"Given the other columns, more or less surprising than before: {names}."]
            if names
            else []
        )

    def to_json(self) -> dict[str, Any]:
        plain = {
            name: value
            for name, value in vars(self).items()
            if name not in ("columns", "pairs", "running")
        }
        tables = {
            name: getattr(self, name).astype(object).to_dict("records")
            for name in ("columns", "pairs")
        }
        return {
            **plain,
            "drifted": self.drifted,
            **tables,
            "running": asdict(self.running),
            "words": self.words(),
        }

    def __str__(self) -> str:
        return "\n".join(self.words())


def drift(
    a: Any,
    b: Any,
    *,
    family: Any = "circuit",
    level: float = 0.05,
    types: Any = None,
    missing: Any = (),
    max_time: float | None = None,
    random_state: int = 0,
) -> Drift:
    """Whether two tables come from one source, and what has changed.

    Parameters
    ----------
    a, b : DataFrame
        The earlier and the later table. Columns of pictures are not compared.
    family : str or Config, default "circuit"
        The density that judges whole rows, fitted to one half of ``a``.
    level : float, default 0.05
        Probability of a false alarm.
    types, missing : optional
        Types of columns and values that mean missing, as ``inspect`` takes them.
    max_time : float, optional
        Seconds for the fit.
    random_state : int, default 0
        The seed.

    Returns
    -------
    Drift
        The verdict with its p-value, and what changed in columns, in pairs and in whole rows.

    Raises
    ------
    ValueError
        If the tables share no column or have too few rows, or ``level`` is not between 0 and 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ages = rng.normal(0, 1, (2, 200))
    >>> a = pd.DataFrame({"height": rng.normal(0, 1, 200), "age": ages[0]})
    >>> b = pd.DataFrame({"height": rng.normal(1, 1, 200), "age": ages[1]})
    >>> found = drift(a, b, family="naive_bayes")
    >>> found.drifted, found.columns.loc[found.columns["p_value"] < 0.01, "column"].tolist()
    (True, ['height'])
    """
    shown = list(
        dict.fromkeys(name for raw in (a, b) for name in other_columns(raw, types, missing))
    )
    types, missing = (_without(asked, shown) for asked in (types, missing))
    first, second = (
        as_frame(raw.drop(columns=shown, errors="ignore") if isinstance(raw, pd.DataFrame) else raw)
        for raw in (a, b)
    )
    a, b, notices = _common(first, second, level)
    notices += [f"Column {name!r} holds pictures, which are not compared here." for name in shown]
    a, b, told_apart = in_numbers(a, b, types, missing)
    notices += told_apart
    codec = TableCodec(types=types, missing=missing).fit(pd.concat([a, b], ignore_index=True))
    before = codec.encode(a).event
    after = codec.encode(b).event
    discrete = [variable.discrete for variable in codec.space.variables]
    order = np.random.default_rng(random_state).permutation(len(a))
    fit = np.sort(order[: len(a) // 2])
    held = np.sort(order[len(a) // 2 :])
    model = _fitted(
        a.iloc[fit], family, TableCodec(types=types, missing=missing), random_state, max_time
    )
    scores = [model.statistic(model.encode(frame)) for frame in (a.iloc[held], b)]
    columns = _columns(
        codec, before, after, discrete, _given_others(model, a.iloc[held], b, random_state)
    )
    pairs = _pair_table(codec, before, after, discrete)
    row = ks_p_value(*scores)
    least = [columns["p_value"].min(), columns["p_given_others"].min(), pairs["p_value"].min(), row]
    verdict = float(min(1.0, VERDICT_PARTS * np.nanmin(least)))
    running = _running(
        codec.labels, before.take(torch.from_numpy(held)), after, scores, level, random_state
    )
    notices += new_values(codec, a, b)
    notices += [
        f"Column {column.name!r} was set aside: {column.why}."
        for column in codec.schema.columns
        if column.role == "set aside"
    ]
    notices += [
        f"Column {column.name!r} is {column.why}: it is not compared by itself, and rows that "
        "break that count as unfamiliar."
        for column in codec.schema.columns
        if column.role == "derived"
    ]
    return Drift(verdict, level, columns, pairs, row, running, (len(a), len(b)), tuple(notices))


def _without(asked: Any, names: list[Any]) -> Any:
    """What was said of columns, but of these."""
    return (
        {name: said for name, said in asked.items() if name not in names}
        if isinstance(asked, Mapping)
        else asked
    )


def _common(
    a: pd.DataFrame, b: pd.DataFrame, level: float
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The columns that both have, and a sentence for the others."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    for name, frame in (("first", a), ("second", b)):
        if len(frame) < MIN_ROWS:
            raise ValueError(
                f"Drift needs at least {MIN_ROWS} rows in each table; the {name} has {len(frame)}."
            )
    both = [name for name in a.columns if name in set(b.columns)]
    if not both:
        raise ValueError(
            "The tables have no column in common; the first has "
            f"{', '.join(map(str, a.columns[:12]))}."
        )
    notices = []
    for where, frame in (("first", a), ("second", b)):
        alone = [str(name) for name in frame.columns if name not in both]
        notices += [f"Only the {where} table has {', '.join(alone)}."] if alone else []
    return a[both].reset_index(drop=True), b[both].reset_index(drop=True), notices


def _fitted(
    frame: pd.DataFrame, family: Any, codec: TableCodec, seed: int, max_time: float | None
) -> Model:
    options = FitOptions(
        task="density",
        family=family,
        predictor=None,
        codec=codec,
        seed=seed,
        max_time=max_time,
        calibration=0.0,
    )
    return fit_model(Rows(TableRows(frame)), options)


def _given_others(model: Model, held: pd.DataFrame, b: pd.DataFrame, seed: int) -> dict[Any, float]:
    """The p-value of each column's surprise given the other columns, corrected; none where cells
    can't be left out."""
    if model.joint.capabilities.missing == "none":
        return {}
    rng = np.random.default_rng(seed)
    events = [
        model.encode(frame.iloc[rng.permutation(len(frame))[:JUDGED_ROWS]]).event
        for frame in (held, b)
    ]
    surprise = [np.where(event.mask, model.log_conditionals(event), np.nan) for event in events]
    each = [
        ks_p_value(*(side[~np.isnan(side[:, d]), d] for side in surprise))
        for d in range(len(model.codec.columns))
    ]
    return dict(zip(model.codec.columns, holm(np.array(each)), strict=True))


def _columns(
    codec: TableCodec, a: Event, b: Event, discrete: list[bool], given: dict[Any, float]
) -> pd.DataFrame:
    p_values = holm(column_tests(a, b, discrete))
    changes = [told(codec, d, a, b, discrete[d]) for d in range(len(discrete))]
    table = pd.DataFrame(changes, columns=["before", "after"])
    table.insert(0, "column", codec.labels)
    return table.assign(
        p_value=p_values, p_given_others=[given.get(name, np.nan) for name in codec.columns]
    )


def _pair_table(codec: TableCodec, a: Event, b: Event, discrete: list[bool]) -> pd.DataFrame:
    first, second = (
        Event(event.value[:, :MAX_PAIRED_COLUMNS], event.mask[:, :MAX_PAIRED_COLUMNS])
        for event in (a, b)
    )
    table = pair_tests(first, second, discrete[:MAX_PAIRED_COLUMNS])
    names = np.array([*codec.labels, ""], dtype=object)
    return table.assign(
        first=names[table["first"]],
        second=names[table["second"]],
        p_value=holm(table["p_value"].to_numpy()),
    )


def _running(
    names: Sequence[Any], held: Event, b: Event, scores: list[Any], level: float, seed: int
) -> Running:
    """One jumper on whole rows, with half of the capital, and one on each column; each may win for
    the whole."""
    rng = np.random.default_rng(seed)
    sides = [np.where(event.mask, event.value, -np.inf) for event in (held, b)]
    each = [simple_jumper(conformal_ranks(scores[0], scores[1], rng)) + np.log(0.5)]
    for d in range(len(names)):
        each.append(
            simple_jumper(conformal_ranks(sides[0][:, d], sides[1][:, d], rng))
            + np.log(0.5 / len(names))
        )
    best = np.maximum.accumulate(np.stack(each), 1)  # (1 + D, B)
    capital = best.max(0)
    over = np.flatnonzero(capital >= -np.log(level))
    row = int(over[0]) if len(over) else None
    of_columns = best[1:, -1 if row is None else row]
    # under no change a column has won anything with probability .5 / D: it is the clearer answer
    what = str(names[int(of_columns.argmax())]) if (of_columns > 0).any() else ROW
    return Running(
        float(np.exp(-max(capital[-1], 0.0))),
        None if row is None else row + 1,
        what,
        tuple(capital.tolist()),
    )

"""How a model serves the groups of a column: errors, familiarity, promises, each with its exact
interval.

A group is told to be worse only where Fisher's exact test of its errors beside those of all others
says so (R. Fisher (1935), The logic of inductive inference), and its promise broken, or kept, only
where its interval does; with the confidence that all of them together ask for (Bonferroni).
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact

from conjoin.questions.decide import ACCEPT, UNFAMILIAR, decide

__all__ = ["Group", "Groups", "groups_of", "served"]

MAX_GROUPS = 12
PARTS = 4  # that a column of numbers is cut into
CONFIDENCE = 0.95
REST = "all others"
MISSING = "missing"


@dataclasses.dataclass(frozen=True)
class Rate:
    """``count`` of ``rows``, and an exact interval."""

    count: int
    rows: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        return self.count / self.rows if self.rows else None


@dataclasses.dataclass(frozen=True)
class Group:
    """``wrong``: of all rows with labels; ``wrong_accepted``: of the answers that were accepted.
    None where the model has no classes, or no alarm."""

    name: str
    rows: int
    log_prob: float  # mean, nats
    unfamiliar: Rate | None
    accepted: Rate | None
    wrong: Rate | None
    wrong_accepted: Rate | None


@dataclasses.dataclass(frozen=True)
class Groups:
    """``worst``: the group with the most errors, "" where there are none to count; ``worse``:
    whether it is worse than the others beyond chance; ``broken``: groups in which the promised
    error rate is not kept, beyond chance; ``kept``: those in which it is, beyond chance;
    ``alarmed``: those called unfamiliar too often."""

    column: str
    groups: list[Group]
    worst: str
    worse: bool
    broken: list[str]
    kept: list[str]
    alarmed: list[str]
    false_alarm: float | None
    max_error: float | None
    told: str  # why there are no verdicts

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def groups_of(cells: pd.Series) -> pd.Series:
    """The group of each row: a level, or a quarter of the numbers; small ones are put together."""
    if pd.api.types.is_numeric_dtype(cells) and cells.nunique() > MAX_GROUPS:
        cut = pd.qcut(cells, PARTS, duplicates="drop")
        names = [f"{part.left:.4g} to {part.right:.4g}" for part in cut.cat.categories]
        named = cut.cat.rename_categories(names).astype(object)
    else:
        named = cells.astype(object).where(cells.isna(), cells.astype(str))
    named = named.where(cells.notna(), MISSING)
    kept = named.value_counts().index[:MAX_GROUPS]
    out: pd.Series = named.where(named.isin(kept), REST)
    return out


def served(
    model: Any,
    X: pd.DataFrame,
    cells: pd.Series,
    y: np.ndarray | None,
    known: np.ndarray | None,
    false_alarm: float,
    max_error: float,
) -> Groups:
    """The rows ``X``, which the model has not seen, by the groups of a column's ``cells``."""
    names = groups_of(cells.reset_index(drop=True)).to_numpy()
    rows = model.rows(X)
    encoded = model.encode(rows)
    log_prob = model.log_prob_raw(encoded)
    verdicts, told = _verdicts(model, rows, false_alarm, max_error)
    wrong = None
    if model.has_classes and y is not None and known is not None and known.any():
        labels = np.asarray(model.classes.labels, dtype=object)
        guess = labels[model.log_proba(encoded, rows).argmax(1).numpy()]
        wrong = guess != y
    listed = list(dict.fromkeys(sorted(names, key=str)))
    level = 1 - (1 - CONFIDENCE) / max(1, len(listed))
    groups = []
    for name in listed:
        here = names == name
        accepted = None if verdicts is None else (verdicts == ACCEPT) & here
        groups.append(
            Group(
                str(name),
                int(here.sum()),
                float(np.mean(log_prob[here])),
                None if verdicts is None else _rate((verdicts == UNFAMILIAR)[here], level),
                None if verdicts is None else _rate((verdicts == ACCEPT)[here], level),
                None if wrong is None or known is None else _rate(wrong[here & known], level),
                None
                if wrong is None or known is None or accepted is None
                else _rate(wrong[accepted & known], level),
            )
        )
    return _judged(str(cells.name), groups, false_alarm, max_error, told)


def _verdicts(
    model: Any, rows: Any, false_alarm: float, max_error: float
) -> tuple[np.ndarray | None, str]:
    """Verdicts, or why there are none."""
    asked: dict[str, Any] = {} if model.target is None else {"max_error": max_error}
    try:
        table = decide(model, rows, false_alarm=false_alarm, explain=False, **asked)
    except (ValueError, NotImplementedError) as error:
        return None, str(error)
    return table["verdict"].to_numpy(), ""


def _rate(found: np.ndarray, level: float) -> Rate:
    rows = len(found)
    if not rows:
        return Rate(0, 0, 0.0, 1.0)
    count = int(found.sum())
    ends = binomtest(count, rows).proportion_ci(level, method="exact")
    return Rate(count, rows, float(ends.low), float(ends.high))


def _chance(one: Rate, others: list[Rate]) -> float:
    """The p-value of Fisher's exact test: of so many errors in one group, or more, were it served
    as the others are."""
    wrong = sum(rate.count for rate in others)
    right = sum(rate.rows for rate in others) - wrong
    table = [[one.count, one.rows - one.count], [wrong, right]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _judged(
    column: str, groups: list[Group], false_alarm: float, max_error: float, told: str
) -> Groups:
    errors = {group.name: group.wrong for group in groups if group.wrong and group.wrong.rows}
    worst = max(errors, key=lambda name: errors[name].share or 0.0, default="")
    others = [rate for name, rate in errors.items() if name != worst]
    worse = bool(others) and _chance(errors[worst], others) * len(errors) <= 1 - CONFIDENCE
    accepted = [(group.name, group.wrong_accepted) for group in groups]
    broken = [name for name, rate in accepted if rate is not None and rate.low > max_error]
    kept = [name for name, rate in accepted if rate is not None and rate.high <= max_error]
    flagged = [(group.name, group.unfamiliar) for group in groups]
    alarmed = [name for name, rate in flagged if rate is not None and rate.low > false_alarm]
    return Groups(
        column,
        groups,
        worst,
        worse,
        broken,
        kept,
        alarmed,
        None if told else false_alarm,
        None if told or not errors else max_error,
        told,
    )

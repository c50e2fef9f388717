"""audit: one answer about what a fitted model remembers, whom it serves worst, what it cost."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from conjoin.questions.audit.extraction import Extraction, extraction, string_columns
from conjoin.questions.audit.given import Tables, tables_of
from conjoin.questions.audit.groups import Groups, served
from conjoin.questions.audit.membership import (
    MIN_STRANGERS,
    Membership,
    membership,
    shadows_of,
    taken,
)
from conjoin.questions.audit.planted import PLANTED, Planted, planted
from conjoin.questions.synthetic.copies import CopyCheck, copy_check
from conjoin.training.progress import Progress
from conjoin.util.energy import Energy

__all__ = ["Audit", "audit"]

MAX_ASKED_ROWS = 2_000  # members and strangers whose membership is guessed, each
NEEDS_HOLDOUT = "no rows were given that the model has never seen"


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found; a part that could not be measured is None, and ``missing`` says why, by the
    part's name. ``tables``: what the rows are that were given; ``energy``: of the fit."""

    rows: int
    held_out: int
    tables: Tables
    planted: Planted | None
    membership: Membership | None
    copies: CopyCheck | None
    extraction: list[Extraction]
    groups: list[Groups]
    energy: Energy | None
    missing: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON."""
        parts = {"planted": self.planted, "membership": self.membership, "copies": self.copies}
        return {
            "rows": self.rows,
            "held_out": self.held_out,
            **self.tables.to_json(),
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
            "extraction": [each.to_json() for each in self.extraction],
            "groups": [each.to_json() for each in self.groups],
            "energy": None if self.energy is None else self.energy.to_json(),
            "missing": self.missing,
        }

    def words(self) -> list[str]:
        """What was found, in sentences."""
        said = self.tables.words()
        if self.planted is not None:
            said.append(_of_planted(self.planted))
        if self.membership is not None:
            one = self.membership
            how = "are told apart" if one.told_apart else "are not told apart beyond chance"
            said.append(
                f"Membership: training rows {how} (p = {one.p_value:.2g}): {one.rate:.1%} of them "
                f"({one.interval[0]:.1%} to {one.interval[1]:.1%}) lie above a threshold that 1 % "
                f"of {one.strangers:,} other rows pass, and that at most "
                f"{one.false_positives:.1%} of all such rows do (AUC {one.auc:.3f}, "
                f"{one.shadows} shadow models)."
            )
        if self.copies is not None:
            made, held = self.copies.copies
            said.append(
                f"Copies: {made:.2%} of drawn rows equal a training row, {held:.2%} of held-out "
                "rows do."
            )
        said += [
            f"Strings of {each.column}: of {each.rare:,} rare training strings {each.given_back:,} "
            f"are among {each.draws:,} draws, of as many held-out ones {each.by_chance:,} "
            f"(p = {each.p_value:.2g}); {each.passages:,} draws hold a passage of one, "
            f"{each.passages_by_chance:,} of a held-out one."
            for each in self.extraction
        ]
        said += [sentence for each in self.groups for sentence in _of_groups(each)]
        said.append(f"Energy of the fit: {self.energy or 'not measured'}.")
        said += [f"Not measured, {name}: {why}." for name, why in self.missing.items()]
        return said


def _of_planted(found: Planted) -> str:
    left_out = ""
    if found.unasked:
        which = f"column{'s' if len(found.unasked) > 1 else ''} {', '.join(found.unasked)}"
        left_out = f" (asked without the {which}, which some canaries lack)"
    figures = (
        f"{found.bits:.1f} bits of exposure, 1.4 without memory, {found.most:.1f} at most; "
        f"p = {found.p_value:.2g}"
    )
    if not found.own_references:
        return (
            f"Planted rows{left_out}: beside rows whose every cell is drawn from its own column, "
            f"{figures}. "
            "That p-value holds only if the planted rows were made in the same way, which nothing "
            f"says; to tell memory from rows that are merely likely, add a column {PLANTED!r}: yes "
            "for them, no for others that were made in the same way and left out."
        )
    how = "remembers them" if found.remembered else "does not know them from their like"
    return f"Planted rows{left_out}: the model {how} ({figures})."


def _of_promise(found: Groups) -> str:
    """Whether the promised error rate is kept, as far as the groups' rows tell."""
    promise = f"The promise of at most {found.max_error:g} errors is"
    kept = f"kept in {', '.join(found.kept)}"
    if len(found.kept) == len(found.groups):
        return f"{promise} kept in each group."
    if found.broken:
        more = f", and {kept}" if found.kept else ""
        return f"{promise} broken in {', '.join(found.broken)}{more}."
    more = f"{kept}; the others have" if found.kept else "they have"
    return (
        f"{promise} not broken beyond chance in any group; {more} too few accepted rows with "
        "labels, or too many errors among them, to show that it is kept."
    )


def _of_groups(found: Groups) -> list[str]:
    said = []
    if found.worst:
        rate = next(group.wrong for group in found.groups if group.name == found.worst)
        assert rate is not None
        beyond = "beyond chance" if found.worse else "which chance could make"
        said.append(
            f"Groups by {found.column}: most errors in {found.worst}, {rate.share:.1%} of "
            f"{rate.rows:,} ({rate.low:.1%} to {rate.high:.1%}), {beyond}."
        )
    if found.max_error is not None:
        said.append(_of_promise(found))
    if found.false_alarm is not None:
        which = ", ".join(found.alarmed) or "no group"
        said.append(f"Called unfamiliar more often than {found.false_alarm:g} allows: {which}.")
    return said or [f"Groups by {found.column}: {found.told or 'nothing to count'}."]


def audit(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    X_held: Any = None,
    y_held: Any = None,
    by: tuple[str, ...] = (),
    canaries: pd.DataFrame | None = None,
    shadows: int = 4,
    draws: int = 2_000,
    false_alarm: float = 0.05,
    max_error: float = 0.05,
    random_state: int = 0,
    verbose: bool = False,
) -> Audit:
    """What a fitted model remembers of its training rows, and whom it serves worst.

    Parameters
    ----------
    estimator : estimator
        Fitted; it is left as it is.
    X : DataFrame or list of str
        The rows that it was fitted to, those that the fit held out for itself among them.
    y : array_like, optional
        Their labels, which shadow models of a classifier or regressor need.
    X_held, y_held : optional
        Rows that the model has never seen, of the same source.
    by : tuple of str
        Columns of ``X_held`` by whose groups errors, familiarity and promises are told.
    canaries : DataFrame, optional
        Rows that were planted among ``X``; see the column "planted" in docs/trust.md.
    shadows : int, default 4
        Models that are fitted to halves of all rows; 0 leaves membership out.
    draws : int, default 2000
        Rows that are drawn to look for copies.
    false_alarm, max_error : float
        What is promised, as by ``decide``.
    random_state : int, default 0
        Of halves and draws.
    verbose : bool
        Whether progress is shown.

    Returns
    -------
    Audit
        Print ``words()``; ``to_json()`` is all of it.

    Raises
    ------
    ValueError
        If a column is not there, a rate is none, shadows is odd or below 0, or most of ``X_held``
        are rows of ``X``.
    """
    if shadows < 0 or shadows % 2:
        raise ValueError(f"shadows must be even, as they come in pairs of halves, got {shadows}.")
    for name, rate in (("false_alarm", false_alarm), ("max_error", max_error)):
        if not 0 < rate < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {rate!r}.")
    model = estimator._model()
    if X_held is not None:
        _check_groups(model, X_held, y_held, by)
    tables = tables_of(model, X, y, X_held, y_held)
    rng = np.random.default_rng(random_state)
    missing: dict[str, str] = {}
    held = 0 if X_held is None else len(X_held)
    found: dict[str, Any] = {
        "planted": None,
        "membership": None,
        "copies": None,
        "extraction": [],
        "groups": [],
    }
    if canaries is None:
        missing["planted rows"] = "none were named; conjoin.canary_audit plants some and fits again"
    else:
        found["planted"] = planted(estimator, canaries, X, rng)
    if X_held is None:
        for part in ("membership", "copies and strings", *(["groups"] if by else [])):
            missing[part] = NEEDS_HOLDOUT
    else:
        members = _Rows(X, y, tables.alone)
        found["membership"] = _membership(
            estimator, members, _Rows(X_held, y_held, tables.new), shadows, rng, missing, verbose
        )
        unknown = np.flatnonzero(tables.unknown)
        X_held = taken(X_held, unknown)
        y_held = None if y_held is None else taken(_column(y_held), unknown)
        drawn = estimator.sample(draws, random_state=random_state)[0]
        found |= _given_back(model, X, X_held, drawn, rng, missing)
        found["groups"] = _served(estimator, X_held, y_held, by, false_alarm, max_error)
    if not by:
        missing["groups"] = "no column was named to tell them by"
    spent = {k: v for k, v in model.facts.get("energy", {}).items() if k != "brain_days"}
    energy = Energy(**spent) if spent else None
    return Audit(len(X), held, tables, **found, energy=energy, missing=missing)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows, their labels, and (B,) of which of them membership may be asked."""

    X: Any
    y: Any
    asked: np.ndarray

    def places(self, rng: np.random.Generator) -> np.ndarray:
        """Where those stand that are asked about: all that may be, or some of them."""
        return rng.permutation(np.flatnonzero(self.asked))[:MAX_ASKED_ROWS]


def _membership(
    estimator: Any,
    members: _Rows,
    strangers: _Rows,
    shadows: int,
    rng: np.random.Generator,
    missing: dict[str, str],
    verbose: bool,
) -> Membership | None:
    """Of some of the rows; None where it can't be measured."""
    needs_labels = estimator.model_.target is not None
    there = int(strangers.asked.sum())
    if not shadows:
        missing["membership"] = "no shadow models were asked for"
    elif there < MIN_STRANGERS:
        alone = "" if there == len(strangers.X) else " that equal no training row"
        missing["membership"] = (
            f"a false-positive rate of 1 % needs {MIN_STRANGERS} held-out rows{alone}, there are "
            f"{there}"
        )
    elif not members.asked.any():
        missing["membership"] = "every training row equals another one"
    elif needs_labels and (members.y is None or strangers.y is None):
        missing["membership"] = "shadow models are fitted to labelled rows, and labels are missing"
    if "membership" in missing:
        return None
    both = _joined(members.X, strangers.X)
    labels = None if not needs_labels else _joined(_column(members.y), _column(strangers.y))
    some = members.places(rng)
    others = strangers.places(rng)
    places = np.concatenate([some, len(members.X) + others])
    with Progress(verbose).phase("fitting shadow models", shadows) as bar:
        scores, inside = shadows_of(
            estimator, both, labels, taken(both, places), places, shadows, rng, bar.update
        )
    asked = (taken(members.X, some), taken(strangers.X, others))
    return membership(estimator, *asked, scores, inside)


def _joined(one: Any, two: Any) -> Any:
    if isinstance(one, pd.DataFrame | pd.Series):
        return pd.concat([one, two], ignore_index=True)
    return [*one, *two]


def _column(y: Any) -> pd.Series:
    return y if isinstance(y, pd.Series) else pd.Series(np.asarray(y))


def _given_back(
    model: Any,
    X: Any,
    X_held: Any,
    drawn: Any,
    rng: np.random.Generator,
    missing: dict[str, str],
) -> dict[str, Any]:
    """Copies of rows and of rare strings among the draws."""
    frames = [model.rows(rows).frame for rows in (X, X_held, drawn)]
    names = [name for name in frames[0] if name in frames[2] and name in frames[1]]
    train, held, made = (frame[names] for frame in frames)
    strings = string_columns(train)
    found = [
        extraction(str(name), _texts(train, name), _texts(held, name), _texts(made, name), rng)
        for name in strings
    ]
    if not strings:
        missing["strings"] = "no column holds strings that are mostly different ones"
    rest = [name for name in names if name not in strings]
    copies = None
    if rest:
        copies = copy_check(train[rest], made[rest], held[rest])
    else:
        missing["copies of rows"] = "the rows are strings, which are looked for as such"
    return {"extraction": found, "copies": copies}


def _texts(frame: pd.DataFrame, name: Any) -> list[str]:
    """The strings of a column."""
    return [str(cell) for cell in frame[name].dropna()]


def _check_groups(model: Any, X_held: Any, y_held: Any, by: tuple[str, ...]) -> None:
    """ValueError, before any work is done, where a column to tell groups by is not there."""
    for name in by:
        if not _is_target(model, name, y_held) and not (
            isinstance(X_held, pd.DataFrame) and name in X_held
        ):
            there = ", ".join(map(str, X_held)) if isinstance(X_held, pd.DataFrame) else "none"
            raise ValueError(f"There is no column {name!r} to tell groups by; there are {there}.")


def _is_target(model: Any, name: str, y_held: Any) -> bool:
    return model.target is not None and name == str(model.target.name) and y_held is not None


def _served(
    estimator: Any,
    X_held: Any,
    y_held: Any,
    by: tuple[str, ...],
    false_alarm: float,
    max_error: float,
) -> list[Groups]:
    model = estimator.model_
    labels = known = None
    if y_held is not None and model.target is not None:
        labels, known, *_ = estimator._read_target(y_held, len(X_held))
    out = []
    for name in by:
        own = _is_target(model, name, y_held)
        cells = _column(y_held).rename(name) if own else X_held[name]
        out.append(served(model, X_held, cells, labels, known, false_alarm, max_error))
    return out

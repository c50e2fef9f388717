"""What every p(y | x) beside a density of x is made of: how its rows become numbers, its scores,
and how it is learned.

A predictor is one file and one line of ``PREDICTORS``: a ``Method`` there says how it is learned
and when "auto" tries it, and the ``Scorer`` that it leaves knows its own shapes, so that it is
saved without pickle and rebuilt.

Shape letters: B rows, F features, K classes or candidates.
"""

import abc
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Density, Event, Pair, Rows, Space
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.joints.hybrid import Predictor
from conjoin.nets.pictures import pictured
from conjoin.predictors.folds import dealt, folds_for, parts_of
from conjoin.predictors.level_statistics import (
    crossed_statistics,
    level_statistics,
    targets_of,
)
from conjoin.util.budget import all_in_time, seconds_of

__all__ = [
    "Case",
    "Design",
    "Folded",
    "Labels",
    "Method",
    "Scorer",
    "lists_as_tuples",
    "two_sided",
]

MAX_INDICATOR_LEVELS = 65  # of a category that has an indicator of each level
LEVELS = "levels_"  # the name of what is said of the levels of a column, before its place


class Design(nn.Module):
    """Events as numbers: indicator columns for levels, numbers as they are, pixels between 0 and 1,
    a flag where cells were missing at fit (one for the whole of a picture beside columns).

    A category of many levels becomes what its levels say about y, where the labels are told."""

    flagged: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("flagged", torch.zeros(len(space.variables), dtype=torch.bool))

    def fit(self, x: Event, labels: "Labels | None" = None) -> "Design":
        self.flagged.copy_((~x.mask).any(0))
        if labels is not None:
            for index in self.wide:
                found = labels.of_levels(x, index, self.space.variables[index].cardinality)
                self.register_buffer(f"{LEVELS}{index}", found)
        return self

    @property
    def wide(self) -> list[int]:
        """The columns of many levels that have no order."""
        picture = pictured(self.space)
        first = len(self.space.variables) if picture is None else picture.first
        return [
            index
            for index, variable in enumerate(self.space.variables[:first])
            if variable.nominal and variable.cardinality > MAX_INDICATOR_LEVELS
        ]

    def crossed(self, x: Event, labels: "Labels") -> "Design":
        """As this design sees the rows that it was fitted to, where a predictor is to learn from
        them: without their own labels."""
        own = {
            index: labels.of_rows(x, index, self.space.variables[index].cardinality)
            for index in self.wide
        }
        return _Crossed(self, own)

    def _level_columns(self, index: int, value: Tensor) -> Float[Tensor, "B T"] | None:
        """What the levels of a column say about y; None where it has an indicator of each."""
        table = dict(self.named_buffers()).get(f"{LEVELS}{index}")
        return None if table is None else table[value.long()]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """What is said of levels has a place only where it was learned."""
        for key, value in state_dict.items():
            if key.startswith(f"{prefix}{LEVELS}"):
                self.register_buffer(key.removeprefix(prefix), torch.zeros_like(value))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    @on_device
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Rows without missing cells in columns that had none at fit."""
        return (x.mask | self.flagged).all(1)

    @on_device
    def matrix(self, x: Event, missing: float = 0.0) -> Float[Tensor, "B F"]:
        """Missing numbers become ``missing`` (NaN for trees), missing levels no level at all."""
        columns = []
        mask = x.mask
        picture = pictured(self.space)
        first = len(self.space.variables) if picture is None else picture.first
        for index, variable in enumerate(self.space.variables[:first]):
            seen = mask[:, index]
            value = x.value[:, index].double()  # beside pictures, bytes
            if (told := self._level_columns(index, value)) is not None:
                columns.append(torch.where(seen[:, None], told, missing))
            elif variable.discrete:
                columns.append(
                    torch.nn.functional.one_hot(value.long(), variable.cardinality).double()
                    * seen[:, None]
                )
            else:
                columns.append(torch.where(seen, value, missing)[:, None])
        flags = self.flagged.clone()
        flags[first + 1 :] &= first == 0
        if picture is not None:
            columns.append(self._pixels(x, first, missing))
        if len(columns) == 1 and not flags.any():
            return columns[0]
        return torch.cat([*columns, (~mask[:, flags]).double()], 1)

    @property
    def indicators(self) -> list[tuple[int, int]]:
        """The first column of the levels of each category in ``matrix``, and how many they are."""
        picture = pictured(self.space)
        told = dict(self.named_buffers())
        out = []
        place = 0
        first = len(self.space.variables) if picture is None else picture.first
        for index, variable in enumerate(self.space.variables[:first]):
            levels = told.get(f"{LEVELS}{index}")
            if levels is None and variable.discrete:
                out.append((place, variable.cardinality))
                place += variable.cardinality
            else:
                place += 1 if levels is None else levels.shape[1]
        return out

    def _pixels(self, x: Event, first: int, missing: float) -> Float[Tensor, "B P"]:
        """Between 0 and 1; in place, as there may be many."""
        tops = [max(variable.cardinality - 1, 1) for variable in self.space.variables[first:]]
        value = x.value[:, first:].to(torch.float64, copy=True)
        value.div_(torch.tensor(tops, dtype=torch.float64, device=value.device))
        return value.masked_fill_(~x.mask[:, first:], missing)


class _Crossed(Design):
    """A design as the rows see it that it was fitted to."""

    def __init__(self, design: Design, own: dict[int, Tensor]) -> None:
        super().__init__(design.space)
        self.flagged.copy_(design.flagged)
        self.own = own

    def _level_columns(self, index: int, value: Tensor) -> Float[Tensor, "B T"] | None:
        return self.own.get(index)


@dataclass(frozen=True)
class Labels:
    """Labels of the rows of a fit, for what levels say about them.

    Attributes
    ----------
    value
        (B,) codes of classes, or numbers.
    weight
        (B,) of each row.
    classes
        How many, or None for a number.
    seed
        Of the folds.
    """

    value: Tensor
    weight: Tensor
    classes: int | None
    seed: int = 0

    def of_levels(self, x: Event, index: int, levels: int) -> Float[Tensor, "L T"]:
        """Of each level of a column."""
        seen = x.mask[:, index]
        codes = x.value[:, index].long()
        targets = targets_of(self.value, self.classes)
        shares = self.classes is not None
        return level_statistics(codes[seen], targets[seen], self.weight[seen], levels, shares)

    def of_rows(self, x: Event, index: int, levels: int) -> Float[Tensor, "B T"]:
        """Of the level of each row, by the other rows; 0 where it is missing."""
        seen = x.mask[:, index]
        codes = x.value[:, index].long()
        out = torch.zeros_like(targets_of(self.value, self.classes))
        out[seen] = crossed_statistics(
            codes[seen],
            targets_of(self.value, self.classes)[seen],
            self.weight[seen],
            levels,
            self.classes is not None,
            self.seed,
        )
        return out


class Scorer(nn.Module, abc.ABC):
    """Logits of K classes, or one number. Made of a space (or of what else of a joint model it
    stands on, see ``made``) and of its ``shapes``."""

    kind: ClassVar[str]  # the word under which it is saved
    on_features: ClassVar[bool] = False  # whether it stands on the features of a density
    tempered: ClassVar[bool] = True  # whether held-out rows may set a temperature

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        """One of these ``shapes`` beside a joint, its weights not yet loaded."""
        return cls(base.space.x, **lists_as_tuples(shapes))

    @abc.abstractmethod
    def scores(self, x: Event) -> Float[Tensor, "B K"]: ...

    @abc.abstractmethod
    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        """Whether rows with such cells missing were there at fit."""

    @property
    @abc.abstractmethod
    def shapes(self) -> dict[str, Any]:
        """What ``__init__`` takes beside the space, as JSON. ValueError for a scorer that can't be
        saved."""

    @final
    def describe(self) -> dict[str, Any]:
        """What it is saved by, beside its weights."""
        return {"scorer": self.kind, "shapes": self.shapes}

    def tuned(self, held: Pair, classes: bool) -> "Scorer":
        """This scorer, or a smaller one, as does best on labelled rows that it has not seen."""
        return self

    def scores_of_frame(self, frame: Any, x: Event) -> Float[Tensor, "B K"] | None:
        """Scores of rows as the user gave them, where it sees those rather than the events ``x``
        of the same rows."""
        return None


def lists_as_tuples(shapes: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in shapes.items()
    }


class Folded(NamedTuple):
    """What cross-validation makes of a method.

    Attributes
    ----------
    scorer
        Learned from all rows.
    scores
        (B, K) of each row, by what the other folds tell; NaN where a row is never held out.
    """

    scorer: Scorer
    scores: Tensor


@dataclass(frozen=True)
class Case:
    """What a predictor is learned from.

    Attributes
    ----------
    space
        Of the rows x.
    rows
        Pairs (y, x) of the fit; those without a label are among them.
    weight
        (B,) of each row.
    classes
        How many, or None for a number.
    seed
        Of the fit.
    source
        A density of x whose features a predictor may use, or None.
    lent
        Whether labels were propagated to rows that had none.
    given
        The same rows as the user gave them; None where no estimator of the user's own asks.
    fold
        (B,) the fold of each row, -1 for those that are never held out; None: dealt when asked
        for.
    structures
        Which cells write a thing of its own structure, and how they read; none in most data.
    wording
        How rows read as texts; None in most data.
    fast
        Whether what takes the most time for what it gains is left out.
    joint
        The joint model beside which the predictor is to stand, where there is one already.
    """

    space: Space
    rows: Pair
    weight: Tensor
    classes: int | None
    seed: int
    source: Density | None = None
    lent: bool = False
    given: Rows | None = None
    fold: np.ndarray | None = None
    structures: tuple[Any, ...] = ()
    wording: Any = None
    fast: bool = False
    joint: Joint | None = None

    @property
    def pictures(self) -> bool:
        """Whether the rows hold pictures, alone or beside columns."""
        return pictured(self.space) is not None

    @property
    def columns(self) -> bool:
        """Whether the rows hold columns, alone or beside a picture."""
        seen = pictured(self.space)
        return seen is None or not seen.alone

    @property
    def labelled(self) -> tuple[Pair, Tensor]:
        """The rows with a label, and their weights."""
        known = self.rows.y.mask
        return self.rows.take(known), self.weight[known]

    def take(self, keep: np.ndarray) -> "Case":
        """The case of the rows that ``keep`` (B,) marks."""
        places = np.flatnonzero(keep)
        index = torch.as_tensor(places)
        return replace(
            self,
            rows=self.rows.take(index),
            weight=self.weight[index],
            given=None if self.given is None else self.given.take(places),
            fold=None if self.fold is None else self.fold[places],
        )

    def with_folds(self) -> "Case":
        """The labelled rows, each with its fold."""
        case = self.take(self.rows.y.mask.numpy())
        if case.fold is not None:
            return case
        fold = dealt(case.rows.y.value.numpy(), case.classes, case.seed, fast=case.fast)
        return replace(case, fold=fold)

    def parts(self) -> list[np.ndarray]:
        """(B,) marks of the rows that are held out, fold by fold."""
        assert self.fold is not None
        return parts_of(self.fold)

    def designs(self) -> tuple[Design, Design]:
        """How the labelled rows become numbers: for answers, and to learn from."""
        rows, weight = self.labelled
        labels = Labels(rows.y.value, weight, self.classes, self.seed)
        design = Design(self.space).fit(rows.x, labels)
        return design, design.crossed(rows.x, labels)


class Method(abc.ABC):
    """How one kind of p(y | x) is learned."""

    scorers: ClassVar[tuple[type[Scorer], ...]] = ()  # that it may leave, and a folder may hold
    shared: ClassVar[bool] = False  # whether it is learned together with p(x), not after it
    reads_structures: ClassVar[bool] = False  # whether it sees more than cells
    reads_texts: ClassVar[bool] = False  # whether it sees words
    # of all time, where it learns as long as there is time
    time_share: ClassVar[float] = 0.1
    folds: bool = False  # whether it is quick enough to be learned fold by fold
    dtype: ClassVar[Any] = np.float64  # of the table that it learns from

    @abc.abstractmethod
    def fit(self, case: Case) -> Scorer:
        """Learned from the labelled rows. ValueError where the case does not allow it."""

    def by_folds(self, case: Case) -> Folded:
        """Learned from all rows, and judged on each by the other folds (``Case.with_folds``)."""
        out = torch.full((case.rows.rows, case.classes or 1), torch.nan, dtype=torch.float64)
        for held in all_in_time(case.parts()):
            scorer = self.fit(case.take(~held))
            judged = case.take(held)
            own = (
                None
                if judged.given is None
                else scorer.scores_of_frame(judged.given.frame, judged.rows.x)
            )
            with torch.no_grad():
                out[torch.as_tensor(held)] = scorer.scores(judged.rows.x) if own is None else own
        return Folded(self.fit(case), out)

    def spread(self, case: Case, width: float) -> "Spread | None":
        """The whole p(y | x) of a number of recorded precision ``width``, where the method knows
        more of it than a point; learned as in ``by_folds``."""
        return None

    def tried(self, case: Case) -> bool:
        """Whether "auto" compares it with the others."""
        return False

    def suits(self, case: Case) -> bool:
        """Whether it reads what the rows are."""
        return self.reads_structures == bool(case.structures) and self.reads_texts == (
            case.wording is not None
        )

    def for_few_labels(self, case: Case) -> bool:
        """Whether "auto" takes it where nearly all labels are missing."""
        return False

    def guess(self, case: Case, few: Case) -> float:
        """Seconds that it is likely to take, by what a ``few`` of the rows take."""
        fits = 1 + folds_for(case.rows.rows, case.fast) if self.folds else 1
        return seconds_of(partial(self.fit, few)) * fits * case.rows.rows / few.rows.rows

    def paced(self, case: Case) -> bool:
        """Whether it learns as long as there is time (``conjoin.util.budget.time_left``)."""
        return False

    def numbers_of(self, case: Case) -> np.ndarray:
        """(B, F) what a linear model can read of the rows; missing numbers are 0, and marked."""
        return np.asarray(case.designs()[1].matrix(case.rows.x).numpy())

    def convert(self, estimator: Any, design: Design) -> Scorer | None:
        """A fitted scikit-learn estimator of this kind as a scorer; None for any other."""
        return None

    def table(self, design: Design, x: Event) -> np.ndarray:
        """Rows as such an estimator sees them."""
        return design.matrix(x).numpy()


def two_sided(rows: np.ndarray) -> np.ndarray:
    """A binary estimator has one row of logits, for the second class."""
    return np.concatenate([np.zeros_like(rows), rows])


class Spread(NamedTuple):
    """p(y | x) of a number, and what it says of rows that it has not seen.

    Attributes
    ----------
    predictor
        Learned from all rows.
    log_p
        (B,) of the y of each row by the other folds, nats; NaN where a row is never held out.
    """

    predictor: Predictor
    log_p: Tensor

    def last(self, rows: int) -> "Spread":
        """The same, of the last so many rows."""
        return self._replace(log_p=self.log_p[-rows:])

"""What a user passes to an estimator, as the library takes it: labels, weights, times."""

import numbers
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionDtype
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, column_or_1d

from conjoin.codecs.table.doubts import far_labels, label_doubts, shown_merges
from conjoin.codecs.table.forms import Found
from conjoin.codecs.table.frame import check_cells, check_names, first_half
from conjoin.codecs.table.guess import guess
from conjoin.codecs.table.infer import assumptions
from conjoin.codecs.table.native import native_series
from conjoin.codecs.table.overrides import of_target
from conjoin.codecs.table.reading import target_form
from conjoin.codecs.table.values import tally
from conjoin.core import Rows
from conjoin.model.censored import UNKNOWN, Limits, TargetColumn, limits_in, read_columns
from conjoin.model.targets import TARGETS, Meant

_AS_IT_IS = Meant()
_SEQUENCES = (list, tuple, set, dict, np.ndarray)
MIN_NAMED_ROWS = 20  # of a column of words, from which on it may hold names
NAMES_SHARE = 0.95  # of its words that are different, from which on it does

__all__ = [
    "Labels",
    "doubts_of",
    "is_several",
    "mark_unlabelled",
    "meant_by",
    "minus_one",
    "read_labels",
    "read_several",
    "read_times",
    "read_weight",
    "refuse_columns_beside",
    "refuse_times",
    "seed_of",
    "split_by",
    "times_in",
]


class Labels(NamedTuple):
    """Labels (B,), which of them are known, the target's name; how it writes numbers in words, if
    it does; what the user should be told of it; and bounds of numbers that are not known."""

    values: np.ndarray | None
    known: np.ndarray | None
    name: str
    form: Any = None
    told: tuple[str, ...] = ()
    limits: Limits | None = None


def seed_of(random_state: Any) -> int:
    """A whole number from scikit-learn's ``random_state``."""
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def read_labels(
    y: Any,
    rows: int,
    task: str,
    unlabelled: Any,
    owner: str,
    form: Any = None,
    types: Any = None,
    usual: str = "",
    learned: bool = False,
    meant: Meant = _AS_IT_IS,
) -> Labels:
    """Labels of so many rows, which of them are known, and what they are called.

    Parameters
    ----------
    task
        "classes" or "number".
    unlabelled
        A label that means "not known"; NaN, None and NA always do.
    owner
        The estimator's class, for messages.
    form
        How a fitted model's target writes numbers in words.
    types
        What the user says of columns, the target among them.
    usual
        The decimal mark of the other columns.
    learned
        Whether ``form`` is that of a fit, also where it is None.
    meant
        Values that mean "not known", and spellings that are one label: as the user says at a fit,
        or in the model that is asked.

    Raises
    ------
    ValueError
        For labels that are none of the task's; dates and durations are no numbers.
    TypeError
        For a label that is no plain value, such as a list.
    """
    if y is None:
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None (JointDensity needs none)."
        )
    name = str(getattr(y, "name", None) or "y")
    labels = column_or_1d(_one_column(name, _plain(_listed(y))), warn=True)
    if len(labels) != rows:
        check_consistent_length(np.empty(rows), labels)
    if labels.dtype == object:
        check_cells(f"Target {name!r}", labels, UNKNOWN)
    if labels.dtype.kind in "OU":
        _refuse_halves(name, labels)
    labels, known = _as_meant(labels, meant, unlabelled)
    kind = TARGETS[task]
    bounded = None if kind.discrete or labels.dtype != object else limits_in(labels, known)
    if bounded is not None:
        known = known & ~bounded.rows
        _refuse_bounds_alone(name, known)
    found = None if learned else _form_of(labels, known, name, kind.discrete, types, usual)
    fresh = unlabelled is None and not learned
    marks = minus_one(name, labels, known, kind.discrete) if fresh else []
    told = list(marks)
    if bounded is not None:
        told += [_told_of_bounds(name, labels, bounded, known, learned)]
    if found is not None and kind.discrete:
        told += [_amounts_as_classes(name, found.form)]
    elif found is not None:
        told += _told_of_words(name, found)
        form = found.form
    if not (learned or form):
        refuse_times(name, labels[known], kind.discrete)
    values, known = kind.read(labels, known, name, form)
    if not learned:
        doubted = known & (labels != -1) if marks else known
        told += doubts_of(name, labels if kind.discrete else values, doubted)
        told += _told_of_merges(name, meant)
    return Labels(values, known, name, form, tuple(dict.fromkeys(told)), bounded)


def _refuse_bounds_alone(name: str, known: np.ndarray) -> None:
    """ValueError where no number is known."""
    if not known.any():
        raise ValueError(
            f"The target {name!r} has bounds, and no number that is known: give some numbers."
        )


def _told_of_bounds(
    name: str, labels: np.ndarray, bounded: Limits, known: np.ndarray, learned: bool
) -> str:
    """What bounds teach; of a fitted model, which is warned of, that they judge nothing."""
    count = int(bounded.rows.sum())
    first = labels[bounded.rows.argmax()]
    every = count + int(known.sum())
    words = (
        f"Target {name!r}: of {count:,} of {every:,} numbers a bound is known, such as {first!r}"
    )
    if not learned:
        return (
            f"{words}. There y is missing in p(y, x), and p(y | x) learns the mean of what it "
            "expects beyond the bound."
        )
    words = f"{words}; these rows count as rows without y."
    warnings.warn(words, UserWarning, stacklevel=4)
    return words


def _one_column(name: str, y: Any) -> Any:
    """Labels as they are. ValueError for a table of them, and for complex numbers."""
    array = np.asarray(y)
    if array.ndim > 1 and array.shape[1:] != (1,):
        raise ValueError(
            f"The target {name!r} has the shape {array.shape}, and a label for each row is needed: "
            "give one column, or a data frame with a named column for each target."
        )
    if array.dtype.kind == "c":
        raise ValueError(f"The target {name!r} holds complex numbers, such as {array.flat[0]}.")
    return y


def _refuse_halves(name: str, labels: np.ndarray) -> None:
    """ValueError for half a character, which no file can hold."""
    row = first_half(labels)
    if row is not None:
        raise ValueError(
            f"The target {name!r} has half a character in row {row}, {str(labels[row])!a}, which "
            "no file can hold: correct the label."
        )


def _listed(y: Any) -> Any:
    """A list of labels of which only some are sequences as an array of one dimension, in which each
    has its row."""
    if not isinstance(y, list | tuple) or not any(isinstance(each, _SEQUENCES) for each in y):
        return y
    if all(isinstance(each, _SEQUENCES) for each in y):
        return y
    return pd.Series(y, dtype=object).to_numpy()


def _as_meant(labels: np.ndarray, meant: Meant, unlabelled: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as they are meant, and which are known."""
    known = np.asarray(~pd.isna(labels))
    if unlabelled is not None:
        known &= labels != unlabelled
    if meant == _AS_IT_IS:
        return labels, known
    cells = meant.read(pd.Series(labels))
    known &= cells.notna().to_numpy()
    return (cells.infer_objects().to_numpy() if meant.merge else labels), known


def _told_of_merges(name: str, meant: Meant) -> list[str]:
    return [f"Target {name!r}: {shown_merges(meant.merge)}."] if meant.merge else []


_DATES = ("datetime64", "datetime", "date")
_DURATIONS = ("timedelta64", "timedelta")


def times_in(cells: np.ndarray) -> str:
    """ "dates" or "durations" where known labels are such, in words too; else nothing."""
    found = pd.api.types.infer_dtype(cells, skipna=True)
    if found in _DURATIONS:
        return "durations"
    is_word = found == "string" and np.isnan(pd.to_numeric(cells[:1], errors="coerce")).all()
    dates = is_word and guess(pd.Series(cells, dtype=object), np.ones(len(cells)), False)[0]
    return "dates" if found in _DATES or dates == "date" else ""


def refuse_times(name: str, cells: np.ndarray, classes: bool) -> None:
    """ValueError for a date or a duration. As numbers answers would be counts of nanoseconds or of
    other units of a clock, and as classes they would come back as something else."""
    found = times_in(cells)
    if classes and (not found or isinstance(cells[0], str)):
        return
    if classes:
        raise ValueError(
            f"The target {name!r} holds {found} (the first is {cells[0]!s}), which are no classes: "
            "give words, y.astype(str), or leave it among the columns of a JointDensity."
        )
    if found == "durations":
        raise ValueError(
            f"The target {name!r} holds durations, and a regressor predicts numbers: give seconds, "
            "y.dt.total_seconds(), and turn answers back by pd.to_timedelta(answer, unit='s')."
        )
    if found:
        raise ValueError(
            f"The target {name!r} holds dates (the first is {cells[0]!s}), and a regressor "
            "predicts numbers: give days, (pd.to_datetime(y) - pd.Timestamp('1970-01-01')) / "
            "pd.Timedelta(days=1), and turn answers back by pd.to_datetime(answer, unit='D'); or "
            "leave it among the columns of a JointDensity, whose impute and sample give dates."
        )


def refuse_columns_beside(table: pd.DataFrame) -> None:
    """ValueError for a column that can't stand beside things without columns: one without values,
    of times, or of words that nearly all stand once."""
    check_names(list(table.columns))
    for name, column in table.items():
        cells = column.dropna().to_numpy(dtype=object)
        if not len(cells):
            raise ValueError(f"The column {name!r} has no value in any row: leave it out.")
        times = times_in(cells)
        if times:
            units = "days" if times == "dates" else "seconds"
            raise ValueError(
                f"The column {name!r} holds {times} (the first is {cells[0]!s}), and columns "
                f"beside molecules in space hold numbers or classes: give {units} as numbers."
            )
        if all(isinstance(cell, str) for cell in cells) and _are_names(cells):
            raise ValueError(
                f"The column {name!r} has {len(set(cells)):,} different words in {len(cells):,} "
                "rows, as names have, and a class that is there once can't be learned: leave the "
                "column out, or give numbers as plain numbers."
            )


def _are_names(words: np.ndarray) -> bool:
    """Whether nearly every word is another one, and none is a bound of a number."""
    many = len(words) >= MIN_NAMED_ROWS and len(set(words)) >= NAMES_SHARE * len(words)
    return many and limits_in(words, np.ones(len(words), dtype=bool)) is None


def doubts_of(name: str, labels: np.ndarray, known: np.ndarray) -> list[str]:
    """Labels that may mean "not known", and spellings of classes that look like one."""
    cells = labels[known]
    if cells.dtype.kind in "iuf":
        counted = tally(cells.astype(float), np.isfinite(cells), np.ones(len(cells)))
        return far_labels(name, counted)
    whole = np.ones(len(cells))
    if not any(isinstance(cell, str) for cell in cells):
        return []
    return label_doubts(name, tally(cells.astype(object), whole.astype(bool), whole))


def _form_of(
    labels: np.ndarray, known: np.ndarray, name: str, discrete: bool, types: Any, usual: str
) -> Found | None:
    """How the labels write numbers in words, where they do."""
    if labels.dtype.kind not in "OU":
        return None
    series = pd.Series(labels, dtype=object).where(known).rename(name)
    return target_form(series, of_target(types, name), not discrete, usual)


def _told_of_words(name: str, found: Found) -> list[str]:
    """How the target's words are read, and what was assumed."""
    empty = f"; {', '.join(map(repr, found.missing))} count as not known" if found.missing else ""
    return [
        f"Target {name!r} holds numbers written in words ({found.form.describe()}){empty}. They "
        "are modelled as numbers.",
        *(each.replace("Column", "Target", 1) for each in assumptions(name, found)),
    ]


def _amounts_as_classes(name: str, form: Any) -> str:
    return (
        f"Target {name!r} has classes that read as numbers ({form.describe()}); JointRegressor "
        "takes them as numbers."
    )


def mark_unlabelled(targets: Sequence[Any], unlabelled: Any) -> None:
    """Let fitted targets remember the label that means "not known", for later questions; only what
    can be saved, and none that always means it."""
    value = unlabelled.item() if isinstance(unlabelled, np.generic) else unlabelled
    if not isinstance(value, str | int | float) or value != value or value in (np.inf, -np.inf):
        return
    for target in targets:
        target.missing = tuple(dict.fromkeys([*target.missing, value]))


def minus_one(name: str, labels: Any, known: np.ndarray, discrete: bool) -> list[str]:
    """That -1 stands among labels which are whole numbers of at least 0: elsewhere it marks rows
    whose label is not known. Labels -1 and 1 alone are a usual way to write two classes."""
    found = pd.to_numeric(pd.Series(labels, dtype=labels.dtype)[known], errors="coerce").dropna()
    values = set(found.unique().tolist())
    whole = len(found) == known.sum() and all(float(value).is_integer() for value in values)
    others = values - {-1}
    if not whole or -1 not in values or not others or min(others) < 0 or others == {1}:
        return []
    what = "a class of its own" if discrete else "the number -1"
    return [
        f"Target {name!r} is -1 in {int((found == -1).sum()):,} rows, which is taken as {what}; if "
        "it means that the label is not known, say unlabelled=-1."
    ]


def _plain(y: Any) -> Any:
    """Labels of a type that has room for missing ones (pandas' Int64 and boolean, Arrow's) as
    objects of a plain type, None where they are missing: through floats, 1 would become 1.0."""
    y = native_series(y)
    if not isinstance(y, pd.Series) or not isinstance(y.dtype, ExtensionDtype):
        return y
    is_bool = pd.api.types.is_bool_dtype(y.dtype)
    if not is_bool and not pd.api.types.is_integer_dtype(y.dtype):
        return y
    kind = bool if is_bool else int
    cells = np.empty(len(y), dtype=object)
    known = y.notna().to_numpy()
    cells[known] = [kind(value) for value in y[known]]
    return cells


def read_weight(weight: Any, rows: int) -> np.ndarray | None:
    """(B,) of each row; None for none."""
    if weight is None:
        return None
    values = np.asarray(weight, dtype=float)
    return np.full(rows, values) if values.ndim == 0 else values


def split_by(columns: Sequence[Any], *given: Any) -> dict[str, list[str]]:
    """For the card: the names of groups and times, by which the rows were split; nothing where they
    have none, or are ``columns`` of the fit. A later table may have them, and they are not read.
    ``given``: a series, or the name of a column."""
    names = [each if isinstance(each, str) else getattr(each, "name", None) for each in given]
    aside = [name for name in names if isinstance(name, str) and name not in columns]
    return {"split_by": aside} if aside else {}


def read_times(time: Any, rows: Rows) -> np.ndarray | None:
    """Times as numbers; ``time`` is a column's name or one value per row, or None."""
    if time is None:
        return None
    named = isinstance(time, str) and time in rows.names
    values = rows.frame[time] if named else pd.Series(time)
    if values.dtype == object:
        check_cells("The times", values, "leave time= out")
    if len(values) != len(rows):
        raise ValueError(
            f"time must name a column ({', '.join(map(str, rows.names))}) or hold one "
            f"value per row, got {time!r}."
        )
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy()
    return pd.to_datetime(values).astype("int64").to_numpy()


def is_several(y: Any) -> bool:
    """Whether y is a frame of several targets."""
    return isinstance(y, pd.DataFrame) and y.shape[1] > 1


def meant_by(types: Any, name: Any, missing: Sequence[Any] = ()) -> Meant:
    """What the user says that cells of a target of this name mean."""
    return Meant(tuple(missing), tuple(of_target(types, name).get("merge", {}).items()))


def read_several(
    Y: Any,
    rows: int,
    unlabelled: Any = None,
    meant: Mapping[str, Meant] | None = None,
    learned: bool = False,
) -> list[TargetColumn]:
    """The targets of so many rows, from a frame. TypeError for anything else, ValueError for a
    frame of another length.

    Parameters
    ----------
    unlabelled
        A label that means "not known", of each target.
    meant
        By their names, what cells of the targets mean.
    learned
        Whether the targets are those of a fit, of which the user was told."""
    if not isinstance(Y, pd.DataFrame):
        raise TypeError(
            f"A model of several targets takes their labels as a DataFrame, not {type(Y).__name__}."
        )
    if len(Y) != rows:
        raise ValueError(f"Y has {len(Y)} rows, and X has {rows}.")
    for place, name in enumerate(Y.columns):
        cells = Y.iloc[:, place].dropna().to_numpy(dtype=object)
        if pd.api.types.infer_dtype(cells) in (*_DATES, *_DURATIONS):
            refuse_times(str(name), cells, False)
    columns = read_columns(Y.reset_index(drop=True), unlabelled, meant)
    if learned:
        return columns
    said = {} if meant is None else meant
    return [
        replace(each, told=_told_of_column(each, unlabelled, said.get(each.name, _AS_IT_IS)))
        for each in columns
    ]


def _told_of_column(column: TargetColumn, unlabelled: Any, meant: Meant) -> tuple[str, ...]:
    """What is told of one of several targets, as of a single one."""
    discrete = not column.is_number
    fresh = unlabelled is None
    marks = minus_one(column.name, column.values, column.known, discrete) if fresh else []
    doubted = column.known & (column.values != -1) if marks else column.known
    doubts = doubts_of(column.name, column.values, doubted)
    return (*marks, *doubts, *_told_of_merges(column.name, meant))

"""What kind of answer a target column asks for: classes or a number."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conjoin.cli.words import some_names
from conjoin.util.near import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TASKS", "Task", "labels", "take_target", "task_of"]

TASKS = ("auto", "classes", "number", "density")
_MAX_NUMBER_CLASSES = 10  # different whole numbers, up to which they are taken as classes
_MAX_UNREPEATED_CLASSES = 20  # different words, up to which they are classes in any table


class Task(NamedTuple):
    """``words`` say what was taken, and how to have it otherwise."""

    name: str
    words: str

    @property
    def supervised(self) -> bool:
        """Whether there is a y."""
        return self.name != "density"

    @property
    def discrete(self) -> bool:
        """Whether y is one of several labels."""
        return self.name == "classes"

    def in_its_type(self, y: Any) -> Any:
        """The target's column as the fit takes it."""
        return _as_objects(y) if self.discrete and y is not None else y


def take_target(
    frame: "pd.DataFrame", target: str, missing: dict[Any, list[Any]]
) -> "tuple[pd.DataFrame, pd.Series[Any]]":
    """The table without its target, and the target; ValueError where there is none, or nothing
    beside it."""
    from conjoin.codecs.table.values import blank

    if target not in frame.columns:
        raise ValueError(
            f"There is no column {target!r} to be the target; the columns are "
            f"{some_names(frame.columns)}.{did_you_mean(target, frame.columns)}"
        )
    if frame.shape[1] == 1:
        raise ValueError(
            f"The table has no column beside the target {target!r}: there is nothing to predict "
            "it from."
        )
    y = blank(frame[target], missing.get(target, ()))
    if y.isna().all():
        raise ValueError(
            f"The target {target!r} is missing in every row; fit without --target to model the "
            "other columns alone."
        )
    return frame.drop(columns=target), y


def task_of(
    y: "pd.Series[Any]", asked: str, said: dict[str, Any] | None = None, usual: str = ""
) -> Task:
    """The task for a target. ``said`` is what an edited schema says of it, ``usual`` the decimal
    mark of the table's columns of words."""
    said = {} if said is None else said
    if asked not in TASKS:
        raise ValueError(f"--task must be one of {', '.join(TASKS)}, not {asked!r}.")
    kind = y.dropna()
    distinct = kind.nunique()
    if asked == "density":
        return Task(
            asked, f"The target {y.name!r} is left out; p(x) of the other columns is modelled."
        )
    numeric = _is_number(kind)
    bounded = None if numeric or asked == "classes" else _with_bounds(y, said, usual)
    if bounded is not None:
        return bounded
    in_words = None if numeric or asked == "classes" else _in_words(y, asked, said, usual)
    if in_words is not None:
        return in_words
    if asked == "number":
        _check_number(y, numeric)
        return Task("number", f"The target {y.name!r} is a number.")
    if asked == "classes":
        _check_classes(y, kind, numeric)
        return Task("classes", f"The target {y.name!r} has {distinct} classes.")
    return _guess(y, kind, distinct, numeric, said.get("type", ""))


def _guess(
    y: "pd.Series[Any]", kind: "pd.Series[Any]", distinct: int, numeric: bool, said: str
) -> Task:
    if not numeric:
        _check_words(y, distinct, len(kind))
        return Task("classes", f"The target {y.name!r} has {distinct} classes: {_levels(kind)}.")
    coded = said in ("category", "ordered", "boolean")
    few = _whole(kind) and distinct <= _MAX_NUMBER_CLASSES and len(kind) >= 2 * distinct
    if coded or (few and said != "real"):
        words = (
            f"The target {y.name!r} has {distinct} different whole numbers, taken as "
            f"classes: {_levels(kind)}."
        )
        return Task("classes", f"{words} If they are amounts, say --task number.")
    words = f"The target {y.name!r} is taken as a number."
    return Task(
        "number",
        words
        + (
            " If its values are codes of classes, say --task classes."
            if _whole(kind) and distinct <= 100
            else ""
        ),
    )


def _with_bounds(y: "pd.Series[Any]", said: dict[str, Any], usual: str) -> Task | None:
    """The task for numbers of which some are told by a bound, such as "<0.1"; None where the target
    is something else."""
    import pandas as pd

    from conjoin.codecs.table.reading import target_form
    from conjoin.model.censored import limits_in

    known = y.notna().to_numpy()
    found = limits_in(y.to_numpy(dtype=object), known)
    if found is None:
        return None
    rest = y[known & ~found.rows]
    plain = bool(pd.to_numeric(rest, errors="coerce").notna().all())
    if not len(rest) or not (plain or target_form(rest, said, True, usual) is not None):
        return None
    words = f"The target {y.name!r} is a number, of which {int(found.rows.sum()):,} rows tell a"
    return Task("number", f"{words} bound, such as {y[found.rows].iloc[0]!r}.")


def _in_words(y: "pd.Series[Any]", asked: str, said: dict[str, Any], usual: str) -> Task | None:
    """The task for numbers in words, such as "$8,520"; None where the target is something else."""
    from conjoin.codecs.table.reading import target_form

    found = target_form(y, said, asked == "number", usual)
    if found is None:
        return None
    words = f"The target {y.name!r} holds numbers written in words ({found.form.describe()})"
    return Task("number", f"{words}, taken as a number. For classes, say --task classes.")


def _is_number(kind: "pd.Series[Any]") -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(kind.dtype) and not pd.api.types.is_bool_dtype(kind.dtype)


def _whole(kind: "pd.Series[Any]") -> bool:
    values = kind.to_numpy(dtype=float)
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _check_number(y: "pd.Series[Any]", numeric: bool) -> None:
    import pandas as pd

    from conjoin.estimators.reading import times_in

    if numeric:
        return
    times = times_in(y.dropna().to_numpy(dtype=object))
    if times:
        raise ValueError(
            f"The target {y.name!r} holds {times}, which are no number: write them as days, such "
            "as 19723 for 2024-01-01, or fit without --target and ask impute."
        )
    bad = y[pd.to_numeric(y, errors="coerce").isna() & y.notna()]
    if len(bad):
        word = bad.iloc[0]
        raise ValueError(
            f"The target {y.name!r} is no number: row {bad.index[0] + 1} has {word!r}; say "
            f"--task classes, correct it, or say --missing {f'{y.name}={word}'!r} if it means that "
            "the number is not known."
        )


def _check_classes(y: "pd.Series[Any]", kind: "pd.Series[Any]", numeric: bool) -> None:
    if numeric and not _whole(kind):
        odd = kind[kind != kind.round()].iloc[0]
        raise ValueError(
            f"The target {y.name!r} is continuous ({odd:g}, for one), which is no class; say "
            "--task number."
        )
    if not numeric:
        _check_words(y, kind.nunique(), len(kind))


def _check_words(y: "pd.Series[Any]", distinct: int, rows: int) -> None:
    from conjoin.codecs.table.reading import odd_words
    from conjoin.codecs.table.written import is_limit

    if distinct > max(_MAX_UNREPEATED_CLASSES, rows // 2):
        limit = next((word for word in y.dropna() if is_limit(word)), None)
        odd = odd_words(y) if limit is None else []
        if odd:
            said = " ".join(f"--missing {f'{y.name}={word}'!r}" for word in odd)
            raise ValueError(
                f"The target {y.name!r} has numbers beside {' and '.join(map(repr, odd))}; to take "
                f"it as a number that is not known there, say {said}."
            )
        instead = (
            "choose another target"
            if limit is None
            else f"{limit!r} is the limit of a number: write a number in its place, or leave such "
            "cells empty"
        )
        raise ValueError(
            f"The target {y.name!r} has {distinct:,} different values in {rows:,} rows, so they "
            f"are no classes; {instead}."
        )


def _levels(kind: "pd.Series[Any]") -> str:
    from conjoin.codecs.table.values import text_of

    shares = kind.value_counts(normalize=True)
    shown = ", ".join(f"{text_of(label)} {share:.1%}" for label, share in shares.iloc[:5].items())
    return shown + (", ..." if len(shares) > 5 else "")


def _as_objects(y: "pd.Series[Any]") -> "pd.Series[Any]":
    """Classes of a column with an empty cell are read as 1.0 and 2.0; as objects they become whole
    numbers again."""
    return y.astype(object) if y.dtype.kind == "f" else y


def labels(y: "pd.Series[Any]", target: Any) -> "pd.Series[Any]":
    """Labels of another file in the type that the model's classes have; the file alone may read
    otherwise."""
    from conjoin.codecs.table.values import text_of

    if not target.discrete:
        return y
    known = {text_of(label): label for label in target.labels}
    fresh = y.map(lambda value: known.get(text_of(value), value), na_action="ignore")
    return fresh if fresh.isna().any() else fresh.infer_objects()

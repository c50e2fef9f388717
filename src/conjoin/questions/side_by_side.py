"""What is asked of a table in which things that have no columns, such as molecules in space, stand
beside columns of their properties:

    p(row) = p(thing) p(property_1 | thing) ... p(property_k | thing)

Rows that lack their thing, and tell properties, have one that is chosen by these (see
``conjoin.joints.resampling``).

Shape letters: B rows.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.frame import check_names
from conjoin.codecs.table.native import in_kind, kind_of, plain_frame
from conjoin.core import Event, stream
from conjoin.core.random import draw_seed
from conjoin.core.warnings import ColumnWarning
from conjoin.model.censored import TargetColumn, read_columns
from conjoin.model.several import SeveralTargets
from conjoin.model.targets import class_labels
from conjoin.questions.impute import check_draws, impute
from conjoin.questions.several import drawn_targets, predict_all, sample_all

__all__ = ["impute_table", "log_prob_of_table", "parts_of_table", "sample_table", "things_in"]


def things_in(model: SeveralTargets, X: Any) -> Any:
    """The things of a table, or of a list of them, as rows of the codec. ValueError where the table
    has no column of them."""
    X = plain_frame(X)
    if not isinstance(X, pd.DataFrame):
        return model.codec.rows(X)
    check_names(list(X.columns))
    if not len(X):
        raise ValueError("The table has no rows.")
    if model.thing not in X.columns:
        raise ValueError(
            f"The table has no column {model.thing!r}, which holds the {model.codec.plural}; its "
            f"columns are {', '.join(map(str, X.columns))}."
        )
    extra = [str(name) for name in X.columns if name not in model.columns]
    absent = [str(name) for name in model.columns if name not in X.columns]
    told = (
        f"Columns that the fit did not have are not read: {', '.join(extra)}." if extra else "",
        f"Columns that are not there count as missing: {', '.join(absent)}." if absent else "",
    )
    for words in filter(None, told):
        warnings.warn(words, ColumnWarning, stacklevel=4)
    cells = X[model.thing].astype(object)
    return model.codec.rows(cells.where(cells.notna(), None).tolist())


def _properties_in(model: SeveralTargets, X: Any, rows: int) -> pd.DataFrame:
    """The properties of rows, in the order of the targets; NaN where one is missing."""
    X = plain_frame(X)
    if not isinstance(X, pd.DataFrame):
        return pd.DataFrame(index=range(rows), columns=model.names, dtype=float)
    return X.reset_index(drop=True).rename(columns=str).reindex(columns=model.names)


def _columns_of(model: SeveralTargets, table: pd.DataFrame) -> list[TargetColumn]:
    """The properties as targets, each of its target's kind."""
    return [_column_of(target, table[target.name]) for target in model.targets]


def _column_of(target: Any, cells: pd.Series) -> TargetColumn:
    """ValueError for words where the fit had numbers, and for classes that it had not."""
    known = cells.notna().to_numpy()
    if not known.any():
        return _nothing(target.name, len(cells), target.discrete)
    if target.discrete:
        labels = class_labels(cells.to_numpy(dtype=object), known)
        if labels.dtype.kind not in (target.labels.dtype.kind, "b"):
            own = {cell: target.labels[target.code(cell)] for cell in pd.unique(cells[known])}
            labels = cells.map(own).where(cells.notna(), target.labels[0]).to_numpy()
        return TargetColumn(target.name, labels, known)
    (found,) = read_columns(cells.to_frame())
    if found.is_number:
        return found
    values, known = target.parsed(cells)
    open_ = np.full(len(cells), np.inf)
    closed = np.zeros(len(cells), dtype=bool)
    return TargetColumn(target.name, np.where(known, values, 0.0), known, -open_, open_, closed)


def _nothing(name: str, rows: int, discrete: bool) -> TargetColumn:
    known = np.zeros(rows, dtype=bool)
    if discrete:
        return TargetColumn(name, np.full(rows, None, dtype=object), known)
    open_ = np.full(rows, np.inf)
    return TargetColumn(name, np.zeros(rows), known, -open_, open_, known)


def parts_of_table(model: SeveralTargets, X: Any) -> tuple[Any, list[TargetColumn]]:
    """The things of a table, or of a list of them, as rows of the codec, and their properties."""
    rows = things_in(model, X)
    return rows, _columns_of(model, _properties_in(model, X, len(rows)))


def log_prob_of_table(model: SeveralTargets, X: Any) -> np.ndarray:
    """(B,) log p of what is known of each row, nats, in raw units. Properties are independent given
    their thing, and taken as such where it is not known, of which a ColumnWarning tells: what is
    right is the mean over p(thing) of the product of all p(property | thing)."""
    rows, columns = parts_of_table(model, X)
    encoded = model.alone.encode(rows)
    apart = _taken_apart(model, columns, encoded.event)
    if apart.any():
        warnings.warn(
            f"{apart.sum():,} of {len(apart):,} rows tell several properties without their "
            f"{model.codec.noun} (the first is row {int(apart.argmax())}): their log p takes these "
            "as independent of each other, which they are only given it.",
            ColumnWarning,
            stacklevel=4,
        )
    found = model.alone.log_prob_raw(encoded) + model.log_prob(columns, encoded).numpy()
    return np.asarray(found)


def _taken_apart(model: SeveralTargets, columns: list[TargetColumn], x: Event) -> np.ndarray:
    """(B,) whether several properties are told that no predictor gives, as it does not cover x."""
    told = np.zeros(x.rows, dtype=int)
    for column, predictor in zip(columns, model.predictors, strict=True):
        if predictor is not None:
            told += (column.known | column.censored) & ~predictor.covers(x).numpy()
    return told > 1


def sample_table(
    model: SeveralTargets, n: int, given: Mapping[Any, Any] | None, seed: int, tails: bool
) -> pd.DataFrame:
    """``n`` rows; ``given``: of properties a value, a range (low, high) with None for an open end,
    or a value for each row, and what is known of the thing. ValueError for an unknown column."""
    wishes = {}
    known = {}
    for name, wish in (given or {}).items():
        if str(name) in model.names:
            wishes[str(name)] = wish
        elif name == model.thing:
            known[model.codec.columns[0]] = wish
        else:
            raise ValueError(
                f"given names the column {name!r}; the model has "
                f"{', '.join(map(str, model.columns))}."
            )
    things, table = sample_all(model, n, seed, tails, y=wishes, given=known)
    return _side_by_side(model, things, table)


def _side_by_side(model: SeveralTargets, things: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Things and their properties in the columns of the fit."""
    table = table.assign(**{model.thing: pd.Series(list(things), table.index, dtype=object)})
    names = {str(name): name for name in model.columns}
    return table[list(names)].rename(columns=names)


def impute_table(
    model: SeveralTargets,
    X: Any,
    n_draws: int | None = None,
    seed: int = 0,
    y: Any = None,
    strategy: str = "mean",
    tails: bool = False,
) -> Any:
    """The rows with what they lack: things, places, and properties by their mean or most probable
    class; with ``n_draws`` a list of so many drawn completions. ValueError for a ``y``, as
    properties are columns, and for another ``strategy`` than the mean."""
    check_draws(n_draws)
    if y is not None:
        raise ValueError(
            f"y={y!r}: this table has no target; what is known of {', '.join(model.names)} stands "
            "in its columns."
        )
    if strategy != "mean":
        raise ValueError(
            f"strategy={strategy!r} is not there for {model.codec.plural} beside columns, whose "
            "numbers get their mean: leave it out, or draw by n_draws."
        )
    kind = kind_of(X)
    X = plain_frame(X)
    rows = things_in(model, X)
    table = _properties_in(model, X, len(rows))
    generator = stream(seed, "impute")
    filled = [
        _filled(model, rows, table, n_draws is not None, draw_seed(generator), tails)
        for _ in range(1 if n_draws is None else n_draws)
    ]
    if isinstance(X, pd.DataFrame):
        filled = [each.set_axis(X.index) for each in filled]
    full = [in_kind(each, kind) for each in filled]
    return full[0] if n_draws is None else full


def _filled(
    model: SeveralTargets, rows: Any, table: pd.DataFrame, is_drawn: bool, seed: int, tails: bool
) -> pd.DataFrame:
    whole = impute(model.alone, rows, 1 if is_drawn else None, seed, tails=tails)
    things = list(whole[0] if is_drawn else whole)
    raw = model.codec.raw(rows)
    lacking = [row for row, thing in enumerate(raw) if thing is None]
    told = table.notna().any(axis=1).to_numpy()
    chosen = [row for row in lacking if told[row]]
    if chosen:
        part = table.iloc[chosen]
        asked = {name: part[name] for name in model.names if part[name].notna().any()}
        wishes = {name: cells.to_numpy() for name, cells in asked.items()}
        drawn, _ = sample_all(model, len(chosen), seed, tails, y=wishes)
        for row, thing in zip(chosen, drawn, strict=True):
            things[row] = thing
    found = (
        drawn_targets(model, things, stream(seed, "properties"), tails)
        if is_drawn
        else predict_all(model, things)
    )
    found = found.reset_index(drop=True)
    for name in model.names:
        found[name] = table[name].where(table[name].notna(), found[name])
    return _side_by_side(model, things, found)

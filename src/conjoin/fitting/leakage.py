"""Columns that alone decide y, or two by their difference: whoever knows them may know the answer
already, such as a column that is written down only once y is known.

Each column is asked by itself, on rows that its rule was not learned from: a level by the most
frequent class, or the mean of y, of its rows, a number by a decision tree of few leaves.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from conjoin.codecs.table import Schema, TableCodec
from conjoin.codecs.table.reading import read_in
from conjoin.codecs.table.rows import TableRows
from conjoin.codecs.table.values import blank
from conjoin.core import Codec, Event, Pair
from conjoin.predictors.folds import few_rows_of_classes

__all__ = ["deciding_columns", "deciding_in"]

Array = NDArray[Any]

MIN_ROWS = 40  # labelled rows, under which nothing is said
MAX_ROWS = 2000  # that a column is judged by
FOLDS = 2
MAX_LEAVES = 32  # of a tree of classes
MAX_ERROR = 0.02  # share of rows that the rule of a deciding column gets wrong
MAX_ERROR_OF_CHANCE = 0.1  # of the error of the most frequent class
MIN_R2 = 0.999  # of the variance of a number


def deciding_columns(codec: Codec, rows: Pair, classes: bool, target: Any) -> list[str]:
    """A sentence for each variable that alone tells y. ``rows``: events with their labels."""
    known = np.flatnonzero(rows.y.mask.numpy())
    known = np.random.default_rng(0).permutation(known)[:MAX_ROWS]
    if len(known) < MIN_ROWS or not codec.space.flat:
        return []
    y = rows.y.value.numpy()[known]
    if len(np.unique(y)) < 2:
        return []
    found = []
    for place in range(min(codec.columnwise, len(codec.columns))):
        cells = rows.x.value[:, place].double().numpy()[known]
        seen = rows.x.mask[:, place].numpy()[known]
        discrete = codec.space.variables[place].discrete
        told = _told(np.where(seen, cells, np.nan), y, discrete, classes)
        if told:
            found.append(_sentence(codec, place, target, told))
    return found


def _sentence(codec: Codec, place: int, target: Any, told: str) -> str:
    """Of a difference, such as the days from a start to an end, both columns are named: neither of
    them alone tells anything."""
    name = codec.columns[place]
    label = codec.labels[place]
    if label == name:
        return (
            f"Column {name!r} alone tells {target!r} {told}: does it know the answer? If it is "
            "known only once the answer is, leave it out."
        )
    both = " and ".join(map(repr, codec.behind(name)))
    return (
        f"Columns {both} together, by {label}, tell {target!r} {told}: do they know the answer? If "
        f"{name!r} is known only once the answer is, leave it out."
    )


def deciding_in(frame: pd.DataFrame, schema: Schema, classes: bool) -> list[str]:
    """As ``deciding_columns``, of a table with the target of its schema among its columns."""
    name = schema.target
    assert name is not None
    y = blank(frame[name], schema[name].missing)
    form = schema[name].parse
    cells = y if form is None else pd.Series(read_in(y, form)[0], index=y.index)
    plain = pd.to_numeric(cells, errors="coerce")
    known = (y if classes else plain).notna()
    codec = TableCodec(types=schema)
    x = codec.surveyed(TableRows(frame.drop(columns=name)))
    codec.fit(x)
    value = pd.factorize(y.astype(str))[0] if classes else plain.fillna(0.0)
    labels = Event(
        torch.tensor(np.asarray(value, dtype=float)), torch.tensor(known.to_numpy(dtype=bool))
    )
    rows = Pair(labels, codec.encode(x).event)
    return deciding_columns(codec, rows, classes, name)


def _told(cells: Array, y: Array, discrete: bool, classes: bool) -> str:
    """How well one column tells y, in words; "" where it does not."""
    fold = np.arange(len(y)) % FOLDS
    said = np.empty(len(y))
    for number in range(FOLDS):
        learn = fold != number
        rule = _by_level if discrete else _by_tree
        said[~learn] = rule(cells[learn], y[learn], cells[~learn], classes)
    if classes:
        wrong = float((said != y).mean())
        chance = 1 - float(np.unique(y, return_counts=True)[1].max()) / len(y)
        good = wrong <= min(MAX_ERROR, MAX_ERROR_OF_CHANCE * chance)
        return f"in {100 * (1 - wrong):.1f} % of rows that its rule has not seen" if good else ""
    r2 = max(1 - float(((y - said) ** 2).mean() / y.var()), _straight(cells, y))
    return f"up to {100 * (1 - r2):.2g} % of its variance" if r2 >= MIN_R2 else ""


def _by_level(cells: Array, y: Array, asked: Array, classes: bool) -> Array:
    """The most frequent class, or the mean, of the rows of a level; a missing cell is a level."""
    cells, asked = (np.nan_to_num(part, nan=-1.0) for part in (cells, asked))
    levels, place = np.unique(cells, return_inverse=True)
    if classes:
        values, code = np.unique(y, return_inverse=True)
        counts = np.zeros((len(levels), len(values)))
        np.add.at(counts, (place, code), 1)
        of_level = values[counts.argmax(1)]
        usual = values[counts.sum(0).argmax()]
    else:
        of_level = np.bincount(place, weights=y) / np.bincount(place)
        usual = y.mean()
    at = np.minimum(np.searchsorted(levels, asked), len(levels) - 1)
    return np.where(levels[at] == asked, of_level[at], usual)


def _by_tree(cells: Array, y: Array, asked: Array, classes: bool) -> Array:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    tree: Any = (
        DecisionTreeClassifier(max_leaf_nodes=MAX_LEAVES, random_state=0)
        if classes
        else DecisionTreeRegressor(min_samples_leaf=2, random_state=0)
    )
    with few_rows_of_classes():
        return np.asarray(tree.fit(cells[:, None], y).predict(asked[:, None]))


def _straight(cells: Array, y: Array) -> float:
    """R2 of the straight line through the rows that are known, where nearly all are."""
    seen = ~np.isnan(cells)
    if seen.mean() < MIN_R2 or np.ptp(cells[seen]) == 0:
        return 0.0
    return float(np.corrcoef(cells[seen], y[seen])[0, 1] ** 2)

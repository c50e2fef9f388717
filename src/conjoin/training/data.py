"""Rows as the learners see them: distinct, in an order of their own content, with weights that
count repeats.

So a fit does not depend on the order of the rows, and a row of weight 2 is the same as that row
twice. Splits follow from a seeded hash of each row's content, so that duplicates (and groups) never
straddle a split.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.image.rows import byte_hashes
from conjoin.codecs.table.rows import TableRows
from conjoin.core import Event, Pair

__all__ = [
    "MIN_DISTINCT_SHARE",
    "Split",
    "are_copies",
    "canonical",
    "count_copies",
    "group_hashes",
    "row_hashes",
    "split_rows",
]


def canonical(data: Pair, weight: Tensor) -> tuple[Pair, Tensor]:
    """Distinct rows of (y, x) sorted by content, and their summed weights; rows of weight 0
    vanish."""
    if not data.x.value.is_floating_point() or data.x.present is not None:
        return _canonical_bytes(data, weight)
    table = torch.cat(
        [data.y.value[:, None], data.x.value, data.y.mask[:, None].double(), data.x.mask.double()],
        1,
    )
    keep = weight > 0
    rows = (table if bool(keep.all()) else table[keep]).numpy()
    mass = weight[keep].numpy()
    first, where = _distinct(rows)
    merged = torch.from_numpy(np.bincount(where, weights=mass, minlength=len(first)))
    distinct = torch.from_numpy(rows[first])
    width = data.x.value.shape[1]
    y = Event(distinct[:, 0].contiguous(), distinct[:, 1 + width] > 0)
    x = Event(distinct[:, 1 : 1 + width].contiguous(), distinct[:, 2 + width :] > 0)
    return Pair(y, x), merged


def _canonical_bytes(data: Pair, weight: Tensor) -> tuple[Pair, Tensor]:
    """As ``canonical``, of rows that are bytes: in the order of their hashes, and only copied where
    some are left out or repeat."""
    known = _told(data.x)
    keys = byte_hashes(data.x.value.numpy(), known)
    labels = np.stack([data.y.value.double().numpy(), data.y.mask.double().numpy()], 1)
    both = pd.util.hash_pandas_object(
        pd.DataFrame({"x": keys, "y": labels[:, 0], "known": labels[:, 1]}), index=False
    ).to_numpy()
    keep = (weight > 0).numpy()
    kept = np.flatnonzero(keep)
    _, first, where = np.unique(both[keep], return_index=True, return_inverse=True)
    merged = np.bincount(where, weights=weight.numpy()[keep], minlength=len(first))
    index = torch.from_numpy(kept[first])
    y = Event(data.y.value[index].double(), data.y.mask[index])
    return Pair(y, data.x.take(index)), torch.from_numpy(merged)


def _told(x: Event) -> np.ndarray | None:
    """(B, ...) which cells are known, and which positions exist; None where all are known."""
    parts = [part.reshape(x.rows, -1) for part in (x.observed, x.present) if part is not None]
    return torch.cat(parts, 1).numpy() if parts else None


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of one of each set of equal rows, in an order of their content, and the set that
    each row belongs to."""
    if rows.shape[1] > MAX_COMPARED_CELLS:  # an order of hashes does as well, and costs one pass
        whole = np.ascontiguousarray(rows).view(f"V{rows.itemsize * rows.shape[1]}")[:, 0]
        starts = range(0, max(1, len(whole)), HASHED_ROWS)  # the bytes of some rows at a time
        keys = np.concatenate(
            [
                pd.util.hash_array(whole[at : at + HASHED_ROWS].astype(object), categorize=False)
                for at in starts
            ]
        )
        _, first, where = np.unique(keys, return_index=True, return_inverse=True)
        return first, where
    order = np.lexsort(rows.T[::-1])
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (np.diff(rows[order], axis=0) != 0).any(1)
    where = np.empty(len(rows), dtype=np.int64)
    where[order] = np.cumsum(fresh) - 1
    return order[fresh], where


MAX_COMPARED_CELLS = 400  # cells of a row beyond which rows are told apart by a hash
HASHED_ROWS = 4096  # rows that are hashed at once
MIN_DISTINCT_SHARE = 0.5  # share of distinct rows from which a repeat counts as the same case
DOMINATING_SHARE = 0.01  # of the rows, above which those of one content count for themselves
DOMINATING_TIMES = 10  # as many as the median row has
MIN_COPIED_ROWS = 50  # distinct ones, to tell copies from rows that repeat by chance
MIN_COPIED_TIMES = 4  # as many distinct rows as each is repeated
MAX_COPIED_DISPERSION = 0.3  # variance of the numbers of copies beside their mean; by chance 1


class Split(NamedTuple):
    """Row numbers of the three parts, which never share a row: fit, choose (stopping, selection),
    calibrate."""

    fit: np.ndarray
    choose: np.ndarray
    calibrate: np.ndarray


def row_hashes(rows: Any, groups: Any = None) -> np.ndarray:
    """(B,) uint64: equal for equal rows of ``rows`` (Rows, or a DataFrame), or for rows of one
    group.

    Where most rows are repeats (a few columns of few levels), and not copies (see ``are_copies``),
    equality means nothing: then each row counts for itself, since held-out sets of whole patterns
    would be unlike the rows to come. So do the rows of a pattern that is much more frequent than
    others, as where all cells are 0, which would be in one part of a split alone."""
    if groups is not None:
        return group_hashes(groups)
    rows = TableRows(rows) if isinstance(rows, pd.DataFrame) else rows
    hashes = np.asarray(rows.hashes())
    _, which, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    if not len(hashes):
        return hashes
    least = max(DOMINATING_SHARE * len(hashes), DOMINATING_TIMES * float(np.median(counts)))
    alone = counts[which.reshape(-1)] > least
    if len(counts) < MIN_DISTINCT_SHARE * len(hashes):
        alone |= rows.repeat_by_chance() and not are_copies(counts)
    if not alone.any():
        return hashes
    repeat = pd.Series(hashes).groupby(hashes).cumcount()
    each = pd.util.hash_pandas_object(
        pd.DataFrame({"row": hashes, "repeat": repeat}), index=False
    ).to_numpy()
    return np.where(alone, each, hashes)


def are_copies(counts: np.ndarray) -> bool:
    """Whether distinct rows, of which there are so many each, were copied: rows that repeat by
    chance do not do so equally often."""
    mean = float(counts.mean()) if len(counts) else 0.0
    if mean < 2 or len(counts) < max(MIN_COPIED_ROWS, MIN_COPIED_TIMES * mean):
        return False
    return bool(np.gcd.reduce(counts) > 1 or counts.var() < MAX_COPIED_DISPERSION * mean)


def times_copied(hashes: np.ndarray, by_chance: bool = True) -> int:
    """How often each row stands in the table, at most, by (B,) hashes: 1 where rows were not
    copied. ``by_chance``: whether rows may be equal by chance."""
    counts = np.unique(hashes, return_counts=True)[1]
    if not len(counts) or (by_chance and not are_copies(counts)):
        return 1
    whole = int(np.gcd.reduce(counts))
    usual = counts[counts <= DOMINATING_TIMES * np.median(counts)]
    return whole if whole > 1 else int(usual.max())


def count_copies(hashes: np.ndarray, by_chance: bool = True) -> int:
    """How many of the rows, by (B,) hashes, are copies of others."""
    times = times_copied(hashes, by_chance)
    return 0 if times == 1 else len(hashes) - len(without_copies(hashes, times))


def without_copies(hashes: np.ndarray, times: int) -> np.ndarray:
    """The places of the rows that were there before each was copied so many times: of a row that
    stood there often, as many as it stood there."""
    repeat = pd.Series(hashes).groupby(hashes).cumcount().to_numpy()
    return np.flatnonzero(repeat % times == 0)


def group_hashes(groups: Any) -> np.ndarray:
    """(B,) uint64: equal for rows of one group."""
    return pd.util.hash_array(pd.Series(list(groups)).astype(str).to_numpy(dtype=object))


def split_rows(
    hashes: np.ndarray, seed: int, choose: float, calibrate: float, latest: np.ndarray | None = None
) -> Split:
    """A split by hash: a part takes whole sets of equal rows, as many as fit into its share.

    With ``latest`` (a time per row) the calibration part is the latest rows instead.
    """
    distinct, where, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    place = np.empty(len(distinct))
    place[order] = np.cumsum(counts[order]) / len(hashes)
    ends = place[where]
    starts = (place - counts / len(hashes))[where]
    held = ends <= calibrate
    if latest is not None:
        held = np.zeros(len(hashes), dtype=bool)
        held[np.argsort(latest, kind="stable")[len(hashes) - int(calibrate * len(hashes)) :]] = True
        held &= ~np.isin(hashes, hashes[~held])  # no row of the fit, nor of its groups
    chosen = ~held & (starts >= 1 - choose - 1e-9)
    return Split(*(np.flatnonzero(part) for part in (~held & ~chosen, chosen, held)))

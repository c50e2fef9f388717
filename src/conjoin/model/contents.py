"""What rows hold, as a model reads them: the same of a table from a file and from Python, in every
order of its rows and columns.

A model keeps one digest of all rows of its fit, which tells whether a table is that of the fit, and
nothing of any row. Digests of single rows would: whoever guesses a row could look it up.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from conjoin.codecs.table.rows import content_hashes
from conjoin.core.codec import Rows
from conjoin.core.event import slices
from conjoin.training.data import row_hashes

__all__ = ["are_of_fit", "contents", "read_of", "reads_columns_alone"]

CHUNK_ROWS = 8192


def contents(codec: Any, rows: Rows) -> np.ndarray:
    """(B,) uint64: equal for rows of which the fitted ``codec`` reads the same. Of columns the
    encoded cells count, to seven digits; of other data the content of a row as it came."""
    if not codec.columnwise:
        return np.asarray(rows.hashes())
    if not reads_columns_alone(codec):
        read = [column.name for column in codec.schema.modelled]
        return content_hashes(rows.frame[[name for name in read if name in rows.names]])
    found = [_cell_hashes(codec.encode(rows.take(part))) for part in slices(len(rows), CHUNK_ROWS)]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *found])


def _cell_hashes(encoded: Any) -> np.ndarray:
    known = encoded.event.mask
    # in float32 a last digit that differs from machine to machine makes no other row
    value = encoded.event.value.where(known, 0.0).float() + 0.0
    state = known.int() - encoded.unseen.int()
    cells = np.concatenate([value.numpy(), state.numpy().astype(np.float32)], 1)
    return content_hashes(pd.DataFrame(cells))


def digest_of(hashes: np.ndarray) -> str:
    """SHA-256 of the rows with these hashes, in whatever order."""
    return hashlib.sha256(np.sort(hashes).tobytes()).hexdigest()


def read_of(codec: Any, rows: Rows) -> dict[str, Any]:
    """For the card of a model of columns alone: how many rows its fit had, and the digest of what
    is read of them. Other data is the same however it was read: ``data_sha256`` is enough."""
    if not reads_columns_alone(codec):
        return {}
    return {"read": {"rows": len(rows), "sha256": digest_of(contents(codec, rows))}}


def are_of_fit(codec: Any, rows: Rows, card: Mapping[str, Any]) -> bool | None:
    """Whether these are the rows of the fit that ``card`` tells of, all of them and no others; None
    where that is not recorded: of tables that were read in chunks, and of models of before."""
    if card.get("data_sha256") == digest_of(row_hashes(rows)):
        return True
    if "streamed" in card:
        return None
    if reads_columns_alone(codec):
        return read_of(codec, rows)["read"] == card["read"] if "read" in card else None
    return None if codec.columnwise else False  # cells beside blocks can be read in several ways


def reads_columns_alone(codec: Any) -> bool:
    """Whether all that is read of a row is cells of columns."""
    return 0 < codec.columnwise == len(codec.space.variables)

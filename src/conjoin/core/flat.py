"""The blocks of a record as one row of numbers, and back."""

from typing import final

import torch
from torch import Tensor

from conjoin.core.block import RecordSpace, space_of_rows
from conjoin.core.event import Event, Record, Region

__all__ = ["Flat"]


@final
class Flat:
    """Records as rows (B, D) of float64, and back.

    The row holds the blocks in their order: columns first, then the pixels of images, in the order
    C, H, W, and the N positions of strings, where one more code says that a position is absent.
    This is the only place that casts values: one batch at a time.

    Parameters
    ----------
    space
        Vector blocks, then images and sequences.

    Raises
    ------
    ValueError
        If a block has points, or a vector block is behind one that is none.

    Examples
    --------
    >>> from conjoin.core import Block, Variable
    >>> scan = Block("scan", "image", (1, 1, 2), (Variable("grey", "ordered", 256),))
    >>> flat = Flat(RecordSpace((Block("age", "vector", (1,), (Variable("age", "real"),)), scan)))
    >>> row = flat.join(Record(age=Event(torch.ones(1, 1)), scan=Event(torch.ones(1, 1, 1, 2))))
    >>> row.value, flat.split(row)["scan"].value.dtype
    (tensor([[1., 1., 1.]], dtype=torch.float64), torch.uint8)
    """

    def __init__(self, space: RecordSpace) -> None:
        self.blocks = space
        each = [block.laid.cells(block) for block in space.blocks]
        self.sizes = [len(cells) for cells in each]
        cells = tuple(cell for variables in each for cell in variables)
        columns = [block.columnar for block in space.blocks]
        if columns != sorted(columns, reverse=True):
            late = space.blocks[len(columns) - 1 - columns[::-1].index(True)]
            raise ValueError(
                f"Block {late.name!r} holds columns and is behind a block that holds none."
            )
        self.space = space_of_rows(cells, space.blocks[sum(columns) :])

    def join(self, record: Record) -> Event:
        """The row of each record."""
        events = self.blocks.check(record)
        parts = [block.laid.flattened(block, events[block.name]) for block in self.blocks.blocks]
        mask = torch.cat([known for _, known in parts], 1)
        observed = None if bool(mask.all()) else mask
        value = torch.cat([cells for cells, _ in parts], 1)
        return Event(value, observed, within=self._regions(list(events.values())))

    def split(self, row: Event) -> Record:
        """The record of each row."""
        values = torch.split(row.value, self.sizes, 1)
        masks = torch.split(row.mask, self.sizes, 1)
        return Record(
            {
                block.name: block.laid.restored(block, value, mask)
                for block, value, mask in zip(self.blocks.blocks, values, masks, strict=True)
            }
        )

    def _regions(self, events: list[Event]) -> Region | None:
        """What the blocks' regions say of the row; edges of each row, where one block has such."""
        regions = [event.within for event in events]
        if all(region is None for region in regions):
            return None
        rows = events[0].rows
        per_row = any(region is not None and region.per_row for region in regions)
        lead = (rows,) if per_row else ()
        low: list[Tensor] = []
        high: list[Tensor] = []
        allowed: dict[int, Tensor] = {}
        start = 0
        for region, size in zip(regions, self.sizes, strict=True):
            free = torch.full((*lead, size), torch.inf, dtype=torch.float64)
            low.append(-free if region is None else region.low.expand(*lead, size))
            high.append(free if region is None else region.high.expand(*lead, size))
            for variable, keep in (region.allowed if region is not None else {}).items():
                allowed[start + variable] = keep.expand(*lead, keep.shape[-1])
            start += size
        return Region(torch.cat(low, -1), torch.cat(high, -1), allowed)

"""Blocks of fixed size as one row of numbers, and back."""

import math
from typing import final

import torch
from torch import Tensor

from conjoin.core.block import RecordSpace, Space
from conjoin.core.event import Event, Record, Region

__all__ = ["Flat"]


@final
class Flat:
    """Records of blocks of fixed size as rows (B, D) of float64, and back.

    The row holds the blocks in their order. The pixels of an image are its last variables, in the
    order C, H, W. This is the only place that casts values: one batch at a time.

    Parameters
    ----------
    space
        Vector blocks, then at most one image.

    Raises
    ------
    ValueError
        If a block has rows of any length, or an image is not the last block.

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
        for place, block in enumerate(space.blocks):
            if block.ragged:
                raise ValueError(
                    f"Block {block.name!r} has rows of any length, so it is no part of a flat row."
                )
            if block.layout == "image" and place < len(space.blocks) - 1:
                raise ValueError(
                    f"Block {block.name!r} is an image and not the last block of the row."
                )
        self.blocks = space
        self.sizes = [math.prod(block.shape) for block in space.blocks]
        cells = tuple(cell for block in space.blocks for cell in block.laid.cells(block))
        last = space.blocks[-1]
        grid = last.shape if last.layout == "image" else None
        alone = grid is not None and len(space.blocks) == 1
        layout = "image" if alone else "vector"
        self.space = Space((len(cells),), cells, layout, grid)  # type: ignore[arg-type]

    def join(self, record: Record) -> Event:
        """The row of each record."""
        events = list(self.blocks.check(record).values())
        value = torch.cat([event.value.flatten(1).double() for event in events], 1)
        mask = torch.cat([event.mask.flatten(1) for event in events], 1)
        observed = None if bool(mask.all()) else mask
        return Event(value, observed, within=self._regions(events))

    def split(self, row: Event) -> Record:
        """The record of each row."""
        values = torch.split(row.value, self.sizes, 1)
        masks = torch.split(row.mask, self.sizes, 1)
        return Record(
            {
                block.name: Event(
                    value.reshape(-1, *block.shape).to(block.dtype), mask.reshape(-1, *block.shape)
                )
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

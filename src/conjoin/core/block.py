"""The spaces that events live in: variables, blocks of them, records of blocks, and flat rows."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from conjoin.core.event import Event, Pair, Record
from conjoin.core.layouts import LAYOUTS, Layout

__all__ = ["Block", "PairSpace", "RecordSpace", "Space", "Variable", "space_of_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """One column. ``resolution`` is its recorded precision: with it a value is a cell that has
    probability mass, without it a point that has a density. Numbers are in the event's units.
    ``pieces``: the text that each code of a string writes, where codes write text one by one."""

    name: str
    kind: Literal["real", "integer", "category", "ordered"]
    cardinality: int = 0
    resolution: float | None = None
    atoms: tuple[float, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    origin: float = 0.0  # one value of the lattice that resolution spans
    unit: str = ""
    pieces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.discrete and self.cardinality < 1:
            raise ValueError(
                f"{self.name!r} is a {self.kind} variable and needs a cardinality of at least 1."
            )
        if (
            (self.atoms or self.bounds != (None, None))
            and not self.discrete
            and self.resolution is None
        ):
            raise ValueError(
                f"{self.name!r} has atoms or bounds, so its cells need mass: give it a resolution."
            )

    @property
    def discrete(self) -> bool:
        """Whether values are codes of a finite set."""
        return self.kind in ("category", "ordered")

    @property
    def nominal(self) -> bool:
        """Whether values are codes that have no order."""
        return self.kind == "category"

    @property
    def has_mass(self) -> bool:
        """Whether a value has probability mass rather than density."""
        return self.discrete or self.resolution is not None


@dataclasses.dataclass(frozen=True)
class Block:
    """The space of one part of a record.

    Parameters
    ----------
    name
        What the block is called.
    layout
        How its cells lie: "vector", "image", "sequence" or "points".
    shape
        Of one row: (D,), (C, H, W), (N,) or (N, F). N is a capacity: rows may be shorter.
    variables
        The features of one position: D of a vector, 1 of an image or a sequence, F of points.
    centred
        Whether the numbers of points are told up to a translation; they are kept about their mean.

    Raises
    ------
    ValueError
        If shape and variables don't go with the layout.

    Examples
    --------
    >>> text = Block("text", "sequence", (3,), (Variable("letter", "category", 2),))
    >>> text.check(Event(torch.tensor([[1, 0]]))).present
    tensor([[True, True]])
    """

    flat: ClassVar[bool] = False  # whether a row is a row of numbers, as most families see it

    name: str
    layout: Literal["vector", "image", "sequence", "points"]
    shape: tuple[int, ...]
    variables: tuple[Variable, ...]
    centred: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(
                f"Block {self.name!r} has the layout {self.layout!r}; choose from "
                f"{', '.join(LAYOUTS)}."
            )
        if len(self.shape) != self.laid.axes:
            raise ValueError(
                f"Block {self.name!r}: the rows of a block of layout {self.layout!r} have "
                f"{self.laid.axes} axes, its shape is {self.shape}."
            )
        features = {"vector": self.shape[0], "points": self.shape[-1]}.get(self.layout, 1)
        if len(self.variables) != features:
            raise ValueError(
                f"Block {self.name!r} needs {features} variables, the features of one position; "
                f"it has {len(self.variables)}."
            )

    @property
    def laid(self) -> Layout:
        """What its layout knows."""
        return LAYOUTS[self.layout]

    @property
    def dtype(self) -> torch.dtype:
        """Of its values: float64 of vectors and points, uint8 of images, int64 of sequences."""
        return self.laid.dtype

    @property
    def ragged(self) -> bool:
        """Whether rows have as many positions as they need."""
        return self.laid.ragged

    @property
    def columnar(self) -> bool:
        """Whether its variables are columns, told one by one."""
        return self.laid.columnar

    @property
    def unordered(self) -> bool:
        """Whether the order of its positions means nothing."""
        return self.laid.unordered

    @property
    def has_mass(self) -> bool:
        """Whether a value has probability mass rather than density."""
        return all(variable.has_mass for variable in self.variables)

    def unknown(self, rows: int) -> Event:
        """So many rows of which nothing is known."""
        return self.laid.unknown(self, rows)

    def check(self, event: Event) -> Event:
        """The event in canonical form: in the block's dtype, zero where no value is known.

        Raises
        ------
        ValueError
            If a shape doesn't fit, a code is none, or a value is not finite.
        """
        shape = tuple(event.value.shape[1:])
        if not self.laid.fits(shape, self.shape):
            raise ValueError(
                f"Block {self.name!r}: expected rows of shape {self.shape}, got {shape}."
            )
        if event.mask.shape != event.value.shape:
            raise ValueError(
                f"Block {self.name!r}: observed has shape {tuple(event.mask.shape)}, value "
                f"{tuple(event.value.shape)}: they must agree."
            )
        event = self.laid.canonical(self, event)
        value = torch.where(event.known, event.value, torch.zeros_like(event.value))
        self._refuse_wrong(value)
        return event._replace(value=value.to(self.dtype))

    def _refuse_wrong(self, value: Tensor) -> None:
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(
                f"Block {self.name!r} has a value that is not finite; mark missing cells in "
                "observed."
            )
        levels = [v.cardinality if v.discrete else 0 for v in self.variables]
        top = torch.tensor(levels)  # broadcasts over positions
        whole = value == value.round() if value.is_floating_point() else True
        wrong = (top > 0) & ~((value >= 0) & (value < top) & whole)
        if wrong.any():
            code = value[wrong][0].item()
            raise ValueError(
                f"Block {self.name!r} has the code {code:g}; its codes are whole numbers below "
                f"{max(levels)}."
            )


@dataclasses.dataclass(frozen=True)
class RecordSpace:
    """The space of records: their blocks, in order.

    Raises
    ------
    ValueError
        If two blocks have one name.
    """

    flat: ClassVar[bool] = False
    unordered: ClassVar[bool] = False
    layout: ClassVar[str] = "record"

    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"Two blocks are called {twice[0]!r}: names tell blocks apart.")

    @property
    def names(self) -> list[str]:
        return [block.name for block in self.blocks]

    def __getitem__(self, name: str) -> Block:
        for block in self.blocks:
            if block.name == name:
                return block
        have = ", ".join(map(repr, self.names)) or "none"
        raise ValueError(f"There is no block {name!r}; the blocks are {have}.")

    def check(self, record: Record, rows: int | None = None) -> Record:
        """Every block of the space, in its order; nothing is known of a block that the record
        lacks. ``rows``: of a record without a block."""
        for name in record:
            self[name]  # refuses a stranger
        count = record.rows if len(record) else rows or 0
        return Record(
            {
                block.name: block.check(
                    record[block.name] if block.name in record else block.unknown(count)
                )
                for block in self.blocks
            }
        )

    def columns(self) -> list[tuple[Block, int, Variable]]:
        """Every variable of the vector blocks, and where it stands."""
        return [
            (block, place, variable)
            for block in self.blocks
            if block.columnar
            for place, variable in enumerate(block.variables)
        ]

    def find(self, address: str | tuple[str, str]) -> tuple[str, int | None]:
        """The block and the place in it that an address means: of a column "age" or ("columns",
        "age"), of a block "scan".

        Raises
        ------
        ValueError
            If there is no such block or column, or there are several.
        """
        found = [
            (block.name, place)
            for block, place, variable in self.columns()
            if address in (variable.name, (block.name, variable.name))
        ]
        if len(found) > 1:
            raise ValueError(
                f"{address!r} is a column of {' and of '.join(block for block, _ in found)}: say "
                f"({found[0][0]!r}, {address!r})."
            )
        if found:
            return found[0]
        if isinstance(address, str) and address in self.names:
            return address, None
        columns = ", ".join(repr(variable.name) for _, _, variable in self.columns())
        raise ValueError(
            f"There is no block or column {address!r}; the blocks are "
            f"{', '.join(map(repr, self.names))}, the columns {columns or 'none'}."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """The space of flat rows: all that a family of rows knows of the data.

    Blocks side by side are such a row (see ``conjoin.core.flat.Flat``): y first, then columns, then
    the cells of pictures and of strings. Of a single picture ``grid`` is the shape; of several
    blocks behind the columns ``blocks`` are those.
    """

    flat: ClassVar[bool] = True
    unordered: ClassVar[bool] = False

    shape: tuple[int, ...]
    variables: tuple[Variable, ...]
    layout: Literal["vector", "image"] = "vector"
    # (channels, height, width) of an image: the last C H W variables, in this order
    grid: tuple[int, int, int] | None = None
    blocks: tuple[Block, ...] = ()  # whose cells are the last variables, in this order

    def __post_init__(self) -> None:
        if self.layout not in ("vector", "image"):
            raise ValueError(
                f"A flat row has the layout 'vector' or 'image', not {self.layout!r}: rows of any "
                "length need a Block."
            )

    @property
    def pixels(self) -> int:
        """How many of the variables, the last ones, are the pixels of a picture."""
        return 0 if self.grid is None else math.prod(self.grid)

    @property
    def behind(self) -> tuple[Block, ...]:
        """The blocks behind the columns."""
        if self.grid is None:
            return self.blocks
        return (Block("picture", "image", self.grid, self.variables[-1:]),)

    @property
    def columns(self) -> int:
        """How many of the variables, the first ones, are columns."""
        behind = sum(len(block.laid.cells(block)) for block in self.behind)
        return len(self.variables) - behind

    def without_first(self) -> "Space":
        """The space of rows that lack the first variable."""
        size = len(self.variables) - 1
        return Space((size,), self.variables[1:], "vector", self.grid, self.blocks)

    def unknown(self, rows: int) -> Event:
        """So many rows of which nothing is known."""
        nothing = torch.zeros(rows, *self.shape, dtype=torch.bool)
        return Event(nothing.double(), nothing)

    def check(self, event: Event) -> Event:
        """The event with missing cells zeroed; ValueError names the variable of the first
        impossible cell."""
        if tuple(event.value.shape[1:]) != self.shape:
            raise ValueError(
                f"Expected rows of shape {self.shape}, got {tuple(event.value.shape[1:])}."
            )
        mask = event.mask
        if mask.shape != event.value.shape:
            raise ValueError(
                f"observed has shape {tuple(mask.shape)}, value {tuple(event.value.shape)}: they "
                "must agree."
            )
        value = torch.where(mask, event.value, torch.zeros_like(event.value))
        value = value.double()
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{self._name(~torch.isfinite(value))!r} has a value that is not finite; mark "
                "missing cells in observed."
            )
        codes = torch.tensor([v.cardinality if v.discrete else 0 for v in self.variables])
        cells = value.reshape(value.shape[0], math.prod(self.shape))
        wrong = (codes > 0) & ((cells < 0) | (cells >= codes) | (cells != cells.round()))
        if wrong.any():
            name = self._name(wrong)
            code = cells[wrong][0].item()
            top = self._variable(wrong).cardinality - 1
            raise ValueError(
                f"{name!r} has the code {code:g}; its codes are whole numbers from 0 to {top}."
            )
        return event._replace(value=value, observed=None if event.observed is None else mask)

    def _variable(self, wrong: Tensor) -> Variable:
        column = int(wrong.reshape(wrong.shape[0], math.prod(self.shape)).any(0).nonzero()[0])
        return self.variables[
            column if len(self.variables) > 1 else 0
        ]  # one entry may stand for all positions

    def _name(self, wrong: Tensor) -> str:
        return self._variable(wrong).name


def space_of_rows(variables: tuple[Variable, ...], behind: tuple[Block, ...]) -> Space:
    """The space of rows whose last variables are the cells of the blocks ``behind``."""
    shape = (len(variables),)
    if len(behind) != 1 or behind[0].ragged:
        return Space(shape, variables, blocks=behind)
    (channels, height, width) = behind[0].shape
    alone = channels * height * width == len(variables)
    return Space(shape, variables, "image" if alone else "vector", (channels, height, width))


@dataclasses.dataclass(frozen=True, slots=True)
class PairSpace:
    """The space of a joint's events."""

    y: Space
    x: Any  # a Space, a Block, or a RecordSpace

    def check(self, event: Pair) -> Pair:
        if event.y.rows != event.x.rows:
            raise ValueError(f"y has {event.y.rows} rows, x has {event.x.rows}: they must agree.")
        return Pair(self.y.check(event.y), self.x.check(event.x))

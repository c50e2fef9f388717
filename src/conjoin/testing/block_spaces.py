"""Tiny spaces of blocks whose rows can be listed, of every layout, and of records of them.

What can be listed is listed by the layout itself (``core/layouts.py``); a number becomes a fine
grid, as in ``spaces``. What a question leaves open is compared with the list cell by cell here, and
not by the layouts, so that they are held to it too.

A new layout is a maker in ``_MAKERS``, and a line in ``_QUESTIONS``: what may be asked of its rows.

Shape letters: B rows of a question, G rows of the list, N positions, F features.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core import Block, Event, Record, RecordSpace, Region, Variable, stream

__all__ = [
    "Question",
    "TinyBlocks",
    "agreeing",
    "bins_of",
    "block_names",
    "events_of",
    "same_rows",
    "tiny_blocks",
    "with_junk",
]

ROWS = 96
QUESTION_ROWS = 3  # rows of a question
GRID_HALF_WIDTH = 7.0  # how far a number's grid goes to both sides, in its units
GRID_STEP = 0.25  # of the grid
HIDDEN_SHARE = 0.12  # of the blocks and columns of the rows of a fit
BINS = 6  # of a number, where draws are counted
CLASS = Block("label", "vector", (1,), (Variable("label", "category", 2),))


class Question(NamedTuple):
    """Rows of which something is not known. ``ordered``: in each block what is known comes
    first."""

    name: str
    event: Any
    ordered: bool


@dataclass(frozen=True)
class TinyBlocks:
    """A space of blocks, all its rows, the logarithm of what each stands for (0 of what has mass,
    the volume of a cell of the grid of a number), and rows to fit: which of the list they are, how
    they are known, and a label that goes with them."""

    name: str
    space: Any  # a Block, or a RecordSpace
    every: Any
    log_weight: Tensor
    index: Tensor
    label: Tensor
    gaps: Any = field(repr=False)  # the rows, some of them known in part

    @property
    def is_record(self) -> bool:
        """Whether a row is a record of named blocks."""
        return isinstance(self.every, Record)

    @property
    def rows(self) -> Any:
        """The rows to fit, nothing missing."""
        return self.every.take(self.index)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.space.blocks if self.is_record else (self.space,)

    @property
    def has_mass(self) -> bool:
        """Whether a row has probability mass rather than density."""
        return all(block.has_mass for block in self.blocks)

    def questions(self) -> list[Question]:
        """Rows of the list with each block in turn known in part, the others known or not."""
        rows = self.rows.take(slice(0, QUESTION_ROWS))
        if not self.is_record:
            return [Question(*each) for each in _asked(self.space, rows) if each[0] != "known"]
        return list(_of_records(self.blocks, rows))

    def nothing(self, rows: int) -> Any:
        """So many rows of which nothing is known."""
        unknown = {block.name: block.unknown(rows) for block in self.blocks}
        return Record(unknown) if self.is_record else unknown[self.space.name]

    def log_known(self, rows: Any) -> Tensor:
        """(B,) the logarithm of the volume of the cells of the grid of the numbers that are
        known."""
        count = torch.zeros(rows.rows).double()
        named = {block.name: block for block in self.blocks}
        for name, event in events_of(rows).items():
            block = named.get(name, self.space)
            numbers = torch.tensor([not variable.discrete for variable in block.variables])
            if bool(numbers.any()):
                count += (event.known & numbers).flatten(1).sum(1)
        return count * math.log(GRID_STEP)

    def scrambled(self) -> Any:
        """As many rows as there are to fit, drawn from the list without regard to what goes with
        what."""
        drawn = torch.randint(len(self.log_weight), (ROWS,), generator=stream(0, "scrambled"))
        return self.every.take(drawn)

    def boxed(self) -> list[tuple[Any, Tensor]]:
        """Rows of which a vector block is known to lie in a region: with the other blocks known,
        and with nothing known of them; and which rows of the list (G,) lie there."""
        vector = next((block for block in self.blocks if block.columnar), None)
        if vector is None or not self.is_record:
            return []
        region, inside = _box(vector, self.every[vector.name])
        rows = self.rows.take(slice(0, QUESTION_ROWS))
        open_ = vector.unknown(QUESTION_ROWS)._replace(within=region)
        return [
            (rows.updated({vector.name: open_}), inside),
            (Record({vector.name: open_}), inside),
        ]


# ------------------------------------------------------------------------------------- comparisons


def events_of(rows: Any) -> dict[str, Event]:
    """The events of a record by name; of an event alone, it."""
    return dict(rows) if isinstance(rows, Record) else {"": rows}


def same_rows(one: Any, other: Any) -> bool:
    """Whether two answers are the same to the bit: values, what is known, what is there."""
    pairs = zip(events_of(one).values(), events_of(other).values(), strict=True)
    return all(
        torch.equal(left, right)
        for first, second in pairs
        for left, right in zip(_parts(first), _parts(second), strict=True)
    )


def _parts(event: Event) -> tuple[Tensor, Tensor, Tensor]:
    return event.value, event.mask, event.there


def agreeing(space: Any, asked: Any, every: Any) -> Tensor:
    """(B, G) bool: which rows of the list say nothing else than a row of the question."""
    if not isinstance(asked, Record):
        return _agreeing(space, asked, every)
    found = torch.ones(asked.rows, every.rows, dtype=torch.bool)
    for name, event in asked.items():
        found &= _agreeing(space[name], event, every[name])
    return found


def _agreeing(block: Block, asked: Event, every: Event) -> Tensor:
    """Cell by cell: a known value, a known end, what is known to exist."""
    mask, there, value = _wide(block, asked)
    _, every_there, every_value = _wide(block, every)
    known = (mask & there)[:, None]
    same = (value[:, None] == every_value) & every_there
    absent = (mask & ~there)[:, None]
    exists = (~mask & there)[:, None] if asked.present is not None else torch.zeros(1).bool()
    fits = (same | ~known) & (~every_there | ~absent) & (every_there | ~exists)
    return fits.flatten(2).all(2)


def _wide(block: Block, event: Event) -> tuple[Tensor, Tensor, Tensor]:
    """What is known, what is there, and the values, at every position that the block can have:
    behind the last column of an event all is known to be absent."""
    more = block.shape[0] - event.value.shape[1] if block.ragged else 0
    pad = (0, 0) * (event.value.dim() - 2) + (0, more)
    parts = ((event.mask, True), (event.there, False), (event.value, 0))
    mask, there, value = (torch.nn.functional.pad(part, pad, value=fill) for part, fill in parts)
    return mask, there, value


def bins_of(space: Any, rows: Any, every: Any) -> dict[str, Tensor]:
    """(B, C) of each block: the number of the bin of each cell, -1 where there is none. Numbers are
    cut between those of the list."""
    if isinstance(rows, Record):
        return {name: _bins(space[name], event, every[name]) for name, event in rows.items()}
    return {"": _bins(space, rows, every)}


def _bins(block: Block, event: Event, every: Event) -> Tensor:
    _, there, value = _wide(block, event)
    codes = value.long()
    for d, variable in enumerate(block.variables):
        if not variable.discrete:
            cut = torch.bucketize(value[..., d].contiguous(), _edges(every.value[..., d]))
            codes[..., d] = cut
    return torch.where(there, codes, -1).flatten(1)


def _edges(listed: Tensor) -> Tensor:
    """Cuts half way between numbers of the list, as far apart as wanted."""
    points = listed.unique()
    middles = (points[1:] + points[:-1]) / 2
    wanted = torch.linspace(-1.5, 1.5, BINS - 1, dtype=torch.float64)
    return middles[torch.searchsorted(middles, wanted)]


def with_junk(space: Any, rows: Any) -> Any:
    """The same question, with nonsense in the cells that are not known."""
    if isinstance(rows, Record):
        return Record({name: with_junk(space[name], event) for name, event in rows.items()})
    return rows._replace(value=torch.where(rows.known, rows.value, _nonsense(space)))


def _nonsense(block: Block) -> Tensor:
    """What can't be a value: not a number where the dtype has that, else a code out of range."""
    nonsense = math.nan if block.dtype.is_floating_point else 99
    return torch.tensor(nonsense).to(block.dtype)


# --------------------------------------------------------------------------------------- questions


def _hidden(event: Event, cells: Tensor, exists: bool = False) -> Event:
    """The event with (B, *shape) ``cells`` not known; ``exists``: but that they are there."""
    observed = event.mask & ~cells
    if event.present is None:
        return Event(event.value, observed)
    whole = cells.reshape(*event.present.shape, -1).all(-1)
    return Event(event.value, observed, event.present & (~whole | exists))


def _of_vector(event: Event) -> list[tuple[str, Event, bool]]:
    columns = event.value.shape[1]
    place = torch.arange(columns)
    return [
        (f"column {d} missing", _hidden(event, (place == d).expand(event.value.shape)), False)
        for d in range(columns if columns > 1 else 0)
    ]


def _of_image(event: Event) -> list[tuple[str, Event, bool]]:
    cells = math.prod(event.value.shape[1:])
    return [
        (f"pixel {d} missing", _hidden(event, _cell(event, d)), d == cells - 1)
        for d in (0, cells - 1)
    ]


def _cell(event: Event, place: int) -> Tensor:
    cells = torch.zeros_like(event.value, dtype=torch.bool).flatten(1)
    cells[:, place] = True
    return cells.reshape(event.value.shape)


def _of_sequence(event: Event) -> list[tuple[str, Event, bool]]:
    """Beginnings of each length; a string whose end is not known; a gap; a token that exists."""
    place = torch.arange(event.value.shape[1]).expand(event.value.shape)
    beginnings = [
        (f"all behind token {n} missing", _hidden(event, place >= n), True)
        for n in range(1, event.value.shape[1])
    ]
    longest = event.there.sum(1, keepdim=True) - 1
    last = (place == longest) & event.there
    return [
        *beginnings,
        ("whether it ends missing", _hidden(event, ~event.there), True),
        ("the first token missing", _hidden(event, (place == 0) & event.there), False),
        ("the last token known to exist", _hidden(event, last, exists=True), False),
    ]


def _of_points(event: Event) -> list[tuple[str, Event, bool]]:
    place = torch.arange(event.value.shape[1])[:, None].expand(event.value.shape)
    feature = torch.arange(event.value.shape[2]).expand(event.value.shape)
    first = (place == 0) & (feature == 0) & event.there
    return [
        ("the second point missing", _hidden(event, place == 1), True),
        ("a feature of the first point missing", _hidden(event, first), False),
    ]


_QUESTIONS: dict[str, Callable[[Event], list[tuple[str, Event, bool]]]] = {
    "vector": _of_vector,
    "image": _of_image,
    "sequence": _of_sequence,
    "points": _of_points,
}


def _asked(block: Block, event: Event) -> list[tuple[str, Event, bool]]:
    """All known, nothing known, and what the layout may be asked between the two."""
    nothing = ("nothing known", block.unknown(event.rows), True)
    return [("known", event, True), nothing, *_QUESTIONS[block.layout](event)]


def _of_records(blocks: tuple[Block, ...], rows: Record) -> Any:
    """Each block in turn in all its ways, the others known, or nothing known of them."""
    asked = {block.name: _asked(block, rows[block.name]) for block in blocks}
    seen = set()
    for block in blocks:
        for name, others in itertools.product(range(len(asked[block.name])), (0, 1)):
            places = [name if other is block else others for other in blocks]
            chosen = [asked[b.name][place] for b, place in zip(blocks, places, strict=True)]
            words = ", ".join(f"{b.name}: {c[0]}" for b, c in zip(blocks, chosen, strict=True))
            if words in seen or not any(places):
                continue
            seen.add(words)
            events = {b.name: c[1] for b, c in zip(blocks, chosen, strict=True)}
            yield Question(words, Record(events), all(c[2] for c in chosen))


def _box(block: Block, every: Event) -> tuple[Region, Tensor]:
    """A region of the columns, and which rows (G,) lie in it."""
    low = torch.full((len(block.variables),), -torch.inf).double()
    allowed = {}
    inside = torch.ones(every.rows, dtype=torch.bool)
    for d, variable in enumerate(block.variables):
        if variable.discrete:
            allowed[d] = torch.arange(variable.cardinality) != 1
            inside &= allowed[d][every.value[:, d].long()]
        else:
            low[d] = GRID_STEP / 2  # between two points of the grid
            inside &= every.value[:, d] >= low[d]
    return Region(low, torch.full_like(low, torch.inf), allowed), inside


# ------------------------------------------------------------------------------------------ makers


class _Listed(NamedTuple):
    """All rows of a block, the logarithm of what each stands for, and a number of each, by which
    blocks hang together."""

    block: Block
    every: Event
    log_weight: Tensor
    score: Tensor
    near: Tensor  # log p of each row by itself, up to a constant


def _codes(block: Block) -> _Listed:
    every = block.laid.every(block)
    score = torch.randn(every.rows, generator=stream(0, block.name), dtype=torch.float64)
    return _Listed(block, every, torch.zeros(every.rows).double(), score, -0.5 * score**2)


def _grid() -> Tensor:
    return torch.arange(
        -GRID_HALF_WIDTH, GRID_HALF_WIDTH + GRID_STEP / 2, GRID_STEP, dtype=torch.float64
    )


def _number() -> _Listed:
    block = Block("number", "vector", (1,), (Variable("mass", "real"),))
    grid = _grid()
    volume = torch.full_like(grid, math.log(GRID_STEP))
    return _Listed(block, Event(grid[:, None]), volume, grid, -0.5 * grid**2)


ATOM = (Variable("kind", "category", 2), Variable("x", "real"))


def _clouds(centred: bool) -> _Listed:
    """No point, one, or two of a kind and a place each. About the mean one point has no place, and
    two have one: in an orthonormal basis, t / sqrt(2) and -t / sqrt(2)."""
    block = Block("points", "points", (2, 2), ATOM, centred)
    grid = _grid()
    one = torch.zeros(1, 1).double() if centred else grid[:, None]
    two = torch.stack([grid, -grid], 1) / 2**0.5 if centred else torch.cartesian_prod(grid, grid)
    rows = [torch.zeros(1, 2, 2).double()]
    numbers = [0]
    for count, places in ((1, one), (2, two)):
        for kinds in itertools.product((0.0, 1.0), repeat=count):
            value = torch.zeros(len(places), 2, 2).double()
            value[:, :count, 0] = torch.tensor(kinds).double()
            value[:, :count, 1] = places
            rows.append(value)
            numbers.append(count)
    points = torch.tensor(numbers).repeat_interleave(torch.tensor([len(part) for part in rows]))
    value = torch.cat(rows)
    there = torch.arange(2) < points[:, None]
    free = (points - 1).clamp_min(0) if centred else points
    every = Event(value, torch.ones_like(value, dtype=torch.bool), there)
    square = value[..., 1].square().sum(1)
    score = value[..., 0].sum(1) + points
    return _Listed(
        block, every, free * math.log(GRID_STEP), score, -0.5 * (square + score**2) - free
    )


def _letters(capacity: int) -> Block:
    return Block("strings", "sequence", (capacity,), (Variable("letter", "category", 2),))


def _kinds(columns: int) -> Block:
    variables = (Variable("kind", "category", 3), Variable("size", "ordered", 2))
    return Block("columns", "vector", (columns,), variables[:columns])


def _picture(width: int) -> Block:
    return Block("picture", "image", (1, 1, width), (Variable("grey", "ordered", 2),))


_MAKERS: dict[str, Callable[[], list[_Listed]]] = {
    "strings": lambda: [_codes(_letters(3))],
    "points": lambda: [
        _codes(
            Block(
                "points",
                "points",
                (2, 2),
                (Variable("kind", "category", 2), Variable("charge", "ordered", 2)),
            )
        )
    ],
    "points with numbers": lambda: [_clouds(centred=False)],
    "centred points": lambda: [_clouds(centred=True)],
    "picture": lambda: [_codes(Block("picture", "image", (1, 2, 2), _picture(1).variables))],
    "columns and strings": lambda: [_codes(_kinds(2)), _codes(_letters(2))],
    "columns and picture": lambda: [_codes(_kinds(1)), _codes(_picture(3))],
    "number and strings": lambda: [_number(), _codes(_letters(2))],
    "columns, picture and strings": lambda: [
        _codes(_kinds(1)),
        _codes(_picture(2)),
        _codes(_letters(2)),
    ],
}


def block_names() -> list[str]:
    """The tiny spaces of blocks."""
    return list(_MAKERS)


@cache
def tiny_blocks(name: str) -> TinyBlocks:
    """The tiny space ``name``; the same rows every time."""
    parts = _MAKERS[name]()
    sizes = [len(part.score) for part in parts]
    places = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(parts))
    noise = stream(0, f"rows of {name}")
    label = (torch.rand(ROWS, generator=noise) < 0.35).double()
    index = _drawn(parts, places, label, noise)
    log_weight: Any = sum(
        part.log_weight[place] for part, place in zip(parts, places.T, strict=True)
    )
    events = {
        part.block.name: part.every.take(place) for part, place in zip(parts, places.T, strict=True)
    }
    if len(parts) == 1:
        block = parts[0].block
        every: Any = block.check(events[block.name])
        rows = every.take(index)
        return TinyBlocks(name, block, every, log_weight, index, label, rows)
    space = RecordSpace(tuple(part.block for part in parts))
    every = space.check(Record(events))
    gaps = _with_gaps(space, every.take(index), noise)
    return TinyBlocks(name, space, every, log_weight, index, label, gaps)


def _drawn(parts: list[_Listed], places: Tensor, label: Tensor, noise: torch.Generator) -> Tensor:
    """(B,) rows of the list: blocks hang together by their scores, and with the label."""
    scores = [part.score[place] for part, place in zip(parts, places.T, strict=True)]
    together = sum(a * b for a, b in itertools.pairwise(scores)) if len(parts) > 1 else 0.0
    each = zip(parts, places.T, strict=True)
    near = sum(part.near[place] + part.log_weight[place] for part, place in each) + together
    log_p = [near + (1.5 * code - 0.5) * scores[0] for code in (0.0, 1.0)]
    chances = torch.stack(log_p).softmax(1)[label.long()]
    return torch.multinomial(chances, 1, generator=noise)[:, 0]


def _with_gaps(space: RecordSpace, rows: Record, noise: torch.Generator) -> Record:
    """Some columns and some whole blocks of the rows are not known; of no row all."""
    out = {}
    kept = torch.randint(len(space.blocks), (rows.rows,), generator=noise)
    for place, (name, event) in enumerate(rows.items()):
        gone = (torch.rand(rows.rows, generator=noise) < HIDDEN_SHARE) & (kept != place)
        cells = gone.reshape(-1, *(1,) * (event.value.dim() - 1)).expand(event.value.shape)
        if space[name].columnar:
            cells = (
                cells
                | (torch.rand(event.value.shape, generator=noise) < HIDDEN_SHARE)
                & (kept != place)[:, None]
            )
        out[name] = space[name].check(_hidden(event, cells))
    return Record(out)

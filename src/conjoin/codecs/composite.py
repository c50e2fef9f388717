"""Tables of which some columns hold pictures or strings <-> events: the columns, then the cells of
each picture and of each string, all in one row.

    log p(row) = log_prob(event) + log_unseen + log_volume
        (of the columns; a pixel and a character have mass)

A column of pictures is known by its cells: paths of files, ``Picture``, or arrays of grey levels 0
to 255. Files are read when the table is made a frame, whose cells are then pictures. A column of
strings is one that the user says holds "text".

Shape letters: B rows, D columns, P cells of all blocks.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.block_columns import (
    BlockColumn,
    PictureColumn,
    StringColumn,
    known_cells,
)
from conjoin.codecs.image.codec import ImageCodec
from conjoin.codecs.sequence import SHOWN_CHARACTERS
from conjoin.codecs.smiles.column import SmilesColumn
from conjoin.codecs.table import Schema, TableCodec, as_frame, read_table
from conjoin.codecs.table.aside import BESIDE
from conjoin.codecs.table.frame import from_dict, is_named
from conjoin.codecs.table.guess import guess_pictures
from conjoin.codecs.table.native import plain_frame
from conjoin.codecs.table.overrides import missing_of, named_categories, overrides_of
from conjoin.codecs.table.rows import TableRows, filled
from conjoin.codecs.table.words import field_of, inputs_of
from conjoin.codecs.tokens import Words
from conjoin.core import Codec, Encoded, Event, Field, Region, Rows, Space, space_of_rows

__all__ = ["CompositeCodec", "below", "captions_in", "codec_of", "in_folder", "picture_columns"]

JSON = dict[str, Any]
Blanks = Mapping[Any, Sequence[Any]]  # column -> words that mean missing
# what the user says a column is -> what reads such a column
BLOCK_COLUMNS: dict[str, type[BlockColumn]] = {
    kind.type: kind for kind in (PictureColumn, StringColumn, SmilesColumn)
}


MIN_TEXT_SHARE = 0.2  # of the cells of free text that are distinct
MIN_WORDS = 3  # of free text, in the mean
MIN_SENTENCES = 1000  # distinct ones, from which on many may be repeated


def picture_columns(raw: Any, types: Any = None, missing: Any = ()) -> Blanks:
    """The columns of a frame that hold pictures, by what the user says, else by their cells; with
    the words that mean missing there."""
    found = _block_columns(raw, types, missing)
    return {name: blanks for name, (kind, blanks) in found.items() if kind is PictureColumn}


def captions_in(raw: Any, missing: Any = ()) -> list[Any]:
    """The columns of sentences beside pictures that a fit reads as text where nobody says what they
    are."""
    found = _block_columns(raw, None, missing)
    return [name for name, (kind, _) in found.items() if kind is StringColumn]


def _block_columns(
    raw: Any, types: Any, missing: Any
) -> dict[Any, tuple[type[BlockColumn], Sequence[Any]]]:
    """What reads each column that is no plain one, pictures before strings, with the words that
    mean missing there."""
    if not isinstance(raw, pd.DataFrame) or raw.columns.duplicated().any():
        return {}  # what reads tables refuses names that repeat
    names = list(raw.columns)
    asked = _asked_of(types, names)
    blanks = missing_of(missing, names)
    found = {
        name: (_kind_of(raw[name], asked.get(name, {}), blanks.get(name, ())), blanks.get(name, ()))
        for name in names
    }
    order = list(BLOCK_COLUMNS.values())
    captions = _captions(raw, {name: kind for name, (kind, _) in found.items()}, asked)
    found |= {name: (StringColumn, found[name][1]) for name in captions}
    known = [(name, kind, words) for name, (kind, words) in found.items() if kind is not None]
    known.sort(key=lambda each: order.index(each[1]))
    return {name: (kind, words) for name, kind, words in known}


def _asked_of(types: Any, names: Sequence[Any]) -> dict[Any, JSON]:
    """What the user says of columns. A schema sets pictures and strings aside as what reads columns
    alone does: here they are none the less read."""
    asked = overrides_of(types, names)
    return {
        name: {key: value for key, value in own.items() if key not in ("role", "why")}
        if str(own.get("why", "")).endswith(BESIDE)
        else own
        for name, own in asked.items()
    }


def _kind_of(series: Any, asked: JSON, blanks: Any) -> type[BlockColumn] | None:
    """What reads a column; None for a plain one."""
    if asked.get("role") == "set aside":
        return None
    if "type" in asked:
        return BLOCK_COLUMNS.get(asked["type"])
    if not isinstance(series, pd.Series) or pd.api.types.is_numeric_dtype(series.dtype):
        return None
    cells = pd.Series(list(known_cells(series, blanks)), dtype=object) if blanks else series
    if guess_pictures(cells):
        return PictureColumn
    return next((kind for kind in BLOCK_COLUMNS.values() if kind.recognises(cells)), None)


def _captions(raw: pd.DataFrame, kinds: Mapping[Any, Any], asked: Mapping[Any, JSON]) -> list[Any]:
    """The columns of free text that stand beside pictures and nothing else."""
    rest = [name for name, kind in kinds.items() if kind is None]
    alone = PictureColumn in kinds.values() and not any(asked.get(name) for name in rest)
    return rest if alone and all(_is_free_text(raw[name]) for name in rest) else []


def _is_free_text(series: pd.Series) -> bool:
    """Whether cells are sentences, hardly any of which stands twice as often as it would among
    labels."""
    cells = _sentences(series)
    varied = len(set(cells)) >= min(MIN_TEXT_SHARE * len(cells), MIN_SENTENCES)
    return bool(cells) and varied


def _sentences(series: Any) -> list[str]:
    """The cells, if they are some words each in the mean; else none."""
    known = series.dropna().tolist() if isinstance(series, pd.Series) else []
    cells = [cell for cell in known if isinstance(cell, str)]
    words = sum(len(cell.split()) for cell in cells)
    return cells if len(cells) == len(known) and words >= MIN_WORDS * len(cells) else []


def _sentences_as_category(
    raw: pd.DataFrame, found: Mapping[Any, Any], asked: Mapping[Any, JSON], blanks: Blanks
) -> dict[Any, str]:
    """What there is to say of sentences beside pictures that are so few that they are labels."""
    if not any(kind is PictureColumn for kind, _ in found.values()):
        return {}
    rest = [name for name in raw.columns if name not in found and not asked.get(name)]
    known = {
        name: pd.Series(list(known_cells(raw[name], blanks.get(name, ()))), dtype=object)
        for name in rest
    }
    cells = {name: _sentences(each) for name, each in known.items() if not _is_free_text(each)}
    return {
        name: f"Column {name!r} holds {len(set(each)):,} different sentences in {len(each):,} rows "
        f"beside pictures and is modelled as a category; to have it as text, say types={{{name!r}: "
        "{'type': 'text'}}."
        for name, each in cells.items()
        if each
    }


def _format_of_text(name: Any, series: pd.Series) -> tuple[JSON, list[str]]:
    """What sentences are made of: words, where other sentences will hardly have new ones; and what
    keeps them from it, if they are few."""
    strings = series.dropna().tolist()
    if Words.suit(strings):
        return {"format": Words.format}, []
    tidy = [string for string in strings if Words.writes(string)]
    if not tidy or not Words.suit(tidy):
        return {}, []
    first = next(string for string in strings if not Words.writes(string))
    odd = len(strings) - len(tidy)
    several = f"{odd:,} of its strings have" if odd > 1 else "one of its strings has"
    return {}, [
        f"Column {name!r} is read by characters, not by words, which learns slower, as {several} "
        f"other blanks than one between words (such as {first[:SHOWN_CHARACTERS]!r}): tidy them."
    ]


def in_folder(
    frame: pd.DataFrame, folder: str | Path, types: Any = None, missing: Any = ()
) -> pd.DataFrame:
    """A table whose relative paths of pictures are those below a folder.

    Parameters
    ----------
    frame : DataFrame
        The table.
    folder : str or Path
        Where the pictures lie.
    types : dict, Schema, str or Path, optional
        Types of columns, as in the fit.
    missing : list or dict, optional
        Values that mean missing, as in the fit; they are left as they are.

    Returns
    -------
    DataFrame
        A copy, if any path was changed.

    Examples
    --------
    >>> table = pd.DataFrame({"scan": ["a.png", "?"], "age": [3, 4]})
    >>> in_folder(table, "scans", missing="?")["scan"].tolist()
    ['scans/a.png', '?']
    """
    return below(frame, folder, picture_columns(frame, types, missing))


def below(frame: pd.DataFrame, folder: str | Path, pictures: Blanks) -> pd.DataFrame:
    """As ``in_folder``, of the columns ``pictures``, whose words that mean missing are left as they
    are."""
    for name in pictures.keys() & set(frame.columns) if Path(folder) != Path() else ():
        pairs = zip(frame[name], known_cells(frame[name], pictures[name]), strict=True)
        frame = _with(
            frame,
            name,
            [str(Path(folder) / cell) if isinstance(cell, str) else raw for raw, cell in pairs],
        )
    return frame


def _with(frame: pd.DataFrame, name: Any, cells: Sequence[Any]) -> pd.DataFrame:
    """The frame with one column of these cells; its name may be a number."""
    frame = frame.copy()
    frame[name] = pd.Series(cells, frame.index, dtype=object)
    return frame


def codec_of(raw: Any, types: Any, missing: Any, **options: Any) -> tuple[Any, pd.DataFrame]:
    """What reads a table, and the table as a frame."""
    raw, home = _opened(raw, named_categories(types))
    found = _block_columns(raw, types, missing)
    if not found:
        return TableCodec(types, missing, **options), as_frame(raw)
    if options.get("missingness") == "informative":
        raise ValueError(
            "missingness='informative' is not for tables with pictures or strings: add a column "
            "that says what is missing."
        )
    if raw.shape[1] == len(found) == 1:
        raise ValueError(
            f"There is no column beside {', '.join(map(repr, found))}: give strings alone as a "
            "list, and pictures alone in folders that are their labels."
        )
    names = list(raw.columns)
    asked = _asked_of(types, names)
    blanks = missing_of(missing, names)
    typed = [name for name in found if "type" not in asked.get(name, {})]
    few = _sentences_as_category(raw, found, asked, blanks)
    raw = below(raw, home, picture_columns(raw, types, missing))
    blocks = []
    odd: list[str] = []
    for name, (kind, words) in found.items():
        own = asked.pop(name, {})
        if name in typed and kind is StringColumn:
            form, untidy = _format_of_text(name, raw[name])
            own = own | form
            odd += untidy
        block, cells = kind.begin(name, raw[name], own, words)
        blanks.pop(name, None)
        blocks.append(block)
        raw = _with(raw, name, cells)
    codec = CompositeCodec(TableCodec(asked, blanks, **options), blocks)
    assumed = [
        f"Column {name!r} holds free text beside pictures and is modelled as text; to leave it "
        "out, drop it."
        for name in typed
        if found[name][0] is StringColumn
    ]
    codec.assumed = (*assumed, *odd)
    codec.few_sentences = few
    return codec, codec.frame(raw)


def _opened(raw: Any, as_written: Sequence[Any] = ()) -> tuple[Any, Path]:
    """A file's table, or that of a dict, as a frame; and the folder in which its pictures lie."""
    if isinstance(raw, str | Path):
        return read_table(raw, as_written=as_written)[0], Path(raw).parent
    return from_dict(raw) if type(raw) is dict else plain_frame(raw), Path()


class CompositeCodec(Codec):
    """``table`` reads the columns; each of ``blocks`` a column of pictures or strings."""

    most_held = ImageCodec.most_held

    def __init__(self, table: TableCodec, blocks: Sequence[BlockColumn]) -> None:
        self.table = table
        self.blocks = tuple(blocks)
        self.names = [block.name for block in self.blocks]
        self.assumed: tuple[str, ...] = ()  # what was decided about columns unasked
        # words about columns of sentences, which count where those are categories
        self.few_sentences: Mapping[Any, str] = {}

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The word under which such tables are saved; one column of pictures has its own."""
        return "illustrated" if self._one_picture else "record"

    @property
    def several_ways(self) -> bool:  # type: ignore[override]
        """Whether a string can be written in several ways, of which one is asked about."""
        return any(block.several_ways for block in self.blocks)

    @property
    def _one_picture(self) -> bool:
        return [block.type for block in self.blocks] == [PictureColumn.type]

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Tables in which a column holds pictures, or by the user's word strings."""
        raw, _ = _opened(raw)
        return bool(_block_columns(raw, types, missing))

    @classmethod
    def columns_in(cls, raw: Any, types: Any = None, missing: Any = ()) -> list[Any]:
        return list(picture_columns(raw, types, missing))

    @classmethod
    def in_folder(cls, raw: Any, folder: str | Path, types: Any = None, missing: Any = ()) -> Any:
        return in_folder(raw, folder, types, missing)

    @property
    def as_written(self) -> tuple[Any, ...]:
        return self.table.as_written

    def located(self, raw: Any, folder: str | Path) -> Any:
        return below(raw, folder, self._blanks)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        codec, frame = codec_of(
            raw, options.pop("types", None), options.pop("missing", ()), **options
        )
        return codec, TableRows(frame)

    @property
    def _blanks(self) -> Blanks:
        """The columns of pictures, with the words that mean missing there."""
        pictures = [block for block in self.blocks if block.type == PictureColumn.type]
        return {block.name: block.blanks for block in pictures}

    @property
    def bounded(self) -> bool:
        return self.table.bounded

    @bounded.setter
    def bounded(self, value: bool) -> None:
        self.table.bounded = value

    @property
    def many_levels(self) -> bool:
        return self.table.many_levels

    @many_levels.setter
    def many_levels(self, value: bool) -> None:
        self.table.many_levels = value

    @property
    def strict(self) -> bool:
        return self.table.strict

    @strict.setter
    def strict(self, value: bool) -> None:
        self.table.strict = value

    @property
    def owner(self) -> str:
        """Who an error about the number of features speaks of."""
        return self.table.owner

    @owner.setter
    def owner(self, name: str) -> None:
        self.table.owner = name

    def surveyed(self, rows: Rows, weight: Any = None) -> TableRows:
        frame: pd.DataFrame = rows.frame
        columns = self.table.surveyed(TableRows(frame.drop(columns=self.names)), weight).frame
        cells = [columns[name] if name in columns else frame[name] for name in frame]
        return TableRows(pd.concat(cells, axis=1).set_axis(frame.columns, axis=1))

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the schema, scales and levels of the columns, and what the blocks are like."""
        frame = self.frame(raw)
        self.table.fit(TableRows(frame.drop(columns=self.names)), weight)
        for block in self.blocks:
            block.fit(list(frame[block.name]), weight)
        for worked_out in ("space", "parts"):
            self.__dict__.pop(worked_out, None)
        return self

    # ------------------------------------------------------------------ what was learned

    @property
    def schema(self) -> Schema:
        """That of the table; the columns of pictures and strings are its last."""
        blocks = [block.column for block in self.blocks]
        columns = (*self.table.schema.columns, *blocks)
        return dataclasses.replace(self.table.schema, columns=columns)

    @property
    def pictures(self) -> list[Any]:
        """The names of the columns of pictures."""
        return [block.name for block in self.blocks if isinstance(block, PictureColumn)]

    @property
    def columns(self) -> list[Any]:
        """Names of the modelled columns in event order. The last are those of the blocks, whose
        cells go on beyond."""
        return [*self.table.columns, *self.names]

    @property
    def notices(self) -> list[str]:
        return [
            *self.assumed,
            *(
                words
                for name, words in self.few_sentences.items()
                if any(c.name == name and c.type == "category" for c in self.schema.modelled)
            ),
            *self.table.notices,
            *(each for block in self.blocks for each in block.notices),
        ]

    @functools.cached_property
    def space(self) -> Space:
        blocks = tuple(
            dataclasses.replace(block.block, name=name)
            for block, name in zip(self.blocks, self._block_names, strict=True)
        )
        cells = [
            dataclasses.replace(variable, name=f"{block.name} {place}")
            for block in blocks
            for place, variable in enumerate(block.laid.cells(block))
        ]
        return space_of_rows((*self.table.space.variables, *cells), blocks)

    @property
    def _block_names(self) -> list[str]:
        """A name for each block that no other has: names of columns may be 1 and "1"."""
        plain = [str(name) for name in self.names]
        taken = {"columns", *(name for name in plain if plain.count(name) > 1)}
        return [f"{n} ({place})" if n in taken else n for place, n in enumerate(plain)]

    @property
    def gaps(self) -> list[Any]:
        """Columns that had missing cells, which the model does not draw."""
        return self.table.gaps

    @property
    def columnwise(self) -> int:
        return self.table.columnwise

    @functools.cached_property
    def parts(self) -> tuple[slice, ...]:
        sizes = [len(block.laid.cells(block)) for block in self.space.behind]
        ends = [self.columnwise + sum(sizes[: place + 1]) for place in range(len(sizes))]
        starts = [end - size for end, size in zip(ends, sizes, strict=True)]
        behind = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        return slice(0, self.columnwise), *behind

    @property
    def structures(self) -> tuple[Any, ...]:
        """None before the fit: until then no cell has its place."""
        if self.table._schema is None:
            return ()
        pairs = zip(self.blocks, self.parts[1:], strict=True)
        found = (block.structure(part) for block, part in pairs)
        return tuple(each for each in found if each is not None)

    # what is related are the columns of the table

    def behind(self, name: Any) -> list[Any]:
        return self.table.behind(name)

    def after(self, names: Sequence[Any]) -> list[Any]:
        return self.table.after(names)

    def unaskable(self, given: Mapping[Any, Any]) -> str:
        return self.table.unaskable(
            {name: value for name, value in given.items() if name not in self.names}
        )

    def beyond_seen(self, given: Mapping[Any, Any]) -> list[str]:
        return self.table.beyond_seen(
            {name: value for name, value in given.items() if name not in self.names}
        )

    def drawn_outside(self, frame: pd.DataFrame, given: Collection[Any]) -> list[str]:
        return self.table.drawn_outside(frame, given)

    def far_away(self, rows: Rows) -> list[str]:
        frame = rows.frame
        each = [
            words
            for block in self.blocks
            if block.name in frame
            for words in block.far_away(list(frame[block.name]))
        ]
        return [*self.table.far_away(rows), *each]

    def broken(self, rows: Rows) -> list[str]:
        return self.table.broken(rows)

    def told(self, frame: pd.DataFrame) -> tuple[list[Any], pd.DataFrame]:
        names, frame = self.table.told(frame)
        return [*names, *self.names], frame

    def missing_columns(self, rows: Rows) -> list[Any]:
        lost = [name for name in self.names if name not in set(rows.names)]
        return [*self.table.missing_columns(rows), *lost]

    @property
    def size_words(self) -> str:
        return f"{len(self.columns):,} columns"

    @property
    def inputs(self) -> tuple[str, str]:
        return inputs_of(self.schema)

    def fields(self) -> list[Field]:
        return [field_of(column) for column in self.schema.columns]

    def unlike(self, known: Sequence[bool], part: int | None = None) -> str:
        if part is not None and part > len(self.blocks):
            return self.blocks[part - 1 - len(self.blocks)].disagrees
        if part:
            return self.blocks[part - 1].unlike
        if part is None and self._one_picture and known[-1]:
            return "the picture is unlike those held out"
        return self.table.unlike(known)

    # ------------------------------------------------------------------ raw <-> event

    def rows(self, raw: Any) -> TableRows:
        """``raw`` as checked rows, whose cells in the columns of blocks are pictures or strings, or
        None."""
        return raw if isinstance(raw, TableRows) else self.table.readable(self.frame(raw))

    def unread(self, rows: Rows) -> list[str]:
        """Also strings that can't be read to their end."""
        each = [self.table.unread(rows)]
        frame = rows.frame
        for block in self.blocks:
            if block.name in frame:
                each.append(block.unread(list(frame[block.name])))
        return ["; ".join(filter(None, words)) for words in zip(*each, strict=True)]

    def frame(self, raw: Any) -> pd.DataFrame:
        """``raw`` as a checked frame."""
        if isinstance(raw, TableRows):
            return raw.frame
        raw, home = _opened(raw, self.as_written)
        if not isinstance(raw, pd.DataFrame) or not is_named(raw):
            raise TypeError(
                f"The pictures and strings of this model are those of {self._said}: give a table "
                "with names of its columns."
            )
        raw = below(raw, home, self._blanks)
        rest = raw.drop(columns=self.names, errors="ignore")
        checked = self._columns_of(rest)
        for block in self.blocks:
            if block.name in raw:
                checked = _with(checked, block.name, list(block.cells(raw[block.name])))
        return checked[[*raw.columns]]

    @property
    def _said(self) -> str:
        columns = "the column" if len(self.names) == 1 else "the columns"
        return f"{columns} {', '.join(map(repr, self.names))}"

    def _columns_of(self, rest: pd.DataFrame) -> pd.DataFrame:
        if not rest.shape[1]:
            return rest
        return self.table.frame(rest) if self.table._schema else as_frame(rest)

    def encode(self, raw: Any) -> Encoded:
        """Events (B, D + P); a missing picture or string is a row of missing cells."""
        frame = self.frame(raw)
        rest = frame.drop(columns=self.names, errors="ignore")
        rest = rest if rest.shape[1] else rest.reindex(columns=self.table.columns)
        nothing = [None] * len(frame)
        parts = [self.table.encode(TableRows(rest))]
        for block in self.blocks:
            cells = list(frame[block.name]) if block.name in frame else nothing
            parts.append(block.encode(cells))
        return Encoded(
            Event(
                torch.cat([part.event.value for part in parts], 1),
                torch.cat([part.event.mask for part in parts], 1),
            ),
            torch.cat([part.unseen for part in parts], 1),
            torch.stack([part.log_unseen for part in parts]).sum(0),
            torch.stack([part.log_volume for part in parts]).sum(0),
            parts[0].breaks,
            parts[0].unused,
            tuple(one.widened(self.space.shape[0]) for one in parts[0].sums),
        )

    def decoded(self, event: Event) -> pd.DataFrame:
        return self.decode(event.value)

    def decode(self, value: Tensor, observed: Tensor | None = None) -> pd.DataFrame:
        """The rows (B, D + P) as a frame; a picture or string of which a cell is not ``observed``
        is missing."""
        first = self.parts[0]
        seen = observed if observed is None else observed[:, first]
        columns = self.table.decode(value[:, first], seen)
        return self._with_blocks(columns, value, observed)

    def _with_blocks(
        self, frame: pd.DataFrame, value: Tensor, observed: Tensor | None
    ) -> pd.DataFrame:
        """The frame of the columns, and beside them what the blocks decode."""
        for block, part in zip(self.blocks, self.parts[1:], strict=True):
            seen = observed if observed is None else observed[:, part]
            frame = _with(frame, block.name, block.decode(value[:, part], seen))
        return frame

    def unseen_words(self, name: Any, value: Any) -> str:
        found = [block.unseen_words(value) for block in self.blocks if block.name == name]
        return "".join(found)

    @property
    def ranges(self) -> tuple[Tensor, Tensor]:
        """Of the columns; parts of pictures and strings are codes."""
        low, high = self.table.ranges
        rest = len(self.space.variables) - len(low)
        ends = torch.full((rest,), torch.inf, dtype=torch.float64)
        return torch.cat([low, -ends]), torch.cat([high, ends])

    def settle(self, value: Tensor) -> Tensor:
        first = self.parts[0]
        out = value.clone()
        out[:, first] = self.table.settle(value[:, first].double()).to(value.dtype)
        return out

    def drawn(
        self,
        event: Event,
        generator: torch.Generator | None = None,
        given: Mapping[Any, Any] | None = None,
    ) -> pd.DataFrame:
        columns = self.table.drawn(Event(event.value[:, self.parts[0]]), generator, given)
        return self._with_blocks(columns, event.value, None)

    def recount(self, raw: Any, weight: Any = None) -> None:
        self.table.recount(TableRows(self.frame(raw).drop(columns=self.names)), weight)

    def decode_column(self, value: Tensor, place: int) -> Any:
        if place < self.columnwise:
            return self.table.decode_column(value[:, : self.columnwise], place)
        return super().decode_column(value, place)

    def raw(self, rows: Rows) -> pd.DataFrame:
        frame: pd.DataFrame = rows.frame
        return frame

    def confined(self, rows: Rows, event: Event) -> Event:
        """As of the table, whose columns are the first variables."""
        first = self.parts[0]
        columns = event._replace(value=event.value[:, first], observed=event.mask[:, first])
        within = self.table.confined(rows, columns).within
        if within is None:
            return event
        free = torch.full(event.value.shape, torch.inf, dtype=torch.float64)
        low = -free
        high = free.clone()
        low[:, first] = within.low
        high[:, first] = within.high
        return event._replace(within=Region(low, high, within.allowed))

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> TableRows:
        """Of a string its beginning may be known, of a picture a part: what fills it in goes on
        with that."""
        return self.fill_drawn(rows, observed, decoded, None)

    def fill_drawn(
        self, rows: Rows, observed: Tensor, decoded: Any, generator: torch.Generator | None
    ) -> TableRows:
        first, *behind = self.parts
        columns = decoded.drop(columns=self.names)
        table = self.table.fill_drawn(rows, observed[:, first], columns, generator)
        known = torch.cat([observed[:, part].all(1)[:, None] for part in behind], 1).numpy()
        frame = table.frame.copy()
        for block in self.blocks:
            if block.name in frame:
                begun = block.known_in_part(list(frame[block.name]))
                frame[block.name] = frame[block.name].where(~begun, None)
        return TableRows(filled(frame, self.names, known, decoded, self.table.schema))

    # ------------------------------------------------------------------ saving

    def to_json(self) -> JSON:
        blocks = [block.to_json() for block in self.blocks]
        if self._one_picture:
            order = ("name", "size", "blanks", "missing_share")
            kept = {"kind": self.kind} | {key: blocks[0][key] for key in order}
            more = {key: blocks[0][key] for key in ("range", "said") if key in blocks[0]}
            return {**kept, "table": self.table.to_json(), "image": blocks[0]["image"], **more}
        typed = [
            {"type": block.type, **data} for block, data in zip(self.blocks, blocks, strict=True)
        ]
        return {"kind": self.kind, "table": self.table.to_json(), "blocks": typed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        table = TableCodec.from_json(data["table"])
        if "blocks" not in data:
            return cls(table, [PictureColumn.from_json(data)])
        return cls(
            table, [BLOCK_COLUMNS[block["type"]].from_json(block) for block in data["blocks"]]
        )

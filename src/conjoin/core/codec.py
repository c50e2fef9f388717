"""The contract between raw data and events: ``Rows`` are the data as they came, a ``Codec`` turns
them into events and back."""

import abc
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from torch import Tensor

from conjoin.core.event import Event

__all__ = ["Codec", "Encoded", "Field", "OpenSum", "Rows", "as_float"]


def as_float(event: Event) -> Event:
    """The event with its value as float64, for whoever computes with it. Pictures are kept as
    bytes, an eighth of the size, so this is for a batch of them at a time."""
    packed = event.value.dtype == torch.uint8
    return event._replace(value=event.value.double()) if packed else event


class OpenSum(NamedTuple):
    """A known sum of which several parts are missing: sum_d weight_d value_d = rest, where values
    are those of the event; for each of B rows. Rows of which it says nothing have no weight."""

    name: Any  # the column that is the sum
    weight: Tensor  # (B, D) of the missing parts, 0 of all other cells
    rest: Tensor  # (B,) what the missing parts add up to
    slack: Tensor  # (B,) by how much they may miss it
    step: Tensor  # (D,) of the lattice that a part was recorded on, 0 where there is none
    origin: Tensor  # (D,) a value of that lattice
    # (D,) log |d sum / d part|, of numbers with a density; of those with mass the negative log of
    # how many of their values round to one value of the sum
    log_slope: Tensor

    @property
    def open(self) -> Tensor:
        """(B,) bool: the rows that it says something of."""
        return self.weight.ne(0).any(1)

    def take(self, index: Tensor | slice) -> "OpenSum":
        """The rows at ``index``."""
        rows = {part: getattr(self, part)[index] for part in ("weight", "rest", "slack")}
        return self._replace(**rows)

    def widened(self, width: int) -> "OpenSum":
        """With so many variables, of which the new ones are no parts."""
        pad = (0, width - self.weight.shape[1])
        wide = {
            part: torch.nn.functional.pad(getattr(self, part), pad)
            for part in ("weight", "step", "origin", "log_slope")
        }
        return self._replace(**wide)


class Encoded(NamedTuple):
    """What a codec makes of B raw rows.

    Two terms per row go with the event, because both depend on cells that it no longer shows: log
    p(x) in raw units is ``log_prob(event) + log_unseen + log_volume``; the unit-free statistic of
    familiarity leaves ``log_volume`` out."""

    event: Event
    unseen: (
        # (B, D) bool: a value outside what was seen at fit; its cell is masked in the event, or, of
        # a pixel, holds the nearest level
        Tensor
    )
    log_unseen: Tensor  # (B,) log eps for each unseen cell, log(1 - eps) for each other
    # (B,) log |d event / d raw| over the observed density cells, and log p(raw | event) where
    # several raw values share one of the event's
    log_volume: Tensor
    breaks: Tensor | None = None  # (B,) bool: the row breaks a relation between columns
    unused: Tensor | None = None  # (B,) bool: a sum is known that no answer uses
    # what is known of sums whose parts are missing, which the event can't say; in no row do two of
    # them have a missing part in common
    sums: tuple[OpenSum, ...] = ()

    def take(self, index: Tensor | slice) -> "Encoded":
        """The rows at ``index``."""
        told = (self.breaks, self.unused)
        breaks, unused = (None if part is None else part[index] for part in told)
        return Encoded(
            self.event.take(index),
            self.unseen[index],
            self.log_unseen[index],
            self.log_volume[index],
            breaks,
            unused,
            tuple(one.take(index) for one in self.sums),
        )

    @property
    def summed(self) -> Tensor:
        """(B, D) bool: the missing cells of which a sum is known."""
        none = torch.zeros_like(self.unseen)
        return torch.stack([none, *(one.weight.ne(0) for one in self.sums)]).any(0)

    @property
    def filled(self) -> Tensor:
        """(B, D) bool: the cells that have a value, also one that was never seen, or of which a sum
        tells."""
        return self.event.mask | self.unseen | self.summed


class Rows(Protocol):
    """B rows of one kind of data, checked once and held as they came: what fits, splits and
    questions pass on."""

    @property
    def index(self) -> Any:
        """A pandas Index with the label of each row."""
        ...

    @property
    def names(self) -> Sequence[Any]:
        """The columns that are there."""
        ...

    @property
    def frame(self) -> Any:
        """The rows as a DataFrame with one column for each of ``names``; of pictures that is one
        per pixel, so it is asked for only where columns are looked at one by one."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray | slice) -> Self:
        """The rows at these places."""
        ...

    def hashes(self) -> np.ndarray:
        """(B,) uint64: equal for rows of equal content."""
        ...

    def repeat_by_chance(self) -> bool:
        """Whether equal rows may be so by chance, as those of a few columns of few levels are;
        else they are copies."""
        ...


class Field(NamedTuple):
    """One line of the table of what is modelled: words for a reader."""

    name: str
    type: str
    values: str
    unit: str
    missing: str
    role: str


class Codec(abc.ABC):
    """Raw data <-> events, for one kind of data. It owns units and values that were never seen, and
    answers whatever the rest of the package wants to know about its kind."""

    kind: ClassVar[str]
    noun: ClassVar[str] = "row"  # what one row is called
    cells: ClassVar[str] = "recorded cells"  # what a row is made of
    plural: ClassVar[str] = "rows"  # what many of them are
    collection: ClassVar[str] = "table of data"  # what they make up
    per_dimension: ClassVar[bool] = False  # whether bits per dimension are told
    informative: ClassVar[bool] = False  # whether it can model what is missing
    streams: ClassVar[bool] = False  # whether it can be fitted to a table that is read in chunks
    # rows that are held out to choose by, and to calibrate by, at most
    most_held: ClassVar[int | None] = None
    # whether rows of equal content should have equal labels, so that others are told
    one_answer: bool = False
    many_levels: bool = True  # False: few levels, for families to which thousands cost much
    # whether a row can be written in several ways, of which log p counts one: a lower bound
    several_ways: bool = False
    # whether what it reads can be one column of a table, whose other columns are its properties
    stands_beside: bool = False
    bounded: bool = True  # False: no column has bounds, for families that can't keep to them
    strict: bool = False  # True: a cell that can't be read is an error, not a missing cell
    owner: str = "Codec"  # who an error about the shape of X speaks of

    # ------------------------------------------------------------------ recognising, reading

    @classmethod
    @abc.abstractmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Whether ``raw`` is data of this kind. ``types``, ``missing``: what the user says of
        columns."""

    @classmethod
    @abc.abstractmethod
    def begin(cls, raw: Any, **options: Any) -> tuple["Codec", Rows]:
        """A codec for data such as ``raw``, not yet fitted, and ``raw`` as its rows. ``options``:
        types, missing, missingness and measure, as the estimators have them.

        Raises ValueError in one sentence for data that can't be modelled."""

    @classmethod
    def opens(cls, path: Any) -> bool:
        """Whether the file at ``path`` is one that only this kind reads."""
        return False

    @classmethod
    def columns_in(cls, raw: Any, types: Any = None, missing: Any = ()) -> list[Any]:
        """Columns of the table ``raw`` that are no plain cells but data of this kind."""
        return []

    @classmethod
    def in_folder(cls, raw: Any, folder: str | Path, types: Any = None, missing: Any = ()) -> Any:
        """``raw``, where relative paths of files are below ``folder``."""
        return raw

    def located(self, raw: Any, folder: str | Path) -> Any:
        """As ``in_folder``, for rows that the fitted codec is to read."""
        return raw

    @property
    def as_written(self) -> tuple[Any, ...]:
        """The columns of a file whose cells are read as they are written."""
        return ()

    @abc.abstractmethod
    def rows(self, raw: Any) -> Rows:
        """``raw`` as checked rows; rows pass through. ValueError for data of another kind or
        size."""

    # ------------------------------------------------------------------ raw <-> event

    @abc.abstractmethod
    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn scales and levels; ``weight`` (B,) counts each row."""

    @abc.abstractmethod
    def encode(self, raw: Any) -> Encoded:
        """Events of the rows."""

    @abc.abstractmethod
    def decode(self, value: Tensor, observed: Tensor | None = None) -> Any:
        """The rows (B, D) of ``value`` as raw data; cells that are not ``observed`` are missing."""

    def decode_column(self, value: Tensor, place: int) -> Any:
        """One column, a pandas Series, of what ``told`` shows of rows that are whole."""
        return self.rows(self.decode(value)).frame[self.columns[place]]

    def evidence(self, given: Mapping[Any, Any]) -> Event | None:
        """One row of which only what is ``given`` is known; None where columns are asked about one
        by one. ValueError for what can't be."""
        return None

    def unseen_words(self, name: Any, value: Any) -> str:
        """Why a column can't be asked to have a value that was never seen, in a sentence; "" where
        its levels say enough."""
        return ""

    @property
    def ranges(self) -> tuple[Tensor, Tensor] | None:
        """(D,) and (D,): where the variables of draws stay, in event units; None where anything can
        be drawn."""
        return None

    def beyond(self, value: Tensor) -> Tensor:
        """(B,) which rows (B, D) must be drawn again, as what follows from them can't be."""
        return torch.zeros(len(value), dtype=torch.bool)

    def settle(self, value: Tensor) -> Tensor:
        """The nearest rows (B, D) that may be drawn, in event units."""
        return value

    def decoded(self, event: Event) -> Any:
        """Complete rows as raw data."""
        return self.decode(event.value)

    def drawn(
        self,
        event: Event,
        generator: torch.Generator | None = None,
        given: Mapping[Any, Any] | None = None,
    ) -> Any:
        """Complete rows as raw data. Where several raw values share one of the event's, each row
        gets one of them by their frequency, by the generator's noise; ``given``: what was asked of
        columns, which is kept; others that are related to them give way."""
        return self.decoded(event)

    def surveyed(self, rows: Rows, weight: Any = None) -> Rows:
        """Look at all rows of the fit that comes next for how they are to be read, whichever of
        them teach: the rows, in which cells that can't be read are missing. By default they are
        as they came. ``weight`` (B,): rows of weight 0 are none. ValueError for such a cell where
        ``strict`` asks for it."""
        return rows

    def recount(self, raw: Any, weight: Any = None) -> None:
        """Take from these rows, of which some do not teach, how often raw values occur that share
        one of the event's, and what the user should be told of them; by default nothing."""
        return None

    @abc.abstractmethod
    def raw(self, rows: Rows) -> Any:
        """Rows as raw data of the kind that was given at fit, such as a DataFrame or an array."""

    def framed(self, drawn: Any) -> Any:
        """Drawn rows as a frame, among whose rows constraints choose."""
        return self.rows(drawn).frame

    def unframed(self, frame: Any) -> Any:
        """Raw data of such a frame."""
        return self.raw(self.rows(frame))

    @abc.abstractmethod
    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> Rows:
        """The rows, whose missing cells that are not ``observed`` (B, D) come from ``decoded``."""

    def fill_drawn(
        self, rows: Rows, observed: Tensor, decoded: Any, generator: torch.Generator | None
    ) -> Rows:
        """As ``fill``. Where filled cells break a relation with known ones, other values are drawn
        by the generator's noise, or, without one, are the most frequent ones that keep it."""
        return self.fill(rows, observed, decoded)

    def confined(self, rows: Rows, event: Event) -> Event:
        """The event of the rows, with a region for missing cells where known ones leave some values
        only."""
        return event

    # ------------------------------------------------------------------ what was learned

    @property
    @abc.abstractmethod
    def space(self) -> Any:
        """The space of the events."""

    @property
    @abc.abstractmethod
    def schema(self) -> Any:
        """A Schema: what each column means, for whoever names columns."""

    @property
    def columns(self) -> list[Any]:
        """Names of the modelled columns, in event order."""
        return [variable.name for variable in self.space.variables]

    @property
    def labels(self) -> list[Any]:
        """The names of the variables as a reader is told of them, where one is no column as it
        stands in the data."""
        return list(self.columns)

    @property
    def columnwise(self) -> int:
        """How many of the variables, the first ones, are columns that can be asked about, left out
        and named one by one. The others are parts of a whole, such as pixels."""
        return 0

    @property
    def parts(self) -> tuple[slice, ...]:
        """Which variables belong to each block; one block where the data is of one kind."""
        return (slice(0, len(self.space.variables)),)

    @property
    def structures(self) -> tuple[Any, ...]:
        """Which cells of a row write a thing of its own structure, such as a molecule, and how they
        read; nothing where no predictor reads more than cells."""
        return ()

    def broaden(self, raw: Any) -> None:
        """Room for what other rows hold and the fit had not, where there can be such room: for a
        fit that goes on with them."""
        return

    @property
    def broadens(self) -> bool:
        """Whether ``broaden`` makes room for all that rows may hold."""
        return False

    @property
    def wording(self) -> Any:
        """How events of the rows read as texts; None where no predictor reads words."""
        return None

    @property
    def notices(self) -> list[str]:
        """What the user should be told, one sentence each."""
        return []

    @property
    def gaps(self) -> list[Any]:
        """Columns that had missing cells, which the model does not draw."""
        return []

    @property
    def flagged(self) -> bool:
        """Whether columns of their own say that cells are missing."""
        return False

    def behind(self, name: Any) -> list[Any]:
        """Which of ``columns`` must stay as they are, so that this column stays as it is."""
        return [name]

    def after(self, names: Sequence[Any]) -> list[Any]:
        """The other columns that change when these do."""
        return []

    def implied(self, given: Mapping[Any, Any]) -> dict[Any, Any]:
        """What is given of columns, and what follows from it of others. ValueError where it can't
        be."""
        return dict(given)

    def unaskable(self, given: Mapping[Any, Any]) -> str:
        """Why rows can't be drawn for what is given of columns, in a sentence; "" if they can."""
        return ""

    def beyond_seen(self, given: Mapping[Any, Any]) -> list[str]:
        """A sentence for each column that is given a value outside of what the fit has seen, or one
        between the steps of its numbers."""
        return []

    def drawn_outside(self, drawn: Any, given: Collection[Any]) -> list[str]:
        """A sentence about each column, none of which ``given`` asks for, whose drawn values follow
        from others and lie outside of what the fit has seen."""
        return []

    def far_away(self, rows: Rows) -> list[str]:
        """A sentence for each column of which rows hold values far outside of what the fit has
        seen."""
        return []

    def broken(self, rows: Rows) -> list[str]:
        """Of each row which relations between columns it breaks, in words; "" for none."""
        return [""] * len(rows)

    def unread(self, rows: Rows) -> list[str]:
        """Of each row which cells could not be read and count as missing, and which are taken for
        another value, in words; "" for none."""
        return [""] * len(rows)

    def told(self, frame: Any) -> tuple[list[Any], Any]:
        """The variables as a reader is told of them: their names, and a frame that has them."""
        return self.columns, frame

    def missing_columns(self, rows: Rows) -> list[Any]:
        """The modelled columns that the rows do not have; their cells count as missing."""
        known = set(rows.names)
        return [name for name in self.columns if name not in known]

    def extra_columns(self, rows: Rows) -> list[Any]:
        """Columns of the rows that the fit did not have; they are not read."""
        known = {column.name for column in self.schema.columns} | set(self.columns)
        return [name for name in rows.names if name not in known]

    # ------------------------------------------------------------------ words

    @property
    @abc.abstractmethod
    def size_words(self) -> str:
        """What a row consists of, such as "5 columns"."""

    @property
    def x_words(self) -> str:
        """What the answers are read from, such as "5 columns" or "pictures of 8 x 8 pixels"."""
        return self.size_words

    @property
    def too_large(self) -> str:
        """Why rows as large as these can't be learned from in a fit, and what can be done, in a
        sentence; empty where they can."""
        return ""

    @property
    @abc.abstractmethod
    def inputs(self) -> tuple[str, str]:
        """What x is, in a word and in a line: ("columns", "5: ...")."""

    @abc.abstractmethod
    def fields(self) -> list[Field]:
        """A line for each column, or one for all pixels."""

    @final
    def place_of(self, variable: int) -> int:
        """The place among ``columns`` of the column that a variable is a part of."""
        blocks = self.parts[1:]
        before = sum(part.start <= variable for part in blocks)
        return self.columnwise + before - 1 if before else variable

    def unlike(self, known: Sequence[bool], part: int | None = None) -> str:
        """Why a row is unfamiliar, where no column says so. ``known`` (D,): its known cells;
        ``part``: which of ``parts`` is the least familiar, where that is known."""
        return f"the {self.noun} as a whole is unlike those held out"

    def oddest(self, rows: Rows, encoded: Encoded, nats: Tensor) -> list[str]:
        """What of each row is most surprising, in words; nothing where that can't be said.
        ``nats`` (B, N + 1): of its tokens and its end, given what stands before them."""
        return [""] * encoded.event.rows

    def oddest_pairs(self, rows: Rows, encoded: Encoded, pairs: Tensor) -> list[str]:
        """Which points of each row are the most surprising, in words. ``pairs`` (B, N, N, 3): of
        each pair the distance, what is expected, and by how many deviations it is off."""
        return [""] * encoded.event.rows

    # ------------------------------------------------------------------ saving

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All that was learned, in plain JSON types, with the ``kind``: aggregates, no rows."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A fitted codec; ValueError for data that this version does not know."""

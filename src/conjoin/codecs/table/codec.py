"""Tables <-> events: numbers standardised, categories as codes, missing and never-seen values
masked.

    log p(row) = log_prob(event) + log_unseen + log_volume,
    log_volume = -sum over observed density cells of log scale
                 + sum over rare values that share a level of log (rows of it / rows of the level)

Everything that ``encode`` does to a row is a function of that row and of what ``fit`` kept:
aggregates, never a row.

Where columns are related (see ``relations``), a number that follows from others is no variable, and
the end of a bounded difference has the difference as its variable.

Shape letters: B rows, D variables.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from conjoin.codecs.table.cells import (
    Cells,
    Encoding,
    cells_for,
    fit_cells,
    recounted,
    with_late_codes,
)
from conjoin.codecs.table.frame import as_frame, is_named
from conjoin.codecs.table.held_out import Found, found_in, with_later
from conjoin.codecs.table.infer import counted, examine, most_levels
from conjoin.codecs.table.kept_text import told_while_read
from conjoin.codecs.table.later import (
    asked_otherwise,
    asked_rounded,
    named_as_at_fit,
    taken_words,
    tell_bare,
    tell_other_dates,
    tell_truths,
    tell_unlike,
    tell_zones,
    unread_words,
    without_unreadable,
)
from conjoin.codecs.table.overrides import named_categories
from conjoin.codecs.table.read import read_table
from conjoin.codecs.table.reading import gaps_of
from conjoin.codecs.table.relations import Linear, Relations, Settling, Solved
from conjoin.codecs.table.rows import TableRows, filled
from conjoin.codecs.table.schema import RARE, Column, Schema
from conjoin.codecs.table.survey import Survey, survey
from conjoin.codecs.table.values import text_of
from conjoin.codecs.table.words import (
    beyond_words,
    far_words,
    field_of,
    inputs_of,
    outside_words,
)
from conjoin.core import Codec, Encoded, Event, Field, OpenSum, Region, Rows, Space, Variable

__all__ = ["TableCodec"]

JSON = dict[str, Any]
Array = NDArray[Any]

_FORMAT = 1
_FORMAT_RELATED = 2  # of codecs that know relations between columns


class TableCodec(Codec):
    """A table to events of shape (B, D) float64 and back.

    ``types`` and ``missing`` are as in ``inspect``. ``missingness="informative"`` models whether a
    cell is missing, as one more variable per column that had missing cells. ``measure="density"``
    gives every number a density in place of mass."""

    kind = "table"
    informative = True
    streams = True

    def __init__(
        self,
        types: Any = None,
        missing: Any = (),
        missingness: str = "ignorable",
        measure: str = "auto",
    ) -> None:
        self.types = types
        self.missing = missing
        self.missingness = missingness
        self.measure = measure
        self.owner = "TableCodec"
        self._cells: tuple[Cells, ...] = ()
        self._flags: tuple[
            int, ...
        ] = ()  # columns (by their place in _cells) that have a flag, in order
        self._schema: Schema | None = None
        self._relations = Relations((), ())
        self._writers: dict[Any, Cells] = {}
        self._named = True
        self._found: dict[Any, Found] = {}  # what the rows of the fit tell of each column
        self._notices: list[str] = []
        self._survey: Survey | None = None  # of the rows of a fit that is to come

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """True for anything: tables are tried last, and reading refuses what is no table."""
        return True

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        return cls(**options), TableRows(as_frame(raw))

    # ------------------------------------------------------------------ fitting

    def surveyed(self, rows: Rows, weight: Any = None) -> TableRows:
        frame = rows.frame.reset_index(drop=True)
        found = survey(frame, self.types, self.missing, weight=weight)
        if found.odd and self.strict:
            raise ValueError(
                f"strict=True: {found.odd[0]}; correct it, or leave strict out to have it counted "
                "as missing."
            )
        self._survey = found
        return TableRows(found.frame.set_axis(rows.index, axis=0))

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the schema, scales and levels; ``weight`` (B,) counts each row."""
        _choose("missingness", self.missingness, ("ignorable", "informative"))
        _choose("measure", self.measure, ("auto", "density"))
        if isinstance(raw, str | Path):
            raw, read = read_table(raw, as_written=named_categories(self.types))
            self._notices = told_while_read(read)
        else:
            self._notices = []
        checked = isinstance(raw, TableRows)
        self._named = checked or is_named(raw)
        table = raw.frame.reset_index(drop=True) if checked else as_frame(raw)
        surveyed = self._survey or survey(table, self.types, self.missing, weight=weight)
        frame, weights = counted(surveyed.frame if self._survey is None else table, weight)
        found = examine(
            frame,
            weights,
            most_levels=most_levels(float(weights.sum()), self.many_levels),
            surveyed=surveyed,
        )
        self._survey = None
        columns = tuple(map(self._measured, found.schema.columns))
        self._relations = Relations.from_json(found.schema.relations, columns, self._measured)
        told = self._relations.to_json()
        self._schema = dataclasses.replace(found.schema, columns=columns, relations=told)
        self._writers = self._writers_of(self._schema)
        self._cells = tuple(
            fit_cells(self._relations.variable(column), found.tallies[column.name])
            for column in self._schema.modelled
        )
        informative = self.missingness == "informative"
        self._flags = tuple(
            i
            for i, cells in enumerate(self._cells)
            if informative and cells.column.missing_share > 0
        )
        self._found = {
            column.name: found_in(column, frame[column.name], weights)
            for column in self.schema.drawn
        }
        return self

    def _measured(self, column: Column) -> Column:
        """The column with what the options of the codec leave of its mass and bounds."""
        column = column.density() if self.measure == "density" else column
        return column if self.bounded else dataclasses.replace(column, bounds=(None, None))

    # ------------------------------------------------------------------ what was learned

    @property
    def flagged(self) -> bool:
        """Whether columns of their own say that cells are missing."""
        return bool(self._flags)

    @property
    def schema(self) -> Schema:
        if self._schema is None:
            raise ValueError("This TableCodec has not been fitted; call fit first.")
        return self._schema

    @property
    def as_written(self) -> tuple[Any, ...]:
        if self._schema is None:
            return ()
        return tuple(column.name for column in self._schema.columns if column.holds_words)

    @property
    def columns(self) -> list[Any]:
        """The names of the modelled columns, in event order; the flags of missing cells come after
        them."""
        return [column.name for column in self.schema.modelled]

    @property
    def notices(self) -> list[str]:
        """What the user should be told: what is doubtful, what was set aside or assumed, how the
        file was read; the most harmful first."""
        return [*self.schema.notices, *self._notices]

    @property
    def space(self) -> Space:
        variables = [cells.variable for cells in self._fitted()]
        flags = [
            Variable(f"{variables[i].name} is missing", "category", cardinality=2)
            for i in self._flags
        ]
        return Space((len(variables) + len(flags),), (*variables, *flags), "vector")

    @property
    def gaps(self) -> list[Any]:
        """Columns that had missing cells, which the model does not draw."""
        flagged = {self._cells[i].column.name for i in self._flags}
        return [
            column.name
            for column in self.schema.drawn
            if column.missing_share > 0 and column.name not in flagged
        ]

    def _fitted(self) -> tuple[Cells, ...]:
        return self._cells if self.schema else ()

    @property
    def columnwise(self) -> int:
        return len(self._fitted()) + len(self._flags)

    @property
    def size_words(self) -> str:
        count = len(self.columns)
        return f"{count:,} column{'' if count == 1 else 's'}"

    @property
    def inputs(self) -> tuple[str, str]:
        return inputs_of(self.schema)

    def fields(self) -> list[Field]:
        return [field_of(column) for column in self.schema.columns]

    # ------------------------------------------------------------------ related columns

    def behind(self, name: Any) -> list[Any]:
        return self._relations.behind(name)

    def after(self, names: Sequence[Any]) -> list[Any]:
        return self._relations.after(names)

    def implied(self, given: Mapping[Any, Any]) -> dict[Any, Any]:
        return self._relations.implied(given) if self._relations else dict(given)

    def unaskable(self, given: Mapping[Any, Any]) -> str:
        return self._relations.unaskable(given) if self._relations else ""

    def beyond_seen(self, given: Mapping[Any, Any]) -> list[str]:
        columns = {each.name: each for each in self.schema.drawn if each.numeric}
        far = [beyond_words(columns[name], given[name]) for name in given if name in columns]
        other = [asked_otherwise(columns[name], given[name]) for name in given if name in columns]
        cells = {each.column.name: each for each in self._amounts()}
        rounded = [asked_rounded(cells[name], given[name]) for name in given if name in cells]
        return list(filter(None, [*far, *other, *rounded]))

    def drawn_outside(self, frame: pd.DataFrame, given: Collection[Any]) -> list[str]:
        columns = [each for each in self.schema.drawn if each.numeric and not each.modelled]
        found = [
            outside_words(each, frame[each.name]) for each in columns if each.name not in given
        ]
        return list(filter(None, found))

    def far_away(self, rows: Rows) -> list[str]:
        columns = [each for each in self.schema.drawn if each.numeric]
        found = [
            far_words(each, rows.frame[each.name]) for each in columns if each.name in rows.frame
        ]
        return list(filter(None, found))

    def broken(self, rows: Rows) -> list[str]:
        related = self._relations
        return related.why(related.read(rows.frame)) if related else super().broken(rows)

    @property
    def labels(self) -> list[Any]:
        """The names of the variables as a reader is told of them: an end as its difference."""
        ends = self._relations.differences
        names = {name: f"{name} - {one.start}" for name, one in ends.items()}
        return [names.get(name, name) for name in self.columns]

    def told(self, frame: pd.DataFrame) -> tuple[list[Any], pd.DataFrame]:
        """Ends as their differences, and what follows from other cells filled in."""
        if not self._relations:
            return self.columns, frame
        solved = self._relations.solve(self._relations.read(frame))
        ends = self._relations.differences
        labels = dict(zip(self.columns, self.labels, strict=True))
        more = {labels[name]: solved.cells[name] for name in ends} | {
            name: self._writers[name].write(solved.cells[name]).to_numpy()
            for name in solved.where
            if name not in ends
        }
        out = frame.copy()
        for name, cells in more.items():
            out[name] = cells
        return self.labels, out

    def missing_columns(self, rows: Rows) -> list[Any]:
        known = self._relations.reached(rows.names)
        return [name for name in self.columns if name not in known]

    def unlike(self, known: Sequence[bool], part: int | None = None) -> str:
        return "the columns are each plausible, but not together"

    # ------------------------------------------------------------------ raw -> event

    def encode(self, raw: Any) -> Encoded:
        """Events of the rows. Columns go by name (others are ignored, absent ones are missing),
        those of an array by place."""
        frame = self.frame(raw)
        solved = self._relations.solve(self._relations.read(frame)) if self._relations else None
        parts = [self._encode_column(frame, cells, solved) for cells in self._fitted()]
        log_unseen = np.zeros(len(frame))
        log_volume = np.zeros(len(frame))
        if solved is not None:
            log_unseen += solved.log_mass
        for cells, part in zip(self._cells, parts, strict=True):
            if cells.eps:
                log_unseen += np.where(
                    part.unseen,
                    np.log(cells.eps),
                    np.where(part.observed, np.log1p(-cells.eps), 0.0),
                )
            if not cells.variable.has_mass:
                log_volume -= np.where(part.observed, np.log(cells.scale), 0.0)
                if solved is not None:
                    log_volume -= solved.slopes.get(cells.column.name, 0.0)
            if part.log_share is not None:
                log_volume += np.where(part.observed, part.log_share, 0.0)
        parts += [self._encode_flag(frame, self._cells[i]) for i in self._flags]
        none = np.zeros((len(frame), 0)), *np.zeros((2, len(frame), 0), dtype=bool)
        stacked = [np.stack(each, 1) for each in zip(*(part[:3] for part in parts), strict=True)]
        value, observed, unseen = map(torch.from_numpy, stacked or none)
        return Encoded(
            Event(value, observed),
            unseen,
            torch.from_numpy(log_unseen),
            torch.from_numpy(log_volume),
            None if solved is None else torch.from_numpy(solved.breaks),
            *((None, ()) if solved is None else self._open_sums(solved, observed)),
        )

    def _open_sums(
        self, solved: Solved, observed: Tensor
    ) -> tuple[Tensor | None, tuple[OpenSum, ...]]:
        """What is known of sums whose parts are missing, and the rows in which a sum is known that
        can't be used: a part belongs to one sum, and is a variable."""
        ends = self._relations.differences
        places = {name: at for at, name in enumerate(self.columns) if name not in ends}
        free = ~observed.numpy()
        unused = np.zeros(len(free), dtype=bool)
        found = []
        for one in self._relations.sums:
            gaps = one.open_parts(solved.cells)
            at = [places.get(name, -1) for name in one.of]
            apart = np.asarray((free[:, at] | ~gaps).all(1))
            usable = apart & (min(at) >= 0)
            unused |= gaps.any(1) & ~usable
            gaps = gaps & usable.reshape(-1, 1)
            if gaps.any():
                free[:, at] &= ~gaps
                found.append(self._open_sum(one, at, gaps, solved))
        return (torch.from_numpy(unused) if unused.any() else None), tuple(found)

    def _open_sum(self, one: Linear, at: list[int], gaps: Array, solved: Solved) -> OpenSum:
        """``at``: the places of its parts; ``gaps`` (B, J): those that are missing."""
        width = len(self.columns) + len(self._flags)
        parts = [self._cells[place] for place in at]
        rest, slack = one.rest(solved.cells)
        weight = np.zeros((len(gaps), width))
        step, origin, log_slope = np.zeros((3, width))
        for place, part, factor, open_ in zip(at, parts, one.factors, gaps.T, strict=True):
            weight[:, place] = open_ * factor * part.scale
            rest = rest - open_ * factor * part.shift
            step[place] = part.step
            origin[place] = (part.column.offset - part.shift) / part.scale
            size = part.column.resolution
            log_slope[place] = (
                np.log(abs(factor) * part.scale)
                if size is None
                else -np.log(max(1.0, 2 * one.tolerance / (abs(factor) * size)))
            )
        arrays = (weight, rest, slack, step, origin, log_slope)
        return OpenSum(one.name, *map(torch.from_numpy, arrays))

    def _encode_column(self, frame: pd.DataFrame, cells: Cells, solved: Solved | None) -> Encoding:
        name = cells.column.name
        if solved is not None and name in self._relations.differences:
            return cells.encode_plain(solved.cells[name])
        if solved is not None and name in solved.where:
            own = self._encode_column(frame, cells, None)
            more = cells.encode_plain(solved.cells[name])
            where = solved.where[name]
            value, observed, unseen = (
                np.where(where, b, a) for a, b in zip(own[:3], more[:3], strict=True)
            )
            shares = [0.0 if each.log_share is None else each.log_share for each in (more, own)]
            return Encoding(value, observed, unseen, np.where(where, *shares))
        if cells.column.name not in frame.columns:
            return _absent(len(frame))
        return cells.encode(frame[cells.column.name])

    def _encode_flag(self, frame: pd.DataFrame, cells: Cells) -> Encoding:
        """Whether the cell is missing; not known where the whole column is absent, since nobody
        looked."""
        name = cells.column.name
        if name not in frame.columns:
            return _absent(len(frame))
        gone = gaps_of(cells.column, frame[name])
        return Encoding(
            gone.astype("float64"),
            np.ones(len(frame), dtype=bool),
            np.zeros(len(frame), dtype=bool),
        )

    def rows(self, raw: Any) -> TableRows:
        """``raw`` as checked rows; those that are rows already are not checked again. Cells that
        can't be read count as missing, which a warning tells."""
        return raw if isinstance(raw, TableRows) else self.readable(self.frame(raw))

    def readable(self, frame: pd.DataFrame) -> TableRows:
        """A checked frame as rows, of which every cell can be read; warnings tell what was made of
        them."""
        tell_zones(frame, self.schema.columns)
        tell_other_dates(frame, self.schema.columns)
        clear, unread = without_unreadable(frame, self.schema.columns, self.strict)
        tell_unlike(clear, self._amounts())
        tell_truths(clear, self.schema.columns)
        tell_bare(clear, self.schema.columns)
        return TableRows(clear, unread)

    def unread(self, rows: Rows) -> list[str]:
        unread = unread_words(rows.unread, len(rows))  # type: ignore[attr-defined]
        taken = taken_words(rows.frame, self._amounts())
        return ["; ".join(filter(None, both)) for both in zip(unread, taken, strict=True)]

    def _amounts(self) -> list[Cells]:
        """The columns whose cells in a file are those of the model."""
        differences = self._relations.differences  # in the file these are the later moments
        return [cells for cells in self._fitted() if cells.column.name not in differences]

    def frame(self, raw: Any) -> pd.DataFrame:
        """``raw`` as a checked frame; the columns of an array get the names seen at fit, and must
        be as many."""
        if isinstance(raw, TableRows):
            return raw.frame
        names = [column.name for column in self.schema.columns]
        frame = as_frame(raw, as_written=self.as_written)
        by_place = not is_named(raw) or (not self._named and not set(names) & set(frame.columns))
        if not by_place:
            return named_as_at_fit(frame, names)
        if frame.shape[1] != len(names):
            raise ValueError(
                f"X has {frame.shape[1]} features, but {self.owner} is expecting {len(names)} "
                "features as input."
            )
        return frame.set_axis(pd.Index(names, dtype=object), axis=1)

    # ------------------------------------------------------------------ event -> raw

    def decoded(self, event: Event) -> pd.DataFrame:
        return self.decode(event.value)

    def decode(self, value: Tensor, observed: Tensor | None = None) -> pd.DataFrame:
        """The rows (B, D) of ``value`` as a frame of the modelled columns, in the dtypes, steps and
        bounds seen at fit.

        Cells that are not ``observed`` are missing: in columns of whole numbers that makes float64,
        of booleans object. Of rare values that share a level a row gets one by their frequency,
        by noise that is a function of its other cells."""
        return self._decoded(value, observed, None, {})

    def drawn(
        self,
        event: Event,
        generator: torch.Generator | None = None,
        given: Mapping[Any, Any] | None = None,
    ) -> pd.DataFrame:
        return self._decoded(event.value, None, generator, given or {})

    def _decoded(
        self,
        value: Tensor,
        observed: Tensor | None,
        generator: torch.Generator | None,
        given: Mapping[Any, Any],
    ) -> pd.DataFrame:
        values, known = self._numbers_of(value, observed)
        series = [
            self._series(values, known, i, generator, _listed(given.get(cells.column.name)))
            for i, cells in enumerate(self._cells)
        ]
        frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=range(len(values)))
        frame = frame.set_axis(pd.Index(self.columns), axis=1)
        if not self._relations:
            return frame
        uniform = None if generator is None else self._uniform(values, 0, generator)
        return self._put_back(frame, given, uniform)

    def _numbers_of(self, value: Tensor, observed: Tensor | None = None) -> tuple[Array, Array]:
        """(B, D) numbers of rows, and which of them are cells that are known."""
        values = value.detach().to("cpu", torch.float64).numpy()
        known = (
            np.isfinite(values)
            if observed is None
            else np.isfinite(values) & observed.cpu().numpy()
        )
        width = len(self._fitted()) + len(self._flags)
        if values.ndim != 2 or values.shape[1] != width:
            raise ValueError(
                f"Expected rows of {width} values to decode, got the shape {tuple(values.shape)}."
            )
        for place, i in enumerate(self._flags, start=len(self._cells)):
            known[:, i] &= ~(known[:, place] & (values[:, place] > 0.5))
        return values, known

    def _series(
        self,
        values: Array,
        known: Array,
        i: int,
        generator: torch.Generator | None = None,
        asked: Sequence[Any] = (),
    ) -> Any:
        """The raw column ``i`` of rows (B, D)."""
        cells = self._fitted()[i]
        if not cells.pools:
            return cells.decode(values[:, i], known[:, i])
        uniform = self._uniform(values, i, generator)
        return cells.draw(values[:, i], known[:, i], uniform, asked)

    def _put_back(
        self, frame: pd.DataFrame, held: Collection[Any], uniform: Array | None
    ) -> pd.DataFrame:
        """The columns that follow from others, at their places; ``frame`` holds differences."""
        series = {name: frame[name] for name in frame}
        decided = self._relations.decide(frame, self._recorded, held, uniform)
        for name, cells in decided.items():
            series[name] = self._writers[name].write(cells)
        order = [column.name for column in self.schema.drawn]
        return pd.concat([series[name] for name in order], axis=1).set_axis(pd.Index(order), axis=1)

    def _writers_of(self, schema: Schema) -> dict[Any, Cells]:
        """What writes plain cells of each column that takes part in a relation."""
        names = set(self._relations.names)
        found = [each for each in schema.drawn if each.name in names]
        # what follows from others is not cut at its bounds: that would break the relation
        free = {
            name: dataclasses.replace(schema[name], bounds=(None, None))
            for name in self._relations.derived
        }
        return {each.name: cells_for(free.get(each.name, each)) for each in found}

    def _recorded(self, name: Any, cells: Array) -> Array:
        return self._writers[name].recorded(cells)

    @property
    def ranges(self) -> tuple[Tensor, Tensor]:
        ends = [cells.range for cells in self._fitted()] + [(0.0, 1.0)] * len(self._flags)
        low, high = torch.tensor(ends, dtype=torch.float64).reshape(-1, 2).unbind(1)
        return low, high

    def beyond(self, value: Tensor) -> Tensor:
        out = torch.zeros(len(value), dtype=torch.bool)
        if not self._relations or not self._relations.derived or not len(value):
            return out
        cells = self._relations.decide(self._related(value), self._recorded)
        for name in self._relations.derived:
            low, high = self.schema[name].range
            far = cells[name] < (-np.inf if low is None else low)
            far |= cells[name] > (np.inf if high is None else high)
            out |= torch.from_numpy(far)
        return out

    def _related(self, value: Tensor) -> pd.DataFrame:
        """The columns of the relations alone, of whole rows: the others need no decoding where only
        what follows is asked."""
        values, known = self._numbers_of(value)
        places = [i for i, name in enumerate(self.columns) if name in self._relations.names]
        series = {self.columns[i]: self._series(values, known, i) for i in places}
        return pd.DataFrame(series, index=range(len(values)))

    def settle(self, value: Tensor) -> Tensor:
        out = value.clone()
        for place, cells in enumerate(self._fitted()):
            out[:, place] = torch.from_numpy(cells.settle(value[:, place].numpy()))
        return out

    def _uniform(self, values: Array, column: int, generator: torch.Generator | None) -> Array:
        """(B,) numbers between 0 and 1; without a generator a function of each row alone, so that
        no answer about a row depends on its batch."""
        if generator is not None:
            return torch.rand(len(values), generator=generator, dtype=torch.float64).numpy()
        cells = pd.DataFrame(np.nan_to_num(values, nan=-1.0) + 0.0).assign(column=float(column))
        return pd.util.hash_pandas_object(cells, index=False).to_numpy() / 2.0**64

    def recount(self, raw: Any, weight: Any = None) -> None:
        """Take from these rows how often rare values occur that share a level, and what is doubtful
        in them. Nothing else is learned of them, so that values which they alone have stay
        unseen."""
        frame, weights = counted(self.frame(raw).reset_index(drop=True), weight)
        self._cells = tuple(
            recounted(cells, frame[cells.column.name], weights) if cells.pools else cells
            for cells in self._fitted()
        )
        # of an end after a start the cells hold the days between: its column stays as it is
        new = {cells.column.name: cells.column for cells in self._cells if cells.pools}
        columns = [new.get(column.name, column) for column in self.schema.columns]
        told = {
            column.name: self._told_of_all(column, frame[column.name], weights)
            for column in columns
            if column.name in self._found
        }
        self._cells = tuple(
            with_late_codes(cells, told.get(cells.column.name, cells.column))
            if cells.column.numeric and cells.column.name not in self._relations.names
            else cells
            for cells in self._cells
        )
        columns = [told.get(column.name, column) for column in columns]
        self._schema = dataclasses.replace(self.schema, columns=tuple(columns))
        self._writers = self._writers_of(self._schema)

    def _told_of_all(self, column: Column, series: Any, weights: Array) -> Column:
        """The column with what all of its cells tell, not only those that teach."""
        before = self._found[column.name]
        now = found_in(column, series, weights, before.codes)
        return with_later(column, before, now)

    def decode_column(self, value: Tensor, place: int) -> Any:
        if self._flags:
            return super().decode_column(value, place)
        values = value.detach().to("cpu", torch.float64).numpy()
        return self._series(values, np.isfinite(values), place)

    def raw(self, rows: Rows) -> pd.DataFrame:
        frame: pd.DataFrame = rows.frame
        return frame

    def confined(self, rows: Rows, event: Event) -> Event:
        if not self._relations.derived_levels:
            return event
        left = self._relations.keys_left(self._relations.read(rows.frame))
        allowed = {
            self.columns.index(name): self._codes_left(name, keys)
            for name, keys in left.items()
            if name in self.columns and not self.schema[name].numeric
        }
        if not allowed:
            return event
        free = torch.full(event.value.shape, torch.inf, dtype=torch.float64)
        return event._replace(within=Region(-free, free, allowed))

    def _codes_left(self, name: Any, keys: Sequence[frozenset[str] | None]) -> Tensor:
        """(B, K) bool: the levels that a cell may have, where these are the values."""
        column = self.schema[name]
        codes = {text_of(level): code for code, level in enumerate(column.levels)}
        codes |= {text_of(value): codes[RARE] for value in column.pooled if RARE in codes}
        out = torch.zeros(len(keys), len(column.levels), dtype=torch.bool)
        for row, texts in enumerate(keys):
            found = [codes[text] for text in texts or () if text in codes]
            out[row, found or slice(None)] = True
        return out

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> TableRows:
        return self.fill_drawn(rows, observed, decoded, None)

    def fill_drawn(
        self, rows: Rows, observed: Tensor, decoded: Any, generator: torch.Generator | None
    ) -> TableRows:
        if not self._relations:
            seen = observed.numpy()
            return TableRows(filled(rows.frame, self.columns, seen, decoded, self.schema))
        # a cell that follows from others is observed in the event, and may be missing in the row
        columns = [column.name for column in self.schema.drawn]
        nothing = np.zeros((len(rows), len(columns)), dtype=bool)
        frame = filled(rows.frame, columns, nothing, decoded, self.schema)
        uniform = None if generator is None else self._uniform(nothing, 0, generator)
        return TableRows(self._settled(rows.frame, frame, decoded, uniform))

    def _settled(
        self,
        before: pd.DataFrame,
        frame: pd.DataFrame,
        decoded: pd.DataFrame,
        uniform: Array | None,
    ) -> pd.DataFrame:
        """The filled rows, whose filled cells keep the relations with those known before."""
        plain = self._relations.read(frame)
        gaps = {
            name: pd.isna(cells) & ~pd.isna(plain[name])
            for name, cells in self._relations.read(before).items()
        }
        how = Settling(self._relations.read(decoded), self._recorded, uniform)
        changed = self._relations.settle(plain, gaps, how)
        for name, cells in changed.items():
            new = self._writers[name].write(cells).set_axis(frame.index)
            frame[name] = frame[name].where(~gaps[name], new)
        return frame

    # ------------------------------------------------------------------ saving

    def to_json(self) -> JSON:
        """All that was learned, in plain JSON types: aggregates, no rows."""
        scales = [cells.to_json() for cells in self._fitted()]
        options = {
            "missingness": self.missingness,
            "measure": self.measure,
            "named": self._named,
            "owner": self.owner,
        }
        options |= {"strict": True} if self.strict else {}
        return {
            "format": _FORMAT_RELATED if self._relations else _FORMAT,
            **options,
            "flags": list(self._flags),
            "scales": scales,
            "schema": self.schema.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A fitted codec; ValueError for a format that this version does not know."""
        if data.get("format") not in (_FORMAT, _FORMAT_RELATED):
            raise ValueError(
                f"This codec was saved in format {data.get('format')!r}; this version of conjoin "
                f"reads the formats {_FORMAT} and {_FORMAT_RELATED}."
            )
        codec = cls(missingness=data["missingness"], measure=data["measure"])
        codec.owner = data["owner"]
        codec.strict = bool(data.get("strict", False))
        codec._named = data["named"]
        codec._flags = tuple(data["flags"])
        codec._schema = Schema.from_json(data["schema"])
        columns = codec._schema.modelled
        codec._relations = Relations.from_json(codec._schema.relations, codec._schema.columns)
        codec._cells = tuple(
            cells_for(codec._relations.variable(column), **scales)
            for column, scales in zip(columns, data["scales"], strict=True)
        )
        codec._writers = codec._writers_of(codec._schema)
        return codec


def _listed(asked: Any) -> Sequence[Any]:
    """What was asked of a column, as levels."""
    if asked is None or isinstance(asked, tuple):
        return ()
    return list(asked) if isinstance(asked, list | set) else [asked]


def _absent(rows: int) -> Encoding:
    nothing = np.zeros(rows, dtype=bool)
    return Encoding(np.zeros(rows), nothing, nothing)


def _choose(option: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(
            f"{option}={value!r} is not known; choose from {', '.join(map(repr, choices))}."
        )

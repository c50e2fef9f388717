"""Strings <-> events: one token for each character that the fit has seen, unless bytes or merged
bytes are asked for (see ``conjoin.codecs.tokens``).

A list of strings becomes rows of at most N tokens, where N leaves room beyond the longest string of
the fit, and each row knows its end. A string that is None is not known. A character that was never
seen ends what is known of a string: the model can't say what follows it. log p is that of the
string; it has mass, so there is no unit to convert.

Shape letters: B strings, N capacity, V tokens.
"""

import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.table.schema import Column, Schema
from conjoin.codecs.tokens import Characters, Tokens, tokens_from_json
from conjoin.codecs.wording import Wording
from conjoin.core import Block, Codec, Encoded, Event, Field, Rows, Variable
from conjoin.core.warnings import ColumnWarning

__all__ = ["ONE_WAY", "Prefix", "SequenceCodec", "StringRows"]

UNSEEN_PROBABILITY = 1e-6  # of a character that the fit never saw
SHOWN_CHARACTERS = 60  # of a string in a message
MAX_CELLS = 1 << 29  # of all strings together, each as long as the longest may be
# of tokens in which a string can be written in several ways
ONE_WAY = "log p is that of one way of writing a string in its tokens, which is a lower bound."


class Prefix(str):
    """The beginning of a string, whose continuation is asked for.

    >>> Prefix("a do")
    'a do'
    """


@dataclass(frozen=True)
class StringRows:
    """``strings`` (B,), None where one is not known; ``name`` of their column."""

    strings: tuple[str | None, ...]
    index: Any
    name: Any = "text"

    @property
    def names(self) -> Sequence[Any]:
        return [self.name]

    @property
    def frame(self) -> pd.DataFrame:
        strings = pd.Series(self.strings, self.index, dtype=object)
        return pd.DataFrame({self.name: strings})

    def __len__(self) -> int:
        return len(self.strings)

    def take(self, rows: np.ndarray | slice) -> Self:
        places = range(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows).tolist()
        strings = tuple(self.strings[row] for row in places)
        return type(self)(strings, self.index[rows], self.name)

    def hashes(self) -> np.ndarray:
        found = np.empty(len(self), dtype=np.uint64)
        for row, string in enumerate(self.strings):
            content = b"\0" if string is None else b"\1" + string.encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(content, digest_size=8).digest()
            found[row] = int.from_bytes(digest, "little")
        return found

    def repeat_by_chance(self) -> bool:
        return True


class SequenceCodec(Codec):
    """``tokens``: what strings are made of; ``capacity``: how many of them one may have; ``name``:
    of the column."""

    kind = "sequence"
    noun = "string"
    cells = "characters"
    plural = "strings"
    collection = "set of strings"
    column_type: ClassVar[str] = "category"  # the schema's word for a string

    def __init__(self, characters: Sequence[str] = (), capacity: int = 1) -> None:
        self.tokens: Tokens = Characters(characters)
        self.capacity = capacity
        self.name: Any = "text"
        self.owner = type(self).__name__

    @property
    def characters(self) -> tuple[str, ...]:
        """The tokens, in the order of their codes."""
        return self.tokens.names

    @property
    def several_ways(self) -> bool:  # type: ignore[override]
        """Whether a string can be written in several ways, of which one is asked about."""
        return self.tokens.several

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Lists, arrays and series of strings; None among them is a string that is not known."""
        return cls._claims(raw, types)

    @classmethod
    def _claims(cls, raw: Any, types: Any) -> bool:
        return cls._are_strings(raw)

    @staticmethod
    def _are_strings(raw: Any) -> bool:
        if not isinstance(raw, list | tuple | pd.Series | np.ndarray) or np.ndim(raw) != 1:
            return False
        return any(isinstance(value, str | bytes) for value in raw)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        if options.get("types") is not None:
            raise ValueError(
                "types are those of the columns of a table, and a list of strings has none: leave "
                "types out, or give a table."
            )
        codec = cls()
        return codec, codec.rows(raw)

    def rows(self, raw: Any) -> StringRows:
        if isinstance(raw, StringRows):
            return raw
        if isinstance(raw, pd.DataFrame) and self.name in list(raw.columns):
            raw = raw[self.name]
        if isinstance(raw, str) or not isinstance(raw, list | tuple | pd.Series | np.ndarray):
            raise ValueError(
                f"X must be a list of strings, as at the fit; got {type(raw).__name__}."
            )
        index = raw.index if isinstance(raw, pd.Series) else pd.RangeIndex(len(raw))
        strings = tuple(_string(row, value) for row, value in enumerate(raw))
        return StringRows(strings, index, self.name)

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the tokens, and how long strings are."""
        strings = [string for string in self.rows(raw).strings if string is not None]
        if not strings:
            raise ValueError("No string of the fit is known: there is nothing to learn from.")
        if not any(strings):
            raise ValueError("Every string of the fit is empty: there is nothing to learn from.")
        self.tokens = self._learned(strings)
        longest = max(len(self.tokens.codes(string)) for string in strings)
        self.capacity = int(self.tokens.capacity_factor * longest) + 1
        return self

    def _learned(self, strings: Sequence[str]) -> Tokens:
        return Characters.learned(strings, None)

    # ------------------------------------------------------------------ raw <-> event

    def encode(self, raw: Any) -> Encoded:
        strings = self.rows(raw).strings
        self._refuse_many(strings)
        value = torch.zeros(len(strings), self.capacity, dtype=torch.int64)
        present = torch.zeros(value.shape, dtype=torch.bool)
        observed = torch.ones(value.shape, dtype=torch.bool)
        unseen = torch.zeros(value.shape, dtype=torch.bool)
        for row, string in enumerate(strings):
            if string is None:
                observed[row] = False
                continue
            every = self.tokens.codes(string)
            codes = every[: self.capacity]
            known = codes.index(-1) if -1 in codes else len(codes)
            value[row, :known] = torch.tensor(codes[:known], dtype=torch.int64)
            present[row, :known] = True
            if known < len(every):  # a character that was never seen, or one too many
                place = min(known, self.capacity - 1)
                observed[row, place:] = False
                present[row, place:] = False
                unseen[row, place] = True
        log_unseen = unseen.any(1).double() * float(np.log(UNSEEN_PROBABILITY))
        volume = torch.zeros(len(strings), dtype=torch.float64)
        return Encoded(Event(value, observed, present), unseen, log_unseen, volume)

    def _refuse_many(self, strings: Sequence[str | None]) -> None:
        """ValueError where the longest string makes all of them too much for the memory."""
        if len(strings) * self.capacity <= MAX_CELLS:
            return
        length, row = max((len(string or ""), row) for row, string in enumerate(strings))
        raise ValueError(
            f"{len(strings):,} strings of up to {self.capacity:,} {self.tokens.word} are more than "
            f"{MAX_CELLS:,} in all; the longest, row {row}, has {length:,} characters: cut long "
            "strings into parts, or give fewer."
        )

    def evidence(self, given: Mapping[Any, Any]) -> Event:
        """A string, or with ``Prefix`` the beginning of one."""
        if list(given) != [self.name] or not isinstance(given[self.name], str):
            name = repr(self.name)
            raise ValueError(
                f"given of strings is {{{name}: a string}}, or {{{name}: Prefix(its beginning)}}; "
                f"got {dict(given)!r}."
            )
        text = given[self.name]
        encoded = self.encode([text])
        if bool(encoded.unseen.any()):
            raise ValueError(self.unseen_words(f"the {self.name} ", text))
        event = encoded.event
        if not isinstance(text, Prefix):
            return event
        if self.several_ways:
            warnings.warn(
                f"The beginning {text[:SHOWN_CHARACTERS]!r} is continued behind its own tokens: "
                "strings that would write it in others are left out, so draws are approximate.",
                ColumnWarning,
                stacklevel=4,
            )
        return event._replace(observed=event.present)

    def unseen_words(self, name: Any, value: Any) -> str:
        return f"given asks for {name}{self.unread_words(value)}."

    def unread_words(self, value: Any) -> str:
        """A string that can't be read to its end, and why."""
        return (
            f"{value[:SHOWN_CHARACTERS]!r}; the model knows strings of at most {self.capacity} of "
            f"the {self.tokens.word} {self.tokens.shown!r}; {self.odd_words(value)}"
        )

    def odd_words(self, value: Any) -> str:
        """Why a string can't be read to its end."""
        codes = self.tokens.codes(value)
        known = codes[: codes.index(-1)] if -1 in codes else codes
        if len(known) < len(codes):
            rest = self.unread_rest(value, known)
            return self.tokens.unread(value) or f"{rest!r} begins with what it has not seen"
        return f"this one has {len(codes):,}"

    def oddest(self, rows: Rows, encoded: Encoded, nats: Tensor) -> list[str]:
        """What was never seen, else the piece with the most nats and what is odd beside it."""
        lengths = encoded.event.there.sum(1).tolist()
        codes = encoded.event.value.tolist()
        unseen = encoded.unseen.any(1).tolist()
        out = []
        for row, text in enumerate(self.rows(rows).strings):
            known = codes[row][: lengths[row]]
            if unseen[row] and text is not None:
                rest = self.unread_rest(text, known)
                out.append(f"{rest!r} begins with what was never seen")
                continue
            odd = _oddest(self.tokens.pieces(known, nats[row].tolist()))
            out.append(f"its most surprising part is {odd!r}" if odd else "")
        return out

    def unread_rest(self, text: str, known: Sequence[int]) -> str:
        """What of a string stands behind its known tokens: its first characters."""
        return text[len(self.tokens.text(known)) :][:SHOWN_CHARACTERS]

    def decode(self, value: Tensor, observed: Tensor | None = None) -> list[str]:
        return [self.tokens.text(row) for row in value.tolist()]

    def decoded(self, event: Event, held: Collection[Any] = ()) -> list[str]:
        return [
            self.tokens.text(
                [code for code, is_there in zip(codes, exist, strict=True) if is_there]
            )
            for codes, exist in zip(event.value.tolist(), event.there.tolist(), strict=True)
        ]

    def raw(self, rows: Rows) -> list[str | None]:
        return list(self.rows(rows).strings)

    def fill(self, rows: Rows, observed: Tensor, decoded: Any) -> StringRows:
        """Strings that are not known come from ``decoded``; others stay as they are."""
        old = self.rows(rows)
        new = self.rows(decoded).strings
        pairs = zip(old.strings, new, strict=True)
        return StringRows(tuple(n if o is None else o for o, n in pairs), old.index, self.name)

    # ------------------------------------------------------------------ what was learned

    @property
    def space(self) -> Block:
        count = max(1, len(self.characters))
        letter = Variable("character", "category", cardinality=count, pieces=self.tokens.alone)
        return Block(str(self.name), "sequence", (self.capacity,), (letter,))

    @property
    def wording(self) -> Wording:
        return Wording(self.tokens)

    @property
    def schema(self) -> Schema:
        return Schema((Column(self.name, self.column_type, levels=self.characters),))

    @property
    def columns(self) -> list[Any]:
        return [self.name]

    @property
    def notices(self) -> list[str]:
        told = [
            f"The data are strings of {self._count_words}; they may have up to "
            f"{self.capacity} of them."
        ]
        return [*told, ONE_WAY] if self.several_ways else told

    @property
    def size_words(self) -> str:
        return f"strings of {self._count_words}"

    @property
    def _count_words(self) -> str:
        return f"{len(self.characters):,} {self.tokens.word}"

    @property
    def inputs(self) -> tuple[str, str]:
        return "strings", f"{self._count_words}, at most {self.capacity} in a string"

    def fields(self) -> list[Field]:
        return [
            Field(self.name, "string", self.tokens.shown[:SHOWN_CHARACTERS], "–", "–", "modelled")
        ]

    # ------------------------------------------------------------------ saving

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            **self.tokens.to_json(),
            "capacity": self.capacity,
            "owner": self.owner,
            **self._more_json(),
        }

    def _more_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls((), data["capacity"])
        codec.tokens = tokens_from_json(data)
        codec.owner = data["owner"]
        codec.name = data.get("name", "text")
        codec._restore()
        return codec

    def _restore(self) -> None:
        """What follows from that."""


def _string(row: int, value: Any) -> str | None:
    """One string; None, NaN and pandas' NA are one that is not known."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    raise ValueError(f"Row {row} is {value!r}; X must hold strings, or None.")


def _oddest(pieces: Sequence[tuple[str, float]]) -> str:
    """The piece with the most nats, with those beside it that have at least half as many."""
    if not pieces:
        return ""
    nats = np.nan_to_num([own for _, own in pieces])
    low = int(nats.argmax())
    high = low
    while low and 2 * nats[low - 1] >= nats.max():
        low -= 1
    while high + 1 < len(nats) and 2 * nats[high + 1] >= nats.max():
        high += 1
    return "".join(text for text, _ in pieces[low : high + 1])[:SHOWN_CHARACTERS]

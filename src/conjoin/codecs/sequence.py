"""Strings of characters <-> events: one token for each character that the fit has seen.

A list of strings becomes rows of at most N tokens, where N leaves room beyond the longest string of
the fit, and each row knows its end. A string that is None is not known. A character that was never
seen ends what is known of a string: the model can't say what follows it. log p is that of the
string; it has mass, so there is no unit to convert.

Shape letters: B strings, N capacity, V characters.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Block, Codec, Encoded, Event, Field, Rows, Variable

__all__ = ["Prefix", "SequenceCodec", "StringRows"]

CAPACITY_FACTOR = 1.25  # times the longest string of the fit: as long as a string may be
UNSEEN_PROBABILITY = 1e-6  # of a character that the fit never saw
SHOWN_CHARACTERS = 60  # of a string in a message


class Prefix(str):
    """The beginning of a string, whose continuation is asked for.

    >>> Prefix("a do")
    'a do'
    """


@dataclass(frozen=True)
class StringRows:
    """``strings`` (B,), None where one is not known."""

    strings: tuple[str | None, ...]
    index: Any

    @property
    def names(self) -> Sequence[str]:
        return ["text"]

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"text": pd.Series(self.strings, self.index, dtype=object)})

    def __len__(self) -> int:
        return len(self.strings)

    def take(self, rows: np.ndarray | slice) -> Self:
        places = range(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows).tolist()
        return type(self)(tuple(self.strings[row] for row in places), self.index[rows])

    def hashes(self) -> np.ndarray:
        found = np.empty(len(self), dtype=np.uint64)
        for row, string in enumerate(self.strings):
            content = b"\0" if string is None else b"\1" + string.encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(content, digest_size=8).digest()
            found[row] = int.from_bytes(digest, "little")
        return found


class SequenceCodec(Codec):
    """``characters``: those of the fit, in order; ``capacity``: how long a string may be."""

    kind = "sequence"
    noun = "string"
    cells = "characters"
    plural = "strings"
    collection = "set of strings"

    def __init__(self, characters: Sequence[str] = (), capacity: int = 1) -> None:
        self.characters = tuple(characters)
        self.capacity = capacity
        self.code = {character: code for code, character in enumerate(self.characters)}
        self.owner = "SequenceCodec"

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        """Lists, arrays and series of strings; None among them is a string that is not known."""
        if not isinstance(raw, list | tuple | pd.Series | np.ndarray) or np.ndim(raw) != 1:
            return False
        values = [value for value in raw if value is not None]
        return bool(values) and all(isinstance(value, str) for value in values)

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
        if isinstance(raw, pd.DataFrame) and list(raw.columns) == ["text"]:
            raw = raw["text"]
        if isinstance(raw, str) or not isinstance(raw, list | tuple | pd.Series | np.ndarray):
            raise ValueError(
                f"X must be a list of strings, as at the fit; got {type(raw).__name__}."
            )
        index = raw.index if isinstance(raw, pd.Series) else pd.RangeIndex(len(raw))
        return StringRows(tuple(_string(row, value) for row, value in enumerate(raw)), index)

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the characters, and how long strings are."""
        strings = [string for string in self.rows(raw).strings if string is not None]
        if not strings:
            raise ValueError("No string of the fit is known: there is nothing to learn from.")
        characters = sorted(set().union(*strings)) or [" "]
        longest = max(len(string) for string in strings)
        owner = self.owner
        self.__init__(characters, int(CAPACITY_FACTOR * longest) + 1)  # type: ignore[misc]
        self.owner = owner
        return self

    # ------------------------------------------------------------------ raw <-> event

    def encode(self, raw: Any) -> Encoded:
        strings = self.rows(raw).strings
        value = torch.zeros(len(strings), self.capacity, dtype=torch.int64)
        present = torch.zeros(value.shape, dtype=torch.bool)
        observed = torch.ones(value.shape, dtype=torch.bool)
        unseen = torch.zeros(value.shape, dtype=torch.bool)
        for row, string in enumerate(strings):
            if string is None:
                observed[row] = False
                continue
            codes = [self.code.get(character, -1) for character in string[: self.capacity]]
            known = codes.index(-1) if -1 in codes else len(codes)
            value[row, :known] = torch.tensor(codes[:known], dtype=torch.int64)
            present[row, :known] = True
            if known < len(string):  # a character that was never seen, or one too many
                place = min(known, self.capacity - 1)
                observed[row, place:] = False
                present[row, place:] = False
                unseen[row, place] = True
        log_unseen = unseen.any(1).double() * float(np.log(UNSEEN_PROBABILITY))
        volume = torch.zeros(len(strings), dtype=torch.float64)
        return Encoded(Event(value, observed, present), unseen, log_unseen, volume)

    def evidence(self, given: Mapping[Any, Any]) -> Event:
        """A string, or with ``Prefix`` the beginning of one."""
        if list(given) != ["text"] or not isinstance(given["text"], str):
            raise ValueError(
                "given of strings is {'text': a string}, or {'text': Prefix(its beginning)}; "
                f"got {dict(given)!r}."
            )
        text = given["text"]
        encoded = self.encode([text])
        if bool(encoded.unseen.any()):
            raise ValueError(self.unseen_words("the text ", text))
        event = encoded.event
        if not isinstance(text, Prefix):
            return event
        return event._replace(observed=event.present)

    def unseen_words(self, name: Any, value: Any) -> str:
        return (
            f"given asks for {name}{value[:SHOWN_CHARACTERS]!r}; the model knows strings of at "
            f"most {self.capacity} of the characters {''.join(self.characters)!r}."
        )

    def decode(self, value: Tensor, observed: Tensor | None = None) -> list[str]:
        return ["".join(self.characters[code] for code in row) for row in value.tolist()]

    def decoded(self, event: Event, held: Collection[Any] = ()) -> list[str]:
        return [
            "".join(
                self.characters[code] for code, there in zip(codes, exist, strict=True) if there
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
        return StringRows(tuple(n if o is None else o for o, n in pairs), old.index)

    # ------------------------------------------------------------------ what was learned

    @property
    def space(self) -> Block:
        letter = Variable("character", "category", cardinality=max(1, len(self.characters)))
        return Block("text", "sequence", (self.capacity,), (letter,))

    @property
    def schema(self) -> Schema:
        return Schema((Column("text", "category", levels=self.characters),))

    @property
    def columns(self) -> list[Any]:
        return ["text"]

    @property
    def notices(self) -> list[str]:
        return [
            f"The data are strings of {len(self.characters)} characters; they may have up to "
            f"{self.capacity} of them."
        ]

    @property
    def size_words(self) -> str:
        return f"strings of {len(self.characters)} characters"

    @property
    def inputs(self) -> tuple[str, str]:
        return "strings", f"{len(self.characters)} characters, at most {self.capacity} in a string"

    def fields(self) -> list[Field]:
        shown = "".join(self.characters)[:SHOWN_CHARACTERS]
        return [Field("text", "string", shown, "–", "–", "modelled")]

    # ------------------------------------------------------------------ saving

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "characters": "".join(self.characters),
            "capacity": self.capacity,
            "owner": self.owner,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(tuple(data["characters"]), data["capacity"])
        codec.owner = data["owner"]
        return codec


def _string(row: int, value: Any) -> str | None:
    """One string; None, NaN and pandas' NA are one that is not known."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    raise ValueError(f"Row {row} is {value!r}; X must hold strings, or None.")

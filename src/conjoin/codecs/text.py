"""Text <-> events: strings of characters, bytes or merged bytes, as a list or as the one column of
a table.

A list of strings is a set of ``sequence``; it is text where the user says so, and what it is made
of: ``types={"text": "text"}``, ``types={"text": {"type": "text", "format": "tokens 512"}}``. A
table of documents and their labels becomes text where its only column beside the labels is said to
be.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd

from conjoin.codecs.sequence import SequenceCodec
from conjoin.codecs.table.overrides import overrides_of
from conjoin.codecs.table.schema import Schema
from conjoin.codecs.tokens import Bytes, Characters, Tokenizer, Tokens, read_format
from conjoin.core import Codec, Rows

__all__ = ["TextCodec"]


class TextCodec(SequenceCodec):
    """``format``: what strings are made of, as the user says it."""

    kind = "text"
    noun = "text"
    plural = "texts"
    collection = "set of texts"
    column_type = "text"

    def __init__(self, characters: Sequence[str] = (), capacity: int = 1) -> None:
        super().__init__(characters, capacity)
        self.format: Any = Characters.format

    @classmethod
    def with_tokenizer(cls, folder: str | Path, capacity: int) -> Self:
        """A fitted codec with the tokenizer of a pretrained model, for strings of at most
        ``capacity`` tokens."""
        if capacity < 1:
            raise ValueError(f"capacity must be a number of tokens, at least 1, got {capacity!r}.")
        codec = cls((), capacity)
        codec.tokens = Tokenizer.in_folder(folder)
        codec.format = Tokenizer.format
        return codec

    @classmethod
    def in_bytes(cls, capacity: int) -> Self:
        """A fitted codec of the bytes of UTF-8, for strings of at most ``capacity`` of them."""
        if capacity < 1:
            raise ValueError(f"capacity must be a number of bytes, at least 1, got {capacity!r}.")
        codec = cls((), capacity)
        codec.tokens = Bytes()
        codec.format = Bytes.format
        return codec

    @classmethod
    def _claims(cls, raw: Any, types: Any) -> bool:
        """What the user says is text: the only column of a table, or a list of strings."""
        if isinstance(raw, pd.DataFrame):
            return raw.shape[1] == 1 and _asked(raw.columns[0], types).get("type") == "text"
        return cls._are_strings(raw) and _asked("text", types).get("type") == "text"

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, Rows]:
        codec = cls()
        if isinstance(raw, pd.DataFrame):
            codec.name = raw.columns[0]
        asked = _asked(codec.name, options.get("types"))
        codec.format = asked.get("format") or Characters.format
        read_format(codec.format, f"Column {codec.name!r}")
        return codec, codec.rows(raw)

    def _learned(self, strings: Sequence[str]) -> Tokens:
        kind, wanted = read_format(self.format, f"Column {self.name!r}")
        return kind.learned(strings, wanted)

    def _more_json(self) -> dict[str, Any]:
        return {"format": self.tokens.format, "name": self.name}

    def _restore(self) -> None:
        self.format = self.tokens.format


def _asked(name: Any, types: Any) -> dict[str, Any]:
    """What the user says of the column; nothing where types are of others."""
    if isinstance(types, str | Path):
        types = Schema.load(types)
    columns = types.columns if isinstance(types, Schema) else ()
    known = list(types) if isinstance(types, Mapping) else [column.name for column in columns]
    return dict(overrides_of(types, known).get(name, {})) if name in known else {}

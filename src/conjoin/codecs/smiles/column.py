"""A column of SMILES strings: molecules, as tokens.

Each is read by rdkit and written in its canonical form, so that one molecule is one string. log p
of a string is that of its one way to be cut into tokens (see ``conjoin.chemistry.tokens``),
which is less than that of the string where merges could cut it in several ways: a lower bound.
With the format "atoms" there is one way, and log p of the string is exact.

Shape letters: B rows, N capacity of the block.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.chemistry.tokens import UNKNOWN, Vocabulary, pieces
from conjoin.codecs.block_columns import BlockColumn, known_cells
from conjoin.codecs.sequence import UNSEEN_PROBABILITY, Prefix
from conjoin.codecs.smiles.chemistry import randomised, rdkit, read_smiles
from conjoin.codecs.smiles.surprise import nats_of_atoms, oddest_part
from conjoin.codecs.table import Column
from conjoin.codecs.table.guess import guess_smiles
from conjoin.codecs.table.overrides import missing_of, overrides_of
from conjoin.core import Block, Encoded, Event, Variable

__all__ = ["Molecules", "SmilesColumn", "SmilesFormat", "broken_rows"]

JSON = dict[str, Any]
FORMATS = "canonical, randomised, atoms, skip broken, tokens=N"
MIN_MOLECULES_FOR_MERGES = (
    8_000  # under which there are atoms alone: few strings teach too little of merges
)
TOKENS_OF_FEW_MOLECULES = 256
TOKENS_OF_MANY_MOLECULES = 512
MAX_TOKENS = 1_024
MANY_MOLECULES = 20_000  # from which on there are TOKENS_OF_MANY_MOLECULES
CAPACITY_FACTOR = 1.25  # times the longest molecule of the fit, in tokens: as long as one may be
SHOWN_BROKEN = 3  # strings that a message names
SHOWN_CHARACTERS = 60  # of a string in a message
_ISOTOPE = re.compile(r"\[\d+[A-Za-z]")


@dataclass(frozen=True)
class SmilesFormat:
    """How strings are read and cut, as the user says it in the column's ``format``.

    Attributes
    ----------
    randomised
        Whether the atoms of each molecule are written in an order by chance.
    tokens
        How many; 0: pieces as they are written, without merges. None: by the number of molecules.
    skips
        Whether a string that is no molecule is left out; otherwise it is an error of the fit.
    """

    randomised: bool = False
    tokens: int | None = None
    skips: bool = False

    @classmethod
    def of(cls, words: str | None, where: str) -> Self:
        """ValueError for a word that is unknown."""
        asked = [word.strip() for word in (words or "").split(",") if word.strip()]
        count: int | None = None
        for word in asked:
            name, _, number = word.partition("=")
            if name == "tokens" and number.isdigit() and 0 < int(number) <= MAX_TOKENS:
                count = int(number)
            elif word not in ("canonical", "randomised", "atoms", "skip broken"):
                raise ValueError(
                    f"{where}: {word!r} is no format of SMILES; choose from {FORMATS} (N at most "
                    f"{MAX_TOKENS:,}), several with commas between them."
                )
        return cls("randomised" in asked, 0 if "atoms" in asked else count, "skip broken" in asked)

    def size(self, molecules: int) -> int:
        """The number of tokens for so many molecules."""
        if self.tokens is not None:
            return self.tokens
        if molecules < MIN_MOLECULES_FOR_MERGES:
            return 0
        return TOKENS_OF_FEW_MOLECULES if molecules < MANY_MOLECULES else TOKENS_OF_MANY_MOLECULES


@dataclass(frozen=True)
class Molecules:
    """Where the tokens of a molecule stand among the cells of a row, and how they read."""

    name: Any
    cells: slice
    vocabulary: Vocabulary

    def strings(self, value: Tensor) -> list[str]:
        """(B,) SMILES of rows (B, D), of unknown validity."""
        end = len(self.vocabulary.texts)
        codes = value[:, self.cells].long().numpy()
        return [self.vocabulary.text(row[: _length(row, end)].tolist()) for row in codes]

    def lengths(self, value: Tensor) -> np.ndarray:
        """(B,) the number of tokens of each row."""
        codes = value[:, self.cells].long().numpy()
        return np.asarray((codes < len(self.vocabulary.texts)).sum(1))

    def by_atoms(
        self, value: Tensor, nats: Tensor, texts: Sequence[str | None]
    ) -> list[tuple[str, np.ndarray] | None]:
        """The string of each molecule and (A,) the nats of its atoms, from those of its tokens (B,
        N + 1); None where rdkit reads none. ``texts``: as the strings were given, None for one
        that is not known."""
        codes = value[:, self.cells].long().tolist()
        out: list[tuple[str, np.ndarray] | None] = []
        for row, (text, own) in enumerate(zip(texts, self.strings(value), strict=True)):
            written = text if UNKNOWN in own else own
            length = _length(np.array(codes[row]), len(self.vocabulary.texts))
            each = nats[row, :length].tolist()
            found = (
                None
                if text is None or written is None
                else nats_of_atoms(written, codes[row][:length], each, self.vocabulary)
            )
            out.append(None if found is None or written is None else (written, found))
        return out

    def oddest(self, value: Tensor, nats: Tensor, texts: Sequence[str | None]) -> list[str]:
        """Of each molecule, in words, what was never seen, else its most surprising part; nothing
        where that can't be said."""
        known = set(self.vocabulary.texts)
        out = []
        for text, own in zip(texts, self.by_atoms(value, nats, texts), strict=True):
            new = [] if text is None else [each for each in pieces(text) if each not in known]
            if new:
                out.append(f"{' and '.join(dict.fromkeys(new))} was never seen")
            else:
                part = "" if own is None else oddest_part(*own)
                out.append(f"its most surprising part is {part}" if part else "")
        return out

    def to_json(self) -> JSON:
        span = [self.cells.start, self.cells.stop]
        return {"name": self.name, "cells": span, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["name"], slice(*data["cells"]), Vocabulary.from_json(data["vocabulary"]))


def _length(codes: np.ndarray, end: int) -> int:
    ends = np.flatnonzero(codes >= end)
    return int(ends[0]) if len(ends) else len(codes)


class SmilesColumn(BlockColumn):
    """A cell is a SMILES string; an empty one is missing."""

    type = "smiles"

    def __init__(self, name: Any, form: str = "", blanks: Any = ()) -> None:
        super().__init__(name, blanks)
        self.form = form
        self.how = SmilesFormat.of(form, f"Column {name!r}")
        self.vocabulary = Vocabulary(())
        self.capacity = 1
        self.said: list[str] = []

    @classmethod
    def begin(cls, name: Any, series: Any, asked: JSON, blanks: Any) -> tuple[Self, list[Any]]:
        """ValueError names the first strings that are no molecules, and what rdkit says."""
        rdkit()
        column = cls(name, asked.get("format") or "", blanks)
        cells, broken = column._read(series)
        if broken and not column.how.skips:
            raise ValueError(
                f"{column._broken(broken)} Mend or remove "
                f"{'it' if len(broken) == 1 else 'them'}, or leave broken strings out by "
                f"types={{{name!r}: {{'type': 'smiles', 'format': 'skip broken'}}}}."
            )
        if broken:
            column.said.append(f"{column._broken(broken)} They count as missing.")
        column.said += _of_all(name, cells)
        return column, cells

    @classmethod
    def recognises(cls, series: Any) -> bool:
        return guess_smiles(series)

    def cells(self, series: Any) -> Iterator[str | None]:
        cells, broken = self._read(series)
        if broken:
            words = f"{self._broken(broken)} There nothing is known of the molecule."
            warnings.warn(words, UserWarning, stacklevel=2)
        yield from cells

    def _read(self, series: Any) -> tuple[list[Any], dict[int, tuple[str, str]]]:
        """The canonical strings, and of those that are broken place, string and reason."""
        out: list[Any] = []
        broken: dict[int, tuple[str, str]] = {}
        for row, cell in enumerate(known_cells(series, self.blanks)):
            if cell is None or isinstance(cell, Prefix):
                out.append(cell)
                continue
            if not isinstance(cell, str):
                raise ValueError(
                    f"Column {self.name!r}, row {row}: {cell!r} is no string, as its type 'smiles' "
                    "wants; turn the column into strings, or give it another type."
                )
            found = read_smiles(cell)
            if found.canonical is None:
                broken[row] = (cell, found.why)
            out.append(found.canonical)
        return out, broken

    def _broken(self, broken: Mapping[int, tuple[str, str]]) -> str:
        shown = [
            f"row {row}, {text[:SHOWN_CHARACTERS]!r} ({why})"
            for row, (text, why) in list(broken.items())[:SHOWN_BROKEN]
        ]
        more = len(broken) - len(shown)
        rest = f", and {more:,} more" if more else ""
        count = "a string is" if len(broken) == 1 else f"{len(broken):,} strings are"
        return f"Column {self.name!r}: {count} no molecule: {'; '.join(shown)}{rest}."

    def known_in_part(self, cells: Sequence[Any]) -> np.ndarray:
        return np.array([isinstance(cell, Prefix) for cell in cells], dtype=bool)

    def fit(self, cells: Sequence[Any], weight: Any) -> None:
        super().fit(cells, weight)
        strings = [self._written(cell) for cell in cells if cell is not None]
        if not strings:
            raise ValueError(f"Column {self.name!r} has no molecule at all: leave it out.")
        self.vocabulary = Vocabulary.learn(strings, self.how.size(len(strings)))
        longest = max(map(len, self.vocabulary.encode(strings)))
        self.capacity = int(CAPACITY_FACTOR * longest) + 1

    def broaden(self, cells: Sequence[Any]) -> None:
        """Room for other molecules, for a fit that goes on with them: their atoms get tokens of
        their own behind those that there are."""
        strings = [self._written(cell) for cell in cells if cell is not None]
        self.vocabulary = self.vocabulary.broadened(strings)
        longest = max(map(len, self.vocabulary.encode(strings)), default=0)
        self.capacity = max(self.capacity, int(CAPACITY_FACTOR * longest) + 1)
        self.said = _of_all(self.name, cells)

    def _written(self, cell: str) -> str:
        """A canonical string as it is modelled: one molecule is always written in one way."""
        if not self.how.randomised or isinstance(cell, Prefix):
            return cell
        return randomised(cell, int.from_bytes(cell.encode()[-8:], "little"))

    @property
    def block(self) -> Block:
        token = Variable("token", "category", cardinality=len(self.vocabulary.texts))
        return Block(str(self.name), "sequence", (self.capacity,), (token,))

    def encode(self, cells: Sequence[Any]) -> Encoded:
        """Codes of the tokens, and the code behind them where a string has ended. A token that was
        never seen is ``UNKNOWN``, and marked as unseen."""
        rows = len(cells)
        value = torch.zeros(rows, self.capacity, dtype=torch.int64)
        present = torch.zeros(value.shape, dtype=torch.bool)
        observed = torch.zeros(value.shape, dtype=torch.bool)
        unseen = torch.zeros(value.shape, dtype=torch.bool)
        known = [row for row, cell in enumerate(cells) if cell is not None]
        found = self.vocabulary.encode([self._written(cells[row]) for row in known])
        for row, codes in zip(known, found, strict=True):
            length = min(len(codes), self.capacity)
            value[row, :length] = torch.as_tensor(codes[:length])
            present[row, :length] = True
            observed[row] = not isinstance(cells[row], Prefix)
            observed[row, :length] = True
            if len(codes) > length:  # one token too many: its end is not known
                unseen[row, -1] = True
        unseen |= present & (value == self.vocabulary.unknown)
        block = self.block
        event = Event(value, observed, present)
        cell_value, mask = block.laid.flattened(block, event)
        log_unseen = unseen.sum(1).double() * float(np.log(UNSEEN_PROBABILITY))
        nothing = torch.zeros(rows, dtype=torch.float64)
        return Encoded(Event(cell_value, mask), unseen, log_unseen, nothing)

    def decode(self, value: Tensor, observed: Tensor | None) -> list[str | None]:
        """As drawn: a string may be no molecule."""
        strings = Molecules(self.name, slice(None), self.vocabulary).strings(value)
        if observed is None:
            return list(strings)
        known = observed.all(1).tolist()
        return [text if seen else None for text, seen in zip(strings, known, strict=True)]

    @property
    def column(self) -> Column:
        share = self.missing_share
        tokens = self.vocabulary.texts
        form = self.form
        return Column(
            self.name, self.type, levels=tokens, missing_share=share, format=form, dtype="object"
        )

    @property
    def unlike(self) -> str:
        return f"the molecule {self.name} is unlike those held out"

    def unseen_words(self, value: Any) -> str:
        return (
            f"{self.name}={str(value)[:SHOWN_CHARACTERS]!r} has a token that the fit never saw, or "
            f"more than {self.capacity} of them."
        )

    @property
    def several_ways(self) -> bool:
        """Whether log p of a string is that of one of several ways to cut it."""
        return bool(self.vocabulary.merges)

    def structure(self, cells: slice) -> Molecules:
        return Molecules(self.name, cells, self.vocabulary)

    @property
    def notices(self) -> list[str]:
        tokens = len(self.vocabulary.texts)
        words = (
            "log p is that of one way to cut a string into tokens, a lower bound (exact with "
            "format='atoms')"
            if self.several_ways
            else "log p of a string is exact"
        )
        order = "in an order by chance" if self.how.randomised else "in canonical form"
        return [
            f"Column {self.name!r} holds molecules (SMILES), written {order} with {tokens:,} "
            f"tokens, at most {self.capacity} in a molecule; {words}.",
            *self.said,
        ]

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "blanks": list(self.blanks),
            "missing_share": self.missing_share,
            "format": self.form,
            "vocabulary": self.vocabulary.to_json(),
            "capacity": self.capacity,
            "said": self.said,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        column = cls(data["name"], data["format"], data["blanks"])
        column.missing_share = data["missing_share"]
        column.vocabulary = Vocabulary.from_json(data["vocabulary"])
        column.capacity = data["capacity"]
        column.said = list(data["said"])
        return column


def broken_rows(
    frame: pd.DataFrame, types: Any = None, missing: Any = ()
) -> tuple[np.ndarray, list[str]] | None:
    """(B,) the rows in which a column of molecules holds a string that is none, and a sentence for
    each such column; None where no column holds molecules."""
    names = list(frame.columns)
    asked = overrides_of(types, names)
    blanks = missing_of(missing, names)
    found = [name for name in names if _holds_molecules(frame[name], asked.get(name, {}))]
    if not found:
        return None
    gone = np.zeros(len(frame), dtype=bool)
    told = []
    for name in found:
        _, broken = SmilesColumn(name, blanks=blanks.get(name, ()))._read(frame[name])
        gone[list(broken)] = True
        told += [SmilesColumn(name)._broken(broken)] if broken else []
    return gone, told


def _holds_molecules(series: Any, asked: JSON) -> bool:
    if "type" in asked:
        return bool(asked["type"] == SmilesColumn.type)
    return guess_smiles(series)


def _of_all(name: Any, cells: Sequence[Any]) -> list[str]:
    """What a chemist should know of the molecules: salts, isotopes, copies."""
    known = [cell for cell in cells if cell is not None and not isinstance(cell, Prefix)]
    salts = sum("." in cell for cell in known)
    isotopes = sum(_ISOTOPE.search(cell) is not None for cell in known)
    copies = len(known) - len(set(known))
    found = (
        (salts, "have several parts, such as salts, which are kept as they are"),
        (isotopes, "have isotopes, which are kept"),
        (copies, "are copies of others once they are written in canonical form"),
    )
    return [
        f"Column {name!r}: {count:,} of {len(known):,} molecules {words}."
        for count, words in found
        if count
    ]

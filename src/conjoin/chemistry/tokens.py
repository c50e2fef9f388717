r"""Tokens of SMILES: atoms, bonds, branches and rings as they are written, then merges of
neighbours that are learned on the strings of the fit.

The pieces are those of P. Schwaller et al. (2018), "Found in translation": predicting outcomes of
complex organic chemistry reactions using neural sequence-to-sequence models, section 2.2, with ring
closures %(n). Merges: P. Gage (1994), A new algorithm for data compression; R. Sennrich et al.
(2016), Neural machine translation of rare words with subword units, algorithm 1, for SMILES X. Li
and D. Fourches (2021), SMILES pair encoding. A merge joins whole pieces, so that it can't cut Cl or
a bracket. A piece that was never seen becomes the token ``UNKNOWN``.

>>> pieces("C[C@@H](Cl)%10Br")
['C', '[C@@H]', '(', 'Cl', ')', '%10', 'Br']
>>> words = Vocabulary.learn(["CCCl", "CCBr", "CCO"] * 8, size=6)
>>> [words.texts[code] for code in words.encode(["CCCl"])[0]]
['CC', 'Cl']
>>> words.text(words.encode(["CCI"])[0])
'CC[?]'
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

__all__ = ["UNKNOWN", "Vocabulary", "pieces"]

Codes = np.ndarray  # int64
UNKNOWN = "[?]"  # never a molecule: rdkit refuses it
MIN_PAIR_COUNT = 10  # of neighbours that become one token
LEARNING_STRINGS = 10_000  # that merges are learned from, at most
STRINGS_AT_ONCE = 4_000  # that are cut into tokens together
END = -1  # between two strings
_PIECE = re.compile(
    r"\[[^\]]+\]|Br|Cl|%\d{2}|%\(\d+\)|[A-Za-z]|\d|[()=#$:/\\.~*\-+@?>]|.", re.DOTALL
)


def pieces(text: str) -> list[str]:
    """The atoms, bonds, branches and rings of a string; joined they are the string again."""
    return _PIECE.findall(text)


@dataclass(frozen=True)
class Vocabulary:
    """``atoms``: the pieces of the fit; ``merges``: pairs of codes, each of which became a new
    code, in this order; ``later``: pieces that a fit from other strings added."""

    atoms: tuple[str, ...]
    merges: tuple[tuple[int, int], ...] = ()
    later: tuple[str, ...] = ()

    @classmethod
    def learn(cls, strings: Sequence[str], size: int) -> Self:
        """Pieces of all strings, and the most frequent merges until there are ``size`` tokens."""
        cut = [pieces(text) for text in strings]
        atoms = tuple(sorted({piece for each in cut for piece in each}))
        plain = cls(atoms)
        some = cut[:: max(1, -(-len(cut) // LEARNING_STRINGS))]
        return cls(atoms, tuple(_merges(plain._flat(some), len(atoms), size)))

    def broadened(self, strings: Sequence[str]) -> Self:
        """With the pieces of other strings behind all codes, which stay as they are; the code
        "unknown" stays the last."""
        known = {*self.atoms, *self.later}
        new = {piece for text in strings for piece in pieces(text)} - known
        return type(self)(self.atoms, self.merges, (*self.later, *sorted(new)))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each code stands for; the last is ``UNKNOWN``."""
        out = list(self.atoms)
        for left, right in self.merges:
            out.append(out[left] + out[right])
        return (*out, *self.later, UNKNOWN)

    @cached_property
    def _code(self) -> dict[str, int]:
        first = len(self.atoms) + len(self.merges)
        later = {piece: first + place for place, piece in enumerate(self.later)}
        return {piece: code for code, piece in enumerate(self.atoms)} | later

    @property
    def unknown(self) -> int:
        """The code of a piece that was never seen."""
        return len(self.texts) - 1

    def _flat(self, cut: Iterable[Sequence[str]]) -> Codes:
        """The codes of all pieces, and ``END`` behind each string."""
        out: list[int] = []
        for each in cut:
            out += [self._code.get(piece, self.unknown) for piece in each]
            out.append(END)
        return np.array(out, dtype=np.int64)

    def encode(self, strings: Sequence[str]) -> list[Codes]:
        """The codes of each string."""
        out: list[Codes] = []
        for start in range(0, len(strings), STRINGS_AT_ONCE):
            flat = self._flat(map(pieces, strings[start : start + STRINGS_AT_ONCE]))
            for place, (left, right) in enumerate(self.merges):
                flat = _merged(flat, left, right, len(self.atoms) + place)
            out += [part[:-1] for part in np.split(flat, np.flatnonzero(flat == END) + 1)[:-1]]
        return out

    def text(self, codes: Iterable[Any]) -> str:
        """The string of some codes."""
        return "".join(self.texts[code] for code in codes)

    def to_json(self) -> dict[str, Any]:
        later = {"later": list(self.later)} if self.later else {}
        return {
            "atoms": list(self.atoms),
            "merges": [list(pair) for pair in self.merges],
        } | later

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        merges = tuple((int(left), int(right)) for left, right in data["merges"])
        return cls(tuple(data["atoms"]), merges, tuple(data.get("later", ())))


def _merges(flat: Codes, atoms: int, size: int) -> Iterable[tuple[int, int]]:
    """The most frequent pair of neighbours, again and again; of equal ones the first by code."""
    for code in range(atoms, max(atoms, size)):
        left = flat[:-1]
        right = flat[1:]
        inside = (left != END) & (right != END)
        counts = np.bincount(left[inside] * size + right[inside])
        if not len(counts) or counts.max() < MIN_PAIR_COUNT:
            return
        pair = divmod(int(counts.argmax()), size)
        yield pair
        flat = _merged(flat, *pair, code)


def _merged(flat: Codes, left: int, right: int, code: int) -> Codes:
    """The codes with each such pair as one; of a run of equal codes the first two, and so on."""
    places = np.flatnonzero((flat[:-1] == left) & (flat[1:] == right))
    if not len(places):
        return flat
    if left == right:
        places = _apart(places)
    out = flat.copy()
    out[places] = code
    return np.delete(out, places + 1)


def _apart(places: Codes) -> Codes:
    """Every second place of each run of neighbouring ones."""
    starts = np.concatenate([[True], np.diff(places) > 1])
    first = places[np.maximum.accumulate(np.where(starts, np.arange(len(places)), 0))]
    kept: Codes = places[(places - first) % 2 == 0]
    return kept

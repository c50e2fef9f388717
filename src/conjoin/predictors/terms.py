"""Texts as tables of terms: words and pairs of words, or runs of characters inside words.

Terms are known by a hash of so many bits (K. Weinberger et al. (2009), Feature hashing for large
scale multitask learning), so that a saved model holds no word of a text. Each row has sublinear
counts times inverse document frequencies, and length 1, so that long texts weigh no more than short
ones (G. Salton and C. Buckley (1988), Term-weighting approaches in automatic text retrieval).

Shape letters: B texts, V terms.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["READINGS", "Terms", "mean_words"]

BITS = 22  # of a term's hash
SPREADING = 0x9E3779B97F4A7C15  # an odd number near 2^64 over the golden ratio
LONGEST_RUN = 5  # characters, a blank before or behind a word among them
BLANK = 32

Terms_of = Callable[[str], np.ndarray]
_WORD = re.compile(r"\w+")


def _hashed(number: np.ndarray) -> np.ndarray:
    """The first ``BITS`` of the number, spread evenly."""
    return (number * np.uint64(SPREADING) >> np.uint64(64 - BITS)).astype(np.int64)


def _words(text: str) -> np.ndarray:
    """Each word, and each pair of words that follow each other."""
    found = _WORD.findall(text.lower())
    code = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in found]
    one = np.array(code, dtype=np.uint64)
    pairs = one[:-1] * np.uint64(SPREADING) + one[1:]
    return _hashed(np.concatenate([one, pairs]))


def _runs(text: str) -> np.ndarray:
    """Each run of 2 to ``LONGEST_RUN`` characters that has no blank inside."""
    padded = f" {' '.join(text.lower().split())} ".encode("utf-32-le", "surrogatepass")
    code = np.frombuffer(padded, dtype=np.uint32).astype(np.uint64)
    blanks = (code == BLANK).cumsum()
    run = code
    found = []
    for length in range(2, min(LONGEST_RUN, len(code)) + 1):
        run = run[:-1] * np.uint64(SPREADING) + code[length - 1 :]
        inside = blanks[length - 2 : -1] - blanks[: len(run)]
        found.append(run[inside == 0])
    return _hashed(np.concatenate([*found, run[:0]]))


READINGS: dict[str, Terms_of] = {"words": _words, "characters": _runs}


def mean_words(strings: Sequence[str]) -> float:
    """Words of a text, on average."""
    return float(np.mean([len(_WORD.findall(text)) for text in strings])) if strings else 0.0


class Terms(nn.Module):
    """Which terms count, and how much: those that occur in ``least`` texts of the fit.

    Parameters
    ----------
    reading
        A name of ``READINGS``.
    size
        How many terms count.
    """

    kept: Tensor
    rarity: Tensor

    def __init__(self, reading: str, size: int = 0) -> None:
        super().__init__()
        self.reading = reading
        self.register_buffer("kept", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("rarity", torch.ones(size, dtype=torch.float64))

    @classmethod
    def learned(cls, strings: Sequence[str], reading: str, least: int) -> tuple["Terms", Any]:
        """The terms of these texts, and the table (B, V) of the texts."""
        _, term, _ = every = _counted(strings, READINGS[reading])
        texts = np.bincount(term, minlength=1 << BITS)
        kept = np.flatnonzero(texts >= least)
        terms = cls(reading, len(kept))
        terms.kept.copy_(torch.as_tensor(kept))
        rarity = np.log((1 + len(strings)) / (1 + texts[kept])) + 1
        terms.rarity.copy_(torch.as_tensor(rarity))
        return terms, terms._table(*every)

    def table(self, strings: Sequence[str]) -> Any:
        """(B, V) a sparse matrix of rows of length 1; rows of zeros where no term is known."""
        return self._table(*_counted(strings, READINGS[self.reading]))

    def _table(self, ends: np.ndarray, term: np.ndarray, count: np.ndarray) -> Any:
        from scipy import sparse

        kept = self.kept.cpu().numpy()
        place = np.searchsorted(kept, term)
        known = np.append(kept, -1)[place] == term
        row = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))[known]
        value = (1 + np.log(count[known])) * self.rarity.cpu().numpy()[place[known]]
        length = np.sqrt(np.bincount(row, value**2, len(ends)))[row]
        return sparse.csr_matrix((value / length, (row, place[known])), (len(ends), len(kept)))


def _counted(
    strings: Sequence[str], terms_of: Terms_of
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B,) where the terms of each text end; the terms, one after the other, and how often each
    occurs in its text."""
    each = [np.unique(terms_of(text), return_counts=True) for text in strings]
    nothing = np.zeros(0, dtype=np.int64)
    ends = np.cumsum([len(term) for term, _ in each], dtype=np.int64)
    term = np.concatenate([nothing, *(term for term, _ in each)])
    return ends, term, np.concatenate([nothing, *(count for _, count in each)])

"""Yes and no in the words of several languages, as files mix them: "ja", "oui", "TRUE", "1"."""

import html
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from conjoin.codecs.table.values import Tally, text_of

__all__ = ["Answers", "folded", "has_unseen", "mixed_answers"]

# pairs of words for yes and no, a line for each language
_LINES = """
    1/0 true/false t/f yes/no y/n on/off
    ja/nein j/n wahr/falsch
    oui/non o/n vrai/faux
    sí/no si/no s/n verdadero/falso
    sim/não sim/nao verdadeiro/falso
    sì/no vero/falso
    ja/nee waar/onwaar
    ja/nej ja/nei
    kyllä/ei
    tak/nie
    ano/ne da/ne
    igen/nem
    evet/hayır
    да/нет
    так/ні
    ναι/όχι
    はい/いいえ
    是/否
    예/아니요
    نعم/لا
    हाँ/नहीं
"""
_PAIRS = tuple(tuple(pair.split("/")) for pair in _LINES.split())
MAX_SHARE_OF_OTHERS = 0.1  # of the rows, in which a column of yes and no says something else


class Answers(NamedTuple):
    """The spellings of yes and of no, each with the usual one first."""

    yes: tuple[Any, ...]
    no: tuple[Any, ...]

    @property
    def merge(self) -> dict[str, Any]:
        """{text of a spelling: the usual one}."""
        return {text_of(each): side[0] for side in self for each in side[1:]}

    @property
    def spellings(self) -> list[Any]:
        """All of them."""
        return [*self.yes, *self.no]


def folded(word: str) -> str:
    """A word without what spellings of one value often differ in: case, spaces, characters that
    can't be seen, and signs as web pages write them (&amp;)."""
    bare = html.unescape(word) if "&" in word else word
    bare = bare if bare.isascii() else "".join(char for char in bare if not _is_unseen(char))
    return " ".join(unicodedata.normalize("NFKC", bare).casefold().split())


def has_unseen(word: str) -> bool:
    """Whether a word has characters that can't be seen, such as a space of no width."""
    return not word.isascii() and any(map(_is_unseen, word))


def _is_unseen(char: str) -> bool:
    return unicodedata.category(char) == "Cf"


def mixed_answers(tally: Tally) -> Answers | None:
    """The spellings of the two answers of a column that says nearly nothing but yes and no, and one
    of them in several words; else None."""
    rows: dict[str, float] = {}
    spelt: dict[str, list[Any]] = {}
    order = sorted(range(len(tally.values)), key=lambda i: (-tally.counts[i], i))
    for i in order:
        word = folded(text_of(tally.values[i]))
        rows[word] = rows.get(word, 0.0) + float(tally.counts[i])
        spelt.setdefault(word, []).append(tally.values[i])
    sides = [_side(place, rows) for place in (0, 1)]
    counted = sum(rows[word] for side in sides for word in side)
    if not all(sides) or max(map(len, sides)) < 2:
        return None
    if counted < (1 - MAX_SHARE_OF_OTHERS) * sum(rows.values()):
        return None
    usual = _usual(sides, rows)
    ordered = (
        [word, *(each for each in side if each != word)]
        for word, side in zip(usual, sides, strict=True)
    )
    return Answers(*(tuple(each for word in side for each in spelt[word]) for side in ordered))


def _side(place: int, rows: Mapping[str, float]) -> list[str]:
    """The words that say one of the answers, the most frequent first. One letter or digit says it
    only where its counterpart is there too."""
    found = [
        pair[place]
        for pair in _PAIRS
        if pair[place] in rows and (len(pair[place]) > 1 or pair[1 - place] in rows)
    ]
    return sorted(dict.fromkeys(found), key=lambda word: -rows[word])


def _usual(sides: Sequence[Sequence[str]], rows: Mapping[str, float]) -> Sequence[str]:
    """The words of one language that most rows have, where both are there; else the most frequent
    of each side."""
    yes, no = sides
    whole = [pair for pair in _PAIRS if pair[0] in yes and pair[1] in no]
    most = max(whole, key=lambda pair: rows[pair[0]] + rows[pair[1]], default=None)
    return (yes[0], no[0]) if most is None else most

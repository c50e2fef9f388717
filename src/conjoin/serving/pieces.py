"""Tokens that come one by one, as the text that they add.

A token may be part of a character, or may write a blank only where another stands before it: so the
text of a token is what the text of all so far grows by. Tokens that only together write a character
are one piece.
"""

from collections.abc import Sequence

from conjoin.codecs.tokens import BROKEN, Tokens

__all__ = ["Writer", "pieces_of"]

WINDOW = 16  # tokens before a new one that may change how it is written
MOST_IN_CHARACTER = 4  # bytes, and so tokens


class Writer:
    """Writes the tokens behind ``before``.

    Parameters
    ----------
    tokens
        What the codes stand for.
    before
        Codes that are written already.
    """

    def __init__(self, tokens: Tokens, before: Sequence[int] = ()) -> None:
        self._tokens = tokens
        self._codes = list(before)[-WINDOW:]
        self._written = tokens.text(self._codes)
        self._waiting = 0

    def add(self, code: int) -> str | None:
        """What the token adds; None where it is part of a character that is not yet whole."""
        self._codes.append(code)
        self._waiting += 1
        whole = self._tokens.text(self._codes)
        if whole.endswith(BROKEN) and self._waiting < MOST_IN_CHARACTER:
            return None
        return self._released(whole)

    def rest(self) -> str | None:
        """What is left of a character that never became whole; None where nothing waits."""
        return self._released(self._tokens.text(self._codes)) if self._waiting else None

    def _released(self, whole: str) -> str:
        new = whole[len(self._written) :]
        self._waiting = 0
        self._codes = self._codes[-WINDOW:]
        self._written = self._tokens.text(self._codes)
        return new


def pieces_of(
    tokens: Tokens, codes: Sequence[int], nats: Sequence[float]
) -> list[tuple[str, float]]:
    """A text's tokens as they are written one by one, each with its own number; those that only
    together write a character are one piece, with the sum."""
    writer = Writer(tokens)
    out = []
    total = 0.0
    for code, own in zip(codes, nats, strict=True):
        text = writer.add(code)
        total += float(own)
        if text is not None:
            out.append((text, total))
            total = 0.0
    rest = writer.rest()
    return out if rest is None else [*out, (rest, total)]

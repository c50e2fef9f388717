"""How events of strings read as texts, for predictors that see words.

Shape letters: B rows, N tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from conjoin.codecs.tokens import Tokens, tokens_from_json
from conjoin.core import Event

__all__ = ["Wording"]


@dataclass(frozen=True)
class Wording:
    """``tokens``: what the strings are made of."""

    tokens: Tokens

    def strings(self, x: Event) -> list[str]:
        """What is known of each row (B,); nothing of a row of which nothing is known."""
        known = x.known.sum(1).tolist()
        codes = x.value.tolist()
        return [self.tokens.text(row[:end]) for row, end in zip(codes, known, strict=True)]

    def to_json(self) -> dict[str, Any]:
        return {"format": self.tokens.format, **self.tokens.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tokens_from_json(data))

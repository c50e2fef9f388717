r"""All ways to cut a string into tokens: a lattice over its pieces.

    n_j = sum over tokens that end at j of n_i,      q(way) proportional to exp(-c |way|)

Place j stands behind j pieces; an edge from i to j is a token that writes the pieces between them.
n counts the ways, q draws one of them, short ones above all, edge by edge from the end (D. Jurafsky
and J. Martin, Speech and language processing, appendix A, forward filtering, backward sampling).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conjoin.chemistry.tokens import UNKNOWN, Vocabulary, pieces

__all__ = ["Lattice"]

COST_PER_TOKEN = 3.0  # c, in nats


@dataclass(frozen=True)
class Lattice:
    """``edges``: of each place j from 1 on the edges that end there, as (i, code)."""

    edges: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, vocabulary: Vocabulary, text: str) -> "Lattice":
        """A piece that was never seen is the token for it."""
        codes = {token: code for code, token in enumerate(vocabulary.texts[:-1])}
        longest = max((len(pieces(token)) for token in codes), default=1)
        unseen = text.split(UNKNOWN)
        cut = [piece for part in unseen for piece in [*pieces(part), UNKNOWN]][:-1]
        edges = []
        for stop in range(1, len(cut) + 1):
            found = []
            for start in range(max(0, stop - longest), stop):
                code = codes.get("".join(cut[start:stop]))
                if code is not None:
                    found.append((start, code))
            edges.append(tuple(found) or ((stop - 1, vocabulary.unknown),))
        return cls(tuple(edges))

    @property
    def count(self) -> int:
        """How many ways there are."""
        ways = [1]
        for edges in self.edges:
            ways.append(sum(ways[start] for start, _ in edges))
        return ways[-1]

    def every(self) -> Iterator[tuple[int, ...]]:
        """Each way, as its codes."""

        def behind(place: int) -> Iterator[tuple[int, ...]]:
            if not place:
                yield ()
                return
            for start, code in self.edges[place - 1]:
                for before in behind(start):
                    yield (*before, code)

        yield from behind(len(self.edges))

    def drawn(
        self, count: int, random: np.random.Generator
    ) -> tuple[list[tuple[int, ...]], np.ndarray]:
        """Ways by chance, and (count,) log q of each."""
        total = [0.0]
        for edges in self.edges:
            total.append(_log_sum([total[start] - COST_PER_TOKEN for start, _ in edges]))
        ways = [self._one(total, random) for _ in range(count)]
        log_q = np.array([-COST_PER_TOKEN * len(way) - total[-1] for way in ways])
        return ways, log_q

    def _one(self, total: list[float], random: np.random.Generator) -> tuple[int, ...]:
        place = len(self.edges)
        way: list[int] = []
        while place:
            edges = self.edges[place - 1]
            share = np.exp([total[start] - COST_PER_TOKEN - total[place] for start, _ in edges])
            place, code = edges[random.choice(len(edges), p=share / share.sum())]
            way.append(code)
        return tuple(reversed(way))


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))

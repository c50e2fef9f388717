"""The text so far, continued token by token, as chunks that can be sent at once or one by one.

    p(continuation | text so far) = prod_t p(x_t | text so far, x_<t)

Every log p is that of the model, whatever the temperature by which a token was chosen; so the sum
over an answer, its end included, is exactly log p of the answer given the text so far.

Shape letters: A answers that are not finished, V tokens; the code V is the end.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.codecs.tokens import Tokens
from conjoin.core import Density, categorical, stream
from conjoin.core.sampling import Sampling
from conjoin.marking.watermark import SUB_KEYS, KeyedNoise, Watermark
from conjoin.serving.pieces import Writer
from conjoin.serving.prefixes import Prefixes

__all__ = ["LENGTH", "STOP", "Chunk", "Continuation", "Piece", "Wish"]

STOP = "stop"  # the answer has ended, by itself or by a string that ends it
LENGTH = "length"  # no more tokens were asked for, or none fits
MIN_TEMPERATURE = 1e-4  # below it the most probable token is chosen


@dataclass(frozen=True)
class Wish:
    """How a text is to be continued.

    Parameters
    ----------
    choices
        How many answers.
    max_tokens
        Of each answer; None: as many as fit.
    temperature, top_p
        As of ``Sampling``; under ``MIN_TEMPERATURE`` the most probable token is chosen.
    seed
        Of the noise; each answer has its own.
    stop
        Strings that end an answer, and are not part of it.
    top
        How many of the most probable tokens are told at each place.
    again
        How many texts of the same request read the same before this one: each has its own noise.
    watermark
        That the noise carries, if any.
    """

    choices: int = 1
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top: int = 0
    again: int = 0
    watermark: Watermark | None = None

    @property
    def sampling(self) -> Sampling | None:
        """None where the most probable token is chosen."""
        greedy = self.temperature < MIN_TEMPERATURE
        return None if greedy else Sampling(self.temperature, None, self.top_p)


@dataclass(frozen=True)
class Piece:
    """Text of one token, or of several that only together write a character; the end of an answer
    is one with no text. ``log_p``: nats. ``top``: the most probable tokens there."""

    text: str
    log_p: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """What one answer grows by; the last one of an answer says why it ``finish`` es."""

    choice: int
    text: str
    pieces: tuple[Piece, ...]
    finish: str | None = None


@dataclass
class _Answer:
    """One of the answers while it is written."""

    choice: int
    noise: torch.Generator
    writer: Writer
    stop: tuple[str, ...]
    keyed: KeyedNoise | None = None
    held: list[Piece] = field(default_factory=list)  # may turn out to begin a stop string
    log_p: float = 0.0  # of tokens whose character is not yet whole
    top: tuple[tuple[str, float], ...] = ()
    count: int = 0

    def drawn(self, log_q: Tensor) -> int:
        """The next token by log q, (1, V)."""
        if self.keyed is None:
            return int(categorical(log_q, self.noise))
        code = self.keyed.choose(log_q[0].numpy())
        if code is None:
            code = int(categorical(log_q, self.noise))
        self.keyed.add(code)
        return code

    def add(self, code: int, log_p: float, top: tuple[tuple[str, float], ...]) -> Chunk | None:
        """One more token."""
        self.count += 1
        self.top = self.top or top
        self.log_p += log_p
        text = self.writer.add(code)
        return None if text is None else self._take(text)

    def end(self, finish: str, ending: Piece | None = None) -> Chunk:
        """The rest, and the piece of the end, which has no text."""
        rest = self.writer.rest()
        chunk = None if rest is None else self._take(rest)
        if chunk is not None and chunk.finish is not None:
            return chunk
        pieces = [*(chunk.pieces if chunk is not None else ()), *self.held]
        text = "".join(piece.text for piece in pieces)
        if ending is not None:
            pieces.append(ending)
        return Chunk(self.choice, text, tuple(pieces), finish)

    def _take(self, text: str) -> Chunk | None:
        """The pieces that no stop string can claim any more."""
        self.held.append(Piece(text, self.log_p, self.top))
        self.log_p = 0.0
        self.top = ()
        whole = "".join(piece.text for piece in self.held)
        found = [whole.find(word) for word in self.stop if word in whole]
        if found:
            return Chunk(self.choice, whole[: min(found)], self._before(min(found)), STOP)
        safe = len(whole) - max((_overlap(whole, word) for word in self.stop), default=0)
        free: list[Piece] = []
        while self.held and sum(len(one.text) for one in free) + len(self.held[0].text) <= safe:
            free.append(self.held.pop(0))
        text = "".join(piece.text for piece in free)
        return Chunk(self.choice, text, tuple(free)) if free else None

    def _before(self, place: int) -> tuple[Piece, ...]:
        """The pieces that begin before a place."""
        out = []
        begins = 0
        for piece in self.held:
            if begins >= place:
                break
            out.append(piece)
            begins += len(piece.text)
        return tuple(out)


def _overlap(text: str, word: str) -> int:
    """How long the longest end of the text is that begins the word.

    >>> _overlap("so on", "on the")
    2
    """
    longest = min(len(text), len(word) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(word[:n])), 0)


class Continuation:
    """Answers to one text so far, written side by side.

    Parameters
    ----------
    density
        Of strings, drawn token by token (``capabilities.step``).
    tokens
        What its codes stand for.
    codes
        The text so far.
    wish
        How it is to be continued.
    prefixes
        Of texts that the density has read before, if they are kept.
    """

    def __init__(
        self,
        density: Density,
        tokens: Tokens,
        codes: Sequence[int],
        wish: Wish,
        prefixes: Prefixes | None = None,
    ) -> None:
        self._density = density
        self._prefixes = prefixes or Prefixes(density, 0)
        self._written: list[tuple[int, float]] = []  # codes of the one answer, and log p of each
        self._tokens = tokens
        self.wish = wish
        self._before = list(codes)
        self._room = density.space.shape[0] - len(codes)
        self._going: list[_Answer] = []
        self._state: Any = None
        self._log_next = torch.empty(0)
        self.told: list[float] = []  # log p of each token of the text so far
        self.count = 0  # of tokens that were written
        self.begun = False

    @property
    def done(self) -> bool:
        """Whether all answers have ended."""
        return self.begun and not self._going

    @torch.no_grad()
    def begin(self) -> list[Chunk]:
        """Read the text so far; chunks of answers that end at once."""
        self.begun = True
        state, log_next, self.told = self._prefixes.read(self._before)
        wish = self.wish
        if wish.max_tokens == 0:
            return [self._answer(choice).end(LENGTH) for choice in range(wish.choices)]
        rows = torch.zeros(wish.choices, dtype=torch.long)
        self._state = state.take(rows)
        self._log_next = log_next[rows]
        self._going = [self._answer(choice) for choice in range(wish.choices)]
        return []

    def _answer(self, choice: int) -> _Answer:
        again = f", again {self.wish.again}" if self.wish.again else ""
        noise = stream(self.wish.seed, f"answer {choice}{again}")
        writer = Writer(self._tokens, self._before)
        watermark = self.wish.watermark
        if watermark is None or self.wish.sampling is None:
            return _Answer(choice, noise, writer, self.wish.stop)
        part = int(torch.randint(SUB_KEYS, (), generator=noise))
        return _Answer(choice, noise, writer, self.wish.stop, KeyedNoise(watermark, part))

    def advance(self, seconds: float) -> list[Chunk]:
        """Go on for about so many seconds, at least by one token."""
        until = time.monotonic() + seconds
        chunks = [] if self.begun else self.begin()
        while self._going:
            chunks += self._one_token()
            if time.monotonic() >= until:
                break
        return chunks

    @torch.no_grad()
    def _one_token(self) -> list[Chunk]:
        codes = []
        left = []
        chunks = []
        for row, answer in enumerate(self._going):
            code, chunk = self._chosen(answer, self._log_next[row])
            chunks += [chunk] if chunk is not None else []
            if chunk is None or chunk.finish is None:
                codes.append(code)
                left.append(row)
        if len(left) < len(self._going):
            if left:
                self._state = self._state.take(torch.tensor(left, dtype=torch.long))
            self._going = [self._going[row] for row in left]
        if left:
            self._state, self._log_next = self._density.step(self._state, torch.tensor(codes))
        elif self.wish.choices == 1:
            self._keep()
        return chunks

    def _keep(self) -> None:
        """What was read and written, as the next turn begins with it."""
        codes = [*self._before, *(code for code, _ in self._written)]
        told = [*self.told, *(log_p for _, log_p in self._written)]
        self._prefixes.keep(codes, told, self._state)

    def _chosen(self, answer: _Answer, log_next: Tensor) -> tuple[int, Chunk | None]:
        """The next token of an answer, and what the answer grows by."""
        how = self.wish.sampling
        end = len(log_next) - 1
        if answer.count >= self._room:  # the end is certain
            return end, answer.end(LENGTH)
        if how is None:
            code = int(log_next.argmax())
        else:
            code = answer.drawn(how.of(log_next[None]))
        log_p = float(log_next[code])
        top = self._top(log_next)
        if code == end:
            return code, answer.end(STOP, Piece("", log_p, top))
        self.count += 1
        self._written.append((code, log_p))
        chunk = answer.add(code, log_p, top)
        if chunk is not None and chunk.finish is not None:
            return code, chunk
        if answer.count == self.wish.max_tokens:
            last = answer.end(LENGTH)
            return code, last if chunk is None else _joined(chunk, last)
        return code, chunk

    def _top(self, log_next: Tensor) -> tuple[tuple[str, float], ...]:
        found = log_next.topk(min(self.wish.top, len(log_next)))
        end = len(log_next) - 1
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return tuple(
            ("" if code == end else self._tokens.text([code]), log_p)
            for code, log_p in pairs
            if log_p > -float("inf")
        )


def _joined(one: Chunk, two: Chunk) -> Chunk:
    """Two chunks of the same answer that follow each other."""
    return Chunk(one.choice, one.text + two.text, one.pieces + two.pieces, two.finish)

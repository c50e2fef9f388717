r"""Answers behind prompts: the most probable token at each place, and draws, as one tree.

    p(answer | prompt) = prod_t p(x_t | prompt, x_<t)

Answers that begin alike are one branch of the tree until they part, so that a token is computed
once for all of them. The n draws of a prompt are those of arithmetic sampling (L. Vilnis et al.
(2023), Arithmetic sampling: parallel diverse decoding for large language models, section 3): each
is a draw from p, and their points in the unit interval lie 1 / n apart, so that their shares vary
less than those of independent draws. Prompts of equally many tokens are answered side by side. In
nats.

Shape letters: P prompts side by side, B branches, S answers of all of them, D draws of a prompt, V
tokens; the code V is the end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.codecs.tokens import Tokens
from conjoin.core import Density, stream
from conjoin.util.steps import Steps, finished

__all__ = ["Answer", "Read", "Writing", "write", "writing_steps"]

# the state behind codes, as one row, log p of what follows, and log p of each code
Read = Callable[[Sequence[int]], tuple[Any, Tensor, list[float]]]

MAX_CELLS = 1 << 23  # of log p of next tokens, of all branches together
MAX_PROMPTS = 64  # side by side
LEAST_WIDTH = 1e-9  # of a draw's interval, from which on its point is drawn anew
CONTEXT_TOKENS = 16  # of a prompt that may change how the first token behind it is written


@dataclass
class Answer:
    """``codes`` without the end; ``log_p`` of each of them, nats, with the end where it
    ``ended`` by itself."""

    codes: list[int] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)
    text: str = ""
    ended: bool = False

    @property
    def total(self) -> float:
        """log p(answer | prompt)."""
        return float(sum(self.log_p))


@dataclass(frozen=True)
class Writing:
    """What was written behind a prompt: ``told``, log p of each token of the prompt; the ``best``
    answer, of the most probable tokens; the ``drawn`` ones."""

    prompt: list[int]
    told: list[float]
    best: Answer
    drawn: list[Answer]


def write(
    density: Density,
    tokens: Tokens,
    prompts: Sequence[Sequence[int]],
    *,
    draws: int,
    max_tokens: int,
    seed: int = 0,
) -> list[Writing]:
    """Answers to prompts at once: see ``writing_steps``."""
    steps = writing_steps(
        density, tokens, prompts, draws=draws, max_tokens=max_tokens, seed=seed, read=None
    )
    return finished(steps)


@torch.no_grad()  # in each piece, and not in between
def writing_steps(
    density: Density,
    tokens: Tokens,
    prompts: Sequence[Sequence[int]],
    *,
    draws: int,
    max_tokens: int,
    seed: int,
    read: Read | None,
) -> Steps[list[Writing]]:
    """Answers to prompts, each of at least one token; a step is a token of all that are written
    side by side.

    Parameters
    ----------
    density
        Of strings; it declares ``step``.
    tokens
        What its codes stand for.
    prompts
        Codes; those of a prompt and of its answer fit the density's capacity, else the answer is
        cut.
    draws
        Answers that are drawn for each prompt.
    max_tokens
        Of an answer, at most.
    seed
        Of the noise: a function of the seed and the prompt.
    read
        What all prompts begin with is read so; None: by the density, which remembers nothing.

    Returns
    -------
    list of Writing
        One for each prompt.
    """
    out: dict[int, Writing] = {}
    common = list(prompts[0][: _common(prompts)]) if prompts else []
    beginning = _Beginning(*(_read(density, common) if read is None else read(common)))
    yield
    for rows in _groups(prompts, (1 + draws) * beginning.log_next.shape[1]):
        some = [list(prompts[row]) for row in rows]
        tree = _Tree(density, some, draws, seed)
        written = yield from tree.growing(beginning, max_tokens)
        out |= dict(zip(rows, written, strict=True))
    for one in out.values():
        for answer in [one.best, *one.drawn]:
            answer.text = _text(tokens, one.prompt, answer.codes)
    return [out[row] for row in range(len(prompts))]


def _read(density: Density, codes: list[int]) -> tuple[Any, Tensor, list[float]]:
    """As ``Read`` says."""
    state, log_next = density.step(density.begin(1))
    if not codes:
        return state, log_next, []
    state, log_next, told = density.follow(state, log_next, torch.tensor([codes]))
    return state, log_next, told[0].tolist()


@dataclass(frozen=True)
class _Beginning:
    """What all prompts begin with, as one row: the state behind it, log p of what follows, and log
    p of its tokens."""

    state: Any
    log_next: Tensor
    told: list[float]


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each has one more at least."""
    if not prompts:
        return 0
    shortest = min(map(len, prompts))
    first = prompts[0]
    same = (all(other[place] == first[place] for other in prompts) for place in range(shortest))
    return min(next((place for place, all_ in enumerate(same) if not all_), shortest), shortest - 1)


def _groups(prompts: Sequence[Sequence[int]], cells: int) -> Iterator[list[int]]:
    """Prompts of equally many tokens, as many as are answered side by side; ``cells`` of one."""
    most = max(1, min(MAX_PROMPTS, MAX_CELLS // cells))
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    group: list[int] = []
    for row in order:
        if group and (len(group) == most or len(prompts[row]) != len(prompts[group[0]])):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


class _Tree:
    """The answers to prompts of equally many tokens while they grow. The first answer of each
    prompt is the best one, the others are draws."""

    def __init__(self, density: Density, prompts: list[list[int]], draws: int, seed: int) -> None:
        self.density = density
        self.prompts = prompts
        self.each = 1 + draws
        self.answers = [[Answer() for _ in range(self.each)] for _ in prompts]
        self.noise = [stream(seed, f"answers to {prompt}") for prompt in prompts]
        first = [torch.rand(1, generator=noise, dtype=torch.float64) for noise in self.noise]
        places = torch.arange(draws, dtype=torch.float64)
        points = [(places + start) / max(draws, 1) for start in first]
        nothing = torch.zeros(1, dtype=torch.float64)
        self.point = torch.cat([part for each in points for part in (nothing, each)])  # (S,)
        self.width = torch.ones_like(self.point)

    def growing(self, beginning: _Beginning, max_tokens: int) -> Steps[list[Writing]]:
        """All answers, once each has ended."""
        rows = torch.zeros(len(self.prompts), dtype=torch.long)
        state = beginning.state.take(rows)
        log_next = beginning.log_next[rows]
        rest = torch.tensor([prompt[len(beginning.told) :] for prompt in self.prompts])
        state, log_next, told = self.density.follow(state, log_next, rest)
        going = torch.arange(len(self.point))
        branch = torch.arange(len(self.prompts)).repeat_interleave(self.each)
        for count in range(max_tokens):
            token = self._chosen(log_next, branch, going)
            end = log_next.shape[1] - 1
            left = self._added(token, log_next[branch, token], going, end)
            if not len(left) or count == max_tokens - 1:
                break
            going = going[left]
            code, branch = torch.unique(
                branch[left] * log_next.shape[1] + token[left], return_inverse=True
            )
            state = state.take(code // log_next.shape[1])
            state, log_next = self.density.step(state, code % log_next.shape[1])
            yield
        return [
            Writing(prompt, beginning.told + told[row].tolist(), each[0], each[1:])
            for row, (prompt, each) in enumerate(zip(self.prompts, self.answers, strict=True))
        ]

    def _chosen(self, log_next: Tensor, branch: Tensor, going: Tensor) -> Tensor:
        """(s,) the next token of each answer that goes on: the most probable one, or that in whose
        part of the unit interval the answer's point lies."""
        best = log_next.argmax(1)[branch]
        ends = log_next.exp().cumsum(1)
        ends = ends / ends[:, -1:]
        last = log_next.shape[1] - 1
        of_each = ends[branch]
        token = torch.searchsorted(of_each, self.point[going, None], right=True)[:, 0]
        token = token.clamp_max(last)
        high = of_each.gather(1, token[:, None])[:, 0]
        low = of_each.gather(1, (token - 1).clamp_min(0)[:, None])[:, 0]
        low = torch.where(token > 0, low, 0.0)
        size = (high - low).clamp_min(torch.finfo(torch.float64).tiny)
        self.point[going] = ((self.point[going] - low) / size).clamp(0, 1 - 1e-12)
        self.width[going] *= size
        self._draw_anew(going)
        return torch.where(going % self.each == 0, best, token)

    def _draw_anew(self, going: Tensor) -> None:
        """Points of which hardly a digit is left."""
        for place in going[self.width[going] < LEAST_WIDTH].tolist():
            if place % self.each:
                noise = self.noise[place // self.each]
                self.point[place] = torch.rand(1, generator=noise, dtype=torch.float64)[0]
            self.width[place] = 1.0

    def _added(self, token: Tensor, log_p: Tensor, going: Tensor, end: int) -> Tensor:
        """Which of the answers that were going on still do."""
        left = []
        found = zip(going.tolist(), token.tolist(), log_p.tolist(), strict=True)
        for row, (place, code, own) in enumerate(found):
            answer = self.answers[place // self.each][place % self.each]
            answer.log_p.append(own)
            answer.ended = code == end
            if not answer.ended:
                answer.codes.append(code)
                left.append(row)
        return torch.tensor(left, dtype=torch.long)


def _text(tokens: Tokens, prompt: Sequence[int], codes: Sequence[int]) -> str:
    """What the codes write behind the prompt."""
    before = list(prompt)[-CONTEXT_TOKENS:]
    return tokens.text([*before, *codes])[len(tokens.text(before)) :]

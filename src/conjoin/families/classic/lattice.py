r"""log p of a string by counts of grams, over all ways to cut it into tokens.

    a_j(l, s, y) = sum a_i(l - 1, s', y) p(v | s', y)
                   over edges (i, v) to j and states s' that v leads to s,
    p(x | y) = sum_{l, s} a_n(l, s, y) p(end | s, y)

the forward algorithm (L. Rabiner (1989), A tutorial on hidden Markov models, equations 19 to 21). A
state s is what counts of the tokens before: the grams among them that occur. Few ways differ in it,
so that there are far fewer states than ways. l is the number of tokens, of which a string has at
most N. In nats.

Shape letters: S states, k grams of a state, K classes, P pairs of a state and an edge.

>>> edges = (((0, 0),), ((1, 1), (0, 2)))  # ab is a and b, or ab
>>> p = torch.tensor([0.5, 0.25, 0.125, 0.125]).double()  # of a, b, ab and the end
>>> begin = (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1).double())
>>> log_p = Lattice(edges, 4, 3).log_sum(*begin, lambda node, token: (node, p[token, None].log()))
>>> round(log_p.exp().item(), 5)
0.03125
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.shapes import Float, Int
from conjoin.core.ways import Edges

__all__ = ["Lattice"]

Along = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _States:
    """``node`` (S, k) and ``log_p`` (S, K) of states with ``tokens`` (S,) tokens before."""

    node: Tensor
    log_p: Tensor
    tokens: Tensor

    def merged(self) -> "_States":
        """Equal states as one."""
        key = torch.cat([self.tokens[:, None], self.node], 1)
        found, place = torch.unique(key, dim=0, return_inverse=True)
        most = self.log_p.amax(0).nan_to_num(neginf=0.0)  # of a class that is not there
        share = torch.zeros(len(found), self.log_p.shape[1], dtype=torch.float64)
        share = share.index_add(0, place, (self.log_p - most).exp())
        return _States(found[:, 1:], share.log() + most, found[:, 0])


@dataclass(frozen=True)
class Lattice:
    """``edges``: of each place from 1 on those that end there; ``capacity``: N; ``end``: the
    code of the end."""

    edges: Edges
    capacity: int
    end: int

    def log_sum(
        self, node: Int[Tensor, "1 k"], log_class: Float[Tensor, "1 K"], along: Along
    ) -> Float[Tensor, " K"]:
        """log p of the string and of each class, from the state and the classes at its beginning.

        ``along``: of P states (P, k) and tokens (P,), the states behind these and log p (P, K).
        """
        last = len(self.edges)
        leaving = defaultdict(list)
        for stop, each in enumerate(self.edges, 1):
            for start, code in each:
                leaving[start].append((stop, code))
        waiting: dict[int, list[_States]] = defaultdict(list)
        waiting[0] = [_States(node, log_class, torch.zeros(1, dtype=torch.int64))]
        for place in range(last):
            if waiting[place]:
                for stop, states in self._moved(waiting.pop(place), leaving[place], along):
                    waiting[stop].append(states)
        if not waiting[last]:
            return torch.full_like(log_class[0], -torch.inf)
        states = _together(waiting[last])
        _, log_end = along(states.node, torch.full((len(states.node),), self.end))
        full = states.tokens >= self.capacity  # there the end is certain
        log_end = torch.where(full[:, None], 0.0, log_end)
        return (states.log_p + log_end).logsumexp(0)

    def _moved(
        self, waiting: list[_States], edges: list[tuple[int, int]], along: Along
    ) -> list[tuple[int, _States]]:
        """Where each edge leads from one place."""
        states = _together(waiting)
        room = states.tokens < self.capacity
        states = _States(states.node[room], states.log_p[room], states.tokens[room])
        count = len(states.node)
        if not count:
            return []
        code = torch.tensor([code for _, code in edges]).repeat_interleave(count)
        node, log_p = along(states.node.repeat(len(edges), 1), code)
        log_p = log_p + states.log_p.repeat(len(edges), 1)
        out = []
        for place, (stop, _) in enumerate(edges):
            part = slice(place * count, (place + 1) * count)
            out.append((stop, _States(node[part], log_p[part], states.tokens + 1)))
        return out


def _together(waiting: list[_States]) -> _States:
    parts = zip(*((each.node, each.log_p, each.tokens) for each in waiting), strict=True)
    return _States(*(torch.cat(part) for part in parts)).merged()

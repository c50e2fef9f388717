r"""Grams of strings: every run of up to D tokens that occurs, as one sorted array.

    key(g s) = number(g) (V + 2) + s

A string s_1 ... s_n is read as ^ s_1 ... s_n $: ^ stands before it, $ is its end. Each gram is a
node; the gram g s is the child of g by s, and its key is (number of g) (V + 2) + s. Nodes are
numbered by their length, then by their key, from the root 0 of the empty gram, so that the keys are
one sorted array: a gram of any length is found token by token, by one binary search each, and needs
no more than 64 bits whatever the alphabet (E. Fredkin (1960), Trie memory).
log p of what is counted so is in nats.

Shape letters: B rows, F tokens of all rows, M nodes, D tokens of the longest gram, V tokens.

>>> Trie(torch.tensor([0, 4]), [1, 1], 3).child(torch.tensor([1]), torch.tensor([1])).tolist()
[2]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.core.shapes import Bool, Int
from conjoin.families.autoregressive.continuation import targets_of

__all__ = ["Stream", "Trie", "grams_of", "stream_of"]


@dataclass(frozen=True)
class Stream:
    """All rows, one behind the other. ``token`` (F,) begins each row by ^ = V + 1; ``row`` (F,)."""

    token: Tensor
    row: Tensor
    size: int  # V + 2

    @property
    def begins(self) -> Bool[Tensor, " F"]:
        return self.token == self.size - 1

    def shifted(self, node: Int[Tensor, " F"]) -> Int[Tensor, " F"]:
        """The node one token earlier in the row; -1 at its beginning."""
        earlier = torch.cat([node[:1], node[:-1]])
        return torch.where(self.begins, -1, earlier)


def stream_of(event: Event, tokens: int, capacity: int) -> Stream:
    """What is known of the rows, as far as it is their beginning."""
    target, valid = targets_of(event, tokens, capacity)
    start = torch.full((event.rows, 1), tokens + 1)
    keep = torch.cat([torch.ones_like(start, dtype=torch.bool), valid], 1)
    row = torch.arange(event.rows)[:, None].expand(keep.shape)
    return Stream(torch.cat([start, target], 1)[keep], row[keep], tokens + 2)


def grams_of(stream: Stream, longest: int) -> tuple[Int[Tensor, " M"], list[int]]:
    """The keys of all grams of at most ``longest`` tokens, and how many there are of each length
    that occurs."""
    node = torch.zeros_like(stream.token)
    keys = []
    sizes = []
    nodes = 1
    for length in range(1, longest + 1):
        parent = node if length == 1 else stream.shifted(node)
        wanted = parent * stream.size + stream.token
        held = parent >= 0
        if not bool(held.any()):
            break  # no string is as long
        found, place = torch.unique(wanted[held], return_inverse=True)
        node = torch.full_like(stream.token, -1)
        node[held] = place + nodes
        keys.append(found)
        sizes.append(len(found))
        nodes += len(found)
    if nodes == 1:  # of no row at all: the beginning of a string is a gram all the same
        return torch.tensor([stream.size - 1]), [1]
    return torch.cat(keys), sizes


@dataclass(frozen=True)
class Trie:
    """``key`` (M,), ``sizes`` (D,) nodes of each length, ``size``: V + 2."""

    key: Tensor
    sizes: Sequence[int]
    size: int

    @property
    def nodes(self) -> int:
        """With the root."""
        return len(self.key) + 1

    def level(self, length: int) -> slice:
        """The nodes of one length."""
        start = 1 + sum(self.sizes[: length - 1])
        return slice(start, start + self.sizes[length - 1])

    @property
    def parent(self) -> Int[Tensor, " M1"]:
        """(M + 1,) of each node; the root is its own."""
        return torch.cat([self.key.new_zeros(1), self.key // self.size])

    @property
    def token(self) -> Int[Tensor, " M1"]:
        """(M + 1,) the last token of each node; 0 of the root."""
        return torch.cat([self.key.new_zeros(1), self.key % self.size])

    def child(self, node: Tensor, token: Tensor) -> Tensor:
        """The gram with one token more; -1 where it does not occur."""
        wanted = node * self.size + token
        place = torch.searchsorted(self.key, wanted).clamp_max(len(self.key) - 1)
        return torch.where((self.key[place] == wanted) & (node >= 0), place + 1, -1)

    def children(self, node: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
        """(C,) which of the nodes has a child, and the child; of all nodes that are not -1."""
        edges = torch.stack([node, node + 1]) * self.size
        first, last = torch.searchsorted(self.key, edges)
        count = torch.where(node >= 0, last - first, 0)
        row = torch.repeat_interleave(torch.arange(len(node)), count)
        inside = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        return row, first[row] + inside + 1

    def suffix(self) -> Int[Tensor, " M1"]:
        """(M + 1,) each gram without its first token."""
        out = torch.zeros(self.nodes, dtype=torch.int64)
        parent = self.parent
        token = self.token
        for length in range(2, len(self.sizes) + 1):
            level = self.level(length)
            out[level] = self.child(out[parent[level]], token[level])
        return out

    def from_start(self) -> Bool[Tensor, " M1"]:
        """(M + 1,) which grams begin with ^."""
        out = torch.zeros(self.nodes, dtype=torch.bool)
        parent = self.parent
        out[1:] = (parent[1:] == 0) & (self.token[1:] == self.size - 1)
        for length in range(2, len(self.sizes) + 1):
            level = self.level(length)
            out[level] = out[parent[level]]
        return out

    def length(self) -> Int[Tensor, " M1"]:
        """(M + 1,) tokens of each gram."""
        sizes = torch.tensor([1, *self.sizes])
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes)

    def walk(self, stream: Stream) -> list[Int[Tensor, " F"]]:
        """For each length from 0 to D the gram that ends with each token, -1 where it does not
        occur or would begin before the string."""
        out = [torch.zeros_like(stream.token)]
        for length in range(1, len(self.sizes) + 1):
            parent = out[0] if length == 1 else stream.shifted(out[-1])
            out.append(self.child(parent, stream.token))
        return out

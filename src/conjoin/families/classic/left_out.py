r"""Each string as the others see it: counts of grams without those that a string adds itself.

    a'(g) = a(g) - (what the row adds),    T'(h) = sum_s a'(hs)

A gram that only this string holds is not there without it, and no longer counts among the tokens
that occur before the gram that is one token shorter: counts fall from the longest grams to the
shortest. So the weights of orders are learned on strings that the counts have not seen, and all
strings still count (H. Ney, U. Essen and R. Kneser (1994), On structuring probabilistic dependences
in stochastic language modelling, section 4, with a whole string left out in place of a token).
Counts have no unit; what is learned from them is in nats.

Shape letters: F tokens of all rows, P pairs of a row and a gram, D tokens of the longest gram.

>>> _taken(torch.tensor([2.0, 3.0]), torch.tensor([1, -1])).tolist()
[3.0, 0.0]
"""

from typing import NamedTuple

import torch
from torch import Tensor

from conjoin.core.shapes import Float, Int
from conjoin.families.classic.kneser_ney import Counts, Order, discounted
from conjoin.families.classic.ngram_trie import Stream, Trie

__all__ = ["orders_left_out"]

ALMOST_NONE = 1e-9  # of a count: what is left by rounding


class _Pairs(NamedTuple):
    """Each gram of one length that a row holds. ``place`` (F,) where the gram that ends with a
    token stands among them, -1 where there is none."""

    row: Tensor
    node: Tensor
    place: Tensor
    often: Tensor  # by the row's weight

    @classmethod
    def of(cls, stream: Stream, node: Int[Tensor, " F"], nodes: int, weight: Tensor) -> "_Pairs":
        held = node >= 0
        keys = stream.row[held] * nodes + node[held]
        found, inverse = torch.unique(keys, return_inverse=True)
        place = torch.full_like(node, -1)
        place[held] = inverse
        row = found // nodes
        often = torch.bincount(inverse, minlength=len(found)).double() * weight[row]
        return cls(row, found % nodes, place, often)

    def find(self, row: Tensor, node: Tensor, nodes: int) -> Int[Tensor, " P"]:
        """Where pairs that are there stand."""
        return torch.searchsorted(self.row * nodes + self.node, row * nodes + node)


def _removed(
    trie: Trie, pairs: list[_Pairs], count: Tensor, whole: Tensor
) -> list[Float[Tensor, " P"]]:
    """By how much each row raises the count of each of its grams, for each length."""
    suffix = trie.suffix()
    nodes = trie.nodes
    out: list[Tensor] = []
    vanish = torch.zeros_like(pairs[-1].often)  # tokens before a gram that are this row's alone
    for length in range(len(pairs) - 1, 0, -1):
        pair = pairs[length]
        removed = torch.where(whole[pair.node], pair.often, vanish)
        out.insert(0, removed)
        gone = count[pair.node] - removed < ALMOST_NONE
        shorter = pairs[length - 1]
        place = shorter.find(pair.row, suffix[pair.node], nodes)
        vanish = torch.zeros_like(shorter.often).index_add(0, place, gone.double())
    return out


class _Lessened:
    """One order without the row's own grams: what is known of the contexts (the pairs one token
    shorter) and of the grams."""

    def __init__(
        self, known: Counts, context: _Pairs, gram: _Pairs, removed: Tensor, order: int
    ) -> None:
        self.known = known
        self.context = context
        self.gram = gram
        nodes = known.trie.nodes
        self.above = context.find(gram.row, known.trie.parent[gram.node], nodes)
        rate = known.discount[order + 1]
        before = known.often[gram.node]
        after = before - removed
        after = torch.where(after < ALMOST_NONE, 0.0, after)
        self.seen = after - discounted(after, rate)
        self.total = self._less(known.contexts.total, before - after)
        paid = discounted(before, rate) - discounted(after, rate)
        self.escaping = self._less(known.contexts.escaping, paid)
        gone = ((before > 0) & (after == 0)).double()
        self.followers = self._less(known.contexts.followers, gone)
        alone = self.followers < 0.5  # nothing but rounding is left
        self.total = torch.where(alone, 0.0, self.total)
        self.escaping = torch.where(alone, 0.0, self.escaping)

    def _less(self, whole: Tensor, part: Tensor) -> Float[Tensor, " P"]:
        """A sum over continuations, without those of the row."""
        mine = torch.zeros_like(self.context.often).index_add(0, self.above, part)
        return whole[self.context.node] - mine

    def in_class(self, label: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
        """Counts of the class of each row, of grams and of contexts."""
        known = self.known
        assert known.contexts.of_class is not None
        starts = known.trie.token[self.gram.node] == known.trie.size - 1
        counts = (label[self.gram.row] >= 0) & ~starts
        mine = torch.where(counts, self.gram.often, 0.0)
        own = label.clamp_min(0)
        gram = known.in_class[self.gram.node, own[self.gram.row]].double() - mine
        less = torch.zeros_like(self.context.often).index_add(0, self.above, mine)
        context = known.contexts.of_class[self.context.node, own[self.context.row]].double()
        return gram.clamp_min(0.0), (context - less).clamp_min(0.0)


def orders_left_out(
    known: Counts,
    stream: Stream,
    weight: Float[Tensor, " B"],
    label: Int[Tensor, " B"],
) -> list[Order]:
    """What each order knows of each token of the stream but ^, without the token's own row; of
    classes it knows that of the row's ``label`` (class 0 stands in for -1, not known)."""
    trie = known.trie
    pairs = [_Pairs.of(stream, node, trie.nodes, weight) for node in trie.walk(stream)]
    whole = trie.from_start() | (trie.length() == len(trie.sizes))
    removed = _removed(trie, pairs, known.often, whole)
    told = ~stream.begins
    orders = []
    for order, less in enumerate(removed):
        context = pairs[order].place
        at = (context if order == 0 else stream.shifted(context))[told]
        to = pairs[order + 1].place[told]
        to = torch.where(at < 0, -1, to)
        found = _Lessened(known, pairs[order], pairs[order + 1], less, order)
        cell = Order(
            _taken(found.seen, to),
            _taken(found.total, at),
            _taken(found.escaping, at),
            _taken(found.followers, at),
        )
        if known.contexts.of_class is not None:
            gram, above = found.in_class(label)
            cell = cell._replace(
                in_class=_taken(gram, to)[:, None], of_class=_taken(above, at)[:, None]
            )
        orders.append(cell)
    return orders


def _taken(part: Tensor, place: Int[Tensor, " F"]) -> Float[Tensor, " F"]:
    """What stands at the places, 0 where there is none."""
    return torch.where(place < 0, 0.0, part[place.clamp_min(0)])

r"""Modified Kneser-Ney on a trie of grams, with learned escapes, and the tilt of a class.

    p_k(s | h) = (1 - e) (a(hs) - d(a(hs))) / (T(h) - g(h)) + e p_{k-1}(s | h'),
    logit e = logit(g(h) / T(h)) + t_k(bucket of h),    g(h) = sum_s d(a(hs)),   T(h) = sum_s a(hs)

h' is h without its first token, p_{-1} is uniform. a(hs) is the number of times that a longest gram
occurs, and of a shorter one the number of tokens that occur before it; grams that begin a string
keep their number, since nothing can stand before them. d is one discount for a = 1, one for 2, one
for 3 and more, by counts of counts (S. Chen and J. Goodman (1998), An empirical study of smoothing
techniques for language modeling, section 3; equations 17 to 21). With t = 0 this is their model.
The t of contexts that were seen as often, with as many continuations, are shared, as the weights of
orders are in deleted interpolation (F. Jelinek and R. Mercer (1980), Interpolated estimation of
Markov source parameters from sparse data).

Given a class y every order leans on the same model of all classes, as in a hierarchy of Dirichlet
distributions (D. MacKay and L. Peto (1995), A hierarchical Dirichlet language model):

    q_k(s | h, y) = (c_y(hs) + m_k b) / (c_y(h) + m_k),    b = (1 - w) q_{k-1} + w p_k(s | h)

w is 0 where h never occurred, since p_k is p_{k-1} there and tells nothing more.
Where rows have weights, a sum of weights is rarely a whole number: d is then a straight line from
whole number to whole number (d(0) = 0), and counts of counts round. How many tokens occur before a
gram is counted without weights. In nats.

Shape letters: M nodes, D tokens of the longest gram, P cells, K classes.

>>> counts = torch.tensor([1, 1, 1, 2, 2, 3, 4]).double()
>>> [round(float(d), 3) for d in discounts(counts)]
[0.429, 1.357, 1.286]
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Float
from conjoin.families.classic.ngram_trie import Trie

__all__ = [
    "CONTEXT_BUCKETS",
    "FOLLOWER_BUCKETS",
    "Contexts",
    "Counts",
    "Order",
    "Weights",
    "adjusted",
    "discounted",
    "discounts",
    "scored",
]

FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts are zero, or say what can't be
CONTEXT_BUCKETS = 8  # of how often a context was seen: 1, 2-3, 4-7, ...
FOLLOWER_BUCKETS = 6  # of how many tokens have followed it
CLASS_BUCKETS = 5  # of how often a class has seen it: 0, 1-3, 4-15, ...
LEAST_SHARE = 1e-9  # of an escape
PRIOR_DEVIATION = 2.0  # of the weights about where they begin
LEARNING_STEPS = 40  # of L-BFGS


class Weights(nn.Module):
    """What is learned on strings left out: how readily each order escapes, and for classes how much
    each leans on the model of all."""

    def __init__(self, orders: int, classes: int) -> None:
        super().__init__()
        self.escape = nn.Parameter(_cells(orders, CONTEXT_BUCKETS, FOLLOWER_BUCKETS))
        self.classes = classes
        if classes:
            self.log_strength = nn.Parameter(_cells(orders, FOLLOWER_BUCKETS) + 1)
            self.common = nn.Parameter(_cells(orders, CLASS_BUCKETS))

    def penalty(self) -> Tensor:
        """Minus log of a Gaussian about where they begin: a cell that few contexts fall into stays
        near it."""
        start = [
            torch.ones_like(p) if p.shape[1:] == (FOLLOWER_BUCKETS,) else 0.0
            for p in self.parameters()
        ]
        squares = [
            (parameter - begin).square().sum()
            for parameter, begin in zip(self.parameters(), start, strict=True)
        ]
        return 0.5 * sum(squares, torch.zeros((), dtype=torch.float64)) / PRIOR_DEVIATION**2

    @torch.enable_grad()
    def learn(self, objective: Callable[[], Tensor]) -> None:
        """By L-BFGS; what it begins with stays where it finds nothing better."""
        optimiser = torch.optim.LBFGS(
            self.parameters(), max_iter=LEARNING_STEPS, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = objective()
            loss.backward()
            return loss

        optimiser.step(closure)
        optimiser.zero_grad()


def _cells(*sizes: int) -> Tensor:
    return torch.zeros(*sizes, dtype=torch.float64)


class Order(NamedTuple):
    """What one order knows of cells; counts of classes have one axis more."""

    seen: Tensor  # a - d(a) of the gram
    total: Tensor  # T of its context
    escaping: Tensor  # g of its context
    followers: Tensor  # how many tokens have followed the context
    in_class: Tensor | None = None  # c_y of the gram
    of_class: Tensor | None = None  # c_y of its context


class Contexts(NamedTuple):
    """What is summed over the continuations of each context, (M + 1,)."""

    seen: Tensor  # of each gram itself: a - d(a)
    total: Tensor
    escaping: Tensor
    followers: Tensor
    of_class: Tensor | None  # (M + 1, K)

    @classmethod
    def of(cls, trie: Trie, count: Tensor, cost: Tensor, in_class: Tensor | None) -> "Contexts":
        """``cost``: d(a) of each node."""
        nodes = trie.nodes
        parent = trie.parent[1:]

        def summed(part: Tensor) -> Tensor:
            out = torch.zeros(nodes, *part.shape[1:], dtype=part.dtype)
            return out.index_add(0, parent, part[1:])

        own = None
        if in_class is not None:
            ends = (trie.token == trie.size - 1)[:, None]  # ^ is never a continuation
            own = summed(torch.where(ends, 0.0, in_class))
        followers = summed((count > 0).double())
        return cls(count - cost, summed(count), summed(cost), followers, own)


class Counts(NamedTuple):
    """All that was counted: a of each gram, the discounts of each length, the sums over
    continuations, and counts in classes (M + 1, K)."""

    trie: Trie
    often: Tensor
    discount: Tensor
    contexts: Contexts
    in_class: Tensor


# ------------------------------------------------------------------------------------------ counts


def adjusted(trie: Trie, raw: Float[Tensor, " M1"]) -> Float[Tensor, " M1"]:
    """a: how often the longest grams occur, and those that begin a string; of others how many
    tokens occur before them. ^ itself is a context alone."""
    length = trie.length()
    start = trie.from_start()
    whole = (length == len(trie.sizes)) | start
    ways = torch.zeros_like(raw)
    occurs = ((raw > 0) & (length >= 2)).double()
    ways = ways.index_add(0, trie.suffix(), occurs)
    count = torch.where(whole, raw, ways)
    return torch.where((length == 0) | (start & (length == 1)), 0.0, count)


def discounts(count: Float[Tensor, " n"]) -> Float[Tensor, " 3"]:
    """D1, D2 and D3+ by the counts of counts."""
    often = [float((count.round() == each).sum()) for each in (1, 2, 3, 4)]
    usual = torch.tensor(FALLBACK, dtype=torch.float64)
    if min(often) == 0:
        return usual
    share = often[0] / (often[0] + 2 * often[1])
    found = [each - (each + 1) * share * often[each] / often[each - 1] for each in (1, 2, 3)]
    sound = all(0 < discount < each for each, discount in zip((1, 2, 3), found, strict=True))
    return torch.tensor(found, dtype=torch.float64) if sound else usual


def discounted(count: Tensor, discount: Tensor) -> Tensor:
    """d(a): a straight line between whole numbers; by one triple (3,), or one for each (P, 3)."""
    d1, d2, d3 = discount.unbind(-1)
    low = count.clamp(0, 1) * d1
    middle = (count - 1).clamp(0, 1) * (d2 - d1)
    return low + middle + (count - 2).clamp(0, 1) * (d3 - d2)


# ------------------------------------------------------------------------------------------- cells


def _bucket(number: Tensor, buckets: int, base: int = 2) -> Tensor:
    """0 for less than ``base``, 1 for less than its square, and so on."""
    edges = torch.tensor([base**power for power in range(1, buckets)], dtype=torch.float64)
    return torch.bucketize(number.detach(), edges, right=True)


def _in_order(cell: Order, weights: Weights, order: int, lower: Tensor) -> Tensor:
    """p_k from p_{k-1}."""
    known = cell.total > 0
    total = torch.where(known, cell.total, 1.0)
    share = (cell.escaping / total).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    place = (
        _bucket(cell.total, CONTEXT_BUCKETS),
        _bucket(cell.followers, FOLLOWER_BUCKETS),
    )
    escape = (share.logit() + weights.escape[order][place]).sigmoid()
    left = torch.where(known, cell.total - cell.escaping, 1.0)
    return torch.where(known, (1 - escape) * cell.seen / left + escape * lower, lower)


def _in_class(cell: Order, weights: Weights, order: int, lower: Tensor, common: Tensor) -> Tensor:
    """q_k from q_{k-1} and p_k; (..., K)."""
    assert cell.in_class is not None and cell.of_class is not None
    followers = _bucket(cell.followers, FOLLOWER_BUCKETS)
    strength = weights.log_strength[order][followers].exp()[..., None]
    bucket = torch.where(cell.of_class > 0, 1 + _bucket(cell.of_class, CLASS_BUCKETS - 1, 4), 0)
    lean = weights.common[order][bucket].sigmoid()
    lean = torch.where((cell.total > 0)[..., None], lean, 0.0)  # else p_k is p_{k-1}
    base = (1 - lean) * lower + lean * common[..., None]
    return (cell.in_class + strength * base) / (cell.of_class + strength)


def scored(
    orders: Iterable[Order], weights: Weights, tokens: int
) -> tuple[list[Tensor], Tensor | None]:
    """p_0, p_1, ... of the cells, and q of the last order, of each class."""
    common = torch.tensor(1.0 / (tokens + 1), dtype=torch.float64)
    own = common[None]
    each = []
    for order, cell in enumerate(orders):
        common = _in_order(cell, weights, order, common)
        each.append(common)
        if weights.classes:
            own = _in_class(cell, weights, order, own, common)
    return each, own if weights.classes else None

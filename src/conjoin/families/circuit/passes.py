r"""The passes through a latent tree in linear space: up (sums), down (expected counts) and down
(draws).

    t_j(z_j) = p(x_j | z_j) prod_c m_c(z_j),      m_c(z_j) = sum_{z_c} p(z_c | z_j) t_c(z_c)
    (c a child of j)

    p(x) = sum_z p(z) t_root(z),
    p(z_j, z_c | x) = p(z_j | x) / m_c(z_j)  p(z_c | z_j)  t_c(z_c)

J. Pearl (1988), Probabilistic reasoning in intelligent systems, section 4.2. A product is rescaled
to a peak of one every few factors and the logarithm of its peak is kept for the row, so that a node
costs one small matrix product and hardly any logarithm. Rows that are all but impossible under
every state would underflow: ``Up.sound`` is false for them, and the caller asks in log-space
instead. Nothing here has a gradient; log p is in nats. In float32 a pass takes half of the time;
draws need no more.

What stands at and below a node is often the same in several rows (in a thousand handwritten digits
a quarter of all such parts differ). Each is worked out once: sums come up from it to every row that
has it, and what those rows send down to it is added up, which is exact, as counts are linear in
what comes from above.

Shape letters: B rows, D variables (nodes of the tree), K states, P distinct cells, U distinct parts
of the rows at and below a node.

>>> Tree([-1, 0, 0], [0, 1, 2], torch.ones(2) / 2, torch.ones(3, 2, 2) / 2).parents
[-1, 0, 0]
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conjoin.components.leaves import LeafTable
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["MIN_SHARED_STATES", "Counts", "Leaves", "Parts", "Tree", "Up"]

FACTORS = {torch.float64: 12, torch.float32: 2}  # in a product between two rescalings
MIN_SHARED_STATES = (
    64  # states: with fewer, only equal cells at the leaves of the tree are worked out together
)
MAX_DISTINCT_SHARE = 0.7  # of the rows: so many distinct parts are not worth telling apart
MAX_PAIR_CODE = 1 << 62  # numbers of a pair of parts
# a peak so small that states may have underflowed
FAINT = {
    torch.float64: 1e-200,
    torch.float32: 1e-25,
}


class Leaves(NamedTuple):
    """A leaf table in linear space."""

    likelihood: Float[Tensor, "P K"]  # each scaled to a peak of one
    peak: Float[Tensor, " P"]  # nats
    start: list[int]
    known: list[bool]

    @classmethod
    def of(cls, table: LeafTable, states: slice, dtype: torch.dtype) -> "Leaves":
        """Some of the states."""
        log_prob = table.log_prob[:, states]
        peak = log_prob.amax(1)
        peak = torch.where(peak.isfinite(), peak, 0.0)  # a cell that no state allows
        return cls((log_prob - peak[:, None]).exp().to(dtype), peak, table.start, table.known)


class Parts(NamedTuple):
    """What the rows of a block have at and below one node, each once. None as an index: one after
    the other, as they are."""

    cell: Int[Tensor, " U"]  # at the node itself, among those of its variable
    of_row: Int[Tensor, " B"] | None
    of_parent: Int[Tensor, " _"] | None  # the part of each part of the parent

    @property
    def number(self) -> int:
        return len(self.cell)


class Up(NamedTuple):
    """What a pass up leaves behind: the product at the root and its scale; by node the parts of the
    rows, and if they were to be kept products and messages."""

    top: Float[Tensor, "B K"]
    log_scale: Float[Tensor, " B"]  # nats
    sound: Bool[Tensor, " B"]
    parts: dict[int, Parts]
    product: dict[int, Float[Tensor, "U K"]]
    message: dict[int, Float[Tensor, "U K"]]


class _Held(NamedTuple):
    """A product or a message of the parts at a node: how many factors it has since it was rescaled,
    and its scale."""

    value: Float[Tensor, "U K"]
    factors: int
    log_scale: Float[Tensor, " U"]  # nats
    sound: Bool[Tensor, " U"] | None  # None: all of them

    def times(self, message: "_Held", index: Tensor | None) -> "_Held":
        """The product with a message from below, in place; rescaled to a peak of one before states
        may underflow."""
        self.value.mul_(_take(message.value, index))
        scale = self.log_scale + _take(message.log_scale, index)
        sound = _both(self.sound, _taken(message.sound, index))
        out = _Held(self.value, self.factors + message.factors, scale, sound)
        return out.rescaled() if out.factors > FACTORS[self.value.dtype] else out

    def rescaled(self) -> "_Held":
        """To a peak of one, in place: one factor."""
        peak = self.value.amax(1)
        sound = peak > FAINT[self.value.dtype]
        self.value.div_(torch.where(sound, peak, 1.0)[:, None])
        return _Held(self.value, 1, self.log_scale + peak.log(), _both(self.sound, sound))


class Counts(NamedTuple):
    """Expected counts of the root's states, of transitions (before they are multiplied by p(z_j |
    z_parent)), and of each distinct cell under each state. Those of further rows are added in
    place."""

    root: Float[Tensor, " K"]
    edge: Float[Tensor, "D K K"]
    leaf: Float[Tensor, "P K"]


@dataclass(frozen=True)
class Tree:
    """``parents`` of each node (the root's is -1), the nodes in an ``order`` from the root down,
    p(z_root), p(z_j | z_parent)."""

    parents: list[int]
    order: list[int]
    root: Float[Tensor, " K"]
    edge: Float[Tensor, "D K K"]  # (node, parent state, own state); that of the root is not used

    def active(self, leaves: Leaves) -> list[int]:
        """The nodes in order, without those at and below which nothing is known of any row."""
        needed = {self.order[0], *(node for node in self.order if leaves.known[node])}
        for node in reversed(self.order[1:]):
            if node in needed:
                needed.add(self.parents[node])
        return [node for node in self.order if node in needed]

    def parts(
        self, place: Int[Tensor, "B D"], start: list[int], nodes: list[int]
    ) -> dict[int, Parts]:
        """The distinct parts of the rows, from the leaves of the tree up; where nearly all differ,
        as they all do above there, rows stand for themselves. With few states that would cost more
        than it saves but at the leaves of the tree."""
        rows = torch.arange(len(place))
        deep = len(self.root) >= MIN_SHARED_STATES
        out = dict[int, Parts]()
        below: dict[int, list[int]] = {node: [] for node in nodes}
        for node in reversed(nodes):
            children = below[node]
            own = place[:, node].contiguous()
            cells = start[node + 1] - start[node]
            number = None
            first = rows
            if deep:
                number = _numbered(
                    own - start[node],
                    cells,
                    [out[child] for child in children],
                    MAX_DISTINCT_SHARE * len(place),
                )
                first = (
                    rows
                    if number is None
                    else rows.new_empty(int(number.max()) + 1).scatter_(0, number, rows)
                )
                out[node] = Parts(own[first], number, None)
            elif not children and cells < len(place):
                out[node] = Parts(
                    torch.arange(start[node], start[node + 1]), own - start[node], None
                )
            else:
                out[node] = Parts(own, None, None)
            for child in children:
                of_row = out[child].of_row
                out[child] = out[child]._replace(
                    of_parent=of_row if of_row is None or number is None else of_row[first]
                )
            if self.parents[node] >= 0:
                below[self.parents[node]].append(node)
        return out

    def up(
        self, leaves: Leaves, place: Int[Tensor, "B D"], nodes: list[int], keep: bool = False
    ) -> Up:
        """Of rows whose cells are at ``place`` among the leaves."""
        parts = self.parts(place, leaves.start, nodes)
        product = {}
        message = {}
        below: dict[int, list[tuple[_Held, Tensor | None]]] = {node: [] for node in nodes}
        for node in reversed(nodes):
            own = parts[node]
            held = _Held(
                leaves.likelihood.index_select(0, own.cell),
                1,
                leaves.peak.index_select(0, own.cell),
                None,
            )
            for received, index in below.pop(node):
                held = held.times(received, index)
            if self.parents[node] < 0:
                held = held.rescaled()
            if keep:
                product[node] = held.value
            if self.parents[node] < 0:
                break
            sent = held._replace(value=held.value @ self.edge[node].T)
            if keep:
                message[node] = sent.value
            below[self.parents[node]].append((sent, own.of_parent))
        assert held.sound is not None  # the root's product was rescaled
        top, log_scale, sound = (
            _take(each, own.of_row) for each in (held.value, held.log_scale, held.sound)
        )
        return Up(top, log_scale, sound, parts, product, message)

    def log_prob(self, up: Up) -> Float[Tensor, " B"]:
        """Nats."""
        return up.log_scale + (up.top @ self.root).double().log()

    def log_root(self, up: Up) -> Float[Tensor, "B K"]:
        """log p(what is known, z_root), nats."""
        return up.log_scale[:, None] + (up.top * self.root).log()

    def nothing(self, leaves: Leaves) -> Counts:
        """Of no rows."""
        return Counts(
            torch.zeros_like(self.root),
            torch.zeros_like(self.edge),
            torch.zeros_like(leaves.likelihood),
        )

    def count(self, up: Up, weight: Float[Tensor, " B"], total: Counts) -> None:
        """Add the expected counts of rows that a pass up over all nodes has kept."""
        top = up.top * self.root
        given = top.mul_((weight.to(top) / top.sum(1))[:, None])  # weight times p(z | x), by row
        total.root.add_(given.sum(0))
        share = {-1: given}  # by node, of its parts
        left = Counter(self.parents)
        for node in self.order:
            parent = self.parents[node]
            own = up.parts[node]
            share[node] = _add(
                share[parent], own.of_row if parent < 0 else own.of_parent, own.number
            )
            if parent >= 0:
                above = share[node] / up.message[node].clamp_min(torch.finfo(top.dtype).tiny)
                total.edge[node].addmm_(above.T, up.product[node])
                share[node] = (above @ self.edge[node]).mul_(up.product[node])
            left[parent] -= 1
            if not left[parent]:
                del share[parent]
            total.leaf.index_add_(0, own.cell, share[node])

    def draw(self, up: Up, rows: int, generator: torch.Generator | None) -> Int[Tensor, "B D"]:
        """A state for every node, from p(z | what is known)."""
        states = torch.empty(len(self.parents), rows, dtype=torch.long)
        below = torch.ones_like(self.edge[0]).triu()
        uniform = torch.rand(len(self.parents), rows, 1, generator=generator, dtype=self.root.dtype)
        for node in self.order:
            parent = self.parents[node]
            prior = (
                self.root.expand(rows, -1)
                if parent < 0
                else self.edge[node].index_select(0, states[parent])
            )
            known = _take(up.product[node], up.parts[node].of_row) if node in up.product else 1.0
            total = (prior * known) @ below  # a running sum, as one product
            states[node] = torch.searchsorted(total, uniform[node] * total[:, -1:])[:, 0].clamp_max(
                len(self.root) - 1
            )
        return states.T


def _take(value: Tensor, index: Tensor | None) -> Tensor:
    """Of each that the index names."""
    return value if index is None else value.index_select(0, index)


def _taken(
    sound: Bool[Tensor, " U"] | None, index: Int[Tensor, " _"] | None
) -> Bool[Tensor, " _"] | None:
    return None if sound is None else _take(sound, index)


def _both(
    first: Bool[Tensor, " U"] | None, second: Bool[Tensor, " U"] | None
) -> Bool[Tensor, " U"] | None:
    """Where both are sound."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _add(value: Float[Tensor, "_ K"], index: Tensor | None, count: int) -> Float[Tensor, "_ K"]:
    """The sums of those that the index puts together."""
    return (
        value
        if index is None
        else value.new_zeros(count, value.shape[1]).index_add_(0, index, value)
    )


def _numbered(
    own: Int[Tensor, " B"], cells: int, below: list[Parts], most: float
) -> Int[Tensor, " B"] | None:
    """The number of each row's part at a node: equal if its own cell and the parts below are. None
    if there are more than ``most``."""
    key = own
    size = cells
    for part in below:
        if part.of_row is None:
            return None
        if size * part.number > MAX_PAIR_CODE:
            key = key.unique(return_inverse=True)[1]
            size = len(key)
        key = key * part.number + part.of_row
        size = size * part.number
    distinct, number = key.unique(return_inverse=True)
    return number if len(distinct) < most else None

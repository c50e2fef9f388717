r"""The passes through a latent tree in linear space: up (sums), down (expected counts) and down (draws).

    t_j(z_j) = p(x_j | z_j) prod_c m_c(z_j),      m_c(z_j) = sum_{z_c} p(z_c | z_j) t_c(z_c)            (c a child of j)

    p(x) = sum_z p(z) t_root(z),      p(z_j, z_c | x) = p(z_j | x) / m_c(z_j)  p(z_c | z_j)  t_c(z_c)

J. Pearl (1988), Probabilistic reasoning in intelligent systems, section 4.2. A product is rescaled to a peak of one every few
factors and the logarithm of its peak is kept for the row, so that a node costs one small matrix product and hardly any
logarithm. Rows that are all but impossible under every state would underflow: ``Up.sound`` is false for them, and the caller
asks in log-space instead. Nothing here has a gradient; log p is in nats. In float32 a pass takes half of the time; draws need no more.

Shape letters: B rows, D variables (nodes of the tree), K states, P distinct cells.

>>> Tree([-1, 0, 0], [0, 1, 2], torch.ones(2) / 2, torch.ones(3, 2, 2) / 2).parents
[-1, 0, 0]
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conjoin._shapes import Bool, Float, Int
from conjoin.leaves import LeafTable

__all__ = ["Counts", "Leaves", "Tree", "Up"]

FACTORS = {torch.float64: 12, torch.float32: 2}  # in a product between two rescalings
FAINT = {torch.float64: 1e-200, torch.float32: 1e-25}  # a peak so small that states may have underflowed


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

    def own(self, node: int) -> Float[Tensor, "_ K"]:
        """Those of one variable."""
        return self.likelihood[self.start[node] : self.start[node + 1]]


class Up(NamedTuple):
    """What a pass up leaves behind: the product at the root and its scale; products and messages by node, if they were to be kept."""

    top: Float[Tensor, "B K"]
    log_scale: Float[Tensor, " B"]  # nats
    sound: Bool[Tensor, " B"]
    product: dict[int, Float[Tensor, "B K"]]
    message: dict[int, Float[Tensor, "B K"]]


class Counts(NamedTuple):
    """Expected counts of the root's states, of transitions, and of each distinct cell under each state."""

    root: Float[Tensor, " K"]
    edge: Float[Tensor, "D K K"]
    leaf: Float[Tensor, "P K"]


@dataclass(frozen=True)
class Tree:
    """``parents`` of each node (the root's is -1), the nodes in an ``order`` from the root down, p(z_root), p(z_j | z_parent)."""

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

    def up(self, leaves: Leaves, place: Int[Tensor, "B D"], nodes: list[int], keep: bool = False) -> Up:
        """Of rows whose cells are at ``place`` among the leaves."""
        out = Up(torch.empty(0), leaves.peak[place].sum(1), torch.ones(len(place), dtype=torch.bool), {}, {})
        below: dict[int, list[tuple[Tensor, int]]] = {node: [] for node in nodes}
        at = (place - torch.tensor(leaves.start[:-1])).T.contiguous()
        for node in reversed(nodes):
            own, messages, parent = leaves.own(node), below.pop(node), self.parents[node]
            held, count = own.index_select(0, at[node]), 1
            for message, more in messages:
                held *= message
                count += more
                if count > FACTORS[held.dtype]:
                    count = self._rescale(held, out)
            if parent < 0:
                self._rescale(held, out)
            if keep:
                out.product[node] = held
            if parent < 0:
                break
            few = not messages and len(own) < len(held)  # a leaf of the tree: its messages are looked up
            message = (own @ self.edge[node].T).index_select(0, at[node]) if few else held @ self.edge[node].T
            if keep:
                out.message[node] = message
            below[parent].append((message, count))
        return out._replace(top=held)

    def log_prob(self, up: Up) -> Float[Tensor, " B"]:
        """Nats."""
        return up.log_scale + (up.top @ self.root).double().log()

    def log_root(self, up: Up) -> Float[Tensor, "B K"]:
        """log p(what is known, z_root), nats."""
        return up.log_scale[:, None] + (up.top * self.root).log()

    def _rescale(self, held: Float[Tensor, "B K"], out: Up) -> int:
        """A product to a peak of one, in place: one factor."""
        peak = held.amax(1)
        sound = peak > FAINT[held.dtype]
        held /= torch.where(sound, peak, 1.0)[:, None]
        out.log_scale.add_(peak.log())
        out.sound.logical_and_(sound)
        return 1

    def counts(self, up: Up, leaves: Leaves, place: Int[Tensor, "B D"], weight: Float[Tensor, " B"]) -> Counts:
        """Of rows that a pass up over all nodes has kept."""
        top = up.top * self.root
        share = {self.order[0]: top * (weight / top.sum(1))[:, None]}  # weight times p(z | x), by node
        counts = Counts(share[self.order[0]].sum(0), torch.zeros_like(self.edge), torch.zeros_like(leaves.likelihood))
        left = [sum(parent == node for parent in self.parents) for node in range(len(self.parents))]
        for node in self.order:
            parent = self.parents[node]
            if parent >= 0:
                given = share[parent] / up.message[node].clamp_min(1e-300)
                torch.mul(self.edge[node], given.T @ up.product[node], out=counts.edge[node])
                share[node] = (given @ self.edge[node]).mul_(up.product[node])
                left[parent] -= 1
                if not left[parent]:
                    del share[parent]
            counts.leaf.index_add_(0, place[:, node], share[node])
        return counts

    def draw(self, up: Up, rows: int, generator: torch.Generator | None) -> Int[Tensor, "B D"]:
        """A state for every node, from p(z | what is known)."""
        states = torch.empty(len(self.parents), rows, dtype=torch.long)
        below = torch.ones_like(self.edge[0]).triu()
        uniform = torch.rand(len(self.parents), rows, 1, generator=generator, dtype=self.root.dtype)
        for node in self.order:
            parent = self.parents[node]
            prior = self.root.expand(rows, -1) if parent < 0 else self.edge[node].index_select(0, states[parent])
            total = (prior * up.product[node] if node in up.product else prior) @ below  # a running sum, as one product
            states[node] = torch.searchsorted(total, uniform[node] * total[:, -1:])[:, 0].clamp_max(len(self.root) - 1)
        return states.T

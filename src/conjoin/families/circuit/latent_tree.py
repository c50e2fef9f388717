r"""Latent-tree circuit: a latent variable for every column, tied together along a Chow-Liu tree.

    p(x) = sum_z  p(z_root) prod_{i -> j} p(z_j | z_i) prod_d p(x_d | z_d),      z_d in {1..K}

Hidden Chow-Liu trees: A. Liu and G. Van den Broeck (2021), Tractable regularization of probabilistic circuits, section 4.
One pass up the tree sums the latent variables out and gives log p(x) in nats, with any cells missing; one pass down
draws them, so every marginal and every conditional is exact. Expected counts are gradients of log p with respect to
log-parameters (A. Darwiche (2003), A differential approach to inference in Bayesian networks, theorem 1), which is all
that expectation-maximisation needs.

Shape letters: B rows, D variables, N nodes of one level, K states.

>>> from conjoin.core import Event, Space, Variable
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> model = CircuitDensity.build(space, Circuit(width=2), data, torch.Generator().manual_seed(0))
>>> model.log_prob(Event(data.value, torch.tensor([[True, False]] * 4))).exp().sum().item() > 0
True
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin._shapes import Float, Int
from conjoin.core import Capabilities, Config, Density, Event, Likelihood, Recipe, Space, categorical, stream
from conjoin.families.circuit.passes import Leaves, Tree
from conjoin.families.circuit.structure import chow_liu_tree
from conjoin.families.classic.mixture import Mixture, MixtureDensity
from conjoin.leaves import LeafLayer

__all__ = ["Circuit", "CircuitDensity"]


BLOCK = 2048  # rows of a pass that keeps nothing
KEPT = 1024  # rows of one that keeps all its messages
WALKS = 24  # drawn walks down the tree that compete for the mode


@dataclass(frozen=True)
class Circuit(Config):
    """``width``: states of each latent variable (None: from the number of rows). ``smoothing``: rows of prior per state."""

    width: int | None = None
    smoothing: float = 0.5

    def recipe(self, rows: int) -> Recipe:
        """Small batches: many steps an epoch."""
        return Recipe(batch=256)


class CircuitDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Circuit
    bounded = True

    def __init__(self, space: Space, config: Circuit, structure: dict[str, Any] | None = None, context_space: Space | None = None) -> None:
        super().__init__(space, config, structure, context_space)
        self.order = _downward(self.structure["parents"])
        width = self.structure["width"]
        self.root_logits = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        edges = len(space.variables) - 1
        transition = torch.zeros(edges, width, width, dtype=torch.float64)  # (child in order, parent state, child state)
        if edges:
            self.edge_logits = nn.Parameter(transition)
        else:
            self.register_buffer("edge_logits", transition, persistent=False)
        self.leaves = LeafLayer(space.variables, width, config.smoothing)

    @classmethod
    def build(
        cls,
        space: Space,
        config: Circuit,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Structure from the data; parameters from one mixture, whose component every latent variable starts as."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        width = min(config.width or default_width(data.rows), data.rows)
        parents = chow_liu_tree(data, space.variables, weight)
        density = cls(space, config, {"parents": parents, "width": width})
        mixture = MixtureDensity.build(space, Mixture(width, config.smoothing), data, generator, weight=weight)
        for _ in range(5):
            mixture.maximise(mixture.statistics(data, weight=weight))
        density.leaves.load_state_dict(mixture.leaves.state_dict())
        with torch.no_grad():
            density.root_logits.copy_(mixture.log_weight)
            sticky = torch.full((width, width), 0.2 / width, dtype=torch.float64) + 0.8 * torch.eye(width)
            density.edge_logits.copy_(sticky.log().expand_as(density.edge_logits))
        return density

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.EXACT, missing="exact", marginals="any", conditionals="any", regions=True, mode="approximate", statistics=True
        )

    # ------------------------------------------------------------------ in linear space: what is quick

    def _tree(self, dtype: torch.dtype = torch.float64) -> Tree:
        """The circuit as it is now."""
        edge = torch.zeros(len(self.order), *self.edge_logits.shape[1:], dtype=dtype)
        edge[self.order[1:]] = self.edge_logits.detach().softmax(-1).to(dtype)
        return Tree(self.structure["parents"], self.order, self.root_logits.detach().softmax(0).to(dtype), edge)

    def _quick(self, event: Event) -> Float[Tensor, " B"]:
        """log p without a gradient; rows that would underflow are asked in log-space."""
        table = self.leaves.table(event)
        tree, leaves = self._tree(), Leaves.of(table, torch.float64)
        nodes, out = tree.active(leaves), torch.empty(event.rows, dtype=torch.float64)
        for block in _blocks(event.rows, BLOCK):
            up = tree.up(leaves, table.place[block], nodes)
            out[block] = tree.log_prob(up)
            if not up.sound.all():
                faint = (~up.sound).nonzero()[:, 0] + block.start
                out[faint] = self._evaluate(self._leaf(event.take(faint)))
        return out

    # ------------------------------------------------------------------ in log-space: what has a gradient, and what is faint

    def _leaf(self, event: Event) -> Float[Tensor, "D B K"]:
        """log p(x_d | z_d)."""
        return self.leaves.log_event(event).transpose(0, 1)

    def _beliefs(self, leaf: Float[Tensor, "D B K"]) -> list[Float[Tensor, "B K"]]:
        """By node: log p(everything observed at and below it | its state)."""
        edge, belief = self.edge_logits.log_softmax(-1).exp(), list(leaf)
        for place, node in reversed(list(enumerate(self.order[1:]))):
            peak = belief[node].amax(-1, keepdim=True).detach()
            peak = torch.where(peak.isfinite(), peak, 0.0)  # a cell that no state allows
            parent = self.structure["parents"][node]
            belief[parent] = belief[parent] + peak + ((belief[node] - peak).exp() @ edge[place].T).log()
        return belief

    def _evaluate(self, leaf: Float[Tensor, "D B K"]) -> Float[Tensor, " B"]:
        return (self.root_logits.log_softmax(0) + self._beliefs(leaf)[0]).logsumexp(-1)

    def _walk(self, belief: list[Float[Tensor, "B K"]], choose: Any) -> Int[Tensor, "B D"]:
        """A state for every latent variable, ``choose``-n from its distribution given its parent's state."""
        log_edge, parents = self.edge_logits.log_softmax(-1), self.structure["parents"]
        states = {0: choose(self.root_logits.log_softmax(0) + belief[0])}
        for place, node in enumerate(self.order[1:]):
            states[node] = choose(log_edge[place][states[parents[node]]] + belief[node])
        return torch.stack([states[node] for node in range(len(states))], 1)

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, event: Event, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self._evaluate(self._leaf(event)) if torch.is_grad_enabled() else self._quick(event)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The root is the first variable: sum out everything else once, then try each candidate there."""
        hidden = torch.zeros_like(event.mask[0])
        hidden[0] = True
        rest = self._at_root(event.hide(hidden))
        probe = torch.zeros(len(candidates), event.value.shape[1], dtype=torch.float64)
        probe[:, 0] = candidates
        leaf = self.leaves.log_prob(probe, hidden.expand_as(probe))[:, 0]
        low, high = rest.amax(1, keepdim=True), leaf.amax(0)
        high = torch.where(high.isfinite(), high, 0.0)
        return low + torch.log(((rest - low + high).exp() @ (leaf - high).exp().T).clamp_min(1e-300))

    def _at_root(self, event: Event) -> Float[Tensor, "B K"]:
        """log p(what is known, z_root)."""
        log_root = self.root_logits.log_softmax(0)
        if torch.is_grad_enabled():
            return log_root + self._beliefs(self._leaf(event))[0]
        table = self.leaves.table(event)
        tree, leaves = self._tree(), Leaves.of(table, torch.float64)
        nodes, out = tree.active(leaves), torch.empty(event.rows, len(log_root), dtype=torch.float64)
        for block in _blocks(event.rows, BLOCK):
            up = tree.up(leaves, table.place[block], nodes)
            out[block] = up.log_scale[:, None] + up.top.log() + log_root
            if not up.sound.all():
                faint = (~up.sound).nonzero()[:, 0] + block.start
                out[faint] = self._beliefs(self._leaf(event.take(faint)))[0] + log_root
        return out

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(self, event: Event, context: Event | None, generator: torch.Generator | None) -> Event:
        table = self.leaves.table(event)
        tree, leaves = self._tree(torch.float32), Leaves.of(table, torch.float32)
        nodes, states = tree.active(leaves), torch.empty(event.value.shape, dtype=torch.long)
        for block in _blocks(event.rows, KEPT):
            up = tree.up(leaves, table.place[block], nodes, keep=True)
            states[block] = tree.draw(up, block.stop - block.start, generator)
            if not up.sound.all():
                faint = (~up.sound).nonzero()[:, 0] + block.start
                belief = self._beliefs(self._leaf(event.take(faint)))
                states[faint] = self._walk(belief, lambda logits: categorical(logits, generator))
        return Event(torch.where(event.mask, event.value, self.leaves.sample(states, generator, event.within)))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of several walks down the tree (along the most probable states, and along drawn ones), each ending at leaves' modes."""
        belief = self._beliefs(self._leaf(event))
        modes, noise = self.leaves.modes(), stream(0, "mode")
        walks = [lambda logits: logits.argmax(-1), *[lambda logits: _draw_alike(logits, noise)] * WALKS]
        states = [self._walk(belief, walk) for walk in walks]
        filled = torch.stack([torch.where(event.mask, event.value, modes[torch.arange(len(modes)), each]) for each in states])
        log_prob = torch.stack([self._log_prob(Event(value), None, None) for value in filled])
        return Event(filled[log_prob.argmax(0), torch.arange(event.rows)])

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        table = self.leaves.table(event)
        tree, leaves, log_prob = self._tree(), Leaves.of(table, torch.float64), torch.empty(event.rows, dtype=torch.float64)
        root, edge, leaf = torch.zeros_like(tree.root), torch.zeros_like(tree.edge), torch.zeros_like(leaves.likelihood)
        for block in _blocks(event.rows, KEPT):
            place = table.place[block]
            up = tree.up(leaves, place, tree.order, keep=True)
            log_prob[block] = tree.log_prob(up)
            found = tree.counts(up, leaves, place, weight[block] * up.sound)
            root, edge, leaf = root + found.root, edge + found.edge, leaf + found.leaf
        counts = {"root": root, "edge": edge[self.order[1:]], "log_prob": (weight * log_prob).sum()}
        return counts | self.leaves.statistics_of(table, leaf)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        smoothing = self.config.smoothing / len(self.root_logits)
        self.root_logits.copy_((statistics["root"] + smoothing).log())
        self.edge_logits.copy_((statistics["edge"] + smoothing).log())
        self.leaves.maximise(statistics)


def _draw_alike(logits: Float[Tensor, "*N B K"], generator: torch.Generator) -> Tensor:
    """As ``categorical``, with the same noise for every row: a row's draw does not depend on its batch."""
    shared = torch.rand(logits[..., :1, :].shape, generator=generator, dtype=torch.float64)
    return (logits - torch.log(-torch.log(shared.clamp(1e-300, 1 - 1e-16)))).argmax(-1)


def default_width(rows: int) -> int:
    """At most 48, and so few that a table of transitions between states has no more than a sixth as many cells as there are rows."""
    return max(1, min(48, round(0.4 * rows**0.5)))


def _blocks(rows: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _downward(parents: list[int]) -> list[int]:
    """The nodes by depth, the root first."""
    order = [node for node, parent in enumerate(parents) if parent < 0]
    depth = order
    while depth := [node for node, parent in enumerate(parents) if parent in depth]:
        order = order + depth
    return order

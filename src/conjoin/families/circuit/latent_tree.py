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

from conjoin._shapes import Float
from conjoin.core import Capabilities, Config, Density, Event, Likelihood, Space, categorical, stream
from conjoin.families.circuit.structure import chow_liu_tree
from conjoin.families.classic.mixture import Mixture, MixtureDensity, default_states
from conjoin.leaves import LeafLayer

__all__ = ["Circuit", "CircuitDensity"]


WALKS = 24  # drawn walks down the tree that compete for the mode


@dataclass(frozen=True)
class Circuit(Config):
    """``width``: states of each latent variable (None: from the number of rows). ``smoothing``: rows of prior per state."""

    width: int | None = None
    smoothing: float = 1.0


class CircuitDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Circuit
    bounded = True

    def __init__(self, space: Space, config: Circuit, structure: dict[str, Any] | None = None, context_space: Space | None = None) -> None:
        super().__init__(space, config, structure, context_space)
        self.levels = _levels(self.structure["parents"])
        self.order = torch.tensor([node for level in self.levels for node in level])
        width = self.structure["width"]
        self.root_logits = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        edges = len(space.variables) - 1
        transition = torch.zeros(edges, width, width, dtype=torch.float64)  # (child in level order, parent state, child state)
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
        width = min(config.width or default_states(data.rows), data.rows)
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

    # ------------------------------------------------------------------ up: sums; down: draws

    def _leaf(self, event: Event) -> Float[Tensor, "D B K"]:
        """log p(x_d | z_d) in level order."""
        return self.leaves.log_event(event).transpose(0, 1)[self.order]

    def _up(self, leaf: Float[Tensor, "D B K"], log_edge: Float[Tensor, "E K K"]) -> list[Float[Tensor, "N B K"]]:
        """Per level, root first: log p(everything observed at and below the node | its state)."""
        edge = log_edge.exp().transpose(1, 2)  # (E, child, parent)
        belief = list(leaf.split([len(level) for level in self.levels]))
        last = len(self.order)
        for depth in range(len(self.levels) - 1, 0, -1):
            first = last - len(self.levels[depth])
            peak = belief[depth].amax(-1, keepdim=True).detach()
            peak = torch.where(peak.isfinite(), peak, 0.0)  # a cell that no state allows
            message = peak + torch.bmm((belief[depth] - peak).exp(), edge[first - 1 : last - 1]).log()
            belief[depth - 1] = belief[depth - 1].index_add(0, self._parents_at(depth), message)
            last = first
        return belief

    def _parents_at(self, depth: int) -> Tensor:
        """For each node of a level, the position of its parent in the level above."""
        position = {node: place for place, node in enumerate(self.levels[depth - 1])}
        return torch.tensor([position[self.structure["parents"][node]] for node in self.levels[depth]])

    def _down(self, belief: list[Tensor], choose: Any) -> Tensor:
        """(B, D) a state for every latent variable, ``choose``-n from its distribution given its parent's state."""
        log_edge = self.edge_logits.log_softmax(-1)
        states = [choose(self.root_logits.log_softmax(0) + belief[0])]
        first = 0
        for depth in range(1, len(self.levels)):
            nodes = len(self.levels[depth])
            above = states[-1][self._parents_at(depth)]  # (N, B)
            given = log_edge[first : first + nodes][torch.arange(nodes)[:, None], above]
            states.append(choose(given + belief[depth]))
            first += nodes
        return torch.cat(states)[self.order.argsort()].T

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, event: Event, context: Event | None, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        return self._evaluate(self._leaf(event), self.root_logits.log_softmax(0), self.edge_logits.log_softmax(-1))

    def _evaluate(self, leaf: Tensor, log_root: Tensor, log_edge: Tensor) -> Float[Tensor, " B"]:
        return (log_root + self._up(leaf, log_edge)[0][0]).logsumexp(-1)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The root is the first variable: sum out everything else once, then try each candidate there."""
        hidden = torch.zeros_like(event.mask[0])
        hidden[0] = True
        rest = self.root_logits.log_softmax(0) + self._up(self._leaf(event.hide(hidden)), self.edge_logits.log_softmax(-1))[0][0]
        probe = torch.zeros(len(candidates), event.value.shape[1], dtype=torch.float64)
        probe[:, 0] = candidates
        leaf = self.leaves.log_prob(probe, hidden.expand_as(probe))[:, 0]
        low, high = rest.amax(1, keepdim=True), leaf.amax(0)
        high = torch.where(high.isfinite(), high, 0.0)
        return low + torch.log(((rest - low + high).exp() @ (leaf - high).exp().T).clamp_min(1e-300))

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(self, event: Event, context: Event | None, generator: torch.Generator | None) -> Event:
        belief = self._up(self._leaf(event), self.edge_logits.log_softmax(-1))
        states = self._down(belief, lambda logits: categorical(logits, generator))
        return Event(torch.where(event.mask, event.value, self.leaves.sample(states, generator, event.within)))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of several walks down the tree (along the most probable states, and along drawn ones), each ending at leaves' modes."""
        belief = self._up(self._leaf(event), self.edge_logits.log_softmax(-1))
        modes, noise = self.leaves.modes(), stream(0, "mode")
        walks = [lambda logits: logits.argmax(-1), *[lambda logits: _draw_alike(logits, noise)] * WALKS]
        states = [self._down(belief, walk) for walk in walks]
        filled = torch.stack([torch.where(event.mask, event.value, modes[torch.arange(len(modes)), each]) for each in states])
        log_prob = torch.stack([self._log_prob(Event(value), None, None) for value in filled])
        return Event(filled[log_prob.argmax(0), torch.arange(event.rows)])

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        leaf = self._leaf(event).detach()
        log_root, log_edge = self.root_logits.log_softmax(0).detach(), self.edge_logits.log_softmax(-1).detach()
        inputs = [part.requires_grad_() for part in (leaf, log_root, log_edge)]
        with torch.enable_grad():
            total = (weight * self._evaluate(*inputs)).sum()
            share, root, edge = torch.autograd.grad(total, inputs, allow_unused=True)
        share = share[self.order.argsort()].transpose(0, 1)
        counts = {"root": root, "edge": torch.zeros_like(log_edge) if edge is None else edge, "log_prob": total.detach()}
        return counts | self.leaves.statistics(event.value, event.mask, share)

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        smoothing = self.config.smoothing / len(self.root_logits)
        self.root_logits.copy_((statistics["root"] + smoothing).log())
        self.edge_logits.copy_((statistics["edge"] + smoothing).log())
        self.leaves.maximise(statistics)


def _draw_alike(logits: Float[Tensor, "*N B K"], generator: torch.Generator) -> Tensor:
    """As ``categorical``, with the same noise for every row: a row's draw does not depend on its batch."""
    shared = torch.rand(logits[..., :1, :].shape, generator=generator, dtype=torch.float64)
    return (logits - torch.log(-torch.log(shared.clamp(1e-300, 1 - 1e-16)))).argmax(-1)


def _levels(parents: list[int]) -> list[list[int]]:
    """Nodes by depth, the root first."""
    levels = [[node for node, parent in enumerate(parents) if parent < 0]]
    while len(found := [n for n, parent in enumerate(parents) if parent in levels[-1]]):
        levels.append(found)
    return levels

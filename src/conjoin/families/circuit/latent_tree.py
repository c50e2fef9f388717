r"""Latent-tree circuit: a latent variable for every column, tied together along a Chow-Liu tree;
and a few such trees mixed.

    p(x) = sum_t sum_z  p(t, z_root) prod_{i -> j} p(z_j | z_i, t) prod_d p(x_d | z_d, t),
    t in {1..T},  z_d in {1..K}

Hidden Chow-Liu trees: A. Liu and G. Van den Broeck (2021), Tractable regularization of
probabilistic circuits, section 4. Every tree learns from all rows, from a start of its own and
along links that were counted in a bootstrap of them: their mean is never worse than they are on
average, as log is concave (P. Smyth and D. Wolpert (1999), Linearly combining density estimators
via stacking, section 3). One pass up the tree sums the latent variables out and gives log p(x) in
nats, with any cells missing; one pass down draws them, so every marginal and every conditional is
exact. Expected counts are gradients of log p with respect to log-parameters (A. Darwiche (2003), A
differential approach to inference in Bayesian networks, theorem 1), which is all that
expectation-maximisation needs.

Shape letters: B rows, D variables, T trees, K states of a latent variable, S = T K.

>>> from conjoin.core import Event, Space, Variable
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> model = CircuitDensity.build(space, Circuit(width=2), data, torch.Generator().manual_seed(0))
>>> model.log_prob(Event(data.value, torch.tensor([[True, False]] * 4))).exp().sum().item() > 0
True
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.components.leaves import LeafLayer
from conjoin.core import (
    Capabilities,
    Config,
    Density,
    Event,
    Likelihood,
    Recipe,
    Space,
    as_float,
    categorical,
    stream,
)
from conjoin.core.constants import MAX_FEW_COLUMNS
from conjoin.core.event import slices
from conjoin.core.shapes import Float, Int
from conjoin.families.circuit.passes import MIN_SHARED_STATES, Leaves, Tree, Up
from conjoin.families.circuit.structure import chow_liu_tree, wide
from conjoin.families.circuit.windows import counts_by_window, windows_in_time
from conjoin.families.classic.mixture import Mixture, MixtureDensity, counted
from conjoin.util.budget import tell_cut, while_time

__all__ = ["Circuit", "CircuitDensity"]


START_PASSES = 2  # of expectation-maximisation, for the mixture that a tree starts as
MAX_START_ROWS = 6000  # that this mixture learns from: the passes that follow see all
BLOCK_ROWS = 2048  # rows of a pass that keeps nothing
KEPT_ROWS = 1024  # rows of one that keeps all its messages
MODE_WALKS = 24  # drawn walks down the trees that compete for the mode
MAX_TREES = 3  # trees that are mixed where their number is not given
MAX_BOOTSTRAP_DRAWS = 1 << 20  # of a bootstrap, at most
MAX_CELLS = 64_000_000  # of all transitions and levels, at most
SMALL_SIDE_PIXELS = (
    16  # pixels a side, under which a picture beside columns is so many more columns
)
MAX_WORK_CELLS = (
    1_800_000  # and cells that all of them together learn from, a number counting twice
)


@dataclass(frozen=True)
class Circuit(Config):
    """Settings of the mixture of latent trees.

    Parameters
    ----------
    width : int or None, default None
        States of each latent variable; None takes them from the size of the table.
    trees : int or None, default None
        Trees that are mixed; None takes them from the size of the table.
    smoothing : float, default 0.5
        Rows of prior for each state.
    batch : int or None, default None
        Rows of a step; None: 256, and 4,096 of pictures with so many levels that a step is
        dear.
    """

    width: int | None = None
    trees: int | None = None
    smoothing: float = 0.5
    batch: int | None = None

    def recipe(self, rows: int) -> Recipe:
        """Small batches: many steps an epoch."""
        return Recipe(batch=self.batch or 256)

    def suited(self, space: Space) -> Config:
        """Beside a picture of many pixels a circuit has the columns, and a diffusion the picture;
        small ones are so many more columns."""
        if (
            0 < space.pixels < len(space.variables)
            and min((space.grid or (0, 0))[1:]) >= SMALL_SIDE_PIXELS
        ):
            from conjoin.families.illustrated import Illustrated

            return Illustrated(settings=self.get_params())
        return self if self.batch or not _vast(space) else replace(self, batch=4096)

    def streamed(self) -> Config:
        """One tree: several gain the least where rows are many."""
        return self if self.trees else replace(self, trees=1)


class CircuitDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Circuit
    bounded = True
    many_levels = True
    takes_bytes = True

    def __init__(
        self,
        space: Space,
        config: Circuit,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        # models of 0.1.0 have one tree
        self.parents: list[list[int]] = self.structure.get("trees") or [self.structure["parents"]]
        self.orders = [_downward(parents) for parents in self.parents]
        count = len(self.parents)
        width = self.structure["width"]
        edges = len(space.variables) - 1
        self.root_logits = nn.Parameter(torch.zeros(count * width, dtype=torch.float64))
        # (child in order, parent state, child state)
        transition = torch.zeros(count * edges, width, width, dtype=torch.float64)
        if edges:
            self.edge_logits = nn.Parameter(transition)
        else:
            self.register_buffer("edge_logits", transition, persistent=False)
        self.leaves = LeafLayer(space.variables, count * width, config.smoothing)

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
        """Structure from the data; parameters of a tree from one mixture, whose component every
        latent variable starts as."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        rows = counted(data, weight)
        seen = windows_in_time(data, space, picture_width(space, rows)) if _vast(space) else rows
        width = min(
            config.width
            or (picture_width(space, seen) if _vast(space) else default_width(space, rows)),
            data.rows,
        )
        if seen < rows:
            tell_cut(
                f"For want of time the circuit starts from {seen:,} of {rows:,} pictures, with "
                f"{width} states of each latent variable."
            )
        count = default_trees(space, data.rows) if config.trees is None else config.trees
        if not isinstance(count, int) or count < 1:
            raise ValueError(
                f"trees must be a whole number of at least 1, or None, got {config.trees!r}."
            )
        resampled = [weight, *(_bootstrap(weight, generator) for _ in range(count - 1))]
        trees = [
            chow_liu_tree(data, space.variables, counted, space.grid if _vast(space) else None)
            for counted in resampled
        ]
        density = cls(space, config, {"trees": trees, "width": width})
        if _vast(space):
            # rows are in an order of their hashes: the first are as good as any
            some = slice(0, seen)
            scale = float(weight.sum() / weight[some].sum())
            density._start_by_windows(data.take(some), scale * weight[some], generator)
        else:
            density._start_by_mixtures(as_float(data), weight, generator)
        return density

    def _start_by_windows(
        self, data: Event, weight: Float[Tensor, " B"], generator: torch.Generator
    ) -> None:
        """Every latent variable starts as what its neighbourhood looks like."""
        width = self.structure["width"]
        trees = zip(self.parents, self.orders, strict=True)
        counted = [
            counts_by_window(data, self.space, weight, width, *tree, generator) for tree in trees
        ]
        self.leaves.start(data.value, data.mask, weight)
        self.begun = {
            key: torch.cat([each[key] for each in counted], int(key == "levels"))
            for key in counted[0]
        }
        self.maximise(self.begun)

    def _start_by_mixtures(
        self, data: Event, weight: Float[Tensor, " B"], generator: torch.Generator
    ) -> None:
        """Every latent variable of a tree starts as the component of one mixture."""
        if data.rows > MAX_START_ROWS:
            some = torch.randperm(data.rows, generator=generator)[:MAX_START_ROWS].sort().values
            scale = weight.sum() / weight[some].sum()
            data = data.take(some)
            weight = scale * weight[some]
        width = self.structure["width"]
        config = self.config
        parts = [Mixture(width, config.smoothing)] * len(self.parents)
        mixtures = [
            MixtureDensity.build(self.space, each, data, generator, weight=weight) for each in parts
        ]
        for mixture in mixtures:
            for _ in while_time(range(START_PASSES), "the start of the circuit"):
                mixture.maximise(mixture.statistics(data, weight=weight))
        self.leaves.join([mixture.leaves for mixture in mixtures])
        with torch.no_grad():
            self.root_logits.copy_(
                torch.cat([mixture.log_weight.log_softmax(0) for mixture in mixtures])
            )
            sticky = torch.full((width, width), 0.2 / width, dtype=torch.float64) + 0.8 * torch.eye(
                width
            )
            self.edge_logits.copy_(sticky.log().expand_as(self.edge_logits))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.EXACT,
            objective="likelihood" if len(self.parents) == 1 else "surrogate",
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="approximate",
            statistics=True,
        )

    def _own(self, t: int) -> tuple[slice, slice]:
        """The states and the edges of one tree."""
        width = self.structure["width"]
        edges = len(self.orders[t]) - 1
        return slice(t * width, (t + 1) * width), slice(t * edges, (t + 1) * edges)

    # --------------------------------------------------------------- in linear space: what is quick

    def _tree(self, t: int, dtype: torch.dtype = torch.float64) -> Tree:
        """One tree as it is now; its root's states have p(t, z_root)."""
        states, edges = self._own(t)
        edge = torch.zeros(len(self.orders[t]), *self.edge_logits.shape[1:], dtype=dtype)
        edge[self.orders[t][1:]] = self.edge_logits.detach()[edges].softmax(-1).to(dtype)
        return Tree(
            self.parents[t],
            self.orders[t],
            self.root_logits.detach().softmax(0)[states].to(dtype),
            edge,
        )

    def _by_tree(
        self,
        event: Event,
        of_pass: Callable[[Tree, Up], Tensor],
        of_top: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        """What ``of_pass`` reads from the pass up each tree, without a gradient; rows that would
        underflow are asked in log-space, where ``of_top`` reads the same from log p(what is known,
        t, z_root)."""
        table = self.leaves.table(event)
        out = []
        for t in range(len(self.parents)):
            tree = self._tree(t)
            leaves = Leaves.of(table, self._own(t)[0], torch.float64)
            parts = []
            nodes = tree.active(leaves)
            for block in slices(event.rows, BLOCK_ROWS):
                up = tree.up(leaves, table.place[block], nodes)
                parts.append(of_pass(tree, up))
                if not up.sound.all():
                    faint = (~up.sound).nonzero()[:, 0]
                    parts[-1][faint] = of_top(
                        self._top(self._leaf(event.take(faint + block.start)), t)
                    )
            out.append(torch.cat(parts))
        return out

    def _quick(self, event: Event) -> Float[Tensor, "T B"]:
        """log p(x, t)."""
        return torch.stack(self._by_tree(event, Tree.log_prob, lambda top: top.logsumexp(-1)))

    # ----------------------------------------- in log-space: what has a gradient, and what is faint

    def _leaf(self, event: Event) -> Float[Tensor, "D B S"]:
        """log p(x_d | z_d, t)."""
        return self.leaves.log_event(event).transpose(0, 1)

    def _beliefs(self, leaf: Float[Tensor, "D B S"], t: int) -> list[Float[Tensor, "B K"]]:
        """By node: log p(everything observed at and below it | its state, t)."""
        states, edges = self._own(t)
        edge = self.edge_logits[edges].log_softmax(-1).exp()
        belief = list(leaf[..., states])
        for place, node in reversed(list(enumerate(self.orders[t][1:]))):
            peak = belief[node].amax(-1, keepdim=True).detach()
            peak = torch.where(peak.isfinite(), peak, 0.0)  # a cell that no state allows
            parent = self.parents[t][node]
            belief[parent] = (
                belief[parent] + peak + ((belief[node] - peak).exp() @ edge[place].T).log()
            )
        return belief

    def _top(self, leaf: Float[Tensor, "D B S"], t: int) -> Float[Tensor, "B K"]:
        """log p(what is known, t, z_root)."""
        return self.root_logits.log_softmax(0)[self._own(t)[0]] + self._beliefs(leaf, t)[0]

    def _tops(self, leaf: Float[Tensor, "D B S"]) -> Float[Tensor, "B S"]:
        return torch.cat([self._top(leaf, t) for t in range(len(self.parents))], -1)

    def _walk(self, belief: list[Float[Tensor, "B K"]], t: int, choose: Any) -> Int[Tensor, "B D"]:
        """A state for every latent variable of a tree, ``choose``-n from its distribution given its
        parent's state."""
        states, edges = self._own(t)
        log_edge = self.edge_logits[edges].log_softmax(-1)
        parents = self.parents[t]
        chosen = {0: choose(self.root_logits[states].log_softmax(0) + belief[0])}
        for place, node in enumerate(self.orders[t][1:]):
            chosen[node] = choose(log_edge[place][chosen[parents[node]]] + belief[node])
        return torch.stack([chosen[node] for node in range(len(chosen))], 1) + states.start

    # ------------------------------------------------------------------ hooks

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return (
            self._tops(self._leaf(event)).logsumexp(-1)
            if torch.is_grad_enabled()
            else self._quick(event).logsumexp(0)
        )

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """-log p of a row under the trees on average, at least that of their mixture: what each
        learns by itself."""
        if not torch.is_grad_enabled():
            return -self._quick(event).mean(0) - math.log(len(self.parents))
        log_each = self._tops(self._leaf(event)).unflatten(1, (len(self.parents), -1)).logsumexp(2)
        return -log_each.mean(1) - math.log(len(self.parents))

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """The root is the first variable: sum out everything else once, then try each candidate
        there."""
        hidden = torch.zeros_like(event.mask[0])
        hidden[0] = True
        rest = self._at_root(event.hide(hidden))
        probe = torch.zeros(len(candidates), event.value.shape[1], dtype=torch.float64)
        probe[:, 0] = candidates
        leaf = self.leaves.log_prob(probe, hidden.expand_as(probe))[:, 0]
        low = rest.amax(1, keepdim=True)
        high = leaf.amax(0)
        high = torch.where(high.isfinite(), high, 0.0)
        return low + torch.log(
            ((rest - low + high).exp() @ (leaf - high).exp().T).clamp_min(1e-300)
        )

    def _at_root(self, event: Event) -> Float[Tensor, "B S"]:
        """log p(what is known, t, z_root)."""
        if torch.is_grad_enabled():
            return self._tops(self._leaf(event))
        return torch.cat(self._by_tree(event, Tree.log_root, lambda top: top), 1)

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """A tree for each row, by what is known of it; then that tree's states, from the root
        down."""
        several = len(self.parents) > 1
        drawn_tree = (
            categorical(self._quick(event).T, generator)
            if several
            else torch.zeros(event.rows, dtype=torch.long)
        )
        table = self.leaves.table(event)
        states = torch.empty(event.value.shape, dtype=torch.long)
        for t in range(len(self.parents)):
            own = self._own(t)[0]
            tree = self._tree(t, torch.float32)
            leaves = Leaves.of(table, own, torch.float32)
            nodes = tree.active(leaves)
            rows = (drawn_tree == t).nonzero()[:, 0]
            for part in rows.split(KEPT_ROWS):
                up = tree.up(leaves, table.place[part], nodes, keep=True)
                states[part] = tree.draw(up, len(part), generator) + own.start
                if not up.sound.all():
                    faint = part[~up.sound]
                    belief = self._beliefs(self._leaf(event.take(faint)), t)
                    states[faint] = self._walk(
                        belief, t, lambda logits: categorical(logits, generator)
                    )
        return Event(
            torch.where(
                event.mask, event.value, self.leaves.sample(states, generator, event.within)
            )
        )

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of several walks down the trees (along the most probable states, and along drawn
        ones), each ending at leaves' modes."""
        leaf = self._leaf(event)
        modes = self.leaves.modes()
        noise = stream(0, "mode")
        states = []
        for t in range(len(self.parents)):
            belief = self._beliefs(leaf, t)
            walks = [
                lambda logits: logits.argmax(-1),
                *[lambda logits: _draw_alike(logits, noise)] * (MODE_WALKS // len(self.parents)),
            ]
            states += [self._walk(belief, t, walk) for walk in walks]
        filled = torch.stack(
            [
                torch.where(event.mask, event.value, modes[torch.arange(len(modes)), each])
                for each in states
            ]
        )
        log_prob = torch.stack([self._log_prob(Event(value), None, None) for value in filled])
        return Event(filled[log_prob.argmax(0), torch.arange(event.rows)])

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        """Of each tree from all rows."""
        table = self.leaves.table(event, by_series=True)
        dtype = torch.float32 if self.structure["width"] >= MIN_SHARED_STATES else torch.float64
        log_prob = torch.empty(len(self.parents), event.rows, dtype=torch.float64)
        counted = []
        for t in range(len(self.parents)):
            tree = self._tree(t, dtype)
            leaves = Leaves.of(table, self._own(t)[0], dtype)
            counted.append(tree.nothing(leaves))
            for block in slices(event.rows, KEPT_ROWS):
                up = tree.up(leaves, table.place[block], tree.order, keep=True)
                log_prob[t, block] = tree.log_prob(up)
                tree.count(up, weight[block] * up.sound, counted[t])
            counted[t].edge.mul_(tree.edge)
        root = torch.cat([each.root for each in counted])
        edge = [counted[t].edge[order[1:]] for t, order in enumerate(self.orders)]
        total = {
            "root": root.double(),
            "edge": torch.cat(edge).double(),
            "log_prob": (weight * log_prob.logsumexp(0)).sum(),
        }
        return total | self.leaves.statistics_of(
            table, torch.cat([each.leaf for each in counted], 1).double()
        )

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        smoothing = self.config.smoothing / self.structure["width"]
        self.root_logits.copy_((statistics["root"] + smoothing).log())
        self.edge_logits.copy_((statistics["edge"] + smoothing).log())
        self.leaves.maximise(statistics)


def _draw_alike(logits: Float[Tensor, "*N B K"], generator: torch.Generator) -> Tensor:
    """As ``categorical``, with the same noise for every row: a row's draw does not depend on its
    batch."""
    shared = torch.rand(logits[..., :1, :].shape, generator=generator, dtype=torch.float64)
    return (logits - torch.log(-torch.log(shared.clamp(1e-300, 1 - 1e-16)))).argmax(-1)


def default_width(space: Space, rows: int) -> int:
    """At most 48, and so few that a table of transitions between states has no more than a sixth as
    many cells as there are rows. Few columns of numbers, which are cheap, have up to 64: curves
    between them are pieced together of states."""
    few = len(space.variables) <= MAX_FEW_COLUMNS
    if few and not any(variable.discrete for variable in space.variables):
        return max(1, min(64, round(1.6 * rows**0.5)))
    return max(1, min(48, round(0.4 * rows**0.5)))


def picture_width(space: Space, rows: int) -> int:
    """Of pictures with many levels: 128 from some 50,000 on; no more than leave tables of
    transitions and levels room in memory."""
    levels = max(variable.cardinality for variable in space.variables)
    room = MAX_CELLS / len(space.variables)
    # K (K + L) D <= MAX_CELLS
    return max(
        1, min(128, round(0.55 * rows**0.5), int((levels**2 / 4 + room) ** 0.5 - levels / 2))
    )


def _vast(space: Space) -> bool:
    """Whether all is one picture, but for its class, and of so many levels that a start by windows
    pays."""
    alone = space.pixels > 0 and len(space.variables) - space.pixels <= 1
    return (
        alone and wide(space.variables) and all(variable.discrete for variable in space.variables)
    )


def default_trees(space: Space, rows: int) -> int:
    """Several where a fit is quick; they gain the most where rows are few."""
    return max(
        1,
        min(
            MAX_TREES,
            MAX_WORK_CELLS
            // (rows * sum(1 if variable.discrete else 2 for variable in space.variables)),
        ),
    )


def _bootstrap(weight: Float[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, " B"]:
    """How often each row is drawn in as many draws with replacement as the rows weigh together."""
    total = float(weight.sum())
    draws = max(1, min(round(total), MAX_BOOTSTRAP_DRAWS))
    drawn = torch.searchsorted(
        weight.cumsum(0), total * torch.rand(draws, generator=generator, dtype=torch.float64)
    )
    return torch.bincount(drawn.clamp_max(len(weight) - 1), minlength=len(weight)).double() * (
        total / draws
    )


def _downward(parents: list[int]) -> list[int]:
    """The nodes by depth, the root first."""
    order = [node for node, parent in enumerate(parents) if parent < 0]
    depth = order
    while depth := [node for node, parent in enumerate(parents) if parent in depth]:
        order = order + depth
    return order

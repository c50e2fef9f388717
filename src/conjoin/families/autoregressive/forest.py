r"""Forests along the chain rule: each column by extremely randomised trees, told those before it.

    p(x) = prod_d p(x_d | x_1, ..., x_{d-1}),
    p(x_d | x_<d) = sum_k w_k(x_<d) p(x_d | k),
    w(x_<d) = (1 - e) 1/T sum_t leaf_t(x_<d) + e m

Y. Bengio and S. Bengio (2000), Modeling high-dimensional discrete data with multi-layer neural
networks, equation 1, with forests in the place of networks (P. Geurts, D. Ernst and L. Wehenkel
(2006), Extremely randomized trees). A category's levels are its states k; a number's are the
components of a basis (conjoin.components.number_basis). Every node starts with ``l`` rows that are
distributed as its parent, the root with the column's own marginal m, so that no leaf is sure of
what it has not seen: leaf = (counts + l parent) / (rows + l). Each tree is grown without a fold of
the rows. Half of the trees split by Gini's impurity, half by entropy; how much each kind weighs,
and each l of a few, is for each column the linear pool that does best on the rows of the fold that
a tree has not seen. Then all rows are counted. Trees are grown once; the counts add up over rows.

log p of complete rows is exact, in nats, and so it is where only last columns are missing; of other
gaps it is a lower bound (conjoin.families.deep).

Shape letters: B rows, D variables, K states, N nodes of all trees, T trees, F features.

>>> from conjoin.core import Event, Space, Variable, stream
>>> import torch
>>> rows = Event(torch.tensor([[0.0, 0.0], [1.0, 1.0]] * 20).double())
>>> space = Space((2,), tuple(Variable(name, "category", cardinality=2) for name in "ab"))
>>> density = ForestChainDensity.build(space, ForestChain(), rows, stream(0))
>>> all_rows = Event(torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double())
>>> float(density.log_prob(all_rows).exp().sum().detach().round(decimals=5))
1.0
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from conjoin.components.decision_trees import descend, inner_layers, node_columns, roots_of
from conjoin.components.leaves import LeafLayer
from conjoin.components.number_basis import Basis
from conjoin.core import (
    Capabilities,
    Config,
    Event,
    Recipe,
    Space,
    Status,
    Variable,
    categorical,
)
from conjoin.core.constants import MAX_FEW_COLUMNS
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.deep import ProposalDensity, proposal_of

__all__ = ["ForestChain", "ForestChainDensity"]

STRENGTHS_ROWS = (1.0, 6.0, 36.0, 216.0, 1e4)  # of the prior of a node
# how trees are grown in turn: the impurity, and the share of the earlier columns that each split
# chooses from
KINDS = (("gini", 0.5), ("log_loss", 1.0))
FOLDS = 3  # one of which a tree does not see while it is grown
BLEND_ROUNDS = 50  # of expectation-maximisation for the blend of kinds and strengths
MARGINAL_SHARE = 0.01  # of the column's marginal in each conditional
MARGINAL_ROUNDS = 10  # of expectation-maximisation for the marginal of a number
MAX_CELLS = 1 << 22  # nodes times states of a column, about
GAP_SHARE = 0.1  # of a column's range, that missing cells lie below it, for the trees
TREES_AND_GROUPS = (12, 32)
TREES_AND_GROUPS_OF_FEW = (48, 64)  # of few columns: more trees and finer groups follow a curve


class Size(NamedTuple):
    """Of the forest of each column: trees, rows of a leaf at least, groups of a number."""

    trees: int
    min_rows: int
    groups: int


@dataclass(frozen=True)
class ForestChain(Config):
    """Settings of the chain of forests.

    Parameters
    ----------
    trees : int or None, default None
        Trees of each column; None: 12, and 48 of up to three columns.
    min_rows : int, default 5
        Rows of a leaf, at least.
    groups : int or None, default None
        Components of a number beside the values that have their own; None: 32, and 64 of up to
        three columns.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    """

    trees: int | None = None
    min_rows: int = 5
    groups: int | None = None
    draws: int = 32

    def size(self, columns: int) -> Size:
        """What is left open is filled in: few columns are cheap."""
        few = columns <= MAX_FEW_COLUMNS
        trees, groups = TREES_AND_GROUPS_OF_FEW if few else TREES_AND_GROUPS
        return Size(self.trees or trees, self.min_rows, self.groups or groups)

    def recipe(self, rows: int) -> Recipe:
        """All rows are counted once."""
        return Recipe(batch=max(rows, 1), epochs=1)


class Conditional(nn.Module):
    """p(x_d | the columns before it)."""

    feature: Tensor
    threshold: Tensor
    right: Tensor
    root: Tensor
    leaf: Tensor
    blend: Tensor

    def __init__(self, variable: Variable, nodes: int, trees: int, states: int) -> None:
        super().__init__()
        self.states = states
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.full((nodes,), -math.inf, dtype=torch.float32))
        self.register_buffer("right", torch.arange(nodes, dtype=torch.int32))
        self.register_buffer("root", torch.zeros(trees, dtype=torch.int32))
        self.register_buffer("leaf", torch.full((nodes, states), 1 / states))
        self.register_buffer("blend", _even_blend(trees))
        self.marginal = nn.Parameter(torch.zeros(states, dtype=torch.float64))  # log m
        number = None if variable.discrete else dataclasses.replace(variable, atoms=())
        self.components = None if number is None else LeafLayer((number,), states)
        if self.components is not None:
            self.components.requires_grad_(False)

    # ------------------------------------------------------------------ log p and draws

    def log_prob(
        self, value: Float[Tensor, " B"], table: Float[Tensor, "B F"]
    ) -> Float[Tensor, " B"]:
        return (self.weights(table).log() + self.log_states(value)).logsumexp(1)

    def weights(self, table: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """w_k of each row."""
        forest = embedding_bag(self.arrived(table), self.leaf, mode="mean").double()
        return (1 - MARGINAL_SHARE) * forest + MARGINAL_SHARE * self.marginal.softmax(0)

    def arrived(self, table: Float[Tensor, "B F"]) -> Int[Tensor, "B T"]:
        return descend(table, self.feature, self.threshold, self.right, self.root)

    def log_states(self, value: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
        """log p(value | k)."""
        if self.components is None:
            own = value[:, None].long() == torch.arange(self.states)
            return torch.where(own, 0.0, -math.inf).double()
        cell = value[:, None]
        return self.components.log_prob(cell, torch.ones_like(cell, dtype=torch.bool))[:, 0]

    def draw(
        self, table: Float[Tensor, "B F"], generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        state = categorical(self.weights(table).log(), generator)
        if self.components is None:
            return state.double()
        return self.components.sample(state[:, None], generator)[:, 0]

    # ------------------------------------------------------------------ learning

    def shares(self, value: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
        """p(k | value) under the marginal."""
        return (self.marginal.log_softmax(0) + self.log_states(value)).softmax(1)

    def counts(
        self, share: Float[Tensor, "B K"], node: Int[Tensor, "B T"], seen: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "N K"]:
        """How much of each state arrives in each leaf, from the rows that a tree has seen."""
        out = torch.zeros(self.leaf.shape, dtype=torch.float64)
        for own, rows in zip(node.T, seen.T, strict=True):
            out.index_add_(0, own[rows], share[rows])
        return out

    def layers(self) -> list[Int[Tensor, " M"]]:
        """The nodes that have children, by their depth."""
        return inner_layers(self.right, self.root)

    def totals(self, counts: Float[Tensor, "N K"], layers: list[Tensor]) -> Float[Tensor, "N K"]:
        """How much arrives in each node, or below it."""
        right = self.right.long()
        out = counts.clone()
        for layer in reversed(layers):
            out[layer] = out[layer + 1] + out[right[layer]]
        return out

    def shrunk(
        self, totals: Float[Tensor, "N K"], strength: float, layers: list[Tensor]
    ) -> Float[Tensor, "N K"]:
        """The distribution of each node, from the root down."""
        right = self.right.long()
        root = self.root.long()
        own = totals / (totals.sum(1, keepdim=True) + strength)
        lent = strength / (totals.sum(1, keepdim=True) + strength)
        out = own.clone()
        out[root] += lent[root] * self.marginal.softmax(0)
        for layer in layers:
            for child in (layer + 1, right[layer]):
                out[child] += lent[child] * out[layer]
        return out

    @torch.no_grad()
    def maximise(self, counts: Float[Tensor, "N K"]) -> None:
        """One row of prior over all states for the marginal; of the nodes the blend of all
        strengths, by which the mean over trees is that over kinds."""
        self.set_marginal(counts.sum(0) / len(self.root))
        kind = _kinds(len(self.root))
        share = self.blend * len(kind) / torch.bincount(kind, minlength=len(KINDS))[:, None]
        ends = torch.cat([self.root[1:], torch.tensor([len(self.leaf)])]).long()
        own = share.nan_to_num(0.0)[kind].repeat_interleave(ends - self.root.long(), 0)
        layers = self.layers()
        totals = self.totals(counts, layers)
        out = torch.zeros_like(counts)
        for index, strength in enumerate(STRENGTHS_ROWS):
            out += own[:, index : index + 1] * self.shrunk(totals, strength, layers)
        self.leaf.copy_(out)

    @torch.no_grad()
    def set_marginal(self, mass: Float[Tensor, " K"]) -> None:
        self.marginal.copy_((mass + 1 / self.states).log().log_softmax(0))


class ForestChainDensity(ProposalDensity):
    """Exact for complete rows, and where the last columns are missing."""

    config_class = ForestChain
    bounded = True
    gap: Tensor

    def __init__(
        self,
        space: Space,
        config: ForestChain,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        shapes = self.structure["columns"]
        self.columns = nn.ModuleList(
            Conditional(variable, *shape)
            for variable, shape in zip(space.variables, shapes, strict=True)
        )
        # what stands for a missing cell, for the trees
        self.register_buffer("gap", torch.full((len(shapes),), -1.0, dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Space,
        config: ForestChain,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """The proposal, then the trees of one column after the other."""
        _check(config)
        size = config.size(len(space.variables))
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        proposal = proposal_of(space, data, weight, context, context_space, generator)
        gap = _gaps(space, data)
        code = None if context is None else torch.where(context.mask, context.value, -1.0)
        table = _table(data.value, data.mask, code, gap)
        grown = []
        for d, variable in enumerate(space.variables):
            seen = data.mask[:, d] & (weight > 0)
            rows = Rows(data.value[seen, d], weight[seen], table[seen, : d + 1])
            grown.append(_grown(variable, rows, size, generator))
        shapes = [[len(part.leaf), len(part.root), part.states] for part in grown]
        structure = {"companion": proposal.structure["components"], "columns": shapes}
        density = cls(space, config, structure, context_space)
        density.companion.load_state_dict(proposal.state_dict())
        for column, part in zip(density.columns, grown, strict=True):
            column.load_state_dict(part.state_dict())
        density.gap.copy_(gap)
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return self._able(statistics=True, objective="surrogate")

    # ------------------------------------------------------------------ log p and draws

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._each(value, torch.ones_like(value, dtype=torch.bool), code).sum(1)

    def _each(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"], code: Tensor | None
    ) -> Float[Tensor, "B D"]:
        """log p of each known cell, given those before it; 0 of the others."""
        table = _table(value, mask, code, self.gap)
        parts = [
            column.log_prob(value[:, d], table[:, : d + 1])  # type: ignore[operator]
            for d, column in enumerate(self.columns)
        ]
        return torch.where(mask, torch.stack(parts, 1), 0.0)

    def _log_part(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Where only last columns are missing the chain just ends earlier."""
        ends = _is_beginning(event)
        if not bool(ends.any()):
            return super()._log_part(event, code, generator)
        mine = ends.nonzero()[:, 0]
        rest = (~ends).nonzero()[:, 0]
        out = event.value.new_zeros(event.rows)
        each = self._each(event.value[mine], event.mask[mine], _taken(code, mine))
        out = out.index_copy(0, mine, each.sum(1))
        if not len(rest):
            return out
        other = super()._log_part(event.take(rest), _taken(code, rest), generator)
        return out.index_copy(0, rest, other)

    def _status_of(self, event: Event) -> Status:
        whole = event.complete | _is_beginning(event)
        return Status.EXACT if bool(whole.all()) else Status.LOWER_BOUND

    @torch.no_grad()
    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        table = _table(value, torch.ones_like(value, dtype=torch.bool), code, self.gap)
        for d, column in enumerate(self.columns):
            value[:, d] = column.draw(table[:, : d + 1], generator)  # type: ignore[operator]
            table[:, d + 1] = value[:, d].float()
        return value

    # ------------------------------------------------------------------ learning

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        code = None if context is None else context.value
        table = _table(event.value, event.mask, code, self.gap)
        out = {"log_prob": (weight * self._log_prob(event, context, None)).sum()}
        for d, column in enumerate(self.columns):
            node = column.arrived(table[:, : d + 1])  # type: ignore[operator]
            share = column.shares(event.value[:, d])  # type: ignore[operator]
            share = share * (weight * event.mask[:, d])[:, None]
            every = torch.ones_like(node, dtype=torch.bool)
            out[f"nodes.{d}"] = column.counts(share, node, every)  # type: ignore[operator]
        return out

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        for d, column in enumerate(self.columns):
            column.maximise(statistics[f"nodes.{d}"])  # type: ignore[operator]


def _check(config: ForestChain) -> None:
    for name in ("trees", "min_rows", "groups", "draws"):
        asked = getattr(config, name)
        if asked is not None and asked < 1:
            raise ValueError(f"{name} must be at least 1, got {asked!r}.")


def _taken(code: Tensor | None, rows: Int[Tensor, " B"]) -> Tensor | None:
    return None if code is None else code[rows]


def _is_beginning(event: Event) -> Bool[Tensor, " B"]:
    """Rows of which no known cell stands behind an unknown one, and no more is said."""
    if event.within is not None:
        return torch.zeros(event.rows, dtype=torch.bool)
    mask = event.mask
    return (mask[:, 1:] <= mask[:, :-1]).all(1)


# --------------------------------------------------------------------------------------- the trees


class Rows(NamedTuple):
    """The rows in which a column is known."""

    value: Float[Tensor, " B"]
    weight: Float[Tensor, " B"]
    table: Float[Tensor, "B F"]


def _gaps(space: Space, data: Event) -> Float[Tensor, " D"]:
    """A number below each column's values; -1 of codes."""
    out = torch.full((len(space.variables),), -1.0, dtype=torch.float64)
    for d, variable in enumerate(space.variables):
        known = data.value[data.mask[:, d], d]
        if not variable.discrete and len(known):
            low, high = known.aminmax()
            out[d] = low - GAP_SHARE * (high - low) - 1e-6
    return out


def _table(
    value: Float[Tensor, "B D"],
    mask: Bool[Tensor, "B D"],
    code: Tensor | None,
    gap: Float[Tensor, " D"],
) -> Float[Tensor, "B F"]:
    """What trees see, in float32: the class, -1 where it is not known, and the columns."""
    first = value.new_full((len(value), 1), -1.0) if code is None else code[:, None].to(value)
    return torch.cat([first, torch.where(mask, value, gap)], 1).float()


def _grown(variable: Variable, rows: Rows, size: Size, generator: torch.Generator) -> Conditional:
    """The conditional of one column, its trees and their strength; counted."""
    seed = draw_seed(generator) % (1 << 31)
    basis = None if variable.discrete else _basis(variable, rows, size.groups)
    states = variable.cardinality if basis is None else len(basis.mean)
    start = _started(variable, (1, 1, states), basis, rows)
    if not len(rows.value) or rows.table.shape[1] < 1:
        return start
    share = start.shares(rows.value).detach()
    state = share.argmax(1).numpy()
    fold = torch.as_tensor(np.random.default_rng(seed).permutation(len(state)) % FOLDS)
    trees = _trees(rows, state, fold.numpy(), states, size, seed)
    nodes = sum(tree.node_count for tree in trees)
    out = _started(variable, (nodes, len(trees), states), basis, rows, start)
    node = _planted(out, trees, rows.table)
    share = share * rows.weight[:, None]
    held = fold[:, None] == torch.arange(len(trees)) // len(KINDS) % FOLDS
    out.blend.copy_(_best_blend(out, rows, share, node, held))
    out.maximise(out.counts(share, node, torch.ones_like(held)))
    return out


def _basis(variable: Variable, rows: Rows, groups: int) -> Basis:
    return Basis.of(rows.value.numpy(), rows.weight.numpy(), variable.resolution or 0.0, groups)


@torch.no_grad()
def _started(
    variable: Variable,
    shape: tuple[int, int, int],
    basis: Basis | None,
    rows: Rows,
    like: Conditional | None = None,
) -> Conditional:
    """A conditional with its components and its marginal, that of ``like`` if any."""
    out = Conditional(variable, *shape)
    if basis is not None and out.components is not None:
        out.components.mean.copy_(torch.as_tensor(basis.mean)[None])
        out.components.log_scale.copy_(torch.as_tensor(basis.deviation).log()[None])
    if like is not None:
        out.marginal.copy_(like.marginal)
        return out
    for _ in range(1 if basis is None else MARGINAL_ROUNDS):
        out.set_marginal((rows.weight[:, None] * out.shares(rows.value)).sum(0))
    out.leaf.copy_(out.marginal.softmax(0).expand_as(out.leaf))
    return out


def _trees(
    rows: Rows, state: np.ndarray, fold: np.ndarray, states: int, size: Size, seed: int
) -> list[Any]:
    """scikit-learn's trees of the states, each without its fold."""
    from sklearn.tree import ExtraTreeClassifier

    leaves = MAX_CELLS // (2 * states * size.trees)
    table = rows.table.numpy()
    weight = rows.weight.numpy()
    out = []
    for index in range(size.trees):
        kept = fold != index // len(KINDS) % FOLDS if len(state) >= FOLDS else fold >= 0
        impurity, features = KINDS[index % len(KINDS)]
        tree = ExtraTreeClassifier(
            criterion=impurity,
            max_features=features,
            min_samples_leaf=max(size.min_rows, -(-len(state) // max(leaves, 1))),
            random_state=(seed + index) % (1 << 31),
        )
        out.append(tree.fit(table[kept], state[kept], sample_weight=weight[kept]).tree_)
    return out


def _planted(
    conditional: Conditional, trees: list[Any], table: Float[Tensor, "B F"]
) -> Int[Tensor, "B T"]:
    """Write the trees' nodes; the leaves where the rows arrive."""
    roots = roots_of(trees)
    conditional.root.copy_(torch.as_tensor(roots))
    for start, tree in zip(roots, trees, strict=True):
        for name, column in node_columns(tree, start).items():
            own = getattr(conditional, name)
            own[start : start + tree.node_count] = torch.as_tensor(column).to(own.dtype)
    found = [tree.apply(table.numpy()) + root for tree, root in zip(trees, roots, strict=True)]
    return torch.as_tensor(np.stack(found, 1))


def _kinds(trees: int) -> Int[Tensor, " T"]:
    """Which of ``KINDS`` each tree is."""
    return torch.arange(trees) % len(KINDS)


def _even_blend(trees: int) -> Float[Tensor, "Q S"]:
    """The same share for all strengths of every kind that there is."""
    some = (torch.arange(len(KINDS)) < trees).double()[:, None].repeat(1, len(STRENGTHS_ROWS))
    return some / some.sum()


@torch.no_grad()
def _best_blend(
    conditional: Conditional,
    rows: Rows,
    share: Float[Tensor, "B K"],
    node: Int[Tensor, "B T"],
    held: Bool[Tensor, "B T"],
) -> Float[Tensor, "Q S"]:
    """The shares of kinds and strengths that give rows the greatest log p, by the trees that have
    not seen them."""
    trees = held.shape[1]
    kind = _kinds(trees)
    own = [held & (kind == index) for index in range(min(len(KINDS), trees))]
    judged = torch.stack([each.any(1) for each in own]).all(0)
    blend = _even_blend(trees)
    if not bool(judged.any()):
        return blend
    layers = conditional.layers()
    totals = conditional.totals(conditional.counts(share, node, ~held), layers)
    log_states = conditional.log_states(rows.value)
    marginal = MARGINAL_SHARE * conditional.marginal.softmax(0)
    each = []
    for strength in STRENGTHS_ROWS:
        leaf = conditional.shrunk(totals, strength, layers).float()
        for part in own:
            by = part.float() / part.sum(1, keepdim=True).clamp_min(1)
            forest = embedding_bag(node, leaf, per_sample_weights=by, mode="sum").double()
            log_w = ((1 - MARGINAL_SHARE) * forest + marginal).log()
            each.append((log_w + log_states).logsumexp(1))
    log_p = torch.stack(each, 1)[judged]
    found = _mixed(log_p, rows.weight[judged])
    blend[: len(own)] = found.reshape(len(STRENGTHS_ROWS), len(own)).T
    return blend


def _mixed(log_p: Float[Tensor, "B E"], weight: Float[Tensor, " B"]) -> Float[Tensor, " E"]:
    """The weights of a linear pool of experts that maximise its log p, with a row of prior."""
    out = torch.full((log_p.shape[1],), 1 / log_p.shape[1], dtype=torch.float64)
    for _ in range(BLEND_ROUNDS):
        share = (out.log() + log_p).softmax(1)
        out = (weight[:, None] * share).sum(0) + 1 / len(out)
        out = out / out.sum()
    return out

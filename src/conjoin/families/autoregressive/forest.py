r"""Forests along the chain rule: each column by extremely randomised trees and a regression, told
those before it.

    p(x) = prod_d p(x_d | x_1, ..., x_{d-1}),
    p(x_d | x_<d) = sum_k w_k(x_<d) p(x_d | k),
    w(x_<d) ~ trees(x_<d)^a regression(x_<d)^b, both (1 - e) p + e m,
    trees(x_<d) = 1/T sum_t leaf_t(x_<d)

Y. Bengio and S. Bengio (2000), Modeling high-dimensional discrete data with multi-layer neural
networks, equation 1, with forests in the place of networks (P. Geurts, D. Ernst and L. Wehenkel
(2006), Extremely randomized trees). A category's levels are its states k; those of a number that
is recorded on a lattice are values that recur, and groups of values with a histogram inside
(conjoin.components.number_steps); those of a point, and of saved models of earlier versions, the
components of a basis (conjoin.components.number_basis). Every node starts with ``l`` rows that are
distributed as its parent, the root with the column's own marginal m, so that no leaf is sure of
what it has not seen: leaf = (counts + l parent) / (rows + l). Each tree is grown without a fold of
the rows. Half of the trees split by Gini's impurity, half by entropy; how much each kind weighs,
and each l of a few, is for each column the linear pool that does best on the rows of the fold that
a tree has not seen. Then all rows are counted. Trees are grown once; the counts add up over rows.
The regression (conjoin.components.multinomial) is fitted to at most 20,000 of the rows that build
sees, with the strength that does best on one fold; the powers a and b are those that give rows the
greatest log p, by trees and regressions that have not seen them. Saved models of earlier versions,
and columns of which nothing is told, or under 30 rows are known, have w = (1 - e) trees + e m.

A column of two levels that is 1 in the very rows in which another is missing is a flag. Flags come
first in the chain, and what a flag says is missing tells later columns nothing but that: so its
value can be left out of log p exactly.

log p of complete rows is exact, in nats, and so it is where only last columns of the chain are
missing, or what flags say; of other gaps it is a lower bound (conjoin.families.deep).

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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from conjoin.components.decision_trees import (
    descend,
    inner_layers,
    node_columns,
    roots_of,
    write_nodes,
)
from conjoin.components.leaves import LeafLayer
from conjoin.components.multinomial import Indicators, Regression, fitted, pool_powers
from conjoin.components.number_basis import Basis
from conjoin.components.number_steps import StepLayer, Steps
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
from conjoin.core.sampling import even_points, inverted, is_even
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
POOL_MARGINAL_SHARE = 0.005  # and in each expert of the pool with a regression
REGRESSION_STRENGTHS = (0.1, 0.3, 1.0)  # C, of which one is chosen
REGRESSION_ROWS = 20_000  # at most, that regressions are fitted to
REGRESSION_CELLS = 100_000_000  # rows times indicators times states, of one column at most
MIN_REGRESSION_ROWS = 30
ORDERING_TREES = 4  # that rows are ordered by where they are drawn evenly
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
    reverse : bool, default False
        Whether the first column comes last: log p is exact where it alone is missing, as y of a
        joint model often is.
    """

    trees: int | None = None
    min_rows: int = 5
    groups: int | None = None
    draws: int = 32
    reverse: bool = False

    unwritten: ClassVar[dict[str, Any]] = {"reverse": False}

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
    slope: Tensor
    offset: Tensor
    power: Tensor

    def __init__(
        self,
        variable: Variable,
        nodes: int,
        trees: int,
        states: int,
        told: int = 0,
        steps: int = 0,
    ) -> None:
        """``told``: indicators that a regression is told beside the trees; 0 for none. ``steps``:
        of the states of a number; 0: they are normal distributions."""
        super().__init__()
        self.states = states
        self.told = told
        self.steps = steps
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.full((nodes,), -math.inf, dtype=torch.float32))
        self.register_buffer("right", torch.arange(nodes, dtype=torch.int32))
        self.register_buffer("root", torch.zeros(trees, dtype=torch.int32))
        self.register_buffer("leaf", torch.full((nodes, states), 1 / states))
        self.register_buffer("blend", _even_blend(trees))
        if told:
            self.register_buffer("slope", torch.zeros(told, states))
            self.register_buffer("offset", torch.zeros(states))
            self.register_buffer("power", torch.full((2,), 0.5, dtype=torch.float64))
        self.marginal = nn.Parameter(torch.zeros(states, dtype=torch.float64))  # log m
        self.components = _components(variable, states, steps)

    # ------------------------------------------------------------------ log p and draws

    def log_prob(self, value: Float[Tensor, " B"], told: "Earlier") -> Float[Tensor, " B"]:
        return (self.log_weights(told) + self.log_states(value)).logsumexp(1)

    def log_weights(self, told: "Earlier") -> Float[Tensor, "B K"]:
        """log w_k of each row."""
        forest = embedding_bag(self.arrived(told.table), self.leaf, mode="mean").double()
        if not self.told:
            return self.with_marginal(forest, MARGINAL_SHARE).log()
        experts = [forest, self.regression.log_prob(told.indicators[:, : self.told]).exp()]
        pooled = sum(
            power * self.with_marginal(each, POOL_MARGINAL_SHARE).log()
            for power, each in zip(self.power, experts, strict=True)
        )
        assert isinstance(pooled, Tensor)
        return pooled.log_softmax(1)

    def with_marginal(self, weights: Float[Tensor, "B K"], share: float) -> Float[Tensor, "B K"]:
        return (1 - share) * weights + share * self.marginal.softmax(0)

    @property
    def shape(self) -> list[int]:
        """What it is rebuilt from, beside its variable."""
        return [len(self.leaf), len(self.root), self.states, self.told, self.steps]

    @property
    def regression(self) -> Regression:
        return Regression(self.slope, self.offset)

    def arrived(self, table: Float[Tensor, "B F"]) -> Int[Tensor, "B T"]:
        return descend(table, self.feature, self.threshold, self.right, self.root)

    def log_states(self, value: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
        """log p(value | k)."""
        if self.components is None:
            own = value[:, None].long() == torch.arange(self.states)
            return torch.where(own, 0.0, -math.inf).double()
        cell = value[:, None]
        return self.components.log_prob(cell, torch.ones_like(cell, dtype=torch.bool))[:, 0]

    def draw(self, told: "Earlier", generator: torch.Generator | None) -> Float[Tensor, " B"]:
        if is_even():
            return self.draw_evenly(told, generator)
        state = categorical(self.log_weights(told), generator)
        if self.components is None:
            return state.double()
        return self.components.sample(state[:, None], generator)[:, 0]

    def draw_evenly(
        self, told: "Earlier", generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Values that rows with like beginnings share out among themselves as p says; states of
        numbers stand in the order of their means."""
        weights = self.log_weights(told).exp()
        point = even_points(self.along(told, generator), generator)
        if self.components is None:
            return inverted(weights, point)[0].double()
        order = self.components.mean[0].argsort(stable=True)
        place, inside = inverted(weights[:, order], point)
        return self.components.sample(order[place][:, None], generator, point=inside[:, None])[:, 0]

    def along(self, told: "Earlier", generator: torch.Generator | None) -> Int[Tensor, " B"]:
        """The rows in the order of the last tree's leaves, those of one leaf in that of the tree
        before it, and so on; leaves that stand side by side share their ancestors."""
        node = self.arrived(told.table)
        order = torch.randperm(len(node), generator=generator)
        for leaf in node.T[-ORDERING_TREES:]:
            order = order[leaf[order].argsort(stable=True)]
        return order

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
        # the place of each column of the chain, and of its flag in the chain, -1 for none; models
        # of earlier versions keep to the order of the space
        self.order = self.structure.get("order", list(range(len(shapes))))
        self.flag = self.structure.get("flags", [-1] * len(shapes))
        chain = _ordered(space, self.order)
        self.columns = nn.ModuleList(
            Conditional(variable, *shape)
            for variable, shape in zip(chain.variables, shapes, strict=True)
        )
        # what stands for a missing cell, for the trees
        self.register_buffer("gap", torch.full((len(shapes),), -1.0, dtype=torch.float64))
        # absent in models of earlier versions, whose trees have no regression beside them
        sizes = self.structure.get("indicators")
        self.indicators = None if sizes is None else Indicators(chain, self.classes, sizes)
        self.register_load_state_dict_post_hook(_check_trees)

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
        code = None if context is None else torch.where(context.mask, context.value, -1.0)
        order, flags = _chain_of(space, data, config.reverse)
        chain = _ordered(space, order)
        data = Event(data.value[:, order], data.mask[:, order])
        gap = _gaps(chain, data)
        table = _table(data.value, data.mask, code, gap)
        classes = context_space.variables[0].cardinality if context_space else 0
        coded = Indicators.of(chain, classes, data)
        few = torch.randperm(data.rows, generator=generator)[:REGRESSION_ROWS].sort().values
        is_few = torch.zeros(data.rows, dtype=torch.bool).index_fill(0, few, True)
        indicators = coded(data.value[few], data.mask[few], _taken(code, few))
        grown = []
        for d, variable in enumerate(chain.variables):
            seen = data.mask[:, d] & (weight > 0)
            told = indicators[seen[few], : coded.starts[d]]
            rows = Rows(data.value[seen, d], weight[seen], table[seen, : d + 1], is_few[seen], told)
            grown.append(_grown(variable, rows, size, generator))
        shapes = [part.shape for part in grown]
        structure = {
            "companion": proposal.structure["components"],
            "columns": shapes,
            "order": order,
            "flags": flags,
            "indicators": coded.sizes,
        }
        density = cls(space, config, structure, context_space)
        assert density.indicators is not None
        density.indicators.load_state_dict(coded.state_dict())
        density.companion.load_state_dict(proposal.state_dict())
        for column, part in zip(density.columns, grown, strict=True):
            column.load_state_dict(part.state_dict())
        density.gap.copy_(gap)
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return self._able(statistics=True, objective="surrogate", even=True)

    # ------------------------------------------------------------------ log p and draws

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._each(value, torch.ones_like(value, dtype=torch.bool), code).sum(1)

    def _each(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"], code: Tensor | None
    ) -> Float[Tensor, "B D"]:
        """log p of each known cell in the order of the chain, given those before it; 0 of the
        others."""
        value = value[:, self.order]
        mask = mask[:, self.order]
        told = self._told(value, mask, code)
        parts = [
            column.log_prob(value[:, d], told.before(d))  # type: ignore[operator]
            for d, column in enumerate(self.columns)
        ]
        return torch.where(mask, torch.stack(parts, 1), 0.0)

    def _told(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"], code: Tensor | None
    ) -> "Earlier":
        """What trees and regressions see of rows in the order of the chain."""
        mask = mask & ~self._told_gaps(value, mask)
        table = _table(value, mask, code, self.gap)
        if self.indicators is None:
            return Earlier(table, table[:, :0])
        # regressions answer in double precision: products of float32 depend on the batch
        return Earlier(table, self.indicators(value, mask, code).double())

    def _told_gaps(
        self, value: Float[Tensor, "B D"], mask: Bool[Tensor, "B D"]
    ) -> Bool[Tensor, "B D"]:
        """Which cells their flag says are missing: whatever stands there tells nothing."""
        gone = torch.zeros_like(mask)
        for d, flag in enumerate(self.flag):
            if flag >= 0:
                gone[:, d] = mask[:, flag] & (value[:, flag] == 1)
        return gone

    def _is_whole(self, event: Event) -> Bool[Tensor, " B"]:
        """Rows of which the chain needs no unknown cell."""
        value = event.value[:, self.order]
        mask = event.mask[:, self.order]
        return _is_beginning(Event(value, mask | self._told_gaps(value, mask), within=event.within))

    def _log_part(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Where only last columns are missing the chain just ends earlier; a cell that its flag
        says is missing adds nothing."""
        ends = self._is_whole(event)
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
        whole = event.complete | self._is_whole(event)
        return Status.EXACT if bool(whole.all()) else Status.LOWER_BOUND

    @torch.no_grad()
    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        every = torch.ones_like(value, dtype=torch.bool)
        told = self._told(value, every, code)
        for d, column in enumerate(self.columns):
            value[:, d] = column.draw(told.before(d), generator)  # type: ignore[operator]
            known = ~self._told_gaps(value, every)[:, d]
            told.table[:, d + 1] = torch.where(known, value[:, d], self.gap[d]).float()
            if self.indicators is not None:
                self.indicators.write(told.indicators, d, value[:, d], known)
        return torch.empty_like(value).index_copy_(1, torch.tensor(self.order), value)

    # ------------------------------------------------------------------ learning

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        code = None if context is None else context.value
        value = event.value[:, self.order]
        mask = event.mask[:, self.order]
        table = self._told(value, mask, code).table
        out = {"log_prob": (weight * self._log_prob(event, context, None)).sum()}
        for d, column in enumerate(self.columns):
            node = column.arrived(table[:, : d + 1])  # type: ignore[operator]
            share = column.shares(value[:, d])  # type: ignore[operator]
            share = share * (weight * mask[:, d])[:, None]
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


def _ordered(space: Space, order: list[int]) -> Space:
    return Space((len(order),), tuple(space.variables[d] for d in order))


def _chain_of(space: Space, data: Event, reverse: bool) -> tuple[list[int], list[int]]:
    """The order of the chain, and the place in it of each column's flag, -1 for none. A flag is a
    code of two levels that is 1 in the very rows in which another column is missing; flags come
    first, so that what is missing is drawn, and paid for, before anything is conditioned on it."""
    columns = range(len(space.variables))[:: -1 if reverse else 1]
    codes = [d for d in columns if space.variables[d].cardinality == 2 and data.mask[:, d].all()]
    gone = ~data.mask
    some = [d for d in columns if bool(gone[:, d].any())]
    flag = {
        d: f for d in some for f in codes if bool(((data.value[:, f] == 1) == gone[:, d]).all())
    }
    first = sorted(set(flag.values()))
    order = [*first, *(d for d in columns if d not in first)]
    return order, [order.index(flag[d]) if d in flag else -1 for d in order]


def _is_beginning(event: Event) -> Bool[Tensor, " B"]:
    """Rows of which no known cell stands behind an unknown one, and no more is said."""
    if event.within is not None:
        return torch.zeros(event.rows, dtype=torch.bool)
    mask = event.mask
    return (mask[:, 1:] <= mask[:, :-1]).all(1)


# --------------------------------------------------------------------------------------- the trees


def _check_trees(density: nn.Module, _: Any) -> None:
    """ValueError where saved trees can't be walked: a child stands behind its parent, and a node
    asks about an earlier column."""
    assert isinstance(density, ForestChainDensity)
    for d, column in enumerate(density.columns):
        assert isinstance(column, Conditional)
        nodes = len(column.right)
        own = torch.arange(nodes)
        sound = (
            (column.right >= own) & (column.right < nodes),
            (column.right == own) | (own + 1 < nodes),
            (column.feature >= 0) & (column.feature <= d),
            (column.root >= 0) & (column.root < nodes),
        )
        steps = not isinstance(column.components, StepLayer) or column.components.sound
        if not steps or not all(bool(each.all()) for each in sound):
            raise ValueError(f"the trees of column {d} are damaged")


class Earlier(NamedTuple):
    """What conditionals see of the rows: the trees the table, the regressions the indicators."""

    table: Float[Tensor, "B F"]
    indicators: Float[Tensor, "B I"]

    def before(self, d: int) -> "Earlier":
        """What the d-th column's trees see. (Its regression knows how many indicators it has.)"""
        return self._replace(table=self.table[:, : d + 1])


class Rows(NamedTuple):
    """The rows in which a column is known."""

    value: Float[Tensor, " B"]
    weight: Float[Tensor, " B"]
    table: Float[Tensor, "B F"]
    few: Bool[Tensor, " B"]  # that a regression is fitted to
    indicators: Float[Tensor, "M I"]  # of these few


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
    states = variable.cardinality if basis is None else basis.states
    steps = len(basis.low) if isinstance(basis, Steps) else 0
    start = _started(variable, (1, 1, states, 0, steps), basis, rows)
    if not len(rows.value) or rows.table.shape[1] < 1:
        return start
    share = start.shares(rows.value).detach()
    state = share.argmax(1).numpy()
    fold = torch.as_tensor(np.random.default_rng(seed).permutation(len(state)) % FOLDS)
    trees = _trees(rows, state, fold.numpy(), states, size, seed)
    nodes = sum(tree.node_count for tree in trees)
    told = _told_regression(rows, states)
    out = _started(variable, (nodes, len(trees), states, told, steps), basis, rows, start)
    node = _planted(out, trees, rows.table)
    share = share * rows.weight[:, None]
    held = fold[:, None] == torch.arange(len(trees)) // len(KINDS) % FOLDS
    judges = Judges(node, held, out.layers(), out.counts(share, node, ~held))
    out.blend.copy_(_best_blend(out, rows, judges))
    if told:
        _regress(out, rows, fold, judges)
    out.maximise(out.counts(share, node, torch.ones_like(held)))
    return out


def _components(variable: Variable, states: int, steps: int) -> LeafLayer | StepLayer | None:
    """The states of a number; None of a category."""
    if variable.discrete:
        return None
    if steps:
        return StepLayer(variable, steps, states).requires_grad_(False)
    return LeafLayer((dataclasses.replace(variable, atoms=()),), states).requires_grad_(False)


def _basis(variable: Variable, rows: Rows, groups: int) -> Basis | Steps:
    """Steps of recorded cells; points have normal distributions, as a grid would miss steps."""
    value = rows.value.numpy()
    weight = rows.weight.numpy()
    if variable.resolution and weight.sum() > 0:
        return Steps.of(value, weight, variable.origin, variable.resolution, groups)
    return Basis.of(value, weight, variable.resolution or 0.0, groups)


@torch.no_grad()
def _started(
    variable: Variable,
    shape: tuple[int, ...],
    basis: Basis | Steps | None,
    rows: Rows,
    like: Conditional | None = None,
) -> Conditional:
    """A conditional with its components and its marginal, that of ``like`` if any."""
    out = Conditional(variable, *shape)
    if isinstance(basis, Steps) and isinstance(out.components, StepLayer):
        out.components.start(basis)
    if isinstance(basis, Basis) and isinstance(out.components, LeafLayer):
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
        write_nodes(conditional, start, node_columns(tree, start))
    found = [tree.apply(table.numpy()) + root for tree, root in zip(trees, roots, strict=True)]
    return torch.as_tensor(np.stack(found, 1))


def _kinds(trees: int) -> Int[Tensor, " T"]:
    """Which of ``KINDS`` each tree is."""
    return torch.arange(trees) % len(KINDS)


def _even_blend(trees: int) -> Float[Tensor, "Q S"]:
    """The same share for all strengths of every kind that there is."""
    some = (torch.arange(len(KINDS)) < trees).double()[:, None].repeat(1, len(STRENGTHS_ROWS))
    return some / some.sum()


class Judges(NamedTuple):
    """What trees say of rows that they have not seen."""

    node: Int[Tensor, "B T"]
    held: Bool[Tensor, "B T"]  # rows that a tree has not seen
    layers: list[Tensor]
    counts: Float[Tensor, "N K"]  # of the others

    @property
    def kinds(self) -> list[Bool[Tensor, "B T"]]:
        """``held`` of the trees of each kind that there is."""
        kind = _kinds(self.held.shape[1])
        return [self.held & (kind == q) for q in range(min(len(KINDS), len(kind)))]

    @property
    def rows(self) -> Bool[Tensor, " B"]:
        """Rows that trees of every kind can judge."""
        return torch.stack([each.any(1) for each in self.kinds]).all(0)

    def forests(self, conditional: Conditional) -> Iterator[Float[Tensor, "B K"]]:
        """The mean of the trees of each kind, for one strength after the other."""
        totals = conditional.totals(self.counts, self.layers)
        for strength in STRENGTHS_ROWS:
            leaf = conditional.shrunk(totals, strength, self.layers).float()
            for own in self.kinds:
                by = own.float() / own.sum(1, keepdim=True).clamp_min(1)
                yield embedding_bag(self.node, leaf, per_sample_weights=by, mode="sum").double()

    def taken(self, rows: Int[Tensor, " M"]) -> "Judges":
        return self._replace(node=self.node[rows], held=self.held[rows])


@torch.no_grad()
def _best_blend(conditional: Conditional, rows: Rows, judges: Judges) -> Float[Tensor, "Q S"]:
    """The shares of kinds and strengths that give rows the greatest log p, by the trees that have
    not seen them."""
    blend = _even_blend(judges.held.shape[1])
    judged = judges.rows
    if not bool(judged.any()):
        return blend
    log_states = conditional.log_states(rows.value)
    each = [
        (conditional.with_marginal(forest, MARGINAL_SHARE).log() + log_states).logsumexp(1)
        for forest in judges.forests(conditional)
    ]
    found = _mixed(torch.stack(each, 1)[judged], rows.weight[judged])
    kinds = len(judges.kinds)
    blend[:kinds] = found.reshape(len(STRENGTHS_ROWS), kinds).T
    return blend


def _mixed(log_p: Float[Tensor, "B E"], weight: Float[Tensor, " B"]) -> Float[Tensor, " E"]:
    """The weights of a linear pool of experts that maximise its log p, with a row of prior."""
    out = torch.full((log_p.shape[1],), 1 / log_p.shape[1], dtype=torch.float64)
    for _ in range(BLEND_ROUNDS):
        share = (out.log() + log_p).softmax(1)
        out = (weight[:, None] * share).sum(0) + 1 / len(out)
        out = out / out.sum()
    return out


# --------------------------------------------------------------------------------- the regressions


def _told_regression(rows: Rows, states: int) -> int:
    """The indicators that a regression is told; 0 where there are none, or too few rows."""
    told = rows.indicators.shape[1]
    return told if len(rows.indicators[:: _step(rows, states)]) >= MIN_REGRESSION_ROWS else 0


def _step(rows: Rows, states: int) -> int:
    """Each how many-th of the few rows a regression is fitted to, by its cost."""
    return max(1, -(-rows.indicators.numel() * states // REGRESSION_CELLS))


@torch.no_grad()
def _regress(conditional: Conditional, rows: Rows, fold: Int[Tensor, " B"], judges: Judges) -> None:
    """Fit the regression, and weigh it against the trees by rows that neither has seen."""
    step = _step(rows, conditional.states)
    index = rows.few.nonzero()[::step, 0]
    x = rows.indicators[::step]
    log_states = conditional.log_states(rows.value[index])
    fit = _Fit(x, log_states.float(), rows.weight[index])
    strength, unseen, last = _by_folds(fit, fold[index], conditional.marginal.float())
    slope, offset = fit.of(slice(None), strength, last)
    conditional.slope.copy_(slope)
    conditional.offset.copy_(offset)
    own = judges.taken(index)
    judged = own.rows
    if not bool(judged.any()):
        return
    share = conditional.blend.T[:, : len(own.kinds)].reshape(-1)
    forest = sum(w * part for w, part in zip(share, own.forests(conditional), strict=True))
    experts = [
        conditional.with_marginal(each, POOL_MARGINAL_SHARE).log()[judged]
        for each in (forest, unseen.double().exp())
    ]
    power = pool_powers(experts, log_states[judged], rows.weight[index][judged])
    conditional.power.copy_(power)


class _Fit(NamedTuple):
    """The rows of a regression."""

    x: Float[Tensor, "M I"]
    log_states: Float[Tensor, "M K"]
    weight: Float[Tensor, " M"]

    def of(self, rows: Any, strength: float, start: Regression) -> Regression:
        return fitted(self.x[rows], self.log_states[rows], self.weight[rows], strength, start)

    def log_p(self, rows: Any, found: Regression) -> float:
        """Mean log p of the values of some rows."""
        each = (found.log_prob(self.x[rows]) + self.log_states[rows]).logsumexp(1)
        return float((self.weight[rows] * each).sum() / self.weight[rows].sum())


def _by_folds(
    fit: _Fit, fold: Int[Tensor, " M"], marginal: Float[Tensor, " K"]
) -> tuple[float, Float[Tensor, "M K"], Regression]:
    """The strength that is best on the first fold, the log p of states of each row by a regression
    without its fold, and the last of these."""
    start = Regression(torch.zeros(fit.x.shape[1], len(marginal)), marginal.clone())
    best = -math.inf
    for strength in REGRESSION_STRENGTHS:
        found = fit.of(fold != 0, strength, start)
        reached = fit.log_p(fold == 0, found)
        if reached <= best:
            break
        best = reached
        chosen = strength
        start = found
    unseen = torch.empty_like(fit.log_states)
    for index in range(FOLDS):
        start = start if index == 0 else fit.of(fold != index, chosen, start)
        unseen[fold == index] = start.log_prob(fit.x[fold == index])
    return chosen, unseen, start

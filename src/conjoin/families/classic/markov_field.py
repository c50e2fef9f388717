r"""Markov random field: columns pull on their neighbours, with no direction.

    p(x) = 1/Z exp( sum_i a_i(c_i) + sum_ij b_ij(c_i, c_j) ) prod_d p(x_d | c_d),
    c_d = code of x_d

"tree": the edges of the Chow-Liu tree. Z is one pass of the sum-product algorithm, and the
parameters of highest likelihood are known: a_i = log p_i, b_ij = log p_ij - log p_i - log p_j (M.
Wainwright and M. Jordan (2008), Graphical models, exponential families, and variational inference,
equation 4.8). "grid" (the neighbours in an image; elsewhere as "dense") and "dense" (the strongest
mutual informations) have loops, and are learned by the pseudo-likelihood

    sum_d log p(x_d | all other columns)
    J. Besag (1975), Statistical analysis of non-lattice data, section 3

Where tables stay small on the way Z is exact; elsewhere log p is relative, the same unknown log Z
off for every row, and draws come from a Gibbs sampler (S. Geman and D. Geman (1984), Stochastic
relaxation, section 11). All values are in nats.

Shape letters: B rows, D variables, E edges, L codes of a variable.

>>> from conjoin.core import Event, Space, Variable, stream
>>> copy = torch.arange(40.0).double() % 2
>>> data = Event(torch.stack([copy, (torch.arange(40.0).double() // 2) % 2, copy], 1))
>>> space = Space((3,), tuple(Variable(name, "category", cardinality=2) for name in "abc"))
>>> model = MarkovFieldDensity.build(space, MarkovField(), data, stream(0))
>>> model.maximise(model.statistics(data))
>>> bool(model.log_prob(data).exp()[0] > 0.2), [0, 2] in model.structure["scopes"]
(True, True)
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Config, Event, Likelihood, Recipe, Space
from conjoin.core.shapes import Float, Int
from conjoin.families.adapters import Bins, plan_bins
from conjoin.families.circuit.structure import chow_liu_tree, mutual_information
from conjoin.families.classic.elimination import (
    MAX_ENTRIES,
    Factor,
    GraphDensity,
    Part,
    at,
    eliminate,
    elimination_order,
)

__all__ = ["MarkovField", "MarkovFieldDensity", "field_edges", "mean_field"]

INFORMATION_ROWS = 8192  # rows that mutual information is estimated from
FIRST_DESCENT_ROWS = 4096  # rows that the first descent on the pseudo-likelihood looks at
DESCENT_STEPS = 30  # of the first descent on the pseudo-likelihood
MEAN_FIELD_ROUNDS = 5  # of mean field
GIBBS_SWEEPS = 40  # of the Gibbs sampler
# entries of a table up to which missing cells are summed out exactly where Z is not known
MAX_SUMMED_STATES = 1 << 16
Edge = tuple[int, int]


@dataclass(frozen=True)
class MarkovField(Config):
    """Settings of the Markov random field.

    Parameters
    ----------
    structure : {"tree", "grid", "dense"}, default "tree"
        Which columns are neighbours: those of a tree, of the pixels' grid, or of a denser
        graph.
    degree : int, default 2
        Edges that each column of a dense field asks for.
    largest : int, default 5000
        Entries of a table at most, up to which the normaliser is summed exactly.
    smoothing : float, default 1.0
        Rows of prior.
    bins : int or None, default None
        Bins of a number; None takes them from the number of rows.
    """

    structure: Literal["tree", "grid", "dense"] = "tree"
    degree: int = 2
    largest: int = 5000
    smoothing: float = 1.0
    bins: int | None = None

    def recipe(self, rows: int) -> Recipe:
        """A field with loops comes near its optimum in ``build``: a few steps with all rows are
        left."""
        return Recipe(steps=150, rate=3e-3)


class MarkovFieldDensity(GraphDensity):
    """Exact where Z can be summed, else relative."""

    config_class = MarkovField
    first: Tensor
    second: Tensor
    total: Tensor

    def __init__(
        self,
        space: Space,
        config: MarkovField,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        levels = self.bins.levels
        size = len(self.bins.levels)
        self.edges: list[Edge] = [(i, j) for i, j in self.scopes[size:]]
        ends = torch.tensor(self.edges, dtype=torch.long).reshape(-1, 2)
        self.register_buffer("first", ends[:, 0], persistent=False)
        self.register_buffer("second", ends[:, 1], persistent=False)
        self.normalised = (
            elimination_order(self.scopes, levels, config.largest)[1] <= config.largest
        )
        self.node = nn.Parameter(torch.zeros(size, max(levels), dtype=torch.float64))
        pair = torch.zeros(len(self.edges), max(levels), max(levels), dtype=torch.float64)
        if len(pair):
            self.edge = nn.Parameter(pair)
        else:
            self.register_buffer("edge", pair, persistent=False)
        self.register_buffer("total", torch.ones((), dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Space,
        config: MarkovField,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Bins, then edges, then parameters from complete rows. Without Z a column's code has to be
        known: its bins are hard."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        density = cls._shaped(space, config, data, weight, soft=True)
        if not density.normalised:
            density = cls._shaped(space, config, data, weight, soft=False)
        density.total.copy_(weight.sum())
        with torch.no_grad():
            density._start(density.bins.codes(data), weight)
        if not density._tree and density.edges:
            density._descend(data, weight)
        return density

    @classmethod
    def _shaped(
        cls, space: Space, config: MarkovField, data: Event, weight: Tensor, soft: bool
    ) -> Self:
        plan = plan_bins(space.variables, data, weight, bins=config.bins, soft=soft)
        bins = Bins(space.variables, plan)
        bins.start(data, weight)
        part = slice(None, None, max(1, data.rows // INFORMATION_ROWS))
        edges = field_edges(config, space, bins.codes(data.take(part)), bins.space, weight[part])
        density = cls(
            space,
            config,
            {
                "bins": plan,
                "scopes": [[d] for d in range(len(space.variables))] + [[*edge] for edge in edges],
            },
        )
        density.bins = bins
        return density

    @property
    def capabilities(self) -> Capabilities:
        if not self.normalised:
            return Capabilities(
                Likelihood.UNNORMALIZED,
                objective="surrogate",
                missing="approximate",
                conditionals="approximate",
                mode="approximate",
            )
        exact = self._exact()
        return (
            exact
            if self._tree
            else dataclasses.replace(exact, objective="surrogate", statistics=False)
        )

    @property
    def _tree(self) -> bool:
        """Whether the parameters of highest likelihood are known."""
        return self.config.structure == "tree" and self.normalised

    # ------------------------------------------------------------------ sums

    def _tables(self) -> list[Tensor]:
        levels = self.bins.levels
        nodes = [row[:count] for row, count in zip(self.node, levels, strict=True)]
        return nodes + [
            table[: levels[i], : levels[j]]
            for table, (i, j) in zip(self.edge, self.edges, strict=True)
        ]

    def _log_constant(self) -> Tensor:
        """log Z, or 0 where it is not known."""
        if not self.normalised:
            return torch.zeros((), dtype=torch.float64)
        factors = [
            Factor(scope, table[None])
            for scope, table in zip(self.scopes, self._tables(), strict=True)
        ]
        return eliminate(factors, elimination_order(self.scopes, self.bins.levels)[0])[0][0]

    def _total(self, part: Part) -> Float[Tensor, " _"]:
        if self._summed(part):
            return super()._total(part)
        return (
            self._log_first(part).logsumexp(1)
            if 0 in part.order
            else mean_field(part.factors, part.order)
        )

    def _log_first(self, part: Part) -> Float[Tensor, "_ L"]:
        """Where the sum is out of reach, a mean-field bound for each code of variable 0."""
        if self._summed(part):
            return super()._log_first(part)
        every = [
            [_fixed(factor, code) for factor in part.factors] for code in range(self.bins.levels[0])
        ]
        return torch.stack(
            torch.broadcast_tensors(*(mean_field(factors, part.order[:-1]) for factors in every)), 1
        )

    def _summed(self, part: Part) -> bool:
        return self.normalised or part.largest <= MAX_SUMMED_STATES

    # ------------------------------------------------------------------ draws

    def _at_once(self, order: list[int], largest: int) -> int:
        return (
            super()._at_once(order, largest)
            if self.normalised or largest <= MAX_SUMMED_STATES
            else 0
        )

    def _drawn(
        self, part: Part, choose: Callable[[Tensor], Tensor], reduce: Callable[[Tensor], Tensor]
    ) -> Int[Tensor, "B D"]:
        """Exactly, or by sweeps of a Gibbs sampler. (With ``argmax`` for a choice these are J.
        Besag's (1986) iterated conditional modes, On the statistical analysis of dirty
        pictures.)"""
        if self._summed(part):
            return super()._drawn(part, choose, reduce)
        codes = part.codes.clone()
        touching = {v: [factor for factor in part.factors if v in factor.scope] for v in part.order}
        for v, mine in touching.items():  # a start that looks at no neighbour
            own = [at(factor, v, codes) for factor in mine if len(factor.scope) == 1]
            codes[:, v] = choose(sum(own))  # type: ignore[arg-type]
        for _ in range(GIBBS_SWEEPS):
            for v, mine in touching.items():
                pull = sum(at(factor, v, codes) for factor in mine)
                codes[:, v] = choose(pull)  # type: ignore[arg-type]
        return codes

    # ------------------------------------------------------------------ learning

    def _start(self, codes: Event, weight: Tensor) -> None:
        """Each column by itself."""
        hot = (
            torch.nn.functional.one_hot(codes.value.long(), self.node.shape[1]).double()
            * codes.mask[..., None]
        )
        count = torch.einsum("b,bdl->dl", weight, hot)
        self.node.copy_(
            (count + self.config.smoothing / self.node.shape[1])
            .log()
            .masked_fill(~self.bins.legal, 0.0)
        )

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        """The tree's maximum: shares of codes, and of pairs of codes over the product of both."""
        size = len(self.bins.levels)
        prior = self.config.smoothing
        counts = [statistics[f"count.{index}"] for index in range(len(self.scopes))]
        log_p = [
            ((count + prior / count.numel()) / (count.sum() + prior)).log() for count in counts
        ]
        for d, share in enumerate(log_p[:size]):
            self.node[d, : len(share)] = share
        for e, ((i, j), pair) in enumerate(zip(self.edges, log_p[size:], strict=True)):
            self.edge[e, : pair.shape[0], : pair.shape[1]] = pair - log_p[i][:, None] - log_p[j]

    def _losses(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The tree's likelihood; for others minus the pseudo-likelihood, and each row's part of a
        Gaussian prior of the edges."""
        if self._tree:
            return super()._losses(event, context, generator)
        step = max(1, MAX_ENTRIES // max(1, self.edge[:, 0].numel()))
        pseudo = torch.cat(
            [self._pseudo(event.take(rows)) for rows in torch.arange(event.rows).split(step)]
        )
        return 0.5 * self.config.smoothing * self.edge.square().sum() / self.total - pseudo

    def _pseudo(self, event: Event) -> Float[Tensor, " B"]:
        """Sum over known cells of log p(cell | the others); a missing neighbour stands at its mean
        field."""
        told = self.bins.log_codes(event._replace(within=None)).transpose(0, 1)  # (D, B, L)
        with torch.no_grad():
            share = told.softmax(-1)
            open_ = (~event.mask | self.bins.hidden).any(1).nonzero()[:, 0]
            for _ in range(MEAN_FIELD_ROUNDS if len(open_) else 0):
                share[:, open_] = (self._fields(share[:, open_]) + told[:, open_]).softmax(-1)
        return (self._fields(share).log_softmax(-1) + told).logsumexp(-1).sum(0)

    def _fields(self, share: Float[Tensor, "D B L"]) -> Float[Tensor, "D B L"]:
        """What the neighbours' shares of codes make of each code."""
        pull = (
            torch.bmm(share[self.first], self.edge),
            torch.bmm(share[self.second], self.edge.transpose(1, 2)),
        )
        fields = (
            self.node[:, None]
            .expand_as(share)
            .index_add(0, self.second, pull[0])
            .index_add(0, self.first, pull[1])
        )
        return fields.masked_fill(~self.bins.legal[:, None], -math.inf)

    def _descend(self, data: Event, weight: Tensor) -> None:
        """Most of the way down the loss, which is convex where no cell is missing, before the loop
        begins."""
        part = slice(None, None, -(-data.rows // FIRST_DESCENT_ROWS))
        rows = data.take(part)
        weight = weight[part]
        optimizer = torch.optim.LBFGS(
            [self.node, self.edge], max_iter=DESCENT_STEPS, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._loss(rows, None, weight, None)
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        optimizer.zero_grad()


# --------------------------------------------------------------------------------------- mean field


def mean_field(factors: list[Factor], order: list[int]) -> Float[Tensor, " _"]:
    """(B,) a lower bound of log of the sum over ``order``, exact where no two of its variables
    share a table.

    E_q[sum of tables] + entropy of q, q a product (D. Koller and N. Friedman (2009), Probabilistic
    graphical models, equation 11.54)."""
    alone = {v: [factor for factor in factors if factor.scope == (v,)] for v in order}
    q = {
        v: sum(factor.table for factor in mine).softmax(-1)  # type: ignore[union-attr]
        for v, mine in alone.items()
    }
    touching = {v: [factor for factor in factors if v in factor.scope] for v in order}
    for _ in range(MEAN_FIELD_ROUNDS):
        for v in order:
            expected = sum(_expected(factor, q, v) for factor in touching[v])
            q[v] = expected.softmax(-1)  # type: ignore[union-attr]
    energy = [_expected(factor, q) for factor in factors]
    entropy = [-torch.special.xlogy(share, share).sum(-1) for share in q.values()]
    return torch.stack(torch.broadcast_tensors(*energy, *entropy)).sum(0)


def _expected(factor: Factor, q: dict[int, Tensor], keep: int = -1) -> Tensor:
    """The table's mean over all of its variables but ``keep``."""
    table = factor.table
    for axis in reversed(range(len(factor.scope))):
        if factor.scope[axis] != keep:
            share = q[factor.scope[axis]]
            share = share.reshape(len(share), *[1] * (table.ndim - 2), -1)
            table = (table.movedim(axis + 1, -1) * share).sum(-1)
    return table


def _fixed(factor: Factor, code: int) -> Factor:
    """The table where variable 0 has this code."""
    if 0 not in factor.scope:
        return factor
    return Factor(
        tuple(v for v in factor.scope if v != 0),
        factor.table.select(factor.scope.index(0) + 1, code),
    )


# -------------------------------------------------------------------------------------------- edges


def field_edges(
    config: MarkovField, space: Space, codes: Event, code_space: Space, weight: Tensor
) -> list[Edge]:
    """Which columns are neighbours, each pair once, the lower number first."""
    variables = code_space.variables
    if len(variables) == 1:
        return []
    if config.structure == "tree":
        parents = chow_liu_tree(codes, variables, weight)
        return sorted(
            (min(child, parent), max(child, parent))
            for child, parent in enumerate(parents)
            if parent >= 0
        )
    if config.structure == "grid" and space.grid is not None:
        return _grid_edges(space.grid, len(variables))
    information = mutual_information(codes, variables, weight).fill_diagonal_(-math.inf)
    strongest = information.topk(min(config.degree, len(variables) - 1), dim=1).indices.tolist()
    return sorted({(min(i, j), max(i, j)) for i, others in enumerate(strongest) for j in others})


def _grid_edges(grid: tuple[int, int, int], size: int) -> list[Edge]:
    """Each pixel and the ones right of it, below it and in the next channel; a column that is no
    pixel touches every pixel."""
    pixels = torch.arange(math.prod(grid)).reshape(grid) + size - math.prod(grid)
    pairs = [
        (pixels[:, :, :-1], pixels[:, :, 1:]),
        (pixels[:, :-1], pixels[:, 1:]),
        (pixels[:-1], pixels[1:]),
    ]
    edges = [
        pair
        for left, right in pairs
        for pair in zip(left.flatten().tolist(), right.flatten().tolist(), strict=True)
    ]
    return edges + [
        (other, pixel)
        for other in range(size - math.prod(grid))
        for pixel in pixels.flatten().tolist()
    ]

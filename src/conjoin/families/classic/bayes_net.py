r"""Bayesian network: every column depends on a few others, along arrows that the data choose.

    p(x) = prod_d p(c_d | c_parents(d)) p(x_d | c_d),
    c_d = code of x_d (its level, or its bin)

Structure: greedy search over acyclic graphs by a decomposable score, D. Koller and N. Friedman
(2009), Probabilistic graphical models, sections 18.3 and 18.4; a move that would make exact sums
costly is not taken. Parameters: expected counts with a Dirichlet prior around each column's own
shares (section 17.3), by EM where cells are missing (section 19.2.2). Inference: variable
elimination (chapter 9), so every marginal and conditional is exact. All values are in nats.

Shape letters: B rows, D variables, L codes of a variable.

>>> from conjoin.core import Event, Space, Variable, stream
>>> copy = torch.arange(40.0).double() % 2
>>> data = Event(torch.stack([copy, (torch.arange(40.0).double() // 2) % 2, copy], 1))
>>> space = Space((3,), tuple(Variable(name, "category", cardinality=2) for name in "abc"))
>>> density = BayesNetDensity.build(space, BayesNet(), data, stream(0))
>>> density.structure["scopes"]  # one arrow, between the two copies
[[0, 2], [1], [2]]
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Config, Event, Space, Variable
from conjoin.core.shapes import Float
from conjoin.families.adapters import Bins, plan_bins
from conjoin.families.circuit.structure import mutual_information
from conjoin.families.classic.elimination import GraphDensity, elimination_order

__all__ = ["BayesNet", "BayesNetDensity", "learn_parents"]

# parents that a column may choose from: those with the most mutual information
MAX_CANDIDATE_PARENTS = 8
MUTUAL_INFORMATION_ROWS = 8192  # rows that mutual information is estimated from
Parents = tuple[int, ...]


@dataclass(frozen=True)
class BayesNet(Config):
    """Settings of the Bayesian network.

    Parameters
    ----------
    max_parents : int, default 2
        Parents of a column at most.
    score : {"bic", "bdeu"}, default "bic"
        What a structure is worth: the Bayesian information criterion, or the Bayesian Dirichlet
        score with a uniform prior.
    largest : int, default 5000
        Entries of a table at most on the way of exact sums.
    smoothing : float, default 1.0
        Rows of prior for each combination of the parents' codes.
    bins : int or None, default None
        Bins of a number; None takes them from the number of rows.
    """

    max_parents: int = 2
    score: Literal["bic", "bdeu"] = "bic"
    largest: int = 5000
    smoothing: float = 1.0
    bins: int | None = None


class BayesNetDensity(GraphDensity):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = BayesNet
    shares: Tensor

    def __init__(
        self,
        space: Space,
        config: BayesNet,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        levels = self.bins.levels
        tables = [
            torch.zeros([levels[v] for v in (*parents, child)], dtype=torch.float64)
            for child, *parents in self.scopes
        ]
        self.logits = nn.ParameterList(
            nn.Parameter(table, requires_grad=table.shape[-1] > 1) for table in tables
        )
        self.register_buffer(
            "shares", torch.full((len(levels), max(levels)), 1.0, dtype=torch.float64)
        )

    @classmethod
    def build(
        cls,
        space: Space,
        config: BayesNet,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Bins, then arrows, then the parameters that complete rows would give."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        plan = plan_bins(space.variables, data, weight, bins=config.bins, soft=True)
        bins = Bins(space.variables, plan)
        bins.start(data, weight)
        codes = bins.codes(data)
        parents = learn_parents(codes, bins.space.variables, weight, config)
        density = cls(
            space,
            config,
            {"bins": plan, "scopes": [[child, *chosen] for child, chosen in enumerate(parents)]},
        )
        density.bins = bins
        with torch.no_grad():
            density._start(codes, weight)
        return density

    @property
    def capabilities(self) -> Capabilities:
        return self._exact()

    def _start(self, codes: Event, weight: Tensor) -> None:
        for child, count in enumerate(self.bins.levels):
            seen = torch.bincount(
                codes.value[:, child].long(), weight * codes.mask[:, child], count
            )[:count]
            self.shares[child, :count] = (seen + 1 / count) / (seen.sum() + 1)
        counts = (_counts(codes, scope, self.bins.levels, weight)[0] for scope in self.scopes)
        self._maximise({f"count.{index}": count for index, count in enumerate(counts)})

    def _tables(self) -> list[Tensor]:
        """log p(child | parents), with the child's axis first as in its scope."""
        return [logits.log_softmax(-1).movedim(-1, 0) for logits in self.logits]

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        for child, logits in enumerate(self.logits):
            count = statistics[f"count.{child}"].movedim(0, -1)
            logits.copy_(
                (count + self.config.smoothing * self.shares[child, : count.shape[-1]]).log()
            )


# ------------------------------------------------------------------------------------------- scores


def _counts(
    codes: Event, scope: Parents, levels: tuple[int, ...], weight: Tensor
) -> tuple[Tensor, float]:
    """Weighted counts of every combination of codes where all are known, and the weight of these
    rows."""
    known = codes.mask[:, list(scope)].all(1)
    shape = [levels[v] for v in scope]
    place = torch.zeros(int(known.sum()), dtype=torch.long)
    for variable in scope:
        place = place * levels[variable] + codes.value[known, variable].long()
    return torch.bincount(place, weight[known], math.prod(shape)).reshape(shape), float(
        weight[known].sum()
    )


class _Scores:
    """What a column is worth given its parents; each is counted once."""

    def __init__(
        self, codes: Event, levels: tuple[int, ...], weight: Tensor, config: BayesNet
    ) -> None:
        self.codes = codes
        self.levels = levels
        self.weight = weight
        self.config = config
        self.total = float(weight.sum())
        self.cache: dict[tuple[int, frozenset[int]], float] = {}

    def __call__(self, child: int, parents: frozenset[int]) -> float:
        key = (child, parents)
        if key not in self.cache:
            count, seen = _counts(self.codes, (*sorted(parents), child), self.levels, self.weight)
            score = self._bic if self.config.score == "bic" else self._bdeu
            self.cache[key] = score(
                count.reshape(-1, count.shape[-1]) * (self.total / max(seen, 1e-300))
            )
        return self.cache[key]

    def _bic(self, count: Float[Tensor, "P L"]) -> float:
        """G. Schwarz (1978), Estimating the dimension of a model: log-likelihood less half log n
        for each parameter."""
        likelihood = (
            torch.special.xlogy(count, count).sum()
            - torch.special.xlogy(count.sum(1), count.sum(1)).sum()
        )
        return float(likelihood) - 0.5 * math.log(max(self.total, 2.0)) * len(count) * (
            count.shape[1] - 1
        )

    def _bdeu(self, count: Float[Tensor, "P L"]) -> float:
        """W. Buntine (1991), Theory refinement on Bayesian networks: marginal likelihood with one
        row of uniform Dirichlet prior."""
        own = torch.tensor(1 / count.numel(), dtype=torch.float64)
        both = own * count.shape[1]
        of_child = (torch.lgamma(count + own) - torch.lgamma(own)).sum()
        return float(of_child + (torch.lgamma(both) - torch.lgamma(count.sum(1) + both)).sum())


# ------------------------------------------------------------------------------------------- search


def learn_parents(
    codes: Event, variables: tuple[Variable, ...], weight: Tensor, config: BayesNet
) -> list[list[int]]:
    """The parents of each column: from no arrows, the move that gains the most, until none gains
    anything."""
    levels = tuple(variable.cardinality for variable in variables)
    search = _Search(
        _Scores(codes, levels, weight, config),
        _candidates(codes, variables, weight),
        levels,
        config,
    )
    while search.step():
        continue
    return [sorted(parents) for parents in search.parents]


def _candidates(codes: Event, variables: tuple[Variable, ...], weight: Tensor) -> list[list[int]]:
    """For each column the others that tell the most about it."""
    part = slice(None, None, max(1, codes.rows // MUTUAL_INFORMATION_ROWS))
    information = mutual_information(codes.take(part), variables, weight[part])
    information.fill_diagonal_(-math.inf)
    return information.topk(min(MAX_CANDIDATE_PARENTS, len(variables) - 1), dim=1).indices.tolist()


Move = dict[int, frozenset[int]]  # the new parents of one column, or of two


class _Search:
    """Hill climbing over acyclic graphs: an arrow is added, taken away or turned (Koller and
    Friedman, section 18.4.3)."""

    def __init__(
        self, score: _Scores, candidates: list[list[int]], levels: tuple[int, ...], config: BayesNet
    ) -> None:
        self.score = score
        self.candidates = candidates
        self.levels = levels
        self.config = config
        self.parents: list[frozenset[int]] = [frozenset()] * len(levels)
        self.refused: set[frozenset[tuple[int, frozenset[int]]]] = set()

    def step(self) -> bool:
        """Take the best move that leaves sums small; whether there was one."""
        gains = [(self._gain(move), move) for move in self._moves()]
        gains = sorted((pair for pair in gains if pair[0] > 1e-6), key=lambda pair: -pair[0])
        for _, move in gains:
            if frozenset(move.items()) in self.refused:
                continue
            after = [move.get(child, parents) for child, parents in enumerate(self.parents)]
            if self._narrow(after):
                self.parents = after
                return True
            self.refused.add(frozenset(move.items()))
        return False

    def _gain(self, move: Move) -> float:
        return sum(
            self.score(child, new) - self.score(child, self.parents[child])
            for child, new in move.items()
        )

    def _narrow(self, parents: list[frozenset[int]]) -> bool:
        scopes = [(child, *chosen) for child, chosen in enumerate(parents)]
        return elimination_order(scopes, self.levels, self.config.largest)[1] <= self.config.largest

    def _moves(self) -> Iterator[Move]:
        above = _ancestors(self.parents)
        for child, candidates in enumerate(self.candidates):
            own = self.parents[child]
            room = len(own) < self.config.max_parents
            for parent in candidates:
                if room and parent not in own and child not in above[parent]:
                    yield {child: own | {parent}}
            for parent in sorted(own):
                yield {child: own - {parent}}
                other = self.parents[parent]
                if len(other) < self.config.max_parents and not any(
                    parent in above[o] for o in own - {parent}
                ):
                    yield {child: own - {parent}, parent: other | {child}}


def _ancestors(parents: list[frozenset[int]]) -> list[set[int]]:
    """Everything above each column."""
    above: list[set[int]] = [set() for _ in parents]
    done: set[int] = set()
    while len(done) < len(parents):
        for child, own in enumerate(parents):
            if child not in done and own <= done:
                above[child] = set(own).union(*(above[parent] for parent in own))
                done.add(child)
    return above

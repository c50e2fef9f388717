r"""Variable elimination: exact sums over tables that share variables, and the density that a graph
of codes makes.

    log sum_c exp( sum_f  f(c_scope(f)) )
    one variable after another: join its tables, sum it out, go on

N. Zhang and D. Poole (1994), A simple approach to Bayesian network computations; D. Koller and N.
Friedman (2009), Probabilistic graphical models, algorithm 9.1. Known cells are struck out of the
tables first, so that rows with the same cells missing share one small problem. The joined tables,
read backwards, draw what was summed out (or maximise it), and gradients of the log-sum with respect
to the tables are expected counts (A. Darwiche (2003), theorem 1). In nats.

Shape letters: B rows, D variables, L codes of a variable.

>>> table = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log()
>>> total, joined = eliminate([Factor((0, 1), table)], [1, 0])
>>> bool(total.abs() < 1e-6), [factor.scope for factor in joined]
(True, [(0, 1), (0,)])
"""

import abc
import functools
import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core import Capabilities, Density, Event, Likelihood, Space, categorical
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.adapters import Bins

__all__ = [
    "MAX_ENTRIES",
    "Factor",
    "GraphDensity",
    "Part",
    "at",
    "draw",
    "eliminate",
    "elimination_order",
    "log_sum",
]

PATTERN_COST_ENTRIES = 8192  # entries of a table that cost as much as a pattern of its own
MAX_ENTRIES = 1 << 21  # entries of the largest table that rows are worked on with at once
Scope = tuple[int, ...]


class Factor(NamedTuple):
    """Log-values over the codes of some variables; the first axis is rows (1: the same for all)."""

    scope: Scope
    table: Tensor


# ------------------------------------------------------------------------------------------- orders


def elimination_order(
    scopes: Sequence[Scope], levels: Sequence[int], limit: float = math.inf
) -> tuple[list[int], int]:
    """An order in which sums stay small, variable 0 last, and the entries of the largest table on
    the way.

    Next is always the variable whose joined table is smallest (D. Koller and N. Friedman (2009),
    section 9.4.3). Gives up, with what it has, where a table would exceed ``limit``."""
    near = _neighbours(scopes, len(levels))

    def weight(variable: int) -> int:
        return math.prod(levels[other] for other in near[variable] | {variable})

    order: list[int] = []
    largest = 1
    queue = [(weight(variable), variable) for variable in range(1, len(levels))]
    heapq.heapify(queue)
    while queue:
        size, variable = heapq.heappop(queue)
        if variable in order[-1:] or near[variable] is _GONE or size != weight(variable):
            continue  # an entry that its neighbours have outdated
        largest = max(largest, size)
        if largest > limit:
            return order, largest
        order.append(variable)
        for other in _connect(near, variable) - {0}:
            heapq.heappush(queue, (weight(other), other))
    return [*order, 0], max(largest, levels[0])


_GONE: set[int] = set()  # stands for the neighbours of what was eliminated


@functools.lru_cache(maxsize=4096)
def _order_of(
    scopes: tuple[Scope, ...], levels: tuple[int, ...], hidden: tuple[bool, ...]
) -> tuple[list[int], int]:
    order, largest = elimination_order(
        [tuple(v for v in scope if hidden[v]) for scope in scopes], levels
    )
    return [v for v in order if hidden[v]], largest


def _neighbours(scopes: Sequence[Scope], size: int) -> list[set[int]]:
    near: list[set[int]] = [set() for _ in range(size)]
    for scope in scopes:
        for variable in scope:
            near[variable].update(scope)
    return [others - {variable} for variable, others in enumerate(near)]


def _connect(near: list[set[int]], variable: int) -> set[int]:
    """Join the neighbours of a variable to each other, and take it out; whom it left behind."""
    left = near[variable]
    for other in left:
        near[other] = (near[other] | left) - {variable, other}
    near[variable] = _GONE
    return left


# ----------------------------------------------------------------------------------- sums and draws


def _join(factors: list[Factor], last: int) -> Factor:
    """The sum of log-tables over the union of their scopes, ``last`` on the last axis."""
    scope = (*dict.fromkeys(v for factor in factors for v in factor.scope if v != last), last)
    return Factor(
        scope,
        sum((_spread(factor, scope) for factor in factors), torch.zeros((), dtype=torch.float64)),
    )


def _spread(factor: Factor, scope: Scope) -> Tensor:
    """The table with its axes in the order of ``scope``; axes that it lacks have length one."""
    order = sorted(range(len(factor.scope)), key=lambda axis: scope.index(factor.scope[axis]))
    table = factor.table.permute(0, *(axis + 1 for axis in order))
    return table[(slice(None), *(slice(None) if v in factor.scope else None for v in scope))]


def log_sum(table: Tensor) -> Tensor:
    return table.logsumexp(-1)


def eliminate(
    factors: Sequence[Factor], order: Sequence[int], reduce: Callable[[Tensor], Tensor] = log_sum
) -> tuple[Float[Tensor, " B"], list[Factor]]:
    """(B,) log of the sum over all variables of ``order``, and the joined table of each of them."""
    place = {variable: index for index, variable in enumerate(order)}
    buckets: list[list[Factor]] = [[] for _ in range(len(order) + 1)]

    def put(factor: Factor) -> None:
        buckets[min((place[v] for v in factor.scope), default=len(order))].append(factor)

    for factor in factors:
        put(factor)
    joined = []
    for variable, bucket in zip(order, buckets, strict=False):
        joined.append(_join(bucket, variable))
        put(Factor(joined[-1].scope[:-1], reduce(joined[-1].table)))
    return torch.stack(torch.broadcast_tensors(*(factor.table for factor in buckets[-1]))).sum(
        0
    ), joined


def at(factor: Factor, variable: int, codes: Int[Tensor, "B D"]) -> Float[Tensor, "B _"]:
    """The log-values of each code of one variable, given the codes of the others in its table."""
    row = (
        torch.arange(len(codes))
        if len(factor.table) == len(codes)
        else torch.zeros(len(codes), dtype=torch.long)
    )
    table = factor.table.movedim(1 + factor.scope.index(variable), -1)
    return table[(row, *(codes[:, v] for v in factor.scope if v != variable))]


def draw(
    joined: Sequence[Factor], codes: Int[Tensor, "B D"], choose: Callable[[Tensor], Tensor]
) -> Int[Tensor, "B D"]:
    """The codes with every eliminated variable ``choose``-n from its distribution given those
    chosen before it."""
    codes = codes.clone()
    for factor in reversed(joined):
        codes[:, factor.scope[-1]] = choose(at(factor, factor.scope[-1], codes))
    return codes


# -------------------------------------------------------------------------------------- the density


class Part(NamedTuple):
    """Rows with the same cells missing, ready to be summed."""

    rows: Tensor
    codes: Tensor
    within: Tensor  # (B,) log p(value | code) of the cells that are struck out
    factors: list[Factor]
    order: list[int]
    largest: int


class GraphDensity(Density):
    """p(x) from log-tables over small sets of codes, up to a constant; exact for every pattern of
    missing cells."""

    bounded = True

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.bins = Bins(space.variables, self.structure["bins"])
        self.scopes: list[Scope] = [tuple(scope) for scope in self.structure["scopes"]]

    def _exact(self) -> Capabilities:
        """What sums over all codes give."""
        plain = all(
            count == variable.cardinality
            for count, variable in zip(self.bins.levels, self.space.variables, strict=True)
        )
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=True,
            mode="exact"
            if plain
            else "approximate",  # inside a bin of a number the peak is not looked for everywhere
            statistics=True,
        )

    @abc.abstractmethod
    def _tables(self) -> list[Tensor]:
        """One log-table for each scope."""

    def _log_constant(self) -> Tensor:
        """What the sum of the tables over all codes comes to."""
        return torch.zeros((), dtype=torch.float64)

    # ------------------------------------------------------------- rows with the same cells missing

    def _parts(
        self, event: Event, tables: list[Tensor], peaks: Tensor | None = None
    ) -> Iterator[Part]:
        """The event in parts of like rows, not too many at once. ``peaks``: (D, L) what each code
        of a missing cell is worth."""
        codes = self.bins.codes(event).value.long()
        within = self.bins.log_within(event)
        for rows, known in self._groups(event.mask & ~self.bins.hidden):
            order, largest = self._order(known)
            for few in rows.split(self._at_once(order, largest) or len(rows)):
                factors = [
                    _given(scope, table, codes[few], known)
                    for scope, table in zip(self.scopes, tables, strict=True)
                ]
                told = self._evidence(event.take(few), order, peaks)
                yield Part(
                    few, codes[few], within[few][:, known].sum(1), factors + told, order, largest
                )

    def _groups(self, known: Bool[Tensor, "B D"]) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers and the columns whose codes are known in all of them. Few rows of many
        patterns make one group: what more is known of a row enters as evidence."""
        whole = known.all(1)
        for rows in (whole.nonzero()[:, 0], (~whole).nonzero()[:, 0]):
            patterns = _alike(known[rows])
            common = known[rows].all(0)
            if len(patterns) > 1 and len(rows) * self._order(common)[
                1
            ] <= PATTERN_COST_ENTRIES * len(patterns):
                yield rows, common
            else:
                yield from ((rows[few], known[rows[few[0]]]) for few in patterns)

    def _order(self, known: Bool[Tensor, " D"]) -> tuple[list[int], int]:
        """How to sum out the columns that are not known, and the largest table on the way."""
        return _order_of(tuple(self.scopes), self.bins.levels, tuple((~known).tolist()))

    def _at_once(self, order: list[int], largest: int) -> int:
        """How many rows are summed at once; 0: all of them."""
        return max(1, MAX_ENTRIES // largest) if order else 0

    def _evidence(self, event: Event, order: list[int], peaks: Tensor | None) -> list[Factor]:
        """log p(what is known of a cell | code) of the columns that are summed out, where anything
        is known."""
        if not order:
            return []
        told = self.bins.log_codes(event)
        if peaks is not None:
            told = torch.where(event.mask[..., None], told, peaks)
        anything = (
            event.mask.any(0).tolist()
            if event.within is None and peaks is None
            else [True] * len(self.bins.levels)
        )
        return [Factor((d,), told[:, d, : self.bins.levels[d]]) for d in order if anything[d]]

    # ------------------------------------------------------------------ hooks

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._score(event, self._tables()) - self._log_constant()

    def _score(self, event: Event, tables: list[Tensor]) -> Float[Tensor, " B"]:
        """log_prob without the constant."""
        sums = []
        for part in self._parts(event, tables):
            sums.append((part.rows, self._total(part) + part.within))
        return _in_order(sums)

    def _total(self, part: Part) -> Float[Tensor, " _"]:
        """(B,) log of the sum over what is not known of a part."""
        return eliminate(part.factors, part.order)[0]

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """Variable 0 is summed out last: its joined table is log p(its code, the rest), for every
        candidate at once."""
        first = torch.arange(event.value.shape[1]) == 0
        rest = event.hide(first)
        probe = Event(
            torch.where(first, candidates.double()[:, None], 0.0), first.expand(len(candidates), -1)
        )
        likely = self.bins.log_codes(probe)[:, 0, : self.bins.levels[0]]  # (K, L)
        sums = [
            (part.rows, self._log_first(part) + part.within[:, None])
            for part in self._parts(rest, self._tables())
        ]
        of_code = _in_order(sums, likely.shape[1:]) - self._log_constant()
        return torch.stack([(of_code + each).logsumexp(1) for each in likely], 1)

    def _log_first(self, part: Part) -> Float[Tensor, "_ L"]:
        total, joined = eliminate(part.factors, part.order)
        last = joined[-1].table
        return last + (total - last.logsumexp(1))[:, None]

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        codes = self._complete(event, lambda log_p: categorical(log_p, generator))
        return Event(
            torch.where(event.mask, event.value, self.bins.sample(codes, generator, event.within))
        )

    def _complete(
        self,
        event: Event,
        choose: Callable[[Tensor], Tensor],
        peaks: Tensor | None = None,
        reduce: Callable[[Tensor], Tensor] = log_sum,
    ) -> Int[Tensor, "B D"]:
        """The codes of every row, the unknown ones ``choose``-n from their joint distribution."""
        parts = [
            (part.rows, self._drawn(part, choose, reduce))
            for part in self._parts(event, self._tables(), peaks)
        ]
        return _in_order(parts, event.value.shape[1:]).long()

    def _drawn(
        self, part: Part, choose: Callable[[Tensor], Tensor], reduce: Callable[[Tensor], Tensor]
    ) -> Int[Tensor, "B D"]:
        return draw(eliminate(part.factors, part.order, reduce)[1], part.codes, choose)

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The most probable codes, each worth its likeliest value (D. Koller and N. Friedman
        (2009), algorithm 13.1)."""
        value, height = self.bins.peaks()
        codes = self._complete(
            event, lambda log_p: log_p.argmax(-1), height, lambda table: table.amax(-1)
        )
        return Event(torch.where(event.mask, event.value, value[torch.arange(len(value)), codes]))

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        """Expected counts of every table: gradients of the weighted log-sum."""
        if not event.rows:
            return {
                f"count.{index}": torch.zeros_like(table)
                for index, table in enumerate(self._tables())
            } | {"log_prob": weight.sum()}
        tables = [table.detach().requires_grad_() for table in self._tables()]
        with torch.enable_grad():
            total = (weight * self._score(event, tables)).sum()
            counts = torch.autograd.grad(total, tables)
        log_prob = total.detach() - weight.sum() * self._log_constant()
        return {f"count.{index}": count for index, count in enumerate(counts)} | {
            "log_prob": log_prob
        }


def _alike(mask: Bool[Tensor, "B D"]) -> list[Tensor]:
    """Row numbers, by pattern."""
    _, pattern, counts = mask.unique(dim=0, return_inverse=True, return_counts=True)
    return list(pattern.argsort(stable=True).split(counts.tolist()))


def _given(
    scope: Scope, table: Tensor, codes: Int[Tensor, "B D"], known: Bool[Tensor, " D"]
) -> Factor:
    """The table with its known variables struck out."""
    seen = [axis for axis, variable in enumerate(scope) if known[variable]]
    free = [axis for axis, variable in enumerate(scope) if not known[variable]]
    moved = table.permute(*seen, *free)
    return Factor(
        tuple(scope[axis] for axis in free),
        moved[tuple(codes[:, scope[axis]] for axis in seen)] if seen else moved[None],
    )


def _in_order(parts: list[tuple[Tensor, Tensor]], shape: tuple[int, ...] = ()) -> Tensor:
    """Answers of parts, (rows, values) each, in the order of the rows; of no rows none of the
    ``shape``."""
    if not parts:
        return torch.zeros(0, *shape, dtype=torch.float64)
    where = torch.cat([rows for rows, _ in parts])
    return torch.cat([values for _, values in parts])[where.argsort()]

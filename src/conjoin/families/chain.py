r"""The chain rule over the blocks of a record: each factor is told the blocks before it.

    p(a, b, c) = p(a) p(b | a) p(c | a, b)

Each factor is any density, of one block or of a group of blocks. What is open of a block that a
later factor is told has to be filled in: over all values where they can be listed, which is exact;
else by S draws from the factor, whose mean is a bound by Jensen's inequality (Y. Burda, R. Grosse
and R. Salakhutdinov (2016), Importance weighted autoencoders, equation 8) and whose weights choose
among the draws (D. Rubin (1987), A noniterative sampling/importance resampling alternative). A
block that nothing later needs is left out: that is exact. So a question is a record with parts
missing, and its status depends on which. In nats.

Shape letters: B rows, S ways to fill in a row, K candidates.

>>> from conjoin.core import Block, Variable
>>> label = Block("label", "vector", (1,), (Variable("label", "category", 2),))
>>> scan = Block("scan", "image", (1, 1, 2), (Variable("grey", "ordered", 2),))
>>> codes = torch.tensor([[0.0], [1.0], [1.0]])
>>> data = Record(label=Event(codes), scan=Event(codes[:, None, None].expand(3, 1, 1, 2).byte()))
>>> config = Chain(columns="mixture", others=(("scan", resolve("autoregressive")),))
>>> chain = ChainDensity.build(RecordSpace((label, scan)), config, data, stream(0))
>>> chain.status_of(data.only(["scan"])).value
'exact'
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Flat,
    Record,
    RecordSpace,
    Space,
    Status,
    categorical,
    stream,
)
from conjoin.core.capabilities import status_of, weakest, worst
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Float
from conjoin.families import for_layout, resolve

__all__ = ["Chain", "ChainDensity"]

MAX_WAYS = 4096  # to fill in a row, that are all asked about
MAX_ROWS_AT_ONCE = 16  # whose open blocks are filled in together


@dataclass(frozen=True)
class Chain(Config):
    """Settings of a chain.

    Parameters
    ----------
    columns
        Family of the vector blocks, which are one factor: one that sums over missing cells exactly.
    others
        (block, config) of other blocks; without one, the family of the block's layout.
    draws
        Ways in which an open number, picture or string is filled in.
    told
        (block, names of the blocks that it is told); a block that is not named is told all before
        it. Given these it is independent of the others.
    """

    columns: Any = "circuit"
    others: tuple[tuple[str, Any], ...] = ()
    draws: int = 256
    told: tuple[tuple[str, tuple[str, ...]], ...] = ()

    implied: ClassVar[dict[str, Any]] = {"told": ()}
    unwritten: ClassVar[dict[str, Any]] = {"told": ()}

    def of(self, block: Block) -> Config:
        """The config of a block that is no vector."""
        config: Config = dict(self.others).get(block.name) or for_layout(block.layout)
        return config


class Plan(NamedTuple):
    """How a factor's open blocks are filled in: which, and in how many ways; inf stands for all."""

    names: list[str]
    ways: float


class ChainDensity(Density):
    """``factors`` in the order of the record's blocks; the vector blocks come first, as one."""

    config_class = Chain
    flat = False
    bounded = True

    def __init__(
        self,
        space: RecordSpace,
        config: Chain,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.groups = _groups(space)
        self.told = [self._told(space, group[0]) for group in self.groups]
        self.factors = nn.ModuleList()
        # of a chain that was built before: what its factors learned that is no weight
        kept = list(enumerate(self.structure.get("factors", ())))
        self.with_factors([self._empty(place, structure) for place, structure in kept])

    def _told(self, space: RecordSpace, name: str) -> list[str]:
        """The blocks before a block that it is told, in their order."""
        before = space.names[: space.names.index(name)]
        asked = dict(self.config.told).get(name)
        return [each for each in before if asked is None or each in asked]

    def with_factors(self, factors: Sequence[Density]) -> Self:
        """The chain of these densities, one for each group of blocks."""
        self.factors = nn.ModuleList(
            self._placed(place, factor) for place, factor in enumerate(factors)
        )
        return self

    @classmethod
    def build(
        cls,
        space: RecordSpace,
        config: Any,
        data: Record,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """Each factor from the rows of which its blocks are known."""
        chain = cls(space, config)
        factors = []
        for place, group in enumerate(chain.groups):
            own, blocks, told = chain._made_of(place)
            known = _teaching(own.density, data, group, [block.name for block in told])
            part = data.take(known.nonzero()[:, 0])
            mass = None if weight is None else weight[known]
            factors.append(_built(own, blocks, part, generator, mass, told))
        chain.structure = {"factors": [factor.structure for factor in factors]}
        return chain.with_factors(factors).eval()

    def _made_of(self, place: int) -> tuple[Config, list[Block], list[Block]]:
        """The config of a factor, its blocks, and those that it is told."""
        blocks = [self.space[name] for name in self.groups[place]]
        vectors = blocks[0].layout == "vector"
        own = resolve(self.config.columns) if vectors else self.config.of(blocks[0])
        return own, blocks, [self.space[name] for name in self.told[place]]

    def _empty(self, place: int, structure: dict[str, Any]) -> Density:
        """A factor before its weights."""
        config, blocks, told = self._made_of(place)
        before = RecordSpace(tuple(told))
        if not config.density.flat:
            return config.density(blocks[0], config, structure, before if told else None)
        space = Flat(RecordSpace(tuple(blocks))).space
        context = _context_space(config.density, Flat(before)) if told else None
        own = config.suited(space)
        return own.density(space, own, structure, context)

    def _factor(self, place: int) -> Density:
        factor = self.factors[place]
        assert isinstance(factor, Density)
        return factor

    def _able(self) -> list[Capabilities]:
        return [self._factor(place).capabilities for place in range(len(self.factors))]

    def _placed(self, place: int, factor: Density) -> Density:
        """A density of rows learns which blocks its rows are made of, and what it is told."""
        if not factor.flat:
            return factor
        blocks = Flat(RecordSpace(tuple(self.space[name] for name in self.groups[place])))
        told = tuple(self.space[name] for name in self.told[place])
        return factor.over(blocks, Flat(RecordSpace(told)) if told else None)

    @property
    def capabilities(self) -> Capabilities:
        parts = self._able()
        return Capabilities(
            weakest(*(part.likelihood for part in parts)),
            objective="surrogate" if self._by_surrogate() else "likelihood",
            stochastic=any(part.stochastic for part in parts),
            missing="approximate",
            marginals="none",
            conditionals="approximate",
            regions=all(part.regions for part in parts),
        )

    def _by_surrogate(self) -> bool:
        """Whether a factor learns by one, or withholds what it is told at times."""
        return any(
            able.objective == "surrogate" or (bool(told) and able.null_context == "learned")
            for able, told in zip(self._able(), self.told, strict=True)
        )

    # ------------------------------------------------------------------ what has to be filled in

    def _of(self, place: int, record: Record) -> tuple[Any, Record]:
        """What a factor sees: its own event or record, and its context."""
        factor = self._factor(place)
        names = self.groups[place]
        own = record[names[0]] if isinstance(factor.space, Block) else record.only(names)
        return own, record.only(self.told[place])

    def _speaks(self, record: Record, place: int) -> bool:
        """Whether a factor adds anything: a part of its own blocks is known, or a later one needs
        them."""
        names = self.groups[place]
        return any(
            not bool(record[name].unobserved.all()) or self._needed(record, name) for name in names
        )

    def _needed(self, record: Record, name: str) -> bool:
        return any(
            name in told and self._speaks(record, place) for place, told in enumerate(self.told)
        )

    def _plans(self, record: Record) -> list[Plan]:
        """For each factor what is filled in. Ways multiply from factor to factor: they share one
        budget. The rows of the record know the same cells."""
        plans = []
        size = 1.0
        for names in self.groups:
            open_ = [n for n in names if not record[n].complete.all() and self._needed(record, n)]
            ways = math.prod(self.space[n].laid.ways(self.space[n], record[n]) for n in open_)
            listed = size * ways <= MAX_WAYS
            drawn = max(1.0, self.config.draws // size)
            plans.append(Plan(open_, math.inf if listed else drawn))
            size *= ways if listed else drawn
        return plans

    def _patterns(self, record: Record) -> list[Tensor]:
        """Rows that know the same cells, so that they are answered together; few at a time where
        they must be filled in. How long a known string is makes no pattern."""
        told = [
            part.reshape(record.rows, -1)
            for event in record.values()
            for part in (event.mask, event.there & ~event.mask)
        ]
        which = torch.cat(told, 1).unique(dim=0, return_inverse=True)[1]
        rows = [(which == group).nonzero()[:, 0] for group in range(int(which.max()) + 1)]
        return [part for group in rows for part in self._few(record, group)]

    def _few(self, record: Record, rows: Tensor) -> tuple[Tensor, ...]:
        filled = any(plan.names for plan in self._plans(record.take(rows[:1])))
        return rows.split(MAX_ROWS_AT_ONCE if filled else len(rows))

    def _status_of(self, event: Record) -> Status:
        own = status_of(self.capabilities.likelihood)
        patterns = [event.take(rows) for rows in self._patterns(event)] if event.rows else []
        return worst(own, *(status for part in patterns for status in self._statuses(part)))

    def _statuses(self, record: Record) -> list[Status]:
        """What each factor says of rows that know the same cells: of blocks that are filled in all
        ways it is asked when they are complete."""
        out = []
        for place, plan in enumerate(self._plans(record)):
            listed = plan.names and plan.ways == math.inf
            if plan.ways != math.inf:
                out.append(Status.LOWER_BOUND)
            if not listed and self._speaks(record, place):
                out.append(self._factor(place).status_of(self._of(place, record)[0]))
        return out

    # ------------------------------------------------------------------ log p

    def _log_prob(
        self, event: Record, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        out = torch.zeros(event.rows, dtype=torch.float64)
        seed = None if generator is None else draw_seed(generator)
        for rows in self._patterns(event) if event.rows else []:
            noise = None if seed is None else stream(seed)  # the same for each part
            part = self.space.check(event.take(rows))
            out = out.index_copy(0, rows, self._ways(part, noise, shared=True)[1].logsumexp(1))
        return out

    def _ways(
        self, record: Record, generator: torch.Generator | None, shared: bool
    ) -> tuple[Record, Float[Tensor, "B S"]]:
        """Ways (B S rows) to fill in what must be known, and their log-weights, which sum to
        p(record). ``shared``: the same noise for every row, or log p would depend on the rows
        beside it; draws have noise of their own."""
        weight = torch.zeros(record.rows, 1, dtype=torch.float64)
        rows = record.rows
        for place, plan in enumerate(self._plans(record)):
            if not self._speaks(record, place):
                continue
            if plan.names and plan.ways == math.inf:
                record, weight = self._listed(record, weight, plan.names)
            log_p = self._factor(place).log_prob(*self._of(place, record), generator=generator)
            weight = weight + log_p.reshape(rows, -1)
            if plan.names and plan.ways != math.inf:
                ways = int(plan.ways)
                noise = stream(draw_seed(generator or stream(0, "chain", place)))
                record = self._drawn(record, place, ways, noise, shared)
                weight = (weight - math.log(ways)).repeat_interleave(ways, 1)
        return record, weight

    def _listed(self, record: Record, weight: Tensor, names: list[str]) -> tuple[Record, Tensor]:
        """The open blocks filled in all ways; a way that contradicts what is known weighs
        nothing."""
        for name in names:
            block = self.space[name]
            every = block.check(block.laid.fillings(block, record[name]))
            rows = record.rows
            record = record.take(torch.arange(rows).repeat_interleave(every.rows))
            each = every.take(torch.arange(every.rows).repeat(rows))
            filled, agree = block.laid.filled(record[name], each)
            record = record.updated({name: filled})
            allowed = torch.where(agree, 0.0, -torch.inf).double()
            weight = (weight[..., None] + allowed.reshape(*weight.shape, -1)).flatten(1)
        return record, weight

    def _drawn(
        self, record: Record, place: int, ways: int, noise: torch.Generator, shared: bool
    ) -> Record:
        """Each row in so many ways, its open blocks drawn by their own factor."""
        seed = draw_seed(noise)
        every = torch.arange(record.rows)
        parts = []
        for rows in every[:, None] if shared else every[None]:
            event, told = self._of(place, record.take(rows.repeat_interleave(ways)))
            own = stream(seed)
            parts.append(self._factor(place).sample_conditional(event, told, generator=own))
        names = self.groups[place]
        found = [part if isinstance(part, Record) else Record({names[0]: part}) for part in parts]
        record = record.take(every.repeat_interleave(ways))
        return record.updated({name: self._stacked(name, found) for name in names})

    def _stacked(self, name: str, records: list[Record]) -> Event:
        return self.space[name].laid.stacked([record[name] for record in records])

    def log_terms(self, record: Record) -> dict[str, Tensor]:
        """(B,) of each factor, log p of its blocks given the known blocks before it: what its
        familiarity is read off."""
        record = self.space.check(record)
        out: dict[str, Tensor] = {}
        before: Any = 0.0
        names: list[str] = []
        for group in self.groups:
            names += group
            upto = self.log_prob(record.only(names))
            out[group[-1]] = upto - before
            before = upto
        return out

    def posterior(self, record: Record, name: str) -> tuple[Event, Float[Tensor, "B K"]]:
        """Every value of a block of codes, and log p of each given the rest: Bayes' rule."""
        block = self.space[name]
        every = block.check(block.laid.every(block))
        record = self.space.check(record)
        many = record.take(torch.arange(record.rows).repeat_interleave(every.rows))
        each = every.take(torch.arange(every.rows).repeat(record.rows))
        log_p = self.log_prob(many.updated({name: each})).reshape(record.rows, -1)
        return every, log_p.log_softmax(1)

    # ------------------------------------------------------------------ learning

    def _losses(
        self, event: Record, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The sum of the factors' own losses, each on the rows of which its blocks are known, given
        the true blocks before it as far as they are known; of a factor that must be told all or
        nothing, on the rows of which all is known."""
        out = torch.zeros(event.rows, dtype=torch.float64)
        for place, names in enumerate(self.groups):
            known = _teaching(type(self._factor(place)), event, names, self.told[place])
            rows = known.nonzero()[:, 0]
            if len(rows):
                own, told = self._of(place, event.take(rows))
                losses = self._factor(place).losses(own, told, generator=generator)
                out = out.index_add(0, rows, losses)
        return out

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Record:
        return self._filled(self.space.check(Record(), n), generator)[0]

    def _sample_conditional(
        self, event: Record, context: Record, generator: torch.Generator | None
    ) -> Record:
        out: Record = self._draw_open(event, context, generator)[0]
        return out

    def _draw_open(
        self, event: Record, context: Record, generator: torch.Generator | None
    ) -> tuple[Record, Status, Tensor | None]:
        if not event.rows:
            return event, Status.EXACT, None
        patterns = self._patterns(event)
        noise = generator or stream(0, "chain")
        parts = [self._filled(self.space.check(event.take(rows)), noise) for rows in patterns]
        order = torch.cat(patterns).argsort()
        names = self.space.names
        stacked = Record({name: self._stacked(name, [p[0] for p in parts]) for name in names})
        effective = torch.cat([part[2] for part in parts])[order]
        return stacked.take(order), worst(*(part[1] for part in parts)), effective

    def _filled(
        self, record: Record, generator: torch.Generator | None
    ) -> tuple[Record, Status, Tensor]:
        """Rows that know the same cells, complete: what later factors must know is chosen among its
        ways by what they say of them; the rest is drawn factor by factor."""
        rows = record.rows
        status = status_of(self.capabilities.likelihood)
        effective = torch.full((rows,), torch.inf, dtype=torch.float64)
        plans = self._plans(record)
        if any(plan.names for plan in plans):
            # ways are chosen by log p: where that is no more than a bound, so are the draws
            if any(plan.ways != math.inf for plan in plans) or self._status_of(record) != status:
                status = worst(status, Status.APPROXIMATE)
            many, weight = self._ways(record, generator, shared=False)
            chosen = categorical(weight, generator)
            record = many.take(torch.arange(rows) * weight.shape[1] + chosen)
            effective = 1 / weight.softmax(1).square().sum(1)
        for place, names in enumerate(self.groups):
            if any(not bool(record[name].complete.all()) for name in names):
                drawn, worth = self._of_factor(place, record, generator)
                record = record.updated(drawn)
                status = worst(status, worth)
        return record, status, effective

    def _of_factor(
        self, place: int, record: Record, generator: torch.Generator | None
    ) -> tuple[Record, Status]:
        """A factor's blocks, complete, and what they are worth: new rows where nothing of them is
        known."""
        factor = self._factor(place)
        names = self.groups[place]
        own, told = self._of(place, record)
        if all(bool(record[name].unobserved.all()) for name in names):
            drawn = factor.sample(record.rows, told, generator=generator)
            status = status_of(factor.capabilities.likelihood)
        else:
            drawn, status, _ = factor.complete(own, told, generator=generator)
        return drawn if isinstance(drawn, Record) else Record({names[0]: drawn}), status


def _groups(space: RecordSpace) -> list[list[str]]:
    """The vector blocks at the front as one group, then each block by itself."""
    groups: list[list[str]] = []
    for block in space.blocks:
        if block.layout == "vector" and (not groups or space[groups[-1][0]].layout == "vector"):
            groups = [[*groups[0], block.name]] if groups else [[block.name]]
        else:
            groups.append([block.name])
    return groups


def _teaching(density: type[Density], record: Record, names: list[str], told: list[str]) -> Tensor:
    """(B,) which rows a factor learns from."""
    known = torch.stack([~record[name].unobserved for name in names]).any(0)
    if told and density.flat and not density.takes_columns:
        known = known & torch.stack([record[name].complete for name in told]).all(0)
    return known


def _built(
    config: Config,
    blocks: list[Block],
    data: Record,
    generator: torch.Generator,
    weight: Tensor | None,
    told: list[Block],
) -> Density:
    """A density of some blocks, told others."""
    own = RecordSpace(tuple(blocks))
    before = RecordSpace(tuple(told))
    if config.density.flat:
        flat = Flat(own)
        config = config.suited(flat.space)
        context = _context_of(config.density, Flat(before), data) if told else {}
        rows = flat.join(data.only(own.names))
        return config.density.build(flat.space, config, rows, generator, weight=weight, **context)
    context = {"context": data.only(before.names), "context_space": before} if told else {}
    event = data[blocks[0].name]
    return config.density.build(blocks[0], config, event, generator, weight=weight, **context)


def _context_of(density: type[Density], front: Flat, data: Record) -> dict[str, Any]:
    """What a density of rows is told in its fit: one class, or columns where it takes them."""
    told = front.join(data.only(front.blocks.names))
    space = _context_space(density, front)
    context = told if space.shape else told.map(lambda part: part[:, 0])
    return {"context": context, "context_space": space}


def _context_space(density: type[Density], front: Flat) -> Space:
    """The space of one class, or of columns where the density takes them."""
    variables = front.space.variables
    if len(variables) == 1 and variables[0].discrete:
        return replace(front.space, shape=())
    if not density.takes_columns:
        raise CapabilityError(
            density.__name__,
            f"p(x | {', '.join(variable.name for variable in variables)})",
            "p(x | one class)",
            "Take 'diffusion' for pictures beside several columns.",
        )
    return front.space

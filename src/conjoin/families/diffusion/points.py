r"""Clouds of points in a few steps: codes from counts, places by a flow that turns with the cloud.

    log p(c, x | told) = log p(c | told) + log p(x | c, told)

``point_counts`` has p(codes), ``cloud_flow`` p(places) and its sampler,
``conjoin.nets.equivariant`` the networks. What is told is any record. A block of codes (1, N, N)
that have no order is a graph (``conjoin.nets.molecular_graph``): it says which codes there are,
which points are bound, and so what distances to expect, which the network learns too and the flow
is told. Where nothing is known of the graph, the same network draws clouds from noise, as do E.
Hoogeboom et al. (2022), Equivariant diffusion for molecule generation in 3D. log p is approximate:
it has the error of the solver (some tenths of a nat a molecule, of sixteen nodes), to either side,
and draws come from a solver of fewer steps. It is that of the d (n - 1) free directions of places
with the mean zero: in nats, in the units of the places.

Shape letters: B rows, N capacity, F features of a point, D dimensions, K codes.

>>> from conjoin.core import Block, Variable
>>> axes = tuple(Variable(name, "real") for name in "xyz")
>>> space = Block("cloud", "points", (2, 3), axes, centred=True)
>>> data = Event(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]).repeat(4, 1, 1))
>>> density = PointsFlowDensity.build(space, PointsFlow(width=8, pair_width=4), data, stream(0))
>>> other = Event(torch.tensor([[[1.0, 0.0, 3.0], [0.0, 0.0, 3.0]]]))
>>> bool((density.log_prob(other) - density.log_prob(data)[:1]).abs() < 1e-9)
True
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Edit,
    Event,
    Likelihood,
    Recipe,
    Record,
    RecordSpace,
    seeded,
    stream,
)
from conjoin.core.shapes import Float
from conjoin.families.diffusion.cloud_flow import (
    LEAK,
    LOG_DEVIATIONS,
    PATH_WEIGHTS,
    SAMPLERS,
    CloudFlow,
    Springs,
    drawing_flow,
)
from conjoin.families.diffusion.point_counts import PointCounts, joint_code, split_code
from conjoin.nets.encoders import RecordEncoder
from conjoin.nets.equivariant import BODIES, CloudNet, Told, squares
from conjoin.nets.molecular_graph import BONDS, MAX_PATH, WALK_STEPS, MolecularGraph
from conjoin.nets.precision import computing_in, settled

__all__ = ["PointsFlow", "PointsFlowDensity", "graph_of"]

PRIORS = ("harmonic", "gaussian")
DEVIATIONS_OF_UNIT = 1.5  # standard deviations of a coordinate in a unit of the network
SMALLEST_UNIT = 1e-6
LEARNED_TOGETHER = 32  # clouds of about one size that the network sees at once in a step
DRAWN_TOGETHER = 64
ASKED_PAIRS = 1 << 12  # of the clouds whose log p is asked at once
BOND_VARIANCE = 0.5  # of a bond along each axis, in units of the network, before rows tell it
PAIR_FEATURES = len(BONDS) + MAX_PATH + 2 + WALK_STEPS
MAX_JOINT_CODES = 4096
SEEN_BOUNDS = (100_000, 1_000_000)  # clouds in a fit, at least and at most


@dataclass(frozen=True)
class PointsFlow(Config):
    """Settings of the flow of points.

    Parameters
    ----------
    width
        Features of a point.
    pair_width
        Features of a pair.
    heads
        Of attention.
    layers
        Of the graph, and of the geometry.
    body
        "equivariant", or "plain": a transformer of coordinates as they are.
    prior
        Noise with springs along the bonds of the graph ("harmonic"), or without ("gaussian").
    align
        Whether data are turned onto their noise; with the plain body they are turned at random.
    blur
        Share of noise that is left at the data.
    sampling_steps
        Calls of the network for a draw.
    solver
        Places along the way of a cloud to noise where the trace of a Jacobian is taken, for log p.
    sampler
        How a draw uses its calls: "corrected", in which each call corrects the step before it, or
        "extrapolated", as in earlier versions.
    repeats
        Noises that each cloud of a step is seen with.
    recycles
        Whether the network sees its own first answer and answers again: twice the time. An
        experiment: tests hold it to the contract, and no benchmark has shown that it helps.
    details
        Differences of a distance from the expected one that the network tells apart; a standard
        deviation of a coordinate is 1.5.
    withheld
        Share of the rows of a step that are not told a block of their context.
    distance_weight
        Weight of the distances that the graph alone lets expect, in the loss.
    steps
        Of the gradient; None takes them from the number of rows.
    batch
        Rows of a step.
    rate
        Learning rate at its greatest; it falls to zero.
    matrix_rate
        Learning rate of matrices between hidden units, which Muon moves; None: by AdamW too.
    decay
        Weight decay.
    precision
        Of the matrix products in a fit: "float32", "bfloat16", or "auto" for the faster one;
        places are always in float32. Answers are in float64, draws in float32.
    """

    width: int = 64
    pair_width: int = 32
    heads: int = 8
    layers: tuple[int, int] = (4, 4)
    body: str = "equivariant"
    prior: str = "harmonic"
    align: bool = True
    blur: float = 0.003
    sampling_steps: int = 10
    solver: int = 16
    repeats: int = 2
    recycles: bool = False
    details: tuple[float, ...] = (0.05, 0.2)
    withheld: float = 0.1
    distance_weight: float = 0.1
    steps: int | None = None
    batch: int = 32
    rate: float = 2e-3
    matrix_rate: float | None = 0.02
    decay: float = 1e-2
    precision: str = "auto"
    sampler: str = "corrected"

    implied: ClassVar[dict[str, Any]] = {"sampler": "extrapolated"}
    unwritten: ClassVar[dict[str, Any]] = {"sampler": "extrapolated"}

    def __post_init__(self) -> None:
        if self.body not in BODIES:
            raise ValueError(f"body must be one of {', '.join(BODIES)}, got {self.body!r}.")
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, got {self.prior!r}.")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}.")
        for name in ("solver", "sampling_steps", "repeats"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {count!r}.")
        if not 0 < self.blur < 1:
            raise ValueError(f"blur must be between 0 and 1, got {self.blur!r}.")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads={self.heads}, got {self.width!r}.")

    def in_precision(self, precision: str) -> Self:
        return dataclasses.replace(self, precision=settled(self.precision, precision))

    def recipe(self, rows: int) -> Recipe:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, or None, got {self.steps!r}.")
        planned = max(SEEN_BOUNDS[0], min(SEEN_BOUNDS[1], 30 * rows)) // self.batch
        return Recipe(
            steps=planned if self.steps is None else self.steps,
            batch=self.batch,
            rate=self.rate,
            decay=self.decay,
            matrix_rate=self.matrix_rate,
        )


class _Rows(NamedTuple):
    """Rows as the network sees them: places (B, N, D) in its units, codes and what is there
    (B, N), the graphs, of which rows one is known, whether its points are those (B,), and numbers
    (B, C) that are told."""

    x: Tensor
    code: Tensor
    present: Tensor
    graph: MolecularGraph
    has_graph: Tensor
    agrees: Tensor
    told: Tensor

    def take(self, rows: Tensor) -> "_Rows":
        """Some rows, without the places that none of them has."""
        width = max(1, int(self.present[rows].sum(1).max()) if len(rows) else 1)
        cut = MolecularGraph(
            self.graph.elements[rows, :width],
            self.graph.bonds[rows, :width, :width],
            self.graph.charges[rows, :width],
            self.graph.present[rows, :width],
            self.graph.symbols,
        )
        whole = (self.x, self.code, self.present)
        x, code, present = (part[rows, :width] for part in whole)
        flags = (self.has_graph[rows], self.agrees[rows])
        return _Rows(x, code, present, cut, *flags, self.told[rows])


def graph_of(space: RecordSpace, capacity: int) -> Block | None:
    """The block of a context that tells the graph of as many points."""
    for block in space.blocks:
        square = block.shape == (1, capacity, capacity)
        if block.layout == "image" and square and block.variables[0].nominal:
            return block
    return None


class PointsFlowDensity(Density):
    """Exact codes, and places whose log p is that of a flow, as far as a solver tells it."""

    config_class = PointsFlow
    flat = False
    conditional = True
    unit: Tensor
    anchor: Tensor
    stiffness: Tensor

    def __init__(
        self,
        space: Block,
        config: PointsFlow,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        config = config.in_precision("auto")
        super().__init__(space, config, structure, context_space)
        self.columns = [d for d, each in enumerate(space.variables) if each.discrete]
        self.levels = [space.variables[d].cardinality for d in self.columns]
        self.numbers = [d for d, each in enumerate(space.variables) if not each.discrete]
        self.graph_block = graph_of(self.context_space, space.shape[0])
        self._refuse()
        others = tuple(b for b in self.context_space.blocks if b is not self.graph_block)
        self.encoder = RecordEncoder(RecordSpace(others))
        joint = math.prod(self.levels)
        self.counts = PointCounts(
            space.shape[0], joint, self.encoder.size, self.structure.get("multisets", [[]])
        )
        more: dict[str, Any] = (
            {"dimensions": len(self.numbers)}
            if config.body == "plain"
            else {"recycles": config.recycles, "details": tuple(config.details)}
        )
        net: CloudNet = BODIES[config.body](
            joint + 3,
            1 if self.graph_block is None else PAIR_FEATURES + 1,
            self.encoder.size,
            config.width,
            config.pair_width,
            config.heads,
            tuple(config.layers),
            **more,
        )
        self.flow = CloudFlow(
            net, config.blur, config.sampling_steps, config.solver, config.sampler
        )
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))
        self.register_buffer("anchor", torch.ones((), dtype=torch.float64))
        stiffness = torch.tensor(1 / BOND_VARIANCE, dtype=torch.float64)
        self.register_buffer("stiffness", stiffness)

    def _refuse(self) -> None:
        """ValueError for a space that has no places, or not up to a translation."""
        if not self.numbers or not self.space.centred:
            raise ValueError(
                f"Block {self.space.name!r}: a flow of points needs numbers that are told up to a "
                "translation; choose family='point_cloud'."
            )
        if math.prod(self.levels) > MAX_JOINT_CODES:
            raise ValueError(
                f"Block {self.space.name!r} has {math.prod(self.levels)} codes of a point; a flow "
                f"of points takes at most {MAX_JOINT_CODES}: tell bonds as a graph, in its context."
            )
        told = self.graph_block
        if told is not None and (
            len(self.columns) != 1 or self.levels[0] != told.variables[0].cardinality
        ):
            raise ValueError(
                f"Block {self.space.name!r}: beside the graph {told.name!r} a point needs one code "
                f"of {told.variables[0].cardinality} levels, that of the graph's diagonal."
            )

    @classmethod
    def build(
        cls,
        space: Block,
        config: Any,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Any = None,
        context_space: Any = None,
    ) -> Self:
        """Multisets of codes, and scales, come from the rows."""
        mass = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        with seeded(generator):
            first = cls(space, config, context_space=context_space)
            code = joint_code(data.value, first.columns, first.levels)
            there = data.known.all(2)
            counts = (one_hot(code, math.prod(first.levels)) * there[..., None]).sum(1)
            structure = {"multisets": PointCounts.table(counts)}
            density = cls(space, config, structure, context_space)
        told = density._conditioned(context, data.rows)
        density.encoder.start(told)
        density.counts.start(counts, mass)
        density._scale(data, told, mass)
        return density.eval()

    def _scale(self, data: Event, told: Record, mass: Tensor) -> None:
        """The unit of places, and the springs, from the moments of the rows."""
        there = data.known.all(2)
        x = data.value[..., self.numbers] * there[..., None]
        free = (mass * (there.sum(1) - 1).clamp_min(0)).sum() * x.shape[2]
        variance = (mass * x.square().sum((1, 2))).sum() / free.clamp_min(1)
        unit = (variance.sqrt() / DEVIATIONS_OF_UNIT).clamp_min(SMALLEST_UNIT)
        self.unit.copy_(unit)
        self.anchor.copy_(unit.square() / variance.clamp_min(SMALLEST_UNIT**2))
        rows = self._rows_of(data, told)
        bound = rows.graph.adjacency().double() * rows.has_graph[:, None, None]
        if bool(bound.any()):
            apart = (squares(rows.x) * bound * mass[:, None, None]).sum()
            count = (bound * mass[:, None, None]).sum() * x.shape[2]
            self.stiffness.copy_(count / apart)

    @property
    def capabilities(self) -> Capabilities:
        turns = self.config.body == "equivariant"
        moved = {"permutation", "translation"}
        return Capabilities(
            likelihood=Likelihood.APPROXIMATE,
            objective="surrogate",
            null_context="learned",
            invariances=frozenset(moved),
            edits=turns,
        )

    # ------------------------------------------------------------------ what the network sees

    def _rows_of(self, event: Event, context: Record) -> _Rows:
        there = event.known.all(2)
        x = event.value[..., self.numbers] * there[..., None] / self.unit
        code = joint_code(event.value, self.columns, self.levels)
        return self._told_of(x, torch.where(there, code, 0), there, context)

    def _told_of(self, x: Tensor, code: Tensor, present: Tensor, context: Record) -> _Rows:
        rows, width = code.shape
        told = self.encoder(context, rows)
        if self.graph_block is None:
            nothing = torch.zeros(rows, dtype=torch.bool)
            blank = torch.zeros(rows, width, width, dtype=torch.int64)
            zero = torch.zeros_like(code)
            graph = MolecularGraph(zero, blank, zero, present)
            return _Rows(x, code, present, graph, nothing, nothing, told)
        event = context[self.graph_block.name]
        known = event.mask.flatten(1)
        if bool((known.any(1) != known.all(1)).any()):
            raise CapabilityError(
                type(self).__name__,
                "places given a part of a graph",
                "graphs that are known, or not",
            )
        graph, beyond = self._graph(event, width)
        same = (_diagonal(graph) == code) & (graph.present == present)
        return _Rows(x, code, present, graph, known.all(1), same.all(1) & ~beyond, told)

    def _graph(self, event: Event, width: int) -> tuple[MolecularGraph, Tensor]:
        """The graphs of the first ``width`` points, and whether there are more (B,)."""
        found = MolecularGraph.from_codes(event.value)
        parts = (found.elements, found.charges, found.present)
        elements, charges, present = (part[:, :width] for part in parts)
        bonds = found.bonds[:, :width, :width]
        return MolecularGraph(elements, bonds, charges, present), found.present[:, width:].any(1)

    def _inputs(self, rows: _Rows) -> tuple[Tensor, Tensor]:
        """Features of points (B, N, F) and of pairs (B, N, N, G)."""
        known = rows.has_graph.double()
        there = rows.present.double()
        graph = rows.graph
        degree = graph.adjacency().sum(2).double() / 2
        more = [graph.charges.double(), degree, torch.ones_like(degree)]
        flags = torch.stack(more, 2) * known[:, None, None]
        code = one_hot(rows.code, math.prod(self.levels)).double()
        points = torch.cat([code, flags], 2) * there[..., None]
        if self.graph_block is None:
            return points, torch.ones(*degree.shape, degree.shape[1], 1, dtype=torch.float64)
        paths = graph.path_lengths()
        parts = [one_hot(graph.bonds, len(BONDS)), one_hot(paths, MAX_PATH + 2), graph.ring_walks()]
        of_pairs = torch.cat([part.double() for part in parts], 3) * known[:, None, None, None]
        flag = known[:, None, None, None].expand(*of_pairs.shape[:3], 1)
        return points, torch.cat([of_pairs, flag], 3)

    def _tell(self, rows: _Rows, net: CloudNet) -> Told:
        points, pairs = self._inputs(rows)
        return net.tell(points, pairs, rows.told, rows.present)

    def _springs(self, rows: _Rows, dtype: torch.dtype) -> Springs:
        known = rows.has_graph & (self.config.prior == "harmonic")
        stiffness = (self.stiffness * known).to(dtype)
        anchor = (self.anchor * torch.where(known, LEAK, 1.0)).to(dtype)
        return Springs.of(rows.graph.laplacian().to(dtype), stiffness, anchor, rows.present)

    # ------------------------------------------------------------------ log p

    def _log_codes(self, rows: _Rows) -> Float[Tensor, " B"]:
        """Given a graph they are certain."""
        if rows.has_graph.all():
            return self._log_same(rows)
        free = self.counts.log_prob(rows.code, rows.present, rows.told)
        if self.graph_block is None:
            return free
        return torch.where(rows.has_graph, self._log_same(rows), free)

    def _log_same(self, rows: _Rows) -> Float[Tensor, " B"]:
        """0 where the codes are those of the graph, -inf elsewhere."""
        return torch.where(rows.agrees, 0.0, -math.inf).double()

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        rows = self._rows_of(event, context)
        out = self._log_codes(rows)
        free = len(self.numbers) * (rows.present.sum(1) - 1).clamp_min(0)
        out = out - free * self.unit.log()
        order = rows.present.sum(1).argsort(stable=True)
        dtype = next(self.flow.parameters()).dtype
        for part in order.split(max(1, ASKED_PAIRS // max(1, rows.code.shape[1]) ** 2)):
            some = rows.take(part)
            with torch.no_grad():
                told = self._tell(some, self.flow.net)
                springs = self._springs(some, dtype)
                found = self.flow.log_prob(some.x.to(dtype), told, springs).double()
            out = out.index_add(0, part, torch.where(some.present.sum(1) > 1, found, 0.0))
        return out

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The error of the endpoint, that of expected distances, and -log p of the codes."""
        noise = generator or stream(0, "loss")
        if self.training and self.config.withheld:
            context = self._partly_told(context, noise)
        rows = self._rows_of(event, context)
        out = -self._log_codes(rows).clamp_min(-1e6)
        order = rows.present.sum(1).argsort(stable=True)
        parts = order.split(LEARNED_TOGETHER)
        each = torch.cat([self._losses_of(rows.take(part), noise) for part in parts])
        return out.index_add(0, order, each)

    def _losses_of(self, rows: _Rows, generator: torch.Generator) -> Float[Tensor, " B"]:
        dtype = next(self.flow.parameters()).dtype
        settings = self.config
        x = rows.x.to(dtype)
        with computing_in(settings.precision if dtype == torch.float32 else "float32"):
            told = self._tell(rows, self.flow.net)
            paths = rows.graph.path_lengths() if self.graph_block is not None else None
            weight = self._weights(rows, paths).to(dtype)
            error = self.flow.losses(
                x,
                told,
                self._springs(rows, dtype),
                weight,
                settings.repeats,
                settings.align,
                generator,
            )
        return (error + settings.distance_weight * _of_distances(x, told, weight)).double()

    def _weights(self, rows: _Rows, paths: Tensor | None) -> Tensor:
        """(B, N, N) of the pairs in the loss; where no graph is known all are alike."""
        there = rows.present[:, :, None] & rows.present[:, None]
        even = 1.0 / rows.present.sum(1).clamp_min(1)[:, None, None].double()
        weight = even.expand(there.shape)
        if paths is not None:
            known = torch.tensor(PATH_WEIGHTS).double()[paths]
            weight = torch.where(rows.has_graph[:, None, None], known, weight)
        return weight * there * ~torch.eye(there.shape[1], dtype=torch.bool)

    def _partly_told(self, context: Record, generator: torch.Generator) -> Record:
        """The context with random blocks not told."""
        parts = {}
        for name, event in context.items():
            gone = torch.rand(event.rows, generator=generator) < self.config.withheld
            parts[name] = event.hide(gone.reshape(-1, *(1,) * (event.value.dim() - 1)))
        return self.context_space.check(Record(parts), context.rows) if parts else context

    def inputs_of_reader(self, event: Event, context: Any) -> tuple[Tensor, ...]:
        """What ``conjoin.nets.equivariant.CloudReader`` takes of rows, without the places that none
        of them has; the share of noise is the least that the flow knows."""
        event = self.space.check(event)
        rows = self._rows_of(event, self.context_space.check(context, event.rows))
        rows = rows.take(torch.arange(event.rows))
        points, pairs = self._inputs(rows)
        noise = torch.full((event.rows,), self.config.blur, dtype=torch.float64)
        return rows.x, points, pairs, rows.told, rows.present, noise

    def expected_distances(self, event: Event, context: Any) -> Float[Tensor, "B N N 3"]:
        """Of all pairs of points: their distance, what the context alone lets expect, and how many
        deviations lie between; zero where a point is not there."""
        event = self.space.check(event)
        rows = self._rows_of(event, self.context_space.check(context, event.rows))
        with torch.no_grad():
            expected = self._tell(rows, self.flow.net).expected
        log_deviation = expected[..., 1].clamp(*LOG_DEVIATIONS)
        distance = squares(rows.x).clamp_min(1e-12).sqrt()
        off = (distance - expected[..., 0]) * (-log_deviation).exp()
        found = torch.stack([distance * self.unit, expected[..., 0] * self.unit, off], 3)
        there = rows.present[:, :, None] & rows.present[:, None]
        apart = there & ~torch.eye(there.shape[1], dtype=torch.bool)
        return torch.where(apart[..., None], found, 0.0)

    # ------------------------------------------------------------------ draws

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        rows = self._drawn_codes(n, context, generator)
        size = (n, self.space.shape[0], len(self.numbers))
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        return self._event(rows, self._places(rows, noise))

    def _drawn_codes(self, n: int, context: Record, generator: torch.Generator | None) -> _Rows:
        told = self.encoder(context, n)
        code, present = self.counts.draw(told, generator)
        x = torch.zeros(*code.shape, len(self.numbers), dtype=torch.float64)
        rows = self._told_of(x, code, present, context)
        if self.graph_block is None:
            return rows
        known = rows.has_graph[:, None]
        code = torch.where(known, _diagonal(rows.graph), rows.code)
        return rows._replace(
            code=code, present=torch.where(known, rows.graph.present, rows.present)
        )

    def _places(self, rows: _Rows, noise: Tensor, **how: Any) -> Float[Tensor, "B N D"]:
        """Places in the units of the network, drawn in float32, clouds of one size together."""
        flow = drawing_flow(self.flow)
        out = torch.zeros_like(rows.x)
        order = rows.present.sum(1).argsort(stable=True)
        for part in order.split(DRAWN_TOGETHER):
            some = rows.take(part)
            width = some.x.shape[1]
            told = self._tell(some, flow.net)
            springs = self._springs(some, torch.float32)
            own = {name: value(part, width) for name, value in how.items()}
            drawn = flow.draw(told, springs, noise[part, :width].float(), **own)
            out[part, :width] = drawn.double()
        return out

    def _event(self, rows: _Rows, x: Tensor) -> Event:
        value = torch.zeros(*rows.code.shape, len(self.space.variables), dtype=torch.float64)
        for column, code in zip(self.columns, split_code(rows.code, self.levels), strict=True):
            value[..., column] = code.double()
        value[..., self.numbers] = x * self.unit
        cells = rows.present[..., None].expand(value.shape)
        event = Event(value * cells, torch.ones_like(cells), rows.present)
        drawn: Event = self.space.check(event)
        return drawn

    def _edit(self, event: Event, context: Record, how: Edit) -> Event:
        """Points outside of ``where`` (B, N, F) keep their places, up to the mean of all; the
        others are carried to the noise and back. Codes stay. CapabilityError for an edit that
        exaggerates its context, or is led."""
        if how.lead is not None or bool((how.strength > 1).any()):
            raise CapabilityError(
                type(self).__name__,
                "an edit that exaggerates its context, or is led",
                "edits under the context as it is",
            )
        if how.noise == 0:
            return event
        rows = self._rows_of(event, context)
        free = rows.present if how.where is None else how.where[..., self.numbers].any(2)
        keep = rows.present & ~free
        level = max(how.noise / (1 + how.noise), 2 * self.config.blur)
        noise = torch.randn(
            rows.x.shape, generator=how.generator or stream(0, "edit"), dtype=torch.float64
        )

        def kept(part: Tensor, width: int) -> tuple[Tensor, Tensor]:
            return keep[part, :width], rows.x[part, :width].float()

        def first(part: Tensor, width: int) -> float:
            return level

        return self._event(rows, self._places(rows, noise, kept=kept, first=first))


def _diagonal(graph: MolecularGraph) -> Tensor:
    """(B, N) the codes of the atoms, as those of the points are."""
    return graph.to_codes()[:, 0].diagonal(dim1=1, dim2=2).long()


def _of_distances(x: Tensor, told: Told, weight: Tensor) -> Float[Tensor, " B"]:
    """-log p of the distances, each of a Laplace distribution about what is expected."""
    distance = squares(x).clamp_min(1e-12).sqrt()
    log_deviation = told.expected[..., 1].clamp(*LOG_DEVIATIONS)
    off = (distance - told.expected[..., 0]).abs() * (-log_deviation).exp() + log_deviation
    return (off * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)

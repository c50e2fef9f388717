r"""Molecules in space: the string, then the places of the atoms given the graph that it writes.

    log p(molecule) = log p(string) + log p(graph | string) + log p(places | graph)

This is ``conjoin.families.chain`` over three blocks. p(string) is the transformer of strings
(``conjoin.families.autoregressive.sequence``), over the tokens of SMILES; p(graph | string) is
certain, since a string writes one graph; p(places | graph) is the flow of points
(``conjoin.families.diffusion.points``), which is told the graph alone (as in G. Simm and J. M.
Hernandez-Lobato (2020), A generative model for molecular distance geometry, section 2). The string
is the one of the canonical order of the atoms (``conjoin.chemistry.canonical``), whatever their
order in the event, so log p of a graph is a lower bound, since other strings write it too, and that
of places has the error of a solver: the sum of both is approximate. A
string that writes no graph is a molecule without atoms: draws are neither tried again nor left out.
Nats.

What is usual is known by the distances that the graph alone lets expect, with their deviations,
which the flow has learned (``conjoin.nets.equivariant``): of bonds, angles and torsions, and of
atoms that are far apart in the graph and may clash; and by the features of the string. A molecule
with a bond of two atoms (by their elements and charges) that no molecule of the fit has is less
usual than any without.

Shape letters: B rows, N capacity, F = 4 + N features, T tokens, R readings.

>>> from conjoin.codecs.kinds import codec_for
>>> from conjoin.chemistry.graph import Molecule
>>> from conjoin.chemistry.strings import parse_smiles
>>> water = parse_smiles("O")
>>> xyz = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.7, -0.4], [0.0, -0.7, -0.4]]).double().numpy()
>>> rows = [Molecule(water.numbers, water.bonds, water.charges, xyz)] * 4
>>> codec, rows = codec_for(rows)
>>> event = codec.fit(rows).encode(rows).event
>>> config = Molecules(strings={"width": 8}, places={"width": 8, "pair_width": 4})
>>> density = MoleculesDensity.build(codec.space, config, codec.space.check(event), stream(0))
>>> bool(density.log_prob(event).isfinite().all())
True
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.chemistry.atoms import BONDS, PLACES, codes_of_atoms, molecules_of, symbols_of
from conjoin.chemistry.canonical import canonical_order
from conjoin.chemistry.elements import ATOMIC_NUMBER, LEAST_CHARGE, LEVELS_OF_CHARGE
from conjoin.chemistry.environments import environment_keys
from conjoin.chemistry.strings import parse_smiles, write_smiles
from conjoin.chemistry.tokens import UNKNOWN, Vocabulary
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
    Variable,
    stream,
)
from conjoin.core.capabilities import weakest
from conjoin.core.event import slices
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.autoregressive.sequence import Sequence as Strings
from conjoin.families.chain import Chain, ChainDensity
from conjoin.families.diffusion.points import PointsFlow
from conjoin.nets.equivariant import CloudReader
from conjoin.nets.molecular_graph import (
    MolecularGraph,
    graph_block,
)

__all__ = [
    "GraphOfString",
    "GraphOfStringDensity",
    "MoleculeReader",
    "Molecules",
    "MoleculesDensity",
]

CAPACITY_FACTOR = 1.25  # times the longest string of the fit, in tokens
MIN_MOLECULES_FOR_MERGES = 8_000
MERGED_TOKENS = 256
KEPT_STRINGS = 1 << 18  # rows whose string and order are remembered
NO_CONTEXT = 1e6  # deviations of noise in which a place is as good as not known
DRAWS_OF_MODE = 8
LOW_QUANTILE = 0.95  # of a reading, whose distance to the median is its spread
GROUPS = 4  # pairs bound, two bonds apart, three, and farther
PAIRS_AT_ONCE = 64  # rows whose expected distances are asked for together
STRANGE_ROWS = 1024  # that tell what is usual, at most
READ_TOGETHER = 4096  # graphs whose bonds are listed together
NEVER_SEEN = -1e6  # the standing of a molecule with a bond that the fit never saw
STRINGS: Mapping[str, Any] = {"width": 128, "blocks": 3}


@dataclass(frozen=True)
class GraphOfString(Config):
    """Settings of the graph that a string writes: what its tokens and its codes stand for.

    Parameters
    ----------
    texts
        The string of each token.
    symbols
        The elements of the codes of atoms.
    """

    texts: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()


class GraphOfStringDensity(Density):
    """p(graph | string): 1 for the graph that the string writes. It learns nothing."""

    config_class = GraphOfString
    flat = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(null_context="learned")

    def _log_prob(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        same = (self._written(context) == event.value.long()).flatten(1).all(1)
        return torch.where(same, 0.0, -torch.inf).double()

    def _losses(
        self, event: Event, context: Record, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Nothing is to be learned, also where the strings are not told."""
        return torch.zeros(event.rows, dtype=torch.float64)

    def _sample(self, n: int, context: Record, generator: torch.Generator | None) -> Event:
        return Event(self._written(context).to(self.space.dtype))

    def _written(self, context: Record) -> Tensor:
        """(B, 1, N, N) codes."""
        (name,) = self.context_space.names
        strings = context[name]
        out = torch.zeros(strings.rows, *self.space.shape, dtype=torch.int64)
        pairs = zip(strings.value.tolist(), strings.known.tolist(), strict=True)
        for row, (codes, known) in enumerate(pairs):
            told = [code for code, is_known in zip(codes, known, strict=True) if is_known]
            text = "".join(self.config.texts[code] for code in told)
            _write_codes(out[row, 0], text, self.config.symbols)
        return out


def _write_codes(table: Tensor, text: str, symbols: Sequence[str]) -> None:
    """The codes of the graph that a string writes; they stay zero where it writes none."""
    try:
        graph = parse_smiles(text) if text and UNKNOWN not in text else None
    except ValueError:
        return
    numbers = [ATOMIC_NUMBER[symbol] for symbol in symbols]
    if graph is None or len(graph) > len(table) or not set(graph.numbers.tolist()) <= set(numbers):
        return
    level = graph.charges - LEAST_CHARGE
    if (level < 0).any() or (level >= LEVELS_OF_CHARGE).any():
        return
    size = len(graph)
    elements = np.array([numbers.index(int(number)) for number in graph.numbers])
    codes = graph.bonds.astype(np.int64)
    codes[np.arange(size), np.arange(size)] = codes_of_atoms(elements, graph.charges)
    table[:size, :size] = torch.tensor(codes)


@dataclass(frozen=True)
class Molecules(Config):
    """Settings of molecules in space.

    Parameters
    ----------
    strings
        Settings of the transformer of strings, in place of its own.
    places
        Settings of the flow of places, in place of its own.
    steps
        Of the gradient; None takes those of the flow.
    """

    strings: Mapping[str, Any] | None = None
    places: Mapping[str, Any] | None = None
    steps: int | None = None

    @property
    def of_strings(self) -> Strings:
        return Strings(**{**STRINGS, **_plain(self.strings)})

    def recipe(self, rows: int) -> Recipe:
        """That of the flow, by which both are moved."""
        return PointsFlow(**{**_plain(self.places), "steps": self.steps}).recipe(rows)


def _plain(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings as they were typed; a saved model has lists in place of tuples."""
    found = dict(settings or {})
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


class MoleculesDensity(Density):
    """``chain`` over the string, the graph and the places."""

    config_class = Molecules
    flat = False
    read_by_network = True
    usual: Tensor

    def __init__(
        self,
        space: Block,
        config: Molecules,
        structure: dict[str, Any] | None = None,
        context_space: Any = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.symbols = symbols_of(space)
        self.capacity = space.shape[0]
        self.vocabulary = Vocabulary.from_json(
            self.structure.get("vocabulary", {"atoms": [], "merges": []})
        )
        self.record = self._record_space()
        kept = self.structure.get("chain")
        self.chain = ChainDensity(self.record, self._chain_config(), kept)
        self.register_buffer("usual", torch.ones(2 * GROUPS, 2, dtype=torch.float64))
        self.bonds = torch.tensor(self.structure.get("bonds", []), dtype=torch.int64)
        self._seen: dict[bytes, tuple[list[int], list[int]]] = {}

    def _record_space(self) -> RecordSpace:
        token = Variable("token", "category", cardinality=len(self.vocabulary.texts))
        length = self.structure.get("length", 1)
        string = Block("string", "sequence", (length,), (token,))
        graph = graph_block(self.capacity, self.symbols)
        four = self.space.variables[:BONDS]
        places = Block("places", "points", (self.capacity, BONDS), four, centred=True)
        return RecordSpace((string, graph, places))

    def _chain_config(self) -> Chain:
        config = self.config
        sampler = self.structure.get("sampler", PointsFlow.implied["sampler"])
        others = (
            ("string", config.of_strings),
            ("graph", GraphOfString(self.vocabulary.texts, self.symbols)),
            ("places", PointsFlow(**{"sampler": sampler, **_plain(config.places)})),
        )
        return Chain(others=others, told=(("places", ("graph",)),))

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
        """The tokens come from the strings of the rows."""
        known = [one for one in molecules_of(data, symbols_of(space)) if one is not None]
        if not known:
            raise ValueError("No molecule of the fit is known: there is nothing to learn from.")
        strings = [write_smiles(one.taken(canonical_order(one))) for one in known]
        size = MERGED_TOKENS if len(strings) >= MIN_MOLECULES_FOR_MERGES else 0
        vocabulary = Vocabulary.learn(strings, size)
        longest = max(map(len, vocabulary.encode(strings)))
        structure: dict[str, Any] = {
            "vocabulary": vocabulary.to_json(),
            "length": int(CAPACITY_FACTOR * longest) + 1,
            "sampler": PointsFlow.sampler,
        }
        density = cls(space, config, structure)
        record = density._as_record(data)[0]
        structure["bonds"] = _kinds_of_bonds(record["graph"])
        chain = ChainDensity.build(
            density.record, density._chain_config(), record, generator, weight=weight
        )
        structure["chain"] = chain.structure
        density.structure = structure
        density.bonds = torch.tensor(structure["bonds"], dtype=torch.int64)
        density.chain = chain
        return density.eval()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            likelihood=weakest(Likelihood.LOWER_BOUND, self.chain.capabilities.likelihood),
            objective="surrogate",
            missing="approximate",
            conditionals="approximate",
            mode="approximate",
            invariances=frozenset({"permutation", "translation"}),
            typical=True,
        )

    # ------------------------------------------------------------------ events and records

    def _as_record(self, event: Event) -> tuple[Record, Tensor]:
        """String, graph and places of the rows, whose atoms stand in the canonical order; and that
        order (B, N), as places in the event."""
        event = self._widened(event)
        rows, width = event.value.shape[:2]
        known = event.known[:, :, 0]
        order = torch.arange(width).repeat(rows, 1)
        length = self.record["string"].shape[0]
        tokens = torch.zeros(rows, length, dtype=torch.int64)
        told = torch.zeros(rows, length, dtype=torch.bool)
        for row, (codes, atoms) in enumerate(self._strings(event, known)):
            some = codes[:length]
            tokens[row, : len(some)] = torch.tensor(some, dtype=torch.int64)
            told[row, : len(some)] = True
            order[row, : len(atoms)] = torch.tensor(atoms)
        whole = known.any(1)
        observed = whole[:, None].expand(tokens.shape)
        string = Event(tokens, observed, told)
        value = event.value.gather(1, order[..., None].expand(event.value.shape))
        mask = event.mask.gather(1, order[..., None].expand(event.value.shape))
        there = known.gather(1, order)
        record = {"string": string, "graph": self._graphs(value, order, there, whole)}
        four = slice(0, BONDS)
        places = Event(value[..., four], mask[..., four], there)
        record["places"] = self._open_places(places, there, whole)
        return self.record.check(Record(record)), order

    def _widened(self, event: Event) -> Event:
        """With all positions; those that were cut off are absent in rows of which atoms are
        known."""
        pad = torch.nn.functional.pad
        more = self.capacity - event.value.shape[1]
        whole = event.known[:, :, 0].any(1)[:, None, None]
        mask = pad(event.mask, (0, 0, 0, more), value=True) & whole
        present = pad(event.there[..., 0], (0, more)) & whole[..., 0]
        return Event(pad(event.value, (0, 0, 0, more)), mask, present)

    def _strings(self, event: Event, known: Tensor) -> list[tuple[list[int], list[int]]]:
        """The tokens of each row, and the order of its atoms, then of the other positions; nothing
        of a row that is not known."""
        columns = [0, *range(BONDS, event.value.shape[2])]
        packed = event.value[..., columns].to(torch.uint8).cpu().numpy()
        there: np.ndarray = known.cpu().numpy()
        out: list[tuple[list[int], list[int]]] = []
        for row in range(event.rows):
            if not there[row].any():
                out.append(([], []))
                continue
            key = packed[row].tobytes() + there[row].tobytes()
            found = self._seen.get(key)
            if found is None:
                found = self._read(event.take(slice(row, row + 1)))
                if len(self._seen) < KEPT_STRINGS:
                    self._seen[key] = found
            out.append(found)
        return out

    def _read(self, event: Event) -> tuple[list[int], list[int]]:
        (molecule,) = molecules_of(event, self.symbols)
        assert molecule is not None
        order = canonical_order(molecule)
        text = write_smiles(molecule.taken(order))
        there = event.known[0, :, 0]
        atoms = there.nonzero()[:, 0][torch.tensor(order)].tolist()
        rest = (~there).nonzero()[:, 0].tolist()
        return self.vocabulary.encode([text])[0].tolist(), [*atoms, *rest]

    def _graphs(self, value: Tensor, order: Tensor, there: Tensor, whole: Tensor) -> Event:
        rows, width = order.shape
        size = self.capacity
        bonds = value[..., BONDS : BONDS + width].gather(2, order[:, None].expand(rows, width, -1))
        both = there[:, :, None] & there[:, None]
        table = torch.zeros(rows, 1, size, size, dtype=torch.uint8)
        own = bonds.long() * both + torch.diag_embed(value[..., 0].long() * there)
        table[:, 0, :width, :width] = own.to(torch.uint8)
        observed = whole[:, None, None, None].expand(table.shape)
        return Event(table, observed)

    def _open_places(self, event: Event, there: Tensor, whole: Tensor) -> Event:
        """Where no place is known the whole block is open: its codes are those of the graph."""
        placed = event.mask[..., PLACES].all(2) & there
        known = placed.any(1) & whole
        mask = event.mask & known[:, None, None]
        return Event(event.value, mask, event.there[..., 0] & known[:, None])

    def _as_event(self, record: Record, order: Tensor | None = None) -> Event:
        """Complete rows; atoms in the order that ``_as_record`` found."""
        places = record["places"]
        rows, width = places.value.shape[:2]
        table = record["graph"].value[:, 0].double()
        bonds = table * ~torch.eye(self.capacity, dtype=torch.bool)
        value = torch.zeros(rows, self.capacity, BONDS + self.capacity, dtype=torch.float64)
        value[:, :width, :BONDS] = places.value
        value[..., BONDS:] = bonds
        present = torch.zeros(rows, self.capacity, dtype=torch.bool)
        present[:, :width] = places.there[..., 0]
        value = torch.where(present[..., None], value, 0.0)
        if order is not None:
            back = order.argsort(1)
            value = value.gather(1, back[..., None].expand(value.shape))
            present = present.gather(1, back)
            among = back[:, None].expand(rows, self.capacity, -1)
            value[..., BONDS:] = value[..., BONDS:].gather(2, among)
        return Event(value, torch.ones_like(value, dtype=torch.bool), present)

    # ------------------------------------------------------------------ answers

    def _log_prob(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        record = self._as_record(event)[0]
        if self._part_placed(record).any():
            raise CapabilityError(
                type(self).__name__,
                "log p of a part of a molecule's places",
                "log p of all places or of the graph alone",
                "Ask about the completed molecule.",
            )
        return self.chain.log_prob(record, generator=generator)

    def _part_placed(self, record: Record) -> Tensor:
        """(B,) whether some places are known and others are not."""
        places = record["places"]
        placed = places.known[..., PLACES].all(2)
        return placed.any(1) & (placed != places.there[..., 0]).any(1)

    def _losses(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self.chain.losses(self._as_record(event)[0], generator=generator)

    def _sample(self, n: int, context: Any, generator: torch.Generator | None) -> Event:
        return self._as_event(self.chain.sample(n, generator=generator))

    def _sample_conditional(
        self, event: Event, context: Any, generator: torch.Generator | None
    ) -> Event:
        record, order = self._as_record(event)
        part = self._part_placed(record)
        out = self._as_event(
            self.chain.sample_conditional(self._whole_or_open(record, part), generator=generator),
            order,
        )
        if not part.any():
            return out
        some = part.nonzero()[:, 0]
        return self._with_kept(record.take(some), order[some], out, some, generator)

    def _whole_or_open(self, record: Record, part: Tensor) -> Record:
        """The record, with no place known of rows in which only some are."""
        places = record["places"]
        pad = torch.nn.functional.pad
        more = self.capacity - places.value.shape[1]
        keep = ~part
        mask = pad(places.mask, (0, 0, 0, more), value=True) & keep[:, None, None]
        # a row that was open keeps its open end
        mask[:, places.value.shape[1] :] &= places.mask[:, -1:].all(2, keepdim=True)
        present = pad(places.there[..., 0], (0, more)) & keep[:, None]
        opened = Event(pad(places.value, (0, 0, 0, more)), mask, present)
        return self.record.check(record.updated({"places": opened}))

    def _with_kept(
        self,
        record: Record,
        order: Tensor,
        out: Event,
        rows: Tensor,
        generator: torch.Generator | None,
    ) -> Event:
        """Known places stay, up to the mean of all; the flow draws the others around them."""
        places = record["places"]
        there = places.there[..., 0]
        placed = places.known[..., PLACES].all(2) & there
        where = (~placed & there)[..., None].expand(places.value.shape)
        whole = Event(places.value, torch.ones_like(places.mask), there)
        whole = self.record["places"].check(whole)
        where = where[:, : whole.value.shape[1]]
        noise = stream(0 if generator is None else draw_seed(generator), "parts")
        how = Edit(NO_CONTEXT, torch.ones(len(rows)), where, generator=noise)
        flow = self.chain.factors[2]
        assert isinstance(flow, Density)
        drawn = flow.edit(whole, record.only(["graph"]), how=how)
        found = self._as_event(record.updated({"places": drawn}), order)
        present = out.there[..., 0]
        return Event(
            out.value.index_copy(0, rows, found.value),
            out.mask,
            present.index_copy(0, rows, found.there[..., 0]),
        )

    def _mode(self, event: Event, context: Any) -> Event:
        """Of a few draws the one whose distances are nearest to what the graph lets expect."""
        each = []
        for draw in range(DRAWS_OF_MODE):
            drawn = self._sample_conditional(event, context, stream(0, "mode", draw))
            each.append(self.space.check(drawn))
        far = torch.stack([self._readings(one).sum(1) for one in each], 1)
        best = far.nan_to_num(torch.inf).argmin(1)
        value = torch.stack([self._wide(one).value for one in each], 1)
        present = torch.stack([self._wide(one).there[..., 0] for one in each], 1)
        rows = torch.arange(event.rows)
        chosen = value[rows, best]
        return Event(chosen, torch.ones_like(chosen, dtype=torch.bool), present[rows, best])

    def _wide(self, event: Event) -> Event:
        more = self.capacity - event.value.shape[1]
        pad = torch.nn.functional.pad
        value = pad(event.value, (0, 0, 0, more))
        present = pad(event.there[..., 0], (0, more))
        return Event(value, torch.ones_like(value, dtype=torch.bool), present)

    # ------------------------------------------------------------------ numbers of molecules

    def network_reader(self, outputs: int) -> "MoleculeReader":
        return MoleculeReader(self, outputs)

    def graphs_and_places(self, event: Event) -> Record:
        """Both blocks of molecules, whose atoms stand in the canonical order."""
        return self._as_record(self.space.check(event))[0].only(["graph", "places"])

    # ------------------------------------------------------------------ what is usual

    def pairs_of_points(self, event: Event) -> Float[Tensor, "B N N 3"]:
        """Of all pairs of atoms: distance in Angstrom, what the graph alone lets expect, and by how
        many deviations it is off; zero where an atom is not there."""
        with torch.no_grad():
            record, order = self._as_record(self.space.check(event))
            found = self._pairs(record)
            strange = self._never_seen(record["graph"])[:, : found.shape[1], : found.shape[1]]
            found[..., 2] = torch.where(strange, torch.inf, found[..., 2])
            more = self.capacity - found.shape[1]
            found = torch.nn.functional.pad(found, (0, 0, 0, more, 0, more))
            back = order.argsort(1)
            rows = torch.arange(event.rows)[:, None, None]
            return found[rows, back[:, :, None], back[:, None]]

    def _pairs(self, record: Record) -> Float[Tensor, "B N N 3"]:
        flow: Any = self.chain.factors[2]
        parts = [
            flow.expected_distances(some["places"], some.only(["graph"]))
            for some in map(record.take, slices(record.rows, PAIRS_AT_ONCE))
        ]
        width = max(part.shape[1] for part in parts)
        pad = torch.nn.functional.pad
        more = [width - part.shape[1] for part in parts]
        return torch.cat(
            [pad(part, (0, 0, 0, m, 0, m)) for part, m in zip(parts, more, strict=True)]
        )

    def _readings(self, event: Event) -> Float[Tensor, "B R"]:
        """log of the mean square, and of the greatest, deviation of distances of each group."""
        record, _ = self._as_record(event)
        pairs = self._pairs(record)
        width = pairs.shape[1]
        graph = MolecularGraph.from_codes(record["graph"].value[:, :, :width, :width])
        paths = graph.path_lengths()
        off = pairs[..., 2]
        # which pairs there are; models of earlier versions leave out those that a network which has
        # hardly learned expects at a negative distance, as did their calibration
        there = pairs[..., 0 if "bonds" in self.structure else 1] > 0
        out = []
        for group in range(1, GROUPS + 1):
            inside = (paths == group) if group < GROUPS else (paths >= GROUPS)
            inside = inside & there
            # far atoms may be anywhere but near
            own = torch.where(inside, off if group < GROUPS else off.clamp_max(0.0), 0.0).square()
            count = inside.sum((1, 2)).clamp_min(1)
            out += [own.sum((1, 2)) / count, own.amax((1, 2))]
        return torch.stack(out, 1).clamp_min(1e-6).log()

    def _fit_typicality(self, event: Event) -> None:
        some = event.take(slice(0, STRANGE_ROWS))
        record, _ = self._as_record(some)
        self._strings_of(0).fit_typicality(record["string"])
        readings = self._readings(some)
        edges = torch.tensor([0.5, LOW_QUANTILE], dtype=torch.float64)
        self.usual.copy_(readings.quantile(edges, dim=0).T)

    def _strings_of(self, place: int) -> Density:
        factor = self.chain.factors[place]
        assert isinstance(factor, Density)
        return factor

    def _typicality(self, event: Event) -> Float[Tensor, " B"]:
        """The least of the standings of string and distances; of a graph alone that of its
        string."""
        record, _ = self._as_record(event)
        string = self._strings_of(0).typicality(record["string"])
        spread = (self.usual[:, 1] - self.usual[:, 0]).clamp_min(1e-6)
        standing = (self.usual[:, 0] - self._readings(event)) / spread
        placed = record["places"].known[..., PLACES].all(2).any(1)
        places = torch.where(placed, standing.amin(1), torch.inf)
        strange = self._never_seen(record["graph"]).flatten(1).any(1)
        return torch.where(strange, NEVER_SEEN, torch.minimum(string, places))

    def _never_seen(self, graph: Event) -> Bool[Tensor, "B N N"]:
        """The bonds that no molecule of the fit has; none in models that keep no list of them."""
        keys = _keys_of_bonds(graph.value[:, 0])
        if "bonds" not in self.structure:
            return torch.zeros_like(keys, dtype=torch.bool)
        return (keys > 0) & ~torch.isin(keys, self.bonds.to(keys.device))


def _keys_of_bonds(codes: Tensor) -> Int[Tensor, "B N N"]:
    """(B, N, N) a number for each bond, of its order and of the codes of its atoms; 0 where there
    is none."""
    codes = codes.long()
    atom = codes.diagonal(dim1=1, dim2=2)
    order = codes - torch.diag_embed(atom)
    low = torch.minimum(atom[:, :, None], atom[:, None])
    high = torch.maximum(atom[:, :, None], atom[:, None])
    return torch.where(order > 0, (((low << 8) + high) << 3) + order, 0)


def _kinds_of_bonds(graph: Event) -> list[int]:
    """The numbers of all bonds of some graphs, each once."""
    parts = [graph.value[part, 0] for part in slices(graph.rows, READ_TOGETHER)]
    found = torch.unique(torch.cat([torch.unique(_keys_of_bonds(part)) for part in parts]))
    return [key for key in found.tolist() if key]


class MoleculeReader(nn.Module):
    """Numbers of molecules, read off graph and places by a network that begins as the flow's."""

    def __init__(self, density: MoleculesDensity, outputs: int) -> None:
        super().__init__()
        self._density = (density,)  # in a tuple, torch does not take it for a part
        self.cloud = CloudReader(copy.deepcopy(self._flow.flow.net), outputs)

    @property
    def _flow(self) -> Any:
        """The flow of places."""
        return self._density[0].chain.factors[2]

    def rows(self, x: Event) -> Record:
        """Graphs and places of rows, as ``forward`` takes them."""
        return self._density[0].graphs_and_places(x)

    def covers(self, rows: Record) -> Bool[Tensor, " B"]:
        """Molecules all of whose atoms have a place."""
        places = rows["places"]
        there = places.there[..., 0] & places.known[..., 0]
        placed = places.known[..., PLACES].all(2)
        return (placed | ~there).all(1) & there.any(1) & self._has_atoms(rows)

    def _has_atoms(self, rows: Record) -> Bool[Tensor, " B"]:
        return (rows["graph"].value != 0).flatten(1).any(1)

    def environments(self, rows: Record) -> Int[Tensor, "B N"]:
        """A key of each atom with its bound neighbours; 0 where there is none."""
        return environment_keys(rows["graph"].value[:, 0].long())

    def sizes(self, rows: Record) -> Int[Tensor, " B"]:
        """How many atoms there are."""
        return (rows["graph"].value[:, 0].diagonal(dim1=1, dim2=2) > 0).sum(1)

    def forward(self, rows: Record) -> Float[Tensor, "B K"]:
        flow = self._flow
        found: Tensor = self.cloud(*flow.inputs_of_reader(rows["places"], rows.only(["graph"])))
        return found

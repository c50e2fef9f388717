"""Molecules in space <-> events of points.

A point is an atom: the code of its element and charge, its place in Angstrom, and its bonds to
every atom, as codes. Atoms stand in the canonical order: that of the molecule's string, then
hydrogens. So every order and every pose of a molecule is one event, up to a rotation, which no
density of molecules may depend on. Absent atoms are told by ``present``; an atom whose place is not
known is there and has no known coordinates. The places have the mean zero.

    log p(molecule) = log_prob(event) + log_unseen + log_volume

log_prob is that of the graph, which has mass, and of the places in the 3 (N - 1) dimensions of mean
zero, a density in nats per Angstrom to that power. Where coordinates are rounded to steps of r,
log_volume makes a mass of it: 3 ((N - 1) log r - log(N) / 2), the volume of a step there (the
lattice that rounded places, each up to a translation, form in those dimensions).

Shape letters: B molecules, N atoms, F = 4 + N features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.chemistry.atoms import ATOMS_OF, BONDS, PLACES, codes_of_atoms, molecules_of
from conjoin.chemistry.canonical import canonical_order, graph_key
from conjoin.chemistry.elements import (
    ATOMIC_NUMBER,
    LEAST_CHARGE,
    LEVELS_OF_CHARGE,
    symbol_of,
)
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.strings import parse_smiles, write_smiles
from conjoin.codecs.molecule.faults import fault_of, fault_of_bonds
from conjoin.codecs.molecule.reading import claims, read_molecules
from conjoin.codecs.table.schema import Column, Schema
from conjoin.core import Block, Codec, Encoded, Event, Field, Variable

__all__ = ["MoleculeCodec", "MoleculeRows"]

UNSEEN_PROBABILITY = 1e-6  # of an atom that the fit never saw
CAPACITY_FACTOR = 1.1  # times the atoms of the largest molecule of the fit
MAX_DECIMALS = 5  # of coordinates that are rounded; finer ones count as exact
RESOLUTION_ROWS = 200  # by which the rounding is found
COLUMN = "molecule"


@dataclass(frozen=True)
class MoleculeRows:
    """``molecules`` (B,) in canonical order; None where one is not known. Coordinates that are NaN
    are not known."""

    molecules: tuple[Molecule | None, ...]
    index: Any
    told: tuple[str, ...] = ()

    @property
    def names(self) -> Sequence[Any]:
        return [COLUMN]

    @property
    def frame(self) -> pd.DataFrame:
        """The molecules as strings."""
        strings = [None if one is None else write_smiles(one) for one in self.molecules]
        return pd.DataFrame({COLUMN: pd.Series(strings, self.index, dtype=object)})

    def __len__(self) -> int:
        return len(self.molecules)

    def take(self, rows: np.ndarray | slice) -> Self:
        places = range(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows).tolist()
        return type(self)(tuple(self.molecules[row] for row in places), self.index[rows], self.told)

    def hashes(self) -> np.ndarray:
        """Of graph and geometry: equal in every order and pose of the atoms."""
        each = [0 if one is None else one.content(graph_key(one)) for one in self.molecules]
        return np.array(each, dtype=np.uint64)

    def repeat_by_chance(self) -> bool:
        return False


class MoleculeCodec(Codec):
    """``symbols``: the elements; ``capacity``: the most atoms; ``resolution``: of rounded
    coordinates, in Angstrom, 0 where they are not rounded."""

    kind = "molecule"
    noun = "molecule"
    cells = "atoms"
    plural = "molecules in space"
    collection = "set of molecules"
    several_ways = True  # strings that write a graph
    stands_beside = True

    def __init__(
        self, symbols: Sequence[str] = (), capacity: int = 1, resolution: float = 0.0
    ) -> None:
        self.symbols = tuple(symbols)
        self.capacity = capacity
        self.resolution = resolution
        self.said: tuple[str, ...] = ()
        self.owner = type(self).__name__

    @classmethod
    def claims(cls, raw: Any, types: Any = None, missing: Any = ()) -> bool:
        return isinstance(raw, MoleculeRows) or claims(raw)

    @classmethod
    def opens(cls, path: Any) -> bool:
        return claims(path)

    @classmethod
    def begin(cls, raw: Any, **options: Any) -> tuple[Codec, "MoleculeRows"]:
        if options.get("types") is not None:
            raise ValueError(
                "types are those of the columns of a table, and molecules in space have none: "
                "leave types out."
            )
        codec = cls()
        rows = codec.rows(raw)
        codec.said = rows.told
        return codec, rows

    def rows(self, raw: Any) -> MoleculeRows:
        if isinstance(raw, MoleculeRows):
            return raw
        if isinstance(raw, Molecule):
            raw = [raw]
        if isinstance(raw, pd.DataFrame) and raw.shape[1] == 1:
            cells = raw.iloc[:, 0].astype(object)
            raw = cells.where(cells.notna(), None).tolist()
        if isinstance(raw, list | tuple) and raw and all(one is None for one in raw):
            return self._rows(raw)
        if isinstance(raw, pd.Series | pd.DataFrame) or not claims(raw):
            raise ValueError(
                "X must be molecules in space: a file (.sdf, .xyz, .npz), or a list of Molecule, "
                f"rdkit's Mol or ASE's Atoms; got {_shown(raw)}."
            )
        return self._rows(raw)

    def _rows(self, raw: Any) -> MoleculeRows:
        if isinstance(raw, str | Path):
            found, told = read_molecules(raw)
            every: list[Molecule | None] = list(found)
        else:
            plain = [one for one in raw if one is not None and not _is_open(one)]
            read, told = read_molecules(plain) if plain else ([], [])
            left = iter(read)
            every = [one if one is None or _is_open(one) else next(left) for one in raw]
        ordered = tuple(None if one is None else _canonical(one) for one in every)
        return MoleculeRows(ordered, pd.RangeIndex(len(ordered)), tuple(told))

    def fit(self, raw: Any, weight: Any = None) -> Self:
        """Learn the elements, the most atoms, and the rounding of coordinates."""
        known = [one for one in self.rows(raw).molecules if one is not None]
        if not known:
            raise ValueError("No molecule of the fit is known: there is nothing to learn from.")
        numbers = sorted({int(number) for one in known for number in one.numbers})
        self.symbols = tuple(map(symbol_of, numbers))
        self.capacity = math.ceil(CAPACITY_FACTOR * max(map(len, known)))
        places = [one.xyz for one in known[:RESOLUTION_ROWS] if one.xyz is not None]
        self.resolution = _resolution(np.concatenate(places)) if places else 0.0
        return self

    # ------------------------------------------------------------------ raw <-> event

    def encode(self, raw: Any) -> Encoded:
        molecules = self.rows(raw).molecules
        rows = len(molecules)
        shape = (rows, self.capacity, BONDS + self.capacity)
        value = torch.zeros(shape, dtype=torch.float64)
        observed = torch.ones(shape, dtype=torch.bool)
        unseen = torch.zeros(shape, dtype=torch.bool)
        present = torch.zeros(shape[:2], dtype=torch.bool)
        volume = torch.zeros(rows, dtype=torch.float64)
        strange = torch.zeros(rows, dtype=torch.float64)
        for row, one in enumerate(molecules):
            if one is None:
                observed[row] = False
                continue
            count = self._strangers(one)
            if count:  # the model can't say anything of such a molecule
                observed[row] = False
                unseen[row, :count, 0] = True
                strange[row] = count
                continue
            size = len(one)
            present[row, :size] = True
            value[row, :size, 0] = torch.tensor(self._codes(one), dtype=torch.float64)
            value[row, :size, BONDS : BONDS + size] = torch.tensor(one.bonds.astype(float))
            known = self._place(one, value[row])
            observed[row, :size, PLACES] = known[:, None]
            volume[row] = self._log_volume(int(known.sum()))
        log_unseen = strange * math.log(UNSEEN_PROBABILITY)
        return Encoded(Event(value, observed, present), unseen, log_unseen, volume)

    def _strangers(self, molecule: Molecule) -> int:
        """How many of its atoms no event can hold: elements or charges that the fit never saw, or
        beyond the capacity."""
        known = [ATOMIC_NUMBER[symbol] for symbol in self.symbols]
        level = molecule.charges - LEAST_CHARGE
        wrong = ~np.isin(molecule.numbers, known) | (level < 0) | (level >= LEVELS_OF_CHARGE)
        return min(int(wrong.sum()) + max(0, len(molecule) - self.capacity), self.capacity)

    def _codes(self, molecule: Molecule) -> np.ndarray:
        places = {ATOMIC_NUMBER[symbol]: place for place, symbol in enumerate(self.symbols)}
        elements = np.array([places[int(number)] for number in molecule.numbers])
        return np.asarray(codes_of_atoms(elements, molecule.charges))

    def _place(self, molecule: Molecule, value: Tensor) -> Tensor:
        """(N,) which atoms have a known place; their places are written, with the mean zero."""
        size = len(molecule)
        if molecule.xyz is None:
            return torch.zeros(size, dtype=torch.bool)
        xyz = torch.tensor(molecule.xyz)
        known = torch.isfinite(xyz).all(1)
        if known.any():
            value[:size, PLACES][known] = xyz[known] - xyz[known].mean(0)
        return known

    def _log_volume(self, atoms: int) -> float:
        """log of the volume of one step of rounded coordinates, in the space of mean zero."""
        if not self.resolution or atoms < 2:
            return 0.0
        return 3 * ((atoms - 1) * math.log(self.resolution) - math.log(atoms) / 2)

    def evidence(self, given: Mapping[Any, Any]) -> Event:
        """A graph, as a SMILES string, or a molecule of which some places are known."""
        if list(given) != [COLUMN]:
            raise ValueError(
                f"given of molecules in space is {{{COLUMN!r}: a SMILES string or a Molecule}}; "
                f"got {dict(given)!r}."
            )
        asked = given[COLUMN]
        molecule = parse_smiles(asked) if isinstance(asked, str) else asked
        _refuse_graph(molecule, asked)
        rows = self.rows([molecule])
        encoded = self.encode(rows)
        if bool(encoded.unseen.any()):
            raise ValueError(f"given asks for {self.unseen_words(COLUMN, asked)}")
        return encoded.event

    def unseen_words(self, name: Any, value: Any) -> str:
        shown = value if isinstance(value, str) else "a molecule"
        return (
            f"{shown!r}; the model knows molecules of at most {self.capacity} atoms of "
            f"{', '.join(self.symbols)}, charged by at most {-LEAST_CHARGE}."
        )

    def decode(self, value: Tensor, observed: Tensor | None = None) -> list[Molecule | None]:
        return self.decoded(Event(value, observed, value[:, :, 0] > 0))

    def decoded(self, event: Event) -> list[Molecule | None]:
        return molecules_of(event, self.symbols)

    def raw(self, rows: Any) -> list[Molecule | None]:
        return list(rows.molecules)

    def framed(self, drawn: Any) -> pd.DataFrame:
        """Drawn molecules are no rows: some are none, and nothing says that their atoms are
        apart."""
        return pd.DataFrame({COLUMN: pd.Series(list(drawn), dtype=object)})

    def unframed(self, frame: Any) -> list[Molecule | None]:
        return list(frame[COLUMN])

    def fill(self, rows: Any, observed: Tensor, decoded: Any) -> MoleculeRows:
        """Molecules, and places, that are not known come from ``decoded``."""
        pairs = zip(rows.molecules, decoded, strict=True)
        filled = tuple(_filled(old, new) for old, new in pairs)
        return MoleculeRows(filled, rows.index, rows.told)

    # ------------------------------------------------------------------ what was learned

    @property
    def space(self) -> Block:
        levels = 1 + LEVELS_OF_CHARGE * max(1, len(self.symbols))
        variables = (
            Variable(ATOMS_OF + " ".join(self.symbols), "category", cardinality=levels),
            *(Variable(axis, "real", unit="Angstrom") for axis in "xyz"),
            *(
                Variable(f"bond to {place + 1}", "category", cardinality=5)
                for place in range(self.capacity)
            ),
        )
        return Block(COLUMN, "points", (self.capacity, len(variables)), variables, centred=True)

    @property
    def schema(self) -> Schema:
        return Schema((Column(COLUMN, "category", levels=self.symbols),))

    @property
    def columns(self) -> list[Any]:
        return [COLUMN]

    @property
    def notices(self) -> list[str]:
        rounded = (
            f"log p is in nats, of coordinates rounded to {self.resolution:g} Angstrom"
            if self.resolution
            else "log p is in nats, per Angstrom for each coordinate"
        )
        return [
            f"The data are molecules in space of {', '.join(self.symbols)}, at most "
            f"{self.capacity} atoms with their hydrogens; {rounded}, up to a translation, of one "
            "order of atoms that can be exchanged.",
            *self.said,
        ]

    @property
    def size_words(self) -> str:
        return f"molecules of {', '.join(self.symbols)}"

    @property
    def inputs(self) -> tuple[str, str]:
        return (
            "molecules",
            f"{', '.join(self.symbols)}, at most {self.capacity} atoms in a molecule",
        )

    def fields(self) -> list[Field]:
        return [
            Field(COLUMN, "molecule in space", ", ".join(self.symbols), "Angstrom", "–", "modelled")
        ]

    def oddest_pairs(self, rows: Any, encoded: Encoded, pairs: Tensor) -> list[str]:
        """The bond, or the atoms two bonds apart, or the atoms that are too near, whose distance
        is off by the most deviations; a bond that the fit never saw is off by infinitely many."""
        out = []
        for row, one in enumerate(rows.molecules):
            unseen = one is not None and self._strangers(one)
            if one is None or unseen:
                words = f"an atom that the fit never saw, or more than {self.capacity} atoms"
                out.append(words if unseen else "")
                continue
            out.append("" if one.xyz is None else _odd_pair(one, pairs[row].numpy()))
        return out

    # ------------------------------------------------------------------ saving

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "symbols": list(self.symbols),
            "capacity": self.capacity,
            "resolution": self.resolution,
            "told": list(self.said),
            "owner": self.owner,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["symbols"], data["capacity"], data["resolution"])
        codec.said = tuple(data["told"])
        codec.owner = data["owner"]
        return codec


def _refuse_graph(molecule: Any, asked: Any) -> None:
    """ValueError where no molecule that can be read has this graph."""
    if not isinstance(molecule, Molecule):
        return
    graph = replace(molecule, xyz=None)
    fault = fault_of(graph) or fault_of_bonds(graph)
    if fault:
        shown = repr(asked) if isinstance(asked, str) else "a molecule"
        raise ValueError(f"given asks for {shown}, which {fault}")


def _odd_pair(molecule: Molecule, pairs: np.ndarray) -> str:
    """The pair that is off the most, in words; atoms are counted from 1 in the canonical order."""
    size = len(molecule)
    off = np.triu(np.abs(pairs[:size, :size, 2]), 1)
    one, two = (int(each) for each in np.unravel_index(off.argmax(), off.shape))
    if not off[one, two]:
        return ""
    distance, expected, _ = pairs[one, two]
    names = [f"{symbol_of(int(molecule.numbers[atom]))}{atom + 1}" for atom in (one, two)]
    both = f"{names[0]} and {names[1]}"
    if np.isinf(off[one, two]):
        return (
            f"most of all the bond of {both} in {write_smiles(molecule)}: the fit never saw one "
            "of these atoms, charges and order"
        )
    if molecule.bonds[one, two]:
        what = f"the bond of {both}"
    elif ((molecule.bonds[one] > 0) & (molecule.bonds[two] > 0)).any():
        what = f"the angle between {both}"
    else:
        what = f"the distance of {both}"
    return (
        f"most of all {what} in {write_smiles(molecule)}: {distance:.2f} Angstrom apart where "
        f"{expected:.2f} is expected"
    )


def _canonical(molecule: Molecule) -> Molecule:
    """In the canonical order."""
    return molecule.taken(canonical_order(molecule))


def _is_open(thing: Any) -> bool:
    """Whether it is a molecule of which some place is not known."""
    if not isinstance(thing, Molecule):
        return False
    return thing.xyz is None or bool(np.isnan(thing.xyz).any())


def _filled(old: Molecule | None, new: Molecule | None) -> Molecule | None:
    """The molecule, or one that is whole; known places stay where they are. None where the string
    that was drawn writes none."""
    if old is None:
        return new
    if new is None or not _is_open(old):
        return old
    xyz = new.xyz
    if old.xyz is not None and xyz is not None:
        known = np.isfinite(old.xyz).all(1)
        if known.any():
            moved = xyz + (old.xyz[known] - xyz[known]).mean(0)
            xyz = np.where(known[:, None], old.xyz, moved)
    return replace(old, xyz=xyz, smiles=new.smiles)


def _shown(raw: Any) -> str:
    return f"{str(raw)!r}" if isinstance(raw, str | Path) else type(raw).__name__


def _resolution(xyz: np.ndarray) -> float:
    """The greatest power of ten, of at most ``MAX_DECIMALS`` decimals, whose multiples all
    coordinates are; 0 where there is none."""
    for decimals in range(MAX_DECIMALS + 1):
        scaled = xyz * 10.0**decimals
        if np.abs(scaled - scaled.round()).max() < 1e-6 * max(1.0, np.abs(scaled).max()):
            return float(10.0**-decimals)
    return 0.0

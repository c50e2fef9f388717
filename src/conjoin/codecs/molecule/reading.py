"""Whatever holds molecules in space, as checked molecules: each whole, neutral, in one piece, with
its hydrogens."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conjoin.chemistry.elements import symbol_of
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.strings import parse_smiles
from conjoin.codecs.molecule.faults import fault_of, fault_of_bonds
from conjoin.codecs.molecule.files import ISOTOPE, READERS, Numbered, read_file
from conjoin.codecs.molecule.objects import is_molecule, of_objects

__all__ = [
    "HYDROGENS",
    "Reading",
    "claims",
    "order_of_string",
    "read_molecules",
    "read_numbered",
    "with_string",
]

HYDROGENS = ("given", "add")
BROKEN = ("refuse", "skip")
HOW_TO_SKIP = "read_molecules(..., broken='skip')"
SHOWN = 5  # molecules that a message names


class Reading(NamedTuple):
    """Checked molecules, the number of each in its file or list, from 1, and sentences."""

    molecules: list[Molecule]
    numbers: list[int]
    told: list[str]


def claims(raw: Any) -> bool:
    """Whether it is molecules in space: a file of them, or a list of rdkit's, ASE's or our own."""
    if isinstance(raw, str | Path):
        path = Path(raw)
        return path.suffix.lower() in READERS and (path.suffix != ".npz" or _has_atoms(path))
    if not isinstance(raw, list | tuple) or not raw:
        return False
    return all(one is None or is_molecule(one) for one in raw) and any(map(is_molecule, raw))


def _has_atoms(path: Path) -> bool:
    """Whether an .npz holds molecules, not pictures."""
    if not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as data:
        return {"n_atoms", "z"} <= set(data.files)


def read_molecules(
    raw: Any, hydrogens: str = "given", broken: str = "refuse"
) -> tuple[list[Molecule], list[str]]:
    """Checked molecules, and what the user should be told of how they were read.

    Parameters
    ----------
    raw
        A file (.xyz, .sdf, .mol, .npz), or a list of ``Molecule``, rdkit's Mol or ASE's Atoms.
    hydrogens
        "given": every molecule has its hydrogens, or it is an error; "add": rdkit places those that
        are missing.
    broken
        "refuse": a molecule that can't be modelled is an error; "skip": it is left out, and told.

    Returns
    -------
    tuple
        Molecules in Angstrom, and sentences.

    Raises
    ------
    ValueError
        In one sentence, for a file or a molecule that can't be read.
    """
    found = read_numbered(raw, hydrogens, broken)
    return found.molecules, found.told


def read_numbered(raw: Any, hydrogens: str = "given", broken: str = "refuse") -> Reading:
    """As ``read_molecules``, with what number each molecule has."""
    for name, value, choices in (("hydrogens", hydrogens, HYDROGENS), ("broken", broken, BROKEN)):
        if value not in choices:
            raise ValueError(
                f"{name}={value!r} is unknown; choose from {', '.join(map(repr, choices))}."
            )
    found = []
    numbers = []
    placed = []
    differs = []
    skipped = []
    for number, (where, molecule) in enumerate(_numbered(raw), 1):
        string = molecule.smiles
        molecule = with_string(molecule)
        if hydrogens == "add":
            before = len(molecule)
            molecule = _with_hydrogens(molecule, where)
            placed.append(len(molecule) - before)
        fault = fault_of(molecule)
        if not fault and not _is_ours(raw, number):
            fault = fault_of_bonds(molecule)
        if fault and broken == "refuse":
            raise ValueError(
                f"{where} {fault.rstrip('.')}; {HOW_TO_SKIP} leaves such molecules out."
            )
        if fault:
            skipped.append(f"{where} {fault.rstrip('.')}")
            continue
        if string and not molecule.smiles:
            differs.append(f"{where} ({string})")
        found.append(molecule)
        numbers.append(number)
    if not found:
        raise ValueError(f"No molecule can be modelled: {'; '.join(skipped[:SHOWN])}.")
    unread = _told_unread(found) if isinstance(raw, str | Path) else []
    notices = [*_told_placed(placed), *_told_differs(differs), *unread, *_told_skipped(skipped)]
    return Reading(found, numbers, notices)


def _is_ours(raw: Any, number: int) -> bool:
    """Whether a molecule was given as a ``Molecule``, such as one that a model drew: its graph is
    what it says, and its geometry is for the model to judge."""
    return not isinstance(raw, str | Path) and isinstance(raw[number - 1], Molecule)


def _told_unread(found: list[Molecule]) -> list[str]:
    """What a file says of molecules that the model doesn't learn."""
    lines = Counter(head for one in found for head in {_named(line) for line in one.unread})
    fields = Counter(name for one in found for name in one.properties)
    told = []
    if lines:
        told.append(f"Lines that are not read, and of how many molecules: {_counted(lines)}.")
    if fields:
        told.append(
            "Graphs and places alone are modelled; fields that are kept as properties, and of how "
            f"many molecules: {_counted(fields)}."
        )
    return told


def _named(line: str) -> str:
    """How a line begins; of isotopes, that word too."""
    head = line[:6].strip()
    return f"{head} of isotopes" if head == ISOTOPE else head


def _counted(counts: Counter[str]) -> str:
    """Each name, and of how many molecules it is."""
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))


def _told_skipped(skipped: list[str]) -> list[str]:
    if not skipped:
        return []
    more = f"; and {len(skipped) - SHOWN:,} more" if len(skipped) > SHOWN else ""
    return [f"{len(skipped):,} molecules are left out: {'; '.join(skipped[:SHOWN])}{more}."]


def _numbered(raw: Any) -> Iterator[Numbered]:
    return read_file(raw) if isinstance(raw, str | Path) else of_objects(raw)


def _told_placed(placed: list[int]) -> list[str]:
    count = sum(number > 0 for number in placed)
    if not count:
        return []
    return [
        f"rdkit placed {sum(placed):,} hydrogens in {count:,} of {len(placed):,} molecules, by "
        "rules, not by quantum chemistry: bonds to hydrogen are rdkit's there."
    ]


def _told_differs(differs: list[str]) -> list[str]:
    if not differs:
        return []
    more = f" and {len(differs) - SHOWN:,} more" if len(differs) > SHOWN else ""
    return [
        f"Of {len(differs):,} molecules the SMILES and the coordinates disagree; their bonds are "
        f"those of the distances: {', '.join(differs[:SHOWN])}{more}."
    ]


def order_of_string(numbers: np.ndarray, near: np.ndarray, graph: Molecule) -> np.ndarray | None:
    """(N,) the order in which atoms of such ``numbers``, of which ``near`` (N, N) are bound, are
    those of a graph: as they are, or with the hydrogens in the order of the atoms that they are
    bound to. None where neither is, whatever the orders of the bonds."""
    if len(graph) != len(numbers):
        return None
    bound = graph.bonds > 0
    for order in (np.arange(len(numbers)), _hydrogens_last(numbers, near)):
        same = bool((numbers[order] == graph.numbers).all())
        if same and bool((near[np.ix_(order, order)] == bound).all()):
            return order
    return None


def _hydrogens_last(numbers: np.ndarray, near: np.ndarray) -> np.ndarray:
    heavy = np.flatnonzero(numbers != 1)
    hydrogens = np.flatnonzero(numbers == 1)
    owner = near[np.ix_(hydrogens, heavy)].argmax(1) if len(heavy) else hydrogens
    return np.concatenate([heavy, hydrogens[np.argsort(owner, kind="stable")]])


def with_string(molecule: Molecule) -> Molecule:
    """The molecule with the orders of bonds and the charges of its SMILES, where it has one that
    agrees with its coordinates; else without the SMILES."""
    if not molecule.smiles:
        return molecule
    plain = dataclasses.replace(molecule, smiles="")
    try:
        graph = parse_smiles(molecule.smiles)
    except ValueError:
        return plain
    order = order_of_string(molecule.numbers, molecule.bonds > 0, graph)
    if order is None:
        return plain
    return dataclasses.replace(
        plain.taken(order),
        bonds=graph.bonds,
        charges=graph.charges,
        smiles=molecule.smiles,
        measured=False,
    )


def _with_hydrogens(molecule: Molecule, where: str) -> Molecule:
    """Missing hydrogens placed by rdkit, behind the other atoms."""
    try:
        from rdkit import Chem
        from rdkit.Geometry import Point3D
    except ImportError:
        raise ValueError(
            "hydrogens='add' needs rdkit, which is not installed: pip install 'conjoin[mol]'."
        ) from None
    assert molecule.xyz is not None
    types = Chem.BondType
    kinds = (types.ZERO, types.SINGLE, types.DOUBLE, types.TRIPLE, types.AROMATIC)
    draft = Chem.RWMol()
    for number, charge in zip(molecule.numbers.tolist(), molecule.charges.tolist(), strict=True):
        atom = Chem.Atom(symbol_of(number))
        atom.SetFormalCharge(charge)
        draft.AddAtom(atom)
    for one, two in np.argwhere(np.triu(molecule.bonds)).tolist():
        draft.AddBond(one, two, kinds[int(molecule.bonds[one, two])])
    place = Chem.Conformer(len(molecule))
    for number, point in enumerate(molecule.xyz.tolist()):
        place.SetAtomPosition(number, Point3D(*point))
    draft.AddConformer(place)
    try:
        Chem.SanitizeMol(draft)
    except ValueError as error:
        raise ValueError(f"{where} can't be given hydrogens: rdkit says: {error}") from None
    whole = Chem.AddHs(draft.GetMol(), addCoords=True)
    _, grown = next(of_objects([whole]))
    kept = dataclasses.replace(grown, name=molecule.name, properties=molecule.properties)
    # rdkit's aromatic flags are its own opinion: bonds stay as they were given
    size = len(molecule)
    kept.bonds[:size, :size] = molecule.bonds
    return kept

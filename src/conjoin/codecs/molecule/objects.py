"""Molecules as other packages hold them: rdkit's Mol, ASE's Atoms. They are known by what they can
do; neither package is imported here."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from conjoin.chemistry.elements import AROMATIC
from conjoin.chemistry.graph import Molecule
from conjoin.codecs.molecule.files import Numbered, of_places

__all__ = ["is_molecule", "of_objects"]


def is_molecule(thing: Any) -> bool:
    """Whether it is a ``Molecule``, rdkit's Mol, or ASE's Atoms."""
    return isinstance(thing, Molecule) or _is_rdkit(thing) or _is_ase(thing)


def _is_rdkit(thing: Any) -> bool:
    return all(callable(getattr(thing, name, None)) for name in ("GetAtoms", "GetConformers"))


def _is_ase(thing: Any) -> bool:
    names = ("get_positions", "get_atomic_numbers")
    return all(callable(getattr(thing, name, None)) for name in names)


def of_objects(things: Sequence[Any]) -> Iterator[Numbered]:
    """The molecules, with what to call each in a message.

    Raises
    ------
    ValueError
        If one is no molecule, or has no coordinates, in one sentence.
    """
    for row, thing in enumerate(things):
        where = f"Molecule {row + 1}"
        if isinstance(thing, Molecule):
            yield where, thing
        elif _is_rdkit(thing):
            yield where, _of_rdkit(thing, where)
        elif _is_ase(thing):
            yield where, of_places(thing.get_atomic_numbers(), thing.get_positions())
        else:
            raise ValueError(
                f"{where} is a {type(thing).__name__}; give rdkit's Mol with a conformer, ASE's "
                "Atoms, or a file."
            )


def _of_rdkit(mol: Any, where: str) -> Molecule:
    if not mol.GetNumConformers():
        raise ValueError(
            f"{where} has no conformer, so no coordinates: embed it, or ask for conformers of its "
            "SMILES."
        )
    atoms = list(mol.GetAtoms())
    numbers = np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64)
    charges = np.array([atom.GetFormalCharge() for atom in atoms], dtype=np.int64)
    bonds = np.zeros((len(atoms), len(atoms)), dtype=np.int8)
    for bond in mol.GetBonds():
        order = bond.GetBondTypeAsDouble()
        code = AROMATIC if bond.GetIsAromatic() else int(order)
        one = bond.GetBeginAtomIdx()
        two = bond.GetEndAtomIdx()
        bonds[one, two] = bonds[two, one] = code
    xyz = np.asarray(mol.GetConformer().GetPositions(), dtype=float)
    name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
    told = {key: mol.GetProp(key) for key in mol.GetPropNames()}
    return Molecule(numbers, bonds, charges, xyz, name, properties=told)

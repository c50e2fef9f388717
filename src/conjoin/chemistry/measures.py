"""What geometries are judged by: stability, lengths, angles, torsions. No force field, no rdkit.

An atom is stable where the orders of its bonds, by the table of distances, add up to its valence, a
molecule where every atom is (E. Hoogeboom et al. (2022), Equivariant diffusion for molecule
generation in 3D, section 5.1).

Shape letters: N atoms, P pairs, A angles, T torsions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from conjoin.chemistry.distances import bonds_of_distances
from conjoin.chemistry.elements import symbol_of
from conjoin.chemistry.graph import Molecule, fragments

__all__ = [
    "Internal",
    "Stability",
    "angles_at",
    "in_ring",
    "internal_of",
    "kind_of_bond",
    "lengths_at",
    "stability_of",
    "torsions_at",
]

# bonds of each element by that table, which knows no charges and no aromatic bonds
STABLE = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: (3, 5), 16: 4, 17: 1, 35: 1, 53: 1}


class Stability(NamedTuple):
    """Of one molecule; ``orders`` (N, N) by distances."""

    stable_atoms: int
    atoms: int
    connected: bool
    orders: np.ndarray

    @property
    def stable(self) -> bool:
        return self.stable_atoms == self.atoms


def stability_of(molecule: Molecule) -> Stability:
    """By distances alone, whatever bonds the molecule is told to have."""
    assert molecule.xyz is not None
    orders = bonds_of_distances(molecule.numbers, molecule.xyz)
    sums = orders.sum(1).tolist()
    kinds = [STABLE.get(int(number), -1) for number in molecule.numbers]
    stable = sum(
        own in (kind if isinstance(kind, tuple) else (kind,))
        for own, kind in zip(sums, kinds, strict=True)
    )
    return Stability(stable, len(molecule), len(fragments(orders)) == 1, orders)


class Internal(NamedTuple):
    """Atoms of the bonds, the angles and the torsions of a graph. A torsion is about a single bond
    outside of rings between atoms that are no ends, one for each such bond; ``heavy`` (P,) marks
    bonds without hydrogen."""

    bonds: np.ndarray  # (P, 2)
    heavy: np.ndarray
    angles: np.ndarray  # (A, 3), the middle one is bound to both
    torsions: np.ndarray  # (T, 4)


def internal_of(molecule: Molecule) -> Internal:
    """Of the bonds that the molecule is told to have."""
    bonds = np.argwhere(np.triu(molecule.bonds))
    heavy = (molecule.numbers[bonds] != 1).all(1)
    near = [np.flatnonzero(row).tolist() for row in molecule.bonds]
    angles = [
        (one, atom, two)
        for atom, others in enumerate(near)
        for place, one in enumerate(others)
        for two in others[place + 1 :]
    ]
    torsions = []
    for one, two in bonds.tolist():
        if molecule.bonds[one, two] != 1 or in_ring(near, one, two):
            continue
        left = [atom for atom in near[one] if atom != two]
        right = [atom for atom in near[two] if atom != one]
        if left and right:
            torsions.append((_first(molecule, left), one, two, _first(molecule, right)))
    return Internal(
        bonds,
        heavy,
        np.array(angles, dtype=int).reshape(-1, 3),
        np.array(torsions, dtype=int).reshape(-1, 4),
    )


def _first(molecule: Molecule, atoms: Sequence[int]) -> int:
    """The heaviest, by which a torsion is known."""
    return max(atoms, key=lambda atom: (int(molecule.numbers[atom]), -atom))


def in_ring(near: Sequence[Sequence[int]], one: int, two: int) -> bool:
    """Whether a bond's atoms are connected without it; ``near``: the neighbours of each atom."""
    seen = {one}
    ahead = [other for other in near[one] if other != two]
    while ahead:
        atom = ahead.pop()
        if atom == two:
            return True
        if atom not in seen:
            seen.add(atom)
            ahead += [other for other in near[atom] if other not in seen]
    return False


def lengths_at(xyz: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) Angstrom."""
    return np.asarray(np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1))


def angles_at(xyz: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(A,) degrees."""
    one = xyz[angles[:, 0]] - xyz[angles[:, 1]]
    two = xyz[angles[:, 2]] - xyz[angles[:, 1]]
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    return np.asarray(np.degrees(np.arccos(cosine.clip(-1, 1))))


def torsions_at(xyz: np.ndarray, torsions: np.ndarray) -> np.ndarray:
    """(T,) degrees from 0 to 180: a mirror image has the same."""
    first, axis, last = (xyz[torsions[:, k + 1]] - xyz[torsions[:, k]] for k in range(3))
    left = np.cross(first, axis)
    right = np.cross(axis, last)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine = (left * right).sum(1) / np.maximum(norms, 1e-12)
    return np.asarray(np.degrees(np.arccos(cosine.clip(-1, 1))))


def kind_of_bond(molecule: Molecule, one: int, two: int) -> str:
    """Such as C=O; a dash for a single bond."""
    first, second = sorted(symbol_of(int(molecule.numbers[atom])) for atom in (one, two))
    return first + " -=#~"[int(molecule.bonds[one, two])] + second

"""What is wrong with a molecule that was read, in one sentence that names it and the value."""

import numpy as np

from conjoin.chemistry.distances import distances
from conjoin.chemistry.elements import (
    AROMATIC,
    ORDERS,
    VALENCES,
    lengths_of,
    symbol_of,
    valences_of,
)
from conjoin.chemistry.graph import Molecule, formula, fragments
from conjoin.chemistry.measures import in_ring

__all__ = ["MAX_ATOMS", "MAX_STRETCH", "MIN_APART", "RADICAL", "fault_of", "fault_of_bonds"]

MAX_ATOMS = 128  # of one molecule
MIN_LACKING = 3  # carbons that lack a bond by their distances, from which on hydrogens are missing
MIN_APART = 0.2  # Angstrom; nearer atoms are one atom that is there twice
MAX_STRETCH = 3  # times the longest bond of two elements, where a scan of a breaking bond ends
RADICAL = "M  RAD"  # how the line of a file begins that tells of unpaired electrons


def fault_of(molecule: Molecule) -> str:
    """Why the molecule can't be modelled, as the end of a sentence that begins with what it is
    called; "" where it can."""
    size = len(molecule)
    if not size:
        return "has 0 atoms."
    if size > MAX_ATOMS:
        return f"has {size} atoms; at most {MAX_ATOMS} are read."
    unknown = np.flatnonzero(~np.isin(molecule.numbers, list(VALENCES)))
    if len(unknown):
        at = int(unknown[0])
        known = ", ".join(symbol_of(number) for number in VALENCES)
        return f"has the element {_named(molecule, at)}; read are {known}."
    if size == 1:
        return f"is the single atom {symbol_of(int(molecule.numbers[0]))}: it has no geometry."
    return _fault_of_places(molecule) or _fault_of_graph(molecule)


def fault_of_bonds(molecule: Molecule) -> str:
    """What is wrong with the bonds that a file tells, of a molecule without another fault, as the
    end of a sentence; "" where nothing is. A geometry that is only strained has no fault."""
    radical = [line for line in molecule.unread if line.startswith(RADICAL)]
    if radical:
        return f"has unpaired electrons ({radical[0]!r}): radicals are not read."
    if molecule.measured:
        return ""
    return _fault_of_valence(molecule) or _fault_of_aromatic(molecule) or _fault_of_length(molecule)


def _fault_of_valence(molecule: Molecule) -> str:
    """An atom whose bonds add up to what no atom of its element and charge has. Aromatic bonds
    count as single ones, with or without one more for the double bond of their ring."""
    aromatic = (molecule.bonds == AROMATIC).sum(1)
    taken = molecule.valences - (ORDERS[AROMATIC] - 1) * aromatic
    for atom in range(len(molecule)):
        charge = int(molecule.charges[atom])
        allowed = valences_of(int(molecule.numbers[atom]), charge)
        found = {int(taken[atom]), int(taken[atom]) + bool(aromatic[atom])}
        if not found & set(allowed):
            possible = " or ".join(map(str, allowed)) or "none"
            return (
                f"has {_named(molecule, atom)} with bonds of orders that add up to "
                f"{' or '.join(map(str, sorted(found)))}; with the charge {charge:+d} they can add "
                f"up to {possible}."
            )
    return ""


def _fault_of_aromatic(molecule: Molecule) -> str:
    """An aromatic bond outside of rings. A string writes one between two rings: small letters on
    both sides."""
    if molecule.smiles:
        return ""
    near = [np.flatnonzero(row).tolist() for row in molecule.bonds]
    for one, two in np.argwhere(np.triu(molecule.bonds == AROMATIC)).tolist():
        if not in_ring(near, one, two):
            return (
                f"has an aromatic bond of {_named(molecule, one)} and {_named(molecule, two)}, "
                "which is in no ring."
            )
    return ""


def _fault_of_length(molecule: Molecule) -> str:
    if molecule.xyz is None:
        return ""
    one, two = np.nonzero(np.triu(molecule.bonds))
    apart = np.linalg.norm(molecule.xyz[one] - molecule.xyz[two], axis=1)
    most = MAX_STRETCH * _longest()[molecule.numbers[one], molecule.numbers[two]]
    if not (apart > most).any():
        return ""
    worst = int((apart / most).argmax())
    return (
        f"has a bond of {_named(molecule, int(one[worst]))} and "
        f"{_named(molecule, int(two[worst]))} that is {apart[worst]:,.2f} Angstrom long; bonds of "
        f"these elements are read up to {most[worst]:.2f} Angstrom."
    )


def _longest() -> np.ndarray:
    """(Z, Z) the longest bond of two elements, in Angstrom; where no table has their bond, the
    longest that one of them has."""
    known = lengths_of(1)
    own = known.max(1)
    return np.where(np.isfinite(known), known, np.maximum(own[:, None], own[None]))


def _named(molecule: Molecule, atom: int) -> str:
    """The symbol and the number of an atom."""
    return f"{symbol_of(int(molecule.numbers[atom]))} (atom {atom + 1})"


def _fault_of_places(molecule: Molecule) -> str:
    if molecule.xyz is None:
        return ""
    wrong = np.argwhere(~np.isfinite(molecule.xyz))
    if len(wrong):
        atom, axis = (int(each) for each in wrong[0])
        value = molecule.xyz[atom, axis]
        return f"has the coordinate {'xyz'[axis]} = {value:g} at {_named(molecule, atom)}."
    apart = distances(molecule.xyz) + np.diag(np.full(len(molecule), np.inf))
    one, two = (int(each) for each in np.unravel_index(apart.argmin(), apart.shape))
    if apart[one, two] < MIN_APART:
        return (
            f"has {_named(molecule, one)} and {_named(molecule, two)} {apart[one, two]:.3g} "
            f"Angstrom apart: atoms overlap below {MIN_APART}."
        )
    return ""


def _fault_of_graph(molecule: Molecule) -> str:
    charge = int(molecule.charges.sum())
    if charge:
        return f"has the total charge {charge:+d}; neutral molecules are read."
    parts = fragments(molecule.bonds)
    if len(parts) > 1:
        names = [formula(molecule.numbers[part]) for part in parts]
        more = ", ..." if len(names) > 3 else ""
        return (
            f"is {len(parts)} fragments, {', '.join(names[:3])}{more}: give each as a molecule of "
            "its own, with atoms no further apart than bonds are long."
        )
    return _missing_hydrogens(molecule)


def _missing_hydrogens(molecule: Molecule) -> str:
    """Carbon whose valence is not full. Where bonds are those of the distances, one such atom may
    be one of their errors."""
    taken = molecule.valences
    lacking = (molecule.numbers == 6) & (taken < 3.5) & (molecule.charges == 0)
    bare = not (molecule.numbers == 1).any()
    if not lacking.any() or (molecule.measured and not bare and lacking.sum() < MIN_LACKING):
        return ""
    atom = int(lacking.argmax())
    return (
        f"has {'no' if bare else 'too few'} hydrogens: {_named(molecule, atom)} has "
        f"{taken[atom]:g} of 4 bonds; give all hydrogens, or hydrogens='add', which places them by "
        "rdkit."
    )

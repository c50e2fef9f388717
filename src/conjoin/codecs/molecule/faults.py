"""What is wrong with a molecule that was read, in one sentence that names it and the value."""

import numpy as np

from conjoin.chemistry.distances import distances
from conjoin.chemistry.elements import VALENCES, symbol_of
from conjoin.chemistry.graph import Molecule, formula, fragments

__all__ = ["MAX_ATOMS", "MIN_APART", "fault_of"]

MAX_ATOMS = 128  # of one molecule
MIN_LACKING = 3  # carbons that lack a bond by their distances, from which on hydrogens are missing
MIN_APART = 0.2  # Angstrom; nearer atoms are one atom that is there twice


def fault_of(molecule: Molecule) -> str:
    """Why the molecule can't be modelled, as the end of a sentence that begins with what it is
    called; "" where it can."""
    size = len(molecule)
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

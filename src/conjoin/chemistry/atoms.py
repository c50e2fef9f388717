"""Atoms as points of an event, and back.

A point is the code of its element and charge, its place, and the codes of its bonds to every atom:

    code = 1 + LEVELS_OF_CHARGE * element + charge - LEAST_CHARGE

with the element as its place among those of the block, which the name of the first feature tells.

Shape letters: N atoms, F = 4 + N features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.chemistry.elements import ATOMIC_NUMBER, LEAST_CHARGE, LEVELS_OF_CHARGE
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.strings import write_smiles
from conjoin.core import Event

__all__ = [
    "ATOMS_OF",
    "BONDS",
    "PLACES",
    "atoms_of_codes",
    "codes_of_atoms",
    "molecules_of",
    "symbols_of",
]

PLACES = slice(1, 4)  # the features that are coordinates
BONDS = 4  # where the features that are bonds begin
ATOMS_OF = "atom of "  # and the elements: the name of the first feature


def codes_of_atoms(elements: Any, charges: Any) -> Any:
    """The codes, from 1 on, of elements, as their places in a list, with formal charges: of arrays
    or tensors.

    >>> codes_of_atoms(np.array([0, 1]), np.array([0, -1]))
    array([3, 7])
    """
    return 1 + LEVELS_OF_CHARGE * elements + charges - LEAST_CHARGE


def atoms_of_codes(codes: Any) -> tuple[Any, Any]:
    """The elements and charges that codes of atoms stand for.

    >>> atoms_of_codes(np.array([3, 7]))
    (array([0, 1]), array([ 0, -1]))
    """
    return (codes - 1) // LEVELS_OF_CHARGE, (codes - 1) % LEVELS_OF_CHARGE + LEAST_CHARGE


def symbols_of(space: Any) -> tuple[str, ...]:
    """The elements of a block of molecules; none of another block."""
    name = str(space.variables[0].name)
    molecules = name.startswith(ATOMS_OF) and space.shape[1:] == (BONDS + space.shape[0],)
    return tuple(name.removeprefix(ATOMS_OF).split()) if molecules else ()


def molecules_of(event: Event, symbols: Sequence[str]) -> list[Molecule | None]:
    """The molecules of events: None of a row of which no atom is known; without coordinates where
    none is known, NaN where one is not."""
    numbers_of = np.array([ATOMIC_NUMBER[symbol] for symbol in symbols])
    value = event.value.cpu().numpy()
    known: np.ndarray = event.known.cpu().numpy()
    out: list[Molecule | None] = []
    for row in range(event.rows):
        places = np.flatnonzero(known[row, :, 0])
        if not len(places):
            out.append(None)
            continue
        elements, charges = atoms_of_codes(value[row, places, 0].astype(np.int64))
        bonds = value[row][np.ix_(places, BONDS + places)].astype(np.int8)
        placed = np.asarray(known[row, places, PLACES]).all(1)
        xyz = np.where(np.asarray(placed)[:, None], value[row, places, PLACES], np.nan)
        draft = Molecule(
            numbers_of[elements],
            bonds,
            charges,
            xyz if placed.any() else None,
        )
        out.append(Molecule(**{**vars(draft), "smiles": write_smiles(draft)}))
    return out

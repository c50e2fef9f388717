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

__all__ = ["ATOMS_OF", "BONDS", "PLACES", "molecules_of", "symbols_of"]

PLACES = slice(1, 4)  # the features that are coordinates
BONDS = 4  # where the features that are bonds begin
ATOMS_OF = "atom of "  # and the elements: the name of the first feature


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
        code = value[row, places, 0].astype(np.int64) - 1
        bonds = value[row][np.ix_(places, BONDS + places)].astype(np.int8)
        placed = np.asarray(known[row, places, PLACES]).all(1)
        xyz = np.where(np.asarray(placed)[:, None], value[row, places, PLACES], np.nan)
        draft = Molecule(
            numbers_of[code // LEVELS_OF_CHARGE],
            bonds,
            code % LEVELS_OF_CHARGE + LEAST_CHARGE,
            xyz if placed.any() else None,
        )
        out.append(Molecule(**{**vars(draft), "smiles": write_smiles(draft)}))
    return out

"""QM9: 134,000 molecules of at most nine atoms of C, N, O and F with their hydrogens, whose
geometries and properties are those of quantum chemistry; read from the folder ``CONJOIN_DATA``.

R. Ramakrishnan et al. (2014), Quantum chemistry structures and properties of 134 kilo molecules.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from conjoin.chemistry.distances import bonds_of_distances
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.strings import parse_smiles
from conjoin.codecs.molecule.files import frames_of_npz
from conjoin.codecs.molecule.reading import order_of_string
from conjoin.datasets.download import folder_of

__all__ = ["Qm9", "qm9"]

FILES = {False: "qm9_3d_mini.npz", True: "qm9_3d.npz"}
NAMES = {
    "Dipole_debye": "mu",
    "Polarizability_bohr3": "alpha",
    "HOMO_au": "homo",
    "LUMO_au": "lumo",
    "HOMO_LUMO_gap_au": "gap",
    "R2_bohr2": "r2",
    "ZPVE_au": "zpve",
    "InternalEnergy_0K_au": "u0",
    "InternalEnergy_298K_au": "u298",
    "Enthalphy_298K_au": "h298",
    "GibbsFreeEnergy_298K_au": "g298",
    "Heatcapacity_Cv_cal_mol_K": "cv",
}
SHOWN = 3  # molecules that the sentence names


@dataclass(frozen=True, slots=True)
class Qm9:
    """QM9, or a part of it.

    Attributes
    ----------
    molecules
        In Angstrom, with the bonds and charges of their SMILES.
    properties
        One row a molecule: mu (debye), alpha (bohr^3), homo, lumo, gap, zpve, u0, u298, h298, g298
        (hartree), r2 (bohr^2), cv (cal/mol/K).
    index
        Their numbers in QM9, from 1.
    left_out
        {number in QM9: SMILES} of the molecules that are left out, as their SMILES and their
        coordinates disagree.
    told
        A sentence about these.
    licence, origin
        Of the file.
    """

    molecules: list[Molecule]
    properties: pd.DataFrame
    index: np.ndarray
    left_out: dict[int, str]
    told: str
    licence: str = "MIT of the package qm9pack; that of the source of 2014 was not checked"
    origin: str = "R. Ramakrishnan et al. (2014), by qm9pack 1.0.3; coordinates to .001 Angstrom"


def qm9(full: bool = False, most: int | None = None) -> Qm9:
    """QM9 in space, without the molecules whose SMILES and coordinates disagree, which are named.

    Parameters
    ----------
    full : bool, default False
        All molecules at hand, else 10,000 of them.
    most : int or None, default None
        Read so many of the file, from its first on.

    Returns
    -------
    Qm9
        Molecules and properties.

    Raises
    ------
    ValueError
        If the folder that CONJOIN_DATA names has not got the file, or another one.
    """
    found = frames_of_npz(_checked(FILES[full]))
    offset = found["offset"]
    count = min(len(offset) - 1, len(offset) if most is None else most)
    kept = []
    molecules = []
    left_out = {}
    for row in range(count):
        part = slice(offset[row], offset[row + 1])
        number = int(found["index"][row])
        text = found["smiles"][row]
        molecule = _by_string(found["z"][part], found["xyz"][part], text, str(number))
        if molecule is None:
            left_out[number] = text
            continue
        kept.append(row)
        molecules.append(molecule)
    table = {NAMES.get(name, name): values[kept] for name, values in found["properties"].items()}
    told = _told(left_out, count)
    return Qm9(molecules, pd.DataFrame(table), np.asarray(found["index"])[kept], left_out, told)


def _by_string(numbers: np.ndarray, xyz: np.ndarray, text: str, name: str) -> Molecule | None:
    """A molecule with the bonds of its string; None where these are not those of the distances."""
    graph = parse_smiles(text)
    if len(graph) != len(numbers):
        return None
    order = order_of_string(numbers, bonds_of_distances(numbers, xyz) > 0, graph)
    if order is None:
        return None
    return Molecule(graph.numbers, graph.bonds, graph.charges, xyz[order], name, text)


def _told(left_out: dict[int, str], count: int) -> str:
    if not left_out:
        return ""
    shown = [f"{number} ({text})" for number, text in list(left_out.items())[:SHOWN]]
    return (
        f"{len(left_out):,} of {count:,} molecules of QM9 are left out, as their SMILES and their "
        f"coordinates disagree about bonds: {', '.join(shown)}"
        f"{', ...' if len(left_out) > SHOWN else ''}; left_out names them all."
    )


def _checked(file: str) -> Path:
    """The path of a file whose sha256 the README.md beside it states."""
    folder = folder_of("molecules")
    path = None if folder is None else folder / file
    if path is None or not path.is_file():
        raise ValueError(
            f"QM9 is not here: it is read from molecules/{file} (beside a README.md with its "
            "sha256) in the folder that the environment variable CONJOIN_DATA names."
        )
    readme = path.with_name("README.md")
    stated = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if hashlib.sha256(path.read_bytes()).hexdigest() not in stated:
        raise ValueError(
            f"{path} has another sha256 than the README.md beside it states, or it states none: "
            "get the file again."
        )
    return path

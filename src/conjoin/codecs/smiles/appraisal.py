"""What a chemist asks of new molecules: whether a part is there, whether they can be made, which
known one is the nearest.

Synthetic accessibility is rdkit's scorer, 1 (easy) to 10 (hard): P. Ertl and A. Schuffenhauer
(2009), Estimation of synthetic accessibility score of drug-like molecules. Similarity is Tanimoto's
of binary circular fragments (D. Rogers and M. Hahn (2010), Extended-connectivity fingerprints).
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.codecs.smiles.chemistry import molecule, rdkit

__all__ = [
    "accessibility",
    "containing",
    "fingerprints",
    "nearest",
    "plain_properties",
    "sheet",
]

FINGERPRINT_BITS = 2_048
FINGERPRINT_RADIUS = 2  # bonds
SHEET_COLUMNS = 4
SHEET_CELL_PIXELS = (200, 150)


def containing(smiles: Sequence[str], part: str) -> np.ndarray:
    """(B,) whether each molecule contains a part, written as SMILES or SMARTS.

    Raises
    ------
    ValueError
        If ``part`` is neither.
    """
    pattern = molecule(part) or _smarts(part)
    if pattern is None:
        raise ValueError(f"keep={part!r} is no part of a molecule: write it as SMILES or SMARTS.")
    found = [molecule(text).HasSubstructMatch(pattern) for text in smiles]
    return np.array(found, dtype=bool)


def _smarts(part: str) -> Any:
    try:
        return rdkit().MolFromSmarts(part)
    except RuntimeError:
        return None


def accessibility(smiles: Sequence[str]) -> np.ndarray:
    """(B,) scores of synthetic accessibility; NaN where rdkit came without its scorer."""
    try:
        from rdkit.Contrib.SA_Score import sascorer
    except ImportError:
        return np.full(len(smiles), np.nan)
    return np.array([sascorer.calculateScore(molecule(text)) for text in smiles], dtype=float)


@functools.cache
def _generator() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(
        radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BITS
    )


def fingerprints(smiles: Sequence[str]) -> list[Any]:
    """rdkit's bit vectors of valid molecules."""
    return [_generator().GetFingerprint(molecule(text)) for text in smiles]


def nearest(smiles: Sequence[str], known: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(B,) the place of the most similar known molecule of each, and (B,) the similarity."""
    from rdkit import DataStructs

    held = fingerprints(known)
    rows = [DataStructs.BulkTanimotoSimilarity(each, held) for each in fingerprints(smiles)]
    table = np.array(rows, dtype=float).reshape(len(smiles), len(known))
    return table.argmax(1), table.max(1)


def plain_properties(smiles: Sequence[str]) -> dict[str, np.ndarray]:
    """(B,) properties that follow from the structure: mass in daltons, Crippen's logP, QED (G.
    Bickerton et al. (2012), Quantifying the chemical beauty of drugs), and the count of rings."""
    from rdkit.Chem import QED, rdMolDescriptors

    found = [molecule(text) for text in smiles]
    every = {
        "mass, daltons": rdMolDescriptors.CalcExactMolWt,
        "logP (Crippen)": lambda each: rdMolDescriptors.CalcCrippenDescriptors(each)[0],
        "QED": QED.qed,
        "rings": rdMolDescriptors.CalcNumRings,
    }
    return {name: np.array([float(of(each)) for each in found]) for name, of in every.items()}


def sheet(smiles: Sequence[str], words: Sequence[str] = ()) -> str:
    """Structures side by side, as SVG."""
    from rdkit.Chem import Draw

    draw: Any = Draw.MolsToGridImage
    drawn = draw(
        [molecule(text) for text in smiles],
        molsPerRow=SHEET_COLUMNS,
        subImgSize=SHEET_CELL_PIXELS,
        legends=list(words) or None,
        useSVG=True,
    )
    return str(getattr(drawn, "data", drawn))

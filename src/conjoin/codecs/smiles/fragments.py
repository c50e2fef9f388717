"""What a molecule is made of, as numbers: circular fragments, and plain descriptors.

Fragments are counts of atom environments of up to two bonds, folded to a fixed width (D. Rogers and
M. Hahn (2010), Extended-connectivity fingerprints), as log(1 + count). Descriptors are those that
rdkit computes without a conformation: Crippen's logP and refractivity, polar surface, hydrogen
bonds, rings, surface areas by charge and by logP (P. Labute (2000), A widely applicable set of
descriptors), and molecular quantum numbers (K. Nguyen et al. (2009)).

Shape letters: B molecules, F numbers.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.chemistry.tokens import UNKNOWN
from conjoin.codecs.smiles.chemistry import molecule, rdkit

__all__ = ["counts_of", "fragment_table", "fragments"]

FRAGMENT_BITS = 1_024
FRAGMENT_RADIUS = 2  # bonds
KEPT_MOLECULES = 1 << 14  # whose numbers are remembered
MAX_DESCRIPTOR = 1e4  # of a descriptor, beyond which it is cut
ANY_ATOM = "*"  # what a token that was never seen is read as


@functools.cache
def _generator() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=FRAGMENT_RADIUS, fpSize=FRAGMENT_BITS)


def counts_of(found: Any) -> np.ndarray:
    """(FRAGMENT_BITS,) counts of the fragments of rdkit's molecule."""
    return np.asarray(_generator().GetCountFingerprintAsNumPy(found), dtype=np.float64)


@functools.cache
def _properties() -> Any:
    from rdkit.Chem import rdMolDescriptors

    return rdMolDescriptors.Properties()


def _descriptors(found: Any) -> np.ndarray:
    from rdkit.Chem import rdMolDescriptors

    own = list(_properties().ComputeProperties(found))
    surfaces = (
        rdMolDescriptors.SlogP_VSA_,
        rdMolDescriptors.SMR_VSA_,
        rdMolDescriptors.PEOE_VSA_,
        rdMolDescriptors.MQNs_,
    )
    every = own + [float(each) for surface in surfaces for each in surface(found)]
    finite = np.nan_to_num(np.array(every), posinf=0.0, neginf=0.0)
    return np.asarray(finite.clip(-MAX_DESCRIPTOR, MAX_DESCRIPTOR))


@functools.lru_cache(maxsize=KEPT_MOLECULES)
def fragments(text: str) -> np.ndarray | None:
    """(F,) the numbers of a SMILES string, float32; None where it is no molecule."""
    found = molecule(text.replace(UNKNOWN, ANY_ATOM))
    if found is None or not found.GetNumAtoms():
        return None
    return np.concatenate([np.log1p(counts_of(found)), _descriptors(found)]).astype(np.float32)


def fragment_table(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(B, F) the numbers of molecules, 0 where a string is none; (B,) whether it is one."""
    rdkit()
    width = len(_width())
    out = np.zeros((len(strings), width))
    known = np.zeros(len(strings), dtype=bool)
    for row, text in enumerate(strings):
        found = fragments(text)
        if found is not None:
            out[row] = found
            known[row] = True
    return out, known


@functools.cache
def _width() -> np.ndarray:
    found = fragments("C")
    assert found is not None
    return found

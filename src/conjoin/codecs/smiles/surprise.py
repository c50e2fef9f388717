"""Which atoms of a molecule are surprising: the nats of the tokens of its string, shared out among
the atoms that they write.

rdkit numbers atoms as they are written. A bond, branch or ring closure belongs to the atom before
it, and the end of the string to none.

Shape letters: A atoms.

>>> atom_nats(["C", "C(", "=O)", "O"], [1.0, 2.0, 6.0, 0.5])
[1.0, 2.0, 6.0, 0.5]
>>> atom_nats(["CC", ")", "O"], [2.0, 1.0, 0.5])
[1.0, 2.0, 0.5]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.chemistry.tokens import Vocabulary, pieces
from conjoin.codecs.smiles.chemistry import molecule, rdkit

__all__ = ["atom_nats", "coloured", "nats_of_atoms", "oddest_part"]

DEEPEST_NATS = 8.0  # of an atom, from which on the colour grows no more
CELL_PIXELS = (240, 180)
COLUMNS = 3
ODD_SHARE = 0.5  # of the most surprising atom's nats, from which on a neighbour belongs to the part
HOT = (0.93, 0.35, 0.2)  # red, green, blue


def atom_nats(tokens: Sequence[str], nats: Sequence[float]) -> list[float]:
    """(A,) nats of the atoms of a string, in the order in which they are written."""
    out: list[float] = []
    for text, own in zip(tokens, nats, strict=True):
        written = sum(map(_is_atom, pieces(text)))
        if written:
            out += [own / written] * written
        elif out:
            out[-1] += own
    return out


def _is_atom(piece: str) -> bool:
    return piece.startswith("[") or piece.isalpha() or piece == "*"


def nats_of_atoms(
    text: str, codes: Sequence[int], nats: Sequence[float], words: Vocabulary
) -> np.ndarray | None:
    """(A,) of a SMILES string; None where its atoms are not those that rdkit reads, or its tokens
    do not write it. What is not known counts as 0."""
    found = molecule(text)
    spelled = _spelled(text, codes, words)
    if found is None or spelled is None:
        return None
    own = np.array(atom_nats(spelled, np.nan_to_num(nats).tolist()))
    return own if len(own) == found.GetNumAtoms() else None


def _spelled(text: str, codes: Sequence[int], words: Vocabulary) -> list[str] | None:
    """The tokens, one that was never seen as the string has it; None where they are not the
    string."""
    left = pieces(text)
    out = []
    for code in codes:
        count = 1 if code == words.unknown else len(pieces(words.texts[code]))
        out.append("".join(left[:count]))
        left = left[count:]
        if code != words.unknown and out[-1] != words.texts[code]:
            return None
    return None if left else out


def oddest_part(text: str, nats: np.ndarray) -> str:
    """SMILES of the most surprising atom, with the atoms about it that are at least half as
    surprising and hang together with it."""
    found = molecule(text)
    first = int(nats.argmax())
    part = {first}
    fresh = [first]
    while fresh:
        near = found.GetAtomWithIdx(fresh.pop()).GetNeighbors()
        more = {atom.GetIdx() for atom in near if nats[atom.GetIdx()] >= ODD_SHARE * nats[first]}
        fresh += more - part
        part |= more
    return str(rdkit().MolFragmentToSmiles(found, sorted(part)))


def coloured(strings: Sequence[str], nats: Sequence[np.ndarray], words: Sequence[str]) -> str:
    """Structures side by side as SVG, their atoms the redder the more surprising."""
    from rdkit.Chem.Draw import rdMolDraw2D

    wide = min(COLUMNS, len(strings))
    rows = -(-len(strings) // wide)
    sheet: Any = rdMolDraw2D.MolDraw2DSVG(
        wide * CELL_PIXELS[0], rows * CELL_PIXELS[1], *CELL_PIXELS
    )
    colours = [_colours(each) for each in nats]
    sheet.DrawMolecules(
        [molecule(text) for text in strings],
        highlightAtoms=[list(each) for each in colours],
        highlightAtomColors=colours,
        highlightBonds=[[] for _ in strings],
        legends=list(words),
    )
    sheet.FinishDrawing()
    return str(sheet.GetDrawingText())


def _colours(nats: np.ndarray) -> dict[int, tuple[float, ...]]:
    shares = (nats / DEEPEST_NATS).clip(0, 1)
    return {
        atom: tuple(1 - float(share) * (1 - tone) for tone in HOT)
        for atom, share in enumerate(shares)
    }

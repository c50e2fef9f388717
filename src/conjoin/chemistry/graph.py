"""One molecule: its atoms, bonds and charges, and where the atoms are, if that is known.

Shape letters: N atoms.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from conjoin.chemistry.elements import ORDERS, symbol_of

__all__ = ["Molecule", "formula", "fragments"]

HASH_STEP = 0.01  # Angstrom, of the sums of distances by which geometries are told apart


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule with all of its hydrogens.

    Attributes
    ----------
    numbers
        (N,) atomic numbers.
    bonds
        (N, N) codes, symmetric: 0 none, 1 single, 2 double, 3 triple, 4 aromatic.
    charges
        (N,) formal charges.
    xyz
        (N, 3) in Angstrom; None where only the graph is known.
    name
        As the file has it.
    smiles
        As the file has it; "" where it has none. Its atoms, and then the hydrogens of each, are the
        atoms here.
    properties
        What else the file tells of the molecule.
    measured
        Whether the bonds are those of the distances, not told.
    unread
        Lines of the file about it that nothing here holds, such as "M  ISO".
    """

    numbers: np.ndarray
    bonds: np.ndarray
    charges: np.ndarray
    xyz: np.ndarray | None = None
    name: str = ""
    smiles: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    measured: bool = False
    unread: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def taken(self, order: Sequence[int] | np.ndarray) -> "Molecule":
        """The atoms at these places, in this order; strings of other orders are dropped."""
        order = np.asarray(order, dtype=int)
        xyz = None if self.xyz is None else self.xyz[order]
        return replace(
            self,
            numbers=self.numbers[order],
            bonds=self.bonds[np.ix_(order, order)],
            charges=self.charges[order],
            xyz=xyz,
            smiles="",
        )

    @property
    def valences(self) -> np.ndarray:
        """(N,) sums of the orders of the bonds; an aromatic bond counts 1.5."""
        return np.asarray(np.asarray(ORDERS)[self.bonds].sum(1))

    @property
    def centred(self) -> np.ndarray:
        """(N, 3) coordinates with the mean zero."""
        assert self.xyz is not None
        return np.asarray(self.xyz - self.xyz.mean(0))

    def content(self, key: str) -> int:
        """A hash of the molecule: of ``key``, what says which graph it is, and of its geometry, by
        sums of distances, which no order and no pose changes. A mirror image has the same."""
        parts = [key]
        if self.xyz is not None:
            distance = np.linalg.norm(self.xyz[:, None] - self.xyz[None], axis=2)
            for power in (1, 2, 3):
                total = float((distance**power).sum())
                parts.append(str(round(total / HASH_STEP)))
        digest = hashlib.blake2b("|".join(parts).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")


def formula(numbers: np.ndarray) -> str:
    """Such as C2H6O: carbon, hydrogen, then others by their symbol."""
    symbols = [symbol_of(int(number)) for number in numbers]
    kinds = sorted(set(symbols), key=lambda one: (one != "C", one != "H", one))
    counts = {kind: symbols.count(kind) for kind in kinds}
    return "".join(kind + (str(count) if count > 1 else "") for kind, count in counts.items())


def fragments(bonds: np.ndarray) -> list[np.ndarray]:
    """The atoms of each connected part."""
    left = np.ones(len(bonds), dtype=bool)
    out = []
    while left.any():
        part = np.zeros(len(bonds), dtype=bool)
        part[int(left.argmax())] = True
        grown = part | (bonds[part] > 0).any(0)
        while (grown != part).any():
            part = grown
            grown = part | (bonds[part] > 0).any(0)
        out.append(np.flatnonzero(part))
        left &= ~part
    return out

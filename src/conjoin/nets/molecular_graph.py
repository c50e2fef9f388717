"""The graph of a molecule as tensors: what a network of its shape is told of it.

A graph reaches a density as the event of a block beside the points, its context. That block has the
layout of an image, so that it needs no layout of its own: one channel of N x N codes, of which the
diagonal says what stands at a place, the rest how two places are bound:

    code[i, i] = 0 (no atom), or that of ``conjoin.chemistry.atoms.codes_of_atoms``
    code[i, j] = 0 (not bound), 1 single, 2 double, 3 triple, 4 aromatic

``MolecularGraph.to_codes`` writes the codes, ``from_codes`` reads them, ``graph_block`` is the
block. A row of which nothing is known has no graph. The places are those of the points: heavy atoms
in the order of the string, then hydrogens in the order in which rdkit's AddHs appends them.

Rings are told by walks that never turn back at once: B_1 = A, B_2 = A^2 - D,
B_k = B_{k-1} A - B_{k-2} (D - 1), with the degrees D (H. Stark and A. Terras (1996), Zeta functions
of finite graphs and coverings): of two bound atoms B_k counts the rings of k + 1 atoms.

Shape letters: B molecules, N places, F features, K steps of a walk.

>>> ethane = MolecularGraph.of(["C", "C"], [(0, 1, 1)])
>>> ethane.path_lengths().tolist()
[[[0, 1], [1, 0]]]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from conjoin.chemistry.atoms import atoms_of_codes, codes_of_atoms
from conjoin.chemistry.elements import LEAST_CHARGE, LEVELS_OF_CHARGE
from conjoin.core import Block, Variable
from conjoin.core.shapes import Float, Int

__all__ = ["BONDS", "MAX_PATH", "SYMBOLS", "MolecularGraph", "graph_block"]

SYMBOLS = ("H", "C", "N", "O", "F")  # elements of QM9; any other tuple may stand for them
BONDS = ("none", "single", "double", "triple", "aromatic")
MAX_SYMBOLS = 51  # a code must fit into a byte
MAX_PATH = (
    5  # bonds of a shortest path that are told apart; what is farther, or apart, has one more
)
WALK_STEPS = 6  # rings of up to 7 atoms are seen


def graph_block(capacity: int, symbols: Sequence[str] = SYMBOLS, name: str = "graph") -> Block:
    """The block of graphs of at most ``capacity`` atoms of these elements.

    Raises
    ------
    ValueError
        If there are more elements than a byte can tell.
    """
    if len(symbols) > MAX_SYMBOLS:
        raise ValueError(
            f"A graph tells at most {MAX_SYMBOLS} elements apart, got {len(symbols)} symbols."
        )
    levels = max(1 + LEVELS_OF_CHARGE * len(symbols), len(BONDS))
    code = Variable("bond or atom", "category", cardinality=levels)
    return Block(name, "image", (1, capacity, capacity), (code,))


@dataclass(frozen=True)
class MolecularGraph:
    """B graphs of at most N atoms.

    Parameters
    ----------
    elements
        (B, N) int64: places in ``symbols``; 0 where there is no atom.
    bonds
        (B, N, N) int64, symmetric: places in ``BONDS``.
    charges
        (B, N) int64, formal charges.
    present
        (B, N) bool: where there is an atom.
    symbols
        What the elements are called.
    """

    elements: Int[Tensor, "B N"]
    bonds: Int[Tensor, "B N N"]
    charges: Int[Tensor, "B N"]
    present: Tensor
    symbols: tuple[str, ...] = SYMBOLS

    @classmethod
    def of(
        cls,
        atoms: Sequence[str],
        bonds: Sequence[tuple[int, int, int]],
        charges: Sequence[int] | None = None,
        symbols: tuple[str, ...] = SYMBOLS,
    ) -> Self:
        """The graph of one molecule, from symbols and (atom, atom, bond).

        Raises
        ------
        ValueError
            If an element is none of ``symbols``.
        """
        strangers = sorted(set(atoms) - set(symbols))
        if strangers:
            raise ValueError(f"The element {strangers[0]!r} is not among {', '.join(symbols)}.")
        size = len(atoms)
        table = torch.zeros(1, size, size, dtype=torch.int64)
        for first, second, bond in bonds:
            table[0, first, second] = table[0, second, first] = bond
        elements = torch.tensor([[symbols.index(atom) for atom in atoms]], dtype=torch.int64)
        charge = torch.tensor([list(charges or [0] * size)], dtype=torch.int64)
        present = torch.ones(1, size, dtype=torch.bool)
        return cls(elements, table, charge, present, symbols)

    @classmethod
    def from_codes(cls, codes: Tensor, symbols: tuple[str, ...] = SYMBOLS) -> Self:
        """The graphs that (B, 1, N, N) codes stand for."""
        table = codes[:, 0].long()
        atoms = table.diagonal(dim1=1, dim2=2)
        present = atoms > 0
        elements, charges = atoms_of_codes(atoms.clamp_min(1))
        charges = torch.where(present, charges, 0)
        bonds = table * ~torch.eye(table.shape[1], dtype=torch.bool)
        return cls(elements, bonds, charges, present, symbols)

    def to_codes(self) -> Tensor:
        """(B, 1, N, N) uint8: rows of ``graph_block``.

        Raises
        ------
        ValueError
            If a charge is not one of those that have a code.
        """
        level = self.charges - LEAST_CHARGE
        wrong = self.present & ((level < 0) | (level >= LEVELS_OF_CHARGE))
        if wrong.any():
            raise ValueError(
                f"An atom has the charge {int(self.charges[wrong][0])}; charges from "
                f"{LEAST_CHARGE} to {LEAST_CHARGE + LEVELS_OF_CHARGE - 1} have codes."
            )
        atoms = codes_of_atoms(self.elements, self.charges) * self.present
        table = self.bonds + torch.diag_embed(atoms)
        return table[:, None].to(torch.uint8)

    def take(self, rows: Tensor | slice) -> "MolecularGraph":
        """The graphs at ``rows``."""
        return MolecularGraph(
            self.elements[rows],
            self.bonds[rows],
            self.charges[rows],
            self.present[rows],
            self.symbols,
        )

    def permuted(self, order: Int[Tensor, "B N"]) -> "MolecularGraph":
        """The same molecules, with atom ``order[b, n]`` at place n."""
        rows = torch.arange(len(order))[:, None]
        bonds = self.bonds[rows[..., None], order[:, :, None], order[:, None, :]]
        return MolecularGraph(
            self.elements[rows, order],
            bonds,
            self.charges[rows, order],
            self.present[rows, order],
            self.symbols,
        )

    def adjacency(self) -> Float[Tensor, "B N N"]:
        """1 where two atoms are bound."""
        return (self.bonds > 0).float()

    def path_lengths(self, limit: int = MAX_PATH) -> Int[Tensor, "B N N"]:
        """Bonds of the shortest path; ``limit`` + 1 where it is longer, or there is none."""
        bound = self.adjacency()
        size = bound.shape[1]
        reached = torch.eye(size).expand_as(bound)
        lengths = torch.where(reached > 0, 0, limit + 1)
        for step in range(1, limit + 1):
            reached = ((reached @ bound + reached) > 0).float()
            lengths = torch.where((reached > 0) & (lengths > limit), step, lengths)
        return lengths

    def ring_walks(self, steps: int = WALK_STEPS) -> Float[Tensor, "B N N K"]:
        """log(1 + walks of 2, ..., K + 1 steps that never turn back at once)."""
        bound = self.adjacency()
        degrees = torch.diag_embed(bound.sum(2))
        once = torch.eye(bound.shape[1])
        before = bound
        walks = bound @ bound - degrees
        every = [walks]
        for _ in range(steps - 1):
            before, walks = walks, walks @ bound - before @ (degrees - once)
            every.append(walks)
        return torch.stack(every, 3).clamp_min(0).log1p()

    def laplacian(self) -> Float[Tensor, "B N N"]:
        """Degrees minus the adjacency."""
        bound = self.adjacency()
        return torch.diag_embed(bound.sum(2)) - bound

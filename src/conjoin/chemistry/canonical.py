"""The order of a molecule's atoms that no permutation changes.

Atoms are told apart by their element, charge, hydrogens and bonds, and by those of their
neighbours (H. Morgan (1965), The generation of a unique machine description for chemical
structures); ties are broken by each atom of the first class in turn, of which the one with the
least description is kept (B. McKay (1981), Practical graph isomorphism). Beyond ``MAX_LEAVES``
descriptions the first atom breaks a tie, which is the same description where tied atoms can be
exchanged, as in all but contrived graphs.
"""

from collections import Counter
from typing import Any

import numpy as np

from conjoin.chemistry.graph import Molecule

__all__ = ["canonical_order", "canonical_ranks", "graph_key"]

MAX_LEAVES = 128
Near = list[list[tuple[int, int]]]  # of each atom: its neighbours, and the codes of the bonds


def _refined(ranks: list[int], near: Near) -> list[int]:
    """Classes that are told apart by the classes of their neighbours, as long as that helps."""
    count = len(set(ranks))
    while True:
        words = [
            (rank, tuple(sorted([(order, ranks[other]) for other, order in near[atom]])))
            for atom, rank in enumerate(ranks)
        ]
        place = {word: rank for rank, word in enumerate(sorted(set(words)))}
        ranks = [place[word] for word in words]
        if len(place) == count:
            return ranks
        count = len(place)


class _Search:
    """The least description of a graph over all ways to break its ties."""

    def __init__(self, first: list[tuple[int, ...]], near: Near) -> None:
        self.first = first
        self.near = near
        self.leaves = 0
        self.best: list[tuple[Any, ...]] | None = None
        self.ranks = list(range(len(first)))
        words = {word: rank for rank, word in enumerate(sorted(set(first)))}
        self._explore(_refined([words[word] for word in first], near))

    def _explore(self, ranks: list[int]) -> None:
        tied = [rank for rank, count in Counter(ranks).items() if count > 1]
        if not tied:
            self._leaf(ranks)
            return
        least = min(tied)
        members = [atom for atom, rank in enumerate(ranks) if rank == least]
        for member in members if self.leaves < MAX_LEAVES else members[:1]:
            split = [2 * rank for rank in ranks]
            split[member] -= 1
            self._explore(_refined(split, self.near))

    def _leaf(self, ranks: list[int]) -> None:
        self.leaves += 1
        order = sorted(range(len(ranks)), key=ranks.__getitem__)
        places = {atom: place for place, atom in enumerate(order)}
        words: list[tuple[Any, ...]] = [
            (*self.first[atom], *sorted([(places[o], c) for o, c in self.near[atom]]))
            for atom in order
        ]
        if self.best is None or words < self.best:
            self.best = words
            self.ranks = [places[atom] for atom in range(len(order))]


class _Heavy:
    """The atoms of a molecule that are no hydrogen (all, where there are no others), what tells
    them apart, and the hydrogens of each."""

    def __init__(self, molecule: Molecule) -> None:
        numbers = molecule.numbers.tolist()
        charges = molecule.charges.tolist()
        bonds = molecule.bonds.tolist()
        self.atoms = [atom for atom, number in enumerate(numbers) if number != 1]
        self.atoms = self.atoms or list(range(len(numbers)))
        place = {atom: at for at, atom in enumerate(self.atoms)}
        self.near: Near = [
            [
                (place[other], code)
                for other, code in enumerate(bonds[atom])
                if code and other in place
            ]
            for atom in self.atoms
        ]
        self.hydrogens = [
            [other for other, code in enumerate(bonds[atom]) if code and other not in place]
            for atom in self.atoms
        ]
        self.first: list[tuple[int, ...]] = [
            (numbers[atom], len(near), len(light), charges[atom])
            for atom, near, light in zip(self.atoms, self.near, self.hydrogens, strict=True)
        ]

    def search(self) -> _Search:
        return _Search(self.first, self.near)


def canonical_ranks(molecule: Molecule) -> np.ndarray:
    """(M,) of the atoms that are no hydrogen: their places in the canonical order."""
    return np.array(_Heavy(molecule).search().ranks)


def graph_key(molecule: Molecule) -> str:
    """A description of the graph that no permutation of its atoms changes."""
    return repr(_Heavy(molecule).search().best)


def canonical_order(molecule: Molecule) -> np.ndarray:
    """(N,) the order of the atoms in which the string of a molecule has them: depth first from the
    atom of the least rank, lower ranks first, and then the hydrogens of each."""
    heavy = _Heavy(molecule)
    ranks = heavy.search().ranks
    order = _depth_first(heavy.near, ranks)
    atoms = [heavy.atoms[place] for place in order]
    light = [atom for place in order for atom in heavy.hydrogens[place]]
    found = list(dict.fromkeys([*atoms, *light]))  # a hydrogen of two atoms is one
    left = set(range(len(molecule))) - set(found)
    return np.array([*found, *sorted(left)])


def _depth_first(near: Near, ranks: list[int]) -> list[int]:
    seen: dict[int, None] = {}
    for start in sorted(range(len(ranks)), key=ranks.__getitem__):
        stack = [start]
        while stack:
            atom = stack.pop()
            if atom in seen:
                continue
            seen[atom] = None
            others = sorted((other for other, _ in near[atom]), key=ranks.__getitem__, reverse=True)
            stack += [other for other in others if other not in seen]
    return list(seen)

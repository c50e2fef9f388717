"""SMILES strings to graphs and back, without rdkit.

D. Weininger (1988), SMILES, a chemical language and information system. Read are atoms of the
organic subset, brackets (isotopes, numbers of classes and marks of stereochemistry are told apart
and left out of the graph), bonds, branches, rings and dots. Hydrogens that a string implies are
atoms of the graph, behind the others.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from conjoin.chemistry.elements import AROMATIC, ATOMIC_NUMBER, VALENCES, symbol_of
from conjoin.chemistry.graph import Molecule, fragments

__all__ = ["MAX_ATOMS", "parse_smiles", "write_smiles"]

SHOWN_CHARACTERS = 60
MAX_ATOMS = 512  # of a string, hydrogens included
MAX_HYDROGENS = 9  # in one bracket; more of them, and of charges, no SMILES has
MAX_CHARGE = 15
_TOKEN = re.compile(
    r"(?P<bracket>\[(?P<isotope>\d*)(?P<symbol>[A-Z][a-z]?|[a-z][a-z]?)(?P<chiral>@{0,2})"
    r"(?P<hydrogens>H\d*)?(?P<charge>\+\d+|-\d+|\+*|-*)(?::\d+)?\])"
    r"|(?P<atom>Cl|Br|[BCNOPSFI]|[bcnops])"
    r"|(?P<bond>[-=#:/\\~])|(?P<ring>%\d\d|\d)|(?P<open>\()|(?P<close>\))|(?P<dot>\.)"
)
_ORDER = {"-": 1, "=": 2, "#": 3, ":": AROMATIC, "/": 1, "\\": 1, "~": 1}
_WRITTEN = {1: "-", 2: "=", 3: "#", AROMATIC: ":"}
_AROMATIC_SYMBOLS = ("b", "c", "n", "o", "p", "s", "se", "as")
_PLAIN = {5, 6, 7, 8, 9, 15, 16, 17, 35, 53}  # what may stand without a bracket


@dataclass
class _Draft:
    """Atoms and bonds so far."""

    text: str
    numbers: list[int] = field(default_factory=list)
    charges: list[int] = field(default_factory=list)
    hydrogens: list[int | None] = field(default_factory=list)  # None: what valence leaves
    aromatic: list[bool] = field(default_factory=list)
    bonds: dict[tuple[int, int], int] = field(default_factory=dict)
    open_rings: dict[int, tuple[int, int | None]] = field(default_factory=dict)

    def error(self, why: str) -> ValueError:
        return ValueError(f"{self.text[:SHOWN_CHARACTERS]!r} is no molecule: {why}.")

    def too_large(self) -> ValueError:
        return self.error(f"it has more than {MAX_ATOMS} atoms, hydrogens included")

    def add(self, symbol: str, charge: int, hydrogens: int | None) -> int:
        aromatic = symbol[0].islower()
        name = symbol.capitalize()
        if name not in ATOMIC_NUMBER or (aromatic and symbol not in _AROMATIC_SYMBOLS):
            raise self.error(f"{symbol!r} is no element")
        if len(self.numbers) == MAX_ATOMS:
            raise self.too_large()
        self.numbers.append(ATOMIC_NUMBER[name])
        self.charges.append(charge)
        self.hydrogens.append(hydrogens)
        self.aromatic.append(aromatic)
        return len(self.numbers) - 1

    def bind(self, one: int, two: int, order: int | None) -> None:
        pair = (min(one, two), max(one, two))
        if one == two or pair in self.bonds:
            raise self.error(f"atoms {one + 1} and {two + 1} are bound twice")
        plain = AROMATIC if self.aromatic[one] and self.aromatic[two] else 1
        self.bonds[pair] = plain if order is None else order

    def ring(self, label: int, atom: int, order: int | None) -> None:
        if label not in self.open_rings:
            self.open_rings[label] = (atom, order)
            return
        other, before = self.open_rings.pop(label)
        if order is not None and before is not None and order != before:
            raise self.error(f"ring {label} has two kinds of bond")
        self.bind(other, atom, before if order is None else order)


def parse_smiles(text: str) -> Molecule:
    """The graph of a string: its atoms in their order, then the hydrogens of each.

    Raises
    ------
    ValueError
        If the string is no molecule, in one sentence.

    Examples
    --------
    >>> ethanol = parse_smiles("CCO")
    >>> ethanol.numbers.tolist()
    [6, 6, 8, 1, 1, 1, 1, 1, 1]
    """
    draft = _Draft(text)
    _read(draft)
    return _finished(draft)


def _read(draft: _Draft) -> None:
    stack: list[int] = []
    last: int | None = None
    order: int | None = None
    before = ""
    place = 0
    while place < len(draft.text):
        found = _TOKEN.match(draft.text, place)
        if found is None:
            raise draft.error(f"{draft.text[place]!r} at character {place + 1} means nothing")
        kind = "atom" if found["bracket"] else str(found.lastgroup)
        _refuse_after(draft, before, kind, place)
        before = kind
        place = found.end()
        if kind == "atom":
            atom = _atom(draft, found)
            if last is not None:
                draft.bind(last, atom, order)
            last = atom
        elif last is None:
            raise draft.error(f"it begins with {found[0]!r}")
        elif kind == "bond":
            order = _ORDER[found[0]]
            continue
        elif kind == "ring":
            draft.ring(int(found[0].lstrip("%")), last, order)
        elif kind == "open":
            stack.append(last)
        elif kind == "close":
            if not stack:
                raise draft.error("a branch is closed that was not opened")
            last = stack.pop()
        else:
            last = None
        order = None
    if stack or draft.open_rings or before in ("bond", "dot"):
        what = "a branch" if stack else "a ring" if draft.open_rings else f"a {before}"
        raise draft.error(f"{what} is left open")
    if not draft.numbers:
        raise draft.error("it has no atom")


def _refuse_after(draft: _Draft, before: str, kind: str, place: int) -> None:
    """What no string has side by side: a bond needs an atom or a ring behind it, a branch an atom
    or a bond at its beginning."""
    if before == "bond" and kind not in ("atom", "ring"):
        raise draft.error(f"the bond at character {place} leads to no atom")
    if before == "open" and kind not in ("atom", "bond"):
        raise draft.error(f"the branch at character {place} begins with no atom")


def _atom(draft: _Draft, found: re.Match[str]) -> int:
    if not found["bracket"]:
        return draft.add(found["atom"], 0, None)
    told = found["hydrogens"] or "H0"
    hydrogens = _count(draft, told[1:] or "1", MAX_HYDROGENS, "hydrogens")
    return draft.add(found["symbol"], _charge(draft, found["charge"]), hydrogens)


def _charge(draft: _Draft, words: str) -> int:
    if not words:
        return 0
    sign = 1 if words[0] == "+" else -1
    digits = words[1:] if words[1:].isdigit() else str(len(words))
    return sign * _count(draft, digits, MAX_CHARGE, "charges")


def _count(draft: _Draft, digits: str, most: int, what: str) -> int:
    written = digits.lstrip("0") or "0"
    if len(written) > len(str(most)) or int(written) > most:
        atom = len(draft.numbers) + 1
        raise draft.error(f"atom {atom} has more than {most} {what}")
    return int(written)


def _finished(draft: _Draft) -> Molecule:
    """With the hydrogens that the string implies."""
    owners = [
        atom
        for atom, told in enumerate(draft.hydrogens)
        for _ in range(_implied(draft, atom) if told is None else told)
    ]
    heavy = len(draft.numbers)
    size = heavy + len(owners)
    if size > MAX_ATOMS:
        raise draft.too_large()
    bonds = np.zeros((size, size), dtype=np.int8)
    for (one, two), order in draft.bonds.items():
        bonds[one, two] = bonds[two, one] = order
    for place, owner in enumerate(owners, heavy):
        bonds[place, owner] = bonds[owner, place] = 1
    numbers = np.array([*draft.numbers, *(1 for _ in owners)], dtype=np.int64)
    charges = np.array([*draft.charges, *(0 for _ in owners)], dtype=np.int64)
    return Molecule(numbers, bonds, charges, smiles=draft.text)


def _implied(draft: _Draft, atom: int) -> int:
    """How many hydrogens an atom without a bracket has: what its valence leaves. Two aromatic bonds
    take the place of three."""
    own = [order for pair, order in draft.bonds.items() if atom in pair]
    taken = sum(1 if order == AROMATIC else order for order in own)
    taken += AROMATIC in own or (draft.aromatic[atom] and bool(own))
    least = [valence for valence in VALENCES[draft.numbers[atom]] if valence >= taken]
    if draft.aromatic[
        atom
    ]:  # one pair of electrons more is in the ring: no higher valence is meant
        return max(0, VALENCES[draft.numbers[atom]][0] - taken)
    if not least:
        symbol = symbol_of(draft.numbers[atom])
        raise draft.error(f"atom {atom + 1} ({symbol}) has {taken} bonds")
    return least[0] - taken


# ---------------------------------------------------------------------- graphs to strings


def write_smiles(molecule: Molecule) -> str:
    """A string of the graph whose atoms, read in their order, are the atoms that are no hydrogen in
    an order of depth first: that of the molecule, where it is one. Aromatic bonds are written by
    small letters."""
    heavy = np.flatnonzero(molecule.numbers != 1)
    if not len(heavy):
        heavy = np.arange(len(molecule))
    return ".".join(
        _Writer(molecule, heavy[part]).text
        for part in fragments(molecule.bonds[np.ix_(heavy, heavy)])
    )


class _Writer:
    """One fragment as a string; neighbours of a low number come first, so that an order of depth
    first is kept."""

    def __init__(self, molecule: Molecule, atoms: np.ndarray) -> None:
        self.molecule = molecule
        self.kept = set(atoms.tolist())
        self.order: list[int] = []
        self.children: dict[int, list[int]] = {}
        self.rings: dict[int, list[tuple[int, int]]] = {}  # atom -> (label, other atom)
        self._walk(int(atoms[0]))
        self._close()
        self.text = self._branch(self.order[0])

    def _neighbours(self, atom: int) -> list[int]:
        near = np.flatnonzero(self.molecule.bonds[atom]).tolist()
        return [other for other in near if other in self.kept]

    def _walk(self, root: int) -> None:
        parent: dict[int, int | None] = {}
        stack: list[tuple[int, int | None]] = [(root, None)]
        while stack:
            atom, above = stack.pop()
            if atom in parent:
                continue
            parent[atom] = above
            self.order.append(atom)
            self.children[atom] = []
            if above is not None:
                self.children[above].append(atom)
            stack += [(other, atom) for other in reversed(self._neighbours(atom))]
        self.parent = parent

    def _close(self) -> None:
        """Labels of rings; one is free again where it was closed."""
        rank = {atom: place for place, atom in enumerate(self.order)}
        busy: dict[int, int] = {}  # label -> the place where it ends
        for atom in self.order:
            after = [
                other
                for other in self._neighbours(atom)
                if rank[other] > rank[atom] and self.parent[other] != atom
            ]
            for other in sorted(after, key=rank.__getitem__):
                free = {label for label, end in busy.items() if end <= rank[atom]}
                label = next(n for n in range(1, 100) if n not in busy or n in free)
                busy[label] = rank[other]
                self.rings.setdefault(atom, []).append((label, other))
                self.rings.setdefault(other, []).append((label, atom))

    def _branch(self, atom: int) -> str:
        parts = [self._symbol(atom)]
        done = {place: at for at, place in enumerate(self.order)}
        # a label that ends here is written before one that begins here, so that it may be both
        ends = sorted(self.rings.get(atom, ()), key=lambda one: done[one[1]] > done[atom])
        for label, other in ends:
            word = str(label) if label < 10 else f"%{label}"
            opens = done[other] > done[atom]
            parts.append((self._bond(atom, other) if opens else "") + word)
        below = self.children[atom]
        for child in below[:-1]:
            parts.append(f"({self._bond(atom, child)}{self._branch(child)})")
        for child in below[-1:]:
            parts.append(self._bond(atom, child) + self._branch(child))
        return "".join(parts)

    def _aromatic(self, atom: int) -> bool:
        return bool((self.molecule.bonds[atom] == AROMATIC).any())

    def _bond(self, one: int, two: int) -> str:
        code = int(self.molecule.bonds[one, two])
        plain = AROMATIC if self._aromatic(one) and self._aromatic(two) else 1
        return "" if code == plain else _WRITTEN[code]

    def _symbol(self, atom: int) -> str:
        molecule = self.molecule
        number = int(molecule.numbers[atom])
        charge = int(molecule.charges[atom])
        near = np.flatnonzero(molecule.bonds[atom])
        hydrogens = sum(molecule.numbers[other] == 1 and other not in self.kept for other in near)
        aromatic = self._aromatic(atom)
        symbol = symbol_of(number).lower() if aromatic else symbol_of(number)
        if number in _PLAIN and not charge and hydrogens == self._expected(atom, aromatic):
            return symbol
        h = "" if not hydrogens else "H" if hydrogens == 1 else f"H{hydrogens}"
        sign = (
            ""
            if not charge
            else ("+" if charge > 0 else "-") + (str(abs(charge)) if abs(charge) > 1 else "")
        )
        return f"[{symbol}{h}{sign}]"

    def _expected(self, atom: int, aromatic: bool) -> int:
        """How many hydrogens would be read without a bracket; -1 where it would be refused."""
        number = int(self.molecule.numbers[atom])
        orders = [int(self.molecule.bonds[atom, other]) for other in self._neighbours(atom)]
        taken = sum(1 if order == AROMATIC else order for order in orders) + aromatic
        if aromatic:
            return max(0, VALENCES[number][0] - taken)
        return next((valence - taken for valence in VALENCES[number] if valence >= taken), -1)

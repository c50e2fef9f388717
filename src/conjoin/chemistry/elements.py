"""Facts of the elements: symbols, valences, and lengths of bonds.

Lengths are in picometres: those of single, double and triple bonds, and the margins within which a
distance counts as one, by which E. Hoogeboom et al. (2022), Equivariant diffusion for molecule
generation in 3D, appendix E, judge molecules.
"""

import numpy as np

__all__ = [
    "AROMATIC",
    "ATOMIC_NUMBER",
    "LEAST_CHARGE",
    "LEVELS_OF_CHARGE",
    "ORDERS",
    "SYMBOLS",
    "VALENCES",
    "lengths_of",
    "symbol_of",
    "valences_of",
]

SYMBOLS = [
    "H",
    "He",
    "Li",
    "Be",
    "B",
    "C",
    "N",
    "O",
    "F",
    "Ne",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "Ar",
    "K",
    "Ca",
    "Sc",
    "Ti",
    "V",
    "Cr",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
    "Ga",
    "Ge",
    "As",
    "Se",
    "Br",
    "Kr",
    "Rb",
    "Sr",
    "Y",
    "Zr",
    "Nb",
    "Mo",
    "Tc",
    "Ru",
    "Rh",
    "Pd",
    "Ag",
    "Cd",
    "In",
    "Sn",
    "Sb",
    "Te",
    "I",
    "Xe",
]
ATOMIC_NUMBER = {symbol: number for number, symbol in enumerate(SYMBOLS, 1)}
AROMATIC = 4  # the code of a bond; 1, 2 and 3 are its order, 0 is none
LEAST_CHARGE = -2  # formal charges that have a code: five, from this on
LEVELS_OF_CHARGE = 5
ORDERS = (0.0, 1.0, 2.0, 3.0, 1.5)  # by the code of a bond
# of a neutral atom, the least first
VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,),
    5: (3,),
    6: (4,),
    7: (3, 5),
    8: (2,),
    9: (1,),
    14: (4,),
    15: (3, 5),
    16: (2, 4, 6),
    17: (1,),
    35: (1,),
    53: (1,),
}
_ELECTRONS = {1: 1, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7, 14: 4, 15: 5, 16: 6, 17: 7, 35: 7, 53: 7}
# by the outer electrons that a charge leaves: an ion binds as the neutral atom with as many
_BY_ELECTRONS = {1: (1,), 3: (3,), 4: (4,), 5: (3, 5), 6: (2, 4, 6), 7: (1, 3, 5, 7)}
LAST_WITHOUT_MORE = 9  # fluorine: elements up to it have no higher valence as ions
MARGINS = (10.0, 5.0, 3.0)  # of single, double and triple bonds
_SINGLE = (
    "HH 74 HC 109 HN 101 HO 96 HF 92 HB 119 HSi 148 HP 144 HS 134 HCl 127 HBr 141 HI 161 CC 154 "
    "CN 147 CO 143 CF 135 CSi 185 CP 184 CS 182 CCl 177 CBr 194 CI 214 NN 145 NO 140 NF 136 NCl "
    "175 NBr 214 NS 168 NI 222 NP 177 OO 148 OF 142 OBr 172 OS 151 OP 163 OSi 163 OCl 164 OI 194 "
    "FF 142 FS 158 FSi 160 FCl 166 FBr 178 FP 156 FI 187 SS 204 SCl 207 SBr 225 SSi 200 SP 210 "
    "SI 234 BrBr 228 BrCl 214 BrSi 215 BrP 222 PP 221 PCl 203 ClCl 199 ClSi 202 SiSi 233 ISi 243 "
    "II 266 BCl 175"
)
_DOUBLE = "CC 134 CN 129 CO 120 CS 160 NN 125 NO 121 OO 121 OP 150 PS 186"
_TRIPLE = "CC 120 CN 116 CO 113 NN 110"


def symbol_of(number: int) -> str:
    """The symbol of an atomic number."""
    return SYMBOLS[number - 1] if 0 < number <= len(SYMBOLS) else f"element {number}"


def valences_of(number: int, charge: int = 0) -> tuple[int, ...]:
    """What the orders of the bonds of an atom may add up to, the least first; () where the charge
    leaves none. Oxides of halogens written without charges count.

    >>> valences_of(7), valences_of(7, 1), valences_of(8, -1), valences_of(17)
    ((3, 5), (4,), (1,), (1, 3, 5, 7))
    """
    few = number <= LAST_WITHOUT_MORE
    if not charge and (few or _ELECTRONS[number] < 7):
        return VALENCES[number]
    found = _BY_ELECTRONS.get(_ELECTRONS[number] - charge, ())
    return found[:1] if few else found


def _pair(letters: str) -> tuple[int, int]:
    """Two symbols without a space between them."""
    cut = next(
        place
        for place in (1, 2)
        if letters[:place] in ATOMIC_NUMBER and letters[place:] in ATOMIC_NUMBER
    )
    return ATOMIC_NUMBER[letters[:cut]], ATOMIC_NUMBER[letters[cut:]]


def _table(words: str) -> np.ndarray:
    table = np.full((len(SYMBOLS) + 1, len(SYMBOLS) + 1), -np.inf)
    parts = words.split()
    for letters, length in zip(parts[::2], parts[1::2], strict=True):
        one, two = _pair(letters)
        table[one, two] = table[two, one] = float(length)
    return table


_LENGTHS = tuple(_table(words) for words in (_SINGLE, _DOUBLE, _TRIPLE))


def lengths_of(order: int) -> np.ndarray:
    """(Z, Z) the greatest distance, in Angstrom, at which two elements have a bond of this order;
    minus infinity where they have none."""
    return (_LENGTHS[order - 1] + MARGINS[order - 1]) / 100

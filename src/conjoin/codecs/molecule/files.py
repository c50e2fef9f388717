"""Files of molecules in space: .xyz of one or many frames, .sdf and .mol (V2000), .npz.

Coordinates are in Angstrom. An .npz holds ``n_atoms`` (M,), ``z`` (sum of them,), positions as
``pos_hi``, ``pos_lo`` and ``pos_scale``, or as ``xyz`` (sum, 3), and where they are known
``smiles``, ``index``, and ``props_int``, ``props_decimals``, ``prop_names``.

A. Dalby et al. (1992), Description of several chemical structure file formats.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.chemistry.distances import bonds_of_distances
from conjoin.chemistry.elements import ATOMIC_NUMBER, SYMBOLS, VALENCES, lengths_of, symbol_of
from conjoin.chemistry.graph import Molecule
from conjoin.codecs.molecule.faults import RADICAL

__all__ = [
    "ISOTOPE",
    "READERS",
    "Numbered",
    "frames_of_npz",
    "of_places",
    "read_file",
    "write_file",
    "written",
]

Numbered = tuple[str, Molecule]  # what it is called in a message, and the molecule
MAX_JUDGED = 1000  # atoms of a frame whose distances are looked at
CONJUGATED = 0.07  # Angstrom by which a conjugated bond may be longer than one of its order
LEVELS = len(SYMBOLS) + 1
_ISOTOPES = ("D", "T")
_OLD_CHARGES = {0: 0, 1: 3, 2: 2, 3: 1, 4: 0, 5: -1, 6: -2, 7: -3}  # of an atom's line
_OLD_RADICAL = "4"  # there: one unpaired electron
ISOTOPE = "M  ISO"
_PROPERTY = ("M  ", "A  ", "V  ", "G  ")  # how lines about a molecule begin, behind its bonds


def read_file(path: str | Path) -> Iterator[Numbered]:
    """The molecules of a file as they are written, with what to call each in a message.

    Raises
    ------
    ValueError
        If the file can't be read, in one sentence that names file, molecule and line.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path.name}: molecules in space are read from {', '.join(READERS)}, not from "
            f"{path.suffix or 'a file without an ending'!r}."
        )
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    count = 0
    for numbered in reader(path):
        count += 1
        yield numbered
    if not count:
        raise ValueError(f"{path.name} holds no molecule.")


def _number(word: str, where: str, what: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{where}: {word!r} is no {what}.") from None


def _element(word: str, where: str) -> int:
    if word.isdigit() and 0 < int(word) < 119:
        return int(word)
    symbol = word.capitalize()
    if symbol in _ISOTOPES:
        raise ValueError(f"{where}: {word!r} is an isotope of hydrogen, and none is read: write H.")
    if symbol not in ATOMIC_NUMBER:
        raise ValueError(f"{where}: {word!r} is no element.")
    return ATOMIC_NUMBER[symbol]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


# ---------------------------------------------------------------------- xyz


def _read_xyz(path: Path) -> Iterator[Numbered]:
    """Bonds are those of the distances."""
    lines = _lines(path)
    place = 0
    molecule = 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        molecule += 1
        where = f"{path.name}, molecule {molecule}"
        head = lines[place].split()
        if len(head) != 1 or not head[0].isdigit():
            raise ValueError(
                f"{where}, line {place + 1}: {lines[place].strip()[:40]!r} stands where the number "
                "of atoms should: the frame before has more atoms than it says, or this is no .xyz."
            )
        count = int(head[0])
        body = lines[place + 2 : place + 2 + count]
        if len(body) < count:
            raise ValueError(
                f"{where} is cut off: it says {count} atoms, and {len(body)} lines are left."
            )
        comment = lines[place + 1].strip()
        yield where, _frame(body, where, place + 3, comment)
        place += 2 + count


def _frame(body: Sequence[str], where: str, first: int, comment: str) -> Molecule:
    numbers = []
    xyz = []
    for line, text in enumerate(body, first):
        words = text.split()
        if len(words) < 4:
            raise ValueError(
                f"{where}, line {line}: {text.strip()[:40]!r} is no atom (a symbol, x, y, z): the "
                f"frame has another number of atoms than the {len(body)} it says, or is cut off."
            )
        numbers.append(_element(words[0], f"{where}, line {line}"))
        xyz.append([_number(word, f"{where}, line {line}", "number") for word in words[1:4]])
    return of_places(np.array(numbers), np.array(xyz).reshape(-1, 3), comment)


def of_places(numbers: np.ndarray, xyz: np.ndarray, name: str = "") -> Molecule:
    """A molecule whose bonds are those of the distances, and whose charges are those that explain
    the valences, where they add up to zero: nitrogen with four bonds is +1, oxygen with one -1."""
    numbers = np.asarray(numbers, dtype=np.int64)
    xyz = np.asarray(xyz, dtype=float)
    size = len(numbers)
    bonds = np.zeros((size, size), dtype=np.int8)
    if size <= MAX_JUDGED and np.isfinite(xyz).all() and (numbers < LEVELS).all():
        bonds = _raised(numbers, bonds_of_distances(numbers, xyz), xyz)
    charges = np.zeros(size, dtype=np.int64)
    orders = bonds.sum(1)
    for number, usual in ((7, 3), (8, 2)):
        own = (numbers == number) & (np.abs(orders - usual) == 1)
        charges += np.where(own, orders - usual, 0)
    if charges.sum():
        charges = np.zeros(size, dtype=np.int64)
    return Molecule(numbers, bonds, charges, xyz, name, measured=True)


def _raised(numbers: np.ndarray, bonds: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """The orders, raised between two bound atoms that both lack a bond and are little further apart
    than the next order is long, the shortest first: lengths of conjugated bonds lie between those
    of two orders."""
    usual = np.array([VALENCES.get(int(number), (0,))[0] for number in numbers])
    one, two = np.nonzero(np.triu(bonds))
    apart = np.linalg.norm(xyz[one] - xyz[two], axis=1)
    order = np.argsort(apart)
    bonds = bonds.copy()
    for place in order.tolist():
        a = int(one[place])
        b = int(two[place])
        lack = usual - bonds.sum(1)
        if lack[a] < 1 or lack[b] < 1 or bonds[a, b] > 2:
            continue
        if apart[place] < lengths_of(int(bonds[a, b]) + 1)[numbers[a], numbers[b]] + CONJUGATED:
            bonds[a, b] += 1
            bonds[b, a] += 1
    return bonds


# ---------------------------------------------------------------------- sdf


def _read_sdf(path: Path) -> Iterator[Numbered]:
    block: list[str] = []
    molecule = 0
    first = 1
    for line, text in enumerate(_lines(path), 1):
        if text.startswith("$$$$"):
            molecule += 1
            where = f"{path.name}, molecule {molecule}"
            yield where, _of_block(block, where, first)
            block = []
            first = line + 1
        else:
            block.append(text)
    if any(text.strip() for text in block):
        molecule += 1
        where = f"{path.name}, molecule {molecule}"
        yield where, _of_block(block, where, first)


def _counts(block: Sequence[str], where: str, first: int) -> tuple[int, int]:
    if len(block) < 4:
        raise ValueError(f"{where}, line {first}: it is cut off before the line of counts.")
    line = block[3]
    if "V3000" in line:
        raise ValueError(f"{where} is written as V3000, which is not read: write it as V2000.")
    words = (line[:3].strip(), line[3:6].strip())
    if not all(word.isdigit() for word in words):
        raise ValueError(
            f"{where}, line {first + 3}: {line.strip()[:40]!r} stands where the numbers of atoms "
            "and bonds should."
        )
    return int(words[0]), int(words[1])


def _of_block(block: Sequence[str], where: str, first: int) -> Molecule:
    atoms, pairs = _counts(block, where, first)
    if len(block) < 4 + atoms + pairs or "M  END" not in block:
        raise ValueError(
            f"{where} is broken: it says {atoms} atoms and {pairs} bonds, and its lines end before "
            "the line 'M  END'."
        )
    numbers = np.zeros(atoms, dtype=np.int64)
    charges = np.zeros(atoms, dtype=np.int64)
    xyz = np.zeros((atoms, 3))
    unread = []
    radicals = []
    for atom in range(atoms):
        at = f"{where}, line {first + 4 + atom}"
        line = block[4 + atom]
        if len(line) < 32:
            raise ValueError(f"{at}: {line.strip()[:40]!r} is no atom of a V2000 block.")
        fields = (line[:10], line[10:20], line[20:30])
        xyz[atom] = [_number(part.strip(), at, "coordinate") for part in fields]
        numbers[atom] = _element(line[31:34].strip(), at)
        if line[34:36].strip() not in ("", "0"):
            unread.append(ISOTOPE)
        old = line[36:39].strip()
        if old == _OLD_RADICAL:
            radicals.append(f"{RADICAL}  1{atom + 1:4d}   2")
        charges[atom] = _OLD_CHARGES.get(int(old), 0) if old.isdigit() else 0
    rest = block[4 + atoms :]
    bonds = _bonds(rest[:pairs], atoms, where, first + 4 + atoms)
    told = [line for line in rest[pairs:] if line.startswith("M  CHG")]
    if told:
        charges = _values(told, atoms, where, "charge")
    elif not any(line.startswith(RADICAL) for line in rest[pairs:]):  # which replace such fields
        unread += radicals
    unread += _unread(rest[pairs:], atoms, where)
    tags = _tags(rest[pairs:], where)
    smiles = str(tags.pop("SMILES", ""))
    name = block[0].strip()
    return Molecule(numbers, bonds, charges, xyz, name, smiles, tags, unread=tuple(unread))


def _unread(lines: Sequence[str], atoms: int, where: str) -> list[str]:
    """Those before the end of the block that nothing here holds; a line of radicals that says that
    there is none is no such."""
    block = itertools.takewhile(lambda line: line != "M  END", lines)
    found = [line.strip() for line in block if line.startswith(_PROPERTY)]
    found = [line for line in found if not line.startswith("M  CHG")]
    return [
        line
        for line in found
        if not line.startswith(RADICAL) or _values([line], atoms, where, "radical").any()
    ]


def _bonds(lines: Sequence[str], atoms: int, where: str, first: int) -> np.ndarray:
    bonds = np.zeros((atoms, atoms), dtype=np.int8)
    for at, line in enumerate(lines, first):
        words = (line[:3].strip(), line[3:6].strip(), line[6:9].strip())
        if not all(word.isdigit() for word in words):
            raise ValueError(
                f"{where}, line {at}: {line.strip()[:40]!r} is no bond of a V2000 block."
            )
        one, two, code = (int(word) for word in words)
        if not (0 < one <= atoms and 0 < two <= atoms and one != two and 0 < code < 5):
            raise ValueError(
                f"{where}, line {at}: the bond {one} {two} {code} names an atom beyond {atoms}, or "
                "a type beyond 1, 2, 3 and 4 (aromatic)."
            )
        if bonds[one - 1, two - 1]:
            raise ValueError(
                f"{where}, line {at}: the bond of atoms {one} and {two} is written twice."
            )
        bonds[one - 1, two - 1] = bonds[two - 1, one - 1] = code
    return bonds


def _values(lines: Sequence[str], atoms: int, where: str, what: str) -> np.ndarray:
    """(N,) of lines that give numbers of atoms, each with a value; 0 of other atoms."""
    values = np.zeros(atoms, dtype=np.int64)
    for line in lines:
        words = line.split()[3:]
        for atom, value in zip(words[::2], words[1::2], strict=False):
            if not atom.isdigit() or not 0 < int(atom) <= atoms:
                raise ValueError(f"{where}: {line.strip()[:40]!r} names an atom beyond {atoms}.")
            values[int(atom) - 1] = int(_number(value, where, what))
    return values


def _tags(lines: Sequence[str], where: str) -> dict[str, Any]:
    """What stands below ``> <name>``: a number where it is one. ValueError where a field says two
    things."""
    found: dict[str, Any] = {}
    for place, line in enumerate(lines[:-1]):
        if not line.startswith(">") or "<" not in line:
            continue
        name = line[line.index("<") + 1 : line.rindex(">")]
        text = lines[place + 1].strip()
        try:
            value: Any = float(text)
        except ValueError:
            value = text
        if found.get(name, value) != value:
            raise ValueError(
                f"{where}: the field {name!r} is {found[name]!r} and once more {text!r}: leave one "
                "of them."
            )
        found[name] = value
    return found


# ---------------------------------------------------------------------- npz


def frames_of_npz(path: Path) -> dict[str, Any]:
    """The arrays of a file: ``offset`` (M + 1,), ``z``, ``xyz``, ``smiles``, ``index``,
    ``properties`` {name: (M,)}.

    Raises
    ------
    ValueError
        If an array is missing, or has another length than the others say.
    """
    with np.load(path, allow_pickle=False) as data:
        have = {name: data[name] for name in data.files}
    for name in ("n_atoms", "z"):
        if name not in have:
            raise ValueError(
                f"{path.name}: there is no array {name!r}; molecules need n_atoms, z, and xyz or "
                "pos_hi, pos_lo and pos_scale."
            )
    offset = np.concatenate([[0], np.cumsum(have["n_atoms"].astype(np.int64))])
    xyz = _positions(have, path)
    for name, size in (("z", len(have["z"])), ("the positions", len(xyz))):
        if size != offset[-1]:
            raise ValueError(
                f"{path.name}: n_atoms adds up to {offset[-1]:,} atoms, {name} has {size:,}."
            )
    count = len(offset) - 1
    smiles = [""] * count
    if "smiles" in have:
        raw = have["smiles"]
        smiles = raw.tolist() if raw.ndim and raw.dtype.kind == "U" else _split(raw)
    index = have.get("index", np.arange(1, count + 1))
    properties = {}
    if "props_int" in have:
        values = have["props_int"] / 10.0 ** have["props_decimals"][:, None]
        properties = dict(zip(have["prop_names"].tolist(), values, strict=True))
    return {
        "offset": offset,
        "z": have["z"].astype(np.int64),
        "xyz": xyz,
        "smiles": smiles,
        "index": index,
        "properties": properties,
    }


def _split(raw: np.ndarray) -> list[str]:
    return bytes(raw).decode().rstrip("\n").split("\n")


def _positions(have: dict[str, np.ndarray], path: Path) -> np.ndarray:
    if "xyz" in have:
        return np.asarray(have["xyz"], dtype=float)
    if not {"pos_hi", "pos_lo", "pos_scale"} <= set(have):
        raise ValueError(
            f"{path.name}: there are no positions: xyz, or pos_hi, pos_lo and pos_scale."
        )
    high = have["pos_hi"].astype(np.int16) << 8
    return np.asarray((high | have["pos_lo"].astype(np.int16)).T / float(have["pos_scale"]))


def _read_npz(path: Path) -> Iterator[Numbered]:
    """Bonds are those of the distances; where there is a string, it is kept beside them."""
    found = frames_of_npz(path)
    offset = found["offset"]
    for row in range(len(offset) - 1):
        part = slice(offset[row], offset[row + 1])
        where = f"{path.name}, molecule {row + 1}"
        plain = of_places(found["z"][part], found["xyz"][part], str(found["index"][row]))
        told = {name: float(values[row]) for name, values in found["properties"].items()}
        yield (
            where,
            replace(plain, smiles=found["smiles"][row], properties=told),
        )


READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".xyz": _read_xyz,
    ".sdf": _read_sdf,
    ".mol": _read_sdf,
    ".npz": _read_npz,
}


# ---------------------------------------------------------------------- writing


def written(molecules: Sequence[Molecule], suffix: str = ".sdf") -> str:
    """The text of a file of these molecules: .sdf with bonds, or .xyz."""
    if suffix == ".xyz":
        return "".join(map(_as_xyz, molecules))
    return "".join(map(_as_sdf, molecules))


def write_file(molecules: Sequence[Molecule], path: str | Path) -> None:
    """Write .sdf, .mol or .xyz. ValueError for another ending."""
    path = Path(path)
    if path.suffix.lower() not in (".sdf", ".mol", ".xyz"):
        raise ValueError(f"{path.name}: molecules are written as .sdf or .xyz.")
    path.write_text(written(molecules, path.suffix.lower()), encoding="utf-8")


def _as_xyz(molecule: Molecule) -> str:
    assert molecule.xyz is not None
    lines = [str(len(molecule)), molecule.smiles or molecule.name]
    pairs = zip(molecule.numbers.tolist(), molecule.xyz, strict=True)
    lines += [f"{symbol_of(n):2} {x:12.6f} {y:12.6f} {z:12.6f}" for n, (x, y, z) in pairs]
    return "\n".join(lines) + "\n"


def _as_sdf(molecule: Molecule) -> str:
    assert molecule.xyz is not None
    one, two = np.nonzero(np.triu(molecule.bonds))
    lines = [molecule.name, "  conjoin", "", _counts_line(len(molecule), len(one))]
    for number, (x, y, z) in zip(molecule.numbers.tolist(), molecule.xyz, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol_of(number):3} 0" + "  0" * 11)
    for a, b in zip(one.tolist(), two.tolist(), strict=True):
        lines.append(f"{a + 1:3d}{b + 1:3d}{int(molecule.bonds[a, b]):3d}  0")
    charged = np.flatnonzero(molecule.charges).tolist()
    for some in (charged[at : at + 8] for at in range(0, len(charged), 8)):
        pairs = "".join(f" {atom + 1:3d} {int(molecule.charges[atom]):3d}" for atom in some)
        lines.append(f"M  CHG{len(some):3d}{pairs}")
    lines.append("M  END")
    told = dict(molecule.properties) | ({"SMILES": molecule.smiles} if molecule.smiles else {})
    for name, value in told.items():
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        lines += [f"> <{name}>", text, ""]
    return "\n".join([*lines, "$$$$"]) + "\n"


def _counts_line(atoms: int, bonds: int) -> str:
    return f"{atoms:3d}{bonds:3d}  0  0  0  0  0  0  0  0999 V2000"

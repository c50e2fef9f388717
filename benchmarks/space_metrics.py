"""How molecules in space are judged: stability, validity, geometry against quantum chemistry.

    python benchmarks/space_metrics.py [MOLECULES]

prints the rows that need no model: the data, and true graphs with the geometries of rdkit's ETKDG
and of MMFF94, and what a Gaussian around MMFF's geometries says of the data. ``row_of`` judges the
draws of a model in the same way. QM9 is read from CONJOIN_DATA.

Shares have Wilson intervals of .95. "valid" is one fragment that rdkit sanitizes, by the orders of
EDM's table; "strict" is stable, valid and connected. Uniqueness and novelty go through one path:
canonical SMILES without stereochemistry; novelty is against all of QM9 at hand. Errors are mean
absolute differences of distances, in Angstrom, pair by pair, so they need geometries of true
graphs. "JS" is the Jensen-Shannon divergence of torsions of the same four elements, in nats, beside
its floor, that of two halves of the data. Strain is MMFF's energy above that of the relaxed
geometry, kcal/mol an atom, the median.
"""

import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conjoin.chemistry.elements import symbol_of
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.measures import (
    angles_at,
    internal_of,
    kind_of_bond,
    lengths_at,
    stability_of,
    torsions_at,
)
from conjoin.datasets import qm9

MIN_TORSIONS = 40  # of one kind, fewer are no histogram
BINS = 18  # of 10 degrees
MIN_LENGTHS = 30  # of one kind of bond, fewer have no spread
CONFORMERS = 8
SIGMAS = np.geomspace(0.01, 3.0, 24)  # Angstrom
EM_STEPS = 100
SEED = 0


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share with its interval (E. Wilson (1927), Probable inference)."""
    if not count:
        return math.nan, 0.0, 1.0
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return share, centre - half, centre + half


# ---------------------------------------------------------------------- graphs, by rdkit


def mol_of(molecule: Molecule, orders: np.ndarray) -> Any:
    """rdkit's molecule of these orders, sanitized; None where it is none."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    draft = Chem.RWMol()
    for number in molecule.numbers.tolist():
        draft.AddAtom(Chem.Atom(symbol_of(number)))
    kinds = (None, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    for one, two in np.argwhere(np.triu(orders)).tolist():
        draft.AddBond(one, two, kinds[int(orders[one, two])])
    try:
        Chem.SanitizeMol(draft)
    except ValueError:
        return None
    return draft.GetMol()


def canonical(mol: Any) -> str:
    """The one path by which molecules are compared."""
    from rdkit import Chem

    plain = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    again = Chem.MolFromSmiles(plain)
    return plain if again is None else Chem.MolToSmiles(again, isomericSmiles=False)


def known_strings(molecules: Sequence[Molecule]) -> set[str]:
    """The strings of molecules that are not new."""
    from rdkit import Chem

    mols = (Chem.MolFromSmiles(one.smiles) for one in molecules)
    return {canonical(mol) for mol in mols if mol is not None}


def stability_row(molecules: Sequence[Molecule], known: set[str] | None = None) -> dict[str, Any]:
    """Shares with their intervals; ``known``: strings of all molecules at hand."""
    found = [stability_of(one) for one in molecules]
    mols = [
        mol_of(one, each.orders) if each.connected else None
        for one, each in zip(molecules, found, strict=True)
    ]
    valid = [mol is not None for mol in mols]
    strings = [canonical(mol) for mol in mols if mol is not None]
    count = len(molecules)
    atoms = sum(each.atoms for each in found)
    row = {
        "atom stable": wilson(sum(each.stable_atoms for each in found), atoms),
        "molecule stable": wilson(sum(each.stable for each in found), count),
        "connected valid": wilson(sum(valid), count),
        "strict": wilson(
            sum(each.stable and ok for each, ok in zip(found, valid, strict=True)), count
        ),
        "unique": wilson(len(set(strings)), len(strings)),
    }
    if known is not None:
        row["new"] = wilson(sum(each not in known for each in set(strings)), len(set(strings)))
    return row


# ---------------------------------------------------------------------- geometry


def geometry_row(truth: Sequence[Molecule], drawn: Sequence[Molecule]) -> dict[str, float]:
    """Errors of drawn geometries of the same graphs, atom by atom."""
    errors = defaultdict(list)
    for true, one in zip(truth, drawn, strict=True):
        inside = internal_of(true)
        bond = np.abs(lengths_at(one.xyz, inside.bonds) - lengths_at(true.xyz, inside.bonds))
        errors["heavy bonds"] += bond[inside.heavy].tolist()
        errors["X-H"] += bond[~inside.heavy].tolist()
        outer = inside.angles[:, [0, 2]]
        errors["1-3"] += np.abs(lengths_at(one.xyz, outer) - lengths_at(true.xyz, outer)).tolist()
        angle = angles_at(one.xyz, inside.angles) - angles_at(true.xyz, inside.angles)
        errors["angles"] += np.abs(angle).tolist()
    row = {name: float(np.mean(each)) for name, each in errors.items()}
    return row | {"spread": spread_ratio(truth, drawn)}


def spread_ratio(truth: Sequence[Molecule], drawn: Sequence[Molecule]) -> float:
    """Standard deviation of the lengths of each kind of heavy bond, over that of the data: the mean
    over bonds."""
    each = [_lengths_by_kind(molecules) for molecules in (truth, drawn)]
    ratios = []
    weights = []
    for kind, lengths in each[0].items():
        others = each[1].get(kind, [])
        if min(len(lengths), len(others)) >= MIN_LENGTHS:
            ratios.append(np.std(others) / np.std(lengths))
            weights.append(len(lengths))
    return float(np.average(ratios, weights=weights)) if ratios else math.nan


def _lengths_by_kind(molecules: Sequence[Molecule]) -> dict[str, list[float]]:
    found = defaultdict(list)
    for one in molecules:
        inside = internal_of(one)
        heavy = inside.bonds[inside.heavy]
        for pair, length in zip(heavy.tolist(), lengths_at(one.xyz, heavy), strict=True):
            found[kind_of_bond(one, *pair)].append(float(length))
    return found


def torsions_of(molecules: Sequence[Molecule]) -> dict[tuple[int, ...], list[float]]:
    """Degrees, by the four elements."""
    found = defaultdict(list)
    for one in molecules:
        atoms = internal_of(one).torsions
        for four, value in zip(atoms, torsions_at(one.xyz, atoms), strict=True):
            key = tuple(int(number) for number in one.numbers[four])
            found[min(key, key[::-1])].append(float(value))
    return found


def divergence(one: dict[Any, list[float]], two: dict[Any, list[float]]) -> float:
    """Jensen-Shannon, nats, the mean over kinds by how often they are in the first."""
    total = 0.0
    weight = 0
    for kind, values in one.items():
        others = two.get(kind, [])
        if min(len(values), len(others)) < MIN_TORSIONS:
            continue
        p, q = (np.histogram(each, BINS, (0, 180))[0] / len(each) for each in (values, others))
        middle = (p + q) / 2
        total += len(values) * (_kl(p, middle) + _kl(q, middle)) / 2
        weight += len(values)
    return total / weight if weight else math.nan


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def torsion_row(truth: Sequence[Molecule], drawn: Sequence[Molecule]) -> dict[str, float]:
    """The divergence of drawn torsions from those of one half of the data, beside the floor, that
    of the other half: both of as many molecules."""
    half = len(truth) // 2
    first = torsions_of(truth[:half])
    floor = divergence(first, torsions_of(truth[half : 2 * half]))
    return {"JS": divergence(first, torsions_of(drawn[half : 2 * half])), "floor": floor}


# ---------------------------------------------------------------------- rdkit's geometries


def _with_places(molecule: Molecule) -> Any:
    """rdkit's molecule of the true graph, with these places."""
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    mol = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
    place = Chem.Conformer(len(molecule))
    for atom, point in enumerate(molecule.xyz.tolist()):
        place.SetAtomPosition(atom, Point3D(*point))
    mol.AddConformer(place)
    return mol


def by_rdkit(molecule: Molecule, relax: bool, count: int = 1) -> list[np.ndarray]:
    """Geometries of the graph by ETKDG, relaxed by MMFF94 where that is asked for; none where rdkit
    finds none."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
    ids = list(AllChem.EmbedMultipleConfs(mol, count, randomSeed=SEED))
    if relax and (not ids or not AllChem.MMFFHasAllMoleculeParams(mol)):
        return []
    if relax:
        AllChem.MMFFOptimizeMoleculeConfs(mol, maxIters=2000)
    return [np.array(mol.GetConformer(one).GetPositions()) for one in ids]


def strain(molecules: Sequence[Molecule]) -> float:
    """kcal/mol an atom above the relaxed geometry, the median."""
    from rdkit.Chem import AllChem

    found = []
    for one in molecules:
        mol = _with_places(one)
        properties = AllChem.MMFFGetMoleculeProperties(mol)
        if properties is None:
            continue
        field = AllChem.MMFFGetMoleculeForceField(mol, properties)
        before = field.CalcEnergy()
        field.Minimize(maxIts=2000)
        found.append((before - field.CalcEnergy()) / len(one))
    return float(np.median(found)) if found else math.nan


# ---------------------------------------------------------------------- a Gaussian around MMFF


def _aligned_squares(true: np.ndarray, model: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of squares after the best rotation, and (3, 3) how it grows with small rotations."""
    one, two = true - true.mean(0), model - model.mean(0)
    left, values, right = np.linalg.svd(one.T @ two)
    if np.linalg.det(left @ right) < 0:
        values = values * np.array([1, 1, -1])
    squares = float((one**2).sum() + (two**2).sum() - 2 * values.sum())
    return max(squares, 0.0), two.T @ two


def _log_gaussian(true: np.ndarray, model: np.ndarray, sigma: float) -> float:
    """log of the density of zero-centred places, nats, whose mean is the model's in a pose that is
    uniform over rotations: the integral by Laplace's method."""
    dimensions = 3 * (len(true) - 1)
    squares, second = _aligned_squares(true, model)
    inertia = np.eye(3) * np.trace(second) - second
    log_pose = 1.5 * math.log(2 * math.pi) + 3 * math.log(sigma) - math.log(8 * math.pi**2)
    log_pose -= 0.5 * np.linalg.slogdet(inertia)[1]
    plain = -squares / (2 * sigma**2) - dimensions * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
    return plain + min(log_pose, 0.0)


def gaussian_around_mmff(train: Sequence[Molecule], test: Sequence[Molecule]) -> dict[str, float]:
    """Mean negative log-density of test geometries, nats, in Angstrom, of an equal mixture of
    conformers and their mirror images: with the one deviation that the training molecules choose,
    and with a mixture of deviations whose weights they choose by expectation-maximisation."""
    (fit, _), (held, missed) = (_log_terms(part) for part in (train, test))
    best = int(fit.mean(0).argmax())
    weight = np.full(len(SIGMAS), 1 / len(SIGMAS))
    for _ in range(EM_STEPS):
        joint = fit + np.log(weight)
        share = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
        weight = share.mean(0).clip(1e-12)
    mixed = np.logaddexp.reduce(held + np.log(weight), axis=1)
    return {
        "NLL, one deviation": -float(held[:, best].mean()),
        "deviation": float(SIGMAS[best]),
        "NLL, a mixture of deviations": -float(mixed.mean()),
        "without a geometry": missed,
    }


def _log_terms(molecules: Sequence[Molecule]) -> tuple[np.ndarray, int]:
    """(M, S) log-densities by each deviation, and how many molecules have no geometry of MMFF."""
    out = []
    for one in molecules:
        places = by_rdkit(one, True, CONFORMERS)
        both = [*places, *(-each for each in places)]
        if both:
            terms = np.array([[_log_gaussian(one.xyz, m, s) for s in SIGMAS] for m in both])
            out.append(np.logaddexp.reduce(terms, axis=0) - math.log(len(both)))
    return np.array(out), len(molecules) - len(out)


# ---------------------------------------------------------------------- rows


def row_of(
    drawn: Sequence[Molecule],
    truth: Sequence[Molecule] | None = None,
    known: set[str] | None = None,
    with_strain: bool = True,
) -> dict[str, Any]:
    """All figures of drawn molecules; ``truth``: the molecules of the same graphs."""
    row = stability_row(drawn, known)
    if truth is not None:
        row |= geometry_row(truth, drawn) | torsion_row(truth, drawn)
    if with_strain and all(one.smiles for one in drawn):
        row["strain"] = strain(drawn)
    return row


def shown(name: str, row: dict[str, Any]) -> str:
    """One line."""
    words = [
        f"{key} {value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"
        if isinstance(value, tuple)
        else f"{key} {value:.4f}"
        for key, value in row.items()
    ]
    return f"{name}: {', '.join(words)}"


def baseline_rows(truth: Sequence[Molecule], known: set[str] | None = None) -> dict[str, Any]:
    """The rows that need no model."""
    rows = {"data": row_of(truth, truth, known)}
    for name, relax in (("ETKDG", False), ("MMFF", True)):
        places = [by_rdkit(one, relax) for one in truth]
        kept = [one for one, each in zip(truth, places, strict=True) if each]
        drawn = [replace(one, xyz=each[0]) for one, each in zip(truth, places, strict=True) if each]
        rows[name] = row_of(drawn, kept, known) | {"molecules": len(kept)}
    return rows


def main(arguments: Sequence[str]) -> None:
    count = int(arguments[0]) if arguments else 1000
    begun = time.process_time()
    data = qm9()
    print(data.told)
    order = np.random.default_rng(SEED).permutation(len(data.molecules))
    truth = [data.molecules[place] for place in order[:count]]
    for name, row in baseline_rows(truth).items():
        print(shown(name, row), flush=True)
    train = [data.molecules[place] for place in order[count : count + 200]]
    gaussian = gaussian_around_mmff(train, truth[:200])
    print(shown("Gaussian around MMFF", gaussian))
    print(f"{time.process_time() - begun:.0f} CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1:])

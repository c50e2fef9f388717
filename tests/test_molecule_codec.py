"""Molecules in space: strings, files, orders, bad input, events."""

import dataclasses
import itertools
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from conjoin.chemistry.canonical import canonical_order, graph_key
from conjoin.chemistry.distances import bonds_of_distances
from conjoin.chemistry.elements import valences_of
from conjoin.chemistry.graph import Molecule, formula
from conjoin.chemistry.strings import MAX_ATOMS, parse_smiles, write_smiles
from conjoin.codecs.kinds import codec_for, codec_from_json
from conjoin.codecs.molecule.codec import MoleculeCodec
from conjoin.codecs.molecule.faults import fault_of, fault_of_bonds
from conjoin.codecs.molecule.files import of_places, write_file, written
from conjoin.codecs.molecule.reading import read_molecules, read_numbered

WATER = "3\nwater\nO 0.000 0.000 0.117\nH 0.000 0.757 -0.469\nH 0.000 -0.757 -0.469\n"
METHANE = (
    "5\nmethane\nC 0 0 0\nH 0.629 0.629 0.629\nH -0.629 -0.629 0.629\nH -0.629 0.629 -0.629\n"
    "H 0.629 -0.629 -0.629\n"
)
STRINGS = [
    "CCO",
    "c1ccccc1",
    "c1cc[nH]c1",
    "C1CC2CC1C2",
    "[O-][N+](=O)c1ccccc1",
    "N#CC(=O)OC",
    "FC(F)(F)C#C",
    "CC(C)(C)O",
    "C12C3C4C1C5C2C3C45",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "CS(=O)(=O)N",
    "ClCCBr",
    "C[NH2+]CC([O-])=O",
    "O=C1C=CO1",
    "c1ccc2ccccc2c1",
    "c1ccc(-c2ccccc2)cc1",
    "C/C=C\\C",
    "N[C@@H](C)C(=O)O",
    "C%12CCCCC%12",
]


def turned(molecule, seed=0):
    """Another order, another pose."""
    noise = np.random.default_rng(seed)
    turn = np.linalg.qr(noise.normal(size=(3, 3)))[0]
    order = noise.permutation(len(molecule))
    plain = molecule.taken(order)
    return Molecule(
        plain.numbers, plain.bonds, plain.charges, plain.xyz @ turn + noise.normal(size=3)
    )


def in_file(folder, text, name="some.xyz"):
    path = folder / name
    path.write_text(text)
    return path


def of_sdf(folder):
    return Path(write(folder)).read_text()


def write(folder):
    water = of_places(np.array([8, 1, 1]), np.array(lines_of(WATER)))
    path = folder / "water.sdf"
    write_file([water], path)
    return path


def lines_of(frame):
    return [[float(word) for word in line.split()[1:]] for line in frame.splitlines()[2:]]


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_is_read_as_rdkit_reads_it(text):
    chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    mol = chem.AddHs(chem.MolFromSmiles(text))
    graph = parse_smiles(text)
    assert graph.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    assert graph.charges.tolist() == [atom.GetFormalCharge() for atom in mol.GetAtoms()]
    bound = chem.GetAdjacencyMatrix(mol) > 0
    assert ((graph.bonds > 0) == bound).all()


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_and_its_graph_are_one(text):
    graph = parse_smiles(text)
    again = parse_smiles(write_smiles(graph.taken(canonical_order(graph))))
    assert graph_key(again) == graph_key(graph)
    assert write_smiles(again) == write_smiles(graph.taken(canonical_order(graph)))


@pytest.mark.parametrize("text", STRINGS)
def test_no_permutation_changes_the_canonical_string(text):
    graph = parse_smiles(text)
    order = np.random.default_rng(1).permutation(len(graph))
    other = graph.taken(order)
    one, two = (each.taken(canonical_order(each)) for each in (graph, other))
    assert write_smiles(one) == write_smiles(two)
    assert (one.bonds == two.bonds).all()
    assert (one.numbers == two.numbers).all()


def test_atoms_that_only_look_alike_are_told_apart():
    """Cuneane: each carbon has three carbons beside it, but two of the eight are in no ring of
    three, so that it counts which one is named first."""
    cage = parse_smiles("C12C3C1C1C4C2C3C14")
    found = [cage.taken(np.random.default_rng(seed).permutation(len(cage))) for seed in range(12)]
    assert len({write_smiles(one.taken(canonical_order(one))) for one in found}) == 1
    assert len({graph_key(one) for one in found}) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("C(C", "a branch is left open"),
        ("C1CC", "a ring is left open"),
        ("CC=", "a bond is left open"),
        ("CX", "'X' at character 2 means nothing"),
        ("(C)", "it begins with '('"),
        ("C)C", "a branch is closed that was not opened"),
        ("FC(F)(F)(F)(F)F", "atom 2 (C) has 6 bonds"),
        ("C11", "atoms 1 and 1 are bound twice"),
        ("[Qq]", "'Qq' is no element"),
        ("C=1CCC#1", "ring 1 has two kinds of bond"),
        ("C(=)C", "the bond at character 3 leads to no atom"),
        ("C==C", "the bond at character 2 leads to no atom"),
        ("C=.C", "the bond at character 2 leads to no atom"),
        ("C=(C)C", "the bond at character 2 leads to no atom"),
        ("C()C", "the branch at character 2 begins with no atom"),
        ("C.", "a dot is left open"),
        ("[CH20000]", "atom 1 has more than 9 hydrogens"),
        ("C[CH10]", "atom 2 has more than 9 hydrogens"),
        ("[C+99999999999999999999]", "atom 1 has more than 15 charges"),
        ("[C----------------]", "atom 1 has more than 15 charges"),
        ("C" * 171, "it has more than 512 atoms, hydrogens included"),
        ("[C]" * 513, "it has more than 512 atoms, hydrogens included"),
    ],
)
def test_a_broken_string_is_refused_in_one_sentence(text, why):
    with pytest.raises(ValueError) as error:
        parse_smiles(text)
    assert str(error.value) == f"{text[:60]!r} is no molecule: {why}."


def test_the_largest_string_and_charge_are_read():
    assert len(parse_smiles("C" * 170)) == MAX_ATOMS
    assert len(parse_smiles("[C]" * MAX_ATOMS)) == MAX_ATOMS
    assert len(parse_smiles("[CH9-15]")) == 10
    assert parse_smiles("[CH009+0015]").charges[0] == 15


def odd_strings():
    """Every string of up to four of these characters behind one atom."""
    marks = "C=().1"
    every = (itertools.product(marks, repeat=size) for size in range(5))
    return ["C" + "".join(word) for words in every for word in words]


def test_odd_strings_are_molecules_where_rdkit_reads_them():
    chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    logs = pytest.importorskip("rdkit.RDLogger", reason="rdkit is not installed")
    logs.DisableLog("rdApp.*")
    for text in odd_strings():
        try:
            read = parse_smiles(text) is not None
        except ValueError as error:
            read = "bonds" in str(error)  # a valence, which rdkit judges later
        assert read == (chem.MolFromSmiles(text, sanitize=False) is not None), text
    logs.EnableLog("rdApp.*")


def test_bonds_of_distances_are_those_of_the_table():
    """C-C: single below 1.64, double below 1.39, triple below 1.23 Angstrom."""
    places = np.zeros((5, 2, 3))
    places[:, 1, 0] = [1.22, 1.38, 1.40, 1.63, 1.65]
    orders = bonds_of_distances(np.full((5, 2), 6), places)
    assert orders[:, 0, 1].tolist() == [3, 2, 1, 1, 0]
    assert bonds_of_distances(np.array([6, 0]), places[0]).tolist() == [[0, 0], [0, 0]]


def test_orders_and_poses_are_one_content(tmp_path):
    (water, methane), _ = read_molecules(in_file(tmp_path, WATER + METHANE))
    codec, rows = codec_for([water, methane, turned(methane), turned(water, 1)])
    first, second, third, fourth = rows.hashes().tolist()
    assert (first, second) == (fourth, third)
    assert first != second
    stretched = Molecule(methane.numbers, methane.bonds, methane.charges, methane.xyz * 1.01)
    assert codec.rows([stretched]).hashes()[0] != second


def test_events_of_orders_and_poses_differ_by_a_rotation(tmp_path):
    (methane,), _ = read_molecules(in_file(tmp_path, METHANE))
    codec, rows = codec_for([methane, turned(methane)])
    codec.fit(rows)
    event = codec.space.check(codec.encode(rows).event)
    one, two = event.value[:, :5, 1:4]
    assert torch.allclose(one @ one.T, two @ two.T, atol=1e-9)
    assert torch.equal(event.value[0, :, 0], event.value[1, :, 0])
    assert torch.equal(event.value[0, :, 4:], event.value[1, :, 4:])
    assert one.mean(0).abs().max() < 1e-12


def test_rounding_is_counted_once_for_each_free_coordinate(tmp_path):
    """Of two molecules whose steps are a and b Angstrom, log p differs by 3 (N - 1) log(a / b)."""
    codec, rows = codec_for(in_file(tmp_path, WATER + METHANE))
    encoded = codec.fit(rows).encode(rows)
    assert codec.resolution == 0.001
    expected = [3 * ((n - 1) * math.log(0.001) - math.log(n) / 2) for n in (3, 5)]
    assert encoded.log_volume.tolist() == pytest.approx(expected)
    fine = [Molecule(m.numbers, m.bonds, m.charges, m.xyz * math.pi / 3) for m in rows.molecules]
    codec, rows = codec_for(fine)
    assert codec.fit(rows).encode(rows).log_volume.tolist() == [0.0, 0.0]


def test_the_volume_of_a_step_is_that_of_the_projected_lattice():
    """Determinant of the lattice Z^N without its mean, in N - 1 dimensions: N^-1/2."""
    size = 4
    basis = np.linalg.svd(np.ones((1, size)))[2][1:]
    assert np.abs(np.linalg.det(basis[:, 1:])) == pytest.approx(size**-0.5)


def test_files_are_read_as_they_were_written(tmp_path):
    (water, methane), told = read_molecules(in_file(tmp_path, WATER + METHANE))
    assert told == []
    for name in ("out.sdf", "out.xyz"):
        write_file([water, methane], tmp_path / name)
        again, _ = read_molecules(tmp_path / name)
        assert [formula(one.numbers) for one in again] == ["H2O", "CH4"]
        assert np.allclose(again[1].xyz, methane.xyz)
        assert (again[0].bonds == water.bonds).all()


def test_charges_and_properties_of_an_sdf_survive(tmp_path):
    graph = parse_smiles("C[NH2+]CC([O-])=O")
    xyz = 0.05 * np.arange(3.0 * len(graph)).reshape(-1, 3)
    told = {"gap": 0.25, "note": "made up"}
    one = Molecule(graph.numbers, graph.bonds, graph.charges, xyz, "glycine", properties=told)
    write_file([one], tmp_path / "one.sdf")
    (again,), _ = read_molecules(tmp_path / "one.sdf")
    assert (again.charges == one.charges).all()
    assert (again.name, again.properties) == ("glycine", told)


def test_bonds_of_an_xyz_of_benzene_and_of_an_ion():
    """Between the lengths of two orders, the valences decide; charges where they add up."""
    chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    all_chem = pytest.importorskip("rdkit.Chem.AllChem", reason="rdkit is not installed")
    for text in ("c1ccccc1", "C[N+](=O)[O-]", "C#CC(=O)N"):
        mol = chem.AddHs(chem.MolFromSmiles(text))
        all_chem.EmbedMolecule(mol, randomSeed=0)
        all_chem.MMFFOptimizeMolecule(mol)
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        found = of_places(np.array(numbers), mol.GetConformer().GetPositions())
        written_ = write_smiles(found.taken(canonical_order(found)))
        assert chem.CanonSmiles(written_) == chem.CanonSmiles(text)


def test_rdkit_and_ase_are_read_without_importing_them(tmp_path):
    class Atoms:
        def get_atomic_numbers(self):
            return np.array([8, 1, 1])

        def get_positions(self):
            return np.array(lines_of(WATER))

    codec, rows = codec_for([Atoms()])
    assert formula(rows.molecules[0].numbers) == "H2O"
    chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    (methane,), _ = read_molecules(in_file(tmp_path, METHANE))
    mol = chem.MolFromMolBlock(written([methane]).split("$$$$")[0], removeHs=False)
    assert codec.rows([mol]).hashes() == codec.rows([methane]).hashes()


def test_hydrogens_are_placed_only_where_that_is_asked_for(tmp_path):
    pytest.importorskip("rdkit", reason="rdkit is not installed")
    bare = "3\n\nC 0 0 0\nC 1.52 0 0\nO 2.0 1.35 0\n"
    with pytest.raises(ValueError, match="hydrogens='add'"):
        read_molecules(in_file(tmp_path, bare))
    (ethanol,), told = read_molecules(in_file(tmp_path, bare), hydrogens="add")
    assert formula(ethanol.numbers) == "C2H6O"
    assert "rdkit placed 6 hydrogens in 1 of 1 molecules" in told[0]


LONG = "\n".join(f"C {1.5 * place} 0 0" for place in range(200))
BAD = {
    "missing hydrogens": (
        "2\n\nC 0 0 0\nC 1.52 0 0\n",
        "bad.xyz, molecule 1 has no hydrogens: C (atom 1) has 1 of 4 bonds; give all hydrogens, or "
        "hydrogens='add', which places them by rdkit.",
    ),
    "overlap": (
        WATER + WATER.replace("0.757 -0.469", "0.01 0.117", 1),
        "bad.xyz, molecule 2 has O (atom 1) and H (atom 2) 0.01 Angstrom apart: atoms overlap "
        "below 0.2.",
    ),
    "unknown element": (
        WATER.replace("O 0", "Xx 0"),
        "bad.xyz, molecule 1, line 3: 'Xx' is no element.",
    ),
    "unread element": (
        WATER.replace("O 0", "Fe 0"),
        "bad.xyz, molecule 1 has the element Fe (atom 1); read are H, B, C, N, O, F, Si, P, S, Cl, "
        "Br, I.",
    ),
    "fragments": (
        "6\n\n" + "\n".join(WATER.splitlines()[2:]) + "\nO 9 0 0\nH 9.9 0 0\nH 9 .9 0\n",
        "bad.xyz, molecule 1 is 2 fragments, H2O, H2O: give each as a molecule of its own, with "
        "atoms no further apart than bonds are long.",
    ),
    "one atom": (
        WATER + "1\n\nF 0 0 0\n",
        "bad.xyz, molecule 2 is the single atom F: it has no geometry.",
    ),
    "200 atoms": (
        f"200\n\n{LONG}\n",
        "bad.xyz, molecule 1 has 200 atoms; at most 128 are read.",
    ),
    "NaN": (
        WATER.replace("0.757", "nan", 1),
        "bad.xyz, molecule 1 has the coordinate y = nan at H (atom 2).",
    ),
    "no number": (
        WATER.replace("0.757", "0,757", 1),
        "bad.xyz, molecule 1, line 4: '0,757' is no number.",
    ),
    "truncated": (
        WATER + "\n".join(METHANE.splitlines()[:4]),
        "bad.xyz, molecule 2 is cut off: it says 5 atoms, and 2 lines are left.",
    ),
    "wrong number of atoms": (
        WATER.replace("3\n", "2\n", 1),
        "bad.xyz, molecule 2, line 5: 'H 0.000 -0.757 -0.469' stands where the number of atoms "
        "should: the frame before has more atoms than it says, or this is no .xyz.",
    ),
    "empty": ("", "bad.xyz holds no molecule."),
    "no atoms": ("0\nx\n", "bad.xyz, molecule 1 has 0 atoms."),
    "deuterium": (
        WATER.replace("H 0", "D 0", 1),
        "bad.xyz, molecule 1, line 4: 'D' is an isotope of hydrogen, and none is read: write H.",
    ),
}


LEFT_OUT = "; read_molecules(..., broken='skip') leaves such molecules out."
# what is wrong with the file, not with one molecule of it
OF_FILES = (
    "unknown element",
    "deuterium",
    "no number",
    "truncated",
    "wrong number of atoms",
    "empty",
)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_xyz_is_refused_in_one_sentence(tmp_path, name):
    text, words = BAD[name]
    with pytest.raises(ValueError) as error:
        codec_for(in_file(tmp_path, text, "bad.xyz"))
    assert str(error.value) in (words, words[:-1] + LEFT_OUT)
    assert str(error.value).endswith(LEFT_OUT) == (name not in OF_FILES)


BROKEN = {
    "charge": (
        ("M  END", "M  CHG  1   1   1\nM  END"),
        "bad.sdf, molecule 1 has the total charge +1; neutral molecules are read.",
    ),
    "cut off": (
        ("  1  3  1  0\nM  END\n$$$$\n", ""),
        "bad.sdf, molecule 1 is broken: it says 3 atoms and 2 bonds, and its lines end before the "
        "line 'M  END'.",
    ),
    "bond": (
        ("  1  3  1  0", "  1  9  1  0"),
        "bad.sdf, molecule 1, line 9: the bond 1 9 1 names an atom beyond 3, or a type beyond 1, "
        "2, 3 and 4 (aromatic).",
    ),
    "V3000": (
        ("V2000", "V3000"),
        "bad.sdf, molecule 1 is written as V3000, which is not read: write it as V2000.",
    ),
    "counts": (
        ("  3  2  0", "  x  2  0"),
        "bad.sdf, molecule 1, line 4: 'x  2  0  0  0  0  0  0  0  0999 V2000' stands where the "
        "numbers of atoms and bonds should.",
    ),
    "far away": (
        ("    0.0000    0.7570   -0.4690", "    0.0000 9999.0000   -0.4690"),
        "bad.sdf, molecule 1 has a bond of O (atom 1) and H (atom 2) that is 9,999.00 Angstrom "
        "long; bonds of these elements are read up to 3.18 Angstrom.",
    ),
    "order": (
        ("  1  2  1  0", "  1  2  3  0"),
        "bad.sdf, molecule 1 has O (atom 1) with bonds of orders that add up to 4; with the charge "
        "+0 they can add up to 2.",
    ),
    "aromatic": (
        ("  1  2  1  0", "  1  2  4  0"),
        "bad.sdf, molecule 1 has an aromatic bond of O (atom 1) and H (atom 2), which is in no "
        "ring.",
    ),
    "twice": (
        ("  1  3  1  0", "  2  1  1  0"),
        "bad.sdf, molecule 1, line 9: the bond of atoms 2 and 1 is written twice.",
    ),
    "radical": (
        ("M  END", "M  RAD  1   1   2\nM  END"),
        "bad.sdf, molecule 1 has unpaired electrons ('M  RAD  1   1   2'): radicals are not read.",
    ),
    "field": (
        ("M  END", "M  END\n> <gap>\n0.2\n\n> <gap>\n0.3\n"),
        "bad.sdf, molecule 1: the field 'gap' is 0.2 and once more '0.3': leave one of them.",
    ),
    "old radical": (
        (" O   0  0", " O   0  4"),
        "bad.sdf, molecule 1 has unpaired electrons ('M  RAD  1   1   2'): radicals are not read.",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sdf_is_refused_in_one_sentence(tmp_path, name):
    (old, new), words = BROKEN[name]
    text = of_sdf(tmp_path)
    assert old in text
    with pytest.raises(ValueError) as error:
        codec_for(in_file(tmp_path, text.replace(old, new, 1), "bad.sdf"))
    assert str(error.value) in (words, words[:-1] + LEFT_OUT)


def test_valences_are_those_of_element_and_charge():
    """Of ions, as of the neutral atom with as many electrons; halogens with oxygen have more."""
    found = [valences_of(*one) for one in ((7, 1), (8, 1), (8, -1), (6, -1), (5, -1), (16, 2))]
    assert found == [(4,), (3,), (1,), (3,), (4,), (4,)]
    assert valences_of(1, 1) == ()
    assert valences_of(17) == (1, 3, 5, 7)


WHOLE = (
    *STRINGS,
    "C[N+](=O)[O-]",
    "CS(=O)(=O)C",
    "C[S+](C)[O-]",
    "O[Cl](=O)(=O)=O",
    "c1ccc2ccccc2c1",
    "c1cc[nH]c1",
    "c1ccoc1",
    "c1ccc[n+]([O-])c1",
    "CP(=O)(O)O",
    "C[N-][N+]#N",
    "[C-]#[O+]",
    "B(O)(O)c1ccccc1",
)


@pytest.mark.parametrize("text", WHOLE)
def test_whole_molecules_have_no_faulty_bonds(text):
    graph = dataclasses.replace(parse_smiles(text), smiles="")
    assert fault_of(graph) == ""
    assert fault_of_bonds(graph) == ""


@pytest.mark.parametrize("text", ["[OH3]", "[NH2]", "[CH5]", "[O][H]", "C[N+]C[O-]", "[BH4]"])
def test_valences_that_no_atom_has_are_a_fault(text):
    graph = dataclasses.replace(parse_smiles(text), smiles="")
    assert "add up to" in fault_of_bonds(graph)


def test_a_strained_bond_is_read_and_a_molecule_of_python_may_have_any_length(tmp_path):
    """Files of bonds twice as long as usual are for the model to judge, and so is what it drew."""
    (water,), _ = read_molecules(in_file(tmp_path, WATER))
    strained = dataclasses.replace(water, xyz=water.xyz * 2, measured=False)
    write_file([strained], tmp_path / "strained.sdf")
    (again,), told = read_molecules(tmp_path / "strained.sdf")
    assert (again.bonds == water.bonds).all()
    assert told == []
    drawn = dataclasses.replace(water, xyz=water.xyz * 50, measured=False)
    assert len(read_molecules([drawn])[0]) == 1
    write_file([drawn], tmp_path / "drawn.sdf")
    with pytest.raises(ValueError, match=r"drawn.sdf, molecule 1 has a bond of O \(atom 1\)"):
        read_molecules(tmp_path / "drawn.sdf")


def test_what_a_file_says_and_nothing_holds_is_told_once(tmp_path):
    lines = "M  ISO  1   1  18\nM  RAD  1   1   0\nM  STY  1   1 GEN\nM  END\n> <logP>\n1.5\n"
    text = of_sdf(tmp_path).replace("M  END\n", lines)
    (one, _), told = read_molecules(in_file(tmp_path, text + text, "two.sdf"))
    assert one.properties == {"logP": 1.5}
    assert told == [
        "Lines that are not read, and of how many molecules: M  ISO of isotopes (2), M  STY (2).",
        "Graphs and places alone are modelled; fields that are kept as properties, and of how many "
        "molecules: logP (2).",
    ]


def test_numbers_are_those_of_the_file(tmp_path):
    path = in_file(tmp_path, WATER + "1\n\nF 0 0 0\n" + METHANE)
    assert read_numbered(path, broken="skip").numbers == [1, 3]


@pytest.mark.parametrize("text", ["[NH4+]", "O.O", "[OH3]"])
def test_given_is_a_molecule_that_can_be_read_back(tmp_path, text):
    codec, rows = codec_for(in_file(tmp_path, WATER + METHANE))
    codec.fit(rows)
    with pytest.raises(ValueError, match=f"given asks for {re.escape(repr(text))}, which (has|is)"):
        codec.evidence({"molecule": text})


def test_bad_molecules_can_be_left_out_and_are_told(tmp_path):
    path = in_file(tmp_path, WATER + "1\n\nF 0 0 0\n" + METHANE)
    found, told = read_molecules(path, broken="skip")
    assert len(found) == 2
    assert told == [
        "1 molecules are left out: some.xyz, molecule 2 is the single atom F: it has no geometry."
    ]


def test_an_npz_of_other_lengths_is_refused(tmp_path):
    np.savez(tmp_path / "bad.npz", n_atoms=np.array([3, 3]), z=np.array([8, 1, 1]), xyz=np.eye(3))
    with pytest.raises(ValueError, match=r"n_atoms adds up to 6 atoms, z has 3"):
        codec_for(tmp_path / "bad.npz")


def test_a_graph_alone_leaves_places_open(tmp_path):
    codec, rows = codec_for(in_file(tmp_path, WATER + METHANE))
    codec.fit(rows)
    event = codec.space.check(codec.evidence({"molecule": "C"}))
    assert event.present.sum() == 5
    assert not event.mask[0, :5, 1:4].any()
    assert event.mask[0, :5, 4:].all()
    (known,) = codec.decoded(event)
    assert known.xyz is None
    assert known.smiles == "C"
    with pytest.raises(ValueError, match="molecules of at most 6 atoms of H, C, O"):
        codec.evidence({"molecule": "CCN"})


def test_parts_that_are_not_known_are_filled(tmp_path):
    codec, rows = codec_for(in_file(tmp_path, METHANE + METHANE))
    codec.fit(rows)
    whole = rows.molecules[0]
    xyz = whole.xyz.copy()
    xyz[3:] = np.nan
    part = Molecule(whole.numbers, whole.bonds, whole.charges, xyz)
    encoded = codec.encode([part, None])
    assert encoded.event.mask[0, :, 1].tolist() == [True] * 3 + [False] * 2 + [True]
    assert encoded.event.unobserved.tolist() == [False, True]
    filled = codec.fill(codec.rows([part, None]), encoded.event.mask, [whole, whole])
    assert filled.molecules[1] is whole
    assert np.allclose(filled.molecules[0].xyz, whole.xyz)
    assert (filled.molecules[0].xyz[:3] == whole.xyz[:3]).all()


def test_elements_that_the_fit_never_saw_are_marked(tmp_path):
    codec, rows = codec_for(in_file(tmp_path, WATER + METHANE))
    codec.fit(rows)
    (other,), _ = read_molecules(
        in_file(tmp_path, WATER.replace("O 0", "S 0").replace("0.7", "1.1"))
    )
    encoded = codec.encode([other])
    assert encoded.unseen.sum() == 1
    assert encoded.log_unseen.tolist() == [pytest.approx(math.log(1e-6))]


def test_a_codec_is_saved_as_json(tmp_path):
    codec, rows = codec_for(in_file(tmp_path, WATER + METHANE))
    codec.fit(rows)
    again = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert isinstance(again, MoleculeCodec)
    assert again.to_json() == codec.to_json()
    assert again.space == codec.space
    old, new = (each.encode(rows).event.value for each in (codec, again))
    assert torch.equal(old, new)


def test_other_data_are_refused_by_a_fitted_codec(tmp_path):
    codec, _ = codec_for(in_file(tmp_path, WATER + METHANE))
    with pytest.raises(ValueError, match=r"X must be molecules in space: a file \(.sdf"):
        codec.rows(["CCO"])


@pytest.mark.skipif("CONJOIN_DATA" not in os.environ, reason="QM9 is not at hand")
def test_hundred_molecules_of_qm9_agree_with_their_strings():
    path = Path(os.environ["CONJOIN_DATA"], "molecules", "qm9_3d_mini.npz")
    if not path.is_file():
        pytest.skip("QM9 is not at hand")
    found, told = read_molecules(path, broken="skip")
    assert len(found) == 9997
    assert told[0].startswith("Of 67 molecules the SMILES and the coordinates disagree")

"""Molecules from nothing: strings by a transformer, then places by the flow, which is told the
graph of the string.

    python benchmarks/space_denovo.py strings --seconds 240 --strings strings.pt
    python benchmarks/space_denovo.py draw --weights flow.pt --strings strings.pt --draws 1000
    python benchmarks/space_denovo.py given --weights flow.pt --draws 800 --steps 10
    python benchmarks/space_denovo.py gaussian --rows 16

The strings are those of the molecules that the flow of ``space.py`` learned from (or the first
``--taught`` of them), canonical by rdkit; "new" is by these and the 2,000 held out. A draw is a
string, its graph (read without rdkit) and its places: raw, drawn once. Shares of stable and valid
molecules count strings that write no graph as failures; shares of atoms are of the molecules that
there are. ``given`` draws places for the graphs of held-out molecules: torsions and strain beside
the data's. ``gaussian`` asks a Gaussian around MMFF about the molecules of ``space.py likelihood``.
Seconds are CPU seconds of one thread.
"""

import argparse
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import space
import space_metrics
import torch
from rdkit import Chem
from torch import Tensor

from conjoin.chemistry.elements import ATOMIC_NUMBER, LEAST_CHARGE, LEVELS_OF_CHARGE
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.tokens import Vocabulary
from conjoin.core import Block, Event, Record, RecordSpace, Variable, stream
from conjoin.families.autoregressive.sequence import Sequence
from conjoin.families.molecules import GraphOfString, GraphOfStringDensity
from conjoin.nets.molecular_graph import SYMBOLS
from conjoin.training.learners import Gradient

MERGES = 256
STARTED_ROWS = 2048  # of strings, by which the network is built
STRAINED = 300  # molecules whose strain is measured
GAUSSIAN_ROWS = 200  # that choose the deviations of the Gaussian
TOGETHER = 64


def canonical_strings(data: space.Molecules, taught: np.ndarray, kept: str) -> dict[int, str]:
    """Of the molecules to learn from, and of those held out, by the one path of ``space_metrics``
    (written to ``kept`` once)."""
    rows = [*taught.tolist(), *data.test.tolist()]
    if not Path(kept).exists():
        found = (space_metrics.canonical(Chem.MolFromSmiles(data.strings[row])) for row in rows)
        Path(kept).write_text("\n".join(found))
    return dict(zip(rows, Path(kept).read_text().split("\n"), strict=True))


def tokens(vocabulary: Vocabulary, strings: list[str], length: int) -> tuple[Tensor, Tensor]:
    """(B, T) codes, and which of them there are."""
    value = torch.zeros(len(strings), length, dtype=torch.int64)
    there = torch.zeros(len(strings), length, dtype=torch.bool)
    for row, codes in enumerate(vocabulary.encode(strings)):
        value[row, : len(codes)] = torch.as_tensor(codes.astype(np.int64))
        there[row, : len(codes)] = True
    return value, there


def fit_strings(
    data: space.Molecules, rows: np.ndarray, strings: dict[int, str], given: argparse.Namespace
) -> None:
    """A transformer of the strings of these rows."""
    taught = [strings[row] for row in rows.tolist()]
    vocabulary = Vocabulary.learn(taught, MERGES)
    length = 1 + max(map(len, vocabulary.encode(taught)))
    every = [strings.get(row, "") for row in range(len(data.sizes))]
    value, there = tokens(vocabulary, every, length)
    block = Block(
        "string",
        "sequence",
        (length,),
        (Variable("token", "category", cardinality=len(vocabulary.texts)),),
    )
    config = Sequence(width=given.width, blocks=given.blocks)

    def rows_of(rows: np.ndarray) -> Event:
        own = torch.as_tensor(rows)
        cells = torch.ones_like(there[own])
        return block.check(Event(value[own], cells, there[own]))

    density = config.density.build(block, config, rows_of(rows[:STARTED_ROWS]), stream(0, "build"))
    learner: Any = Gradient(density, config.recipe(len(taught)))
    learner.begin()
    own: Any = dataclasses.replace(data, train=rows)
    batches: Any = rows_of
    space._learned(learner, own, config.batch, given.seconds, math.inf, batches)
    with learner.averaged(), torch.no_grad():
        held = [rows_of(part) for part in np.array_split(data.test, 20)]
        nats = -torch.cat([density.log_prob(part) for part in held]).mean()
        print(f"strings: {float(nats):.2f} nats each on {len(data.test)} held-out molecules")
        told = {"config": config, "structure": density.structure, "length": length}
        told |= {"vocabulary": vocabulary.to_json(), "weights": density.state_dict()}
        torch.save(told, given.strings)


def graphs(path: str, count: int) -> tuple[Event, list[str]]:
    """Drawn strings, and the codes of the graphs that they write (none: zeros)."""
    kept = torch.load(path, weights_only=False)
    vocabulary = Vocabulary.from_json(kept["vocabulary"])
    token = Variable("token", "category", cardinality=len(vocabulary.texts))
    block = Block("string", "sequence", (kept["length"],), (token,))
    density = kept["config"].density(block, kept["config"], kept["structure"])
    density.load_state_dict(kept["weights"])
    drawn = block.check(density.eval().sample(count, generator=stream(0, "strings")))
    config = GraphOfString(vocabulary.texts, SYMBOLS)
    writer = GraphOfStringDensity(space.GRAPHS, config, None, RecordSpace((block,)))
    texts = [
        "".join(vocabulary.texts[code] for code, known in zip(codes, knowns, strict=True) if known)
        for codes, knowns in zip(drawn.value.tolist(), drawn.known.tolist(), strict=True)
    ]
    return writer.sample(count, Record(string=drawn)), texts


def molecules_in(record: Record, strings: list[str]) -> list[Molecule]:
    """The molecules of a record of places and graphs."""
    numbers = np.array([ATOMIC_NUMBER[symbol] for symbol in SYMBOLS])
    points = record["molecule"]
    codes = record["graph"].value[:, 0].numpy().astype(np.int8)
    out = []
    for row, text in enumerate(strings):
        there = points.there[row, :, 0].numpy()
        size = int(there.sum())
        code = points.value[row, :size, 0].numpy().astype(int) - 1
        bonds = codes[row, :size, :size].copy()
        np.fill_diagonal(bonds, 0)
        charges = code % LEVELS_OF_CHARGE + LEAST_CHARGE
        xyz = points.value[row, :size, 1:].numpy()
        out.append(Molecule(numbers[code // LEVELS_OF_CHARGE], bonds, charges, xyz, smiles=text))
    return out


def of_data(data: space.Molecules, rows: np.ndarray) -> list[Molecule]:
    return molecules_in(space.batch(data, rows), [data.strings[row] for row in rows])


def draw(data: space.Molecules, known: set[str], given: argparse.Namespace) -> None:
    """All figures of raw draws, beside those of as many held-out molecules."""
    density = space.loaded(data, given.weights)
    began = time.process_time()
    codes, texts = graphs(given.strings, given.draws)
    read = time.process_time()
    whole = codes.value.flatten(1).any(1).nonzero()[:, 0]
    sizes = (codes.value[:, 0].diagonal(dim1=1, dim2=2) > 0).sum(1)
    whole = whole[sizes[whole].argsort(stable=True)]
    drawn = []
    for number, start in enumerate(range(0, len(whole), TOGETHER)):
        rows = whole[start : start + TOGETHER]
        told = Record(graph=codes.take(rows))
        points = density.sample(len(rows), told, generator=stream(0, "places", number))
        record = Record(molecule=points, graph=told["graph"])
        drawn += molecules_in(record, [texts[int(row)] for row in rows])
    spent = time.process_time()
    print(
        f"{given.draws} draws, {len(drawn)} write a graph; {read - began:.1f} CPU s for strings, "
        f"{spent - read:.1f} for places: {given.draws / (spent - began):.0f} a CPU second"
    )
    truth = of_data(data, data.test[: given.draws])
    for name, molecules, count in (
        ("data", truth, len(truth)),
        ("draws", drawn, given.draws),
    ):
        print(space_metrics.shown(name, shares(molecules, count, known)), flush=True)
    # in an order of their own: the draws stand by size
    mixed = [drawn[place] for place in np.random.default_rng(0).permutation(len(drawn))]
    both = min(len(mixed), len(truth))
    print(
        space_metrics.shown("torsions", space_metrics.torsion_row(truth[:both], mixed[:both])),
        flush=True,
    )
    strained(truth, mixed)


def strained(truth: list[Molecule], drawn: list[Molecule]) -> None:
    """How far above their relaxed geometry both are."""
    for name, molecules in (("data", truth), ("draws", drawn)):
        some = [each for each in molecules if readable(each)][:STRAINED]
        found = space_metrics.strain(some)
        print(f"strain of {len(some)} of the {name}: {found:.4f} kcal/mol an atom", flush=True)


def from_graphs(data: space.Molecules, given: argparse.Namespace) -> None:
    """Torsions and strain of places that are drawn for the graphs of held-out molecules."""
    density = space.loaded(data, given.weights)
    density.flow.steps = given.steps
    rows = data.test[: given.draws]
    order = np.argsort(data.sizes[rows], kind="stable")
    drawn: dict[int, Molecule] = {}
    for number, start in enumerate(range(0, len(rows), TOGETHER)):
        some = order[start : start + TOGETHER]
        told = space.graphs_of(space.batch(data, rows[some]))
        points = density.sample(len(some), told, generator=stream(0, "places", number))
        record = Record(molecule=points, graph=told["graph"])
        texts = [data.strings[row] for row in rows[some]]
        drawn |= dict(zip(some.tolist(), molecules_in(record, texts), strict=True))
    truth = of_data(data, rows)
    places = [drawn[place] for place in range(len(rows))]
    print(space_metrics.shown("torsions", space_metrics.torsion_row(truth, places)), flush=True)
    strained(truth, places)


def shares(molecules: list[Molecule], count: int, known: set[str]) -> dict[str, Any]:
    """Those of ``count`` draws, of which these are molecules."""
    row = space_metrics.stability_row(molecules, known)
    for name in ("molecule stable", "connected valid", "strict"):
        hits = round(row[name][0] * len(molecules))
        row[name] = space_metrics.wilson(hits, count)
    return row


def readable(molecule: Molecule) -> bool:
    """Whether rdkit reads the string with its atoms in our order."""
    found = space.molecule_of(molecule.smiles)
    return found is not None and [a.GetAtomicNum() for a in found.GetAtoms()] == list(
        molecule.numbers
    )


def gaussian(data: space.Molecules, rows: int) -> None:
    """-log p by a Gaussian around MMFF of the molecules that the flow is asked about."""
    train = of_data(data, data.train[:GAUSSIAN_ROWS])
    test = of_data(data, data.test[:rows])
    found = space_metrics.gaussian_around_mmff(train, test)
    print(space_metrics.shown(f"Gaussian around MMFF, {rows} molecules", found))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("strings", "draw", "given", "gaussian"))
    asked.add_argument("--data", default="../shared/data/molecules/qm9_3d.npz")
    asked.add_argument("--bonds", default="qm9_bonds.npz")
    asked.add_argument("--canonical", default="qm9_canonical.txt")
    asked.add_argument("--taught", type=int)
    asked.add_argument("--seconds", type=float, default=240)
    asked.add_argument("--width", type=int, default=128)
    asked.add_argument("--blocks", type=int, default=3)
    asked.add_argument("--strings", default="strings.pt")
    asked.add_argument("--weights", default="flow.pt")
    asked.add_argument("--draws", type=int, default=1000)
    asked.add_argument("--steps", type=int, default=10)
    asked.add_argument("--rows", type=int, default=16)
    given = asked.parse_args()
    torch.set_num_threads(1)
    data = space.read(given.data, given.bonds)
    if given.what == "gaussian":
        gaussian(data, given.rows)
        return
    if given.what == "given":
        from_graphs(data, given)
        return
    taught = data.train if given.taught is None else data.train[: given.taught]
    strings = canonical_strings(data, taught, given.canonical)
    if given.what == "strings":
        fit_strings(data, taught, strings, given)
    else:
        draw(data, set(strings.values()), given)


if __name__ == "__main__":
    main()

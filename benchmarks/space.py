"""Molecules in space, given their graph: how a flow learns, and what it is worth.

    python benchmarks/space.py fit --seconds 1800 --out flow.pt
    python benchmarks/space.py judge --weights flow.pt --rows 1000
    python benchmarks/space.py likelihood --weights flow.pt --rows 60
    python benchmarks/space.py properties --seconds 480

QM9 (../shared/data/molecules/README.md) without 2,000 molecules, drawn with seed 0, by which the
flow is judged; molecules whose string says other atoms or bonds than their geometry are left out,
and counted. Seconds are CPU seconds of one thread. Bond errors are means of |d - d_true| over pairs
of bound atoms (heavy, or with a hydrogen) and over the ends of two bonds (1-3), drawn once for each
graph, without a force field, filter or second try. rdkit reads strings and makes the rows that the
flow is compared with; the flow needs none of it.

Shape letters: B molecules, N atoms.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem
from torch import Tensor, nn

from conjoin.core import Block, Event, Record, RecordSpace, Variable, stream
from conjoin.families.diffusion.points import PointsFlow, PointsFlowDensity
from conjoin.nets.equivariant import squares
from conjoin.nets.molecular_graph import (
    LEAST_CHARGE,
    LEVELS_OF_CHARGE,
    SYMBOLS,
    MolecularGraph,
    graph_block,
)
from conjoin.training.learners import Batch, Gradient

CAPACITY = 29
HELD_OUT = 2_000
NUMBERS = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}  # atomic numbers to places in SYMBOLS
ORDERS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4}
LONGEST = (1.3, 1.9)  # Angstrom: of a bond with a hydrogen, of any other
BUCKET = 16  # batches that are sorted by size together
GRAPHS = graph_block(CAPACITY, SYMBOLS)
SPACE = Block(
    "molecule",
    "points",
    (CAPACITY, 4),
    (
        Variable("atom", "category", 1 + LEVELS_OF_CHARGE * len(SYMBOLS)),
        *(Variable(axis, "real", unit="Angstrom") for axis in "xyz"),
    ),
    centred=True,
)


@dataclass(frozen=True)
class Molecules:
    """All molecules one after the other: ``code`` and ``place`` of each atom, ``bond`` (atom, atom,
    order); where those of each molecule begin; rows that are held out, and rows to learn from."""

    code: Tensor
    place: Tensor
    bond: Tensor
    atoms: np.ndarray
    bonds: np.ndarray
    test: np.ndarray
    train: np.ndarray
    strings: list[str]
    properties: np.ndarray
    names: list[str]

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.atoms)


def read(path: str, kept: str) -> Molecules:
    """QM9, with the bonds of its strings (written to ``kept`` once: reading takes a minute)."""
    data = np.load(path)
    atoms = np.concatenate([[0], np.cumsum(data["n_atoms"].astype(int))])
    high = data["pos_hi"].astype(np.int16) << 8
    place = (high | data["pos_lo"].astype(np.int16)).T / float(data["pos_scale"])
    strings = bytes(data["smiles"]).decode().split("\n")
    if not Path(kept).exists():
        np.savez(kept, **_bonds(strings, atoms, data["z"], place))
    found = np.load(kept)
    fine = np.flatnonzero(found["ok"])
    print(
        f"{len(found['ok']) - len(fine)} of {len(found['ok'])} molecules left out: strings and "
        "geometries disagree"
    )
    order = np.random.RandomState(0).permutation(len(fine))
    elements = np.vectorize(NUMBERS.get)(data["z"])
    code = 1 + LEVELS_OF_CHARGE * elements + found["charges"].astype(int) - LEAST_CHARGE
    return Molecules(
        torch.tensor(code),
        torch.tensor(place, dtype=torch.float64),
        torch.tensor(found["bonds"].astype(int)),
        atoms,
        np.concatenate([[0], np.cumsum(found["nb"])]),
        fine[order[:HELD_OUT]],
        fine[order[HELD_OUT:]],
        strings,
        data["props_int"] / 10.0 ** data["props_decimals"][:, None],
        [str(name) for name in data["prop_names"]],
    )


def _bonds(
    strings: list[str], atoms: np.ndarray, numbers: np.ndarray, place: np.ndarray
) -> dict[str, np.ndarray]:
    RDLogger.DisableLog("rdApp.*")
    count = len(atoms) - 1
    fine = np.zeros(count, bool)
    sizes = np.zeros(count, int)
    charges = np.zeros(len(numbers), np.int8)
    every = []
    for row in range(count):
        own = slice(atoms[row], atoms[row + 1])
        found = molecule_of(strings[row])
        if found is None or [a.GetAtomicNum() for a in found.GetAtoms()] != list(numbers[own]):
            continue
        table = [
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), ORDERS[str(b.GetBondType())])
            for b in found.GetBonds()
        ]
        bonds = np.array(table).reshape(-1, 3)
        length = np.linalg.norm(place[own][bonds[:, 0]] - place[own][bonds[:, 1]], axis=1)
        light = (numbers[own][bonds[:, :2]] == 1).any(1)
        if (length > np.where(light, *LONGEST)).any():
            continue
        fine[row] = True
        sizes[row] = len(bonds)
        charges[own] = [a.GetFormalCharge() for a in found.GetAtoms()]
        every.append(bonds)
    return {
        "bonds": np.concatenate(every).astype(np.int8),
        "nb": sizes,
        "charges": charges,
        "ok": fine,
    }


def molecule_of(string: str) -> Any:
    found = Chem.MolFromSmiles(string)
    return None if found is None else Chem.AddHs(found)


def batch(data: Molecules, rows: np.ndarray) -> Record:
    """Molecules and their graphs."""
    sizes = torch.tensor(data.sizes[rows])
    width = int(sizes.max())
    there = torch.arange(width) < sizes[:, None]
    atoms = torch.cat([torch.arange(data.atoms[row], data.atoms[row + 1]) for row in rows])
    value = torch.zeros(len(rows), width, 4, dtype=torch.float64)
    value[there] = torch.cat([data.code[atoms, None].double(), data.place[atoms]], 1)
    bonds = torch.cat([data.bond[data.bonds[row] : data.bonds[row + 1]] for row in rows])
    counts = [data.bonds[row + 1] - data.bonds[row] for row in rows]
    owner = torch.tensor(np.repeat(np.arange(len(rows)), counts))
    codes = torch.zeros(len(rows), CAPACITY, CAPACITY, dtype=torch.uint8)
    first, second, order = bonds.unbind(1)
    codes[owner, first, second] = codes[owner, second, first] = order.to(torch.uint8)
    diagonal = codes.diagonal(dim1=1, dim2=2)
    diagonal[:, :width] = value[..., 0].to(torch.uint8)
    cells = torch.ones_like(value, dtype=torch.bool)
    molecules = SPACE.check(Event(value, cells, there))
    return Record(molecule=molecules, graph=Event(codes[:, None]))


def graphs_of(record: Record) -> Record:
    return record.only(["graph"])


class Told(nn.Module):
    """The density as the learner sees it: its loss given the graphs."""

    def __init__(self, density: PointsFlowDensity) -> None:
        super().__init__()
        self.density = density

    def forward(self, rows: Record, weight: Tensor, generator: torch.Generator) -> Tensor:
        loss: Tensor = self.density.loss(
            rows["molecule"], graphs_of(rows), weight=weight, generator=generator
        )
        return loss


def built(data: Molecules, config: PointsFlow) -> PointsFlowDensity:
    """The density before it learns; its scales come from 4,096 molecules."""
    rows = np.random.RandomState(1).choice(data.train, 4096, replace=False)
    first = batch(data, rows)
    return PointsFlowDensity.build(
        SPACE,
        config,
        first["molecule"],
        stream(0, "build"),
        context=graphs_of(first),
        context_space=RecordSpace((GRAPHS,)),
    )


def fit(
    data: Molecules,
    config: PointsFlow,
    seconds: float,
    minutes: float,
    out: str,
    marks: list[float],
) -> None:
    """Learn for so many CPU seconds, or minutes of the clock where these end first; the running
    mean of the weights is saved at the end, and at ``marks``, where the rate has not fallen yet."""
    density = built(data, config)
    learner: Any = Gradient(Told(density), config.recipe(len(data.train)))  # type: ignore[arg-type]
    learner.begin()
    noise = np.random.RandomState(2)
    start = time.process_time()
    clock = time.monotonic()
    losses: list[float] = []
    left = list(marks)
    size = config.batch
    progress = 0.0
    while progress < 1:
        block = noise.choice(data.train, size * BUCKET, replace=False)
        block = block[np.argsort(data.sizes[block], kind="stable")]
        for part in noise.permutation(BUCKET):
            spent = time.process_time() - start
            progress = max(spent / seconds, (time.monotonic() - clock) / (60 * minutes))
            if progress >= 1:
                break
            rows = batch(data, block[part * size : (part + 1) * size])
            ones = torch.ones(size, dtype=torch.float64)
            step = Batch(rows, ones, float(size))  # type: ignore[arg-type]
            losses.append(learner.step(step, stream(len(losses), "fit"), progress))
        if left and spent >= left[0]:
            mark = left.pop(0)
            with learner.averaged():
                torch.save(density.state_dict(), f"{out}.{mark:g}")
        if len(losses) % (BUCKET * 16) == 0:
            print(
                f"{spent:6.0f} s {len(losses):6d} steps, loss {np.mean(losses[-256:]):.4f}",
                flush=True,
            )
    print(f"{spent:.0f} CPU seconds, {len(losses)} steps of {size} molecules")
    with learner.averaged():
        torch.save(
            {"config": config, "structure": density.structure, "weights": density.state_dict()}, out
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("fit", "judge", "likelihood", "properties"))
    asked.add_argument("--data", default="../shared/data/molecules/qm9_3d.npz")
    asked.add_argument("--bonds", default="/tmp/qm9_bonds.npz")
    asked.add_argument("--seconds", type=float, default=1800)
    asked.add_argument("--minutes", type=float, default=math.inf)
    asked.add_argument("--out", default="flow.pt")
    asked.add_argument("--weights", default="flow.pt")
    asked.add_argument("--rows", type=int, default=1000)
    asked.add_argument("--marks", type=float, nargs="*", default=[180.0, 600.0])
    asked.add_argument("--settings", type=json.loads, default={})
    given = asked.parse_args()
    torch.set_num_threads(1)
    data = read(given.data, given.bonds)
    if given.what == "fit":
        plain = {"withheld": 0.0, "precision": "float32", "rate": 3e-3, **given.settings}
        fit(data, PointsFlow(**plain), given.seconds, given.minutes, given.out, given.marks)


if __name__ == "__main__":
    main()

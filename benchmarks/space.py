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
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from rdkit import Chem, RDLogger
from torch import Tensor, nn

from conjoin.core import Block, Event, Record, RecordSpace, Variable, stream
from conjoin.families.diffusion.points import PointsFlow, PointsFlowDensity
from conjoin.nets.equivariant import CloudReader, squares
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
    left = list(marks)

    def kept(spent: float) -> None:
        if left and spent >= left[0]:
            with learner.averaged():
                _save(density, f"{out}.{left.pop(0):g}")

    _learned(learner, data, config.batch, seconds, minutes, lambda rows: batch(data, rows), kept)
    with learner.averaged():
        _save(density, out)


def _save(density: PointsFlowDensity, path: str) -> None:
    whole = {"config": density.config, "structure": density.structure}
    torch.save({**whole, "weights": density.state_dict()}, path)


def _learned(
    learner: Any,
    data: Molecules,
    size: int,
    seconds: float,
    minutes: float,
    rows_of: Callable[[np.ndarray], Record],
    after: Callable[[float], None] = lambda spent: None,
) -> list[float]:
    """The losses of steps on batches of molecules of about one size each."""
    noise = np.random.RandomState(2)
    start = time.process_time()
    clock = time.monotonic()
    losses: list[float] = []
    progress = 0.0
    while progress < 1:
        block = noise.choice(data.train, size * BUCKET, replace=False)
        block = block[np.argsort(data.sizes[block], kind="stable")]
        for part in noise.permutation(BUCKET):
            spent = time.process_time() - start
            progress = max(spent / seconds, (time.monotonic() - clock) / (60 * minutes))
            if progress >= 1:
                break
            rows = rows_of(block[part * size : (part + 1) * size])
            ones = torch.ones(size, dtype=torch.float64)
            step = Batch(rows, ones, float(size))  # type: ignore[arg-type]
            losses.append(learner.step(step, stream(len(losses), "fit"), progress))
        after(spent)
        if len(losses) % (BUCKET * 16) == 0:
            print(
                f"{spent:6.0f} s {len(losses):6d} steps, loss {np.mean(losses[-256:]):.4f}",
                flush=True,
            )
    print(f"{spent:.0f} CPU seconds, {len(losses)} steps of {size} molecules", flush=True)
    return losses


def loaded(data: Molecules, path: str) -> PointsFlowDensity:
    """A density with the weights of ``fit``."""
    kept = torch.load(path, weights_only=False)
    density = PointsFlowDensity(SPACE, kept["config"], kept["structure"], RecordSpace((GRAPHS,)))
    own = density.state_dict()
    density.load_state_dict({name: kept["weights"][name] for name in own})
    return density.eval()


# ------------------------------------------------------------------------------------- geometry


def pairs_of(record: Record) -> dict[str, Tensor]:
    """(B, N, N) pairs, each once: bonds of heavy atoms, with a hydrogen, ends of two bonds."""
    width = record["molecule"].value.shape[1]
    codes = record["graph"].value[:, 0].long()
    graph = MolecularGraph.from_codes(codes[:, None])
    paths = graph.path_lengths(2)[:, :width, :width]
    light = graph.elements[:, :width] == NUMBERS[1]
    light = light[:, :, None] | light[:, None]
    once = torch.ones(width, width, dtype=torch.bool).triu(1)
    return {
        "heavy": (paths == 1) & ~light & once,
        "X-H": (paths == 1) & light & once,
        "1-3": (paths == 2) & once,
    }


def distances(event: Event) -> Tensor:
    return squares(event.value[..., 1:]).clamp_min(1e-12).sqrt()


def judge(data: Molecules, density: PointsFlowDensity, rows: int, steps: int) -> None:
    """Bond errors, the spread of bond lengths beside the data's, and the time of a draw."""
    density.flow.steps = steps
    order = data.test[:rows]
    order = order[np.argsort(data.sizes[order], kind="stable")]
    off: dict[str, list[Tensor]] = {}
    lengths: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
    seconds = 0.0
    for number, start in enumerate(range(0, rows, 64)):
        record = batch(data, order[start : start + 64])
        began = time.process_time()
        drawn = density.sample(record.rows, graphs_of(record), generator=stream(0, "draw", number))
        seconds += time.process_time() - began
        width = record["molecule"].value.shape[1]
        found = distances(drawn)[:, :width, :width]
        true = distances(record["molecule"])
        code = record["molecule"].value[..., 0].long()
        for name, which in pairs_of(record).items():
            off.setdefault(name, []).append((found - true).abs()[which])
        bond = record["graph"].value[:, 0, :width, :width].long()
        for one in pairs_of(record)["heavy"].nonzero().unbind(0):
            row, first, second = one.tolist()
            ends = sorted((int(code[row, first]), int(code[row, second])))
            key = (*ends, int(bond[row, first, second]))
            lengths.setdefault(key, []).append(
                (found[row, first, second], true[row, first, second])
            )
    errors = {name: round(float(torch.cat(each).mean()), 4) for name, each in off.items()}
    spread = [
        float(torch.tensor(each)[:, 0].std() / torch.tensor(each)[:, 1].std())
        for each in lengths.values()
        if len(each) >= 100
    ]
    print(
        f"{steps} steps, {rows} molecules: errors {errors}; spread of the lengths of "
        f"{len(spread)} kinds of bonds {np.median(spread):.2f} "
        f"({min(spread):.2f} to {max(spread):.2f}) of the data's; "
        f"{rows / seconds:.0f} molecules a CPU second",
        flush=True,
    )


def expected(data: Molecules, density: PointsFlowDensity, rows: int) -> None:
    """Errors of the distances that the graph alone lets expect."""
    off: dict[str, list[Tensor]] = {}
    for start in range(0, rows, 64):
        record = batch(data, data.test[start : start + 64])
        seen = density._rows_of(record["molecule"], graphs_of(record))
        with torch.no_grad():
            mean = density._tell(seen, density.flow.net).expected[..., 0] * density.unit
        for name, which in pairs_of(record).items():
            found = (mean - distances(record["molecule"])).abs()[which]
            off.setdefault(name, []).append(found)
    errors = {name: round(float(torch.cat(each).mean()), 4) for name, each in off.items()}
    print(f"expected from the graph alone: {errors}")


def likelihood(data: Molecules, density: PointsFlowDensity, rows: int) -> None:
    """-log p of held-out geometries given their graph, nats in the 3 N - 3 free directions; in
    float32, whose rounding is far below a nat, and again with the solver's steps doubled."""
    density.flow.float()
    found = _surprise(data, density, data.test[:rows])
    free = 3.0 * (torch.tensor(data.sizes[data.test[:rows]]) - 1)
    deviation = float(found.std()) / rows**0.5
    print(
        f"-log p of {rows} molecules: {float(found.mean()):.2f} +- {deviation:.2f} nats each, "
        f"{float((found / free).mean()):.3f} a free direction, the worst "
        f"{float((found / free).max()):.3f}",
        flush=True,
    )
    some = max(1, rows // 4)
    density.flow.solver *= 2
    again = _surprise(data, density, data.test[:some])
    apart = float((again - found[:some]).abs().max())
    print(f"with twice the steps {some} of them change by at most {apart:.3f} nats")


def _surprise(data: Molecules, density: PointsFlowDensity, rows: np.ndarray) -> Tensor:
    record = batch(data, rows)
    return -density.log_prob(record["molecule"], graphs_of(record))


# ------------------------------------------------------------------------------------ properties

PROPERTIES = {"gap": ("gap", 27.211386), "mu": ("dipole", 1.0), "alpha": ("polariz", 1.0)}
MIN_ENVIRONMENT = 50  # molecules with an environment that counts
RIDGE = 1.0


def environments(data: Molecules) -> Any:
    """A sparse (B, E) matrix: how often each atom with its bound neighbours occurs in a molecule,
    beside the number of atoms of each code."""
    noise = np.random.RandomState(3)
    alone = noise.randint(1 << 60, size=64, dtype=np.int64)
    near = noise.randint(1 << 40, size=(5, 64), dtype=np.int64)
    code = data.code.numpy()
    key = alone[code]
    count = np.diff(data.bonds)
    first = data.bond + torch.tensor(np.repeat(data.atoms[:-1], count))[:, None]
    ends = first[:, :2].numpy()
    order = data.bond[:, 2].numpy()
    np.add.at(key, ends[:, 0], near[order, code[ends[:, 1]]])
    np.add.at(key, ends[:, 1], near[order, code[ends[:, 0]]])
    owner = np.repeat(np.arange(len(data.sizes)), data.sizes)
    _, found = np.unique(key, return_inverse=True)
    table = scipy.sparse.coo_matrix((np.ones(len(key)), (owner, found))).tocsr()
    common = np.asarray((table > 0).sum(0))[0] >= MIN_ENVIRONMENT
    atoms = scipy.sparse.coo_matrix((np.ones(len(key)), (owner, code))).tocsr()
    return scipy.sparse.hstack([table[:, common], atoms]).tocsr()


def targets_of(data: Molecules) -> np.ndarray:
    """(B, 3) gap in eV, dipole in Debye, polarizability in Bohr cubed."""
    places = []
    for word, factor in PROPERTIES.values():
        name = next(n for n in data.names if word in n.lower())
        scale = factor if "eV" not in name else 1.0
        places.append(data.properties[data.names.index(name)] * scale)
    return np.stack(places, 1)


def ridge(table: Any, wanted: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(B, 3) by ridge regression on the training rows."""
    ones = scipy.sparse.hstack([table, np.ones((table.shape[0], 1))]).tocsr()
    x = ones[train]
    gram = (x.T @ x).toarray() + RIDGE * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ wanted[train])
    return np.asarray(ones @ weight)


class Lesson(nn.Module):
    """The reader as the learner sees it: the mean absolute error of what is left to learn, in its
    deviations."""

    def __init__(self, density: PointsFlowDensity) -> None:
        super().__init__()
        self.reader = CloudReader(density.flow.net, len(PROPERTIES))
        self.density = [density]  # not as a module: its own head does not learn here

    def read(self, record: Record) -> Tensor:
        density = self.density[0]
        rows = density._rows_of(record["molecule"], graphs_of(record))
        points, pairs = density._inputs(rows)
        noise = torch.full((record.rows,), density.config.blur)
        found: Tensor = self.reader(rows.x, points, pairs, rows.told, rows.present, noise)
        return found

    def forward(self, rows: Record, weight: Tensor, generator: torch.Generator) -> Tensor:
        return (self.read(rows) - rows["left"].value).abs().mean()


def properties(data: Molecules, density: PointsFlowDensity, seconds: float, minutes: float) -> None:
    """gap, mu and alpha of 1,000 held-out molecules: ridge on counts of environments, and the
    flow's own network, which learns what these leave (of mu, all of it)."""
    wanted = targets_of(data)
    base = ridge(environments(data), wanted, data.train)
    test = data.test[:1000]
    told = dict(zip(PROPERTIES, np.abs(base - wanted)[test].mean(0).round(4), strict=True))
    print(f"ridge: mean absolute errors {told}", flush=True)
    base[:, list(PROPERTIES).index("mu")] = 0.0
    spread = np.abs(wanted - base)[data.train].mean(0)
    left = torch.tensor((wanted - base) / spread)
    lesson = Lesson(density)
    config = dataclasses.replace(density.config, rate=2e-3, batch=64)
    learner: Any = Gradient(lesson, config.recipe(len(data.train)))  # type: ignore[arg-type]
    learner.begin()

    def lessons(rows: np.ndarray) -> Record:
        return Record({**batch(data, rows), "left": Event(left[rows])})

    losses = _learned(learner, data, config.batch, seconds, minutes, lessons)
    learner._swap()
    learner.end()
    lesson.eval()
    with torch.no_grad():
        each = [lesson.read(batch(data, rows)) for rows in np.array_split(test, 20)]
    found = torch.cat(each).numpy() * spread + base[test]
    told = dict(zip(PROPERTIES, np.abs(found - wanted[test]).mean(0).round(4), strict=True))
    print(f"network after {len(losses)} steps of {config.batch}: mean absolute errors {told}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("fit", "judge", "likelihood", "properties"))
    asked.add_argument("--data", default="../shared/data/molecules/qm9_3d.npz")
    asked.add_argument("--bonds", default="qm9_bonds.npz")
    asked.add_argument("--seconds", type=float, default=1800)
    asked.add_argument("--minutes", type=float, default=math.inf)
    asked.add_argument("--out", default="flow.pt")
    asked.add_argument("--weights", default="flow.pt")
    asked.add_argument("--rows", type=int, default=1000)
    asked.add_argument("--marks", type=float, nargs="*", default=[180.0, 600.0])
    asked.add_argument("--steps", type=int, nargs="*", default=[10, 50])
    asked.add_argument("--settings", type=json.loads, default={})
    given = asked.parse_args()
    torch.set_num_threads(1)
    data = read(given.data, given.bonds)
    if given.what == "fit":
        plain = {"withheld": 0.0, "precision": "float32", "rate": 3e-3, **given.settings}
        fit(data, PointsFlow(**plain), given.seconds, given.minutes, given.out, given.marks)
        return
    density = loaded(data, given.weights)
    if given.what == "judge":
        expected(data, density, given.rows)
        for steps in given.steps:
            judge(data, density, given.rows, steps)
    elif given.what == "likelihood":
        likelihood(data, density, given.rows)
    else:
        properties(data, density, given.seconds, given.minutes)


if __name__ == "__main__":
    main()

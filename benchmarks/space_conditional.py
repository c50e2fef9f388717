"""Molecules of a wanted property, judged by a network that has not seen what chose them.

    python benchmarks/space_conditional.py --weights flow.pt --strings strings.pt --property gap

The learned half of QM9 (``space.py``) is cut in two. A network that begins as the flow's learns the
property y from one part, and gives p(y | molecule); another learns from the other part, and judges.
Proposals are raw draws (a string, its graph, its places), and molecules for the y of held-out
molecules are chosen among them by p(y | molecule), as the library does
(``conjoin.joints.resampling``). Strings that write no graph are no proposals, and are counted. The
error is the mean of |y that is asked for - y by the judge|, whose own error on held-out molecules
is printed, as is the error of proposals that nobody chose. E. Hoogeboom et al. (2022) have so 655
meV of the gap, 1.11 D of the dipole and 2.76 Bohr^3 of the polarizability. Seconds are CPU seconds
of one thread.
"""

import argparse
import math
import time
from typing import Any

import numpy as np
import space
import space_denovo
import torch
from torch import Tensor, nn

from conjoin.chemistry.environments import environment_keys
from conjoin.core import Event, Record, stream
from conjoin.joints.resampling import _without_replacement
from conjoin.nets.equivariant import CloudReader
from conjoin.predictors.geometry import _ridge, counts_of
from conjoin.training.learners import Gradient

COUNTED = 10_000  # molecules by which ridge regression learns
LEARNED = 60_000  # molecules that a network may see
MIN_ENVIRONMENT = 20
TOGETHER = 64
UNITS = {"gap": ("meV", 1000.0), "mu": ("D", 1.0), "alpha": ("Bohr^3", 1.0)}


class Property(nn.Module):
    """A property: what ridge regression on counts of environments says, and what a network that
    begins as the flow's adds to it."""

    def __init__(self, density: Any) -> None:
        super().__init__()
        self.reader = CloudReader(density.flow.net, 1)
        self.density = [density]

    def count(self, record: Record, y: Tensor) -> None:
        keys = environment_keys(record["graph"].value[:, 0].long())
        found, often = keys[keys != 0].unique(return_counts=True)
        self.keys = found[often >= MIN_ENVIRONMENT]
        table = counts_of(keys, self.keys)
        self.weight, self.bias = _ridge(table, y, torch.ones(len(y), dtype=torch.float64))
        self.scale = float((table @ self.weight + self.bias - y).abs().mean())

    def of_counts(self, record: Record) -> Tensor:
        keys = environment_keys(record["graph"].value[:, 0].long())
        return counts_of(keys, self.keys) @ self.weight + self.bias

    def read(self, record: Record) -> Tensor:
        density = self.density[0]
        rows = density._rows_of(record["molecule"], space.graphs_of(record))
        points, pairs = density._inputs(rows)
        noise = torch.full((record.rows,), density.config.blur)
        found: Tensor = self.reader(rows.x, points, pairs, rows.told, rows.present, noise)
        return found[:, 0]

    def forward(self, rows: Record, weight: Tensor, generator: torch.Generator) -> Tensor:
        return (self.read(rows) - rows["left"].value).abs().mean()

    def say(self, records: list[Record]) -> np.ndarray:
        with torch.no_grad():
            parts = [self.of_counts(each) + self.scale * self.read(each) for each in records]
        return torch.cat(parts).numpy()


def learned(
    data: space.Molecules, weights: str, rows: np.ndarray, wanted: np.ndarray, seconds: float
) -> Property:
    """A reader of the property, from these rows."""
    density = space.loaded(data, weights)
    out = Property(density)
    some = rows[:COUNTED]
    out.count(space.batch(data, some), torch.tensor(wanted[some]))
    config = density.config.set_params(rate=2e-3, batch=64)
    learner: Any = Gradient(out, config.recipe(len(rows)))  # type: ignore[arg-type]
    learner.begin()

    def lesson(part: np.ndarray) -> Record:
        record = space.batch(data, part)
        left = (torch.tensor(wanted[part]) - out.of_counts(record)) / out.scale
        return Record({**record, "left": Event(left)})

    own: Any = space.dataclasses.replace(data, train=rows[:LEARNED])
    space._learned(learner, own, config.batch, seconds, math.inf, lesson)
    learner._swap()
    learner.end()
    return out.eval()


def proposals(density: Any, strings: str, count: int) -> list[Record]:
    """Raw draws that are molecules, in parts of about one size."""
    codes, _ = space_denovo.graphs(strings, count)
    whole = codes.value.flatten(1).any(1).nonzero()[:, 0]
    sizes = (codes.value[:, 0].diagonal(dim1=1, dim2=2) > 0).sum(1)
    whole = whole[(sizes[whole] > 1)]
    whole = whole[sizes[whole].argsort(stable=True)]
    out = []
    for number, rows in enumerate(whole.split(TOGETHER)):
        told = Record(graph=codes.take(rows))
        points = density.sample(len(rows), told, generator=stream(0, "places", number))
        out.append(Record(molecule=points, graph=told["graph"]))
    print(f"{count} draws, {len(whole)} of them molecules", flush=True)
    return out


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", default="../shared/data/molecules/qm9_3d.npz")
    asked.add_argument("--bonds", default="qm9_bonds.npz")
    asked.add_argument("--strings", default="strings.pt")
    asked.add_argument("--weights", default="flow.pt")
    asked.add_argument("--seconds", type=float, default=60)
    asked.add_argument("--rows", type=int, default=200)
    asked.add_argument("--per-row", type=int, default=16)
    asked.add_argument("--property", choices=tuple(UNITS), default="gap")
    given = asked.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    unit, scale = UNITS[given.property]
    data = space.read(given.data, given.bonds)
    y = space.targets_of(data)[:, list(space.PROPERTIES).index(given.property)]
    halves = np.array_split(np.random.default_rng(0).permutation(data.train), 2)
    chooser, judge = (learned(data, given.weights, half, y, given.seconds) for half in halves)
    held = [space.batch(data, part) for part in np.array_split(data.test[:1000], 20)]
    errors = [np.abs(each.say(held) - y[data.test[:1000]]) for each in (chooser, judge)]
    print(
        f"1,000 held-out molecules: the network that chooses is off by "
        f"{scale * errors[0].mean():.3g} {unit}, the judge by {scale * errors[1].mean():.3g}",
        flush=True,
    )
    density = space.loaded(data, given.weights)
    drawn = proposals(density, given.strings, given.rows * given.per_row)
    guess, judged = (torch.tensor(each.say(drawn)) for each in (chooser, judge))
    wanted = torch.tensor(y[data.test[1000 : 1000 + given.rows]])
    # the law of the errors of the network that chooses: Laplace's, of their mean
    log_weight = -(wanted[:, None] - guess).abs() / float(errors[0].mean())
    place = _without_replacement(log_weight, stream(0, "choice"))
    off = scale * (judged[place] - wanted).abs()
    alone = scale * (judged[torch.randperm(len(judged))[: len(wanted)]] - wanted).abs()
    share = log_weight.softmax(1)
    print(
        f"{given.property} of {len(wanted)} molecules wanted, {len(guess) / len(wanted):.1f} "
        f"proposals each: the judge finds them off by {float(off.mean()):.3g} "
        f"+- {float(off.std()) / len(off) ** 0.5:.2g} {unit} (median {float(off.median()):.3g}); "
        f"plain draws {float(alone.mean()):.3g}; {len(place.unique())} different ones; effective "
        f"proposals of a row {float((1 / share.square().sum(1)).mean()):.0f}; "
        f"{time.process_time() - began:.0f} CPU s"
    )


if __name__ == "__main__":
    main()

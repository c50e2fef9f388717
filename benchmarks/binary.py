"""The binary tables of the density estimation literature, official splits: exact test nats of each
family, defaults.

    python benchmarks/binary.py [--tables nltcs,plants,dna]
        [--families circuit,mixture,autoregressive] [--seeds 1]

The validation rows stop the fit; the test rows are asked once. One thread, CPU seconds of the fit;
medians of the seeds.
"""

import argparse
import statistics
import time

import torch

from conjoin.core import Event, Space, Variable, stream
from conjoin.datasets import load_binary
from conjoin.families import resolve
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

CHUNK = 1024


def nats(family, parts, seed):
    """Mean log p of validation and test rows, and CPU seconds of the fit."""
    size = parts["train"].shape[1]
    space = Space((size,), tuple(Variable(f"x{d}", "category", cardinality=2) for d in range(size)))
    fit, choose, test = (
        Event(torch.as_tensor(parts[name]).double()) for name in ("train", "valid", "test")
    )
    started = time.process_time()
    config = resolve(family)
    density = config.density.build(space, config, fit, stream(seed, "build"))
    train(density, fit, torch.ones(fit.rows).double(), choose, Plan(seed=seed), Progress())
    seconds = time.process_time() - started
    with torch.no_grad():
        held, asked = (
            torch.cat([density.log_prob(Event(rows)) for rows in part.value.split(CHUNK)]).mean()
            for part in (choose, test)
        )
    return float(held), float(asked), seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default="nltcs,plants,dna,jester,accidents,bnetflix")
    parser.add_argument("--families", default="circuit,mixture,autoregressive")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.tables.split(","):
        parts = load_binary(name)
        for family in arguments.families.split(","):
            runs = [nats(family, parts, seed) for seed in range(arguments.seeds)]
            held, asked, seconds = (statistics.median(column) for column in zip(*runs, strict=True))
            print(
                f"{name:10} {family:16} valid {held:9.3f}   test {asked:9.3f}   {seconds:6.1f} "
                "CPU s",
                flush=True,
            )


if __name__ == "__main__":
    main()

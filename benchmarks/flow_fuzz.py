"""Small fits on random tables, looking for a loss or an answer that is not finite.

    python benchmarks/flow_fuzz.py [--fits 30] [--family flow] [--seed 0]

Each table has 3 to 60 rows and 1 to 6 columns of random kinds and scales, with constants, ties,
outliers up to 1e6, and some cells missing. Prints one line for each failure and a count at the end;
exit code 1 if any.
"""

import argparse
import sys

import torch

from conjoin.core import Event, Space, Variable, stream
from conjoin.families import resolve
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fits", type=int, default=30)
    parser.add_argument("--family", default="flow")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        problem
        for index in range(arguments.fits)
        for problem in trial(arguments.family, arguments.seed + index)
    ]
    for problem in found:
        print(problem)
    print(f"{arguments.fits} fits of {arguments.family}, {len(found)} failures")
    sys.exit(bool(found))


def trial(family: str, seed: int) -> list[str]:
    space, event = table(stream(seed, "table"))
    config = resolve(family)
    try:
        density = config.density.build(space, config, event, stream(seed, "build"))
        trained = train(
            density,
            event,
            torch.ones(event.rows).double(),
            None,
            Plan(seed=seed, steps=40),
            Progress(),
        )
        with torch.no_grad():
            answer = density.log_prob(event)
        draws = density.sample(20, generator=stream(seed, "draws")).value
    except Exception as error:  # any exception is a finding
        return [f"seed {seed}: {type(error).__name__}: {error}"]
    parts = {
        "loss": torch.tensor([loss for _, loss, _ in trained.history]),
        "log_prob": answer,
        "draws": draws,
    }
    return [
        f"seed {seed}: {name} is not finite"
        for name, value in parts.items()
        if not torch.isfinite(value).all()
    ]


def table(noise: torch.Generator) -> tuple[Space, Event]:
    rows, size = (
        int(torch.randint(low, high, (), generator=noise)) for low, high in ((3, 61), (1, 7))
    )
    columns = [column(f"x{d}", rows, noise) for d in range(size)]
    value = torch.stack([values for _, values in columns], 1)
    observed = torch.rand(value.shape, generator=noise) > 0.1
    return Space((size,), tuple(variable for variable, _ in columns)), Event(
        torch.where(observed, value, 0.0), observed
    )


def column(name: str, rows: int, noise: torch.Generator) -> tuple[Variable, torch.Tensor]:
    kind = int(torch.randint(0, 6, (), generator=noise))
    plain = torch.randn(rows, generator=noise, dtype=torch.float64)
    if kind == 0:
        return Variable(name, "category", cardinality=3), torch.randint(
            0, 3, (rows,), generator=noise
        ).double()
    if kind == 1:
        return Variable(name, "integer", resolution=1.0), (3 * plain).round()
    if kind == 2:
        return Variable(name, "real", resolution=0.01), (plain / 0.01).round() * 0.01
    if kind == 3:
        return Variable(name, "real"), torch.where(plain > 1.5, 1e6, plain)
    if kind == 4:
        return Variable(name, "real"), torch.zeros(rows, dtype=torch.float64)
    return Variable(name, "real"), plain.exp()


if __name__ == "__main__":
    main()

"""The coupling flow beside zuko's neural spline flow, at equal size: one process, one thread,
medians of CPU seconds.

    pip install --target zuko-home --no-deps zuko==1.4.1
    python benchmarks/flow_speed.py --zuko zuko-home [--columns 64] [--repeats 9]

Both have three transforms with networks of two hidden layers of 64, eight bins, float32. A training
step is the forward and backward pass of 256 rows and the optimiser's step; log_prob and samples are
of 2,048 rows.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from conjoin.families.flow.coupling import FlowNet

BATCH = 256
ROWS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zuko", default=None, help="a folder that zuko was installed into")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.zuko:
        sys.path.append(arguments.zuko)
    torch.manual_seed(0)
    flows = {"conjoin coupling": ours(arguments.columns)} | theirs(arguments.columns)
    print(
        f"{'flow':24} {'parameters':>10} {'step, ms':>10} {'log_prob, rows/s':>17} "
        f"{'samples, rows/s':>16}"
    )
    for name, (module, log_prob, sample) in flows.items():
        calls = (
            training(module, log_prob, arguments.columns),
            *asked(log_prob, sample, arguments.columns),
        )
        step, ask, draw = (seconds(call, arguments.repeats) for call in calls)
        size = sum(parameter.numel() for parameter in module.parameters())
        print(
            f"{name:24} {size:10,d} {1e3 * step:10.1f} {ROWS / ask:17,.0f} {ROWS / draw:16,.0f}",
            flush=True,
        )


def ours(columns: int) -> tuple:
    """Six couplings bend each number three times by what others say, as three autoregressive
    transforms do."""
    net = FlowNet(columns, 0, layers=3, width=64, blocks=1, bins=8).float()
    return (
        net,
        lambda x: net.compute(x, x[:, :0]),
        lambda n: net.inverse_map(torch.randn(n, columns), torch.zeros(n, 0)),
    )


def theirs(columns: int) -> dict[str, tuple]:
    try:
        import zuko
    except ImportError:
        return {}
    flow = zuko.flows.NSF(columns, transforms=3, bins=8, hidden_features=(64, 64))
    pairs = zuko.flows.NSF(columns, transforms=3, bins=8, hidden_features=(64, 64), passes=2)
    return {
        "zuko NSF": (flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))),
        "zuko NSF coupling": (pairs, lambda x: pairs().log_prob(x), lambda n: pairs().sample((n,))),
    }


def training(module: torch.nn.Module, log_prob: Callable, columns: int) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    x = torch.randn(BATCH, columns)

    def step() -> None:
        optimizer.zero_grad()
        (-log_prob(x).mean()).backward()
        optimizer.step()

    return step


def asked(
    log_prob: Callable, sample: Callable, columns: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    x = torch.randn(ROWS, columns)

    def ask() -> None:
        with torch.no_grad():
            log_prob(x)

    def draw() -> None:
        with torch.no_grad():
            sample(ROWS)

    return ask, draw


def seconds(call: Callable[[], None], repeats: int) -> float:
    """The median time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()

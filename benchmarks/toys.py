"""Every family with its defaults on points of the plane: is each near the best of them?

    python benchmarks/toys.py [--toys moons,rings] [--families flow,diffusion] [--rows 2000]
        [--seeds 1]

``JointDensity(family=..., measure="density", random_state=seed)`` is fitted to so many rows, of
which it takes its own validation and calibration rows, and judged by the mean log p (nats) of fresh
rows. An energy is relative: its log p is divided by the sum over a grid around the rows. "near"
says whether a family is as near to the best one as was asked: .05 nats for flow, autoregressive and
absorbing diffusion, .15 for the other deep families; the classics, which can't bend, are there to
compare. Limit of time: 60 CPU seconds of the fit. Lower bounds and approximations are printed as
what they are. Means over the seeds; settings were chosen on the rows of other seeds (100).
"""

import argparse
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch

from conjoin import JointDensity
from conjoin.datasets import TOYS, toy
from conjoin.families import FAMILIES, of_tables

NEAR = {"flow": 0.05, "autoregressive": 0.05, "absorbing_diffusion": 0.05}
NEAR_DEEP = 0.15  # nats, of the other families of networks
DEEP_KINDS = ("autoregressive", "flow", "latent", "diffusion", "energy", "circuit")
NOT_HERE = ("integer_flow",)  # takes no real numbers
MAX_FIT_SECONDS = 60
FRESH_ROWS = 2000
FRESH_SEED = 10_000  # added to the seed of the rows of the fit
GRID_SIDE = 200
GRID_MARGIN = 0.25  # of the range of the rows, on every side


def near(family):
    """How many nats from the best family are allowed; None for the classics."""
    return NEAR.get(family, NEAR_DEEP if FAMILIES[family].map in DEEP_KINDS else None)


def log_total(model, frame):
    """log of the sum of p over a grid around the rows: what a relative log p lacks."""
    low = frame.min()
    high = frame.max()
    margin = GRID_MARGIN * (high - low)
    axes = [
        np.linspace(low[name] - margin[name], high[name] + margin[name], GRID_SIDE)
        for name in frame
    ]
    cells = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)
    log_p = model.score_samples(pd.DataFrame(cells, columns=frame.columns))
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    return np.logaddexp.reduce(log_p) + np.log(cell)


def measured(family, name, rows, seed):
    """Mean log p of fresh rows, CPU seconds of the fit and of the answers, and the status."""
    frame = toy(name, rows, seed)
    fresh = toy(name, FRESH_ROWS, seed + FRESH_SEED)
    started = time.process_time()
    model = JointDensity(family=family, measure="density", random_state=seed).fit(frame)
    fitted = time.process_time()
    log_p = float(model.score_samples(fresh).mean())
    asked = time.process_time()
    status = model.status_["log_prob"]
    if status == "relative":
        log_p -= log_total(model, frame)
    return log_p, fitted - started, asked - fitted, status


def row(family, name, rows, seeds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [measured(family, name, rows, seed) for seed in range(seeds)]
    log_p, fit, ask = np.mean([run[:3] for run in runs], 0)
    print(f"{name} {family} {log_p:.3f} nats, {fit:.1f} CPU s", file=sys.stderr, flush=True)
    return {"family": family, "log_p": log_p, "fit": fit, "ask": ask, "status": runs[0][3]}


def verdict(entry, best):
    allowed = near(entry["family"])
    if allowed is None:
        return "to compare"
    slow = "" if entry["fit"] <= MAX_FIT_SECONDS else f", over {MAX_FIT_SECONDS} s"
    gap = best - entry["log_p"]
    return ("near" if gap <= allowed else f"{gap - allowed:.3f} too far") + slow


def show(name, entries):
    best = max(entry["log_p"] for entry in entries)
    print(f"\n{name}: the best family has {best:.3f} nats")
    for entry in sorted(entries, key=lambda entry: -entry["log_p"]):
        print(
            f"  {entry['family']:24} {entry['log_p']:8.3f}  gap {best - entry['log_p']:6.3f}  "
            f"fit {entry['fit']:5.1f} CPU s  log p {entry['ask']:4.1f} CPU s  "
            f"{entry['status']:14} {verdict(entry, best)}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toys", default=",".join(TOYS))
    parser.add_argument(
        "--families", default=",".join(name for name in of_tables() if name not in NOT_HERE)
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    families = arguments.families.split(",")
    for name in arguments.toys.split(","):
        show(name, [row(family, name, arguments.rows, arguments.seeds) for family in families])


if __name__ == "__main__":
    main()

"""Continuous tables in standardised nats: the flow (and what else is named) beside zuko's spline
flow at equal CPU seconds.

    pip install --target zuko-home --no-deps zuko==1.4.1
    python benchmarks/continuous.py [--zuko zuko-home] [--tables phoneme,wine_white,banknote]
        [--families default,flow,auto] [--seeds 3]

Official splits; every column is divided by its standard deviation over the training rows, and
numbers count as points (``measure="density"``). Families are fitted with defaults; the validation
rows stop the fit. zuko's neural spline flow (three transforms, eight bins, two hidden layers of 64,
Adam at 1e-3, batches of 256, the weights that were best on the validation rows) trains for the CPU
seconds that the flow took. "auto" is given its default of five minutes. Medians of the seeds.
"""

import argparse
import copy
import statistics
import sys
import time

import numpy as np
import pandas as pd
import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from conjoin import JointDensity, datasets
from conjoin.families import name_of


def table(name):
    """Standardised train, valid and test rows."""
    parts = [datasets.load(name).xy(part)[0].astype(float) for part in ("train", "valid", "test")]
    mean = parts[0].mean()
    deviation = parts[0].std(ddof=0)
    return [(part - mean) / deviation for part in parts]


def nats(family, train, valid, test, seed):
    """Mean test log p, CPU seconds of the fit, and what was taken."""
    started = time.process_time()
    model = JointDensity(family=family, measure="density", random_state=seed).fit(
        pd.concat([train, valid]), calibration=0
    )
    return (
        float(model.score_samples(test).mean()),
        time.process_time() - started,
        name_of(model.model_.joint.config),
    )


def spline_flow(seconds, train, valid, test, seed):
    """zuko's, trained for so many CPU seconds."""
    import zuko

    torch.manual_seed(seed)
    fit, choose, ask = (
        torch.tensor(part.to_numpy(), dtype=torch.float32) for part in (train, valid, test)
    )
    flow = zuko.flows.NSF(fit.shape[1], transforms=3, bins=8, hidden_features=(64, 64))
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-3)
    best = -np.inf
    kept = None
    started = time.process_time()
    while time.process_time() - started < seconds:
        for rows in torch.randperm(len(fit)).split(256):
            loss = -flow().log_prob(fit[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            held = float(flow().log_prob(choose).mean())
        if held > best:
            best = held
            kept = copy.deepcopy(flow.state_dict())
    flow.load_state_dict(kept)
    with torch.no_grad():
        return float(flow().log_prob(ask).mean())


def peers(train, valid, test):
    """A kernel estimate and a Gaussian mixture of scikit-learn, their one number chosen on the
    validation rows."""
    kernels = [
        KernelDensity(bandwidth=width).fit(train.to_numpy())
        for width in np.geomspace(0.05, 0.6, 12)
    ]
    mixtures = [
        GaussianMixture(k, random_state=0, reg_covar=1e-4).fit(train.to_numpy())
        for k in (2, 4, 8, 12, 20, 30)
    ]
    for name, models in (("KDE", kernels), ("GMM", mixtures)):
        best = max(models, key=lambda model: model.score_samples(valid.to_numpy()).mean())
        yield name, float(best.score_samples(test.to_numpy()).mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zuko", default=None, help="a folder that zuko was installed into")
    parser.add_argument("--tables", default="phoneme,wine_white,banknote")
    parser.add_argument("--families", default="default,flow,auto")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.zuko:
        sys.path.append(arguments.zuko)
    for name in arguments.tables.split(","):
        parts = table(name)
        for family in arguments.families.split(","):
            runs = [nats(family, *parts, seed) for seed in range(arguments.seeds)]
            middle, seconds = (
                statistics.median(column) for column in list(zip(*runs, strict=True))[:2]
            )
            print(
                f"{name:12} {family:16} {middle:8.3f}   {seconds:5.0f} CPU s   "
                f"{', '.join(sorted({run[2] for run in runs}))}",
                flush=True,
            )
            if family == "flow" and arguments.zuko:
                theirs = statistics.median(
                    spline_flow(seconds, *parts, seed) for seed in range(arguments.seeds)
                )
                print(f"{name:12} {'zuko NSF':16} {theirs:8.3f}   {seconds:5.0f} CPU s", flush=True)
        for peer, value in peers(*parts):
            print(f"{name:12} {peer:16} {value:8.3f}", flush=True)


if __name__ == "__main__":
    main()

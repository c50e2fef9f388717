"""Synthetic rows of a table, made by the joint alone, beside real ones that it has not seen and two
controls.

    python benchmarks/synthesis.py [--tables adult] [--seeds 3] [--rows 5000,16281]
        [--family circuit] [--missingness ignorable]

Defaults, one thread. The fit sees the rows of 'train' and 'valid' (it splits them itself), as many
rows are drawn, and those of 'test' judge. Quality depends on how many rows are compared (boosting
tells more apart from more), so it is shown for each of ``--rows``. At the end: what boosting tells
drawn rows by, and how near they come to the rows of the fit. Where gaps are ignorable, as by
default, drawn rows have none, and boosting tells them by that; "informative" draws the gaps too.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from conjoin import JointClassifier, JointRegressor, quality
from conjoin.datasets import load


def tables(name, seed):
    """(rows of the fit, rows that judge, target, estimator); a third judges where no split is
    fixed."""
    data = load(name)
    split = data.split
    if split is None:
        split = np.where(
            np.random.default_rng(seed).random(len(data.frame)) < 1 / 3, "test", "train"
        )
    parts = [data.frame[split != "test"], data.frame[split == "test"]]
    fit, judge = (part.dropna(subset=data.target).reset_index(drop=True) for part in parts)
    return fit, judge, data.target, JointRegressor if data.task == "reg" else JointClassifier


def drawn(fit, target, kind, settings, seed):
    """As many rows as were fitted to, and CPU seconds of the fit and of the draws."""
    started = time.process_time()
    model = kind(random_state=seed, **settings).fit(fit.drop(columns=target), fit[target])
    fitted = time.process_time()
    X, y = model.sample(len(fit), random_state=seed)
    return X.assign(**{target: y}), fitted - started, time.process_time() - fitted


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default="adult")
    parser.add_argument("--family", default="circuit")
    parser.add_argument("--missingness", default="ignorable", choices=("ignorable", "informative"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default="5000,16281")
    arguments = parser.parse_args()
    settings = {"family": arguments.family, "missingness": arguments.missingness}
    torch.set_num_threads(1)
    for name in arguments.tables.split(","):
        for seed in range(arguments.seeds):
            fit, judge, target, kind = tables(name, seed)
            made, fitting, drawing = drawn(fit, target, kind, settings, seed)
            print(
                f"{name} seed {seed}: fit {fitting:.1f} CPU s, {len(made):,} rows drawn in "
                f"{drawing:.2f} CPU s",
                flush=True,
            )
            for rows in map(int, arguments.rows.split(",")):
                found = quality(fit[list(made)], made, judge, target, rows=rows, random_state=seed)
                print(
                    pd.concat(
                        {f"{found.rows:,} rows, {found.use}": found.table.round(4)}
                    ).to_string(),
                    flush=True,
                )
            print(
                "told by (AUC lost): "
                + ", ".join(f"{column} {lost:.3f}" for column, lost in found.tells[:6])
            )
            copies = found.copies
            print(
                f"nearer {copies.nearer:.3f}, nearer to train {copies.nearer_train:.3f}, copies "
                f"{copies.copies}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Completion: 30 % of the cells of new rows hidden at random, filled by the circuit and by
scikit-learn's imputers, side by side.

    python benchmarks/imputation.py [--tables pima,abalone] [--rows 1000] [--seeds 1] [--no-peers]

Each learns from at most ``FIT`` training rows and fills the same hidden cells of at most ``--rows``
test rows. Error of a table: the mean over its columns of the root mean squared error in standard
deviations of the column or of the share of wrong levels. Ours is ``impute(X)``, whole numbers
rounded as it gives them, and the commonest of ``DRAWS`` draws where words are modelled as numbers,
for a mean is none of them; *alone*: the same without centres of rows beside the density. *cover*:
how often the 5 % and 95 % quantiles of the draws hold the hidden number, all tables' real columns
pooled. One thread, defaults; the peers see numbers and level codes. *missforest*: chained extremely
randomised trees, ``IterativeImputer`` with ``ExtraTreesRegressor`` (D. Stekhoven, P. Bühlmann
(2012), MissForest).
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import OrdinalEncoder

from conjoin import JointDensity, datasets

TABLES = (
    "pima,heart_cleveland,german_credit,abalone,phoneme,"
    "wine_white,banknote,telco_churn,titanic,breast_cancer_yu"
)
FIT = 5000
DRAWS = 200
HIDDEN = 0.3
FOREST_TREES = 100
FOREST_LEAF = 2  # rows
FOREST_ROUNDS = 5  # through all columns


def parts(name, rows, seed):
    """Training rows, test rows, and which of the test rows' known cells are hidden."""
    data = datasets.load(name)
    fit = (
        pd.concat([data.xy(part)[0] for part in ("train", "valid")])
        .head(FIT)
        .reset_index(drop=True)
    )
    test = data.xy("test")[0].head(rows).reset_index(drop=True)
    hidden = (np.random.default_rng(seed).random(test.shape) < HIDDEN) & test.notna().to_numpy()
    return fit, test, hidden


def ours(fit, holed, seed):
    """A point for each cell, that of the density alone, and the quantiles of numbers."""
    model = JointDensity(random_state=seed).fit(fit)
    points = [model.impute(holed)]
    model.model_.centre_means = None
    points.append(model.impute(holed))
    amounts = {each.name for each in model.model_.codec.space.variables if not each.discrete}
    draws = model.impute(holed, n_draws=DRAWS, random_state=seed)
    low = {}
    high = {}
    for name in holed:
        column = pd.concat([draw[name].reset_index(drop=True) for draw in draws], axis=1)
        if pd.api.types.is_numeric_dtype(holed[name]):
            values = column.to_numpy(dtype=float)
            low[name] = np.quantile(values, 0.05, axis=1)
            high[name] = np.quantile(values, 0.95, axis=1)
        elif name in amounts:
            for point in points:
                point[name] = column.mode(axis=1)[0].to_numpy()
    return *points, low, high


def theirs(imputer, fit, holed):
    """Level codes are imputed as numbers and rounded."""
    words = [name for name in fit if not pd.api.types.is_numeric_dtype(fit[name])]
    coder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )
    tables = [frame.copy() for frame in (fit, holed)]
    if words:
        coder.fit(fit[words].astype(object))
        for table in tables:
            table[words] = coder.transform(table[words].astype(object))
    known = [name for name in fit if tables[0][name].notna().any()]
    imputer.fit(tables[0][known].astype(float))
    filled = tables[1].copy()
    filled[known] = imputer.transform(tables[1][known].astype(float))
    for place, name in enumerate(words):
        levels = coder.categories_[place]
        code = filled[name].round().clip(0, len(levels) - 1).fillna(0).astype(int)
        filled[name] = pd.Series(levels, dtype=object).iloc[code].to_numpy()
    return filled


def error(filled, test, hidden, fit):
    """Mean over columns with hidden cells."""
    found = []
    for place, name in enumerate(test):
        at = hidden[:, place]
        if not at.any():
            continue
        truth = test[name][at]
        guess = filled[name][at]
        if pd.api.types.is_numeric_dtype(test[name]):
            scale = float(fit[name].std()) or 1.0
            found.append(
                float(np.sqrt(np.mean((truth.astype(float) - guess.astype(float)) ** 2))) / scale
            )
        else:
            found.append(float((truth.astype(str) != guess.astype(str)).mean()))
    return statistics.mean(found)


def peers():
    return {
        "iterative": IterativeImputer(random_state=0),
        "knn": KNNImputer(),
        "missforest": IterativeImputer(
            ExtraTreesRegressor(FOREST_TREES, min_samples_leaf=FOREST_LEAF, random_state=0),
            max_iter=FOREST_ROUNDS,
            random_state=0,
        ),
        "mean": SimpleImputer(),
    }


def once(name, rows, seed, others):
    """Errors by method, seconds of ours, and how many real cells the intervals held."""
    fit, test, hidden = parts(name, rows, seed)
    holed = test.mask(hidden)
    started = time.process_time()
    point, alone, low, high = ours(fit, holed, seed)
    out = {"circuit": error(point, test, hidden, fit), "CPU s": time.process_time() - started}
    out["alone"] = error(alone, test, hidden, fit)
    for label, imputer in others.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out[label] = error(theirs(imputer, fit, holed), test, hidden, fit)
    held = []
    for place, column in enumerate(test):
        real = (
            column in low
            and pd.api.types.is_float_dtype(test[column])
            and test[column].nunique() > 20
        )
        at = hidden[:, place] & real
        if at.any():
            truth = test[column][at].to_numpy(dtype=float)
            held += list((truth >= low[column][at]) & (truth <= high[column][at]))
    return out, held


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    others = {} if arguments.no_peers else peers()
    table = {}
    covered = []
    for name in arguments.tables.split(","):
        runs = [once(name, arguments.rows, seed, others) for seed in range(arguments.seeds)]
        table[name] = {key: statistics.median(run[0][key] for run in runs) for key in runs[0][0]}
        covered += [cell for _, held in runs for cell in held]
        print(
            f"{name:18}",
            "  ".join(f"{key} {value:.3f}" for key, value in table[name].items()),
            flush=True,
        )
    frame = pd.DataFrame(table).T
    best = frame[["circuit", *others]].idxmin(axis=1)
    print(
        "mean              ", "  ".join(f"{key} {value:.3f}" for key, value in frame.mean().items())
    )
    print(
        f"circuit best on {(best == 'circuit').sum()} of {len(best)};",
        f"90 % intervals hold {100 * np.mean(covered):.1f} %",
    )


if __name__ == "__main__":
    main()

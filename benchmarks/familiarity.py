"""Familiarity: how well one class, never seen at fit, is told from the others, beside
scikit-learn's detectors.

    python benchmarks/familiarity.py [--tables pima,phoneme] [--families circuit] [--seeds 1]

The rarest class of at least 30 training rows is left out of the fit; the scores are on the official
test rows (at most ``MOST`` training rows). AUROC; the share of foreign rows that is caught, and of
rows of the known classes with every column shuffled by itself, at the least score of 5 % of the
held-out rows; and the share of false alarms among the test rows of known classes. Ours: the
statistic that ``decide`` uses, and its own log p(x) alone. Peers see one-hot levels and
standardised numbers; the Gaussian mixture and the kernel's bandwidth are chosen by the likelihood
of a fifth of their rows. Peers' AUROC is that of a fit to all training rows; for the shares they
are fitted to four fifths, and the rest is held out, as ours are. The last lines: means over tables,
and the paired difference to the best peer of each table, with its standard error. One thread.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables import CLASSES, _part

from conjoin import JointDensity, datasets

MOST = 10_000
NEIGHBOURS = 5
RATE = 0.05  # of false alarms, at which strangers are to be caught
PEERS = ("GMM", "KDE", "kNN", "isolation")


def task(name):
    """Training rows of the known classes, test rows, and which of those are foreign; None where no
    class will do."""
    data = datasets.load(name)
    (X, y), (Xt, yt) = (_part(data, parts) for parts in (("train", "valid"), ("test",)))
    counts = y.value_counts()
    foreign = [
        label for label in counts.index[::-1] if counts[label] >= 30 and (yt == label).sum() >= 5
    ]
    return (X[y != foreign[0]].head(MOST), Xt, (yt == foreign[0]).to_numpy()) if foreign else None


def shuffled(frame, seed):
    """Every column by itself."""
    rng = np.random.default_rng(seed)
    columns = {name: frame[name].to_numpy()[rng.permutation(len(frame))] for name in frame}
    return pd.DataFrame(columns).astype(frame.dtypes.to_dict())


def coded(X, *others):
    """Numbers for peers: of the training rows, and of others."""
    words = make_column_selector(dtype_exclude="number")
    numbers = make_column_selector(dtype_include="number")
    table = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
    )
    frames = [X.copy(), *(other.copy() for other in others)]
    for frame in frames:
        for column in words(frame):
            frame[column] = (
                frame[column].astype(object).where(frame[column].notna(), "missing").astype(str)
            )
    return table.fit_transform(frames[0]), *(table.transform(other) for other in frames[1:])


def peers(X, seed):
    """Scores of rows by name: higher is more familiar."""
    some, held = train_test_split(X, test_size=0.2, random_state=seed)
    mixtures = [
        GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(some)
        for k in (1, 2, 4, 8)
        if k < len(some) // 10
    ]
    best = max(mixtures, key=lambda each: each.score(held))
    widths = (0.1, 0.2, 0.4, 0.7, 1.0)
    width = max(widths, key=lambda h: KernelDensity(bandwidth=h).fit(some).score(held))
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(X)
    return {
        "GMM": best.score_samples,
        "KDE": KernelDensity(bandwidth=width).fit(X).score_samples,
        "kNN": lambda rows: -near.kneighbors(rows)[0].mean(1),
        "isolation": IsolationForest(random_state=seed).fit(X).score_samples,
    }


def shares(held, foreign, known, strange):
    """Caught foreign rows, false alarms and caught shuffled rows, by scores."""
    place = max(int(RATE * (len(held) + 1)) - 1, 0)
    threshold = np.sort(held)[place]
    return [float((each <= threshold).mean()) for each in (foreign, known, strange)]


def once(name, families, seed):
    """AUROC, and the shares, of everyone by name."""
    found = task(name)
    if found is None:
        return None
    X, Xt, foreign = found
    strange = shuffled(Xt[~foreign], seed)
    out = {}
    for family in families:
        model = JointDensity(family=family, random_state=seed).fit(X).model_
        own, odd = model.encode(Xt), model.encode(strange)
        held = model.calibrated
        score = model.statistic(own)
        out[family] = [
            float(roc_auc_score(foreign, -score)),
            *(
                float((held.p_value(each) <= RATE).mean())
                for each in (score[foreign], score[~foreign], model.statistic(odd))
            ),
        ]
        log_p = (model.evidence(own) + own.log_unseen).numpy()
        out[f"{family} log p"] = [float(roc_auc_score(foreign, -log_p))] + [float("nan")] * 3
    every = coded(X, Xt)
    part, held = train_test_split(X, test_size=0.2, random_state=seed)
    split = coded(part, held, Xt[foreign], Xt[~foreign], strange)
    whole = peers(every[0], seed)
    for label, score in peers(split[0], seed).items():
        auroc = float(roc_auc_score(foreign, -whole[label](every[1])))
        out[label] = [auroc, *shares(*(score(rows) for rows in split[1:]))]
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default=",".join(CLASSES))
    parser.add_argument("--families", default="circuit")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    families = arguments.families.split(",")
    gaps = []
    every = []
    print("AUROC, caught foreign rows, false alarms, caught shuffled rows")
    for name in arguments.tables.split(","):
        runs = [once(name, families, seed) for seed in range(arguments.seeds)]
        if runs[0] is None:
            continue
        row = {label: np.median([run[label] for run in runs], 0) for label in runs[0]}
        every.append(row)
        gaps.append(row[families[0]][0] - max(row[label][0] for label in PEERS))
        show(name, row)
    show("mean", {label: np.mean([row[label] for row in every], 0) for label in every[0]})
    error = np.std(gaps, ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    print(f"{families[0]} less the best peer, AUROC: {np.mean(gaps):+.3f} +- {error:.3f}")


def show(name, row):
    print(name)
    for label, figures in row.items():
        print(f"  {label:16}", "  ".join(f"{figure:.3f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()

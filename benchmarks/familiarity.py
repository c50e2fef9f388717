"""Familiarity: how well one class, never seen at fit, is told from the others, beside
scikit-learn's detectors.

    python benchmarks/familiarity.py [--tables pima,phoneme] [--families circuit] [--seeds 1]

The rarest class of at least 30 training rows is left out of the fit; the score is the AUROC on the
official test rows (at most ``MOST`` training rows). Ours: the statistic that ``decide`` uses. Peers
see one-hot levels and standardised numbers; the Gaussian mixture and the kernel's bandwidth are
chosen by the likelihood of a fifth of the training rows. The last line: the paired difference to
the best peer of each table, with its standard error. One thread.
"""

import argparse
import statistics

import numpy as np
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables import CLASSES, _part

from conjoin import JointDensity, datasets

MOST = 10_000


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


def coded(X, Xt):
    words = make_column_selector(dtype_exclude="number")
    numbers = make_column_selector(dtype_include="number")
    table = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
    )
    X = X.copy()
    Xt = Xt.copy()
    for frame in (X, Xt):
        for column in words(frame):
            frame[column] = (
                frame[column].astype(object).where(frame[column].notna(), "missing").astype(str)
            )
    return table.fit_transform(X), table.transform(Xt)


def peers(X, Xt, seed):
    """Scores by name: higher is more familiar."""
    some, held = train_test_split(X, test_size=0.2, random_state=seed)
    mixtures = [
        GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(some)
        for k in (1, 2, 4, 8)
        if k < len(some) // 10
    ]
    kernels = [KernelDensity(bandwidth=width).fit(some) for width in (0.1, 0.2, 0.4, 0.7, 1.0)]
    yield "GMM", max(mixtures, key=lambda each: each.score(held)).score_samples(Xt)
    yield "KDE", max(kernels, key=lambda each: each.score(held)).score_samples(Xt)
    yield "forest", IsolationForest(random_state=seed).fit(X).score_samples(Xt)


def once(name, families, seed):
    found = task(name)
    if found is None:
        return None
    X, Xt, foreign = found
    scores = {}
    for family in families:
        model = JointDensity(family=family, random_state=seed).fit(X).model_
        scores[family] = model.statistic(model.encode(Xt))
    scores |= dict(peers(*coded(X, Xt), seed))
    return {
        label: float(roc_auc_score(foreign, -np.asarray(score))) for label, score in scores.items()
    }


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
    for name in arguments.tables.split(","):
        runs = [once(name, families, seed) for seed in range(arguments.seeds)]
        if runs[0] is None:
            continue
        row = {label: statistics.median(run[label] for run in runs) for label in runs[0]}
        gaps.append(row[families[0]] - max(row[label] for label in ("GMM", "KDE", "forest")))
        print(
            f"{name:18}",
            "  ".join(f"{label} {value:.3f}" for label, value in row.items()),
            flush=True,
        )
    print(
        f"{families[0]} less the best peer: {np.mean(gaps):+.3f} +- "
        f"{np.std(gaps, ddof=1) / len(gaps) ** 0.5:.3f}"
    )


if __name__ == "__main__":
    main()

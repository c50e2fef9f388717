"""p(y | x) of tables beside the strongest peers: boosting by CatBoost and LightGBM, each stopped
early on the official validation rows, scikit-learn's boosting and logistic regression.

    python benchmarks/table_peers.py [--tables pima,phoneme] [--seeds 3] [--rows 10000]

Defaults of everyone, one thread, official splits. Log-loss, accuracy and debiased calibration error
on the test rows; log-loss on those that do not stand in train as well (copies are counted there);
CPU seconds of fit and answers. Lines per table, medians over seeds; at the end means over tables,
on how many tables ours is ahead, and the largest gap behind CatBoost. Numbers y: continuous ranked
probability score (CRPS) beside quantile forests, CatBoost's quantiles, CatBoost's normal
distribution (RMSEWithUncertainty) and NGBoost, from 99 quantiles; log-loss of the predictive
density (nats) where there is one. CatBoost's quantiles are left out of tables of more than
``MAX_QUANTILE_ROWS`` rows, where 99 of them take very long; the table says so. TabPFN is among the
peers where the package tabpfn is installed and the folder that ``TABPFN_WEIGHTS`` names holds its
weights (``*classifier*.ckpt``, ``*regressor*.ckpt``); nothing is fetched.
"""

import argparse
import importlib.util
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from catboost import CatBoostClassifier, CatBoostRegressor, Pool
from lightgbm import LGBMClassifier, early_stopping, log_evaluation
from ngboost import NGBRegressor
from quantile_forest import RandomForestQuantileRegressor
from scipy.stats import norm
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tables import CLASSES, NUMBERS

from conjoin import JointClassifier, JointRegressor, datasets
from conjoin.questions.evaluate import debiased_ece

ROUNDS = 2_000  # of boosting at most
QUANTILE_ROUNDS = 500  # of CatBoost's quantiles at most: each round of 99 takes long
PATIENCE = 50  # rounds without a gain
NATURAL_ROUNDS = 500  # of NGBoost at most, its own default
MAX_QUANTILE_ROWS = 5_000  # for CatBoost's quantiles
LEVELS = np.arange(1, 100) / 100
SMALL = 1e-12  # a probability is at least that


def tabpfn_weights(kind):
    """The checkpoint of a "classifier" or "regressor" on this machine; None without the package or
    its weights."""
    folder = os.environ.get("TABPFN_WEIGHTS")
    found = sorted(Path(folder).glob(f"*{kind}*.ckpt")) if folder else []
    return found[0] if found and importlib.util.find_spec("tabpfn") else None


def coded(X, like):
    """Words as strings, for CatBoost; as categories of the training rows, for LightGBM."""
    words = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
    text = {
        name: X[name].astype(object).where(X[name].notna(), "missing").astype(str) for name in words
    }
    strings = X.assign(**text)
    levels = {name: like[name].astype(object).fillna("missing").astype(str) for name in words}
    codes = {name: pd.Categorical(strings[name], sorted(levels[name].unique())) for name in words}
    return strings, X.assign(**codes), words


def linear():
    words = make_column_selector(dtype_exclude="number")
    numbers = make_column_selector(dtype_include="number")
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore"), words),
        ),
        LogisticRegression(max_iter=1_000),
    )


def boosted_by_catboost(kind, seed, rounds, rows, **settings):
    """A ``kind`` of its estimators, stopped early on the validation rows, and the test rows as it
    takes them. ``rows``: (fit rows, y, valid rows, y, test rows)."""
    X, y, V, v, T = rows
    parts = [coded(part, X) for part in (X, V, T)]
    words = parts[0][2]
    model = kind(
        iterations=rounds,
        random_seed=seed,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        **settings,
    )
    model.fit(
        Pool(parts[0][0], y, cat_features=words),
        eval_set=Pool(parts[1][0], v, cat_features=words),
        early_stopping_rounds=PATIENCE,
    )
    return model, Pool(parts[2][0], cat_features=words)


def classifiers(seed):
    """name -> (fit rows, y, valid rows, y, test rows) -> (classes, p of the test rows)."""

    def conjoin(X, y, V, v, T):
        model = JointClassifier(random_state=seed)
        model.fit(pd.concat([X, V]), pd.concat([y, v]))
        return model.classes_, model.predict_proba(T)

    def catboost(X, y, V, v, T):
        model, test = boosted_by_catboost(CatBoostClassifier, seed, ROUNDS, (X, y, V, v, T))
        return model.classes_, model.predict_proba(test)

    def lightgbm(X, y, V, v, T):
        parts = [coded(part, X)[1] for part in (X, V, T)]
        model = LGBMClassifier(n_estimators=ROUNDS, random_state=seed, n_jobs=1, verbose=-1)
        told = [early_stopping(PATIENCE, verbose=False), log_evaluation(0)]
        model.fit(parts[0], y, eval_set=[(parts[1], v)], callbacks=told)
        return model.classes_, model.predict_proba(parts[2])

    def boosting(X, y, V, v, T):
        every = pd.concat([X, V])
        parts = [coded(part, every)[1] for part in (every, T)]
        model = HistGradientBoostingClassifier(
            random_state=seed, categorical_features="from_dtype", early_stopping=True
        )
        model.fit(parts[0], pd.concat([y, v]))
        return model.classes_, model.predict_proba(parts[1])

    def logistic(X, y, V, v, T):
        parts = [coded(part, X)[0] for part in (pd.concat([X, V]), T)]
        model = linear().fit(parts[0], pd.concat([y, v]))
        return model.classes_, model.predict_proba(parts[1])

    def tabpfn(X, y, V, v, T):
        from tabpfn import TabPFNClassifier

        weights = tabpfn_weights("classifier")
        model = TabPFNClassifier(
            model_path=weights, random_state=seed, ignore_pretraining_limits=True
        )
        model.fit(pd.concat([X, V]), pd.concat([y, v]))
        return model.classes_, model.predict_proba(T)

    every = [conjoin, catboost, lightgbm, boosting, logistic]
    every += [tabpfn] if tabpfn_weights("classifier") else []
    return {each.__name__: each for each in every}


def judged(classes, p, y, fresh):
    """Log-loss, accuracy, calibration error, log-loss of rows that do not stand in train."""
    place = pd.Index(classes).get_indexer(y)
    known = place >= 0
    own = np.where(known, p[np.arange(len(p)), place.clip(0)], 0.0)
    loss = -np.log(own.clip(SMALL))
    right = p.argmax(1) == place
    return [
        loss.mean(),
        right.mean(),
        debiased_ece(p.max(1), right),
        loss[fresh].mean() if fresh.any() else np.nan,
    ]


def fresh_rows(X, T):
    """Which of the test rows have no equal in train."""
    return (
        ~pd.util.hash_pandas_object(T, index=False)
        .isin(pd.util.hash_pandas_object(X, index=False))
        .to_numpy()
    )


def parts_of(name, rows):
    """The official parts, of each at most ``rows`` rows drawn at random; None: all."""
    data = datasets.load(name)
    out = []
    for part in ("train", "valid", "test"):
        X, y = data.xy(part)
        keep = y.notna().to_numpy()
        if rows is not None and keep.sum() > rows:
            some = np.random.default_rng(0).choice(keep.nonzero()[0], rows, replace=False)
            keep = np.isin(np.arange(len(keep)), some)
        out.append((X[keep].reset_index(drop=True), y[keep].reset_index(drop=True)))
    return out


def of_classes(name, seeds, rows):
    (X, y), (V, v), (T, t) = parts_of(name, rows)
    fresh = fresh_rows(pd.concat([X, V]), T)
    found = {}
    for seed in range(seeds):
        for who, learn in classifiers(seed).items():
            begun = time.process_time()
            classes, p = learn(X, y, V, v, T)
            seconds = time.process_time() - begun
            found.setdefault(who, []).append([*judged(classes, p, t, fresh), seconds])
    columns = ["log-loss", "accuracy", "ece", "fresh log-loss", "CPU s"]
    table = pd.DataFrame({who: np.median(rows, 0) for who, rows in found.items()}, columns).T
    print(f"{name}: {len(X) + len(V):,} rows, {fresh.mean():.0%} of the test rows are fresh")
    print(table.round(4).to_string(), flush=True)
    return table["log-loss"]


def crps(quantiles, y):
    """Twice the mean pinball loss over ``LEVELS`` (F. Laio and S. Tamea (2007), Verification tools
    for probabilistic forecasts, equation 12)."""
    error = y[:, None] - quantiles
    return float(2 * np.maximum(LEVELS * error, (LEVELS - 1) * error).mean())


def regressors(seed):
    """name -> (fit rows, y, valid rows, y, test rows, y) -> (quantiles at ``LEVELS`` of the test
    rows, mean log-loss of the predictive density in nats, or NaN where there is none)."""

    def conjoin(X, y, V, v, T, t):
        model = JointRegressor(random_state=seed).fit(pd.concat([X, V]), pd.concat([y, v]))
        return model.predict_quantiles(T, LEVELS), model.evaluate(T, t)["log_loss"]

    def catboost(X, y, V, v, T, t):
        alphas = ",".join(f"{level:.2f}" for level in LEVELS)
        model, test = boosted_by_catboost(
            CatBoostRegressor,
            seed,
            QUANTILE_ROUNDS,
            (X, y, V, v, T),
            loss_function=f"MultiQuantile:alpha={alphas}",
        )
        return np.sort(model.predict(test), 1), np.nan

    def catboost_normal(X, y, V, v, T, t):
        model, test = boosted_by_catboost(
            CatBoostRegressor,
            seed,
            ROUNDS,
            (X, y, V, v, T),
            loss_function="RMSEWithUncertainty",
        )
        mean, variance = model.predict(test).T
        found = norm(mean[:, None], np.sqrt(variance)[:, None])
        loss = -found.logpdf(t.to_numpy(float)[:, None]).mean()
        return found.ppf(LEVELS), float(loss)

    def quantile_forest(X, y, V, v, T, t):
        table, test = numbers_of(pd.concat([X, V]), T)
        forest = RandomForestQuantileRegressor(min_samples_leaf=5, random_state=seed, n_jobs=1)
        forest.fit(table, pd.concat([y, v]))
        return forest.predict(test, quantiles=list(LEVELS)), np.nan

    def ngboost(X, y, V, v, T, t):
        table, valid, test = numbers_of(X, V, T)
        model = NGBRegressor(n_estimators=NATURAL_ROUNDS, random_state=seed, verbose=False)
        model.fit(table, y, X_val=valid, Y_val=v, early_stopping_rounds=PATIENCE)
        found = model.pred_dist(test, max_iter=model.best_val_loss_itr)
        quantiles = np.stack([found.ppf(level) for level in LEVELS], 1)
        return quantiles, -float(np.mean(found.logpdf(t.to_numpy(float))))

    def tabpfn(X, y, V, v, T, t):
        from tabpfn import TabPFNRegressor

        weights = tabpfn_weights("regressor")
        model = TabPFNRegressor(
            model_path=weights, random_state=seed, ignore_pretraining_limits=True
        )
        model.fit(pd.concat([X, V]), pd.concat([y, v]))
        found = model.predict(T, output_type="quantiles", quantiles=list(LEVELS))
        return np.stack(found, 1), np.nan

    every = [conjoin, catboost, catboost_normal, quantile_forest, ngboost]
    every += [tabpfn] if tabpfn_weights("regressor") else []
    return {each.__name__: each for each in every}


def numbers_of(X, *others):
    """Dense numbers of the rows, words as columns of 0 and 1, gaps as the column's median."""
    frames = [coded(part, X)[0] for part in (X, *others)]
    words = coded(X, X)[2]
    table = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
        remainder=SimpleImputer(strategy="median"),
    ).fit(frames[0])
    return [table.transform(frame) for frame in frames]


def of_numbers(name, seeds, rows):
    (X, y), (V, v), (T, t) = parts_of(name, rows)
    found = {}
    left_out = {"catboost"} if len(X) > MAX_QUANTILE_ROWS else set()
    for seed in range(seeds):
        for who, learn in regressors(seed).items():
            if who in left_out:
                continue
            begun = time.process_time()
            quantiles, loss = learn(X, y, V, v, T, t)
            seconds = time.process_time() - begun
            score = crps(quantiles, t.to_numpy(float))
            found.setdefault(who, []).append([score, loss, seconds])
    table = pd.DataFrame(
        {who: np.median(rows, 0) for who, rows in found.items()}, ["CRPS", "log-loss", "CPU s"]
    )
    print(f"{name}: {len(X) + len(V):,} rows\n{table.T.round(4).to_string()}", flush=True)
    if left_out:
        print(f"without CatBoost's quantiles: more than {MAX_QUANTILE_ROWS:,} rows", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default=",".join(CLASSES + NUMBERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="of each part at most, drawn at random")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    os.environ["TABPFN_DISABLE_TELEMETRY"] = "1"
    if not (tabpfn_weights("classifier") or tabpfn_weights("regressor")):
        print("without TabPFN: no package tabpfn, or no weights in $TABPFN_WEIGHTS", flush=True)
    losses = {}
    for name in options.tables.split(","):
        if name in NUMBERS:
            of_numbers(name, options.seeds, options.rows)
        else:
            losses[name] = of_classes(name, options.seeds, options.rows)
    if losses:
        table = pd.DataFrame(losses).T
        print("mean log-loss over tables")
        print(table.mean().round(4).to_string())
        others = table.drop(columns="conjoin").min(axis=1)
        behind = table["conjoin"] - table["catboost"]
        print(
            f"ahead of all on {(table['conjoin'] <= others).sum()} of {len(table)} tables; "
            f"furthest behind CatBoost: {behind.max():.4f} ({behind.idxmax()})"
        )


if __name__ == "__main__":
    main()

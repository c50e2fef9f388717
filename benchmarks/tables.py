"""Every table and family beside scikit-learn's usual classifiers, one row each.

    python benchmarks/tables.py [--tables adult,iris] [--families circuit,naive_bayes]
        [--out benchmarks/tables.csv]

Official splits. Prints the test mean of log p(x) (nats, raw units), log-loss or CRPS, AUC, debiased
ECE, the AUROC with which familiarity tells one class from the others when it was held out as
foreign, seconds and kWh of the fit.
"""

import argparse
import os
import time
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conjoin import JointClassifier, JointDensity, JointRegressor, datasets
from conjoin.families import of_tables
from conjoin.questions.evaluate import debiased_ece
from conjoin.util.energy import Meter

CLASSES = [
    "adult",
    "wine_white",
    "banknote",
    "mammography",
    "phoneme",
    "pima",
    "german_credit",
    "horse_colic",
    "breast_cancer_yu",
    "vote",
    "heart_cleveland",
    "telco_churn",
    "titanic",
    "caravan",
]
NUMBERS = ["beijing_pm25", "abalone", "diamonds"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default=",".join(CLASSES + NUMBERS))
    parser.add_argument("--families", default=",".join(of_tables()))
    parser.add_argument("--out", default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = []
    for name in arguments.tables.split(","):
        rows += table_rows(name, arguments.families.split(","))
        print(
            pd.DataFrame(rows[-(len(arguments.families.split(",")) * 2 + 4) :]).to_string(
                index=False, float_format="%.4g"
            ),
            flush=True,
        )
    if arguments.out:
        pd.DataFrame(rows).to_csv(arguments.out, index=False)


def table_rows(name: str, families: list[str]) -> list[dict]:
    data = datasets.load(name)
    fit, test = (_part(data, parts) for parts in (("train", "valid"), ("test",)))
    numeric = data.task == "reg"
    out = []
    for family in families:
        for predictor in ("auto", None):
            label = f"{family} {'default' if predictor else 'pure'}"
            out.append(
                {"table": name, "model": label, **ours(family, predictor, fit, test, numeric)}
            )
    return out + [
        {"table": name, "model": label, **row} for label, row in peers(fit, test, numeric)
    ]


def _part(data, parts: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Series]:
    pieces = [data.xy(part) for part in parts]
    X, y = (pd.concat([piece[i] for piece in pieces]) for i in (0, 1))
    keep = y.notna() if data.task == "reg" else slice(None)
    return X[keep], y[keep]


def ours(family: str, predictor, fit, test, numeric: bool) -> dict:
    kind = JointRegressor if numeric else JointClassifier
    start = time.perf_counter()
    with Meter() as meter:
        model = kind(family=family, predictor=predictor).fit(*fit)
    seconds = time.perf_counter() - start
    found = model.evaluate(*test)
    row = {
        key: found.get(key)
        for key in (
            "log_prob",
            "log_loss",
            "crps",
            "rmse",
            "auc",
            "ece",
            "false_alarm_got",
            "accepted",
        )
    }
    row |= {
        "chosen": model.model_.facts["predictor"]["chosen"],
        "seconds": seconds,
        "kWh": meter.energy.kwh,
    }
    if not numeric and predictor is None:
        row["familiarity_auroc"] = familiarity(family, fit, test)
    return row


def familiarity(family: str, fit, test) -> float:
    """AUROC of the statistic with the rarest class of at least 30 training rows as foreign."""
    counts = fit[1].value_counts()
    classes = [
        label
        for label in counts.index[::-1]
        if counts[label] >= 30 and (test[1] == label).sum() >= 5
    ]
    if not classes:
        return float("nan")
    foreign = classes[0]
    model = JointDensity(family=family).fit(fit[0][fit[1] != foreign])
    statistic = model.model_.statistic(model.model_.encode(test[0]))
    return float(roc_auc_score(test[1] == foreign, -statistic))


def peers(fit, test, numeric: bool):
    words = make_column_selector(dtype_exclude="number")
    numbers = make_column_selector(dtype_include="number")
    coded = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False), words),
    )
    X = fit[0].copy()
    Xt = test[0].copy()
    for frame in (X, Xt):
        for column in words(frame):
            frame[column] = (
                frame[column]
                .astype("object")
                .where(frame[column].notna(), "missing")
                .astype(str)
                .astype("category")
            )
    if numeric:
        models = {
            "ridge": make_pipeline(coded, Ridge()),
            "HistGradientBoosting": boosting(HistGradientBoostingRegressor, X),
        }
    else:
        models = {
            "GaussianNB": make_pipeline(coded, GaussianNB()),
            "LDA": make_pipeline(coded, LinearDiscriminantAnalysis()),
            "logistic": make_pipeline(coded, LogisticRegression(max_iter=2000)),
            "HistGradientBoosting": boosting(HistGradientBoostingClassifier, X),
        }
    for label, model in models.items():
        with Meter() as meter, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            model.fit(X, fit[1])
            seconds = time.perf_counter() - start
            yield (
                label,
                (number_scores if numeric else class_scores)(model, Xt, test[1])
                | {"seconds": seconds, "kWh": meter.energy.kwh},
            )


def boosting(kind, X: pd.DataFrame):
    few = [column for column in X.select_dtypes("category") if X[column].nunique() < 255]
    return kind(categorical_features=few, random_state=0)


def class_scores(model, X, y) -> dict:
    proba = model.predict_proba(X)
    classes = list(model.classes_)
    scores = {
        "log_loss": log_loss(y, proba, labels=classes),
        "ece": debiased_ece(proba.max(1), model.predict(X) == y.to_numpy()),
    }
    if y.nunique() == len(classes):
        scores["auc"] = roc_auc_score(
            y, proba[:, 1] if len(classes) == 2 else proba, multi_class="ovr"
        )
    return scores


def number_scores(model, X, y) -> dict:
    return {"rmse": float(np.sqrt(mean_squared_error(y, model.predict(X))))}


if __name__ == "__main__":
    main()

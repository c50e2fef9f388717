"""Does decide keep its promises? Fit once, then re-split calibration and test many times.

    python benchmarks/decide.py [--splits 200] [--tables adult,telco_churn,mammography]
        [--family circuit]
    python benchmarks/decide.py --splits 100 --strings esol,freesolv,bbbp,agnews

For each table and asked rates: mean false-alarm rate; share of splits on which the error among the
accepted stays at most the asked rate + 1 % (or, for a class, the share of it that is accepted with
a wrong answer); coverage beside the oracle's, which knows the test labels. Exit code 1 where a
promise is broken.

``--strings``: molecules and articles, of which 60 % teach. Mean false-alarm rate; of numbers the
share of values inside the intervals that are asked to hold 90 %, of classes the share of splits on
which the error among the accepted is at most the asked rate + 1 %; both beside their standard
deviation over the splits. A promise of a number is broken where the mean is under 90 % - .5 %.
"""

import argparse
import os
import sys

import numpy as np
import pandas as pd
import torch

from conjoin import JointClassifier, JointRegressor, datasets
from conjoin.calibration.conformal import Calibration
from conjoin.families.multimodal import Multimodal
from conjoin.model.calibrate import calibrate

CASES = {
    "adult": (0.05, 0.1, {">50K": 0.1}),
    "telco_churn": (0.05, 0.1, {"Yes": 0.1}),
    "mammography": (0.02, 0.05, {1: 0.2}),
    "phoneme": (0.1, 0.15),
    "caravan": (0.05, 0.1),
    "wine_white": (0.3, 0.4),
    "banknote": (0.02, 0.05),
    "titanic": (0.2, 0.25),
    "german_credit": (0.25, 0.3),
}
TABLES = ("adult", "telco_churn", "mammography")
FALSE_ALARM = 0.05
TAUGHT_SHARE = 0.6  # of molecules and articles
ARTICLES = 3_000
HELD = 0.9  # of the values of a number, by its intervals
ERRORS = 0.1  # of the accepted classes
SLACK = 0.005  # of a rate, by chance


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--family", default="circuit")
    parser.add_argument("--strings", help="molecules and articles in place of tables")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if arguments.strings:
        names = arguments.strings.split(",")
        return max(int(of_strings(name, arguments.splits)) for name in names)
    rows = [
        row
        for name in arguments.tables.split(",")
        for row in study(name, arguments.family, arguments.splits)
    ]
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.4f"))
    return int(any(row["false_alarm"] > FALSE_ALARM + 0.005 or row["kept"] < 0.95 for row in rows))


def strings_of(name: str):
    """Strings, y, and an estimator of them."""
    if name == "agnews":
        texts = datasets.load_texts(name)
        rows = np.random.default_rng(0).permutation(len(texts.strings["train"]))[:ARTICLES]
        strings = [texts.strings["train"][row] for row in rows]
        return strings, texts.labels["train"][rows], JointClassifier(family="ngram")
    found = datasets.load_molecules(name)
    frame = found.frame.drop_duplicates("smiles")
    y = frame[found.target].to_numpy()
    kind = JointClassifier if len(set(y)) == 2 else JointRegressor
    family = Multimodal(strings={"width": 32, "blocks": 1, "steps": 100})
    return list(frame["smiles"]), y, kind(family=family)


def of_strings(name: str, splits: int) -> bool:
    """Whether a promise is broken."""
    X, y, estimator = strings_of(name)
    rows = np.random.default_rng(0).permutation(len(y))
    cut = int(TAUGHT_SHARE * len(rows))
    part = {"taught": rows[:cut], "pool": rows[cut:]}
    X, y = ({key: [each[row] for row in some] for key, some in part.items()} for each in (X, y))
    model = estimator.fit(X["taught"], np.array(y["taught"]), calibration=0).model_
    pool = calibrate(model, X["pool"], np.array(y["pool"]), np.ones(len(y["pool"]), dtype=bool))
    size = len(pool.statistic)
    got = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(size)
        got.append(promises(pool, order[: size // 2], order[size // 2 :], model.has_classes))
    got = pd.DataFrame(got)
    mean = got.mean()
    told = {"set": name, "taught": cut, "pool": size, **mean.round(4).to_dict()}
    print(told | {f"{key}_sd": round(value, 4) for key, value in got.std().items()}, flush=True)
    if "inside" in mean:
        return bool(mean["false_alarm"] > FALSE_ALARM + SLACK or mean["inside"] < HELD - SLACK)
    return bool(mean["false_alarm"] > FALSE_ALARM + SLACK or mean["kept"] < 0.95)


def promises(pool: Calibration, held: np.ndarray, test: np.ndarray, classes: bool) -> dict:
    """False alarms, and what is promised of y, on ``test``."""
    kept = Calibration(
        *(part[held] for part in (pool.statistic, pool.guess, pool.label, pool.confidence))
    )
    familiar = kept.p_value(pool.statistic[test]) > FALSE_ALARM
    told = {"false_alarm": 1 - familiar.mean()}
    if not classes:
        level = np.sort(kept.confidence)[int(np.ceil(HELD * (len(held) + 1))) - 1]
        return told | {"inside": (pool.confidence[test] <= level).mean()}
    accepted = familiar & (pool.confidence[test] >= kept.threshold(ERRORS, FALSE_ALARM))
    wrong = (pool.guess != pool.label)[test][accepted]
    error = wrong.mean() if len(wrong) else 0.0
    return told | {"kept": error <= ERRORS + 0.01, "error": error, "accepted": accepted.mean()}


def study(name: str, family: str, splits: int) -> list[dict]:
    """One row per promise. The pool of held-out rows is split in halves."""
    data = datasets.load(name)
    model = JointClassifier(family=family).fit(*data.xy("train"), calibration=0).model_
    parts = [data.xy(part) for part in ("valid", "test")]
    X = pd.concat([x for x, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    pool = calibrate(model, X, y, np.ones(len(y), dtype=bool))
    halves = [np.random.default_rng(seed).permutation(len(y)) for seed in range(splits)]
    out = []
    for promise in CASES[name]:
        results = [
            one_split(model, pool, order[: len(y) // 2], order[len(y) // 2 :], promise)
            for order in halves
        ]
        got = pd.DataFrame(results)
        asked = promise if isinstance(promise, float) else next(iter(promise.values()))
        out.append(
            {
                "table": name,
                "chosen": model.facts["predictor"]["chosen"],
                "asked": str(promise),
                "false_alarm": got["false_alarm"].mean(),
                "kept": (got["error"] <= asked + 0.01).mean(),
                "error": got["error"].mean(),
                "coverage": got["coverage"].mean(),
                "oracle": got["oracle"].mean(),
            }
        )
    return out


def one_split(model, pool: Calibration, held: np.ndarray, test: np.ndarray, promise) -> dict:
    """Thresholds from ``held``, figures on ``test``."""
    calibration = Calibration(
        *(part[held] for part in (pool.statistic, pool.guess, pool.label, pool.confidence))
    )
    familiar = calibration.p_value(pool.statistic[test]) > FALSE_ALARM
    guess = pool.guess[test]
    label = pool.label[test]
    confidence = pool.confidence[test]
    wrong = guess != label
    if isinstance(promise, float):
        accepted = familiar & (confidence >= calibration.threshold(promise, FALSE_ALARM))
        error = wrong[accepted].mean() if accepted.any() else 0.0
        oracle = best_coverage(confidence, wrong, familiar, promise)
    else:
        (name, rate), *_ = promise.items()
        code = model.classes.code(name)
        least = calibration.class_threshold(code, name, rate, FALSE_ALARM)
        accepted = familiar & ((guess == code) | (confidence >= least))
        error = (accepted & wrong & (label == code)).sum() / max(1, (label == code).sum())
        allowed = int(rate * (label == code).sum())
        risky = np.sort(confidence[familiar & wrong & (label == code)])[::-1]
        bar = risky[allowed] if len(risky) > allowed else -np.inf
        oracle = (familiar & ((guess == code) | (confidence > bar))).mean()
    return {
        "false_alarm": 1 - familiar.mean(),
        "error": error,
        "coverage": accepted.mean(),
        "oracle": oracle,
    }


def best_coverage(
    confidence: np.ndarray, wrong: np.ndarray, familiar: np.ndarray, rate: float
) -> float:
    order = np.argsort(-confidence[familiar], kind="stable")
    errors = np.cumsum(wrong[familiar][order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(errors <= rate)
    return (good[-1] + 1) / len(confidence) if len(good) else 0.0


if __name__ == "__main__":
    sys.exit(main())

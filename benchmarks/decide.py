"""Does decide keep its promises? Fit once, then re-split calibration and test many times.

    python benchmarks/decide.py [--splits 200] [--tables adult,telco_churn,mammography]
        [--family circuit]

For each table and asked rates: mean false-alarm rate; share of splits on which the error among the
accepted stays at most the asked rate + 1 % (or, for a class, the share of it that is accepted with
a wrong answer); coverage beside the oracle's, which knows the test labels. Exit code 1 where a
promise is broken.
"""

import argparse
import os
import sys

import numpy as np
import pandas as pd
import torch

from conjoin import JointClassifier, datasets
from conjoin.calibration.conformal import Calibration
from conjoin.model.calibrate import calibrate

CASES = {
    "adult": (0.05, 0.1, {">50K": 0.1}),
    "telco_churn": (0.05, 0.1, {"Yes": 0.1}),
    "mammography": (0.02, 0.05, {1: 0.2}),
    "phoneme": (0.1, 0.15),
    "caravan": (0.05, 0.1),
    "wine_white": (0.3, 0.4),
}
TABLES = ("adult", "telco_churn", "mammography")
FALSE_ALARM = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--family", default="circuit")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = [
        row
        for name in arguments.tables.split(",")
        for row in study(name, arguments.family, arguments.splits)
    ]
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.4f"))
    return int(any(row["false_alarm"] > FALSE_ALARM + 0.005 or row["kept"] < 0.95 for row in rows))


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

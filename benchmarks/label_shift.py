"""Label shift and few labels: what rows without labels are worth.

    python3 dev.py bench label_shift shift [table=adult] [rows=8000] [seeds=3]
    python3 dev.py bench label_shift few [seeds=3] [family=circuit]

shift: ``JointClassifier`` is fitted on ``rows`` training rows; the test rows are drawn to the
flipped class ratio, half of them adapt (without labels), the other half judge. *told* is the same
model told the true shares of the judging place: p(y | x) times true over learned share. Accuracy
and log-loss (nats), and the share of class 1 that was found beside the true one. The last columns
are the adapted log-loss and error over those of the told model: 1.02 is 2 % worse.

few: 20, 50 or 100 labelled rows, drawn anew for each seed (at least two of each class), all other
training rows without a label. Test errors in percent and log-loss (nats) of
``JointClassifier(unlabelled=...)`` with its defaults, the same on the labelled rows alone, and
logistic regression on these (one-hot, standardised).
"""

import os
import sys

import numpy as np
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conjoin import JointClassifier, datasets

KINDS = {"naive_bayes": None, "circuit": None, "mixture": None, "circuit + auto": "auto"}
TABLES = ("banknote", "breast_cancer", "pima", "titanic", "telco_churn", "adult", "phoneme")
LABELS = (20, 50, 100)
UNKNOWN = -1


# -------------------------------------------------------------------------------------- label shift


def flipped(X, y, seed):
    """As many rows as there are, of two classes that have changed places in their shares."""
    random = np.random.default_rng(seed)
    second = y == np.unique(y)[1]
    share = 1 - second.mean()
    size = int(min(second.sum() / share, (~second).sum() / (1 - share)))
    ones = random.choice(np.flatnonzero(second), round(size * share), replace=False)
    zeros = random.choice(np.flatnonzero(~second), size - len(ones), replace=False)
    order = random.permutation(np.concatenate([ones, zeros]))
    return X.iloc[order], y[order]


def shift(table, rows, seeds):
    print(
        f"{'model':<16}{'':<12}{'accuracy':>9}{'log-loss':>9}"
        f"{'found':>8}{'true':>8}{'s':>6}{'p':>9}{'loss':>7}{'error':>7}"
    )
    data = datasets.load(table)
    for name, predictor in KINDS.items():
        found = [once(data, name.split(" ")[0], predictor, rows, seed) for seed in range(seeds)]
        for kind in ("not adapted", "adapted", "told"):
            accuracy, loss = (np.mean([each[kind][place] for each in found]) for place in (0, 1))
            more = ""
            if kind == "adapted":
                share, true, error, p = (
                    np.mean([each[key] for each in found])
                    for key in ("found", "true", "error", "p")
                )
                ratios = [np.mean([each["adapted"][1] / each["told"][1] for each in found])]
                ratios += [
                    np.mean([(1 - each["adapted"][0]) / (1 - each["told"][0]) for each in found])
                ]
                more = f"{share:>8.3f}{true:>8.3f}{error:>6.3f}{p:>9.1g}"
                more += f"{ratios[0]:>7.3f}{ratios[1]:>7.3f}"
            print(f"{name:<16}{kind:<12}{accuracy:>9.3f}{loss:>9.4f}{more}", flush=True)


def once(data, family, predictor, rows, seed):
    """(accuracy, log-loss) of the three models, and what adapt found."""
    X, y = data.xy("train") if data.split is not None else data.xy()
    order = np.random.default_rng(seed).permutation(len(y))
    fit = order[:rows]
    y = np.asarray(y)
    held = data.xy("test") if data.split is not None else (X.iloc[order[rows:]], y[order[rows:]])
    model = JointClassifier(family=family, predictor=predictor, random_state=seed).fit(
        X.iloc[fit], y[fit]
    )
    X_new, y_new = flipped(held[0], np.asarray(held[1]), seed)
    half = len(y_new) // 2
    adapted = model.adapt(X_new[:half])
    X_test = X_new[half:]
    label = (y_new[half:] == model.classes_[1]).astype(int)
    log_proba = model.predict_log_proba(X_test)
    true = np.array([1 - label.mean(), label.mean()])
    told = log_proba + np.log(true / np.array(model.model_.facts["shares"]))
    change = adapted.change_
    proba = {"not adapted": np.exp(log_proba), "adapted": adapted.predict_proba(X_test)}
    proba["told"] = np.exp(told - np.logaddexp.reduce(told, axis=1, keepdims=True))
    out = {
        kind: ((each.argmax(1) == label).mean(), log_loss(label, each[:, 1]))
        for kind, each in proba.items()
    }
    return out | {
        "found": change.new[1],
        "true": true[1],
        "error": change.error[1],
        "p": change.p_value,
    }


# --------------------------------------------------------------------------------------- few labels


def logistic():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    select = (
        make_column_selector(dtype_include=np.number),
        make_column_selector(dtype_exclude=np.number),
    )
    return make_pipeline(
        make_column_transformer((numbers, select[0]), (words, select[1])),
        LogisticRegression(max_iter=2000),
    )


def labelled(y, number, random):
    """The places of the rows whose labels are known: two of each class, the others as they come."""
    some = [random.choice(np.flatnonzero(y == label), 2, replace=False) for label in np.unique(y)]
    rest = np.setdiff1d(random.permutation(len(y)), np.concatenate(some))
    return np.concatenate([*some, random.permutation(rest)[: number - sum(map(len, some))]])


def few(family, seeds, most=3000):
    kinds = ("unlabelled", "alone", "logistic")
    print(f"{'table':<16}{'labels':>7}" + "".join(f"{kind:>24}" for kind in kinds))
    for table in TABLES:
        for number in LABELS:
            found = [few_once(table, family, number, seed, most) for seed in range(seeds)]
            cells = []
            for kind in kinds:
                error, loss = np.array([each[kind] for each in found]).T
                cells.append(f"{error.mean():>8.1f} +-{error.std(ddof=1):>4.1f}  {loss.mean():.3f}")
            print(f"{table:<16}{number:>7}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def few_once(table, family, number, seed, most):
    random = np.random.default_rng(seed)
    X, y = datasets.load(table).xy()
    codes = np.unique(np.asarray(y), return_inverse=True)[1]
    order = random.permutation(len(codes))[: most + 2000]
    cut = min(most, int(0.7 * len(order)))
    teach = order[:cut]
    test = order[cut:]
    X_teach = X.iloc[teach].reset_index(drop=True)
    y_teach = codes[teach]
    X_test = X.iloc[test]
    y_test = codes[test]
    known = labelled(y_teach, number, random)
    hidden = np.full(len(teach), UNKNOWN)
    hidden[known] = y_teach[known]
    models = {
        "unlabelled": JointClassifier(family=family, unlabelled=UNKNOWN).fit(X_teach, hidden),
        "alone": JointClassifier(family=family).fit(X_teach.iloc[known], y_teach[known]),
        "logistic": logistic().fit(X_teach.iloc[known], y_teach[known]),
    }
    return {
        kind: judged(model, X_test, y_test, len(np.unique(codes))) for kind, model in models.items()
    }


def judged(model, X, y, classes):
    """Error in percent, and log-loss; a class that was never seen has next to no probability."""
    proba = np.full((len(y), classes), 1e-6)
    proba[:, model.classes_.astype(int)] = model.predict_proba(X)
    proba /= proba.sum(1, keepdims=True)
    return 100 * float((proba.argmax(1) != y).mean()), log_loss(y, proba, labels=np.arange(classes))


def main(words):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asked = {"table": "adult", "rows": "8000", "seeds": "3", "family": "circuit"} | dict(
        word.split("=") for word in words if "=" in word
    )
    if "few" not in words:
        shift(asked["table"], int(asked["rows"]), int(asked["seeds"]))
    if "shift" not in words:
        few(asked["family"], int(asked["seeds"]))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The few-labels table: how often families err that learn from a few labelled rows and many without
a label.

    python3 dev.py bench semi_supervised digits [family ...]
        scikit-learn's digits, 5 labels a digit
    python3 dev.py bench semi_supervised mnist [family ...] [draws=1] [rows=20000]
        MNIST in 8 grey levels, 10 labels a digit
    python3 dev.py bench semi_supervised fashion_mnist [family ...] [draws=1] [rows=20000]
        FashionMNIST alike, 100 labels a class

Digits: the first 1000 images teach, the next 350 are the validation rows, the last 447 the test
rows. MNIST and FashionMNIST: the first 50,000 (or ``rows``) teach, the last 10,000 of the 60,000
are the validation rows, the 10,000 test images the test rows. The labelled rows are drawn anew in
each of 5 draws, as many of each digit; all other rows that teach have no label. The fit sees
neither the validation rows nor the test rows. ``JointClassifier(family)`` with its defaults on
digits; on MNIST with predictor="network", no calibration rows and ``max_time`` LIMIT for p(x).
*own*: the test error of the family's own p(y | x), learned with p(x) from the same rows; *summed*:
the same where missing labels were summed out instead of lent (``spread=False``). *twin*: the same
kind of predictor on the labelled rows alone, moved copies of images included; the last lines are
all kinds of it. Errors are means over the draws with their standard deviation, in percent. CPU and
wall seconds are of one fit, under whatever else runs.
"""

import os
import sys
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from conjoin import JointClassifier
from conjoin.datasets import load_images
from conjoin.joints.hybrid import Hybrid

DRAWS = 5
LIMIT = 120.0  # seconds for p(x) of MNIST
SUMMED = ("mixture",)  # families for which that is quick
EACH = {"mnist": 10, "fashion_mnist": 100}  # labels a class
FAMILIES = {
    "digits": ("mixture", "circuit", "energy", "vae"),
    "mnist": ("mixture",),
    "fashion_mnist": ("mixture",),
}
TWINS = {
    "digits": ("linear", "boosting", "network"),
    "mnist": ("linear", "network"),
    "fashion_mnist": ("linear", "network"),
}


def digits():
    bunch = load_digits()
    X = bunch.images.astype("uint8")
    y = bunch.target
    return (
        {
            "teach": (X[:1000], y[:1000]),
            "validation": (X[1000:1350], y[1000:1350]),
            "test": (X[1350:], y[1350:]),
        },
        5,
        {"types": {"levels": 17}},
        {},
    )


def pictures(name, rows):
    data = load_images(name)
    X = data.x_train
    y = np.searchsorted(np.unique(data.y_train), data.y_train)
    parts = {"teach": (X[:rows], y[:rows]), "validation": (X[50000:], y[50000:])}
    parts["test"] = data.x_test, np.searchsorted(np.unique(data.y_train), data.y_test)
    settings = {"predictor": "network", "max_time": LIMIT}
    return (
        {part: (images // 32, of) for part, (images, of) in parts.items()},
        EACH[name],
        settings,
        {"calibration": 0.0},
    )


def labelled(y, each, draw):
    """The places of the rows whose labels are known."""
    random = np.random.default_rng(draw)
    return np.concatenate(
        [random.choice(np.flatnonzero(y == label), each, replace=False) for label in np.unique(y)]
    )


def own_error(model, X, y):
    """Of the family's own p(y | x), whatever predictor stands beside it."""
    joint = model.model_.joint
    x = model.model_.encode(X).event
    joint = joint.base if isinstance(joint, Hybrid) else joint
    with torch.no_grad():
        guess = torch.cat(
            [
                joint.log_joint(x.take(slice(start, start + 500))).argmax(1)
                for start in range(0, x.rows, 500)
            ]
        )
    return (model.classes_[guess] != y).mean()


def error(model, X, y):
    return (model.predict(X) != y).mean()


def once(family, parts, each, settings, fit, draw):
    """One draw of the labels: errors by name, and seconds."""
    X, y = parts["teach"]
    known = labelled(y, each, draw)
    few = np.full(len(y), -1)
    few[known] = y[known]
    cpu = time.process_time()
    wall = time.monotonic()
    model = JointClassifier(family=family, unlabelled=-1, **settings).fit(X, few, **fit)
    spent = {"CPU s": time.process_time() - cpu, "wall s": time.monotonic() - wall}
    facts = model.model_.facts
    chosen = facts["predictor"]["chosen"]
    out = {part: error(model, *parts[part]) for part in ("validation", "test")} | {
        "own": own_error(model, *parts["test"])
    }
    if family in SUMMED and not settings:
        summed = JointClassifier(family=family, unlabelled=-1, predictor=None, spread=False).fit(
            X, few
        )
        out["summed"] = error(summed, *parts["test"])
    out["twin"] = twin(family, chosen, parts, each, draw)["test"]
    return {name: 100 * value for name, value in out.items()} | spent, chosen, facts["labels"]


def twin(family, kind, parts, each, draw):
    """Of the same kind of predictor, on the labelled rows alone."""
    X, y = parts["teach"]
    known = labelled(y, each, draw)
    own = kind in ("family", "features")
    alone = JointClassifier(
        family=family if own else "naive_bayes",
        predictor=None if kind == "family" else kind,
        spread=False,
    )
    alone.fit(X[known], y[known], calibration=0.0)
    return {part: error(alone, *parts[part]) for part in ("validation", "test")}


def spread(values):
    return (
        f"{np.mean(values):.1f} +- {np.std(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"
    )


def line(*cells):
    print("| " + " | ".join(f"{cell:<13}" for cell in cells) + " |", flush=True)


def main(names):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    data = names[0] if names and names[0] in FAMILIES else "digits"
    asked = {"draws": DRAWS, "rows": 50_000} | {
        key: int(value) for key, found, value in (name.partition("=") for name in names) if found
    }
    draws = asked["draws"]
    chosen = [name for name in names if name not in FAMILIES and "=" not in name]
    parts, each, settings, fit = digits() if data == "digits" else pictures(data, asked["rows"])
    columns = ("validation", "test", "own", "summed", "twin", "CPU s", "wall s")
    line("family", *columns, "predictors")
    for family in chosen or FAMILIES[data]:
        told = [once(family, parts, each, settings, fit, draw) for draw in range(draws)]
        cells = [
            spread([found[name] for found, _, _ in told]) if name in told[0][0] else ""
            for name in columns
        ]
        line(family, *cells, " ".join(kind for _, kind, _ in told))
    for kind in TWINS[data]:
        errors = [twin("", kind, parts, each, draw) for draw in range(draws)]
        line(
            f"{kind} alone",
            *(spread([100 * found[part] for found in errors]) for part in ("validation", "test")),
            *[""] * 6,
        )


if __name__ == "__main__":
    main(sys.argv[1:])

"""The digits table: every family on the book's split of scikit-learn's digits, test nats of the
discrete data.

    python3 dev.py bench digits [family ...]
        all families and the classifiers beside them, if none is named
    python3 dev.py bench digits absorbing+network
        p(x) of a family beside p(y | x) of a network, on the first 1350 images

The first 1000 images teach, the next 350 choose (early stopping), the last 447 are asked once; grey
levels 0..16 are 17 categories; defaults throughout, seed 0. *nats* is -log p(x): exact, a bound
(<=, from above), or for an energy the two annealed estimates, of which the forward one is
optimistic on the average and the reverse one pessimistic. *joint* is -log p(x, y) and *error* that
of the joint model of x and y of the same family, trained together. CPU seconds are of this process.
"""

import os
import sys
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from conjoin import JointClassifier
from conjoin.core import Event, Likelihood, Pair, Space, Variable, stream
from conjoin.families import of_tables, resolve
from conjoin.joints.build import build_joint
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

TRAIN = slice(0, 1000)
CHOOSE = slice(1000, 1350)
TEST = slice(1350, None)
X_SPACE = Space(
    (64,),
    tuple(Variable(f"pixel {i}", "ordered", cardinality=17) for i in range(64)),
    "image",
    (1, 8, 8),
)
Y_SPACE = Space((), (Variable("digit", "category", cardinality=10),))
LIMIT = 280.0  # seconds a fit


def data():
    bunch = load_digits()
    return Event(torch.tensor(bunch.data)), Event(torch.tensor(bunch.target).double())


def fit(density, rows, choose, seed=0):
    return train(
        density,
        rows,
        torch.ones(rows.rows).double(),
        choose,
        Plan(seed=seed, max_time=LIMIT),
        Progress(),
    )


def chunks(ask, x, size=149):
    with torch.no_grad():
        return torch.cat(
            [ask(x.take(slice(start, start + size))) for start in range(0, x.rows, size)]
        )


def nats(family, x):
    """-log p(x) of the test images, as text, and the CPU seconds of the fit."""
    started = time.process_time()
    config = resolve(family)
    density = config.density.build(X_SPACE, config, x.take(TRAIN), stream(0, "build"))
    fit(density, x.take(TRAIN), x.take(CHOOSE))
    seconds = time.process_time() - started
    mean = -float(chunks(density.log_prob, x.take(TEST)).mean())
    likelihood = density.capabilities.likelihood
    if likelihood is Likelihood.UNNORMALIZED:
        forward, error, reverse = density.log_partition(generator=stream(0, "partition"))
        return f"{mean + forward:.1f} +-{error:.1f} forward, {mean + reverse:.1f} reverse", seconds
    return f"{'<=' if likelihood is Likelihood.LOWER_BOUND else '  '} {mean:.1f}", seconds


def joint(family, x, y):
    """-log p(x, y), where that is no energy, and the error of p(y | x) on the test images."""
    started = time.process_time()
    config = resolve(family)
    pair = Pair(y, x)
    model = build_joint(config, Y_SPACE, X_SPACE, pair.take(TRAIN), stream(0, "build"))
    fit(model, pair.take(TRAIN), pair.take(CHOOSE))
    seconds = time.process_time() - started
    log_joint = chunks(model.log_joint, x.take(TEST))
    label = y.take(TEST).value.long()
    error = 100 * float((log_joint.argmax(1) != label).double().mean())
    relative = model.capabilities.likelihood is Likelihood.UNNORMALIZED
    return (
        "" if relative else f"{-float(log_joint.gather(1, label[:, None]).mean()):.1f}",
        f"{error:.1f} %",
        seconds,
    )


def hybrid(family):
    """-log p(x, y) and error of ``JointClassifier`` with a network for p(y | x), which may learn
    from the validation rows' 350 too."""
    bunch = load_digits()
    started = time.process_time()
    X = bunch.images.astype("uint8")
    y = bunch.target
    model = JointClassifier(
        family=family, predictor="network", types={"levels": 17}, max_time=LIMIT
    ).fit(X[:1350], y[:1350], calibration=0.0)
    seconds = time.process_time() - started
    log_joint = chunks(model.model_.joint.log_joint, model.model_.encode(X[TEST]).event)
    label = torch.tensor(model.classes_.searchsorted(y[TEST]))
    error = 100 * float((log_joint.argmax(1) != label).double().mean())
    return f"{-float(log_joint.gather(1, label[:, None]).mean()):.1f}", f"{error:.1f} %", seconds


def peers():
    bunch = load_digits()
    X = bunch.data
    y = bunch.target
    noise = np.random.default_rng(0).uniform(0, 1, X.shape)  # constant pixels have no covariance
    models = {
        "3-NN": KNeighborsClassifier(3),
        "RBF-SVM": SVC(gamma="scale", C=10),
        "QDA": QuadraticDiscriminantAnalysis(reg_param=0.1),
    }
    for name, model in models.items():
        train_X = X + noise if name == "QDA" else X
        wrong = (
            model.fit(train_X[TRAIN], y[TRAIN]).predict(X[TEST] + (0.5 if name == "QDA" else 0))
            != y[TEST]
        )
        yield name, f"{100 * wrong.mean():.1f} %"


def line(*cells):
    print(
        "| "
        + " | ".join(
            f"{cell:<{width}}" for cell, width in zip(cells, (24, 34, 8, 8, 6, 6), strict=True)
        )
        + " |",
        flush=True,
    )


def main(names):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    x, y = data()
    line("model", "nats", "joint", "error", "s p(x)", "s joint")
    for name in names or of_tables():
        try:
            family, _, predictor = name.partition("+")
            (value, alone), (both, error, together) = (
                (("", 0.0), hybrid(family)) if predictor else (nats(name, x), joint(name, x, y))
            )
            line(name, value, both, error, f"{alone:.0f}", f"{together:.0f}")
        except (ValueError, NotImplementedError) as reason:
            line(name, str(reason)[:34], "", "", "", "")
    for name, error in peers() if not names else ():
        line(name, "", "", error, "", "")


if __name__ == "__main__":
    main(sys.argv[1:])

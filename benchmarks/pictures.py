"""Pictures: the joint diffusion model measured by judges that were trained apart.

    python benchmarks/pictures.py fit fashion_mnist MODEL [seconds=1200] [seed=0]
        train with defaults and save
    python benchmarks/pictures.py classes fashion_mnist MODEL
        accuracy, log-loss, ECE, bits per dimension
    python benchmarks/pictures.py draws fashion_mnist MODEL [n=10000] [steps=20]
        FID-LeNet and the like, beside their floors
    python benchmarks/pictures.py familiarity fashion_mnist MODEL [n=500]
        AUROC against foreign and spoiled pictures, worst first
    python benchmarks/pictures.py alarm fashion_mnist MODEL
        false alarms at 5 % over 100 re-splits
    python benchmarks/pictures.py alter fashion_mnist MODEL [pneumoniamnist MODEL] [n=200]
        counterfactuals, judged apart
    python benchmarks/pictures.py shift fashion_mnist MODEL [n=4000]
        test pictures in other shares of the classes: adapted, and told them
    python benchmarks/pictures.py fill fashion_mnist MODEL [n=500]
        the lower half painted in, judged apart
    python benchmarks/pictures.py price fashion_mnist [seconds=300] [size=1] [steps=]
        what each term loses against its single-task twin
    python benchmarks/pictures.py pneumonia [seconds=300] [seeds=3]
        the whole story on PneumoniaMNIST
    python benchmarks/pictures.py chests MODEL [n=1000] [sheet=chests.png]
        the model of `make demo-images`: AUC, both promises, its draws beside real pictures
    python benchmarks/pictures.py bits mnist [family ...] [seconds=600] [pictures=10000]
        bits per dimension of the test pictures

Official splits; the test pictures are asked once. CPU seconds are of this process, on
OMP_NUM_THREADS threads. ``judges`` says how the judges are trained; a judge is trained anew for
each call, by the same recipe.
"""

import multiprocessing
import resource
import sys
import time

import numpy as np
import torch
from judges import Judge, fid, kid, manifold
from scipy.ndimage import gaussian_filter
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.calibration.conformal import Calibration
from conjoin.core import Event, stream
from conjoin.datasets import load_images
from conjoin.demos.images import parts, sentences
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.questions.evaluate import debiased_ece
from conjoin.questions.price import DISCRIMINATIVE_ONLY_WEIGHT

BITS = (
    "circuit",
    "autoregressive",
    "diffusion",
    "transformer",
    "flow",
    "flow_matching",
    "vae",
    "energy",
    "mixture",
)
# pictures that tell how long an answer takes, and CPU seconds that all answers may take
FIRST = 100
ASK = 120.0


def line(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def fit(name, path, seconds=1200, seed=0):
    data = load_images(name)
    started = time.monotonic()
    cpu = time.process_time()
    model = JointClassifier(
        family="diffusion", max_time=float(seconds), random_state=int(seed), verbose=True
    ).fit(data.x_train, data.y_train)
    trained = model.model_.facts["trained"]
    line(
        name,
        f"{time.process_time() - cpu:.0f} CPU s",
        f"{time.monotonic() - started:.0f} s",
        f"{trained['steps']} steps",
        trained["stopped"],
    )
    model.save(path, force=True)


def classes(name, path):
    data = load_images(name)
    model = conjoin.load(path)
    proba = model.predict_proba(data.x_test)
    right = proba.argmax(1) == np.searchsorted(model.classes_, data.y_test)
    own = np.searchsorted(model.classes_, data.y_test)
    ece = debiased_ece(proba.max(1), right)
    loss = -np.log(proba[np.arange(len(own)), own]).mean()
    line("accuracy", f"{right.mean():.4f}", "log-loss", f"{loss:.4f}", "ECE", f"{ece:.4f}")
    bits = -model.score_samples(data.x_test[:500]) / np.log(2) / data.x_test[0].size
    line("bits per dimension, bound, 500 pictures", f"{bits.mean():.3f}")


def price(name, seconds=300, size=1.0, steps=None, seed=0):
    """Three fits of one network: both terms, and each alone. ``steps`` instead of seconds makes
    them alike on a busy machine."""
    data = load_images(name)
    config = PictureDiffusion(size=float(size), steps=None if steps is None else int(steps))
    settings = {"max_time": float(seconds) if steps is None else None, "random_state": int(seed)}
    twins = {
        "joint": JointClassifier(family=config, **settings),
        "p(x) alone": JointDensity(family=config, **settings),
        "p(y | x) alone": JointClassifier(
            family=config.set_params(label_weight=DISCRIMINATIVE_ONLY_WEIGHT), **settings
        ),
    }
    line("model", "CPU s", "steps", "accuracy", "log-loss", "bits per dimension, 500 pictures")
    for twin, model in twins.items():
        cpu = time.process_time()
        model.fit(data.x_train, data.y_train, calibration=0.0)
        cpu = time.process_time() - cpu
        told = ("", "")
        if twin != "p(x) alone":
            proba = model.predict_proba(data.x_test)
            own = np.searchsorted(model.classes_, data.y_test)
            told = (
                f"{(proba.argmax(1) == own).mean():.4f}",
                f"{-np.log(proba[np.arange(len(own)), own]).mean():.4f}",
            )
        bits = (
            ""
            if twin == "p(y | x) alone"
            else f"{model.bits_per_dim(data.x_test[:500]).mean():.3f}"
        )
        line(twin, f"{cpu:.0f}", model.model_.facts["trained"]["steps"], *told, bits)


def draws(name, path, n=10_000, steps=20):
    data = load_images(name)
    model = conjoin.load(path)
    judge = Judge.trained(data.x_train, data.y_train)
    density = model.model_.density_of_x
    n = int(n)
    y = np.random.default_rng(0).choice(data.y_train, n)
    code = np.searchsorted(model.classes_, y)
    started = time.process_time()
    drawn = density.draw(
        n, Event(torch.tensor(code).double()), steps=int(steps), generator=stream(0, "draws")
    ).value
    line(f"{n} draws of {steps} steps", f"{n / (time.process_time() - started):.1f} a CPU s")
    made = drawn.numpy().reshape(n, *data.x_train.shape[1:]).astype("uint8")
    real = judge.features(data.x_test)
    seen = judge.features(made)
    control = judge.features(data.x_train[:n])
    line(
        "FID-LeNet",
        f"{fid(seen, real):.3f}",
        "floor, real against real",
        f"{fid(control, real):.3f}",
    )
    line("KID", f"{kid(seen, real):.4f}", "floor", f"{kid(control, real):.4f}")
    line(*(f"{key} {value:.3f}" for key, value in manifold(real, seen).items()))
    line(
        "judge agrees with the class asked for",
        f"{(judge.labels(made) == code).mean():.3f}",
        "on test",
        _accuracy(judge, data),
    )
    line("classifier accuracy score", _accuracy(Judge.trained(made, code), data))
    near = NearestNeighbors(n_neighbors=1).fit(
        data.x_train.reshape(len(data.x_train), -1)[:20000].astype("float32")
    )
    apart = [
        np.median(near.kneighbors(X.reshape(len(X), -1)[:500].astype("float32"))[0])
        for X in (made, data.x_test)
    ]
    line(
        "nearest training picture, median distance: draws",
        f"{apart[0]:.0f}",
        "test pictures",
        f"{apart[1]:.0f}",
    )


def _accuracy(judge, data):
    return f"{(judge.labels(data.x_test) == data.y_test).mean():.3f}"


def foreign(name, n):
    """Pictures of other kinds, in the size of the data, and its own test pictures spoiled in five
    ways."""
    random = np.random.default_rng(0)
    data = load_images(name)
    size = data.x_test.shape[1:]
    base = data.x_test[random.choice(len(data.x_test), n, replace=False)]
    other = "mnist" if name == "fashion_mnist" else "fashion_mnist"
    out = {
        other: load_images(other).x_test[:n],
        "omniglot": _some(load_images("omniglot_small").x_train, n, random),
    }
    out["emoji"] = _grey(_some(load_images("emoji").x_train, n, random), size)
    out["noise"] = random.integers(0, 256, (n, *size))
    out["constant"] = np.broadcast_to(random.integers(0, 256, (n, 1, 1)), (n, *size))
    out["blur"] = np.stack([gaussian_filter(picture.astype(float), 1.5) for picture in base])
    out["fade"] = base * 0.5
    out["grain"] = np.clip(base + random.normal(0, 25, base.shape), 0, 255)
    block = base.copy()
    for picture, (row, column) in zip(block, random.integers(4, 14, (n, 2)), strict=True):
        picture[row : row + 10, column : column + 10] = 0
    out |= {"block": block, "turned": np.rot90(base, 1, (1, 2))}
    return {key: np.ascontiguousarray(np.rint(value).astype("uint8")) for key, value in out.items()}


def _some(X, n, random):
    return X[random.choice(len(X), n, replace=False)]


def _grey(X, size):
    """Pictures in colour as grey ones of a size."""
    grey = X.astype(float).mean(-1)
    return torch.nn.functional.interpolate(torch.tensor(grey)[:, None], size=size, mode="area")[
        :, 0
    ].numpy()


def familiarity(name, path, n=500):
    n = int(n)
    data = load_images(name)
    model = conjoin.load(path)
    own = data.x_test[np.random.default_rng(1).choice(len(data.x_test), 2 * n, replace=False)]
    strange = foreign(name, n)
    fit_rows = data.x_train[np.random.default_rng(2).choice(len(data.x_train), 5000, replace=False)]
    statistics = {
        "ours": lambda X: model.model_.statistic(model.model_.encode(X)),
        "log p(x)": lambda X: model.score_samples(X[:200]),
        "maximum softmax": lambda X: model.predict_proba(X).max(1),
        "kNN on features": _nearest(model, fit_rows),
        "one Gaussian of pixels": _gaussian(fit_rows),
    }
    usual = {key: ask(own) for key, ask in statistics.items()}
    table = {
        key: {other: _auroc(usual[key], ask(X)) for other, X in strange.items()}
        for key, ask in statistics.items()
    }
    order = sorted(strange, key=lambda other: table["ours"][other])
    line("foreign", *statistics)
    for other in order:
        line(other, *(f"{table[key][other]:.3f}" for key in statistics))
    line("worst", *(f"{min(table[key].values()):.3f}" for key in statistics))
    line("mean", *(f"{np.mean(list(table[key].values())):.3f}" for key in statistics))


def _auroc(usual, strange):
    return roc_auc_score(np.r_[np.ones(len(usual)), np.zeros(len(strange))], np.r_[usual, strange])


def _nearest(model, rows):
    def features(X):
        with torch.no_grad():
            out = model.model_.density_of_x.features(model.model_.encode(X).event).numpy()
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    near = NearestNeighbors(n_neighbors=50).fit(features(rows))
    return lambda X: -near.kneighbors(features(X))[0][:, -1]


def _gaussian(rows):
    flat = rows.reshape(len(rows), -1) / 255.0
    mean = flat.mean(0)
    precision = np.linalg.inv(np.cov(flat.T) + 1e-3 * np.eye(flat.shape[1]))
    return lambda X: (
        -np.einsum(
            "bi,ij,bj->b",
            X.reshape(len(X), -1) / 255.0 - mean,
            precision,
            X.reshape(len(X), -1) / 255.0 - mean,
        )
    )


def alarm(name, path, splits=100):
    data = load_images(name)
    model = conjoin.load(path)
    statistic = model.model_.statistic(model.model_.encode(data.x_test[:4000]))
    rates = []
    for split in range(int(splits)):
        order = np.random.default_rng(split).permutation(len(statistic))
        half = len(order) // 2
        rates.append(
            (Calibration(statistic[order[:half]]).p_value(statistic[order[half:]]) <= 0.05).mean()
        )
    line(
        "false alarms at 5 % asked",
        f"mean {np.mean(rates):.4f}",
        f"from {min(rates):.3f} to {max(rates):.3f}",
    )


def alter(*pairs, n=200):
    line(
        "counterfactuals",
        "CPU s each",
        "found",
        "flips by the judge",
        "in at most 15 %",
        "median share",
        "familiarity over .05",
    )
    for name, path in zip(pairs[::2], pairs[1::2], strict=True):
        data = load_images(name)
        model = conjoin.load(path)
        judge = Judge.trained(data.x_train, data.y_train)
        started = time.process_time()
        found = model.counterfactual(data.x_test[: int(n)])
        seconds = (time.process_time() - started) / len(found.share)
        flipped = judge.labels(found.altered) == np.searchsorted(model.classes_, found.to)
        rates = [
            np.mean(each)
            for each in (found.found, flipped, found.share <= 0.15, found.familiarity > 0.05)
        ]
        figures = (*rates[:3], np.median(found.share), rates[3])
        line(
            f"{name}, {len(found.share)} pictures",
            f"{seconds:.2f}",
            *(f"{each:.3f}" for each in figures),
        )


def shift(name, path, n=4000):
    """Half of the resampled pictures adapt, without labels, the other half judge; the last class
    comes 19 times as often as the first."""
    data = load_images(name)
    model = conjoin.load(path)
    random = np.random.default_rng(0)
    half = int(n) // 2
    own = np.searchsorted(model.classes_, data.y_test)
    share = np.linspace(0.05, 0.95, len(model.classes_))
    share /= share.sum()
    chosen = random.choice(len(own), 2 * half, p=(share / np.bincount(own))[own])
    X = data.x_test[chosen]
    y = own[chosen]
    adapted = model.adapt(X[:half])
    log_proba = np.log(model.predict_proba(X[half:]).clip(1e-300))
    told = log_proba + np.log(share / np.array(model.model_.facts["shares"]))
    answers = {
        "not adapted": log_proba,
        "adapted": np.log(adapted.predict_proba(X[half:]).clip(1e-300)),
        "told": told,
    }
    for how, each in answers.items():
        each = each - np.logaddexp.reduce(each, axis=1, keepdims=True)
        loss = -each[np.arange(half), y[half:]].mean()
        line(how, f"accuracy {(each.argmax(1) == y[half:]).mean():.4f}", f"log-loss {loss:.4f}")
    print(adapted.change_)


def fill(name, path, n=500):
    data = load_images(name)
    model = conjoin.load(path)
    judge = Judge.trained(data.x_train, data.y_train)
    X = data.x_test[: int(n)]
    holes = X.astype(float)
    middle = X.shape[1] // 2
    holes[:, middle:] = np.nan
    started = time.process_time()
    best, *drawn = model.impute(holes), *model.impute(holes, n_draws=2, random_state=0)
    line("CPU s each", f"{(time.process_time() - started) / (3 * len(X)):.2f}")
    named = [
        f"{(judge.labels(each.astype('uint8')) == data.y_test[: len(X)]).mean():.3f}"
        for each in (best, *drawn)
    ]
    line(
        "the judge names the class of the most probable completion",
        named[0],
        "of two draws",
        *named[1:],
    )
    line("of the whole pictures", f"{(judge.labels(X) == data.y_test[: len(X)]).mean():.3f}")
    line(
        "mean difference of two completions, grey levels",
        f"{np.abs(drawn[0] - drawn[1])[:, middle:].mean():.1f}",
    )


def pneumonia(seconds=300, seeds=3):
    data = load_images("pneumoniamnist")
    rows = []
    for seed in range(int(seeds)):
        cpu = time.process_time()
        model = JointClassifier(family="diffusion", max_time=float(seconds), random_state=seed).fit(
            data.x_train, data.y_train
        )
        cpu = time.process_time() - cpu
        held, sick = (model.predict_proba(X)[:, 1] for X in (data.x_val, data.x_test))
        cut = _cut(held, data.y_val)
        right = (sick >= cut) == data.y_test
        p_value = model.model_.p_value(model.model_.encode(data.x_test))
        sure = np.argsort(
            -(np.abs(logit(sick.clip(1e-9, 1 - 1e-9)) - logit(cut)) + 1e3 * (p_value > 0.05))
        )[: int(0.8 * len(sick))]
        adapted = model.adapt(data.x_test)
        row = (
            roc_auc_score(data.y_test, sick),
            right.mean(),
            right[sure].mean(),
            (p_value <= 0.05).mean(),
        )
        line(f"seed {seed}", f"{cpu:.0f} CPU s", *(f"{value:.3f}" for value in row))
        print(adapted.change_, flush=True)
        rows.append(row)
    line(
        "mean",
        "",
        *(f"{value:.3f}" for value in np.mean(rows, 0)),
        "AUC, accuracy, accuracy of the 80 % surest familiar, unfamiliar",
    )


def chests(path, n=1000, sheet="chests.png"):
    """What the demo says of its model, and its draws, judged by a LeNet of the pictures that it
    learned from."""
    teach, like, other = parts(load_images("pneumoniamnist"))
    model = conjoin.load(path)
    cpu = time.process_time()
    print(*sentences(model, like, other), sep="\n", flush=True)
    line("these sentences", f"{time.process_time() - cpu:.0f} CPU s")
    code = np.searchsorted(model.classes_, teach.y)
    judge = Judge.trained(teach.X, code)
    asked = np.random.default_rng(0).choice(code, int(n))
    cpu = time.process_time()
    drawn = model.model_.density_of_x.sample(
        len(asked), Event(torch.tensor(asked).double()), generator=stream(0, "draws")
    )
    line(f"{n} draws", f"{time.process_time() - cpu:.0f} CPU s")
    made = drawn.value.numpy().reshape(-1, *teach.X.shape[1:]).astype("uint8")
    real = judge.features(teach.X)
    floor = fid(judge.features(like.X), real)
    line("FID-LeNet", f"{fid(judge.features(made), real):.2f}", f"floor, held out {floor:.2f}")
    named = judge.labels(made) == asked
    own = (judge.labels(like.X) == np.searchsorted(model.classes_, like.y)).mean()
    each = [f"{name} {named[asked == k].mean():.3f}" for k, name in enumerate(model.classes_)]
    line("the judge names the class of", f"{named.mean():.3f}", *each, f"held out {own:.3f}")
    _sheet(sheet, [X[y == k][:10] for X, y in ((made, asked), (teach.X, code)) for k in (0, 1)])


def _sheet(path, rows):
    """Rows of pictures as one file, four times as large."""
    import matplotlib.pyplot as plt

    whole = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    plt.imsave(path, np.kron(whole, np.ones((4, 4))), cmap="gray", vmin=0, vmax=255)


def _cut(proba, y):
    """The middle, in log-odds, of the thresholds whose accuracy is within one standard error of the
    best: on few rows many are as good."""
    cuts = np.unique(proba.clip(1e-9, 1 - 1e-9))
    rates = np.array([((proba >= cut) == y).mean() for cut in cuts])
    best = rates.max()
    good = cuts[rates >= best - np.sqrt(best * (1 - best) / len(y))][[0, -1]]
    return expit(logit(good).mean())


def bits(name, *families, seconds=600, pictures=10_000):
    """Each family in a process of its own, so that the peak of memory is its own."""
    line(
        "family",
        "bits per dimension",
        "log p(x) is",
        "test pictures",
        "CPU s to fit",
        "to ask",
        "peak, GB",
    )
    for family in families or BITS:
        process = multiprocessing.get_context("spawn").Process(
            target=_bits, args=(name, family, float(seconds), int(pictures))
        )
        process.start()
        process.join()
        if process.exitcode:
            line(family, f"ended by signal or error {process.exitcode}")


def _bits(name, family, seconds, pictures):
    """A family that would take more than ASK seconds is asked about fewer pictures."""
    data = load_images(name)
    cpu = time.process_time()
    try:
        model = JointDensity(family=family, max_time=seconds).fit(data.x_train, calibration=0.0)
        fitted = time.process_time() - cpu
        asked = time.process_time()
        some = model.bits_per_dim(data.x_test[:FIRST])
        count = min(pictures, max(FIRST, int(ASK * FIRST / (time.process_time() - asked))))
        told = (
            np.r_[some, model.bits_per_dim(data.x_test[FIRST:count])]
            if count > FIRST
            else some[:count]
        )
    except ValueError as error:
        line(family, error, f"{time.process_time() - cpu:.0f} CPU s", f"{_peak():.1f} GB")
        return
    value = f"{told.mean():.3f} +- {told.std() / len(told) ** 0.5:.3f}"
    asked = time.process_time() - asked
    line(
        family,
        value,
        model.status_["log_prob"],
        len(told),
        f"{fitted:.0f}",
        f"{asked:.0f}",
        f"{_peak():.1f}",
    )


def _peak():
    """GB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    words = [word for word in sys.argv[2:] if "=" not in word]
    asked = dict(word.split("=", 1) for word in sys.argv[2:] if "=" in word)
    verbs = (
        fit,
        classes,
        price,
        draws,
        familiarity,
        alarm,
        alter,
        shift,
        fill,
        pneumonia,
        chests,
        bits,
    )
    {each.__name__: each for each in verbs}[sys.argv[1]](*words, **asked)

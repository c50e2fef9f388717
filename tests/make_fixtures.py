"""Write one small model folder per family, with its answers, that every later release must load and
answer alike.

    python tests/make_fixtures.py [FAMILY ...]

Run once per format of the folders (``conjoin.saving.FORMAT``); those of an older format are never
written again. Beside config.json and weights.safetensors stand ``rows.csv`` (or ``rows.npz``, of
pictures), ``answers.npz``, and ``meta.json``, which says on what kind of machine the answers were
computed: on another kind the last digits differ."""

import json
import platform
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from golden.brief import brief, pictures, table

import conjoin
from conjoin.codecs.image.pictures import Picture
from conjoin.families import FAMILIES
from conjoin.model.saving import FORMAT

FOLDER = Path(__file__).parent / "fixtures" / f"models-format{FORMAT}"
SMALL = {
    "width": 4,
    "draws": 4,
    "calls": 4,
    "particles": 8,
    "components": 4,
    "hidden": 4,
    "bins": 4,
    "groups": 4,
    "orders": 2,
    "steps": 20,
}
FEWER_STEPS = {"batch": 16, "steps": 6, "points": 2, "sampling_steps": 3, "draws": 2, "size": 0.1}
KINDS = {  # how the cells of rows.csv are read
    "kind": lambda word: word or None,
    "k": str,
    "rings": lambda word: float(word or "nan"),
    "height": lambda word: float(word or "nan"),
    "mass": float,
    "a": float,
    "old": lambda word: word == "True",
}
# of the pictures: with few levels the weights are few
LEVELS = 16
SIDE = 8

# what each is made for, and by which predictor it tells y
MADE = {
    "circuit": ("JointClassifier", "linear"),
    "default": ("JointClassifier", None),
    "gaussian_mixture": ("JointDensity", None),
    "naive_bayes": ("JointClassifier", None),
    "linear_discriminant": ("JointClassifier", None),
    "quadratic_discriminant": ("JointRegressor", None),
    "mixture": ("JointRegressor", "linear"),
    "dirichlet_process": ("JointDensity", None),
    "forest": ("JointDensity", None),
    "indian_buffet": ("JointClassifier", None),
    "factor_analysis": ("JointRegressor", None),
    "ppca": ("JointDensity", None),
    "topic": ("JointClassifier", "network"),
    "bayes_net": ("JointRegressor", None),
    "markov_field": ("JointClassifier", "boosting"),
    "grid_field": ("JointDensity", None),
    "energy": ("JointClassifier", None),
    "boltzmann": ("JointRegressor", None),
    "vae": ("JointClassifier", "features"),
    "ladder": ("JointDensity", None),
    "vqvae": ("JointRegressor", None),
    "autoregressive": ("JointClassifier", None),
    "transformer": ("JointDensity", None),
    "pixel_cnn": ("JointClassifier", None),
    "flow": ("JointRegressor", None),
    "flow_matching": ("JointDensity", None),
    "diffusion": ("JointClassifier", None),
    "picture_diffusion": ("JointClassifier", "trunk"),
    "picture_tokens": ("JointDensity", None),
    "latent_diffusion": ("JointClassifier", None),
    "cascade": ("JointDensity", None),
    "illustrated": ("JointClassifier", None),
    "absorbing_diffusion": ("JointDensity", None),
    "integer_flow": ("JointClassifier", None),
}


def machine():
    """All that the last bits of an answer depend on."""
    words = {}
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        words = {
            key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
        }
    names = ("model name", "cpu family", "model", "stepping")
    return {
        "processor": " ".join(words.get(name, "") for name in names).strip()
        or platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def grey(rows, seed=0):
    images, y = pictures(rows, SIDE, seed)
    return images // (256 // LEVELS), y


def illustrated(rows, seed=0):
    images, y = grey(rows, seed)
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"a": random.normal(y, 1.0).round(2), "k": np.where(random.random(rows) < 0.4, "u", "v")}
    )
    return framed(frame, images), y


def framed(frame, images):
    """The columns, and a picture beside them; every seventh row has none."""
    cells = [None if row % 7 == 3 else Picture(image) for row, image in enumerate(images)]
    return frame.assign(scan=pd.Series(cells, dtype=object))


def made(family, rows, seed=0):
    """Rows for a family, and what its kind of estimator is to learn of them."""
    if FAMILIES[family].pictures:
        if family == "illustrated":
            return illustrated(rows, seed)
        X, y = grey(rows, seed)
        return X, None if MADE[family][0] == "JointDensity" else y
    X, grade, price = table(rows, seed)
    return X, {"JointClassifier": grade, "JointRegressor": price, "JointDensity": None}[
        MADE[family][0]
    ]


def fitted(family):
    kind, predictor = MADE[family]
    settings = (
        SMALL
        | (FEWER_STEPS if FAMILIES[family].pictures else {})
        | ({"columns": "mixture"} if family == "illustrated" else {})
    )
    estimator = getattr(conjoin, kind)(family=brief(family, **settings), predictor=predictor)
    X, y = made(family, 120)
    return estimator.fit(X) if y is None else estimator.fit(X, y)


# ------------------------------------------------------------------------------------ rows, answers


def write_rows(folder, X):
    frame, images = (
        (None, X) if isinstance(X, np.ndarray) else (X.drop(columns="scan", errors="ignore"), None)
    )
    if frame is not None:
        frame.to_csv(folder / "rows.csv", index=False)
        if "scan" in X:
            images = np.stack(
                [
                    np.zeros((SIDE, SIDE), "uint8") if cell is None else cell.pixels
                    for cell in X["scan"]
                ]
            )
    if images is not None:
        np.savez_compressed(folder / "rows.npz", images=images)


def read_rows(folder):
    """The rows that the answers are of."""
    csv = folder / "rows.csv"
    npz = folder / "rows.npz"
    images = np.load(npz)["images"] if npz.is_file() else None
    if not csv.is_file():
        return images
    frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
    frame = frame.apply(lambda column: column.map(KINDS[column.name]))
    if "rings" in frame:
        frame["rings"] = frame["rings"].astype("Int64")
    return frame if images is None else framed(frame, images)


def answers(estimator, X):
    """{name: array} of numbers and words."""
    kind = type(estimator).__name__
    out = {"score_samples": estimator.score_samples(X)}
    if kind == "JointClassifier":
        out["predict_proba"] = estimator.predict_proba(X)
    if kind == "JointRegressor":
        out["predict"] = estimator.predict(X)
    verdicts = estimator.decide(X) if kind == "JointDensity" else estimator.decide(X, max_error=0.4)
    out |= {
        "familiarity": verdicts["familiarity"].to_numpy(),
        "verdict": verdicts["verdict"].to_numpy().astype(str),
    }
    rows, labels = estimator.sample(6, random_state=0)
    if isinstance(rows, np.ndarray):
        out["sample"] = rows
    else:
        out |= {f"sample.{name}": plain(rows[name]) for name in rows}
    return out if labels is None else out | {"sample.y": plain(pd.Series(labels))}


def plain(column):
    """Numbers, words, or the pixels of pictures."""
    cells = column.to_numpy(dtype=object)
    if any(hasattr(cell, "pixels") for cell in cells):
        return np.stack([cell.pixels for cell in cells])
    if column.dtype.kind in "iufb":
        return column.to_numpy(dtype=float)
    return cells.astype(str)


def write(family):
    folder = FOLDER / family
    estimator = fitted(family)
    estimator.save(folder, force=True)
    (folder / "README.md").unlink()
    write_rows(folder, made(family, 12, seed=1)[0])
    loaded = conjoin.load(folder)
    np.savez_compressed(folder / "answers.npz", **answers(loaded, read_rows(folder)))
    (folder / "meta.json").write_text(json.dumps(machine(), indent=1) + "\n")
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    print(
        f"{family:24} {sum(sizes.values()):8} bytes, weights {sizes['weights.safetensors']}",
        flush=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for family in sys.argv[1:] or [n for n, f in FAMILIES.items() if "vector" in f.layouts]:
        for old in ("rows.csv", "rows.npz", "answers.npz", "meta.json"):
            (FOLDER / family / old).unlink(missing_ok=True)
        write(family)

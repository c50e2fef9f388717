"""The figures of the documentation: python docs/figures/make.py [name ...], in the folder of the
project.

Each function draws one figure, from data that come with scikit-learn and with fixed seeds.
`conjoin.plot` draws where it can. Files are written beside this one; a large one is written in few
colours, so that it stays small."""

import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_moons
from sklearn.model_selection import train_test_split

import conjoin
from conjoin.plot import FamiliarityDisplay, PlaneDisplay, ReliabilityDisplay, SamplesDisplay
from conjoin.plot.style import CLASSES, INK, MUTED, RULE, VERDICTS, calm

HERE = Path(__file__).resolve().parent
COLOURS = 128
LARGEST = 100_000  # bytes


def tumours():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.filter(regex="^mean")
    y = y.map({0: "malignant", 1: "benign"}).rename("diagnosis")
    return train_test_split(X, y, test_size=150, random_state=0, stratify=y)


def verdicts():
    """Two moons: what the classifier says, where there are data, and the verdicts."""
    points, label = make_moons(2000, noise=0.25, random_state=0)
    frame = pd.DataFrame(points, columns=["a", "b"])
    names = pd.Series(np.where(label, "orange", "blue"), name="moon")
    model = conjoin.JointClassifier(random_state=0).fit(frame, names)
    display = PlaneDisplay.from_estimator(
        model, frame, names, columns=("a", "b"), rates=(0.05, 0.03)
    )
    return display.figure_


def familiarity():
    """The statistic of familiarity of new rows, and of rows whose lengths are in another unit."""
    X, X_new, y, _ = tumours()
    model = conjoin.JointClassifier(random_state=0).fit(X, y)
    other = X_new.copy()
    other["mean radius"] = other["mean radius"] * 1.3
    figure, axes = plt.subplots(2, 1, figsize=(7, 5.2), layout="constrained", sharex=True)
    for ax, rows, title in zip(
        axes, (X_new, other), ("new rows", "new rows whose radius is 30 % too large"), strict=True
    ):
        FamiliarityDisplay.from_estimator(model, rows, ax=ax)
        ax.set_title(title, fontsize=10, loc="left", color=INK)
    axes[0].set_xlabel("")
    return figure


def reliability():
    """Confidence against the share of right answers."""
    X, X_new, y, y_new = tumours()
    model = conjoin.JointClassifier(random_state=0).fit(X, y)
    return ReliabilityDisplay.from_estimator(model, X_new, y_new, bins=5).figure_


def samples():
    """Columns of drawn rows beside the same columns of real rows."""
    table = load_diabetes(as_frame=True, scaled=False).frame
    model = conjoin.JointDensity(random_state=0).fit(table)
    return SamplesDisplay.from_estimator(
        model, table, columns=["age", "sex", "bmi", "bp", "s5", "target"]
    ).figure_


def counterfactual():
    """The least that would have to be otherwise for the other answer, on two moons."""
    points, label = make_moons(600, noise=0.15, random_state=0)
    frame = pd.DataFrame(points, columns=["a", "b"])
    names = np.where(label, "orange", "blue")
    model = conjoin.JointClassifier(random_state=0).fit(frame, names)
    asked = frame[(names == "blue") & (frame["b"] > 0.4)].iloc[[0, 3, 5, 11, 20, 31]]
    found = model.counterfactual(asked, to="orange", n=1)
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    ax.scatter(*points.T, s=9, c=[CLASSES[each] for each in label], alpha=0.35, edgecolor="none")
    for place, (_, start) in enumerate(asked.iterrows()):
        end = found[found["row"] == place] if "row" in found else found.iloc[[place]]
        ax.annotate(
            "",
            end[["a", "b"]].to_numpy(dtype=float)[0],
            start.to_numpy(),
            arrowprops={"arrowstyle": "->", "color": INK},
        )
    ax.set(xlabel="a", ylabel="b")
    ax.set_title("from blue to the nearest plausible orange", fontsize=10, loc="left", color=INK)
    calm(ax)
    return figure


def drift():
    """The running test of drift: capital against "nothing has changed", row after row."""
    patients = load_diabetes(as_frame=True, scaled=False).frame
    before = patients[:221]
    after = patients[221:].reset_index(drop=True)
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    cases = {"nothing changed": after, "bmi 10 % too large": after.assign(bmi=after["bmi"] * 1.1)}
    for colour, (name, rows) in zip((MUTED, CLASSES[1]), cases.items(), strict=True):
        ax.plot(
            np.arange(1, len(rows) + 1),
            conjoin.drift(before, rows).running.log_capital,
            color=colour,
            label=name,
            linewidth=1.8,
        )
    ax.axhline(
        np.log(20), color=INK, linewidth=1, linestyle=(0, (4, 3)), label="alarm at level 0.05"
    )
    ax.set(xlabel="rows of the second table read so far", ylabel="log capital")
    ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    calm(ax)
    return figure


def coverage():
    """How many rows are answered at which promise."""
    X, X_new, y, _ = tumours()
    model = conjoin.JointClassifier(random_state=0).fit(X, y)
    rates = [0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2]
    found = [
        model.decide(X_new, max_error=rate)["verdict"].value_counts(normalize=True)
        for rate in rates
    ]
    shares = (
        pd.DataFrame(found, index=rates)
        .reindex(columns=["accept", "ambiguous", "unfamiliar"])
        .fillna(0)
    )
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    bottom = np.zeros(len(rates))
    for name in shares:
        ax.bar(
            [f"{rate:.0%}" for rate in rates],
            shares[name],
            bottom=bottom,
            color=VERDICTS[name],
            label=name,
            width=0.7,
        )
        bottom += shares[name].to_numpy()
    ax.set(xlabel="errors among the accepted: at most, asked for", ylabel="share of new rows")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    calm(ax)
    return figure


def digits():
    """Digits drawn by a mixture, and lower halves filled in."""
    pictures, of = load_digits(return_X_y=True)
    pictures = pictures.reshape(-1, 8, 8).astype("uint8")
    model = conjoin.JointClassifier(
        family="mixture", predictor="linear", types={"levels": 17}, random_state=0
    ).fit(pictures[:1500], of[:1500])
    drawn, _ = model.sample(10, y=list(range(10)), random_state=1)
    real = pictures[1500:][[np.flatnonzero(of[1500:] == digit)[2] for digit in range(10)]]
    halves = real.astype(float)
    halves[:, 4:] = np.nan
    rows = {
        "drawn": drawn,
        "real": real,
        "known": np.where(np.isnan(halves), 4, halves),
        "filled in": model.impute(halves),
    }
    figure, axes = plt.subplots(4, 10, figsize=(7.4, 3.2), layout="constrained")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color(RULE)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK, fontsize=9)
    return figure


FIGURES = {
    each.__name__: each
    for each in (
        verdicts,
        familiarity,
        coverage,
        reliability,
        samples,
        counterfactual,
        drift,
        digits,
    )
}


def write(name):
    raw = io.BytesIO()
    figure = FIGURES[name]()
    figure.savefig(raw, dpi=130, facecolor="white")
    plt.close(figure)
    path = HERE / f"{name}.png"
    image = Image.open(raw).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    for asked in sys.argv[1:] or FIGURES:
        write(asked)

"""python -m conjoin.demos.images: chest X-rays, a joint model of them in minutes, and a page that
shows what it knows.

PneumoniaMNIST (MedMNIST v2, J. Yang et al. (2023)): 28 x 28 pictures of children's chests, normal
or with pneumonia. Ctrl-C stops the fit, and the same command goes on from there. No medical device.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["fitted", "main", "sentences", "strange_pictures"]

SEED = 0
SECONDS = 240.0
FAMILY: Any = "diffusion"
SICK = "pneumonia"
WELL = "normal"
STRANGE_PICTURES = 40  # pictures of each kind that is no test picture
INTERRUPTED = 130
NO_DEVICE = (
    "This is a study of a method on small public pictures. It is no medical device, and "
    "nobody should be treated by it."
)


def fitted(X: np.ndarray, y: np.ndarray, folder: Path, seconds: float) -> Any:
    """The model of an earlier call, or one that is fitted now, from where an earlier call was
    broken off. None if this one is."""
    import pandas as pd

    import conjoin
    from conjoin.training.checkpoint import Stop

    # other pictures are another fit
    saved = folder / "model"
    checkpoint = folder / f"checkpoint-{len(X)}"
    if saved.exists():
        return conjoin.load(saved)
    model = conjoin.JointClassifier(
        family=FAMILY, max_time=seconds, random_state=SEED, verbose=True
    )
    try:
        model.fit(X, pd.Series(y, name="diagnosis"), checkpoint=checkpoint, resume=True)
    except KeyboardInterrupt:
        return None
    if model.model_.card["trained"]["stopped"] == Stop.INTERRUPTED:
        return None
    model.save(saved)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return model


def strange_pictures(X: np.ndarray) -> dict[str, np.ndarray]:
    """What is no chest X-ray, or not one as it should be."""
    noise = np.random.default_rng(SEED).integers(0, 256, X.shape).astype(np.uint8)
    return {
        "noise": noise,
        "negatives": 255 - X,
        "X-rays on their side": np.rot90(X, 1, (1, 2)),
        "X-rays upside down": X[:, ::-1],
    }


def sentences(model: Any, X: np.ndarray, y: np.ndarray) -> list[str]:
    """What the model is worth on pictures that it has not seen, good or bad."""
    from sklearn.metrics import roc_auc_score

    from conjoin.model.words import percent

    sick = model.predict_proba(X)[:, list(model.classes_).index(SICK)]
    right = float((model.predict(X) == y).mean())
    auc = roc_auc_score(y == SICK, sick)
    return [
        f"Of {len(X):,} test pictures {percent(right)} are answered rightly if all must be; the "
        f"area under the curve (AUC) is {auc:.3f}.",
        *_alarms(model, X, y),
        "adapt, given the test pictures without their labels: "
        + " ".join(model.adapt(X).change_.words()),
        NO_DEVICE,
    ]


def _alarms(model: Any, X: np.ndarray, y: np.ndarray) -> list[str]:
    """Both alarms at the rates that the calibration rows support."""
    from conjoin.model.words import percent
    from conjoin.plot.choose import promised_rates
    from conjoin.questions.decide import decide
    from conjoin.report.sections import sample_rows

    rates = promised_rates(model.model_)
    if rates is None:
        return ["Too few pictures were held out to promise anything about the two alarms."]
    asked: dict[str, Any] = {"false_alarm": rates[0], "max_error": rates[1], "explain": False}
    some = sample_rows(len(X))  # those that the report asks about
    said = decide(model.model_, X[some], **asked)
    accepted = (said["verdict"] == "accept").to_numpy()
    wrong = accepted & (said["best_guess"].to_numpy() != y[some])
    odd = {
        name: (decide(model.model_, pictures, **asked)["verdict"] == "unfamiliar").mean()
        for name, pictures in strange_pictures(X[some[:STRANGE_PICTURES]]).items()
    }
    alarms = (said["verdict"] == "unfamiliar").mean()
    mistakes = wrong.sum() / max(1, accepted.sum())
    return [
        f"Of {len(some)} of them {percent(alarms)} are called unfamiliar (asked for: at most "
        f"{percent(rates[0], 0)}), "
        f"{percent(accepted.mean())} are answered, and {percent(mistakes)} of those answers are "
        f"wrong (at most {percent(rates[1], 0)}). "
        "Both rates are promised for pictures that come as the held-out ones came; whether these "
        "do is what adapt tests.",
        "Called unfamiliar: "
        + ", ".join(f"{percent(share, 0)} of {name}" for name, share in odd.items())
        + ".",
    ]


def show(page: Path) -> None:
    """Open the page in a browser, where somebody can see it."""
    import webbrowser

    display = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if display and sys.stdout.isatty() and not os.environ.get("CI"):
        webbrowser.open(page.resolve().as_uri())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0; 2 without the pictures, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m conjoin.demos.images", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out",
        default="conjoin-demo-images",
        metavar="FOLDER",
        help="of the model and the report (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of training (default: %(default)g)"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=None,
        help="pictures to learn from and to test on, at most (default: all)",
    )
    asked = parser.parse_args(arguments)
    from conjoin.datasets import load_images

    try:
        data = load_images("pneumoniamnist")
    except ValueError as error:
        print(f"The demo needs the pictures of PneumoniaMNIST. {error}", file=sys.stderr)
        return 2
    (X, y), (X_test, y_test) = (
        (pictures[: asked.rows], np.where(labels == 1, SICK, WELL)[: asked.rows])
        for pictures, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    folder = Path(asked.out)
    print(
        f"PneumoniaMNIST: {len(X):,} chest X-rays to learn from, {len(X_test):,} to test on "
        f"({data.origin}; {data.licence})."
    )
    if not (folder / "model").exists():
        print(
            f"Training takes {asked.seconds:.0f} seconds in all; Ctrl-C stops it, and the same "
            "command goes on."
        )
    return _story(fitted(X, y, folder, asked.seconds), X_test, y_test, folder)


def _story(model: Any, X: np.ndarray, y: np.ndarray, folder: Path) -> int:
    """Figures, report, browser."""
    if model is None:
        print(f"Interrupted. The same command goes on from what lies in {folder}.")
        return INTERRUPTED
    from conjoin.report import write_report

    notes = sentences(model, X, y)
    print("", *notes, "", sep="\n")
    page = write_report(model, folder / "report.html", X, y, show_rows=True, notes=notes)
    print(f"The report: {page}\nThe model, which the next call takes as it is: {folder / 'model'}")
    show(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""python -m conjoin.demos.images: chest X-rays, a joint model of them in minutes, and a page that
shows what it knows.

PneumoniaMNIST (MedMNIST v2, J. Yang et al. (2023)): 28 x 28 pictures of children's chests, normal
or with pneumonia. Its validation pictures come as those of the fit came, and on them both promises
are seen to hold; its test pictures are another place, and are named so. Ctrl-C stops the fit, and
the same command goes on from there. No medical device.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conjoin.demos.arguments import parser_of
from conjoin.demos.generated import generated
from conjoin.demos.resumed import resumed
from conjoin.families.diffusion.picture import PictureDiffusion

__all__ = ["Pictures", "fitted", "main", "parts", "sentences", "strange_pictures"]

SEED = 0
SECONDS = 240.0
# half the channels and small batches: four times as many steps in the same time as by default
FAMILY: Any = PictureDiffusion(size=0.5, batch=64, rate=3e-3, steps=1500)
SICK = "pneumonia"
WELL = "normal"
STRANGE_PICTURES = 40  # pictures of each kind that is no chest X-ray as it should be
INTERRUPTED = 130
NO_DEVICE = (
    "This is a study of a method on small public pictures. It is no medical device, and "
    "nobody should be treated by it."
)


class Pictures(NamedTuple):
    """X (n, 28, 28) uint8, and what each of them shows."""

    X: np.ndarray
    y: np.ndarray


def parts(data: Any, rows: int | None = None) -> tuple[Pictures, Pictures, Pictures]:
    """Pictures to learn from, pictures like them, less those that are copies of the former and may
    be known by heart, and pictures of another place; of each ``rows`` at most."""
    teach, held, other = (
        Pictures(pictures[:rows], np.where(labels == 1, SICK, WELL)[:rows])
        for pictures, labels in (
            (data.x_train, data.y_train),
            (data.x_val, data.y_val),
            (data.x_test, data.y_test),
        )
    )
    seen = {picture.tobytes() for picture in teach.X}
    fresh = np.array([picture.tobytes() not in seen for picture in held.X], dtype=bool)
    return teach, Pictures(held.X[fresh], held.y[fresh]), other


def fitted(X: np.ndarray, y: np.ndarray, folder: Path, seconds: float) -> Any:
    """The model of pictures ``X`` and their diagnoses; None if its fit was broken off."""

    def begin() -> tuple[Any, tuple[Any, ...]]:
        import conjoin

        model = conjoin.JointClassifier(
            family=FAMILY, max_time=seconds, random_state=SEED, verbose=True
        )
        return model, (X, pd.Series(y, name="diagnosis"))

    return resumed(folder, len(X), begin)


def strange_pictures(X: np.ndarray) -> dict[str, np.ndarray]:
    """What is no chest X-ray, or not one as it should be."""
    noise = np.random.default_rng(SEED).integers(0, 256, X.shape).astype(np.uint8)
    return {
        "noise": noise,
        "negatives": 255 - X,
        "X-rays on their side": np.rot90(X, 1, (1, 2)),
        "X-rays upside down": X[:, ::-1],
    }


def sentences(model: Any, like: Pictures, other: Pictures) -> list[str]:
    """What the model is worth, good or bad: on pictures ``like`` those of the fit that it has not
    seen, and on those of an ``other`` place."""
    adapted = model.adapt(other.X).change_.words()
    return [
        f"Like those of the fit, held out: {_worth(model, like)}",
        *_alarms(model, like),
        f"Another place, the public test pictures: {_worth(model, other)}",
        *_elsewhere(model, other),
        f"adapt, given the test pictures without their labels: {' '.join(adapted)}",
        NO_DEVICE,
    ]


def _worth(model: Any, of: Pictures) -> str:
    """How well it predicts."""
    from sklearn.metrics import roc_auc_score

    from conjoin.model.words import percent

    sick = model.predict_proba(of.X)[:, list(model.classes_).index(SICK)]
    right = float((model.predict(of.X) == of.y).mean())
    auc = roc_auc_score(of.y == SICK, sick)
    return (
        f"of {len(of.X):,} pictures {percent(right)} are answered rightly if all must be; the area "
        f"under the curve (AUC) is {auc:.3f}."
    )


def _alarms(model: Any, like: Pictures) -> list[str]:
    """Both alarms at the rates that the calibration rows support, on pictures like those of the
    fit and on what is no such picture."""
    from conjoin.model.words import percent
    from conjoin.plot.choose import promised_rates

    rates = promised_rates(model.model_)
    if rates is None:
        return ["Too few pictures were held out to promise anything about the two alarms."]
    got, broken = _kept(model, like, rates)
    odd = {
        name: (model.model_.p_value(model.model_.encode(pictures)) <= rates[0]).mean()
        for name, pictures in strange_pictures(like.X[:STRANGE_PICTURES]).items()
    }
    shares = ", ".join(f"{percent(share, 0)} of {name}" for name, share in odd.items())
    return [
        f"{got} {broken or 'Both promises hold, up to chance.'}",
        f"Called unfamiliar: {shares}.",
    ]


def _elsewhere(model: Any, other: Pictures) -> list[str]:
    """The same two alarms in another place, on the pictures that the report asks about."""
    from conjoin.plot.choose import promised_rates
    from conjoin.report.sections import sample_rows

    rates = promised_rates(model.model_)
    if rates is None:
        return []
    some = sample_rows(len(other.X))
    got, broken = _kept(model, Pictures(other.X[some], other.y[some]), rates)
    return [f"{got} {broken or 'That is no more than chance, so nothing says that they differ.'}"]


def _kept(model: Any, of: Pictures, rates: tuple[float, float]) -> tuple[str, str]:
    """What became of both promises, and that they are void where more is wrong than by chance."""
    from conjoin.model.words import percent
    from conjoin.questions.decide import decide
    from conjoin.questions.unlike import unlike_fit

    said = decide(model.model_, of.X, false_alarm=rates[0], max_error=rates[1], explain=False)
    accepted = (said["verdict"] == "accept").to_numpy()
    wrong = int((accepted & (said["best_guess"].to_numpy() != of.y)).sum())
    alarms = float((said["verdict"] == "unfamiliar").mean())
    known = np.ones(len(of.y), dtype=bool)
    got = (
        f"Of {len(of.X):,} of them {percent(alarms)} are called unfamiliar (promised: at most "
        f"{percent(rates[0], 0)}), {percent(accepted.mean())} are answered, and "
        f"{percent(wrong / max(1, int(accepted.sum())))} of those answers are wrong (promised: at "
        f"most {percent(rates[1], 0)})."
    )
    return got, unlike_fit(model.model_, of.X, said, *rates, of.y, known)


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
    parser = parser_of("images", __doc__, SECONDS, "training")
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
    teach, like, other = parts(data, asked.rows)
    copies = len(np.asarray(data.x_val)[: asked.rows]) - len(like.X)
    folder = Path(asked.out)
    print(
        f"PneumoniaMNIST: {len(teach.X):,} chest X-rays to learn from, {len(like.X):,} like them "
        f"held out ({copies} that are copies of the former are left out), {len(other.X):,} test "
        f"pictures from another place ({data.origin}; {data.licence})."
    )
    if not (folder / "model").exists():
        print(
            f"Training takes {asked.seconds:.0f} seconds in all, what follows one or two minutes; "
            "Ctrl-C stops it, and the same command goes on."
        )
    return _story(fitted(*teach, folder, asked.seconds), like, other, folder)


def _story(model: Any, like: Pictures, other: Pictures, folder: Path) -> int:
    """Figures, report, browser."""
    if model is None:
        print(f"Interrupted. The same command goes on from what lies in {folder}.")
        return INTERRUPTED
    from conjoin.report import write_report

    notes = sentences(model, like, other)
    print("", *notes, "", sep="\n")
    page = folder / "report.html"
    with generated(model, "report", page):
        write_report(model, page, *other, show_rows=True, notes=notes)
    print(f"The report: {page}\nThe model, which the next call takes as it is: {folder / 'model'}")
    show(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""python -m conjoin.demos.tables: six rows, two classifiers that always answer, and a joint model
that says when it should not.

Fits on scikit-learn's breast-cancer table, which is public. The rows are picked by the rules in
``pick``, never by hand.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Scene", "foreign_units", "main", "pick", "prepare", "screen"]

SEED = 0
FAR = 5.0
WIDTH = 112
CLASSIFIERS = ("boosting", "logistic regression")


@dataclass
class Scene:
    """The fitted parts: conjoin's ``model``, the ``others`` by name, and the test rows with their
    labels."""

    model: Any
    others: dict[str, Any]
    X: pd.DataFrame
    y: pd.Series
    plane: Any = None
    rates: tuple[float, float] = (0.05, 0.05)


def prepare(verbose: bool = True, plane: bool = True, **settings: Any) -> Scene:
    """Split, fit conjoin and the two classifiers on the same rows. ``settings`` go to
    JointClassifier."""
    from sklearn.model_selection import train_test_split

    from conjoin import JointClassifier, datasets
    from conjoin.plot.choose import promised_rates

    X, y = datasets.load("breast_cancer").xy()
    y = y.rename("diagnosis")
    fit_X, test_X, fit_y, test_y = train_test_split(
        X, y, test_size=0.25, random_state=SEED, stratify=y
    )
    model = JointClassifier(random_state=SEED, verbose=verbose, **settings).fit(fit_X, fit_y)
    others = {name: classifier.fit(fit_X, fit_y) for name, classifier in _classifiers().items()}
    scene = Scene(model, others, test_X.reset_index(drop=True), test_y.reset_index(drop=True))
    scene.rates = promised_rates(model._model()) or scene.rates
    if plane:
        scene.plane = _plane(scene, fit_X, fit_y, verbose)
    return scene


def _classifiers() -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return dict(
        zip(CLASSIFIERS, (HistGradientBoostingClassifier(random_state=SEED), linear), strict=True)
    )


def _plane(scene: Scene, fit_X: pd.DataFrame, fit_y: pd.Series, verbose: bool) -> Any:
    """The talk's figure: a model of two columns, whose p(y | x) is logistic regression. None
    without matplotlib."""
    from conjoin import JointClassifier
    from conjoin.plot import PlaneDisplay
    from conjoin.plot.choose import plane_columns

    names = list(plane_columns(scene.model.model_))
    small = JointClassifier("linear", random_state=SEED, verbose=verbose).fit(fit_X[names], fit_y)
    return PlaneDisplay.evaluate(
        small, scene.X[names], scene.y, columns=names, source="the test rows"
    )


# ------------------------------------------------------------------------------------- the six rows


def foreign_units(X: pd.DataFrame) -> pd.DataFrame:
    """The same cells, recorded by someone else: radii and perimeters / 10 (centimetres for
    millimetres), areas / 100."""
    names = list(map(str, X.columns))
    lengths = [name for name in names if "radius" in name or "perimeter" in name]
    areas = [name for name in names if "area" in name]
    out = X.copy()
    out[lengths] = X[lengths] / 10
    out[areas] = X[areas] / 100
    return out


def pick(scene: Scene) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six rows, by rule: (their cells, their ``case`` and ``truth``).

    Ordinary: of the rows accepted as one class, the most familiar; one for each class. Borderline:
    of the other rows that are not unfamiliar, the one with the least confidence. Foreign: the
    ordinary row of the second class in other units; that of the first with its cells shuffled, and
    with every cell times five."""
    verdicts = _decide(scene, scene.X, explain=False)
    ordinary = [_most_familiar(verdicts, label) for label in scene.model.classes_]
    left = verdicts[(verdicts["verdict"] != "unfamiliar") & ~verdicts.index.isin(ordinary)]
    places = [*ordinary, left["confidence"].idxmin()]
    first, second = (scene.X.loc[[place]] for place in ordinary)
    shuffled = pd.DataFrame(
        np.random.default_rng(SEED).permutation(first.to_numpy(), axis=1), columns=first.columns
    )
    rows = pd.concat(
        [scene.X.loc[places], foreign_units(second), shuffled, first * FAR], ignore_index=True
    )
    truth = scene.y.loc[places].astype(str).tolist()
    cases = [
        "1 ordinary",
        "2 ordinary",
        "3 borderline",
        "4 row 2 in cm",
        "5 row 1 shuffled",
        f"6 row 1 times {FAR:g}",
    ]
    return rows, pd.DataFrame({"case": cases, "truth": [*truth, truth[1], "nobody", "nobody"]})


def _most_familiar(verdicts: pd.DataFrame, label: Any) -> Any:
    """The most familiar row accepted as ``label``; failing that, guessed as it. Ties go to the
    higher log p(x)."""
    mine = verdicts[verdicts["best_guess"] == label]
    accepted = mine[mine["verdict"] == "accept"]
    return (accepted if len(accepted) else mine).sort_values(["familiarity", "log_prob"]).index[-1]


def _decide(scene: Scene, X: pd.DataFrame, explain: bool = True) -> pd.DataFrame:
    from conjoin.questions.decide import decide

    return decide(
        scene.model.model_, X, false_alarm=scene.rates[0], max_error=scene.rates[1], explain=explain
    )


def ask(scene: Scene) -> pd.DataFrame:
    """The six rows with what everyone says of them."""
    rows, table = pick(scene)
    for name, classifier in scene.others.items():
        sure = classifier.predict_proba(rows).max(1)
        table[name] = [
            f"{guess} {_percent(p)}"
            for guess, p in zip(classifier.predict(rows), sure, strict=True)
        ]
    said = _decide(scene, rows)
    table["verdict"] = said["verdict"]
    table["answer"] = said["answer"].fillna("")
    table["reason"] = said["reason"].map(brief)
    return table


def _percent(share: float) -> str:
    """Rounded down, so that 100 % is never claimed for less."""
    return f"{np.floor(1000 * share) / 10:.1f} %" if share < 1 - 1e-12 else "100 %"


# -------------------------------------------------------------------------------------- the figures


def measure(scene: Scene) -> dict[str, float]:
    """Over the whole test set, as it is and in foreign units."""
    foreign = foreign_units(scene.X)
    linear = scene.others[CLASSIFIERS[1]]
    said = _decide(scene, scene.X, explain=False)
    strange = _decide(scene, foreign, explain=False)
    accepted = said["verdict"] == "accept"
    return {
        "rows": len(scene.X),
        "sure": float((linear.predict_proba(foreign).max(1) > 0.99).mean()),
        "right": float((linear.predict(foreign) == scene.y).mean()),
        "unfamiliar": float((strange["verdict"] == "unfamiliar").mean()),
        "false_alarms": float((said["verdict"] == "unfamiliar").mean()),
        "accepted": float(accepted.mean()),
        "accepted_right": float((said["answer"] == scene.y)[accepted].mean()),
        "own right": float((said["best_guess"] == scene.y).mean()),
        **{
            f"{name} right": float((each.predict(scene.X) == scene.y).mean())
            for name, each in scene.others.items()
        },
    }


def _share(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def sentences(found: dict[str, float]) -> list[str]:
    share = {
        name: _share(value, 1 if name.endswith("right") and name != "right" else 0)
        for name, value in found.items()
    }
    return [
        f"All {found['rows']:.0f} test rows with lengths / 10 and areas / 100: logistic "
        "regression is over 99 % sure on "
        f"{share['sure']} of them and right on {share['right']}. conjoin calls "
        f"{share['unfamiliar']} unfamiliar.",
        f"The same rows as they are: conjoin answers {share['accepted']} of them and is right on "
        f"{share['accepted_right']} of those; "
        f"{share['false_alarms']} are called unfamiliar. Answering every row, conjoin is right on "
        f"{share['own right']}, logistic regression on {share['logistic regression right']} and "
        f"boosting on {share['boosting right']}.",
    ]


# --------------------------------------------------------------------------------------- the screen

STYLES = {"accept": "green", "ambiguous": "yellow", "unfamiliar": "bold magenta"}


def screen(
    console: Any,
    cases: pd.DataFrame,
    figures: dict[str, float],
    rates: tuple[float, float],
    report: Path | None,
) -> None:
    """The last screen."""
    from rich.text import Text

    console.print()
    console.print(
        Text("Six rows. Two classifiers, and a model that also knows p(x).", style="bold")
    )
    console.print(_table(cases, console.width < 100))
    console.print()
    for sentence in sentences(figures):
        console.print(Text(sentence))
        console.print()
    if rates[1] > 0.05:
        console.print(
            Text(
                f"Error rate asked for: {_share(rates[1])}, the least that the calibration rows "
                "support.\n"
            )
        )
    if report is not None:
        console.print(Text.assemble("The report: ", (str(report), "cyan")), soft_wrap=True)
        console.print()
    _commands(console)


def _table(cases: pd.DataFrame, narrow: bool) -> Any:
    """``narrow``: what the classifiers say goes on two lines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False, header_style="dim"
    )
    names = ("row", "truth", "boosting", "logistic\nregression", "conjoin")
    for name in names:
        table.add_column(name, no_wrap=name != "conjoin")
    for place, case in enumerate(cases.to_dict("records")):
        parts = [
            (case["verdict"], STYLES[case["verdict"]]),
            (f" {case['answer']}", "bold"),
            (f"\n{case['reason']}", "dim"),
        ]
        verdict = Text.assemble(*(part for part in parts if part[0].strip()))
        others = [case[name].replace(" ", "\n" if narrow else " ", 1) for name in CLASSIFIERS]
        table.add_row(case["case"], case["truth"], *others, verdict)
        if place == 2:
            table.add_section()
    return table


def brief(reason: str) -> str:
    """The first clause, and the hint where there is one; the report has the rest."""
    parts = reason.split("; ")
    hint = [parts[-1]] if len(parts) > 1 and parts[-1].endswith("would fit") else []
    return "; ".join([parts[0], *hint])


def _commands(console: Any) -> None:
    from rich.text import Text

    console.print(Text("With your own table:", style="bold"))
    for command, what in (
        ("conjoin check data.csv --target y", "what each column is taken for"),
        ("conjoin fit data.csv --target y", "writes data-model/"),
        ("conjoin decide data-model/ new.csv", "a verdict and a reason for each row"),
    ):
        console.print(Text.assemble("  ", (f"{command:<38}", "cyan"), (what, "dim")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m conjoin.demos.tables", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out",
        default="conjoin-demo",
        metavar="FOLDER",
        help="where the report goes (default: %(default)s)",
    )
    parser.add_argument("--no-report", action="store_true", help="fit and show the screen only")
    asked = parser.parse_args(arguments)
    from rich.console import Console

    start = time.perf_counter()
    console = Console()
    if not console.is_terminal or console.width > WIDTH:
        console = Console(width=WIDTH)
    console.print(
        "Breast cancer, Wisconsin: 569 biopsies, 30 measurements each, 426 of them to learn from "
        "(scikit-learn's copy).",
        highlight=False,
    )
    scene = prepare(plane=not asked.no_report)
    cases = ask(scene)
    figures = measure(scene)
    report = None if asked.no_report else _report(scene, cases, figures, Path(asked.out))
    screen(console, cases, figures, scene.rates, report)
    console.print(f"\n{time.perf_counter() - start:.0f} seconds.", style="dim", highlight=False)
    return 0


def _report(scene: Scene, cases: pd.DataFrame, figures: dict[str, float], folder: Path) -> Path:
    from conjoin.demos.generated import generated
    from conjoin.report import write_report

    notes = sentences(figures)
    page = folder / "report.html"
    with generated(scene.model, "report", page):
        return write_report(
            scene.model,
            page,
            scene.X,
            scene.y,
            show_rows=True,
            cases=cases,
            plane=scene.plane,
            notes=notes,
        )


if __name__ == "__main__":
    raise SystemExit(main())

"""python -m conjoin.demos.molecules: measured solubilities, a joint model of molecules and of them
in minutes, new molecules of a wanted solubility, and a page about it.

ESOL (J. Delaney (2004), Estimating aqueous solubility directly from molecular structure): 1,128
molecules, log10 of mol per litre. Ctrl-C stops the fit, and the same command goes on from there.
New molecules are proposals of a small model: nobody has made them, and their properties are
predictions.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.cli.output import write
from conjoin.demos.arguments import parser_of
from conjoin.demos.generated import generated
from conjoin.demos.images import show
from conjoin.demos.resumed import resumed
from conjoin.families.multimodal import Multimodal

__all__ = ["fitted", "main", "sentences"]

SEED = 0
SECONDS = 200.0
FAMILY = Multimodal(strings={"width": 96, "blocks": 2, "batch": 64, "steps": 1500})
TARGET = "logS"
WANTED = (-2.5, -1.5)  # log10 of mol per litre
MOLECULES = 20
HELD_OUT_SHARE = 0.15
INTERRUPTED = 130


def fitted(frame: Any, folder: Path, seconds: float) -> Any:
    """The model of molecules and a property; None if its fit was broken off."""

    def begin() -> tuple[Any, tuple[Any, ...]]:
        import conjoin

        model = conjoin.JointRegressor(
            family=FAMILY, max_time=seconds, random_state=SEED, verbose=True
        )
        return model, (frame["smiles"], frame[TARGET])

    return resumed(folder, len(frame), begin)


def sentences(model: Any, held: Any, found: Any) -> list[str]:
    """What the model is worth on molecules that it has not seen, and what was designed."""
    errors = model.predict(held["smiles"]) - held[TARGET].to_numpy()
    told = found.attrs
    low, high = WANTED
    return [
        f"Of {len(held):,} molecules held out {TARGET} is predicted with a root mean squared error "
        f"of {np.sqrt(np.mean(errors**2)):.2f} (a deviation of the values is "
        f"{held[TARGET].std():.2f}).",
        f"Wanted: {TARGET} from {low:g} to {high:g}. Of plain draws {told['valid']['drawn']:.0%} "
        f"are molecules, and {told['acceptance']['drawn']:.1%} are expected to be as wanted; of "
        f"draws that were told the wish {told['valid']['prompted']:.0%} and "
        f"{told['acceptance']['prompted']:.1%}.",
        *(
            f"{row.smiles}: {TARGET} {row[TARGET]:.2f} ({row[f'{TARGET}_low']:.2f} to "
            f"{row[f'{TARGET}_high']:.2f}), synthetic accessibility {row['sa']:.1f}, "
            f"{'new' if row['novel'] else 'known'}, nearest {row['nearest']}."
            for _, row in found.head(5).iterrows()
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0; 2 without the molecules or rdkit, 130 where it was interrupted."""
    parser = parser_of("molecules", __doc__, SECONDS, "the fit")
    asked = parser.parse_args(arguments)
    from conjoin.codecs.smiles.chemistry import MISSING_RDKIT, has_rdkit
    from conjoin.datasets import load_molecules

    if not has_rdkit():
        print(MISSING_RDKIT, file=sys.stderr)
        return 2
    try:
        data = load_molecules("esol")
    except ValueError as error:
        print(f"The demo needs the molecules of ESOL. {error}", file=sys.stderr)
        return 2
    held = data.frame.sample(frac=HELD_OUT_SHARE, random_state=SEED)
    taught = data.frame.drop(held.index)
    folder = Path(asked.out)
    print(f"ESOL: {len(taught):,} molecules to learn from, {len(held):,} held out ({data.origin}).")
    model = fitted(taught, folder, asked.seconds)
    if model is None:
        print(f"Interrupted. The same command goes on from what lies in {folder}.")
        return INTERRUPTED
    return _story(model, taught, held, folder)


def _story(model: Any, taught: Any, held: Any, folder: Path) -> int:
    """New molecules, report, browser."""
    from conjoin.report import write_report

    found = model.design(
        MOLECULES, wanted={TARGET: WANTED}, reference=taught["smiles"], random_state=SEED
    )
    with generated(model, "design", folder / "new.csv", SEED):
        write([found], str(folder / "new.csv"))
    notes = sentences(model, held, found)
    print("", *notes, "", sep="\n")
    page = folder / "report.html"
    with generated(model, "report", page):
        write_report(model, page, held["smiles"], held[TARGET], notes=notes)
    print(f"The report: {page}\nNew molecules: {folder / 'new.csv'}\nThe model: {folder / 'model'}")
    show(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

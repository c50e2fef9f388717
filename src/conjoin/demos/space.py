"""python -m conjoin.demos.space: molecules of QM9 in space, a joint model of strings and geometries
in minutes, new molecules, conformers of a given one, strange geometries, and a page about it.

QM9 (R. Ramakrishnan et al. (2014), Quantum chemistry structures and properties of 134 kilo
molecules), of which 10,000 are read. Ctrl-C stops the fit, and the same command goes on from there.
Geometries are the network's: no force field, no filter, no second try.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.demos.arguments import parser_of
from conjoin.demos.images import show
from conjoin.demos.resumed import resumed
from conjoin.families.molecules import Molecules

__all__ = ["fitted", "main", "sentences", "stretched"]

SEED = 0
SECONDS = 300.0
HELD_OUT = 300
JUDGED = 30  # of them, whose log p is asked for: it takes a second or two each
DRAWS = 100
GIVEN = "CC(=O)OC"  # methyl acetate
STRETCH = 1.12  # times the length of a bond
FAMILY = Molecules(strings={"width": 96, "blocks": 3})
INTERRUPTED = 130


def fitted(molecules: Sequence[Any], folder: Path, seconds: float) -> Any:
    """The model of molecules in space; None if its fit was broken off."""

    def begin() -> tuple[Any, tuple[Any, ...]]:
        import conjoin

        model = conjoin.JointDensity(
            family=FAMILY, max_time=seconds, random_state=SEED, verbose=True
        )
        return model, (list(molecules),)

    return resumed(folder, len(molecules), begin)


def stretched(molecule: Any) -> Any:
    """The molecule with one bond too long: all that hangs on its end moves along."""
    from conjoin.chemistry.graph import fragments

    for one, two in np.argwhere(np.triu(molecule.bonds)).tolist():
        cut = molecule.bonds.copy()
        cut[one, two] = cut[two, one] = 0
        parts = fragments(cut)
        if len(parts) == 2:
            part = next(each for each in parts if two in each)
            xyz = molecule.xyz.copy()
            xyz[part] += (STRETCH - 1) * (xyz[two] - xyz[one])
            return dataclasses.replace(molecule, xyz=xyz)
    return molecule


def sentences(model: Any, held: Sequence[Any]) -> list[str]:
    """What the model is worth on molecules that it has not seen."""
    from conjoin.chemistry.measures import stability_of

    drawn = model.sample(DRAWS, random_state=SEED)[0]
    whole = [one for one in drawn if one is not None]
    stable = sum(stability_of(one).stable for one in whole)
    real = np.mean([stability_of(one).stable for one in held])
    error = _error_of_bonds(model, held[:DRAWS])
    some = list(held[:JUDGED])
    plain = model.decide(some, false_alarm=0.05)
    strange = model.decide([stretched(one) for one in some], false_alarm=0.05)
    caught = strange["verdict"] == "unfamiliar"
    told = f" Such as: {strange['reason'][caught].iloc[0]}." if caught.any() else ""
    return [
        f"Of {DRAWS} raw draws {len(whole)} are molecules and {stable} are stable by the table of "
        f"distances; of the data {real:.3f} are.",
        f"Geometries of {len(held[:DRAWS])} molecules held out, given their graphs: bonds between "
        f"heavy atoms are off by {error:.3f} Angstrom in the mean.",
        f"With one bond {STRETCH - 1:.0%} too long {caught.mean():.1%} of {len(some)} molecules "
        f"held out are unfamiliar, as they are "
        f"{(plain['verdict'] == 'unfamiliar').mean():.1%}.{told}",
    ]


def _error_of_bonds(model: Any, held: Sequence[Any]) -> float:
    """Mean absolute error of drawn bonds between heavy atoms, given the graphs, in Angstrom."""
    from conjoin.chemistry.measures import internal_of, lengths_at

    rows = model.model_.rows(list(held)).molecules
    graphs = [dataclasses.replace(one, xyz=None) for one in rows]
    errors = []
    for true, one in zip(rows, model.impute(graphs, n_draws=1, random_state=SEED)[0], strict=True):
        inside = internal_of(true)
        bonds = inside.bonds[inside.heavy]
        errors += np.abs(lengths_at(true.xyz, bonds) - lengths_at(one.xyz, bonds)).tolist()
    return float(np.mean(errors))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0; 2 without QM9, 130 where it was interrupted."""
    parser = parser_of("space", __doc__, SECONDS, "the fit")
    asked = parser.parse_args(arguments)
    from conjoin.datasets import qm9

    try:
        data = qm9()
    except ValueError as error:
        print(f"The demo needs QM9. {error}", file=sys.stderr)
        return 2
    order = np.random.default_rng(SEED).permutation(len(data.molecules))
    held = [data.molecules[place] for place in order[:HELD_OUT]]
    taught = [data.molecules[place] for place in order[HELD_OUT:]]
    folder = Path(asked.out)
    print(f"QM9: {len(taught):,} molecules to learn from, {len(held):,} held out.", data.told)
    model = fitted(taught, folder, asked.seconds)
    if model is None:
        print(f"Interrupted. The same command goes on from what lies in {folder}.")
        return INTERRUPTED
    return _story(model, held, folder)


def _story(model: Any, held: Sequence[Any], folder: Path) -> int:
    """New molecules, conformers, report, browser."""
    from conjoin.codecs.molecule.files import write_file
    from conjoin.report import write_report

    new = model.sample(DRAWS, random_state=SEED)[0]
    write_file([one for one in new if one is not None], folder / "new.sdf")
    conformers = model.sample(10, given={"molecule": GIVEN}, random_state=SEED)[0]
    write_file(conformers, folder / "conformers.sdf")
    notes = sentences(model, held)
    print("", *notes, "", sep="\n")
    page = write_report(model, folder / "report.html", list(held[:JUDGED]), notes=notes)
    print(
        f"The report: {page}\nNew molecules: {folder / 'new.sdf'}\nConformers of {GIVEN}: "
        f"{folder / 'conformers.sdf'}\nThe model: {folder / 'model'}"
    )
    show(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

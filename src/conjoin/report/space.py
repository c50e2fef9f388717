"""The report's molecules in space: a grid of drawn ones that can be turned, lengths, angles and
torsions of draws beside those of the rows asked about, and how many are stable.

They are turned by 3Dmol.js (N. Rego and D. Koes (2015), 3Dmol.js: molecular visualization with
WebGL), which stands in the page: nothing is asked of the network. Where a browser has no WebGL, the
page keeps a drawing of each molecule.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from conjoin.chemistry.elements import symbol_of
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.measures import (
    angles_at,
    internal_of,
    lengths_at,
    stability_of,
    torsions_at,
)
from conjoin.codecs.molecule.files import written
from conjoin.report.molecules import Histogram, histogram
from conjoin.report.sections import Answers

__all__ = ["drawing", "space_sections"]

SEED = 1
DRAWN = 100  # molecules
SHOWN = 12
COLUMNS = 4
MOST_ASKED = 400  # rows whose geometry is counted
SIDE = 150  # of a drawing, pixels
COLOURS = {1: "#bbb", 6: "#444", 7: "#3050f8", 8: "#e01010", 9: "#50b040"}
OTHER_COLOUR = "#a060c0"
SCRIPT = Path(__file__).parent / "vendor" / "3Dmol-min.js"


def space_sections(estimator: Any, found: Answers, real: Any) -> dict[str, Any]:
    """The sections. Real molecules enter as histograms alone."""
    drawn = estimator.sample(DRAWN, random_state=SEED)[0]
    whole = [one for one in drawn if one is not None and len(one) > 1]
    rows: Any = found.rows
    asked = [] if rows is None else rows.molecules[:MOST_ASKED]
    placed = [one for one in asked if one is not None and one.xyz is not None]
    shown = whole[:SHOWN]
    return {
        "template": "space.html.j2",
        "sections": ("samples",),
        "drawn_count": len(drawn),
        "whole_share": len(whole) / max(1, len(drawn)),
        "stable": _stable(whole),
        "stable_asked": _stable(placed),
        "drawings": [(drawing(one), one.smiles) for one in shown],
        "script": Markup(SCRIPT.read_text(encoding="utf-8")) if shown else "",
        "blocks": Markup(_json([written([one]) for one in shown])),
        "columns_of_grid": COLUMNS,
        "rows_of_grid": -(-len(shown) // COLUMNS),
        "histograms": _histograms(whole, placed),
    }


def _json(blocks: list[str]) -> str:
    """Text that can't end the script that it stands in."""
    return json.dumps(blocks).replace("<", "\\u003c")


def _stable(molecules: Sequence[Molecule]) -> tuple[float, float, float] | None:
    """Shares of stable atoms, of stable molecules, of molecules in one piece."""
    if not molecules:
        return None
    found = [stability_of(one) for one in molecules]
    atoms = sum(one.stable_atoms for one in found) / sum(one.atoms for one in found)
    stable = float(np.mean([one.stable for one in found]))
    return atoms, stable, float(np.mean([one.connected for one in found]))


def _histograms(drawn: Sequence[Molecule], asked: Sequence[Molecule]) -> list[Histogram]:
    if not drawn:
        return []
    kinds: dict[str, Callable[[Molecule], np.ndarray]] = {
        "bonds between heavy atoms, Angstrom": _heavy_lengths,
        "bonds to hydrogen, Angstrom": _light_lengths,
        "angles, degrees": _angles,
        "torsions about single bonds, degrees": _torsions,
    }
    out = []
    for name, of in kinds.items():
        ours = np.concatenate([of(one) for one in drawn])
        theirs = np.concatenate([of(one) for one in asked]) if asked else None
        if len(ours):
            out.append(histogram(name, ours, theirs if theirs is None or len(theirs) else None))
    return out


def _heavy_lengths(molecule: Molecule) -> np.ndarray:
    inside = internal_of(molecule)
    return lengths_at(_xyz(molecule), inside.bonds[inside.heavy])


def _light_lengths(molecule: Molecule) -> np.ndarray:
    inside = internal_of(molecule)
    return lengths_at(_xyz(molecule), inside.bonds[~inside.heavy])


def _angles(molecule: Molecule) -> np.ndarray:
    return angles_at(_xyz(molecule), internal_of(molecule).angles)


def _torsions(molecule: Molecule) -> np.ndarray:
    return torsions_at(_xyz(molecule), internal_of(molecule).torsions)


def _xyz(molecule: Molecule) -> np.ndarray:
    assert molecule.xyz is not None
    return molecule.xyz


def drawing(molecule: Molecule) -> Markup:
    """An SVG of the molecule, seen along its shortest axis; near atoms cover far ones."""
    centred = molecule.centred
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    seen = centred @ axes.T
    scale = (SIDE / 2 - 12) / max(1.0, float(np.abs(seen[:, :2]).max()))
    at = seen[:, :2] * scale + SIDE / 2
    parts = [
        f'<line x1="{at[a, 0]:.1f}" y1="{at[a, 1]:.1f}" x2="{at[b, 0]:.1f}" y2="{at[b, 1]:.1f}" '
        f'stroke="#888" stroke-width="{1 + 1.5 * int(molecule.bonds[a, b])}"/>'
        for a, b in np.argwhere(np.triu(molecule.bonds)).tolist()
    ]
    for atom in np.argsort(seen[:, 2]).tolist():
        number = int(molecule.numbers[atom])
        radius = 4 if number == 1 else 7
        parts.append(
            f'<circle cx="{at[atom, 0]:.1f}" cy="{at[atom, 1]:.1f}" r="{radius}" '
            f'fill="{COLOURS.get(number, OTHER_COLOUR)}"><title>{symbol_of(number)}{atom + 1}'
            "</title></circle>"
        )
    return Markup(f'<svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}">{"".join(parts)}</svg>')

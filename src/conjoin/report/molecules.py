"""The report's molecules: a sheet of those that the model draws, and their properties beside those
of the rows asked about."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from conjoin.codecs.smiles.appraisal import plain_properties, sheet
from conjoin.codecs.smiles.chemistry import read_smiles
from conjoin.codecs.smiles.surprise import DEEPEST_NATS, coloured, oddest_part
from conjoin.questions.token_surprise import surprise_in
from conjoin.report.sections import Answers

__all__ = ["Histogram", "histogram", "molecule_sections"]

SEED = 1
DRAWN = 200  # molecules
SHOWN = 12
ODD_SHOWN = 6  # molecules, the least familiar
BARS = 12
WIDTH = 240  # of a histogram, pixels
HEIGHT = 90
_PROLOGUE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)


@dataclass(frozen=True)
class Histogram:
    """Two rows of bars; ``ends``: where the first begins and the last ends."""

    name: str
    svg: Markup
    ends: tuple[str, str]


def molecule_sections(estimator: Any, found: Answers, real: Any) -> dict[str, Any]:
    """The sections. Real molecules enter as histograms alone, and where real rows may be shown the
    least familiar as structures whose atoms are coloured by their surprise."""
    (molecules,) = found.model.codec.structures
    drawn = estimator.sample(DRAWN, random_state=SEED)[0][molecules.name]
    canonical = [read_smiles(text).canonical for text in drawn]
    valid = list(dict.fromkeys(text for text in canonical if text is not None))
    asked = [] if found.rows is None else list(found.rows.frame[molecules.name].dropna())
    return {
        "template": "molecules.html.j2",
        "sections": ("samples", "strange"),
        "odd_sheet": None if real is None else _odd_sheet(found, molecules),
        "deepest": f"{DEEPEST_NATS:g}",
        "sheet": _inline(sheet(valid[:SHOWN])) if valid else None,
        "drawn_count": len(canonical),
        "valid_share": sum(text is not None for text in canonical) / len(canonical),
        "histograms": _histograms(valid, asked[:DRAWN]),
    }


def _odd_sheet(found: Answers, molecules: Any) -> Markup | None:
    """The least familiar of the rows asked about; None where none can be drawn."""
    rows = found.rows
    if rows is None:
        return None
    model = found.model
    encoded = model.encode(rows)
    ranks = (
        np.asarray(found.log_prob)
        if found.table is None
        else found.table["familiarity"].to_numpy(dtype=float)
    )
    places = np.argsort(ranks, kind="stable")[:ODD_SHOWN]
    some = encoded.take(torch.as_tensor(places))
    nats = surprise_in(model, some.event, molecules.cells)
    if nats is None:
        return None
    texts = list(rows.take(places).frame[molecules.name])
    each = molecules.by_atoms(some.event.value, nats, texts)
    shown = [(place, own) for place, own in zip(places, each, strict=True) if own is not None]
    if not shown:
        return None
    words = [f"row {place + 1}: {oddest_part(*own)}" for place, own in shown]
    strings, atoms = zip(*(own for _, own in shown), strict=True)
    return _inline(coloured(strings, atoms, words))


def _inline(svg: str) -> Markup:
    """rdkit's drawing without what a page has already; it holds nothing of the user's but
    structures."""
    return Markup(_PROLOGUE.sub("", svg))


def _histograms(drawn: list[str], asked: list[str]) -> list[Histogram]:
    if not drawn:
        return []
    ours = plain_properties(drawn)
    theirs = plain_properties(asked) if asked else {}
    return [histogram(name, values, theirs.get(name)) for name, values in ours.items()]


def histogram(name: str, drawn: np.ndarray, asked: np.ndarray | None) -> Histogram:
    """Shares: bars of what is drawn, a line of what was asked about."""
    every = drawn if asked is None else np.concatenate([drawn, asked])
    edges = np.histogram_bin_edges(every, BARS)
    heights = np.histogram(drawn, edges)[0] / len(drawn)
    line = None if asked is None else np.histogram(asked, edges)[0] / len(asked)
    top = max(heights.max(), 0.0 if line is None else line.max(), 1e-9)
    wide = WIDTH / BARS
    bars = "".join(
        f'<rect x="{place * wide:.1f}" y="{HEIGHT * (1 - share / top):.1f}" width="{wide - 1:.1f}" '
        f'height="{HEIGHT * share / top:.1f}" fill="var(--accent)" opacity=".6"/>'
        for place, share in enumerate(heights)
    )
    if line is not None:
        points = " ".join(
            f"{(place + 0.5) * wide:.1f},{HEIGHT * (1 - share / top):.1f}"
            for place, share in enumerate(line)
        )
        bars += f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2"/>'
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    ends = (f"{edges[0]:.3g}", f"{edges[-1]:.3g}")
    return Histogram(name, Markup(f"<svg {box}>{bars}</svg>"), ends)

"""Molecules in space in and out of the command line: files that are read whole, and drawn molecules
written as .sdf or .xyz."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conjoin.chemistry.graph import Molecule
from conjoin.cli.files import FileOptions
from conjoin.cli.output import claim
from conjoin.cli.pictures import FILE
from conjoin.cli.target import labels
from conjoin.cli.voice import Voice
from conjoin.codecs.molecule.codec import MoleculeRows
from conjoin.codecs.molecule.faults import fault_of, fault_of_bonds
from conjoin.codecs.molecule.files import written
from conjoin.codecs.molecule.reading import claims as holds_molecules
from conjoin.codecs.molecule.reading import read_molecules, read_numbered
from conjoin.codecs.table.written import EMPTY_WORDS
from conjoin.util.files import write_text
from conjoin.util.near import did_you_mean

__all__ = [
    "HOW_TO_LABEL",
    "NOT_ASKED",
    "PLURAL",
    "asked_rows",
    "claim_drawn",
    "claims",
    "content_of",
    "refuse_parts",
    "take_labels",
    "to_fit",
    "write_drawn",
]

PLURAL = "molecules in space"  # what its files hold
HOW_TO_LABEL = "name a field that the file tells of its molecules, by --target"
NOT_ASKED = ("schema", "missing", "time", "chunk_rows")  # options of tables
SUFFIXES = (".sdf", ".xyz")


class _Fit(NamedTuple):
    """What a fit needs: molecules, and the field that is their y; nothing about how they are read,
    no groups."""

    x: list[Molecule]
    labels: pd.Series | None = None
    reading: None = None
    groups: None = None


def claims(path: str) -> bool:
    """Whether molecules in space lie there."""
    return path != "-" and holds_molecules(path)


def to_fit(path: str, asked: FileOptions, kept: dict[str, Any], voice: Voice) -> _Fit:
    """Molecules to learn from, and their y. ValueError for an option of pictures, or a field that
    no molecule has."""
    for name in ("size", "part", "range", "resize", "groups"):
        if getattr(asked, name) is not None:
            raise ValueError(f"--{name} is not about molecules in space, which {path} holds.")
    found, told = read_molecules(path, broken="skip" if asked.skip_broken else "refuse")
    voice.note(*told, f"{len(found):,} molecules in space.")
    return _Fit(found, None if asked.target is None else field_of(found, asked.target, path, voice))


def field_of(
    molecules: Sequence[Molecule | None], name: str, where: str, voice: Voice
) -> pd.Series:
    """What the file tells of its molecules in one field, as numbers where all are but words that
    mean missing, which is said; empty where a molecule has none. ValueError where no molecule has
    it, and for infinity among numbers."""
    cells = [None if one is None else one.properties.get(name) for one in molecules]
    told = pd.Series(cells, dtype=object, name=name)
    told = told.where(told.map(lambda cell: cell is not None and str(cell).strip() != ""))
    if told.isna().all():
        every = dict.fromkeys(key for one in molecules if one is not None for key in one.properties)
        raise ValueError(
            f"{where}: no molecule has a field {name!r}; the fields are "
            f"{', '.join(every) or 'none'}.{did_you_mean(name, every)}"
        )
    words = told.map(lambda cell: str(cell).strip().lower() in EMPTY_WORDS) & told.notna()
    numbers = pd.to_numeric(told.mask(words), errors="coerce")
    if (told.isna() | words).all() or not numbers.isna().equals(told.isna() | words):
        return told
    far = numbers.isin([np.inf, -np.inf])
    if far.any():
        row = int(far.argmax())
        raise ValueError(
            f"{where}: molecule {row + 1} has {cells[row]!r} in the field {name!r}, and numbers of "
            "a field must be finite: correct it, or leave the field out of this molecule."
        )
    if words.any():
        shown = ", ".join(map(repr, dict.fromkeys(told[words])))
        count = int(words.sum())
        voice.note(f"{count:,} molecules have {shown} in the field {name!r}, read as missing.")
    return numbers


def content_of(molecules: Sequence[Molecule]) -> bytes:
    """A digest of molecules and their fields, in their order."""
    return hashlib.sha256(written(molecules).encode()).digest()


def asked_rows(
    model: Any,
    path: str,
    part: str | None,
    max_bytes: int | None,
    voice: Voice,
    skip_broken: bool = False,
) -> tuple[MoleculeRows, tuple[Molecule | None, ...]]:
    """Rows of molecules, as the model expects them, each with its file and its number there; and
    the molecules, whose fields are labels."""
    if part is not None:
        raise ValueError(f"--part is about pictures, and {path} holds {PLURAL}.")
    found = read_numbered(path, broken="skip" if skip_broken else "refuse")
    voice.note(*found.told)
    rows = model.codec.rows(found.molecules)
    names = [f"{Path(path).name} {number}" for number in found.numbers]
    return dataclasses.replace(rows, index=pd.Index(names, name=FILE)), rows.molecules


def take_labels(target: Any, found: Any, name: str | None, voice: Voice) -> Any:
    """The field of that name, by default that of the model's target, in the types that the model
    knows; None where no molecule has it, which is said, or the model has no target."""
    if target is None:
        if name is not None:
            raise ValueError(f"--target {name}: the model has no target.")
        return None
    field = name or str(target.name)
    if name is None and not any(one is not None and field in one.properties for one in found):
        voice.note(
            f"No molecule of the file has a field {field!r}, so only what needs none is shown."
        )
        return None
    return labels(field_of(found, field, "The file", voice).rename(target.name), target)


def refuse_parts(path: str) -> None:
    """ValueError: a file of molecules has no hidden parts."""
    raise ValueError(
        f"{path} holds {PLURAL}, all of whose atoms have a place; conformers of a molecule are "
        "drawn by conjoin sample --given molecule=SMILES, parts are filled in Python by impute."
    )


def claim_drawn(out: str | None, force: bool) -> None:
    """An error where drawn molecules could not be written in the end."""
    if out is None or out == "-":
        raise ValueError("Drawn molecules need a place: -o NAME.sdf, or -o NAME.xyz.")
    claim(out, force, SUFFIXES)


def write_drawn(drawn: Any, y: Any, codec: Any, out: str, voice: Voice) -> int:
    """The molecules, with their ``y`` (a Series) as a field, and how many they are; strings that
    write none are told, and have no place in a file. ValueError where there is no molecule."""
    if y is not None:
        drawn = [
            None
            if one is None
            else dataclasses.replace(one, properties={**one.properties, str(y.name): value})
            for one, value in zip(drawn, y.tolist(), strict=True)
        ]
    whole = [one for one in drawn if one is not None]
    if not whole:
        raise ValueError(
            f"Of {len(drawn):,} draws none is a string that writes a molecule, so {out} is not "
            "written: draw more (-n), or let the model learn for longer."
        )
    if len(whole) < len(drawn):
        voice.note(
            f"{len(drawn) - len(whole):,} of {len(drawn):,} draws are strings that write no "
            "molecule; the file has the others."
        )
    write_text(Path(out), written(whole, Path(out).suffix))
    faults = [fault_of(one) or fault_of_bonds(one) for one in whole]
    broken = [f"molecule {row} {fault}" for row, fault in enumerate(faults, 1) if fault]
    if broken:
        voice.note(
            f"{len(broken):,} of the {len(whole):,} molecules are read back by --skip-broken "
            f"alone, which leaves them out: {broken[0]}"
        )
    return len(whole)

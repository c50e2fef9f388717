"""Named sets of molecules: SMILES, and measured properties where they have some; read from the
folder ``CONJOIN_DATA``.

``CONJOIN_DATA`` holds molecules/FILE.csv.gz beside a README.md that states each file's sha256. None
is shipped or fetched.
"""

import gzip
import hashlib
import io
from dataclasses import dataclass

import pandas as pd

from conjoin.datasets.download import folder_of

__all__ = ["Molecules", "load_molecules", "molecule_names"]


@dataclass(frozen=True, slots=True)
class Molecules:
    """A frame with the column ``smiles``; ``target``: the column that is measured, None where there
    is none. A column ``split`` says which part a row belongs to, where the set is split."""

    name: str
    frame: pd.DataFrame
    target: str | None
    licence: str
    origin: str


@dataclass(frozen=True, slots=True)
class _Set:
    """What is known of a set; ``renamed``: {column of the file: column here}."""

    file: str
    renamed: dict[str, str]
    target: str | None
    licence: str
    origin: str


_MOSES = "MIT"
_LOOSE = "MIT of the repository; terms of the source not checked"
_SETS = {
    "moses_mini": _Set(
        "moses_mini.csv.gz",
        {"SMILES": "smiles", "split": "split"},
        None,
        _MOSES,
        "D. Polykovskiy et al. (2020): MOSES, 65,000 molecules of ZINC by random.Random(0)",
    ),
    "moses_train": _Set(
        "moses_train.csv.gz", {"SMILES": "smiles"}, None, _MOSES, "D. Polykovskiy et al. (2020)"
    ),
    "moses_test": _Set(
        "moses_test.csv.gz", {"SMILES": "smiles"}, None, _MOSES, "D. Polykovskiy et al. (2020)"
    ),
    "moses_test_scaffolds": _Set(
        "moses_test_scaffolds.csv.gz",
        {"SMILES": "smiles"},
        None,
        _MOSES,
        "D. Polykovskiy et al. (2020)",
    ),
    "esol": _Set(
        "esol.csv.gz",
        {"smiles": "smiles", "measured log solubility in mols per litre": "logS"},
        "logS",
        _LOOSE,
        "J. Delaney (2004): solubility in water, log10 of mol per litre",
    ),
    "freesolv": _Set(
        "freesolv.csv.gz",
        {"smiles": "smiles", "expt": "hydration"},
        "hydration",
        _LOOSE,
        "D. Mobley and P. Guthrie (2014): FreeSolv, free energy of hydration, kcal per mol",
    ),
    "lipo": _Set(
        "lipo.csv.gz",
        {"smiles": "smiles", "exp": "logD"},
        "logD",
        _LOOSE,
        "ChEMBL by MoleculeNet (Z. Wu et al. 2018): octanol and water at pH 7.4, log10",
    ),
    "bbbp": _Set(
        "bbbp.csv.gz",
        {"smiles": "smiles", "p_np": "passes"},
        "passes",
        _LOOSE,
        "I. Martins et al. (2012): whether a molecule passes the blood-brain barrier",
    ),
}


def molecule_names() -> list[str]:
    """Every name that ``load_molecules`` takes."""
    return sorted(_SETS)


def load_molecules(name: str) -> Molecules:
    """Molecules by name, with what was measured of them.

    Parameters
    ----------
    name : {"bbbp", "esol", "freesolv", "lipo", "moses_mini", "moses_test", \
"moses_test_scaffolds", "moses_train"}

    Returns
    -------
    Molecules
        Frame, name of the target, licence and origin.

    Raises
    ------
    ValueError
        If there is no such set, or the folder that CONJOIN_DATA names has not got it.
    """
    if name not in _SETS:
        raise ValueError(
            f"There are no molecules {name!r}; there are {', '.join(molecule_names())}."
        )
    what = _SETS[name]
    frame = pd.read_csv(io.BytesIO(_read(name, what.file)))
    frame = frame.rename(columns=what.renamed)[list(what.renamed.values())]
    return Molecules(name, frame, what.target, what.licence, what.origin)


def _read(name: str, file: str) -> bytes:
    """A file whose sha256 the README.md beside it states."""
    folder = folder_of("molecules")
    path = None if folder is None else folder / file
    if path is None or not path.is_file():
        raise ValueError(
            f"The molecules {name!r} are not here: they are read from molecules/{file} (beside a "
            "README.md with its sha256) in the folder that the environment variable CONJOIN_DATA "
            "names."
        )
    data = path.read_bytes()
    readme = path.with_name("README.md")
    stated = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if hashlib.sha256(data).hexdigest() not in stated:
        raise ValueError(
            f"{path} has another sha256 than the README.md beside it states, or it states none: "
            "get the file again."
        )
    return gzip.decompress(data)

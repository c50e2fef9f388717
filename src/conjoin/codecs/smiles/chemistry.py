"""What is asked of rdkit: whether a string is a molecule, and its canonical form.

D. Weininger (1988), SMILES, a chemical language and information system. rdkit is imported when it
is first needed.
"""

import contextlib
import functools
import importlib.util
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = [
    "MISSING_RDKIT",
    "Reading",
    "has_rdkit",
    "looks_like_smiles",
    "molecule",
    "randomised",
    "rdkit",
    "read_smiles",
]

MISSING_RDKIT = "Molecules need rdkit, which is not installed: pip install 'conjoin[mol]'."
MAX_CHARACTERS = 2_000  # of one SMILES string
KEPT_READINGS = 1 << 18  # strings whose canonical form is remembered
TRIED_CELLS = 200  # by which a column is recognised
PARSED_CELLS = 40  # of these, as many are given to rdkit
MIN_MEAN_CHARACTERS = 5  # words such as NO and CO are SMILES too
MIN_SHARE = 0.9  # of the tried cells that must be SMILES
MIN_STRUCTURED_SHARE = 0.5  # of them that have a bond, branch, ring or bracket
_SMILES = re.compile(
    r"(?:\[[^\]\s]+\]|Br|Cl|[BCNOSPFI]|[bcnosp]|[()=#$:/\\.~*\-+@]|%\d{2}|%\(\d+\)|\d)+"
)
_STRUCTURE = re.compile(r"[()=#\[\]\d]")
_STAMP = re.compile(r"\[\d\d:\d\d:\d\d\] ")


class Reading(NamedTuple):
    """A string as rdkit reads it: its canonical form, or why it is no molecule."""

    canonical: str | None
    why: str = ""


def has_rdkit() -> bool:
    """Whether rdkit is installed."""
    return importlib.util.find_spec("rdkit") is not None


@functools.cache
def rdkit() -> Any:
    """rdkit's module ``Chem``. ValueError says how to install it."""
    if not has_rdkit():
        raise ValueError(MISSING_RDKIT)
    from rdkit import Chem, rdBase

    rdBase.LogToPythonStderr()  # so that what it says of a string can be told
    return Chem


@contextlib.contextmanager
def _heard() -> Iterator[io.StringIO]:
    """What rdkit says in the meantime; it is not printed."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        yield heard


def molecule(text: str) -> Any:
    """rdkit's molecule of a string, None where it is none; silent."""
    with _heard():
        return rdkit().MolFromSmiles(text) if 0 < len(text) <= MAX_CHARACTERS else None


@functools.lru_cache(maxsize=KEPT_READINGS)
def read_smiles(text: str) -> Reading:
    """The canonical isomeric SMILES of a string, or what rdkit says against it.

    Examples
    --------
    >>> read_smiles("OCC").canonical  # doctest: +SKIP
    'CCO'
    """
    text = text.strip()
    if not text:
        return Reading(None, "it is empty")
    if len(text) > MAX_CHARACTERS:
        return Reading(None, f"it has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}")
    chem = rdkit()
    with _heard() as heard:
        found = chem.MolFromSmiles(text)
    if found is None or not found.GetNumAtoms():
        return Reading(None, _said(heard.getvalue()))
    return Reading(chem.MolToSmiles(found))


def _said(words: str) -> str:
    """The first line of what rdkit wrote."""
    lines = [_STAMP.sub("", line).strip() for line in words.splitlines() if line.strip()]
    first = lines[0].replace("SMILES Parse Error: ", "") if lines else "it has no atom"
    return f"rdkit says: {first}" if lines else first


def randomised(canonical: str, seed: int) -> str:
    """The same molecule, its atoms written in an order by chance (E. Bjerrum (2017), SMILES
    enumeration as data augmentation)."""
    chem = rdkit()
    found = chem.MolToRandomSmilesVect(chem.MolFromSmiles(canonical), 1, seed % (1 << 31))
    return str(found[0])


def looks_like_smiles(cells: list[str]) -> bool:
    """Whether strings are molecules: nearly all are written as SMILES, half of them have a bond,
    branch, ring or bracket, and rdkit reads them."""
    some = [cell.strip() for cell in cells[:: max(1, len(cells) // TRIED_CELLS)] if cell.strip()]
    if not some or sum(map(len, some)) < MIN_MEAN_CHARACTERS * len(some):
        return False
    written = [cell for cell in some if _SMILES.fullmatch(cell)]
    structured = sum(_STRUCTURE.search(cell) is not None for cell in written)
    letters = sum(any(each.isalpha() for each in cell) for cell in written)
    if min(len(written), letters) < MIN_SHARE * len(some):
        return False
    if structured < MIN_STRUCTURED_SHARE * len(some) or not has_rdkit():
        return False
    tried = written[:: max(1, len(written) // PARSED_CELLS)]
    read = sum(read_smiles(cell).canonical is not None for cell in tried)
    return read >= MIN_SHARE * len(tried)

"""Named texts, with labels where they have some: read from the folder ``CONJOIN_DATA``.

``CONJOIN_DATA`` holds text/FILE.gz beside a README.md that states each file's sha256. None is
shipped or fetched: not all of their licences allow it.
"""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conjoin.datasets.download import folder_of

__all__ = ["Texts", "load_texts", "text_names"]

SHAKESPEARE_TRAIN = 0.9  # of the characters: the split of nanoGPT
Part = tuple[list[str], np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings of each part ("train", "val", "test"), and labels of those that have some.

    A running text is one string; cut it into lines or windows to fit it.
    """

    name: str
    strings: dict[str, list[str]]
    labels: dict[str, np.ndarray]
    licence: str
    origin: str


@dataclass(frozen=True, slots=True)
class _Set:
    """What is known of a set; ``files``: {part: file}."""

    files: dict[str, str]
    read: Callable[[str], Part]
    licence: str
    origin: str


def _running(text: str) -> Part:
    return [text], None


def _table(text: str) -> Part:
    """A string, a tab and a label in each line."""
    lines = [line.rpartition("\t") for line in text.split("\n") if line]
    return [string for string, _, _ in lines], np.array([label for _, _, label in lines])


def _table_below_names(text: str) -> Part:
    return _table(text.partition("\n")[2])


_SETS = {
    "tinyshakespeare": _Set(
        {"train": "tinyshakespeare.txt.gz"},
        _running,
        "public domain",
        "A. Karpathy: char-rnn, plays of Shakespeare; the first 90 % of the characters to learn",
    ),
    "agnews": _Set(
        {"train": "agnews_dev.tsv.gz", "test": "agnews_test.tsv.gz"},
        _table,
        "research use",
        "X. Zhang et al. (2015): AG News, a part of 10,001 rows to learn and the whole test",
    ),
    "sst2": _Set(
        {"train": "sst2_train.tsv.gz", "val": "sst2_dev.tsv.gz", "test": "sst2_test.tsv.gz"},
        _table_below_names,
        "not stated",
        "R. Socher et al. (2013): Stanford Sentiment Treebank, two classes",
    ),
    "wikitext2": _Set(
        {"val": "wikitext2_valid.txt.gz", "test": "wikitext2_test.txt.gz"},
        _running,
        "CC BY-SA",
        "S. Merity et al. (2016): WikiText-2, tokenised, without the part to learn from",
    ),
}


def text_names() -> list[str]:
    """Every name that ``load_texts`` takes."""
    return sorted(_SETS)


def load_texts(name: str) -> Texts:
    """Strings by name, and labels where they have some.

    Parameters
    ----------
    name : {"tinyshakespeare", "agnews", "sst2", "wikitext2"}

    Returns
    -------
    Texts
        Strings and labels of each part, licence and origin.

    Raises
    ------
    ValueError
        If there is no such set, or the folder that CONJOIN_DATA names has not got it.
    """
    if name not in _SETS:
        raise ValueError(f"There are no texts {name!r}; there are {', '.join(text_names())}.")
    what = _SETS[name]
    parts = {part: what.read(_read(name, file)) for part, file in what.files.items()}
    strings = {part: found for part, (found, _) in parts.items()}
    labels = {part: found for part, (_, found) in parts.items() if found is not None}
    if name == "tinyshakespeare":
        (text,) = strings["train"]
        cut = int(SHAKESPEARE_TRAIN * len(text))
        strings = {"train": [text[:cut]], "val": [text[cut:]]}
    return Texts(name, strings, labels, what.licence, what.origin)


def _read(name: str, file: str) -> str:
    """A file whose sha256 the README.md beside it states."""
    folder = folder_of("text")
    path = None if folder is None else folder / file
    if path is None or not path.is_file():
        raise ValueError(
            f"The texts {name!r} are not here: they are read from text/{file} (beside a README.md "
            "with its sha256) in the folder that the environment variable CONJOIN_DATA names."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() not in _stated(path):
        raise ValueError(
            f"{path} has another sha256 than the README.md beside it states, or it states none: "
            "get the file again."
        )
    return gzip.decompress(data).decode("utf-8")


def _stated(path: Path) -> str:
    readme = path.with_name("README.md")
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""

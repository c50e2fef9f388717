"""Named data sets: shipped with scikit-learn, found in the folder ``CONJOIN_DATA``, or fetched once
from their public home.

``CONJOIN_DATA`` holds tables/NAME.csv.gz beside NAME.json (target, task, types, sha256) and
binary/NAME.npz; images lie in images/NAME/. Nothing is fetched but by ``load`` or ``load_images``
of a name that is not there and whose home is known; what comes is checked, then kept in a cache.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from conjoin.datasets.download import cache_folder, fetch, folder_of, verify

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


__all__ = ["Dataset", "load", "load_binary", "names"]

Task = Literal["binary", "multi", "reg"]
JSON = dict[str, Any]

_SHIPPED: dict[str, Task] = {
    "breast_cancer": "binary",
    "iris": "multi",
    "wine": "multi",
    "digits": "multi",
    "diabetes": "reg",
}
_UCI = "UCI ML repository: CC BY 4.0"


@dataclasses.dataclass(frozen=True, slots=True)
class _Home:
    """Where a table without a header lies, and what it must turn out to be."""

    file: str
    columns: str
    task: Task
    rows: int
    words: str  # columns that are read as words
    licence: str = _UCI


_MIRROR = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/"
_HOMES = {
    "pima": _Home(
        "pima-indians-diabetes.csv",
        "pregnancies glucose blood_pressure skin_thickness insulin bmi pedigree age class",
        "binary",
        768,
        "class",
        "CC0",
    ),
    "banknote": _Home(
        "banknote_authentication.csv",
        "variance skewness curtosis entropy class",
        "binary",
        1372,
        "class",
    ),
    "abalone": _Home(
        "abalone.csv",
        "sex length diameter height whole_weight shucked_weight viscera_weight shell_weight rings",
        "reg",
        4177,
        "sex",
    ),
    "wine_white": _Home(
        "winequality-white.csv",
        "fixed_acidity volatile_acidity citric_acid residual_sugar chlorides free_so2 total_so2 "
        "density ph sulphates alcohol quality",
        "multi",
        4898,
        "quality",
    ),
    "phoneme": _Home(
        "phoneme.csv", "x0 x1 x2 x3 x4 class", "binary", 5404, "class", "OpenML public"
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A table with a target; ``split`` (B,) says 'train', 'valid' or 'test' for each row, where a
    split is fixed."""

    name: str
    frame: "pd.DataFrame"
    target: str
    task: Task
    split: "np.ndarray[Any, Any] | None" = None
    licence: str = ""
    origin: str = ""

    def xy(self, part: str | None = None) -> "tuple[pd.DataFrame, pd.Series[Any]]":
        """(X, y) of all rows, or of one part of the split; ValueError where there is no such
        part."""
        frame = self.frame
        if part is not None:
            if self.split is None:
                raise ValueError(
                    f"{self.name!r} has no fixed split; use xy() and split the rows yourself."
                )
            if part not in self.split:
                raise ValueError(
                    f"{self.name!r} has no part {part!r}; its parts are "
                    f"{', '.join(dict.fromkeys(self.split))}."
                )
            frame = frame[self.split == part].reset_index(drop=True)
        return frame.drop(columns=self.target), frame[self.target]


def names() -> list[str]:
    """Names of the tables that ``load`` knows here.

    Returns
    -------
    list of str
        Those that are shipped, that lie in CONJOIN_DATA, or that have a known home.
    """
    folder = folder_of("tables")
    found = [path.stem for path in folder.glob("*.json")] if folder else []
    return sorted({*_SHIPPED, *_HOMES, *found})


def load(name: str) -> Dataset:
    """A table by name.

    Parameters
    ----------
    name : str
        One of ``names()``: shipped, in CONJOIN_DATA, or fetched once and kept.

    Returns
    -------
    Dataset
        The frame, the name of its target, the task, its fixed split if it has one, licence and
        origin.

    Raises
    ------
    ValueError
        If there is none of that name; it lists the names, or says where the data come from.

    Examples
    --------
    >>> X, y = load("iris").xy()
    >>> X.shape, y.name
    ((150, 4), 'target')
    """
    if name in _SHIPPED:
        return _shipped(name)
    folder = folder_of("tables")
    if folder and (folder / f"{name}.json").exists():
        return _local(name, folder)
    if name in _HOMES:
        return _from_home(name, _HOMES[name])
    raise ValueError(
        f"There is no data set {name!r} here; there are {', '.join(names())}. Others are read "
        "from tables/NAME.csv.gz and NAME.json "
        "in the folder that the environment variable CONJOIN_DATA names."
    )


def load_binary(name: str) -> "dict[str, np.ndarray[Any, Any]]":
    """A binary data set of density estimation, by name.

    Parameters
    ----------
    name : str
        It is read from binary/NAME.npz in the folder that CONJOIN_DATA names.

    Returns
    -------
    dict of str to ndarray
        "train", "valid" and "test": uint8 (n, D), zeros and ones.

    Raises
    ------
    ValueError
        If it is not there; it lists those that are.

    References
    ----------
    github.com/UCLA-StarAI/Density-Estimation-Datasets
    """
    import numpy as np

    folder = folder_of("binary")
    path = folder / f"{name}.npz" if folder else None
    if path is None or not path.exists():
        have = sorted(file.stem for file in folder.glob("*.npz")) if folder else []
        raise ValueError(
            f"There is no binary data set {name!r} "
            f"here{': there are ' + ', '.join(have) if have else ''}; they are read from "
            "binary/NAME.npz in the folder that the environment variable CONJOIN_DATA names, and "
            "come from "
            "github.com/UCLA-StarAI/Density-Estimation-Datasets."
        )
    with np.load(path, allow_pickle=False) as packed:
        width = int(packed["n_vars"])
        return {
            part: np.unpackbits(packed[part], axis=1)[:, :width]
            for part in ("train", "valid", "test")
        }


# ----------------------------------------------------------------------------- where they come from


def _shipped(name: str) -> Dataset:
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **options)
    frame = bunch.frame.copy()
    if name not in ("diabetes", "digits"):
        frame["target"] = [str(bunch.target_names[code]) for code in frame["target"]]
    licence = _UCI if name != "diabetes" else "see scikit-learn"
    return Dataset(
        name, frame, "target", _SHIPPED[name], None, licence, f"scikit-learn: load_{name}"
    )


def _local(name: str, folder: Path) -> Dataset:
    card: JSON = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    path = folder / f"{name}.csv.gz"
    if not path.exists():
        raise ValueError(
            f"{path} does not exist, though {name}.json describes it; get the table again."
        )
    verify(path, card["sha256"])
    frame = _read(path, [column for column, kind in card["types"].items() if kind == "cat"])
    split = frame.pop("split").to_numpy() if "split" in frame else None
    return Dataset(
        name, frame, card["target"], card["task"], split, card["licence"], card["source"]
    )


def _read(path: Path, words: Iterable[Any], **options: Any) -> "pd.DataFrame":
    import pandas as pd

    frame: pd.DataFrame = pd.read_csv(
        path, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=[""], **options
    )
    return frame


def _from_home(name: str, home: _Home) -> Dataset:
    path = cache_folder() / home.file
    if not path.exists():
        fetch(_MIRROR + home.file, path)
    columns = home.columns.split()
    frame = _read(
        path, [columns.index(word) for word in home.words.split()], header=None, index_col=False
    )
    if frame.shape != (home.rows, len(columns)):
        path.unlink()
        found = f"{frame.shape[0]} rows of {frame.shape[1]}"
        raise ValueError(
            f"{_MIRROR + home.file} was changed: {found}, not {home.rows} of {len(columns)}; set "
            "CONJOIN_DATA instead."
        )
    return Dataset(
        name,
        frame.set_axis(columns, axis=1),
        columns[-1],
        home.task,
        None,
        home.licence,
        _MIRROR + home.file,
    )

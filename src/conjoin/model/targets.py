"""What y is: classes or a number, and how its raw values become events."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from conjoin.codecs.table.forms import form_from, form_json
from conjoin.codecs.table.measure import decimals_of
from conjoin.codecs.table.reading import read_in
from conjoin.codecs.table.values import floats, truth_of, truths_of
from conjoin.core import Event, Space, Variable

__all__ = ["Classes", "Number", "Target", "class_labels", "target_from_json"]


class Classes:
    """Labels of a classifier. A missing label (NaN, None, NA, or ``unlabelled``) is a y that is not
    observed."""

    kind = "classes"
    form: Any = None  # classes are no numbers in words

    def __init__(self, labels: np.ndarray, name: str = "y") -> None:
        self.labels = labels
        self.name = name

    @classmethod
    def fit(cls, y: np.ndarray, known: np.ndarray, name: str) -> "Classes":
        labels = np.unique(y[known])
        if len(labels) < 2:
            found = f"only one class, {labels[0]}" if len(labels) else "no label at all"
            raise ValueError(
                f"The target {name!r} has {found}: a classifier needs at least two classes "
                "(JointDensity needs none)."
            )
        return cls(labels, name)

    @property
    def space(self) -> Space:
        return Space((), (Variable(self.name, "category", cardinality=len(self.labels)),))

    def encode(self, y: np.ndarray, known: np.ndarray) -> Event:
        """Codes of the labels; ValueError names a label that was not there at fit."""
        codes = np.zeros(len(y))
        y = self._in_own_words(y, known)
        places = np.searchsorted(self.labels, y[known])
        wrong = self.labels[np.minimum(places, len(self.labels) - 1)] != y[known]
        if wrong.any():
            choices = ", ".join(map(str, self.labels))
            raise ValueError(
                f"The target {self.name!r} has the class {y[known][wrong][0]}; known are {choices}."
            )
        codes[known] = places
        return Event(torch.tensor(codes), torch.tensor(known))

    def _in_own_words(self, y: np.ndarray, known: np.ndarray) -> np.ndarray:
        """y in the words of the labels, where these are yes and no and y says so otherwise."""
        labels = self.labels.tolist()
        truths = truths_of(labels)
        found = pd.unique(y[known]).tolist()
        other = [value for value in found if value not in labels]
        if not truths or not other or any(truth_of(value) is None for value in found):
            return y
        own = {
            value: value if value in labels else truths[bool(truth_of(value))] for value in found
        }
        out = np.full(len(y), self.labels[0], dtype=self.labels.dtype)
        out[known] = [own[value] for value in y[known].tolist()]
        return out

    def code(self, label: Any) -> int:
        """The code of one class, by its text (a command line knows only text); ValueError lists the
        classes."""
        found = np.flatnonzero([own == label or str(own) == str(label) for own in self.labels])
        if len(found) != 1:
            raise ValueError(
                f"{self.name!r} has no class {str(label)!r}; choose from "
                f"{', '.join(str(c) for c in self.labels)}."
            )
        return int(found[0])

    def decode(self, value: Tensor) -> np.ndarray:
        return np.asarray(self.labels[value.long().numpy()])

    def write(self, values: np.ndarray) -> np.ndarray:
        """Labels as a file holds them."""
        return values

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "labels": self.labels.tolist(),
            "dtype": self.labels.dtype.str,
        }


class Number:
    """The number of a regressor: standardised, with its recorded precision. ``form``: how the
    target writes it in words, None for plain numbers."""

    kind = "number"
    labels: np.ndarray | None = None  # a number has none

    def __init__(
        self, name: str, shift: float, scale: float, resolution: float | None, form: Any = None
    ) -> None:
        self.form = form
        self.name = name
        self.shift = shift
        self.scale = scale
        self.resolution = resolution

    @classmethod
    def fit(
        cls, y: np.ndarray, known: np.ndarray, name: str, weight: np.ndarray, form: Any = None
    ) -> "Number":
        values = y[known].astype(float)
        counts = weight[known]
        if not len(values):
            raise ValueError(f"The target {name!r} has no value at all.")
        shift = float(np.average(values, weights=counts))
        scale = float(np.sqrt(np.average((values - shift) ** 2, weights=counts))) or 1.0
        decimals = decimals_of(values, "float64")
        return cls(name, shift, scale, None if decimals is None else 10.0**-decimals, form)

    @property
    def space(self) -> Space:
        width = None if self.resolution is None else self.resolution / self.scale
        kind: Literal["integer", "real"] = "integer" if self.resolution == 1 else "real"
        return Space(
            (), (Variable(self.name, kind, resolution=width, origin=-self.shift / self.scale),)
        )

    def encode(self, y: np.ndarray, known: np.ndarray) -> Event:
        values = np.where(known, y, self.shift).astype(float)
        return Event(torch.tensor((values - self.shift) / self.scale), torch.tensor(known))

    def decode(self, value: Tensor) -> np.ndarray:
        """Unrounded: a prediction need not lie on the lattice."""
        return np.asarray(value.numpy() * self.scale + self.shift)

    def read(self, cells: Any) -> tuple[np.ndarray, np.ndarray]:
        """Cells (B,) of a file as numbers, and which are known; ValueError names the first that is
        none."""
        return floats(cells) if self.form is None else read_in(cells, self.form)

    def write(self, values: np.ndarray) -> np.ndarray:
        """Numbers as the target writes them: words, None for NaN; or the numbers themselves."""
        if self.form is None:
            return values
        low, high = self.form.bounds
        able = np.clip(
            values, -np.inf if low is None else low, np.inf if high is None else high
        ).tolist()
        words = [None if value != value else self.form.write(value) for value in able]
        return np.array(words, dtype=object)

    @property
    def log_volume(self) -> float:
        """What turns log p of an event into log p of the raw number."""
        return 0.0 if self.resolution is not None else -float(np.log(self.scale))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "shift": self.shift,
            "scale": self.scale,
            "resolution": self.resolution,
            **({} if self.form is None else {"form": form_json(self.form)}),
        }


Target = Classes | Number


def target_from_json(config: dict[str, Any] | None) -> Target | None:
    if config is None:
        return None
    if config["kind"] == "classes":
        return Classes(np.array(config["labels"], dtype=np.dtype(config["dtype"])), config["name"])
    form = form_from(config.get("form"))
    return Number(config["name"], config["shift"], config["scale"], config["resolution"], form)


def class_labels(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The labels in one sortable dtype; ValueError for a target that is a number."""
    clear = labels[known]
    if clear.dtype == object:
        kinds = {type(label) for label in clear}
        clear = clear.astype(str) if len(kinds) > 1 or kinds == {str} else np.array(clear.tolist())
    if len(clear):
        check_classification_targets(clear)
    if (
        clear.dtype.kind == "f"
        and (clear == clear.astype(np.int64)).all()
        and labels.dtype == object
    ):
        clear = clear.astype(np.int64)
    out = np.empty(
        len(labels), dtype=object if clear.dtype.kind in "OU" and not len(clear) else clear.dtype
    )
    out[known] = clear
    if (~known).any():
        out[~known] = clear[0] if len(clear) else 0
    return out

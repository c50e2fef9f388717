"""What y is: classes or a number, and how its raw values become events."""

import abc
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.table.forms import find_form, form_from, form_json
from conjoin.codecs.table.measure import decimals_of, range_of
from conjoin.codecs.table.reading import read_in
from conjoin.codecs.table.values import (
    Tally,
    blank,
    floats,
    merged,
    quoted,
    text_of,
    truth_of,
    truths_of,
)
from conjoin.core import Event, Space, Variable

__all__ = [
    "TARGETS",
    "Classes",
    "Meant",
    "Number",
    "Target",
    "class_labels",
    "seen_range",
    "target_from_json",
    "task_for",
]


class Meant(NamedTuple):
    """What cells of a target mean: values that mean that the answer is not known, and the text of
    spellings with the label that each is read as."""

    missing: tuple[Any, ...] = ()
    merge: tuple[tuple[str, Any], ...] = ()

    def read(self, cells: Any) -> Any:
        """A column with the cells as they are meant."""
        return merged(blank(cells, self.missing), self.merge)

    def label(self, value: Any) -> Any:
        """The label that one value is read as."""
        return dict(self.merge).get(text_of(value), value)


class Target(abc.ABC):
    """What y is: how its raw values become events, and what its answers are."""

    kind: ClassVar[str]  # its name: as a task of the fit, and in saved models
    discrete: ClassVar[bool]  # whether an answer is one of ``labels``, and so right or wrong
    measure: ClassVar[str]  # which figure of ``evaluate`` says how good the answers are
    name: str
    labels: np.ndarray | None
    form: Any = None  # how it writes numbers in words; None where it does not
    range: tuple[float | None, float | None] = (None, None)  # seen at fit; None where not known
    missing: tuple[Any, ...] = ()  # values that mean that the answer is not known
    # (text of a cell, the label that it is read as), of spellings that are one label
    merge: tuple[tuple[str, Any], ...] = ()

    @property
    def meant(self) -> Meant:
        """What cells of another file mean."""
        return Meant(self.missing, self.merge)

    @property
    def needs_reading(self) -> bool:
        """Whether cells of a file are not yet answers as the model has them."""
        return self.form is not None or bool(self.merge)

    @classmethod
    @abc.abstractmethod
    def read(
        cls, labels: np.ndarray, known: np.ndarray, name: str = "y", form: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) labels in one type, and which are known. ValueError for what can't be an answer."""

    @classmethod
    @abc.abstractmethod
    def fit(
        cls, y: np.ndarray, known: np.ndarray, name: str, weight: np.ndarray, form: Any = None
    ) -> Self:
        """Learned from the rows that are ``known``; ``weight`` (B,) counts each."""

    @property
    @abc.abstractmethod
    def space(self) -> Space:
        """Of an answer alone."""

    @property
    @abc.abstractmethod
    def log_volume(self) -> float:
        """What turns log p of an event into log p of the raw answer."""

    @property
    @abc.abstractmethod
    def ends(self) -> tuple[float, float]:
        """The least and the greatest event of an answer seen at fit; infinite where not known."""

    @abc.abstractmethod
    def encode(self, y: np.ndarray, known: np.ndarray) -> Event:
        """Events of raw answers; ValueError names a label that was not there at fit."""

    @abc.abstractmethod
    def encode_asked(self, values: np.ndarray) -> Event:
        """Events of answers as a user asks for them."""

    @abc.abstractmethod
    def decode(self, value: Tensor) -> np.ndarray:
        """Raw answers of events."""

    @abc.abstractmethod
    def drawn(self, value: Tensor) -> np.ndarray:
        """Raw answers of drawn events, in the steps that answers were recorded in."""

    def parsed(self, cells: Any) -> tuple[np.ndarray, np.ndarray]:
        """Cells (B,) of a file as numbers, and which are known; ValueError names the first that is
        none."""
        return floats(cells) if self.form is None else read_in(cells, self.form)

    @abc.abstractmethod
    def write(self, values: np.ndarray) -> np.ndarray:
        """Raw answers as a file holds them."""

    @abc.abstractmethod
    def wanted(self, to: Any) -> tuple[float, float]:
        """The least and the greatest event that ``to`` allows. ValueError where it is no answer."""

    @abc.abstractmethod
    def bounds(
        self, low: np.ndarray | None, high: np.ndarray | None, strict: np.ndarray | None
    ) -> tuple[Tensor, Tensor] | None:
        """The ends of censored answers in event units; None where nothing is censored.
        ``strict``: whether an end itself is excluded."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All that was learned, in plain JSON types."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, config: dict[str, Any]) -> Self:
        """The inverse of ``to_json``."""


class Classes(Target):
    """Labels of a classifier. A missing label (NaN, None, NA, or ``unlabelled``) is a y that is not
    observed."""

    kind = "classes"
    discrete = True
    measure = "accuracy"
    log_volume = 0.0
    labels: np.ndarray

    def __init__(self, labels: np.ndarray, name: str = "y") -> None:
        self.labels = labels
        self.name = name

    @classmethod
    def read(
        cls, labels: np.ndarray, known: np.ndarray, name: str = "y", form: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return class_labels(labels, known), known

    @classmethod
    def fit(
        cls,
        y: np.ndarray,
        known: np.ndarray,
        name: str,
        weight: np.ndarray | None = None,
        form: Any = None,
    ) -> Self:
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

    @property
    def ends(self) -> tuple[float, float]:
        return 0.0, len(self.labels) - 1.0

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

    def encode_asked(self, values: np.ndarray) -> Event:
        codes = [float(self.code(label)) for label in values]
        return Event(
            torch.tensor(codes, dtype=torch.float64), torch.ones(len(codes), dtype=torch.bool)
        )

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
        wanted = self.meant.label(label)
        found = np.flatnonzero([own == wanted or str(own) == str(wanted) for own in self.labels])
        if len(found) != 1:
            raise ValueError(
                f"{self.name!r} has no class {quoted(str(label))}; choose from "
                f"{', '.join(str(c) for c in self.labels)}."
            )
        return int(found[0])

    def decode(self, value: Tensor) -> np.ndarray:
        return np.asarray(self.labels[value.long().numpy()])

    def drawn(self, value: Tensor) -> np.ndarray:
        return self.decode(value)

    def wanted(self, to: Any) -> tuple[float, float]:
        code = float(self.code(to))
        return code, code

    def bounds(
        self, low: np.ndarray | None, high: np.ndarray | None, strict: np.ndarray | None
    ) -> None:
        return None

    def write(self, values: np.ndarray) -> np.ndarray:
        return values

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "labels": self.labels.tolist(),
            "dtype": self.labels.dtype.str,
            **_meant_json(self),
        }

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> Self:
        return cls(np.array(config["labels"], dtype=np.dtype(config["dtype"])), config["name"])


class Number(Target):
    """The number of a regressor: standardised, with its recorded precision. ``form``: how the
    target writes it in words, None for plain numbers. ``range``: between which raw numbers the rows
    of the fit lie, None for an end that is open."""

    kind = "number"
    discrete = False
    measure = "mae"
    labels = None  # a number has none

    def __init__(
        self,
        name: str,
        shift: float,
        scale: float,
        resolution: float | None,
        form: Any = None,
        range: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self.form = form
        self.range = range
        self.name = name
        self.shift = shift
        self.scale = scale
        self.resolution = resolution

    @classmethod
    def read(
        cls, labels: np.ndarray, known: np.ndarray, name: str = "y", form: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Words that mean missing are not known."""
        series = pd.Series(labels).where(known).rename(name)
        if form is not None:
            values, read = read_in(series, form)
            return np.where(read, values, 0.0), known & read
        numbers = pd.to_numeric(series, errors="coerce")
        words = numbers.isna().to_numpy() & known
        if words.any():
            raise ValueError(_no_number(name, labels, words))
        values = numbers.to_numpy(dtype=float, na_value=np.nan)
        refuse_infinite(values, known)
        return np.where(known, values, 0.0), known

    @classmethod
    def fit(
        cls, y: np.ndarray, known: np.ndarray, name: str, weight: np.ndarray, form: Any = None
    ) -> Self:
        values = y[known].astype(float)
        counts = weight[known]
        if not len(values):
            raise ValueError(f"The target {name!r} has no value at all.")
        shift = float(np.average(values, weights=counts))
        scale = float(np.sqrt(np.average((values - shift) ** 2, weights=counts))) or 1.0
        decimals = decimals_of(values, "float64")
        resolution = None if decimals is None else 10.0**-decimals
        return cls(name, shift, scale, resolution, form, seen_range(values))

    def widened(self, values: np.ndarray) -> "Number":
        """This number, with the range that these values have seen as well."""
        low, high = self.range
        least, most = seen_range(values)
        ends = (
            None if low is None or least is None else min(low, least),
            None if high is None or most is None else max(high, most),
        )
        number = Number(self.name, self.shift, self.scale, self.resolution, self.form, ends)
        number.missing = self.missing
        number.merge = self.merge
        return number

    @property
    def space(self) -> Space:
        width = None if self.resolution is None else self.resolution / self.scale
        kind: Literal["integer", "real"] = "integer" if self.resolution == 1 else "real"
        return Space(
            (), (Variable(self.name, kind, resolution=width, origin=-self.shift / self.scale),)
        )

    @property
    def ends(self) -> tuple[float, float]:
        low, high = self.range
        least = -np.inf if low is None else (low - self.shift) / self.scale
        most = np.inf if high is None else (high - self.shift) / self.scale
        return float(least), float(most)

    def encode(self, y: np.ndarray, known: np.ndarray) -> Event:
        values = np.where(known, y, self.shift).astype(float)
        return Event(torch.tensor((values - self.shift) / self.scale), torch.tensor(known))

    def asked(self, value: Any) -> float:
        """A number, or words as the target writes it. ValueError for other words."""
        if not isinstance(value, str):
            return float(value)
        found = None if self.form is None else self.form.read(value)
        if found is not None:
            return float(found)
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{value!r} is no value of {self.name!r}, a number.") from None

    def encode_asked(self, values: np.ndarray) -> Event:
        numbers = np.array([self.asked(value) for value in values.tolist()], dtype=float)
        return self.encode(numbers, np.ones(len(values), dtype=bool))

    def decode(self, value: Tensor) -> np.ndarray:
        """Unrounded: a prediction need not lie on the lattice."""
        return np.asarray(value.numpy() * self.scale + self.shift)

    def drawn(self, value: Tensor) -> np.ndarray:
        raw = self.decode(value)
        if self.resolution is None:
            return raw
        return np.round(raw, round(-np.log10(self.resolution))) + 0.0

    def write(self, values: np.ndarray) -> np.ndarray:
        """Words, None for NaN; or the numbers themselves."""
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
        return 0.0 if self.resolution is not None else -float(np.log(self.scale))

    def wanted(self, to: Any) -> tuple[float, float]:
        if not isinstance(to, tuple) or len(to) != 2:
            raise ValueError(f"For a number, to= is a range (low, high), got {to!r}.")
        low, high = ((self.asked(value) - self.shift) / self.scale for value in to)
        return low, high

    def bounds(
        self, low: np.ndarray | None, high: np.ndarray | None, strict: np.ndarray | None
    ) -> tuple[Tensor, Tensor] | None:
        """A recorded number that is excluded is half a step away."""
        if low is None or high is None:
            return None
        assert strict is not None
        step = np.where(strict, (self.resolution or 0.0) / 2, 0.0)
        least = (low + step - self.shift) / self.scale
        most = (high - step - self.shift) / self.scale
        return torch.tensor(least), torch.tensor(most)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "shift": self.shift,
            "scale": self.scale,
            "resolution": self.resolution,
            **({} if self.form is None else {"form": form_json(self.form)}),
            **({} if self.range == (None, None) else {"range": list(self.range)}),
            **_meant_json(self),
        }

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> Self:
        form = form_from(config.get("form"))
        low, high = config.get("range", (None, None))  # models of before have none
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"the range of the target is {low!r} to {high!r}")
        return cls(
            config["name"],
            config["shift"],
            config["scale"],
            config["resolution"],
            form,
            (low, high),
        )


def seen_range(values: np.ndarray) -> tuple[float | None, float | None]:
    """Between which raw numbers these values lie, as of a column: without the full precision of an
    end that few have."""
    distinct, counts = np.unique(values, return_counts=True)
    return range_of(Tally(distinct, counts, 0.0))


def _no_number(name: str, labels: np.ndarray, words: np.ndarray) -> str:
    """Which label stands in the way, and what can be done about it."""
    distinct = pd.unique(labels[words])
    odd = next((word for word in distinct if find_form([str(word)], "number") is None), None)
    same = labels[words] == (distinct[0] if odd is None else odd)
    row = int(np.flatnonzero(words)[same][0])
    remedy = (
        "its numbers are not written in one way, with one unit and the same marks"
        if odd is None
        else f"correct it, or say unlabelled={quoted(str(odd))} if it means that the number is not "
        "known"
    )
    return (
        f"The target {name!r} has the value {quoted(str(labels[row]))} in row {row}, which is no "
        f"number: {remedy}; for classes use JointClassifier."
    )


# What y can be, by the name of the task; a density has none.
TARGETS: dict[str, type[Target]] = {kind.kind: kind for kind in (Classes, Number)}


def task_for(target: Target | None) -> str:
    """The name of the task of a fit that has this target."""
    return "density" if target is None else target.kind


def target_from_json(config: dict[str, Any] | None) -> Target | None:
    if config is None:
        return None
    target = TARGETS[config["kind"]].from_json(config)
    target.missing = tuple(config.get("missing", ()))
    if not all(isinstance(value, str | int | float) for value in target.missing):
        raise ValueError(f"the target has {target.missing!r:.60} for what is not known")
    merge = config.get("merge", {})
    levels = merge.values() if isinstance(merge, dict) else [None]
    if not all(isinstance(level, str | int | float) for level in levels):
        raise ValueError(f"the target has {merge!r:.60} for spellings and their labels")
    target.merge = tuple(merge.items())
    return target


def _meant_json(target: Target) -> dict[str, Any]:
    """Nothing where there is none, as in models of before."""
    return {
        **({"missing": list(target.missing)} if target.missing else {}),
        **({"merge": dict(target.merge)} if target.merge else {}),
    }


def refuse_infinite(values: np.ndarray, known: np.ndarray) -> None:
    """ValueError, in the words that scikit-learn asks for, where one of the numbers that are known
    is infinite; ``values`` are those of all rows, or of the known ones."""
    values = values[known] if len(values) == len(known) else values
    infinite = np.isinf(values)
    if infinite.any():
        place = int(infinite.argmax())
        raise ValueError(
            "Input y contains infinity or a value too large for dtype('float64'): row "
            f"{np.flatnonzero(known)[place]} is {values[place]}; correct it."
        )


def class_labels(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The labels in one sortable dtype; ValueError for a target that is a number."""
    clear = labels[known]
    if clear.dtype == object:
        kinds = {type(label) for label in clear}
        clear = clear.astype(str) if len(kinds) > 1 or kinds == {str} else np.array(clear.tolist())
    if clear.dtype.kind == "f":
        refuse_infinite(clear, known)
    if len(clear):
        from sklearn.utils.multiclass import check_classification_targets

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

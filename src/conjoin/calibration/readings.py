"""Several readings of a row of a table, and which of them make up its familiarity.

Each reading is standardised by what the model's own draws with the same cells missing have, and
ranked among validation rows; the statistic is the logarithm of the least rank, so that a row is as
familiar as its worst reading. log p(x) is always read. A further reading joins where the share of
pseudo-strangers that is caught at a false-alarm rate of 5 % falls neither for one kind of them by
more than ``MAX_LOSS`` nor in the mean over kinds by more than ``MAX_MEAN_LOSS``, beyond chance.
Trees against shuffled columns are tried where there are ``MIN_RATIO_ROWS`` validation rows.
Everything is learned from rows of the fit and validation rows; the statistic is a fixed function of
a row, so that its rank among calibration rows stays valid.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conjoin.calibration.familiarity import (
    MIN_REFERENCE_ROWS,
    TAIL_SHARE,
    GaussianReading,
    make_room,
    reference_of,
)
from conjoin.calibration.kernels import MAX_COORDINATES, KernelReading
from conjoin.calibration.ratio import RatioReading
from conjoin.calibration.strangers import pseudo_strangers
from conjoin.core import Event, Variable
from conjoin.core.shapes import Bool, Float

__all__ = ["KERNELS", "JoinedFamiliarity", "Readings", "learn_kernels", "learn_readings"]

LOG_P = "log p(x)"
KERNELS = "kernels about centres"
KERNELS_BY_RANK = "kernels about centres, by ranks"
GAUSSIAN = "a Gaussian's"
RATIO = "trees' against shuffled columns"
BY_RANK = {KERNELS: False, KERNELS_BY_RANK: True}
NAMES = (LOG_P, *BY_RANK, GAUSSIAN, RATIO)  # by their places here they are saved
TRIED = (LOG_P, RATIO, *BY_RANK, GAUSSIAN)  # in this order

MIN_RATIO_ROWS = 100  # validation rows: the least of five ranks is under .05 where one is under .01
MAX_JUDGING_ROWS = 512  # validation rows that pseudo-strangers are made of
FALSE_ALARM_RATE = 0.05  # at which pseudo-strangers are to be caught
MAX_LOSS = 0.05  # of the share of pseudo-strangers of one kind that is caught
MAX_MEAN_LOSS = 0.02  # and of the mean over kinds
STANDARD_ERRORS = 2.0  # of a loss that is more than chance
MIN_DEVIATION = 1e-6

Reading = Callable[[Float[Tensor, "B D"], Bool[Tensor, " D"]], Float[Tensor, " B"]]


@dataclass(frozen=True)
class Readings:
    """The readings beside log p(x) that have joined.

    Attributes
    ----------
    own
        By their names, those that have something to save.
    reference
        Of every reading that has joined, ``LOG_P`` first, the statistic on validation rows, in
        order.
    """

    own: Mapping[str, KernelReading | RatioReading]
    reference: Mapping[str, Float[Tensor, " R"]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.reference)

    def to_tensors(self) -> dict[str, Tensor]:
        """What is saved; the inverse of ``from_tensors``."""
        stored = {f"reference.{NAMES.index(name)}": own for name, own in self.reference.items()}
        for name, reading in self.own.items():
            place = NAMES.index(name)
            stored |= {f"kernel.{place}.{key}": own for key, own in reading.to_tensors().items()}
        return stored

    @classmethod
    def from_tensors(cls, variables: tuple[Variable, ...], stored: dict[str, Tensor]) -> "Readings":
        """ValueError where the tensors do not go with the columns."""
        reference = {
            name: stored[f"reference.{place}"]
            for place, name in enumerate(NAMES)
            if f"reference.{place}" in stored
        }
        read: dict[str, KernelReading | RatioReading] = {}
        for name in (*BY_RANK, RATIO):
            start = f"kernel.{NAMES.index(name)}."
            own = {
                key.removeprefix(start): value
                for key, value in stored.items()
                if key.startswith(start)
            }
            if own and name == RATIO:
                read[name] = RatioReading.from_tensors(variables, own)
            elif own:
                read[name] = KernelReading.from_tensors(variables, BY_RANK[name], own)
        if any(name not in (*read, LOG_P, GAUSSIAN) for name in reference):
            raise ValueError("a reading of familiarity has validation rows and no centres or trees")
        return cls(read, reference)


class JoinedFamiliarity:
    """The statistic: the logarithm of the least rank of the readings among validation rows.

    A fixed function of one row (the draws are fixed), so that no answer depends on the batch it
    came in."""

    def __init__(
        self,
        log_prob: Callable[[Event], Float[Tensor, " B"]],
        bank: Event,
        sketch: Event,
        gaussian: GaussianReading,
        readings: Readings,
    ) -> None:
        """``sketch``: the draws that stand for the bank where cells are missing."""
        self.log_prob = log_prob
        self.bank = bank
        self.sketch = sketch
        self.readings = readings
        others: dict[str, Reading] = {**readings.own, GAUSSIAN: gaussian}
        self.others = {name: others[name] for name in readings.names if name != LOG_P}
        self._usual: dict[bytes, list[tuple[float, float]]] = {}

    @property
    def name(self) -> str:
        """For the model card."""
        return "the least of " + ", ".join(self.readings.names) + ", by rank among validation rows"

    def statistics(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, "B R"]:
        """Every reading, standardised. ``extra`` is the codec's log-mass of cells that were never
        seen, which log p(x) takes."""
        raw = self.log_prob(x) + extra
        out = torch.empty(len(raw), 1 + len(self.others), dtype=torch.float64)
        (patterns, which) = torch.unique(x.mask, dim=0, return_inverse=True)
        for place, pattern in enumerate(patterns):
            rows = (which == place).nonzero()[:, 0]
            value = x.value[rows]
            each = [raw[rows], *(reading(value, pattern) for reading in self.others.values())]
            usual = self._usual_of(pattern)
            for column, (own, (mean, deviation)) in enumerate(zip(each, usual, strict=True)):
                out[rows, column] = (own - mean) / deviation
        return out

    def _usual_of(self, pattern: Bool[Tensor, " D"]) -> list[tuple[float, float]]:
        """Mean and deviation of each reading over the model's draws with this pattern's cells."""
        key = pattern.numpy().tobytes()
        if key not in self._usual:
            make_room(self._usual)
            value = (self.bank if pattern.all() else self.sketch).value
            drawn = [self.log_prob(Event(value, pattern.expand_as(value)))]
            drawn += [reading(value, pattern) for reading in self.others.values()]
            self._usual[key] = [
                (float(own.mean()), max(float(own.std()), MIN_DEVIATION)) for own in drawn
            ]
        return self._usual[key]

    def statistic(self, x: Event, extra: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Nats of a rank; ``extra`` as of ``statistics``."""
        return least_log_rank(self.statistics(x, extra), list(self.readings.reference.values()))


def least_log_rank(
    statistics: Float[Tensor, "B R"], reference: list[Float[Tensor, " N"]]
) -> Float[Tensor, " B"]:
    """log of the least rank of each row's readings."""
    pairs = zip(statistics.T, reference, strict=True)
    return torch.stack([_log_rank(own, among) for own, among in pairs], 1).amin(1)


def _log_rank(value: Float[Tensor, " B"], reference: Float[Tensor, " N"]) -> Float[Tensor, " B"]:
    """log of the share of the reference that is less familiar, on straight lines between its
    values, so that few rows tie. Below the least it falls on without end."""
    rows = len(reference)
    inside = value.nan_to_num(-torch.inf).clamp(reference[0], reference[-1])
    above = torch.searchsorted(reference, inside.contiguous(), right=True).clamp(1, rows - 1)
    step = (reference[above] - reference[above - 1]).clamp_min(1e-12)
    part = ((inside - reference[above - 1]) / step).clamp(0, 1)
    rank = (above + part) / (rows + 1)
    tail = (reference.quantile(TAIL_SHARE) - reference[0]).clamp_min(1e-9)
    return rank.log() + ((value - reference[0]) / tail).clamp(max=0.0)


# ---------------------------------------------------------------------------------- which ones join


def learn_kernels(
    variables: tuple[Variable, ...],
    rows: Event,
    validation: Event,
    generator: np.random.Generator,
) -> dict[str, KernelReading]:
    """Kernels about centres of rows of the fit, by their names. None of them where a row has too
    many coordinates, or the validation rows are too few to rank and to judge by:
    ``MIN_REFERENCE_ROWS``."""
    coordinates = sum(each.cardinality if each.nominal else 1 for each in variables)
    if coordinates > MAX_COORDINATES or validation.rows < MIN_REFERENCE_ROWS or not rows.rows:
        return {}
    return {
        name: KernelReading.of(variables, rows, validation, by_rank, generator)
        for name, by_rank in BY_RANK.items()
    }


def learn_readings(
    kernels: Mapping[str, KernelReading],
    rows: Event,
    validation: Event,
    familiarity: Callable[[Readings], JoinedFamiliarity],
    generator: np.random.Generator,
) -> Readings:
    """The readings that join, from rows of the fit and validation rows. ``familiarity``: the
    statistic of such readings."""
    variables = kernels[KERNELS].variables
    tried = [name for name in TRIED if name != RATIO or validation.rows >= MIN_RATIO_ROWS]
    own: dict[str, KernelReading | RatioReading] = dict(kernels)
    if RATIO in tried:
        own[RATIO] = RatioReading.of(variables, rows, generator)
    nothing = torch.zeros(1, dtype=torch.float64)
    every = familiarity(Readings(own, dict.fromkeys(tried, nothing)))
    some = validation.take(torch.as_tensor(generator.permutation(validation.rows)))
    some = some.take(slice(0, MAX_JUDGING_ROWS))
    strangers = pseudo_strangers(variables, some, generator)
    judged = {name: _asked(every, kind) for name, kind in strangers.items()}
    ordinary = _asked(every, validation)
    joined = sorted(_joined(ordinary, judged), key=lambda place: NAMES.index(tried[place]))
    reference = reference_of(ordinary[:, joined])
    names = [tried[place] for place in joined]
    return Readings(
        {name: reading for name, reading in own.items() if name in names},
        {
            name: torch.tensor(usual, dtype=torch.float64)
            for name, usual in zip(names, reference, strict=True)
        },
    )


def _asked(every: JoinedFamiliarity, rows: Event) -> Float[Tensor, "B R"]:
    return every.statistics(rows, torch.zeros(rows.rows, dtype=torch.float64))


def _joined(
    ordinary: Float[Tensor, "B R"], strangers: Mapping[str, Float[Tensor, "S R"]]
) -> list[int]:
    """The places of the readings that join, by their statistics on validation rows and on
    pseudo-strangers of several kinds."""
    joined = [0]
    caught = _caught(ordinary, strangers, joined)
    for place in range(1, ordinary.shape[1]):
        more = _caught(ordinary, strangers, [*joined, place])
        lost = [before - after for before, after in zip(caught, more, strict=True)]
        one = any(_is_lost(each, MAX_LOSS) for each in lost)
        if not one and not _is_lost(torch.stack(lost).mean(0), MAX_MEAN_LOSS):
            joined.append(place)
            caught = more
    return joined


def _caught(
    ordinary: Float[Tensor, "B R"], strangers: Mapping[str, Float[Tensor, "S R"]], of: list[int]
) -> list[Float[Tensor, " S"]]:
    """Of each kind which rows (1, else 0) are caught at ``FALSE_ALARM_RATE`` by these readings."""
    reference = [ordinary[:, place].sort().values for place in of]
    threshold = least_log_rank(ordinary[:, of], reference).quantile(FALSE_ALARM_RATE)
    return [
        (least_log_rank(kind[:, of], reference) <= threshold).double()
        for kind in strangers.values()
    ]


def _is_lost(loss: Float[Tensor, " S"], most: float) -> bool:
    """Whether so many fewer are caught that it is neither little nor chance. ``loss``: of each
    validation row, of which every kind has one pseudo-stranger."""
    error = float(loss.std(unbiased=False)) / len(loss) ** 0.5
    return float(loss.mean()) > max(most, STANDARD_ERRORS * error)

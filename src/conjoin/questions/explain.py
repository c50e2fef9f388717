"""Why a row is unfamiliar, in words: which columns, what the other columns suggest, and which
change of unit would fit.

A column is *far* if its value lies outside what the model itself draws for that column, and *odd*
if it is surprising given the others: log p(x_d | the others) = log p(x) - log p(x without d),
compared with the model's own draws.

Shape letters: R rows to explain, D columns, S draws of the bank, F factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.core import Encoded, Event, Rows
from conjoin.core.event import slices
from conjoin.core.shapes import Float
from conjoin.model.model import Model
from conjoin.questions.conditionals import expected
from conjoin.questions.token_surprise import surprise_in, token_surprise

__all__ = ["reasons", "surprise"]

ROWS_AT_ONCE = 2048  # of which other units are tried
UNIT_FACTORS = (10.0, 0.1, 100.0, 0.01, 1000.0, 0.001, 2.54, 1 / 2.54, 0.45359237, 1 / 0.45359237)
STRINGS_AT_ONCE = 256  # whose tokens are judged
ODD_DEVIATIONS = -3.0  # standard deviations of conditional surprise
FAR_DEVIATIONS = 2.5  # robust standard deviations from the median of the column
MIN_GAIN_NATS = 10.0  # nats that a change of units must gain: less is a coincidence
ORDINARY_QUANTILES = (
    0.01,
    0.99,
)  # between these quantiles of the model's draws a number is a usual one
MAX_NAMED_COLUMNS = 3  # columns named in a reason


def surprise(model: Model, x: Event) -> Float[Tensor, "R D"]:
    """log p(x_d | the other observed cells) in standard deviations of the model's own draws; 0
    where missing."""
    mean, deviation = model.typical_conditionals
    scaled = (model.log_conditionals(x) - mean) / deviation
    return torch.where(x.mask, scaled, torch.zeros_like(scaled))


def _distance(model: Model, value: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
    """How many robust standard deviations a number lies from the median of the model's draws; 0 for
    codes, and for numbers among the usual ones."""
    bank = model.bank.value
    middle = bank.median(0).values
    spread = (bank.quantile(0.9, 0) - bank.quantile(0.1, 0)) / 2.56
    discrete = torch.tensor([variable.discrete for variable in model.codec.space.variables])
    wide = torch.maximum(spread, bank.std(0) / 3).clamp_min(1e-9)
    low, high = (bank.quantile(level, 0) for level in ORDINARY_QUANTILES)
    return torch.where(
        discrete | ((value >= low) & (value <= high)), 0.0, (value - middle).abs() / wide
    )


def reasons(
    model: Model, rows: Rows, encoded: Encoded, places: np.ndarray, false_alarm: float
) -> list[str]:
    """One sentence for each of the rows at ``places``."""
    # no pixel says anything by itself, and there are too many to ask about each
    codec = model.codec
    if not codec.columnwise:
        return _of_wholes(model, rows.take(places), encoded.take(torch.tensor(places)))
    frame = rows.take(places).frame
    encoded = encoded.take(torch.tensor(places))
    x = encoded.event
    # whether a column can be judged given the others
    alone = model.joint.capabilities.missing != "none"
    far = _distance(model, x.value) * x.mask
    odd = surprise(model, x) if alone else torch.zeros_like(far)
    hints = _hints(model, frame, x, far, false_alarm)
    usual = codec.told(_usual(model))[1]
    columns, shown = codec.told(frame)
    breaks = codec.broken(rows.take(places))
    least = model.least_familiar_part(encoded)
    molecules = _odd_molecules(model, rows.take(places), encoded, least)
    parts = [
        [breaks[row]] * bool(breaks[row])
        + _new_words(shown, row, columns, codec, encoded.unseen[row])
        + _far_words(usual, shown, row, far[row], columns)
        for row in range(x.rows)
    ]
    named = [
        (row, d)
        for row, said in enumerate(parts)
        if not breaks[row]
        for d in _odd_columns(odd[row], far[row], columns, MAX_NAMED_COLUMNS - len(said))
    ]
    surprising = _odd_words(model, columns, shown, x, named)
    out = []
    for row, said in enumerate(parts):
        words = [*said, *surprising.get(row, [])]
        part = None if least is None else least[row]
        # the columns are not what is strange
        if part and not encoded.unseen[row].any() and not breaks[row]:
            words = [codec.unlike(x.mask[row].tolist(), part), *words][:MAX_NAMED_COLUMNS]
        words += filter(None, [molecules.get(row, "")])
        unlike = _unlike_sums(encoded, row) or codec.unlike(x.mask[row].tolist(), part)
        text = "; ".join(words) or unlike
        out.append(f"{text}; {hints[row]} would fit" if hints[row] else text)
    return out


def _of_wholes(model: Model, rows: Rows, encoded: Encoded) -> list[str]:
    """Of strings and pictures: that they are unlike the others, and which of them, and of strings
    which part is most surprising."""
    known = [True] * len(model.codec.space.variables)
    parts = model.least_familiar_part(encoded)
    least: Sequence[int | None] = [None] * len(rows) if parts is None else parts
    out = []
    for start in range(0, len(rows), STRINGS_AT_ONCE):
        part = encoded.take(torch.arange(start, min(start + STRINGS_AT_ONCE, len(rows))))
        odd = _odd_parts(model, rows.take(slice(start, start + STRINGS_AT_ONCE)), part)
        whole = [model.codec.unlike(known, each) for each in least[start : start + len(odd)]]
        out += [f"{a}; {words}" if words else a for a, words in zip(whole, odd, strict=True)]
    return out


def _odd_parts(model: Model, rows: Rows, encoded: Encoded) -> list[str]:
    """Which part of each whole is the most surprising; "" where that can't be said."""
    pairs = model.density_of_x.pairs_of_points(encoded.event)
    if pairs is not None:
        return model.codec.oddest_pairs(rows, encoded, pairs)
    nats = _nats_of_wholes(model, encoded)
    return [""] * encoded.event.rows if nats is None else model.codec.oddest(rows, encoded, nats)


def _nats_of_wholes(model: Model, encoded: Encoded) -> Tensor | None:
    """(B, N + 1) of the tokens of strings; None where the model does not write by tokens."""
    if model.codec.structures:
        return surprise_in(model, encoded.event, model.codec.structures[0].cells)
    if encoded.event.present is None or not model.density_of_x.capabilities.step:
        return None
    return token_surprise(model.density_of_x, encoded.event)


def _odd_molecules(
    model: Model, rows: Rows, encoded: Encoded, least: list[int] | None
) -> dict[int, str]:
    """By row, what was never seen in its molecule, or where that is the least familiar of the row
    its most surprising part."""
    out: dict[int, str] = {}
    for each in () if least is None else model.codec.structures:
        part = model.codec.parts.index(each.cells)
        worst = torch.tensor(least) == part
        some = (worst | encoded.unseen[:, each.cells].any(1)).nonzero()[:, 0]
        own = encoded.take(some)
        nats = surprise_in(model, own.event, each.cells) if len(some) else None
        if nats is not None:
            texts = list(rows.take(some.numpy()).frame[each.name])
            words = each.oddest(own.event.value, nats, texts)
            out |= dict(zip(some.tolist(), words, strict=True))
    return out


def _unlike_sums(encoded: Encoded, row: int) -> str:
    """That a known sum is not what its missing parts make likely, where one is known."""
    names = [str(one.name) for one in encoded.sums if one.open[row]]
    return "; ".join(f"{name} is unlike what its missing parts add up to" for name in names)


def _new_words(
    frame: pd.DataFrame, place: int, columns: list[Any], codec: Any, unseen: Tensor
) -> list[str]:
    """Values of the row at this place that were never seen."""
    places = dict.fromkeys(codec.place_of(d) for d in unseen.nonzero()[:, 0].tolist())
    names = [columns[each] for each in places][:MAX_NAMED_COLUMNS]
    row: Any = frame.iloc[place] if names else {}
    return [f"{name} {_shown(row[name])} was never seen" for name in names]


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return repr(value) if isinstance(value, str) else str(value)


def _far_words(
    usual: pd.DataFrame, frame: pd.DataFrame, place: int, far: Tensor, columns: list[Any]
) -> list[str]:
    """Values of the row at this place that are far from the usual ones."""
    worst = [
        d
        for d in far[: len(columns)].argsort(descending=True).tolist()[:MAX_NAMED_COLUMNS]
        if far[d] > FAR_DEVIATIONS
    ]
    row: Any = frame.iloc[place] if worst else {}
    return [
        f"{columns[d]} {_shown(row[columns[d]])} is far from the usual {_range(usual[columns[d]])}"
        for d in worst
    ]


def _usual(model: Model) -> pd.DataFrame:
    """The two ends between which numbers are usual, as two rows."""
    ends = torch.stack([model.bank.value.quantile(level, 0) for level in ORDINARY_QUANTILES])
    frame: pd.DataFrame = model.codec.decode(ends)
    return frame


def _range(values: pd.Series) -> str:
    """Both ends, or what there is of them."""
    ends = list(dict.fromkeys(_shown(value) for value in values))
    return " to ".join(ends)


def _odd_columns(odd: Tensor, far: Tensor, columns: list[Any], room: int) -> list[int]:
    """The most surprising columns that are not far, ``room`` at most."""
    order = odd[: len(columns)].argsort().tolist()[:MAX_NAMED_COLUMNS]
    return [d for d in order if odd[d] < ODD_DEVIATIONS and far[d] <= FAR_DEVIATIONS][:room]


def _odd_words(
    model: Model,
    columns: list[Any],
    frame: pd.DataFrame,
    x: Event,
    named: list[tuple[int, int]],
) -> dict[int, list[str]]:
    """Words for each of the cells (row, column) that are ``named``, by row."""
    suggested = ["is surprising given the other columns"] * len(named)
    if model.joint.capabilities.conditionals in ("any", "approximate"):
        suggested = [
            f"is surprising, the other columns suggest {_range(values)}"
            for values in expected(model, x, named)
        ]
    words: dict[int, list[str]] = {}
    for (row, d), text in zip(named, suggested, strict=True):
        name = columns[d]
        words.setdefault(row, []).append(f"{name} {_shown(frame[name].iloc[row])} {text}")
    return words


# -------------------------------------------------------------------------------------------- units


def _hints(
    model: Model, frame: pd.DataFrame, x: Event, far: Tensor, false_alarm: float
) -> list[str]:
    """For each row, the change of units after which it would be familiar; empty where there is
    none."""
    numbers = [
        d
        for d, v in enumerate(model.codec.space.variables[: len(model.codec.columns)])
        if not v.discrete
    ]
    names = [model.codec.columns[d] for d in numbers]
    names = [name for name in names if name in frame and pd.api.types.is_numeric_dtype(frame[name])]
    if not names or not len(frame):
        return [""] * len(frame)
    places = [model.codec.columns.index(name) for name in names]
    some = (far[:, places] > FAR_DEVIATIONS).any(1).nonzero()[:, 0]
    hints = [""] * x.rows
    if not len(some):
        return hints
    x = x.take(some)
    far = far[some]
    parts = [
        _rescaled(model, frame.iloc[some[part].numpy()], names)
        for part in slices(len(some), ROWS_AT_ONCE)
    ]
    scaled = torch.cat([value for value, _ in parts], 1)
    best = torch.cat([distance for _, distance in parts], 1)
    chosen = {
        row: first
        for row in range(x.rows)
        if (first := _first_factors(best[:, row], far[row], places))
    }
    trial = _Rescaled(model, x, scaled)
    _refine(trial, chosen, places)
    for row in _worth(trial, chosen, false_alarm):
        hints[int(some[row])] = _words(model, chosen[row])
    return hints


def _rescaled(model: Model, frame: pd.DataFrame, names: list[Any]) -> tuple[Tensor, Tensor]:
    """(F, R, D) the values of rows with these numbers times each of the factors, and how far they
    are then; all factors in one call, whose price does not depend on the number of rows alone."""
    count = len(UNIT_FACTORS)
    rows = frame.iloc[np.tile(np.arange(len(frame)), count)].reset_index(drop=True)
    factor = np.repeat(UNIT_FACTORS, len(frame))
    rows[names] = rows[names].astype(float).mul(factor, axis=0)
    event = model.codec.encode(rows).event
    distance = _distance(model, event.value) + 1e6 * ~event.mask
    shape = (count, len(frame), -1)
    return event.value.reshape(shape), distance.reshape(shape)


Factors = dict[int, int]  # of a row: the factor of each column that is rescaled


def _first_factors(distance: Tensor, far: Tensor, places: list[int]) -> Factors:
    """The far columns, each with the factor by which it fits best. ``distance`` (F, D)."""
    return {
        d: int(distance[:, d].argmin())
        for d in places
        if far[d] > FAR_DEVIATIONS and distance[:, d].min() < 0.5 * far[d]
    }


@dataclass(frozen=True)
class _Rescaled:
    """Rows ``x`` (R, D), and the values of these rows with all numbers times each of the factors
    (F, R, D)."""

    model: Model
    x: Event
    scaled: Float[Tensor, "F R D"]

    def events(self, trials: list[tuple[int, Factors]]) -> Event:
        """(T, D) a row with some columns rescaled, for each trial."""
        index = torch.tensor([row for row, _ in trials])
        value = self.x.value[index]  # a copy
        cells = [
            (place, row, d, f)
            for place, (row, factors) in enumerate(trials)
            for d, f in factors.items()
        ]
        place, row, d, f = torch.tensor(cells).T
        value[place, d] = self.scaled[f, row, d]
        return Event(value, self.x.mask[index])


def _refine(trial: _Rescaled, chosen: dict[int, Factors], places: list[int]) -> None:
    """Rescale any other column that fits better by one of the factors of its row, twice; all rows
    are asked about at once."""
    for _ in range(2 if chosen else 0):
        trials = [(row, factors) for row, factors in chosen.items()]
        others = [
            (row, d, f)
            for row, factors in chosen.items()
            for d in places
            if d not in factors
            for f in _kin(set(factors.values()))
        ]
        more = [(row, {**chosen[row], d: f}) for row, d, f in others]
        log_prob = trial.model.log_evidence(trial.events([*trials, *more]))
        base = dict(zip(chosen, log_prob[: len(trials)].tolist(), strict=True))
        gains = log_prob[len(trials) :].tolist()
        better = sorted(
            (row, gain - base[row], d, f)
            for gain, (row, d, f) in zip(gains, others, strict=True)
            if gain - base[row] > 1.0
        )
        for row, _, d, f in better:
            chosen[row][d] = f


def _worth(trial: _Rescaled, chosen: dict[int, Factors], false_alarm: float) -> set[int]:
    """The rows that gain enough by their factors, and are familiar then."""
    rows = list(chosen)
    if not rows:
        return set()
    model = trial.model
    final = trial.events(list(chosen.items()))
    gain = model.log_evidence(final) - model.log_evidence(trial.x.take(torch.tensor(rows)))
    extra = torch.zeros(len(rows), dtype=torch.float64)
    statistic = model.familiarity.statistic(final, extra).numpy()
    familiar = model.calibrated.p_value(statistic, final.mask.numpy()) > false_alarm
    return {
        row
        for row, won, fits in zip(rows, gain.tolist(), familiar, strict=True)
        if won >= MIN_GAIN_NATS and fits
    }


def _kin(factors: set[int]) -> list[int]:
    """The same factors and their squares: where lengths are in other units, areas are too."""
    squares = {
        place
        for place, factor in enumerate(UNIT_FACTORS)
        for f in factors
        if abs(factor - UNIT_FACTORS[f] ** 2) < 1e-9 * factor
    }
    return sorted(factors | squares)


def _words(model: Model, chosen: Factors) -> str:
    """``mean radius, mean perimeter x10 and mean area x100``."""
    by_factor: dict[int, list[str]] = {}
    for d, f in chosen.items():
        by_factor.setdefault(f, []).append(str(model.codec.columns[d]))
    parts = []
    for f, names in by_factor.items():
        shown = ", ".join(names[:MAX_NAMED_COLUMNS]) + (
            f" and {len(names) - MAX_NAMED_COLUMNS} more" if len(names) > MAX_NAMED_COLUMNS else ""
        )
        parts.append(f"{shown} x{UNIT_FACTORS[f]:.4g}")
    return " and ".join(parts)

"""sample: new rows (X, y), given a class, given columns at a value, in a set of levels, or in a
range, under constraints.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.codecs.table.reading import refuse_unread
from conjoin.codecs.table.schema import RARE
from conjoin.codecs.table.values import text_of
from conjoin.core import CapabilityError, Density, Event, Pair, Region, stream
from conjoin.core.random import draw_seed
from conjoin.core.sampling import (
    AS_FITTED,
    BY_P,
    Sampling,
    Walk,
    sampling_with,
    spread_evenly,
    walking,
)
from conjoin.core.warnings import ColumnWarning
from conjoin.model.model import Model
from conjoin.questions.constraints import (
    Among,
    Between,
    Constraint,
    Draw,
    keep_drawing,
    narrowed,
    read_constraints,
)
from conjoin.questions.ranges import Ends, draw_in_range, ends_of, lifted
from conjoin.util.plain import plain_value

__all__ = ["EVEN_WORDS", "blocks_of_draws", "generate", "way_of_draws"]

EVEN_WORDS = "rows of one batch are spread evenly, not independent"
GUIDED_WORDS = "what is given is exaggerated (guidance {:g}), so these are no draws of the model"
CHOSEN_WORDS = (
    "each picture is chosen among {} by how probable what it was drawn from is given it, so these "
    "are no draws of the model"
)
ROUNDED_WORDS = (
    "strings are drawn by the network rounded to {}, whose p is not the model's: no draws of it"
)


def generate(
    model: Model,
    n: int,
    y: Any = None,
    given: Mapping[Any, Any] | None = None,
    seed: int = 0,
    where: str | Sequence[str] = (),
    tails: bool = False,
    how: Sampling = BY_P,
    even: bool = False,
    walk: Walk = AS_FITTED,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """``n`` rows and their y (None for a density).

    ``y``: a class or number, or one per row, or of a number a range (low, high), None for an open
    end, in which y is drawn. ``given``: {column: value}, {column: (low, high)} with None for open
    ends, or {column: [levels]}. Conditioning is exact where the model has exact
    conditionals; without ``where`` no row is drawn in vain. ``where``: constraints such as "start
    <= end"; the frame's ``attrs["acceptance"]`` is the share of drawn rows that kept them. Columns
    and a number y stay between the least and the greatest value of the fit, unless ``tails``, or a
    range of them is asked for. ``how`` the tokens of strings are chosen. ``even``: each row has the
    model's law, and the rows are spread evenly; ``walk``: how they come out of noise. Of a frame
    ``attrs["status"]`` says what such rows are worth."""
    _check_precision(model, how)
    if not how.chooses_by_p and not model.density_of_x.capabilities.step:
        raise ValueError(
            "temperature, top_k and top_p are for families that draw strings token by token, and "
            f"{type(model.density_of_x).__name__} does not: leave them out."
        )
    if even:
        _check_even(model, {"y": y is not None, "given": bool(given), "where": bool(where)})
    _check_walk(model, walk)
    with sampling_with(how), spread_evenly(even), walking(walk):
        X, labels = _generated(model, n, y, given, seed, where, tails)
        status = model.status["sample"].value
    words = [EVEN_WORDS] if even else []
    if walk.guidance:
        words.append(GUIDED_WORDS.format(walk.guidance))
    if walk.chosen:
        words.append(CHOSEN_WORDS.format(walk.candidates))
    if how.rounds:
        words.append(ROUNDED_WORDS.format(how.precision))
    if (words or not walk.plain) and isinstance(X, pd.DataFrame):
        X.attrs["status"] = "; ".join([status, *words])
    return X, labels


def _check_precision(model: Model, how: Sampling) -> None:
    """ValueError where no network that draws strings could be rounded."""
    parts = [part for part in model.joint.modules() if isinstance(part, Density)]
    if how.rounds and not any(part.rounds_draws for part in parts):
        raise ValueError(
            f"precision={how.precision!r} is for families whose network draws strings, and that of "
            f"this model ({model.card['family']}) does not: leave it out."
        )


def blocks_of_draws(n: int, rows: int, seed: int) -> list[tuple[int, int]]:
    """(rows, seed) of each of the blocks that ``n`` rows are drawn in: a function of the seed and
    the number of the block, whoever draws it. The first block has the seed itself.

    >>> [count for count, _ in blocks_of_draws(25, 10, seed=3)]
    [10, 10, 5]
    >>> blocks_of_draws(25, 10, seed=3)[0]
    (10, 3)
    """
    if rows < 1:
        raise ValueError(f"A block of draws has at least 1 row, got {rows}.")
    seeds = (
        seed if block == 0 else draw_seed(stream(seed, "block", block))
        for block in range(-(-n // rows))
    )
    return [(min(rows, n - rows * block), each) for block, each in enumerate(seeds)]


def _check_walk(model: Model, walk: Walk) -> None:
    """ValueError where rows do not come out of noise in steps, nothing is told that guidance could
    exaggerate, or nothing is drawn from a string."""
    parts = [part for part in model.joint.modules() if isinstance(part, Density)]
    if walk.chosen and not any(part.chooses for part in parts):
        raise ValueError(
            f"candidates={walk.candidates!r} chooses among pictures that are drawn from a string, "
            f"and the family of this model ({model.card['family']}) draws none so: leave it out."
        )
    if walk.steps is not None and not any(part.walks for part in parts):
        raise ValueError(
            f"steps={walk.steps!r} is for families that draw rows out of noise, and that of this "
            f"model ({model.card['family']}) does not, or has a setting of its own for them: leave "
            "it out."
        )
    if walk.guidance is None:
        return
    able = [part for part in parts if part.guides]
    if not able:
        raise ValueError(
            f"guidance={walk.guidance:g} is for families that draw pictures out of noise or in "
            f"codes, and that of this model ({model.card['family']}) does not, or has a setting of "
            "its own for it: leave it out."
        )
    if walk.guidance and not any(part.is_told for part in able):
        raise ValueError(
            f"guidance={walk.guidance:g} exaggerates what a draw is told, and this model tells "
            "nothing to the pictures that it draws: leave it out."
        )


def way_of_draws(
    model: Model,
    n: int,
    given: Mapping[Any, Any] | None = None,
    seed: int = 0,
    walk: Walk = AS_FITTED,
) -> list[Any]:
    """What ``n`` rows go through from noise on, as rows, the last of which are those that
    ``generate`` draws with the same ``given`` and seed. CapabilityError where there is no such
    way."""
    _check_walk(model, walk)
    if model.target is not None:
        raise CapabilityError(
            type(model.density_of_x).__name__,
            "the way from noise to rows",
            "a target beside them",
            "Use JointDensity.",
        )
    generator = stream(seed, "sample")
    asked = model.codec.implied(plain_value(given or {}))
    with walking(walk):
        if asked or not model.joint.capabilities.unfolds:
            states = model.joint.unfold_given(_evidence(model, n, asked), generator=generator)
        else:
            states = model.joint.unfold(n, generator=generator)
    return [model.codec.drawn(Event(state), stream(seed, "drawn"), asked) for state in states]


def _check_even(model: Model, asked: Mapping[str, bool]) -> None:
    """An error where the rows can't be spread evenly, or something else is ``asked`` as well."""
    if not model.joint.capabilities.even:
        raise ValueError(
            "even=True spreads the rows of one call evenly, which the family of this model "
            f"({model.card['family']}) does not: leave it out, or fit with family='forest'."
        )
    for name, is_asked in asked.items():
        if is_asked:
            raise ValueError(
                f"even=True spreads rows over all of p(x), and {name}= asks for a part of it: "
                "leave out one of them."
            )


def _generated(
    model: Model,
    n: int,
    y: Any,
    given: Mapping[Any, Any] | None,
    seed: int,
    where: str | Sequence[str],
    tails: bool,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The rows of ``generate``."""
    n, y, given, where = map(plain_value, (n, y, given or {}, where))
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"The number of samples must be a whole number of at least 0, got {n!r}.")
    constraints = read_constraints(model, where)
    for column in model.codec.schema.drawn if given else ():
        if column.numeric and column.name in given:
            refuse_unread(column, given[column.name])
    asked = model.codec.implied(given)
    open_places = lifted(model.codec, asked, tails)
    asked = narrowed(model, asked, constraints)
    between = _range_of_y(model, y)
    kept: list[Constraint | Among | Between] = [*constraints, *_among(model, asked), *between]
    draw = _drawer(
        model,
        n,
        None if between else y,
        asked,
        stream(seed, "sample"),
        open_places,
        None if model.target is None else ends_of([model.target], tails or bool(between)),
    )
    _tell_far(model, [end for end in y if end is not None] if between else y, given)
    if not kept or not n:
        X, labels = draw(np.arange(n))
    else:
        X, labels = keep_drawing(
            lambda rows: _framed(model, *draw(rows)),
            kept,
            n,
            None if model.target is None else model.target.name,
        )
        X = X if model.codec.columnwise else model.codec.unframed(X)
    for words in () if tails else model.codec.drawn_outside(X, given):
        warnings.warn(words, ColumnWarning, stacklevel=3)
    return X, labels


def _tell_far(model: Model, y: Any, given: Mapping[Any, Any]) -> None:
    """A warning for each column, and for a number y, that is asked to be what was never seen."""
    told = model.codec.beyond_seen(given)
    grid = model.state.grid
    if model.has_number and y is not None and grid is not None:
        low, high = model.number.decode(torch.tensor([grid[0], grid[-1]], dtype=torch.float64))
        asked = np.ravel(np.asarray(y, dtype=object))
        values = np.array([model.number.asked(value) for value in asked])
        far = np.extract((values < low) | (values > high), values)
        told += [
            f"{model.number.name!r} is asked for {value:g}, but the fit has seen no value outside "
            f"of {low:.3g} to {high:.3g}: what is drawn beside it is guessed from far away."
            for value in far[:1]
        ]
    for words in told:
        warnings.warn(words, ColumnWarning, stacklevel=5)


def _range_of_y(model: Model, y: Any) -> list[Between]:
    """What keeps a number y in the range (low, high) that is asked of it."""
    if not model.has_number or not isinstance(y, tuple) or len(y) != 2:
        return []
    ends = [None if end is None else model.number.asked(end) for end in y]
    low = -np.inf if ends[0] is None else ends[0]
    high = np.inf if ends[1] is None else ends[1]
    if not low <= high:
        raise ValueError(
            f"y is asked to lie from {y[0]!r} to {y[1]!r}: the first must not exceed the second."
        )
    words = f"{low:g} <= {model.number.name} <= {high:g}"
    return [Between(words, low, high)]


def _framed(model: Model, X: Any, y: Any) -> tuple[pd.DataFrame, Any]:
    """The rows as a frame, in which constraints find their columns."""
    return (X if model.codec.columnwise else model.codec.framed(X)), y


def _drawer(
    model: Model,
    n: int,
    y: Any,
    given: dict[Any, Any],
    generator: torch.Generator,
    open_places: Sequence[int],
    of_y: Ends | None,
) -> Draw:
    """What draws those of the ``n`` wanted rows that it is given the numbers of; a y that is drawn
    lies in ``of_y``."""
    x = _evidence(model, n, given)
    asked = {name: value for name, value in given.items() if not _is_mixed(model, name, value)}
    joint = model.joint
    label = None if model.target is None else _label(model, n, y)
    free = y is None and not given

    def at(index: torch.Tensor) -> Any:
        if free:
            return joint.sample(len(index), generator=generator)
        known = x.take(index) if label is None else Pair(label.take(index), x.take(index))
        return joint.sample_conditional(known, generator=generator)

    def draw(rows: np.ndarray) -> tuple[pd.DataFrame, Any]:
        index = torch.as_tensor(rows)
        drawn = draw_in_range(
            model.codec,
            lambda some: at(index[some]),
            x.take(index),
            open_places,
            of_y if y is None else None,
        )
        if model.target is None:
            return model.codec.drawn(drawn, generator, asked), None
        # a number that was asked for is given back as it is
        decode = model.target.drawn if y is None else model.target.decode
        return model.codec.drawn(drawn.x, generator, asked), decode(drawn.y.value)

    return draw


def _among(model: Model, given: Mapping[Any, Any]) -> list[Among]:
    """Lists of levels that the event does not tell from others: rare values that share their level
    with some that were not asked for, beside levels of their own. Rows are drawn until one of the
    list comes."""
    return [
        Among(f"{name} in {', '.join(map(str, value))}", name, frozenset(map(text_of, value)))
        for name, value in given.items()
        if _is_mixed(model, name, value)
    ]


def _is_mixed(model: Model, name: Any, asked: Any) -> bool:
    """Whether rare values are asked for beside levels of their own."""
    columns = [column for column in model.codec.schema.modelled if column.name == name]
    if not columns or not columns[0].pooled_counts or not isinstance(asked, list | set):
        return False
    texts = set(map(text_of, asked))
    rare = set(map(text_of, columns[0].rare))
    return bool(texts & rare) and not texts <= rare and RARE not in texts


def _label(model: Model, n: int, y: Any) -> Event:
    if y is None:
        return model.pair.unknown(n)
    assert model.target is not None
    values = np.full(n, y) if np.ndim(y) == 0 else np.asarray(y)
    if len(values) != n:
        raise ValueError(
            f"y has {len(values)} entries for n_samples={n}; give one value, or one per row."
        )
    return model.target.encode_asked(values)


def _evidence(model: Model, n: int, given: dict[Any, Any]) -> Event:
    """Known cells of every row, and the region of the others."""
    columns = model.codec.columns
    whole = model.codec.evidence(given) if given else None
    if whole is not None:
        return whole.take(torch.zeros(n, dtype=torch.long))
    known = [*columns, *model.codec.after(columns)]
    for name in given:
        if name not in known:
            raise ValueError(
                f"given names the column {name!r}; the model has {', '.join(map(str, known))}."
            )
    refused = model.codec.unaskable(given)
    if refused:
        raise ValueError(refused)
    points = {
        name: value for name, value in given.items() if not isinstance(value, tuple | list | set)
    }
    event: Event = _encode_points(model, points) if points else model.codec.space.unknown(1)
    event = event.take(torch.zeros(n, dtype=torch.long))
    return event._replace(
        within=_region(model, {name: value for name, value in given.items() if name not in points})
    )


def _encode_points(model: Model, points: dict[Any, Any]) -> Event:
    known = {name: _as_pool(model, name, value) for name, value in points.items()}
    asked = pd.DataFrame([known])
    for name, value in known.items():
        if isinstance(value, str):  # pandas would make plain strings of beginnings
            asked[name] = pd.Series([value], dtype=object)
    encoded = model.codec.encode(asked)
    _refuse_unseen(model, points, encoded.unseen[0])
    event: Event = encoded.event
    return event


def _as_pool(model: Model, name: Any, value: Any) -> Any:
    """A value that only held-out rows have, as the level of rare values; any other as it is."""
    columns = [column for column in model.codec.schema.modelled if column.name == name]
    late = set(map(text_of, columns[0].held_out)) if columns and columns[0].pooled else set()
    return RARE if late and text_of(value) in late else value


def _refuse_unseen(model: Model, asked: dict[Any, Any], unseen: torch.Tensor) -> None:
    for place in unseen.nonzero()[:, 0].tolist():
        name = model.codec.columns[model.codec.place_of(place)]
        if name not in asked:  # it follows from what is asked for
            wish = ", ".join(f"{each}={value!r}" for each, value in asked.items())
            raise ValueError(
                f"given asks for {wish}, from which follows a {name!r} that was never seen at fit."
            )
        column = next(c for c in model.codec.schema.columns if c.name == name)
        choices = f"; choose from {column.choices}" if column.levels else ""
        raise ValueError(
            model.codec.unseen_words(name, asked[name])
            or f"given asks for {name}={asked[name]!r}, which was never seen at fit{choices}."
        )


def _region(model: Model, given: dict[Any, Any]) -> Region | None:
    if not given:
        return None
    width = model.codec.space.shape[0]
    low = torch.full((width,), -torch.inf, dtype=torch.float64)
    high = torch.full((width,), torch.inf, dtype=torch.float64)
    allowed = {}
    for name, value in given.items():
        place = model.codec.columns.index(name)
        if model.codec.columnwise and place >= model.codec.columnwise:
            raise ValueError(
                f"given asks for {name}={value!r}: of a picture or a string give one value, not "
                "several."
            )
        variable = model.codec.space.variables[place]
        if isinstance(value, tuple):
            if variable.nominal:
                raise ValueError(
                    f"{name!r} is a category without an order: give a list of levels, not a range."
                )
            low[place], high[place] = _ends(model, name, value, place)
        elif variable.discrete:
            allowed[place] = _levels(model, name, list(value), place, variable.cardinality)
        else:
            raise ValueError(
                f"{name!r} is a number: give one value, or a range (low, high), not {value!r}."
            )
    return Region(low, high, allowed)


def _ends(model: Model, name: Any, ends: tuple[Any, ...], place: int) -> tuple[float, float]:
    if len(ends) != 2:
        raise ValueError(
            f"given asks for {name}={ends!r}; a range has two ends, (low, high), None where open."
        )
    event = model.codec.encode(
        pd.DataFrame({name: pd.Series(list(ends), dtype=object).infer_objects()})
    ).event
    known = event.mask[:, place].tolist()
    low, high = (float(value) for value in event.value[:, place])
    low = low if known[0] else -np.inf
    high = high if known[1] else np.inf
    if low > high:
        raise ValueError(
            f"given asks for {name} from {ends[0]!r} to {ends[1]!r}: the first must not exceed "
            "the second."
        )
    return low, high


def _levels(
    model: Model, name: Any, levels: list[Any], place: int, cardinality: int
) -> torch.Tensor:
    known = [_as_pool(model, name, level) for level in levels]
    encoded = model.codec.encode(pd.DataFrame({name: pd.Series(known, dtype=object)}))
    for level, unseen in zip(levels, encoded.unseen[:, place].tolist(), strict=True):
        if unseen:
            _refuse_unseen(model, {name: level}, encoded.unseen[levels.index(level)])
    keep = torch.zeros(cardinality, dtype=torch.bool)
    keep[encoded.event.value[:, place].long()] = True
    return keep

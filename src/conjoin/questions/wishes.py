r"""What is wanted of molecules: a property between two numbers, or a class.

    p(y in W | x) = F(high | x) - F(low | x)

by the model's own p(y | x); a single value has a tolerance on both sides. How much of p(y) a wish
has is asked first: what hardly any of the data is near would be guessed from far away.

Shape letters: B rows.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.model.model import Model
from conjoin.model.predictive import Predictive, predictive
from conjoin.model.several import MIN_MASS, SeveralTargets
from conjoin.util.plain import plain_value

__all__ = ["Wish", "about", "refuse_far_wishes", "views_of", "wishes_of"]

POINT_TOLERANCE = 0.1  # deviations of p(y), on both sides of a single wanted value
FAR_SHARE = 1e-3  # of p(y), under which a wish is refused
RARE_SHARE = 0.05  # under which it is warned of


@dataclass(frozen=True)
class Wish:
    """What is wanted of one property. ``low``, ``high``: in event units; of classes the code in
    both. ``asked``: in the user's words. ``share``: the probability p(y) that it is so."""

    name: str
    view: Model
    asked: Any
    low: float
    high: float
    share: float

    def log_mass(self, x: Event) -> Tensor:
        """(B,) log p(y in W | x)."""
        if self.view.has_classes:
            with torch.no_grad():
                return self.view.pair.log_posterior(x)[:, int(self.low)]
        mass = about(self.view, x).between(*self.ends(x.rows))
        return mass.clamp_min(MIN_MASS).log()

    def ends(self, rows: int) -> tuple[Tensor, Tensor]:
        """``low`` and ``high`` of so many rows."""
        return _repeated(self.low, rows), _repeated(self.high, rows)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(B,) values of p(y) within W."""
        if self.view.has_classes:
            return torch.full((n,), self.low, dtype=torch.float64)
        return self._within(torch.rand(n, generator=generator, dtype=torch.float64))

    def middle(self) -> float:
        """The median of p(y) within W."""
        if self.view.has_classes:
            return self.low
        return float(self._within(torch.tensor([0.5], dtype=torch.float64))[0])

    def _within(self, share: Tensor) -> Tensor:
        """(B,) up to where p(y) has such shares of its mass in W."""
        found = about(self.view, self.view.codec.space.unknown(1))
        return found.within(*self.ends(1), share[None])[0]


def views_of(model: Model | SeveralTargets) -> dict[str, Model]:
    if isinstance(model, SeveralTargets):
        return model.views()
    return {str(model.pair.target.name): model}


def wishes_of(model: Model | SeveralTargets, wishes: Mapping[str, Any]) -> list[Wish]:
    views = views_of(model)
    if not wishes:
        raise ValueError(f"Nothing is wanted: name a property, of {', '.join(views)}.")
    for name in wishes:
        if name not in views:
            raise ValueError(f"There is no property {name!r}; choose from {', '.join(views)}.")
    return [_wish(name, views[name], asked) for name, asked in wishes.items()]


def _wish(name: str, view: Model, asked: Any) -> Wish:
    nothing = view.codec.space.unknown(1)
    asked = plain_value(asked.tolist() if isinstance(asked, np.ndarray) else asked)
    if view.has_classes:
        if isinstance(asked, tuple | list):
            raise ValueError(
                f"{name}={asked!r}: one class is wanted; choose from "
                f"{', '.join(map(str, view.classes.labels))}."
            )
        code = float(view.classes.code(asked))
        shares = view.state.shares
        share = shares[int(code)] if shares else float("nan")
        return Wish(name, view, asked, code, code, share)
    found = about(view, nothing)
    low, high = _ends(name, view, asked, found)
    share = float(found.between(_repeated(low, 1), _repeated(high, 1))[0])
    return Wish(name, view, asked, low, high, share)


def _ends(name: str, view: Model, asked: Any, found: Predictive) -> tuple[float, float]:
    """In event units; a single value has a tolerance on both sides."""
    if isinstance(asked, tuple | list):
        if len(asked) != 2 or all(end is None for end in asked):
            raise ValueError(
                f"{name}={asked!r}: a range has two ends, (low, high), one of them None where open."
            )
        low = -np.inf if asked[0] is None else _number(name, view, asked, asked[0])
        high = np.inf if asked[1] is None else _number(name, view, asked, asked[1])
        if low > high:
            raise ValueError(f"{name}={asked!r}: the first must not exceed the second.")
        return low, high
    value = _number(name, view, asked, asked)
    middle = (found.points[1:] + found.points[:-1]) / 2
    mass = found.cdf.diff(dim=1)[0]
    mean = (mass * middle).sum()
    slack = POINT_TOLERANCE * float((mass * (middle - mean).square()).sum().sqrt())
    return value - slack, value + slack


def _number(name: str, view: Model, asked: Any, end: Any) -> float:
    """In event units. ValueError for what is no number, or none that can be compared."""
    try:
        value = np.nan if isinstance(end, bool) else float(view.number.asked(end))
    except TypeError:
        value = np.nan
    if np.isnan(value):
        raise ValueError(
            f"{name}={asked!r}: {end!r} is no number; give a number, or a range (low, high) with "
            "None for an open end."
        )
    return float(view.number.encode_asked(np.array([value])).value[0])


def refuse_far_wishes(asked: Sequence[Wish]) -> None:
    """A wish that hardly anything of the data is near is refused; a rare one is warned of."""
    for wish in asked:
        named = f"{wish.name}={wish.asked!r}"
        words = f"p(y) puts {wish.share:.2%} of its mass there"
        if wish.share < FAR_SHARE:
            raise ValueError(
                f"Hardly any molecule of the data is near {named}: {words}, and {FAR_SHARE:.1%} "
                "are needed, as what would be drawn is guessed from far away."
                f"{_where_the_data_is(wish)}"
            )
        if wish.share < RARE_SHARE:
            warnings.warn(f"{named} is rare in the data: {words}.", UserWarning, stacklevel=4)


def _where_the_data_is(wish: Wish) -> str:
    """Between which numbers most of p(y) lies, as a sentence; nothing of classes."""
    if wish.view.has_classes:
        return ""
    found = about(wish.view, wish.view.codec.space.unknown(1))
    ends = found.quantile(torch.tensor([[0.05, 0.95]], dtype=torch.float64))[0]
    low, high = wish.view.number.decode(ends)
    return f" 90% of p(y) lies from {low:.4g} to {high:.4g}."


def about(view: Model, x: Event) -> Predictive:
    grid = torch.tensor(view.state.grid, dtype=torch.float64)
    with torch.no_grad():
        return predictive(view.pair, x, grid, view.state.direct)


def _repeated(end: float, rows: int) -> Tensor:
    return torch.full((rows,), end, dtype=torch.float64)

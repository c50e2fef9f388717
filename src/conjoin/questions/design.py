r"""design: new molecules whose properties are as wanted.

    p(x | y in W) is proportional to p(x) p(y in W | x)

Half of the proposals are "drawn", from p(x), the others as ``method`` says: "prompted", from
p(x | y) with y drawn in W; "guided", where the network of the strings reads which beginnings are
likely to end as wanted (``conjoin.families.autoregressive.guidance``); or "tuned", from a network
that learns from its own draws (``conjoin.questions.tuning``). Each is judged by the model's own
p(y in W | x), that of its predictor; properties are independent given the molecule. ``how="best"``
keeps the most probable ones; ``how="draw"`` resamples those that were drawn from p(x) by that
probability, so that they come from p(x | y in W) as their number grows (D. Rubin (1987), A
noniterative sampling/importance resampling alternative). Beside it stands how many of as many plain
draws would be as wanted, and the tokens of both.

Shape letters: B rows, K targets, N proposals.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.smiles.appraisal import accessibility, containing, nearest
from conjoin.codecs.smiles.chemistry import read_smiles
from conjoin.core import Event, Pair, stream
from conjoin.model.model import Model
from conjoin.model.predictive import Predictive, predictive
from conjoin.model.several import SeveralTargets, rows_of
from conjoin.questions.tuning import tuned

__all__ = ["design"]

PROPOSALS_PER_ROW = 10  # of each that is wanted
MIN_PROPOSALS = 200
PROPOSALS_AT_ONCE = 512
POINT_TOLERANCE = 0.1  # deviations of p(y), on both sides of a single wanted value
FAR_SHARE = 1e-3  # of p(y), under which a wish is refused
RARE_SHARE = 0.05  # under which it is warned of
WAYS = ("prompted", "drawn", "guided", "tuned")
METHODS = ("prompted", "guided", "tuned")
HOWS = ("best", "draw")
SHOWN_CHARACTERS = 60  # of a string in a message


@dataclass(frozen=True)
class _Wish:
    """What is wanted of one property. ``low``, ``high``: in event units; of classes the code in
    both. ``share``: the probability p(y) that it is so."""

    name: str
    view: Model
    low: float
    high: float
    share: float

    def log_mass(self, x: Event) -> Tensor:
        """(B,) log p(y in W | x)."""
        if self.view.has_classes:
            with torch.no_grad():
                return self.view.pair.log_posterior(x)[:, int(self.low)]
        found = _predictive(self.view, x)
        return _between(found, self.low, self.high).clamp_min(1e-12).log()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(B,) values of p(y) within W."""
        if self.view.has_classes:
            return torch.full((n,), self.low, dtype=torch.float64)
        found = _predictive(self.view, self.view.codec.space.unknown(1))
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        ends = ends.clamp(float(found.points[0]), float(found.points[-1]))
        low = found.level(ends[:1])
        high = found.level(ends[1:])
        at = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        return found.quantile(at[None])[0]


def design(
    model: Model | SeveralTargets,
    n: int,
    wishes: Mapping[str, Any],
    *,
    keep: str | None = None,
    reference: Any = None,
    how: str = "best",
    method: str = "prompted",
    proposals: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """New molecules whose properties are as wanted.

    Parameters
    ----------
    model
        Of molecules, with one target or several.
    n
        How many molecules, at most.
    wishes
        {target: value, (low, high) with None for an open end, or a class}.
    keep
        A part that each must contain, as SMILES or SMARTS.
    reference
        Known molecules, by which novelty and the nearest one are told.
    how
        "best": the most probable; "draw": resampled.
    method
        How half of the proposals are made: "prompted", "guided" or "tuned"; the other half are
        plain draws, whose acceptance is that of rejection.
    proposals
        How many are made in all; by default ``PROPOSALS_PER_ROW`` for each that is wanted.
    seed
        Of the draws.

    Returns
    -------
    DataFrame
        A row for each molecule; ``attrs`` tells the shares.

    Raises
    ------
    ValueError
        For an unknown target, a wish far from the data, or a model without molecules.
    """
    _check(model, n, how, method)
    ways = (method, "drawn")
    asked = _wishes(model, wishes)
    _judge_wishes(asked)
    known = None if reference is None else _read(reference)
    count = max(MIN_PROPOSALS, PROPOSALS_PER_ROW * n) if proposals is None else proposals
    made = pd.concat(
        [
            _judged(model, asked, way, -(-count // len(ways)), stream(seed, "design", place))
            for place, way in enumerate(ways)
        ],
        ignore_index=True,
    )
    told = _shares(made) | {"tokens": made["_tokens"].groupby(made["_way"]).sum().to_dict()}
    chosen, told["kept"] = _chosen(made, n, keep, how, seed)
    table = _described(model, asked, chosen, known)
    table.attrs |= told | {"wish_share": {each.name: each.share for each in asked}}
    if len(table) < n:
        warnings.warn(
            f"{len(table):,} of the {n:,} molecules asked for were found among {len(made):,} "
            "proposals; more proposals may find more.",
            UserWarning,
            stacklevel=3,
        )
    return table


def _check(model: Any, n: int, how: str, method: str) -> None:
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"The number of molecules must be a whole number from 1, got {n!r}.")
    for name, asked, known in (("how", how, HOWS), ("method", method, METHODS)):
        if asked not in known:
            raise ValueError(f"{name}={asked!r} is unknown; choose from {', '.join(known)}.")
    if len(model.codec.structures) != 1:
        raise ValueError(
            f"design is about molecules, in one column of SMILES; this model has "
            f"{len(model.codec.structures)} such columns."
        )


# ------------------------------------------------------------------------------------------ wishes


def _views(model: Model | SeveralTargets) -> dict[str, Model]:
    if isinstance(model, SeveralTargets):
        return model.views()
    return {str(model.pair.target.name): model}


def _wishes(model: Model | SeveralTargets, wishes: Mapping[str, Any]) -> list[_Wish]:
    views = _views(model)
    if not wishes:
        raise ValueError(f"Nothing is wanted: name a property, of {', '.join(views)}.")
    for name in wishes:
        if name not in views:
            raise ValueError(f"There is no property {name!r}; choose from {', '.join(views)}.")
    return [_wish(name, views[name], asked) for name, asked in wishes.items()]


def _wish(name: str, view: Model, asked: Any) -> _Wish:
    nothing = view.codec.space.unknown(1)
    if view.has_classes:
        code = float(view.classes.encode_asked(np.array([asked], dtype=object)).value[0])
        shares = view.state.shares
        share = shares[int(code)] if shares else float("nan")
        return _Wish(name, view, code, code, share)
    found = _predictive(view, nothing)
    low, high = _ends(name, view, asked, found)
    share = float(_between(found, low, high)[0])
    return _Wish(name, view, low, high, share)


def _ends(name: str, view: Model, asked: Any, found: Predictive) -> tuple[float, float]:
    """In event units; a single value has a tolerance on both sides."""
    if isinstance(asked, tuple | list):
        if len(asked) != 2 or all(end is None for end in asked):
            raise ValueError(
                f"{name}={asked!r}: a range has two ends, (low, high), one of them None where open."
            )
        low, high = (_number(view, end) for end in asked)
        low = -np.inf if low is None else low
        high = np.inf if high is None else high
        if low > high:
            raise ValueError(f"{name}={asked!r}: the first must not exceed the second.")
        return low, high
    value = _number(view, asked)
    assert value is not None
    middle = (found.points[1:] + found.points[:-1]) / 2
    mass = found.cdf.diff(dim=1)[0]
    mean = (mass * middle).sum()
    slack = POINT_TOLERANCE * float((mass * (middle - mean).square()).sum().sqrt())
    return value - slack, value + slack


def _number(view: Model, asked: Any) -> float | None:
    if asked is None:
        return None
    return float(view.number.encode_asked(np.array([asked], dtype=object)).value[0])


def _judge_wishes(asked: Sequence[_Wish]) -> None:
    """A wish that hardly anything of the data is near is refused; a rare one is warned of."""
    for wish in asked:
        words = f"p(y) puts {wish.share:.2%} of its mass on what is wanted of {wish.name!r}"
        if wish.share < FAR_SHARE:
            raise ValueError(
                f"Hardly any molecule of the data is near this wish: {words}, and "
                f"{FAR_SHARE:.1%} are needed: what would be drawn is guessed from far away."
            )
        if wish.share < RARE_SHARE:
            warnings.warn(f"The wish is rare in the data: {words}.", UserWarning, stacklevel=4)


# --------------------------------------------------------------------------------------- proposals


def _judged(
    model: Model | SeveralTargets,
    asked: Sequence[_Wish],
    way: str,
    count: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Proposals of one way: string, canonical string (None where it is no molecule), log p(y in W |
    x)."""
    parts = []
    (molecules,) = model.codec.structures
    most = count if way == "tuned" else PROPOSALS_AT_ONCE
    for start in range(0, count, most):
        x = _proposed(model, asked, way, min(most, count - start), generator)
        canonical, score = _scored(model, asked, x)
        drawn: pd.DataFrame = model.codec.decode(x.value)
        told = pd.Series(canonical, drawn.index, dtype=object)
        own = {"_canonical": told, "_score": score, "_tokens": molecules.lengths(x.value)}
        parts.append(drawn.assign(**own, _way=way))
    return pd.concat(parts, ignore_index=True)


def _scored(
    model: Model | SeveralTargets, asked: Sequence[_Wish], x: Event
) -> tuple[list[str | None], np.ndarray]:
    """Of rows the canonical strings, None for what is no molecule, and (B,) log p(y in W | x)."""
    (molecules,) = model.codec.structures
    canonical = [read_smiles(each).canonical for each in molecules.strings(x.value)]
    valid = np.array([each is not None for each in canonical], dtype=bool)
    score = np.full(x.rows, -np.inf)
    if valid.any():
        some = x.take(torch.as_tensor(np.flatnonzero(valid)))
        each = [wish.log_mass(some) for wish in asked]
        score[valid] = torch.stack(each).sum(0).numpy()
    return canonical, score


@torch.no_grad()
def _proposed(
    model: Model | SeveralTargets,
    asked: Sequence[_Wish],
    way: str,
    n: int,
    generator: torch.Generator,
) -> Event:
    """Rows x."""
    if way == "drawn":
        if isinstance(model, SeveralTargets):
            drawn: Event = model.density.sample(n, generator=generator).cut(len(model.targets))[1]
            return drawn
        plain: Event = model.pair.proposer.sample(n, generator=generator).x
        return plain
    if way in ("guided", "tuned"):
        return _steered(model, asked, way, n, generator)
    values = {wish.name: wish.draw(n, generator) for wish in asked}
    x = model.codec.space.unknown(n)
    if isinstance(model, SeveralTargets):
        nothing = torch.zeros(n, dtype=torch.float64)
        y = torch.stack([values.get(name, nothing) for name in model.names], 1)
        known = torch.tensor([name in values for name in model.names]).expand(n, -1)
        row = rows_of(Event(y, known), x)
        found: Event = model.density.sample_conditional(row, generator=generator)
        return found.cut(len(model.targets))[1]
    (value,) = values.values()
    told: Event = model.pair.proposer.sample_conditional(
        Pair(Event(value), x), generator=generator
    ).x
    return told


def _steered(
    model: Model | SeveralTargets,
    asked: Sequence[_Wish],
    way: str,
    n: int,
    generator: torch.Generator,
) -> Event:
    """Rows x from the network of the strings, steered as it draws, or tuned."""
    names = list(_views(model))
    if isinstance(model, SeveralTargets):
        density = model.density
    else:
        density = model.pair.family_density
    writer = density.writer_of(len(names))
    if writer is None:
        raise ValueError(
            f"method={way!r} is for molecules without columns beside them: choose "
            "method='prompted'."
        )
    if way == "guided":
        wanted = [(names.index(wish.name), wish.low, wish.high) for wish in asked]
        steered: Event = writer.towards(n, wanted, generator)
        return steered

    def log_wish(strings: Event) -> Tensor:
        return torch.as_tensor(_scored(model, asked, writer.rows(strings))[1])

    with torch.enable_grad():
        strings = tuned(writer.network, n, log_wish, generator)
    rows: Event = writer.rows(strings)
    return rows


def _predictive(view: Model, x: Event) -> Predictive:
    grid = torch.tensor(view.state.grid, dtype=torch.float64)
    with torch.no_grad():
        return predictive(view.pair, x, grid, view.state.direct)


def _between(found: Predictive, low: float, high: float) -> Tensor:
    """(B,) mass between two values."""
    ends = [
        torch.full((len(found.cdf),), end, dtype=torch.float64).clamp(
            float(found.points[0]), float(found.points[-1])
        )
        for end in (low, high)
    ]
    return found.level(ends[1]) - found.level(ends[0])


def _shares(made: pd.DataFrame) -> dict[str, Any]:
    """Of each way: the share of proposals that are molecules, and the share of all of them that is
    expected to be as wanted; of "drawn" that is the acceptance of rejection."""
    score = made["_score"].astype(float).map(np.exp)
    by = made["_way"]
    return {
        "proposals": by.value_counts().to_dict(),
        "valid": made["_canonical"].notna().groupby(by).mean().to_dict(),
        "acceptance": score.groupby(by).mean().to_dict(),
    }


def _chosen(
    made: pd.DataFrame, n: int, keep: str | None, how: str, seed: int
) -> tuple[pd.DataFrame, float]:
    """At most ``n`` different molecules, and the share of valid ones with the part to be kept."""
    valid = made[made["_canonical"].notna()].drop_duplicates("_canonical")
    share = 1.0
    if keep is not None and len(valid):
        has = containing(list(valid["_canonical"]), keep)
        share = float(has.mean())
        valid = valid[has]
    if how == "best" or not len(valid):
        return valid.sort_values("_score", ascending=False, kind="stable").head(n), share
    valid = valid[valid["_way"] == "drawn"]
    weight = np.exp(valid["_score"].to_numpy(dtype=float))
    keys = np.random.default_rng(seed).exponential(size=len(weight)) / np.maximum(weight, 1e-300)
    return valid.iloc[np.argsort(keys, kind="stable")[:n]], share


# --------------------------------------------------------------------------------------- the answer


def _described(
    model: Model | SeveralTargets,
    asked: Sequence[_Wish],
    chosen: pd.DataFrame,
    known: list[str] | None,
) -> pd.DataFrame:
    (molecules,) = model.codec.structures
    smiles = list(chosen["_canonical"])
    own = chosen.drop(columns=["_canonical", "_score", "_way", "_tokens"]).reset_index(drop=True)
    out = own.assign(**{str(molecules.name): smiles})
    out["p_wish"] = np.exp(chosen["_score"].to_numpy(dtype=float))
    out["way"] = chosen["_way"].to_numpy()
    out["valid"] = True
    out["sa"] = accessibility(smiles)
    out = out.assign(**_near(smiles, known))
    if not len(out):
        return out
    rows = model.codec.rows(own.assign(**{str(molecules.name): smiles}))
    for name, view in _views(model).items():
        out = out.assign(**_properties(name, view, rows))
    return out


def _properties(name: str, view: Model, rows: Any) -> dict[str, Any]:
    """The answer with its interval, and how familiar the molecule is."""
    found: dict[str, Any] = {}
    encoded = view.encode(rows)
    if view.has_classes:
        log_p = view.log_proba(encoded)
        found[name] = view.classes.labels[log_p.argmax(1).numpy()]
        found[f"{name}_probability"] = log_p.amax(1).exp().numpy()
    else:
        about = _predictive(view, encoded.event)
        found[name] = view.number.decode(about.mean())
        for word, level in (("low", 0.05), ("high", 0.95)):
            at = torch.full((len(about.cdf), 1), level, dtype=torch.float64)
            found[f"{name}_{word}"] = view.number.decode(about.quantile(at)[:, 0])
    if view.calibration is not None:
        found["familiarity"] = view.p_value(encoded)
    return found


def _read(reference: Iterable[Any]) -> list[str]:
    """The known molecules, each once, as canonical strings; what is none is told."""
    asked = [reference] if isinstance(reference, str) else list(reference)
    canonical = [read_smiles(each).canonical if isinstance(each, str) else None for each in asked]
    broken = [place for place, text in enumerate(canonical) if text is None]
    if broken:
        words = (
            f"{len(broken):,} of the {len(asked):,} known molecules (reference) cannot be read, "
            f"the first in row {broken[0]}: {str(asked[broken[0]])[:SHOWN_CHARACTERS]!r}"
        )
        if len(broken) == len(asked):
            raise ValueError(f"{words}. Give them as SMILES.")
        warnings.warn(f"{words}; novelty is told without them.", UserWarning, stacklevel=4)
    return list(dict.fromkeys(text for text in canonical if text is not None))


def _near(smiles: Sequence[str], known: list[str] | None) -> dict[str, Any]:
    """Whether each is new, and which known molecule is the nearest; nothing without known ones."""
    if not known or not smiles:
        return {}
    place, similarity = nearest(smiles, known)
    held = set(known)
    return {
        "novel": [text not in held for text in smiles],
        "nearest": [known[each] for each in place],
        "similarity": similarity,
    }

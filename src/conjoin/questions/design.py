r"""design: new molecules whose properties are as wanted.

    p(x | y in W) is proportional to p(x) p(y in W | x)

Half of the proposals are "drawn", from p(x), the others as ``method`` says
(``conjoin.questions.proposals``). Each is judged by the model's own p(y in W | x), that of its
predictor. ``how="best"`` keeps the most probable ones. ``how="draw"`` takes those that the chains
of "redrawn" have come to, which are draws from p(x | y in W) as they go on; where these are too
few, and with other methods, it resamples those that were drawn from p(x) by p(y in W | x), which
are so as their number grows (D. Rubin (1987), A noniterative sampling/importance resampling
alternative). A molecule that came several times weighs as much as all of them. Beside it stands how
many of as many plain draws would be as wanted, and the tokens of both.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from conjoin.codecs.smiles.appraisal import accessibility, containing, nearest
from conjoin.codecs.smiles.chemistry import read_smiles
from conjoin.core import stream
from conjoin.model.model import Model
from conjoin.model.several import SeveralTargets
from conjoin.questions.proposals import DRAWS_PER_CHAIN, START_SHARE, proposed, writer_of
from conjoin.questions.wishes import Wish, about, refuse_far_wishes, views_of, wishes_of

__all__ = ["design"]

# of each that is wanted; for draws as many as make a chain of "redrawn" for each
PROPOSALS_PER_ROW = {"best": 10, "draw": round(2 * DRAWS_PER_CHAIN / START_SHARE)}
MIN_PROPOSALS = 200
METHODS = ("redrawn", "prompted", "guided", "tuned")
HOWS = tuple(PROPOSALS_PER_ROW)
SHOWN_CHARACTERS = 60  # of a string in a message


def design(
    model: Model | SeveralTargets,
    n: int,
    wishes: Mapping[str, Any],
    *,
    keep: str | None = None,
    reference: Any = None,
    how: str = "best",
    method: str | None = None,
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
        "best": the most probable; "draw": draws from p(molecule | wish), where the chains of
        "redrawn" ended, and plain draws that are resampled where these are too few.
    method
        How half of the proposals are made: "redrawn", "prompted", "guided" or
        "tuned"; the other half are plain draws, whose acceptance is that of rejection. None: the
        first where no columns stand beside the molecules, else the second.
    proposals
        How many are made in all; by default ``PROPOSALS_PER_ROW`` for each that is wanted: 10, and
        16 for draws.
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
    _check(model, n, how, method, proposals, keep)
    ways = (method or ("prompted" if writer_of(model) is None else "redrawn"), "drawn")
    asked = wishes_of(model, wishes)
    refuse_far_wishes(asked)
    known = None if reference is None else _read(reference)
    count = max(MIN_PROPOSALS, PROPOSALS_PER_ROW[how] * n) if proposals is None else proposals
    made = pd.concat(
        [
            proposed(model, asked, way, -(-count // len(ways)), stream(seed, "design", place))
            for place, way in enumerate(ways)
        ],
        ignore_index=True,
    )
    told = _shares(made)
    chosen, told["kept"] = _chosen(made, n, keep, how, seed)
    table = _described(model, asked, chosen, known)
    table.attrs |= told | {"wish_share": {each.name: each.share for each in asked}}
    for words in _shortfalls(made, chosen, n, keep, how):
        warnings.warn(words, UserWarning, stacklevel=3)
    return table


def _shortfalls(
    made: pd.DataFrame, chosen: pd.DataFrame, n: int, keep: str | None, how: str
) -> list[str]:
    """What is said where molecules, or ends of chains, are fewer than were asked for."""
    out = []
    plain = int((chosen["_chains"] == 0).sum())
    chains = int(made["_chains"].sum())
    if how == "draw" and chains and plain:
        out.append(
            f"{len(chosen) - plain:,} of the {len(chosen):,} molecules are where {chains:,} chains "
            f"ended, the other {plain:,} are plain draws, resampled by p(wish | molecule); more "
            "proposals make more chains."
        )
    if len(chosen) < n:
        part = "" if keep is None else f", before {keep!r} was looked for in them"
        out.append(
            f"{len(chosen):,} of the {n:,} molecules asked for were found among {len(made):,} "
            f"proposals, which hold {made['_canonical'].nunique():,} different molecules{part}; "
            "more proposals may find more."
        )
    return out


def _check(
    model: Any, n: int, how: str, method: str | None, proposals: int | None, keep: str | None
) -> None:
    for words, count in (("molecules", n), ("proposals", 1 if proposals is None else proposals)):
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or count < 1:
            raise ValueError(f"The number of {words} must be a whole number from 1, got {count!r}.")
    if keep is not None and not isinstance(keep, str):
        raise ValueError(f"keep={keep!r} is no part of a molecule: write it as SMILES or SMARTS.")
    for name, asked, known in (("how", how, HOWS), ("method", method, METHODS)):
        if asked is not None and asked not in known:
            raise ValueError(f"{name}={asked!r} is unknown; choose from {', '.join(known)}.")
    if len(model.codec.structures) != 1:
        raise ValueError(
            f"design is about molecules, in one column of SMILES; this model has "
            f"{len(model.codec.structures)} such columns."
        )


def _shares(made: pd.DataFrame) -> dict[str, Any]:
    """Of each way: the share of proposals that are molecules, and the share of all of them that is
    expected to be as wanted, which of "drawn" is the acceptance of rejection; the tokens drawn, and
    how many different molecules are expected to be as wanted of a thousand tokens."""
    score = made["_score"].astype(float).map(np.exp)
    by = made["_way"]
    tokens = made["_tokens"].groupby(by).sum().round().astype(int)
    different = made["_canonical"].notna() & ~made.duplicated(["_way", "_canonical"])
    wanted = score[different].groupby(by[different]).sum().reindex(tokens.index, fill_value=0.0)
    return {
        "proposals": by.value_counts().to_dict(),
        "valid": made["_canonical"].notna().groupby(by).mean().to_dict(),
        "acceptance": score.groupby(by).mean().to_dict(),
        "tokens": tokens.to_dict(),
        "wanted_per_1000_tokens": (1000 * wanted / tokens).to_dict(),
    }


def _chosen(
    made: pd.DataFrame, n: int, keep: str | None, how: str, seed: int
) -> tuple[pd.DataFrame, float]:
    """At most ``n`` different molecules, and the share of valid ones with the part to be kept."""
    valid = made[made["_canonical"].notna()]
    if how == "best":
        ordered = valid.drop_duplicates("_canonical").sort_values(
            "_score", ascending=False, kind="stable"
        )
    else:
        generator = np.random.default_rng(seed)
        ended = valid[valid["_chains"] > 0]
        plain = valid[valid["_way"] == "drawn"]
        parts: list[pd.DataFrame] = [
            _by_chance(ended, ended["_chains"].to_numpy(dtype=float), generator),
            _by_chance(plain, np.exp(plain["_score"].to_numpy(dtype=float)), generator),
        ]
        ordered = pd.concat(parts).drop_duplicates("_canonical")
    share = 1.0
    if keep is not None and len(ordered):
        has = containing(list(ordered["_canonical"]), keep)
        share = float(has.mean())
        ordered = ordered[has]
    return ordered.head(n), share


def _by_chance(
    rows: pd.DataFrame, weight: np.ndarray, generator: np.random.Generator
) -> pd.DataFrame:
    """The different molecules, in an order in which each next one is drawn by its share of what all
    rows of those that are left weigh."""
    different = rows.drop_duplicates("_canonical")
    of_each = pd.Series(weight, rows.index).groupby(rows["_canonical"]).sum()
    whole = of_each.loc[different["_canonical"]].to_numpy(dtype=float)
    keys = generator.exponential(size=len(whole)) / np.maximum(whole, 1e-300)
    return different.iloc[np.argsort(keys, kind="stable")]


# --------------------------------------------------------------------------------------- the answer


def _described(
    model: Model | SeveralTargets,
    asked: Sequence[Wish],
    chosen: pd.DataFrame,
    known: list[str] | None,
) -> pd.DataFrame:
    (molecules,) = model.codec.structures
    smiles = list(chosen["_canonical"])
    own = chosen.drop(columns=["_canonical", "_score", "_way", "_tokens", "_chains"]).reset_index(
        drop=True
    )
    out = own.assign(**{str(molecules.name): smiles})
    out["p_wish"] = np.exp(chosen["_score"].to_numpy(dtype=float))
    out["way"] = chosen["_way"].to_numpy()
    out["valid"] = True
    out["sa"] = accessibility(smiles)
    out = out.assign(**_near(smiles, known))
    if not len(out):
        return out
    rows = model.codec.rows(own.assign(**{str(molecules.name): smiles}))
    for name, view in views_of(model).items():
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
        answer = about(view, encoded.event)
        found[name] = view.number.decode(answer.mean())
        for word, level in (("low", 0.05), ("high", 0.95)):
            at = torch.full((len(answer.cdf), 1), level, dtype=torch.float64)
            found[f"{name}_{word}"] = view.number.decode(answer.quantile(at)[:, 0])
    if view.calibration is not None:
        found["familiarity"] = view.p_value(encoded)
    return found


def _read(reference: Any) -> list[str]:
    """The known molecules, each once, as canonical strings; what is none is told."""
    if not isinstance(reference, Iterable):
        raise ValueError(f"reference={reference!r}: give known molecules as SMILES, in a list.")
    asked = [reference] if isinstance(reference, str) else list(reference)
    if not asked:
        raise ValueError(
            "reference holds no molecule: give known ones as SMILES, or leave it out, and nothing "
            "is said of what is new."
        )
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

r"""Molecules that are proposed for a wish, in one of several ways, and judged.

    drawn       x ~ p(x)
    prompted    x ~ p(x | y),  y ~ p(y | W)
    guided      by what the network of the strings reads from their beginnings
                (``conjoin.families.autoregressive.guidance``)
    tuned       from a network that learns from its own draws (``conjoin.questions.tuning``)
    redrawn     by chains that draw the ends of strings anew (``conjoin.questions.redrawing``)

Each is judged by the model's own p(y in W | x), that of its predictor; properties are independent
given the molecule. What a way costs are the tokens that it draws, each end as one more.

Shape letters: B rows, K targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from conjoin.codecs.smiles.chemistry import read_smiles
from conjoin.core import Event, Pair
from conjoin.model.model import Model
from conjoin.model.several import SeveralTargets, rows_of
from conjoin.questions.redrawing import redrawn
from conjoin.questions.tuning import tuned
from conjoin.questions.wishes import Wish, views_of

__all__ = ["DRAWS_PER_CHAIN", "START_SHARE", "beginning_with", "proposed", "writer_of"]

PROPOSALS_AT_ONCE = 512
START_SHARE = 0.25  # of the tokens of chains, those of the draws where they begin
DRAWS_PER_CHAIN = 2
TOGETHER = ("tuned", "redrawn")  # ways whose rows depend on each other


class _Rows(NamedTuple):
    """Proposed rows, (B,) how many tokens were drawn for each, and how many chains ended there."""

    x: Event
    tokens: np.ndarray
    chains: np.ndarray | int = 0


@dataclass(frozen=True)
class _Judge:
    """Of rows the canonical strings, None for what is no molecule, and (B,) log p(y in W | x); each
    different row is asked about once."""

    model: Model | SeveralTargets
    wishes: Sequence[Wish]
    known: dict[bytes, tuple[str | None, float]] = field(default_factory=dict)

    def __call__(self, x: Event) -> tuple[list[str | None], np.ndarray]:
        keys = [row.tobytes() for row in x.value.numpy()]
        new = {key: place for place, key in enumerate(keys) if key not in self.known}
        if new:
            found = self._asked(x.take(torch.tensor(list(new.values()))))
            self.known.update(zip(new, zip(*found, strict=True), strict=True))
        return [self.known[key][0] for key in keys], np.array([self.known[k][1] for k in keys])

    def _asked(self, x: Event) -> tuple[list[str | None], list[float]]:
        (molecules,) = self.model.codec.structures
        canonical = [read_smiles(each).canonical for each in molecules.strings(x.value)]
        valid = np.array([each is not None for each in canonical], dtype=bool)
        score = np.full(x.rows, -np.inf)
        if valid.any():
            some = x.take(torch.as_tensor(np.flatnonzero(valid)))
            score[valid] = torch.stack([wish.log_mass(some) for wish in self.wishes]).sum(0).numpy()
        return canonical, score.tolist()


def writer_of(model: Model | SeveralTargets) -> Any:
    """What writes the strings of a model; None where columns stand beside them."""
    if isinstance(model, SeveralTargets):
        return model.density.writer_of(len(model.targets))
    return model.pair.family_density.writer_of(1)


def beginning_with(count: int) -> tuple[int, int]:
    """How many strings are drawn for chains to begin at, and how many chains there are, where all
    together may draw as many tokens as ``count`` strings."""
    begun = max(1, round(START_SHARE * count))
    return begun, max(1, begun // DRAWS_PER_CHAIN)


def proposed(
    model: Model | SeveralTargets,
    wishes: Sequence[Wish],
    way: str,
    count: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Proposals of one way: ``count`` strings, or those of chains that draw about as many tokens as
    ``count`` strings which are told the wish.

    Returns
    -------
    DataFrame
        The columns of the molecules, ``_way``, ``_canonical`` (None where it is no molecule),
        ``_score`` = log p(y in W | x), ``_tokens`` that were drawn for it, and ``_chains``, how
        many chains ended there.
    """
    judge = _Judge(model, wishes)
    parts = []
    most = count if way in TOGETHER else PROPOSALS_AT_ONCE
    for start in range(0, count, most):
        made = _made(model, wishes, judge, way, min(most, count - start), generator)
        canonical, score = judge(made.x)
        drawn: pd.DataFrame = model.codec.decode(made.x.value)
        told = pd.Series(canonical, drawn.index, dtype=object)
        own: dict[str, Any] = {"_canonical": told, "_score": score, "_way": way}
        parts.append(drawn.assign(**own, _tokens=made.tokens, _chains=made.chains))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def _made(
    model: Model | SeveralTargets,
    wishes: Sequence[Wish],
    judge: _Judge,
    way: str,
    n: int,
    generator: torch.Generator,
) -> _Rows:
    if way in ("guided", "tuned", "redrawn"):
        return _steered(model, wishes, judge, way, n, generator)
    draw = _drawn if way == "drawn" else _prompted
    return _whole(model, draw(model, wishes, n, generator))


def _whole(model: Model | SeveralTargets, x: Event) -> _Rows:
    (molecules,) = model.codec.structures
    return _Rows(x, molecules.lengths(x.value) + 1)


def _drawn(
    model: Model | SeveralTargets, wishes: Sequence[Wish], n: int, generator: torch.Generator
) -> Event:
    if isinstance(model, SeveralTargets):
        drawn: Event = model.density.sample(n, generator=generator).cut(len(model.targets))[1]
        return drawn
    plain: Event = model.pair.proposer.sample(n, generator=generator).x
    return plain


def _prompted(
    model: Model | SeveralTargets, wishes: Sequence[Wish], n: int, generator: torch.Generator
) -> Event:
    values = {wish.name: wish.draw(n, generator) for wish in wishes}
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
    wishes: Sequence[Wish],
    judge: _Judge,
    way: str,
    n: int,
    generator: torch.Generator,
) -> _Rows:
    """Rows x from the network of the strings, steered as it draws, tuned, or asked for ends."""
    writer = writer_of(model)
    if writer is None:
        raise ValueError(
            f"method={way!r} is for molecules without columns beside them: choose "
            "method='prompted'."
        )
    columns = [list(views_of(model)).index(wish.name) for wish in wishes]
    if way == "guided":
        ends = [(wish.low, wish.high) for wish in wishes]
        wanted = [(column, *each) for column, each in zip(columns, ends, strict=True)]
        steered, tokens = writer.towards(n, wanted, generator)
        return _Rows(steered, np.full(n, tokens / n))

    def log_wish(strings: Event) -> Tensor:
        return torch.as_tensor(judge(writer.rows(strings))[1])

    if way == "tuned":
        with torch.enable_grad():
            strings = tuned(writer.network, n, log_wish, generator)
        return _whole(model, writer.rows(strings))
    middles = [wish.middle() for wish in wishes]
    told = writer.told(dict(zip(columns, middles, strict=True)))
    begun, chains = beginning_with(n)
    context = told.take(torch.zeros(begun, dtype=torch.int64))
    start = writer.density.sample(begun, context, generator=generator)
    more = round((int(start.there.sum()) + begun) * (n - begun) / begun)
    found = redrawn(writer.density, start, told, log_wish, chains, more, generator)
    ended = torch.bincount(found.last, minlength=len(found.log_wish))
    return _Rows(writer.rows(found.strings), found.tokens.numpy(), ended.numpy())

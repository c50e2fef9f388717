r"""p(y | x) of a number as a mixture of several: predictors', and the family's own.

    p(y | x) = sum_m w_m p_m(y | x)

w is found on rows that no part has learned from, by expectation-maximisation (M. Stone (1961), The
opinion pool; R. Ranjan, T. Gneiting (2010), Combining probability forecasts).

Shape letters: B rows, K candidate values, M parts.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from conjoin.components.mixing import mixture_weights
from conjoin.core import Event, Pair, categorical
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.joints.hybrid import Predictor
from conjoin.predictors.base import Spread

__all__ = ["WITHOUT_SCORER", "Blended", "OfFamily", "mixture_of"]

EM_STEPS = 200


class OfFamily(Predictor):
    """The family's own p(y | x) of a number. It belongs to the joint beside it, which holds its
    weights."""

    word = "own"  # that it is saved under

    def __init__(self, base: Joint) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple, torch does not take it for a part

    @on_device
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        (base,) = self._base
        evidence = base.log_evidence(x)[:, None]
        if y.shape[1] > 1 and bool((y == y[:1]).all()):  # a grid, the same for all rows
            return base.log_joint(x, y[0]) - evidence
        known = torch.ones(len(y), dtype=torch.bool)
        each = [base.log_prob(Pair(Event(value, known), x)) for value in y.unbind(1)]
        return torch.stack(each, 1) - evidence

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        (base,) = self._base
        return base.covers(x)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        (base,) = self._base
        unknown = Pair(base.unknown(x.rows), x)
        if generator is None:
            out: Tensor = base.mode(unknown).y.value
            return out
        drawn: Tensor = base.sample_conditional(unknown, generator=generator).y.value
        return drawn

    def describe(self) -> dict[str, Any]:
        return {"scorer": self.word}

    @classmethod
    def restored(cls, described: dict[str, Any], base: Joint, part: Callable[..., Any]) -> Self:
        return cls(base)


class Blended(Predictor):
    """Several p(y | x), each with its share."""

    word = "blended"
    share: Tensor

    def __init__(self, parts: list[Predictor]) -> None:
        super().__init__()
        self.each = tuple(parts)
        self.parts = nn.ModuleList(parts)
        count = len(parts)
        self.register_buffer("share", torch.full((count,), 1 / count, dtype=torch.float64))

    @on_device
    def log_prob(self, x: Event, y: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        log_p = torch.stack([part.log_prob(x, y) for part in self.each])
        return (log_p + self.share.log()[:, None, None]).logsumexp(0)

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return torch.stack([part.covers(x) for part in self.each]).all(0)

    def draw(self, x: Event, generator: torch.Generator | None) -> Float[Tensor, " B"]:
        """Without a generator the best guess of the first part."""
        if generator is None:
            return self.each[0].draw(x, None)
        pick = categorical(self.share.log().expand(x.rows, -1), generator)
        drawn = torch.stack([part.draw(x, generator) for part in self.each], 1)
        return drawn.gather(1, pick[:, None])[:, 0]

    def describe(self) -> dict[str, Any]:
        return {"scorer": self.word, "parts": [part.describe() for part in self.each]}

    @classmethod
    def restored(cls, described: dict[str, Any], base: Joint, part: Callable[..., Any]) -> Self:
        """From what ``describe`` gave, each ``part`` in its own way."""
        return cls([part(each) for each in described["parts"]])


# what p(y | x) is made of where no scorer alone makes it, by the word that it is saved under
WITHOUT_SCORER: dict[str, Any] = {OfFamily.word: OfFamily, Blended.word: Blended}


def mixture_of(
    parts: dict[str, Spread], weight: Float[Tensor, " B"], alone: Sequence[str]
) -> tuple[Spread, dict[str, float]]:
    """The best mixture of several, by the rows that all of them were judged on, and the shares; the
    best part that may stand ``alone``, where the mixture gains less than a standard error on it."""
    log_p = torch.stack([each.log_p for each in parts.values()], 1)
    seen = ~log_p.isnan().any(1)
    share = mixture_weights(log_p[seen], weight[seen], EM_STEPS)
    mixed = (log_p + share.log()).logsumexp(1)
    name = max(alone, key=lambda name: float(weight[seen] @ parts[name].log_p[seen]))
    more = (mixed - parts[name].log_p)[seen]
    if len(parts) == 1 or not more.mean() > more.std() / len(more) ** 0.5:
        return parts[name], {name: 1.0}
    blended = Blended([each.predictor for each in parts.values()])
    blended.share.copy_(share)
    return Spread(blended, mixed), dict(zip(parts, share.tolist(), strict=True))

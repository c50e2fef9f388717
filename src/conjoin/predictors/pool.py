r"""Several p(y | x) as one: a log-linear pool of classes, a weighted mean of points of a number.

    log p(y | x) = sum_m w_m log((1 - e_m) p_m(y | x) + e_m p(y)) - log Z(x)        classes
    f(x)         = sum_m w_m f_m(x)                                                 a number

The weights come from rows that the members have not seen (``conjoin.predictors.stacking``).

Shape letters: B rows, K classes, M members.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core import Event, as_float
from conjoin.core.device import on_device
from conjoin.core.shapes import Bool, Float
from conjoin.joints.base import Joint
from conjoin.predictors import methods, scorer_class
from conjoin.predictors.base import Case, Method, Scorer
from conjoin.predictors.stacking import (
    class_shares,
    log_linear_weights,
    point_weights,
    prior_share,
    reluctance_of,
    with_prior,
)

__all__ = [
    "Family",
    "Heard",
    "Pool",
    "PoolMethod",
    "heard_by_folds",
    "joined",
    "loss_of",
    "pool_of",
    "pool_of_points",
    "with_doubt",
]


class Family(Scorer):
    """The family's own log p(y | x), as a member of a pool. It belongs to the joint beside it,
    which holds its weights."""

    kind = "family"
    tempered = False

    def __init__(self, base: Joint) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple, torch does not take it for a part

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        return cls(base)

    @property
    def shapes(self) -> dict[str, Any]:
        return {}

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return self._base[0].covers(x)

    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self._base[0].log_posterior(as_float(x))


class Pool(Scorer):
    """Scores of several scorers, weighted. Of ``outputs`` = 1 they are points, else log p."""

    kind = "pool"
    tempered = False  # its weights hold a temperature

    power: Tensor
    share: Tensor
    prior: Tensor

    def __init__(self, members: dict[str, Scorer], outputs: int) -> None:
        super().__init__()
        self.names = tuple(members)
        self.members = nn.ModuleList(members.values())
        count = len(members)
        self.register_buffer("power", torch.ones(count, dtype=torch.float64) / count)
        self.register_buffer("share", torch.full((count,), 0.5, dtype=torch.float64))
        self.register_buffer("prior", torch.full((outputs,), 1 / outputs, dtype=torch.float64))

    @classmethod
    def made(cls, base: Joint, shapes: dict[str, Any]) -> Self:
        members = {
            each["name"]: scorer_class(each["scorer"]).made(base, each["shapes"])
            for each in shapes["members"]
        }
        return cls(members, shapes["outputs"])

    @property
    def shapes(self) -> dict[str, Any]:
        members = [{"name": name} | scorer.describe() for name, scorer in self._named()]
        return {"members": members, "outputs": len(self.prior)}

    def _named(self) -> list[tuple[str, Any]]:
        return list(zip(self.names, self.members, strict=True))

    @property
    def weights(self) -> dict[str, float]:
        """The share of each member; their sum is 1."""
        shares = (self.power / self.power.sum()).tolist()
        return dict(zip(self.names, shares, strict=True))

    @property
    def parts(self) -> tuple[Scorer, ...]:
        return tuple(self.members)  # type: ignore[arg-type]

    @property
    def temperature(self) -> float:
        """Above 1 where the members together are surer than they are right."""
        return 1 / float(self.power.sum())

    def covers(self, x: Event) -> Bool[Tensor, " B"]:
        return torch.stack([each.covers(x) for _, each in self._named()]).all(0)

    @on_device
    def scores(self, x: Event) -> Float[Tensor, "B K"]:
        return self._pooled([each.scores(x) for _, each in self._named()])

    def scores_of_frame(self, frame: Any, x: Event) -> Float[Tensor, "B K"] | None:
        own = [each.scores_of_frame(frame, x) for _, each in self._named()]
        if all(each is None for each in own):
            return None
        seen = as_float(x)
        return self._pooled(
            [
                each.scores(seen) if scores is None else scores
                for (_, each), scores in zip(self._named(), own, strict=True)
            ]
        )

    def _pooled(self, scores: list[Float[Tensor, "B K"]]) -> Float[Tensor, "B K"]:
        each = torch.stack(scores, 1)
        if len(self.prior) > 1:
            share = self.share[:, None]
            each = torch.logaddexp(
                (1 - share).log() + each.log_softmax(2), share.log() + self.prior.log()
            )
        return (self.power[:, None] * each).sum(1)


@dataclass(frozen=True)
class Heard:
    """What members of a pool say of rows that they have not seen.

    Attributes
    ----------
    scorers
        By their names, learned from all that they may see.
    scores
        (B, K) of each member; NaN in rows that were never held out.
    y
        (B,) of these rows.
    weight
        (B,) of these rows.
    """

    scorers: dict[str, Scorer]
    scores: dict[str, Tensor]
    y: Tensor
    weight: Tensor

    def take(self, rows: Tensor) -> "Heard":
        """The same of some rows."""
        scores = {name: each[rows] for name, each in self.scores.items()}
        return replace(self, scores=scores, y=self.y[rows], weight=self.weight[rows])

    def judged(self) -> Tensor:
        """(B,) the rows that every member was judged on."""
        return torch.stack([~each.isnan().any(1) for each in self.scores.values()]).all(0)


def loss_of(scores: Tensor, y: Tensor) -> float:
    """Mean log-loss of (B, K) log p, nats, or mean squared error of (B, 1) points."""
    if scores.shape[1] == 1:
        return float((scores[:, 0] - y).square().mean())
    return -float(scores.log_softmax(1).gather(1, y.long()[:, None]).mean())


def pool_of(heard: Heard, classes: int) -> tuple[Pool, Tensor]:
    """The best pool of members for classes, and (B, K) its log p of the same rows, NaN in those
    that some member was not judged on."""
    seen = heard.judged()
    rows = heard.take(seen)
    code = rows.y.numpy().astype(np.int64)
    prior = class_shares(code, rows.weight.numpy(), classes)
    log_q, shares = _with_priors(rows, prior)
    power = log_linear_weights(log_q, code, rows.weight.numpy())
    pool = _made(heard.scorers, power, shares, prior)
    out = torch.full((len(seen), classes), torch.nan, dtype=torch.float64)
    out[seen] = torch.as_tensor(np.einsum("m,bmk->bk", power, log_q)).log_softmax(1)
    return pool, out


def joined(pool: Pool, log_p: Tensor, heard: Heard) -> tuple[Pool, Tensor]:
    """The pool and further members, which were judged on fewer rows: (B, K) ``log_p`` of the pool,
    ``heard`` of the others. One joins only if that gains more than a standard error."""
    code = heard.y.numpy().astype(np.int64)
    weight = heard.weight.numpy()
    prior = pool.prior.numpy()
    others, shares = _with_priors(heard, prior)
    log_q = np.concatenate([log_p.numpy()[:, None], others], 1)
    power = log_linear_weights(log_q, code, weight, reluctance_of(log_q, code, weight))
    old = dict(zip(pool.names, pool.members, strict=True))
    out = _made(
        old | heard.scorers,
        np.concatenate([power[0] * pool.power.numpy(), power[1:]]),
        np.concatenate([pool.share.numpy(), shares]),
        prior,
    )
    return out, torch.as_tensor(np.einsum("m,bmk->bk", power, log_q)).log_softmax(1)


def with_doubt(pool: Pool, log_p: Tensor, heard: Heard) -> Pool:
    """The pool in a mixture with p(y), as a pool of one member: labels of the surest rows may be
    wrong too. (B, K) ``log_p`` of the pool of the rows of ``heard``, which it has not seen."""
    code = heard.y.numpy().astype(np.int64)
    own = log_p.numpy()[np.arange(len(code)), code]
    prior = pool.prior.numpy()
    share = prior_share(own, np.log(prior)[code], heard.weight.numpy())
    return _made({"pool": pool}, np.ones(1), np.array([share]), prior)


def pool_of_points(heard: Heard) -> tuple[Pool, Tensor]:
    """The best weighted mean of the members' numbers, and (B, 1) its own, as ``pool_of``."""
    seen = heard.judged()
    rows = heard.take(seen)
    points = torch.cat(list(rows.scores.values()), 1).numpy()
    power = point_weights(points, rows.y.numpy(), rows.weight.numpy())
    pool = _made(heard.scorers, power, np.zeros_like(power), np.ones(1))
    out = torch.full((len(seen), 1), torch.nan, dtype=torch.float64)
    out[seen] = torch.as_tensor(points @ power)[:, None]
    return pool, out


def _with_priors(heard: Heard, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, M, K) log q, and the share (M,) of p(y) in each."""
    code = heard.y.numpy().astype(np.int64)
    rows = np.arange(len(code))
    log_p = [each.log_softmax(1).numpy() for each in heard.scores.values()]
    weight = heard.weight.numpy()
    shares = [prior_share(each[rows, code], np.log(prior)[code], weight) for each in log_p]
    mixed = [with_prior(each, share, prior) for each, share in zip(log_p, shares, strict=True)]
    return np.stack(mixed, 1), np.array(shares)


def _made(
    scorers: dict[str, Any], power: np.ndarray, shares: np.ndarray, prior: np.ndarray
) -> Pool:
    """A pool of the members whose weight is not 0."""
    some = power > 0
    names = [name for name, each in zip(scorers, some, strict=True) if each]
    pool = Pool({name: scorers[name] for name in names}, len(prior))
    pool.power.copy_(torch.as_tensor(power[some]))
    pool.share.copy_(torch.as_tensor(shares[some]))
    pool.prior.copy_(torch.as_tensor(prior))
    return pool


def heard_by_folds(case: Case, methods: dict[str, Method]) -> Heard:
    """Every method learned fold by fold from the labelled rows of a case."""
    case = case.with_folds()
    found = {name: method.by_folds(case) for name, method in methods.items()}
    return Heard(
        {name: each.scorer for name, each in found.items()},
        {name: each.scores for name, each in found.items()},
        case.rows.y.value,
        case.weight,
    )


class PoolMethod(Method):
    """The pool of all that "auto" tries and is quick enough to be learned fold by fold."""

    scorers = (Pool, Family)

    def fit(self, case: Case) -> Scorer:
        members = {
            name: each
            for name, each in methods().items()
            if each.folds and each.suits(case) and each.tried(case)
        }
        heard = heard_by_folds(case, members)
        pool, _ = pool_of_points(heard) if case.classes is None else pool_of(heard, case.classes)
        return pool

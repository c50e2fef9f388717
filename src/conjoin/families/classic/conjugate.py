r"""Conjugate pieces for mixed columns: a Dirichlet prior on levels, a normal-inverse-gamma prior on
numbers.

    levels    theta ~ Dirichlet(b)                               p(c | n) = (b_c + n_c) / (b + n)
    numbers   sigma^2 ~ InverseGamma(a_0, b_0),  mu ~ N(0, sigma^2 / kappa_0)
              kappa = kappa_0 + n,  m = sum x / kappa,  a = a_0 + n / 2,
              b = b_0 + (sum x^2 - kappa m^2) / 2
              p(x | n numbers) = Student's t with 2 a degrees of freedom at m,
              scale^2 = b (kappa + 1) / (a kappa)

K. Murphy (2007), Conjugate Bayesian analysis of the Gaussian distribution, section 6. Counts are
additive: a cluster gains or loses an item by adding or subtracting its statistics. Missing cells
add nothing. All logarithms are in nats; numbers are measured from the middle of their column.

Shape letters: I items, C columns with levels, L levels, N numbers, K clusters.

>>> prior = Prior(levels=np.ones((1, 2)), rate=np.ones(1))
>>> levels = np.array([[0], [0], [-1]])
>>> numbers = np.array([[0.5], [0.7], [0.0]])
>>> items = Items(levels, numbers, np.array([[True], [True], [False]]), np.ones(3))
>>> counts = Counts.of(items, np.array([0, 0, 1]), 2, prior)
>>> Predictive(counts, prior).levels[:, 0, :2].round(3).tolist()  # logs of 3/4, 1/4 and of 1/2, 1/2
[[-0.288, -1.386], [-0.693, -0.693]]
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from scipy.special import gammaln

from conjoin.core.shapes import Bool, Float, Int

__all__ = ["Counts", "Items", "Posterior", "Predictive", "Prior", "log_marginal"]

# pseudo-count of what is never counted: levels that a column lacks, and the bin of missing cells
MIN_PROBABILITY = 1e-300  # in place of zero, so that its log is finite


@dataclass(frozen=True)
class Prior:
    """``levels`` (C, L): pseudo-counts b, 0 for levels that a column lacks. ``rate`` (N,): b_0.
    ``shape``: a_0. ``trust``: kappa_0."""

    levels: Float[np.ndarray, "C L"]
    rate: Float[np.ndarray, " N"]
    shape: float = 2.0
    trust: float = 0.1
    padded: Float[np.ndarray, "C L1"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "padded", np.maximum(np.pad(self.levels, ((0, 0), (0, 1))), MIN_PROBABILITY)
        )


class Items(NamedTuple):
    """What is to be clustered. Codes are -1 where missing, and so address the last bin; numbers are
    0 there."""

    codes: Int[np.ndarray, "I C"]
    numbers: Float[np.ndarray, "I N"]
    present: Bool[np.ndarray, "I N"]
    weight: Float[np.ndarray, " I"]

    def take(self, index: np.ndarray | slice) -> "Items":
        return Items(*(part[index] for part in self))


class Posterior(NamedTuple):
    """Parameters of the normal-inverse-gamma posterior of every cluster, each (K, N) or (N,)."""

    precision: np.ndarray
    mean: np.ndarray
    shape: np.ndarray
    rate: np.ndarray

    @classmethod
    def of(cls, moments: Float[np.ndarray, "*K N 3"], prior: Prior) -> "Posterior":
        count = moments[..., 0]
        first = moments[..., 1]
        second = moments[..., 2]
        precision = prior.trust + count
        mean = first / precision
        spread = np.maximum(second - precision * mean * mean, 0.0)
        return cls(precision, mean, prior.shape + count / 2, prior.rate + spread / 2)


@dataclass
class Counts:
    """Sufficient statistics of K clusters: weights of items, of levels (the last bin: missing), and
    1, x, x^2 of numbers."""

    rows: Float[np.ndarray, " K"]
    levels: Float[np.ndarray, "K C L1"]
    moments: Float[np.ndarray, "K N 3"]

    @classmethod
    def empty(cls, clusters: int, prior: Prior) -> Self:
        return cls(
            np.zeros(clusters),
            np.zeros((clusters, *prior.padded.shape)),
            np.zeros((clusters, len(prior.rate), 3)),
        )

    @classmethod
    def of(cls, items: Items, cluster: Int[np.ndarray, " I"], clusters: int, prior: Prior) -> Self:
        """Statistics of the items that have a cluster (not -1)."""
        counts = cls.empty(clusters, prior)
        kept = np.flatnonzero(cluster >= 0)
        part = items.take(kept)
        where = cluster[kept]
        np.add.at(counts.rows, where, part.weight)
        columns = np.arange(part.codes.shape[1])
        np.add.at(
            counts.levels,
            (where[:, None], columns, part.codes),
            np.broadcast_to(part.weight[:, None], part.codes.shape),
        )
        powers = (
            np.stack([part.present, part.numbers, part.numbers**2], -1) * part.weight[:, None, None]
        )
        member = np.zeros((clusters, len(where)))
        member[where, np.arange(len(where))] = 1.0
        counts.moments += np.tensordot(member, powers, 1)
        return counts

    def move(self, items: Items, item: int, cluster: int, sign: float) -> None:
        """Put one item into a cluster (sign 1) or take it out (sign -1)."""
        weight = sign * items.weight[item]
        x = items.numbers[item]
        self.rows[cluster] += weight
        self.levels[cluster, np.arange(items.codes.shape[1]), items.codes[item]] += weight
        moments = self.moments[cluster]
        moments[:, 0] += weight * items.present[item]
        moments[:, 1] += weight * x
        moments[:, 2] += weight * x * x

    def clear(self, cluster: int) -> None:
        """No rounding error may outlive a cluster's last item."""
        self.rows[cluster] = 0.0
        self.levels[cluster] = 0.0
        self.moments[cluster] = 0.0


class Predictive:
    """log p(item | items of cluster k) of every cluster, with what depends on the cluster alone
    worked out beforehand."""

    def __init__(self, counts: Counts, prior: Prior) -> None:
        self.counts = counts
        self.prior = prior
        clusters, numbers = counts.moments.shape[:2]
        self.levels = np.zeros(counts.levels.shape)
        # log of the constant, power, mean, 1 / (scale sqrt(nu))
        self.number = np.zeros((4, clusters, numbers))
        self.refresh(slice(None))

    def refresh(self, cluster: int | slice) -> None:
        """Follow a change of a cluster's counts."""
        levels = self.counts.levels[cluster] + self.prior.padded
        self.levels[cluster] = np.log(levels)
        self.levels[cluster] -= np.log(levels[..., :-1].sum(-1))[..., None]
        self.levels[cluster, ..., -1] = 0.0  # a missing cell says nothing
        precision, mean, shape, rate = Posterior.of(self.counts.moments[cluster], self.prior)
        scale = np.sqrt(2 * rate * (precision + 1) / precision)  # sqrt(nu) times the scale
        self.number[0, cluster] = (
            gammaln(shape + 0.5) - gammaln(shape) - np.log(scale) - 0.5 * math.log(math.pi)
        )
        self.number[1, cluster] = shape + 0.5
        self.number[2, cluster] = mean
        self.number[3, cluster] = 1 / scale

    def saved(self, cluster: int) -> tuple[np.ndarray, np.ndarray]:
        return self.levels[cluster].copy(), self.number[:, cluster].copy()

    def restore(self, cluster: int, saved: tuple[np.ndarray, np.ndarray]) -> None:
        self.levels[cluster], self.number[:, cluster] = saved

    def log_prob(self, items: Items) -> Float[np.ndarray, "I K"]:
        """Nats of every item under every cluster; an item that is in a cluster's counts has to be
        taken out first."""
        columns = np.arange(items.codes.shape[1])
        levels = self.levels[:, columns, items.codes].sum(-1).T
        constant, power, mean, inverse = self.number
        z = (items.numbers[:, None] - mean) * inverse
        density = constant - power * np.log1p(z * z)
        return items.weight[:, None] * (levels + (density * items.present[:, None]).sum(-1))


def log_marginal(counts: Counts, prior: Prior) -> Float[np.ndarray, " K"]:
    """log p(all items of cluster k), their parameters integrated out; nats."""
    levels = counts.levels[..., :-1]
    pseudo = prior.padded[:, :-1]
    categories = (gammaln(levels + pseudo) - gammaln(pseudo)).sum((1, 2))
    categories += (gammaln(pseudo.sum(-1)) - gammaln(levels.sum(-1) + pseudo.sum(-1))).sum(1)
    precision, _, shape, rate = Posterior.of(counts.moments, prior)
    numbers = (
        gammaln(shape)
        - gammaln(prior.shape)
        + prior.shape * np.log(prior.rate)
        - shape * np.log(rate)
    )
    numbers += 0.5 * (math.log(prior.trust) - np.log(precision)) - (shape - prior.shape) * math.log(
        2 * math.pi
    )
    return categories + numbers.sum(1)

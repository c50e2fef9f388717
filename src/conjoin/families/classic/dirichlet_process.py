r"""Dirichlet-process mixture of mixed-type columns: as many clusters as the rows call for (Chinese
restaurant process).

    p(x | n rows) = sum_k  n_k / (n + alpha)  prod_d p(x_d | rows of cluster k)
                    +  alpha / (n + alpha)  prod_d p(x_d)

averaged over samples of the rows' partition. Parameters are integrated out: a cluster is its
sufficient statistics. One sweep

    1. draws every cluster's weight and parameters given its rows, then all rows' clusters at once,
       rounding and spikes included, and what lies behind each recorded number (blocked Gibbs: H.
       Ishwaran and L. James (2001), Gibbs sampling methods for stick-breaking priors, section 5.2;
       at most ``most`` clusters, the last stick takes what is left);
    2. moves single rows with the parameters integrated out (R. Neal (2000), Markov chain sampling
       methods for Dirichlet process mixture models, algorithm 3), up to 500 of them;
    3. proposes to split or merge clusters (S. Jain and R. Neal (2004), A split-merge Markov chain
       Monte Carlo procedure for the Dirichlet process mixture model, section 3; the launch state
       allocates all rows of the clusters at once);
    4. draws alpha (M. Escobar and M. West (1995), Bayesian density estimation and inference using
       mixtures, equation 13).

Missing cells drop out, so every marginal and conditional is exact. Nats.

Shape letters: B rows, I items (copies of rows), D variables (C with levels, N numeric), K clusters.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> model = DirichletProcessDensity.build(space, DirichletProcess(), data, stream(0))
>>> bool(model.sweep(data, generator=stream(1)) > 0)
True
>>> model.features(data).shape  # p(cluster | row): at most 4 clusters, and a new one
torch.Size([4, 5])
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit, gammaln
from torch import Tensor

from conjoin.components.leaves import LeafLayer
from conjoin.core import Config, Density, Event, Space, categorical
from conjoin.core.shapes import Float, Int
from conjoin.families.classic.conjugate import (
    Counts,
    Items,
    Posterior,
    Predictive,
    Prior,
    log_marginal,
)
from conjoin.families.classic.posterior import (
    Copies,
    PosteriorMixture,
    ProductLayer,
    StudentLayer,
    known_parts,
    numpy_stream,
)

__all__ = ["DirichletProcess", "DirichletProcessDensity", "Restaurant"]

SCANNED_ROWS = 500  # rows that one sweep moves singly
PROPOSALS_PER_SWEEP = 5  # splits or merges that one sweep proposes
LAUNCH_SCANS = 4  # allocations on the way to a launch state
GAMMA = (1.0, 1.0)  # shape and rate of alpha's prior


@dataclass(frozen=True)
class DirichletProcess(Config):
    """Settings of the Dirichlet process mixture.

    Parameters
    ----------
    most : int, default 30
        Clusters at most.
    samples : int, default 10
        Samples of the posterior that are kept and averaged over.
    smoothing : float, default 1.0
        Rows of prior for each cluster and column.
    """

    most: int = 30
    samples: int = 10
    smoothing: float = 1.0


class Restaurant:
    """A partition of items into at most K clusters, the clusters' statistics, and the moves that
    leave the posterior as it is (for items of weight 1; a heavier one moves as a block whose
    predictive density is that of its first copy to the power of its weight)."""

    def __init__(
        self,
        items: Items,
        cluster: Int[np.ndarray, " I"],
        clusters: int,
        prior: Prior,
        alpha: float,
    ) -> None:
        self.items = items
        self.cluster = cluster.copy()
        self.prior = prior
        self.alpha = alpha
        self.counts = Counts.of(items, cluster, clusters, prior)
        self.members = np.bincount(cluster[cluster >= 0], minlength=clusters)

    # ------------------------------------------------------------------ one row after the other

    def scan(self, order: Int[np.ndarray, " I"], rng: np.random.Generator) -> None:
        """p(z_i = k | the others) ~ n_k p(x_i | items of k), alpha p(x_i) for a new cluster; an
        item without one is given one."""
        predictive = Predictive(self.counts, self.prior)
        noise = rng.gumbel(size=(len(order), len(self.members)))
        with np.errstate(divide="ignore"):
            for step, item in enumerate(order.tolist()):
                old = int(self.cluster[item])
                before = self._leave(item, old, predictive) if old >= 0 else None
                score = (
                    self._log_seats(float(self.items.weight[item]))
                    + predictive.log_prob(self.items.take(slice(item, item + 1)))[0]
                )
                self._join(item, int((score + noise[step]).argmax()), predictive, before, old)

    def _leave(self, item: int, old: int, predictive: Predictive) -> Any:
        before = predictive.saved(old)
        self.counts.move(self.items, item, old, -1.0)
        self.members[old] -= 1
        if not self.members[old]:
            self.counts.clear(old)
        predictive.refresh(old)
        return before

    def _join(self, item: int, new: int, predictive: Predictive, before: Any, old: int) -> None:
        self.counts.move(self.items, item, new, 1.0)
        self.members[new] += 1
        self.cluster[item] = new
        if new == old:
            predictive.restore(old, before)
        else:
            predictive.refresh(new)

    def _log_seats(self, weight: float = 1.0) -> Float[np.ndarray, " K"]:
        """log n_k for clusters with items, log alpha for the first empty one (for a weight of 1;
        else for that many copies)."""
        seats = np.where(
            self.members > 0,
            gammaln(self.counts.rows + weight) - gammaln(np.maximum(self.counts.rows, 1e-9)),
            -np.inf,
        )
        empty = np.flatnonzero(self.members == 0)[:1]
        seats[empty] = math.log(self.alpha) + gammaln(weight)
        return seats

    def settle(self, rng: np.random.Generator) -> None:
        """A cluster for every item that has none, given those that have."""
        loose = np.flatnonzero(self.cluster < 0)
        predictive = Predictive(self.counts, self.prior)
        for part in np.array_split(loose, 1 + len(loose) // 4096):
            score = self._log_seats() + predictive.log_prob(self.items.take(part))
            self.cluster[part] = (score + rng.gumbel(size=score.shape)).argmax(1)
        self.counts = Counts.of(self.items, self.cluster, len(self.members), self.prior)
        self.members = np.bincount(self.cluster, minlength=len(self.members))

    # ------------------------------------------------------------------ splits and merges

    def split_or_merge(self, rng: np.random.Generator) -> bool:
        """Two items at random: split their common cluster, or merge their two; accepted by the rule
        of Metropolis and Hastings."""
        if len(self.cluster) < 2:
            return False
        first, second = rng.choice(len(self.cluster), 2, replace=False)
        kept = int(self.cluster[first])
        other = int(self.cluster[second])
        free = np.flatnonzero(self.members == 0).tolist()
        if kept == other and not free:
            return False
        group = np.flatnonzero((self.cluster == kept) | (self.cluster == other))
        items = self.items.take(group)
        anchors = np.searchsorted(group, np.array([first, second]))
        share = self._launch(items, anchors, rng)
        side = _draw(share, rng) if kept == other else (self.cluster[group] == other).astype(int)
        ratio = (
            self._log_split(items, side)
            - np.log(np.maximum(np.where(side, share, 1 - share), 1e-300)).sum()
        )
        if kept != other:
            ratio = -ratio
        if math.log(rng.random()) >= ratio:
            return False
        self._seat(
            group,
            items,
            side if kept == other else np.zeros(len(group), dtype=int),
            kept,
            free[0] if kept == other else other,
        )
        return True

    def _launch(
        self, items: Items, anchors: Int[np.ndarray, "2"], rng: np.random.Generator
    ) -> Float[np.ndarray, " I"]:
        """p(item joins the second anchor) after a few allocations that know nothing of how the
        items lie now."""
        side = np.full(len(items.weight), -1)
        side[anchors] = 0, 1
        for _ in range(LAUNCH_SCANS):
            counts = Counts.of(items, side, 2, self.prior)
            score = Predictive(counts, self.prior).log_prob(items) + np.log(counts.rows)
            share = expit(score[:, 1] - score[:, 0])
            share[anchors] = 0.0, 1.0
            side = _draw(share, rng)
        return share

    def _log_split(self, items: Items, side: Int[np.ndarray, " I"]) -> float:
        """log of p(two clusters, their items) / p(one cluster, all items)."""
        two, one = (
            Counts.of(items, where, size, self.prior)
            for where, size in ((side, 2), (np.zeros_like(side), 1))
        )
        gain = math.log(self.alpha) + gammaln(two.rows).sum() - gammaln(one.rows).sum()
        return float(
            gain + log_marginal(two, self.prior).sum() - log_marginal(one, self.prior).sum()
        )

    def _seat(
        self, group: np.ndarray, items: Items, side: np.ndarray, kept: int, other: int
    ) -> None:
        self.cluster[group] = np.where(side, other, kept)
        counts = Counts.of(items, side, 2, self.prior)
        for label, place in ((kept, 0), (other, 1)):
            self.members[label] = (side == place).sum()
            self.counts.rows[label] = counts.rows[place]
            self.counts.levels[label] = counts.levels[place]
            self.counts.moments[label] = counts.moments[place]

    # ----------------------------------------------------------- concentration, weights, likelihood

    def draw_alpha(self, rng: np.random.Generator) -> float:
        """alpha | number of clusters, by way of eta ~ Beta(alpha + 1, n)."""
        n = self.counts.rows.sum()
        clusters = int((self.members > 0).sum())
        rate = GAMMA[1] - math.log(max(rng.beta(self.alpha + 1, n), 1e-300))
        odds = (GAMMA[0] + clusters - 1) / (n * rate)
        shape = GAMMA[0] + clusters - (rng.random() >= odds / (1 + odds))
        self.alpha = max(float(rng.gamma(shape) / rate), 1e-6)
        return self.alpha

    def draw_log_sticks(self, rng: np.random.Generator) -> Float[np.ndarray, " K"]:
        """log of the clusters' weights: Dirichlet(n_1 ... n_k, alpha), alpha's share broken into
        sticks for the empty ones."""
        empty = np.flatnonzero(self.members == 0)
        weight = rng.gamma(np.maximum(self.counts.rows, 1e-9))
        sticks = rng.beta(1.0, self.alpha, len(empty))
        sticks[-1:] = 1.0
        left = np.cumprod(np.concatenate([[1.0], 1 - sticks]))[:-1]
        weight[empty] = rng.gamma(self.alpha) * sticks * left
        return np.log(np.maximum(weight, 1e-300))

    def log_joint(self) -> float:
        """log p(partition, items); nats."""
        n = self.counts.rows.sum()
        rows = self.counts.rows[self.members > 0]
        seats = (
            len(rows) * math.log(self.alpha)
            + gammaln(rows).sum()
            + gammaln(self.alpha)
            - gammaln(self.alpha + n)
        )
        return float(seats + log_marginal(self.counts, self.prior)[self.members > 0].sum())


def _draw(share: Float[np.ndarray, " I"], rng: np.random.Generator) -> Int[np.ndarray, " I"]:
    return (rng.random(len(share)) < share).astype(int)


class DirichletProcessDensity(PosteriorMixture):
    """The predictive density is exact; its parts are Student's t and counted levels, for every
    cluster of every sample."""

    config_class = DirichletProcess
    leaves: StudentLayer
    alpha: Tensor

    def __init__(
        self,
        space: Space,
        config: DirichletProcess,
        structure: dict[str, int] | None = None,
        context_space: Space | None = None,
    ) -> None:
        Density.__init__(self, space, config, structure, context_space)
        samples = config.samples
        self.most = self.structure["most"]
        self._hold(
            StudentLayer(space.variables, samples * (self.most + 1), config.smoothing), samples
        )
        self.register_buffer("alpha", torch.ones((), dtype=torch.float64))
        self.latent: dict[
            str, Tensor
        ] = {}  # cluster (I,), unrounded numbers (I, N), parts of numbers (I, N)

    @classmethod
    def build(
        cls,
        space: Space,
        config: DirichletProcess,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Priors from the columns' marginals; to begin with every row would be a new cluster."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        copies = Copies.of(weight)
        density = cls(space, config, {"most": min(config.most, len(copies.row))})
        column = LeafLayer(space.variables, 1, config.smoothing)
        column.start(data.value, data.mask, weight)
        for name in ("level_prior", "mean_prior", "variance_prior"):
            getattr(density.leaves, name).copy_(getattr(column, name))
        prior = density._prior()
        numbers = len(density.leaves.numeric)
        none = Items(
            np.zeros((0, len(prior.levels)), dtype=int),
            np.zeros((0, numbers)),
            np.zeros((0, numbers), dtype=bool),
            np.zeros(0),
        )
        with torch.no_grad():
            density._remember(Restaurant(none, np.zeros(0, dtype=int), density.most, prior, 1.0))
            density.sweeps.zero_()
        return density

    def _prior(self) -> Prior:
        """Levels start with ``smoothing`` rows of their column's marginal, atoms with as many in
        equal parts."""
        # the variance of a cluster is expected to be rate / (shape - 1)
        leaves = self.leaves
        rate = self.leaves.variance_prior * 2.0
        levels = leaves.level_prior * leaves.legal
        parts = torch.zeros(0, 1)
        if leaves.atoms.shape[1]:
            parts = torch.cat(
                [~leaves.atoms.isnan(), torch.ones(len(leaves.atoms), 1, dtype=torch.bool)], 1
            ).double()
            parts = parts / parts.sum(1, keepdim=True)
        width = max(levels.shape[1], parts.shape[1])
        table = torch.cat(
            [
                torch.nn.functional.pad(part.double(), (0, width - part.shape[1]))
                for part in (levels, parts)
            ]
        )
        return Prior(self.config.smoothing * table.cpu().numpy(), rate.cpu().numpy())

    # ------------------------------------------------------------------ one sweep

    def _sweep(
        self, event: Event, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        rng = numpy_stream(generator)
        copies = Copies.of(weight)
        if len(self.latent.get("cluster", ())) == len(copies.row):
            self._draw_latent(event, copies, generator, rng)
            restaurant = self._restaurant(event, copies)
        else:
            restaurant = self._first(event, copies, rng)
        restaurant.scan(rng.permutation(len(copies.row))[:SCANNED_ROWS], rng)
        for _ in range(PROPOSALS_PER_SWEEP):
            restaurant.split_or_merge(rng)
        self.alpha.fill_(restaurant.draw_alpha(rng))
        self.latent["cluster"] = torch.as_tensor(restaurant.cluster)
        self._remember(restaurant)
        return torch.tensor(-restaurant.log_joint() / float(weight.sum()), dtype=torch.float64)

    def _restaurant(self, event: Event, copies: Copies) -> Restaurant:
        """The items that the rows' latent state makes of the event."""
        codes, present = known_parts(self.leaves, event.take(copies.row), self.latent["part"])
        numbers = torch.where(present, self.latent["number"] - self.leaves.mean_prior, 0.0)
        items = Items(
            codes.cpu().numpy(),
            numbers.cpu().numpy(),
            present.cpu().numpy(),
            copies.weight.cpu().numpy(),
        )
        return Restaurant(
            items, self.latent["cluster"].cpu().numpy(), self.most, self._prior(), float(self.alpha)
        )

    def _first(self, event: Event, copies: Copies, rng: np.random.Generator) -> Restaurant:
        """Numbers as they were recorded; some rows take their seats one after the other, then the
        others."""
        numbers = event.value[copies.row][:, self.leaves.numeric]
        on = (numbers[..., None] - self.leaves.atoms).abs() <= 0.5 * self.leaves.lattice.width[
            :, None
        ]
        part = torch.cat([on, torch.ones(*numbers.shape, 1, dtype=torch.bool)], -1).int().argmax(-1)
        self.latent = {
            "cluster": torch.full((len(copies.row),), -1),
            "number": numbers,
            "part": part,
        }
        restaurant = self._restaurant(event, copies)
        restaurant.scan(rng.permutation(len(copies.row))[:SCANNED_ROWS], rng)
        restaurant.settle(rng)
        return restaurant

    def _draw_latent(
        self, event: Event, copies: Copies, generator: torch.Generator, rng: np.random.Generator
    ) -> None:
        """Weights and parameters given clusters; then clusters, and what lies behind the numbers,
        given weights and parameters."""
        before = self._restaurant(event, copies)
        layer = self._draw_parameters(before.counts, before.prior, rng)
        score = torch.as_tensor(before.draw_log_sticks(rng)) + layer.log_rows(event)
        cluster = categorical(copies.weight[:, None] * score[copies.row], generator)
        number, part = layer.draw_parts(event.value[copies.row], cluster, generator)
        self.latent = {"cluster": cluster, "number": number, "part": part}

    def _draw_parameters(
        self, counts: Counts, prior: Prior, rng: np.random.Generator
    ) -> ProductLayer:
        layer = ProductLayer(self.space.variables, self.most, self.config.smoothing)
        posterior = Posterior.of(counts.moments, prior)
        variance = posterior.rate / rng.gamma(posterior.shape)
        mean = posterior.mean + np.sqrt(variance / posterior.precision) * rng.normal(
            size=variance.shape
        )
        levels = np.log(np.maximum(rng.gamma(counts.levels + prior.padded), 1e-300))
        for name, value in self._leaf_parameters(levels, mean, np.sqrt(variance)).items():
            getattr(layer, name).copy_(value)
        return layer

    def _leaf_parameters(
        self, levels: np.ndarray, mean: np.ndarray, scale: np.ndarray
    ) -> dict[str, Tensor]:
        """Of K clusters, as a LeafLayer names and orders them."""
        table = torch.as_tensor(levels).transpose(0, 1)
        split = len(self.leaves.category)
        out = {"logits": table[:split, :, : self.leaves.legal.shape[1]]}
        if self.leaves.atoms.shape[1]:
            out["atom_logits"] = table[split:, :, : self.leaves.atoms.shape[1] + 1]
        out["mean"] = torch.as_tensor(mean).T + self.leaves.mean_prior[:, None]
        return out | {"log_scale": torch.as_tensor(scale).log().T}

    def _remember(self, restaurant: Restaurant) -> None:
        """The predictive density of every cluster, and of a new one, as a sample of the
        posterior."""
        counts = restaurant.counts
        prior = restaurant.prior
        size = np.where(restaurant.members > 0, counts.rows, 0.0)
        weight = torch.as_tensor(np.append(size, restaurant.alpha))
        levels = (
            np.concatenate([counts.levels, np.zeros((1, *counts.levels.shape[1:]))]) + prior.padded
        )
        moments = np.concatenate([counts.moments, np.zeros((1, *counts.moments.shape[1:]))])
        precision, mean, shape, rate = Posterior.of(moments, prior)
        parts = self._leaf_parameters(
            np.log(levels), mean, np.sqrt(rate * (precision + 1) / (shape * precision))
        )
        self._keep((weight / weight.sum()).log(), parts | {"freedom": torch.as_tensor(2 * shape).T})

    def _sweep_state(self) -> dict[str, Tensor]:
        return dict(self.latent)

    def _restore_sweep(self, state: dict[str, Tensor]) -> None:
        self.latent = dict(state)

    def _features(self, event: Event) -> Float[Tensor, "B K"]:
        """How surely each row belongs to each cluster of the newest sample; the last one is a new
        cluster."""
        return self._responsibilities(event)

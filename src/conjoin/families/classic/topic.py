r"""Latent Dirichlet allocation: a row is a document, each of its cells is of a topic of its own.

    theta ~ Dirichlet(alpha),    z_d | theta ~ theta,    x_d | z_d = k ~ p(x_d | k)
    p(x) = int Dirichlet(theta; alpha) prod_d sum_k theta_k p(x_d | k) dtheta  (equation 3)

D. Blei, A. Ng and M. Jordan (2003), Latent Dirichlet allocation. For tables of mixed columns it is
the grade of membership model (E. Erosheva, S. Fienberg and J. Lafferty (2004), Mixed-membership
models of scientific publications): a row is not of one prototype, as in a mixture, but of several
at once, each of which accounts for some of its cells. In a joint model with y, y is one more cell
of the row: supervised mixed membership, as in supervised LDA (D. Blei and J. McAuliffe (2007),
section 2), whose y depends on the topics too. ``words`` reads columns of counts as bags of words
(see ``counts``).

The integral has no closed form. Here it is a sum over S fixed points theta_s, and that sum is the
model: LDA with the Dirichlet integral replaced by S-point quadrature,

    p(x) = sum_s w_s prod_d sum_k theta_sk p(x_d | k),
    w_s  proportional to  Dirichlet(theta_s; alpha) / q(theta_s)

with q the density that the points are drawn from, a mixture of Dirichlet distributions sparse to
even (defensive importance sampling: A. Owen and Y. Zhou (2000), section 2.2; the points are a
scrambled Sobol net). So everything is exact: the likelihood in nats, every marginal, every
conditional. Expected counts are gradients (A. Darwiche (2003), theorem 1). w is an exponential
family in alpha with statistics log theta_s, so that the maximisation over alpha is concave.

Shape letters: B rows, D variables, C cells (columns that are no counts), W counts, K topics, S
points, U distinct values.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> model = TopicDensity.build(space, Topic(topics=2), data, stream(0))
>>> model.features(data).sum(1).round(decimals=6).tolist()
[1.0, 1.0, 1.0, 1.0]
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from scipy.special import gammaincinv
from torch import Tensor, nn

from conjoin.components.leaves import LeafLayer
from conjoin.core import Capabilities, Config, Density, Event, Likelihood, Space, categorical
from conjoin.core.shapes import Float
from conjoin.families.classic.counts import CountLayer, is_count
from conjoin.families.classic.mixture import cluster

__all__ = ["Points", "Topic", "TopicDensity", "dirichlet_points", "distinct_values"]

# of the Dirichlet distributions whose mixture the points are drawn from
SPREADS = (
    0.1,
    0.3,
    1.0,
    3.0,
)
LENGTH_SHAPE = 2.0  # of the Gamma distribution that the points' lengths are drawn from
MIN_SHARE = 1e-12  # of a topic
START_ALPHA = 0.5  # alpha before it has seen a row
MIN_ALPHA = 1e-4
MAX_ALPHA = 1e3
MAX_NUMBERS_AT_ONCE = 1 << 24  # numbers held at once for the distinct values of a block of rows
MODE_WALKS = 4  # points that compete for the mode


@dataclass(frozen=True)
class Topic(Config):
    """Settings of the topic model.

    Parameters
    ----------
    topics : int or None, default None
        Topics; None takes them from the number of rows.
    quadrature : int, default 256
        Points of the integral over the Dirichlet distribution.
    words : bool, default False
        Whether columns of counts (whole numbers from a least one up) are bags of words.
    smoothing : float, default 1.0
        Rows of prior for each topic.
    """

    topics: int | None = None
    quadrature: int = 256
    words: bool = False
    smoothing: float = 1.0


class Points(NamedTuple):
    """The mixing distribution: S points with log-weights statistic @ alpha + log_base, up to a
    constant."""

    theta: Tensor  # (S, K)
    length: Tensor  # (S,) g
    statistic: Tensor  # (S, K + 1) log theta, log g - g
    log_base: Tensor  # (S,)


def dirichlet_points(topics: int, count: int) -> Points:
    """Points for Dirichlet(alpha) and Gamma(r, r), whatever alpha and r may be: always the same for
    K and S."""
    # A Dirichlet draw is a Gamma draw divided by its sum; a Gamma draw is a quantile of a uniform
    # one.
    net = (
        torch.quasirandom.SobolEngine(topics + 1, scramble=True, seed=0)
        .draw(count, dtype=torch.float64)
        .clamp(1e-9, 1 - 1e-9)
    )
    spread = torch.tensor(SPREADS, dtype=torch.float64)
    which = torch.arange(count) * len(SPREADS) // count
    gamma = torch.as_tensor(
        gammaincinv(spread[which, None].cpu().numpy(), net[:, :topics].cpu().numpy())
    ).clamp_min(1e-300)
    theta = (gamma / gamma.sum(1, keepdim=True)).clamp_min(MIN_SHARE)
    theta = theta / theta.sum(1, keepdim=True)
    length = torch.as_tensor(gammaincinv(LENGTH_SHAPE, net[:, topics].cpu().numpy())) / LENGTH_SHAPE
    log_theta = theta.log()
    log_length = length.log()
    each = (
        torch.lgamma(topics * spread)
        - topics * torch.lgamma(spread)
        + (spread - 1) * log_theta.sum(1, keepdim=True)
    )
    log_base = -each.logsumexp(1) - log_theta.sum(1) - LENGTH_SHAPE * (log_length - length)
    return Points(
        theta, length, torch.cat([log_theta, (log_length - length)[:, None]], 1), log_base
    )


class TopicDensity(Density):
    """Log-likelihood, marginals and conditionals are exact."""

    config_class = Topic
    bounded = True
    cells: Tensor
    counts: Tensor
    theta: Tensor
    length: Tensor
    statistic: Tensor
    log_base: Tensor

    def __init__(
        self,
        space: Space,
        config: Topic,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        if config.quadrature < 1:
            raise ValueError(f"quadrature must be at least 1 point, got {config.quadrature}.")
        topics = self.structure["topics"]
        variables = space.variables
        counted = [config.words and is_count(v) for v in variables]
        self.register_buffer(
            "cells",
            torch.tensor([i for i, c in enumerate(counted) if not c], dtype=torch.long),
            persistent=False,
        )
        self.register_buffer(
            "counts",
            torch.tensor([i for i, c in enumerate(counted) if c], dtype=torch.long),
            persistent=False,
        )
        points = dirichlet_points(topics, config.quadrature)
        for name, part in points._asdict().items():
            self.register_buffer(name, part)
        self.leaves = LeafLayer(
            [variables[i] for i in self.cells.tolist()], topics, config.smoothing
        )
        self.log_alpha = nn.Parameter(torch.full((topics,), START_ALPHA, dtype=torch.float64).log())
        if len(self.counts):
            self.words = CountLayer(
                [variables[i] for i in self.counts.tolist()], topics, config.smoothing
            )
            self.log_shape = nn.Parameter(torch.full((1,), LENGTH_SHAPE, dtype=torch.float64).log())
        else:
            self.register_buffer(
                "log_shape",
                torch.full((1,), LENGTH_SHAPE, dtype=torch.float64).log(),
                persistent=False,
            )

    @classmethod
    def build(
        cls,
        space: Space,
        config: Topic,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Topics start as clusters of rows."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        topics = default_topics(data.rows) if config.topics is None else config.topics
        if topics < 1:
            raise ValueError(f"topics must be at least 1, got {config.topics}.")
        topics = min(topics, data.rows)
        density = cls(space, config, {"topics": topics})
        share = weight[:, None] * cluster(data, space.variables, weight, topics, generator)
        density._start(data, weight, share)
        return density

    def _start(self, data: Event, weight: Float[Tensor, " B"], share: Float[Tensor, "B K"]) -> None:
        value = data.value
        mask = data.mask
        self.leaves.start(value[:, self.cells], mask[:, self.cells], weight)
        with torch.no_grad():
            each = share[:, None].expand(-1, len(self.cells), -1)
            self.leaves.maximise(
                self.leaves.statistics(value[:, self.cells], mask[:, self.cells], each)
            )
            if len(self.counts):
                counts = self.words.counts(value[:, self.counts])
                mass = weight[:, None] * mask[:, self.counts]
                self.words.start(counts, mass)
                known = mask[:, self.counts].double()
                self.words.maximise((known * counts).T @ share, known.T @ share)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            Likelihood.EXACT,
            missing="exact",
            marginals="any",
            conditionals="any",
            regions=not len(self.counts),
            mode="approximate",
            statistics=True,
            features=True,
        )

    # ------------------------------------------------------------------ log p(x, point)

    def _log_weight(self) -> Float[Tensor, " S"]:
        """log w."""
        return _log_weight(
            self.statistic, self.log_base, torch.cat([self.log_alpha, self.log_shape])
        )

    def _cells(self, event: Event) -> Event:
        return Event(event.value[:, self.cells], event.mask[:, self.cells], within=event.within)

    def _blocks(self, event: Event) -> Iterator[slice]:
        """Rows that are looked at together, few enough to hold all their distinct values at all
        points."""
        todo = [slice(0, event.rows)]
        while todo:
            rows = todo.pop()
            table, _ = distinct_values(self._cells(event.take(rows)))
            middle = (rows.start + rows.stop) // 2
            if table.value.numel() * len(self.theta) <= MAX_NUMBERS_AT_ONCE or middle == rows.start:
                yield rows
            else:
                todo += [slice(middle, rows.stop), slice(rows.start, middle)]

    def _log_cells(self, leaf: Float[Tensor, "U C K"], place: Tensor) -> Float[Tensor, "B S"]:
        """sum_d log sum_k theta_sk p(x_d | k), where ``leaf`` holds log p of the distinct
        values."""
        peak = leaf.detach().amax(-1, keepdim=True)
        peak = torch.where(peak.isfinite(), peak, 0.0)  # a cell that no topic allows
        mixed = peak + ((leaf - peak).exp() @ self.theta.T).log()
        return torch.nn.functional.embedding_bag(place, mixed.flatten(0, 1), mode="sum")

    def _log_given(self, event: Event) -> Float[Tensor, "B S"]:
        """log p(known | point)."""
        total = torch.zeros(event.rows, len(self.theta), dtype=torch.float64)
        if len(self.counts):
            rates = self.words.rates(self.length[:, None] * self.theta)
            total = total + self.words.log_prob(
                self.words.counts(event.value[:, self.counts]),
                event.mask[:, self.counts],
                rates,
                rates,
            )
        if len(self.cells) and event.rows:
            parts = []
            for rows in self._blocks(event):
                table, place = distinct_values(self._cells(event.take(rows)))
                parts.append(self._log_cells(self.leaves.log_event(table), place))
            total = total + torch.cat(parts)
        return total

    def _log_points(self, event: Event) -> Float[Tensor, "B S"]:
        """log p(known, point)."""
        return self._log_weight() + self._log_given(event)

    # ------------------------------------------------------------------ hooks

    def _log_prob(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        return self._log_points(event).logsumexp(1)

    def _log_target(self, event: Event, candidates: Tensor) -> Float[Tensor, "B K"]:
        """Given its point, the first variable is independent of the others."""
        if 0 in self.counts:
            return super()._log_target(event, candidates)
        first = torch.arange(event.value.shape[1]) == 0
        probe = torch.zeros(len(candidates), event.value.shape[1], dtype=torch.float64)
        probe[:, 0] = candidates
        rest = self._log_points(event.hide(first))
        own = self._log_given(Event(probe, first.expand_as(probe)))
        low = rest.amax(1, keepdim=True)
        high = own.amax(1)
        high = torch.where(high.isfinite(), high, 0.0)
        return low + high + ((rest - low).exp() @ (own - high[:, None]).exp().T).log()

    def _sample(self, n: int, context: Event | None, generator: torch.Generator | None) -> Event:
        empty = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        return self._sample_conditional(Event(empty, empty.bool()), None, generator)

    def _sample_conditional(
        self, event: Event, context: Event | None, generator: torch.Generator | None
    ) -> Event:
        """A point given what is known, a topic for every cell, a value for every cell."""
        point = categorical(self._log_points(event), generator)
        topic = self.theta.log()[point][:, None]
        if event.within is not None:
            topic = topic + self.leaves.log_region(event.within)
        topic = categorical(topic.expand(-1, len(self.cells), -1), generator)
        value = torch.zeros_like(event.value)
        value[:, self.cells] = self.leaves.sample(topic, generator, event.within)
        if len(self.counts):
            rates = self.words.rates(self.length[:, None] * self.theta)[point]
            value[:, self.counts] = self.words.value(torch.poisson(rates, generator=generator))
        return Event(torch.where(event.mask, event.value, value))

    def _mode(self, event: Event, context: Event | None) -> Event:
        """The best of what the likeliest points, and the row's mean theta, would say, each cell for
        itself."""
        best, log_best = self._modes()
        log_points = self._log_points(event)
        score = log_points + (~event.mask).double() @ log_best.T
        points = score.topk(min(MODE_WALKS, score.shape[1]), 1).indices
        walks = torch.cat([best[points], best[points[:, :1]]], 1)  # (B, walks, D)
        walks[:, -1, self.cells] = self._blend(log_points.softmax(1) @ self.theta)
        filled = torch.where(event.mask[:, None], event.value[:, None], walks)
        log_prob = self._log_prob(Event(filled.flatten(0, 1)), None, None).reshape(walks.shape[:2])
        return Event(filled[torch.arange(event.rows), log_prob.argmax(1)])

    def _modes(self) -> tuple[Float[Tensor, "S D"], Float[Tensor, "S D"]]:
        """At each point, the likeliest of the topics' own modes and their mean, and its log p."""
        best = torch.zeros(len(self.theta), len(self.space.variables), dtype=torch.float64)
        log_best = torch.zeros_like(best)
        if len(self.cells):
            own = self.leaves.modes().T[:, None].expand(-1, len(best), -1)
            candidates = torch.cat([own, self._blend(self.theta)[None]])  # (K + 1, S, C)
            flat = candidates.flatten(0, 1)
            leaf = self.leaves.log_prob(flat, torch.ones_like(flat, dtype=torch.bool)).unflatten(
                0, candidates.shape[:2]
            )
            top, which = torch.logsumexp(leaf + self.theta.log()[:, None], -1).max(0)  # (S, C)
            best[:, self.cells] = candidates.gather(0, which[None])[0]
            log_best[:, self.cells] = top
        if len(self.counts):
            rates = self.words.rates(self.length[:, None] * self.theta)
            likely = rates.floor()
            best[:, self.counts] = self.words.value(likely)
            log_best[:, self.counts] = likely * rates.log() - rates - torch.lgamma(likely + 1)
        return best, log_best

    def _blend(self, theta: Float[Tensor, "S K"]) -> Float[Tensor, "S C"]:
        """The mean of the topics' modes, as recorded; for a category, the mode of the likeliest
        topic."""
        modes = self.leaves.modes()
        numeric = self.leaves.numeric
        out = modes[:, theta.argmax(1)].T.clone()
        out[:, numeric] = self.leaves.lattice.snap(theta @ modes[numeric].T)
        return out

    def _features(self, event: Event) -> Float[Tensor, "B K"]:
        """E[theta | x]."""
        return self._log_points(event).softmax(1) @ self.theta

    # ------------------------------------------------------------------ learning

    def _statistics(self, event: Event, context: Event | None, weight: Tensor) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for rows in self._blocks(event):
            for key, part in self._expected(event.take(rows), weight[rows]).items():
                total[key] = total[key] + part if key in total else part
        return total

    def _expected(self, event: Event, weight: Float[Tensor, " B"]) -> dict[str, Tensor]:
        """Expected counts of one block: the gradients of log p with respect to log-parameters."""
        table, place = distinct_values(self._cells(event))
        inputs = [self.leaves.log_event(table), self._log_weight()]
        if len(self.counts):
            inputs += [self.words.log_rate, self.words.log_rate.clone()]
        inputs = [part.detach().requires_grad_() for part in inputs]
        with torch.enable_grad():
            joint = inputs[1].expand(event.rows, -1)
            if len(self.cells):
                joint = joint + self._log_cells(inputs[0], place)
            if len(self.counts):
                counts = self.words.counts(event.value[:, self.counts])
                known = event.mask[:, self.counts]
                said, silent = (
                    self.length[:, None] * (self.theta @ log_rate.exp().T)
                    for log_rate in inputs[2:]
                )
                joint = joint + self.words.log_prob(counts, known, said, silent)
            log_prob = (weight * joint.logsumexp(1)).sum()
            found = torch.autograd.grad(log_prob, inputs, materialize_grads=True)
        out = {"point": found[1], "log_prob": log_prob.detach()}
        if len(self.counts):
            out |= {"words": found[2], "exposure": -found[3] / self.words.log_rate.exp()}
        return out | self.leaves.statistics(table.value, table.mask, found[0])

    def _maximise(self, statistics: dict[str, Tensor]) -> None:
        self.leaves.maximise(statistics)
        if len(self.counts):
            self.words.maximise(statistics["words"], statistics["exposure"])
        start = torch.tensor(
            [START_ALPHA] * self.theta.shape[1] + [LENGTH_SHAPE], dtype=torch.float64
        )
        prior = _log_weight(self.statistic, self.log_base, start.log()).exp()
        share = statistics["point"] + self.config.smoothing * prior
        found = tilted(
            self.statistic,
            self.log_base,
            share / share.sum(),
            torch.cat([self.log_alpha, self.log_shape]),
        )
        self.log_alpha.copy_(found[:-1])
        if len(self.counts):
            self.log_shape.copy_(found[-1:])


def _log_weight(statistic: Tensor, log_base: Tensor, log_alpha: Tensor) -> Float[Tensor, " S"]:
    return (statistic @ log_alpha.exp() + log_base).log_softmax(0)


def tilted(
    statistic: Tensor,
    log_base: Tensor,
    share: Float[Tensor, " S"],
    log_alpha: Tensor,
    rounds: int = 50,
) -> Float[Tensor, " A"]:
    """The log alpha that maximises sum_s share_s log w_s(alpha): Newton's method on log alpha, each
    step halved until it climbs.

    With T the statistics, the gradient by alpha is E_share[T] - E_w[T], and the curvature
    -Cov_w[T]."""
    wanted = share @ statistic
    low = math.log(MIN_ALPHA)
    high = math.log(MAX_ALPHA)
    for _ in range(rounds):
        value = share @ _log_weight(statistic, log_base, log_alpha)
        weight = _log_weight(statistic, log_base, log_alpha).exp()
        alpha = log_alpha.exp()
        apart = statistic - weight @ statistic
        slope = alpha * (wanted - weight @ statistic)
        curve = alpha[:, None] * alpha * (apart.T @ (weight[:, None] * apart)) + torch.diag(
            slope.abs() + 1e-12
        )
        # the others stay at their bound
        free = ((log_alpha > low) | (slope > 0)) & ((log_alpha < high) | (slope < 0))
        curve = torch.where(free[:, None] & free, curve, torch.eye(len(free)).double())
        step = torch.linalg.solve(curve, slope * free).clamp(-1, 1)
        nearer = [(log_alpha + step / 2**half).clamp(low, high) for half in range(20)]
        better = next(
            (new for new in nearer if share @ _log_weight(statistic, log_base, new) > value), None
        )
        if better is None:
            break
        log_alpha = better
    return log_alpha


def distinct_values(event: Event) -> tuple[Event, Tensor]:
    """The distinct values of each column as an event (U, D), padded with missing cells; and where
    each cell of the table stands in it, (B, D), once it is flattened. All missing cells of a column
    are one value."""
    ranked, order = torch.where(event.mask, event.value, torch.inf).sort(0)
    fresh = torch.ones_like(ranked, dtype=torch.long)
    fresh[1:] = (ranked[1:] != ranked[:-1]).long()
    number = fresh.cumsum(0) - 1
    width = ranked.shape[1]
    table = ranked.new_full(
        (int(number.max()) + 1 if number.numel() else 0, width), torch.inf
    ).scatter_(0, number, ranked)
    place = torch.empty_like(number).scatter_(0, order, number) * width + torch.arange(width)
    return Event(
        torch.where(table.isfinite(), table, 0.0), table.isfinite(), within=event.within
    ), place


def default_topics(rows: int) -> int:
    """About one topic for every twenty distinct rows, between 2 and 8."""
    return max(2, min(8, rows // 20))

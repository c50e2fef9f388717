r"""Features that a row has or lacks, as many as the rows call for (Indian buffet process).

    x_d | z ~ N(a_0d + sum_k z_k a_kd, sigma_d^2)
        for numbers, measured in standard deviations
    x_d | z = argmax_c  u_c,   u_c ~ N(w_0c + sum_k z_k w_kc, 1)
        for categories: the greatest utility wins (probit)
    z_k | pi_k ~ Bernoulli(pi_k),   pi_k ~ Beta(alpha / K, 1)
        for at most K features

T. Griffiths and Z. Ghahramani (2011), The Indian buffet process: an introduction and review,
equation 10 (K to infinity gives the process); utilities after I. Valera and Z. Ghahramani (2014),
General table completion using a Bayesian nonparametric model, section 3. With K at most some eight,
patterns of features can be summed over (all 2^K of them but for the least probable ones, 1e-6 in
all): given its pattern, a row's columns are independent, so log p(x) in nats, its marginals,
conditionals and regions are exact for each sample of the posterior. One sweep

    1. draws every row's whole pattern given coefficients, then what lies behind its cells:
       utilities, unrounded numbers;
    2. moves whole features with the coefficients integrated out: a launch state proposes that one
       is born, dies or is replaced (as S. Jain and R. Neal (2004) propose splits), or one is
       exchanged for its symmetric difference with another, or with all rows;
    3. draws coefficients (F. Doshi-Velez and Z. Ghahramani (2009), Accelerated sampling for the
       Indian buffet process, equation 4), variances, shares and alpha.

Shape letters: B rows, I items (copies of rows), F pseudo-observations (numbers and utilities), K
features, J = K + 1, P = 2^K patterns, L levels, G points of a grid.

>>> from conjoin.core import Event, Space, Variable, stream
>>> space = Space((2,), (Variable("colour", "category", cardinality=3), Variable("mass", "real")))
>>> data = Event(torch.tensor([[0, 1.2], [1, 0.3], [0, 1.0], [2, -0.5]], dtype=torch.float64))
>>> model = IndianBuffetDensity.build(space, IndianBuffet(most=3), data, stream(0))
>>> bool(model.sweep(data, generator=stream(1)) > 0)
True
>>> len(model.features(data))  # how surely each row has each feature
4
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.special import log_ndtr

from conjoin.components.leaves import LeafLayer
from conjoin.core import Config, Density, Event, Space, categorical
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float, Int
from conjoin.families.classic.posterior import (
    Copies,
    PosteriorMixture,
    ProductLayer,
    known_parts,
    numpy_stream,
    truncated_normal,
)

__all__ = ["Buffet", "Fit", "IndianBuffet", "IndianBuffetDensity", "draw_utilities", "log_wins"]

BURN_IN_ROUNDS = 15  # rounds before the first sample
MOVES_PER_ROUND = 4  # moves of whole features of each kind in a round
LAUNCH_SCANS = 8  # allocations on the way to a launch state
TAIL_PROBABILITY = 1e-6  # probability of the patterns that the predictive density leaves out
ROWS_PER_FEATURE = 20  # rows for one more feature
UTILITY_DEVIATION = 1.5  # standard deviation of utilities' coefficients; those of numbers have 1
NOISE_PRIOR = (2.0, 0.2)  # shape and rate of the prior of numbers' variances
GAMMA = (1.0, 1.0)  # shape and rate of alpha's prior
# grid of a winner's utility, around the greatest mean
BELOW = 8.0
ABOVE = 6.0
POINTS = 64
FINE = 160


@dataclass(frozen=True)
class IndianBuffet(Config):
    """Settings of the latent features.

    Parameters
    ----------
    most : int, default 8
        Features at most, and for few rows 2 and one more for every 20 rows: 2^most patterns are
        summed over.
    samples : int, default 5
        Samples of the posterior that are kept and averaged over.
    """

    most: int = 8
    samples: int = 5


# ---------------------------------------------------------------------------------------- utilities


def _win(
    mean: Float[Tensor, "*S L"], points: int
) -> tuple[Float[Tensor, "*S G"], Float[Tensor, "*S G L"]]:
    """A grid of utilities v, and log of phi(v - m_c) prod_{c' != c} Phi(v - m_c'), the density of c
    winning with v."""
    grid = mean.amax(-1, keepdim=True) + torch.linspace(-BELOW, ABOVE, points, dtype=torch.float64)
    z = grid[..., None] - mean[..., None, :]
    below = log_ndtr(z)
    return grid, below.sum(-1, keepdim=True) - below - 0.5 * (z * z + LOG_2PI)


def log_wins(mean: Float[Tensor, "*S L"]) -> Float[Tensor, "*S L"]:
    """log p(c has the greatest of L normal utilities of unit variance), by the trapezoid rule."""
    return _win(mean, POINTS)[1].logsumexp(-2).log_softmax(-1)


def draw_utilities(
    mean: Float[Tensor, "P L"],
    pattern: Int[Tensor, " I"],
    code: Int[Tensor, " I"],
    generator: torch.Generator,
) -> Float[Tensor, "I L"]:
    """Utilities given which of them is the greatest: the winner's by its distribution function on a
    grid, the others' below it."""
    distinct, where = torch.unique(pattern * mean.shape[1] + code, return_inverse=True)
    grid, log_density = _win(mean[distinct // mean.shape[1]], FINE)
    wins = (
        log_density[torch.arange(len(distinct)), :, distinct % mean.shape[1]].softmax(1).cumsum(1)
    )
    uniform = torch.rand(len(code), 2, generator=generator, dtype=torch.float64)
    place = torch.searchsorted(wins[where], uniform[:, :1].contiguous()).clamp_max(FINE - 1)
    winner = grid[where].gather(1, place) + (uniform[:, 1:] - 0.5) * (BELOW + ABOVE) / (FINE - 1)
    own = mean[pattern]
    others = own + truncated_normal(torch.full_like(own, -math.inf), winner - own, generator)
    return others.scatter(1, code[:, None], winner)


# -------------------------------------------------------------------------------- features of items


class Fit(NamedTuple):
    """Coefficients given features: the normal posterior of every pseudo-observation's, and log
    p(pseudo-observations | features)."""

    mean: Float[Tensor, "F J"]
    root: Float[Tensor, "F J J"]  # Cholesky factor of the precision
    evidence: float

    def draw(self, generator: torch.Generator) -> Float[Tensor, "F J"]:
        noise = torch.randn(*self.mean.shape, 1, generator=generator, dtype=torch.float64)
        return self.mean + torch.linalg.solve_triangular(self.root.mT, noise, upper=True)[..., 0]

    def variance(self, design: Float[Tensor, "P J"]) -> Float[Tensor, "F P"]:
        """Of every pattern's mean."""
        return (
            torch.linalg.solve_triangular(
                self.root, design.T.expand(len(self.mean), -1, -1), upper=False
            )
            .square()
            .sum(1)
        )


@dataclass(frozen=True)
class Buffet:
    """Pseudo-observations of items and the features that they have. ``y`` is 0 where not
    ``known``."""

    y: Float[Tensor, "I F"]
    known: Float[Tensor, "I F"]
    weight: Float[Tensor, " I"]
    noise: Float[Tensor, " F"]
    spread: Float[Tensor, " F"]  # standard deviation of coefficients
    z: Float[Tensor, "I K"]
    alpha: float

    def fit(self, z: Float[Tensor, "I K"]) -> Fit:
        """Conjugate linear regression of every pseudo-observation on features and a constant."""
        design = _with_constant(z)
        size = design.shape[1]
        products = (
            (design[:, :, None] * design[:, None]).flatten(1) * self.weight[:, None]
        ).T @ self.known
        precision = products.T.reshape(-1, size, size) / self.noise[:, None, None]
        precision = precision + torch.eye(size).double() / self.spread.square()[:, None, None]
        moment = (self.y.T @ (design * self.weight[:, None])) / self.noise[:, None]
        root = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve(moment[..., None], root)[..., 0]
        count = self.weight @ self.known
        square = self.weight @ self.y.square()
        determinant = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) + 2 * size * self.spread.log()
        surprise = (
            count * (LOG_2PI + self.noise.log())
            + square / self.noise
            - (moment * mean).sum(1)
            + determinant
        )
        return Fit(mean, root, -0.5 * float(surprise.sum()))

    def log_prior(self, z: Float[Tensor, "I K"]) -> float:
        """log p(features | alpha), their shares integrated out."""
        share = self.alpha / z.shape[1]
        held = self.weight @ z
        n = self.weight.sum()
        beta = torch.lgamma(held + share) + torch.lgamma(n - held + 1) - torch.lgamma(n + 1 + share)
        return float(beta.sum()) + z.shape[1] * math.log(share)

    # ------------------------------------------------------------------ moves of whole features

    def move(self, rng: np.random.Generator) -> "Buffet":
        """Moves that leave p(features | pseudo-observations) as it is."""
        here = self
        score = here.fit(here.z).evidence + here.log_prior(here.z)
        for step in range(2 * MOVES_PER_ROUND):
            feature = int(rng.integers(here.z.shape[1]))
            column, correction = (
                here._relaunched(feature, rng) if step % 2 else here._difference(feature, rng)
            )
            z = here.z.clone()
            z[:, feature] = column
            if torch.equal(z, here.z):
                continue
            fresh = here.fit(z).evidence + here.log_prior(z)
            if math.log(rng.random()) < fresh - score + correction:
                here = replace(here, z=z)
                score = fresh
        return here

    def _difference(self, feature: int, rng: np.random.Generator) -> tuple[Tensor, float]:
        """The feature's symmetric difference with another one, or with the constant: its own
        inverse."""
        other = (feature + 1 + int(rng.integers(self.z.shape[1]))) % (self.z.shape[1] + 1)
        return (self.z[:, feature] - _with_constant(self.z, last=True)[:, other]).abs(), 0.0

    def _relaunched(self, feature: int, rng: np.random.Generator) -> tuple[Tensor, float]:
        """Birth, death, or replacement of a feature; the launch state knows the other features
        alone. Also the log of how often the way back is proposed over how often this way is."""
        before = self.z[:, feature]
        n = len(self.z)
        share = self._launch(feature, int(rng.integers(n)))
        fresh = torch.as_tensor(rng.random(n) < share.cpu().numpy()).double()
        back = float(_log_bernoulli(share, before))
        forth = -float(_log_bernoulli(share, fresh))
        if rng.random() < 0.5:
            return fresh, forth + back
        return (torch.zeros_like(before), back) if bool(before.any()) else (fresh, forth)

    def _launch(self, feature: int, anchor: int) -> Float[Tensor, " I"]:
        """p(item has the feature): two groups of what the other features leave, the first of them
        to begin with the anchor."""
        others = self.z.index_fill(1, torch.tensor([feature]), 0.0)
        residual = self.y - self.known * (_with_constant(others) @ self.fit(others).mean.T)
        on = residual[anchor]
        off = torch.zeros_like(residual[0])
        odds = 0.0
        for _ in range(LAUNCH_SCANS):
            gain = residual @ ((on - off) / self.noise) - self.known @ (
                (on * on - off * off) / (2 * self.noise)
            )
            share = torch.sigmoid(self.weight * gain + odds).clamp(1e-6, 1 - 1e-6)
            on, off = (self._centre(residual, self.weight * part) for part in (share, 1 - share))
            odds = float(torch.logit(share.mean()))
        return share

    def _centre(
        self, residual: Float[Tensor, "I F"], weight: Float[Tensor, " I"]
    ) -> Float[Tensor, " F"]:
        return (weight @ residual) / (weight @ self.known + self.noise / self.spread.square())

    # ------------------------------------------------------------------ shares, alpha, variances

    def draw_shares(self, rng: np.random.Generator) -> tuple[Float[Tensor, "K 2"], float]:
        """log pi_k and log(1 - pi_k), then alpha; in logarithms, for Beta(alpha / K, ...) comes
        close to zero."""
        size = self.z.shape[1]
        held = (self.weight @ self.z).cpu().numpy()
        n = float(self.weight.sum())
        share = self.alpha / size
        log_on = np.log(rng.gamma(held + share + 1)) + np.log(rng.uniform(1e-300, 1, size)) / (
            held + share
        )
        log_off = np.log(rng.gamma(n - held + 1))
        log_pi = np.stack([log_on, log_off], 1) - np.logaddexp(log_on, log_off)[:, None]
        alpha = rng.gamma(GAMMA[0] + size) / (GAMMA[1] - log_pi[:, 0].sum() / size)
        return torch.as_tensor(log_pi), max(float(alpha), 1e-6)

    def draw_noise(
        self, coefficients: Float[Tensor, "F J"], numbers: int, rng: np.random.Generator
    ) -> Float[Tensor, " F"]:
        """Variances of the first ``numbers`` pseudo-observations; those of utilities are 1."""
        residual = self.y - self.known * (_with_constant(self.z) @ coefficients.T)
        shape = NOISE_PRIOR[0] + 0.5 * (self.weight @ self.known)[:numbers]
        rate = NOISE_PRIOR[1] + 0.5 * (self.weight @ residual.square())[:numbers]
        return torch.cat(
            [rate / torch.as_tensor(rng.gamma(shape.cpu().numpy())), self.noise[numbers:]]
        )


def _with_constant(z: Float[Tensor, "I K"], last: bool = False) -> Float[Tensor, "I J"]:
    one = torch.ones(len(z), 1, dtype=torch.float64)
    return torch.cat([z, one] if last else [one, z], 1)


def _without_tail(log_weight: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """The most probable patterns alone, normalised; all others together have the probability
    ``TAIL_PROBABILITY`` at most."""
    ranked, order = log_weight.sort(descending=True)
    kept = order[: int((ranked.exp().cumsum(0) < 1 - TAIL_PROBABILITY).sum()) + 1]
    return torch.full_like(log_weight, -math.inf).scatter(0, kept, log_weight[kept].log_softmax(0))


def _log_bernoulli(share: Float[Tensor, " I"], column: Float[Tensor, " I"]) -> Tensor:
    return torch.where(column > 0, share, 1 - share).log().sum()


# -------------------------------------------------------------------------------------- the density


class Block(NamedTuple):
    """The utilities of one column with levels: its place among them, its levels' codes, and its
    place among pseudo-observations."""

    column: int
    codes: Int[Tensor, " L"]
    place: slice


class IndianBuffetDensity(PosteriorMixture):
    """The predictive density is exact: a sum over all patterns of features, with the coefficients
    integrated out."""

    config_class = IndianBuffet
    patterns: Tensor
    coefficients: Tensor
    noise: Tensor
    log_shares: Tensor
    alpha: Tensor

    def __init__(
        self,
        space: Space,
        config: IndianBuffet,
        structure: dict[str, int] | None = None,
        context_space: Space | None = None,
    ) -> None:
        Density.__init__(self, space, config, structure, context_space)
        most = self.structure["most"]
        self._hold(ProductLayer(space.variables, config.samples * 2**most), config.samples)
        patterns = (torch.arange(2**most)[:, None] >> torch.arange(most) & 1).double()
        self.register_buffer("patterns", patterns, persistent=False)
        self.numbers = len(self.leaves.numeric)
        self.blocks, size = self._blocks()
        self.register_buffer("coefficients", torch.zeros(size, most + 1, dtype=torch.float64))
        self.register_buffer("noise", torch.ones(size, dtype=torch.float64))
        # to begin with nobody has any
        self.register_buffer("log_shares", torch.tensor([[-50.0, 0.0]]).double().repeat(most, 1))
        self.register_buffer("alpha", torch.ones((), dtype=torch.float64))

    @classmethod
    def build(
        cls,
        space: Space,
        config: IndianBuffet,
        data: Event,
        generator: torch.Generator,
        *,
        weight: Tensor | None = None,
        context: Event | None = None,
        context_space: Space | None = None,
    ) -> Self:
        """Units of the numbers from the columns' marginals; to begin with nothing is known of the
        coefficients."""
        weight = torch.ones(data.rows, dtype=torch.float64) if weight is None else weight
        density = cls(space, config, {"most": min(config.most, 2 + data.rows // ROWS_PER_FEATURE)})
        column = LeafLayer(space.variables, 1)
        column.start(data.value, data.mask, weight)
        nothing = torch.zeros(0, len(density.noise))
        with torch.no_grad():
            density.leaves.mean_prior.copy_(column.mean_prior)
            density.leaves.variance_prior.copy_(column.log_scale[:, 0].exp().square())
            density._remember(
                density._buffet(nothing, nothing, torch.zeros(0), density.patterns[:0])
            )
            density.sweeps.zero_()
        return density

    def _blocks(self) -> tuple[list[Block], int]:
        """The utilities of every column with more than one level: categories, then numbers' parts
        (atoms and the continuous one)."""
        atoms = torch.cat(
            [~self.leaves.atoms.isnan(), torch.ones(self.numbers, 1, dtype=torch.bool)], 1
        )
        legal = [*self.leaves.legal, *(atoms if atoms.shape[1] > 1 else [])]
        blocks = []
        size = self.numbers
        for column, levels in enumerate(legal):
            codes = levels.nonzero()[:, 0]
            if len(codes) > 1:
                blocks.append(Block(column, codes, slice(size, size + len(codes))))
                size += len(codes)
        return blocks, size

    # ------------------------------------------------------------------ leaves of every pattern

    def _leaf_parameters(
        self, mean: Float[Tensor, "F P"], variance: Float[Tensor, "F P"]
    ) -> dict[str, Tensor]:
        """Leaves of every pattern; ``variance``: how unsure its means are. It is alike for all
        utilities of a column, so that dividing by the whole standard deviation gives utilities of
        unit variance again."""
        leaves = self.leaves
        numbers = self.numbers
        states = mean.shape[1]
        unit = leaves.variance_prior.sqrt()[:, None]
        scale = (self.noise[:, None] + variance).sqrt()
        table = torch.zeros(
            len(leaves.category), states, leaves.legal.shape[1], dtype=torch.float64
        )
        parts = torch.zeros(numbers, states, leaves.atoms.shape[1] + 1, dtype=torch.float64)
        for column, codes, place in self.blocks:
            home = table[column] if column < len(table) else parts[column - len(table)]
            home[:, codes] = log_wins((mean[place] / scale[place]).T)
        out = {
            "logits": table,
            "mean": leaves.mean_prior[:, None] + unit * mean[:numbers],
            "log_scale": (unit * scale[:numbers]).log(),
        }
        return out | ({"atom_logits": parts} if leaves.atoms.shape[1] else {})

    def _layer(self) -> ProductLayer:
        """Leaves of every pattern, given the coefficients."""
        layer = ProductLayer(self.space.variables, len(self.patterns)).requires_grad_(False)
        mean = self.coefficients @ _with_constant(self.patterns).T
        for name, value in self._leaf_parameters(mean, torch.zeros_like(mean)).items():
            getattr(layer, name).copy_(value)
        return layer

    # ------------------------------------------------------------------ one sweep

    def _sweep(
        self, event: Event, context: Event | None, weight: Tensor, generator: torch.Generator
    ) -> Tensor:
        rng = numpy_stream(generator)
        copies = Copies.of(weight)
        for _ in range(1 if self.sweeps else BURN_IN_ROUNDS):
            buffet = self._round(event, copies, generator, rng)
        self._remember(buffet)
        return torch.tensor(
            -(buffet.fit(buffet.z).evidence + buffet.log_prior(buffet.z)) / float(weight.sum()),
            dtype=torch.float64,
        )

    def _round(
        self, event: Event, copies: Copies, generator: torch.Generator, rng: np.random.Generator
    ) -> Buffet:
        """Patterns and pseudo-observations given coefficients; features; coefficients, variances
        and shares given features."""
        layer = self._layer()
        score = (
            self.patterns @ self.log_shares[:, 0] + (1 - self.patterns) @ self.log_shares[:, 1]
        ) + layer.log_rows(event)
        pattern = categorical(copies.weight[:, None] * score[copies.row], generator)
        y, known = self._pseudo_observations(event.take(copies.row), pattern, layer, generator)
        buffet = self._buffet(y, known, copies.weight, self.patterns[pattern]).move(rng)
        self.coefficients.copy_(buffet.fit(buffet.z).draw(generator))
        self.noise.copy_(buffet.draw_noise(self.coefficients, self.numbers, rng))
        log_shares, alpha = buffet.draw_shares(rng)
        self.log_shares.copy_(log_shares)
        self.alpha.fill_(alpha)
        return replace(buffet, noise=self.noise.clone(), alpha=alpha)

    def _buffet(self, y: Tensor, known: Tensor, weight: Tensor, z: Tensor) -> Buffet:
        spread = torch.where(
            torch.arange(len(self.noise)) < self.numbers, 1.0, UTILITY_DEVIATION
        ).double()
        return Buffet(
            y.double(),
            known.double(),
            weight.double(),
            self.noise.clone(),
            spread,
            z,
            float(self.alpha),
        )

    def _pseudo_observations(
        self,
        event: Event,
        pattern: Int[Tensor, " I"],
        layer: ProductLayer,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "I F"], Float[Tensor, "I F"]]:
        """Unrounded numbers in standard units, and utilities; and which of them are known."""
        number, part = layer.draw_parts(event.value, pattern, generator)
        codes, present = known_parts(self.leaves, event, part)
        y, known = torch.zeros(2, event.rows, len(self.noise), dtype=torch.float64)
        y[:, : self.numbers] = (number - self.leaves.mean_prior) / self.leaves.variance_prior.sqrt()
        known[:, : self.numbers] = present.double()
        means = _with_constant(self.patterns) @ self.coefficients.T
        for column, levels, place in self.blocks:
            seen = (codes[:, column] >= 0).nonzero()[:, 0]
            y[seen, place] = draw_utilities(
                means[:, place],
                pattern[seen],
                torch.searchsorted(levels.to(codes.device), codes[seen, column]),
                generator,
            )
            known[seen, place] = 1.0
        return y * known, known

    def _remember(self, buffet: Buffet) -> None:
        """The predictive density of every pattern as a sample of the posterior, coefficients and
        shares integrated out."""
        fit = buffet.fit(buffet.z)
        design = _with_constant(self.patterns)
        parameters = self._leaf_parameters(fit.mean @ design.T, fit.variance(design))
        share = buffet.alpha / buffet.z.shape[1]
        n = buffet.weight.sum()
        held = (buffet.weight @ buffet.z + share) / (n + 1 + share)
        log_weight = self.patterns @ held.log() + (1 - self.patterns) @ torch.log1p(-held)
        self._keep(_without_tail(log_weight), parameters)

    def _features(self, event: Event) -> Float[Tensor, "B K"]:
        """How surely each row has each feature, by the newest sample."""
        return self._responsibilities(event) @ self.patterns

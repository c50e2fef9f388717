r"""The flow of a cloud's shape: where points lie about their mean, given what is told of them.

    x_s = t x_1 + s x_0,      t = (1 - s) / (1 - b),    x_0 ~ N(0, M^-1),    s from 1 to b
    loss = E || D(x_s; s) - x_1 ||_W^2 / s^2
    dx / d ln s = x - D(x; s) / (1 - b)
    log p(x_b) = log N(x_1; 0, M^-1) + int_{ln b}^0 (d (n - 1) - tr dD/dx / (1 - b)) d ln s

Y. Lipman et al. (2023), Flow matching for generative modeling, in the parametrisation by its
endpoint D; b is the width of the blur at the data. Clouds have the mean zero, so densities are
those of d (n - 1) free directions. The precision of the noise is that of springs along the bonds, M
= k L + e C with the Laplacian L of the graph and the projector C to mean zero (B. Jing et al.
(2023), EigenFold, section 3.1), or e C where there is no graph. Data are turned, or mirrored, onto
their noise (L. Klein, A. Kraemer and F. Noe (2023), Equivariant flow matching): paths are shorter,
and the marginals the same, for noise looks alike in all directions. The norm W weighs differences
of near points: any such norm is least at the conditional mean. A step of the sampler is exact for a
D that is linear in the root of s, through its last two values, and the next value corrects it
without another call of the network:

    x_s' = s' / s x_s + s' / (1 - b) int_{s'}^{s} D / u^2 du

(W. Zhao et al. (2023), UniPC: a unified predictor-corrector framework for fast sampling of
diffusion models). Edits, and models of earlier versions, extrapolate D along the log of t / s in
the steps of C. Lu et al. (2022), DPM-Solver++, equation 17. In nats.

Shape letters: B clouds, N points, D dimensions, K steps.

>>> [round(level, 3) for level in even_levels(3, 0.001)]
[1.0, 0.343, 0.064, 0.001]
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float
from conjoin.nets.equivariant import CloudNet, Told

__all__ = ["SAMPLERS", "CloudFlow", "Springs", "even_levels", "levels_of_noise"]

SAMPLERS = ("corrected", "extrapolated")
LEVEL_POWER = 3  # losses, and steps of log p, are even in this root of the share of noise
# of that root, from the blur at 0 to all noise at 1, where ten steps of a draw begin and end: those
# by which 144 molecules of QM9 that a flow had learned from came nearest to 50 steps
PLACES_OF_STEPS = (1.0, 0.912, 0.816, 0.708, 0.632, 0.507, 0.396, 0.242, 0.126, 0.046, 0.0)
LEAK = 0.07  # of the spring to the mean, beside those along bonds
# weights of differences of points in the loss: by the bonds between them, then of all farther ones
PATH_WEIGHTS = (0.0, 1.0, 0.5, 0.15, 0.05, 0.02, 0.02)
LOG_DEVIATIONS = (-6.0, 2.0)  # of an expected distance, at least and at most
DIRECTIONS_AT_ONCE = 16  # in which a Jacobian is asked
STEPS_BETWEEN_NODES = 4  # of the way of a shape, from one Jacobian to the next


def even_levels(steps: int, blur: float) -> list[float]:
    """K + 1 shares of noise from 1 down to ``blur``, even in a root of them."""
    least = blur ** (1 / LEVEL_POWER)
    return [(1 + step / steps * (least - 1)) ** LEVEL_POWER for step in range(steps + 1)]


def levels_of_noise(steps: int, blur: float) -> list[float]:
    """K + 1 shares of noise from 1 down to ``blur``, where the steps of a draw begin and end."""
    least = blur ** (1 / LEVEL_POWER)
    at = np.linspace(0, 1, steps + 1)
    places = np.interp(at, np.linspace(0, 1, len(PLACES_OF_STEPS)), PLACES_OF_STEPS)
    inner = ((least + places[1:-1] * (1 - least)) ** LEVEL_POWER).tolist()
    return [1.0, *inner, blur]


def _centred(x: Tensor, present: Tensor) -> Tensor:
    there = present[..., None].to(x.dtype)
    mean = (x * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
    return (x - mean) * there


@dataclass(frozen=True)
class Springs:
    """The noise of each cloud: ``root`` (B, N, N) lower triangular, R R^T = M plus the projector to
    the mean, and the identity where there is no point."""

    root: Tensor
    present: Tensor

    @classmethod
    def of(cls, laplacian: Tensor, stiffness: Tensor, anchor: Tensor, present: Tensor) -> "Springs":
        """M = ``stiffness`` (B,) times the Laplacian, plus ``anchor`` (B,) times C."""
        there = present.to(laplacian.dtype)
        count = there.sum(1).clamp_min(1)
        matrix = stiffness[:, None, None] * laplacian + torch.diag_embed(anchor[:, None] * there)
        mean = ((1 - anchor) / count)[:, None, None] * there[:, :, None] * there[:, None]
        return cls(torch.linalg.cholesky(matrix + mean + torch.diag_embed(1 - there)), present)

    def repeat(self, times: int) -> "Springs":
        """Each cloud so many times, one copy of all after the other."""
        return Springs(self.root.repeat(times, 1, 1), self.present.repeat(times, 1))

    def draw(self, noise: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Noise of these springs from independent standard normal numbers."""
        loose = torch.linalg.solve_triangular(self.root.mT, noise.to(self.root), upper=True)
        return _centred(loose, self.present)

    def log_prob(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, " B"]:
        """In the free directions; nats."""
        dimensions = x.shape[2]
        free = dimensions * (self.present.sum(1) - 1).clamp_min(0)
        energy = (self.root.mT @ x).square().sum((1, 2))
        volume = dimensions * self.root.diagonal(dim1=1, dim2=2).log().sum(1)
        return volume - 0.5 * energy - 0.5 * LOG_2PI * free


def turned(x: Float[Tensor, "B N D"], onto: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
    """The clouds turned, and mirrored where that is nearer, onto others (W. Kabsch (1976))."""
    left, _, right = torch.linalg.svd(x.mT @ onto)
    return x @ (left @ right)


class CloudFlow(nn.Module):
    """p(shape | told) by a network; ``blur`` is the share of noise that is left at the data."""

    def __init__(
        self, net: CloudNet, blur: float, steps: int, solver: int, sampler: str = "corrected"
    ) -> None:
        super().__init__()
        self.net = net
        self.blur = blur
        self.steps = steps
        self.solver = solver
        self.sampler = sampler

    # ------------------------------------------------------------------ learning

    def losses(
        self,
        x: Float[Tensor, "B N D"],
        told: Told,
        springs: Springs,
        weight: Float[Tensor, "B N N"],
        repeats: int,
        align: bool,
        generator: torch.Generator | None,
    ) -> Float[Tensor, " B"]:
        """The squared error of the endpoint in the norm of ``weight``, each cloud with several
        noises."""
        rows = len(x) * repeats
        noise = torch.randn(rows, *x.shape[1:], generator=generator, dtype=torch.float64)
        start = springs.repeat(repeats).draw(noise)
        end = x.repeat(repeats, 1, 1)
        end = turned(end, start) if align else end
        even = torch.arange(rows) + torch.rand(rows, generator=generator)
        place = even[torch.randperm(rows, generator=generator)] / rows
        least = self.blur ** (1 / LEVEL_POWER)
        share = ((1 + place * (least - 1)) ** LEVEL_POWER).to(x)
        clean = (1 - share) / (1 - self.blur)
        at = clean[:, None, None] * end + share[:, None, None] * start
        off = (self.net.compute(at, share, told.repeat(repeats)) - end) / share[:, None, None]
        norm = torch.diag_embed(weight.sum(2)) - weight
        count = told.present.sum(1).clamp_min(1).repeat(repeats)
        error = (off * (norm.repeat(repeats, 1, 1) @ off)).sum((1, 2)) / count
        return error.unflatten(0, (repeats, -1)).mean(0)

    # ------------------------------------------------------------------ drawing

    def draw(
        self,
        told: Told,
        springs: Springs,
        noise: Float[Tensor, "B N D"],
        first: float = 1.0,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Clouds from standard normal numbers. ``kept``: which points (B, N) stay, and clouds
        (B, N, D) in which they have their places; ``first``: the share of noise with which these
        begin."""
        if kept is None and self.sampler == "corrected":
            return self._corrected(told, springs.draw(noise))
        net = self.net
        pairs = net.pairs_of(told)
        start = springs.draw(noise)
        levels = [first * level for level in even_levels(self.steps, self.blur / first)]
        x = start if kept is None else self._mixed(kept[1], start, first)
        before: tuple[float, Tensor] | None = None
        for level, then in pairwise(levels):
            if kept is not None:
                x = _kept(x, self._mixed(kept[1], start, level), kept[0], told.present)
            found = net.compute(x, x.new_full((len(x),), level), told, pairs)
            ahead = found if before is None else found + before[0] * (found - before[1])
            own = (x - (1 - level) / (1 - self.blur) * ahead) / level
            x = (1 - then) / (1 - self.blur) * ahead + then * own
            before = (self._lead(level, then, levels), found)
        return x if kept is None else _kept(x, kept[1], kept[0], told.present)

    def _corrected(self, told: Told, x: Tensor) -> Float[Tensor, "B N D"]:
        """Clouds from noise ``x``, in steps that the next call of the network corrects."""
        pairs = self.net.pairs_of(told)
        before: tuple[float, Tensor] | None = None
        began = x
        for level, then in pairwise(levels_of_noise(self.steps, self.blur)):
            now = (level, self.net.compute(x, x.new_full((len(x),), level), told, pairs))
            if before is not None:
                x = self._moved(began, before[0], level, before, now)
            began = x
            x = self._moved(x, level, then, now, before)
            before = now
        return x

    def _moved(
        self,
        x: Tensor,
        level: float,
        then: float,
        one: tuple[float, Tensor],
        other: tuple[float, Tensor] | None,
    ) -> Tensor:
        """x from one share of noise to the next, by D at two levels, or at one, where it stays."""
        part = 0.0 if other is None else _part_of(other[0], one[0], level, then)
        ahead = (1 - then / level - part) * one[1]
        if other is not None:
            ahead = ahead + part * other[1]
        return then / level * x + ahead / (1 - self.blur)

    def _mixed(self, x: Tensor, noise: Tensor, level: float) -> Tensor:
        return (1 - level) / (1 - self.blur) * x + level * noise

    def _lead(self, level: float, then: float, levels: list[float]) -> float:
        """By how much of its last change the endpoint is moved in the step that begins at
        ``then``: half the ratio of the steps, in the log of t / s."""
        place = levels.index(then)
        if place + 1 >= len(levels) or level >= 1.0:
            return 0.0
        now = _log_ratio(levels[place + 1], self.blur) - _log_ratio(then, self.blur)
        last = _log_ratio(then, self.blur) - _log_ratio(level, self.blur)
        return 0.5 * now / last

    # ------------------------------------------------------------------ log p

    def log_prob(
        self, x: Float[Tensor, "B N D"], told: Told, springs: Springs
    ) -> Float[Tensor, " B"]:
        """log p of shapes with the mean zero; nats in the free directions. The way of a shape comes
        from the classical Runge-Kutta method, whose steps are cheap, and the integral of the trace
        along it from Gauss's rule, each of whose nodes asks for a whole Jacobian."""
        pairs = self.net.pairs_of(told)
        free = x.shape[2] * (told.present.sum(1) - 1).clamp_min(0)
        change = x.new_zeros(len(x))
        before = self.blur ** (1 / LEVEL_POWER)
        for root, weight in self._nodes():
            x = self._carried(x, before, root, told, pairs)
            trace = self._trace(x, root**LEVEL_POWER, told, pairs)
            # d ln s = power du / u
            change = change + weight * LEVEL_POWER / root * (free - trace / (1 - self.blur))
            before = root
        x = self._carried(x, before, 1.0, told, pairs)
        return springs.log_prob(_centred(x, told.present)) + change

    def _nodes(self) -> list[tuple[float, float]]:
        """Gauss's nodes and weights, in the root of the share of noise from the blur to 1."""
        least = self.blur ** (1 / LEVEL_POWER)
        nodes, weights = np.polynomial.legendre.leggauss(self.solver)
        half = (1 - least) / 2
        places = least + half * (nodes + 1)
        return list(zip(places.tolist(), (half * weights).tolist(), strict=True))

    def _carried(
        self, x: Tensor, root: float, then: float, told: Told, pairs: list[Tensor]
    ) -> Tensor:
        """The shapes taken along their way from one root of the share of noise to another."""

        def slope(root: float, at: Tensor) -> Tensor:
            noise = at.new_full((len(at),), root**LEVEL_POWER)
            found = self.net.compute(at, noise, told, pairs)
            return LEVEL_POWER / root * (at - found / (1 - self.blur))

        width = (then - root) / STEPS_BETWEEN_NODES
        for step in range(STEPS_BETWEEN_NODES):
            at = root + step * width
            one = slope(at, x)
            two = slope(at + width / 2, x + width / 2 * one)
            three = slope(at + width / 2, x + width / 2 * two)
            four = slope(at + width, x + width * three)
            x = x + width / 6 * (one + 2 * two + 2 * three + four)
        return x

    def _trace(
        self, x: Tensor, level: float, told: Told, pairs: list[Tensor]
    ) -> Float[Tensor, " B"]:
        """The trace of the Jacobian of D in the free directions."""
        noise = x.new_full((len(x),), level)
        size = x.shape[1] * x.shape[2]
        every = torch.eye(size, dtype=x.dtype).unflatten(1, x.shape[1:])[:, None]
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            found = self.net.compute(at, noise, told, pairs)
            trace = x.new_zeros(len(x))
            for some in every.split(DIRECTIONS_AT_ONCE):
                along = some.expand(-1, *x.shape)
                rows = torch.autograd.grad(
                    found, at, along, retain_graph=True, is_grads_batched=True
                )[0]
                trace = trace + (rows * some * told.present[..., None]).sum((0, 2, 3))
        # a move of the whole cloud moves D alike, and is none of the free directions
        whole = x.shape[2] * (told.present.sum(1) > 0)
        return trace - whole


def _part_of(node: float, other: float, level: float, then: float) -> float:
    """What D at ``node`` is worth in a step from ``level`` to ``then``, if D is linear in the root
    of the share of noise through its values at ``node`` and at ``other``."""

    def integral(at: float) -> float:
        return math.sqrt(other) / at - 2 / math.sqrt(at)

    apart = math.sqrt(node) - math.sqrt(other)
    return then * (integral(level) - integral(then)) / apart


def _log_ratio(level: float, blur: float) -> float:
    return math.log((1 - level) / (1 - blur) / level)


def _kept(x: Tensor, wanted: Tensor, which: Tensor, present: Tensor) -> Tensor:
    """The clouds moved to where ``which`` (B, N) are wanted, and these put there."""
    there = which[..., None].to(x.dtype)
    count = there.sum(1, keepdim=True).clamp_min(1)
    shift = ((wanted - x) * there).sum(1, keepdim=True) / count
    return torch.where(which[..., None], wanted, (x + shift) * present[..., None])


def drawing_flow(flow: CloudFlow) -> CloudFlow:
    """The same flow in float32."""
    return copy.deepcopy(flow).float()

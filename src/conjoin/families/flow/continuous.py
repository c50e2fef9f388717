r"""Continuous flow: noise is carried to data along a velocity field, learned by regression and
never simulated in training.

    x_t = (1 - (1 - s) t) x_0 + t x_1,     x_0 ~ N(0, 1),  x_1 ~ data
    loss = E || v(x_t, t) - (x_1 - (1 - s) x_0) ||^2
    log p(x_1) = log N(x_0; 0, 1) - int_0^1 tr(dv / dx) dt      along  dx / dt = v(x, t)

Y. Lipman, R. Chen, H. Ben-Hamu, M. Nickel and M. Le (2023), Flow matching for generative modeling,
equations 21 to 23 and 3; the change of log p: R. Chen, Y. Rubanova, J. Bettencourt and D. Duvenaud
(2018), Neural ordinary differential equations, equation 8. s is the width of the blur around each
row. The equation is solved by the classical Runge-Kutta method with fixed steps; the trace is exact
up to 32 numbers, and Hutchinson's estimate beyond (W. Grathwohl et al. (2019), FFJORD, equation 7).
``solver_error`` says how far off both may be, in nats: with ten steps of two columns that form two
half moons .003 a row on the average and .03 at most, so log p is approximate. Classes and coded
columns are context: see ``parts``.

Shape letters: B rows, M smooth numbers, C inputs of the context, Q probes of the trace.

>>> from conjoin.core import Space, Variable
>>> data = Event(torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(-1, 2))
>>> space = Space((2,), (Variable("a", "real"), Variable("b", "real")))
>>> density = MatchedDensity.build(space, FlowMatching(), data, torch.Generator().manual_seed(0))
>>> first = data.take(slice(0, 1))
>>> density.log_prob(first).shape  # of a normal distribution with the columns' means and scales
torch.Size([1])
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from conjoin.core import Capabilities, Event, Likelihood, stream
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float
from conjoin.families.deep import PatientConfig
from conjoin.families.flow.parts import PartsDensity
from conjoin.nets.body import Body

__all__ = ["FlowMatching", "MatchedDensity", "Velocity", "runge_kutta"]

MAX_EXACT_TRACE_NUMBERS = 32  # numbers up to which the trace is exact
# standard deviations at which the network's view of a number levels off
SATURATION_DEVIATIONS = 8.0
TIME_FEATURES = 8  # features of the time
JUDGED_PATHS = 32  # of each validation row, at most so many in all
JUDGED_ROW_PATHS = 8192


@dataclass(frozen=True)
class FlowMatching(PatientConfig):
    """Settings of the continuous flow.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 256
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    width : int or None, default None
        Hidden units of a layer; None takes them from the number of rows.
    blocks : int, default 2
        Residual blocks of the network.
    dropout : float, default 0.0
        Share of hidden units left out in a training step.
    blur : float, default 0.02
        Standard deviation of a path's noise at the data, in standard deviations of a column.
    paths : int, default 4
        Paths drawn for each row in a step.
    solver : int, default 10
        Steps of the differential equation.
    probes : int, default 8
        Random vectors that estimate the trace of the Jacobian.
    noise : int, default 4
        Draws inside a recorded cell for each row.
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None: 1,500, and 3,000 of up to three columns of
        which one is a number.
    """

    width: int | None = None
    blocks: int = 2
    dropout: float = 0.0
    blur: float = 0.02
    paths: int = 4
    solver: int = 10
    probes: int = 8
    noise: int = 4
    batch: int = 256
    rate: float = 3e-3

    passes: ClassVar[tuple[int, int, int]] = (300, 1500, 6000)
    of_few: ClassVar[dict[str, Any]] = {"min_steps": 3000}


class MatchedDensity(PartsDensity):
    """log p by solving an equation: off by the solver's error to either side, up to 32 numbers; a
    Monte-Carlo estimate beyond."""

    config_class = FlowMatching

    @property
    def network(self) -> "Velocity":
        assert isinstance(self.flow, Velocity)
        return self.flow

    def _flow(self, size: int, context: int) -> Body:
        c = self.config
        return Velocity(size, context, self.structure["width"], c.blocks, c.blur, c.dropout)

    @property
    def estimated(self) -> bool:
        """Whether the trace is estimated: then log p is right on the average, and no more."""
        return len(self.smooth) > MAX_EXACT_TRACE_NUMBERS

    @property
    def capabilities(self) -> Capabilities:
        rough = self.cells or self.estimated
        # nothing is solved where all columns are coded
        plain = Likelihood.APPROXIMATE if len(self.smooth) else Likelihood.EXACT
        return self._able(
            likelihood=Likelihood.LOWER_BOUND if rough else plain,
            objective="surrogate",
            stochastic=rough,
        )

    def _smooth_objective(
        self, z: Float[Tensor, "B M"], seen: Float[Tensor, "B C"], generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """Squared error of the velocity at random times of each row's paths from noise; rows are
        judged on more of them, so that the best weights are no matter of luck."""
        judged = min(JUDGED_PATHS, JUDGED_ROW_PATHS // max(len(z), 1))
        paths = self.config.paths if self.training else max(self.config.paths, judged)
        shrink = 1 - self.config.blur
        z = z.repeat(paths, 1)
        seen = seen.repeat(paths, 1)
        start = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        even = torch.arange(len(z)) / len(z) + torch.rand(
            (), generator=generator, dtype=torch.float64
        )
        time = clock(even[torch.randperm(len(z), generator=generator)] % 1.0)
        at = (1 - shrink * time)[:, None] * start + time[:, None] * z
        error = self.network(at, time, seen) - (z - shrink * start)
        return (error**2).sum(1).reshape(paths, -1).mean(0)

    def _log_smooth(
        self, z: Float[Tensor, "N M"], seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, " N"]:
        return self._solve(z, seen, self.config.solver, self._probes(generator))

    def _probes(self, generator: torch.Generator | None) -> Float[Tensor, "Q M"]:
        """Directions whose sum of u' J u is the trace, or estimates it: all rows share them."""
        if not self.estimated:
            return torch.eye(len(self.smooth), dtype=torch.float64)
        shape = (self.config.probes, len(self.smooth))
        sign = (
            torch.randint(0, 2, shape, generator=generator or stream(0, "probes")).double() * 2 - 1
        )
        return sign / self.config.probes**0.5

    def _solve(
        self,
        z: Float[Tensor, "N M"],
        seen: Float[Tensor, "N C"],
        steps: int,
        probes: Float[Tensor, "Q M"],
    ) -> Float[Tensor, " N"]:
        """Back along the path from data (time 1) to noise (time 0), the trace beside it."""

        def slope(state: Tensor, turn: float) -> Tensor:
            velocity, trace = self.network.with_trace(state[:, :-1], clock(turn), seen, probes)
            return pace(turn) * torch.cat([velocity, trace[:, None]], 1)

        end = runge_kutta(slope, torch.cat([z, z.new_zeros(len(z), 1)], 1), 1.0, 0.0, steps)
        # the integral from 1 to 0: minus that from 0 to 1
        start = end[:, :-1]
        change = end[:, -1]
        return change - 0.5 * (start * start + LOG_2PI).sum(1)

    def _draw_smooth(
        self, seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, "N M"]:
        noise = torch.randn(len(seen), len(self.smooth), generator=generator, dtype=torch.float64)

        def slope(state: Tensor, turn: float) -> Tensor:
            found: Tensor = self.network(
                state, torch.full((len(state),), clock(turn), dtype=torch.float64), seen
            )
            return pace(turn) * found

        return runge_kutta(slope, noise, 0.0, 1.0, self.config.solver)

    @torch.no_grad()
    def solver_error(
        self, event: Event, context: Event | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Nats per row: how much log p moves where the solver takes twice as many steps, and the
        standard error of the trace over its probes (0 where the trace is exact). Of complete rows,
        at the middles of their cells."""
        value = self.space.check(event).value
        seen = self._seen(
            value, self.context(len(value), None if context is None else context.value)
        )
        z = self._standardise(value, torch.tensor(0.5))
        probes = self._probes(None)
        steps = self.config.solver
        halving = (
            self._solve(z, seen, 2 * steps, probes) - self._solve(z, seen, steps, probes)
        ).abs()
        if not self.estimated:
            return halving, torch.zeros_like(halving)
        each = torch.stack(
            [self._solve(z, seen, steps, probe[None] * len(probes) ** 0.5) for probe in probes]
        )
        return halving, each.std(0) / len(probes) ** 0.5


def clock(turn: Any) -> Any:
    """The time t = u (2 - u): steps of equal length in u grow shorter where noise becomes data, and
    the field is steep."""
    return turn * (2 - turn)


def pace(turn: float) -> float:
    """dt / du."""
    return 2 * (1 - turn)


def runge_kutta(
    slope: Callable[[Tensor, float], Tensor], state: Tensor, start: float, end: float, steps: int
) -> Tensor:
    """The state at ``end``, by the classical method of order four (W. Kutta (1901), p. 443)."""
    h = (end - start) / steps
    for index in range(steps):
        time = start + index * h
        a = slope(state, time)
        b = slope(state + h / 2 * a, time + h / 2)
        c = slope(state + h / 2 * b, time + h / 2)
        d = slope(state + h * c, time + h)
        state = state + h / 6 * (a + 2 * b + 2 * c + d)
    return state


class Velocity(Body):
    """v(x, t): what it would be if the data were standard normal, and a residual network, which
    starts at zero."""

    def __init__(
        self, size: int, context: int, width: int, blocks: int, blur: float, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.blur = blur
        self.drop = drop
        self.first = nn.Linear(size, width)
        self.given = nn.Linear(TIME_FEATURES + context, width, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(blocks)
        )
        self.last = nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.double()

    @property
    def pairs(self) -> list[tuple[nn.Linear, nn.Linear]]:
        return [(block[0], block[1]) for block in self.blocks]  # type: ignore[index,misc]

    def compute(
        self, x: Float[Tensor, "B M"], time: Float[Tensor, " B"], seen: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B M"]:
        return self._velocity(x, self._given(time, seen), self._pull(time)[:, None])

    def _pull(self, time: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """d log std(x_t) / dt for standard normal data: what multiplies x."""
        shrink = 1 - self.blur
        spread = 1 - shrink * time
        return (time - shrink * spread) / (time * time + spread * spread)

    def _given(self, time: Float[Tensor, " B"], seen: Float[Tensor, "B C"]) -> Float[Tensor, "B W"]:
        # the inverse of ``clock``: smooth in what the solver steps along
        turn = 1 - (1 - time).clamp_min(0).sqrt()
        angle = math.pi * turn[:, None] * torch.arange(TIME_FEATURES).to(seen)
        out: Tensor = self.given(torch.cat([angle.cos(), seen], 1))
        return out

    def _velocity(self, x: Tensor, given: Tensor, pull: Tensor) -> Tensor:
        h = self.first(SATURATION_DEVIATIONS * torch.tanh(x / SATURATION_DEVIATIONS)) + given
        for before, after in self.pairs:
            h = h + after(dropout(silu(before(silu(h))), self.drop, self.training))
        return pull * x + self.last(silu(h))

    def with_trace(
        self,
        x: Float[Tensor, "B M"],
        time: float,
        seen: Float[Tensor, "B C"],
        probes: Float[Tensor, "Q M"],
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, " B"]]:
        """v, and the sum over probes of u' (dv / dx) u: ``along`` is dh / dx times each probe,
        carried forward beside h."""
        x, seen, probes = self.cast(x, seen, probes)
        clock = x.new_full((1,), time)
        given = self._given(clock.expand(len(x)), seen)
        pull = self._pull(clock)
        near = torch.tanh(x / SATURATION_DEVIATIONS)
        h = self.first(SATURATION_DEVIATIONS * near) + given
        along = ((1 - near * near) * probes[:, None]) @ self.first.weight.T  # (Q, B, W)
        for before, after in self.pairs:
            between = before(silu(h))
            along = (
                along
                + (_silu_slope(between) * ((_silu_slope(h) * along) @ before.weight.T))
                @ after.weight.T
            )
            h = h + after(silu(between))
        trace = pull * (probes * probes).sum() + (
            _silu_slope(h) * along * (probes @ self.last.weight)[:, None]
        ).sum((0, 2))
        return (pull * x + self.last(silu(h))).double(), trace.double()


def _silu_slope(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))

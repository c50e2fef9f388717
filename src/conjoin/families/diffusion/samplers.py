r"""Ways back from noise: ancestral, DDIM and Heun steps, repainting, and the likelihood of the
flow.

    ancestral   z_s = alpha_s ((1 - k) z_t / alpha_t + k x) + sigma_s sqrt(k) eps,
                k = 1 - snr_t / snr_s
    DDIM        z_s = alpha_s x + sigma_s e,
                x = alpha_t z - sigma_t v,  e = sigma_t z + alpha_t v
    flow        dz / d lambda = - alpha sigma v / 2,
                log p(c) = log N(z_bottom) + int tr(dv / dz) alpha sigma / 2 d lambda

J. Ho, A. Jain and P. Abbeel (2020), algorithm 2, in the form of D. Kingma et al. (2021), equation
33; J. Song, C. Meng and S. Ermon (2021), Denoising diffusion implicit models, equation 12; Y. Song
et al. (2021), Score-based generative modeling through stochastic differential equations, equations
39 and 40, whose linear part is solved here: a network that says v = 0 leaves z where it is. Heun's
second-order steps along it are those of T. Karras et al. (2022), algorithm 1. A code that is
absorbed comes back between t and s with probability 1 - s / t. The likelihood is in nats.

Shape letters: B rows, N numbers, C codes.

>>> [round(time, 2) for time in times(4)]
[1.0, 0.75, 0.5, 0.25, 0.0]
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.core import Event
from conjoin.core.constants import LOG_2PI
from conjoin.core.shapes import Float
from conjoin.families.diffusion.mixed import Mixed
from conjoin.families.diffusion.numbers import alpha_sigma

__all__ = ["SAMPLERS", "Drawn", "flow_log_prob", "paint", "times"]

SAMPLERS = ("ancestral", "ddim", "heun")


class Drawn(NamedTuple):
    """Rows, and how often the network was called for them."""

    value: Tensor
    calls: int


class _State(NamedTuple):
    """Rows on their way: numbers z (B, N), codes (B, C), and which codes are back."""

    z: Tensor
    codes: Tensor
    known: Tensor


def times(steps: int) -> list[float]:
    """From noise (1) to data (0)."""
    return [1 - step / steps for step in range(steps + 1)]


class _Walk:
    """One network, one class per row, one generator; counts its calls."""

    def __init__(
        self, mixed: Mixed, label: Tensor | None, sampler: str, generator: torch.Generator | None
    ) -> None:
        if sampler not in SAMPLERS:
            raise ValueError(f"There is no sampler {sampler!r}; choose from {', '.join(SAMPLERS)}.")
        self.mixed = mixed
        self.label = label
        self.sampler = sampler
        self.generator = generator
        self.calls = 0

    def ask(self, time: float, state: _State) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.mixed.guided(time, *state, self.label)

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64)

    def begin(self, rows: int) -> _State:
        z = self.noise(torch.empty(rows, len(self.mixed.number)))
        codes = torch.zeros(rows, len(self.mixed.code), dtype=torch.float64)
        return _State(z, codes, torch.zeros_like(codes, dtype=torch.bool))

    def step(self, state: _State, time: float, then: float) -> _State:
        params, logits = self.ask(time, state)
        v = params[..., 0]
        after = self._uncovered(state, logits, 1 - then / time)
        at, to = (self._ratio(moment) for moment in (time, then))
        if self.sampler == "ancestral":
            return after._replace(z=ancestral(state.z, v, at, to, self.noise(v)))
        # as algorithm 1 ends: at the last step there is nothing left to correct
        if self.sampler == "ddim" or then == 0:
            return after._replace(z=ddim(state.z, v, at, to))
        guess = after._replace(z=state.z + (to - at) * _flow(v, at))
        again = self.ask(then, guess)[0][..., 0]
        return after._replace(z=state.z + 0.5 * (to - at) * (_flow(v, at) + _flow(again, to)))

    def _ratio(self, time: float) -> Tensor:
        return self.mixed.numbers.log_ratio(torch.tensor(time, dtype=torch.float64))

    def _uncovered(self, state: _State, logits: Tensor, share: float) -> _State:
        """Each absorbed code comes back with probability ``share``."""
        if not len(self.mixed.code):
            return state
        fresh = self.mixed.heads.sample(logits, self.generator)
        back = torch.rand(state.known.shape, generator=self.generator, dtype=torch.float64) < share
        return state._replace(
            codes=torch.where(state.known, state.codes, fresh), known=state.known | back
        )

    def end(self, state: _State) -> Float[Tensor, "B D"]:
        value = state.z.new_zeros(len(state.z), len(self.mixed.number) + len(self.mixed.code))
        params = (
            self.ask(0.0, state)[0] if self.mixed.numbers.recorded.any() else state.z[..., None]
        )
        value[:, self.mixed.number] = self.mixed.numbers.decode(state.z, params, self.generator)
        value[:, self.mixed.code] = state.codes
        return value


def ancestral(
    z: Float[Tensor, "*B N"], v: Float[Tensor, "*B N"], at: Tensor, to: Tensor, noise: Tensor
) -> Float[Tensor, "*B N"]:
    """z at the log-ratio ``to``, drawn given z and v at ``at``."""
    (alpha, sigma) = alpha_sigma(at)
    (alpha_to, sigma_to) = alpha_sigma(to)
    kept = -torch.expm1(at - to)
    return (
        alpha_to * ((1 - kept) * z / alpha + kept * (alpha * z - sigma * v))
        + sigma_to * kept.sqrt() * noise
    )


def ddim(
    z: Float[Tensor, "*B N"], v: Float[Tensor, "*B N"], at: Tensor, to: Tensor
) -> Float[Tensor, "*B N"]:
    """z at the log-ratio ``to``: the data and the noise that v tells, mixed anew."""
    (alpha, sigma) = alpha_sigma(at)
    (alpha_to, sigma_to) = alpha_sigma(to)
    return alpha_to * (alpha * z - sigma * v) + sigma_to * (sigma * z + alpha * v)


def _flow(v: Tensor, log_ratio: Tensor) -> Tensor:
    """dz / d lambda."""
    alpha, sigma = alpha_sigma(log_ratio)
    return -0.5 * alpha * sigma * v


def paint(
    mixed: Mixed,
    rows: int,
    label: Tensor | None,
    generator: torch.Generator | None,
    *,
    steps: int,
    sampler: str = "ancestral",
    given: Event | None = None,
    repeats: int = 1,
) -> Drawn:
    """New rows; or, with ``given``, its rows with the missing cells painted in (A. Lugmayr et al.
    (2022), RePaint, algorithm 1): known numbers are noised to each step's level, and each step is
    taken ``repeats`` times, with a step back between."""
    walk = _Walk(mixed, label, sampler, generator)
    state = walk.begin(rows)
    schedule = times(steps)
    for time, then in pairwise(schedule):
        for again in range(repeats):
            before = state if again == 0 or given is None else _back(walk, state, time, then)
            state = walk.step(_kept(walk, before, given, time), time, then)
    state = _kept(walk, state, given, 0.0)
    value = walk.end(state)
    return Drawn(
        value if given is None else torch.where(given.mask, given.value, value), walk.calls
    )


def _kept(walk: _Walk, state: _State, given: Event | None, time: float) -> _State:
    """The state with what is known in its place: numbers at this level of noise, codes in the
    clear."""
    if given is None:
        return state
    number = walk.mixed.number
    code = walk.mixed.code
    alpha, sigma = alpha_sigma(walk._ratio(time))
    noised = alpha * walk.mixed.numbers(given.value[:, number]) + sigma * walk.noise(state.z)
    sure = given.mask[:, code]
    codes = torch.where(sure, given.value[:, code], state.codes)
    return _State(torch.where(given.mask[:, number], noised, state.z), codes, state.known | sure)


def _back(walk: _Walk, state: _State, time: float, then: float) -> _State:
    """From ``then`` to the noisier ``time``: numbers by fresh noise, codes absorbed again."""
    ratio = alpha_sigma(walk._ratio(time))[0] / alpha_sigma(walk._ratio(then))[0]
    gone = torch.rand(state.known.shape, generator=walk.generator, dtype=torch.float64) < (
        time - then
    ) / max(1 - then, 1e-9)
    return state._replace(
        z=ratio * state.z + (1 - ratio**2).sqrt() * walk.noise(state.z), known=state.known & ~gone
    )


def flow_log_prob(
    mixed: Mixed, value: Float[Tensor, "B N"], label: Tensor | None, steps: int
) -> Float[Tensor, " B"]:
    """log p of the flow, for numbers that all have a density: midpoint steps, the trace by one
    derivative per column."""
    with torch.enable_grad():
        z = mixed.numbers(value).detach()
        gained = value.new_zeros(len(value))
        schedule = times(steps)[::-1]
        for time, then in pairwise(schedule):
            middle = 0.5 * (time + then)
            half, _ = _velocity(mixed, z, time, label)
            speed, trace = _velocity(mixed, z + 0.5 * (then - time) * half, middle, label)
            z = z + (then - time) * speed
            gained = gained + (then - time) * trace
    jacobian = mixed.numbers.log_base(value) + 0.5 * (mixed.numbers(value) ** 2 + LOG_2PI)
    return (jacobian - 0.5 * (z**2 + LOG_2PI)).sum(1) + gained


def _velocity(
    mixed: Mixed, z: Float[Tensor, "B N"], time: float, label: Tensor | None
) -> tuple[Float[Tensor, "B N"], Float[Tensor, " B"]]:
    """dz / dt and its divergence."""
    z = z.detach().requires_grad_()
    times = torch.full((len(z),), time, dtype=torch.float64)
    codes = z.new_zeros(len(z), 0)
    v = mixed.outputs(times, z, codes, torch.ones_like(codes, dtype=torch.bool), label)[0][..., 0]
    speed = -mixed.numbers.rate(times) * _flow(v, mixed.numbers.log_ratio(times))
    columns: list[Any] = [
        torch.autograd.grad(speed[:, d].sum(), z, retain_graph=True)[0][:, d]
        for d in range(z.shape[1])
    ]
    return speed.detach(), torch.stack(columns).sum(0).detach()

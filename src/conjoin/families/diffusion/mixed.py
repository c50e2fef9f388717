r"""Numbers that drown in noise beside codes that are absorbed, at the same time: one network undoes
both.

    v = alpha eps - sigma c,       z = alpha c + sigma eps
    log p(x) >= log N(c) dc/dx  +  1/2 int E alpha^2 (|v|^2 - |v - v(z, t)|^2) d lambda
    (numbers that have a density)
              + E_u sum_c log p(code_c | z at t = u_c, the codes with u > u_c)
              (codes, absorbed at times u)

At time t each code is left with probability 1 - t, in the integral too, so that there the network
also sees rows whose codes are all known. The integral is D. Kingma et al. (2021), Variational
diffusion models, equation 17, less the same for a network that says nothing, whose own bound is
known: it is the Gaussian. So noise enters only through what the network adds (X. Kong, R.
Brekelmans and G. Ver Steeg (2023), Information-theoretic diffusion, equation 10). A recorded number
counts E log P(cell | z_0) - KL(q(z_0 | x) || N(0, 1)) instead of the Gaussian. v is that of T.
Salimans and J. Ho (2022), Progressive distillation, appendix D; at unit variance it is the
preconditioning of T. Karras et al. (2022), Elucidating the design space of diffusion-based
generative models, table 1. Codes: J. Austin et al. (2021); both together: A. Kotelnikov et al.
(2023), TabDDPM. All in nats.

Shape letters: B rows, D variables (N numbers, C codes), S network calls, F inputs, W outputs of a
variable.

>>> noise = Noise.of_codes(8, 2, 3, stream(0))
>>> noise.time.shape, noise.eps.shape, noise.known.shape
(torch.Size([6]), torch.Size([6, 2]), torch.Size([6, 3]))
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import roots_genlaguerre
from scipy.stats import qmc
from torch import Tensor, nn
from torch.special import ndtri

from conjoin.core import Event, Space, Variable, stream
from conjoin.core.random import draw_seed
from conjoin.core.shapes import Bool, Float
from conjoin.families.diffusion.network import CellNetwork, drop_class, guided
from conjoin.families.diffusion.numbers import Numbers, alpha_sigma
from conjoin.nets.body import ContextEmbedding, time_features
from conjoin.nets.heads import MAX_CATEGORICAL_LEVELS, Heads, as_number
from conjoin.nets.inputs import Inputs

__all__ = ["Mixed", "Noise", "is_code"]

# features of the time, and octaves of sines of a number
TIME_FEATURES = 16
WAVES = 4
MAX_ROW_CALLS = 4096  # rows times calls that the network sees at once
# how much denser the times are in the middle, where numbers take shape, than they would be evenly
MIDDLE_DENSITY = 0.6
# calls for the numbers of a row where the config leaves them open: the noise of a bound falls with
# the number of columns, so that few columns need more of them
CALLS_OF_ALL_NUMBERS = 256
MIN_CALLS = 32
MAX_CALLS = 128
RADII = 2  # lengths of the noise at each time of a bound
# draws of the noise for each row when validation rows are judged, at most so many in all
JUDGED_DRAWS = 32
JUDGED_ROW_DRAWS = 4096


def is_code(variable: Variable) -> bool:
    """Whether a column is absorbed rather than drowned: categories, and ordered levels that are
    few."""
    return variable.discrete and (
        variable.kind == "category" or variable.cardinality <= MAX_CATEGORICAL_LEVELS
    )


def _latin(points: int, dims: int, generator: torch.Generator) -> Float[Tensor, "S N"]:
    """Points in the unit cube, one in each of S slices of every axis (M. McKay, R. Beckman and W.
    Conover (1979), section 2)."""
    slices = torch.rand(points, dims, generator=generator, dtype=torch.float64).argsort(0)
    uniform = (slices + torch.rand(points, dims, generator=generator, dtype=torch.float64)) / points
    return uniform.clamp(1e-9, 1 - 1e-9)


def _sobol(points: int, dims: int, generator: torch.Generator) -> Float[Tensor, "S N"]:
    """Points that are even in the cube, not in each axis alone (I. Sobol (1967)), scrambled by
    chance (A. Owen (1997)): without bias, and products of the axes are summed nearly exactly."""
    engine = qmc.Sobol(dims, scramble=True, seed=np.random.default_rng(draw_seed(generator)))
    even = engine.random_base2(math.ceil(math.log2(points)))[:points]
    return torch.tensor(even, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)


def _dense_middle(uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Times t = u + a sin(2 pi u) / (2 pi), and dt / du."""
    angle = 2 * math.pi * uniform
    return (
        uniform + MIDDLE_DENSITY * angle.sin() / (2 * math.pi),
        1 + MIDDLE_DENSITY * angle.cos(),
    )


def _smooth_features(time: Float[Tensor, " B"]) -> Float[Tensor, "B _"]:
    """Cosines of the time, of which the quickest turns around eight times: what a network sees at
    one noise has to do with what it sees at the next."""
    return (math.pi * time.double()[:, None] * torch.arange(TIME_FEATURES)).cos()


def _even(calls: int, numbers: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Times, noise and weights of half as many calls: times and directions fill their cube, and the
    length of the noise, on which the gain of a row depends most, is summed by a rule of Gauss
    (|eps|^2 / 2 is of a gamma distribution with N / 2)."""
    cube = _sobol(max(1, calls // (2 * RADII)), 1 + numbers, generator)
    time, weight = _dense_middle(cube[:, 0])
    along = ndtri(cube[:, 1:])
    halves, shares = (torch.tensor(part) for part in roots_genlaguerre(RADII, numbers / 2 - 1))
    radii = (2 * halves).sqrt()[:, None, None]
    eps = radii * along / along.norm(dim=1, keepdim=True)
    weight = RADII * shares[:, None] / shares.sum() * weight
    return time.repeat(RADII), eps.flatten(0, 1), weight.flatten()


class Noise(NamedTuple):
    """What S network calls see: for the integral over the noise of numbers, or for the codes. The
    noise of a bound is the same for all rows; every eps comes with its opposite, at the same
    time."""

    time: Tensor  # (S,)
    eps: Tensor  # (S, N)
    known: Tensor  # (S, C) which codes are left
    weight: Tensor  # (S,) what a call counts: 1 / density of its time

    @classmethod
    def of_numbers(
        cls, calls: int, numbers: int, codes: int, generator: torch.Generator, even: bool = False
    ) -> "Noise":
        """Times all over, with each code left or gone by itself. ``even``: by a rule that sums
        with little noise, and times are denser in the middle."""
        pairs = max(1, calls // 2)
        if even:
            time, eps, weight = _even(calls, numbers, generator)
        else:
            time = _latin(pairs, 1, generator)[:, 0]
            weight = torch.ones_like(time)
            eps = ndtri(_latin(pairs, numbers, generator))
        known = (
            torch.rand(len(time), codes, generator=generator, dtype=torch.float64) > time[:, None]
        )
        return cls(time.repeat(2), torch.cat([eps, -eps]), known.repeat(2, 1), weight.repeat(2))

    @classmethod
    def of_codes(cls, calls: int, numbers: int, codes: int, generator: torch.Generator) -> "Noise":
        """Each code has its time of absorption; the network is called at each of them, with that
        code and all before it gone."""
        pairs = max(1, calls // (2 * codes))
        absorbed = _latin(pairs, codes, generator)  # (K, C)
        # (K C, C): at the time of one code, is another left?
        known = (absorbed[:, None] > absorbed[:, :, None]).flatten(0, 1)
        eps = ndtri(_latin(len(known), numbers, generator))
        time = absorbed.flatten().repeat(2)
        return cls(time, torch.cat([eps, -eps]), known.repeat(2, 1), torch.ones_like(time))

    @classmethod
    def numbers_of_rows(
        cls, rows: int, numbers: int, codes: int, generator: torch.Generator
    ) -> "Noise":
        """One call for each row, as in ``of_numbers``."""
        eps = torch.randn(rows, numbers, generator=generator, dtype=torch.float64)
        uniform = _latin(rows, 1, generator)[:, 0] if rows else torch.zeros(0, dtype=torch.float64)
        time, weight = _dense_middle(uniform)
        known = torch.rand(rows, codes, generator=generator, dtype=torch.float64) > time[:, None]
        return cls(time, eps, known, weight)

    @classmethod
    def codes_of_rows(
        cls, rows: int, numbers: int, codes: int, generator: torch.Generator
    ) -> "Noise":
        """One call for each row: at the time of absorption of one of its codes."""
        eps = torch.randn(rows, numbers, generator=generator, dtype=torch.float64)
        absorbed = torch.rand(rows, codes, generator=generator, dtype=torch.float64)
        chosen = torch.randint(codes, (rows, 1), generator=generator)
        time = absorbed.gather(1, chosen)
        return cls(time[:, 0], eps, absorbed > time, torch.ones(rows, dtype=torch.float64))

    def take(self, index: Any) -> "Noise":
        return Noise(*(part[index] for part in self))


class Mixed(nn.Module):
    """p(x | class) over all columns of a space that has numbers. ``even`` is how bounds spread
    their noise, and how smooth the network is in time, unless the model is an old one; ``draws``
    are those of the noise for each row of a step."""

    number: Tensor
    code: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        context: ContextEmbedding,
        embedded: bool,
        *,
        even: bool = True,
        draws: int = 1,
    ) -> None:
        super().__init__()
        codes = [is_code(v) for v in space.variables]
        self.config = config
        self.even = even
        self.draws = draws
        self.context = context
        self.register_buffer(
            "number", torch.tensor([not c for c in codes]).nonzero()[:, 0], persistent=False
        )
        self.register_buffer("code", torch.tensor(codes).nonzero()[:, 0], persistent=False)
        self.numbers = Numbers(
            [as_number(v) for v, c in zip(space.variables, codes, strict=True) if not c]
        )
        discrete = [v for v, c in zip(space.variables, codes, strict=True) if c]
        self.inputs = Inputs(discrete, embedded)
        self.heads = Heads(discrete, 1)
        width = max(self.numbers.outputs, self.heads.width)
        size = self.inputs.size + len(self.number) * (1 + 2 * WAVES)
        self.net = CellNetwork(
            space,
            size,
            TIME_FEATURES + context.width,
            width,
            config.width,
            config.blocks,
            config.dropout,
        )

    def start(self, data: Event, weight: Tensor) -> None:
        self.numbers.start(data.value[:, self.number], data.mask[:, self.number], weight)
        self.heads.start(data.value[:, self.code], data.mask[:, self.code], weight)

    # ------------------------------------------------------------------ the network

    def outputs(
        self,
        time: Float[Tensor, " B"],
        z: Float[Tensor, "B N"],
        codes: Float[Tensor, "B C"],
        known: Bool[Tensor, "B C"],
        label: Tensor | None,
    ) -> tuple[Float[Tensor, "B N _"], Float[Tensor, "B C _"]]:
        """v of every number, with what its decoder needs, and the parameters of every code."""
        inputs, extra = self._seen(time, z, codes, known, label)
        out = self.net(inputs, extra)
        numbers = out[:, : len(self.number)]
        logits = out[:, len(self.number) :, : self.heads.width]
        first = self._as_v(numbers[..., 0], z, time)
        return torch.cat([first[..., None], numbers[..., 1 : self.numbers.outputs]], -1), logits

    def _as_v(
        self, out: Float[Tensor, "B N"], z: Float[Tensor, "B N"], time: Float[Tensor, " B"]
    ) -> Float[Tensor, "B N"]:
        """What the network predicts, as v: it may say v itself, the score, or the noise."""
        alpha, sigma = alpha_sigma(self.numbers.log_ratio(time))
        match self.config.parametrisation or "score":
            case "score":  # -(score + z) / alpha
                return sigma * out
            case "noise":  # less what the Gaussian would say, sigma z
                return out / alpha
        return out

    def _seen(
        self, time: Tensor, z: Tensor, codes: Tensor, known: Tensor, label: Tensor | None
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B _"]]:
        waves = z[..., None] * 2.0 ** torch.arange(WAVES)
        near = torch.cat(
            [10 * torch.tanh(z / 10)[..., None], waves.sin(), waves.cos()], -1
        ).flatten(1)
        parts = [near, self.inputs(codes, known)] if len(self.code) else [near]
        clock = _smooth_features(time) if self.even else time_features(time, TIME_FEATURES)
        return torch.cat(parts, 1), torch.cat([clock, self.context(len(z), label)], 1)

    def features(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        """The last hidden layer, on clean rows at the lowest noise."""
        z = self.numbers(value[:, self.number])
        codes = value[:, self.code]
        time = value.new_zeros(len(value))
        return self.net.features(
            *self._seen(time, z, codes, torch.ones_like(codes, dtype=torch.bool), None)
        )

    # ------------------------------------------------------------------ the bound

    def log_prob(
        self, value: Float[Tensor, "B D"], label: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """The bound, over noise that all rows share."""
        generator = generator or stream(0, "bound")
        points = self._points
        numbers = len(self.number)
        codes = len(self.code)
        total = self._mean(
            self.gain, value, label, Noise.of_numbers(points, numbers, codes, generator, self.even)
        )
        if codes:
            total = total + self._mean(
                self.cells, value, label, Noise.of_codes(points, numbers, codes, generator)
            )
        return total + self._mean(
            self.ends, value, label, Noise.of_numbers(points // 3, numbers, 0, generator)
        )

    @property
    def _points(self) -> int:
        """Calls for the numbers of a row."""
        if self.config.points is not None:
            return int(self.config.points)
        return max(MIN_CALLS, min(MAX_CALLS, CALLS_OF_ALL_NUMBERS // len(self.number)))

    def _mean(
        self, term: Any, value: Float[Tensor, "B D"], label: Tensor | None, noise: Noise
    ) -> Float[Tensor, " B"]:
        """The mean of a term over calls, as many at once as the network takes."""
        rows = len(value)
        calls = len(noise.time)
        total = value.new_zeros(len(value))
        for part in torch.arange(calls).split(max(1, MAX_ROW_CALLS // max(rows, 1))):
            many = noise.take(part.repeat_interleave(rows))
            labels = None if label is None else label.repeat(len(part))
            total = total + term(value.repeat(len(part), 1), labels, many).reshape(
                len(part), rows
            ).sum(0)
        return total / calls

    def bound(
        self, value: Float[Tensor, "B D"], label: Tensor | None, generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """The bound by a few draws, with noise of its own for each row; by more of them when rows
        are judged, so that the best weights are no matter of luck."""
        judged = min(JUDGED_DRAWS, JUDGED_ROW_DRAWS // max(len(value), 1))
        draws = self.draws if self.training else max(1, judged)
        labels = None if label is None else label.repeat(draws)
        return self._one(value.repeat(draws, 1), labels, generator).reshape(draws, -1).mean(0)

    def _one(
        self, value: Float[Tensor, "B D"], label: Tensor | None, generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """One draw of the bound."""
        rows = len(value)
        numbers = len(self.number)
        codes = len(self.code)
        label = drop_class(label, self.context, generator)
        total = self.gain(value, label, Noise.numbers_of_rows(rows, numbers, codes, generator))
        if codes:
            total = total + self.cells(
                value, label, Noise.codes_of_rows(rows, numbers, codes, generator)
            )
        return total + self.ends(value, label, Noise.numbers_of_rows(rows, numbers, 0, generator))

    def gain(
        self, value: Float[Tensor, "B D"], label: Tensor | None, noise: Noise
    ) -> Float[Tensor, " B"]:
        """What the network adds to a Gaussian; each row has its own time and noise."""
        c = self.numbers(value[:, self.number])
        alpha, sigma = alpha_sigma(self.numbers.log_ratio(noise.time))
        params, _ = self.outputs(
            noise.time, alpha * c + sigma * noise.eps, value[:, self.code], noise.known, label
        )
        v = alpha * noise.eps - sigma * c
        guess = params[..., 0]
        # |v|^2 - |v - guess|^2
        gained = (self.numbers.rate(noise.time) * alpha**2 * guess * (2 * v - guess)).sum(1)
        return 0.5 * noise.weight * gained

    def cells(
        self, value: Float[Tensor, "B D"], label: Tensor | None, noise: Noise
    ) -> Float[Tensor, " B"]:
        """The codes, by those that are gone at the time when one of them goes."""
        codes = value[:, self.code]
        (alpha, sigma) = alpha_sigma(self.numbers.log_ratio(noise.time))
        z = alpha * self.numbers(value[:, self.number]) + sigma * noise.eps
        _, logits = self.outputs(noise.time, z, codes, noise.known, label)
        cells = self.heads.log_prob(logits, codes, ~noise.known).sum(1)
        return cells * len(self.code) / (~noise.known).sum(1)

    def ends(
        self, value: Float[Tensor, "B D"], label: Tensor | None, noise: Noise
    ) -> Float[Tensor, " B"]:
        """The Gaussian of numbers that have a density; decoding and prior of those that are
        recorded."""
        x = value[:, self.number]
        base = self.numbers.log_base(x)
        if not self.numbers.recorded.any():
            return base.sum(1)
        alpha, sigma = alpha_sigma(self.numbers.top)
        c = self.numbers(x)
        codes = value[:, self.code]
        z = alpha * c + sigma * noise.eps
        params, _ = self.outputs(
            noise.time.new_zeros(len(x)), z, codes, torch.ones_like(codes, dtype=torch.bool), label
        )
        prior = 0.5 * (sigma**2 + (alpha * c) ** 2 - 1) - sigma.log()  # KL(q(z_0 | x) || N(0, 1))
        return torch.where(
            self.numbers.recorded, self.numbers.log_cells(x, z, params) - prior, base
        ).sum(1)

    # ------------------------------------------------------------------ what samplers ask

    def guided(
        self, time: float, z: Tensor, codes: Tensor, known: Tensor, label: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``outputs`` at one time, with the class exaggerated as the config says."""
        times = torch.full((len(z),), time, dtype=torch.float64)
        given = self.outputs(times, z, codes, known, label)
        if label is None or not self.config.guidance:
            return given
        free = self.outputs(times, z, codes, known, None)
        return guided(given[0], free[0], self.config.guidance), guided(
            given[1], free[1], self.config.guidance
        )

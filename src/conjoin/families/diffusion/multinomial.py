r"""Multinomial diffusion: codes are replaced by random ones, until nothing of the row is left.

    q(x_t | x_0)           = a_t [x_t = x_0] + (1 - a_t) / L,       a_t = 1 - t / T
    q(x_(t-1) | x_t, x_0)  ~ ((1 - b_t) [x_(t-1) = x_t] + b_t / L)
                             (a_(t-1) [x_(t-1) = x_0] + (1 - a_(t-1)) / L)
    p(x_(t-1) | x_t)
    ~ the same, with the network's probabilities of x_0 in the place of [x_(t-1) = x_0]
    log p(x_0)            >= - sum_t E KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)),
                          1 - b_t = a_t / a_(t-1)

E. Hoogeboom et al. (2021), Argmax flows and multinomial diffusion, equations 11 to 17; J. Austin et
al. (2021), Structured denoising diffusion models in discrete state-spaces, section 3.1 (uniform).
The first term, t = 1, is -log p(x_0 | x_1); a_T = 0, so that the prior costs nothing. In nats.

Shape letters: B rows, D columns, L levels, T steps, F inputs.

>>> from conjoin.core import Variable
>>> [name_of_number((Variable("a", "category", cardinality=2), Variable("mass", "real")))]
['mass']
"""

from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core import Event, Space, Variable, categorical, stream
from conjoin.core.shapes import Float, Int
from conjoin.families.diffusion.mixed import TIME_FEATURES, is_code
from conjoin.families.diffusion.network import CellNetwork, drop_class, guided
from conjoin.nets.body import ContextEmbedding, time_features
from conjoin.nets.heads import Heads
from conjoin.nets.inputs import Inputs

__all__ = ["Multinomial", "name_of_number"]


def name_of_number(variables: tuple[Variable, ...]) -> str | None:
    """The first column that has no codes to replace."""
    return next((v.name for v in variables if not is_code(v)), None)


class Multinomial(nn.Module):
    """A bound on p(x | class), for columns of codes only; ValueError names one that is not."""

    def __init__(
        self, space: Space, config: Any, context: ContextEmbedding, embedded: bool
    ) -> None:
        super().__init__()
        if name := name_of_number(space.variables):
            raise ValueError(
                f"{name!r} is a number: multinomial diffusion takes only codes; "
                "process='absorbing' takes all columns."
            )
        self.steps = config.calls
        self.guidance = config.guidance
        self.context = context
        self.heads = Heads(space.variables, 1)
        self.inputs = Inputs(space.variables, embedded)
        extra = TIME_FEATURES + context.width
        self.net = CellNetwork(
            space,
            self.inputs.size,
            extra,
            self.heads.width,
            config.width,
            config.blocks,
            config.dropout,
        )

    @property
    def calls(self) -> int:
        return self.steps

    def start(self, data: Event, weight: Tensor) -> None:
        self.heads.start(data.value, data.mask, weight)

    # ------------------------------------------------------------------ forward

    @property
    def levels(self) -> Float[Tensor, " D"]:
        return self.heads.legal.sum(1).double()

    def kept(self, step: Tensor) -> Tensor:
        """a_t."""
        return 1 - step.double() / self.steps

    def blurred(
        self, value: Float[Tensor, "B D"], step: Int[Tensor, " B"], noise: Float[Tensor, "B D 2"]
    ) -> Float[Tensor, "B D"]:
        """x_t of x_0, from two uniforms a cell."""
        fresh = (noise[..., 1] * self.levels).floor()
        return torch.where(noise[..., 0] < self.kept(step)[:, None], value, fresh)

    def log_before(
        self, at: Float[Tensor, "B D"], clean: Float[Tensor, "B D L"], step: Int[Tensor, " B"]
    ) -> Float[Tensor, "B D L"]:
        """log of the distribution of x_(t-1), given x_t and probabilities of x_0."""
        legal = self.heads.legal
        levels = self.levels[:, None]
        before = self.kept(step - 1)[:, None, None]
        stays = self.kept(step)[:, None, None] / before
        here = nn.functional.one_hot(at.long(), legal.shape[1]).double()
        weight = (stays * here + (1 - stays) / levels) * (before * clean + (1 - before) / levels)
        return torch.where(legal & (weight > 0), weight, 1e-300).log().log_softmax(-1)

    def clean(
        self, at: Float[Tensor, "B D"], step: Int[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B D L"]:
        """The network's probabilities of x_0."""
        inputs = self.inputs(at, torch.ones_like(at, dtype=torch.bool))
        extra = torch.cat(
            [time_features(step.double() / self.steps, TIME_FEATURES), self.context(len(at), code)],
            1,
        )
        return self.heads._level_logits(self.net(inputs, extra), slice(None)).softmax(-1)

    def features(self, value: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        inputs = self.inputs(value, torch.ones_like(value, dtype=torch.bool))
        time = time_features(value.new_zeros(len(value)), TIME_FEATURES)
        return self.net.features(inputs, torch.cat([time, self.context(len(value), None)], 1))

    # ------------------------------------------------------------------ the bound

    def log_prob(
        self,
        value: Float[Tensor, "B D"],
        code: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " B"]:
        """Every step once, with the same noise for all rows."""
        noise = torch.rand(
            self.steps,
            value.shape[1],
            2,
            generator=generator or stream(0, "bound"),
            dtype=torch.float64,
        )
        total = value.new_zeros(len(value))
        for step in range(1, self.steps + 1):
            total = total - self.divergence(
                value,
                torch.full((len(value),), step),
                noise[step - 1].expand(len(value), -1, -1),
                code,
            )
        return total

    def bound(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """One step for each row, stratified, with noise of its own."""
        rows = len(value)
        place = torch.randperm(rows, generator=generator) + torch.rand(
            (), generator=generator, dtype=torch.float64
        )
        step = 1 + (place * self.steps / rows).long().clamp_max(self.steps - 1)
        noise = torch.rand(*value.shape, 2, generator=generator, dtype=torch.float64)
        return -self.steps * self.divergence(
            value, step, noise, drop_class(code, self.context, generator)
        )

    def divergence(
        self,
        value: Float[Tensor, "B D"],
        step: Int[Tensor, " B"],
        noise: Float[Tensor, "B D 2"],
        code: Tensor | None,
    ) -> Float[Tensor, " B"]:
        """KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)), summed over the columns."""
        at = self.blurred(value, step, noise)
        known = nn.functional.one_hot(value.long(), self.heads.legal.shape[1]).double()
        true = self.log_before(at, known, step)
        guess = self.log_before(at, self.clean(at, step, code), step)
        return (true.exp() * (true - guess)).sum((1, 2))

    # ------------------------------------------------------------------ draws

    def draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        nothing = torch.zeros(n, len(self.heads.variables), dtype=torch.float64)
        return self.repaint(
            Event(nothing, torch.zeros_like(nothing, dtype=torch.bool)), code, generator
        )

    def repaint(
        self, event: Event, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """The rows with their missing cells drawn step by step, beside the known ones blurred to
        each step's level."""
        at = (
            torch.rand(event.value.shape, generator=generator, dtype=torch.float64) * self.levels
        ).floor()
        for moment in range(self.steps, 0, -1):
            step = torch.full((event.rows,), moment)
            noise = torch.rand(*event.value.shape, 2, generator=generator, dtype=torch.float64)
            at = torch.where(event.mask, self.blurred(event.value, step, noise), at)
            at = categorical(
                self.log_before(at, self._guided(at, step, code), step), generator
            ).double()
        return torch.where(event.mask, event.value, at)

    def _guided(self, at: Tensor, step: Tensor, code: Tensor | None) -> Float[Tensor, "B D L"]:
        given = self.clean(at, step, code)
        if code is None or not self.guidance:
            return given
        return guided(given.log(), self.clean(at, step, None).log(), self.guidance).softmax(-1)

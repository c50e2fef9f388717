r"""What the flows of this folder share: rows in two parts, of which only the smooth one flows.

    p(x | y) = p(d | y) p(c | d, y)
    P(cell)  = int p(c + w (u - 1/2)) w du  >=  exp E log [ (1 / S) sum_s p(c + w (u_s - 1/2)) w ],
                u_s uniform in [0, 1)^D

d has mass and few values: categories, columns with spikes, numbers recorded coarsely. It is
modelled exactly, variable by variable (M. Germain et al. (2015), MADE, equation 9). c are numbers:
densities as they are, so that log p is exact, and finely recorded cells by uniform dequantisation,
so that it is a bound in nats, tight where a density changes little within a cell (L. Theis, A. van
den Oord and M. Bethge (2016), A note on the evaluation of generative models, equation 5; several
draws as in Y. Burda et al. (2016), Importance weighted autoencoders, equation 8). All rows share
the S draws, so no answer depends on its batch.

Shape letters: B rows, D variables, E coded variables, M smooth ones, S draws, C inputs of the
context.

>>> from conjoin.core import Space, Variable
>>> colour = Variable("colour", "category", cardinality=3)
>>> age = Variable("age", "integer", resolution=1.0)
>>> columns = (colour, Variable("mass", "real"), age)
>>> data = Event(torch.tensor([[0, 0.3, 20], [1, -0.2, 21], [2, 0.9, 22]], dtype=torch.float64))
>>> smooth_columns(Space((3,), columns), data, torch.ones(3).double())
[1]
"""

import abc
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.components.leaves import Lattice
from conjoin.core import Capabilities, Event, Likelihood, Space, Variable, stream
from conjoin.core.shapes import Float
from conjoin.families.deep import DeepDensity, starting_rows
from conjoin.nets.body import Body
from conjoin.nets.heads import Heads, as_number
from conjoin.nets.inputs import Inputs
from conjoin.nets.masked import MaskedNet

__all__ = ["Coded", "PartsDensity", "smooth_columns"]

MAX_SMOOTH_CELL_DEVIATIONS = 0.2  # a cell wider than this many standard deviations is coded
EMBEDDING = 8


def smooth_columns(space: Space, data: Event, weight: Float[Tensor, " B"]) -> list[int]:
    """The variables that flow: densities, fine cells without spikes, and the pixels of an image."""
    mass = weight[:, None] * data.mask
    count = mass.sum(0).clamp_min(1e-300)
    mean = (mass * data.value).sum(0) / count
    spread = ((mass * (data.value - mean) ** 2).sum(0) / count).sqrt()
    return [
        d
        for d, v in enumerate(space.variables)
        if _flows(v, float(spread[d]), space.layout == "image")
    ]


def _flows(variable: Variable, spread: float, pixel: bool) -> bool:
    if variable.discrete:
        return pixel and variable.kind == "ordered"
    return variable.resolution is None or (
        not variable.atoms and variable.resolution < MAX_SMOOTH_CELL_DEVIATIONS * spread
    )


class Coded(nn.Module):
    """prod_d p(x_d | x_<d, context): exact for every kind of variable, whatever its cells."""

    def __init__(
        self,
        variables: Sequence[Variable],
        context: int,
        width: int,
        components: int = 4,
        dropout: float = 0.0,
        *,
        embedded: bool,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(variables, embedded)
        self.heads = Heads(variables, components)
        owner = torch.cat([torch.full((1 + context,), -1), self.inputs.owner])
        self.net = MaskedNet(
            owner, torch.arange(len(variables))[None], self.heads.width, width, 1, dropout
        )

    def start(
        self, value: Float[Tensor, "B E"], observed: Tensor, weight: Float[Tensor, " B"]
    ) -> None:
        self.inputs.start(value, observed)
        self.heads.start(value, observed, weight)

    def _seen(self, value: Float[Tensor, "B E"], context: Float[Tensor, "B C"]) -> Tensor:
        one = torch.ones(len(value), 1, dtype=torch.float64)
        return torch.cat(
            [one, context, self.inputs(value, torch.ones_like(value, dtype=torch.bool))], 1
        )

    def log_prob(
        self, value: Float[Tensor, "B E"], context: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        params = self.net(self._seen(value, context))[0]
        return self.heads.log_prob(params, value, torch.ones_like(value, dtype=torch.bool)).sum(1)

    @torch.no_grad()
    def sample(
        self, context: Float[Tensor, "B C"], generator: torch.Generator | None
    ) -> Float[Tensor, "B E"]:
        value = torch.zeros(len(context), len(self.inputs.variables), dtype=torch.float64)
        for d in range(value.shape[1]):
            value[:, d] = self.heads.sample_column(
                d, self.net.column(self._seen(value, context), 0, d), generator
            )
        return value


class PartsDensity(DeepDensity, abc.ABC):
    """A family says how the smooth part flows: ``_flow`` makes the network, the other hooks ask
    it."""

    smooth: Tensor
    codes: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        smooth = self.structure["smooth"]
        coded = [d for d in range(len(space.variables)) if d not in smooth]
        variables = [as_number(space.variables[d]) for d in smooth]
        self.register_buffer("smooth", torch.tensor(smooth, dtype=torch.long), persistent=False)
        self.register_buffer("codes", torch.tensor(coded, dtype=torch.long), persistent=False)
        self.lattice = Lattice(variables)
        self.context = self.embedding(EMBEDDING)
        width = self.context.width
        if coded:
            self.coded = Coded(
                [space.variables[d] for d in coded],
                width,
                self.structure["width"],
                dropout=config.dropout,
                embedded=self.embedded,
            )
            width += self.coded.inputs.size
        if smooth:
            self.flow = self._flow(len(smooth), width)
        self.register_buffer("mean", torch.zeros(len(smooth), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(smooth), dtype=torch.float64))

    # ------------------------------------------------------------------ hooks of a family

    @abc.abstractmethod
    def _flow(self, size: int, context: int) -> Body:
        """The network of ``size`` numbers, given ``context`` inputs."""

    @abc.abstractmethod
    def _log_smooth(
        self, z: Float[Tensor, "N M"], seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, " N"]:
        """log p of standardised numbers."""

    @abc.abstractmethod
    def _draw_smooth(
        self, seen: Float[Tensor, "N C"], generator: torch.Generator | None
    ) -> Float[Tensor, "N M"]:
        """Standardised numbers."""

    @abc.abstractmethod
    def _smooth_objective(
        self, z: Float[Tensor, "B M"], seen: Float[Tensor, "B C"], generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """What the numbers of each row add to the loss."""

    # ------------------------------------------------------------------ what follows from them

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """Which columns flow; and a width that grows with the root of the number of rows, unless
        one is asked for."""
        width = 32 * min(4, 1 + round(math.sqrt(data.rows) / 20))
        return {
            "smooth": smooth_columns(space, *starting_rows(data, weight)),
            "width": config.width or width,
        }

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        value = data.value
        observed = data.mask
        if len(self.codes):
            self.coded.start(value[:, self.codes], observed[:, self.codes], weight)
        mass = weight[:, None] * observed[:, self.smooth]
        count = mass.sum(0).clamp_min(1e-300)
        self.mean.copy_((mass * value[:, self.smooth]).sum(0) / count)
        spread = ((mass * (value[:, self.smooth] - self.mean) ** 2).sum(0) / count).sqrt()
        self.scale.copy_(torch.where(spread > 1e-6 * (1 + self.mean.abs()), spread, 1.0))

    @property
    def cells(self) -> bool:
        """Whether a column is dequantised, so that log p is a bound."""
        return bool((self.lattice.width > 0).any())

    @property
    def capabilities(self) -> Capabilities:
        exact = not self.cells
        meaning = Likelihood.EXACT if exact else Likelihood.LOWER_BOUND
        # trained with dropout
        return self._able(
            likelihood=meaning, objective="surrogate", stochastic=not exact, differentiable=exact
        )

    def _seen(self, value: Float[Tensor, "B D"], own: Float[Tensor, "B C"]) -> Float[Tensor, "B c"]:
        """The context of the flow: the class, and the coded part."""
        if not len(self.codes):
            return own
        part = value[:, self.codes]
        return torch.cat([own, self.coded.inputs(part, torch.ones_like(part, dtype=torch.bool))], 1)

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        own = self.context(len(value), code)
        total = (
            self.coded.log_prob(value[:, self.codes], own)
            if len(self.codes)
            else value.new_zeros(len(value))
        )
        if not len(self.smooth):
            return total
        z = self._standardise(value[:, None], self._noise(generator))  # (B, S, M)
        draws = z.shape[1]
        log_p = self._log_smooth(
            z.flatten(0, 1), self._seen(value, own).repeat_interleave(draws, 0), generator
        )
        return total + log_p.reshape(-1, draws).logsumexp(1) - math.log(draws) + self._log_volume()

    def _noise(self, generator: torch.Generator | None) -> Float[Tensor, "S M"]:
        """Where in their cells the numbers are looked at: the same places in every row."""
        if not self.cells:
            return torch.full((1, len(self.smooth)), 0.5, dtype=torch.float64)
        return torch.rand(
            self.config.noise,
            len(self.smooth),
            generator=generator or stream(0, "dequantise"),
            dtype=torch.float64,
        )

    def _standardise(self, value: Tensor, uniform: Tensor) -> Tensor:
        """Points inside the cells, in standard deviations."""
        return (
            value[..., self.smooth] + self.lattice.width * (uniform - 0.5) - self.mean
        ) / self.scale

    def _log_volume(self) -> Tensor:
        """log of the volume of a cell; of a density, log |dz / dx|."""
        return (
            (torch.where(self.lattice.width > 0, self.lattice.width, 1.0) / self.scale).log().sum()
        )

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """One point of each cell for each row."""
        noise = generator or stream(0, "objective")
        own = self.context(len(value), code)
        total = (
            -self.coded.log_prob(value[:, self.codes], own)
            if len(self.codes)
            else value.new_zeros(len(value))
        )
        if not len(self.smooth):
            return total
        uniform = torch.rand(len(value), len(self.smooth), generator=noise, dtype=torch.float64)
        each = self._smooth_objective(
            self._standardise(value, uniform), self._seen(value, own), noise
        )
        return total + each - self._log_volume()

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        own = self.context(n, code)
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        if len(self.codes):
            value[:, self.codes] = self.coded.sample(own, generator)
        if len(self.smooth):
            z = self._draw_smooth(self._seen(value, own), generator)
            value[:, self.smooth] = self.lattice.snap(self.mean + self.scale * z)
        return value

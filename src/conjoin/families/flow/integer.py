r"""Integer flow: whole numbers are carried to whole numbers, so that probabilities of recorded
cells are exact.

    z_b = z_b + round(t(z_a, context)),      z_a = z_a,       log P(x) = log P_base(z)

E. Hoogeboom, J. Peters, R. van den Berg and M. Welling (2019), Integer discrete flows and lossless
compression, equations 4 to 7. A translation of the lattice is a bijection, so no determinant
appears; codes 0..K-1 are translated modulo K (D. Tran, K. Vafa, K. Agrawal, L. Dinh and B. Poole
(2019), Discrete flows, equation 4). The gradient passes the rounding as if it were not there. The
base is a mixture of discretised logistics for each variable, whose parameters depend on the
variables before it (M. Germain et al. (2015), MADE, equation 9). Categories and densities are not
moved; the base knows their probabilities. All values in nats.

Shape letters: B rows, D variables, C inputs of the context, A, E numbers of variables of the two
halves.

>>> from conjoin.core import Space, Variable
>>> rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [2.0, 1.0]] * 5)
>>> data = Event(rows.double())
>>> space = Space((2,), tuple(Variable(name, "ordered", cardinality=3) for name in "ab"))
>>> density = IntegerDensity.build(space, IntegerFlow(), data, torch.Generator().manual_seed(0))
>>> rows = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0)).double()
>>> round(density.log_prob(Event(rows)).exp().sum().item(), 6)
1.0
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Event, Space, Variable
from conjoin.core.shapes import Float
from conjoin.families.deep import DeepConfig, DeepDensity
from conjoin.families.flow.parts import EMBEDDING, Coded
from conjoin.nets.heads import as_number
from conjoin.nets.inputs import Inputs
from conjoin.nets.mlp import Mlp

__all__ = ["IntegerDensity", "IntegerFlow"]


@dataclass(frozen=True)
class IntegerFlow(DeepConfig):
    """Settings of the flow of whole numbers.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 128
        Rows of a step.
    rate : float, default 0.002
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    layers : int, default 2
        Translations.
    width : int, default 64
        Hidden units of a layer.
    components : int, default 6
        Components of the base's mixture of each number.
    dropout : float, default 0.2
        Share of hidden units left out in a training step.
    """

    layers: int = 2
    width: int = 64
    components: int = 6
    dropout: float = 0.2

    passes: ClassVar[tuple[int, int, int]] = (80, 200, 3000)


class IntegerDensity(DeepDensity):
    """Exact for every row; sampled variable by variable."""

    config_class = IntegerFlow

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        moving = [d for d, v in enumerate(space.variables) if v.kind != "category" and v.has_mass]
        self.context = self.embedding(EMBEDDING)
        self.base = Coded(
            [_moved(v) for v in space.variables],
            self.context.width,
            config.width,
            config.components,
            config.dropout,
            embedded=self.embedded,
        )
        halves = [moving[i % 2 :: 2] or moving for i in range(config.layers if moving else 0)]
        self.layers = nn.ModuleList(
            _Translation(space, half, self.context.width, config, self.embedded) for half in halves
        )

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        self.base.start(data.value, data.mask, weight)
        for layer in self.layers:
            layer.start(data.value, data.mask)  # type: ignore[operator]

    @property
    def capabilities(self) -> Capabilities:
        # the likelihood, with dropout and a gradient that passes the rounding
        return self._able(objective="surrogate")

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        own = self.context(len(value), code)
        return self.base.log_prob(self.to_base(value, own), own)

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        own = self.context(n, code)
        return self.from_base(self.base.sample(own, generator), own)

    def to_base(self, x: Float[Tensor, "B D"], own: Float[Tensor, "B C"]) -> Float[Tensor, "B D"]:
        """z of x."""
        for layer in self.layers:
            x = layer(x, own, 1.0)
        return x

    @torch.no_grad()
    def from_base(self, z: Float[Tensor, "B D"], own: Float[Tensor, "B C"]) -> Float[Tensor, "B D"]:
        """x of z: the translations undone in reverse order."""
        for layer in reversed(self.layers):
            z = layer(z, own, -1.0)
        return z


def _moved(variable: Variable) -> Variable:
    """The variable of the base: ordered codes are whole numbers, and nothing is special about a
    spike that has moved."""
    if variable.kind == "category" or not variable.has_mass:
        return variable
    if variable.discrete:
        return as_number(variable)
    return Variable(
        variable.name, "integer", resolution=variable.resolution, origin=variable.origin
    )


class _Translation(nn.Module):
    """Some variables are moved along their lattice, by how much the others say."""

    moved: Tensor
    rest: Tensor
    levels: Tensor
    step: Tensor
    spread: Tensor

    def __init__(
        self,
        space: Space,
        moved: list[int],
        context: int,
        config: IntegerFlow,
        embedded: bool,
    ) -> None:
        super().__init__()
        # a jump in a density would help nobody
        rest = [d for d, v in enumerate(space.variables) if d not in moved and v.has_mass]
        self.register_buffer("moved", torch.tensor(moved), persistent=False)
        self.register_buffer("rest", torch.tensor(rest, dtype=torch.long), persistent=False)
        self.inputs = Inputs([_moved(space.variables[d]) for d in rest], embedded)
        self.net = Mlp(1 + context + self.inputs.size, len(moved), config.width, 1, config.dropout)
        codes = [space.variables[d] for d in moved]
        self.register_buffer(
            "levels", torch.tensor([float(v.cardinality) for v in codes]).double(), persistent=False
        )
        self.register_buffer(
            "step", torch.tensor([v.resolution or 1.0 for v in codes]).double(), persistent=False
        )
        self.register_buffer("spread", torch.ones(len(moved), dtype=torch.float64))

    def start(self, value: Float[Tensor, "B D"], observed: Tensor) -> None:
        self.inputs.start(value[:, self.rest], observed[:, self.rest])
        known = torch.where(observed, value, torch.nan)[:, self.moved]
        self.spread.copy_((known - known.nanmean(0)).square().nanmean(0).sqrt().nan_to_num(1.0))

    def forward(
        self, x: Float[Tensor, "B D"], own: Float[Tensor, "B C"], sign: float
    ) -> Float[Tensor, "B D"]:
        """x moved forth (``sign`` 1) or back (-1). Codes come round."""
        rest = x[:, self.rest]
        seen = torch.cat(
            [
                torch.ones(len(x), 1, dtype=torch.float64),
                own,
                self.inputs(rest, torch.ones_like(rest, dtype=torch.bool)),
            ],
            1,
        )
        shift = sign * _round(self.net(seen) * self.spread / self.step)
        z = x[:, self.moved] + self.step * shift
        turns = torch.where(self.levels > 0, (z / self.levels.clamp_min(1.0)).floor(), 0.0).detach()
        return x.index_copy(1, self.moved, z - self.levels * turns)


def _round(t: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Whole numbers; the gradient passes as if they were not rounded (Y. Bengio, N. Leonard and A.
    Courville (2013), section 4)."""
    return t + (t.round() - t).detach()

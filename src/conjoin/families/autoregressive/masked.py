r"""Masked autoregressive networks: the chain rule in one pass of a network, averaged over several
orders of the variables.

    p(x) = 1/K sum_k prod_d p(x_d | x_e : e before d in order k)

M. Germain, K. Gregor, I. Murray and H. Larochelle (2015), MADE, equations 1 and 8; residual blocks
from C. Durkan and C. Nash (2019), Autoregressive energy machines, appendix. Each order has a
network of its own; each is trained by itself, and the mean of their probabilities is again a
probability: log p is exact, in nats. Any kind of column: the network gives the parameters of its
distribution (conjoin.nets.heads). With ``hide`` some rows are trained with part of their cells
hidden, the flags of those at zero: so the network also learns to look at rows in which cells are
missing.

Shape letters: B rows, K orders, D variables, I inputs, W parameters of a cell's distribution.

>>> from conjoin.core import Event, Space, Variable, stream
>>> import torch
>>> rows = Event(torch.tensor([[0.0, 0.0], [1.0, 1.0]] * 20).double())
>>> space = Space((2,), tuple(Variable(name, "category", cardinality=2) for name in "ab"))
>>> density = MaskedDensity.build(space, Masked(orders=2), rows, stream(0))
>>> all_rows = Event(torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double())
>>> float(density.log_prob(all_rows).exp().sum().detach().round(decimals=6))
1.0
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from conjoin.core import Capabilities, Config, Event, Space, stream
from conjoin.core.shapes import Bool, Float
from conjoin.families.deep import DeepDensity, PatientConfig
from conjoin.nets.heads import Heads
from conjoin.nets.inputs import Inputs
from conjoin.nets.masked import MaskedNet

__all__ = ["Masked", "MaskedDensity"]

CONTEXT_WIDTH = 16  # numbers that stand for a class
LARGE_SIDE_PIXELS = 16  # pixels a side
MAX_WEIGHTS = 1 << 29  # weights of a network


@dataclass(frozen=True)
class Masked(PatientConfig):
    """Settings of the masked autoregressive networks.

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
    orders : int, default 4
        Orders of the variables, each with a network of its own.
    width : int or None, default None
        Hidden units of a layer; None takes them from the number of rows.
    blocks : int, default 2
        Residual blocks of the network.
    dropout : float, default 0.2
        Share of hidden units left out in a training step.
    hide : float, default 0.0
        Share of training rows of which some cells are hidden.
    min_steps : int or None, default None
        Steps at least where ``steps`` is None; None: 200, and 600 of up to three columns.
    """

    orders: int = 4
    width: int | None = None
    blocks: int = 2
    dropout: float = 0.2
    hide: float = 0.0

    batch: int = 256
    rate: float = 3e-3
    passes: ClassVar[tuple[int, int, int]] = (25, 200, 3000)
    of_few: ClassVar[dict[str, Any]] = {"min_steps": 600}

    def suited(self, space: Space) -> Config:
        """Pictures from ``LARGE_SIDE_PIXELS`` a side get a PixelCNN, as each unit of this network
        looks at all of them; not where something was asked for that it has not."""
        shared: dict[str, Any] = {"steps": self.steps, "draws": self.draws}
        if (
            self != type(self)(**shared)
            or space.grid is None
            or space.pixels < len(space.variables)
            or min(space.grid[1:]) < LARGE_SIDE_PIXELS
        ):
            return super().suited(space)
        from conjoin.families.autoregressive.pixels import Pixels

        return Pixels(**shared)


def orders_of(size: int, many: int) -> list[list[int]]:
    """``many`` different orders of ``size`` variables (fewer where there are not so many): as they
    come, reversed, then random."""
    noise = stream(0, "orders")
    found = [list(range(size)), list(range(size))[::-1]]
    found = found[: min(size, 2)]  # one variable has one order
    while len(found) < min(many, math.factorial(min(size, 9))):
        order = torch.randperm(size, generator=noise).tolist()
        found += [] if order in found else [order]
    return found[:many]


class MaskedDensity(DeepDensity):
    """Exact for complete rows; an equally weighted mixture over the orders."""

    config_class = Masked
    bounded = True

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        super().__init__(space, config, structure, context_space)
        self.inputs = Inputs(space.variables, self.embedded)
        self.heads = Heads(space.variables)
        self.context = self.embedding(CONTEXT_WIDTH)
        self.orders: list[list[int]] = self.structure["orders"]
        rank = torch.tensor(self.orders).argsort(1)
        owner = torch.cat([torch.full((self.context.width,), -1), self.inputs.owner])
        self.net = MaskedNet(
            owner, rank, self.heads.width, self.structure["width"], config.blocks, config.dropout
        )

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """The orders, and a width that grows with the root of the number of rows; ValueError where
        the network would be too large."""
        weights = (
            config.orders
            * Inputs(space.variables).size
            * Heads(space.variables).width
            * len(space.variables)
        )
        if weights > MAX_WEIGHTS:
            raise ValueError(
                f"{len(space.variables):,} variables need {weights:,} weights of this network; "
                "choose another family: 'circuit', for "
                "pictures alone 'pixel_cnn', beside columns 'illustrated'."
            )
        width = 32 * min(8, 1 + round(math.sqrt(data.rows) / 16))
        return {
            "orders": orders_of(len(space.variables), config.orders),
            "width": config.width or width,
        }

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        self.inputs.start(data.value, data.mask)
        self.heads.start(data.value, data.mask, weight)

    @property
    def capabilities(self) -> Capabilities:
        return self._able(features=True, objective="surrogate")

    # ------------------------------------------------------------------ log p

    def _seen(
        self, value: Float[Tensor, "B D"], shown: Bool[Tensor, "B D"], code: Tensor | None
    ) -> Float[Tensor, "B I"]:
        return torch.cat([self.context(len(value), code), self.inputs(value, shown)], 1)

    def _each(
        self, value: Float[Tensor, "B D"], shown: Bool[Tensor, "B D"], code: Tensor | None
    ) -> Float[Tensor, "B K"]:
        """log p of the rows in each order, where the network sees the cells that are shown."""
        params = self.net(self._seen(value, shown, code))  # (K, B, D, W)
        many = value.repeat(len(params), 1)
        cells = self.heads.log_prob(
            params.flatten(0, 1), many, torch.ones_like(many, dtype=torch.bool)
        )
        return cells.sum(1).reshape(len(params), len(value)).T

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        each = self._each(value, torch.ones_like(value, dtype=torch.bool), code)
        return each.logsumexp(1) - math.log(each.shape[1])

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Each order learns by itself; held-out rows are judged by the mixture."""
        if not self.training:
            return -self._whole(value, code, generator)
        return -self._each(value, self._shown(value, generator), code).mean(1)

    def _shown(
        self, value: Float[Tensor, "B D"], generator: torch.Generator | None
    ) -> Bool[Tensor, "B D"]:
        """All cells of most rows; of the others a share of cells that is itself uniform."""
        row, share = torch.rand(2, len(value), 1, generator=generator, dtype=torch.float64)
        cell = torch.rand(value.shape, generator=generator, dtype=torch.float64)
        return (row >= self.config.hide) | (cell >= share)

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        return self.net.features(self._seen(event.value, event.mask, None))

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """An order for each row at random; then one variable after the other."""
        chosen = torch.randint(len(self.orders), (n,), generator=generator)
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        for index in range(len(self.orders)):
            mine = (chosen == index).nonzero()[:, 0]
            value[mine] = self._draw_in(
                index, len(mine), None if code is None else code[mine], generator
            )
        return value

    def _draw_in(
        self, index: int, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        shown = torch.zeros_like(value, dtype=torch.bool)
        for d in self.orders[index]:
            params = self.net.column(self._seen(value, shown, code), index, d)
            value[:, d] = self.heads.sample_column(d, params, generator)
            shown[:, d] = True
        return value

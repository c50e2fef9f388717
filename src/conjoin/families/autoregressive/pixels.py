r"""Pictures pixel by pixel: the chain rule along the rows of pixels, by a gated PixelCNN.

    p(x) = prod_d p(x_d | x_1, ..., x_(d-1)),
    d along rows, the channels of a pixel one after the other

A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu (2016), Pixel recurrent neural networks,
equation 1; many grey levels are a mixture of discretised logistics (conjoin.nets.heads), so log p
of the discrete picture is exact, in nats. The network is in ``nets.pixel_cnn``.

Shape letters: B rows, D = C H W pixels, W parameters of a pixel, F features.

>>> from conjoin.core import Event, Space, Variable, stream
>>> pixels = Space((4,), (Variable("pixel", "category", cardinality=2),) * 4, "image", (1, 2, 2))
>>> rows = torch.cartesian_prod(*[torch.arange(2.0)] * 4).double()
>>> density = PixelDensity.build(pixels, Pixels(width=8), Event(rows), stream(0))
>>> float(density.log_prob(Event(rows)).exp().sum().detach().round(decimals=6))
1.0
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from conjoin.core import Capabilities, Event, Space
from conjoin.core.shapes import Bool, Float
from conjoin.families.deep import DeepConfig, DeepDensity
from conjoin.nets.heads import Heads
from conjoin.nets.pixel_cnn import PixelCnn

__all__ = ["PixelDensity", "Pixels"]

CONTEXT_WIDTH = 16  # numbers that stand for a class


@dataclass(frozen=True)
class Pixels(DeepConfig):
    """Settings of the gated PixelCNN.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 32
        Rows of a step.
    rate : float, default 0.003
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.01
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    width : int, default 32
        Features of each pixel in a block.
    blocks : int, default 6
        Gated blocks.
    dropout : float, default 0.1
        Share of hidden units left out in a training step.
    """

    width: int = 32
    blocks: int = 6
    dropout: float = 0.1

    batch: int = 32
    rate: float = 3e-3
    alone: ClassVar[bool] = True
    passes: ClassVar[tuple[int, int, int]] = (20, 300, 8000)


class PixelDensity(DeepDensity):
    """Exact for complete pictures."""

    config_class = Pixels
    bounded = True
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        space: Space,
        config: Any,
        structure: dict[str, Any] | None = None,
        context_space: Space | None = None,
    ) -> None:
        if space.grid is None or space.pixels != len(space.variables):
            raise ValueError(
                "A PixelCNN needs a grid of pixels, and neither columns nor a number y beside "
                "it: choose another family."
            )
        super().__init__(space, config, structure, context_space)
        self.grid = space.grid
        self.heads = Heads(space.variables)
        self.context = self.embedding(CONTEXT_WIDTH)
        self.net = PixelCnn(
            space.grid[0],
            self.context.width,
            self.heads.width,
            config.width,
            config.blocks,
            config.dropout,
        )
        self.register_buffer("centre", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        known = data.value[data.mask]
        self.centre.copy_(known.mean())
        self.spread.copy_(known.std(unbiased=False).clamp_min(1e-3))
        self.heads.start(data.value, data.mask, weight)

    @property
    def capabilities(self) -> Capabilities:
        return self._able(features=True, objective="surrogate")  # trained with dropout

    def _scaled(self, value: Tensor) -> Tensor:
        return (value - self.centre) / self.spread

    def _image(
        self, value: Float[Tensor, "B D"], shown: Bool[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        scaled = self._scaled(value)
        return (scaled if shown is None else scaled * shown).unflatten(1, self.grid)

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        params = self.net(self._image(value), self.context(len(value), code))
        return self.heads.log_prob(params, value, torch.ones_like(value, dtype=torch.bool)).sum(1)

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        return self.net.features(
            self._image(event.value, event.mask), self.context(event.rows, None)
        )

    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)

        def pick(d: int, params: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
            value[:, d] = self.heads.sample_column(d, params, generator)
            return self._scaled(value[:, d])

        self.net.draw((n, *self.grid), self.context(n, code), pick)
        return value

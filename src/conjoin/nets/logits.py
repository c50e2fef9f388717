"""Complete rows to K numbers: a perceptron for the columns of a table, a convolution for pixels on
a grid.

Shape letters: B rows, D variables, K outputs, H width of the last hidden layer, C channels of an
image of Y by X pixels.
"""

import abc
import math

import torch
from torch import Tensor, nn

from conjoin.core import Event, Space
from conjoin.core.shapes import Float
from conjoin.nets.body import Body
from conjoin.nets.inputs import Inputs
from conjoin.nets.mlp import Mlp

__all__ = ["Columns", "Convolution", "Logits", "Pixels", "logits"]

MIN_SIDE_PIXELS = 4  # pixels a side at which halving stops


class Logits(nn.Module, abc.ABC):
    """All zero before any training."""

    @abc.abstractmethod
    def start(self, data: Event) -> None:
        """Set what the inputs need to know of the columns."""

    @abc.abstractmethod
    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]: ...

    @abc.abstractmethod
    def features(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        """The last hidden layer."""


def logits(
    space: Space, outputs: int, width: int, blocks: int, dropout: float, embedded: bool
) -> Logits:
    """Pixels where the space has a grid of that many variables, columns elsewhere."""
    if space.grid is not None and math.prod(space.grid) == len(space.variables):
        return Pixels(space, outputs, width, dropout)
    return Columns(space, outputs, width, blocks, dropout, embedded)


class Columns(Logits):
    """A residual perceptron on indicators and piecewise linear codes."""

    def __init__(
        self,
        space: Space,
        outputs: int,
        width: int,
        blocks: int,
        dropout: float,
        embedded: bool,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(space.variables, embedded)
        self.body = Mlp(self.inputs.size, outputs, width, blocks, dropout)

    def start(self, data: Event) -> None:
        self.inputs.start(data.value, data.mask)

    def _seen(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B F"]:
        return self.inputs(x, torch.ones_like(x, dtype=torch.bool))

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.body(self._seen(x))

    def features(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        return self.body.features(self._seen(x))


class Pixels(Logits):
    """A convolution on an image whose levels become numbers from -1 to 1; numbers are squashed to
    that range."""

    scale: Tensor

    def __init__(self, space: Space, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        assert space.grid is not None
        self.grid = space.grid
        levels = torch.tensor(
            [v.cardinality - 1.0 if v.discrete else 0.0 for v in space.variables],
            dtype=torch.float64,
        )
        self.register_buffer("scale", levels, persistent=False)
        self.body = Convolution(space.grid, outputs, width, dropout)

    def start(self, data: Event) -> None:
        """Pixels need no scales."""

    def _seen(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B C Y X"]:
        numbers = torch.where(self.scale > 0, 2 * x / self.scale.clamp_min(1.0) - 1, torch.tanh(x))
        return numbers.unflatten(1, self.grid)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.body(self._seen(x))

    def features(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        return self.body.features(self._seen(x))


class Convolution(Body):
    """Three by three convolutions that halve the image down to 4 by 4, then one hidden layer (Y.
    LeCun et al. (1998), Gradient-based learning applied to document recognition, section II)."""

    def __init__(
        self, grid: tuple[int, int, int], outputs: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        channels, *sides = grid
        maps = max(8, width // 4)
        layers: list[nn.Module] = [nn.Conv2d(channels, maps, 3, padding=1), nn.GELU()]
        while min(sides) > MIN_SIDE_PIXELS:
            layers += [nn.Conv2d(maps, min(2 * maps, width), 3, stride=2, padding=1), nn.GELU()]
            maps = min(2 * maps, width)
            sides = [(side + 1) // 2 for side in sides]
        layers += [
            nn.Conv2d(maps, maps, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Dropout(dropout),
        ]
        self.maps = nn.Sequential(*layers, nn.Linear(maps * math.prod(sides), width), nn.GELU())
        out = nn.Linear(width, outputs)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.last = nn.Sequential(nn.Dropout(dropout), out)
        self.double()

    def compute(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        out: Tensor = self.last(self.maps(x))
        return out

    def features(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B H"]:
        """What the last hidden layer sees, float64."""
        return self.maps(*self.cast(x)).to(torch.float64)

r"""The network of a diffusion: what is known of a row, noise included, to the parameters of every
cell.

    (x, e)  ->  eta,     eta_d the parameters of cell d,   e the time and the class

A table gets a multilayer perceptron, an image whose pixels are alike a convolutional network over
its grid, as in J. Ho, A. Jain and P. Abbeel (2020), Denoising diffusion probabilistic models,
section 4. What is known enters as ``Inputs`` of every column, all zero where a cell is absorbed.
Its outputs are logits and scales, from which families make nats.

Shape letters: B rows, D variables, F inputs in all, f inputs of a pixel, E extra inputs, W
parameters of a variable.

>>> from conjoin.core import Variable
>>> from conjoin.nets.inputs import Inputs
>>> space = Space((2,), (Variable("a", "category", cardinality=3), Variable("b", "real")))
>>> network = CellNetwork(space, Inputs(space.variables).size, 1, 5, 16, 1, 0.0)
>>> network(torch.zeros(4, 17), torch.ones(4, 1)).shape
torch.Size([4, 2, 5])
"""

import torch
from torch import Tensor, nn

from conjoin.core import Space
from conjoin.core.shapes import Float
from conjoin.nets.body import Body, ContextEmbedding
from conjoin.nets.convolution import Convolution
from conjoin.nets.mlp import Mlp

__all__ = ["CellNetwork", "drop_class", "guided"]

# width and blocks, where the config leaves them open
TABLE_WIDTH_AND_BLOCKS = (64, 2)
IMAGE_WIDTH_AND_BLOCKS = (48, 6)
DROPPED_SHARE = 0.1  # share of training rows whose class is withheld


class CellNetwork(nn.Module):
    """``inputs`` (B, F) of the columns and ``extra`` (B, E) for all of them to parameters (B, D,
    W)."""

    def __init__(
        self,
        space: Space,
        inputs: int,
        extra: int,
        outputs: int,
        width: int | None,
        blocks: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        size = len(space.variables)
        alike = len({(v.kind, v.cardinality, v.resolution) for v in space.variables}) == 1
        self.grid = space.grid if alike else None
        self.cells = (size, outputs)
        if self.grid is None:
            self.body: Body = Mlp(
                inputs + extra,
                size * outputs,
                width or TABLE_WIDTH_AND_BLOCKS[0],
                blocks or TABLE_WIDTH_AND_BLOCKS[1],
                dropout,
            )
        else:
            channels, *sides = self.grid
            of_pixel = channels * inputs // size + extra
            self.body = Convolution(
                (sides[0], sides[1]),
                of_pixel,
                channels * outputs,
                width or IMAGE_WIDTH_AND_BLOCKS[0],
                blocks or IMAGE_WIDTH_AND_BLOCKS[1],
                dropout,
            )

    def forward(
        self, inputs: Float[Tensor, "B F"], extra: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B D W"]:
        out: Tensor = self.body(self._joined(inputs, extra))
        if self.grid is None:
            return out.unflatten(1, self.cells)
        # channels before pixels, as in the row
        return out.unflatten(2, (self.grid[0], -1)).transpose(1, 2).flatten(1, 2)

    def _joined(self, inputs: Tensor, extra: Tensor) -> Tensor:
        if self.grid is None:
            return torch.cat([inputs, extra], 1)
        pixels = self.grid[1] * self.grid[2]
        cells = inputs.unflatten(1, (self.grid[0], pixels, -1)).transpose(1, 2).flatten(2)
        return torch.cat([cells, extra[:, None].expand(-1, pixels, -1)], 2)

    def features(
        self, inputs: Float[Tensor, "B F"], extra: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B H"]:
        """The last hidden layer; of an image, its mean over the pixels."""
        hidden: Tensor = self.body.features(self._joined(inputs, extra))  # type: ignore[operator]
        return hidden if self.grid is None else hidden.mean(1)


def drop_class(
    code: Tensor | None, context: ContextEmbedding, generator: torch.Generator | None
) -> Tensor | None:
    """The classes of training rows, some replaced by "no class" (J. Ho and T. Salimans (2022),
    algorithm 1)."""
    if code is None or generator is None or not context.training:
        return code
    gone = torch.rand(len(code), generator=generator, dtype=torch.float64) < DROPPED_SHARE
    return torch.where(gone, float(context.classes), code)


def guided(given: Tensor, free: Tensor | None, guidance: float) -> Tensor:
    """(1 + w) f(x, class) - w f(x): classifier-free guidance (J. Ho and T. Salimans (2022),
    equation 6)."""
    return given if free is None else given + guidance * (given - free)

r"""Causal transformers: the chain rule along one scan of the variables, or the mean over several
scans.

    p(x) = 1/K sum_k prod_t p(x_{k(t)} | x_{k(1)}, ..., x_{k(t-1)})

A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu (2016), Pixel recurrent neural networks,
equation 1, with a transformer in the place of the recurrent network as in N. Parmar et al. (2018),
Image transformer. Columns of a table are scanned as they come and then backwards, images by rows of
pixels and then by columns. The network of a scan gives the parameters of each cell's distribution
(conjoin.nets.heads), whatever its kind, so log p is exact, in nats.

Images are few and shifts are many: in training some images are shifted by a pixel, and the network
is told the shift, so that it learns from them without taking them for the real thing (H. Jun et al.
(2020), Distribution augmentation for generative modeling, section 3). All answers are for the shift
of zero.

Shape letters: B rows, K scans, D variables, I inputs of a cell, W parameters of a cell's
distribution, V levels.

>>> from conjoin.core import Event, Space, Variable, stream
>>> import torch
>>> rows = Event(torch.tensor([[0.0, 0.0], [1.0, 1.0]] * 20).double())
>>> space = Space((2,), tuple(Variable(name, "category", cardinality=2) for name in "ab"))
>>> density = CausalDensity.build(space, Causal(), rows, stream(0))
>>> all_rows = Event(torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double())
>>> float(density.log_prob(all_rows).exp().sum().detach().round(decimals=6))
1.0
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from conjoin.core import Capabilities, Config, Event, Space
from conjoin.core.shapes import Bool, Float, Int
from conjoin.families.autoregressive.masked import orders_of
from conjoin.families.deep import DeepConfig, DeepDensity
from conjoin.nets.causal import CausalNet
from conjoin.nets.heads import Heads
from conjoin.nets.inputs import Inputs

__all__ = ["Causal", "CausalDensity"]

CONTEXT_WIDTH = 16  # numbers that stand for a class, and for a shift
MAX_PAIRS = 1 << 22  # of cells of which one looks at the other, in a batch
SHIFTS = [(0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))]


@dataclass(frozen=True)
class Causal(DeepConfig):
    """Settings of the causal transformers.

    Parameters
    ----------
    steps : int or None, default None
        Steps of the gradient; None takes them from the number of rows.
    batch : int, default 64
        Rows of a step.
    rate : float, default 0.005
        Learning rate at its greatest; it falls to zero over the steps.
    decay : float, default 0.05
        Weight decay of AdamW, for each unit of the learning rate.
    draws : int, default 32
        Ways in which a row with missing cells is completed, to average over.
    scans : int or None, default None
        Orders in which the variables are read, each with a transformer of its own; None: 2, of
        images 4.
    width : int or None, default None
        Features of a token; None: 64 of images, else by the number of rows.
    blocks : int or None, default None
        Transformer blocks; None: 3 of images, else 2.
    dropout : float, default 0.35
        Share of hidden units left out in a training step.
    hide : float, default 0.0
        Share of cells whose value the network does not see in training.
    shift : float, default 0.1
        Share of training images that are shifted by a pixel.
    """

    scans: int | None = None
    width: int | None = None
    blocks: int | None = None
    dropout: float = 0.35
    hide: float = 0.0
    shift: float = 0.1

    batch: int = 64
    rate: float = 5e-3
    decay: float = 5e-2
    passes: ClassVar[tuple[int, int, int]] = (36, 100, 3000)

    def suited(self, space: Space) -> Config:
        """Smaller batches, if none was asked for, where each cell looks back at very many:
        ``MAX_PAIRS`` at once."""
        if self.batch != type(self).batch:
            return self
        return dataclasses.replace(
            self, batch=max(1, min(self.batch, MAX_PAIRS // len(space.variables) ** 2))
        )


def grid_of(space: Space) -> tuple[int, int, int] | None:
    """(C, H, W) of an image; None where there is none, or where other variables stand beside its
    pixels."""
    return (
        space.grid
        if space.grid is not None and math.prod(space.grid) == len(space.variables)
        else None
    )


def scans_of(space: Space, many: int) -> list[list[int]]:
    """``many`` different orders of the variables. An image: by rows, by columns, and these from the
    other end."""
    size = len(space.variables)
    grid = grid_of(space)
    if grid is None:
        return orders_of(size, many)
    pixels = torch.arange(size).reshape(grid)
    turned = [pixels, pixels.transpose(1, 2), pixels.flip(1, 2), pixels.transpose(1, 2).flip(1, 2)]
    return [scan.flatten().tolist() for scan in turned[:many]]


def cells_before(space: Space, scan: int) -> Int[Tensor, "D N"]:
    """The places in a scan that the token of each place is made of, -1 for none: the one before; in
    an image also the three pixels next to it in the line before."""
    place = torch.arange(len(space.variables))
    grid = grid_of(space)
    if grid is None:
        return place[:, None] - 1
    _, height, width = grid
    line = height if scan % 2 else width
    column = place % line
    row = place // line % (width if scan % 2 else height)
    near = [
        torch.where(
            (row + dy >= 0) & (column + dx >= 0) & (column + dx < line), place + dy * line + dx, -1
        )
        for dy, dx in NEIGHBOUR_OFFSETS
    ]
    return torch.stack(near, 1)


# rows down and columns right: left, upper left, above, upper right
NEIGHBOUR_OFFSETS = [(0, -1), (-1, -1), (-1, 0), (-1, 1)]


class CausalDensity(DeepDensity):
    """Exact for complete rows; an equally weighted mixture over the scans."""

    config_class = Causal
    bounded = True
    slot: Tensor
    rate: Tensor

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
        self.scans: list[list[int]] = self.structure["scans"]
        sizes = torch.bincount(self.inputs.owner)
        first = (sizes.cumsum(0) - sizes)[self.inputs.owner]
        self.cell = int(sizes.max()) + 1  # inputs of a cell, and the level as a number
        self.register_buffer(
            "slot",
            self.inputs.owner * self.cell + torch.arange(self.inputs.size) - first,
            persistent=False,
        )
        level = [
            1 / max(v.cardinality - 1, 1) if v.kind == "ordered" else 0.0 for v in space.variables
        ]
        self.register_buffer("rate", torch.tensor(level, dtype=torch.float64), persistent=False)
        alike = grid_of(space) is not None
        self.shift = (
            nn.Parameter(0.1 * torch.randn(len(SHIFTS), CONTEXT_WIDTH, dtype=torch.float64))
            if alike
            else None
        )
        shape = (
            self.cell,
            self.heads.width,
            self.context.width + (CONTEXT_WIDTH if alike else 0),
            self.structure["width"],
            self.structure["blocks"],
        )
        self.nets = nn.ModuleList(
            CausalNet(cells_before(space, k), *shape, config.dropout, shared=alike)
            for k in range(len(self.scans))
        )

    @classmethod
    def _structure(cls, space: Space, config: Any, data: Event, weight: Tensor) -> dict[str, Any]:
        """The scans, and a width that grows with the root of the number of rows; images show many
        pixels each."""
        width, blocks = (
            (32 * min(4, 1 + round(math.sqrt(data.rows) / 64)), 2)
            if grid_of(space) is None
            else (64, 3)
        )
        scans = config.scans or (2 if grid_of(space) is None else 4)
        return {
            "scans": scans_of(space, scans),
            "width": config.width or width,
            "blocks": config.blocks or blocks,
        }

    def _start(self, data: Event, weight: Tensor, generator: torch.Generator) -> None:
        self.inputs.start(data.value, data.mask)
        self.heads.start(data.value, data.mask, weight)

    @property
    def capabilities(self) -> Capabilities:
        codes = len(self.heads.category) == len(self.space.variables)
        return self._able(features=True, step=codes and len(self.scans) == 1, objective="surrogate")

    # ------------------------------------------------------------------ log p

    def _cells(
        self, value: Float[Tensor, "B D"], shown: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B D I"]:
        """Each cell as inputs of the network, padded to the widest, and an ordered level also as a
        number from 0 to 1."""
        cells = value.new_zeros(len(value), value.shape[1] * self.cell)
        cells[:, self.slot] = self.inputs(value, shown)
        cells = cells.unflatten(1, (-1, self.cell))
        cells[:, :, -1] = value * self.rate * shown
        return cells

    def _told(
        self, n: int, code: Tensor | None, shift: Tensor | None = None
    ) -> Float[Tensor, "B C"]:
        """What the network is told: the class, and the shift of an image."""
        told = self.context(n, code)
        if self.shift is None:
            return told
        return torch.cat(
            [told, self.shift[torch.zeros(n, dtype=torch.long) if shift is None else shift]], 1
        )

    def _each(
        self, value: Float[Tensor, "B D"], shown: Bool[Tensor, "B D"], told: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B K"]:
        """log p of the rows in each scan, where the network sees the cells that are shown."""
        every = torch.ones_like(shown)
        cells = self._cells(value, shown)
        out = []
        for scan, net in zip(self.scans, self.nets, strict=True):
            params = net(cells[:, scan], told)[:, torch.tensor(scan).argsort()]
            out.append(self.heads.log_prob(params, value, every).sum(1))
        return torch.stack(out, 1)

    def _whole(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        each = self._each(
            value, torch.ones_like(value, dtype=torch.bool), self._told(len(value), code)
        )
        return each.logsumexp(1) - math.log(each.shape[1])

    def _objective(
        self, value: Float[Tensor, "B D"], code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, " B"]:
        """Each scan learns by itself, from some images shifted; held-out rows are judged by the
        mixture."""
        if not self.training:
            return -self._whole(value, code, generator)
        shown = (
            torch.rand(value.shape, generator=generator, dtype=torch.float64) >= self.config.hide
        )
        which = self._which(len(value), generator)
        return -self._each(
            self._shifted(value, which), shown, self._told(len(value), code, which)
        ).mean(1)

    def _which(self, n: int, generator: torch.Generator | None) -> Int[Tensor, " B"]:
        """The number of each row's shift: 0 for none."""
        if grid_of(self.space) is None:
            return torch.zeros(n, dtype=torch.long)
        moved = torch.rand(n, generator=generator, dtype=torch.float64) < self.config.shift
        return torch.where(moved, torch.randint(1, len(SHIFTS), (n,), generator=generator), 0)

    def _shifted(
        self, value: Float[Tensor, "B D"], which: Int[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        """The image moved by a pixel; its edge fills the gap."""
        grid = grid_of(self.space)
        if grid is None:
            return value
        channels, height, width = grid
        dy, dx = torch.tensor(SHIFTS)[which].unbind(1)
        row = (torch.arange(height) - dy[:, None]).clamp(0, height - 1)
        column = (torch.arange(width) - dx[:, None]).clamp(0, width - 1)
        pixel = (
            (row[:, :, None] * width + column[:, None]).flatten(1)[:, None].expand(-1, channels, -1)
        )
        return value.unflatten(1, (channels, -1)).gather(2, pixel).flatten(1)

    def _features(self, event: Event) -> Float[Tensor, "B F"]:
        cells = self._cells(event.value, event.mask)
        told = self._told(event.rows, None)
        nets: Iterable[Any] = self.nets
        return torch.cat(
            [
                net.features(cells[:, scan], told)
                for scan, net in zip(self.scans, nets, strict=True)
            ],
            1,
        )

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def _draw(
        self, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        """A scan for each row at random; then one variable after the other."""
        chosen = torch.randint(len(self.scans), (n,), generator=generator)
        value = torch.zeros(n, len(self.space.variables), dtype=torch.float64)
        for index in range(len(self.scans)):
            mine = (chosen == index).nonzero()[:, 0]
            value[mine] = self._draw_along(
                index, len(mine), None if code is None else code[mine], generator
            )
        return value

    def _draw_along(
        self, index: int, n: int, code: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "B D"]:
        scan = self.scans[index]
        net = self.nets[index]
        told = self._told(n, code)
        cache = None
        value = torch.zeros(n, len(scan), dtype=torch.float64)
        shown = torch.zeros_like(value, dtype=torch.bool)
        for d in scan:
            cells = self._cells(value, shown)[:, scan]
            params, cache = net.step(cells, told, cache)  # type: ignore[operator]
            value[:, d] = self.heads.sample_column(d, params, generator)
            shown[:, d] = True
        return value

    @torch.no_grad()
    def _step(self, state: Any, token: Float[Tensor, " B"]) -> tuple[Any, Float[Tensor, "B V"]]:
        """``state``: the cells so far and the cache. The first call gets the value of the first
        variable."""
        size = len(self.space.variables)
        value, known, cache = state or (torch.zeros(len(token), size, dtype=torch.float64), 0, None)
        told = self._told(len(token), None)
        places = torch.arange(size)
        net = self.nets[0]
        if cache is None:
            cells = self._cells(value, (places < 0).expand_as(value))
            _, cache = net.step(cells, told, None)  # type: ignore[operator]
        value = torch.where(places == known, token[:, None].double(), value)
        cells = self._cells(value, (places <= known).expand_as(value))
        params, cache = net.step(cells, told, cache)  # type: ignore[operator]
        return (value, known + 1, cache), self.heads.log_levels_of(known + 1, params)

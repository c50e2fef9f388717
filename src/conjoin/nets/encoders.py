"""Records as inputs of a network: what a density is conditioned on, of any blocks.

One encoder for each layout turns the events of a block into a vector of a fixed size, with flags
that say what is known; where nothing is known of a row the vector is the same for every row, so a
network can learn what it means. So every family can be conditioned on every kind of block.

    vector      indicators and piecewise linear codes of the columns (see ``Inputs``)
    image       the mean over the picture of what two convolutions see; or what several see at each
                of at most 8 times 8 places, with a vector for the place (A. Dosovitskiy et al.
                (2021), An image is worth 16x16 words, equation 1), so that a network that attends
                to them can tell what stands where
    sequence    the state of a recurrent network after the last known token (K. Cho et al. (2014),
                Learning phrase representations using RNN encoder-decoder); or what a transformer
                sees at each of its positions
    points      a sum of a network over the points: neither order nor padding matters (M. Zaheer et
                al. (2017), Deep sets, theorem 2)

Shape letters: B rows, N positions, F outputs, M places of pictures, G outputs of a place.
"""

import abc
import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from conjoin.core import Block, Event, Record, RecordSpace
from conjoin.core.shapes import Float
from conjoin.nets.body import Body
from conjoin.nets.decoder import HEAD_WIDTH, HiddenConvolution, even
from conjoin.nets.decoder import Block as Transformer
from conjoin.nets.inputs import Inputs
from conjoin.nets.unet import ChannelNorm

__all__ = ["PLACE_WIDTH", "RecordEncoder"]

OUTPUT_WIDTH = 32  # outputs of the encoder of a block that is no vector
PLACE_WIDTH = 64  # outputs of each place of a picture or string
READING_LAYERS = 2  # over the positions of a string
MAX_PLACES_PER_SIDE = 8  # of a picture
ROWS_AT_ONCE = 256  # of which no gradient is wanted


class RecordEncoder(nn.Module):
    """(B, F) of records; F is ``size``, 0 where the space has no block. Layouts that are
    ``by_place`` are told place by place: the last ``places`` times ``PLACE_WIDTH`` of F."""

    def __init__(self, space: RecordSpace, by_place: Collection[str] = ()) -> None:
        super().__init__()
        encoders = ENCODERS | {layout: PLACE_ENCODERS[layout] for layout in by_place}
        blocks = sorted(space.blocks, key=lambda block: block.layout in by_place)
        self.names = [block.name for block in blocks]
        self.parts = nn.ModuleList(encoders[block.layout](block) for block in blocks)

    @property
    def size(self) -> int:
        return sum(int(part.size) for part in self.parts)  # type: ignore[arg-type, misc]

    @property
    def places(self) -> int:
        """Of all blocks that are told by place."""
        return sum(int(getattr(part, "places", 0)) for part in self.parts)

    def start(self, record: Record) -> None:
        """Scales from the rows of the fit."""
        for name, part in zip(self.names, self.parts, strict=True):
            part.start(record[name])  # type: ignore[operator]

    def forward(self, record: Record, rows: int) -> Float[Tensor, "B F"]:
        """Without a gradient some rows at a time, as pictures take much memory."""
        if torch.is_grad_enabled() or rows <= ROWS_AT_ONCE:
            return self._encoded(record, rows)
        parts = torch.arange(rows).split(ROWS_AT_ONCE)
        return torch.cat([self._encoded(record.take(part), len(part)) for part in parts])

    def _encoded(self, record: Record, rows: int) -> Float[Tensor, "B F"]:
        nothing = torch.zeros(rows, 0, dtype=torch.float64)
        each = [
            part.encoded(record[name])  # type: ignore[operator]
            for name, part in zip(self.names, self.parts, strict=True)
        ]
        return torch.cat([nothing, *each], 1)


class VectorEncoder(nn.Module):
    """The columns, each with a flag."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.inputs = Inputs(block.variables)
        self.size = self.inputs.size

    def start(self, event: Event) -> None:
        self.inputs.start(event.value, event.mask)

    def encoded(self, event: Event) -> Float[Tensor, "B F"]:
        """(B, F) of an event, float64."""
        out: Tensor = self.inputs(event.value, event.mask)
        return out


class Learned(Body):
    """An encoder with weights, and nothing to read off the rows before they are learned."""

    size = OUTPUT_WIDTH

    def start(self, event: Event) -> None:
        """Nothing: weights are learned."""

    @abc.abstractmethod
    def inputs_of(self, event: Event) -> tuple[Tensor, ...]:
        """What ``compute`` takes, of an event."""

    def encoded(self, event: Event) -> Float[Tensor, "B F"]:
        """(B, F) of an event, float64."""
        out: Tensor = self(*self.inputs_of(event))
        return out


class ImageEncoder(Learned):
    """Two convolutions, then the mean over the picture; unknown pixels are grey, and flagged."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.levels = block.variables[0].cardinality
        channels = block.shape[0]
        self.net = nn.Sequential(
            nn.Conv2d(2 * channels, OUTPUT_WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(OUTPUT_WIDTH, OUTPUT_WIDTH, 3, padding=1),
            nn.GELU(),
        )
        self.double()

    def inputs_of(self, event: Event) -> tuple[Tensor]:
        return _pixels(event, self.levels)

    def compute(self, pixels: Float[Tensor, "B 2C H W"]) -> Float[Tensor, "B F"]:
        out: Tensor = self.net(pixels).mean((2, 3))
        return out


class PlaceEncoder(Learned):
    """Convolutions, which halve the sides until at most 8 places a side are left; each place with a
    vector of its own."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.levels = block.variables[0].cardinality
        channels, *sides = block.shape
        halvings = max(0, math.ceil(math.log2(max(sides) / MAX_PLACES_PER_SIDE)))
        self.net = nn.Sequential()
        before = 2 * channels
        for left in reversed(range(halvings)):
            after = OUTPUT_WIDTH if left else PLACE_WIDTH
            self.net.append(nn.Conv2d(before, after, 5, stride=2, padding=2))
            self.net.append(_Residual(after))
            before = after
        if not halvings:
            self.net.append(nn.Conv2d(before, PLACE_WIDTH, 3, padding=1))
        self.net.extend([_Residual(PLACE_WIDTH), ChannelNorm(PLACE_WIDTH)])
        self.places = math.prod(math.ceil(side / 2**halvings) for side in sides)
        self.size = self.places * PLACE_WIDTH
        self.place = nn.Parameter(0.3 * torch.randn(self.places, PLACE_WIDTH))
        self.double()

    def inputs_of(self, event: Event) -> tuple[Tensor]:
        return _pixels(event, self.levels)

    def compute(self, pixels: Float[Tensor, "B 2C H W"]) -> Float[Tensor, "B F"]:
        seen: Tensor = self.net(pixels).flatten(2).transpose(1, 2) + self.place
        return seen.flatten(1)


class _Residual(nn.Module):
    """h + conv(gelu(norm(conv(gelu(norm(h))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential()
        for _ in range(2):
            convolution = HiddenConvolution(width, width, 3, padding=1)
            self.net.extend([ChannelNorm(width), nn.GELU(), convolution])
        nn.init.zeros_(convolution.weight)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.net(h)
        return out


def _pixels(event: Event, levels: int) -> tuple[Float[Tensor, "B 2C H W"]]:
    """Levels about 0, unknown ones grey; and which are known."""
    known = event.mask.double()
    level = event.value.double() / max(levels - 1, 1) - 0.5
    return (torch.cat([known * level, known], 1),)


class SequenceEncoder(Learned):
    """A gated recurrent network over the tokens; it stops at the first that is not known."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.levels = block.variables[0].cardinality
        self.embed = nn.Embedding(self.levels + 1, OUTPUT_WIDTH)  # the last one: the end
        self.cell = nn.GRUCell(OUTPUT_WIDTH, OUTPUT_WIDTH)
        self.nothing = nn.Parameter(torch.zeros(OUTPUT_WIDTH))
        self.double()

    def inputs_of(self, event: Event) -> tuple[Tensor, Tensor]:
        told = event.mask.cummin(1).values
        token = torch.where(event.there, event.value, self.levels)
        end = torch.full((event.rows, 1), self.levels)
        token = torch.cat([token, end], 1)
        told = torch.cat([told, told[:, -1:]], 1)
        behind = (token == self.levels).long().cumsum(1) > 1
        return token, told & ~behind

    def compute(self, token: Tensor, told: Tensor) -> Float[Tensor, "B F"]:
        state = self.nothing.expand(len(token), -1)
        embedded = self.embed(token)
        for t in range(token.shape[1]):
            state = torch.where(told[:, t, None], self.cell(embedded[:, t], state), state)
        return state


class WordsEncoder(Learned):
    """A transformer over the positions of a string, which all see each other; those behind its end
    say that it has ended, and untold ones that they are not told."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.levels = block.variables[0].cardinality
        self.places = block.shape[0]
        self.size = self.places * PLACE_WIDTH
        self.embed = nn.Embedding(self.levels + 2, PLACE_WIDTH)  # the end, what is not told
        self.place = nn.Parameter(0.3 * torch.randn(self.places, PLACE_WIDTH))
        heads = PLACE_WIDTH // HEAD_WIDTH
        self.blocks = nn.ModuleList(
            Transformer(PLACE_WIDTH, heads, 0.0) for _ in range(READING_LAYERS)
        )
        self.double()

    def inputs_of(self, event: Event) -> tuple[Tensor]:
        told = event.mask.cummin(1).values
        token = torch.where(event.there, event.value, self.levels)
        token = torch.where(told, token, self.levels + 1)
        behind = self.places - token.shape[1]
        last = torch.where(told[:, -1:], self.levels, self.levels + 1)
        return (torch.cat([token, last.expand(-1, behind)], 1),)

    def compute(self, token: Tensor) -> Float[Tensor, "B F"]:
        h = even(self.embed(token) + self.place)
        there = torch.ones(h.shape[:2], dtype=torch.bool)
        for block in self.blocks:
            h = block(h, h.new_ones(()), h.new_zeros(()), there)
        return even(h).flatten(1)


class PointsEncoder(Learned):
    """The sum of a network over the known points, beside their number."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.levels = [v.cardinality if v.discrete else 0 for v in block.variables]
        inputs = sum(level or 1 for level in self.levels)
        self.net = nn.Sequential(
            nn.Linear(inputs, OUTPUT_WIDTH), nn.GELU(), nn.Linear(OUTPUT_WIDTH, OUTPUT_WIDTH - 1)
        )
        self.double()

    def inputs_of(self, event: Event) -> tuple[Tensor, Tensor]:
        columns = [
            nn.functional.one_hot(event.value[..., d].long(), level).double()
            if level
            else event.value[..., d : d + 1]
            for d, level in enumerate(self.levels)
        ]
        return torch.cat(columns, 2), event.known.all(2).double()

    def compute(self, cells: Tensor, known: Tensor) -> Float[Tensor, "B F"]:
        summed = (self.net(cells) * known[..., None]).sum(1)
        return torch.cat([summed, known.sum(1, keepdim=True)], 1)


ENCODERS: dict[str, type[nn.Module]] = {
    "vector": VectorEncoder,
    "image": ImageEncoder,
    "sequence": SequenceEncoder,
    "points": PointsEncoder,
}
PLACE_ENCODERS: dict[str, type[nn.Module]] = {"image": PlaceEncoder, "sequence": WordsEncoder}

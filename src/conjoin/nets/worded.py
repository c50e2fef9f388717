r"""A U-Net for pictures that are told in words: at its lowest level, the places of the picture
attend to each other and to the words.

    w = transformer(whole, word_1, ..., word_n),   e' = e + W w_0
    h_0 = block(conv(unshuffle(x)), e'),   h_1 = block(down(h_0), e')
    p = transformer(h_1 + position + W e'; w),   h_1 <- h_1 + W p
    u_0 = block([up(block(h_1, e')), h_0], e'),   out = shuffle(conv(u_0))

Keys and values of words stand beside those of places, as in A. Nichol et al. (2022), GLIDE, section
3.1; the transformer is that of ``conjoin.nets.decoder``, in both directions. The words are read by
a transformer of their own, whose first position, of no word, sums them up. Where no word is told it
stands alone, and so is the null caption (J. Ho and T. Salimans (2022), Classifier-free diffusion
guidance). Blocks, norms and pixels in channels are those of ``conjoin.nets.unet``. Parameters stay
float32.

Shape letters: B rows, C channels, H and W sides, T conditioning numbers, N words, M places, D
width, E embedding.

>>> net = Worded(3, (32, 32), 2, words=(5, 7), size=0.25)
>>> net(torch.zeros(2, 3, 32, 32), torch.zeros(2), None).shape
torch.Size([2, 3, 32, 32])
"""

import math

import torch
from torch import Tensor, nn

from conjoin.core.shapes import Bool, Float, Int
from conjoin.nets.conditioned import EMBEDDING_WIDTH, Conditioned
from conjoin.nets.decoder import Block, Hidden, even
from conjoin.nets.unet import ChannelNorm, ResidualBlock
from conjoin.util.memo import TensorMemo

__all__ = ["LOWER", "UNKNOWN_WORD", "Worded"]

UNKNOWN_WORD = -1.0  # among the conditioning numbers, in place of a word that is not told
# where ``size`` is 1: channels of the first level, numbers of a place and of a word
BASE_CHANNELS = 32
BASE_WIDTH = 128
HEAD_WIDTH = 32
LAYERS = 3  # over places, where ``blocks`` is 1
READING_LAYERS = 2  # over words alone
LOWER = 2  # by which the sides of the lower level are smaller, unless asked otherwise
POSITION_SCALE = 0.3  # of the vectors of places and words, as they begin


class _Fixed(nn.Module):
    """Codes -> what is learned of a fixed vector of each."""

    vectors: Tensor

    def __init__(self, words: int, numbers: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(words, numbers))
        self.linear = nn.Linear(numbers, width)

    def start(self, vectors: Float[Tensor, "V F"]) -> None:
        """Those of the words, moved and scaled to mean 0 and variance 1; the end has none."""
        apart = vectors - vectors.mean(0)
        self.vectors[: len(vectors)] = apart / apart.square().mean().sqrt().clamp_min(1e-6)

    def forward(self, word: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        out: Tensor = self.linear(self.vectors[word])
        return out


class _Reader(nn.Module):
    """(B, N) codes of words, of which the last one is the end -> (B, N + 1, D), the first of them
    for the whole; and which of them there are. ``numbers``: of the fixed vector that each word has,
    in place of one that is learned."""

    def __init__(
        self, positions: int, words: int, width: int, dropout: float, numbers: int = 0
    ) -> None:
        super().__init__()
        self.embed: nn.Module = (
            _Fixed(words + 1, numbers, width) if numbers else nn.Embedding(words + 1, width)
        )
        self.whole = nn.Parameter(torch.randn(width))
        self.position = nn.Parameter(POSITION_SCALE * torch.randn(positions + 1, width))
        heads = max(1, width // HEAD_WIDTH)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(READING_LAYERS))
        self.end = words

    def forward(self, word: Int[Tensor, "B N"]) -> tuple[Float[Tensor, "B N1 D"], Tensor]:
        """Words behind the first end, or behind the first that is not told, are none."""
        ended = (word == self.end).long().cumsum(1) - (word == self.end).long()
        there = (ended == 0) & (word >= 0).cummin(1).values
        there = nn.functional.pad(there, (1, 0), value=True)
        whole = self.whole.expand(len(word), 1, -1)
        position = self.position[: there.shape[1]]
        h = even(torch.cat([whole, self.embed(word.clamp_min(0))], 1) + position)
        still = h.new_ones(()), h.new_zeros(())
        for block in self.blocks:
            h = block(h, *still, there)
        return even(h), there


class Worded(Conditioned):
    """``size`` scales channels and width; there are three layers over places for each of
    ``blocks``. ``lower``: by how much the sides of the lower level are smaller. ``wide``:
    whether the first level has twice the channels, as where many numbers are told of a pixel. The
    last N of the conditioning numbers are codes of words, of which the last one is the end;
    ``words``: N, how many words there are beside the end, and of how many numbers the fixed vector
    of a word is, where each has one."""

    def __init__(
        self,
        channels: int,
        sides: tuple[int, int],
        told: int,
        words: tuple[int, ...],
        size: float = 1.0,
        blocks: int = 1,
        dropout: float = 0.0,
        shown: int | None = None,
        lower: int = LOWER,
        wide: bool = False,
    ) -> None:
        super().__init__(0, told)
        self.is_told = True
        self.lower_by = lower
        self._read = TensorMemo[tuple[Tensor, Tensor]]()
        side = max(sides)
        self.patch = 1 if side < 16 else 2 if side <= 40 else 4 if side <= 96 else 8
        self.sides = sides
        self.positions = words[0]
        first = max(8, round(BASE_CHANNELS * (2 if wide else 1) * size / 8) * 8)
        width = max(1, round(BASE_WIDTH * size / HEAD_WIDTH)) * HEAD_WIDTH
        multiple = self.patch * lower
        self.padding = [-each % multiple for each in sides]
        places = math.prod(math.ceil(each / multiple) for each in sides)
        self.width = 2 * (first + width)  # numbers of ``features``
        numbers = words[2] if len(words) > 2 else 0
        self.reader = _Reader(words[0], words[1], width, dropout, numbers)
        self.summary = nn.Linear(width, EMBEDDING_WIDTH)
        self.stem = nn.Conv2d((shown or channels) * self.patch**2, first, 3, padding=1)
        self.before = ResidualBlock(first, first, dropout)
        self.down = nn.Conv2d(first * lower**2, width, 1)
        self.lower = ResidualBlock(width, width, dropout)
        self.position = nn.Parameter(POSITION_SCALE * torch.randn(places, width))
        self.noise_of_places = nn.Linear(EMBEDDING_WIDTH, width)
        heads = width // HEAD_WIDTH
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(LAYERS * blocks))
        self.back = Hidden(width, width, zero=True)
        self.upper = ResidualBlock(width, width, dropout)
        self.up = nn.Conv2d(width, first * lower**2, 1)
        self.behind = nn.ModuleList(
            [ResidualBlock(2 * first, first, dropout), ResidualBlock(first, first, dropout)]
        )
        self.norm = ChannelNorm(first)
        reach = 0 if wide else 1  # pixels beyond its own that each answer sees at the end
        self.last = nn.Conv2d(first, channels * self.patch**2, 1 + 2 * reach, padding=reach)
        nn.init.zeros_(self.last.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def take_vectors(self, vectors: Float[Tensor, "V F"]) -> None:
        """The fixed vector of each word."""
        assert isinstance(self.reader.embed, _Fixed)
        self.reader.embed.start(vectors)

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, " B"], code: Tensor | None
    ) -> Float[Tensor, "B C H W"]:
        told = None if code is None else code[:, : self.hears]
        fine, coarse, embedding = self._seen(x, self.embedding(noise, told), self._words(x, code))
        h = nn.functional.pixel_shuffle(self.up(self.upper(coarse, embedding)), self.lower_by)
        h = torch.cat([h, fine], 1)
        for block in self.behind:
            h = block(h, embedding)
        out = nn.functional.pixel_shuffle(self.last(nn.functional.silu(self.norm(h))), self.patch)
        return out[..., : self.sides[0], : self.sides[1]].float()

    def _maps(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Without words."""
        levels = self._seen(x, embedding, self._words(x, None))[:2]
        return [h.flatten(2).transpose(1, 2) for h in levels]

    def _words(self, x: Tensor, code: Tensor | None) -> tuple[Float[Tensor, "B N1 D"], Tensor]:
        if code is None:
            word = torch.full((len(x), self.positions), UNKNOWN_WORD)
        else:
            word = code[:, self.hears :]
        if self.training:  # the longest of the step; answers must not depend on their batch
            there = (word >= 0) & (word < self.reader.end)
            word = word[:, : int(there.sum(1).max()) + 1]
        if torch.is_grad_enabled() or code is None:
            return self._reading(word)
        # a draw asks for the same ones often
        parts = [code, *self.reader.parameters(), *self.reader.buffers()]
        return self._read.of(parts, lambda: self._reading(word), self.training)

    def _reading(self, word: Tensor) -> tuple[Float[Tensor, "B N1 D"], Tensor]:
        read: tuple[Tensor, Tensor] = self.reader(word.long())
        return read

    def _seen(
        self, x: Tensor, embedding: Tensor, words: tuple[Tensor, Bool[Tensor, "B N1"]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both levels, and the embedding with what the words say on the whole."""
        word, there = words
        embedding = embedding + self.summary(word[:, 0])
        if any(self.padding):
            x = nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        folded = nn.functional.pixel_unshuffle(x, self.patch)
        h = self.stem(folded.contiguous(memory_format=torch.channels_last))
        fine = self.before(h, embedding)
        few = nn.functional.pixel_unshuffle(fine, self.lower_by)
        coarse = self.lower(self.down(few), embedding)
        at = self.position + self.noise_of_places(embedding)[:, None]
        places = even(coarse.permute(0, 2, 3, 1).flatten(1, 2) + at)
        for block in self.blocks:
            places = block.among(places, word, there)  # type: ignore[operator]
        more = self.back(even(places)).unflatten(1, coarse.shape[2:])
        return fine, coarse + more.permute(0, 3, 1, 2), embedding

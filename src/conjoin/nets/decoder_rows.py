r"""One more position of a decoder, of many rows that are drawn side by side, in float32, or with
products of fewer bits.

The same function as ``conjoin.nets.decoder_steps``, whose weights it takes, by calls of torch. Keys
and values lie by position first, so that those of all rows at a position are written at once; up to
``MAX_POSITIONS_BY_PRODUCTS`` positions attention is a product of numbers and a sum, which takes
half the time of a small product of matrices for each row and head.

Shape letters: B rows, H width, N heads, W = H / N, T positions so far, V tokens, C of the context,
L blocks.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from conjoin.core.shapes import Float, Int
from conjoin.nets.decoder_steps import EPSILON, Weights
from conjoin.nets.rounded_products import product_by

__all__ = ["Kept", "ManyRows"]

FIRST_PLACES = 32  # positions that there is room for at first; then twice as many each time
MAX_POSITIONS_BY_PRODUCTS = 48  # up to which attention by products of numbers is faster


@dataclass(frozen=True)
class Kept:
    """Keys and values (L, 2, T, B, H), the first ``place`` positions of which are written. It is
    written to in place: of two states that go on from one, one has to ``take`` rows first."""

    store: Tensor
    place: int

    def take(self, rows: Int[Tensor, " b"]) -> Self:
        """Some of the rows."""
        blocks, two, places, _, width = self.store.shape
        store = torch.empty(blocks, two, places, len(rows), width)
        written = slice(0, self.place)
        store[:, :, written] = self.store[:, :, written].index_select(3, rows)
        return dataclasses.replace(self, store=store)

    def with_room(self) -> Self:
        """Where one more position may be written."""
        if self.place < self.store.shape[2]:
            return self
        more = torch.cat([self.store, torch.empty_like(self.store)], 2)
        return dataclasses.replace(self, store=more)


class ManyRows:
    """A decoder in float32 that goes on with many rows."""

    def __init__(self, net: Any, precision: str = "float32") -> None:
        """``net``: a decoder on the CPU; ``precision`` of products by its matrices: "float32",
        "bfloat16" or "int8"."""
        single = net.single()
        cosine, sine = single._turns_of(single.embed.weight)
        weights = Weights.of(single, cosine, sine)
        self.shape = net.shape
        self.start = net.tokens
        self.embed = _tensor(weights.embed)
        self.told = None if weights.told is None else _tensor(weights.told)
        self.blocks = [
            tuple(product_by(_tensor(matrix), precision) for matrix in block)
            for block in weights.blocks
        ]
        self.last = product_by(_tensor(weights.last), precision)
        self.cosine = _tensor(weights.cosine)
        self.sine = _tensor(weights.sine)

    def step(
        self, token: Int[Tensor, " B"] | None, context: Float[Tensor, "B C"], cache: Any
    ) -> tuple[Float[Tensor, "B V1"], Kept]:
        """Logits of the next token, given the last one (None at the start) and the cache (None
        before the first position)."""
        rows = len(context)
        if cache is None:
            blocks, heads, width = self.shape
            room = torch.empty(blocks, 2, FIRST_PLACES, rows, heads * width)
            cache = Kept(room, 0)
        cache = cache.with_room()
        h = self.embed[torch.full((rows,), self.start) if token is None else token]
        if self.told is not None:
            h = h + context.to(h) @ self.told
        h = h * (h.shape[1] / _square(h)) ** 0.5
        for index, block in enumerate(self.blocks):
            h = self._behind(block, h, cache.store[index, :, : cache.place + 1])
        logits = self.last(h).mul_(_square(h).rsqrt_())
        return logits, dataclasses.replace(cache, place=cache.place + 1)

    def _behind(self, block: Any, h: Tensor, kept: Tensor) -> Float[Tensor, "B H"]:
        """``kept`` (2, T, B, H): keys and values of the block, the last of which are to be
        written."""
        qkv, out, up, down = block
        width = h.shape[1]
        each = qkv(h).mul_(_square(h).rsqrt_())
        turned = self._turned(each[:, : 2 * width], len(kept[0]) - 1)
        kept[0, -1] = turned[:, 1]
        kept[1, -1] = each[:, 2 * width :]
        h = out.added(h, self._seen(turned[:, 0], kept[0], kept[1]))
        positive = up(h).relu_()
        positive *= positive
        return torch.addcdiv(h, down(positive), _square(h))

    def _turned(self, pairs: Float[Tensor, "B H2"], place: int) -> Float[Tensor, "B 2 H"]:
        """Queries and keys of variance 1 in each head, turned by the angles of the position."""
        _, heads, width = self.shape
        rows = len(pairs)
        alone = pairs.reshape(-1, width)
        square = torch.linalg.vecdot(alone, alone).add_(width * EPSILON)
        even = (alone * square.rsqrt_()[:, None]).view(rows, 2, heads, 2, width // 2)
        turned = even * self.cosine[place]
        turned.addcmul_(even.flip(3), self.sine[place])
        return turned.view(rows, 2, heads * width)

    def _seen(self, query: Tensor, keys: Tensor, values: Tensor) -> Float[Tensor, "B H"]:
        """``query`` (B, H), ``keys`` and ``values`` (T, B, H). As queries and keys have a bounded
        length, no maximum is taken off."""
        _, heads, width = self.shape
        places, rows, _ = keys.shape
        if places <= MAX_POSITIONS_BY_PRODUCTS:
            share = (keys * query).view(places, rows, heads, width).sum(3).exp_()
            seen = (values.view(places, rows, heads, width) * share[..., None]).sum(0)
            return (seen / share.sum(0)[..., None]).view(rows, -1)
        key, value = (
            each.view(places, rows * heads, width).transpose(0, 1) for each in (keys, values)
        )
        share = (key @ query.reshape(-1, width, 1)).exp_()
        seen = (share.transpose(1, 2) @ value)[:, 0]
        return (seen / share.sum(1)).view(rows, -1)


def _tensor(array: Any) -> Tensor:
    """In the order of memory in which products by many rows are the fastest."""
    return torch.from_numpy(array.copy(order="C"))


def _square(h: Tensor) -> Float[Tensor, "B 1"]:
    """H times the variance of rows of mean 0."""
    return torch.linalg.vecdot(h, h).add_(h.shape[1] * EPSILON)[:, None]

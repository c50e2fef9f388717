r"""One more position of a decoder, of few rows, by plain arrays.

The same function as the blocks of ``conjoin.nets.decoder`` at one position, in the precision of the
network. For one row a product by a matrix takes a few microseconds, and a call of torch as long
again: arrays take a third of the time. For many rows the products count alone.

Shape letters: B rows, H width, N heads, W = H / N, T positions so far, V tokens, L blocks.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from conjoin.core.shapes import Float

__all__ = ["MAX_ROWS", "Weights"]

MAX_ROWS = 8  # up to which arrays are faster
EPSILON = 1e-5  # torch's, of a layer norm


@dataclass(frozen=True)
class Weights:
    """The weights of a decoder as arrays that share its memory, and its turns by position:
    ``cosine`` and ``sine`` (T, W), the sine of the first half negative."""

    blocks: tuple[tuple[np.ndarray, ...], ...]
    last: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray

    @classmethod
    def of(cls, net: Any, cosine: Tensor, sine: Tensor) -> Self:
        """``cosine`` and ``sine``: (T, W / 2), of the angles."""
        blocks = tuple(
            tuple(_array(part.weight).T for part in (block.qkv, block.out, block.up, block.down))
            for block in net.blocks
        )
        cos = _array(cosine)
        sin = _array(sine)
        return cls(
            blocks,
            _array(net.last.weight).T,
            np.concatenate([cos, cos], 1),
            np.concatenate([-sin, sin], 1),
        )

    def logits(
        self, h: Float[Tensor, "B H"], keys: Tensor, values: Tensor, place: int
    ) -> Float[np.ndarray, "B V1"]:
        """Of the token behind position ``place``, whose input is ``h``. ``keys``, ``values``
        (L, B, N, room, W): those of earlier positions; this one's are written behind them."""
        state = _array(h)
        for block, kept, told in zip(self.blocks, _array(keys), _array(values), strict=True):
            state = self._behind(block, state, kept, told, place)
        return np.asarray(_even(state) @ self.last)

    def _behind(
        self,
        block: tuple[np.ndarray, ...],
        h: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        place: int,
    ) -> np.ndarray:
        """(B, H) behind a block; ``keys``, ``values`` (B, N, room, W) of it."""
        to_heads, out, up, down = block
        rows, heads, _, width = keys.shape
        each = (_even(h) @ to_heads).reshape(rows, 3, heads, width)
        turned = self._turned(_even(each[:, :2]), place)
        keys[:, :, place] = turned[:, 1]
        values[:, :, place] = each[:, 2]
        score = keys[:, :, : place + 1] @ (turned[:, 0] * width**-0.5)[..., None]
        share = np.exp(score - score.max(2, keepdims=True))
        seen = values[:, :, : place + 1].swapaxes(2, 3) @ (share / share.sum(2, keepdims=True))
        h = h + seen.reshape(rows, heads * width) @ out
        positive = np.maximum(_even(h) @ up, 0)
        return np.asarray(h + (positive * positive) @ down)

    def _turned(self, pairs: np.ndarray, place: int) -> np.ndarray:
        """Pairs of coordinates (first half, second half), turned by the angles of a position."""
        half = pairs.shape[-1] // 2
        swapped = np.concatenate([pairs[..., half:], pairs[..., :half]], -1)
        return np.asarray(pairs * self.cosine[place] + swapped * self.sine[place])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _even(h: np.ndarray) -> np.ndarray:
    """Of mean 0 and variance 1 along the last axis."""
    size = h.shape[-1]
    h = h - np.add.reduce(h, -1, keepdims=True) / size
    variance = np.einsum("...i,...i->...", h, h)[..., None] / size
    return np.asarray(h / np.sqrt(variance + EPSILON))

r"""One more position of a decoder, of few rows, by plain arrays.

The same function as the blocks of ``conjoin.nets.decoder`` at one position, in the precision of the
network. For one row a product by a matrix takes a few microseconds, and a call of torch as long
again. What a norm does is linear but for one number of each row, the inverse r of its length: the
mean is taken out of the weights before and behind it, so that h keeps the mean 0, and

    n(h) W = r (h W'),       relu(n(h) W_u)^2 W_d = r^2 relu(h W_u')^2 W_d,      W' = sqrt(H) W,

queries and keys likewise. As these have the length sqrt(W) at most, their products need no maximum
taken off before the exponential. For many rows the products count alone.

Shape letters: B rows, H width, N heads, W = H / N, T positions so far, V tokens, C of the context.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from torch import Tensor

from conjoin.core.shapes import Float, Int

__all__ = ["MAX_ROWS", "Weights"]

MAX_ROWS = 8  # up to which arrays are faster
EPSILON = 1e-5  # torch's, of a layer norm


class _Block(NamedTuple):
    """The matrices of a block, each from the right."""

    qkv: np.ndarray
    out: np.ndarray
    up: np.ndarray
    down: np.ndarray


@dataclass(frozen=True)
class Weights:
    """The weights of a decoder as arrays, means taken out.

    Attributes
    ----------
    embed, told
        (V + 1, H) of the tokens, the last one the start; (C, H) of the context, or None.
    blocks, last
        Of each block, and (H, V + 1) of the next token.
    cosine, sine
        (T, 2, 1, 2, W / 2) by position, of queries and of keys times sqrt(W); the sine of the first
        half negative.
    """

    embed: np.ndarray
    told: np.ndarray | None
    blocks: tuple[_Block, ...]
    last: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray

    @classmethod
    def of(cls, net: Any, cosine: Tensor, sine: Tensor) -> Self:
        """``cosine`` and ``sine``: (T, W / 2), of the angles."""
        heads = net.shape[1]
        cos = _array(cosine)
        sin = _array(sine)
        length = np.array([1, net.shape[2] ** 0.5], dtype=cos.dtype).reshape(2, 1, 1, 1)
        return cls(
            _centred(_array(net.embed.weight)),
            None if net.told is None else _centred(_array(net.told.weight).T),
            tuple(_block(block, heads) for block in net.blocks),
            _from_centred(_array(net.last.weight).T),
            np.stack([cos, cos], 1)[:, None, None] * length,
            np.stack([-sin, sin], 1)[:, None, None] * length,
        )

    def logits(
        self,
        token: Int[np.ndarray, " B"],
        context: Float[np.ndarray, "B C"],
        keys: Float[np.ndarray, "L B N T W"],
        values: Float[np.ndarray, "L B N T W"],
        place: int,
        unturned: int = 0,
    ) -> Float[np.ndarray, "B V1"]:
        """Of the token behind position ``place``, where ``token`` stands. ``keys``, ``values``:
        those of earlier positions, of which the first ``unturned`` are of no token; this one's are
        written behind them."""
        h = self.embed[token]
        if self.told is not None:
            h = h + context @ self.told
        h = h * (h.shape[1] / _square(h)) ** 0.5
        for block, kept, told in zip(self.blocks, keys, values, strict=True):
            h = self._behind(block, h, kept, told, place, place - unturned)
        return np.asarray((h @ self.last) * _square(h) ** -0.5)

    def _behind(
        self,
        block: _Block,
        h: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        place: int,
        turn: int,
    ) -> np.ndarray:
        """(B, H) behind a block; ``keys``, ``values`` (B, N, T, W) of it."""
        rows, heads, _, width = keys.shape
        each = (h @ block.qkv) * _square(h) ** -0.5
        each = each.reshape(rows, 3, heads, 2, width // 2)
        pairs = each[:, :2]
        square = np.add.reduce(pairs * pairs, (3, 4), keepdims=True)
        pairs = pairs * (square + width * EPSILON) ** -0.5
        turned = pairs * self.cosine[turn]
        turned += pairs[..., ::-1, :] * self.sine[turn]
        turned = turned.reshape(rows, 2, heads, width)
        keys[:, :, place] = turned[:, 1]
        values[:, :, place] = each[:, 2].reshape(rows, heads, width)
        score = keys[:, :, : place + 1] @ turned[:, 0, :, :, None]
        share = np.exp(score, out=score)
        seen = share.swapaxes(2, 3) @ values[:, :, : place + 1]
        seen /= np.add.reduce(share, 2, keepdims=True)
        h = h + seen.reshape(rows, heads * width) @ block.out
        positive = h @ block.up
        np.maximum(positive, 0, out=positive)
        positive *= positive
        more = positive @ block.down
        more /= _square(h)
        more += h
        return np.asarray(more)


def _block(block: Any, heads: int) -> _Block:
    """Queries and keys have the mean 0 in each head, what is added to h has it in all."""
    qkv = _from_centred(_array(block.qkv.weight).T)
    turned, value = np.split(qkv, [2 * len(qkv)], 1)
    by_head = turned.reshape(len(qkv), 2 * heads, -1)
    qkv = np.concatenate([_centred(by_head).reshape(turned.shape), value], 1)
    up = _from_centred(_array(block.up.weight).T)
    out = _centred(_array(block.out.weight).T)
    return _Block(*map(_laid, (qkv, out, up, _centred(_array(block.down.weight).T))))


def _laid(matrix: np.ndarray) -> np.ndarray:
    """In the order of memory in which a product by one row is the fastest."""
    return np.asfortranarray(matrix)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _centred(matrix: np.ndarray) -> np.ndarray:
    """Without the mean of the last axis."""
    return np.asarray(matrix - matrix.mean(-1, keepdims=True))


def _from_centred(matrix: np.ndarray) -> np.ndarray:
    """(H, O) for rows of length 1: as those without their mean and of variance 1 gave."""
    return np.asarray((matrix - matrix.mean(0)) * len(matrix) ** 0.5)


def _square(h: np.ndarray) -> np.ndarray:
    """(B, 1) H times the variance of rows of mean 0."""
    return np.asarray(np.add.reduce(h * h, 1, keepdims=True) + h.shape[1] * EPSILON)

r"""Attention in the steps of learning on a CPU: queries, keys and values in one layout, and matrix
products in place of torch's fused kernel.

    q = R_t n(q'),   k = R_s n(k'),   p = softmax(q k^T / sqrt(D) + m),   o = p v

with n, R of ``conjoin.nets.decoder`` and m_ts = 0 where position t sees s, else -inf. With g the
gradient of o (T. Dao et al. (2022), FlashAttention, appendix B.2):

    dv = p^T g,   ds = p * (g v^T - sum_s p * g v^T),   dq = ds k / sqrt(D),   dk = ds^T q / sqrt(D)

Where a position sees those before it, some queries at a time see the keys up to the last of them:
half of the products of a whole square. The probabilities are kept for the gradient. Beside torch's
kernel that takes from a sixth (20 positions) to two fifths (257) of the time in bfloat16, whose
kernel is slow on CPUs, and about three quarters in float32 up to ``MAX_FLOAT32_PLACES``.

Shape letters: B rows, N heads, T positions, S positions that are seen, D numbers of a head, W
width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from conjoin.core.shapes import Bool, Float

__all__ = ["Attention", "Heads", "attended", "learns_on_cpu"]

QUERIES_AT_ONCE = 64
MAX_FLOAT32_PLACES = 128  # up to which products beat torch's kernel in float32
MAX_WEIGHTS = 1 << 26  # of all rows and heads; torch's kernel keeps none of them
EPSILON = 1e-5  # torch's, of a layer norm


def learns_on_cpu(training: bool, h: Tensor) -> bool:
    """Whether a step of learning takes the functions of this module; answers keep their bits."""
    return (
        training
        and torch.is_grad_enabled()
        and type(h) is Tensor
        and h.device.type == "cpu"
        and h.dtype is not torch.float64
    )


class Heads(torch.autograd.Function):
    """``Heads.apply(each, cosine, sine, heads)``: queries and keys, even and turned, and values,
    all (B, N, T, D), from their product with the weights (B, T, 3 W). ``cosine`` and ``sine``:
    (T, D / 2), or a number each where positions have no order."""

    @staticmethod
    def forward(
        ctx: Any, each: Float[Tensor, "B T W3"], cosine: Tensor, sine: Tensor, heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = each.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        with torch.autocast("cpu", enabled=False):
            whole = _whole_turns(cosine.to(each), sine.to(each), query.shape[-1])
            kept = []
            turned = []
            for part in (query.contiguous(), key.contiguous()):
                even, mean, scale = torch.native_layer_norm(
                    part, (part.shape[-1],), None, None, EPSILON
                )
                kept += [part, mean, scale]
                turned.append(_turned(even, *whole))
        ctx.save_for_backward(*whole, *kept)
        return turned[0], turned[1], value.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        cosine, sine, *kept = ctx.saved_tensors
        rows, heads, places, width = slopes[2].shape
        out = slopes[2].new_empty(rows, places, 3, heads, width)
        for index in range(2):
            part, mean, scale = kept[3 * index : 3 * index + 3]
            back = _turned(slopes[index], cosine, -sine)
            more = (part, (width,), mean, scale, None, None, (True, False, False))
            found = torch.ops.aten.native_layer_norm_backward(back, *more)[0]
            out[:, :, index] = found.transpose(1, 2)
        out[:, :, 2] = slopes[2].transpose(1, 2)
        return out.flatten(2), None, None, None


def _whole_turns(cosine: Tensor, sine: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """For both halves of the coordinates."""
    if not cosine.dim():
        return cosine, sine.expand(width)
    return torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)


def _turned(h: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Pairs of coordinates (first half, second half), turned."""
    first, second = h.chunk(2, -1)
    return torch.addcmul(h * cosine, torch.cat([second, first], -1), sine)


def attended(
    query: Float[Tensor, "B N T D"],
    key: Float[Tensor, "B N S D"],
    value: Float[Tensor, "B N S D"],
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "B N T D"]:
    """What the values tell each position of those that it sees: itself and all before it, or where
    ``mask``, (T, S) or as (B, N, T, S) with ones, is True."""
    rows, heads, places, _ = query.shape
    long = query.dtype is torch.float32 and key.shape[2] > MAX_FLOAT32_PLACES
    if long or rows * heads * places * key.shape[2] > MAX_WEIGHTS:
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )
    out: Tensor = Attention.apply(query, key, value, mask)
    return out


class Attention(torch.autograd.Function):
    """``Attention.apply(query, key, value, mask)`` of tensors of one precision, by products."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Float[Tensor, "B N T D"]:
        q, k, v = (part.flatten(0, 1) for part in (query, key, value))
        out = torch.empty_like(q)
        scale = q.shape[2] ** -0.5
        ctx.parts = _parts(q.shape[1], k.shape[1], mask is None)
        kept = []
        with torch.autocast("cpu", enabled=False):
            bias = _bias(query, key, mask)
            for first, last, seen in ctx.parts:
                some = bias if mask is not None else bias[:, first:last, :seen]
                keys = k[:, :seen].transpose(1, 2)
                p = torch.baddbmm(some, q[:, first:last], keys, alpha=scale).softmax(2)
                out[:, first:last] = torch.bmm(p, v[:, :seen])
                kept.append(p)
        ctx.save_for_backward(q, k, v, *kept)
        return out.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        g = slope.flatten(0, 1)
        dq = torch.empty_like(q)
        dk = torch.zeros_like(k)
        dv = torch.zeros_like(v)
        for (first, last, seen), p in zip(ctx.parts, kept, strict=True):
            some = g[:, first:last]
            dv[:, :seen] += torch.bmm(p.transpose(1, 2), some)
            dp = torch.bmm(some, v[:, :seen].transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, 2, p.dtype)
            dq[:, first:last] = torch.bmm(ds, k[:, :seen])
            dk[:, :seen] += torch.bmm(ds.transpose(1, 2), q[:, first:last])
        scale = q.shape[2] ** -0.5
        heads = slope.shape[:2]
        found = (part.unflatten(0, heads) for part in (dq.mul_(scale), dk.mul_(scale), dv))
        return (*found, None)  # type: ignore[return-value]


def _parts(queries: int, keys: int, causal: bool) -> list[tuple[int, int, int]]:
    """First and last of some queries, and how many keys they see; about ``QUERIES_AT_ONCE``,
    evenly, where each sees itself and those before it."""
    if not causal:
        return [(0, queries, keys)]
    size = -(-queries // max(1, round(queries / QUERIES_AT_ONCE)))
    ends = [(first, min(queries, first + size)) for first in range(0, queries, size)]
    return [(first, last, last) for first, last in ends]


def _bias(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """0 where a position is seen, -inf elsewhere; broadcasts to (B N, T, S)."""
    places = key.shape[2]
    if mask is None:
        return torch.full((places, places), -torch.inf, dtype=query.dtype).triu(1)[None]
    bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    if mask.dim() == 2:
        return bias[None]
    return bias.expand(*query.shape[:2], *mask.shape[2:]).flatten(0, 1)

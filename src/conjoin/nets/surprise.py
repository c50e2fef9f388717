r"""-log p of tokens and of pixels in steps of learning, with the gradient in the same pass.

    a token k of V:            l = ln sum_v e^{a_v} - a_k,
                               dl / da_v = softmax(a)_v - 1[v = k]
    a pixel x of K colours:    l = ln sum_c e^{a_c} - ln sum_c e^{a_c} P(x | c),
                               dl / da_c = softmax(a)_c - p(c | x),     p(c | x) ~ e^{a_c} P(x | c)

(C. Bishop (2006), Pattern recognition and machine learning, equations 4.109 and 9.13.) What is
learned here has many logits beside few hidden units, so the time goes into memory: each function of
all logits reads and writes them once. On a CPU some rows at a time stay in its cache instead, and
are left with the gradient alone, in the precision of the logits; sums are in float32. That takes a
third of the time of torch's functions, for 1,000 tokens as for 48 colours of three channels.

Shape letters: N rows, V tokens, K colours, C channels, L grey levels.

>>> a = torch.zeros(3, 4, requires_grad=True)
>>> token_surprise(a, torch.tensor([0, 1, 3])).exp().tolist()
[4.0, 4.0, 4.0]
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from conjoin.core.event import slices
from conjoin.core.shapes import Bool, Float, Int

__all__ = ["pixel_surprise", "token_surprise"]

NUMBERS_AT_ONCE = 1 << 17  # of float32, which a core's cache holds some times over

# of some rows, whose logits are float32 and may be overwritten: the surprise, and the gradient
Part = Callable[[slice, Tensor], tuple[Tensor, Tensor]]


class _Surprise(torch.autograd.Function):
    """``_Surprise.apply(logits, part)``: the surprise of each row, float32."""

    @staticmethod
    def forward(ctx: Any, logits: Float[Tensor, "N V"], part: Part) -> Float[Tensor, " N"]:
        rows, width = logits.shape
        most = max(1, NUMBERS_AT_ONCE // width) if logits.device.type == "cpu" else max(1, rows)
        out = torch.empty(rows, dtype=torch.float32, device=logits.device)
        slope = torch.empty_like(logits)
        with torch.autocast(logits.device.type, enabled=False):
            for some in slices(rows, most):
                each = logits[some].to(torch.float32, copy=True)
                out[some], slope[some] = part(some, each)
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Float[Tensor, " N"]) -> tuple[Tensor, None]:
        (own,) = ctx.saved_tensors
        return own * slope.to(own)[:, None], None


def token_surprise(
    logits: Float[Tensor, "N V"], token: Int[Tensor, " N"], count: int | None = None
) -> Float[Tensor, " N"]:
    """-log p of each token, nats; ``count``: only so many tokens, the first ones, may come."""

    def part(some: slice, each: Tensor) -> tuple[Tensor, Tensor]:
        at = token[some, None]
        if count is not None:
            each[:, count:] = -torch.inf
        total = each.logsumexp(1)
        out = total - each.gather(1, at)[:, 0]
        share = each.sub_(total[:, None]).exp_()
        return out, share.scatter_add_(1, at, share.new_full(at.shape, -1.0))

    found: Tensor = _Surprise.apply(logits, part)
    return found


def pixel_surprise(
    logits: Float[Tensor, "N K"],
    log_share: Float[Tensor, " K"],
    log_levels: Float[Tensor, "K C L"],
    level: Int[Tensor, "N C"],
    known: Bool[Tensor, "N C"],
) -> Float[Tensor, " N"]:
    """-log P of the known channels of each pixel, nats.

    Parameters
    ----------
    logits
        Of the colours.
    log_share
        What is added to them.
    log_levels
        ln P of each level of each channel given each colour.
    level, known
        The grey levels, and which of them count.
    """
    tables = log_levels.permute(1, 2, 0).float().contiguous()  # (C, L, K)
    share = log_share.float()
    whole = bool(known.all())

    def part(some: slice, each: Tensor) -> tuple[Tensor, Tensor]:
        each += share
        total = each.logsumexp(1)
        given = each.clone()
        for channel, table in enumerate(tables):
            own = table[level[some, channel]]
            given += own if whole else own.masked_fill_(~known[some, channel, None], 0.0)
        right = given.logsumexp(1)
        each.sub_(total[:, None]).exp_().sub_(given.sub_(right[:, None]).exp_())
        return total - right, each

    found: Tensor = _Surprise.apply(logits, part)
    return found

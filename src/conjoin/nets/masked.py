"""Masked residual networks: all the conditionals of a chain rule from one pass, for several orders
of the variables at once.

    h = M0 x + b,   h <- h + M2 relu(M1 relu(h)),   out_d = M3 relu(h) + M4 x,
    each M a weight times a mask of zeros and ones

M. Germain, K. Gregor, I. Murray and H. Larochelle (2015), MADE, equations 8 and 9; with residual
blocks as in C. Durkan and C. Nash (2019), Autoregressive energy machines, appendix. A hidden unit
of degree m sees the first m variables of its order, in every layer the same units; the outputs of
the variable of rank r hear units of a degree of at most r. So out_d depends on what comes before d,
and on the context, which all see.

Shape letters: B rows, K orders, D variables, I inputs (context first), H width, W outputs of a
variable.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from conjoin.core.shapes import Bool, Float, Int
from conjoin.nets.body import Body

__all__ = ["MaskedNet"]

EVERY = slice(None)


class _Masked(nn.Module):
    """K linear maps at once, each with its mask. Where no entry is free there is only a bias."""

    mask: Tensor

    def __init__(self, mask: Bool[Tensor, "K I O"], gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        scale = gain / mask.sum(1, keepdim=True).clamp_min(1).sqrt()
        self.weight = nn.Parameter(scale * torch.randn(mask.shape) * mask) if mask.any() else None
        self.bias = nn.Parameter(0.1 * gain * torch.randn(len(mask), 1, mask.shape[2]))

    def forward(
        self, x: Float[Tensor, "k B I"], order: slice = EVERY, part: slice = EVERY
    ) -> Float[Tensor, "k B o"]:
        """Of some orders, and some outputs: all, unless told."""
        bias = self.bias[order, :, part]
        if self.weight is None:
            return bias.expand(-1, x.shape[1], -1)
        return torch.baddbmm(bias, x, self.weight[order, :, part] * self.mask[order, :, part])


class MaskedNet(Body):
    """(B, I) -> (K, B, D, W), where ``rank`` (K, D) is the place of each variable in each order,
    and ``owner`` (I,) the variable of each input, -1 for the context's. All outputs start at
    zero."""

    def __init__(
        self,
        owner: Int[Tensor, " I"],
        rank: Int[Tensor, "K D"],
        outputs: int,
        width: int,
        blocks: int = 2,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.drop = drop
        self.outputs = outputs
        orders, size = rank.shape
        # (K, I) the least degree that sees an input
        shown = torch.where(owner < 0, 0, rank[:, owner.clamp_min(0)] + 1)
        degree = (torch.arange(width) % size).expand(orders, -1)
        wanted = rank.repeat_interleave(outputs, 1)
        same = degree[:, :, None] <= degree[:, None]
        self.first = _Masked(shown[:, :, None] <= degree[:, None])
        self.blocks = nn.ModuleList(
            nn.ModuleList([_Masked(same, 1.4), _Masked(same, 0.3)]) for _ in range(blocks)
        )
        self.last = _Masked(degree[:, :, None] <= wanted[:, None], 0.0)
        self.direct = _Masked(shown[:, :, None] <= wanted[:, None], 0.0)
        self.double()

    def hidden(self, x: Float[Tensor, "B I"], order: slice = EVERY) -> Float[Tensor, "k B H"]:
        """relu(h) after the last block."""
        h = self.first(x.expand(len(self.first.bias[order]), -1, -1), order)
        for block in self.blocks:
            before, after = block.children()
            h = h + after(dropout(relu(before(relu(h), order)), self.drop, self.training), order)
        return relu(h)

    def compute(
        self, x: Float[Tensor, "B I"], order: slice = EVERY, part: slice = EVERY
    ) -> Float[Tensor, "k B D W"]:
        h = dropout(self.hidden(x, order), self.drop, self.training)
        out = self.last(h, order, part) + self.direct(x.expand(len(h), -1, -1), order, part)
        return out.unflatten(-1, (-1, self.outputs))

    def column(self, x: Float[Tensor, "B I"], order: int, d: int) -> Float[Tensor, "B W"]:
        """What one order says of variable ``d``, float64."""
        return self.forward(
            x, slice(order, order + 1), slice(d * self.outputs, (d + 1) * self.outputs)
        )[0, :, 0]

    def features(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B F"]:
        """The inputs and the last hidden layers of all orders side by side, float64: no hidden unit
        sees the last variable of its order."""
        return torch.cat([x, self.hidden(*self.cast(x)).transpose(0, 1).flatten(1).double()], 1)

r"""Products of many rows by one matrix: as they are, or with numbers of fewer bits.

    bfloat16:  x W with both rounded to 8 bits of precision, sums in float32
    int8:      x = (c - 128) t,  W = q s,  c and q whole, a t for each row, an s for each column

B. Jacob et al. (2018), Quantization and training of neural networks for efficient integer
arithmetic-only inference, equation 7. Each row of the answer depends on its own row of x alone.
Where this processor has no faster product of whole numbers, x is multiplied in float32 by the
weights that were rounded to int8.

Shape letters: B rows, K inputs, N outputs.

>>> product = product_by(torch.eye(2), "bfloat16")
>>> product(torch.tensor([[1.0, 0.5]])).tolist()
[[1.0, 0.5]]
"""

import abc

import torch
from torch import Tensor

from conjoin.core.shapes import Float
from conjoin.nets.packed import MAX_INT8, TINIEST, ZERO_POINT, is_worth, round_to_int8

__all__ = ["Product", "product_by"]

INT8_BITS = 8


class Product(abc.ABC):
    """x W of many rows x."""

    @abc.abstractmethod
    def __call__(self, x: Float[Tensor, "B K"]) -> Float[Tensor, "B N"]: ...

    @abc.abstractmethod
    def added(self, h: Float[Tensor, "B N"], x: Float[Tensor, "B K"]) -> Float[Tensor, "B N"]:
        """h + x W."""


class _Single(Product):
    """In float32."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def added(self, h: Tensor, x: Tensor) -> Tensor:
        return torch.addmm(h, x, self.weight)


class _Half(Product):
    """In bfloat16."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        return (x.bfloat16() @ self.weight).float()

    def added(self, h: Tensor, x: Tensor) -> Tensor:
        return h + (x.bfloat16() @ self.weight)


class _Whole(Product):
    """In whole numbers of eight bits."""

    def __init__(self, weight: Tensor) -> None:
        codes, self.scale = round_to_int8(weight.T.contiguous())
        self.packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self.zeros = torch.zeros(len(codes), dtype=torch.int64)

    def __call__(self, x: Tensor) -> Tensor:
        unit = x.abs().amax(1, keepdim=True).clamp_min_(TINIEST).div_(MAX_INT8)
        # rounded by cutting off: all are above 0
        digits = (x * unit.reciprocal()).add_(ZERO_POINT + 0.5).to(torch.uint8)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            digits, 1.0, ZERO_POINT, self.packed, self.scale, self.zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return found.mul_(unit)

    def added(self, h: Tensor, x: Tensor) -> Tensor:
        return self(x).add_(h)


def product_by(weight: Float[Tensor, "K N"], precision: str) -> Product:
    """``precision``: "float32", "bfloat16" or "int8"."""
    if precision == "float32":
        return _Single(weight)
    if precision == "bfloat16":
        return _Half(weight)
    if is_worth(INT8_BITS):
        return _Whole(weight)
    codes, scale = round_to_int8(weight.T.contiguous())
    return _Single((codes.float() * scale[:, None]).T.contiguous())

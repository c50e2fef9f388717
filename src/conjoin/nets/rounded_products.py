r"""Products of many rows by one matrix: as they are, or with numbers of fewer bits.

    bfloat16:  x W with both rounded to 8 bits of precision, sums in float32
    int8:      x = (c - 128) t,  W = q s,  c and q whole, a t for each row, an s for each column

B. Jacob et al. (2018), Quantization and training of neural networks for efficient integer
arithmetic-only inference, equation 7. Each row of the answer depends on its own row of x alone.
Where this processor has no product of whole numbers, or a wrong one, x is multiplied in float32 by
the weights that were rounded to int8.

Shape letters: B rows, K inputs, N outputs.

>>> product = product_by(torch.eye(2), "bfloat16")
>>> product(torch.tensor([[1.0, 0.5]])).tolist()
[[1.0, 0.5]]
"""

import abc
import functools

import torch
from torch import Tensor

from conjoin.core.shapes import Float
from conjoin.nets.packed import MAX_INT8, TINIEST, ZERO_POINT, round_to_int8

__all__ = ["Product", "product_by"]

TRIAL_SIDE = 256  # of a matrix by which whole products are tried
MAX_TRIAL_ERROR = 0.02  # of the largest number of the answer


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


@functools.cache
def _multiplies_whole() -> bool:
    """Whether this processor multiplies whole numbers, and rightly: whatever it is slow or fast at,
    the same seed draws the same. The answer is kept until the process ends."""
    weight = torch.linspace(-1, 1, TRIAL_SIDE**2).view(TRIAL_SIDE, TRIAL_SIDE).sin()
    weight[:, : TRIAL_SIDE // 2] = 1.0  # sums that overflow where a kernel adds in 16 bits
    x = torch.linspace(0.5, 1.5, TRIAL_SIDE)[None]
    right = x @ weight
    try:
        apart = (_Whole(weight)(x) - right).abs().max()
    except (AttributeError, NotImplementedError, RuntimeError):  # a kernel that is not built in
        return False
    return bool(apart <= MAX_TRIAL_ERROR * right.abs().max())


def product_by(weight: Float[Tensor, "K N"], precision: str) -> Product:
    """``precision``: "float32", "bfloat16" or "int8"."""
    if precision == "float32":
        return _Single(weight)
    if precision == "bfloat16":
        return _Half(weight)
    if _multiplies_whole():
        return _Whole(weight)
    codes, scale = round_to_int8(weight.T.contiguous())
    return _Single((codes.float() * scale[:, None]).T.contiguous())

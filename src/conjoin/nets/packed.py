r"""Products with weights of few bits: stored small, computed by torch's own kernels.

    int4:  w = q d + m       q = 0 .. 15, one d and one m for 32 weights side by side
    int8:  w = q s           q = -127 .. 127, one s for each row

B. Jacob et al. (2018), Quantization and training of neural networks for efficient integer
arithmetic-only inference, equations 1 and 7. int4 is computed with activations in bfloat16, and
summed in float32. int8 is computed in whole numbers: an activation is x = (256 h + l) t with h and
l of eight bits and one t for each row, so that nothing but the 16 bits of x is rounded.

Each row of an answer depends on its own row of x alone, to the bit: so a token has the same log p
whether it is asked about by itself or among others.

A machine that computes slower by such a kernel than in float32, or wrongly, computes in float32:
both are timed and compared once in a process. A saved model is the same everywhere.

Shape letters: M rows, K inputs, N outputs, G groups.

>>> round_to_int4(torch.ones(2, 32))[0].shape
torch.Size([2, 16])
"""

import abc
import functools
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conjoin.core import stream
from conjoin.core.shapes import Float, Int

__all__ = [
    "GROUP",
    "Full",
    "Int4",
    "Int8",
    "Linear",
    "is_worth",
    "made_linear",
    "round_to_int4",
    "round_to_int8",
]

GROUP = 32  # weights that share d and m
MULTIPLE_OF_OUTPUTS = 16  # that the kernel of int4 takes; others are padded
MAX_INT4 = 15
MAX_INT8 = 127
DIGIT = 256  # of the two digits of an activation
MAX_ACTIVATION = 127 * DIGIT + 127
ZERO_POINT = 128
TINIEST = 1e-30  # a row of zeros is not divided by zero
# of the trial: outputs and inputs of the product, more than a cache holds in float32, as a network
# is, and how often each is timed
TIMED_PRODUCT = (8192, 1024)
TIMINGS = 5
MAX_TIME_SHARE = 0.8  # of float32's time, as in conjoin.nets.precision
MAX_TRIAL_ERROR = 0.02  # of the largest answer


class Linear(nn.Module, abc.ABC):
    """x W^T; ``weight`` gives W as numbers."""

    @abc.abstractmethod
    def weight(self) -> Float[Tensor, "N K"]:
        """All weights, in float32 or as they are."""

    @abc.abstractmethod
    def rows(self, codes: Int[Tensor, "B T"]) -> Float[Tensor, "B T K"]:
        """Rows of W, as an embedding looks them up."""


class Full(Linear):
    """Weights as they are."""

    def __init__(self, outputs: int, inputs: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        held = torch.zeros(outputs, inputs, dtype=dtype)
        self.values = nn.Parameter(held, requires_grad=False)

    def weight(self) -> Float[Tensor, "N K"]:
        return self.values.detach()

    def rows(self, codes: Int[Tensor, "B T"]) -> Float[Tensor, "B T K"]:
        return F.embedding(codes, self.values)

    def forward(self, x: Float[Tensor, "M K"]) -> Float[Tensor, "M N"]:
        return F.linear(x, self.values)


class _Packed(Linear):
    """Weights of few bits, and what a kernel makes of them once it is asked: that depends on the
    processor, and is not saved."""

    bits: int

    def __init__(self) -> None:
        super().__init__()
        self._ready: Any = None

    @abc.abstractmethod
    def _prepared(self) -> Any:
        """What the kernel takes."""

    @abc.abstractmethod
    def _product(self, x: Tensor, ready: Any) -> Tensor:
        """x W^T by the kernel."""

    def forward(self, x: Float[Tensor, "M K"]) -> Float[Tensor, "M N"]:
        if self._ready is None:
            kernel = x.device.type == "cpu" and is_worth(self.bits)
            self._ready = (True, self._prepared()) if kernel else (False, self.weight())
        kernel, ready = self._ready
        return self._product(x, ready) if kernel else F.linear(x, ready)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._ready = None
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._ready = None
        return super()._apply(*args, **kwargs)


class Int4(_Packed):
    """Two weights a byte: the even column in the lower half."""

    bits = 4
    codes: Tensor
    scale: Tensor
    low: Tensor

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        groups = inputs // GROUP
        self.register_buffer("codes", torch.zeros(outputs, inputs // 2, dtype=torch.uint8))
        self.register_buffer("scale", torch.zeros(outputs, groups, dtype=torch.float16))
        self.register_buffer("low", torch.zeros(outputs, groups, dtype=torch.float16))

    def _digits(self, codes: Tensor) -> Int[Tensor, "N K"]:
        return torch.stack([codes & MAX_INT4, codes >> 4], -1).flatten(-2)

    def weight(self) -> Float[Tensor, "N K"]:
        return self._numbers(self.codes, self.scale, self.low)

    def _numbers(self, codes: Tensor, scale: Tensor, low: Tensor) -> Tensor:
        digits = self._digits(codes).float().unflatten(-1, (-1, GROUP))
        return (digits * scale.float()[..., None] + low.float()[..., None]).flatten(-2)

    def rows(self, codes: Int[Tensor, "B T"]) -> Float[Tensor, "B T K"]:
        return self._numbers(self.codes[codes], self.scale[codes], self.low[codes])

    def _prepared(self) -> tuple[Tensor, Tensor]:
        spare = -len(self.codes) % MULTIPLE_OF_OUTPUTS
        digits = F.pad(self._digits(self.codes), (0, 0, 0, spare))
        packed = torch._convert_weight_to_int4pack_for_cpu(digits.int(), 1)
        scale, low = (F.pad(each.float(), (0, 0, 0, spare)) for each in (self.scale, self.low))
        both = torch.stack([scale, low + (MAX_INT4 + 1) // 2 * scale], -1)
        return packed, both.transpose(0, 1).contiguous().bfloat16()

    def _product(self, x: Tensor, ready: Any) -> Tensor:
        packed, both = ready
        found = torch._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, GROUP, both)
        return found[:, : len(self.codes)]


class Int8(_Packed):
    """A weight a byte."""

    bits = 8
    codes: Tensor
    scale: Tensor

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(outputs, dtype=torch.float32))

    def weight(self) -> Float[Tensor, "N K"]:
        return self.codes.float() * self.scale[:, None]

    def rows(self, codes: Int[Tensor, "B T"]) -> Float[Tensor, "B T K"]:
        return self.codes[codes].float() * self.scale[codes][..., None]

    def _prepared(self) -> tuple[Tensor, Tensor]:
        packed = torch.ops.onednn.qlinear_prepack(self.codes, None)
        return packed, torch.zeros(len(self.codes), dtype=torch.int64)

    def _product(self, x: Tensor, ready: Any) -> Tensor:
        packed, zeros = ready
        unit = x.abs().amax(1, keepdim=True).clamp_min(TINIEST) / MAX_ACTIVATION
        whole = (x / unit).round()
        high = ((whole + DIGIT // 2) / DIGIT).floor()  # so that the rest is -128 .. 127
        digits = torch.cat([high, whole - DIGIT * high]).add_(ZERO_POINT).to(torch.uint8)
        settings: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        found = torch.ops.onednn.qlinear_pointwise(
            digits, 1.0, ZERO_POINT, packed, self.scale, zeros, None, *settings
        )
        return torch.add(found[len(x) :], found[: len(x)], alpha=DIGIT).mul_(unit)


KINDS: dict[str, Any] = {"int4": Int4, "int8": Int8}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def made_linear(kind: str, outputs: int, inputs: int) -> Linear:
    """Without its weights. ``kind``: "int4", "int8", "float32" or "float64"."""
    if kind in KINDS:
        made: Linear = KINDS[kind](outputs, inputs)
        return made
    return Full(outputs, inputs, DTYPES[kind])


def round_to_int4(
    weight: Float[Tensor, "N K"],
) -> tuple[Int[Tensor, "N K2"], Float[Tensor, "N G"], Float[Tensor, "N G"]]:
    """Codes, d and m, from the least to the largest of each group."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    low = groups.amin(2).half()
    scale = ((groups.amax(2) - low.float()) / MAX_INT4).half()
    steps = scale.float().clamp_min(TINIEST)[..., None]
    codes = ((groups - low.float()[..., None]) / steps).round().clamp(0, MAX_INT4)
    digits = codes.flatten(1).to(torch.uint8)
    return digits[:, ::2] | (digits[:, 1::2] << 4), scale, low


def round_to_int8(weight: Float[Tensor, "N K"]) -> tuple[Int[Tensor, "N K"], Float[Tensor, " N"]]:
    """Codes, and s of each row."""
    scale = weight.float().abs().amax(1) / MAX_INT8
    codes = (weight.float() / scale.clamp_min(TINIEST)[:, None]).round()
    return codes.clamp(-MAX_INT8, MAX_INT8).to(torch.int8), scale


@functools.cache
def is_worth(bits: int) -> bool:
    """Whether this processor multiplies by weights of so few bits faster than by float32, and
    rightly. The answer is kept until the process ends."""
    outputs, inputs = TIMED_PRODUCT
    noise = stream(0, "trial")
    weight = torch.randn(outputs, inputs, generator=noise)
    weight[: outputs // 2] = 1.0  # sums that overflow where a kernel adds in 16 bits
    x = 0.5 + torch.rand(1, inputs, generator=noise)
    layer: Any = KINDS[f"int{bits}"](outputs, inputs)
    rounded = round_to_int4(weight) if bits == Int4.bits else round_to_int8(weight)
    for held, found in zip(layer.buffers(), rounded, strict=True):
        held.copy_(found)
    plain = layer.weight()
    try:
        ready = layer._prepared()
        apart = (layer._product(x, ready).float() - F.linear(x, plain)).abs().max()
    except (AttributeError, NotImplementedError, RuntimeError):  # a kernel that is not built in
        return False
    if not bool(apart <= MAX_TRIAL_ERROR * F.linear(x, plain).abs().max()):
        return False
    seconds = {True: float("inf"), False: float("inf")}
    for _ in range(TIMINGS):
        for small in seconds:
            start = time.process_time()
            _ = layer._product(x, ready) if small else F.linear(x, plain)
            seconds[small] = min(seconds[small], time.process_time() - start)
    return seconds[True] <= MAX_TIME_SHARE * seconds[False]

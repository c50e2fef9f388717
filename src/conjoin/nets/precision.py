"""The precision of a network: float32, or bfloat16 where this machine computes faster in it.

Convolutions and matrix products take half the time in bfloat16 where the processor knows that
format, and three to four times as long where it does not, and no name of a processor tells that
for certain. So both are timed, for a fraction of a second, once for each process and device.
"""

import contextlib
import functools
import time
from typing import Any

import torch
from torch import Tensor

__all__ = ["PRECISIONS", "check_precision", "computing_in", "fastest", "settled"]

PRECISIONS = ("float32", "bfloat16")
# of each precision, by turns; the fastest counts, the first ones only warm up
TIMINGS_PER_PRECISION = 5
# bfloat16 must take at most this share of float32's time: it rounds more, so a draw goes to
# float32, and a machine on which both are alike gives the same choice in every process
MAX_TIME_SHARE = 0.8
# of the trial: rows, channels and side of a convolution, rows and width of a matrix product
TIMED_CONVOLUTION = (8, 64, 14)
TIMED_PRODUCT = (512, 128)


def computing_in(precision: str, device: str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """A context in which convolutions and matrix products run in ``precision``, where the device
    knows it."""
    kind = torch.device(device).type
    if precision == "float32" or not torch.amp.is_autocast_available(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16)


def check_precision(precision: str) -> str:
    """``precision``; ValueError where it is neither "auto" nor one of PRECISIONS."""
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(
            f"precision must be one of auto, {', '.join(PRECISIONS)}, got {precision!r}."
        )
    return precision


def settled(own: str, asked: str) -> str:
    """The precision to compute in: what is ``asked`` for, else a setting of one's ``own``, and
    where both are "auto" the faster one. ValueError where either is none."""
    check_precision(asked)
    wanted = check_precision(own) if asked == "auto" else asked
    return fastest() if wanted == "auto" else wanted


@functools.cache
def fastest(device: str = "cpu") -> str:
    """The precision, one of PRECISIONS, in which steps of the gradient are faster on ``device``.

    No random number is drawn. The answer is kept until the process ends.
    """
    seconds = dict.fromkeys(PRECISIONS, float("inf"))
    trial = _trial(device)
    with torch.enable_grad():
        for _ in range(TIMINGS_PER_PRECISION):
            for precision in PRECISIONS:
                seconds[precision] = min(seconds[precision], _seconds(trial, precision, device))
    worth = seconds["bfloat16"] <= MAX_TIME_SHARE * seconds["float32"]
    return "bfloat16" if worth else "float32"


def _trial(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures and the kernels of a convolution, rows and the weights of a matrix product."""
    count, channels, side = TIMED_CONVOLUTION
    rows, width = TIMED_PRODUCT
    last = {"memory_format": torch.channels_last}
    return (
        torch.ones(count, channels, side, side, device=device).contiguous(**last),
        torch.ones(channels, channels, 3, 3, device=device).contiguous(**last).requires_grad_(),
        torch.ones(rows, width, device=device),
        torch.ones(4 * width, width, device=device).requires_grad_(),
    )


def _seconds(trial: tuple[Tensor, ...], precision: str, device: str) -> float:
    """Of one step of the gradient through a convolution and a matrix product."""
    pictures, kernels, rows, weights = trial
    start = time.perf_counter()
    with computing_in(precision, device):
        seen = torch.nn.functional.conv2d(pictures, kernels, padding=1)
        more = torch.nn.functional.linear(rows, weights)
    slopes = torch.autograd.grad(seen.float().mean() + more.float().mean(), (kernels, weights))
    slopes[0].sum().item()  # waits until the device is done
    return time.perf_counter() - start

"""What is worked out from tensors, kept until one of them changes.

>>> import torch
>>> table = torch.arange(3.0)
>>> memo = TensorMemo[float]()
>>> memo.of([table], lambda: float(table.sum()))
3.0
>>> _ = table.mul_(2)
>>> memo.of([table], lambda: float(table.sum()))
6.0
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

__all__ = ["TensorMemo"]

Made = TypeVar("Made")


class TensorMemo(Generic[Made]):
    """The last value that was made, the tensors it was made from, their versions and where their
    numbers lie. Copies and pickles of it are empty.

    What torch counts no version for is not seen: numbers written through ``tensor.data`` or a numpy
    view in place, and ``tensor.data = other`` where ``other`` came to lie at the old address."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Tensor, ...], Hashable, Made] | None = None

    def of(
        self, tensors: Sequence[Tensor], make: Callable[[], Made], more: Hashable = None
    ) -> Made:
        """What ``make`` makes of these tensors and of what else the value depends on (``more``). It
        is asked only where the tensors are others than the last time, or were written to."""
        if any(each.is_inference() for each in tensors):  # such count no versions
            return make()
        versions = (*(_version(each) for each in tensors), more)
        if self._last is not None:
            before, then, value = self._last
            same = then == versions
            if same and all(old is new for old, new in zip(before, tensors, strict=True)):
                return value
        made = make()
        self._last = (tuple(tensors), versions, made)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (TensorMemo, ())


def _version(tensor: Tensor) -> Hashable:
    """What changes with the numbers of a tensor: by writing, or by ``tensor.data = other``."""
    place = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
    return tensor._version, place

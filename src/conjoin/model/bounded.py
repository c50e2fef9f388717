"""A limit on what is built from a file: a config may ask for more than any memory holds, where the
weights beside it say how large the model really is."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["bounded"]

# a model is built from so many bytes at least, and from so many bytes for each of its weights
# at most, tables that are no weights included
MIN_BYTES = 1 << 26
MAX_BYTES_PER_BYTE = 32
BYTES_PER_NUMBER = 8  # of a double
COUNTED = ("arange", "linspace", "logspace", "randperm")  # whose numbers say how long they are
SQUARE = ("eye",)
# what takes sizes and makes nothing new
VIEWS = ("view", "_unsafe_view", "expand", "reshape", "as_strided", "_reshape_alias")


@contextlib.contextmanager
def bounded(weight_bytes: int) -> Iterator[None]:
    """Tensors that are made inside take a bounded number of bytes in all.

    Parameters
    ----------
    weight_bytes
        Of the weights that what is built is to hold in the end.

    Raises
    ------
    ValueError
        Before more is taken.
    """
    with _Counting(MIN_BYTES + MAX_BYTES_PER_BYTE * weight_bytes):
        yield


class _Counting(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation makes; refuses what would be too many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.taken = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and else torch imports its compiler, which takes as long
        as all of the rest."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._refuse(_asked(func.overloadpacket.__name__, args) * BYTES_PER_NUMBER)
        made = func(*args, **(kwargs or {}))
        held = {_storage(value) for value in args if isinstance(value, Tensor)}
        self.taken += _bytes_of(made, held)
        self._refuse(0)
        return made

    def _refuse(self, more: int) -> None:
        if self.taken + more > self.most:
            raise ValueError(
                "it asks for a model that is far larger than the weights beside it, "
                f"{self.most:,} bytes and more"
            )


def _asked(name: str, args: Sequence[Any]) -> int:
    """How many numbers an operation is asked to make, as far as its sizes say."""
    whole = [
        abs(int(value)) for value in args if isinstance(value, int | float) and _is_size(value)
    ]
    if name in COUNTED:
        return max(whole, default=0)
    if name in SQUARE:
        return math.prod([*whole, *whole][:2])
    lists = [value for value in args if isinstance(value, list | tuple) and _are_sizes(value)]
    sizes = max((math.prod(map(abs, value)) for value in lists), default=0)
    if name == "repeat":
        return sizes * sum(value.numel() for value in args if isinstance(value, Tensor))
    return 0 if name in VIEWS else sizes


def _is_size(value: float) -> bool:
    return not isinstance(value, bool) and math.isfinite(value)


def _are_sizes(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, int) for value in values)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes_of(made: Any, held: set[int]) -> int:
    """Bytes of what was made; nothing of views of what an operation was given."""
    if isinstance(made, Tensor):
        return 0 if _storage(made) in held else made.untyped_storage().nbytes()
    return sum(_bytes_of(each, held) for each in made) if isinstance(made, tuple | list) else 0

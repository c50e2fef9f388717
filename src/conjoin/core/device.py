"""Where a density computes: the device of its parameters, entered by its public twins.

Rows come from the CPU and answers go back to where the rows came from. Inside a twin new tensors
are made on the device, and whatever a CPU generator draws is drawn on the CPU and moved: noise is a
function of (seed, name, step) on every device. On the CPU nothing is entered, so that not a bit
changes there.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import register_pytree_node, tree_leaves, tree_map_only

from conjoin.core.event import Record

__all__ = ["DEVICES", "choose_device", "device_of", "entered", "moved", "on_device"]

DEVICES = ("auto", "cpu", "cuda")  # "cuda:1" is the second of several
CPU = torch.device("cpu")
Twin = TypeVar("Twin", bound=Callable[..., Any])


def choose_device(name: str = "auto") -> torch.device:
    """The device that ``name`` stands for.

    "auto" is the first graphics processor that CUDA knows, else the CPU. Raises ValueError, which
    names the choices, for another name and for a device that this machine does not have.
    """
    kind, _, number = str(name).partition(":")
    if kind == "mps":
        raise ValueError(
            "device='mps': log p is computed in 64-bit numbers, which Apple's processors for "
            "graphics do not have; take 'cpu'."
        )
    if kind not in DEVICES or (number and not number.isdigit()) or (number and kind == "auto"):
        raise ValueError(
            f"device must be one of {', '.join(DEVICES)}, or such as cuda:1, got {name!r}."
        )
    if kind == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else CPU
    count = _count(kind)
    if int(number or 0) >= count:
        there = "no such device" if count == 0 else f"only {', '.join(_names(kind, count))}"
        raise ValueError(f"device={name!r}: this machine has {there}; take 'auto' or 'cpu'.")
    return torch.device(kind if not number or kind == "cpu" else f"{kind}:{number}")


def _count(kind: str) -> int:
    """How many devices of a kind there are."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return 1


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}:{number}" for number in range(count)]


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters and buffers of ``module`` are; the CPU where it has none."""
    tensors: Iterator[Tensor] = itertools.chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), CPU)


def moved(value: Any, device: torch.device) -> Any:
    """``value`` with every tensor in it on ``device``: tensors, events, records, and tuples, lists
    and dictionaries of them."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), value)


register_pytree_node(
    Record,
    lambda record: (list(record.values()), list(record)),
    lambda events, names: Record(dict(zip(names, events, strict=True))),
)


@contextlib.contextmanager
def entered(device: torch.device) -> Iterator[None]:
    """New tensors are made on ``device``, and noise is drawn on the CPU and moved there."""
    if device.type == "cpu":
        yield
        return
    with torch.device(device), _NoiseOfTheCPU():
        yield


def on_device(twin: Twin) -> Twin:
    """A method of a density that runs where its parameters are, and answers where its arguments
    came from."""

    @functools.wraps(twin)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device = device_of(self)
        if device.type == "cpu":
            return twin(self, *args, **kwargs)
        home = next(
            (leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)),
            torch.get_default_device(),
        )
        given = tree_map_only(
            FunctionType, lambda call: _called_at(call, home, device), (args, kwargs)
        )
        args, kwargs = moved(given, device)
        with entered(device):
            answer = twin(self, *args, **kwargs)
        return moved(answer, home)

    return run  # type: ignore[return-value]


def _called_at(
    call: Callable[..., Any], home: torch.device, device: torch.device
) -> Callable[..., Any]:
    """A caller's function of tensors, asked on the caller's device and answered on ``device``."""

    def ask(*args: Any) -> Any:
        with torch.device(home):
            return moved(call(*moved(args, home)), device)

    return ask


class _NoiseOfTheCPU(TorchFunctionMode):
    """What a CPU generator draws, and which cells dropout takes, is drawn on the CPU and moved."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if func is nn.functional.dropout:
            return _dropout(*args, **kwargs)
        if generator is None:  # nearly always: no more than this may be asked of each operation
            return func(*args, **kwargs)
        here = torch.get_default_device()
        if generator.device.type == here.type:
            return func(*args, **kwargs)
        args = moved(args, generator.device)
        made = any(isinstance(each, Tensor) for each in args)
        more = {} if made else {"device": generator.device}
        return func(*args, **{**kwargs, **more}).to(kwargs.get("device") or here)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As torch's, with the cells that the CPU's global generator takes."""
    if not training or p == 0.0:
        return input
    kept = nn.functional.dropout(torch.ones_like(input, device=CPU), p)
    return input * kept.to(input.device)

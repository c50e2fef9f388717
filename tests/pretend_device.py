"""A device that this machine does not have, played by the CPU: its tensors refuse to meet those of
the CPU, as those of a graphics processor do, and can't be read as an array of numpy's.

Numbers are the CPU's own, so that an answer there must be the answer here, to the bit. What it
can't tell: the speed, and rounding, of a real device.
"""

import contextlib

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["PRETENDED", "pretended"]

PRETENDED = torch.device("meta")  # the one device but the CPU that asks no driver
CPU = torch.device("cpu")
aten = torch.ops.aten
# what takes a tensor of the CPU on a real device too: a copy, and indices
COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}


class Elsewhere(Tensor):
    """A tensor on the pretended device; ``raw`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_meta = False  # it has numbers

    @staticmethod
    def __new__(cls, raw):
        outer = torch.empty_strided(raw.shape, raw.stride(), dtype=raw.dtype, device="meta")
        meta = torch.device("meta")
        out = Tensor._make_subclass(
            cls, outer, False, dispatch_device=True, device_for_backend_keys=meta
        )
        out.raw = raw
        return out

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        Tensor.data.__set__(self, value)
        self.raw = value.raw

    # lists of indices, which torch's C++ would turn into tensors without numbers on "meta"
    def __getitem__(self, index):
        return super().__getitem__(_with_numbers(index))

    def __setitem__(self, index, value):
        super().__setitem__(_with_numbers(index), value)

    # what torch's C++ reads by way of a driver
    def tolist(self):
        return self.raw.tolist()

    def item(self):
        return self.raw.item()

    def __float__(self):
        return float(self.raw)

    def __int__(self):
        return int(self.raw)

    def __index__(self):
        return int(self.raw)

    def __bool__(self):
        return bool(self.raw)

    def __repr__(self):
        return f"Elsewhere({self.raw!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Pretended(TorchDispatchMode):
    """Makes new tensors there that are asked for there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = kwargs.get("device")
        if (there is not None and there.type == PRETENDED.type) or any(
            isinstance(leaf, Elsewhere) for leaf in tree_leaves((args, kwargs))
        ):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


class _FromNumbers(TorchFunctionMode):
    """torch.tensor and its like, which make a tensor without numbers on "meta", make one with
    them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or there is None:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "device": CPU}).to(there)


def _run(func, args, kwargs):
    if func is torch.ops.prim.device.default:
        return PRETENDED
    leaves = tree_leaves((args, kwargs))
    theirs = [leaf for leaf in leaves if isinstance(leaf, Elsewhere)]
    ours = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Elsewhere)]
    assert all(leaf.device == CPU for leaf in ours), f"{func}: a tensor without numbers"
    if theirs and func not in COPIES | INDEXING and any(leaf.dim() for leaf in ours):
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, but found at least two "
            f"devices, {PRETENDED} and cpu"
        )
    if func is aten.copy_.default and not isinstance(args[0], Elsewhere):
        return func(args[0], args[1].raw, *args[2:])
    asked = kwargs.get("device")
    plain = {key: CPU if key == "device" and value else value for key, value in kwargs.items()}
    plain.pop("pin_memory", None)
    out = func(*tree_map(_raw, args), **tree_map(_raw, plain))
    if any(leaf.shape != leaf.raw.shape for leaf in theirs):
        with torch._C._DisableTorchDispatch():  # such as squeeze_, which changes the outer one too
            func(*args, **kwargs)
    if asked is not None and asked.type == "cpu":
        return out
    known = {id(leaf.raw): leaf for leaf in theirs}
    return tree_map(
        lambda part: known.get(id(part), Elsewhere(part)) if isinstance(part, Tensor) else part, out
    )


def _with_numbers(index):
    if isinstance(index, tuple):
        return tuple(_with_numbers(each) for each in index)
    return torch.tensor(index, device=CPU) if isinstance(index, list) else index


def _raw(part):
    return part.raw if isinstance(part, Elsewhere) else part


@contextlib.contextmanager
def pretended():
    """Inside of it the device is there."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _FromNumbers(), _Pretended():
            yield PRETENDED
    finally:
        torch._C._set_only_lift_cpu_tensors(before)

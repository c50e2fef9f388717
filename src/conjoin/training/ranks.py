r"""Several processes, one fit: each learns from its share of a batch's rows, and what they found is
added up.

    s = sum over r of s_r
        sufficient statistics of rank r's rows; every rank maximises from the same sum
    g = sum over r of (w_r / w) g_r
        gradients, by the weight of each rank's rows

    theta = (theta_1, ..., theta_R)
        of some layers each rank holds a part of the weights, gradients and moments alone (fully
        sharded data parallelism, S. Rajbhandari et al. (2020), ZeRO, stage 3); a layer is put
        together while it is used

So the model is that of one process up to the order in which numbers are added. ``torchrun
--nproc-per-node=2 -m conjoin fit ...`` starts the processes; outside of it there is one rank, and
this module has no effect. Sums go through gloo, in the tensors' own precision. Rank 0
decides everything that depends on a clock, so that all ranks stop at the same step.
"""

import contextlib
import copy
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from conjoin.core import Density, Event, Pair, Record
from conjoin.core.device import device_of
from conjoin.core.rounds import agreed

__all__ = [
    "add_gradients",
    "clip",
    "first",
    "is_part",
    "rank",
    "sharded",
    "sharding",
    "share",
    "together",
    "total",
    "wait",
    "world",
]

CLIP_SLACK = 1e-6  # as of torch.nn.utils.clip_grad_norm_
_SHARDING: ContextVar[bool] = ContextVar("sharding", default=False)


@contextlib.contextmanager
def together(shard: bool = False) -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, if it did. ``shard``: fits inside share
    out the layers of networks that can be (``Density.shardable``); ValueError where there is one
    process."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or _joined()
    if shard and world() == 1 and alone:
        raise ValueError(
            "Layers are shared out over several processes, and there is one: start them with "
            "torchrun."
        )
    token = _SHARDING.set(shard)
    try:
        if alone:
            yield
            return
        dist.init_process_group("gloo")
        try:
            yield
            dist.barrier()  # nobody leaves while another still talks
        finally:
            dist.destroy_process_group()
    finally:
        _SHARDING.reset(token)


def sharding() -> bool:
    """Whether layers are shared out over several processes."""
    return _SHARDING.get() and world() > 1


@contextlib.contextmanager
def sharded(density: Density) -> Iterator[Density]:
    """What is to be trained in place of ``density``: the same, or a copy of which each rank holds a
    part of the layers. At the end ``density`` has the copy's weights, whole, on every rank."""
    if not sharding():
        yield density
        return
    # most of a second, which no other fit shall wait for
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = copy.deepcopy(density)
    layers = layers_of(model)
    if not layers:
        raise ValueError(
            f"{type(density).__name__} has no layers that can be shared out: fit it without that, "
            "or fit strings with family='sequence' and no reading."
        )
    if device_of(model).type != "cpu":
        raise NotImplementedError("Layers are shared out among processors alone: say device='cpu'.")
    mesh = init_device_mesh("cpu", (world(),))
    for layer in layers:
        part: Any = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        # sums, as gloo knows no means: each rank weighs its rows itself
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    with agreed(_most):
        yield model
    density.load_state_dict({name: _whole(value) for name, value in model.state_dict().items()})


def layers_of(density: Density) -> list[nn.Module]:
    """Of all densities that it is made of."""
    parts = [part for part in density.modules() if isinstance(part, Density)]
    return list(dict.fromkeys(layer for part in parts for layer in part.shardable))


def is_part(tensor: Tensor) -> bool:
    """Whether a rank holds only a part of a tensor."""
    if not sharding():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _whole(tensor: Any) -> Tensor:
    found: Tensor = tensor.full_tensor() if is_part(tensor) else tensor
    return found


def _most(count: int) -> int:
    """The largest of what the ranks say."""
    said = torch.tensor(count)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return int(said)


def clip(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale the gradients to a norm of at most ``most``; the norm that they had, the same on all
    ranks."""
    parameters = list(parameters)
    gradients: list[Any] = [each.grad for each in parameters if each.grad is not None]
    parts = [each.to_local() for each in gradients if is_part(each)]
    if not parts:
        return nn.utils.clip_grad_norm_(parameters, most)
    own = torch.stack([each.square().sum().double() for each in parts])
    square = total({"square": own.sum()})["square"]
    for each in gradients:
        if not is_part(each):
            square = square + each.square().sum().double()
    norm = square.sqrt()
    for each in gradients:
        each.mul_(min(1.0, float(most / (norm + CLIP_SLACK))))
    return norm


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process; rank 0 speaks and writes."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def share(rows: Event | Pair | Record, weight: Tensor) -> tuple[Event | Pair | Record, Tensor]:
    """This rank's rows and weights; where there are fewer rows than ranks, every rank has all at a
    part of their weight."""
    if world() == 1:
        return rows, weight
    if rows.rows < world():
        return rows, weight / world()
    index = torch.arange(rank(), rows.rows, world())
    return rows.take(index), weight[index]


def total(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum over ranks of each tensor, the same bits on all."""
    for name in sorted(parts) if _joined() else ():
        parts[name] = parts[name].contiguous()
        dist.all_reduce(parts[name])
    return parts


def add_gradients(parameters: Iterable[Tensor]) -> None:
    """Each parameter's gradient becomes the sum over ranks; none counts as zero. Of layers that are
    shared out, it is that already."""
    for parameter in parameters if _joined() else ():
        if is_part(parameter):
            continue
        parameter.grad = (
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
        )
        dist.all_reduce(parameter.grad)


def first(number: float) -> float:
    """What rank 0 says."""
    if not _joined():
        return number
    said = torch.tensor(number, dtype=torch.float64)
    dist.broadcast(said, 0)
    return float(said)


def wait() -> None:
    """Until every rank has come this far."""
    if _joined():
        dist.barrier()

r"""Several processes, one fit: each learns from its share of a batch's rows, and what they found is
added up.

    s = sum over r of s_r
        sufficient statistics of rank r's rows; every rank maximises from the same sum
    g = sum over r of (w_r / w) g_r
        gradients, by the weight of each rank's rows

So the model is that of one process up to the order in which numbers are added. ``torchrun
--nproc-per-node=2 -m conjoin fit ...`` starts the processes; outside of it there is one rank, and
this module has no effect. Sums go through gloo, in the tensors' own precision. Rank 0
decides everything that depends on a clock, so that all ranks stop at the same step.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from conjoin.core import Event, Pair, Record

__all__ = ["add_gradients", "first", "rank", "share", "together", "total", "wait", "world"]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _joined():
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
        dist.barrier()  # nobody leaves while another still talks
    finally:
        dist.destroy_process_group()


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
    """Each parameter's gradient becomes the sum over ranks; none counts as zero."""
    for parameter in parameters if _joined() else ():
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

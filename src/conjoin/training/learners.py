r"""How a density is moved by its data: expectation-maximisation where it has sufficient statistics,
gradients elsewhere.

Both take one step per mini-batch and know nothing of the loop around them. Mini-batch EM keeps a
running mean of the statistics, s <- (1 - rho) s + rho s_batch (O. Cappe and E. Moulines (2009),
On-line expectation-maximization, equation 12); with one batch it is plain EM. A large rho moves
far with each step, a small one averages over more rows, those that are rare among them. So rho is
the batch's share of all rows to the power ``RATE_POWER`` for the first fifth of the planned steps,
and falls in a straight line to nothing over the others. Where statistics of all rows are there to
begin with, it falls from the share itself over all steps.
"""

import abc
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Pair, Recipe, Record
from conjoin.core.device import device_of, moved
from conjoin.core.learning import learning_at
from conjoin.nets.body import Body
from conjoin.nets.decoder import Hidden, HiddenConvolution
from conjoin.nets.muon import Muon
from conjoin.training import ranks

__all__ = [
    "FALLING_SHARE",
    "Batch",
    "ExpectationMaximisation",
    "Gibbs",
    "Gradient",
    "Learner",
    "Pass",
    "Piece",
    "learner_for",
]


MIN_STEP_SIZE = 0.01  # rho of the last steps
RATE_POWER = 0.3  # of a batch's share of the rows: rho of the first steps
FALLING_SHARE = 0.8  # of the steps, over which rho falls
WARM_UP = 0.05  # share of the fit in which the rate rises


Piece = tuple[Event | Pair | Record, Tensor]  # rows and their weights


@dataclass(frozen=True)
class Batch:
    """Rows of one step, their weights, and the weight of the whole data set."""

    rows: Event | Pair | Record
    weight: Tensor
    total: float

    @property
    def mass(self) -> float:
        return float(self.weight.sum())

    def pieces(self) -> Iterator[Piece]:
        """The rows that this rank learns from."""
        yield ranks.share(self.rows, self.weight)


@dataclass(frozen=True)
class Pass:
    """All rows as one step, read piece by piece since they need not fit into memory. ``read`` gives
    this rank's pieces."""

    read: Callable[[], Iterator[Piece]]
    total: float

    @property
    def mass(self) -> float:
        return self.total

    def pieces(self) -> Iterator[Piece]:
        """The rows that this rank learns from."""
        return self.read()


class Learner(abc.ABC):
    """One step of learning. ``state`` and ``restore`` serve checkpoints: a resumed learner goes on
    bit for bit."""

    @abc.abstractmethod
    def step(self, batch: Batch | Pass, generator: torch.Generator, progress: float = 0.0) -> float:
        """Move the parameters; return the mean objective of the batch (nats per row) before the
        move. ``progress``: how much of the fit is done, from 0 to 1."""

    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]: ...

    @abc.abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None: ...

    def begin(self) -> None:
        """Before the first step."""
        return

    def end(self) -> None:
        """After the last step."""
        return

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The density as it would be kept if the fit ended here: what is judged on validation rows,
        and saved."""
        yield

    in_stages = False  # whether some parts begin to learn after others

    def stage(self, progress: float) -> int:
        """How many times such parts have begun."""
        return 0

    def shrink(self) -> bool:
        """Take smaller steps from now on; whether that can be done at all."""
        return False


class ExpectationMaximisation(Learner):
    """For densities that declare ``statistics``."""

    def __init__(self, density: Density) -> None:
        self.density = density
        self.running: dict[str, Tensor] = {}
        self.begun = bool(density.begun)

    def begin(self) -> None:
        """From the statistics that the density was built with, where it has them."""
        self.running = self.density.begun
        self.density.begun = {}

    def step(self, batch: Batch | Pass, generator: torch.Generator, progress: float = 0.0) -> float:
        fresh = ranks.total(self._statistics(batch))
        mass = batch.mass
        objective = -float(fresh.pop("log_prob")) / mass
        if not all(bool(torch.isfinite(value).all()) for value in fresh.values()):
            return float("nan")  # the loop goes back to the last good weights
        whole = mass >= batch.total * (1 - 1e-9)
        rate = 1.0 if whole or not self.running else self._rate(mass / batch.total, progress)
        running = {}
        for key in list(fresh):  # one after the other: those of pictures are large
            value = fresh.pop(key) * (batch.total / mass)
            running[key] = torch.lerp(self.running.get(key, value), value, rate)
        self.running = running
        self.density.maximise(self.running)
        return objective

    def _rate(self, share: float, progress: float) -> float:
        """rho of a batch that has this share of all rows."""
        if self.begun:
            return max(share * (1 - progress), MIN_STEP_SIZE)
        left = min(1.0, (1 - progress) / FALLING_SHARE)
        return float(max(share**RATE_POWER * left, MIN_STEP_SIZE))

    def _statistics(self, batch: Batch | Pass) -> dict[str, Tensor]:
        """Of this rank's rows: those of its pieces add up."""
        out: dict[str, Tensor] = {}
        for rows, weight in batch.pieces():
            fresh = self.density.statistics(rows, weight=weight)
            out = {key: out[key] + value for key, value in fresh.items()} if out else fresh
        return out

    def state(self) -> dict[str, Tensor]:
        return {f"running.{key}": value for key, value in self.running.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.running = {
            key.removeprefix("running."): value
            for key, value in state.items()
            if key.startswith("running.")
        }


class Gradient(Learner):
    """AdamW (I. Loshchilov and F. Hutter (2019), Decoupled weight decay regularization, algorithm
    2) on the density's loss.

    The rate warms up and falls along a cosine (I. Loshchilov and F. Hutter (2017), SGDR, equation
    5), or where the recipe says so in a straight line; the running mean of the weights is what is
    judged and kept (B. Polyak and A. Juditsky (1992), Acceleration of stochastic approximation by
    averaging). Matrices between hidden units (``Hidden``, ``HiddenConvolution``) are moved by
    ``Muon`` where the recipe has a rate for them. Parts may learn at another pace than the rest
    (``Density.paces``), and in a part of the fit alone (``Density.stages``)."""

    def __init__(self, density: Density, recipe: Recipe | None = None, clip: float = 5.0) -> None:
        self.density = density
        self.clip = clip
        self.recipe = recipe or Recipe()
        self.staged = self.recipe.steps is not None
        self.parameters = [
            parameter for parameter in density.parameters() if parameter.requires_grad
        ]
        self.factor = 1.0
        self.steps = 0
        self.mean: list[Tensor] = []
        paces = _paces(density)
        self.paces = [paces.get(id(each), Pace()) for each in self.parameters]
        self.in_stages = self.staged and any(pace.start > 0 for pace in self.paces)
        hidden = self._hidden()
        self.muon = Muon(hidden, self.recipe.decay)
        self.hidden_paces = [paces.get(id(each), Pace()) for each in hidden]
        moved_by_muon = {id(matrix) for matrix in hidden}
        others = [
            each
            for each in zip(self.parameters, self.paces, strict=True)
            if id(each[0]) not in moved_by_muon
        ]
        groups: list[dict[str, Any]] = []
        for pace in sorted({pace for _, pace in others}, reverse=True):
            some = [parameter for parameter, own in others if own == pace]
            matrices = [p for p in some if p.ndim > 1]
            vectors = [p for p in some if p.ndim <= 1]
            groups += [
                {"params": matrices, "weight_decay": self.recipe.decay, "pace": pace},
                {"params": vectors, "weight_decay": 0.0, "pace": pace},
            ]
        groups += _apart(groups)
        self.optimizer = torch.optim.AdamW(groups, lr=self.recipe.rate, betas=(0.9, 0.99))

    def _hidden(self) -> list[Tensor]:
        """The matrices and kernels that Muon moves."""
        if self.recipe.matrix_rate is None:
            return []
        hidden = (Hidden, HiddenConvolution)
        layers = [module for module in self.density.modules() if isinstance(module, hidden)]
        return [layer.weight for layer in layers if layer.weight.requires_grad]

    def begin(self) -> None:
        """Bodies go to float32: the parameters stay the same objects, so the optimiser keeps
        them."""
        for module in self.density.modules():
            if isinstance(module, Body):
                module.float()
        self.mean = [parameter.detach().clone() for parameter in self.parameters]

    def end(self) -> None:
        for module in self.density.modules():
            if isinstance(module, Body):
                module.double()

    def step(self, batch: Batch | Pass, generator: torch.Generator, progress: float = 0.0) -> float:
        self.density.train()
        for parameter in self.parameters:
            parameter.grad = None
        with learning_at(progress if self.staged else None):
            loss = self._backward(batch, generator)
        self.density.eval()
        for parameter, pace in zip(self.parameters, self.paces, strict=True):
            if not self._learns(pace, progress):  # of several processes it is zero, which counts
                parameter.grad = None
        norm = ranks.clip(self.parameters, self.clip)
        if not torch.isfinite(norm) or not torch.isfinite(loss):
            return float("nan")
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * self._share(group["pace"], progress)
        self.optimizer.step()
        rate = self.recipe.matrix_rate or 0.0
        self.muon.step([rate * self._share(pace, progress) for pace in self.hidden_paces])
        self.steps += 1
        memory = min(self.recipe.memory, self.steps / (self.steps + 9))
        with torch.no_grad():
            # none before ``begin``
            for kept, now, pace in zip(self.mean, self.parameters, self.paces, strict=False):
                kept.lerp_(now, 1 - memory if self._learns(pace, progress) else 1.0)
        return float(loss)

    def _share(self, pace: "Pace", progress: float) -> float:
        """By what the rates of the recipe are multiplied."""
        if not self._learns(pace, progress):
            return 0.0
        own = (progress - pace.start) / (pace.stop - pace.start)
        return self.factor * pace.rate * self._schedule(own)

    def _learns(self, pace: "Pace", progress: float) -> bool:
        """In a fit whose end is not known all learn at once."""
        return pace.learns_at(progress) or not self.staged

    def stage(self, progress: float) -> int:
        if not self.in_stages:
            return 0
        return len({pace.start for pace in self.paces if 0 < pace.start <= progress})

    def _backward(self, batch: Batch | Pass, generator: torch.Generator) -> Tensor:
        """The mean loss of the batch; its gradient is left in the parameters, on every rank."""
        loss = torch.zeros((), dtype=torch.float64)
        mass = batch.mass
        for rows, weight in batch.pieces():
            part = self.density(rows, weight=weight, generator=generator) * (
                float(weight.sum()) / mass
            )
            part.backward()
            loss = loss + part.detach()
        ranks.add_gradients(self.parameters)
        return ranks.total({"loss": loss})["loss"]

    def _schedule(self, progress: float) -> float:
        if self.recipe.steps is None:
            return 1.0
        warm = min(1.0, progress / WARM_UP) if progress < WARM_UP else 1.0
        done = min(progress, 1.0)
        left = 1 - done if self.recipe.linear else 0.5 * (1 + math.cos(math.pi * done))
        return max(warm, 0.02) * left

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The running mean of the weights in their place."""
        if not self.mean:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for index, parameter in enumerate(self.parameters):
            now = parameter.detach().clone()
            parameter.copy_(self.mean[index])
            self.mean[index] = now

    def shrink(self) -> bool:
        self.factor *= 0.3
        return True

    def state(self) -> dict[str, Tensor]:
        slots: dict[Any, Any] = self.optimizer.state_dict()["state"]
        out = {
            f"{index}.{key}": value.clone()
            for index, slot in slots.items()
            for key, value in slot.items()
        }
        out |= {f"mean.{index}": value.clone() for index, value in enumerate(self.mean)}
        momentum = enumerate(self.muon.momentum)
        out |= {f"momentum.{index}": value.clone() for index, value in momentum}
        return out | {
            "factor": torch.tensor(self.factor, dtype=torch.float64),
            "count": torch.tensor(self.steps),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            index, _, key = name.partition(".")
            if index.isdigit():
                slots.setdefault(int(index), {})[key] = value.clone()
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        self.mean = [
            state[f"mean.{index}"].to(parameter.device, copy=True)
            for index, parameter in enumerate(self.parameters)
            if f"mean.{index}" in state
        ]
        self.muon.momentum = [
            state[f"momentum.{index}"].to(matrix.device, copy=True)
            for index, matrix in enumerate(self.muon.matrices)
        ]
        self.factor = float(state["factor"])
        self.steps = int(state["count"])


@dataclass(frozen=True, order=True)
class Pace:
    """By what the rates of a parameter are multiplied, and in which part of the fit it learns."""

    rate: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    def learns_at(self, progress: float) -> bool:
        """The last part learns to the end, which a fit may overrun."""
        return self.start <= progress and (progress < self.stop or self.stop == 1.0)


def _paces(density: Density) -> dict[int, Pace]:
    """Of parameters whose pace is another, by their identity."""
    out: dict[int, Pace] = {}
    for module in density.modules():
        if not isinstance(module, Density):
            continue
        for name, rate in module.paces.items():
            for each in module.get_submodule(name).parameters():
                out[id(each)] = replace(out.get(id(each), Pace()), rate=rate)
        for name, (start, stop) in module.stages.items():
            for each in module.get_submodule(name).parameters():
                out[id(each)] = replace(out.get(id(each), Pace()), start=start, stop=stop)
    return out


def _apart(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of those parameters of which this rank holds a part, taken out of ``groups``."""
    parts = []
    for group in groups:
        held = [each for each in group["params"] if ranks.is_part(each)]
        group["params"] = [each for each in group["params"] if not ranks.is_part(each)]
        parts += [{**group, "params": held}] if held else []
    return parts


class Gibbs(Learner):
    """For densities that declare ``sweeps``: a step is one pass over all rows (S. Geman and D.
    Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of
    images, section 11)."""

    def __init__(self, density: Density) -> None:
        self.density = density

    def step(self, batch: Batch | Pass, generator: torch.Generator, progress: float = 0.0) -> float:
        assert isinstance(batch, Batch)
        return float(self.density.sweep(batch.rows, weight=batch.weight, generator=generator))

    def state(self) -> dict[str, Tensor]:
        return self.density._sweep_state()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.density._restore_sweep(moved(state, device_of(self.density)))


def learner_for(density: Density, recipe: Recipe | None = None) -> Learner:
    """Gibbs sweeps or EM where the density declares them, gradients elsewhere."""
    if density.capabilities.sweeps:
        return Gibbs(density)
    return (
        ExpectationMaximisation(density)
        if density.capabilities.statistics
        else Gradient(density, recipe)
    )

r"""How a density is moved by its data: expectation-maximisation where it has sufficient statistics, gradients elsewhere.

Both take one step per mini-batch and know nothing of the loop around them. Mini-batch EM keeps a running mean of the
statistics, s <- (1 - rho) s + rho s_batch with rho_t = (t + 2)^(-kappa) (O. Cappe and E. Moulines (2009), On-line
expectation-maximization, equation 12); with one batch per epoch it is plain EM.
"""

import abc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjoin.core import Density, Event, Pair

__all__ = ["ExpectationMaximisation", "Gradient", "Learner", "learner_for"]


@dataclass(frozen=True)
class Batch:
    """Rows of one step, their weights, and the weight of the whole data set."""

    rows: Event | Pair
    weight: Tensor
    total: float


class Learner(abc.ABC):
    """One step of learning. ``state`` and ``restore`` serve checkpoints: a resumed learner goes on bit for bit."""

    @abc.abstractmethod
    def step(self, batch: Batch, generator: torch.Generator) -> float:
        """Move the parameters; return the mean objective of the batch (nats per row) before the move."""

    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]: ...

    @abc.abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None: ...


class ExpectationMaximisation(Learner):
    """For densities that declare ``statistics``."""

    def __init__(self, density: Density, decay: float = 0.6) -> None:
        self.density, self.decay = density, decay
        self.running: dict[str, Tensor] = {}
        self.steps = 0

    def step(self, batch: Batch, generator: torch.Generator) -> float:
        fresh = self.density.statistics(batch.rows, weight=batch.weight)
        mass = float(batch.weight.sum())
        objective = -float(fresh.pop("log_prob")) / mass
        if not all(bool(torch.isfinite(value).all()) for value in fresh.values()):
            return float("nan")  # the loop goes back to the last good weights
        whole = mass >= batch.total * (1 - 1e-9)
        rate = 1.0 if whole or not self.running else (self.steps + 2) ** -self.decay
        scaled = {key: value * (batch.total / mass) for key, value in fresh.items()}
        self.running = {key: torch.lerp(self.running.get(key, value), value, rate) for key, value in scaled.items()}
        self.density.maximise(self.running)
        self.steps += 1
        return objective

    def state(self) -> dict[str, Tensor]:
        return {f"running.{key}": value for key, value in self.running.items()} | {"steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.steps = int(state["steps"])
        self.running = {key.removeprefix("running."): value for key, value in state.items() if key.startswith("running.")}


class Gradient(Learner):
    """Adam (D. Kingma and J. Ba (2015), Adam: a method for stochastic optimization, algorithm 1) on the density's loss."""

    def __init__(self, density: Density, rate: float = 1e-2, clip: float = 10.0) -> None:
        self.density, self.clip = density, clip
        self.optimizer = torch.optim.Adam(density.parameters(), lr=rate)

    def step(self, batch: Batch, generator: torch.Generator) -> float:
        self.optimizer.zero_grad()
        loss = self.density(batch.rows, weight=batch.weight, generator=generator)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.density.parameters(), self.clip)
        if not torch.isfinite(norm):
            return float("nan")
        self.optimizer.step()
        return float(loss.detach())

    def state(self) -> dict[str, Tensor]:
        slots: dict[Any, Any] = self.optimizer.state_dict()["state"]
        return {f"{index}.{key}": value for index, slot in slots.items() for key, value in slot.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            index, _, key = name.partition(".")
            slots.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})


def learner_for(density: Density) -> Learner:
    """EM where the density has sufficient statistics, gradients elsewhere."""
    return ExpectationMaximisation(density) if density.capabilities.statistics else Gradient(density)
